//! Block sizes: multiples of 16 up to 128, then four to each doubling up to 64 KiB; a slab holds blocks of one size.

use super::EXTENT_BYTES;

/// What there is to know of a block size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Class {
    /// Bytes of a block.
    pub size: usize,
    /// Extents of a slab.
    pub span: u32,
    /// Blocks of a slab.
    pub blocks: u32,
    /// Where in the slab the first block is. Before it: the `taken` words, then the `returned` words.
    pub first: usize,
    /// Words of bits for the blocks.
    words: u32,
    /// The bits of the last of them that stand for blocks.
    last_mask: u64,
    /// The reciprocal of `size`, by which offsets are divided.
    magic: u64,
}

pub(super) const COUNT: usize = 44;

/// The largest size that comes from slabs; larger blocks are extents of their own.
pub(super) const LARGEST: usize = 64 * 1024;

static TABLE: [Class; COUNT] = table();

/// Enough for slabs of up to 2^20 bytes of blocks of up to 2^16: see the test.
const MAGIC_SHIFT: u32 = 40;

const fn lowest_bit(size: usize) -> usize {
    size & size.wrapping_neg()
}

const fn table() -> [Class; COUNT] {
    let mut table =
        [Class { size: 0, span: 1, blocks: 0, first: 0, words: 0, last_mask: 0, magic: 0 }; COUNT];
    let mut index = 0;
    while index < COUNT {
        let size = if index < 8 { 16 * (index + 1) } else { (5 + (index - 8) % 4) << (5 + (index - 8) / 4) };
        let mut span = 1;
        while span * EXTENT_BYTES < 8 * size {
            span *= 2;
        }
        let bytes = span * EXTENT_BYTES;
        // A few blocks make room for the words of bits in front of them.
        let mut blocks = bytes / size;
        let mut first;
        loop {
            let words = blocks.div_ceil(64);
            first =
                (2 * words * 8).next_multiple_of(if lowest_bit(size) < 64 { 64 } else { lowest_bit(size) });
            if first + blocks * size <= bytes {
                break;
            }
            blocks -= 1;
        }
        let magic = (1 << MAGIC_SHIFT) / size as u64 + 1;
        let words = blocks.div_ceil(64) as u32;
        let last_mask = u64::MAX >> (words as usize * 64 - blocks);
        table[index] =
            Class { size, span: span as u32, blocks: blocks as u32, first, words, last_mask, magic };
        index += 1;
    }
    table
}

impl Class {
    /// The class for blocks of `size` bytes, which is at most [`LARGEST`].
    #[inline(always)]
    pub(super) fn index_for(size: usize) -> usize {
        if size <= 128 {
            return (size.max(1) - 1) / 16;
        }
        // Sizes in (2^k, 2^(k+1)] fall into four steps of 2^(k-2).
        let k = usize::BITS as usize - 1 - (size - 1).leading_zeros() as usize;
        8 + (k - 7) * 4 + ((size - 1) >> (k - 2)) - 4
    }

    /// The class of this number, if there is one: numbers come from shared memory too.
    pub(super) fn get(index: usize) -> Option<&'static Class> {
        TABLE.get(index)
    }

    /// Words of bits for the blocks.
    #[inline(always)]
    pub(super) fn words(&self) -> usize {
        self.words as usize
    }

    /// The bits of word `word` that stand for blocks.
    #[inline(always)]
    pub(super) fn mask(&self, word: usize) -> u64 {
        if word + 1 < self.words() { u64::MAX } else { self.last_mask }
    }

    /// The block at `offset` bytes from the slab's start, where one begins there.
    #[inline(always)]
    pub(super) fn block_at(&self, offset: usize) -> Option<usize> {
        let offset = offset.checked_sub(self.first)?;
        let block = (offset as u64).wrapping_mul(self.magic) >> MAGIC_SHIFT;
        let block = block as usize;
        (block < self.blocks as usize && block * self.size == offset).then_some(block)
    }

    /// The block that `offset` bytes from the slab's start lie in.
    pub(super) fn block_around(&self, offset: usize) -> Option<usize> {
        let block = offset.checked_sub(self.first)? / self.size;
        (block < self.blocks as usize).then_some(block)
    }

    /// What every block of it is aligned to; a power of two.
    pub(super) fn alignment(&self) -> usize {
        lowest_bit(self.size)
    }

    /// The class for blocks of `size` bytes that are aligned to `alignment`, if one of them does it.
    pub(super) fn index_aligned(size: usize, alignment: usize) -> Option<usize> {
        if size > LARGEST {
            return None;
        }
        (Class::index_for(size)..COUNT).find(|index| TABLE[*index].alignment() >= alignment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_has_the_smallest_class_that_fits() {
        assert_eq!(TABLE[COUNT - 1].size, LARGEST);
        for size in 0..=LARGEST {
            let index = Class::index_for(size);
            assert!(TABLE[index].size >= size, "{size} in {index}");
            assert!(index == 0 || TABLE[index - 1].size < size, "{size} in {index}");
        }
    }

    #[test]
    fn slabs_hold_their_blocks() {
        for class in &TABLE {
            let end = class.first + class.blocks as usize * class.size;
            assert!(
                end <= class.span as usize * EXTENT_BYTES && class.size % 16 == 0 && class.first % 64 == 0
            );
            assert_eq!(class.first % class.alignment(), 0);
            assert!(class.blocks >= 7 && 2 * class.words() * 8 <= class.first);
            assert_eq!(class.block_at(class.first), Some(0));
            assert_eq!(class.block_at(class.first + 1), None);
            assert_eq!(class.block_at(end), None);
            assert_eq!(class.block_at(0), None);
            for offset in 0..class.span as usize * EXTENT_BYTES {
                let known = offset.checked_sub(class.first).filter(|at| at % class.size == 0);
                let block = known.map(|at| at / class.size).filter(|at| *at < class.blocks as usize);
                assert_eq!(class.block_at(offset), block, "{offset} in blocks of {}", class.size);
            }
        }
    }
}
