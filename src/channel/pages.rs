//! The memory that a sender keeps, and hands over to the receiver message by message.
//!
//! A memfd: one page of words, then slots. The sender finds a free slot, writes a message there, and sends a packet that says
//! where it is, with the memfd's descriptor beside it. The receiver maps the memory once, and frees the slot when it has read.
//! docs/design/channels.md ("Messages in place") has the states of a slot, who writes which word, and what a death leaves.

use super::long;
use super::packet::{Place, not_ours};
use crate::error::{Code, Error, Result};
use crate::sys::clock::Deadline;
use crate::sys::fd::Guarded;
use crate::sys::memory::{self, Access, FileId, Mapping, page_size};
use crate::sys::prim::{AtomicBool, AtomicU32, Ordering, Wait, futex_wait, futex_wake};
use crate::sys::{fork, limits, reserve};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(super) const MOST_SLOTS: usize = 4;

/// Pages of more than this are not kept.
const MOST_KEPT_BYTES: usize = 64 << 20;

/// The first page. The other process may write anything: a word means what the table in docs/design/channels.md says, and no index
/// or length is read from here.
#[repr(C)]
struct Words {
    /// Of each slot: 0, free; else it is being written, on its way, or being read.
    taken: [AtomicU32; MOST_SLOTS],
    /// What a sender sleeps on that found no slot free.
    released: AtomicU32,
    /// Whether one does, or is about to.
    sleeps: AtomicU32,
}

impl Words {
    /// Frees a slot, and wakes the senders that wait for one. SeqCst, paired with `Pages::sleep`: either the sender sees the slot
    /// free, or this sees that the sender sleeps. As a Release it pairs with the Acquire of `Pages::take`.
    fn free(&self, slot: usize) {
        self.taken[slot].store(0, Ordering::SeqCst);
        self.wake();
    }

    fn wake(&self) {
        if self.sleeps.load(Ordering::SeqCst) != 0 {
            self.sleeps.store(0, Ordering::SeqCst);
            self.released.fetch_add(1, Ordering::SeqCst);
            futex_wake(&self.released, u32::MAX);
        }
    }
}

fn words(mapping: &Mapping) -> &Words {
    // SAFETY: a mapping of at least a page, of memory that cannot shrink; every content of atomics is valid.
    unsafe { &*mapping.pointer().cast::<Words>() }
}

/// The sender's.
#[derive(Debug)]
pub(super) struct Pages {
    fd: Guarded,
    mapping: Mapping,
    slot_bytes: usize,
    slots: usize,
    pid: i32,
    books: Mutex<[Book; MOST_SLOTS]>,
    /// See `was_in_vain`. Relaxed: a hint.
    in_vain: AtomicBool,
}

/// What the sender knows of a slot, which the other process cannot write.
#[derive(Clone, Copy, Debug, Default)]
struct Book {
    /// A thread here writes into it.
    ours: bool,
    /// So many bytes of it have memory.
    reserved: usize,
}

impl Pages {
    /// Pages for messages of up to so many bytes. Where several slots are too much, by a limit on files or on address space, there is one.
    pub(super) fn new(length: usize) -> Result<Arc<Pages>> {
        if Pages::would_keep(length) {
            let slot_bytes = length.next_power_of_two();
            let slots = (MOST_KEPT_BYTES / slot_bytes).min(MOST_SLOTS);
            match Pages::make(slot_bytes, slots) {
                Err(error) if error.code() == Code::errno(libc::ENOMEM) => (),
                made => return made,
            }
        }
        Pages::make(length, 1)
    }

    /// Whether pages for messages of so many bytes are for more than one.
    pub(super) fn would_keep(length: usize) -> bool {
        length <= MOST_KEPT_BYTES / 2
    }

    fn make(slot_bytes: usize, slots: usize) -> Result<Arc<Pages>> {
        let too_long =
            || Error::errno(libc::ENOMEM, format!("{slots} messages of {slot_bytes} bytes are too long"));
        let page = page_size();
        let slot_bytes = slot_bytes.checked_next_multiple_of(page).ok_or_else(too_long)?;
        let end = slot_bytes.checked_mul(slots).and_then(|all| all.checked_add(page));
        let end = end.filter(|end| *end < isize::MAX as usize - page).ok_or_else(too_long)?;
        reserve::suffices()?;
        let fd = long::memfd(c"tine-pages")?;
        // The last page makes it as long as it will ever be, without a signal where that is longer than a file may be.
        memory::reserve(fd.as_raw_fd(), end, page)?;
        memory::reserve(fd.as_raw_fd(), 0, page)?;
        memory::fix(fd.as_raw_fd(), false)?;
        let access = Access { write: true, populate: false };
        let mapping = Mapping::shared_with(fd.as_raw_fd(), None, end, access)?;
        let books = Mutex::new([Book::default(); MOST_SLOTS]);
        let in_vain = AtomicBool::new(false);
        Ok(Arc::new(Pages {
            fd: Guarded::new(fd),
            mapping,
            slot_bytes,
            slots,
            pid: fork::pid(),
            books,
            in_vain,
        }))
    }

