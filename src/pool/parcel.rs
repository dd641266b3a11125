//! Tasks and outcomes as bytes, for a place of work that shares no memory with this one.
//!
//! | word of a task | bits |
//! |---|---|
//! | 0 | what it is: [`tag`]; from 8 its kind; from 16 what follows of the rare; from 32 the number of the function |
//! | 1 | the task's id at rank 0 |
//! | then | the deadline, the time left to begin, retries, each where there is one; what its kind needs |
//!
//! | word of a result | bits |
//! |---|---|
//! | 0 | the task's id |
//! | 1 | the status; from 32 the delivery; from 34 what follows of the rare |
//!
//! Readers believe no length: whatever does not fit is an error, or ends where its room does.

use super::ledger::{Delivery, Outcome, to_c_string};
use crate::cluster::block::{Block, no_room};
use crate::error::{Error, Result};
use crate::task::call::{CallKind, Chunk};
use crate::task::death::Death;
use crate::task::wire::{Reader, Writer};
use std::collections::VecDeque;

/// What an item of a frame of tasks is.
pub(super) mod tag {
    /// A function, by whose number tasks name it from now on.
    pub(crate) const FUNCTION: u64 = 1;
    pub(crate) const TASK: u64 = 2;
    /// What is to happen to a task: `end`.
    pub(crate) const END: u64 = 3;
}

/// How a task that is on its way is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Whether it runs or not.
    Cancel = 1,
    /// If it has not begun.
    Recall = 2,
    /// After the item that it is at.
    Split = 3,
}

impl End {
    pub(super) fn of(number: u64) -> Option<End> {
        [End::Cancel, End::Recall, End::Split].into_iter().find(|end| *end as u64 == number)
    }
}

const HAS_DEADLINE: u64 = 1 << 16;
const HAS_DUE: u64 = 1 << 17;
const HAS_RETRIES: u64 = 1 << 18;

/// What a task carries beside its input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TaskHead {
    pub(super) kind: u32,
    pub(super) function: u32,
    pub(super) id: u64,
    pub(super) deadline_ns: u64,
    /// How long it may still wait; 0 for any time.
    pub(super) due_in_ns: u64,
    pub(super) retries: u32,
}

impl TaskHead {
    pub(super) fn write(&self, out: &mut Writer) {
        let has = |bit: u64, number: u64| if number == 0 { 0 } else { bit };
        let rare = has(HAS_DEADLINE, self.deadline_ns)
            | has(HAS_DUE, self.due_in_ns)
            | has(HAS_RETRIES, self.retries.into());
        out.number(tag::TASK | u64::from(self.kind & 0xff) << 8 | rare | u64::from(self.function) << 32);
        out.number(self.id);
        let rare = [self.deadline_ns, self.due_in_ns, self.retries.into()];
        rare.into_iter().filter(|number| *number != 0).for_each(|number| out.number(number));
    }

    /// Behind its first word.
    pub(super) fn read(first: u64, reader: &mut Reader<'_>) -> Result<TaskHead> {
        let id = reader.number()?;
        let mut rare = |bit: u64| if first & bit != 0 { reader.number() } else { Ok(0) };
        let (deadline_ns, due_in_ns, retries) = (rare(HAS_DEADLINE)?, rare(HAS_DUE)?, rare(HAS_RETRIES)?);
        Ok(TaskHead {
            kind: (first >> 8) as u32 & 0xff,
            function: (first >> 32) as u32,
            id,
            deadline_ns,
            due_in_ns,
            retries: retries as u32,
        })
    }
}

/// In place of the length of bytes: they have come before this frame, as a block.
const APART: u64 = u64::MAX;

/// The bytes of a task's input or output in a frame: there, or the next of the blocks that have come before it.
pub(super) fn read_bytes<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a [u8]>> {
    let mut ahead = Reader(reader.0);
    if ahead.number()? == APART {
        *reader = ahead;
        return Ok(None);
    }
    reader.bytes().map(Some)
}

/// Says that they are a block.
pub(super) fn write_apart(out: &mut Writer) {
    out.number(APART);
}

/// The next of the blocks that have come; -ENOMEM where there was no memory for it.
pub(super) fn next_block(blocks: &mut VecDeque<Option<Block>>) -> Result<Block> {
    let next = blocks.pop_front();
    let next = next.ok_or_else(|| Error::errno(libc::EPROTO, "a frame names a block that has not come"))?;
    next.ok_or_else(no_room)
}

const HAS_MESSAGE: u64 = 1 << 34;
const HAS_CHUNK: u64 = 1 << 35;
const HAS_DEATH: u64 = 1 << 36;
const HAS_LATE: u64 = 1 << 37;
const HAS_DEATHS: u64 = 1 << 38;

