//! The mutex, once, and what every case needs to say.

use super::step::*;
use std::sync::atomic::Ordering::SeqCst;
use tine::ffi::sync::*;
use tine::ffi::sync_barrier::*;

pub const OWNER_DEAD: i32 = -libc::EOWNERDEAD;
pub const LOST: i32 = -libc::ENOTRECOVERABLE;
pub const FOREVER: i64 = i64::MAX;

/// C calls on the shared objects. SAFETY of all of them: the objects are valid for as long as the program runs.
macro_rules! c {
    ($call:ident($($argument:expr),*)) => {
        // SAFETY: the shared objects live as long as the program.
        unsafe { $call($($argument),*) }
    };
}
pub(crate) use c;

/// The object's address, as the C calls want it.
macro_rules! at {
    ($shared:expr, $field:ident) => {
        crate::step::pointer(&$shared.$field)
    };
}
pub(crate) use at;

/// The thread's record is set up before the first step.
pub const WARM: Step = |_| {
    let mut private = tine_mutex { opaque: [0; 8] };
    assert_eq!(c!(tine_mutex_lock(&mut private, 0)), 0);
    assert_eq!(c!(tine_mutex_unlock(&mut private)), 0);
};
/// The mutex has been used before, too, so that the operation goes the short way.
const USED: Step = |shared| {
    visit(shared, 0);
};

pub fn lock(shared: &'static Shared, timeout: i64) -> i32 {
    c!(tine_mutex_lock(pointer(&shared.mutex), timeout))
}

pub fn unlock(shared: &'static Shared) -> i32 {
    c!(tine_mutex_unlock(pointer(&shared.mutex)))
}

/// What the holder of a lock does first: torn data without a word about a death is the one thing that must not be.
pub fn begin(shared: &'static Shared, rc: i32) {
    if rc == OWNER_DEAD {
        shared.deaths.fetch_add(1, SeqCst);
        shared.inside.store(0, SeqCst);
    } else if shared.inside.swap(1, SeqCst) != 0 {
        shared.torn.store(1, SeqCst);
    }
}

pub fn end(shared: &'static Shared) {
    shared.inside.store(0, SeqCst);
}

/// Takes the mutex, whoever died with it, and releases it.
pub fn visit(shared: &'static Shared, timeout: i64) {
    let rc = lock(shared, timeout);
    assert!(rc == 0 || rc == OWNER_DEAD, "lock: {rc}");
    begin(shared, rc);
    if rc == OWNER_DEAD {
        assert_eq!(c!(tine_mutex_repair(pointer(&shared.mutex))), 0);
    }
    end(shared);
    assert_eq!(unlock(shared), 0);
}

const WAITER: Step = |shared| visit(shared, FOREVER);
pub const CHECK: Step = |shared| visit(shared, HANG_NS);
const CYCLE: Step = |shared| {
    let rc = lock(shared, FOREVER);
    begin(shared, rc);
    end(shared);
    unlock(shared);
};
pub const HOLDS: Step = |shared| {
    WARM(shared);
    begin(shared, lock(shared, FOREVER));
};
const RELEASES: Step = |shared| {
    end(shared);
    unlock(shared);
};
/// Holds the mutex until the victim sleeps, or is dead.
pub const HOLDER: Step = |shared| {
    assert_eq!(lock(shared, FOREVER), 0);
    shared.ready.store(1, SeqCst);
    assert!(until(|| shared.go.load(SeqCst) != 0));
    assert_eq!(unlock(shared), 0);
};
pub const LET_GO: Step = |shared| shared.go.store(1, SeqCst);
/// Takes the mutex if it can, just before the kill.
const BARGE: Step = |shared| {
    let rc = lock(shared, 0);
    if rc == OWNER_DEAD {
        c!(tine_mutex_repair(pointer(&shared.mutex)));
    }
    shared.tokens.store(u32::from(rc == 0 || rc == OWNER_DEAD), SeqCst);
};
const LEAVE: Step = |shared| {
    if shared.tokens.load(SeqCst) != 0 {
        assert_eq!(unlock(shared), 0);
    }
};

