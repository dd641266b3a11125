package tine

/*
#include "glue.h"
*/
import "C"

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"unsafe"
)

// An RWMutex lets many readers or one writer through, of all processes of a pool. It is shaped as sync.RWMutex is: any
// goroutine may unlock it, and while a writer waits, in whatever process, no more readers come in; so a goroutine must not
// read-lock again what it has read-locked.
//
// In C such a lock is a thread's. Here the thread is one of a goroutine's that does nothing else as long as the lock is
// held: one for each writer, and one for all readers of a process together. So neither where a goroutine runs nor how it
// ends matters, and up to 75 processes can read at a time, with any number of goroutines; more processes wait. It costs some
// microseconds to take the lock.
type RWMutex struct {
	object
	writers, readers *turn

	mu     sync.Mutex
	writer *holder
	reader *reading

	// OnOwnerDeath makes the data whole that a writer may have left torn whose process died: see Mutex.
	OnOwnerDeath func() error
}

// holder is a goroutine, wired to its thread, that holds a lock for others.
type holder struct {
	commands chan command
	ended    chan struct{}
}

type command struct {
	call  func(l *C.tine_rwlock) C.int
	last  bool
	reply chan error
}

// reading is the read lock of this process, from when the first reader wants it until the last one has gone.
type reading struct {
	ready  chan struct{} // closed when it is held, or could not be
	holder *holder
	count  int
}

// NewRWMutex makes a lock in the pool's heap.
func NewRWMutex(pool *Pool) (*RWMutex, error) {
	o, err := newObject(pool, "rwmutex", C.sizeof_tine_rwlock, func(p unsafe.Pointer) C.int {
		return C.tine_rwlock_init((*C.tine_rwlock)(p), 0)
	})
	return &RWMutex{object: o, writers: newTurn(), readers: newTurn()}, err
}

// OpenRWMutex is the lock at an address that another process has given: in C a tine_rwlock.
func OpenRWMutex(pool *Pool, address Address) (*RWMutex, error) {
	o, err := openObject(pool, "rwmutex", address, C.sizeof_tine_rwlock)
	return &RWMutex{object: o, writers: newTurn(), readers: newTurn()}, err
}

// hold starts a holder, which takes the lock. With ErrOwnerDied it has it.
func (l *RWMutex) hold(ctx context.Context, try bool, take func(l *C.tine_rwlock, timeout C.int64_t) C.int) (*holder, error) {
	if err := l.pool.enter(l.what); err != nil {
		return nil, err
	}
	if l.pool.closing.Load() {
		l.pool.leave()
		return nil, closed(l.what)
	}
	l.pool.holders.Add(1)
	l.pool.leave()
	h := &holder{make(chan command), make(chan struct{})}
	taken := make(chan error, 1)
	go func() {
		defer l.pool.holders.Done()
		defer close(h.ended)
		runtime.LockOSThread()
		// Only when it holds nothing: a thread that Go parks for good would hold it for good.
		defer runtime.UnlockOSThread()
		lock := (*C.tine_rwlock)(l.address.pointer())
		attempt := func(timeout C.int64_t) C.int { return take(lock, timeout) }
		var err error
		if try {
			err = l.call(func(unsafe.Pointer) C.int { return attempt(0) })
		} else {
			var code C.int
			code, err = l.pool.wait(ctx, l.what, newTurn(), attempt)
			err = either(err, failed(l.what, code))
		}
		held := err == nil || errors.Is(err, ErrOwnerDied)
		if held && l.pool.closing.Load() {
			// Another holder has let it go because of that.
			C.tine_rwlock_unlock(lock)
			held, err = false, closed(l.what)
		}
		taken <- err
		if held {
			h.serve(l.what, lock, l.pool.ending.Done())
		}
	}()
	return h, <-taken
}

