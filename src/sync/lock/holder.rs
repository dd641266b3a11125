//! Who holds a lock, and what one who has died leaves to the next.

use super::super::{AUTO_REPAIR, INVALID, NOT_OWNER, Outcome, PROCESS_OWNED};
use super::{CONSISTENT, INCONSISTENT, LOST, Lock, SPENT, holder_of};
use crate::sys::owner::{self, OwnerKind};
use crate::sys::prim::Ordering;
use crate::sys::robust::{DIED, Me, OWNER, pair_of, word_of};

/// Who holds a lock, for messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// Its process; 0 where nobody holds the lock.
    pub pid: u32,
    /// Its thread; for a lock that processes own, the one that took it.
    pub tid: u32,
    /// When that thread, or process, started, in the clock ticks after boot of /proc/PID/stat; 0 where not known.
    pub start_time: u64,
    /// The process that died holding the lock, until the lock is repaired or released; 0 where none did.
    pub dead_pid: u32,
    /// Its thread.
    pub dead_tid: u32,
}

impl Lock {
    /// What the holder leaves behind, before it releases: data that nobody has repaired is lost.
    pub fn leave(&self) {
        if self.state() == INCONSISTENT {
            self.set_state(LOST);
        }
        self.forget_dead();
    }

    /// Ends a death's story.
    pub fn forget_dead(&self) {
        self.dead.store(0, Ordering::Relaxed);
    }

    /// Whether the caller holds the lock, and how often it has locked it again.
    pub fn held_by(&self, me: Me) -> Option<u32> {
        let by_thread = me.find(self.spot()).map(|index| me.depth(index));
        if by_thread.is_none() && self.flags() & PROCESS_OWNED != 0 {
            return self.is_process(me).then_some(0);
        }
        by_thread
    }

    /// Whether the word names the caller, by whatever address it took the lock.
    pub fn names(&self, me: Me) -> bool {
        holder_of(self.pair.load(Ordering::SeqCst)) == me.holder()
    }

    /// Whether the caller's process holds it.
    pub(super) fn is_process(&self, me: Me) -> bool {
        holder_of(self.pair.load(Ordering::Relaxed)) == self.process_name(me)
    }

    /// The caller's process as this lock names it, if it has it: without a cookie, where none was to be had when the lock
    /// was taken.
    pub(super) fn process_name(&self, me: Me) -> u64 {
        let (now, mine) = (holder_of(self.pair.load(Ordering::Relaxed)), me.process_holder());
        if now == pair_of(word_of(mine), 0) { now } else { mine }
    }

    /// For memory that was copied or kept while processes used it, and that nobody uses now: whoever holds the lock there
    /// is not coming back, and its numbers may be of another boot or namespace.
    pub fn reopen(&self) {
        let pair = self.pair.load(Ordering::Relaxed);
        if pair != SPENT {
            let died = if word_of(pair) & (OWNER | DIED) != 0 { DIED } else { 0 };
            self.pair.swap(pair_of(died, 0), Ordering::SeqCst);
        }
        self.namespace.store(0, Ordering::Relaxed);
    }

    /// The holder hears of a death: of a lock that repairs itself nobody else needs to.
    pub fn tell(&self) {
        if self.flags() & AUTO_REPAIR != 0 && self.state() == INCONSISTENT {
            self.set_state(CONSISTENT);
        }
    }

    /// Says that the data is whole again.
    pub fn repair(&self, me: Me) -> Outcome<()> {
        self.held_by(me).ok_or(NOT_OWNER)?;
        if self.state() != INCONSISTENT {
            // A lock that repairs itself has nothing to say here, but a death may just have been reported.
            let reported = self.flags() & AUTO_REPAIR != 0 && self.dead.load(Ordering::Relaxed) != 0;
            self.forget_dead();
            return if reported { Ok(()) } else { Err(INVALID) };
        }
        self.set_state(CONSISTENT);
        self.forget_dead();
        Ok(())
    }

    /// Whether a death has left the data in doubt, for those that don't hold the lock.
    #[inline(always)]
    pub fn is_in_doubt(&self) -> bool {
        self.state() != CONSISTENT
    }

    /// Whether nobody repaired it in time.
    pub fn is_lost(&self) -> bool {
        self.state() == LOST
    }

    /// Who holds it.
    pub fn owner(&self) -> Owner {
        let holder = word_of(self.pair.load(Ordering::Relaxed)) & OWNER;
        let owner = self.owner.load(Ordering::Relaxed);
        let dead = self.dead.load(Ordering::Relaxed);
        let mut answer = Owner { dead_pid: (dead >> 32) as u32, dead_tid: dead as u32, ..Owner::default() };
        if holder == 0 {
            return answer;
        }
        let process = self.kind() == OwnerKind::Process;
        let signed = if process { (owner >> 32) as u32 } else { owner as u32 };
        (answer.pid, answer.tid) = if signed == holder {
            ((owner >> 32) as u32, owner as u32)
        } else if process {
            (holder, holder)
        } else {
            // Caught between taking the lock and signing it.
            (owner::process_of(holder), holder)
        };
        answer.start_time = owner::start_time(holder);
        answer
    }
}
