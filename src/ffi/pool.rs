//! Pools

use crate::error::{Code, Error, Result};
use crate::ffi::errors::{TINE_INTERRUPTIBLE, tine_error};
use crate::ffi::faults::tine_faults;
use crate::ffi::guard::{Out, bytes, deadline, duration, flags, guard, guard_end, optional_str};
use crate::ffi::heap::{self, tine_heap};
use crate::ffi::options::{self, extensible};
use crate::ffi::start::tine_fn;
use crate::ffi::transport::{
    TINE_ENGINE_DEFAULT, TINE_ENGINE_LOCAL, TINE_ENGINE_MPI, TINE_ENGINE_MPI_OR_LOCAL,
};
use crate::ffi::worker_options::{start, tine_worker_options};
use crate::heap::Heap;
use crate::pool::{Engine, Faults, Pool, PoolOptions};
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

/// A fresh copy of the program becomes the supervisor, and workers are forked from the supervisor: they start warm,
/// and without threads.
pub const TINE_START_FORKSERVER: c_int = 0;
/// Each worker is a fresh copy of the program. It is for runtimes that cannot be forked, such as Go's.
pub const TINE_START_SPAWN: c_int = 1;
/// The supervisor is forked from the host, and workers share the host's memory of that moment copy-on-write. The host
/// should have one thread: what its other threads held locked at that moment stays locked in the workers.
pub const TINE_START_FORK: c_int = 2;

/// Workers that crash leave core files, as far as the host's limit allows. Without this flag they leave none.
pub const TINE_CORE_FILES: u32 = 1 << 9;
/// Workers keep the default dispositions of fatal signals. So reports of deaths have no fault address and no
/// backtrace.
pub const TINE_NO_CRASH_HANDLER: u32 = 1 << 10;
/// No processes are started, and everything runs in the calling one, for debuggers. A task runs before its
/// tine_submit returns. An item of a map runs while the caller of the map waits, one at a time.
/// Results, errors and windows are those of a pool with workers. A crash ends the host. A task that is late or
/// cancelled is told so, and is not ended. Options of worker processes have no effect.
pub const TINE_INLINE: u32 = 1 << 11;

/// The host gets no thread of tine's. Its pools are moved on, and its callbacks are called, in its own calls, to
/// which tine_pool_fd is the cue. Every promise that something happens within a time counts from the host's next
/// call. A tine_channel_send with a timeout of 0 moves no pool on, because a signal handler may call it.
///
/// Without this flag, the first call that leaves work under way when it returns starts one thread for all pools of
/// the process. Such a call is tine_submit, or one that puts an item into a stream; never tine_map, and none with
/// TINE_INLINE. The thread runs no code of the host's. It sleeps while nothing is to be done, and while a thread of
/// the host's waits in tine. The first callback that is asked for starts a second thread, on which callbacks are
/// called one at a time. Both threads block all signals but those that the C library uses itself, and end with the
/// last pool.
///
/// What a thread costs a host: unshare(CLONE_NEWUSER), setns to a user namespace, and unshare(CLONE_THREAD) fail.
/// malloc and stdio lock, which they need not do in a process with one thread. A forked child has only the thread
/// that forked. After unshare(CLONE_NEWPID), or setns to a PID namespace, the kernel starts no threads: a call that
/// needs one returns -EINVAL, with a text. TINE_NO_THREAD works there.
pub const TINE_NO_THREAD: u32 = 1 << 12;

/// The most workers that a pool may have.
pub const TINE_MAX_WORKERS: usize = 4096;

const _: () = assert!(TINE_MAX_WORKERS == crate::pool::MAX_WORKERS);

