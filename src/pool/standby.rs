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
//! The second takes what there is to tell, one callback at a time, and pool by pool in turn: a pool whose callbacks make ever more of them
//! does not keep the others' waiting.
//!
//! What calls the first is a word that workers write. A look that was for nothing but such a word is taken again at once a few times and then
//! after a pause, in which the thread does not hear it and holds no lock: a worker that writes it over and over stops nobody.
//!
//! Both begin with the first call that needs them and end with the last pool. The registry's lock comes before a pool's. A pool is
//! taken out of it before it goes, so the first thread needs no hold on one; the hold that the second has while it calls lies in
//! the registry, where a forked child finds it.

use super::callbacks::{tell_all, tell_some};
use super::{Inner, Pool};
use crate::error::{Code, Result};
use crate::heap::bell::Bell;
use crate::sys::clock::Deadline;
use crate::sys::fork;
use crate::sys::futex::{self, Word};
use crate::sys::prim::{AtomicPtr, AtomicU32, Ordering, fence, futex_wait, futex_wake};
use crate::sys::thread::Thread;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

/// A moment that nobody will live to see. A sleep with a limit comes back after a signal, one without may not.
pub(super) const FAR: Deadline = Deadline(1 << 62);

/// How long the thread sleeps where the kernel lets it sleep on one word only and there are several pools.
const IN_TURN_NS: u64 = 10_000_000;

/// How long who sleeps on a bell does not hear it when it has called several times for nothing.
pub(super) const DEAF_NS: u64 = 1_000_000;

/// How long one pool's callbacks are called while another's wait.
const TURN_NS: u64 = 1_000_000;

/// The stack of the thread that runs no user code.
const STACK_BYTES: usize = 256 << 10;

/// What a pool has asked for; bits of `Inner::guarded`.
pub(super) const GUARDED: u32 = 1;
pub(super) const CALLED: u32 = 2;
/// It has no thread, and is to be moved on while the host waits for something else.
const DRIVEN: u32 = 4;
/// It has been let go, and what is left of it is a stream's.
const GONE: u32 = 8;

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
    /// Pools without a thread that are being moved on in a call that has nothing to do with them.
    driving: Vec<Arc<Inner>>,
    /// A thread of an earlier generation is to end.
    generation: u64,
}

#[derive(Debug)]
struct Ward {
    pool: Weak<Inner>,
    rest: Rest,
}

/// How long the thread that stands by has nothing to do for a pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rest {
    /// When it has to look again.
    pub(super) due: Deadline,
    /// It does not hear the bell until then.
    pub(super) is_deaf: bool,
}

impl Rest {
    const NONE: Rest = Rest { due: Deadline(0), is_deaf: false };

