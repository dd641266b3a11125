package tine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tine.example/tine"
)

var background = context.Background()

func TestValuesTravel(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 2})
	if sum, err := add.Call(background, pool, job{1, 2}); sum != 3 || err != nil {
		t.Error(sum, err)
	}
	if s, err := shout.Call(background, pool, "quiet"); s != "QUIET" || err != nil {
		t.Error(s, err)
	}
	for _, n := range []int{0, 1, 64, 65, 4096, 3 << 20} {
		in := bytes.Repeat([]byte{byte(n), 7}, n/2+1)[:n]
		out, err := echo.Call(background, pool, in)
		if !bytes.Equal(in, out) || err != nil {
			t.Error(n, len(out), err)
		}
	}
}

func TestWhatCanGoWrong(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1, Grace: 20 * time.Millisecond, Output: tine.OutputCapture})
	for _, c := range []struct {
		how    string
		is     error
		text   string // of the error
		output string // of the dead worker
		death  tine.Death
	}{
		{how: "error", is: syscall.EIO, text: "no such luck"},
		{how: "errno", is: syscall.ENOENT, text: "not found"},
		{how: "panic", is: tine.ErrPanicked, text: "panic: out of cheese"},
		{how: "nil", is: tine.ErrPanicked, text: "nil pointer dereference"},
		{how: "nil map", is: tine.ErrPanicked, text: "nil map"},
		{how: "divide", is: tine.ErrPanicked, text: "divide by zero"},
		{how: "index", is: tine.ErrPanicked, text: "index out of range"},
		{how: "long error", is: syscall.EIO, text: "long long long"},
		{how: "goexit", is: tine.ErrWorkerDied, text: "exit status 70", output: "runtime.Goexit", death: tine.Death{ExitCode: 70}},
		{how: "exit", is: tine.ErrWorkerDied, text: "exit status 7", death: tine.Death{ExitCode: 7}},
		{how: "exit 0", is: tine.ErrWorkerDied, text: "exit status 0"},
		{how: "kill", is: tine.ErrWorkerDied, text: "signal 9", death: tine.Death{Signal: syscall.SIGKILL}},
		{how: "segv from outside", is: tine.ErrWorkerDied, text: "signal 11", death: tine.Death{Signal: syscall.SIGSEGV}},
		{how: "abort", is: tine.ErrWorkerDied, text: "signal 6", death: tine.Death{Signal: syscall.SIGABRT}},
		{how: "panic elsewhere", is: tine.ErrWorkerDied, text: "exit status 2", output: "nobody recovers this", death: tine.Death{ExitCode: 2}},
		{how: "stack", is: tine.ErrWorkerDied, text: "exit status 2", output: "stack overflow", death: tine.Death{ExitCode: 2}},
	} {
		t.Run(c.how, func(t *testing.T) {
			pid, err := misbehave.Call(background, pool, "no")
			if err != nil {
				t.Fatal(err)
			}
			_, err = misbehave.Call(background, pool, c.how)
			if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.text) {
				t.Fatalf("%v is not %v with %q", err, c.is, c.text)
			}
			var death *tine.Death
			if errors.As(err, &death) != (c.is == tine.ErrWorkerDied) {
				t.Fatal("a death is reported for what is none, or the other way round: ", death)
			}
			next, err := misbehave.Call(background, pool, "no")
			if err != nil {
				t.Fatal("after it:", err)
			}
			if death == nil {
				if pid != next {
					t.Error("it has cost the worker")
				}
				return
			}
			if death.PID != pid || death.Signal != c.death.Signal || death.ExitCode != c.death.ExitCode {
				t.Errorf("%+v; the worker was %d", death, pid)
			}
			if death.Function != "misbehave" || !strings.Contains(death.Output, c.output) {
				t.Errorf("%q; %q", death.Function, death.Output)
			}
		})
	}
}

