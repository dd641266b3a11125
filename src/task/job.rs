//! What a single process is to do, as it travels there.

use super::function::Target;
use super::wire::{Reader, Writer};
use crate::error::Result;
use crate::sys::fd::Guarded;
use crate::sys::memory::{self, Mapping};
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// Inputs up to this length travel among the settings, longer ones in a memfd of their own: without a copy in any heap,
/// whose end would be that of the process.
const SHORT: usize = 16 << 10;

/// The number of the task that is all that a single process does.
pub(crate) const ONLY_TASK: u64 = 1;

/// What the process is to do.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) target: Target,
    pub(crate) input: JobInput,
    pub(crate) title: CString,
    /// There is an end of a channel for it.
    pub(crate) has_end: bool,
    pub(crate) deadline_ns: u64,
    pub(crate) grace_ns: u64,
    pub(crate) detached: bool,
}

impl Job {
    pub(crate) fn encode(&self, writer: &mut Writer) {
        self.target.encode(writer);
        writer.number(u64::from(self.input.long.is_some()));
        writer.bytes(&self.input.short);
        writer.bytes(self.title.to_bytes());
        writer.number(u64::from(self.has_end));
        writer.number(self.deadline_ns);
        writer.number(self.grace_ns);
        writer.number(u64::from(self.detached));
    }

    /// `long` is the descriptor that came along, where one did.
    pub(crate) fn decode(reader: &mut Reader<'_>, long: Option<OwnedFd>) -> Result<Job> {
        let target = Target::decode(reader)?;
        let is_long = reader.number()? != 0;
        let long = long.filter(|_| is_long).map(|fd| Arc::new(Guarded::new(fd)));
        Ok(Job {
            target,
            input: JobInput { short: reader.bytes()?.to_vec(), long },
            title: CString::new(reader.bytes()?).unwrap_or_default(),
            has_end: reader.number()? != 0,
            deadline_ns: reader.number()?,
            grace_ns: reader.number()?,
            detached: reader.number()? != 0,
        })
    }
}

/// The function's input.
#[derive(Clone, Debug, Default)]
pub(crate) struct JobInput {
    short: Vec<u8>,
    long: Option<Arc<Guarded>>,
}

impl JobInput {
    /// A copy of these bytes.
    pub(crate) fn of(bytes: &[u8]) -> Result<JobInput> {
        if bytes.len() <= SHORT {
            return Ok(JobInput { short: bytes.to_vec(), long: None });
        }
        let fd = memory::sealed_memfd(c"tine-input", bytes.len())?;
        let mapping = Mapping::shared(fd.as_raw_fd(), bytes.len())?;
        // SAFETY: the mapping is as long as the bytes, and new.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), mapping.pointer(), bytes.len()) };
        Ok(JobInput { short: Vec::new(), long: Some(Arc::new(Guarded::new(fd))) })
    }

    /// The descriptor of a long one.
    pub(crate) fn fd(&self) -> Option<RawFd> {
        self.long.as_ref().map(|fd| fd.as_raw_fd())
    }

    /// A copy of it, to send along.
    pub(crate) fn copy_of_fd(&self) -> Result<Option<OwnedFd>> {
        self.long.as_ref().map(|fd| fd.duplicate()).transpose()
    }

    /// In the process: where it is and how long, for as long as the process lives.
    pub(crate) fn in_memory(&self) -> Result<(*const u8, usize)> {
        let Some(fd) = &self.long else { return Ok((self.short.as_ptr(), self.short.len())) };
        let length = memory::length_of(fd.as_raw_fd())?;
        let mapping = Mapping::shared(fd.as_raw_fd(), length)?;
        let start = mapping.pointer().cast_const();
        mapping.leak();
        Ok((start, length))
    }
}
