package tine

/*
#include "glue.h"
*/
import "C"

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// A Function is a function of the workers, by its name, with the types that go in and come out. It is made by Register
// or Named, and used from any goroutine.
type Function[In, Out any] struct {
	*shared[In, Out]
	options *TaskOptions // nil: the defaults
}

type shared[In, Out any] struct {
	name string
	c    *C.char // the name; kept for good
	in   codec[In]
	out  codec[Out]
}

// TaskOptions are what a task, or an item of a map, can be told. The zero value is the default.
type TaskOptions struct {
	// Deadline is how long the function may run from its beginning; 0: as Options.Deadline says.
	Deadline time.Duration
	// QueueDeadline is how soon a task must begin; 0: whenever there is a worker for it. Not for items of maps.
	QueueDeadline time.Duration
	// Retries is how often a task may run again after its process has died with it, if it is Idempotent: running it
	// twice does no harm.
	Retries    int
	Idempotent bool
	// RoomTimeout is how long Submit waits while the pool's window is full; 0: until its context is done; negative: not
	// at all, and it is ErrWouldBlock.
	RoomTimeout time.Duration
	// Channel is an end of a channel that the task is to have, by ChannelOf. It is given away once the task has been submitted. Not
	// for items of maps.
	Channel End
}

// Register makes f a function that workers can be asked to call. It has to be called before Main, in every process
// alike: as the value of a package's variable, say. It panics if the name is taken, or if In or Out is a type whose
// values cannot travel, with the reason. How values travel is said at the top of this page.
//
// In the worker, ctx is cancelled when the task is to end, and when f has returned; an In of type []byte is shared
// memory, which must not be used after that. A panic in f fails the task with ErrPanicked; an error fails it with the
// error's text (up to 184 bytes of it) and the syscall.Errno in its chain.
func Register[In, Out any](name string, f func(ctx context.Context, in In) (Out, error)) Function[In, Out] {
	function := Named[In, Out](name)
	in, out := function.in, function.out
	add(&registered{name: name, run: func(t *task, input unsafe.Pointer, length int) error {
		value, err := take(&in, input, length)
		if err != nil {
			return mislaid{fmt.Errorf("its input: %w", err)}
		}
		result, err := f(t, value)
		if err != nil {
			return err
		}
		if out.form == plain {
			return t.writePlain(unsafe.Pointer(&result), out.size)
		}
		boxed := result // apart, so that a plain one needs no memory of the heap's
		return write(t, &out, &boxed)
	}})
	return function
}

// take makes a function's input. A []byte is the very memory at p.
func take[In any](in *codec[In], p unsafe.Pointer, length int) (In, error) {
	if in.form == plain {
		var value In
		err := in.decodePlain(p, length, unsafe.Pointer(&value))
		return value, err
	}
	var boxed In // apart for the same reason
	err := in.decode(p, length, &boxed, true)
	return boxed, err
}

func (t *task) writePlain(value unsafe.Pointer, size int) error {
	if size == 0 {
		return nil
	}
	room := t.output(size)
	if room == nil {
		return noRoom(size)
	}
	copy(unsafe.Slice((*byte)(room), size), unsafe.Slice((*byte)(value), size))
	return nil
}

func write[Out any](t *task, out *codec[Out], result *Out) error {
	encoded, err := out.encode(result)
	if err != nil {
		return mislaid{fmt.Errorf("its output: %w", err)}
	}
	room := t.output(len(encoded))
	if room == nil {
		return noRoom(len(encoded))
	}
	copy(unsafe.Slice((*byte)(room), len(encoded)), encoded)
	return nil
}

// mislaid is ErrLayout in other words.
type mislaid struct{ error }

func (e mislaid) Unwrap() []error { return []error{ErrLayout, e.error} }

func noRoom(length int) error {
	return fmt.Errorf("no room for an output of %d bytes: %w", length, syscall.ENOMEM)
}

