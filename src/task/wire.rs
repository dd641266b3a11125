//! The messages between host and supervisor, and from the supervisor to a spawned worker.
//!
//! Every message is one packet: eight words, then text, with descriptors beside it. What is longer travels in a memfd.
//! Only processes that run no user code hold these sockets, so what comes from them is trusted as far as its origin;
//! a version in the first message keeps different builds of tine apart.

use crate::error::{Code, Error, Result};
use crate::sys::clock::Deadline;
use crate::sys::fd::Guarded;
use crate::sys::memory::{self, Mapping};
use crate::sys::reserve;
use crate::sys::socket::{self, Received, Sent};
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Changes with every change of a message, of the segment or of the heap's layout.
pub(crate) const PROTOCOL: u64 = 9;

/// What tells builds apart that do not speak the same protocol.
pub(crate) fn version() -> u64 {
    let build = concat!(env!("CARGO_PKG_VERSION"), "/", env!("CARGO_PKG_NAME"));
    let layout = size_of::<super::ring::Shared>() as u64;
    build
        .bytes()
        .fold(PROTOCOL << 32 ^ layout, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum MessageKind {
    /// Host to supervisor, first: version, start method, heap address and length; heap, host's pidfd, settings, and a
    /// single process's input where it is long.
    Configure = 1,
    /// Host to supervisor: slot, generation; the worker's segment, the host's eventfd for it, and the
    /// worker's end of a socket by which it gets further segments.
    StartWorker = 2,
    /// Host to supervisor: how many nanoseconds workers that have been asked to leave may take.
    Stop = 3,
    /// Supervisor to host: it is up; its own pidfd, and its tables of modules and names.
    Ready = 4,
    /// Supervisor to host: it cannot be used; code and text.
    Refused = 5,
    /// Supervisor to host: slot, generation, pid; the worker's pidfd.
    Started = 6,
    /// Supervisor to host: slot, generation, code and text.
    NotStarted = 7,
    /// Supervisor to host: slot, generation, how ([`How`]), peak memory, pid, processor time in its own code and in
    /// the kernel's; the end of its output, where that is captured.
    Exited = 8,
    /// Supervisor to a spawned worker: version, slot, generation, heap address and length; heap, segment, eventfd,
    /// socket, settings and tables, and the input as above.
    Setup = 9,
    /// Host to a worker, over a socket of its own: address, length, whether for writing; a segment to map there.
    Share = 10,
    /// Host to the supervisor of a single process: a signal, for the process and all that it has started.
    SignalTree = 11,
    /// Host to a worker, over the same socket: the reading end of an [`super::handover`].
    Handover = 12,
    /// Keeper to host: 0 or the errno of why there is no supervisor, its number; its pidfd.
    Born = 13,
    /// Keeper to host: how the supervisor has ended, as wait() has it.
    Gone = 14,
    /// Host to supervisor: slot, generation; it has lost the worker's pidfd, `Started` once more.
    StartedAgain = 15,
    /// Host to supervisor: slot, generation, a signal for that worker, which the host may not send it.
    SignalWorker = 16,
    /// Host to a worker, over a socket of its own: the address of a segment to unmap, where it was passed.
    TakeBack = 17,
}

const KINDS: [MessageKind; 17] = [
    MessageKind::Configure,
    MessageKind::StartWorker,
    MessageKind::Stop,
    MessageKind::Ready,
    MessageKind::Refused,
    MessageKind::Started,
    MessageKind::NotStarted,
    MessageKind::Exited,
    MessageKind::Setup,
    MessageKind::Share,
    MessageKind::SignalTree,
    MessageKind::Handover,
    MessageKind::Born,
    MessageKind::Gone,
    MessageKind::StartedAgain,
    MessageKind::SignalWorker,
    MessageKind::TakeBack,
];

/// How a worker has ended, in a word of `Exited`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct How {
    pub(crate) signal: i32,
    pub(crate) code: i32,
    /// The supervisor has ended it, because it was past its deadline.
    pub(crate) late: bool,
}

impl How {
    pub(crate) fn to_word(self) -> u64 {
        u64::from(self.late) << 63 | (self.signal as u64) << 32 | u64::from(self.code as u32)
    }

    pub(crate) fn from_word(word: u64) -> How {
        How { signal: (word >> 32) as i32 & i32::MAX, code: word as u32 as i32, late: word >> 63 != 0 }
    }
}

/// The words of a message besides its kind.
pub(crate) const WORDS: usize = 7;
const HEADER: usize = (WORDS + 1) * 8;
const TEXT: usize = 960;

/// A message.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) kind: MessageKind,
    pub(crate) words: [u64; WORDS],
    pub(crate) text: String,
    pub(crate) fds: Vec<OwnedFd>,
    /// It had descriptors, for which this process had no room.
    pub(crate) is_stripped: bool,
}

