use super::*;
use crate::heap::Heap;
use crate::pool::patience::{HUNG_NS, WEDGED_NS};

/// A ring with these tasks in it.
fn ring_of(tasks: impl IntoIterator<Item = u32>) -> RingAccount {
    let mut ring = RingAccount::new();
    for index in tasks {
        ring.flights[ring.tasks] = Flight::Task(index);
        (ring.tasks, ring.tail, ring.given) = (ring.tasks + 1, ring.tail + 1, ring.given + 1);
    }
    ring
}

#[test]
fn a_ring_is_as_deep_as_its_tasks_are_short() {
    let (segment, _fd) = Segment::create().unwrap();
    let depth_after = |task_ns: u64| {
        let mut ring = RingAccount { done: 1, ..RingAccount::new() };
        (1..=20).for_each(|round| ring.measure(&segment, 1, round * task_ns));
        ring.depth
    };
    assert_eq!(depth_after(100), SLOTS as usize - 1);
    assert_eq!(depth_after(6_000), 10);
    assert_eq!(depth_after(10_000_000), FIRST_DEPTH);
    let mut ring = RingAccount { done: 1, depth: 100, task_ns: 100, ..RingAccount::new() };
    ring.measure(&segment, 1, 10_000_000);
    assert_eq!(ring.depth, FIRST_DEPTH, "one long task is enough");
    // The worker was asleep, and says so: `done` is 0, and its pace up to there is 0.
    let mut ring = RingAccount { task_ns: 1_000, ..RingAccount::new() };
    (1..=20).for_each(|round| ring.measure(&segment, 1, round * 50_000));
    assert_eq!(ring.depth, SLOTS as usize - 1);
}

#[test]
fn what_is_to_blame_stays_until_its_worker_has_had_its_time() {
    let (segment, _fd) = Segment::create().unwrap();
    let mut ledger = Ledger::default();
    let index = ledger.open().unwrap();
    segment.slot(0).state.store(state::READY, Ordering::Relaxed);
    let ring = || ring_of([index]);
    assert_eq!(ring().give_up(&segment, &mut ledger, false, WEDGED_NS + 1), (vec![index], true));
    segment.slot(0).state.store(state::READY, Ordering::Relaxed);
    let mut kept = ring();
    assert_eq!(kept.give_up(&segment, &mut ledger, true, WEDGED_NS + 1), (vec![], true));
    assert_eq!((kept.blamed, kept.front()), (None, Some((0, index))));
    assert!(segment.slot(0).is_ready(), "it may still be begun");
    assert_eq!(kept.give_up(&segment, &mut ledger, true, HUNG_NS + 2), (vec![], false));
    assert_eq!(kept.blamed, Some(index));
    let mut thawed = ring();
    assert_eq!(thawed.give_up(&segment, &mut ledger, true, 5 * HUNG_NS), (vec![], true), "nobody has looked");
    assert!(!thawed.is_hung(5 * HUNG_NS + WEDGED_NS));
}

#[test]
fn a_worker_that_begins_while_it_is_given_up_on_is_believed() {
    let (segment, _fd) = Segment::create().unwrap();
    let mut ledger = Ledger::default();
    let index = ledger.open().unwrap();
    for (blamed, now_ns) in [(false, WEDGED_NS + 1), (true, HUNG_NS + 1)] {
        segment.slot(0).state.store(state::STARTED, Ordering::Relaxed);
        let mut ring = ring_of([index]);
        ring.lose_patience(WEDGED_NS);
        assert_eq!(ring.give_up(&segment, &mut ledger, blamed, now_ns), (vec![], true));
        assert_eq!((ring.blamed, ring.front()), (None, Some((0, index))));
        segment.slot(0).state.store(state::RECALLED, Ordering::Relaxed);
        assert!(!ring.give_up(&segment, &mut ledger, blamed, now_ns).1, "nobody but the host writes that");
    }
}

