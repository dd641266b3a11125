//! The end of a task that runs: who is asked what, and when.
//!
//! First it is asked, half the grace later its worker gets SIGTERM, and the other half after that SIGKILL. The states, and why
//! no other task or item can be hit, are in docs/design/deadlines.md. Here is what is known of one such end; who finds out that it
//! is to come, and sends the signals, is [`super::cancel`].

use super::ledger::{Delivery, Outcome, OutputPlace, to_c_string};
use crate::error::Code;
use crate::sys::prim::Ordering;
use crate::task::call::CallKind;
use crate::task::ring::Segment;

/// How far a task may go, and what happens to one that goes further.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// How long a task that is to end may take.
    pub(super) grace_ns: u64,
    /// The signal that tells it besides its flag; 0 for none.
    pub(super) cancel_signal: i32,
    /// Above so much private memory a task is ended; 0 for never.
    pub(super) max_worker_bytes: u64,
}

/// Why a task is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Deadline,
    Cancelled,
    /// Its worker has more memory than it may.
    Memory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Asked,
    Terminated,
    Killed,
}

/// A task that is being ended. Its ring takes no other meanwhile.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) index: u32,
    /// Where it is in the ring.
    position: u32,
    /// Of a chunk: the item, by its number in the chunk.
    pub(super) item: u64,
    reason: Reason,
    stage: Stage,
    /// When the next stage is due.
    due_ns: u64,
    /// Its worker does not live on, however the task ends: it is being killed, or a signal is still on its way to it.
    pub(super) doomed: bool,
}

/// When the running task, or the item of a chunk, began, as the host has first seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beginning {
    pub(super) position: u32,
    pub(super) item: u64,
    pub(super) since_ns: u64,
}

impl Beginning {
    /// What is known after another look; `None` where what the worker says cannot be. Only a higher number is another item's
    /// beginning, and there are so many: what a worker gains by lying is no more than its chunk may take. One less than was
    /// seen is a worker that was about to begin an item and was asked not to. It began between the last look before and now, whatever
    /// the worker says: its clock may be that of another time namespace.
    pub(super) fn next(
        known: Option<Beginning>,
        position: u32,
        item: u64,
        items: u64,
        said_ns: u64,
        (after_ns, now): (u64, u64),
    ) -> Option<Beginning> {
        let since_ns = if said_ns == 0 { now } else { said_ns.min(now).max(after_ns) };
        match known {
            _ if item > items => None,
            Some(known) if item + 1 < known.item => None,
            Some(known) if item <= known.item => Some(known),
            _ => Some(Beginning { position, item, since_ns }),
        }
    }
}

impl Reason {
    pub(super) fn status(self) -> i32 {
        match self {
            Reason::Deadline => -libc::ETIMEDOUT,
            Reason::Cancelled => -libc::ECANCELED,
            Reason::Memory => Code::MEMORY.0,
        }
    }

    pub(super) fn text(self, delivery: Delivery) -> &'static str {
        match (self, delivery) {
            (Reason::Deadline, Delivery::MaybeRan) => "past its deadline; its worker was ended",
            (Reason::Deadline, _) => "past its deadline",
            (Reason::Cancelled, Delivery::MaybeRan) => "cancelled while it ran; its worker was ended",
            (Reason::Cancelled, _) => "cancelled while it ran",
            (Reason::Memory, _) => "it took more memory than .max_worker_bytes",
        }
    }
}

impl Reason {
    /// What a settled task comes to that was to be ended. The output that it leaves is returned, to be freed.
    pub(super) fn amend(self, outcome: &mut Outcome) -> Option<usize> {
        let ran = outcome.delivery == Delivery::Ran;
        if !(ran && outcome.status < 0 && outcome.message.is_some()) {
            outcome.message = to_c_string(self.text(outcome.delivery).as_bytes());
        }
        outcome.status = self.status();
        if let (Reason::Memory, Some(death)) = (self, &mut outcome.death) {
            death.out_of_memory = 1;
        }
        match (std::mem::take(&mut outcome.output_length), outcome.output) {
            (1.., OutputPlace::Heap(address)) => Some(address),
            _ => None,
        }
    }
}

