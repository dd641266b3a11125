//! A node: the life of a process that mpirun has started beside rank 0. It makes pools as rank 0 wants them, gives them the tasks that come,
//! and sends back what comes of these, until rank 0 says goodbye. One thread does all of it and runs no user code.

use crate::cluster::exchange::taken_apart;
use crate::cluster::node::Serving;
use crate::cluster::peer::Frame;
use crate::cluster::{FrameKind, start};
use crate::error::{Error, Result};
use crate::pool::Guest;
use crate::sys::clock::now_ns;
use crate::task::wire::Reader;

/// How long to look after something has happened, and then how long to sleep at least and at most. MPI has nothing to sleep on, so a message
/// is seen so much later; a result wakes the node.
const LOOK_NS: u64 = 50_000;
const FIRST_SLEEP_NS: u64 = 20_000;
const LONGEST_SLEEP_NS: u64 = 1_000_000;
/// Of several pools only one can wake it.
const AMONG_SEVERAL_NS: u64 = 100_000;

/// What `tine_init` does in a process that mpirun has started: returns in rank 0, and wherever there is no mpirun.
pub(crate) fn start() -> Result<()> {
    start::start(serve)
}

fn serve(mut link: Serving) -> Result<()> {
    let mut guests: Vec<Guest> = Vec::new();
    let (mut looked_until, mut sleep_ns) = (0, FIRST_SLEEP_NS);
    loop {
        let mut any = link.flush()?;
        let (frame, came) = link.receive()?;
        any |= came;
        if let Some(frame) = frame {
            let (kind, number, mut body) = taken_apart(&frame)?;
            if kind == FrameKind::Bye {
                return Ok(());
            }
            deal_with(&mut link, &mut guests, kind, number, &mut body)?;
        }
        // What settles while a frame is on its way goes together in the next one.
        for guest in guests.iter_mut().filter(|_| !link.is_sending()) {
            if let Some(frame) = guest.results() {
                link.post(frame);
                any = true;
                break;
            }
        }
        let now = now_ns();
        if any {
            (looked_until, sleep_ns) = (now + LOOK_NS, FIRST_SLEEP_NS);
        } else if link.is_sending() {
            std::thread::yield_now(); // MPI moves a long message in its sender's calls.
        } else if now < looked_until {
            std::hint::spin_loop();
        } else {
            match guests.as_slice() {
                [] => std::thread::sleep(std::time::Duration::from_nanos(sleep_ns)),
                [only] => only.wait(sleep_ns),
                [first, ..] => first.wait(sleep_ns.min(AMONG_SEVERAL_NS)),
            }
            sleep_ns = (sleep_ns * 2).min(LONGEST_SLEEP_NS);
        }
    }
}

fn deal_with(
    link: &mut Serving,
    guests: &mut Vec<Guest>,
    kind: FrameKind,
    number: u64,
    body: &mut Reader<'_>,
) -> Result<()> {
    let place = guests.iter().position(|guest| guest.number() == number);
    match (kind, place) {
        (FrameKind::Hello, _) => (), // Rank 0 compares.
        (FrameKind::Ping, _) => link.post(Frame::new(FrameKind::Pong, 0).finish()),
        (FrameKind::Open, None) => match Guest::open(number, body) {
            Ok((guest, answer)) => {
                guests.push(guest);
                link.post(answer);
            }
            Err(error) => {
                let mut frame = Frame::new(FrameKind::Failed, number);
                frame.body().number(error.code().0 as u64);
                frame.body().bytes(error.text().as_bytes());
                link.post(frame.finish());
            }
        },
        (FrameKind::Tasks, Some(at)) => guests[at].take(body)?,
        (FrameKind::Close, at) => {
            let grace_ns = body.number()?;
            let closed = at.map(|at| guests.swap_remove(at).close(grace_ns));
            link.post(closed.unwrap_or_else(|| Frame::new(FrameKind::Closed, number).finish()));
        }
        // Of a pool that could not be made.
        (FrameKind::Tasks, None) => (),
        (other, _) => {
            let text = format!("rank 0 sent a frame of the kind {other:?}");
            return Err(Error::errno(libc::EPROTO, text));
        }
    }
    Ok(())
}
