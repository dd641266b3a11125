//! What worker processes find around them

use crate::error::{Error, Result};
use crate::ffi::guard::{duration, optional_str, slice, strings};
use crate::ffi::options::{self, extensible};
use crate::ffi::pool::{
    TINE_CORE_FILES, TINE_NO_CRASH_HANDLER, TINE_START_FORK, TINE_START_FORKSERVER, TINE_START_SPAWN,
};
use crate::pool::{Affinity, Limit, OutputTo, WorkerOptions};
use crate::sys::reserve;
use crate::task::StartMethod;
use std::ffi::{CStr, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Workers run on any processor that the host may use.
pub const TINE_AFFINITY_NONE: c_int = 0;
/// Each worker has a processor of its own, given out in the order of their numbers.
pub const TINE_AFFINITY_COMPACT: c_int = 1;
/// Each worker has a processor of its own, given out from the first half of them and from the second half in turn.
pub const TINE_AFFINITY_SPREAD: c_int = 2;

/// The workers' standard output and standard error go where the host's go.
pub const TINE_OUTPUT_INHERIT: c_int = 0;
/// The last 64 KiB of each worker's standard output and standard error are kept, for the report of its death.
pub const TINE_OUTPUT_CAPTURE: c_int = 1;
/// The workers' standard output and standard error are thrown away.
pub const TINE_OUTPUT_NULL: c_int = 2;

/// A resource limit, as setrlimit takes it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tine_limit {
    /// RLIMIT_NOFILE, RLIMIT_CPU, and the like.
    pub resource: c_int,
    /// The limit that is in force.
    pub soft: u64,
    /// The value up to which the worker itself may raise the limit.
    pub hard: u64,
}

/// The environment of a pool's workers, or of a single process: tine_pool_options.worker,
/// tine_process_options.worker.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tine_worker_options {
    /// sizeof(tine_worker_options).
    pub size: usize,
    /// Changes of the environment variables, with NULL at the end: "NAME=value" sets a variable, "NAME" removes one.
    /// NULL: no changes. The changes are made before the program begins; with TINE_START_FORK, before the initializer
    /// runs.
    pub environment: *const *const c_char,
    /// The working directory; NULL: the host's.
    pub directory: *const c_char,
    /// How many threads numerical libraries are to start in each process, told to them by OMP_NUM_THREADS and the
    /// like; 0: they are told nothing.
    pub library_threads: u32,
    /// Added to the niceness: -20 to 19.
    pub nice: c_int,
    /// The oom_score_adj, from -1000 to 1000; 0: the host's.
    pub oom_score_adj: c_int,
    /// TINE_AFFINITY_NONE, TINE_AFFINITY_COMPACT or TINE_AFFINITY_SPREAD.
    pub affinity: c_int,
    /// The numbers of the processors to give out. Each worker in turn gets one, in the order of this array; with
    /// TINE_AFFINITY_SPREAD from both halves of the array in turn. NULL and 0: the processors that the host may use,
    /// as .affinity says.
    pub processors: *const u32,
    /// How many processors there are in .processors.
    pub processor_count: usize,
    /// Resource limits; NULL and 0: the host's.
    pub limits: *const tine_limit,
    /// How many limits there are in .limits.
    pub limit_count: usize,
    /// TINE_OUTPUT_INHERIT, TINE_OUTPUT_CAPTURE or TINE_OUTPUT_NULL.
    pub output: c_int,
    /// A file to which standard output and standard error are appended; the file is made where there is none. NULL:
    /// .output decides.
    pub output_path: *const c_char,
}

extensible!(tine_worker_options);

/// The fields that all structs have in common which say how processes start; pointers are the caller's.
pub(crate) struct Start {
    pub(crate) start: c_int,
    pub(crate) flags: u32,
    pub(crate) start_timeout_ns: i64,
    pub(crate) worker_path: *const c_char,
    pub(crate) worker_arguments: *const *const c_char,
    pub(crate) preload: *const c_char,
    pub(crate) heap_bytes: usize,
    pub(crate) worker: *const tine_worker_options,
}

/// The [`Start`] of a C struct.
macro_rules! start {
    ($options:expr) => {
        $crate::ffi::worker_options::Start {
            start: $options.start,
            flags: $options.flags,
            start_timeout_ns: $options.start_timeout_ns,
            worker_path: $options.worker_path,
            worker_arguments: $options.worker_arguments,
            preload: $options.preload,
            heap_bytes: $options.heap_bytes,
            worker: $options.worker,
        }
    };
}
pub(crate) use start;

