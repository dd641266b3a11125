package tine

/*
#include "glue.h"
*/
import "C"

import (
	"context"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// ProcessOptions are what a process can be told. The zero value is the default.
type ProcessOptions struct {
	Start StartMethod
	// WorkerPath, WorkerArguments and Preload are as those of Options.
	WorkerPath      string
	WorkerArguments []string
	Preload         []string
	// Title is what ps shows; "": tine-process.
	Title string
	// Deadline is how long it may live from its start, whatever the host does meanwhile; 0: as long as it likes. Then it gets
	// SIGTERM, and after Grace (0: 200 ms) SIGKILL.
	Deadline, Grace time.Duration
	// StartTimeout is how long it may take until its function begins; 0: ten seconds.
	StartTimeout time.Duration
	// Channel is an end of a channel that it is to have, by ChannelOf. It is given away.
	Channel End
	// Segments are mapped in it at the addresses that they have here, before its function begins. They stay the caller's.
	Segments []*Segment
	// Detached: it goes on when this program ends, or closes the Process.
	Detached bool
	// Environment, Directory, Nice, Output and OutputPath are as those of Options.
	Environment []string
	Directory   string
	Nice        int
	Output      Output
	OutputPath  string
}

// A Process is a process of its own that calls one function, as a worker does, and ends when that returns. It is started by
// StartProcess, and killed by Close with all that it has started.
//
// A Process needs Close, also one that has ended: the garbage collector closes none, so one that was forgotten runs on until its
// function returns or this program ends, and keeps its descriptors.
type Process[Out any] struct {
	what   string
	handle *C.tine_process
	pid    int
	out    *codec[Out]
	ready  *readiness
	// The kernel tells of its end; otherwise it had no room for one more descriptor to watch, and who waits looks again and again.
	watched bool

	mu     sync.RWMutex // held for writing by Close
	watch  sync.Once
	done   chan struct{} // closed when it has ended, or the Process is closed
	value  Out
	status int
	err    error
	unread *unread // nil where there is nothing to decode
	death  *Death
}

// StartProcess starts a process that calls the function, and waits until that has begun. Its context there is a task's: ChannelOf has
// its end of a channel, PoolOf a heap of its own.
func StartProcess[In, Out any](f Function[In, Out], in In, options ProcessOptions) (*Process[Out], error) {
	encoded, err := f.in.encode(&in)
	if err != nil {
		return nil, &Error{What: f.name, Code: ErrLayout, Message: err.Error(), Delivery: NotStarted}
	}
	// The two have these in common, and say the same of what is wrong in them.
	common := Options{Start: options.Start, WorkerPath: options.WorkerPath, WorkerArguments: options.WorkerArguments,
		Preload: options.Preload, Deadline: options.Deadline, Grace: options.Grace, StartTimeout: options.StartTimeout,
		Environment: options.Environment, Directory: options.Directory, Nice: options.Nice, Output: options.Output,
		OutputPath: options.OutputPath}
	c, free, err := common.inC()
	defer free()
	if err != nil {
		return nil, err
	}
	if strings.ContainsRune(options.Title, 0) {
		return nil, invalid(f.name, "ProcessOptions.Title is %q, with a zero byte in it", options.Title)
	}
	title := C.CString(options.Title)
	defer C.free(unsafe.Pointer(title))
	if options.Title == "" {
		title = nil
	}
	// What may fail comes before the start: a process that has begun, and has the end of a channel, is the caller's.
	ready, err := newReadiness()
	if err != nil {
		return nil, &Error{What: f.name, Code: codeOf(err), Cause: err, Delivery: NotStarted}
	}
	started := false
	defer func() {
		if !started {
			ready.close()
		}
	}()
	segments, release, err := handlesOf(options.Segments, f.name)
	defer release()
	if err != nil {
		return nil, err
	}
	start := func(channel *C.tine_channel) C.tine_go_answer {
		return C.tine_go_process_start(c, f.c, title, cBool(options.Detached), channel,
			unsafe.SliceData(segments), C.size_t(len(segments)), unsafe.Pointer(&some(encoded)[0]), C.size_t(len(encoded)))
	}
	var answer C.tine_go_answer
	if options.Channel == nil {
		answer = start(nil)
	} else if err := options.Channel.end().let(f.name, func(channel *C.tine_channel) bool {
		answer = start(channel)
		return answer.code == 0
	}); err != nil {
		return nil, err
	}
	if err := failedWith(f.name, answer); err != nil {
		return nil, err
	}
	started = true
	p := &Process[Out]{what: f.name, handle: (*C.tine_process)(answer.made), out: &f.out, ready: ready, done: make(chan struct{})}
	p.pid = int(C.tine_process_pid(p.handle))
	p.watched = ready.watch(int(C.tine_process_fd(p.handle))) == nil
	return p, nil
}

// Done is closed when the process has ended.
func (p *Process[Out]) Done() <-chan struct{} {
	p.watch.Do(func() { go p.wait() })
	return p.done
}

// wait waits without a thread until the process has ended, and keeps what came of it.
func (p *Process[Out]) wait() {
	defer close(p.done)
	over := false
	attempt := func() bool {
		p.mu.RLock()
		defer p.mu.RUnlock()
		if p.handle == nil {
			return true
		}
		over = p.take(C.tine_process_alive(p.handle) != 1)
		return over
	}
	if p.watched {
		p.ready.wait(context.Background(), attempt)
	} else {
		for !attempt() {
			time.Sleep(10 * time.Millisecond)
		}
	}
	if !over {
		p.err = p.closed()
	}
}

func (p *Process[Out]) closed() error {
	return &Error{What: p.what, Code: ErrShutdown, Message: "the Process is closed"}
}

// take takes the answer, if the process has ended; whether it has. How it did its supervisor says within microseconds.
func (p *Process[Out]) take(ended bool) bool {
	timeout := C.int64_t(0)
	if ended {
		timeout = C.TINE_FOREVER
	}
	exit := (*C.tine_exit)(C.calloc(1, C.sizeof_tine_exit)) // which points into tine's memory
	defer C.free(unsafe.Pointer(exit))
	exit.size = C.sizeof_tine_exit
	if code := C.tine_process_wait(p.handle, timeout, exit); code != 0 {
		if !isWaiting(code) {
			p.err = failed(p.what, code)
		}
		return !isWaiting(code)
	}
	p.status, p.death = int(exit.status), deathOf(exit.death)
	if exit.status < 0 {
		err := &Error{What: p.what, Code: Code(exit.status), Message: C.GoString(exit.message), Delivery: Ran}
		if err.Code == ErrWorkerDied {
			err.Delivery, err.Death, err.Deaths = MaybeRan, p.death, 1
		}
		p.err = err
		return true
	}
	var err *Error
	if p.unread, err = p.out.read(p.what, exit.data, int(exit.length), &p.value); err != nil {
		p.err = err
	}
	return true
}

// Wait waits until the process has ended, or ctx is done, and gives what its function has. Any number of goroutines may wait, any number
// of times; they cost no threads. A process that exits or is killed in its function is ErrWorkerDied. An Out that has UnmarshalBinary or
// GobDecode is decoded here, once: if that panics, so does each Wait.
func (p *Process[Out]) Wait(ctx context.Context) (Out, error) {
	var none Out
	select {
	case <-p.Done():
	case <-ctx.Done():
		return none, ended(ctx, "waiting for "+p.what)
	}
	if p.unread != nil {
		if err := p.unread.read(p.what); err != nil {
			return none, err
		}
	}
	return p.value, p.err
}

// Exit waits as Wait does, and says how the process has ended: nil if it could not be waited for.
func (p *Process[Out]) Exit(ctx context.Context) *Death {
	select {
	case <-p.Done():
		return p.death
	case <-ctx.Done():
		return nil
	}
}

// Status waits for the process, and gives what its C function has returned, 0 of a Go function that succeeded, or the code of the
// failure; 0 too if it could not be waited for.
func (p *Process[Out]) Status() int {
	<-p.Done()
	return p.status
}

// PID is the process's number. It may be given to another one after its end.
func (p *Process[Out]) PID() int { return p.pid }

// Signal sends the process a signal; syscall.ESRCH: it has ended.
func (p *Process[Out]) Signal(signal syscall.Signal) error {
	number, err := numberInC(p.what, "signal", int(signal))
	if err != nil {
		return err
	}
	return p.call(func() C.int { return C.tine_process_kill(p.handle, number) })
}

// SignalTree sends one to the process and to everything that it has started and that is still there.
func (p *Process[Out]) SignalTree(signal syscall.Signal) error {
	number, err := numberInC(p.what, "signal", int(signal))
	if err != nil {
		return err
	}
	return p.call(func() C.int { return C.tine_process_kill_tree(p.handle, number) })
}

func (p *Process[Out]) call(f func() C.int) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.handle == nil {
		return p.closed()
	}
	return failed(p.what, f())
}

// Close kills the process with everything that it has started, unless it is Detached. Who waits for it gets ErrShutdown. Again it does
// nothing.
func (p *Process[Out]) Close() error {
	p.ready.close()
	p.mu.Lock()
	handle := p.handle
	p.handle = nil
	p.mu.Unlock()
	<-p.Done() // nobody writes any more what came of it
	C.tine_process_close(handle)
	return nil
}
