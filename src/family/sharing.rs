//! Segments on their way to all workers of a family.
//!
//! A segment that not every worker has, or that the pool is not known to have, is on trial. The states of a trial, and what ends them, are in
//! docs/design/sharing.md.

use super::Family;
use super::member::{Member, MemberState};
use crate::error::{Code, Error, Result};
use crate::sys::clock::Deadline;
use crate::sys::reserve;
use crate::task::share::{self, Share};

/// For how long a trial is kept that no call waits for.
const POSTPONED_NS: u64 = 1_000_000_000;

/// Names a trial for as long as the family lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TrialId(pub(super) u64);

/// A segment that workers are passed, and may have to give back.
#[derive(Debug)]
pub(super) struct Trial {
    pub(super) id: TrialId,
    pub(super) share: Share,
    /// When it is taken back. It is `None` while a call waits for it, which is the last of the family's trials then.
    pub(super) due: Option<Deadline>,
    /// Why it cannot be shared. It is passed to no worker any more, and the call that waits for it, or the next one for it, returns this.
    pub(super) failure: Option<Error>,
}

/// How a call that shares has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SharingEnd {
    /// All workers have the segment, or will have it before their next task.
    Shared,
    /// Not all have answered. The same call may come again.
    Unanswered,
    Failed,
}

/// The trial that a call waits for, unless it has failed.
pub(super) fn passing<'t>(sharing: Option<&Sharing>, trials: &'t [Trial]) -> Option<&'t Trial> {
    sharing.and(trials.last()).filter(|trial| trial.failure.is_none())
}

impl SharingEnd {
    pub(crate) fn of(result: &Result<()>) -> SharingEnd {
        let passing = [libc::EAGAIN, libc::ETIMEDOUT, libc::EINTR].map(Code::errno);
        match result {
            Ok(()) => SharingEnd::Shared,
            Err(error) if passing.contains(&error.code()) => SharingEnd::Unanswered,
            Err(_) => SharingEnd::Failed,
        }
    }
}

impl Family {
    /// Why a pool cannot share this segment, whatever its workers say.
    pub(crate) fn refuse_share(&self, share: &Share) -> Result<()> {
        let address = share.address;
        match self.shares.iter().find(|there| there.overlaps(share)) {
            Some(there) if there.is_same(share) => {
                Err(Error::errno(libc::EALREADY, format!("the segment at {address:#x} is shared already")))
            }
            Some(_) => Err(Error::errno(
                libc::EEXIST,
                format!("the workers have another segment at {address:#x}, which has been closed here"),
            )),
            None if self.shares.len() == share::MOST => Err(Error::errno(
                libc::ENOSPC,
                format!("the pool shares {} segments already, the most that there can be", share::MOST),
            )),
            None => Ok(()),
        }
    }

    /// Begins to share a segment with all workers; [`Family::shared`] tells how it goes.
    pub(crate) fn share(&mut self, share: Share) -> Result<()> {
        reserve::grow(&mut self.shares, 1)?;
        reserve::grow(&mut self.trials, 1)?;
        let known = self.trials.iter().position(|trial| trial.share.is_same(&share));
        let trial = match known.map(|at| self.trials.remove(at)) {
            // The descriptor of the one that was there may have been closed by the program.
            Some(trial) if trial.failure.is_none() => Trial { share, due: None, ..trial },
            // A worker has refused it while no call waited.
            Some(trial) => {
                self.take_back(&trial);
                return trial.failure.map_or(Ok(()), Err);
            }
            None => {
                self.take_back_where(|trial| trial.share.overlaps(&share));
                self.last_trial += 1;
                Trial { id: TrialId(self.last_trial), share, due: None, failure: None }
            }
        };
        self.trials.push(trial);
        self.sharing = Some(Sharing::default());
        self.pass_trial().inspect_err(|_| self.end_sharing(SharingEnd::Failed))
    }

    /// Passes the trial that a call waits for to whoever lacks it.
    fn pass_trial(&mut self) -> Result<()> {
        self.forget_glance();
        let trial = passing(self.sharing.as_ref(), &self.trials);
        trial.map_or(Ok(()), |trial| self.members.iter_mut().try_for_each(|member| member.pass(trial)))
    }

