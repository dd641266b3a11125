//! A block of a pool's heap on its way to another rank, or from there: long bytes travel from where they are to where they are to be.

use crate::error::Result;
use crate::heap::Heap;
use std::sync::Arc;

/// Bytes so long travel apart from the frame that is about them. For shorter ones a further message costs more than to copy them.
pub(crate) const APART: usize = 32 << 10;

/// The heap stays mapped as long as there is one of its blocks here.
#[derive(Debug)]
pub(crate) struct Block {
    heap: Arc<Heap>,
    address: usize,
    length: usize,
    /// It is given back to the heap with this.
    is_owned: bool,
}

impl Block {
    /// Memory for bytes that are to come.
    pub(crate) fn allocate(heap: &Arc<Heap>, length: usize) -> Result<Block> {
        let address = heap.allocate(length)?.as_ptr().expose_provenance();
        Ok(Block { heap: Arc::clone(heap), address, length, is_owned: true })
    }

    /// Somebody else's memory in the heap.
    pub(crate) fn lent(heap: &Arc<Heap>, address: usize, length: usize) -> Block {
        Block { heap: Arc::clone(heap), address, length, is_owned: false }
    }

    /// A block of the heap that is not needed any more when it has been sent.
    pub(crate) fn owned(heap: &Arc<Heap>, address: usize, length: usize) -> Block {
        Block { heap: Arc::clone(heap), address, length, is_owned: true }
    }

    pub(crate) fn length(&self) -> usize {
        self.length
    }

    pub(crate) fn pointer(&self) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut(self.address)
    }

    /// The address of the block, which is its taker's now.
    pub(crate) fn keep(mut self) -> usize {
        self.is_owned = false;
        self.address
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.is_owned {
            let _ = self.heap.free_address(self.address);
        }
    }
}
