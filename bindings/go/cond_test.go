package tine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tine.example/tine"
)

// One signal wakes one goroutine, and no signal none; a broadcast wakes all.
func TestCondWakesAsManyAsItIsTold(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	m := got(tine.NewMutex(pool))(t)
	c := got(tine.NewCond(pool, m))(t)
	const n = 10
	waiting, awake := make(chan struct{}, n), make(chan struct{}, n)
	begin := func() {
		for range n {
			go func() {
				m.Lock()
				waiting <- struct{}{}
				if c.WaitContext(background) == nil {
					awake <- struct{}{}
				}
				m.Unlock()
			}()
		}
		for range n {
			<-waiting
		}
		// One that does not sleep yet takes a signal for another as its own: a wait may end for no reason.
		wait(func() bool { return sleepers(t, c) == n })
	}
	none := func() {
		t.Helper()
		runtime.Gosched()
		select {
		case <-awake:
			t.Fatal("one too many is awake")
		default:
		}
	}
	within(t, hang, func() {
		for range 20 {
			begin()
			for range n {
				none()
				m.Lock()
				c.Signal()
				m.Unlock()
				<-awake
			}
			none()
			begin()
			m.Lock()
			none()
			c.Broadcast()
			m.Unlock()
			for range n {
				<-awake
			}
			none()
		}
	})
}

// sleepers is how many threads sleep in the kernel for a condition.
func sleepers(t testing.TB, c *tine.Cond) (n int) {
	t.Helper()
	const futexWaitv, size = 449, 64
	all, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range all {
		text, _ := os.ReadFile("/proc/self/task/" + thread.Name() + "/syscall") // it may have ended
		var number, word uint64
		if _, err := fmt.Sscanf(string(text), "%d 0x%x", &number, &word); err != nil {
			continue // it runs
		}
		// Where the kernel cannot watch several words they sleep on one.
		begin := uint64(c.Address())
		if number == futexWaitv || number == syscall.SYS_FUTEX && begin <= word && word < begin+size {
			n++
		}
	}
	return n
}

// inside is how many goroutines are in a call of this package.
func inside(call string) int {
	stacks := make([]byte, 1<<20)
	for {
		n := runtime.Stack(stacks, true)
		if n < len(stacks) {
			return strings.Count(string(stacks[:n]), call)
		}
		stacks = make([]byte, 2*len(stacks))
	}
}

func awaitInside(call string, n int) {
	for inside(call) < n {
		time.Sleep(time.Millisecond)
	}
}

// The most threads that a Cond takes, and some for the tests.
const fewThreads = 16 + 20

// Any number of goroutines waits with few threads. As many signals as waiters wake all, whether they come with the mutex held or not, and
// whatever each waits for; so does a broadcast.
func TestCondWaitersCostFewThreads(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	m := got(tine.NewMutex(pool))(t)
	c := got(tine.NewCond(pool, m))(t)
	const n = 400
	signals := func() {
		for range n {
			c.Signal()
		}
	}
	for _, wake := range []func(){
		c.Broadcast,
		signals,
		func() { m.Do(signals) },
		func() {
			for range n {
				m.Do(c.Signal)
			}
		},
	} {
		within(t, hang, func() {
			before := threads(t)
			open := make([]bool, n)
			var all sync.WaitGroup
			for i := range n {
				all.Add(1)
				go func() {
					defer all.Done()
					m.Lock()
					defer m.Unlock()
					for !open[i] {
						c.Wait()
					}
				}()
			}
			awaitInside(".(*Cond).WaitContext(", n)
			if now := threads(t); now > before+fewThreads {
				t.Errorf("%d threads more for %d goroutines that wait", now-before, n)
			}
			m.Lock() // nobody is on the way into the wait any more
			for i := range open {
				open[i] = true
			}
			m.Unlock()
			wake()
			all.Wait()
		})
	}
}