/// Options of tine_pool_create.
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
    /// How long a task or an item may run, in nanoseconds from the moment at which its function is called; 0: without
    /// a limit. A deadline of the task's own takes its place. The host ends what is late: by tine's thread in it, or
    /// with TINE_NO_THREAD by a thread that calls into tine or waits there.
    pub deadline_ns: i64,
    /// How long a task that is past its deadline, or cancelled, may go on, in nanoseconds; 0: 200 ms. At first
    /// tine_cancelled becomes true in the task. After half of the grace its worker gets SIGTERM, and at the end
    /// SIGKILL.
    pub grace_ns: i64,
    /// A signal that the worker gets at once when its task is to end, for functions that block; 0: none.
    pub cancel_signal: c_int,
    /// How many tasks a worker carries out before it is replaced, where a chunk of a map counts as one; 0: any
    /// number. A worker may be replaced up to an eighth earlier, so that not all workers are replaced at the same
    /// time.
    pub max_tasks_per_worker: u32,
    /// The age at which a worker is replaced, in nanoseconds, once it has nothing to do; 0: never.
    pub recycle_age_ns: i64,
    /// A worker that has more private resident memory than this after a task is replaced, in bytes; 0: never. With
    /// TINE_START_FORK, what the worker has when it becomes ready does not count: it is the host's for the most part.
    pub recycle_bytes: u64,
    /// The most private resident memory that a worker may have in the middle of a task, in bytes; 0: any amount. A
    /// task that takes more fails with TINE_EMEMORY, and its worker is replaced. What counts is as in .recycle_bytes.
    /// The memory is looked at every 10 ms.
    pub max_worker_bytes: u64,
    /// The environment of the workers: variables, directory, limits, processors, output. NULL: the host's.
    pub worker: *const tine_worker_options,
    /// How long a process may take from its start until it is ready, in nanoseconds; 0: ten seconds.
    pub start_timeout_ns: i64,
    /// The program that supervisor and workers run, or a script with an interpreter; NULL: the host's own program.
    /// With the ready-made program (tine_worker_path) a host need not call tine_init, and functions come from the
    /// libraries of .preload.
    pub worker_path: *const c_char,
    /// The arguments of that program, without its name: strings, with NULL at the end; NULL: none. The host's own
    /// program gets all arguments of the host.
    pub worker_arguments: *const *const c_char,
    /// Shared libraries that supervisor and workers load before anything else: paths, separated by colons; NULL:
    /// none.
    pub preload: *const c_char,
    /// The most that the pool's heap may grow to, in bytes; 0: 256 GiB, or less where the limit of the address space
    /// (a quarter of it) or the limit on file sizes is less.
    pub heap_bytes: usize,
    /// How many tasks may be submitted whose results have not been taken; 0: 1,048,576.
    pub window_tasks: usize,
    /// How many bytes the inputs of these tasks may have together; 0: as many as the heap may hold.
    pub window_bytes: usize,
    /// Runs once in each worker before it takes tasks; NULL: nothing runs. Where the initializer fails,
    /// tine_pool_create fails.
    pub initializer: tine_fn,
    /// The input of the initializer, which is copied; NULL: none.
    pub initializer_input: *const c_void,
    /// The length of .initializer_input in bytes.
    pub initializer_length: usize,
    /// Runs once in each worker that leaves in good order, because of tine_pool_shutdown or because it is replaced;
    /// NULL: nothing runs. A worker that is killed does not run it.
    pub finalizer: tine_fn,
    /// How many workers the pool begins with, and how many it keeps. More workers, up to .workers, are started when
    /// tasks wait and no worker is free. 0: as many as .workers.
    pub min_workers: usize,
    /// How long a worker above .min_workers may have nothing to do before it ends, in nanoseconds; 0: any time. It
    /// ends as a worker does that is replaced. With TINE_NO_THREAD it ends in the host's next call.
    pub idle_timeout_ns: i64,
    /// Where the workers are: TINE_ENGINE_DEFAULT, TINE_ENGINE_LOCAL, TINE_ENGINE_MPI or TINE_ENGINE_MPI_OR_LOCAL.
    /// With MPI, .workers is the number of workers on each node; 0: one for each processor that the node's rank may
    /// use. Inputs and outputs travel as bytes there. So an input with an address of the pool's heap in it is refused
    /// with -EFAULT, and calls with channels or segments return -EOPNOTSUPP.
    pub engine: c_int,
    /// What is to go wrong, for tests; NULL: nothing. With TINE_INLINE and with the engine MPI it is -EINVAL.
    pub faults: *const tine_faults,
}

extensible!(tine_pool_options: Options);

