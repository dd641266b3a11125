//! The barrier. A party comes at one moment and goes at another, and so a wait is two steps here.

use super::record::Memory;
use super::subject::*;
use tine::ffi::errors::TINE_EBROKEN;
use tine::ffi::sync_barrier::*;

const BROKEN: i64 = TINE_EBROKEN as i64;

/// Where a party is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Place {
    Away,
    /// It has come, and waits.
    Seated,
    /// The meeting took place; it has not gone yet.
    Met,
    /// The meeting was broken; it has not gone yet.
    ToldBroken,
    /// It was the only one to come, or too early, and does not wait.
    TurnedAway,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Barrier {
    places: [Place; PROCESSES],
    broken: bool,
    /// Somebody was killed in the middle of a call: it may have had a seat.
    may_break: bool,
    /// How many of the last meeting have not gone.
    leaving: usize,
    dead: u32,
}

impl Barrier {
    fn break_up(&mut self) {
        self.broken = true;
        self.may_break = false;
        for place in self.places.iter_mut().filter(|place| **place == Place::Seated) {
            *place = Place::ToldBroken;
        }
    }

    fn come(&mut self, who: usize, answer: i64) -> bool {
        let seated = self.places.iter().filter(|place| **place == Place::Seated).count();
        if answer == BROKEN && self.may_break {
            self.break_up();
        }
        self.places[who] = match answer {
            _ if self.broken => Place::ToldBroken,
            AGAIN if seated + 1 < PROCESSES => Place::TurnedAway,
            AGAIN => return false,
            _ => Place::Seated,
        };
        if self.places.iter().all(|place| *place == Place::Seated) {
            self.places = [Place::Met; PROCESSES];
            self.leaving = PROCESSES;
        }
        true
    }

    fn go(&mut self, who: usize, answer: i64) -> bool {
        if answer == BROKEN && self.places[who] == Place::Seated && self.may_break {
            self.break_up();
        }
        let agrees = match (self.places[who], answer) {
            (Place::Met, 0 | 1) => {
                self.leaving -= 1;
                (answer == 1) == (self.leaving == 0)
            }
            (Place::ToldBroken, BROKEN) | (Place::TurnedAway, AGAIN) => true,
            // Who runs out of time takes the others along.
            (Place::Seated, TIMED_OUT) => {
                self.break_up();
                true
            }
            _ => false,
        };
        self.places[who] = Place::Away;
        agrees
    }
}

impl State for Barrier {
    fn guess(&mut self, call: &Call) {
        if self.dead >> call.who & 1 != 0 {
            return;
        }
        let answer = match (call.kind, self.places[call.who]) {
            (Kind::Go, Place::Met) => i64::from(self.leaving == 1),
            // Its time may have run out before it was killed. It need not: then this is done behind all else.
            (Kind::Go, Place::Seated) => TIMED_OUT,
            // It is killed where it is.
            (Kind::Go, _) => return,
            _ => 0,
        };
        self.answer(call, answer);
    }

    fn answer(&mut self, call: &Call, answer: i64) -> bool {
        match call.kind {
            Kind::Come => return self.come(call.who, answer),
            Kind::Go => return self.go(call.who, answer),
            Kind::Break => self.break_up(),
            Kind::Mend => self.broken = false,
            Kind::Die => {
                self.dead |= 1 << call.who;
                self.may_break |= call.number == 1;
                if self.places[call.who] == Place::Seated {
                    self.break_up();
                }
            }
            _ => unreachable!("{call:?}"),
        }
        true
    }
}

impl Subject for Barrier {
    const NAME: &'static str = "barrier";

    fn new() -> Self {
        Barrier { places: [Place::Away; PROCESSES], broken: false, may_break: false, leaving: 0, dead: 0 }
    }

    fn make(memory: &Memory) {
        // SAFETY: nobody uses the memory now.
        assert_eq!(unsafe { tine_barrier_init(memory.as_ptr(), PROCESSES as u32, 0) }, 0);
    }

    fn choose(actor: &mut Actor) -> Option<(Kind, u64)> {
        let random = actor.random();
        Some(match random % 8 {
            _ if actor.is_done() => return None,
            0..6 if actor.last == BROKEN || actor.last == TIMED_OUT => (Kind::Break, 0),
            // Without a limit, nobody would come whom one that is killed still waits for.
            _ => (Kind::Come, u64::from(!(random >> 8).is_multiple_of(4))),
        })
    }

    fn perform(memory: &Memory, kind: Kind, number: u64, actor: &mut Actor) -> i64 {
        // SAFETY: the barrier was made before the processes were, and lives as long.
        let answer = i64::from(unsafe {
            match kind {
                Kind::Come => tine_barrier_wait(memory.as_ptr(), timeout(number)),
                Kind::Break => tine_barrier_reset(memory.as_ptr()),
                _ => unreachable!("{kind:?}"),
            }
        });
        actor.last = answer;
        // The planted fault: one is let go though the others have not come.
        if kind == Kind::Come && answer < 0 && actor.lies() { 0 } else { answer }
    }

    fn settle(_: &mut Actor) -> Option<(Kind, u64)> {
        None
    }
}
