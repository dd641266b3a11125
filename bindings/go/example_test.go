package tine_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"tine.example/tine"
)

type point struct{ X, Y float64 }

var norm = tine.Register("norm", func(ctx context.Context, p point) (float64, error) { return p.X*p.X + p.Y*p.Y, nil })

// A pool, as the examples use it. A program calls Main first; here TestMain has done so.
func examplePool() *tine.Pool {
	pool, err := tine.NewPool(tine.Options{Workers: 2})
	if err != nil {
		log.Fatal(err)
	}
	return pool
}

func Example() {
	// var norm = tine.Register("norm", func(ctx context.Context, p point) (float64, error) {
	// 	return p.X*p.X + p.Y*p.Y, nil
	// })
	pool := examplePool()
	defer pool.Close()
	squares, err := tine.Map(context.Background(), pool, norm, []point{{3, 4}, {5, 12}, {8, 15}})
	fmt.Println(squares, err)
	// Output: [25 169 289] <nil>
}

func ExampleFunction_Submit() {
	pool := examplePool()
	defer pool.Close()
	ctx := context.Background()
	a, b := norm.Submit(ctx, pool, point{1, 0}), norm.Submit(ctx, pool, point{0, 2})
	x, err := a.Wait(ctx)
	fmt.Println(x, err)
	y, err := b.Wait(ctx)
	fmt.Println(y, err)
	// Output:
	// 1 <nil>
	// 4 <nil>
}

func ExampleDeath() {
	pool := examplePool()
	defer pool.Close()
	_, err := misbehave.Call(context.Background(), pool, "kill")
	var death *tine.Death
	if errors.Is(err, tine.ErrWorkerDied) && errors.As(err, &death) {
		fmt.Println(death.Function, "died:", death.Signal)
	}
	// Output: misbehave died: killed
}

func ExampleStream() {
	pool := examplePool()
	defer pool.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	points := make(chan point)
	go func() {
		defer close(points)
		for i := range 5 {
			points <- point{float64(i), 0}
		}
	}()
	for result := range tine.Stream(ctx, pool, norm, points, 0) {
		fmt.Println(result.Item, result.Value, result.Err)
	}
	// Output:
	// 0 0 <nil>
	// 1 1 <nil>
	// 2 4 <nil>
	// 3 9 <nil>
	// 4 16 <nil>
}

func ExampleCompleted() {
	pool := examplePool()
	defer pool.Close()
	ctx := context.Background()
	sum := 0.0
	for future := range tine.Completed(ctx, norm.Submit(ctx, pool, point{1, 1}), norm.Submit(ctx, pool, point{2, 2})) {
		value, err := future.Wait(ctx)
		if err != nil {
			log.Fatal(err)
		}
		sum += value
	}
	fmt.Println(sum)
	// Output: 10
}

func ExampleAlloc() {
	pool := examplePool()
	defer pool.Close()
	pixels, err := tine.Alloc[uint16](pool, 4)
	if err != nil {
		log.Fatal(err)
	}
	shared, err := tine.Share(pool, pixels)
	if err != nil {
		log.Fatal(err)
	}
	// The worker inverts the pixels where they are: in.Pixels.Slice(tine.PoolOf(ctx)).
	_, err = invert.Call(context.Background(), pool, image{Pixels: shared})
	fmt.Println(pixels, err)
	// Output: [65535 65535 65535 65535] <nil>
}

func ExampleQueue() {
	pool := examplePool()
	defer pool.Close()
	ctx := context.Background()
	queue, err := tine.NewQueue[string](pool, tine.QueueOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for _, word := range []string{"one", "two"} {
		if err := queue.Put(ctx, word); err != nil {
			log.Fatal(err)
		}
	}
	queue.Close()
	for word, err := range queue.All(ctx) {
		fmt.Println(word, err)
	}
	// Output:
	// one <nil>
	// two <nil>
}

func ExampleMutex() {
	pool := examplePool()
	defer pool.Close()
	mutex, err := tine.NewMutex(pool)
	if err != nil {
		log.Fatal(err)
	}
	mutex.OnOwnerDeath = func() error {
		fmt.Println("making the data whole again")
		return nil
	}
	dieHolding.Submit(context.Background(), pool, counting{Lock: mutex.Address()}).Err()
	err = mutex.Do(func() { fmt.Println("in the lock") })
	fmt.Println(err)
	// Output:
	// making the data whole again
	// in the lock
	// <nil>
}

func ExampleCheckLayout() {
	err := tine.CheckLayout[point]("x:f64@0 y:f32@8 size 16")
	fmt.Println(errors.Is(err, tine.ErrLayout))
	fmt.Println(tine.Layout[point]())
	// Output:
	// true
	// x:f64@0 y:f64@8 size 16
}
