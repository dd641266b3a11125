//! Settled tasks on their way to whoever waits for them.

use super::desk::Key;
use super::ledger::{OutputPlace, Settled, TaskId, TaskState};
use super::state::PoolState;
use super::wait::{Want, wait};
use super::{Pool, TaskResult};
use crate::error::{Code, Error, Result};
use crate::sys::clock::Timeout;
use std::cell::Cell;
use std::ffi::CStr;

impl Pool {
    /// Waits for one task, and takes its result.
    pub fn wait(&self, id: TaskId, timeout: Timeout) -> Result<TaskResult> {
        let inner = self.inner()?;
        let mut state = inner.lock();
        let index = state.ledger.find(id)?;
        state.claim(index)?;
        let settled =
            |state: &mut PoolState| (state.ledger.get(index).state == TaskState::Settled).then_some(Ok(()));
        let (mut state, waited) = wait(inner, state, Want::Task(index), timeout, settled);
        if let Err(error) = waited {
            state.unclaim(index);
            state.wake_waiters();
            return Err(error);
        }
        state.mark_taken(index);
        Ok(state.hand_over(index))
    }

    /// Waits for the next task to settle that no [`Pool::wait`] is on for, and takes its result.
    pub fn next(&self, timeout: Timeout) -> Result<TaskResult> {
        let inner = self.inner()?;
        let (mut state, taken) =
            wait(inner, inner.lock(), Want::Next, timeout, |state| match state.take_finished() {
                Some(index) => Some(Ok(index)),
                None => (!state.submissions.has_unclaimed()).then(|| Err(Code::EMPTY.into())),
            });
        let index = taken?;
        Ok(state.hand_over(index))
    }

    /// Gives the memory of a result back. That it has been given back already is fine.
    ///
    /// # Safety
    /// Nobody reads the result any more, no copy of it either. Any thread has the number, also that of a result which
    /// [`Pool::output_of`] is just copying.
    ///
    /// ```compile_fail,E0133
    /// fn take_away(pool: &tine::pool::Pool, id: tine::pool::TaskId) {
    ///     let _ = pool.release(id);
    /// }
    /// ```
    pub unsafe fn release(&self, id: TaskId) -> Result<()> {
        let mut state = self.inner()?.lock();
        let taken = |index: &u32| state.ledger.get(*index).state == TaskState::Taken;
        if let Some(index) = state.ledger.look_up(id).filter(taken) {
            state.release(index);
        }
        Ok(())
    }

    /// Waits for the first of several tasks to settle, and takes its result.
    pub fn wait_any(&self, ids: &[TaskId], timeout: Timeout) -> Result<TaskResult> {
        if ids.is_empty() {
            return Err(Code::EMPTY.into());
        }
        let inner = self.inner()?;
        let mut state = inner.lock();
        let group = state.submissions.new_group();
        let mut claimed: Option<Vec<u32>> = None;
        let (mut state, first) = wait(inner, state, Want::Group(group), timeout, |state| {
            let Some(claimed) = &claimed else {
                // Where one has settled already, nothing is done for the others but that they are looked at.
                return match state.first_settled(ids) {
                    Ok(None) => {
                        let all = state.claim_all(ids, group).map(|indices| claimed = Some(indices));
                        all.err().map(Err)
                    }
                    answer => answer.transpose(),
                };
            };
            let settled = |index: &&u32| state.ledger.get(**index).state == TaskState::Settled;
            claimed.iter().find(settled).map(|index| Ok(*index))
        });
        match &claimed {
            Some(claimed) => {
                let others = claimed.iter().filter(|index| first.as_ref().ok() != Some(index));
                others.for_each(|index| state.unclaim(*index));
            }
            None => first.iter().try_for_each(|index| state.claim(*index))?,
        }
        let index = first.inspect_err(|_| state.wake_waiters())?;
        state.mark_taken(index);
        Ok(state.hand_over(index))
    }

    /// Waits until these tasks have settled, or all where none are named. Their results stay to be taken.
    pub fn wait_all(&self, ids: &[TaskId], timeout: Timeout) -> Result<()> {
        let inner = self.inner()?;
        let state = inner.lock();
        if ids.is_empty() {
            let all = |state: &mut PoolState| state.all_settled().then_some(Ok(()));
            return wait(inner, state, Want::All, timeout, all).1;
        }
        ids.iter().try_for_each(|id| state.ledger.find(*id).map(drop))?;
        let settled = Cell::new(0);
        wait(inner, state, Want::Every(ids, &settled), timeout, |state| {
            // What another thread has taken meanwhile has settled, and its place may be another task's.
            let pending =
                |at: usize| state.ledger.look_up(ids[at]).is_some_and(|index| state.is_under_way(index));
            while settled.get() < ids.len() && !pending(settled.get()) {
                settled.set(settled.get() + 1);
            }
            (settled.get() == ids.len()).then_some(Ok(()))
        })
        .1
    }
}