/// Makes a mutex whose holder has died.
const ORPHAN: Step = |shared| {
    let holder = spawn(|| {
        assert_eq!(lock(shared, FOREVER), 0);
    });
    assert_eq!(reap(holder, HANG), Some(0));
};
const MENDS: Step = |shared| {
    let rc = lock(shared, FOREVER);
    begin(shared, rc);
    c!(tine_mutex_repair(pointer(&shared.mutex)));
    end(shared);
    unlock(shared);
};
const LOSES: Step = |shared| {
    begin(shared, lock(shared, FOREVER));
    end(shared);
    unlock(shared);
};
/// After a death that nobody repaired, or a death in the middle of that.
const MAY_BE_LOST: Step = |shared| match lock(shared, HANG_NS) {
    LOST => assert_eq!(lock(shared, 0), LOST),
    rc => {
        assert_eq!(rc, OWNER_DEAD, "the first death is not to be forgotten");
        assert_eq!(unlock(shared), 0);
        assert_eq!(lock(shared, 0), LOST);
    }
};
const MAY_BE_LOST_WAITER: Step = |shared| {
    let rc = lock(shared, FOREVER);
    assert!(rc == LOST || rc == OWNER_DEAD, "lock: {rc}");
    if rc == OWNER_DEAD {
        unlock(shared);
    }
};

const RECURSIVE: Step = |shared| assert_eq!(c!(tine_mutex_init(pointer(&shared.mutex), TINE_RECURSIVE)), 0);
const TWICE: Step = |shared| {
    begin(shared, lock(shared, FOREVER));
    lock(shared, FOREVER);
    unlock(shared);
    end(shared);
    unlock(shared);
};
const OWNED: Step = |shared| assert_eq!(c!(tine_mutex_init(pointer(&shared.mutex), TINE_PROCESS_OWNED)), 0);

const ONCE: Step = |shared| {
    unsafe extern "C" fn initialiser(user: *mut std::ffi::c_void) -> i32 {
        // SAFETY: the shared memory of this program.
        let shared = unsafe { &*user.cast::<Shared>() };
        shared.tokens.store(1, SeqCst);
        shared.tokens.store(2, SeqCst);
        0
    }
    let user = std::ptr::from_ref(shared).cast_mut().cast();
    let rc = c!(tine_once_call(pointer(&shared.once), Some(initialiser), user, HANG_NS));
    assert_eq!(rc, 0);
};
const ONCE_CHECK: Step = |shared| {
    ONCE(shared);
    assert_eq!(shared.tokens.load(SeqCst), 2, "it has not been done");
};
const ONCE_SETUP: Step = WARM;

