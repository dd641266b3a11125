//! Walking the heap: what it holds and whose it is, and whether everything in it is as it should be.

use super::entry::{Entry, EntryKind, Owner, ended_process, place_of};
use super::slab::Slab;
use super::{EXTENT_BYTES, Heap};
use crate::error::Result;
use crate::sys::{memory, reserve};
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

/// What each place has, and what each ended process has left: by owner, each once.
pub(crate) struct Usages(Vec<(Owner, Usage)>);

impl Usages {
    /// What one of them has.
    pub(crate) fn of(&self, owner: Owner) -> Usage {
        let found = self.0.binary_search_by_key(&owner, |(owner, _)| *owner);
        found.map_or(Usage::default(), |at| self.0[at].1)
    }

    /// The processes that have ended and left blocks, with what they have left.
    pub(crate) fn ended(&self) -> impl Iterator<Item = (i32, Usage)> {
        let ended = self.0.iter().filter_map(|(owner, usage)| Some((ended_process(*owner)?, *usage)));
        ended.filter(|(_, usage)| usage.blocks > 0)
    }
}

impl Heap {
    /// What the heap holds, as one walk over it finds: other processes allocate and free meanwhile.
    pub fn stats(&self) -> HeapStats {
        let mut used = Usage::default();
        self.used_runs().for_each(|(_, run)| used.add(run.blocks, run.bytes));
        let reserved_bytes = memory::reserved_bytes(self.fd.as_raw_fd()).unwrap_or(0);
        // Another process may have written anything there.
        let noted = self.directory.peak().load(crate::sys::prim::Ordering::Relaxed);
        let peak_bytes = noted.min(self.length as u64).max(reserved_bytes);
        HeapStats { reserved_bytes, peak_bytes, used_bytes: used.bytes, used_blocks: used.blocks }
    }

    /// The runs of extents as they lie: where each begins, what it is, and how long. None reaches beyond the heap's end,
    /// whatever the words say.
    pub(super) fn runs(&self) -> impl Iterator<Item = (u32, Entry, u32)> {
        let known = self.directory.refresh(&self.fd);
        let mut next = 0;
        std::iter::from_fn(move || {
            let extent = next;
            (extent < known).then(|| {
                let entry = self.directory.get(extent);
                let length = entry.length_at(extent, known);
                next = extent + length;
                (extent, entry, length)
            })
        })
    }

    /// The slabs and large blocks: whose each is, and what is in it.
    fn used_runs(&self) -> impl Iterator<Item = (Owner, Usage)> {
        self.runs().filter_map(move |(extent, entry, length)| {
            let usage = if entry.kind == EntryKind::Large {
                Usage { blocks: 1, bytes: u64::from(length) * EXTENT_BYTES as u64 }
            } else {
                let slab = Slab::at(&self.directory, extent, entry, self.directory.known_extents())?;
                let blocks = slab.count(self);
                Usage { blocks, bytes: blocks * slab.class.size as u64 }
            };
            Some((place_of(entry.owner).unwrap_or(entry.owner), usage))
        })
    }

    /// What each place has, and what each ended process has left.
    pub(crate) fn usage(&self) -> Result<Usages> {
        let mut all: Vec<(Owner, Usage)> = Vec::new();
        for (owner, usage) in self.used_runs() {
            match all.last_mut() {
                Some((last, sum)) if *last == owner => sum.add(usage.blocks, usage.bytes),
                _ => {
                    reserve::grow(&mut all, 1)?;
                    all.push((owner, usage));
                }
            }
        }
        all.sort_unstable_by_key(|(owner, _)| *owner);
        all.dedup_by(|(owner, usage), (last, sum)| {
            let is_same = owner == last;
            if is_same {
                sum.add(usage.blocks, usage.bytes);
            }
            is_same
        });
        Ok(Usages(all))
    }

    /// The blocks of one of those, address and size, as the shared words say.
    pub(crate) fn blocks_of(&self, owner: Owner) -> Result<Vec<(usize, usize)>> {
        let mut all = Vec::new();
        for (extent, entry, length) in self.runs() {
            if place_of(entry.owner).unwrap_or(entry.owner) != owner {
                continue;
            }
            if entry.kind == EntryKind::Large {
                reserve::grow(&mut all, 1)?;
                all.push((self.directory.address_of(extent), length as usize * EXTENT_BYTES));
            } else if let Some(slab) =
                Slab::at(&self.directory, extent, entry, self.directory.known_extents())
            {
                for word in 0..slab.class.words() {
                    let mut bits = slab.allocated(self, word);
                    while bits != 0 {
                        let block = word * 64 + bits.trailing_zeros() as usize;
                        reserve::grow(&mut all, 1)?;
                        all.push((slab.address_of(block), slab.class.size));
                        bits &= bits - 1;
                    }
                }
            }
        }
        Ok(all)
    }

    /// Walks all of the heap and says what is not as it should be; for a heap that nobody else uses at this moment.
    ///
    /// Every extent is free, or belongs to exactly one slab or block, whose owner has a place among `owners` or is known
    /// to have ended; no bits are set that stand for nothing.
    pub fn check(&self, owners: &[Owner]) -> Vec<String> {
        let mut faults = Vec::new();
        let known = self.directory.refresh(&self.fd);
        for (extent, entry, length) in self.runs() {
            let mut fault = |text: &str| faults.push(format!("extent {extent}, {entry:?}: {text}"));
            match entry.kind {
                EntryKind::Free if entry.class > 1 || entry.owner != 0 => fault("not a free word"),
                EntryKind::Claimed => fault("claimed, and nobody claims it"),
                EntryKind::Tail => fault("behind a run that has another end"),
                EntryKind::Free => (),
                _ if ended_process(entry.owner).is_none()
                    && !place_of(entry.owner).is_some_and(|place| owners.contains(&place)) =>
                {
                    fault("its owner is dead")
                }
                _ => (),
            }
            if entry.exact_length(extent, known).is_none() {
                fault("beyond the end, or of no length");
            }
            match Slab::at(&self.directory, extent, entry, known) {
                Some(slab) => self.check_bits(&slab, &mut fault),
                None if entry.is_slab() => fault("a slab of no class, or beyond the end"),
                None => (),
            }
            for distance in 1..length {
                let tail = self.directory.get(extent + distance);
                let leads = !entry.is_slab() || tail.aux == distance;
                if tail.kind != EntryKind::Tail || !leads {
                    fault(&format!("extent {distance} of it is {tail:?}"));
                }
            }
        }
        faults
    }

    fn check_bits(&self, slab: &Slab, fault: &mut impl FnMut(&str)) {
        for word in 0..slab.class.words() {
            if slab.taken(self, word).load(crate::sys::prim::Ordering::Relaxed) & !slab.class.mask(word) != 0
            {
                fault("bits of blocks that do not exist are taken");
            }
        }
    }
}
