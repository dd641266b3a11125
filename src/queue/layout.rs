//! A queue's memory, and the bounds within which it is touched. `docs/design/queues.md` says who may write which word.
//!
//! ```text
//!   words | one slot per message ......... | bytes of messages | room for the one that runs over the end
//!           16 bytes: length, place, and     units of 16 bytes   (as long as the longest)
//!           8 bytes of a short message
//! ```
//!
//! There is no pointer in it, so it may lie at another address in each process. What a process may touch follows from
//! two exponents, which it has checked against the memory that it knows; everything else that stands in there is read
//! once and cut to them.

use super::spin::Hints;
use crate::sync::RwLock;
use crate::sync::gate::{Gate, Unseen};
use crate::sync::lock::Lock;
use crate::sys::prim::{AtomicU32, AtomicU64, Ordering};
use core::mem::size_of;
use core::ptr::NonNull;

/// Bytes of messages are handed out in units of this size, so that every message in place is aligned to it.
pub(crate) const UNIT: usize = 16;

/// A message up to this length lies in its slot.
pub(crate) const SHORT: usize = 8;

/// The most messages that a queue may be made for.
pub const MOST_MESSAGES: usize = 1 << 26;

/// The most bytes that a queue may be made for, and so the longest message.
pub const MOST_BYTES: usize = (u32::MAX - 255) as usize;

/// One message: where its bytes are. Written by who holds the producers' lock, before `tail` passes it.
#[repr(C, align(16))]
pub(crate) struct MessageSlot {
    length: AtomicU32,
    /// The first of its units, in the endless sequence of them; for a short message, where the next one would begin.
    place: AtomicU32,
    short: AtomicU64,
}

/// What is decided when the queue is made, and the word that all sleep on.
#[repr(C, align(64))]
pub(crate) struct Header {
    /// `MARK` and the geometry while there is a queue here; 0 before and afterwards. Release and Acquire.
    pub(crate) mark: AtomicU64,
    pub(crate) most_messages: AtomicU32,
    pub(crate) most_bytes: AtomicU32,
    pub(crate) flags: AtomicU32,
    /// Who holds the producers' lock and finds no room sleeps here, and who holds the consumers' and finds nothing.
    pub(crate) gate: Gate,
    /// Those that wait in `join`.
    pub(crate) join_gate: Gate,
    /// Those that watch the queue sleep here as well, to be told of its end. WAITERS once it has been destroyed.
    pub(crate) end_gate: Gate,
    /// For `gate` and `join_gate`.
    pub(crate) unseen: Unseen,
    /// How often `task_done` was called. Compare-exchange; SeqCst, because `join_gate` is looked at next.
    pub(crate) done: AtomicU64,
}

/// One side's lock and what its holder keeps beside it.
#[repr(C, align(64))]
pub(crate) struct Side {
    pub(crate) lock: Lock,
    /// How far the other side had come when it was last looked at. The holder's.
    pub(crate) seen: AtomicU64,
    /// Bytes that the holder has reserved, and where. The holder's.
    pub(crate) reserved: AtomicU32,
    pub(crate) reserved_place: AtomicU32,
    /// How long looking is worth it.
    pub(crate) hints: Hints,
}

/// A word on a cache line of its own, and of the line that is fetched along with it.
#[repr(C, align(128))]
pub(crate) struct Counter(pub(crate) AtomicU64);

/// The words in front.
#[repr(C, align(64))]
pub(crate) struct Shared {
    pub(crate) header: Header,
    pub(crate) producers: Side,
    pub(crate) consumers: Side,
    /// Messages put so far, times two, plus one when the queue is closed. Who holds the producers' lock moves it, by a
    /// compare-exchange that a close in between makes fail: the commit of a put.
    pub(crate) tail: Counter,
    /// Messages taken so far, times two, plus one while the next one is being looked at in place. Written by who holds
    /// the consumers' lock: the commit of a get.
    pub(crate) head: Counter,
    /// Held for reading by each thread that watches the queue for its process's descriptor, and for writing by who gives the
    /// memory back: so that comes when they have let go of it, or have died.
    pub(crate) watchers: RwLock,
}

/// "tineQu", and the layout's version above the geometry's 11 bits.
const MARK: u64 = 0x7469_6e65_5175_0000 | 1 << 11;
const _: () = assert!(size_of::<Shared>().is_multiple_of(64) && size_of::<MessageSlot>() == 16);

/// How many slots and units there are, as exponents of two, in 11 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    slots: u32,
    units: u32,
}

impl Geometry {
    pub(crate) fn for_limits(messages: usize, bytes: usize) -> Geometry {
        let slots = messages.next_power_of_two().trailing_zeros().max(2);
        Geometry { slots, units: bytes.div_ceil(UNIT).next_power_of_two().trailing_zeros() }
    }

    /// As a number below 2^11.
    #[inline(always)]
    pub(crate) fn number(self) -> u64 {
        u64::from(self.units) | u64::from(self.slots) << 6
    }

    /// From a number, cut to what exists.
    #[inline(always)]
    pub(crate) fn from_number(number: u64) -> Geometry {
        Geometry { slots: (number >> 6 & 31) as u32, units: (number & 63) as u32 }
    }

    /// From the header's mark; `None` where there is no queue, or one that can't be.
    pub(crate) fn from_mark(mark: u64) -> Option<Geometry> {
        let geometry = Geometry::from_number(mark & 0x7ff);
        (mark == geometry.mark() && geometry.slots <= 26 && geometry.units <= 28).then_some(geometry)
    }

    #[inline(always)]
    pub(crate) fn mark(self) -> u64 {
        MARK | self.number()
    }

    #[inline(always)]
    pub(crate) fn slots(self) -> u64 {
        1 << self.slots
    }

