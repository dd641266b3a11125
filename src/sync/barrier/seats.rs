//! The seats of a barrier's parties.
//!
//! Each party has a seat, a word that is on its thread's robust list, so that its death is written there. The first to come
//! watches: it sleeps on the meeting's word and on all seats, taken or not, and breaks the barrier when a party dies. The others
//! sleep on the meeting's word and on the watcher's seat. So a meeting costs what its parties cost, not their square. Who
//! has been woken by a seat wakes everybody once the meeting is over, because the one who ended it may have died before it had.
//!
//! How a meeting ended is told apart from where the barrier is by now: any number of resets may have passed before a party that waits
//! runs again. So a reset is marked in the seats of all who came, before the next meeting begins: a party whose seat says nothing
//! when its meeting is over has met.
//!
//! | a seat's meeting | means | becomes |
//! |---|---|---|
//! | n, 0 | it is a party's of meeting n, or of one that died of it | n, RESET by whoever finishes the reset of n; n, BROKEN by its party, as it gets up; m, BROKEN by who takes a dead one's seat for m |
//! | n, RESET | meeting n ended by a reset | as n, 0 |
//! | n, BROKEN | the seat is nobody's; or a party has it that means to come to n, and has not signed yet | n, 0 by that party |
//!
//! Who came to n had written n before, and nobody comes once the word says RESET, so no seat is missed. Several may
//! finish one reset; one that is slow finds other numbers than n, in the word as in the seats, and changes nothing.
//!
//! Where more threads come than there are seats, the rest wait until somebody gets up, or the meeting is over. They are no parties yet:
//! nobody minds their death.

use super::{BROKEN, Barrier, HALF, MEETING, RESET, on, watcher, with_watcher};
use crate::sync::gate::EVERYBODY;
use crate::sync::{Outcome, Patience, SLICE_NS, TIMED_OUT, Then};
use crate::sys::clock::Deadline;
use crate::sys::owner;
use crate::sys::prim::{
    AtomicU32, AtomicU64, Both, MODEL, Ordering, Pair, Wait, futex_wait, futex_wait_any, futex_wake,
};
use crate::sys::robust::{DIED, ENTRY, Me, OWNER, Spot, WAITERS, WORD, cookie_of};
use core::array::from_fn;
use core::mem::{offset_of, size_of};

pub(super) const BAYS: usize = 2 * HALF / SEATS;
const SEATS: usize = 4;
/// How many words the kernel can watch for one sleeper.
const MOST_WATCHED: usize = 128;

/// Somebody looks for a seat, or has died of it. Above this, how often they were told of one.
const WANTED: u32 = 1;

/// One party that waits: its word, and beside it, changed with it as one, the meeting that it is for, as the barrier's word has it.
type Seat = Pair;

/// Four seats, with the kernel's entries for them behind, each at the distance that it knows.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Bay {
    seats: [Seat; SEATS],
    entries: [AtomicU64; SEATS],
}

const _: () = assert!(MODEL || size_of::<Seat>() == 8 && offset_of!(Bay, entries) - WORD == ENTRY);

impl Bay {
    pub(super) fn new() -> Bay {
        Bay { seats: from_fn(|_| Seat::new((0, unsigned(0)))), entries: from_fn(|_| AtomicU64::new(0)) }
    }
}

/// What a seat says that is nobody's, or whose party has not yet signed for that meeting.
fn unsigned(meeting: u32) -> u32 {
    on(meeting) | BROKEN
}

/// Whether a seat may be taken for this meeting. One who has just died of it keeps his, or nobody would ever know.
fn is_free((word, number): Both, meeting: u32) -> bool {
    word & OWNER == 0 && (word & DIED == 0 || number != on(meeting))
}

impl Barrier {
    /// How many of the half's seats are in use: for this meeting's parties, and as many that are still getting up.
    fn range(&self) -> usize {
        (2 * self.parties.load(Ordering::Relaxed) as usize).min(HALF)
    }

    /// Where a seat is among all.
    fn index(meeting: u32, seat: u32) -> usize {
        (meeting as usize & 1) * HALF + seat as usize
    }

    pub(super) fn seat(&self, meeting: u32, seat: u32) -> &Seat {
        let index = Barrier::index(meeting, seat);
        &self.bays[index / SEATS].seats[index % SEATS]
    }

    fn cookie(&self, meeting: u32, seat: u32) -> &AtomicU32 {
        &self.cookies[Barrier::index(meeting, seat)]
    }

    fn spot(&self, meeting: u32, seat: u32) -> Spot {
        let index = Barrier::index(meeting, seat);
        let at = index % SEATS * size_of::<Seat>() + WORD;
        // SAFETY: the bay has its entry for this seat at the right distance, written by the robust list alone.
        unsafe { Spot::new(&raw const self.bays[index / SEATS], at) }
    }

