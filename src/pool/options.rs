//! What a pool and a task can be told.

use super::callbacks::Callbacks;
use super::ending::Limits;
use super::inline::InlinePlace;
use super::recycle::RecycleRules;
use super::state::Rules;
use super::window::Window;
use crate::channel::Channel;
use crate::cluster::exchange::Exchange;
use crate::cluster::start;
use crate::error::{Error, Result};
use crate::family::options::WorkerOptions;
use crate::heap::Heap;
use crate::inspect::page::{About, Page};
use crate::sys::clock::Timeout;
use crate::sys::reserve;
use crate::task::StartMethod;
use crate::task::faults::Faults;
use crate::task::function::{Function, Target};
use crate::task::settings::Settings;
use std::sync::Arc;

/// More workers than this are refused.
pub const MAX_WORKERS: usize = crate::heap::marks::WORKERS;

/// How long a task that is to end may take where nothing is said.
const DEFAULT_GRACE_NS: u64 = 200_000_000;
const DEFAULT_WINDOW_TASKS: usize = 1 << 20;
const DEFAULT_HEAP_BYTES: usize = 256 << 30;

/// What a pool can be told; all zero and empty is the default.
#[derive(Clone, Debug, Default)]
pub struct PoolOptions<'a> {
    /// How the workers start, and what they find around them.
    pub worker: WorkerOptions<'a>,
    /// How many workers; 0 for one per available processor.
    pub workers: usize,
    /// How many workers there are at least; more, up to `workers`, are started when tasks wait. 0 for always all.
    pub min_workers: usize,
    /// How long a worker above `min_workers` may be idle before it ends, in nanoseconds; 0 for any time.
    pub idle_timeout_ns: u64,
    /// Tasks that may be submitted and not taken; 0 for about a million.
    pub window_tasks: usize,
    /// Bytes of input that may be submitted and not taken; 0 for the heap's limit.
    pub window_bytes: usize,
    /// Called once in each worker before it takes tasks.
    pub initializer: Option<Function<'a>>,
    /// Its input.
    pub initializer_input: &'a [u8],
    /// Called once in each worker that leaves in good order.
    pub finalizer: Option<Function<'a>>,
    /// How long a task may run, in nanoseconds, unless it says so itself; 0 for as long as it likes.
    pub deadline_ns: u64,
    /// How long a task that is to end may take for it, in nanoseconds; 0 for 200 ms.
    pub grace_ns: u64,
    /// The signal that a task gets that is to end; 0 for none.
    pub cancel_signal: i32,
    /// Tasks after which a worker is replaced; 0 for never.
    pub max_tasks_per_worker: u32,
    /// How old a worker may get, in nanoseconds; 0 for any age.
    pub recycle_age_ns: u64,
    /// How much private memory a worker may have after a task, in bytes; 0 for any amount.
    pub recycle_bytes: u64,
    /// How much private memory a worker may have in the middle of a task, in bytes; 0 for any amount.
    pub max_worker_bytes: u64,
    /// Waits end with `EINTR` when a signal handler has run.
    pub interruptible: bool,
    /// No workers: everything runs in the calling process.
    pub inline: bool,
    /// No thread of tine's own moves the pool on while the host does something else, or calls its callbacks.
    pub no_thread: bool,
    /// Where the workers are.
    pub engine: Engine,
    /// What is to go wrong.
    pub faults: Faults,
}

/// Where the workers of a pool are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// On this machine, unless the environment's `TINE_ENGINE` says otherwise.
    #[default]
    Default,
    /// On this machine.
    Local,
    /// On the nodes of the MPI job that this process is rank 0 of.
    Mpi,
    /// The same; on this machine where there is no such job.
    MpiOrLocal,
}

impl Engine {
    /// The nodes, where the workers are to be there.
    fn exchange(self) -> Result<Option<Arc<Exchange>>> {
        let wanted = match (self, start::wanted().as_deref()) {
            (Engine::Default, Some("mpi")) => Engine::Mpi,
            (Engine::Default, Some("mpi-or-local")) => Engine::MpiOrLocal,
            (Engine::Default, None | Some("local")) => Engine::Local,
            (Engine::Default, Some(other)) => {
                let text = format!("TINE_ENGINE is \"{other}\"; it can be local, mpi or mpi-or-local");
                return Err(Error::invalid(text));
            }
            (given, _) => given,
        };
        match (wanted, start::host()) {
            (Engine::Local | Engine::Default, _) | (Engine::MpiOrLocal, None) => Ok(None),
            (Engine::Mpi, None) => Err(start::not_started()),
            (Engine::Mpi | Engine::MpiOrLocal, Some(host)) => host.map(Some),
        }
    }
}

/// What a task can be told.
#[derive(Clone, Debug)]
pub struct SubmitOptions<'a> {
    /// How long to wait for room in the window.
    pub timeout: Timeout,
    /// How long it may run, in nanoseconds, 0 for as long as it likes; the pool's deadline where nothing is said.
    pub deadline_ns: Option<u64>,
    /// How soon it must begin, in nanoseconds.
    pub queue_deadline_ns: Option<u64>,
    /// How often it may be run again after its process has died with it.
    pub retries: u32,
    /// Carried to the result.
    pub user: usize,
    /// What the submitter wants to be told.
    pub callbacks: Callbacks,
    /// The end of a channel that the task is to have.
    pub channel: Option<&'a Channel>,
}

