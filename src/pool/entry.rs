//! What the ledger has of one task: where it is, what was asked for, and what came of it.
//!
//! ```text
//!   FREE      the next submit may have it
//!     | submit
//!   QUEUED    in the pool's queue ---- cancelled, or the pool breaks down ---+
//!     | pushed into a worker's ring         ^                                |
//!   SENT      in the ring of that worker    | recalled, or the worker died   |
//!     | the result was drained, or the      | before it had begun            |
//!     | worker died after it had begun -----+                                |
//!   SETTLED   has a result, which nobody has taken  <------------------------+
//!     | taken by wait or next
//!   TAKEN     the caller has the result and may look into it
//!     | released
//!   FREE      with the next generation: the old id means nothing any more
//! ```

use super::callbacks::Calls;
use super::chain::Links;
use super::channel_handoff::Kept;
use crate::channel::End;
use crate::error::{Code, Error, Result};
use crate::task::call::CallKind;
use crate::task::death::Death;
use crate::task::function::Callee;
use std::ffi::CString;

/// Names a task: its place and the generation there. Never zero.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TaskId(pub u64);

/// Whether a task's function ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// To its end.
    Ran,
    /// For certain not.
    NotStarted,
    /// It had begun when its process died.
    MaybeRan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TaskState {
    /// The next free one of its block.
    Free(u32),
    Queued,
    Sent(u32),
    Settled,
    Taken,
}

/// Where an input is.
#[derive(Clone, Copy, Debug)]
pub(super) enum InputPlace {
    Inline,
    /// In the heap; `owned` where the pool has put it there and frees it.
    Heap {
        address: usize,
        owned: bool,
    },
}

/// Where an output is.
#[derive(Clone, Copy, Debug)]
pub(super) enum OutputPlace {
    Inline,
    Heap(usize),
}

/// What came of a task.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) status: i32,
    pub(super) delivery: Delivery,
    pub(super) message: Option<CString>,
    pub(super) output: OutputPlace,
    pub(super) output_length: usize,
    pub(super) death: Option<Box<Death>>,
    /// Of a chunk: items that have finished, whether one more had begun, how long it took, how long its messages are.
    pub(super) items: u64,
    pub(super) culprit: bool,
    pub(super) elapsed_ns: u64,
    pub(super) messages_length: usize,
    /// Of a chunk: the item that was ended, and its status.
    pub(super) late: Option<(u64, i32)>,
}

impl Outcome {
    pub(super) fn new(status: i32, delivery: Delivery) -> Outcome {
        Outcome {
            status,
            delivery,
            message: None,
            output: OutputPlace::Inline,
            output_length: 0,
            death: None,
            items: 0,
            culprit: false,
            elapsed_ns: 0,
            messages_length: 0,
            late: None,
        }
    }

    /// For a task that was never given to a worker.
    pub(super) fn not_started(error: &Error) -> Outcome {
        let mut outcome = Outcome::new(error.code().0, Delivery::NotStarted);
        outcome.message = to_c_string(error.text().as_bytes());
        outcome
    }

    /// A process has died with the task before: that it has not begun is true of the last try only.
    #[cold]
    pub(super) fn had_died(&mut self) {
        if self.delivery != Delivery::NotStarted {
            return;
        }
        self.delivery = Delivery::MaybeRan;
        let old = self.message.as_ref().map_or(&b""[..], |text| text.to_bytes());
        let mut text = Vec::new();
        // Where memory is short, the text is what is true of the last try.
        if text.try_reserve_exact(old.len() + DIED_BEFORE.len()).is_ok() {
            text.extend_from_slice(old);
            text.extend_from_slice(DIED_BEFORE);
            self.message = to_c_string(&text);
        }
    }
}

const DIED_BEFORE: &[u8] = b"; a process has died with it before";

/// Text for C: what follows a zero byte is lost.
pub(super) fn to_c_string(bytes: &[u8]) -> Option<CString> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    // Where memory is short, a result without its text is better than a host without any result.
    let mut text = Vec::new();
    for chunk in bytes[..end].utf8_chunks() {
        let broken = if chunk.invalid().is_empty() { "" } else { "\u{fffd}" };
        text.try_reserve(chunk.valid().len() + broken.len() + 1).ok()?;
        text.extend_from_slice(chunk.valid().as_bytes());
        text.extend_from_slice(broken.as_bytes());
    }
    CString::new(text).ok()
}