    /// Takes a free seat, the first try at `hint`. `None` where none is free, or the meeting is over.
    pub(super) fn sit_down(&self, me: Me, meeting: u32, hint: u32) -> Option<u32> {
        let range = self.range() as u32;
        for at in 0..2 * range {
            let index = (hint + at) % range;
            if at >= range {
                // No seat was free, but those of parties whose death the kernel has not marked look taken.
                self.bury(meeting, index);
            }
            let (seat, spot) = (self.seat(meeting, index), self.spot(meeting, index));
            let before = seat.load(Ordering::SeqCst);
            if !is_free(before, meeting) {
                continue;
            }
            // Nor is the seat taken of one who died of a later meeting: then this one is over. Who died of an earlier one nobody waits for.
            if before.0 & DIED != 0 && self.state.load(Ordering::SeqCst).0 != on(meeting) {
                return None;
            }
            me.pend(spot);
            // With WAITERS from the start: others sleep on it without a word. Acquire: it is off the last one's list.
            let taken = self.exchange(seat, before, (me.tid() | WAITERS, unsigned(meeting)));
            if taken {
                me.push(spot);
            }
            me.pend_nothing();
            if taken {
                return Some(index);
            }
        }
        None
    }

    /// Waits until a seat may be free or the meeting is over: more threads have come than there are seats, or those of meetings before
    /// have not got up yet. One that runs out of time takes the others along, as one with a seat does.
    pub(super) fn wait_for_seat(&self, meeting: u32, patience: &mut Patience) -> Outcome<()> {
        // Before the last look at the seats. SeqCst: who gets up either is seen there, or sees this.
        let wanted = self.wanted.fetch_or(WANTED, Ordering::SeqCst) | WANTED;
        let is_free = |seat| is_free(self.seat(meeting, seat).load(Ordering::SeqCst), meeting);
        if (0..self.range() as u32).any(is_free) || self.state.load(Ordering::SeqCst).0 != on(meeting) {
            return Ok(());
        }
        // Maybe all seats are those of dead parties, and nobody watches.
        if self.is_blocked(meeting, self.unseen.is_marked()) {
            self.break_up(meeting);
            return Ok(());
        }
        let slept = patience.may_wait().and_then(|()| {
            let words = [(self.state.word(), on(meeting)), (&self.wanted, wanted)];
            patience.after(sleep(&words, patience.until()).0)
        });
        match slept {
            Ok(Then::Look { .. }) => Ok(()),
            Ok(Then::Check) => {
                if self.is_blocked(meeting, true) {
                    self.break_up(meeting);
                }
                Ok(())
            }
            // Where the meeting is over by now the next one is broken, by the same way.
            Err(TIMED_OUT) if !self.break_up(meeting) => Ok(()),
            Err(code) => Err(code),
        }
    }

    /// Says that the seat is a party's of this meeting, which the caller has seen to be on since it has the seat.
    pub(super) fn sign(&self, me: Me, meeting: u32, seat: u32) {
        let mine = me.tid() | WAITERS;
        self.cookie(meeting, seat).store(cookie_of(me.holder()), Ordering::SeqCst);
        self.exchange(self.seat(meeting, seat), (mine, unsigned(meeting)), (mine, on(meeting)));
    }

    /// Marks a seat as the kernel would, whose party has ended and was one of a meeting that is over. A dead one's seat is only ever marked.
    /// Once it is, nobody puts the same word and number there again, not even a namesake: nobody signs who finds his meeting over.
    fn bury(&self, meeting: u32, index: u32) {
        let seat = self.seat(meeting, index);
        let (word, number) = seat.load(Ordering::SeqCst);
        // After the seat: no other meeting than this one is on.
        let is_of_another =
            number >> MEETING != meeting && self.state.load(Ordering::SeqCst).0 == on(meeting);
        if word & OWNER == 0 || !is_of_another {
            return;
        }
        // Who had not signed has another one's cookie there, so the number alone counts.
        let is_signed = number & BROKEN == 0;
        let cookie = if is_signed { self.cookie(meeting, index).load(Ordering::SeqCst) } else { 0 };
        if owner::thread_ended(word & OWNER, cookie) {
            self.exchange(seat, (word, number), (word & WAITERS | DIED, number));
        }
    }

