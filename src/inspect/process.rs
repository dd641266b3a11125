//! Processes as /proc has them, and the memory of tine's that they have open.

use crate::error::{Code, Error, Result};
use crate::sys::memory;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

/// What the kernel says of a process.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// Its number, here.
    pub pid: u32,
    /// Whose it is.
    pub uid: u32,
    /// The program's name.
    pub command: String,
    /// R, S, D, T (stopped), t (traced), Z.
    pub state: char,
    /// Its parent.
    pub parent: u32,
    /// When it started, in clock ticks after boot: with `pid` it names the process.
    pub started: u64,
    /// Processor time so far, in clock ticks.
    pub ticks: u64,
    /// Resident bytes.
    pub resident_bytes: u64,
    /// Its first thread is ending, or has ended.
    exiting: bool,
}

/// The kernel's flag of a thread that is ending. It is set before the thread lets go of descriptors and memory.
const PF_EXITING: u64 = 4;

/// What is printable of a text that another process has chosen.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

impl Process {
    /// The process of a number; `None` where there is none.
    pub fn of(pid: u32) -> Option<Process> {
        let uid = fs::metadata(format!("/proc/{pid}")).ok()?.uid();
        let bytes = fs::read(format!("/proc/{pid}/stat")).ok()?;
        Process::from_stat(pid, uid, &String::from_utf8_lossy(&bytes))
    }

    fn from_stat(pid: u32, uid: u32, stat: &str) -> Option<Process> {
        // A program's name may have any sign in it, brackets too.
        let (open, close) = (stat.find('(')?, stat.rfind(')')?);
        let fields: Vec<&str> = stat.get(close + 1..)?.split_ascii_whitespace().collect();
        let number = |field: usize| fields.get(field - 3).and_then(|field| field.parse::<u64>().ok());
        Some(Process {
            pid,
            uid,
            command: printable(stat.get(open + 1..close)?),
            state: fields.first()?.chars().next()?,
            parent: number(4)? as u32,
            started: number(22)?,
            ticks: number(14)?.saturating_add(number(15)?),
            resident_bytes: number(24)?.saturating_mul(memory::page_size() as u64),
            exiting: number(9)? & PF_EXITING != 0,
        })
    }

    /// Whether it has ended, or is about to: what it had open may be gone, though it has not been reaped. A first thread that has
    /// ended leaves the others of the process alive.
    pub fn has_ended(&self) -> bool {
        let is_ending = |thread: u32| {
            let stat = fs::read(format!("/proc/{}/task/{thread}/stat", self.pid)).ok();
            let seen =
                stat.and_then(|stat| Process::from_stat(thread, self.uid, &String::from_utf8_lossy(&stat)));
            seen.is_none_or(|seen| seen.exiting)
        };
        self.exiting && Process::threads(self.pid).into_iter().all(is_ending)
    }

    /// Whether it is stopped, or held by a debugger.
    pub fn is_stopped(&self) -> bool {
        matches!(self.state, 'T' | 't')
    }

    /// The numbers of all processes there are.
    pub fn all() -> Vec<u32> {
        numbers_in("/proc")
    }

    /// The numbers of its threads.
    pub fn threads(pid: u32) -> Vec<u32> {
        numbers_in(&format!("/proc/{pid}/task"))
    }
}

fn numbers_in(folder: &str) -> Vec<u32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut all: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    all.sort_unstable();
    all
}

/// A piece of memory that some process has open.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) file: File,
    pub(super) inode: u64,
    pub(super) length: u64,
}

/// The memory of this name that a process has open, each once. An error where it may not be looked at.
pub(super) fn memory_of(pid: u32, name: &str) -> io::Result<Vec<Memory>> {
    let found = memory_in(&format!("/proc/{pid}/fd"), name)?;
    if !found.is_empty() {
        return Ok(found);
    }
    // Where the program has closed it: only root may open what is mapped.
    Ok(memory_in(&format!("/proc/{pid}/map_files"), name).unwrap_or_default())
}

