//! What all workers of a family have in common, as it travels to them.

use super::environment::Environment;
use super::faults::Faults;
use super::function::{self, Target};
use super::job::Job;
use super::wire::{Reader, Writer};
use crate::error::{Error, Result};
use crate::sys::elf;
use std::ffi::CString;
use std::os::fd::OwnedFd;

/// How a pool's processes are born.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartMethod {
    /// A fresh copy of the program becomes the supervisor; workers are forked from it, warm and without threads.
    #[default]
    Forkserver,
    /// Each worker is a fresh copy of the program.
    Spawn,
    /// The supervisor is forked from the host, so workers share the host's memory of that moment copy-on-write.
    Fork,
}

impl StartMethod {
    fn number(self) -> u64 {
        match self {
            StartMethod::Forkserver => 0,
            StartMethod::Spawn => 1,
            StartMethod::Fork => 2,
        }
    }

    fn from_number(number: u64) -> Option<StartMethod> {
        [StartMethod::Forkserver, StartMethod::Spawn, StartMethod::Fork]
            .into_iter()
            .find(|method| method.number() == number)
    }
}

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
    pub(crate) environment: Environment,
    /// Workers leave core files as the host would.
    pub(crate) core_files: bool,
    /// Workers keep the default dispositions of fatal signals, and leave no record of a crash.
    pub(crate) no_crash_handler: bool,
    /// What is to go wrong, where the pool's options ask for that.
    pub(crate) faults: Faults,
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
        self.environment.encode(writer);
        self.faults.encode(writer);
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
        let environment = Environment::decode(reader)?;
        let faults = Faults::decode(reader)?;
        Ok(Settings {
            start,
            preload,
            initializer,
            finalizer,
            job,
            environment,
            core_files,
            no_crash_handler,
            faults,
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
        function::fix_names();
        Ok(())
    }
}
