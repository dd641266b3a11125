package tine

/*
#include "glue.h"
*/
import "C"

import (
	"context"
	"sync"
	"time"
	"unsafe"
)

// object is what locks have in common: they lie in a pool's heap, and this is one process's way to them.
type object struct {
	pool    *Pool
	address Address
	what    string
}

// newObject makes zeroed room for a lock in the pool's heap, and has it initialised.
func newObject(pool *Pool, what string, size uintptr, init func(p unsafe.Pointer) C.int) (object, error) {
	if err := pool.enter(what); err != nil {
		return object{}, err
	}
	defer pool.leave()
	p := C.tine_calloc(pool.pointer, 1, C.size_t(size))
	if p == nil {
		return object{}, &Error{What: what, Code: ErrNoMemory}
	}
	if code := init(p); code < 0 {
		C.tine_free(pool.pointer, p)
		return object{}, failed(what, code)
	}
	return object{pool, Address(p), what}, nil
}

// openObject is a lock that lies in the pool's heap already.
func openObject(pool *Pool, what string, address Address, size uintptr) (object, error) {
	if err := pool.inHeap(what, address, size, 8); err != nil {
		return object{}, err
	}
	return object{pool, address, what}, nil
}

// Address is where it lies in the pool's heap, for other processes to open it there.
func (o *object) Address() Address { return o.address }

// Free gives its memory back to the pool's heap. No process may use it any more. It is for what New has made, and not
// for what lies in a struct of the program's own.
func (o *object) Free() error {
	return o.call(func(p unsafe.Pointer) C.int { return C.tine_heap_free(C.tine_pool_heap(o.pool.pointer), p) })
}

// call makes a call that does not wait.
func (o *object) call(f func(p unsafe.Pointer) C.int) error {
	if err := o.pool.enter(o.what); err != nil {
		return err
	}
	defer o.pool.leave()
	return failed(o.what, f(o.address.pointer()))
}

// number makes a call that gives a number, or a code.
func (o *object) number(f func(p unsafe.Pointer) C.int) (n int, err error) {
	err = o.call(func(p unsafe.Pointer) C.int {
		code := f(p)
		n = int(max(code, 0))
		return code
	})
	return n, err
}

// againAfter is how long an interruption may take to be heard before it is made again.
const againAfter = 10 * time.Millisecond

// waitWhole makes a call that waits in C, with a thread, and must not be cut into pieces; interrupt, in another thread,
// makes it end when ctx is done or the pool is being closed. An interruption is heard by those that wait: one that comes
// just before the call begins to wait is lost, and so it is repeated until the call has returned. None comes after that.
//
// The error says that the pool is being closed, or that the call was interrupted because ctx is done. A call that was not interrupted
// has none, although ctx may be done by the time that it has returned: what it was told of may have been for it alone.
func (o *object) waitWhole(ctx context.Context, wait func(p unsafe.Pointer, timeoutNS C.int64_t) C.int,
	interrupt func(p unsafe.Pointer)) (C.int, error) {
	if err := o.pool.enter(o.what); err != nil {
		return 0, err
	}
	defer o.pool.leave()
	if o.pool.closing.Load() {
		return 0, closed(o.what)
	}
	p := o.address.pointer()
	returned := make(chan struct{})
	var mu sync.Mutex // held while it interrupts, and while it is noted that the call has returned
	unlessReturned := func() (interrupted bool) {
		mu.Lock()
		defer mu.Unlock()
		select {
		case <-returned:
			return false
		default:
			interrupt(p)
			return true
		}
	}
	interruptOn := func(ctx context.Context) (stop func() (interrupted bool)) {
		interrupted := false
		if ctx.Done() == nil {
			return func() bool { return false }
		}
		stopAndWait := afterFunc(ctx, func() {
			for unlessReturned() {
				interrupted = true
				select {
				case <-returned:
				case <-time.After(againAfter):
				}
			}
		})
		return func() bool {
			stopAndWait()
			return interrupted
		}
	}
	stopDone, stopClosing := interruptOn(ctx), interruptOn(o.pool.ending)
	code := wait(p, C.TINE_FOREVER)
	mu.Lock()
	close(returned) // before what has begun is waited for
	mu.Unlock()
	isDone := stopDone()
	stopClosing()
	switch {
	case isDone:
		return code, ended(ctx, o.what)
	case o.pool.closing.Load():
		return code, closed(o.what)
	}
	return code, nil
}

// afterFunc is context.AfterFunc, with a stop that waits for the function if it has begun.
func afterFunc(ctx context.Context, f func()) (stop func()) {
	done := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		defer close(done)
		f()
	})
	return func() {
		if !cancel() {
			<-done
		}
	}
}
