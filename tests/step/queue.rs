//! Queues: no death blocks anybody, duplicates a message, or loses one that was not in the dead one's hands.

use super::mutex::WARM;
use super::step::*;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::SeqCst;
use tine::queue::{Queue, QueueOptions};
use tine::sys::clock::Timeout;

const Q: &str = "queue";
const FOREVER: Timeout = Timeout::Forever;
const LIMIT: Timeout = Timeout::After(HANG_NS as u64);
const EPIPE: i32 = -libc::EPIPE;

/// Two messages, or 64 bytes of them.
const OPTIONS: QueueOptions = QueueOptions { messages: 2, bytes: 64, flags: 0 };

/// Every message is a number below 32, once; `inside` has a bit for each that was got.
const FIRST: u64 = 1;
const SECOND: u64 = 2;
const VICTIMS: u64 = 3;
const VICTIMS_TOO: u64 = 4;
const OF_WAITERS: u64 = 8;
const FILLERS: u64 = 16;

fn memory(shared: &'static Shared) -> NonNull<u8> {
    NonNull::new(pointer(&shared.queue)).unwrap().cast()
}

fn queue(shared: &'static Shared) -> Queue {
    // SAFETY: the memory is shared by the queue's own code only, and stays.
    unsafe { Queue::attach(memory(shared), size_of::<QueueMemory>()) }.unwrap()
}

fn create(shared: &'static Shared, numbers: &[u64]) {
    assert!(OPTIONS.size().unwrap() <= size_of::<QueueMemory>());
    // SAFETY: as above; nobody uses it yet.
    let queue = unsafe { Queue::create(memory(shared), &OPTIONS) }.unwrap();
    // What a process finds out at its first sleep it need not find out step by step: longer than it looks before that.
    assert!(queue.get([0u8; 8].as_mut_slice().into(), Timeout::After(200_000)).is_err());
    for number in numbers {
        queue.put(&number.to_ne_bytes(), Timeout::Try).unwrap();
    }
}

fn put(shared: &'static Shared, number: u64, timeout: Timeout) -> i32 {
    queue(shared).put(&number.to_ne_bytes(), timeout).map_or_else(|code| code.0, |()| 0)
}

fn receive(shared: &'static Shared, bytes: &[u8]) {
    let number = u64::from_ne_bytes(bytes[..8].try_into().unwrap());
    if number >= 32 || shared.inside.fetch_or(1 << number, SeqCst) & 1 << number != 0 {
        shared.torn.store(1, SeqCst); // Got twice, or never put.
    }
}

/// Gets one message; its code.
fn get(shared: &'static Shared, timeout: Timeout) -> i32 {
    let mut bytes = [0u8; 64];
    match queue(shared).get(bytes.as_mut_slice().into(), timeout) {
        Ok(_) => {
            receive(shared, &bytes);
            0
        }
        Err((code, _)) => code.0,
    }
}

