//! tine's own threads of a host: one that stands by for all its pools, and one that calls callbacks.
//!
//! The first moves on what has been submitted while no thread of the host's is there to do it: hands out what waits, starts
//! and replaces workers, ends what is late. It runs no user code. It sleeps on the bells of all its pools at once and is woken
//! by what needs it only: see [`bell`](crate::heap::bell). Where a thread of the host's waits, that one leads, and this
//! one has no deadline.
//!
//! ```text
//!   a pool, to the thread     how long it sleeps for it            what calls it before
//!   led by a host's thread    without limit                        the leader leaves, and something is under way
//!   the host moves it on      for a beat (1 ms)                   news, an earlier deadline
//!   something under way       until the next look or deadline      a low ring, news, an earlier deadline
//!   idle                      until a deadline of the family's     the next submit, news
//! ```
//!
//! A call that finds that there was nothing to do (a leader is there again, or all has settled) stands for the next ones: the thread then
//! has a look before it, [`LOOK_NS`] away, and only what is due earlier calls it. Else a host that waits for task after task
//! would take two system calls for many of them. Without a call in that time it lies down for as long as the table says.
//!
//! The second takes what there is to tell, pool by pool, one callback at a time.
//!
//! Both begin with the first call that needs them and end with the last pool. The registry's lock comes before a pool's. A pool is
//! taken out of it before it goes, so the first thread needs no hold on one; the hold that the second has while it calls lies in
//! the registry, where a forked child finds it.

use super::callbacks::tell_all;
use super::{Inner, Pool};
use crate::error::Result;
use crate::sys::clock::Deadline;
use crate::sys::fork;
use crate::sys::futex::{self, Word};
use crate::sys::prim::{AtomicPtr, AtomicU32, Ordering, futex_wait, futex_wake};
use crate::sys::thread::Thread;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

/// A moment that nobody will live to see. A sleep with a limit comes back after a signal, one without may not.
pub(super) const FAR: Deadline = Deadline(1 << 62);

/// How long the thread sleeps where the kernel lets it sleep on one word only and there are several pools.
const IN_TURN_NS: u64 = 10_000_000;

/// The stack of the thread that runs no user code.
const STACK_BYTES: usize = 256 << 10;

/// What a pool has asked for; bits of `Inner::guarded`.
pub(super) const GUARDED: u32 = 1;
pub(super) const CALLED: u32 = 2;
/// It has no thread, and is to be moved on while the host waits for something else.
const DRIVEN: u32 = 4;

/// The threads of one process.
#[derive(Debug)]
pub(super) struct Threads {
    pid: i32,
    inside: Mutex<Inside>,
    /// A callback has returned, or a pool has nothing to tell any more.
    told: Condvar,
    /// Of the thread that stands by: 1 when the pools have changed. Of the one that calls: 1 when there is something to tell.
    /// Relaxed: what they are about is under locks.
    changed: AtomicU32,
    news: AtomicU32,
    /// How many pools have no thread. Relaxed: a hint; they are found under the lock.
    driven: AtomicU32,
}

#[derive(Debug, Default)]
struct Inside {
    wards: Vec<Ward>,
    standby: Option<Thread>,
    caller: Option<Thread>,
    /// The pool whose callbacks are being called.
    telling: Option<Arc<Inner>>,
    /// A thread of an earlier generation is to end.
    generation: u64,
}

#[derive(Debug)]
struct Ward {
    pool: Weak<Inner>,
    /// When it has to be looked at again.
    due: Deadline,
}

static OF_PROCESS: AtomicPtr<Threads> = AtomicPtr::new(std::ptr::null_mut());

/// This process's. A forked child's copy of its parent's is left alone: its locks may be held by threads that are not there.
fn of_process() -> &'static Threads {
    loop {
        let known = OF_PROCESS.load(Ordering::Acquire);
        // SAFETY: never freed once it is in here.
        if let Some(threads) = unsafe { known.as_ref() }.filter(|threads| threads.pid == fork::pid()) {
            return threads;
        }
        let new = Box::into_raw(Box::new(Threads {
            pid: fork::pid(),
            inside: Mutex::default(),
            told: Condvar::new(),
            changed: AtomicU32::new(0),
            news: AtomicU32::new(0),
            driven: AtomicU32::new(0),
        }));
        if OF_PROCESS.compare_exchange(known, new, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: just made, and nobody else has it.
            drop(unsafe { Box::from_raw(new) });
        }
    }
}

