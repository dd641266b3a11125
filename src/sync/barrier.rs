//! The barrier: so many parties wait for each other.
//!
//! A lock guards arrivals. Each party that waits has a seat, a word that is on its thread's robust list, so that its
//! death is written there for everybody to see. All that wait sleep on the gate and on all seats, taken or not, so the
//! kernel wakes one at a party's death, which looks at the seats and breaks the barrier.

use super::gate::{EVERYBODY, Gate, Watched};
use super::lock::Lock;
use super::{
    AGAIN, Acquired, INTERRUPTED, INTERRUPTIBLE, INVALID, NO_LOCKS, NO_MEMORY, Outcome, Patience, known_flags,
};
use crate::error::Code;
use crate::prim::{AtomicU32, AtomicU64, MODEL, Ordering};
use crate::sys::clock::Timeout;
use crate::sys::owner;
use crate::sys::robust::{self, ENTRY, Me, OWNER, Spot, WAITERS};
use core::array::from_fn;
use core::mem::{offset_of, size_of};

/// The most parties that a barrier can have.
pub const MOST_PARTIES: u32 = if MODEL { 4 } else { 128 };
const BAYS: usize = MOST_PARTIES as usize / SEATS;
const SEATS: usize = 4;
/// How many words the kernel can watch for one sleeper. Parties beyond that look round while they wait.
const MOST_WATCHED: usize = 128;

/// One party that waits.
#[repr(C)]
#[derive(Debug)]
struct Seat {
    #[cfg(not(target_env = "musl"))]
    word: AtomicU32,
    /// The phase that it waits for. Written under the lock, by the party that takes the seat.
    phase: AtomicU32,
    #[cfg(target_env = "musl")]
    word: AtomicU32,
}

/// Four seats, with the kernel's entries for them behind, each at the distance that it knows.
#[repr(C)]
#[derive(Debug)]
struct Bay {
    seats: [Seat; SEATS],
    entries: [AtomicU64; SEATS],
}

const _: () =
    assert!(MODEL || size_of::<Seat>() == 8 && offset_of!(Bay, entries) - offset_of!(Seat, word) == ENTRY);

/// A meeting of a fixed number of parties, again and again. It must be made by `new`.
#[repr(C)]
#[derive(Debug)]
pub struct Barrier {
    lock: Lock,
    gate: Gate,
    /// How often the parties have met or the barrier was reset. Written under the lock, like what follows, and read by
    /// those that wait. SeqCst: the gate is looked at next.
    phase: AtomicU32,
    /// Bit n: the last phase whose number ends in these five bits ended by a reset.
    resets: AtomicU32,
    broken: AtomicU32,
    arrived: AtomicU32,
    /// Not written after the start.
    parties: AtomicU32,
    flags: AtomicU32,
    /// How many seats have ever been taken: those behind need no look.
    used: AtomicU32,
    reserved: [AtomicU32; 8],
    bays: [Bay; BAYS],
}

/// Why a party's wait ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Met,
    Reset,
    Broken,
    /// A party that waits has died, and nobody has said so yet.
    Died,
}

impl Barrier {
    /// For `parties` parties, at most `MOST_PARTIES`.
    pub fn new(parties: u32, flags: u32) -> Outcome<Barrier> {
        let flags = known_flags(flags, INTERRUPTIBLE)?;
        if parties == 0 || parties > MOST_PARTIES {
            return Err(INVALID);
        }
        Ok(Barrier {
            lock: Lock::new(0),
            gate: Gate::new(),
            phase: AtomicU32::new(0),
            resets: AtomicU32::new(0),
            broken: AtomicU32::new(0),
            arrived: AtomicU32::new(0),
            parties: AtomicU32::new(parties),
            flags: AtomicU32::new(flags),
            used: AtomicU32::new(0),
            reserved: from_fn(|_| AtomicU32::new(0)),
            bays: from_fn(|_| Bay {
                seats: from_fn(|_| Seat { word: AtomicU32::new(0), phase: AtomicU32::new(0) }),
                entries: from_fn(|_| AtomicU64::new(0)),
            }),
        })
    }

    /// Waits for the others; whether this party was the last to come.
    pub fn wait(&self, timeout: Timeout) -> Outcome<bool> {
        let me = robust::me().ok_or(NO_MEMORY)?;
        let parties = self.parties.load(Ordering::Relaxed);
        if parties == 0 || parties > MOST_PARTIES {
            return Err(INVALID);
        }
        if me.is_full() {
            return Err(NO_LOCKS);
        }
        self.enter(me)?;
        let arrived = self.arrive(me, parties, timeout);
        self.lock.release(me);
        let Some((bay, index)) = arrived? else { return Ok(true) };
        let phase = self.bays[bay].seats[index].phase.load(Ordering::Relaxed);
        let result = self.stay(me, phase, timeout);
        self.stand_up(me, bay, index);
        result.map(|()| false)
    }

