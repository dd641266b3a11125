//! How a process that was started by mpirun becomes rank 0 or a node.

use super::exchange::{Exchange, meet};
use super::node::Serving;
use super::transport::{self, Joined, Transport};
use super::witness::Witness;
use crate::error::{Code, Error, Result};
use crate::sys::clock::Deadline;
use crate::sys::log::{self, Level};
use crate::sys::thread::Thread;
use crate::sys::{elf, fork, host, signal};
use std::ffi::CString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};

/// How long what the program has printed may take to be written, before the job is ended.
const FLUSH_NS: u64 = 1_000_000_000;

/// What a node does; it returns when rank 0 has said goodbye.
pub(crate) type Serve = fn(Serving) -> Result<()>;

/// What has come of starting a process that was started by mpirun: it is rank 0, or cannot be, for this reason. Nothing in any other, which may
/// find a library the next time. Looked at without waiting: a forked child may have been copied in the middle of anything.
static HOST: OnceLock<Result<Arc<Exchange>>> = OnceLock::new();

/// The thread that makes all calls of the transport, to be waited for at the end.
static THREAD: Mutex<Option<(i32, Thread)>> = Mutex::new(None);

/// Which engine the environment asks for: the value of `TINE_ENGINE`.
pub(crate) fn wanted() -> Option<String> {
    std::env::var("TINE_ENGINE").ok().filter(|text| !text.is_empty())
}

/// Where several processes were started together: returns in rank 0, and nowhere else.
pub(crate) fn start(serve: Serve) -> Result<()> {
    let come = match HOST.get() {
        Some(come) => come.clone(), // Of an earlier call.
        None => match find_transport() {
            Ok(Some(transport)) if transport.was_started() => {
                let come = join(transport, serve);
                let _ = HOST.set(come.clone());
                come
            }
            Ok(_) => return Ok(()),
            Err(error) => Err(error),
        },
    };
    // For programs that do not look at what tine_init returns.
    come.map(drop).inspect_err(|error| log::say(Level::Warning, &format!("tine_init: {}\n", error.text())))
}

/// This process as rank 0, or why it cannot be that; nothing where it was not started by mpirun, or has found no library.
pub(crate) fn host() -> Option<Result<Arc<Exchange>>> {
    HOST.get().cloned()
}

/// The library that the program is linked with has registered itself; else the environment says that one is to be loaded.
fn find_transport() -> Result<Option<Transport>> {
    if let Some(transport) = transport::registered() {
        return Ok(Some(transport));
    }
    let engine = wanted().unwrap_or_default();
    if !engine.starts_with("mpi") {
        return Ok(None);
    }
    let name = std::env::var("TINE_MPI_LIBRARY").unwrap_or_else(|_| "libtine-mpi.so".to_owned());
    let path = CString::new(name.as_str()).unwrap_or_default();
    if let Err(why) = elf::load(&path) {
        return match engine.as_str() {
            "mpi-or-local" => Ok(None),
            _ => Err(Error::errno(libc::ENOENT, format!("TINE_ENGINE asks for MPI, but {why}"))),
        };
    }
    match transport::registered() {
        Some(transport) => Ok(Some(transport)),
        None => Err(Error::errno(libc::ENOENT, format!("{name} has registered no transport"))),
    }
}

/// What the thread has come to: nothing yet; or that of rank 0.
type Came = Mutex<Option<Result<Arc<Exchange>>>>;

fn join(transport: Transport, serve: Serve) -> Result<Arc<Exchange>> {
    let witness = Arc::new(Witness::start()?);
    let came: Arc<(Came, Condvar)> = Arc::default();
    let tell = Arc::clone(&came);
    let thread = Thread::start(c"tine-mpi", 0, move || {
        let ran = catch_unwind(AssertUnwindSafe(|| be_what_was_started(transport, serve, witness, &tell)));
        if ran.is_err() {
            // Nobody would settle anything any more.
            end_job(&transport);
        }
    })?;
    let mut lock = came.0.lock().unwrap_or_else(PoisonError::into_inner);
    let exchange = loop {
        if let Some(exchange) = lock.take() {
            break exchange?;
        }
        lock = came.1.wait(lock).unwrap_or_else(PoisonError::into_inner);
    };
    *THREAD.lock().unwrap_or_else(PoisonError::into_inner) = Some((fork::pid(), thread));
    host::at_exit(leave);
    Ok(exchange)
}

fn be_what_was_started(transport: Transport, serve: Serve, witness: Arc<Witness>, came: &(Came, Condvar)) {
    let tell = |what| {
        *came.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
        came.1.notify_all();
    };
    match transport.start(part) {
        Err(error) => tell(Err(error)),
        Ok(Joined { rank: 0, ranks, before }) => match meet(transport, ranks, before, witness) {
            Err(error) => {
                log::say(Level::Error, &format!("tine: {}\n", error.text()));
                tell(Err(error));
                end_job(&transport);
            }
            Ok(mut talk) => {
                tell(Ok(Arc::clone(talk.exchange())));
                talk.run();
            }
        },
        Ok(Joined { rank, .. }) => {
            drop(witness); // What becomes of tasks is known at rank 0.
            let served = Serving::new(transport).and_then(serve).and_then(|()| transport.stop());
            if let Err(error) = served {
                log::say(Level::Error, &format!("tine: rank {rank} on {}: {}\n", host::name(), error.text()));
                end_job(&transport);
            }
            signal::exit_now(0);
        }
    }
}

/// At the end of rank 0, in good order: the nodes end, and MPI is told.
extern "C" fn leave() {
    let Some((pid, thread)) = THREAD.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
    if pid != fork::pid() {
        return;
    }
    if let Some(Ok(exchange)) = HOST.get() {
        exchange.leave();
        if !thread.is_this() {
            thread.join();
        }
    }
}

/// Before the program finalizes MPI by itself: the nodes end, and tine's thread makes no call any more.
extern "C" fn part() {
    if let Some(Ok(exchange)) = HOST.get() {
        exchange.part();
    }
}

/// Ends all ranks, this one too, though not in good order. What this process has printed is not lost with it.
pub(crate) fn end_job(transport: &Transport) {
    // The transport may end this process by `exit`, where nobody is to take leave: the report of what has not settled would be lost.
    THREAD.lock().unwrap_or_else(PoisonError::into_inner).take();
    host::flush_output(Deadline::after(FLUSH_NS));
    transport.abort(1);
}

/// Why there is no engine MPI in a process that was not started by mpirun.
pub(crate) fn not_started() -> Error {
    let why = match find_transport() {
        Err(error) => return error,
        Ok(None) => "libtine-mpi is not linked, and TINE_ENGINE does not ask for it",
        Ok(Some(_)) => "the program was not started by mpirun, or has not called tine_init",
    };
    Error::new(Code::errno(libc::ENODEV), format!("TINE_ENGINE_MPI is not available: {why}"))
}
