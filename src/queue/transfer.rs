//! Putting and getting by copy, one message or many.

use super::layout::{SHORT, UNIT, units_for};
use super::message::{Queue, TOO_LONG, Wait, caller};
use crate::sync::{AGAIN, Outcome};
use crate::sys::clock::Timeout;
use core::ptr::NonNull;

/// Memory that messages are copied into.
#[derive(Clone, Copy)]
pub struct Buffer {
    start: *mut u8,
    room: usize,
}

impl Buffer {
    /// # Safety
    /// `room` bytes from `start` on are the caller's to write for as long as this is used.
    pub unsafe fn new(start: *mut u8, room: usize) -> Buffer {
        Buffer { start, room }
    }
}

impl From<&mut [u8]> for Buffer {
    fn from(bytes: &mut [u8]) -> Buffer {
        Buffer { start: bytes.as_mut_ptr(), room: bytes.len() }
    }
}

/// Why nothing was taken: the code, and how long the message is that does not fit.
pub type Refused = (crate::error::Code, usize);

impl Queue {
    /// Puts one message.
    #[inline]
    pub fn put(&self, bytes: &[u8], timeout: Timeout) -> Outcome<()> {
        let me = caller()?;
        let (message, place) = self.enter_to_put(me, bytes.len(), &mut Wait::new(timeout))?;
        self.write(message, place, bytes);
        let result = self.commit_put(me, message, 1);
        self.leave(me, &self.shared().producers);
        result
    }

    /// Puts messages that lie one behind the other in `bytes`, as long as `lengths` says, and makes those visible
    /// together for which there is room at a time. `put` grows by as many as were put; the error is why the others were not.
    pub fn put_many(
        &self,
        mut bytes: &[u8],
        lengths: &[usize],
        timeout: Timeout,
        put: &mut usize,
    ) -> Outcome<()> {
        let me = caller()?;
        let mut wait = Wait::new(timeout);
        if lengths.iter().any(|length| *length > self.longest()) {
            return Err(TOO_LONG);
        }
        let mut next = 0;
        while next < lengths.len() {
            let (first, mut place) = self.enter_to_put(me, lengths[next], &mut wait)?;
            let mut message = first;
            let mut count = 0;
            loop {
                let length = lengths[next + count];
                let (these, rest) = bytes.split_at(length.min(bytes.len()));
                self.write(message, place, these);
                bytes = rest;
                place = place.wrapping_add(units_for(length));
                message = message.wrapping_add(1);
                count += 1;
                match lengths.get(next + count) {
                    Some(length) if self.room(message, *length) == Some(place) => {}
                    _ => break,
                }
            }
            let committed = self.commit_put(me, first, count as u64);
            self.leave(me, &self.shared().producers);
            committed?;
            next += count;
            *put += count;
        }
        Ok(())
    }

    /// Takes one message; its length. One that is longer than the buffer stays where it is.
    #[inline]
    pub fn get(&self, buffer: Buffer, timeout: Timeout) -> Result<usize, Refused> {
        let me = caller().map_err(|code| (code, 0))?;
        let message = self.enter_to_get(me, &mut Wait::new(timeout)).map_err(|code| (code, 0))?;
        let result = self.read(message, buffer);
        // One that can't be is passed over, so that the queue goes on.
        if !matches!(result, Err((TOO_LONG, _))) {
            self.commit_get(me, message.wrapping_add(1));
        }
        self.leave(me, &self.shared().consumers);
        result
    }

    /// Takes as many messages as there are and as fit, at least one: they lie one behind the other in the buffer, as
    /// long as `lengths` then says. How many.
    pub fn get_many(
        &self,
        buffer: Buffer,
        lengths: &mut [usize],
        timeout: Timeout,
    ) -> Result<usize, Refused> {
        if lengths.is_empty() {
            return Ok(0);
        }
        let me = caller().map_err(|code| (code, 0))?;
        let first = self.enter_to_get(me, &mut Wait::new(timeout)).map_err(|code| (code, 0))?;
        let mut rest = buffer;
        let mut count = 0;
        let mut result = Err((AGAIN, 0));
        // A tail that can't be ends it: the loop is as long as the caller's array at most.
        let there = self.fresh_tail(first).unwrap_or(first.wrapping_add(1)).wrapping_sub(first).max(1);
        while count < lengths.len() && (count as u64) < there {
            match self.read(first.wrapping_add(count as u64), rest) {
                Ok(length) => {
                    lengths[count] = length;
                    rest = Buffer { start: rest.start.wrapping_add(length), room: rest.room - length };
                    count += 1;
                    result = Ok(count);
                }
                Err(refused) => {
                    result = if count == 0 { Err(refused) } else { result };
                    break;
                }
            }
        }
        let taken = match result {
            Ok(count) => count as u64,
            Err((TOO_LONG, _)) => 0,
            Err(_) => 1,
        };
        if taken > 0 {
            self.commit_get(me, first.wrapping_add(taken));
        }
        self.leave(me, &self.shared().consumers);
        result
    }

    /// Copies a message in. There is room for it, and the producers' lock is held.
    #[inline(always)]
    fn write(&self, message: u64, place: u32, bytes: &[u8]) {
        let slot = self.memory.slot(message);
        slot.describe(bytes.len() as u32, place);
        if bytes.len() <= SHORT {
            slot.set_short(bytes);
            return;
        }
        let to = self.memory.bytes_at(place);
        debug_assert!(bytes.len() <= self.memory.geometry.bytes() && UNIT.is_power_of_two());
        // SAFETY: every message is at most as long as the units are together, and as many bytes lie behind each.
        // Nobody reads these before they are committed; a hostile process that does gets garbage.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to.as_ptr(), bytes.len()) };
    }

    /// Copies a message out, if it fits; its length. The consumers' lock is held.
    #[inline(always)]
    fn read(&self, message: u64, buffer: Buffer) -> Result<usize, Refused> {
        let (length, place) = self.find_bytes(message).map_err(|code| (code, 0))?;
        if length > buffer.room {
            return Err((TOO_LONG, length));
        }
        if length == SHORT {
            let eight = self.memory.slot(message).short();
            // SAFETY: the buffer has room for them: that was checked. Whoever made it has promised that as many bytes
            // can be written (`Buffer::new`).
            unsafe { buffer.start.cast::<[u8; SHORT]>().write_unaligned(eight) };
        } else if length > SHORT {
            let from: NonNull<u8> = self.memory.bytes_at(place);
            // SAFETY: `find_bytes` has checked the length against the units; the buffer has room, and is not part of
            // the queue. A hostile process that writes meanwhile makes these bytes garbage, no more.
            unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), buffer.start, length) };
        } else if length > 0 {
            let eight = self.memory.slot(message).short();
            // SAFETY: `length` is less than `SHORT`, so the copy stays within `eight`. The buffer has room for
            // `length` bytes: that was checked. Whoever made it has promised that as many can be written
            // (`Buffer::new`).
            unsafe { core::ptr::copy_nonoverlapping(eight.as_ptr(), buffer.start, length) };
        }
        Ok(length)
    }
}
