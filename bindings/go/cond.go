package tine

/*
#include "glue.h"
*/
import "C"

import (
	"context"
	"slices"
	"sync"
	"unsafe"
)

// A Cond is a condition that goroutines of any processes of a pool wait for, with one Mutex. It is shaped as sync.Cond
// is. Up to 16 goroutines that wait have a thread each; more of them share these, and whoever is woken wakes those that share its
// thread. So a Cond never takes more than 16 threads of a process, and where more goroutines wait a Signal wakes several.
type Cond struct {
	object
	L *Mutex // held when Wait is called, and when what is waited for changes

	mu     sync.Mutex
	groups []*waitGroup
}

// waitGroup is goroutines that wait for a Cond together. Its leader waits in C, with a thread. The others wait for the leader's
// return, and are all woken by it, because C knows of one waiter: who was notified after it, while it was on its way, finds
// nobody asleep here, and may have meant any of them.
//
// Who joins holds L. So the leader is asleep in C by then or on its way out, and it comes out with L, after this one has
// released it: it finds everybody who has joined, and no group gets a member once L has been had by a returning leader. A follower
// that leaves early takes nothing along, since only the leader is ever told anything. A follower holds no call on the pool while it
// waits, and takes L as Mutex.Acquire does.
//
// | what happens | to the leader | to its followers | who is told instead |
// |---|---|---|---|
// | it is notified | comes out with L, and wakes the group before it releases L | take L when they get it, and look | nobody |
// | its ctx is done while it sleeps, or before | is interrupted (all leaders are), comes out with L | as above | one more in C: it may have been notified as well |
// | its ctx is done when it has come out | was notified, and says so | as above | nobody |
// | ctx of a follower is done | nothing | that one takes L and leaves the group | nobody |
// | the pool is being closed | is interrupted, and is given L by Close (retakes), which it releases | come without L | nobody: no process goes on |
// | somebody waits without L | ErrNotHeld at once, and wakes whoever has joined | ErrNotHeld at once | nobody |
//
// | dies | leaves | then |
// |---|---|---|
// | the process, its leader asleep or on its way to L | what C has on record | C wakes another process's waiter |
// | the process, its leader with L | L, its owner dead | who takes L next is told, and notifies all |
// | the process, L released, its followers awake | what they may have been meant to see | nobody: no waiter of C's slept when they were notified, and who comes later looks first |
type waitGroup struct {
	followers int
	over      chan struct{} // made by the first follower, closed when the leader has come out
}

// mostLeaders is how many goroutines of a process wait for a Cond in C, with a thread each.
const mostLeaders = 16

// NewCond makes a condition whose mutex is l.
func NewCond(pool *Pool, l *Mutex) (*Cond, error) {
	o, err := newObject(pool, "cond", C.sizeof_tine_condition, func(p unsafe.Pointer) C.int {
		return C.tine_condition_init((*C.tine_condition)(p), 0)
	})
	return &Cond{object: o, L: l}, err
}

// OpenCond is the condition at an address that another process has given.
func OpenCond(pool *Pool, address Address, l *Mutex) (*Cond, error) {
	o, err := openObject(pool, "cond", address, C.sizeof_tine_condition)
	return &Cond{object: o, L: l}, err
}

// WaitContext releases L, waits until it is woken or ctx is done, and takes L back; it holds L whatever it returns, but
// for ErrNotRecoverable, ErrNotHeld and ErrShutdown. With ErrOwnerDied L was taken back from a process that died; repair it. It may
// return although nobody has called Signal: test again what is waited for.
//
// L may be held for long by somebody else when the pool is closed. So that Close need not wait for that, it takes L away from any
// goroutine of this process; nobody gets it afterwards, and whoever unlocks it is told that the pool is closed.
func (c *Cond) WaitContext(ctx context.Context) error {
	if ctx.Err() != nil {
		return ended(ctx, c.what)
	}
	group, leads := c.join()
	if !leads {
		return c.follow(ctx, group)
	}
	defer c.pool.retakes.takesBack(c.L.address)()
	code, err := c.waitWhole(ctx, c.wait, func(p unsafe.Pointer) { C.tine_condition_notify_all((*C.tine_condition)(p)) })
	c.dissolve(group)
	if err != nil {
		// It was interrupted, and may have been notified besides, after an interruption that it did not hear. So another is told, before
		// L is released; it fails where the pool is closed, and nobody waits.
		c.notifyOne()
	}
	return either(c.L.acquired(code, nil), err)
}

// join finds a group for who holds L: one of its own, which it leads, or the smallest.
func (c *Cond) join() (group *waitGroup, leads bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.groups) < mostLeaders {
		group = &waitGroup{}
		c.groups = append(c.groups, group)
		return group, true
	}
	group = slices.MinFunc(c.groups, func(a, b *waitGroup) int { return a.followers - b.followers })
	if group.over == nil {
		group.over = make(chan struct{})
	}
	group.followers++
	return group, false
}

// dissolve wakes the group of a leader that has come out of C and holds L.
func (c *Cond) dissolve(group *waitGroup) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.groups = slices.DeleteFunc(c.groups, func(other *waitGroup) bool { return other == group })
	if group.over != nil {
		close(group.over)
	}
}

// follow is WaitContext for who has a leader.
func (c *Cond) follow(ctx context.Context, group *waitGroup) error {
	defer func() {
		c.mu.Lock()
		group.followers--
		c.mu.Unlock()
	}()
	if err := c.L.Release(); err != nil {
		return err
	}
	var err error
	select {
	case <-group.over:
	case <-ctx.Done():
		err = ended(ctx, c.what)
	case <-c.pool.ending.Done():
		err = closed(c.what)
	}
	return either(c.L.Acquire(context.Background()), err) // however long it takes, as in C
}

func (c *Cond) wait(p unsafe.Pointer, timeout C.int64_t) C.int {
	return C.tine_condition_wait((*C.tine_condition)(p), (*C.tine_mutex)(c.L.address.pointer()), timeout)
}

// TryWait does not wait: it is ErrWouldBlock if L is held.
func (c *Cond) TryWait() error {
	return c.call(func(p unsafe.Pointer) C.int { return c.wait(p, 0) })
}

// Wait releases L, waits until it is woken, and takes L back. It panics where WaitContext gives an error.
func (c *Cond) Wait() { must(c.WaitContext(context.Background()), c.L.Release) }

// Signal wakes one goroutine that waits, if there is any; of a process where more than 16 wait, those that share its thread as well.
func (c *Cond) Signal() { must(c.notifyOne(), nil) }

func (c *Cond) notifyOne() error {
	return c.call(func(p unsafe.Pointer) C.int { return C.tine_condition_notify((*C.tine_condition)(p), 1) })
}

// Broadcast wakes all that wait.
func (c *Cond) Broadcast() {
	must(c.call(func(p unsafe.Pointer) C.int { return C.tine_condition_notify_all((*C.tine_condition)(p)) }), nil)
}
