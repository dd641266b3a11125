package tine_test

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"tine.example/tine"
)

// foreignPool is a pool whose workers run C and C++, in the program that tine is installed with, or in a copy of this one.
func foreignPool(t *testing.T, inGo bool) *tine.Pool {
	t.Helper()
	library, program := os.Getenv("TINE_GO_LIBRARY"), os.Getenv("TINE_WORKER_PROGRAM")
	if library == "" || program == "" {
		t.Fatal("TINE_GO_LIBRARY and TINE_WORKER_PROGRAM are not set: ci/check-go.sh does that")
	}
	if inGo {
		program = ""
	}
	cpp := strings.TrimSuffix(library, ".so") + "-cpp.so"
	return newPool(t, tine.Options{Workers: 2, WorkerPath: program, Preload: []string{library, cpp}})
}

func eachWay(t *testing.T, test func(t *testing.T, pool *tine.Pool)) {
	t.Run("forkserver", func(t *testing.T) { test(t, foreignPool(t, false)) })
	t.Run("in Go workers", func(t *testing.T) { test(t, foreignPool(t, true)) })
}

func TestCFunctions(t *testing.T) {
	eachWay(t, func(t *testing.T, pool *tine.Pool) {
		tripled := tine.Named[int32, int32]("tripled")
		if n, err := tripled.Call(background, pool, 14); n != 42 || err != nil {
			t.Error(n, err)
		}
		if _, err := tine.Named[int64, int32]("tripled").Call(background, pool, 14); !errors.Is(err, syscall.EINVAL) ||
			!strings.Contains(err.Error(), "an input of 8 bytes") {
			t.Error(err)
		}
		if _, err := tine.Named[int32, int64]("tripled").Call(background, pool, 14); !errors.Is(err, tine.ErrLayout) {
			t.Error(err)
		}
		memory := got(tine.Alloc[int64](pool, 1000))(t)
		shared := got(tine.Share(pool, memory))(t)
		must(t, tine.Named[tine.Shared[int64], struct{}]("touches").Submit(background, pool, shared).Err())
		for i, n := range memory {
			if n != 1 {
				t.Fatal(i, n)
			}
		}
	})
}

func TestWorkersAreCalledWithTheirArguments(t *testing.T) {
	dir := t.TempDir()
	script, said := dir+"/worker", dir+"/said"
	text := "#!/bin/sh\nprintf '[%s]' \"$@\" >" + said + "\nexec " + os.Getenv("TINE_WORKER_PROGRAM") + "\n"
	must(t, os.WriteFile(script, []byte(text), 0o755))
	newPool(t, tine.Options{Workers: 1, WorkerPath: script, WorkerArguments: []string{"one", "", "and two"}})
	if what := string(got(os.ReadFile(said))(t)); what != "[one][][and two]" {
		t.Error(what)
	}
	if _, err := tine.NewPool(tine.Options{WorkerArguments: []string{"x"}}); !errors.Is(err, syscall.EINVAL) {
		t.Error(err)
	}
}

func TestACrashInCCostsOneItem(t *testing.T) {
	eachWay(t, func(t *testing.T, pool *tine.Pool) {
		in := make([]int32, 100)
		for i := range in {
			in[i] = int32(i)
		}
		for _, chunk := range []int{1, 7, 0} {
			out, err := tine.MapWith(background, pool, tine.Named[int32, int32]("crashes"), in, tine.MapOptions{Chunk: chunk})
			var failed *tine.MapError
			if !errors.As(err, &failed) || len(failed.Items) != 10 || !errors.Is(err, tine.ErrWorkerDied) {
				t.Fatal(err)
			}
			for i, item := range failed.Items {
				death := item.Err.Death
				if item.Item != 10*i || death == nil || death.Signal != syscall.SIGSEGV || death.FaultAddress != 0xdead0 ||
					!strings.Contains(death.Backtrace, "functions.so") {
					t.Fatalf("%d: %v: %+v", item.Item, item.Err, death)
				}
			}
			for i, n := range out {
				if want := int32(3 * i); i%10 != 0 && n != want {
					t.Fatal(i, n)
				}
			}
		}
	})
}

type order struct {
	In, Out tine.Address
	Layout  [200]byte
}

var raiseScores = tine.Named[order, struct{}]("raise scores")

func TestRecordsAndQueuesWithCpp(t *testing.T) {
	eachWay(t, func(t *testing.T, pool *tine.Pool) {
		in := got(tine.NewQueue[record](pool, tine.QueueOptions{}))(t)
		out := got(tine.NewQueue[record](pool, tine.QueueOptions{}))(t)
		o := order{In: in.Address(), Out: out.Address()}
		copy(o.Layout[:], tine.Layout[record]())
		future := raiseScores.Submit(background, pool, o)
		for i := range 100 {
			must(t, in.Put(background, record{ID: uint64(i), Score: float64(i)}))
		}
		must(t, in.Close())
		must(t, future.Err())
		for i := range 100 {
			r := got(out.Get(background))(t)
			if r.ID != uint64(i) || r.Score != float64(i)+0.5 || string(r.Name[:8]) != "from C++" {
				t.Fatalf("%+v", r)
			}
		}
		// Another record is refused, and both sides say what they have.
		copy(o.Layout[:], strings.Replace(tine.Layout[record](), "score:f64", "score:f32", 1))
		_, err := raiseScores.Call(background, pool, o)
		var e *tine.Error
		if !errors.Is(err, tine.ErrLayout) || !errors.As(err, &e) {
			t.Fatal(err)
		}
		theirs := strings.Split(e.Message, `"`)[1]
		must(t, tine.CheckLayout[record](theirs))
	})
}
