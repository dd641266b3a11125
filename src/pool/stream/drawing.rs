//! Streams that draw their items: whoever waits for a result draws, as long as the window has room.
//!
//! One thread draws at a time, without the pool's lock, because the items come from the user's code; others that wait meanwhile are
//! told when it has ended ([`Drawing`]). An item that was drawn and found no room is held, and goes in before the next.

use super::{Stream, stopped_error};
use crate::error::{Error, Result};
use crate::pool::inline::run_queued;
use crate::pool::ledger::{InputPlace, Outcome};
use crate::pool::standby;
use crate::pool::state::PoolState;
use crate::pool::wait::refusal;
use std::sync::TryLockError;

/// There is no memory for the next item before one that is on its way has given its own back.
pub(super) const AFTER_THE_NEXT: usize = usize::MAX;

/// An item that is drawn: where it is, how long, and a word that is carried to its result.
#[derive(Clone, Copy, Debug)]
pub struct Pulled {
    input: (*const u8, usize),
    user: usize,
}

impl Pulled {
    /// An item, and the word that is carried to its result.
    ///
    /// # Safety
    /// Any thread may read the bytes, and they stay as they are, until the next item is drawn or the stream is dropped.
    pub unsafe fn new(input: *const [u8], user: usize) -> Pulled {
        Pulled { input: (input.cast(), input.len()), user }
    }
}

/// Draws the next item; `None` at the end. An error ends the input, too.
pub type Pull = Box<dyn FnMut() -> Result<Option<Pulled>> + Send>;

/// Where a stream draws its items from.
pub(super) struct Source {
    pull: Pull,
    /// Drawn, and waiting for room.
    held: Option<Pulled>,
    over: bool,
    /// What `pull` returned instead of an end; told once.
    failure: Option<Error>,
}

impl Source {
    pub(super) fn new(pull: Pull) -> Source {
        Source { pull, held: None, over: false, failure: None }
    }
}

/// What has become of an item that was drawn.
enum Entered {
    /// It will have a result.
    Inside,
    NoRoom,
    /// The pool takes nothing any more.
    Refused,
}

// SAFETY: what is held is a place in memory of the program's. The text of `.pull` says on which threads it is called,
// and how long the place stays; one thread at a time has the source.
unsafe impl Send for Source {}

/// A thread draws, until this is dropped.
struct Drawing<'a>(&'a Stream);

impl<'a> Drawing<'a> {
    fn begin(stream: &'a Stream) -> Drawing<'a> {
        let mut state = stream.inner.lock();
        let drawn = state.stream_mut(stream.number);
        (drawn.drawing, drawn.needs) = (true, 0);
        drop(state);
        Drawing(stream)
    }
}

impl Drop for Drawing<'_> {
    fn drop(&mut self) {
        let mut state = self.0.inner.lock();
        state.stream_mut(self.0.number).drawing = false;
        state.tell_stream(self.0.number);
    }
}

impl Stream {
    /// Draws items while there is room for them.
    pub(super) fn draw(&self) -> Result<()> {
        let Some(source) = &self.source else { return Ok(()) };
        let mut source = match source.try_lock() {
            Ok(source) => source,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Another thread is at it, for both.
            Err(TryLockError::WouldBlock) => return Ok(()),
        };
        // Before anything can fail: others that wait are told when it ends.
        let _drawing = Drawing::begin(self);
        standby::guard(&self.inner, false)?;
        while !source.over {
            let mut state = self.inner.lock();
            if refusal(&state).is_some() {
                // This is not the end of the input, and must not be taken for it.
                return Ok(());
            }
            let stream = state.stream(self.number);
            if stream.stopped && source.held.is_none() {
                break;
            }
            let needs = source.held.map_or(0, |held| held.input.1.min(stream.window.most_bytes()));
            if !stream.stopped && !stream.window.has_room(needs) {
                state.stream_mut(self.number).needs = needs;
                return Ok(());
            }
            drop(state);
            let drawn = match source.held.take() {
                Some(held) => Ok(Some(held)),
                None => (source.pull)(),
            };
            match drawn {
                Ok(Some(item)) => match self.enter_drawn(item) {
                    Ok(Entered::Inside) => (),
                    Ok(Entered::NoRoom | Entered::Refused) => {
                        source.held = Some(item);
                        return Ok(());
                    }
                    Err(error) => {
                        source.held = Some(item);
                        return Err(error);
                    }
                },
                Ok(None) => source.over = true,
                Err(error) => (source.over, source.failure) = (true, Some(error)),
            }
        }
        source.over = true;
        self.end()
    }

