//! A word to sleep on that never has a holder, so that the kernel itself passes a dead one's wake-up on.
//!
//! The word is 0 or WAITERS. While a thread waits at the gate or opens it, the gate is its pending spot. Should the
//! thread die then, the kernel wakes one sleeper, because the word holds no number. The rules that make that enough:
//! a waiter sets the bit before it looks at what it waits for; who publishes something looks at the bit afterwards;
//! and a waiter that has been woken sets the bit again, because others may sleep on, and wakes one more if there is
//! more to be had.
//!
//! Between a waiter's last look and its sleep, the bit may have gone and come back (another waiter's), and a wake-up of
//! the kernel's finds nobody and leaves no trace. So a waiter sleeps on the words that it looked at as well, with the
//! gate's queue joined first: what it waits for either wakes it there, or has changed one of those words. They must be
//! words that nobody else sleeps on, or it would take the others' wake-ups.

use super::{Outcome, Patience, SLICE_NS, Then};
use crate::sys::clock::Deadline;
use crate::sys::prim::{
    AtomicU32, Change, Ordering, Wait, futex_change, futex_wait, futex_wait_any, futex_wake,
};
use crate::sys::robust::{Me, Spot, WAITERS};
use core::mem::MaybeUninit;

pub(crate) const EVERYBODY: u32 = u32::MAX;

/// Whether an object has ever been used by a thread whose end the kernel does not tell of (`Me::is_robust`): then the
/// kernel passes nothing on in that one's place, and those that wait there look round. Each process decides for itself
/// what it relies on, so the others learn it here.
#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct Unseen(AtomicU32);

const UNSEEN_BIT: u32 = 0;

impl Unseen {
    pub fn new() -> Unseen {
        Unseen(AtomicU32::new(0))
    }

    /// To be called before anything is taken, given or waited for. In one step with the wake-up of all that watch this:
    /// from then on none of them sleeps for long.
    #[inline(always)]
    pub fn declare(&self, me: Me) {
        if !me.is_robust() {
            self.mark();
        }
    }

    /// The same for a thread whose end the kernel tells of, but not of this: something else is pending.
    pub fn mark(&self) {
        if !self.is_marked() {
            futex_change(&self.0, Change::Set(UNSEEN_BIT), EVERYBODY);
        }
    }

    /// SeqCst, as everything that waiters look at.
    pub fn is_marked(&self) -> bool {
        self.0.load(Ordering::SeqCst) != 0
    }

    /// To be watched by who sleeps without looking round: it is 0 until then.
    pub fn word(&self) -> &AtomicU32 {
        &self.0
    }

    /// Sleeps while `word` is `value`; not for long, once somebody is unseen.
    fn sleep(&self, word: &AtomicU32, value: u32, patience: &Patience) -> Wait {
        if self.is_marked() {
            patience.look_round();
            return futex_wait(word, value, patience.until());
        }
        match futex_wait_any(&[(&self.0, 0), (word, value)], patience.until()) {
            Some((wait, _)) => wait,
            None => futex_wait(word, value, patience.until().min(Deadline::after(SLICE_NS))),
        }
    }
}

#[repr(transparent)]
#[derive(Debug, Default)]
pub(crate) struct Gate(AtomicU32);

