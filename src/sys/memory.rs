//! Shared memory: memfds that cannot shrink, and mappings of them.

use crate::error::{Error, Result};
use crate::sys::thread::Uncancelled;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A memfd without a size yet: close-on-exec, sealable, not executable where the kernel can say so.
pub(crate) fn memfd(name: &CStr) -> Result<OwnedFd> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name is a C string.
    let create = |flags: libc::c_uint| unsafe { libc::syscall(libc::SYS_memfd_create, name.as_ptr(), flags) };
    let mut rc = create(flags | libc::MFD_NOEXEC_SEAL);
    if rc < 0 && super::errno() == libc::EINVAL {
        rc = create(flags); // Kernels before 6.3.
    }
    super::fd::owned(rc, "memfd_create")
}

/// A memfd of huge pages, and how long one of them is.
pub(crate) fn huge_memfd(name: &CStr) -> Result<(OwnedFd, usize)> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | libc::MFD_HUGETLB;
    // SAFETY: the name is a C string.
    let rc = unsafe { libc::syscall(libc::SYS_memfd_create, name.as_ptr(), flags) };
    let fd = super::fd::owned(rc, "memfd_create")?;
    // A file of huge pages says how long they are as its block size.
    let page = stat(fd.as_raw_fd())?.st_blksize as usize;
    Ok((fd, page.max(page_size())))
}

/// A memfd of `length` bytes whose pages are reserved and whose size nobody can change.
pub(crate) fn sealed_memfd(name: &CStr, length: usize) -> Result<OwnedFd> {
    let fd = memfd(name)?;
    reserve(fd.as_raw_fd(), 0, length)?;
    seal(fd, libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL)
}

/// Adds seals.
pub(crate) fn seal(fd: OwnedFd, seals: libc::c_int) -> Result<OwnedFd> {
    // SAFETY: a plain fcntl.
    match unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) } {
        0 => Ok(fd),
        _ => Err(Error::last_os("sealing shared memory")),
    }
}

/// Whether the memory behind the descriptor is sealed against shrinking.
pub(crate) fn cannot_shrink(fd: RawFd) -> bool {
    seals(fd).is_ok_and(|sealed| sealed.cannot_shrink)
}

/// The seals of the memory behind a descriptor: what no process can do with it any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sealed {
    /// Make it shorter.
    pub(crate) cannot_shrink: bool,
    /// Map it for writing.
    pub(crate) read_only: bool,
}

/// The seals of a descriptor; one of no memfd is `EINVAL`.
pub(crate) fn seals(fd: RawFd) -> Result<Sealed> {
    // SAFETY: a plain fcntl.
    let seals = unsafe { libc::fcntl(fd, libc::F_GET_SEALS) };
    if seals < 0 {
        return Err(Error::last_os("the descriptor is not shared memory"));
    }
    let read_only = seals & (libc::F_SEAL_FUTURE_WRITE | libc::F_SEAL_WRITE) != 0;
    Ok(Sealed { cannot_shrink: seals & libc::F_SEAL_SHRINK != 0, read_only })
}

/// The seals of memory of ordinary pages, as tine's own is; `None` where the descriptor is of anything else. A memfd of huge pages is a file of
/// another system, which can be short of them at any time, and wants them mapped and unmapped as a whole.
pub(crate) fn seals_of_pages(fd: RawFd) -> Result<Option<Sealed>> {
    match seals(fd) {
        Ok(sealed) => Ok(is_of_pages(fd)?.then_some(sealed)),
        Err(error) if matches!(-error.code().0, libc::EINVAL | libc::EBADF) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_of_pages(fd: RawFd) -> Result<bool> {
    // A file of huge pages says how long they are as its block size. So does a file of ordinary ones where the system prefers huge ones for
    // them; the file system tells these two apart.
    if stat(fd)?.st_blksize as usize <= page_size() {
        return Ok(true);
    }
    // SAFETY: all zero is a valid statfs.
    let mut system: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: `system` is a valid place.
    if unsafe { libc::fstatfs(fd, &mut system) } != 0 {
        return Err(Error::last_os("fstatfs"));
    }
    Ok(system.f_type as u64 == libc::TMPFS_MAGIC as u64)
}

/// Fixes the size of the memory for ever; with `read_only`, nobody can map it for writing from now on.
pub(crate) fn fix(fd: RawFd, read_only: bool) -> Result<()> {
    let fixed = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    let seals = if read_only { fixed | libc::F_SEAL_FUTURE_WRITE } else { fixed };
    // SAFETY: a plain fcntl.
    match unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, seals) } {
        0 => Ok(()),
        _ => Err(Error::last_os("sealing shared memory")),
    }
}

