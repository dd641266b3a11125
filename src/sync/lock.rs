//! The word that a thread or process holds, and that the kernel knows it by: what every lock of the family is made of.
//!
//! The word: 0 free; a holder's number; WAITERS on top while somebody may sleep on it; DIED in place of a holder that
//! died. Beside it, and changed with it as one, is the holder's cookie (`sys::owner`), so that whoever looks at a lock
//! knows of one moment who has it. Whoever sleeps looks round every `SLICE_NS` whether that one lives: the kernel's
//! mark and wake-up are the quick way, not the only one.

mod holder;
mod slot;

pub use holder::Owner;
pub(crate) use slot::SPARE;

use super::gate::EVERYBODY;
use super::{
    ALREADY, AUTO_REPAIR, Acquired, DEADLOCK, INTERRUPTED, INTERRUPTIBLE, NO_LOCKS, NOT_OWNER,
    OTHER_NAMESPACE, Outcome, PROCESS_OWNED, Patience, RECURSIVE, Then, UNRECOVERABLE,
};
use crate::sys::clock::Timeout;
use crate::sys::owner::{self, OwnerKind};
use crate::sys::prim::{AtomicPair, AtomicU32, AtomicU64, MODEL, Ordering, futex_wait, futex_wake};
use crate::sys::robust::{DIED, ENTRY, Me, OWNER, Spot, WAITERS, WORD, cookie_of, pair_of, word_of};
use core::array::from_fn;
use core::mem::{offset_of, size_of};

/// 64 bytes: the word, and what belongs to its holder.
#[repr(C, align(8))]
#[derive(Debug)]
pub(crate) struct Lock {
    /// The word and its holder's cookie. The cookie means nothing where the word names nobody.
    pair: AtomicPair,
    /// The PID namespace whose numbers the word holds; 0 until the first use.
    namespace: AtomicU32,
    /// The flags, above a byte for the state. Flags are never written after the start, the state only by the holder.
    mode: AtomicU32,
    /// How long spinning has been worth it of late. A hint that anybody writes.
    spins: AtomicU32,
    reserved: AtomicU32,
    /// Who holds it, process and thread; 0 where nobody does. Written by the holder, for messages alone.
    owner: AtomicU64,
    /// The kernel's way to the next lock of the same thread. Written by the holder, read by the kernel alone.
    entry: AtomicU64,
    /// The one that died holding it. Written by the holder.
    dead: AtomicU64,
    /// What the lock's users keep beside it.
    pub extra: [AtomicU32; 4],
}

const _: () = assert!(MODEL || offset_of!(Lock, entry) - WORD == ENTRY && size_of::<Lock>() == 64);

/// In the cookie of a holder that neither writes nor waits for readers: a reader on its way through the writers' lock.
const PASSING: u64 = pair_of(0, owner::UNUSED);

/// The pair of a lock that nobody will ever take again.
const SPENT: u64 = pair_of(0, u32::MAX);

/// The states in the low byte of the mode.
const STATE: u32 = 0xff;
const CONSISTENT: u32 = 0;
const INCONSISTENT: u32 = 1;
const LOST: u32 = 2;
/// Where the flags begin.
const FLAGS: u32 = 8;

const MOST_SPINS: u32 = 100;

/// How somebody waits for a lock.
#[derive(Clone, Copy)]
struct Way<'a> {
    timeout: Timeout,
    /// Signals don't end it, and the thread may hold more than it should.
    patient: bool,
    /// What ends it. SeqCst: looked at before each sleep.
    stop: Option<&'a AtomicU32>,
    /// 0 where a holder's death means nothing, because it had only just begun. SeqCst, as the word.
    inside: Option<&'a AtomicU32>,
    /// Whether the holder says `PASSING`.
    passing: bool,
}

