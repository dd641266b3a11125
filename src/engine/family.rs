//! The family of a pool as its host sees it: one supervisor, and a place for each worker.
//!
//! What the host does when one of them dies:
//!
//! | who | how it is noticed | what follows |
//! |---|---|---|
//! | a worker | `Exited` from the supervisor, who has reaped it | [`Event::Ended`]; the place is filled again |
//! | the supervisor | the end of its messages, or its pidfd | its workers go with it: they are killed once more by pidfd, each is [`Event::Ended`] when its pidfd says so, and a new supervisor is started |
//! | a worker, while somebody has stopped the supervisor | its pidfd, where tasks are under way | the supervisor gets SIGCONT, and tells |
//! | one that has not started yet | the same, or its `start_timeout` | the brake: see [`Brake`] |
//!
//! And when there is not what something takes: descriptors, processes, memory.
//!
//! | what for | what follows |
//! |---|---|
//! | to create the pool | the call fails with the reason |
//! | to start a supervisor or a worker, later | tried again after the brake's pause; with nobody at work for `start_timeout`, [`Event::Starved`] |
//! | to send a message | it waits in its [`Connection`](wire::Connection), whose time does not count as a worker's to answer |
//! | for the descriptors of a message that has come | `Ready`: that supervisor is given up, it has no workers yet. `Started`: the supervisor is asked for it again. `Exited`: the output is lost. The same where they cannot be sent |
//! | to watch a descriptor | it is looked at now and then |

use super::brake::{Brake, HOPELESS};
use super::handover::Handover;
use super::link::Link;
use super::member::{Death, Member, State};
use super::share::{self, Share};
use crate::channel::End;
use crate::error::{Code, Error, Result};
use crate::heap::Heap;
use crate::process::StartMethod;
use crate::process::function::{Callees, Tables};
use crate::process::init;
use crate::process::setup::Settings;
use crate::process::wire::{self, Kind, Message};
use crate::queue::ring::phase;
use crate::sys::children::Command;
use crate::sys::clock::{Deadline, now_ns};
use crate::sys::epoll::Epoll;
use crate::sys::fd::Guarded;
use crate::sys::pidfd::Ended;
use crate::sys::prim::{Ordering, fence};
use crate::sys::{limits, pidfd, reserve, signal};
use std::cell::Cell;
use std::collections::VecDeque;
use std::os::fd::AsRawFd;

/// Tokens of the epoll set: a worker's eventfd is its slot, its pidfd is that and `PIDFDS`.
pub(crate) const SOCKET: u64 = 1 << 32;
pub(crate) const SUPERVISOR: u64 = 2 << 32;
const PIDFDS: u64 = 3 << 32;

/// How long a worker may take to leave in good order when it is replaced.
const LEAVING_NS: u64 = 1_000_000_000;

/// Workers that are being started at a time: their descriptors are on their way, of which there are only so many.
const AT_ONCE: usize = 16;

/// In a family of more, a worker leaves a mark when there is a result in its ring.
const MARKED_FROM: usize = 16;

/// How often to look for a worker that has ended and of which the supervisor has not told.
const UNTOLD_NS: u64 = 250_000_000;

/// How often to look at what cannot be watched, or ask for what was lost.
pub(super) const UNWATCHED_NS: u64 = 5_000_000;

const NO_INIT_HINT: &str = "does the program's main call tine_init before anything else?";

/// What the pool has to deal with.
#[derive(Debug)]
pub(crate) enum Event {
    /// A worker takes tasks from now on.
    Ready(usize),
    /// A worker has ended for sure; its segment can still be looked at until [`Family::bury`].
    Ended(usize, Death),
    /// There has been no worker for as long as a start may take, for want of this; it goes on being tried.
    Starved(Error),
    /// No worker can be started any more.
    Broken(Error),
}

/// A segment that is being shared.
#[derive(Debug, Default)]
struct Sharing {
    /// How many workers had mapped it when that was counted last.
    mapped: usize,
    /// Why one could not.
    failure: Option<Error>,
}

