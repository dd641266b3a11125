//! A place in the ring: a task on its way to the worker, and its result on its way back.

use crate::sys::prim::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;

/// Inputs and outputs up to these lengths travel in the slot.
pub(crate) const INLINE_INPUT: usize = 128;
pub(crate) const INLINE_OUTPUT: usize = 64;

/// The longest message of a failed task.
pub(crate) const MESSAGE: usize = 184;

/// States of a slot; the table is above.
pub(crate) mod state {
    pub(crate) const READY: u32 = 1;
    pub(crate) const STARTED: u32 = 2;
    pub(crate) const RECALLED: u32 = 3;
}

/// Bits beside the number in a slot's `kind`.
pub(crate) mod flag {
    /// The host wants to know when the call begins, and the call of each item.
    pub(crate) const TIMED: u32 = 1 << 16;
    /// An end of a channel goes with the task: see `task::handover`.
    pub(crate) const CHANNEL: u32 = 1 << 17;
    /// A signal has been sent that was meant for an earlier task: it has to arrive before this one is claimed.
    pub(crate) const SIGNALLED: u32 = 1 << 18;
    /// The worker has begun the task and does not run its function: the status says why.
    pub(super) const DECLINED: u32 = 1 << 19;
}

/// Bytes that one side writes before it publishes them and the other copies out afterwards.
#[repr(C)]
pub(crate) struct Bytes<const N: usize>(UnsafeCell<[u8; N]>);

impl<const N: usize> Bytes<N> {
    /// Copies bytes in; what does not fit is left out. Returns how many fitted.
    pub(crate) fn write(&self, bytes: &[u8]) -> usize {
        let length = bytes.len().min(N);
        // SAFETY: the ranges do not overlap and are long enough; by the protocol nobody reads these bytes now, and a
        // hostile process that does can only get or leave garbage.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.get().cast(), length) };
        length
    }

    /// Copies out as many bytes as the other side says that there are, and no more than there is room for.
    pub(crate) fn read(&self, length: usize) -> Vec<u8> {
        let mut copy = vec![0; length.min(N)];
        // SAFETY: `copy` is new, so the ranges do not overlap, and both are at least as long as `copy`. By the
        // protocol nobody writes these bytes now, and a hostile process that does can only leave garbage.
        unsafe { std::ptr::copy_nonoverlapping(self.0.get().cast(), copy.as_mut_ptr(), copy.len()) };
        copy
    }

    /// Fills a place with as many of the bytes.
    pub(crate) fn copy_to(&self, place: &mut [MaybeUninit<u8>]) {
        let length = place.len().min(N);
        // SAFETY: `place` is borrowed and no part of the segment, so the ranges do not overlap, and both have
        // `length` bytes. By the protocol nobody writes these bytes now, and a hostile process that does can only
        // leave garbage.
        unsafe { std::ptr::copy_nonoverlapping(self.0.get().cast(), place.as_mut_ptr(), length) };
    }

    /// Where the bytes are.
    pub(crate) fn pointer(&self) -> *mut u8 {
        self.0.get().cast()
    }
}

/// A task on its way to the worker, and its result on its way back. The first 64 bytes are all that an empty task
/// touches.
#[repr(C, align(64))]
pub(crate) struct TaskSlot {
    pub(crate) state: AtomicU32,
    /// What is to be called and how: a number of [`crate::task::call`].
    pub(crate) kind: AtomicU32,
    /// The function: module and offset, or the place in the table of names.
    pub(crate) module: AtomicU32,
    /// How many messages the worker has to have taken, and so segments mapped, before it runs the task.
    pub(crate) messages_needed: AtomicU32,
    pub(crate) offset: AtomicU64,
    /// The input's address in the heap; 0 for an input in the slot.
    pub(crate) input: AtomicU64,
    pub(crate) input_length: AtomicU64,
    pub(crate) id: AtomicU64,
    /// The result.
    pub(crate) status: AtomicI32,
    pub(crate) message_length: AtomicU32,
    pub(crate) output_length: AtomicU64,
    /// The output's address in the heap; 0 for an output in the slot.
    pub(crate) output: AtomicU64,
    /// How long the call took, for chunks.
    pub(crate) elapsed_ns: AtomicU64,
    /// Items of a chunk that have finished.
    pub(crate) items: AtomicU64,
    /// The host wants the call to end: 1; for a chunk, the number of the item plus 1.
    pub(crate) asked: AtomicU64,
    /// The host wants the chunk to end after the item that it is at: 1. Relaxed; it may be seen late, or not at all.
    pub(crate) split: AtomicU64,
    /// Where the host has asked for a trace: when the call began and ended. Relaxed: the claim and `done` are what they come with.
    began_ns: AtomicU64,
    ended_ns: AtomicU64,
    _pad: [u64; 1],
    pub(crate) inline_input: Bytes<INLINE_INPUT>,
    pub(crate) inline_output: Bytes<INLINE_OUTPUT>,
    pub(crate) message: Bytes<MESSAGE>,
}

