//! Ends of channels that go with tasks: from the submitter to whoever runs the task.
//!
//! | the task is | its end is | who closes it |
//! |---|---|---|
//! | queued | in the books | `settle`, if the task never runs |
//! | in a worker's ring, not begun | in the worker's [`Handover`]; a copy stays in the books if the task may be run again after a death | whoever has claimed the task has taken it: the worker, or the host, which puts it back into the books |
//! | begun | the worker's | the worker, before it says that it has finished, or the kernel, when it dies |
//! | settled | nowhere | |

use super::state::State;
use crate::engine::handover::Handover;
use crate::error::{Error, Result};

impl State {
    /// Gives a task's end to the worker that is to have the task, if it has one; whether the worker may have the task.
    pub(super) fn pass_end(&mut self, slot: usize, index: u32) -> Result<bool> {
        let entry = self.books.get_mut(index);
        if !entry.has_end {
            return Ok(true);
        }
        let Some(end) = entry.end.take() else {
            let text = "the task's end of its channel could not be had back from a worker";
            return Err(Error::errno(libc::EPIPE, text));
        };
        let lane = &mut self.lanes[slot];
        if lane.handover.is_none() {
            let handover = Handover::new()?;
            self.family.members[slot].pass_handover(&handover)?;
            lane.handover = Some(handover);
        }
        if !lane.handover.as_ref().map_or(Ok(false), |handover| handover.put(&end))? {
            lane.distrusted = true;
            self.family.kill(slot);
            entry.end = Some(end);
            return Ok(false);
        }
        lane.carries = Some(index);
        entry.end = (entry.retries > 0).then_some(end);
        Ok(true)
    }
}
