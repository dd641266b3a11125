//! Pools as lines of text.

use crate::history::History;
use crate::symbols::Symbols;
use tine::heap::Whose;
use tine::inspect::pool::{Found, Pool, Queue, Running, Worker};
use tine::inspect::process::Process;

/// 1234567 as 1,234,567.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A length of time with two or three digits.
pub fn time(ns: u64) -> String {
    let seconds = ns as f64 / 1e9;
    match ns {
        0..1_000_000 => format!("{} us", ns / 1000),
        1_000_000..1_000_000_000 => format!("{:.0} ms", ns as f64 / 1e6),
        1_000_000_000..60_000_000_000 => format!("{seconds:.1} s"),
        60_000_000_000..3_600_000_000_000 => {
            format!("{:.0}m {:02.0}s", (seconds / 60.0).floor(), (seconds % 60.0).floor())
        }
        _ => format!("{:.0}h {:02.0}m", (seconds / 3600.0).floor(), (seconds / 60.0 % 60.0).floor()),
    }
}

/// A number of bytes in the largest unit that it has one of.
pub fn bytes(bytes: u64) -> String {
    let units = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => {
            let number = bytes as f64 / unit as f64;
            if number < 10.0 { format!("{number:.1} {name}") } else { format!("{number:.0} {name}") }
        }
        None => format!("{bytes} B"),
    }
}

fn rate(rate: Option<f64>) -> String {
    match rate {
        None => "-".to_owned(),
        Some(rate) if rate < 10.0 => format!("{rate:.1}"),
        Some(rate) => count(rate as u64),
    }
}

