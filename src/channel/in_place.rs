//! Messages in place: written where they will be read, and read where they were written.
//!
//! Long ones lie in memory that both processes map ([`Region`]) and that is kept for further messages. Short ones lie in a block of
//! the process's own and travel in their packets, which costs less. What a thread has reserved, or looks at, is in a list of its handle
//! until the thread gives it back or the handle is closed: nobody waits for it.

use super::packet::{First, Header, PacketKind};
use super::region::{Region, Shared, Ticket, block};
use super::{Channel, SHORT_BYTES, gone, is_descriptor, long, not_ours};
use crate::error::{Code, Error, Result};
use crate::sys::clock::Timeout;
use crate::sys::reserve;
use crate::sys::socket::{self, Ready, Room};
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A sender keeps so many regions that are free or on their way, and none that is longer. A receiver keeps as many mapped.
const KEPT: usize = 8;
const KEPT_BYTES: usize = 16 << 20;

/// What a handle has of messages in place. The lock is held for no call that waits.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<Lists>);

#[derive(Debug, Default)]
struct Lists {
    kept: Vec<Region>,
    mapped: Vec<Arc<Shared>>,
    reserved: Vec<Reserved>,
    peeked: Vec<Peeked>,
}

#[derive(Debug)]
struct Reserved {
    thread: u64,
    length: usize,
    timeout: Timeout,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Own(Vec<u128>),
    Shared(Region),
}

#[derive(Debug)]
struct Peeked {
    thread: u64,
    message: Message,
}

#[derive(Debug)]
enum Message {
    Own(Vec<u128>),
    Shared(InRegion),
}

/// A message that lies in the other end's memory.
#[derive(Debug)]
pub(super) struct InRegion {
    memory: Arc<Shared>,
    turn: u64,
    length: usize,
}

impl InRegion {
    pub(super) fn copy_to(&self, room: &mut [MaybeUninit<u8>]) {
        let length = self.length.min(room.len());
        // SAFETY: the memory has room for a message of `length` bytes: `Channel::map` has seen to that. `room` is this process's own.
        // A sender that lies may write meanwhile, and then the bytes are any.
        unsafe {
            room.as_mut_ptr().cast::<u8>().copy_from_nonoverlapping(self.memory.message().as_ptr(), length)
        };
    }

    pub(super) fn release(self) {
        if self.turn != 0 {
            self.memory.release(self.turn);
        }
    }
}

impl Place {
    fn message(&mut self) -> NonNull<u8> {
        match self {
            Place::Own(block) => start_of(block),
            Place::Shared(region) => region.message(),
        }
    }
}

fn start_of(block: &mut Vec<u128>) -> NonNull<u8> {
    // A vector without elements has an aligned pointer, too.
    // SAFETY: a vector's pointer is never null.
    unsafe { NonNull::new_unchecked(block.as_mut_ptr().cast()) }
}

/// The calling thread's own number, which no later thread gets.
fn this_thread() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local! { static NUMBER: Cell<u64> = const { Cell::new(0) } }
    NUMBER.with(|number| {
        if number.get() == 0 {
            // Relaxed: each is given out once.
            number.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    })
}

impl Lists {
    fn keep(&mut self, region: Region) {
        if self.kept.len() < KEPT && region.room() <= KEPT_BYTES && reserve::grow(&mut self.kept, 1).is_ok() {
            self.kept.push(region);
        }
    }

    fn reserved_by(&mut self, thread: u64) -> Result<usize> {
        let index = self.reserved.iter().position(|reserved| reserved.thread == thread);
        index.ok_or_else(|| Error::errno(libc::EPERM, "the thread has reserved no message of this end"))
    }
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, Lists> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the memory is mapped already, so that its descriptor is not needed.
    pub(super) fn knows(&self, ticket: Ticket) -> bool {
        self.lock().mapped.iter().any(|shared| shared.name == ticket.name)
    }
}