fn memory_in(folder: &str, name: &str) -> io::Result<Vec<Memory>> {
    let target = format!("/memfd:{name} (deleted)");
    let mut all: Vec<Memory> = Vec::new();
    for entry in fs::read_dir(folder)?.flatten() {
        let path = entry.path();
        if fs::read_link(&path).is_ok_and(|link| link.as_os_str() == target.as_str())
            && let Ok(memory) = open(&path)
            && all.iter().all(|known| known.inode != memory.inode)
        {
            all.push(memory);
        }
    }
    Ok(all)
}

/// By the time that it is opened it may be something else: so it does not wait, and what is no sealed memory is none.
fn open(path: &std::path::Path) -> Result<Memory> {
    let failed = |error: io::Error| Error::from_io("opening what another process has open", &error);
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    if !memory::cannot_shrink(file.as_raw_fd()) {
        return Err(Code::errno(libc::EINVAL).into());
    }
    let about = file.metadata().map_err(failed)?;
    Ok(Memory { file, inode: about.ino(), length: about.len() })
}

/// The last number of a line of /proc/PID/status: what a process or thread is called in its own PID namespace.
pub(super) fn own_number(status_path: &str) -> Option<u32> {
    let status = fs::read(status_path).ok()?;
    let status = String::from_utf8_lossy(&status);
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_ascii_whitespace().last()?.parse().ok()
}

/// A namespace of a process: `pid`, `pid_for_children`.
pub(super) fn namespace(pid: &str, kind: &str) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/ns/{kind}")).ok().map(|about| about.ino())
}

/// What a process's monotonic clock shows while this one's shows `now_ns`.
pub(super) fn clock_of(pid: u32, now_ns: u64) -> u64 {
    let offset = |pid: &str| -> i64 {
        let text = fs::read_to_string(format!("/proc/{pid}/timens_offsets")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("monotonic"));
        let mut words =
            line.unwrap_or("").split_ascii_whitespace().filter_map(|word| word.parse::<i64>().ok());
        let (seconds, nanoseconds) = (words.next().unwrap_or(0), words.next().unwrap_or(0));
        seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
    };
    let difference = offset(&pid.to_string()).saturating_sub(offset("self"));
    now_ns.saturating_add_signed(difference)
}

/// The processes of a PID namespace by what they are called in there.
#[derive(Debug)]
pub(super) enum Names {
    /// It is this process's own.
    Same,
    Other(Vec<(u32, u32)>),
}

impl Names {
    /// Of the namespace in which a process's children are.
    pub(super) fn below(pid: u32) -> Names {
        let theirs = namespace(&pid.to_string(), "pid_for_children");
        if theirs.is_none() || theirs == namespace("self", "pid") {
            return Names::Same;
        }
        let in_there = Process::all().into_iter().filter(|pid| namespace(&pid.to_string(), "pid") == theirs);
        Names::Other(
            in_there.filter_map(|pid| Some((own_number(&format!("/proc/{pid}/status"))?, pid))).collect(),
        )
    }

    /// What a process is called here.
    pub(super) fn here(&self, there: u32) -> Option<u32> {
        match self {
            Names::Same => Some(there),
            Names::Other(known) => known.iter().find(|(own, _)| *own == there).map(|(_, here)| *here),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_signs_is_read() {
        let mut stat = "7 (a) b (\u{1b}[2J) T 3".to_owned();
        for field in 5..=24 {
            stat += &format!(" {field}");
        }
        let process = Process::from_stat(7, 0, &stat).unwrap();
        assert_eq!((process.command.as_str(), process.state, process.parent), ("a) b (?[2J", 'T', 3));
        assert_eq!((process.ticks, process.started), (29, 22));
        assert!(process.is_stopped());
        for cut in 0..stat.len() - 4 {
            assert!(stat.get(..cut).is_none_or(|cut| Process::from_stat(7, 0, cut).is_none()), "{cut}");
        }
    }

    #[test]
    fn one_that_nobody_has_reaped_has_ended() {
        assert!(!Process::of(std::process::id()).unwrap().has_ended());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        while !Process::of(child.id()).unwrap().has_ended() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }
}
