package tine_test

import (
	"context"
	"errors"
	"os"
	"syscall"
	"testing"
	"time"

	"tine.example/tine"
)

// party is goroutines of a process that come to a box, wait until it is filled, and take one item each.
type party struct {
	Box    box
	Guests int
	Ends   end
}

// end is at what moment a guest that is woken ends its process.
type end int

const (
	never end = iota
	withTheMutex
	withItsItem // and without the mutex, when all that share its thread are awake
)

// gone is in the place of the guests' number when a process ends itself.
const gone = -1

var dine = tine.Register("dine", func(ctx context.Context, in party) (struct{}, error) {
	o, err := in.Box.open(tine.PoolOf(ctx))
	if err != nil {
		return struct{}{}, err
	}
	errs := make(chan error)
	for range in.Guests {
		go func() { errs <- o.dine(in.Ends) }()
	}
	for range in.Guests {
		err = errors.Join(err, <-errs)
	}
	return struct{}{}, err
})

func (o opened) dine(ends end) error {
	if err := o.m.Acquire(background); err != nil {
		return err
	}
	*o.guests++ // who sees that has the mutex, so this one waits, and has a group
	for *o.items == 0 {
		if err := o.c.WaitContext(background); err != nil {
			o.m.Unlock()
			return err
		}
		if ends == withTheMutex {
			*o.guests = gone
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	}
	*o.items--
	if ends == withItsItem {
		*o.guests = gone
	}
	o.m.Unlock()
	if ends == withItsItem {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	return nil
}

// A process that dies takes no item's signal along, whatever its goroutines are at: each item is taken by one of another process, of which
// there are no more than there are items, but for two.
func TestCondOutlivesItsWaiters(t *testing.T) {
	const (
		stay  = 16 // each has a thread, so that a signal wakes one alone
		many  = 40 // and these share threads
		items = stay - 2
	)
	pool := newPool(t, tine.Options{Workers: 2, Grace: time.Millisecond})
	for _, test := range []struct {
		when   string
		guests int64
		ends   end
		die    func(b opened, dies *tine.Future[struct{}])
	}{
		{"asleep", many, never, func(b opened, dies *tine.Future[struct{}]) {
			must(t, dies.Cancel())
			<-dies.Done()
			b.put(items, func() {
				for range items {
					b.c.Signal()
				}
			})
		}},
		{"on their way to the mutex", many, never, func(b opened, dies *tine.Future[struct{}]) {
			b.put(items, func() {
				for range items {
					b.c.Signal()
				}
				must(t, dies.Cancel())
				<-dies.Done()
			})
		}},
		// The death of one that sleeps would wake others, too.
		{"with the mutex", 1, withTheMutex, signalUntilItDies},
		{"awake", many, withItsItem, signalUntilItDies},
	} {
		within(t, hang, func() {
			where := newBox(t, pool)
			b := got(where.open(pool))(t)
			// Who waits first is signalled first.
			dies := dine.Submit(background, pool, party{where, int(test.guests), test.ends})
			b.await(func() bool { return *b.guests == test.guests })
			stays := dine.Submit(background, pool, party{where, stay, never})
			b.await(func() bool { return *b.guests == test.guests+stay })
			test.die(b, dies)
			if dies.Deaths() != 1 {
				t.Error(test.when, dies.Deaths(), dies.Err())
			}
			b.awaitEmpty()
			b.put(1, b.c.Signal)
			b.awaitEmpty()
			b.put(stay, b.c.Broadcast)
			if err := stays.Err(); err != nil {
				t.Error(test.when, err)
			}
		})
	}
}

// signalUntilItDies gives items until one of the process that is to die has been woken: what others take comes before that.
func signalUntilItDies(b opened, dies *tine.Future[struct{}]) {
	for ends := false; !ends; {
		b.put(1, b.c.Signal)
		b.await(func() bool {
			ends = *b.guests == gone
			return ends || *b.items == 0
		})
	}
	<-dies.Done()
}
