// The conformance suite's driver for Go: README.md says what it does.
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"strconv"
	"strings"
	"time"

	"tine.example/tine"
)

// What the case has made so far, by name. In Go a future can be waited for again and again; what the table says of tasks
// whose results have been taken is therefore the driver's own doing: it forgets them.
var (
	things map[string]any
	pool   *tine.Pool
	words  []string
	start  tine.StartMethod
	preload,
	worker string
)

var background = context.Background()

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance driver:", strings.Join(words, " ")+":", err)
		os.Exit(2)
	}
}

// ---- Words ----

func setting(name, otherwise string) string {
	for _, word := range words[1:] {
		if value, ok := strings.CutPrefix(word, name+"="); ok {
			return value
		}
	}
	return otherwise
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	check(err)
	return n
}

func count(name string) int              { return number(setting(name, "0")) }
func duration(name string) time.Duration { return time.Duration(count(name)) * time.Millisecond }
func shows(what string) bool {
	return strings.Contains(" "+strings.Join(words, " ")+" ", " show="+what+" ")
}

func thing[T any](name string) T {
	t, ok := things[name].(T)
	if !ok {
		check(fmt.Errorf("%s is no %T", name, t))
	}
	return t
}

func object[T any]() T { return thing[T](words[1]) }

func address(name string) uint64 {
	switch t := things[name].(type) {
	case interface{ Address() tine.Address }:
		return uint64(t.Address())
	case []byte:
		return uint64(tine.AddressOf(&t[:1][0]))
	}
	check(fmt.Errorf("%s has no address", name))
	return 0
}

func parse(word string) []byte {
	kind, rest, _ := strings.Cut(word, ":")
	var out []byte
	switch kind {
	case "none":
	case "text":
		return []byte(rest)
	case "bytes":
		out = make([]byte, number(rest))
		for i := range out {
			out[i] = byte(i + i/251)
		}
	case "ints", "words":
		for _, item := range strings.Split(rest, ",") {
			name, isName := strings.CutPrefix(item, "@")
			switch {
			case isName:
				out = binary.NativeEndian.AppendUint64(out, address(name))
			case kind == "words":
				out = binary.NativeEndian.AppendUint64(out, uint64(number(item)))
			default:
				out = binary.NativeEndian.AppendUint32(out, uint32(number(item)))
			}
		}
	default:
		check(errors.New("no bytes: " + word))
	}
	return out
}

// ---- Results ----

func name(err error) string {
	var code tine.Code
	switch {
	case err == nil:
		return "OK"
	case errors.As(err, &code):
		return code.Name()
	}
	check(err)
	return ""
}

func or(err error, value string) string {
	if err != nil {
		return name(err)
	}
	return value
}

func show(b []byte) string {
	isText := len(b) <= 64
	for _, c := range b {
		isText = isText && c >= 0x20 && c <= 0x7e
	}
	hash := fnv.New64a()
	hash.Write(b)
	switch {
	case len(b) == 0:
		return "none"
	case isText:
		return "text:" + string(b)
	}
	return fmt.Sprintf("bytes:%d:%016x", len(b), hash.Sum64())
}

// timed makes a call that waits, for as long as the table says: attempt is for not at all.
func timed(attempt func() error, wait func(ctx context.Context) error) error {
	ms := setting("timeout_ms", "")
	if ms == "0" {
		return attempt()
	}
	ctx, cancel := background, context.CancelFunc(func() {})
	if ms != "" {
		ctx, cancel = context.WithTimeout(ctx, duration("timeout_ms"))
	}
	defer cancel()
	return wait(ctx)
}

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
	return nil
}

func wait() string {
	future, ok := things[words[1]].(*tine.Future[[]byte])
	if !ok {
		return tine.ErrID.Name()
	}
	var out []byte
	err := timed(func() error {
		select {
		case <-future.Done():
			return nil
		default:
			return tine.ErrWouldBlock
		}
	}, func(ctx context.Context) error {
		select {
		case <-future.Done():
			return nil
		case <-ctx.Done():
			return tine.ErrDeadline
		}
	})
	if err != nil {
		return name(err)
	}
	things[words[1]] = nil
	out, err = future.Wait(background)
	text := fmt.Sprintf("%d %s", future.Status(), show(out))
	var e *tine.Error
	if errors.As(err, &e) {
		text = e.Code.Name() + " " + strings.ReplaceAll(e.Delivery.String(), " ", "_")
		if e.Death != nil && e.Death.Signal != 0 {
			text += fmt.Sprintf(" signal %d", e.Death.Signal)
		} else if e.Death != nil {
			text += fmt.Sprintf(" exit %d", e.Death.ExitCode)
		}
		if shows("message") {
			text += " " + e.Message
		}
	}
	if shows("deaths") {
		text += fmt.Sprintf(" deaths %d", future.Deaths())
	}
	return text
}

func cancel() error {
	if future, ok := things[words[1]].(*tine.Future[[]byte]); ok {
		return future.Cancel()
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
var operations = []map[string]func() string{poolOperations, lockOperations, signalOperations, messageOperations}

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
		return or(err, map[bool]string{true: "yes", false: "no"}[set])
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
	"channel.close":   func() string { return name(object[*tine.Channel[[]byte, []byte]]().Close()) },
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
		if pool != nil {
			pool.Close()
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