    fn books(&self) -> MutexGuard<'_, [Book; MOST_SLOTS]> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn words(&self) -> &Words {
        words(&self.mapping)
    }

    pub(super) fn has_room_for(&self, length: usize) -> bool {
        length <= self.slot_bytes
    }

    /// Whether they can still be sent: the program may have closed the descriptor.
    pub(super) fn can_be_sent(&self) -> bool {
        self.fd.is_ours()
    }

    /// Whether they are for more than one message.
    pub(super) fn are_kept(&self) -> bool {
        self.slots > 1
    }

    /// A slot with memory for so many bytes, which fit; `None` where none is free.
    pub(super) fn take(self: &Arc<Pages>, length: usize) -> Result<Option<Slot>> {
        let Some((index, reserved)) = self.claim() else { return Ok(None) };
        let length = length.next_multiple_of(page_size());
        let is_new = reserved < length;
        let slot = Slot { pages: Arc::clone(self), index, is_new, is_sent: false };
        // Outside the lock: it can take long, and others may not wait as long. Where it fails, the slot is free again.
        if is_new {
            long::ask_for((length - reserved) as u64)?;
            let (fd, from) = (self.fd.checked("the channel's memory")?, self.offset(index));
            memory::reserve(fd, from, length).inspect_err(|_| {
                // It is reserved piece by piece. Where memory is short, the first ones are not kept; if that fails, they are there
                // for the next message.
                let _ = memory::punch(fd, from + reserved, length - reserved);
            })?;
            self.books()[index].reserved = length;
        }
        Ok(Some(slot))
    }

    /// Makes a free slot this thread's; which one, and how much of it has memory.
    fn claim(&self) -> Option<(usize, usize)> {
        let mut books = self.books();
        let is_free =
            |slot: &usize| !books[*slot].ours && self.words().taken[*slot].load(Ordering::Acquire) == 0;
        let index = (0..self.slots).find(is_free)?;
        books[index].ours = true;
        self.in_vain.store(false, Ordering::Relaxed);
        // Relaxed: the packet tells the receiver.
        self.words().taken[index].store(1, Ordering::Relaxed);
        Some((index, books[index].reserved))
    }

    /// Whether all slots have been sent, and none has been freed.
    pub(super) fn are_all_sent(&self) -> bool {
        let is_sent = |(slot, book): (usize, &Book)| {
            !book.ours && self.words().taken[slot].load(Ordering::Relaxed) != 0
        };
        self.books()[..self.slots].iter().enumerate().all(is_sent)
    }

    /// Sleeps until a slot is free, or it is time to look round.
    pub(super) fn sleep(&self, until: Deadline) -> Wait {
        let words = self.words();
        let seen = words.released.load(Ordering::SeqCst);
        words.sleeps.store(1, Ordering::SeqCst);
        let is_free =
            |(slot, book): (usize, &Book)| !book.ours && words.taken[slot].load(Ordering::SeqCst) == 0;
        if self.books()[..self.slots].iter().enumerate().any(is_free) {
            return Wait::Changed;
        }
        futex_wait(&words.released, seen, until)
    }

    /// Whether a sender that can go on without a slot has waited for one in vain, and none has been free since.
    pub(super) fn was_in_vain(&self) -> bool {
        self.in_vain.load(Ordering::Relaxed)
    }

    pub(super) fn set_in_vain(&self) {
        self.in_vain.store(true, Ordering::Relaxed);
    }

    fn offset(&self, slot: usize) -> usize {
        page_size() + slot * self.slot_bytes
    }
}

/// A slot that this process writes into; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    pages: Arc<Pages>,
    index: usize,
    /// Not all of its memory has been touched here.
    is_new: bool,
    is_sent: bool,
}

impl Slot {
    pub(super) fn pointer(&self) -> NonNull<u8> {
        let offset = self.pages.offset(self.index);
        // SAFETY: the slot lies in the mapping.
        unsafe { NonNull::new_unchecked(self.pages.mapping.pointer().add(offset)) }
    }

    /// What the packet says of it.
    pub(super) fn place(&self) -> Place {
        Place { offset: self.pages.offset(self.index), slot: self.index, kept: self.pages.are_kept() }
    }

    pub(super) fn fd(&self) -> Result<RawFd> {
        self.pages.fd.checked("the channel's memory")
    }

