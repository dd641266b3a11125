package tine_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"tine.example/tine"
)

// isIn says whether a goroutine is in a call whose frame has this text.
func isIn(call string) bool {
	stacks := make([]byte, 1<<20)
	return strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), call)
}

// wait waits for a condition.
func wait(what func() bool) {
	for !what() {
		time.Sleep(time.Millisecond)
	}
}

// stop stops a process, and lets it go on when the test is over.
func stop(t *testing.T, pid int) {
	t.Helper()
	must(t, syscall.Kill(pid, syscall.SIGSTOP))
	t.Cleanup(func() { syscall.Kill(pid, syscall.SIGCONT) })
	wait(func() bool {
		text := string(got(os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)))(t))
		return strings.HasPrefix(text[strings.LastIndexByte(text, ')'):], ") T")
	})
}

// A worker that is stopped keeps nobody who closes the pool waiting, whatever waits for it.
func TestCloseEndsWhatWaitsForAStoppedWorker(t *testing.T) {
	for call, f := range map[string]func(pool *tine.Pool, s *tine.Segment) error{
		"ShareSegment": func(pool *tine.Pool, s *tine.Segment) error { return pool.ShareSegment(background, s) },
		"Shutdown":     func(pool *tine.Pool, s *tine.Segment) error { return pool.Shutdown(background) },
	} {
		pool := newPool(t, tine.Options{Workers: 1})
		stop(t, got(misbehave.Call(background, pool, "no"))(t))
		const n = 4 // so that there is always one in the call
		done := make(chan error, n)
		for range n {
			s := newSegment(t, 4096)
			go func() { done <- f(pool, s) }()
		}
		within(t, hang, func() {
			// A shutdown may have ended the worker before.
			wait(func() bool { return len(done) > 0 || isIn("tine.(*Pool)."+call+"(") })
			pool.Close()
			for range n {
				if err := <-done; !errors.Is(err, tine.ErrShutdown) && (err != nil || call != "Shutdown") {
					t.Error(call, err)
				}
			}
		})
	}
}

// A map whose items are tasks ends with the pool, though its context is not done.
func TestCloseEndsAMapOfTasks(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 2})
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- second(tine.Map(ctx, pool, picky, []int{1000, 1000, 1000})) }()
	within(t, hang, func() {
		wait(func() bool { return got(pool.Stats())(t).Submitted == 3 })
		must(t, pool.Close())
		if err := <-done; !errors.Is(err, tine.ErrCanceled) {
			t.Error(err)
		}
	})
}

var lockAndLeave = tine.Register("lock and leave", func(ctx context.Context, address tine.Address) (struct{}, error) {
	m, err := tine.OpenMutex(tine.PoolOf(ctx), address)
	if err == nil {
		err = m.Acquire(ctx)
	}
	return struct{}{}, err
})

// Whoever waits for a Cond takes its mutex back, but does not keep the pool from being closed while somebody else has that: nor do
// those that share a thread.
func TestCloseEndsWaitsForACondWhoseMutexIsHeld(t *testing.T) {
	for _, by := range []string{"goroutine", "worker"} {
		for _, n := range []int{1, 40} {
			pool := newPool(t, tine.Options{Workers: 1})
			m := got(tine.NewMutex(pool))(t)
			c := got(tine.NewCond(pool, m))(t)
			done := make(chan error, n)
			began := 0
			for range n {
				go func() {
					m.Lock()
					defer m.Unlock()
					began++
					done <- c.WaitContext(background)
				}()
			}
			within(t, hang, func() {
				for all := false; !all; time.Sleep(time.Millisecond) {
					m.Lock()
					all = began == n
					m.Unlock()
				}
				if by == "goroutine" {
					m.Lock()
					defer m.Unlock() // as it would have done, had the pool not been closed
				} else {
					must(t, lockAndLeave.Submit(background, pool, m.Address()).Err())
				}
				for range n {
					c.Signal()
				}
				pool.Close()
				for range n {
					if err := <-done; !errors.Is(err, tine.ErrShutdown) {
						t.Error(by, n, err)
					}
				}
				if err := m.Release(); !errors.Is(err, tine.ErrShutdown) {
					t.Error(by, n, err)
				}
			})
		}
	}
}

// While a pool is being closed nobody gets into a mutex whose holder may not know yet that it has lost it.
func TestNobodyGetsALockOfAPoolThatIsBeingClosed(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	m := got(tine.NewMutex(pool))(t)
	other := got(tine.NewMutex(pool))(t)
	c := got(tine.NewCond(pool, m))(t)
	// A function that runs while the pool is being closed.
	once := got(tine.NewOnce(pool))(t)
	begun, end := make(chan struct{}), make(chan struct{})
	go once.Do(func() { close(begun); <-end })
	done := make(chan error, 1)
	go func() {
		m.Lock()
		done <- c.WaitContext(background)
	}()
	within(t, hang, func() {
		<-begun
		wait(func() bool { return isIn("_Cfunc_tine_condition_wait(") })
		m.Lock()
		closed := make(chan error)
		go func() { closed <- pool.Close() }()
		if err := <-done; !errors.Is(err, tine.ErrShutdown) {
			t.Error(err)
		}
		for _, err := range []error{m.Acquire(background), m.TryAcquire(), other.Acquire(background), m.Release()} {
			if !errors.Is(err, tine.ErrShutdown) {
				t.Error(err)
			}
		}
		m.Unlock()
		close(end)
		must(t, <-closed)
	})
}
