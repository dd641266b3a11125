//! The sleep of the thread that leads.

use crate::sys::clock::Deadline;
use crate::task::spin::Spin;

#[derive(Debug)]
pub(super) struct Leader {
    /// How long whoever is to lead looks before it sleeps.
    spin: Spin,
    until: Deadline,
    /// Nothing was under way when it lay down: it looks at the clock too seldom for what comes now.
    is_idle: bool,
}

impl Leader {
    pub(super) fn new() -> Leader {
        Leader { spin: Spin::new(), until: Deadline::NEVER, is_idle: false }
    }

    pub(super) fn spin(&mut self) -> &mut Spin {
        &mut self.spin
    }

    pub(super) fn lies_down(&mut self, until: Deadline, is_idle: bool) {
        (self.until, self.is_idle) = (until, is_idle);
    }

    /// Something is due then. Returns true where the leader would sleep for longer, and has to be called.
    pub(super) fn sleeps_past(&mut self, due: Deadline) -> bool {
        let past = due < self.until;
        self.until = self.until.min(due);
        past
    }

    /// There is something under way, and it is due then. Returns true where the leader does not know, and has to be called.
    pub(super) fn is_unaware_of(&mut self, due: Deadline) -> bool {
        self.sleeps_past(due) | std::mem::take(&mut self.is_idle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_is_called_once_for_what_is_due_before_it_wakes() {
        let mut leader = Leader::new();
        leader.lies_down(Deadline(100), false);
        assert!(!leader.sleeps_past(Deadline(100)));
        assert!(leader.sleeps_past(Deadline(50)));
        assert!(!leader.sleeps_past(Deadline(50)));
    }

    #[test]
    fn one_that_lay_down_with_nothing_under_way_is_called_for_anything() {
        let mut leader = Leader::new();
        leader.lies_down(Deadline(100), true);
        assert!(leader.is_unaware_of(Deadline(200)));
        assert!(!leader.is_unaware_of(Deadline(200)));
    }
}
