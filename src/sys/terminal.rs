//! Terminals, and writing to whatever a descriptor is.

use super::errno;
use std::os::fd::RawFd;

/// How many columns a terminal has; `None` where it is none.
pub(crate) fn columns(fd: RawFd) -> Option<usize> {
    // SAFETY: asks about a descriptor by its number.
    if unsafe { libc::isatty(fd) } != 1 {
        return None;
    }
    // SAFETY: all zero is valid for this plain struct.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: the request fills a struct of this type.
    let asked = unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, &raw mut size) };
    // Serial lines and some containers say 0.
    Some(if asked == 0 && size.ws_col > 0 { size.ws_col.into() } else { 80 })
}

/// Writes once: what does not get through, because the descriptor is non-blocking, is not worth waiting for.
pub(crate) fn write_once(fd: RawFd, bytes: &[u8]) {
    loop {
        // SAFETY: the bytes are there for the length of the call.
        let written = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
        if written >= 0 || errno() != libc::EINTR {
            return;
        }
    }
}
