//! Streams: items in one after the other, results out in the same order or as they finish, and never more between the two
//! than the window allows.
//!
//! An item is a task of the pool's ledger that belongs to its stream: no call of the pool's own sees it, until its result has
//! been taken. The stream's own account, a [`StreamState`], is the pool's, under its lock:
//!
//! ```text
//!   put or pulled --> in the line --- settles ---> takeable: at the line's front, or at once if unordered
//!                        |                            | next
//!                        | the stream is destroyed    v
//!                        +--- settles ---> freed    out of the line, its place in the window is free; the caller's until released
//! ```

use super::desk::Key;
use super::inline::run_queued;
use super::ledger::{InputPlace, NewTask, Owner, Rare, TaskState};
use super::standby;
use super::state::PoolState;
use super::submit::resolve;
use super::wait::{Want, refusal, wait};
use super::window::Window;
use super::{Inner, Pool, TaskResult};
use crate::error::{Code, Error, Result};
use crate::sys::clock::{Timeout, now_ns};
use crate::sys::{fork, reserve};
use crate::task::call::CallKind;
use crate::task::function::{Callee, Function};
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};

mod drawing;
use drawing::{AFTER_THE_NEXT, Source};
pub use drawing::{Pull, Pulled};

/// Items of a window of which nothing is said, for each worker: enough to keep one busy with short items.
const WINDOW_PER_WORKER: usize = 16;

/// What a stream can be told; all zero is the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct StreamOptions {
    /// Items that may be in and not out; 0 for 16 per worker.
    pub window_tasks: usize,
    /// Bytes of their inputs together; 0 for as many as the pool's window has.
    pub window_bytes: usize,
    /// How long an item may run; the pool's deadline where nothing is said, 0 for as long as it likes.
    pub deadline_ns: Option<u64>,
    /// How often an item may be run again after its process has died with it.
    pub retries: u32,
    /// Results come as they finish, not in the order of the items.
    pub unordered: bool,
    /// After the first failure nothing more begins.
    pub stop_on_failure: bool,
}

/// A stream of items through a pool.
pub struct Stream {
    inner: Arc<Inner>,
    number: usize,
    callee: Callee,
    options: StreamOptions,
    source: Option<Mutex<Source>>,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("number", &self.number).field("options", &self.options).finish()
    }
}

/// The accounts of a pool's streams.
#[derive(Debug, Default)]
pub(super) struct Streams {
    states: Vec<Option<StreamState>>,
    /// How many have a result that could be taken.
    with_result: usize,
    some_stopped: bool,
}

/// A stream's account.
#[derive(Debug)]
struct StreamState {
    /// The items that are in and not out.
    window: Window,
    /// These items in the order in which they come out: that of the input; if unordered, those that have settled.
    order: VecDeque<u32>,
    /// The first of them has settled.
    has_result: bool,
    unordered: bool,
    stop_on_failure: bool,
    /// No more input.
    ended: bool,
    /// An item has failed, and no other is to begin.
    stopped: bool,
    /// Nobody wants the results.
    abandoned: bool,
    /// Items are drawn; a thread is at it; and how many bytes the next has that is known already.
    pulls: bool,
    drawing: bool,
    needs: usize,
}

impl StreamState {
    /// Whether there is room for one more item, and nobody who sees to that.
    fn is_to_be_drawn(&self) -> bool {
        self.pulls && !self.drawing && !self.ended && !self.stopped && self.window.has_room(self.needs)
    }
}

impl Pool {
    /// Begins a stream that calls a function of tasks for each item; the items are put, or drawn from `pull`.
    pub fn stream(
        &self,
        function: Function<'_>,
        pull: Option<Pull>,
        options: StreamOptions,
    ) -> Result<Stream> {
        let inner = self.inner()?;
        reserve::suffices()?;
        let mut state = inner.lock();
        let callee = resolve(inner, &mut state, function)?;
        if let Some(error) = refusal(&state) {
            return Err(error);
        }
        let or = |value: usize, default: usize| if value == 0 { default } else { value };
        let stream = StreamState {
            window: Window::new(
                or(options.window_tasks, WINDOW_PER_WORKER * inner.workers),
                or(options.window_bytes, state.submissions.window().most_bytes()),
            ),
            order: VecDeque::new(),
            has_result: false,
            unordered: options.unordered,
            stop_on_failure: options.stop_on_failure,
            ended: false,
            stopped: false,
            abandoned: false,
            pulls: pull.is_some(),
            drawing: false,
            needs: 0,
        };
        let states = &mut state.streams.states;
        let number = states.iter().position(Option::is_none).unwrap_or(states.len());
        if number == states.len() {
            states.try_reserve(1).map_err(|_| Code::errno(libc::ENOMEM))?;
            states.push(None);
        }
        states[number] = Some(stream);
        drop(state);
        let source = pull.map(|pull| Mutex::new(Source::new(pull)));
        Ok(Stream { inner: Arc::clone(&self.inner), number, callee, options, source })
    }
}

