//! What is stopped, and what goes on meanwhile.

use super::step::{HANG_NS, spawn, wait_end};
use super::stop::{Case, LENGTH, Meanwhile, PAGE, Part, Shared};
use std::ffi::c_void;
use std::sync::atomic::Ordering::SeqCst;
use tine::ffi::sync::*;
use tine::ffi::sync_barrier::*;
use tine::ffi::sync_signal::*;

const OWNER_DEAD: i32 = -libc::EOWNERDEAD;
const AGAIN: i32 = -libc::EAGAIN;

/// The objects lie at the beginning of the page, one case using one of them; the semaphore, which no case frees, behind.
macro_rules! c {
    ($call:ident($($argument:expr),*)) => {
        // SAFETY: objects in the page, which is there wherever a case uses it.
        unsafe { $call($($argument),*) }
    };
}

fn mutex() -> *mut tine_mutex {
    PAGE.cast()
}

fn once() -> *mut tine_once {
    PAGE.cast()
}

fn semaphore() -> *mut tine_semaphore {
    PAGE.wrapping_add(1024).cast()
}

/// The thread has its record, and the mutex its tag.
fn warm(flags: u32) {
    assert_eq!(c!(tine_mutex_init(mutex(), flags)), 0);
    assert_eq!(c!(tine_mutex_lock(mutex(), 0)), 0);
    assert_eq!(c!(tine_mutex_unlock(mutex())), 0);
}

fn hold(flags: u32) {
    warm(flags);
    assert_eq!(c!(tine_mutex_lock(mutex(), 0)), 0);
}

/// With the lock just taken: nobody else may be inside, unless a death was reported.
fn begin(shared: &Shared, code: i32) {
    assert!(code == 0 || code == OWNER_DEAD, "lock: {code}");
    if code == OWNER_DEAD {
        shared.deaths.fetch_add(1, SeqCst);
        assert_eq!(c!(tine_mutex_repair(mutex())), 0);
    }
    assert_eq!(shared.inside.swap(1, SeqCst), 0, "two have the lock");
}

fn leave(shared: &Shared) {
    shared.inside.store(0, SeqCst);
    assert_eq!(c!(tine_mutex_unlock(mutex())), 0);
}

fn visit(shared: &Shared) {
    begin(shared, c!(tine_mutex_lock(mutex(), HANG_NS)));
    leave(shared);
}

// ---- the memory is the last holder's

fn use_mutex(_: &'static Shared) {
    let code = c!(tine_mutex_lock(mutex(), HANG_NS));
    assert!(code == 0 || code == OWNER_DEAD, "lock: {code}");
    if code == OWNER_DEAD {
        assert_eq!(c!(tine_mutex_repair(mutex())), 0);
    }
    assert_eq!(c!(tine_mutex_unlock(mutex())), 0);
}

fn unmap() {
    // SAFETY: the page, which is the caller's alone by now, as far as the library keeps its word.
    unsafe { libc::munmap(PAGE.cast(), LENGTH) };
}

/// Fills the memory with a number, four bytes each.
fn fill(shared: &Shared, number: u32) {
    // SAFETY: as above.
    unsafe { std::slice::from_raw_parts_mut(PAGE.cast::<u32>(), 64).fill(number) };
    shared.filled.store(number, SeqCst);
}

/// The memory is what its owner has made of it.
const UNTOUCHED: Part = |shared| {
    let filled = shared.filled.load(SeqCst);
    if filled != 0 {
        // SAFETY: nobody writes there any more.
        let words = unsafe { std::slice::from_raw_parts(PAGE.cast::<u32>(), 64) };
        assert!(words.iter().all(|word| *word == filled), "memory of somebody else was written: {words:x?}");
    }
};

const UNMAPS: Part = |shared| {
    use_mutex(shared);
    unmap();
};
const FILLS: Part = |shared| {
    use_mutex(shared);
    fill(shared, 0x8080_8080);
};
/// With the number of the thread that unlocks: words that the kernel would take for that one's locks.
const FILLS_WITH_ITS_NUMBER: Part = |shared| {
    use_mutex(shared);
    fill(shared, shared.code.load(SeqCst) as u32);
};
const HOLD: Part = |shared| {
    hold(0);
    // SAFETY: no pointers.
    shared.code.store(unsafe { libc::gettid() }, SeqCst);
};
const HOLD_OWNED: Part = |_| hold(TINE_PROCESS_OWNED);
const HOLD_RECURSIVE: Part = |_| hold(TINE_RECURSIVE);
const UNLOCK: Part = |_| {
    c!(tine_mutex_unlock(mutex()));
};
/// Not the newest of the thread's, so that the list is mended in its middle.
const HOLD_OLDER: Part = |_| {
    hold(0);
    let newer: *mut tine_mutex = PAGE.wrapping_add(2048).cast();
    assert_eq!(c!(tine_mutex_lock(newer, 0)), 0);
};
const FILLS_OLDER: Part = FILLS;

