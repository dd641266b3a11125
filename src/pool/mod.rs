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
mod event_fd;
mod finished;
#[cfg(test)]
mod fuzz;
mod held;
mod inline;
mod job;
mod leader;
mod leaks;
mod ledger;
mod life;
mod map;
mod maps;
mod options;
mod progress;
mod recycle;
mod results;
mod ring_account;
mod ring_accounts;
mod schedule;
mod split;
mod standby;
mod standby_account;
mod state;
mod stream;
mod submissions;
mod turns;
mod wait;
mod waiters;
mod window;

pub use crate::family::options::{Affinity, OutputTo, WorkerOptions};
pub use crate::task::environment::Limit;
pub use callbacks::{Callbacks, OnBegin, OnSettled};
pub use driven::meanwhile;
pub use ledger::{Delivery, TaskId};
pub use map::{Failure, Map, MapCall, MapReport};
pub use options::{MAX_WORKERS, PoolOptions, SubmitOptions};
pub use progress::Progress;
pub use schedule::Schedule;
pub use stream::{Pull, Pulled, Stream, StreamOptions};

use crate::bootstrap;
use crate::channel::Channel;
use crate::check;
use crate::error::{Code, Error, Result};
use crate::family::Family;
use crate::heap::Heap;
use crate::heap::own::Process;
use crate::heap::segment::Segment;
use crate::queue::{self, Known};
use crate::sys::clock::{Deadline, Moment, Timeout, now_ns};
use crate::sys::epoll::Epoll;
use crate::sys::prim::{AtomicU32, Ordering};
use crate::sys::{fork, limits, reserve};
use crate::task::call::Kind;
use crate::task::death::Death;
use crate::task::function::{Callee, Function};
use crate::task::ring::INLINE_INPUT;
use crate::task::share::Share;
use crate::worker::run::initializer_failure;
use crate::worker::start;
use callbacks::tell;
use held::Held;
pub(crate) use inline::nested_in;
use inline::{InlinePlace, run_queued};
use ledger::NewTask;
use ledger::{Input, State as TaskState};
use standby::{CALLED, Threads};
use state::State;
use std::ffi::c_void;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, OnceLock, TryLockError};
use turns::Turns;
use wait::{Want, refusal, wait};

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
    heap: Arc<Heap>,
    epoll: Arc<Epoll>,
    state: Mutex<State>,
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
        reserve::suffices()?;
        let heap = Arc::new(Heap::create(options.heap_range())?);
        queue::know_heap(Known::Mapped(Arc::downgrade(&heap)));
        let settings = options.settings()?;
        let epoll = Arc::new(Epoll::new()?);
        if options.inline {
            let place = InlinePlace::of_host(&heap)?;
            return Pool::build(options, heap, Family::of_nobody(epoll, settings)?, Some(Arc::new(place)));
        }
        let workers =
            if options.workers == 0 { limits::available_cpus().min(MAX_WORKERS) } else { options.workers };
        if options.min_workers > workers {
            let text = format!("min_workers is {}, more than the {workers} workers", options.min_workers);
            return Err(Error::invalid(text));
        }
        let program = options.worker.program()?;
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
        Pool::build(options, heap, family, None)
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
        let state = State::new(Arc::clone(&heap), family, rules)?;
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
            state.family.all_ready().then_some(Ok(()))
        });
        ready
    }

    /// Submits one call of a function. An end of a channel that goes with it is still the caller's to drop.
    pub fn submit(&self, function: Function<'_>, input: &[u8], options: SubmitOptions<'_>) -> Result<TaskId> {
        let inner = self.inner()?;
        reserve::suffices()?;
        self.guard(options.callbacks.on_begin.is_some() || options.callbacks.on_settled.is_some())?;
        let mut state = inner.lock();
        let callee = resolve(inner, &mut state, function)?;
        state.submissions.window().check("an input", "the window", input.len())?;
        if let Some(error) = refusal(&state) {
            return Err(error);
        }
        if !state.has_room(input.len()) {
            let entered;
            (state, entered) = wait(inner, state, Want::Room(input.len()), options.timeout, |state| {
                refusal(state).map(Err).or_else(|| state.has_room(input.len()).then_some(Ok(())))
            });
            entered?;
        }
        let end = options.channel.map(Channel::share_end).transpose()?;
        let place = inner.place_input(input)?;
        let room = state.make_room_to_enqueue(options.queue_deadline_ns.is_some());
        let room = room.and_then(|()| state.make_room_to_tell(&options.callbacks));
        let task = NewTask {
            user: options.user,
            deadline_ns: options.deadline_ns.unwrap_or(inner.deadline_ns),
            queue_due_ns: options.queue_deadline_ns.map_or(0, |ns| now_ns().saturating_add(ns)),
            retries: options.retries,
            end,
            ..NewTask::new(Kind::Task, callee, place, input)
        };
        let index =
            room.and_then(|()| state.ledger.enter(task)).inspect_err(|_| inner.take_input_back(place))?;
        state.expect(index, options.callbacks);
        state.submissions.enter(input.len());
        let id = state.ledger.id_of(index);
        if check::is_on() {
            check::look_through(input, || format!("task {:#x} ({}), input", id.0, function.describe()));
        }
        state.enqueue(index);
        state.move_on_after_submit(index);
        run_queued(inner, state).leave();
        Ok(id)
    }

    /// Moves the pool on without waiting; how many settled tasks are there to be taken.
    pub fn poll(&self) -> Result<usize> {
        let inner = self.inner()?;
        let mut tokens = [0; 32];
        let waited = inner.epoll.wait(&mut tokens, Deadline(0));
        let mut state = inner.lock();
        state.pump(waited.is_ok());
        state = tell(inner, run_queued(inner, state));
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
        let (heap, counters) = (inner.heap.stats(), state.submissions.counters());
        Ok(PoolStats {
            workers: state.family.members.len(),
            workers_ready: state.family.ready_count(),
            submitted: counters.submitted,
            settled: counters.settled,
            outstanding: state.ledger.outstanding,
            items_settled: counters.items,
            items_failed: counters.items_failed,
            workers_busy: inner
                .inline_place
                .as_ref()
                .map_or_else(|| state.busy_count(), |place| place.running_count()),
            worker_deaths: state.family.worker_deaths,
            workers_recycled: state.family.workers_recycled,
            supervisor_deaths: state.family.supervisor_deaths,
            heap_reserved_bytes: heap.reserved_bytes,
            heap_allocated_bytes: heap.used_bytes,
        })
    }

    /// Takes no more tasks, waits until all have settled, and ends the workers. Results can still be taken.
    ///
    /// Where the time runs out before all tasks have settled they go on, and it can be called again.
    pub fn shutdown(&self, timeout: Timeout) -> Result<()> {
        let inner = self.inner()?;
        let mut state = inner.lock();
        state.life.close();
        state.waiters.desk.tell_everybody();
        let deadline = timeout.deadline();
        let idle = |state: &mut State| state.is_idle().then_some(Ok(()));
        let (mut state, idle) = wait(inner, state, Want::Idle, timeout, idle);
        idle?;
        if state.closing() {
            let gone = |state: &mut State| state.life.is_gone().then_some(Ok(()));
            return wait(inner, state, Want::Gone, timeout.what_is_left(deadline), gone).1;
        }
        // Workers that have nothing to do need hardly any time to end in good order, but they do need some.
        let least = Deadline::after(LEAST_LEAVING_NS);
        let leaving = state.begin_to_stop(deadline.max(least).min(Deadline::after(LEAVING_NS)));
        // Other threads' calls, which may have promised not to wait, do not wait for this.
        drop(state);
        if let Some(leaving) = leaving {
            leaving.wait();
        }
        inner.lock().stopped();
        if let Some(place) = &inner.inline_place {
            place.finalize();
        }
        Ok(())
    }

    /// What each process has allocated: the host, the workers, and those that have died and left blocks.
    pub fn heap_usage(&self) -> Result<Vec<Process>> {
        let inner = self.inner()?;
        let mut state = inner.lock();
        state.pump(true);
        let (dead, mut usage) = (inner.heap.dead(), inner.heap.usage());
        let host = usage.remove(&crate::heap::HOST).unwrap_or_default();
        let mut all = vec![Process { pid: inner.pid, alive: true, usage: host }];
        for (slot, member) in state.family.members.iter().enumerate().filter(|(_, member)| member.pid != 0) {
            let usage = usage.get(&start::owner_of(slot as u32)).copied().unwrap_or_default();
            all.push(Process { pid: member.pid, alive: true, usage });
        }
        all.extend(dead.into_iter().map(|(pid, usage)| Process { pid, alive: false, usage }));
        Ok(all)
    }

    /// Has a segment mapped in every worker, at the address that it has here, and in those to come.
    ///
    /// Workers that are busy do it before their next task. Where one cannot, nothing is shared: that worker ends, and
    /// its place is filled anew.
    pub fn share(&self, segment: &Segment, timeout: Timeout) -> Result<()> {
        let inner = self.inner()?;
        let deadline = timeout.deadline();
        let _turn = inner.sharing.take(timeout, deadline)?;
        let share = Share::new(segment)?;
        let mut state = inner.lock();
        if let Some(error) = refusal(&state) {
            return Err(error);
        }
        let (address, length) = (segment.address(), segment.size());
        if state.family.is_shared(address, length) {
            return Err(Error::errno(
                libc::EALREADY,
                format!("the segment at {address:#x} is shared already"),
            ));
        }
        if inner.heap.overlaps(address, length) {
            return Err(Error::errno(
                libc::EEXIST,
                format!("the segment at {address:#x} lies in the heap's range"),
            ));
        }
        state.family.share(share)?;
        let (mut state, shared) =
            wait(inner, state, Want::Shared, timeout.what_is_left(deadline), State::sharing_answer);
        state.family.end_sharing(shared.is_ok());
        shared
    }

    /// Whether every worker can use these bytes: memory of the heap, or of a segment that is shared.
    pub fn is_shared(&self, address: usize, length: usize) -> Result<bool> {
        let inner = self.inner()?;
        Ok(inner.heap.contains(address, length) || inner.lock().family.is_shared(address, length))
    }

    /// Frees the blocks that a process had when it died; how many there were.
    pub fn release_process(&self, pid: i32) -> Result<usize> {
        let inner = self.inner()?;
        let mut state = inner.lock();
        state.pump(true);
        if pid == inner.pid || state.family.members.iter().any(|member| member.pid == pid && pid != 0) {
            return Err(Error::errno(libc::EBUSY, format!("process {pid} is not known to have ended")));
        }
        Ok(inner.heap.release_process(pid))
    }

    /// Gives everything back that has not been taken, but for what somebody waits for, or is to be told.
    fn forget_results(&self) {
        let mut state = tell(&self.inner, self.inner.lock());
        for index in state.ledger.places() {
            if state.ledger.get(index).claimed || !state.ledger.get(index).is_a_callers() {
                continue;
            }
            if state.ledger.get(index).state == TaskState::Settled {
                let parts = &mut *state;
                parts.submissions.take_away(&mut parts.ledger, index);
                state.note_taken();
            }
            if state.ledger.get(index).state == TaskState::Taken {
                state.release(index);
            }
        }
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

/// How long workers that have nothing to do may take to end in good order.
const LEAVING_NS: u64 = 1_000_000_000;
const LEAST_LEAVING_NS: u64 = 50_000_000;

impl Drop for Pool {
    fn drop(&mut self) {
        if self.inner.pid != fork::pid() {
            self.forget_in_child();
            return;
        }
        if self.inner.inline_place.as_ref().is_none_or(|place| !place.is_inside()) {
            queue::forget_heap(&self.inner.heap);
        }
        let leaving = self.inner.lock().begin_to_stop(Deadline(0));
        if let Some(leaving) = leaving {
            leaving.wait();
        }
        let mut state = self.inner.lock();
        state.stopped();
        if check::is_on() {
            state.list_leaks(self.inner.pid);
        }
        drop(state);
        // Whoever has been promised a call gets one, of tasks that settled as cancelled just now, too.
        if let Some(threads) = self.inner.threads.get() {
            threads.let_go(&self.inner);
        }
        drop(tell(&self.inner, self.inner.lock()));
    }
}

impl Pool {
    /// In a forked child: the family is its parent's; the memory and the descriptors are its own to give back.
    fn forget_in_child(&self) {
        if let Some(threads) = self.inner.threads.get() {
            threads.forget_in_child(&self.inner);
        }
        // A thread that is not here was in the middle of something: what it was at cannot be taken apart.
        if let Err(TryLockError::WouldBlock) = self.inner.state.try_lock() {
            std::mem::forget(Arc::clone(&self.inner));
        }
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

    /// Where an input travels: in the slot, or in the heap, where it may be already.
    fn place_input(&self, input: &[u8]) -> Result<Input> {
        let address = input.as_ptr().expose_provenance();
        let heap = &self.heap;
        if !input.is_empty() && heap.overlaps(address, input.len()) {
            if !heap.contains(address, input.len()) {
                let text = format!("the input at {address:#x} reaches beyond the heap");
                return Err(Error::errno(libc::EFAULT, text));
            }
            return Ok(Input::Heap { address, owned: false });
        }
        if input.len() <= INLINE_INPUT {
            return Ok(Input::Inline);
        }
        let block = heap.allocate(input.len())?;
        // SAFETY: a new block, as long as the input.
        unsafe { std::ptr::copy_nonoverlapping(input.as_ptr(), block.as_ptr(), input.len()) };
        Ok(Input::Heap { address: block.as_ptr().expose_provenance(), owned: true })
    }

    /// An input that nobody is to have after all.
    fn take_input_back(&self, input: Input) {
        if let Input::Heap { address, owned: true } = input {
            let _ = self.heap.free_address(address);
        }
    }

    /// Whether other threads wait for the lock: whoever only looks for results should let them have it.
    fn is_wanted(&self) -> bool {
        self.wanting.load(Ordering::Relaxed) > 0
    }
}

/// What a task carries to have this function called.
fn resolve(inner: &Inner, state: &mut State, function: Function<'_>) -> Result<Callee> {
    match state.family.callees_mut() {
        Some(callees) => {
            if let Some(place) = &inner.inline_place {
                place.refresh(callees);
            }
            callees.resolve(function)
        }
        None => Err(refusal(state).unwrap_or_else(|| Code::WORKER_START.into())),
    }
}

impl State {
    /// Hands the new task out where a worker has room, and looks now and then for results while there is none.
    fn move_on_after_submit(&mut self, index: u32) {
        const EVERY: u64 = 16;
        let entry = self.ledger.get(index);
        // When it has to be looked at is for the pump to say.
        let timed = entry.deadline_ns != 0 || entry.queue_due_ns != 0;
        if timed || self.submissions.counters().submitted.is_multiple_of(EVERY) {
            self.pump(false);
        } else {
            self.feed(&Moment::default());
            self.grow();
            // Whoever looks from outside has nobody to look at the clock for him.
            if self.waiters.is_looked_at() {
                let due = self.next_look(now_ns());
                if let Some(event_fd) = &mut self.waiters.event_fd {
                    event_fd.set_timer_by(due);
                }
            }
        }
    }
}
