package tine_test

import (
	"context"
	"errors"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tine.example/tine"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func got[T any](value T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		must(t, err)
		return value
	}
}

// within fails the test where f hangs.
func within(t testing.TB, limit time.Duration, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(limit):
		buffer := make([]byte, 1<<20)
		t.Fatalf("it hangs:\n%s", buffer[:runtime.Stack(buffer, true)])
	}
}

const hang = 30 * time.Second

// counting is what host and workers count in together.
type counting struct {
	Lock    tine.Address
	Counter tine.Address
	Rounds  int
}

func count(lock sync.Locker, counter *int64, rounds int) {
	for range rounds {
		lock.Lock()
		value := *counter
		if value%7 == 0 {
			runtime.Gosched()
		}
		*counter = value + 1
		lock.Unlock()
	}
}

var countWithMutex = tine.Register("count with mutex", func(ctx context.Context, in counting) (struct{}, error) {
	pool := tine.PoolOf(ctx)
	lock, err := tine.OpenMutex(pool, in.Lock)
	if err != nil {
		return struct{}{}, err
	}
	return struct{}{}, countTogether(pool, lock, in)
})

var countWithRWMutex = tine.Register("count with rwmutex", func(ctx context.Context, in counting) (struct{}, error) {
	pool := tine.PoolOf(ctx)
	lock, err := tine.OpenRWMutex(pool, in.Lock)
	if err != nil {
		return struct{}{}, err
	}
	return struct{}{}, countTogether(pool, lock, in)
})

func countTogether(pool *tine.Pool, lock sync.Locker, in counting) error {
	counter, err := sharedCounter(pool, in.Counter)
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	for range 4 {
		all.Add(1)
		go func() {
			defer all.Done()
			count(lock, counter, in.Rounds)
		}()
	}
	all.Wait()
	return nil
}

// mutual exclusion, among goroutines of this process and of two workers.
func testExclusion(t *testing.T, pool *tine.Pool, lock sync.Locker, address tine.Address, f tine.Function[counting, struct{}], rounds int) {
	counter := got(tine.Alloc[int64](pool, 1))(t)
	in := counting{address, tine.AddressOf(&counter[0]), rounds}
	within(t, 2*hang, func() {
		a, b := f.Submit(background, pool, in), f.Submit(background, pool, in)
		if err := countTogether(pool, lock, in); err != nil {
			t.Error(err)
		}
		if err := errors.Join(a.Err(), b.Err()); err != nil {
			t.Error(err)
		}
	})
	if counter[0] != int64(3*4*rounds) {
		t.Errorf("counted to %d, not %d", counter[0], 3*4*rounds)
	}
}

func TestMutexExcludes(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 2})
	m := got(tine.NewMutex(pool))(t)
	testExclusion(t, pool, m, m.Address(), countWithMutex, 1000)
}

func TestRWMutexExcludes(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 2})
	l := got(tine.NewRWMutex(pool))(t)
	testExclusion(t, pool, l, l.Address(), countWithRWMutex, 50)
}

func TestMutexTry(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	m := got(tine.NewMutex(pool))(t)
	if !m.TryLock() || m.TryLock() {
		t.Error("TryLock")
	}
	ctx, cancel := context.WithTimeout(background, 10*time.Millisecond)
	defer cancel()
	if err := m.Acquire(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	done := make(chan struct{})
	go func() { m.Unlock(); close(done) }() // another goroutine may
	<-done
	if err := m.Release(); !errors.Is(err, tine.ErrNotHeld) {
		t.Error(err)
	}
	if err := m.Do(func() {
		if m.TryLock() {
			t.Error("Do does not hold it")
		}
	}); err != nil {
		t.Error(err)
	}
	func() {
		defer func() {
			if recover() != "oh" {
				t.Error("the panic is lost")
			}
		}()
		m.Do(func() { panic("oh") })
	}()
	go m.Do(func() { runtime.Goexit() })
	within(t, hang, m.Lock)
	m.Unlock()
	must(t, m.Free())
	if m.Free() == nil {
		t.Error("freed twice")
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("unlocking what is not locked")
			}
		}()
		m.Unlock()
	}()
}

