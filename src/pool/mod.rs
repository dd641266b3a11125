//! Pools: tasks in, results out, whatever is killed in between.
//!
//! [`Pool`] is the host's handle. Its lock protects all of its ledger (`state`); a task goes from the queue into a
//! worker's ring (`ring`) and its result comes back from there; threads that wait do so in `wait`. The worker's
//! side is in [`crate::worker`].

mod callbacks;
mod cancel;
mod chain;
mod channel_handoff;
mod deaths;
mod desk;
mod dispatch;
mod driven;
mod ending;
mod entry;
mod event_fd;
mod finished;
#[cfg(test)]
mod fuzz;
mod guest;
mod inline;
mod leader;
mod leaks;
mod ledger;
mod life;
mod lock;
mod looks;
mod map;
mod memory;
mod node_options;
mod options;
mod parcel;
mod patience;
mod recycle;
mod remote;
mod results;
mod ring_account;
mod ring_accounts;
mod shutdown;
mod standby;
mod standby_account;
mod state;
mod stats_text;
mod stream;
mod submissions;
mod submit;
mod trace;
mod turns;
mod wait;
mod waiters;
mod window;

pub use crate::family::options::{Affinity, OutputTo, WorkerOptions};
pub use crate::task::environment::Limit;
pub use crate::task::faults::Faults;
pub use callbacks::{Callbacks, OnBegin, OnSettled};
pub use driven::meanwhile;
pub(crate) use guest::Guest;
pub use ledger::{Delivery, TaskId};
pub use map::{Failure, Map, MapCall, MapReport, Progress, Schedule};
pub use options::{Engine, MAX_WORKERS, PoolOptions, SubmitOptions};
pub use stats_text::stats_text;
pub use stream::{Pull, Pulled, Stream, StreamOptions};

use crate::bootstrap;
use crate::cluster::exchange::Exchange;
use crate::error::{Code, Error, Result};
use crate::family::{self, Family};
use crate::heap::Heap;
use crate::queue::{self, Known};
use crate::sys::children::Command;
use crate::sys::clock::{Deadline, Timeout};
use crate::sys::epoll::Epoll;
use crate::sys::prim::{AtomicU32, Ordering};
use crate::sys::{fork, limits, reserve};
use crate::task::death::Death;
use crate::task::settings::Settings;
use crate::worker::run::initializer_failure;
use callbacks::tell;
pub(crate) use inline::nested_in;
use inline::{InlinePlace, run_queued};
use lock::Held;
use remote::Remote;
use standby::{CALLED, Threads};
use state::PoolState;
use std::ffi::c_void;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, OnceLock};
use trace::Trace;
use turns::Turns;
use wait::{Want, wait};

/// A pool of worker processes.
///
/// Dropping it kills the workers; [`Pool::shutdown`] lets them finish first.
#[derive(Debug)]
pub struct Pool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// The process that created the pool: a forked child must not touch it.
    pid: i32,
    /// Where there are no workers: the tasks run in this process.
    inline_place: Option<Arc<InlinePlace>>,
    interruptible: bool,
    /// The host wants no threads of tine's; and which of them know this pool. Release and Acquire: it is in the registry.
    no_thread: bool,
    guarded: AtomicU32,
    threads: OnceLock<&'static Threads>,
    /// What a task may take that says nothing of its own; 0 for as long as it likes.
    deadline_ns: u64,
    /// How many tasks can run at a time.
    workers: usize,
    /// They run on other machines, which do not have this heap.
    on_nodes: bool,
    heap: Arc<Heap>,
    epoll: Arc<Epoll>,
    state: Mutex<PoolState>,
    /// Threads that wait for the lock. Relaxed: a hint to who holds it.
    wanting: AtomicU32,
    /// One segment is shared at a time.
    sharing: Turns,
}

/// A settled task. Its memory is the pool's until [`Pool::release`].
#[derive(Debug)]
pub struct TaskResult {
    /// Which task.
    pub id: TaskId,
    /// What the function returned, or the code of what went wrong.
    pub status: i32,
    /// What the function said of its failure, or what is known of it.
    pub message: *const std::ffi::c_char,
    /// The output.
    pub data: *const u8,
    /// How long the output is.
    pub length: usize,
    /// Whether the function ran.
    pub delivery: Delivery,
    /// How its process died, if it did.
    pub death: *const Death,
    /// How many processes have died with it.
    pub deaths: u32,
    /// The word that submit was given.
    pub user: usize,
}

/// Counters of a pool.
#[derive(Clone, Copy, Debug, Default)]
pub struct PoolStats {
    /// Places for workers.
    pub workers: usize,
    /// Workers that take tasks at this moment.
    pub workers_ready: usize,
    /// Tasks submitted so far, without the chunks of maps.
    pub submitted: u64,
    /// Of these, tasks that have settled.
    pub settled: u64,
    /// Tasks and chunks that have not settled yet.
    pub outstanding: usize,
    /// Items of maps, loops and streams that have been dealt with.
    pub items_settled: u64,
    /// Of these, how many failed.
    pub items_failed: u64,
    /// Workers that are in the middle of a task; where tasks run in this process, tasks that are.
    pub workers_busy: usize,
    /// Workers that have ended while the pool was running.
    pub worker_deaths: u64,
    /// Workers that were replaced in good order.
    pub workers_recycled: u64,
    /// Supervisors that have ended while the pool was running.
    pub supervisor_deaths: u64,
    /// Bytes of memory that are reserved for the heap.
    pub heap_reserved_bytes: u64,
    /// Bytes of allocated blocks, whoever has allocated them.
    pub heap_allocated_bytes: u64,
}

