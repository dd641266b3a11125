package tine

import "context"

// turn lets one goroutine of the process at a time wait in C for a thing, where each that waits holds a thread. The
// others wait for their turn, in Go, in the order in which they came.
type turn struct{ taken chan struct{} }

func newTurn() *turn { return &turn{make(chan struct{}, 1)} }

func (t *turn) isFree() bool { return len(t.taken) == 0 }

func (t *turn) take(ctx context.Context) error {
	select {
	case t.taken <- struct{}{}:
		return nil
	default:
	}
	select {
	case t.taken <- struct{}{}:
		return nil
	case <-ctx.Done():
		return &Error{What: "waiting", Code: codeOf(ctx.Err()), Cause: context.Cause(ctx)}
	}
}

func (t *turn) give() { <-t.taken }
