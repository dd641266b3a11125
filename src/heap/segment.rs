//! A segment: shared memory of its own, for pools and for processes that have nothing else in common.
//!
//! ```text
//!   memfd, reserved and sealed:  | header page | the user's bytes ............. |
//! ```
//!
//! The header is written once, by the process that creates the segment, before anybody else can have the descriptor.
//! Whoever attaches reads it with one call into private memory, checks it there, and never looks at it again: what
//! other processes write into it later changes nothing. No process can shrink the memory, so that no access to it can
//! fail; a descriptor that could be shrunk is refused before anything is mapped.

use crate::error::{Code, Error, Result};
use crate::sys::fd::Guarded;
use crate::sys::memory::{self, Access, Mapping};
use crate::sys::socket::{self, Peeked, Ready, Sent, Waited};
use crate::sys::{fork, limits, owner, reserve, robust};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

const MAGIC: u64 = u64::from_ne_bytes(*b"tine/seg");
/// Changed with the layout of anything that processes share in a segment: its header, locks, heaps, queues.
const VERSION: u64 = 2;
const HEADER_WORDS: usize = 6;

/// The bytes in front of the user's.
pub(crate) const HEADER_BYTES: usize = 4096;

/// What a message with a segment's descriptor says.
const ANNOUNCEMENT: &[u8; 8] = b"tine/seg";

/// Where segments are put: far from where the kernel, the loader, sanitizers and the heaps of pools are.
#[cfg(target_arch = "x86_64")]
const ADDRESSES: (usize, usize) = (0x7000_0000_0000, 0x7800_0000_0000);
/// The same for 48-bit aarch64. Smaller address spaces take the kernel's choice.
#[cfg(target_arch = "aarch64")]
const ADDRESSES: (usize, usize) = (0xa000_0000_0000, 0xc000_0000_0000);

/// What a segment can be told; all false is the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct SegmentOptions {
    /// Only the process that creates it can write.
    pub read_only_for_others: bool,
    /// Huge pages where there are any.
    pub huge_pages: bool,
    /// Wherever there is room, instead of at the same address in all processes.
    pub any_address: bool,
    /// All pages are mapped at once, and not with the first touch of each.
    pub populate: bool,
}

/// Shared memory of its own. Dropping it unmaps it in this process.
#[derive(Debug)]
pub struct Segment {
    fd: Guarded,
    mapping: Mapping,
    size: usize,
    writable: bool,
    /// Whether processes that map it later may write. The seals that say so cannot change.
    writable_for_others: bool,
    /// Its address in every process; 0: it has none. As it was when the segment was opened: nobody needs to ask again.
    home: usize,
}

impl Segment {
    /// New memory of `size` bytes, all zero.
    pub fn create(size: usize, options: &SegmentOptions) -> Result<Segment> {
        if size == 0 {
            return Err(Error::invalid("size is 0; a segment has at least one byte"));
        }
        reserve::suffices()?;
        let too_long =
            || Error::errno(libc::ENOMEM, format!("size is {size}, more than an address space has"));
        let length =
            size.checked_add(HEADER_BYTES).and_then(|all| all.checked_next_multiple_of(memory::page_size()));
        let length = length.filter(|length| *length <= isize::MAX as usize).ok_or_else(too_long)?;
        // Before all that memory is taken, for nothing.
        Mapping::probe(length)?;
        let (fd, length) = reserve(length, options.huge_pages)?;
        let mapping = place(&fd, length, options)?;
        if options.huge_pages {
            mapping.prefer_huge_pages();
        }
        let address = if options.any_address { 0 } else { mapping.address() as u64 };
        let namespace = owner::namespace();
        if namespace == owner::UNKNOWN_NAMESPACE {
            let text =
                "this process can't tell its PID namespace, by which others would know the segment's locks";
            return Err(Error::errno(libc::EXDEV, text));
        }
        let header = [MAGIC, VERSION, layout(), u64::from(namespace), size as u64, address];
        // SAFETY: the mapping is new, writable and longer than the header.
        unsafe { mapping.pointer().cast::<[u64; HEADER_WORDS]>().write(header) };
        // Sealing against later writable mappings comes after this process's own.
        memory::fix(fd.as_raw_fd(), options.read_only_for_others)?;
        let writable_for_others = !options.read_only_for_others;
        let (fd, home) = (Guarded::new(fd), address as usize);
        Ok(Segment { fd, mapping, size, writable: true, writable_for_others, home })
    }

    /// The segment behind a descriptor, which stays the caller's.
    pub fn attach(fd: RawFd, options: &SegmentOptions) -> Result<Segment> {
        Segment::from_fd(crate::sys::fd::duplicate(fd)?, options)
    }