const EMPTY: Step = |shared| create(shared, &[]);
const ONE: Step = |shared| create(shared, &[FIRST]);
const FULL: Step = |shared| create(shared, &[FIRST, SECOND]);
const PUT: Step = |shared| {
    put(shared, VICTIMS, FOREVER);
};
const PUT_LONG: Step = |shared| {
    let mut bytes = [0u8; 40];
    bytes[..8].copy_from_slice(&VICTIMS.to_ne_bytes());
    queue(shared).put(&bytes, FOREVER).unwrap();
};
const PUT_TWO: Step = |shared| {
    let bytes: Vec<u8> = [VICTIMS, VICTIMS_TOO].iter().flat_map(|number| number.to_ne_bytes()).collect();
    queue(shared).put_many(&bytes, &[8, 8], FOREVER, &mut 0).unwrap();
};
const RESERVE: Step = |shared| {
    let place = queue(shared).reserve(24, FOREVER).unwrap();
    // SAFETY: 24 bytes were reserved.
    unsafe { place.cast::<u64>().write(VICTIMS) };
    queue(shared).commit(24).unwrap();
};
/// The victim's gets: what it has got is in its own hands, not yet in `inside`.
const GET: Step = |shared| {
    let mut bytes = [0u8; 64];
    queue(shared).get(bytes.as_mut_slice().into(), FOREVER).unwrap();
};
const GET_TWO: Step = |shared| {
    let mut bytes = [0u8; 64];
    queue(shared).get_many(bytes.as_mut_slice().into(), &mut [0; 2], FOREVER).unwrap();
};
/// Here it says what it has seen before it gives the message back: that nobody else may see it after its death.
const PEEK: Step = |shared| {
    let (place, length) = queue(shared).peek(FOREVER).unwrap();
    // SAFETY: the message is this thread's until it is released.
    receive(shared, unsafe { std::slice::from_raw_parts(place.as_ptr(), length) });
    queue(shared).release().unwrap();
};
const CLOSE: Step = |shared| queue(shared).close().unwrap();
const CONSUMER: Step = |shared| {
    let rc = get(shared, FOREVER);
    assert!(rc == 0 || rc == EPIPE, "get: {rc}");
    shared.got.fetch_add(1, SeqCst);
};
const PRODUCER: Step = |shared| {
    let rc = put(shared, OF_WAITERS + u64::from(shared.deaths.fetch_add(1, SeqCst)), FOREVER);
    assert!(rc == 0 || rc == EPIPE, "put: {rc}");
    shared.got.fetch_add(1, SeqCst);
};
const JOINER: Step = |shared| {
    queue(shared).join(FOREVER).unwrap();
    shared.got.fetch_add(1, SeqCst);
};

/// All that is left, and a last message there and back.
fn empty(shared: &'static Shared) {
    while get(shared, Timeout::Try) == 0 {}
    assert_eq!(put(shared, 31, LIMIT), 0);
    assert_eq!(get(shared, LIMIT), 0);
}

/// No consumer sleeps while there is a message; with enough of them, all go.
fn consumers_go(shared: &'static Shared) {
    let waiters = shared.waiters();
    let mut fillers = FILLERS..;
    loop {
        let settled = || queue(shared).is_empty() || shared.got.load(SeqCst) == waiters;
        assert!(until(settled), "a consumer sleeps although there is a message");
        if shared.got.load(SeqCst) == waiters {
            break;
        }
        assert_eq!(put(shared, fillers.next().unwrap(), LIMIT), 0);
    }
    empty(shared);
}

/// No producer sleeps while there is room; with enough of it, all go.
fn producers_go(shared: &'static Shared) {
    let waiters = shared.waiters();
    loop {
        let settled = || queue(shared).count() == 2 || shared.got.load(SeqCst) == waiters;
        assert!(until(settled), "a producer sleeps although there is room");
        if shared.got.load(SeqCst) == waiters {
            break;
        }
        assert_eq!(get(shared, LIMIT), 0);
    }
    empty(shared);
}

/// Which of these were not got.
fn missing(shared: &'static Shared, numbers: &[u64]) -> usize {
    let got = shared.inside.load(SeqCst);
    numbers.iter().filter(|number| got & 1 << **number == 0).count()
}

fn is_done(shared: &'static Shared) -> bool {
    shared.mark.load(SeqCst) == 2
}