/// What this process has, if a pool of its own has no thread of tine's.
fn driven() -> Option<&'static Threads> {
    let known = OF_PROCESS.load(Ordering::Acquire);
    // SAFETY: never freed once it is in there.
    let threads = unsafe { known.as_ref() }?;
    (threads.driven.load(Ordering::Relaxed) != 0 && threads.pid == fork::pid()).then_some(threads)
}

pub(super) fn has_pools_without_thread() -> bool {
    driven().is_some()
}

/// The pools that have no thread of tine's; `None` where there are none.
pub(super) fn pools_without_thread() -> Option<Vec<Arc<Inner>>> {
    let threads = driven()?;
    let is_driven = |pool: &Arc<Inner>| pool.guarded.load(Ordering::Relaxed) & DRIVEN != 0;
    Some(threads.lock().wards.iter().filter_map(|ward| ward.pool.upgrade()).filter(is_driven).collect())
}

impl Pool {
    /// Sees to it that what this call leaves under way goes on without the host, and that there is somebody to call its callbacks.
    #[inline]
    pub(super) fn guard(&self, with_callbacks: bool) -> Result<()> {
        guard(&self.inner, with_callbacks)
    }
}

#[inline]
pub(super) fn guard(pool: &Arc<Inner>, with_callbacks: bool) -> Result<()> {
    // Without workers, everything runs in the host's calls.
    let guarded = if pool.inline_place.is_some() { 0 } else { GUARDED };
    let wanted = match pool.no_thread {
        true => {
            if pool.inline_place.is_some() {
                0
            } else {
                DRIVEN
            }
        }
        false => guarded | if with_callbacks { CALLED } else { 0 },
    };
    let has = pool.guarded.load(Ordering::Acquire);
    if has & wanted == wanted { Ok(()) } else { of_process().take_in(pool, wanted & !has) }
}

