//! Past one machine

use crate::cluster::transport::{self, Functions};
use crate::error::{Code, Error};
use crate::ffi::guard::guard;
use crate::ffi::options::{self, extensible};
use std::ffi::{c_char, c_int, c_void};

/// The workers are on this machine, unless the environment variable TINE_ENGINE is "mpi" or "mpi-or-local".
pub const TINE_ENGINE_DEFAULT: c_int = 0;
/// The workers are on this machine, whatever the environment says.
pub const TINE_ENGINE_LOCAL: c_int = 1;
/// The workers are on the nodes of an MPI job: all ranks but this one, which is rank 0. The program is linked with
/// libtine-mpi and started by mpirun; otherwise tine_pool_create returns -ENODEV.
pub const TINE_ENGINE_MPI: c_int = 2;
/// The workers are on the nodes of an MPI job. In a program that mpirun has not started, or that has no libtine-mpi,
/// they are on this machine.
pub const TINE_ENGINE_MPI_OR_LOCAL: c_int = 3;

/// The version of tine_transport.
pub const TINE_TRANSPORT_VERSION: u32 = 3;

/// How messages get from one process of a job to another: what libtine-mpi gives to tine. Programs need not know it.
///
/// Messages from one process to another arrive in the order in which they were sent. Every function returns a negated
/// errno value where it fails. All functions but .started are called by one thread of tine's: .start first and .stop
/// last.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tine_transport {
    /// sizeof(tine_transport).
    pub size: usize,
    /// TINE_TRANSPORT_VERSION.
    pub version: u32,
    /// The name that people know the transport by; a static string.
    pub name: *const c_char,
    /// Returns 1 in a process that was started as one of several, else 0. It may be called in any thread, at any
    /// time.
    pub started: Option<unsafe extern "C" fn() -> c_int>,
    /// Joins the other processes. It gives this process's rank and the number of ranks. Rank 0 calls part where the
    /// program leaves the others by itself, in whichever thread does so, and before it has done so: when part
    /// returns, .stop has. Returns 0; 1 where the program has joined the others by itself; -EPERM where it did so in a
    /// way that leaves tine no thread, in any of the processes.
    pub start:
        Option<unsafe extern "C" fn(rank: *mut c_int, ranks: *mut c_int, part: extern "C" fn()) -> c_int>,
    /// Begins to send a message of at most 64 MiB, and gives a handle for .done. The bytes stay as they are until that
    /// has returned 1. Returns 0.
    pub send: Option<
        unsafe extern "C" fn(
            rank: c_int,
            data: *const c_void,
            length: usize,
            sending: *mut *mut c_void,
        ) -> c_int,
    >,
    /// Looks for a message of the process that *rank says, or of any where that is -1. Returns 1 where one is there,
    /// and gives its sender, its length and a handle for .receive; 0 where none is. It tells of each message once, of
    /// those from one process in the order in which they were sent. Where it fails, *rank is the process whose error
    /// it is, or -1 where that is not known.
    pub probe: Option<
        unsafe extern "C" fn(rank: *mut c_int, length: *mut usize, message: *mut *mut c_void) -> c_int,
    >,
    /// Begins to receive a message that .probe has told of, and gives a handle for .done; the message's own handle is
    /// gone then. There is room for all of it, until .done has returned 1. Returns 0.
    pub receive: Option<
        unsafe extern "C" fn(
            message: *mut c_void,
            data: *mut c_void,
            length: usize,
            receiving: *mut *mut c_void,
        ) -> c_int,
    >,
    /// Returns 1 when a message has been sent or received, and its handle is gone; 0 until then.
    pub done: Option<unsafe extern "C" fn(moving: *mut c_void) -> c_int>,
    /// Leaves in good order, which waits until the other processes leave too, unless the program is to do that by
    /// itself. Returns 0.
    pub stop: Option<unsafe extern "C" fn() -> c_int>,
    /// Ends all processes of the job, this one too. code is the exit code that the job should have.
    pub abort: Option<unsafe extern "C" fn(code: c_int)>,
}

extensible!(tine_transport);

/// Registers how messages get to other processes. libtine-mpi calls it when it is loaded.
///
/// Parameters: transport: every field is set. It is copied. The string .name is not, and must stay.
/// Returns 0; -EINVAL: transport is NULL, or a field is not set; TINE_EVERSION: a transport of another version;
/// -EEXIST: a transport is registered already.
/// Threads: any, before tine_init. Fork: a child keeps it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_transport_register(transport: *const tine_transport) -> c_int {
    guard(|| {
        // SAFETY: `transport` is NULL, or as long as its `.size` says, as the header asks.
        let given =
            unsafe { options::read(transport) }?.ok_or_else(|| Error::invalid("transport is NULL"))?;
        if given.version != TINE_TRANSPORT_VERSION {
            let text = format!("transport.version is {}, not {TINE_TRANSPORT_VERSION}", given.version);
            return Err(Error::new(Code::VERSION, text));
        }
        transport::register(
            functions(&given).ok_or_else(|| Error::invalid("a field of the transport is not set"))?,
        )?;
        Ok(0)
    })
}

fn functions(given: &tine_transport) -> Option<Functions> {
    if given.name.is_null() {
        return None;
    }
    Some(Functions {
        name: given.name,
        started: given.started?,
        start: given.start?,
        send: given.send?,
        probe: given.probe?,
        receive: given.receive?,
        done: given.done?,
        stop: given.stop?,
        abort: given.abort?,
    })
}
