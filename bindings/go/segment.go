package tine

/*
#include "glue.h"
*/
import "C"

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"unsafe"
)

// A Segment is shared memory of a fixed size for any processes, in no pool's heap. It has no name, and is gone with the last process
// that has it. It goes to the workers of a pool (Pool.ShareSegment), to a process (ProcessOptions.Segments), and as a descriptor (FD)
// to any other.
//
// A Segment needs Close: the garbage collector closes none, and cannot tell whether its memory is still used.
type Segment struct {
	mu      sync.RWMutex // held for writing by Close
	handle  *C.tine_segment
	address Address
	size    int
}

// NewSegment makes a segment of so many bytes, all of them zero.
func NewSegment(size int) (*Segment, error) {
	if size <= 0 {
		return nil, invalid("segment", "%d bytes", size)
	}
	return segmentOf(C.tine_go_segment(C.size_t(size), -1, 0))
}

// AttachSegment maps a segment that has come from another process as a descriptor, which stays the caller's to close. It lies at the
// same address as there, so addresses in it are valid; if something else lies there, that is syscall.EEXIST. Then, and for memory that
// this process has already, AttachSegmentAnywhere helps: its addresses are this process's alone.
func AttachSegment(fd int) (*Segment, error) { return attachSegment(fd, 0) }

// AttachSegmentAnywhere is AttachSegment at whatever address is free.
func AttachSegmentAnywhere(fd int) (*Segment, error) {
	return attachSegment(fd, C.TINE_SEGMENT_ANY_ADDRESS)
}

func attachSegment(fd int, flags C.uint32_t) (*Segment, error) {
	number, err := numberInC("segment", "descriptor", fd)
	if err != nil {
		return nil, err
	}
	return segmentOf(C.tine_go_segment(0, number, flags))
}

func segmentOf(answer C.tine_go_answer) (*Segment, error) {
	if err := failedWith("segment", answer); err != nil {
		return nil, err
	}
	handle := (*C.tine_segment)(answer.made)
	return &Segment{handle: handle, address: Address(C.tine_segment_address(handle)), size: int(C.tine_segment_size(handle))}, nil
}

// Bytes are the segment's memory, which must not be used after Close. They are nil then.
func (s *Segment) Bytes() []byte {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.handle == nil {
		return nil
	}
	return unsafe.Slice((*byte)(s.address.pointer()), s.size)
}

// Address is where its first byte lies: in each process that has it, unless it was attached anywhere.
func (s *Segment) Address() Address { return s.address }

// FD is a descriptor of the segment, which stays the segment's: to be sent to another process, and attached there.
func (s *Segment) FD() (fd int, err error) {
	err = s.use("segment", func(handle *C.tine_segment) C.int {
		fd = int(C.tine_segment_fd(handle))
		return C.int(min(fd, 0))
	})
	return fd, err
}

// Close unmaps it in this process; others keep it. syscall.EBUSY: a thread holds a lock in it, and all is as before. Again it does
// nothing.
func (s *Segment) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.handle == nil {
		return nil
	}
	if err := failed("segment", C.tine_segment_close(s.handle)); err != nil {
		return err
	}
	s.handle = nil
	return nil
}

// use makes a call on the segment, which is not closed meanwhile.
func (s *Segment) use(what string, f func(handle *C.tine_segment) C.int) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.handle == nil {
		return closedSegment(what)
	}
	return failed(what, f(s.handle))
}

func closedSegment(what string) *Error {
	return &Error{What: what, Code: ErrGone, Message: "the segment is closed"}
}

// handlesOf are segments as C has them; they are not closed before release.
func handlesOf(segments []*Segment, what string) (handles []*C.tine_segment, release func(), err error) {
	for i, s := range segments {
		if s == nil {
			return nil, func() {}, invalid(what, "ProcessOptions.Segments[%d] is nil", i)
		}
		if slices.Contains(segments[:i], s) { // a lock that is taken twice waits for who waits for it
			return nil, func() {}, invalid(what, "ProcessOptions.Segments[%d] is there twice", i)
		}
	}
	// A Close that waits for one of them lets no further reader in, so all take them in one order.
	ordered := slices.SortedFunc(slices.Values(segments), func(a, b *Segment) int {
		return cmp.Compare(uintptr(unsafe.Pointer(a)), uintptr(unsafe.Pointer(b)))
	})
	held := 0
	release = func() {
		for _, s := range ordered[:held] {
			s.mu.RUnlock()
		}
	}
	for _, s := range ordered {
		s.mu.RLock()
		held++
		if s.handle == nil {
			return nil, release, closedSegment(what)
		}
	}
	for _, s := range segments {
		handles = append(handles, s.handle)
	}
	return handles, release, nil
}

// ShareSegment has a segment mapped in all workers of the pool, those of later, too, at the address that it has here. They find what
// lies in it by its address: At, Shared.Slice. The workers keep it until the pool is closed. A segment that the pool has already is
// syscall.EALREADY.
func (p *Pool) ShareSegment(ctx context.Context, s *Segment) error {
	for {
		if err := p.enter("share"); err != nil {
			return err
		}
		var code C.int
		err := s.use("share", func(handle *C.tine_segment) C.int {
			code = C.tine_pool_share(p.pointer, handle, C.int64_t(patience(ctx)))
			return code
		})
		p.leave()
		if !isWaiting(code) {
			return err
		}
		if ctx.Err() != nil {
			return ended(ctx, "share")
		}
		if p.closing.Load() {
			return closed("share")
		}
	}
}
