//! A single process that runs one function, in a family of its own: `docs/design/processes.md` has the states, and what
//! a death at each point leaves.

use super::function::{Function, Target};
use super::options::WorkerOptions;
use super::setup::{self, Settings};
use super::wire::{Reader, Writer};
use crate::channel::Channel;
use crate::engine::family::{Event, Family};
use crate::engine::member::Death;
use crate::engine::share::Share;
use crate::error::{Code, Error, Result};
use crate::heap::Heap;
use crate::heap::segment::Segment;
use crate::pool::worker::ONLY_TASK;
use crate::prim::Ordering;
use crate::queue::ring::Left;
use crate::sys::clock::{Deadline, Timeout};
use crate::sys::epoll::{Epoll, Waited};
use crate::sys::{fork, pidfd, signal};
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// The heap is for the result and for what the function allocates.
const DEFAULT_HEAP_BYTES: usize = 1 << 30;
const DEFAULT_GRACE_NS: u64 = 200_000_000;

/// How long a supervisor may keep the end of its process to itself: see [`Process::wait`].
const SILENCE_NS: u64 = 1_000_000_000;

/// What a single process can be told; all zero and empty is the default.
#[derive(Clone, Debug, Default)]
pub struct ProcessOptions<'a> {
    /// How it starts, and what it finds around it.
    pub worker: WorkerOptions<'a>,
    /// What people see it by; "tine-process" where nothing is said.
    pub title: Option<&'a CStr>,
    /// How long it may live, in nanoseconds; 0 for as long as it likes.
    pub deadline_ns: u64,
    /// How long it may live on when it is past that, in nanoseconds; 0 for 200 ms.
    pub grace_ns: u64,
    /// Segments that are mapped in it, at the addresses that they have here.
    pub segments: Vec<&'a Segment>,
    /// An end of a channel, which the process gets a copy of.
    pub channel: Option<&'a Channel>,
    /// It lives on when this process ends, or drops its handle.
    pub detached: bool,
    /// Waits end with `EINTR` when a signal handler has run.
    pub interruptible: bool,
}

/// What the process is to do, as it travels there.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) target: Target,
    pub(crate) input: Vec<u8>,
    pub(crate) title: CString,
    /// There is an end of a channel for it.
    pub(crate) has_end: bool,
    pub(crate) deadline_ns: u64,
    pub(crate) grace_ns: u64,
    pub(crate) detached: bool,
}