#[derive(Debug)]
pub(crate) struct Family {
    pub(super) settings: Settings,
    program: Option<Command>,
    start_timeout_ns: u64,
    pub(super) link: Option<Link>,
    link_not_before_ns: u64,
    untold_due_ns: u64,
    pub(crate) members: Vec<Member>,
    callees: Option<Callees>,
    brake: Brake,
    pub(super) stopping: bool,
    /// It is a thread of the host's that moves things on, not tine's. The copy of the host that `fork` makes is to have one of
    /// those as its only one.
    pub(crate) host_calls: bool,
    pub(super) events: VecDeque<Event>,
    /// Segments that every worker gets.
    pub(super) shares: Vec<Share>,
    /// While one is being shared: what is known of it.
    sharing: Option<Sharing>,
    /// The end of a channel that whoever is started gets.
    pub(super) end: Option<End>,
    /// How often the kernel has killed for want of memory, as it was counted last.
    oom_kills: u64,
    pub(crate) supervisor_deaths: u64,
    pub(crate) worker_deaths: u64,
    pub(crate) workers_recycled: u64,
    /// How many places are not parked.
    wanted: usize,
    /// What a pass over the members has found; nothing once they may have changed.
    glance: Cell<Option<Glance>>,
}

/// Of all members together.
#[derive(Clone, Copy, Debug)]
struct Glance {
    changing: bool,
    next_deadline: Deadline,
}

impl Family {
    pub(crate) fn new(
        settings: Settings,
        program: Option<Command>,
        start_timeout_ns: u64,
        workers: usize,
    ) -> Result<Family> {
        let members = reserve::collect((0..workers).map(|_| Member::new()))?;
        Ok(Family {
            settings,
            program,
            start_timeout_ns,
            link: None,
            link_not_before_ns: 0,
            untold_due_ns: 0,
            members,
            callees: None,
            brake: Brake::default(),
            stopping: false,
            host_calls: true,
            events: VecDeque::new(),
            shares: Vec::new(),
            sharing: None,
            end: None,
            oom_kills: limits::oom_kills(),
            supervisor_deaths: 0,
            worker_deaths: 0,
            workers_recycled: 0,
            wanted: workers,
            glance: Cell::new(None),
        })
    }

    /// One without any members: its tasks run in this process, and it has nothing to look after.
    pub(crate) fn of_nobody(settings: Settings) -> Result<Family> {
        let callees = Some(Callees::new(Tables::default()));
        Ok(Family { callees, stopping: true, ..Family::new(settings, None, 0, 0)? })
    }

    /// The functions that the workers can call, once a supervisor has been up.
    pub(crate) fn callees(&self) -> Option<&Callees> {
        self.callees.as_ref()
    }

    /// The same, to find a function in.
    pub(crate) fn callees_mut(&mut self) -> Option<&mut Callees> {
        self.callees.as_mut()
    }

    /// Takes in what has happened and moves things on; never blocks.
    pub(crate) fn advance(&mut self, heap: &Heap, epoll: &Epoll) {
        if self.members.is_empty() {
            return;
        }
        self.forget_glance();
        if let Err(error) = self.try_advance(heap, epoll) {
            self.break_down(error);
        }
        self.forget_glance();
    }

    /// The next thing for the pool to deal with.
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether there is something to deal with.
    pub(crate) fn has_event(&self) -> bool {
        !self.events.is_empty()
    }

    /// Asks every worker to tell of what it does from now on; whether there is one that has become ready already. What else
    /// there may be is to be looked for once more.
    pub(crate) fn listen(&self) -> bool {
        self.members
            .iter()
            .filter_map(|member| member.segment.as_ref())
            .for_each(|segment| segment.ask_to_be_told());
        fence(Ordering::SeqCst);
        self.has_news()
    }

    /// Whether a worker has become ready that nobody has been told of.
    pub(crate) fn has_news(&self) -> bool {
        let has_become_ready =
            |member: &Member| matches!(member.state, State::Starting { .. }) && member.has_become_ready();
        self.glance().changing && self.members.iter().any(has_become_ready)
            || self.sharing.as_ref().is_some_and(|sharing| sharing.mapped != self.mapped_count())
    }

    /// Begins to share a segment with all workers; [`Family::shared`] tells how it goes.
    pub(crate) fn share(&mut self, share: Share) -> Result<()> {
        if self.shares.len() == share::MOST {
            let text =
                format!("the pool shares {} segments already, the most that there can be", share::MOST);
            return Err(Error::errno(libc::ENOSPC, text));
        }
        self.sharing = Some(Sharing::default());
        self.shares.push(share);
        let share = &self.shares[self.shares.len() - 1];
        let passed = self.members.iter_mut().try_for_each(|member| member.pass(share));
        if passed.is_err() {
            self.end_sharing(false);
        }
        passed
    }

