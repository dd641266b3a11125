//! What has been submitted, on its way from there to whoever takes its result.
//!
//! A task enters, settles and is taken, each of them once. Chunks of maps and items of streams are no submissions: their own
//! accounts have them.

use super::finished::Finished;
use super::ledger::{Ledger, TaskState};
use super::window::Window;
use crate::inspect::page::{Counters as Shown, Page};
use crate::sys::prim::{AtomicU64, Ordering};
use std::sync::Arc;

/// Every task that has entered and has not been taken is in the window; of those, the ones that have settled and are nobody's in
/// particular are in `finished`.
#[derive(Debug)]
pub(super) struct Submissions {
    window: Window,
    finished: Finished,
    counters: Counters,
    /// Where others see the figures of these.
    page: Option<Arc<Page>>,
}

/// What has come of the pool so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counters {
    /// Tasks that have entered, and those of them that have settled.
    pub(super) submitted: u64,
    pub(super) settled: u64,
    /// Items that have been dealt with, and of these, those that failed.
    pub(super) items: u64,
    pub(super) items_failed: u64,
}

impl Submissions {
    pub(super) fn new(window: Window, page: Option<Arc<Page>>) -> Submissions {
        Submissions { window, finished: Finished::new(), counters: Counters::default(), page }
    }

    /// Lets others see a counter.
    fn show(&self, counter: impl Fn(&Shown) -> &AtomicU64, value: u64) {
        if let Some(page) = &self.page {
            counter(page.counters()).store(value, Ordering::Relaxed);
        }
    }

    /// The same of what is in the window, and of how many have entered.
    fn show_window(&self) {
        let Some(page) = &self.page else { return };
        let ([_, _, tasks, bytes], shown) = (self.window.figures(), page.counters());
        shown.submitted.store(self.counters.submitted, Ordering::Relaxed);
        shown.window_tasks.store(tasks as u64, Ordering::Relaxed);
        shown.window_bytes.store(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn window(&self) -> &Window {
        &self.window
    }

    /// Keeps room for a task whose input is still to be copied.
    pub(super) fn reserve(&mut self, length: usize) {
        self.window.reserve(length);
    }

    /// Gives that room back: the task enters now, or there will be none.
    pub(super) fn release(&mut self, length: usize) {
        self.window.release(length);
    }

    pub(super) fn counters(&self) -> Counters {
        self.counters
    }

    /// A task with an input of this length has been submitted.
    pub(super) fn enter(&mut self, length: usize) {
        self.window.enter(length);
        self.counters.submitted += 1;
        self.show_window();
    }

    /// A task has settled. It is anybody's to take, unless a waiter or its callback has claimed it; returns whether it is.
    #[inline(always)]
    pub(super) fn settle(&mut self, ledger: &mut Ledger, index: u32) -> bool {
        self.counters.settled += 1;
        self.show(|page| &page.settled, self.counters.settled);
        let is_anybodys = !ledger.get(index).claimed;
        if is_anybodys {
            self.finished.push(ledger, index);
        }
        is_anybodys
    }

    /// The oldest that is anybody's. It is to be taken at once.
    pub(super) fn pop(&mut self, ledger: &mut Ledger) -> Option<u32> {
        self.finished.pop(ledger)
    }

    /// A settled task that is its waiter's, or has been popped, is taken.
    #[inline(always)]
    pub(super) fn take(&mut self, ledger: &mut Ledger, index: u32) {
        let entry = ledger.get_mut(index);
        entry.state = TaskState::Taken;
        self.window.leave(entry.input_length);
        self.finished.unclaim(entry);
        self.show_window();
    }

    /// A settled task that was anybody's is taken to be forgotten.
    pub(super) fn take_away(&mut self, ledger: &mut Ledger, index: u32) {
        self.finished.remove(ledger, index);
        self.take(ledger, index);
    }

    /// A task, settled or not, is one waiter's from now on, or a callback's.
    pub(super) fn claim(&mut self, ledger: &mut Ledger, index: u32) {
        self.finished.claim(ledger, index);
        if ledger.get(index).state == TaskState::Settled {
            self.finished.remove(ledger, index);
        }
    }

    /// A number for tasks that one waiter claims together.
    pub(super) fn new_group(&mut self) -> u32 {
        self.finished.new_group()
    }

    /// The claim is given up. Returns whether the task has settled, and so is anybody's to take again.
    pub(super) fn unclaim(&mut self, ledger: &mut Ledger, index: u32) -> bool {
        self.finished.unclaim(ledger.get_mut(index));
        let has_settled = ledger.get(index).state == TaskState::Settled;
        if has_settled {
            self.finished.push(ledger, index);
        }
        has_settled
    }

    /// How many settled tasks anybody may take.
    pub(super) fn finished(&self) -> usize {
        self.finished.len()
    }

    /// Whether anything that anybody may take has settled or is on its way.
    pub(super) fn has_unclaimed(&self) -> bool {
        self.finished.len() > 0 || self.window.tasks() > self.finished.claimed()
    }

    pub(super) fn all_settled(&self) -> bool {
        self.counters.settled == self.counters.submitted
    }

    /// Counts items that have been dealt with, and of these, those that failed.
    pub(super) fn count_items(&mut self, settled: usize, failed: usize) {
        self.counters.items += settled as u64;
        self.counters.items_failed += failed as u64;
        self.show(|page| &page.items, self.counters.items);
        self.show(|page| &page.items_failed, self.counters.items_failed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submit(ledger: &mut Ledger, submissions: &mut Submissions) -> u32 {
        let index = ledger.open().unwrap();
        submissions.enter(0);
        index
    }

    fn settle(ledger: &mut Ledger, submissions: &mut Submissions, index: u32) -> bool {
        ledger.get_mut(index).state = TaskState::Settled;
        submissions.settle(ledger, index)
    }

    #[test]
    fn what_is_claimed_is_nobody_elses_until_it_is_given_up() {
        let (mut ledger, mut submissions) = (Ledger::default(), Submissions::new(Window::new(2, 10), None));
        let index = submit(&mut ledger, &mut submissions);
        submissions.claim(&mut ledger, index);
        assert!(!submissions.has_unclaimed(), "the only one is claimed");
        assert!(!settle(&mut ledger, &mut submissions, index));
        assert_eq!(submissions.pop(&mut ledger), None);
        assert!(submissions.unclaim(&mut ledger, index));
        submissions.claim(&mut ledger, index);
        assert_eq!(submissions.finished(), 0, "claimed after it has settled");
        assert!(submissions.unclaim(&mut ledger, index));
        assert_eq!(submissions.pop(&mut ledger), Some(index));
        submissions.take(&mut ledger, index);
        assert!(!submissions.has_unclaimed() && submissions.all_settled());
    }

    #[test]
    fn a_place_in_the_window_is_free_when_its_result_is_taken() {
        let (mut ledger, mut submissions) = (Ledger::default(), Submissions::new(Window::new(1, 10), None));
        let index = submit(&mut ledger, &mut submissions);
        assert!(settle(&mut ledger, &mut submissions, index));
        assert!(submissions.all_settled() && !submissions.window().has_room(0));
        submissions.take_away(&mut ledger, index);
        assert!(submissions.window().has_room(0) && submissions.pop(&mut ledger).is_none());
    }
}
