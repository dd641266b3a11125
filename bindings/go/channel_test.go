package tine_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tine.example/tine"
)

// Adds up what its end of a channel gives until a zero comes, and answers.
var addUp = tine.Register("add up", func(ctx context.Context, _ struct{}) (int, error) {
	channel, err := tine.ChannelOf[int, int](ctx)
	if err != nil {
		return 0, err
	}
	sum := 0
	for number, err := range channel.All(ctx) {
		if err != nil {
			return 0, err
		}
		if sum += number; number == 0 {
			return sum, channel.Send(ctx, sum)
		}
	}
	return sum, nil
})

func newChannel[A, B any](t testing.TB) (*tine.Channel[A, B], *tine.Channel[B, A]) {
	t.Helper()
	here, there, err := tine.NewChannel[A, B]()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { here.Close(); there.Close() })
	return here, there
}

func TestChannelMessages(t *testing.T) {
	ctx := context.Background()
	here, there := newChannel[[]byte, job](t)
	sizes := []int{0, 1, 300, 100_000}
	for _, size := range sizes {
		if err := here.Send(ctx, bytes.Repeat([]byte{7}, size)); err != nil {
			t.Fatal(err)
		}
	}
	for _, size := range sizes {
		if got, err := there.Receive(ctx); err != nil || len(got) != size {
			t.Errorf("%d bytes, not %d: %v", len(got), size, err)
		}
	}
	if _, err := there.TryReceive(); !errors.Is(err, tine.ErrWouldBlock) {
		t.Error(err)
	}
	if err := there.Send(ctx, job{1, 2}); err != nil {
		t.Error(err)
	}
	if got, err := here.Receive(ctx); err != nil || got != (job{1, 2}) {
		t.Error(got, err)
	}
	soon, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if _, err := there.Receive(soon); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	for err := error(nil); err == nil; {
		err = here.TrySend(make([]byte, 60_000))
		if err != nil && !errors.Is(err, tine.ErrWouldBlock) {
			t.Error(err)
		}
	}
	if err := here.Send(soon, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	here.Close()
	for err := error(nil); err == nil; {
		if _, err = there.Receive(ctx); err != nil && !errors.Is(err, tine.ErrClosed) {
			t.Error(err)
		}
	}
	if err := there.Send(ctx, job{}); !errors.Is(err, tine.ErrClosed) {
		t.Error(err)
	}
	if err := here.Send(ctx, nil); !errors.Is(err, tine.ErrGone) {
		t.Error(err)
	}
}

// grow has the runtime move the goroutine's stack, and look at every pointer there.
func grow(frames int, kept []byte) int {
	var room [256]byte
	if frames == 0 {
		return len(kept)
	}
	room[frames%len(room)] = 1
	return grow(frames-1, kept) + int(room[(frames+1)%len(room)])
}

// Room for nothing, and a message of nothing, are slices like others: Go ends a program that has pointers to no memory.
func TestChannelEmptyInPlace(t *testing.T) {
	ctx := context.Background()
	here, there := newChannel[[]byte, []byte](t)
	done := make(chan struct{})
	go func() { // with a stack that is small yet
		defer close(done)
		room, err := here.Reserve(ctx, 0)
		if err != nil || room == nil || grow(2000, room) != 0 {
			t.Errorf("%d bytes of room: %v", len(room), err)
		}
		for range room {
			t.Error("room for nothing has bytes")
		}
		if err := here.Commit(ctx, 0); err != nil {
			t.Error(err)
		}
	}()
	<-done
	done = make(chan struct{})
	go func() {
		defer close(done)
		got, err := there.Peek(ctx)
		if err != nil || got == nil || grow(2000, got) != 0 {
			t.Errorf("%d bytes: %v", len(got), err)
		}
		runtime.GC()
		for range got {
			t.Error("a message of nothing has bytes")
		}
		if err := there.Release(); err != nil {
			t.Error(err)
		}
	}()
	<-done
}

// Goroutines that call at once are not told of a message that nobody has.
func TestChannelInPlaceAtOnce(t *testing.T) {
	ctx := context.Background()
	here, there := newChannel[[]byte, []byte](t)
	var everybody sync.WaitGroup
	for range 8 {
		everybody.Add(1)
		go func() {
			defer everybody.Done()
			for range 2000 {
				if _, err := there.TryPeek(); !errors.Is(err, tine.ErrWouldBlock) {
					t.Errorf("where no message is: %v", err)
					return
				}
			}
		}()
	}
	everybody.Wait()
	for { // until all room is sent
		_, err := here.TryReserve(1 << 20)
		if errors.Is(err, tine.ErrWouldBlock) {
			break
		}
		if err = errors.Join(err, here.Commit(ctx, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	soon, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	for range 4 {
		everybody.Add(1)
		go func() {
			defer everybody.Done()
			if _, err := here.Reserve(soon, 1<<20); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("where no room is: %v", err)
			}
			if _, err := here.TryReserve(1 << 20); !errors.Is(err, tine.ErrWouldBlock) {
				t.Errorf("where no room is: %v", err)
			}
		}()
	}
	for range 10 { // which does not stop who sends
		if err := here.Send(ctx, []byte("meanwhile")); err != nil {
			t.Error(err)
		}
	}
	everybody.Wait()
}

// Messages are written and read in place, next to those that are copied.
func TestChannelInPlace(t *testing.T) {
	ctx := context.Background()
	here, there := newChannel[[]byte, []byte](t)
	for _, size := range []int{0, 1, 300, 100_000, 1 << 20} {
		room, err := here.Reserve(ctx, size+1)
		if err != nil || len(room) != size+1 {
			t.Fatalf("%d bytes of room, not %d: %v", len(room), size+1, err)
		}
		if _, err := here.TryReserve(1); !errors.Is(err, syscall.EBUSY) {
			t.Errorf("a second reservation: %v", err)
		}
		copy(room, bytes.Repeat([]byte{7}, size))
		if err := here.Commit(ctx, size+2); !errors.Is(err, tine.ErrMessageTooLong) {
			t.Errorf("more than was reserved: %v", err)
		}
		if err := here.Commit(ctx, size); err != nil {
			t.Fatal(err)
		}
		if err := here.Send(ctx, bytes.Repeat([]byte{8}, size)); err != nil {
			t.Fatal(err)
		}
		got, err := there.Peek(ctx)
		if err != nil || !bytes.Equal(got, bytes.Repeat([]byte{7}, size)) {
			t.Fatalf("%d bytes, not %d: %v", len(got), size, err)
		}
		if _, err := there.TryPeek(); !errors.Is(err, syscall.EBUSY) {
			t.Errorf("a second message: %v", err)
		}
		if sent, err := there.Receive(ctx); err != nil || len(sent) != size { // meanwhile
			t.Errorf("%d bytes, not %d: %v", len(sent), size, err)
		}
		if err := there.Release(); err != nil {
			t.Error(err)
		}
	}
	for _, err := range []error{there.Release(), here.Abandon(), here.Commit(ctx, 0)} {
		if !errors.Is(err, syscall.EPERM) {
			t.Errorf("where there is none: %v", err)
		}
	}
	if _, err := there.TryPeek(); !errors.Is(err, tine.ErrWouldBlock) {
		t.Error(err)
	}
	if _, err := here.Reserve(ctx, -1); !errors.Is(err, syscall.EINVAL) {
		t.Error(err)
	}
	if _, err := here.Reserve(ctx, 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := here.Abandon(); err != nil {
		t.Error(err)
	}
	soon, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
	defer cancel()
	if _, err := there.Peek(soon); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	here.Close()
	if _, err := there.Peek(ctx); !errors.Is(err, tine.ErrClosed) {
		t.Error(err)
	}
	if _, err := here.Reserve(ctx, 1); !errors.Is(err, tine.ErrGone) {
		t.Error(err)
	}
}

// A value of another type is an error, and gone; descriptors go between the messages.
func TestChannelMistakes(t *testing.T) {
	ctx := context.Background()
	bytes, numbers := newChannel[string, string](t)
	fd, err := numbers.FD()
	if err != nil {
		t.Fatal(err)
	}
	same, err := tine.AttachChannel[int64, int64](fd)
	if err != nil {
		t.Fatal(err)
	}
	defer same.Close()
	bytes.Send(ctx, "four")
	bytes.Send(ctx, "12345678")
	if _, err := same.Receive(ctx); !errors.Is(err, tine.ErrLayout) {
		t.Error(err)
	}
	if _, err := same.Receive(ctx); err != nil {
		t.Error(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := bytes.SendFD(ctx, int(w.Fd())); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if _, err := same.TryReceive(); !errors.Is(err, syscall.ENOMSG) {
		t.Error(err)
	}
	got, err := same.ReceiveFD(ctx)
	if err != nil {
		t.Fatal(err)
	}
	syscall.Write(got, []byte("w"))
	syscall.Close(got)
	if text := make([]byte, 10); true {
		if n, err := r.Read(text); n != 1 || err != nil {
			t.Error(n, err)
		}
	}
	if _, err := tine.AttachChannel[int, int](int(r.Fd())); !errors.Is(err, tine.ErrInvalid) {
		t.Error(err)
	}
	if _, _, err := tine.NewChannel[func(), int](); !errors.Is(err, tine.ErrInvalid) {
		t.Error(err)
	}
	if _, err := tine.ChannelOf[int, int](ctx); !errors.Is(err, tine.ErrGone) {
		t.Error(err)
	}
}

func TestChannelOfTask(t *testing.T) {
	ctx := context.Background()
	pool := newPool(t, tine.Options{Workers: 1})
	here, there := newChannel[int, int](t)
	future := addUp.With(tine.TaskOptions{Channel: there}).Submit(ctx, pool, struct{}{})
	for _, number := range []int{1, 2, 3, 0} {
		if err := here.Send(ctx, number); err != nil {
			t.Fatal(err)
		}
	}
	if sum, err := here.Receive(ctx); sum != 6 || err != nil {
		t.Error(sum, err)
	}
	if sum, err := future.Wait(ctx); sum != 6 || err != nil {
		t.Error(sum, err)
	}
	if _, err := here.Receive(ctx); !errors.Is(err, tine.ErrClosed) {
		t.Error(err)
	}
	// An end that is given is gone, and none is none.
	if err := addUp.With(tine.TaskOptions{Channel: there}).Submit(ctx, pool, struct{}{}).Err(); !errors.Is(err, tine.ErrGone) {
		t.Error(err)
	}
	if _, err := addUp.Call(ctx, pool, struct{}{}); !errors.Is(err, syscall.EBADF) {
		t.Error(err)
	}
	// One that is not given stays.
	pool.Close()
	mine, kept := newChannel[int, int](t)
	if err := addUp.With(tine.TaskOptions{Channel: kept}).Submit(ctx, pool, struct{}{}).Err(); !errors.Is(err, tine.ErrShutdown) {
		t.Error(err)
	}
	if err := kept.Send(ctx, 5); err != nil {
		t.Error(err)
	}
	if got, err := mine.Receive(ctx); got != 5 || err != nil {
		t.Error(got, err)
	}
}

// Goroutines that wait for messages cost no threads, and each message is one's.
func TestChannelWaitersCostNoThreads(t *testing.T) {
	const waiters = 1000
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	before := threads(t)
	var all sync.WaitGroup
	var sum atomic.Int64
	ends := make([]*tine.Channel[int, int], 50)
	for i := range ends {
		var there *tine.Channel[int, int]
		ends[i], there = newChannel[int, int](t)
		for range waiters / len(ends) {
			all.Add(1)
			go func() {
				defer all.Done()
				got, err := there.Receive(ctx)
				if err != nil {
					t.Error(err)
				}
				sum.Add(int64(got))
			}()
		}
	}
	time.Sleep(50 * time.Millisecond) // most of them wait by now; nothing depends on it but the count of threads
	if now := threads(t); now > before+20 {
		t.Errorf("%d threads more for %d goroutines that wait", now-before, waiters)
	}
	for range waiters / len(ends) {
		for i, end := range ends {
			if err := end.Send(ctx, i); err != nil {
				t.Fatal(err)
			}
		}
	}
	all.Wait()
	if want := int64(waiters / len(ends) * len(ends) * (len(ends) - 1) / 2); sum.Load() != want {
		t.Error(sum.Load(), want)
	}
}

// Whoever waits hears that the end is closed here.
func TestChannelClosedUnderWaiters(t *testing.T) {
	_, there := newChannel[int, int](t)
	answers := make(chan error)
	for range 5 {
		go func() {
			_, err := there.Receive(context.Background())
			answers <- err
		}()
	}
	time.Sleep(10 * time.Millisecond)
	there.Close()
	for range 5 {
		if err := <-answers; !errors.Is(err, tine.ErrGone) {
			t.Error(err)
		}
	}
}

func TestProcess(t *testing.T) {
	ctx := context.Background()
	here, there := newChannel[int, int](t)
	adder, err := tine.StartProcess(addUp, struct{}{}, tine.ProcessOptions{Channel: there, Title: "adder"})
	if err != nil {
		t.Fatal(err)
	}
	defer adder.Close()
	soon, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	if _, err := adder.Wait(soon); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	for _, number := range []int{40, 2, 0} {
		here.Send(ctx, number)
	}
	for range 2 {
		if sum, err := adder.Wait(ctx); sum != 42 || err != nil {
			t.Error(sum, err)
		}
	}
	if err := adder.Signal(syscall.SIGTERM); !errors.Is(err, syscall.ESRCH) {
		t.Error(err)
	}
	if death := adder.Exit(ctx); death == nil || death.PID != adder.PID() || death.Signal != 0 {
		t.Error(death)
	}

	start := func(how string) *tine.Process[int] {
		p, err := tine.StartProcess(misbehave, how, tine.ProcessOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Close() })
		return p
	}
	if _, err := start("errno").Wait(ctx); !errors.Is(err, syscall.ENOENT) {
		t.Error(err)
	}
	if _, err := start("panic").Wait(ctx); !errors.Is(err, tine.ErrPanicked) {
		t.Error(err)
	}
	killed := start("ignore")
	killed.SignalTree(syscall.SIGKILL)
	var death *tine.Death
	if _, err := killed.Wait(ctx); !errors.Is(err, tine.ErrWorkerDied) || !errors.As(err, &death) || death.Signal != syscall.SIGKILL {
		t.Error(err)
	}
	closed := start("ignore")
	answers := make(chan error)
	go func() {
		_, err := closed.Wait(ctx)
		answers <- err
	}()
	closed.Close()
	if err := <-answers; !errors.Is(err, tine.ErrShutdown) {
		t.Error(err)
	}
	if err := closed.Signal(0); !errors.Is(err, tine.ErrShutdown) {
		t.Error(err)
	}
	if _, err := tine.StartProcess(tine.Named[int, int]("no such function"), 1, tine.ProcessOptions{}); !errors.Is(err, tine.ErrName) {
		t.Error(err)
	}
	if _, err := tine.StartProcess(add, job{}, tine.ProcessOptions{Deadline: -1}); !errors.Is(err, tine.ErrInvalid) {
		t.Error(err)
	}
	if _, err := tine.StartProcess(add, job{}, tine.ProcessOptions{Title: "ad\x00der"}); !errors.Is(err, tine.ErrInvalid) {
		t.Error(err)
	}
}

// Those that wait for processes cost no threads either.
func TestProcessWaitersCostNoThreads(t *testing.T) {
	p, err := tine.StartProcess(misbehave, "ignore", tine.ProcessOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	before := threads(t)
	var all sync.WaitGroup
	for range 500 {
		all.Add(1)
		go func() {
			defer all.Done()
			if _, err := p.Wait(context.Background()); !errors.Is(err, tine.ErrWorkerDied) {
				t.Error(err)
			}
		}()
	}
	time.Sleep(20 * time.Millisecond)
	if now := threads(t); now > before+20 {
		t.Errorf("%d threads more", now-before)
	}
	p.Signal(syscall.SIGKILL)
	all.Wait()
}

func TestGroup(t *testing.T) {
	ctx := context.Background()
	pool := newPool(t, tine.Options{Workers: 2, Grace: 20 * time.Millisecond})
	group := tine.NewGroup(ctx, pool)
	var sums []int
	var futures []*tine.Future[int]
	for i := range 50 {
		futures = append(futures, tine.Go(group, add, job{i, 1}))
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, future := range futures {
		sum, _ := future.Wait(ctx)
		sums = append(sums, sum)
	}
	if !slices.IsSorted(sums) || sums[49] != 50 {
		t.Error(sums)
	}

	// The first that fails ends the others.
	group = tine.NewGroup(ctx, pool)
	waits := tine.Go(group, misbehave, "ignore")
	tine.Go(group, misbehave, "errno")
	if err := group.Wait(); !errors.Is(err, syscall.ENOENT) {
		t.Error(err)
	}
	if err := waits.Err(); !errors.Is(err, tine.ErrCanceled) && !errors.Is(err, tine.ErrWorkerDied) {
		t.Error(err)
	}
	if group.Context().Err() == nil {
		t.Error("the group's context is not done")
	}
	if err := tine.Go(group, add, job{}).Err(); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