impl Lock {
    pub fn new(flags: u32) -> Lock {
        Lock {
            pair: AtomicPair::new(0),
            namespace: AtomicU32::new(0),
            mode: AtomicU32::new(flags << FLAGS),
            spins: AtomicU32::new(0),
            reserved: AtomicU32::new(0),
            owner: AtomicU64::new(0),
            entry: AtomicU64::new(0),
            dead: AtomicU64::new(0),
            extra: from_fn(|_| AtomicU32::new(0)),
        }
    }

    #[inline(always)]
    pub fn spot(&self) -> Spot {
        // SAFETY: `self` is a live object of atomics, and the entry lies `ENTRY` bytes behind the word and is written by the robust
        // list alone. A spot outlives this borrow only on the list, and there no longer than the lock is held: so long a mutex or
        // reader-writer lock stays where it is by the contract of its `new`, any other lock by a borrow in the call that holds it.
        unsafe { Spot::new(self, offset_of!(Lock, pair) + WORD) }
    }

    pub fn flags(&self) -> u32 {
        // Relaxed: set before the lock was shared.
        self.mode.load(Ordering::Relaxed) >> FLAGS
    }

    fn state(&self) -> u32 {
        // Relaxed: the state changes hands with the word, by its Acquire and Release.
        self.mode.load(Ordering::Relaxed) & STATE
    }

    fn set_state(&self, state: u32) {
        let flags = self.mode.load(Ordering::Relaxed) & !STATE;
        self.mode.store(flags | state, Ordering::Relaxed);
    }

    /// The word as it is. SeqCst: a reader's claim and this look, a writer's claim and its look at the slots, must not
    /// both miss the other (`rwlock`).
    #[inline(always)]
    pub fn peek(&self) -> u32 {
        word_of(self.pair.load(Ordering::SeqCst))
    }

    /// The same, and whether its holder is only passing.
    #[inline(always)]
    pub fn peek_who(&self) -> (u32, bool) {
        let pair = self.pair.load(Ordering::SeqCst);
        (word_of(pair), pair & PASSING != 0)
    }

    /// The word itself, for those that sleep on it or wake others.
    pub fn word(&self) -> &AtomicU32 {
        self.pair.word()
    }

    /// Whether nothing is special about the lock: no flags, no death, the caller's namespace.
    #[inline(always)]
    fn is_plain(&self, me: Me) -> bool {
        self.mode.load(Ordering::Relaxed) == 0 && self.namespace.load(Ordering::Relaxed) == me.namespace()
    }

    /// Who has the lock now.
    #[inline(always)]
    fn sign(&self, me: Me) {
        self.owner.store(me.identity(), Ordering::Relaxed);
    }

    /// The short way, for a plain lock that nobody holds or waits for; whether it was that.
    #[inline(always)]
    pub fn take_free(&self, me: Me) -> bool {
        if !self.is_plain(me) || me.is_full() {
            return false;
        }
        let spot = self.spot();
        me.pend(spot);
        // SeqCst, which costs nothing here, is for `rwlock`; the rest of the family needs Acquire.
        if self.pair.compare_exchange(0, me.holder(), Ordering::SeqCst, Ordering::Relaxed).is_err() {
            me.pend_nothing();
            return false;
        }
        me.push(spot);
        self.sign(me);
        me.pend_nothing();
        // The last holder may have left it inconsistent or lost since `is_plain`: the long way sees to that.
        if self.state() != CONSISTENT { self.take_back(me) } else { true }
    }

    /// Whether processes own the lock, and no death has left it in doubt.
    #[inline(always)]
    fn is_owned_plainly(&self) -> bool {
        self.mode.load(Ordering::Relaxed) & (PROCESS_OWNED << FLAGS | STATE)
            == PROCESS_OWNED << FLAGS | CONSISTENT
    }

