//! Semaphores, events and conditions: no death takes a wake-up along.

use super::mutex::{CHECK as MUTEX_CHECK, FOREVER, OWNER_DEAD, WARM, at, c, lock, unlock};
use super::step::*;
use std::sync::atomic::Ordering::SeqCst;
use tine::ffi::sync::*;
use tine::ffi::sync_signal::*;

// ---- semaphore

const TAKER: Step = |shared| {
    assert_eq!(c!(tine_semaphore_acquire(at!(shared, semaphore), FOREVER)), 0);
    shared.got.fetch_add(1, SeqCst);
};
/// No waiter sleeps while there are units; with enough of them, all go.
fn drain_semaphore(shared: &'static Shared) {
    let waiters = shared.waiters();
    let settled =
        || c!(tine_semaphore_value(at!(shared, semaphore))) == 0 || shared.got.load(SeqCst) == waiters;
    assert!(until(settled), "a waiter sleeps although there is a unit");
    for _ in 0..=waiters {
        assert_eq!(c!(tine_semaphore_release(at!(shared, semaphore), 1)), 0);
    }
    assert!(until(|| shared.got.load(SeqCst) == waiters), "a waiter sleeps for good");
    assert_eq!(c!(tine_semaphore_acquire(at!(shared, semaphore), HANG_NS)), 0);
}
const GIVE: Step = |shared| {
    c!(tine_semaphore_release(at!(shared, semaphore), 1));
};
const TAKE: Step = |shared| {
    c!(tine_semaphore_acquire(at!(shared, semaphore), FOREVER));
};
const TWO_UNITS: Step = |shared| assert_eq!(c!(tine_semaphore_init(at!(shared, semaphore), 2, 9, 0)), 0);
/// Takes the unit that was meant for the woken one, and gives it back later.
const SNATCH: Step = |shared| {
    let rc = c!(tine_semaphore_acquire(at!(shared, semaphore), 0));
    shared.tokens.store(u32::from(rc == 0), SeqCst);
};
const RETURN: Step = |shared| {
    if shared.tokens.load(SeqCst) != 0 {
        GIVE(shared);
    }
};

// ---- event

const AUTO: Step = |shared| assert_eq!(c!(tine_event_init(at!(shared, event), TINE_AUTO_RESET)), 0);
const AWAIT: Step = |shared| {
    assert_eq!(c!(tine_event_wait(at!(shared, event), FOREVER)), 0);
    shared.got.fetch_add(1, SeqCst);
};
const SET: Step = |shared| {
    c!(tine_event_set(at!(shared, event)));
};
/// A manual one: once it is set, everybody goes.
fn all_go(shared: &'static Shared) {
    let waiters = shared.waiters();
    if c!(tine_event_is_set(at!(shared, event))) == 0 {
        SET(shared);
    }
    assert!(until(|| shared.got.load(SeqCst) == waiters), "a waiter sleeps although the event is set");
}
/// An automatic one: never set while somebody waits for long.
fn one_by_one(shared: &'static Shared) {
    let waiters = shared.waiters();
    while shared.got.load(SeqCst) < waiters {
        let settled = || c!(tine_event_is_set(at!(shared, event))) == 0 || shared.got.load(SeqCst) == waiters;
        assert!(until(settled), "a waiter sleeps although the event is set");
        SET(shared);
    }
}

// ---- condition

