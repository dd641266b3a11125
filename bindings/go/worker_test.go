package tine_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tine.example/tine"
)

// What workers do in the tests, and everything that can go wrong in them.
var (
	echo = tine.Register("echo", func(_ context.Context, in []byte) ([]byte, error) { return in, nil })

	shout = tine.Register("shout", func(_ context.Context, in string) (string, error) { return strings.ToUpper(in), nil })

	misbehave = tine.Register("misbehave", func(ctx context.Context, how string) (int, error) {
		switch how {
		case "no":
			return os.Getpid(), nil
		case "error":
			return 0, errors.New("no such luck")
		case "errno":
			return 0, fmt.Errorf("not found: %w", syscall.ENOENT)
		case "panic":
			panic("out of cheese")
		case "nil":
			var p *job
			return p.A, nil
		case "nil map":
			var m map[string]int
			m[how] = 1
		case "divide":
			zero := len(how) - len("divide")
			return 1 / zero, nil
		case "index":
			return int(how[len(how)+os.Getpid()]), nil
		case "goexit":
			runtime.Goexit()
		case "exit":
			os.Exit(7)
		case "exit 0":
			os.Exit(0)
		case "kill":
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
		case "segv from outside":
			syscall.Kill(os.Getpid(), syscall.SIGSEGV)
			time.Sleep(time.Minute)
		case "abort":
			syscall.Kill(os.Getpid(), syscall.SIGABRT)
			time.Sleep(time.Minute)
		case "panic elsewhere":
			go panic("nobody recovers this")
			time.Sleep(time.Minute)
		case "stack":
			debug.SetMaxStack(1 << 20) // the usual 1 GB takes a while to fill
			return deep(1), nil
		case "deadlock":
			select {}
		case "ignore":
			for {
				time.Sleep(time.Millisecond)
			}
		case "heed":
			<-ctx.Done()
			return 0, ctx.Err()
		case "ask":
			for ctx.Err() == nil {
				time.Sleep(time.Millisecond)
			}
			return 0, ctx.Err()
		case "derive":
			ctx, cancel := context.WithTimeout(ctx, time.Hour)
			defer cancel()
			<-ctx.Done()
			return 0, context.Cause(ctx)
		case "leave behind":
			go func() {
				<-ctx.Done() // closed when the task has returned
				left.Add(1)
			}()
		case "what is left":
			for left.Load() == 0 {
				time.Sleep(time.Millisecond)
			}
			return int(left.Load()), nil
		case "long error":
			return 0, errors.New(strings.Repeat("long ", 1000))
		}
		return 0, nil
	})
)

var left atomic.Int64

func deep(n int) int { return deep(n+1) + 1 }

// textless is an error whose text cannot be had.
type textless struct{ text *string }

func (e textless) Error() string { return *e.text }

var failTextless = tine.Register("fail textless", func(context.Context, int) (int, error) { return 0, textless{} })

// An error that panics when it is asked for its text is a panic of the function's, and the worker goes on.
func TestAnErrorThatPanics(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	before := got(misbehave.Call(background, pool, "no"))(t)
	if _, err := failTextless.Call(background, pool, 0); !errors.Is(err, tine.ErrPanicked) {
		t.Error(err)
	}
	if now := got(misbehave.Call(background, pool, "no"))(t); now != before {
		t.Error("the worker was replaced")
	}
}