func TestContextEndsTheWork(t *testing.T) {
	// Those that return by themselves are not to be ended for being slow, on a machine that is.
	patient, pool := newPool(t, tine.Options{Workers: 1, Grace: hang}), newPool(t, tine.Options{Workers: 1, Grace: 20 * time.Millisecond})
	for _, how := range []string{"heed", "ask", "derive", "ignore", "deadlock"} {
		died := how == "ignore" || how == "deadlock"
		pool := pool
		if !died {
			pool = patient
		}
		ready := func() { // the last worker may have been ended
			t.Helper()
			if _, err := misbehave.Call(background, pool, "no"); err != nil {
				t.Fatal(err)
			}
		}
		t.Run(how, func(t *testing.T) {
			ready()
			// It is to have begun by then, on whatever machine, and to be going on.
			ctx, cancel := context.WithTimeout(background, 300*time.Millisecond)
			defer cancel()
			_, err := misbehave.Call(ctx, pool, how)
			var death *tine.Death
			if !errors.Is(err, context.DeadlineExceeded) || errors.As(err, &death) != died {
				t.Error(err)
			}
		})
		t.Run(how+" with a cause", func(t *testing.T) {
			ready()
			ctx, cancel := context.WithCancelCause(background)
			enough := errors.New("enough")
			future := misbehave.Submit(ctx, pool, how)
			time.AfterFunc(30*time.Millisecond, func() { cancel(enough) })
			_, err := future.Wait(background)
			if !errors.Is(err, enough) || !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
		t.Run(how+" with a deadline of its own", func(t *testing.T) {
			_, err := misbehave.With(tine.TaskOptions{Deadline: 30 * time.Millisecond}).Call(background, pool, how)
			if !errors.Is(err, tine.ErrDeadline) || !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, syscall.ETIMEDOUT) {
				t.Error(err)
			}
		})
	}
}

func TestContextOfWhatHasNotBegun(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1, Grace: 20 * time.Millisecond})
	blocker := misbehave.Submit(background, pool, "ignore")
	ctx, cancel := context.WithCancel(background)
	future := misbehave.Submit(ctx, pool, "no")
	cancel()
	_, err := future.Wait(background)
	var e *tine.Error
	if !errors.As(err, &e) || e.Delivery != tine.NotStarted || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := blocker.Cancel(); err != nil {
		t.Error(err)
	}
	if err := blocker.Err(); !errors.Is(err, tine.ErrCanceled) {
		t.Error(err)
	}
	if err := blocker.Cancel(); err == nil {
		t.Error("a task that has settled was cancelled")
	}
	if err := misbehave.Submit(ctx, pool, "no").Err(); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestContextOfAWait(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1, Grace: 20 * time.Millisecond})
	ctx, cancel := context.WithTimeout(background, 10*time.Millisecond)
	defer cancel()
	future := misbehave.Submit(background, pool, "heed")
	if _, err := future.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	select {
	case <-future.Done():
		t.Error("the task has ended")
	default:
	}
	future.Cancel()
	<-future.Done()
}

func TestGoroutinesLeftBehind(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	for range 3 {
		if _, err := misbehave.Call(background, pool, "leave behind"); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := misbehave.Call(background, pool, "what is left"); n < 1 || err != nil {
		t.Error(n, err)
	}
}

func TestManyGoroutinesWait(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 2})
	before := threads(t)
	var all sync.WaitGroup
	var mu sync.Mutex
	sum := 0
	for i := range 10000 {
		all.Add(1)
		go func() {
			defer all.Done()
			n, err := add.Call(background, pool, job{i, 1})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			sum += n
			mu.Unlock()
		}()
	}
	all.Wait()
	if sum != 10000*9999/2+10000 {
		t.Error(sum)
	}
	if now := threads(t); now > before+500 {
		t.Errorf("%d threads for 10,000 goroutines that wait; %d before", now, before)
	}
}

func TestCompleted(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 2})
	var futures []*tine.Future[int]
	for i := range 100 {
		futures = append(futures, add.Submit(background, pool, job{i, i}))
	}
	sum := 0
	for future := range tine.Completed(background, futures...) {
		n, err := future.Wait(background)
		if err != nil {
			t.Error(err)
		}
		sum += n
	}
	if sum != 9900 {
		t.Error(sum)
	}
}

