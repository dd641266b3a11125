//! What the threads of the condition's models do: tokens that are put and taken.

use crate::kernel::{quiesce, spawn};
use crate::scenes::{FOREVER, new_mutex, some};
use crate::sync::{Acquired, Condition, Mutex, Outcome, TIMED_OUT};
use crate::sys::clock::Timeout;
use std::cell::Cell;
use std::rc::Rc;

#[derive(Debug)]
struct Tokens {
    mutex: Mutex,
    condition: Condition,
    count: Cell<u32>,
}

impl Tokens {
    fn new() -> Rc<Tokens> {
        let (mutex, condition) = (new_mutex(0), some(Condition::new(0)));
        let tokens = Rc::new(Tokens { mutex, condition, count: Cell::new(0) });
        some(tokens.mutex.lock(FOREVER));
        some(tokens.mutex.unlock());
        tokens
    }

    /// Who hears of a death repairs, and notifies everybody.
    fn hear(&self, acquired: Acquired) {
        if acquired == Acquired::OwnerDied {
            some(self.mutex.repair());
            some(self.condition.notify_all());
        }
    }

    fn take(&self) {
        self.take_within(FOREVER);
    }

    /// Waits anew each time that its time runs out.
    fn take_within(&self, timeout: Timeout) {
        self.hear(some(self.mutex.lock(FOREVER)));
        while self.count.get() == 0 {
            match self.condition.wait(&self.mutex, timeout) {
                Err(TIMED_OUT) => {}
                woken => self.hear(some(woken)),
            }
        }
        self.count.set(self.count.get() - 1);
        some(self.mutex.unlock());
    }

    fn put(&self, count: u32, notify: impl Fn(&Condition) -> Outcome<()>) {
        self.hear(some(self.mutex.lock(FOREVER)));
        self.count.set(self.count.get() + count);
        some(notify(&self.condition));
        some(self.mutex.unlock());
    }

    fn settled(&self) {
        quiesce();
        self.put(0, |_| Ok(())); // Where the victim died with the mutex, somebody has to notice.
        let asleep = quiesce();
        assert!(asleep == 0 || self.count.get() == 0, "one sleeps although there is a token");
        for _ in 0..asleep {
            self.put(1, |condition| condition.notify(1));
        }
        assert_eq!(quiesce(), 0, "a notification wakes nobody");
    }
}

/// The victim is one of two that wait, while two tokens come one by one.
pub(crate) fn condition_waiter(dies: Option<u32>) {
    let tokens = Tokens::new();
    for dies in [dies, None] {
        let tokens = tokens.clone();
        spawn(dies, move || tokens.take());
    }
    quiesce_one_may_be_dead(&tokens);
    tokens.put(1, |condition| condition.notify(1));
    tokens.settled();
}

/// The victim is one of three that wait, two of whom are notified.
pub(crate) fn condition_three(dies: Option<u32>) {
    let tokens = Tokens::new();
    for dies in [dies, None, None] {
        let tokens = tokens.clone();
        spawn(dies, move || tokens.take());
    }
    quiesce_one_may_be_dead(&tokens);
    tokens.put(1, |condition| condition.notify(1));
    tokens.put(1, |condition| condition.notify(1));
    tokens.settled();
}

/// The victim is one of three that wait, two of whom are notified, and has hardly any time: it does not stand in line, and what it was
/// notified of is somebody's all the same.
pub(crate) fn condition_impatient(dies: Option<u32>) {
    let tokens = Tokens::new();
    for (dies, timeout) in [(dies, Timeout::After(1)), (None, FOREVER), (None, FOREVER)] {
        let tokens = tokens.clone();
        spawn(dies, move || tokens.take_within(timeout));
    }
    quiesce_one_may_be_dead(&tokens);
    tokens.put(1, |condition| condition.notify(1));
    tokens.put(1, |condition| condition.notify(1));
    tokens.settled();
}

/// From here on both wait, or one has died: the interesting part begins, and the rest needs no interleavings.
fn quiesce_one_may_be_dead(tokens: &Tokens) {
    quiesce();
    tokens.put(0, |_| Ok(()));
}

/// The victim notifies everybody.
pub(crate) fn condition_notifier(dies: Option<u32>) {
    let tokens = Tokens::new();
    for _ in 0..2 {
        let tokens = tokens.clone();
        spawn(None, move || tokens.take());
    }
    quiesce();
    let notifier = tokens.clone();
    spawn(dies, move || notifier.put(2, Condition::notify_all));
    tokens.settled();
}

/// The victim notifies two.
pub(crate) fn condition_notifier_of_two(dies: Option<u32>) {
    let tokens = Tokens::new();
    for _ in 0..2 {
        let tokens = tokens.clone();
        spawn(None, move || tokens.take());
    }
    quiesce();
    let notifier = tokens.clone();
    spawn(dies, move || notifier.put(2, |condition| condition.notify(2)));
    tokens.settled();
}
