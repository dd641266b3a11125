//! All lanes of a pool, and which of them there is something to do about: nothing here passes over all of them for a task.
//!
//! Whoever changes a lane gets at it by [`IndexMut`], which notes the lane as changed. Before anybody asks where lanes stand, the
//! changed ones are put where they belong by now ([`Lanes::sort`]); so the cost of a task is that of the lanes it touches.
//!
//! | row | which lanes | in what order |
//! |---|---|---|
//! | `open`, one for each number of tasks in a ring | those that have room | touched last comes first: the hottest worker |
//! | `full`, one for each number of waiting tasks | those in which tasks wait behind the one in front | the same |
//! | `busy` | those with something in the ring | quiet for the longest comes first |
//! | `behind` | those of `full` | likewise |
//!
//! Each lane is looked at by [`State::look_at_lanes`](super::state::State) when it has changed, when its alarm is due, and with
//! all busy ones now and then: a worker changes words of its ring without telling anybody.

use super::lane::Lane;
use crate::error::Result;
use crate::sys::reserve;
use crate::task::ring::SLOTS;
use std::ops::{Index, IndexMut};

/// Numbers of tasks in a ring, and so bits of a word.
const LEVELS: usize = SLOTS as usize;
const _: () = assert!(LEVELS == u64::BITS as usize);

/// Rows of lanes: each lane is in one of them, or in none. Circles, in each of which one place is no lane but the row itself.
#[derive(Debug)]
struct Rows {
    /// The place before, and the one after; a lane's own where it is in no row.
    links: Vec<(u32, u32)>,
    lanes: usize,
    /// The rows that are not empty.
    filled: u64,
}

impl Rows {
    fn new(lanes: usize, rows: usize) -> Result<Rows> {
        let links = reserve::collect((0..(lanes + rows) as u32).map(|place| (place, place)))?;
        Ok(Rows { links, lanes, filled: 0 })
    }

    fn remove(&mut self, lane: usize) {
        let (before, after) = self.links[lane];
        if before == after && before as usize >= self.lanes {
            self.filled &= !(1 << (before as usize - self.lanes));
        }
        self.links[before as usize].1 = after;
        self.links[after as usize].0 = before;
        self.links[lane] = (lane as u32, lane as u32);
    }

    /// Puts a lane that is in no row between these two.
    fn put(&mut self, lane: usize, row: usize, before: u32, after: u32) {
        self.links[before as usize].1 = lane as u32;
        self.links[after as usize].0 = lane as u32;
        self.links[lane] = (before, after);
        self.filled |= 1 << row;
    }

    fn put_first(&mut self, lane: usize, row: usize) {
        let head = (self.lanes + row) as u32;
        self.put(lane, row, head, self.links[head as usize].1);
    }

    fn put_last(&mut self, lane: usize, row: usize) {
        let head = (self.lanes + row) as u32;
        self.put(lane, row, self.links[head as usize].0, head);
    }

    fn next(&self, place: usize) -> Option<usize> {
        let after = self.links[place].1 as usize;
        (after < self.lanes).then_some(after)
    }

    /// The lanes of a row, in their order.
    fn of(&self, row: usize) -> impl Iterator<Item = usize> + '_ {
        std::iter::successors(self.next(self.lanes + row), |lane| self.next(*lane))
    }

    /// The rows that are not empty, from the lowest on.
    fn filled(&self) -> impl Iterator<Item = usize> + use<> {
        let mut left = self.filled;
        std::iter::from_fn(move || {
            let row = left.trailing_zeros() as usize;
            left &= left.wrapping_sub(1);
            (row < 64).then_some(row)
        })
    }
}

/// When each lane is to be looked at: a tree in which each place has the earlier time of the two below it.
#[derive(Debug)]
struct Alarms {
    times: Vec<u64>,
    lanes: usize,
}

