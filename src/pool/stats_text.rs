//! The counters of pools in the text format of Prometheus (version 0.0.4).

use super::PoolStats;
use crate::error::{Code, Result};
use std::fmt::Write as _;

/// A counter: its name behind `tine_`, what it is, whether it only grows, and its value.
struct Counter(&'static str, &'static str, bool, fn(&PoolStats) -> u64);

const COUNTERS: [Counter; 14] = [
    Counter("workers", "Places for workers.", false, |stats| stats.workers as u64),
    Counter("workers_ready", "Workers that take tasks.", false, |stats| stats.workers_ready as u64),
    Counter("workers_busy", "Workers in the middle of a task.", false, |stats| stats.workers_busy as u64),
    Counter("tasks_submitted_total", "Tasks submitted, without the chunks of maps.", true, |stats| {
        stats.submitted
    }),
    Counter("tasks_settled_total", "Of these, tasks that have settled.", true, |stats| stats.settled),
    Counter("tasks_outstanding", "Tasks and chunks of maps that have not settled.", false, |stats| {
        stats.outstanding as u64
    }),
    Counter("tasks_waiting", "Of these, those that have not begun.", false, |stats| stats.waiting() as u64),
    Counter(
        "items_settled_total",
        "Items of maps, loops and streams that have been dealt with.",
        true,
        |stats| stats.items_settled,
    ),
    Counter("items_failed_total", "Of these, items that failed.", true, |stats| stats.items_failed),
    Counter("worker_deaths_total", "Workers that have died.", true, |stats| stats.worker_deaths),
    Counter("workers_recycled_total", "Workers that were replaced in good order.", true, |stats| {
        stats.workers_recycled
    }),
    Counter("supervisor_deaths_total", "Supervisors that have died.", true, |stats| stats.supervisor_deaths),
    Counter("heap_reserved_bytes", "Memory that is reserved for the heap.", false, |stats| {
        stats.heap_reserved_bytes
    }),
    Counter("heap_allocated_bytes", "Allocated blocks in the heap.", false, |stats| {
        stats.heap_allocated_bytes
    }),
];

/// The text: all pools of a counter stand together, as the format asks. A name becomes the label `pool`.
pub fn stats_text(pools: &[(Option<&str>, PoolStats)]) -> Result<String> {
    // More than a line has, with every sign of the name escaped.
    const LINE: usize = 150;
    let each: usize = pools.iter().map(|(name, _)| LINE + 2 * name.map_or(0, str::len)).sum();
    let mut text = String::new();
    text.try_reserve(COUNTERS.len() * (2 * LINE + each)).map_err(|_| Code::errno(libc::ENOMEM))?;
    for Counter(name, what, grows, value) in COUNTERS {
        let kind = if grows { "counter" } else { "gauge" };
        let _ = write!(text, "# HELP tine_{name} {what}\n# TYPE tine_{name} {kind}\n");
        for (pool, stats) in pools {
            let _ = write!(text, "tine_{name}");
            if let Some(pool) = pool {
                text.push_str("{pool=\"");
                escape(pool, &mut text);
                text.push_str("\"}");
            }
            let _ = writeln!(text, " {}", value(stats));
        }
    }
    Ok(text)
}

/// Adds it, at most twice as long.
fn escape(label: &str, text: &mut String) {
    for sign in label.chars() {
        match sign {
            '\\' | '"' => text.extend(['\\', sign]),
            '\n' => text.push_str("\\n"),
            _ => text.push(sign),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counter_has_its_pools_together_and_labels_are_escaped() {
        let stats = PoolStats { settled: u64::MAX, outstanding: 5, workers_busy: 2, ..PoolStats::default() };
        let text = stats_text(&[(Some("a\"b\\c\nd"), stats), (Some("b"), PoolStats::default())]).unwrap();
        let part = "# TYPE tine_tasks_settled_total counter\n\
            tine_tasks_settled_total{pool=\"a\\\"b\\\\c\\nd\"} 18446744073709551615\ntine_tasks_settled_total{pool=\"b\"} 0\n# HELP ";
        assert!(text.contains(part), "{text}");
        assert!(text.contains("\ntine_tasks_waiting{pool=\"b\"} 0\n") && text.contains("} 3\n"), "{text}");
        assert_eq!(text.matches("# TYPE ").count(), 14);
        assert!(stats_text(&[(None, stats)]).unwrap().contains("\ntine_tasks_outstanding 5\n"));
    }
}
