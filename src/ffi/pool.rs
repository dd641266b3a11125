//! Pools

use crate::error::{Code, Error, Result};
use crate::ffi::errors::{TINE_INTERRUPTIBLE, tine_error};
use crate::ffi::guard::{Out, bytes, deadline, duration, flags, guard, guard_end, optional_str};
use crate::ffi::heap::{self, tine_heap};
use crate::ffi::options::{self, extensible};
use crate::ffi::start::tine_fn;
use crate::ffi::transport::{
    TINE_ENGINE_DEFAULT, TINE_ENGINE_LOCAL, TINE_ENGINE_MPI, TINE_ENGINE_MPI_OR_LOCAL,
};
use crate::ffi::worker_options::{start, tine_worker_options};
use crate::heap::Heap;
use crate::pool::{Engine, Pool, PoolOptions};
use crate::sys::clock::Timeout;
use crate::task::function::Function;
use crate::worker::Worker;
use crate::worker::context::Place;
use std::ffi::{c_char, c_int, c_void};

/// A pool of worker processes, or in a worker the pool that it belongs to.
pub struct tine_pool {
    kind: PoolKind,
    heap: tine_heap,
    /// With TINE_INLINE: what its tasks see.
    nested: Option<Box<tine_pool>>,
}

enum PoolKind {
    Host(Pool),
    Worker(&'static Worker),
    /// For the tasks of a pool with TINE_INLINE; that pool and this end together.
    Nested {
        pool: *const Pool,
        host: *const Pool,
    },
}

/// A fresh copy of the program becomes the supervisor, and workers are forked from it: warm, and without threads.
pub const TINE_START_FORKSERVER: c_int = 0;
/// Each worker is a fresh copy of the program: for runtimes that cannot be forked, such as Go's.
pub const TINE_START_SPAWN: c_int = 1;
/// The supervisor is forked from the host, and workers share the host's memory of that moment copy-on-write. The host
/// should have one thread: what other threads held locked at that moment stays locked in the workers.
pub const TINE_START_FORK: c_int = 2;

/// The name that the default had before: accepted, and without effect.
pub const TINE_BACKGROUND: u32 = 1 << 8;
/// Workers that crash leave core files, as far as the host's limit allows; otherwise they leave none.
pub const TINE_CORE_FILES: u32 = 1 << 9;
/// Workers keep the default dispositions of fatal signals, so deaths come without fault address and backtrace.
pub const TINE_NO_CRASH_HANDLER: u32 = 1 << 10;
/// No processes are started: everything runs in the calling one, for debuggers. A task runs before its tine_submit returns,
/// an item of a map while its caller waits, one at a time. Results, errors and windows are the same; a crash is the host's,
/// what is late or cancelled is told so and not ended, and options of worker processes have no effect.
pub const TINE_INLINE: u32 = 1 << 11;

/// The host gets no thread of tine's: its pool is moved on, and its callbacks called, in its own calls, or when tine_pool_fd
/// says so; and every promise that something happens within a time counts from its next call.
///
/// Otherwise the first call that leaves work under way when it returns (tine_submit, an item of a stream; never tine_map, nor with
/// TINE_INLINE) starts one thread for all pools of the process, which runs no code of the host's and sleeps while a thread of the
/// host's waits in tine, or nothing is to be done; the first callback asked for starts a second one, on which callbacks are
/// called one at a time. They have all signals blocked but those that the C library uses itself, and end with the last pool. What
/// a thread costs a host: unshare(CLONE_NEWUSER) and setns to a user namespace fail, and so does unshare(CLONE_THREAD); malloc
/// and stdio lock where they need not with one thread; a forked child has only the thread that forked. After unshare(CLONE_NEWPID), or
/// setns to a PID namespace, the kernel starts no threads: such a call is -EINVAL, with a text, and TINE_NO_THREAD works.
pub const TINE_NO_THREAD: u32 = 1 << 12;

/// More workers than this are refused.
pub const TINE_MAX_WORKERS: usize = 4096;

const _: () = assert!(TINE_MAX_WORKERS == crate::pool::MAX_WORKERS);

/// What a pool can be told.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tine_pool_options {
    /// sizeof(tine_pool_options).
    pub size: usize,
    /// Filled in when tine_pool_create fails; may be NULL.
    pub error: *mut tine_error,
    /// How many workers; 0: one per processor of the affinity mask, or fewer where a cgroup's CPU quota is less.
    pub workers: usize,
    /// TINE_START_FORKSERVER, TINE_START_SPAWN or TINE_START_FORK.
    pub start: c_int,
    /// TINE_INTERRUPTIBLE, TINE_CORE_FILES, TINE_NO_CRASH_HANDLER, TINE_INLINE, TINE_NO_THREAD.
    pub flags: u32,
    /// How long a task or an item may run from the moment at which its function is called, in nanoseconds, unless it
    /// has a deadline of its own; 0: as long as it likes. It is the host that ends what is late: tine's thread in it, or
    /// with TINE_NO_THREAD the thread that calls into tine or waits there.
    pub deadline_ns: i64,
    /// How long a task that is past its deadline or cancelled may still take, in nanoseconds; 0: 200 ms. At first
    /// tine_cancelled becomes true in it; after half the grace its worker gets SIGTERM, and at the end SIGKILL.
    pub grace_ns: i64,
    /// A signal that the worker gets at once when its task is to end, for functions that block; 0: none.
    pub cancel_signal: c_int,
    /// A worker is replaced after so many tasks (a chunk of a map counts as one), or up to an eighth fewer, so that
    /// they aren't all replaced at a time; 0: never.
    pub max_tasks_per_worker: u32,
    /// A worker is replaced when it is so old and has nothing to do, in nanoseconds; 0: at no age.
    pub recycle_age_ns: i64,
    /// A worker is replaced when it has more private resident memory than this after a task, in bytes; 0: never.
    pub recycle_bytes: u64,
    /// The most private resident memory that a worker may have in the middle of a task, in bytes; 0: any amount. A task
    /// that takes more fails with TINE_EMEMORY, and its worker is replaced. It is looked at every 10 ms.
    pub max_worker_bytes: u64,
    /// What the workers find around them: environment, directory, limits, processors, output. NULL: what the host has.
    pub worker: *const tine_worker_options,
    /// How long a process may take from its start until it is ready, in nanoseconds; 0: ten seconds.
    pub start_timeout_ns: i64,
    /// The program that supervisor and workers run, or a script with an interpreter; NULL: the host's own. With the ready-made
    /// one (tine_worker_path) a host need not call tine_init; functions then come from the libraries of .preload.
    pub worker_path: *const c_char,
    /// What that program is called with, besides its name: strings, with NULL at the end; or NULL. The host's own program is
    /// called with all that the host was called with.
    pub worker_arguments: *const *const c_char,
    /// Shared libraries that supervisor and workers load before anything else: paths separated by colons, or NULL.
    pub preload: *const c_char,
    /// The most that the pool's heap may grow to, in bytes; 0: 256 GiB, or a quarter of a limited address
    /// space, or the limit on file sizes.
    pub heap_bytes: usize,
    /// How many tasks may be submitted and not yet taken; 0: 1,048,576.
    pub window_tasks: usize,
    /// How many bytes their inputs may have together; 0: as much as the heap may hold.
    pub window_bytes: usize,
    /// Runs once in each worker before it takes tasks; NULL: nothing. One that fails fails tine_pool_create.
    pub initializer: tine_fn,
    /// The initializer's input; copied.
    pub initializer_input: *const c_void,
    /// Its length in bytes.
    pub initializer_length: usize,
    /// Runs once in each worker that leaves in good order, by tine_pool_shutdown or because it is replaced; NULL:
    /// nothing. One that is killed has no time for it.
    pub finalizer: tine_fn,
    /// With how many workers the pool begins, and how many it keeps; further ones, up to .workers, are started when tasks
    /// wait and no worker is free. 0: as many as .workers.
    pub min_workers: usize,
    /// How long a worker above .min_workers may have nothing to do before it ends, in nanoseconds; 0: any time. It ends as
    /// one that is replaced does. With TINE_NO_THREAD it ends in the host's next call.
    pub idle_timeout_ns: i64,
    /// Where the workers are: TINE_ENGINE_DEFAULT, TINE_ENGINE_LOCAL, TINE_ENGINE_MPI or TINE_ENGINE_MPI_OR_LOCAL. With
    /// MPI, .workers is how many each node has (0: one for each processor that its rank may use). Inputs and outputs travel
    /// as bytes: an input with an address of the pool's heap in it is refused (-EFAULT), and channels and segments are
    /// -EOPNOTSUPP.
    pub engine: c_int,
}

