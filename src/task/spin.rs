//! How long a worker and who leads its pool look before they go to sleep.
//!
//! To sleep and be woken costs the two sides some ten microseconds together, to look costs a processor for as long. So
//! whoever waits looks for about as long as waiting has lately taken, if that is less than a sleep is worth, and
//! hardly at all otherwise. Two sides that answer each other quickly find each other awake; a wait for real work does
//! not burn a processor that the work could use.

use crate::sys::clock::now_ns;
use crate::sys::limits;

const LEAST_NS: u64 = 1_000;
const MOST_NS: u64 = 50_000;

/// So many looks come before each look at the clock.
const LOOKS: u32 = 16;

/// For how many waits it gives up looking after it was of no use, at first and at most.
const RESTS: (u32, u32) = (64, 4096);

/// One waiter's memory of how long it had to wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spin {
    limit_ns: u64,
    /// Waits for which it hardly looks.
    rest: u32,
    next_rest: u32,
}

impl Spin {
    pub(crate) fn new() -> Spin {
        // Where there is one processor only, the other side cannot do anything while this one looks.
        Spin {
            limit_ns: if limits::affinity_count() > 1 { 4 * LEAST_NS } else { 0 },
            rest: 0,
            next_rest: RESTS.0,
        }
    }

    /// Looks until there is something, or for as long as seems worth it; whether there is something.
    pub(crate) fn look(&mut self, mut found: impl FnMut() -> bool) -> bool {
        found() || self.limit_ns != 0 && self.look_from(now_ns(), found).is_some()
    }

    /// Looks for less time than it takes to read the clock and to look about; whether there is something.
    #[inline(always)]
    pub(crate) fn glance(&self, mut found: impl FnMut() -> bool) -> bool {
        self.limit_ns != 0
            && (0..LOOKS).any(|_| {
                core::hint::spin_loop();
                found()
            })
    }

    /// Looks as [`Spin::look`] does, from `now` on; if there is something, the time at which there was nothing yet.
    pub(crate) fn look_from(&mut self, now: u64, mut found: impl FnMut() -> bool) -> Option<u64> {
        if self.limit_ns == 0 {
            return None;
        }
        let end = now + self.limit_ns;
        let mut last = now;
        while last < end {
            for _ in 0..LOOKS {
                core::hint::spin_loop();
                if found() {
                    self.next_rest = RESTS.0;
                    return Some(last);
                }
            }
            last = now_ns();
        }
        None
    }

    /// The look was in vain, and the sleep after it took this long.
    pub(crate) fn slept(&mut self, ns: u64) {
        if self.limit_ns == 0 {
            return;
        }
        if self.rest > 0 {
            self.rest -= 1;
        } else if ns >= MOST_NS {
            self.limit_ns = (self.limit_ns / 2).max(LEAST_NS);
        } else if self.limit_ns < MOST_NS {
            self.limit_ns = (self.limit_ns * 2).min(MOST_NS);
        } else {
            // A long look brought nothing, a short sleep did: the other side needs the processor that looking takes.
            self.limit_ns = LEAST_NS;
            self.rest = self.next_rest;
            self.next_rest = (self.next_rest * 2).min(RESTS.1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(sleeps: &[(u32, u64)]) -> Spin {
        let mut spin = Spin { limit_ns: LEAST_NS, ..Spin::new() };
        for (times, ns) in sleeps {
            (0..*times).for_each(|_| spin.slept(*ns));
        }
        spin
    }

    #[test]
    fn short_sleeps_make_it_look_longer_and_long_ones_shorter() {
        assert_eq!(after(&[(6, 10_000)]).limit_ns, MOST_NS);
        assert_eq!(after(&[(6, 10_000), (20, 1_000_000)]).limit_ns, LEAST_NS);
    }

    #[test]
    fn looking_that_never_helps_is_given_up() {
        let mut spin = after(&[(7, 10_000)]);
        assert_eq!((spin.limit_ns, spin.rest), (LEAST_NS, RESTS.0));
        (0..RESTS.0).for_each(|_| spin.slept(10_000));
        assert_eq!(spin.limit_ns, LEAST_NS);
        assert!(spin.look(|| true));
        assert!(!spin.look(|| false));
    }
}