    /// Bytes of the units, without the room behind them.
    #[inline(always)]
    pub(crate) fn bytes(self) -> usize {
        UNIT << self.units
    }

    /// All the memory that a queue takes up.
    pub(crate) fn total(self) -> usize {
        size_of::<Shared>() + (self.slots() as usize) * size_of::<MessageSlot>() + 2 * self.bytes()
    }
}

/// How many units a message takes up.
#[inline(always)]
pub(crate) fn units_for(length: usize) -> u32 {
    if length <= SHORT { 0 } else { length.div_ceil(UNIT) as u32 }
}

/// Memory with a queue in it, and the private copy of its bounds.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    start: NonNull<u8>,
    pub(crate) geometry: Geometry,
}

// SAFETY: everything in there is an atomic, or bytes that belong to the holder of one of the locks.
unsafe impl Send for Memory {}
// SAFETY: threads that share the view reach atomics, and bytes that belong to the holder of one of the locks.
unsafe impl Sync for Memory {}

impl Memory {
    /// # Safety
    /// `start` is aligned to 64 bytes, `geometry.total()` bytes from it on stay mapped for reading and writing as long
    /// as this is used, and they are shared by means of this module only.
    #[inline(always)]
    pub(crate) unsafe fn new(start: NonNull<u8>, geometry: Geometry) -> Memory {
        Memory { start, geometry }
    }

    #[inline(always)]
    pub(crate) fn shared(&self) -> &Shared {
        // SAFETY: `new` has been promised that the words are there; every content is valid for atomics.
        unsafe { self.start.cast::<Shared>().as_ref() }
    }

    /// The slot of a message.
    #[inline(always)]
    pub(crate) fn slot(&self, message: u64) -> &MessageSlot {
        let index = (message & (self.geometry.slots() - 1)) as usize;
        // SAFETY: the index is below the number of slots, which lie behind the words.
        unsafe { self.start.add(size_of::<Shared>()).cast::<MessageSlot>().add(index).as_ref() }
    }

    /// The bytes from a unit on. As many as the geometry has are there, wherever it is.
    #[inline(always)]
    pub(crate) fn bytes_at(&self, place: u32) -> NonNull<u8> {
        let offset = (place as usize * UNIT) & (self.geometry.bytes() - 1);
        let slots = self.geometry.slots() as usize * size_of::<MessageSlot>();
        // SAFETY: the offset lies within the units, which lie behind the slots.
        unsafe { self.start.add(size_of::<Shared>() + slots + offset) }
    }

    /// Where a message of this length begins that was put at `place`.
    #[inline(always)]
    pub(crate) fn message_at(&self, message: u64, place: u32, length: usize) -> NonNull<u8> {
        if length <= SHORT { NonNull::from(&self.slot(message).short).cast() } else { self.bytes_at(place) }
    }
}

impl MessageSlot {
    /// Says what the message is. Relaxed: `tail` publishes it.
    #[inline(always)]
    pub(crate) fn describe(&self, length: u32, place: u32) {
        self.length.store(length, Ordering::Relaxed);
        self.place.store(place, Ordering::Relaxed);
    }

    /// Its length and place, as they stand there: to be checked. Relaxed: read after `tail`, or under the lock.
    #[inline(always)]
    pub(crate) fn description(&self) -> (u32, u32) {
        (self.length.load(Ordering::Relaxed), self.place.load(Ordering::Relaxed))
    }

    #[inline(always)]
    pub(crate) fn set_short(&self, bytes: &[u8]) {
        if let Ok(eight) = <[u8; 8]>::try_from(bytes) {
            self.short.store(u64::from_ne_bytes(eight), Ordering::Relaxed);
        } else {
            let mut eight = [0; 8];
            eight[..bytes.len()].copy_from_slice(bytes);
            self.short.store(u64::from_ne_bytes(eight), Ordering::Relaxed);
        }
    }

    #[inline(always)]
    pub(crate) fn short(&self) -> [u8; 8] {
        self.short.load(Ordering::Relaxed).to_ne_bytes()
    }
}

impl Side {
    pub(crate) fn new(flags: u32) -> Side {
        Side {
            lock: Lock::new(flags),
            seen: AtomicU64::new(0),
            reserved: AtomicU32::new(NOTHING_RESERVED),
            reserved_place: AtomicU32::new(0),
            hints: Hints::default(),
        }
    }
}

/// The half of a word that changes with every step, for the kernel to watch. Nobody reads it by this.
pub(crate) fn low_half(word: &AtomicU64) -> &AtomicU32 {
    let at = word.as_ptr().cast::<u32>().wrapping_add(usize::from(cfg!(target_endian = "big")));
    // SAFETY: inside the word, aligned, and only its address is used.
    unsafe { AtomicU32::from_ptr(at) }
}

/// In `Side::reserved`: the holder is not the user's.
pub(crate) const NOTHING_RESERVED: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_geometry_survives_its_number_and_nothing_else_passes() {
        for (messages, bytes) in [(1, 1), (1024, 1 << 20), (MOST_MESSAGES, MOST_BYTES)] {
            let geometry = Geometry::for_limits(messages, bytes);
            assert_eq!(Geometry::from_mark(geometry.mark()), Some(geometry));
            assert!(geometry.slots() >= messages as u64 && geometry.bytes() >= bytes);
        }
        for mark in [0, 1, MARK | 63, MARK | 31 << 6, u64::MAX, MARK | 1 << 12, !MARK] {
            assert_eq!(Geometry::from_mark(mark), None, "{mark:#x}");
        }
    }

    #[test]
    fn units_are_counted_from_nine_bytes_on() {
        assert_eq!([0, 1, 8, 9, 16, 17].map(units_for), [0, 0, 0, 1, 1, 2]);
    }
}