    fn from_fd(fd: OwnedFd, options: &SegmentOptions) -> Result<Segment> {
        reserve::suffices()?;
        let seals = memory::seals(fd.as_raw_fd())?;
        if !seals.cannot_shrink {
            return Err(Error::errno(libc::EPERM, "the memory is not sealed: its owner could shrink it"));
        }
        let length = memory::length_of(fd.as_raw_fd())?;
        let no_segment = || Error::invalid("the descriptor is not a segment of tine's");
        let mut bytes = [0; HEADER_WORDS * 8];
        if !memory::read_first(fd.as_raw_fd(), &mut bytes)? {
            return Err(no_segment());
        }
        let mut words =
            bytes.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap_or_default()));
        let mut word = || words.next().unwrap_or(0);
        let (magic, version, tag, namespace) = (word(), word(), word(), word());
        let (size, address) = (word() as usize, word() as usize);
        if magic != MAGIC {
            return Err(no_segment());
        }
        if version != VERSION || tag != layout() {
            let text =
                format!("a segment of version {version}, locks {tag:#x}; here {VERSION}, {:#x}", layout());
            return Err(Error::new(Code::VERSION, text));
        }
        if namespace != u64::from(owner::namespace()) {
            let text =
                "the segment was made in another PID namespace, where its locks would name other threads";
            return Err(Error::errno(libc::EXDEV, text));
        }
        if size == 0
            || size > length.saturating_sub(HEADER_BYTES)
            || !address.is_multiple_of(memory::page_size())
        {
            return Err(no_segment());
        }
        let access = Access { write: !seals.read_only, populate: options.populate };
        let mapping = match options.any_address || address == 0 {
            true => Mapping::shared_with(fd.as_raw_fd(), None, length, access)?,
            false => Mapping::shared_with(fd.as_raw_fd(), Some(address), length, access)?,
        };
        let (fd, writable) = (Guarded::new(fd), access.write);
        Ok(Segment { fd, mapping, size, writable, writable_for_others: writable, home: address })
    }

    /// Passes the segment to the process at the other end of a unix socket.
    pub fn send(&self, socket: RawFd) -> Result<()> {
        match socket::send(socket, ANNOUNCEMENT, &[self.descriptor()?])? {
            Sent::Done => Ok(()),
            Sent::Full => Err(Code::errno(libc::EAGAIN).into()),
            Sent::Gone => Err(Code::errno(libc::EPIPE).into()),
        }
    }

    /// Takes a segment that another process has sent, and waits for one where the socket does. One that this process
    /// cannot have now, for want of a descriptor, of memory or of its address, stays in the socket; what nobody can have
    /// is thrown away.
    pub fn receive(socket: RawFd, options: &SegmentOptions) -> Result<Segment> {
        let mut deadline = None;
        loop {
            // Without the turn, in which another thread may be mapping something large.
            if !socket::has_message(socket)? {
                // All that wait are told: one that is told alone may go without taking what the next one waits for.
                let again = || Error::from(Code::errno(libc::EAGAIN));
                let deadline = *deadline.get_or_insert_with(|| socket::receive_deadline(socket));
                match socket::wait(socket, Ready::ToRead, deadline.ok_or_else(again)?) {
                    Waited::TimedOut => return Err(again()),
                    Waited::Ready | Waited::Interrupted => continue,
                }
            }
            // Between look and taking no other thread may take: then this one would throw away what it has not seen.
            let _turn = turn();
            let mut buffer = [0; ANNOUNCEMENT.len()];
            let Peeked::Message { length, fds, fds_lost } = socket::peek(socket, &mut buffer, false)? else {
                continue;
            };
            if length == 0 && fds.is_empty() && !fds_lost && socket::is_hung_up(socket) {
                return Err(Code::errno(libc::EPIPE).into());
            }
            let received = Segment::of_message(&buffer, length, fds, fds_lost, options);
            let stays = received.as_ref().is_err_and(|error| may_go_well_later(error.code()));
            if stays || socket::take(socket, &mut buffer, &mut [])?.is_some() {
                return received;
            }
        }
    }

    /// The segment of a message, which is still in the socket.
    fn of_message(
        bytes: &[u8; ANNOUNCEMENT.len()],
        length: usize,
        fds: Vec<OwnedFd>,
        fds_lost: bool,
        options: &SegmentOptions,
    ) -> Result<Segment> {
        let is_ours = bytes.get(..length) == Some(ANNOUNCEMENT);
        if is_ours && fds.is_empty() && fds_lost {
            return Err(Error::errno(libc::EMFILE, "no descriptor is free for the segment's"));
        }
        match <[OwnedFd; 1]>::try_from(fds) {
            Ok([fd]) if is_ours => {
                let segment = Segment::from_fd(crate::sys::fd::above_standard(fd, "recvmsg")?, options);
                // A descriptor that cannot be read, or not be mapped, was opened by the sender like that.
                segment.map_err(|error| match -error.code().0 {
                    libc::EBADF | libc::EACCES => Error::errno(libc::EPROTO, error.text().into_owned()),
                    _ => error,
                })
            }
            _ => Err(Error::errno(libc::EPROTO, "the message on the socket is not a segment")),
        }
    }

    /// Where the user's bytes begin.
    pub fn address(&self) -> usize {
        self.mapping.address() + HEADER_BYTES
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Where the mapping begins, and how long it is: a page more than the user's bytes.
    pub(crate) fn mapped(&self) -> (usize, usize) {
        (self.mapping.address(), self.mapping.length())
    }

    /// Whether this process has it mapped for writing.
    pub(crate) fn is_writable(&self) -> bool {
        self.writable
    }

    /// Whether processes that map it later may write.
    pub(crate) fn is_writable_for_others(&self) -> bool {
        self.writable_for_others
    }

    /// The memory's descriptor. `EBADF` where the program has closed it.
    pub fn descriptor(&self) -> Result<RawFd> {
        self.fd.checked("the segment")
    }

    /// Another one of one's own.
    pub(crate) fn duplicate(&self) -> Result<OwnedFd> {
        crate::sys::fd::duplicate(self.descriptor()?)
    }

    /// Whether the address is the one that the segment has in every process.
    pub(crate) fn is_at_home(&self) -> bool {
        self.home == self.mapping.address()
    }

    /// Whether a thread of this process is known to hold a lock in it, or to wait for one.
    pub fn is_locked(&self) -> Result<bool> {
        robust::held_within(self.mapping.address(), self.mapping.length(), &[])
    }
}

