package tine_test

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"testing"

	"tine.example/tine"
)

// Adds one to each byte of a segment that its worker has.
var raise = tine.Register("raise bytes", func(ctx context.Context, in tine.Shared[byte]) (int, error) {
	all, err := in.Slice(tine.PoolOf(ctx))
	for i := range all {
		all[i]++
	}
	return len(all), err
})

func newSegment(t testing.TB, size int) *tine.Segment {
	t.Helper()
	s, err := tine.NewSegment(size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestSegmentInAPool(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 2})
	s := newSegment(t, 5000)
	if _, err := tine.Share(pool, s.Bytes()); !errors.Is(err, tine.ErrInvalid) {
		t.Error(err)
	}
	if err := pool.ShareSegment(background, s); err != nil {
		t.Fatal(err)
	}
	if err := pool.ShareSegment(background, s); !errors.Is(err, syscall.EALREADY) {
		t.Error(err)
	}
	shared, err := tine.Share(pool, s.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if n, err := raise.Call(background, pool, shared); n != 5000 || err != nil {
			t.Fatal(n, err)
		}
	}
	if b := s.Bytes(); b[0] != 3 || b[4999] != 3 {
		t.Error(b[0], b[4999])
	}
}

func TestSegmentByDescriptor(t *testing.T) {
	s := newSegment(t, 100)
	fd, err := s.FD()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tine.AttachSegment(fd); !errors.Is(err, syscall.EEXIST) { // it lies there itself
		t.Error(err)
	}
	other, err := tine.AttachSegmentAnywhere(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	s.Bytes()[99] = 7
	if got := other.Bytes(); len(got) != 100 || got[99] != 7 || other.Address() == s.Address() {
		t.Error(got)
	}
	if _, err := tine.AttachSegment(-1); !errors.Is(err, syscall.EBADF) {
		t.Error(err)
	}
}

func TestSegmentThatIsClosed(t *testing.T) {
	for _, size := range []int{0, -1} {
		if _, err := tine.NewSegment(size); !errors.Is(err, tine.ErrInvalid) {
			t.Error(err)
		}
	}
	pool := newPool(t, tine.Options{Workers: 1})
	s := newSegment(t, 1)
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if s.Bytes() != nil {
		t.Error("bytes")
	}
	if _, err := s.FD(); !errors.Is(err, tine.ErrGone) {
		t.Error(err)
	}
	if err := pool.ShareSegment(background, s); !errors.Is(err, tine.ErrGone) {
		t.Error(err)
	}
	open := newSegment(t, 1)
	for _, segments := range [][]*tine.Segment{{open, s}, {nil}, {open, open}} {
		if _, err := tine.StartProcess(raise, tine.Shared[byte]{}, tine.ProcessOptions{Segments: segments}); err == nil {
			t.Error(segments)
		}
	}
	within(t, hang, func() { open.Close() }) // nobody holds it any more
}

// Whoever closes a segment waits for those that share it.
func TestSegmentIsSharedWhileItIsClosed(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	for range 20 {
		s := newSegment(t, 4096)
		var all sync.WaitGroup
		for range 4 {
			all.Add(1)
			go func() {
				defer all.Done()
				err := pool.ShareSegment(background, s)
				if err != nil && !errors.Is(err, syscall.EALREADY) && !errors.Is(err, tine.ErrGone) {
					t.Error(err)
				}
			}()
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		all.Wait()
	}
}
