//! The ring between the host and one worker: a segment of shared memory that only these two map for writing.
//!
//! There is one slot per place in the ring, and a slot carries a task to the worker and its result back. The host
//! fills slots and moves `tail`; the worker takes them in order and moves `done`. Nothing else is needed: a slot is
//! the host's again when `done` has passed it and the host has looked. The host moves `tail` past several slots at once where it has filled
//! several, and the worker looks at `tail` again when it has run what it has seen.
//!
//! ```text
//!   slot.state   set by                              meaning if the worker is found dead
//!   READY        host, before it moves tail          not started: runs elsewhere
//!   STARTED      worker, compare-exchange from READY may have run, unless `done` has passed it
//!   RECALLED     host, compare-exchange from READY   the host has it back; the worker passes over it
//! ```
//!
//! | word | written by | read by | pairing |
//! |---|---|---|---|
//! | `tail` | host, Release | worker, Acquire | makes the slots before it visible |
//! | `done` | worker, Release | host, Acquire | makes the results before it visible: the commit of a result |
//! | `state` | both, compare-exchange AcqRel | both | who has the task: exactly one of the two wins |
//! | `low_at` | host, Relaxed | worker | stored before `tail`; one seen late rings once too often, or for the next task |
//! | `mark` | host, before the worker starts | worker, Relaxed | which bit of the pool's marks it sets when it has moved `done` |
//! | `traced` | host, before the worker starts | worker, Relaxed | whether it leaves `began_ns` and `ended_ns` in the slots |
//! | `worker_sleeps` | worker sets, host clears | both | Dekker with `tail`: both store, fence, then look |
//! | `host_sleeps` | host sets, worker clears | both | Dekker with `done`; where the pool's descriptor is watched |
//! | `phase`, `pending_output`, `items_*` | worker, Release | host, Acquire, after a death too | each stands alone |
//! | `begun_ns` | worker, Release | host, Acquire | zeroed before the claim, so never an earlier task's |
//! | `items_*`, `begun_ns` | as above | host, and then `done` | of the task in front only where `done`, read after them, has not passed it |
//! | `awake_*` | worker, when it has waited for a task | who looks from outside | two words, for people |
//! | `kind` | host, before it moves `tail`; DECLINED by the worker, before it moves `done` | both | as the rest of the slot |
//! | `pace` | worker, Relaxed, when it has run out of tasks | host | how long each has taken since it began with them, and up to which `done`: a hint |
//! | `asked` | host | worker | where TIMED, Dekker with `items_begun`: both store, fence, then look |
//!
//! A death leaves nothing to repair: the host drains what was committed, looks at the states, and throws the segment
//! away. A hostile worker can write all of it; the host keeps its own count of what is in the ring, and takes every
//! word from here once and checks it.

mod slot;

pub(crate) use self::slot::{Bytes, INLINE_INPUT, INLINE_OUTPUT, Left, MESSAGE, TaskSlot, flag, state};

use crate::error::Result;
use crate::heap::bell::Bell;
use crate::heap::marks::Marks;
use crate::sys::cache::fetch_to_write;
use crate::sys::clock::{Deadline, now_ns};
use crate::sys::fd::{self, Guarded};
use crate::sys::memory::{Mapping, sealed_memfd};
use crate::sys::prim::{AtomicI32, AtomicU32, AtomicU64, Ordering, fence, futex_wait, futex_wake};
use crate::task::spin::Spin;
use crossbeam_utils::CachePadded;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Slots of a ring. How many of them are in use at a time is the host's choice.
pub(crate) const SLOTS: u32 = 64;

/// Phases of a worker's life.
pub(crate) mod phase {
    /// Not yet in its loop.
    pub(crate) const STARTING: u32 = 0;
    /// Takes tasks.
    pub(crate) const READY: u32 = 1;
    /// Its start has failed; the segment's `failure` says why.
    pub(crate) const FAILED: u32 = 2;
    /// It cannot map a segment that the pool shares, and ends; `failure` says why.
    pub(crate) const CANNOT_MAP: u32 = 3;
}

/// Frames of a backtrace that a crash record holds.
pub(crate) const FRAMES: usize = 48;

/// What a worker's handler of fatal signals leaves behind. Written by the handler alone; `signal` last.
#[repr(C)]
pub(crate) struct CrashRecord {
    /// The signal, or 0 while there is no crash. Release; pairs with the host's Acquire after the death.
    pub(crate) signal: AtomicI32,
    pub(crate) code: AtomicI32,
    pub(crate) fault_address: AtomicU64,
    pub(crate) frame_count: AtomicU32,
    _pad: u32,
    /// Each frame: the module's place in the worker's table (or `u64::MAX`), and the offset in it (or the address).
    pub(crate) frames: [(AtomicU64, AtomicU64); FRAMES],
}