    /// Takes the lock for a moment. While it is held, the gate is pending: should this thread die, a party that sleeps
    /// finds the lock's holder dead.
    fn enter(&self, me: Me) -> Outcome<()> {
        let taken = if self.lock.take_free(me) {
            Acquired::Clean
        } else {
            self.lock.take(me, Timeout::Forever, true)?
        };
        me.pend(self.gate.spot());
        if taken == Acquired::OwnerDied {
            // Who died in here may have counted itself or not: there is nobody left to ask.
            self.broken.store(1, Ordering::SeqCst);
            self.lock.repair(me)?;
        }
        Ok(())
    }

    /// With the lock in hand: comes, and either completes the phase or takes a seat.
    fn arrive(&self, me: Me, parties: u32, timeout: Timeout) -> Outcome<Option<(usize, usize)>> {
        let phase = self.phase.load(Ordering::SeqCst);
        if self.broken.load(Ordering::SeqCst) != 0 || self.has_dead(me, phase, |_, _| ()) {
            self.break_up();
            return Err(Code::BROKEN);
        }
        let arrived = self.arrived.load(Ordering::SeqCst);
        if arrived + 1 >= parties {
            self.next_phase(phase, false);
            return Ok(None);
        }
        if timeout == Timeout::Try {
            return Err(AGAIN);
        }
        let (bay, index) = self.sit_down(me, phase).ok_or(NO_LOCKS)?;
        self.arrived.store(arrived + 1, Ordering::SeqCst);
        Ok(Some((bay, index)))
    }

    fn next_phase(&self, phase: u32, reset: bool) {
        let bit = 1 << (phase % 32);
        let resets = self.resets.load(Ordering::SeqCst);
        self.resets.store(if reset { resets | bit } else { resets & !bit }, Ordering::SeqCst);
        self.phase.store(phase.wrapping_add(1), Ordering::SeqCst);
        self.arrived.store(0, Ordering::SeqCst);
        self.gate.open(EVERYBODY);
    }

    fn break_up(&self) {
        self.broken.store(1, Ordering::SeqCst);
        self.gate.open(EVERYBODY);
    }

    fn spot(&self, bay: usize, index: usize) -> Spot {
        let at = index * size_of::<Seat>() + offset_of!(Seat, word);
        // SAFETY: the bay has its entry for this seat at the right distance, written by the robust list alone.
        unsafe { Spot::new(&raw const self.bays[bay], at) }
    }

    /// Takes a free seat. The lock is held, so nobody else does; the entry is on the list before the word counts.
    fn sit_down(&self, me: Me, phase: u32) -> Option<(usize, usize)> {
        let mut seats = (0..BAYS).flat_map(|bay| (0..SEATS).map(move |index| (bay, index)));
        let (bay, index) = seats.find(|(bay, index)| {
            let seat = &self.bays[*bay].seats[*index];
            let word = seat.word.load(Ordering::Acquire);
            // One who has just died of this phase keeps the seat, or nobody would ever know.
            let died = word & robust::DIED != 0 && seat.phase.load(Ordering::SeqCst) == phase;
            word & OWNER == 0 && !died
        })?;
        me.push(self.spot(bay, index));
        let number = (bay * SEATS + index) as u32;
        if number >= self.used.load(Ordering::SeqCst) {
            self.used.store(number + 1, Ordering::SeqCst);
        }
        let seat = &self.bays[bay].seats[index];
        seat.phase.store(phase, Ordering::SeqCst);
        // Others sleep on this word as on the gate's, which is not pending all the time.
        seat.word.store(me.tid() | WAITERS, Ordering::SeqCst);
        Some((bay, index))
    }

    fn stand_up(&self, me: Me, bay: usize, index: usize) {
        let spot = self.spot(bay, index);
        me.pend(spot);
        me.remove(spot);
        // Release: whoever takes the seat next finds its entry off this thread's list.
        self.bays[bay].seats[index].word.store(0, Ordering::Release);
        me.pend_nothing();
    }