// A goroutine that takes the lock for most of the time must not keep others out.
func testFairness(t *testing.T, lock sync.Locker) {
	stop := make(chan struct{})
	var hog sync.WaitGroup
	hog.Add(1)
	go func() {
		defer hog.Done()
		for {
			lock.Lock()
			time.Sleep(100 * time.Microsecond)
			lock.Unlock()
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	within(t, hang, func() {
		for range 10 {
			time.Sleep(100 * time.Microsecond)
			lock.Lock()
			lock.Unlock()
		}
	})
	close(stop)
	hog.Wait()
}

func TestFairness(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	testFairness(t, got(tine.NewMutex(pool))(t))
	testFairness(t, got(tine.NewRWMutex(pool))(t))
}

func TestManyGoroutinesWaitForAMutex(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	m := got(tine.NewMutex(pool))(t)
	m.Lock()
	before := threads(t)
	var all sync.WaitGroup
	n := 0
	for range 10000 {
		all.Add(1)
		go func() {
			defer all.Done()
			m.Lock()
			n++
			m.Unlock()
		}()
	}
	time.Sleep(10 * time.Millisecond)
	m.Unlock()
	within(t, hang, all.Wait)
	if now := threads(t); n != 10000 || now > before+500 {
		t.Errorf("%d; %d threads, %d before", n, now, before)
	}
}

var dieHolding = tine.Register("die holding", func(ctx context.Context, in counting) (struct{}, error) {
	pool := tine.PoolOf(ctx)
	var err error
	switch in.Rounds {
	case 0:
		var m *tine.Mutex
		if m, err = tine.OpenMutex(pool, in.Lock); err == nil {
			m.Lock()
		}
	default:
		var l *tine.RWMutex
		if l, err = tine.OpenRWMutex(pool, in.Lock); err == nil && in.Rounds == 1 {
			l.Lock()
		} else if err == nil {
			l.RLock()
		}
	}
	if err == nil {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	return struct{}{}, err
})

func TestDeadOwners(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	m, l := got(tine.NewMutex(pool))(t), got(tine.NewRWMutex(pool))(t)
	die := func(address tine.Address, how int) {
		t.Helper()
		if err := dieHolding.Submit(background, pool, counting{Lock: address, Rounds: how}).Err(); !errors.Is(err, tine.ErrWorkerDied) {
			t.Fatal(err)
		}
	}
	repaired := 0
	repair := func() error { repaired++; return nil }
	within(t, hang, func() {
		die(m.Address(), 0)
		if err := m.Acquire(background); !errors.Is(err, tine.ErrOwnerDied) {
			t.Error(err)
		}
		must(t, m.Repair())
		must(t, m.Release())
		m.OnOwnerDeath = repair
		die(m.Address(), 0)
		must(t, m.Do(func() {}))
		die(m.Address(), 0)
		m.OnOwnerDeath = func() error { return errors.New("beyond repair") }
		if err := m.Do(func() {}); !errors.Is(err, tine.ErrNotRecoverable) {
			t.Error(err)
		}
		if err := m.Acquire(background); !errors.Is(err, tine.ErrNotRecoverable) {
			t.Error(err)
		}

		die(l.Address(), 2)
		l.Lock() // a dead reader is forgotten
		l.Unlock()
		die(l.Address(), 1)
		if err := l.AcquireRead(background); !errors.Is(err, tine.ErrOwnerDied) {
			t.Error(err)
		}
		must(t, l.ReleaseRead())
		l.OnOwnerDeath = repair
		l.RLock()
		l.RUnlock()
		die(l.Address(), 1)
		l.Lock()
		l.Unlock()
		l.OnOwnerDeath = nil
		die(l.Address(), 1)
		func() {
			defer func() {
				if err, _ := recover().(error); !errors.Is(err, tine.ErrOwnerDied) {
					t.Error(err)
				}
			}()
			l.Lock()
		}()
		if err := l.AcquireRead(background); !errors.Is(err, tine.ErrNotRecoverable) {
			t.Error(err)
		}
	})
	if repaired != 3 {
		t.Error("repaired", repaired)
	}
}

func TestCond(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	m := got(tine.NewMutex(pool))(t)
	c := got(tine.NewCond(pool, m))(t)
	const n = 4
	waiting, awake := make(chan int, n), make(chan int, n)
	generation := 0
	for i := range n {
		go func() {
			m.Lock()
			mine := generation
			waiting <- i
			for mine == generation {
				c.Wait()
			}
			generation++ // wakes nobody who has begun to wait since
			m.Unlock()
			awake <- i
		}()
	}
	within(t, hang, func() {
		for range n {
			<-waiting
		}
		m.Lock()
		generation++
		m.Unlock()
		select {
		case <-awake:
			t.Error("awake before the signal")
		case <-time.After(5 * time.Millisecond):
		}
		c.Signal()
		<-awake
		c.Broadcast()
		for range n - 1 {
			<-awake
		}
		m.Lock()
		ctx, cancel := context.WithTimeout(background, 10*time.Millisecond)
		defer cancel()
		if err := c.WaitContext(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		m.Unlock() // it is held
		if err := c.WaitContext(background); !errors.Is(err, tine.ErrNotHeld) {
			t.Error(err)
		}
	})
}

func TestOnce(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	o := got(tine.NewOnce(pool))(t)
	other := got(tine.OpenOnce(pool, o.Address()))(t)
	n := 0
	no := errors.New("not yet")
	within(t, hang, func() {
		if err := o.Try(background, func() error { n++; return no }); err != no {
			t.Error(err)
		}
		var all sync.WaitGroup
		for i := range 10 {
			all.Add(1)
			go func() {
				defer all.Done()
				[]*tine.Once{o, other}[i%2].Do(func() { n++ })
			}()
		}
		all.Wait()
		if n != 2 {
			t.Error(n)
		}
		p := got(tine.NewOnce(pool))(t)
		func() {
			defer func() {
				if recover() != "failed" {
					t.Error("the panic is lost")
				}
			}()
			p.Do(func() { panic("failed") })
		}()
		p.Do(func() { t.Error("done twice") })
		q := got(tine.NewOnce(pool))(t)
		if q.Try(background, func() error { runtime.Goexit(); return nil }) == nil {
			t.Error("nothing is said of a function that has ended its goroutine")
		}
	})
}

func TestSemaphore(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	s := got(tine.NewSemaphore(pool, 2, 3))(t)
	within(t, hang, func() {
		must(t, s.Acquire(background))
		must(t, s.TryAcquire())
		if err := s.TryAcquire(); !errors.Is(err, tine.ErrWouldBlock) {
			t.Error(err)
		}
		var all sync.WaitGroup
		for range 1000 {
			all.Add(1)
			go func() {
				defer all.Done()
				if err := s.Acquire(background); err != nil {
					t.Error(err)
				}
				if err := s.Release(1); err != nil {
					t.Error(err)
				}
			}()
		}
		must(t, s.Release(1))
		all.Wait()
		if n := got(s.Value())(t); n != 1 {
			t.Error(n)
		}
		if err := s.Release(3); !errors.Is(err, syscall.EOVERFLOW) {
			t.Error(err)
		}
	})
}

func TestEvent(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	e := got(tine.NewEvent(pool, false))(t)
	if got(e.IsSet())(t) {
		t.Error("set")
	}
	within(t, hang, func() {
		var all sync.WaitGroup
		for range 100 {
			all.Add(1)
			go func() {
				defer all.Done()
				if err := e.Wait(background); err != nil {
					t.Error(err)
				}
			}()
		}
		must(t, e.Set())
		all.Wait()
		must(t, e.Clear())
		ctx, cancel := context.WithCancel(background)
		cancel()
		if err := e.Wait(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestBarrier(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	if _, err := tine.NewBarrier(pool, 0); !errors.Is(err, tine.ErrInvalid) {
		t.Error(err)
	}
	b := got(tine.NewBarrier(pool, 5))(t)
	within(t, hang, func() {
		var all sync.WaitGroup
		var firsts atomic.Int32
		for range 5 {
			all.Add(1)
			go func() {
				defer all.Done()
				for range 20 {
					first, err := b.Wait(background)
					if err != nil {
						t.Error(err)
					}
					if first {
						firsts.Add(1)
					}
				}
			}()
		}
		all.Wait()
		if firsts.Load() != 20 {
			t.Error(firsts.Load())
		}
		short, cancel := context.WithTimeout(background, 10*time.Millisecond)
		defer cancel()
		if _, err := b.Wait(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if _, err := b.Wait(background); !errors.Is(err, tine.ErrBroken) {
			t.Error(err)
		}
		must(t, b.Reset())
		must(t, b.Abort())
	})
}

// Closing a pool ends what waits in it.
func TestCloseEndsWaits(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	m, l := got(tine.NewMutex(pool))(t), got(tine.NewRWMutex(pool))(t)
	b, e := got(tine.NewBarrier(pool, 2))(t), got(tine.NewEvent(pool, false))(t)
	q := got(tine.NewQueue[int](pool, tine.QueueOptions{}))(t)
	other := got(tine.NewMutex(pool))(t)
	c := got(tine.NewCond(pool, other))(t)
	m.Lock()
	l.Lock()
	errs := make(chan error)
	for _, wait := range []func() error{
		func() error { return m.Acquire(background) },
		func() error { return l.Acquire(background) },
		func() error { return l.AcquireRead(background) },
		func() error { return e.Wait(background) },
		func() error { _, err := b.Wait(background); return err },
		func() error { _, err := q.Get(background); return err },
		func() error { other.Lock(); err := c.WaitContext(background); other.Release(); return err },
	} {
		go func() { errs <- wait() }()
	}
	time.Sleep(20 * time.Millisecond)
	within(t, hang, func() {
		pool.Close()
		for range 7 {
			if err := <-errs; !errors.Is(err, tine.ErrShutdown) && !errors.Is(err, tine.ErrBroken) {
				t.Error(err)
			}
		}
		m.Unlock() // as a deferred call would
		if err := l.Release(); err == nil {
			t.Error("released in memory that is gone")
		}
	})
}
