//go:build cgo

package tine

import (
	"context"
	"sync"
)

// A Group is tasks that belong together: the first that fails has the others cancelled, and Wait waits for all. It is to tasks what
// errgroup is to goroutines.
//
//	group := tine.NewGroup(ctx, pool)
//	for _, job := range jobs {
//		tine.Go(group, resize, job)
//	}
//	err := group.Wait()
type Group struct {
	pool   *Pool
	ctx    context.Context
	cancel context.CancelCauseFunc
	all    sync.WaitGroup
	once   sync.Once
	err    error
}

// NewGroup is a group without tasks. When ctx is done its tasks are cancelled.
func NewGroup(ctx context.Context, pool *Pool) *Group {
	g := &Group{pool: pool}
	g.ctx, g.cancel = context.WithCancelCause(ctx)
	return g
}

// Go submits one call of a function, of whatever types, as one of the group. While the pool's window is full it waits for room.
func Go[In, Out any](g *Group, f Function[In, Out], in In) *Future[Out] {
	g.all.Add(1)
	future := f.Submit(g.ctx, g.pool, in)
	go func() {
		defer g.all.Done()
		if _, err := future.waitApart(); err != nil {
			g.fail(err)
		}
	}()
	return future
}

func (g *Group) fail(err error) {
	g.once.Do(func() {
		g.err = err
		g.cancel(err)
	})
}

// Context is done when a task of the group has failed, and when Wait has returned.
func (g *Group) Context() context.Context { return g.ctx }

// Wait waits until all tasks of the group have settled, and gives the first failure. After that the group is over: what is submitted
// then is cancelled.
func (g *Group) Wait() error {
	g.all.Wait()
	g.cancel(nil)
	return g.err
}
