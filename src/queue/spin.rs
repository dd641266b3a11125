//! How long to look before going to sleep.
//!
//! To sleep and be woken costs the two sides some ten microseconds together, to look costs a processor for as long. So
//! whoever waits looks for about as long as waiting has lately taken, if that is less than a sleep is worth, and
//! hardly at all otherwise. Two sides that answer each other quickly find each other awake; a wait for real work does
//! not burn a processor that the work could use.

use crate::sys::clock::now_ns;
use crate::sys::limits;
use once_cell::sync::Lazy;

/// Where there is one processor only, the other side cannot do anything while this one looks.
static WORTH_IT: Lazy<bool> = Lazy::new(|| limits::affinity_count() > 1);

const LEAST_NS: u64 = 1_000;
const MOST_NS: u64 = 50_000;

/// One waiter's memory of how long it had to wait.
#[derive(Debug)]
pub(crate) struct Spin {
    limit_ns: u64,
}

impl Spin {
    pub(crate) fn new() -> Spin {
        Spin { limit_ns: if *WORTH_IT { 4 * LEAST_NS } else { 0 } }
    }

    /// Looks until there is something, or for as long as seems worth it; whether there is something.
    pub(crate) fn look(&self, mut found: impl FnMut() -> bool) -> bool {
        if found() {
            return true;
        }
        if self.limit_ns == 0 {
            return false;
        }
        let end = now_ns() + self.limit_ns;
        loop {
            for _ in 0..16 {
                core::hint::spin_loop();
                if found() {
                    return true;
                }
            }
            if now_ns() >= end {
                return false;
            }
        }
    }

    /// The look was in vain, and the sleep after it took this long.
    pub(crate) fn slept(&mut self, ns: u64) {
        if self.limit_ns == 0 {
            return;
        }
        let wanted = if ns < MOST_NS { self.limit_ns * 2 } else { self.limit_ns / 2 };
        self.limit_ns = wanted.clamp(LEAST_NS, MOST_NS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_sleeps_make_it_look_longer_and_long_ones_shorter() {
        let mut spin = Spin { limit_ns: LEAST_NS };
        (0..20).for_each(|_| spin.slept(10_000));
        assert_eq!(spin.limit_ns, MOST_NS);
        (0..20).for_each(|_| spin.slept(1_000_000));
        assert_eq!(spin.limit_ns, LEAST_NS);
        assert!(spin.look(|| true));
        assert!(!spin.look(|| false));
    }
}
