//! Pools: tasks in, results out, whatever is killed in between.
//!
//! [`Pool`] is the host's handle. Its lock protects all of its books ([`state`]); a task goes from the queue into a
//! worker's ring ([`lane`]) and its result comes back from there; threads that wait do so in [`wait`]. The worker's
//! side is in [`worker`].

mod books;
pub mod call;
mod lane;
mod map;
mod options;
mod state;
mod wait;
pub mod worker;

pub use books::{Delivery, TaskId};
pub use map::{Failure, Map, MapCall, MapReport};
pub use options::{MAX_WORKERS, PoolOptions, SubmitOptions};

use crate::engine::family::Family;
use crate::engine::member::Death;
use crate::error::{Code, Error, Result};
use crate::heap::Heap;
use crate::prim::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::process::function::{Callee, Function};
use crate::process::init;
use crate::queue::ring::INLINE_INPUT;
use crate::queue::{self, Known};
use crate::sys::clock::{Deadline, Timeout, now_ns};
use crate::sys::epoll::Epoll;
use crate::sys::{fork, limits, signal};
use books::{Input, Output, State as TaskState};
use call::Kind;
use state::{State, Window};
use std::ffi::{CStr, CString};
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;
use wait::{Want, refusal, wait};

/// A pool of worker processes.
///
/// Dropping it kills the workers; [`Pool::shutdown`] lets them finish first.
#[derive(Debug)]
pub struct Pool {
    inner: Arc<Inner>,
    background: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Inner {
    /// The process that created the pool: a forked child must not touch it.
    pid: i32,
    interruptible: bool,
    workers: usize,
    heap: Arc<Heap>,
    epoll: Arc<Epoll>,
    state: Mutex<State>,
    waiter_numbers: AtomicU64,
    /// Threads that wait for the lock. Relaxed: a hint to who holds it.
    wanting: AtomicU32,
    /// The background thread is to end. Relaxed: the lock is taken before and after.
    quit: AtomicBool,
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
    /// Workers that have ended while the pool was running.
    pub worker_deaths: u64,
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
        options.check()?;
        if init::is_before_its_turn() {
            let text = "this process was started for a pool and has not come to tine_init yet";
            return Err(Error::new(Code::NO_INIT, text));
        }
        if options.worker_path.is_none() && !init::has_run() {
            return Err(Code::NO_INIT.into());
        }
        let workers =
            if options.workers == 0 { limits::available_cpus().min(MAX_WORKERS) } else { options.workers };
        let heap = Arc::new(Heap::create(options.heap_range())?);
        queue::know_heap(Known::Host(Arc::downgrade(&heap)));
        let epoll = Arc::new(Epoll::new()?);
        let family =
            Family::new(options.settings()?, options.program()?, options.start_timeout_ns(), workers);
        let window = Window { tasks: options.window_tasks(), bytes: options.window_bytes() };
        let state = State::new(Arc::clone(&heap), Arc::clone(&epoll), family, window)?;
        let inner = Arc::new(Inner {
            pid: fork::pid(),
            interruptible: options.interruptible,
            workers,
            heap,
            epoll,
            state: Mutex::new(state),
            waiter_numbers: AtomicU64::new(0),
            wanting: AtomicU32::new(0),
            quit: AtomicBool::new(false),
        });
        // From here on dropping the pool ends what has been started.
        let pool = Pool { inner, background: Mutex::new(None) };
        pool.wait_until_ready()?;
        if options.background {
            pool.start_background()?;
        }
        Ok(pool)
    }

    fn wait_until_ready(&self) -> Result<()> {
        let mut state = self.inner.lock();
        state.pump(true);
        let (_state, ready) = wait(&self.inner, state, Want::Ready, Timeout::Forever, |state| {
            if let Some(error) = &state.broken {
                return Some(Err(error.clone()));
            }
            state.family.all_ready().then_some(Ok(()))
        });
        ready
    }

    fn start_background(&self) -> Result<()> {
        let inner = Arc::clone(&self.inner);
        // The new thread inherits the mask, and with it none of the host's signals.
        let _blocked = signal::AllBlocked::new();
        let thread = std::thread::Builder::new().name("tine".to_owned()).spawn(move || {
            let state = inner.lock();
            let (_state, _) = wait(&inner, state, Want::Events, Timeout::Forever, |_| {
                inner.quit.load(Ordering::Relaxed).then_some(Ok(()))
            });
        });
        let thread = thread.map_err(|error| Error::from_io("starting the pool's thread", &error))?;
        *self.background.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(())
    }

