//! The keys of a terminal in raw mode. Nothing here waits: half a key stays half a key until more has come, or none ever does.

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
    /// Behind `ESC [` or `ESC O`: the number that stands there.
    Sequence(u32),
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
        let time = Timespec::try_from(time).ok();
        match poll(&mut input, time.as_ref()) {
            Ok(0) | Err(Errno::INTR) => return Ok(Came::Keys(Vec::new())),
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
        let mut keys: Vec<Key> = bytes.iter().filter_map(|byte| self.next(*byte)).collect();
        // What a key sends comes at once, so this is the key Escape.
        if matches!(self.0, Within::Escape) {
            self.0 = Within::Nothing;
            keys.push(Key::Quit);
        }
        keys
    }

    fn next(&mut self, byte: u8) -> Option<Key> {
        let within = std::mem::take(&mut self.0);
        match (within, byte) {
            (_, ESCAPE) => self.0 = Within::Escape,
            (Within::Escape, b'[' | b'O') => self.0 = Within::Sequence(0),
            (Within::Sequence(number), b'0'..=b'9') => {
                self.0 = Within::Sequence(number.saturating_mul(10).saturating_add(u32::from(byte - b'0')));
            }
            // Modifiers, and what reports of a mouse begin with.
            (Within::Sequence(_), b' '..=b'?') => self.0 = Within::Sequence(0),
            (Within::Sequence(number), b'@'..=b'~') => {
                return match (byte, number) {
                    (b'A', _) => Some(UP),
                    (b'B', _) => Some(DOWN),
                    (b'~', 5) => Some(PAGE_UP),
                    (b'~', 6) => Some(PAGE_DOWN),
                    _ => None,
                };
            }
            // With Alt it is another key.
            (Within::Escape, _) => (),
            (Within::Nothing | Within::Sequence(_), _) => return of_one_byte(byte),
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
        let known: [(&[u8], &[Key]); 9] = [
            (b"q", &[Key::Quit]),
            (b"\x1b", &[Key::Quit]),
            (b"\x1b[A\x1bOB", &[UP, DOWN]),
            (b"\x1b[5~\x1b[6~\x1b[7~", &[PAGE_UP, PAGE_DOWN]),
            (b"\x1b[1;5Ak j", &[UP, UP, Key::Hold, DOWN]),
            (b"\x1b[<0;1;1Mx\xe2\x82\xac", &[]),
            (b"\x1b[<\x03", &[Key::Quit]),
            (b"\xe2q", &[Key::Quit]),
            (b"\x1bq", &[]),
        ];
        for (bytes, keys) in known {
            assert_eq!(Keys::default().take(bytes), keys, "{bytes:?}");
        }
        let mut keys = Keys::default();
        assert_eq!(
            (keys.take(b"\x1b["), keys.take(b"6"), keys.take(b"~j")),
            (vec![], vec![], vec![PAGE_DOWN, DOWN])
        );
    }
}
