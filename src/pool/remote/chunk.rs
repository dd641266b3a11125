//! Chunks of maps as they travel to a node and back.

use crate::error::{Code, Error, Result};
use crate::pool::parcel::{ChunkLayout, TaskHead, has_own_output};
use crate::task::call::{CallKind, Chunk};
use crate::task::wire::{Reader, Writer};

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

/// Writes a chunk with its inputs, its context and, where there are any, the outputs that the caller has in place.
pub(super) fn write_chunk(body: &mut Writer, head: &TaskHead, kind: CallKind, chunk: &Chunk) -> Result<()> {
    let layout = ChunkLayout::of(kind, chunk).ok_or_else(no_memory)?;
    body.written.try_reserve(layout.bytes + 256).map_err(|_| no_memory())?;
    head.write(body);
    body.bytes(&chunk.to_bytes());
    // SAFETY: the map that is under way keeps its arrays and its context until its chunks have settled.
    unsafe {
        body.bytes(bytes_at(chunk.input as usize, layout.input_bytes));
        let there = !has_own_output(kind, chunk);
        body.number(there.into());
        if there {
            body.bytes(bytes_at(chunk.output as usize, layout.output_bytes));
        }
        body.bytes(bytes_at(chunk.context as usize, chunk.context_length as usize));
    }
    Ok(())
}

/// Takes a chunk's states, texts and outputs over; how long the texts are.
pub(super) fn take_chunk(
    reader: &mut Reader<'_>,
    kind: CallKind,
    chunk: &Chunk,
    items: u64,
) -> Result<usize> {
    let layout = ChunkLayout::of(kind, chunk).ok_or_else(no_memory)?;
    let finished = usize::try_from(items).unwrap_or(usize::MAX).min(layout.statuses);
    let (states, texts, outputs) = (reader.bytes()?, reader.bytes()?, reader.bytes()?);
    let of_items = |bytes: usize| bytes / layout.statuses.max(1) * finished;
    let fits = states.len() == finished * size_of::<i32>()
        && texts.len() <= chunk.messages_bytes as usize
        && outputs.len() == of_items(layout.output_bytes);
    if !fits {
        return Err(Error::errno(libc::EPROTO, "a result of a chunk has another length than the chunk"));
    }
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