impl Alarms {
    fn new(lanes: usize) -> Result<Alarms> {
        let lanes = lanes.next_power_of_two();
        Ok(Alarms { times: reserve::collect((0..2 * lanes).map(|_| u64::MAX))?, lanes })
    }

    fn set(&mut self, lane: usize, time: u64) {
        let mut place = self.lanes + lane;
        let mut time = time;
        while self.times[place] != time {
            self.times[place] = time;
            if place == 1 {
                return;
            }
            time = time.min(self.times[place ^ 1]);
            place /= 2;
        }
    }

    fn of(&self, lane: usize) -> u64 {
        self.times[self.lanes + lane]
    }

    fn first(&self) -> u64 {
        self.times[1]
    }

    /// A lane whose time this is, or an earlier one.
    fn due(&self, now: u64) -> Option<usize> {
        let mut place = 1;
        if self.first() > now {
            return None;
        }
        while place < self.lanes {
            place *= 2;
            place += usize::from(self.times[place] > self.times[place + 1]);
        }
        Some(place - self.lanes)
    }
}

/// Where a lane was put when it was sorted last.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    is_open: bool,
    is_busy: bool,
    waiting: usize,
    last_look_ns: u64,
    /// It is in the list of those that have changed, and of those to be looked at.
    is_changed: bool,
    is_unseen: bool,
}

#[derive(Debug)]
pub(super) struct Lanes {
    lanes: Vec<Lane>,
    places: Vec<Place>,
    /// These two have room for all lanes.
    changed: Vec<usize>,
    unseen: Vec<usize>,
    open: Rows,
    full: Rows,
    busy: Rows,
    behind: Rows,
    busy_count: usize,
    /// Tasks in rings behind the ones in front.
    waiting: usize,
    alarms: Alarms,
}

impl Index<usize> for Lanes {
    type Output = Lane;

    fn index(&self, slot: usize) -> &Lane {
        &self.lanes[slot]
    }
}

impl IndexMut<usize> for Lanes {
    fn index_mut(&mut self, slot: usize) -> &mut Lane {
        if !std::mem::replace(&mut self.places[slot].is_changed, true) {
            self.changed.push(slot);
        }
        &mut self.lanes[slot]
    }
}