/// What comes back of a task but for its output.
pub(super) fn write_outcome(out: &mut Writer, id: u64, outcome: &Outcome, is_chunk: bool, deaths: u32) {
    let delivery = match outcome.delivery {
        Delivery::Ran => 0,
        Delivery::NotStarted => 1,
        Delivery::MaybeRan => 2,
    };
    let has = |bit: u64, yes: bool| if yes { bit } else { 0 };
    let rare = has(HAS_MESSAGE, outcome.message.is_some())
        | has(HAS_CHUNK, is_chunk)
        | has(HAS_DEATH, outcome.death.is_some())
        | has(HAS_LATE, outcome.late.is_some())
        | has(HAS_DEATHS, deaths > 0);
    out.number(id);
    out.number(u64::from(outcome.status as u32) | delivery << 32 | rare);
    if let Some(message) = &outcome.message {
        out.bytes(message.to_bytes());
    }
    if is_chunk {
        out.number(outcome.items);
        out.number(outcome.culprit.into());
        out.number(outcome.elapsed_ns);
    }
    if let Some(death) = &outcome.death {
        write_death(out, death);
    }
    if let Some((item, status)) = outcome.late {
        out.number(item);
        out.number(status as u64);
    }
    if deaths > 0 {
        out.number(deaths.into());
    }
}

/// The same, behind its id; and how many processes have died with the task.
pub(super) fn read_outcome(reader: &mut Reader<'_>) -> Result<(Outcome, u32)> {
    let word = reader.number()?;
    let delivery = match word >> 32 & 3 {
        0 => Delivery::Ran,
        1 => Delivery::NotStarted,
        2 => Delivery::MaybeRan,
        _ => return Err(Error::errno(libc::EPROTO, "a result with a delivery that is none")),
    };
    let mut outcome = Outcome::new(word as u32 as i32, delivery);
    if word & HAS_MESSAGE != 0 {
        outcome.message = to_c_string(reader.bytes()?);
    }
    if word & HAS_CHUNK != 0 {
        outcome.items = reader.number()?;
        outcome.culprit = reader.number()? != 0;
        outcome.elapsed_ns = reader.number()?;
    }
    if word & HAS_DEATH != 0 {
        outcome.death = Some(Box::new(read_death(reader)?));
    }
    if word & HAS_LATE != 0 {
        outcome.late = Some((reader.number()?, reader.number()? as i32));
    }
    let deaths = if word & HAS_DEATHS != 0 { reader.number()? as u32 } else { 0 };
    Ok((outcome, deaths))
}

fn write_death(out: &mut Writer, death: &Death) {
    let numbers = [
        death.pid as u64,
        death.signal as u64,
        death.code as u64,
        death.fault_address as u64,
        death.max_rss_bytes,
        death.user_ns,
        death.system_ns,
        death.out_of_memory as u64,
        death.item,
    ];
    numbers.into_iter().for_each(|number| out.number(number));
    out.bytes(death.backtrace().to_bytes());
    out.bytes(death.function().to_bytes());
    out.bytes(death.output());
}

fn read_death(reader: &mut Reader<'_>) -> Result<Death> {
    let mut numbers = [0; 9];
    for number in &mut numbers {
        *number = reader.number()?;
    }
    let [pid, signal, code, fault, rss, user_ns, system_ns, out_of_memory, item] = numbers;
    let mut death = Death::new(pid as i32, signal as i32, code as i32, rss);
    (death.fault_address, death.user_ns, death.system_ns) = (fault as usize, user_ns, system_ns);
    death.out_of_memory = out_of_memory as i32;
    death.set_backtrace(reader.text()?);
    death.set_task(0, item, reader.text()?);
    death.set_output(reader.bytes()?.to_vec());
    Ok(death)
}

/// A chunk's memory as it travels: what it holds, and where that is in one block at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChunkLayout {
    /// One `int` each.
    pub(super) statuses: usize,
    pub(super) status: usize,
    pub(super) input: usize,
    pub(super) input_bytes: usize,
    pub(super) output: usize,
    pub(super) output_bytes: usize,
    pub(super) context: usize,
    pub(super) bytes: usize,
}

impl ChunkLayout {
    /// `None` where no memory holds that.
    pub(super) fn of(kind: CallKind, chunk: &Chunk) -> Option<ChunkLayout> {
        let size = |number: u64| usize::try_from(number).ok().filter(|size| *size <= isize::MAX as usize / 8);
        let statuses = if kind == CallKind::Range { 1 } else { size(chunk.count)? };
        let array = |address: u64, stride: u64| {
            if address == 0 { Some(0) } else { size(stride)?.checked_mul(statuses) }
        };
        let (input_bytes, output_bytes) =
            (array(chunk.input, chunk.input_stride)?, array(chunk.output, chunk.output_stride)?);
        let after = |at: usize, bytes: usize| at.checked_add(bytes)?.checked_next_multiple_of(64);
        let status = after(0, size(chunk.messages_bytes)?)?;
        let input = after(status, statuses.checked_mul(size_of::<i32>())?)?;
        let output = after(input, input_bytes)?;
        let context = after(output, output_bytes)?;
        let bytes = after(context, size(chunk.context_length)?)?;
        size(bytes as u64)?;
        Some(ChunkLayout { statuses, status, input, input_bytes, output, output_bytes, context, bytes })
    }
}

