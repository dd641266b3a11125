//! How bytes get from rank to rank: a table of functions that another library registers, so that this one needs no MPI.

use super::Rank;
use crate::error::{Code, Error, Result};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::OnceLock;

/// What a transport calls before the program leaves the other ranks by itself.
pub(crate) type Parting = extern "C" fn();

/// What has come of joining the others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Joined {
    pub(crate) rank: Rank,
    /// How many there are.
    pub(crate) ranks: usize,
    /// The program had joined them by itself.
    pub(crate) before: bool,
}

/// The functions of a library that moves messages. All but the first are called by one thread, which called `start` first. Each returns a
/// negated errno value where it fails.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Functions {
    pub(crate) name: *const c_char,
    pub(crate) started: unsafe extern "C" fn() -> c_int,
    pub(crate) start: unsafe extern "C" fn(*mut c_int, *mut c_int, Parting) -> c_int,
    pub(crate) send: unsafe extern "C" fn(c_int, *const c_void, usize, *mut *mut c_void) -> c_int,
    pub(crate) probe: unsafe extern "C" fn(*mut c_int, *mut usize, *mut *mut c_void) -> c_int,
    pub(crate) receive: unsafe extern "C" fn(*mut c_void, *mut c_void, usize, *mut *mut c_void) -> c_int,
    pub(crate) done: unsafe extern "C" fn(*mut c_void) -> c_int,
    pub(crate) stop: unsafe extern "C" fn() -> c_int,
    pub(crate) abort: unsafe extern "C" fn(c_int),
}

// SAFETY: functions and a static string, as registration asks.
unsafe impl Send for Functions {}
// SAFETY: nothing is changed through a shared one.
unsafe impl Sync for Functions {}

static REGISTERED: OnceLock<Functions> = OnceLock::new();

/// From now on this is how messages are moved; the first one stays.
pub(crate) fn register(functions: Functions) -> Result<()> {
    let refuse = |_| Error::errno(libc::EEXIST, "a transport is registered already");
    REGISTERED.set(functions).map_err(refuse)
}

/// The registered transport.
pub(crate) fn registered() -> Option<Transport> {
    REGISTERED.get().copied().map(Transport)
}

/// A registered table, called safely.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transport(Functions);

/// A message on its way out or in. Its bytes must stay until [`Transport::is_done`].
#[derive(Debug)]
pub(crate) struct Moving(*mut c_void);

/// A message that has come and is to be received.
#[derive(Debug)]
pub(crate) struct Message(*mut c_void);

/// From whom, how long, and what it is to be received by.
pub(crate) type Arrived = (Rank, usize, Message);

/// Messages could not be looked for.
#[derive(Debug)]
pub(crate) struct Failed {
    /// Whose messages, where that is known.
    pub(crate) whose: Option<Rank>,
    pub(crate) error: Error,
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Error {
        failed.error
    }
}

impl Transport {
    /// One that is not registered.
    #[cfg(test)]
    pub(crate) fn over(functions: Functions) -> Transport {
        Transport(functions)
    }

    fn checked(&self, what: &str, rc: c_int) -> Result<c_int> {
        if rc >= 0 {
            return Ok(rc);
        }
        Err(Error::new(
            Code(rc),
            format!("{}: {what} failed: {}", self.name(), Code(rc).text().to_string_lossy()),
        ))
    }

    pub(crate) fn name(&self) -> &'static str {
        // SAFETY: a static string, as `tine_transport_register` asks.
        unsafe { CStr::from_ptr(self.0.name) }.to_str().unwrap_or("the transport")
    }

    /// Whether this process is one of several that were started together.
    pub(crate) fn was_started(&self) -> bool {
        // SAFETY: may be called at any time, as `tine_transport_register` asks.
        unsafe { (self.0.started)() > 0 }
    }

    /// Joins the others. The calling thread makes all further calls.
    pub(crate) fn start(&self, part: Parting) -> Result<Joined> {
        let (mut rank, mut count) = (0, 0);
        // SAFETY: places for two numbers, and a function that any thread may call.
        let rc = unsafe { (self.0.start)(&raw mut rank, &raw mut count, part) };
        if rc == -libc::EPERM {
            let name = self.name();
            let text = format!(
                "the program has started {name} by itself, and in a way that leaves tine no thread to use it (for MPI: without MPI_THREAD_MULTIPLE)"
            );
            return Err(Error::new(Code(rc), text));
        }
        let before = self.checked("starting", rc)? > 0;
        match (usize::try_from(rank), usize::try_from(count)) {
            (Ok(rank), Ok(ranks)) if rank < ranks => Ok(Joined { rank, ranks, before }),
            _ => Err(Error::errno(libc::EPROTO, format!("{}: rank {rank} of {count}", self.name()))),
        }
    }

    /// Begins to send.
    ///
    /// # Safety
    /// The bytes stay where they are until the sending is over.
    pub(crate) unsafe fn send(&self, rank: Rank, bytes: *const [u8]) -> Result<Moving> {
        let mut sending = std::ptr::null_mut();
        // SAFETY: as many bytes, which stay, by the contract above; a place for the handle.
        let rc = unsafe { (self.0.send)(rank as c_int, bytes.cast(), bytes.len(), &raw mut sending) };
        self.checked("sending", rc)?;
        Ok(Moving(sending))
    }

    /// Whether it is over; asked no more once it was.
    pub(crate) fn is_done(&self, moving: &Moving) -> Result<bool> {
        // SAFETY: a handle that `send` or `receive` gave and that was not over when it was last asked about.
        Ok(self.checked("sending or receiving", unsafe { (self.0.done)(moving.0) })? > 0)
    }

    /// The next message of this rank's, or of any, which is looked at no more: from whom, how long, and what it is to be received by.
    pub(crate) fn probe(&self, from: Option<Rank>) -> std::result::Result<Option<Arrived>, Failed> {
        let mut rank = from.map_or(-1, |from| from as c_int);
        let (mut length, mut message) = (0, std::ptr::null_mut());
        // SAFETY: places for two numbers and a handle.
        let rc = unsafe { (self.0.probe)(&raw mut rank, &raw mut length, &raw mut message) };
        // Short of memory for a moment: it is there the next time.
        if rc == -libc::ENOMEM {
            return Ok(None);
        }
        match self.checked("looking for messages", rc) {
            Ok(rc) => Ok((rc > 0).then_some((rank as Rank, length, Message(message)))),
            Err(error) => Err(Failed { whose: Rank::try_from(rank).ok(), error }),
        }
    }

    /// Begins to receive a message that [`Transport::probe`] told of; -ENOMEM leaves it where it is.
    ///
    /// # Safety
    /// There is room for as many bytes as it has, until the receiving is over, and nobody else touches it.
    pub(crate) unsafe fn receive(&self, message: &Message, room: *mut u8, length: usize) -> Result<Moving> {
        let mut receiving = std::ptr::null_mut();
        // SAFETY: room for as many bytes, which stays, by the contract above; a place for the handle.
        let rc = unsafe { (self.0.receive)(message.0, room.cast(), length, &raw mut receiving) };
        self.checked("receiving", rc)?;
        Ok(Moving(receiving))
    }

    /// Leaves in good order, which waits for the others to do the same.
    pub(crate) fn stop(&self) -> Result<()> {
        // SAFETY: no pointers; the last call.
        self.checked("stopping", unsafe { (self.0.stop)() }).map(drop)
    }

    /// Ends all the others, and this process.
    pub(crate) fn abort(&self, code: i32) {
        // SAFETY: no pointers.
        unsafe { (self.0.abort)(code) }
    }
}
