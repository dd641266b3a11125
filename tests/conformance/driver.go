// The conformance suite's driver for Go: README.md says what it does.
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"tine.example/tine"
)

// ---- Pools ----

func options() tine.TaskOptions {
	return tine.TaskOptions{
		Deadline: max(duration("deadline_ms"), duration("item_deadline_ms")), QueueDeadline: duration("queue_deadline_ms"),
		Retries: count("retries"), Idempotent: count("idempotent") == 1,
		RoomTimeout: cmp.Or(duration("timeout_ms"), -1),
	}
}

func create() (err error) {
	pool, err = tine.NewPool(tine.Options{
		Workers: count("workers"), WindowTasks: count("window_tasks"), WindowBytes: uint64(count("window_bytes")),
		HeapBytes: uint64(count("heap_bytes")), Grace: duration("grace_ms"), Deadline: duration("deadline_ms"),
		Start: start, WorkerPath: worker, Preload: []string{preload},
	})
	return err
}

func submit() error {
	future := tine.Named[[]byte, []byte](words[2]).With(options()).Submit(background, pool, parse(words[3]))
	if err := future.SubmitErr(); err != nil {
		return err
	}
	things[words[1]] = future
	if count("callback") == 1 {
		things[words[1]] = callBack(future)
	}
	return nil
}

func wait() string {
	future, ok := things[words[1]].(*tine.Future[[]byte])
	if !ok {
		return tine.ErrID.Name()
	}
	if err := closed(future.Done()); err != nil {
		return name(err)
	}
	things[words[1]] = nil
	return ended(future)
}

func ended(future *tine.Future[[]byte]) string {
	out, err := future.Wait(background)
	return told(future.Status(), out, err, future.Deaths())
}

// callback is a goroutine that waits for a future: what Go has in place of a function that the pool calls.
type callback struct {
	future *tine.Future[[]byte]
	called chan struct{}
}

func callBack(future *tine.Future[[]byte]) *callback {
	c := &callback{future, make(chan struct{})}
	go func() {
		future.Err()
		close(c.called)
	}()
	return c
}

func (c *callback) told() string {
	if err := closed(c.called); err != nil {
		return name(err)
	}
	return ended(c.future)
}

// over is asked once the pool has ended.
func (c *callback) over(task string) {
	select {
	case <-c.called:
	case <-time.After(10 * time.Second):
		check(errors.New("never told of " + task))
	}
}

func told(status int, out []byte, err error, deaths int) string {
	text := fmt.Sprintf("%d %s", status, show(out))
	var e *tine.Error
	if errors.As(err, &e) {
		text = e.Code.Name() + " " + strings.ReplaceAll(e.Delivery.String(), " ", "_") + ending(e.Death)
		if shows("message") {
			text += " " + e.Message
		}
	}
	if shows("deaths") {
		text += fmt.Sprintf(" deaths %d", deaths)
	}
	return text
}

func ending(death *tine.Death) string {
	switch {
	case death == nil:
		return ""
	case death.Signal != 0:
		return fmt.Sprintf(" signal %d", death.Signal)
	}
	return fmt.Sprintf(" exit %d", death.ExitCode)
}

func cancel() error {
	switch task := things[words[1]].(type) {
	case *tine.Future[[]byte]:
		return task.Cancel()
	case *callback:
		return task.future.Cancel()
	}
	return tine.ErrID
}

func mapItems() string {
	f := tine.Named[int32, int32](words[1]).With(options())
	in := make([]int32, number(words[3]))
	for i := range in {
		in[i] = int32(number(words[2]) + i)
	}
	out, err := tine.MapWith(background, pool, f, in, tine.MapOptions{
		Chunk: count("chunk"), Context: parse(setting("context", "none"))})
	sum := 0
	for _, n := range out {
		sum += int(n)
	}
	text := fmt.Sprintf("%s sum %d", name(err), sum)
	var failed *tine.MapError
	if errors.As(err, &failed) {
		for _, item := range failed.Items {
			text += fmt.Sprintf(" %d:%s", item.Item, item.Err.Code.Name())
			if shows("message") {
				text += ":" + item.Err.Message
			}
		}
	}
	return text
}

// ---- Streams, processes and segments ----

// stream is between two channels of Go's; what is put goes into the first.
type stream struct {
	in     chan []byte
	out    <-chan tine.Result[[]byte]
	cancel context.CancelFunc
}

func (s *stream) end() { s.cancel() }

