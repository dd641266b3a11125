//! Submitting: a function is found, its input placed, and the task entered and handed out where a worker has room.

use super::callbacks::Calls;
use super::inline::run_queued;
use super::ledger::{InputPlace, NewTask, Rare};
use super::state::{Call, PoolState};
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

impl Pool {
    /// Submits one call of a function. An end of a channel that goes with it is still the caller's to drop.
    pub fn submit(
        &self,
        function: Function<'_>,
        input: &[u8],
        options: &SubmitOptions<'_>,
    ) -> Result<TaskId> {
        let inner = self.inner()?;
        reserve::suffices()?;
        self.guard(!options.callbacks.is_none())?;
        let mut state = inner.lock();
        let callee = resolve(inner, &mut state, function)?;
        state.submissions.window().check("an input", "the window", input.len())?;
        if let Some(error) = refusal(&state) {
            return Err(error);
        }
        let waits = !state.has_room(input.len());
        if waits {
            let room;
            (state, room) = wait_for_room(inner, state, input.len(), options.timeout);
            room?;
        }
        let entered = inner.enter(&mut state, callee, input, options);
        if waits {
            // Room is told to one at a time: the next one may have the rest of it, or all, if this one has failed.
            state.tell_of_room();
        }
        let index = entered?;
        let id = state.ledger.id_of(index);
        if check::is_on() {
            check::look_through(input, || format!("task {:#x} ({}), input", id.0, function.describe()));
        }
        let is_quiet = state.hand_in(index);
        state = run_queued(inner, state);
        if is_quiet {
            state.leave_quietly()
        } else {
            state.leave()
        }
        Ok(id)
    }
}

/// Waits until there is room in the window for an input of this length.
#[cold]
fn wait_for_room<'a>(
    inner: &'a Inner,
    state: Held<'a>,
    length: usize,
    timeout: Timeout,
) -> (Held<'a>, Result<()>) {
    wait(inner, state, Want::Room(length), timeout, |state| {
        refusal(state).map(Err).or_else(|| state.has_room(length).then_some(Ok(())))
    })
}

impl Inner {
    /// Enters a task for which there is room; it is still to be handed in.
    #[inline(always)]
    fn enter(
        &self,
        state: &mut PoolState,
        callee: Callee,
        input: &[u8],
        options: &SubmitOptions<'_>,
    ) -> Result<u32> {
        self.check_for_nodes(input, options.channel.is_some())?;
        let (user, deadline_ns) = (options.user, options.deadline_ns.unwrap_or(self.deadline_ns));
        let rare = if options.is_plain() { None } else { Some(state.rare_of(options)?) };
        let is_plain = rare.is_none();
        let place = self.place_input(input)?;
        let task = NewTask { user, deadline_ns, rare, ..NewTask::new(CallKind::Task, callee, place, input) };
        let index = state.ledger.enter(task).inspect_err(|_| self.take_input_back(place))?;
        if !is_plain {
            state.expect(index);
        }
        state.submissions.enter(input.len());
        if state.trace.is_some() {
            state.trace_submit(index);
        }
        Ok(index)
    }

    /// Where an input travels: in the slot, or in the heap, where it may be already.
    #[inline]
    pub(super) fn place_input(&self, input: &[u8]) -> Result<InputPlace> {
        if input.is_empty() {
            return Ok(InputPlace::Inline);
        }
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
    pub(super) fn take_input_back(&self, input: InputPlace) {
        if let InputPlace::Heap { address, owned: true } = input {
            let _ = self.heap.free_address(address);
        }
    }
}

/// What a task carries to have this function called.
#[inline]
pub(super) fn resolve(inner: &Inner, state: &mut PoolState, function: Function<'_>) -> Result<Callee> {
    match state.family.callees_mut() {
        Some(callees) => {
            if let Some(place) = &inner.inline_place {
                place.refresh(callees);
            }
            callees.resolve(function)
        }
        None => Err(refusal(state).unwrap_or_else(|| Code::WORKER_START.into())),
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
    #[inline]
    pub(super) fn hand_in(&mut self, index: u32) -> bool {
        let entry = self.ledger.get(index);
        // When it has to be looked at is for the pump to say.
        let timed = entry.deadline_ns != 0 || entry.queue_due_ns() != 0;
        if timed || self.is_to_look_after(Call::HandedIn) {
            self.enqueue(index);
            self.pump(false);
            return false;
        }
        let is_quiet = self.enqueue_and_feed(index);
        let grows = self.grow();
        // Whoever looks from outside has nobody to look at the clock for him.
        if self.waiters.is_looked_at() {
            let due = self.next_look(now_ns());
            if let Some(event_fd) = &mut self.waiters.event_fd {
                event_fd.set_timer_by(due);
            }
        }
        is_quiet && !grows
    }
}
