//! A single process that runs one function, in a family of its own: `docs/design/processes.md` has the states, and what
//! a death at each point leaves.

use crate::bootstrap;
use crate::channel::Channel;
use crate::error::{Code, Error, Result};
use crate::family::options::WorkerOptions;
use crate::family::sharing::SharingEnd;
use crate::family::{Event, Family};
use crate::heap::Heap;
use crate::heap::segment::Segment;
use crate::sys::clock::{Deadline, Timeout, now_ns};
use crate::sys::epoll::{Epoll, Waited};
use crate::sys::fd::{self, Guarded};
use crate::sys::prim::Ordering;
use crate::sys::{children, fork, pidfd, reserve, signal};
use crate::task::death::Death;
use crate::task::function::{Function, Target};
use crate::task::job::ONLY_TASK;
use crate::task::job::{Job, JobInput};
use crate::task::ring::Left;
use crate::task::settings::Settings;
use crate::task::share::{self, Share};
use crate::worker::start;
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// The heap is for the result and for what the function allocates.
const DEFAULT_HEAP_BYTES: usize = 1 << 30;
const DEFAULT_GRACE_NS: u64 = 200_000_000;

/// How long a supervisor may keep the end of its process to itself before it is taken for stopped, and for lost.
const STOPPED_NS: u64 = 100_000_000;
const LOST_NS: u64 = 2_000_000_000;

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

/// How a process has ended, and what its function left.
#[derive(Debug)]
pub struct Exit {
    /// What the function returned, or the code of why it never did.
    pub status: i32,
    /// What the process said of its failure, or what the host knows of it.
    pub message: CString,
    /// How the process ended.
    pub death: Death,
    output: ProcessOutput,
}

#[derive(Debug)]
enum ProcessOutput {
    None,
    Here(Box<[u8]>),
    /// In the process's heap, which the handle keeps.
    Heap(usize, usize),
}

