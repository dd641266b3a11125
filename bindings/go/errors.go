package tine

/*
#cgo pkg-config: tine
#include "glue.h"
*/
import "C"

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// A Code is a code of tine's C interface and an error: a negated errno value, or one of tine's own below -4095. Every
// failure of this package has one, and errors.Is finds it:
//
//	errors.Is(err, tine.ErrWorkerDied)
//	errors.Is(err, syscall.ENOMEM)
//	errors.Is(err, context.DeadlineExceeded) // for -ETIMEDOUT
type Code int

// The codes of tine's own, and those of errno that programs ask for most.
const (
	ErrWorkerDied     Code = C.TINE_EDIED             // the process that ran the task died: see Death
	ErrNotInitialized Code = C.TINE_ENOINIT           // Main has not run in this process
	ErrWorkerStart    Code = C.TINE_EWORKERSTART      // workers cannot be started, or end as soon as they are
	ErrBadCode        Code = C.TINE_EBADCODE          // a C function returned a number that isn't its to use
	ErrItems          Code = C.TINE_EITEMS            // items of a map failed: see MapError
	ErrFunction       Code = C.TINE_EFUNCTION         // a worker does not have the function
	ErrName           Code = C.TINE_ENAME             // the workers know no function of this name
	ErrID             Code = C.TINE_EID               // the task is over
	ErrShutdown       Code = C.TINE_ESHUTDOWN         // the pool has been shut down or closed
	ErrForked         Code = C.TINE_EFORKED           // the object is the parent process's
	ErrWorker         Code = C.TINE_EWORKER           // the call is the host's, and was made in a worker
	ErrVersion        Code = C.TINE_EVERSION          // the workers have another build of tine
	ErrBroken         Code = C.TINE_EBROKEN           // the barrier is broken
	ErrMemoryLimit    Code = C.TINE_EMEMORY           // the task used more memory than its worker may
	ErrInternal       Code = C.TINE_EPANIC            // an error inside of tine
	ErrCanceled       Code = -Code(syscall.ECANCELED) // the task was cancelled; context.Canceled, too
	ErrDeadline       Code = -Code(syscall.ETIMEDOUT) // a deadline has passed; context.DeadlineExceeded, too
	ErrWouldBlock     Code = -Code(syscall.EAGAIN)    // it would have to wait
	ErrNoMemory       Code = -Code(syscall.ENOMEM)    // the heap is full
	ErrClosed         Code = -Code(syscall.EPIPE)     // the queue is closed
	ErrOwnerDied      Code = -Code(syscall.EOWNERDEAD)
	ErrNotRecoverable Code = -Code(syscall.ENOTRECOVERABLE)
	ErrNotHeld        Code = -Code(syscall.EPERM)
	ErrInvalid        Code = -Code(syscall.EINVAL)
	ErrMessageTooLong Code = -Code(syscall.EMSGSIZE)
	ErrLayout         Code = -Code(syscall.EPROTO)    // bytes that are not of the type that they should be of
	ErrPanicked       Code = -Code(syscall.EREMOTEIO) // the Go function panicked; the message says with what
	otherFailure      Code = -Code(syscall.EIO)
)

// Error is the sentence that tine has for the code.
func (c Code) Error() string { return C.GoString(C.tine_strerror(C.int(c))) }

// Name is the name of the constant in C: "TINE_EDIED", "EINVAL".
func (c Code) Name() string { return C.GoString(C.tine_errname(C.int(c))) }

// Is says whether target is the same: the syscall.Errno, or for cancelling and deadlines the context package's error.
func (c Code) Is(target error) bool {
	switch target {
	case context.Canceled:
		return c == ErrCanceled
	case context.DeadlineExceeded:
		return c == ErrDeadline
	}
	number, ok := target.(syscall.Errno)
	return ok && c >= -4095 && c < 0 && int(number) == -int(c)
}

// A Delivery says whether a task's function has run.
type Delivery int

const (
	Ran        Delivery = C.TINE_RAN         // to its end
	NotStarted Delivery = C.TINE_NOT_STARTED // for certain not
	MaybeRan   Delivery = C.TINE_MAYBE_RAN   // it had begun when its process died
)

func (d Delivery) String() string {
	switch d {
	case Ran:
		return "ran"
	case NotStarted:
		return "not started"
	case MaybeRan:
		return "maybe ran"
	}
	return fmt.Sprintf("Delivery(%d)", int(d))
}

