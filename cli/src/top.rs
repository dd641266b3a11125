//! `tine top` in a terminal.

use crate::history::History;
use crate::keys::{Came, Key, Keys};
use crate::look;
use crate::symbols::Symbols;
use crate::text;
use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::style::{Attribute, Print, SetAttribute};
use crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen,
    LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size,
};
use crossterm::{execute, queue};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::io::{IsTerminal, Write, stdin, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const KEYS: &str = "q quits, space holds, arrows scroll";

/// How long a signal has to end the program in good order before another one ends it at once.
const PATIENCE_MS: u64 = 1000;

/// How soon a signal is noticed.
const GLANCE: Duration = Duration::from_millis(200);

/// The terminal while it is ours. Dropped, it is as it was.
struct Screen;

impl Screen {
    fn enter() -> std::io::Result<Screen> {
        enable_raw_mode()?;
        let screen = Screen;
        execute!(stdout(), EnterAlternateScreen, Hide)?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing any more; one that takes no output is to be given back all the same.
        let _ = disable_raw_mode();
        let _ = execute!(stdout(), Show, LeaveAlternateScreen);
    }
}

/// When the first signal came that ends the program, in milliseconds since this, and one more; 0: none has.
///
/// One that comes when the first has had [`PATIENCE_MS`] ends it at once, should the terminal take nothing any more.
fn end_by_signals() -> std::io::Result<Arc<AtomicU64>> {
    let (ended, began) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let before = tcgetattr(rustix::stdio::stdin())?;
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP, signal_hook::consts::SIGINT] {
        let (ended, before) = (Arc::clone(&ended), before.clone());
        let action = move || {
            let now_ms = began.elapsed().as_millis() as u64 + 1;
            let first_ms = ended
                .compare_exchange(0, now_ms, Ordering::Relaxed, Ordering::Relaxed)
                .unwrap_or_else(|at| at);
            if first_ms != 0 && now_ms >= first_ms + PATIENCE_MS {
                // It waits for no output that the terminal does not take.
                let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &before);
                signal_hook::low_level::exit(1);
            }
        };
        // SAFETY: a clock, an atomic, an ioctl and _exit: what a signal handler may do.
        unsafe { signal_hook::low_level::register(signal, action) }?;
    }
    Ok(ended)
}

pub fn run(pid: u32, interval: Duration) -> Result<(), String> {
    if !stdout().is_terminal() || !stdin().is_terminal() {
        return Err("top needs a terminal; --once and --json don't".to_owned());
    }
    // What cannot be looked at is said before the screen is taken.
    let mut pools = look(pid)?;
    let failed = |error: std::io::Error| format!("the terminal: {error}");
    let ended = end_by_signals().map_err(failed)?;
    let screen = Screen::enter().map_err(failed)?;
    let mut keys = Keys::of_raw_mode().map_err(failed)?;
    let (mut history, mut symbols) = (History::default(), Symbols::default());
    let (mut held, mut first) = (false, 0);
    history.see(&pools);
    let mut due = Instant::now() + interval.min(Duration::from_millis(300));
    while ended.load(Ordering::Relaxed) == 0 {
        let lines = text::frame(pid, &pools, &history, &mut symbols);
        first = draw(&lines, first, held).map_err(failed)?;
        let time = due.saturating_duration_since(Instant::now()).min(GLANCE);
        let Came::Keys(pressed) = keys.wait(time).map_err(failed)? else { return Ok(()) };
        for key in pressed {
            match key {
                Key::Quit => return Ok(()),
                Key::Hold => held = !held,
                Key::Scroll(by) => first = first.saturating_add_signed(by),
            }
        }
        if Instant::now() < due {
            continue;
        }
        due = Instant::now() + interval;
        if !held {
            pools = match look(pid) {
                Ok(pools) => pools,
                Err(why) => {
                    drop(screen);
                    return crate::print(&format!("tine: {why}\n"));
                }
            };
            history.see(&pools);
        }
    }
    Ok(())
}

/// Shows the lines from one on; which one it is, so that the last is not scrolled past.
fn draw(lines: &[String], first: usize, held: bool) -> std::io::Result<usize> {
    // A terminal may say that it has no size.
    let (columns, rows) = match size()? {
        (0, _) | (_, 0) => (80, 24),
        known => known,
    };
    let room = usize::from(rows.saturating_sub(1));
    let first = first.min(lines.len().saturating_sub(room));
    let mut out = stdout().lock();
    queue!(out, BeginSynchronizedUpdate)?;
    let shown: Vec<&String> = lines.iter().skip(first).take(room).collect();
    for row in 0..room {
        queue!(out, MoveTo(0, row as u16))?;
        if let Some(line) = shown.get(row) {
            let cut: String = line.chars().take(usize::from(columns)).collect();
            let is_heading = line.trim_start().starts_with("WORKER")
                || line.trim_start().starts_with("QUEUE")
                || line.trim_start().starts_with("WAITED FOR");
            let bold = row + first == 0 || line.starts_with("pool ");
            if is_heading {
                queue!(out, SetAttribute(Attribute::Reverse))?;
            } else if bold {
                queue!(out, SetAttribute(Attribute::Bold))?;
            }
            queue!(out, Print(cut), SetAttribute(Attribute::Reset))?;
        }
        queue!(out, Clear(ClearType::UntilNewLine))?;
    }
    let below = lines.len().saturating_sub(first + room);
    let more = if below > 0 { format!("{below} lines below  ") } else { String::new() };
    let held = if held { "HELD  " } else { "" };
    let foot: String = format!("{held}{more}{KEYS}").chars().take(usize::from(columns)).collect();
    queue!(
        out,
        MoveTo(0, rows.saturating_sub(1)),
        Print(foot),
        Clear(ClearType::UntilNewLine),
        EndSynchronizedUpdate
    )?;
    out.flush()?;
    Ok(first)
}