impl Exit {
    /// The output: where it is and how long; null for none.
    pub fn output(&self) -> (*const u8, usize) {
        match &self.output {
            ProcessOutput::None => (std::ptr::null(), 0),
            ProcessOutput::Here(bytes) => (bytes.as_ptr(), bytes.len()),
            ProcessOutput::Heap(address, length) => (std::ptr::with_exposed_provenance(*address), *length),
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
    /// Of the process; or readable, where that had ended before the host had a descriptor free for its pidfd.
    pidfd: Arc<Guarded>,
    title: CString,
    function: String,
    detached: bool,
    interruptible: bool,
    heap: Heap,
    epoll: Arc<Epoll>,
    /// `None` once it has been left to itself.
    family: Mutex<Option<Family>>,
    exit: OnceLock<Exit>,
    /// When it was first found to have ended, and when its supervisor was first asked to go on and say how.
    ended_ns: OnceLock<u64>,
    asked_ns: OnceLock<u64>,
}

impl Process {
    /// Starts a process that calls a function, and waits until it has begun.
    pub fn start(function: Function<'_>, input: &[u8], options: &ProcessOptions<'_>) -> Result<Process> {
        let worker = &options.worker;
        worker.check()?;
        reserve::suffices()?;
        let title = options.title.unwrap_or(c"tine-process").to_owned();
        let grace_ns = if options.grace_ns == 0 { DEFAULT_GRACE_NS } else { options.grace_ns };
        let (deadline_ns, detached) = (options.deadline_ns, options.detached);
        let (target, input) = (Target::of(function)?, JobInput::of(input)?);
        let end = options.channel.map(Channel::share_end).transpose()?;
        let has_end = end.is_some();
        let job = Job { target, input, title: title.clone(), has_end, deadline_ns, grace_ns, detached };
        let settings = Settings { job: Some(job), ..worker.settings()? };
        if options.segments.len() > share::MOST {
            let (count, most) = (options.segments.len(), share::MOST);
            return Err(Error::errno(libc::ENOSPC, format!("{count} segments; a process can have {most}")));
        }
        let heap = Heap::create(worker.heap_range(DEFAULT_HEAP_BYTES))?;
        let epoll = Arc::new(Epoll::new()?);
        let mut family = Family::new(
            Arc::clone(&epoll),
            settings,
            worker.program()?,
            worker.start_timeout_ns(),
            1,
            bootstrap::run_forked,
        )?;
        for segment in &options.segments {
            family.share(Share::new(segment)?)?;
            family.end_sharing(SharingEnd::Shared);
        }
        if let Some(end) = end {
            family.give_end(end);
        }
        let ended_fd = Guarded::marked(fd::eventfd()?);
        let started = begin(&mut family, &heap, &epoll);
        family.start_no_more();
        // From here on nothing fails: the function has begun.
        let ended = started.inspect_err(|_| family.stop(Deadline(0)))?;
        let pidfd = family.members[0].pidfd.clone().unwrap_or_else(|| {
            fd::eventfd_signal(ended_fd.as_raw_fd());
            Arc::new(ended_fd)
        });
        let process = Process {
            owner: fork::pid(),
            pid: family.members[0].pid,
            pidfd,
            title,
            function: function.describe(),
            detached,
            interruptible: options.interruptible,
            heap,
            epoll,
            family: Mutex::new(Some(family)),
            exit: OnceLock::new(),
            ended_ns: OnceLock::new(),
            asked_ns: OnceLock::new(),
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
        loop {
            if let Some(exit) = self.learn() {
                return Ok(exit);
            }
            if pidfd::has_ended(self.pidfd.as_raw_fd()) {
                // Its end is announced before its supervisor can say how it came about.
                self.prompt(now_ns());
                if deadline.passed() {
                    return Err(timeout.error());
                }
                pidfd::poll(self.epoll.fd(), deadline.min(Deadline::after(2_000_000)));
                continue;
            }
            // What the supervisor is to be told may still have to be sent.
            let due = self.lock().as_ref().map_or(Deadline::NEVER, Family::next_deadline);
            // The end of the supervisor counts, too: a process that outlives it is to be ended.
            match pidfd::poll_either([self.pidfd.as_raw_fd(), self.epoll.fd()], deadline.min(due)) {
                Waited::TimedOut if deadline.passed() => return Err(timeout.error()),
                Waited::TimedOut => (),
                Waited::Interrupted if self.interruptible => {
                    return Err(Error::from(Code::errno(libc::EINTR)));
                }
                Waited::Ready(_) | Waited::Interrupted => (),
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
        let sent = pidfd::signal(self.pidfd.as_raw_fd(), signal);
        match (sent, &mut *self.lock()) {
            // A host that has become another user may not; its supervisor is what the host was.
            (Err(refused), Some(family)) => family.ask_to_signal(0, signal).map_err(|_| refused),
            (sent, _) => sent,
        }
    }

    /// Sends a signal to it and to everything that it has started, and that is still there.
    pub fn signal_tree(&self, signal: i32) -> Result<()> {
        self.mine()?;
        check_signal(signal)?;
        if signal != libc::SIGKILL && !children::can_see_trees() {
            let text =
                "without /proc nobody can say what a process has started: only SIGKILL reaches all of it";
            return Err(Error::errno(libc::ENOTSUP, text));
        }
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

    /// What is known of its end.
    fn learn(&self) -> Option<&Exit> {
        if self.exit.get().is_none()
            && let Some(family) = &mut *self.lock()
        {
            let _ = self.epoll.wait(&mut [0; 32], Deadline(0));
            family.advance(&self.heap);
            while let Some(event) = family.next_event() {
                if let Event::Ended(_, death) = event {
                    self.conclude(family, death);
                }
            }
        }
        self.exit.get()
    }

    /// The process has ended. A supervisor that has not said so for some time is stopped, or worse.
    fn prompt(&self, now: u64) {
        let silent_ns = now.saturating_sub(*self.ended_ns.get_or_init(|| now));
        if silent_ns > STOPPED_NS
            && let Some(family) = &*self.lock()
        {
            // Counted from the first call: there may have been none in between.
            let asked_ns = now.saturating_sub(*self.asked_ns.get_or_init(|| now));
            let signal = if asked_ns > LOST_NS { libc::SIGKILL } else { libc::SIGCONT };
            family.signal_supervisor(signal);
        }
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
                    Left::Nothing => ProcessOutput::None,
                    Left::Inline(length) => ProcessOutput::Here(slot.inline_output.read(length).into()),
                    Left::Block(address, length) => ProcessOutput::Heap(address, length),
                },
            ),
            None if death.late => {
                let text = format!("process {} was ended past its deadline", self.pid);
                (-libc::ETIMEDOUT, text.into_bytes(), ProcessOutput::None)
            }
            None => (Code::DIED.0, death.describe().into_bytes(), ProcessOutput::None),
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
            // A forked child's copy: the family is its parent's, the descriptors and the memory are this process's own.
            drop(family);
        } else if self.detached {
            family.leave();
        } else {
            family.stop(Deadline(0));
        }
    }
}

/// Starts the family, and waits until its process has begun; its death where it has ended already.
fn begin(family: &mut Family, heap: &Heap, epoll: &Epoll) -> Result<Option<Death>> {
    loop {
        family.advance(heap);
        let mut is_vacant = false;
        while let Some(event) = family.next_event() {
            match event {
                Event::Ready(_) => return Ok(None),
                // One whose deadline was over before its function could begin has had its time.
                Event::Ended(slot, death) if family.members[slot].was_ready || death.late => {
                    return Ok(Some(death));
                }
                Event::Ended(slot, death) => {
                    heap.reclaim(start::owner_of(slot as u32), death.pid, 0);
                    family.bury(slot, &death, false);
                    is_vacant = true;
                }
                Event::Starved(error) | Event::Broken(error) => return Err(error),
            }
        }
        // Where one has just died, the next is started before anything is waited for.
        if !is_vacant && !family.listen() {
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
