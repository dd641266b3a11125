//! `TINE_TRACE=FILE`: what happens in a pool, as Chrome trace JSON. Who writes what when is in `docs/design/trace.md`.

use super::ledger::{Delivery, Outcome};
use super::ring_account::LeftTask;
use super::state::PoolState;
use super::wait::Want;
use crate::error::{Code, Result};
use crate::sys::clock::now_ns;
use crate::sys::journal::Journal;
use crate::sys::log::{self, Level};
use crate::sys::{environment, fork, owner, reserve};
use crate::task::call::CallKind;
use crate::task::death::Death;
use std::fmt::{self, Display};
use std::io::Write as _;

const VARIABLE: &str = "TINE_TRACE";

/// A line has room for this much besides its texts, each byte of which can become six.
const LINE: usize = 400;

/// The trace of one pool, under its lock.
#[derive(Debug)]
pub(super) struct Trace {
    file: Journal,
    host: i32,
    /// Where in the file this pool's first line is, so that no pool ever has another one's number there: another copy of this library in
    /// this process knows of this one no more than another process does. 1 for the first one.
    pool: u64,
    /// What has not been written yet.
    lines: Vec<u8>,
    /// Lines for which there was no memory.
    lost: u64,
    /// Until when each worker is known to have been at something: nothing that it says of later tasks is earlier.
    until_ns: Vec<u64>,
    /// Open tasks, as they were written last.
    open: usize,
}

/// What an event is called, where it belongs, and when it was.
struct Event<'a> {
    phase: char,
    name: &'a str,
    tid: u32,
    at_ns: u64,
}

/// A text within the quotes of JSON.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '"' | '\\' => write!(f, "\\{c}"),
            '\0'..='\x1f' => write!(f, "\\u{:04x}", c as u32),
            _ => write!(f, "{c}"),
        })
    }
}

/// Nanoseconds, in the microseconds of the format.
struct Micros(u64);

impl Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

/// The file's path, with the host's number for each `%p`.
fn path_for(pid: i32, pattern: &[u8]) -> Vec<u8> {
    let mut path = Vec::new();
    let mut rest = pattern;
    while let Some(at) = rest.windows(2).position(|two| two == b"%p") {
        path.extend_from_slice(&rest[..at]);
        path.extend_from_slice(pid.to_string().as_bytes());
        rest = &rest[at + 2..];
    }
    path.extend_from_slice(rest);
    path
}

impl Trace {
    /// The trace of a new pool with so many places, where the environment asks for one.
    pub(super) fn asked_for(places: usize) -> Result<Option<Box<Trace>>> {
        let Some(pattern) = environment::file_named_by(c"TINE_TRACE") else { return Ok(None) };
        let host = fork::pid();
        let path = std::ffi::CString::new(path_for(host, pattern.to_bytes())).unwrap_or_default();
        let file = Journal::open(&path, VARIABLE)?;
        let until_ns = reserve::collect((0..places).map(|_| 0))?;
        let mut trace = Trace { file, host, pool: 0, lines: Vec::new(), lost: 0, until_ns, open: 0 };
        let program = environment::command_line().into_iter().next().unwrap_or_default();
        let program = program.to_string_lossy();
        let program = program.rsplit('/').next().unwrap_or_default();
        trace.name("process_name", host as u32, program);
        trace.name("thread_name", host as u32, "host");
        if trace.lost > 0 {
            return Err(Code::errno(libc::ENOMEM).into());
        }
        trace.pool = trace.file.begin(&trace.lines, &path, VARIABLE)?.saturating_sub(1);
        trace.lines.clear();
        Ok(Some(Box::new(trace)))
    }

    fn name(&mut self, what: &str, tid: u32, name: &str) {
        let event = Event { phase: 'M', name: what, tid, at_ns: 0 };
        self.add(&event, name.len(), format_args!(",\"args\":{{\"name\":\"{}\"}}", Escaped(name)));
    }

    /// `texts` is how long what `rest` quotes is.
    fn add(&mut self, event: &Event<'_>, texts: usize, rest: fmt::Arguments<'_>) {
        if self.lines.try_reserve(LINE + 6 * (texts + event.name.len())).is_err() {
            self.lost += 1;
            return;
        }
        let (name, at) = (Escaped(event.name), Micros(event.at_ns));
        // There is room for all of it, so nothing can fail.
        let _ = writeln!(
            self.lines,
            "{{\"ph\":\"{}\",\"name\":\"{name}\",\"pid\":{},\"tid\":{},\"ts\":{at}{rest}}},",
            event.phase, self.host, event.tid
        );
    }

