//! One place for a worker in the family, and the processes that fill it one after the other.
//!
//! ```text
//!   VACANT    no process. Its time has come, or a pause after a failed start is on
//!     | StartWorker sent
//!   STARTING  a segment exists; the process may exist; `start_timeout` runs
//!     | the segment's phase is READY, and `Started` has brought the pidfd
//!   READY     takes tasks
//!     | `Exited`, or (when the supervisor is gone) the pidfd says so: from STARTING and READY alike
//!   ENDED     the pool deals with what is in the ring
//!     | buried
//!   VACANT    the segment is gone
//!
//!             One that is parked stays vacant until more workers are wanted
//!
//!   DYING     the supervisor is gone while STARTING or READY: killed, waiting for the pidfd; then as above
//! ```

use super::UNWATCHED_NS;
use super::sharing::{Trial, TrialId};
use crate::error::{Code, Error, Result};
use crate::sys::clock::{Deadline, now_ns};
use crate::sys::epoll::{Epoll, Watched};
use crate::sys::fd::{self, Guarded};
use crate::sys::prim::Ordering;
use crate::sys::thread::Uncancelled;
use crate::sys::{pidfd, reserve, socket};
use crate::task::callees::Callees;
use crate::task::death::Death;
use crate::task::handover::Handover;
use crate::task::program;
use crate::task::ring::{CrashRecord, FRAMES, Segment, phase};
use crate::task::share::{self, Share};
use crate::task::wire::{Connection, Message};
use std::fmt::Write as _;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

/// One of which so many messages are unanswered is passed no further trial. It is enough for all segments of a pool and what goes with them,
/// and few enough for the socket.
const MOST_UNANSWERED: u32 = 2 * share::MOST as u32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemberState {
    Vacant { not_before_ns: u64 },
    Starting { deadline: Deadline },
    Ready,
    Dying,
    Ended,
}

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) state: MemberState,
    /// Counts the processes of this place, so that late news of an earlier one is known as such.
    pub(crate) generation: u64,
    /// The host has seen it ready: from then on nothing that it writes makes it a start that failed.
    pub(crate) was_ready: bool,
    /// The place stays vacant until the pool wants a worker there: see [`super::Family::unpark`].
    pub(crate) parked: bool,
    /// It has been asked to leave, and until when it should have.
    pub(crate) leaving: Option<Deadline>,
    pub(crate) segment: Option<Segment>,
    event: Option<Watched>,
    /// By which the process gets the segments that the pool shares, and a [`Handover`].
    control_socket: Option<Connection>,
    /// How many messages it has been passed there. Some of them may wait in the host still.
    passed: u32,
    /// How many it has been told of. What waits in the host is none of them but for what it was passed before its start: a worker that was
    /// told of a message waits for it.
    announced: u32,
    /// How many of them it cannot do without; a segment that comes later may be taken back.
    required: u32,
    /// Trials that it was passed, and by which message: see [`super::sharing`].
    trials: Vec<(TrialId, u32)>,
    /// It has ended for want of what it was passed, of which nobody is to hold it against the program: see [`Member::gives_up`].
    pub(crate) gave_up: bool,
    /// When its supervisor is asked once more for its pidfd, for which this process had no room.
    pub(super) asks_again: Deadline,
    pub(crate) pid: i32,
    /// A single process's handle has it too.
    pub(crate) pidfd: Option<Arc<Guarded>>,
}

impl Member {
    pub(crate) fn new() -> Member {
        let state = MemberState::Vacant { not_before_ns: 0 };
        Member {
            state,
            generation: 0,
            was_ready: false,
            parked: false,
            leaving: None,
            segment: None,
            event: None,
            control_socket: None,
            passed: 0,
            announced: 0,
            required: 0,
            trials: Vec::new(),
            gave_up: false,
            asks_again: Deadline::NEVER,
            pid: 0,
            pidfd: None,
        }
    }

