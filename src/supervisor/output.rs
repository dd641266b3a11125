//! Where the standard output and error of workers go, and the end of them that is kept for a death's report.
//!
//! What is captured goes through a pipe of each worker's to the supervisor, which does nothing but wait and so is always
//! there to read it; a worker that writes a lot is slowed down to the speed of that, and never stands still. The
//! supervisor keeps the last [`KEPT`] bytes of each worker, and sends them along when the worker has ended. When the supervisor
//! itself dies they are lost with it.

use crate::error::{Error, Result};
use crate::sys::fd;
use crate::task::environment::OutputTarget;
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};

/// How much of what a worker has written is kept.
pub(crate) const KEPT: usize = 64 << 10;

/// What a worker that has ended may have left in its pipe, unless others go on writing.
const LEFT: usize = 1 << 20;

/// The supervisor's side: what it keeps ready for later workers.
#[derive(Debug)]
pub(crate) enum Sink {
    Inherit,
    Capture,
    To(OwnedFd),
}

impl Sink {
    pub(crate) fn open(output: &OutputTarget) -> Result<Sink> {
        match output {
            OutputTarget::Inherit => Ok(Sink::Inherit),
            OutputTarget::Capture => Ok(Sink::Capture),
            OutputTarget::Null => fd::append_to(c"/dev/null").map(Sink::To),
            OutputTarget::File(path) => fd::append_to(path).map(Sink::To).map_err(|error| {
                let text = format!("output_path {}: {}", path.to_string_lossy(), error.text());
                Error::new(error.code(), text)
            }),
        }
    }

    /// For one worker: a pipe, where its output is captured.
    pub(crate) fn pipe(&self) -> Result<Option<Pipe>> {
        match self {
            Sink::Capture => {
                let (read, write) = fd::pipe()?;
                Ok(Some(Pipe { tail: Tail { pipe: read, bytes: VecDeque::new() }, write }))
            }
            Sink::Inherit | Sink::To(_) => Ok(None),
        }
    }

    /// In the process that becomes a worker.
    pub(crate) fn enter(&self, pipe: Option<&Pipe>) {
        match (self, pipe) {
            (Sink::To(file), _) => fd::become_output(file.as_raw_fd()),
            (Sink::Capture, Some(pipe)) => fd::become_output(pipe.write.as_raw_fd()),
            (Sink::Capture, None) | (Sink::Inherit, _) => (),
        }
    }
}

/// A worker's pipe while the worker is being made.
#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) tail: Tail,
    write: OwnedFd,
}

/// The supervisor's end of a pipe, and what has come out of it last.
#[derive(Debug)]
pub(crate) struct Tail {
    pipe: OwnedFd,
    bytes: VecDeque<u8>,
}

impl Tail {
    pub(crate) fn fd(&self) -> i32 {
        self.pipe.as_raw_fd()
    }

    /// Reads once. Returns how many bytes there were: 0 when no process can write any more.
    pub(crate) fn read(&mut self) -> Option<usize> {
        let mut buffer = [0; KEPT];
        let got = fd::read_some(self.fd(), &mut buffer)?;
        let excess = (self.bytes.len() + got).saturating_sub(KEPT);
        self.bytes.drain(..excess.min(self.bytes.len()));
        self.bytes.extend(&buffer[..got]);
        Some(got)
    }

    /// The worker has ended: the last of what it has written.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let mut left = LEFT;
        while left > 0
            && let Some(got @ 1..) = self.read()
        {
            left = left.saturating_sub(got);
        }
        self.bytes.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_what_was_written_is_kept() {
        let Some(Pipe { mut tail, write }) = Sink::Capture.pipe().unwrap() else { unreachable!() };
        assert_eq!(tail.read(), None);
        let mut written = Vec::new();
        for round in 0..100u32 {
            let block = vec![round as u8; 3000];
            fd::write_all(write.as_raw_fd(), &block).unwrap();
            written.extend(block);
            tail.read();
        }
        fd::write_all(write.as_raw_fd(), b"the end").unwrap();
        written.extend(b"the end");
        let kept = tail.finish();
        assert_eq!(kept.len(), KEPT);
        assert!(written.ends_with(&kept));

        let Some(Pipe { mut tail, write }) = Sink::Capture.pipe().unwrap() else { unreachable!() };
        drop(write);
        assert_eq!(tail.read(), Some(0));
    }
}
