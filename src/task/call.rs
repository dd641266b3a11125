//! How a task says what is to be called: the numbers and the layout that host and worker share.

use crate::error::{Error, Result};

/// What a slot's `kind` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum CallKind {
    /// A `TaskFunction`, once, with the slot's input.
    Task = 1,
    /// An `ItemFunction`, once per item of a chunk.
    Items = 2,
    /// A `TaskFunction`, once per item of a chunk, with the item as its input.
    TaskItems = 3,
    /// A `RangeFunction`, once per chunk.
    Range = 4,
}

impl CallKind {
    pub(crate) fn from_number(number: u32) -> Option<CallKind> {
        [CallKind::Task, CallKind::Items, CallKind::TaskItems, CallKind::Range]
            .into_iter()
            .find(|kind| *kind as u32 == number)
    }
}

/// A chunk of a map: the input of a task of the other three kinds.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Chunk {
    /// The first item's number in the map; for a range, where the chunk begins.
    pub(crate) first: u64,
    pub(crate) count: u64,
    /// The first item's input and output, in the heap; 0 where there are none.
    pub(crate) input: u64,
    pub(crate) input_stride: u64,
    pub(crate) output: u64,
    pub(crate) output_stride: u64,
    /// One `int` per item.
    pub(crate) status: u64,
    /// Room for the texts of items that fail: see `super::messages`.
    pub(crate) messages: u64,
    pub(crate) messages_bytes: u64,
    pub(crate) context: u64,
    pub(crate) context_length: u64,
    /// 1: an item that fails is the last of its chunk.
    pub(crate) stop_on_failure: u64,
}

const _: () = assert!(size_of::<Chunk>() <= super::ring::INLINE_INPUT);

impl Chunk {
    const BYTES: usize = size_of::<Chunk>();

    pub(crate) fn to_bytes(self) -> [u8; Chunk::BYTES] {
        // SAFETY: twelve words without padding.
        unsafe { std::mem::transmute(self) }
    }

    /// From a slot's input, which is aligned for words and long enough.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Chunk> {
        if bytes.len() != Chunk::BYTES {
            return Err(Error::errno(libc::EPROTO, "a chunk of another length"));
        }
        // SAFETY: as long as a chunk, and every content is one.
        Ok(unsafe { bytes.as_ptr().cast::<Chunk>().read_unaligned() })
    }
}

/// The texts of a chunk's failed items: records of item, length and text, each aligned to eight bytes.
pub(crate) mod messages {
    use crate::task::ring::MESSAGE;

    /// What a record can take at most.
    pub(crate) const LARGEST_RECORD: usize = 16 + MESSAGE.next_multiple_of(8);

    /// Room that a chunk of so many items gets. A chunk that fills it ends early, and the rest is another chunk.
    pub(crate) fn room_for(items: usize) -> usize {
        items.clamp(1, 16) * LARGEST_RECORD
    }

    /// Appends a record; how long it is.
    pub(crate) fn write(place: &mut [u8], item: u64, text: &[u8]) -> usize {
        let length = 16 + text.len().next_multiple_of(8);
        place[..8].copy_from_slice(&item.to_ne_bytes());
        place[8..16].copy_from_slice(&(text.len() as u64).to_ne_bytes());
        place[16..16 + text.len()].copy_from_slice(text);
        length
    }

    /// The next record's item and text, and what follows it. Anything that is not a record ends the list.
    pub(crate) fn read(place: &[u8]) -> Option<(u64, &[u8], &[u8])> {
        let word = |at: usize| Some(u64::from_ne_bytes(place.get(at..at + 8)?.try_into().ok()?));
        let (item, length) = (word(0)?, usize::try_from(word(8)?).ok()?);
        let text = place.get(16..16usize.checked_add(length)?)?;
        let next = place.get(16 + length.next_multiple_of(8)..).unwrap_or(&[]);
        Some((item, text, next))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn records_come_back_and_garbage_ends_the_list() {
            let mut room = vec![0; 200];
            let first = write(&mut room, 7, b"why");
            let all = first + write(&mut room[first..], 9, b"");
            let (item, text, rest) = read(&room[..all]).unwrap();
            assert_eq!((item, text), (7, &b"why"[..]));
            let (item, text, rest) = read(rest).unwrap();
            assert_eq!((item, text.len()), (9, 0));
            assert!(read(rest).is_none());
            room[8..16].copy_from_slice(&u64::MAX.to_ne_bytes());
            assert!(read(&room).is_none());
        }
    }
}