    /// Whether the segment that is being shared has got to every worker, but for those that are `busy`: they look
    /// before their next task.
    pub(crate) fn shared(&mut self, busy: impl Fn(usize) -> bool) -> Option<Result<()>> {
        let mapped = self.mapped_count();
        let sharing = self.sharing.as_mut()?;
        sharing.mapped = mapped;
        if let Some(failure) = sharing.failure.take() {
            return Some(Err(failure));
        }
        let has = |(slot, member): (usize, &Member)| {
            let vacant = member.parked && matches!(member.state, State::Vacant { .. });
            vacant || member.state == State::Ready && (member.has_mapped() || busy(slot))
        };
        self.members.iter().enumerate().all(has).then_some(Ok(()))
    }

    /// Ends what [`Family::share`] began; workers to come get the segment only if it was `kept`.
    pub(crate) fn end_sharing(&mut self, kept: bool) {
        self.sharing = None;
        if !kept {
            self.shares.pop();
        }
    }

    /// Whether a range lies in a segment that is shared.
    pub(crate) fn is_shared(&self, address: usize, length: usize) -> bool {
        self.shares.iter().any(|share| share.contains(address, length))
    }

    fn mapped_count(&self) -> usize {
        self.members.iter().filter(|member| member.has_mapped()).count()
    }

    fn try_advance(&mut self, heap: &Heap, epoll: &Epoll) -> Result<()> {
        self.take_messages(epoll)?;
        self.look_for_untold();
        self.look_at_members(epoll);
        if !self.stopping {
            self.check_timeouts(epoll);
            if let Err(error) = self.fill_places(heap, epoll) {
                self.could_not_start(error);
            }
        }
        self.tell_supervisor(epoll);
        Ok(())
    }

    /// Sends what waits to be sent.
    fn tell_supervisor(&mut self, epoll: &Epoll) {
        let Some(link) = &mut self.link else { return };
        for (slot, member) in
            self.members.iter_mut().enumerate().filter(|(_, member)| member.asks_for_pidfd())
        {
            member.asks_again = Deadline::after(UNWATCHED_NS);
            let words = [slot as u64, member.generation];
            // Should it fail for good, so does the flush.
            let _ = link.connection.send(Message::new(Kind::StartedAgain, &words));
        }
        self.members.iter_mut().for_each(Member::flush);
        if link.connection.flush().is_err() {
            return self.lose_supervisor(epoll, None);
        }
        let waiting = link.connection.awaits_room();
        if waiting != link.writable_watched
            && epoll.watch_writable(link.connection.fd(), SOCKET, waiting).is_ok()
        {
            link.writable_watched = waiting;
        }
    }

    fn take_messages(&mut self, epoll: &Epoll) -> Result<()> {
        while let Some(link) = &mut self.link {
            match link.connection.receive() {
                Ok(Some(message)) => self.take(message, epoll)?,
                // The socket may be held open by a child of a library's making; the pidfd cannot be.
                Ok(None) if link.has_ended() => match link.connection.receive() {
                    Ok(Some(message)) => self.take(message, epoll)?,
                    _ => self.lose_supervisor(epoll, None),
                },
                Ok(None) => return Ok(()),
                Err(_) => self.lose_supervisor(epoll, None),
            }
        }
        Ok(())
    }

    /// A supervisor that somebody has stopped does not tell that a worker has ended: then it is to go on.
    fn look_for_untold(&mut self) {
        let now = now_ns();
        if now < self.untold_due_ns {
            return;
        }
        self.untold_due_ns = now + UNTOLD_NS;
        let has_ended =
            |member: &Member| member.pidfd.as_ref().is_some_and(|pidfd| pidfd::has_ended(pidfd.as_raw_fd()));
        if self.members.iter().any(has_ended) {
            self.wake_supervisor();
        }
    }

    /// Has the supervisor go on if somebody has stopped it.
    fn wake_supervisor(&self) {
        if let Some(link) = &self.link {
            link.signal(libc::SIGCONT);
        }
    }

