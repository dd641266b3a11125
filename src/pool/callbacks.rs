//! Callbacks of tasks: what a host wants to be told, on its own threads.
//!
//! Whoever has the pool's lock finds out that a task has begun or settled and enters it in `PoolState::news`; who waits or polls
//! tells, without the lock. In a pool with a background thread that thread tells, and nobody else; without one, the
//! thread that sleeps for all is called out for it.
//!
//! ```text
//!   SETTLED, entered in the news --- a thread that tells takes it ---> TAKEN --- the callback returns ---> FREE
//! ```
//!
//! News are told in the order in which they came, by one thread or by several; those of one task one after the other. A thread that is
//! in a callback tells nothing more of the same pool's, so callbacks do not pile up inside each other. Nobody tells more than there
//! was when it began: a callback may submit what is told of next, and so on without end.

use super::ledger::{TaskId, TaskState};
use super::looks::BEGINS_NS;
use super::state::PoolState;
use super::{Held, Inner, TaskResult};
use crate::error::Code;
use crate::sys::clock::Deadline;
use crate::sys::thread;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

/// Above so many busy workers it is looked so often at which tasks have begun, and not each time.
const FEW: usize = 16;

/// Told that a task has begun, and in which process.
pub type OnBegin = Arc<dyn Fn(TaskId, i32) + Send + Sync>;
/// Told what came of a task; the result is valid until it returns.
pub type OnSettled = Arc<dyn Fn(&TaskResult) + Send + Sync>;

/// What a task's submitter wants to be told.
#[derive(Clone, Default)]
pub struct Callbacks {
    /// Each time that the task begins.
    pub on_begin: Option<OnBegin>,
    /// Its result, which nobody else gets then.
    pub on_settled: Option<OnSettled>,
}

impl Callbacks {
    pub(super) fn is_none(&self) -> bool {
        self.on_begin.is_none() && self.on_settled.is_none()
    }
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (begin, settled) = (self.on_begin.is_some(), self.on_settled.is_some());
        f.debug_struct("Callbacks").field("on_begin", &begin).field("on_settled", &settled).finish()
    }
}

/// The callbacks of a task in the ledger.
#[derive(Debug)]
pub(super) struct Calls {
    pub(super) callbacks: Callbacks,
    /// That it has begun has been entered in the news.
    begun: bool,
}

impl Calls {
    pub(super) fn new(callbacks: Callbacks) -> Option<Calls> {
        (!callbacks.is_none()).then_some(Calls { callbacks, begun: false })
    }

    fn awaits_begin(&self) -> bool {
        self.callbacks.on_begin.is_some() && !self.begun
    }
}

enum Item {
    Begun(OnBegin, TaskId, i32),
    Settled(TaskId),
}

impl Item {
    fn task(&self) -> TaskId {
        match self {
            Item::Begun(_, id, _) | Item::Settled(id) => *id,
        }
    }
}

/// A thread that is in a callback.
#[derive(Debug)]
struct Teller {
    thread: thread::Id,
    task: TaskId,
}

/// What there is to tell.
#[derive(Default)]
pub(super) struct News {
    items: VecDeque<Item>,
    /// There are new ones since the thread that tells them was woken, or some are left over.
    pub(super) is_fresh: bool,
    /// Tasks whose result is a callback's and has not come.
    expected: usize,
    /// Threads that are in a callback of this pool's.
    telling: Vec<Teller>,
    /// tine's thread that calls them, where there is one.
    pub(super) caller: Option<thread::Id>,
    /// Tasks of which it is to be told that they have begun, and has not been.
    awaited: usize,
}

impl fmt::Debug for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("News")
            .field("items", &self.items.len())
            .field("telling", &self.telling)
            .finish_non_exhaustive()
    }
}

impl News {
    /// Where that is which is to be told next: nothing of a task of which something is being told.
    fn next(&self) -> Option<usize> {
        let is_told_of = |id: TaskId| self.telling.iter().any(|teller| teller.task == id);
        self.items.iter().position(|item| !is_told_of(item.task()))
    }

