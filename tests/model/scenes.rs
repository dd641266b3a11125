//! What the threads of each model do, and what must hold once those that live have settled.

use crate::condition::{
    condition_impatient, condition_notifier, condition_notifier_of_two, condition_three, condition_waiter,
};
use crate::error::Code;
use crate::kernel::{Without, check, check_two, quiesce, spawn, step};
use crate::queue::{
    closer as queue_closer, consumer_between as queue_of_both_and_a_consumer,
    producer_between as queue_of_both_and_a_producer, three_consumers as queue_of_consumers,
    three_producers as queue_of_producers,
};
use crate::rwlock::{
    rwlock_reader, rwlock_reader_tries, rwlock_readers_preferred, rwlock_waiting_writer, rwlock_writer,
};
use crate::sync::gate::{Unseen, wait_marked};
use crate::sync::{
    AGAIN, AUTO_RESET, Acquired, Barrier, Event, Mutex, Outcome, PROCESS_OWNED, Patience, Semaphore,
};
use crate::sys::clock::Timeout;
use crate::sys::prim::{AtomicU32, Change, Ordering, futex_change, futex_wake};
use crate::sys::robust::{self, WAITERS};
use loom::cell::UnsafeCell;
use std::cell::Cell;
use std::rc::Rc;

pub(crate) const FOREVER: Timeout = Timeout::Forever;

/// What a lock protects. loom objects where two are at it at a time, or one without having seen the other's writes.
#[derive(Default)]
pub(crate) struct Data {
    cell: UnsafeCell<()>,
    /// Somebody is in the middle of a change.
    torn: Cell<bool>,
}

impl Data {
    pub(crate) fn change(&self, acquired: Acquired) {
        self.cell.with_mut(|_| ());
        self.hear(acquired);
        self.torn.set(true);
        step();
        self.torn.set(false);
        self.cell.with_mut(|_| ());
    }

    pub(crate) fn hear(&self, acquired: Acquired) {
        if acquired == Acquired::OwnerDied {
            self.torn.set(false);
        }
        assert!(!self.torn.get(), "torn data, and nobody was told");
    }

    pub(crate) fn look(&self, acquired: Acquired) {
        self.cell.with(|_| ());
        assert!(
            acquired == Acquired::OwnerDied || !self.torn.get(),
            "torn data, and the reader was not told"
        );
    }
}

pub(crate) fn some<T>(outcome: Outcome<T>) -> T {
    outcome.unwrap_or_else(|code| panic!("{code:?}"))
}

pub(crate) fn new_mutex(flags: u32) -> Mutex {
    // SAFETY: a scene takes a lock only once it is in an `Rc`, which lives as long as the threads that use the lock.
    some(unsafe { Mutex::new(flags) })
}

// ---- the mutex

fn visit(mutex: &Mutex, data: &Data) {
    let acquired = some(mutex.lock(FOREVER));
    data.change(acquired);
    if acquired == Acquired::OwnerDied {
        some(mutex.repair());
    }
    some(mutex.unlock());
}

/// Three who lock and unlock, one of them twice, so that the victim is holder, waiter, woken and barger in turn, and one
/// may barge in while another sleeps.
fn mutex(dies: Option<u32>) {
    three_visit(dies, 0);
}

/// The same among processes, which no kernel marks or wakes anybody for: those that wait have to look.
fn mutex_owned(dies: Option<u32>) {
    three_visit(dies, PROCESS_OWNED);
}

/// One takes it from the dead, while another tries, and finds either it or a living holder.
fn mutex_owned_tries(dies: Option<u32>) {
    let shared = Rc::new((new_mutex(PROCESS_OWNED), Data::default()));
    for dies in [dies, None] {
        let shared = shared.clone();
        spawn(dies, move || attempt(&shared.0, &shared.1));
    }
    attempt(&shared.0, &shared.1);
    assert_eq!(quiesce(), 0, "a try sleeps");
    visit(&shared.0, &shared.1);
}