extensible!(tine_pool_options: Options);

/// Counters of a pool.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct tine_stats {
    /// sizeof(tine_stats).
    pub size: usize,
    /// Places for workers.
    pub workers: usize,
    /// Workers that take tasks at this moment.
    pub workers_ready: usize,
    /// Tasks submitted so far, without the chunks of maps.
    pub submitted: u64,
    /// Of these, tasks that have settled.
    pub settled: u64,
    /// Tasks and chunks of maps that have not settled yet.
    pub outstanding: u64,
    /// Workers that have died while the pool was running.
    pub worker_deaths: u64,
    /// Workers that were asked to leave, and are gone: .max_tasks_per_worker, .recycle_age_ns, .recycle_bytes, .idle_timeout_ns.
    pub workers_recycled: u64,
    /// Supervisors that have ended while the pool was running.
    pub supervisor_deaths: u64,
    /// Bytes of memory that are reserved for the heap.
    pub heap_reserved_bytes: u64,
    /// Bytes of allocated blocks in it, rounded up to block sizes: of the host, of workers, inputs and outputs.
    pub heap_allocated_bytes: u64,
    /// Items of maps, loops and streams that have been dealt with so far.
    pub items_settled: u64,
    /// Of these, items that failed.
    pub items_failed: u64,
    /// Workers that are in the middle of a task at this moment.
    pub workers_busy: usize,
    /// How many of .outstanding have not begun.
    pub waiting: u64,
}

