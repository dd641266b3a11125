//! The page of a pool: what its host keeps to itself and lets others see.
//!
//! Written by the host alone, under the pool's lock, and never read by it. Every store is Relaxed but for `change`: who reads copies all
//! of it with one system call, and looks at `change` before and after. `docs/design/inspect.md` says what is written when.

use crate::error::Result;
use crate::heap::Heap;
use crate::sys::clock::now_ns;
use crate::sys::fd::Guarded;
use crate::sys::fork;
use crate::sys::memory::{FileId, Mapping, sealed_memfd};
use crate::sys::prim::{AtomicU32, AtomicU64, Ordering, fence};
use crate::task::function::Tables;
use crate::task::wire;
use std::os::fd::AsRawFd;

/// "tinePage".
pub(super) const MARK: u64 = u64::from_be_bytes(*b"tinePage");
/// Changed with the layout of the page. What stands in front of `protocol` stays as it is in all versions.
pub(super) const VERSION: u32 = 1;

/// Bytes for the names of modules and functions. What does not fit is left out.
const TEXT_BYTES: usize = 16 << 10;

/// The version of the library, for people.
pub(super) const LIBRARY: [u8; 24] = {
    let (text, mut bytes, mut at) = (env!("CARGO_PKG_VERSION").as_bytes(), [0; 24], 0);
    while at < text.len() {
        bytes[at] = text[at];
        at += 1;
    }
    bytes
};

/// Written once, before anything is started.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Head {
    pub(super) mark: AtomicU64,
    pub(super) version: AtomicU32,
    /// Of the whole page.
    pub(super) length: AtomicU32,
    pub(super) library: [AtomicU64; 3],
    /// Tells builds apart whose rings and heaps are laid out otherwise.
    pub(super) protocol: AtomicU64,
    /// The host, as it is called in its own PID namespace.
    pub(super) pid: AtomicU32,
    pub(super) places: AtomicU32,
    pub(super) start: AtomicU32,
    pub(super) _pad: AtomicU32,
    pub(super) created_ns: AtomicU64,
    pub(super) heap_address: AtomicU64,
    pub(super) heap_length: AtomicU64,
    pub(super) heap_inode: AtomicU64,
    pub(super) window_most_tasks: AtomicU64,
    pub(super) window_most_bytes: AtomicU64,
}

/// What changes.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) submitted: AtomicU64,
    pub(crate) settled: AtomicU64,
    pub(crate) items: AtomicU64,
    pub(crate) items_failed: AtomicU64,
    pub(crate) window_tasks: AtomicU64,
    pub(crate) window_bytes: AtomicU64,
    /// Odd while places or texts are being written.
    pub(super) change: AtomicU64,
    pub(super) worker_deaths: AtomicU64,
    pub(super) workers_recycled: AtomicU64,
    pub(super) supervisor_deaths: AtomicU64,
    pub(super) text_length: AtomicU64,
}

/// A place for a worker.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Place {
    pub(super) state: AtomicU32,
    pub(super) pid: AtomicU32,
    pub(super) generation: AtomicU64,
    /// Since when it has been in this state.
    pub(super) since_ns: AtomicU64,
    /// When results were last taken from its ring, and how far the ring was drained then.
    pub(super) drained_ns: AtomicU64,
    pub(super) drained: AtomicU32,
}

/// The states of a place, as the page has them.
pub(crate) mod state {
    pub(crate) const VACANT: u32 = 0;
    pub(crate) const STARTING: u32 = 1;
    pub(crate) const READY: u32 = 2;
    pub(crate) const LEAVING: u32 = 3;
    pub(crate) const DYING: u32 = 4;
    pub(crate) const ENDED: u32 = 5;
    pub(crate) const PARKED: u32 = 6;
}

#[repr(C)]
#[derive(Debug)]
pub(super) struct Fixed {
    pub(super) head: Head,
    pub(super) counters: Counters,
}

pub(super) const PLACES_AT: usize = size_of::<Fixed>();

/// The host's view of its page.
#[derive(Debug)]
pub(crate) struct Page {
    /// By which others find it.
    _fd: Guarded,
    mapping: Mapping,
    places: usize,
}

// SAFETY: its words are atomics; its texts are written by who has the pool, under the pool's lock, and read by nobody in this process.
unsafe impl Send for Page {}
// SAFETY: threads that share it reach atomics, and the texts as said for `Send`: one at a time.
unsafe impl Sync for Page {}

/// What a pool tells of itself when it is made.
pub(crate) struct About {
    pub(crate) places: usize,
    pub(crate) start: u32,
    pub(crate) window_tasks: usize,
    pub(crate) window_bytes: usize,
}