impl PoolState {
    /// Whether all submitted tasks have settled, and every callback has returned but for the one that this thread may be in.
    fn all_settled(&self) -> bool {
        self.submissions.all_settled() && (self.has_told_all() || self.is_in_callback())
    }

    /// The oldest settled task that nobody has taken or claimed; it is the caller's from now on.
    #[inline(always)]
    pub(super) fn take_finished(&mut self) -> Option<u32> {
        let index = self.submissions.pop(&mut self.ledger)?;
        self.mark_taken(index);
        Some(index)
    }

    /// A claimed task that has settled is its waiter's.
    #[inline(always)]
    pub(super) fn mark_taken(&mut self, index: u32) {
        self.submissions.take(&mut self.ledger, index);
        self.note_taken();
    }

    /// A result has been taken: there is room for another task.
    #[inline]
    pub(super) fn note_taken(&mut self) {
        self.tell_of_room();
        self.update_event_fd();
    }

    /// Claims a task for a waiter: it is no longer among those that `next` gives out.
    pub(super) fn claim(&mut self, index: u32) -> Result<()> {
        self.may_claim(index)?;
        self.submissions.claim(&mut self.ledger, index);
        Ok(())
    }

    fn may_claim(&self, index: u32) -> Result<()> {
        let entry = self.ledger.get(index);
        if entry.claimed {
            let text = match entry.calls() {
                Some(calls) if calls.callbacks.on_settled.is_some() => {
                    "the task's result goes to its callback"
                }
                _ => "another thread waits for this very task",
            };
            return Err(Error::errno(libc::EBUSY, text));
        }
        if entry.state == TaskState::Taken {
            return Err(Error::new(Code::ID, "the task's result has been taken already"));
        }
        Ok(())
    }

    /// The first of several tasks that has settled; an error where one of them is not to be waited for, whichever that is.
    fn first_settled(&self, ids: &[TaskId]) -> Result<Option<u32>> {
        let mut first = None;
        for id in ids {
            let index = self.ledger.find(*id)?;
            self.may_claim(index)?;
            if first.is_none() && self.ledger.get(index).state == TaskState::Settled {
                first = Some(index);
            }
        }
        Ok(first)
    }

    /// Claims several tasks, all of which may be claimed, as a group: each once, however often it is named.
    fn claim_all(&mut self, ids: &[TaskId], group: u32) -> Result<Vec<u32>> {
        let mut indices = Vec::new();
        indices.try_reserve_exact(ids.len()).map_err(|_| Code::errno(libc::ENOMEM))?;
        for id in ids {
            indices.push(self.ledger.find(*id)?);
        }
        indices.retain(|index| {
            let is_new = self.ledger.get(*index).group != group;
            if is_new {
                self.submissions.claim(&mut self.ledger, *index);
                self.ledger.get_mut(*index).group = group;
            }
            is_new
        });
        Ok(indices)
    }

    /// Takes the claim of a waiter back: the task is anybody's again.
    pub(super) fn unclaim(&mut self, index: u32) {
        if self.submissions.unclaim(&mut self.ledger, index) {
            self.waiters.desk.tell_first(Key::Next);
        }
    }

    /// Makes an entry's result go away: its memory, its id.
    pub(super) fn release(&mut self, index: u32) {
        let output = self.ledger.get(index).outcome.as_ref().and_then(Settled::output);
        if let Some(OutputPlace::Heap(address)) = output {
            let _ = self.heap.free_address(address);
        }
        self.ledger.close(index);
    }

    /// The result of a task that has been taken. Where nothing has to be kept for it, its entry is free at once.
    #[inline(always)]
    pub(super) fn hand_over(&mut self, index: u32) -> TaskResult {
        let entry = self.ledger.get(index);
        let Some(outcome) = &entry.outcome else { unreachable!("a taken task has an outcome") };
        let data = match outcome.output() {
            None => std::ptr::null(),
            Some(OutputPlace::Inline) => self.ledger.inline_pointer(index),
            Some(OutputPlace::Heap(address)) => std::ptr::with_exposed_provenance(address),
        };
        let result = TaskResult {
            id: entry.id_at(index),
            status: outcome.status,
            message: message_of(outcome.status, outcome.message()),
            data,
            length: outcome.output_length,
            delivery: outcome.delivery,
            death: outcome.death().map_or(std::ptr::null(), std::ptr::from_ref),
            deaths: entry.deaths,
            user: entry.user,
        };
        if !outcome.has_memory() {
            self.ledger.close(index);
        }
        self.wake_waiters();
        result
    }
}

/// A result's message: its own, or the sentence of its code; empty for a success.
fn message_of(status: i32, message: Option<&std::ffi::CString>) -> *const std::ffi::c_char {
    let text: &CStr = match message {
        Some(message) => message,
        None if status < 0 => Code(status).text(),
        None => c"",
    };
    text.as_ptr()
}
