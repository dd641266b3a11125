package tine

/*
#include "glue.h"
*/
import "C"

import (
	"context"
	"sync"
)

// mapItem is the task of one item of a map.
type mapItem[Out any] struct {
	Future[Out]
	item    int
	harvest *harvest
}

func (m *mapItem[Out]) settle(r *C.tine_result) {
	m.Future.settle(r)
	m.harvest.add(m.item)
}

// harvest is the items of a map that have settled and have not been dealt with, in the order in which they have settled.
type harvest struct {
	mu     sync.Mutex
	items  []int
	waiter *work // settles with the next item; nil where nobody waits
}

func (h *harvest) add(item int) {
	h.mu.Lock()
	h.items = append(h.items, item)
	waiter := h.waiter
	h.waiter = nil
	h.mu.Unlock()
	if waiter != nil {
		waiter.settleWith(nil)
	}
}

var harvesting = "map"

// wait takes these items, one at least.
func (h *harvest) wait(pool *Pool) []int {
	h.mu.Lock()
	if len(h.items) == 0 {
		waiter := &work{what: &harvesting, pool: pool}
		h.waiter = waiter
		h.mu.Unlock()
		waiter.await(context.Background())
		h.mu.Lock()
	}
	items := h.items
	h.items = nil
	h.mu.Unlock()
	return items
}