    /// Submits one call of a function.
    pub fn submit(&self, function: Function<'_>, input: &[u8], options: &SubmitOptions) -> Result<TaskId> {
        let inner = self.inner()?;
        let mut state = inner.lock();
        let callee = resolve(&mut state, function)?;
        if input.len() > state.window.bytes {
            let text = format!("an input of {} bytes; the window is {}", input.len(), state.window.bytes);
            return Err(Error::errno(libc::EMSGSIZE, text));
        }
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
        let place = self.place_input(input)?;
        let index = state.books.open();
        let entry = state.books.get_mut(index);
        entry.kind = Kind::Task;
        entry.callee = callee;
        entry.input = place;
        entry.input_length = input.len();
        entry.user = options.user;
        if let Input::Inline = place {
            entry.inline.0[..input.len()].copy_from_slice(input);
        }
        state.books.window_tasks += 1;
        state.books.window_bytes += input.len();
        state.submitted += 1;
        let id = state.books.id_of(index);
        state.enqueue(index);
        state.move_on_after_submit();
        Ok(id)
    }

    /// Where an input travels: in the slot, or in the heap, where it may be already.
    fn place_input(&self, input: &[u8]) -> Result<Input> {
        let address = input.as_ptr().expose_provenance();
        let heap = &self.inner.heap;
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

    /// Waits for one task, and takes its result.
    pub fn wait(&self, id: TaskId, timeout: Timeout) -> Result<TaskResult> {
        let inner = self.inner()?;
        let mut state = inner.lock();
        let index = state.books.find(id)?;
        state.claim(index)?;
        let settled =
            |state: &mut State| (state.books.get(index).state == TaskState::Settled).then_some(Ok(()));
        let (mut state, waited) = wait(inner, state, Want::Task(index), timeout, settled);
        if let Err(error) = waited {
            state.unclaim(index);
            state.wake_waiters();
            return Err(error);
        }
        state.mark_taken(index);
        Ok(state.hand_over(index))
    }

    /// Waits for the next task to settle that no [`Pool::wait`] is on for, and takes its result.
    pub fn next(&self, timeout: Timeout) -> Result<TaskResult> {
        let inner = self.inner()?;
        let (mut state, taken) =
            wait(inner, inner.lock(), Want::Next, timeout, |state| match state.take_finished() {
                Some(index) => Some(Ok(index)),
                None => (!state.has_unclaimed()).then(|| Err(Code::EMPTY.into())),
            });
        let index = taken?;
        Ok(state.hand_over(index))
    }

    /// Cancels a task that has not begun; it settles as `ECANCELED`.
    pub fn cancel(&self, id: TaskId) -> Result<()> {
        let inner = self.inner()?;
        let mut state = inner.lock();
        state.pump(false);
        let index = state.books.find(id)?;
        state.cancel(index)
    }

    /// Gives the memory of a result back. That it has been given back already is fine.
    pub fn release(&self, id: TaskId) -> Result<()> {
        let mut state = self.inner()?.lock();
        let taken = |index: &u32| state.books.get(*index).state == TaskState::Taken;
        if let Some(index) = state.books.find(id).ok().filter(taken) {
            state.release(index);
        }
        Ok(())
    }

    /// Moves the pool on without waiting; how many settled tasks are there to be taken.
    pub fn poll(&self) -> Result<usize> {
        let inner = self.inner()?;
        let mut tokens = [0; 32];
        let waited = inner.epoll.wait(&mut tokens, Deadline(0));
        let mut state = inner.lock();
        state.attention_seen();
        state.pump(waited.is_ok());
        Ok(state.finished_count)
    }

    /// A descriptor that is readable when there is something to [`Pool::poll`] for. It is the pool's.
    pub fn descriptor(&self) -> Result<RawFd> {
        let inner = self.inner()?;
        let mut state = inner.lock();
        state.polled_from_outside = true;
        state.listen();
        state.pump(true);
        Ok(inner.epoll.fd())
    }

    /// Counters.
    pub fn stats(&self) -> Result<PoolStats> {
        let inner = self.inner()?;
        let mut state = inner.lock();
        state.pump(true);
        let heap = inner.heap.stats();
        Ok(PoolStats {
            workers: inner.workers,
            workers_ready: state.family.ready_count(),
            submitted: state.submitted,
            settled: state.settled,
            outstanding: state.books.outstanding,
            worker_deaths: state.family.worker_deaths,
            supervisor_deaths: state.family.supervisor_deaths,
            heap_reserved_bytes: heap.reserved_bytes,
            heap_allocated_bytes: heap.allocated_bytes,
        })
    }

    /// Takes no more tasks, waits until all have settled, and ends the workers. Results can still be taken.
    ///
    /// Where the time runs out before all tasks have settled they go on, and it can be called again.
    pub fn shutdown(&self, timeout: Timeout) -> Result<()> {
        let inner = self.inner()?;
        let mut state = inner.lock();
        state.closed = true;
        state.wake_waiters();
        let deadline = timeout.deadline();
        let idle = |state: &mut State| state.is_idle().then_some(Ok(()));
        let (mut state, idle) = wait(inner, state, Want::Idle, timeout, idle);
        idle?;
        // Workers that have nothing to do need hardly any time to end in good order, but they do need some.
        let least = Deadline::after(LEAST_LEAVING_NS);
        state.stop(deadline.max(least).min(Deadline::after(LEAVING_NS)));
        Ok(())
    }

    /// The heap.
    pub fn heap(&self) -> Result<&Heap> {
        Ok(&self.inner()?.heap)
    }

    /// The process that created the pool is the only one that may use it.
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
            // A forked child's copy: the family is its parent's. What is mapped stays mapped.
            return;
        }
        queue::forget_heap(&self.inner.heap);
        self.inner.quit.store(true, Ordering::Relaxed);
        let mut state = self.inner.lock();
        state.stop(Deadline(0));
        // The background thread, which has nothing of its own to wait for, sees that it is to end.
        state.wake_all();
        drop(state);
        if let Some(thread) = self.background.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock is a defect of tine's; the boundary reports it, and the books are still there.
        match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.wanting.fetch_add(1, Ordering::Relaxed);
                let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                self.wanting.fetch_sub(1, Ordering::Relaxed);
                state
            }
        }
    }

    /// Whether other threads wait for the lock: whoever only looks for results should let them have it.
    fn is_wanted(&self) -> bool {
        self.wanting.load(Ordering::Relaxed) > 0
    }
}

