package tine

/*
#include "glue.h"
*/
import "C"

import (
	"runtime/cgo"
)

//export tineGoOnce
func tineGoOnce(user C.uintptr_t) C.int {
	return C.int(cgo.Handle(user).Value().(func() int)())
}
