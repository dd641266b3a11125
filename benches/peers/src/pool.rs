//! rayon and crossbeam, for benches/pool.c: PEER, prints nanoseconds for each of 100,000 tasks that do nothing, on two threads.

use std::hint::black_box;
use std::time::Instant;

const TASKS: usize = 100_000;
const THREADS: usize = 2;

/// A task on its own each, as `tine_submit` has it.
fn rayon() -> f64 {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(THREADS).build().expect("two threads");
    let run = || {
        pool.in_place_scope(|scope| {
            for task in 0..TASKS {
                scope.spawn(move |_| {
                    black_box(task);
                });
            }
        });
    };
    timed(run)
}

/// The pool that people write by hand: threads that take boxed functions from one channel, and a channel of results.
fn crossbeam() -> f64 {
    type Task = Box<dyn FnOnce() -> usize + Send>;
    let (submit, tasks) = crossbeam_channel::unbounded::<Task>();
    let (give, results) = crossbeam_channel::unbounded();
    for _ in 0..THREADS {
        let (tasks, give) = (tasks.clone(), give.clone());
        std::thread::spawn(move || {
            for task in tasks {
                if give.send(task()).is_err() {
                    return;
                }
            }
        });
    }
    timed(|| {
        for task in 0..TASKS {
            submit.send(Box::new(move || black_box(task))).expect("the threads take");
        }
        for _ in 0..TASKS {
            results.recv().expect("the threads give");
        }
    })
}

/// The second of two runs: the first one warms up.
fn timed(run: impl Fn()) -> f64 {
    run();
    let began = Instant::now();
    run();
    began.elapsed().as_nanos() as f64 / TASKS as f64
}

fn main() {
    let each = match std::env::args().nth(1).as_deref() {
        Some("rayon") => rayon(),
        Some("crossbeam") => crossbeam(),
        _ => {
            eprintln!("usage: pool-peers rayon|crossbeam");
            std::process::exit(2);
        }
    };
    println!("{each}");
}
