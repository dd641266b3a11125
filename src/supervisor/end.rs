//! The family's end.

use super::Supervisor;
use crate::error::Result;
use crate::sys::clock::Deadline;
use crate::sys::{children, pidfd, signal};
use std::os::fd::AsRawFd;

impl Supervisor {
    /// Waits for workers that have been asked to leave; a host that is gone ends the waiting.
    pub(super) fn wait_for_workers(&mut self, deadline: Deadline) -> Result<()> {
        loop {
            self.reap()?;
            if self.workers.is_empty()
                || self.keeper_ended
                || deadline.passed()
                || pidfd::has_ended(self.host.as_raw_fd())
            {
                return Ok(());
            }
            self.flush()?;
            self.wait(deadline)?;
        }
    }

    /// The last that the supervisor does.
    pub(super) fn end_family(&mut self) {
        self.kill_everything();
        let _ = self.flush();
    }

    /// Kills the workers and everything that they have started, and waits until nothing is left.
    pub(super) fn kill_everything(&mut self) {
        // To find everything takes a descriptor, of which there may be none left.
        self.heap = None;
        for worker in self.workers.values() {
            let _ = pidfd::signal(worker.pidfd.as_raw_fd(), libc::SIGKILL);
        }
        // What the workers had started becomes a child of this process when they are gone; what that had started, in
        // the next round. The loop ends when there are no children: this process makes no new ones.
        while self.kill_children() {}
    }

    /// One round of it: kills the children that there are, and reaps as many, or those that end within some milliseconds. To
    /// look for them again after each would take the square of their number. Whether there are any left.
    pub(super) fn kill_children(&mut self) -> bool {
        let mut count = children::kill_all();
        loop {
            match pidfd::reap_any() {
                Ok(Some(ended)) => {
                    let _ = self.report(ended);
                    count = count.saturating_sub(1);
                    if count == 0 {
                        return true;
                    }
                }
                Ok(None) => {
                    let more = pidfd::poll(self.child_events.as_raw_fd(), Deadline::after(5_000_000));
                    signal::clear_child_events(&self.child_events);
                    if !more {
                        return true;
                    }
                }
                Err(_) => return false,
            }
        }
    }
}
