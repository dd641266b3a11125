//! How long a worker may go on without having begun anything of what its ring has.
//!
//! ```text
//!   quiet for      what it loses
//!   WEDGED_NS      what it was given, and it gets nothing until it has passed over that
//!   HUNG_NS        its life; sooner where a deadline or a cancel is in a hurry. Where the host finds only after WEDGED_NS that
//!                  the worker is quiet, both may have stood still: then as much later
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
    /// It is shorter for somebody's sake.
    is_hurried: bool,
    /// When the worker was given up on, or was starved last, and what its process had used of the processors until then.
    used: Option<(u64, u64)>,
}

impl Patience {
    pub(super) fn new() -> Patience {
        Patience { is_given_up: false, length_ns: HUNG_NS, is_hurried: false, used: None }
    }

    /// The worker gets nothing for as long as it is quiet. Before it loses its life it has some time from now on, however late this is:
    /// a host that stood still together with its worker, or had no processor, has seen none of it being quiet.
    pub(super) fn give_up(&mut self, quiet_ns: u64) {
        if !self.is_given_up {
            self.is_given_up = true;
            let more_ns = if self.is_hurried { WEDGED_NS } else { HUNG_NS - WEDGED_NS };
            self.length_ns = self.length_ns.max(quiet_ns.saturating_add(more_ns));
        }
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

    /// It is no longer than this from now on.
    pub(super) fn hurry_from(&mut self, quiet_ns: u64, within_ns: u64) {
        let within_ns = quiet_ns.saturating_add(within_ns.max(WEDGED_NS));
        self.is_hurried |= within_ns < self.length_ns;
        self.length_ns = self.length_ns.min(within_ns);
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
        if !self.is_over(quiet_ns) || self.is_hurried || quiet_ns > STARVED_NS || !process.is_runnable {
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
        hurried.hurry_from(100 * MS, 0);
        assert!(!is_starved(&mut hurried, 1001 * MS, process(true, 40)), "somebody waits for its end");
        let mut patience = given_up();
        let looks = (1..60u64).map(|round| 1001 * round * MS);
        let patient = looks
            .take_while(|now| !patience.is_over(*now) || is_starved(&mut patience, *now, process(true, 40)));
        assert!(patient.count() < 12, "there is an end to it");
    }

    #[test]
    fn who_is_found_quiet_late_has_its_time_all_the_same() {
        const MS: u64 = 1_000_000;
        let mut patience = Patience::new();
        patience.give_up(101 * MS);
        assert!(!patience.is_over(1001 * MS) && patience.is_over(1002 * MS));
        let mut thawed = Patience::new();
        thawed.give_up(5000 * MS);
        assert!(!thawed.is_over(5900 * MS) && thawed.is_over(5901 * MS));
        thawed.give_up(5800 * MS);
        assert!(thawed.is_over(5901 * MS), "once");
        // A deadline and its grace count from when the host could have said something, too.
        let mut in_a_hurry = Patience::new();
        in_a_hurry.give_up(5000 * MS);
        in_a_hurry.hurry_from(5000 * MS, 300 * MS);
        assert!(!in_a_hurry.is_over(5300 * MS) && in_a_hurry.is_over(5301 * MS));
        let process = ProcessorUse { is_runnable: true, used_ns: 0 };
        assert!(!in_a_hurry.is_starved(5301 * MS, 5301 * MS, process), "somebody waits for its end");
        assert!(!in_a_hurry.is_starved(9999 * MS, 9999 * MS, process));
        // It was cancelled before both stood still.
        let mut cancelled = Patience::new();
        cancelled.hurry_from(10 * MS, 200 * MS);
        cancelled.give_up(5000 * MS);
        assert!(!cancelled.is_over(5100 * MS) && cancelled.is_over(5101 * MS));
    }
}
