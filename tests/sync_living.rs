//! Stops a living process after each instruction of an operation, while somebody else does all that it may do meanwhile:
//! tries, buries the dead, takes over, repairs, frees the memory and fills it with other data. Then the first goes on.
//!
//! What a death leaves behind is `sync_step`'s to find out; this is about what the living do to each other. A program of
//! its own, without the test harness, because it forks. Arguments choose cases by what their names contain.

#[path = "living/cases.rs"]
mod cases;
#[allow(dead_code)] // Of the single-stepper's tools, this needs those for processes.
#[path = "step/mod.rs"]
mod step;
#[path = "living/stop.rs"]
mod stop;

use std::time::Instant;

fn main() {
    let chosen: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let began = Instant::now();
    println!("| operation | meanwhile | places | wrong |\n|---|---|---|---|");
    let (mut places, mut wrong) = (0, 0);
    for case in cases::CASES {
        let name = format!("{} {}", case.operation, case.meanwhile);
        if !chosen.iter().all(|part| name.contains(part.as_str())) {
            continue;
        }
        let outcome = stop::everywhere(case);
        println!("| {} | {} | {} | {} |", case.operation, case.meanwhile, outcome.places, outcome.wrong);
        places += outcome.places;
        wrong += outcome.wrong;
    }
    let enough = !chosen.is_empty() || places >= 500;
    println!("{places} places to stop at, {wrong} wrong; {:.0?} in all", began.elapsed());
    let passed = wrong == 0 && enough;
    let (verdict, good, bad) = if passed { ("ok", 1, 0) } else { ("FAILED", 0, 1) };
    println!("test result: {verdict}. {good} passed; {bad} failed");
    std::process::exit(bad);
}
