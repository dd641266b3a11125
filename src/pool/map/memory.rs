//! What the chunks of a map are made of: a block of the heap for each that is on its way, with the states of its items, their texts,
//! and their inputs and outputs where the map's arrays are not in the heap.

use super::job::Job;
use super::schedule::ChunkSizes;
use crate::check;
use crate::error::{Error, Result};
use crate::pool::remote::refuse_addresses;
use crate::task::call::{Chunk, messages};

/// A chunk on its way: which items, and where its memory in the heap is.
pub(super) struct Sent {
    pub(super) first: usize,
    pub(super) count: usize,
    pub(super) block: usize,
    pub(super) block_bytes: usize,
    pub(super) layout: Layout,
}

/// Where things are in a chunk's block.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub(super) messages: usize,
    pub(super) messages_bytes: usize,
    pub(super) status: usize,
    pub(super) input: usize,
    pub(super) output: usize,
}

impl Job<'_, '_> {
    /// Finds out what is in the heap, and copies the context there.
    pub(super) fn prepare(&mut self) -> Result<()> {
        if check::is_on() {
            self.look_through();
        }
        self.check_for_nodes()?;
        self.carry_input = self.must_be_carried("in", self.input)?;
        self.carry_output = self.must_be_carried("out", self.output)?;
        let each = |carried: bool, stride: usize| if carried { stride } else { 0 };
        let carried = each(self.carry_input, self.input.1) + each(self.carry_output, self.output.1);
        self.sizes = ChunkSizes::new(
            (self.map.schedule, self.map.chunk),
            self.pool.inner.workers,
            self.map.count,
            (carried, self.input.1 + self.output.1),
            self.map.chunk_bytes,
        );
        let context = self.map.context;
        if context.is_empty() {
            return Ok(());
        }
        let heap = &self.pool.inner.heap;
        let address = context.as_ptr().expose_provenance();
        if heap.contains(address, context.len()) {
            self.context = address;
            return Ok(());
        }
        if heap.overlaps(address, context.len()) {
            let text = format!("the map's context at {address:#x} reaches beyond the heap");
            return Err(Error::errno(libc::EFAULT, text));
        }
        let block = heap.allocate(context.len())?;
        // SAFETY: a new block, as long as the context.
        unsafe { std::ptr::copy_nonoverlapping(context.as_ptr(), block.as_ptr(), context.len()) };
        self.context = block.as_ptr().expose_provenance();
        Ok(())
    }

    /// Looks for pointers to the host's own memory in the items and in the context.
    #[cold]
    fn look_through(&self) {
        let name = self.map.function().describe();
        check::look_through(self.map.context, || format!("map ({name}), context"));
        let (address, stride) = self.input;
        for item in (0..self.map.count).filter(|_| address != 0) {
            let place = std::ptr::with_exposed_provenance::<u8>(address + item * stride);
            // SAFETY: the map's input has an item at each stride, and stays as it is until tine_map returns: its text
            // asks for that.
            let bytes = unsafe { std::slice::from_raw_parts(place, stride) };
            if check::look_through(bytes, || format!("item {item} of a map ({name}), input")) {
                // The others are most likely the same.
                break;
            }
        }
    }

    /// Refuses items and a context that mean nothing on another machine.
    fn check_for_nodes(&self) -> Result<()> {
        if !self.pool.inner.on_nodes {
            return Ok(());
        }
        let heap = &self.pool.inner.heap;
        let (address, stride) = self.input;
        for item in (0..self.map.count).filter(|_| address != 0) {
            let place = std::ptr::with_exposed_provenance::<u8>(address + item * stride);
            // SAFETY: the map's input has an item at each stride, and stays as it is until tine_map returns: its text
            // asks for that.
            let bytes = unsafe { std::slice::from_raw_parts(place, stride) };
            refuse_addresses(heap, bytes, || format!("in: item {item}"))?;
        }
        refuse_addresses(heap, self.map.context, || "context".to_owned())
    }