impl Message {
    pub(crate) fn new(kind: MessageKind, words: &[u64]) -> Message {
        let mut all = [0; WORDS];
        all[..words.len()].copy_from_slice(words);
        Message { kind, words: all, text: String::new(), fds: Vec::new(), is_stripped: false }
    }

    pub(crate) fn with_fds(mut self, fds: Vec<OwnedFd>) -> Message {
        self.fds = fds;
        self
    }

    /// Whether it is of use without its descriptors: the host asks for a pidfd again, and can do without an output.
    fn may_be_bare(&self) -> bool {
        matches!(self.kind, MessageKind::Started | MessageKind::Exited) && !self.fds.is_empty()
    }

    /// The message, if all of it has come.
    pub(crate) fn whole(self) -> Result<Message> {
        if self.is_stripped {
            let text = "the descriptors of a message found no room in this process";
            return Err(Error::errno(libc::EMFILE, text));
        }
        Ok(self)
    }

    /// A message that carries an error: its code follows the words given.
    pub(crate) fn failure(kind: MessageKind, words: &[u64], error: &Error) -> Message {
        let mut all = words.to_vec();
        all.push(error.code().0 as u64);
        let mut message = Message::new(kind, &all);
        message.text = error.text().chars().take(TEXT / 4).collect();
        message
    }

    /// The error that such a message carries.
    pub(crate) fn error(&self, word: usize) -> Error {
        Error::new(Code(self.words[word] as i32), self.text.clone())
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.text.len());
        bytes.extend((self.kind as u64).to_ne_bytes());
        self.words.iter().for_each(|word| bytes.extend(word.to_ne_bytes()));
        bytes.extend(self.text.as_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8], fds: Vec<OwnedFd>) -> Result<Message> {
        let broken = || Error::errno(libc::EPROTO, "a message on the control socket is not tine's");
        let (header, text) = bytes.split_at_checked(HEADER).ok_or_else(broken)?;
        let mut words =
            header.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap_or_default()));
        let number = words.next().unwrap_or(0);
        let kind = KINDS.into_iter().find(|kind| *kind as u64 == number).ok_or_else(broken)?;
        let mut all = [0; WORDS];
        all.iter_mut().zip(words).for_each(|(place, word)| *place = word);
        let text = String::from_utf8_lossy(text).into_owned();
        Ok(Message { kind, words: all, text, fds, is_stripped: false })
    }
}

/// One end of a control socket. Sending never blocks: what cannot be sent yet waits here, behind what came before it.
///
/// | the first that waits | is sent |
/// |---|---|
/// | found no room in the socket | when that can be written: [`Connection::awaits_room`] |
/// | found no memory, or too many descriptors on their way | some milliseconds later: [`Connection::next_try`] |
#[derive(Debug)]
pub(crate) struct Connection {
    socket: Guarded,
    waiting: VecDeque<Message>,
    /// After a shortage: when to try again, and after how long a pause; else 0.
    retry: Deadline,
    pause_ns: u64,
}

/// The pauses between two tries while something is short.
const FIRST_PAUSE_NS: u64 = 1_000_000;
const LONGEST_PAUSE_NS: u64 = 64_000_000;

/// Whether a call on a socket failed for something that may be there again in a moment. What is left says that the
/// socket is not what it was.
pub(crate) fn is_shortage(error: &Error) -> bool {
    let passing = [libc::ENOMEM, libc::ENOBUFS, libc::EMFILE, libc::ENFILE, libc::EPERM, libc::EACCES];
    passing.contains(&-error.code().0)
}

