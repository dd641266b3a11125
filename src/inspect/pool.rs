//! A pool as it looks at one moment, put together from what its processes share.

use super::locks::{self, Wait};
use super::page::{Counters, Fixed, LIBRARY, MARK, PLACES_AT, Place, VERSION, state};
use super::process::{self, Memory, Names, Process, printable};
use crate::error::{Error, Result};
use crate::heap::marks::WORKERS;
use crate::heap::{Usage, Whose, reader};
use crate::queue::{self, Contents};
use crate::sys::clock::now_ns;
use crate::sys::memory::{self, AnyContent, copy_of};
use crate::sys::prim::Ordering;
use crate::task::call::{CallKind, Chunk};
use crate::task::function::BY_NAME;
use crate::task::ring::{SLOTS, Shared, TaskSlot, phase};
use crate::task::wire;
use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

// SAFETY: its fields are atomics, each of which may have any bits.
unsafe impl AnyContent for Fixed {}
// SAFETY: its fields are atomics, each of which may have any bits.
unsafe impl AnyContent for Place {}
// SAFETY: its fields are atomics and cells of bytes, each of which may have any bits.
unsafe impl AnyContent for Shared {}

/// As often a page is read that its host writes meanwhile.
const TRIES: usize = 20;

/// The names of no more modules and functions than this are read.
const MOST_TEXT: u64 = 1 << 20;

/// How old a state is, if that is known.
pub type Age = Option<u64>;

/// A pool.
#[derive(Debug)]
pub struct Pool {
    /// What tells it from the others of the machine.
    pub inode: u64,
    /// Its host.
    pub host: Process,
    /// The version of the library that made it.
    pub library: String,
    /// How its workers start.
    pub start: &'static str,
    /// How old it is, in nanoseconds.
    pub age_ns: u64,
    /// Counters, as `tine_pool_stats` has them.
    pub figures: Figures,
    /// The places for its workers.
    pub places: Vec<Worker>,
    /// What its heap holds, where that can be read.
    pub heap: Option<Heap>,
    /// Queues in its heap.
    pub queues: Vec<Queue>,
    /// Threads that wait for something in its heap.
    pub waits: Vec<Wait>,
    /// What could not be read, and why.
    pub notes: Vec<String>,
}

/// Counters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Tasks submitted so far, without chunks and the items of streams.
    pub submitted: u64,
    /// Of these, those that have settled.
    pub settled: u64,
    /// Items of maps, loops and streams that have been dealt with.
    pub items: u64,
    /// Of these, those that failed.
    pub items_failed: u64,
    /// Tasks submitted and not taken, and their inputs' bytes.
    pub window_tasks: u64,
    /// Bytes.
    pub window_bytes: u64,
    /// The most that there may be.
    pub window_most_tasks: u64,
    /// Bytes.
    pub window_most_bytes: u64,
    /// Workers that have died, without those that left in good order.
    pub worker_deaths: u64,
    /// Those that did.
    pub workers_recycled: u64,
    /// Supervisors that have died.
    pub supervisor_deaths: u64,
}

/// A place for a worker.
#[derive(Debug)]
pub struct Worker {
    /// Its number.
    pub slot: usize,
    /// ready, starting, leaving, dying, ended, vacant, parked.
    pub state: &'static str,
    /// How many processes there have been in this place.
    pub generation: u64,
    /// How long it has been in this state, in nanoseconds.
    pub age_ns: u64,
    /// What it is called in its own PID namespace; 0 where nobody is there.
    pub own_pid: u32,
    /// Its process, if it is there.
    pub process: Option<Process>,
    /// Its ring, if that can be read.
    pub ring: Option<Ring>,
}

/// The ring of a worker.
#[derive(Clone, Debug)]
pub struct Ring {
    /// Tasks that it has finished, as a number that begins anew at 2^32.
    pub done: u32,
    /// Tasks in it that have not begun.
    pub waiting: u32,
    /// The worker waits for a task.
    pub is_idle: bool,
    /// What it runs.
    pub running: Option<Running>,
}

/// What a worker runs.
#[derive(Clone, Debug)]
pub struct Running {
    /// The task.
    pub id: u64,
    /// task, items or range.
    pub kind: &'static str,
    /// The function.
    pub function: Function,
    /// It has run at least so long, in nanoseconds.
    pub at_least_ns: u64,
    /// And at most, where that is known.
    pub at_most_ns: Age,
    /// Of a chunk: how many items have finished, and how many there are.
    pub items: Option<(u64, u64)>,
}

/// A function, as far as it can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Function {
    /// A registered name.
    Named(String),
    /// A place in a module.
    At(String, u64),
    /// The number of a module or name that the page does not say more of.
    Unknown(u32, u64),
}