    /// Enters an item that was drawn. The user's code has taken its time: the pool and the stream may have come to their end meanwhile.
    fn enter_drawn(&self, item: Pulled) -> Result<Entered> {
        let inner = &self.inner;
        let mut state = inner.lock();
        if refusal(&state).is_some() {
            return Ok(Entered::Refused);
        }
        let stream = state.stream(self.number);
        if stream.stopped {
            return self.settle_drawn(&mut state, item, &stopped_error());
        }
        let (length, most) = (item.input.1, stream.window.most_bytes());
        if !stream.window.has_room(length.min(most)) {
            return Ok(self.waits_for_the_next(&mut state));
        }
        let input = match length {
            0 => &[],
            // SAFETY: whoever made it has promised that the bytes stay until the next one is drawn, which is after this
            // one has gone in.
            _ => unsafe { std::slice::from_raw_parts(item.input.0, length) },
        };
        let fits = stream.window.check("an item", "the stream's window", length);
        if let Err(error) = fits.and_then(|()| inner.check_for_nodes(input, false)) {
            return self.settle_drawn(&mut state, item, &error);
        }
        let is_long = inner.is_long(input);
        let placed = if is_long {
            state.leave();
            drop(state);
            let placed = inner.place_input(input);
            state = inner.lock();
            placed
        } else {
            inner.place_input(input)
        };
        let stream = state.stream(self.number);
        let place = match placed {
            Ok(place) => place,
            // What is on its way will give its memory back.
            Err(_) if stream.window.tasks() > 0 => return Ok(self.waits_for_the_next(&mut state)),
            // Or it has done so since.
            Err(_) if is_long => inner.place_input(input)?,
            Err(error) => return Err(error),
        };
        // Nobody else draws, so there is as much room as there was. But the pool and the stream may have come to their end once more.
        if is_long && refusal(&state).is_some() {
            inner.take_input_back(place);
            return Ok(Entered::Refused);
        }
        if is_long && stream.stopped {
            inner.take_input_back(place);
            return self.settle_drawn(&mut state, item, &stopped_error());
        }
        let index = self.enter(&mut state, place, input, item.user)?;
        state.hand_in(index);
        run_queued(inner, state).leave();
        Ok(Entered::Inside)
    }

    /// An item has to wait until another result has been taken. Whoever says so has the lock that this was found under: a result that is
    /// taken behind it would tell nobody.
    fn waits_for_the_next(&self, state: &mut PoolState) -> Entered {
        state.stream_mut(self.number).needs = AFTER_THE_NEXT;
        Entered::NoRoom
    }

    /// Enters an item that was drawn and that no worker gets.
    fn settle_drawn(&self, state: &mut PoolState, item: Pulled, error: &Error) -> Result<Entered> {
        let index = self.enter(state, InputPlace::Inline, &[], item.user)?;
        state.enqueue(index);
        if state.take_back(index) {
            state.settle(index, Outcome::not_started(error));
        }
        Ok(Entered::Inside)
    }

    /// What `pull` returned instead of an end, once.
    pub(super) fn failure(&self) -> Option<Error> {
        let mut source = match self.source.as_ref()?.try_lock() {
            Ok(source) => source,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Another thread is drawing, for as long as the user's code takes: it is told.
            Err(TryLockError::WouldBlock) => return None,
        };
        source.failure.take()
    }
}
