package tine

/*
#include "glue.h"
*/
import "C"

import (
	"context"
	"errors"
	"iter"
	"sync"
	"syscall"
	"unsafe"
)

// A Channel is one end of a channel between two processes: whole messages go both ways, in order, and descriptors. This end sends
// values of type Send and receives values of type Receive; how they travel is said at the top of this page. A process that is
// killed leaves each message sent or not sent.
//
// One end is given to a task (TaskOptions.Channel) or a process (ProcessOptions.Channel), whose function finds it by ChannelOf.
// Any number of goroutines may send and receive. Those that wait for a message do so without a thread; of those that wait for room,
// one does with a thread.
//
// An end that is not given away needs Close: the garbage collector closes none, so an end that was forgotten keeps its descriptors,
// and the other side waits.
type Channel[Send, Receive any] struct {
	*channelEnd
	out codec[Send]
	in  codec[Receive]
}

// An End is an end of a channel, whatever its messages.
type End interface{ end() *channelEnd }

type channelEnd struct {
	// Held for writing by who gives the handle away or closes it, and for reading by who uses it.
	mu     sync.RWMutex
	handle *C.tine_channel // nil once the end is somebody else's
	ready  *readiness      // made by who waits first

	sends, receives chan struct{} // the turn of who waits
	reserves        chan struct{} // the turn of who reserves: the library refuses a second call while one only waits
	peeks           sync.Mutex    // the same of who peeks, in a call that does not wait
	gone            chan struct{} // closed with the end
}

// ErrGone is the failure of calls on an end of a channel that has been closed, or given away, and on a segment that has been closed.
const ErrGone = -Code(syscall.EBADF)

func newEnd(handle *C.tine_channel) *channelEnd {
	turn := func() chan struct{} { return make(chan struct{}, 1) }
	return &channelEnd{handle: handle, sends: turn(), receives: turn(), reserves: turn(), gone: make(chan struct{})}
}

func (e *channelEnd) end() *channelEnd { return e }

func newChannel[Send, Receive any](e *channelEnd) (*Channel[Send, Receive], error) {
	c := &Channel[Send, Receive]{channelEnd: e}
	var err error
	if c.out, err = newCodec[Send](); err == nil {
		c.in, err = newCodec[Receive]()
	}
	if err != nil {
		return nil, invalid("channel", "%v", err)
	}
	return c, nil
}

// NewChannel makes a channel: two ends, of which each sends what the other receives.
func NewChannel[A, B any]() (*Channel[A, B], *Channel[B, A], error) {
	here, err := newChannel[A, B](newEnd(nil))
	if err != nil {
		return nil, nil, err
	}
	there, _ := newChannel[B, A](newEnd(nil))
	if err := failed("channel", C.tine_channel_create(nil, &here.handle, &there.handle)); err != nil {
		return nil, nil, err
	}
	return here, there, nil
}

// AttachChannel is an end that has come from another process as a descriptor, which stays the caller's to close.
func AttachChannel[Send, Receive any](fd int) (*Channel[Send, Receive], error) {
	c, err := newChannel[Send, Receive](newEnd(nil))
	if err != nil {
		return nil, err
	}
	number, err := numberInC("channel", "descriptor", fd)
	if err != nil {
		return nil, err
	}
	return c, failed("channel", C.tine_channel_attach(number, nil, &c.handle))
}

// ChannelOf is the end of a channel that the task or the process with this context was given. It ends with the function. Where none
// was given, it is ErrGone.
func ChannelOf[Send, Receive any](ctx context.Context) (*Channel[Send, Receive], error) {
	t, _ := ctx.Value(taskKey{}).(*task)
	if t == nil {
		return nil, &Error{What: "channel", Code: ErrGone, Message: "the context is no task's"}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return nil, &Error{What: "channel", Code: ErrGone, Message: "the task is over"}
	}
	if t.channel == nil {
		handle := C.tine_task_channel(t.pointer)
		if handle == nil {
			return nil, &Error{What: "channel", Code: ErrGone, Message: "the task was given none"}
		}
		t.channel = newEnd(handle)
	}
	return newChannel[Send, Receive](t.channel)
}

// use makes a call on the end.
func (e *channelEnd) use(what string, f func(c *C.tine_channel) C.int) (C.int, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.handle == nil {
		return 0, goneError(what)
	}
	return f(e.handle), nil
}

