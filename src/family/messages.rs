//! What the supervisor says, and what it is told.

use super::member::{Member, MemberState};
use super::{Family, SOCKET, SUPERVISOR, UNWATCHED_NS};
use crate::error::{Error, Result};
use crate::sys::clock::Deadline;
use crate::sys::epoll::Epoll;
use crate::sys::fd::Guarded;
use crate::sys::limits;
use crate::sys::pidfd::Ended;
use crate::task::callees::Callees;
use crate::task::death::Death;
use crate::task::wire::{self, Message, MessageKind};
use std::os::fd::AsRawFd;
use std::sync::Arc;

impl Family {
    /// Sends what waits to be sent.
    pub(super) fn tell_supervisor(&mut self, epoll: &Epoll) {
        let Some(link) = &mut self.link else { return };
        for (slot, member) in
            self.members.iter_mut().enumerate().filter(|(_, member)| member.asks_for_pidfd())
        {
            member.asks_again = Deadline::after(UNWATCHED_NS);
            let words = [slot as u64, member.generation];
            // Should it fail for good, so does the flush.
            let _ = link.connection.send(Message::new(MessageKind::StartedAgain, &words));
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

    pub(super) fn take_messages(&mut self, epoll: &Epoll) -> Result<()> {
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

    pub(super) fn take(&mut self, message: Message, epoll: &Epoll) -> Result<()> {
        let [slot, generation, third, ..] = message.words;
        match message.kind {
            MessageKind::Ready => self.supervisor_is_ready(message, epoll),
            MessageKind::Born => self.supervisor_is_born(message, epoll),
            MessageKind::Gone => {
                if let Some(link) = &mut self.link {
                    link.gone = Some(Ended::from_status(0, slot as i32));
                }
            }
            MessageKind::Refused => {
                let error = message.error(0);
                let text = format!("the supervisor: {}", error.text());
                self.lose_supervisor(epoll, Some(Error::new(error.code(), text)));
            }
            MessageKind::Started => {
                if let Some(member) = self.member(slot, generation) {
                    member.pid = third as i32;
                    // A later answer may come without a descriptor, and brings none that is not here already.
                    if member.pidfd.is_none() {
                        member.pidfd = message.fds.into_iter().next().map(Guarded::new).map(Arc::new);
                    }
                    member.asks_again = Deadline::after(UNWATCHED_NS);
                }
            }
            MessageKind::NotStarted => {
                let error = message.error(2);
                if let Some(member) = self.member(slot, generation) {
                    member.vacate(0);
                    self.could_not_start(error);
                }
            }
            MessageKind::Exited => self.worker_has_exited(message),
            other => return Err(Error::errno(libc::EPROTO, format!("an unexpected message, {other:?}"))),
        }
        Ok(())
    }

    /// The supervisor serves: its functions are known from here on.
    fn supervisor_is_ready(&mut self, message: Message, epoll: &Epoll) {
        // Now, while the host waits for its workers anyway, and before any of them can have been killed.
        self.oom_kills.get_or_insert_with(limits::oom_kills);
        let Some(link) = &mut self.link else { return };
        if let Some(pidfd) = &link.pidfd {
            let _ = epoll.remove(pidfd.as_raw_fd());
        }
        let tables = link.is_up(message).and_then(|tables| {
            link.pidfd.as_ref().map_or(Ok(()), |pidfd| epoll.add(pidfd.as_raw_fd(), SUPERVISOR))?;
            Ok(tables)
        });
        if let (Ok(tables), Some(page)) = (&tables, &self.page) {
            page.show_tables(tables);
        }
        match (tables, &mut self.callees) {
            (Ok(tables), Some(callees)) => callees.set_tables(tables),
            (Ok(tables), callees @ None) => *callees = Some(Callees::new(tables)),
            (Err(error), _) => {
                link.up = false;
                self.lose_supervisor(epoll, Some(error));
            }
        }
    }

    /// The supervisor's process is there, or could not be made.
    fn supervisor_is_born(&mut self, message: Message, epoll: &Epoll) {
        let Some(link) = &mut self.link else { return };
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

    fn worker_has_exited(&mut self, message: Message) {
        let [slot, generation, third, fourth, fifth, sixth, seventh] = message.words;
        let wire::How { signal, code, late } = wire::How::from_word(third);
        let mut death = Death::new(fifth as i32, signal, code, fourth);
        (death.user_ns, death.system_ns, death.late) = (sixth, seventh, late);
        if let Some(said) = message.fds.first().and_then(|fd| wire::from_memfd(fd).ok()) {
            death.set_output(said);
        }
        if signal == libc::SIGKILL {
            let kills = limits::oom_kills();
            let before = self.oom_kills.replace(kills);
            death.out_of_memory = i32::from(before.is_some_and(|before| kills > before));
        }
        if self.member(slot, generation).is_some() {
            self.ended(slot as usize, death);
        }
    }

    /// The member that a message is about, if it is still about the same process.
    pub(super) fn member(&mut self, slot: u64, generation: u64) -> Option<&mut Member> {
        let member = self.members.get_mut(usize::try_from(slot).ok()?)?;
        let alive = !matches!(member.state, MemberState::Vacant { .. } | MemberState::Ended);
        (alive && member.generation == generation).then_some(member)
    }
}

#[cfg(test)]
mod tests {
    use super::super::link::Link;
    use super::*;
    use crate::family::Event;
    use crate::sys::pidfd;
    use crate::sys::prim::Ordering;
    use crate::task::ring::phase;
    use crate::task::settings::Settings;
    use crate::task::wire::Connection;
    use std::os::fd::OwnedFd;
    use std::process::{Child, Command};

    /// A family whose one worker is being started, and the supervisor's end of the socket. The process is in a test's place.
    fn starting() -> (Family, Arc<Epoll>, Connection, Child) {
        let epoll = Arc::new(Epoll::new().unwrap());
        let never = |_| unreachable!("nothing is started here");
        let mut family =
            Family::new(Arc::clone(&epoll), Settings::default(), None, 60_000_000_000, 1, never).unwrap();
        family.members[0].prepare(0, &epoll, 60_000_000_000, (&[], None), 0).unwrap();
        let (link, supervisor) = Link::of_a_test();
        family.link = Some(link);
        (family, epoll, supervisor, Command::new("sleep").arg("1000").spawn().unwrap())
    }

    fn started(process: &Child, fds: Vec<OwnedFd>) -> Message {
        Message::new(MessageKind::Started, &[0, 1, u64::from(process.id())]).with_fds(fds)
    }

    fn become_ready(family: &mut Family, epoll: &Epoll) {
        let segment = family.members[0].segment.as_ref().unwrap();
        segment.phase.store(phase::READY, Ordering::Release);
        family.look_at_members(epoll);
    }

    #[test]
    fn an_answer_without_room_for_its_descriptor_takes_none_away() {
        let (mut family, epoll, _supervisor, mut process) = starting();
        family.take(started(&process, vec![pidfd::open(process.id() as i32).unwrap()]), &epoll).unwrap();
        become_ready(&mut family, &epoll);
        assert!(matches!(family.next_event(), Some(Event::Ready(0))));
        family.take(started(&process, vec![]), &epoll).unwrap();
        assert!(family.signal(0, libc::SIGKILL), "sent, and by this process itself");
        process.wait().unwrap();
    }

    #[test]
    fn a_worker_without_a_descriptor_is_signalled_by_its_supervisor() {
        let (mut family, epoll, mut supervisor, mut process) = starting();
        family.take(started(&process, vec![]), &epoll).unwrap();
        assert!(!family.signal(0, libc::SIGTERM));
        let asked = supervisor.receive().unwrap().expect("a message to the supervisor");
        assert_eq!((asked.kind, &asked.words[..3]), (MessageKind::SignalWorker, &[0, 1, 15][..]));
        family.members[0].vacate(0);
        assert!(family.signal(0, libc::SIGTERM), "there is nothing to send it to");
        process.kill().unwrap();
        process.wait().unwrap();
    }

    #[test]
    fn a_worker_that_was_ready_has_an_end_without_a_descriptor_too() {
        let (mut family, epoll, _supervisor, mut process) = starting();
        family.take(started(&process, vec![]), &epoll).unwrap();
        become_ready(&mut family, &epoll);
        assert!(family.next_event().is_none(), "it cannot be ended yet");
        family.lose_supervisor(&epoll, None);
        assert!(matches!(family.next_event(), Some(Event::Ended(0, death)) if death.signal == libc::SIGKILL));
        process.kill().unwrap();
        process.wait().unwrap();
    }

    #[test]
    fn a_birth_that_ready_has_overtaken_takes_no_descriptor_away() {
        let (mut family, epoll, _supervisor, mut process) = starting();
        family.link.as_mut().unwrap().pidfd = Some(Guarded::new(pidfd::open(process.id() as i32).unwrap()));
        family.take(Message::new(MessageKind::Born, &[0, 1]), &epoll).unwrap();
        assert!(!family.link.as_ref().unwrap().has_ended());
        process.kill().unwrap();
        let pidfd = family.link.as_ref().unwrap().pidfd.as_ref().expect("the pidfd").as_raw_fd();
        assert!(pidfd::wait_end(pidfd, Deadline::after(60_000_000_000)));
        process.wait().unwrap();
    }
}
