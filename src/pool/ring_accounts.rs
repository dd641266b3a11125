//! All rings of a pool, and which of them there is something to do about: nothing here passes over all of them for a task.
//!
//! Whoever changes a ring gets at it by [`IndexMut`], which notes the ring as changed. Before anybody asks where rings stand, the
//! changed ones are put where they belong by now ([`RingAccounts::sort`]); so the cost of a task is that of the rings it touches.
//!
//! | row | which rings | in what order |
//! |---|---|---|
//! | `open`, one for each [`level`] of tasks in a ring, and as many for rings with the end of a channel | those that have room | touched last comes first: the hottest worker |
//! | `full`, one for each level of waiting tasks | those in which tasks wait behind the one in front | the same |
//! | `busy` | those with something in the ring | quiet for the longest comes first |
//! | `behind` | those of `full` | likewise |
//!
//! Each ring is looked at by [`PoolState::look_at_rings`](super::state::PoolState) when it has changed, when its alarm is due, and with
//! all busy ones now and then: a worker changes words of its ring without telling anybody.

use super::ring_account::RingAccount;
use crate::error::Result;
use crate::sys::reserve;
use crate::task::ring::SLOTS;
use std::ops::{Index, IndexMut};

/// Rings with about as many tasks are one as good as the other: 0, 1, 2 or 3, 4 to 7 and so on. So a task more seldom moves a ring.
const fn level(tasks: usize) -> usize {
    (usize::BITS - tasks.leading_zeros()) as usize
}

const LEVELS: usize = level(SLOTS as usize) + 1;

/// Rows of rings: each ring is in one of them, or in none. Circles, in each of which one place is no ring but the row itself.
#[derive(Debug)]
struct Rows {
    /// The place before, and the one after; a ring's own where it is in no row.
    links: Vec<(u32, u32)>,
    rings: usize,
    /// The rows that are not empty.
    filled: u64,
}

impl Rows {
    fn new(rings: usize, rows: usize) -> Result<Rows> {
        let links = reserve::collect((0..(rings + rows) as u32).map(|place| (place, place)))?;
        Ok(Rows { links, rings, filled: 0 })
    }

    fn remove(&mut self, ring: usize) {
        let (before, after) = self.links[ring];
        if before == after && before as usize >= self.rings {
            self.filled &= !(1 << (before as usize - self.rings));
        }
        self.links[before as usize].1 = after;
        self.links[after as usize].0 = before;
        self.links[ring] = (ring as u32, ring as u32);
    }

    /// Puts a ring that is in no row between these two.
    fn put(&mut self, ring: usize, row: usize, before: u32, after: u32) {
        self.links[before as usize].1 = ring as u32;
        self.links[after as usize].0 = ring as u32;
        self.links[ring] = (before, after);
        self.filled |= 1 << row;
    }

    fn put_first(&mut self, ring: usize, row: usize) {
        let head = (self.rings + row) as u32;
        self.put(ring, row, head, self.links[head as usize].1);
    }

    fn put_last(&mut self, ring: usize, row: usize) {
        let head = (self.rings + row) as u32;
        self.put(ring, row, self.links[head as usize].0, head);
    }

    /// A ring that is in the one row, or in none, becomes the first of the other.
    fn move_first(&mut self, ring: usize, from: u8, to: u8) {
        if from == to && self.is_first(ring, to) {
            return;
        }
        if from != NO_ROW {
            self.remove(ring);
        }
        if to != NO_ROW {
            self.put_first(ring, to as usize);
        }
    }

    /// Whether a ring that is in this row, or in none, is its first.
    fn is_first(&self, ring: usize, row: u8) -> bool {
        row == NO_ROW || self.links[self.rings + row as usize].1 as usize == ring
    }

    fn next(&self, place: usize) -> Option<usize> {
        let after = self.links[place].1 as usize;
        (after < self.rings).then_some(after)
    }

    fn first(&self, row: usize) -> Option<usize> {
        self.next(self.rings + row)
    }

    /// The rings of a row, in their order.
    fn of(&self, row: usize) -> impl Iterator<Item = usize> + '_ {
        std::iter::successors(self.first(row), |ring| self.next(*ring))
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

/// When each ring is to be looked at: a tree in which each place has the earlier time of the two below it.
#[derive(Debug)]
struct Alarms {
    times: Vec<u64>,
    rings: usize,
}

impl Alarms {
    fn new(rings: usize) -> Result<Alarms> {
        let rings = rings.next_power_of_two();
        Ok(Alarms { times: reserve::collect((0..2 * rings).map(|_| u64::MAX))?, rings })
    }

