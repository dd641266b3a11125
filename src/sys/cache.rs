//! Lines of memory that two processors write in turn.

/// Lets the line that `place` begins with come here for writing, while this processor goes on. A hint: nothing is read or written, and where
/// there is no such instruction nothing happens.
#[inline(always)]
pub(crate) fn fetch_to_write<T>(place: &T) {
    let place = std::ptr::from_ref(place);
    // SAFETY: an instruction that has no effect on any register or memory, and faults at no address.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) place, options(nostack, preserves_flags, readonly));
    }
    // SAFETY: this one, too, has no effect on any register or memory, and faults at no address.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!("prfm pstl1keep, [{}]", in(reg) place, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = place;
}
