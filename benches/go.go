// What a task costs in Go, next to C: in one process, the rounds of all in turn, medians of 9. The workers of the C host
// run C, those of the Go host Go; the third is a Go host whose workers run C.
package main

/*
#cgo pkg-config: tine
#include <stdlib.h>
#include <tine.h>

static tine_pool *create(size_t workers, const char *program, const char *library)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_pool *pool = NULL;
    options.workers = workers;
    options.worker_path = program;
    options.preload = library;
    tine_pool_create(&options, &pool);
    return pool;
}

static int many(tine_pool *pool, int32_t count)
{
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    tine_result result = TINE_RESULT_INIT;
    int failed = 0;
    options.name = "tripled";
    for (int32_t i = 0; i < count; i++)
        failed += tine_submit(pool, NULL, &i, sizeof i, &options, NULL) != 0;
    while (tine_next(pool, TINE_FOREVER, &result) == 0) {
        failed += result.status != 0 || *(const int32_t *)result.data % 3 != 0;
        tine_result_release(pool, &result);
    }
    return failed;
}

static int one_by_one(tine_pool *pool, int32_t count)
{
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    tine_result result = TINE_RESULT_INIT;
    tine_id id;
    int failed = 0;
    options.name = "tripled";
    for (int32_t i = 0; i < count; i++) {
        failed += tine_submit(pool, NULL, &i, sizeof i, &options, &id) != 0;
        failed += tine_wait(pool, id, TINE_FOREVER, &result) != 0 || *(const int32_t *)result.data != 3 * i;
        tine_result_release(pool, &result);
    }
    return failed;
}
*/
import "C"

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"tine.example/tine"
)

const (
	rounds    = 9
	tasks     = 100000
	roundTrip = 20000
)

var triple = tine.Register("triple", func(_ context.Context, n int32) (int32, error) { return 3 * n, nil })

func check(ok bool, what any) {
	if !ok {
		fmt.Fprintln(os.Stderr, "benches/go.go:", what)
		os.Exit(1)
	}
}

func many(pool *tine.Pool, f tine.Function[int32, int32]) {
	futures := make([]*tine.Future[int32], tasks)
	for i := range futures {
		futures[i] = f.Submit(context.Background(), pool, int32(i))
	}
	for i, future := range futures {
		n, err := future.Wait(context.Background())
		check(err == nil && n == int32(3*i), err)
	}
}

func oneByOne(pool *tine.Pool, f tine.Function[int32, int32]) {
	for i := range int32(roundTrip) {
		n, err := f.Call(context.Background(), pool, i)
		check(err == nil && n == 3*i, err)
	}
}

func main() {
	tine.Main()
	program, library := os.Getenv("TINE_WORKER_PROGRAM"), os.Getenv("TINE_GO_LIBRARY")
	inC := C.create(2, C.CString(program), C.CString(library))
	check(inC != nil, "no pool")
	inGo, err := tine.NewPool(tine.Options{Workers: 2})
	check(err == nil, err)
	mixed, err := tine.NewPool(tine.Options{Workers: 2, WorkerPath: program, Preload: []string{library}})
	check(err == nil, err)
	tripled := tine.Named[int32, int32]("tripled")

	for _, work := range []struct {
		name string
		n    int
		run  [3]func()
	}{
		{"100,000 tasks, each", tasks, [3]func(){
			func() { check(C.many(inC, tasks) == 0, "wrong") }, func() { many(inGo, triple) }, func() { many(mixed, tripled) }}},
		{"one task, there and back", roundTrip, [3]func(){
			func() { check(C.one_by_one(inC, roundTrip) == 0, "wrong") }, func() { oneByOne(inGo, triple) },
			func() { oneByOne(mixed, tripled) }}},
	} {
		var times [3][]time.Duration
		for round := range rounds + 1 {
			for i, run := range work.run {
				began := time.Now()
				run()
				if round > 0 { // the first warms up
					times[i] = append(times[i], time.Since(began)/time.Duration(work.n))
				}
			}
		}
		for i := range times {
			slices.Sort(times[i])
		}
		c, g, m := times[0][rounds/2], times[1][rounds/2], times[2][rounds/2]
		fmt.Printf("%-26s C %5d ns, Go %5d ns: %+5d ns; Go host with C workers %5d ns: %+5d ns (medians of %d; least: %d, %d, %d)\n",
			work.name, c.Nanoseconds(), g.Nanoseconds(), (g - c).Nanoseconds(), m.Nanoseconds(), (m - c).Nanoseconds(), rounds,
			times[0][0], times[1][0], times[2][0])
	}
	inGo.Close()
	mixed.Close()
	C.tine_pool_destroy(inC)
}