    fn set(&mut self, ring: usize, time: u64) {
        let mut place = self.rings + ring;
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

    fn of(&self, ring: usize) -> u64 {
        self.times[self.rings + ring]
    }

    fn first(&self) -> u64 {
        self.times[1]
    }

    /// A ring whose time this is, or an earlier one.
    fn due(&self, now: u64) -> Option<usize> {
        let mut place = 1;
        if self.first() > now {
            return None;
        }
        while place < self.rings {
            place *= 2;
            place += usize::from(self.times[place] > self.times[place + 1]);
        }
        Some(place - self.rings)
    }
}

const NO_ROW: u8 = u8::MAX;

/// In which rows a ring belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    is_ready: bool,
    is_busy: bool,
    /// The rows of `open` and `full`, or [`NO_ROW`].
    open: u8,
    full: u8,
}

impl Standing {
    const NOWHERE: Standing = Standing { is_ready: false, is_busy: false, open: NO_ROW, full: NO_ROW };
}

impl Standing {
    fn of(ring: &RingAccount) -> Standing {
        let (in_ring, waiting) = (ring.in_ring(), ring.waiting());
        let laden = if in_ring > 0 && ring.carries.is_some() { LEVELS } else { 0 };
        Standing {
            is_ready: ring.ready,
            is_busy: in_ring > 0,
            open: if ring.has_room() { (laden + level(in_ring)) as u8 } else { NO_ROW },
            full: if waiting > 0 { level(waiting) as u8 } else { NO_ROW },
        }
    }
}

/// Where a ring was put when it was sorted last.
#[derive(Clone, Copy, Debug)]
struct Place {
    standing: Standing,
    waiting: usize,
    last_look_ns: u64,
    /// It is in the list of those that have changed, and of those to be looked at.
    is_changed: bool,
    is_unseen: bool,
}

impl Place {
    const NEW: Place = Place {
        standing: Standing::NOWHERE,
        waiting: 0,
        last_look_ns: 0,
        is_changed: false,
        is_unseen: false,
    };
}

#[derive(Debug)]
pub(super) struct RingAccounts {
    rings: Vec<RingAccount>,
    places: Vec<Place>,
    /// These two have room for all rings.
    changed: Vec<usize>,
    unseen: Vec<usize>,
    open: Rows,
    full: Rows,
    busy: Rows,
    behind: Rows,
    ready_count: usize,
    busy_count: usize,
    /// Tasks in rings behind the ones in front.
    waiting: usize,
    alarms: Alarms,
    /// The one from which results have come last, and the one that was taken last because that had enough.
    hot: Option<usize>,
    filling: Option<usize>,
}

impl Index<usize> for RingAccounts {
    type Output = RingAccount;

