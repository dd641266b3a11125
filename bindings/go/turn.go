package tine

import "context"

// turn lets one goroutine of the process at a time wait in C for a thing, where each that waits holds a thread. The
// others wait for their turn, in Go, in the order in which they came.
type turn struct{ taken chan struct{} }

func newTurn() *turn { return &turn{make(chan struct{}, 1)} }

func (t *turn) isFree() bool { return len(t.taken) == 0 }

// take takes the turn, unless ctx is done before that, or the pool is being closed.
func (t *turn) take(ctx context.Context, p *core, what string) error {
	if t.try() {
		return nil
	}
	select {
	case t.taken <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ended(ctx, what)
	case <-p.ending.Done():
		return closed(what)
	}
}

func (t *turn) give() { <-t.taken }

// try takes the turn if nobody has it; whether it did.
func (t *turn) try() bool {
	select {
	case t.taken <- struct{}{}:
		return true
	default:
		return false
	}
}