    /// Writes what has been gathered; whether that is going on to work.
    fn write(&mut self, now_ns: u64, open: usize) -> bool {
        if self.lines.is_empty() && self.open == open {
            return true;
        }
        if self.open != open {
            self.open = open;
            let name = format!("pool {}: open tasks", self.pool);
            let event = Event { phase: 'C', name: &name, tid: self.host as u32, at_ns: now_ns };
            self.add(&event, 0, format_args!(",\"args\":{{\"open\":{open}}}"));
        }
        if self.lost > 0 {
            let event = Event { phase: 'i', name: "lost", tid: self.host as u32, at_ns: now_ns };
            let lost = std::mem::take(&mut self.lost);
            self.add(&event, 0, format_args!(",\"s\":\"p\",\"args\":{{\"lines\":{lost}}}"));
        }
        let written = self.file.add(&self.lines);
        self.lines.clear();
        if let Err(error) = &written {
            log::say(Level::Warning, &format!("tine: {VARIABLE}: {}; the trace ends here\n", error.text()));
        }
        written.is_ok()
    }
}

impl PoolState {
    /// A task has been submitted.
    #[cold]
    pub(super) fn trace_submit(&mut self, index: u32) {
        let id = self.ledger.id_of(index).0;
        let Some(trace) = &mut self.trace else { return };
        let event = Event { phase: 'i', name: "submit", tid: owner::gettid(), at_ns: now_ns() };
        let pool = trace.pool;
        trace.add(&event, 0, format_args!(",\"s\":\"t\",\"args\":{{\"pool\":{pool},\"id\":{id}}}"));
    }

    /// A task has settled that never ran.
    #[cold]
    pub(super) fn trace_settled(&mut self, index: u32) {
        let id = self.ledger.id_of(index).0;
        let Some(outcome) = &self.ledger.get(index).outcome else { return };
        if outcome.delivery != Delivery::NotStarted {
            return;
        }
        let status = outcome.status;
        let Some(trace) = &mut self.trace else { return };
        let event = Event { phase: 'i', name: "settled", tid: trace.host as u32, at_ns: now_ns() };
        let pool = trace.pool;
        let rest = format_args!(",\"s\":\"p\",\"args\":{{\"pool\":{pool},\"id\":{id},\"status\":{status}}}");
        trace.add(&event, 0, rest);
    }

    /// A worker's result has been drained from this position of its ring.
    #[cold]
    pub(super) fn trace_result(&mut self, slot: usize, position: u32, index: u32, outcome: &Outcome) {
        let member = &self.family.members[slot];
        let Some(segment) = &member.segment else { return };
        let (began, ended) = segment.slot(position).times();
        self.trace_task(Some(slot), member.pid as u32, (began, ended), index, outcome);
    }

    /// A worker has died in the middle of this task.
    #[cold]
    pub(super) fn trace_lost(&mut self, slot: usize, pid: i32, left: &LeftTask) {
        let outcome = Outcome::new(crate::error::Code::DIED.0, Delivery::MaybeRan);
        self.trace_task(Some(slot), pid as u32, (left.began_ns, u64::MAX), left.index, &outcome);
    }

    /// A task has run in this process since then.
    #[cold]
    pub(super) fn trace_inline(&mut self, began_ns: u64, index: u32, outcome: &Outcome) {
        self.trace_task(None, owner::gettid(), (began_ns, u64::MAX), index, outcome);
    }

