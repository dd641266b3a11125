//! How much may be submitted and not taken, of a pool and of a stream.

use crate::error::{Error, Result};

/// A window, and what is in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    most_tasks: usize,
    most_bytes: usize,
    tasks: usize,
    bytes: usize,
    /// Tasks that have their room and are not in it yet, because their inputs are being copied; and how long these inputs are.
    reserved_tasks: usize,
    reserved_bytes: usize,
}

impl Window {
    pub(super) fn new(most_tasks: usize, most_bytes: usize) -> Window {
        Window { most_tasks, most_bytes, tasks: 0, bytes: 0, reserved_tasks: 0, reserved_bytes: 0 }
    }

    /// The longest input that there can ever be room for.
    pub(super) fn most_bytes(&self) -> usize {
        self.most_bytes
    }

    /// What it is and what is in it, for others to see: the most tasks, the most bytes, tasks, bytes.
    pub(super) fn figures(&self) -> [usize; 4] {
        [self.most_tasks, self.most_bytes, self.tasks, self.bytes]
    }

    /// How many tasks are in it.
    pub(super) fn tasks(&self) -> usize {
        self.tasks
    }

    /// An input for which there will never be room is an error, which names both: "an input of 9 bytes; the window is 8".
    pub(super) fn check(&self, what: &str, window: &str, length: usize) -> Result<()> {
        if length <= self.most_bytes {
            return Ok(());
        }
        let text = format!("{what} of {length} bytes; {window} is {}", self.most_bytes);
        Err(Error::errno(libc::EMSGSIZE, text))
    }

    /// Whether there is room for one more task with an input of this length.
    pub(super) fn has_room(&self, length: usize) -> bool {
        self.room_left().is_some_and(|left| length <= left)
    }

    /// How long an input there is room for; `None` where there is none for any.
    pub(super) fn room_left(&self) -> Option<usize> {
        let bytes = self.bytes.saturating_add(self.reserved_bytes);
        (self.tasks + self.reserved_tasks < self.most_tasks).then(|| self.most_bytes.saturating_sub(bytes))
    }

    /// Keeps room for a task whose input is still to be copied.
    pub(super) fn reserve(&mut self, length: usize) {
        self.reserved_tasks += 1;
        self.reserved_bytes += length;
    }

    /// Gives that room back: the task enters now, or there will be none.
    pub(super) fn release(&mut self, length: usize) {
        self.reserved_tasks -= 1;
        self.reserved_bytes -= length;
    }

    pub(super) fn enter(&mut self, length: usize) {
        self.tasks += 1;
        self.bytes += length;
    }

    pub(super) fn leave(&mut self, length: usize) {
        self.tasks -= 1;
        self.bytes -= length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_limit_is_passed() {
        let mut window = Window::new(2, 10);
        window.enter(10);
        assert!(window.has_room(0) && !window.has_room(1));
        window.enter(0);
        assert!(!window.has_room(0));
        window.leave(10);
        assert!(window.has_room(10) && !window.has_room(11) && window.tasks() == 1);
        let error = window.check("an input", "the window", 11).unwrap_err();
        assert_eq!(error.text(), "an input of 11 bytes; the window is 10");
        assert!(window.check("an input", "the window", 10).is_ok());
    }

    #[test]
    fn what_is_being_copied_has_its_room() {
        let mut window = Window::new(2, 10);
        window.reserve(4);
        assert!(window.has_room(6) && !window.has_room(7) && window.tasks() == 0);
        window.reserve(0);
        assert!(!window.has_room(0) && window.room_left().is_none());
        window.release(4);
        window.enter(4);
        assert!(!window.has_room(0) && window.tasks() == 1);
        window.release(0);
        assert!(window.has_room(6) && !window.has_room(7));
    }
}
