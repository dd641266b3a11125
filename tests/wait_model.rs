//! A model of waiting for a pool: the very code of `src/pool/desk.rs` and `src/heap/bell.rs`, on loom's atomics and a model of the
//! futex, with weak memory and every interleaving within a bound of preemptions. Nothing in it has a time limit: a wake-up that is
//! lost is a deadlock, which loom reports.
//!
//! The pool around them is a miniature: a worker that finishes tasks, and the loop of `src/pool/wait.rs`. In two scenes two of its
//! processes die, each before any one of its stores: two workers, or a worker and the supervisor that is to tell of it. Then the time
//! passes after which a sleeping host looks by itself, once, when both have ended.

#![allow(dead_code)] // The code under test is compiled whole, and used in part.

#[path = "../src/heap/bell.rs"]
mod bell;
#[path = "model/death.rs"]
mod death;
#[path = "../src/pool/desk.rs"]
mod desk;
#[path = "model/waits.rs"]
mod prim;

mod heap {
    pub(crate) use crate::bell;
}

mod sys {
    pub(crate) use crate::prim;
    pub(crate) mod clock {
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Deadline {
            Never,
            /// When a sleeper looks by itself.
            Look,
        }
    }

    pub(crate) mod futex {
        use crate::prim::AtomicU32;

        /// A word to sleep on, by its address.
        pub(crate) struct Word {
            word: *const AtomicU32,
            value: u32,
        }

        impl Word {
            pub(crate) fn new(word: &AtomicU32, value: u32) -> Word {
                Word { word, value }
            }

            pub(crate) fn sleep(&self) {
                // SAFETY: the bell lives as long as the model's pool.
                crate::prim::futex_wait(unsafe { &*self.word }, self.value, super::clock::Deadline::Look);
            }
        }
    }
}

use bell::{Bell, standby};
use desk::{Desk, Key};
use loom::sync::{Arc, Mutex, MutexGuard};
use loom::thread;
use prim::{AtomicU32, Ordering, fence, futex_wait};
use sys::clock::Deadline;

/// What the pool's lock protects.
struct State {
    desk: Desk,
    /// Tasks that have settled, and how many there are.
    settled: u32,
    submitted: u32,
    /// Places in the window that are taken.
    taken: u32,
    window: u32,
    /// Callbacks that are to be called, and that are being.
    news: u32,
    telling: u32,
    closed: bool,
}

struct Pool {
    bell: Bell,
    /// The rings: how many tasks each worker has finished.
    done: [AtomicU32; 2],
    /// How many tasks the host has been told of that died with their workers.
    lost: AtomicU32,
    state: Mutex<State>,
}

/// What a thread in the model waits for.
#[derive(Clone, Copy)]
enum Want {
    Task(u32),
    All { in_callback: bool },
    Idle { in_callback: bool },
    Room,
}

impl Want {
    fn key(self) -> Key {
        match self {
            Want::Task(task) => Key::Task(task),
            Want::All { in_callback } => Key::All(in_callback),
            Want::Idle { in_callback } => Key::Idle(in_callback),
            Want::Room => Key::Room,
        }
    }

    fn has_come(self, state: &mut State) -> bool {
        let told = state.news == 0 && state.telling == 0;
        match self {
            Want::Task(task) => state.settled > task,
            Want::All { in_callback } | Want::Idle { in_callback } => {
                state.settled == state.submitted && (told || in_callback)
            }
            Want::Room if state.closed => true,
            Want::Room if state.taken < state.window => {
                state.taken += 1;
                true
            }
            Want::Room => false,
        }
    }
}