    fn trace_task(
        &mut self,
        slot: Option<usize>,
        tid: u32,
        (began, ended): (u64, u64),
        index: u32,
        outcome: &Outcome,
    ) {
        if self.trace.is_none() {
            return;
        }
        let entry = self.ledger.get(index);
        let (kind, is_a_callers, id) = (entry.kind, entry.is_a_callers(), self.ledger.id_of(index).0);
        let name = self.family.callees().map(|callees| callees.describe(entry.callee())).unwrap_or_default();
        let Some(trace) = &mut self.trace else { return };
        let now = now_ns();
        // A worker can write there what it likes.
        let least = slot.and_then(|slot| trace.until_ns.get(slot)).map_or(0, |until| *until);
        let began = began.clamp(least.min(now), now);
        let ended = ended.clamp(began, now);
        if let Some(until) = slot.and_then(|slot| trace.until_ns.get_mut(slot)) {
            *until = ended;
        }
        // A function without a symbol goes by its module and the place in it.
        let name = name.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("task");
        let event = Event { phase: 'X', name, tid, at_ns: began };
        let (took, status, pool) = (Micros(ended - began), outcome.status, trace.pool);
        let died = if outcome.delivery == Delivery::MaybeRan { ",\"died\":true" } else { "" };
        if kind == CallKind::Task && is_a_callers {
            let rest = format_args!(
                ",\"cat\":\"task\",\"dur\":{took},\"args\":{{\"pool\":{pool},\"id\":{id},\"status\":{status}{died}}}"
            );
            trace.add(&event, 0, rest);
        } else if kind == CallKind::Task {
            let rest =
                format_args!(",\"cat\":\"item\",\"dur\":{took},\"args\":{{\"status\":{status}{died}}}");
            trace.add(&event, 0, rest);
        } else {
            // Of a chunk the status is how many of its items failed; one that has died has none.
            let (items, failed) = (outcome.items, status.max(0));
            let rest = format_args!(
                ",\"cat\":\"chunk\",\"dur\":{took},\"args\":{{\"items\":{items},\"failed\":{failed}{died}}}"
            );
            trace.add(&event, 0, rest);
        }
    }

    /// A worker takes tasks from now on.
    pub(super) fn trace_birth(&mut self, slot: usize) {
        let tid = self.family.members[slot].pid as u32;
        let Some(trace) = &mut self.trace else { return };
        let (name, now) = (format!("pool {} worker {slot}", trace.pool), now_ns());
        trace.name("thread_name", tid, &name);
        if let Some(until) = trace.until_ns.get_mut(slot) {
            *until = now;
        }
        trace.add(&Event { phase: 'B', name: "worker", tid, at_ns: now }, 0, format_args!(""));
    }

    /// One that has taken tasks has ended.
    pub(super) fn trace_end(&mut self, slot: usize, death: &Death) {
        let stopping = self.life.is_stopping();
        let was_ready = self.family.members[slot].was_ready;
        let Some(trace) = self.trace.as_mut().filter(|_| was_ready) else { return };
        let how = if stopping { "with the pool".to_owned() } else { death.describe() };
        let event = Event { phase: 'E', name: "worker", tid: death.pid as u32, at_ns: now_ns() };
        trace.add(&event, how.len(), format_args!(",\"args\":{{\"how\":\"{}\"}}", Escaped(&how)));
    }

    /// When a thread begins to wait, where that is written down.
    pub(super) fn trace_clock(&self) -> Option<u64> {
        self.trace.is_some().then(now_ns)
    }

    /// A thread has waited since then.
    #[cold]
    pub(super) fn trace_wait(&mut self, began_ns: u64, want: Want<'_>) {
        let Some(trace) = &mut self.trace else { return };
        let name = match want {
            Want::Task(_) | Want::Group(_) | Want::Every(..) => "wait for tasks",
            Want::Next => "wait for the next result",
            Want::Job(_) => "wait for a map",
            Want::Room(_) | Want::StreamRoom(..) => "wait for room",
            Want::Stream(_) => "wait for a stream",
            Want::Idle | Want::All => "wait for all",
            Want::Ready => "wait for the workers",
            Want::Shared => "wait for a segment to be mapped",
            Want::Gone => "wait for the end",
        };
        let event = Event { phase: 'X', name, tid: owner::gettid(), at_ns: began_ns };
        let took = Micros(now_ns().saturating_sub(began_ns));
        trace.add(&event, 0, format_args!(",\"cat\":\"wait\",\"dur\":{took}"));
    }

    /// Puts what has happened into the file.
    #[cold]
    pub(super) fn write_trace(&mut self) {
        let open = self.ledger.outstanding;
        if let Some(trace) = &mut self.trace
            && !trace.write(now_ns(), open)
        {
            self.trace = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_the_hosts_number() {
        assert_eq!(path_for(7, b"/tmp/t.%p.%p%d"), b"/tmp/t.7.7%d");
        assert_eq!(path_for(7, b"%"), b"%");
    }

    #[test]
    fn texts_cannot_leave_their_quotes() {
        assert_eq!(Escaped("a\"b\\c\n\u{e4}").to_string(), "a\\\"b\\\\c\\u000a\u{e4}");
        assert_eq!(Micros(1_234_005).to_string(), "1234.005");
    }
}
