//! Messages in place: written where they will be read, and read where they were written.
//!
//! Between `reserve` and `commit` a thread holds the producers' lock, between `peek` and `release` the consumers'. What a
//! dead one has reserved never was; what it was looking at is dropped by the next consumer, which finds `head` marked.

use super::layout::SHORT;
use super::message::{MARKED, Queue, TOO_LONG, Wait, caller};
use crate::sync::{NOT_OWNER, Outcome};
use crate::sys::clock::Timeout;
use crate::sys::prim::Ordering;
use core::ptr::NonNull;

impl Queue {
    /// Room for a message of up to `length` bytes, to be written in place; `commit` or `abandon` must follow, in the same
    /// thread. Other producers wait until then.
    pub fn reserve(&self, length: usize, timeout: Timeout) -> Outcome<NonNull<u8>> {
        let me = caller()?;
        let (message, place) = self.enter_to_put(me, length, &mut Wait::new(timeout))?;
        let side = &self.shared().producers;
        // Relaxed: the holder's own.
        side.reserved.store(length as u32, Ordering::Relaxed);
        side.reserved_place.store(place, Ordering::Relaxed);
        Ok(self.memory.message_at(message, place, length))
    }

    /// Puts what was reserved, or its first `length` bytes. `EMSGSIZE`: more than was reserved; it stays reserved.
    pub fn commit(&self, length: usize) -> Outcome<()> {
        let me = caller()?;
        let side = &self.shared().producers;
        side.lock.held_by(me).ok_or(NOT_OWNER)?;
        let reserved = side.reserved.load(Ordering::Relaxed) as usize;
        if length > reserved.min(self.longest()) {
            return Err(TOO_LONG);
        }
        let message = self.shared().tail.0.load(Ordering::Relaxed) >> 1;
        let place = side.reserved_place.load(Ordering::Relaxed);
        let slot = self.memory.slot(message);
        if reserved > SHORT && length <= SHORT {
            // It was written as a long one and is a short one.
            let mut bytes = [0; SHORT];
            // SAFETY: a place in the queue's own memory with room for more than that.
            unsafe {
                let from = self.memory.bytes_at(place).as_ptr();
                core::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), length);
            }
            slot.set_short(&bytes[..length]);
        }
        slot.describe(length as u32, place);
        let result = self.commit_put(me, message, 1);
        self.leave(me, side);
        result
    }

    /// Gives up what was reserved.
    pub fn abandon(&self) -> Outcome<()> {
        let me = caller()?;
        let side = &self.shared().producers;
        side.lock.held_by(me).ok_or(NOT_OWNER)?;
        self.leave(me, side);
        Ok(())
    }

    /// The next message, to be read in place until `release`, in the same thread. It is this thread's from now on: should
    /// it die, nobody else gets the message. Other consumers wait until then.
    pub fn peek(&self, timeout: Timeout) -> Outcome<(NonNull<u8>, usize)> {
        let me = caller()?;
        let message = self.enter_to_get(me, &mut Wait::new(timeout))?;
        let side = &self.shared().consumers;
        match self.find_bytes(message) {
            Ok((length, place)) => {
                // Relaxed: for the next holder of the lock, and for counts.
                self.shared().head.0.store(message << 1 | MARKED, Ordering::Relaxed);
                Ok((self.memory.message_at(message, place, length), length))
            }
            Err(code) => {
                self.commit_get(me, message.wrapping_add(1));
                self.leave(me, side);
                Err(code)
            }
        }
    }

    /// Gives the room of the message back that was read in place.
    pub fn release(&self) -> Outcome<()> {
        let me = caller()?;
        let side = &self.shared().consumers;
        side.lock.held_by(me).ok_or(NOT_OWNER)?;
        let message = self.shared().head.0.load(Ordering::Relaxed) >> 1;
        self.commit_get(me, message.wrapping_add(1));
        self.leave(me, side);
        Ok(())
    }
}