impl Stream {
    fn inner(&self) -> Result<&Inner> {
        if self.inner.pid == fork::pid() { Ok(&self.inner) } else { Err(Code::FORKED.into()) }
    }

    /// Puts an item in; waits while the window is full.
    pub fn put(&self, input: &[u8], user: usize, timeout: Timeout) -> Result<()> {
        let inner = self.inner()?;
        if self.source.is_some() {
            return Err(Error::invalid("the stream draws its input by .pull"));
        }
        let number = self.number;
        inner.check_for_nodes(input, false)?;
        standby::guard(&self.inner, false)?;
        let mut state = inner.lock();
        state.stream(number).window.check("an item", "the stream's window", input.len())?;
        let want = Want::StreamRoom(number, input.len());
        let (waited, room) =
            wait(inner, state, want, timeout, |state| state.room_in_stream(number, input.len()));
        state = waited;
        let placed = match room {
            Ok(()) if inner.is_long(input) => {
                // The room is kept for it. Neither whoever waits for room behind this one nor whoever is to lead waits for the copying.
                state.stream_mut(number).window.reserve(input.len());
                state.tell_of_room_in_stream(number);
                state.leave();
                drop(state);
                let placed = inner.place_input(input);
                state = inner.lock();
                state.stream_mut(number).window.release(input.len());
                // The pool and the stream may have come to their end.
                placed.and_then(|place| match state.end_of_input(number) {
                    Some(error) => {
                        inner.take_input_back(place);
                        Err(error)
                    }
                    None => Ok(place),
                })
            }
            room => room.and_then(|()| inner.place_input(input)),
        };
        let entered = placed.and_then(|place| self.enter(&mut state, place, input, user));
        // Room is told to one at a time: the next one may have the rest of it, or all, if this one has failed.
        state.tell_of_room_in_stream(number);
        state.hand_in(entered?);
        run_queued(inner, state).leave();
        Ok(())
    }

    /// Enters an item for which there is room; it is still to be handed in.
    fn enter(&self, state: &mut PoolState, place: InputPlace, input: &[u8], user: usize) -> Result<u32> {
        let stream = state.stream_mut(self.number);
        // Where the order is that in which they settle, each will need a place then, when nothing may fail any more.
        let inside =
            if stream.unordered { stream.window.tasks().saturating_sub(stream.order.len()) } else { 0 };
        let room = stream.order.try_reserve(inside + 1).map_err(|_| Code::errno(libc::ENOMEM).into());
        let room = reserve::suffices().and(room);
        let retries = self.options.retries;
        let rare = || if retries == 0 { Ok(None) } else { Rare::new(0, retries, None, None).map(Some) };
        let entered = room.and_then(|()| {
            state.ledger.enter(NewTask {
                user,
                deadline_ns: self.options.deadline_ns.unwrap_or(self.inner.deadline_ns),
                rare: rare()?,
                owner: Owner::stream(self.number),
                ..NewTask::new(CallKind::Task, self.callee, place, input)
            })
        });
        let (index, _) = entered.inspect_err(|_| self.inner.take_input_back(place))?;
        let stream = state.stream_mut(self.number);
        stream.window.enter(input.len());
        if !stream.unordered {
            stream.order.push_back(index);
        }
        Ok(index)
    }

    /// Says that there is no more input. Again is harmless.
    pub fn end(&self) -> Result<()> {
        let mut state = self.inner()?.lock();
        state.stream_mut(self.number).ended = true;
        state.tell_stream(self.number);
        state.waiters.desk.tell_all(Key::StreamRoom(self.number));
        Ok(())
    }