impl Job {
    pub(crate) fn encode(&self, writer: &mut Writer) {
        self.target.encode(writer);
        writer.bytes(&self.input);
        writer.bytes(self.title.to_bytes());
        writer.number(u64::from(self.has_end));
        writer.number(self.deadline_ns);
        writer.number(self.grace_ns);
        writer.number(u64::from(self.detached));
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Job> {
        Ok(Job {
            target: Target::decode(reader)?,
            input: reader.bytes()?.to_vec(),
            title: CString::new(reader.bytes()?).unwrap_or_default(),
            has_end: reader.number()? != 0,
            deadline_ns: reader.number()?,
            grace_ns: reader.number()?,
            detached: reader.number()? != 0,
        })
    }
}

/// How a process has ended, and what its function left.
#[derive(Debug)]
pub struct Exit {
    /// What the function returned, or the code of why it never did.
    pub status: i32,
    /// What it said of its failure, or what is known of it.
    pub message: CString,
    /// How the process ended.
    pub death: Death,
    output: Output,
}

#[derive(Debug)]
enum Output {
    None,
    Here(Box<[u8]>),
    /// In the process's heap, which the handle keeps.
    Heap(usize, usize),
}

impl Exit {
    /// The output: where it is and how long; null for none.
    pub fn output(&self) -> (*const u8, usize) {
        match &self.output {
            Output::None => (std::ptr::null(), 0),
            Output::Here(bytes) => (bytes.as_ptr(), bytes.len()),
            Output::Heap(address, length) => (std::ptr::with_exposed_provenance(*address), *length),
        }
    }
}

/// A single process.
///
/// Dropping the handle ends it with everything that it has started, unless it is detached.
#[derive(Debug)]
pub struct Process {
    /// The process that started it: a forked child must not touch it.
    owner: i32,
    pid: i32,
    pidfd: OwnedFd,
    title: CString,
    function: String,
    detached: bool,
    interruptible: bool,
    heap: Heap,
    epoll: Epoll,
    /// `None` once it has been left to itself.
    family: Mutex<Option<Family>>,
    exit: OnceLock<Exit>,
}

impl Process {
    /// Starts a process that calls a function, and waits until it has begun.
    pub fn start(function: Function<'_>, input: &[u8], options: &ProcessOptions<'_>) -> Result<Process> {
        let worker = &options.worker;
        worker.check()?;
        let title = options.title.unwrap_or(c"tine-process").to_owned();
        let grace_ns = if options.grace_ns == 0 { DEFAULT_GRACE_NS } else { options.grace_ns };
        let (deadline_ns, detached) = (options.deadline_ns, options.detached);
        let (target, input) = (Target::of(function)?, input.to_vec());
        let end = options.channel.map(Channel::share_end).transpose()?;
        let has_end = end.is_some();
        let job = Job { target, input, title: title.clone(), has_end, deadline_ns, grace_ns, detached };
        let settings = Settings { job: Some(job), ..worker.settings()? };
        let heap = Heap::create(worker.heap_range(DEFAULT_HEAP_BYTES))?;
        let mut family = Family::new(settings, worker.program()?, worker.start_timeout_ns(), 1);
        for segment in &options.segments {
            family.share(Share::new(segment)?)?;
            family.end_sharing(true);
        }
        if let Some(end) = end {
            family.give_end(end);
        }
        let epoll = Epoll::new()?;
        let started = begin(&mut family, &heap, &epoll);
        family.start_no_more();
        let member = &family.members[0];
        let (ended, pidfd) = match (started, &member.pidfd) {
            (Ok(ended), Some(pidfd)) => (ended, pidfd.try_clone()),
            (Err(error), _) => {
                family.stop(&epoll, Deadline(0));
                return Err(error);
            }
            (Ok(_), None) => return Err(Code::WORKER_START.into()),
        };
        let process = Process {
            owner: fork::pid(),
            pid: member.pid,
            pidfd: pidfd.map_err(|error| Error::from_io("dup", &error))?,
            title,
            function: function.describe(),
            detached,
            interruptible: options.interruptible,
            heap,
            epoll,
            family: Mutex::new(Some(family)),
            exit: OnceLock::new(),
        };
        if let (Some(death), Some(family)) = (ended, &*process.lock()) {
            process.conclude(family, death);
        }
        Ok(process)
    }

    /// Its number.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// What people see it by.
    pub fn title(&self) -> &CStr {
        &self.title
    }

    /// A descriptor that is readable from its end on. It is the handle's.
    pub fn descriptor(&self) -> Result<RawFd> {
        self.mine()?;
        Ok(self.pidfd.as_raw_fd())
    }

    /// Whether it has not ended.
    pub fn is_alive(&self) -> Result<bool> {
        self.mine()?;
        Ok(!pidfd::has_ended(self.pidfd.as_raw_fd()))
    }

