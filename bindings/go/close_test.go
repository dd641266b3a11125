package tine_test

import (
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
			wait(func() bool { return isIn("tine.(*Pool)." + call + "(") })
			pool.Close()
			for range n {
				// A shutdown may have ended the worker before.
				if err := <-done; !errors.Is(err, tine.ErrShutdown) && (err != nil || call != "Shutdown") {
					t.Error(call, err)
				}
			}
		})
	}
}
