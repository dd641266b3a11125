//! Bytes on their way to another rank, or from there: long ones travel from where they are to where they are to be.

use crate::error::{Code, Error, Result};
use crate::heap::Heap;
use std::sync::Arc;

/// Bytes so long travel apart from the frame that is about them. For shorter ones a further message costs more than to copy them.
pub(crate) const APART: usize = 32 << 10;

/// Whose the memory is.
#[derive(Debug)]
enum Memory {
    /// Somebody else's, in the heap.
    Lent,
    /// A block of the heap that begins here, and is given back with this.
    Owned(usize),
    /// This process's own, where the heap has none.
    Private(#[expect(dead_code, reason = "it is reached by the address")] Vec<u8>),
}

/// The heap stays mapped as long as there is one of its blocks here.
#[derive(Debug)]
pub(crate) struct Block {
    heap: Arc<Heap>,
    address: usize,
    length: usize,
    memory: Memory,
}

impl Block {
    /// Memory for bytes that are to come.
    pub(crate) fn allocate(heap: &Arc<Heap>, length: usize) -> Result<Block> {
        Ok(Block::owned(heap, heap.allocate(length)?.as_ptr().expose_provenance(), length))
    }

    /// Memory for bytes that are to come, and that only this process reads; -ENOMEM where there is none.
    pub(crate) fn private(heap: &Arc<Heap>, length: usize) -> Result<Block> {
        let mut bytes: Vec<u8> = Vec::new();
        bytes.try_reserve_exact(length).map_err(|_| Code::errno(libc::ENOMEM))?;
        let address = bytes.as_mut_ptr().expose_provenance();
        Ok(Block { heap: Arc::clone(heap), address, length, memory: Memory::Private(bytes) })
    }

    /// Somebody else's memory in the heap.
    pub(crate) fn lent(heap: &Arc<Heap>, address: usize, length: usize) -> Block {
        Block { heap: Arc::clone(heap), address, length, memory: Memory::Lent }
    }

    /// A block of the heap that is not needed any more when it has been sent.
    pub(crate) fn owned(heap: &Arc<Heap>, address: usize, length: usize) -> Block {
        Block::part(heap, address, 0, length)
    }

    /// A part of such a block, of which nothing else is needed.
    pub(crate) fn part(heap: &Arc<Heap>, block: usize, at: usize, length: usize) -> Block {
        Block { heap: Arc::clone(heap), address: block + at, length, memory: Memory::Owned(block) }
    }

    pub(crate) fn length(&self) -> usize {
        self.length
    }

    pub(crate) fn pointer(&self) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut(self.address)
    }

    /// The address of the block, which is its taker's now; -ENOMEM where the bytes are not in the heap.
    pub(crate) fn keep(mut self) -> Result<usize> {
        match std::mem::replace(&mut self.memory, Memory::Lent) {
            Memory::Private(_) => Err(no_room()),
            Memory::Lent | Memory::Owned(_) => Ok(self.address),
        }
    }
}

/// The heap has no memory for a block.
pub(crate) fn no_room() -> Error {
    Error::errno(libc::ENOMEM, "no memory in the pool's heap for what has come")
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Memory::Owned(block) = self.memory {
            let _ = self.heap.free_address(block);
        }
    }
}
