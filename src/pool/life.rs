//! How far a pool's end has come, and what has broken it.

use crate::error::Error;
use crate::family::shutdown::Leaving;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    #[default]
    Open,
    /// No more submits.
    Closed,
    /// The family is being ended: nothing runs again.
    Stopping,
    /// The family has ended.
    Gone,
}

/// It goes one way only.
#[derive(Debug, Default)]
pub(super) struct Life {
    stage: Stage,
    /// No worker can be started any more: why.
    broken: Option<Error>,
    /// The family that is being ended, while no thread waits for that.
    leaving: Option<Leaving>,
}

impl Life {
    pub(super) fn close(&mut self) {
        self.reach(Stage::Closed);
    }

    pub(super) fn begin_to_stop(&mut self) {
        self.reach(Stage::Stopping);
    }

    /// Nobody waits for the family's end at the moment.
    pub(super) fn leave_alone(&mut self, leaving: Leaving) {
        self.leaving = Some(leaving);
    }

    /// A thread is to wait for the family's end, if no other is at it.
    pub(super) fn take_leaving(&mut self) -> Option<Leaving> {
        self.leaving.take()
    }

    pub(super) fn end(&mut self) {
        self.reach(Stage::Gone);
    }

    fn reach(&mut self, stage: Stage) {
        self.stage = self.stage.max(stage);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.stage >= Stage::Closed
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stage >= Stage::Stopping
    }

    pub(super) fn is_gone(&self) -> bool {
        self.stage == Stage::Gone
    }

    /// The first reason stays.
    pub(super) fn break_down(&mut self, reason: Error) {
        self.broken.get_or_insert(reason);
    }

    pub(super) fn broken(&self) -> Option<&Error> {
        self.broken.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn an_end_goes_one_way_and_the_first_reason_stays() {
        let mut life = Life::default();
        assert!(!life.is_closed());
        life.begin_to_stop();
        life.close();
        assert!(life.is_closed() && life.is_stopping() && !life.is_gone());
        life.end();
        assert!(life.is_gone());
        life.break_down(Code::SHUTDOWN.into());
        life.break_down(Code::DIED.into());
        assert_eq!(life.broken().map(|error| error.code().0), Some(Code::SHUTDOWN.0));
    }
}