#[test]
fn tasks_are_gathered_while_they_take_less_than_a_wake_up() {
    let ring = |task_ns| RingAccount { task_ns, ..ring_of(0..4) };
    assert!(ring(1_000).is_sooner(0, 0) && !ring(1_000).is_sooner(100, 0));
    assert!(!ring(10_000_000).is_sooner(0, 1_000) && ring(u64::MAX).is_worth_sharing(0, 0));
    assert!(!ring(0).is_sooner(0, 0) && ring(0).is_sooner(0, 1_000) && !ring(0).is_sooner(0, 1_000_000));
    assert!(!ring(1_000).is_worth_sharing(BRISK_NS, 0), "it is about to be done");
    assert!(
        ring(1_000).is_worth_sharing(BRISK_NS + 1, 0),
        "the one in front takes longer than the last ones"
    );
}

#[test]
fn what_has_ended_once_has_ended() {
    let (segment, _fd) = Segment::create().unwrap();
    let (mut ring, mut ledger) = (RingAccount::new(), Ledger::default());
    for _ in 0..2 {
        let index = ledger.open().unwrap();
        ring.push(&segment, &ledger, index, Callee { module: 0, offset: 0 }, 0, &Moment::at(1));
    }
    assert!(!ring.has_passed(&segment, 0) && !ring.has_results(&segment));
    segment.commit(1);
    assert!(ring.has_passed(&segment, 0) && !ring.has_passed(&segment, 1));
    segment.commit(0);
    assert!(ring.has_results(&segment), "so that somebody looks");
    assert!(ring.has_passed(&segment, 0) && ring.finished(&segment).is_none());
    segment.commit(3);
    assert!(ring.finished(&segment).is_none(), "more than there are");
}

#[test]
fn nothing_of_a_task_is_left_to_the_next_one_in_its_place() {
    let (segment, _fd) = Segment::create().unwrap();
    let (mut ring, mut ledger) = (RingAccount::new(), Ledger::default());
    let heap = Heap::create(1 << 26).unwrap();
    let index = ledger.open().unwrap();
    let push = |ring: &mut RingAccount, ledger: &Ledger| {
        ring.push(&segment, ledger, index, Callee { module: 0, offset: 0 }, 0, &Moment::at(1));
    };
    push(&mut ring, &ledger);
    (ring.blamed, ring.signalled) = (Some(index), true);
    assert!(segment.slot(0).claim(state::STARTED));
    segment.commit(1);
    assert_eq!(ring.take_all(&segment, &mut ledger, &heap, 1).len(), 1);
    push(&mut ring, &ledger);
    assert_ne!(segment.slot(1).kind.load(Ordering::Relaxed) & flag::SIGNALLED, 0);
    ring.blamed = Some(index);
    assert!(ring.recall(&segment, &mut ledger, index));
    push(&mut ring, &ledger);
    assert_eq!(segment.slot(2).kind.load(Ordering::Relaxed) & flag::SIGNALLED, 0, "once is enough");
    let left = ring.clear(&segment, &mut ledger);
    assert!(left.len() == 1 && !left[0].to_blame && !left[0].begun);
}

#[test]
fn a_signal_for_another_task_is_under_way_until_the_next_one_has_been_passed() {
    let (segment, _fd) = Segment::create().unwrap();
    let (mut ring, mut ledger) = (RingAccount::new(), Ledger::default());
    let heap = Heap::create(1 << 26).unwrap();
    let push = |ring: &mut RingAccount, ledger: &mut Ledger| {
        let index = ledger.open().unwrap();
        ring.push(&segment, ledger, index, Callee { module: 0, offset: 0 }, 0, &Moment::at(1));
        index
    };
    let finish = |ring: &mut RingAccount, ledger: &mut Ledger, position: u32| {
        segment.slot(position).claim(state::STARTED);
        segment.commit(position + 1);
        ring.take_all(&segment, ledger, &heap, 1);
    };
    push(&mut ring, &mut ledger);
    ring.signalled = true;
    assert!(ring.may_meet_a_signal());
    finish(&mut ring, &mut ledger, 0);
    assert!(ring.may_meet_a_signal(), "nothing has come after it");
    let next = push(&mut ring, &mut ledger);
    push(&mut ring, &mut ledger);
    assert!(ring.may_meet_a_signal());
    assert!(ring.recall(&segment, &mut ledger, next), "the worker lets the signal arrive all the same");
    assert!(ring.may_meet_a_signal());
    finish(&mut ring, &mut ledger, 1);
    assert!(!ring.may_meet_a_signal());
    finish(&mut ring, &mut ledger, 2);
    assert!(!ring.may_meet_a_signal());
}

