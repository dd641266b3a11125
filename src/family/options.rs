//! What the processes of a family can be told, be they a pool's workers or a single one.

use crate::bootstrap;
use crate::error::{Code, Error, Result};
use crate::sys::children::Command;
use crate::sys::{limits, reserve};
use crate::task::StartMethod;
use crate::task::environment::{Environment, Limit, OutputTarget, check_variable, spread};
use crate::task::settings::Settings;
use std::ffi::{CStr, CString};
use std::path::Path;

/// The largest number of a processor that any kernel knows.
const MAX_PROCESSOR: u32 = 65535;

const DEFAULT_START_TIMEOUT_NS: u64 = 10_000_000_000;
const LEAST_HEAP_BYTES: usize = 1 << 20;

/// How processes start, and what they find around them; all zero and empty is the default.
#[derive(Clone, Debug, Default)]
pub struct WorkerOptions<'a> {
    /// How processes are born.
    pub start: StartMethod,
    /// How long a process may take to be ready, in nanoseconds; 0 for ten seconds.
    pub start_timeout_ns: u64,
    /// The program that supervisor and workers run; this process's own where there is none.
    pub worker_path: Option<&'a Path>,
    /// What that program is called with, besides its name.
    pub worker_arguments: Vec<CString>,
    /// Shared libraries that are loaded before anything else, separated by colons.
    pub preload: Option<&'a str>,
    /// The most that the heap may hold; 0 for the default.
    pub heap_bytes: usize,
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

impl WorkerOptions<'_> {
    pub(crate) fn check(&self) -> Result<()> {
        if self.heap_bytes != 0 && self.heap_bytes < LEAST_HEAP_BYTES {
            let text = format!("heap_bytes is {}; at least {LEAST_HEAP_BYTES} are needed", self.heap_bytes);
            return Err(Error::invalid(text));
        }
        if self.heap_bytes > 1 << 46 {
            let text = format!("heap_bytes is {}, more than an address space has", self.heap_bytes);
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
        if self.worker_path.is_none() && !self.worker_arguments.is_empty() {
            return Err(Error::invalid("worker_arguments are given without a worker_path"));
        }
        bootstrap::may_start(self.worker_path.is_some())
    }

    pub(crate) fn start_timeout_ns(&self) -> u64 {
        if self.start_timeout_ns == 0 { DEFAULT_START_TIMEOUT_NS } else { self.start_timeout_ns }
    }

    /// The heap's range: what was asked for, or `default_bytes`, as far as that leaves the host most of its address
    /// space, and is no longer than a file may be.
    pub(crate) fn heap_range(&self, default_bytes: usize) -> usize {
        if self.heap_bytes != 0 {
            return self.heap_bytes;
        }
        let address_space = limits::address_space().map_or(u64::MAX, |limit| limit / 4);
        let limit = address_space.min(limits::file_size().unwrap_or(u64::MAX));
        default_bytes.min(limit.max(LEAST_HEAP_BYTES as u64) as usize)
    }

    pub(crate) fn program(&self) -> Result<Option<Command>> {
        use std::os::unix::ffi::OsStrExt;
        let Some(path) = self.worker_path else { return Ok(None) };
        let error = |why: &str| Error::errno(libc::ENOENT, format!("worker_path {}: {why}", path.display()));
        if !path.is_file() {
            return Err(error("there is no such file"));
        }
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| error("a path with a zero byte"))?;
        let mut arguments = Vec::new();
        reserve::grow(&mut arguments, 1 + self.worker_arguments.len())?;
        arguments.push(path.clone());
        for argument in &self.worker_arguments {
            arguments.push(reserve::copy_of(argument)?);
        }
        Ok(Some(Command { path, arguments }))
    }

    fn environment(&self) -> Result<Environment> {
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
            return Err(Error::invalid(format!(
                "processors has {number}, which is not a processor of this machine"
            )));
        }
        let given = match self.processors {
            [] => limits::processors(),
            given => reserve::collect(given.iter().copied())?,
        };
        let mut environment = Environment {
            variables: reserve::copies_of(&self.environment)?,
            directory: self.directory.map(CStr::to_owned),
            nice: self.nice,
            oom_score_adj: self.oom_score_adj,
            processors: match self.affinity {
                Affinity::None if self.processors.is_empty() => Vec::new(),
                Affinity::None | Affinity::Compact => given,
                Affinity::Spread => spread(&given)?,
            },
            limits: reserve::collect(self.limits.iter().copied())?,
            output: match self.output {
                OutputTo::Inherit => OutputTarget::Inherit,
                OutputTo::Capture => OutputTarget::Capture,
                OutputTo::Null => OutputTarget::Null,
                OutputTo::File(path) => OutputTarget::File(path.to_owned()),
            },
        };
        environment.set_library_threads(self.library_threads)?;
        Ok(environment)
    }

    /// What every process of the family gets to know of it.
    pub(crate) fn settings(&self) -> Result<Settings> {
        Ok(Settings {
            start: self.start,
            preload: libraries(self.preload.unwrap_or_default())?,
            environment: self.environment()?,
            core_files: self.core_files,
            no_crash_handler: self.no_crash_handler,
            ..Settings::default()
        })
    }
}

/// The paths of a list that colons separate.
fn libraries(list: &str) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    for path in list.split(':').filter(|path| !path.is_empty()) {
        reserve::grow(&mut paths, 1)?;
        let mut copy = String::new();
        copy.try_reserve_exact(path.len()).map_err(|_| Code::errno(libc::ENOMEM))?;
        copy.push_str(path);
        paths.push(copy);
    }
    Ok(paths)
}
