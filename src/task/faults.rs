//! Faults that a pool's options ask for, so that its user can test what comes of them: `docs/design/faults.md`.

use super::wire::{Reader, Writer};
use crate::error::{Error, Result};
use crate::heap::counts::Counts;
use crate::sys::prim::{AtomicU64, Ordering};
use crate::sys::signal;
use std::thread;
use std::time::Duration;

/// Which faults are to come, and at which numbers; 0 is at none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// 0: once, at the number itself. Otherwise at one number in so many, and which is a matter of the seed.
    pub seed: u64,
    /// Workers that are killed when they start.
    pub kill_start: u64,
    /// Calls of functions whose worker is killed before the function runs.
    pub kill_call: u64,
    /// Calls of functions whose worker is killed when the function has returned.
    pub kill_return: u64,
    /// Calls of functions that begin late.
    pub delay_call: u64,
    /// How late, in nanoseconds.
    pub delay_ns: u64,
    /// Allocations that fail.
    pub fail_alloc: u64,
}

/// The kinds of faults draw their numbers apart from each other.
#[derive(Clone, Copy)]
enum FaultKind {
    Start = 1,
    Call,
    Return,
    Delay,
    Alloc,
}

impl Faults {
    /// Whether it asks for any.
    pub(crate) fn any(&self) -> bool {
        Faults { seed: 0, ..*self } != Faults::default()
    }

    pub(crate) fn check(&self) -> Result<()> {
        match (self.delay_call, self.delay_ns) {
            (0, 1..) => {
                Err(Error::invalid(format!("faults.delay_ns is {}, and delay_call is 0", self.delay_ns)))
            }
            (1.., 0) => {
                Err(Error::invalid(format!("faults.delay_call is {}, and delay_ns is 0", self.delay_call)))
            }
            _ => Ok(()),
        }
    }

    /// Worker: it starts.
    pub(crate) fn on_start(&self, counts: &Counts) {
        if self.hits(FaultKind::Start, self.kill_start, next(&counts.starts)) {
            signal::kill_this_process();
        }
    }

    /// Worker: a call has been marked as begun. Its number, for [`Faults::after_call`].
    pub(crate) fn before_call(&self, counts: &Counts) -> u64 {
        let number = next(&counts.calls);
        if self.hits(FaultKind::Delay, self.delay_call, number) {
            thread::sleep(Duration::from_nanos(self.delay_ns));
        }
        if self.hits(FaultKind::Call, self.kill_call, number) {
            signal::kill_this_process();
        }
        number
    }

    /// Worker: the function has returned, and nothing of its result has been left.
    pub(crate) fn after_call(&self, number: u64) {
        if self.hits(FaultKind::Return, self.kill_return, number) {
            signal::kill_this_process();
        }
    }

    /// Whether the allocation that is asked for is to fail.
    pub(crate) fn fails_allocation(&self, counts: &Counts) -> bool {
        self.fail_alloc != 0 && self.hits(FaultKind::Alloc, self.fail_alloc, next(&counts.allocations))
    }

    fn hits(&self, kind: FaultKind, wanted: u64, number: u64) -> bool {
        match (wanted, self.seed) {
            (0, _) => false,
            (_, 0) => number == wanted,
            _ => mixed(self.seed ^ mixed((kind as u64) << 56 ^ number)).is_multiple_of(wanted),
        }
    }

    fn words(&self) -> [u64; 7] {
        let Faults { seed, kill_start, kill_call, kill_return, delay_call, delay_ns, fail_alloc } = *self;
        [seed, kill_start, kill_call, kill_return, delay_call, delay_ns, fail_alloc]
    }

    pub(crate) fn encode(&self, writer: &mut Writer) {
        self.words().into_iter().for_each(|word| writer.number(word));
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Faults> {
        Ok(Faults {
            seed: reader.number()?,
            kill_start: reader.number()?,
            kill_call: reader.number()?,
            kill_return: reader.number()?,
            delay_call: reader.number()?,
            delay_ns: reader.number()?,
            fail_alloc: reader.number()?,
        })
    }
}

/// Relaxed: it is a number, and nothing goes with it.
fn next(count: &AtomicU64) -> u64 {
    count.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
}

/// A bijection in which every bit depends on every bit: the finalizer of splitmix64.
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}