extensible!(tine_stats);

impl tine_pool {
    /// The pool of a task, for `tine_task_pool`.
    pub(crate) fn of_task(place: Place<'_>) -> *mut tine_pool {
        match place {
            Place::Worker(worker) => tine_pool::of_worker(worker),
            Place::Inline(process) => process.worker().map_or(process.handle().cast(), tine_pool::of_worker),
        }
    }

    fn of_worker(worker: &'static Worker) -> *mut tine_pool {
        use once_cell::sync::OnceCell;
        static POOL: OnceCell<tine_pool> = OnceCell::new();
        let make = || {
            let heap = tine_heap::of_worker(worker);
            tine_pool { kind: PoolKind::Worker(worker), heap, nested: None }
        };
        let is_new = POOL.get().is_none();
        let pool = POOL.get_or_init(make);
        if is_new {
            // SAFETY: the pool is in a static, so its heap stays where it is as long as the process.
            unsafe { heap::name(&raw const pool.heap) };
        }
        std::ptr::from_ref(pool).cast_mut()
    }
}

// SAFETY: a `Pool`, a `Worker` and a heap may each be used from any thread. What a nested one points to is a `Pool`
// as well.
unsafe impl Send for tine_pool {}
// SAFETY: a shared `tine_pool` gives shared references to what it holds and no others. A `Pool`, a `Worker` and a
// heap bear being used by several threads at once.
unsafe impl Sync for tine_pool {}

/// The host's pool behind a pointer.
///
/// # Safety
/// `pointer` is null, or a pool that has not been destroyed.
pub(crate) unsafe fn host<'a>(pointer: *const tine_pool) -> Result<&'a Pool> {
    // SAFETY: by the contract above `pointer` is null or a `tine_pool` that stays until the call returns. It is only
    // read.
    match unsafe { pointer.as_ref() } {
        None => Err(Error::invalid("pool is NULL")),
        Some(tine_pool { kind: PoolKind::Host(pool), .. }) => Ok(pool),
        Some(tine_pool { kind: PoolKind::Worker(_) | PoolKind::Nested { .. }, .. }) => {
            Err(Code::WORKER.into())
        }
    }
}

/// The pool that takes tasks behind a pointer: in a worker, the one that runs them there and then.
///
/// # Safety
/// As for [`host`].
pub(crate) unsafe fn taker<'a>(pointer: *const tine_pool) -> Result<&'a Pool> {
    // SAFETY: by the contract above `pointer` is null or a `tine_pool` that stays until the call returns. It is only
    // read.
    match unsafe { pointer.as_ref() } {
        Some(tine_pool { kind: PoolKind::Worker(worker), .. }) => crate::pool::nested_in(worker),
        // SAFETY: a nested pool is part of the host's pool whose task has it, and lives as long as that. By the
        // contract above that is until the call returns.
        Some(tine_pool { kind: PoolKind::Nested { pool, .. }, .. }) => Ok(unsafe { &**pool }),
        // SAFETY: `host` asks of `pointer` what this function asks.
        _ => unsafe { host(pointer) },
    }
}