/// What was in the queue is got, and the victim's if its call returned; of two that it puts together, both or none.
fn check_put(shared: &'static Shared) {
    consumers_go(shared);
    assert_eq!(missing(shared, &[FIRST]), 0);
    assert!(!is_done(shared) || missing(shared, &[VICTIMS]) == 0, "a put that returned is lost");
}
const CHECK_PUT: Step = check_put;
const CHECK_PUT_EMPTY: Step = |shared| {
    consumers_go(shared);
    assert!(!is_done(shared) || missing(shared, &[VICTIMS]) == 0, "a put that returned is lost");
};
const CHECK_PUT_FULL: Step = |shared| {
    producers_go(shared);
    assert_eq!(missing(shared, &[FIRST, SECOND]), 0);
    assert!(!is_done(shared) || missing(shared, &[VICTIMS]) == 0, "a put that returned is lost");
};
const CHECK_PUT_TWO: Step = |shared| {
    consumers_go(shared);
    assert!(!is_done(shared) || missing(shared, &[VICTIMS, VICTIMS_TOO]) == 0, "a put that returned is lost");
    assert_ne!(missing(shared, &[VICTIMS, VICTIMS_TOO]), 1);
};
/// One may be lost, with the victim; the one that it did not take is there.
const CHECK_GET: Step = |shared| {
    producers_go(shared);
    assert!(missing(shared, &[FIRST]) <= 1 && missing(shared, &[SECOND]) == 0);
    assert!(!is_done(shared) || missing(shared, &[FIRST]) == 1, "what the victim has got is got again");
};
/// The next consumer passes over what a dead one was looking at, and its room is free from then on.
const CHECK_PEEK: Step = |shared| {
    assert_eq!(get(shared, LIMIT), 0);
    producers_go(shared);
    assert!(missing(shared, &[FIRST]) <= usize::from(!is_done(shared)) && missing(shared, &[SECOND]) == 0);
};
const CHECK_GET_TWO: Step = |shared| {
    producers_go(shared);
    assert_ne!(missing(shared, &[FIRST, SECOND]), 1);
};
const CHECK_GET_WOKEN: Step = |shared| {
    consumers_go(shared);
    assert!(missing(shared, &[SECOND]) <= 1);
};
const CHECK_CLOSE: Step = |shared| {
    CLOSE(shared);
    let waiters = shared.waiters();
    assert!(until(|| shared.got.load(SeqCst) == waiters), "somebody sleeps although the queue is closed");
    while get(shared, LIMIT) != EPIPE {}
    assert_eq!(put(shared, 31, LIMIT), EPIPE);
};
const CHECK_JOIN: Step = |shared| {
    let waiters = shared.waiters();
    let _ = queue(shared).task_done();
    assert!(until(|| shared.got.load(SeqCst) == waiters), "somebody waits although all is done");
};

