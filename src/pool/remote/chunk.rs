//! Chunks of maps as they travel to a node and back.

use crate::cluster::block::{APART, Block};
use crate::error::{Code, Error, Result};
use crate::heap::Heap;
use crate::pool::parcel::{ChunkLayout, TaskHead, has_own_output, read_bytes, write_apart};
use crate::task::call::{CallKind, Chunk};
use crate::task::wire::{Reader, Writer};
use std::sync::Arc;

pub(super) fn no_memory() -> Error {
    Code::errno(libc::ENOMEM).into()
}

/// # Safety
/// As many bytes are there, and stay as they are for as long as the slice is used.
pub(super) unsafe fn bytes_at<'a>(address: usize, length: usize) -> &'a [u8] {
    if length == 0 {
        return &[];
    }
    // SAFETY: the contract above.
    unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance(address), length) }
}

/// Writes a chunk with its inputs, its context and, where there are any, the outputs that the caller has in place. Long inputs are a block: they are
/// in the heap, because the map has put them there if they were not.
pub(super) fn write_chunk(
    body: &mut Writer,
    head: &TaskHead,
    kind: CallKind,
    chunk: &Chunk,
    heap: &Arc<Heap>,
) -> Result<Option<Block>> {
    let layout = ChunkLayout::of(kind, chunk).ok_or_else(no_memory)?;
    let (input, input_bytes) = (chunk.input as usize, layout.input_bytes);
    let is_apart = input_bytes >= APART && heap.contains(input, input_bytes);
    let in_frame = layout.bytes - if is_apart { input_bytes } else { 0 };
    body.written.try_reserve(in_frame + 256).map_err(|_| no_memory())?;
    head.write(body);
    body.bytes(&chunk.to_bytes());
    // SAFETY: the map that is under way keeps its arrays and its context until its chunks have settled.
    unsafe {
        match is_apart {
            true => write_apart(body),
            false => body.bytes(bytes_at(input, input_bytes)),
        }
        let there = !has_own_output(kind, chunk);
        body.number(there.into());
        if there {
            body.bytes(bytes_at(chunk.output as usize, layout.output_bytes));
        }
        body.bytes(bytes_at(chunk.context as usize, chunk.context_length as usize));
    }
    Ok(is_apart.then(|| Block::lent(heap, input, input_bytes)))
}

/// Takes a chunk's states, texts and outputs over, the outputs from the next block where they are not in the frame; how long the texts are.
pub(super) fn take_chunk(
    reader: &mut Reader<'_>,
    kind: CallKind,
    chunk: &Chunk,
    items: u64,
    next_block: impl FnOnce() -> Result<Block>,
) -> Result<usize> {
    let layout = ChunkLayout::of(kind, chunk).ok_or_else(no_memory)?;
    let finished = usize::try_from(items).unwrap_or(usize::MAX).min(layout.statuses);
    let (states, texts, outputs) = (reader.bytes()?, reader.bytes()?, read_bytes(reader)?);
    let block = outputs.is_none().then(next_block);
    let outputs = match (&block, outputs) {
        // There was no memory for the outputs, so each item has failed, whatever it says.
        (Some(Err(error)), _) if error.code().0 == -libc::ENOMEM => None,
        (Some(Err(error)), _) => return Err(error.clone()),
        (Some(Ok(block)), _) => {
            // SAFETY: as many bytes have come there, and nobody else has them.
            Some(unsafe { std::slice::from_raw_parts(block.pointer().cast_const(), block.length()) })
        }
        (None, outputs) => outputs,
    };
    let of_items = |bytes: usize| bytes / layout.statuses.max(1) * finished;
    let fits = states.len() == finished * size_of::<i32>()
        && texts.len() <= chunk.messages_bytes as usize
        && outputs.is_none_or(|outputs| outputs.len() == of_items(layout.output_bytes));
    if !fits {
        return Err(Error::errno(libc::EPROTO, "a result of a chunk has another length than the chunk"));
    }
    let Some(outputs) = outputs else {
        let status = std::ptr::with_exposed_provenance_mut::<i32>(chunk.status as usize);
        // SAFETY: the chunk's block has an `i32` for each item, until the chunk has settled.
        (0..finished).for_each(|item| unsafe { status.add(item).write(-libc::ENOMEM) });
        return Ok(0);
    };
    for (address, bytes) in [(chunk.status, states), (chunk.messages, texts), (chunk.output, outputs)] {
        if !bytes.is_empty() {
            let place = std::ptr::with_exposed_provenance_mut(address as usize);
            // SAFETY: the map keeps its arrays and the chunk's block until the chunk has settled; each has room for what `layout` says
            // of it, which is as much by the check above. The bytes are a frame's.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len()) };
        }
    }
    Ok(texts.len())
}
