//! How a process becomes a worker, by whichever start method.

use super::crash;
use super::serve::{self, Worker};
use crate::error::Result;
use crate::heap::{Heap, Owner};
use crate::sys::{fd, signal};
use crate::task::StartMethod;
use crate::task::function::{Tables, Target};
use crate::task::program::{self, give_up};
use crate::task::resolver::Resolver;
use crate::task::ring::{Segment, phase};
use crate::task::settings::Settings;
use crate::task::wire::{self, Message, Reader};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};

/// The parts of a worker that its supervisor has for it.
pub(crate) struct Parts {
    pub(crate) heap: Heap,
    pub(crate) segment: OwnedFd,
    pub(crate) event: OwnedFd,
    /// By which the host passes it segments.
    pub(crate) socket: OwnedFd,
}

/// The number that a worker has among the heap's owners.
pub(crate) fn owner_of(slot: u32) -> Owner {
    slot as Owner + 1
}

/// The last step of every start method: this process is a worker until it ends.
pub(crate) fn become_worker(slot: u32, parts: Parts, settings: &Settings, tables: &Tables) -> ! {
    let job = settings.job.as_ref();
    signal::set_thread_name(job.map_or(c"tine-worker", |job| &job.title));
    program::now_a_worker();
    let segment = match Segment::attach(parts.segment.as_raw_fd()) {
        Ok(segment) => segment,
        Err(error) => give_up(&error.text()),
    };
    // For who looks from outside: see `docs/design/inspect.md`. Code that writes to any number must not get at the ring by it.
    if let Ok(seen) = fd::for_reading(parts.segment.as_raw_fd()) {
        let _ = seen.into_raw_fd();
    }
    drop(parts.segment);
    if !settings.core_files {
        signal::limit_core_bytes(0);
    }
    let resolver = Resolver::new(tables);
    let is_copy = settings.start == StartMethod::Fork;
    let faults = settings.faults;
    let worker = match Worker::new(segment, parts.heap, parts.event, parts.socket, resolver, is_copy, faults)
    {
        Ok(worker) => worker,
        Err(error) => give_up(&error.text()),
    };
    if !settings.no_crash_handler {
        crash::install(worker);
    }
    faults.on_start(worker.own_heap().counts());
    worker.take_messages(0);
    let (ids, parent) = (signal::effective_ids(), std::os::unix::process::parent_id() as i32);
    let ready = settings.environment.apply(job.is_none().then_some(slot)).and_then(|()| {
        match &settings.initializer {
            Some((target, input)) => target.address().and_then(|address| worker.initialize(address, input)),
            None => Ok(()),
        }
    });
    // The initializer may have given up rights. It may also have forbidden itself system calls: no more of them than that takes.
    if settings.initializer.is_some() && signal::effective_ids() != ids {
        signal::die_with_parent(parent);
    }
    let addresses = ready.and_then(|()| {
        let address_of = |target: Option<&Target>| target.map(Target::address).transpose();
        Ok((address_of(job.map(|job| &job.target))?, address_of(settings.finalizer.as_ref())?))
    });
    match (addresses, job) {
        (Ok((Some(address), _)), Some(job)) => match job.input.in_memory() {
            Ok(input) => worker.run_job(address, job, input),
            Err(error) => worker.give_up(&error, phase::FAILED),
        },
        (Ok((_, finalizer)), _) => serve::run(worker, finalizer),
        (Err(error), _) => worker.give_up(&error, phase::FAILED),
    }
}

/// A worker that was executed, from the message that its supervisor has sent it.
pub(crate) fn spawned_worker(message: Message) -> ! {
    let slot = message.words[1] as u32;
    let become_it = || -> Result<(Parts, Settings, Tables)> {
        let [version, _, address, length, parent, ..] = message.words;
        if version != wire::version() {
            return Err(crate::error::Code::VERSION.into());
        }
        signal::die_with_parent(parent as i32);
        let (fds, input) = wire::split(message.whole()?.fds, "a worker's descriptors are missing")?;
        let [heap, segment, event, socket, settings]: [OwnedFd; 5] = fds;
        let bytes = wire::from_memfd(&settings)?;
        let mut reader = Reader(&bytes);
        let settings = Settings::decode(&mut reader, input)?;
        let tables = Tables::decode(&mut reader)?;
        settings.environment.enter(false)?;
        settings.load_libraries()?;
        let owner = owner_of(slot);
        let heap = Heap::attach(heap, address as usize, length as usize, owner)?;
        Ok((Parts { heap, segment, event, socket }, settings, tables))
    };
    match become_it() {
        Ok((parts, settings, tables)) => become_worker(slot, parts, &settings, &tables),
        Err(error) => give_up(&error.text()),
    }
}