// ---- once

/// The thread has its record.
const RECORD: Part = |_| {
    let private: *mut tine_mutex = PAGE.wrapping_add(2048).cast();
    assert_eq!(c!(tine_mutex_lock(private, 0)), 0);
    assert_eq!(c!(tine_mutex_unlock(private)), 0);
};

unsafe extern "C" fn nothing(_: *mut c_void) -> i32 {
    0
}

/// While the stepped one's initialiser runs, somebody else comes to wait, and frees the memory when it has been told.
unsafe extern "C" fn lets_come(user: *mut c_void) -> i32 {
    // SAFETY: the shared memory of this program.
    unsafe { &*user.cast::<Shared>() }.inside.store(1, SeqCst);
    0
}

const ONCE: Part = |shared| {
    let user = std::ptr::from_ref(shared).cast_mut().cast();
    assert_eq!(c!(tine_once_call(once(), Some(lets_come), user, HANG_NS)), 0);
};
const ONCE_THEN: fn(&Shared) = |shared| {
    // Before the other's initialiser has begun, it would be this one's to run, and the memory not its own afterwards.
    while shared.inside.load(SeqCst) == 0 {
        // SAFETY: a short sleep, so that the stepped one sees this one wait.
        unsafe { libc::usleep(100) };
    }
    assert_eq!(c!(tine_once_call(once(), Some(nothing), std::ptr::null_mut(), HANG_NS)), 0);
};
const ONCE_UNMAPS: Part = |shared| {
    ONCE_THEN(shared);
    unmap();
};
const ONCE_FILLS: Part = |shared| {
    ONCE_THEN(shared);
    fill(shared, 0x8080_8080);
};

// ---- who holds it, and who has died

const TRY: Part = |shared| match c!(tine_mutex_lock(mutex(), 0)) {
    AGAIN => {}
    code => {
        begin(shared, code);
        leave(shared);
    }
};
const NOBODY_DIED: Part =
    |shared| assert_eq!(shared.deaths.load(SeqCst), 0, "a living holder counted as dead");
const ONE_DIED: Part = |shared| assert_eq!(shared.deaths.load(SeqCst), 1, "one death, reported once");

/// Its last holder has died with it, and nobody has noticed: the kernel marks no lock that a process owns.
const ORPHAN_OWNED: Part = |_| {
    warm(TINE_PROCESS_OWNED);
    orphan();
};
const ORPHAN: Part = |_| {
    warm(0);
    orphan();
};

fn orphan() {
    let holder = spawn(|| assert_eq!(c!(tine_mutex_lock(mutex(), 0)), 0));
    assert_eq!(wait_end(holder), 0);
}

const VISIT: Part = |shared| visit(shared);
/// Takes it if it can, and says so.
const TRY_AND_SAY: Part = |shared| {
    let code = c!(tine_mutex_lock(mutex(), 0));
    if code != AGAIN {
        begin(shared, code);
    }
    shared.code.store(code, SeqCst);
};
/// Takes it if it can, and keeps it until the other has come to an end.
const TRY_AND_KEEP: Part = |shared| {
    let code = c!(tine_mutex_lock(mutex(), 0));
    if code != AGAIN {
        begin(shared, code);
        shared.keeps.store(1, SeqCst);
        while shared.keeps.load(SeqCst) != 0 {
            // SAFETY: no pointers; asleep, so that the stepped one goes on.
            unsafe { libc::usleep(100) };
        }
        leave(shared);
    }
};
const ONE_HAS_IT: Part = |shared| {
    let has = shared.code.load(SeqCst) != AGAIN;
    let other_has = shared.keeps.load(SeqCst) != 0;
    assert!(!(has && other_has), "two have the lock");
    if has {
        leave(shared);
    }
};

// ---- a signal handler in the middle

const GIVE: Part = |_| assert_eq!(c!(tine_semaphore_release(semaphore(), 1)), 0);
const FIRST_LOCK: Part = |shared| {
    shared.code.store(c!(tine_mutex_lock(mutex(), HANG_NS)), SeqCst);
};
/// Both have worked, and the thread can take and release others; then it ends with the first in hand.
const TAKES_MORE: Part = |shared| {
    assert_eq!(shared.code.load(SeqCst), 0);
    let more: *mut tine_mutex = PAGE.wrapping_add(2048).cast();
    assert_eq!(c!(tine_mutex_lock(more, 0)), 0);
    assert_eq!(c!(tine_mutex_unlock(more)), 0);
    assert_eq!(c!(tine_mutex_lock(mutex(), 0)), -libc::EDEADLK);
    let given = shared.finished.load(SeqCst) as i32;
    assert_eq!(c!(tine_semaphore_value(semaphore())), given, "what the handler has given");
};
/// What it held has been marked by the kernel: nobody has looked.
const MARKED: Part = |_| {
    const DIED: u32 = 0x4000_0000;
    // SAFETY: the first word of the mutex; nobody writes it any more.
    let word = unsafe { mutex().cast::<u32>().read_volatile() };
    assert!(word & DIED != 0, "the kernel does not know of what the thread holds: {word:#x}");
    assert_eq!(c!(tine_mutex_lock(mutex(), 0)), OWNER_DEAD);
};