impl Pool {
    fn new(submitted: u32) -> Arc<Pool> {
        let (desk, settled, taken, window) = (Desk::new(), 0, 0, 1);
        let (news, telling, closed) = (0, 0, false);
        let state = Mutex::new(State { desk, settled, submitted, taken, window, news, telling, closed });
        prim::begin();
        death::begin();
        let done = [AtomicU32::new(0), AtomicU32::new(0)];
        Arc::new(Pool { bell: Bell::default(), done, lost: AtomicU32::new(0), state })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Gives the lock back, and wakes.
    fn unlock(&self, mut state: MutexGuard<'_, State>) {
        let woken = state.desk.take_woken();
        drop(state);
        woken.iter().for_each(|sleeper| sleeper.wake(&self.bell));
    }

    /// The worker finishes one task after the other.
    fn work(&self, tasks: u32) {
        self.work_as(0, tasks);
    }

    fn work_as(&self, worker: usize, tasks: u32) {
        for done in 1..=tasks {
            self.done[worker].store(done, Ordering::Release);
            fence(Ordering::SeqCst);
            self.bell.ring_for_result(|| true);
        }
    }

    /// The supervisor tells of tasks that died with their workers.
    fn tell_of_lost(&self, tasks: u32) {
        self.lost.store(tasks, Ordering::Release);
        self.bell.ring_for_news();
    }

    /// How many tasks have come to their end, as far as the host can know. Who looks by himself asks the kernel, too, who has ended: then
    /// it is all of them, in these scenes.
    fn finished(&self, state: &State) -> u32 {
        if prim::is_late() {
            return state.submitted;
        }
        let done = self.done.iter().map(|done| done.load(Ordering::Acquire)).sum::<u32>();
        done + self.lost.load(Ordering::Acquire)
    }

    fn pump(&self, state: &mut State, with_callbacks: bool) {
        let done = self.finished(state);
        while state.settled < done {
            let task = state.settled;
            state.settled += 1;
            state.news += u32::from(with_callbacks);
            state.desk.tell_all(Key::Task(task));
        }
        self.tell_waiters(state);
    }

    fn tell_waiters(&self, state: &mut State) {
        let told = state.news == 0 && state.telling == 0;
        if state.settled == state.submitted {
            for in_callback in [false, true] {
                if told || in_callback {
                    state.desk.tell_all(Key::All(in_callback));
                    state.desk.tell_all(Key::Idle(in_callback));
                }
            }
        }
        if state.closed {
            state.desk.tell_all(Key::Room);
        } else if state.taken < state.window {
            state.desk.tell_first(Key::Room);
        }
    }

    /// Calls callbacks, each of which may wait itself.
    fn tell<'a>(&'a self, mut state: MutexGuard<'a, State>, inside: Option<Want>) -> MutexGuard<'a, State> {
        if state.telling > 0 {
            return state;
        }
        while state.news > 0 {
            state.news -= 1;
            state.telling += 1;
            state.desk.pass_the_lead();
            self.unlock(state);
            if let Some(want) = inside {
                self.wait(want, false, None);
            }
            state = self.lock();
            state.telling -= 1;
            self.tell_waiters(&mut state);
        }
        state
    }

    /// The loop of `pool::wait`, without a limit.
    fn wait(&self, want: Want, callbacks: bool, inside: Option<Want>) {
        let mut state = self.lock();
        let mut seat = None;
        loop {
            if !state.desk.is_led() {
                self.pump(&mut state, callbacks);
            }
            state = self.tell(state, inside);
            if want.has_come(&mut state) {
                break;
            }
            let sleeper = seat.get_or_insert_with(|| state.desk.sit(&[], false, 1, true)).clone();
            state.desk.wish(&sleeper, want.key());
            if state.desk.is_led() {
                state.desk.begin_to_follow(&sleeper);
                self.unlock(state);
                futex_wait(&sleeper.word, 0, Deadline::Never);
                state = self.lock();
            } else {
                state.desk.begin_to_lead(&sleeper);
                self.bell.leader_lies_down();
                if self.finished(&state) == state.settled {
                    self.unlock(state);
                    self.bell.leader_sleeps(Deadline::Look);
                    state = self.lock();
                }
                self.bell.leader_is_up();
            }
            state.desk.is_up(&sleeper);
        }
        if let Some(sleeper) = seat {
            state.desk.rise(&sleeper, &[want.key()]);
        }
        state.desk.pass_the_lead();
        self.unlock(state);
    }

    /// A host's event loop calls in.
    fn poll(&self, callbacks: bool, inside: Option<Want>) {
        let mut state = self.lock();
        self.pump(&mut state, callbacks);
        state = self.tell(state, inside);
        state.desk.pass_the_lead();
        self.unlock(state);
    }

    /// tine's thread, until all has settled.
    fn stand_by(&self) {
        loop {
            let mut state = self.lock();
            self.pump(&mut state, false);
            if state.settled == state.submitted {
                return self.unlock(state);
            }
            self.bell.standby_lies_down(standby::HUNGRY);
            let missed = self.finished(&state) != state.settled;
            self.unlock(state);
            if !missed {
                self.bell.standby_word().sleep();
            }
            self.bell.standby_is_up();
        }
    }

    /// Gives a place in the window back.
    fn give_back(&self) {
        let mut state = self.lock();
        state.taken -= 1;
        self.tell_waiters(&mut state);
        self.unlock(state);
    }
}

fn model(scene: impl Fn() + Sync + Send + 'static) {
    model_with(2, scene);
}

fn model_with(preemptions: usize, scene: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(scene);
}

fn run(pool: &Arc<Pool>, act: impl FnOnce(&Pool) + 'static) -> thread::JoinHandle<()> {
    let pool = Arc::clone(pool);
    thread::spawn(move || act(&pool))
}

fn run_for<T: 'static>(
    pool: &Arc<Pool>,
    act: impl FnOnce(&Arc<Pool>) -> T + 'static,
) -> thread::JoinHandle<T> {
    let pool = Arc::clone(pool);
    thread::spawn(move || act(&pool))
}

