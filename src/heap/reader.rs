//! The heap as an outside process reads it: from a copy of each word, at most once, and within bounds of its own.

use super::class::Class;
use super::directory::Directory;
use super::entry::{Entry, EntryKind, ended_process, place_of};
use super::{EXTENT_BYTES, Usage};
use crate::error::Result;
use crate::sys::memory::{self, read_exactly_at};
use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

/// Whose blocks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whose {
    /// The host's: inputs, and what it has allocated.
    Host,
    /// The worker's at this place.
    Place(u32),
    /// A process's that has ended.
    Ended(u32),
}

/// What a heap holds.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) peak_bytes: u64,
    pub(crate) usage: BTreeMap<Whose, Usage>,
    /// The words that blocks of at least `least` bytes begin with, and at which offset each stands in the file; not all of them,
    /// where there are very many.
    pub(crate) first_words: Vec<(u64, u64)>,
    pub(crate) all_first_words: bool,
    /// The offset of the first block there could be.
    pub(crate) data_offset: u64,
}

/// So many blocks are looked into.
const MOST_FIRST_WORDS: usize = 16 << 10;

/// What stands in the file of a heap whose range has `range` bytes; `length` is the file's. Blocks of at least `least` bytes are
/// looked into.
pub(crate) fn contents(fd: RawFd, range: u64, length: u64, least: usize) -> Result<Contents> {
    let mut contents = Contents { all_first_words: true, ..Contents::default() };
    // No range of ours is longer, and a number that is would only take memory.
    let range = usize::try_from(range).unwrap_or(0).min(1 << 40);
    let data = Directory::new(0, 0, range)?.data_start() as u64;
    contents.data_offset = data;
    contents.peak_bytes = words(fd, 0, 1)?.first().map_or(0, |peak| (*peak).min(range as u64));
    let extents = length.min(range as u64).saturating_sub(data) / EXTENT_BYTES as u64;
    let known = u32::try_from(extents).unwrap_or(0);
    let directory = words(fd, memory::page_size() as u64, known as usize)?;
    let mut next = 0;
    while let Some(word) = directory.get(next as usize) {
        let (extent, entry) = (next, Entry::from_word(*word));
        next = extent + entry.length_at(extent, known);
        let offset = data + u64::from(extent) * EXTENT_BYTES as u64;
        let whose = match (ended_process(entry.owner), place_of(entry.owner)) {
            (Some(pid), _) => Whose::Ended(pid as u32),
            (None, Some(place)) if place > 0 => Whose::Place(place - 1),
            _ => Whose::Host,
        };
        if entry.kind == EntryKind::Large {
            let bytes = u64::from(next - extent) * EXTENT_BYTES as u64;
            contents.usage.entry(whose).or_default().add(1, bytes);
            look_into(fd, offset, &mut contents)?;
        } else if entry.is_slab()
            && let Some(class) = Class::get(usize::from(entry.class))
            && extent + class.span <= known
        {
            let bits = words(fd, offset, 2 * class.words())?;
            let (taken, returned) = bits.split_at(bits.len() / 2);
            for (word, (taken, returned)) in taken.iter().zip(returned).enumerate() {
                let mut bits = taken & !returned & class.mask(word);
                let blocks = u64::from(bits.count_ones());
                if blocks > 0 {
                    contents.usage.entry(whose).or_default().add(blocks, blocks * class.size as u64);
                }
                while class.size >= least && bits != 0 {
                    let block = word * 64 + bits.trailing_zeros() as usize;
                    bits &= bits - 1;
                    look_into(fd, offset + (class.first + block * class.size) as u64, &mut contents)?;
                }
            }
        }
    }
    Ok(contents)
}

fn look_into(fd: RawFd, offset: u64, contents: &mut Contents) -> Result<()> {
    if contents.first_words.len() == MOST_FIRST_WORDS {
        contents.all_first_words = false;
        return Ok(());
    }
    contents.first_words.extend(words(fd, offset, 1)?.first().map(|word| (offset, *word)));
    Ok(())
}

/// So many words from an offset on; none where the file is too short.
fn words(fd: RawFd, offset: u64, count: usize) -> Result<Vec<u64>> {
    let mut bytes = vec![MaybeUninit::new(0); count * 8];
    if !read_exactly_at(fd, offset, &mut bytes)? {
        return Ok(Vec::new());
    }
    let word = |bytes: &[MaybeUninit<u8>]| {
        // SAFETY: all bytes were made with a content.
        u64::from_ne_bytes(std::array::from_fn(|at| unsafe { bytes[at].assume_init() }))
    };
    Ok(bytes.chunks_exact(8).map(word).collect())
}
