//! What a reader-writer lock does with the locks that it is made of, beyond taking and releasing them.

use super::super::{AGAIN, DEADLOCK, Outcome, Patience};
use super::{Lock, holder_of, with_bits};
use crate::sys::prim::{AtomicPair, MODEL, Ordering};
use crate::sys::robust::{Me, OWNER, WAITERS, word_of};
use core::mem::{offset_of, size_of};

/// How many pairs a lock has to spare that is never taken over, and that nobody spins for.
pub(crate) const SPARE: usize = 4;

const _: () = assert!(
    MODEL
        || offset_of!(Lock, spins) % 8 == 0
            && offset_of!(Lock, reserved) == offset_of!(Lock, spins) + 4
            && offset_of!(Lock, dead) % 8 == 0
            && offset_of!(Lock, extra) % 8 == 0
);

impl Lock {
    /// For a reader's slot: takes it if it is free. Whoever died in it is forgotten.
    #[inline(always)]
    pub fn claim(&self, me: Me) -> bool {
        let pair = self.pair.load(Ordering::Relaxed);
        if word_of(pair) & OWNER != 0 {
            return false;
        }
        let spot = self.spot();
        me.pend(spot);
        // SeqCst: pairs with the writer's look at the slots. WAITERS stays, as everywhere.
        let mine = with_bits(me.holder(), word_of(pair) & WAITERS);
        let taken = self.pair.compare_exchange(pair, mine, Ordering::SeqCst, Ordering::Relaxed).is_ok();
        if taken {
            me.push(spot);
            self.sign(me);
        }
        me.pend_nothing();
        taken
    }

    /// Whether taking it would not be waiting: nobody holds it, or nobody who lives; or the caller does, by another address, and would be
    /// told so.
    pub fn is_settled(&self, me: Me) -> bool {
        let pair = self.pair.load(Ordering::SeqCst);
        word_of(pair) & OWNER == 0 || holder_of(pair) == me.holder() || self.bury(me, pair)
    }

    /// Sleeps until nobody holds it, without taking it. The spot is pending, and not on the caller's list; `besides` is what the caller
    /// took to wait here.
    pub fn wait_free(&self, me: Me, besides: &Lock, patience: &mut Patience) -> Outcome<()> {
        loop {
            let pair = self.pair.load(Ordering::SeqCst);
            if word_of(pair) & OWNER == 0 {
                return Ok(());
            }
            if holder_of(pair) == me.holder() {
                // As in `contend`.
                if me.holds_besides(besides.spot()) || me.reads_any() {
                    return Err(DEADLOCK);
                }
                self.mark_died(pair);
                continue;
            }
            self.sleep(me, pair, patience)?;
        }
    }

    /// Sleeps once while somebody holds it. Whether it slept: then a wake-up that it may have got is to be passed on. The spot is pending.
    pub fn wait_once(&self, me: Me, patience: &mut Patience) -> Outcome<bool> {
        let pair = self.pair.load(Ordering::SeqCst);
        if word_of(pair) & OWNER == 0 {
            return patience.may_wait().map(|()| false);
        }
        self.sleep(me, pair, patience).inspect_err(|code| {
            if *code != AGAIN {
                self.pass_on();
            }
        })
    }

    /// The pairs of a reader's slot that are not its word: a slot has no hint, no dead one and nothing beside it.
    pub fn spare(&self, at: usize) -> &AtomicPair {
        const AT: [usize; SPARE] = [
            offset_of!(Lock, spins),
            offset_of!(Lock, dead),
            offset_of!(Lock, extra),
            offset_of!(Lock, extra) + size_of::<AtomicPair>(),
        ];
        // SAFETY: 8 bytes inside the lock, aligned, as asserted at `SPARE`; atomics that nothing uses in a lock whose users call this.
        unsafe { &*(&raw const *self).byte_add(AT[at]).cast() }
    }
}