    fn take(&mut self, message: Message, epoll: &Epoll) -> Result<()> {
        let [slot, generation, third, fourth, fifth, sixth, seventh] = message.words;
        match message.kind {
            Kind::Ready => {
                let Some(link) = &mut self.link else { return Ok(()) };
                if let Some(pidfd) = &link.pidfd {
                    epoll.remove(pidfd.as_raw_fd());
                }
                let tables = link.is_up(message).and_then(|tables| {
                    link.pidfd.as_ref().map_or(Ok(()), |pidfd| epoll.add(pidfd.as_raw_fd(), SUPERVISOR))?;
                    Ok(tables)
                });
                match (tables, &mut self.callees) {
                    (Ok(tables), Some(callees)) => callees.set_tables(tables),
                    (Ok(tables), callees @ None) => *callees = Some(Callees::new(tables)),
                    (Err(error), _) => {
                        link.up = false;
                        self.lose_supervisor(epoll, Some(error));
                    }
                }
            }
            Kind::Born => {
                let Some(link) = &mut self.link else { return Ok(()) };
                let born = link.is_born(message);
                if let Some(pidfd) = &link.pidfd {
                    // Where that cannot be, the end of its socket says when it has ended, and soon `Ready` comes.
                    let _ = epoll.add(pidfd.as_raw_fd(), SUPERVISOR);
                }
                if let Err(errno) = born {
                    self.drop_link(epoll);
                    self.could_not_start(self.no_supervisor(errno));
                }
            }
            Kind::Gone => {
                if let Some(link) = &mut self.link {
                    link.gone = Some(Ended::from_status(0, slot as i32));
                }
            }
            Kind::Refused => {
                let error = message.error(0);
                let text = format!("the supervisor: {}", error.text());
                self.lose_supervisor(epoll, Some(Error::new(error.code(), text)));
            }
            Kind::Started => {
                if let Some(member) = self.member(slot, generation) {
                    member.pid = third as i32;
                    member.pidfd = message.fds.into_iter().next().map(Guarded::new);
                    member.asks_again = Deadline::after(UNWATCHED_NS);
                }
            }
            Kind::NotStarted => {
                let error = message.error(2);
                if let Some(member) = self.member(slot, generation) {
                    member.vacate(0);
                    self.could_not_start(error);
                }
            }
            Kind::Exited => {
                let wire::How { signal, code, late } = wire::How::from_word(third);
                let mut death = Death::new(fifth as i32, signal, code, fourth);
                (death.user_ns, death.system_ns, death.late) = (sixth, seventh, late);
                if let Some(said) = message.fds.first().and_then(|fd| wire::from_memfd(fd).ok()) {
                    death.set_output(said);
                }
                if signal == libc::SIGKILL {
                    let kills = limits::oom_kills();
                    death.out_of_memory = i32::from(kills > std::mem::replace(&mut self.oom_kills, kills));
                }
                if self.member(slot, generation).is_some() {
                    self.ended(slot as usize, death);
                }
            }
            other => return Err(Error::errno(libc::EPROTO, format!("an unexpected message, {other:?}"))),
        }
        Ok(())
    }

    /// The member that a message is about, if it is still about the same process.
    fn member(&mut self, slot: u64, generation: u64) -> Option<&mut Member> {
        let member = self.members.get_mut(usize::try_from(slot).ok()?)?;
        let alive = !matches!(member.state, State::Vacant { .. } | State::Ended);
        (alive && member.generation == generation).then_some(member)
    }

    fn look_at_members(&mut self, epoll: &Epoll) {
        for slot in 0..self.members.len() {
            let member = &mut self.members[slot];
            match member.state {
                State::Starting { .. } if member.has_become_ready() => {
                    (member.state, member.was_ready) = (State::Ready, true);
                    // Until all are ready for the first time somebody waits for the pool, and wants to know why not.
                    let ever_ready = self.brake.ever_ready || self.all_ready();
                    let own_failures = self.brake.own_failures;
                    self.brake = Brake { ever_ready, own_failures, ..Brake::default() };
                    self.events.push_back(Event::Ready(slot));
                }
                State::Dying => {
                    let Some(pidfd) = &member.pidfd else { continue };
                    if pidfd::has_ended(pidfd.as_raw_fd()) {
                        epoll.remove(pidfd.as_raw_fd());
                        pidfd::reap(pidfd.as_raw_fd());
                        // Nobody is left to say how it ended; the supervisor's death has killed it.
                        let death = Death::new(member.pid, libc::SIGKILL, 0, 0);
                        self.ended(slot, death);
                    }
                }
                _ => (),
            }
        }
    }