    fn is_over(self, bell: &Bell) -> bool {
        self.due.passed() || !self.is_deaf && !bell.standby_sleeps()
    }
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

/// Does something for each pool that has no thread of tine's; `None` where there are none. None of them goes meanwhile.
pub(super) fn for_pools_without_thread(mut act: impl FnMut(&Inner)) -> Option<()> {
    let threads = driven()?;
    let is_driven = |pool: &Arc<Inner>| pool.guarded.load(Ordering::Relaxed) & DRIVEN != 0;
    let pools: Vec<_> = threads.lock().wards.iter().map(|ward| Weak::clone(&ward.pool)).collect();
    for pool in pools {
        let mut inside = threads.lock();
        // It may have been let go since.
        if !inside.wards.iter().any(|ward| ward.pool.ptr_eq(&pool)) {
            continue;
        }
        let Some(pool) = pool.upgrade().filter(is_driven) else { continue };
        let driven = Driven { threads, pool: Arc::as_ptr(&pool) };
        inside.driving.push(pool);
        drop(inside);
        // SAFETY: the registry holds it until `driven` goes.
        act(unsafe { &*driven.pool });
    }
    Some(())
}

/// While it lives, a pool is in the registry's list of those that are being moved on: a forked child finds it there, too.
struct Driven {
    threads: &'static Threads,
    pool: *const Inner,
}

impl Drop for Driven {
    fn drop(&mut self) {
        if self.threads.pid != fork::pid() {
            return; // A forked child has come back from a callback: the lock may be held by a thread that is not there.
        }
        let mut inside = self.threads.lock();
        let at = inside.driving.iter().position(|pool| Arc::as_ptr(pool) == self.pool);
        let pool = at.map(|at| inside.driving.swap_remove(at));
        self.threads.told.notify_all();
        drop(inside);
        drop(pool);
    }
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

impl Inner {
    /// No thread of tine's knows this pool from here on, nor will.
    pub(super) fn part(self: &Arc<Inner>) {
        self.guarded.fetch_or(GONE, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if let Some(threads) = self.threads.get() {
            threads.let_go(self);
        }
    }
}

impl Threads {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cold]
    fn take_in(&'static self, pool: &Arc<Inner>, wanted: u32) -> Result<()> {
        let _ = pool.threads.set(self);
        // Dekker with `Inner::part`: who parts from the pool sees the line above, or this sees that the pool has been parted from.
        fence(Ordering::SeqCst);
        let mut inside = self.lock();
        if pool.guarded.load(Ordering::Relaxed) & GONE != 0 {
            return Err(Code::SHUTDOWN.into());
        }
        let wanted = wanted & !pool.guarded.load(Ordering::Relaxed);
        let generation = inside.generation;
        if !inside.wards.iter().any(|ward| ward.is(pool)) {
            inside.wards.push(Ward { pool: Arc::downgrade(pool), rest: Rest::NONE });
        }
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
                if ward.rest.is_over(bell) {
                    ward.rest = pool.lock().stand_by(bell, ward.rest.due.passed() || !woken_in_time);
                }
                due = due.min(ward.rest.due);
                if !ward.rest.is_deaf {
                    words.push(bell.standby_word());
                }
            }
            drop(inside);
            woken_in_time = futex::wait_any_of(&words, due, IN_TURN_NS);
        }
    }

    /// The whole life of the thread that calls callbacks.
    fn call_back(&self, generation: u64) {
        let mut turn = 0;
        loop {
            self.news.store(0, Ordering::Relaxed);
            let mut inside = self.lock();
            let count = inside.wards.len();
            let of = |at: usize| {
                let pool = inside.wards[at].pool.upgrade().filter(|pool| pool.lock().has_news())?;
                Some((at, pool))
            };
            let Some((at, pool)) = (turn..turn + count).find_map(|at| of(at % count)) else {
                if inside.generation != generation {
                    return;
                }
                drop(inside);
                futex_wait(&self.news, 0, FAR);
                continue;
            };
            turn = at + 1;
            let address = Arc::as_ptr(&pool);
            inside.telling = Some(pool);
            drop(inside);
            // SAFETY: held by the registry until it is taken out below.
            let pool = unsafe { &*address };
            // A callback that unwinds has nobody to unwind to; the next one is called all the same.
            let tell = || drop(tell_some(pool, pool.lock(), Deadline::after(TURN_NS)));
            let _ = catch_unwind(AssertUnwindSafe(tell));
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
    fn let_go(&self, pool: &Arc<Inner>) {
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
        // A thread that moves it on in another call may be in a callback of it: nobody is to find it gone there, but whoever lets it go itself.
        let is_driven = |inside: &Inside| inside.driving.iter().any(|driven| Arc::ptr_eq(driven, pool));
        while is_driven(&inside) && !pool.lock().is_in_callback() {
            inside = self.told.wait(inside).unwrap_or_else(PoisonError::into_inner);
        }
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
        if let Ok(mut inside) = self.inside.try_lock() {
            inside.telling.take_if(|telling| Arc::ptr_eq(telling, pool));
            inside.driving.retain(|driven| !Arc::ptr_eq(driven, pool));
        }
    }
}

impl Ward {
    fn is(&self, pool: &Arc<Inner>) -> bool {
        std::ptr::eq(self.pool.as_ptr(), Arc::as_ptr(pool))
    }
}