func newStream() string {
	ctx, cancel := context.WithCancel(background)
	s := &stream{in: make(chan []byte), cancel: cancel}
	s.out = tine.Stream(ctx, pool, tine.Named[[]byte, []byte](words[2]).With(options()), s.in, count("window_tasks"))
	return name(keep(s, nil))
}

func (s *stream) put(item []byte) error {
	return timed(func() error {
		select {
		case s.in <- item:
			return nil
		default:
			return tine.ErrWouldBlock
		}
	}, func(ctx context.Context) error {
		select {
		case s.in <- item:
			return nil
		case <-ctx.Done():
			return tine.ErrDeadline
		}
	})
}

func (s *stream) next() string {
	var result tine.Result[[]byte]
	some := false
	err := timed(func() error {
		select {
		case result, some = <-s.out:
			return nil
		default:
			return tine.ErrWouldBlock
		}
	}, func(ctx context.Context) error {
		select {
		case result, some = <-s.out:
			return nil
		case <-ctx.Done():
			return tine.ErrDeadline
		}
	})
	switch {
	case err != nil:
		return name(err)
	case !some:
		return "TINE_EEMPTY"
	}
	return fmt.Sprintf("%d: %s", result.Item, told(0, result.Value, result.Err, result.Deaths))
}

// process is one whose end the case can do without.
type process struct{ *tine.Process[[]byte] }

func (p process) end() { p.Close() }

func startProcess() error {
	o := tine.ProcessOptions{Start: start, WorkerPath: worker, Preload: []string{preload}, Deadline: duration("deadline_ms"),
		Grace: duration("grace_ms")}
	if given := setting("channel", ""); given != "" {
		o.Channel = thing[*tine.Channel[[]byte, []byte]](given)
	}
	if given := setting("segment", ""); given != "" {
		o.Segments = append(o.Segments, thing[*tine.Segment](given))
	}
	started, err := tine.StartProcess(tine.Named[[]byte, []byte](words[2]), parse(words[3]), o)
	return keep(process{started}, err)
}

func (p process) wait() string {
	if err := closed(p.Done()); err != nil {
		return name(err)
	}
	out, err := p.Wait(background)
	text := fmt.Sprintf("%d %s", p.Status(), show(out))
	var e *tine.Error
	if errors.As(err, &e) {
		text = e.Code.Name()
	}
	text += ending(p.Exit(background))
	if shows("message") {
		text += " " + e.Message
	}
	return text
}

func (p process) alive() bool {
	select {
	case <-p.Done():
		return false
	default:
		return true
	}
}

func yes(b bool) string { return map[bool]string{true: "yes", false: "no"}[b] }

func attach() error {
	fd, err := thing[*tine.Segment](words[2]).FD()
	check(err)
	return keep(tine.AttachSegmentAnywhere(fd))
}

// ---- Memory, locks and queues ----

func keep[T any](value T, err error) error {
	if err == nil {
		things[words[1]] = value
	}
	return err
}

func heapUsed() string {
	stats, err := pool.Stats()
	return or(err, fmt.Sprint(stats.HeapBlocks))
}

func receive() string {
	c := object[*tine.Channel[[]byte, []byte]]()
	var got []byte
	err := timed(func() (err error) { got, err = c.TryReceive(); return err },
		func(ctx context.Context) (err error) { got, err = c.Receive(ctx); return err })
	return or(err, show(got))
}

// rwlock is a lock of which C, unlike Go, knows in which way it is held.
type rwlock struct {
	*tine.RWMutex
	reading bool
}

func lock(l *rwlock, reading bool, err error) error {
	if err == nil || errors.Is(err, tine.ErrOwnerDied) {
		l.reading = reading
	}
	return err
}

func unlock(l *rwlock) error {
	if l.reading {
		l.reading = false
		return l.ReleaseRead()
	}
	return l.Release()
}

func once() string {
	text := "done"
	err := object[*tine.Once]().Try(background, func() error { text = "ran"; return nil })
	return or(err, text)
}

func get() string {
	q := object[*tine.Queue[[]byte]]()
	var out []byte
	err := timed(func() (err error) { out, err = q.TryGetInto(buffer()); return err },
		func(ctx context.Context) (err error) { out, err = q.GetInto(ctx, buffer()); return err })
	return or(err, show(out))
}

func buffer() []byte { return make([]byte, number(setting("capacity", "4096"))) }

// operations are what a line of the table can name first.
var operations = []map[string]func() string{poolOperations, lockOperations, signalOperations, messageOperations, objectOperations}

func perform(operation string) string {
	for _, table := range operations {
		if run := table[operation]; run != nil {
			return run()
		}
	}
	check(errors.New("no such operation"))
	return ""
}

