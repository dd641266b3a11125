//! What a pool and a task can be told.

use super::callbacks::Callbacks;
use crate::channel::Channel;
use crate::error::{Error, Result};
use crate::process::StartMethod;
use crate::process::function::{Function, Target};
use crate::process::output::Output;
use crate::process::setup::Settings;
use crate::process::surroundings::{Limit, Surroundings, check_variable, spread};
use crate::sys::clock::Timeout;
use crate::sys::limits;
use std::ffi::{CStr, CString};
use std::path::Path;

/// The largest number of a processor that any kernel knows.
const MAX_PROCESSOR: u32 = 65535;

/// More workers than this are refused.
pub const MAX_WORKERS: usize = 4096;

/// How long a task that is to end may take where nothing is said.
const DEFAULT_GRACE_NS: u64 = 200_000_000;
const DEFAULT_START_TIMEOUT_NS: u64 = 10_000_000_000;
const DEFAULT_WINDOW_TASKS: usize = 1 << 20;
const DEFAULT_HEAP_BYTES: usize = 256 << 30;
const LEAST_HEAP_BYTES: usize = 1 << 20;

/// What a pool can be told; all zero and empty is the default.
#[derive(Clone, Debug, Default)]
pub struct PoolOptions<'a> {
    /// How many workers; 0 for one per available processor.
    pub workers: usize,
    /// How many workers there are at least; more, up to `workers`, are started when tasks wait. 0 for always all.
    pub min_workers: usize,
    /// How long a worker above `min_workers` may be idle before it ends, in nanoseconds; 0 for any time.
    pub idle_timeout_ns: u64,
    /// How processes are born.
    pub start: StartMethod,
    /// How long a process may take to be ready, in nanoseconds; 0 for ten seconds.
    pub start_timeout_ns: u64,
    /// The program that supervisor and workers run; this process's own where there is none.
    pub worker_path: Option<&'a Path>,
    /// Shared libraries that are loaded before anything else, separated by colons.
    pub preload: Option<&'a str>,
    /// The most that the heap may hold; 0 for as much as there is address space for.
    pub heap_bytes: usize,
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
    /// "NAME=value" to set in the workers' environment, "NAME" to take from it.
    pub environment: Vec<CString>,
    /// The workers' working directory; the host's where nothing is said.
    pub directory: Option<&'a CStr>,
    /// How many threads numerical libraries are told to start; 0 to tell them nothing.
    pub library_threads: u32,
    /// Added to the workers' niceness.
    pub nice: i32,
    /// The workers' oom_score_adj; 0 to leave it.
    pub oom_score_adj: i32,
    /// Whether each worker has a processor of its own.
    pub affinity: Affinity,
    /// The processors that are given out; those that the host may use where there are none.
    pub processors: &'a [u32],
    /// Resource limits of the workers.
    pub limits: Vec<Limit>,
    /// Where the workers' standard output and error go.
    pub output: OutputTo<'a>,
    /// Waits end with `EINTR` when a signal handler has run.
    pub interruptible: bool,
    /// No workers: everything runs in the calling process.
    pub inline: bool,
    /// A thread of its own moves the pool on while the host does something else.
    pub background: bool,
    /// Workers that crash leave core files, as far as the host may.
    pub core_files: bool,
    /// Workers keep the default dispositions of fatal signals.
    pub no_crash_handler: bool,
}

/// Where the workers' standard output and error go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputTo<'a> {
    /// Where the host's go.
    #[default]
    Inherit,
    /// Their end into the report of a worker's death.
    Capture,
    /// Nowhere.
    Null,
    /// To the end of a file.
    File(&'a CStr),
}

/// How workers are given processors, one each, in turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Affinity {
    /// Not at all: they run where the host may.
    #[default]
    None,
    /// In the order of their numbers.
    Compact,
    /// Those of the first half and of the second in turn.
    Spread,
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

impl Default for SubmitOptions<'_> {
    fn default() -> Self {
        SubmitOptions {
            timeout: Timeout::Try,
            deadline_ns: None,
            queue_deadline_ns: None,
            retries: 0,
            user: 0,
            callbacks: Callbacks::default(),
            channel: None,
        }
    }
}

