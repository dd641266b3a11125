package tine_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tine.example/tine"
)

func sharedCounter(pool *tine.Pool, address tine.Address) (*int64, error) {
	s, err := tine.At[int64](pool, address)
	return s, err
}

func sharedInside(pool *tine.Pool, address tine.Address) (*atomic.Int32, error) {
	return tine.At[atomic.Int32](pool, address)
}

type image struct {
	Pixels        tine.Shared[uint16]
	Width, Height int
}

var invert = tine.Register("invert", func(ctx context.Context, in image) (struct{}, error) {
	pixels, err := in.Pixels.Slice(tine.PoolOf(ctx))
	for i := range pixels {
		pixels[i] = ^pixels[i]
	}
	return struct{}{}, err
})

func TestSharedSlices(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	pixels := got(tine.Alloc[uint16](pool, 1<<20))(t)
	for i := range pixels {
		if pixels[i] != 0 {
			t.Fatal("not zeroed")
		}
		pixels[i] = uint16(i)
	}
	shared := got(tine.Share(pool, pixels))(t)
	if _, err := invert.Call(background, pool, image{shared, 1024, 1024}); err != nil {
		t.Fatal(err)
	}
	for i := range pixels {
		if pixels[i] != ^uint16(i) {
			t.Fatal(i, pixels[i])
		}
	}
	part := got(tine.Share(pool, pixels[10:20]))(t)
	if back := got(part.Slice(pool))(t); &back[0] != &pixels[10] || len(back) != 10 {
		t.Error("another slice")
	}
	if _, err := tine.Share(pool, make([]int, 3)); !errors.Is(err, tine.ErrInvalid) {
		t.Error(err)
	}
	must(t, tine.Free(pool, pixels))
	if err := tine.Free(pool, pixels); !errors.Is(err, tine.ErrInvalid) {
		t.Error(err)
	}
	// What a worker gets that isn't there any more, or never was, is an error and no crash.
	for _, wrong := range []any{tine.Address(0), tine.Address(16), tine.Address(^uintptr(7))} {
		if _, err := tine.OpenMutex(pool, wrong.(tine.Address)); !errors.Is(err, tine.ErrInvalid) {
			t.Error(err)
		}
		if _, err := tine.OpenQueue[int](pool, wrong.(tine.Address)); !errors.Is(err, tine.ErrInvalid) {
			t.Error(err)
		}
	}
	if _, err := tine.OpenMutex(pool, tine.AddressOf(&pixels[1])); err == nil || !strings.Contains(err.Error(), "not aligned") {
		t.Error(err)
	}
	for _, err := range []error{
		second(tine.Alloc[string](pool, 1)), second(tine.Alloc[*int](pool, 1)), second(tine.Alloc[struct{ A []int }](pool, 1)),
		second(tine.Alloc[int](pool, -1)),
	} {
		if !errors.Is(err, tine.ErrInvalid) {
			t.Error(err)
		}
	}
	small := newPool(t, tine.Options{Workers: 1, HeapBytes: 16 << 20})
	if _, err := tine.Alloc[byte](small, 64<<20); !errors.Is(err, syscall.ENOMEM) {
		t.Error(err)
	}
	if _, err := tine.Alloc[[1 << 40]byte](small, 1<<40); err == nil {
		t.Error("more than there are addresses")
	}
}

func second[T any](_ T, err error) error { return err }

// Nothing of tasks and results stays in the heap.
func TestNoMemoryIsLost(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	for range 20 {
		got(echo.Call(background, pool, make([]byte, 1<<20)))(t)
	}
	if stats := got(pool.Stats())(t); stats.HeapBlocks != 0 {
		t.Errorf("%+v", stats)
	}
}

type record struct {
	ID    uint64
	Score float64
	Name  [16]byte
	Flag  bool
	_     [3]byte
	Part  struct{ X, Y int16 }
}

