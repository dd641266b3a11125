//! Making, executing and killing children, for processes that are tine's own.

use super::environment::Environment;
use super::signal;
use crate::error::{Error, Result};
use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString, c_char};
use std::os::fd::AsRawFd;
use std::path::Path;

/// Forks; the child's number in the parent, `None` in the child.
pub(crate) fn fork() -> Result<Option<i32>> {
    // SAFETY: called by single-threaded processes, so the child may do what the parent may.
    match unsafe { libc::fork() } {
        0 => Ok(None),
        pid if pid > 0 => Ok(Some(pid)),
        _ => Err(Error::last_os("fork")),
    }
}

/// A program, and what it is called with: its own name first.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    pub(crate) path: CString,
    pub(crate) arguments: Vec<CString>,
}

/// A command in its environment, ready for exec.
pub(crate) struct Program {
    command: Command,
    argv: Vec<*const c_char>,
    environment: Environment,
}

impl Program {
    /// In this process's environment with some changes.
    pub(crate) fn new(command: Command, changes: Vec<CString>) -> Program {
        let environment = Environment::changed(changes);
        // The strings stay where they are when the list of them is moved.
        let argv =
            command.arguments.iter().map(|argument| argument.as_ptr()).chain([std::ptr::null()]).collect();
        Program { command, argv, environment }
    }

    pub(crate) fn path(&self) -> &CStr {
        &self.command.path
    }

    pub(crate) fn argv(&self) -> &[*const c_char] {
        &self.argv
    }

    pub(crate) fn envp(&self) -> &[*const c_char] {
        self.environment.pointers()
    }
}

/// Executes a program in place of this one.
pub(crate) fn execute(program: &Program) -> ! {
    // SAFETY: null-terminated arrays of C strings.
    unsafe { libc::execve(program.path().as_ptr(), program.argv().as_ptr(), program.envp().as_ptr()) };
    signal::exit_now(127)
}

/// Kills a child that has not been reaped.
pub(crate) fn kill(pid: i32) {
    // SAFETY: no pointers; the number is a child's, so nobody else has it.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// Kills the process group that a child has led which has not been reaped.
pub(crate) fn kill_group(pid: i32) {
    // SAFETY: no pointers; the number is a child's, so no other group has it.
    unsafe { libc::kill(-pid, libc::SIGKILL) };
}

/// Kills every child of this process; how many there were.
pub(crate) fn kill_all() -> usize {
    let children = list();
    children.iter().for_each(|pid| kill(*pid));
    children.len()
}

/// Sends a signal to everything that descends from this process, as it is at this moment.
pub(crate) fn signal_tree(signal: i32) {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    parents().into_iter().for_each(|(pid, parent)| children.entry(parent).or_default().push(pid));
    let mut tree = vec![super::fork::pid()];
    let mut at = 0;
    while let Some(of) = tree.get(at) {
        tree.extend(children.remove(of).unwrap_or_default());
        at += 1;
    }
    // Only when it is open is it certain that a number is still that of a descendant: its parent is one of them. What has lost
    // its parent by the signal is a child of this process by then, which is one of them, too. One by one: there may be more
    // than this process can have open.
    let known: HashSet<i32> = tree.iter().copied().collect();
    for pid in &tree[1..] {
        let Ok(pidfd) = super::pidfd::open(*pid) else { continue };
        if parent_of(*pid).is_some_and(|parent| known.contains(&parent)) {
            let _ = super::pidfd::signal(pidfd.as_raw_fd(), signal);
        }
    }
}

/// Every process and its parent.
fn parents() -> Vec<(i32, i32)> {
    let Ok(folder) = std::fs::read_dir("/proc") else { return Vec::new() };
    folder
        .filter_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
            Some((pid, parent_of(pid)?))
        })
        .collect()
}

/// This process's children.
fn list() -> Vec<i32> {
    let own = super::fork::pid();
    let numbers = |text: String| text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    if let Ok(text) = std::fs::read_to_string(format!("/proc/self/task/{own}/children")) {
        return numbers(text);
    }
    // Kernels that do not keep that list: whoever names this process as its parent.
    parents().into_iter().filter(|(_, parent)| *parent == own).map(|(pid, _)| pid).collect()
}

fn parent_of(pid: i32) -> Option<i32> {
    let text = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    text.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// How many threads this process has; 1 where that cannot be found out.
pub(crate) fn thread_count() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}
