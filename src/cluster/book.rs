//! What rank 0 writes down of its tasks, in memory that its [`Witness`] has as well. Nobody reads before rank 0 has ended; but it may end between
//! two stores, so it matters which word is stored first.
//!
//! ```text
//!   step at rank 0      stores, in this order               rank 0 ends before the last of them: the report says
//!   queued              state, items, then the id           nothing of the task: submitting it has not returned
//!   sent, back, settled state                               what was so before, which is as true: no byte has left, or it may have run
//!   closed              id = 0                              that it has settled
//!   a map's ranges      those that do not count, the half   what was so before: an item is in a range, or in its chunk, or in both
//! ```
//!
//! An item of a map that has not settled is in a chunk that is queued or sent, or in a range of the map. It is written down there before it is no
//! more written down where it was.

use super::witness::Witness;
use crate::error::{Code, Error, Result};
use crate::sys::fork;
use crate::sys::memory::Mapping;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The file grows by so much. A multiple of every page size.
pub(super) const EXTENT: usize = 64 << 10;

/// And up to so much, which is address space and no memory: for some 33 million tasks at a time.
pub(super) const WHOLE: usize = 1 << 30;

/// The first extent.
#[repr(C)]
pub(super) struct Head {
    /// 1: rank 0 ends in good order. Release; the witness reads it when the writer has ended.
    pub(super) left: AtomicU64,
    /// How many extents there are.
    pub(super) extents: AtomicU64,
}

/// The others: each belongs to a pool, and holds the tasks from some place on in that pool's ledger, or the ranges of a map.
#[repr(C)]
pub(super) struct Extent {
    /// 0: to none. Stored last.
    pub(super) pool: AtomicU64,
    /// Tasks whose results have been taken. Counted in the first extent of a pool.
    pub(super) closed: AtomicU64,
    /// 0: of tasks. Of a map: 1, from bit 1 which half of the records counts, from bit 2 how many there are in it. One store changes all.
    ranges: AtomicU64,
    records: [Record; RECORDS],
}

const RECORDS: usize = (EXTENT - 24) / size_of::<Record>();
const HALF: usize = RECORDS / 2;
const _: () = assert!(size_of::<Extent>() <= EXTENT);

#[repr(C)]
pub(super) struct Record {
    /// As `tine_submit` gave it, or the number of a map; 0 where there is no task.
    pub(super) id: AtomicU64,
    /// A state, from bit 8 a delivery or a rank (0: none), from bit 32 the status.
    pub(super) state: AtomicU64,
    /// Of a chunk or a range: its items' place in the map. No task has items.
    pub(super) first: AtomicU64,
    pub(super) items: AtomicU64,
}

/// A record's state.
pub(super) mod kind {
    pub(crate) const QUEUED: u64 = 1;
    pub(crate) const SENT: u64 = 2;
    pub(crate) const SETTLED: u64 = 3;
}

impl Extent {
    /// Those that say something.
    pub(super) fn records(&self) -> impl Iterator<Item = &Record> {
        let ranges = self.ranges.load(Ordering::Acquire);
        let records = match ranges & 1 {
            0 => &self.records[..],
            _ => {
                let (half, count) = ((ranges >> 1 & 1) as usize, (ranges >> 2) as usize);
                &self.records[half * HALF..][..count.min(HALF)]
            }
        };
        records.iter().filter(|record| record.id.load(Ordering::Acquire) != 0)
    }
}

pub(super) fn head_of(whole: &Mapping) -> &Head {
    // SAFETY: the file's first extent, which is reserved, begins with a head: numbers, for which every content is one.
    unsafe { &*whole.pointer().cast::<Head>() }
}

pub(super) fn extent_of(whole: &Mapping, number: usize) -> &Extent {
    // SAFETY: an extent that is reserved: numbers, for which every content is one.
    unsafe { &*whole.pointer().add(number * EXTENT).cast::<Extent>() }
}

