package tine

/*
#include "glue.h"
*/
import "C"

import (
	"context"
	"slices"
	"sync"
)

// mapItem is the task of one item of a map.
type mapItem[Out any] struct {
	Future[Out]
	item    int
	harvest *harvest[Out]
}

func (m *mapItem[Out]) settle(r *C.tine_result) {
	m.Future.settle(r)
	if m.err != nil {
		m.err.explain(m.harvest.ctx)
	}
	m.harvest.add(m.item)
}

// harvest is the items of a map that are under way, and the numbers of those that have settled and have not been dealt with, in the
// order in which they have settled. When the map's context is done it ends what is under way: one for all, which costs less than a
// context for each.
type harvest[Out any] struct {
	ctx      context.Context
	mu       sync.Mutex
	underWay []*mapItem[Out] // by their numbers; nil before an item has been submitted, and when it has been dealt with
	ended    bool            // what is submitted from now on is cancelled at once
	settled  []int
	waiter   *work // settles with the next item; nil where nobody waits
}

// submitted notes that an item is under way.
func (h *harvest[Out]) submitted(m *mapItem[Out]) {
	h.mu.Lock()
	h.underWay[m.item] = m
	ended := h.ended
	h.mu.Unlock()
	if ended {
		m.Cancel()
	}
}

// take is an item that has settled, to be dealt with.
func (h *harvest[Out]) take(item int) *mapItem[Out] {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.underWay[item]
	h.underWay[item] = nil // its value is kept once
	return m
}

// end cancels what is under way.
func (h *harvest[Out]) end() {
	h.mu.Lock()
	h.ended = true
	all := slices.Clone(h.underWay)
	h.mu.Unlock()
	for _, m := range all {
		if m != nil {
			m.Cancel()
		}
	}
}

func (h *harvest[Out]) add(item int) {
	h.mu.Lock()
	h.settled = append(h.settled, item)
	waiter := h.waiter
	h.waiter = nil
	h.mu.Unlock()
	if waiter != nil {
		waiter.settleWith(nil)
	}
}

var harvesting = "map"

// wait takes the numbers of these items, one at least.
func (h *harvest[Out]) wait(pool *Pool) []int {
	h.mu.Lock()
	if len(h.settled) == 0 {
		waiter := &work{what: &harvesting, pool: pool}
		h.waiter = waiter
		h.mu.Unlock()
		waiter.await(context.Background())
		h.mu.Lock()
	}
	items := h.settled
	h.settled = nil
	h.mu.Unlock()
	return items
}
