//! System calls in bare instructions, for processes that may not touch the C library: its locks may be those of threads
//! that this copy of a process does not have, and sanitizers put code of their own in its place.

use std::ffi::{CStr, c_int, c_long, c_void};

/// A system call; the result is the kernel's own, so an error is -errno.
///
/// # Safety
/// As that of the call.
#[cfg(target_arch = "x86_64")]
pub(crate) unsafe fn call(number: c_long, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    let result;
    // SAFETY: the registers are those of the kernel's calling convention, and each one that it changes is named. What
    // the call itself needs is asked for by the contract above.
    unsafe {
        std::arch::asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a, in("rsi") b, in("rdx") c,
            in("r10") d, in("r8") e, in("r9") f, lateout("rcx") _, lateout("r11") _);
    }
    result
}

/// As above.
///
/// # Safety
/// As that of the call.
#[cfg(target_arch = "aarch64")]
pub(crate) unsafe fn call(number: c_long, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    let result;
    // SAFETY: the registers are those of the kernel's calling convention, and each one that it changes is named. What
    // the call itself needs is asked for by the contract above.
    unsafe {
        std::arch::asm!("svc 0", in("x8") number, inlateout("x0") a => result, in("x1") b, in("x2") c, in("x3") d,
            in("x4") e, in("x5") f);
    }
    result
}

/// A copy of this process, of the calling thread alone, and as a child without an exit signal: plain `wait` does not see it, and
/// nothing announces its end. `pidfd` gets a descriptor of it, where there is room for one. 0 in the copy.
///
/// # Safety
/// The copy may call nothing that could wait for another thread's lock.
pub(crate) unsafe fn silent_fork(pidfd: Option<&mut c_int>) -> isize {
    let flags = if pidfd.is_some() { libc::CLONE_PIDFD as usize } else { 0 };
    let place = pidfd.map_or(0, |place| std::ptr::from_mut(place).addr());
    // SAFETY: without CLONE_VM the copy goes on with a stack of its own, at the same address.
    unsafe { call(libc::SYS_clone, [flags, 0, place, 0, 0, 0]) }
}

const VFORK: usize = (libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD) as usize;

/// A child that runs a function in this process's memory, on the same stack further down, while this process stands still: until
/// the child has executed a program or ended. Its number, or -errno.
///
/// # Safety
/// What the function changes stays changed here.
#[cfg(target_arch = "x86_64")]
pub(crate) unsafe fn vfork(run: extern "C" fn(*mut c_void) -> !, argument: *mut c_void) -> isize {
    let result;
    // SAFETY: the child never comes back to this frame, and its calls lie below what this process has on its stack.
    unsafe {
        std::arch::asm!("syscall", "test rax, rax", "jnz 2f", "mov rdi, r12", "and rsp, -16", "call r13", "ud2", "2:",
            inlateout("rax") libc::SYS_clone as isize => result, in("rdi") VFORK, in("rsi") 0, in("rdx") 0,
            in("r10") 0, in("r8") 0, in("r12") argument, in("r13") run, lateout("rcx") _, lateout("r11") _);
    }
    result
}

/// As above.
///
/// # Safety
/// As above.
#[cfg(target_arch = "aarch64")]
pub(crate) unsafe fn vfork(run: extern "C" fn(*mut c_void) -> !, argument: *mut c_void) -> isize {
    let result;
    // SAFETY: the child never comes back to this frame, and its calls lie below what this process has on its stack.
    unsafe {
        std::arch::asm!("svc 0", "cbnz x0, 2f", "mov x0, x20", "blr x21", "brk 1", "2:", in("x8") libc::SYS_clone,
            inlateout("x0") VFORK => result, in("x1") 0, in("x2") 0, in("x3") 0, in("x4") 0, in("x20") argument,
            in("x21") run);
    }
    result
}

/// Goes on in a function on another stack, for good. A walk of that stack ends there, because the function has no caller.
///
/// # Safety
/// `top` is the end of memory for a stack that nobody else uses, a multiple of 16.
#[cfg(target_arch = "x86_64")]
pub(crate) unsafe fn go_on_at(top: usize, run: extern "C" fn(*mut c_void) -> !, argument: *mut c_void) -> ! {
    // SAFETY: by the contract above nobody else uses the stack that ends at `top`. `run` never returns, so nothing of
    // the old stack is used after this but what `argument` points to.
    unsafe {
        std::arch::asm!("mov rsp, {top}", "xor ebp, ebp", "push 0", "jmp {run}", top = in(reg) top,
            run = in(reg) run, in("rdi") argument, options(noreturn));
    }
}

