//! Rank 0's side: the one thread that talks to the nodes, for all pools.
//!
//! ```text
//!   bell     set by                                        meaning
//!   QUIET    the thread, when it is up                     it looks by itself
//!   ASLEEP   the thread, from QUIET, before it sleeps      whoever has something for it wakes it
//!   NEWS     whoever has something for it                  it does not sleep before it has looked
//! ```
//!
//! The thread calls a pool (`Hand`) with none of its own locks held; a pool rings and posts with its lock held. So the post's lock is the
//! innermost of all.

mod end;

use super::attention::{Attention, Next};
use super::book::Book;
use super::hello::Hello;
use super::peer::{Came, Frame, Peer, body_of, kind_of};
use super::transport::{Arrived, Failed, Transport};
use super::witness::Witness;
use super::{FrameKind, Hand, Rank};
use crate::error::{Code, Error, Result};
use crate::sys::clock::{Deadline, now_ns};
use crate::sys::fork;
use crate::sys::log::{self, Level};
use crate::sys::prim::{AtomicU32, AtomicU64, Ordering, futex_wait, futex_wake};
use crate::task::wire::Reader;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

const QUIET: u32 = 0;
const ASLEEP: u32 = 1;
const NEWS: u32 = 2;

/// How often silent nodes are looked for while messages come and go: pools are locked for that.
const SILENT_LOOK_NS: u64 = 10_000_000;

/// How long a node may say nothing while it has something to answer.
const TIMEOUT_MS: u64 = 30_000;

/// And how much longer for each byte that it has been sent: it is at work on a long input with the one thread that answers.
const BYTE_NS: u64 = 50;

/// How long the ranks may take to say who they are.
const HELLO_NS: u64 = 60_000_000_000;

/// A frame of any thread's, and the node that it is for.
type Posted = (usize, Vec<u8>);

/// A pool by its number.
type Known = (u64, Weak<dyn Hand>);

/// One that lives.
type Living = (u64, Arc<dyn Hand>);

pub(crate) struct Exchange {
    pid: i32,
    /// Who the nodes are: the one at 0 is rank 1.
    nodes: Vec<Hello>,
    /// Why none of them can be worked with, if so.
    refusal: Option<Error>,
    bell: AtomicU32,
    posted: Mutex<Vec<Posted>>,
    hands: Mutex<Vec<Known>>,
    /// Relaxed: only told apart from each other.
    next_number: AtomicU64,
    /// [`end::STAYS`] and on. Release and Acquire with the bell.
    leaving: AtomicU32,
    /// 1 when the thread has taken leave of the nodes. Release and Acquire.
    has_left: AtomicU32,
    /// The program had joined the other ranks before tine did.
    joined_before: bool,
    witness: Arc<Witness>,
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Exchange").field("nodes", &self.nodes).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Exchange {
    /// The nodes, where each of them can be worked with.
    pub(crate) fn nodes(&self) -> Result<&[Hello]> {
        if self.pid != fork::pid() {
            return Err(Code::FORKED.into());
        }
        match &self.refusal {
            Some(error) => Err(error.clone()),
            None => Ok(&self.nodes),
        }
    }

    /// A number by which both sides know a pool.
    pub(crate) fn new_number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    /// Where the pool of this number writes down what becomes of its tasks.
    pub(crate) fn book(&self, number: u64) -> Book {
        Book::new(&self.witness, number)
    }

    /// From now on the nodes' frames about this pool go there.
    pub(crate) fn introduce(&self, number: u64, hand: Weak<dyn Hand>) {
        lock(&self.hands).push((number, hand));
    }

    /// No more.
    pub(crate) fn forget(&self, number: u64) {
        lock(&self.hands).retain(|(known, _)| *known != number);
    }

    /// Has a frame sent.
    pub(crate) fn post(&self, node: usize, frame: Vec<u8>) {
        lock(&self.posted).push((node, frame));
        self.ring();
    }

    /// There is something to send.
    pub(crate) fn ring(&self) {
        if self.bell.swap(NEWS, Ordering::AcqRel) == ASLEEP {
            futex_wake(&self.bell, 1);
        }
    }

