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
// has a thread to itself, because C sees the death of a thread. Of one process that is at most one thread for each party: where
// more goroutines come, the rest wait without one until there is a place. A party that dies while it waits breaks the barrier for
// all, until Reset.
type Barrier struct {
	object
	// One for each party. So many goroutines are enough for a meeting, so no meeting waits for a goroutine that waits here.
	places chan struct{}
}

// NewBarrier makes a barrier for 1 to 128 parties.
func NewBarrier(pool *Pool, parties uint32) (*Barrier, error) {
	o, err := newObject(pool, "barrier", C.sizeof_tine_barrier, func(p unsafe.Pointer) C.int {
		return C.tine_barrier_init((*C.tine_barrier)(p), C.uint32_t(parties), 0)
	})
	return newBarrier(o, int(parties)), err
}

// OpenBarrier is the barrier at an address that another process has given.
func OpenBarrier(pool *Pool, address Address) (*Barrier, error) {
	o, err := openObject(pool, "barrier", address, C.sizeof_tine_barrier)
	parties := 0
	if err == nil {
		parties, err = o.number(func(p unsafe.Pointer) C.int { return C.tine_barrier_parties((*C.tine_barrier)(p)) })
	}
	return newBarrier(o, parties), err
}

func newBarrier(o object, parties int) *Barrier {
	if parties < 1 || parties > C.TINE_BARRIER_PARTIES { // no barrier, as Wait will say
		parties = 1
	}
	return &Barrier{o, make(chan struct{}, parties)}
}

// Wait waits until all parties have come; for one of them first is true. When ctx is done before that, the barrier is
// broken, for the others too: ErrBroken.
//
// A deadline breaks the very meeting that this party has come to. Where ctx is cancelled while the party leaves a meeting that is
// over, and others wait for the next one already, it is that one that is broken.
func (b *Barrier) Wait(ctx context.Context) (first bool, err error) {
	if ctx.Err() != nil {
		return false, ended(ctx, b.what)
	}
	// Whatever becomes of ctx: those who have the places meet without anybody else, so it does not take long, and who has asked to
	// come comes, and breaks the meeting that it comes to if ctx is done.
	select {
	case b.places <- struct{}{}:
	case <-b.pool.ending.Done():
		return false, closed(b.what)
	}
	defer func() { <-b.places }()
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
	case err == nil && ctx.Err() != nil: // and another party has broken it, whose context is the same perhaps
		err = ended(ctx, b.what)
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
