//! Reader-writer locks and barriers.

use super::mutex::{FOREVER, OWNER_DEAD, WARM, at, begin, c, end};
use super::step::*;
use std::sync::atomic::Ordering::SeqCst;
use tine::ffi::sync_barrier::*;
use tine::ffi::sync_rwlock::*;

const BROKEN: i32 = tine::error::Code::BROKEN.0;

// ---- reader-writer lock

fn leave(shared: &'static Shared) {
    c!(tine_rwlock_unlock(at!(shared, rwlock)));
}
const WRITE: Step = |shared| {
    let rc = c!(tine_rwlock_write_lock(at!(shared, rwlock), HANG_NS));
    assert!(rc == 0 || rc == OWNER_DEAD, "write lock: {rc}");
    begin(shared, rc);
    if rc == OWNER_DEAD {
        assert_eq!(c!(tine_rwlock_repair(at!(shared, rwlock))), 0);
    }
    end(shared);
    leave(shared);
};
const READ: Step = |shared| {
    let rc = c!(tine_rwlock_read_lock(at!(shared, rwlock), HANG_NS));
    assert!(rc == 0 || rc == OWNER_DEAD, "read lock: {rc}");
    if rc == 0 && shared.inside.load(SeqCst) != 0 {
        shared.torn.store(1, SeqCst);
    }
    leave(shared);
};
const BOTH: Step = |shared| {
    READ(shared);
    WRITE(shared);
    READ(shared);
};
const USED: Step = |shared| {
    WARM(shared);
    WRITE(shared);
};
const HOLDS_WRITE: Step = |shared| {
    WARM(shared);
    let rc = c!(tine_rwlock_write_lock(at!(shared, rwlock), FOREVER));
    begin(shared, rc);
};
const LEAVES_WRITE: Step = |shared| {
    end(shared);
    leave(shared);
};
const HOLDS_READ: Step = |shared| {
    WARM(shared);
    c!(tine_rwlock_read_lock(at!(shared, rwlock), FOREVER));
};
const LEAVES_READ: Step = |shared| leave(shared);
const WRITER_HOLDS: Step = |shared| {
    assert_eq!(c!(tine_rwlock_write_lock(at!(shared, rwlock), FOREVER)), 0);
    hold(shared);
};
const READER_HOLDS: Step = |shared| {
    assert_eq!(c!(tine_rwlock_read_lock(at!(shared, rwlock), FOREVER)), 0);
    hold(shared);
};
fn hold(shared: &'static Shared) {
    shared.ready.store(1, SeqCst);
    assert!(until(|| shared.go.load(SeqCst) != 0));
    leave(shared);
}
const LET_GO: Step = |shared| shared.go.store(1, SeqCst);
const BARGE: Step = |shared| {
    let rc = c!(tine_rwlock_read_lock(at!(shared, rwlock), 0));
    shared.tokens.store(u32::from(rc == 0 || rc == OWNER_DEAD), SeqCst);
};
const UNBARGE: Step = |shared| {
    if shared.tokens.load(SeqCst) != 0 {
        leave(shared);
    }
};
/// All fifteen slots are another's.
const CROWD: Step = |shared| {
    for _ in 0..TINE_RWLOCK_READERS {
        assert_eq!(c!(tine_rwlock_read_lock(at!(shared, rwlock), FOREVER)), 0);
    }
    shared.ready.store(1, SeqCst);
    assert!(until(|| shared.go.load(SeqCst) != 0));
    for _ in 0..TINE_RWLOCK_READERS {
        leave(shared);
    }
};

// ---- barrier