/// What a worker remembers of its waits for tasks.
#[derive(Debug)]
pub(crate) struct Waiter {
    spin: Spin,
    /// Since when it has had tasks, and the first of them.
    began_ns: u64,
    from: u32,
}

impl Waiter {
    pub(crate) fn new() -> Waiter {
        Waiter { spin: Spin::new(), began_ns: 0, from: 0 }
    }
}

/// The segment.
#[repr(C)]
pub(crate) struct Shared {
    tail: CachePadded<AtomicU32>,
    /// From which `done` on the ring runs low.
    pub(crate) low_at: AtomicU32,
    worker_sleeps: CachePadded<AtomicU32>,
    done: CachePadded<AtomicU32>,
    host_sleeps: CachePadded<AtomicU32>,
    /// The host wants the worker to end when it has nothing left to do.
    pub(crate) leave: CachePadded<AtomicU32>,
    pub(crate) phase: AtomicU32,
    pub(crate) failure_length: AtomicU32,
    pub(crate) failure_code: AtomicI32,
    /// How many messages the host has got into the worker's socket, nearly all of them segments to map; and how many
    /// the worker has dealt with. Release, for what was sent and mapped before.
    pub(crate) messages_sent: AtomicU32,
    pub(crate) messages_done: AtomicU32,
    /// The worker's number in the pool's marks, plus 1; 0 in a pool of few, whose rings are all looked at.
    pub(crate) mark: AtomicU32,
    /// The worker is to look at the clock for each task. Stored before the worker is started.
    pub(crate) traced: AtomicU32,
    /// The block that the running task's output is being allocated in; see `Heap::allocate_announced`.
    pub(crate) pending_output: CachePadded<AtomicU64>,
    /// Items of the running chunk that have begun, and that have finished.
    pub(crate) items_begun: CachePadded<AtomicU64>,
    pub(crate) items_done: AtomicU64,
    /// When the running task, or the running item, began; 0 where nobody has asked.
    pub(crate) begun_ns: AtomicU64,
    /// How long each task has taken that the worker was awake for, without a wait between them, and `done` when it had no more.
    pace: AtomicU64,
    /// When the worker last had waited for a task, and that task's position.
    pub(crate) awake_ns: AtomicU64,
    pub(crate) awake_from: AtomicU32,
    pub(crate) crash: CrashRecord,
    pub(crate) failure: Bytes<512>,
    slots: [TaskSlot; SLOTS as usize],
}

/// A mapping of the segment.
#[derive(Debug)]
pub(crate) struct Segment(Mapping);

// SAFETY: everything in the segment is an atomic, or bytes that the protocol above gives to one side at a time.
unsafe impl Send for Segment {}
// SAFETY: threads that share the mapping reach atomics, and bytes that the protocol above gives to one side at a
// time.
unsafe impl Sync for Segment {}

impl std::ops::Deref for Segment {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        // SAFETY: the mapping is as long as `Shared`, page-aligned, and holds nothing but atomics and byte cells, for
        // which every content is valid.
        unsafe { &*self.0.pointer().cast::<Shared>() }
    }
}

impl Segment {
    /// A fresh one, all zero, and the descriptor by which the worker gets it.
    pub(crate) fn create() -> Result<(Segment, OwnedFd)> {
        let fd = sealed_memfd(c"tine-ring", size_of::<Shared>())?;
        let mapping = Mapping::shared(fd.as_raw_fd(), size_of::<Shared>())?;
        Ok((Segment(mapping), fd))
    }

    /// The host's, in the worker.
    pub(crate) fn attach(fd: RawFd) -> Result<Segment> {
        Ok(Segment(Mapping::shared(fd, size_of::<Shared>())?))
    }
}

#[cfg(test)]
impl Segment {
    /// All of it, for a test that writes there what it likes.
    pub(crate) fn memory(&self) -> (*mut u8, usize) {
        (self.0.pointer(), self.0.length())
    }
}

impl Shared {
    /// The slot at a position of the endless sequence.
    pub(crate) fn slot(&self, position: u32) -> &TaskSlot {
        &self.slots[(position % SLOTS) as usize]
    }

    /// Worker: comes back when the signals that were pending have arrived, at the latest on the way back from the kernel.
    pub(crate) fn let_signals_arrive(&self) {
        futex_wake(&self.worker_sleeps, 1); // Nobody waits there but this thread.
    }

    /// Either side, which is about to write into these slots: their first lines begin their way here from where they are now, all at once.
    pub(crate) fn fetch(&self, position: u32, count: u32) {
        (0..count).for_each(|at| fetch_to_write(self.slot(position.wrapping_add(at))));
    }

    /// Host: the tasks up to `tail` are there. [`Shared::wake_worker`] is still to be called; its fence waits for the line of `tail`.
    pub(crate) fn show(&self, tail: u32) {
        self.tail.store(tail, Ordering::Release);
    }

