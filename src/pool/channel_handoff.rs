//! Ends of channels that go with tasks: from the submitter to whoever runs the task.
//!
//! | the task is | its end is | who closes it |
//! |---|---|---|
//! | queued | in the ledger | `settle`, if the task never runs |
//! | queued again, and the host had no descriptor free | in the [`Handover`], which is in the ledger; the worker has a copy of the reading end, and nothing to take by it | `settle`; or the next try has it back |
//! | in a worker's ring, not begun | in the worker's [`Handover`]; a copy stays in the ledger if the task may be run again after a death | whoever has claimed the task has taken it: the worker, or the host, which puts it back into the ledger |
//! | begun | the worker's | the worker, before it says that it has finished, or the kernel, when it dies |
//! | settled | nowhere | |

use super::ledger::TaskId;
use super::state::PoolState;
use crate::channel::End;
use crate::error::{Error, Result};
use crate::sys::thread::Uncancelled;
use crate::task::handover::Handover;
use crate::task::wire::is_shortage;

/// A task's end, as far as it is the host's.
#[derive(Debug, Default)]
pub(super) enum Kept {
    /// There is none, or a worker has it.
    #[default]
    Nothing,
    Held(End),
    /// It could not be had back from where a worker would have taken it, for want of a descriptor.
    Inside(Box<Handover>),
}

impl From<Option<End>> for Kept {
    fn from(end: Option<End>) -> Kept {
        end.map_or(Kept::Nothing, Kept::Held)
    }
}

impl Kept {
    /// The end, where nothing more needs to be done to have it.
    pub(super) fn held(self) -> Option<End> {
        if let Kept::Held(end) = self { Some(end) } else { None }
    }

    /// The end of this task. What could not be had is kept.
    fn take(&mut self, task: TaskId) -> Result<End> {
        let error = match std::mem::take(self) {
            Kept::Held(end) => return Ok(end),
            Kept::Inside(handover) => match handover.take_back(task.0) {
                Ok(end) => return Ok(end),
                Err(error) => {
                    *self = Kept::Inside(handover);
                    error
                }
            },
            Kept::Nothing => Error::errno(
                libc::EPIPE,
                "the task's end of its channel could not be taken back from a worker",
            ),
        };
        Err(error)
    }

    /// Has the end back that lies in there, of this task, which has not begun; the handover, if it is free for another.
    pub(super) fn take_back(&mut self, handover: Box<Handover>, task: TaskId) -> Option<Box<Handover>> {
        let _uncancelled = Uncancelled::new();
        match self {
            // A copy, for the task may be run again.
            Kept::Held(_) => handover.discard(),
            _ => match handover.take_back(task.0) {
                Ok(end) => *self = Kept::Held(end),
                Err(error) if is_shortage(&error) => {
                    *self = Kept::Inside(handover);
                    return None;
                }
                Err(_) => (),
            },
        }
        Some(handover)
    }

    /// The task is over: the one at the other end is told.
    pub(super) fn close(self) {
        let _uncancelled = Uncancelled::new();
        if let Kept::Inside(handover) = self {
            // The worker has a copy of the socket.
            handover.discard();
        }
    }
}

/// A shortage of descriptors, for as long as tasks wait for its end.
#[derive(Debug, Default)]
pub(super) struct Shortage {
    /// Since when no end could be passed.
    since_ns: Option<u64>,
    /// How many tasks wait, each of which says so: see [`Rare::is_short`](super::entry::Rare).
    waiting: usize,
}

impl Shortage {
    /// A task's end could not be passed, for the first time or again; for how long none could be.
    fn lasts_ns(&mut self, is_first: bool, now: u64) -> u64 {
        self.waiting += usize::from(is_first);
        now.saturating_sub(*self.since_ns.get_or_insert(now))
    }

    /// One could be passed.
    fn is_over(&mut self) {
        self.since_ns = None;
    }

    /// A task waits no more, whether it has what it waited for or has settled. What the next one meets is another shortage, if
    /// nobody else has waited meanwhile.
    pub(super) fn left(&mut self) {
        self.waiting -= 1;
        if self.waiting == 0 {
            self.since_ns = None;
        }
    }
}

impl PoolState {
    /// Gives a task's end to the worker that is to have the task; whether the worker may have the task.
    pub(super) fn pass_end(&mut self, slot: usize, index: u32) -> Result<bool> {
        let _uncancelled = Uncancelled::new();
        let entry = self.ledger.get_mut(index);
        let task = entry.id_at(index);
        let Some(rare) = &mut entry.rare else { return Ok(true) };
        let end = rare.end.take(task)?;
        let passed = self.put_end(slot, &end, task);
        let is_passed = matches!(passed, Ok(true));
        if is_passed {
            self.rings[slot].carries = Some(index);
            self.queue.shortage.is_over();
        }
        let Some(rare) = &mut self.ledger.get_mut(index).rare else { return passed };
        if is_passed && std::mem::take(&mut rare.is_short) {
            self.queue.shortage.left();
        }
        if !is_passed || rare.retries > 0 {
            rare.end = Kept::Held(end);
        }
        passed
    }

    fn put_end(&mut self, slot: usize, end: &End, task: TaskId) -> Result<bool> {
        let ring = &mut self.rings[slot];
        if ring.handover.is_none() {
            let handover = Box::new(Handover::new()?);
            self.family.members[slot].pass_handover(&handover)?;
            ring.handover = Some(handover);
        }
        if ring.handover.as_ref().map_or(Ok(false), |handover| handover.put(end, task.0))? {
            return Ok(true);
        }
        ring.distrusted = true;
        self.family.kill(slot);
        Ok(false)
    }

    /// Whether a task whose end could not be passed for want of a descriptor waits for one: as long as a worker may take to
    /// start, which is the same kind of shortage.
    pub(super) fn may_wait_for_end(&mut self, index: u32, error: &Error, now: u64) -> bool {
        let Some(rare) = self.ledger.get_mut(index).rare.as_mut().filter(|_| is_shortage(error)) else {
            return false;
        };
        let is_first = !std::mem::replace(&mut rare.is_short, true);
        self.queue.shortage.lasts_ns(is_first, now) < self.family.start_timeout_ns()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_ends_with_the_last_task_that_waits() {
        let mut shortage = Shortage::default();
        assert_eq!((shortage.lasts_ns(true, 100), shortage.lasts_ns(false, 150)), (0, 50));
        assert_eq!(shortage.lasts_ns(true, 160), 60, "the second one meets the same");
        shortage.left();
        assert_eq!(shortage.lasts_ns(false, 170), 70);
        shortage.left();
        assert_eq!(shortage.lasts_ns(true, 1_000_000), 0, "nobody has waited meanwhile");
        shortage.is_over();
        assert_eq!((shortage.lasts_ns(false, 1_000_100), shortage.lasts_ns(false, 1_000_130)), (0, 30));
    }
}