impl Channel {
    /// Room for a message of up to `length` bytes, to be written in place; `commit` or `abandon` must follow, in the same thread.
    /// Waits for room in the channel, and does not take it.
    pub fn reserve(&self, length: usize, timeout: Timeout) -> Result<NonNull<u8>> {
        let (socket, thread) = (self.socket()?, this_thread());
        if length > isize::MAX as usize / 2 {
            return Err(Error::errno(libc::ENOMEM, format!("a message of {length} bytes")));
        }
        reserve::suffices()?;
        if self.places.lock().reserved_by(thread).is_ok() {
            return Err(Error::errno(libc::EDEADLK, "the thread has reserved a message of this end already"));
        }
        let mut deadline = None;
        loop {
            match socket::room(socket) {
                Room::Some => break,
                Room::None => self.wait(Ready::ToWrite, timeout, &mut deadline)?,
                Room::Gone => return Err(gone()),
            }
        }
        let mut place = if length <= SHORT_BYTES { Place::Own(block(length)?) } else { self.region(length)? };
        let message = place.message();
        let mut lists = self.places.lock();
        reserve::grow(&mut lists.reserved, 1)?;
        lists.reserved.push(Reserved { thread, length, timeout, place });
        Ok(message)
    }

    /// A region that is kept and free, or a new one.
    fn region(&self, length: usize) -> Result<Place> {
        let fits = |region: &Region| region.room() >= length && region.is_free();
        let mut lists = self.places.lock();
        if let Some(index) = lists.kept.iter().position(fits) {
            return Ok(Place::Shared(lists.kept.remove(index)));
        }
        // Those that were too short are in the way of longer ones.
        if lists.kept.len() >= KEPT
            && let Some(index) = lists.kept.iter().position(Region::is_free)
        {
            lists.kept.remove(index);
        }
        drop(lists);
        Ok(Place::Shared(Region::new(length)?))
    }

    /// How long the thread's `reserve` was allowed to wait.
    pub fn reserved_timeout(&self) -> Result<Timeout> {
        self.socket()?;
        let mut lists = self.places.lock();
        let index = lists.reserved_by(this_thread())?;
        Ok(lists.reserved[index].timeout)
    }

    /// Sends what the thread has reserved, or its first `length` bytes. After an error it is still reserved, unless the other end
    /// is gone.
    pub fn commit(&self, length: usize, timeout: Timeout) -> Result<()> {
        self.socket()?;
        let thread = this_thread();
        let mut lists = self.places.lock();
        let index = lists.reserved_by(thread)?;
        let again = lists.kept.len() < KEPT;
        let reserved = &mut lists.reserved[index];
        if length > reserved.length {
            let text = format!("a message of {length} bytes; {} were reserved", reserved.length);
            return Err(Error::errno(libc::EMSGSIZE, text));
        }
        let message = reserved.place.message();
        let by_region = match &reserved.place {
            Place::Shared(region) if length > SHORT_BYTES => {
                Some(region.ticket(again && region.room() <= KEPT_BYTES)?)
            }
            _ => None,
        };
        // The entry is this thread's, which does not take it out meanwhile.
        drop(lists);
        let sent = match by_region {
            Some((ticket, fd)) => {
                let header = Header { kind: PacketKind::InPlace, length };
                self.put(header, &ticket.encode(), Some(fd), timeout)
            }
            // SAFETY: so many bytes were reserved at the place, which stays as it is: no list that it is in moves what it points to.
            // They were zero at first or are what somebody has written.
            None => self.send(unsafe { std::slice::from_raw_parts(message.as_ptr(), length) }, timeout),
        };
        if sent.as_ref().is_err_and(|error| error.code().0 != -libc::EPIPE) {
            return sent;
        }
        let mut lists = self.places.lock();
        let index = lists.reserved_by(thread)?;
        match (lists.reserved.swap_remove(index).place, by_region) {
            (Place::Own(_), _) => (),
            (Place::Shared(region), None) => lists.keep(region),
            (Place::Shared(mut region), Some((ticket, _))) => {
                if ticket.turn != 0 && sent.is_ok() {
                    region.count_turn();
                    lists.keep(region);
                }
            }
        }
        sent
    }

    /// Gives up what the thread has reserved.
    pub fn abandon(&self) -> Result<()> {
        self.socket()?;
        let mut lists = self.places.lock();
        let index = lists.reserved_by(this_thread())?;
        if let Place::Shared(region) = lists.reserved.swap_remove(index).place {
            lists.keep(region);
        }
        Ok(())
    }

