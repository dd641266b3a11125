//! The supervisor: makes workers, reaps them, reports, and takes the family down when the host is gone.
//!
//! It is one thread in one loop that runs no user code but the libraries to preload. It holds no state that a task
//! depends on: when it is killed, its workers go with it, the host finds out by its pidfd and starts another one.
//!
//! | event | answer |
//! |---|---|
//! | `StartWorker` | fork or execute one; `Started` with its pidfd, or `NotStarted` with the reason |
//! | `StartedAgain` | `Started` once more: the host had no room for the pidfd |
//! | a child has ended | reap it; if it was a worker, `Exited` with how. Others are orphans of workers |
//! | the child was a worker, ended by a signal | before that, kill its process group: what its task had started |
//! | `Stop` | wait for the workers that long, then end the family |
//! | `SignalWorker` | pass the signal on to that worker |
//! | `SignalTree` | pass the signal on to everything that descends from this process |
//! | a single process is past its deadline | SIGTERM; after the grace SIGKILL |
//! | its keeper has ended | end the family at once: what it would leave now, its host could see |
//! | the host's end of the socket, or the host itself, is gone | end the family at once; where a single process is detached, when that has ended |

mod end;
pub(crate) mod output;
mod reap;
mod start;
mod watch;

use crate::error::{Code, Error, Result};
use crate::heap::Heap;
use crate::sys::clock::Deadline;
use crate::sys::epoll::Epoll;
use crate::sys::limits::{self, Limit};
use crate::sys::pidfd::{self};
use crate::sys::{children, environment, fork, signal};
use crate::task::StartMethod;
use crate::task::function::Tables;
use crate::task::settings::Settings;
use crate::task::wire::{self, Connection, Message, MessageKind, Reader, Writer};
use output::{Sink, Tail};
use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use watch::TimeLimit;

const SOCKET: u64 = 0;
const HOST: u64 = 1;
const CHILDREN: u64 = 2;
const OUTPUT: u64 = 3;
const KEEPER: u64 = 4;

/// How often to look at what cannot be watched.
const UNWATCHED_NS: u64 = 5_000_000;

struct Child {
    slot: u32,
    generation: u64,
    pidfd: OwnedFd,
    /// What it writes, where that is captured.
    tail: Option<Tail>,
    limit: TimeLimit,
}

/// What is known of the host when its messages have been dealt with.
enum News {
    None,
    /// It wants the family to end.
    Stop,
    /// Nothing will come from it any more.
    HostGone,
}

struct Supervisor {
    connection: Connection,
    host: OwnedFd,
    /// This process's parent, see `sys::spawn`, and whether it has ended.
    keeper: OwnedFd,
    keeper_ended: bool,
    child_events: OwnedFd,
    epoll: Epoll,
    settings: Settings,
    tables: Tables,
    /// Taken by the worker in the process that becomes one.
    heap: Option<Heap>,
    workers: HashMap<i32, Child>,
    sink: Sink,
    /// Where programs are executed: where the host was, whatever the processes' own directory is to be. Paths by which programs and their
    /// libraries are found may be relative.
    birthplace: Option<OwnedFd>,
    writable_watched: bool,
    /// The limit on descriptors that this process was started with, which is its workers'; its own is as high as it may be.
    descriptors: Option<Limit>,
}

/// The whole life of a supervisor, from the host's first message on.
pub(crate) fn run(mut connection: Connection, configure: Message) -> ! {
    signal::set_thread_name(c"tine-supervisor");
    match Supervisor::set_up(&mut connection, configure) {
        Ok(parts) => {
            let mut supervisor = parts(connection);
            if let Err(error) = supervisor.serve() {
                let _ = supervisor.connection.send(Message::failure(MessageKind::Refused, &[], &error));
            }
            supervisor.end_family();
            signal::exit_now(0);
        }
        Err(error) => {
            let _ = connection.send(Message::failure(MessageKind::Refused, &[], &error));
            signal::exit_now(1);
        }
    }
}