/// What a task carries to have this function called.
fn resolve(state: &mut State, function: Function<'_>) -> Result<Callee> {
    match state.family.callees_mut() {
        Some(callees) => callees.resolve(function),
        None => Err(refusal(state).unwrap_or_else(|| Code::WORKER_START.into())),
    }
}

impl State {
    /// Hands the new task out where a worker has room, and looks now and then for results while there is none.
    fn move_on_after_submit(&mut self) {
        const EVERY: u64 = 16;
        if self.submitted.is_multiple_of(EVERY) {
            self.pump(false);
        } else {
            self.feed(now_ns());
        }
    }

    /// The result of a task that has been taken. Where nothing has to be kept for it, its entry is free at once.
    fn hand_over(&mut self, index: u32) -> TaskResult {
        let id = self.books.id_of(index);
        let entry = self.books.get(index);
        let Some(outcome) = &entry.outcome else { unreachable!("a taken task has an outcome") };
        let data = match outcome.output {
            _ if outcome.output_length == 0 => std::ptr::null(),
            Output::Inline => entry.inline.0.as_ptr(),
            Output::Heap(address) => std::ptr::with_exposed_provenance(address),
        };
        let result = TaskResult {
            id,
            status: outcome.status,
            message: message_of(outcome.status, outcome.message.as_ref()),
            data,
            length: outcome.output_length,
            delivery: outcome.delivery,
            death: outcome.death.as_deref().map_or(std::ptr::null(), std::ptr::from_ref),
            user: entry.user,
        };
        let keeps = outcome.output_length > 0 || outcome.message.is_some() || outcome.death.is_some();
        if !keeps {
            self.release(index);
        }
        self.wake_waiters();
        result
    }
}

/// A result's message: its own, or the sentence of its code; empty for a success.
fn message_of(status: i32, message: Option<&CString>) -> *const std::ffi::c_char {
    let text: &CStr = match message {
        Some(message) => message,
        None if status < 0 => Code(status).text(),
        None => c"",
    };
    text.as_ptr()
}
