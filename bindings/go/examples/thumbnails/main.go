// thumbnails IN_DIR OUT_DIR: shrinks every JPEG and PNG of a directory, on all cores, to the same files as the C program
// of that name: its workers call the same C code. A damaged file, or a worker that dies, costs that file alone.
package main

/*
#cgo pkg-config: libjpeg libpng
#cgo CFLAGS: -I${SRCDIR}/../../../../examples-c
#include <stdlib.h>
#include "image.h"
static int shrink(const char *in, const char *out, int width, int crash, char reason[IMAGE_REASON])
{
    struct image image; size_t bytes;
    if (crash) *(volatile char *volatile)NULL = 1;
    if (image_read(&image, in, width, reason)) return -1;
    int rc = image_shrink(&image, width, reason) || image_write(&image, out, 85, &bytes, reason) ? -1 : 0;
    image_free(&image);
    return rc;
}
*/
import "C"

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"tine.example/tine"
	"unsafe"
)

type job struct {
	In, Out      string
	Width, Crash int
}

var shrink = tine.Register("shrink", func(ctx context.Context, job job) (struct{}, error) {
	in, out, reason := C.CString(job.In), C.CString(job.Out), (*C.char)(C.calloc(1, C.IMAGE_REASON))
	defer func() { C.free(unsafe.Pointer(in)); C.free(unsafe.Pointer(out)); C.free(unsafe.Pointer(reason)) }()
	if C.shrink(in, out, C.int(job.Width), C.int(job.Crash), reason) != 0 {
		return struct{}{}, errors.New(C.GoString(reason))
	}
	return struct{}{}, nil
})

func main() {
	tine.Main()
	workers := flag.Int("j", 0, "how many workers; 0: one for each processor")
	crash := flag.String("crash-on", "", "have the worker that gets this `file` crash")
	flag.Parse()
	jpegs, _ := filepath.Glob(filepath.Join(flag.Arg(0), "*.jpg"))
	pngs, _ := filepath.Glob(filepath.Join(flag.Arg(0), "*.png"))
	if flag.NArg() != 2 || os.MkdirAll(flag.Arg(1), 0o777) != nil {
		fmt.Fprintln(os.Stderr, "usage: thumbnails [OPTION]... IN_DIR OUT_DIR")
		os.Exit(2)
	}
	jobs := []job{}
	for _, file := range append(jpegs, pngs...) {
		jobs = append(jobs, job{In: file, Out: filepath.Join(flag.Arg(1), filepath.Base(file)), Width: 256})
		if filepath.Base(file) == *crash {
			jobs[len(jobs)-1].Crash = 1
		}
	}
	pool, err := tine.NewPool(tine.Options{Workers: *workers})
	if err == nil {
		_, err = tine.Map(context.Background(), pool, shrink, jobs)
		pool.Close()
	}
	if failed := (*tine.MapError)(nil); errors.As(err, &failed) {
		for _, item := range failed.Items {
			fmt.Printf("%s: %v\n", filepath.Base(jobs[item.Item].In), item.Err)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
