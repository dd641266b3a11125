package tine_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tine.example/tine"
)

var picky = tine.Register("picky", func(ctx context.Context, n int) (int, error) {
	switch {
	case n%10 == 3:
		return 0, fmt.Errorf("%d: %w", n, syscall.EDOM)
	case n == 50:
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case n == 1000:
		<-ctx.Done()
		return 0, ctx.Err()
	}
	return 2 * n, nil
})

func numbers(n int) []int {
	in := make([]int, n)
	for i := range in {
		in[i] = i
	}
	return in
}

// However the items get to the workers, what comes of them is the same.
func TestMapsAgree(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 2})
	cancellable, cancel := context.WithCancel(background)
	defer cancel()
	var before string
	for _, ctx := range []context.Context{background, cancellable} {
		for _, chunk := range []int{0, 1, 7} {
			last := 0
			out, err := tine.MapWith(ctx, pool, picky, numbers(100), tine.MapOptions{Chunk: chunk,
				Progress: func(done, total int) {
					if done < last || total != 100 {
						t.Error("progress", last, done, total)
					}
					last = done
				}})
			var failed *tine.MapError
			if !errors.As(err, &failed) || !errors.Is(err, tine.ErrItems) || !errors.Is(err, tine.ErrWorkerDied) || last != 100 {
				t.Fatal(err, last)
			}
			text := fmt.Sprint(out)
			for _, item := range failed.Items {
				text += fmt.Sprint(" ", item.Item, item.Err.Code.Name(), item.Err.Delivery, item.Err.Deaths, item.Err.Death != nil)
			}
			if before != "" && before != text {
				t.Errorf("%s\n%s", before, text)
			}
			before = text
		}
	}
}

func TestMapEnds(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 2})
	ctx, end := context.WithCancel(background)
	in := append(numbers(3), 1000) // one that waits, and a worker for the others
	within(t, hang, func() {
		out, err := tine.MapWith(ctx, pool, picky, in, tine.MapOptions{Progress: func(done, _ int) {
			if done == 3 {
				end()
			}
		}})
		if !errors.Is(err, context.Canceled) || !slices.Equal(out, []int{0, 2, 4, 0}) {
			t.Error(out, err)
		}
	})
	cancellable, cancel := context.WithCancel(background)
	defer cancel()
	for _, ctx := range []context.Context{background, cancellable} {
		_, err := tine.MapWith(ctx, pool, picky, numbers(10000), tine.MapOptions{StopOnFailure: true})
		if !errors.Is(err, syscall.EDOM) || !errors.Is(err, tine.ErrCanceled) {
			t.Error(err)
		}
	}
	if _, err := tine.Map(background, pool, picky, nil); err != nil {
		t.Error(err)
	}
	if err := tine.MapInto(background, pool, picky, numbers(3), numbers(2), tine.MapOptions{}); !errors.Is(err, tine.ErrInvalid) {
		t.Error(err)
	}
	// Items and results in the heap are used where they are.
	in, out := got(tine.Alloc[int](pool, 100))(t), got(tine.Alloc[int](pool, 100))(t)
	copy(in, slices.Repeat([]int{1, 2}, 50))
	must(t, tine.MapInto(background, pool, picky, in, out, tine.MapOptions{}))
	if out[98] != 2 || out[99] != 4 {
		t.Error(out)
	}
}

func TestStreamEnds(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 2})
	ctx, cancel := context.WithCancel(background)
	in := make(chan int)
	results := tine.Stream(ctx, pool, picky, in, 2)
	go func() {
		for _, n := range []int{1, 3, 50, 1000} {
			select {
			case in <- n: // the third waits until the first result is taken
			case <-ctx.Done():
			}
		}
	}()
	within(t, hang, func() {
		for i, want := range []error{nil, syscall.EDOM, tine.ErrWorkerDied} {
			r := <-results
			if r.Item != i || !errors.Is(r.Err, want) {
				t.Error(r)
			}
		}
		cancel()
		for r := range results {
			if !errors.Is(r.Err, context.Canceled) {
				t.Error(r)
			}
		}
	})
}

