package tine_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"tine.example/tine"
)

// A party whose deadline passes as the last one comes has met, or has broken the barrier, and both sides say the same: nobody breaks
// a meeting that is over, or the next one.
func TestBarrierAtItsDeadline(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	b := got(tine.NewBarrier(pool, 2))(t)
	met, broken := 0, 0
	within(t, 2*hang, func() {
		for range 2000 {
			limit := time.Duration(rand.N(400)) * time.Microsecond
			ctx, cancel := context.WithTimeout(background, limit)
			defer cancel()
			theirs := make(chan error, 1)
			// One that comes too late to begin does not come at all.
			company, alone := context.WithCancel(background)
			go func() {
				_, err := b.Wait(ctx)
				if err != nil {
					alone()
				}
				theirs <- err
			}()
			for begun, until := time.Now(), limit+time.Duration(rand.N(100))*time.Microsecond; time.Since(begun) < until; {
			}
			_, mine := b.Wait(company)
			switch theirs := <-theirs; {
			case mine == nil && theirs == nil:
				met++
			case errors.Is(theirs, context.DeadlineExceeded) && (errors.Is(mine, tine.ErrBroken) || errors.Is(mine, context.Canceled)):
				broken++
				must(t, b.Reset())
			default:
				t.Error(theirs, mine)
				return
			}
			cancel()
			alone()
		}
	})
	t.Log(met, "met,", broken, "broken")
}

// Of a meeting that has taken place all parties say so, though the context of one is done by the time that it looks.
func TestBarrierThatHasMetIsNoFailure(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	b := got(tine.NewBarrier(pool, 2))(t)
	within(t, 2*hang, func() {
		for range 2000 {
			ctx, cancel := context.WithCancel(background)
			done := make(chan error, 1)
			go func() {
				_, err := b.Wait(ctx)
				done <- err
			}()
			_, mine := b.Wait(background) // the other one has come, so they have met
			cancel()
			if theirs := <-done; mine != nil || theirs != nil {
				t.Error(mine, theirs)
				return
			}
		}
	})
}
