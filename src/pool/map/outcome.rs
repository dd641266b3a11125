//! What comes of a chunk: the states and outputs of its items, who is to blame for a death, and what has to run again.

use super::Failure;
use super::job::Job;
use super::memory::Sent;
use crate::error::Code;
use crate::pool::ending::Ending;
use crate::pool::ledger::{Delivery, Outcome, TO_BLAME, suspicion_after, to_c_string};
use crate::sys::reserve;
use crate::task::call::{CallKind, messages};

impl Job<'_, '_> {
    /// Deals with a chunk that has settled.
    pub(super) fn take_in(&mut self, sent: &Sent, outcome: Outcome) {
        let calls = self.calls_of(sent.count);
        let finished = usize::try_from(outcome.items).unwrap_or(usize::MAX).min(calls);
        // Of a node that is lost nobody knows how far it has come.
        let died = outcome.status == Code::DIED.0
            && outcome.delivery == Delivery::MaybeRan
            && outcome.death.is_some();
        let mut next = finished;
        if finished > 0 {
            self.take_finished(sent, finished, &outcome);
        }
        if died {
            if (outcome.culprit || finished == 0 && self.suspects(sent.first, &outcome)) && finished < calls {
                next += 1;
                let late = outcome.late.filter(|(item, _)| *item == finished as u64);
                let deaths = self.count_death(sent.first + finished);
                if late.is_none() && deaths <= self.map.retries {
                    let items = if self.kind == CallKind::Range { sent.count } else { 1 };
                    self.again.push_back((sent.first + finished, items));
                } else {
                    let failure = Failure { deaths, ..self.failure(sent, finished, &outcome) };
                    let failure = self.ended(failure, late);
                    self.fail(sent, failure);
                }
            }
        } else if outcome.status < 0 || finished == 0 {
            // The chunk as a whole: it was never started, or its worker does not have the function.
            let status = if outcome.status < 0 { outcome.status } else { -libc::EPROTO };
            for call in finished..calls {
                let failure = Failure { status, death: None, ..self.failure(sent, call, &outcome) };
                self.fail(sent, failure);
            }
            next = calls;
        } else {
            let items = if self.kind == CallKind::Range { sent.count } else { finished };
            self.sizes.measure(items, outcome.elapsed_ns);
        }
        if next < calls {
            self.again.push_back((sent.first + next, sent.count - next));
        }
    }

    fn failure(&self, sent: &Sent, call: usize, outcome: &Outcome) -> Failure {
        let item = self.begin + sent.first + call;
        let mut death = outcome.death.clone();
        if let Some(death) = &mut death {
            death.item = item as u64;
        }
        let delivery = self.delivery_of(sent.first + call, outcome.delivery);
        let deaths = self.deaths_of(sent.first + call);
        Failure { item, status: outcome.status, message: outcome.message.clone(), delivery, death, deaths }
    }

    /// How many processes have died with an item, as far as that has not settled it.
    pub(super) fn deaths_of(&self, item: usize) -> u32 {
        self.retried.get(&item).copied().unwrap_or(0)
    }

    /// What is known of an item of which this is said: one that a process has died with before may have run.
    pub(super) fn delivery_of(&self, item: usize, said: Delivery) -> Delivery {
        match said {
            Delivery::NotStarted if self.retried.contains_key(&item) => Delivery::MaybeRan,
            said => said,
        }
    }

    /// Takes over the states and outputs of the items of a chunk that have finished.
    fn take_finished(&mut self, sent: &Sent, finished: usize, outcome: &Outcome) {
        let layout = sent.layout;
        let messages_length = outcome.messages_length;
        let place = |offset: usize| std::ptr::with_exposed_provenance_mut::<u8>(sent.block + offset);
        let length = messages_length.min(layout.messages_bytes);
        // SAFETY: the block's room for messages. Its bytes are the worker's, who has finished with them; they are
        // copied once, so that what is read is what was checked.
        let texts = unsafe { std::slice::from_raw_parts(place(layout.messages), length) };
        // Where memory is short, failures without their texts are better than no map.
        let texts = reserve::collect(texts.iter().copied()).unwrap_or_default();
        let mut texts = texts.as_slice();
        for call in 0..finished {
            // SAFETY: the block has an `i32` for each item; it is read once.
            let status = unsafe { place(layout.status).cast::<i32>().add(call).read_volatile() };
            let late = outcome.late.filter(|(item, _)| *item == call as u64);
            if status < 0 || late.is_some() {
                let message = match messages::read(texts) {
                    Some((item, text, rest)) if item == call as u64 => {
                        texts = rest;
                        to_c_string(text)
                    }
                    _ => None,
                };
                let item = self.begin + sent.first + call;
                let (delivery, deaths) = (Delivery::Ran, self.deaths_of(sent.first + call));
                let failure = Failure { item, status, message, delivery, death: None, deaths };
                self.fail(sent, self.ended(failure, late));
                continue;
            }
            if self.carry_output {
                let stride = self.output.1;
                let target =
                    std::ptr::with_exposed_provenance_mut::<u8>(self.output.0 + (sent.first + call) * stride);
                // SAFETY: the map's output has a place at each stride, until tine_map returns: its text asks for
                // that. The block has as many bytes of this item's output, and is another block of memory.
                unsafe {
                    std::ptr::copy_nonoverlapping(place(layout.output + call * stride), target, stride)
                };
            }
            self.note(sent, self.begin + sent.first + call, status);
        }
        debug_assert!(layout.input <= layout.output);
    }

    /// An item that was ended has failed for that reason, whatever else is known.
    fn ended(&self, failure: Failure, late: Option<(u64, i32)>) -> Failure {
        let Some((_, status)) = late else { return failure };
        let said = failure.message.filter(|_| failure.delivery == Delivery::Ran && failure.status < 0);
        let text = Ending::text_of(status, failure.delivery);
        Failure { status, message: said.or_else(|| to_c_string(text.as_bytes())), ..failure }
    }

    /// Whether the first item of a chunk is to blame for the end of its worker, who says that none had begun.
    fn suspects(&mut self, item: usize, outcome: &Outcome) -> bool {
        let signal = outcome.death.as_ref().map_or(libc::SIGKILL, |death| death.signal);
        let suspicion = self.suspicion.entry(item).or_default();
        *suspicion += suspicion_after(signal, false);
        *suspicion >= TO_BLAME
    }

    /// A process has died with an item; how many that are. They need to be known only where it may run again.
    fn count_death(&mut self, item: usize) -> u32 {
        if self.map.retries == 0 {
            return 1;
        }
        let deaths = self.retried.entry(item).or_default();
        *deaths += 1;
        *deaths
    }

    pub(super) fn fail(&mut self, sent: &Sent, failure: Failure) {
        self.failed += if self.kind == CallKind::Range { sent.count } else { 1 };
        self.note(sent, failure.item, failure.status);
        if let Some(on_failure) = &mut self.map.on_failure {
            on_failure(&failure);
        }
    }

    /// Writes the state of an item, or of all items of a range's chunk.
    fn note(&mut self, sent: &Sent, item: usize, status: i32) {
        let items = if self.kind == CallKind::Range { sent.count } else { 1 };
        self.dealt_with += items;
        if !self.map.status.is_null() {
            for at in item - self.begin..item - self.begin + items {
                // SAFETY: `.status` is not null, so it has an `int` for each item: its text asks for that.
                unsafe { self.map.status.add(at).write(status) };
            }
        }
    }
}
