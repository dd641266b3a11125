//! What a keeper does when its family has been born: it lets go of everything that it has of its host, waits for whatever the
//! family leaves to it, says how the supervisor has ended, and ends with the last of them.
//!
//! A copy of a process that gives its memory back needs code that touches none of it: a page of instructions and a page of
//! numbers stay. No stack is among them, so every signal is blocked.

use super::raw;
use std::arch::global_asm;
use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The numbers. The instructions below know where each one is.
#[repr(C)]
struct Page {
    /// What is unmapped: start and length. A length beyond the end of the address space is refused, so several are tried.
    unmapped: [(usize, usize); 8],
    /// A message of [`crate::task::wire`]: its kind, then how the supervisor has ended, as wait() has it.
    message: [u64; 8],
    supervisor: usize,
    socket: usize,
}

const STATUS: usize = std::mem::offset_of!(Page, message) + 8;
const MESSAGE: usize = std::mem::offset_of!(Page, message);
const SUPERVISOR: usize = std::mem::offset_of!(Page, supervisor);
const SOCKET: usize = std::mem::offset_of!(Page, socket);

unsafe extern "C" {
    /// Never returns.
    fn tine_keep(page: *mut c_void) -> !;
    static tine_keep_end: u8;
}

#[cfg(target_arch = "x86_64")]
global_asm!(
    ".pushsection .text.tine_keep, \"ax\", @progbits",
    ".hidden tine_keep",
    ".globl tine_keep",
    ".type tine_keep, @function",
    "tine_keep:",
    "mov r12, rdi",
    "xor ebx, ebx",
    "2: mov rdi, [r12 + rbx]",
    "mov rsi, [r12 + rbx + 8]",
    "mov eax, {munmap}",
    "syscall",
    "add ebx, 16",
    "cmp ebx, {message}",
    "jb 2b",
    "3: mov rdi, -1",
    "lea rsi, [r12 + {status}]",
    "mov edx, {wall}",
    "xor r10d, r10d",
    "mov eax, {wait4}",
    "syscall",
    "cmp rax, [r12 + {supervisor}]",
    "je 4f",
    "test rax, rax",
    "jns 3b",
    "cmp rax, -{eintr}",
    "je 3b",
    "xor edi, edi",
    "mov eax, {exit_group}",
    "syscall",
    "ud2",
    "4: mov qword ptr [r12 + {supervisor}], 0",
    "mov rdi, [r12 + {socket}]",
    "lea rsi, [r12 + {message}]",
    "mov edx, 64",
    "mov r10d, {flags}",
    "xor r8d, r8d",
    "xor r9d, r9d",
    "mov eax, {sendto}",
    "syscall",
    "mov rdi, [r12 + {socket}]",
    "mov eax, {close}",
    "syscall",
    "jmp 3b",
    ".hidden tine_keep_end",
    ".globl tine_keep_end",
    "tine_keep_end:",
    ".popsection",
    munmap = const libc::SYS_munmap,
    wait4 = const libc::SYS_wait4,
    exit_group = const libc::SYS_exit_group,
    sendto = const libc::SYS_sendto,
    close = const libc::SYS_close,
    wall = const libc::__WALL,
    eintr = const libc::EINTR,
    flags = const libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT,
    message = const MESSAGE,
    status = const STATUS,
    supervisor = const SUPERVISOR,
    socket = const SOCKET,
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".pushsection .text.tine_keep, \"ax\", @progbits",
    ".hidden tine_keep",
    ".globl tine_keep",
    ".type tine_keep, @function",
    "tine_keep:",
    "mov x20, x0",
    "mov x21, #0",
    "2: add x9, x20, x21",
    "ldp x0, x1, [x9]",
    "mov x8, #{munmap}",
    "svc 0",
    "add x21, x21, #16",
    "cmp x21, #{message}",
    "b.lo 2b",
    "3: mov x0, #-1",
    "add x1, x20, #{status}",
    "mov x2, #{wall}",
    "mov x3, #0",
    "mov x8, #{wait4}",
    "svc 0",
    "ldr x9, [x20, #{supervisor}]",
    "cmp x0, x9",
    "b.eq 4f",
    "tbz x0, #63, 3b",
    "cmn x0, #{eintr}",
    "b.eq 3b",
    "mov x0, #0",
    "mov x8, #{exit_group}",
    "svc 0",
    "brk 1",
    "4: str xzr, [x20, #{supervisor}]",
    "ldr x0, [x20, #{socket}]",
    "add x1, x20, #{message}",
    "mov x2, #64",
    "mov x3, #{flags}",
    "mov x4, #0",
    "mov x5, #0",
    "mov x8, #{sendto}",
    "svc 0",
    "ldr x0, [x20, #{socket}]",
    "mov x8, #{close}",
    "svc 0",
    "b 3b",
    ".hidden tine_keep_end",
    ".globl tine_keep_end",
    "tine_keep_end:",
    ".popsection",
    munmap = const libc::SYS_munmap,
    wait4 = const libc::SYS_wait4,
    exit_group = const libc::SYS_exit_group,
    sendto = const libc::SYS_sendto,
    close = const libc::SYS_close,
    wall = const libc::__WALL,
    eintr = const libc::EINTR,
    flags = const libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT,
    message = const MESSAGE,
    status = const STATUS,
    supervisor = const SUPERVISOR,
    socket = const SOCKET,
);