    /// Writes a message there, which fits. The first one by a call, which costs less than to touch each page, unless that would be beyond a
    /// limit on file sizes: the kernel answers by a signal, although the file is as long already.
    pub(super) fn write(&self, message: &[u8]) -> Result<()> {
        assert!(self.pages.has_room_for(message.len()));
        let from = self.pages.offset(self.index);
        let end = (from + message.len()) as u64;
        if self.is_new && limits::file_size().is_none_or(|limit| end <= limit) {
            return memory::write_all_at(self.fd()?, from, message);
        }
        // SAFETY: the slot has room for so many bytes, and it is this thread's.
        unsafe { std::ptr::copy_nonoverlapping(message.as_ptr(), self.pointer().as_ptr(), message.len()) };
        Ok(())
    }

    /// The packet is on its way: now the slot is the receiver's to free.
    pub(super) fn sent(mut self) {
        self.is_sent = true;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // A forked child has copies of its parent's books, but the words are its parent's.
        if self.pages.pid != fork::pid() {
            return;
        }
        self.pages.books()[self.index].ours = false;
        if !self.is_sent {
            self.pages.words().free(self.index);
        } else if self.pages.words().taken[self.index].load(Ordering::Relaxed) == 0 {
            // The receiver was faster, and has told nobody who took the slot for one that is written.
            self.pages.words().wake();
        }
    }
}

/// The receiver's view of the other end's pages.
#[derive(Debug)]
pub(super) struct View {
    file: FileId,
    /// Of the file, which cannot change.
    length: usize,
    /// The words at least.
    mapping: Mapping,
    pid: i32,
}

/// How much of pages a view is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    Whole,
    /// For a message that is copied: all from the second one on, if there is address space. The first one may be the only one.
    WholeIfKnown,
}

impl View {
    /// Of the memory behind a descriptor: `known`, if that is it.
    pub(super) fn of(fd: &OwnedFd, known: Option<&Arc<View>>, extent: Extent) -> Result<Arc<View>> {
        let file = FileId::of(fd.as_raw_fd())?;
        let known = known.filter(|known| known.file == file);
        match known {
            Some(known) if known.is_whole() => Ok(Arc::clone(known)),
            Some(known) if extent == Extent::WholeIfKnown => {
                View::map(fd, file, true).or_else(|_| Ok(Arc::clone(known)))
            }
            _ => View::map(fd, file, extent == Extent::Whole),
        }
    }

    fn map(fd: &OwnedFd, file: FileId, whole: bool) -> Result<Arc<View>> {
        let sealed = memory::seals_of_pages(fd.as_raw_fd())?;
        if !sealed.is_some_and(|sealed| sealed.cannot_shrink && !sealed.read_only) {
            return Err(not_ours());
        }
        let length = memory::length_of(fd.as_raw_fd())?;
        if length <= page_size() || length > isize::MAX as usize {
            return Err(not_ours());
        }
        reserve::suffices()?;
        let access = Access { write: true, populate: false };
        let mapped = if whole { length } else { page_size() };
        let mapping = Mapping::shared_with(fd.as_raw_fd(), None, mapped, access);
        let mapping = mapping.map_err(|error| match -error.code().0 {
            libc::EACCES => not_ours(), // a descriptor for reading alone
            _ => error,
        })?;
        Ok(Arc::new(View { file, length, mapping, pid: fork::pid() }))
    }

    /// Whether a message can lie where its packet says.
    pub(super) fn has(&self, place: Place, length: usize) -> bool {
        let end = place.offset.checked_add(length);
        place.slot < MOST_SLOTS
            && place.offset >= page_size()
            && place.offset.is_multiple_of(page_size())
            && place.offset < self.length
            && end.is_some_and(|end| end <= self.length)
    }

    fn is_whole(&self) -> bool {
        self.mapping.length() == self.length
    }

    /// Copies a message for which `has` was true. Without a mapping by a call.
    pub(super) fn read(&self, fd: &OwnedFd, place: Place, room: &mut [MaybeUninit<u8>]) -> Result<()> {
        if self.is_whole() && self.has(place, room.len()) {
            let from = self.pointer(place);
            // SAFETY: the message lies in the mapping, and the room is ours.
            unsafe { std::ptr::copy_nonoverlapping(from.as_ptr().cast(), room.as_mut_ptr(), room.len()) };
            return Ok(());
        }
        long::read_at(fd, place.offset as u64, room)
    }

    /// Where a message is for which `has` was true; the view is a whole one.
    pub(super) fn pointer(&self, place: Place) -> NonNull<u8> {
        assert!(place.offset < self.mapping.length());
        // SAFETY: within the mapping, as has just been looked at.
        unsafe { NonNull::new_unchecked(self.mapping.pointer().add(place.offset)) }
    }

    /// Lets the sender have the slot again.
    pub(super) fn free(&self, place: Place) {
        // A forked child has a copy of the handle, but the message is its parent's.
        if self.pid == fork::pid() {
            words(&self.mapping).free(place.slot);
        }
    }

    /// Whether it may stay mapped for the next message: the sender can say that of any memory.
    pub(super) fn can_be_kept(&self) -> bool {
        self.length <= MOST_KEPT_BYTES + 2 * page_size()
    }
}