/// Rows under headings, each column as wide as its widest. A heading that begins with `>` has its column on the right.
fn table(headings: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([headings[column].trim_start_matches('>').len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: &[String]| {
        let cells = cells.iter().zip(headings).zip(&widths).map(|((cell, heading), width)| {
            if heading.starts_with('>') { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let names: Vec<String> = headings.iter().map(|name| name.trim_start_matches('>').to_owned()).collect();
    [line(&names)].into_iter().chain(rows.iter().map(|row| line(row))).collect()
}

/// R, S, D, Z in words; a stopped process is what people look for.
fn state(process: &Process) -> &'static str {
    match process.state {
        'R' => "running",
        'S' => "sleeping",
        'D' => "in the kernel",
        'T' => "STOPPED",
        't' => "TRACED",
        'Z' => "ended",
        _ => "?",
    }
}

/// A worker in a word: its place's state, unless its process says something worse.
fn worker_state(worker: &Worker) -> String {
    match &worker.process {
        Some(process) if process.is_stopped() => state(process).to_owned(),
        None if worker.own_pid != 0 => "gone".to_owned(),
        _ => match &worker.ring {
            Some(ring) if worker.state == "ready" && ring.running.is_some() => "busy".to_owned(),
            Some(ring) if worker.state == "ready" && ring.is_idle => "idle".to_owned(),
            _ => worker.state.to_owned(),
        },
    }
}

pub fn busy_count(pool: &Pool) -> usize {
    pool.places
        .iter()
        .filter(|worker| worker.ring.as_ref().is_some_and(|ring| ring.running.is_some()))
        .count()
}

pub fn ready_count(pool: &Pool) -> usize {
    pool.places.iter().filter(|worker| worker.state == "ready" && worker.process.is_some()).count()
}

/// What `tine ps` prints.
pub fn list(pools: &[(u32, Found)]) -> String {
    if pools.is_empty() {
        return "no pools\n".to_owned();
    }
    let rows: Vec<Vec<String>> = pools
        .iter()
        .map(|(pid, found)| match found {
            Found::Pool(pool) => {
                let figures = &pool.figures;
                vec![
                    pid.to_string(),
                    pool.host.command.clone(),
                    state(&pool.host).to_owned(),
                    pool.start.to_owned(),
                    format!("{}/{}", ready_count(pool), pool.places.len()),
                    busy_count(pool).to_string(),
                    count(figures.submitted.saturating_sub(figures.settled)),
                    count(figures.settled),
                    count(figures.items),
                    pool.heap.as_ref().map_or("-".to_owned(), |heap| bytes(heap.reserved_bytes)),
                    time(pool.age_ns),
                ]
            }
            Found::Other(version) => {
                let command = Process::of(*pid).map_or_else(String::new, |process| process.command);
                vec![
                    pid.to_string(),
                    command,
                    format!("a pool of tine {version}, which this program cannot read"),
                ]
            }
        })
        .collect();
    let headings = [
        "HOST", "COMMAND", "STATE", "START", ">READY", ">BUSY", ">OPEN", ">SETTLED", ">ITEMS", ">HEAP",
        ">AGE",
    ];
    // The long text is not to make its column wide.
    let (known, other): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.len() == headings.len());
    let mut lines = table(&headings, &known);
    lines.extend(other.iter().map(|row| row.join("  ")));
    lines.join("\n") + "\n"
}

/// What `tine top` shows.
pub fn frame(pid: u32, pools: &[Pool], history: &History, symbols: &mut Symbols) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(pool) = pools.first() {
        let host = &pool.host;
        lines.push(format!(
            "host {pid} {}  {}  {} resident  tine {}",
            host.command,
            state(host),
            bytes(host.resident_bytes),
            pool.library
        ));
    }
    for (number, pool) in pools.iter().enumerate() {
        lines.push(String::new());
        lines.extend(head(number, pool, history));
        lines.push(String::new());
        lines.extend(workers(pool, history, symbols));
        lines.extend(queues(pool));
        lines.extend(waits(pool));
        lines.extend(pool.notes.iter().map(|note| format!("  not seen: {note}")));
    }
    lines
}

fn head(number: usize, pool: &Pool, history: &History) -> Vec<String> {
    let (figures, rates) = (&pool.figures, history.pool_rates(pool));
    let mut lines = vec![
        format!(
            "pool {}  {}  up {}  {} of {} workers ready, {} busy  deaths {}  replaced {}  supervisor deaths {}",
            number + 1,
            pool.start,
            time(pool.age_ns),
            ready_count(pool),
            pool.places.len(),
            busy_count(pool),
            count(figures.worker_deaths),
            count(figures.workers_recycled),
            count(figures.supervisor_deaths),
        ),
        format!(
            "  tasks   {} submitted, {} settled ({}/s), {} open",
            count(figures.submitted),
            count(figures.settled),
            rate(rates.settled),
            count(figures.submitted.saturating_sub(figures.settled)),
        ),
    ];
    if figures.items > 0 {
        lines.push(format!(
            "  items   {} done ({}/s), {} failed",
            count(figures.items),
            rate(rates.items),
            count(figures.items_failed)
        ));
    }
    lines.push(format!(
        "  window  {} of {} tasks, {} of {}",
        count(figures.window_tasks),
        count(figures.window_most_tasks),
        bytes(figures.window_bytes),
        bytes(figures.window_most_bytes)
    ));
    if let Some(heap) = &pool.heap {
        let whose = |whose: &Whose| match whose {
            Whose::Host => "host".to_owned(),
            Whose::Place(place) => format!("worker {place}"),
            Whose::Ended(pid) => format!("ended {pid}"),
        };
        let mut usage: Vec<_> = heap.usage.iter().filter(|(_, usage)| usage.blocks > 0).collect();
        usage.sort_by_key(|(_, usage)| std::cmp::Reverse(usage.bytes));
        let all = usage.iter().map(|(_, usage)| usage.bytes).sum();
        let (first, rest) = usage.split_at(usage.len().min(4));
        let mut owners: Vec<String> = first
            .iter()
            .map(|(owner, usage)| {
                format!("{} {} ({} blocks)", whose(owner), bytes(usage.bytes), count(usage.blocks))
            })
            .collect();
        if !rest.is_empty() {
            owners.push(format!("{} more", rest.len()));
        }
        let owners = if owners.is_empty() { String::new() } else { format!(": {}", owners.join(", ")) };
        lines.push(format!(
            "  heap    {} reserved (most {}), {} in blocks{owners}",
            bytes(heap.reserved_bytes),
            bytes(heap.peak_bytes),
            bytes(all)
        ));
    }
    lines
}

fn workers(pool: &Pool, history: &History, symbols: &mut Symbols) -> Vec<String> {
    let is_vacant =
        |worker: &&Worker| matches!(worker.state, "vacant" | "parked") && worker.process.is_none();
    let vacant = pool.places.iter().filter(is_vacant).count();
    let mut places: Vec<&Worker> = pool.places.iter().filter(|worker| !is_vacant(worker)).collect();
    // Who has been at something for longest is what people look for.
    places.sort_by_key(|worker| {
        std::cmp::Reverse(
            worker
                .ring
                .as_ref()
                .and_then(|ring| ring.running.as_ref())
                .map(|running| running_ns(pool, worker, running, history).0),
        )
    });
    let rows: Vec<Vec<String>> = places
        .into_iter()
        .map(|worker| {
            let (process, ring) = (worker.process.as_ref(), worker.ring.as_ref());
            let rates = history.rates_of(pool, worker);
            let running = ring.and_then(|ring| ring.running.as_ref());
            let (long, what) = match running {
                Some(running) => (long(pool, worker, running, history), what(running, process, symbols)),
                None => (String::new(), String::new()),
            };
            vec![
                format!("  {}", worker.slot),
                process.map_or_else(|| worker.own_pid.to_string(), |process| process.pid.to_string()),
                worker_state(worker),
                rates.busy.map_or("-".to_owned(), |busy| format!("{:.0}%", busy * 100.0)),
                process.map_or("-".to_owned(), |process| bytes(process.resident_bytes)),
                rate(rates.done),
                ring.map_or("-".to_owned(), |ring| ring.waiting.to_string()),
                long,
                what,
            ]
        })
        .collect();
    let mut lines = Vec::new();
    if !rows.is_empty() {
        let headings = ["  WORKER", ">PID", "STATE", ">CPU", ">MEMORY", ">DONE/S", ">NEXT", ">FOR", "RUNS"];
        lines = table(&headings, &rows);
    }
    if vacant > 0 {
        lines.push(format!("  {vacant} places have no worker"));
    }
    lines
}

/// For how long at least, and whether that is exact.
pub fn running_ns(pool: &Pool, worker: &Worker, running: &Running, history: &History) -> (u64, bool) {
    let seen = history.seen_for_ns(pool, worker);
    let is_exact = running.at_most_ns == Some(running.at_least_ns);
    (running.at_least_ns.max(if is_exact { 0 } else { seen }), is_exact)
}

fn long(pool: &Pool, worker: &Worker, running: &Running, history: &History) -> String {
    let (ns, is_exact) = running_ns(pool, worker, running, history);
    if is_exact { time(ns) } else { format!(">{}", time(ns)) }
}

fn what(running: &Running, process: Option<&Process>, symbols: &mut Symbols) -> String {
    let name = symbols.name(&running.function, process.map_or(0, |process| process.pid));
    match running.items {
        Some((done, all)) => format!("{name}, item {} of {}", count((done + 1).min(all)), count(all)),
        None if running.kind == "range" => format!("{name}, a range"),
        None => name,
    }
}

fn queues(pool: &Pool) -> Vec<String> {
    if pool.queues.is_empty() {
        return Vec::new();
    }
    let who = |owner: &tine::sync::Owner| if owner.pid == 0 { "-".to_owned() } else { owner.pid.to_string() };
    let row = |queue: &Queue| {
        let contents = &queue.contents;
        vec![
            format!("  {:#x}", queue.address),
            format!("{} of {}", count(contents.messages), count(contents.most_messages)),
            count(contents.put),
            count(contents.got),
            if contents.is_closed { "closed".to_owned() } else { "open".to_owned() },
            who(&contents.producer),
            who(&contents.consumer),
        ]
    };
    let rows: Vec<Vec<String>> = pool.queues.iter().map(row).collect();
    let headings = ["  QUEUE", ">MESSAGES", ">PUT", ">GOT", "STATE", ">PUTTING", ">GETTING"];
    [String::new()].into_iter().chain(table(&headings, &rows)).collect()
}

fn waits(pool: &Pool) -> Vec<String> {
    let rows: Vec<Vec<String>> = pool
        .waits
        .iter()
        .map(|wait| {
            let holder = wait.holder.map_or("-".to_owned(), |(pid, tid)| {
                if pid == tid { pid.to_string() } else { format!("{pid}/{tid}") }
            });
            let waiter = if wait.pid == wait.tid {
                wait.pid.to_string()
            } else {
                format!("{}/{}", wait.pid, wait.tid)
            };
            vec![format!("  {:#x}", wait.address), holder, waiter]
        })
        .collect();
    if rows.is_empty() {
        return Vec::new();
    }
    [String::new()].into_iter().chain(table(&["  WAITED FOR", ">HOLDER", ">WAITER"], &rows)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0, 1023, 1024, 10 << 20, u64::MAX].map(bytes),
            ["0 B", "1023 B", "1.0 KiB", "10 MiB", "16777216 TiB"]
        );
        let times = [0, 999_999, 1_500_000, 2_340_000_000, 61_000_000_000, 3_725_000_000_000].map(time);
        assert_eq!(times, ["0 us", "999 us", "2 ms", "2.3 s", "1m 01s", "1h 02m"]);
    }

    #[test]
    fn columns_are_as_wide_as_their_widest() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["longer".to_owned(), "10".to_owned()]];
        assert_eq!(table(&["X", ">N"], &rows), ["X        N", "a        1", "longer  10"]);
    }
}