fn attempt(mutex: &Mutex, data: &Data) {
    match mutex.lock(Timeout::Try) {
        Err(code) => assert_eq!(code, AGAIN),
        Ok(acquired) => {
            data.change(acquired);
            if acquired == Acquired::OwnerDied {
                some(mutex.repair());
            }
            some(mutex.unlock());
        }
    }
}

fn three_visit(dies: Option<u32>, flags: u32) {
    let shared = Rc::new((new_mutex(flags), Data::default()));
    visit(&shared.0, &shared.1); // From here on the short way is open.
    for dies in [dies, None] {
        let shared = shared.clone();
        spawn(dies, move || visit(&shared.0, &shared.1));
    }
    visit(&shared.0, &shared.1);
    visit(&shared.0, &shared.1);
    assert_eq!(quiesce(), 0, "one sleeps on the mutex for good");
    visit(&shared.0, &shared.1);
}

// ---- the semaphore, and with it the gate

fn settled(semaphore: &Semaphore, taken: usize) {
    let asleep = quiesce();
    assert!(asleep == 0 || semaphore.value() == 0, "one sleeps although there is a unit");
    for _ in 0..asleep {
        some(semaphore.release(1));
    }
    assert_eq!(quiesce(), 0, "a unit wakes nobody");
    assert!(semaphore.value() as usize <= taken, "more units than were given");
}

/// The victim is one of two that wait for a unit, while as many are given.
fn semaphore_waiter(dies: Option<u32>) {
    let semaphore = Rc::new(some(Semaphore::new(0, 0, 0)));
    for dies in [dies, None] {
        let semaphore = semaphore.clone();
        spawn(dies, move || some(semaphore.acquire(FOREVER)));
    }
    some(semaphore.release(1));
    some(semaphore.release(1));
    settled(&semaphore, 2);
}

/// The victim is one of three that wait, while one unit comes: the two that live must not both sleep with it there.
fn semaphore_three(dies: Option<u32>) {
    let semaphore = Rc::new(some(Semaphore::new(0, 0, 0)));
    for dies in [dies, None, None] {
        let semaphore = semaphore.clone();
        spawn(dies, move || some(semaphore.acquire(FOREVER)));
    }
    quiesce(); // Whoever lives sleeps; the interesting part begins.
    some(semaphore.release(1));
    settled(&semaphore, 1);
}

/// The victim gives two units to two that wait.
fn semaphore_giver(dies: Option<u32>) {
    let semaphore = Rc::new(some(Semaphore::new(0, 0, 0)));
    for _ in 0..2 {
        let semaphore = semaphore.clone();
        spawn(None, move || some(semaphore.acquire(FOREVER)));
    }
    let giver = semaphore.clone();
    spawn(dies, move || some(giver.release(2)));
    settled(&semaphore, 2);
}

/// Something that a signal handler comes in on: one waits for a unit here, by the way of the semaphore and the event.
struct Interrupted {
    state: AtomicU32,
    unseen: Unseen,
}

impl Interrupted {
    const UNIT: u32 = 1 << 30;

    fn give(&self) {
        futex_change(&self.state, Change::SetOnly(30), 1);
    }

    fn mark(&self) -> Option<u32> {
        let before = self.state.compare_exchange(0, WAITERS, Ordering::SeqCst, Ordering::SeqCst);
        before.map_or_else(|now| now == WAITERS, |_| true).then_some(WAITERS)
    }

    fn has_unit(&self) -> bool {
        self.state.load(Ordering::SeqCst) == Self::UNIT
    }

