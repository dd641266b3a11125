//! Two ranks within one thread, over a transport in which a long message moves when the test lets it.

use super::*;
use crate::cluster::transport::{Functions, Parting};
use crate::heap::Heap;
use crate::task::wire::Reader;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::rc::Rc;
use std::sync::atomic::Ordering;

/// A message: a short one with its bytes, a long one with their place at the sender.
struct Mail {
    from: Rank,
    place: *const u8,
    length: usize,
    kept: Vec<u8>,
    is_taken: RefCell<bool>,
}

enum Handle {
    Sent(Rc<Mail>),
    Matched(Rc<Mail>),
    Receiving(Rc<Mail>, *mut u8),
}

#[derive(Default)]
struct Wire {
    /// The rank that calls.
    here: Rank,
    to: [VecDeque<Rc<Mail>>; 2],
    /// So many long messages may move.
    may_move: usize,
}

thread_local! {
    static WIRE: RefCell<Wire> = RefCell::default();
}

fn wire<T>(what: impl FnOnce(&mut Wire) -> T) -> T {
    WIRE.with_borrow_mut(what)
}

fn handle(handle: Handle, out: *mut *mut c_void) {
    // SAFETY: a place for a handle, as each caller has it.
    unsafe { out.write(Box::into_raw(Box::new(handle)).cast()) };
}

fn mail_of(from: Rank, place: *const u8, length: usize) -> Rc<Mail> {
    let mut kept = Vec::new();
    if length < APART {
        // SAFETY: as many bytes are there.
        kept.extend_from_slice(unsafe { std::slice::from_raw_parts(place, length) });
    }
    Rc::new(Mail { from, place, length, kept, is_taken: RefCell::new(false) })
}

unsafe extern "C" fn send(rank: c_int, data: *const c_void, length: usize, out: *mut *mut c_void) -> c_int {
    let mail = wire(|wire| {
        let mail = mail_of(wire.here, data.cast(), length);
        wire.to[rank as usize].push_back(Rc::clone(&mail));
        mail
    });
    handle(Handle::Sent(mail), out);
    0
}

unsafe extern "C" fn probe(rank: *mut c_int, length: *mut usize, out: *mut *mut c_void) -> c_int {
    let Some(mail) = wire(|wire| wire.to[wire.here].pop_front()) else { return 0 };
    // SAFETY: places for two numbers.
    unsafe { (rank.write(mail.from as c_int), length.write(mail.length)) };
    handle(Handle::Matched(mail), out);
    1
}

unsafe extern "C" fn receive(
    message: *mut c_void,
    room: *mut c_void,
    _: usize,
    out: *mut *mut c_void,
) -> c_int {
    // SAFETY: a handle of `probe`'s, which is used up.
    let handle_of = unsafe { Box::from_raw(message.cast::<Handle>()) };
    let Handle::Matched(mail) = *handle_of else { return -libc::EINVAL };
    handle(Handle::Receiving(mail, room.cast()), out);
    0
}

unsafe extern "C" fn done(moving: *mut c_void) -> c_int {
    // SAFETY: a handle of `send`'s or `receive`'s, which is used up when it is done.
    let is_done = match unsafe { &*moving.cast::<Handle>() } {
        Handle::Sent(mail) => mail.length < APART || *mail.is_taken.borrow(),
        Handle::Receiving(mail, room) => {
            let (from, may_move) = match mail.length < APART {
                true => (mail.kept.as_ptr(), true),
                false => (mail.place, wire(|wire| wire.may_move > 0)),
            };
            if may_move {
                // SAFETY: as many bytes there, and room for them here, by the contracts of sending and receiving.
                unsafe { std::ptr::copy_nonoverlapping(from, *room, mail.length) };
                mail.is_taken.replace(true);
                wire(|wire| wire.may_move -= usize::from(mail.length >= APART));
            }
            may_move
        }
        Handle::Matched(_) => false,
    };
    if is_done {
        // SAFETY: the handle comes from `Box::into_raw` in `handle`. It is done, so nobody asks for it again.
        drop(unsafe { Box::from_raw(moving.cast::<Handle>()) });
    }
    is_done.into()
}

fn transport() -> Transport {
    extern "C" fn yes() -> c_int {
        1
    }
    extern "C" fn start(_: *mut c_int, _: *mut c_int, _: Parting) -> c_int {
        0
    }
    extern "C" fn abort(_: c_int) {}
    Transport::over(Functions {
        name: c"a test's".as_ptr(),
        started: yes,
        start,
        send,
        probe,
        receive,
        done,
        stop: yes,
        abort,
    })
}

/// What a rank has been handed out.
#[derive(Debug, PartialEq)]
enum Told {
    Announced(u64, usize),
    /// The block's first byte, where it had a place.
    Block(u64, Option<u8>),
    /// The number that the frame is about.
    Frame(u64),
}

use Told::{Announced, Block as Whole, Frame as Framed};

struct Link {
    transport: Transport,
    heap: Arc<Heap>,
    sender: Peer,
    receiver: Peer,
    has_places: bool,
    /// Blocks that have come stay allocated, so that no other comes to lie there.
    kept: Vec<Block>,
}

