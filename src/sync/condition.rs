//! The condition variable.
//!
//! Waiters sleep on three words at once: the sequence, which every notification moves; `deaths`, by which the kernel wakes
//! one when a thread with something in hand dies; and the baton, a lock's word, which a notified waiter holds until it has its
//! mutex back, because the mutex is then the pending word. Notified waiters that find the baton taken stand in line for it, apart from
//! the others, so that nobody who came later gets what was theirs. One holder of the baton wakes the next.
//!
//! What has been notified and has not yet arrived stands in the book, and is taken off only with the mutex in hand. So
//! nothing is lost with anybody who dies before: who is woken by the kernel looks at the book, and if anything is
//! open there wakes everybody. A wait may always end for no reason, and a death is rare.
//!
//! Who stands in line waits for somebody who may be stopped, or be nobody, so the caller's time and signals end that too. It has a
//! notification in hand, which nobody would answer for on its way to the mutex without the baton. So it wakes everybody, and is
//! one of those: its wait ends as notified. Everybody's line ends with that round, so that happens once, however many stand there.
//!
//! | in line, its time runs out, or a signal comes | then |
//! |---|---|
//! | the baton's holder is stopped, slow, or a number that somebody wrote there | another round: all in line and all asleep go for the mutex, with nothing in hand |
//! | the holder goes on after that | what it takes off the book belongs to another round: nothing changes |
//! | it dies after that, before all have been woken | `owed`; `deaths` pending, as who wakes everybody |
//! | a living one has just been passed the baton, or is about to be | the same, and nobody's notification is lost: all have been woken |
//!
//! | dies | leaves | seen by |
//! |---|---|---|
//! | a notifier, between the book and the wake-up | `owed`; `deaths` pending | who is woken by `deaths` |
//! | a waiter, woken, or in line | `owed`; `deaths` pending | the same |
//! | on its way from `deaths` pending to the baton | `owed`, `transit`; the baton pending | who is woken by the baton; or, when another has it, that one, by `transit` |
//! | with the baton, before it has the mutex | the baton, marked | who is woken by it |
//! | passing the baton on | the baton or `deaths` pending, `line`, `owed` of those in line | who is woken by either |
//! | with the mutex | the mutex, marked | its next holder, who notifies all |
//! | who wakes everybody | another round, `owed`; `deaths` pending | who is woken by it |
//!
//! A waiter that is not yet asleep can miss the kernel's wake-up, but then what was lost had been notified after it began
//! to wait, so that it finds the sequence moved; or before, and was not for it.

use super::mutex::Mutex;
use super::{
    AGAIN, Acquired, INTERRUPTIBLE, INVALID, NO_MEMORY, NOT_OWNER, Outcome, Patience, SLICE_NS, Then,
    known_flags,
};
use crate::error::Code;
use crate::sync::gate::{EVERYBODY, Unseen};
use crate::sys::clock::{Deadline, Timeout};
use crate::sys::owner;
use crate::sys::prim::{
    AtomicPair, AtomicU32, AtomicU64, Both, MODEL, Ordering, Pair, Wait, futex_wait, futex_wait_any,
    futex_wake,
};
use crate::sys::robust::{self, DIED, ENTRY, Me, OWNER, Spot, WAITERS, WORD, cookie_of, pair_of, word_of};
use core::array::from_fn;
use core::mem::{offset_of, size_of};

/// Waiting for something to become true that a mutex protects. All-zero memory is one that nobody waits for. All
/// words are SeqCst: waiters and notifiers each write one and then look at the other's.
#[repr(C, align(8))]
#[derive(Debug)]
pub struct Condition {
    /// A lock's word and its holder's cookie: whose waiter is on its way to the mutex. WAITERS is never taken away.
    baton: AtomicPair,
    /// See `Book`.
    book: Pair,
    /// Moves with every wake-up, so that a waiter which isn't asleep yet sees that one has been. Written by notifiers.
    sequence: AtomicU32,
    /// WAITERS while some may stand in line for the baton, taken away by who passes it on.
    line: AtomicU32,
    /// 0: nobody waits. Moved by every waiter, and zeroed by a notifier that found nobody since.
    waiting: AtomicU32,
    /// Not written after the start.
    flags: AtomicU32,
    /// The kernel's way to the next lock of the thread with the baton.
    entry: AtomicU64,
    unseen: Unseen,
    /// Always 0: for the kernel to wake somebody by.
    deaths: AtomicU32,
    reserved: [AtomicU32; 4],
}

const _: () = assert!(
    MODEL
        || offset_of!(Condition, entry) - offset_of!(Condition, baton) - WORD == ENTRY
            && size_of::<Condition>() == 64
);