/// The heap of a pool, in the host and in a worker; null for null.
///
/// # Safety
/// As for [`host`].
#[inline(always)]
pub(crate) unsafe fn heap_of(pointer: *const tine_pool) -> *const tine_heap {
    // SAFETY: by the contract above `pointer` is null or a `tine_pool` that stays until the call returns. It is only
    // read.
    unsafe { pointer.as_ref() }.map_or(std::ptr::null(), |pool| &raw const pool.heap)
}

/// The same as the core has it.
///
/// # Safety
/// As for [`host`].
pub(crate) unsafe fn core_heap<'a>(pointer: *const tine_pool) -> Result<&'a Heap> {
    // SAFETY: by the contract above `pointer` is null or a `tine_pool` that stays until the call returns. It is only
    // read.
    match unsafe { pointer.as_ref() } {
        None => Err(Error::invalid("pool is NULL")),
        Some(tine_pool { kind: PoolKind::Host(pool), .. }) => pool.heap(),
        Some(tine_pool { kind: PoolKind::Worker(worker), .. }) => worker.heap(),
        // SAFETY: a nested pool is part of the host's pool whose task has it, and lives as long as that. By the
        // contract above that is until the call returns.
        Some(tine_pool { kind: PoolKind::Nested { pool, .. }, .. }) => unsafe { &**pool }.heap(),
    }
}

/// Whether every process of the pool can use these bytes.
///
/// # Safety
/// As for [`host`].
pub(crate) unsafe fn is_shared(pointer: *const tine_pool, address: usize, length: usize) -> Result<bool> {
    // SAFETY: by the contract above `pointer` is null or a `tine_pool` that stays until the call returns. It is only
    // read.
    match unsafe { pointer.as_ref() } {
        None => Err(Error::invalid("pool is NULL")),
        Some(tine_pool { kind: PoolKind::Host(pool), .. }) => pool.is_shared(address, length),
        Some(tine_pool { kind: PoolKind::Worker(worker), .. }) => worker.is_shared(address, length),
        Some(tine_pool { kind: PoolKind::Nested { host, .. }, .. }) => {
            // SAFETY: a nested pool is part of the host's pool whose task has it, and lives as long as that. By the
            // contract above that is until the call returns.
            unsafe { &**host }.is_shared(address, length)
        }
    }
}

/// The function that a caller names: by its address, or by its name where there is no address.
///
/// # Safety
/// `name` is null, or a string that lives for the whole of `'a`.
pub(crate) unsafe fn function<'a>(address: *const c_void, name: *const c_char) -> Result<Function<'a>> {
    // SAFETY: `optional_str` asks of `name` what this function asks.
    match (address.is_null(), unsafe { optional_str(name) }) {
        (false, None) => Ok(Function::Pointer(address)),
        (true, Some(name)) => name
            .to_str()
            .map(Function::Name)
            .map_err(|_| Error::new(Code::NAME, "the function's name is not UTF-8")),
        (true, None) => Err(Error::new(Code::FUNCTION, "fn is NULL and there is no .name")),
        (false, Some(_)) => Err(Error::invalid("both fn and .name are given")),
    }
}

impl tine_pool_options {
    /// # Safety
    /// What the fields point to is there for as long as the result is used, strings and arrays as the fields' texts say.
    unsafe fn read(&self) -> Result<PoolOptions<'_>> {
        const FLAGS: u32 = TINE_INTERRUPTIBLE
            | TINE_BACKGROUND
            | TINE_NO_THREAD
            | TINE_CORE_FILES
            | TINE_NO_CRASH_HANDLER
            | TINE_INLINE;
        flags(self.flags, FLAGS)?;
        // SAFETY: by the contract above what the fields point to is there until tine_pool_create returns: strings,
        // arrays as long as their counts, bytes as many as their length.
        let (worker, input) = unsafe {
            let input = self.initializer_input.cast();
            (start!(self).read()?, bytes(input, self.initializer_length, "initializer_input")?)
        };
        if self.initializer.is_none() && !input.is_empty() {
            return Err(Error::invalid("initializer_input is given without an initializer"));
        }
        Ok(PoolOptions {
            worker,
            workers: self.workers,
            min_workers: self.min_workers,
            idle_timeout_ns: duration(self.idle_timeout_ns, "idle_timeout_ns")?,
            deadline_ns: deadline(self.deadline_ns, "deadline_ns")?.unwrap_or(0),
            grace_ns: duration(self.grace_ns, "grace_ns")?,
            cancel_signal: self.cancel_signal,
            max_tasks_per_worker: self.max_tasks_per_worker,
            recycle_age_ns: duration(self.recycle_age_ns, "recycle_age_ns")?,
            recycle_bytes: self.recycle_bytes,
            max_worker_bytes: self.max_worker_bytes,
            window_tasks: self.window_tasks,
            window_bytes: self.window_bytes,
            initializer: self.initializer.map(|function| Function::Pointer(function as *const c_void)),
            initializer_input: input,
            finalizer: self.finalizer.map(|function| Function::Pointer(function as *const c_void)),
            interruptible: self.flags & TINE_INTERRUPTIBLE != 0,
            inline: self.flags & TINE_INLINE != 0,
            no_thread: self.flags & TINE_NO_THREAD != 0,
            engine: match self.engine {
                TINE_ENGINE_DEFAULT => Engine::Default,
                TINE_ENGINE_LOCAL => Engine::Local,
                TINE_ENGINE_MPI => Engine::Mpi,
                TINE_ENGINE_MPI_OR_LOCAL => Engine::MpiOrLocal,
                other => return Err(Error::invalid(format!("engine is {other}, which is none"))),
            },
        })
    }
}