    /// Waits until it has ended; how.
    pub fn wait(&self, timeout: Timeout) -> Result<&Exit> {
        self.mine()?;
        let deadline = timeout.deadline();
        let mut ended = self.wait_for_end(deadline);
        // Its end is announced before its supervisor can say how it came about.
        let silence = Deadline::after(SILENCE_NS);
        loop {
            if let Some(exit) = self.learn(silence.passed()) {
                return Ok(exit);
            }
            match ended {
                Waited::Ready(_) => drop(pidfd::poll(self.epoll.fd(), Deadline::after(2_000_000))),
                Waited::TimedOut if timeout == Timeout::Try => {
                    return Err(Error::from(Code::errno(libc::EAGAIN)));
                }
                Waited::TimedOut => return Err(Error::from(Code::errno(libc::ETIMEDOUT))),
                Waited::Interrupted if self.interruptible => {
                    return Err(Error::from(Code::errno(libc::EINTR)));
                }
                Waited::Interrupted => ended = self.wait_for_end(deadline),
            }
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) -> Result<()> {
        self.mine()?;
        check_signal(signal)?;
        if pidfd::has_ended(self.pidfd.as_raw_fd()) {
            return Err(Error::errno(libc::ESRCH, format!("process {} has ended", self.pid)));
        }
        pidfd::signal(self.pidfd.as_raw_fd(), signal)
    }

    /// Sends a signal to it and to everything that it has started, and that is still there.
    pub fn signal_tree(&self, signal: i32) -> Result<()> {
        self.mine()?;
        check_signal(signal)?;
        match &mut *self.lock() {
            Some(family) => family.signal_tree(signal),
            None => Ok(()),
        }
    }

    fn mine(&self) -> Result<()> {
        if self.owner == fork::pid() { Ok(()) } else { Err(Code::FORKED.into()) }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Family>> {
        self.family.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for_end(&self, deadline: Deadline) -> Waited {
        if self.exit.get().is_some() {
            Waited::Ready(1)
        } else {
            pidfd::poll_once(self.pidfd.as_raw_fd(), deadline)
        }
    }

    /// What is known of its end. `enough`: its supervisor has had the time to say.
    fn learn(&self, enough: bool) -> Option<&Exit> {
        if self.exit.get().is_none()
            && let Some(family) = &mut *self.lock()
        {
            if enough && pidfd::has_ended(self.pidfd.as_raw_fd()) {
                family.kill_supervisor();
            }
            let _ = self.epoll.wait(&mut [0; 32], Deadline(0));
            family.advance(&self.heap, &self.epoll);
            while let Some(event) = family.next_event() {
                if let Event::Ended(_, death) = event {
                    self.conclude(family, death);
                }
            }
        }
        self.exit.get()
    }

    /// Takes what it has left. Its memory is its own no more: it has ended.
    fn conclude(&self, family: &Family, mut death: Death) {
        let member = &family.members[0];
        let Some(segment) = &member.segment else { return };
        let slot = segment.slot(0);
        // A count that cannot be is one of a process that has written what it liked.
        let finished = segment.finished(0, 1) == Some(1);
        let left = slot.output_left(|address, length| self.heap.contains(address, length));
        let (status, message, output) = match left.filter(|_| finished) {
            Some(left) => (
                slot.status.load(Ordering::Relaxed),
                slot.message_left(),
                match left {
                    Left::Nothing => Output::None,
                    Left::Inline(length) => Output::Here(slot.inline_output.read(length).into()),
                    Left::Block(address, length) => Output::Heap(address, length),
                },
            ),
            None if death.late => {
                let text = format!("process {} was ended past its deadline", self.pid);
                (-libc::ETIMEDOUT, text.into_bytes(), Output::None)
            }
            None => (Code::DIED.0, death.describe().into_bytes(), Output::None),
        };
        death.set_task(ONLY_TASK, 0, self.function.clone());
        let end = message.iter().position(|byte| *byte == 0).unwrap_or(message.len());
        let message = CString::new(String::from_utf8_lossy(&message[..end]).as_bytes()).unwrap_or_default();
        let _ = self.exit.set(Exit { status, message, death, output });
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Without the lock: in a forked child, a thread that is not there may hold it.
        let family = self.family.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut family) = family else { return };
        if self.owner != fork::pid() {
            // A forked child's copy: the family is its parent's.
            std::mem::forget(family);
        } else if self.detached {
            family.leave();
        } else {
            family.stop(&self.epoll, Deadline(0));
        }
    }
}

/// Starts the family, and waits until its process has begun; its death where it has ended already.
fn begin(family: &mut Family, heap: &Heap, epoll: &Epoll) -> Result<Option<Death>> {
    loop {
        family.advance(heap, epoll);
        while let Some(event) = family.next_event() {
            match event {
                Event::Ready(_) => return Ok(None),
                Event::Ended(slot, death) if family.members[slot].ended_ready => return Ok(Some(death)),
                Event::Ended(slot, death) => {
                    heap.reclaim(setup::owner_of(slot as u32), death.pid, 0);
                    family.bury(slot, &death, false);
                }
                Event::Broken(error) => return Err(error),
            }
        }
        if !family.listen() {
            epoll.wait(&mut [0; 32], family.next_deadline())?;
        }
    }
}

fn check_signal(number: i32) -> Result<()> {
    if (1..=signal::LAST).contains(&number) {
        return Ok(());
    }
    Err(Error::invalid(format!("signal is {number}; signals go from 1 to {}", signal::LAST)))
}
