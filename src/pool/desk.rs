//! Who of the threads that wait is woken, and who leads: a state machine that knows nothing of tasks or pools.
//!
//! Everything here happens under the pool's lock but the sleeping, and the last step of a wake-up. A thread that waits has a
//! [`Sleeper`] with a word of its own, and says what it wishes for; who makes a wish come true tells the sleeper. One of
//! those that wait leads: it sleeps on the pool's bell, for all.
//!
//! ```text
//!   word of a sleeper   set by                                    meaning
//!   ASLEEP              itself, under the lock, before it sleeps  what it wishes for was not there when it looked
//!   TOLD                whoever fulfils a wish of it              it is to look
//!   OFFERED             whoever leaves while nobody leads; who    it is to lead, if still nobody does, and to tell
//!                       leaves something to tell                  what there is
//!
//!   the lead   NOBODY ---- a sleeper is chosen ----> OFFERED to it ---- it is up and leads, or another does ----> LED
//!      ^          |                                     |                                                         |
//!      |          +---- a thread leads at once ---------|-------------------------------------------------------> |
//!      +--------------- it leaves --------------------- + <------------------- the leader is up ------------------+
//! ```
//!
//! What always holds when the lock is free: where somebody follows, somebody leads, or is up and about to look. Whoever leaves,
//! or is about to run user code, while nobody leads offers the lead: so a lead cannot be lost with a thread, nor kept by one
//! that does something else. The one that came last gets it: it will have to wait for the longest. A thread in a callback gets it only where
//! there is no other: it could not tell what it finds.

use crate::heap::bell::Bell;
use crate::sys::prim::{AtomicU32, Ordering, futex_wake};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

/// What can be wished for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    /// That this task settles.
    Task(u32),
    /// That one of the tasks of this group settles.
    Group(u32),
    /// A settled task that nobody has claimed.
    Next,
    /// Room in the window.
    Room,
    /// A settled chunk of this map.
    Job(usize),
    /// Something of this stream's to take, or to draw.
    Stream(usize),
    /// Room in this stream.
    StreamRoom(usize),
    /// That nothing is under way; `true` for one that is in a callback itself, which is not waited for.
    Idle(bool),
    /// That all tasks have settled, and likewise.
    All(bool),
    /// That the workers are ready.
    Ready,
    /// That the workers have mapped a segment.
    Shared,
    /// That the workers are gone.
    Gone,
}

impl Key {
    /// Whether it can come true by other things than that tasks settle.
    fn is_various(self) -> bool {
        !matches!(self, Key::Task(_) | Key::Group(_) | Key::Job(_))
    }
}

const ASLEEP: u32 = 0;
const TOLD: u32 = 1;
const OFFERED: u32 = 2;

/// One thread that waits. All but the word is used under the lock only, so Relaxed does everywhere.
#[derive(Debug)]
pub(crate) struct Sleeper {
    pub(crate) word: AtomicU32,
    /// Sleepers in the order in which they came.
    serial: u64,
    /// How much room it needs.
    amount: usize,
    /// Its thread may call callbacks: it is in none of this pool's.
    may_tell: bool,
    /// How many of its wishes have to come true.
    missing: AtomicU32,
    /// It sleeps on the bell.
    leads: AtomicU32,
}

impl Sleeper {
    /// Whether its wishes have come true since it lay down.
    pub(crate) fn was_told(&self) -> bool {
        self.word.load(Ordering::Relaxed) == TOLD
    }