func TestWindow(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1, WindowTasks: 2})
	blocker := misbehave.Submit(background, pool, "heed")
	second := misbehave.Submit(background, pool, "no")
	ctx, cancel := context.WithTimeout(background, 20*time.Millisecond)
	defer cancel()
	if err := misbehave.Submit(ctx, pool, "no").Err(); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if err := misbehave.With(tine.TaskOptions{RoomTimeout: -1}).Submit(background, pool, "no").Err(); !errors.Is(err, tine.ErrWouldBlock) {
		t.Error(err)
	}
	if err := misbehave.With(tine.TaskOptions{RoomTimeout: time.Millisecond}).Submit(background, pool, "no").SubmitErr(); !errors.Is(err, tine.ErrDeadline) {
		t.Error(err)
	}
	var all sync.WaitGroup
	for range 100 {
		all.Add(1)
		go func() {
			defer all.Done()
			if _, err := misbehave.Call(background, pool, "no"); err != nil {
				t.Error(err)
			}
		}()
	}
	blocker.Cancel()
	all.Wait()
	if err := second.Err(); err != nil {
		t.Error(err)
	}
}

func TestRetries(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	err := misbehave.With(tine.TaskOptions{Retries: 2, Idempotent: true}).Submit(background, pool, "kill").Err()
	var e *tine.Error
	if !errors.As(err, &e) || e.Deaths != 3 {
		t.Error(err)
	}
}

func TestCloseCancels(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1, Grace: 20 * time.Millisecond})
	var futures []*tine.Future[int]
	for range 10 {
		futures = append(futures, misbehave.Submit(background, pool, "ignore"))
	}
	waited := make(chan error)
	go func() { waited <- futures[9].Err() }()
	var all sync.WaitGroup
	for range 3 {
		all.Add(1)
		go func() {
			defer all.Done()
			if err := pool.Close(); err != nil {
				t.Error(err)
			}
		}()
	}
	all.Wait()
	for _, future := range append(futures, futures[0]) {
		if err := future.Err(); !errors.Is(err, tine.ErrCanceled) {
			t.Error(err)
		}
	}
	if err := <-waited; !errors.Is(err, tine.ErrCanceled) {
		t.Error(err)
	}
	for _, err := range []error{
		misbehave.Submit(background, pool, "no").Err(), pool.Shutdown(background),
		func() error { _, err := pool.Stats(); return err }(),
		func() error { _, err := tine.Alloc[int](pool, 1); return err }(),
		func() error { _, err := tine.Map(background, pool, add, make([]job, 3)); return err }(),
	} {
		if !errors.Is(err, tine.ErrShutdown) {
			t.Error(err)
		}
	}
}

func TestShutdown(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	future := misbehave.Submit(background, pool, "heed")
	ctx, cancel := context.WithTimeout(background, 20*time.Millisecond)
	defer cancel()
	if err := pool.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if err := misbehave.Submit(background, pool, "no").Err(); !errors.Is(err, tine.ErrShutdown) {
		t.Error(err)
	}
	future.Cancel()
	if err := pool.Shutdown(background); err != nil {
		t.Error(err)
	}
	if err := future.Err(); !errors.Is(err, tine.ErrCanceled) {
		t.Error(err)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, c := range []struct {
		options tine.Options
		text    string
	}{
		{tine.Options{Workers: -1}, "Options.Workers is -1"},
		{tine.Options{Workers: 5000}, "5000"},
		{tine.Options{MaxTasksPerWorker: 1 << 32}, "Options.MaxTasksPerWorker is 4294967296"},
		{tine.Options{LibraryThreads: 1<<32 + 1}, "Options.LibraryThreads is 4294967297"},
		{tine.Options{Nice: 1 << 32}, "Options.Nice is 4294967296"},
		{tine.Options{Nice: -1 << 32}, "Options.Nice is -4294967296"},
		{tine.Options{Engine: 1 << 32}, "Options.Engine is 4294967296"},
		{tine.Options{Output: 1 << 32}, "Options.Output is 4294967296"},
		{tine.Options{Start: tine.StartForkserver}, "a Go program cannot be forked"},
		{tine.Options{Start: 99}, "99"},
		{tine.Options{WorkerPath: "/no/such/program"}, "/no/such/program"},
		{tine.Options{Preload: []string{"/no/such/library.so"}}, "/no/such/library.so"},
		{tine.Options{Directory: "a\x00b"}, "zero byte"},
		{tine.Options{Preload: []string{"a:b"}}, "colon"},
		{tine.Options{Initializer: misbehave.Initializer("error")}, "no such luck"},
	} {
		pool, err := tine.NewPool(c.options)
		if err == nil {
			pool.Close()
			t.Errorf("%+v is accepted", c.options)
		} else if !strings.Contains(err.Error(), c.text) {
			t.Errorf("%v does not say %q", err, c.text)
		}
	}
}

func TestInitializer(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 2, Initializer: prepare.Initializer([]string{"a", "b"})})
	for range 10 {
		if n, err := prepared.Call(background, pool, struct{}{}); n != 2 || err != nil {
			t.Error(n, err)
		}
	}
}