    /// As `take_free`, for a lock that processes own: what `take_with` does where nobody holds it or has died.
    #[inline(always)]
    pub fn take_free_owned(&self, me: Me) -> bool {
        if !self.is_owned_plainly() || !self.is_namespace(me) {
            return false;
        }
        let Some(mine) = me.known_process_holder() else { return false };
        // Acquire: what the last holder wrote. SeqCst as everywhere.
        if self.pair.compare_exchange(0, mine, Ordering::SeqCst, Ordering::Relaxed).is_err() {
            return false;
        }
        self.sign(me);
        owner::stop_watching();
        // As in `take_free`.
        if self.state() != CONSISTENT { self.take_back(me) } else { true }
    }

    #[cold]
    #[inline(never)]
    fn take_back(&self, me: Me) -> bool {
        self.release(me);
        false
    }

    /// Whether the lock is of the caller's PID namespace, and has been used before.
    #[inline(always)]
    pub fn is_namespace(&self, me: Me) -> bool {
        self.namespace.load(Ordering::Relaxed) == me.namespace()
    }

    /// The short way to release a plain lock that is the newest of the caller's; whether it was that.
    #[inline(always)]
    pub fn release_plain(&self, me: Me) -> bool {
        if self.mode.load(Ordering::Relaxed) != 0 || !me.newest_is(self.spot()) {
            return false;
        }
        self.owner.store(0, Ordering::Relaxed);
        me.remove_newest();
        // Release: the next holder sees everything that this one wrote. SeqCst for `rwlock`.
        if self.pair.compare_exchange(me.holder(), 0, Ordering::SeqCst, Ordering::Relaxed).is_err() {
            return self.hand_over_plain(me);
        }
        true
    }

    /// As `release_plain`, for a lock that the caller's process owns and nobody waits for.
    #[inline(always)]
    pub fn release_owned(&self, me: Me) -> bool {
        // What may be on the thread's list leaves it by the long way, whatever the flags have become.
        if !self.is_owned_plainly() || me.holds_any() {
            return false;
        }
        let Some(holder) = me.known_process_holder() else { return false };
        if self.pair.load(Ordering::Relaxed) != holder {
            return false;
        }
        self.forget_dead();
        self.owner.store(0, Ordering::Relaxed);
        // As in `release_plain`.
        if self.pair.compare_exchange(holder, 0, Ordering::SeqCst, Ordering::Relaxed).is_err() {
            self.hand_over(holder, 0);
        }
        true
    }

    #[cold]
    #[inline(never)]
    fn hand_over_plain(&self, me: Me) -> bool {
        self.hand_over(me.holder(), 0);
        true
    }

    /// Numbers are the caller's namespace's, or the lock is not for it.
    pub fn check_namespace(&self, me: Me) -> Outcome<()> {
        // A caller that can't tell its own must not leave a mark by which the others are refused.
        let mine = me.find_namespace().ok_or(OTHER_NAMESPACE)?;
        // Relaxed: the value is all that matters.
        let mut tag = self.namespace.load(Ordering::Relaxed);
        if tag == 0 {
            tag = match self.namespace.compare_exchange(0, mine, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => mine,
                Err(other) => other,
            };
        }
        if tag == mine { Ok(()) } else { Err(OTHER_NAMESPACE) }
    }

    /// Takes the lock, whatever it is. `patient` waits go on after signals whatever the flags say, and may exceed the
    /// number of locks that a thread may hold.
    #[cold]
    #[inline(never)]
    pub fn take(&self, me: Me, timeout: Timeout, patient: bool) -> Outcome<Acquired> {
        self.take_with(me, Way { timeout, patient, stop: None, inside: None, passing: false })
    }

    /// Takes the lock, but `EINTR` where `stop` is not 0 and the thread would have to sleep. Who sets it wakes those that
    /// sleep on the word, until it has been heard.
    pub fn take_unless(&self, me: Me, stop: &AtomicU32) -> Outcome<Acquired> {
        let timeout = Timeout::Forever;
        self.take_with(me, Way { timeout, patient: true, stop: Some(stop), inside: None, passing: false })
    }