/// As above.
///
/// # Safety
/// As above.
#[cfg(target_arch = "aarch64")]
pub(crate) unsafe fn go_on_at(top: usize, run: extern "C" fn(*mut c_void) -> !, argument: *mut c_void) -> ! {
    // SAFETY: by the contract above nobody else uses the stack that ends at `top`. `run` never returns, so nothing of
    // the old stack is used after this but what `argument` points to.
    unsafe {
        std::arch::asm!("mov sp, {top}", "mov x29, xzr", "mov x30, xzr", "br {run}", top = in(reg) top,
            run = in(reg) run, in("x0") argument, options(noreturn));
    }
}

/// The thread pointer, to which the C library's offsets of a thread's own memory are relative.
pub(crate) fn thread_pointer() -> usize {
    let at: usize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the first word behind the segment register is its own address, by the ABI.
    unsafe {
        std::arch::asm!("mov {at}, fs:0", at = out(reg) at, options(nostack, readonly));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a register that every program may read.
    unsafe {
        std::arch::asm!("mrs {at}, tpidr_el0", at = out(reg) at, options(nostack, nomem));
    }
    at
}

/// Ends this process.
pub(crate) fn exit(code: usize) -> ! {
    loop {
        // SAFETY: no pointers.
        unsafe { call(libc::SYS_exit_group, [code, 0, 0, 0, 0, 0]) };
    }
}

/// Closes the descriptors from `first` to `last`, whatever the limit on them is by now.
pub(crate) fn close_range(first: u32, last: u32) {
    // SAFETY: no pointers; what is closed is nobody's in the process that calls this.
    if unsafe { call(libc::SYS_close_range, [first as usize, last as usize, 0, 0, 0, 0]) } == 0 {
        return;
    }
    // Kernels before 5.9, and sandboxes that do not know the call.
    let is_meant = |fd: u32| (first..=last).contains(&fd);
    // SAFETY: a number.
    let close = |fd: u32| unsafe { call(libc::SYS_close, [fd as usize, 0, 0, 0, 0, 0]) };
    let all = any_number(c"/proc/self/fd", |fd, folder| {
        if is_meant(fd) && fd != folder {
            close(fd);
        }
        false
    });
    if all.is_err() {
        // Without /proc, or with no descriptor free: as far as numbers may go.
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        let place = (&raw mut limit).addr();
        // SAFETY: a place for the limit.
        unsafe { call(libc::SYS_prlimit64, [0, libc::RLIMIT_NOFILE as usize, 0, place, 0, 0]) };
        for fd in (0..limit.rlim_max.clamp(1024, 1 << 20) as u32).filter(|fd| is_meant(*fd)) {
            close(fd);
        }
    }
}

/// Asks of each number that is a name in a folder, and of the folder's descriptor, until the answer is yes; whether it was. Or the
/// number of the error. No memory is needed.
pub(crate) fn any_number(path: &CStr, mut is_meant: impl FnMut(u32, u32) -> bool) -> Result<bool, c_int> {
    #[repr(C, align(8))]
    struct Entries([u8; 1024]);
    let mut entries = Entries([0; 1024]);
    // SAFETY: a C string, a buffer of the length that is said, and the number of a descriptor that this function has opened.
    unsafe {
        let flags = (libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC) as usize;
        let folder = call(libc::SYS_openat, [libc::AT_FDCWD as usize, path.as_ptr().addr(), flags, 0, 0, 0]);
        if folder < 0 {
            return Err(-folder as c_int);
        }
        let found = loop {
            let place = (&raw mut entries).addr();
            let length = call(libc::SYS_getdents64, [folder as usize, place, entries.0.len(), 0, 0, 0]);
            if length <= 0 {
                break if length == 0 { Ok(false) } else { Err(-length as c_int) };
            }
            // Of an entry: its length is at 16, its name at 19.
            let mut at = 0;
            let mut is_found = false;
            while at < length as usize && !is_found {
                let digits = entries.0[at + 19..].iter().take_while(|byte| byte.is_ascii_digit());
                let number = digits.fold(None, |number: Option<u32>, digit| {
                    Some(number.unwrap_or(0) * 10 + u32::from(digit - b'0'))
                });
                is_found = number.is_some_and(|number| is_meant(number, folder as u32));
                at += usize::from(u16::from_ne_bytes([entries.0[at + 16], entries.0[at + 17]]));
            }
            if is_found {
                break Ok(true);
            }
        };
        call(libc::SYS_close, [folder as usize, 0, 0, 0, 0, 0]);
        found
    }
}
