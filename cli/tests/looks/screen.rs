//! `tine top` in a real terminal: what stands on its screen, and what it leaves of it.

use super::{Host, PATIENCE, tine};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::{Child, Stdio};
use std::time::Instant;

/// A pseudoterminal with `tine top` in it.
struct Terminal {
    ours: Option<File>,
    /// Kept open, so that its settings can still be asked for when the program has ended.
    theirs: OwnedFd,
    child: Child,
    screen: vt100::Parser,
}

impl Terminal {
    fn start(rows: u16, columns: u16, arguments: &[&str]) -> Terminal {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let (mut ours, mut theirs) = (-1, -1);
        // SAFETY: both places can be written, and the size can be read.
        let code = unsafe {
            libc::openpty(
                &mut ours,
                &mut theirs,
                std::ptr::null_mut(),
                std::ptr::null(),
                (&raw const size).cast_mut(),
            )
        };
        assert_eq!(code, 0);
        // SAFETY: new descriptors, which are nobody else's.
        let (ours, theirs) = unsafe { (File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) };
        // The program does not get our end, by which it would keep its own terminal.
        for (setting, value) in [(libc::F_SETFL, libc::O_NONBLOCK), (libc::F_SETFD, libc::FD_CLOEXEC)] {
            // SAFETY: a plain call.
            assert_eq!(unsafe { libc::fcntl(ours.as_raw_fd(), setting, value) }, 0);
        }
        let end = || Stdio::from(theirs.try_clone().expect("a descriptor"));
        let mut command = tine(arguments);
        command.env("TERM", "xterm-256color").stdin(end()).stdout(end()).stderr(end());
        let child = command.spawn().expect("tine runs");
        // One that has no size is taken for the usual one.
        let or = |size, usual| if size == 0 { usual } else { size };
        let screen = vt100::Parser::new(or(rows, 24), or(columns, 80), 0);
        Terminal { ours: Some(ours), theirs, child, screen }
    }

    /// Takes in what has been written.
    fn take(&mut self) {
        let mut bytes = [0; 4096];
        while let Some(Ok(length @ 1..)) = self.ours.as_mut().map(|ours| ours.read(&mut bytes)) {
            self.screen.process(&bytes[..length]);
        }
    }

    fn text(&self) -> String {
        self.screen.screen().contents()
    }

