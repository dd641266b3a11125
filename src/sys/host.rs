//! The machine, as people know it.

/// The machine's name.
pub(crate) fn name() -> String {
    let mut room = [0u8; 256];
    // SAFETY: as many bytes as it is told.
    unsafe { libc::gethostname(room.as_mut_ptr().cast(), room.len() - 1) };
    let end = room.iter().position(|byte| *byte == 0).unwrap_or(0);
    String::from_utf8_lossy(&room[..end]).into_owned()
}

/// Calls this when the process ends in good order.
pub(crate) fn at_exit(call: extern "C" fn()) -> bool {
    // SAFETY: a function of a library that stays loaded.
    unsafe { libc::atexit(call) == 0 }
}
