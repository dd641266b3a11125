//! Ends of channels that go with tasks: from the submitter to whoever runs the task.
//!
//! | the task is | its end is | who closes it |
//! |---|---|---|
//! | queued | in the ledger | `settle`, if the task never runs |
//! | queued again, and the host had no descriptor free | in the [`Handover`], which is in the ledger; the worker has a copy of the reading end, and nothing to take by it | `settle`; or the next try has it back |
//! | in a worker's ring, not begun | in the worker's [`Handover`]; a copy stays in the ledger if the task may be run again after a death | whoever has claimed the task has taken it: the worker, or the host, which puts it back into the ledger |
//! | begun | the worker's | the worker, before it says that it has finished, or the kernel, when it dies |
//! | settled | nowhere | |

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

    /// The end. What could not be had is kept.
    fn take(&mut self) -> Result<End> {
        let error = match std::mem::take(self) {
            Kept::Held(end) => return Ok(end),
            Kept::Inside(handover) => match handover.take_back() {
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

    /// Has the end back that lies in there, of a task that has not begun; the handover, if it is free for another.
    pub(super) fn take_back(&mut self, handover: Box<Handover>) -> Option<Box<Handover>> {
        match self {
            // A copy, for the task may be run again.
            Kept::Held(_) => handover.discard(),
            _ => match handover.take_back() {
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
        if let Kept::Inside(handover) = self {
            let _uncancelled = Uncancelled::new();
            // The worker has a copy of the socket.
            handover.discard();
        }
    }
}

impl PoolState {
    /// Gives a task's end to the worker that is to have the task; whether the worker may have the task.
    pub(super) fn pass_end(&mut self, slot: usize, index: u32) -> Result<bool> {
        let _uncancelled = Uncancelled::new();
        let Some(rare) = &mut self.ledger.get_mut(index).rare else { return Ok(true) };
        let end = rare.end.take()?;
        let passed = self.put_end(slot, &end);
        let is_passed = matches!(passed, Ok(true));
        if is_passed {
            self.rings[slot].carries = Some(index);
            self.queue.ends_short_since_ns = None;
        }
        if let Some(rare) = &mut self.ledger.get_mut(index).rare
            && (!is_passed || rare.retries > 0)
        {
            rare.end = Kept::Held(end);
        }
        passed
    }

    fn put_end(&mut self, slot: usize, end: &End) -> Result<bool> {
        let ring = &mut self.rings[slot];
        if ring.handover.is_none() {
            let handover = Box::new(Handover::new()?);
            self.family.members[slot].pass_handover(&handover)?;
            ring.handover = Some(handover);
        }
        if ring.handover.as_ref().map_or(Ok(false), |handover| handover.put(end))? {
            return Ok(true);
        }
        ring.distrusted = true;
        self.family.kill(slot);
        Ok(false)
    }

    /// Whether a task whose end could not be passed for want of a descriptor waits for one: as long as a worker may take to
    /// start, which is the same kind of shortage.
    pub(super) fn may_wait_for_end(&mut self, error: &Error, now: u64) -> bool {
        is_shortage(error) && {
            let since = *self.queue.ends_short_since_ns.get_or_insert(now);
            now.saturating_sub(since) < self.family.start_timeout_ns()
        }
    }
}
