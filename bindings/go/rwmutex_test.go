package tine_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tine.example/tine"
)

// Readers and writers count each other, as in a reader-writer lock's textbook test.
func hammer(lock *tine.RWMutex, readers, rounds int, inside *atomic.Int32) error {
	var all sync.WaitGroup
	var wrong atomic.Int32
	part := func(lock sync.Locker, by, most int32) {
		defer all.Done()
		for range rounds {
			lock.Lock()
			if n := inside.Add(by); n < 1 || n > most {
				wrong.Store(n)
			}
			for range 100 {
			}
			inside.Add(-by)
			lock.Unlock()
		}
	}
	const writer = 10000
	for i := range readers {
		all.Add(1)
		go part(lock.RLocker(), 1, writer-1)
		if i%3 == 0 {
			all.Add(1)
			go part(lock, writer, writer)
		}
	}
	all.Wait()
	if n := wrong.Load(); n != 0 {
		return fmt.Errorf("%d readers and writers (at 10,000 each) at a time", n)
	}
	return nil
}

var hammerIt = tine.Register("hammer", func(ctx context.Context, in counting) (struct{}, error) {
	pool := tine.PoolOf(ctx)
	lock, err := tine.OpenRWMutex(pool, in.Lock)
	if err != nil {
		return struct{}{}, err
	}
	inside, err := sharedInside(pool, in.Counter)
	if err != nil {
		return struct{}{}, err
	}
	return struct{}{}, hammer(lock, 6, in.Rounds, inside)
})

func TestRWMutexReadersAndWriters(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 2})
	lock := got(tine.NewRWMutex(pool))(t)
	memory := got(tine.Alloc[atomic.Int32](pool, 1))(t)
	in := counting{lock.Address(), tine.AddressOf(&memory[0]), 30}
	within(t, 2*hang, func() {
		a, b := hammerIt.Submit(background, pool, in), hammerIt.Submit(background, pool, in)
		if err := errors.Join(hammer(lock, 6, in.Rounds, &memory[0]), a.Err(), b.Err()); err != nil {
			t.Error(err)
		}
	})
}

func TestRWMutexLetsReadersInTogether(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	lock := got(tine.NewRWMutex(pool))(t)
	const readers = 100 // more than there is room for in C's lock
	var in, out sync.WaitGroup
	leave := make(chan struct{})
	for range readers {
		in.Add(1)
		out.Add(1)
		go func() {
			defer out.Done()
			lock.RLock()
			in.Done()
			<-leave
			lock.RUnlock()
		}()
	}
	within(t, hang, in.Wait)
	if lock.TryLock() {
		t.Error("a writer came in among readers")
	}
	close(leave)
	out.Wait()
	if !lock.TryLock() || lock.TryRLock() || lock.TryLock() {
		t.Error("a writer is not alone")
	}
	go lock.Unlock() // another goroutine may
	within(t, hang, lock.RLock)
	if !lock.TryRLock() {
		t.Error("a reader keeps others out")
	}
	// While a writer waits, no more readers come in.
	locked := make(chan struct{})
	go func() { lock.Lock(); close(locked) }()
	for lock.TryRLock() {
		lock.RUnlock()
		time.Sleep(time.Millisecond)
	}
	lock.RUnlock()
	lock.RUnlock()
	<-locked
	lock.Unlock()
	for _, err := range []error{lock.Release(), lock.ReleaseRead(), lock.Repair()} {
		if !errors.Is(err, tine.ErrNotHeld) {
			t.Error(err)
		}
	}
	// A goroutine that ends holds it no less.
	for range 20 {
		done := make(chan struct{})
		go func() { defer close(done); lock.Lock(); runtime.Goexit() }()
		<-done
		if lock.TryRLock() {
			t.Fatal("the lock was lost with its goroutine")
		}
		lock.Unlock()
	}
}

// A reader that found a writer waiting comes in when that has given up, though other readers of its process go on.
func TestRWMutexReaderOutlastsAWriterThatGivesUp(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	lock := got(tine.NewRWMutex(pool))(t)
	same := got(tine.OpenRWMutex(pool, lock.Address()))(t) // as another process has it
	for _, writer := range []*tine.RWMutex{lock, same} {
		lock.RLock()
		ctx, giveUp := context.WithCancel(background)
		gaveUp, in := make(chan error, 1), make(chan error, 3)
		go func() { gaveUp <- writer.Acquire(ctx) }()
		within(t, hang, func() {
			for lock.TryRLock() { // until the writer waits
				lock.RUnlock()
				time.Sleep(time.Millisecond)
			}
			for range cap(in) {
				go func() { in <- lock.AcquireRead(background) }()
			}
			short, cancel := context.WithTimeout(background, time.Millisecond)
			defer cancel()
			if err := lock.AcquireRead(short); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			giveUp()
			if err := <-gaveUp; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			for range cap(in) {
				must(t, <-in)
				lock.RUnlock()
			}
			lock.RUnlock()
			lock.Lock() // nobody is left inside
			lock.Unlock()
		})
	}
}

// Whoever only tries repairs as well, or is told that it cannot.
func TestRWMutexTryAfterADeath(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	lock := got(tine.NewRWMutex(pool))(t)
	die := func() {
		t.Helper()
		err := dieHolding.Submit(background, pool, counting{Lock: lock.Address(), Rounds: 1}).Err()
		if !errors.Is(err, tine.ErrWorkerDied) {
			t.Fatal(err)
		}
	}
	within(t, hang, func() {
		repaired := 0
		lock.OnOwnerDeath = func() error { repaired++; return nil }
		die()
		if !lock.TryRLock() {
			t.Error("it is free")
		}
		lock.RUnlock()
		die()
		must(t, lock.TryAcquireRead())
		// Another reader is no reason to repair once more, and lets others in.
		must(t, lock.TryAcquireRead())
		must(t, lock.ReleaseRead())
		must(t, lock.ReleaseRead())
		if repaired != 2 {
			t.Error("repaired", repaired)
		}
		die()
		lock.OnOwnerDeath = func() error { return errors.New("beyond repair") }
		if err := lock.TryAcquireRead(); !errors.Is(err, tine.ErrNotRecoverable) {
			t.Error(err)
		}
	})
}
