package tine

/*
#include "glue.h"
*/
import "C"

import (
	"math"
	"strings"
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

// inC gives the options as C has them, and what frees their memory.
func (o *Options) inC() (c C.tine_pool_options, free func(), err error) {
	var memory cMemory
	free = memory.free
	if err := o.check(); err != nil {
		return c, free, err
	}
	c.size = C.sizeof_tine_pool_options
	if c.start, err = o.startInC(); err != nil {
		return c, free, err
	}
	if o.CoreFiles {
		c.flags |= C.TINE_CORE_FILES
	}
	c.engine = C.int(o.Engine)
	c.workers = C.size_t(o.Workers)
	c.min_workers = C.size_t(o.MinWorkers)
	c.idle_timeout_ns = C.int64_t(o.IdleTimeout)
	c.worker_path = memory.text(o.WorkerPath)
	c.worker_arguments = memory.list(o.WorkerArguments)
	c.preload = memory.text(strings.Join(o.Preload, ":"))
	c.deadline_ns = C.int64_t(o.Deadline)
	c.grace_ns = C.int64_t(o.Grace)
	c.start_timeout_ns = C.int64_t(o.StartTimeout)
	c.max_tasks_per_worker = C.uint32_t(o.MaxTasksPerWorker)
	c.recycle_age_ns = C.int64_t(o.RecycleAge)
	c.recycle_bytes = C.uint64_t(o.RecycleBytes)
	c.max_worker_bytes = C.uint64_t(o.MaxWorkerBytes)
	c.heap_bytes = C.size_t(o.HeapBytes)
	c.window_tasks = C.size_t(o.WindowTasks)
	c.window_bytes = C.size_t(o.WindowBytes)
	c.worker = o.surroundingsInC(&memory)
	if c.faults = o.Faults.inC(); c.faults != nil {
		memory.keep(unsafe.Pointer(c.faults))
	}
	return c, free, memory.err
}

// surroundingsInC are what workers find around them. In C's memory: what one call passes to C may not point into Go's.
func (o *Options) surroundingsInC(memory *cMemory) *C.tine_worker_options {
	c := (*C.tine_worker_options)(C.calloc(1, C.sizeof_tine_worker_options))
	memory.keep(unsafe.Pointer(c))
	c.size = C.sizeof_tine_worker_options
	c.environment = memory.list(o.Environment)
	c.directory = memory.text(o.Directory)
	c.library_threads = C.uint32_t(o.LibraryThreads)
	c.nice = C.int(o.Nice)
	c.output = C.int(o.Output)
	c.output_path = memory.text(o.OutputPath)
	return c
}

// check says which number C has no room for, and what C could not tell apart.
func (o *Options) check() error {
	const most, most32, least32 = math.MaxInt64, math.MaxInt32, math.MinInt32
	for _, n := range []struct {
		name               string
		value, least, most int64
	}{
		{"Workers", int64(o.Workers), 0, most}, {"MinWorkers", int64(o.MinWorkers), 0, most},
		{"IdleTimeout", int64(o.IdleTimeout), 0, most}, {"Deadline", int64(o.Deadline), 0, most},
		{"Grace", int64(o.Grace), 0, most}, {"StartTimeout", int64(o.StartTimeout), 0, most},
		{"MaxTasksPerWorker", int64(o.MaxTasksPerWorker), 0, math.MaxUint32}, {"RecycleAge", int64(o.RecycleAge), 0, most},
		{"LibraryThreads", int64(o.LibraryThreads), 0, math.MaxUint32}, {"WindowTasks", int64(o.WindowTasks), 0, most},
		{"Nice", int64(o.Nice), least32, most32}, {"Engine", int64(o.Engine), least32, most32},
		{"Output", int64(o.Output), least32, most32},
	} {
		if n.value < n.least || n.value > n.most {
			return invalid("pool", "Options.%s is %d, which is not from %d to %d", n.name, n.value, n.least, n.most)
		}
	}
	for _, library := range o.Preload {
		if strings.ContainsRune(library, ':') {
			return invalid("pool", "Options.Preload has %q, with a colon, which is between two libraries in C", library)
		}
	}
	return nil
}

// startInC is the start method that the options come to.
func (o *Options) startInC() (C.int, error) {
	start := o.Start
	if start == StartDefault && o.WorkerPath != "" {
		start = StartForkserver
	}
	switch {
	case start == StartForkserver && o.WorkerPath == "":
		return 0, invalid("pool", "StartForkserver forks the workers from a copy of this program, and a Go program "+
			"cannot be forked: its other threads would be missing. Use StartSpawn, or name another program in WorkerPath")
	case start == StartForkserver:
		return C.TINE_START_FORKSERVER, nil
	case start == StartDefault || start == StartSpawn:
		return C.TINE_START_SPAWN, nil
	}
	return 0, invalid("pool", "Options.Start is %d, which is not a start method", int(start))
}

// cMemory is memory of C's that is freed together. err is what was wrong with a string.
type cMemory struct {
	blocks []unsafe.Pointer
	err    error
}

func (m *cMemory) free() {
	for _, block := range m.blocks {
		C.free(block)
	}
}

func (m *cMemory) keep(block unsafe.Pointer) { m.blocks = append(m.blocks, block) }

// text is nil for "", which is what C's options have by default.
func (m *cMemory) text(s string) *C.char {
	if s == "" {
		return nil
	}
	return m.line(s)
}

func (m *cMemory) line(s string) *C.char {
	if strings.ContainsRune(s, 0) {
		m.err = invalid("pool", "%q has a zero byte in it", s)
	}
	c := C.CString(s)
	m.keep(unsafe.Pointer(c))
	return c
}

// list is an array of strings with NULL at the end, and NULL itself without any.
func (m *cMemory) list(lines []string) **C.char {
	if len(lines) == 0 {
		return nil
	}
	list := (**C.char)(C.calloc(C.size_t(len(lines)+1), C.size_t(unsafe.Sizeof(uintptr(0)))))
	m.keep(unsafe.Pointer(list))
	for i, line := range lines {
		unsafe.Slice(list, len(lines))[i] = m.line(line)
	}
	return list
}

func cBool(b bool) C.int {
	if b {
		return 1
	}
	return 0
}

// numberInC is a descriptor or a signal as C has it: a larger one would be another one there.
func numberInC(what, kind string, n int) (C.int, error) {
	if int(C.int(n)) != n {
		return 0, invalid(what, "%s %d", kind, n)
	}
	return C.int(n), nil
}
