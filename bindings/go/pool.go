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

// A StartMethod is how workers come into being.
type StartMethod int

const (
	// StartDefault is StartSpawn, and StartForkserver where Options.WorkerPath names a program.
	StartDefault StartMethod = iota
	// StartSpawn starts a fresh program for each worker: what Go needs.
	StartSpawn
	// StartForkserver starts a fresh program, of which workers are forked: for C functions in the program that
	// WorkerPath names. A Go program cannot be forked, since only the thread that forks goes along.
	StartForkserver
)

// An Engine is where workers are: docs/cluster.md of tine has more.
type Engine int

const (
	EngineDefault    Engine = C.TINE_ENGINE_DEFAULT      // here, unless TINE_ENGINE says "mpi" or "mpi-or-local"
	EngineLocal      Engine = C.TINE_ENGINE_LOCAL        // on this machine
	EngineMPI        Engine = C.TINE_ENGINE_MPI          // on the nodes of the MPI job that the program is rank 0 of
	EngineMPIOrLocal Engine = C.TINE_ENGINE_MPI_OR_LOCAL // the same, or here where there is no such job
)

// An Output says where workers' standard output and error go.
type Output int

const (
	OutputInherit Output = C.TINE_OUTPUT_INHERIT // where the host's go
	OutputCapture Output = C.TINE_OUTPUT_CAPTURE // the last 64 KiB of each worker are kept for Death.Output
	OutputNull    Output = C.TINE_OUTPUT_NULL    // nowhere
)

// Options are what a pool can be told. The zero value is the default of every field.
type Options struct {
	// Workers is how many; 0: one for each processor that the program may use.
	Workers int
	// MinWorkers is with how many the pool begins and how many it keeps; others, up to Workers, come while tasks wait
	// and go when they have been idle for IdleTimeout. 0: as many as Workers.
	MinWorkers  int
	IdleTimeout time.Duration

	// Engine says on which machines the workers are.
	Engine Engine
	Start  StartMethod
	// WorkerPath is the program of the workers; "": this one, which has to call Main. The one that tine is
	// installed with runs functions of the libraries in Preload: pkg-config --variable=worker tine says where it is.
	WorkerPath string
	// WorkerArguments is what that program is called with, besides its name.
	WorkerArguments []string
	// Preload are shared libraries that the workers load; their constructors may register functions.
	Preload []string

	// Deadline is how long a task or an item may run, unless it has one of its own; 0: as long as it likes.
	Deadline time.Duration
	// Grace is how long a task that is late or cancelled may still take before its worker is ended; 0: 200 ms.
	Grace time.Duration
	// StartTimeout is how long a worker may take to become ready; 0: ten seconds.
	StartTimeout time.Duration
	// Initializer is what each worker calls before it takes tasks: Function.Initializer makes it.
	Initializer Initializer

	// MaxTasksPerWorker, RecycleAge and RecycleBytes say when a worker is replaced in good order: after so many tasks,
	// when it is so old, when it has so much private memory; 0: never.
	MaxTasksPerWorker int
	RecycleAge        time.Duration
	RecycleBytes      uint64
	// MaxWorkerBytes is the most private memory that a worker may have in the middle of a task; 0: any amount.
	MaxWorkerBytes uint64

	// Environment has the changes of the workers' environment: "NAME=value", or "NAME" for one that is to go.
	Environment []string
	// Directory is the workers' working directory; "": the host's.
	Directory string
	// LibraryThreads is how many threads numerical libraries are to start in each worker, and GOMAXPROCS; 0: they are
	// told nothing.
	LibraryThreads int
	// Nice is added to the workers' niceness.
	Nice int

	Output Output
	// OutputPath is a file to which workers write instead, at its end.
	OutputPath string
	// CoreFiles lets workers that crash leave core files, as far as the limits allow.
	CoreFiles bool

	// HeapBytes is the most that the pool's heap may grow to; 0: 256 GiB or what the limits allow.
	HeapBytes uint64
	// WindowTasks and WindowBytes are how many tasks may be submitted and not settled, and how many bytes their inputs
	// may have; Submit waits for room. 0: 1,048,576 tasks, and any number of bytes.
	WindowTasks int
	WindowBytes uint64

	// Faults are what is to go wrong, for tests.
	Faults Faults
}

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
		unsafe.Pointer(unsafe.SliceData(initializer.message)), C.size_t(len(initializer.message)))
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

func cBool(b bool) C.int {
	if b {
		return 1
	}
	return 0
}