/// What an entry keeps of an outcome: all of it but what only chunks have.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) status: i32,
    pub(super) delivery: Delivery,
    /// The output's address in the heap; 0 for one that stands with the ledger's bytes.
    output_address: usize,
    pub(super) output_length: usize,
    story: Option<Box<Story>>,
}

/// What there is to say of a task that has not simply ended.
#[derive(Debug)]
struct Story {
    message: Option<CString>,
    death: Option<Box<Death>>,
}

impl Settled {
    /// Of a call that has left nothing but its status.
    pub(super) fn plain(status: i32) -> Settled {
        Settled { status, delivery: Delivery::Ran, output_address: 0, output_length: 0, story: None }
    }

    pub(super) fn message(&self) -> Option<&CString> {
        self.story.as_ref().and_then(|story| story.message.as_ref())
    }

    pub(super) fn death(&self) -> Option<&Death> {
        self.story.as_ref().and_then(|story| story.death.as_deref())
    }

    /// Where its output is, if it has one.
    pub(super) fn output(&self) -> Option<OutputPlace> {
        (self.output_length > 0).then_some(match self.output_address {
            0 => OutputPlace::Inline,
            address => OutputPlace::Heap(address),
        })
    }

    /// Whether there is anything that a result points to.
    pub(super) fn has_memory(&self) -> bool {
        self.output_length > 0 || self.story.is_some()
    }
}

impl From<Outcome> for Settled {
    fn from(outcome: Outcome) -> Settled {
        let Outcome { status, delivery, message, output, output_length, death, .. } = outcome;
        let output_address = if let OutputPlace::Heap(address) = output { address } else { 0 };
        let has_story = message.is_some() || death.is_some();
        // Where memory is short, a result without its text is better than a host without any result.
        let story = if has_story { boxed(Story { message, death }).ok() } else { None };
        Settled { status, delivery, output_address, output_length, story }
    }
}

/// A box for it, or -ENOMEM.
fn boxed<T>(value: T) -> Result<Box<T>> {
    let mut one = Vec::new();
    one.try_reserve_exact(1).map_err(|_| Error::from(Code::errno(libc::ENOMEM)))?;
    one.push(value);
    // SAFETY: a boxed slice of one, which is laid out as that one is.
    Ok(unsafe { Box::from_raw(Box::into_raw(one.into_boxed_slice()).cast::<T>()) })
}

/// What an entry is filled with.
#[derive(Debug)]
pub(super) struct NewTask<'a> {
    pub(super) kind: CallKind,
    pub(super) callee: Callee,
    pub(super) input: InputPlace,
    /// The input's bytes, wherever they are to travel.
    pub(super) bytes: &'a [u8],
    pub(super) user: usize,
    pub(super) deadline_ns: u64,
    pub(super) rare: Option<Box<Rare>>,
    pub(super) owner: Owner,
}

impl<'a> NewTask<'a> {
    /// One of which nothing more is said.
    pub(super) fn new(kind: CallKind, callee: Callee, input: InputPlace, bytes: &'a [u8]) -> NewTask<'a> {
        NewTask { kind, callee, input, bytes, user: 0, deadline_ns: 0, rare: None, owner: Owner::Caller }
    }
}

/// Whose a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// It was submitted by itself.
    Caller,
    /// It is a chunk of this map.
    Job(u32),
    /// It is an item of this stream.
    Stream(u32),
}

impl Owner {
    /// There are never so many maps or streams that it has no number.
    pub(super) fn job(number: usize) -> Owner {
        Owner::Job(number as u32)
    }

    pub(super) fn stream(number: usize) -> Owner {
        Owner::Stream(number as u32)
    }
}

/// What few tasks have, apart from the entries.
#[derive(Debug)]
pub(super) struct Rare {
    /// Until when it must have begun; 0 for never mind.
    pub(super) queue_due_ns: u64,
    /// How often it may still be run again after its process has died.
    pub(super) retries: u32,
    /// What its submitter wants to be told.
    pub(super) calls: Option<Calls>,
    /// An end of a channel goes with it; and that end, while it is the host's: see `channel_handoff`.
    pub(super) has_end: bool,
    pub(super) end: Kept,
    /// It waits for a descriptor with which that end can be passed.
    pub(super) is_short: bool,
    /// What came of a chunk.
    chunk: Option<Outcome>,
}

impl Rare {
    /// -ENOMEM where there is no memory for it.
    #[cold]
    pub(super) fn new(
        queue_due_ns: u64,
        retries: u32,
        calls: Option<Calls>,
        end: Option<End>,
    ) -> Result<Box<Rare>> {
        let has_end = end.is_some();
        boxed(Rare { queue_due_ns, retries, calls, has_end, end: end.into(), is_short: false, chunk: None })
    }
}