// serve makes the calls that only the holder's thread can make, until the lock is released.
func (h *holder) serve(what string, lock *C.tine_rwlock, ending <-chan struct{}) {
	for {
		select {
		case c := <-h.commands:
			c.reply <- failed(what, c.call(lock))
			if c.last {
				return
			}
		case <-ending:
			// The memory goes with the pool; no thread may hold a lock in it.
			C.tine_rwlock_unlock(lock)
			return
		}
	}
}

func (h *holder) do(what string, last bool, call func(l *C.tine_rwlock) C.int) error {
	reply := make(chan error, 1)
	select {
	case h.commands <- command{call, last, reply}:
		return <-reply
	case <-h.ended:
		return closed(what)
	}
}

func (h *holder) release(what string) error {
	return h.do(what, true, func(l *C.tine_rwlock) C.int { return C.tine_rwlock_unlock(l) })
}

// Acquire takes the lock for writing, waiting until ctx is done. With ErrOwnerDied it is held: see Mutex.Acquire.
func (l *RWMutex) Acquire(ctx context.Context) error { return l.acquire(ctx, false) }

// TryAcquire takes the lock for writing if it is free, and is ErrWouldBlock if it isn't.
func (l *RWMutex) TryAcquire() error { return l.acquire(context.Background(), true) }

func (l *RWMutex) acquire(ctx context.Context, try bool) error {
	switch {
	case !try:
		if err := l.writers.take(ctx, l.pool.core, l.what); err != nil {
			return err
		}
	case !l.writers.try():
		return &Error{What: l.what, Code: ErrWouldBlock}
	}
	h, err := l.hold(ctx, try, func(lock *C.tine_rwlock, timeout C.int64_t) C.int {
		return C.tine_rwlock_write_lock(lock, timeout)
	})
	if err != nil && !errors.Is(err, ErrOwnerDied) {
		l.writers.give()
		return err
	}
	l.mu.Lock()
	l.writer = h
	l.mu.Unlock()
	if err != nil && l.OnOwnerDeath != nil {
		return repair(l.what, l.OnOwnerDeath, l.Repair, l.Release)
	}
	return err
}

// Release releases the lock for writing. It is ErrNotHeld if this process does not hold it.
func (l *RWMutex) Release() error {
	l.mu.Lock()
	h := l.writer
	l.writer = nil
	l.mu.Unlock()
	if h == nil {
		return &Error{What: l.what, Code: ErrNotHeld}
	}
	defer l.writers.give()
	return h.release(l.what)
}

// Repair says that the data is whole again which a dead writer may have left torn.
func (l *RWMutex) Repair() error {
	l.mu.Lock()
	h := l.writer
	l.mu.Unlock()
	if h == nil {
		return &Error{What: l.what, Code: ErrNotHeld}
	}
	return h.do(l.what, false, func(lock *C.tine_rwlock) C.int { return C.tine_rwlock_repair(lock) })
}

// AcquireRead takes the lock for reading, waiting until ctx is done. With ErrOwnerDied it is held, but a writer died, and
// no writer has repaired the data since.
func (l *RWMutex) AcquireRead(ctx context.Context) error { return l.acquireRead(ctx, false) }

// TryAcquireRead takes the lock for reading if no writer has it or waits for it, and is ErrWouldBlock otherwise; also where a writer
// died, and OnOwnerDeath is to make the data whole, while others read.
func (l *RWMutex) TryAcquireRead() error { return l.acquireRead(context.Background(), true) }

func (l *RWMutex) acquireRead(ctx context.Context, try bool) error {
	err := l.read(ctx, try)
	for errors.Is(err, ErrOwnerDied) && l.OnOwnerDeath != nil {
		// A writer repairs.
		l.ReleaseRead()
		if err := l.acquire(ctx, try); err != nil {
			return err
		}
		l.Release()
		err = l.read(ctx, try)
	}
	return err
}