    /// A fresh segment for the next process, and a fresh eventfd, of which `token` will tell: a process can fill the one
    /// that it has, or make it block. It gets these `shares`, and the trial that a call waits for. Returns the descriptors that go to it.
    pub(super) fn prepare(
        &mut self,
        token: u64,
        epoll: &Arc<Epoll>,
        start_timeout_ns: u64,
        (shares, trial): (&[Share], Option<&Trial>),
        mark: u32,
    ) -> Result<Vec<OwnedFd>> {
        let (segment, fd) = Segment::create()?;
        let event = fd::eventfd()?;
        let copy = event.try_clone().map_err(|error| Error::from_io("dup", &error))?;
        self.event = Some(epoll.watch(event, token)?);
        let (ours, theirs) = socket::pair()?;
        let mut control_socket = Connection::new(ours);
        for share in shares {
            control_socket.try_send(share.message()?)?;
        }
        (self.passed, self.required) = (shares.len() as u32, shares.len() as u32);
        self.trials.clear();
        if let Some(trial) = trial {
            reserve::grow(&mut self.trials, 1)?;
            control_socket.try_send(trial.share.message()?)?;
            self.trials.push((trial.id, self.passed));
            self.passed += 1;
        }
        self.announced = self.passed;
        segment.messages_sent.store(self.announced, Ordering::Release);
        segment.mark.store(mark, Ordering::Relaxed);
        self.control_socket = Some(control_socket);
        // The first news is that it is ready.
        segment.ask_to_be_told();
        self.generation += 1;
        self.segment = Some(segment);
        self.pid = 0;
        self.pidfd = None;
        self.leaving = None;
        (self.was_ready, self.gave_up) = (false, false);
        self.state = MemberState::Starting { deadline: Deadline::after(start_timeout_ns) };
        Ok(vec![fd, copy, theirs])
    }

    /// Passes a trial to the process, if it takes any more and has not been passed it.
    pub(super) fn pass(&mut self, trial: &Trial) -> Result<()> {
        if !self.lacks(trial.id) {
            return Ok(());
        }
        // Any thread that moves the pool on may come here, also in a call that can be cancelled elsewhere.
        let _uncancelled = Uncancelled::new();
        reserve::grow(&mut self.trials, 1)?;
        let number = self.passed;
        self.tell(trial.share.message()?, Connection::try_send)?;
        self.trials.push((trial.id, number));
        Ok(())
    }

    /// Has the process give a trial back, if it was passed it.
    pub(super) fn take_back(&mut self, trial: &Trial) {
        let Some(number) = self.number_of(trial.id) else { return };
        self.forget(trial.id);
        let message = trial.share.take_back();
        let behind = self.passed - number - 1;
        if let Some(waiting) =
            self.control_socket.as_mut().and_then(|control_socket| control_socket.waiting_before(behind))
        {
            // A task may need as many as there are: so many the worker gets.
            *waiting = message;
            return;
        }
        // It needs no descriptor, so no shortage loses it. A worker that cannot be sent anything any more is not asked to run tasks.
        let _ = self.tell(message, Connection::send);
    }

    /// The pool has that segment now.
    pub(super) fn forget(&mut self, trial: TrialId) {
        self.trials.retain(|(id, _)| *id != trial);
    }

    /// Passes to the process what it gets the ends of channels by.
    pub(crate) fn pass_handover(&mut self, handover: &Handover) -> Result<()> {
        self.tell(handover.message()?, Connection::try_send)
    }

    fn tell(&mut self, message: Message, send: fn(&mut Connection, Message) -> Result<()>) -> Result<()> {
        if let (Some(control_socket), Some(_)) = (&mut self.control_socket, &self.segment) {
            send(control_socket, message)?;
            self.passed += 1;
            self.announce();
        }
        Ok(())
    }

    /// Tells the process of what has got into the socket since it was told last.
    fn announce(&mut self) {
        let waiting = self.control_socket.as_ref().map_or(0, Connection::waiting_count) as u32;
        self.announce_first(self.passed.saturating_sub(waiting));
    }

    /// Tells the process, which is about to be started, of all that it is passed: it is not ready without that.
    pub(super) fn announce_all(&mut self) {
        self.announce_first(self.passed);
    }

    fn announce_first(&mut self, count: u32) {
        if let Some(segment) = self.segment.as_ref().filter(|_| count > self.announced) {
            self.announced = count;
            segment.ask_to_be_told();
            segment.messages_sent.store(count, Ordering::Release);
            segment.wake_worker();
        }
    }

