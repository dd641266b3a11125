package tine

/*
#include "glue.h"
*/
import "C"

import (
	"context"
	"errors"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// A Pool is a pool of worker processes. It is used from any number of goroutines; Close ends it, as does the garbage
// collector, some time, if nobody has it any more and no memory of its heap was ever given out as a slice or pointer (Alloc,
// At, Shared.Slice).
type Pool struct {
	// Apart, so that the dispatcher does not keep a pool alive that nobody else has any more.
	*core
}

type core struct {
	pointer *C.tine_pool
	nested  bool // of the tasks of this process, which is a worker

	// uses counts calls on the pool that are in progress; it is far below zero once the pool is closed. While it is being
	// closed nothing new begins, but what is held can still be released. unused says that uses has come to 0.
	uses    atomic.Int64
	closing atomic.Bool
	unused  chan struct{}
	close   sync.Once
	// ending is done when the pool is being closed; holders are the goroutines that hold locks for others.
	ending  context.Context
	end     context.CancelFunc
	holders sync.WaitGroup

	retakes retakes
	dispatcher
}

// NewPool starts a pool, and waits until its workers are ready. Main must have run, or Options.WorkerPath name another
// program.
func NewPool(options Options) (*Pool, error) {
	c, free, err := options.inC()
	defer free()
	if err != nil {
		return nil, err
	}
	initializer := options.Initializer
	if initializer.err != nil {
		return nil, &Error{What: "pool", Code: ErrLayout, Message: "initializer: " + initializer.err.Error()}
	}
	if options.WorkerPath == "" && !mainHasRun.Load() {
		return nil, &Error{What: "pool", Code: ErrNotInitialized,
			Message: "tine.Main has not run: it is the first thing in main, and in TestMain"}
	}
	answer := C.tine_go_pool_create(c, cBool(len(initializer.message) > 0),
		unsafe.Pointer(&some(initializer.message)[0]), C.size_t(len(initializer.message)))
	if err := failedWith("pool", answer); err != nil {
		return nil, err
	}
	pool := &Pool{&core{pointer: (*C.tine_pool)(answer.made)}}
	pool.unused = make(chan struct{}, 1)
	pool.ending, pool.end = context.WithCancel(context.Background())
	pool.start()
	// For a pool that was forgotten; its place is in Close.
	runtime.SetFinalizer(pool, func(p *Pool) { go p.Close() })
	return pool, nil
}

// pinned are the pools whose memory the program may still use though it has forgotten the pool: until they are closed.
var pinned sync.Map

// pin keeps the garbage collector from ending the pool.
func (p *Pool) pin() {
	if p.nested {
		return // a worker's, as long as the process
	}
	pinned.Store(p, nil)
	if p.closing.Load() {
		pinned.Delete(p)
	}
}

// enter begins a call on the pool, which leave ends; the pool is not destroyed meanwhile.
func (p *core) enter(what string) error {
	if p.uses.Add(1) <= 0 {
		p.uses.Add(-1)
		return closed(what)
	}
	return nil
}

func (p *core) leave() {
	if p.uses.Add(-1) == 0 && p.closing.Load() {
		select {
		case p.unused <- struct{}{}:
		default:
		}
	}
}

// Shutdown takes no more tasks, waits until all have settled, and ends the workers in good order. When ctx is done
// before that, the tasks go on, and Shutdown may be called again. The pool's memory stays until Close.
func (p *Pool) Shutdown(ctx context.Context) error {
	for {
		if err := p.enter("shutdown"); err != nil {
			return err
		}
		code := C.tine_pool_shutdown(p.pointer, C.int64_t(patience(ctx)))
		p.leave()
		if !isWaiting(code) {
			return failed("shutdown", code)
		}
		if ctx.Err() != nil {
			return ended(ctx, "shutdown")
		}
		if p.closing.Load() {
			return closed("shutdown")
		}
	}
}

// TryShutdown takes no more tasks, and is ErrWouldBlock while tasks are under way or workers are still ending. Otherwise it is
// as Shutdown.
func (p *Pool) TryShutdown() error {
	if err := p.enter("shutdown"); err != nil {
		return err
	}
	defer p.leave()
	return failed("shutdown", C.tine_pool_shutdown(p.pointer, 0))
}

// Close ends the pool: tasks that have not settled are cancelled, workers ended, and the heap's memory is gone, with
// everything in it. It waits for calls that are in progress: the pool's end ends waits for locks and queues, Shutdown and ShareSegment, and
// a Map whose context can be cancelled. Any other Map goes on until all its items have been dealt with; nothing but a deadline
// (Options.Deadline, TaskOptions.Deadline) ends those of its items that hang. Again Close does nothing.
func (p *Pool) Close() error {
	if p.nested {
		return &Error{What: "close", Code: ErrWorker, Message: "a worker's pool is the host's to close"}
	}
	p.close.Do(func() {
		runtime.SetFinalizer(p, nil)
		p.closing.Store(true)
		pinned.Delete(p)
		p.end()
		C.tine_cancel_all(p.pointer)
		const manyCalls = 1 << 40
		for !p.uses.CompareAndSwap(0, -manyCalls) {
			select {
			case <-p.unused:
			case <-time.After(longestWait):
			}
			C.tine_cancel_all(p.pointer) // what was just being submitted
			// Calls that take a mutex back in C get it: from this process, and from a worker by its end.
			p.retakes.letGo()
			C.tine_pool_shutdown(p.pointer, 0)
		}
		C.tine_cancel_all(p.pointer)
		p.holders.Wait() // nobody makes any more
		p.stop()
		C.tine_pool_destroy(p.pointer)
	})
	return nil
}

// Stats are counters of a pool.
type Stats struct {
	Workers, WorkersReady                             int
	Submitted, Settled, Outstanding                   uint64
	WorkerDeaths, WorkersRecycled, SupervisorDeaths   uint64
	HeapReservedBytes, HeapAllocatedBytes, HeapBlocks uint64
	ItemsSettled, ItemsFailed                         uint64
}

// Stats gives the pool's counters.
func (p *Pool) Stats() (Stats, error) {
	if err := p.enter("stats"); err != nil {
		return Stats{}, err
	}
	defer p.leave()
	var s C.tine_stats
	var heap C.tine_heap_info
	s.size, heap.size = C.sizeof_tine_stats, C.sizeof_tine_heap_info
	err := errors.Join(failed("stats", C.tine_pool_stats(p.pointer, &s)),
		failed("stats", C.tine_heap_stats(C.tine_pool_heap(p.pointer), &heap)))
	if err != nil {
		return Stats{}, err
	}
	return Stats{
		Workers: int(s.workers), WorkersReady: int(s.workers_ready),
		Submitted: uint64(s.submitted), Settled: uint64(s.settled), Outstanding: uint64(s.outstanding),
		WorkerDeaths: uint64(s.worker_deaths), WorkersRecycled: uint64(s.workers_recycled),
		SupervisorDeaths: uint64(s.supervisor_deaths), HeapReservedBytes: uint64(s.heap_reserved_bytes),
		HeapAllocatedBytes: uint64(s.heap_allocated_bytes), HeapBlocks: uint64(heap.used_blocks),
		ItemsSettled: uint64(s.items_settled), ItemsFailed: uint64(s.items_failed),
	}, nil
}

// StatsText gives the counters of pools in the format of Prometheus: what an HTTP server answers for /metrics, as
// text/plain; version=0.0.4. The keys become the label pool.
func StatsText(pools map[string]*Pool) (string, error) {
	handles := make([]*C.tine_pool, 0, len(pools))
	names := make([]*C.char, 0, len(pools))
	for _, name := range slices.Sorted(maps.Keys(pools)) {
		pool := pools[name]
		if strings.IndexByte(name, 0) >= 0 {
			return "", invalid("stats", "the name %q has a zero byte", name)
		}
		if pool == nil {
			return "", invalid("stats", "pool %q is nil", name)
		}
		if err := pool.enter("stats"); err != nil {
			return "", err
		}
		defer pool.leave()
		text := C.CString(name)
		defer C.free(unsafe.Pointer(text))
		handles, names = append(handles, pool.pointer), append(names, text)
	}
	if len(handles) == 0 {
		return "", invalid("stats", "no pools")
	}
	text := make([]byte, 2048*len(handles))
	for {
		var length C.size_t
		code := C.tine_stats_text(&handles[0], &names[0], C.size_t(len(handles)),
			(*C.char)(unsafe.Pointer(&text[0])), C.size_t(len(text)), &length)
		if Code(code) != ErrMessageTooLong {
			return string(text[:length]), failed("stats", code)
		}
		text = make([]byte, length+64) // counters grow, and their digits
	}
}

// longestWait is how long a call waits in C at a time, before it looks at its context and whether the pool is closed.
const longestWait = 50 * time.Millisecond

// patience is how long to wait in C now.
func patience(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return max(min(time.Until(deadline), longestWait), 0)
	}
	return longestWait
}