    /// Whether a party that waits for this phase has died. `see` gets the words that say so.
    fn has_dead<'a>(&'a self, me: Me, phase: u32, mut see: impl FnMut(&'a AtomicU32, u32)) -> bool {
        let used = self.used.load(Ordering::SeqCst) as usize;
        // Those that come later, too: the parties of this meeting, and as many that have not left the last one yet.
        let seats = used.max(2 * self.parties.load(Ordering::Relaxed) as usize);
        self.bays.iter().flat_map(|bay| &bay.seats).take(seats).any(|seat| {
            let word = seat.word.load(Ordering::SeqCst);
            see(&seat.word, word);
            let died = word & robust::DIED != 0
                || (!me.is_robust() && word & OWNER != 0 && owner::thread_ended(word & OWNER, 0));
            died && seat.phase.load(Ordering::SeqCst) == phase
        })
    }

    /// Whether and how the wait for a phase is over. `see` gets the words that say so.
    fn ended<'a>(&'a self, me: Me, phase: u32, mut see: impl FnMut(&'a AtomicU32, u32)) -> Option<Ended> {
        let now = self.phase.load(Ordering::SeqCst);
        see(&self.phase, now);
        if now != phase {
            let reset = self.resets.load(Ordering::SeqCst) >> (phase % 32) & 1 != 0;
            return Some(if reset { Ended::Reset } else { Ended::Met });
        }
        let broken = self.broken.load(Ordering::SeqCst);
        see(&self.broken, broken);
        if broken != 0 {
            return Some(Ended::Broken);
        }
        // Not to be watched: a sleeper on the lock's word would take the wake-ups of those that want the lock. Who dies
        // with the lock and has changed something has changed one of the other words.
        let died = self.lock.peek() & robust::DIED != 0;
        (died || self.has_dead(me, phase, see)).then_some(Ended::Died)
    }

    /// Sleeps until the phase is over, one way or another.
    fn stay<'a>(&'a self, me: Me, phase: u32, timeout: Timeout) -> Outcome<()> {
        let interruptible = self.flags.load(Ordering::Relaxed) & INTERRUPTIBLE != 0;
        let patience = Patience::new(timeout, interruptible, !me.is_robust());
        let wake_rest = || {
            // Who let this one go may have died before it had woken the others.
            self.gate.wake_rest();
            false
        };
        let ready = |watched: &mut Watched<'a, MOST_WATCHED>| {
            self.ended(me, phase, |word, value| watched.see(word, value))
        };
        let result = self.gate.wait(me, patience, ready, wake_rest);
        match result {
            Ok(Ended::Met) => return Ok(()),
            Ok(Ended::Reset | Ended::Broken) => return Err(Code::BROKEN),
            Ok(Ended::Died) | Err(_) => {}
        }
        // What this comes to depends on what has happened by the time that the lock is held.
        self.enter(me)?;
        let outcome = match self.ended(me, phase, |_, _| ()) {
            Some(Ended::Met) => Ok(()),
            Some(Ended::Reset) => Err(Code::BROKEN),
            Some(Ended::Broken | Ended::Died) => {
                self.break_up();
                Err(Code::BROKEN)
            }
            None => self.give_up(result.err().unwrap_or(Code::BROKEN)),
        };
        self.lock.release(me);
        outcome
    }

    /// One that runs out of time takes the others along; one that was interrupted has just not come.
    fn give_up(&self, code: Code) -> Outcome<()> {
        if code == INTERRUPTED {
            let arrived = self.arrived.load(Ordering::SeqCst);
            self.arrived.store(arrived.saturating_sub(1), Ordering::SeqCst);
        } else {
            self.break_up();
        }
        Err(code)
    }

    /// Makes it as new: those that wait get `BROKEN`, a broken one is whole again.
    pub fn reset(&self) -> Outcome<()> {
        let me = robust::me().ok_or(NO_MEMORY)?;
        self.enter(me)?;
        self.broken.store(0, Ordering::SeqCst);
        self.next_phase(self.phase.load(Ordering::SeqCst), true);
        self.lock.release(me);
        Ok(())
    }

    /// Breaks it: those that wait and those that come get `BROKEN`, until it is reset.
    pub fn abort(&self) -> Outcome<()> {
        let me = robust::me().ok_or(NO_MEMORY)?;
        self.enter(me)?;
        self.break_up();
        self.lock.release(me);
        Ok(())
    }

    /// Whether it is broken.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::SeqCst) != 0
    }

    /// How many parties it is for.
    pub fn parties(&self) -> u32 {
        self.parties.load(Ordering::Relaxed)
    }

    /// How many parties wait at this moment.
    pub fn waiting(&self) -> u32 {
        if self.is_broken() { 0 } else { self.arrived.load(Ordering::SeqCst) }
    }
}

const _: () = assert!(MODEL || size_of::<Barrier>() == 64 + 64 + BAYS * 64);