// inC gives the options as C has them, and what frees their strings.
func (o *Options) inC() (c C.tine_pool_options, free func(), err error) {
	var strs []unsafe.Pointer
	free = func() {
		for _, s := range strs {
			C.free(s)
		}
	}
	text := func(s string) *C.char {
		if s == "" {
			return nil
		}
		if strings.ContainsRune(s, 0) {
			err = invalid("pool", "%q has a zero byte in it", s)
		}
		p := C.CString(s)
		strs = append(strs, unsafe.Pointer(p))
		return p
	}
	for _, n := range []struct {
		name  string
		value int64
	}{
		{"Workers", int64(o.Workers)}, {"MinWorkers", int64(o.MinWorkers)}, {"IdleTimeout", int64(o.IdleTimeout)},
		{"Deadline", int64(o.Deadline)}, {"Grace", int64(o.Grace)}, {"StartTimeout", int64(o.StartTimeout)},
		{"MaxTasksPerWorker", int64(o.MaxTasksPerWorker)}, {"RecycleAge", int64(o.RecycleAge)},
		{"LibraryThreads", int64(o.LibraryThreads)}, {"WindowTasks", int64(o.WindowTasks)},
	} {
		if n.value < 0 {
			return c, free, invalid("pool", "Options.%s is %d", n.name, n.value)
		}
	}
	for _, library := range o.Preload {
		if strings.ContainsRune(library, ':') {
			return c, free, invalid("pool", "Options.Preload has %q, with a colon, which is between two libraries in C", library)
		}
	}
	start := o.Start
	if start == StartDefault && o.WorkerPath != "" {
		start = StartForkserver
	}
	switch {
	case start == StartForkserver && o.WorkerPath == "":
		return c, free, invalid("pool", "StartForkserver forks the workers from a copy of this program, and a Go program "+
			"cannot be forked: its other threads would be missing. Use StartSpawn, or name another program in WorkerPath")
	case start == StartForkserver:
		c.start = C.TINE_START_FORKSERVER
	case start == StartDefault || start == StartSpawn:
		c.start = C.TINE_START_SPAWN
	default:
		return c, free, invalid("pool", "Options.Start is %d, which is not a start method", int(start))
	}
	if o.CoreFiles {
		c.flags |= C.TINE_CORE_FILES
	}
	// In C's memory: what one call passes to C may not point into Go's.
	around := (*C.tine_worker_options)(C.calloc(1, C.sizeof_tine_worker_options))
	strs = append(strs, unsafe.Pointer(around))
	around.size = C.sizeof_tine_worker_options
	c.worker = around
	c.size = C.sizeof_tine_pool_options
	c.engine = C.int(o.Engine)
	c.workers = C.size_t(o.Workers)
	c.min_workers = C.size_t(o.MinWorkers)
	c.idle_timeout_ns = C.int64_t(o.IdleTimeout)
	c.worker_path = text(o.WorkerPath)
	c.preload = text(strings.Join(o.Preload, ":"))
	c.deadline_ns = C.int64_t(o.Deadline)
	c.grace_ns = C.int64_t(o.Grace)
	c.start_timeout_ns = C.int64_t(o.StartTimeout)
	c.max_tasks_per_worker = C.uint32_t(o.MaxTasksPerWorker)
	c.recycle_age_ns = C.int64_t(o.RecycleAge)
	c.recycle_bytes = C.uint64_t(o.RecycleBytes)
	c.max_worker_bytes = C.uint64_t(o.MaxWorkerBytes)
	around.directory = text(o.Directory)
	around.library_threads = C.uint32_t(o.LibraryThreads)
	around.nice = C.int(o.Nice)
	around.output = C.int(o.Output)
	around.output_path = text(o.OutputPath)
	c.heap_bytes = C.size_t(o.HeapBytes)
	c.window_tasks = C.size_t(o.WindowTasks)
	c.window_bytes = C.size_t(o.WindowBytes)
	if c.faults = o.Faults.inC(); c.faults != nil {
		strs = append(strs, unsafe.Pointer(c.faults))
	}
	list := func(lines []string) **C.char {
		if len(lines) == 0 {
			return nil
		}
		list := (**C.char)(C.calloc(C.size_t(len(lines)+1), C.size_t(unsafe.Sizeof(uintptr(0)))))
		strs = append(strs, unsafe.Pointer(list))
		for i, line := range lines {
			place := &unsafe.Slice(list, len(lines))[i]
			if *place = text(line); *place == nil {
				*place = C.CString("") // text has nil for it, which would be the list's end
				strs = append(strs, unsafe.Pointer(*place))
			}
		}
		return list
	}
	c.worker_arguments = list(o.WorkerArguments)
	around.environment = list(o.Environment)
	return c, free, err
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
// everything in it. It waits for calls that are in progress: Map, waits for locks and queues end by themselves. Again
// it does nothing.
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