/// Starts a pool, and waits until its workers are ready.
///
/// The host gets no child that it could see, no signal handler, and no thread yet (see TINE_NO_THREAD). Workers have
/// default signal dispositions, and end with the host. Of the host's descriptors they have the standard ones alone
/// (standard input is empty); beside those a few of tine's, close-on-exec. What the program's own code closes of these,
/// in a worker or in the host, is not used any more: a worker works on, but its part of the heap cannot grow, and it ends
/// when it is to get a segment or a channel; a host that has closed the pool's has its tasks settled with
/// TINE_EWORKERSTART.
///
/// Parameters: options: NULL for all defaults. out: where the pool goes.
/// Returns 0; TINE_ENOINIT: tine_init has not run and no .worker_path is given; TINE_EWORKERSTART: the processes could
/// not be started, or end as soon as they are; TINE_EFUNCTION, TINE_EMODULE: the initializer is not a function of the
/// workers; -EINVAL, -E2BIG: bad options, or variables of the environment; -ENOENT: no such .worker_path, no folder for
/// the file of TINE_TRACE, or no libtine-mpi; -ENODEV: no nodes for TINE_ENGINE_MPI; TINE_EVERSION: a node runs another
/// build; -ENOSYS: the kernel is too old; -ENOMEM, -EMFILE. The options' .error says which. An initializer that fails
/// is TINE_EWORKERSTART.
/// Ownership: tine_pool_destroy ends it. Threads: any. Fork: a child may create pools of its own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_pool_create(
    options: *const tine_pool_options,
    out: *mut *mut tine_pool,
) -> c_int {
    // SAFETY: `options` is NULL or as long as its `.size` says, what it points to is there until this returns, and
    // `out` is NULL or can be written, as the header asks.
    unsafe { options::with(options, |options| create(options, out).map(|()| 0)) }
}

/// # Safety
/// What the options point to is there until this returns, and `out` is null or can be written.
unsafe fn create(options: Option<&tine_pool_options>, out: *mut *mut tine_pool) -> Result<()> {
    // SAFETY: by the contract above `out` is null or can be written.
    let out = unsafe { Out::required(out, "out") }?;
    let options = match options {
        // SAFETY: `read` asks of what the options point to what this function asks.
        Some(options) => unsafe { options.read() }?,
        None => PoolOptions::default(),
    };
    let core = Pool::new(&options)?;
    let heap = tine_heap::of_host(core.heap()?);
    let pointer = Box::into_raw(Box::new(tine_pool { kind: PoolKind::Host(core), heap, nested: None }));
    // SAFETY: `pointer` has just left its box and nobody else has it, so this is the only use of the pool. It stays
    // where it is until it is destroyed.
    let started = unsafe {
        // The heap lists what the pool knows of its workers.
        (*pointer).heap.belongs_to(pointer);
        heap::name(&raw const (*pointer).heap);
        let core = host(pointer)?;
        if let Some(nested) = core.nested() {
            let heap = tine_heap::of_task(core.heap()?);
            let mut inside = Box::new(tine_pool {
                kind: PoolKind::Nested { pool: nested, host: core },
                heap,
                nested: None,
            });
            core.set_handle((&raw mut *inside).cast());
            (*pointer).nested = Some(inside);
        }
        core.start(&options)
    };
    match started {
        Ok(()) => out.set(pointer),
        // SAFETY: `pointer` left its box above, and nobody has been given it: `out` is not set.
        Err(_) => drop(unsafe { Box::from_raw(pointer) }),
    }
    started
}