func (l *RWMutex) read(ctx context.Context, try bool) error {
	for {
		l.mu.Lock()
		r := l.reader
		if r == nil {
			return l.readFirst(ctx, try)
		}
		if r.holder != nil {
			var code C.int
			err := l.call(func(p unsafe.Pointer) C.int {
				code = C.tine_go_rwlock_probe((*C.tine_rwlock)(p), 0)
				return 0
			})
			if err != nil || Code(code) != ErrWouldBlock {
				err = either(err, failed(l.what, code))
				if err == nil || errors.Is(err, ErrOwnerDied) {
					r.count++
				}
				l.mu.Unlock()
				return err
			}
			l.mu.Unlock()
			if err := l.awaitWriters(ctx, try); err != nil {
				return err
			}
			continue
		}
		l.mu.Unlock()
		if try {
			return &Error{What: l.what, Code: ErrWouldBlock}
		}
		select {
		case <-r.ready:
		case <-ctx.Done():
			return ended(ctx, l.what)
		case <-l.pool.ending.Done():
			return closed(l.what)
		}
	}
}

// awaitWriters waits while a writer has the lock or waits for it, of whatever process: that may give up, or die, though other readers
// of this process go on. One goroutine at a time does so in C, with a thread.
func (l *RWMutex) awaitWriters(ctx context.Context, try bool) error {
	if try {
		return &Error{What: l.what, Code: ErrWouldBlock}
	}
	_, err := l.pool.wait(ctx, l.what, l.readers, func(timeout C.int64_t) C.int {
		return C.tine_go_rwlock_probe((*C.tine_rwlock)(l.address.pointer()), timeout)
	})
	return err // what else the lock says, it says again to who looks next
}

// readFirst takes the read lock of this process. It is called with l.mu held, and releases it.
func (l *RWMutex) readFirst(ctx context.Context, try bool) error {
	r := &reading{ready: make(chan struct{})}
	l.reader = r
	l.mu.Unlock()
	h, err := l.hold(ctx, try, func(lock *C.tine_rwlock, timeout C.int64_t) C.int {
		return C.tine_rwlock_read_lock(lock, timeout)
	})
	l.mu.Lock()
	if err == nil || errors.Is(err, ErrOwnerDied) {
		r.holder, r.count = h, 1
	} else {
		l.reader = nil
	}
	close(r.ready)
	l.mu.Unlock()
	return err
}

// ReleaseRead releases the lock for one reader. It is ErrNotHeld if no goroutine of this process reads.
func (l *RWMutex) ReleaseRead() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.reader
	if r == nil || r.count == 0 {
		return &Error{What: l.what, Code: ErrNotHeld}
	}
	if r.count--; r.count > 0 {
		return nil
	}
	l.reader = nil
	return r.holder.release(l.what)
}

// Lock takes the lock for writing. It panics where Acquire gives an error: see Mutex.Lock.
func (l *RWMutex) Lock() { must(l.Acquire(context.Background()), l.Release) }

// TryLock takes the lock for writing if it is free; whether it has.
func (l *RWMutex) TryLock() bool { return tried(l.TryAcquire(), l.Release) }

// Unlock releases the lock for writing. It panics if it isn't held; after the pool's end it does nothing.
func (l *RWMutex) Unlock() { unlocked(l.Release()) }

// RLock takes the lock for reading. It panics where AcquireRead gives an error.
func (l *RWMutex) RLock() { must(l.AcquireRead(context.Background()), l.ReleaseRead) }

// TryRLock takes the lock for reading if it can at once; whether it has.
func (l *RWMutex) TryRLock() bool { return tried(l.TryAcquireRead(), l.ReleaseRead) }

// RUnlock releases the lock for one reader. It panics if there is none; after the pool's end it does nothing.
func (l *RWMutex) RUnlock() { unlocked(l.ReleaseRead()) }

// RLocker is a sync.Locker whose Lock and Unlock are RLock and RUnlock.
func (l *RWMutex) RLocker() sync.Locker { return (*readLocker)(l) }

type readLocker RWMutex

func (l *readLocker) Lock()   { (*RWMutex)(l).RLock() }
func (l *readLocker) Unlock() { (*RWMutex)(l).RUnlock() }
