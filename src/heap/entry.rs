//! A directory word, taken apart: what a run of extents is, whose, and how long.
//!
//! ```text
//!   kind 4 bits | class 6 | owner 23 | aux 31
//! ```

use super::class::Class;

/// Whose something is: a place (the host's is 0, worker `n`'s `n + 1`, or that in a segment's table), in its higher bits
/// which of the process's allocators; or an ended process by its number, see [`ended`].
pub(crate) type Owner = u32;

/// The bits of an owner that are its place; above them the allocator's number.
pub(super) const PLACE_BITS: u32 = 16;
const ENDED: Owner = 1 << 22;
/// The kernel gives no process this number or a higher one (PID_MAX_LIMIT).
pub(super) const MOST_PROCESSES: i32 = 1 << 22;
const OWNER_BITS: u32 = 23;
const AUX_BITS: u32 = 31;
const AUX_MASK: u32 = u32::MAX >> 1;

/// The owner of what a process has left: no place is taken up by it. Numbers of processes are below 2^22.
pub(super) fn ended(pid: i32) -> Owner {
    ENDED | (pid as u32 & (ENDED - 1))
}

/// The process that has ended and left this, if that is the owner.
pub(super) fn ended_process(owner: Owner) -> Option<i32> {
    (owner & ENDED != 0).then_some((owner & (ENDED - 1)) as i32)
}

/// The place of a process that has not ended.
pub(super) fn place_of(owner: Owner) -> Option<Owner> {
    (owner & ENDED == 0).then_some(owner & ((1 << PLACE_BITS) - 1))
}

/// What an extent is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum EntryKind {
    /// The first of a run that is nobody's. `class` 1: its pages may be gone, a hole. A word of zeros is a run of one.
    Free = 0,
    /// The first of a run that its owner is about to make something of. `class` 1: it was a hole, and no page has been reserved since.
    Claimed = 1,
    /// The first of a slab that its owner allocates from, by plain stores; `aux` is the generation.
    Slab = 2,
    /// The first of a slab that nobody allocates from; `aux` is the generation.
    Loose = 3,
    /// The first of a block of whole extents.
    Large = 4,
    /// Not the first. `aux` is the distance to it in a slab, and in the last extent of a free run; else it says nothing.
    Tail = 5,
}

/// A directory word, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub kind: EntryKind,
    pub class: u8,
    pub owner: Owner,
    pub aux: u32,
}

impl Entry {
    pub(super) fn free(length: u32, hole: bool) -> Entry {
        // A word of zeros is a run of one, and no other word is.
        let aux = if length == 1 { 0 } else { length };
        Entry { kind: EntryKind::Free, class: u8::from(hole), owner: 0, aux }
    }

    pub(super) fn claimed(owner: Owner, length: u32) -> Entry {
        Entry { kind: EntryKind::Claimed, class: 0, owner, aux: length }
    }

    /// The same of a run that still says whether it was a hole.
    pub(super) fn claimed_from(owner: Owner, length: u32, hole: bool) -> Entry {
        Entry { class: u8::from(hole), ..Entry::claimed(owner, length) }
    }

    pub(super) fn large(owner: Owner, length: u32) -> Entry {
        Entry { kind: EntryKind::Large, class: 0, owner, aux: length }
    }

    pub(super) fn slab(owner: Owner, class: u8, generation: u32) -> Entry {
        Entry { kind: EntryKind::Slab, class, owner, aux: generation & AUX_MASK }
    }

    pub(super) fn tail(distance: u32) -> Entry {
        Entry { kind: EntryKind::Tail, class: 0, owner: 0, aux: distance }
    }

    /// The same slab when its owner has let go of it.
    pub(super) fn loosened(self) -> Entry {
        Entry { kind: EntryKind::Loose, ..self }
    }

    /// The same slab when its owner takes it up again: another generation, so that who has looked at it before and
    /// found it empty does not take it for the same.
    pub(super) fn fastened(self, generation: u32) -> Entry {
        Entry { kind: EntryKind::Slab, aux: generation & AUX_MASK, ..self }
    }

    pub(super) fn is_slab(self) -> bool {
        matches!(self.kind, EntryKind::Slab | EntryKind::Loose)
    }

    pub(super) fn is_hole(self) -> bool {
        self.kind == EntryKind::Free && self.class != 0
    }

    /// Whether it was one when it was claimed, where that is still said.
    pub(super) fn was_hole(self) -> bool {
        self.kind == EntryKind::Claimed && self.class != 0
    }

    /// Extents of the run that begins here, which is in a heap of so many; never 0 and never beyond the end.
    pub(super) fn length_at(self, extent: u32, known: u32) -> u32 {
        let length = match self.kind {
            EntryKind::Free | EntryKind::Claimed | EntryKind::Large => self.aux,
            EntryKind::Slab | EntryKind::Loose => {
                Class::get(usize::from(self.class)).map_or(1, |class| class.span)
            }
            EntryKind::Tail => 1,
        };
        length.clamp(1, known.saturating_sub(extent).max(1))
    }

    /// The same where the word is true; `None` for a run that does not fit, which only a hostile process makes.
    pub(super) fn exact_length(self, extent: u32, known: u32) -> Option<u32> {
        let length = self.length_at(extent, known);
        let said = if self.kind == EntryKind::Free { self.aux.max(1) } else { self.aux };
        let of_extents = matches!(self.kind, EntryKind::Free | EntryKind::Claimed | EntryKind::Large);
        (extent < known && (!of_extents || said == length)).then_some(length)
    }

    pub(super) fn word(self) -> u64 {
        (self.kind as u64) << 60
            | u64::from(self.class & 0x3f) << (OWNER_BITS + AUX_BITS)
            | u64::from(self.owner) << AUX_BITS
            | u64::from(self.aux & AUX_MASK)
    }

    /// Garbage, which only a hostile process writes, reads as extents that are nobody's to use.
    pub(super) fn from_word(word: u64) -> Entry {
        let kind = match word >> 60 {
            0 => EntryKind::Free,
            2 => EntryKind::Slab,
            3 => EntryKind::Loose,
            4 => EntryKind::Large,
            5 => EntryKind::Tail,
            _ => EntryKind::Claimed,
        };
        Entry {
            kind,
            class: (word >> (OWNER_BITS + AUX_BITS)) as u8 & 0x3f,
            owner: (word >> AUX_BITS) as Owner & ((1 << OWNER_BITS) - 1),
            aux: word as u32 & AUX_MASK,
        }
    }
}
