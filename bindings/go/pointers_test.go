package tine_test

import (
	"context"
	"errors"
	"testing"

	"tine.example/tine"
)

// request is a struct as programs have it: what cgo finds in it besides the bytes that are sent are pointers of Go's.
type request struct {
	next    *request
	name    string
	buf     [4096]byte
	numbers [100]int
}

var global = request{next: &request{}, name: "global"}

var doubled = tine.Register("doubled", func(_ context.Context, n int) (int, error) { return 2 * n, nil })

// Slices of what has pointers beside them are as good as any.
func TestSlicesBesidePointers(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	queue := got(tine.NewQueue[[]byte](pool, tine.QueueOptions{}))(t)
	here, there, err := tine.NewChannel[[]byte, []byte]()
	must(t, err)
	defer here.Close()
	defer there.Close()
	for _, r := range []*request{{next: &request{}, name: "mine"}, &global} {
		for _, n := range []int{0, 1, 100, 4096} {
			in := r.buf[:n]
			check := func(out []byte, err error) {
				t.Helper()
				if err != nil || len(out) != n {
					t.Error(n, len(out), err)
				}
			}
			check(pool.Submit(background, "echo", in).Wait(background))
			check(echo.Call(background, pool, in))
			must(t, queue.Put(background, in))
			must(t, queue.TryPut(in))
			check(queue.Get(background))
			check(queue.GetInto(background, in))
			must(t, here.Send(background, in))
			check(there.Receive(background))
			p := got(tine.StartProcess(echo, in, tine.ProcessOptions{}))(t)
			check(p.Wait(background))
			p.Close()
		}
		must(t, tine.MapInto(background, pool, doubled, r.numbers[:50], r.numbers[50:], tine.MapOptions{Context: r.buf[:10]}))
		if err := tine.Free(pool, r.numbers[:]); !errors.Is(err, tine.ErrInvalid) {
			t.Error(err)
		}
		if err := tine.Free(pool, []*request{r}); !errors.Is(err, tine.ErrInvalid) {
			t.Error(err)
		}
		if _, err := tine.Share(pool, r.buf[:]); !errors.Is(err, tine.ErrInvalid) {
			t.Error(err)
		}
		if _, err := tine.OpenMutex(pool, tine.AddressOf(&r.numbers[0])); !errors.Is(err, tine.ErrInvalid) {
			t.Error(err)
		}
		if _, err := tine.At[int](pool, tine.AddressOf(&r.numbers[0])); !errors.Is(err, tine.ErrInvalid) {
			t.Error(err)
		}
	}
}