const ALL: Want = Want::All { in_callback: false };
const ALL_INSIDE: Want = Want::All { in_callback: true };
const IDLE_INSIDE: Want = Want::Idle { in_callback: true };

#[test]
fn two_threads_that_wait_for_a_task_each() {
    model(|| {
        let pool = Pool::new(2);
        let worker = run(&pool, |pool| pool.work(2));
        let other = run(&pool, |pool| pool.wait(Want::Task(1), false, None));
        pool.wait(Want::Task(0), false, None);
        other.join().unwrap();
        worker.join().unwrap();
    });
}

#[test]
fn three_threads_of_which_the_first_to_lead_may_leave() {
    model(|| {
        let pool = Pool::new(1);
        let worker = run(&pool, |pool| pool.work(1));
        let one = run(&pool, |pool| pool.wait(Want::Task(0), false, None));
        pool.wait(ALL, false, None);
        one.join().unwrap();
        worker.join().unwrap();
    });
}

#[test]
fn a_thread_that_waits_beside_an_event_loop() {
    model(|| {
        let pool = Pool::new(1);
        let worker = run(&pool, |pool| pool.work(1));
        let events = run(&pool, |pool| {
            pool.poll(true, None);
            pool.poll(true, None);
        });
        pool.wait(ALL, true, None);
        events.join().unwrap();
        worker.join().unwrap();
    });
}

#[test]
fn a_callback_that_waits_for_everything_while_another_thread_does() {
    for inside in [ALL_INSIDE, IDLE_INSIDE] {
        model(move || {
            let pool = Pool::new(1);
            let worker = run(&pool, |pool| pool.work(1));
            let events = run(&pool, move |pool| pool.poll(true, Some(inside)));
            pool.wait(ALL, true, Some(inside));
            events.join().unwrap();
            worker.join().unwrap();
        });
    }
}

#[test]
fn a_callback_that_waits_for_the_next_task_while_another_thread_waits_for_it() {
    model(|| {
        let pool = Pool::new(2);
        let worker = run(&pool, |pool| pool.work(2));
        let other = run(&pool, |pool| pool.wait(Want::Task(1), true, None));
        pool.wait(Want::Task(0), true, Some(Want::Task(1)));
        other.join().unwrap();
        worker.join().unwrap();
    });
}