// nestedly runs f in a goroutine of its own: what it panicked with, and whether it ended its goroutine.
func nestedly(f func()) (what any, over bool) {
	over = isOver(func() { what = panicOf(f) })
	return what, over
}

// What a map's Progress panics with comes out of the map, which is over by then; so does the end of its goroutine.
func TestProgressThatDoesNotReturn(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 2})
	cancellable, cancel := context.WithCancel(background)
	defer cancel()
	within(t, hang, func() {
		for _, ctx := range []context.Context{background, cancellable} {
			calls := 0
			what, _ := nestedly(func() {
				tine.MapWith(ctx, pool, doubled, numbers(10000), tine.MapOptions{Progress: func(int, int) { calls++; panic("stop") }})
			})
			if what != "stop" || calls != 1 {
				t.Error(what, calls)
			}
			if _, over := nestedly(func() {
				tine.MapWith(ctx, pool, doubled, numbers(10000), tine.MapOptions{Progress: func(int, int) { runtime.Goexit() }})
			}); !over {
				t.Error("it goes on")
			}
			out := got(tine.Map(ctx, pool, doubled, numbers(100)))(t)
			if out[99] != 198 {
				t.Error(out)
			}
		}
		// What is under way then is cancelled.
		what, _ := nestedly(func() {
			tine.MapWith(cancellable, pool, picky, []int{0, 1000}, tine.MapOptions{Progress: func(int, int) { panic("stop") }})
		})
		if what != "stop" {
			t.Error(what)
		}
		must(t, pool.Shutdown(background)) // which waits for maps and tasks that are under way
	})
}

var await = tine.Register("await", func(ctx context.Context, in counting) (int, error) {
	count, err := tine.At[atomic.Int64](tine.PoolOf(ctx), in.Counter)
	if err != nil {
		return 0, err
	}
	if in.Rounds != 0 {
		return int(count.Add(1)), nil
	}
	for count.Load() < int64(in.Lock) && ctx.Err() == nil { // so many others
		time.Sleep(time.Millisecond)
	}
	return int(count.Load()), ctx.Err()
})

// One item that takes long does not keep those behind it from being run.
func TestMapGoesOnBehindASlowItem(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 2})
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	memory := got(tine.Alloc[atomic.Int64](pool, 1))(t)
	in := make([]counting, 2000)
	for i := range in {
		in[i] = counting{Lock: tine.Address(len(in) - 1), Counter: tine.AddressOf(&memory[0]), Rounds: i}
	}
	last := 0
	within(t, hang, func() {
		out, err := tine.MapWith(ctx, pool, await, in, tine.MapOptions{Progress: func(done, total int) {
			if done < last || total != len(in) {
				t.Error(last, done, total)
			}
			last = done
		}})
		if err != nil || last != len(in) || out[0] != len(in)-1 {
			t.Error(err, last, out[0])
		}
	})
}

// The more workers, the more items are on their way.
func TestMapKeepsManyWorkersBusy(t *testing.T) {
	const workers = 70 // four items for each are more than the usual 256
	pool := newPool(t, tine.Options{Workers: workers})
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	memory := got(tine.Alloc[atomic.Int64](pool, 1))(t)
	in := make([]counting, 5*workers) // all wait until the test says so
	for i := range in {
		in[i] = counting{Lock: 1, Counter: tine.AddressOf(&memory[0])}
	}
	done := make(chan error, 1)
	go func() { done <- second(tine.Map(ctx, pool, await, in)) }()
	within(t, hang, func() {
		wait(func() bool { return got(pool.Stats())(t).Submitted == 4*workers })
		memory[0].Store(1)
		must(t, <-done)
	})
}
