//! A word of each thread's own, which is 0 when the thread begins.
//!
//! Rust gives a shared library the slowest way to thread-local memory, a function call per access, which is a tenth of a lock and
//! unlock. Such a word is therefore declared for the assembler, and read in the initial-exec way.

/// Makes a module with `get` and `address` of such a word. The symbol's name must be the only one of its kind.
macro_rules! thread_word {
    ($name:ident, $symbol:literal) => {
        #[cfg(all(target_arch = "x86_64", target_pointer_width = "64"))]
        mod $name {
            use std::arch::{asm, global_asm};

            global_asm!(
                concat!(".pushsection .tbss.", $symbol, ",\"awT\",@nobits"),
                ".p2align 3",
                concat!(".globl ", $symbol),
                concat!(".hidden ", $symbol),
                concat!(".type ", $symbol, ", @object"),
                concat!(".size ", $symbol, ", 8"),
                concat!($symbol, ": .zero 8"),
                ".popsection",
            );

            /// The calling thread's word.
            #[inline(always)]
            pub(super) fn get() -> usize {
                let value: usize;
                // SAFETY: reads this thread's word, which exists from the thread's start.
                unsafe {
                    asm!(concat!("mov {0}, qword ptr [rip + ", $symbol, "@GOTTPOFF]"), "mov {0}, qword ptr fs:[{0}]",
                        out(reg) value, options(pure, readonly, nostack, preserves_flags));
                }
                value
            }

            /// Where it is, for as long as the thread lives.
            pub(super) fn address() -> *mut usize {
                let word: *mut usize;
                // SAFETY: this thread's own block begins with its address.
                unsafe {
                    asm!("mov {0}, qword ptr fs:[0]", concat!("add {0}, qword ptr [rip + ", $symbol, "@GOTTPOFF]"),
                        out(reg) word, options(pure, readonly, nostack));
                }
                word
            }
        }

        #[cfg(not(all(target_arch = "x86_64", target_pointer_width = "64")))]
        mod $name {
            use std::sync::atomic::{AtomicUsize, Ordering};

            thread_local! { static WORD: AtomicUsize = const { AtomicUsize::new(0) } }

            /// The calling thread's word.
            #[inline(always)]
            pub(super) fn get() -> usize {
                WORD.with(|word| word.load(Ordering::Relaxed))
            }

            /// Where it is, for as long as the thread lives.
            pub(super) fn address() -> *mut usize {
                WORD.with(|word| word.as_ptr())
            }
        }
    };
}

pub(crate) use thread_word;