func (e *channelEnd) call(what string, f func(c *C.tine_channel) C.int) error {
	code, err := e.use(what, f)
	return either(err, failed(what, code))
}

// await makes a call that is ErrWouldBlock while nothing can be received, until something can.
func (e *channelEnd) await(ctx context.Context, what string, f func(c *C.tine_channel) C.int) error {
	var code C.int
	var err error
	attempt := func() bool {
		code, err = e.use(what, f)
		return err != nil || !isWaiting(code)
	}
	if len(e.receives) == 0 && attempt() {
		return either(err, failed(what, code))
	}
	if err := e.take(ctx, what, e.receives); err != nil {
		return err
	}
	defer func() { <-e.receives }()
	ready, err := e.readiness(what)
	if err != nil {
		return err
	}
	waited := ready.wait(ctx, attempt)
	switch {
	case waited == nil:
		return either(err, failed(what, code))
	case ctx.Err() != nil:
		return ended(ctx, what)
	}
	return goneError(what) // the descriptor was closed with the end
}

func (e *channelEnd) take(ctx context.Context, what string, turn chan struct{}) error {
	select {
	case turn <- struct{}{}: // also where ctx is done already
		return nil
	default:
	}
	select {
	case turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ended(ctx, what)
	case <-e.gone:
		return goneError(what)
	}
}

// readiness is for who has the turn to receive.
func (e *channelEnd) readiness(what string) (*readiness, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.handle != nil && e.ready == nil {
		fd := C.tine_channel_fd(e.handle)
		if err := failed(what, fd); err != nil {
			return nil, err
		}
		ready, err := newReadiness()
		if err == nil {
			err = ready.watch(int(fd))
		}
		if err != nil {
			ready.close()
			return nil, &Error{What: what, Code: codeOf(err), Cause: err}
		}
		e.ready = ready
	}
	if e.handle == nil {
		return nil, goneError(what)
	}
	return e.ready, nil
}

// push makes a call that is ErrWouldBlock while there is no room, until there is, with a thread.
func (e *channelEnd) push(ctx context.Context, what string, f func(c *C.tine_channel, timeoutNS C.int64_t) C.int) error {
	attempt := func(timeout C.int64_t) (C.int, error) {
		return e.use(what, func(c *C.tine_channel) C.int { return f(c, timeout) })
	}
	if len(e.sends) == 0 {
		if code, err := attempt(0); err != nil || !isWaiting(code) {
			return either(err, failed(what, code))
		}
	}
	if err := e.take(ctx, what, e.sends); err != nil {
		return err
	}
	defer func() { <-e.sends }()
	return pushing(ctx, what, attempt)
}

// pushing is for who has the turn: it makes a call, which waits in C, until there is room.
func pushing(ctx context.Context, what string, attempt func(timeout C.int64_t) (C.int, error)) error {
	for timeout := C.int64_t(0); ; timeout = C.int64_t(patience(ctx)) {
		code, err := attempt(timeout)
		if err != nil || !isWaiting(code) {
			return either(err, failed(what, code))
		}
		if ctx.Err() != nil {
			return ended(ctx, what)
		}
	}
}

// let has f take the handle, and forgets it if f has.
func (e *channelEnd) let(what string, f func(c *C.tine_channel) bool) error {
	e.mu.Lock()
	if e.handle == nil {
		e.mu.Unlock()
		return goneError(what)
	}
	gone := f(e.handle)
	if gone {
		e.handle = nil
		close(e.gone)
	}
	ready := e.ready
	e.mu.Unlock()
	if gone {
		ready.close() // which waits until nobody looks any more, as who waits does with the lock
	}
	return nil
}

func goneError(what string) *Error {
	return &Error{What: what, Code: ErrGone, Message: "this end of the channel was closed or given away"}
}

// Send sends a message, waiting for room until ctx is done. When the other end is gone it is ErrClosed.
func (c *Channel[Send, Receive]) Send(ctx context.Context, message Send) error {
	encoded, err := c.out.encode(&message)
	if err != nil {
		return &Error{What: "send", Code: ErrLayout, Message: err.Error()}
	}
	return c.push(ctx, "send", func(end *C.tine_channel, timeout C.int64_t) C.int { return send(end, encoded, timeout) })
}

