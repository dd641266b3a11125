//! A file to which processes that know nothing of each other append whole lines; it is an array of JSON that stays open.

use super::fd::{self, Guarded};
use super::{limits, memory};
use crate::error::{Error, Result};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, RawFd};

/// Such a file, open for appending.
#[derive(Debug)]
pub(crate) struct Journal(Guarded);

impl Journal {
    /// Opens it; makes it where there is none. The error's text has the path.
    pub(crate) fn open(path: &CStr, what: &str) -> Result<Journal> {
        Journal::open_at(path).map_err(|error| named(&error, path, what))
    }

    fn open_at(path: &CStr) -> Result<Journal> {
        let file = fd::made_or_open(path)?;
        if !memory::is_regular(file.as_raw_fd())? {
            return Err(Error::invalid("it is not a regular file"));
        }
        let mut first = [0u8];
        if !memory::read_first(file.as_raw_fd(), &mut first)? {
            // Another process that finds the file empty writes this byte to this place, too, before it adds anything.
            memory::write_all(file.as_raw_fd(), b"[\n")?;
        } else if first[0] != b'[' {
            return Err(Error::invalid("the file is there, and is not a trace"));
        }
        fd::append_from_now_on(file.as_raw_fd())?;
        Ok(Journal(Guarded::new(file)))
    }

    /// Adds the first lines. Returns where in the file they begin, and nobody else's ever will. The error's text has the path.
    pub(crate) fn begin(&self, lines: &[u8], path: &CStr, what: &str) -> Result<u64> {
        let begun = self.room_for(lines).and_then(|file| fd::append(file, lines));
        begun.map_err(|error| named(&error, path, what))
    }

    /// Adds whole lines.
    pub(crate) fn add(&self, lines: &[u8]) -> Result<()> {
        fd::write_all(self.room_for(lines)?, lines)
    }

    fn room_for(&self, lines: &[u8]) -> Result<RawFd> {
        let file = self.0.checked("the trace")?;
        if let Some(limit) = limits::file_size()
            && memory::length_of(file)? as u64 + lines.len() as u64 > limit
        {
            return Err(Error::errno(libc::EFBIG, "the limit for the length of a file is reached"));
        }
        Ok(file)
    }
}

fn named(error: &Error, path: &CStr, what: &str) -> Error {
    Error::new(error.code(), format!("{what}={}: {}", path.to_string_lossy(), error.text()))
}
