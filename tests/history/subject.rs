//! What is put to the test: an object, the calls on it, and how one that does a call at a time would answer.

use super::record::{Memory, next_random};
use std::fmt::Debug;
use std::hash::Hash;

pub const PROCESSES: usize = 4;
/// How many calls each process makes.
pub const EACH: u64 = 5;

/// A wait that may run out.
pub const SHORT_NS: i64 = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    Take,
    TakeShared,
    Give,
    Repair,
    Put,
    Get,
    Set,
    Clear,
    Look,
    /// A meeting has two moments: a party comes, and goes.
    Come,
    Go,
    /// So has a reset: the barrier is broken, and made whole.
    Break,
    Mend,
    /// Not a call: a process is killed. `number` is 1 if that was in the middle of a call.
    Die,
}

impl From<u32> for Kind {
    fn from(number: u32) -> Kind {
        use Kind::*;
        let all = [Take, TakeShared, Give, Repair, Put, Get, Set, Clear, Look, Come, Go, Break, Mend, Die];
        all[number as usize]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub who: usize,
    pub kind: Kind,
    /// What is put, or how the call waits.
    pub number: u64,
    /// Whether another's call, that it may collide with, overlaps with it.
    pub contended: bool,
}

/// How a call waits, as its `number` says.
pub fn timeout(number: u64) -> i64 {
    match number % 3 {
        0 => 0,
        1 => SHORT_NS,
        _ => i64::MAX,
    }
}

/// A process that makes calls: what it holds and what it does next.
pub struct Actor {
    pub who: usize,
    pub planted: bool,
    /// What the subject remembers between two calls; 0 in the beginning.
    pub holds: i64,
    pub last: i64,
    /// How many calls it has made.
    pub made: u64,
    seed: u64,
}

impl Actor {
    pub fn new(who: usize, seed: u64, planted: bool) -> Actor {
        Actor { who, planted, holds: 0, last: 0, made: 0, seed }
    }

    pub fn random(&mut self) -> u64 {
        next_random(&mut self.seed)
    }

    pub fn is_done(&self) -> bool {
        self.made >= EACH
    }

    /// Whether a planted fault shows in this call.
    pub fn lies(&mut self) -> bool {
        self.planted && self.random().is_multiple_of(2)
    }
}

/// An object that does one call at a time.
pub trait State: Clone + Eq + Hash + Debug {
    /// Whether it may answer this now; if so, it has done the call.
    fn answer(&mut self, call: &Call, answer: i64) -> bool;

    /// Does a call whose answer nobody knows, because the caller was killed; nothing if it can't be done now.
    fn guess(&mut self, call: &Call);
}

/// An object under test. The value itself is the state that it should be in.
pub trait Subject: State + 'static {
    const NAME: &'static str;

    fn new() -> Self;

    /// Makes the object.
    fn make(memory: &Memory);

    /// What the process does next. One that has made its calls gives back what it holds.
    fn choose(actor: &mut Actor) -> Option<(Kind, u64)>;

    /// Makes the call; what it answered.
    fn perform(memory: &Memory, kind: Kind, number: u64, actor: &mut Actor) -> i64;

    /// What is asked of the object when all have ended.
    fn settle(actor: &mut Actor) -> Option<(Kind, u64)>;

    /// Whether two calls that overlap may keep each other from being had, though either alone would have got it.
    fn collide(_one: Kind, _other: Kind) -> bool {
        false
    }

    /// What a call that takes two steps, others in between, does after the first.
    fn second_step(kind: Kind) -> Option<Kind> {
        match kind {
            Kind::Come => Some(Kind::Go),
            Kind::Break => Some(Kind::Mend),
            _ => None,
        }
    }
}

pub const AGAIN: i64 = -(libc::EAGAIN as i64);
pub const TIMED_OUT: i64 = -(libc::ETIMEDOUT as i64);
pub const OWNER_DEAD: i64 = -(libc::EOWNERDEAD as i64);
pub const LOST: i64 = -(libc::ENOTRECOVERABLE as i64);