    fn ended(&mut self, slot: usize, mut death: Death) {
        let leaving = self.members[slot].leaving;
        // One that took too long to leave was killed by this process, and has lost nothing.
        if leaving.is_some() && death.signal == 0 || leaving == Some(Deadline::NEVER) {
            self.workers_recycled += u64::from(!self.stopping);
        } else {
            self.worker_deaths += u64::from(!self.stopping);
        }
        let member = &mut self.members[slot];
        member.complete(&mut death, self.callees.as_ref());
        // One that has been ready may say this of what is being shared, and nothing more.
        let asked_to_map = !member.was_ready || self.sharing.is_some() && !member.has_mapped();
        let cannot_map = asked_to_map && member.phase() == phase::CANNOT_MAP;
        member.was_ready |= member.phase() == phase::READY;
        let was_ready = member.was_ready;
        // Its program has worked before: what it met was a shortage.
        let fell_short = self.brake.ever_ready && member.fell_short(&death);
        let own_fault = death.signal != libc::SIGKILL && !fell_short;
        let reason = (cannot_map || !was_ready).then(|| member.start_failure(&death));
        // What an initializer's failure says is the user's affair; of a single process it is the answer.
        let is_single = self.settings.job.is_some();
        let code = member.failure_code().filter(|_| is_single).unwrap_or(Code::WORKER_START);
        member.state = State::Ended;
        self.events.push_back(Event::Ended(slot, death));
        if let (true, Some(sharing), Some(reason)) = (cannot_map, &mut self.sharing, &reason) {
            // Whoever shares is told; the place gets a worker without the segment.
            sharing.failure.get_or_insert(Error::errno(libc::EEXIST, reason.clone()));
            return;
        }
        if let Some(reason) = reason.filter(|_| !was_ready && !self.stopping) {
            self.start_failed(slot, own_fault, Error::new(code, reason));
        }
    }

    /// A worker has finished a task, so workers that end are not in a loop.
    pub(crate) fn has_worked(&mut self) {
        self.brake.own_failures = 0;
    }

    /// The pool has dealt with a worker that ended; its place can be filled again. `idle` is one that was ready and
    /// has never begun a task.
    pub(crate) fn bury(&mut self, slot: usize, death: &Death, idle: bool) {
        self.forget_glance();
        let was_ready = self.members[slot].was_ready;
        let asked_to = self.members[slot].leaving.is_some();
        if idle && was_ready && !asked_to && !self.stopping && death.signal != libc::SIGKILL {
            let text = format!("{} before its first task", death.describe());
            self.start_failed(slot, true, Error::new(Code::WORKER_START, text));
        }
        let pause_ns = self.brake.pause_ns();
        self.members[slot].vacate(pause_ns);
    }

    /// Asks a worker that has nothing under way to leave; [`Event::Ended`] follows, and its place is filled again.
    pub(crate) fn retire(&mut self, slot: usize) {
        self.forget_glance();
        self.members[slot].retire(Deadline::after(LEAVING_NS));
    }

    /// Sends a worker a signal; by way of the supervisor where this host may not: it may have become another user since, or have locked
    /// itself in.
    pub(crate) fn signal(&mut self, slot: usize, signal: i32) {
        if self.members[slot].signal(signal).is_err() {
            // Without a supervisor its death has done what could be asked for.
            let _ = self.ask_to_signal(slot, signal);
        }
    }

    /// Has the supervisor send a worker a signal.
    pub(crate) fn ask_to_signal(&mut self, slot: usize, signal: i32) -> Result<()> {
        let Some(link) = &mut self.link else { return Err(Code::errno(libc::ESRCH).into()) };
        let words = [slot as u64, self.members[slot].generation, signal as u64];
        link.connection.send(Message::new(Kind::SignalWorker, &words))
    }

    /// How long a process may take to start.
    pub(crate) fn start_timeout_ns(&self) -> u64 {
        self.start_timeout_ns
    }

    /// Ends a worker that cannot be trusted any more, or does not end by itself; [`Event::Ended`] follows.
    pub(crate) fn kill(&mut self, slot: usize) {
        self.signal(slot, libc::SIGKILL);
        self.wake_supervisor();
    }