    /// Waits for a unit; `handler` runs whenever one looks for it, between the wake-up and what is done with that.
    fn wait(&self, handler: impl Fn()) {
        let take = || {
            handler();
            self.state.compare_exchange(Self::UNIT, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        };
        let pass_on = || {
            while self.mark().is_none() {
                if self.has_unit() {
                    futex_wake(&self.state, 1);
                    return;
                }
            }
        };
        let patience = Patience::new(FOREVER, false, false);
        let me = robust::me().expect("a thread of the model");
        some(wait_marked(me, &self.state, &self.unseen, patience, take, || self.mark(), pass_on));
    }
}

/// The victim has been woken by a unit, and before it takes that a signal handler gives one of a semaphore. Two others wait, one for each.
fn semaphore_in_handler(dies: Option<u32>) {
    let other = Interrupted { state: AtomicU32::new(0), unseen: Unseen::new() };
    let shared = Rc::new((some(Semaphore::new(0, 0, 0)), other, Cell::new(0), Cell::new(false)));
    for is_victim in [true, false] {
        let shared = shared.clone();
        spawn(if is_victim { dies } else { None }, move || {
            let looks = Cell::new(0);
            shared.1.wait(|| {
                // At the first look it has not slept.
                if is_victim && looks.replace(looks.get() + 1) == 1 {
                    some(shared.0.release(1));
                }
            });
            shared.2.set(shared.2.get() + 1);
        });
    }
    let taker = shared.clone();
    spawn(None, move || {
        some(taker.0.acquire(FOREVER));
        taker.3.set(true);
    });
    quiesce();
    shared.1.give();
    let asleep = quiesce();
    // Who waits for the semaphore sleeps rightly where nobody has lived to give a unit.
    let is_at_semaphore = asleep == 1 && !shared.3.get();
    assert!(asleep == 0 || is_at_semaphore || !shared.1.has_unit(), "one sleeps although there is a unit");
    assert!(shared.3.get() || shared.0.value() == 0, "one sleeps although the handler has given a unit");
    for _ in 0..asleep {
        shared.1.give();
        some(shared.0.release(1));
        quiesce();
    }
    assert_eq!(quiesce(), 0, "one sleeps for good");
}

// ---- the event

/// Three wait, of whom the victim is one; it is set once, and then as often as somebody waits.
fn event_automatic_waiters(dies: Option<u32>) {
    let event = Rc::new(some(Event::new(AUTO_RESET)));
    for dies in [dies, None, None] {
        let event = event.clone();
        spawn(dies, move || some(event.wait(FOREVER)));
    }
    for _ in 0..4 {
        event.set();
        let asleep = quiesce();
        assert!(asleep == 0 || !event.is_set(), "one sleeps although the event is set");
    }
    assert_eq!(quiesce(), 0, "an event wakes nobody");
}

/// Two wait; the victim sets it.
fn event(dies: Option<u32>, flags: u32) {
    let event = Rc::new(some(Event::new(flags)));
    for _ in 0..2 {
        let event = event.clone();
        spawn(None, move || some(event.wait(FOREVER)));
    }
    let setter = event.clone();
    spawn(dies, move || setter.set());
    for _ in 0..3 {
        let asleep = quiesce();
        assert!(asleep == 0 || !event.is_set(), "one sleeps although the event is set");
        event.set();
    }
    assert_eq!(quiesce(), 0, "an event wakes nobody");
}

fn event_manual(dies: Option<u32>) {
    event(dies, 0);
}

fn event_automatic(dies: Option<u32>) {
    event(dies, AUTO_RESET);
}

// ---- the barrier

/// Meets; whether the barrier is whole.
fn meet(barrier: &Barrier) -> bool {
    match barrier.wait(FOREVER) {
        Ok(_) => true,
        Err(code) => {
            assert_eq!(code, Code::BROKEN);
            false
        }
    }
}

/// Comes for those who never will, until nobody waits.
fn come(barrier: &Barrier) {
    for _ in 0..4 {
        let asleep = quiesce();
        assert!(asleep == 0 || barrier.waiting() as usize == asleep, "a dead party is waited for");
        if barrier.wait(Timeout::Try) == Err(AGAIN) {
            barrier.abort(); // One that died before it came can't be replaced by this one alone.
        }
    }
    assert_eq!(quiesce(), 0, "one sleeps at the barrier for good");
}

/// Two meet twice, so that the second meeting begins while somebody is about to sleep for the first.
fn barrier_twice(dies: Option<u32>) {
    let barrier = Rc::new(some(Barrier::new(2, 0)));
    for dies in [dies, None] {
        let barrier = barrier.clone();
        spawn(dies, move || {
            let _ = meet(&barrier) && meet(&barrier);
        });
    }
    come(&barrier);
}

/// Three meet, of whom one dies: the other two are told, or have met.
fn barrier_met(dies: Option<u32>) {
    let barrier = Rc::new(some(Barrier::new(3, 0)));
    for dies in [dies, None, None] {
        let barrier = barrier.clone();
        spawn(dies, move || {
            meet(&barrier);
        });
    }
    come(&barrier);
}

/// Two of three wait, and one of the two dies.
fn barrier_of_three(dies: Option<u32>) {
    let barrier = Rc::new(some(Barrier::new(3, 0)));
    for dies in [dies, None] {
        let barrier = barrier.clone();
        spawn(dies, move || {
            meet(&barrier);
        });
    }
    come(&barrier);
}

/// One waits while another resets: it is told, or has met the other, and comes again; nobody sleeps for good.
fn barrier_reset(dies: Option<u32>) {
    let barrier = Rc::new(some(Barrier::new(2, 0)));
    let resetter = barrier.clone();
    spawn(dies, move || {
        resetter.reset();
        meet(&resetter);
    });
    let party = barrier.clone();
    spawn(None, move || {
        let _ = meet(&party) || meet(&party);
    });
    come(&barrier);
}

/// One waits while another resets more often than any number that a word beside the meeting has bits for: it is told.
fn barrier_reset_often(dies: Option<u32>) {
    const RESETS: u32 = 18;
    let barrier = Rc::new(some(Barrier::new(2, 0)));
    let party = barrier.clone();
    spawn(None, move || assert!(!meet(&party), "it has met nobody"));
    let resetter = barrier.clone();
    spawn(dies, move || (0..RESETS).for_each(|_| resetter.reset()));
    quiesce();
    barrier.abort();
    assert_eq!(quiesce(), 0, "one sleeps at the barrier for good");
}

/// Three at a barrier for one, which has two seats: who finds none waits for one, whoever dies, and each meets but for a death.
fn barrier_of_one(dies: Option<u32>) {
    let barrier = Rc::new(some(Barrier::new(1, 0)));
    for dies in [dies, None, None] {
        let barrier = barrier.clone();
        spawn(dies, move || {
            if meet(&barrier) {
                return;
            }
            barrier.reset();
        });
    }
    assert_eq!(quiesce(), 0, "one waits for a seat for good");
}

/// Three take turns at a barrier for two, with a fourth: as many are told as there were meetings.
fn barrier_in_turns(dies: Option<u32>) {
    let barrier = Rc::new(some(Barrier::new(2, 0)));
    let (met, told) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    for dies in [dies, None, None, None] {
        let (barrier, met, told) = (barrier.clone(), met.clone(), told.clone());
        spawn(dies, move || {
            if let Ok(last) = barrier.wait(FOREVER) {
                met.set(met.get() + 1);
                told.set(told.get() + u32::from(last));
            }
        });
    }
    quiesce();
    barrier.abort();
    assert_eq!(quiesce(), 0, "one sleeps at the barrier for good");
    if met.get() == 4 {
        assert_eq!(told.get(), 2, "one for each meeting");
    }
}

// ---- the tests

/// How many preemptions: in `make test`, and in `make storm`.
fn explore(name: &str, (short, long): (usize, usize), model: fn(Option<u32>)) {
    let preemptions = if std::env::var_os("TINE_STORM").is_some() { long } else { short };
    let began = std::time::Instant::now();
    let (places, executions) = check(preemptions, Without::Nothing, model);
    println!(
        "{name}: {places} places to die at, {executions} executions, {preemptions} preemptions, {:.1?}",
        began.elapsed()
    );
}

/// Two deaths: a sample in `make test`, all pairs of places in `make storm`.
fn explore_two(name: &str, model: fn(Option<u32>)) {
    let (preemptions, stride) = if std::env::var_os("TINE_STORM").is_some() { (1, 1) } else { (0, 4) };
    let began = std::time::Instant::now();
    let (pairs, executions) = check_two(preemptions, stride, Without::Nothing, model);
    assert!(pairs > 0, "nobody died");
    println!(
        "{name}, two deaths: {pairs} pairs of places, {executions} executions, {preemptions} preemptions, {:.1?}",
        began.elapsed()
    );
}

macro_rules! models {
    ($($model:ident: $preemptions:expr $(, found with $without:ident)?;)*) => { $(
        mod $model {
            use super::*;

            #[test]
            fn settles_whatever_dies() {
                explore(stringify!($model), $preemptions, super::$model);
            }

            #[test]
            fn settles_whichever_two_die() {
                explore_two(stringify!($model), super::$model);
            }

            $(
                /// The model can fail: with a kernel that leaves something out, it does.
                #[test]
                #[should_panic]
                fn fails_without_the_kernel() {
                    // Most are found with fewer preemptions, which takes a fraction of the time.
                    for preemptions in 0..=2 {
                        check(preemptions, Without::$without, super::$model);
                    }
                }
            )?
        }
    )* };
}

models! {
    mutex: (2, 3), found with Looks;
    mutex_owned: (2, 3), found with Looks;
    mutex_owned_tries: (2, 3), found with Looks;
    semaphore_waiter: (2, 3), found with Forwarding;
    semaphore_three: (1, 2), found with Forwarding;
    semaphore_giver: (2, 3), found with Forwarding;
    semaphore_in_handler: (1, 2), found with Forwarding;
    event_manual: (2, 3), found with OneStep;
    event_automatic: (2, 3), found with OneStep;
    event_automatic_waiters: (1, 2), found with Forwarding;
    barrier_met: (2, 3);
    barrier_twice: (2, 3);
    barrier_reset: (2, 3);
    barrier_reset_often: (1, 2);
    barrier_of_three: (2, 3), found with MarksAndLooks;
    barrier_of_one: (1, 2);
    barrier_in_turns: (1, 1);
    condition_waiter: (2, 3), found with Forwarding;
    condition_three: (1, 2), found with Forwarding;
    condition_impatient: (1, 2), found with Forwarding;
    condition_notifier: (2, 3), found with Looks;
    condition_notifier_of_two: (2, 3), found with Looks;
    rwlock_reader: (2, 3), found with Looks;
    rwlock_writer: (2, 3), found with Looks;
    queue_of_consumers: (0, 1), found with MarksAndLooks;
    queue_of_producers: (1, 2), found with MarksAndLooks;
    queue_of_both_and_a_producer: (1, 2), found with Forwarding;
    queue_of_both_and_a_consumer: (1, 2), found with Forwarding;
    queue_closer: (1, 2), found with Forwarding;
    rwlock_waiting_writer: (2, 3);
    rwlock_reader_tries: (2, 3);
    rwlock_readers_preferred: (1, 2), found with Looks;
}

/// The kernel's marks are the quick way to hear of a death, not the only one.
#[test]
fn a_mutex_settles_without_the_kernels_marks() {
    check(2, Without::Marks, mutex);
}

/// Two die with the only two seats of a barrier for one, also before they have come to the meeting that is on.
#[test]
fn a_barrier_settles_without_the_kernels_marks() {
    let (pairs, _) = check_two(0, 1, Without::Marks, barrier_of_one);
    assert!(pairs > 0, "nobody died");
}
