//! Everybody who is to hear of what the pool does: the threads that wait, the one of them that sleeps for all, tine's own thread,
//! and the host's event loop.

use super::desk::Desk;
use super::event_fd::EventFd;
use super::leader::Leader;
use super::standby_account::StandbyAccount;
use crate::heap::bell::Bell;
use crate::sys::clock::Deadline;

/// While anything is under way, at least one of these looks at the clock early enough for what is due next.
#[derive(Debug)]
pub(super) struct Waiters {
    /// Threads that wait, and which of them leads.
    pub(super) desk: Desk,
    pub(super) leader: Leader,
    pub(super) standby: StandbyAccount,
    /// How much room others have had that came after one that waits for more; no more than the whole window until that one has it.
    pub(super) overtaken: usize,
    /// Where the pool's descriptor has been asked for: every event must make it readable.
    pub(super) event_fd: Option<EventFd>,
}

impl Waiters {
    pub(super) fn new() -> Waiters {
        Waiters {
            desk: Desk::new(),
            leader: Leader::new(),
            standby: StandbyAccount::new(),
            overtaken: 0,
            event_fd: None,
        }
    }

    /// Whether the pool's descriptor has been asked for.
    pub(super) fn is_looked_at(&self) -> bool {
        self.event_fd.is_some()
    }

    /// Whether somebody looks again soon where tasks wait behind one that takes longer than the last ones.
    pub(super) fn may_gather(&self) -> bool {
        self.standby.is_there() && !self.is_looked_at()
    }

    /// Something is due: of `due` the leader and the event loop are to know, of `steady` tine's thread, where nobody else is there.
    pub(super) fn have_a_look_by(&mut self, due: Deadline, steady: Deadline, bell: &Bell) {
        if let Some(event_fd) = &mut self.event_fd {
            event_fd.set_timer(due);
        }
        // Who sleeps went to sleep before this was due, and has to look at the clock again.
        if self.desk.is_led() && self.leader.sleeps_past(due) {
            bell.ring_leader();
        }
        if self.desk.nobody_is_there() {
            self.standby.is_to_know_of(steady);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::Heap;

    #[test]
    fn tines_thread_is_called_for_what_is_due_earlier_only_while_nobody_else_is_there() {
        let heap = Heap::create(1 << 20).unwrap();
        let mut waiters = Waiters::new();
        waiters.have_a_look_by(Deadline(0), Deadline(0), heap.bell());
        assert!(!waiters.standby.take_call(), "there is no such thread");
        waiters.standby.has_come();
        waiters.standby.rests_until(Deadline(100), false);
        waiters.desk.waiting = 1;
        waiters.have_a_look_by(Deadline(50), Deadline(50), heap.bell());
        assert!(!waiters.standby.take_call(), "a thread of the host's is there");
        waiters.desk.waiting = 0;
        waiters.have_a_look_by(Deadline(100), Deadline(100), heap.bell());
        assert!(!waiters.standby.take_call(), "it knows of that");
        waiters.have_a_look_by(Deadline(50), Deadline(50), heap.bell());
        assert!(waiters.standby.take_call());
    }
}