/// Takes one token under the mutex, as the documentation says it is done.
const CONSUMER: Step = |shared| {
    mend(shared, lock(shared, FOREVER));
    while shared.tokens.load(SeqCst) == 0 {
        mend(shared, c!(tine_condition_wait(at!(shared, condition), at!(shared, mutex), FOREVER)));
    }
    shared.tokens.fetch_sub(1, SeqCst);
    shared.got.fetch_add(1, SeqCst);
    assert_eq!(unlock(shared), 0);
};
/// Who hears of a death repairs, and notifies everybody.
fn mend(shared: &'static Shared, rc: i32) {
    assert!(rc == 0 || rc == OWNER_DEAD, "lock or wait: {rc}");
    if rc == OWNER_DEAD {
        assert_eq!(c!(tine_mutex_repair(at!(shared, mutex))), 0);
        assert_eq!(c!(tine_condition_notify_all(at!(shared, condition))), 0);
    }
}
const PRODUCE: Step = |shared| {
    lock(shared, FOREVER);
    shared.tokens.fetch_add(1, SeqCst);
    c!(tine_condition_notify(at!(shared, condition), 1));
    unlock(shared);
};
const PRODUCE_TWO: Step = |shared| {
    lock(shared, FOREVER);
    shared.tokens.fetch_add(2, SeqCst);
    c!(tine_condition_notify(at!(shared, condition), 2));
    unlock(shared);
};
const PRODUCE_FOR_ALL: Step = |shared| {
    lock(shared, FOREVER);
    shared.tokens.fetch_add(2, SeqCst);
    c!(tine_condition_notify_all(at!(shared, condition)));
    unlock(shared);
};
/// The victim is a waiter; the token may be its last act.
const WAIT: Step = |shared| {
    while shared.tokens.load(SeqCst) == 0 {
        c!(tine_condition_wait(at!(shared, condition), at!(shared, mutex), FOREVER));
    }
    shared.tokens.fetch_sub(1, SeqCst);
    unlock(shared);
};
const LOCKED: Step = |shared| {
    WARM(shared);
    assert_eq!(lock(shared, FOREVER), 0);
};
/// No waiter sleeps while there is a token; with enough of them, all go.
fn drain_condition(shared: &'static Shared) {
    let waiters = shared.waiters();
    mend(shared, lock(shared, HANG_NS));
    assert_eq!(unlock(shared), 0);
    let settled = || shared.tokens.load(SeqCst) == 0 || shared.got.load(SeqCst) == waiters;
    assert!(until(settled), "a waiter sleeps although there is a token");
    while shared.got.load(SeqCst) < waiters {
        let before = shared.got.load(SeqCst);
        PRODUCE(shared);
        assert!(until(|| shared.got.load(SeqCst) > before), "a notification woke nobody");
    }
    MUTEX_CHECK(shared);
}
const HOLD_BACK: Step = |shared| {
    let rc = lock(shared, 0);
    if rc == OWNER_DEAD {
        c!(tine_mutex_repair(at!(shared, mutex)));
        c!(tine_condition_notify_all(at!(shared, condition)));
    }
    shared.broken.store(u32::from(rc == 0 || rc == OWNER_DEAD), SeqCst);
};
const LET_GO: Step = |shared| {
    if shared.broken.load(SeqCst) != 0 {
        unlock(shared);
    }
};

const S: &str = "semaphore";
const E: &str = "event";
const C: &str = "condition";

