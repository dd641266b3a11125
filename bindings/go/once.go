package tine

/*
#include "glue.h"
*/
import "C"

import (
	"context"
	"runtime/cgo"
	"sync/atomic"
	"unsafe"
)

// A Once is something that is done once, by whichever process of a pool comes first. If that one dies in the middle, the
// next does it, and may find things half done.
type Once struct {
	object
	turn *turn
	done atomic.Bool
}

// NewOnce makes one that has not been done.
func NewOnce(pool *Pool) (*Once, error) {
	o, err := newObject(pool, "once", C.sizeof_tine_once, func(unsafe.Pointer) C.int { return 0 })
	return &Once{object: o, turn: newTurn()}, err
}

// OpenOnce is the one at an address that another process has given.
func OpenOnce(pool *Pool, address Address) (*Once, error) {
	o, err := openObject(pool, "once", address, C.sizeof_tine_once)
	return &Once{object: o, turn: newTurn()}, err
}

// Do calls f unless it was done before, and waits for one that is under way, as sync.Once does: if f panics it counts
// as done. f must not call Do.
func (o *Once) Do(f func()) {
	must(o.Try(context.Background(), func() error {
		f()
		return nil
	}), nil)
}

// Try calls f unless it was done before, and waits for one that is under way, until ctx is done. If f returns an error,
// Try does, too, and it has not been done: the next caller's function runs. An f that panics or ends its goroutine counts
// as done; the panic is passed on.
func (o *Once) Try(ctx context.Context, f func() error) error {
	if o.done.Load() {
		return nil
	}
	var result error
	var panicked any
	returned := true
	handle := cgo.NewHandle(func() int {
		// In a goroutine of its own: C's frames lie below this one, and f may end the goroutine that it runs in.
		done := make(chan struct{})
		returned = false
		go func() {
			defer close(done)
			defer func() { panicked = recover() }()
			result = f()
			returned = true
		}()
		<-done
		if result != nil {
			return onceFailed
		}
		return 0
	})
	defer handle.Delete()
	code, err := o.pool.wait(ctx, o.what, o.turn, func(timeout C.int64_t) C.int {
		return C.tine_go_once((*C.tine_once)(o.address.pointer()), C.uintptr_t(handle), timeout)
	})
	switch {
	case err != nil:
		return err
	case code == onceFailed:
		return result
	case code != 0:
		return failed(o.what, code)
	}
	o.done.Store(true)
	if panicked != nil {
		panic(panicked)
	}
	if !returned {
		return &Error{What: o.what, Code: otherFailure, Message: "the function has ended its goroutine"}
	}
	return nil
}

// What the initialiser in C returns when f has failed: none of tine's codes, which are negative.
const onceFailed = 1

//export tineGoOnce
func tineGoOnce(user C.uintptr_t) C.int {
	return C.int(cgo.Handle(user).Value().(func() int)())
}