// The parties of a barrier have a thread each, and who comes besides has none.
func TestBarrierTakesAThreadForEachParty(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	const parties, n = 4, 400
	made := got(tine.NewBarrier(pool, parties))(t)
	for _, b := range []*tine.Barrier{made, got(tine.OpenBarrier(pool, made.Address()))(t)} {
		within(t, hang, func() {
			before := threads(t)
			var all sync.WaitGroup
			var most atomic.Int64
			for range n {
				all.Add(1)
				go func() {
					defer all.Done()
					if _, err := b.Wait(background); err != nil {
						t.Error(err)
					}
					if now := int64(threads(t)); now > most.Load() {
						most.Store(now)
					}
				}()
			}
			all.Wait()
			if more := int(most.Load()) - before; more > parties+20 {
				t.Errorf("%d threads more for %d goroutines at a barrier for %d", more, n, parties)
			}
		})
	}
	within(t, hang, func() {
		b := got(tine.NewBarrier(pool, 1))(t)
		ctx, cancel := context.WithCancel(background)
		cancel()
		if _, err := b.Wait(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if _, err := b.Wait(background); err != nil {
			t.Error("one who has not come breaks it:", err)
		}
	})
}

// box is a counter in the heap, with a mutex and a condition for those who wait until there is something in it. Guests counts those
// that have come from other processes.
type box struct{ Lock, Filled, Items, Guests tine.Address }

// opened is a box, as a process has it.
type opened struct {
	m             *tine.Mutex
	c             *tine.Cond
	items, guests *int64
}

func (b box) open(pool *tine.Pool) (o opened, err error) {
	if o.m, err = tine.OpenMutex(pool, b.Lock); err != nil {
		return o, err
	}
	if o.c, err = tine.OpenCond(pool, b.Filled, o.m); err != nil {
		return o, err
	}
	o.m.OnOwnerDeath = func() error { o.c.Broadcast(); return nil } // the dead one may have meant to
	if o.items, err = sharedCounter(pool, b.Items); err != nil {
		return o, err
	}
	o.guests, err = sharedCounter(pool, b.Guests)
	return o, err
}

func newBox(t *testing.T, pool *tine.Pool) box {
	m := got(tine.NewMutex(pool))(t)
	counters := got(tine.Alloc[int64](pool, 2))(t)
	return box{m.Address(), got(tine.NewCond(pool, m))(t).Address(), tine.AddressOf(&counters[0]), tine.AddressOf(&counters[1])}
}

// await waits until something is true that changes with the mutex held.
func (o opened) await(isTrue func() bool) {
	for done := false; !done; time.Sleep(time.Millisecond) {
		o.put(0, func() { done = isTrue() })
	}
}

func (o opened) awaitEmpty() { o.await(func() bool { return *o.items == 0 }) }

// take takes an item out of the box.
func (o opened) take(ctx context.Context) error {
	if err := o.m.Acquire(background); err != nil {
		return err
	}
	defer o.m.Unlock()
	for *o.items == 0 {
		if err := o.c.WaitContext(ctx); err != nil {
			return err
		}
	}
	*o.items--
	return nil
}

func (o opened) put(items int, signal func()) {
	o.m.Lock()
	*o.items += int64(items)
	signal()
	o.m.Unlock()
}

// Waits that end with their contexts, in whatever order and at whatever moment, take no signal along that others wait for.
func TestCondLosesNoSignalToWhoLeaves(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	for _, patient := range []int{4, 20} { // too few to wait in C, and more than enough
		b := got(newBox(t, pool).open(pool))(t)
		stay, stop := context.WithCancel(background)
		var stayed sync.WaitGroup
		for range patient {
			stayed.Add(1)
			go func() {
				defer stayed.Done()
				for b.take(stay) == nil {
				}
			}()
		}
		within(t, 2*hang, func() {
			const impatient = 20
			for range 200 {
				var left sync.WaitGroup
				var cancels [impatient]context.CancelFunc
				for i := range cancels {
					ctx, cancel := context.WithCancel(background)
					cancels[i] = cancel
					left.Add(1)
					go func() {
						defer left.Done()
						if err := b.take(ctx); err != nil && !errors.Is(err, context.Canceled) {
							t.Error(err)
						}
					}()
				}
				awaitInside(".(*Cond).WaitContext(", patient+impatient)
				go func() {
					for _, i := range rand.Perm(impatient) {
						cancels[i]()
					}
				}()
				b.put(1, b.c.Signal)
				left.Wait()
				b.awaitEmpty()
			}
			stop()
			stayed.Wait()
		})
	}
}

// lateContext says that it is done before it tells anybody.
type lateContext struct {
	context.Context
	isDone atomic.Bool
}

func (c *lateContext) Err() error {
	if c.isDone.Load() {
		return context.Canceled
	}
	return c.Context.Err()
}

// Who is signalled in the moment in which its context ends either takes what it was signalled for, or passes that on.
func TestCondSignalAndCancelAtOnce(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	b := got(newBox(t, pool).open(pool))(t)
	inner, cancel := context.WithCancel(background)
	defer cancel()
	ctx := &lateContext{Context: inner}
	within(t, hang, func() {
		leaves, stays := make(chan error, 1), make(chan error, 1)
		go func() { leaves <- b.take(ctx) }()
		awaitInside(".(*Cond).WaitContext(", 1)
		b.m.Lock() // it has released it, in the wait
		b.m.Unlock()
		go func() { stays <- b.take(background) }()
		awaitInside(".(*Cond).WaitContext(", 2)
		ctx.isDone.Store(true)
		b.put(1, b.c.Signal) // for the one that came first
		b.awaitEmpty()
		b.put(1, b.c.Broadcast)
		for _, answer := range []error{<-leaves, <-stays} {
			if answer != nil {
				t.Error(answer)
			}
		}
	})
}

// Closing the pool ends the waits of all, and they do not wait for each other.
func TestCloseEndsManyWaitsForACond(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	b := got(newBox(t, pool).open(pool))(t)
	const n = 100
	errs := make(chan error, n)
	for range n {
		go func() { errs <- b.take(background) }()
	}
	within(t, hang, func() {
		awaitInside(".(*Cond).WaitContext(", n)
		pool.Close()
		for range n {
			if err := <-errs; !errors.Is(err, tine.ErrShutdown) {
				t.Error(err)
			}
		}
	})
}