/// What the book says. It is changed as one, and starts anew with each round.
#[derive(Clone, Copy)]
struct Book {
    /// How often everybody has been woken. A whole word: the round of one that is stopped meanwhile must not come again.
    round: u32,
    /// How many are about to take the baton, and may have died of it.
    transit: u32,
    /// How many have been notified and have not arrived.
    owed: u32,
}

impl Book {
    const TRANSIT: u32 = 20;
    /// As many threads as a system can have, and more are woken all at once.
    const MOST_OWED: u32 = (1 << Book::TRANSIT) - 1;
    const MOST_TRANSIT: u32 = u32::MAX >> Book::TRANSIT;

    fn new((round, counts): Both) -> Book {
        Book { round, transit: counts >> Book::TRANSIT, owed: counts & Book::MOST_OWED }
    }

    fn both(self) -> Both {
        (self.round, self.transit << Book::TRANSIT | self.owed)
    }
}

/// What ended a sleep.
#[derive(PartialEq, Eq)]
enum Woken {
    /// Somebody's notification, which is this waiter's to use. It has the baton.
    ByBaton,
    /// A notification that was for everybody, or that came while it wasn't asleep.
    Freely,
}

impl Condition {
    /// One that nobody waits for.
    pub fn new(flags: u32) -> Outcome<Condition> {
        let flags = known_flags(flags, INTERRUPTIBLE)?;
        Ok(Condition {
            baton: AtomicPair::new(0),
            book: Pair::new((0, 0)),
            sequence: AtomicU32::new(0),
            line: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            flags: AtomicU32::new(flags),
            entry: AtomicU64::new(0),
            unseen: Unseen::new(),
            deaths: AtomicU32::new(0),
            reserved: from_fn(|_| AtomicU32::new(0)),
        })
    }

    fn baton_spot(&self) -> Spot {
        // SAFETY: the entry lies `ENTRY` bytes behind the baton's word and is written by the robust list alone.
        unsafe { Spot::new(self, offset_of!(Condition, baton) + WORD) }
    }

    fn deaths_spot(&self) -> Spot {
        // SAFETY: this spot is only ever pending; its entry is computed, never used.
        unsafe { Spot::new(self, offset_of!(Condition, deaths)) }
    }

    /// Releases the mutex, waits for a notification, and takes the mutex back, however long that takes.
    pub fn wait(&self, mutex: &Mutex, timeout: Timeout) -> Outcome<Acquired> {
        let me = robust::me().ok_or(NO_MEMORY)?;
        match mutex.held_by(me) {
            None => return Err(NOT_OWNER),
            Some(0) => {}
            Some(_) => return Err(INVALID),
        }
        if timeout == Timeout::Try {
            return Err(AGAIN);
        }
        let interruptible = self.flags.load(Ordering::Relaxed) & INTERRUPTIBLE != 0;
        let mut patience = Patience::new(timeout, interruptible, false);
        patience.may_wait()?;
        self.unseen.declare(me);
        // In this order: a notifier that doesn't see this waiter has moved the sequence before it was read here.
        let round = self.read().round;
        let sequence = self.sequence.load(Ordering::SeqCst);
        self.announce();
        mutex.unlock()?;
        me.pend(self.deaths_spot());
        let woken = self.sleep(me, sequence, round, &mut patience);
        me.pend_nothing();
        let again = mutex.lock_again(me);
        if let Ok(Woken::ByBaton) = woken {
            self.hand_on(me, round);
        }
        match (again?, woken) {
            (Acquired::OwnerDied, _) => Ok(Acquired::OwnerDied),
            (Acquired::Clean, Ok(_)) => Ok(Acquired::Clean),
            (Acquired::Clean, Err(code)) => Err(code),
        }
    }

