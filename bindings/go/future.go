package tine

/*
#include "glue.h"
*/
import "C"

import (
	"context"
	"sync"
	"sync/atomic"
)

// A Future is what will come of a task. Any number of goroutines may wait for it, any number of times; they cost no
// threads.
type Future[Out any] struct {
	work
	out   *codec[Out]
	value Out
}

// work is the part of a future that does not depend on the type.
type work struct {
	what   string
	pool   *Pool
	ctx    context.Context
	status int
	deaths int
	err    error
	unread *unread // nil where there is nothing to decode
	// refused is set before Submit returns.
	refused *Error
	phase   atomic.Int32

	mu   sync.Mutex
	done chan struct{} // made when somebody waits for it
	id   C.tine_id
	stop func() bool // of what cancels the task when its context is done
}

// What a future's phase may be.
const (
	open    = iota
	wanted  // somebody waits for it, and it counts as demand
	settled // its result is there
)

// settler is what the pool tells of a task's end.
type settler interface {
	settle(r *C.tine_result)
}

func (w *work) init(ctx context.Context, pool *Pool, what string) {
	w.ctx, w.pool, w.what = ctx, pool, what
}

// settle takes the result, whose memory is the pool's again when it returns.
func (f *Future[Out]) settle(r *C.tine_result) {
	f.status, f.deaths = int(r.status), int(r.deaths)
	if r.status < 0 {
		err := failure(f.what, r)
		if (err.Code == ErrCanceled || err.Code == ErrDeadline) && f.ctx.Err() != nil {
			err.Cause = context.Cause(f.ctx)
		}
		f.settleWith(err)
		return
	}
	var err *Error
	f.unread, err = f.out.read(f.what, r.data, int(r.length), &f.value)
	f.settleWith(err)
}

func (w *work) settleWith(err *Error) {
	if err != nil {
		w.err = err
		if w.status >= 0 {
			w.status = int(err.Code)
		}
	}
	w.mu.Lock()
	stop := w.stop
	w.stop = nil
	before := w.phase.Swap(settled)
	if w.done != nil {
		close(w.done)
	}
	w.mu.Unlock()
	if before == wanted {
		w.pool.demand.Add(-1)
	}
	if stop != nil {
		stop()
	}
}

// want sees to it that the result comes although nobody leads.
func (w *work) want() {
	if w.phase.CompareAndSwap(open, wanted) && w.pool.demand.Add(1) == 1 && !w.pool.nested {
		w.pool.wakeUp()
	}
}

// follow has the task cancelled when its context is done.
func (w *work) follow(id C.tine_id) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.id = id
	if w.ctx.Done() != nil && w.phase.Load() != settled {
		// It may take some time after the cancel until the worker has ended, and somebody must see to that.
		w.stop = context.AfterFunc(w.ctx, func() {
			w.want()
			w.pool.cancel(id)
		})
	}
}

// Done is closed when the task has settled.
func (w *work) Done() <-chan struct{} {
	w.want()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done == nil {
		w.done = make(chan struct{})
		if w.phase.Load() == settled {
			close(w.done)
		}
	}
	return w.done
}

// Wait waits for the task, or until ctx is done: that ends the waiting, not the task. An Out that has UnmarshalBinary or GobDecode is
// decoded here, once: if that panics, so does each Wait, Err and Status.
func (f *Future[Out]) Wait(ctx context.Context) (Out, error) {
	if err := f.wait(ctx); err != nil {
		var none Out
		return none, err
	}
	return f.value, nil
}

func (w *work) wait(ctx context.Context) error {
	if err := w.await(ctx); err != nil {
		return err
	}
	if w.unread != nil {
		if err := w.unread.read(w.what); err != nil {
			return err
		}
	}
	return w.err
}

// await waits until the task has settled. The error is that of the waiting.
func (w *work) await(ctx context.Context) error {
	if w.phase.Load() == settled || ctx.Done() == nil && !w.pool.nested && w.pool.leadUntil(w) {
		return nil
	}
	select {
	case <-w.Done():
		return nil
	case <-ctx.Done():
		return ended(ctx, "waiting for "+w.what)
	}
}

// Err waits for the task, and says what it failed with: nil, or an *Error.
func (w *work) Err() error { return w.wait(context.Background()) }

// Status waits for the task, and gives its status: what a C function has returned, 0 of a Go function that succeeded,
// or the code of the failure.
func (w *work) Status() int {
	if err, _ := w.wait(context.Background()).(*Error); err != nil && w.status >= 0 {
		return int(err.Code) // of its decoder
	}
	return w.status
}

// Deaths waits for the task, and says how many processes have died while they ran it.
func (w *work) Deaths() int {
	w.await(context.Background())
	return w.deaths
}

// SubmitErr is what submitting the task has failed with, and Err as well; nil if it was submitted. It does not wait.
func (w *work) SubmitErr() error {
	if w.refused == nil {
		return nil
	}
	return w.refused
}

// Cancel cancels the task. One that has not begun settles at once; one that runs has the pool's grace to return, then
// its worker is ended. It returns an error if the task has settled.
func (w *work) Cancel() error {
	w.mu.Lock()
	id := w.id
	w.mu.Unlock()
	if id == 0 {
		return &Error{What: "cancel " + w.what, Code: ErrID}
	}
	return w.pool.cancel(id)
}

// Submit submits one call of a function that is known by its name only; bytes go in and come out as they are.
func (p *Pool) Submit(ctx context.Context, name string, input []byte) *Future[[]byte] {
	if !isName(name) {
		future := &Future[[]byte]{}
		future.init(ctx, p, name)
		future.refused = &Error{What: name, Code: ErrName, Message: "not a function's name", Delivery: NotStarted}
		future.settleWith(future.refused)
		return future
	}
	return Named[[]byte, []byte](name).Submit(ctx, p, input)
}

// Completed passes on the futures as they settle, and is closed when all have. When ctx is done it is closed early.
func Completed[Out any](ctx context.Context, futures ...*Future[Out]) <-chan *Future[Out] {
	out := make(chan *Future[Out])
	var all sync.WaitGroup
	for _, future := range futures {
		all.Add(1)
		go func() {
			defer all.Done()
			select {
			case <-future.Done():
			case <-ctx.Done():
				return
			}
			select {
			case out <- future:
			case <-ctx.Done():
			}
		}()
	}
	go func() {
		all.Wait()
		close(out)
	}()
	return out
}
