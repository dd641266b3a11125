package tine

/*
#include "glue.h"
*/
import "C"

import (
	"context"
	"fmt"
	"math"
	"time"
	"unsafe"
)

// parcel is a task on its way to C: see tine_go_task.
type parcel struct {
	task    C.tine_go_task
	input   []byte // empty where it is in the task
	channel End
}

// inC submits the task.
func (p *parcel) inC(pool C.uintptr_t) C.tine_go_answer {
	if len(p.input) == 0 {
		return C.tine_go_submit(pool, p.task)
	}
	return C.tine_go_submit_input(pool, p.task, unsafe.Pointer(&p.input[0])) // and not SliceData: see some
}

// callInC submits the task, and takes the next result into the batch.
func (p *parcel) callInC(pool, batch C.uintptr_t) C.tine_go_answer {
	if len(p.input) == 0 {
		return C.tine_go_call(pool, p.task, batch)
	}
	return C.tine_go_call_input(pool, p.task, unsafe.Pointer(&p.input[0]), batch)
}

// check says which number C has no room for.
func (o *TaskOptions) check() *Error {
	wrong := func(name string, value any) *Error {
		return &Error{Code: ErrInvalid, Message: fmt.Sprintf("TaskOptions.%s is %v", name, value)}
	}
	switch {
	case o.Deadline < 0:
		return wrong("Deadline", o.Deadline)
	case o.QueueDeadline < 0:
		return wrong("QueueDeadline", o.QueueDeadline)
	case o.Retries < 0 || o.Retries > math.MaxUint32:
		return wrong("Retries", o.Retries)
	}
	return nil
}

// setOptions puts the options into the task.
func (p *parcel) setOptions(o *TaskOptions) *Error {
	if err := o.check(); err != nil {
		return err
	}
	p.task.deadline_ns, p.task.queue_deadline_ns = C.int64_t(o.Deadline), C.int64_t(o.QueueDeadline)
	p.task.retries = C.uint32_t(o.Retries)
	if o.Idempotent {
		p.task.flags = C.TINE_IDEMPOTENT
	}
	p.channel = o.Channel
	return nil
}

// submit submits a task, whose end s is told of. With alone the caller will wait for it at once, so that it may as well lead:
// then one crossing into C submits the task and takes its result.
//
// The options are nil where they are the defaults.
func (p *Pool) submit(ctx context.Context, w *work, parcel *parcel, options *TaskOptions, alone bool, s settler) {
	if ctx.Done() != nil {
		alone = false
		if ctx.Err() != nil {
			w.refuse(ended(ctx, *w.what))
			return
		}
	}
	var roomTimeout time.Duration
	if options != nil {
		if err := parcel.setOptions(options); err != nil {
			w.refuse(err)
			return
		}
		roomTimeout = options.RoomTimeout
	}
	err := p.attempt(w, parcel, alone, s)
	if err != nil && err.Code == windowFull {
		if roomTimeout < 0 {
			err.Code = ErrWouldBlock
		} else {
			err = p.submitLater(ctx, w, parcel, roomTimeout, alone, s)
		}
	}
	if err != nil {
		w.refuse(err)
	}
}

// submitLater goes on where the window is full.
func (p *Pool) submitLater(ctx context.Context, w *work, parcel *parcel, roomTimeout time.Duration, alone bool, s settler) *Error {
	began := time.Now()
	for {
		room := p.nextRoom() // before the attempt, so that room that comes after it is not missed
		err := p.attempt(w, parcel, alone, s)
		if err == nil || err.Code != windowFull {
			return err
		}
		if err := w.awaitRoom(ctx, room, roomTimeout, began); err != nil {
			return err
		}
	}
}

// refuse settles work that is not submitted.
func (w *work) refuse(err *Error) {
	err.What, err.Delivery = *w.what, NotStarted
	w.refused = true
	w.settleWith(err)
}

