package tine

/*
#include "glue.h"
*/
import "C"

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// task is a call of a Go function in this process, and the function's context.
type task struct {
	pointer *C.tine_task
	// Where a small output goes, and how long it is; nil where there is no such place.
	small  *C.char
	length *C.size_t

	mu    sync.Mutex
	done  chan struct{} // made when somebody asks for it
	ended bool          // as a context
	over  bool
	// Its end of a channel, if it has asked for that.
	channel *channelEnd
}

type taskKey struct{}

// Deadline is not known in a worker: the host ends what is late, and then Done is closed.
func (t *task) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done is closed when the task was cancelled, is past its deadline, or has returned.
func (t *task) Done() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.done == nil {
		t.done = make(chan struct{})
		if t.ended {
			close(t.done)
		} else {
			go t.watch()
		}
	}
	return t.done
}

func (t *task) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.look()
	if !t.ended {
		return nil
	}
	return context.Canceled
}

func (t *task) Value(key any) any {
	if _, ok := key.(taskKey); ok {
		return t
	}
	return nil
}

// look asks whether the task is to end. A task that is over is C's no more.
func (t *task) look() {
	if !t.ended && !t.over && bool(C.tine_cancelled(t.pointer)) {
		t.end()
	}
}

func (t *task) end() {
	t.ended = true
	if t.done != nil {
		close(t.done)
	}
}

// watch looks every millisecond, as long as somebody waits for Done.
func (t *task) watch() {
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for range ticker.C {
		t.mu.Lock()
		t.look()
		over := t.over || t.ended
		t.mu.Unlock()
		if over {
			return
		}
	}
}

func (t *task) finish() {
	t.mu.Lock()
	t.over = true
	if !t.ended {
		t.end()
	}
	channel := t.channel
	t.mu.Unlock()
	if channel != nil {
		channel.let("", func(*C.tine_channel) bool { return true }) // tine closes it
	}
}

// output is room for the task's output; nil where there is none.
func (t *task) output(length int) unsafe.Pointer {
	if t.small != nil && length <= C.TINE_GO_SMALL {
		*t.length = C.size_t(length)
		return unsafe.Pointer(t.small)
	}
	return C.tine_output(t.pointer, C.size_t(length))
}

// called is the function that was called last: programs call the same again and again.
var called atomic.Pointer[struct {
	name     unsafe.Pointer
	function *registered
}]

func lookUp(name *C.char) *registered {
	if last := called.Load(); last != nil && last.name == unsafe.Pointer(name) {
		return last.function
	}
	functions.Lock()
	function := functions.named[C.GoString(name)]
	functions.Unlock()
	called.Store(&struct {
		name     unsafe.Pointer
		function *registered
	}{unsafe.Pointer(name), function})
	return function
}

//export tineGoRun
func tineGoRun(pointer *C.tine_task, name *C.char, input unsafe.Pointer, length C.size_t, small *C.char, output *C.size_t) C.int {
	return run(lookUp(name), &task{pointer: pointer, small: small, length: output}, input, int(length))
}

//export tineGoInitialize
func tineGoInitialize(pointer *C.tine_task, name *C.char, input unsafe.Pointer, length C.size_t) C.int {
	functions.Lock()
	function := functions.named[C.GoString(name)]
	functions.Unlock()
	return run(function, &task{pointer: pointer}, input, int(length))
}

func run(function *registered, t *task, input unsafe.Pointer, length int) (status C.int) {
	pointer := t.pointer
	if function == nil {
		return fail(pointer, ErrFunction, "this program has no such Go function")
	}
	returned := false
	defer func() {
		t.finish()
		if returned {
			return
		}
		if value := recover(); value != nil {
			fmt.Fprintf(os.Stderr, "tine: %s: panic: %v\n%s", function.name, value, debug.Stack())
			status = fail(pointer, ErrPanicked, fmt.Sprintf("panic: %v", value))
			return
		}
		// C's frames, below this one, cannot be left behind; so the process is, and the task with it.
		fmt.Fprintf(os.Stderr, "tine: %s: runtime.Goexit in a task ends its worker\n", function.name)
		C.tine_go_end(goexitCode)
	}()
	err := function.run(t, input, length)
	if err == nil {
		returned = true
		return 0
	}
	code, text := codeOf(err), err.Error() // which is the program's code, too
	returned = true
	return fail(pointer, code, text)
}

// What a worker exits with whose task has called runtime.Goexit: EX_SOFTWARE.
const goexitCode = 70

// codeOf is the code by which an error of a Go function travels.
func codeOf(err error) Code {
	var code Code
	var number syscall.Errno
	switch {
	case errors.As(err, &code) && code >= -4095 && code < 0:
		return code
	case errors.As(err, &number) && number > 0 && number <= 4095:
		return -Code(number)
	case errors.Is(err, context.Canceled):
		return ErrCanceled
	case errors.Is(err, context.DeadlineExceeded):
		return ErrDeadline
	}
	return otherFailure
}

func fail(pointer *C.tine_task, code Code, text string) C.int {
	if code < -4095 {
		code = otherFailure
	}
	c := C.CString(text)
	defer C.free(unsafe.Pointer(c))
	C.tine_go_fail(pointer, C.int(code), c)
	return C.int(code)
}

var ownPool struct {
	sync.Mutex
	pool *Pool
}

// PoolOf is the pool whose task has this context, in its worker: for what the task allocates in the pool's heap, for
// queues and locks whose address it was given, and for tasks of its own, which run there and then in the same worker.
// It is valid as long as the worker lives. In a context that is no task's, the pool is nil.
func PoolOf(ctx context.Context) *Pool {
	t, _ := ctx.Value(taskKey{}).(*task)
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return nil
	}
	pointer := C.tine_task_pool(t.pointer)
	ownPool.Lock()
	defer ownPool.Unlock()
	if ownPool.pool == nil || ownPool.pool.pointer != pointer {
		ownPool.pool = &Pool{&core{pointer: pointer, nested: true, ending: context.Background()}}
	}
	return ownPool.pool
}

// ContextBytes are the bytes that every item of a map sees: MapOptions.Context. They may be read until the function
// returns.
func ContextBytes(ctx context.Context) []byte {
	t, _ := ctx.Value(taskKey{}).(*task)
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return nil
	}
	var length C.size_t
	p := C.tine_context(t.pointer, &length)
	return unsafe.Slice((*byte)(p), int(length))
}