/// What a heap holds.
#[derive(Debug)]
pub struct Heap {
    /// Bytes of the system's memory that are reserved for it.
    pub reserved_bytes: u64,
    /// The most that were.
    pub peak_bytes: u64,
    /// How long its range is.
    pub range_bytes: u64,
    /// Whose blocks there are.
    pub usage: BTreeMap<Whose, Usage>,
}

/// A queue in the heap.
#[derive(Debug)]
pub struct Queue {
    /// Its address in every process of the pool.
    pub address: u64,
    /// What it holds.
    pub contents: Contents,
}

/// What looks like a pool.
#[derive(Debug)]
pub enum Found {
    /// One that can be read.
    Pool(Box<Pool>),
    /// One of another version of the library.
    Other(String),
}

/// The pools that a process is the host of.
///
/// An error is the system's: there is no such process any more, or it may not be looked at.
pub fn pools_of(pid: u32) -> Result<Vec<Found>> {
    let failed = |error: std::io::Error| Error::from_io("reading /proc", &error);
    let pages = process::memory_of(pid, "tine-pool").map_err(failed)?;
    let own = process::own_number(&format!("/proc/{pid}/status"));
    let mut found = Vec::new();
    for page in &pages {
        let Some(seen) = Seen::of(page)? else { continue };
        let head = &seen.fixed.head;
        // A child that the host has forked has the page too.
        if own != Some(head.pid.load(Ordering::Relaxed)) {
            continue;
        }
        if !seen.is_known {
            found.push(Found::Other(seen.library));
        } else if let Some(host) = Process::of(pid) {
            found.push(Found::Pool(Box::new(seen.pool(page, host)?)));
        }
    }
    Ok(found)
}

/// A copy of a page.
struct Seen {
    fixed: Box<Fixed>,
    places: Vec<Place>,
    modules: Vec<String>,
    names: Vec<String>,
    library: String,
    /// Whether it is laid out as here.
    is_known: bool,
    /// It was being written whenever it was read.
    is_torn: bool,
}

impl Seen {
    /// `None` where it is no page.
    fn of(page: &Memory) -> Result<Option<Seen>> {
        let fd = page.file.as_raw_fd();
        let mut last = None;
        for _ in 0..TRIES {
            let Some(fixed) = copy_of::<Fixed>(fd, 0)? else { return Ok(None) };
            if fixed.head.mark.load(Ordering::Relaxed) != MARK {
                return Ok(None);
            }
            let before = fixed.counters.change.load(Ordering::Relaxed);
            let seen = Seen::read(page, fixed)?;
            // Of the versions that are known a page is as long as it says.
            if seen.is_known && u64::from(seen.fixed.head.length.load(Ordering::Relaxed)) != page.length {
                return Ok(None);
            }
            let after = copy_of::<Fixed>(fd, 0)?.map(|fixed| fixed.counters.change.load(Ordering::Relaxed));
            let is_torn = before % 2 == 1 || after != Some(before);
            let whole = !is_torn || !seen.is_known;
            last = Some(Seen { is_torn, ..seen });
            if whole {
                break;
            }
        }
        Ok(last)
    }

