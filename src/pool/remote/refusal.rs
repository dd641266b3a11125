//! What cannot go to another machine.

use crate::check;
use crate::error::{Error, Result};
use crate::heap::Heap;
use crate::pool::Inner;

impl Inner {
    /// Refuses what a task cannot have with it to another machine.
    #[inline]
    pub(in crate::pool) fn check_for_nodes(&self, input: &[u8], has_channel: bool) -> Result<()> {
        if self.on_nodes { self.refuse_parts(input, has_channel) } else { Ok(()) }
    }

    #[cold]
    fn refuse_parts(&self, input: &[u8], has_channel: bool) -> Result<()> {
        if has_channel {
            self.refuse_on_nodes("channel: the end of a channel")?;
        }
        refuse_addresses(&self.heap, input, || "the input".to_owned())
    }

    /// Refuses what other machines cannot have.
    pub(in crate::pool) fn refuse_on_nodes(&self, what: &str) -> Result<()> {
        if !self.on_nodes {
            return Ok(());
        }
        let text = format!("{what} cannot go to other machines, where the engine MPI has its workers");
        Err(Error::errno(libc::EOPNOTSUPP, text))
    }
}

/// How much of an input is always looked through.
const LOOKED_THROUGH: usize = 4096;

/// Refuses what holds an address in the heap: it means nothing on another machine. All of it is looked through with `TINE_CHECK`.
pub(in crate::pool) fn refuse_addresses(heap: &Heap, bytes: &[u8], what: impl Fn() -> String) -> Result<()> {
    let length = if check::is_on() { bytes.len() } else { bytes.len().min(LOOKED_THROUGH) };
    let first = bytes.as_ptr().align_offset(align_of::<u64>()).min(length);
    for (at, word) in bytes[first..length].chunks_exact(8).enumerate() {
        let address = u64::from_ne_bytes(word.try_into().unwrap_or_default()) as usize;
        if address != 0 && heap.contains(address, 1) {
            let text = format!(
                "{} has at offset {} the address {address:#x} of the pool's heap, which other machines do not have",
                what(),
                first + at * 8
            );
            return Err(Error::errno(libc::EFAULT, text));
        }
    }
    Ok(())
}