    /// Whether the program had joined the other ranks before tine did: its `main` does so in each process that runs it.
    pub(crate) fn joined_before(&self) -> bool {
        self.joined_before
    }

    fn sleep(&self, deadline: Deadline) {
        if self.bell.compare_exchange(QUIET, ASLEEP, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            futex_wait(&self.bell, ASLEEP, deadline);
            // News that came is still to be seen by the next step.
            let _ = self.bell.compare_exchange(ASLEEP, QUIET, Ordering::AcqRel, Ordering::Acquire);
        }
    }

    fn hands(&self) -> Vec<Living> {
        let known = lock(&self.hands);
        known.iter().filter_map(|(number, hand)| Some((*number, hand.upgrade()?))).collect()
    }
}

/// What the thread alone knows of a node.
struct Node {
    peer: Peer,
    /// Why it will never answer again, if so.
    lost: Option<Error>,
    /// It has said goodbye: nothing more comes from there.
    left: bool,
    /// When it last said something, took a piece of long bytes, or had nothing to answer.
    heard_ns: u64,
    pinged: bool,
}

impl Node {
    fn is_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// Whether a message is on its way there or from there.
    fn is_moving(&self) -> bool {
        !self.is_lost() && self.peer.is_moving()
    }

    /// Whether it has yet to say goodbye, or MPI has something of ours that is not known to have gone: nothing may be under way when MPI
    /// is finalized.
    fn is_leaving(&self) -> bool {
        !self.is_lost() && (!self.left || self.peer.out.is_sending())
    }
}

/// The thread's state.
pub(crate) struct Talk {
    transport: Transport,
    exchange: Arc<Exchange>,
    nodes: Vec<Node>,
    timeout_ns: u64,
    /// A pool may have a frame that has not been asked for.
    unfetched: bool,
    /// A node has no room for a message.
    is_crowded: bool,
}

/// What the environment says of the time, else the default.
fn timeout_ns() -> Result<u64> {
    let given = std::env::var_os("TINE_MPI_TIMEOUT_MS").unwrap_or_default();
    if given.is_empty() {
        return Ok(TIMEOUT_MS * 1_000_000);
    }
    let ms = given.to_str().and_then(|text| text.parse::<u64>().ok()).filter(|ms| *ms > 0);
    let wrong = || format!("TINE_MPI_TIMEOUT_MS is {given:?}, not a number of milliseconds from 1 on");
    Ok(ms.ok_or_else(|| Error::invalid(wrong()))?.saturating_mul(1_000_000))
}

