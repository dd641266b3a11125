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

pub(crate) mod output;

use crate::error::{Code, Error, Result};
use crate::heap::Heap;
use crate::sys::clock::Deadline;
use crate::sys::epoll::{Epoll, Waited};
use crate::sys::limits::{self, Limit};
use crate::sys::pidfd::{self, Ended};
use crate::sys::spawn;
use crate::sys::{children, environment, fd, fork, signal, socket};
use crate::task::StartMethod;
use crate::task::function::Tables;
use crate::task::program;
use crate::task::settings::Settings;
use crate::task::wire::{self, Connection, Kind, Message, Reader, Writer};
use crate::worker::start::{self, Parts};
use output::{Pipe, Sink, Tail};
use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};

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

/// Of a single process: when it is to be ended, and how far that has got.
#[derive(Clone, Copy, Debug)]
enum TimeLimit {
    None,
    /// When it gets SIGTERM, and how long it may live on after that.
    Running {
        due: Deadline,
        grace_ns: u64,
    },
    /// When it gets SIGKILL.
    Late {
        due: Deadline,
    },
}

/// What is known of the host when its messages have been dealt with.
enum News {
    None,
    /// It wants the family to end.
    Stop,
    /// Nothing will come from it any more.
    HostGone,
}

/// What the host gets of a worker that has been started.
struct StartedWorker {
    pid: i32,
    pidfd: OwnedFd,
    /// The host's.
    copy: OwnedFd,
    tail: Option<Tail>,
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
                let _ = supervisor.connection.send(Message::failure(Kind::Refused, &[], &error));
            }
            supervisor.end_family();
            signal::exit_now(0);
        }
        Err(error) => {
            let _ = connection.send(Message::failure(Kind::Refused, &[], &error));
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
        let fds = vec![fork::own_pidfd()?, wire::to_memfd(&writer.0)?];
        connection.send(Message::new(Kind::Ready, &[version]).with_fds(fds))?;
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
        self.epoll.remove(self.connection.fd());
        self.epoll.remove(self.host.as_raw_fd());
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
                Ok(Some(message)) if message.kind == Kind::StartWorker => self.start_worker(message)?,
                Ok(Some(message)) if message.kind == Kind::StartedAgain => self.tell_again(&message)?,
                Ok(Some(message)) if message.kind == Kind::Stop => {
                    self.wait_for_workers(Deadline::after(message.words[0]))?;
                    return Ok(News::Stop);
                }
                Ok(Some(message)) if message.kind == Kind::SignalWorker => self.signal_worker(&message),
                Ok(Some(message)) if message.kind == Kind::SignalTree => match message.words[0] as i32 {
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

    /// Sleeps until something happens or is due, and reads what workers have written.
    fn wait(&mut self, deadline: Deadline) -> Result<()> {
        let deadline = deadline.min(self.connection.next_try()).min(self.watch_writable());
        let deadline =
            self.workers.values_mut().fold(deadline, |deadline, worker| worker.keep_limit(deadline));
        let mut tokens = [0; 32];
        let Waited::Ready(count) = self.epoll.wait(&mut tokens, deadline)? else { return Ok(()) };
        self.keeper_ended |= tokens[..count].contains(&KEEPER) && pidfd::has_ended(self.keeper.as_raw_fd());
        if tokens[..count].contains(&OUTPUT) {
            for tail in self.workers.values_mut().filter_map(|worker| worker.tail.as_mut()) {
                if tail.read() == Some(0) {
                    // A worker that has closed what it could write to would wake this process for ever.
                    self.epoll.remove(tail.fd());
                }
            }
        }
        Ok(())
    }

    /// Has itself told of room in the socket while something waits for that. Where that cannot be: when to look.
    fn watch_writable(&mut self) -> Deadline {
        let wanted = self.connection.awaits_room();
        if wanted != self.writable_watched {
            if self.epoll.watch_writable(self.connection.fd(), SOCKET, wanted).is_err() {
                return Deadline::after(UNWATCHED_NS);
            }
            self.writable_watched = wanted;
        }
        Deadline::NEVER
    }

    /// A pidfd was lost on its way: the host had no descriptor free for it.
    fn tell_again(&mut self, message: &Message) -> Result<()> {
        let [slot, generation, ..] = message.words;
        let is_meant = |worker: &Child| u64::from(worker.slot) == slot && worker.generation == generation;
        let Some((pid, worker)) = self.workers.iter().find(|(_, worker)| is_meant(worker)) else {
            return Ok(()); // `Exited` is on its way.
        };
        // Without a descriptor here it goes out as it is, and the host asks again.
        let copy = worker.pidfd.try_clone().ok();
        let news = Message::new(Kind::Started, &[slot, generation, *pid as u64]);
        self.tell(news.with_fds(copy.into_iter().collect()))
    }

    fn start_worker(&mut self, message: Message) -> Result<()> {
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
            let news = Message::new(Kind::Started, &[slot, generation, pid as u64]).with_fds(vec![copy]);
            self.tell(news)?;
            self.workers.insert(pid, Child { slot: slot as u32, generation, pidfd, tail, limit });
            Ok(())
        });
        match started {
            Ok(()) => Ok(()),
            Err(error) => self.tell(Message::failure(Kind::NotStarted, &[slot, generation], &error)),
        }
    }

    fn try_start(&mut self, slot: u32, fds: Vec<OwnedFd>) -> Result<StartedWorker> {
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

    fn fork_worker(
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

    fn execute_worker(
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
        let mut fds = vec![heap_fd, segment, event, socket, wire::to_memfd(&writer.0)?];
        fds.extend(self.settings.copy_of_input()?);
        let (address, length) = (heap.address() as u64, heap.mapped_bytes() as u64);
        let parent = fork::pid();
        let words = [wire::version(), u64::from(slot), address, length, parent as u64];
        let (ours, theirs) = socket::pair()?;
        // Sent before the worker exists: the socket keeps it, whatever becomes of this end.
        Connection::new(ours).try_send(Message::new(Kind::Setup, &words).with_fds(fds))?;
        let program = program::program_again(&[]);
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

    fn reap(&mut self) -> Result<()> {
        signal::clear_child_events(&self.child_events);
        while let Some((pid, killed)) = pidfd::peek_any() {
            if killed && self.workers.contains_key(&pid) {
                // What its task has started goes with it. The group's number is its own until it is reaped.
                children::kill_group(pid);
            }
            if let Ok(Some(ended)) = pidfd::reap_one(pid) {
                self.report(ended)?;
            }
        }
        Ok(())
    }

    fn report(&mut self, ended: Ended) -> Result<()> {
        let Some(worker) = self.workers.remove(&ended.pid) else { return Ok(()) };
        let Ended { pid, signal, code, max_rss_bytes, user_ns, system_ns } = ended;
        let how = wire::How { signal, code, late: matches!(worker.limit, TimeLimit::Late { .. }) };
        let slot = u64::from(worker.slot);
        let words = [slot, worker.generation, how.to_word(), max_rss_bytes, pid as u64, user_ns, system_ns];
        let mut message = Message::new(Kind::Exited, &words);
        if let Some(tail) = worker.tail {
            self.epoll.remove(tail.fd());
            let said = tail.finish();
            // Where there is no memory for what it has said, its end is told all the same.
            let said = Some(said).filter(|said| !said.is_empty()).and_then(|said| wire::to_memfd(&said).ok());
            message.fds.extend(said);
        }
        self.tell(message)
    }

    /// Waits for workers that have been asked to leave; a host that is gone ends the waiting.
    fn wait_for_workers(&mut self, deadline: Deadline) -> Result<()> {
        loop {
            self.reap()?;
            if self.workers.is_empty()
                || self.keeper_ended
                || deadline.passed()
                || pidfd::has_ended(self.host.as_raw_fd())
            {
                return Ok(());
            }
            self.flush()?;
            self.wait(deadline)?;
        }
    }

    /// The last that the supervisor does.
    fn end_family(&mut self) {
        self.kill_everything();
        let _ = self.flush();
    }

    /// Kills the workers and everything that they have started, and waits until nothing is left.
    fn kill_everything(&mut self) {
        // To find everything takes a descriptor, of which there may be none left.
        self.heap = None;
        for worker in self.workers.values() {
            let _ = pidfd::signal(worker.pidfd.as_raw_fd(), libc::SIGKILL);
        }
        // What the workers had started becomes a child of this process when they are gone; what that had started, in
        // the next round. The loop ends when there are no children: nobody here makes new ones.
        while self.kill_children() {}
    }

    /// One round of it: kills the children that there are, and reaps as many, or those that end within some milliseconds. To
    /// look for them again after each would take the square of their number. Whether there are any left.
    fn kill_children(&mut self) -> bool {
        let mut count = children::kill_all();
        loop {
            match pidfd::reap_any() {
                Ok(Some(ended)) => {
                    let _ = self.report(ended);
                    count = count.saturating_sub(1);
                    if count == 0 {
                        return true;
                    }
                }
                Ok(None) => {
                    let more = pidfd::poll(self.child_events.as_raw_fd(), Deadline::after(5_000_000));
                    signal::clear_child_events(&self.child_events);
                    if !more {
                        return true;
                    }
                }
                Err(_) => return false,
            }
        }
    }
}

impl Child {
    /// Does what is due; the earlier of `deadline` and of when the next thing is.
    fn keep_limit(&mut self, deadline: Deadline) -> Deadline {
        let fd = self.pidfd.as_raw_fd();
        match self.limit {
            TimeLimit::Running { due, grace_ns } if due.passed() => {
                let _ = pidfd::signal(fd, libc::SIGTERM);
                self.limit = TimeLimit::Late { due: Deadline::after(grace_ns) };
            }
            TimeLimit::Late { due } if due.passed() => {
                let _ = pidfd::signal(fd, libc::SIGKILL);
                self.limit = TimeLimit::Late { due: Deadline::NEVER };
            }
            _ => (),
        }
        match self.limit {
            TimeLimit::None => deadline,
            TimeLimit::Running { due, .. } | TimeLimit::Late { due } => deadline.min(due),
        }
    }
}