pub const CASES: &[Case] = &[
    Case {
        init: ONE,
        setup: WARM,
        operation: PUT,
        check: CHECK_PUT,
        long: true,
        ..Case::new(Q, "put", "alone")
    },
    Case {
        init: ONE,
        operation: PUT,
        check: CHECK_PUT,
        long: true,
        ..Case::new(Q, "first put of a thread", "alone")
    },
    Case {
        init: ONE,
        setup: WARM,
        operation: PUT_LONG,
        check: CHECK_PUT,
        long: true,
        ..Case::new(Q, "put, long", "alone")
    },
    Case {
        init: EMPTY,
        setup: WARM,
        operation: PUT,
        waiters: &[CONSUMER],
        check: CHECK_PUT_EMPTY,
        ..Case::new(Q, "put", "one consumer waits")
    },
    Case {
        init: EMPTY,
        setup: WARM,
        operation: PUT,
        waiters: &[CONSUMER, CONSUMER],
        check: CHECK_PUT_EMPTY,
        long: true,
        ..Case::new(Q, "put", "two consumers wait")
    },
    Case {
        init: EMPTY,
        setup: WARM,
        operation: PUT_TWO,
        waiters: &[CONSUMER, CONSUMER],
        check: CHECK_PUT_TWO,
        long: true,
        ..Case::new(Q, "put two", "two consumers wait")
    },
    Case {
        init: EMPTY,
        setup: WARM,
        operation: RESERVE,
        waiters: &[CONSUMER],
        check: CHECK_PUT_EMPTY,
        ..Case::new(Q, "reserve, commit", "one consumer waits")
    },
    Case {
        init: FULL,
        setup: WARM,
        operation: PUT,
        wake: Some(|shared| assert_eq!(get(shared, LIMIT), 0)),
        check: CHECK_PUT_FULL,
        long: true,
        ..Case::new(Q, "put, woken", "alone")
    },
    Case {
        init: FULL,
        setup: WARM,
        operation: PUT,
        waiters: &[PRODUCER],
        waiters_behind: true,
        wake: Some(|shared| assert_eq!(get(shared, LIMIT), 0)),
        check: CHECK_PUT_FULL,
        long: true,
        ..Case::new(Q, "put, woken", "one producer behind")
    },
    Case {
        init: FULL,
        setup: WARM,
        operation: PUT,
        waiters: &[PRODUCER, PRODUCER],
        check: CHECK_PUT_FULL,
        wake: Some(|shared| {
            (0..3).for_each(|_| assert_eq!(get(shared, LIMIT), 0));
        }),
        long: true,
        ..Case::new(Q, "put, woken", "two producers before")
    },
    Case {
        init: FULL,
        setup: WARM,
        operation: |shared| {
            put(shared, VICTIMS, Timeout::After(200_000));
        },
        check: |shared| {
            producers_go(shared);
            assert_eq!(missing(shared, &[FIRST, SECOND]), 0);
        },
        long: true,
        ..Case::new(Q, "put, timed out", "alone")
    },
    Case {
        init: FULL,
        setup: WARM,
        operation: GET,
        check: CHECK_GET,
        long: true,
        ..Case::new(Q, "get", "alone")
    },
    Case {
        init: FULL,
        setup: WARM,
        operation: GET,
        waiters: &[PRODUCER],
        check: CHECK_GET,
        ..Case::new(Q, "get", "one producer waits")
    },
    Case {
        init: FULL,
        setup: WARM,
        operation: GET,
        waiters: &[PRODUCER, PRODUCER],
        check: CHECK_GET,
        long: true,
        ..Case::new(Q, "get", "two producers wait")
    },
    Case {
        init: FULL,
        setup: WARM,
        operation: GET_TWO,
        waiters: &[PRODUCER, PRODUCER],
        check: CHECK_GET_TWO,
        long: true,
        ..Case::new(Q, "get two", "two producers wait")
    },
    Case {
        init: FULL,
        setup: WARM,
        operation: PEEK,
        waiters: &[PRODUCER],
        check: CHECK_PEEK,
        ..Case::new(Q, "peek, release", "one producer waits")
    },
    Case {
        init: EMPTY,
        setup: WARM,
        operation: GET,
        wake: Some(|shared| assert_eq!(put(shared, SECOND, LIMIT), 0)),
        check: CHECK_GET_WOKEN,
        long: true,
        ..Case::new(Q, "get, woken", "alone")
    },
    Case {
        init: EMPTY,
        setup: WARM,
        operation: GET,
        waiters: &[CONSUMER],
        waiters_behind: true,
        wake: Some(|shared| assert_eq!(put(shared, SECOND, LIMIT), 0)),
        check: CHECK_GET_WOKEN,
        ..Case::new(Q, "get, woken", "one consumer behind")
    },
    Case {
        init: EMPTY,
        setup: WARM,
        operation: GET,
        waiters: &[CONSUMER, CONSUMER],
        wake: Some(|shared| {
            (0..3).for_each(|number| assert_eq!(put(shared, 20 + number, LIMIT), 0));
        }),
        check: CHECK_GET_WOKEN,
        long: true,
        ..Case::new(Q, "get, woken", "two consumers before")
    },
    Case {
        init: EMPTY,
        setup: WARM,
        operation: |shared| {
            get(shared, Timeout::After(200_000));
        },
        check: consumers_go,
        long: true,
        ..Case::new(Q, "get, timed out", "alone")
    },
    Case {
        init: EMPTY,
        setup: WARM,
        operation: CLOSE,
        waiters: &[CONSUMER, CONSUMER],
        check: CHECK_CLOSE,
        ..Case::new(Q, "close", "two consumers wait")
    },
    Case {
        init: FULL,
        setup: WARM,
        operation: CLOSE,
        waiters: &[PRODUCER, PRODUCER],
        check: CHECK_CLOSE,
        ..Case::new(Q, "close", "two producers wait")
    },
    Case {
        init: ONE,
        setup: WARM,
        operation: |shared| queue(shared).task_done().unwrap(),
        waiters: &[JOINER, JOINER],
        check: CHECK_JOIN,
        ..Case::new(Q, "task_done", "two join")
    },
];
