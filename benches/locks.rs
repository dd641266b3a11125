//! The mutex next to std's and parking_lot's, which are for the threads of one process: part of `make bench`. Rounds go
//! through all of them in turn; medians of the rounds.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tine::sync::Mutex;
use tine::sys::clock::Timeout;

const ROUNDS: usize = 9;
const SLICE: Duration = Duration::from_millis(100);

/// About 100 ns that neither the processor nor the compiler can make shorter.
fn section(mut x: u64) -> u64 {
    for _ in 0..80 {
        x = black_box(x).wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    }
    x
}

type Peer<'a> = Box<dyn Fn() + Sync + 'a>;

/// Million operations per second of so many threads.
fn together(threads: usize, operation: &(dyn Fn() + Sync)) -> f64 {
    let (stop, total) = (AtomicBool::new(false), AtomicU64::new(0));
    let began = std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut count = 0;
                while !stop.load(Relaxed) {
                    operation();
                    count += 1;
                }
                total.fetch_add(count, Relaxed);
            });
        }
        let began = Instant::now();
        std::thread::sleep(SLICE);
        stop.store(true, Relaxed);
        began
    });
    total.load(Relaxed) as f64 / began.elapsed().as_secs_f64() / 1e6
}

fn main() {
    /// As C programs have it: on a line of its own.
    #[repr(align(64))]
    struct Aligned(Mutex);
    let ours = Aligned(Mutex::new(0).expect("no flags"));
    let (std, parking_lot) = (std::sync::Mutex::new(1), parking_lot::Mutex::new(1));
    let (ours, std, parking_lot) = (&ours.0, &std, &parking_lot);
    let lock = |work: fn(u64) -> u64| {
        let peers: [Peer; 3] = [
            Box::new(move || {
                ours.lock(Timeout::Forever).expect("it is free");
                black_box(work(black_box(1)));
                ours.unlock().expect("it is held");
            }),
            Box::new(move || {
                let mut value = std.lock().expect("not poisoned");
                *value = work(*value);
            }),
            Box::new(move || {
                let mut value = parking_lot.lock();
                *value = work(*value);
            }),
        ];
        peers
    };
    println!("| mutex, threads of one process, Mops/s | tine | std | parking_lot |\n|---|---|---|---|");
    for (name, work) in [("empty", (|x| x) as fn(u64) -> u64), ("100 ns", section)] {
        let peers = lock(work);
        for threads in [1, 2, 4] {
            let mut figures = [const { Vec::new() }; 3];
            for _ in 0..ROUNDS {
                for (figure, operation) in figures.iter_mut().zip(&peers) {
                    figure.push(together(threads, operation));
                }
            }
            let medians = figures.map(|mut figure: Vec<f64>| {
                figure.sort_by(f64::total_cmp);
                format!("{:.1}", figure[ROUNDS / 2])
            });
            println!("| {threads}, {name} | {} |", medians.join(" | "));
        }
    }
}
