//go:build cgo

package tine

import (
	"context"
	"fmt"
	"sync"
)

// unread is an output that has come and is still to be decoded, where that runs code of the program's: UnmarshalBinary, GobDecode. Who
// wants the value runs it, once, in its own goroutine and with no lock held but this output's. So a decoder that panics, blocks or
// ends its goroutine does so in one that waits, and not in the one that passes on the results of all.
type unread struct {
	once     sync.Once
	decode   func() error
	err      *Error
	panicked any
}

// read decodes it. If the decoder panics, so does each call.
func (u *unread) read(what string) *Error {
	u.once.Do(func() {
		u.err = &Error{What: what, Code: otherFailure, Message: "its output: the decoder has ended its goroutine"}
		defer func() {
			u.decode = nil
			if value := recover(); value != nil {
				u.panicked = value
				panic(value)
			}
		}()
		u.err = misread(what, u.decode())
	})
	if u.panicked != nil {
		panic(u.panicked)
	}
	return u.err
}

// misread is what a task's decoder says is the matter with its output.
func misread(what string, err error) *Error {
	if err == nil {
		return nil
	}
	return &Error{What: what, Code: ErrLayout, Message: "its output: " + err.Error()}
}

// apart calls f, which runs code of the program's, for a goroutine of this package's: if f panics or ends its goroutine, that is an error.
func apart(what, part string, f func() error) error {
	var err error = &Error{What: what, Code: otherFailure, Message: part + ": its coder has ended its goroutine"}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if value := recover(); value != nil {
				err = &Error{What: what, Code: ErrPanicked, Message: fmt.Sprintf("%s: panic: %v", part, value)}
			}
		}()
		err = f()
	}()
	<-done
	return err
}

// waitApart is Wait for a goroutine of this package's.
func (f *Future[Out]) waitApart() (value Out, err error) {
	f.await(context.Background())
	if f.unread == nil {
		return f.Wait(context.Background())
	}
	err = apart(*f.what, "its output", func() (err error) {
		value, err = f.Wait(context.Background())
		return err
	})
	return value, err
}

// submitApart is Submit for a goroutine of this package's.
func (f Function[In, Out]) submitApart(ctx context.Context, pool *Pool, in In) (future *Future[Out]) {
	if !f.in.runsCode() {
		return f.Submit(ctx, pool, in)
	}
	err := apart(f.name, "its input", func() error {
		future = f.Submit(ctx, pool, in)
		return nil
	})
	if err != nil {
		future = &Future[Out]{work: work{what: &f.name, pool: pool}}
		future.refuse(err.(*Error))
	}
	return future
}
