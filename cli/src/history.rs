//! What was seen before: for rates, and for how long a worker has been at the same.

use std::collections::HashMap;
use std::time::Instant;
use tine::inspect::pool::{Figures, Pool, Worker};

/// The ticks of /proc/PID/stat.
const TICKS: f64 = 100.0;

#[derive(Default)]
pub struct History {
    pools: HashMap<u64, (Instant, Figures, PoolRates)>,
    workers: HashMap<Key, Seen>,
}

/// A process in a place of a pool.
type Key = (u64, usize, u64);

#[derive(Clone, Copy)]
struct Seen {
    at: Instant,
    done: u32,
    ticks: u64,
    /// Since when it has been running this task.
    same_since: Instant,
    task: Option<u64>,
    rates: Rates,
}

/// What goes by the second.
#[derive(Clone, Copy, Default)]
pub struct PoolRates {
    /// Tasks that have settled.
    pub settled: Option<f64>,
    /// Items that have been dealt with.
    pub items: Option<f64>,
}

/// The same of a worker.
#[derive(Clone, Copy, Default)]
pub struct Rates {
    /// Tasks that a worker has finished.
    pub done: Option<f64>,
    /// Of a processor.
    pub busy: Option<f64>,
}

fn key(pool: &Pool, worker: &Worker) -> Key {
    (pool.inode, worker.slot, worker.generation)
}

/// A rate between two moments that are far enough apart.
fn rate(more: f64, from: Instant, to: Instant) -> Option<f64> {
    let seconds = (to - from).as_secs_f64();
    (seconds >= 0.01).then(|| more / seconds)
}

impl History {
    /// Takes in a look. Rates are those between it and the one before.
    pub fn see(&mut self, pools: &[Pool]) {
        let now = Instant::now();
        let (mut figures, mut workers) = (HashMap::new(), HashMap::new());
        for pool in pools {
            let new = pool.figures;
            let rates = self.pools.get(&pool.inode).map_or(PoolRates::default(), |(at, old, _)| PoolRates {
                settled: rate(new.settled.saturating_sub(old.settled) as f64, *at, now),
                items: rate(new.items.saturating_sub(old.items) as f64, *at, now),
            });
            figures.insert(pool.inode, (now, new, rates));
            for worker in &pool.places {
                let (Some(process), Some(ring)) = (&worker.process, &worker.ring) else { continue };
                let task = ring.running.as_ref().map(|running| running.id);
                let mut seen = Seen {
                    at: now,
                    done: ring.done,
                    ticks: process.ticks,
                    same_since: now,
                    task,
                    rates: Rates::default(),
                };
                if let Some(old) = self.workers.get(&key(pool, worker)) {
                    if old.task == task && old.done == ring.done {
                        seen.same_since = old.same_since;
                    }
                    let ticks = process.ticks.saturating_sub(old.ticks) as f64 / TICKS;
                    seen.rates = Rates {
                        done: rate(f64::from(ring.done.wrapping_sub(old.done)), old.at, now),
                        busy: rate(ticks, old.at, now),
                    };
                }
                workers.insert(key(pool, worker), seen);
            }
        }
        (self.pools, self.workers) = (figures, workers);
    }

    pub fn pool_rates(&self, pool: &Pool) -> PoolRates {
        self.pools.get(&pool.inode).map_or(PoolRates::default(), |(_, _, rates)| *rates)
    }

    pub fn rates_of(&self, pool: &Pool, worker: &Worker) -> Rates {
        self.workers.get(&key(pool, worker)).map_or(Rates::default(), |seen| seen.rates)
    }

    /// For how long a worker has been seen at its task, in nanoseconds.
    pub fn seen_for_ns(&self, pool: &Pool, worker: &Worker) -> u64 {
        let seen = self.workers.get(&key(pool, worker));
        seen.map_or(0, |seen| (seen.at - seen.same_since).as_nanos() as u64)
    }
}