var poolOperations = map[string]func() string{
	"pool.create":   func() string { return name(create()) },
	"pool.shutdown": func() string { return name(timed(pool.TryShutdown, pool.Shutdown)) },
	"pool.submit":   func() string { return name(submit()) },
	"pool.wait":     func() string { return wait() },
	"pool.told":     func() string { return object[*callback]().told() },
	"pool.cancel":   func() string { return name(cancel()) },
	"pool.map":      func() string { return mapItems() },
	"heap.alloc":    func() string { return name(keep(tine.Alloc[byte](pool, number(words[2])))) },
	"heap.free":     func() string { return name(tine.Free(pool, object[[]byte]())) },
	"heap.fill": func() string {
		copy(object[[]byte](), parse(words[2]))
		return "OK"
	},
	"heap.show": func() string { return show(bytes.Clone(object[[]byte]()[:number(words[2])])) },
	"heap.used": func() string { return heapUsed() },
}

var lockOperations = map[string]func() string{
	"mutex.create": func() string { return name(keep(tine.NewMutex(pool))) }, // a process's in any case
	"mutex.lock": func() string {
		m := object[*tine.Mutex]()
		return name(timed(m.TryAcquire, m.Acquire))
	},
	"mutex.unlock": func() string { return name(object[*tine.Mutex]().Release()) },
	"mutex.repair": func() string { return name(object[*tine.Mutex]().Repair()) },
	"rwlock.create": func() string {
		l, err := tine.NewRWMutex(pool)
		return name(keep(&rwlock{RWMutex: l}, err))
	},
	"rwlock.read_lock": func() string {
		l := object[*rwlock]()
		return name(lock(l, true, timed(l.TryAcquireRead, l.AcquireRead)))
	},
	"rwlock.write_lock": func() string {
		l := object[*rwlock]()
		return name(lock(l, false, timed(l.TryAcquire, l.Acquire)))
	},
	"rwlock.unlock": func() string { return name(unlock(object[*rwlock]())) },
	"rwlock.repair": func() string { return name(object[*rwlock]().Repair()) },
	"once.create":   func() string { return name(keep(tine.NewOnce(pool))) },
	"once.call":     func() string { return once() },
}

var signalOperations = map[string]func() string{
	"semaphore.create": func() string {
		return name(keep(tine.NewSemaphore(pool, uint32(number(words[2])), uint32(count("max")))))
	},
	"semaphore.acquire": func() string {
		s := object[*tine.Semaphore]()
		return name(timed(s.TryAcquire, s.Acquire))
	},
	"semaphore.release": func() string { return name(object[*tine.Semaphore]().Release(uint32(number(words[2])))) },
	"semaphore.value": func() string {
		n, err := object[*tine.Semaphore]().Value()
		return or(err, fmt.Sprint(n))
	},
	"event.create": func() string { return name(keep(tine.NewEvent(pool, count("auto_reset") == 1))) },
	"event.wait": func() string {
		e := object[*tine.Event]()
		return name(timed(e.TryWait, e.Wait))
	},
	"event.set":   func() string { return name(object[*tine.Event]().Set()) },
	"event.clear": func() string { return name(object[*tine.Event]().Clear()) },
	"event.is_set": func() string {
		set, err := object[*tine.Event]().IsSet()
		return or(err, yes(set))
	},
	"barrier.create": func() string { return name(keep(tine.NewBarrier(pool, uint32(number(words[2]))))) },
	"barrier.wait": func() string {
		b := object[*tine.Barrier]()
		return name(timed(b.TryWait, func(ctx context.Context) error { _, err := b.Wait(ctx); return err }))
	},
	"barrier.reset":    func() string { return name(object[*tine.Barrier]().Reset()) },
	"barrier.abort":    func() string { return name(object[*tine.Barrier]().Abort()) },
	"condition.create": func() string { return name(keep(tine.NewCond(pool, nil))) },
	"condition.wait": func() string {
		c := object[*tine.Cond]()
		c.L = thing[*tine.Mutex](words[2])
		return name(timed(c.TryWait, c.WaitContext))
	},
}