fn meet(shared: &'static Shared, index: usize) {
    let rc = c!(tine_barrier_wait(at!(shared, barrier), HANG_NS));
    assert!(rc == 0 || rc == 1 || rc == BROKEN, "barrier: {rc}");
    shared.codes[index].store(if rc == BROKEN { 2 } else { 1 }, SeqCst);
}
const PARTY: Step = |shared| meet(shared, 0);
const OTHER: Step = |shared| meet(shared, 1);
const COMES: Step = |shared| {
    c!(tine_barrier_wait(at!(shared, barrier), FOREVER));
};
/// The last to come, and with others still inside perhaps not the last to leave.
const COMES_LAST: Step = |shared| assert!(c!(tine_barrier_wait(at!(shared, barrier), HANG_NS)) >= 0);
const FOR_TWO: Step = |shared| assert_eq!(c!(tine_barrier_init(at!(shared, barrier), 2, 0)), 0);
const FOR_THREE: Step = |shared| assert_eq!(c!(tine_barrier_init(at!(shared, barrier), 3, 0)), 0);
/// Who is still waited for comes, once; then everybody must have met or been told, and a reset makes it new.
const SETTLES: Step = |shared| {
    let parties = c!(tine_barrier_parties(at!(shared, barrier)));
    let missing = parties - c!(tine_barrier_waiting(at!(shared, barrier)));
    let come = |count: i32| -> Vec<i32> {
        let party = || {
            let rc = c!(tine_barrier_wait(at!(shared, barrier), HANG_NS));
            assert!(rc == 0 || rc == 1 || rc == BROKEN, "barrier: {rc}");
        };
        (0..count).map(|_| spawn(party)).collect()
    };
    for party in come(missing) {
        assert_eq!(reap(party, 2 * HANG), Some(0), "a party that came hangs");
    }
    let all =
        || (0..2).all(|index| shared.about[index].load(SeqCst) == 0 || shared.codes[index].load(SeqCst) != 0);
    assert!(until(all), "a party waits for one that died");
    assert_eq!(c!(tine_barrier_reset(at!(shared, barrier))), 0);
    assert_eq!(c!(tine_barrier_waiting(at!(shared, barrier))), 0);
    assert_eq!(c!(tine_barrier_broken(at!(shared, barrier))), 0);
    for party in come(parties) {
        assert_eq!(reap(party, 2 * HANG), Some(0), "a party hangs after the reset");
    }
    assert_eq!(c!(tine_barrier_broken(at!(shared, barrier))), 0);
};

const R: &str = "rwlock";
const B: &str = "barrier";

pub const CASES: &[Case] = &[
    Case { setup: USED, operation: READ, check: BOTH, ..Case::new(R, "read lock, unlock", "alone") },
    Case { setup: USED, operation: WRITE, check: BOTH, ..Case::new(R, "write lock, unlock", "alone") },
    Case {
        setup: HOLDS_WRITE,
        operation: LEAVES_WRITE,
        waiters: &[READ],
        check: BOTH,
        ..Case::new(R, "write unlock", "one reader waits")
    },
    Case {
        setup: HOLDS_WRITE,
        operation: LEAVES_WRITE,
        waiters: &[READ, WRITE],
        check: BOTH,
        ..Case::new(R, "write unlock", "a reader and a writer wait")
    },
    Case {
        setup: HOLDS_READ,
        operation: LEAVES_READ,
        waiters: &[WRITE],
        check: BOTH,
        ..Case::new(R, "read unlock", "one writer waits")
    },
    Case {
        setup: HOLDS_READ,
        operation: LEAVES_READ,
        waiters: &[WRITE, READ],
        barger: Some((BARGE, UNBARGE)),
        check: BOTH,
        ..Case::new(R, "read unlock", "a writer and a reader wait, barger")
    },
    Case {
        holder: Some(WRITER_HOLDS),
        setup: WARM,
        operation: READ,
        waiters: &[READ],
        waiters_behind: true,
        wake: Some(LET_GO),
        check: BOTH,
        ..Case::new(R, "read lock, woken", "one reader waits")
    },
    Case {
        holder: Some(READER_HOLDS),
        setup: WARM,
        operation: WRITE,
        waiters: &[WRITE, READ],
        waiters_behind: true,
        wake: Some(LET_GO),
        check: BOTH,
        ..Case::new(R, "write lock, woken", "a writer and a reader wait")
    },
    Case {
        holder: Some(CROWD),
        setup: WARM,
        operation: READ,
        waiters: &[READ],
        waiters_behind: true,
        wake: Some(LET_GO),
        check: BOTH,
        long: true,
        ..Case::new(R, "read lock, no slot free, woken", "one reader waits")
    },
    Case {
        init: FOR_THREE,
        setup: WARM,
        operation: COMES,
        waiters: &[PARTY, OTHER],
        check: SETTLES,
        ..Case::new(B, "the last comes", "two wait")
    },
    Case {
        init: FOR_TWO,
        setup: WARM,
        operation: COMES,
        wake: Some(COMES_LAST),
        check: SETTLES,
        long: true,
        ..Case::new(B, "wait, woken", "alone")
    },
    Case {
        init: FOR_THREE,
        setup: WARM,
        operation: COMES,
        waiters: &[PARTY],
        wake: Some(COMES_LAST),
        check: SETTLES,
        ..Case::new(B, "wait, woken", "one waits")
    },
    Case {
        init: FOR_THREE,
        setup: WARM,
        operation: COMES,
        waiters: &[PARTY],
        wake: Some(|shared| assert_eq!(c!(tine_barrier_abort(at!(shared, barrier))), 0)),
        check: SETTLES,
        long: true,
        ..Case::new(B, "wait, aborted", "one waits")
    },
    Case {
        init: FOR_THREE,
        setup: WARM,
        operation: |shared| {
            c!(tine_barrier_wait(at!(shared, barrier), 200_000));
        },
        waiters: &[PARTY],
        check: SETTLES,
        ..Case::new(B, "wait, timed out", "one waits")
    },
];
