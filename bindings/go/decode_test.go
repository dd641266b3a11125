package tine_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"tine.example/tine"
)

// brittle is a value whose decoder panics, or ends its goroutine, for some numbers.
type brittle struct{ n int }

func (b brittle) MarshalBinary() ([]byte, error) {
	if b.n == panicsOnTheWay {
		panic("on the way")
	}
	return []byte(fmt.Sprint(b.n)), nil
}

func (b *brittle) UnmarshalBinary(text []byte) error {
	if _, err := fmt.Sscan(string(text), &b.n); err != nil {
		return err
	}
	switch b.n {
	case panics:
		panic("brittle")
	case ends:
		runtime.Goexit()
	case fails:
		return errors.New("no such number")
	}
	return nil
}

const (
	panics = -1 - iota
	ends
	fails
	panicsOnTheWay
)

// gobbled is the same by encoding/gob.
type gobbled struct {
	N    int
	Text string // so it does not travel as its bytes
}

func (g gobbled) GobEncode() ([]byte, error) { return brittle{g.N}.MarshalBinary() }

func (g *gobbled) GobDecode(text []byte) error {
	var b brittle
	defer func() { g.N = b.n }()
	return b.UnmarshalBinary(text)
}

var (
	makeBrittle = tine.Register("brittle", func(_ context.Context, n int) (brittle, error) { return brittle{n}, nil })
	makeGobbled = tine.Register("gobbled", func(_ context.Context, n int) (gobbled, error) { return gobbled{N: n}, nil })
	breakIt     = tine.Register("break it", func(_ context.Context, b brittle) (brittle, error) { return b, nil })
)

func panicOf(f func()) (what any) {
	defer func() { what = recover() }()
	f()
	return nil
}

// isOver says whether f ends its goroutine.
func isOver(f func()) bool {
	over, done := true, make(chan struct{})
	go func() {
		defer close(done)
		f()
		over = false
	}()
	<-done
	return over
}

// A decoder that panics does so in who waits for the value, each time, and nowhere else: the pool goes on.
func TestADecoderThatPanics(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 2})
	within(t, hang, func() {
		// Whoever leads: the caller, another caller, or the pool's own goroutine.
		if what := panicOf(func() { makeBrittle.Call(background, pool, panics) }); what != "brittle" {
			t.Error(what)
		}
		if what := panicOf(func() { makeGobbled.Call(background, pool, panics) }); what != "brittle" {
			t.Error(what)
		}
		future := makeBrittle.Submit(background, pool, panics)
		got(makeBrittle.Call(background, pool, 1))(t)
		<-future.Done()
		for _, ask := range []func(){
			func() { future.Wait(background) }, func() { future.Err() }, func() { future.Status() },
			func() { future.Wait(background) },
		} {
			if what := panicOf(ask); what != "brittle" {
				t.Error(what)
			}
		}
		if future.Deaths() != 0 || future.SubmitErr() != nil {
			t.Error(future.Deaths(), future.SubmitErr())
		}
		if what := panicOf(func() { tine.Map(background, pool, makeBrittle, []int{1, panics, 2}) }); what != "brittle" {
			t.Error(what)
		}
		if n := got(makeBrittle.Call(background, pool, 7))(t); n.n != 7 {
			t.Error(n)
		}
	})
}

// One that ends its goroutine ends the one that waits; others are told.
func TestADecoderThatEndsItsGoroutine(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	within(t, hang, func() {
		future := makeBrittle.Submit(background, pool, ends)
		if !isOver(func() { future.Wait(background) }) {
			t.Error("it goes on")
		}
		if err := future.Err(); err == nil || !strings.Contains(err.Error(), "ended its goroutine") {
			t.Error(err)
		}
		if future.Status() >= 0 {
			t.Error(future.Status())
		}
		_, err := makeBrittle.Call(background, pool, fails)
		if !errors.Is(err, tine.ErrLayout) || !strings.Contains(err.Error(), "its output: no such number") {
			t.Error(err)
		}
	})
}

// Where a goroutine of the package's own waits, a panic of a coder is an error, and whoever takes the results gets it.
func TestCodersThatPanicInStreamsAndGroups(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 2})
	within(t, hang, func() {
		in := make(chan int, 5)
		for _, n := range []int{1, panics, ends, fails, 2} {
			in <- n
		}
		close(in)
		for r := range tine.Stream(background, pool, makeBrittle, in, 2) {
			switch r.Item {
			case 1:
				if !errors.Is(r.Err, tine.ErrPanicked) || !strings.Contains(r.Err.Error(), "its output: panic: brittle") {
					t.Error(r.Err)
				}
			case 2:
				if r.Err == nil || !strings.Contains(r.Err.Error(), "ended its goroutine") {
					t.Error(r.Err)
				}
			case 3:
				if !errors.Is(r.Err, tine.ErrLayout) {
					t.Error(r.Err)
				}
			default:
				if r.Err != nil {
					t.Error(r.Err)
				}
			}
		}
		items := make(chan brittle, 2)
		items <- brittle{panicsOnTheWay}
		items <- brittle{3}
		close(items)
		var errs []error
		for r := range tine.Stream(background, pool, breakIt, items, 2) {
			errs = append(errs, r.Err)
		}
		if len(errs) != 2 || !errors.Is(errs[0], tine.ErrPanicked) || !strings.Contains(errs[0].Error(), "its input: panic: on the way") ||
			errs[1] != nil {
			t.Error(errs)
		}
		group := tine.NewGroup(background, pool)
		tine.Go(group, makeBrittle, panics)
		if err := group.Wait(); !errors.Is(err, tine.ErrPanicked) {
			t.Error(err)
		}
	})
}

// A process's output is decoded by who waits for it, too.
func TestADecoderOfAProcessThatPanics(t *testing.T) {
	p := got(tine.StartProcess(makeBrittle, panics, tine.ProcessOptions{}))(t)
	defer p.Close()
	within(t, hang, func() {
		<-p.Done()
		for range 2 {
			if what := panicOf(func() { p.Wait(background) }); what != "brittle" {
				t.Error(what)
			}
		}
		if p.Exit(background) == nil {
			t.Error("it has not ended")
		}
	})
}