/// Whether a chunk's outputs are a part of the chunk's own block, which the map has zeroed: then they need not travel there. As
/// [`super::map`] lays it out.
pub(super) fn has_own_output(kind: CallKind, chunk: &Chunk) -> bool {
    let statuses = if kind == CallKind::Range { 1 } else { chunk.count };
    let from_block = |address: u64| address.wrapping_sub(chunk.messages);
    let input = (from_block(chunk.status) + statuses * size_of::<i32>() as u64).next_multiple_of(64);
    let carried = if from_block(chunk.input) == input { statuses * chunk.input_stride } else { 0 };
    from_block(chunk.output) == (input + carried).next_multiple_of(64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_and_outcomes_come_back_as_they_were() {
        for head in [
            TaskHead { kind: 1, function: 7, id: 9, ..TaskHead::default() },
            TaskHead { kind: 4, function: u32::MAX, id: u64::MAX, deadline_ns: 1, due_in_ns: 2, retries: 3 },
        ] {
            let mut out = Writer::default();
            head.write(&mut out);
            let mut reader = Reader(&out.written);
            let first = reader.number().unwrap();
            assert_eq!(first & 0xff, tag::TASK);
            assert_eq!(TaskHead::read(first, &mut reader).unwrap(), head);
            assert!(reader.0.is_empty());
        }
        let mut outcome = Outcome::new(-5003, Delivery::MaybeRan);
        outcome.message = to_c_string(b"why");
        (outcome.items, outcome.culprit, outcome.late) = (3, true, Some((4, -110)));
        let mut death = Death::new(12, 9, 0, 77);
        death.set_output(b"last words".to_vec());
        death.set_backtrace("here+0x1\n".to_owned());
        outcome.death = Some(Box::new(death));
        let mut out = Writer::default();
        write_outcome(&mut out, 5, &outcome, true, 2);
        let mut reader = Reader(&out.written);
        assert_eq!(reader.number().unwrap(), 5);
        let (back, deaths) = read_outcome(&mut reader).unwrap();
        assert_eq!((back.status, back.delivery, deaths), (-5003, Delivery::MaybeRan, 2));
        assert_eq!((back.items, back.culprit, back.late), (3, true, Some((4, -110))));
        let death = back.death.unwrap();
        assert_eq!((death.pid, death.signal, death.output()), (12, 9, &b"last words"[..]));
        assert_eq!(death.backtrace().to_bytes(), b"here+0x1\n");
        assert!(reader.0.is_empty());
        for length in 0..out.written.len() {
            let mut reader = Reader(&out.written[..length]);
            assert!(reader.number().and_then(|_| read_outcome(&mut reader)).is_err(), "{length}");
        }
    }

    #[test]
    fn bytes_are_in_the_frame_or_apart() {
        let mut out = Writer::default();
        out.bytes(b"here");
        write_apart(&mut out);
        out.bytes(b"");
        let mut reader = Reader(&out.written);
        let mut read = || read_bytes(&mut reader).unwrap();
        assert_eq!((read(), read(), read()), (Some(&b"here"[..]), None, Some(&b""[..])));
        assert!(read_bytes(&mut reader).is_err());
        assert_eq!(next_block(&mut VecDeque::new()).unwrap_err().code().0, -libc::EPROTO);
        assert_eq!(next_block(&mut VecDeque::from([None])).unwrap_err().code().0, -libc::ENOMEM);
    }

    #[test]
    fn a_layout_that_no_memory_holds_is_none() {
        let chunk = Chunk { count: u64::MAX, input: 64, input_stride: 8, ..Chunk::default() };
        assert_eq!(ChunkLayout::of(CallKind::Items, &chunk), None);
        let chunk = Chunk { count: 1 << 40, input: 64, input_stride: 1 << 40, ..Chunk::default() };
        assert_eq!(ChunkLayout::of(CallKind::Items, &chunk), None);
        let chunk = Chunk { count: 3, input: 64, input_stride: 8, messages_bytes: 200, ..Chunk::default() };
        let layout = ChunkLayout::of(CallKind::Items, &chunk).unwrap();
        assert_eq!((layout.statuses, layout.status, layout.input), (3, 256, 320));
        assert_eq!((layout.input_bytes, layout.output_bytes), (24, 0));
    }
}
