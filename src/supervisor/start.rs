//! Making workers, by fork or by executing a program.

use super::output::{Pipe, Tail};
use super::watch::TimeLimit;
use super::{Child, OUTPUT, Supervisor};
use crate::error::{Error, Result};
use crate::sys::clock::Deadline;
use crate::sys::{children, environment, fd, fork, limits, pidfd, signal, socket, spawn};
use crate::task::StartMethod;
use crate::task::program;
use crate::task::wire::{self, Connection, Message, MessageKind, Writer};
use crate::worker::start::{self, Parts};
use std::os::fd::{AsRawFd, OwnedFd};

impl Supervisor {
    /// A pidfd was lost on its way: the host had no descriptor free for it.
    pub(super) fn tell_again(&mut self, message: &Message) -> Result<()> {
        let [slot, generation, ..] = message.words;
        let is_meant = |worker: &Child| u64::from(worker.slot) == slot && worker.generation == generation;
        let Some((pid, worker)) = self.workers.iter().find(|(_, worker)| is_meant(worker)) else {
            return Ok(()); // `Exited` is on its way.
        };
        // Without a descriptor here it goes out as it is, and the host asks again.
        let copy = worker.pidfd.try_clone().ok();
        let news = Message::new(MessageKind::Started, &[slot, generation, *pid as u64]);
        self.tell(news.with_fds(copy.into_iter().collect()))
    }

    pub(super) fn start_worker(&mut self, message: Message) -> Result<()> {
        let [slot, generation, ..] = message.words;
        let started = message.whole().and_then(|message| self.try_start(slot as u32, message.fds));
        let started = started.and_then(|started| {
            let StartedWorker { pid, pidfd, copy, tail } = started;
            // Before the host is told: a worker that it knows of ends by `Exited` and by nothing else.
            if let Some(tail) = &tail {
                self.epoll.add(tail.fd(), OUTPUT).inspect_err(|_| children::kill(pid))?;
            }
            let limit = self.settings.job.as_ref().filter(|job| job.deadline_ns != 0);
            let limit = limit.map_or(TimeLimit::None, |job| TimeLimit::Running {
                due: Deadline::after(job.deadline_ns),
                grace_ns: job.grace_ns,
            });
            let news =
                Message::new(MessageKind::Started, &[slot, generation, pid as u64]).with_fds(vec![copy]);
            self.tell(news)?;
            self.workers.insert(pid, Child { slot: slot as u32, generation, pidfd, tail, limit });
            Ok(())
        });
        match started {
            Ok(()) => Ok(()),
            Err(error) => self.tell(Message::failure(MessageKind::NotStarted, &[slot, generation], &error)),
        }
    }

    pub(super) fn try_start(&mut self, slot: u32, fds: Vec<OwnedFd>) -> Result<StartedWorker> {
        let fds: [OwnedFd; 3] =
            fds.try_into().map_err(|_| Error::errno(libc::EPROTO, "a worker's descriptors are missing"))?;
        // A library that was preloaded may have started a thread; a fork would leave its locks as they are.
        let warm = match self.settings.start {
            StartMethod::Forkserver => children::thread_count() == 1,
            StartMethod::Fork => true,
            StartMethod::Spawn => false,
        };
        let pipe = self.sink.pipe()?;
        let pid = match warm {
            true => self.fork_worker(slot, fds, pipe.as_ref())?,
            false => self.execute_worker(slot, fds, pipe.as_ref())?,
        };
        let tail = pipe.map(|pipe| pipe.tail);
        // It is a child that has not been reaped, so the number is its own.
        match pidfd::open(pid).and_then(|pidfd| Ok((pidfd, pidfd::open(pid)?))) {
            Ok((pidfd, copy)) => Ok(StartedWorker { pid, pidfd, copy, tail }),
            Err(error) => {
                children::kill(pid);
                Err(error)
            }
        }
    }

    pub(super) fn fork_worker(
        &mut self,
        slot: u32,
        [segment, event, socket]: [OwnedFd; 3],
        pipe: Option<&Pipe>,
    ) -> Result<i32> {
        let parent = fork::pid();
        if let Some(pid) = children::fork()? {
            return Ok(pid);
        }
        signal::die_with_parent(parent);
        signal::lead_own_group();
        limits::restore_descriptors(self.descriptors);
        signal::reset_all();
        self.sink.enter(pipe);
        let Some(mut heap) = self.heap.take() else { signal::exit_now(program::GAVE_UP) };
        heap.become_owner(start::owner_of(slot));
        let mut keep = [&segment, &event, &socket].map(|fd| fd.as_raw_fd()).to_vec();
        keep.push(heap.fd());
        keep.extend(self.settings.job.as_ref().and_then(|job| job.input.fd()));
        keep.sort_unstable();
        crate::sys::fd::close_all_but(&keep);
        start::become_worker(slot, Parts { heap, segment, event, socket }, &self.settings, &self.tables)
    }

    pub(super) fn execute_worker(
        &mut self,
        slot: u32,
        [segment, event, socket]: [OwnedFd; 3],
        pipe: Option<&Pipe>,
    ) -> Result<i32> {
        let Some(heap) = &self.heap else { return Err(Error::errno(libc::EPROTO, "no heap")) };
        let mut writer = Writer::default();
        self.settings.encode(&mut writer);
        self.tables.encode(&mut writer);
        let heap_fd = fd::duplicate(heap.fd())?;
        let mut fds = vec![heap_fd, segment, event, socket, wire::to_memfd(&writer.finish()?)?];
        fds.extend(self.settings.copy_of_input()?);
        let (address, length) = (heap.address() as u64, heap.mapped_bytes() as u64);
        let parent = fork::pid();
        let words = [wire::version(), u64::from(slot), address, length, parent as u64];
        let (ours, theirs) = socket::pair()?;
        // Sent before the worker exists: the socket keeps it, whatever becomes of this end.
        Connection::new(ours).try_send(Message::new(MessageKind::Setup, &words).with_fds(fds))?;
        let program = program::program_again(&[])?;
        if let Some(pid) = children::fork()? {
            return Ok(pid);
        }
        signal::die_with_parent(parent);
        signal::lead_own_group();
        limits::restore_descriptors(self.descriptors);
        self.sink.enter(pipe);
        if self.birthplace.as_ref().is_some_and(|birthplace| !environment::go_back(birthplace.as_raw_fd())) {
            signal::exit_now(126);
        }
        spawn::become_child(theirs.as_raw_fd(), false);
        children::execute(&program)
    }
}

/// What the host gets of a worker that has been started.
pub(super) struct StartedWorker {
    pid: i32,
    pidfd: OwnedFd,
    /// The host's.
    copy: OwnedFd,
    tail: Option<Tail>,
}