    fn exchange(&self, seat: &Seat, old: Both, new: Both) -> bool {
        seat.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    pub(super) fn get_up(&self, me: Me, meeting: u32, seat: u32) {
        let spot = self.spot(meeting, seat);
        me.pend(spot);
        me.remove(spot);
        // Release: whoever takes the seat next finds its entry off this thread's list.
        self.seat(meeting, seat).swap((0, unsigned(meeting)), Ordering::SeqCst);
        me.pend_nothing();
        self.tell_of_seat();
    }

    /// After a seat has become free. Each who looks for one hears of it, even if others have begun to look since: the number is another.
    fn tell_of_seat(&self) {
        let wanted = self.wanted.load(Ordering::SeqCst);
        let told = wanted.wrapping_add(1);
        if wanted & WANTED != 0
            && self.wanted.compare_exchange(wanted, told, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        {
            futex_wake(&self.wanted, EVERYBODY);
        }
    }

    /// Whether the seat's party has died of this meeting, and the word as it was seen. `look` asks whether a party lives
    /// that the kernel hasn't marked.
    pub(super) fn is_dead(&self, meeting: u32, seat: u32, look: bool) -> (bool, u32) {
        let (word, number) = self.seat(meeting, seat).load(Ordering::SeqCst);
        let dies_unseen = || look && word & OWNER != 0 && self.has_ended(meeting, seat, word);
        (number == on(meeting) && (word & DIED != 0 || dies_unseen()), word)
    }

    /// Whether the party of a seat has ended in it. The cookie stands by itself: it was this party's if, after the look, the same party
    /// has the seat for the same meeting, and then the same cookie is there. Who sits down signs before the seat says for which meeting.
    fn has_ended(&self, meeting: u32, seat: u32, word: u32) -> bool {
        let cookie = self.cookie(meeting, seat).load(Ordering::SeqCst);
        owner::thread_ended(word & OWNER, cookie)
            && self.seat(meeting, seat).load(Ordering::SeqCst) == (word, on(meeting))
            && self.cookie(meeting, seat).load(Ordering::SeqCst) == cookie
    }

    pub(super) fn has_dead(&self, meeting: u32, look: bool) -> bool {
        (0..self.range() as u32).any(|seat| self.is_dead(meeting, seat, look).0)
    }

    /// Whether the dead keep a seat as long as this meeting is on. Nobody marks the seat of one who had not signed, because a namesake
    /// may sit down for the same meeting: it is buried once the meeting is over.
    fn is_blocked(&self, meeting: u32, look: bool) -> bool {
        let died_unsigned = |seat| {
            let seat = self.seat(meeting, seat);
            let (word, number) = seat.load(Ordering::SeqCst);
            // The number alone counts: the cookie is another's. Who has got up since may have ended elsewhere.
            number == unsigned(meeting)
                && word & OWNER != 0
                && owner::thread_ended(word & OWNER, 0)
                && seat.load(Ordering::SeqCst) == (word, number)
        };
        self.has_dead(meeting, look) || look && (0..self.range() as u32).any(died_unsigned)
    }

    /// Marks the seats of all who came to a meeting: they may run again long after it.
    pub(super) fn tell_of_reset(&self, meeting: u32) {
        for seat in 0..self.range() as u32 {
            let of = self.seat(meeting, seat);
            let mut now = of.load(Ordering::SeqCst);
            // Not the seat of another meeting, should this one have been over for long.
            while now.1 == on(meeting) {
                let reset = (now.0, on(meeting) | RESET);
                match of.compare_exchange(now, reset, Ordering::SeqCst, Ordering::SeqCst) {
                    Ok(_) => break,
                    Err(other) => now = other, // Its party has died.
                }
            }
        }
    }

    /// Sleeps on the meeting and on everybody's seat; `None` where a party has died.
    pub(super) fn watch(&self, meeting: u32, mine: u32, until: Deadline) -> Option<(Wait, usize)> {
        let mut words = [(self.state.word(), on(meeting)); MOST_WATCHED];
        let others = (0..self.range() as u32).filter(|seat| *seat != mine);
        let mut count = 1;
        for (seat, place) in others.zip(&mut words[1..]) {
            let (dead, word) = self.is_dead(meeting, seat, false);
            if dead {
                return None;
            }
            *place = (self.seat(meeting, seat).word(), word);
            count += 1;
        }
        Some(sleep(&words[..count], until))
    }

    /// Sleeps on the meeting and on the watcher's seat, by `number` as it was seen beside the word; `None` where it has died.
    pub(super) fn follow(
        &self,
        me: Me,
        (meeting, number): Both,
        mine: u32,
        until: Deadline,
    ) -> Option<(Wait, usize)> {
        let watcher = watcher(number);
        let (dead, word) = self.is_dead(meeting, watcher, false);
        if dead {
            return None;
        }
        if word & OWNER == 0 {
            // It has left, and said so before: this changes nothing. Otherwise somebody has written there, and this one watches.
            self.change((on(meeting), number), (on(meeting), with_watcher(number, mine)));
            return Some((Wait::Changed, 0));
        }
        // Should this one be woken by the watcher's death and die of it, another is.
        me.pend(self.spot(meeting, watcher));
        let slept =
            sleep(&[(self.state.word(), on(meeting)), (self.seat(meeting, watcher).word(), word)], until);
        me.pend_nothing();
        Some(slept)
    }
}

/// Where the kernel can't watch several words, the sleep is short and on the first alone.
fn sleep(words: &[(&AtomicU32, u32)], until: Deadline) -> (Wait, usize) {
    futex_wait_any(words, until).unwrap_or_else(|| {
        let (word, value) = words[0];
        (futex_wait(word, value, until.min(Deadline::after(SLICE_NS))), 0)
    })
}