impl PoolStats {
    /// How many of the outstanding have not begun.
    pub fn waiting(&self) -> usize {
        self.outstanding.saturating_sub(self.workers_busy)
    }
}

impl Pool {
    /// Starts a pool and waits until its workers are ready.
    pub fn create(options: &PoolOptions) -> Result<Pool> {
        let pool = Pool::new(options)?;
        pool.start(options)?;
        Ok(pool)
    }

    /// A pool of which nothing has been started yet.
    pub(crate) fn new(options: &PoolOptions) -> Result<Pool> {
        options.check()?;
        if let Some(exchange) = options.exchange()? {
            return Pool::of_nodes(options, exchange);
        }
        Pool::with(options, options.settings()?, options.worker.program()?)
    }

    /// One whose tasks run on other machines.
    fn of_nodes(options: &PoolOptions, exchange: Arc<Exchange>) -> Result<Pool> {
        reserve::suffices()?;
        let remote = Remote::new(Arc::clone(&exchange), options.workers)?;
        let place = queue::Place::for_heap()?;
        let heap = Arc::new(Heap::create(options.heap_range())?);
        place.know(Known::Mapped(Arc::downgrade(&heap)));
        let mut family = Family::of_nobody(Arc::new(Epoll::new()?), options.settings()?)?;
        family.page = Some(Arc::new(options.page(&heap, 0)?));
        let mut pool = Pool::build(options, heap, family, None)?;
        if let Some(inner) = Arc::get_mut(&mut pool.inner) {
            (inner.workers, inner.on_nodes) = (remote.workers().max(1), true);
        }
        let mut state = pool.inner.lock();
        state.ledger.book = Some(Box::new(exchange.book(remote.number)));
        state.remote = Some(Box::new(remote));
        drop(state);
        Ok(pool)
    }

    /// One on this machine, with these settings and this program instead of the options'.
    pub(super) fn with(options: &PoolOptions, settings: Settings, program: Option<Command>) -> Result<Pool> {
        reserve::suffices()?;
        let place = queue::Place::for_heap()?;
        let heap = Arc::new(Heap::create(options.heap_range())?);
        place.know(Known::Mapped(Arc::downgrade(&heap)));
        let epoll = Arc::new(Epoll::new()?);
        if options.inline {
            let place = InlinePlace::of_host(&heap)?;
            let mut family = Family::of_nobody(epoll, settings)?;
            family.page = Some(Arc::new(options.page(&heap, 0)?));
            return Pool::build(options, heap, family, Some(Arc::new(place)))?.traced();
        }
        let workers =
            if options.workers == 0 { limits::available_cpus().min(MAX_WORKERS) } else { options.workers };
        if options.min_workers > workers {
            let text = format!("min_workers is {}, more than the {workers} workers", options.min_workers);
            return Err(Error::invalid(text));
        }
        let mut family = Family::new(
            epoll,
            settings,
            program,
            options.worker.start_timeout_ns(),
            workers,
            bootstrap::run_forked,
        )?;
        if options.min_workers > 0 {
            family.park_from(options.min_workers);
        }
        family.page = Some(Arc::new(options.page(&heap, workers)?));
        Pool::build(options, heap, family, None)?.traced()
    }

    /// With a trace, where the environment asks for one.
    fn traced(self) -> Result<Pool> {
        let trace = Trace::asked_for(self.inner.workers)?;
        let mut state = self.inner.lock();
        state.family.traced = trace.is_some();
        state.trace = trace;
        drop(state);
        Ok(self)
    }

    /// One to which tasks submit.
    fn of_inline(heap: &Arc<Heap>, place: InlinePlace) -> Result<Pool> {
        let options = PoolOptions::default();
        let family = Family::of_nobody(Arc::new(Epoll::new()?), options.settings()?)?;
        Pool::build(&options, Arc::clone(heap), family, Some(Arc::new(place)))
    }

    /// Where tasks run in this process: the pool to which they submit.
    pub(crate) fn nested(&self) -> Option<&Pool> {
        self.inner.inline_place.as_ref()?.nested()
    }

