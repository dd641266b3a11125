//! Threads of the host that wait for the same pool.
//!
//! One of them leads: it sleeps on the pool's bell, and what it finds when it is up it finds for all. The others sleep on words
//! of their own until their wish has come true, or they are to lead. Who that is, and why no wake-up is lost, is in
//! [`desk`](super::desk); here is what the threads do.

use super::callbacks::tell;
use super::desk::{Key, Sleeper};
use super::inline::run_queued;
use super::ledger::TaskId;
use super::standby;
use super::state::PoolState;
use super::{Held, Inner};
use crate::error::{Code, Error, Result};
use crate::sys::clock::{Deadline, Timeout, now_ns};
use crate::sys::prim::{Wait, futex_wait};
use std::cell::Cell;
use std::sync::Arc;

/// So often a thread that finds something each time comes round at once.
const ROUNDS_IN_ONE: u32 = 3;

/// Of how many tasks the desk knows by name that one thread waits for them.
const MOST_KEYS: usize = 64;

/// What a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want<'a> {
    /// That this task settles.
    Task(u32),
    /// That one of the tasks of this group settles.
    Group(u32),
    /// That all of these tasks have settled. The first so many have.
    Every(&'a [TaskId], &'a Cell<usize>),
    /// Any settled task, or that there can be none.
    Next,
    /// A settled chunk of this map.
    Job(usize),
    /// Room in the window for an input of this length.
    Room(usize),
    /// A result of this stream, or room for one more item to draw, or that there will be none.
    Stream(usize),
    /// Room in this stream for an item of this length.
    StreamRoom(usize, usize),
    /// That everything has settled, maps too.
    Idle,
    /// That all submitted tasks have settled.
    All,
    /// That all workers are ready.
    Ready,
    /// That all workers have mapped a segment.
    Shared,
    /// That all workers are gone.
    Gone,
}

impl Want<'_> {
    /// What the desk knows it by. Of several tasks, those that have not settled; of very many, the first ones, and the next when those
    /// have settled, so that a wait takes little memory however many they are.
    fn keys(self, state: &PoolState) -> Vec<Key> {
        let in_callback = state.is_in_callback();
        vec![match self {
            Want::Task(index) => Key::Task(index),
            Want::Group(number) => Key::Group(number),
            Want::Every(ids, settled) => {
                let open = ids[settled.get()..].iter().filter_map(|id| state.ledger.look_up(*id));
                let open = open.filter(|index| state.is_under_way(*index));
                return open.map(Key::Task).take(MOST_KEYS).collect();
            }
            Want::Next => Key::Next,
            Want::Job(number) => Key::Job(number),
            Want::Room(_) => Key::Room,
            Want::Stream(number) => Key::Stream(number),
            Want::StreamRoom(number, _) => Key::StreamRoom(number),
            Want::Idle => Key::Idle(in_callback),
            Want::All => Key::All(in_callback),
            Want::Ready => Key::Ready,
            Want::Shared => Key::Shared,
            Want::Gone => Key::Gone,
        }]
    }

    fn amount(self) -> usize {
        match self {
            Want::Room(length) | Want::StreamRoom(_, length) => length,
            _ => 0,
        }
    }

    /// What this thread was told of is another's that wishes for it, for now: each may find that it is gone.
    fn pass_on(self, state: &mut PoolState) {
        match self {
            Want::Next => drop(state.waiters.desk.tell_first(Key::Next)),
            Want::Room(_) => state.tell_of_room(),
            Want::Stream(number) => state.tell_stream(number),
            Want::StreamRoom(number, _) => state.tell_of_room_in_stream(number),
            // All who wish for one of these are told.
            _ => (),
        }
    }

    /// Whether it comes true with tasks that settle and in no other way, so that there is nothing to look at before.
    fn is_of_tasks(self) -> bool {
        matches!(self, Want::Task(_) | Want::Group(_) | Want::Every(..))
    }
}

/// A thread's place at the desk while it waits, from when on it has to sleep.
struct Seat<'w> {
    want: Want<'w>,
    taken: Option<(Arc<Sleeper>, Vec<Key>)>,
    /// When it first sat down, if that is traced.
    slept_from: Option<u64>,
}

