//! Pools as JSON. Times are nanoseconds, and what is not known is null. docs/inspect.md names the fields.

use crate::symbols::Symbols;
use crate::text::{busy_count, ready_count};
use serde_json::{Value, json};
use tine::heap::Whose;
use tine::inspect::pool::{Found, Pool, Worker};

/// What `tine ps --json` prints.
pub fn list(pools: &[(u32, Found)]) -> String {
    let one = |(pid, found): &(u32, Found)| match found {
        Found::Pool(pool) => summary(pool),
        Found::Other(version) => json!({ "host": pid, "library": version, "readable": false }),
    };
    Value::Array(pools.iter().map(one).collect()).to_string()
}

/// What `tine top --json` prints.
pub fn document(pools: &[Pool]) -> String {
    let mut symbols = Symbols::default();
    let all = pools.iter().map(|pool| whole(pool, &mut symbols));
    Value::Array(all.collect()).to_string()
}

fn summary(pool: &Pool) -> Value {
    let figures = &pool.figures;
    json!({
        "host": pool.host.pid,
        "command": pool.host.command,
        "state": pool.host.state.to_string(),
        "library": pool.library,
        "readable": true,
        "pool": pool.inode,
        "start": pool.start,
        "age_ns": pool.age_ns,
        "workers": pool.places.len(),
        "workers_ready": ready_count(pool),
        "workers_busy": busy_count(pool),
        "submitted": figures.submitted,
        "settled": figures.settled,
        "items_settled": figures.items,
        "items_failed": figures.items_failed,
        "window_tasks": figures.window_tasks,
        "window_most_tasks": figures.window_most_tasks,
        "window_bytes": figures.window_bytes,
        "window_most_bytes": figures.window_most_bytes,
        "worker_deaths": figures.worker_deaths,
        "workers_recycled": figures.workers_recycled,
        "supervisor_deaths": figures.supervisor_deaths,
    })
}

fn whole(pool: &Pool, symbols: &mut Symbols) -> Value {
    let mut value = summary(pool);
    value["places"] = pool.places.iter().map(|worker| place(worker, symbols)).collect();
    value["heap"] = pool.heap.as_ref().map_or(Value::Null, |heap| {
        let usage = heap.usage.iter().map(|(whose, usage)| {
            let (kind, number) = match whose {
                Whose::Host => ("host", None),
                Whose::Place(place) => ("worker", Some(*place)),
                Whose::Ended(pid) => ("ended", Some(*pid)),
            };
            json!({ "whose": kind, "number": number, "bytes": usage.bytes, "blocks": usage.blocks })
        });
        json!({
            "reserved_bytes": heap.reserved_bytes,
            "peak_bytes": heap.peak_bytes,
            "range_bytes": heap.range_bytes,
            "usage": usage.collect::<Value>(),
        })
    });
    let queues = pool.queues.iter().map(|queue| {
        let contents = &queue.contents;
        let who = |owner: &tine::sync::Owner| (owner.pid != 0).then_some(owner.pid);
        json!({
            "address": queue.address,
            "messages": contents.messages,
            "most_messages": contents.most_messages,
            "put": contents.put,
            "got": contents.got,
            "closed": contents.is_closed,
            "producer": who(&contents.producer),
            "consumer": who(&contents.consumer),
        })
    });
    value["queues"] = queues.collect();
    let waits = pool.waits.iter().map(|wait| {
        let holder = wait.holder.map(|(pid, tid)| json!({ "pid": pid, "tid": tid }));
        json!({ "address": wait.address, "pid": wait.pid, "tid": wait.tid, "holder": holder })
    });
    value["waits"] = waits.collect();
    value["notes"] = json!(pool.notes);
    value
}

fn place(worker: &Worker, symbols: &mut Symbols) -> Value {
    let process = worker.process.as_ref();
    let mut value = json!({
        "slot": worker.slot,
        "state": worker.state,
        "generation": worker.generation,
        "age_ns": worker.age_ns,
        "pid": process.map(|process| process.pid),
        "own_pid": worker.own_pid,
        "process_state": process.map(|process| process.state.to_string()),
        "resident_bytes": process.map(|process| process.resident_bytes),
        "done": worker.ring.as_ref().map(|ring| ring.done),
        "waiting": worker.ring.as_ref().map(|ring| ring.waiting),
        "running": null,
    });
    if let Some(running) = worker.ring.as_ref().and_then(|ring| ring.running.as_ref()) {
        value["running"] = json!({
            "id": running.id,
            "kind": running.kind,
            "function": symbols.name(&running.function, process.map_or(0, |process| process.pid)),
            "at_least_ns": running.at_least_ns,
            "at_most_ns": running.at_most_ns,
            "items_done": running.items.map(|items| items.0),
            "items": running.items.map(|items| items.1),
        });
    }
    value
}

#[cfg(test)]
mod tests {
    /// The names in the calls of `json!` above, and those that are set: what is in quotes in front of a colon or in brackets.
    #[test]
    fn each_key_stands_in_the_guide() {
        let (source, guide) = (include_str!("json.rs"), include_str!("../../docs/inspect.md"));
        let code = source.split("#[cfg(test)]").next().unwrap();
        let parts: Vec<&str> = code.split('"').collect();
        let keys: Vec<&str> = (1..parts.len() - 1)
            .step_by(2)
            .filter(|at| parts[at + 1].starts_with([':', ']']))
            .map(|at| parts[at])
            .collect();
        assert!(keys.len() > 50 && keys.contains(&"own_pid") && keys.contains(&"waits"), "{keys:?}");
        for key in keys {
            assert!(guide.contains(&format!("`{key}`")), "docs/inspect.md does not say what {key} is");
        }
    }
}