const M: &str = "mutex";
pub const CASES: &[Case] = &[
    Case { setup: WARM, operation: CYCLE, check: CHECK, ..Case::new(M, "first lock, unlock", "alone") },
    Case { setup: USED, operation: CYCLE, check: CHECK, ..Case::new(M, "lock, unlock", "alone") },
    Case {
        setup: HOLDS,
        operation: RELEASES,
        waiters: &[WAITER],
        check: CHECK,
        ..Case::new(M, "unlock", "one waiter")
    },
    Case {
        setup: HOLDS,
        operation: RELEASES,
        waiters: &[WAITER, WAITER],
        check: CHECK,
        ..Case::new(M, "unlock", "two waiters")
    },
    Case {
        setup: HOLDS,
        operation: RELEASES,
        waiters: &[WAITER, WAITER],
        barger: Some((BARGE, LEAVE)),
        check: CHECK,
        ..Case::new(M, "unlock", "two waiters, barger")
    },
    Case {
        holder: Some(HOLDER),
        setup: WARM,
        operation: CYCLE,
        wake: Some(LET_GO),
        check: CHECK,
        long: true,
        ..Case::new(M, "lock, woken", "alone")
    },
    Case {
        holder: Some(HOLDER),
        setup: WARM,
        operation: CYCLE,
        waiters: &[WAITER],
        waiters_behind: true,
        wake: Some(LET_GO),
        check: CHECK,
        ..Case::new(M, "lock, woken", "one waiter")
    },
    Case {
        holder: Some(HOLDER),
        setup: WARM,
        operation: CYCLE,
        waiters: &[WAITER, WAITER],
        waiters_behind: true,
        wake: Some(LET_GO),
        barger: Some((BARGE, LEAVE)),
        check: CHECK,
        ..Case::new(M, "lock, woken", "two waiters, barger")
    },
    Case {
        holder: Some(HOLDER),
        setup: WARM,
        operation: |shared| {
            if lock(shared, 200_000) == 0 {
                unlock(shared);
            }
        },
        waiters: &[WAITER],
        check: CHECK,
        ..Case::new(M, "lock, timed out", "one waiter")
    },
    Case {
        init: RECURSIVE,
        setup: WARM,
        operation: TWICE,
        check: CHECK,
        ..Case::new(M, "lock twice", "alone")
    },
    Case {
        init: ORPHAN,
        setup: WARM,
        operation: MENDS,
        check: CHECK,
        ..Case::new(M, "owner dead, repair", "alone")
    },
    Case {
        init: ORPHAN,
        setup: |shared| {
            WARM(shared);
            assert_eq!(lock(shared, FOREVER), OWNER_DEAD);
        },
        operation: |shared| {
            c!(tine_mutex_repair(pointer(&shared.mutex)));
            unlock(shared);
        },
        waiters: &[WAITER, WAITER],
        check: CHECK,
        ..Case::new(M, "repair, unlock", "two waiters")
    },
    Case {
        init: ORPHAN,
        setup: WARM,
        operation: LOSES,
        check: MAY_BE_LOST,
        ..Case::new(M, "owner dead, no repair", "alone")
    },
    Case {
        init: ORPHAN,
        setup: |shared| {
            WARM(shared);
            assert_eq!(lock(shared, FOREVER), OWNER_DEAD);
        },
        operation: |shared| {
            unlock(shared);
        },
        waiters: &[MAY_BE_LOST_WAITER, MAY_BE_LOST_WAITER],
        check: |shared| assert_eq!(lock_until_lost(shared), LOST),
        ..Case::new(M, "unlock, no repair", "two waiters")
    },
    Case {
        init: OWNED,
        setup: WARM,
        operation: CYCLE,
        check: CHECK,
        ..Case::new(M, "process-owned", "alone")
    },
    Case {
        init: OWNED,
        setup: HOLDS,
        operation: RELEASES,
        waiters: &[WAITER],
        check: CHECK,
        ..Case::new(M, "process-owned unlock", "one waiter")
    },
    Case { setup: ONCE_SETUP, operation: ONCE, check: ONCE_CHECK, ..Case::new("once", "call", "alone") },
    Case {
        holder: Some(|shared| {
            unsafe extern "C" fn dies(user: *mut std::ffi::c_void) -> i32 {
                // SAFETY: the shared memory of this program.
                let shared = unsafe { &*user.cast::<Shared>() };
                shared.ready.store(1, SeqCst);
                until(|| shared.go.load(SeqCst) != 0);
                // SAFETY: ends the process inside the initialiser.
                unsafe { libc::_exit(0) }
            }
            let user = std::ptr::from_ref(shared).cast_mut().cast();
            c!(tine_once_call(pointer(&shared.once), Some(dies), user, FOREVER));
        }),
        setup: WARM,
        operation: ONCE,
        waiters: &[ONCE],
        waiters_behind: true,
        wake: Some(LET_GO),
        check: ONCE_CHECK,
        ..Case::new("once", "call after a death", "one waiter")
    },
];

fn lock_until_lost(shared: &'static Shared) -> i32 {
    loop {
        match lock(shared, HANG_NS) {
            OWNER_DEAD => assert_eq!(unlock(shared), 0),
            rc => return rc,
        }
    }
}