    fn read(page: &Memory, fixed: Box<Fixed>) -> Result<Seen> {
        let head = &fixed.head;
        let bytes: Vec<u8> =
            head.library.iter().flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes()).collect();
        let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        let library = printable(&String::from_utf8_lossy(bytes));
        let is_known = head.version.load(Ordering::Relaxed) == VERSION
            && head.protocol.load(Ordering::Relaxed) == wire::version();
        let (mut places, mut texts) = (Vec::new(), (Vec::new(), Vec::new()));
        if is_known {
            let count = u64::from(head.places.load(Ordering::Relaxed));
            let size = size_of::<Place>() as u64;
            // As many as are there, and as there can be, whatever is said.
            let count = count.min(WORKERS as u64).min(page.length.saturating_sub(PLACES_AT as u64) / size);
            for place in 0..count {
                places.extend(
                    copy_of::<Place>(page.file.as_raw_fd(), PLACES_AT as u64 + place * size)?
                        .map(|place| *place),
                );
            }
            let text_at = PLACES_AT as u64 + count * size;
            let length = fixed.counters.text_length.load(Ordering::Relaxed);
            let length = length.min(page.length.saturating_sub(text_at)).min(MOST_TEXT);
            texts = split_texts(&read(page, text_at, length as usize)?);
        }
        let (modules, names) = texts;
        Ok(Seen { fixed, places, modules, names, library, is_known, is_torn: false })
    }

    fn pool(&self, page: &Memory, host: Process) -> Result<Pool> {
        let head = &self.fixed.head;
        let load = |word: &crate::sys::prim::AtomicU64| word.load(Ordering::Relaxed);
        let now = process::clock_of(host.pid, now_ns());
        let mut notes = Vec::new();
        if self.is_torn {
            notes.push(
                "the host was caught while it wrote its page: places may be a mixture of two moments"
                    .to_owned(),
            );
        }
        let start =
            ["forkserver", "spawn", "fork"].get(head.start.load(Ordering::Relaxed) as usize).unwrap_or(&"?");
        let heap_file = process::memory_of(host.pid, "tine-heap").unwrap_or_default();
        let heap_file = heap_file.into_iter().find(|file| file.inode == load(&head.heap_inode));
        let names = Names::below(host.pid);
        let places: Vec<Worker> = self
            .places
            .iter()
            .enumerate()
            .map(|(slot, place)| self.worker(slot, place, &names, load(&head.heap_inode), now, &mut notes))
            .collect();
        let (mut heap, mut queues, mut waits) = (None, Vec::new(), Vec::new());
        match &heap_file {
            None => notes.push("the heap: its descriptor has been closed by the program".to_owned()),
            Some(file) => {
                let (address, range) = (load(&head.heap_address), load(&head.heap_length));
                let contents =
                    reader::contents(file.file.as_raw_fd(), range, file.length, queue::reader::BYTES)?;
                if !contents.all_first_words {
                    notes.push("queues: there are too many blocks to look into all of them".to_owned());
                }
                for (offset, word) in &contents.first_words {
                    let fits = queue::reader::length_of(*word)
                        .is_some_and(|length| offset.saturating_add(length as u64) <= file.length);
                    if fits && let Some(shared) = copy_of(file.file.as_raw_fd(), *offset)? {
                        let contents = queue::reader::contents(&shared);
                        queues.push(Queue { address: address.wrapping_add(*offset), contents });
                    }
                }
                let processes =
                    places.iter().filter_map(|worker| worker.process.as_ref()).map(|process| process.pid);
                let processes: Vec<u32> = processes.chain([host.pid]).collect();
                let words = locks::Words {
                    file: &file.file,
                    address,
                    from: contents.data_offset,
                    length: file.length,
                };
                match locks::waits(&processes, &words) {
                    Ok(found) => waits = found,
                    Err(why) => notes.push(why),
                }
                heap = Some(Heap {
                    reserved_bytes: memory::reserved_bytes(file.file.as_raw_fd()).unwrap_or(0),
                    peak_bytes: contents.peak_bytes,
                    range_bytes: range,
                    usage: contents.usage,
                });
            }
        }
        Ok(Pool {
            inode: page.inode,
            library: self.library.clone(),
            start,
            age_ns: now.saturating_sub(load(&head.created_ns)),
            figures: figures(&self.fixed),
            places,
            heap,
            queues,
            waits,
            notes,
            host,
        })
    }

    fn worker(
        &self,
        slot: usize,
        place: &Place,
        names: &Names,
        heap_inode: u64,
        now: u64,
        notes: &mut Vec<String>,
    ) -> Worker {
        let own_pid = place.pid.load(Ordering::Relaxed);
        let state = place.state.load(Ordering::Relaxed);
        let mut worker = Worker {
            slot,
            state: name_of(state),
            generation: place.generation.load(Ordering::Relaxed),
            age_ns: now.saturating_sub(place.since_ns.load(Ordering::Relaxed)),
            own_pid,
            process: None,
            ring: None,
        };
        let here = names.here(own_pid).filter(|_| own_pid != 0);
        let Some(process) = here.and_then(Process::of) else { return worker };
        // The number may be another process's by now: the pool's have its heap.
        let rings = process::memory_of(process.pid, "tine-ring");
        let heaps = process::memory_of(process.pid, "tine-heap").unwrap_or_default();
        match rings {
            Ok(rings) if heaps.iter().any(|heap| heap.inode == heap_inode) => {
                let ring =
                    rings.first().and_then(|ring| copy_of::<Shared>(ring.file.as_raw_fd(), 0).ok().flatten());
                worker.ring = ring.map(|ring| self.ring(&ring, place, now));
                if worker.ring.is_none() && state == state::READY {
                    notes.push(format!(
                        "worker {slot}: the descriptor of its ring has been closed by the program"
                    ));
                }
            }
            Ok(_) if state == state::READY && process.state != 'Z' => {
                notes
                    .push(format!("worker {slot}: process {} has not got the pool's heap open", process.pid));
            }
            Ok(_) => (),
            Err(error) => notes.push(format!("worker {slot}: process {}: {error}", process.pid)),
        }
        worker.process = Some(process);
        worker
    }

    fn ring(&self, ring: &Shared, place: &Place, now: u64) -> Ring {
        let (tail, done) = ring.positions();
        // No ring has more; any number may stand there.
        let in_ring = tail.wrapping_sub(done).min(SLOTS);
        let slot = ring.slot(done);
        let is_running =
            in_ring > 0 && slot.has_begun() && ring.phase.load(Ordering::Relaxed) == phase::READY;
        Ring {
            done,
            // What the host has taken back is still there until the worker passes it.
            waiting: (0..in_ring).filter(|next| ring.slot(done.wrapping_add(*next)).is_ready()).count()
                as u32,
            is_idle: in_ring == 0,
            running: is_running.then(|| self.running(ring, slot, done, place, now)),
        }
    }

    fn running(&self, ring: &Shared, slot: &TaskSlot, done: u32, place: &Place, now: u64) -> Running {
        let since = |then: u64| (then != 0).then(|| now.saturating_sub(then));
        let begun = since(ring.begun_ns.load(Ordering::Relaxed));
        let awake = since(ring.awake_ns.load(Ordering::Relaxed));
        let is_first = ring.awake_from.load(Ordering::Relaxed) == done;
        let was_drained = place.drained.load(Ordering::Relaxed) == done;
        let drained = since(place.drained_ns.load(Ordering::Relaxed)).filter(|_| was_drained);
        let exact = begun.or(awake.filter(|_| is_first));
        let kind = CallKind::from_number(slot.kind.load(Ordering::Relaxed) & 0xffff);
        let input = slot.inline_input.read(size_of::<Chunk>());
        let chunk = Chunk::from_bytes(&input)
            .ok()
            .filter(|_| !matches!(kind, None | Some(CallKind::Task | CallKind::Range)));
        let count = chunk.map(|chunk| chunk.count);
        Running {
            id: slot.id.load(Ordering::Relaxed),
            kind: match kind {
                Some(CallKind::Task) => "task",
                Some(CallKind::Items | CallKind::TaskItems) => "items",
                Some(CallKind::Range) => "range",
                None => "?",
            },
            function: self.function(slot.module.load(Ordering::Relaxed), slot.offset.load(Ordering::Relaxed)),
            at_least_ns: exact.or(drained).unwrap_or(0),
            at_most_ns: exact.or(awake),
            items: count.map(|count| (ring.items_done.load(Ordering::Relaxed).min(count), count)),
        }
    }

    fn function(&self, module: u32, offset: u64) -> Function {
        let place = |list: &[String], place: u64| list.get(usize::try_from(place).ok()?).cloned();
        let named = place(&self.names, offset).filter(|_| module == BY_NAME).map(Function::Named);
        let at = || place(&self.modules, u64::from(module)).map(|path| Function::At(path, offset));
        named.or_else(at).unwrap_or(Function::Unknown(module, offset))
    }
}