var messageOperations = map[string]func() string{
	"queue.create": func() string {
		return name(keep(tine.NewQueue[[]byte](pool, tine.QueueOptions{
			CapacityMessages: count("messages"), CapacityBytes: count("bytes")})))
	},
	"queue.put": func() string {
		q, b := object[*tine.Queue[[]byte]](), parse(words[2])
		return name(timed(func() error { return q.TryPut(b) }, func(ctx context.Context) error { return q.Put(ctx, b) }))
	},
	"queue.get":       func() string { return get() },
	"queue.close":     func() string { return name(object[*tine.Queue[[]byte]]().Close()) },
	"queue.task_done": func() string { return name(object[*tine.Queue[[]byte]]().TaskDone()) },
	"queue.join": func() string {
		q := object[*tine.Queue[[]byte]]()
		return name(timed(q.TryJoin, q.Join))
	},
	"queue.count": func() string { return fmt.Sprint(object[*tine.Queue[[]byte]]().Len()) },
	"channel.create": func() string {
		here, there, err := tine.NewChannel[[]byte, []byte]()
		things[words[2]] = there
		return name(keep(here, err))
	},
	"channel.send": func() string {
		c, b := object[*tine.Channel[[]byte, []byte]](), parse(words[2])
		return name(timed(func() error { return c.TrySend(b) }, func(ctx context.Context) error { return c.Send(ctx, b) }))
	},
	"channel.receive": func() string { return receive() },
	"channel.commit": func() string {
		c, b := object[*tine.Channel[[]byte, []byte]](), parse(words[2])
		var room []byte
		err := timed(func() (err error) { room, err = c.TryReserve(len(b)); return err },
			func(ctx context.Context) (err error) { room, err = c.Reserve(ctx, len(b)); return err })
		if err == nil {
			copy(room, b)
			err = c.Commit(background, len(b))
		}
		return name(err)
	},
	"channel.peek": func() string {
		c := object[*tine.Channel[[]byte, []byte]]()
		var got []byte
		err := timed(func() (err error) { got, err = c.TryPeek(); return err },
			func(ctx context.Context) (err error) { got, err = c.Peek(ctx); return err })
		said := or(err, show(got))
		if err == nil {
			check(c.Release())
		}
		return said
	},
	"channel.close": func() string { return name(object[*tine.Channel[[]byte, []byte]]().Close()) },
}

var objectOperations = map[string]func() string{
	"stream.create": func() string { return newStream() },
	"stream.put":    func() string { return name(object[*stream]().put(parse(words[2]))) },
	"stream.end": func() string {
		close(object[*stream]().in)
		return "OK"
	},
	"stream.next":    func() string { return object[*stream]().next() },
	"process.start":  func() string { return name(startProcess()) },
	"process.wait":   func() string { return object[process]().wait() },
	"process.kill":   func() string { return name(object[process]().Signal(syscall.Signal(number(words[2])))) },
	"process.alive":  func() string { return yes(object[process]().alive()) },
	"process.close":  func() string { return name(object[process]().Close()) },
	"segment.create": func() string { return name(keep(tine.NewSegment(number(words[2])))) },
	"segment.attach": func() string { return name(attach()) },
	"segment.size":   func() string { return fmt.Sprint(len(object[*tine.Segment]().Bytes())) },
	"segment.fill": func() string {
		copy(object[*tine.Segment]().Bytes(), parse(words[2]))
		return "OK"
	},
	"segment.show":  func() string { return show(bytes.Clone(object[*tine.Segment]().Bytes()[:number(words[2])])) },
	"segment.close": func() string { return name(object[*tine.Segment]().Close()) },
	"pool.share":    func() string { return name(pool.ShareSegment(background, object[*tine.Segment]())) },
}

func main() {
	tine.Main()
	methods := map[string]tine.StartMethod{"spawn": tine.StartSpawn, "forkserver": tine.StartForkserver}
	words = os.Args
	if len(os.Args) < 3 || methods[os.Args[1]] == 0 {
		check(errors.New("usage: driver spawn|forkserver LIBRARY [WORKER] <cases.tsv"))
	}
	start, preload, worker = methods[os.Args[1]], os.Args[2], strings.Join(os.Args[3:], "")
	endCase := func() {
		for _, made := range things {
			if over, ok := made.(interface{ end() }); ok {
				over.end()
			}
		}
		if pool != nil {
			pool.Close()
		}
		for task, made := range things {
			if told, ok := made.(*callback); ok {
				told.over(task)
			}
		}
		pool, things = nil, map[string]any{}
	}
	current := ""
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		columns := strings.Split(lines.Text(), "\t")
		if lines.Text() == "" || lines.Text()[0] == '#' {
			continue
		}
		if len(columns) != 4 {
			check(errors.New("no four columns: " + lines.Text()))
		}
		if columns[0] != current {
			endCase()
		}
		current = columns[0]
		words = append([]string{columns[1]}, strings.Fields(columns[2])...)
		fmt.Printf("%s\t%s\n", strings.Join(columns[:3], "\t"), perform(columns[1]))
	}
	endCase()
}