impl Supervisor {
    /// Everything that can fail, so that the host learns why; gives back what makes a supervisor of the connection.
    fn set_up(
        connection: &mut Connection,
        configure: Message,
    ) -> Result<impl FnOnce(Connection) -> Supervisor + use<>> {
        let [version, address, length, ..] = configure.words;
        if version != wire::version() {
            return Err(Code::VERSION.into());
        }
        let (fds, input) = wire::split(configure.whole()?.fds, "the supervisor's descriptors are missing")?;
        let [heap, host, settings]: [OwnedFd; 3] = fds;
        let settings = Settings::decode(&mut Reader(&wire::from_memfd(&settings)?), input)?;
        signal::adopt_orphans()?;
        let descriptors = limits::raise_descriptors();
        let moves = settings.environment.directory.is_some() && settings.start != StartMethod::Fork;
        let birthplace = moves.then(environment::working_directory).transpose()?;
        settings.environment.enter(settings.start == StartMethod::Fork)?;
        let sink = Sink::open(&settings.environment.output)?;
        settings.load_libraries()?;
        let (address, length) = (address as usize, length as usize);
        let heap = match settings.start {
            StartMethod::Fork => Heap::inherit(heap, address, length)?,
            _ => Heap::attach(heap, address, length, 0)?,
        };
        let tables = Tables::own();
        let mut writer = Writer::default();
        tables.encode(&mut writer);
        let fds = vec![fork::own_pidfd()?, wire::to_memfd(&writer.finish()?)?];
        connection.send(Message::new(MessageKind::Ready, &[version]).with_fds(fds))?;
        heap.bell().ring_for_news();

        let epoll = Epoll::new()?;
        let child_events = signal::child_events()?;
        epoll.add(connection.fd(), SOCKET)?;
        epoll.add(host.as_raw_fd(), HOST)?;
        let keeper = signal::watch_parent()?;
        epoll.add(keeper.as_raw_fd(), KEEPER)?;
        epoll.add(child_events.as_raw_fd(), CHILDREN)?;
        Ok(move |connection| Supervisor {
            connection,
            host,
            keeper,
            keeper_ended: false,
            child_events,
            epoll,
            settings,
            tables,
            heap: Some(heap),
            workers: HashMap::new(),
            sink,
            birthplace,
            writable_watched: false,
            descriptors,
        })
    }

    /// Returns when the family is to end.
    fn serve(&mut self) -> Result<()> {
        loop {
            match self.take_messages()? {
                News::None if pidfd::has_ended(self.host.as_raw_fd()) => return self.serve_alone(),
                News::None => (),
                News::HostGone => return self.serve_alone(),
                News::Stop => return Ok(()),
            }
            self.reap()?;
            self.wait(Deadline::NEVER)?;
            if self.keeper_ended {
                return Ok(());
            }
        }
    }

    /// Nobody is there any more to be told: a process that is detached may end in its own time.
    fn serve_alone(&mut self) -> Result<()> {
        if !self.settings.job.as_ref().is_some_and(|job| job.detached) {
            return Ok(());
        }
        let _ = self.epoll.remove(self.connection.fd());
        let _ = self.epoll.remove(self.host.as_raw_fd());
        loop {
            self.reap()?;
            if self.workers.is_empty() || self.keeper_ended {
                return Ok(());
            }
            self.wait(Deadline::NEVER)?;
        }
    }

    /// Sends the host a message, and wakes it.
    fn tell(&mut self, message: Message) -> Result<()> {
        let sent = self.connection.send(message);
        self.wake_host();
        sent
    }

    /// Sends what could not be sent before.
    fn flush(&mut self) -> Result<()> {
        let waited = self.connection.is_waiting();
        self.connection.flush()?;
        if waited {
            self.wake_host();
        }
        Ok(())
    }

    fn wake_host(&self) {
        if let Some(heap) = &self.heap {
            heap.bell().ring_for_news();
        }
    }

    fn take_messages(&mut self) -> Result<News> {
        self.flush()?;
        loop {
            match self.connection.receive() {
                Ok(None) => return Ok(News::None),
                Ok(Some(message)) if message.kind == MessageKind::StartWorker => {
                    self.start_worker(message)?
                }
                Ok(Some(message)) if message.kind == MessageKind::StartedAgain => {
                    self.tell_again(&message)?
                }
                Ok(Some(message)) if message.kind == MessageKind::Stop => {
                    self.wait_for_workers(Deadline::after(message.words[0]))?;
                    return Ok(News::Stop);
                }
                Ok(Some(message)) if message.kind == MessageKind::SignalWorker => {
                    self.signal_worker(&message)
                }
                Ok(Some(message)) if message.kind == MessageKind::SignalTree => match message.words[0] as i32
                {
                    libc::SIGKILL => self.kill_everything(),
                    signal => children::signal_tree(signal),
                },
                Ok(Some(message)) => {
                    let text = format!("an unexpected message, {:?}", message.kind);
                    return Err(Error::errno(libc::EPROTO, text));
                }
                Err(error) if error.code().0 == -libc::EPIPE => return Ok(News::HostGone),
                Err(error) => return Err(error),
            }
        }
    }

    /// Signals a worker for a host that may not. One that ended meanwhile is in no need of it.
    fn signal_worker(&self, message: &Message) {
        let [slot, generation, signal, ..] = message.words;
        let is_meant = |child: &&Child| u64::from(child.slot) == slot && child.generation == generation;
        if let Some(child) = self.workers.values().find(is_meant) {
            let _ = pidfd::signal(child.pidfd.as_raw_fd(), signal as i32);
        }
    }
}
