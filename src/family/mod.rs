//! The family of a pool as its host sees it: one supervisor, and a place for each worker.
//!
//! What the host does when one of them dies:
//!
//! | what has died | how it is noticed | what follows |
//! |---|---|---|
//! | a worker | `Exited` from the supervisor, which has reaped it | [`Event::Ended`]; the place is filled again |
//! | the supervisor | the end of its messages, or its pidfd | its workers go with it: they are killed once more by pidfd, each is [`Event::Ended`] when its pidfd says so, and a new supervisor is started. What they had started is the keeper's then; the host kills that in rounds, one with each look ([`Keeper::kill_left`](crate::sys::spawn::Keeper::kill_left)) |
//! | a worker, while the supervisor is stopped | its pidfd, where tasks are under way | the supervisor gets SIGCONT, and reports it |
//! | a worker that has not started yet | as for a worker, or by its `start_timeout` | the back-off: see [`RestartBackoff`] |
//! | a worker that cannot have what it was passed after its start | as for a worker; it has left word | as for a worker, and no back-off: it is not the program's fault |
//!
//! And when descriptors, processes or memory are short:
//!
//! | short for | what follows |
//! |---|---|
//! | to create the pool | the call fails with the reason |
//! | to start a supervisor or a worker, later | tried again after the back-off's pause; with no worker for `start_timeout`, [`Event::Starved`] |
//! | to send a message | it waits in its [`Connection`](wire::Connection), whose time does not count as a worker's to answer |
//! | for the descriptors of a message that has come | `Ready`: that supervisor is given up, it has no workers yet. `Started`: the supervisor is asked for it again. `Exited`: the output is lost. So, too, where they cannot be sent |
//! | to watch a descriptor | it is looked at now and then |

mod deaths;
pub(crate) mod link;
pub(crate) mod member;
mod messages;
pub(crate) mod options;
mod restart_backoff;
pub(crate) mod sharing;
pub(crate) mod shutdown;
mod starting;

use crate::channel::End;
use crate::error::{Error, Result};
use crate::heap::Heap;
use crate::inspect::page::{Page, Shown, state as shown};
use crate::sys::children::Command;
use crate::sys::clock::{Deadline, now_ns};
use crate::sys::epoll::{Epoll, Waited};
use crate::sys::prim::{Ordering, fence};
use crate::sys::{pidfd, reserve, signal};
use crate::task::callees::Callees;
use crate::task::death::Death;
use crate::task::function::Tables;
use crate::task::program;
use crate::task::settings::Settings;
use crate::task::share::Share;
use deaths::Left;
use link::Link;
use member::{Member, MemberState};
use restart_backoff::RestartBackoff;
use sharing::{Sharing, Trial};
use std::cell::Cell;
use std::collections::VecDeque;
use std::os::fd::AsRawFd;
use std::sync::Arc;

/// Tokens of the epoll set: a worker's eventfd is its slot, its pidfd is that and `PIDFDS`.
pub(crate) const SOCKET: u64 = 1 << 32;
pub(crate) const SUPERVISOR: u64 = 2 << 32;
const PIDFDS: u64 = 3 << 32;

/// Whether what a wait on the family's set has brought is more than that workers have results, or have been told to tell something: then
/// the family is to be looked after, which takes a look at each member.
pub(crate) fn tells(waited: &Result<Waited>, tokens: &[u64; 32]) -> bool {
    match waited {
        Ok(Waited::Ready(count)) => tokens.iter().take(*count).any(|token| *token >= SOCKET),
        Ok(Waited::TimedOut | Waited::Interrupted) => false,
        Err(_) => true,
    }
}

/// In a family of more, a worker leaves a mark when there is a result in its ring.
const MARKED_FROM: usize = 16;

/// How often to look for a worker that has ended and of which the supervisor has not told.
const UNTOLD_NS: u64 = 250_000_000;

/// How often to look at what cannot be watched, or ask for what was lost.
pub(super) const UNWATCHED_NS: u64 = 5_000_000;

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

/// What a copy of the host does that is to be the supervisor; it is given its socket.
pub(crate) type Entry = fn(i32) -> !;

