package tine

/*
#include "glue.h"
*/
import "C"

import (
	"fmt"
	"reflect"
	"unsafe"
)

// An Address is where something lies in a pool's heap: a block, a lock, a queue. It means the same in every process of
// the pool, in any language: in C it is a pointer. It travels as a number.
type Address uintptr

// AddressOf is the address of a value that lies in a pool's heap: of an element of what Alloc gave, or of a field of
// one. Of anything else it is of no use, and whoever is given it says so.
func AddressOf[T any](value *T) Address { return Address(unsafe.Pointer(value)) }

// pointer is the address as Go has it. It is none of Go's own memory.
func (a Address) pointer() unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&a)) }

// some is for bytes on their way to C, which are written as unsafe.Pointer(&some(b)[0]) in the very call. Of this cgo sees that the bytes
// alone are meant. Of any other pointer it looks for Go's pointers in all that the bytes are a part of, a struct of the program's for
// example, and panics if it finds one. Where b is empty it is a byte that nobody looks at.
func some(b []byte) []byte {
	if len(b) == 0 {
		return nothing[:]
	}
	return b
}

var nothing [1]byte

// bytesOf are the bytes of values without pointers in them.
func bytesOf[T any](values []T) []byte {
	var one T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(values))), len(values)*int(unsafe.Sizeof(one)))
}

// Alloc gives n zeroed values in the pool's heap, without a copy for any process. T must have no pointers in it: they
// would mean nothing to other processes, and Go's garbage collector does not look there. The memory stays until Free, or
// until Close closes the pool; the slice must not be used after that. The garbage collector no longer ends the pool: it
// cannot tell whether the slice is still used.
func Alloc[T any](pool *Pool, n int) ([]T, error) {
	t := reflect.TypeFor[T]()
	if why := whyNotPlain(t, ""); why != "" {
		return nil, invalid("alloc", "%s cannot lie in shared memory: %s", t, why)
	}
	if n < 0 {
		return nil, invalid("alloc", "%d values", n)
	}
	if err := pool.enter("alloc"); err != nil {
		return nil, err
	}
	defer pool.leave()
	p := C.tine_calloc(pool.pointer, C.size_t(n), C.size_t(t.Size()))
	if p == nil {
		return nil, &Error{What: "alloc", Code: ErrNoMemory, Message: fmt.Sprintf("no room in the heap for %d of %s", n, t)}
	}
	pool.pin()
	return unsafe.Slice((*T)(p), n), nil
}

// Free gives memory back that Alloc has given, from whatever process of the pool. What is freed already, or is no
// beginning of what Alloc gave, is ErrInvalid.
func Free[T any](pool *Pool, memory []T) error {
	if err := pool.enter("free"); err != nil {
		return err
	}
	defer pool.leave()
	address := C.uintptr_t(uintptr(unsafe.Pointer(unsafe.SliceData(memory))))
	return failed("free", C.tine_go_heap_free(C.tine_pool_heap(pool.pointer), address))
}

// Shared is a slice in the pool's heap, as it travels in a task's input or output: without its bytes. In C it is a
// struct of a pointer and a size_t, the number of elements.
type Shared[T any] struct {
	address Address
	length  uintptr
}

// Share makes of a slice that lies in the pool's heap what other processes can make the same slice of.
func Share[T any](pool *Pool, memory []T) (Shared[T], error) {
	shared := Shared[T]{Address(unsafe.Pointer(unsafe.SliceData(memory))), uintptr(len(memory))}
	if _, err := shared.Slice(pool); err != nil {
		return Shared[T]{}, err
	}
	return shared, nil
}

// Slice is the slice, in whatever process of the pool: in a worker, pool is what PoolOf gives. All of it lies in the
// pool's heap, or it is ErrInvalid. As with Alloc, the pool ends by Close alone from now on.
func (s Shared[T]) Slice(pool *Pool) ([]T, error) {
	t := reflect.TypeFor[T]()
	if why := whyNotPlain(t, ""); why != "" {
		return nil, invalid("shared", "%s cannot lie in shared memory: %s", t, why)
	}
	if s.length == 0 {
		return nil, nil
	}
	if s.length > ^uintptr(0)/max(t.Size(), 1)/2 {
		return nil, invalid("shared", "%d of %s", s.length, t)
	}
	if err := pool.inHeap("shared", s.address, s.length*t.Size(), uintptr(t.Align())); err != nil {
		return nil, err
	}
	pool.pin()
	return unsafe.Slice((*T)(s.address.pointer()), s.length), nil
}

// inHeap says why these bytes are none of the pool's heap.
func (p *core) inHeap(what string, address Address, size, align uintptr) error {
	if err := p.enter(what); err != nil {
		return err
	}
	defer p.leave()
	if uintptr(address)%align != 0 {
		return invalid(what, "%#x is not aligned to %d bytes", uintptr(address), align)
	}
	switch code := C.tine_go_is_shared(p.pointer, C.uintptr_t(address), C.size_t(size)); {
	case code < 0:
		return failed(what, code)
	case code == 0:
		return invalid(what, "%d bytes at %#x, which are not in the pool's heap", size, uintptr(address))
	}
	return nil
}

// At is the value at an address in the pool's heap that another process has given. All of it lies there, or it is
// ErrInvalid.
func At[T any](pool *Pool, address Address) (*T, error) {
	values, err := Shared[T]{address, 1}.Slice(pool)
	if err != nil {
		return nil, err
	}
	return &values[0], nil
}