impl Start {
    /// What the core wants to know.
    ///
    /// # Safety
    /// The strings and arrays live for the whole of `'a`, and the struct is as long as it says.
    pub(crate) unsafe fn read<'a>(&self) -> Result<WorkerOptions<'a>> {
        // SAFETY: by the contract above `.worker` is null or as long as its `.size` says.
        let around = unsafe { options::read(self.worker) }?.unwrap_or(NONE);
        // SAFETY: by the contract above each pointer is null or what its field's text says, for the whole of `'a`: a
        // string, an array that ends with null, or one as long as its count.
        unsafe {
            Ok(WorkerOptions {
                start: start_method(self.start)?,
                start_timeout_ns: duration(self.start_timeout_ns, "start_timeout_ns")?,
                worker_path: path(self.worker_path),
                worker_arguments: strings(self.worker_arguments)?,
                preload: text(self.preload, "preload")?,
                heap_bytes: self.heap_bytes,
                environment: strings(around.environment)?,
                directory: optional_str(around.directory),
                library_threads: around.library_threads,
                nice: around.nice,
                oom_score_adj: around.oom_score_adj,
                affinity: affinity(around.affinity)?,
                processors: slice(around.processors, around.processor_count, "processors")?,
                limits: limits(slice(around.limits, around.limit_count, "limits")?)?,
                output: output(around.output, around.output_path)?,
                core_files: self.flags & TINE_CORE_FILES != 0,
                no_crash_handler: self.flags & TINE_NO_CRASH_HANDLER != 0,
            })
        }
    }
}

/// All defaults.
const NONE: tine_worker_options = {
    // SAFETY: its fields are integers and pointers, and for both zero is a value.
    unsafe { std::mem::zeroed() }
};

fn start_method(start: c_int) -> Result<StartMethod> {
    match start {
        TINE_START_FORKSERVER => Ok(StartMethod::Forkserver),
        TINE_START_SPAWN => Ok(StartMethod::Spawn),
        TINE_START_FORK => Ok(StartMethod::Fork),
        other => Err(Error::invalid(format!("start is {other}, which is not a start method"))),
    }
}

fn affinity(affinity: c_int) -> Result<Affinity> {
    match affinity {
        TINE_AFFINITY_NONE => Ok(Affinity::None),
        TINE_AFFINITY_COMPACT => Ok(Affinity::Compact),
        TINE_AFFINITY_SPREAD => Ok(Affinity::Spread),
        other => Err(Error::invalid(format!("affinity is {other}, which is not an affinity"))),
    }
}

fn limits(limits: &[tine_limit]) -> Result<Vec<Limit>> {
    let limit = |limit: &tine_limit| Limit { resource: limit.resource, soft: limit.soft, hard: limit.hard };
    reserve::collect(limits.iter().map(limit))
}

/// # Safety
/// `path` is null, or a string that lives for the whole of `'a`; so for the next two.
unsafe fn path<'a>(path: *const c_char) -> Option<&'a Path> {
    // SAFETY: `optional_str` asks of its pointer what this function asks.
    unsafe { optional_str(path) }.map(|path| Path::new(OsStr::from_bytes(path.to_bytes())))
}

/// # Safety
/// As for [`path`].
unsafe fn text<'a>(string: *const c_char, name: &'static str) -> Result<Option<&'a str>> {
    // SAFETY: `optional_str` asks of its pointer what this function asks.
    let text = unsafe { optional_str(string) }.map(CStr::to_str).transpose();
    text.map_err(|_| Error::invalid(format!("{name} is not UTF-8")))
}

/// # Safety
/// As for [`path`].
unsafe fn output<'a>(output: c_int, path: *const c_char) -> Result<OutputTo<'a>> {
    // SAFETY: `optional_str` asks of its pointer what this function asks.
    match (output, unsafe { optional_str(path) }) {
        (TINE_OUTPUT_INHERIT, None) => Ok(OutputTo::Inherit),
        (TINE_OUTPUT_INHERIT, Some(path)) => Ok(OutputTo::File(path)),
        (TINE_OUTPUT_CAPTURE, None) => Ok(OutputTo::Capture),
        (TINE_OUTPUT_NULL, None) => Ok(OutputTo::Null),
        (TINE_OUTPUT_CAPTURE | TINE_OUTPUT_NULL, Some(_)) => {
            Err(Error::invalid(format!("output is {output} and output_path is given, too")))
        }
        (other, _) => Err(Error::invalid(format!("output is {other}, which is not a place for output"))),
    }
}