    fn has_next(&self) -> bool {
        self.next().is_some()
    }

    fn take(&mut self) -> Option<Item> {
        self.next().and_then(|next| self.items.remove(next))
    }
}

/// Tells the news, where no thread of tine's does it.
pub(super) fn tell<'a>(pool: &'a Inner, state: Held<'a>, until: Deadline) -> Held<'a> {
    if !state.has_news() || pool.has_caller() || state.is_in_callback() {
        return state;
    }
    tell_some(pool, state, until)
}

/// Tells all news, of a pool that takes no more tasks: there is an end to them.
pub(super) fn tell_all<'a>(pool: &'a Inner, mut state: Held<'a>) -> Held<'a> {
    while state.news.has_next() && !state.is_telling() {
        state = tell_some(pool, state, Deadline::NEVER);
    }
    state
}

/// Tells the news that there are now, the first at least, and no further one after that time; without the lock while a callback runs:
/// others lead meanwhile.
pub(super) fn tell_some<'a>(pool: &'a Inner, mut state: Held<'a>, until: Deadline) -> Held<'a> {
    let me = thread::this();
    let _uncancelled = thread::Uncancelled::new();
    state.news.is_fresh = false;
    let mut left = state.news.items.len();
    while left > 0
        && let Some(item) = state.news.take()
    {
        left -= 1;
        state.news.telling.push(Teller { thread: me, task: item.task() });
        // What comes next may be what this callback waits for: whoever sleeps and may tell is woken for it when the lock is free.
        state.news.is_fresh = state.news.has_next();
        state.leave();
        let told = match item {
            Item::Begun(callback, id, pid) => {
                drop(state);
                let told = catch_unwind(AssertUnwindSafe(|| callback(id, pid)));
                state = pool.lock();
                told
            }
            Item::Settled(id) => {
                let mut told = Ok(());
                if let Some(index) = state.ledger.look_up(id) {
                    let rare = state.ledger.get_mut(index).rare.as_mut();
                    let callback = rare.and_then(|rare| rare.calls.take());
                    let callback = callback.and_then(|calls| calls.callbacks.on_settled);
                    state.mark_taken(index);
                    let result = state.hand_over(index);
                    drop(state);
                    if let Some(callback) = callback {
                        told = catch_unwind(AssertUnwindSafe(|| callback(&result)));
                    }
                    state = pool.lock();
                }
                let taken = |index: &u32| state.ledger.get(*index).state == TaskState::Taken;
                if let Some(index) = state.ledger.look_up(id).filter(taken) {
                    state.release(index);
                }
                told
            }
        };
        state.news.telling.retain(|teller| teller.thread != me);
        if let Err(panic) = told {
            state.news.is_fresh |= state.news.has_next();
            drop(state);
            resume_unwind(panic);
        }
        if until.passed() {
            break;
        }
    }
    // Somebody else is to tell what is left, who may have passed it over because of what was told here.
    state.news.is_fresh |= state.news.has_next();
    // Who waits until everything is over waits for callbacks, too.
    state.wake_waiters();
    state.update_event_fd();
    state
}

impl PoolState {
    /// Whether there is something to tell.
    pub(super) fn has_news(&self) -> bool {
        !self.news.items.is_empty()
    }

    /// Whether this thread is in a callback of this pool's, or of another's on the thread that calls this one's, too.
    pub(super) fn is_in_callback(&self) -> bool {
        self.is_telling() || self.news.caller.as_ref().is_some_and(|caller| *caller == thread::this())
    }

    /// Whether this thread is in a callback of this pool's.
    fn is_telling(&self) -> bool {
        self.news.telling.iter().any(|teller| teller.thread == thread::this())
    }