    /// Whether the segment that is being shared has got to every worker, but for those that are `busy`: they look
    /// before their next task. Or whether one cannot map it.
    pub(crate) fn has_shared(&mut self, busy: impl Fn(usize) -> bool) -> bool {
        let passed = self.pass_trial();
        let answers = self.answers();
        let (Some(sharing), Some(trial)) = (&mut self.sharing, self.trials.last_mut()) else { return false };
        sharing.answers = answers;
        if let Err(error) = passed {
            trial.failure.get_or_insert(error);
        }
        if trial.failure.is_some() {
            return true;
        }
        let id = trial.id;
        let has = |(slot, member): (usize, &Member)| {
            let vacant = member.parked && matches!(member.state, MemberState::Vacant { .. });
            let will_have = || member.has_mapped(id) || member.was_passed(id) && busy(slot);
            vacant || member.state == MemberState::Ready && will_have()
        };
        self.members.iter().enumerate().all(has)
    }

    /// What has come of it.
    pub(crate) fn shared(&mut self) -> Result<()> {
        let trial = self.sharing.as_ref().and(self.trials.last_mut());
        trial.and_then(|trial| trial.failure.take()).map_or(Ok(()), Err)
    }

    /// Ends what [`Family::share`] began; workers to come get the segment only if it is shared.
    pub(crate) fn end_sharing(&mut self, end: SharingEnd) {
        let Some(mut trial) = self.sharing.take().and_then(|_| self.trials.pop()) else { return };
        match end {
            SharingEnd::Shared => {
                self.members.iter_mut().for_each(|member| member.forget(trial.id));
                self.shares.push(trial.share);
            }
            // No room is made for one more: segments that are shared in turn would throw each other out for ever.
            SharingEnd::Unanswered if !self.stopping && self.trials.len() < share::MOST => {
                trial.due = Some(Deadline::after(POSTPONED_NS));
                self.trials.push(trial);
            }
            SharingEnd::Unanswered | SharingEnd::Failed => self.take_back(&trial),
        }
    }

    /// Takes back what nobody has asked for again.
    pub(super) fn take_back_what_is_due(&mut self) {
        self.take_back_where(|trial| trial.due.is_some_and(Deadline::passed));
    }

    /// No worker is there any more to give anything back.
    pub(super) fn drop_postponed(&mut self) {
        self.trials.retain(|trial| trial.due.is_none());
    }

    /// When a trial is due.
    #[inline]
    pub(super) fn next_take_back(&self) -> Deadline {
        self.trials.iter().filter_map(|trial| trial.due).fold(Deadline::NEVER, Deadline::min)
    }

    fn take_back_where(&mut self, is_over: impl Fn(&Trial) -> bool) {
        while let Some(at) = self.trials.iter().position(&is_over) {
            let trial = self.trials.remove(at);
            self.take_back(&trial);
        }
    }

    fn take_back(&mut self, trial: &Trial) {
        self.forget_glance();
        self.members.iter_mut().for_each(|member| member.take_back(trial));
    }

    /// Whether a segment is on its way.
    pub(crate) fn is_sharing(&self) -> bool {
        self.sharing.is_some()
    }

    /// A worker has ended because it could not map what it had come to.
    pub(super) fn could_not_map(&mut self, slot: usize, error: Error) {
        // Most trials are postponed when a worker comes to them: a call that does not wait is over by then.
        let member = &self.members[slot];
        if let Some(trial) = self.trials.iter_mut().find(|trial| member.is_at(trial.id)) {
            trial.failure.get_or_insert(error);
        }
    }

    /// Whether a range lies in a segment that is shared, or is being shared.
    pub(crate) fn is_shared(&self, address: usize, length: usize) -> bool {
        let trial = self.sharing.as_ref().and(self.trials.last()).map(|trial| &trial.share);
        self.shares.iter().chain(trial).any(|share| share.contains(address, length))
    }

    /// Whether the workers have answered since that was looked at last.
    pub(super) fn has_answers(&self) -> bool {
        self.sharing.as_ref().is_some_and(|sharing| sharing.answers != self.answers())
    }

    /// How many workers have the trial that a call waits for, or could be passed it now.
    fn answers(&self) -> usize {
        let Some(trial) = self.trials.last() else { return 0 };
        let answers = |member: &&Member| member.has_mapped(trial.id) || member.lacks(trial.id);
        self.members.iter().filter(answers).count()
    }
}

/// A call that shares.
#[derive(Debug, Default)]
pub(super) struct Sharing {
    /// [`Family::answers`] when that was counted last.
    answers: usize,
}
