//! A node: the life of a process that mpirun has started beside rank 0. The node makes the pools that rank 0 wants, gives them the tasks that come,
//! and sends back their outcomes, until rank 0 says goodbye. One thread does all of it and runs no user code. A pool is made and ended by a
//! thread of its own, because that may take any time, and the other pools of the node have to be served meanwhile.

use crate::cluster::attention::{Attention, Next};
use crate::cluster::exchange::taken_apart;
use crate::cluster::node::Serving;
use crate::cluster::peer::{Came, Frame};
use crate::cluster::{FrameKind, start};
use crate::error::{Error, Result};
use crate::pool::Guest;
use crate::sys::clock::now_ns;
use crate::sys::thread::Thread;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

/// A result wakes the node while it sleeps, but of several pools only one can.
const AMONG_SEVERAL_NS: u64 = 100_000;

/// What `tine_init` does in a process that mpirun has started: returns in rank 0, and wherever there is no mpirun.
pub(crate) fn start() -> Result<()> {
    start::start(serve)
}

fn serve(mut link: Serving) -> Result<()> {
    let mut pools = Pools::new();
    let mut attention = Attention::new(now_ns());
    loop {
        let mut any = link.flush()?;
        match link.receive()? {
            Came::Nothing(moved) => any |= moved,
            Came::Announced(number, length) => {
                any = true;
                link.expect(pools.guest(number).and_then(|guest| guest.place_for(length)));
            }
            Came::Block(number, block) => {
                any = true;
                if let Some(guest) = pools.guest(number) {
                    guest.has_come(block);
                }
            }
            Came::Frame(frame) => {
                any = true;
                if taken_apart(&frame)?.0 == FrameKind::Bye {
                    pools.wait_until_closed();
                    return link.leave();
                }
                pools.deal_with(&mut link, frame)?;
            }
        }
        any |= pools.take_done(&mut link);
        // What settles while a frame is on its way goes together in the next one. Every pool is asked, for that moves it on, too.
        if !link.is_full() {
            for results in pools.guests.iter_mut().filter_map(Guest::results) {
                link.post(results);
                any = true;
            }
        }
        let now = now_ns();
        if any {
            attention.has_happened(now);
            continue;
        }
        if link.is_moving() {
            std::thread::yield_now(); // MPI moves a long message in its sender's and its receiver's calls.
            continue;
        }
        // Whoever has tasks can wait for the next ones.
        let next = attention.next(now, pools.guests.iter().all(Guest::is_idle));
        match (next, pools.guests.as_slice()) {
            (Next::Look, _) => std::thread::yield_now(),
            (Next::Sleep(ns), []) => std::thread::sleep(std::time::Duration::from_nanos(ns)),
            (Next::Sleep(ns), [only]) => only.wait(ns),
            (Next::Sleep(ns), [first, ..]) => first.wait(ns.min(AMONG_SEVERAL_NS)),
        }
    }
}

/// What a thread of its own has done for a pool of this number.
enum Done {
    Opened(u64, Result<(Guest, Vec<u8>)>),
    Closed(u64, Vec<u8>),
}

/// A pool that is being made, and the time to end it in where rank 0 wants none any more.
struct Opening {
    number: u64,
    close: Option<u64>,
}

/// The pools of this node.
///
/// ```text
///   OPENING   a thread makes it: its initializers may take any time    Open: this state; Close: remembered
///   SERVING   in `guests`                                              tasks go in, results come out
///   CLOSING   a thread ends it                                         frames about it mean nothing
/// ```
struct Pools {
    guests: Vec<Guest>,
    opening: Vec<Opening>,
    closing: Vec<u64>,
    tell: Sender<Done>,
    done: Receiver<Done>,
}

impl Pools {
    fn new() -> Pools {
        let (tell, done) = channel();
        Pools { guests: Vec::new(), opening: Vec::new(), closing: Vec::new(), tell, done }
    }

    fn guest(&mut self, number: u64) -> Option<&mut Guest> {
        self.guests.iter_mut().find(|guest| guest.number() == number)
    }