impl Page {
    pub(crate) fn create(heap: &Heap, about: &About) -> Result<Page> {
        let length = PLACES_AT + about.places * size_of::<Place>() + TEXT_BYTES;
        let fd = sealed_memfd(c"tine-pool", length)?;
        let mapping = Mapping::shared(fd.as_raw_fd(), length)?;
        let inode = FileId::of(heap.fd()).map_or(0, |file| file.inode());
        let page = Page { _fd: Guarded::new(fd), mapping, places: about.places };
        let head = &page.fixed().head;
        let set = |word: &AtomicU64, value: u64| word.store(value, Ordering::Relaxed);
        for (word, bytes) in head.library.iter().zip(LIBRARY.chunks_exact(8)) {
            set(word, u64::from_ne_bytes(bytes.try_into().unwrap_or_default()));
        }
        set(&head.protocol, wire::version());
        head.pid.store(fork::pid() as u32, Ordering::Relaxed);
        head.places.store(about.places as u32, Ordering::Relaxed);
        head.start.store(about.start, Ordering::Relaxed);
        set(&head.created_ns, now_ns());
        set(&head.heap_address, heap.address() as u64);
        set(&head.heap_length, heap.mapped_bytes() as u64);
        set(&head.heap_inode, inode);
        set(&head.window_most_tasks, about.window_tasks as u64);
        set(&head.window_most_bytes, about.window_bytes as u64);
        head.length.store(length as u32, Ordering::Relaxed);
        head.version.store(VERSION, Ordering::Relaxed);
        // Release: a reader that sees the mark sees the rest.
        head.mark.store(MARK, Ordering::Release);
        Ok(page)
    }

    fn fixed(&self) -> &Fixed {
        // SAFETY: the mapping is page-aligned, longer than this, and holds nothing but atomics, for which every content is valid.
        unsafe { &*self.mapping.pointer().cast::<Fixed>() }
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.fixed().counters
    }

    fn places(&self) -> &[Place] {
        // SAFETY: the mapping was made as long as that many places behind the fixed part, which is a multiple of their alignment;
        // they hold nothing but atomics.
        unsafe { std::slice::from_raw_parts(self.mapping.pointer().add(PLACES_AT).cast(), self.places) }
    }

    /// Results have been taken from a ring, up to this position.
    pub(crate) fn has_drained(&self, slot: usize, position: u32, now: u64) {
        let Some(place) = self.places().get(slot) else { return };
        place.drained_ns.store(now, Ordering::Relaxed);
        place.drained.store(position, Ordering::Relaxed);
    }

    /// What the family looks like now: one item for each place.
    pub(crate) fn show_places(&self, shown: impl Iterator<Item = Shown>) {
        let mut writing = None;
        for (place, shown) in self.places().iter().zip(shown) {
            let is = |word: &AtomicU32, value: u32| word.load(Ordering::Relaxed) == value;
            if is(&place.state, shown.state)
                && is(&place.pid, shown.pid)
                && place.generation.load(Ordering::Relaxed) == shown.generation
            {
                continue;
            }
            writing.get_or_insert_with(|| self.write());
            if !is(&place.state, shown.state) || place.generation.load(Ordering::Relaxed) != shown.generation
            {
                place.since_ns.store(now_ns(), Ordering::Relaxed);
            }
            if place.generation.load(Ordering::Relaxed) != shown.generation {
                place.drained.store(0, Ordering::Relaxed);
                place.drained_ns.store(0, Ordering::Relaxed);
            }
            place.state.store(shown.state, Ordering::Relaxed);
            place.pid.store(shown.pid, Ordering::Relaxed);
            place.generation.store(shown.generation, Ordering::Relaxed);
        }
    }

    /// How many have died.
    pub(crate) fn show_deaths(&self, workers: u64, recycled: u64, supervisors: u64) {
        let counters = self.counters();
        counters.worker_deaths.store(workers, Ordering::Relaxed);
        counters.workers_recycled.store(recycled, Ordering::Relaxed);
        counters.supervisor_deaths.store(supervisors, Ordering::Relaxed);
    }

    /// What the supervisor that has come up can call.
    pub(crate) fn show_tables(&self, tables: &Tables) {
        let _writing = self.write();
        let mut at = PLACES_AT + self.places * size_of::<Place>();
        let (begin, end) = (at, at + TEXT_BYTES);
        let modules = tables.modules().map(|path| (b'm', path));
        for (kind, text) in modules.chain(tables.names().map(|name| (b'n', name))) {
            if end - at < text.len() + 2 {
                break;
            }
            // SAFETY: there is room for the text and two bytes more in the mapping; nobody else writes there, and whoever reads it
            // meanwhile sees by `change` that it may have got some of each.
            unsafe {
                let place = self.mapping.pointer().add(at);
                place.write(kind);
                place.add(1).copy_from_nonoverlapping(text.as_ptr(), text.len());
                place.add(1 + text.len()).write(0);
            }
            at += text.len() + 2;
        }
        self.counters().text_length.store((at - begin) as u64, Ordering::Relaxed);
    }

    /// What a host leaves that is killed, or stopped, while it writes.
    #[cfg(test)]
    pub(super) fn die_while_writing(&self) {
        std::mem::forget(self.write());
    }

    fn write(&self) -> Writing<'_> {
        let change = &self.counters().change;
        change.store(change.load(Ordering::Relaxed) | 1, Ordering::Relaxed);
        // What follows is not seen before the odd number.
        fence(Ordering::Release);
        Writing(change)
    }
}

/// Places or texts are being written.
struct Writing<'a>(&'a AtomicU64);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        // Release: what was written is seen before the even number.
        self.0.store((self.0.load(Ordering::Relaxed) | 1).wrapping_add(1), Ordering::Release);
    }
}

/// A place as the family has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown {
    pub(crate) state: u32,
    pub(crate) pid: u32,
    pub(crate) generation: u64,
}
