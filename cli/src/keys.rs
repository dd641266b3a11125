//! The keys of a terminal in raw mode. Half a key is waited for as long as a terminal may take for the other half, and no longer.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::stdio::stdin;
use rustix::termios::{OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr};
use std::io;
use std::time::Duration;

#[derive(Debug, PartialEq, Eq)]
pub enum Key {
    Quit,
    Hold,
    Scroll(isize),
}

const UP: Key = Key::Scroll(-1);
const DOWN: Key = Key::Scroll(1);
const PAGE_UP: Key = Key::Scroll(-10);
const PAGE_DOWN: Key = Key::Scroll(10);
const ESCAPE: u8 = 0x1b;

/// The bytes of one key come one behind the other, if in more than one piece.
const KEY_TIME: Duration = Duration::from_millis(50);

/// What has come in time.
pub enum Came {
    Keys(Vec<Key>),
    /// The terminal is gone.
    HangUp,
}

/// Where in a key the last byte was.
#[derive(Default)]
enum Within {
    #[default]
    Nothing,
    Escape,
    /// Behind `ESC [` or `ESC O`: the number that stands there first.
    Sequence(u32),
    /// Behind that number: modifiers, or a report of a mouse.
    Behind(u32),
}

/// Reads keys from standard input.
#[derive(Default)]
pub struct Keys(Within);

impl Keys {
    /// Lets reads return at once. By the settings, which are the terminal's to be given back: that a descriptor does not block would be
    /// so for the shell, too. `enable_raw_mode` comes before.
    pub fn of_raw_mode() -> io::Result<Keys> {
        let mut settings = tcgetattr(stdin())?;
        settings.special_codes[SpecialCodeIndex::VMIN] = 0;
        settings.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(stdin(), OptionalActions::Now, &settings)?;
        Ok(Keys::default())
    }

    /// Waits for keys as long as that, or until there is a signal.
    pub fn wait(&mut self, time: Duration) -> io::Result<Came> {
        let mut input = [PollFd::from_borrowed_fd(stdin(), PollFlags::IN)];
        let is_within = !matches!(self.0, Within::Nothing);
        let time = Timespec::try_from(if is_within { KEY_TIME } else { time }).ok();
        match poll(&mut input, time.as_ref()) {
            Ok(0) => return Ok(Came::Keys(self.end().into_iter().collect())),
            Err(Errno::INTR) => return Ok(Came::Keys(Vec::new())),
            Ok(_) => (),
            Err(error) => return Err(error.into()),
        }
        if input[0].revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
            return Ok(Came::HangUp);
        }
        let mut bytes = [0; 256];
        match rustix::io::read(stdin(), &mut bytes) {
            // Somebody else has read it.
            Ok(0) | Err(Errno::INTR | Errno::AGAIN) => Ok(Came::Keys(Vec::new())),
            Ok(length) => Ok(Came::Keys(self.take(&bytes[..length]))),
            Err(Errno::IO) => Ok(Came::HangUp),
            Err(error) => Err(error.into()),
        }
    }

    /// The keys that end in these bytes.
    fn take(&mut self, bytes: &[u8]) -> Vec<Key> {
        bytes.iter().filter_map(|byte| self.next(*byte)).collect()
    }

    /// No more has come of what was begun: the key Escape, or no key at all.
    fn end(&mut self) -> Option<Key> {
        matches!(std::mem::take(&mut self.0), Within::Escape).then_some(Key::Quit)
    }

    fn next(&mut self, byte: u8) -> Option<Key> {
        let within = std::mem::take(&mut self.0);
        match (within, byte) {
            (_, ESCAPE) => self.0 = Within::Escape,
            (Within::Escape, b'[' | b'O') => self.0 = Within::Sequence(0),
            (Within::Sequence(number), b'0'..=b'9') => {
                self.0 = Within::Sequence(number.saturating_mul(10).saturating_add(u32::from(byte - b'0')));
            }
            (Within::Sequence(number) | Within::Behind(number), b' '..=b'?') => {
                self.0 = Within::Behind(number)
            }
            (Within::Sequence(number) | Within::Behind(number), b'@'..=b'~') => {
                return match (byte, number) {
                    (b'A', _) => Some(UP),
                    (b'B', _) => Some(DOWN),
                    (b'~', 5) => Some(PAGE_UP),
                    (b'~', 6) => Some(PAGE_DOWN),
                    _ => None,
                };
            }
            // With Alt it is another key.
            (Within::Escape, b' '..) => (),
            _ => return of_one_byte(byte),
        }
        None
    }
}

fn of_one_byte(byte: u8) -> Option<Key> {
    const CONTROL_C: u8 = 3;
    const CONTROL_D: u8 = 4;
    match byte {
        b'q' | CONTROL_C | CONTROL_D => Some(Key::Quit),
        b' ' => Some(Key::Hold),
        b'k' => Some(UP),
        b'j' => Some(DOWN),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_known_however_their_bytes_come() {
        let known: [(&[u8], &[Key]); 12] = [
            (b"q", &[Key::Quit]),
            (b"\x1b", &[Key::Quit]),
            (b"\x1b[A\x1bOB", &[UP, DOWN]),
            (b"\x1b[5~\x1b[6~\x1b[7~", &[PAGE_UP, PAGE_DOWN]),
            (b"\x1b[1;5Ak j", &[UP, UP, Key::Hold, DOWN]),
            (b"\x1b[<0;1;1Mx\xe2\x82\xac", &[]),
            (b"\x1b[<\x03", &[Key::Quit]),
            (b"\xe2q", &[Key::Quit]),
            (b"\x1bq", &[]),
            (b"\x1b[6;5~\x1b[3;5~\x1b[15;5~\x1b[5;2~", &[PAGE_DOWN, PAGE_UP]),
            (b"\x1b\x03", &[Key::Quit]),
            (b"\x1b[B\x1b", &[DOWN, Key::Quit]),
        ];
        for (bytes, keys) in known {
            let mut read = Keys::default();
            let taken: Vec<Key> = read.take(bytes).into_iter().chain(read.end()).collect();
            assert_eq!(taken, keys, "{bytes:?}");
        }
        let mut keys = Keys::default();
        assert_eq!(
            (keys.take(b"\x1b["), keys.take(b"6"), keys.take(b"~j")),
            (vec![], vec![], vec![PAGE_DOWN, DOWN])
        );
        // A read that ends within a key says nothing of it; a time in which nothing comes does.
        assert_eq!((keys.take(b"\x1b"), keys.take(b"[A")), (vec![], vec![UP]));
        assert_eq!((keys.take(b"\x1b["), keys.end(), keys.take(b"q")), (vec![], None, vec![Key::Quit]));
    }
}
