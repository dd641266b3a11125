//! Submitting: a function is found, its input placed, and the task entered and handed out where a worker has room.

use super::callbacks::Calls;
use super::inline::run_queued;
use super::ledger::{InputPlace, NewTask, Owner, Rare};
use super::looks::Call;
use super::state::PoolState;
use super::wait::{Want, refusal, wait};
use super::{Held, Inner, Pool, SubmitOptions, TaskId};
use crate::channel::Channel;
use crate::check;
use crate::error::{Code, Error, Result};
use crate::sys::clock::{Timeout, now_ns};
use crate::sys::reserve;
use crate::task::call::CallKind;
use crate::task::function::{Callee, Function};
use crate::task::ring::INLINE_INPUT;

/// An input that is longer than this is placed while the lock is free: to have memory for it, and to copy it, takes as long as the
/// machine lets it, and other threads' calls must not.
const LONG: usize = 64 << 10;

impl Pool {
    /// Submits one call of a function. An end of a channel that goes with it is still the caller's to drop.
    pub fn submit(
        &self,
        function: Function<'_>,
        input: &[u8],
        options: &SubmitOptions<'_>,
    ) -> Result<TaskId> {
        self.submit_as(function, input, options)
    }

    /// The same with all defaults: compiled apart, so that nothing is asked about options.
    pub fn submit_plain(&self, function: Function<'_>, input: &[u8]) -> Result<TaskId> {
        self.submit_as(function, input, &SubmitOptions::NONE)
    }

    #[inline(always)]
    fn submit_as(&self, function: Function<'_>, input: &[u8], options: &SubmitOptions<'_>) -> Result<TaskId> {
        let inner = self.inner()?;
        reserve::suffices()?;
        self.guard(!options.callbacks.is_none())?;
        let mut state = inner.lock();
        let callee = resolve(inner, &mut state, function)?;
        let waits = !state.has_room(input.len());
        if waits {
            state = wait_for_room(inner, state, input.len(), options.timeout)?;
        } else if state.takes_nothing() {
            return Err(refused(&state));
        }
        let mut place = None;
        if inner.is_long(input) {
            let placed;
            (state, placed) = inner.place_long(state, input, options)?;
            place = Some(placed);
        }
        let entered = inner.enter(&mut state, callee, input, place, options);
        if waits || place.is_some() {
            // Room is told to one at a time: the next one may have the rest of it, or all, if this one has failed.
            state.tell_of_room();
        }
        let (index, id) = entered?;
        if check::is_on() {
            look_through(input, id, function);
        }
        let is_quiet = state.hand_in(index);
        if inner.inline_place.is_some() {
            state = run_queued(inner, state);
        }
        if is_quiet {
            state.leave_quietly()
        } else {
            state.leave()
        }
        Ok(id)
    }
}

/// Waits until there is room in the window for an input of this length, if there can be.
#[cold]
fn wait_for_room<'a>(inner: &'a Inner, state: Held<'a>, length: usize, timeout: Timeout) -> Result<Held<'a>> {
    state.submissions.window().check("an input", "the window", length)?;
    if state.takes_nothing() {
        return Err(refused(&state));
    }
    let (state, room) = wait(inner, state, Want::Room(length), timeout, |state| {
        refusal(state).map(Err).or_else(|| state.has_room(length).then_some(Ok(())))
    });
    room.map(|()| state)
}

/// Why a pool takes no task that has no supervisor yet, or that takes none any more.
#[cold]
fn refused(state: &PoolState) -> Error {
    refusal(state).unwrap_or_else(|| Code::WORKER_START.into())
}

#[cold]
fn look_through(input: &[u8], id: TaskId, function: Function<'_>) {
    check::look_through(input, || format!("task {:#x} ({}), input", id.0, function.describe()));
}

impl Inner {
    /// Enters a task for which there is room; it is still to be handed in.
    #[inline(always)]
    fn enter(
        &self,
        state: &mut PoolState,
        callee: Callee,
        input: &[u8],
        place: Option<InputPlace>,
        options: &SubmitOptions<'_>,
    ) -> Result<(u32, TaskId)> {
        let is_plain = options.is_plain();
        let mut ready = || {
            self.check_for_nodes(input, options.channel.is_some())?;
            if is_plain { Ok(None) } else { state.rare_of(options).map(Some) }
        };
        let rare = match (ready(), place) {
            (Err(error), Some(place)) => {
                self.take_input_back(place);
                return Err(error);
            }
            (rare, _) => rare?,
        };
        let place = match place {
            Some(place) => place,
            None => self.place_input(input)?,
        };
        let task = NewTask {
            kind: CallKind::Task,
            callee,
            input: place,
            bytes: input,
            user: options.user,
            deadline_ns: options.deadline_ns.unwrap_or(self.deadline_ns),
            rare,
            owner: Owner::Caller,
        };
        let (index, id) = match state.ledger.enter(task) {
            Ok(entered) => entered,
            Err(error) => {
                self.take_input_back(place);
                return Err(error);
            }
        };
        if !is_plain {
            state.expect(index);
        }
        state.submissions.enter(input.len());
        if state.trace.is_some() {
            state.trace_submit(index);
        }
        Ok((index, id))
    }