    /// Whether there is something that a thread of the host's could tell now.
    pub(super) fn has_news_for_host(&self) -> bool {
        self.news.caller.is_none() && self.news.has_next()
    }

    /// Whether all callbacks have returned.
    pub(super) fn has_told_all(&self) -> bool {
        self.news.items.is_empty() && self.news.telling.is_empty()
    }

    /// What is told of a task with these callbacks will have room; -ENOMEM where there is none.
    pub(super) fn make_room_to_tell(&mut self, callbacks: &Callbacks) -> crate::Result<()> {
        let News { items, expected, awaited, .. } = &mut self.news;
        let more = usize::from(callbacks.on_settled.is_some()) + usize::from(callbacks.on_begin.is_some());
        if more == 0 {
            return Ok(());
        }
        items.try_reserve(*expected + *awaited + more).map_err(|_| Code::errno(libc::ENOMEM).into())
    }

    /// A task has been entered in the ledger, perhaps with callbacks.
    pub(super) fn expect(&mut self, index: u32) {
        let Some(calls) = self.ledger.get_mut(index).calls_mut() else { return };
        self.news.awaited += usize::from(calls.awaits_begin());
        if calls.callbacks.on_settled.is_some() {
            self.news.expected += 1;
            self.submissions.claim(&mut self.ledger, index);
        }
    }

    /// A task has begun in a process.
    pub(super) fn note_begin(&mut self, index: u32, pid: i32) {
        let entry = self.ledger.get_mut(index);
        let id = entry.id_at(index);
        let Some(calls) = entry.calls_mut().filter(|calls| calls.awaits_begin()) else { return };
        // Where there is no memory, a later look tells it.
        if self.news.items.try_reserve(self.news.expected + self.news.awaited).is_err() {
            return;
        }
        calls.begun = true;
        self.news.awaited -= 1;
        if let Some(callback) = &calls.callbacks.on_begin {
            self.news.items.push_back(Item::Begun(Arc::clone(callback), id, pid));
            self.news.is_fresh = true;
        }
    }

    /// A task that had begun is to begin once more.
    pub(super) fn begins_again(&mut self, index: u32) {
        if let Some(calls) = self.ledger.get_mut(index).calls_mut() {
            self.news.awaited += usize::from(calls.begun);
            calls.begun = false;
        }
    }

    /// A task has settled. Where its callback gets the result, it is claimed for that.
    pub(super) fn note_settled(&mut self, index: u32) {
        let entry = self.ledger.get_mut(index);
        let id = entry.id_at(index);
        let Some(calls) = entry.calls_mut() else { return };
        if calls.awaits_begin() {
            calls.begun = true;
            self.news.awaited -= 1;
        }
        if calls.callbacks.on_settled.is_some() {
            self.news.expected -= 1;
            self.news.is_fresh = true;
            self.news.items.push_back(Item::Settled(id));
        }
    }

    /// Whether callbacks wait for what only results say.
    pub(super) fn awaits_results(&self) -> bool {
        self.news.expected > 0 || self.news.awaited > 0
    }

    /// Whether it is to be told that a task has begun, of which no worker tells by itself.
    pub(super) fn awaits_begins(&self) -> bool {
        self.news.awaited > 0
    }

    /// Looks for tasks that have begun.
    pub(super) fn look_for_begins(&mut self, now: u64) {
        if !self.awaits_begins() || self.rings.busy_count() > FEW && now < self.looks.begins_due_ns {
            return;
        }
        self.looks.begins_due_ns = now + BEGINS_NS;
        let mut next = self.rings.first_busy();
        while let Some(slot) = next.filter(|_| self.awaits_begins()) {
            next = self.rings.next_busy(slot);
            let Some((position, index)) = self.rings[slot].front() else { continue };
            let member = &self.family.members[slot];
            if member.segment.as_ref().is_some_and(|segment| segment.slot(position).has_begun()) {
                let pid = member.pid;
                self.note_begin(index, pid);
            }
        }
    }
}
