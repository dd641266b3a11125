//! A queue as an outside process reads it: from a copy of its words.

use super::layout::{Geometry, Shared};
use super::message::MARKED;
use crate::sync::lock::Owner;
use crate::sys::memory::AnyContent;
use crate::sys::prim::Ordering;

// SAFETY: its fields are atomics, each of which may have any bits.
unsafe impl AnyContent for Shared {}

/// How many bytes in front say what a queue holds.
pub(crate) const BYTES: usize = size_of::<Shared>();

/// Whether a block that begins with this word may be a queue; how long it is then.
pub(crate) fn length_of(first_word: u64) -> Option<usize> {
    Geometry::from_mark(first_word).map(Geometry::total)
}

/// What a queue holds.
#[derive(Clone, Copy, Debug)]
pub struct Contents {
    /// Messages in it, and how many there may be.
    pub messages: u64,
    /// The most.
    pub most_messages: u64,
    /// Messages that were put so far.
    pub put: u64,
    /// Messages that were got so far.
    pub got: u64,
    /// Nothing more is put.
    pub is_closed: bool,
    /// Who is putting.
    pub producer: Owner,
    /// Who is getting.
    pub consumer: Owner,
}

/// What stands in a copy of a queue's words.
pub(crate) fn contents(shared: &Shared) -> Contents {
    let (tail, head) = (shared.tail.0.load(Ordering::Relaxed), shared.head.0.load(Ordering::Relaxed));
    let most_messages = u64::from(shared.header.most_messages.load(Ordering::Relaxed));
    Contents {
        messages: (tail >> 1).saturating_sub(head >> 1).min(most_messages),
        most_messages,
        put: tail >> 1,
        got: head >> 1,
        is_closed: tail & MARKED != 0,
        producer: shared.producers.lock.owner(),
        consumer: shared.consumers.lock.owner(),
    }
}
