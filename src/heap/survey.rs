//! Walking the heap: what it holds and whose it is, and whether everything in it is as it should be.

use super::class::Class;
use super::directory::Kind;
use super::slab::Slab;
use super::{EXTENT_BYTES, Heap, Owner};
use crate::sys::memory;
use std::collections::BTreeMap;
use std::os::fd::AsRawFd;

/// What a heap holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeapStats {
    /// Bytes of the system's memory that are reserved for the heap.
    pub reserved_bytes: u64,
    /// The most that were reserved at once.
    pub peak_bytes: u64,
    /// Bytes of allocated blocks, rounded up to block sizes, of all processes together.
    pub used_bytes: u64,
    /// How many allocated blocks there are.
    pub used_blocks: u64,
}

/// What one process has allocated and nobody has freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes, rounded up to block sizes.
    pub bytes: u64,
    /// Blocks.
    pub blocks: u64,
}

impl Usage {
    pub(super) fn add(&mut self, blocks: u64, bytes: u64) {
        self.blocks += blocks;
        self.bytes += bytes;
    }
}

impl Heap {
    /// What the heap holds, as one walk over it finds: other processes allocate and free meanwhile.
    pub fn stats(&self) -> HeapStats {
        let (mut blocks, mut bytes) = (0, 0);
        for usage in self.usage().values() {
            blocks += usage.blocks;
            bytes += usage.bytes;
        }
        let reserved_bytes = memory::reserved_bytes(self.fd.as_raw_fd());
        // Another process may have written anything there.
        let noted = self.directory.peak().load(crate::prim::Ordering::Relaxed);
        let peak_bytes = noted.min(self.length as u64).max(reserved_bytes);
        HeapStats { reserved_bytes, peak_bytes, used_bytes: bytes, used_blocks: blocks }
    }

    /// What each owner has.
    pub(crate) fn usage(&self) -> BTreeMap<Owner, Usage> {
        let mut all = BTreeMap::<Owner, Usage>::new();
        let known = self.directory.refresh(self.fd.as_raw_fd());
        let mut extent = 0;
        while extent < known {
            let entry = self.directory.get(extent);
            let mut span = 1;
            if entry.kind == Kind::Large {
                span = entry.aux.clamp(1, known - extent);
                all.entry(entry.owner).or_default().add(1, u64::from(span) * EXTENT_BYTES as u64);
            } else if let Some(slab) = self.slab_at(extent, known) {
                let words = 0..slab.class.words();
                let blocks = words.map(|word| u64::from(slab.allocated(self, word).count_ones())).sum();
                all.entry(entry.owner).or_default().add(blocks, blocks * slab.class.size as u64);
                span = slab.class.span;
            }
            extent += span;
        }
        all
    }

    /// The blocks of one owner, address and size, as the shared words say.
    pub(crate) fn blocks_of(&self, owner: Owner) -> Vec<(usize, usize)> {
        let mut all = Vec::new();
        let known = self.directory.refresh(self.fd.as_raw_fd());
        let mut extent = 0;
        while extent < known {
            let entry = self.directory.get(extent);
            let mut span = 1;
            if entry.kind == Kind::Large {
                span = entry.aux.clamp(1, known - extent);
                if entry.owner == owner {
                    all.push((self.directory.address_of(extent), span as usize * EXTENT_BYTES));
                }
            } else if let Some(slab) = self.slab_at(extent, known) {
                span = slab.class.span;
                for word in (0..slab.class.words()).filter(|_| entry.owner == owner) {
                    let mut bits = slab.allocated(self, word);
                    while bits != 0 {
                        let block = word * 64 + bits.trailing_zeros() as usize;
                        all.push((slab.address_of(self, block), slab.class.size));
                        bits &= bits - 1;
                    }
                }
            }
            extent += span;
        }
        all
    }

    /// The slab that the directory says begins at an extent.
    pub(super) fn slab_at(&self, extent: u32, known: u32) -> Option<Slab> {
        let entry = self.directory.get(extent);
        let class = Class::get(usize::from(entry.class)).filter(|_| entry.kind == Kind::Slab)?;
        (extent + class.span <= known).then(|| Slab::new(extent, class, entry.class))
    }

    /// Walks all of the heap and says what is not as it should be; for a heap that nobody else uses at this moment.
    ///
    /// Every extent is free, or belongs to exactly one slab or block, whose owner is one of `owners`; no bits are set
    /// that stand for nothing, and no block is returned that was not taken.
    pub fn check(&self, owners: &[u16]) -> Vec<String> {
        let mut faults = Vec::new();
        let known = self.directory.refresh(self.fd.as_raw_fd());
        let mut extent = 0;
        while extent < known {
            let entry = self.directory.get(extent);
            let mut fault = |text: &str| faults.push(format!("extent {extent}, {entry:?}: {text}"));
            let mut span = 1;
            match entry.kind {
                Kind::Free if entry.aux > 1 || entry.owner != 0 || entry.class != 0 => {
                    fault("not a free word")
                }
                Kind::Free => (),
                Kind::Claimed => fault("claimed, and nobody claims it"),
                Kind::Tail => fault("a tail without its head"),
                Kind::Slab | Kind::Large | Kind::Spare => {
                    if entry.kind != Kind::Spare && !owners.contains(&entry.owner) {
                        fault("its owner is dead");
                    }
                    match self.slab_at(extent, known) {
                        Some(slab) if slab.class.span != entry.aux => fault("a slab of the wrong length"),
                        Some(slab) => self.check_bits(&slab, &mut fault),
                        None if entry.kind == Kind::Slab => fault("a slab of no class, or beyond the end"),
                        None if entry.aux == 0 || entry.aux > known - extent => fault("beyond the end"),
                        None => (),
                    }
                    span = entry.aux.clamp(1, known - extent);
                    for distance in 1..span {
                        let tail = self.directory.get(extent + distance);
                        if tail.kind != Kind::Tail || tail.aux != distance {
                            fault(&format!("extent {distance} of it is {tail:?}"));
                        }
                    }
                }
            }
            extent += span;
        }
        faults
    }

    fn check_bits(&self, slab: &Slab, fault: &mut impl FnMut(&str)) {
        use crate::prim::Ordering;
        for word in 0..slab.class.words() {
            let taken = slab.taken(self, word).load(Ordering::Relaxed);
            let returned = slab.returned(self, word).load(Ordering::Relaxed);
            if taken & !slab.class.mask(word) != 0 {
                fault("bits of blocks that do not exist are taken");
            }
            if returned & !taken != 0 {
                fault("free blocks are returned");
            }
        }
    }
}