/// Two lines of memory. What each step of a task's way looks at stands in the first.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Entry {
    pub(super) generation: u32,
    /// The wait that has claimed it is for one task of a group, which has this number; 0 where it is not.
    pub(super) group: u32,
    pub(super) state: TaskState,
    /// Its place in the queue, or among the results that nobody has taken.
    pub(super) links: Links,
    pub(super) kind: CallKind,
    /// A wait is on for this very task, so `next` leaves it alone.
    pub(super) claimed: bool,
    /// It is cancelled, and settles as such if it has to be handed out again.
    pub(super) unwanted: bool,
    /// Grows with each worker that has come to nothing without having begun with it, as the worker says; see [`TO_BLAME`].
    suspicion: u8,
    /// What is to be called: see [`Entry::callee`].
    module: u32,
    offset: u64,
    pub(super) input_length: usize,
    /// The caller's word, carried to the result.
    pub(super) user: usize,
    /// How many processes have died with it.
    pub(super) deaths: u32,
    /// Where its input is: see [`Entry::input`]. The address is 0 for one that travels in a slot.
    owns_input: bool,
    input_address: usize,
    /// How long the call, or the call of each item, may take; 0 for as long as it likes.
    pub(super) deadline_ns: u64,
    owner: Owner,
    pub(super) rare: Option<Box<Rare>>,
    /// Of a task that has settled and is no chunk.
    pub(super) outcome: Option<Settled>,
}

const _: () = assert!(size_of::<Entry>() == 128 && core::mem::offset_of!(Entry, input_address) == 64);

impl Entry {
    pub(super) fn free(generation: u32, next: u32) -> Entry {
        Entry {
            generation,
            group: 0,
            state: TaskState::Free(next),
            links: Links::NONE,
            kind: CallKind::Task,
            claimed: false,
            unwanted: false,
            suspicion: 0,
            module: 0,
            offset: 0,
            input_length: 0,
            user: 0,
            deaths: 0,
            owns_input: false,
            input_address: 0,
            deadline_ns: 0,
            owner: Owner::Caller,
            rare: None,
            outcome: None,
        }
    }

    /// What is to be called.
    pub(super) fn callee(&self) -> Callee {
        Callee { module: self.module, offset: self.offset }
    }

    pub(super) fn input(&self) -> InputPlace {
        match self.input_address {
            0 => InputPlace::Inline,
            address => InputPlace::Heap { address, owned: self.owns_input },
        }
    }

    fn set_input(&mut self, input: InputPlace) {
        (self.input_address, self.owns_input) = match input {
            InputPlace::Inline => (0, false),
            InputPlace::Heap { address, owned } => (address, owned),
        };
    }

    /// Where its input was; from now on it is nowhere.
    pub(super) fn take_input(&mut self) -> InputPlace {
        let input = self.input();
        self.set_input(InputPlace::Inline);
        input
    }

    /// It is this task's from now on, which is about to be queued. It was free: what few tasks have is written only for these.
    #[inline(always)]
    pub(super) fn fill(&mut self, task: NewTask<'_>) {
        let NewTask { kind, callee, input, bytes, user, deadline_ns, rare, owner } = task;
        self.state = TaskState::Queued;
        (self.kind, self.user, self.input_length) = (kind, user, bytes.len());
        (self.module, self.offset) = (callee.module, callee.offset);
        if !matches!(input, InputPlace::Inline) {
            self.set_input(input);
        }
        if deadline_ns != 0 {
            self.deadline_ns = deadline_ns;
        }
        if owner != Owner::Caller {
            self.owner = owner;
        }
        if rare.is_some() {
            self.rare = rare;
        }
    }

    /// It is free, with the next generation; `next` is the free one behind it.
    #[inline(always)]
    pub(super) fn close(&mut self, next: u32) {
        self.state = TaskState::Free(next);
        self.generation = self.generation.wrapping_add(1).max(1);
        self.outcome = None;
        self.set_input(InputPlace::Inline);
        if self.rare.is_some() {
            self.rare = None;
        }
        self.owner = Owner::Caller;
        (self.claimed, self.group, self.unwanted, self.suspicion) = (false, 0, false, 0);
        (self.deadline_ns, self.deaths) = (0, 0);
    }

