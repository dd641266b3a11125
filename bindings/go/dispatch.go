package tine

/*
#include "glue.h"
*/
import "C"

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"
)

// dispatcher takes results out of C and gives them to their futures.
//
// One goroutine at a time does so, and is the only one that waits in C, with a thread; it has the lock `lead`. Everybody
// else who waits for a future waits in Go, without a thread. A goroutine that waits for a future, and finds that nobody
// leads, leads until its own future has settled: the usual case of one caller then costs no switch between goroutines.
// For all others there is a goroutine of the pool's own, which leads while somebody wants a result (`demand`), and sleeps
// otherwise. Nobody leads where nobody waits: then results stay where they are, and submitting costs least.
//
// A result finds its future by its place in the table, which goes along as tine's .user. Places are given before the
// task is submitted, so a result never comes before its future is there.
type dispatcher struct {
	mu     sync.Mutex
	places []settler
	free   []uintptr

	lead    sync.Mutex
	batch   *C.tine_go_batch
	stopped chan struct{}
	quit    chan struct{}

	// demand is how many futures that have not settled somebody waits for; negative for a moment where one settles as that
	// is counted. Whoever makes it 1 wakes the pool's goroutine.
	demand atomic.Int64
	wake   chan struct{}

	// For those that found the window full.
	roomMu  sync.Mutex
	room    chan struct{}
	waiting bool
}

func (p *core) start() {
	p.stopped, p.quit = make(chan struct{}), make(chan struct{})
	p.wake = make(chan struct{}, 1)
	p.room = make(chan struct{})
	p.batch = (*C.tine_go_batch)(C.calloc(1, C.sizeof_tine_go_batch))
	go p.dispatch()
}

// stop waits until every task has settled, and ends the pool's goroutine. Nobody leads any more.
func (p *core) stop() {
	close(p.quit)
	<-p.stopped
	C.free(unsafe.Pointer(p.batch))
}

func (d *dispatcher) open(s settler) uintptr {
	d.mu.Lock()
	defer d.mu.Unlock()
	if last := len(d.free) - 1; last >= 0 {
		place := d.free[last]
		d.free = d.free[:last]
		d.places[place] = s
		return place
	}
	d.places = append(d.places, s)
	return uintptr(len(d.places) - 1)
}

func (d *dispatcher) take(place uintptr) settler {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.taken(place)
}

// taken is take with the lock held.
func (d *dispatcher) taken(place uintptr) settler {
	s := d.places[place]
	if s != nil { // nobody has given up on it
		d.places[place] = nil
		d.free = append(d.free, place)
	}
	return s
}

// underWay is how many tasks have been submitted, or are being so, and have not been delivered.
func (d *dispatcher) underWay() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.places) - len(d.free)
}

func (p *core) dispatch() {
	defer close(p.stopped)
	for {
		select {
		case <-p.wake:
			p.lead.Lock()
			for p.demand.Load() > 0 {
				p.deliver()
			}
			p.giveBack()
			p.lead.Unlock()
		case <-p.quit:
			p.lead.Lock() // for good
			for p.underWay() > 0 {
				p.deliver()
			}
			p.giveBack()
			return
		}
	}
}

// leadUntil delivers results until w has settled, if nobody leads; whether it did.
func (p *core) leadUntil(w *work) bool {
	if !p.lead.TryLock() {
		return false
	}
	p.leadOn(w)
	return true
}

// leadOn is leadUntil for who leads already.
func (p *core) leadOn(w *work) {
	for w.phase.Load() != settled {
		p.deliver()
	}
	p.giveBack()
	p.lead.Unlock()
	if p.demand.Load() > 0 {
		p.wakeUp()
	}
}

func (d *dispatcher) wakeUp() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func (p *core) inC() C.uintptr_t      { return C.uintptr_t(uintptr(unsafe.Pointer(p.pointer))) }
func (p *core) batchInC() C.uintptr_t { return C.uintptr_t(uintptr(unsafe.Pointer(p.batch))) }

// deliver waits for results and passes them on. For who leads.
func (p *core) deliver() {
	most := max(min(p.underWay(), C.TINE_GO_MOST_RESULTS), 1)
	p.passOn(C.tine_go_next(p.inC(), p.batchInC(), C.int(most)))
}

// passOn passes on the results in the batch, or deals with the code that came instead.
func (p *core) passOn(count C.int) {
	if count < 0 {
		if count != C.TINE_EEMPTY {
			p.giveUp(Code(count))
		}
		// Empty: whoever is waited for is being submitted, or has settled.
		runtime.Gosched()
		return
	}
	if count == 1 {
		r := &p.batch.results[0]
		if s := p.take(uintptr(r.user)); s != nil {
			s.settle(r)
		}
	} else {
		p.passOnAll(p.batch.results[:count])
	}
	p.tellRoom()
}

func (d *dispatcher) passOnAll(results []C.tine_result) {
	var settlers [C.TINE_GO_MOST_RESULTS]settler
	d.mu.Lock()
	for i := range results {
		settlers[i] = d.taken(uintptr(results[i].user))
	}
	d.mu.Unlock()
	for i, s := range settlers[:len(results)] {
		if s != nil {
			s.settle(&results[i])
		}
	}
}

// giveBack gives back the memory of the last results.
func (p *core) giveBack() {
	if p.batch.kept > 0 {
		C.tine_go_release(p.inC(), p.batchInC())
	}
}

// giveUp fails everything that is under way: tine has no results for it.
func (p *core) giveUp(code Code) {
	p.mu.Lock()
	all := slices.Clone(p.places)
	p.mu.Unlock()
	for place := range all {
		var r C.tine_result
		r.status, r.delivery = C.int(code), C.TINE_MAYBE_RAN
		if s := p.take(uintptr(place)); s != nil {
			s.settle(&r)
		}
	}
}

func (d *dispatcher) tellRoom() {
	d.roomMu.Lock()
	if d.waiting {
		close(d.room)
		d.room = make(chan struct{})
		d.waiting = false
	}
	d.roomMu.Unlock()
}

func (d *dispatcher) nextRoom() <-chan struct{} {
	d.roomMu.Lock()
	defer d.roomMu.Unlock()
	d.waiting = true
	return d.room
}

func inNumbers(name *C.char) C.uintptr_t { return C.uintptr_t(uintptr(unsafe.Pointer(name))) }

// cancel cancels a task.
func (p *core) cancel(id C.tine_id) error {
	if err := p.enter("cancel"); err != nil {
		return err
	}
	defer p.leave()
	return failed("cancel", C.tine_cancel(p.pointer, id))
}