#[test]
fn a_recalled_chunk_leaves_no_cut_behind() {
    let (segment, _fd) = Segment::create().unwrap();
    let (mut ring, mut ledger) = (RingAccount::new(), Ledger::default());
    let index = ledger.open().unwrap();
    ring.push(&segment, &ledger, index, Callee { module: 0, offset: 0 }, 0, &Moment::at(1));
    // As `PoolState::split` does, before the worker has begun.
    segment.slot(0).split.store(1, Ordering::Relaxed);
    ring.split = Some(index);
    assert!(ring.recall(&segment, &mut ledger, index));
    assert_eq!((ring.split, segment.slot(0).split.load(Ordering::Relaxed)), (None, 0));
}

#[test]
fn a_worker_sees_a_task_when_it_is_published() {
    let (segment, _fd) = Segment::create().unwrap();
    let (mut ring, mut ledger) = (RingAccount::new(), Ledger::default());
    let mut push = |ring: &mut RingAccount| {
        let index = ledger.open().unwrap();
        ring.push(&segment, &ledger, index, Callee { module: 0, offset: 0 }, 0, &Moment::at(1));
    };
    push(&mut ring);
    push(&mut ring);
    assert_eq!((segment.positions().0, ring.in_ring()), (0, 2));
    ring.publish(&segment, false);
    assert_eq!(segment.positions().0, 2);
    push(&mut ring);
    assert_eq!(segment.positions().0, 2, "what has been published before says nothing of the next one");
    ring.publish(&segment, false);
    assert_eq!(segment.positions().0, 3);
}

/// A ring so deep, with so many tasks in it, of a worker that was given them all.
fn filled_ring(segment: &Segment, ledger: &mut Ledger, depth: usize, count: usize) -> RingAccount {
    let mut ring = RingAccount { ready: true, depth, ..RingAccount::new() };
    for _ in 0..count {
        let index = ledger.open().unwrap();
        ring.push(segment, ledger, index, Callee { module: 0, offset: 0 }, 0, &Moment::at(1));
    }
    ring
}

#[test]
fn no_worker_has_room_for_more_than_its_quota() {
    let (segment, _fd) = Segment::create().unwrap();
    let mut ledger = Ledger::default();
    let mut ring = filled_ring(&segment, &mut ledger, 10, 4);
    assert_eq!(ring.room(), 6, "the ring alone is what limits it");
    ring.task_quota = 5;
    assert_eq!((ring.has_room(), ring.room()), (true, 1));
    assert!(ring.recall_youngest(&segment, &mut ledger).is_some());
    assert_eq!(ring.room(), 2, "what was taken back was not served");
    ring.task_quota = 3;
    assert_eq!((ring.has_room(), ring.room()), (false, 0));
}

#[test]
fn a_ring_full_of_what_was_taken_back_is_not_waited_for() {
    let (segment, _fd) = Segment::create().unwrap();
    let mut ledger = Ledger::default();
    let mut ring = filled_ring(&segment, &mut ledger, SLOTS as usize - 1, SLOTS as usize - 1);
    assert!(ring.is_full(), "its worker soon has room");
    assert!(segment.slot(0).claim(state::STARTED));
    let (recalled, all) = ring.recall_behind(&segment, &mut ledger);
    assert_eq!((recalled.len(), all), (SLOTS as usize - 2, true));
    assert!(!ring.has_room(), "the worker has not passed over what was taken back");
    assert!(!ring.is_full(), "and does not until the task in front has ended");
}
