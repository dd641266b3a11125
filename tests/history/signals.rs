//! The semaphore and the event.

use super::record::Memory;
use super::subject::*;
use tine::ffi::sync::TINE_AUTO_RESET;
use tine::ffi::sync_signal::*;

/// How many units there are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Semaphore {
    units: i64,
    dead: u32,
}

/// More takers than units.
const UNITS: u32 = 2;

impl State for Semaphore {
    fn guess(&mut self, call: &Call) {
        if self.dead >> call.who & 1 == 0 {
            self.answer(call, 0);
        }
    }

    fn answer(&mut self, call: &Call, answer: i64) -> bool {
        match (call.kind, answer) {
            (Kind::Die, _) => self.dead |= 1 << call.who,
            (Kind::Get, 0) if self.units > 0 => self.units -= 1,
            (Kind::Get, AGAIN | TIMED_OUT) => return self.units == 0,
            (Kind::Put, 0) => self.units += 1,
            (Kind::Look, units) => return units == self.units,
            _ => return false,
        }
        true
    }
}

impl Subject for Semaphore {
    const NAME: &'static str = "semaphore";

    fn new() -> Self {
        Semaphore { units: i64::from(UNITS), dead: 0 }
    }

    fn make(memory: &Memory) {
        // SAFETY: nobody uses the memory now.
        assert_eq!(unsafe { tine_semaphore_init(memory.as_ptr(), UNITS, 0, 0) }, 0);
    }

    fn choose(actor: &mut Actor) -> Option<(Kind, u64)> {
        let random = actor.random();
        Some(match random % 8 {
            _ if actor.is_done() => return None,
            0 => (Kind::Look, 0),
            1..4 if actor.holds > 0 => (Kind::Put, 0),
            // A unit in a dead one's hands is gone, so nobody waits for ever.
            _ => (Kind::Get, random >> 8 & 1),
        })
    }

    fn perform(memory: &Memory, kind: Kind, number: u64, actor: &mut Actor) -> i64 {
        // SAFETY: the semaphore was made before the processes were, and lives as long.
        let answer = i64::from(unsafe {
            match kind {
                Kind::Get => tine_semaphore_acquire(memory.as_ptr(), timeout(number)),
                Kind::Put => tine_semaphore_release(memory.as_ptr(), 1),
                Kind::Look => tine_semaphore_value(memory.as_ptr()),
                _ => unreachable!("{kind:?}"),
            }
        });
        // The planted fault: a unit that isn't there.
        let answer = if kind == Kind::Get && answer != 0 && actor.lies() { 0 } else { answer };
        actor.holds += match (kind, answer) {
            (Kind::Get, 0) => 1,
            (Kind::Put, 0) => -1,
            _ => 0,
        };
        answer
    }

    fn settle(actor: &mut Actor) -> Option<(Kind, u64)> {
        (actor.made == 0).then_some((Kind::Look, 0))
    }
}

/// An event, that clears itself when it lets one through or doesn't.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Event<const AUTO: bool> {
    set: bool,
    dead: u32,
}

impl<const AUTO: bool> State for Event<AUTO> {
    fn guess(&mut self, call: &Call) {
        if self.dead >> call.who & 1 == 0 {
            self.answer(call, 0);
        }
    }

    fn answer(&mut self, call: &Call, answer: i64) -> bool {
        match (call.kind, answer) {
            (Kind::Die, _) => self.dead |= 1 << call.who,
            (Kind::Get, 0) if self.set => self.set = !AUTO,
            (Kind::Get, AGAIN | TIMED_OUT) => return !self.set,
            (Kind::Set, 0) => self.set = true,
            (Kind::Clear, 0) => self.set = false,
            (Kind::Look, set) => return (set != 0) == self.set,
            _ => return false,
        }
        true
    }
}

impl<const AUTO: bool> Subject for Event<AUTO> {
    const NAME: &'static str = if AUTO { "event that clears itself" } else { "event" };

    fn new() -> Self {
        Event { set: false, dead: 0 }
    }

    fn make(memory: &Memory) {
        // SAFETY: nobody uses the memory now.
        assert_eq!(unsafe { tine_event_init(memory.as_ptr(), if AUTO { TINE_AUTO_RESET } else { 0 }) }, 0);
    }

    fn choose(actor: &mut Actor) -> Option<(Kind, u64)> {
        let random = actor.random();
        Some(match random % 8 {
            _ if actor.is_done() => return None,
            0 => (Kind::Look, 0),
            1 => (Kind::Clear, 0),
            2..5 => (Kind::Set, 0),
            _ => (Kind::Get, random >> 8 & 1),
        })
    }

    fn perform(memory: &Memory, kind: Kind, number: u64, actor: &mut Actor) -> i64 {
        // SAFETY: the event was made before the processes were, and lives as long.
        let answer = i64::from(unsafe {
            match kind {
                Kind::Get => tine_event_wait(memory.as_ptr(), timeout(number)),
                Kind::Set => tine_event_set(memory.as_ptr()),
                Kind::Clear => tine_event_clear(memory.as_ptr()),
                Kind::Look => tine_event_is_set(memory.as_ptr()),
                _ => unreachable!("{kind:?}"),
            }
        });
        // The planted fault: it lets through though nobody has set it.
        if kind == Kind::Get && answer != 0 && actor.lies() { 0 } else { answer }
    }

    fn settle(actor: &mut Actor) -> Option<(Kind, u64)> {
        (actor.made == 0).then_some((Kind::Look, 0))
    }
}