// TrySend sends a message, if there is room now; otherwise it is ErrWouldBlock.
func (c *Channel[Send, Receive]) TrySend(message Send) error {
	encoded, err := c.out.encode(&message)
	if err != nil {
		return &Error{What: "send", Code: ErrLayout, Message: err.Error()}
	}
	return c.call("send", func(end *C.tine_channel) C.int { return send(end, encoded, 0) })
}

func send(end *C.tine_channel, encoded []byte, timeout C.int64_t) C.int {
	return C.tine_channel_send(end, unsafe.Pointer(&some(encoded)[0]), C.size_t(len(encoded)), timeout)
}

// Receive takes the next message, waiting for one until ctx is done. When the other end is gone, and all that it has sent is taken, it
// is ErrClosed. A message that is no Receive is taken, and is ErrLayout; where a descriptor comes next, it is syscall.ENOMSG.
func (c *Channel[Send, Receive]) Receive(ctx context.Context) (Receive, error) {
	var taken message
	err := c.await(ctx, "receive", taken.receive)
	return c.read(&taken, err)
}

// TryReceive takes the next message, if there is one now; otherwise it is ErrWouldBlock.
func (c *Channel[Send, Receive]) TryReceive() (Receive, error) {
	var taken message
	err := c.call("receive", taken.receive)
	return c.read(&taken, err)
}

func (c *Channel[Send, Receive]) read(taken *message, err error) (value Receive, _ error) {
	if err != nil {
		return value, err
	}
	if err := c.in.decode(unsafe.Pointer(unsafe.SliceData(taken.room)), int(taken.length), &value, true); err != nil {
		return value, &Error{What: "receive", Code: ErrLayout, Message: "a message of " + err.Error()}
	}
	return value, nil
}

// message is one on its way from C, in room that grows until it fits.
type message struct {
	room   []byte
	length C.size_t
}

func (m *message) receive(end *C.tine_channel) C.int {
	if m.room == nil {
		m.room = make([]byte, usualMessage)
	}
	for {
		code := C.tine_channel_receive(end, 0, unsafe.Pointer(&some(m.room)[0]), C.size_t(len(m.room)), &m.length)
		if Code(code) != ErrMessageTooLong {
			return code
		}
		m.room = make([]byte, m.length)
	}
}

// All gives the messages as they come, until the other end is gone, or ctx is done, or one is no Receive: then the error comes last.
func (c *Channel[Send, Receive]) All(ctx context.Context) iter.Seq2[Receive, error] {
	return func(yield func(Receive, error) bool) {
		for {
			message, err := c.Receive(ctx)
			if errors.Is(err, ErrClosed) || !yield(message, err) || err != nil {
				return
			}
		}
	}
}

// Reserve is room for a message of up to so many bytes, which is written in place and sent by Commit: more than 64 KiB are not copied on their
// way to Peek. It waits until the other end has released room, or until ctx is done; sending goes on meanwhile. There is one reserved message at
// a time, whatever the type of messages: a second one is syscall.EBUSY. What is written there is what Send would make of a message; of a []byte
// its bytes.
//
// The room is the library's memory: it must not be used any more after Commit, Abandon or Close, or when the end was given away.
func (e *channelEnd) Reserve(ctx context.Context, length int) ([]byte, error) {
	place := placed{length: C.size_t(length)}
	if length < 0 {
		return nil, invalid("reserve", "a length of %d", length)
	}
	if err := e.take(ctx, "reserve", e.reserves); err != nil {
		return nil, err
	}
	defer func() { <-e.reserves }()
	err := pushing(ctx, "reserve", func(timeout C.int64_t) (C.int, error) { return e.reserve(&place, timeout) })
	return place.bytes(err)
}

// TryReserve is the same without waiting: where there is no room now, or Reserve is waiting for some, it is ErrWouldBlock.
func (e *channelEnd) TryReserve(length int) ([]byte, error) {
	place := placed{length: C.size_t(length)}
	if length < 0 {
		return nil, invalid("reserve", "a length of %d", length)
	}
	select {
	case e.reserves <- struct{}{}:
		defer func() { <-e.reserves }()
	default: // another goroutine waits for room
		return nil, &Error{What: "reserve", Code: ErrWouldBlock}
	}
	code, err := e.reserve(&place, 0)
	return place.bytes(either(err, failed("reserve", code)))
}

