//! Threads of the host that wait for the same pool.
//!
//! One of them leads: it sleeps in epoll, and what it finds when it wakes it finds for all. The others sleep on a word
//! of their own until somebody who has the lock sees that their wish has come true, or that nobody leads any more.
//! Whoever leaves while others wait and nobody leads wakes one of them: no wake-up is lost with a thread.

use super::callbacks::tell;
use super::here::run_queued;
use super::state::{ATTENTION, State};
use crate::engine::family::SOCKET;
use crate::error::{Code, Error, Result};
use crate::prim::{AtomicU32, Ordering, futex_wait, futex_wake};
use crate::sys::clock::{Deadline, Timeout, now_ns};
use crate::sys::epoll::Waited;
use crate::sys::fd::{self, Guarded};
use crate::sys::futex::Wait;
use std::os::fd::AsRawFd;
use std::sync::{Arc, MutexGuard};

/// What a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// That this task settles.
    Task(u32),
    /// Any settled task, or that there can be none.
    Next,
    /// A settled chunk of this map.
    Job(usize),
    /// Room in the window for an input of this length.
    Room(usize),
    /// A result of this stream, or that there will be none.
    Stream(usize),
    /// Room in this stream for an item of this length.
    StreamRoom(usize, usize),
    /// That everything has settled.
    Idle,
    /// That any task settles.
    Change,
    /// That all workers are ready.
    Ready,
    /// That all workers have mapped a segment.
    Shared,
    /// Nothing of its own: it moves the pool on in the background.
    Events,
}

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) want: Want,
    number: u64,
    /// 0 while it shall sleep. `None` for the leader, who sleeps in epoll. Release and Acquire are the lock's.
    word: Option<Arc<AtomicU32>>,
}

impl Waiter {
    pub(super) fn wake(&self, attention: &Guarded) {
        match &self.word {
            Some(word) => {
                word.store(1, Ordering::Relaxed);
                futex_wake(word, 1);
            }
            None => fd::eventfd_signal(attention.as_raw_fd()),
        }
    }
}

/// Waits until `check` has an answer. Returns with the lock still held, so that the answer is still true.
pub(super) fn wait<'a, T>(
    pool: &'a super::Inner,
    mut state: MutexGuard<'a, State>,
    want: Want,
    timeout: Timeout,
    mut check: impl FnMut(&mut State) -> Option<Result<T>>,
) -> (MutexGuard<'a, State>, Result<T>) {
    if pool.here.is_none()
        && matches!(want, Want::Next | Want::Task(_) | Want::Stream(_))
        && state.may_answer_at_once()
        && let Some(answer) = check(&mut state)
    {
        state.pass_the_lead();
        return (state, answer);
    }
    let mut deadline = None;
    let mut happened = false;
    loop {
        state.pump(happened);
        happened = false;
        if want != Want::Events {
            state = run_queued(pool, state);
        }
        if pool.background == (want == Want::Events) {
            state = tell(pool, state);
        }
        if let Some(answer) = check(&mut state) {
            state.pass_the_lead();
            return (state, answer);
        }
        // The clock is read only by those who have to wait.
        let deadline = *deadline.get_or_insert_with(|| timeout.deadline());
        if deadline.passed() {
            let errno = if timeout == Timeout::Try { libc::EAGAIN } else { libc::ETIMEDOUT };
            state.pass_the_lead();
            return (state, Err(Code::errno(errno).into()));
        }
        if want != Want::Events && !state.led && look(pool, &mut state) {
            continue;
        }
        let interrupted;
        (state, interrupted, happened) = match state.led {
            false => lead(pool, state, want, deadline),
            true => follow(pool, state, want, deadline),
        };
        if interrupted && pool.interruptible {
            state.pump(true);
            let answer = check(&mut state).unwrap_or_else(|| Err(Code::errno(libc::EINTR).into()));
            state.pass_the_lead();
            return (state, answer);
        }
    }
}

/// Looks for results for a while; whether there are any. Gives up at once where another thread wants the lock.
fn look(pool: &super::Inner, state: &mut State) -> bool {
    if state.books.outstanding == 0 {
        return false;
    }
    let mut spin = state.spin;
    spin.look(|| state.has_results() || pool.is_wanted());
    state.spin = spin;
    state.has_results()
}

type Slept<'a> = (MutexGuard<'a, State>, bool, bool);

/// Sleeps for all. Returns whether a signal came, and whether something has happened to the family.
fn lead<'a>(
    pool: &'a super::Inner,
    mut state: MutexGuard<'a, State>,
    want: Want,
    deadline: Deadline,
) -> Slept<'a> {
    if state.listen() {
        state.stop_listening();
        let happened = state.family.has_news();
        return (state, false, happened);
    }
    let number = enlist(pool, &mut state, want, None);
    state.led = true;
    let deadline = deadline.min(state.next_look());
    state.led_until = deadline;
    drop(state);
    let mut tokens = [0; 32];
    let began = now_ns();
    let waited = pool.epoll.wait(&mut tokens, deadline);
    let slept_ns = now_ns() - began;
    let mut state = pool.lock();
    state.spin.slept(slept_ns);
    state.led = false;
    state.waiters.retain(|waiter| waiter.number != number);
    state.stop_listening();
    let mut happened = matches!(waited, Ok(Waited::TimedOut) | Err(_));
    if let Ok(Waited::Ready(count)) = waited {
        for token in &tokens[..count] {
            match *token {
                ATTENTION => state.attention_seen(),
                token if token >= SOCKET => happened = true,
                slot => happened |= !state.is_ready(slot as usize),
            }
        }
    }
    (state, matches!(waited, Ok(Waited::Interrupted)), happened)
}

/// Sleeps until somebody wakes this very thread.
fn follow<'a>(
    pool: &'a super::Inner,
    mut state: MutexGuard<'a, State>,
    want: Want,
    deadline: Deadline,
) -> Slept<'a> {
    let word = Arc::new(AtomicU32::new(0));
    let number = enlist(pool, &mut state, want, Some(Arc::clone(&word)));
    drop(state);
    let waited = futex_wait(&word, 0, deadline);
    let mut state = pool.lock();
    state.waiters.retain(|waiter| waiter.number != number);
    (state, waited == Wait::Interrupted, false)
}

fn enlist(pool: &super::Inner, state: &mut State, want: Want, word: Option<Arc<AtomicU32>>) -> u64 {
    let number = pool.waiter_numbers.fetch_add(1, Ordering::Relaxed);
    state.waiters.push(Waiter { want, number, word });
    number
}

/// The error of a pool that takes no more tasks, if it is one.
pub(super) fn refusal(state: &State) -> Option<Error> {
    if let Some(error) = &state.broken {
        return Some(error.clone());
    }
    state.closed.then(|| Code::SHUTDOWN.into())
}
