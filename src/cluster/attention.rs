//! When a thread that waits for messages looks for them, and when it sleeps. MPI has nothing to sleep on, so a message that finds its receiver
//! asleep is seen when that wakes by itself.
//!
//! ```text
//!   LOOKING    something has happened         looks, and yields the processor each time     -> SLEEPING when the look has got too long
//!   SLEEPING   looks once, sleeps, and so on, twice as long each time up to the longest     -> LOOKING when something has happened
//! ```
//!
//! A long look lasts for two of the longest sleeps, so that two sides that wait for each other and sleep in turn come to find each other awake. One
//! that was in vain is paid for from a purse, which a sixteenth of the time that passes flows into: so looking in vain takes no more of
//! a processor than that. Without enough in the purse the look is a short one. A look that something ends costs nothing: where messages follow
//! each other closely nobody sleeps.
//!
//! Nobody spins: whoever looks yields, so that ranks, workers and the host's threads that share a processor get it at once.

/// The longest sleep, and the first one.
pub(crate) const LONGEST_SLEEP_NS: u64 = 1_000_000;
const FIRST_SLEEP_NS: u64 = 20_000;

const LONG_LOOK_NS: u64 = 2 * LONGEST_SLEEP_NS;
const SHORT_LOOK_NS: u64 = 50_000;

/// The part of the time that looks in vain may take, and how much can be saved for them.
const PART: u64 = 16;
const PURSE_NS: u64 = 4 * LONG_LOOK_NS;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// To look again, after having yielded the processor.
    Look,
    /// To sleep for so long, unless something happens.
    Sleep(u64),
}

#[derive(Debug)]
pub(crate) struct Attention {
    /// When something happened last.
    since_ns: u64,
    purse_ns: u64,
    filled_ns: u64,
    /// The next sleep; 0 while it looks.
    sleep_ns: u64,
}

impl Attention {
    pub(crate) fn new(now_ns: u64) -> Attention {
        Attention { since_ns: now_ns, purse_ns: PURSE_NS, filled_ns: now_ns, sleep_ns: 0 }
    }

    /// Something has happened: a message has come or gone, or there is something to do.
    pub(crate) fn has_happened(&mut self, now_ns: u64) {
        let passed_ns = now_ns.saturating_sub(self.filled_ns);
        self.purse_ns = PURSE_NS.min(self.purse_ns + passed_ns / PART);
        // What was too little to count is counted with the next.
        self.filled_ns = now_ns - passed_ns % PART;
        (self.since_ns, self.sleep_ns) = (now_ns, 0);
    }

    /// There was nothing. A look is long only where a message is worth it.
    pub(crate) fn next(&mut self, now_ns: u64, is_worth_it: bool) -> Next {
        if self.sleep_ns == 0 {
            let is_long = is_worth_it && self.purse_ns >= LONG_LOOK_NS;
            let looked_ns = now_ns.saturating_sub(self.since_ns);
            if looked_ns < if is_long { LONG_LOOK_NS } else { SHORT_LOOK_NS } {
                return Next::Look;
            }
            if is_long {
                self.purse_ns -= LONG_LOOK_NS;
            }
            self.sleep_ns = FIRST_SLEEP_NS;
        }
        let sleep_ns = self.sleep_ns;
        self.sleep_ns = (sleep_ns * 2).min(LONGEST_SLEEP_NS);
        Next::Sleep(sleep_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: u64 = 1_000;

    /// Waits like one of the threads does, until something happens; how long it has looked, and how often slept.
    fn wait(attention: &mut Attention, now_ns: &mut u64, until_ns: u64, is_worth_it: bool) -> (u64, u64) {
        let (mut looked_ns, mut sleeps) = (0, 0);
        while *now_ns < until_ns {
            match attention.next(*now_ns, is_worth_it) {
                Next::Look => (*now_ns, looked_ns) = (*now_ns + US, looked_ns + US),
                Next::Sleep(ns) => (*now_ns, sleeps) = (*now_ns + ns, sleeps + 1),
            }
        }
        attention.has_happened(*now_ns);
        (looked_ns, sleeps)
    }

    #[test]
    fn messages_that_follow_each_other_closely_find_it_awake() {
        let (mut attention, mut now_ns) = (Attention::new(0), 0);
        for gap_ns in [100 * US, 1_900 * US].repeat(5_000) {
            let until_ns = now_ns + gap_ns;
            assert_eq!(wait(&mut attention, &mut now_ns, until_ns, true).1, 0);
        }
    }

    #[test]
    fn looking_in_vain_takes_a_small_part_of_the_time() {
        for gap_ns in [2_500 * US, 10_000 * US, 1_000_000 * US] {
            let (mut attention, mut now_ns, mut looked_ns) = (Attention::new(0), 0, 0);
            for _ in 0..1_000 {
                let until_ns = now_ns + gap_ns;
                looked_ns += wait(&mut attention, &mut now_ns, until_ns, true).0;
            }
            let most_ns = PURSE_NS + now_ns / PART + 1_000 * SHORT_LOOK_NS;
            assert!(looked_ns <= most_ns, "{gap_ns}: {looked_ns} of {now_ns}");
        }
    }

    #[test]
    fn one_that_waits_for_long_sleeps_longer_and_longer() {
        let (mut attention, mut now_ns) = (Attention::new(0), 0);
        let (looked_ns, sleeps) = wait(&mut attention, &mut now_ns, 1_000_000_000, true);
        assert_eq!(looked_ns, LONG_LOOK_NS);
        assert!((1_000..1_010).contains(&sleeps), "{sleeps}");
        let (mut attention, mut now_ns) = (Attention::new(0), 0);
        assert_eq!(wait(&mut attention, &mut now_ns, 1_000_000_000, false).0, SHORT_LOOK_NS);
    }

    #[test]
    fn two_that_sleep_in_turn_come_to_find_each_other_awake() {
        // The other side answers at once, but sees a message as late as one that has slept as long as this one can.
        let (mut attention, mut now_ns) = (Attention::new(0), 0);
        for _ in 0..100 {
            let until_ns = now_ns + 5_000 * US;
            wait(&mut attention, &mut now_ns, until_ns, true);
        }
        let mut in_a_row = 0;
        for _ in 0..100 {
            let until_ns = now_ns + 1_200 * US;
            let (_, sleeps) = wait(&mut attention, &mut now_ns, until_ns, true);
            in_a_row = if sleeps == 0 { in_a_row + 1 } else { 0 };
        }
        assert!(in_a_row > 50, "{in_a_row}");
    }
}
