//go:build cgo

package tine

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"
)

// readiness lets goroutines wait for a descriptor of tine's without a thread: Go's own poller does. The descriptor is tine's to
// close, and its modes are not Go's to change; so what Go has is an epoll descriptor that has it.
type readiness struct {
	file *os.File
	conn syscall.RawConn
}

// newReadiness is of no descriptor yet.
func newReadiness() (*readiness, error) {
	around, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if err = syscall.SetNonblock(around, true); err != nil { // which is how os knows that it can be polled
		syscall.Close(around)
		return nil, err
	}
	r := &readiness{file: os.NewFile(uintptr(around), "tine")}
	if r.conn, err = r.file.SyscallConn(); err != nil {
		r.file.Close()
		return nil, err
	}
	return r, nil
}

// watch makes it that of a descriptor. It fails where the kernel has no memory for one more, or allows the user no more (ENOSPC).
func (r *readiness) watch(fd int) error {
	var err error
	event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}
	return errors.Join(r.conn.Control(func(around uintptr) {
		err = syscall.EpollCtl(int(around), syscall.EPOLL_CTL_ADD, fd, &event)
	}), err)
}

// wait calls attempt, which says whether it has come to something, now and each time that there is something. It ends early when
// ctx is done, and when close is called. One goroutine at a time.
func (r *readiness) wait(ctx context.Context, attempt func() bool) error {
	defer r.file.SetReadDeadline(time.Time{})
	defer afterFunc(ctx, func() { r.file.SetReadDeadline(time.Unix(1, 0)) })()
	err := r.conn.Read(func(around uintptr) bool {
		for !attempt() {
			var events [1]syscall.EpollEvent
			if n, _ := syscall.EpollWait(int(around), events[:], 0); n <= 0 {
				return false
			}
			time.Sleep(time.Millisecond) // it is there, and in somebody else's hands for the moment
		}
		return true
	})
	if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (r *readiness) close() {
	if r != nil {
		r.file.Close()
	}
}
