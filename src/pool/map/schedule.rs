//! How many items of a map go to a worker at a time.

/// What decides on the length of a chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Schedule {
    /// Chunks of `chunk` items; where that is 0, of as many as have taken about a millisecond, fewer towards the end.
    #[default]
    Measured,
    /// One chunk for each worker.
    Static,
    /// Half of a worker's share of what is left, and never less than `chunk`, but for the last.
    Guided,
}

/// How long a measured chunk is to take.
pub(super) const CHUNK_NS: u64 = 1_000_000;
/// A measured chunk carries at most this much, unless one item is more.
pub(super) const CARRIED_BYTES: usize = 4 << 20;

/// The chunks of one map.
#[derive(Debug)]
pub(super) struct ChunkSizes {
    schedule: Schedule,
    /// Fixed, or the least of a guided one; 0 for none.
    chunk: usize,
    workers: usize,
    count: usize,
    /// The most items that a chunk may have, for the sake of their bytes.
    most: usize,
    /// What has been measured: how many items take so long.
    items: usize,
    pub(super) chunk_ns: u64,
}

impl ChunkSizes {
    /// `carried` and `bytes` are what an item takes of memory that has to be copied, and of any memory; `most_bytes` is
    /// what a chunk may have, 0 for any amount.
    pub(super) fn new(
        (schedule, chunk): (Schedule, usize),
        workers: usize,
        count: usize,
        (carried, bytes): (usize, usize),
        most_bytes: usize,
    ) -> ChunkSizes {
        let fitting =
            |room: usize, each: usize| room.checked_div(each).map_or(usize::MAX, |items| items.max(1));
        let mut most = if most_bytes == 0 { usize::MAX } else { fitting(most_bytes, bytes) };
        if schedule == Schedule::Measured && chunk == 0 {
            most = most.min(fitting(CARRIED_BYTES, carried));
        }
        ChunkSizes { schedule, chunk, workers, count, most, items: chunk.max(1), chunk_ns: CHUNK_NS }
    }

    /// The length of the next chunk where `left` items are.
    pub(super) fn next(&self, left: usize) -> usize {
        let guided = left.div_ceil(2 * self.workers);
        let length = match self.schedule {
            Schedule::Measured if self.chunk == 0 => self.items.min(guided),
            Schedule::Measured => self.chunk,
            Schedule::Static => self.count.div_ceil(self.workers),
            Schedule::Guided => guided.max(self.chunk),
        };
        length.clamp(1, self.most).min(left)
    }

    /// The length of a chunk of what has come back from a worker. Where nothing else is left, no worker is to have it all.
    pub(super) fn of_returned(&self, returned: usize, fresh: usize) -> usize {
        let length = if fresh == 0 { returned.div_ceil(2 * self.workers) } else { self.next(returned) };
        length.clamp(1, self.most).min(returned)
    }

    /// Memory was short for a chunk: measured ones are no longer than this for a while.
    pub(super) fn at_most(&mut self, items: usize) {
        self.items = items.max(1);
    }

    /// Learns from a chunk how long the next should be.
    pub(super) fn measure(&mut self, items: usize, elapsed_ns: u64) {
        // The worker's word: any number.
        self.chunk_ns = self.chunk_ns.saturating_add(elapsed_ns) / 2;
        let each = (elapsed_ns / items.max(1) as u64).max(1);
        self.items = ((CHUNK_NS / each) as usize).clamp(1, self.items.saturating_mul(4));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lengths of all chunks, where nothing is measured.
    fn lengths(sizes: &ChunkSizes, mut left: usize) -> Vec<usize> {
        let mut all = Vec::new();
        while left > 0 {
            let next = sizes.next(left);
            assert!((1..=left).contains(&next));
            all.push(next);
            left -= next;
        }
        all
    }

    fn sizes(schedule: Schedule, chunk: usize, most_bytes: usize) -> ChunkSizes {
        ChunkSizes::new((schedule, chunk), 2, 100, (0, 10), most_bytes)
    }

    #[test]
    fn every_schedule_cuts_the_whole_into_its_chunks() {
        assert_eq!(lengths(&sizes(Schedule::Measured, 40, 0), 100), [40, 40, 20]);
        assert_eq!(lengths(&sizes(Schedule::Static, 0, 0), 100), [50, 50]);
        assert_eq!(lengths(&sizes(Schedule::Guided, 10, 0), 100), [25, 19, 14, 11, 10, 10, 10, 1]);
        assert_eq!(lengths(&sizes(Schedule::Static, 0, 205), 100), [20; 5]);
        assert_eq!(lengths(&sizes(Schedule::Measured, 40, 1), 3), [1; 3]);
    }

    #[test]
    fn measured_chunks_grow_and_shrink() {
        let mut measured = sizes(Schedule::Measured, 0, 0);
        assert_eq!(measured.next(1_000_000), 1);
        for _ in 0..10 {
            measured.measure(1, 1_000);
        }
        assert_eq!(measured.next(1_000_000), 1000);
        assert_eq!(measured.next(400), 100);
        measured.measure(1000, u64::MAX);
        assert_eq!(measured.next(1_000_000), 1);
        measured.measure(usize::MAX, 0);
        assert_eq!(measured.next(1_000_000), 4);
    }

    #[test]
    fn what_comes_back_at_the_end_is_shared_out() {
        let fixed = sizes(Schedule::Measured, 1000, 0);
        assert_eq!(fixed.of_returned(900, 0), 225);
        assert_eq!(fixed.of_returned(900, 5), 900);
        assert_eq!(fixed.of_returned(1, 0), 1);
    }
}