impl Link {
    fn new() -> Link {
        let heap = Arc::new(Heap::create(1 << 30).unwrap());
        let (sender, receiver) = (Peer::new(1), Peer::new(0));
        Link { transport: transport(), heap, sender, receiver, has_places: true, kept: Vec::new() }
    }

    /// A block of this length, full of this byte.
    fn block(&self, length: usize, byte: u8) -> Block {
        let block = Block::allocate(&self.heap, length).unwrap();
        // SAFETY: new memory, as long as that.
        unsafe { block.pointer().write_bytes(byte, length) };
        block
    }

    /// A parcel about this pool: blocks by their lengths, each full of the pool's number.
    fn parcel(&self, number: u64, lengths: &[usize]) -> Parcel {
        let blocks = lengths.iter().map(|length| self.block(*length, number as u8)).collect();
        let frame = Frame::new(FrameKind::Tasks, number).finish();
        Parcel { blocks, number, frame, is_void: None }
    }

    fn post(&mut self, number: u64, lengths: &[usize]) {
        let parcel = self.parcel(number, lengths);
        self.sender.out.post(parcel);
    }

    /// Sends a message as it is.
    fn send_raw(&self, bytes: &[u8]) {
        wire(|wire| wire.to[1].push_back(mail_of(0, bytes.as_ptr(), bytes.len())));
    }

    /// Goes on until nothing moves any more, with so many long messages that may.
    fn go_on(&mut self, may_move: usize) -> Result<Vec<Told>> {
        wire(|wire| wire.may_move = may_move);
        let (mut told, mut idle) = (Vec::new(), 0);
        while idle < 2 {
            wire(|wire| wire.here = 0);
            self.sender.make_room()?;
            let mut any = self.sender.out.flush(&self.transport)?;
            wire(|wire| wire.here = 1);
            self.receiver.make_room()?;
            if let Some((_, length, message)) = self.transport.probe(None)? {
                self.receiver.into.has_come(message, length);
                any = true;
            }
            match self.receiver.into.receive(&self.transport)? {
                Came::Nothing(moved) => {
                    idle = if any | moved { 0 } else { idle + 1 };
                    continue;
                }
                Came::Announced(number, length) => {
                    let place = self.has_places.then(|| self.block(length, 0xee));
                    self.receiver.into.expect(place);
                    told.push(Announced(number, length));
                }
                Came::Block(number, block) => {
                    let byte = block.as_ref().map(|block| {
                        // SAFETY: as many bytes are there, and nobody else has them.
                        let bytes = unsafe { std::slice::from_raw_parts(block.pointer(), block.length()) };
                        assert!(bytes.iter().all(|byte| *byte == bytes[0]), "bytes of two blocks");
                        bytes[0]
                    });
                    self.kept.extend(block);
                    told.push(Whole(number, byte));
                }
                Came::Frame(frame) => {
                    let mut reader = Reader(body_of(&frame));
                    assert_eq!(kind_of(reader.number()?), Some(FrameKind::Tasks));
                    told.push(Framed(reader.number()?));
                }
            }
            idle = 0;
        }
        Ok(told)
    }
}

const LONG: usize = APART * 2;

#[test]
fn the_second_block_begins_while_the_first_one_moves() {
    let mut link = Link::new();
    link.post(1, &[LONG]);
    assert!(!link.sender.out.is_full());
    link.post(2, &[LONG]);
    assert!(link.sender.out.is_full());
    assert_eq!(link.go_on(0).unwrap(), [Announced(1, LONG), Announced(2, LONG)]);
    assert_eq!(link.go_on(1).unwrap(), [Whole(1, Some(1)), Framed(1)]);
    assert!(!link.sender.out.is_full(), "there is room for the next");
    link.post(3, &[LONG]);
    assert_eq!(link.go_on(0).unwrap(), [Announced(3, LONG)]);
    assert_eq!(link.go_on(2).unwrap(), [Whole(2, Some(2)), Framed(2), Whole(3, Some(3)), Framed(3)]);
    assert!(!link.sender.is_moving() && !link.receiver.is_moving());
}

#[test]
fn what_follows_a_frame_does_not_overtake_it() {
    let mut link = Link::new();
    link.post(1, &[LONG]);
    link.post(2, &[]);
    assert!(link.sender.out.is_full(), "what comes then goes together in one frame");
    link.post(3, &[LONG]);
    link.post(4, &[]);
    assert_eq!(link.go_on(0).unwrap(), [Announced(1, LONG), Announced(3, LONG)]);
    assert_eq!(link.go_on(1).unwrap(), [Whole(1, Some(1)), Framed(1), Framed(2)]);
    assert_eq!(link.go_on(1).unwrap(), [Whole(3, Some(3)), Framed(3), Framed(4)]);
}

