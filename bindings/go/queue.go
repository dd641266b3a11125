package tine

/*
#include "glue.h"
*/
import "C"

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"unsafe"
)

// A Queue is a queue of messages between the processes of a pool, for many producers and consumers in each. A message is
// a T: how it travels is said at the top of this page; between languages, a T without pointers or a []byte. A process that is
// killed blocks nobody.
//
// It lies in the pool's heap. Other processes open it by its Address.
type Queue[T any] struct {
	pool    *Pool
	queue   *C.tine_queue
	message codec[T]
	puts    *turn
	gets    *turn
}

// QueueOptions are what a queue can be told. The zero value is the default.
type QueueOptions struct {
	CapacityMessages int // 0: 1,024
	CapacityBytes    int // of all messages together, and so the longest; 0: 1 MiB, or 64 for each message where that is more
}

// NewQueue makes a queue in the pool's heap.
func NewQueue[T any](pool *Pool, options QueueOptions) (*Queue[T], error) {
	if options.CapacityMessages < 0 {
		return nil, invalid("queue", "QueueOptions.CapacityMessages is %d", options.CapacityMessages)
	}
	if options.CapacityBytes < 0 {
		return nil, invalid("queue", "QueueOptions.CapacityBytes is %d", options.CapacityBytes)
	}
	message, err := newCodec[T]()
	if err != nil {
		return nil, invalid("queue", "%v", err)
	}
	if err := pool.enter("queue"); err != nil {
		return nil, err
	}
	defer pool.leave()
	answer := C.tine_go_queue_create(pool.pointer, C.size_t(options.CapacityMessages), C.size_t(options.CapacityBytes))
	if err := failedWith("queue", answer); err != nil {
		return nil, err
	}
	return &Queue[T]{pool, (*C.tine_queue)(answer.made), message, newTurn(), newTurn()}, nil
}

// OpenQueue is the queue at an address that another process of the pool has given. Its messages are that process's: T is
// to be the same, or lie in memory the same way (see Layout).
func OpenQueue[T any](pool *Pool, address Address) (*Queue[T], error) {
	message, err := newCodec[T]()
	if err != nil {
		return nil, invalid("queue", "%v", err)
	}
	if err := pool.inHeap("queue", address, 8, 8); err != nil {
		return nil, err
	}
	queue := &Queue[T]{pool, (*C.tine_queue)(address.pointer()), message, newTurn(), newTurn()}
	// What is no queue has no messages to be joined for, but says so.
	var e *Error
	err = queue.call("queue", func() C.int { return C.tine_queue_join(queue.queue, 0) })
	switch {
	case err == nil || errors.Is(err, ErrWouldBlock):
		return queue, nil
	case errors.As(err, &e):
		e.Message = fmt.Sprintf("there is no queue at %#x", uintptr(address))
	}
	return nil, err
}

// Address is where the queue lies.
func (q *Queue[T]) Address() Address { return Address(unsafe.Pointer(q.queue)) }

// Put puts a message, waiting for room until ctx is done. After Close it is ErrClosed.
func (q *Queue[T]) Put(ctx context.Context, message T) error {
	encoded, err := q.encode(&message)
	if err != nil {
		return err
	}
	code, err := q.pool.wait(ctx, "put", q.puts, func(timeout C.int64_t) C.int { return q.put(encoded, timeout) })
	return either(err, failed("put", code))
}

// TryPut puts a message, if there is room now; otherwise it is ErrWouldBlock.
func (q *Queue[T]) TryPut(message T) error {
	encoded, err := q.encode(&message)
	if err != nil {
		return err
	}
	return q.call("put", func() C.int { return q.put(encoded, 0) })
}

func (q *Queue[T]) encode(message *T) ([]byte, error) {
	encoded, err := q.message.encode(message)
	if err != nil {
		return nil, &Error{What: "put", Code: ErrLayout, Message: err.Error()}
	}
	return encoded, nil
}

func (q *Queue[T]) put(encoded []byte, timeout C.int64_t) C.int {
	return C.tine_queue_put(q.queue, unsafe.Pointer(&some(encoded)[0]), C.size_t(len(encoded)), timeout)
}

// Get takes the next message, waiting for one until ctx is done. When the queue is closed and empty it is ErrClosed. A
// message that is no T is taken, and is ErrLayout.
func (q *Queue[T]) Get(ctx context.Context) (T, error) {
	var message T
	taken, err := q.take(func(attempt func(C.int64_t) C.int) (C.int, error) {
		return q.pool.wait(ctx, "get", q.gets, attempt)
	})
	if err != nil {
		return message, err
	}
	return message, q.decode(taken, &message)
}

