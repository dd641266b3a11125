//! Making, executing and killing children, for processes that are tine's own.

use super::environment::Environment;
use super::{pidfd, reserve, signal};
use crate::error::{Error, Result};
use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString, c_char};
use std::io::Read as _;
use std::os::fd::AsRawFd;

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

/// A command in its environment, ready for exec. The strings stay their owners'.
pub(crate) struct Program<'a> {
    path: &'a CStr,
    argv: Vec<*const c_char>,
    environment: Environment<'a>,
}

impl<'a> Program<'a> {
    /// In this process's environment with some changes, and with one more line.
    pub(crate) fn new(
        path: &'a CStr,
        arguments: &'a [CString],
        changes: &'a [CString],
        line: &'a CStr,
    ) -> Result<Program<'a>> {
        let environment = Environment::changed(changes, line)?;
        let mut argv = Vec::new();
        reserve::grow(&mut argv, arguments.len() + 1)?;
        argv.extend(arguments.iter().map(|argument| argument.as_ptr()).chain([std::ptr::null()]));
        Ok(Program { path, argv, environment })
    }

    pub(crate) fn path(&self) -> &CStr {
        self.path
    }

    pub(crate) fn argv(&self) -> &[*const c_char] {
        &self.argv
    }

    pub(crate) fn envp(&self) -> &[*const c_char] {
        self.environment.pointers()
    }
}

/// Executes a program in place of this one.
pub(crate) fn execute(program: &Program<'_>) -> ! {
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

/// Whether the number is that of a child that has not been reaped; so it stays that child's until this process reaps.
fn is_child(pid: i32) -> bool {
    pidfd::look(libc::P_PID, pid as libc::id_t, libc::WNOWAIT).is_some()
}

/// Kills every child of this process; how many were found. For a process with one thread.
pub(crate) fn kill_all() -> usize {
    if pidfd::has_no_children() {
        return 0;
    }
    let kill_those = |numbers: &mut dyn Iterator<Item = i32>| {
        numbers.filter(|pid| is_child(*pid)).inspect(|pid| kill(*pid)).count()
    };
    // What /proc says may be in the numbers of another PID namespace, or it is not there.
    match kill_those(&mut list().into_iter()) {
        0 => {}
        count => return count,
    }
    // Numbers are given out in turn: most likely they lie between this process's and that of a new one.
    let (own, newest) = (super::fork::pid(), newest_number());
    match kill_those(&mut (own + 1..newest)) {
        0 if has_children() => kill_those(&mut (2..=LARGEST_NUMBER)),
        count => count,
    }
}

/// The largest number that a process can have.
const LARGEST_NUMBER: i32 = 1 << 22;

/// The number of a process that is made for that.
fn newest_number() -> i32 {
    match fork() {
        Ok(None) => signal::exit_now(0),
        Ok(Some(pid)) => {
            // SAFETY: a child of this process; the status is not asked for.
            while unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) } < 0 && super::errno() == libc::EINTR
            {
            }
            pid
        }
        Err(_) => LARGEST_NUMBER,
    }
}

fn has_children() -> bool {
    pidfd::look(libc::P_ALL, 0, libc::WNOWAIT).is_some()
}

/// Sends a signal to everything that descends from this process, as it is at this moment and as /proc shows it.
pub(crate) fn signal_tree(signal: i32) {
    // /proc may count in another PID namespace than this process does: all numbers here are its, and none is used to signal by.
    let Some(own) = std::fs::read_link("/proc/self").ok().and_then(|name| name.to_str()?.parse::<i32>().ok())
    else {
        return;
    };
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    parents().into_iter().for_each(|(pid, parent)| children.entry(parent).or_default().push(pid));
    let mut tree = vec![own];
    let mut at = 0;
    while let Some(of) = tree.get(at) {
        tree.extend(children.remove(of).unwrap_or_default());
        at += 1;
    }
    // A folder of /proc is of one process for good. Only when it is open is it certain that this one is a descendant: its parent is one of
    // them. What has lost its parent by the signal is a child of this process by then, which is one of them, too. One by one: there may be
    // more than this process can have open.
    let known: HashSet<i32> = tree.iter().copied().collect();
    for pid in &tree[1..] {
        let Ok(folder) = std::fs::File::open(format!("/proc/{pid}")) else { continue };
        if parent_in(&folder).is_some_and(|parent| known.contains(&parent)) {
            // The process may have ended meanwhile, or have become a user whom this one may not signal: no error.
            let _ = super::pidfd::signal(folder.as_raw_fd(), signal);
        }
    }
}

/// Whether there is a /proc that [`signal_tree`] could look through.
pub(crate) fn can_see_trees() -> bool {
    std::fs::read_link("/proc/self").is_ok()
}

/// Every process and its parent.
fn parents() -> Vec<(i32, i32)> {
    let Ok(folder) = std::fs::read_dir("/proc") else { return Vec::new() };
    folder
        .filter_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
            Some((pid, parent_in(&std::fs::File::open(format!("/proc/{pid}")).ok()?)?))
        })
        .collect()
}

/// This process's children, as /proc has them.
fn list() -> Vec<i32> {
    children_of(super::fork::pid(), "/proc/thread-self/children")
}

/// The children of a process with one thread, whose list in /proc that is.
fn children_of(pid: i32, list: &str) -> Vec<i32> {
    if let Ok(text) = std::fs::read_to_string(list) {
        return text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    }
    // Kernels that do not keep that list: each process that names this one as its parent.
    parents().into_iter().filter(|(_, parent)| *parent == pid).map(|(child, _)| child).collect()
}

/// Kills the children that another process with one thread has at this moment; how many there were. `pidfd` is that process.
pub(crate) fn kill_children_of(pidfd: &impl AsRawFd) -> usize {
    // All numbers are those of this process's /proc, and none is used to signal by.
    let Some(parent) = super::pidfd::number(pidfd.as_raw_fd()) else { return 0 };
    let mut count = 0;
    for pid in children_of(parent, &format!("/proc/{parent}/task/{parent}/children")) {
        let Ok(folder) = std::fs::File::open(format!("/proc/{pid}")) else { continue };
        // A folder of /proc is of one process for good, and the parent's number was the parent's own while that had not ended.
        if parent_in(&folder) == Some(parent) && !super::pidfd::has_ended(pidfd.as_raw_fd()) {
            // It may have ended meanwhile, or be another user's whom this process may not signal.
            let _ = super::pidfd::signal(folder.as_raw_fd(), libc::SIGKILL);
            count += 1;
        }
    }
    count
}

/// The parent of the process whose folder in /proc this is.
fn parent_in(folder: &std::fs::File) -> Option<i32> {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    // SAFETY: a C string.
    let rc = unsafe { libc::openat(folder.as_raw_fd(), c"stat".as_ptr(), flags) };
    let mut text = String::new();
    std::fs::File::from(super::fd::owned(libc::c_long::from(rc), "stat").ok()?)
        .read_to_string(&mut text)
        .ok()?;
    text.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// How many threads this process has; 2 stands for any number above one where /proc does not say.
pub(crate) fn thread_count() -> usize {
    if let Ok(threads) = std::fs::read_dir("/proc/self/task") {
        return threads.count();
    }
    // SAFETY: no pointers. It does nothing but to fail where there is more than one thread.
    let refused = unsafe { libc::unshare(libc::CLONE_THREAD) } != 0 && super::errno() == libc::EINVAL;
    1 + usize::from(refused)
}