    fn index(&self, slot: usize) -> &RingAccount {
        &self.rings[slot]
    }
}

impl IndexMut<usize> for RingAccounts {
    #[inline(always)]
    fn index_mut(&mut self, slot: usize) -> &mut RingAccount {
        if !std::mem::replace(&mut self.places[slot].is_changed, true) {
            self.changed.push(slot);
        }
        &mut self.rings[slot]
    }
}

impl RingAccounts {
    pub(super) fn new(count: usize) -> Result<RingAccounts> {
        let mut slots: [Vec<usize>; 2] = [reserve::collect(0..count)?, reserve::collect(0..count)?];
        slots.iter_mut().for_each(Vec::clear);
        let [changed, unseen] = slots;
        Ok(RingAccounts {
            rings: reserve::collect((0..count).map(|_| RingAccount::new()))?,
            places: reserve::collect((0..count).map(|_| Place::NEW))?,
            changed,
            unseen,
            open: Rows::new(count, 2 * LEVELS)?,
            full: Rows::new(count, LEVELS)?,
            busy: Rows::new(count, 1)?,
            behind: Rows::new(count, 1)?,
            ready_count: 0,
            busy_count: 0,
            waiting: 0,
            alarms: Alarms::new(count)?,
            hot: None,
            filling: None,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.rings.len()
    }

    /// All of them, for what is no task's affair.
    pub(super) fn iter(&self) -> impl Iterator<Item = &RingAccount> {
        self.rings.iter()
    }

    /// A ring, to note down what has nothing to do with where it stands.
    pub(super) fn quietly(&mut self, slot: usize) -> &mut RingAccount {
        &mut self.rings[slot]
    }

    /// Puts the rings that have changed where they belong.
    #[inline]
    pub(super) fn sort(&mut self) {
        if !self.changed.is_empty() {
            self.put_changed();
        }
    }

    fn put_changed(&mut self) {
        for at in 0..self.changed.len() {
            self.put(self.changed[at]);
        }
        self.changed.clear();
    }

    #[inline]
    fn put(&mut self, slot: usize) {
        let (ring, place) = (&self.rings[slot], &mut self.places[slot]);
        let (standing, waiting) = (Standing::of(ring), ring.waiting());
        self.waiting = self.waiting + waiting - place.waiting;
        (place.waiting, place.is_changed) = (waiting, false);
        if !std::mem::replace(&mut place.is_unseen, true) {
            self.unseen.push(slot);
        }
        let stays = standing == place.standing && ring.last_look_ns() == place.last_look_ns;
        if !stays || !self.open.is_first(slot, standing.open) {
            self.move_to(slot, standing);
        }
    }

    /// A ring belongs elsewhere now, or became quiet at another time.
    #[inline(never)]
    fn move_to(&mut self, slot: usize, to: Standing) {
        let (ring, place) = (&self.rings[slot], &mut self.places[slot]);
        let from = std::mem::replace(&mut place.standing, to);
        let last_look_ns = ring.last_look_ns();
        let moved = std::mem::replace(&mut place.last_look_ns, last_look_ns) != last_look_ns;
        self.open.move_first(slot, from.open, to.open);
        if from.full != to.full {
            self.full.move_first(slot, from.full, to.full);
        }
        if from.is_busy != to.is_busy || moved {
            self.busy.remove(slot);
            if to.is_busy {
                self.busy.put_last(slot, 0);
            }
        }
        let (was_behind, is_behind) = (from.full != NO_ROW, to.full != NO_ROW);
        if was_behind != is_behind || moved {
            self.behind.remove(slot);
            if is_behind {
                self.behind.put_last(slot, 0);
            }
        }
        self.ready_count = self.ready_count + usize::from(to.is_ready) - usize::from(from.is_ready);
        self.busy_count = self.busy_count + usize::from(to.is_busy) - usize::from(from.is_busy);
    }

    /// Whether a worker has room that is not on one task for too long.
    pub(super) fn any_moving(&mut self, now_ns: u64) -> bool {
        self.sort();
        // In each row the one that came first moved last.
        self.open
            .filled()
            .any(|row| self.open.first(row).is_some_and(|slot| !self.rings[slot].is_stuck(now_ns)))
    }

    /// Of those that have room, one with the least in its ring.
    pub(super) fn emptiest(&mut self) -> Option<usize> {
        let bare = self.emptiest_without_end();
        let laden = (self.open.filled >> LEVELS).trailing_zeros() as usize;
        let bare_row = self.open.filled.trailing_zeros() as usize;
        if laden < LEVELS && laden < bare_row { self.open.first(LEVELS + laden) } else { bare }
    }

    /// The same of those without the end of a channel: a ring has one at a time.
    pub(super) fn emptiest_without_end(&mut self) -> Option<usize> {
        self.sort();
        let row = self.open.filled.trailing_zeros() as usize;
        if row < LEVELS { self.open.first(row) } else { None }
    }

    /// Results have come from this one.
    pub(super) fn has_delivered(&mut self, slot: usize) {
        self.hot = Some(slot);
    }

    /// The one from which results have come last.
    pub(super) fn hot(&self) -> Option<usize> {
        self.hot
    }

    /// Those that are awake or about to be, where short tasks are gathered: the first of them is where results have come from last.
    pub(super) fn gathering(&self) -> [Option<usize>; 2] {
        [self.hot, self.filling]
    }

    /// A task goes to this one, since those have enough.
    pub(super) fn begin_to_fill(&mut self, slot: usize) {
        self.filling = Some(slot);
    }

    /// How long tasks have lately taken; 0 where nothing is known of that.
    pub(super) fn usual_ns(&self) -> u64 {
        self.hot.map_or(0, |slot| self.rings[slot].task_ns())
    }

    /// Since when nothing has come out of a ring in which tasks wait while a worker has nothing to do.
    pub(super) fn uneven_since_ns(&mut self) -> Option<u64> {
        self.idle()?;
        self.first_behind().map(|slot| self.rings[slot].last_look_ns())
    }

    /// One that has nothing to do.
    pub(super) fn idle(&mut self) -> Option<usize> {
        self.sort();
        self.open.first(0)
    }

    /// One behind whose front the most tasks wait.
    pub(super) fn fullest(&mut self) -> Option<usize> {
        self.sort();
        self.full.first(self.full.filled.checked_ilog2()? as usize)
    }

    /// How many tasks wait in rings.
    pub(super) fn waiting(&mut self) -> usize {
        self.sort();
        self.waiting
    }

    /// How many workers take tasks.
    pub(super) fn ready_count(&mut self) -> usize {
        self.sort();
        self.ready_count
    }

    pub(super) fn busy_count(&self) -> usize {
        self.busy_count
    }

    /// Those with something in the ring, also among the ones that have not been sorted.
    pub(super) fn busy(&self) -> impl Iterator<Item = usize> + '_ {
        let new = self.changed.iter().copied().filter(|slot| !self.places[*slot].standing.is_busy);
        self.busy.of(0).chain(new)
    }

    /// The busy one that has been quiet for the longest, and the next after another; sorted before.
    pub(super) fn first_busy(&mut self) -> Option<usize> {
        self.sort();
        self.busy.first(0)
    }

    pub(super) fn next_busy(&self, slot: usize) -> Option<usize> {
        self.busy.next(slot)
    }

    /// The same of those in which tasks wait.
    pub(super) fn first_behind(&mut self) -> Option<usize> {
        self.sort();
        self.behind.first(0)
    }

    pub(super) fn next_behind(&self, slot: usize) -> Option<usize> {
        self.behind.next(slot)
    }

    /// The next ring that has changed since it was looked at, or whose alarm is due.
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

    /// When a ring is to be looked at.
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
    use crate::pool::ledger::Ledger;
    use crate::sys::clock::Moment;
    use crate::task::function::Callee;
    use crate::task::ring::Segment;

    #[test]
    fn alarms_ring_in_the_order_of_their_times() {
        let mut alarms = Alarms::new(5).unwrap();
        let mut seed = 1u64;
        let mut times = [u64::MAX; 5];
        for _ in 0..2000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (ring, time) = ((seed >> 33) as usize % 5, (seed >> 40) % 100);
            times[ring] = if time < 10 { u64::MAX } else { time };
            alarms.set(ring, times[ring]);
            let first = *times.iter().min().unwrap();
            assert_eq!(alarms.first(), first);
            assert_eq!(alarms.due(50).map(|ring| times[ring]), (first <= 50).then_some(first));
        }
    }