    /// Says that somebody waits. The sequence was read before.
    fn announce(&self) {
        if self.waiting.fetch_add(1, Ordering::SeqCst) == u32::MAX {
            self.waiting.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Sleeps until notified. `deaths` is pending, before and after.
    fn sleep(&self, me: Me, sequence: u32, round: u32, patience: &mut Patience) -> Result<Woken, Code> {
        let missed = || self.sequence.load(Ordering::SeqCst) != sequence;
        loop {
            if missed() {
                return Ok(Woken::Freely);
            }
            let baton = self.baton_with_waiters();
            let (wait, by) = self.doze(&self.sequence, sequence, baton, patience.until());
            match patience.after(wait) {
                Ok(Then::Look { slept: true }) if wait == Wait::Woken && by == 0 && missed() => {
                    return Ok(self.line_up(me, round, patience));
                }
                // Somebody has died, and may have had something in hand.
                Ok(Then::Look { slept: true }) if wait == Wait::Woken && by != 0 && self.is_open(round) => {
                    return Ok(self.rouse());
                }
                Ok(Then::Check) if self.is_lost(baton) || self.unseen.is_marked() && self.is_open(round) => {
                    return Ok(self.rouse());
                }
                Ok(_) => {}
                Err(_) if missed() => return Ok(Woken::Freely),
                Err(_) if self.is_lost(baton) => return Ok(self.rouse()),
                Err(code) => return Err(code),
            }
            if word_of(self.baton.load(Ordering::SeqCst)) & DIED != 0 {
                return Ok(self.rouse());
            }
            match patience.may_wait() {
                Ok(()) => {}
                Err(_) if missed() => return Ok(Woken::Freely),
                Err(code) => return Err(code),
            }
        }
    }

    /// The baton, which says that somebody may sleep on it.
    fn baton_with_waiters(&self) -> u64 {
        let mut now = self.baton.load(Ordering::SeqCst);
        loop {
            let marked = now | pair_of(WAITERS, 0);
            if now == marked {
                return now;
            }
            match self.baton.compare_exchange(now, marked, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return marked,
                Err(other) => now = other,
            }
        }
    }

    /// Sleeps on a word, on `deaths`, and on the baton; looks round now and then while somebody has that. Where the kernel
    /// can't watch several words, a death goes unnoticed, so the sleep is short.
    fn doze(&self, word: &AtomicU32, value: u32, baton: u64, until: Deadline) -> (Wait, usize) {
        let soon = || until.min(Deadline::after(SLICE_NS));
        let (unseen, looks) = (self.unseen.word(), self.unseen.is_marked());
        let baton = word_of(baton);
        let until = if baton & OWNER != 0 || looks { soon() } else { until };
        // What is there, whoever has written it: a word that is not what it is slept on for keeps everybody awake.
        let deaths = self.deaths.load(Ordering::SeqCst);
        let words = [(word, value), (&self.deaths, deaths), (self.baton.word(), baton), (unseen, 0)];
        futex_wait_any(&words[..if looks { 3 } else { 4 }], until)
            .unwrap_or_else(|| (futex_wait(word, value, soon()), 0))
    }

    /// With a notification: waits until the baton is free, and takes it. Where the caller's patience ends before, it wakes everybody,
    /// because on its own way nobody would answer for what it has in hand. `deaths` is pending, before and after.
    fn line_up(&self, me: Me, round: u32, patience: &mut Patience) -> Woken {
        let mut slept = false;
        let woken = loop {
            if self.read().round != round {
                break Woken::Freely;
            }
            let baton = self.baton.load(Ordering::SeqCst);
            if word_of(baton) & DIED != 0 {
                break self.rouse();
            }
            let free = word_of(baton) & OWNER == 0;
            if free && self.take_baton(me, baton, round) {
                break Woken::ByBaton;
            }
            let mut by_death = false;
            let then = patience.may_wait().and_then(|()| {
                if free {
                    return Ok(Then::Look { slept: false });
                }
                self.line.store(WAITERS, Ordering::SeqCst);
                let (wait, by) = self.doze(&self.line, WAITERS, baton, patience.until());
                slept |= wait == Wait::Woken;
                by_death = wait == Wait::Woken && by != 0;
                patience.after(wait)
            });
            match then {
                Ok(Then::Look { .. }) if by_death && self.is_open(round) => break self.rouse(),
                Ok(Then::Look { .. }) => {}
                Ok(Then::Check) if !self.is_lost(baton) => {}
                Ok(Then::Check) => break self.rouse(),
                Err(_) => {
                    // Waits that are shorter than a slice must find a dead holder as well.
                    self.is_lost(baton);
                    break self.rouse();
                }
            }
        };
        if slept {
            // Others may stand there still. Who has the baton wakes the next when it passes that on.
            self.line.store(WAITERS, Ordering::SeqCst);
            if woken == Woken::Freely {
                self.open_line(EVERYBODY);
            }
        }
        woken
    }

    /// Takes the baton if nobody has it. It is on the list before `deaths` is no longer pending; in between the baton
    /// itself is, for which others answer if another gets it.
    fn take_baton(&self, me: Me, free: u64, round: u32) -> bool {
        let entered = self.write(round, |book| Book { transit: book.transit + 1, ..book });
        if !entered {
            return false;
        }
        me.pend(self.baton_spot());
        let mine = me.holder() | pair_of(WAITERS, 0);
        let taken = self.baton.compare_exchange(free, mine, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        if taken {
            me.push(self.baton_spot());
        }
        me.pend(self.deaths_spot());
        self.write(round, |book| Book { transit: book.transit.saturating_sub(1), ..book });
        taken
    }

    /// Passes the baton on, with the mutex in hand.
    fn hand_on(&self, me: Me, round: u32) {
        me.pend(self.baton_spot());
        me.remove(self.baton_spot());
        self.baton.swap(pair_of(WAITERS, 0), Ordering::SeqCst);
        me.pend(self.deaths_spot());
        self.write(round, |book| Book { owed: book.owed.saturating_sub(1), ..book });
        if self.read().transit != 0 {
            // One that wanted the baton while this one had it may have died of it.
            self.rouse();
        } else if self.line.load(Ordering::SeqCst) != 0 {
            self.open_line(1);
        }
        me.pend_nothing();
    }

    fn open_line(&self, count: u32) {
        self.line.store(0, Ordering::SeqCst);
        futex_wake(&self.line, count);
    }

    fn read(&self) -> Book {
        Book::new(self.book.load(Ordering::SeqCst))
    }

    /// Changes the book, if the round is still on and there is room; whether it did.
    fn write(&self, round: u32, change: impl Fn(Book) -> Book) -> bool {
        let mut now = self.book.load(Ordering::SeqCst);
        loop {
            let book = Book::new(now);
            if book.round != round {
                return false;
            }
            let changed = change(book);
            if changed.transit > Book::MOST_TRANSIT {
                return false;
            }
            match self.book.compare_exchange(now, changed.both(), Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return true,
                Err(other) => now = other,
            }
        }
    }

    /// Whether anything may have been lost with somebody who died.
    fn is_open(&self, round: u32) -> bool {
        let book = self.read();
        book.round != round
            || book.owed != 0
            || book.transit != 0
            || self.line.load(Ordering::SeqCst) != 0
            || word_of(self.baton.load(Ordering::SeqCst)) & DIED != 0
    }

    /// Whether the one that has the baton has ended, without the kernel's having said so. It is marked by number and cookie as one, so
    /// whoever has the baton by now keeps it.
    fn is_lost(&self, baton: u64) -> bool {
        let (holder, cookie) = (word_of(baton) & OWNER, cookie_of(baton));
        let died = pair_of(DIED | WAITERS, cookie);
        holder != 0
            && owner::thread_ended(holder, cookie)
            && self.baton.compare_exchange(baton, died, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Wakes everybody: for all, or because somebody has died and nobody knows what it had in hand. `deaths` is pending, and
    /// what is owed stays open until all have been woken.
    fn rouse(&self) -> Woken {
        let mut now = self.book.load(Ordering::SeqCst);
        let next = loop {
            let next = Book { round: now.0.wrapping_add(1), transit: 0, owed: 1 }.both();
            match self.book.compare_exchange(now, next, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => break next,
                Err(other) => now = other,
            }
        };
        let baton = self.baton.load(Ordering::SeqCst);
        if word_of(baton) == DIED | WAITERS {
            let free = pair_of(WAITERS, 0);
            let _ = self.baton.compare_exchange(baton, free, Ordering::SeqCst, Ordering::SeqCst);
        }
        self.sequence.fetch_add(1, Ordering::SeqCst);
        futex_wake(&self.sequence, EVERYBODY);
        self.open_line(EVERYBODY);
        let settled = Book { owed: 0, ..Book::new(next) }.both();
        let _ = self.book.compare_exchange(next, settled, Ordering::SeqCst, Ordering::SeqCst);
        Woken::Freely
    }

    /// Wakes `count` waiters, or as many as there are.
    pub fn notify(&self, count: u32) -> Outcome<()> {
        let waiting = self.waiting.load(Ordering::SeqCst);
        if count == 0 || waiting == 0 {
            return Ok(());
        }
        if count >= Book::MOST_OWED {
            return self.notify_all();
        }
        let me = robust::me().ok_or(NO_MEMORY)?;
        self.unseen.declare(me);
        me.pend(self.deaths_spot());
        let round = self.owe(count);
        self.sequence.fetch_add(1, Ordering::SeqCst);
        let woken = futex_wake(&self.sequence, count);
        if woken < count {
            // Nobody else slept; whoever was about to sees the sequence. Where more have come since, that stays.
            self.write(round, |book| Book { owed: book.owed.saturating_sub(count - woken), ..book });
            let _ = self.waiting.compare_exchange(waiting, 0, Ordering::SeqCst, Ordering::SeqCst);
        }
        me.pend_nothing();
        Ok(())
    }

    /// Adds to what is owed; in which round.
    fn owe(&self, count: u32) -> u32 {
        loop {
            let round = self.read().round;
            if self.write(round, |book| Book { owed: (book.owed + count).min(Book::MOST_OWED), ..book }) {
                return round;
            }
        }
    }

    /// Wakes all waiters.
    pub fn notify_all(&self) -> Outcome<()> {
        let waiting = self.waiting.load(Ordering::SeqCst);
        if waiting == 0 {
            return Ok(());
        }
        let me = robust::me().ok_or(NO_MEMORY)?;
        self.unseen.declare(me);
        me.pend(self.deaths_spot());
        self.rouse();
        let _ = self.waiting.compare_exchange(waiting, 0, Ordering::SeqCst, Ordering::SeqCst);
        me.pend_nothing();
        Ok(())
    }
}