impl Lanes {
    pub(super) fn new(count: usize) -> Result<Lanes> {
        let mut slots: [Vec<usize>; 2] = [reserve::collect(0..count)?, reserve::collect(0..count)?];
        slots.iter_mut().for_each(Vec::clear);
        let [changed, unseen] = slots;
        Ok(Lanes {
            lanes: reserve::collect((0..count).map(|_| Lane::new()))?,
            places: reserve::collect((0..count).map(|_| Place::default()))?,
            changed,
            unseen,
            open: Rows::new(count, LEVELS)?,
            full: Rows::new(count, LEVELS)?,
            busy: Rows::new(count, 1)?,
            behind: Rows::new(count, 1)?,
            busy_count: 0,
            waiting: 0,
            alarms: Alarms::new(count)?,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.lanes.len()
    }

    /// All of them, for what is no task's affair.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.iter()
    }

    /// A lane, to note down what has nothing to do with where it stands.
    pub(super) fn quietly(&mut self, slot: usize) -> &mut Lane {
        &mut self.lanes[slot]
    }

    /// Puts the lanes that have changed where they belong.
    pub(super) fn sort(&mut self) {
        for at in 0..self.changed.len() {
            let slot = self.changed[at];
            let (lane, place) = (&self.lanes[slot], &mut self.places[slot]);
            let (in_ring, waiting) = (lane.in_ring(), lane.waiting());
            let moved = place.last_look_ns != lane.last_look_ns();
            self.open.remove(slot);
            place.is_open = lane.has_room();
            if place.is_open {
                self.open.put_first(slot, in_ring);
            }
            if place.is_busy != (in_ring > 0) || moved {
                self.busy.remove(slot);
                self.busy_count -= usize::from(place.is_busy);
                place.is_busy = in_ring > 0;
                if place.is_busy {
                    self.busy.put_last(slot, 0);
                    self.busy_count += 1;
                }
            }
            if place.waiting != waiting {
                self.full.remove(slot);
                if waiting > 0 {
                    self.full.put_first(slot, waiting);
                }
            }
            if (place.waiting > 0) != (waiting > 0) || moved {
                self.behind.remove(slot);
                if waiting > 0 {
                    self.behind.put_last(slot, 0);
                }
            }
            self.waiting = self.waiting + waiting - place.waiting;
            (place.waiting, place.last_look_ns) = (waiting, lane.last_look_ns());
            place.is_changed = false;
            if !std::mem::replace(&mut place.is_unseen, true) {
                self.unseen.push(slot);
            }
        }
        self.changed.clear();
    }

    /// Whether a worker could be given a task.
    pub(super) fn any_open(&mut self) -> bool {
        self.sort();
        self.open.filled != 0
    }

    /// Whether a worker has room that is not on one task for too long.
    pub(super) fn any_moving(&mut self, now_ns: u64) -> bool {
        self.sort();
        // In each row the one that came first moved last.
        self.open.filled().any(|row| {
            let first = self.open.next(self.open.lanes + row);
            first.is_some_and(|slot| !self.lanes[slot].is_stuck(now_ns))
        })
    }

    /// Of those that have room and suit, the one with the least in its ring.
    pub(super) fn emptiest(&mut self, suits: impl Fn(&Lane) -> bool) -> Option<usize> {
        self.sort();
        self.open.filled().find_map(|row| self.open.of(row).find(|slot| suits(&self.lanes[*slot])))
    }

    /// One that has nothing to do.
    pub(super) fn idle(&mut self) -> Option<usize> {
        self.sort();
        self.open.of(0).next()
    }

    /// The one behind whose front the most tasks wait.
    pub(super) fn fullest(&mut self) -> Option<usize> {
        self.sort();
        let row = self.full.filled.checked_ilog2()?;
        self.full.of(row as usize).next()
    }

    /// How many tasks wait in rings.
    pub(super) fn waiting(&mut self) -> usize {
        self.sort();
        self.waiting
    }

    pub(super) fn busy_count(&self) -> usize {
        self.busy_count
    }

    /// Those with something in the ring, also among the ones that have not been sorted.
    pub(super) fn busy(&self) -> impl Iterator<Item = usize> + '_ {
        let new = self.changed.iter().copied().filter(|slot| !self.places[*slot].is_busy);
        self.busy.of(0).chain(new)
    }

    /// The busy one that has been quiet for the longest, and the next after another; sorted before.
    pub(super) fn first_busy(&mut self) -> Option<usize> {
        self.sort();
        self.busy.next(self.busy.lanes)
    }

    pub(super) fn next_busy(&self, slot: usize) -> Option<usize> {
        self.busy.next(slot)
    }

    /// The same of those in which tasks wait.
    pub(super) fn first_behind(&mut self) -> Option<usize> {
        self.sort();
        self.behind.next(self.behind.lanes)
    }

    pub(super) fn next_behind(&self, slot: usize) -> Option<usize> {
        self.behind.next(slot)
    }

    /// The next lane that has changed since it was looked at, or whose alarm is due.
    pub(super) fn next_unseen(&mut self, now_ns: u64) -> Option<usize> {
        if let Some(slot) = self.unseen.pop() {
            self.places[slot].is_unseen = false;
            return Some(slot);
        }
        let slot = self.alarms.due(now_ns)?;
        self.alarms.set(slot, u64::MAX);
        Some(slot)
    }

    /// Has all busy ones looked at.
    pub(super) fn look_at_busy(&mut self) {
        let mut next = self.first_busy();
        while let Some(slot) = next {
            if !std::mem::replace(&mut self.places[slot].is_unseen, true) {
                self.unseen.push(slot);
            }
            next = self.next_busy(slot);
        }
    }