/// Where a pool at rank 0 writes down what becomes of its tasks. Whoever holds the pool's lock writes.
#[derive(Debug)]
pub(crate) struct Book {
    witness: Arc<Witness>,
    pool: u64,
    extents: Vec<usize>,
    /// The maps that are under way, by their numbers in the pool; and how many there have been.
    maps: Vec<Option<Map>>,
    begun: u64,
}

/// A map in the book.
#[derive(Debug)]
struct Map {
    /// The how manieth of its pool.
    number: u64,
    extent: usize,
}

/// Items of a map that are in no chunk: where they begin, how many they are, and whether they may have run.
pub(crate) type Range = (u64, u64, bool);

impl Book {
    pub(crate) fn new(witness: &Arc<Witness>, pool: u64) -> Book {
        Book { witness: Arc::clone(witness), pool, extents: Vec::new(), maps: Vec::new(), begun: 0 }
    }

    /// Room for so many places; -ENOMEM where there is none.
    pub(crate) fn make_room(&mut self, places: usize) -> Result<()> {
        while self.extents.len() * RECORDS < places {
            self.extents.try_reserve(1).map_err(|_| Error::from(Code::errno(libc::ENOMEM)))?;
            let number = self.witness.extent()?;
            extent_of(&self.witness.whole, number).pool.store(self.pool, Ordering::Release);
            self.extents.push(number);
        }
        Ok(())
    }

    fn record(&self, place: u32) -> Option<&Record> {
        let number = *self.extents.get(place as usize / RECORDS)?;
        Some(&extent_of(&self.witness.whole, number).records[place as usize % RECORDS])
    }

    /// A task is in the queue, for the first time or again; where it may have run before, that is what it stays.
    pub(crate) fn queued(&self, place: u32, id: u64, may_have_run: bool) {
        self.put_queued(place, id, (0, 0), may_have_run);
    }

    /// The same of a chunk of a map: where its items begin, and how many they are.
    pub(crate) fn chunk_queued(&self, place: u32, map: usize, items: (u64, u64), may_have_run: bool) {
        let number = self.maps.get(map).and_then(Option::as_ref).map_or(0, |map| map.number);
        self.put_queued(place, number, items, may_have_run);
    }

    fn put_queued(&self, place: u32, id: u64, (first, items): (u64, u64), may_have_run: bool) {
        let Some(record) = self.record(place) else { return };
        record.state.store(if may_have_run { kind::SENT } else { kind::QUEUED }, Ordering::Release);
        record.first.store(first, Ordering::Release);
        record.items.store(items, Ordering::Release);
        record.id.store(id, Ordering::Release);
    }

    /// A map begins, and none of its items is in a chunk; -ENOMEM where there is no room for it.
    pub(crate) fn begin_map(&mut self, map: usize, first: u64, items: u64) -> Result<()> {
        let missing = (map + 1).saturating_sub(self.maps.len());
        self.maps.try_reserve(missing).map_err(|_| Error::from(Code::errno(libc::ENOMEM)))?;
        let extent = self.witness.extent()?;
        self.maps.resize_with(self.maps.len() + missing, || None);
        self.begun += 1;
        self.maps[map] = Some(Map { number: self.begun, extent });
        self.put_ranges(map, [(first, items, false)].into_iter());
        extent_of(&self.witness.whole, extent).pool.store(self.pool, Ordering::Release);
        Ok(())
    }