/// Reads a file's first bytes; whether there were as many.
pub(crate) fn read_first(fd: RawFd, buffer: &mut [u8]) -> Result<bool> {
    loop {
        // SAFETY: pointer and length are of one buffer of ours, so as many bytes can be written.
        let read = unsafe { libc::pread(fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        if read >= 0 {
            return Ok(read as usize == buffer.len());
        }
        if super::errno() != libc::EINTR {
            return Err(Error::last_os("reading shared memory"));
        }
    }
}

/// Writes a file's bytes from the first on.
pub(crate) fn write_all(fd: RawFd, bytes: &[u8]) -> Result<()> {
    write_all_at(fd, 0, bytes)
}

/// The same from an offset on.
pub(crate) fn write_all_at(fd: RawFd, from: usize, bytes: &[u8]) -> Result<()> {
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let place = (from + at) as libc::off_t;
        // SAFETY: pointer and length are of one slice, so as many bytes can be read.
        let written = unsafe { libc::pwrite(fd, rest.as_ptr().cast(), rest.len(), place) };
        match written {
            1.. => at += written as usize,
            _ if written < 0 && super::errno() == libc::EINTR => (),
            _ => return Err(Error::last_os("writing shared memory")),
        }
    }
    Ok(())
}

/// Reads as many of a file's bytes from an offset on as there is room for; whether there were as many.
pub(crate) fn read_exactly_at(fd: RawFd, from: u64, room: &mut [MaybeUninit<u8>]) -> Result<bool> {
    let mut at = 0;
    while at < room.len() {
        let rest = &mut room[at..];
        // SAFETY: pointer and length are of one buffer of ours, so as many bytes can be written.
        let read = unsafe {
            libc::pread64(
                fd,
                rest.as_mut_ptr().cast(),
                rest.len(),
                from.wrapping_add(at as u64) as libc::off64_t,
            )
        };
        match read {
            1.. => at += read as usize,
            0 => return Ok(false),
            _ if super::errno() == libc::EINTR => (),
            _ => return Err(Error::last_os("reading shared memory")),
        }
    }
    Ok(true)
}

/// # Safety
/// Every content is one: atomics, numbers, and cells of bytes.
pub(crate) unsafe trait AnyContent {}

/// A copy of what stands in a file from an offset on; `None` where that is too short.
pub(crate) fn copy_of<T: AnyContent>(fd: RawFd, from: u64) -> Result<Option<Box<T>>> {
    let mut copy = Box::<T>::new_uninit();
    // SAFETY: the bytes of the box, which may hold anything.
    let bytes = unsafe { std::slice::from_raw_parts_mut(copy.as_mut_ptr().cast(), size_of::<T>()) };
    let whole = read_exactly_at(fd, from, bytes)?;
    // SAFETY: all its bytes are written, and every content is one.
    Ok(whole.then(|| unsafe { copy.assume_init() }))
}

/// Reserves pages, so that touching them cannot fail; makes the file longer where it is shorter.
pub(crate) fn reserve(fd: RawFd, offset: usize, length: usize) -> Result<()> {
    let _uncancelled = Uncancelled::new();
    // The kernel answers a limit on file sizes by SIGXFSZ, so it is looked at before.
    let end = offset as u64 + length as u64;
    if super::limits::file_size().is_some_and(|limit| end > limit) && end > length_of(fd)? as u64 {
        let text = format!("{end} shared bytes are beyond the limit on file sizes, RLIMIT_FSIZE");
        return Err(Error::errno(libc::ENOMEM, text));
    }
    // A signal makes older kernels give up, and give back what they have reserved. A host whose timer or runtime sends itself
    // one every few milliseconds would never get a large piece at once.
    let (mut at, mut piece) = (offset, LARGEST_PIECE);
    while at < offset + length {
        let next = piece.min(offset + length - at);
        // SAFETY: no pointers.
        if unsafe { libc::fallocate(fd, 0, at as libc::off_t, next as libc::off_t) } == 0 {
            at += next;
            continue;
        }
        match super::errno() {
            libc::EINTR => piece = (piece / 2).max(SMALLEST_PIECE),
            // The file system of memfds is full, or a limit on file sizes is reached: to the caller both are memory.
            libc::ENOSPC | libc::ENOMEM | libc::EFBIG => {
                return Err(Error::errno(libc::ENOMEM, format!("no memory for {length} shared bytes")));
            }
            _ => return Err(Error::last_os("fallocate")),
        }
    }
    Ok(())
}

/// So much is reserved at a time, and no less when signals keep coming.
const LARGEST_PIECE: usize = 16 << 20;
const SMALLEST_PIECE: usize = 64 << 10;

/// Gives pages back to the system; they read as zeros afterwards.
pub(crate) fn punch(fd: RawFd, offset: usize, length: usize) -> Result<()> {
    let _uncancelled = Uncancelled::new();
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    loop {
        // SAFETY: no pointers.
        if unsafe { libc::fallocate(fd, mode, offset as libc::off_t, length as libc::off_t) } == 0 {
            return Ok(());
        }
        if super::errno() != libc::EINTR {
            return Err(Error::last_os("punching a hole"));
        }
    }
}

/// What tells a file from any other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    number: u64,
}

