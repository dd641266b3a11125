//! Maps and loops, as they are asked for. How one is carried out is in `job`, what its chunks are made of in `memory`, and what comes
//! of them in `outcome`.

mod job;
mod memory;
mod outcome;
mod progress;
mod schedule;
mod split;
mod under_way;

pub use progress::Progress;
pub use schedule::Schedule;
pub(super) use under_way::Maps;

use super::Pool;
use super::ledger::Delivery;
use super::submit::resolve;
use super::wait::refusal;
use crate::error::{Error, Result};
use crate::sys::reserve;
use crate::task::call::CallKind;
use crate::task::death::Death;
use crate::task::function::Function;
use job::Job;
use std::ffi::CString;

/// A map or a loop.
pub struct Map<'a> {
    /// What is called, and with what.
    pub call: MapCall<'a>,
    /// How many items; for a loop, how long the range is.
    pub count: usize,
    /// Bytes that every call can see.
    pub context: &'a [u8],
    /// Items of a chunk; 0 to have them measured. What it means otherwise is the schedule's to say.
    pub chunk: usize,
    /// What decides on the length of chunks.
    pub schedule: Schedule,
    /// The most bytes of inputs and outputs that a chunk may have, unless one item has more; 0 for any amount.
    pub chunk_bytes: usize,
    /// A place for each item's state, or null.
    pub status: *mut i32,
    /// How long the call of an item may take, in nanoseconds; 0 for the pool's deadline, `u64::MAX` for any time.
    pub item_deadline_ns: u64,
    /// How often an item may be run again after its process has died with it.
    pub retries: u32,
    /// After the first item that fails no other begins.
    pub stop_on_failure: bool,
    /// Called for each item that has failed.
    pub on_failure: Option<&'a mut dyn FnMut(&Failure)>,
    /// Called now and then with how many items have been dealt with, and at the end.
    pub progress: Option<&'a mut dyn FnMut(usize)>,
}

/// What a map calls.
pub enum MapCall<'a> {
    /// A function of items: where the items are and how far apart, and the same for what it makes of them.
    Items {
        /// By its address an item function, a `tine_item_fn`; by its name a task function.
        function: Function<'a>,
        /// The first item's input, and the distance from one to the next.
        input: (*const u8, usize),
        /// The first item's output, and the distance; null and 0 for none.
        output: (*mut u8, usize),
    },
    /// A function of chunks of a range.
    Range {
        /// A range function, a `tine_range_fn`, by its address.
        function: Function<'a>,
        /// Where the range begins.
        begin: usize,
    },
}

/// An item that failed.
#[derive(Debug)]
pub struct Failure {
    /// Which; for a loop, where the chunk that failed begins.
    pub item: usize,
    /// Its state.
    pub status: i32,
    /// What is known of it, if anything.
    pub message: Option<CString>,
    /// Whether the function ran.
    pub delivery: Delivery,
    /// How its process died, if it did.
    pub death: Option<Box<Death>>,
    /// How many processes have died with it.
    pub deaths: u32,
}

/// What came of a map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MapReport {
    /// Items that failed.
    pub failed: usize,
}

impl Pool {
    /// Calls a function for each item, and waits until all items have been dealt with.
    ///
    /// # Safety
    /// A function that is given by its address has the type that [`MapCall`] says. Until this returns the inputs can be read, the
    /// outputs and states can be written and are used by nobody else, and there are `count` of each.
    pub unsafe fn map(&self, map: Map<'_>) -> Result<MapReport> {
        let inner = self.inner()?;
        reserve::suffices()?;
        let mut state = inner.lock();
        let (function, kind) = match &map.call {
            MapCall::Items { function: Function::Name(_), .. } => (map.function(), CallKind::TaskItems),
            MapCall::Items { .. } => (map.function(), CallKind::Items),
            MapCall::Range { .. } => (map.function(), CallKind::Range),
        };
        let callee = resolve(inner, &mut state, function)?;
        map.check()?;
        if let Some(error) = refusal(&state) {
            return Err(error);
        }
        if map.count == 0 {
            return Ok(MapReport::default());
        }
        let number = state.maps.open()?;
        if let Some(book) = &mut state.ledger.book
            && let Err(error) = book.begin_map(number, map.begin() as u64, map.count as u64)
        {
            state.maps.close(number);
            return Err(error);
        }
        let is_timed = state.recycle.rules().are_timed();
        drop(state);
        if is_timed {
            // Workers are to leave after this call, too. Without a thread for it they leave in the host's next one.
            let _ = self.guard(false);
        }
        let mut job = Job::new(self, map, number, callee, kind);
        let done = job.prepare().and_then(|()| job.run(inner));
        job.clean_up(inner);
        done.map(|()| MapReport { failed: job.failed() })
    }
}

impl Map<'_> {
    /// The number of its first item.
    fn begin(&self) -> usize {
        if let MapCall::Range { begin, .. } = self.call { begin } else { 0 }
    }

    pub(super) fn function(&self) -> Function<'_> {
        match &self.call {
            MapCall::Items { function, .. } | MapCall::Range { function, .. } => *function,
        }
    }

    fn check(&self) -> Result<()> {
        let problem = |text: &str| Err(Error::invalid(text.to_owned()));
        if self.schedule == Schedule::Static && self.chunk != 0 {
            let text = format!("chunk is {}, which has no meaning with a static schedule", self.chunk);
            return problem(&text);
        }
        let MapCall::Items { input, output, .. } = &self.call else {
            let any = self.chunk_bytes == 0;
            return if any {
                Ok(())
            } else {
                problem("chunk_bytes has no meaning in a loop, which has no arrays")
            };
        };
        match (input, output) {
            ((_, 0), _) => return problem("the map's in_stride is 0"),
            ((pointer, _), _) if pointer.is_null() && self.count > 0 => {
                return problem("the map's in is NULL");
            }
            (_, (pointer, 0)) if !pointer.is_null() => return problem("the map's out_stride is 0"),
            (_, (pointer, stride)) if pointer.is_null() && *stride > 0 && self.count > 0 => {
                return problem("the map's out is NULL but its out_stride is not 0");
            }
            _ => (),
        }
        for (name, stride) in [("in", input.1), ("out", output.1)] {
            let bytes = stride.checked_mul(self.count).filter(|bytes| *bytes <= isize::MAX as usize);
            if bytes.is_none() {
                let text = format!(
                    "{} items of {stride} bytes ({name}) are more than an address space has",
                    self.count
                );
                return Err(Error::errno(libc::EOVERFLOW, text));
            }
        }
        Ok(())
    }
}
