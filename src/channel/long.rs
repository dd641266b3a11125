//! Messages that are too long for a packet, where no slot of pages is free: in memory of their own, whose descriptor goes with the
//! packet.
//!
//! The sender writes with calls, and the receiver reads with calls, so that neither touches a page that may not be there:
//! full memory is an error, and whatever the sender does to the memory afterwards, the receiver reads bytes or finds that
//! there are too few. It has to be memory, because reading something else could wait for ever.

use super::SHORT_BYTES;
use super::packet::not_ours;
use crate::error::{Error, Result};
use crate::sys::clock::now_ns;
use crate::sys::prim::{AtomicU64, Ordering};
use crate::sys::{limits, memory};
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};

/// Left to everybody else.
const SPARE_BYTES: u64 = 8 << 20;

/// How long what was found to be available counts. It takes longer to find out than to send a message.
const FRESH_NS: u64 = 10_000_000;

/// What was available when it was looked at, less what has been taken since; and until when that counts. Relaxed: a
/// budget, in which threads may be off by what they take at the same moment.
static LEFT: AtomicU64 = AtomicU64::new(0);
static UNTIL_NS: AtomicU64 = AtomicU64::new(0);

/// New memory without a size yet. Where a sandbox refuses it with EPERM, that is EACCES: EPERM says that no message is reserved.
pub(super) fn memfd(name: &CStr) -> Result<OwnedFd> {
    memory::memfd(name).map_err(|error| match -error.code().0 {
        libc::EPERM => Error::errno(libc::EACCES, error.text().into_owned()),
        _ => error,
    })
}

/// New memory with these bytes.
pub(super) fn write(bytes: &[u8]) -> Result<OwnedFd> {
    ask_for(bytes.len() as u64)?;
    let fd = memfd(c"tine-message")?;
    memory::reserve(fd.as_raw_fd(), 0, bytes.len())?;
    memory::write_all(fd.as_raw_fd(), bytes)?;
    Ok(fd)
}

/// The bytes of such memory, as many as there is room for.
pub(super) fn read(fd: &OwnedFd, room: &mut [MaybeUninit<u8>]) -> Result<()> {
    if is_memory(fd)? { read_at(fd, 0, room) } else { Err(not_ours()) }
}

/// The bytes of memory from an offset on.
pub(super) fn read_at(fd: &OwnedFd, from: u64, room: &mut [MaybeUninit<u8>]) -> Result<()> {
    match memory::read_exactly_at(fd.as_raw_fd(), from, room) {
        Ok(true) => Ok(()),
        Ok(false) => Err(not_ours()),
        // A descriptor for writing alone will never be read.
        Err(error) if matches!(-error.code().0, libc::EBADF | libc::EACCES | libc::EPERM) => Err(not_ours()),
        Err(error) => Err(error),
    }
}

/// Whether a descriptor is of such memory as tine sends: reading anything else could wait, or fail for another reason than the message.
fn is_memory(fd: &OwnedFd) -> Result<bool> {
    Ok(memory::seals_of_pages(fd.as_raw_fd())?.is_some())
}

/// Whether room of this process's may be made for the bytes of such memory. The sender has paid for as many: a file that is only said to be
/// long costs nothing, and reading it into new memory would get this process killed. And as many are available here.
pub(super) fn check(fd: &OwnedFd, length: usize) -> Result<()> {
    let raw = fd.as_raw_fd();
    if !is_memory(fd)? || memory::length_of(raw)? < length || memory::reserved_bytes(raw)? < length as u64 {
        return Err(not_ours());
    }
    // A message that was longer than the socket's buffer, and is no longer than one in a packet, costs no more than that one.
    if length > SHORT_BYTES { ask_for(length as u64) } else { Ok(()) }
}

/// Whether so much memory can be had: the kernel answers a cgroup's limit by killing.
pub(super) fn ask_for(bytes: u64) -> Result<()> {
    let now = now_ns();
    let fresh = now < UNTIL_NS.load(Ordering::Relaxed);
    let take = |left: u64| left.checked_sub(bytes);
    if fresh && LEFT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
        return Ok(());
    }
    let left = limits::available_memory()?.saturating_sub(SPARE_BYTES);
    let Some(rest) = left.checked_sub(bytes) else {
        let text = format!("a message of {bytes} bytes; {left} are available");
        return Err(Error::errno(libc::ENOMEM, text));
    };
    LEFT.store(rest, Ordering::Relaxed);
    UNTIL_NS.store(now + FRESH_NS, Ordering::Relaxed);
    Ok(())
}