    /// Host: makes the worker look again.
    pub(crate) fn wake_worker(&self) {
        fence(Ordering::SeqCst);
        if self.worker_sleeps.load(Ordering::Relaxed) != 0
            && self.worker_sleeps.swap(0, Ordering::Relaxed) != 0
        {
            futex_wake(&self.worker_sleeps, 1);
        }
    }

    /// Worker: waits until there are tasks from `position` on, or until it is to leave; how many there are. What is there stays there, so
    /// whoever knows of several need not look at `tail` again, into which the host writes meanwhile. `look_around` is called before
    /// each sleep: it sees whatever the host has stored before it woke the worker.
    pub(crate) fn wait_for_tasks(&self, position: u32, waiter: &mut Waiter, look_around: impl Fn()) -> u32 {
        let count = || self.tail.load(Ordering::Acquire).wrapping_sub(position);
        let is_there = || count() != 0;
        // What comes at once is taken as if there had been no wait: the clock would take longer than that.
        if is_there() || waiter.spin.glance(is_there) {
            if waiter.began_ns == 0 {
                // Its first tasks: nothing else would say since when it is at them.
                self.has_come(waiter, now_ns(), position);
            }
            return count();
        }
        let mut now = now_ns();
        self.leave_pace(position, waiter, now);
        loop {
            if let Some(last) = waiter.spin.look_from(now, is_there) {
                self.has_come(waiter, last, position);
                return count();
            }
            self.worker_sleeps.store(1, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if is_there() {
                self.worker_sleeps.store(0, Ordering::Relaxed);
                self.has_come(waiter, now_ns(), position);
                return count();
            }
            if self.leave.load(Ordering::Acquire) != 0 {
                return 0;
            }
            look_around();
            let began = now_ns();
            futex_wait(&self.worker_sleeps, 1, Deadline::NEVER);
            now = now_ns();
            waiter.spin.slept(now - began);
            if is_there() {
                self.has_come(waiter, now, position);
                return count();
            }
        }
    }

    /// The worker has a task again, at this position.
    fn has_come(&self, waiter: &mut Waiter, now: u64, position: u32) {
        (waiter.began_ns, waiter.from) = (now, position);
        self.awake_from.store(position, Ordering::Relaxed);
        // Release: who sees the time sees the position that belongs to it, or a later one.
        self.awake_ns.store(now, Ordering::Release);
    }

    /// Who looks from outside: where the host and the worker are, `tail` and `done`.
    pub(crate) fn positions(&self) -> (u32, u32) {
        (self.tail.load(Ordering::Relaxed), self.done.load(Ordering::Relaxed))
    }

    fn leave_pace(&self, position: u32, waiter: &Waiter, now: u64) {
        let tasks = u64::from(position.wrapping_sub(waiter.from));
        if let Some(each) = now.saturating_sub(waiter.began_ns).checked_div(tasks) {
            let pace = u64::from(position) << 32 | each.min(u64::from(u32::MAX));
            self.pace.store(pace, Ordering::Relaxed);
        }
    }

    /// Host: how long each of its last tasks has taken the worker, in nanoseconds, if it has run out of them with the one before
    /// `done`. Any number can stand there.
    pub(crate) fn pace(&self, done: u32) -> Option<u64> {
        let pace = self.pace.load(Ordering::Relaxed);
        (pace >> 32 == u64::from(done)).then_some(pace & 0xffff_ffff)
    }

    /// Worker: the results before `done` are there. Wakes the host where it sleeps.
    pub(crate) fn finish(&self, done: u32, bell: &Bell, marks: &Marks, host: &Guarded) {
        self.commit(done);
        self.leave_mark(marks);
        fence(Ordering::SeqCst);
        bell.ring_for_result(|| self.is_low(done));
        if self.signal_host(host) {
            // The host is to ask once more, although it may have taken the result already.
            self.leave_mark(marks);
        }
    }

    /// Host: the same of what the worker has finished so far.
    pub(crate) fn runs_low(&self) -> bool {
        self.is_low(self.done.load(Ordering::Relaxed))
    }

    /// Whether no more is left in the ring than the host has said to be little.
    pub(crate) fn is_low(&self, done: u32) -> bool {
        done.wrapping_sub(self.low_at.load(Ordering::Relaxed)) as i32 >= 0
    }

    /// Worker: the same for a host that waits for something else.
    pub(crate) fn commit(&self, done: u32) {
        self.done.store(done, Ordering::Release);
    }

    /// Worker: has news for the host that are no result.
    pub(crate) fn tell_host(&self, bell: &Bell, host: &Guarded) {
        bell.ring_for_news();
        let _ = self.signal_host(host);
    }

    fn leave_mark(&self, marks: &Marks) {
        if let Some(slot) = self.mark.load(Ordering::Relaxed).checked_sub(1) {
            marks.set(slot);
        }
    }

    /// Worker, after a fence: makes the descriptor readable by which the host is to be told, where it wants that; whether it
    /// does.
    fn signal_host(&self, host: &Guarded) -> bool {
        let asked =
            self.host_sleeps.load(Ordering::Relaxed) != 0 && self.host_sleeps.swap(0, Ordering::Relaxed) != 0;
        if asked {
            fd::eventfd_signal(host.as_raw_fd());
        }
        asked
    }

    /// Host: how many of the `in_ring` tasks from `position` on have results. A number that cannot be, which only a
    /// hostile worker writes, is `None`.
    pub(crate) fn finished(&self, position: u32, in_ring: u32) -> Option<u32> {
        let count = self.done.load(Ordering::Acquire).wrapping_sub(position);
        (count <= in_ring).then_some(count)
    }

    /// Host: asks to be told of the next result. Afterwards, what has come meanwhile must be looked for once more.
    pub(crate) fn ask_to_be_told(&self) {
        self.host_sleeps.store(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_and_results_pass_between_threads() {
        let (segment, fd) = Segment::create().unwrap();
        let worker = Segment::attach(fd.as_raw_fd()).unwrap();
        let event = crate::sys::fd::eventfd().unwrap();
        let host_event = &Guarded::new(event);
        let (bell, marks) = (Bell::default(), Marks::new());
        const TASKS: u32 = 100_000;
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut position = 0;
                let mut waiter = Waiter::new();
                while worker.wait_for_tasks(position, &mut waiter, || ()) > 0 {
                    let slot = worker.slot(position);
                    if slot.claim(state::STARTED) {
                        slot.status.store(
                            slot.messages_needed.load(Ordering::Relaxed) as i32 + 1,
                            Ordering::Relaxed,
                        );
                    }
                    position = position.wrapping_add(1);
                    worker.finish(position, &bell, &marks, host_event);
                }
                assert_eq!(position, TASKS);
            });
            let (mut tail, mut done) = (0, 0);
            while done < TASKS {
                while tail < TASKS && tail - done < SLOTS {
                    let slot = segment.slot(tail);
                    slot.messages_needed.store(tail, Ordering::Relaxed);
                    slot.state.store(state::READY, Ordering::Relaxed);
                    tail += 1;
                    segment.show(tail);
                    segment.wake_worker();
                }
                segment.ask_to_be_told();
                fence(Ordering::SeqCst);
                let mut finished = segment.finished(done, tail - done).unwrap();
                if finished == 0 {
                    assert!(
                        crate::sys::pidfd::poll(host_event.as_raw_fd(), Deadline::after(20_000_000_000)),
                        "a lost wake-up"
                    );
                    crate::sys::fd::eventfd_clear(host_event.as_raw_fd());
                    finished = segment.finished(done, tail - done).unwrap();
                }
                for _ in 0..finished {
                    assert_eq!(segment.slot(done).status.load(Ordering::Relaxed), done as i32 + 1);
                    done += 1;
                }
            }
            segment.leave.store(1, Ordering::Release);
            segment.wake_worker();
        });
    }

    #[test]
    fn a_worker_that_runs_out_of_tasks_says_how_long_they_took() {
        let (segment, _fd) = Segment::create().unwrap();
        segment.show(3);
        segment.leave.store(1, Ordering::Release);
        let mut waiter = Waiter::new();
        assert!((0..3).all(|position| segment.wait_for_tasks(position, &mut waiter, || ()) == 3 - position));
        assert_ne!(
            segment.awake_ns.load(Ordering::Relaxed),
            0,
            "when it began with the first, which had been there before it was"
        );
        assert_eq!(segment.pace.load(Ordering::Relaxed), 0, "it has more");
        assert_eq!(segment.wait_for_tasks(3, &mut waiter, || ()), 0);
        assert!(segment.pace(3).is_some_and(|each| each < 1_000_000_000) && segment.pace(2).is_none());
    }

    #[test]
    fn a_recalled_task_is_not_started_and_the_reverse() {
        let (segment, _fd) = Segment::create().unwrap();
        let slot = segment.slot(5);
        assert!(!slot.claim(state::STARTED), "an empty slot");
        slot.state.store(state::READY, Ordering::Relaxed);
        assert!(slot.claim(state::RECALLED));
        assert!(!slot.claim(state::STARTED));
    }

    #[test]
    fn a_count_that_cannot_be_is_refused() {
        let (segment, _fd) = Segment::create().unwrap();
        segment.done.store(7, Ordering::Relaxed);
        assert_eq!(segment.finished(5, 3), Some(2));
        assert_eq!(segment.finished(5, 1), None);
        assert_eq!(segment.finished(8, 3), None);
    }
}