    #[test]
    fn a_ring_stands_where_a_pass_over_all_would_find_it() {
        const LANES: usize = 5;
        let segments: Vec<_> = (0..LANES).map(|_| Segment::create().unwrap().0).collect();
        let (mut rings, mut ledger) = (RingAccounts::new(LANES).unwrap(), Ledger::default());
        let mut seed = 7u64;
        for round in 0..3000u64 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (slot, what) = ((seed >> 33) as usize % LANES, (seed >> 45) % 9);
            match what {
                0 => rings[slot].ready = true,
                1 => rings[slot].retiring = !rings[slot].retiring,
                2 if rings[slot].in_ring() > 0 => {
                    _ = rings[slot].recall_youngest(&segments[slot], &mut ledger)
                }
                3 if seed.is_multiple_of(5) => rings[slot] = RingAccount::new(),
                4 if rings[slot].in_ring() > 0 => {
                    let end = rings[slot].front().map(|(_, index)| index);
                    rings[slot].carries = end.filter(|_| rings.rings[slot].carries.is_none());
                }
                _ if rings[slot].has_room() => {
                    let index = ledger.open().unwrap();
                    let callee = Callee { module: 0, offset: 0 };
                    rings[slot].push(&segments[slot], &ledger, index, callee, 0, &Moment::at(round));
                }
                _ => (),
            }
            let open = || (0..LANES).filter(|slot| rings.rings[*slot].has_room());
            let least = open().map(|slot| rings.rings[slot].in_ring()).min();
            let most = rings.iter().map(RingAccount::waiting).max().filter(|most| *most > 0);
            let waiting: usize = rings.iter().map(RingAccount::waiting).sum();
            let busy: Vec<usize> = (0..LANES).filter(|slot| rings.rings[*slot].in_ring() > 0).collect();
            let mut found: Vec<usize> =
                rings.busy().filter(|slot| rings.rings[*slot].in_ring() > 0).collect();
            found.sort_unstable();
            assert_eq!(found, busy, "also before they are sorted");
            let bare = open().filter(|slot| rings.rings[*slot].carries.is_none());
            let bare = bare.map(|slot| level(rings.rings[slot].in_ring())).min();
            let ready = rings.iter().filter(|ring| ring.ready).count();
            let in_ring = |rings: &RingAccounts, slot: usize| level(rings.rings[slot].in_ring());
            assert_eq!(rings.emptiest().map(|slot| in_ring(&rings, slot)), least.map(level));
            let without_end = rings.emptiest_without_end();
            assert_eq!(without_end.map(|slot| in_ring(&rings, slot)), bare);
            assert!(without_end.is_none_or(|slot| rings.rings[slot].carries.is_none()));
            assert_eq!(rings.fullest().map(|slot| level(rings.rings[slot].waiting())), most.map(level));
            assert_eq!(
                (rings.waiting(), rings.busy_count(), rings.ready_count()),
                (waiting, busy.len(), ready)
            );
            assert_eq!(rings.idle().is_some(), least == Some(0));
            let order: Vec<u64> = rings.busy().map(|slot| rings.rings[slot].last_look_ns()).collect();
            assert!(order.is_sorted(), "{order:?}");
            assert_eq!(rings.behind.of(0).count(), rings.iter().filter(|ring| ring.waiting() > 0).count());
        }
    }
}
