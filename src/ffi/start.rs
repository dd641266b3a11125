//! Starting up

use crate::bootstrap;
use crate::ffi::guard::{guard, guard_quick, guard_value, optional_str};
use crate::ffi::task::tine_task;
use crate::node;
use crate::task::{function as functions, program};
use std::ffi::{CStr, c_char, c_int};

/// The function of a task. What it returns is the result's status: 0 or more for success, a negated errno value for a
/// failure (see tine_fail for one with a text).
pub type tine_fn = Option<unsafe extern "C-unwind" fn(task: *mut tine_task) -> c_int>;

/// Registers a function under a name, for callers that have no pointer to it: other languages, other programs.
///
/// To be called before tine_init, in every program of a family alike; the name is copied. A library that workers load
/// by .preload calls it in a constructor.
///
/// Parameters: name: 1 to 255 bytes of UTF-8, new in this process. fn: the function.
/// Returns 0, -EINVAL (bad name, or NULL), -EEXIST (a second function of that name), TINE_ELATE (after tine_init).
/// Threads: any. Fork: a child keeps what was registered.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_register(name: *const c_char, r#fn: tine_fn) -> c_int {
    guard(|| {
        // SAFETY: `name` is NULL, or a string that stays until the call returns, as the header asks.
        let name = unsafe { optional_str(name) }.ok_or_else(|| crate::Error::invalid("name is NULL"))?;
        let function = r#fn.map_or(std::ptr::null(), |function| function as *const std::ffi::c_void);
        functions::register(name, function)?;
        Ok(0)
    })
}

/// The first thing in main. In the program that was started by its user it returns. In a process that a pool started it
/// never returns: that process becomes a supervisor or a worker here.
///
/// In a program that is linked with libtine-mpi, or started with TINE_ENGINE=mpi in its environment, and that was started
/// by mpirun, it returns in rank 0 alone: every other rank is a node there, which runs the tasks of rank 0's pools
/// (TINE_ENGINE_MPI), until rank 0 exits.
///
/// A host whose main is not its own, a plugin, need not call it and names a worker executable instead:
/// tine_pool_options.worker_path.
///
/// Parameters: argc, argv: main's own, or 0 and NULL. They are not changed.
/// Returns 0, also when it is called again; -ENOSYS (the kernel is older than Linux 5.4: the log names it and the call
/// that it lacks, and pools are refused). Under mpirun also -ENOENT: there is no libtine-mpi; -ETIMEDOUT: a rank does
/// not come; -EIO, -EPERM: MPI cannot be started.
/// Threads: before any other thread is started. Fork: a child need not call it again.
#[unsafe(no_mangle)]
pub extern "C" fn tine_init(argc: c_int, argv: *mut *mut c_char) -> c_int {
    let _ = (argc, argv);
    guard_quick(|| {
        bootstrap::init()?;
        node::start()?;
        Ok(0)
    })
}

/// Returns true in a process that was started to run functions: a worker of a pool, in its initializer, its tasks, its finalizer
/// and in all its threads, or a process of tine_process_start. Returns false everywhere else: in a host (with TINE_INLINE too), in
/// a supervisor, in a child that a worker has forked.
///
/// Threads: any; may be called in a signal handler.
#[unsafe(no_mangle)]
pub extern "C" fn tine_in_worker() -> bool {
    guard_value(false, program::in_worker)
}

/// The path of the ready-made worker program, tine-worker, for tine_pool_options.worker_path and
/// tine_process_options.worker_path.
///
/// It is looked for beside the library, or the program that libtine.a is in; below that in a folder of the version's own, tine0.1;
/// and in the libexec folders next to and above that folder. It is looked for once.
///
/// Returns the path, which is absolute and static; NULL: there is no such program. Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn tine_worker_path() -> *const c_char {
    guard_value(std::ptr::null(), || program::worker_path().map_or(std::ptr::null(), CStr::as_ptr))
}
