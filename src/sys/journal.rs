//! A file to which processes that know nothing of each other append whole lines; it is an array of JSON that stays open.

use super::fd::{self, Guarded};
use super::{limits, memory};
use crate::error::{Error, Result};
use std::ffi::CStr;
use std::mem::MaybeUninit;
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
        } else if !ends_whole(file.as_raw_fd())? {
            return Err(Error::invalid(
                "what is there does not end with a whole line and its comma, and nothing behind it could be read; \
                 cut what stands behind the last line that does, or name another file",
            ));
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

/// Whether more can be added: the last line is whole, and the array is open.
fn ends_whole(file: RawFd) -> Result<bool> {
    let mut seen = None;
    loop {
        let length = memory::length_of(file)?;
        let mut last = [MaybeUninit::new(0u8); 2];
        let is_read = memory::read_exactly_at(file, (length as u64).saturating_sub(2), &mut last)?;
        // SAFETY: both were made with a content.
        let last = last.map(|byte| unsafe { byte.assume_init() });
        if is_read && (last == *b",\n" || (length == 2 && last == *b"[\n")) {
            return Ok(true);
        }
        // Another process may be in the middle of its write. The kernel has one write at a time in a file, so this one, of what is there,
        // waits for that one; and what has not become longer then is as long as it was left.
        if seen.replace(length) == Some(length) {
            return Ok(false);
        }
        memory::write_all(file, b"[")?;
    }
}

fn named(error: &Error, path: &CStr, what: &str) -> Error {
    Error::new(error.code(), format!("{what}={}: {}", path.to_string_lossy(), error.text()))
}
