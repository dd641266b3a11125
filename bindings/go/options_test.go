package tine_test

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"tine.example/tine"
)

// A number that C has no room for is an error that names it, and not another number.
func TestNumbersThatAreTooLarge(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	here, there, err := tine.NewChannel[int, int]()
	must(t, err)
	defer here.Close()
	defer there.Close()
	file := got(os.Open("/dev/null"))(t)
	defer file.Close()
	fd := int(file.Fd()) + 1<<32
	p := got(tine.StartProcess(misbehave, "deadlock", tine.ProcessOptions{}))(t)
	defer p.Close()
	mapped := func(options tine.TaskOptions, more tine.MapOptions) error {
		return second(tine.MapWith(background, pool, doubled.With(options), numbers(3), more))
	}
	submitted := func(options tine.TaskOptions) error { return doubled.With(options).Submit(background, pool, 1).Err() }
	twice := tine.TaskOptions{Retries: 1 << 32, Idempotent: true}
	for _, c := range []struct {
		err  error
		says string
	}{
		{submitted(twice), "TaskOptions.Retries is 4294967296"},
		{submitted(tine.TaskOptions{Retries: -1}), "TaskOptions.Retries is -1"},
		{submitted(tine.TaskOptions{Deadline: -1}), "TaskOptions.Deadline is -1ns"},
		{submitted(tine.TaskOptions{QueueDeadline: -time.Second}), "TaskOptions.QueueDeadline is -1s"},
		{mapped(twice, tine.MapOptions{}), "TaskOptions.Retries is 4294967296"},
		{mapped(tine.TaskOptions{Deadline: -1}, tine.MapOptions{}), "TaskOptions.Deadline is -1ns"},
		{mapped(tine.TaskOptions{}, tine.MapOptions{Chunk: -2}), "MapOptions.Chunk is -2"},
		{second(tine.NewQueue[int](pool, tine.QueueOptions{CapacityMessages: -3})), "QueueOptions.CapacityMessages is -3"},
		{second(tine.NewQueue[int](pool, tine.QueueOptions{CapacityBytes: -4})), "QueueOptions.CapacityBytes is -4"},
		{here.SendFD(background, fd), "descriptor 42949"},
		{second(tine.AttachChannel[int, int](fd)), "descriptor 42949"},
		{second(tine.AttachSegment(fd)), "descriptor 42949"},
		{second(tine.AttachSegmentAnywhere(fd)), "descriptor 42949"},
		{p.Signal(syscall.Signal(1<<32 + 9)), "signal 4294967305"},
		{p.SignalTree(syscall.Signal(1<<32 + 9)), "signal 4294967305"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.says) {
			t.Errorf("%v does not say %q", c.err, c.says)
		} else if !errors.Is(c.err, tine.ErrInvalid) && !errors.Is(c.err, syscall.EBADF) {
			t.Error(c.err)
		}
	}
	_, err = tine.StartProcess(misbehave, "no", tine.ProcessOptions{Nice: 1 << 32})
	if err == nil || !strings.Contains(err.Error(), "Options.Nice is 4294967296") {
		t.Error(err)
	}
}
