package tine

/*
#include "glue.h"
*/
import "C"

import (
	"context"
	"time"
	"unsafe"
)

// A Semaphore has units that are taken and given back, by any goroutine of any process of a pool. A unit that a dead
// process had taken is gone. Of the goroutines of a process that wait, one does so with a thread.
type Semaphore struct {
	object
	turn *turn
}

// NewSemaphore makes a semaphore with value free units of at most limit; a limit of 0 is as many as fit.
func NewSemaphore(pool *Pool, value, limit uint32) (*Semaphore, error) {
	o, err := newObject(pool, "semaphore", C.sizeof_tine_semaphore, func(p unsafe.Pointer) C.int {
		return C.tine_semaphore_init((*C.tine_semaphore)(p), C.uint32_t(value), C.uint32_t(limit), 0)
	})
	return &Semaphore{o, newTurn()}, err
}

// OpenSemaphore is the semaphore at an address that another process has given.
func OpenSemaphore(pool *Pool, address Address) (*Semaphore, error) {
	o, err := openObject(pool, "semaphore", address, C.sizeof_tine_semaphore)
	return &Semaphore{o, newTurn()}, err
}

// Acquire takes one unit, waiting until ctx is done.
func (s *Semaphore) Acquire(ctx context.Context) error {
	code, err := s.pool.wait(ctx, s.what, s.turn, func(timeout C.int64_t) C.int {
		return C.tine_semaphore_acquire((*C.tine_semaphore)(s.address.pointer()), timeout)
	})
	return either(err, failed(s.what, code))
}

// TryAcquire takes one unit if there is one, and is ErrWouldBlock otherwise.
func (s *Semaphore) TryAcquire() error {
	return s.call(func(p unsafe.Pointer) C.int { return C.tine_semaphore_acquire((*C.tine_semaphore)(p), 0) })
}

// Release gives n units, all or none: with syscall.EOVERFLOW there would be more than the limit.
func (s *Semaphore) Release(n uint32) error {
	return s.call(func(p unsafe.Pointer) C.int { return C.tine_semaphore_release((*C.tine_semaphore)(p), C.uint32_t(n)) })
}

// Value is how many units are free at this moment.
func (s *Semaphore) Value() (int, error) {
	return s.number(func(p unsafe.Pointer) C.int { return C.tine_semaphore_value((*C.tine_semaphore)(p)) })
}

// An Event is something that has happened, or not yet, for all processes of a pool. Of the goroutines of a process that
// wait, one does so with a thread.
type Event struct {
	object
	turn *turn
}

// NewEvent makes an event that is not set. One with autoReset clears itself when it lets a waiter go.
func NewEvent(pool *Pool, autoReset bool) (*Event, error) {
	var flags C.uint32_t
	if autoReset {
		flags = C.TINE_AUTO_RESET
	}
	o, err := newObject(pool, "event", C.sizeof_tine_event, func(p unsafe.Pointer) C.int {
		return C.tine_event_init((*C.tine_event)(p), flags)
	})
	return &Event{o, newTurn()}, err
}

// OpenEvent is the event at an address that another process has given.
func OpenEvent(pool *Pool, address Address) (*Event, error) {
	o, err := openObject(pool, "event", address, C.sizeof_tine_event)
	return &Event{o, newTurn()}, err
}

// Wait waits until the event is set, or ctx is done. It does not miss one that is set and cleared again meanwhile.
func (e *Event) Wait(ctx context.Context) error {
	// It waits behind others of its process, and in several calls; what happens in between counts as well.
	var cleared C.int
	if err := e.call(func(p unsafe.Pointer) C.int { cleared = C.tine_event_cleared((*C.tine_event)(p)); return cleared }); err != nil {
		return err
	}
	code, err := e.pool.wait(ctx, e.what, e.turn, func(timeout C.int64_t) C.int {
		return C.tine_event_wait_after((*C.tine_event)(e.address.pointer()), cleared, timeout)
	})
	return either(err, failed(e.what, code))
}

// TryWait is ErrWouldBlock if the event isn't set; it clears one with autoReset that is.
func (e *Event) TryWait() error {
	return e.call(func(p unsafe.Pointer) C.int { return C.tine_event_wait((*C.tine_event)(p), 0) })
}

// Set sets the event, and lets all waiters go; with autoReset, one.
func (e *Event) Set() error {
	return e.call(func(p unsafe.Pointer) C.int { return C.tine_event_set((*C.tine_event)(p)) })
}

// Clear clears the event.
func (e *Event) Clear() error {
	return e.call(func(p unsafe.Pointer) C.int { return C.tine_event_clear((*C.tine_event)(p)) })
}

// IsSet says whether the event is set at this moment.
func (e *Event) IsSet() (bool, error) {
	n, err := e.number(func(p unsafe.Pointer) C.int { return C.tine_event_is_set((*C.tine_event)(p)) })
	return n == 1, err
}

// A Barrier is a meeting of a fixed number of goroutines, of any processes of a pool, again and again. Each that waits
// has a thread to itself. A party that dies while it waits breaks the barrier for all, until Reset.
type Barrier struct{ object }

// NewBarrier makes a barrier for 1 to 128 parties.
func NewBarrier(pool *Pool, parties uint32) (*Barrier, error) {
	o, err := newObject(pool, "barrier", C.sizeof_tine_barrier, func(p unsafe.Pointer) C.int {
		return C.tine_barrier_init((*C.tine_barrier)(p), C.uint32_t(parties), 0)
	})
	return &Barrier{o}, err
}

