//! The word that a thread or process holds, and that the kernel knows it by: what every lock of the family is made of.
//!
//! The word: 0 free; a holder's number; WAITERS on top while somebody may sleep on it, with or without a holder; DIED
//! in place of a holder that died. Whoever takes the lock keeps WAITERS, and whoever has slept adds it: so a woken
//! waiter that is killed can't take the others' wake-up along, whoever else has the lock by then.

use super::gate::Gate;
use super::{
    AUTO_REPAIR, Acquired, DEADLOCK, INTERRUPTED, INTERRUPTIBLE, NO_LOCKS, NOT_OWNER, OTHER_NAMESPACE,
    Outcome, PROCESS_OWNED, Patience, RECURSIVE, Then, UNRECOVERABLE,
};
use crate::prim::{AtomicU32, AtomicU64, MODEL, Ordering, futex_wait, futex_wake};
use crate::sys::clock::Timeout;
use crate::sys::owner;
use crate::sys::robust::{self, DIED, ENTRY, Me, OWNER, Spot, WAITERS, mark_died};
use core::array::from_fn;
use core::mem::{offset_of, size_of};

/// 64 bytes: the word, and what belongs to its holder.
#[repr(C, align(8))]
#[derive(Debug)]
pub(crate) struct Lock {
    #[cfg(not(target_env = "musl"))]
    word: AtomicU32,
    /// The flags, above a byte for the state. Flags are never written after the start, the state only by the holder.
    mode: AtomicU32,
    #[cfg(target_env = "musl")]
    word: AtomicU32,
    /// The PID namespace whose numbers the word holds; 0 until the first use.
    namespace: AtomicU32,
    /// How long spinning has been worth it of late. A hint that anybody writes.
    spins: AtomicU32,
    /// Who holds it, process and thread; 0 where nobody does. Written by the holder, read for messages and by waiters
    /// that look after a holder's life; those need `start` too.
    owner: AtomicU64,
    start: AtomicU64,
    /// The kernel's way to the next lock of the same thread. Written by the holder, read by the kernel alone.
    entry: AtomicU64,
    /// The one that died holding it. Written by the holder.
    dead: AtomicU64,
    /// What the lock's users keep beside it: a gate of theirs, and words.
    pub gate: Gate,
    pub extra: [AtomicU32; 3],
}

const _: () =
    assert!(MODEL || offset_of!(Lock, entry) - offset_of!(Lock, word) == ENTRY && size_of::<Lock>() == 64);

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
}

/// Who holds a lock, for messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// Its process; 0 where nobody holds the lock.
    pub pid: u32,
    /// Its thread; for a lock that processes own, the one that took it.
    pub tid: u32,
    /// When that thread, or process, started, in the clock ticks after boot of /proc/PID/stat; 0 where not known.
    pub start_time: u64,
    /// The process that died holding the lock, until the lock is repaired or released; 0 where none did.
    pub dead_pid: u32,
    /// Its thread.
    pub dead_tid: u32,
}

impl Lock {
    pub fn new(flags: u32) -> Lock {
        Lock {
            word: AtomicU32::new(0),
            mode: AtomicU32::new(flags << FLAGS),
            namespace: AtomicU32::new(0),
            spins: AtomicU32::new(0),
            owner: AtomicU64::new(0),
            start: AtomicU64::new(0),
            entry: AtomicU64::new(0),
            dead: AtomicU64::new(0),
            gate: Gate::new(),
            extra: from_fn(|_| AtomicU32::new(0)),
        }
    }

    #[inline(always)]
    pub fn spot(&self) -> Spot {
        // SAFETY: the entry lies `ENTRY` bytes behind the word and is written by the robust list alone.
        unsafe { Spot::new(self, offset_of!(Lock, word)) }
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
        self.word.load(Ordering::SeqCst)
    }

    /// The word itself, for those that sleep on it.
    pub fn word(&self) -> &AtomicU32 {
        &self.word
    }

    /// Whether nothing is special about the lock: no flags, no death, the caller's namespace.
    #[inline(always)]
    fn is_plain(&self, me: Me) -> bool {
        self.mode.load(Ordering::Relaxed) == 0 && self.namespace.load(Ordering::Relaxed) == me.namespace()
    }

