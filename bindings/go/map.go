package tine

/*
#include "glue.h"
*/
import "C"

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/cgo"
	"slices"
	"strings"
	"unsafe"
)

// MapOptions are what a map can be told. The zero value is the default.
type MapOptions struct {
	// Chunk is how many items go to a worker at a time; 0: as many as take about a millisecond. It decides the speed and
	// nothing else.
	Chunk int
	// Context are bytes that the function finds with ContextBytes for every item, in C with tine_context. Items and results
	// must have no pointers in them, and a map that has begun then goes on when its context.Context is done.
	Context []byte
	// StopOnFailure lets no other item begin after the first that fails.
	StopOnFailure bool
	// Progress is called now and then, and at the end, with how many items have been dealt with. One that panics, or ends its goroutine,
	// is not called again, and the map goes on: the panic, or the end, comes when it is over. A map whose context can be cancelled ends
	// at once.
	Progress func(done, total int)
}

// A MapError says which items of a map have failed, in their order. errors.Is and errors.As look through all of them.
type MapError struct {
	Items []ItemError
	total int
}

// An ItemError is what one item has failed with.
type ItemError struct {
	Item int
	Err  *Error
}

func (e *MapError) Error() string {
	first := strings.TrimPrefix(e.Items[0].Err.Error(), "tine: ")
	return fmt.Sprintf("tine: %d of %d items failed; item %d: %s", len(e.Items), e.total, e.Items[0].Item, first)
}

// Unwrap gives ErrItems, and what the items have failed with.
func (e *MapError) Unwrap() []error {
	all := []error{ErrItems}
	for _, item := range e.Items {
		all = append(all, item.Err)
	}
	return all
}

// Map calls a function for each item, on all workers, and waits until all have been dealt with. A worker that dies costs
// the one item that it was running. If items fail, the error is a *MapError, and the results of the others are there.
//
// When ctx is done, items that have not begun never do, and those that run are cancelled. With a ctx that can be
// cancelled each item is a task of its own, which costs about a microsecond; with one that can't, and types without
// pointers, items go to the workers in chunks, which costs a fraction of that. Results are the same.
func Map[In, Out any](ctx context.Context, pool *Pool, f Function[In, Out], in []In) ([]Out, error) {
	return MapWith(ctx, pool, f, in, MapOptions{})
}

// MapWith is Map with options.
func MapWith[In, Out any](ctx context.Context, pool *Pool, f Function[In, Out], in []In, options MapOptions) ([]Out, error) {
	out := make([]Out, len(in))
	return out, MapInto(ctx, pool, f, in, out, options)
}

// MapInto is Map with a place for the results, which may lie in the pool's heap, as the items may: then they are used
// where they are, and not copied. out is as long as in.
func MapInto[In, Out any](ctx context.Context, pool *Pool, f Function[In, Out], in []In, out []Out, options MapOptions) error {
	if len(out) != len(in) {
		return invalid(f.name, "room for %d results of %d items", len(out), len(in))
	}
	if options.Chunk < 0 {
		return invalid(f.name, "MapOptions.Chunk is %d", options.Chunk)
	}
	own := f.taskOptions()
	if err := own.check(); err != nil {
		err.What = f.name
		return err
	}
	if ctx.Err() != nil {
		return ended(ctx, f.name)
	}
	whole := f.in.form == plain && f.out.form == plain && f.in.size > 0
	if whole && (ctx.Done() == nil || options.Context != nil || pool.nested) {
		return mapChunks(pool, f, in, out, options)
	}
	if options.Context != nil {
		return invalid(f.name, "MapOptions.Context needs items and results without pointers")
	}
	return mapTasks(ctx, pool, f, in, out, options)
}

// mapping is what the callbacks of a map in C find by their handle.
type mapping struct {
	what     string
	failed   []ItemError
	progress func(done, total int)
	// What progress has panicked with, and that it has ended its goroutine.
	panicked any
	over     bool
}

func mapChunks[In, Out any](pool *Pool, f Function[In, Out], in []In, out []Out, options MapOptions) error {
	if err := pool.enter(f.name); err != nil {
		return err
	}
	defer pool.leave()
	if pool.closing.Load() {
		return closed(f.name)
	}
	m := &mapping{what: f.name, progress: options.Progress}
	handle := cgo.NewHandle(m)
	defer handle.Delete()
	var flags C.uint32_t
	own := f.taskOptions()
	if own.Idempotent {
		flags |= C.TINE_IDEMPOTENT
	}
	if options.StopOnFailure {
		flags |= C.TINE_STOP_ON_FAILURE
	}
	answer := C.tine_go_map(pool.pointer, f.c, unsafe.Pointer(&some(bytesOf(in))[0]), C.size_t(f.in.size),
		unsafe.Pointer(&some(bytesOf(out))[0]), C.size_t(f.out.size), C.size_t(len(in)), unsafe.Pointer(&some(options.Context)[0]),
		C.size_t(len(options.Context)), C.size_t(options.Chunk), C.int64_t(own.Deadline),
		C.uint32_t(own.Retries), flags, cBool(options.Progress != nil), C.uintptr_t(handle))
	m.raise()
	if err := failedWith(f.name, answer); err != nil && !errors.Is(err, ErrItems) {
		return err
	}
	return m.result(len(in))
}