// awaitRoom waits until the window may have room again, but no longer than until timeout after began; 0: for ever.
func (w *work) awaitRoom(ctx context.Context, room <-chan struct{}, timeout time.Duration, began time.Time) *Error {
	wait := longestWait // maps and other callers take room, too
	if timeout > 0 {
		wait = min(wait, timeout-time.Since(began))
		if wait <= 0 {
			return &Error{Code: ErrDeadline, Message: "the pool's window is full"}
		}
	}
	w.want()
	select {
	case <-room:
	case <-ctx.Done():
		return ended(ctx, *w.what)
	case <-time.After(wait):
	}
	return nil
}

// windowFull is what C says of a full window. ErrWouldBlock says that tine can start no thread: to wait for room is no help then.
const windowFull = ErrDeadline

// attempt submits a task, or fails with windowFull. With alone it leads, if nobody does, until the task has
// settled.
func (p *Pool) attempt(w *work, parcel *parcel, alone bool, s settler) *Error {
	if err := p.enter(*w.what); err != nil {
		return closed(*w.what)
	}
	if p.closing.Load() {
		p.leave()
		return closed(*w.what)
	}
	if p.nested {
		err := p.attemptHere(w, parcel, s)
		p.leave()
		return err
	}
	place := p.open(s)
	parcel.task.user = C.uintptr_t(place)
	leads := alone && parcel.channel == nil && p.lead.TryLock()
	var answer C.tine_go_answer
	var err *Error
	switch {
	case leads:
		answer = parcel.callInC(p.inC(), p.batchInC())
	case parcel.channel == nil:
		answer = parcel.inC(p.inC())
	default:
		answer, err = p.submitGiving(w, parcel)
	}
	if err == nil && answer.code == 0 {
		p.leave()
		w.follow(answer.id)
		if leads {
			p.passOn(answer.count)
			p.leadOn(w)
		}
		return nil
	}
	if leads {
		p.lead.Unlock()
		if p.demand.Load() > 0 {
			p.wakeUp()
		}
	}
	p.take(place)
	p.leave()
	if err != nil {
		return err
	}
	return failedWith(*w.what, answer).(*Error)
}

// submitGiving is apart because what its function keeps makes garbage, which a task without a channel need not.
func (p *core) submitGiving(w *work, parcel *parcel) (answer C.tine_go_answer, err *Error) {
	task := *parcel
	err = task.giving(*w.what, func() bool {
		answer = task.inC(p.inC())
		return answer.code == 0
	})
	return answer, err
}

// attemptHere is apart for the same reason.
func (p *core) attemptHere(w *work, parcel *parcel, s settler) *Error {
	task := *parcel
	return task.giving(*w.what, func() bool { return p.runHere(w, &task, s) })
}

// giving has f submit a task with the end of a channel that goes with it, if there is one. f says whether it has.
func (p *parcel) giving(what string, f func() bool) *Error {
	if p.channel == nil {
		f()
		return nil
	}
	if err := p.channel.end().let(what, func(c *C.tine_channel) bool {
		p.task.channel = C.uintptr_t(uintptr(unsafe.Pointer(c)))
		return f()
	}); err != nil {
		return err.(*Error)
	}
	return nil
}

// runHere submits a task of a worker's, which has run when tine_submit returns. Whether it was submitted.
func (p *core) runHere(w *work, parcel *parcel, s settler) bool {
	answer := parcel.inC(p.inC())
	r := (*C.tine_result)(C.calloc(1, C.sizeof_tine_result))
	defer C.free(unsafe.Pointer(r))
	code := answer.code
	submitted := code == 0
	if submitted {
		code = C.tine_go_wait(p.pointer, answer.id, r)
	}
	if code != 0 {
		answer.code = code
		w.refuse(failedWith(*w.what, answer).(*Error))
		return submitted
	}
	s.settle(r)
	C.tine_result_release(p.pointer, r)
	return true
}