// placed is a message in C's memory.
type placed struct {
	place  unsafe.Pointer
	length C.size_t
}

// reserve is for who has the turn.
func (e *channelEnd) reserve(p *placed, timeout C.int64_t) (C.int, error) {
	return e.use("reserve", func(end *C.tine_channel) C.int { return C.tine_channel_reserve(end, p.length, timeout, &p.place) })
}

func (e *channelEnd) peek(p *placed) func(end *C.tine_channel) C.int {
	return func(end *C.tine_channel) C.int {
		e.peeks.Lock()
		defer e.peeks.Unlock()
		return C.tine_channel_peek(end, 0, &p.place, &p.length)
	}
}

func (p *placed) bytes(err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	if p.length == 0 {
		return []byte{}, nil
	}
	return unsafe.Slice((*byte)(p.place), int(p.length)), nil
}

// Commit sends the first bytes of the message that is reserved, waiting for room on the way until ctx is done. After an error but ErrClosed
// it is still reserved. Where none is reserved, it is syscall.EPERM.
func (e *channelEnd) Commit(ctx context.Context, length int) error {
	if length < 0 {
		return invalid("commit", "a length of %d", length)
	}
	return e.push(ctx, "commit", func(end *C.tine_channel, timeout C.int64_t) C.int {
		return C.tine_channel_commit(end, C.size_t(length), timeout)
	})
}

// Abandon gives up the message that is reserved. Where none is, it is syscall.EPERM.
func (e *channelEnd) Abandon() error {
	return e.call("abandon", func(end *C.tine_channel) C.int { return C.tine_channel_abandon(end) })
}

// Peek takes the next message to be read in place, waiting for one until ctx is done: what Send has made of it. One of 64 KiB to 32 MiB is not
// copied, unless Send has found all room in use; nor is one that was reserved. The program may read and write it until Release. There is one
// such message at a time: a second one is syscall.EBUSY. Where a descriptor comes next, it is syscall.ENOMSG.
//
// The message is the library's memory: it must not be used any more after Release or Close, or when the end was given away.
func (e *channelEnd) Peek(ctx context.Context) ([]byte, error) {
	var place placed
	err := e.await(ctx, "peek", e.peek(&place))
	return place.bytes(err)
}

// TryPeek is the same without waiting: where there is no message now, it is ErrWouldBlock.
func (e *channelEnd) TryPeek() ([]byte, error) {
	var place placed
	err := e.call("peek", e.peek(&place))
	return place.bytes(err)
}

// Release lets go of the message that Peek has taken. Where there is none, it is syscall.EPERM.
func (e *channelEnd) Release() error {
	return e.call("release", func(end *C.tine_channel) C.int { return C.tine_channel_release(end) })
}

// SendFD sends a descriptor, which stays the caller's: of a file, or of an end of another channel (FD). It waits for room until
// ctx is done.
func (e *channelEnd) SendFD(ctx context.Context, fd int) error {
	number, err := numberInC("send", "descriptor", fd)
	if err != nil {
		return err
	}
	return e.push(ctx, "send", func(end *C.tine_channel, timeout C.int64_t) C.int {
		return C.tine_channel_send_fd(end, number, timeout)
	})
}

// ReceiveFD takes a descriptor, which is the caller's to close, waiting for one until ctx is done. Where a message comes next, it is
// syscall.ENOMSG.
func (e *channelEnd) ReceiveFD(ctx context.Context) (int, error) {
	fd := C.int(-1)
	err := e.await(ctx, "receive", func(end *C.tine_channel) C.int { return C.tine_channel_receive_fd(end, 0, &fd) })
	return int(fd), err
}

// FD is a descriptor of the end, which stays the channel's: to be sent to another process, and to be attached there.
func (e *channelEnd) FD() (fd int, err error) {
	err = e.call("channel", func(end *C.tine_channel) C.int { fd = int(C.tine_channel_fd(end)); return min(C.int(fd), 0) })
	return fd, err
}

// Close closes the end. What was sent can still be received at the other one, which then gets ErrClosed. Again it does nothing.
func (e *channelEnd) Close() error {
	e.let("close", func(end *C.tine_channel) bool { C.tine_channel_close(end); return true })
	return nil
}