/// Takes no more tasks, waits until all have settled, and ends the workers in good order. Results can still be taken.
///
/// That lets everything run to its end. To end sooner, call it with 0, so that nothing more comes, then tine_cancel_queued
/// (what has not begun never does) or tine_cancel_all (what runs is ended, too), and then call it again;
/// tine_pool_destroy alone kills.
///
/// Parameters: pool; timeout_ns: how long to wait for the tasks. Workers that have nothing to do any more get what is
/// left of it to leave, though at least 50 ms and at most a second, and then are killed. 0 does not wait for them either:
/// they get the second.
/// Returns 0: the workers have ended; -ETIMEDOUT: tasks are still under way; -EAGAIN (0 ns): tasks are, or workers are
/// still ending; both go on, and it may be called again; -EINTR; -EINVAL: NULL; TINE_EWORKER.
/// Threads: any. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_pool_shutdown(pool: *mut tine_pool, timeout_ns: i64) -> c_int {
    guard(|| {
        // SAFETY: `pool` is NULL, or a pool that tine gave and that has not been destroyed, as the header asks.
        unsafe { host(pool) }?.shutdown(Timeout::from_ns(timeout_ns))?;
        Ok(0)
    })
}

/// Ends a pool with everything that is its: workers are killed, results and the heap's memory are gone.
///
/// Parameters: pool: may be NULL. No other thread may be in a call on it.
/// Fork: in a child it forgets the pool, which goes on in the parent.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_pool_destroy(pool: *mut tine_pool) {
    guard_end(|| {
        // SAFETY: `pool` is NULL, or a pool that tine gave and that has not been destroyed, as the header asks.
        if unsafe { host(pool) }.is_ok() {
            // SAFETY: it is a host's, and those come from `Box::into_raw` in `create` alone. As the text above asks,
            // no other thread is in a call on the pool, and this call is the last.
            drop(unsafe { Box::from_raw(pool) });
        }
    });
}

/// A descriptor that is readable when there is something to call tine_pool_poll for: a result, a death, a worker that
/// runs out of tasks. For poll, select, epoll; not to be read or closed.
///
/// Returns the descriptor, which stays the pool's; -EINVAL: NULL; TINE_EFORKED, TINE_EWORKER. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_pool_fd(pool: *mut tine_pool) -> c_int {
    // SAFETY: `pool` is NULL, or a pool that tine gave and that has not been destroyed, as the header asks.
    guard(|| unsafe { host(pool) }?.descriptor())
}

/// Moves the pool on without waiting.
///
/// Returns how many results tine_next could take at once; -EINVAL: NULL; TINE_EFORKED, TINE_EWORKER. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_pool_poll(pool: *mut tine_pool) -> c_int {
    guard(|| {
        // SAFETY: `pool` is NULL, or a pool that tine gave and that has not been destroyed, as the header asks.
        let finished = unsafe { taker(pool) }?.poll()?;
        Ok(c_int::try_from(finished).unwrap_or(c_int::MAX))
    })
}

/// Counters of a pool.
///
/// Parameters: pool; out: a tine_stats, with its .size set.
/// Returns 0; -EINVAL; TINE_EFORKED, TINE_EWORKER. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_pool_stats(pool: *mut tine_pool, out: *mut tine_stats) -> c_int {
    guard(|| {
        // SAFETY: `pool` is NULL, or a pool that tine gave and that has not been destroyed, as the header asks.
        let pool = unsafe { host(pool) }?;
        // SAFETY: `out` is NULL, or a struct that can be written as far as its `.size` says, as the header asks.
        unsafe { options::check(out) }?;
        let stats = pool.stats()?;
        let stats = tine_stats {
            size: 0,
            workers: stats.workers,
            workers_ready: stats.workers_ready,
            submitted: stats.submitted,
            settled: stats.settled,
            outstanding: stats.outstanding as u64,
            worker_deaths: stats.worker_deaths,
            workers_recycled: stats.workers_recycled,
            supervisor_deaths: stats.supervisor_deaths,
            heap_reserved_bytes: stats.heap_reserved_bytes,
            heap_allocated_bytes: stats.heap_allocated_bytes,
            items_settled: stats.items_settled,
            items_failed: stats.items_failed,
            workers_busy: stats.workers_busy,
            waiting: stats.waiting() as u64,
        };
        // SAFETY: `out` can be written as far as its `.size` says, as the header asks. `check` has refused NULL.
        unsafe { options::fill(out, &stats) }?;
        Ok(0)
    })
}