impl<'w> Seat<'w> {
    fn new(want: Want<'w>) -> Seat<'w> {
        Seat { want, taken: None, slept_from: None }
    }

    /// Whether its wish may have come true: it was told so, or it has no place at which anybody could have told it.
    fn was_told(&self) -> bool {
        self.taken.as_ref().is_none_or(|(sleeper, _)| sleeper.was_told())
    }

    fn is_taken(&self) -> bool {
        self.taken.is_some()
    }

    /// Takes a place, or keeps the one that it has and wishes once more.
    fn sit(&mut self, state: &mut PoolState) -> &Arc<Sleeper> {
        let want = self.want;
        let (sleeper, keys) = self.taken.get_or_insert_with(|| {
            let keys = want.keys(state);
            let (all, may_tell) = (matches!(want, Want::Every(..)), !state.is_in_callback());
            (state.waiters.desk.sit(&keys, all, want.amount(), may_tell), keys)
        });
        if !want.is_of_tasks() {
            for key in keys.iter() {
                state.waiters.desk.wish(sleeper, *key);
            }
        }
        if self.slept_from.is_none() {
            self.slept_from = state.trace_clock();
        }
        sleeper
    }

    /// Gives its place up, if it has one.
    fn rise(&mut self, state: &mut PoolState) {
        if let Some((sleeper, keys)) = self.taken.take() {
            state.waiters.desk.rise(&sleeper, &keys);
        }
    }
}

/// Waits until `check` has an answer. Returns with the lock still held, so that the answer is still true.
#[inline]
pub(super) fn wait<'a, T>(
    pool: &'a Inner,
    mut state: Held<'a>,
    want: Want<'_>,
    timeout: Timeout,
    mut check: impl FnMut(&mut PoolState) -> Option<Result<T>>,
) -> (Held<'a>, Result<T>) {
    let mut has_looked = false;
    if pool.inline_place.is_none()
        && matches!(want, Want::Next | Want::Task(_) | Want::Group(_) | Want::Stream(_))
        && state.may_answer_at_once()
    {
        if let Some(answer) = check(&mut state) {
            // Who takes what is there makes nothing due, but for a stream that may draw another item.
            match want {
                Want::Stream(_) => state.leave(),
                _ => state.leave_quietly(),
            }
            return (state, answer);
        }
        // What a worker that is awake leaves at once is taken in without the pool being moved on, which costs more than the task.
        if timeout != Timeout::Try && state.needs_only_results() {
            has_looked = !look(pool, &mut state);
            if !has_looked
                && state.takes_in_results()
                && let Some(answer) = check(&mut state)
            {
                state.leave();
                return (state, answer);
            }
        }
    }
    wait_in_turn(pool, state, want, timeout, has_looked, check)
}

/// The same where it is not there at once. Whoever `has_looked` for results in vain does so again only after having slept.
#[inline(never)]
fn wait_in_turn<'a, T>(
    pool: &'a Inner,
    mut state: Held<'a>,
    want: Want<'_>,
    timeout: Timeout,
    has_looked: bool,
    check: impl FnMut(&mut PoolState) -> Option<Result<T>>,
) -> (Held<'a>, Result<T>) {
    state.waiters.desk.waiting += 1;
    let mut seat = Seat::new(want);
    let (mut state, answer) = look_and_sleep(pool, state, &mut seat, timeout, has_looked, check);
    seat.rise(&mut state);
    if let Some(began_ns) = seat.slept_from {
        state.trace_wait(began_ns, want);
    }
    if answer.is_err() {
        // It may have been in the way of others, who wish for less.
        state.wake_waiters();
    }
    state.waiters.desk.waiting -= 1;
    state.leave();
    (state, answer)
}

/// Looks and sleeps in turn, until `check` has an answer, the time is over, or a signal ends the wait.
fn look_and_sleep<'a, T>(
    pool: &'a Inner,
    mut state: Held<'a>,
    seat: &mut Seat<'_>,
    timeout: Timeout,
    mut has_looked: bool,
    mut check: impl FnMut(&mut PoolState) -> Option<Result<T>>,
) -> (Held<'a>, Result<T>) {
    let is_of_tasks = seat.want.is_of_tasks();
    let (mut deadline, mut happened) = (None, false);
    // How often it has come round without having slept.
    let mut rounds = 0;
    loop {
        if rounds > 0 && pool.is_wanted() {
            // There may always be something: others need the lock, too.
            state = pool.give_way(state);
        }
        rounds += 1;
        // Where somebody leads, what there is to be found is found.
        if timeout == Timeout::Try || !state.waiters.desk.is_led() {
            state.pump(happened);
        }
        state = run_queued(pool, state);
        if state.has_news() {
            // Callbacks take their time. Others may have what this thread was told of.
            if seat.is_taken() && seat.was_told() {
                seat.want.pass_on(&mut state);
            }
            // A call that does not wait tells what there is, as one does that only polls.
            let until = match timeout {
                Timeout::Try => Deadline::NEVER,
                _ => *deadline.get_or_insert_with(|| timeout.deadline()),
            };
            state = tell(pool, state, until);
        }
        let told = seat.was_told();
        if (told || !is_of_tasks)
            && let Some(answer) = check(&mut state)
        {
            return (state, answer);
        }
        // It was not for this wish that it was told, or not for all of it: there is another one, or it is wished for again.
        if told && is_of_tasks {
            seat.rise(&mut state);
        }
        // The clock is read only by those who have to wait.
        let deadline = *deadline.get_or_insert_with(|| timeout.deadline());
        if deadline.passed() {
            return (state, Err(timeout.error()));
        }
        if !std::mem::take(&mut has_looked) && !state.waiters.desk.is_led() && look(pool, &mut state) {
            continue;
        }
        let sleeper = seat.sit(&mut state);
        let slept = match state.waiters.desk.is_led() {
            false => lead(pool, state, sleeper, deadline, rounds > ROUNDS_IN_ONE),
            true => follow(pool, state, sleeper, deadline),
        };
        (state, happened) = (slept.state, slept.timed_out);
        if slept.has_rested {
            rounds = 0;
        }
        if slept.interrupted && pool.interruptible {
            state.pump(true);
            let answer = check(&mut state).unwrap_or_else(|| Err(Code::errno(libc::EINTR).into()));
            return (state, answer);
        }
    }
}