    /// When a lane is to be looked at.
    pub(super) fn set_alarm(&mut self, slot: usize, time_ns: u64) {
        self.alarms.set(slot, time_ns);
    }

    /// The same, if that is earlier than has been said.
    pub(super) fn set_alarm_by(&mut self, slot: usize, time_ns: u64) {
        self.alarms.set(slot, time_ns.min(self.alarms.of(slot)));
    }

    /// When the first of them is to be looked at.
    pub(super) fn first_alarm(&self) -> u64 {
        self.alarms.first()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::books::Books;
    use crate::task::function::Callee;
    use crate::task::ring::Segment;

    #[test]
    fn alarms_ring_in_the_order_of_their_times() {
        let mut alarms = Alarms::new(5).unwrap();
        let mut seed = 1u64;
        let mut times = [u64::MAX; 5];
        for _ in 0..2000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (lane, time) = ((seed >> 33) as usize % 5, (seed >> 40) % 100);
            times[lane] = if time < 10 { u64::MAX } else { time };
            alarms.set(lane, times[lane]);
            let first = *times.iter().min().unwrap();
            assert_eq!(alarms.first(), first);
            assert_eq!(alarms.due(50).map(|lane| times[lane]), (first <= 50).then_some(first));
        }
    }

    #[test]
    fn a_lane_stands_where_a_pass_over_all_would_find_it() {
        const LANES: usize = 5;
        let segments: Vec<_> = (0..LANES).map(|_| Segment::create().unwrap().0).collect();
        let (mut lanes, mut books) = (Lanes::new(LANES).unwrap(), Books::default());
        let mut seed = 7u64;
        for round in 0..3000u64 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (slot, what) = ((seed >> 33) as usize % LANES, (seed >> 45) % 8);
            match what {
                0 => lanes[slot].ready = true,
                1 => lanes[slot].retiring = !lanes[slot].retiring,
                2 if lanes[slot].in_ring() > 0 => {
                    _ = lanes[slot].recall_youngest(&segments[slot], &mut books)
                }
                3 if seed.is_multiple_of(5) => lanes[slot] = Lane::new(),
                _ if lanes[slot].has_room() => {
                    let index = books.open().unwrap();
                    let callee = Callee { module: 0, offset: 0 };
                    lanes[slot].push(&segments[slot], &books, index, callee, round, false);
                }
                _ => (),
            }
            let open = || (0..LANES).filter(|slot| lanes.lanes[*slot].has_room());
            let least = open().map(|slot| lanes.lanes[slot].in_ring()).min();
            let most = lanes.iter().map(Lane::waiting).max().filter(|most| *most > 0);
            let waiting: usize = lanes.iter().map(Lane::waiting).sum();
            let busy: Vec<usize> = (0..LANES).filter(|slot| lanes.lanes[*slot].in_ring() > 0).collect();
            let mut found: Vec<usize> =
                lanes.busy().filter(|slot| lanes.lanes[*slot].in_ring() > 0).collect();
            found.sort_unstable();
            assert_eq!(found, busy, "also before they are sorted");
            assert_eq!(lanes.emptiest(|_| true).map(|slot| lanes.lanes[slot].in_ring()), least);
            assert_eq!(lanes.fullest().map(|slot| lanes.lanes[slot].waiting()), most);
            assert_eq!((lanes.waiting(), lanes.busy_count()), (waiting, busy.len()));
            assert_eq!(lanes.idle().is_some(), least == Some(0));
            let order: Vec<u64> = lanes.busy().map(|slot| lanes.lanes[slot].last_look_ns()).collect();
            assert!(order.is_sorted(), "{order:?}");
            assert_eq!(lanes.behind.of(0).count(), lanes.iter().filter(|lane| lane.waiting() > 0).count());
        }
    }
}
