//! The queue: the very code of its locks, its gate and its two commit words, on memory that is laid out as loom needs it.

#[path = "layout.rs"]
mod layout;
#[path = "../../src/queue/message.rs"]
mod message;
#[path = "../../src/queue/status.rs"]
mod status;
#[path = "../../src/queue/transfer.rs"]
mod transfer;

/// No time passes in a model: to look longer is to sleep later.
mod spin {
    use crate::sys::prim::AtomicU32;

    pub(crate) struct Spin;
    pub(crate) struct Hints;

    impl Hints {
        pub(crate) fn leave_note(&self, _: &AtomicU32, _: u32) {}
    }

    impl Spin {
        pub(crate) fn new(_: &Hints) -> Spin {
            Spin
        }

        pub(crate) fn save(&self, _: &Hints) {}

        pub(crate) fn look(&mut self, found: impl Fn() -> bool) -> bool {
            found()
        }

        pub(crate) fn gather(&mut self, _: impl FnOnce() -> u64) {}
        pub(crate) fn slept(&mut self, _: &Hints) {}
    }
}

use crate::kernel::{has_second_died, quiesce, spawn};
use crate::sync::Outcome;
use crate::sys::clock::Timeout;
use layout::{Body, MOST_BYTES, MOST_MESSAGES};
use message::Queue;
use std::cell::Cell;
use std::rc::Rc;

impl Queue {
    /// Nobody destroys a model's queue.
    fn is_gone(&self) -> bool {
        false
    }
}

/// A queue, and which messages were got: each is a number below 32.
struct Line {
    body: Body,
    got: Cell<u32>,
}

impl Line {
    fn new(messages: u32, waiting: &[u32]) -> Rc<Line> {
        let line = Rc::new(Line { body: Body::new(messages), got: Cell::new(0) });
        waiting.iter().for_each(|number| line.put(*number));
        line
    }

    fn queue(&self) -> Queue {
        Queue { memory: self.body.memory() }
    }

    fn put(&self, number: u32) {
        some(self.queue().put(&number.to_ne_bytes(), Timeout::Forever));
    }

    fn get(&self) {
        let mut bytes = [0; 4];
        let got = self.queue().get(bytes.as_mut_slice().into(), Timeout::Forever);
        assert_eq!(some(got.map_err(|(code, _)| code)), 4);
        let bit = 1 << u32::from_ne_bytes(bytes);
        assert_eq!(self.got.replace(self.got.get() | bit) & bit, 0, "a message is got twice");
    }

    /// How many of the first `count` messages were not got.
    fn missing(&self, count: u32) -> u32 {
        count - (self.got.get() & ((1 << count) - 1)).count_ones()
    }

    /// Nobody sleeps who need not; with enough messages, or enough room, everybody goes.
    fn settled(&self, producers: bool, first_filler: u32) {
        for filler in first_filler.. {
            let asleep = quiesce();
            if asleep == 0 {
                return;
            }
            if producers {
                assert!(self.queue().is_full(), "a producer sleeps although there is room");
                self.get();
            } else {
                assert!(self.queue().is_empty(), "a consumer sleeps although there is a message");
                self.put(filler);
            }
        }
    }
}

fn some<T>(outcome: Outcome<T>) -> T {
    outcome.unwrap_or_else(|code| panic!("{code:?}"))
}

/// Three consumers wait, of whom the victim is one: one sleeps at the gate, the others behind it.
pub fn three_consumers(dies: Option<u32>) {
    let line = Line::new(2, &[]);
    for dies in [dies, None, None] {
        let line = line.clone();
        spawn(dies, move || line.get());
    }
    line.put(0);
    line.settled(false, 1);
}

/// Three producers wait for room, of whom the victim is one.
pub fn three_producers(dies: Option<u32>) {
    let line = Line::new(1, &[0]);
    for (dies, number) in [(dies, 3), (None, 1), (None, 2)] {
        let line = line.clone();
        spawn(dies, move || line.put(number));
    }
    line.get();
    line.settled(true, 0);
    while !line.queue().is_empty() {
        line.get();
    }
    let own = u32::from(has_second_died());
    assert!(line.missing(3) <= own, "a message is lost though nobody died who had it");
}

/// One of each side sleeps at the same gate, and a second consumer behind; the producer dies.
pub fn producer_between(dies: Option<u32>) {
    let line = Line::new(1, &[]);
    for _ in 0..2 {
        let line = line.clone();
        spawn(None, move || line.get());
    }
    let producer = line.clone();
    spawn(dies, move || {
        producer.put(0);
        producer.put(1);
    });
    line.settled(false, 2);
}

/// The same, and the consumer dies that is in the way of the other.
pub fn consumer_between(dies: Option<u32>) {
    let line = Line::new(1, &[0]);
    let consumer = line.clone();
    spawn(dies, move || {
        consumer.get();
        consumer.get();
    });
    for number in [1, 2] {
        let line = line.clone();
        spawn(None, move || line.put(number));
    }
    line.get();
    quiesce();
    while !line.queue().is_empty() {
        line.get();
        quiesce();
    }
    // A consumer that lives may wait for its second.
    line.settled(false, 3);
    let own = u32::from(has_second_died());
    assert!(line.missing(3) <= 1 + own, "more is lost than was in the dead one's hands");
}

/// Two consumers wait; the victim closes the queue, and so does another after it.
pub fn closer(dies: Option<u32>) {
    let line = Line::new(1, &[]);
    for _ in 0..2 {
        let line = line.clone();
        spawn(None, move || {
            let mut bytes = [0; 4];
            let got = line.queue().get(bytes.as_mut_slice().into(), Timeout::Forever);
            assert_eq!(got.map_err(|(code, _)| code), Err(message::CLOSED));
        });
    }
    let closes = line.clone();
    spawn(dies, move || some(closes.queue().close()));
    let asleep = quiesce();
    assert!(asleep == 0 || !line.queue().is_closed(), "one sleeps although the queue is closed");
    some(line.queue().close());
    assert_eq!(quiesce(), 0, "a close wakes nobody");
}