impl Ending {
    /// The task in front of a ring, or the item of a chunk that is at it, has just been asked to end.
    pub(super) fn begin(front: (u32, u32), item: u64, reason: Reason, limits: &Limits, now: u64) -> Ending {
        let (position, index) = front;
        // Memory does not wait.
        let (stage, due_ns) = match reason {
            Reason::Memory => (Stage::Terminated, now),
            _ => (Stage::Asked, now.saturating_add(limits.grace_ns / 2)),
        };
        Ending { index, position, item, reason, stage, due_ns, doomed: false }
    }

    /// Its worker has written what cannot be, and is being killed.
    pub(super) fn at_once(front: (u32, u32), item: u64, reason: Reason) -> Ending {
        let (position, index) = front;
        Ending { index, position, item, reason, stage: Stage::Killed, due_ns: u64::MAX, doomed: true }
    }

    /// How far its worker has come with a chunk, and whether it was at the next item when it ended; from here on that is the item that
    /// was ended. Where the items have a deadline the worker has gone no further than the one that it was asked to end; else it goes on
    /// until the signal arrives.
    pub(super) fn find_item(&mut self, outcome: &mut Outcome, begun: u64, is_timed: bool) {
        if !is_timed && begun != 0 {
            outcome.culprit = begun > outcome.items;
            self.item = outcome.items;
            return;
        }
        // It is the last that it can have been at, and it was at that.
        outcome.items = outcome.items.clamp(self.item, self.item.saturating_add(1));
        outcome.culprit = outcome.items == self.item;
    }

    /// When the next stage is due.
    pub(super) fn due_ns(&self) -> u64 {
        self.due_ns
    }

    /// Goes on to the next stage if that is due: which signal its worker gets.
    pub(super) fn press(&mut self, limits: &Limits, now: u64) -> Option<i32> {
        if now < self.due_ns {
            return None;
        }
        let (stage, due_ns, signal) = match self.stage {
            Stage::Asked => {
                let left_ns = limits.grace_ns - limits.grace_ns / 2;
                // Where the host is late, what is left of the grace still is its worker's.
                (Stage::Terminated, now.saturating_add(left_ns), libc::SIGTERM)
            }
            Stage::Terminated | Stage::Killed => (Stage::Killed, u64::MAX, libc::SIGKILL),
        };
        (self.stage, self.due_ns) = (stage, due_ns);
        self.doomed |= signal == libc::SIGKILL;
        Some(signal)
    }

    /// What a settled task comes to that was being ended. The output that it leaves is returned, to be freed.
    pub(super) fn amend(&self, outcome: &mut Outcome, kind: CallKind) -> Option<usize> {
        if kind != CallKind::Task {
            outcome.late = Some((self.item, self.reason.status()));
            if let (Reason::Memory, Some(death)) = (self.reason, &mut outcome.death) {
                death.out_of_memory = 1;
            }
            return None;
        }
        self.reason.amend(outcome)
    }

