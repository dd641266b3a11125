//! What `src/queue/layout.rs` is to the library. Words that only the holder of a side's lock touches, hints and limits are
//! cells; what a message is, loom checks for races: it is written before the commit word, and read after it.

use super::spin::Hints;
use crate::prim::{AtomicU32, AtomicU64, Long, Ordering};
use crate::sync::gate::{Gate, Unseen};
use crate::sync::lock::Lock;
use loom::cell::UnsafeCell;
use std::cell::Cell;
use std::ptr::NonNull;

pub(crate) const UNIT: usize = 16;
pub(crate) const SHORT: usize = 8;
pub(crate) const NOTHING_RESERVED: u32 = u32::MAX;
pub const MOST_MESSAGES: usize = 1 << 26;
pub const MOST_BYTES: usize = (u32::MAX - 255) as usize;

pub(crate) struct Plain<T>(Cell<T>);

impl<T: Copy> Plain<T> {
    pub fn load(&self, _: Ordering) -> T {
        self.0.get()
    }

    pub fn store(&self, value: T, _: Ordering) {
        self.0.set(value);
    }
}

pub(crate) struct Slot(UnsafeCell<(u32, u32, [u8; SHORT])>);

pub(crate) struct Header {
    pub(crate) mark: AtomicU64,
    pub(crate) most_messages: Plain<u32>,
    pub(crate) most_bytes: Plain<u32>,
    pub(crate) flags: Plain<u32>,
    pub(crate) gate: Gate,
    pub(crate) join_gate: Gate,
    pub(crate) end_gate: Gate,
    pub(crate) unseen: Unseen,
    pub(crate) done: Long,
}

pub(crate) struct Side {
    pub(crate) lock: Lock,
    pub(crate) seen: Plain<u64>,
    pub(crate) hints: Hints,
}

pub(crate) struct Counter(pub(crate) Long);

pub(crate) struct Shared {
    pub(crate) header: Header,
    pub(crate) producers: Side,
    pub(crate) consumers: Side,
    pub(crate) tail: Counter,
    pub(crate) head: Counter,
    slots: [Slot; SLOTS],
}

const SLOTS: usize = 4;

impl Side {
    pub(crate) fn new(flags: u32) -> Side {
        Side { lock: Lock::new(flags), seen: Plain(Cell::new(0)), hints: Hints }
    }
}

impl Slot {
    pub(crate) fn describe(&self, length: u32, place: u32) {
        // SAFETY: loom says whether two are at it.
        self.0.with_mut(|slot| unsafe { ((*slot).0, (*slot).1) = (length, place) });
    }

    pub(crate) fn description(&self) -> (u32, u32) {
        // SAFETY: as above.
        self.0.with(|slot| unsafe { ((*slot).0, (*slot).1) })
    }

    pub(crate) fn set_short(&self, bytes: &[u8]) {
        // SAFETY: as above.
        self.0.with_mut(|slot| unsafe { (&mut (*slot).2)[..bytes.len()].copy_from_slice(bytes) });
    }

    pub(crate) fn short(&self) -> [u8; SHORT] {
        // SAFETY: as above.
        self.0.with(|slot| unsafe { (*slot).2 })
    }
}

/// The exponents are of no use here: there are `SLOTS` slots, and no units.
#[derive(Clone, Copy)]
pub(crate) struct Geometry;

impl Geometry {
    pub(crate) fn for_limits(_: usize, _: usize) -> Geometry {
        Geometry
    }

    pub(crate) fn from_mark(_: u64) -> Option<Geometry> {
        None
    }

    pub(crate) fn mark(self) -> u64 {
        1
    }

    pub(crate) fn slots(self) -> u64 {
        SLOTS as u64
    }

    pub(crate) fn bytes(self) -> usize {
        SLOTS * UNIT
    }

    pub(crate) fn total(self) -> usize {
        size_of::<Shared>()
    }
}

pub(crate) fn units_for(length: usize) -> u32 {
    if length <= SHORT { 0 } else { length.div_ceil(UNIT) as u32 }
}

pub(crate) fn low_half(word: &Long) -> &AtomicU32 {
    word.low_half()
}

/// The memory of a model's queue.
pub(crate) struct Body(Box<Shared>);

impl Body {
    pub(crate) fn new(messages: u32) -> Body {
        let plain = |value| Plain(Cell::new(value));
        let header = Header {
            mark: AtomicU64::new(1),
            most_messages: plain(messages),
            most_bytes: plain((SLOTS * UNIT) as u32),
            flags: plain(0),
            gate: Gate::default(),
            join_gate: Gate::default(),
            end_gate: Gate::default(),
            unseen: Unseen::new(),
            done: Long::new(0),
        };
        Body(Box::new(Shared {
            header,
            producers: Side::new(0),
            consumers: Side::new(0),
            tail: Counter(Long::new(0)),
            head: Counter(Long::new(0)),
            slots: [(); SLOTS].map(|()| Slot(UnsafeCell::new((0, 0, [0; SHORT])))),
        }))
    }

    pub(crate) fn memory(&self) -> Memory {
        Memory { shared: NonNull::from(&*self.0), geometry: Geometry }
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Memory {
    shared: NonNull<Shared>,
    pub(crate) geometry: Geometry,
}

impl Memory {
    /// # Safety
    /// `start` is a `Shared` that stays.
    pub(crate) unsafe fn new(start: NonNull<u8>, geometry: Geometry) -> Memory {
        Memory { shared: start.cast(), geometry }
    }

    pub(crate) fn shared(&self) -> &Shared {
        // SAFETY: a `Body`, which outlives the threads that use it.
        unsafe { self.shared.as_ref() }
    }

    pub(crate) fn slot(&self, message: u64) -> &Slot {
        &self.shared().slots[message as usize % SLOTS]
    }

    pub(crate) fn bytes_at(&self, _: u32) -> NonNull<u8> {
        panic!("every message of a model is a short one")
    }
}
