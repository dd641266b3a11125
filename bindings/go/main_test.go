package tine_test

import (
	"context"
	"os"
	"testing"

	"tine.example/tine"
)

func TestMain(m *testing.M) {
	tine.Main()
	switch os.Getenv("TINE_GO_TEST_HOST") {
	case "":
	case "no thread":
		haveNoThread()
		return
	default:
		beKilled()
	}
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