    /// Waits for the next result and takes it.
    pub fn next(&self, timeout: Timeout) -> Result<TaskResult> {
        let inner = self.inner()?;
        let number = self.number;
        let mut left = timeout;
        let deadline = self.source.as_ref().map(|_| timeout.deadline());
        let (mut state, taken) = loop {
            self.draw()?;
            let (state, taken) = wait(inner, inner.lock(), Want::Stream(number), left, |state| {
                match state.take_from_stream(number) {
                    Some(index) => Some(Ok(Some(index))),
                    // Whoever waits draws, too: the one that did so before may not come back.
                    None if state.stream(number).is_to_be_drawn() && refusal(state).is_none() => {
                        Some(Ok(None))
                    }
                    None => state.end_of_stream(number).map(Err),
                }
            });
            match taken {
                Ok(Some(index)) => break (state, Ok(index)),
                Ok(None) => {
                    drop(state);
                    if let Some(deadline) = deadline.filter(|_| timeout != Timeout::Try) {
                        left = deadline.timeout();
                    }
                }
                Err(error) => break (state, Err(error)),
            }
        };
        let index = match taken {
            Ok(index) => index,
            Err(error) if error.code() == Code::EMPTY => {
                drop(state);
                return Err(self.failure().unwrap_or(error));
            }
            Err(error) => return Err(error),
        };
        Ok(state.hand_over(index))
    }
}

/// What becomes of what has not begun when an item has failed, in a stream that stops then.
fn stopped_error() -> Error {
    Error::errno(libc::ECANCELED, "an item of the stream has failed")
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.inner.pid != fork::pid() {
            return;
        }
        let mut state = self.inner.lock();
        let stream = state.stream_mut(self.number);
        stream.abandoned = true;
        stream.ended = true;
        stream.order.clear();
        state.look_at_front(self.number);
        let now = now_ns();
        for index in state.items_in_stream(self.number) {
            match state.ledger.get(index).state {
                TaskState::Settled => state.leave_stream(index),
                _ => drop(state.cancel(index, now)),
            }
        }
        state.close_stream(self.number);
        state.wake_waiters();
        state.tell_what_is_due(now);
        state.leave();
    }
}

impl PoolState {
    fn stream(&self, number: usize) -> &StreamState {
        let Some(stream) = &self.streams.states[number] else { unreachable!("a stream has its state") };
        stream
    }

    fn stream_mut(&mut self, number: usize) -> &mut StreamState {
        let Some(stream) = &mut self.streams.states[number] else { unreachable!("a stream has its state") };
        stream
    }

    /// Whether an item can be put, or why none can ever be.
    pub(super) fn room_in_stream(&self, number: usize, length: usize) -> Option<Result<()>> {
        let has_room = || self.stream(number).window.has_room(length).then_some(Ok(()));
        self.end_of_input(number).map(Err).or_else(has_room)
    }

    /// Why a stream takes no item any more.
    fn end_of_input(&self, number: usize) -> Option<Error> {
        let stream = self.stream(number);
        if stream.stopped {
            return Some(stopped_error());
        }
        if stream.ended {
            return Some(Error::errno(libc::EPIPE, "the stream's input has been ended"));
        }
        refusal(self)
    }

    /// The result that comes next, if it is there.
    fn next_in_stream(&self, number: usize) -> Option<u32> {
        let next = self.stream(number).order.front().copied();
        next.filter(|index| self.ledger.get(*index).state == TaskState::Settled)
    }

    /// What comes next in a stream is another item, or has settled.
    fn look_at_front(&mut self, number: usize) {
        let has_result = self.next_in_stream(number).is_some();
        let had_result = std::mem::replace(&mut self.stream_mut(number).has_result, has_result);
        let with_result = &mut self.streams.with_result;
        *with_result = *with_result + usize::from(has_result) - usize::from(had_result);
    }

    /// What is in a stream and not out.
    fn items_in_stream(&self, number: usize) -> Vec<u32> {
        if self.stream(number).window.tasks() == 0 {
            return Vec::new();
        }
        let of_this = |index: &u32| {
            let entry = self.ledger.get(*index);
            let inside = !matches!(entry.state, TaskState::Free(_) | TaskState::Taken);
            inside && entry.stream() == Some(number)
        };
        self.ledger.places().filter(of_this).collect()
    }