func (m *mapping) result(total int) error {
	if len(m.failed) == 0 {
		return nil
	}
	slices.SortFunc(m.failed, func(a, b ItemError) int { return a.Item - b.Item })
	return &MapError{m.failed, total}
}

//export tineGoFailure
func tineGoFailure(r *C.tine_result, item C.size_t, user C.uintptr_t) {
	m := cgo.Handle(user).Value().(*mapping)
	m.failed = append(m.failed, ItemError{int(item), failure(m.what, r)})
}

//export tineGoProgress
func tineGoProgress(done, total C.size_t, user C.uintptr_t) {
	cgo.Handle(user).Value().(*mapping).report(int(done), int(total))
}

// report calls progress in a goroutine of its own: C's frames lie below this one, and cannot be left behind.
func (m *mapping) report(done, total int) {
	if m.over || m.panicked != nil {
		return
	}
	reported := make(chan struct{})
	go func() {
		defer close(reported)
		m.over = true
		defer func() { m.panicked = recover() }()
		m.progress(done, total)
		m.over = false
	}()
	<-reported
}

// raise does, when C has returned, what progress was kept from.
func (m *mapping) raise() {
	switch {
	case m.panicked != nil:
		panic(m.panicked)
	case m.over:
		runtime.Goexit()
	}
}

// mapTasks makes a task of each item, a few hundred at a time.
func mapTasks[In, Out any](ctx context.Context, pool *Pool, f Function[In, Out], in []In, out []Out, options MapOptions) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m := &mapping{what: f.name}
	var call *Error // of what has failed without being an item's failure
	stats, _ := pool.Stats()
	window := max(256, 4*stats.Workers)
	harvest := &harvest[Out]{ctx: ctx, underWay: make([]*mapItem[Out], len(in))}
	next, done := 0, 0
	stop := afterFunc(ctx, harvest.end)
	defer func() {
		stop()
		if done < len(in) { // Progress has panicked, or ended its goroutine
			harvest.end()
		}
	}()
	for done < len(in) {
		for ; next < len(in) && next-done < window; next++ {
			item := &mapItem[Out]{item: next, harvest: harvest}
			f.submitFuture(ctx, pool, in[next], false, &item.Future, item)
			harvest.submitted(item)
			if item.refused {
				harvest.add(next)
			}
		}
		for _, at := range harvest.wait(pool) {
			value, err := harvest.take(at).Wait(context.Background())
			if err == nil {
				out[at] = value
			} else {
				var clear Out
				out[at] = clear
				failure := err.(*Error)
				m.failed = append(m.failed, ItemError{at, failure})
				switch failure.Code {
				case ErrShutdown, ErrName, ErrWorkerStart, ErrFunction:
					if failure.Delivery == NotStarted && call == nil {
						call = failure
					}
				}
				if options.StopOnFailure || call != nil {
					cancel()
				}
			}
			done++
			if options.Progress != nil {
				options.Progress(done, len(in))
			}
		}
	}
	if call != nil {
		return call
	}
	return m.result(len(in))
}

// A Result is what came of one item of a stream.
type Result[Out any] struct {
	Item   int // its place in the stream, from 0
	Value  Out
	Err    error
	Deaths int // how many processes have died while they ran it
}

// Stream calls a function for each item that comes from in, on all workers, and passes the results on in the same order.
// Between the two there are never more than window items (0: 16 for each worker). The results end when in is closed and
// all its items have been dealt with, or when ctx is done.
func Stream[In, Out any](ctx context.Context, pool *Pool, f Function[In, Out], in <-chan In, window int) <-chan Result[Out] {
	if window <= 0 {
		stats, _ := pool.Stats()
		window = 16 * max(stats.Workers, 1)
	}
	futures := make(chan *Future[Out], window-1)
	room := make(chan struct{}, window)
	results := make(chan Result[Out])
	go func() {
		defer close(futures)
		for {
			select {
			case room <- struct{}{}:
			case <-ctx.Done():
				return
			}
			select {
			case item, ok := <-in:
				if !ok {
					return
				}
				futures <- f.submitApart(ctx, pool, item)
			case <-ctx.Done():
				return
			}
		}
	}()
	go func() {
		defer close(results)
		item := 0
		for future := range futures {
			value, err := future.waitApart()
			if ctx.Err() == nil {
				select {
				case results <- Result[Out]{item, value, err, future.Deaths()}:
				case <-ctx.Done():
				}
			}
			item++
			<-room
		}
	}()
	return results
}
