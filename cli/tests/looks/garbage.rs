//! Memory that calls itself tine's and has anything in it: nothing is believed before it was checked.

use std::ffi::CStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use tine::inspect::pool::{Found, pools_of};

/// A copy of a real memfd under the same name in this process, so that its words can be changed.
struct Copy {
    file: File,
    bytes: Vec<u8>,
}

impl Copy {
    fn of(pid: u32, name: &CStr) -> Copy {
        let wanted = PathBuf::from(format!("/memfd:{} (deleted)", name.to_str().expect("a name")));
        let folder = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors");
        let path = folder
            .flatten()
            .map(|entry| entry.path())
            .find(|path| std::fs::read_link(path).is_ok_and(|link| link == wanted));
        let mut bytes = Vec::new();
        File::open(path.expect("the memory")).expect("it opens").read_to_end(&mut bytes).expect("it is read");
        let file = memfd(name, bytes.len());
        // Most of a heap is a hole.
        for (page, content) in
            bytes.chunks(4096).enumerate().filter(|(_, page)| page.iter().any(|byte| *byte != 0))
        {
            file.write_all_at(content, page as u64 * 4096).expect("it is written");
        }
        Copy { file, bytes }
    }

    fn inode(&self) -> u64 {
        use std::os::unix::fs::MetadataExt;
        self.file.metadata().expect("what it is").ino()
    }

    /// For good.
    fn set<const N: usize>(&mut self, at: usize, bytes: [u8; N]) {
        self.bytes[at..at + N].copy_from_slice(&bytes);
        self.file.write_all_at(&bytes, at as u64).expect("it is written");
    }

    /// Changes some words in the first bytes, but for those that are to stay; where.
    fn scribble(&mut self, random: &mut Random, within: usize, kept: &[usize]) -> Vec<usize> {
        let words = within.min(self.bytes.len()) / 8;
        let places: Vec<usize> =
            (0..1 + random.next() % 6).map(|_| random.next() as usize % words * 8).collect();
        for at in places.iter().filter(|at| !kept.contains(at)) {
            self.file.write_all_at(&random.word().to_ne_bytes(), *at as u64).expect("it is written");
        }
        places
    }

    fn restore(&mut self, places: &[usize]) {
        for at in places {
            self.file.write_all_at(&self.bytes[*at..at + 8], *at as u64).expect("it is written");
        }
    }
}

fn memfd(name: &CStr, length: usize) -> File {
    // SAFETY: a plain call; the descriptor is ours.
    let file = unsafe {
        let fd = libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING);
        assert!(fd >= 0);
        File::from(OwnedFd::from_raw_fd(fd))
    };
    file.set_len(length as u64).expect("its length");
    // SAFETY: a plain call.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, libc::F_SEAL_SHRINK) }, 0);
    file
}

/// Where the words are that say what else there is; `inspect/page.rs` has them in this order.
const LENGTH: usize = 12;
const PID: usize = 48;
const PLACES: usize = 52;
const HEAP_INODE: usize = 88;
const PLACE: usize = 256;
const PLACE_PID: usize = PLACE + 4;

/// xorshift: the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A word that is likely to do harm.
    fn word(&mut self) -> u64 {
        let any = self.next();
        [0, 1, u64::MAX, u64::MAX / 2, 1 << 32, any, any >> 32, any % 4096][(self.next() % 8) as usize]
    }
}

/// The pool that this process seems to be the host of: whether it was read.
fn is_read() -> bool {
    let found = pools_of(std::process::id()).expect("an answer");
    found.iter().any(|found| matches!(found, Found::Pool(_)))
}

pub(crate) fn garbage_is_no_trouble() {
    let host = super::Host::start("locks");
    let worker = super::look(host.pid())["places"][0]["pid"].as_u64().expect("a worker") as u32;
    let own = std::process::id();
    let mut heap = Copy::of(host.pid(), c"tine-heap");
    let mut ring = Copy::of(worker, c"tine-ring");
    let mut page = Copy::of(host.pid(), c"tine-pool");
    page.set(PID, own.to_ne_bytes());
    page.set(HEAP_INODE, heap.inode().to_ne_bytes());
    page.set(PLACE_PID, own.to_ne_bytes());
    assert!(is_read(), "as long as nothing is wrong");
    let seen = pools_of(own).expect("an answer");
    let Some(Found::Pool(pool)) = seen.first() else { panic!("no pool") };
    assert!(pool.places[0].ring.is_some() && pool.heap.is_some() && !pool.queues.is_empty(), "{pool:#?}");
    let mut random = Random(20_260_101);
    let mut read = 0;
    for round in 0..2000 {
        // The whole page, the ring's words and first slots, the heap's header and first directory words.
        let (copy, within, kept) = match round % 3 {
            0 => (&mut page, 1 << 20, &[PID & !7, HEAP_INODE, 0, 8][..]),
            1 => (&mut ring, 4096, &[][..]),
            _ => (&mut heap, 4096 + 512, &[][..]),
        };
        let places = copy.scribble(&mut random, within, kept);
        read += u32::from(is_read());
        copy.restore(&places);
    }
    assert!(read > 1000, "what was read: {read}");
    // A page of any length takes no more memory to read than the longest that there is.
    let length = 16 << 20;
    page.file.set_len(length).expect("its length");
    assert!(!is_read(), "it is not as long as it says");
    page.set(LENGTH, (length as u32).to_ne_bytes());
    page.set(PLACES, u32::MAX.to_ne_bytes());
    let seen = pools_of(own).expect("an answer");
    let Some(Found::Pool(pool)) = seen.first() else { panic!("no pool") };
    assert_eq!(pool.places.len(), 4096);
    // Nothing but zeros, and what is too short.
    drop(page);
    for length in [0, 1, 8, 100, 255, 256, 4096] {
        let mut bytes = vec![0; length];
        for (at, byte) in u64::from_be_bytes(*b"tinePage").to_ne_bytes().iter().enumerate().take(length) {
            bytes[at] = *byte;
        }
        let mut file = memfd(c"tine-pool", length);
        file.write_all(&bytes).expect("it is written");
        assert!(!is_read(), "{length} bytes");
    }
    // What somebody could make shorter is not looked at.
    // SAFETY: a plain call; the descriptor is ours.
    let loose = unsafe { OwnedFd::from_raw_fd(libc::memfd_create(c"tine-pool".as_ptr(), 0)) };
    assert!(pools_of(own).expect("an answer").is_empty());
    drop(loose);
}

/// A pool of another version is named as such, and nothing else of it is read.
pub(crate) fn another_version_is_named() {
    let host = super::Host::start("hangs");
    let mut page = Copy::of(host.pid(), c"tine-pool");
    page.set(PID, std::process::id().to_ne_bytes());
    page.set(8, 99u32.to_ne_bytes());
    page.set(16, *b"9.9.9\x1b[2J\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    let own = std::process::id().to_string();
    let output = super::output(&["top", "--once", &own]);
    let said = super::text(&output.stderr);
    assert!(said.contains("one of tine 9.9.9?[2J, in another layout"), "{said}");
    let list = super::text(&super::output(&["ps"]).stdout);
    assert!(list.contains("a pool of tine 9.9.9?[2J, which this program cannot read"), "{list}");
}