/// Says hello to all nodes and hears who they are.
pub(crate) fn meet(
    transport: Transport,
    ranks: usize,
    joined_before: bool,
    witness: Arc<Witness>,
) -> Result<Talk> {
    let timeout_ns = timeout_ns()?;
    witness.check_report()?;
    let own = Hello::own()?;
    let mut peers: Vec<Peer> = (1..ranks).map(Peer::new).collect();
    let mut hellos: Vec<Option<Hello>> = vec![None; peers.len()];
    for peer in &mut peers {
        peer.make_room()?;
        peer.out.post(own.frame());
    }
    let until = Deadline::after(HELLO_NS);
    while hellos.iter().any(Option::is_none) || peers.iter().any(|peer| peer.out.is_sending()) {
        let mut any = false;
        for peer in &mut peers {
            any |= peer.out.flush(&transport)?;
        }
        if let Some((rank, length, message)) = transport.probe(None)? {
            any = true;
            peers[rank - 1].into.has_come(message, length);
            peers[rank - 1].make_room()?;
        }
        for (at, peer) in peers.iter_mut().enumerate() {
            let Came::Frame(frame) = peer.into.receive(&transport)? else { continue };
            any = true;
            if let (FrameKind::Hello, _, mut body) = taken_apart(&frame)? {
                hellos[at] = Some(Hello::decode(&mut body)?);
            }
        }
        if until.passed() {
            let silent = hellos.iter().position(Option::is_none).map_or(0, |at| at + 1);
            let text =
                format!("rank {silent} has not come to tine_init within {} s", HELLO_NS / 1_000_000_000);
            return Err(Error::errno(libc::ETIMEDOUT, text));
        }
        if !any {
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
    }
    let nodes: Vec<Hello> = hellos.into_iter().flatten().collect();
    let mut refusal = nodes.iter().enumerate().find_map(|(at, other)| own.refuses(at + 1, other));
    if nodes.is_empty() {
        let text = "the job has one rank, so there is no node: start it with mpirun -n 2 or more, and with the mpirun of the MPI that libtine-mpi was compiled for";
        refusal = Some(Error::errno(libc::ENODEV, text));
    }
    let exchange = Exchange {
        pid: fork::pid(),
        nodes,
        refusal,
        bell: AtomicU32::new(QUIET),
        posted: Mutex::default(),
        hands: Mutex::default(),
        next_number: AtomicU64::new(1),
        leaving: AtomicU32::new(end::STAYS),
        has_left: AtomicU32::new(0),
        joined_before,
        witness,
    };
    let now = now_ns();
    let node = |peer| Node { peer, lost: None, left: false, heard_ns: now, pinged: false };
    Ok(Talk {
        transport,
        exchange: Arc::new(exchange),
        nodes: peers.into_iter().map(node).collect(),
        timeout_ns,
        unfetched: false,
        is_crowded: false,
    })
}

/// A frame's kind, the number of what it is about, and the rest.
pub(crate) fn taken_apart(frame: &[u8]) -> Result<(FrameKind, u64, Reader<'_>)> {
    let mut reader = Reader(body_of(frame));
    let kind =
        kind_of(reader.number()?).ok_or_else(|| Error::errno(libc::EPROTO, "a frame of no known kind"))?;
    let number = reader.number()?;
    Ok((kind, number, reader))
}

/// A frame is not sent, as its node is lost. The pool that it is about may have been made since then, and hears so now.
fn tell_lost(hands: &[Living], at: usize, frame: &[u8], why: &Error) {
    let Ok((_, number, _)) = taken_apart(frame) else { return };
    if let Some((_, hand)) = hands.iter().find(|(known, _)| *known == number) {
        hand.has_lost(at, why);
    }
}

/// What was read once is not there to be read again.
fn not_for_a_moment(error: Error) -> Error {
    if error.code().0 == -libc::ENOMEM { Error::new(Code::DIED, error.text().into_owned()) } else { error }
}

impl Talk {
    pub(crate) fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }

    /// Serves until the process leaves.
    pub(crate) fn run(&mut self) {
        let mut attention = Attention::new(now_ns());
        let mut silent_look_ns = 0;
        while self.exchange.leaving.load(Ordering::Acquire) == end::STAYS {
            let any = self.step();
            let now = now_ns();
            // However much others have to say.
            if now >= silent_look_ns {
                silent_look_ns = now + SILENT_LOOK_NS;
                self.look_for_silent(now);
            }
            if any {
                attention.has_happened(now);
                continue;
            }
            if self.nodes.iter().any(Node::is_moving) {
                std::thread::yield_now(); // MPI moves a long message in its sender's and its receiver's calls.
                continue;
            }
            match attention.next(now, true) {
                Next::Look => std::thread::yield_now(),
                Next::Sleep(ns) if self.look_for_silent(now) => self.exchange.sleep(Deadline(now + ns)),
                Next::Sleep(_) => {
                    self.exchange.sleep(Deadline::NEVER);
                    let now = now_ns();
                    attention.has_happened(now);
                    self.nodes.iter_mut().for_each(|node| node.heard_ns = now);
                }
            }
        }
        self.end();
    }

    /// Sends and receives what there is; whether there was anything.
    fn step(&mut self) -> bool {
        let (any, hands) = self.collect();
        any | self.move_on(&hands)
    }

    /// Takes over what others want sent; whether there was anything, and the pools that there are.
    fn collect(&mut self) -> (bool, Vec<Living>) {
        let mut any = false;
        self.unfetched |= self.exchange.bell.swap(QUIET, Ordering::AcqRel) == NEWS;
        let posted = std::mem::take(&mut *lock(&self.exchange.posted));
        // Asked for after the frames: each pool that has posted one is among them, and so is whoever an answer is for.
        let hands = self.exchange.hands();
        for (at, frame) in posted {
            any = true;
            match self.nodes[at].lost.clone() {
                None => self.nodes[at].peer.out.post(frame),
                Some(why) => tell_lost(&hands, at, &frame, &why),
            }
        }
        for at in 0..if std::mem::take(&mut self.unfetched) { self.nodes.len() } else { 0 } {
            let node = &mut self.nodes[at];
            if node.is_lost() || node.peer.out.is_full() || node.peer.make_room().is_err() {
                self.unfetched |= !node.is_lost();
                continue;
            }
            for (_, hand) in &hands {
                while let Some(parcel) = hand.take_parcel(at) {
                    any = true;
                    self.nodes[at].peer.out.post(parcel);
                    if self.nodes[at].peer.out.is_full() {
                        self.unfetched = true; // There may be more.
                        break;
                    }
                }
            }
        }
        (any, hands)
    }

    /// Sends what has been taken over, and receives what there is; whether there was anything.
    fn move_on(&mut self, hands: &[Living]) -> bool {
        let mut any = false;
        for at in 0..self.nodes.len() {
            if self.nodes[at].is_lost() {
                continue;
            }
            match self.nodes[at].peer.out.flush(&self.transport) {
                Ok(moved) => {
                    // Who takes long bytes, piece by piece, is not silent. A short message says nothing of the node: MPI takes it and keeps it.
                    if moved && self.nodes[at].peer.out.is_amid_a_load() {
                        self.nodes[at].heard_ns = now_ns();
                    }
                    any |= moved;
                }
                Err(error) => self.lose(at, &error),
            }
        }
        any | self.receive(hands)
    }

    fn receive(&mut self, hands: &[Living]) -> bool {
        let mut any = false;
        // As many messages as there are nodes: each look at all nodes is paid for by so many.
        for _ in 0..self.nodes.len() {
            // Whose the message is will be known when it is taken.
            if self.is_crowded {
                let has_no_room = |node: &mut Node| !node.is_lost() && node.peer.make_room().is_err();
                self.is_crowded = self.nodes.iter_mut().any(has_no_room);
            }
            if self.is_crowded {
                break;
            }
            match self.transport.probe(None) {
                Ok(None) => break,
                Ok(Some(arrived)) => {
                    any = true;
                    self.has_arrived(arrived);
                }
                Err(Failed { whose: Some(rank), error }) => self.lose_rank(rank, &error),
                Err(Failed { whose: None, .. }) => {
                    any |= self.look_at_each();
                    break;
                }
            }
        }
        for at in 0..self.nodes.len() {
            if self.nodes[at].is_lost() {
                continue;
            }
            match self.receive_from(at, hands) {
                Ok(moved) => any |= moved,
                // Short of memory for a moment: it is there the next time.
                Err(error) if error.code().0 == -libc::ENOMEM => (),
                Err(error) => self.lose(at, &error),
            }
        }
        any
    }

    /// A message is there.
    fn has_arrived(&mut self, (rank, length, message): Arrived) {
        // What comes from one that is lost means nothing any more.
        let node = rank.checked_sub(1).and_then(|at| self.nodes.get_mut(at));
        if let Some(node) = node.filter(|node| !node.is_lost()) {
            (node.heard_ns, node.pinged) = (now_ns(), false);
            node.peer.into.has_come(message, length);
            self.is_crowded |= node.peer.make_room().is_err();
        }
    }

    /// To look for anybody's messages has failed, and the transport does not say whose error it was: looks for those of each node by itself.
    /// Whether there was anything.
    fn look_at_each(&mut self) -> bool {
        let mut any = false;
        for at in 0..self.nodes.len() {
            if self.nodes[at].is_lost() {
                continue;
            }
            match self.transport.probe(Some(at + 1)) {
                Ok(None) => (),
                Ok(Some(arrived)) => {
                    any = true;
                    self.has_arrived(arrived);
                }
                Err(failed) => self.lose(at, &failed.error),
            }
        }
        any
    }

    /// What there is of one node's; whether there was anything.
    fn receive_from(&mut self, at: usize, hands: &[Living]) -> Result<bool> {
        let node = &mut self.nodes[at];
        let hand_of = |number: u64| hands.iter().find(|(known, _)| *known == number).map(|(_, hand)| hand);
        match node.peer.into.receive(&self.transport)? {
            Came::Nothing(moved) => {
                if moved {
                    node.heard_ns = now_ns();
                }
                return Ok(moved);
            }
            Came::Block(number, block) => {
                if let Some(hand) = hand_of(number) {
                    hand.has_come(at, block);
                }
            }
            Came::Announced(number, length) => {
                node.peer.into.expect(hand_of(number).and_then(|hand| hand.place_for(length)));
            }
            Came::Frame(frame) => {
                let (kind, number, mut body) = taken_apart(&frame)?;
                node.left |= kind == FrameKind::Bye;
                // Where there is none the pool is gone, or it is an answer to a ping.
                if let Some(hand) = hand_of(number) {
                    self.unfetched = true;
                    hand.deal_with(at, kind, &mut body).map_err(not_for_a_moment)?;
                }
            }
        }
        node.heard_ns = now_ns();
        Ok(true)
    }

    /// Pings nodes that have been silent for long, and gives those up that stay silent; whether anything is under way.
    fn look_for_silent(&mut self, now: u64) -> bool {
        let hands = self.exchange.hands();
        let mut under_way = false;
        for at in 0..self.nodes.len() {
            if self.nodes[at].is_lost() {
                continue;
            }
            let awaited = hands.iter().filter_map(|(_, hand)| hand.awaits(at));
            let Some(bytes) = awaited.reduce(|all, bytes| all + bytes) else {
                (self.nodes[at].heard_ns, self.nodes[at].pinged) = (now, false);
                continue;
            };
            under_way = true;
            let timeout_ns = self.timeout_ns.saturating_add(bytes as u64 * BYTE_NS);
            let node = &mut self.nodes[at];
            let silent_ns = now.saturating_sub(node.heard_ns);
            if !node.pinged && silent_ns > self.timeout_ns / 4 {
                node.pinged = true;
                // It may have got its first task long after it last spoke, while this thread was busy with others: what counts is the
                // wait for this answer.
                node.heard_ns = node.heard_ns.max(now - self.timeout_ns / 4);
                node.peer.out.post(Frame::new(FrameKind::Ping, 0).finish());
            } else if silent_ns > timeout_ns {
                let text = format!("it has not answered for {} ms", silent_ns / 1_000_000);
                self.lose(at, &Error::errno(libc::ETIMEDOUT, text));
            }
        }
        under_way
    }

    /// The node of this rank, if there is one.
    fn lose_rank(&mut self, rank: Rank, why: &Error) {
        if let Some(at) = rank.checked_sub(1).filter(|at| *at < self.nodes.len()) {
            self.lose(at, why);
        }
    }

    /// A node will never answer again, or is of no use.
    fn lose(&mut self, at: usize, why: &Error) {
        let node = &mut self.nodes[at];
        if node.is_lost() {
            return;
        }
        // MPI may still read what it was given to send.
        std::mem::forget(std::mem::replace(&mut node.peer, Peer::new(at + 1)));
        let host = self.exchange.nodes.get(at).map_or("", |node| &node.host);
        let text = format!("rank {} on {host} is lost: {}", at + 1, why.text());
        log::say(Level::Warning, &format!("tine: {text}\n"));
        self.part_with(at, Error::new(Code::DIED, text));
    }

    /// Nothing comes from that node any more, and nothing goes there.
    fn part_with(&mut self, at: usize, error: Error) {
        self.nodes[at].lost = Some(error.clone());
        self.exchange.hands().iter().for_each(|(_, hand)| hand.has_lost(at, &error));
    }
}
