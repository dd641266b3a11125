package tine

/*
#include "glue.h"
*/
import "C"

import (
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"
)

// In a process of a pool the main goroutine stays on the main thread: it is the one whose end the kernel tells the
// pool's other processes of.
func init() {
	if inPool() {
		runtime.LockOSThread()
	}
}

func inPool() bool { return os.Getenv("TINE_CHILD") != "" }

// functions are the Go functions of this program, by name.
var functions = struct {
	sync.Mutex
	named map[string]*registered
	fixed bool
}{named: map[string]*registered{}}

// registered is a Go function as the worker calls it.
type registered struct {
	name string
	// run decodes the input, calls the function and writes the output.
	run func(task *task, input unsafe.Pointer, length int) error
}

var mainHasRun atomic.Bool

// Main is the first thing in main, and in a TestMain. In the program that its user has started it returns; in a copy
// that a pool has started it never does: there it is a worker until it ends. What package initialisation does runs in
// every worker as well.
//
// Functions are registered before it: Register as the value of a package's variable is.
func Main() {
	functions.Lock()
	again := functions.fixed
	functions.fixed = true
	for name := range functions.named {
		if again {
			break
		}
		c := C.CString(name)
		code := C.tine_go_register(c)
		C.free(unsafe.Pointer(c))
		if code != 0 {
			functions.Unlock()
			panic(failed("Main: register "+name, code))
		}
	}
	functions.Unlock()
	if again {
		return
	}
	if inPool() {
		// What this process starts itself is no process of the pool's.
		os.Unsetenv("TINE_CHILD")
		C.tine_go_allow_init()
	}
	C.tine_go_init()
	mainHasRun.Store(true)
}

func add(function *registered) {
	functions.Lock()
	defer functions.Unlock()
	if functions.fixed {
		panic("tine: Register(\"" + function.name + "\") after Main: workers would not know it")
	}
	if functions.named[function.name] != nil {
		panic("tine: Register(\"" + function.name + "\"): a function has this name already")
	}
	functions.named[function.name] = function
}
