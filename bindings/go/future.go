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

// work is the part of a future that does not depend on the type. There is one for each task, so it is small, and what most do not
// need is apart.
type work struct {
	what    *string
	pool    *Pool
	err     *Error
	unread  *unread // nil where there is nothing to decode
	more    atomic.Pointer[attendance]
	id      C.tine_id // set before Submit returns, as refused is
	status  int32
	deaths  uint32
	phase   atomic.Int32
	refused bool // err is what submitting it has failed with
}

// attendance is what a future has that a goroutine waits for, or whose context may be done.
type attendance struct {
	ctx  context.Context // nil where it can't be done; set before the task is submitted
	mu   sync.Mutex
	done chan struct{} // made when somebody waits for it
	over bool          // done is closed, or is to be when it is made
	stop func() bool   // of what cancels the task when its context is done
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

// endsWith has the context end the task that is about to be submitted.
func (w *work) endsWith(ctx context.Context) {
	if ctx.Done() != nil {
		w.more.Store(&attendance{ctx: ctx})
	}
}

// settle takes the result, whose memory is the pool's again when it returns.
func (f *Future[Out]) settle(r *C.tine_result) {
	f.status, f.deaths = int32(r.status), uint32(r.deaths)
	if r.status < 0 {
		err := failure(*f.what, r)
		if more := f.more.Load(); more != nil && more.ctx != nil {
			err.explain(more.ctx)
		}
		f.settleWith(err)
		return
	}
	var err *Error
	f.unread, err = f.out.read(*f.what, r.data, int(r.length), &f.value)
	f.settleWith(err)
}

func (w *work) settleWith(err *Error) {
	if err != nil {
		w.err = err
		if w.status >= 0 {
			w.status = int32(err.Code)
		}
	}
	// Who attends either has said so by now, or finds the phase.
	before := w.phase.Swap(settled)
	if more := w.more.Load(); more != nil {
		more.end()
	}
	if before == wanted {
		w.pool.demand.Add(-1)
	}
}

// attend is the future's attendance, which it has from now on.
func (w *work) attend() *attendance {
	if more := w.more.Load(); more != nil {
		return more
	}
	w.more.CompareAndSwap(nil, &attendance{})
	return w.more.Load()
}

// end tells those who attend that the task has settled.
func (a *attendance) end() {
	a.mu.Lock()
	stop := a.stop
	a.stop = nil
	a.close()
	a.mu.Unlock()
	if stop != nil {
		stop()
	}
}

// close is end with the lock held, for those who wait.
func (a *attendance) close() {
	if !a.over && a.done != nil {
		close(a.done)
	}
	a.over = true
}

// want sees to it that the result comes although nobody leads.
func (w *work) want() {
	if w.phase.CompareAndSwap(open, wanted) && w.pool.demand.Add(1) == 1 && !w.pool.nested {
		w.pool.wakeUp()
	}
}

// follow has the task cancelled when its context is done.
func (w *work) follow(id C.tine_id) {
	w.id = id
	more := w.more.Load()
	if more == nil || more.ctx == nil {
		return
	}
	more.mu.Lock()
	defer more.mu.Unlock()
	if !more.over {
		// It may take some time after the cancel until the worker has ended, and somebody must see to that.
		more.stop = context.AfterFunc(more.ctx, func() {
			w.want()
			w.pool.cancel(id)
		})
	}
}

// Done is closed when the task has settled.
func (w *work) Done() <-chan struct{} {
	w.want()
	more := w.attend()
	more.mu.Lock()
	defer more.mu.Unlock()
	if more.done == nil {
		more.done = make(chan struct{})
		if more.over {
			close(more.done)
		}
	}
	if w.phase.Load() == settled {
		more.close()
	}
	return more.done
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
		if err := w.unread.read(*w.what); err != nil {
			return err
		}
	}
	return w.failure()
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
		return ended(ctx, "waiting for "+*w.what)
	}
}

// failure is err as an error, which is nil where err is.
func (w *work) failure() error {
	if w.err == nil {
		return nil
	}
	return w.err
}

// Err waits for the task, and says what it failed with: nil, or an *Error.
func (w *work) Err() error { return w.wait(context.Background()) }

// Status waits for the task, and gives its status: what a C function has returned, 0 of a Go function that succeeded,
// or the code of the failure.
func (w *work) Status() int {
	if err, _ := w.wait(context.Background()).(*Error); err != nil && w.status >= 0 {
		return int(err.Code) // of its decoder
	}
	return int(w.status)
}

// Deaths waits for the task, and says how many processes have died while they ran it.
func (w *work) Deaths() int {
	w.await(context.Background())
	return int(w.deaths)
}

// SubmitErr is what submitting the task has failed with, and Err as well; nil if it was submitted. It does not wait.
func (w *work) SubmitErr() error {
	if !w.refused {
		return nil
	}
	return w.failure()
}

// Cancel cancels the task. One that has not begun settles at once; one that runs has the pool's grace to return, then
// its worker is ended. It returns an error if the task has settled.
func (w *work) Cancel() error {
	if w.id == 0 {
		return &Error{What: "cancel " + *w.what, Code: ErrID}
	}
	return w.pool.cancel(w.id)
}

// Submit submits one call of a function that is known by its name only; bytes go in and come out as they are.
func (p *Pool) Submit(ctx context.Context, name string, input []byte) *Future[[]byte] {
	if !isName(name) {
		future := &Future[[]byte]{work: work{what: &name, pool: p}}
		future.refuse(&Error{Code: ErrName, Message: "not a function's name"})
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
