//! How a process becomes a worker, by whichever start method.

use super::function::{Resolver, Tables, Target};
use super::init::{self, give_up};
use super::job::Job;
use super::surroundings::Surroundings;
use super::wire::{self, Message, Reader, Writer};
use super::{StartMethod, crash};
use crate::error::{Error, Result};
use crate::heap::{Heap, Owner};
use crate::pool::worker::{self, Worker};
use crate::queue::ring::{Segment, phase};
use crate::sys::{elf, signal};
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};

/// What all workers of a pool have in common.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) start: StartMethod,
    /// Libraries to load before anything else.
    pub(crate) preload: Vec<String>,
    /// Runs once in each worker, with this input.
    pub(crate) initializer: Option<(Target, Vec<u8>)>,
    /// Runs once in each worker that leaves in good order.
    pub(crate) finalizer: Option<Target>,
    /// What the one worker of a single process's family does instead of taking tasks.
    pub(crate) job: Option<Job>,
    /// What they find around them.
    pub(crate) surroundings: Surroundings,
    /// Workers leave core files as the host would.
    pub(crate) core_files: bool,
    /// Workers keep the default dispositions of fatal signals, and leave no record of a crash.
    pub(crate) no_crash_handler: bool,
}

impl Settings {
    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.number(self.start.number());
        writer.number(u64::from(self.core_files));
        writer.number(u64::from(self.no_crash_handler));
        writer.number(self.preload.len() as u64);
        self.preload.iter().for_each(|path| writer.bytes(path.as_bytes()));
        writer.number(u64::from(self.initializer.is_some()));
        if let Some((target, input)) = &self.initializer {
            target.encode(writer);
            writer.bytes(input);
        }
        writer.number(u64::from(self.finalizer.is_some()));
        if let Some(target) = &self.finalizer {
            target.encode(writer);
        }
        writer.number(u64::from(self.job.is_some()));
        if let Some(job) = &self.job {
            job.encode(writer);
        }
        self.surroundings.encode(writer);
    }

    /// `input` is the descriptor of a job's input, where it has one.
    pub(crate) fn decode(reader: &mut Reader<'_>, input: Option<OwnedFd>) -> Result<Settings> {
        let start = StartMethod::from_number(reader.number()?)
            .ok_or_else(|| Error::errno(libc::EPROTO, "an unknown start method"))?;
        let core_files = reader.number()? != 0;
        let no_crash_handler = reader.number()? != 0;
        let mut preload = Vec::new();
        for _ in 0..reader.number()? {
            preload.push(reader.text()?);
        }
        let initializer = match reader.number()? {
            0 => None,
            _ => Some((Target::decode(reader)?, reader.bytes()?.to_vec())),
        };
        let finalizer = match reader.number()? {
            0 => None,
            _ => Some(Target::decode(reader)?),
        };
        let job = match reader.number()? {
            0 => None,
            _ => Some(Job::decode(reader, input)?),
        };
        let surroundings = Surroundings::decode(reader)?;
        Ok(Settings {
            start,
            preload,
            initializer,
            finalizer,
            job,
            surroundings,
            core_files,
            no_crash_handler,
        })
    }

    /// A long input's descriptor, to send along.
    pub(crate) fn copy_of_input(&self) -> Result<Option<OwnedFd>> {
        self.job.as_ref().map_or(Ok(None), |job| job.input.copy_of_fd())
    }

    /// Loads the libraries that the pool's options name.
    pub(crate) fn load_libraries(&self) -> Result<()> {
        for path in &self.preload {
            let path = CString::new(path.as_str()).unwrap_or_default();
            elf::load(&path).map_err(|why| Error::errno(libc::ENOENT, format!("preload: {why}")))?;
        }
        init::fix_names();
        Ok(())
    }
}

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
    init::now_a_worker();
    let segment = match Segment::attach(parts.segment.as_raw_fd()) {
        Ok(segment) => segment,
        Err(error) => give_up(&error.text()),
    };
    drop(parts.segment);
    if !settings.core_files {
        signal::limit_core_bytes(0);
    }
    let resolver = Resolver::new(tables);
    let is_copy = settings.start == StartMethod::Fork;
    let worker = Worker::new(segment, parts.heap, parts.event, parts.socket, resolver, is_copy);
    if !settings.no_crash_handler {
        crash::install(worker);
    }
    worker.take_shares();
    let ready = settings.surroundings.apply(job.is_none().then_some(slot)).and_then(|()| {
        match &settings.initializer {
            Some((target, input)) => target.address().and_then(|address| worker.initialize(address, input)),
            None => Ok(()),
        }
    });
    let addresses = ready.and_then(|()| {
        let address_of = |target: Option<&Target>| target.map(Target::address).transpose();
        Ok((address_of(job.map(|job| &job.target))?, address_of(settings.finalizer.as_ref())?))
    });
    match (addresses, job) {
        (Ok((Some(address), _)), Some(job)) => match job.input.in_memory() {
            Ok(input) => worker.run_job(address, job, input),
            Err(error) => worker.give_up(&error, phase::FAILED),
        },
        (Ok((_, finalizer)), _) => worker::run(worker, finalizer),
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
        settings.surroundings.enter(false)?;
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
