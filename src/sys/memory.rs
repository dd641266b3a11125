//! Shared memory: memfds that cannot shrink, and mappings of them.

use crate::error::{Error, Result};
use memfd::{FileSeal, Memfd};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};

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

/// A memfd of `length` bytes whose pages are reserved and whose size nobody can change.
pub(crate) fn sealed_memfd(name: &CStr, length: usize) -> Result<OwnedFd> {
    let fd = memfd(name)?;
    reserve(fd.as_raw_fd(), 0, length)?;
    seal(fd, &[FileSeal::SealShrink, FileSeal::SealGrow, FileSeal::SealSeal])
}

/// Adds seals.
pub(crate) fn seal(fd: OwnedFd, seals: &[FileSeal]) -> Result<OwnedFd> {
    let memfd = Memfd::try_from_fd(fd).map_err(|_| Error::invalid("the descriptor is not a memfd"))?;
    for seal in seals {
        memfd
            .add_seal(*seal)
            .map_err(|error| Error::errno(libc::EPERM, format!("sealing shared memory: {error}")))?;
    }
    super::fd::owned(libc::c_long::from(memfd.into_file().into_raw_fd()), "sealing shared memory")
}

/// Whether nobody can shrink the memory behind the descriptor.
pub(crate) fn cannot_shrink(fd: RawFd) -> bool {
    // SAFETY: a plain fcntl.
    let seals = unsafe { libc::fcntl(fd, libc::F_GET_SEALS) };
    seals >= 0 && seals & libc::F_SEAL_SHRINK != 0
}

/// Reserves pages, so that touching them cannot fail; makes the file longer where it is shorter.
pub(crate) fn reserve(fd: RawFd, offset: usize, length: usize) -> Result<()> {
    loop {
        // SAFETY: no pointers.
        if unsafe { libc::fallocate(fd, 0, offset as libc::off_t, length as libc::off_t) } == 0 {
            return Ok(());
        }
        match super::errno() {
            libc::EINTR => continue,
            // The file system of memfds is full, or a limit on file sizes is reached: to the caller both are memory.
            libc::ENOSPC | libc::ENOMEM | libc::EFBIG => {
                return Err(Error::errno(libc::ENOMEM, format!("no memory for {length} shared bytes")));
            }
            _ => return Err(Error::last_os("fallocate")),
        }
    }
}

/// The length of the file behind a descriptor.
pub(crate) fn length_of(fd: RawFd) -> Result<usize> {
    // SAFETY: all zero is a valid stat.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` is a valid place.
    if unsafe { libc::fstat(fd, &mut stat) } != 0 {
        return Err(Error::last_os("fstat"));
    }
    Ok(stat.st_size as usize)
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

    /// A mapping that a forked process has from its parent and is the only one to use in this process.
    pub(crate) fn inherited(address: usize, length: usize) -> Mapping {
        Mapping { address, length }
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
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: without MAP_FIXED the kernel replaces no mapping.
        let mapped = unsafe {
            libc::mmap(std::ptr::without_provenance_mut(address), length, protection, flags, fd, 0)
        };
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
        // SAFETY: the mapping is ours, and whoever drops it has given up every pointer into it.
        unsafe { libc::munmap(self.pointer().cast(), self.length) };
    }
}

/// The size of a page.
pub fn page_size() -> usize {
    // SAFETY: no pointers.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}
