//! Starting up

use crate::bootstrap;
use crate::ffi::guard::{guard, guard_quick, guard_value, optional_str};
use crate::ffi::task::tine_task;
use crate::node;
use crate::task::{function as functions, program};
use std::ffi::{CStr, c_char, c_int};

/// The function of a task. Its return value is the result's .status: 0 or more for a success, a negated errno value
/// for a failure. tine_fail gives a failure a text.
pub type tine_fn = Option<unsafe extern "C-unwind" fn(task: *mut tine_task) -> c_int>;

/// Registers a function under a name, for callers that have no pointer to it: other languages and other programs.
///
/// Each program of a family has to register the name, before tine_init. The name is copied. A library that workers
/// load by .preload registers its functions in a constructor.
///
/// Parameters: name: 1 to 255 bytes of UTF-8, new in this process. fn: the function.
/// Returns 0; -EINVAL: the name has another length or is not UTF-8, or an argument is NULL; -EEXIST: a function has
/// this name already; TINE_ELATE: tine_init has run.
/// Threads: any. Fork: a child keeps what was registered.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_register(name: *const c_char, r#fn: tine_fn) -> c_int {
    guard(|| {
        // SAFETY: `name` is NULL, or a string that stays until the call returns, as the header asks.
        let name = unsafe { optional_str(name) }.ok_or_else(|| crate::Error::invalid("name is NULL"))?;
        let function = r#fn.map_or(std::ptr::null(), |function| function as *const std::ffi::c_void);
        // SAFETY: the type of the parameter is that of a task's function, or it is null.
        unsafe { functions::register(name, function) }?;
        Ok(0)
    })
}

/// The first call in main. In the program that the user has started it returns. In a process that a pool has started
/// it never returns: that process becomes a supervisor or a worker here.
///
/// A program that is started by mpirun, and that is linked with libtine-mpi or has TINE_ENGINE=mpi in its
/// environment, is a job. There tine_init returns in rank 0 alone. Every other rank becomes a node, which runs the
/// tasks of rank 0's pools (TINE_ENGINE_MPI) until rank 0 exits.
///
/// A host whose main is not its own, a plugin, need not call tine_init. It names a worker executable instead, in
/// tine_pool_options.worker_path.
///
/// Parameters: argc, argv: main's own, or 0 and NULL. They are not changed.
/// Returns 0, also when it is called again; -ENOSYS: the kernel is older than Linux 5.4. The log then names the
/// kernel and the system call that it lacks, and pools are refused. Under mpirun also -ENOENT: there is no
/// libtine-mpi; -ETIMEDOUT: a rank does not come; -EIO, -EPERM: MPI cannot be started.
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

/// Tells workers and hosts apart.
///
/// Returns true in a process that was started to run functions. These are the workers of a pool, in their
/// initializer, their tasks, their finalizer and all their threads, and the processes of tine_process_start. Returns
/// false everywhere else: in a host (with TINE_INLINE too), in a supervisor, and in a child that a worker has forked.
/// Threads: any; may be called in a signal handler. Fork: false in a child.
#[unsafe(no_mangle)]
pub extern "C" fn tine_in_worker() -> bool {
    guard_value(false, program::in_worker)
}

/// The path of the ready-made worker program, tine-worker, for tine_pool_options.worker_path and
/// tine_process_options.worker_path.
///
/// The program is looked for once: in the folder of the library (or of the program that libtine.a is in), below it in
/// a folder of the version's own (tine0.1), and in the libexec folders beside and above it.
///
/// Returns the path, an absolute one and a static string; NULL: there is no such program.
/// Threads: any. Fork: a child may call it.
#[unsafe(no_mangle)]
pub extern "C" fn tine_worker_path() -> *const c_char {
    guard_value(std::ptr::null(), || program::worker_path().map_or(std::ptr::null(), CStr::as_ptr))
}