impl SubmitOptions<'_> {
    /// Nothing is said.
    pub const NONE: SubmitOptions<'static> = SubmitOptions {
        timeout: Timeout::Try,
        deadline_ns: None,
        queue_deadline_ns: None,
        retries: 0,
        user: 0,
        callbacks: Callbacks { on_begin: None, on_settled: None },
        channel: None,
    };

    /// Whether it says nothing that only few tasks are told.
    pub(super) fn is_plain(&self) -> bool {
        self.retries == 0
            && self.queue_deadline_ns.is_none()
            && self.channel.is_none()
            && self.callbacks.is_none()
    }
}

impl Default for SubmitOptions<'_> {
    fn default() -> Self {
        SubmitOptions::NONE
    }
}

fn or<T: Default + PartialEq>(given: T, default: T) -> T {
    if given == T::default() { default } else { given }
}

impl PoolOptions<'_> {
    /// What each option may be.
    pub(super) fn check(&self) -> Result<()> {
        const _: () = assert!(MAX_WORKERS == 4096);
        let signal = self.cancel_signal;
        let can_be_handled = (0..=64).contains(&signal) && !matches!(signal, libc::SIGKILL | libc::SIGSTOP);
        let table = [
            (self.workers <= MAX_WORKERS, "workers", self.workers as i128, "; at most 4096 are allowed"),
            (can_be_handled, "cancel_signal", signal.into(), ", which cannot be handled"),
        ];
        if let Some((_, name, value, why)) = table.iter().find(|(holds, ..)| !holds) {
            return Err(Error::invalid(format!("{name} is {value}{why}")));
        }
        if self.inline && self.faults.any() {
            return Err(Error::invalid(
                "faults are given with TINE_INLINE: they come over workers, and there is none",
            ));
        }
        self.faults.check()?;
        self.worker.check()
    }

    /// The nodes that the tasks are to run on, if they are.
    pub(super) fn exchange(&self) -> Result<Option<Arc<Exchange>>> {
        let exchange = if self.inline { None } else { self.engine.exchange()? };
        if exchange.is_some() && self.no_thread {
            return Err(Error::invalid(
                "a pool with the engine MPI has a thread of tine's: TINE_NO_THREAD is not for it",
            ));
        }
        if exchange.is_some() && self.worker.start == StartMethod::Fork {
            return Err(Error::invalid(
                "start is fork, which has no meaning with the engine MPI: the workers are no copies of this process",
            ));
        }
        if self.worker.worker_path.is_none()
            && exchange.as_ref().is_some_and(|exchange| exchange.joined_before())
        {
            let text = "the program has called MPI_Init before tine_init, and its workers, which run its main too, would do the same: \
                        call tine_init first, or give a worker_path";
            return Err(Error::errno(libc::EPERM, text));
        }
        if exchange.is_some() && self.faults.any() {
            return Err(Error::invalid(
                "faults are given with the engine MPI: they come over workers of this machine",
            ));
        }
        Ok(exchange)
    }

    /// What holds for the life of the pool, with defaults where an option says nothing.
    pub(super) fn rules(&self, inline_place: Option<Arc<InlinePlace>>) -> Rules {
        let window_bytes = if self.window_bytes == 0 { self.heap_range() } else { self.window_bytes };
        Rules {
            window: Window::new(or(self.window_tasks, DEFAULT_WINDOW_TASKS), window_bytes),
            limits: Limits {
                grace_ns: or(self.grace_ns, DEFAULT_GRACE_NS),
                cancel_signal: self.cancel_signal,
                max_worker_bytes: self.max_worker_bytes,
            },
            recycle: RecycleRules {
                tasks: self.max_tasks_per_worker,
                age_ns: self.recycle_age_ns,
                private_bytes: self.recycle_bytes,
                idle_ns: if self.min_workers > 0 { self.idle_timeout_ns } else { 0 },
                least: self.min_workers,
            },
            inline_place,
        }
    }

    pub(super) fn heap_range(&self) -> usize {
        self.worker.heap_range(DEFAULT_HEAP_BYTES)
    }

    /// What others see of the pool.
    pub(super) fn page(&self, heap: &Heap, places: usize) -> Result<Page> {
        let [window_tasks, window_bytes, ..] = self.rules(None).window.figures();
        let start = self.worker.settings()?.start as u32;
        Page::create(heap, &About { places, start, window_tasks, window_bytes })
    }

    pub(super) fn settings(&self) -> Result<Settings> {
        let initializer = self.initializer.map(Target::of).transpose()?;
        Ok(Settings {
            finalizer: self.finalizer.map(Target::of).transpose()?,
            initializer: initializer.zip(Some(reserve::collect(self.initializer_input.iter().copied())?)),
            faults: self.faults,
            ..self.worker.settings()?
        })
    }
}