    fn until(&mut self, what: &str, is_so: impl Fn(&vt100::Screen) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.take();
            if is_so(self.screen.screen()) {
                return self.text();
            }
            assert!(Instant::now() < deadline, "{what}:\n{}", self.text());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    fn shows(&mut self, part: &str) -> String {
        self.until(&format!("{part:?} is not on the screen"), |screen| screen.contents().contains(part))
    }

    fn press(&mut self, keys: &[u8]) {
        self.ours.as_mut().expect("a terminal").write_all(keys).expect("it is typed");
    }

    fn signal(&self, signal: i32) {
        // SAFETY: a child of ours that has not been waited for.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    fn settings(&self) -> libc::termios {
        // SAFETY: a struct of numbers, which the call fills.
        unsafe {
            let mut settings = std::mem::zeroed();
            assert_eq!(libc::tcgetattr(self.theirs.as_raw_fd(), &mut settings), 0);
            settings
        }
    }

    fn end(&mut self) -> std::process::ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.take();
            if let Some(status) = self.child.try_wait().expect("its status") {
                self.take();
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.text());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// The terminal is as it was: the other screen is gone, the cursor is there, lines are edited and echoed.
    fn is_given_back(&self) {
        assert!(!self.screen.screen().alternate_screen() && !self.screen.screen().hide_cursor());
        let settings = self.settings();
        assert_eq!(settings.c_lflag & (libc::ICANON | libc::ECHO), libc::ICANON | libc::ECHO);
        assert_eq!(settings.c_cc[libc::VMIN], 1, "a read waits");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn the_screen_shows_it() {
    let host = Host::start("locks");
    super::all_is_seen(&host);
    let pid = host.pid().to_string();
    let mut terminal = Terminal::start(30, 110, &["top", "--interval", "0.1", &pid]);
    let lines: [&[&str]; 11] = [
        &["host", &pid, "looks"],
        &["pool 1", "forkserver", "2 of 2 workers ready, 2 busy"],
        &["tasks", "5 submitted, 2 settled", "3 open"],
        &["window", "4 of 1,000 tasks"],
        &["heap", "reserved", "host 3."],
        &["WORKER", "PID", "STATE", "CPU", "MEMORY", "DONE/S", "NEXT", "FOR", "RUNS"],
        &["busy", "holds_the_lock"],
        &["busy", "wants_the_lock"],
        &["QUEUE", "MESSAGES", "PUTTING"],
        &["WAITED FOR", "HOLDER", "WAITER"],
        &["q quits"],
    ];
    // What is drawn can be met half drawn.
    for parts in lines {
        let has = |screen: &vt100::Screen| {
            screen.contents().lines().any(|line| parts.iter().all(|part| line.contains(part)))
        };
        terminal.until(&format!("no line has {parts:?}"), has);
    }
    assert!(terminal.screen.screen().alternate_screen());
    if let Ok(path) = std::env::var("TINE_SCREEN") {
        std::fs::write(path, terminal.screen.screen().contents_formatted()).expect("the screen is kept");
    }
    // The host is stopped while it is looked at.
    host.signal(libc::SIGSTOP);
    terminal.shows("STOPPED");
    terminal.press(b" ");
    terminal.shows("HELD");
    host.signal(libc::SIGCONT);
    terminal.press(b" ");
    terminal.until("it goes on", |screen| !screen.contents().contains("STOPPED"));
    terminal.press(b"q");
    assert!(terminal.end().success());
    terminal.is_given_back();
}

pub(crate) fn the_terminal_is_given_back() {
    // A small one: what there is no room for can be scrolled to.
    let host = Host::start("locks");
    super::all_is_seen(&host);
    let pid = host.pid().to_string();
    let mut terminal = Terminal::start(6, 40, &["top", "--interval", "0.1", &pid]);
    let screen = terminal.shows("lines below");
    assert!(
        !screen.contains("WAITED FOR") && screen.lines().all(|line| line.chars().count() <= 40),
        "{screen}"
    );
    for _ in 0..40 {
        terminal.press(b"j");
    }
    terminal.shows("WAITED FOR");
    // It is ended by a signal.
    terminal.signal(libc::SIGTERM);
    assert!(terminal.end().success());
    terminal.is_given_back();
    // The host ends while it is looked at.
    let mut terminal = Terminal::start(24, 80, &["top", "--interval", "0.1", &pid]);
    terminal.shows("pool 1");
    drop(host);
    assert!(terminal.end().success());
    assert!(terminal.text().contains(&format!("tine: there is no process {pid}")), "{}", terminal.text());
    terminal.is_given_back();
}

/// What is no whole key, or none at all, holds nothing up: the screen goes on, and so do signals and keys.
pub(crate) fn half_a_key_holds_nothing_up() {
    let host = Host::start("locks");
    super::all_is_seen(&host);
    let pid = host.pid().to_string();
    for half in [&b"\x1b["[..], b"\x1b[<", b"\xe2"] {
        let mut terminal = Terminal::start(24, 80, &["top", "--interval", "0.1", &pid]);
        terminal.shows("pool 1");
        terminal.press(half);
        host.signal(libc::SIGSTOP);
        terminal.shows("STOPPED");
        host.signal(libc::SIGCONT);
        terminal.until("it goes on", |screen| !screen.contents().contains("STOPPED"));
        terminal.press(b" ");
        terminal.shows("HELD");
        terminal.signal(libc::SIGTERM);
        assert!(terminal.end().success(), "{half:?}");
        terminal.is_given_back();
    }
    // Many keys are waiting, and a read ends within one of them.
    let mut terminal = Terminal::start(24, 80, &["top", "--interval", "0.1", &pid]);
    terminal.shows("pool 1");
    terminal.press(&b"\x1b[B".repeat(100));
    terminal.press(b" ");
    terminal.shows("HELD");
    // Two signals, one behind the other.
    terminal.signal(libc::SIGTERM);
    terminal.signal(libc::SIGHUP);
    assert!(terminal.end().success());
    terminal.is_given_back();
}

/// A terminal that is gone ends it, whether or not a signal says so.
pub(crate) fn a_terminal_that_is_gone_ends_it() {
    let host = Host::start("locks");
    super::all_is_seen(&host);
    let mut terminal = Terminal::start(24, 80, &["top", "--interval", "3600", &host.pid().to_string()]);
    terminal.shows("pool 1");
    terminal.ours = None;
    let status = terminal.end();
    assert!(status.code().is_some_and(|code| code < 2), "{status}: it ends by itself, and without a panic");
}

pub(crate) fn a_terminal_of_no_size_is_drawn_on() {
    let host = Host::start("locks");
    super::all_is_seen(&host);
    for (rows, columns) in [(0, 0), (24, 0), (0, 80)] {
        let mut terminal = Terminal::start(rows, columns, &["top", &host.pid().to_string()]);
        terminal.shows("pool 1");
        terminal.shows("q quits");
    }
}