impl Connection {
    pub(crate) fn new(socket: OwnedFd) -> Connection {
        Connection { socket: Guarded::new(socket), waiting: VecDeque::new(), retry: Deadline(0), pause_ns: 0 }
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Whether something waits.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// How many messages wait.
    pub(crate) fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    /// Whether something waits until the socket can be written.
    pub(crate) fn awaits_room(&self) -> bool {
        self.is_waiting() && self.pause_ns == 0
    }

    /// When to call [`Connection::flush`] though nothing has happened.
    pub(crate) fn next_try(&self) -> Deadline {
        if self.is_waiting() && self.pause_ns != 0 { self.retry } else { Deadline::NEVER }
    }

    /// Sends, or puts in the queue: nothing is lost for want of something. A peer that is gone is found out by reading.
    pub(crate) fn send(&mut self, message: Message) -> Result<()> {
        self.waiting.push_back(message);
        self.flush()
    }

    /// Sends, or says why that is not possible: for what can be begun anew as well. Waits for room as [`Connection::send`].
    pub(crate) fn try_send(&mut self, message: Message) -> Result<()> {
        if self.is_waiting() {
            return self.send(message);
        }
        match transmit(self.fd(), &message)? {
            Sent::Full => self.waiting.push_back(message),
            Sent::Done | Sent::Gone => (),
        }
        Ok(())
    }

    /// The message with so many behind it, if it waits.
    pub(crate) fn waiting_before(&mut self, behind: u32) -> Option<&mut Message> {
        let at = self.waiting.len().checked_sub(behind as usize + 1)?;
        self.waiting.get_mut(at)
    }

    /// Sends what waits, as far as that is possible.
    pub(crate) fn flush(&mut self) -> Result<()> {
        if self.pause_ns != 0 && !self.retry.passed() {
            return Ok(());
        }
        while let Some(message) = self.waiting.front_mut() {
            match transmit(self.socket.as_raw_fd(), message) {
                Ok(Sent::Done) => drop(self.waiting.pop_front()),
                Ok(Sent::Full) => break,
                Ok(Sent::Gone) => self.waiting.clear(),
                // What they say is worth more than what they bring.
                Err(error) if is_shortage(&error) && message.may_be_bare() => message.fds.clear(),
                Err(error) if is_shortage(&error) => {
                    self.pause_ns = (self.pause_ns * 2).clamp(FIRST_PAUSE_NS, LONGEST_PAUSE_NS);
                    self.retry = Deadline::after(self.pause_ns);
                    return Ok(());
                }
                Err(error) => {
                    self.waiting.pop_front();
                    return Err(error);
                }
            }
        }
        self.pause_ns = 0;
        Ok(())
    }

    /// Ends the connection for everybody who has a copy of this end. What has been sent still arrives; nothing more is.
    pub(crate) fn shut_down(&mut self) {
        socket::shut_down(self.fd());
        (self.waiting, self.pause_ns) = (VecDeque::new(), 0);
    }

    /// The next message; `None` where there is none yet, or none can be taken for want of something.
    ///
    /// A peer that is gone is `EPIPE`.
    pub(crate) fn receive(&mut self) -> Result<Option<Message>> {
        let mut buffer = [0; HEADER + TEXT];
        match socket::receive(self.fd(), &mut buffer) {
            Ok(Received::Nothing) => Ok(None),
            Ok(Received::Gone) => {
                Err(Error::errno(libc::EPIPE, "the other end of the control socket is gone"))
            }
            Ok(Received::Message(length, fds)) => Message::decode(&buffer[..length], fds).map(Some),
            Ok(Received::Stripped(length)) => {
                let message = Message::decode(&buffer[..length], Vec::new())?;
                Ok(Some(Message { is_stripped: true, ..message }))
            }
            Err(error) if is_shortage(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn transmit(socket: RawFd, message: &Message) -> Result<Sent> {
    let fds: Vec<RawFd> = message.fds.iter().map(AsRawFd::as_raw_fd).collect();
    socket::send(socket, &message.encode(), &fds)
}

/// The descriptors that a message must have, and one more that it may have.
pub(crate) fn split<const N: usize>(
    mut fds: Vec<OwnedFd>,
    missing: &'static str,
) -> Result<([OwnedFd; N], Option<OwnedFd>)> {
    let more = if fds.len() > N { fds.pop() } else { None };
    let fds = fds.try_into().map_err(|_| Error::errno(libc::EPROTO, missing))?;
    Ok((fds, more))
}

/// Bytes that are too long for a message, in a memfd.
pub(crate) fn to_memfd(bytes: &[u8]) -> Result<OwnedFd> {
    let fd = memory::sealed_memfd(c"tine-settings", bytes.len().max(1))?;
    let mapping = Mapping::shared(fd.as_raw_fd(), bytes.len().max(1))?;
    // SAFETY: the mapping is as long as the bytes, and new.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), mapping.pointer(), bytes.len()) };
    Ok(fd)
}

/// The bytes of a memfd of [`to_memfd`].
pub(crate) fn from_memfd(fd: &OwnedFd) -> Result<Vec<u8>> {
    let length = memory::length_of(fd.as_raw_fd())?;
    let mapping = Mapping::shared(fd.as_raw_fd(), length.max(1))?;
    // SAFETY: the memfd is sealed, so the mapping stays as long as it is; its writer has finished.
    Ok(unsafe { std::slice::from_raw_parts(mapping.pointer(), length) }.to_vec())
}

/// Puts values one behind the other. Where there is no memory for one it takes none any more, and the end of it is -ENOMEM.
#[derive(Default)]
pub(crate) struct Writer {
    pub(crate) written: Vec<u8>,
    is_short: bool,
}

impl Writer {
    pub(crate) fn number(&mut self, number: u64) {
        self.add(&number.to_ne_bytes());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.add(bytes);
    }

    fn add(&mut self, bytes: &[u8]) {
        self.is_short |= reserve::grow(&mut self.written, bytes.len()).is_err();
        if !self.is_short {
            self.written.extend(bytes);
        }
    }

    /// All of it.
    pub(crate) fn finish(self) -> Result<Vec<u8>> {
        if self.is_short {
            Err(Error::errno(libc::ENOMEM, "no memory for a message"))
        } else {
            Ok(self.written)
        }
    }
}

/// Takes them apart again.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn number(&mut self) -> Result<u64> {
        let bytes = self.take(8)?;
        Ok(u64::from_ne_bytes(bytes.try_into().unwrap_or_default()))
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.number()?;
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    pub(crate) fn text(&mut self) -> Result<String> {
        Ok(String::from_utf8_lossy(self.bytes()?).into_owned())
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or_else(|| Error::errno(libc::EPROTO, "settings of the control socket are cut off"))?;
        self.0 = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::pidfd;

    #[test]
    fn messages_arrive_whole_with_their_descriptors() {
        let (left, right) = socket::pair().unwrap();
        let (mut left, mut right) = (Connection::new(left), Connection::new(right));
        assert!(right.receive().unwrap().is_none());
        let memfd = to_memfd(b"long things").unwrap();
        let error = Error::invalid("ä".repeat(2000));
        left.send(Message::new(MessageKind::Exited, &[1, 2, 3]).with_fds(vec![memfd])).unwrap();
        left.send(Message::failure(MessageKind::Refused, &[9], &error)).unwrap();
        let first = right.receive().unwrap().unwrap();
        assert_eq!((first.kind, first.words[2]), (MessageKind::Exited, 3));
        assert_eq!(from_memfd(&first.fds[0]).unwrap(), b"long things");
        let second = right.receive().unwrap().unwrap();
        assert_eq!(second.error(1).code(), error.code());
        drop(left);
        // A test in another thread may have forked, and its child has the other end as well, for as long as it lives.
        assert!(pidfd::poll(right.fd(), Deadline::after(60_000_000_000)));
        assert_eq!(right.receive().unwrap_err().code().0, -libc::EPIPE);
    }

    #[test]
    fn how_one_ended_travels_in_a_word() {
        for (signal, code, late) in [(0, 255, false), (9, 0, true), (64, 0, false)] {
            let how = How { signal, code, late };
            assert_eq!(How::from_word(how.to_word()), how);
        }
    }

    #[test]
    fn a_full_socket_keeps_what_does_not_fit() {
        let (left, right) = socket::pair().unwrap();
        let (mut left, mut right) = (Connection::new(left), Connection::new(right));
        for number in 0..5000 {
            left.send(Message::new(MessageKind::Exited, &[number])).unwrap();
        }
        assert!(left.awaits_room());
        for number in 0..5000 {
            left.flush().unwrap();
            assert_eq!(right.receive().unwrap().unwrap().words[0], number);
        }
        assert!(!left.is_waiting());
    }

    #[test]
    fn settings_that_are_cut_off_are_refused() {
        let mut writer = Writer::default();
        writer.bytes(b"abc");
        assert_eq!(Reader(&writer.written).bytes().unwrap(), b"abc");
        assert!(Reader(&writer.written[..10]).bytes().is_err());
        assert!(Reader(&[255; 8]).bytes().is_err());
    }
}
