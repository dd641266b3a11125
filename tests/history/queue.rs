//! The queue: two messages of 8 bytes at most, put and got by copy and in place.

use super::record::Memory;
use super::subject::*;
use std::collections::VecDeque;
use std::ptr::NonNull;
use tine::error::Code;
use tine::queue::{Queue as Tines, QueueOptions};
use tine::sys::clock::Timeout;

const CAPACITY: usize = 2;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Queue {
    messages: VecDeque<i64>,
}

impl State for Queue {
    /// One that was killed in the middle of it has done it or not. It may have got a message long before its death, but
    /// nobody knows before the next one has been got.
    fn guess(&mut self, call: &Call) {
        match call.kind {
            Kind::Put if self.messages.len() < CAPACITY => self.messages.push_back(message(call.number)),
            Kind::Get => drop(self.messages.pop_front()),
            _ => {}
        }
    }

    fn answer(&mut self, call: &Call, answer: i64) -> bool {
        match (call.kind, answer) {
            (Kind::Die, _) => {}
            (Kind::Put, 0) if self.messages.len() < CAPACITY => {
                self.messages.push_back(message(call.number));
            }
            // Another of its side was at it, or there is nothing to be had.
            (Kind::Put, AGAIN | TIMED_OUT) => return self.messages.len() == CAPACITY || call.contended,
            (Kind::Get, AGAIN | TIMED_OUT) => return self.messages.is_empty() || call.contended,
            (Kind::Get, message) => return self.messages.pop_front() == Some(message),
            _ => return false,
        }
        true
    }
}

/// What a put's number says: the message, above how the call is made.
fn message(number: u64) -> i64 {
    (number >> 8) as i64
}

/// Whether the call is made in place, and slowly.
const IN_PLACE: u64 = 1 << 4;

fn options() -> QueueOptions {
    QueueOptions { messages: CAPACITY, bytes: 64, flags: 0 }
}

fn dwell() {
    (0..1000).for_each(|_| std::hint::spin_loop());
}

fn put(queue: Tines, number: u64, timeout: Timeout) -> Result<i64, Code> {
    let bytes = message(number).to_ne_bytes();
    if number & IN_PLACE == 0 {
        return queue.put(&bytes, timeout).map(|()| 0);
    }
    let place = queue.reserve(bytes.len(), timeout)?;
    // SAFETY: so many bytes were reserved.
    unsafe { place.cast().write(bytes) };
    dwell();
    queue.commit(bytes.len()).map(|()| 0)
}

fn get(queue: Tines, number: u64, timeout: Timeout) -> Result<i64, Code> {
    let mut bytes = [0; 8];
    if number & IN_PLACE == 0 {
        queue.get(bytes.as_mut_slice().into(), timeout).map_err(|(code, _)| code)?;
    } else {
        let (place, _) = queue.peek(timeout)?;
        // SAFETY: every message has 8 bytes, and this one is this thread's until it is released.
        bytes = unsafe { place.cast().read() };
        dwell();
        queue.release()?;
    }
    Ok(i64::from_ne_bytes(bytes))
}

impl Subject for Queue {
    const NAME: &'static str = "queue";

    fn new() -> Self {
        Queue { messages: VecDeque::new() }
    }

    fn make(memory: &Memory) {
        let start = NonNull::new(memory.as_ptr()).unwrap();
        // SAFETY: nobody uses the memory now, and it is a page's start.
        unsafe { Tines::create(start, &options()).unwrap() };
    }

    fn choose(actor: &mut Actor) -> Option<(Kind, u64)> {
        let random = actor.random();
        let how = random >> 8 & (IN_PLACE | 1);
        let number = (actor.who as u64 * EACH + actor.made + 1) << 8;
        Some(match random % 2 {
            _ if actor.is_done() => return None,
            0 => (Kind::Put, number | how),
            _ => (Kind::Get, how),
        })
    }

    fn perform(memory: &Memory, kind: Kind, number: u64, actor: &mut Actor) -> i64 {
        let start = NonNull::new(memory.as_ptr()).unwrap();
        // SAFETY: the queue was made before the processes were, and lives as long as the memory.
        let queue = unsafe { Tines::attach(start, size_of::<Memory>()).unwrap() };
        let waits = Timeout::from_ns(timeout(number & 1));
        let done = if kind == Kind::Put { put(queue, number, waits) } else { get(queue, number, waits) };
        let answer = done.unwrap_or_else(|code| i64::from(code.0));
        // The planted fault: it gives a message twice.
        if kind == Kind::Get && actor.last > 0 && actor.lies() {
            return actor.last;
        }
        if kind == Kind::Get {
            actor.last = answer;
        }
        answer
    }

    /// Gets all that is left, until there is no more.
    fn settle(actor: &mut Actor) -> Option<(Kind, u64)> {
        (actor.last >= 0 && actor.made < 10 * EACH).then_some((Kind::Get, 0))
    }

    /// A call that does not find its side free does not see what there is.
    fn collide(one: Kind, other: Kind) -> bool {
        one == other
    }
}