    /// Takes the next message, to be read in place until `release`, in the same thread.
    pub fn peek(&self, timeout: Timeout) -> Result<(NonNull<u8>, usize)> {
        self.socket()?;
        let thread = this_thread();
        reserve::suffices()?;
        if self.places.lock().peeked.iter().any(|peeked| peeked.thread == thread) {
            return Err(Error::errno(libc::EDEADLK, "the thread looks at a message of this end in place"));
        }
        let mut deadline = None;
        loop {
            let mut first = self.first(timeout, &mut deadline)?;
            let (length, fd) = (first.header.length, first.fd.take());
            let (mut message, taken) = match first.header.kind {
                PacketKind::Descriptor => return Err(is_descriptor()),
                PacketKind::InPlace => match self.map(&first, fd) {
                    Ok(None) => continue,
                    Ok(Some(message)) => (Message::Shared(message), self.drop_first(first.seen)?),
                    Err(error) => match self.unreadable(&first, error)? {
                        Some(error) => return Err(error),
                        None => continue,
                    },
                },
                PacketKind::Short | PacketKind::Long => {
                    let mut block = block(length)?;
                    // SAFETY: the block has room for `length` bytes, and nobody else has it.
                    let room = unsafe {
                        std::slice::from_raw_parts_mut(start_of(&mut block).as_ptr().cast(), length)
                    };
                    let taken = match fd {
                        None => self.take(&first, room)?,
                        Some(fd) => match long::read(fd, room) {
                            Ok(()) => self.drop_first(first.seen)?,
                            Err(error) => match self.unreadable(&first, error)? {
                                Some(error) => return Err(error),
                                None => continue,
                            },
                        },
                    };
                    (Message::Own(block), taken)
                }
            };
            if taken {
                let place = match &mut message {
                    Message::Own(block) => start_of(block),
                    Message::Shared(message) => message.memory.message(),
                };
                self.places.lock().peeked.push(Peeked { thread, message });
                return Ok((place, length));
            }
        }
    }

    /// Gives back the message that the thread has looked at in place.
    pub fn release(&self) -> Result<()> {
        self.socket()?;
        let thread = this_thread();
        let mut lists = self.places.lock();
        let index = lists.peeked.iter().position(|peeked| peeked.thread == thread);
        let index =
            index.ok_or_else(|| Error::errno(libc::EPERM, "the thread looks at no message of this end"))?;
        let peeked = lists.peeked.swap_remove(index);
        drop(lists);
        if let Message::Shared(message) = peeked.message {
            message.release();
        }
        Ok(())
    }

    /// The memory of a message that came first; `None` where the look has to be made again.
    pub(super) fn map(&self, first: &First, fd: Option<OwnedFd>) -> Result<Option<InRegion>> {
        let (ticket, length) = (Ticket::decode(&first.bytes), first.header.length);
        let mut lists = self.places.lock();
        let index = lists.mapped.iter().position(|shared| shared.name == ticket.name);
        let memory = match (index, fd) {
            (Some(index), _) if lists.mapped[index].room() < length => return Err(not_ours()),
            (Some(index), _) => lists.mapped[index].clone(),
            // Another thread has given it up since the look.
            (None, None) => return Ok(None),
            (None, Some(fd)) => {
                drop(lists);
                let memory = Arc::new(Shared::receive(&fd, ticket.name, length)?);
                lists = self.places.lock();
                if ticket.turn != 0 && reserve::grow(&mut lists.mapped, 1).is_ok() {
                    if lists.mapped.len() >= KEPT {
                        lists.mapped.remove(0);
                    }
                    lists.mapped.push(memory.clone());
                }
                memory
            }
        };
        Ok(Some(InRegion { memory, turn: ticket.turn, length }))
    }

    /// What to say of a message that cannot be read: it stays, unless tine has not sent it. `None`: another thread has taken it.
    pub(super) fn unreadable(&self, first: &First, error: Error) -> Result<Option<Error>> {
        let stays = error.code() != Code::errno(libc::EBADMSG);
        Ok((stays || self.drop_first(first.seen)?).then_some(error))
    }
}