    /// The text for an item of a chunk that was ended.
    pub(super) fn text_of(status: i32, delivery: Delivery) -> &'static str {
        let reasons = [Reason::Deadline, Reason::Cancelled, Reason::Memory];
        reasons.iter().find(|reason| reason.status() == status).map_or("", |reason| reason.text(delivery))
    }

    /// The worker may use the slot for another task.
    pub(super) fn clear(&self, segment: &Segment) {
        segment.slot(self.position).asked.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { grace_ns: 101, cancel_signal: 0, max_worker_bytes: 0 };

    #[test]
    fn half_the_grace_after_it_was_asked_comes_sigterm_and_at_its_end_sigkill() {
        let mut ending = Ending::begin((0, 7), 0, Reason::Deadline, &LIMITS, 1000);
        assert_eq!((ending.press(&LIMITS, 1049), ending.due_ns()), (None, 1050));
        assert_eq!((ending.press(&LIMITS, 1090), ending.due_ns()), (Some(libc::SIGTERM), 1141));
        assert!(!ending.doomed);
        assert_eq!((ending.press(&LIMITS, 1140), ending.press(&LIMITS, 1141)), (None, Some(libc::SIGKILL)));
        assert!(ending.doomed);
        assert_eq!((ending.press(&LIMITS, u64::MAX - 1), ending.due_ns()), (None, u64::MAX));
    }

    #[test]
    fn one_that_is_looked_at_too_late_has_its_time_between_both_and_memory_gets_sigkill_at_once() {
        let mut ending = Ending::begin((0, 7), 0, Reason::Cancelled, &LIMITS, 1000);
        assert_eq!(ending.press(&LIMITS, 5000), Some(libc::SIGTERM));
        assert_eq!((ending.press(&LIMITS, 5000), ending.press(&LIMITS, 5050)), (None, None));
        assert_eq!(ending.press(&LIMITS, 5051), Some(libc::SIGKILL));
        let mut ending = Ending::begin((0, 7), 0, Reason::Memory, &LIMITS, 1000);
        assert_eq!(ending.press(&LIMITS, 1000), Some(libc::SIGKILL));
        assert_eq!(Ending::at_once((0, 7), 0, Reason::Deadline).press(&LIMITS, u64::MAX - 1), None);
    }

    #[test]
    fn a_chunk_without_deadlines_goes_on_until_the_signal_arrives() {
        let end_of = |reason, items, begun, is_timed| {
            let mut ending = Ending::begin((0, 7), 3, reason, &LIMITS, 1000);
            let mut outcome = Outcome::new(Code::DIED.0, Delivery::MaybeRan);
            outcome.items = items;
            ending.find_item(&mut outcome, begun, is_timed);
            ending.amend(&mut outcome, CallKind::Items);
            (outcome.items, outcome.culprit, outcome.late)
        };
        let memory = Code::MEMORY.0;
        assert_eq!(end_of(Reason::Memory, 3, 4, false), (3, true, Some((3, memory))));
        assert_eq!(
            end_of(Reason::Memory, 9, 10, false),
            (9, true, Some((9, memory))),
            "it is the tenth by now"
        );
        assert_eq!(
            end_of(Reason::Memory, 9, 9, false),
            (9, false, Some((9, memory))),
            "and not yet at the next"
        );
        assert_eq!(
            end_of(Reason::Memory, 0, 0, false),
            (3, true, Some((3, memory))),
            "what it says cannot be"
        );
        assert_eq!(end_of(Reason::Deadline, 9, 10, true), (4, false, Some((3, -libc::ETIMEDOUT))));
    }

    #[test]
    fn what_a_worker_says_of_its_items_gains_it_no_time() {
        let first = Beginning::next(None, 3, 1, 10, 500, (0, 1000)).unwrap();
        assert_eq!((first.item, first.since_ns), (1, 500));
        let same = Beginning::next(Some(first), 3, 1, 10, 900, (0, 1000));
        assert_eq!(same, Some(first), "an item begins once");
        let ahead = Beginning::next(Some(first), 3, 2, 10, 7, (600, 1000)).unwrap();
        assert_eq!(
            ahead.since_ns, 600,
            "not before it was last seen not to have begun, whatever its clock says"
        );
        let later = Beginning::next(Some(first), 3, 2, 10, 2000, (0, 1000)).unwrap();
        assert_eq!((later.item, later.since_ns), (2, 1000), "not in the future");
        assert_eq!(
            Beginning::next(Some(later), 3, 1, 10, 0, (0, 1000)),
            Some(later),
            "it was asked not to begin"
        );
        assert_eq!(Beginning::next(Some(later), 3, 0, 10, 0, (0, 1000)), None, "back to what is over");
        assert_eq!(Beginning::next(Some(later), 3, 11, 10, 0, (0, 1000)), None, "more than there are");
    }

    #[test]
    fn a_late_task_has_its_own_words_only_where_it_has_failed_by_itself() {
        let mut outcome = Outcome::new(0, Delivery::Ran);
        (outcome.output, outcome.output_length) = (OutputPlace::Heap(64), 8);
        assert_eq!(Reason::Deadline.amend(&mut outcome), Some(64), "its output is nobody's");
        assert_eq!((outcome.status, outcome.output_length), (-libc::ETIMEDOUT, 0));
        assert_eq!(outcome.message.as_deref(), Some(c"past its deadline"));
        let mut outcome = Outcome::new(-libc::EIO, Delivery::Ran);
        outcome.message = to_c_string(b"its own");
        assert_eq!(Reason::Cancelled.amend(&mut outcome), None);
        assert_eq!((outcome.status, outcome.message.as_deref()), (-libc::ECANCELED, Some(c"its own")));
    }
}
