package tine_test

import (
	"context"
	"runtime"
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

var allocations = tine.Register("allocations", func(context.Context, struct{}) (uint64, error) {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.Mallocs, nil
})

// In its worker a task costs its context.
func TestATaskCostsItsWorkerOneAllocation(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	const n = 1000
	before := got(allocations.Call(background, pool, struct{}{}))(t)
	for range n {
		got(add.Call(background, pool, job{1, 2}))(t)
	}
	// The runtime's own goroutines allocate now and then.
	if each := float64(got(allocations.Call(background, pool, struct{}{}))(t)-before) / n; each > 1.5 {
		t.Errorf("%v allocations", each)
	}
}