    fn build(
        options: &PoolOptions,
        heap: Arc<Heap>,
        family: Family,
        place: Option<Arc<InlinePlace>>,
    ) -> Result<Pool> {
        let (epoll, workers) = (Arc::clone(family.epoll()), family.members.len().max(1));
        let rules = options.rules(place.clone());
        let state = PoolState::new(Arc::clone(&heap), family, rules)?;
        let inside = place.as_ref().is_some_and(|place| place.is_inside());
        let inner = Arc::new(Inner {
            pid: fork::pid(),
            inline_place: place,
            interruptible: options.interruptible,
            // What a task submits runs where that is.
            no_thread: options.no_thread || inside,
            guarded: AtomicU32::new(0),
            threads: OnceLock::new(),
            deadline_ns: options.deadline_ns,
            workers,
            on_nodes: false,
            heap,
            epoll,
            state: Mutex::new(state),
            wanting: AtomicU32::new(0),
            sharing: Turns::default(),
        });
        Ok(Pool { inner })
    }

    /// Starts what there is to start, and waits until it is ready. Dropping the pool ends it again.
    pub(crate) fn start(&self, options: &PoolOptions) -> Result<()> {
        if let Some(place) = &self.inner.inline_place {
            let settings = options.settings()?;
            settings.load_libraries()?;
            if let Some(target) = &settings.finalizer {
                place.set_finalizer(target.address()?);
            }
            if let Some((target, input)) = &settings.initializer {
                let (status, message) = place.call(target.address()?, input);
                if status < 0 {
                    let failure = initializer_failure(status, message);
                    return Err(Error::new(Code::WORKER_START, failure.text().into_owned()));
                }
            }
        }
        self.open_nodes(options)?;
        self.wait_until_ready()
    }

    /// What tasks that run in this process are to know the pool by.
    pub(crate) fn set_handle(&self, handle: *mut c_void) {
        if let Some(place) = &self.inner.inline_place {
            place.set_handle(handle);
        }
    }

    fn wait_until_ready(&self) -> Result<()> {
        let mut state = self.inner.lock();
        state.pump(true);
        let (_state, ready) = wait(&self.inner, state, Want::Ready, Timeout::Forever, |state| {
            if let Some(error) = state.life.broken() {
                return Some(Err(error.clone()));
            }
            state.all_ready().then_some(Ok(()))
        });
        ready
    }

    /// Moves the pool on without waiting; how many settled tasks are there to be taken.
    pub fn poll(&self) -> Result<usize> {
        let inner = self.inner()?;
        let mut tokens = [0; 32];
        let waited = inner.epoll.wait(&mut tokens, Deadline(0));
        let mut state = inner.lock();
        state.pump(family::tells(&waited, &tokens));
        state = tell(inner, run_queued(inner, state), Deadline::NEVER);
        state.leave();
        Ok(state.submissions.finished())
    }

    /// A descriptor that is readable when there is something to [`Pool::poll`] for. It is the pool's.
    pub fn descriptor(&self) -> Result<RawFd> {
        let inner = self.inner()?;
        inner.lock().open_event_fd()
    }

    /// Counters.
    pub fn stats(&self) -> Result<PoolStats> {
        let inner = self.inner()?;
        let mut state = inner.lock();
        state.pump(true);
        state.leave();
        let (heap, counters) = (inner.heap.stats(), state.submissions.counters());
        let nodes = state.remote.as_ref().map(|remote| (remote.workers(), remote.stats()));
        let (places, nodes) = nodes.unwrap_or_default();
        Ok(PoolStats {
            workers: state.family.members.len() + places,
            workers_ready: state.family.ready_count() + nodes.ready as usize,
            submitted: counters.submitted,
            settled: counters.settled,
            outstanding: state.ledger.outstanding,
            items_settled: counters.items,
            items_failed: counters.items_failed,
            workers_busy: inner
                .inline_place
                .as_ref()
                .map_or_else(|| state.busy_count(), |place| place.running_count())
                + nodes.busy as usize,
            worker_deaths: state.family.worker_deaths + nodes.worker_deaths,
            workers_recycled: state.family.workers_recycled + nodes.recycled,
            supervisor_deaths: state.family.supervisor_deaths + nodes.supervisor_deaths,
            heap_reserved_bytes: heap.reserved_bytes,
            heap_allocated_bytes: heap.used_bytes,
        })
    }

    /// The heap.
    #[inline]
    pub fn heap(&self) -> Result<&Heap> {
        Ok(&self.inner()?.heap)
    }

    /// The process that created the pool is the only one that may use it.
    #[inline]
    fn inner(&self) -> Result<&Inner> {
        if self.inner.pid == fork::pid() { Ok(&self.inner) } else { Err(Code::FORKED.into()) }
    }
}

impl Inner {
    /// Whether callbacks are a thread's of tine's to call.
    fn has_caller(&self) -> bool {
        self.guarded.load(Ordering::Relaxed) & CALLED != 0
    }

    fn wake_caller(&self) {
        if let Some(threads) = self.threads.get() {
            threads.wake_caller();
        }
    }

    /// Waits for the lock.
    fn want<T>(&self, lock: impl FnOnce() -> T) -> T {
        self.wanting.fetch_add(1, Ordering::Relaxed);
        let held = lock();
        self.wanting.fetch_sub(1, Ordering::Relaxed);
        held
    }

    /// Whether other threads wait for the lock: whoever only looks for results should let them have it.
    fn is_wanted(&self) -> bool {
        self.wanting.load(Ordering::Relaxed) > 0
    }
}