/// Counters of a pool: see tine_pool_stats.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct tine_stats {
    /// sizeof(tine_stats).
    pub size: usize,
    /// How many workers the pool may have.
    pub workers: usize,
    /// Workers that take tasks at this moment.
    pub workers_ready: usize,
    /// Tasks that have been submitted so far. The chunks of maps are not counted.
    pub submitted: u64,
    /// How many of .submitted have settled.
    pub settled: u64,
    /// Tasks and chunks of maps that have not settled yet.
    pub outstanding: u64,
    /// Workers that have died while the pool was running.
    pub worker_deaths: u64,
    /// Workers that have left because of .max_tasks_per_worker, .recycle_age_ns, .recycle_bytes or
    /// .idle_timeout_ns.
    pub workers_recycled: u64,
    /// Supervisors that have ended while the pool was running.
    pub supervisor_deaths: u64,
    /// Bytes of memory that are reserved for the heap.
    pub heap_reserved_bytes: u64,
    /// Bytes of allocated blocks in the heap, rounded up to block sizes: those of the host, of workers, of inputs and
    /// of outputs.
    pub heap_allocated_bytes: u64,
    /// Items of maps, loops and streams that have settled so far.
    pub items_settled: u64,
    /// How many of .items_settled have failed.
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

    pub(crate) fn of_worker(worker: &'static Worker) -> *mut tine_pool {
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
#[inline(always)]
pub(crate) unsafe fn taker<'a>(pointer: *const tine_pool) -> Result<&'a Pool> {
    // SAFETY: by the contract above `pointer` is null or a `tine_pool` that stays until the call returns. It is only
    // read.
    match unsafe { pointer.as_ref() } {
        Some(tine_pool { kind: PoolKind::Host(pool), .. }) => Ok(pool),
        // SAFETY: `taker_elsewhere` asks of `pointer` what this function asks.
        _ => unsafe { taker_elsewhere(pointer) },
    }
}

/// The same where it is not the host's.
///
/// # Safety
/// As for [`host`].
#[cold]
unsafe fn taker_elsewhere<'a>(pointer: *const tine_pool) -> Result<&'a Pool> {
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
/// `address` is null, or that of a function of the type that is going to be called. `name` is null, or a string that lives for the
/// whole of `'a`.
#[inline]
pub(crate) unsafe fn function<'a>(address: *const c_void, name: *const c_char) -> Result<Function<'a>> {
    // SAFETY: `optional_str` asks of `name` what this function asks.
    match (address.is_null(), unsafe { optional_str(name) }) {
        // SAFETY: by the contract above it is of the type that is going to be called.
        (false, None) => Ok(unsafe { Function::pointer(address) }),
        (true, Some(name)) => {
            name.to_str().map(Function::Name).map_err(|_| Error::new(Code::NAME, "name is not UTF-8"))
        }
        (true, None) => Err(Error::new(Code::FUNCTION, "fn is NULL and there is no .name")),
        (false, Some(_)) => Err(Error::invalid("both fn and .name are given")),
    }
}

impl tine_pool_options {
    /// # Safety
    /// What the fields point to is there for as long as the result is used, strings and arrays as the fields' texts say.
    unsafe fn read(&self) -> Result<PoolOptions<'_>> {
        const FLAGS: u32 =
            TINE_INTERRUPTIBLE | TINE_NO_THREAD | TINE_CORE_FILES | TINE_NO_CRASH_HANDLER | TINE_INLINE;
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
        // SAFETY: by the contract above `.faults` is null or as long as its `.size` says.
        let faults = unsafe { options::read(self.faults) }?;
        let pointer = |function: tine_fn| {
            // SAFETY: this is the type of a task's function.
            function.map(|function| unsafe { Function::pointer(function as *const c_void) })
        };
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
            initializer: pointer(self.initializer),
            initializer_input: input,
            finalizer: pointer(self.finalizer),
            interruptible: self.flags & TINE_INTERRUPTIBLE != 0,
            inline: self.flags & TINE_INLINE != 0,
            no_thread: self.flags & TINE_NO_THREAD != 0,
            engine: match self.engine {
                TINE_ENGINE_DEFAULT => Engine::Default,
                TINE_ENGINE_LOCAL => Engine::Local,
                TINE_ENGINE_MPI => Engine::Mpi,
                TINE_ENGINE_MPI_OR_LOCAL => Engine::MpiOrLocal,
                other => return Err(Error::invalid(format!("engine is {other}, which is not an engine"))),
            },
            faults: faults.map_or(Ok(Faults::default()), |faults| faults.core())?,
        })
    }
}

/// Starts a pool, and waits until its workers are ready.
///
/// The host gets no child that it could see, no signal handler, and no thread yet (see TINE_NO_THREAD). Workers have
/// default signal dispositions, and end with the host. Of the host's descriptors they have only standard output and
/// standard error. Their standard input is empty.
///
/// Beside these each worker has a few descriptors of tine's, which are close-on-exec, and so has the host. A program
/// that closes one of them keeps running. A worker works on, but its part of the heap cannot grow any more, and it
/// ends when it is to get a segment or a channel. In a host, the tasks of the pool settle with TINE_EWORKERSTART.
///
/// Parameters: options: NULL for all defaults. out: where the pool goes.
/// Returns 0; TINE_ENOINIT: tine_init has not run and no .worker_path is given; TINE_EWORKERSTART: the processes could
/// not be started, they end as soon as they have been started, or the initializer fails; TINE_EFUNCTION, TINE_EMODULE:
/// the initializer is not a function of the workers; -EINTR: a signal came, with TINE_INTERRUPTIBLE, before the
/// workers were ready, and no pool is left; -EINVAL, -E2BIG: an option, or an environment variable, has no meaning;
/// -EINVAL also: the file of TINE_TRACE is there, and is not a trace; -EACCES, -ENOSPC and the like: that file cannot
/// be opened or written; -ENOENT: there is no program at .worker_path, no folder for the file of TINE_TRACE, or no
/// libtine-mpi; -ENODEV: there are no nodes for TINE_ENGINE_MPI; -EPERM: the program has called MPI_Init before
/// tine_init, and no .worker_path is given, or MPI leaves tine no thread; TINE_EVERSION: a node runs another build;
/// -ENOSYS: the kernel is too old; -ENOMEM, -EMFILE: the host has no memory or no descriptor. The text in .error
/// names the thing.
/// Ownership: tine_pool_destroy ends the pool. Threads: any. Fork: a child may create pools of its own.
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
    let heap = tine_heap::of_host(core.heap()?, options.faults);
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

