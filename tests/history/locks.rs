//! The mutex and the reader-writer lock. A lock that a killed process held is in doubt; one that is given back in doubt is lost.

use super::record::Memory;
use super::subject::*;
use tine::ffi::sync::*;
use tine::ffi::sync_rwlock::*;

/// What a lock that can be had says to its taker: 0, in doubt or lost.
type Health = i64;

/// A lock that has readers, or one that hasn't.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lock<const READERS: bool> {
    writer: Option<usize>,
    /// A bit for each process.
    readers: u32,
    health: Health,
    dead: u32,
}

impl<const READERS: bool> Lock<READERS> {
    fn is_free(&self, kind: Kind) -> bool {
        self.writer.is_none() && (kind == Kind::TakeShared || self.readers == 0)
    }

    /// Whether it may answer this; if so, it has done it.
    fn allows(&mut self, call: &Call, answer: i64) -> bool {
        let who = call.who;
        match (call.kind, answer) {
            (Kind::Take | Kind::TakeShared, AGAIN | TIMED_OUT) => {
                return !self.is_free(call.kind) || call.contended;
            }
            (Kind::Take | Kind::TakeShared, LOST) => return self.health == LOST,
            (Kind::Take, health) if self.is_free(call.kind) && health == self.health => {
                self.writer = Some(who);
            }
            (Kind::TakeShared, health) if self.is_free(call.kind) && health == self.health => {
                self.readers |= 1 << who;
            }
            (Kind::Give, 0) if self.writer == Some(who) => {
                self.writer = None;
                if self.health == OWNER_DEAD {
                    self.health = LOST;
                }
            }
            (Kind::Give, 0) if self.readers >> who & 1 != 0 => self.readers &= !(1 << who),
            (Kind::Repair, 0) if self.writer == Some(who) && self.health == OWNER_DEAD => self.health = 0,
            _ => return false,
        }
        true
    }

    fn die(&mut self, who: usize) {
        self.dead |= 1 << who;
        self.readers &= !(1 << who);
        if self.writer == Some(who) {
            self.writer = None;
            if self.health == 0 {
                self.health = OWNER_DEAD;
            }
        }
    }
}

impl<const READERS: bool> State for Lock<READERS> {
    fn guess(&mut self, call: &Call) {
        let answer = if matches!(call.kind, Kind::Take | Kind::TakeShared) { self.health } else { 0 };
        if self.dead >> call.who & 1 == 0 {
            self.allows(call, answer);
        }
    }

    fn answer(&mut self, call: &Call, answer: i64) -> bool {
        if call.kind == Kind::Die {
            self.die(call.who);
            return true;
        }
        self.allows(call, answer)
    }
}

impl<const READERS: bool> Subject for Lock<READERS> {
    const NAME: &'static str = if READERS { "rwlock" } else { "mutex" };

    fn new() -> Self {
        Lock { writer: None, readers: 0, health: 0, dead: 0 }
    }

    fn make(memory: &Memory) {
        // SAFETY: nobody uses the memory now, and it is large enough for both.
        let rc = unsafe {
            if READERS { tine_rwlock_init(memory.as_ptr(), 0) } else { tine_mutex_init(memory.as_ptr(), 0) }
        };
        assert_eq!(rc, 0);
    }

    fn choose(actor: &mut Actor) -> Option<(Kind, u64)> {
        let random = actor.random();
        Some(match actor.holds {
            0 if actor.is_done() => return None,
            0 if READERS && !random.is_multiple_of(3) => (Kind::TakeShared, random >> 8),
            0 => (Kind::Take, random >> 8),
            // Held in doubt: mostly it is repaired.
            OWNER_DEAD if !actor.is_done() && !random.is_multiple_of(4) => (Kind::Repair, 0),
            _ => (Kind::Give, 0),
        })
    }

    fn perform(memory: &Memory, kind: Kind, number: u64, actor: &mut Actor) -> i64 {
        let waits = timeout(number);
        let answer = match kind {
            // The planted fault: one is let in who has not got it.
            Kind::Take if actor.lies() => {
                actor.last = -1;
                0
            }
            Kind::Give if actor.last == -1 => {
                actor.last = 0;
                0
            }
            // SAFETY: the lock was made before the processes were, and lives as long.
            _ => i64::from(unsafe {
                match (kind, READERS) {
                    (Kind::Take, false) => tine_mutex_lock(memory.as_ptr(), waits),
                    (Kind::Give, false) => tine_mutex_unlock(memory.as_ptr()),
                    (Kind::Repair, false) => tine_mutex_repair(memory.as_ptr()),
                    (Kind::Take, true) => tine_rwlock_write_lock(memory.as_ptr(), waits),
                    (Kind::TakeShared, true) => tine_rwlock_read_lock(memory.as_ptr(), waits),
                    (Kind::Give, true) => tine_rwlock_unlock(memory.as_ptr()),
                    (Kind::Repair, true) => tine_rwlock_repair(memory.as_ptr()),
                    _ => unreachable!("{kind:?}"),
                }
            }),
        };
        actor.holds = match (kind, answer) {
            (Kind::Take, OWNER_DEAD) => OWNER_DEAD,
            (Kind::Take | Kind::TakeShared | Kind::Repair, 0) | (Kind::TakeShared, OWNER_DEAD) => 1,
            _ => 0,
        };
        answer
    }

    /// Of a reader and a writer that come at once, neither needs to succeed. Nor does one of two readers: who has waited for a writer
    /// comes in by the writers' lock, and who only tries meanwhile is refused.
    fn collide(one: Kind, other: Kind) -> bool {
        let two_readers = one == Kind::TakeShared && other == Kind::TakeShared;
        READERS && (one == Kind::Take || other == Kind::Take || two_readers)
    }

    /// Each can have it by now.
    fn settle(actor: &mut Actor) -> Option<(Kind, u64)> {
        match (actor.made, actor.holds) {
            (0, _) => Some((Kind::Take, 0)),
            (_, 0) => None,
            _ => Some((Kind::Give, 0)),
        }
    }
}
