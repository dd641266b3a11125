//! Segments on their way to all workers of a family.

use super::Family;
use super::member::{Member, MemberState};
use crate::error::{Error, Result};
use crate::task::share::{self, Share};

impl Family {
    /// Begins to share a segment with all workers; [`Family::shared`] tells how it goes.
    pub(crate) fn share(&mut self, share: Share) -> Result<()> {
        if self.shares.len() == share::MOST {
            let text =
                format!("the pool shares {} segments already, the most that there can be", share::MOST);
            return Err(Error::errno(libc::ENOSPC, text));
        }
        self.sharing = Some(Sharing::default());
        self.shares.push(share);
        let share = &self.shares[self.shares.len() - 1];
        let passed = self.members.iter_mut().try_for_each(|member| member.pass(share));
        if passed.is_err() {
            self.end_sharing(false);
        }
        passed
    }

    /// Whether the segment that is being shared has got to every worker, but for those that are `busy`: they look
    /// before their next task. Or whether one cannot map it.
    pub(crate) fn has_shared(&mut self, busy: impl Fn(usize) -> bool) -> bool {
        let mapped = self.mapped_count();
        let Some(sharing) = &mut self.sharing else { return false };
        sharing.mapped = mapped;
        if sharing.failure.is_some() {
            return true;
        }
        let has = |(slot, member): (usize, &Member)| {
            let vacant = member.parked && matches!(member.state, MemberState::Vacant { .. });
            vacant || member.state == MemberState::Ready && (member.has_mapped() || busy(slot))
        };
        self.members.iter().enumerate().all(has)
    }

    /// What has come of it.
    pub(crate) fn shared(&mut self) -> Result<()> {
        self.sharing.as_mut().and_then(|sharing| sharing.failure.take()).map_or(Ok(()), Err)
    }

    /// Ends what [`Family::share`] began; workers to come get the segment only if it was `kept`.
    pub(crate) fn end_sharing(&mut self, kept: bool) {
        self.sharing = None;
        if !kept {
            self.shares.pop();
        }
    }

    /// Whether a segment is on its way.
    pub(crate) fn is_sharing(&self) -> bool {
        self.sharing.is_some()
    }

    /// Whether a range lies in a segment that is shared.
    pub(crate) fn is_shared(&self, address: usize, length: usize) -> bool {
        self.shares.iter().any(|share| share.contains(address, length))
    }

    pub(super) fn mapped_count(&self) -> usize {
        self.members.iter().filter(|member| member.has_mapped()).count()
    }
}

/// A segment that is being shared.
#[derive(Debug, Default)]
pub(super) struct Sharing {
    /// How many workers had mapped it when that was counted last.
    pub(super) mapped: usize,
    /// Why one could not.
    pub(super) failure: Option<Error>,
}