func isWaiting(code C.int) bool {
	c := Code(code)
	return c == ErrDeadline || c == ErrWouldBlock
}

// wait calls attempt, which waits in C for as long as it is told, until it has come to something, ctx is done or the
// pool is being closed. The first attempt, which does not wait, is made in any case.
func (p *core) wait(ctx context.Context, what string, turn *turn, attempt func(timeoutNS C.int64_t) C.int) (C.int, error) {
	try := func(timeout time.Duration) (C.int, error) {
		if err := p.enter(what); err != nil {
			return 0, err
		}
		defer p.leave()
		return attempt(C.int64_t(timeout)), nil
	}
	// Those that wait already come first.
	if turn.isFree() {
		if code, err := try(0); err != nil || !isWaiting(code) {
			return code, err
		}
	}
	if err := turn.take(ctx, p, what); err != nil {
		return 0, err
	}
	defer turn.give()
	for {
		code, err := try(patience(ctx))
		if err != nil || !isWaiting(code) {
			return code, err
		}
		if ctx.Err() != nil {
			return 0, ended(ctx, what)
		}
		if p.closing.Load() {
			return 0, closed(what)
		}
	}
}

// ended is the error of a call whose context is done.
func ended(ctx context.Context, what string) *Error {
	return &Error{What: what, Code: codeOf(ctx.Err()), Cause: context.Cause(ctx)}
}

func closed(what string) *Error {
	return &Error{What: what, Code: ErrShutdown, Message: "the pool is closed"}
}