#[test]
fn a_frame_whose_blocks_became_other_memory_is_not_sent() {
    for (is_set_late, wanted) in [(false, vec![Framed(2)]), (true, vec![Framed(1), Framed(2)])] {
        let mut link = Link::new();
        let is_void = Arc::new(AtomicBool::new(false));
        let parcel = link.parcel(1, &[LONG]);
        link.sender.out.post(Parcel { is_void: Some(Arc::clone(&is_void)), ..parcel });
        link.post(2, &[]);
        assert_eq!(link.go_on(0).unwrap(), [Announced(1, LONG)]);
        let mut told = if is_set_late { link.go_on(1).unwrap() } else { Vec::new() };
        is_void.store(true, Ordering::Release);
        told.extend(link.go_on(1).unwrap());
        assert_eq!(told.remove(0), Whole(1, Some(1)));
        assert_eq!(told, wanted);
        // The next block of anybody's is counted as before.
        link.post(3, &[LONG]);
        assert_eq!(link.go_on(1).unwrap(), [Announced(3, LONG), Whole(3, Some(3)), Framed(3)]);
    }
}

#[test]
fn blocks_without_a_place_come_as_none() {
    let mut link = Link::new();
    link.has_places = false;
    link.post(1, &[LONG]);
    link.post(2, &[LONG]);
    assert_eq!(link.go_on(0).unwrap(), [Announced(1, LONG), Announced(2, LONG)]);
    assert_eq!(link.go_on(2).unwrap(), [Whole(1, None), Framed(1), Whole(2, None), Framed(2)]);
}

#[test]
fn long_blocks_and_frames_come_in_pieces() {
    let mut link = Link::new();
    let mut frame = Frame::new(FrameKind::Tasks, 2);
    frame.body().bytes(&vec![7; PIECE * 2]);
    link.post(1, &[PIECE * 2 + 5]);
    link.sender.out.post(frame.finish());
    link.post(3, &[LONG]);
    let told = link.go_on(100).unwrap();
    let blocks = [Announced(1, PIECE * 2 + 5), Whole(1, Some(1)), Announced(3, LONG), Whole(3, Some(3))];
    assert!(blocks.iter().all(|wanted| told.contains(wanted)), "{told:?}");
    let frames: Vec<&Told> = told.iter().filter(|told| matches!(told, Framed(_))).collect();
    assert_eq!(frames, [&Framed(1), &Framed(2), &Framed(3)]);
}

#[test]
fn everything_comes_once_and_in_order_however_it_moves() {
    let mut random = fastrand::Rng::with_seed(18);
    for _ in 0..50 {
        let mut link = Link::new();
        let (mut told, mut wanted) = (Vec::new(), Vec::new());
        for number in 1..40 {
            let lengths: Vec<usize> = (0..random.usize(..3)).map(|_| LONG + random.usize(..100)).collect();
            wanted.extend(lengths.iter().map(|_| Whole(number, Some(number as u8))));
            wanted.push(Framed(number));
            link.post(number, &lengths);
            told.extend(link.go_on(random.usize(..3)).unwrap());
        }
        told.extend(link.go_on(100).unwrap());
        let mut blocks_come = 0;
        for told in &told {
            match told {
                Whole(..) => blocks_come += 1,
                Framed(number) => {
                    let end = wanted.iter().position(|wanted| *wanted == Framed(*number)).unwrap();
                    let named = wanted[..end].iter().filter(|wanted| matches!(wanted, Whole(..))).count();
                    let names_any = end > 0 && matches!(wanted[end - 1], Whole(..));
                    assert!(!names_any || blocks_come >= named, "frame {number} came before its blocks");
                }
                Announced(..) => (),
            }
        }
        // Each kind by itself is in the order in which it was posted.
        for is_of_kind in [|told: &&Told| matches!(told, Whole(..)), |told: &&Told| matches!(told, Framed(_))]
        {
            let (told, wanted) = (told.iter().filter(is_of_kind), wanted.iter().filter(is_of_kind));
            assert_eq!(told.collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
        }
    }
}

#[test]
fn what_no_rank_of_tines_sends_is_refused() {
    let frame =
        |numbers: &[u64]| -> Vec<u8> { numbers.iter().flat_map(|number| number.to_ne_bytes()).collect() };
    let block = FrameKind::Block as u64;
    let announced = frame(&[24, block, 1, LONG as u64]);
    let cases: [(&[Vec<u8>], &str); 8] = [
        (&[vec![1; 7]], "a frame of 7 bytes"),
        (&[frame(&[8, 5, 1])], "16 bytes of a frame of 8"),
        (&[frame(&[0])], ""),
        (&[frame(&[16, 5 | 1 << BEHIND, 1])], "a frame that names block 1 of 0"),
        (&[frame(&[16, 5 | u64::MAX << BEHIND, 1])], "of 0"),
        (&[frame(&[24, block, 1, 0])], "a block of no bytes"),
        (&[announced.clone(), vec![1; LONG + 1]], "bytes of a block of 65536"),
        (&[announced, Vec::new()], "sent 0 bytes of a block of 65536"),
    ];
    for (messages, text) in cases {
        let mut link = Link::new();
        messages.iter().for_each(|message| link.send_raw(message));
        let error = link.go_on(10).unwrap_err();
        assert!(error.code().0 == -libc::EPROTO && error.text().contains(text), "{}: {text}", error.text());
    }
}
