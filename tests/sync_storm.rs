//! Storms: processes use one primitive as fast as they can while others of them are killed at random. Nobody may hang,
//! and nothing may be torn without a word.
//!
//! A program of its own, without the test harness, because it forks. TINE_STORM=1 makes it long.

#[allow(dead_code)] // Of the single-stepper's tools, this needs those for processes.
#[path = "step/mod.rs"]
mod step;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};
use step::{Shared, kill, pointer, spawn, wait_end};
use tine::ffi::errors::TINE_EBROKEN;
use tine::ffi::sync::*;
use tine::ffi::sync_barrier::*;
use tine::ffi::sync_rwlock::*;
use tine::ffi::sync_signal::*;

const WORKERS: usize = 4;
const OWNER_DEAD: i32 = -libc::EOWNERDEAD;
/// Nobody may make no progress for as long; ten times what is promised.
const HANG: Duration = Duration::from_secs(20);
/// How often to kill.
const SHORT: u32 = 5000;
const LONG: u32 = 100_000;
/// A killed process must come to run in order to die, and its successor to be born: so the others pause now and then.
const BETWEEN_YIELDS: u64 = 512;

#[repr(C)]
struct Storm {
    shared: Shared,
    progress: [AtomicU64; WORKERS],
    deaths: AtomicU64,
    /// Both halves are equal whenever the lock is free and nobody has died.
    left: AtomicU64,
    right: AtomicU64,
    torn: AtomicU32,
    writers: AtomicU32,
}