    /// The supervisor is gone, or of no use; with why, where that is known.
    fn lose_supervisor(&mut self, epoll: &Epoll, why: Option<Error>) {
        let Some((was_up, how)) = self.drop_link(epoll) else { return };
        self.supervisor_deaths += u64::from(!self.stopping);
        for slot in 0..self.members.len() {
            let member = &mut self.members[slot];
            let is_known = member.renew_pidfd();
            match (member.state, &member.pidfd) {
                (State::Vacant { .. } | State::Ended, _) => (),
                // Nothing is left by which its end could be seen, but that its supervisor takes it along.
                (State::Starting { .. } | State::Ready | State::Dying, Some(_)) if !is_known => {
                    let death = Death::new(member.pid, libc::SIGKILL, 0, 0);
                    self.ended(slot, death);
                }
                (State::Dying, _) => (),
                (_, Some(pidfd)) => {
                    let _ = pidfd::signal(pidfd.as_raw_fd(), libc::SIGKILL);
                    let _ = epoll.add(pidfd.as_raw_fd(), PIDFDS | slot as u64);
                    member.state = State::Dying;
                }
                // Never given a task, and it goes with its supervisor.
                (_, None) => member.vacate(0),
            }
        }
        if was_up || self.stopping {
            return;
        }
        match why {
            // It would say so each time.
            Some(error) if error.code() == Code::VERSION => self.break_down(error),
            Some(error) => self.could_not_start(error),
            None => {
                // Nobody but itself ends it by anything else than SIGKILL; a program that has worked may fall short.
                let own_fault = how.is_some_and(|how| how.signal != libc::SIGKILL);
                let fell_short =
                    self.brake.ever_ready && how.is_some_and(|how| init::fell_short(how.signal, how.code));
                let how = match how {
                    Some(Ended { signal: 0, code, .. }) => format!("exited with code {code}"),
                    Some(Ended { signal, .. }) => format!("was ended by {}", signal::name(signal)),
                    None => "ended".to_owned(),
                };
                let text = format!("the supervisor {how} before it was up: {NO_INIT_HINT}");
                let error = Error::new(Code::WORKER_START, text);
                self.start_failed(usize::MAX, own_fault && !fell_short, error);
            }
        }
    }

    /// Lets go of the supervisor, which has ended or is to; whether it was up, and how it ended, where that is known.
    fn drop_link(&mut self, epoll: &Epoll) -> Option<(bool, Option<Ended>)> {
        let link = self.link.take()?;
        epoll.remove(link.connection.fd());
        if let Some(pidfd) = &link.pidfd {
            epoll.remove(pidfd.as_raw_fd());
        }
        let known = (link.up, link.gone);
        link.finish(Deadline(0));
        Some(known)
    }

    /// Why there is no supervisor.
    fn no_supervisor(&self, errno: i32) -> Error {
        let what = match (&self.program, self.settings.start) {
            (Some(command), _) => format!("starting {}", command.path.to_string_lossy()),
            (None, StartMethod::Fork) => "fork".to_owned(),
            (None, _) if errno == libc::ENOENT => {
                "starting this program once more takes /proc (.worker_path and the start method fork do not)"
                    .to_owned()
            }
            (None, _) => "starting this program once more".to_owned(),
        };
        let why = Code::errno(errno);
        let text = format!("{what}: {}", why.text().to_string_lossy());
        Error::new(start_code(&why.into()), text)
    }

    fn start_failed(&mut self, slot: usize, own_fault: bool, reason: Error) {
        let since = *self.brake.since_ns.get_or_insert_with(now_ns);
        if own_fault {
            self.brake.own_failures += 1;
        } else {
            self.brake.killed += 1;
        }
        let enough = if self.brake.ever_ready { 3 } else { 1 };
        let now = now_ns();
        let too_long = now.saturating_sub(since) > self.start_timeout_ns;
        let hopeless = !self.brake.ever_ready && self.brake.killed >= HOPELESS;
        // Workers that do work are not ended for the sake of one that does not come up.
        let others = self.members.iter().any(|member| member.state == State::Ready);
        let may_go_on = others && self.brake.ever_ready;
        if may_go_on {
            self.brake.since_ns = Some(now);
        } else if self.brake.own_failures >= enough || hopeless || too_long && !self.brake.ever_ready {
            return self.break_down(reason);
        } else if too_long {
            self.brake.since_ns = Some(now);
            self.events.push_back(Event::Starved(reason));
        }
        if slot == usize::MAX {
            self.link_not_before_ns = now + self.brake.pause_ns();
        }
    }