    /// Takes the lock; that its last holder died counts only if `inside` is not 0.
    pub fn take_inside(&self, me: Me, timeout: Timeout, inside: &AtomicU32) -> Outcome<Acquired> {
        self.take_with(me, Way { timeout, patient: false, stop: None, inside: Some(inside), passing: false })
    }

    /// The same for who only passes: the word says so from the exchange on by which it is taken.
    pub fn take_passing(&self, me: Me, timeout: Timeout, inside: &AtomicU32) -> Outcome<Acquired> {
        self.take_with(me, Way { timeout, patient: false, stop: None, inside: Some(inside), passing: true })
    }

    /// Releases what `take_passing` took.
    pub fn release_passing(&self, me: Me) {
        self.owner.store(0, Ordering::Relaxed);
        me.remove(self.spot());
        // As in `release_plain`.
        if self.pair.compare_exchange(me.holder() | PASSING, 0, Ordering::SeqCst, Ordering::Relaxed).is_err()
        {
            self.hand_over(me.holder(), 0);
        }
    }

    fn take_with(&self, me: Me, way: Way) -> Outcome<Acquired> {
        let flags = self.flags();
        self.check_namespace(me)?;
        if flags & PROCESS_OWNED != 0 {
            let died = self.contend(me, me.process_holder(), way)?;
            self.enter(me, died, true);
            return self.settled(me, died);
        }
        let spot = self.spot();
        if let Some(index) = me.find(spot) {
            return match me.depth(index).checked_add(1) {
                Some(depth) if flags & RECURSIVE != 0 => {
                    me.set_depth(index, depth);
                    Ok(Acquired::Clean)
                }
                _ => Err(DEADLOCK),
            };
        }
        if me.is_full() && !way.patient {
            return Err(NO_LOCKS);
        }
        me.pend(spot);
        let mine = if way.passing { me.holder() | PASSING } else { me.holder() };
        let died = match self.contend(me, mine, way) {
            Ok(died) => died,
            Err(code) => {
                me.pend_nothing();
                return Err(code);
            }
        };
        me.push(spot);
        self.enter(me, died, way.inside.is_none());
        me.pend_nothing();
        self.settled(me, died)
    }