    /// How many messages the process is to have dealt with before it begins a task that it is given now.
    #[inline]
    pub(crate) fn messages_needed(&self) -> u32 {
        self.passed
    }

    /// When to flush though nothing happens. Nobody watches whether the socket can be written.
    pub(super) fn messages_due(&self) -> Deadline {
        match &self.control_socket {
            Some(control_socket) if control_socket.awaits_room() => Deadline::after(UNWATCHED_NS),
            Some(control_socket) => control_socket.next_try(),
            None => Deadline::NEVER,
        }
    }

    /// Passes what found no room before. What cannot be passed any more, its end says.
    pub(super) fn flush(&mut self) {
        if let Some(control_socket) =
            self.control_socket.as_mut().filter(|control_socket| control_socket.is_waiting())
        {
            let _ = control_socket.flush();
            self.announce();
        }
    }

    /// Nothing more is passed to the process, and it need not tell of anything but its end.
    pub(crate) fn fall_silent(&mut self) {
        (self.control_socket, self.event) = (None, None);
    }

    /// How many messages the process says to have dealt with.
    fn done(&self) -> u32 {
        self.segment.as_ref().map_or(0, |segment| segment.messages_done.load(Ordering::Acquire))
    }

    fn number_of(&self, trial: TrialId) -> Option<u32> {
        self.trials.iter().find(|(id, _)| *id == trial).map(|(_, number)| *number)
    }

    /// Whether the process was passed a trial.
    pub(super) fn was_passed(&self, trial: TrialId) -> bool {
        self.number_of(trial).is_some()
    }

    /// Whether the process has mapped it.
    pub(super) fn has_mapped(&self, trial: TrialId) -> bool {
        self.number_of(trial).is_some_and(|number| self.done() > number)
    }

    /// Whether it is this trial that the process has come to and not got past.
    pub(super) fn is_at(&self, trial: TrialId) -> bool {
        self.number_of(trial) == Some(self.done())
    }

    /// Whether the process is still to be passed a trial, and takes one more message.
    pub(super) fn lacks(&self, trial: TrialId) -> bool {
        let takes_more = self.control_socket.is_some()
            && self.segment.is_some()
            && self.passed.saturating_sub(self.done()) < MOST_UNANSWERED;
        takes_more && !self.was_passed(trial)
    }

    /// Whether it says that it ends because it cannot map a segment that it was passed after its start.
    pub(super) fn gives_up(&self) -> bool {
        self.phase() == phase::CANNOT_MAP && (self.required..self.passed).contains(&self.done())
    }

    pub(crate) fn phase(&self) -> u32 {
        self.segment.as_ref().map_or(phase::STARTING, |segment| segment.phase.load(Ordering::Acquire))
    }

    /// Whether its process is known and has reported.
    pub(crate) fn has_become_ready(&self) -> bool {
        self.phase() == phase::READY && self.pidfd.is_some()
    }

    /// Whether its pidfd was lost on its way, and is to be asked for.
    pub(super) fn wants_pidfd(&self) -> bool {
        self.pid != 0 && self.pidfd.is_none() && matches!(self.state, MemberState::Starting { .. })
    }

    /// Whether it is to be asked for now.
    pub(super) fn asks_for_pidfd(&self) -> bool {
        self.wants_pidfd() && self.asks_again.passed()
    }

    /// Where the program has closed the process's descriptor, opens it anew; whether there is one.
    pub(super) fn renew_pidfd(&mut self) -> bool {
        let Some(lost) = self.pidfd.as_ref().filter(|pidfd| !pidfd.is_ours()) else { return true };
        let Ok(Some(again)) = pidfd::reopen(self.pid, lost) else { return false };
        self.pidfd = Some(Arc::new(Guarded::new(again)));
        true
    }

    /// Sends its process a signal. The error is that this host may not, or has nothing to do it by. Where there is no process that is done.
    pub(crate) fn signal(&self, signal: i32) -> Result<()> {
        match (&self.pidfd, self.state) {
            (Some(pidfd), _) => pidfd::signal(pidfd.as_raw_fd(), signal),
            (None, MemberState::Vacant { .. } | MemberState::Ended) => Ok(()),
            (None, _) => Err(Code::errno(libc::EBADF).into()),
        }
    }