    /// The machine did not give what a process takes. At first that is the answer; later it may pass.
    fn could_not_start(&mut self, error: Error) {
        let text = error.text().into_owned();
        if !self.brake.ever_ready {
            return self.break_down(Error::new(start_code(&error), text));
        }
        self.start_failed(usize::MAX, false, Error::new(Code::WORKER_START, text));
        let pause_ns = self.brake.pause_ns();
        for member in &mut self.members {
            if matches!(member.state, State::Vacant { .. }) {
                member.vacate(pause_ns);
            }
        }
    }

    fn break_down(&mut self, error: Error) {
        if !self.stopping {
            self.events.push_back(Event::Broken(error));
        }
        self.stopping = true;
        (0..self.members.len()).for_each(|slot| self.kill(slot));
    }

    fn check_timeouts(&mut self, epoll: &Epoll) {
        let seconds = self.start_timeout_ns as f64 / 1e9;
        if let Some(link) = self.link.as_mut().filter(|link| !link.up && link.deadline.passed()) {
            link.kill();
            let text = format!("the supervisor did not report within {seconds} s: {NO_INIT_HINT}");
            return self.lose_supervisor(epoll, Some(Error::new(Code::WORKER_START, text)));
        }
        let unsent = self.link.as_ref().is_some_and(|link| link.connection.is_waiting());
        for slot in 0..self.members.len() {
            if self.members[slot].leaving.is_some_and(Deadline::passed) {
                self.kill(slot);
                self.members[slot].leaving = Some(Deadline::NEVER);
            }
            let member = &self.members[slot];
            let late = matches!(member.state, State::Starting { deadline } if deadline.passed());
            if !late {
                continue;
            }
            // Either it is this process that has not told, or has not heard: nobody's fault.
            if unsent && member.pid == 0 || member.pid != 0 && member.pidfd.is_none() {
                self.members[slot].state =
                    State::Starting { deadline: Deadline::after(self.start_timeout_ns) };
                continue;
            }
            self.kill(slot);
            let member = &mut self.members[slot];
            if let (None, Some(pidfd)) =
                (&member.pidfd, self.link.as_ref().and_then(|link| link.pidfd.as_ref()))
            {
                // The supervisor itself does not answer; the next one will.
                let _ = pidfd::signal(pidfd.as_raw_fd(), libc::SIGKILL);
            }
            if !self.brake.ever_ready {
                let text = format!("worker {} was not ready within {seconds} s", member.pid);
                return self.break_down(Error::new(Code::WORKER_START, text));
            }
            // Its end is a failed start like any other.
            member.state = State::Starting { deadline: Deadline::NEVER };
        }
    }

    fn fill_places(&mut self, heap: &Heap, epoll: &Epoll) -> Result<()> {
        if self.link.is_none() {
            if now_ns() < self.link_not_before_ns || !self.may_be_born() {
                return Ok(());
            }
            if heap.fd() < 0 {
                // For good: without it nobody can be given the heap.
                let text = "the program has closed the pool's descriptors, so that no worker can be started";
                self.break_down(Error::new(Code::WORKER_START, text));
                return Ok(());
            }
            let link = Link::start(&self.settings, self.program.as_ref(), heap, self.start_timeout_ns);
            let link = link?;
            if let Err(error) = epoll.add(link.connection.fd(), SOCKET) {
                link.finish(Deadline(0));
                return Err(error);
            }
            self.link = Some(link);
        }
        let Some(link) = &mut self.link else { return Ok(()) };
        let unanswered =
            |member: &Member| matches!(member.state, State::Starting { .. }) && member.pidfd.is_none();
        let mut room =
            AT_ONCE.saturating_sub(self.members.iter().filter(|member| unanswered(member)).count());
        let marked = self.members.len() > MARKED_FROM;
        for (slot, member) in self.members.iter_mut().enumerate() {
            let State::Vacant { not_before_ns } = member.state else { continue };
            if member.parked || room == 0 || (not_before_ns != 0 && now_ns() < not_before_ns) {
                continue;
            }
            let mark = if marked { slot as u32 + 1 } else { 0 };
            let fds = member.prepare(slot as u64, epoll, self.start_timeout_ns, &self.shares, mark)?;
            if let Some(end) = &self.end {
                let passed = Handover::new().and_then(|handover| {
                    handover.put(end)?;
                    member.pass_handover(&handover)
                });
                passed.inspect_err(|_| member.vacate(0))?;
            }
            let words = [slot as u64, member.generation];
            let message = Message::new(Kind::StartWorker, &words).with_fds(fds);
            if let Err(error) = link.connection.try_send(message) {
                member.vacate(0);
                return Err(error);
            }
            room -= 1;
        }
        Ok(())
    }

