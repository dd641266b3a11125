package tine_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"tine.example/tine"
)

// Each comes where it is asked for, and nowhere else.
func TestFaults(t *testing.T) {
	ctx := context.Background()
	one := func(t *testing.T, faults tine.Faults) *tine.Pool {
		return newPool(t, tine.Options{Workers: 1, Faults: faults})
	}
	for name, faults := range map[string]tine.Faults{"call": {KillCall: 2}, "return": {KillReturn: 2}} {
		t.Run(name, func(t *testing.T) {
			pool := one(t, faults)
			for call := 1; call <= 3; call++ {
				_, err := add.Call(ctx, pool, job{1, 2})
				if errors.Is(err, tine.ErrWorkerDied) != (call == 2) || call != 2 && err != nil {
					t.Errorf("call %d: %v", call, err)
				}
			}
		})
	}
	t.Run("start", func(t *testing.T) {
		if _, err := add.Call(ctx, one(t, tine.Faults{KillStart: 1}), job{1, 2}); err != nil {
			t.Error(err)
		}
		// Each of them: there is no pool, and it says so when the time for a start is over.
		never := tine.Options{Workers: 1, Faults: tine.Faults{Seed: 1, KillStart: 1}, StartTimeout: 300 * time.Millisecond}
		if pool, err := tine.NewPool(never); !errors.Is(err, tine.ErrWorkerStart) {
			t.Error(err)
			if err == nil {
				pool.Close()
			}
		}
	})
	t.Run("delay", func(t *testing.T) {
		late, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		pool := one(t, tine.Faults{DelayCall: 1, Delay: time.Hour})
		if _, err := add.Call(late, pool, job{1, 2}); !errors.Is(err, tine.ErrDeadline) && !errors.Is(err, tine.ErrCanceled) {
			t.Error(err)
		}
	})
	t.Run("allocation", func(t *testing.T) {
		pool := one(t, tine.Faults{FailAlloc: 1})
		if _, err := tine.Alloc[int](pool, 10); !errors.Is(err, tine.ErrNoMemory) {
			t.Error(err)
		}
		if _, err := tine.Alloc[int](pool, 10); err != nil {
			t.Error(err)
		}
	})
	if _, err := tine.NewPool(tine.Options{Faults: tine.Faults{DelayCall: 1}}); !errors.Is(err, tine.ErrInvalid) {
		t.Error(err)
	}
}
