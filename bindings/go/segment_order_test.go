package tine

import (
	"sync"
	"testing"
	"time"
)

// Two that take the same segments in two orders, each of them beside somebody who closes one: whoever waits to close it lets no
// further reader in. The segments stay open, as ones that Close has refused, so that there can be many rounds.
func TestSegmentsAreHeldInOneOrder(t *testing.T) {
	var both [2]*Segment
	for i := range both {
		s, err := NewSegment(1)
		if err != nil {
			t.Fatal(err)
		}
		both[i] = s
	}
	a, b := both[0], both[1]
	var all sync.WaitGroup
	again := func(f func()) {
		all.Add(1)
		go func() {
			defer all.Done()
			for range 200_000 {
				f()
			}
		}()
	}
	for _, order := range [][]*Segment{{a, b}, {b, a}} {
		again(func() {
			handles, release, err := handlesOf(order, "test")
			if err != nil || handles[0] != order[0].handle || handles[1] != order[1].handle {
				t.Error(handles, err)
			}
			release()
		})
		again(func() {
			order[0].mu.Lock()
			order[0].mu.Unlock()
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("they wait for each other")
	}
	for _, s := range both {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