    /// Whether a supervisor can be started by this call.
    fn may_be_born(&self) -> bool {
        self.host_calls || self.settings.start != StartMethod::Fork
    }

    /// Whether a process is about to come up or to end, which nobody may be able to tell of.
    pub(crate) fn is_changing(&self) -> bool {
        let link = self.link.as_ref().is_some_and(|link| !link.up);
        link || self.glance().changing
    }

    /// When something is due even if nothing happens.
    pub(crate) fn next_deadline(&self) -> Deadline {
        if self.stopping {
            return Deadline::NEVER;
        }
        let link = match &self.link {
            None if !self.may_be_born() => Deadline::NEVER,
            None => Deadline(self.link_not_before_ns.max(1)),
            Some(link) => link.next_deadline(),
        };
        link.min(self.glance().next_deadline)
    }

    /// The members, looked at once for as long as they stay as they are.
    fn glance(&self) -> Glance {
        if let Some(glance) = self.glance.get() {
            return glance;
        }
        let changing = |member: &Member| matches!(member.state, State::Starting { .. } | State::Dying);
        let deadlines = self.members.iter().map(|member| match member.state {
            State::Vacant { not_before_ns } if not_before_ns != 0 && !member.parked => {
                Deadline(not_before_ns)
            }
            State::Starting { .. } if member.wants_pidfd() => member.asks_again,
            State::Starting { deadline } => deadline,
            State::Dying => Deadline::after(UNWATCHED_NS),
            _ => member.leaving.unwrap_or(Deadline::NEVER),
        });
        let next_deadline = deadlines.fold(Deadline::NEVER, Deadline::min);
        let glance = Glance { changing: self.members.iter().any(changing), next_deadline };
        self.glance.set(Some(glance));
        glance
    }

    /// Something of the members' changes.
    pub(super) fn forget_glance(&mut self) {
        self.glance.set(None);
    }

    /// Gives an end of a channel to everybody who is started from now on. The one in here is closed when nobody is any more.
    pub(crate) fn give_end(&mut self, end: End) {
        self.end = Some(end);
    }

    /// Whether every place has a worker that takes tasks.
    pub(crate) fn all_ready(&self) -> bool {
        self.members.iter().all(|member| member.parked || member.state == State::Ready)
    }

    /// Leaves places vacant from this one on.
    pub(crate) fn park_from(&mut self, first: usize) {
        self.members.iter_mut().skip(first).for_each(|member| member.parked = true);
        self.count_wanted();
    }

    /// Places that are not parked.
    pub(crate) fn wanted_count(&self) -> usize {
        self.wanted
    }

    /// How many words of the marks say in whose rings there are results; `None` where that of a few workers is not said.
    pub(crate) fn mark_words(&self) -> Option<usize> {
        let count = self.members.len();
        (count > MARKED_FROM).then_some(count.div_ceil(64))
    }

    /// Has so many more places filled, as far as there are any; whether there were.
    pub(crate) fn unpark(&mut self, count: usize) -> bool {
        let vacant = |member: &&mut Member| member.parked && matches!(member.state, State::Vacant { .. });
        let places: Vec<&mut Member> = self.members.iter_mut().filter(vacant).take(count).collect();
        let any = !places.is_empty();
        places.into_iter().for_each(|member| member.parked = false);
        self.count_wanted();
        any
    }

    /// Leaves the place of a worker vacant that is asked to leave.
    pub(crate) fn park(&mut self, slot: usize) {
        self.members[slot].parked = true;
        self.count_wanted();
    }

    fn count_wanted(&mut self) {
        self.wanted = self.members.iter().filter(|member| !member.parked).count();
        self.forget_glance();
    }

    pub(crate) fn ready_count(&self) -> usize {
        self.members.iter().filter(|member| member.state == State::Ready).count()
    }
}

/// A start that failed for a reason of its own keeps it; what says nothing to the caller is a failed start.
fn start_code(error: &Error) -> Code {
    match -error.code().0 {
        libc::ENOMEM | libc::EMFILE | libc::ENFILE => error.code(),
        _ if error.code().0 < -4095 => error.code(),
        _ => Code::WORKER_START,
    }
}