use Meanwhile::{Handler, Process, Thread};
const UNMAPPED: &str = "taken, released and unmapped";
const FILLED: &str = "taken, released and filled with other data";
pub const CASES: &[Case] = &[
    Case { prepare: HOLD, stepped: UNLOCK, ..Case::new("unlock", UNMAPPED, Thread(UNMAPS)) },
    Case {
        prepare: HOLD,
        stepped: UNLOCK,
        asleep: true,
        ..Case::new("unlock, a waiter", UNMAPPED, Thread(UNMAPS))
    },
    Case {
        prepare: HOLD,
        stepped: UNLOCK,
        asleep: true,
        after: UNTOUCHED,
        ..Case::new("unlock, a waiter", FILLED, Process(FILLS))
    },
    Case {
        prepare: HOLD,
        stepped: UNLOCK,
        dies: true,
        after: UNTOUCHED,
        ..Case::new(
            "unlock, killed",
            "taken, released and filled with its number",
            Process(FILLS_WITH_ITS_NUMBER),
        )
    },
    Case {
        prepare: HOLD,
        stepped: UNLOCK,
        asleep: true,
        dies: true,
        after: UNTOUCHED,
        ..Case::new("unlock, a waiter, killed", "filled with its number", Process(FILLS_WITH_ITS_NUMBER))
    },
    Case {
        prepare: HOLD_OLDER,
        stepped: UNLOCK,
        after: UNTOUCHED,
        ..Case::new("unlock, not the newest", FILLED, Process(FILLS_OLDER))
    },
    Case {
        prepare: HOLD_RECURSIVE,
        stepped: UNLOCK,
        ..Case::new("unlock, recursive", UNMAPPED, Thread(UNMAPS))
    },
    Case {
        prepare: HOLD_OWNED,
        stepped: UNLOCK,
        after: UNTOUCHED,
        ..Case::new("unlock, process-owned", FILLED, Process(FILLS))
    },
    Case {
        prepare: HOLD_OWNED,
        stepped: UNLOCK,
        asleep: true,
        after: UNTOUCHED,
        ..Case::new("unlock, process-owned, a waiter", FILLED, Process(FILLS))
    },
    Case {
        prepare: RECORD,
        stepped: ONCE,
        ..Case::new("once", "waited for and unmapped", Thread(ONCE_UNMAPS))
    },
    Case {
        prepare: RECORD,
        stepped: ONCE,
        after: UNTOUCHED,
        ..Case::new("once", "waited for and filled", Process(ONCE_FILLS))
    },
    Case {
        prepare: |_| warm(TINE_PROCESS_OWNED),
        stepped: VISIT,
        check: NOBODY_DIED,
        ..Case::new("lock, unlock, process-owned", "tried", Process(TRY))
    },
    Case {
        without: "robust",
        prepare: |_| warm(0),
        stepped: VISIT,
        check: NOBODY_DIED,
        ..Case::new("lock, unlock, no robust list", "tried", Process(TRY))
    },
    Case {
        prepare: |_| warm(0),
        stepped: VISIT,
        check: NOBODY_DIED,
        ..Case::new("lock, unlock", "tried", Process(TRY))
    },
    Case {
        prepare: ORPHAN_OWNED,
        stepped: VISIT,
        check: ONE_DIED,
        ..Case::new("lock after a death, process-owned", "buried, taken, repaired, released", Process(VISIT))
    },
    Case {
        without: "robust",
        prepare: ORPHAN,
        stepped: VISIT,
        check: ONE_DIED,
        ..Case::new("lock after a death, no robust list", "buried, taken, repaired, released", Process(VISIT))
    },
    Case {
        prepare: ORPHAN_OWNED,
        stepped: TRY_AND_SAY,
        check: ONE_HAS_IT,
        ..Case::new("try after a death, process-owned", "buried, taken and kept", Process(TRY_AND_KEEP))
    },
    Case {
        without: "robust",
        prepare: ORPHAN,
        stepped: TRY_AND_SAY,
        check: ONE_HAS_IT,
        ..Case::new("try after a death, no robust list", "buried, taken and kept", Process(TRY_AND_KEEP))
    },
    Case {
        stepped: FIRST_LOCK,
        check: TAKES_MORE,
        after: MARKED,
        ..Case::new("a thread's first lock", "a handler releases a semaphore", Handler(GIVE))
    },
];
