//! How far a map has come, for people: one line that is drawn over on a terminal, a few plain lines elsewhere.

use crate::sys::clock::now_ns;
use crate::sys::terminal;
use std::fmt::Write as _;
use std::os::fd::RawFd;

/// A terminal's line is drawn at most so often.
const INTERVAL_NS: u64 = 100_000_000;
/// The longest bar, in cells; and the parts in which it goes on where there is no terminal.
const CELLS: usize = 40;
const PARTS: usize = 4;

/// What a bar knows from one drawing to the next; all zero before the first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// When it was first drawn, by the monotonic clock; 0 before that.
    pub began_ns: u64,
    /// When it was drawn last.
    pub drawn_ns: u64,
    /// How many parts have been shown where there is no terminal, plus 1; on a terminal 1 while a line is open.
    pub shown: u64,
}

impl Progress {
    /// Draws, if there is something new to draw.
    pub fn draw(&mut self, fd: RawFd, label: &str, done: usize, total: usize, failed: u64) {
        let now = now_ns();
        let over = done >= total;
        if self.began_ns == 0 {
            self.began_ns = now;
        }
        if over && self.shown == u64::MAX {
            return;
        }
        let elapsed_ns = now - self.began_ns;
        match terminal::columns(fd) {
            Some(columns) => {
                if !over && self.shown != 0 && now - self.drawn_ns < INTERVAL_NS {
                    return;
                }
                let mut line = line(label, done, total, failed, elapsed_ns, columns);
                line.insert(0, '\r');
                line.push_str(if over { "\x1b[K\n" } else { "\x1b[K" });
                terminal::write_once(fd, line.as_bytes());
                (self.drawn_ns, self.shown) = (now, if over { u64::MAX } else { 1 });
            }
            None => {
                let part = if over { PARTS } else { (done as u128 * PARTS as u128 / total as u128) as usize };
                if !over && (part as u64) < self.shown.max(1) {
                    return;
                }
                let line = text(label, done, total, failed, elapsed_ns) + "\n";
                terminal::write_once(fd, line.as_bytes());
                self.shown = if over { u64::MAX } else { part as u64 + 1 };
            }
        }
    }
}

/// The figures: how many of how many, how fast, how long it will take, what has failed.
fn text(label: &str, done: usize, total: usize, failed: u64, elapsed_ns: u64) -> String {
    let mut text = String::new();
    if !label.is_empty() {
        let _ = write!(text, "{label}: ");
    }
    let percent = if total == 0 { 100 } else { (done as u128 * 100 / total as u128) as u64 };
    let _ = write!(text, "{percent:3}% {done} of {total}");
    let seconds = elapsed_ns as f64 / 1e9;
    if done > 0 && elapsed_ns > 0 {
        let rate = done as f64 / seconds;
        let _ = write!(text, ", {}/s", number(rate));
        if done < total {
            let _ = write!(text, ", {} left", duration((total - done) as f64 / rate));
        } else {
            let _ = write!(text, ", {}", duration(seconds));
        }
    }
    if failed > 0 {
        let _ = write!(text, ", {failed} failed");
    }
    text
}

/// A line with a bar, as far as there is room for one.
fn line(label: &str, done: usize, total: usize, failed: u64, elapsed_ns: u64, columns: usize) -> String {
    let text = text(label, done, total, failed, elapsed_ns);
    // The last column stays free: a full line would wrap.
    let room = columns.saturating_sub(1);
    let length = text.chars().count();
    let cells = room.saturating_sub(length + 3).min(CELLS);
    if cells < 5 {
        return text.chars().take(room).collect();
    }
    let full = if total == 0 { cells } else { (done as u128 * cells as u128 / total as u128) as usize };
    format!("[{}{}] {text}", "#".repeat(full.min(cells)), " ".repeat(cells - full.min(cells)))
}

fn number(value: f64) -> String {
    match value {
        value if value >= 1e9 => format!("{:.1}G", value / 1e9),
        value if value >= 1e6 => format!("{:.1}M", value / 1e6),
        value if value >= 1e4 => format!("{:.1}k", value / 1e3),
        value if value >= 100.0 => format!("{value:.0}"),
        value => format!("{value:.1}"),
    }
}

fn duration(seconds: f64) -> String {
    let whole = seconds.min(1e9) as u64;
    match whole {
        0..10 => format!("{seconds:.1} s"),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{}:{:02} min", whole / 60, whole % 60),
        _ => format!("{}:{:02} h", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn the_line_says_how_far_how_fast_and_how_long() {
        assert_eq!(
            text("thumbnails", 30, 120, 2, 3 * SECOND),
            "thumbnails:  25% 30 of 120, 10.0/s, 9.0 s left, 2 failed"
        );
        assert_eq!(text("", 5, 5, 0, 90 * SECOND), "100% 5 of 5, 0.1/s, 1:30 min");
        assert_eq!(text("", 0, 0, 0, 0), "100% 0 of 0");
        let most = usize::MAX;
        assert!(text("", most, most, u64::MAX, 1).contains("100% 18446744073709551615 of"));
    }

    #[test]
    fn the_line_fits_whatever_the_terminal() {
        for columns in 0..200 {
            let line = line("a label with an umlaut: ü", 50, 100, 1, SECOND, columns);
            assert!(line.chars().count() <= columns.saturating_sub(1), "{columns}: {line}");
        }
        assert!(line("", 50, 100, 0, SECOND, 100).starts_with(&format!(
            "[{}{}]",
            "#".repeat(20),
            " ".repeat(20)
        )));
    }

    #[test]
    fn numbers_and_durations_are_short() {
        assert_eq!(
            [number(3.25), number(1234.0), number(43210.0), number(2e9)],
            ["3.2", "1234", "43.2k", "2.0G"]
        );
        assert_eq!(
            [duration(0.5), duration(59.9), duration(61.0), duration(7260.0)],
            ["0.5 s", "59 s", "1:01 min", "2:01 h"]
        );
        assert_eq!(duration(f64::INFINITY), "277777:46 h");
    }
}