    /// The number by which this process's /proc knows its process; `None` where nobody can say.
    pub(crate) fn number_here(&self) -> Option<i32> {
        let _uncancelled = Uncancelled::new();
        pidfd::number(self.pidfd.as_ref()?.as_raw_fd())
    }

    pub(crate) fn retire(&mut self, deadline: Deadline) {
        if let Some(segment) = &self.segment {
            segment.leave.store(1, Ordering::Release);
            segment.wake_worker();
            self.leaving = Some(deadline);
        }
    }

    /// Why its start has failed, in the worker's own words where it left some.
    pub(crate) fn start_failure(&self, death: &Death) -> String {
        let left_word = matches!(self.phase(), phase::FAILED | phase::CANNOT_MAP);
        let said = self.segment.as_ref().filter(|_| left_word).map(|segment| {
            let length = segment.failure_length.load(Ordering::Relaxed) as usize;
            String::from_utf8_lossy(&segment.failure.read(length)).into_owned()
        });
        let executed = death.signal == 0 && death.code == program::NOT_EXECUTED;
        said.unwrap_or_else(|| {
            let hint = if executed { " (its program could not be executed)" } else { "" };
            format!("{} before it was ready{hint}{}", death.describe(), last_line(death.output()))
        })
    }

    /// The code that belongs to its own words, where it is one that a caller can do something about.
    pub(crate) fn failure_code(&self) -> Option<Code> {
        let code = Code(self.segment.as_ref()?.failure_code.load(Ordering::Relaxed));
        let known = [Code::NAME, Code::MODULE, Code::FUNCTION];
        let system = [libc::EEXIST, libc::ENOMEM, libc::EMFILE, libc::ENFILE].map(Code::errno);
        (known.contains(&code) || system.contains(&code)).then_some(code)
    }

    /// Whether its start has failed for want of something: it says so, or did not get as far as being able to.
    pub(super) fn fell_short(&self, death: &Death) -> bool {
        let short = [libc::ENOMEM, libc::EMFILE, libc::ENFILE].map(Code::errno);
        let says_so = self.failure_code().is_some_and(|code| short.contains(&code));
        says_so || program::fell_short(death.signal, death.code) && self.phase() == phase::STARTING
    }

    /// Completes what the kernel says of a death with what the worker's handler of fatal signals has left.
    pub(crate) fn complete(&self, death: &mut Death, callees: Option<&Callees>) {
        let Some(segment) = &self.segment else { return };
        let crash = &segment.crash;
        let signal = crash.signal.load(Ordering::Acquire);
        // A record without a death by signal is one of a handler that the program has put in tine's place.
        if signal == 0 || death.signal == 0 {
            return;
        }
        if (1..=64).contains(&signal) {
            death.signal = signal;
        }
        death.fault_address = crash.fault_address.load(Ordering::Relaxed) as usize;
        death.set_backtrace(backtrace(crash, callees));
    }

    /// The process has ended and everything about it has been dealt with.
    pub(crate) fn vacate(&mut self, pause_ns: u64) {
        let not_before_ns = if pause_ns == 0 { 0 } else { now_ns() + pause_ns };
        self.state = MemberState::Vacant { not_before_ns };
        self.segment = None;
        self.control_socket = None;
        self.trials.clear();
        self.pidfd = None;
        self.pid = 0;
    }
}

/// The end of what a process has written, where that is captured, as the end of a sentence.
fn last_line(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    match text.lines().rev().map(str::trim).find(|line| !line.is_empty()) {
        Some(line) => format!("; the last that it wrote is \"{line}\""),
        None => String::new(),
    }
}

