//! Looks into running pools: at hosts that hang or are stopped, at dying workers, at garbage, and on a screen.
//!
//! This program is its own host: with TINE_TEST_HOST in its environment it makes a pool and then calls nothing of tine's any more.

mod garbage;
mod host;
mod screen;

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// As long as anything may take on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A host, and what it has said of itself.
struct Host {
    child: Child,
    /// Words of its only line.
    words: Vec<String>,
}

impl Host {
    fn start(mode: &str) -> Host {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        Host::run(command.env("TINE_TEST_HOST", mode))
    }

    fn run(command: &mut Command) -> Host {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a host is started");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("its output")).read_line(&mut line).expect("a line");
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        assert_eq!(words.first().map(String::as_str), Some("ready"), "the host says {line:?}");
        Host { child, words }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn signal(&self, signal: i32) {
        // SAFETY: a child of ours that has not been waited for.
        unsafe { libc::kill(self.pid() as i32, signal) };
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tine(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tine"));
    command.args(arguments);
    command
}

fn output(arguments: &[&str]) -> Output {
    tine(arguments).output().expect("tine runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The only pool of a host.
fn look(pid: u32) -> Value {
    let output = output(&["top", "--json", &pid.to_string()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let mut all: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

/// Looks until a pool is as it should come to be.
fn look_until(pid: u32, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let pool = look(pid);
        if is_so(&pool) {
            return pool;
        }
        assert!(Instant::now() < deadline, "{what}: {pool:#}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn runs(pool: &Value, function: &str) -> usize {
    let places = pool["places"].as_array().expect("places");
    places.iter().filter(|place| place["running"]["function"] == function).count()
}

fn all_is_seen(host: &Host) -> Value {
    let pool = look_until(host.pid(), "two workers at work, one waiting", |pool| {
        runs(pool, "holds_the_lock") == 1 && runs(pool, "wants_the_lock") == 1 && pool["waits"][0].is_object()
            || pool["notes"].as_array().is_some_and(|notes| !notes.is_empty())
    });
    assert_eq!(pool["notes"], Value::Array(Vec::new()), "all can be read here");
    assert_eq!((&pool["submitted"], &pool["settled"]), (&5.into(), &2.into()));
    assert_eq!(
        (&pool["window_tasks"], &pool["window_most_tasks"]),
        (&4.into(), &1000.into()),
        "one was taken"
    );
    assert_eq!((&pool["workers"], &pool["workers_ready"]), (&2.into(), &2.into()));
    let queue = &pool["queues"][0];
    assert_eq!((&queue["messages"], &queue["put"], &queue["got"]), (&2.into(), &3.into(), &1.into()));
    assert_eq!(queue["address"].as_u64().map(|address| address.to_string()), Some(host.words[1].clone()));
    let places = pool["places"].as_array().expect("places");
    let pid_of = |function: &str| {
        places.iter().find(|place| place["running"]["function"] == function).map(|place| place["pid"].clone())
    };
    let wait = &pool["waits"][0];
    assert_eq!(Some(&wait["pid"]), pid_of("wants_the_lock").as_ref());
    assert_eq!(Some(&wait["holder"]["pid"]), pid_of("holds_the_lock").as_ref());
    let address: u64 = host.words[2].parse().expect("an address");
    assert!((address..address + 64).contains(&wait["address"].as_u64().expect("an address")));
    let waiting: u64 = places.iter().filter_map(|place| place["waiting"].as_u64()).sum();
    assert_eq!(waiting, 1, "of the tasks in the rings one has not begun");
    let usage = pool["heap"]["usage"].as_array().expect("the heap's owners");
    let own = usage.iter().find(|usage| usage["whose"] == "host").expect("the host's blocks");
    assert!(own["bytes"].as_u64() > Some(1 << 20), "it has allocated as much: {own}");
    pool
}

fn a_running_pool_is_seen() {
    let host = Host::start("locks");
    let before = all_is_seen(&host);
    let listed = output(&["ps", "--json"]);
    let listed: Vec<Value> = serde_json::from_slice(&listed.stdout).expect("JSON");
    let listed: Vec<&Value> = listed.iter().filter(|pool| pool["host"] == host.pid()).collect();
    assert_eq!(listed.len(), 1, "once, and not for its workers and supervisor");
    assert_eq!(listed[0]["workers_busy"], 2);
    let list = text(&output(&["ps"]).stdout);
    assert!(list.lines().any(|line| line.trim_start().starts_with(&format!("{} ", host.pid()))), "{list}");
    // Who waits for a lock looks round now and then, and does not sleep at that moment.
    let deadline = Instant::now() + PATIENCE;
    for part in ["holds_the_lock", "wants_the_lock", "5 submitted", "QUEUE", "WAITED FOR"] {
        while !text(&output(&["top", "--once", &host.pid().to_string()]).stdout).contains(part) {
            assert!(Instant::now() < deadline, "{part} is not shown");
        }
    }
    // Time goes on for what runs.
    let at_least = |pool: &Value| {
        let places = pool["places"].as_array().expect("places").clone();
        let place = places.into_iter().find(|place| place["running"]["function"] == "holds_the_lock");
        place.and_then(|place| place["running"]["at_least_ns"].as_u64()).expect("a time")
    };
    assert!(at_least(&look(host.pid())) > at_least(&before));
}

fn a_stopped_host_is_seen() {
    let host = Host::start("locks");
    all_is_seen(&host);
    host.signal(libc::SIGSTOP);
    look_until(host.pid(), "stopped", |pool| pool["state"] == "T");
    all_is_seen(&host);
    let frame = text(&output(&["top", "--once", &host.pid().to_string()]).stdout);
    assert!(frame.contains("STOPPED"), "{frame}");
    host.signal(libc::SIGCONT);
    look_until(host.pid(), "it goes on", |pool| pool["state"] != "T");
}

fn a_host_that_hangs_is_seen() {
    let host = Host::start("hangs");
    let pool = look_until(host.pid(), "it runs in a circle", |pool| pool["state"] == "R");
    assert_eq!((&pool["submitted"], &pool["settled"]), (&3.into(), &3.into()));
    assert_eq!(pool["workers_busy"], 0);
}

/// Workers die all the time, and none of the looks is disturbed.
fn dying_workers_are_no_trouble() {
    let host = Host::start("dies");
    let (mut looks, mut deaths) = (0, 0);
    let deadline = Instant::now() + PATIENCE;
    while deaths < 50 || looks < 20 {
        let pool = look(host.pid());
        let places = pool["places"].as_array().expect("places");
        assert_eq!(places.len(), 4);
        deaths = pool["worker_deaths"].as_u64().expect("a number");
        looks += 1;
        for pid in places.iter().filter_map(|place| place["pid"].as_i64()) {
            // SAFETY: at worst it is a process that has just ended; numbers are not used again so soon.
            unsafe { libc::kill(pid as i32, libc::SIGKILL) };
        }
        assert!(Instant::now() < deadline, "{deaths} deaths");
    }
}

fn another_users_process_is_refused() {
    // SAFETY: it only asks.
    if unsafe { libc::geteuid() } != 0 {
        println!("| not tested: another user's process, which takes being root");
        return;
    }
    let host = Host::start("hangs");
    // The program must be where that user can execute it.
    let copy = std::env::temp_dir().join(format!("tine-{}", std::process::id()));
    std::fs::copy(env!("CARGO_BIN_EXE_tine"), &copy).expect("a copy");
    let as_nobody = |arguments: &[&str]| {
        Command::new(&copy).args(arguments).uid(65534).gid(65534).output().expect("tine runs")
    };
    let top = as_nobody(&["top", "--json", &host.pid().to_string()]);
    let list = as_nobody(&["ps", "--json"]);
    std::fs::remove_file(&copy).expect("the copy");
    assert_eq!(top.status.code(), Some(1));
    let said = text(&top.stderr);
    assert!(said.contains("of user 0") && said.contains("may not be looked at"), "{said}");
    assert_eq!((list.status.code(), text(&list.stdout).trim()), (Some(0), "[]"));
}

fn what_is_no_host_is_said() {
    let own = std::process::id().to_string();
    for (arguments, code, part) in [
        (vec!["top", "--once", "999999999"], 1, "there is no process 999999999"),
        (vec!["top", "--once", &own], 1, "is the host of no pool"),
        (vec!["top", &own], 1, "top needs a terminal"),
        (vec!["top"], 2, "takes the number of a process"),
        (vec!["top", "x"], 2, "\"x\" is not a process number"),
        (vec!["top", "0"], 2, "\"0\" is not a process number"),
        (vec!["top", "1", "2"], 2, "unexpected argument \"2\""),
        (vec!["top", "--json", "--once", "1"], 2, "exclude each other"),
        (vec!["top", "--interval", "0", "1"], 2, "0.1 to 3600"),
        (vec!["ps", "1"], 2, "ps takes no number"),
        (vec!["pss"], 2, "\"pss\" is not a command"),
        (vec![], 2, "a command is missing"),
    ] {
        let output = output(&arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
    assert!(text(&output(&["--help"]).stdout).starts_with("usage: tine ps"));
    assert_eq!(text(&output(&["--version"]).stdout), format!("tine {}\n", env!("CARGO_PKG_VERSION")));
}

/// In there, the host and its workers have other numbers than here.
fn another_pid_namespace_is_seen() {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.env("TINE_TEST_HOST", "locks");
    // SAFETY: one call, which no other thread of the child can be in the way of.
    unsafe {
        command.pre_exec(|| match libc::unshare(libc::CLONE_NEWPID) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    command.env("TINE_TEST_FORK", "1");
    // SAFETY: it only asks.
    if unsafe { libc::geteuid() } != 0 {
        println!("| not tested: a PID namespace, which takes being root");
        return;
    }
    let outside = Host::run(&mut command);
    // The host is the child of the process that made the namespace.
    let children =
        std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", outside.pid())).expect("children");
    let pid: u32 = children.split_whitespace().next().expect("a child").parse().expect("a number");
    let pool = look_until(pid, "its workers are found", |pool| {
        runs(pool, "holds_the_lock") == 1 && pool["waits"][0].is_object()
    });
    let place = &pool["places"][0];
    assert_ne!(place["pid"], place["own_pid"]);
    assert_eq!(pool["workers_ready"], 2);
    assert!(pool["waits"][0]["holder"].is_object(), "{pool:#}");
    // SAFETY: the first process of the namespace, which `outside` has not waited for: all others end with it.
    unsafe { libc::kill(pid as i32, libc::SIGKILL) };
}

fn main() {
    host::become_host();
    let tests: [(&str, fn()); 14] = [
        ("a_running_pool_is_seen", a_running_pool_is_seen),
        ("a_stopped_host_is_seen", a_stopped_host_is_seen),
        ("a_host_that_hangs_is_seen", a_host_that_hangs_is_seen),
        ("dying_workers_are_no_trouble", dying_workers_are_no_trouble),
        ("another_users_process_is_refused", another_users_process_is_refused),
        ("what_is_no_host_is_said", what_is_no_host_is_said),
        ("another_pid_namespace_is_seen", another_pid_namespace_is_seen),
        ("garbage_is_no_trouble", garbage::garbage_is_no_trouble),
        ("another_version_is_named", garbage::another_version_is_named),
        ("the_screen_shows_it", screen::the_screen_shows_it),
        ("the_terminal_is_given_back", screen::the_terminal_is_given_back),
        ("half_a_key_holds_nothing_up", screen::half_a_key_holds_nothing_up),
        ("a_terminal_that_is_gone_ends_it", screen::a_terminal_that_is_gone_ends_it),
        ("a_terminal_of_no_size_is_drawn_on", screen::a_terminal_of_no_size_is_drawn_on),
    ];
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let mut passed = 0;
    for (name, test) in
        tests.iter().filter(|(name, _)| wanted.as_ref().is_none_or(|wanted| name.contains(wanted.as_str())))
    {
        let began = Instant::now();
        test();
        passed += 1;
        println!("ok    {name} ({:.1} s)", began.elapsed().as_secs_f64());
    }
    println!("{passed} passed, 0 failed");
}
