// A host in Go with workers in Python: host START PYTHON MODULE.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

	"tine.example/tine"
)

var (
	background = context.Background()
	head       = []byte("\xc1TINE\x01\x00\x00") // of a payload that is MessagePack
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// call says the output of a call, or why there is none: the name of its code and its message.
func call(pool *tine.Pool, name string, input []byte) {
	output, err := tine.Named[[]byte, []byte](name).Call(background, pool, input)
	var e *tine.Error
	switch {
	case errors.As(err, &e) && e.Delivery == tine.NotStarted:
		fmt.Printf("%s: %s\n", name, e.Code.Name())
	case errors.As(err, &e) && e.Death != nil:
		fmt.Printf("%s: %s \n", name, e.Code.Name())
	case errors.As(err, &e):
		fmt.Printf("%s: %s %s\n", name, e.Code.Name(), e.Message)
	case bytes.HasPrefix(output, head):
		fmt.Printf("%s: msgpack %d\n", name, output[len(head)])
	default:
		fmt.Printf("%s: %s\n", name, output)
	}
}

type shared struct {
	mutex, numbers tine.Address
	count          uint64
}

func main() {
	start := tine.StartForkserver
	if os.Args[1] == "spawn" {
		start = tine.StartSpawn
	}
	pool, err := tine.NewPool(tine.Options{Workers: 2, Start: start, WorkerPath: os.Args[2],
		WorkerArguments: []string{"-m", "libtine.worker", os.Args[3]}})
	check(err)
	call(pool, "shout", []byte("hello"))
	call(pool, "total", append(head, 0x93, 1, 2, 3))
	call(pool, "total", []byte("hello"))
	call(pool, "total", []byte("\xc1TINE\x07\x00\x00"))
	call(pool, "boom", []byte("x"))
	call(pool, "die", nil)
	call(pool, "shout", []byte("again"))
	call(pool, "nobody", nil)
	mutex, err := tine.NewMutex(pool)
	check(err)
	numbers, err := tine.Alloc[int64](pool, 3)
	check(err)
	numbers[2] = 40
	where := shared{mutex.Address(), tine.AddressOf(&numbers[0]), uint64(len(numbers))}
	_, err = tine.Named[shared, struct{}]("add 2").Call(background, pool, where)
	check(err)
	fmt.Println("add 2: ")
	fmt.Println(numbers[0], numbers[1], numbers[2])
	pool.Close()
}
