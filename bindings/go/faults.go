package tine

/*
#include "glue.h"
*/
import "C"

import "time"

// Faults are what is to go wrong in a pool, so that a test sees what its program makes of it: Options.Faults. The zero value is
// nothing. docs/testing.md is the guide.
//
// Each kind of fault has numbers of its own kind, counted from 1 over all processes of the pool. With Seed 0 it comes once, at
// the number given. With another seed it comes at one number in so many, and the seed decides which: the same ones in every run.
type Faults struct {
	Seed uint64
	// KillStart: this worker that starts, or one in so many, is killed before its initializer runs.
	KillStart uint64
	// KillCall and KillReturn: the worker is killed at this call of a function (a task, an item of a map; a retry is a call more),
	// before the function runs, or when it has returned and nothing of its result is left.
	KillCall, KillReturn uint64
	// DelayCall: the function is called Delay later, as part of its own time.
	DelayCall uint64
	Delay     time.Duration
	// FailAlloc: this allocation in the pool's heap, of the host or a worker, fails as when memory is full.
	FailAlloc uint64
}

// inC is nil where nothing is to go wrong; otherwise C's memory, to be freed.
func (f *Faults) inC() *C.tine_faults {
	if *f == (Faults{}) {
		return nil
	}
	c := (*C.tine_faults)(C.calloc(1, C.sizeof_tine_faults))
	c.size = C.sizeof_tine_faults
	c.seed = C.uint64_t(f.Seed)
	c.kill_start = C.uint64_t(f.KillStart)
	c.kill_call = C.uint64_t(f.KillCall)
	c.kill_return = C.uint64_t(f.KillReturn)
	c.delay_call = C.uint64_t(f.DelayCall)
	c.delay_ns = C.int64_t(f.Delay)
	c.fail_alloc = C.uint64_t(f.FailAlloc)
	return c
}