var (
	words   []string
	prepare = tine.Register("prepare", func(_ context.Context, in []string) (struct{}, error) {
		words = in
		return struct{}{}, nil
	})
	prepared = tine.Register("prepared", func(context.Context, struct{}) (int, error) { return len(words), nil })
)

func TestUnknownName(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	if err := pool.Submit(background, "no such function", nil).Err(); !errors.Is(err, tine.ErrName) {
		t.Error(err)
	}
	if err := pool.Submit(background, "", nil).Err(); !errors.Is(err, tine.ErrName) {
		t.Error(err)
	}
	if _, err := tine.Map(background, pool, tine.Named[int, int]("no such function"), make([]int, 10)); !errors.Is(err, tine.ErrName) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	if _, err := tine.Map(ctx, pool, tine.Named[int, int]("no such function"), make([]int, 10)); !errors.Is(err, tine.ErrName) {
		t.Error(err)
	}
	out, err := pool.Submit(background, "echo", []byte("bytes")).Wait(background)
	if string(out) != "bytes" || err != nil {
		t.Error(string(out), err)
	}
	// An input of another type is found out.
	if _, err := tine.Named[int32, int]("add").Call(background, pool, 1); !errors.Is(err, tine.ErrLayout) {
		t.Error(err)
	}
	if _, err := tine.Named[job, int32]("add").Call(background, pool, job{}); !errors.Is(err, tine.ErrLayout) {
		t.Error(err)
	}
}

func TestNestedTasks(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	for n, want := range []int{0, 1, 1, 2, 3, 5, 8, 13} {
		if got, err := fibonacci.Call(background, pool, n); got != want || err != nil {
			t.Error(n, got, err)
		}
	}
	if sum, err := nestedMap.Call(background, pool, 100); sum != 9900 || err != nil {
		t.Error(sum, err)
	}
}

var fibonacci tine.Function[int, int]

func init() {
	fibonacci = tine.Register("fibonacci", func(ctx context.Context, n int) (int, error) {
		if n < 2 {
			return n, nil
		}
		pool := tine.PoolOf(ctx)
		a, b := fibonacci.Submit(ctx, pool, n-1), fibonacci.Submit(ctx, pool, n-2)
		x, err1 := a.Wait(ctx)
		y, err2 := b.Wait(ctx)
		return x + y, errors.Join(err1, err2)
	})
}

var nestedMap = tine.Register("nested map", func(ctx context.Context, n int) (sum int, err error) {
	in := make([]job, n)
	for i := range in {
		in[i] = job{i, i}
	}
	out, err := tine.Map(ctx, tine.PoolOf(ctx), add, in)
	for _, value := range out {
		sum += value
	}
	return sum, err
})

func TestTypesThatCannotTravel(t *testing.T) {
	for text, register := range map[string]func(){
		"func()":                   func() { tine.Named[func(), int]("x") },
		"chan int":                 func() { tine.Named[int, chan int]("x") },
		"interface":                func() { tine.Named[struct{ A any }, int]("x") },
		"not exported":             func() { tine.Named[struct{ path string }, int]("x") },
		"at .A means":              func() { tine.Named[struct{ A []func() }, int]("x") },
		"is not a function's name": func() { tine.Named[int, int]("") },
		"after Main":               func() { tine.Register("late", func(context.Context, int) (int, error) { return 0, nil }) },
	} {
		func() {
			defer func() {
				if said := fmt.Sprint(recover()); !strings.Contains(said, text) {
					t.Errorf("%q does not say %q", said, text)
				}
			}()
			register()
		}()
	}
}
