//! Runs of extents: claimed, split, put together and given back, each step one store or one compare-exchange.
//!
//! At every moment the runs lie side by side and cover the heap. The word of a run's first extent says what the run is
//! and how long; the words behind it are TAILs, or, while a process puts runs together or splits one, CLAIMED by that
//! process inside of a run that the same process has CLAIMED. So
//!
//! - a free run is taken by one compare-exchange of its first word, which succeeds only while the run is as it says;
//! - what a dead process has CLAIMED is its until whoever clears up gives it back, which only one process does at a
//!   time; the claim is what is cleared first, and nobody ever looks for TAILs that have lost their head;
//! - who walks from run to run and lands on a TAIL, since runs have been put together meanwhile, goes on to the next.

use super::directory::Directory;
use super::entry::{Entry, EntryKind, Owner};

/// Takes `count` extents of a free run, from its front; the rest is free again. Whether the run was as `free` says.
pub(super) fn take(directory: &Directory, owner: Owner, head: u32, free: Entry, count: u32) -> Option<Rest> {
    let length = free.exact_length(head, directory.known_extents())?;
    if length < count || !directory.exchange(head, free, Entry::claimed(owner, length)) {
        return None;
    }
    if length == count {
        return Some(None);
    }
    split(directory, owner, head, length, count);
    Some(Some(give(directory, owner, head + count, length - count, free.is_hole())))
}

/// What is left of a run that was longer than needed: where it begins, and how long it is.
pub(super) type Rest = Option<(u32, u32)>;

/// Splits a run that the owner has claimed.
pub(super) fn split(directory: &Directory, owner: Owner, head: u32, length: u32, count: u32) {
    directory.set(head + count, Entry::claimed(owner, length - count));
    directory.set(head, Entry::claimed(owner, count));
}

/// Joins a run that the owner has claimed to another one of it, right behind.
pub(super) fn join(directory: &Directory, owner: Owner, head: u32, length: u32, more: u32) {
    directory.set(head, Entry::claimed(owner, length + more));
    directory.set(head + length, Entry::tail(0));
}

/// Joins runs that the owner has claimed, side by side from `head` on, `length` extents in all.
pub(super) fn join_all(directory: &Directory, owner: Owner, head: u32, length: u32) {
    let end = head + length;
    let mut at = head + directory.get(head).length_at(head, end);
    directory.set(head, Entry::claimed(owner, length));
    while at < end {
        let next = at + directory.get(at).length_at(at, end);
        directory.set(at, Entry::tail(0));
        at = next;
    }
}

/// Frees runs that the owner has claimed, side by side, each as what it was.
pub(super) fn give_all(directory: &Directory, owner: Owner, head: u32, length: u32) {
    let (mut at, end) = (head, head + length);
    while at < end {
        let entry = directory.get(at);
        let length = entry.length_at(at, end);
        give(directory, owner, at, length, entry.was_hole());
        at += length;
    }
}

/// Frees a run that the owner has claimed, together with its free neighbours: where it begins then, and how long it is.
pub(super) fn give(
    directory: &Directory,
    owner: Owner,
    mut head: u32,
    mut length: u32,
    hole: bool,
) -> (u32, u32) {
    let known = directory.known_extents();
    if let Some(more) = claim_alike(directory, owner, head + length, known, hole) {
        join(directory, owner, head, length, more);
        length += more;
    }
    if let Some(left) = free_on_the_left(directory, head)
        && let Some(less) = claim_alike(directory, owner, left, known, hole)
    {
        if left + less == head {
            join(directory, owner, left, less, length);
            (head, length) = (left, length + less);
        } else {
            publish(directory, left, less, hole); // It has been another run since.
        }
    }
    publish(directory, head, length, hole);
    (head, length)
}

/// A claimed run becomes free. Its last word leads to the first, for `free_on_the_left`.
fn publish(directory: &Directory, head: u32, length: u32, hole: bool) {
    if length > 1 {
        directory.set(head + length - 1, Entry::tail(length - 1));
    }
    directory.set(head, Entry::free(length, hole));
}

/// Claims the free run that begins here, if it is a hole like the other one, or none like it; its length.
fn claim_alike(directory: &Directory, owner: Owner, head: u32, known: u32, hole: bool) -> Option<u32> {
    if head >= known {
        return None;
    }
    let entry = directory.get(head);
    let length = entry.exact_length(head, known)?;
    let alike = entry.kind == EntryKind::Free && entry.is_hole() == hole;
    (alike && directory.exchange(head, entry, Entry::claimed(owner, length))).then_some(length)
}

/// Where the run begins that ends in front of an extent, if it is likely to be free. The caller looks again.
fn free_on_the_left(directory: &Directory, extent: u32) -> Option<u32> {
    let last = extent.checked_sub(1)?;
    let entry = directory.get(last);
    match entry.kind {
        EntryKind::Free => Some(last),
        EntryKind::Tail if entry.aux > 0 => {
            let head = last.checked_sub(entry.aux)?;
            let first = directory.get(head);
            let reaches = first.kind == EntryKind::Free && first.aux == entry.aux + 1;
            reaches.then_some(head)
        }
        _ => None,
    }
}

/// Gives back what an ended owner had claimed, as a hole: whether its pages are there is not known. Only one process
/// does this for the same owner at a time, and one that dies leaves it to be done again.
pub(super) fn give_up(directory: &Directory, head: u32, entry: Entry) -> u32 {
    let length = entry.length_at(head, directory.known_extents());
    for extent in head + 1..head + length {
        let inside = directory.get(extent);
        if inside.kind == EntryKind::Claimed && inside.owner == entry.owner {
            directory.set(extent, Entry::tail(0));
        }
    }
    publish(directory, head, length, true);
    length
}
