//! Handlers for the signals that end a crashing process, and the walk up its stack.

use super::memory::Mapping;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

/// What the kernel says about a fatal signal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) signal: i32,
    pub(crate) code: i32,
    pub(crate) address: usize,
    /// The instruction that it interrupted: what lies below it on the stack is the handler.
    pub(crate) instruction: usize,
}

const FATAL: [c_int; 7] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGABRT, libc::SIGTRAP, libc::SIGSYS];

/// The handler's stack. A backtrace through the C++ unwinder needs more than SIGSTKSZ.
const STACK_BYTES: usize = 128 * 1024;

/// More than lie between the handler and what it has interrupted.
const HANDLER_FRAMES: usize = 32;

/// What the handler calls. Release at installation, Acquire in the handler.
static RECORD: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

/// Has `record` called when a signal is about to end this process; then the signal ends it.
pub(crate) fn install(record: fn(Fault)) {
    RECORD.store(record as *mut c_void, Ordering::Release);
    // The unwinder loads and allocates what it needs at its first use, which must not be in the handler.
    walk_stack(0, &mut |_| false);
    if let Ok(stack) = Mapping::stack(STACK_BYTES) {
        let alternate = libc::stack_t { ss_sp: stack.pointer().cast(), ss_flags: 0, ss_size: STACK_BYTES };
        // SAFETY: the stack stays mapped as long as the process lives.
        unsafe { libc::sigaltstack(&alternate, std::ptr::null_mut()) };
        stack.leak();
    }
    // SAFETY: a valid action. SA_RESETHAND: a second fault, in the handler, ends the process at once.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handle as extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESETHAND;
        for signal in FATAL {
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}

extern "C" fn handle(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: async-signal-safe calls; `info` is the kernel's.
    unsafe {
        // Whatever happens in here, the process is gone in a second: SIGALRM's default ends it.
        libc::signal(libc::SIGALRM, libc::SIG_DFL);
        let mut alarm: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut alarm);
        libc::sigaddset(&mut alarm, libc::SIGALRM);
        libc::sigprocmask(libc::SIG_UNBLOCK, &alarm, std::ptr::null_mut());
        libc::alarm(1);
        let record = RECORD.load(Ordering::Acquire);
        if !record.is_null() {
            let record: fn(Fault) = std::mem::transmute(record);
            // For a signal that a process has sent, these bytes hold the sender.
            let faults = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP];
            let of_processor = faults.contains(&signal) && (*info).si_code > 0;
            let address = if of_processor { (*info).si_addr() as usize } else { 0 };
            record(Fault {
                signal,
                code: (*info).si_code,
                address,
                instruction: interrupted(context.cast()),
            });
        }
        // The disposition is the default again: for the process that sent it, the signal is what it was.
        libc::raise(signal);
    }
}

/// # Safety
/// The context that the kernel gave a handler.
unsafe fn interrupted(context: *const libc::ucontext_t) -> usize {
    // SAFETY: by the contract above the kernel has made the context, and keeps it until the handler returns.
    let machine = unsafe { &(*context).uc_mcontext };
    #[cfg(target_arch = "x86_64")]
    return machine.gregs[libc::REG_RIP as usize] as usize;
    #[cfg(target_arch = "aarch64")]
    return machine.pc as usize;
}

#[repr(C)]
struct UnwindContext {
    _private: [u8; 0],
}

unsafe extern "C" {
    fn _Unwind_Backtrace(
        trace: unsafe extern "C" fn(*mut UnwindContext, *mut c_void) -> c_int,
        argument: *mut c_void,
    ) -> c_int;
    fn _Unwind_GetIP(context: *mut UnwindContext) -> usize;
}

/// Calls `visit` with the address of each frame, innermost first, until it answers false: from the frame that was interrupted at
/// the instruction `from`. Where the unwinder does not get there, `from` and then all: the handler's callers may be the broken thing,
/// and with musl the unwinder comes to no end of the handler.
pub(crate) fn walk_stack(from: usize, visit: &mut dyn FnMut(usize) -> bool) {
    let (mut reached, mut of_handler) = (false, 0);
    all_frames(&mut |address| {
        reached = address == from;
        of_handler += 1;
        !reached && of_handler < HANDLER_FRAMES
    });
    if !reached && from != 0 && !visit(from) {
        return;
    }
    let mut begun = !reached;
    all_frames(&mut |address| {
        begun |= address == from;
        !begun || visit(address)
    });
}

fn all_frames(visit: &mut dyn FnMut(usize) -> bool) {
    unsafe extern "C" fn frame(context: *mut UnwindContext, argument: *mut c_void) -> c_int {
        // SAFETY: the argument is the place of the closure's pointer, the context the unwinder's.
        let (visit, address) =
            unsafe { (&mut **argument.cast::<&mut dyn FnMut(usize) -> bool>(), _Unwind_GetIP(context)) };
        const GO_ON: c_int = 0;
        const STOP: c_int = 4;
        if address != 0 && visit(address) { GO_ON } else { STOP }
    }
    let mut visit = visit;
    // SAFETY: the unwinder that every Rust program is linked with; the argument outlives the call.
    unsafe { _Unwind_Backtrace(frame, (&raw mut visit).cast()) };
}