#[derive(Debug)]
pub(crate) struct Family {
    /// In which the sockets and descriptors are by which the family tells of itself.
    epoll: Arc<Epoll>,
    pub(super) settings: Settings,
    program: Option<Command>,
    entry: Entry,
    start_timeout_ns: u64,
    pub(super) link: Option<Link>,
    /// What supervisors have left that are gone.
    left: Vec<Left>,
    link_not_before_ns: u64,
    untold_due_ns: u64,
    pub(crate) members: Vec<Member>,
    callees: Option<Callees>,
    backoff: RestartBackoff,
    pub(super) stopping: bool,
    /// It is a thread of the host's that moves things on, not tine's. The copy of the host that `fork` makes is to have one of
    /// those as its only one.
    pub(crate) host_calls: bool,
    pub(super) events: VecDeque<Event>,
    /// Segments that every worker gets.
    pub(super) shares: Vec<Share>,
    /// The call that shares a segment, if there is one, and segments that workers may have to give back.
    sharing: Option<Sharing>,
    trials: Vec<Trial>,
    last_trial: u64,
    /// The end of a channel that each process which is started gets.
    pub(super) end: Option<End>,
    /// How often the kernel has killed for want of memory, as it was counted last; first when a supervisor is up.
    oom_kills: Option<u64>,
    pub(crate) supervisor_deaths: u64,
    pub(crate) worker_deaths: u64,
    pub(crate) workers_recycled: u64,
    /// How many places are not parked.
    wanted: usize,
    /// Where others see what there is.
    pub(crate) page: Option<Arc<Page>>,
    /// Its workers look at the clock for each task.
    pub(crate) traced: bool,
    /// What a pass over the members has found; nothing once they may have changed.
    glance: Cell<Option<Glance>>,
}

/// Of all members together.
#[derive(Clone, Copy, Debug)]
struct Glance {
    changing: bool,
    next_deadline: Deadline,
    /// When to send workers what has waited.
    messages_due: Deadline,
}

impl Family {
    pub(crate) fn new(
        epoll: Arc<Epoll>,
        settings: Settings,
        program: Option<Command>,
        start_timeout_ns: u64,
        workers: usize,
        entry: Entry,
    ) -> Result<Family> {
        let members = reserve::collect((0..workers).map(|_| Member::new()))?;
        Ok(Family {
            epoll,
            settings,
            program,
            entry,
            start_timeout_ns,
            link: None,
            left: Vec::new(),
            link_not_before_ns: 0,
            untold_due_ns: 0,
            members,
            callees: None,
            backoff: RestartBackoff::default(),
            stopping: false,
            host_calls: true,
            events: VecDeque::new(),
            shares: Vec::new(),
            sharing: None,
            trials: Vec::new(),
            last_trial: 0,
            end: None,
            oom_kills: None,
            supervisor_deaths: 0,
            worker_deaths: 0,
            workers_recycled: 0,
            wanted: workers,
            page: None,
            traced: false,
            glance: Cell::new(None),
        })
    }

    /// One without any members: its tasks run in this process, and it has nothing to look after.
    pub(crate) fn of_nobody(epoll: Arc<Epoll>, settings: Settings) -> Result<Family> {
        let callees = Some(Callees::new(Tables::default()));
        Ok(Family {
            callees,
            stopping: true,
            ..Family::new(epoll, settings, None, 0, 0, |_| signal::exit_now(program::GAVE_UP))?
        })
    }