const _: () = assert!(size_of::<TaskSlot>() == 512 && core::mem::offset_of!(TaskSlot, output) == 64);
const _: () = assert!(core::mem::offset_of!(TaskSlot, inline_input) % 16 == 0);
const _: () = assert!(core::mem::offset_of!(TaskSlot, inline_output) % 16 == 0);

/// Where a worker has left an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    Nothing,
    /// In the slot: so many bytes.
    Inline(usize),
    /// In the heap: address and length.
    Block(usize, usize),
}

impl TaskSlot {
    /// Where the output is that the worker has left; `None` if it cannot be there. `holds` says whether the heap has so many
    /// bytes at an address.
    pub(crate) fn output_left(&self, holds: impl FnOnce(usize, usize) -> bool) -> Option<Left> {
        let length = self.output_length.load(Ordering::Relaxed) as usize;
        if length == 0 {
            return Some(Left::Nothing);
        }
        match self.output.load(Ordering::Relaxed) as usize {
            0 => (length <= INLINE_OUTPUT).then_some(Left::Inline(length)),
            address => holds(address, length).then_some(Left::Block(address, length)),
        }
    }

    /// Whether the worker has run the task, and left neither an output nor a text. Each look takes in its words anew.
    pub(crate) fn left_nothing(&self) -> bool {
        let lengths =
            (self.message_length.load(Ordering::Relaxed), self.output_length.load(Ordering::Relaxed));
        lengths == (0, 0) && !self.was_declined()
    }

    /// The text that the worker has left.
    pub(crate) fn message_left(&self) -> Vec<u8> {
        match self.message_length.load(Ordering::Relaxed) as usize {
            0 => Vec::new(),
            length => self.message.read(length.min(MESSAGE)),
        }
    }

    /// Worker: the call is about to begin, or has ended.
    pub(crate) fn note_begin(&self, now_ns: u64) {
        self.began_ns.store(now_ns, Ordering::Relaxed);
    }

    pub(crate) fn note_end(&self, now_ns: u64) {
        self.ended_ns.store(now_ns, Ordering::Relaxed);
    }

    /// When that was, as the worker says.
    pub(crate) fn times(&self) -> (u64, u64) {
        (self.began_ns.load(Ordering::Relaxed), self.ended_ns.load(Ordering::Relaxed))
    }

    /// Whether the worker has begun, and perhaps finished, what is in the slot.
    pub(crate) fn has_begun(&self) -> bool {
        self.state.load(Ordering::Acquire) == state::STARTED
    }

    /// Worker: does not run the function.
    pub(crate) fn decline(&self) {
        self.kind.store(self.kind.load(Ordering::Relaxed) | flag::DECLINED, Ordering::Relaxed);
    }

    /// Host: whether the worker says so, of a task that has ended.
    pub(crate) fn was_declined(&self) -> bool {
        self.kind.load(Ordering::Relaxed) & flag::DECLINED != 0
    }

    /// Whether neither side has claimed what is in the slot.
    pub(crate) fn is_ready(&self) -> bool {
        self.state.load(Ordering::Acquire) == state::READY
    }

    /// One side's claim of a task that has not begun; exactly one of the two succeeds.
    pub(crate) fn claim(&self, as_state: u32) -> bool {
        self.state.compare_exchange(state::READY, as_state, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}