    /// These items of a map are in no chunk, and have not settled. Of more ranges than there is room for the last ones are one, which has to
    /// say that all in it may have run.
    pub(crate) fn put_ranges(&self, map: usize, ranges: impl Iterator<Item = Range>) {
        let Some(Map { number, extent }) = self.maps.get(map).and_then(Option::as_ref) else { return };
        let extent = extent_of(&self.witness.whole, *extent);
        let half = extent.ranges.load(Ordering::Relaxed) >> 1 & 1 ^ 1;
        let records = &extent.records[half as usize * HALF..][..HALF];
        let mut count = 0;
        for (first, items, may_have_run) in ranges.filter(|(_, items, _)| *items > 0) {
            let (mut first, mut end, mut may_have_run) = (first, first + items, may_have_run);
            if count == HALF {
                count -= 1;
                let last = &records[count];
                let last_first = last.first.load(Ordering::Relaxed);
                first = first.min(last_first);
                end = end.max(last_first + last.items.load(Ordering::Relaxed));
                may_have_run = true;
            }
            let record = &records[count];
            let state = if may_have_run { kind::SENT } else { kind::QUEUED };
            record.state.store(state, Ordering::Relaxed);
            record.first.store(first, Ordering::Relaxed);
            record.items.store(end - first, Ordering::Relaxed);
            record.id.store(*number, Ordering::Relaxed);
            count += 1;
        }
        extent.ranges.store(1 | half << 1 | (count as u64) << 2, Ordering::Release);
    }

    /// All items of a map have settled.
    pub(crate) fn end_map(&mut self, map: usize) {
        if let Some(Map { extent, .. }) = self.maps.get_mut(map).and_then(Option::take) {
            self.give_back(extent);
        }
    }

    /// A task is about to be on its way to a rank.
    pub(crate) fn sent(&self, place: u32, rank: usize) {
        self.put(place, kind::SENT | (rank as u64) << 8);
    }

    /// A task has settled; deliveries are numbered as [`DELIVERIES`] are.
    pub(crate) fn settled(&self, place: u32, status: i32, delivery: usize) {
        self.put(place, kind::SETTLED | (delivery as u64) << 8 | u64::from(status as u32) << 32);
    }

    fn put(&self, place: u32, state: u64) {
        if let Some(record) = self.record(place) {
            record.state.store(state, Ordering::Release);
        }
    }

    /// What came of a task has been taken.
    pub(crate) fn closed(&self, place: u32) {
        let (Some(record), Some(first)) = (self.record(place), self.extents.first()) else { return };
        record.id.store(0, Ordering::Release);
        let closed = &extent_of(&self.witness.whole, *first).closed;
        closed.store(closed.load(Ordering::Relaxed) + 1, Ordering::Relaxed); // Under the pool's lock.
    }
}

impl Book {
    fn give_back(&self, number: usize) {
        let extent = extent_of(&self.witness.whole, number);
        extent.pool.store(0, Ordering::Release);
        extent.closed.store(0, Ordering::Relaxed);
        // First, so that all records are gone through: of ranges, those that do not count any more are still there.
        extent.ranges.store(0, Ordering::Relaxed);
        extent.records().for_each(|record| record.id.store(0, Ordering::Relaxed));
        self.witness.give_back(number);
    }
}

impl Drop for Book {
    fn drop(&mut self) {
        // A forked child's copy: the records are its parent's, whose tasks go on.
        if self.witness.parent != fork::pid() {
            return;
        }
        let maps = std::mem::take(&mut self.maps);
        let maps = maps.into_iter().flatten().map(|map| map.extent);
        std::mem::take(&mut self.extents).into_iter().chain(maps).for_each(|number| self.give_back(number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_map_stands_in_an_extent_that_is_used_again() {
        let witness = Arc::new(Witness::start().unwrap());
        let mut book = Book::new(&witness, 1);
        book.begin_map(0, 0, 1000).unwrap();
        for count in [HALF as u64, 3, HALF as u64, 1] {
            book.put_ranges(0, (0..count).map(|first| (first * 2, 1, false)));
        }
        let used = book.maps[0].as_ref().unwrap().extent;
        book.end_map(0);
        let mut other = Book::new(&witness, 2);
        other.make_room(1).unwrap();
        assert_eq!(other.extents, [used]);
        assert_eq!(extent_of(&witness.whole, used).records().count(), 0);
        other.queued(7, 5, false);
        assert_eq!(extent_of(&witness.whole, used).records().count(), 1);
    }
}