    fn deal_with(&mut self, link: &mut Serving, frame: Vec<u8>) -> Result<()> {
        let (kind, number, mut body) = taken_apart(&frame)?;
        let place = self.guests.iter().position(|guest| guest.number() == number);
        match (kind, place) {
            (FrameKind::Hello, _) => (), // Rank 0 compares.
            (FrameKind::Ping, _) => link.post(Frame::new(FrameKind::Pong, 0).finish()),
            (FrameKind::Open, None) => self.open(link, number, frame),
            (FrameKind::Tasks, Some(at)) => self.guests[at].take(&mut body)?,
            (FrameKind::Close, Some(at)) => {
                let grace_ns = body.number()?;
                let guest = self.guests.swap_remove(at);
                self.close(guest, grace_ns);
            }
            (FrameKind::Close, None) => {
                let grace_ns = body.number()?;
                if let Some(opening) = self.opening.iter_mut().find(|opening| opening.number == number) {
                    opening.close = Some(grace_ns);
                } else if !self.closing.contains(&number) {
                    link.post(Frame::new(FrameKind::Closed, number).finish());
                }
            }
            // Of a pool that could not be made, or is being ended.
            (FrameKind::Tasks, None) => (),
            (other, _) => {
                let text = format!("rank 0 sent a frame of the kind {other:?}");
                return Err(Error::errno(libc::EPROTO, text));
            }
        }
        Ok(())
    }

    fn open(&mut self, link: &mut Serving, number: u64, frame: Vec<u8>) {
        let tell = self.tell.clone();
        let started = Thread::start(c"tine-open", 0, move || {
            let opened = taken_apart(&frame).and_then(|(_, _, mut body)| Guest::open(number, &mut body));
            let _ = tell.send(Done::Opened(number, opened)); // Nobody is there only where the node ends.
        });
        match started {
            Ok(thread) => {
                thread.detach();
                self.opening.push(Opening { number, close: None });
            }
            Err(error) => link.post(failed(number, &error)),
        }
    }

    fn close(&mut self, guest: Guest, grace_ns: u64) {
        let (number, tell) = (guest.number(), self.tell.clone());
        self.closing.push(number);
        // Where there is no thread to be had it is ended here, and the guest has to be still in hand for that.
        let guest = Arc::new(Mutex::new(Some(guest)));
        let to_end = Arc::clone(&guest);
        let end = move || {
            let guest = to_end.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(guest) = guest {
                let _ = tell.send(Done::Closed(number, guest.close(grace_ns)));
            }
        };
        match Thread::start(c"tine-close", 0, end.clone()) {
            Ok(thread) => thread.detach(),
            Err(_) => end(),
        }
    }

    /// Takes in what threads have done; whether there was anything.
    fn take_done(&mut self, link: &mut Serving) -> bool {
        let mut any = false;
        while let Ok(done) = self.done.try_recv() {
            any = true;
            match done {
                Done::Closed(number, frame) => {
                    self.closing.retain(|closing| *closing != number);
                    link.post(frame);
                }
                Done::Opened(number, opened) => self.has_opened(link, number, opened),
            }
        }
        any
    }

    fn has_opened(&mut self, link: &mut Serving, number: u64, opened: Result<(Guest, Vec<u8>)>) {
        let place = self.opening.iter().position(|opening| opening.number == number);
        let close = place.and_then(|at| self.opening.swap_remove(at).close);
        match (opened, close) {
            (Ok((guest, answer)), None) => {
                self.guests.push(guest);
                link.post(answer);
            }
            (Ok((guest, _)), Some(grace_ns)) => self.close(guest, grace_ns),
            (Err(error), None) => link.post(failed(number, &error)),
            (Err(_), Some(_)) => link.post(Frame::new(FrameKind::Closed, number).finish()),
        }
    }

    /// A pool that is being ended has ended before the node does. One that is being made is left to its supervisor, which sees the node's end.
    fn wait_until_closed(&mut self) {
        while !self.closing.is_empty() {
            match self.done.recv() {
                Ok(Done::Closed(number, _)) => self.closing.retain(|closing| *closing != number),
                Ok(Done::Opened(..)) => (),
                Err(_) => return,
            }
        }
    }
}

fn failed(number: u64, error: &Error) -> Vec<u8> {
    let mut frame = Frame::new(FrameKind::Failed, number);
    frame.body().number(error.code().0 as u64);
    frame.body().bytes(error.text().as_bytes());
    frame.finish()
}