impl FileId {
    /// Of the file behind a descriptor.
    pub(crate) fn of(fd: RawFd) -> Result<FileId> {
        let stat = stat(fd)?;
        Ok(FileId { device: stat.st_dev, number: stat.st_ino })
    }

    /// Its number on its device.
    pub(crate) fn inode(self) -> u64 {
        self.number
    }
}

/// The length of the file behind a descriptor.
pub(crate) fn length_of(fd: RawFd) -> Result<usize> {
    Ok(stat(fd)?.st_size as usize)
}

/// Whether a descriptor is of a file with bytes of its own: no pipe, no device.
pub(crate) fn is_regular(fd: RawFd) -> Result<bool> {
    Ok(stat(fd)?.st_mode & libc::S_IFMT == libc::S_IFREG)
}

/// The bytes that the file behind a descriptor takes of the system's memory.
pub(crate) fn reserved_bytes(fd: RawFd) -> Result<u64> {
    Ok(stat(fd)?.st_blocks as u64 * 512)
}

fn stat(fd: RawFd) -> Result<libc::stat> {
    // SAFETY: all zero is a valid stat.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` is a valid place.
    if unsafe { libc::fstat(fd, &mut stat) } != 0 {
        return Err(Error::last_os("fstat"));
    }
    Ok(stat)
}

/// Whether memory may lie only where ThreadSanitizer expects it: it ends a program that maps any elsewhere.
pub(crate) fn is_confined() -> bool {
    // SAFETY: a C string.
    unsafe { !libc::dlsym(libc::RTLD_DEFAULT, c"__tsan_init".as_ptr()).is_null() }
}

/// How a file is mapped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    /// For writing, too.
    pub(crate) write: bool,
    /// All pages at once.
    pub(crate) populate: bool,
}

/// Private memory, zero at first and in every child of fork, however the child was made.
pub(crate) fn wiped_in_children(length: usize) -> Option<*mut std::ffi::c_void> {
    // SAFETY: a new private mapping; given back if the kernel can't zero it in children.
    unsafe {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let at = libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0);
        if at == libc::MAP_FAILED {
            return None;
        }
        if libc::madvise(at, length, libc::MADV_WIPEONFORK) != 0 {
            libc::munmap(at, length);
            return None;
        }
        Some(at)
    }
}

/// A mapping; unmapped when dropped.
#[derive(Debug)]
pub struct Mapping {
    address: usize,
    length: usize,
}

impl Mapping {
    /// Maps a shared file anywhere.
    pub(crate) fn shared(fd: RawFd, length: usize) -> Result<Mapping> {
        Mapping::map(0, length, libc::MAP_SHARED | libc::MAP_POPULATE, fd)
    }

    /// Maps a shared file at this very address, which must be free.
    pub(crate) fn shared_at(fd: RawFd, address: usize, length: usize) -> Result<Mapping> {
        let flags = libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE | libc::MAP_NORESERVE;
        let mapping = Mapping::map(address, length, flags, fd)?;
        // Kernels before 4.17 take the address for a hint.
        if mapping.address == address {
            Ok(mapping)
        } else {
            Err(Error::errno(libc::EEXIST, format!("the address {address:#x} is taken")))
        }
    }