fn name_of(state: u32) -> &'static str {
    match state {
        state::VACANT => "vacant",
        state::STARTING => "starting",
        state::READY => "ready",
        state::LEAVING => "leaving",
        state::DYING => "dying",
        state::ENDED => "ended",
        state::PARKED => "parked",
        _ => "?",
    }
}

fn figures(fixed: &Fixed) -> Figures {
    let Counters {
        submitted,
        settled,
        items,
        items_failed,
        window_tasks,
        window_bytes,
        worker_deaths,
        workers_recycled,
        supervisor_deaths,
        ..
    } = &fixed.counters;
    let load = |word: &crate::sys::prim::AtomicU64| word.load(Ordering::Relaxed);
    Figures {
        submitted: load(submitted),
        settled: load(settled),
        items: load(items),
        items_failed: load(items_failed),
        window_tasks: load(window_tasks),
        window_bytes: load(window_bytes),
        window_most_tasks: load(&fixed.head.window_most_tasks),
        window_most_bytes: load(&fixed.head.window_most_bytes),
        worker_deaths: load(worker_deaths),
        workers_recycled: load(workers_recycled),
        supervisor_deaths: load(supervisor_deaths),
    }
}

fn read(page: &Memory, from: u64, length: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![MaybeUninit::new(0); length];
    let whole = memory::read_exactly_at(page.file.as_raw_fd(), from, &mut bytes)?;
    // SAFETY: all of them were made with a content.
    let bytes = bytes.into_iter().map(|byte| unsafe { byte.assume_init() });
    Ok(if whole { bytes.collect() } else { Vec::new() })
}

/// Modules and names, in the order of their places.
fn split_texts(bytes: &[u8]) -> (Vec<String>, Vec<String>) {
    let (mut modules, mut names) = (Vec::new(), Vec::new());
    for text in bytes.split(|byte| *byte == 0) {
        let Some((kind, text)) = text.split_first() else { continue };
        let text = printable(&String::from_utf8_lossy(text));
        match kind {
            b'm' => modules.push(text),
            b'n' => names.push(text),
            _ => (),
        }
    }
    (modules, names)
}

/// This library's version.
pub fn own_version() -> String {
    let bytes = LIBRARY.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}