func TestLayout(t *testing.T) {
	const want = "id:u64@0 score:f64@8 name:u8[16]@16 flag:bool@32 part:{x:i16@0 y:i16@2}@36 size 40"
	if layout := tine.Layout[record](); layout != want {
		t.Error(layout)
	}
	if layout := tine.Layout[[3][2]int32](); layout != "i32[2][3]@0 size 24" {
		t.Error(layout)
	}
	must(t, tine.CheckLayout[record](want))
	for theirs, said := range map[string]string{
		strings.Replace(want, "f64", "f32", 1):         "score:f64@8 here, score:f32@8 there",
		strings.Replace(want, "size 40", "size 48", 1): "size 40 here, size 48 there",
		"id:u64@0 size 8":                              "score:f64@8 here, size 8 there",
		"":                                             "id:u64@0 here, nothing there",
		strings.Replace(want, " score", " extra:u8@1 s", 1): "extra:u8@1 there",
	} {
		err := tine.CheckLayout[record](theirs)
		if !errors.Is(err, tine.ErrLayout) || !strings.Contains(err.Error(), said) {
			t.Errorf("%v does not say %q", err, said)
		}
	}
}

var produce = tine.Register("produce", func(ctx context.Context, in counting) (int, error) {
	queue, err := tine.OpenQueue[record](tine.PoolOf(ctx), in.Lock)
	for i := 0; err == nil && i < in.Rounds; i++ {
		err = queue.Put(ctx, record{ID: uint64(i)})
	}
	return in.Rounds, err
})

func TestQueueBetweenProcesses(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 2})
	queue := got(tine.NewQueue[record](pool, tine.QueueOptions{CapacityMessages: 16}))(t)
	in := counting{Lock: queue.Address(), Rounds: 1000}
	a, b := produce.Submit(background, pool, in), produce.Submit(background, pool, in)
	go func() {
		if err := errors.Join(a.Err(), b.Err()); err != nil {
			t.Error(err)
		}
		queue.Close()
	}()
	seen := make([]int, 1000)
	within(t, hang, func() {
		for message, err := range queue.All(background) {
			if err != nil {
				t.Error(err)
				break
			}
			seen[message.ID]++
		}
	})
	if slices.ContainsFunc(seen, func(n int) bool { return n != 2 }) {
		t.Error(seen)
	}
	if err := queue.Put(background, record{}); !errors.Is(err, tine.ErrClosed) {
		t.Error(err)
	}
}

func TestQueueTypes(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	texts := got(tine.NewQueue[string](pool, tine.QueueOptions{CapacityMessages: 2}))(t)
	must(t, texts.Put(background, "one"))
	must(t, texts.TryPut(strings.Repeat("long", 10000)))
	if err := texts.TryPut("full"); !errors.Is(err, tine.ErrWouldBlock) {
		t.Error(err)
	}
	if texts.Len() != 2 {
		t.Error(texts.Len())
	}
	ctx, cancel := context.WithTimeout(background, 10*time.Millisecond)
	defer cancel()
	if err := texts.Put(ctx, "full"); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if s := got(texts.Get(background))(t); s != "one" {
		t.Error(s)
	}
	if s := got(texts.TryGet())(t); len(s) != 40000 {
		t.Error(len(s))
	}
	if _, err := texts.TryGet(); !errors.Is(err, tine.ErrWouldBlock) {
		t.Error(err)
	}
	if err := texts.Join(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	must(t, texts.TaskDone())
	must(t, texts.TaskDone())
	must(t, texts.Join(background))
	// A message of another type is found out.
	records := got(tine.OpenQueue[record](pool, texts.Address()))(t)
	must(t, texts.Put(background, "short"))
	if _, err := records.Get(background); !errors.Is(err, tine.ErrLayout) || !strings.Contains(err.Error(), "5 bytes") {
		t.Error(err)
	}
	maps := got(tine.NewQueue[map[string][]int](pool, tine.QueueOptions{}))(t)
	must(t, maps.Put(background, map[string][]int{"a": {1, 2}}))
	if m := got(maps.Get(background))(t); len(m["a"]) != 2 {
		t.Error(m)
	}
	if _, err := tine.NewQueue[func()](pool, tine.QueueOptions{}); !errors.Is(err, tine.ErrInvalid) {
		t.Error(err)
	}
	must(t, texts.Destroy())
	if _, err := tine.OpenQueue[string](pool, texts.Address()); err == nil {
		t.Error("a queue that has been destroyed is opened")
	}
}