    /// Who has the lock now. Where the kernel sees to deaths, the time of its start can be looked up while it lives.
    #[inline(always)]
    fn sign(&self, me: Me) {
        self.owner.store(me.identity(), Ordering::Relaxed);
        if !me.is_robust() {
            self.start.store(me.start(), Ordering::Relaxed);
        }
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
        if self.word.compare_exchange(0, me.tid(), Ordering::SeqCst, Ordering::Relaxed).is_err() {
            me.pend_nothing();
            return false;
        }
        me.push(spot);
        self.sign(me);
        me.pend_nothing();
        // The last holder may have left it inconsistent or lost since `is_plain`: the long way sees to that.
        if self.state() != CONSISTENT { self.take_back(me) } else { true }
    }

    #[cold]
    #[inline(never)]
    fn take_back(&self, me: Me) -> bool {
        self.release(me);
        false
    }

    /// For a reader's slot: takes it if it is free. Whoever died in it is forgotten.
    #[inline(always)]
    pub fn claim(&self, me: Me) -> bool {
        let value = self.word.load(Ordering::Relaxed);
        if value & OWNER != 0 {
            return false;
        }
        let spot = self.spot();
        me.pend(spot);
        // SeqCst: pairs with the writer's look at the slots. WAITERS stays, as everywhere.
        let mine = me.tid() | value & WAITERS;
        let taken = self.word.compare_exchange(value, mine, Ordering::SeqCst, Ordering::Relaxed).is_ok();
        if taken {
            me.push(spot);
            self.sign(me);
        }
        me.pend_nothing();
        taken
    }

    /// Whether nobody holds it, or nobody who lives where the kernel doesn't say.
    pub fn is_free(&self, me: Me) -> bool {
        let value = self.peek();
        value & OWNER == 0 || (!me.is_robust() && self.bury(value))
    }

    /// Where the kernel may not see to deaths: whether the holder of a slot has ended.
    pub fn is_watched_free(&self, value: u32) -> bool {
        let me = robust::known();
        me.is_some_and(|me| !me.is_robust()) && value & OWNER != 0 && self.bury(value)
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
        me.pend(self.spot());
        me.remove_newest();
        // Release: the next holder sees everything that this one wrote. SeqCst for `rwlock`.
        if self.word.compare_exchange(me.tid(), 0, Ordering::SeqCst, Ordering::Relaxed).is_err() {
            return self.hand_over_plain(me);
        }
        me.pend_nothing();
        true
    }

    #[cold]
    #[inline(never)]
    fn hand_over_plain(&self, me: Me) -> bool {
        self.hand_over(me.tid());
        me.pend_nothing();
        true
    }

    /// Numbers are the caller's namespace's, or the lock is not for it.
    pub fn check_namespace(&self, me: Me) -> Outcome<()> {
        // Relaxed: the value is all that matters.
        let mut tag = self.namespace.load(Ordering::Relaxed);
        if tag == 0 {
            let mine = me.namespace();
            tag = match self.namespace.compare_exchange(0, mine, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => mine,
                Err(other) => other,
            };
        }
        if tag == me.namespace() { Ok(()) } else { Err(OTHER_NAMESPACE) }
    }

    /// Takes the lock, whatever it is. `patient` waits go on after signals whatever the flags say, and may exceed the
    /// number of locks that a thread may hold.
    #[cold]
    #[inline(never)]
    pub fn take(&self, me: Me, timeout: Timeout, patient: bool) -> Outcome<Acquired> {
        self.take_with(me, Way { timeout, patient, stop: None })
    }

    /// Takes the lock, but `EINTR` where `stop` is not 0 and the thread would have to sleep. Who sets it wakes those that
    /// sleep on the word, until it has been heard.
    pub fn take_unless(&self, me: Me, stop: &AtomicU32) -> Outcome<Acquired> {
        self.take_with(me, Way { timeout: Timeout::Forever, patient: true, stop: Some(stop) })
    }