    /// The set in which a thread sleeps that waits for news of the family.
    pub(crate) fn epoll(&self) -> &Arc<Epoll> {
        &self.epoll
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
    pub(crate) fn advance(&mut self, heap: &Heap) {
        if self.members.is_empty() {
            return;
        }
        self.forget_glance();
        let epoll = Arc::clone(&self.epoll);
        if let Err(error) = self.try_advance(heap, &epoll) {
            self.break_down(error);
        }
        self.forget_glance();
        self.show();
    }

    /// Lets others see what there is now.
    fn show(&self) {
        let Some(page) = &self.page else { return };
        page.show_deaths(self.worker_deaths, self.workers_recycled, self.supervisor_deaths);
        page.show_places(self.members.iter().map(|member| Shown {
            state: match member.state {
                MemberState::Vacant { .. } if member.parked => shown::PARKED,
                MemberState::Vacant { .. } => shown::VACANT,
                MemberState::Starting { .. } => shown::STARTING,
                MemberState::Ready if member.leaving.is_some() => shown::LEAVING,
                MemberState::Ready => shown::READY,
                MemberState::Dying => shown::DYING,
                MemberState::Ended => shown::ENDED,
            },
            pid: member.pid as u32,
            generation: member.generation,
        }));
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

    /// Whether a worker has become ready that the pool has not been told of.
    pub(crate) fn has_news(&self) -> bool {
        let has_become_ready = |member: &Member| {
            matches!(member.state, MemberState::Starting { .. }) && member.has_become_ready()
        };
        self.glance().changing && self.members.iter().any(has_become_ready) || self.has_answers()
    }

    fn try_advance(&mut self, heap: &Heap, epoll: &Arc<Epoll>) -> Result<()> {
        self.take_messages(epoll)?;
        self.look_for_untold();
        self.end_what_is_left();
        self.look_at_members(epoll);
        self.take_back_what_is_due();
        if !self.stopping {
            self.check_timeouts(epoll);
            if let Err(error) = self.fill_places(heap, epoll) {
                self.could_not_start(error);
            }
        }
        self.tell_supervisor(epoll);
        Ok(())
    }

    /// A stopped supervisor does not report that a worker has ended: then it is continued.
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

    /// Continues the supervisor if it is stopped.
    fn wake_supervisor(&self) {
        if let Some(link) = &self.link {
            link.signal(libc::SIGCONT);
        }
    }

    /// A worker has finished a task, so workers that end are not in a loop.
    pub(crate) fn has_worked(&mut self) {
        self.backoff.own_failures = 0;
    }

    /// How long a process may take to start.
    pub(crate) fn start_timeout_ns(&self) -> u64 {
        self.start_timeout_ns
    }

    /// Whether a process is about to come up or to end, which may go unreported.
    pub(crate) fn is_changing(&self) -> bool {
        let link = self.link.as_ref().is_some_and(|link| !link.up);
        link || self.glance().changing
    }

    /// When something is due even if nothing happens.
    #[inline]
    pub(crate) fn next_deadline(&self) -> Deadline {
        let left = if self.left.is_empty() { Deadline::NEVER } else { Deadline::after(UNWATCHED_NS) };
        if self.stopping {
            // Nothing is started any more; what is to be sent still is.
            return self.link.as_ref().map_or(Deadline::NEVER, Link::unsent_due).min(left);
        }
        let link = match &self.link {
            None if !self.may_be_born() => Deadline::NEVER,
            None => Deadline(self.link_not_before_ns.max(1)),
            Some(link) => link.next_deadline(),
        };
        link.min(self.glance().next_deadline).min(self.messages_due()).min(left)
    }

    /// When workers are to be sent something though nothing happens.
    #[inline]
    pub(crate) fn messages_due(&self) -> Deadline {
        self.next_take_back().min(self.glance().messages_due)
    }

    /// The members, looked at once for as long as they stay as they are.
    #[inline]
    fn glance(&self) -> Glance {
        self.glance.get().unwrap_or_else(|| self.take_a_glance())
    }

    #[cold]
    fn take_a_glance(&self) -> Glance {
        let changing =
            |member: &Member| matches!(member.state, MemberState::Starting { .. } | MemberState::Dying);
        let deadlines = self.members.iter().map(|member| match member.state {
            MemberState::Vacant { not_before_ns } if not_before_ns != 0 && !member.parked => {
                Deadline(not_before_ns)
            }
            MemberState::Starting { .. } if member.wants_pidfd() => member.asks_again,
            MemberState::Starting { deadline } => deadline,
            MemberState::Dying => Deadline::after(UNWATCHED_NS),
            _ => member.leaving.unwrap_or(Deadline::NEVER),
        });
        let next_deadline = deadlines.fold(Deadline::NEVER, Deadline::min);
        let messages_due = self.members.iter().map(Member::messages_due).fold(Deadline::NEVER, Deadline::min);
        let changing = self.members.iter().any(changing);
        let glance = Glance { changing, next_deadline, messages_due };
        self.glance.set(Some(glance));
        glance
    }

    /// Something of the members' changes.
    pub(super) fn forget_glance(&mut self) {
        self.glance.set(None);
    }

    /// Gives an end of a channel to each process that is started from now on. The copy in here is closed when none will be.
    pub(crate) fn give_end(&mut self, end: End) {
        self.end = Some(end);
    }

    /// Whether every place has a worker that takes tasks.
    pub(crate) fn all_ready(&self) -> bool {
        self.members.iter().all(|member| member.parked || member.state == MemberState::Ready)
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
        let vacant =
            |member: &&mut Member| member.parked && matches!(member.state, MemberState::Vacant { .. });
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
        self.members.iter().filter(|member| member.state == MemberState::Ready).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn results_are_no_reason_to_look_after_the_family() {
        let mut tokens = [0; 32];
        tokens[1] = SUPERVISOR;
        assert!(!tells(&Ok(Waited::TimedOut), &tokens) && !tells(&Ok(Waited::Interrupted), &tokens));
        assert!(!tells(&Ok(Waited::Ready(1)), &tokens), "what stands behind is of an earlier wait");
        assert!(tells(&Ok(Waited::Ready(2)), &tokens));
        assert!(tells(&Err(Code::errno(libc::EBADF).into()), &tokens), "nobody can say");
    }
}