type Work = fn(&'static Storm, usize);
type After = fn(&Storm);

macro_rules! c {
    ($call:ident($($argument:expr),*)) => {
        // SAFETY: the shared objects live as long as the program.
        unsafe { $call($($argument),*) }
    };
}

/// Changes what a lock protects, in two steps with a death in between now and then.
fn change(storm: &Storm, rc: i32) {
    if rc == OWNER_DEAD {
        storm.deaths.fetch_add(1, SeqCst);
        storm.right.store(storm.left.load(SeqCst), SeqCst);
        storm.writers.store(0, SeqCst);
    }
    if storm.writers.fetch_add(1, SeqCst) != 0 || storm.left.load(SeqCst) != storm.right.load(SeqCst) {
        storm.torn.store(1, SeqCst);
    }
    // Half of the pauses are in the middle of a change, so that many die there.
    if storm.left.fetch_add(1, SeqCst).is_multiple_of(BETWEEN_YIELDS) {
        step::pause();
    }
    storm.right.fetch_add(1, SeqCst);
    storm.writers.store(0, SeqCst);
}

const MUTEX: Work = |storm, _| {
    let mutex = pointer(&storm.shared.mutex);
    let rc = c!(tine_mutex_lock(mutex, i64::MAX));
    change(storm, rc);
    if rc == OWNER_DEAD {
        c!(tine_mutex_repair(mutex));
    }
    assert_eq!(c!(tine_mutex_unlock(mutex)), 0);
};

const RWLOCK: Work = |storm, worker| {
    let lock = pointer(&storm.shared.rwlock);
    if storm.progress[worker].load(SeqCst) % 4 == 0 {
        let rc = c!(tine_rwlock_write_lock(lock, i64::MAX));
        change(storm, rc);
        if rc == OWNER_DEAD {
            c!(tine_rwlock_repair(lock));
        }
    } else {
        let rc = c!(tine_rwlock_read_lock(lock, i64::MAX));
        let written = storm.writers.load(SeqCst) != 0 || storm.left.load(SeqCst) != storm.right.load(SeqCst);
        if rc == 0 && written {
            storm.torn.store(2, SeqCst);
        }
    }
    assert_eq!(c!(tine_rwlock_unlock(lock)), 0);
};

/// A unit in a dead one's hands is gone, so the storm itself puts in another one after each kill.
const SEMAPHORE: Work = |storm, _| {
    let semaphore = pointer(&storm.shared.semaphore);
    assert_eq!(c!(tine_semaphore_acquire(semaphore, i64::MAX)), 0);
    assert_eq!(c!(tine_semaphore_release(semaphore, 1)), 0);
};

const EVENT: Work = |storm, _| {
    let event = pointer(&storm.shared.event);
    assert_eq!(c!(tine_event_wait(event, i64::MAX)), 0);
    assert_eq!(c!(tine_event_set(event)), 0);
};

/// Half of the workers put in what the others take out.
const CONDITION: Work = |storm, worker| {
    let (mutex, condition) = (pointer(&storm.shared.mutex), pointer(&storm.shared.condition));
    let count = &storm.shared.tokens;
    let heard = |rc: i32| {
        assert!(rc == 0 || rc == OWNER_DEAD, "{rc}");
        if rc == OWNER_DEAD {
            storm.deaths.fetch_add(1, SeqCst);
            assert_eq!(c!(tine_mutex_repair(mutex)), 0);
            c!(tine_condition_notify_all(condition));
        }
    };
    heard(c!(tine_mutex_lock(mutex, i64::MAX)));
    let takes = worker % 2 == 0;
    while count.load(SeqCst) == if takes { 0 } else { 3 } {
        heard(c!(tine_condition_wait(condition, mutex, i64::MAX)));
    }
    if takes {
        count.fetch_sub(1, SeqCst);
    } else {
        count.fetch_add(1, SeqCst);
    }
    // Both kinds wait on the same condition, so all of them look.
    c!(tine_condition_notify_all(condition));
    assert_eq!(c!(tine_mutex_unlock(mutex)), 0);
};

const BARRIER: Work = |storm, _| {
    let barrier = pointer(&storm.shared.barrier);
    let rc = c!(tine_barrier_wait(barrier, i64::MAX));
    if rc == TINE_EBROKEN {
        c!(tine_barrier_reset(barrier));
    } else {
        assert!(rc == 0 || rc == 1, "barrier: {rc}");
    }
};

fn worker(storm: &'static Storm, work: Work, index: usize) -> i32 {
    spawn(move || {
        // SAFETY: no pointers. The one that kills shall come to run.
        unsafe { libc::nice(10) };
        loop {
            work(storm, index);
            if storm.progress[index].fetch_add(1, SeqCst).is_multiple_of(BETWEEN_YIELDS) {
                step::pause();
            }
        }
    })
}

fn storm(name: &str, work: Work, kills: u32, after_kill: After) -> bool {
    let storm: &'static Storm = step::map();
    let shared = &storm.shared;
    assert_eq!(c!(tine_barrier_init(pointer(&shared.barrier), WORKERS as u32, 0)), 0);
    assert_eq!(c!(tine_semaphore_init(pointer(&shared.semaphore), 2, 0, 0)), 0);
    assert_eq!(c!(tine_event_init(pointer(&shared.event), TINE_AUTO_RESET)), 0);
    assert_eq!(c!(tine_event_set(pointer(&shared.event))), 0);
    let mut pids: Vec<i32> = (0..WORKERS).map(|index| worker(storm, work, index)).collect();
    let (mut done, mut longest) = (0, Duration::ZERO);
    let (mut seed, mut hung, began) = (0x9e37_79b9_7f4a_7c15_u64, false, Instant::now());
    for round in 0..kills {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let victim = seed as usize % WORKERS;
        // A random while, as work that the victim does, or time if it sleeps.
        let until = Instant::now() + Duration::from_nanos(seed >> 20 & 0x1ffff);
        while Instant::now() < until {
            step::pause();
        }
        kill(pids[victim]);
        wait_end(pids[victim]);
        after_kill(storm);
        pids[victim] = worker(storm, work, victim);
        if round % 16 == 15 {
            let before: Vec<u64> = storm.progress.iter().map(|progress| progress.load(SeqCst)).collect();
            let (looked, mut limit) = (Instant::now(), step::Limit::new(HANG));
            let all_moved =
                || storm.progress.iter().zip(&before).all(|(now, before)| now.load(SeqCst) != *before);
            while !all_moved() && !limit.is_over() {
                step::pause();
            }
            hung = !all_moved();
            longest = longest.max(looked.elapsed());
        }
        done = round + 1;
        if hung {
            describe(storm, &pids);
            break;
        }
    }
    for pid in pids {
        kill(pid);
        wait_end(pid);
    }
    let torn = storm.torn.load(SeqCst);
    let operations: u64 = storm.progress.iter().map(|progress| progress.load(SeqCst)).sum();
    println!(
        "{name}: {done} kills, {operations} operations, {} deaths reported, hung {hung}, torn or owned twice {torn}, \
         all went on within {longest:.1?}, {:.1?} in all",
        storm.deaths.load(SeqCst),
        began.elapsed()
    );
    !hung && torn == 0
}

/// What a hang looks like, before everybody is killed.
fn describe(storm: &Storm, pids: &[i32]) {
    let words = |name: &str, words: &[u64]| println!("{name}: {words:x?}");
    words("mutex", &storm.shared.mutex.opaque);
    words("rwlock", &storm.shared.rwlock.opaque);
    words("semaphore", &storm.shared.semaphore.opaque);
    words("event", &storm.shared.event.opaque);
    words("condition", &storm.shared.condition.opaque);
    words("barrier", &storm.shared.barrier.opaque[..32]);
    for (pid, progress) in pids.iter().zip(&storm.progress) {
        let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
        println!("{pid}: {} operations, in {}", progress.load(SeqCst), call.trim());
    }
}

fn main() {
    let kills = if std::env::var_os("TINE_STORM").is_some() { LONG } else { SHORT };
    let chosen: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let nothing: After = |_| {};
    let unit: After = |storm| {
        if c!(tine_semaphore_value(pointer(&storm.shared.semaphore))) == 0 {
            c!(tine_semaphore_release(pointer(&storm.shared.semaphore), 1));
        }
    };
    let set: After = |storm| {
        c!(tine_event_set(pointer(&storm.shared.event)));
    };
    let all: [(&str, Work, After); 6] = [
        ("mutex", MUTEX, nothing),
        ("rwlock", RWLOCK, nothing),
        ("semaphore", SEMAPHORE, unit),
        ("event", EVENT, set),
        ("condition", CONDITION, nothing),
        ("barrier", BARRIER, nothing),
    ];
    let (mut passed, mut failed) = (0, 0);
    for (name, work, after_kill) in all {
        if chosen.is_empty() || chosen.iter().any(|chosen| chosen == name) {
            let ok = storm(name, work, kills, after_kill);
            *if ok { &mut passed } else { &mut failed } += 1;
        }
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {verdict}. {passed} passed; {failed} failed");
    std::process::exit(i32::from(failed != 0));
}
