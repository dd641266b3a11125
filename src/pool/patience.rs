//! How long a worker may go on without having begun anything of what its ring has.
//!
//! ```text
//!   quiet for      what it loses
//!   WEDGED_NS      what it was given, and it gets nothing until it has passed over that
//!   HUNG_NS        its life; sooner where a deadline or a cancel is in a hurry
//!   STARVED_NS     its life, where it only gets no processor, or waits for a page from a disk: until then it has another
//!                  HUNG_NS each time
//! ```

use crate::sys::limits::ProcessorUse;

pub(super) const WEDGED_NS: u64 = 100_000_000;
pub(super) const HUNG_NS: u64 = 1_000_000_000;
const STARVED_NS: u64 = 10_000_000_000;

/// Who gets less of a processor than one part in so many hardly gets any.
const HARDLY: u64 = 8;

/// It is begun anew with each result.
#[derive(Debug)]
pub(super) struct Patience {
    is_given_up: bool,
    length_ns: u64,
    /// When the worker was given up on, or was starved last, and what its process had used of the processors until then.
    used: Option<(u64, u64)>,
}

impl Patience {
    pub(super) fn new() -> Patience {
        Patience { is_given_up: false, length_ns: HUNG_NS, used: None }
    }

    /// The worker gets nothing for as long as it is quiet.
    pub(super) fn give_up(&mut self) {
        self.is_given_up = true;
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.is_given_up
    }

    /// For how long the worker may be quiet.
    pub(super) fn length_ns(&self) -> u64 {
        self.length_ns
    }

    pub(super) fn is_over(&self, quiet_ns: u64) -> bool {
        quiet_ns > self.length_ns
    }

    /// It is no longer than this.
    pub(super) fn hurry(&mut self, within_ns: u64) {
        self.length_ns = self.length_ns.min(within_ns.max(WEDGED_NS));
    }

    /// It is no longer than this from now on.
    pub(super) fn hurry_from(&mut self, quiet_ns: u64, within_ns: u64) {
        self.hurry(quiet_ns.saturating_add(within_ns.max(WEDGED_NS)));
    }

    /// Whether what the worker uses of the processors has to be known.
    pub(super) fn may_be_starved(&self, quiet_ns: u64) -> bool {
        self.used.is_none() || self.is_over(quiet_ns)
    }

    /// Whether patience is over for a worker that only gets no processor, or waits for a page from a disk: then there is more. Nobody
    /// may be in a hurry, and there is an end to it. What it uses is measured from when it was given up on: a worker that is at
    /// something else gets what there is.
    pub(super) fn is_starved(&mut self, quiet_ns: u64, now_ns: u64, process: ProcessorUse) -> bool {
        let (since_ns, used_ns) = *self.used.get_or_insert((now_ns, process.used_ns));
        if !self.is_over(quiet_ns)
            || self.length_ns < HUNG_NS
            || quiet_ns > STARVED_NS
            || !process.is_runnable
        {
            return false;
        }
        let starved = process.used_ns.saturating_sub(used_ns) < now_ns.saturating_sub(since_ns) / HARDLY;
        if starved {
            self.length_ns = quiet_ns + HUNG_NS;
            self.used = Some((now_ns, process.used_ns));
        }
        starved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_only_gets_no_processor_is_not_hung_for_long() {
        const MS: u64 = 1_000_000;
        let process = |is_runnable, used_ms: u64| ProcessorUse { is_runnable, used_ns: used_ms * MS };
        // It has been quiet for as long as the clock says.
        let is_starved = |patience: &mut Patience, now: u64, process| patience.is_starved(now, now, process);
        let given_up = || {
            let mut patience = Patience::new();
            assert!(patience.may_be_starved(100 * MS));
            assert!(!is_starved(&mut patience, 100 * MS, process(true, 40)));
            assert!(!patience.may_be_starved(500 * MS) && patience.may_be_starved(1001 * MS));
            patience
        };
        assert!(is_starved(&mut given_up(), 1001 * MS, process(true, 60)));
        assert!(!is_starved(&mut given_up(), 1001 * MS, process(true, 900)), "it is at something else");
        assert!(!is_starved(&mut given_up(), 1001 * MS, process(false, 40)), "it sleeps, or is stopped");
        let mut hurried = given_up();
        hurried.hurry(0);
        assert!(!is_starved(&mut hurried, 1001 * MS, process(true, 40)), "somebody waits for its end");
        let mut patience = given_up();
        let looks = (1..60u64).map(|round| 1001 * round * MS);
        let patient = looks
            .take_while(|now| !patience.is_over(*now) || is_starved(&mut patience, *now, process(true, 40)));
        assert!(patient.count() < 12, "there is an end to it");
    }
}