impl PoolOptions<'_> {
    pub(super) fn check(&self) -> Result<()> {
        if self.workers > MAX_WORKERS {
            return Err(Error::invalid(format!(
                "workers is {}; at most {MAX_WORKERS} are allowed",
                self.workers
            )));
        }
        let unfit = matches!(self.cancel_signal, libc::SIGKILL | libc::SIGSTOP);
        if unfit || !(0..=64).contains(&self.cancel_signal) {
            let text = format!("cancel_signal is {}, which cannot be handled", self.cancel_signal);
            return Err(Error::invalid(text));
        }
        if self.heap_bytes != 0 && self.heap_bytes < LEAST_HEAP_BYTES {
            let text = format!("heap_bytes is {}; at least {LEAST_HEAP_BYTES} are needed", self.heap_bytes);
            return Err(Error::invalid(text));
        }
        if self.heap_bytes > 1 << 46 {
            let text = format!("heap_bytes is {}, more than there is address space for", self.heap_bytes);
            return Err(Error::errno(libc::ENOMEM, text));
        }
        if self.start == StartMethod::Fork && self.worker_path.is_some() {
            return Err(Error::invalid("worker_path has no meaning with the start method fork"));
        }
        if self.start == StartMethod::Fork && self.preload.is_some() {
            return Err(Error::invalid(
                "preload has no meaning with the start method fork: load them in the host",
            ));
        }
        Ok(())
    }

    pub(super) fn grace_ns(&self) -> u64 {
        if self.grace_ns == 0 { DEFAULT_GRACE_NS } else { self.grace_ns }
    }

    pub(super) fn start_timeout_ns(&self) -> u64 {
        if self.start_timeout_ns == 0 { DEFAULT_START_TIMEOUT_NS } else { self.start_timeout_ns }
    }

    pub(super) fn window_tasks(&self) -> usize {
        if self.window_tasks == 0 { DEFAULT_WINDOW_TASKS } else { self.window_tasks }
    }

    pub(super) fn window_bytes(&self) -> usize {
        if self.window_bytes == 0 { self.heap_range() } else { self.window_bytes }
    }

    /// The heap's range: what was asked for, or a large one that leaves the host most of its address space, and that is
    /// no longer than a file may be.
    pub(super) fn heap_range(&self) -> usize {
        if self.heap_bytes != 0 {
            return self.heap_bytes;
        }
        let address_space = limits::address_space().map_or(u64::MAX, |limit| limit / 4);
        let limit = address_space.min(limits::file_size().unwrap_or(u64::MAX));
        DEFAULT_HEAP_BYTES.min(limit.max(LEAST_HEAP_BYTES as u64) as usize)
    }

    pub(super) fn program(&self) -> Result<Option<CString>> {
        use std::os::unix::ffi::OsStrExt;
        let Some(path) = self.worker_path else { return Ok(None) };
        let error = |why: &str| Error::errno(libc::ENOENT, format!("worker_path {}: {why}", path.display()));
        if !path.is_file() {
            return Err(error("there is no such file"));
        }
        CString::new(path.as_os_str().as_bytes()).map(Some).map_err(|_| error("a path with a zero byte"))
    }

    fn surroundings(&self) -> Result<Surroundings> {
        self.environment.iter().try_for_each(check_variable)?;
        if !(-20..=19).contains(&self.nice) {
            return Err(Error::invalid(format!("nice is {}; it can be from -20 to 19", self.nice)));
        }
        if !(-1000..=1000).contains(&self.oom_score_adj) {
            let text = format!("oom_score_adj is {}; it can be from -1000 to 1000", self.oom_score_adj);
            return Err(Error::invalid(text));
        }
        if let Some(limit) = self.limits.iter().find(|limit| limit.soft > limit.hard) {
            let text = format!(
                "limit {} has a soft value of {} above the hard one of {}",
                limit.resource, limit.soft, limit.hard
            );
            return Err(Error::invalid(text));
        }
        if let Some(number) = self.processors.iter().find(|number| **number > MAX_PROCESSOR) {
            return Err(Error::invalid(format!("there is no processor {number}")));
        }
        let given = match self.processors {
            [] => limits::processors(),
            given => given.to_vec(),
        };
        let mut surroundings = Surroundings {
            environment: self.environment.clone(),
            directory: self.directory.map(CStr::to_owned),
            nice: self.nice,
            oom_score_adj: self.oom_score_adj,
            processors: match self.affinity {
                Affinity::None if self.processors.is_empty() => Vec::new(),
                Affinity::None | Affinity::Compact => given,
                Affinity::Spread => spread(&given),
            },
            limits: self.limits.clone(),
            output: match self.output {
                OutputTo::Inherit => Output::Inherit,
                OutputTo::Capture => Output::Capture,
                OutputTo::Null => Output::Null,
                OutputTo::File(path) => Output::File(path.to_owned()),
            },
        };
        surroundings.set_library_threads(self.library_threads);
        Ok(surroundings)
    }

    pub(super) fn settings(&self) -> Result<Settings> {
        let initializer = self.initializer.map(Target::of).transpose()?;
        Ok(Settings {
            start: self.start,
            preload: self.preload.map_or_else(Vec::new, |list| {
                list.split(':').filter(|path| !path.is_empty()).map(str::to_owned).collect()
            }),
            finalizer: self.finalizer.map(Target::of).transpose()?,
            initializer: initializer.map(|target| (target, self.initializer_input.to_vec())),
            surroundings: self.surroundings()?,
            core_files: self.core_files,
            no_crash_handler: self.no_crash_handler,
        })
    }
}