fn backtrace(crash: &CrashRecord, callees: Option<&Callees>) -> String {
    let count = crash.frame_count.load(Ordering::Acquire) as usize;
    let mut text = String::new();
    for (number, frame) in crash.frames.iter().take(count.min(FRAMES)).enumerate() {
        let (module, offset) = (frame.0.load(Ordering::Relaxed), frame.1.load(Ordering::Relaxed));
        let place = callees.and_then(|callees| {
            let path = callees.tables().path_of(module)?;
            Some((path, callees.symbol(module, offset)))
        });
        let _ = match place {
            Some((path, Some(symbol))) => writeln!(text, "#{number} {path}+{offset:#x} ({symbol})"),
            Some((path, None)) => writeln!(text, "#{number} {path}+{offset:#x}"),
            None => writeln!(text, "#{number} {offset:#x}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::{self, segment::SegmentOptions};
    use crate::task::wire::MessageKind;

    #[test]
    fn a_worker_gives_up_only_what_it_was_passed_after_its_start() {
        let (segment, _fd) = Segment::create().unwrap();
        let mut member = Member { segment: Some(segment), required: 2, passed: 4, ..Member::new() };
        let trial = TrialId(7);
        let says = |member: &Member, phase: u32, done: u32| {
            let segment = member.segment.as_ref().unwrap();
            segment.phase.store(phase, Ordering::Relaxed);
            segment.messages_done.store(done, Ordering::Relaxed);
            member.gives_up()
        };
        let range = |member: &Member| [1, 2, 3, 4].map(|done| says(member, phase::CANNOT_MAP, done));
        assert_eq!(range(&member), [false, true, true, false]);
        assert!(!says(&member, phase::FAILED, 3) && !says(&member, phase::READY, 3));
        member.was_ready = true;
        assert_eq!(range(&member), [false, true, true, false]);
        assert!(!says(&member, phase::FAILED, 3) && !says(&member, phase::READY, 3));
        assert!(!member.was_passed(trial) && !member.is_at(trial));
        member.trials.push((trial, 3));
        assert!(member.is_at(trial) && !member.has_mapped(trial));
        assert!(!says(&member, phase::READY, 4) && !member.is_at(trial) && member.has_mapped(trial));
    }

    /// The worker has read how many messages there are, so that none of them may go missing.
    #[test]
    fn a_trial_that_waits_for_room_leaves_its_number_and_no_descriptor() {
        let segment = heap::segment::Segment::create(1, &SegmentOptions::default()).unwrap();
        let trial = |number: u64| Trial {
            id: TrialId(number),
            share: Share::new(&segment).unwrap(),
            due: None,
            failure: None,
        };
        let epoll = Arc::new(Epoll::new().unwrap());
        let mut member = Member::new();
        let mut fds = member.prepare(0, &epoll, 1_000_000_000, (&[], Some(&trial(0))), 0).unwrap();
        let mut theirs = Connection::new(fds.pop().unwrap());
        socket::set_send_buffer(member.control_socket.as_ref().unwrap().fd(), 1).unwrap();
        let mut number = 1;
        while member.lacks(TrialId(number)) {
            member.pass(&trial(number)).unwrap();
            member.pass(&trial(number)).unwrap();
            number += 1;
        }
        assert_eq!((number, member.passed), (u64::from(MOST_UNANSWERED), MOST_UNANSWERED));
        assert!(member.control_socket.as_ref().unwrap().is_waiting());
        // A worker that has no task waits for none of those that wait here, and somebody is due to send them.
        let told = |member: &Member| member.segment.as_ref().unwrap().messages_sent.load(Ordering::Relaxed);
        let waiting = member.control_socket.as_ref().unwrap().waiting_count() as u32;
        assert_eq!(told(&member), member.passed - waiting);
        assert_eq!(member.messages_needed(), member.passed);
        assert!(member.messages_due() < Deadline::NEVER);
        for number in (0..number).rev() {
            member.take_back(&trial(number));
            member.take_back(&trial(number));
        }
        let (mut all, mut passed, mut taken_back) = (0, 0, 0);
        while let Some(message) = theirs.receive().unwrap() {
            all += 1;
            passed += usize::from(message.kind == MessageKind::Share && message.fds.len() == 1);
            taken_back += usize::from(message.kind == MessageKind::TakeBack && message.fds.is_empty());
            member.flush();
        }
        assert_eq!((all, all), (member.passed, (passed + taken_back) as u32));
        assert_eq!((told(&member), member.messages_due()), (all, Deadline::NEVER));
        assert!(0 < passed && passed < number as usize && taken_back == number as usize);
        // It has dealt with some of them, and takes as many more.
        member.segment.as_ref().unwrap().messages_done.store(all, Ordering::Relaxed);
        assert!(member.lacks(TrialId(number)) && !member.was_passed(TrialId(0)));
    }
}
