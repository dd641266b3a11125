// Package tine gives Go programs pools of worker processes, with shared memory, queues and locks, which settle whatever
// is killed. A worker that crashes, in Go or in the C code that it calls, costs the one task or item that it was running,
// and the caller is told which, who and why.
//
//	var resize = tine.Register("resize", func(ctx context.Context, in Job) (Thumb, error) { ... })
//
//	func main() {
//		tine.Main() // first of all: workers start in this main, too, and stay in here
//		pool, err := tine.NewPool(tine.Options{})
//		...
//		thumbs, err := tine.Map(ctx, pool, resize, jobs)
//	}
//
// Workers are fresh copies of the program (StartSpawn), or of another one that runs C functions. The library, tine.h, and
// docs/go.md, which is the guide to this package, say more; this page is the reference.
//
// # How values travel
//
// What a function takes and gives, and the messages of a Queue, travel by their type:
//
//   - a type without any pointer in it (numbers, bools, arrays and structs of them) as its own bytes, as they lie in memory:
//     that is what C and C++ have, too. Nothing is encoded.
//   - []byte and string as they are
//   - a type with MarshalBinary and UnmarshalBinary (time.Time, say) by these
//   - any other by encoding/gob, at some microseconds a value. All fields must be exported, since gob would leave others
//     out without a word; functions, channels and interfaces cannot travel.
//
// A type that cannot travel is a panic of Register and Named, which says what in it is the matter. Bytes that are not of
// the type that they should be of are ErrLayout.
//
// Slices in the pool's heap travel as Shared, without their bytes, and locks and queues as their Address.
//
// # Contexts
//
// The context of Submit, Call, Map and Stream goes with the work: when it is done, what has not begun never does; what
// runs finds its own context done, and has the pool's Grace to return, or its worker is ended. The context of
// Future.Wait ends the waiting only. Deadlines are enforced while somebody waits for a result of the pool, or the task has a
// context that can be cancelled.
//
// In a worker a function's context has no Deadline, since that is the host's to know; Done and Err say when it has passed.
//
// # What can happen to a worker
//
//   - The function panics, by a nil pointer, an index or otherwise: the task fails with ErrPanicked; the stack is on the
//     worker's standard error. The worker goes on.
//   - C code crashes, the process is killed, or it calls os.Exit: ErrWorkerDied, and a Death that says how.
//   - A panic in another goroutine, running out of stack, concurrent map writes: Go ends the process, with exit status 2;
//     that is ErrWorkerDied, and with OutputCapture the trace is in Death.Output.
//   - runtime.Goexit in the function's goroutine: the worker ends with exit status 70, ErrWorkerDied.
//   - The function blocks for ever: it has no end but a deadline or a cancel.
//   - Goroutines that the function leaves behind go on, as long as the worker lives. The context of the function is done
//     then, and inputs that are shared memory must not be used any more.
//
// # Threads
//
// Any number of goroutines may wait for futures, for messages of channels and for processes without a thread. Of those that wait for the same Mutex,
// Semaphore, Event or Queue, one in each process waits with a thread; each that waits at a Barrier or for a Cond does.
package tine
