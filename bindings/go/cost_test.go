package tine_test

import (
	"testing"

	"tine.example/tine"
)

// A task costs its future, and no other memory of Go's.
func TestATaskCostsOneAllocation(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	run := func() {
		if sum, err := add.Submit(background, pool, job{1, 2}).Wait(background); err != nil || sum != 3 {
			t.Error(sum, err)
		}
	}
	call := func() {
		if sum, err := add.Call(background, pool, job{1, 2}); err != nil || sum != 3 {
			t.Error(sum, err)
		}
	}
	for name, f := range map[string]func(){"Submit": run, "Call": call} {
		if n := testing.AllocsPerRun(500, f); n > 1 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
