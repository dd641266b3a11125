//! The fields that all structs have in common which say how processes start and what they find around them.

use crate::error::{Error, Result};
use crate::ffi::guard::optional_str;
use crate::ffi::pool::{
    TINE_AFFINITY_COMPACT, TINE_AFFINITY_NONE, TINE_AFFINITY_SPREAD, TINE_OUTPUT_CAPTURE,
    TINE_OUTPUT_INHERIT, TINE_OUTPUT_NULL, TINE_START_FORK, TINE_START_FORKSERVER, TINE_START_SPAWN,
    tine_limit,
};
use crate::pool::{Affinity, Limit, OutputTo};
use crate::task::StartMethod;
use std::ffi::{CStr, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The core's [`crate::pool::WorkerOptions`] of a C struct that has these fields; affinity is not everyone's. Unsafe: its
/// pointers are the caller's.
macro_rules! worker_options {
    ($options:expr, $affinity:expr) => {
        crate::pool::WorkerOptions {
            start: crate::ffi::worker_options::start_method($options.start)?,
            start_timeout_ns: crate::ffi::guard::duration($options.start_timeout_ns, "start_timeout_ns")?,
            worker_path: crate::ffi::worker_options::path($options.worker_path),
            worker_arguments: crate::ffi::guard::strings($options.worker_arguments),
            preload: crate::ffi::worker_options::text($options.preload, "preload")?,
            heap_bytes: $options.heap_bytes,
            environment: crate::ffi::guard::strings($options.environment),
            directory: crate::ffi::guard::optional_str($options.directory),
            library_threads: $options.library_threads,
            nice: $options.nice,
            oom_score_adj: $options.oom_score_adj,
            affinity: crate::ffi::worker_options::affinity($affinity)?,
            processors: crate::ffi::guard::slice(
                $options.processors,
                $options.processor_count,
                "processors",
            )?,
            limits: crate::ffi::worker_options::limits(crate::ffi::guard::slice(
                $options.limits,
                $options.limit_count,
                "limits",
            )?),
            output: crate::ffi::worker_options::output($options.output, $options.output_path)?,
            core_files: $options.flags & crate::ffi::pool::TINE_CORE_FILES != 0,
            no_crash_handler: $options.flags & crate::ffi::pool::TINE_NO_CRASH_HANDLER != 0,
        }
    };
}
pub(crate) use worker_options;

pub(crate) fn start_method(start: c_int) -> Result<StartMethod> {
    match start {
        TINE_START_FORKSERVER => Ok(StartMethod::Forkserver),
        TINE_START_SPAWN => Ok(StartMethod::Spawn),
        TINE_START_FORK => Ok(StartMethod::Fork),
        other => Err(Error::invalid(format!("start is {other}, which is no start method"))),
    }
}

pub(crate) fn affinity(affinity: c_int) -> Result<Affinity> {
    match affinity {
        TINE_AFFINITY_NONE => Ok(Affinity::None),
        TINE_AFFINITY_COMPACT => Ok(Affinity::Compact),
        TINE_AFFINITY_SPREAD => Ok(Affinity::Spread),
        other => Err(Error::invalid(format!("affinity is {other}, which is none"))),
    }
}

pub(crate) fn limits(limits: &[tine_limit]) -> Vec<Limit> {
    let limit = |limit: &tine_limit| Limit { resource: limit.resource, soft: limit.soft, hard: limit.hard };
    limits.iter().map(limit).collect()
}

/// # Safety
/// `path` is null, or a string that lives for the whole of `'a`; so for the next two.
pub(crate) unsafe fn path<'a>(path: *const c_char) -> Option<&'a Path> {
    // SAFETY: the caller's promise.
    unsafe { optional_str(path) }.map(|path| Path::new(OsStr::from_bytes(path.to_bytes())))
}

/// # Safety
/// As for [`path`].
pub(crate) unsafe fn text<'a>(string: *const c_char, name: &'static str) -> Result<Option<&'a str>> {
    // SAFETY: the caller's promise.
    let text = unsafe { optional_str(string) }.map(CStr::to_str).transpose();
    text.map_err(|_| Error::invalid(format!("{name} is not UTF-8")))
}

/// # Safety
/// As for [`path`].
pub(crate) unsafe fn output<'a>(output: c_int, path: *const c_char) -> Result<OutputTo<'a>> {
    // SAFETY: the caller's promise.
    match (output, unsafe { optional_str(path) }) {
        (TINE_OUTPUT_INHERIT, None) => Ok(OutputTo::Inherit),
        (TINE_OUTPUT_INHERIT, Some(path)) => Ok(OutputTo::File(path)),
        (TINE_OUTPUT_CAPTURE, None) => Ok(OutputTo::Capture),
        (TINE_OUTPUT_NULL, None) => Ok(OutputTo::Null),
        (TINE_OUTPUT_CAPTURE | TINE_OUTPUT_NULL, Some(_)) => {
            Err(Error::invalid(format!("output is {output} and output_path is given, too")))
        }
        (other, _) => Err(Error::invalid(format!("output is {other}, which is none"))),
    }
}