/// The lock of one process's receivers. A forked child has its own: who held its parent's may not be there.
struct Turn {
    pid: i32,
    lock: Mutex<()>,
}

/// This process's turn; leaked, one for each process that receives segments.
fn turn() -> MutexGuard<'static, ()> {
    /// Null before the first. Release and Acquire: who sees the pointer sees the lock.
    static TURN: AtomicPtr<Turn> = AtomicPtr::new(std::ptr::null_mut());
    let pid = fork::pid();
    loop {
        let current = TURN.load(Ordering::Acquire);
        // SAFETY: null, or a turn that was leaked, so it stays as long as the process.
        if let Some(turn) = unsafe { current.as_ref() }.filter(|turn| turn.pid == pid) {
            return turn.lock.lock().unwrap_or_else(PoisonError::into_inner);
        }
        let new = Box::into_raw(Box::new(Turn { pid, lock: Mutex::new(()) }));
        if TURN.compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: made above, and nobody else has seen it.
            drop(unsafe { Box::from_raw(new) });
        }
    }
}

/// Whether a segment that was refused with this code may be had at another time, or at another address: it is no fault of
/// the segment's. Whatever else a descriptor can be refused with would come again each time, and nothing behind it be reached.
fn may_go_well_later(code: Code) -> bool {
    [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EAGAIN, libc::EEXIST].contains(&-code.0)
}

/// A memfd of that many bytes at least: of huge pages if that is wished and there are enough. Those are set aside, and are no part of
/// what the machine and the memory cgroups have left, but for those that an administrator lets be made on demand (nr_overcommit_hugepages).
fn reserve(length: usize, huge: bool) -> Result<(OwnedFd, usize)> {
    if huge && let Ok((fd, page)) = memory::huge_memfd(c"tine-segment") {
        let length = length.next_multiple_of(page);
        if memory::reserve(fd.as_raw_fd(), 0, length).is_ok() {
            return Ok((fd, length));
        }
    }
    // The kernel answers a cgroup's limit by killing, so what is left is looked at before.
    const SPARE: u64 = 8 << 20;
    if length as u64 > limits::available_memory()?.saturating_sub(SPARE) {
        let text = format!("the segment needs {length} bytes, more memory than is available");
        return Err(Error::errno(libc::ENOMEM, text));
    }
    let fd = memory::memfd(c"tine-segment")?;
    memory::reserve(fd.as_raw_fd(), 0, length)?;
    Ok((fd, length))
}

/// A place that is most likely free in every process: at random, so that the segments of several processes are apart.
fn place(fd: &OwnedFd, length: usize, options: &SegmentOptions) -> Result<Mapping> {
    let access = Access { write: true, populate: options.populate };
    let (low, high) = ADDRESSES;
    let step = length.next_multiple_of(1 << 30);
    if !options.any_address && step < high - low {
        let mut random =
            crate::sys::clock::now_ns() ^ (u64::from(owner::getpid()) << 40) ^ fd.as_raw_fd() as u64;
        for _ in 0..64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = low + ((random >> 20) as usize % (high - low - step)) / (1 << 30) * (1 << 30);
            match Mapping::shared_with(fd.as_raw_fd(), Some(at), length, access) {
                Ok(mapping) => return Ok(mapping),
                Err(error) if error.code().0 == -libc::EEXIST => (),
                // A small address space has no such place.
                Err(_) => break,
            }
        }
    }
    Mapping::shared_with(fd.as_raw_fd(), None, length, access)
}

/// What the processes that share locks have to agree on: where the C library's robust list has its entries, and how
/// long the locks are.
fn layout() -> u64 {
    /// Moves when the same bytes come to mean something else. 2: the holder's cookie stands beside its number. 3: a barrier's seats
    /// say how their meeting ended, a condition's book has two words.
    const LOCKS: u64 = 3;
    let locks = LOCKS << 8 | size_of::<crate::sync::Mutex>() as u64;
    (robust::ENTRY as u64) << 32 | (size_of::<usize>() as u64) << 16 | locks
}