/// Where a process's address space may end, largest first: by the processor's number of bits.
#[cfg(target_arch = "x86_64")]
const ENDS: [usize; 6] = [(1 << 56) - 4096, (1 << 47) - 4096, 0, 0, 0, 0];
/// As above.
#[cfg(target_arch = "aarch64")]
const ENDS: [usize; 6] = [1 << 52, 1 << 48, 1 << 47, 1 << 42, 1 << 39, 1 << 36];

/// The rest of a keeper's life. `kind` is the message's that tells of the supervisor's end.
///
/// # Safety
/// For a copy of a process whose memory nobody else shares, with all signals blocked.
pub(crate) unsafe fn keep(supervisor: i32, socket: i32, kind: u64, page_size: usize) -> ! {
    let rights = (libc::PROT_READ | libc::PROT_WRITE) as usize;
    let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let at = unsafe { raw::call(libc::SYS_mmap, [0, page_size, rights, flags, usize::MAX, 0]) };
    if at <= 0 {
        raw::exit(1); // The supervisor goes with this process, and its host is told so by the kernel.
    }
    let page_at = at as usize;
    let page = std::ptr::with_exposed_provenance_mut::<Page>(page_at);
    let mask = !(page_size - 1);
    let first = (tine_keep as unsafe extern "C" fn(*mut c_void) -> ! as usize) & mask;
    let code = (first, (((&raw const tine_keep_end).addr() - 1) & mask) + page_size);
    let numbers = (page_at, page_at + page_size);
    let (low, high) = if code.0 < numbers.0 { (code, numbers) } else { (numbers, code) };
    // SAFETY: the mapping is new and as large as a page; the instructions in `tine_keep` stay mapped, as do the numbers.
    unsafe {
        (*page).supervisor = supervisor as usize;
        (*page).socket = socket as usize;
        (*page).message[0] = kind;
        // The kernel writes into a thread's rseq area whenever it goes on: that has to be let go of first.
        if leave_rseq(page_at + page_size / 2) {
            (*page).unmapped[0] = (0, low.0);
            (*page).unmapped[1] = (low.1, high.0 - low.1);
            for (at, end) in ENDS.into_iter().enumerate() {
                (*page).unmapped[2 + at] = (high.1, end.saturating_sub(high.1));
            }
        }
        tine_keep(page.cast())
    }
}

/// Of the C library's rseq areas: their distance from the thread pointer, and the lengths that it may have told the kernel.
/// Relaxed: the same for every thread, and the calling thread has found them out itself.
static RSEQ_OFFSET: AtomicUsize = AtomicUsize::new(0);
static RSEQ_LENGTH: AtomicUsize = AtomicUsize::new(0);

const RSEQ_LEAST: usize = 32;
#[cfg(target_arch = "x86_64")]
const RSEQ_SIGNATURE: usize = 0x5305_3053;
#[cfg(target_arch = "aarch64")]
const RSEQ_SIGNATURE: usize = 0xd428_bc00;

/// Finds out, in the host, what a keeper has to know of the C library.
pub(crate) fn prepare() {
    if RSEQ_LENGTH.load(Ordering::Relaxed) != 0 {
        return;
    }
    const AT_RSEQ_FEATURE_SIZE: libc::c_ulong = 27;
    const AT_RSEQ_ALIGN: libc::c_ulong = 28;
    // SAFETY: a C string; glibc's variable, of pointer size, which never changes.
    unsafe {
        let found = libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_offset".as_ptr());
        if !found.is_null() {
            RSEQ_OFFSET.store(found.cast::<usize>().read(), Ordering::Relaxed);
        }
        let align = (libc::getauxval(AT_RSEQ_ALIGN) as usize).max(RSEQ_LEAST);
        let length = (libc::getauxval(AT_RSEQ_FEATURE_SIZE) as usize).max(1).next_multiple_of(align);
        RSEQ_LENGTH.store(length, Ordering::Relaxed);
    }
}

/// Whether the kernel has no rseq area of this thread any more. `spare` is memory for one.
fn leave_rseq(spare: usize) -> bool {
    let rseq = |at: usize, length: usize, flags: usize| {
        // SAFETY: an area that is in use is left, or memory that stays is taken for one for a moment.
        unsafe { raw::call(libc::SYS_rseq, [at, length, flags, RSEQ_SIGNATURE, 0, 0]) }
    };
    let (offset, length) = (RSEQ_OFFSET.load(Ordering::Relaxed), RSEQ_LENGTH.load(Ordering::Relaxed));
    let area = raw::thread_pointer().wrapping_add(offset);
    for length in [RSEQ_LEAST, length] {
        if offset != 0 && rseq(area, length, 1) == 0 {
            break;
        }
    }
    // One that some other library has registered cannot be left; then its memory stays, and all other with it.
    match rseq(spare, RSEQ_LEAST, 0) {
        0 => rseq(spare, RSEQ_LEAST, 1) == 0,
        refused => refused == -(libc::ENOSYS as isize),
    }
}
