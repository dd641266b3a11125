//! The bell of a pool: what wakes its host. Workers, the supervisor and the host's own threads ring it.
//!
//! It lies in the header page of the pool's heap, which every process of the family has mapped: to ring takes no descriptor,
//! so there is none that user code could close, and to sleep takes one store whatever the number of workers.
//!
//! | word | set by | cleared by |
//! |---|---|---|
//! | `leader` | the thread that leads, before it sleeps | who rings, by exchange; the leader when it is back |
//! | `standby` | tine's thread, before it sleeps; the host's threads make it more | who rings, by exchange; tine's thread when it is back |
//! | `news` | who has something to tell that is no result | the host, when it looks after the family |
//!
//! Each of the first two has one sleeper at a time, and nobody but who rings and who sleeps clears it: a wake-up belongs
//! to whom it is meant for. Dekker: who rings has stored what there is to see, fences, and looks at the words; who sleeps stores
//! its word, fences, and looks for what there is to see. A hostile worker can make the host look for nothing, or sleep until its
//! next look, which is never far while anything is under way. docs/design/waiting.md has the whole.

use crate::sys::clock::Deadline;
use crate::sys::futex::Word;
use crate::sys::prim::{AtomicU32, Ordering, Wait, fence, futex_wait, futex_wake};

/// What tine's thread, asleep, wants to hear of.
pub(crate) mod standby {
    /// It does not sleep.
    pub(crate) const AWAKE: u32 = 0;
    /// News only.
    pub(crate) const QUIET: u32 = 1;
    /// Also a ring that runs low: tasks wait.
    pub(crate) const HUNGRY: u32 = 2;
    /// Every result.
    pub(crate) const CURIOUS: u32 = 3;
}

const ASLEEP: u32 = 1;

#[repr(C, align(64))]
#[derive(Debug, Default)]
pub(crate) struct Bell {
    leader: AtomicU32,
    standby: AtomicU32,
    /// Release and Acquire: what the news are of was stored before.
    news: AtomicU32,
}

/// Wakes who sleeps on this word, if it says that somebody does.
fn wake(word: &AtomicU32) {
    if word.swap(0, Ordering::Relaxed) != 0 {
        futex_wake(word, 1);
    }
}

impl Bell {
    /// Worker, after a fence: there is a result. `is_low` says whether the ring runs low with it.
    #[inline]
    pub(crate) fn ring_for_result(&self, is_low: impl FnOnce() -> bool) {
        if self.leader.load(Ordering::Relaxed) != 0 {
            return wake(&self.leader);
        }
        match self.standby.load(Ordering::Relaxed) {
            standby::AWAKE | standby::QUIET => (),
            standby::HUNGRY if !is_low() => (),
            _ => wake(&self.standby),
        }
    }

    /// Anybody: there is something that is no result, and somebody is to look after the family.
    pub(crate) fn ring_for_news(&self) {
        self.news.store(1, Ordering::Release);
        fence(Ordering::SeqCst);
        if self.leader.load(Ordering::Relaxed) != 0 {
            wake(&self.leader);
        } else {
            self.ring_standby();
        }
    }

    /// Host: the one that leads is to look again.
    pub(crate) fn ring_leader(&self) {
        if self.leader.load(Ordering::Relaxed) != 0 {
            wake(&self.leader);
        }
    }

    /// Host: tine's thread is to look again.
    pub(crate) fn ring_standby(&self) {
        if self.standby.load(Ordering::Relaxed) != 0 {
            wake(&self.standby);
        }
    }

    /// Host: whether there have been news since this was asked last.
    pub(crate) fn take_news(&self) -> bool {
        self.news.load(Ordering::Relaxed) != 0 && self.news.swap(0, Ordering::Acquire) != 0
    }

    /// Leader: is about to sleep. What there is to see has to be looked for after this.
    pub(crate) fn leader_lies_down(&self) {
        self.leader.store(ASLEEP, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Leader: sleeps until somebody rings.
    pub(crate) fn leader_sleeps(&self, deadline: Deadline) -> Wait {
        futex_wait(&self.leader, ASLEEP, deadline)
    }

    /// Leader: is up.
    pub(crate) fn leader_is_up(&self) {
        self.leader.store(0, Ordering::Relaxed);
    }

    /// tine's thread: is about to sleep, and wants to hear of this much. What there is to see has to be looked for after this.
    pub(crate) fn standby_lies_down(&self, mode: u32) {
        self.standby.store(mode, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// tine's thread: is up.
    pub(crate) fn standby_is_up(&self) {
        self.standby.store(standby::AWAKE, Ordering::Relaxed);
    }

    /// tine's thread: whether nobody has rung for it.
    pub(crate) fn standby_sleeps(&self) -> bool {
        self.standby.load(Ordering::Relaxed) != standby::AWAKE
    }

    /// Host: tine's thread, which wanted to hear of so much, is to hear of more; not where it is up.
    pub(crate) fn standby_wants_more(&self, from: u32, to: u32) -> bool {
        self.standby.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// What tine's thread sleeps on, and what is there now.
    pub(crate) fn standby_word(&self) -> Word {
        // Where somebody has just rung, it does not hold this.
        Word::new(&self.standby, self.standby.load(Ordering::Relaxed).max(standby::QUIET))
    }

    /// Host: whether there are news.
    pub(crate) fn has_news(&self) -> bool {
        self.news.load(Ordering::Relaxed) != 0
    }
}