/// Looks for results for a while; whether there are any. Gives up at once where another thread wants the lock.
fn look(pool: &Inner, state: &mut PoolState) -> bool {
    if state.ledger.outstanding == 0 || pool.on_nodes {
        return false;
    }
    let mut spin = *state.waiters.leader.spin();
    spin.look(|| state.has_results() || pool.is_wanted());
    *state.waiters.leader.spin() = spin;
    state.has_results()
}

/// A thread that was to sleep, with the lock again.
struct Slept<'a> {
    state: Held<'a>,
    /// A signal came.
    interrupted: bool,
    /// So the family is to be looked after.
    timed_out: bool,
    has_rested: bool,
}

/// Sleeps on the bell, for all. One that `is_restless` has come round several times: what a worker need only say, not do, does not keep it up
/// any more.
fn lead<'a>(
    pool: &'a Inner,
    mut state: Held<'a>,
    sleeper: &Arc<Sleeper>,
    deadline: Deadline,
    is_restless: bool,
) -> Slept<'a> {
    let bell = pool.heap.bell();
    state.waiters.desk.begin_to_lead(sleeper);
    bell.leader_lies_down();
    let mut deadline = deadline.min(state.next_look(now_ns())).min(standby::FAR);
    let has_something = state.has_something();
    let is_deaf = has_something && is_restless && !state.has_results();
    let has_rested = !has_something || is_deaf;
    let (mut interrupted, mut timed_out) = (false, false);
    if has_rested {
        let is_idle = state.ledger.outstanding == 0;
        if is_deaf {
            deadline = deadline.min(Deadline::after(standby::DEAF_NS));
        }
        state.waiters.leader.lies_down(deadline, is_idle);
        drop(state);
        pool.heap.rest();
        let began = now_ns();
        let waited = match is_deaf {
            true => futex_wait(&sleeper.word, 0, deadline),
            false => bell.leader_sleeps(deadline),
        };
        let slept_ns = now_ns() - began;
        (interrupted, timed_out) = (waited == Wait::Interrupted, waited == Wait::TimedOut);
        state = pool.lock();
        state.waiters.leader.spin().slept(slept_ns);
    }
    bell.leader_is_up();
    state.waiters.desk.is_up(sleeper);
    Slept { state, interrupted, timed_out, has_rested }
}

/// Sleeps until somebody wakes this very thread.
fn follow<'a>(pool: &'a Inner, mut state: Held<'a>, sleeper: &Arc<Sleeper>, deadline: Deadline) -> Slept<'a> {
    state.waiters.desk.begin_to_follow(sleeper);
    drop(state);
    pool.heap.rest();
    // A sleep without any limit would be gone on with after a signal, and the caller not told.
    let waited = futex_wait(&sleeper.word, 0, deadline.min(standby::FAR));
    let mut state = pool.lock();
    state.waiters.desk.is_up(sleeper);
    Slept { state, interrupted: waited == Wait::Interrupted, timed_out: false, has_rested: true }
}

impl PoolState {
    /// Whether the pool takes no more tasks: [`refusal`] says why.
    #[inline(always)]
    pub(super) fn takes_nothing(&self) -> bool {
        self.life.broken().is_some() || self.life.is_closed()
    }
}

/// The error of a pool that takes no more tasks, if it is one.
#[inline]
pub(super) fn refusal(state: &PoolState) -> Option<Error> {
    if let Some(error) = state.life.broken() {
        return Some(error.clone());
    }
    state.life.is_closed().then(|| Code::SHUTDOWN.into())
}