    /// The last step of a wake-up, best without the lock.
    pub(crate) fn wake(&self, bell: &Bell) {
        match self.leads.load(Ordering::Relaxed) {
            0 => drop(futex_wake(&self.word, 1)),
            _ => bell.ring_leader(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lead {
    Nobody,
    Offered(u64),
    /// By whom, and whether that one may call callbacks.
    Led(u64, bool),
}

#[derive(Debug)]
pub(crate) struct Desk {
    serial: u64,
    /// Threads in a wait, asleep or up for a moment.
    pub(crate) waiting: usize,
    wishes: BTreeMap<(Key, u64), Arc<Sleeper>>,
    /// How many of them come true by more than one thing.
    various: usize,
    /// Those that sleep on their own words.
    followers: BTreeMap<u64, Arc<Sleeper>>,
    lead: Lead,
    /// To be woken when the lock is free.
    woken: Vec<Arc<Sleeper>>,
}

impl Desk {
    pub(crate) fn new() -> Desk {
        Desk {
            serial: 0,
            waiting: 0,
            wishes: BTreeMap::new(),
            various: 0,
            followers: BTreeMap::new(),
            lead: Lead::Nobody,
            woken: Vec::new(),
        }
    }

    /// A thread begins to wait: until all of these wishes have come true, or one of them.
    pub(crate) fn sit(&mut self, keys: &[Key], all: bool, amount: usize, may_tell: bool) -> Arc<Sleeper> {
        self.serial += 1;
        let sleeper = Arc::new(Sleeper {
            word: AtomicU32::new(TOLD),
            serial: self.serial,
            amount,
            may_tell,
            missing: AtomicU32::new(1),
            leads: AtomicU32::new(0),
        });
        let mut count = 0;
        for key in keys {
            count += u32::from(self.wish(&sleeper, *key));
        }
        if all {
            sleeper.missing.store(count, Ordering::Relaxed);
        }
        sleeper
    }

    /// It wishes for this, too, or again; whether it did not already.
    pub(crate) fn wish(&mut self, sleeper: &Arc<Sleeper>, key: Key) -> bool {
        let Entry::Vacant(place) = self.wishes.entry((key, sleeper.serial)) else { return false };
        place.insert(Arc::clone(sleeper));
        self.various += usize::from(key.is_various());
        true
    }

    /// A thread does not wait any more.
    pub(crate) fn rise(&mut self, sleeper: &Sleeper, keys: &[Key]) {
        for key in keys {
            self.take(*key, sleeper.serial);
        }
    }

    fn take(&mut self, key: Key, serial: u64) -> Option<Arc<Sleeper>> {
        let taken = self.wishes.remove(&(key, serial))?;
        self.various -= usize::from(key.is_various());
        Some(taken)
    }

    /// Whether nobody wishes for anything but that tasks settle.
    pub(crate) fn is_plain(&self) -> bool {
        self.various == 0
    }

    /// Whether anybody wishes for anything.
    pub(crate) fn has_wishes(&self) -> bool {
        !self.wishes.is_empty()
    }

    /// Whether nobody waits.
    pub(crate) fn nobody_is_there(&self) -> bool {
        self.waiting == 0
    }

    /// Whether a thread sleeps on the bell.
    pub(crate) fn is_led(&self) -> bool {
        matches!(self.lead, Lead::Led(..))
    }

    /// This thread is about to sleep on the bell.
    pub(crate) fn begin_to_lead(&mut self, sleeper: &Sleeper) {
        sleeper.word.store(ASLEEP, Ordering::Relaxed);
        sleeper.leads.store(1, Ordering::Relaxed);
        self.lead = Lead::Led(sleeper.serial, sleeper.may_tell);
    }

    /// This thread is about to sleep on its own word.
    pub(crate) fn begin_to_follow(&mut self, sleeper: &Arc<Sleeper>) {
        sleeper.word.store(ASLEEP, Ordering::Relaxed);
        self.followers.insert(sleeper.serial, Arc::clone(sleeper));
    }

    /// It is up, whoever it was that woke it.
    pub(crate) fn is_up(&mut self, sleeper: &Sleeper) {
        sleeper.leads.store(0, Ordering::Relaxed);
        self.followers.remove(&sleeper.serial);
        if matches!(self.lead, Lead::Led(serial, _) | Lead::Offered(serial) if serial == sleeper.serial) {
            self.lead = Lead::Nobody;
        }
    }

    /// This thread leaves, or does something else for a while: where nobody leads and others wait, one of them is to.
    #[inline]
    pub(crate) fn pass_the_lead(&mut self) {
        if self.lead == Lead::Nobody
            && let Some(serial) = self.last_teller().or_else(|| self.followers.keys().last().copied())
        {
            self.lead = Lead::Offered(serial);
            self.wake_follower(serial);
        }
    }

    /// There is something to tell. Whether the leader is to be rung for it; where that one may not tell, a follower that may is woken.
    pub(crate) fn call_teller(&mut self) -> bool {
        if matches!(self.lead, Lead::Led(_, true)) {
            return true;
        }
        if let Some(serial) = self.last_teller() {
            self.wake_follower(serial);
        }
        false
    }

    fn last_teller(&self) -> Option<u64> {
        self.followers.values().rev().find(|sleeper| sleeper.may_tell).map(|sleeper| sleeper.serial)
    }

    fn wake_follower(&mut self, serial: u64) {
        if let Some(sleeper) = self.followers.remove(&serial) {
            sleeper.word.store(OFFERED, Ordering::Relaxed);
            self.woken.push(sleeper);
        }
    }

    /// Whether anybody wishes for this.
    pub(crate) fn is_wished(&self, key: Key) -> bool {
        !self.wishes.is_empty() && self.first(key).is_some()
    }

    fn first(&self, key: Key) -> Option<&Arc<Sleeper>> {
        self.wishes.range((key, 0)..=(key, u64::MAX)).next().map(|(_, sleeper)| sleeper)
    }

    /// How much room the first needs that wishes for this.
    pub(crate) fn amount(&self, key: Key) -> Option<usize> {
        if self.wishes.is_empty() { None } else { self.first(key).map(|sleeper| sleeper.amount) }
    }

    /// The wish has come true for the one that has had it for the longest.
    pub(crate) fn tell_first(&mut self, key: Key) -> bool {
        let first = self.wishes.range((key, 0)..=(key, u64::MAX)).next();
        let serial = first.map(|(_, sleeper)| sleeper.serial);
        serial.is_some_and(|serial| self.tell(key, serial))
    }

    /// The same for the first that needs no more room than that; how much it needs.
    pub(crate) fn tell_within(&mut self, key: Key, room: usize) -> Option<usize> {
        let mut wishes = self.wishes.range((key, 0)..=(key, u64::MAX));
        let (serial, amount) = wishes
            .find(|(_, sleeper)| sleeper.amount <= room)
            .map(|(_, sleeper)| (sleeper.serial, sleeper.amount))?;
        self.tell(key, serial);
        Some(amount)
    }

    fn tell(&mut self, key: Key, serial: u64) -> bool {
        let Some(sleeper) = self.take(key, serial) else { return false };
        let missing = sleeper.missing.load(Ordering::Relaxed).saturating_sub(1);
        sleeper.missing.store(missing, Ordering::Relaxed);
        if missing == 0 {
            // Looks out for more when it lies down again.
            sleeper.missing.store(1, Ordering::Relaxed);
            if sleeper.word.swap(TOLD, Ordering::Relaxed) == ASLEEP {
                self.followers.remove(&serial);
                self.woken.push(sleeper);
            }
        }
        true
    }

    /// The wish has come true for everybody who has it.
    pub(crate) fn tell_all(&mut self, key: Key) {
        while self.tell_first(key) {}
    }

    /// Everybody is to look, whatever it waits for.
    pub(crate) fn tell_everybody(&mut self) {
        self.various = 0;
        for sleeper in std::mem::take(&mut self.wishes).into_values() {
            if sleeper.word.swap(TOLD, Ordering::Relaxed) == ASLEEP {
                self.followers.remove(&sleeper.serial);
                self.woken.push(sleeper);
            }
        }
    }

    /// Whom to wake when the lock is free.
    pub(crate) fn take_woken(&mut self) -> Vec<Arc<Sleeper>> {
        std::mem::take(&mut self.woken)
    }

    /// Whether there is anybody to wake.
    pub(crate) fn has_woken(&self) -> bool {
        !self.woken.is_empty()
    }
}