// TryGet takes the next message, if there is one now; otherwise it is ErrWouldBlock.
func (q *Queue[T]) TryGet() (T, error) {
	var message T
	taken, err := q.take(func(attempt func(C.int64_t) C.int) (C.int, error) {
		if err := q.pool.enter("get"); err != nil {
			return 0, err
		}
		defer q.pool.leave()
		return attempt(0), nil
	})
	if err != nil {
		return message, err
	}
	return message, q.decode(taken, &message)
}

// GetInto takes the next message's bytes, as they are, into buffer, and gives the part of it that they fill. One that is
// longer than buffer is ErrMessageTooLong, and stays in the queue. Otherwise it is as Get.
func (q *Queue[T]) GetInto(ctx context.Context, buffer []byte) ([]byte, error) {
	var length C.size_t
	code, err := q.pool.wait(ctx, "get", q.gets, func(timeout C.int64_t) C.int { return q.get(buffer, timeout, &length) })
	if err := either(err, failed("get", code)); err != nil {
		return nil, err
	}
	return buffer[:length], nil
}

// TryGetInto is GetInto for a message that is there now; if there is none it is ErrWouldBlock.
func (q *Queue[T]) TryGetInto(buffer []byte) ([]byte, error) {
	var length C.size_t
	if err := q.call("get", func() C.int { return q.get(buffer, 0, &length) }); err != nil {
		return nil, err
	}
	return buffer[:length], nil
}

func (q *Queue[T]) get(room []byte, timeout C.int64_t, length *C.size_t) C.int {
	return C.tine_queue_get(q.queue, timeout, unsafe.Pointer(&some(room)[0]), C.size_t(len(room)), length)
}

const usualMessage = 256

// take takes the bytes of the next message, in room that grows until it fits.
func (q *Queue[T]) take(call func(attempt func(C.int64_t) C.int) (C.int, error)) ([]byte, error) {
	room := make([]byte, max(usualMessage, q.message.size))
	var length C.size_t
	attempt := func(timeout C.int64_t) C.int {
		for {
			code := q.get(room, timeout, &length)
			if Code(code) != ErrMessageTooLong {
				return code
			}
			room = make([]byte, length) // the message has stayed; another consumer may take it and leave a longer one
		}
	}
	code, err := call(attempt)
	if err == nil {
		err = failed("get", code)
	}
	return room[:length], err
}

func (q *Queue[T]) decode(taken []byte, message *T) error {
	if err := q.message.decode(unsafe.Pointer(unsafe.SliceData(taken)), len(taken), message, true); err != nil {
		return &Error{What: "get", Code: ErrLayout, Message: "a message of " + err.Error()}
	}
	return nil
}

// All gives the messages as they come, until the queue is closed and empty, or ctx is done, or one is no T: then the
// error comes last.
func (q *Queue[T]) All(ctx context.Context) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for {
			message, err := q.Get(ctx)
			if errors.Is(err, ErrClosed) || !yield(message, err) || err != nil {
				return
			}
		}
	}
}

// Close lets nothing more be put. What is in the queue can still be got.
func (q *Queue[T]) Close() error {
	return q.call("close", func() C.int { return C.tine_queue_close(q.queue) })
}

// Len is how many messages are in the queue at this moment.
func (q *Queue[T]) Len() int {
	count := 0
	q.call("len", func() C.int { count = int(C.tine_queue_count(q.queue)); return 0 })
	return count
}

// TaskDone says that a message which was got has been dealt with, for Join.
func (q *Queue[T]) TaskDone() error {
	return q.call("task done", func() C.int { return C.tine_queue_task_done(q.queue) })
}

// Join waits until TaskDone was called for every message that was put, or ctx is done.
func (q *Queue[T]) Join(ctx context.Context) error {
	code, err := q.pool.wait(ctx, "join", newTurn(), func(timeout C.int64_t) C.int {
		return C.tine_queue_join(q.queue, timeout)
	})
	return either(err, failed("join", code))
}

// TryJoin is Join without waiting: ErrWouldBlock if there is a message that has not been dealt with.
func (q *Queue[T]) TryJoin() error {
	return q.call("join", func() C.int { return C.tine_queue_join(q.queue, 0) })
}

// Destroy gives the queue's memory back. No process may use it any more.
func (q *Queue[T]) Destroy() error {
	return q.call("destroy", func() C.int { C.tine_queue_destroy(q.queue); return 0 })
}

func (q *Queue[T]) call(what string, f func() C.int) error {
	if err := q.pool.enter(what); err != nil {
		return err
	}
	defer q.pool.leave()
	return failed(what, f())
}
