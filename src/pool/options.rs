//! What a pool and a task can be told.

use crate::error::{Error, Result};
use crate::process::StartMethod;
use crate::process::function::{Function, Target};
use crate::process::setup::Settings;
use crate::sys::clock::Timeout;
use crate::sys::limits;
use std::ffi::CString;
use std::path::Path;

/// More workers than this are refused.
pub const MAX_WORKERS: usize = 4096;

const DEFAULT_START_TIMEOUT_NS: u64 = 10_000_000_000;
const DEFAULT_WINDOW_TASKS: usize = 1 << 20;
const DEFAULT_HEAP_BYTES: usize = 256 << 30;
const LEAST_HEAP_BYTES: usize = 1 << 20;

/// What a pool can be told; all zero and empty is the default.
#[derive(Clone, Debug, Default)]
pub struct PoolOptions<'a> {
    /// How many workers; 0 for one per available processor.
    pub workers: usize,
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
    /// Waits end with `EINTR` when a signal handler has run.
    pub interruptible: bool,
    /// A thread of its own moves the pool on while the host does something else.
    pub background: bool,
    /// Workers that crash leave core files, as far as the host may.
    pub core_files: bool,
    /// Workers keep the default dispositions of fatal signals.
    pub no_crash_handler: bool,
}

/// What a task can be told.
#[derive(Clone, Copy, Debug)]
pub struct SubmitOptions {
    /// How long to wait for room in the window.
    pub timeout: Timeout,
    /// Carried to the result.
    pub user: usize,
}

impl Default for SubmitOptions {
    fn default() -> SubmitOptions {
        SubmitOptions { timeout: Timeout::Try, user: 0 }
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

    pub(super) fn settings(&self) -> Result<Settings> {
        let initializer = self.initializer.map(Target::of).transpose()?;
        Ok(Settings {
            start: self.start,
            preload: self.preload.map_or_else(Vec::new, |list| {
                list.split(':').filter(|path| !path.is_empty()).map(str::to_owned).collect()
            }),
            initializer: initializer.map(|target| (target, self.initializer_input.to_vec())),
            core_files: self.core_files,
            no_crash_handler: self.no_crash_handler,
        })
    }
}