impl Threads {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cold]
    fn take_in(&'static self, pool: &Arc<Inner>, wanted: u32) -> Result<()> {
        let mut inside = self.lock();
        let wanted = wanted & !pool.guarded.load(Ordering::Relaxed);
        let generation = inside.generation;
        if !inside.wards.iter().any(|ward| ward.is(pool)) {
            inside.wards.push(Ward { pool: Arc::downgrade(pool), due: Deadline(0) });
        }
        let _ = pool.threads.set(self);
        if wanted & DRIVEN != 0 {
            pool.guarded.fetch_or(DRIVEN, Ordering::Release);
            self.driven.fetch_add(1, Ordering::Relaxed);
        }
        if wanted & GUARDED != 0 {
            if inside.standby.is_none() {
                inside.standby =
                    Some(Thread::start(c"tine", STACK_BYTES, move || self.stand_by(generation))?);
            }
            pool.guarded.fetch_or(GUARDED, Ordering::Release);
            pool.lock().waiters.standby.has_come();
            self.wake_standby(&inside);
        }
        if wanted & CALLED != 0 {
            if inside.caller.is_none() {
                inside.caller =
                    Some(Thread::start(c"tine-callbacks", 0, move || self.call_back(generation))?);
            }
            pool.guarded.fetch_or(CALLED, Ordering::Release);
            pool.lock().news.caller = inside.caller.as_ref().map(Thread::id);
        }
        Ok(())
    }

    fn wake_standby(&self, inside: &Inside) {
        self.changed.store(1, Ordering::Relaxed);
        futex_wake(&self.changed, 1);
        // Where the kernel lets it sleep on one word only, that is one of these.
        for pool in inside.wards.iter().filter_map(|ward| ward.pool.upgrade()) {
            pool.heap.bell().ring_standby();
        }
    }

    /// There is something to tell.
    pub(super) fn wake_caller(&self) {
        if self.news.swap(1, Ordering::Relaxed) == 0 {
            futex_wake(&self.news, 1);
        }
    }

    /// The whole life of the thread that stands by.
    fn stand_by(&self, generation: u64) {
        let mut woken_in_time = true;
        loop {
            self.changed.store(0, Ordering::Relaxed);
            let mut inside = self.lock();
            if inside.generation != generation {
                return;
            }
            let (mut words, mut due) = (vec![Word::new(&self.changed, 0)], FAR);
            for ward in &mut inside.wards {
                // SAFETY: a pool that is about to go is taken out first, under this lock.
                let pool = unsafe { &*ward.pool.as_ptr() };
                if pool.guarded.load(Ordering::Relaxed) & GUARDED == 0 {
                    continue;
                }
                let bell = pool.heap.bell();
                if !bell.standby_sleeps() || ward.due.passed() {
                    ward.due = pool.lock().stand_by(bell, ward.due.passed() || !woken_in_time);
                }
                due = due.min(ward.due);
                words.push(bell.standby_word());
            }
            drop(inside);
            woken_in_time = futex::wait_any_of(&words, due, IN_TURN_NS);
        }
    }

    /// The whole life of the thread that calls callbacks.
    fn call_back(&self, generation: u64) {
        loop {
            self.news.store(0, Ordering::Relaxed);
            let mut inside = self.lock();
            let of = |ward: &Ward| ward.pool.upgrade().filter(|pool| pool.lock().has_news());
            let Some(pool) = inside.wards.iter().find_map(of) else {
                if inside.generation != generation {
                    return;
                }
                drop(inside);
                futex_wait(&self.news, 0, FAR);
                continue;
            };
            let address = Arc::as_ptr(&pool);
            inside.telling = Some(pool);
            drop(inside);
            // SAFETY: held by the registry until it is taken out below.
            let pool = unsafe { &*address };
            // A callback that unwinds has nobody to unwind to; the next one is called all the same.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(tell_all(pool, pool.lock()))));
            let told = self.lock().telling.take();
            self.told.notify_all();
            drop(told);
        }
    }

    /// Whether this thread is one of the two.
    fn is_own(inside: &Inside) -> bool {
        [&inside.standby, &inside.caller].into_iter().flatten().any(Thread::is_this)
    }

    /// A pool has been stopped and is about to go: its last callbacks are called, and then nobody here knows it any more.
    pub(super) fn let_go(&self, pool: &Arc<Inner>) {
        let mut inside = self.lock();
        let own = Threads::is_own(&inside);
        let is_telling =
            |inside: &Inside| inside.telling.as_ref().is_some_and(|told| Arc::ptr_eq(told, pool));
        if own && pool.has_caller() && !is_telling(&inside) {
            // In a callback of another pool's: nobody else could call them.
            drop(inside);
            drop(tell_all(pool, pool.lock()));
            inside = self.lock();
        }
        while !own && pool.has_caller() {
            if !is_telling(&inside) && !pool.lock().has_news() {
                break;
            }
            self.wake_caller();
            inside = self.told.wait(inside).unwrap_or_else(PoisonError::into_inner);
        }
        inside.wards.retain(|ward| !ward.is(pool));
        if pool.guarded.load(Ordering::Relaxed) & DRIVEN != 0 {
            self.driven.fetch_sub(1, Ordering::Relaxed);
        }
        self.wake_standby(&inside);
        pool.heap.bell().ring_standby();
        let bits = |ward: &Ward| ward.pool.upgrade().map_or(0, |pool| pool.guarded.load(Ordering::Relaxed));
        if inside.wards.iter().any(|ward| bits(ward) & (GUARDED | CALLED) != 0) {
            return;
        }
        inside.generation += 1;
        let threads = [inside.standby.take(), inside.caller.take()];
        drop(inside);
        self.wake_caller();
        futex_wake(&self.news, 1);
        if !own {
            threads.into_iter().flatten().for_each(Thread::join);
        }
    }

    /// In a forked child, which has none of its parent's threads: what they held of a pool.
    pub(super) fn forget_in_child(&self, pool: &Arc<Inner>) {
        if let Ok(mut inside) = self.inside.try_lock()
            && inside.telling.as_ref().is_some_and(|telling| Arc::ptr_eq(telling, pool))
        {
            inside.telling = None;
        }
    }
}

impl Ward {
    fn is(&self, pool: &Arc<Inner>) -> bool {
        std::ptr::eq(self.pool.as_ptr(), Arc::as_ptr(pool))
    }
}