    fn must_be_carried(&self, name: &str, (address, stride): (usize, usize)) -> Result<bool> {
        let heap = &self.pool.inner.heap;
        let length = stride * self.map.count;
        if address == 0 || length == 0 {
            return Ok(false);
        }
        if heap.contains(address, length) {
            return Ok(false);
        }
        if heap.overlaps(address, length) {
            let text = format!("the map's {name} at {address:#x} reaches beyond the heap");
            return Err(Error::errno(libc::EFAULT, text));
        }
        Ok(true)
    }

    /// A chunk with its memory.
    pub(super) fn make_chunk(&mut self, first: usize, count: usize) -> Result<(Sent, Chunk)> {
        let calls = self.calls_of(count);
        let messages_bytes = messages::room_for(calls);
        let status = messages_bytes;
        let input = (status + calls * size_of::<i32>()).next_multiple_of(64);
        let input_bytes = if self.carry_input { count * self.input.1 } else { 0 };
        let output = (input + input_bytes).next_multiple_of(64);
        let output_bytes = if self.carry_output { count * self.output.1 } else { 0 };
        // Chunks of nearly the same length have the same room, so that one's block does for another.
        let block_bytes = output + output_bytes;
        let block_bytes = block_bytes.next_multiple_of((block_bytes.next_power_of_two() / 8).max(64));
        let heap = &self.pool.inner.heap;
        let block = match self.spare.iter().rposition(|(_, bytes)| *bytes == block_bytes) {
            Some(at) => self.spare.swap_remove(at).0,
            None => {
                // None that fits: others go for it, which are as long together, so that there is never more than has been under way.
                let mut freed = 0;
                while freed < block_bytes
                    && let Some((block, bytes)) = self.spare.pop()
                {
                    let _ = heap.free_address(block);
                    freed += bytes;
                }
                heap.allocate(block_bytes)?.as_ptr().expose_provenance()
            }
        };
        let place = |offset: usize| std::ptr::with_exposed_provenance_mut::<u8>(block + offset);
        if self.carry_input {
            let source = std::ptr::with_exposed_provenance::<u8>(self.input.0 + first * self.input.1);
            // SAFETY: the map's input has these items, and stays as it is until tine_map returns: its text asks for
            // that. The block has room for as many bytes, and is another block of memory.
            unsafe { std::ptr::copy_nonoverlapping(source, place(input), input_bytes) };
        }
        if self.carry_output {
            // Nothing of what the memory held before may come back as an output.
            // SAFETY: room for as many bytes in the block.
            unsafe { place(output).write_bytes(0, output_bytes) };
        }
        let of = |carried: bool, (address, stride): (usize, usize), offset: usize| match (carried, address) {
            (true, _) => block + offset,
            (false, 0) => 0,
            (false, address) => address + first * stride,
        };
        let chunk = Chunk {
            first: (self.begin + first) as u64,
            count: count as u64,
            input: of(self.carry_input, self.input, input) as u64,
            input_stride: self.input.1 as u64,
            output: of(self.carry_output, self.output, output) as u64,
            output_stride: self.output.1 as u64,
            status: (block + status) as u64,
            messages: block as u64,
            messages_bytes: messages_bytes as u64,
            context: self.context as u64,
            context_length: self.map.context.len() as u64,
            stop_on_failure: self.map.stop_on_failure.into(),
        };
        let layout = Layout { messages: 0, messages_bytes, status, input, output };
        Ok((Sent { first, count, block, block_bytes, layout }, chunk))
    }

    /// Gives the blocks back that no chunk needs at the moment.
    pub(super) fn free_spare(&mut self) {
        let heap = &self.pool.inner.heap;
        for (block, _) in self.spare.drain(..) {
            let _ = heap.free_address(block);
        }
    }

    /// Gives back all that is not on its way any more.
    pub(super) fn give_memory_back(&mut self) {
        self.free_spare();
        let heap = &self.pool.inner.heap;
        let own = self.map.context.as_ptr().expose_provenance() != self.context;
        if self.context != 0 && own {
            let _ = heap.free_address(self.context);
        }
    }
}