// Named is a function that others register: C or C++ in a library of Options.Preload, or another program. In and Out
// must be laid out as it has them; see Layout. It panics as Register does.
func Named[In, Out any](name string) Function[In, Out] {
	if !isName(name) {
		panic(fmt.Sprintf("tine: %q is not a function's name: 1 to 255 bytes, without zeros", name))
	}
	function := Function[In, Out]{shared: &shared[In, Out]{name: name, c: inC(name)}}
	var err error
	if function.in, err = newCodec[In](); err == nil {
		function.out, err = newCodec[Out]()
	}
	if err != nil {
		panic("tine: function " + name + ": " + err.Error())
	}
	return function
}

func isName(name string) bool {
	return name != "" && len(name) <= 255 && !strings.ContainsRune(name, 0)
}

// inC is a name as C has it. It is kept for good, once for each name.
func inC(name string) *C.char {
	if c, ok := names.Load(name); ok {
		return c.(*C.char)
	}
	c := C.CString(name)
	if other, loaded := names.LoadOrStore(name, c); loaded {
		C.free(unsafe.Pointer(c))
		return other.(*C.char)
	}
	return c
}

var names sync.Map

// Name is the name by which workers know the function.
func (f Function[In, Out]) Name() string { return f.name }

// With is the same function with other options.
func (f Function[In, Out]) With(options TaskOptions) Function[In, Out] {
	f.options = &options
	return f
}

// taskOptions are what With has said.
func (f *Function[In, Out]) taskOptions() TaskOptions {
	if f.options == nil {
		return TaskOptions{}
	}
	return *f.options
}

// Submit submits one call of the function. While the pool's window is full it waits for room.
//
// ctx goes with the task: when it is done, the task is cancelled, whether it waits or runs, and its worker is ended if
// it does not return in time. Failures of Submit itself are the future's.
func (f Function[In, Out]) Submit(ctx context.Context, pool *Pool, in In) *Future[Out] {
	return f.submit(ctx, pool, in, false)
}

func (f *Function[In, Out]) submit(ctx context.Context, pool *Pool, in In, alone bool) *Future[Out] {
	future := &Future[Out]{}
	future.endsWith(ctx)
	f.submitFuture(ctx, pool, in, alone, future, future)
	return future
}

// submitFuture submits a task whose end s is told of, which is the future or has it. The context ends the submitting alone.
func (f *Function[In, Out]) submitFuture(ctx context.Context, pool *Pool, in In, alone bool, future *Future[Out], s settler) {
	future.what, future.pool, future.out = &f.name, pool, &f.out
	var parcel parcel
	parcel.task.name = inNumbers(f.c)
	if f.in.form == plain && f.in.size <= C.TINE_GO_SMALL {
		parcel.task.length = C.size_t(f.in.size)
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&parcel.task.small)), C.TINE_GO_SMALL),
			unsafe.Slice((*byte)(unsafe.Pointer(&in)), f.in.size))
	} else {
		boxed := in // apart, so that the other way needs no memory of the heap's
		encoded, err := f.in.encode(&boxed)
		if err != nil {
			future.refuse(&Error{Code: ErrLayout, Message: err.Error()})
			return
		}
		parcel.input, parcel.task.length = encoded, C.size_t(len(encoded))
	}
	pool.submit(ctx, &future.work, &parcel, f.options, alone, s)
}

// Call submits one call and waits for what comes of it. When ctx is done, so is the call: it returns as soon as the
// task has settled.
func (f Function[In, Out]) Call(ctx context.Context, pool *Pool, in In) (Out, error) {
	return f.submit(ctx, pool, in, true).Wait(context.Background())
}

// Initializer is a call of the function that each worker makes before it takes tasks: Options.Initializer.
func (f Function[In, Out]) Initializer(in In) Initializer {
	encoded, err := f.in.encode(&in)
	message := append([]byte(f.name), 0)
	return Initializer{message: append(message, encoded...), err: err}
}

// An Initializer is a call that each worker makes before it takes tasks. A pool whose workers' initializer fails is
// not created.
type Initializer struct {
	message []byte
	err     error
}
