//! Messages in place: reserved and committed by the sender, looked at and released by the receiver.
//!
//! docs/design/channels.md ("Messages in place") is the design. What is here belongs to a handle and to this process alone.

use super::packet::{Content, Header, PLACE_BYTES, PacketKind, Place, not_ours};
use super::pages::{Extent, Pages, Slot, View};
use super::{Channel, LOOK_NS, SHORT_BYTES, gone, long, no_message};
use crate::error::{Code, Error, Result};
use crate::sys::clock::{Deadline, Timeout};
use crate::sys::prim::Wait;
use crate::sys::{reserve, socket};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How long a message that is copied waits for a slot.
const BRIEFLY_NS: u64 = 2_000_000;

/// Of one handle.
#[derive(Debug, Default)]
pub(super) struct InPlace {
    /// The memory for what it sends, once it has sent a long message.
    pages: Mutex<Option<Arc<Pages>>>,
    reserved: Mutex<Hold<Reserved>>,
    /// The memory of what it receives.
    view: Mutex<Option<Arc<View>>>,
    looked_at: Mutex<Hold<LookedAt>>,
}

/// What a handle has one of at a time.
///
/// ```text
///   Nothing  -> Busy      a call begins
///   Busy     -> Holds     the call has got it; or it could not give it away, and it is as before
///   Busy     -> Nothing   the call has failed; or it has given it away
///   Holds    -> Busy      a call that gives it away begins
/// ```
#[derive(Debug, Default)]
enum Hold<T> {
    #[default]
    Nothing,
    /// In a call, which may be waiting: nobody waits for that behind the lock.
    Busy,
    Holds(T),
}

/// A call that has made a place busy; what it leaves there is nothing, or what it says.
struct Call<'a, T> {
    place: &'a Mutex<Hold<T>>,
    leaves: Hold<T>,
}

impl<'a, T> Call<'a, T> {
    fn to_get(place: &'a Mutex<Hold<T>>, what: &'static str) -> Result<Call<'a, T>> {
        let mut hold = lock(place);
        if !matches!(*hold, Hold::Nothing) {
            return Err(Error::errno(libc::EBUSY, what));
        }
        *hold = Hold::Busy;
        Ok(Call { place, leaves: Hold::Nothing })
    }

    fn to_give(place: &'a Mutex<Hold<T>>, what: &'static str) -> Result<(T, Call<'a, T>)> {
        let mut hold = lock(place);
        match std::mem::replace(&mut *hold, Hold::Busy) {
            Hold::Holds(held) => Ok((held, Call { place, leaves: Hold::Nothing })),
            other => {
                *hold = other;
                Err(Error::errno(libc::EPERM, what))
            }
        }
    }

    fn leave(mut self, held: T) {
        self.leaves = Hold::Holds(held);
    }
}