    /// Whether a result that is nothing but a status leaves nothing more to do than to put it down: it was submitted by itself, with
    /// no more than an input that travels in the slot, and no process has died with it.
    pub(super) fn is_plain(&self) -> bool {
        self.rare.is_none() && self.is_a_callers() && self.deaths == 0 && self.input_address == 0
    }

    /// Its id, as it stands at this place.
    pub(super) fn id_at(&self, index: u32) -> TaskId {
        TaskId(u64::from(self.generation) << 32 | u64::from(index + 1))
    }

    /// Whether it was submitted by itself: no chunk of a map and no item of a stream.
    pub(super) fn is_a_callers(&self) -> bool {
        self.owner == Owner::Caller
    }

    /// The map that the task is a chunk of.
    pub(super) fn job(&self) -> Option<usize> {
        if let Owner::Job(number) = self.owner { Some(number as usize) } else { None }
    }

    /// The stream that the task is an item of.
    pub(super) fn stream(&self) -> Option<usize> {
        if let Owner::Stream(number) = self.owner { Some(number as usize) } else { None }
    }

    /// Until when it must have begun; 0 for never mind.
    pub(super) fn queue_due_ns(&self) -> u64 {
        self.rare.as_ref().map_or(0, |rare| rare.queue_due_ns)
    }

    /// Whether an end of a channel goes with it.
    pub(super) fn has_end(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.has_end)
    }

    /// That end, if the host has it; the host has it no more.
    pub(super) fn take_end(&mut self) -> Kept {
        self.rare.as_mut().map(|rare| std::mem::take(&mut rare.end)).unwrap_or_default()
    }

    /// What its submitter wants to be told.
    pub(super) fn calls(&self) -> Option<&Calls> {
        self.rare.as_ref().and_then(|rare| rare.calls.as_ref())
    }

    pub(super) fn calls_mut(&mut self) -> Option<&mut Calls> {
        self.rare.as_mut().and_then(|rare| rare.calls.as_mut())
    }

    /// More speaks against it; whether it is to blame.
    pub(super) fn suspect(&mut self, more: u32) -> bool {
        self.suspicion = self.suspicion.saturating_add(more.min(TO_BLAME) as u8);
        u32::from(self.suspicion) >= TO_BLAME
    }

    /// It has settled.
    pub(super) fn put_outcome(&mut self, outcome: Outcome) {
        self.state = TaskState::Settled;
        match (&mut self.rare, self.owner) {
            (Some(rare), Owner::Job(_)) => rare.chunk = Some(outcome),
            _ => self.outcome = Some(outcome.into()),
        }
    }

    /// What came of a chunk that has settled.
    pub(super) fn take_chunk_outcome(&mut self) -> Option<Outcome> {
        self.rare.as_mut().and_then(|rare| rare.chunk.take())
    }
}

/// A task is to blame for what becomes of its workers, although they say that they have not begun with it, when the suspicion
/// has grown to this: two that ended by themselves, three that did nothing, or so many that were killed, which may be anybody's
/// doing. Else a task that damages its worker's ring would go from worker to worker for ever.
pub(super) const TO_BLAME: u32 = 16;
pub(super) const ENDED_ITSELF: u32 = 8;
pub(super) const DID_NOTHING: u32 = 6;

/// How much a worker's end says against what was in front of it. One that may be this library's doing (`is_ours`) says as little as one
/// that may be anybody's: a signal for a task before was under way, or tine's own code in the worker could not go on.
pub(super) fn suspicion_after(signal: i32, is_ours: bool) -> u32 {
    if signal == libc::SIGKILL || is_ours { 1 } else { ENDED_ITSELF }
}

/// No entry has this place.
pub(super) const NO_ENTRY: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_died_with_a_process_is_not_said_not_to_have_started() {
        let mut outcome = Outcome::not_started(&Error::errno(libc::ECANCELED, "cancelled"));
        outcome.had_died();
        assert_eq!((outcome.status, outcome.delivery), (-libc::ECANCELED, Delivery::MaybeRan));
        let text = outcome.message.take().unwrap();
        assert_eq!(text.to_str().unwrap(), "cancelled; a process has died with it before");
        outcome.delivery = Delivery::Ran;
        outcome.had_died();
        assert_eq!((outcome.delivery, outcome.message), (Delivery::Ran, None));
    }

    #[test]
    fn text_for_c_ends_at_a_zero() {
        assert_eq!(to_c_string(b"a\0b").unwrap(), c"a".to_owned());
        assert_eq!(to_c_string(b"\xff").unwrap().to_str().unwrap(), "\u{fffd}");
    }
}
