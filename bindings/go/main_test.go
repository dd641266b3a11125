package tine_test

import (
	"context"
	"os"
	"testing"

	"tine"
)

func TestMain(m *testing.M) {
	tine.Main()
	os.Exit(m.Run())
}

type job struct{ A, B int }

var add = tine.Register("add", func(ctx context.Context, in job) (int, error) { return in.A + in.B, nil })

func newPool(t testing.TB, options tine.Options) *tine.Pool {
	t.Helper()
	pool, err := tine.NewPool(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pool.Close() })
	return pool
}

func TestAdd(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 2})
	sum, err := add.Call(context.Background(), pool, job{1, 2})
	if err != nil || sum != 3 {
		t.Fatal(sum, err)
	}
}

func BenchmarkCall(b *testing.B) {
	pool := newPool(b, tine.Options{Workers: 2})
	for range b.N {
		if _, err := add.Call(context.Background(), pool, job{1, 2}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSubmit(b *testing.B) {
	pool := newPool(b, tine.Options{Workers: 2})
	const n = 100000
	futures := make([]*tine.Future[int], n)
	for range b.N {
		for i := range futures {
			futures[i] = add.Submit(context.Background(), pool, job{1, 2})
		}
		for _, f := range futures {
			f.Wait(context.Background())
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/task")
}

func BenchmarkMap(b *testing.B) {
	pool := newPool(b, tine.Options{Workers: 2})
	in := make([]job, 100000)
	for range b.N {
		if _, err := tine.Map(context.Background(), pool, add, in); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(in)), "ns/item")
}
