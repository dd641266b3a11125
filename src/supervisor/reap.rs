//! Children that have ended, and what the host is told of them.

use super::Supervisor;
use super::watch::TimeLimit;
use crate::error::Result;
use crate::sys::pidfd::{self, Ended};
use crate::sys::{children, signal};
use crate::task::wire::{self, Message, MessageKind};

impl Supervisor {
    pub(super) fn reap(&mut self) -> Result<()> {
        signal::clear_child_events(&self.child_events);
        while let Some((pid, killed)) = pidfd::peek_any() {
            if killed && self.workers.contains_key(&pid) {
                // What its task has started goes with it. The group's number is its own until it is reaped.
                children::kill_group(pid);
            }
            if let Ok(Some(ended)) = pidfd::reap_one(pid) {
                self.report(ended)?;
            }
        }
        Ok(())
    }

    pub(super) fn report(&mut self, ended: Ended) -> Result<()> {
        let Some(worker) = self.workers.remove(&ended.pid) else { return Ok(()) };
        let Ended { pid, signal, code, max_rss_bytes, user_ns, system_ns } = ended;
        let how = wire::How { signal, code, late: matches!(worker.limit, TimeLimit::Late { .. }) };
        let slot = u64::from(worker.slot);
        let words = [slot, worker.generation, how.to_word(), max_rss_bytes, pid as u64, user_ns, system_ns];
        let mut message = Message::new(MessageKind::Exited, &words);
        if let Some(tail) = worker.tail {
            let _ = self.epoll.remove(tail.fd());
            let said = tail.finish();
            // Where there is no memory for the worker's output, its end is reported without it.
            let said = Some(said).filter(|said| !said.is_empty()).and_then(|said| wire::to_memfd(&said).ok());
            message.fds.extend(said);
        }
        self.tell(message)
    }
}
