//! The host that the tests look at, by the calls of the C interface. Once it is ready it calls nothing of tine's any more.

use std::ffi::{c_int, c_void};
use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use tine::ffi::{memory, pool, queue, submit, sync, task};

const FOR_EVER: i64 = i64::MAX;

/// Where the lock and the queue are: the input of all tasks.
#[repr(C)]
struct Shared {
    lock: *mut c_void,
    /// The one has the lock; the other is about to want it.
    steps: *const [AtomicU32; 2],
}

fn input<'a>(task: *mut task::tine_task) -> &'a Shared {
    // SAFETY: every task has one as its input, in the slot's memory, as long as it runs.
    unsafe { &*task::tine_input(task, std::ptr::null_mut()).cast::<Shared>() }
}

/// A task that never ends.
#[unsafe(no_mangle)]
extern "C-unwind" fn holds_the_lock(task: *mut task::tine_task) -> c_int {
    let shared = input(task);
    // SAFETY: a mutex in the heap, and a word there.
    unsafe {
        assert_eq!(sync::tine_mutex_lock(shared.lock.cast(), FOR_EVER), 0);
        (*shared.steps)[0].store(1, Ordering::Release);
    }
    loop {
        std::thread::park();
    }
}

/// Another one.
#[unsafe(no_mangle)]
extern "C-unwind" fn wants_the_lock(task: *mut task::tine_task) -> c_int {
    let shared = input(task);
    // SAFETY: a mutex in the heap, and a word there.
    unsafe {
        while (*shared.steps)[0].load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        (*shared.steps)[1].store(1, Ordering::Release);
        sync::tine_mutex_lock(shared.lock.cast(), FOR_EVER)
    }
}

extern "C-unwind" fn nothing(_task: *mut task::tine_task) -> c_int {
    0
}

extern "C-unwind" fn sleeps(_task: *mut task::tine_task) -> c_int {
    std::thread::sleep(std::time::Duration::from_micros(300));
    0
}

/// Where the environment asks for it, this program is a host and no test.
pub(crate) fn become_host() {
    tine::ffi::start::tine_init(0, std::ptr::null_mut());
    let Ok(mode) = std::env::var("TINE_TEST_HOST") else { return };
    if std::env::var("TINE_TEST_FORK").is_ok() {
        // The first process in its PID namespace.
        // SAFETY: this process has one thread, and its child goes on as it would have.
        let child = unsafe { libc::fork() };
        if child > 0 {
            // SAFETY: a child of ours.
            unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
            std::process::exit(0);
        }
    }
    host(&mode)
}

/// A pool of this host's.
#[derive(Clone, Copy)]
struct Pool(*mut pool::tine_pool);

impl Pool {
    fn new(workers: usize) -> Pool {
        let mut of = std::ptr::null_mut();
        // SAFETY: a struct of zeros whose size is said.
        unsafe {
            let mut options: pool::tine_pool_options = std::mem::zeroed();
            options.size = size_of_val(&options);
            options.workers = workers;
            options.window_tasks = 1000;
            assert_eq!(pool::tine_pool_create(&options, &mut of), 0);
        }
        Pool(of)
    }

    fn run(self, function: extern "C-unwind" fn(*mut task::tine_task) -> c_int, shared: &Shared) -> u64 {
        let mut id = 0;
        let input = (&raw const *shared).cast();
        // SAFETY: the pool, and an input of this length.
        let code = unsafe {
            submit::tine_submit(self.0, Some(function), input, size_of::<Shared>(), std::ptr::null(), &mut id)
        };
        assert_eq!(code, 0);
        id
    }

    /// Takes the result of this task, or of the next one that settles.
    fn take(self, id: Option<u64>) {
        // SAFETY: the pool, and a struct of zeros whose size is said.
        unsafe {
            let mut result: submit::tine_result = std::mem::zeroed();
            result.size = size_of_val(&result);
            let code = match id {
                Some(id) => submit::tine_wait(self.0, id, FOR_EVER, &mut result),
                None => submit::tine_next(self.0, FOR_EVER, &mut result),
            };
            assert_eq!(code, 0);
            submit::tine_result_release(self.0, &mut result);
        }
    }
}

fn host(mode: &str) -> ! {
    let pool = Pool::new(if mode == "dies" { 4 } else { 2 });
    // SAFETY: the pool's heap.
    let shared = unsafe {
        Shared { lock: memory::tine_calloc(pool.0, 1, 64), steps: memory::tine_calloc(pool.0, 1, 64).cast() }
    };
    match mode {
        "hangs" => {
            for _ in 0..3 {
                pool.take(Some(pool.run(nothing, &shared)));
            }
            ready(&[]);
            loop {
                std::hint::spin_loop();
            }
        }
        "dies" => {
            ready(&[]);
            loop {
                for _ in 0..100 {
                    pool.run(sleeps, &shared);
                }
                for _ in 0..100 {
                    pool.take(None);
                }
            }
        }
        _ => waits(pool, &shared),
    }
}

/// A host with a queue, a task that holds a lock, one that waits for the lock, and one that waits for a worker, for ever.
fn waits(pool: Pool, shared: &Shared) -> ! {
    let mut q = std::ptr::null_mut();
    // SAFETY: the pool, its queue, and messages of 8 bytes.
    unsafe {
        assert!(!memory::tine_alloc(pool.0, 1 << 20).is_null());
        assert_eq!(queue::tine_queue_create(pool.0, std::ptr::null(), &mut q), 0);
        for message in 0..3u64 {
            let data = (&raw const message).cast();
            assert_eq!(queue::tine_queue_put(q, data, 8, 0), 0);
        }
        let (mut got, mut length) = (0u64, 0);
        assert_eq!(queue::tine_queue_get(q, 0, (&raw mut got).cast(), 8, &mut length), 0);
    }
    pool.take(Some(pool.run(nothing, shared)));
    // One more that has settled, and stays in the window.
    pool.run(nothing, shared);
    // SAFETY: the pool.
    while unsafe { submit_count(pool.0) } < 2 {
        std::thread::yield_now();
    }
    pool.run(holds_the_lock, shared);
    pool.run(wants_the_lock, shared);
    // SAFETY: words of the pool's heap.
    while unsafe { &*shared.steps }.iter().any(|step| step.load(Ordering::Acquire) == 0) {
        std::thread::yield_now();
    }
    pool.run(nothing, shared);
    ready(&[q.addr(), shared.lock.addr()]);
    loop {
        std::thread::park();
    }
}

unsafe fn submit_count(of: *mut pool::tine_pool) -> u64 {
    // SAFETY: the pool, and a struct of zeros whose size is said.
    unsafe {
        let mut stats: pool::tine_stats = std::mem::zeroed();
        stats.size = size_of_val(&stats);
        assert_eq!(pool::tine_pool_stats(of, &mut stats), 0);
        stats.settled
    }
}

fn ready(words: &[usize]) {
    let words: Vec<String> = words.iter().map(usize::to_string).collect();
    println!("ready {}", words.join(" "));
    std::io::stdout().flush().expect("somebody reads");
}