/// The words that a waiter has looked at, and what it saw there. The gate's own is the first.
pub(crate) struct Watched<'a, const N: usize> {
    /// As many as `count`, or all, are written.
    words: [MaybeUninit<(&'a AtomicU32, u32)>; N],
    count: usize,
}

impl<'a, const N: usize> Watched<'a, N> {
    fn new(gate: &'a AtomicU32, value: u32) -> Watched<'a, N> {
        let mut watched = Watched { words: [const { MaybeUninit::uninit() }; N], count: 0 };
        watched.see(gate, value);
        watched
    }

    pub fn see(&mut self, word: &'a AtomicU32, value: u32) {
        if let Some(place) = self.words.get_mut(self.count) {
            place.write((word, value));
        }
        self.count += 1;
    }

    /// Sleeps until one of the words has changed, or somebody has been woken by one; not for long where there were more
    /// words than there is room for, or where the kernel can't.
    fn sleep(&self, until: Deadline) -> Wait {
        let soon = || until.min(Deadline::after(SLICE_NS));
        let until = if self.count > N { soon() } else { until };
        let words = &self.words[..self.count.min(N)];
        // SAFETY: `see` has written as many as it has counted, and `MaybeUninit` has the layout of what it holds.
        let words = unsafe { &*(std::ptr::from_ref(words) as *const [(&AtomicU32, u32)]) };
        match futex_wait_any(words, until) {
            Some((wait, _)) => wait,
            None => futex_wait(words[0].0, words[0].1, soon()),
        }
    }
}

impl Gate {
    #[inline(always)]
    pub fn spot(&self) -> Spot {
        // SAFETY: this spot is only ever pending; its entry is computed, never used.
        unsafe { Spot::new(self, 0) }
    }

    /// Lets sleepers go, after something was published. SeqCst: pairs with `close`, so that either the waiter sees what
    /// was published or this sees the waiter.
    #[inline(always)]
    pub fn open(&self, count: u32) {
        if self.0.load(Ordering::SeqCst) != 0 {
            self.open_slowly(count);
        }
    }

    #[cold]
    #[inline(never)]
    fn open_slowly(&self, count: u32) {
        if self.0.swap(0, Ordering::SeqCst) != 0 {
            futex_wake(&self.0, count);
        }
    }

    /// The word, for those that sleep on more than this.
    pub fn word(&self) -> &AtomicU32 {
        &self.0
    }

    /// Says that somebody is about to sleep, and what the word is now. Look at what you wait for once more after this.
    pub fn close(&self) -> u32 {
        // SeqCst: pairs with `open`.
        self.0.fetch_or(WAITERS, Ordering::SeqCst) | WAITERS
    }

    /// Wakes whoever sleeps, bit or no bit: for what lets everybody go.
    pub fn wake_rest(&self) {
        futex_wake(&self.0, EVERYBODY);
    }

    /// Waits at the gate until `ready` gives something; when it doesn't, it has named the words that it looked at.
    /// `more` says whether others could have something too.
    pub fn wait<'a, T, const N: usize>(
        &'a self,
        me: Me,
        unseen: &'a Unseen,
        mut patience: Patience,
        ready: impl Fn(&mut Watched<'a, N>) -> Option<T>,
        more: impl Fn() -> bool,
    ) -> Outcome<T> {
        unseen.declare(me);
        me.pend(self.spot());
        let mut slept = false;
        let result = loop {
            if let Some(result) = ready(&mut Watched::new(&self.0, 0)) {
                break Ok(result);
            }
            if let Err(code) = patience.may_wait() {
                break Err(code);
            }
            let mut watched = Watched::new(&self.0, self.close());
            if let Some(result) = ready(&mut watched) {
                break Ok(result);
            }
            if unseen.is_marked() {
                patience.look_round();
            } else {
                watched.see(unseen.word(), 0);
            }
            match patience.after(watched.sleep(patience.until())) {
                Ok(Then::Look { slept: false }) => {}
                Ok(_) => slept = true,
                Err(code) => break Err(code),
            }
        };
        if slept {
            self.close();
            if more() {
                self.open(1);
            }
        }
        me.pend_nothing();
        result
    }
}

/// A waiter's way where what it waits for and whether somebody sleeps change in one step, so that the word's value alone
/// says whether to sleep: `take` takes what there is; `mark` puts WAITERS into the word and says what it is then, unless there is something to take;
/// `pass_on` wakes one more where there is something left, and marks the word otherwise, because others may sleep on.
pub(crate) fn wait_marked(
    me: Me,
    word: &AtomicU32,
    unseen: &Unseen,
    mut patience: Patience,
    take: impl Fn() -> bool,
    mark: impl Fn() -> Option<u32>,
    pass_on: impl Fn(),
) -> Outcome<()> {
    unseen.declare(me);
    // SAFETY: this spot is only ever pending; its entry is computed, never used.
    me.pend(unsafe { Spot::new(word, 0) });
    let mut slept = false;
    let result = loop {
        if take() {
            break Ok(());
        }
        if let Err(code) = patience.may_wait() {
            break Err(code);
        }
        let Some(marked) = mark() else { continue };
        match patience.after(unseen.sleep(word, marked, &patience)) {
            Ok(Then::Look { slept: false }) => {}
            Ok(_) => slept = true,
            Err(code) => break Err(code),
        }
    };
    if slept {
        pass_on();
    }
    me.pend_nothing();
    result
}