    /// Where an input travels: in the slot, or in the heap, where it may be already.
    #[inline(always)]
    pub(super) fn place_input(&self, input: &[u8]) -> Result<InputPlace> {
        if input.is_empty() { Ok(InputPlace::Inline) } else { self.place_bytes(input) }
    }

    /// Whether an input is to be copied, and takes so long that it is placed before it is entered.
    #[inline(always)]
    pub(super) fn is_long(&self, input: &[u8]) -> bool {
        input.len() > LONG && !self.heap.overlaps(input.as_ptr().addr(), input.len())
    }

    /// Places a long input for which there is room, with the lock free. The room is kept for it meanwhile: what is being copied must
    /// not be more than the window has.
    #[cold]
    fn place_long<'a>(
        &'a self,
        mut state: Held<'a>,
        input: &[u8],
        options: &SubmitOptions<'_>,
    ) -> Result<(Held<'a>, InputPlace)> {
        if let Err(error) = self.check_for_nodes(input, options.channel.is_some()) {
            state.tell_of_room(); // Perhaps it was this call alone that was told.
            return Err(error);
        }
        state.submissions.reserve(input.len());
        // Neither whoever waits for room behind this one nor whoever is to lead waits for the copying.
        state.tell_of_room();
        state.leave();
        drop(state);
        let placed = self.place_input(input);
        let mut state = self.lock();
        state.submissions.release(input.len());
        let error = match placed {
            Ok(place) if !state.takes_nothing() => return Ok((state, place)),
            Ok(place) => {
                self.take_input_back(place);
                refused(&state)
            }
            Err(error) => error,
        };
        state.tell_of_room();
        Err(error)
    }

    fn place_bytes(&self, input: &[u8]) -> Result<InputPlace> {
        let address = input.as_ptr().expose_provenance();
        let heap = &self.heap;
        if heap.overlaps(address, input.len()) {
            if !heap.contains(address, input.len()) {
                let text = format!("the input at {address:#x} reaches beyond the heap");
                return Err(Error::errno(libc::EFAULT, text));
            }
            return Ok(InputPlace::Heap { address, owned: false });
        }
        if input.len() <= INLINE_INPUT {
            return Ok(InputPlace::Inline);
        }
        let block = heap.allocate(input.len())?;
        // SAFETY: a new block, as long as the input.
        unsafe { std::ptr::copy_nonoverlapping(input.as_ptr(), block.as_ptr(), input.len()) };
        Ok(InputPlace::Heap { address: block.as_ptr().expose_provenance(), owned: true })
    }

    /// An input that nobody is to have after all.
    #[cold]
    pub(super) fn take_input_back(&self, input: InputPlace) {
        if let InputPlace::Heap { address, owned: true } = input {
            let _ = self.heap.free_address(address);
        }
    }
}

/// What a task carries to have this function called.
#[inline(always)]
pub(super) fn resolve(inner: &Inner, state: &mut PoolState, function: Function<'_>) -> Result<Callee> {
    match state.family.callees_mut() {
        Some(callees) => {
            if let Some(place) = &inner.inline_place {
                place.refresh(callees);
            }
            callees.resolve(function)
        }
        None => Err(refused(state)),
    }
}

impl PoolState {
    /// What few tasks are told, with room for all that follows from it.
    #[cold]
    fn rare_of(&mut self, options: &SubmitOptions<'_>) -> Result<Box<Rare>> {
        let end = options.channel.map(Channel::share_end).transpose()?;
        self.make_room_to_enqueue(options.queue_deadline_ns.is_some())?;
        self.make_room_to_tell(&options.callbacks)?;
        let due_ns = options.queue_deadline_ns.map_or(0, |ns| now_ns().saturating_add(ns));
        Rare::new(due_ns, options.retries, Calls::new(options.callbacks.clone()), end)
    }

    /// Enters a task whose entry has been filled and hands it out where a worker has room; looks now and then for results while there is
    /// none. Whether nothing has changed but that a worker has one more behind others: see [`PoolState::leave_quietly`].
    #[inline(always)]
    pub(super) fn hand_in(&mut self, index: u32) -> bool {
        let entry = self.ledger.get(index);
        let is_plain = entry.rare.is_none();
        // When it has to be looked at is for the pump to say.
        let timed = entry.deadline_ns != 0 || !is_plain && entry.queue_due_ns() != 0;
        if timed || self.is_to_look_after(Call::HandedIn) {
            self.enqueue_and_pump(index);
            return false;
        }
        let is_quiet = self.enqueue_and_feed(index, is_plain);
        let grows = self.grow();
        // Whoever looks from outside has nobody to look at the clock for him.
        if self.waiters.is_looked_at() {
            self.set_timer();
        }
        is_quiet && !grows
    }

    #[inline(never)]
    fn enqueue_and_pump(&mut self, index: u32) {
        self.enqueue(index);
        self.pump(false);
    }

    #[cold]
    fn set_timer(&mut self) {
        let due = self.next_look(now_ns());
        if let Some(event_fd) = &mut self.waiters.event_fd {
            event_fd.set_timer_by(due);
        }
    }
}