// OpenBarrier is the barrier at an address that another process has given.
func OpenBarrier(pool *Pool, address Address) (*Barrier, error) {
	o, err := openObject(pool, "barrier", address, C.sizeof_tine_barrier)
	return &Barrier{o}, err
}

// Wait waits until all parties have come; for one of them first is true. When ctx is done before that, the barrier is
// broken, for the others too: ErrBroken.
//
// A deadline breaks the very meeting that this party has come to. Where ctx is cancelled while the party leaves a meeting that is
// over, and others wait for the next one already, it is that one that is broken.
func (b *Barrier) Wait(ctx context.Context) (first bool, err error) {
	met := false
	deadline, isTimed := ctx.Deadline()
	code, err := b.waitWhole(ctx, func(p unsafe.Pointer, timeout C.int64_t) C.int {
		if isTimed { // at which C ends the wait, in one step with the meeting
			timeout = max(C.int64_t(time.Until(deadline)), 1)
		}
		code := C.tine_barrier_wait((*C.tine_barrier)(p), timeout)
		met = code >= 0
		return code
	}, func(p unsafe.Pointer) {
		isLate := isTimed && ctx.Err() == context.DeadlineExceeded && !b.pool.closing.Load()
		// In a meeting that is not over this party waits.
		if !isLate && C.tine_barrier_waiting((*C.tine_barrier)(p)) > 0 {
			C.tine_barrier_abort((*C.tine_barrier)(p))
		}
	})
	switch {
	case met: // though ctx may be done by now
		return code == 1, nil
	case err == nil && Code(code) == ErrDeadline: // ctx is not done for some microseconds yet
		err = &Error{What: b.what, Code: ErrDeadline, Cause: context.DeadlineExceeded}
	}
	return false, either(err, failed(b.what, code))
}

// TryWait is Wait for a party that goes on at once, with ErrWouldBlock, unless it is the last.
func (b *Barrier) TryWait() error {
	return b.call(func(p unsafe.Pointer) C.int { return C.tine_barrier_wait((*C.tine_barrier)(p), 0) })
}

// Reset makes the barrier as new; those that wait get ErrBroken.
func (b *Barrier) Reset() error {
	return b.call(func(p unsafe.Pointer) C.int { return C.tine_barrier_reset((*C.tine_barrier)(p)) })
}

// Abort breaks the barrier until it is reset.
func (b *Barrier) Abort() error {
	return b.call(func(p unsafe.Pointer) C.int { return C.tine_barrier_abort((*C.tine_barrier)(p)) })
}

// A Cond is a condition that goroutines of any processes of a pool wait for, with one Mutex. It is shaped as sync.Cond
// is. Each that waits has a thread to itself.
type Cond struct {
	object
	L *Mutex // held when Wait is called, and when what is waited for changes
}

// NewCond makes a condition whose mutex is l.
func NewCond(pool *Pool, l *Mutex) (*Cond, error) {
	o, err := newObject(pool, "cond", C.sizeof_tine_condition, func(p unsafe.Pointer) C.int {
		return C.tine_condition_init((*C.tine_condition)(p), 0)
	})
	return &Cond{o, l}, err
}

// OpenCond is the condition at an address that another process has given.
func OpenCond(pool *Pool, address Address, l *Mutex) (*Cond, error) {
	o, err := openObject(pool, "cond", address, C.sizeof_tine_condition)
	return &Cond{o, l}, err
}

// WaitContext releases L, waits until it is woken or ctx is done, and takes L back; it holds L whatever it returns, but
// for ErrNotRecoverable, ErrNotHeld and ErrShutdown. With ErrOwnerDied L was taken back from a process that died; repair it. It may
// return although nobody has called Signal: test again what is waited for.
//
// L may be held for long by somebody else when the pool is closed. So that Close need not wait for that, it takes L away from any
// goroutine of this process; nobody gets it afterwards, and whoever unlocks it is told that the pool is closed.
func (c *Cond) WaitContext(ctx context.Context) error {
	defer c.pool.retakes.takesBack(c.L.address)()
	code, err := c.waitWhole(ctx, c.wait, func(p unsafe.Pointer) { C.tine_condition_notify_all((*C.tine_condition)(p)) })
	return either(c.L.acquired(code, nil), err)
}

func (c *Cond) wait(p unsafe.Pointer, timeout C.int64_t) C.int {
	return C.tine_condition_wait((*C.tine_condition)(p), (*C.tine_mutex)(c.L.address.pointer()), timeout)
}

// TryWait does not wait: it is ErrWouldBlock if L is held.
func (c *Cond) TryWait() error {
	return c.call(func(p unsafe.Pointer) C.int { return c.wait(p, 0) })
}

// Wait releases L, waits until it is woken, and takes L back. It panics where WaitContext gives an error.
func (c *Cond) Wait() { must(c.WaitContext(context.Background()), c.L.Release) }

// Signal wakes one goroutine that waits, if there is any.
func (c *Cond) Signal() {
	must(c.call(func(p unsafe.Pointer) C.int { return C.tine_condition_notify((*C.tine_condition)(p), 1) }), nil)
}

// Broadcast wakes all that wait.
func (c *Cond) Broadcast() {
	must(c.call(func(p unsafe.Pointer) C.int { return C.tine_condition_notify_all((*C.tine_condition)(p)) }), nil)
}