impl<T> Drop for Call<'_, T> {
    fn drop(&mut self) {
        *lock(self.place) = std::mem::take(&mut self.leaves);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A message that is being written.
#[derive(Debug)]
struct Reserved {
    room: Room,
    length: usize,
}

#[derive(Debug)]
enum Room {
    Own(OwnMemory),
    Slot(Slot),
}

/// A message that has been received and is being read.
#[derive(Debug)]
enum LookedAt {
    Own(OwnMemory),
    Placed(Arc<View>, Place),
}

impl LookedAt {
    fn pointer(&mut self) -> NonNull<u8> {
        match self {
            LookedAt::Own(memory) => memory.pointer(),
            LookedAt::Placed(view, place) => view.pointer(*place),
        }
    }
}

impl Drop for LookedAt {
    fn drop(&mut self) {
        if let LookedAt::Placed(view, place) = self {
            view.free(*place);
        }
    }
}

/// Memory of this process's for one message.
#[derive(Debug)]
struct OwnMemory {
    units: Vec<MaybeUninit<u128>>,
    length: usize,
}

impl OwnMemory {
    fn new(length: usize) -> Result<OwnMemory> {
        let mut units = Vec::new();
        // An empty message has an address, too, and it is one of memory: runtimes of other languages look at where a pointer points.
        let count = length.div_ceil(size_of::<u128>()).max(1);
        reserve::grow(&mut units, count)?;
        // SAFETY: there is room for as many, which may hold anything.
        unsafe { units.set_len(count) };
        Ok(OwnMemory { units, length })
    }

    fn zeroed(length: usize) -> Result<OwnMemory> {
        let mut memory = OwnMemory::new(length)?;
        memory.units.fill(MaybeUninit::new(0));
        Ok(memory)
    }

    fn pointer(&mut self) -> NonNull<u8> {
        // SAFETY: a vector's pointer is never null.
        unsafe { NonNull::new_unchecked(self.units.as_mut_ptr().cast()) }
    }

    fn room(&mut self) -> &mut [MaybeUninit<u8>] {
        // SAFETY: the units have at least as many bytes, which may hold anything.
        unsafe { std::slice::from_raw_parts_mut(self.units.as_mut_ptr().cast(), self.length) }
    }

    /// What has been written there since `zeroed`.
    fn message(&self, length: usize) -> &[u8] {
        // SAFETY: it was zeroed, so that its bytes are initialised; `length` is at most what was asked for.
        unsafe { std::slice::from_raw_parts(self.units.as_ptr().cast(), length.min(self.length)) }
    }
}

impl InPlace {
    /// Pages for messages of such a length: those that there are, or new ones.
    fn pages_for(&self, length: usize) -> Result<Arc<Pages>> {
        let is_usable = |pages: &&Arc<Pages>| pages.has_room_for(length) && pages.can_be_sent();
        let known = lock(&self.pages).as_ref().filter(is_usable).map(Arc::clone);
        if let Some(pages) = known {
            return Ok(pages);
        }
        // Outside the lock, as is the end of those that were known: it can take long, and others may not wait as long.
        let pages = Pages::new(length)?;
        if !pages.are_kept() {
            return Ok(pages);
        }
        let _old = {
            let mut known = lock(&self.pages);
            // Another thread may have been faster.
            if let Some(theirs) = known.as_ref().filter(is_usable) {
                return Ok(Arc::clone(theirs));
            }
            known.replace(Arc::clone(&pages))
        };
        Ok(pages)
    }

    /// Leaves these to those who have their slots.
    fn give_up(&self, pages: &Arc<Pages>) {
        let _old = lock(&self.pages).take_if(|known| Arc::ptr_eq(known, pages));
    }

    /// The view of the memory behind a descriptor, which holds a message where its packet says; [`not_ours`] where it does not.
    pub(super) fn view_of(
        &self,
        fd: &OwnedFd,
        place: Place,
        length: usize,
        extent: Extent,
    ) -> Result<Arc<View>> {
        // Mapped and unmapped outside the lock: both can take long, and others may not wait as long.
        let known = lock(&self.view).clone();
        let view = View::of(fd, known.as_ref(), extent)?;
        if !view.has(place, length) {
            return Err(not_ours());
        }
        if place.kept && view.can_be_kept() {
            let _old = lock(&self.view).replace(Arc::clone(&view));
        }
        Ok(view)
    }
}

impl Channel {
    /// Reserves room for a message of up to so many bytes; no other thread gets at it.
    pub fn reserve(&self, length: usize, timeout: Timeout) -> Result<NonNull<u8>> {
        self.socket()?;
        let call =
            Call::to_get(&self.in_place.reserved, "a message is reserved through this handle already")?;
        if length > isize::MAX as usize {
            let text = format!("a message of {length} bytes is more than an address space has");
            return Err(Error::invalid(text));
        }
        let (room, pointer) = if length <= SHORT_BYTES {
            let mut memory = OwnMemory::zeroed(length)?;
            let pointer = memory.pointer();
            (Room::Own(memory), pointer)
        } else {
            let slot = self.wait_for_slot(length, timeout)?;
            let pointer = slot.pointer();
            (Room::Slot(slot), pointer)
        };
        call.leave(Reserved { room, length });
        Ok(pointer)
    }

    /// A slot for a message that is to be copied, if one is free soon and worth while: memory of its own costs more than a short wait, and a
    /// sender that waits leaves the processor to its receiver. But it does not wait for a receiver that is not about to receive.
    pub(super) fn slot_soon(
        &self,
        length: usize,
        timeout: Timeout,
        deadline: &mut Option<Deadline>,
    ) -> Result<Option<Slot>> {
        if !Pages::would_keep(length) {
            return Ok(None);
        }
        // Whatever fails here fails as well, and is said, where the message gets memory of its own.
        let Ok(pages) = self.in_place.pages_for(length) else { return Ok(None) };
        let mut taken = pages.take(length);
        if matches!(taken, Ok(None)) && timeout != Timeout::Try && !pages.was_in_vain() {
            let deadline = *deadline.get_or_insert_with(|| timeout.deadline());
            let until = deadline.min(Deadline::after(BRIEFLY_NS));
            while matches!(taken, Ok(None)) && !until.passed() {
                if pages.sleep(until) == Wait::Interrupted && self.interruptible {
                    return Err(Code::errno(libc::EINTR).into());
                }
                taken = pages.take(length);
            }
            if matches!(taken, Ok(None)) {
                pages.set_in_vain();
            }
        }
        if matches!(taken, Ok(None)) && self.are_with_receivers(&pages) {
            self.in_place.give_up(&pages);
            taken = self.in_place.pages_for(length).and_then(|pages| pages.take(length));
        }
        Ok(taken.ok().flatten())
    }

    fn wait_for_slot(&self, length: usize, timeout: Timeout) -> Result<Slot> {
        let socket = self.socket()?;
        let mut deadline = None;
        loop {
            let pages = self.in_place.pages_for(length)?;
            if let Some(slot) = pages.take(length)? {
                return Ok(slot);
            }
            if socket::hang_up(socket) == Some(true) {
                return Err(gone());
            }
            if self.are_with_receivers(&pages) {
                self.in_place.give_up(&pages);
                continue;
            }
            if timeout == Timeout::Try {
                return Err(Code::errno(libc::EAGAIN).into());
            }
            let deadline = *deadline.get_or_insert_with(|| timeout.deadline());
            if deadline.passed() {
                return Err(Code::errno(libc::ETIMEDOUT).into());
            }
            let woken = pages.sleep(deadline.min(Deadline::after(LOOK_NS)));
            if woken == Wait::Interrupted && self.interruptible {
                return Err(Code::errno(libc::EINTR).into());
            }
        }
    }

    /// Whether all slots are with receivers, which have taken the packets and may be dead: none is on its way, or written by another thread
    /// here.
    fn are_with_receivers(&self, pages: &Pages) -> bool {
        pages.are_all_sent() && socket::all_received(self.socket.number()) == Some(true)
    }

    /// Sends the message that was reserved. Where it fails, the message is still reserved, unless the other end is gone.
    pub fn commit(&self, length: usize, timeout: Timeout) -> Result<()> {
        self.socket()?;
        let (reserved, call) = Call::to_give(&self.in_place.reserved, NOT_RESERVED)?;
        if length > reserved.length {
            let text = format!("{length} bytes of a message for which {} are reserved", reserved.length);
            call.leave(reserved);
            return Err(Error::errno(libc::EMSGSIZE, text));
        }
        let sent = match &reserved.room {
            Room::Own(memory) => self.send(memory.message(length), timeout),
            Room::Slot(slot) => self.send_slot(slot, length, timeout, &mut None),
        };
        match sent {
            Ok(()) => {
                if let Room::Slot(slot) = reserved.room {
                    slot.sent();
                }
                Ok(())
            }
            Err(error) => {
                if error.code() != Code::errno(libc::EPIPE) {
                    call.leave(reserved);
                }
                Err(error)
            }
        }
    }

    /// Sends what was written into a slot, which is the receiver's afterwards.
    pub(super) fn send_slot(
        &self,
        slot: &Slot,
        length: usize,
        timeout: Timeout,
        deadline: &mut Option<Deadline>,
    ) -> Result<()> {
        let header = Header { kind: PacketKind::Placed, length };
        self.put(header, &slot.place().encode(), Some(slot.fd()?), timeout, deadline)
    }

    /// Gives up the message that was reserved.
    pub fn abandon(&self) -> Result<()> {
        self.socket()?;
        Call::to_give(&self.in_place.reserved, NOT_RESERVED).map(drop)
    }

    /// Receives a message to be read in place: where it is, a multiple of 16, and how long. It stays there until `release`.
    pub fn peek(&self, timeout: Timeout) -> Result<(NonNull<u8>, usize)> {
        self.socket()?;
        let call =
            Call::to_get(&self.in_place.looked_at, "a message is looked at through this handle already")?;
        let mut deadline = None;
        loop {
            let (first, seen) = self.first(timeout, &mut deadline)?;
            let length = first.length;
            let held = match first.content {
                Content::Descriptor(_) => return Err(no_message()),
                Content::Short => {
                    let mut memory = OwnMemory::new(length)?;
                    self.take(seen, memory.room())?.then_some(LookedAt::Own(memory))
                }
                Content::Long(fd) => {
                    // The length is the sender's word, so it is checked before room is made for it.
                    let read = long::check(&fd, length).and_then(|()| {
                        let mut memory = OwnMemory::new(length)?;
                        long::read(&fd, memory.room()).map(|()| memory)
                    });
                    self.take_if_read(seen, read, &mut [])?.map(LookedAt::Own)
                }
                Content::Placed(fd, place) => {
                    let view = self.in_place.view_of(&fd, place, length, Extent::Whole);
                    let rest = &mut [MaybeUninit::uninit(); PLACE_BYTES];
                    self.take_if_read(seen, view, rest)?.map(|view| LookedAt::Placed(view, place))
                }
            };
            if let Some(mut held) = held {
                let pointer = held.pointer();
                call.leave(held);
                return Ok((pointer, length));
            }
        }
    }

    /// Lets go of the message that is looked at.
    pub fn release(&self) -> Result<()> {
        self.socket()?;
        let (_held, _call) =
            Call::to_give(&self.in_place.looked_at, "no message is looked at through this handle")?;
        Ok(())
    }
}

const NOT_RESERVED: &str = "no message is reserved through this handle";
