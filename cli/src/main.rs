//! `tine`: what the process pools of running programs are doing. docs/inspect.md is for its users.

mod history;
mod json;
mod keys;
mod symbols;
mod text;
mod top;

use history::History;
use lexopt::prelude::*;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;
use tine::inspect::pool::{self, Found, Pool};
use tine::inspect::process::Process;

const USAGE: &str = "\
usage: tine ps [--json]
       tine top [--json | --once] [--interval SECONDS] PID

ps   lists the pools of all processes of yours; as root, of everybody's
top  shows one process's pools: workers, what they run, queues, locks, memory

  --json               one JSON document, and no more
  --once               one screenful as text, and no more
  --interval SECONDS   how often to look: 0.1 to 3600; 1 where nothing is said
  --version, --help

Nothing is asked of the processes, so it works where they hang or are stopped.
";

/// What was asked for.
enum Command {
    Ps { json: bool },
    Top { pid: u32, json: bool, once: bool, interval: Duration },
    Say(String),
}

fn parse() -> Result<Command, lexopt::Error> {
    let mut parser = lexopt::Parser::from_env();
    let (mut name, mut pid, mut json, mut once, mut interval) = (None, None, false, false, None);
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Say(USAGE.to_owned())),
            Short('V') | Long("version") => {
                return Ok(Command::Say(format!("tine {}\n", pool::own_version())));
            }
            Long("json") => json = true,
            Long("once") => once = true,
            Long("interval") => {
                let seconds: f64 = parser.value()?.parse()?;
                if !(0.1..=3600.0).contains(&seconds) {
                    return Err(format!("--interval {seconds}: it is 0.1 to 3600 seconds").into());
                }
                interval = Some(Duration::from_secs_f64(seconds));
            }
            Value(value) if name.is_none() => name = Some(value.string()?),
            Value(value) if pid.is_none() => {
                let text = value.string()?;
                let number = text.parse().ok().filter(|pid| *pid > 0);
                pid = Some(number.ok_or_else(|| format!("\"{text}\" is not a process number"))?);
            }
            other => return Err(other.unexpected()),
        }
    }
    match (name.as_deref(), pid) {
        (Some("ps"), None) if !once && interval.is_none() => Ok(Command::Ps { json }),
        (Some("ps"), _) => Err("ps takes no number, --once or --interval".into()),
        (Some("top"), Some(pid)) if !(json && once) => {
            Ok(Command::Top { pid, json, once, interval: interval.unwrap_or(Duration::from_secs(1)) })
        }
        (Some("top"), Some(_)) => Err("--json and --once exclude each other".into()),
        (Some("top"), None) => Err("top takes the number of a process".into()),
        (Some(other), _) => Err(format!("\"{other}\" is not a command of tine's").into()),
        (None, _) => Err("a command is missing".into()),
    }
}

fn main() -> ExitCode {
    let command = match parse() {
        Ok(command) => command,
        Err(error) => {
            complain(&format!("{error}\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    let done = match command {
        Command::Say(text) => print(&text),
        Command::Ps { json } => ps(json),
        Command::Top { pid, json, once, interval } => match (json, once) {
            (true, _) => look(pid).and_then(|pools| print(&(json::document(&pools) + "\n"))),
            (_, true) => once_of(pid),
            _ => top::run(pid, interval),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            complain(&format!("{why}\n"));
            ExitCode::FAILURE
        }
    }
}

/// A reader that has seen enough is no error.
fn print(text: &str) -> Result<(), String> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(format!("writing: {error}")),
        _ => Ok(()),
    }
}

/// Where nobody can be told, the exit status still says it.
fn complain(text: &str) {
    let _ = write!(std::io::stderr(), "tine: {text}");
}

fn ps(json: bool) -> Result<(), String> {
    let (mut pools, mut hidden) = (Vec::new(), 0);
    let me = Process::of(std::process::id()).ok_or("this process is not in /proc")?.uid;
    for pid in Process::all() {
        // Of others' processes there is nothing to see, unless one is root.
        if me != 0 && Process::of(pid).is_none_or(|process| process.uid != me) {
            continue;
        }
        match pool::pools_of(pid) {
            Ok(found) => pools.extend(found.into_iter().map(|found| (pid, found))),
            Err(_) if Process::of(pid).is_some_and(|process| !process.has_ended()) => hidden += 1,
            Err(_) => (),
        }
    }
    if json {
        return print(&(json::list(&pools) + "\n"));
    }
    print(&text::list(&pools))?;
    if hidden > 0 {
        complain(&format!("{hidden} processes of yours may not be looked at\n"));
    }
    Ok(())
}

/// One look, as a screenful: what goes by the second needs two.
fn once_of(pid: u32) -> Result<(), String> {
    let mut history = History::default();
    let pools = look(pid)?;
    history.see(&pools);
    print(&(text::frame(pid, &pools, &history, &mut symbols::Symbols::default()).join("\n") + "\n"))
}

/// The pools of a process that has some.
fn look(pid: u32) -> Result<Vec<Pool>, String> {
    let there = || {
        Process::of(pid)
            .filter(|process| !process.has_ended())
            .ok_or_else(|| format!("there is no process {pid}"))
    };
    let process = there()?;
    let found = pool::pools_of(pid).map_err(|error| {
        let owner = process.uid;
        format!("process {pid} ({}) of user {owner} may not be looked at: {}", process.command, error.text())
    })?;
    // It may have ended meanwhile.
    there()?;
    let mut pools = Vec::new();
    let mut other = None;
    for found in found {
        match found {
            Found::Pool(pool) => pools.push(*pool),
            Found::Other(version) => other = Some(version),
        }
    }
    match other {
        _ if !pools.is_empty() => Ok(pools),
        Some(version) => Err(format!(
            "the pool of process {pid} ({}) is one of tine {version}, in another layout than {} has it: use the program of that version",
            process.command,
            pool::own_version()
        )),
        None => Err(format!("process {pid} ({}) is the host of no pool", process.command)),
    }
}
