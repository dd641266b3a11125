package tine_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"tine.example/tine"
)

// waiting is how many goroutines wait in a call that lets one of them at a time wait in C.
func waiting() int {
	stacks := make([]byte, 1<<20)
	return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), ".(*core).wait(")
}

// An event that is set lets all go that wait, though it is cleared before most of them could look.
func TestEventThatIsSetAndClearedMissesNobody(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	const n = 8
	for _, two := range []bool{false, true} {
		e := got(tine.NewEvent(pool, false))(t)
		other := e
		if two {
			other = got(tine.OpenEvent(pool, e.Address()))(t) // as another process has it
		}
		within(t, hang, func() {
			for round := range 30 {
				done := make(chan error, n)
				for i := range n {
					waits := e
					if i%2 == 1 {
						waits = other
					}
					go func() { done <- waits.Wait(background) }()
				}
				for waiting() < n {
					time.Sleep(time.Millisecond)
				}
				if round%3 == 0 { // somewhere in the pieces into which the waits are cut
					time.Sleep(time.Duration(rand.N(60)) * time.Millisecond)
				}
				must(t, e.Set())
				must(t, e.Clear())
				for range n {
					must(t, <-done)
				}
				if err := e.TryWait(); !errors.Is(err, tine.ErrWouldBlock) {
					t.Fatal(err)
				}
			}
		})
	}
}

// A wait on a condition ends with its context, whenever that is cancelled.
func TestCondMissesNoCancellation(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	m := got(tine.NewMutex(pool))(t)
	c := got(tine.NewCond(pool, m))(t)
	within(t, hang, func() {
		for range 20000 {
			ctx, cancel := context.WithCancel(background)
			done := make(chan error, 1)
			go func() {
				m.Lock()
				defer m.Unlock()
				done <- c.WaitContext(ctx)
			}()
			for begun, limit := time.Now(), time.Duration(rand.N(12000)); time.Since(begun) < limit; {
			}
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
		}
	})
}

func forgotten(t *testing.T) ([]int64, *int64) {
	pool := got(tine.NewPool(tine.Options{Workers: 1}))(t)
	cells := got(tine.Alloc[int64](pool, 1000))(t)
	return cells, got(tine.At[int64](pool, tine.AddressOf(&cells[7])))(t)
}

// What lies in a pool's heap outlives the program's last mention of the pool. An access to what does not ends the program.
func TestMemoryKeepsItsPool(t *testing.T) {
	cells, seventh := forgotten(t)
	for round := range 40 { // a pool that is forgotten is ended some milliseconds after the collection that finds it
		runtime.GC()
		time.Sleep(10 * time.Millisecond)
		for i := range cells {
			cells[i] = int64(i + round)
		}
		if *seventh != int64(7+round) {
			t.Fatal(*seventh)
		}
	}
}