#[test]
fn threads_that_wait_for_room_one_after_the_other() {
    model(|| {
        let pool = Pool::new(0);
        let enter = |pool: &Pool| {
            pool.wait(Want::Room, false, None);
            pool.give_back();
        };
        let others = [run(&pool, enter), run(&pool, enter)];
        enter(&pool);
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

#[test]
fn a_shutdown_ends_the_wait_for_room() {
    model(|| {
        let pool = Pool::new(1);
        pool.lock().taken = 1;
        let worker = run(&pool, |pool| pool.work(1));
        let other = run(&pool, |pool| pool.wait(Want::Room, false, None));
        let mut state = pool.lock();
        state.closed = true;
        state.desk.tell_everybody();
        pool.unlock(state);
        pool.wait(ALL, false, None);
        other.join().unwrap();
        worker.join().unwrap();
    });
}

#[test]
fn the_thread_that_stands_by_sees_every_low_ring() {
    model(|| {
        let pool = Pool::new(2);
        let worker = run(&pool, |pool| pool.work(2));
        let standby = run(&pool, |pool| pool.stand_by());
        worker.join().unwrap();
        standby.join().unwrap();
    });
}

/// Before which of their stores the two die that are to, all pairs or each `stride`-th of each; how many pairs there were in which both
/// did.
fn each_pair(scene: fn(dies: (u32, u32)) -> (bool, bool)) -> u32 {
    let stride = if std::env::var_os("TINE_STORM").is_some() { 1 } else { 2 };
    let mut pairs = 0;
    for first in (1..).step_by(stride) {
        let mut any = false;
        for second in (1..).step_by(stride) {
            let died = std::sync::Arc::new(std::sync::Mutex::new((false, false)));
            let seen = std::sync::Arc::clone(&died);
            model_with(1, move || {
                let (first, second) = scene((first, second));
                let mut seen = seen.lock().unwrap();
                *seen = (seen.0 || first, seen.1 || second);
            });
            let (first_died, second_died) = *died.lock().unwrap();
            any |= first_died;
            pairs += u32::from(first_died && second_died);
            if !second_died {
                break;
            }
        }
        if !any {
            return pairs;
        }
    }
    unreachable!()
}

#[test]
fn two_workers_die_while_the_host_waits() {
    let pairs = each_pair(|dies| {
        let pool = Pool::new(2);
        let mortal =
            |dies, worker| death::spawn(dies, Arc::clone(&pool), move |pool| pool.work_as(worker, 1));
        let workers = [mortal(dies.0, 0), mortal(dies.1, 1)];
        let supervisor = run_for(&pool, move |pool| {
            let died = workers.map(|worker| worker.join().unwrap().is_none());
            let lost = died
                .iter()
                .zip(&pool.done)
                .filter(|(died, done)| **died && done.load(Ordering::Acquire) == 0);
            pool.tell_of_lost(lost.count() as u32);
            prim::time_passes();
            died
        });
        pool.wait(ALL, false, None);
        let [first, second] = supervisor.join().unwrap();
        (first, second)
    });
    println!("two workers die: {pairs} pairs of places to die at");
    assert!(pairs > 0);
}

#[test]
fn a_worker_dies_and_the_supervisor_that_was_to_tell() {
    let pairs = each_pair(|dies| {
        let pool = Pool::new(2);
        let worker = death::spawn(dies.0, Arc::clone(&pool), |pool| pool.work(2));
        let others = run_for(&pool, move |pool| {
            let worker_died = worker.join().unwrap().is_none();
            let supervisor = death::spawn(dies.1, Arc::clone(pool), move |pool| {
                if worker_died {
                    pool.tell_of_lost(2 - pool.done[0].load(Ordering::Acquire));
                }
            });
            let supervisor_died = supervisor.join().unwrap().is_none();
            prim::time_passes();
            (worker_died, supervisor_died)
        });
        pool.wait(ALL, false, None);
        others.join().unwrap()
    });
    println!("a worker dies, and the supervisor: {pairs} pairs of places to die at");
    assert!(pairs > 0);
}