    fn take_with(&self, me: Me, way: Way) -> Outcome<Acquired> {
        let flags = self.flags();
        self.check_namespace(me)?;
        if flags & PROCESS_OWNED != 0 {
            let died = self.contend(me.pid(), way, true)?;
            self.owner.store(me.identity(), Ordering::Relaxed);
            self.start.store(me.process_start(), Ordering::Relaxed);
            return self.settle(me, died);
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
        let died = match self.contend(me.tid(), way, !me.is_robust()) {
            Ok(died) => died,
            Err(code) => {
                me.pend_nothing();
                return Err(code);
            }
        };
        me.push(spot);
        if died {
            // Nobody's name, if the holder died before it could sign, or after it had begun to release.
            self.dead.store(self.owner.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.sign(me);
        if died && flags & AUTO_REPAIR == 0 && self.state() == CONSISTENT {
            self.set_state(INCONSISTENT);
        }
        me.pend_nothing();
        self.settled(me, died)
    }

    /// The rest of taking a lock that processes own: who died, and the state.
    fn settle(&self, me: Me, died: bool) -> Outcome<Acquired> {
        if died && self.flags() & AUTO_REPAIR == 0 && self.state() == CONSISTENT {
            self.set_state(INCONSISTENT);
        }
        self.settled(me, died)
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

    /// Gets the word for `holder`; whether its last holder died. The spot is pending, or the wait `watched`.
    fn contend(&self, holder: u32, way: Way, watched: bool) -> Outcome<bool> {
        let interruptible = !way.patient && self.flags() & INTERRUPTIBLE != 0;
        let mut patience = Patience::new(way.timeout, interruptible, watched);
        // How often to look before sleeping; not known before there is a reason to wait.
        let (mut allowed, mut spun, mut slept) = (None, 0, 0);
        loop {
            // Relaxed: a look; what counts is the exchange.
            let value = self.word.load(Ordering::Relaxed);
            if value & OWNER == 0 {
                let mine = holder | value & WAITERS | slept;
                // SeqCst for `rwlock`, Acquire for the rest.
                if self.word.compare_exchange(value, mine, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
                    self.learn(spun);
                    return Ok(value & DIED != 0);
                }
                continue;
            }
            if value & WAITERS == 0 && spun < *allowed.get_or_insert_with(|| self.spin_budget(way.timeout)) {
                spun += 1;
                core::hint::spin_loop();
                continue;
            }
            if way.stop.is_some_and(|stop| stop.load(Ordering::SeqCst) != 0) {
                return Err(INTERRUPTED);
            }
            if let Err(code) = patience.may_wait() {
                // Who only tries must learn of a death as well.
                if watched && self.bury(value) {
                    continue;
                }
                return Err(code);
            }
            let marked = value | WAITERS;
            // Relaxed: the bit orders nothing; the holder's release sees it in the same word.
            if value != marked
                && self.word.compare_exchange(value, marked, Ordering::Relaxed, Ordering::Relaxed).is_err()
            {
                continue;
            }
            match patience.after(futex_wait(&self.word, marked, patience.until()))? {
                Then::Look { slept: false } => {}
                Then::Look { slept: true } => slept = WAITERS,
                Then::Check => {
                    slept = WAITERS;
                    self.bury(marked);
                }
            }
        }
    }

    fn spin_budget(&self, timeout: Timeout) -> u32 {
        if timeout == Timeout::Try || !owner::many_processors() {
            return 0;
        }
        (self.spins.load(Ordering::Relaxed).min(MOST_SPINS) * 2 + 10).min(MOST_SPINS)
    }

    /// Moves the hint an eighth of the way towards what was needed this time.
    fn learn(&self, spun: u32) {
        if spun > 0 {
            let before = self.spins.load(Ordering::Relaxed).min(MOST_SPINS);
            self.spins.store((before * 7 + spun).div_ceil(8), Ordering::Relaxed);
        }
    }

    /// Where the kernel does not: marks the lock of a holder that has ended. Whether it did.
    fn bury(&self, value: u32) -> bool {
        let holder = value & OWNER;
        let (owner, start) = (self.owner.load(Ordering::Relaxed), self.start.load(Ordering::Relaxed));
        let ended = if self.flags() & PROCESS_OWNED != 0 {
            // A record of another holder is one that died before it could sign.
            owner::process_ended(holder, if (owner >> 32) as u32 == holder { start } else { 0 })
        } else {
            owner::thread_ended(holder, if owner as u32 == holder { start } else { 0 })
        };
        if ended && self.flags() & PROCESS_OWNED != 0 {
            self.dead.store(owner, Ordering::Relaxed);
        }
        ended && mark_died(&self.word, holder)
    }

    /// Releases a lock that the caller holds.
    pub fn release(&self, me: Me) {
        self.owner.store(0, Ordering::Relaxed);
        // What is on the thread's list leaves it, whatever the flags have become.
        if self.flags() & PROCESS_OWNED != 0 && me.find(self.spot()).is_none() {
            if self.word.compare_exchange(me.pid(), 0, Ordering::Release, Ordering::Relaxed).is_err() {
                self.hand_over(me.pid());
            }
            return;
        }
        me.pend(self.spot());
        me.remove(self.spot());
        // As in `release_plain`.
        if self.word.compare_exchange(me.tid(), 0, Ordering::SeqCst, Ordering::Relaxed).is_err() {
            self.hand_over(me.tid());
        }
        me.pend_nothing();
    }

    /// Releases a lock on which somebody may sleep. The bit stays until a wake-up finds nobody.
    #[cold]
    #[inline(never)]
    fn hand_over(&self, holder: u32) {
        if self.word.load(Ordering::Relaxed) & OWNER != holder {
            return; // Somebody has overwritten a lock that is held: it isn't this thread's to give away any more.
        }
        // Only WAITERS can have been added to a held word, so nothing is lost by a store.
        self.word.store(WAITERS, Ordering::SeqCst);
        if futex_wake(&self.word, 1) == 0
            && self.word.compare_exchange(WAITERS, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            // Between the two, others may have taken the lock, slept on it and released it, and the bit that has
            // just gone was then theirs. Whoever sleeps still is woken, and sets it again.
            futex_wake(&self.word, 1);
        }
    }

    /// Checks that the caller holds the lock, and undoes one of several lockings; whether it is the last.
    pub fn about_to_release(&self, me: Me) -> Outcome<bool> {
        let index = me.find(self.spot());
        if index.is_none() && self.flags() & PROCESS_OWNED != 0 {
            return if self.word.load(Ordering::Relaxed) & OWNER == me.pid() {
                Ok(true)
            } else {
                Err(NOT_OWNER)
            };
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

    /// What the holder leaves behind, before it releases: data that nobody has repaired is lost.
    pub fn leave(&self) {
        if self.state() == INCONSISTENT {
            self.set_state(LOST);
        }
        self.forget_dead();
    }

    /// Ends a death's story.
    pub fn forget_dead(&self) {
        self.dead.store(0, Ordering::Relaxed);
    }

    /// Whether the caller holds the lock, and how often it has locked it again.
    pub fn held_by(&self, me: Me) -> Option<u32> {
        let by_thread = me.find(self.spot()).map(|index| me.depth(index));
        if by_thread.is_none() && self.flags() & PROCESS_OWNED != 0 {
            return (self.word.load(Ordering::Relaxed) & OWNER == me.pid()).then_some(0);
        }
        by_thread
    }

    /// Says that the data is whole again.
    pub fn repair(&self, me: Me) -> Outcome<()> {
        self.held_by(me).ok_or(NOT_OWNER)?;
        if self.state() != INCONSISTENT {
            // A lock that repairs itself has nothing to say here, but a death may just have been reported.
            let reported = self.flags() & AUTO_REPAIR != 0 && self.dead.load(Ordering::Relaxed) != 0;
            self.forget_dead();
            return if reported { Ok(()) } else { Err(super::INVALID) };
        }
        self.set_state(CONSISTENT);
        self.forget_dead();
        Ok(())
    }

    /// Whether a death has left the data in doubt, for those that don't hold the lock.
    #[inline(always)]
    pub fn is_in_doubt(&self) -> bool {
        self.state() != CONSISTENT
    }

    /// Whether nobody repaired it in time.
    pub fn is_lost(&self) -> bool {
        self.state() == LOST
    }

    /// Who holds it.
    pub fn owner(&self) -> Owner {
        let holder = self.word.load(Ordering::Relaxed) & OWNER;
        let (owner, start) = (self.owner.load(Ordering::Relaxed), self.start.load(Ordering::Relaxed));
        let dead = self.dead.load(Ordering::Relaxed);
        let mut answer = Owner { dead_pid: (dead >> 32) as u32, dead_tid: dead as u32, ..Owner::default() };
        if holder == 0 {
            return answer;
        }
        let process = self.flags() & PROCESS_OWNED != 0;
        let signed = if process { (owner >> 32) as u32 } else { owner as u32 };
        let start = if process { start } else { owner::start_time(holder) };
        (answer.pid, answer.tid, answer.start_time) = if signed == holder {
            ((owner >> 32) as u32, owner as u32, start)
        } else if process {
            (holder, holder, owner::start_time(holder))
        } else {
            // Caught between taking the lock and signing it.
            (owner::process_of(holder), holder, start)
        };
        answer
    }
}