// An Error is what a task, an item of a map or a call of this package has failed with. errors.Is finds its Code and its
// Cause, errors.As its Death.
type Error struct {
	What     string   // the function's name, or what was called
	Code     Code     // what went wrong
	Message  string   // in words; may be empty
	Delivery Delivery // of a task: whether it ran
	Death    *Death   // how the process died that ran it; nil if none did
	Deaths   int      // how many processes have died with it
	Cause    error    // of a cancelled task: why its context is done
}

// explain says why a task was cancelled that had a context.
func (e *Error) explain(ctx context.Context) {
	if e.Cause == nil && (e.Code == ErrCanceled || e.Code == ErrDeadline) {
		e.Cause = context.Cause(ctx)
	}
}

func (e *Error) Error() string {
	text := e.Message
	switch {
	case e.Death != nil:
		text = e.Death.Error()
		if e.Code != ErrWorkerDied {
			text = e.Code.Error() + "; " + text
		}
	case text == "":
		text = e.Code.Error()
	}
	if e.Cause != nil {
		text += " (" + e.Cause.Error() + ")"
	}
	return "tine: " + e.What + ": " + strings.TrimSuffix(text, ".")
}

// Unwrap gives the code, the cause and the death.
func (e *Error) Unwrap() []error {
	all := []error{e.Code}
	if e.Cause != nil {
		all = append(all, e.Cause)
	}
	if e.Death != nil {
		all = append(all, e.Death)
	}
	return all
}

// A Death is the report of a process that died with a task: errors.As finds it in the task's error.
type Death struct {
	PID          int
	Signal       syscall.Signal // that ended it, or 0
	ExitCode     int            // where Signal is 0
	FaultAddress uintptr        // of SIGSEGV, SIGBUS, SIGFPE and SIGILL
	Backtrace    string         // lines of module and offset, for addr2line; of C code only
	MaxRSSBytes  uint64
	UserTime     time.Duration
	SystemTime   time.Duration
	OutOfMemory  bool   // most likely killed for want of memory
	Item         uint64 // of a map: which item it was running
	Function     string
	Output       string // the last that it wrote, with OutputCapture
}

func (d *Death) Error() string {
	how := fmt.Sprintf("exit status %d", d.ExitCode)
	if d.Signal != 0 {
		how = fmt.Sprintf("signal %d, %s", int(d.Signal), d.Signal)
		if d.FaultAddress != 0 {
			how += fmt.Sprintf(", at address %#x", d.FaultAddress)
		}
	}
	if d.OutOfMemory {
		how += ", for want of memory"
	}
	return fmt.Sprintf("worker %d died: %s", d.PID, how)
}

func deathOf(d *C.tine_death) *Death {
	if d == nil {
		return nil
	}
	return &Death{
		PID:          int(d.pid),
		Signal:       syscall.Signal(d.signal),
		ExitCode:     int(d.code),
		FaultAddress: uintptr(d.fault_address),
		Backtrace:    C.GoString(d.backtrace),
		MaxRSSBytes:  uint64(d.max_rss_bytes),
		UserTime:     time.Duration(d.user_ns),
		SystemTime:   time.Duration(d.system_ns),
		OutOfMemory:  d.out_of_memory != 0,
		Item:         uint64(d.item),
		Function:     C.GoString(d.function),
		Output:       C.GoStringN(d.output, C.int(d.output_length)),
	}
}

// failure is what a task's or an item's result says, if it has failed.
func failure(what string, r *C.tine_result) *Error {
	if r.status >= 0 {
		return nil
	}
	return &Error{
		What:     what,
		Code:     Code(r.status),
		Message:  C.GoString(r.message),
		Delivery: Delivery(r.delivery),
		Death:    deathOf(r.death),
		Deaths:   int(r.deaths),
	}
}

// failed is the error of a call: nil, where code is none.
func failed(what string, code C.int) error {
	if code >= 0 {
		return nil
	}
	return &Error{What: what, Code: Code(code)}
}

func failedWith(what string, answer C.tine_go_answer) error {
	if answer.code >= 0 {
		return nil
	}
	err := &Error{What: what, Code: Code(answer.code)}
	if answer.text != nil {
		err.Message = C.GoString(answer.text)
		C.free(unsafe.Pointer(answer.text))
	}
	return err
}

func either(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

func invalid(what, format string, arguments ...any) error {
	return &Error{What: what, Code: ErrInvalid, Message: fmt.Sprintf(format, arguments...)}
}