    /// Maps a shared file, at this very address if there is one, which must be free.
    pub(crate) fn shared_with(
        fd: RawFd,
        address: Option<usize>,
        length: usize,
        access: Access,
    ) -> Result<Mapping> {
        let populate = if access.populate { libc::MAP_POPULATE } else { 0 };
        let fixed = if address.is_some() { libc::MAP_FIXED_NOREPLACE } else { 0 };
        let protection = libc::PROT_READ | if access.write { libc::PROT_WRITE } else { 0 };
        let flags = libc::MAP_SHARED | populate | fixed;
        let mapping = Mapping::map_as(address.unwrap_or(0), length, protection, flags, fd);
        let taken = |address: usize| {
            Error::errno(libc::EEXIST, format!("the {length} bytes at {address:#x} are not free here"))
        };
        match (mapping, address) {
            // Kernels before 4.17 take the address for a hint.
            (Ok(mapping), Some(address)) if mapping.address != address => Err(taken(address)),
            (Err(error), Some(address)) if error.code().0 == -libc::EEXIST => Err(taken(address)),
            (mapping, _) => mapping,
        }
    }

    /// Whether there is address space for so many bytes; the error says why not.
    pub(crate) fn probe(length: usize) -> Result<()> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        Mapping::map_as(0, length, libc::PROT_NONE, flags, -1).map(drop)
    }

    /// Asks for huge pages where the kernel can give them later.
    pub(crate) fn prefer_huge_pages(&self) {
        // SAFETY: advice about a mapping that is ours; its failure changes nothing that we rely on.
        unsafe { libc::madvise(self.pointer().cast(), self.length, libc::MADV_HUGEPAGE) };
    }

    /// A mapping that a forked process has from its parent and is the only one to use in this process.
    pub(crate) fn inherited(address: usize, length: usize) -> Mapping {
        Mapping { address, length }
    }

    /// Private memory, zero at first, of which the kernel gives a page when it is touched.
    pub(crate) fn zeros(length: usize) -> Result<Mapping> {
        Mapping::map(0, length, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE, -1)
    }

    /// Private memory for a stack, with an inaccessible page at its low end.
    pub(crate) fn stack(length: usize) -> Result<Mapping> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
        let mapping = Mapping::map(0, length, flags, -1)?;
        // SAFETY: the page belongs to the mapping that has just been made.
        unsafe { libc::mprotect(mapping.pointer().cast(), page_size(), libc::PROT_NONE) };
        Ok(mapping)
    }

    fn map(address: usize, length: usize, flags: libc::c_int, fd: RawFd) -> Result<Mapping> {
        Mapping::map_as(address, length, libc::PROT_READ | libc::PROT_WRITE, flags, fd)
    }

    fn map_as(
        address: usize,
        length: usize,
        protection: libc::c_int,
        flags: libc::c_int,
        fd: RawFd,
    ) -> Result<Mapping> {
        // SAFETY: without MAP_FIXED the kernel replaces no mapping.
        let mapped = unsafe {
            libc::mmap(std::ptr::without_provenance_mut(address), length, protection, flags, fd, 0)
        };
        if mapped == libc::MAP_FAILED && super::errno() == libc::EAGAIN {
            let text = format!(
                "mapping {length} bytes: all memory is to be locked (mlockall), and RLIMIT_MEMLOCK does not allow as much"
            );
            return Err(Error::errno(libc::ENOMEM, text));
        }
        if mapped == libc::MAP_FAILED {
            return Err(Error::last_os(&format!("mapping {length} bytes")));
        }
        Ok(Mapping { address: mapped.expose_provenance(), length })
    }

    /// Where it begins.
    pub fn pointer(&self) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut(self.address)
    }

    /// Its first address.
    pub fn address(&self) -> usize {
        self.address
    }

    /// How long it is.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Leaves the mapping out of core dumps, which would otherwise hold all of it.
    pub(crate) fn leave_out_of_dumps(&self) {
        // SAFETY: advice about a mapping that is ours; its failure changes nothing that we rely on.
        unsafe { libc::madvise(self.pointer().cast(), self.length, libc::MADV_DONTDUMP) };
    }

    /// Gives the mapping up without unmapping it.
    pub(crate) fn leak(self) {
        std::mem::forget(self);
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and its owner, which drops it, has given up every pointer into it.
        unsafe { libc::munmap(self.pointer().cast(), self.length) };
    }
}

/// The size of a page.
#[inline]
pub fn page_size() -> usize {
    // Relaxed: every thread would write the same.
    static KNOWN: AtomicUsize = AtomicUsize::new(0);
    match KNOWN.load(Ordering::Relaxed) {
        0 => {
            // SAFETY: no pointers.
            let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize };
            KNOWN.store(size, Ordering::Relaxed);
            size
        }
        size => size,
    }
}
