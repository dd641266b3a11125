//! What a process leaves when it dies, and what becomes of it.
//!
//! Its allocators' knowledge is gone with it. What the shared words say is enough: claims are undone; slabs and large
//! blocks become those of an ended process of its number, and take up no place. Each is one compare-exchange, which fails
//! where somebody has freed the block meanwhile; who is killed in the middle leaves the rest to the next.

use super::Heap;
use super::allocator::Allocator;
use super::entry::{Entry, EntryKind, MOST_PROCESSES, Owner, ended, place_of};
use super::runs;
use super::slab::Slab;
use crate::error::{Error, Result};

impl Heap {
    /// Clears up after a process that has ended and that nobody else clears up after: what it was about to claim is free
    /// again. Blocks that it had allocated stay allocated: somebody may hold them. They are listed under `pid`. Whether all of
    /// the heap could be seen; else some is left to do.
    pub(super) fn clear_up(&self, allocator: &mut Allocator, place: Owner, pid: i32) -> bool {
        let directory = &self.directory;
        let seen = directory.look_again(&self.fd).is_ok();
        let known = directory.known_extents();
        let mut extent = 0;
        while extent < known {
            let entry = directory.get(extent);
            let left = Entry { owner: ended(pid), ..entry };
            extent += match entry.kind {
                EntryKind::Free | EntryKind::Tail => entry.length_at(extent, known),
                _ if place_of(entry.owner) != Some(place) => entry.length_at(extent, known),
                EntryKind::Claimed => runs::give_up(directory, extent, entry),
                EntryKind::Large => {
                    directory.exchange(extent, entry, left);
                    entry.length_at(extent, known)
                }
                EntryKind::Slab | EntryKind::Loose => {
                    directory.exchange(extent, entry, left.loosened());
                    allocator.take_back(self, extent);
                    entry.length_at(extent, known)
                }
            };
        }
        allocator.search_from = 0;
        seen
    }

    /// The same for a pool's heap, of which the host has made most itself: what it cannot see stays under the place's number, and
    /// is cleared up after the next process there. `unfinished` is the address that the process had announced last, or 0; a block of
    /// this process's there is freed.
    pub(crate) fn reclaim(&self, owner: Owner, pid: i32, unfinished: usize) {
        let mut allocator = self.allocator();
        self.clear_up(&mut allocator, owner, pid);
        if unfinished != 0 {
            // Announced but not allocated, or garbage: then there is nothing to free.
            let _ = allocator.free_left(self, unfinished, ended(pid));
        }
    }

    /// The blocks that a process had when it died and nobody has freed since: address and size.
    pub fn left_by(&self, pid: i32) -> Result<Vec<(usize, usize)>> {
        self.blocks_of(checked(pid)?)
    }

    /// Frees the blocks that a process has left; how many there were.
    ///
    /// # Safety
    /// Nobody uses these blocks any more, in any process.
    pub unsafe fn release_process(&self, pid: i32) -> Result<usize> {
        let dead = checked(pid)?;
        let mut allocator = self.allocator();
        let mut freed = 0;
        for (extent, entry, length) in self.runs() {
            if entry.owner != dead {
                continue;
            }
            let slab = Slab::at(&self.directory, extent, entry, self.directory.known_extents());
            if slab.is_none() && entry.kind != EntryKind::Large {
                continue;
            }
            // Claimed before anything in it is looked at: another survivor may release the same ones, and then they are somebody else's.
            let claimed = Entry::claimed(allocator.owner, length);
            if self.directory.exchange(extent, entry, claimed) {
                freed += slab.map_or(1, |slab| slab.count(self) as usize);
                allocator.release(self, extent, length);
            }
        }
        Ok(freed)
    }
}

/// The owner of what a process has left whose number the caller gives.
fn checked(pid: i32) -> Result<Owner> {
    if (1..MOST_PROCESSES).contains(&pid) {
        return Ok(ended(pid));
    }
    Err(Error::invalid(format!("pid is {pid}; numbers of processes are from 1 to {}", MOST_PROCESSES - 1)))
}