pub const CASES: &[Case] = &[
    Case {
        init: TWO_UNITS,
        setup: WARM,
        operation: |shared| {
            TAKE(shared);
            GIVE(shared);
        },
        check: |shared| {
            let value = c!(tine_semaphore_value(at!(shared, semaphore)));
            assert!(value == 1 || value == 2, "{value} units");
        },
        ..Case::new(S, "acquire, release", "alone")
    },
    Case {
        setup: WARM,
        operation: GIVE,
        waiters: &[TAKER],
        check: drain_semaphore,
        ..Case::new(S, "release", "one waiter")
    },
    Case {
        setup: WARM,
        operation: GIVE,
        waiters: &[TAKER, TAKER],
        check: drain_semaphore,
        ..Case::new(S, "release", "two waiters")
    },
    Case {
        setup: WARM,
        operation: GIVE,
        waiters: &[TAKER, TAKER],
        barger: Some((SNATCH, RETURN)),
        check: drain_semaphore,
        ..Case::new(S, "release", "two waiters, barger")
    },
    Case {
        setup: WARM,
        operation: TAKE,
        waiters: &[TAKER],
        waiters_behind: true,
        wake: Some(GIVE),
        check: drain_semaphore,
        ..Case::new(S, "acquire, woken", "one waiter")
    },
    Case {
        setup: WARM,
        operation: TAKE,
        waiters: &[TAKER, TAKER],
        waiters_behind: true,
        wake: Some(GIVE),
        barger: Some((SNATCH, RETURN)),
        check: drain_semaphore,
        ..Case::new(S, "acquire, woken", "two waiters, barger")
    },
    Case {
        setup: WARM,
        operation: |shared| {
            c!(tine_semaphore_acquire(at!(shared, semaphore), 200_000));
        },
        waiters: &[TAKER],
        check: drain_semaphore,
        ..Case::new(S, "acquire, timed out", "one waiter")
    },
    Case { setup: WARM, operation: SET, check: all_go, ..Case::new(E, "set", "alone") },
    Case {
        setup: WARM,
        operation: SET,
        waiters: &[AWAIT, AWAIT],
        check: all_go,
        ..Case::new(E, "set", "two waiters")
    },
    Case {
        setup: WARM,
        operation: |shared| {
            c!(tine_event_wait(at!(shared, event), FOREVER));
        },
        waiters: &[AWAIT],
        waiters_behind: true,
        wake: Some(SET),
        check: all_go,
        ..Case::new(E, "wait, woken", "one waiter")
    },
    Case {
        init: AUTO,
        setup: WARM,
        operation: SET,
        waiters: &[AWAIT, AWAIT],
        check: one_by_one,
        ..Case::new(E, "set, automatic", "two waiters")
    },
    Case {
        init: AUTO,
        setup: WARM,
        operation: |shared| {
            c!(tine_event_wait(at!(shared, event), FOREVER));
        },
        waiters: &[AWAIT, AWAIT],
        waiters_behind: true,
        wake: Some(SET),
        barger: Some((
            |shared| {
                let rc = c!(tine_event_wait(at!(shared, event), 0));
                shared.tokens.store(u32::from(rc == 0), SeqCst);
            },
            |shared| {
                if shared.tokens.load(SeqCst) != 0 {
                    SET(shared);
                }
            },
        )),
        check: one_by_one,
        ..Case::new(E, "wait, automatic, woken", "two waiters, barger")
    },
    Case { setup: WARM, operation: PRODUCE, check: drain_condition, ..Case::new(C, "notify", "alone") },
    Case {
        setup: WARM,
        operation: PRODUCE,
        waiters: &[CONSUMER],
        check: drain_condition,
        ..Case::new(C, "notify", "one waiter")
    },
    Case {
        setup: WARM,
        operation: PRODUCE_TWO,
        waiters: &[CONSUMER, CONSUMER],
        check: drain_condition,
        ..Case::new(C, "notify two", "two waiters")
    },
    Case {
        setup: WARM,
        operation: PRODUCE_FOR_ALL,
        waiters: &[CONSUMER, CONSUMER],
        check: drain_condition,
        ..Case::new(C, "notify all", "two waiters")
    },
    Case {
        setup: LOCKED,
        operation: WAIT,
        wake: Some(PRODUCE),
        check: drain_condition,
        long: true,
        ..Case::new(C, "wait, woken", "alone")
    },
    Case {
        setup: LOCKED,
        operation: WAIT,
        waiters: &[CONSUMER],
        waiters_behind: true,
        wake: Some(PRODUCE),
        check: drain_condition,
        ..Case::new(C, "wait, woken", "one waiter")
    },
    Case {
        setup: LOCKED,
        operation: WAIT,
        waiters: &[CONSUMER, CONSUMER],
        waiters_behind: true,
        wake: Some(PRODUCE),
        barger: Some((HOLD_BACK, LET_GO)),
        check: drain_condition,
        ..Case::new(C, "wait, woken", "two waiters, barger")
    },
    Case {
        setup: LOCKED,
        operation: |shared| {
            c!(tine_condition_wait(at!(shared, condition), at!(shared, mutex), 200_000));
            unlock(shared);
        },
        check: drain_condition,
        ..Case::new(C, "wait, timed out", "alone")
    },
];