    fn take_from_stream(&mut self, number: usize) -> Option<u32> {
        let index = self.next_in_stream(number)?;
        let length = self.ledger.get(index).input_length;
        self.ledger.get_mut(index).state = TaskState::Taken;
        let stream = self.stream_mut(number);
        stream.order.pop_front();
        stream.window.leave(length);
        if stream.needs == AFTER_THE_NEXT {
            stream.needs = 0;
        }
        self.look_at_front(number);
        self.tell_stream(number);
        self.update_event_fd();
        Some(index)
    }

    /// Why no result will come, where none will.
    fn end_of_stream(&self, number: usize) -> Option<Error> {
        let stream = self.stream(number);
        if stream.window.tasks() > 0 {
            return None;
        }
        if stream.ended || stream.stopped {
            return Some(Code::EMPTY.into());
        }
        refusal(self)
    }

    /// Tells threads that wait for something of any stream that it will not come, where the pool takes nothing any more. Of all else they
    /// are told where it happens.
    pub(super) fn tell_streams(&mut self) {
        if refusal(self).is_some() {
            (0..self.streams.states.len()).for_each(|number| self.tell_stream(number));
        }
    }

    /// Tells threads that wait for something of a stream what has come.
    pub(super) fn tell_stream(&mut self, number: usize) {
        let Some(stream) = &self.streams.states[number] else { return };
        if self.waiters.desk.is_plain() {
            return;
        }
        let to_be_drawn = stream.is_to_be_drawn();
        if self.end_of_stream(number).is_some() {
            self.waiters.desk.tell_all(Key::Stream(number));
        } else if to_be_drawn || self.next_in_stream(number).is_some() {
            self.waiters.desk.tell_first(Key::Stream(number));
        }
        self.tell_of_room_in_stream(number);
    }

    /// The first thread that waits for room in a stream has it, or there will be none. It tells the next one itself.
    pub(super) fn tell_of_room_in_stream(&mut self, number: usize) {
        if let Some(length) = self.waiters.desk.amount(Key::StreamRoom(number))
            && self.room_in_stream(number, length).is_some()
        {
            self.waiters.desk.tell_first(Key::StreamRoom(number));
        }
    }

    /// Whether a result could be taken from any stream.
    pub(super) fn any_stream_has_results(&self) -> bool {
        self.streams.with_result > 0
    }

    /// An item has settled.
    pub(super) fn note_in_stream(&mut self, number: usize, index: u32) {
        let failed = self.ledger.get(index).outcome.as_ref().is_some_and(|outcome| outcome.status < 0);
        self.submissions.count_items(1, usize::from(failed));
        let stream = self.stream_mut(number);
        if stream.abandoned {
            return self.leave_stream(index);
        }
        if stream.unordered {
            stream.order.push_back(index);
        }
        if failed && stream.stop_on_failure && !stream.stopped {
            stream.stopped = true;
            self.streams.some_stopped = true;
            self.waiters.desk.tell_all(Key::StreamRoom(number));
        }
        self.look_at_front(number);
        self.tell_stream(number);
    }

    /// Cancels what has not begun in streams that have failed.
    pub(super) fn stop_streams(&mut self) {
        if !std::mem::take(&mut self.streams.some_stopped) {
            return;
        }
        for number in 0..self.streams.states.len() {
            if !self.streams.states[number].as_ref().is_some_and(|stream| stream.stopped) {
                continue;
            }
            for index in self.items_in_stream(number) {
                if matches!(self.ledger.get(index).state, TaskState::Queued | TaskState::Sent(_)) {
                    self.cancel_unbegun(index);
                }
            }
        }
    }

    /// Nobody wants the result of this item.
    fn leave_stream(&mut self, index: u32) {
        let entry = self.ledger.get(index);
        let (number, length) = (entry.stream(), entry.input_length);
        self.release(index);
        if let Some(number) = number {
            self.stream_mut(number).window.leave(length);
            self.close_stream(number);
        }
    }

    /// Ends the account of a stream that is gone, when nothing of it is on its way any more.
    fn close_stream(&mut self, number: usize) {
        if self.streams.states[number]
            .as_ref()
            .is_some_and(|stream| stream.abandoned && stream.window.tasks() == 0)
        {
            self.streams.states[number] = None;
        }
    }
}