    /// What a new holder writes first: who died, who it is, and what that means for the data. `is_told` says that the holder will hear of the
    /// death for certain; otherwise the state keeps it, also of a lock that repairs itself.
    fn enter(&self, me: Me, died: bool, is_told: bool) {
        if died {
            // Nobody's name, if the holder died before it could sign, or after it had begun to release.
            self.dead.store(self.owner.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.sign(me);
        let repairs_itself = is_told && self.flags() & AUTO_REPAIR != 0;
        if died && !repairs_itself && self.state() == CONSISTENT {
            self.set_state(INCONSISTENT);
        }
    }

    fn settled(&self, me: Me, died: bool) -> Outcome<Acquired> {
        match self.state() {
            LOST => {
                self.release(me);
                Err(UNRECOVERABLE)
            }
            CONSISTENT if !died => Ok(Acquired::Clean),
            _ => Ok(Acquired::OwnerDied),
        }
    }

    /// Gets the lock for `mine`; whether its last holder died. For a thread, the spot is pending.
    fn contend(&self, me: Me, mine: u64, way: Way) -> Outcome<bool> {
        let interruptible = !way.patient && self.flags() & INTERRUPTIBLE != 0;
        let mut patience = Patience::new(way.timeout, interruptible, true);
        // How often to look before sleeping; not known before there is a reason to wait.
        let (mut allowed, mut spun, mut slept) = (None, 0, 0);
        let failed = loop {
            // Relaxed: a look; what counts is the exchange.
            let pair = self.pair.load(Ordering::Relaxed);
            let word = word_of(pair);
            if word & OWNER == 0 {
                if pair == SPENT {
                    return Err(ALREADY);
                }
                // Who has slept doesn't know who else does.
                let mine = with_bits(mine, word & WAITERS | slept);
                // SeqCst for `rwlock`, Acquire for the rest.
                if self.pair.compare_exchange(pair, mine, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
                    self.learn(if slept == 0 { spun } else { 0 }, spun);
                    if self.kind() == OwnerKind::Process {
                        owner::stop_watching();
                    }
                    let counts = way.inside.is_none_or(|inside| inside.load(Ordering::SeqCst) != 0);
                    return Ok(word & DIED != 0 && counts);
                }
                continue;
            }
            if holder_of(pair) == holder_of(mine) && self.kind() == OwnerKind::Thread {
                // By another mapping of the same memory; or a copy of this lock, which the caller does not hold.
                if me.holds_any() {
                    break DEADLOCK;
                }
                self.mark_died(pair);
                continue;
            }
            if word & WAITERS == 0 && spun < *allowed.get_or_insert_with(|| self.spin_budget(way.timeout)) {
                spun += 1;
                core::hint::spin_loop();
                continue;
            }
            if way.stop.is_some_and(|stop| stop.load(Ordering::SeqCst) != 0) {
                break INTERRUPTED;
            }
            match self.sleep(me, pair, &mut patience) {
                Ok(true) => slept = WAITERS,
                Ok(false) => {}
                Err(code) => break code,
            }
        };
        if slept != 0 {
            self.pass_on();
        }
        Err(failed)
    }

    /// Sleeps on a lock that somebody holds, and looks round now and then, and before giving up: who doesn't want to
    /// wait, or has no more time to, must learn of a death as well. Whether it slept. The holder may be marked now.
    fn sleep(&self, me: Me, pair: u64, patience: &mut Patience) -> Outcome<bool> {
        if let Err(code) = patience.may_wait() {
            return if self.bury(me, pair) { Ok(false) } else { Err(code) };
        }
        let marked = with_bits(pair, WAITERS);
        // Relaxed: the bit orders nothing; the holder's release sees it in the same word.
        if pair != marked
            && self.pair.compare_exchange(pair, marked, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return Ok(false);
        }
        match patience.after(futex_wait(self.word(), word_of(marked), patience.until())) {
            Ok(Then::Look { slept }) => Ok(slept),
            Ok(Then::Check) => {
                self.bury(me, marked);
                Ok(true)
            }
            Err(code) => {
                if self.bury(me, marked) {
                    return Ok(true);
                }
                Err(code)
            }
        }
    }

    /// One that has slept goes without the lock, or has it now: a wake-up that it may have got is somebody else's.
    pub fn pass_on(&self) {
        loop {
            let pair = self.pair.load(Ordering::Relaxed);
            if word_of(pair) & OWNER == 0 {
                futex_wake(self.word(), 1);
                return;
            }
            let marked = with_bits(pair, WAITERS);
            // Relaxed: as in `sleep`.
            if self.pair.compare_exchange(pair, marked, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return;
            }
        }
    }

    fn spin_budget(&self, timeout: Timeout) -> u32 {
        if timeout == Timeout::Try || !owner::many_processors() {
            return 0;
        }
        (self.spins.load(Ordering::Relaxed).min(MOST_SPINS) * 2 + 10).min(MOST_SPINS)
    }

    /// Moves the hint an eighth of the way towards what was needed this time; to nothing, where spinning was no use.
    fn learn(&self, needed: u32, spun: u32) {
        if spun > 0 {
            let before = self.spins.load(Ordering::Relaxed).min(MOST_SPINS);
            self.spins.store((before * 7 + needed) / 8, Ordering::Relaxed);
        }
    }

    fn kind(&self) -> OwnerKind {
        if self.flags() & PROCESS_OWNED != 0 { OwnerKind::Process } else { OwnerKind::Thread }
    }

    /// Marks the lock of a holder that has ended, as the kernel would. Whether it did.
    #[cold]
    fn bury(&self, me: Me, pair: u64) -> bool {
        me.sees_end(holder_of(pair), self.kind()) && self.mark_died(pair)
    }

    /// Marks a lock as the kernel does at its holder's end, if it is still that one's: number and cookie are compared as
    /// one, so whoever has it by now keeps it.
    fn mark_died(&self, pair: u64) -> bool {
        let mut now = pair;
        while holder_of(now) == holder_of(pair) {
            let marked = pair_of(word_of(now) & WAITERS | DIED, cookie_of(now));
            // Release: who takes the lock over sees what the dead one wrote, as this thread does, since the kernel has told
            // it of the end.
            match self.pair.compare_exchange(now, marked, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => {
                    if word_of(now) & WAITERS != 0 {
                        futex_wake(self.word(), 1);
                    }
                    return true;
                }
                Err(other) => now = other,
            }
        }
        false
    }

    /// Releases a lock that the caller holds. Nothing of the lock is touched after the exchange that makes it free: the
    /// next holder may be the last, and its memory gone. A wake-up by an address where nothing is any more does no harm.
    pub fn release(&self, me: Me) {
        self.release_as(me, 0);
    }

    /// Releases it for good: whoever waits, or comes, gets `ALREADY`.
    pub fn release_spent(&self, me: Me) {
        self.release_as(me, SPENT);
    }

    /// Whether it has been released for good.
    #[inline(always)]
    pub fn is_spent(&self) -> bool {
        // Acquire: pairs with the release.
        self.pair.load(Ordering::Acquire) == SPENT
    }

    fn release_as(&self, me: Me, left: u64) {
        self.owner.store(0, Ordering::Relaxed);
        // What is on the thread's list leaves it, whatever the flags have become.
        let holder = if self.kind() == OwnerKind::Process && me.find(self.spot()).is_none() {
            self.process_name(me)
        } else {
            me.remove(self.spot());
            me.holder()
        };
        // As in `release_plain`.
        if self.pair.compare_exchange(holder, left, Ordering::SeqCst, Ordering::Relaxed).is_err() {
            self.hand_over(holder, left);
        }
    }

    /// Releases a lock on which somebody may sleep. One that is woken says again that somebody may, when it gets the lock
    /// or sleeps again; should it be killed instead, the others look round.
    #[cold]
    #[inline(never)]
    fn hand_over(&self, holder: u64, left: u64) {
        let word = self.word();
        if holder_of(self.pair.load(Ordering::Relaxed)) != holder {
            return; // Somebody has overwritten a lock that is held: it isn't this thread's to give away any more.
        }
        // Only WAITERS can have been added to a held word, so nothing is lost by a store.
        self.pair.swap(left, Ordering::SeqCst);
        futex_wake(word, if left == SPENT { EVERYBODY } else { 1 });
    }

    /// Checks that the caller holds the lock, and undoes one of several lockings; whether it is the last.
    pub fn about_to_release(&self, me: Me) -> Outcome<bool> {
        let index = me.find(self.spot());
        if index.is_none() && self.flags() & PROCESS_OWNED != 0 {
            return if self.is_process(me) { Ok(true) } else { Err(NOT_OWNER) };
        }
        let index = index.ok_or(NOT_OWNER)?;
        match me.depth(index) {
            0 => Ok(true),
            depth => {
                me.set_depth(index, depth - 1);
                Ok(false)
            }
        }
    }
}

/// The same holder, with bits of the word added.
#[inline(always)]
fn with_bits(pair: u64, bits: u32) -> u64 {
    pair | pair_of(bits, 0)
}

/// The holder alone, whoever may sleep, and whatever it is at.
#[inline(always)]
fn holder_of(pair: u64) -> u64 {
    pair & !(pair_of(WAITERS, 0) | PASSING)
}
