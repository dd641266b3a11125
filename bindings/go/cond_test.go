package tine_test

import (
	"runtime"
	"testing"

	"tine.example/tine"
)

// One signal wakes one goroutine, and no signal none; a broadcast wakes all.
func TestCondWakesAsManyAsItIsTold(t *testing.T) {
	pool := newPool(t, tine.Options{Workers: 1})
	m := got(tine.NewMutex(pool))(t)
	c := got(tine.NewCond(pool, m))(t)
	const n = 10
	waiting, awake := make(chan struct{}, n), make(chan struct{}, n)
	begin := func() {
		for range n {
			go func() {
				m.Lock()
				waiting <- struct{}{}
				c.Wait()
				awake <- struct{}{}
				m.Unlock()
			}()
		}
		for range n {
			<-waiting
		}
	}
	none := func() {
		t.Helper()
		runtime.Gosched()
		select {
		case <-awake:
			t.Fatal("one too many is awake")
		default:
		}
	}
	within(t, hang, func() {
		for range 20 {
			begin()
			for range n {
				none()
				m.Lock()
				c.Signal()
				m.Unlock()
				<-awake
			}
			none()
			begin()
			m.Lock()
			none()
			c.Broadcast()
			m.Unlock()
			for range n {
				<-awake
			}
			none()
		}
	})
}
