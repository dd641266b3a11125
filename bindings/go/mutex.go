package tine

/*
#include "glue.h"
*/
import "C"

import (
	"context"
	"errors"
	"sync"
	"unsafe"
)

// A Mutex lets one goroutine at a time through, of all processes of a pool. It is shaped as sync.Mutex is, and is a
// sync.Locker: any goroutine may unlock it.
//
// It is its process that holds it (TINE_PROCESS_OWNED), not a thread, so it does not matter where a goroutine runs, and a
// goroutine that ends without unlocking leaves it locked, as with sync.Mutex. When the process dies, the next to take the
// mutex is told; OnOwnerDeath, set before first use, can see to that. Of the goroutines of a process that wait, one does so
// with a thread.
type Mutex struct {
	object
	turn *turn

	// OnOwnerDeath makes the data whole that a process may have left torn which died with the mutex locked. It is called
	// with the mutex held; if it returns nil, the mutex is as new, otherwise it is of no use to anybody any more. Without
	// it Acquire returns ErrOwnerDied.
	OnOwnerDeath func() error
}

// MutexMemory is a mutex inside of a struct of one's own in the pool's heap. All zero is a free one, which belongs to
// threads, as C has it; one that Go uses is made by InitMutex.
type MutexMemory struct{ opaque [8]uint64 }

// NewMutex makes a mutex in the pool's heap.
func NewMutex(pool *Pool) (*Mutex, error) {
	o, err := newObject(pool, "mutex", C.sizeof_tine_mutex, initMutex)
	return &Mutex{object: o, turn: newTurn()}, err
}

func initMutex(p unsafe.Pointer) C.int {
	return C.tine_mutex_init((*C.tine_mutex)(p), C.TINE_PROCESS_OWNED)
}

// InitMutex makes a mutex of memory in the pool's heap, which nobody uses yet.
func InitMutex(pool *Pool, memory *MutexMemory) (*Mutex, error) {
	m, err := OpenMutex(pool, AddressOf(memory))
	if err == nil {
		err = m.call(initMutex)
	}
	return m, err
}

// OpenMutex is the mutex at an address that another process has given. In C it is made with TINE_PROCESS_OWNED.
func OpenMutex(pool *Pool, address Address) (*Mutex, error) {
	o, err := openObject(pool, "mutex", address, C.sizeof_tine_mutex)
	return &Mutex{object: o, turn: newTurn()}, err
}

// Acquire locks the mutex, waiting until ctx is done. With ErrOwnerDied the mutex is held: make the data whole and call
// Repair before Release, which otherwise makes the mutex useless, ErrNotRecoverable.
func (m *Mutex) Acquire(ctx context.Context) error {
	code, err := m.pool.wait(ctx, m.what, m.turn, func(timeout C.int64_t) C.int { return m.lock(timeout) })
	return m.acquired(code, err)
}

// TryAcquire locks the mutex if it is free, and is ErrWouldBlock if it isn't; otherwise it is as Acquire.
func (m *Mutex) TryAcquire() error {
	var code C.int
	err := m.call(func(unsafe.Pointer) C.int { code = m.lock(0); return 0 })
	return m.acquired(code, err)
}

func (m *Mutex) lock(timeout C.int64_t) C.int {
	return C.tine_mutex_lock((*C.tine_mutex)(m.address.pointer()), timeout)
}

func (m *Mutex) acquired(code C.int, err error) error {
	err = either(err, failed(m.what, code))
	if m.pool.closing.Load() {
		if err == nil || errors.Is(err, ErrOwnerDied) {
			m.Release() // its last holder may not know yet that the pool has taken it away
		}
		return closed(m.what)
	}
	if !errors.Is(err, ErrOwnerDied) || m.OnOwnerDeath == nil {
		return err
	}
	return repair(m.what, m.OnOwnerDeath, m.Repair, m.Release)
}

// repair has the data made whole, and the lock released if that fails.
func repair(what string, repair, repaired, release func() error) (err error) {
	whole := false
	defer func() {
		if !whole {
			release()
		}
	}()
	if err := repair(); err != nil {
		return &Error{What: what, Code: ErrNotRecoverable, Cause: err}
	}
	if err := repaired(); err != nil {
		return err
	}
	whole = true
	return nil
}

// Release unlocks the mutex. It is ErrNotHeld if this process does not hold it.
func (m *Mutex) Release() error {
	return m.asHolder(func(p unsafe.Pointer) C.int { return C.tine_mutex_unlock((*C.tine_mutex)(p)) })
}

// Repair says that the data is whole again which the dead holder may have left torn.
func (m *Mutex) Repair() error {
	return m.asHolder(func(p unsafe.Pointer) C.int { return C.tine_mutex_repair((*C.tine_mutex)(p)) })
}

// asHolder makes a call that is the holder's, who may have lost the mutex to the pool's end.
func (m *Mutex) asHolder(f func(p unsafe.Pointer) C.int) error {
	err := m.call(f)
	if errors.Is(err, ErrNotHeld) && m.pool.closing.Load() {
		return closed(m.what)
	}
	return err
}

// retakes are the mutexes that calls in progress are to take back in C, where nothing but the mutex ends their wait; of each, how many.
type retakes struct {
	mu sync.Mutex
	of map[Address]int
}

// takesBack says that a call is to take a mutex back, until done.
func (r *retakes) takesBack(m Address) (done func()) {
	add := func(n int) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.of == nil {
			r.of = map[Address]int{}
		}
		if r.of[m] += n; r.of[m] == 0 {
			delete(r.of, m)
		}
	}
	add(1)
	return func() { add(-1) }
}

// letGo releases those of these mutexes that this process holds, once the pool is being closed: nobody gets them any more, see acquired.
func (r *retakes) letGo() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for m := range r.of {
		C.tine_mutex_unlock((*C.tine_mutex)(m.pointer()))
	}
}

// Lock locks the mutex. It panics where Acquire gives an error; after ErrOwnerDied it has made the mutex useless, since
// nobody has repaired the data.
func (m *Mutex) Lock() { must(m.Acquire(context.Background()), m.Release) }

// TryLock locks the mutex if it is free; whether it has.
func (m *Mutex) TryLock() bool { return tried(m.TryAcquire(), m.Release) }

// Unlock unlocks the mutex. It panics if this process does not hold it; after the pool's end it does nothing.
func (m *Mutex) Unlock() { unlocked(m.Release()) }

// Do calls f with the mutex held, and releases it however f ends. If f was not called, the error says why; one of
// ErrOwnerDied leaves the mutex useless, so set OnOwnerDeath.
func (m *Mutex) Do(f func()) error {
	if err := m.Acquire(context.Background()); err != nil {
		if errors.Is(err, ErrOwnerDied) {
			m.Release()
		}
		return err
	}
	defer m.Unlock()
	f()
	return nil
}

func must(err error, release func() error) {
	if err == nil {
		return
	}
	if errors.Is(err, ErrOwnerDied) {
		release()
	}
	panic(err)
}

func unlocked(err error) {
	if !errors.Is(err, ErrShutdown) {
		must(err, nil)
	}
}

func tried(err error, release func() error) bool {
	if errors.Is(err, ErrWouldBlock) {
		return false
	}
	must(err, release)
	return true
}
