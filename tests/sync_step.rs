//! Single-stepping: every instruction of every primitive is a place to die at.
//!
//! A program of its own, without the test harness, because it forks: the processes must have one thread. Arguments
//! choose cases by what their names contain; TINE_STORM=1 adds the slow ones.

#[path = "step/groups.rs"]
mod groups;
#[path = "step/mutex.rs"]
mod mutex;
#[path = "step/queue.rs"]
mod queue;
#[path = "step/signals.rs"]
mod signals;
#[path = "step/mod.rs"]
mod step;

use std::collections::BTreeMap;
use std::process::exit;
use std::time::{Duration, Instant};
use step::Case;

/// At least so many places to die at, in all.
const LEAST_POINTS: u32 = 3000;

fn main() {
    let chosen: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let began = Instant::now();
    println!(
        "| primitive | path | scenario | kill points | hung | wrong | slowest ms |\n|---|---|---|---|---|---|---|"
    );
    let results = step::results();
    // Several at a time, each with its victim on one processor, where stepping is quickest: some cases wait a lot.
    let workers = [0, 1, 2, 3].map(|worker| {
        step::spawn(|| {
            step::stay_on_processor(worker % 2);
            let shared = step::shared_memory();
            for (index, case) in cases().enumerate() {
                let name = format!("{} {} {}", case.primitive, case.path, case.scenario);
                if chosen.iter().all(|part| name.contains(part.as_str())) && results.claim(index) {
                    results.record(index, step::kill_everywhere(case, shared));
                }
            }
        })
    });
    let ended = workers.map(|worker| step::wait_end(worker) == 0);
    let (mut points, mut hung, mut wrong, mut slowest) = (0, 0, 0, Duration::ZERO);
    let mut totals: BTreeMap<&str, u32> = BTreeMap::new();
    for (index, case) in cases().enumerate() {
        let Some(outcome) = results.get(index) else { continue };
        println!(
            "| {} | {} | {} | {} | {} | {} | {:.1} |",
            case.primitive,
            case.path,
            case.scenario,
            outcome.points,
            outcome.hung,
            outcome.wrong,
            outcome.slowest.as_secs_f64() * 1e3
        );
        points += outcome.points;
        hung += outcome.hung;
        wrong += outcome.wrong;
        slowest = slowest.max(outcome.slowest);
        *totals.entry(case.primitive).or_default() += outcome.points;
    }
    for (primitive, points) in &totals {
        println!("{primitive}: {points} kill points");
    }
    let took = began.elapsed();
    println!(
        "{points} kill points, {hung} hung, {wrong} wrong; the slowest settled in {slowest:.1?}; {took:.0?} in all"
    );
    let enough = !chosen.is_empty() || points >= LEAST_POINTS;
    if !enough {
        println!("fewer than {LEAST_POINTS} kill points");
    }
    let passed = hung == 0 && wrong == 0 && enough && ended == [true; 4];
    let (verdict, good, bad) = if passed { ("ok", 1, 0) } else { ("FAILED", 0, 1) };
    println!("test result: {verdict}. {good} passed; {bad} failed");
    exit(bad);
}

fn cases() -> impl Iterator<Item = &'static Case> {
    let long = std::env::var_os("TINE_STORM").is_some();
    let all = mutex::CASES.iter().chain(signals::CASES).chain(groups::CASES).chain(queue::CASES);
    all.filter(move |case| long || !case.long)
}