/// Takes no more tasks, waits until all tasks have settled, and ends the workers in good order. Results can still be
/// taken.
///
/// Every task runs to its end. To end tasks sooner, call it with a timeout of 0, so that no more tasks come. Then
/// call tine_cancel_queued, by which tasks that have not begun never begin, or tine_cancel_all, which ends running
/// tasks too. Then call it again. tine_pool_destroy alone kills.
///
/// Parameters: pool. timeout_ns: how long to wait for the tasks, in nanoseconds; 0: not at all. Workers that have
/// nothing more to do get the rest of this time to leave, at least 50 ms and at most a second, and are killed then.
/// With 0 the call does not wait for the workers either; they get the second.
/// Returns 0: the workers have ended; -ETIMEDOUT: tasks are still under way; -EAGAIN (timeout 0): tasks are still
/// under way, or workers are still ending; -EINTR: a signal came, with TINE_INTERRUPTIBLE; -EINVAL: pool is NULL;
/// TINE_EWORKER; TINE_EFORKED. After -ETIMEDOUT, -EAGAIN and -EINTR the shutdown goes on, and the call may be made
/// again.
/// Threads: any. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_pool_shutdown(pool: *mut tine_pool, timeout_ns: i64) -> c_int {
    guard(|| {
        // SAFETY: `pool` is NULL, or a pool that tine gave and that has not been destroyed, as the header asks.
        unsafe { host(pool) }?.shutdown(Timeout::from_ns(timeout_ns))?;
        Ok(0)
    })
}

/// Ends a pool with everything that belongs to it: workers are killed, and results and the heap's memory are gone.
///
/// The call waits until the processes have been killed and reaped: some milliseconds, and up to 3 s where the pool's
/// supervisor does not answer, because somebody has stopped it, say. It waits without a limit for a callback that is
/// running, for those that it calls itself, and for a worker that the kernel cannot end.
///
/// Parameters: pool: may be NULL. No other thread may be in a call on the pool. A worker may not destroy a pool that
/// it has from tine_task_pool: the call then does nothing.
/// Threads: any. Fork: in a child it releases the child's copy, and the pool goes on in the parent.
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

/// A descriptor that is readable when there is a reason to call tine_pool_poll: a result, a death, or a worker that
/// runs out of tasks. It is for poll, select and epoll. The program must not read or close it.
///
/// Parameters: pool.
/// Returns the descriptor, which stays the pool's; -EINVAL: pool is NULL; TINE_EFORKED; TINE_EWORKER.
/// Threads: any. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_pool_fd(pool: *mut tine_pool) -> c_int {
    // SAFETY: `pool` is NULL, or a pool that tine gave and that has not been destroyed, as the header asks.
    guard(|| unsafe { host(pool) }?.descriptor())
}

/// Moves the pool on without waiting.
///
/// Parameters: pool.
/// Returns how many results tine_next could take at once; -EINVAL: pool is NULL; TINE_EFORKED; TINE_EWORKER.
/// Threads: any. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_pool_poll(pool: *mut tine_pool) -> c_int {
    guard(|| {
        // SAFETY: `pool` is NULL, or a pool that tine gave and that has not been destroyed, as the header asks.
        let finished = unsafe { taker(pool) }?.poll()?;
        Ok(c_int::try_from(finished).unwrap_or(c_int::MAX))
    })
}

/// Reads the counters of a pool.
///
/// Parameters: pool. out: a tine_stats with its .size set.
/// Returns 0; -EINVAL: pool or out is NULL, or the .size is less than 16; TINE_EFORKED; TINE_EWORKER.
/// Threads: any. Fork: TINE_EFORKED in a child.
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
