//! What this process may use: processors and memory, as its affinity mask, its cgroups and the machine say.

use crate::error::{Error, Result};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// How many workers make sense: the processors of the affinity mask, or the cgroup's quota where that is less.
pub fn available_cpus() -> usize {
    let quota = cpu_quota(Path::new("/")).unwrap_or(usize::MAX);
    affinity_count().min(quota).max(1)
}

/// How many processors this thread may run on.
pub(crate) fn affinity_count() -> usize {
    processors().len().max(1)
}

/// How many processors the machine has that work now.
pub(crate) fn online_count() -> usize {
    // SAFETY: has no preconditions.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) }).map_or(1, |count| count.max(1))
}

/// The processors that this thread may run on.
pub(crate) fn processors() -> Vec<u32> {
    // A kernel for many processors refuses a mask that is shorter than its own.
    for words in [16usize, 128, 1024] {
        let mut mask = vec![0u64; words];
        // SAFETY: room for as many bytes as are said.
        let rc = unsafe { libc::sched_getaffinity(0, words * 8, mask.as_mut_ptr().cast()) };
        if rc == 0 {
            let bits = (0..words as u32 * 64).filter(|bit| mask[*bit as usize / 64] >> (bit % 64) & 1 != 0);
            return bits.collect();
        }
    }
    Vec::new()
}

/// Runs this thread, and those that it starts, on one processor only.
pub(crate) fn run_on(processors: &[u32]) -> Result<()> {
    let mut mask = vec![0u64; processors.iter().max().map_or(0, |last| *last as usize / 64 + 1)];
    for processor in processors {
        mask[*processor as usize / 64] |= 1 << (processor % 64);
    }
    // SAFETY: pointer and length are of one slice, so as many bytes can be read.
    let rc = unsafe { libc::sched_setaffinity(0, mask.len() * 8, mask.as_ptr().cast()) };
    if rc == 0 {
        return Ok(());
    }
    let numbers: Vec<String> = processors.iter().map(u32::to_string).collect();
    let what = format!("running on processor {}", numbers.join(" or "));
    Err(Error::from_io(&what, &std::io::Error::last_os_error()))
}

/// Sets one of this process's limits.
pub(crate) fn set(resource: i32, soft: u64, hard: u64) -> Result<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: a valid limit; a resource that there is not is refused. C libraries differ in its type.
    if unsafe { libc::setrlimit(resource as _, &limit) } == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    Err(Error::from_io(&format!("setting limit {resource} to {soft} and {hard}"), &error))
}

/// A limit, of whatever resource.
pub(crate) type Limit = libc::rlimit;

/// Lets this process have as many descriptors as it may; what the limit was, where that has changed it.
pub(crate) fn raise_descriptors() -> Option<Limit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid place, then a valid limit.
    unsafe {
        let known = libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0;
        let highest = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
        let raised = known && limit.rlim_cur < limit.rlim_max;
        (raised && libc::setrlimit(libc::RLIMIT_NOFILE, &highest) == 0).then_some(limit)
    }
}

/// Takes it back, in a process that is another's child. Async-signal-safe.
pub(crate) fn restore_descriptors(limit: Option<Limit>) {
    if let Some(limit) = limit {
        // SAFETY: a valid limit; one below what it was when it was raised is never refused.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    }
}

/// Makes this process more or less welcome to the kernel when memory runs out.
pub(crate) fn set_oom_score_adj(score: i32) -> Result<()> {
    fs::write("/proc/self/oom_score_adj", score.to_string())
        .map_err(|error| Error::from_io(&format!("setting oom_score_adj to {score}"), &error))
}

/// The tightest CPU quota of this process's cgroups, in processors, rounded up.
fn cpu_quota(root: &Path) -> Option<usize> {
    let groups = Cgroups::read(root).ok()?;
    // Where there is no descriptor to look with, the processors are what the mask says.
    let number = |path: &Path| number(path).ok().flatten();
    let v2 = groups.folders(None).into_iter().filter_map(|folder| {
        let text = read(&folder.join("cpu.max")).ok()?;
        let mut words = text.split_whitespace();
        ceil_div(words.next()?.parse().ok()?, words.next()?.parse().ok()?)
    });
    let v1 = groups.folders(Some("cpu")).into_iter().filter_map(|folder| {
        ceil_div(number(&folder.join("cpu.cfs_quota_us"))?, number(&folder.join("cpu.cfs_period_us"))?)
    });
    v2.chain(v1).min()
}

fn ceil_div(quota: i64, period: i64) -> Option<usize> {
    (quota > 0 && period > 0).then(|| quota.unsigned_abs().div_ceil(period.unsigned_abs()) as usize)
}

/// The limit on this process's address space, in bytes, if there is one.
pub(crate) fn address_space() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid place.
    let rc = unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut limit) };
    (rc == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// The private resident memory of a process: no file and no shared memory is behind it; `None` if the process is gone.
pub(crate) fn private_bytes(pid: i32) -> Option<u64> {
    let _uncancelled = super::thread::Uncancelled::new();
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let mut pages = text.split_whitespace().skip(1).map_while(|word| word.parse::<u64>().ok());
    let (resident, shared) = (pages.next()?, pages.next()?);
    Some(resident.saturating_sub(shared) * super::memory::page_size() as u64)
}

/// What a process has had of the processors, and whether it could use one now; `None` if it is gone, or /proc does not say.
pub(crate) fn processor_use(pid: i32) -> Option<ProcessorUse> {
    let _uncancelled = super::thread::Uncancelled::new();
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // SAFETY: has no preconditions.
    let per_second =
        u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).ok().filter(|per| *per > 0)?;
    use_in(&text, per_second)
}

/// The same by the text that the kernel has of the process.
fn use_in(text: &[u8], per_second: u64) -> Option<ProcessorUse> {
    // The program's name, in parentheses, may have anything in it.
    let behind_name = text.iter().rposition(|byte| *byte == b')')? + 1;
    let fields = std::str::from_utf8(&text[behind_name..]).ok()?;
    let mut fields = fields.split_ascii_whitespace();
    // D: it waits for a page that is on its way from a disk, and could use a processor if the machine had more memory.
    let is_runnable = matches!(fields.next()?, "R" | "D");
    let mut ticks = fields.skip(10).map_while(|word| word.parse::<u64>().ok());
    let ticks = ticks.next()? + ticks.next()?;
    Some(ProcessorUse { is_runnable, used_ns: ticks * (1_000_000_000 / per_second) })
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct ProcessorUse {
    pub(crate) is_runnable: bool,
    pub(crate) used_ns: u64,
}

/// The limit on how long this process may make files, in bytes, if there is one.
pub(crate) fn file_size() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid place.
    let rc = unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &mut limit) };
    (rc == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// How often the kernel has killed a process of this machine for want of memory, in whatever cgroup.
pub(crate) fn oom_kills() -> u64 {
    let text = read(Path::new("/proc/vmstat")).unwrap_or_default();
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// How much more memory may be taken: the least of what the machine has and of what is left in the cgroups. Where there is no
/// descriptor or memory for a look, it is an error. A cgroup that this process may not see, or that is not there, sets no limit.
pub fn available_memory() -> Result<u64> {
    let _uncancelled = super::thread::Uncancelled::new();
    let left = || memory_left(Path::new("/"), machine_memory()?.unwrap_or(u64::MAX));
    left().map_err(|error| Error::from_io("looking at how much memory is left", &error))
}

fn machine_memory() -> io::Result<Option<u64>> {
    let text = read_if_there(Path::new("/proc/meminfo"))?.unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(number.map(|kilobytes| kilobytes * 1024))
}

/// How version 1 says that there is no limit: at least this.
const NO_LIMIT: i64 = 1 << 60;

/// The least of `most` and of what is left in the cgroups.
fn memory_left(root: &Path, most: u64) -> io::Result<u64> {
    let groups = Cgroups::read(root)?;
    let v2 = (None, ["memory.max", "memory.current", "inactive_file "]);
    let v1 = (Some("memory"), ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "]);
    let mut least = most;
    for (controller, [limit, used, reclaimable_key]) in [v2, v1] {
        for folder in groups.folders(controller) {
            let Some(limit) = number(&folder.join(limit))?.filter(|limit| *limit < NO_LIMIT) else {
                continue;
            };
            let Some(used) = number(&folder.join(used))? else { continue };
            let left = |used: i64| limit.saturating_sub(used).max(0) as u64;
            // To ask how much of it can be had back is slow, and seldom matters.
            if left(used) < least {
                least = least.min(left(used - reclaimable(&folder, reclaimable_key)?));
            }
        }
    }
    Ok(least)
}

/// File pages that the kernel drops before it kills a process.
fn reclaimable(folder: &Path, key: &str) -> io::Result<i64> {
    let text = read_if_there(&folder.join("memory.stat"))?.unwrap_or_default();
    let bytes =
        text.lines().find_map(|line| line.strip_prefix(key)).and_then(|rest| rest.trim().parse().ok());
    Ok(bytes.unwrap_or(0))
}

fn number(path: &Path) -> io::Result<Option<i64>> {
    Ok(read_if_there(path)?.and_then(|text| text.trim().parse().ok()))
}

/// The text of one of the kernel's files; `None` where it is not there, or not for this process. For want of a descriptor or of memory
/// nobody can say that.
fn read_if_there(path: &Path) -> io::Result<Option<String>> {
    match read(path) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)) => {
            Err(error)
        }
        other => Ok(other.ok()),
    }
}

/// The text of one of the kernel's files. These say that they are empty, and the standard library asks them for that, and then reads them
/// in ever larger pieces.
fn read(path: &Path) -> io::Result<String> {
    let mut text = String::with_capacity(4096);
    fs::File::open(path)?.take(1 << 20).read_to_string(&mut text)?;
    Ok(text)
}

/// Where this process's cgroups are.
struct Cgroups<'a> {
    root: &'a Path,
    own: Option<String>,
    mounts: Option<String>,
}

impl Cgroups<'_> {
    fn read(root: &Path) -> io::Result<Cgroups<'_>> {
        let text = |path| read_if_there(&root.join(path));
        Ok(Cgroups { root, own: text("proc/self/cgroup")?, mounts: text("proc/self/mountinfo")? })
    }

    /// The folders of this process's cgroup and of all above it: version 2 for `None`, else version 1's controller. Where nobody says
    /// which and where, the one that is mounted at the usual place.
    fn folders(&self, controller: Option<&str>) -> Vec<PathBuf> {
        let of = |line: &str| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            let matches = match controller {
                None => controllers.is_empty(),
                Some(name) => controllers.split(',').any(|one| one == name),
            };
            matches.then(|| path.to_owned())
        };
        let own = match &self.own {
            Some(own) => own.lines().find_map(of),
            None => Some("/".to_owned()),
        };
        let Some(own) = own else { return Vec::new() };
        let usual = controller.map_or("/sys/fs/cgroup".to_owned(), |name| format!("/sys/fs/cgroup/{name}"));
        let mount = match &self.mounts {
            Some(mounts) => mounts.lines().find_map(|line| cgroup_mount(line, controller)),
            None => Some(("/", usual.as_str())),
        };
        let Some((mounted, place)) = mount else { return Vec::new() };
        // Inside a container the mount may show a subtree only; then paths are relative to that subtree.
        let inside = own.strip_prefix(mounted.trim_end_matches('/')).unwrap_or("");
        let top = self.root.join(place.trim_start_matches('/'));
        let mut folders = vec![top.clone()];
        let mut folder = top;
        for part in inside.split('/').filter(|part| !part.is_empty() && *part != "..") {
            folder = folder.join(part);
            folders.push(folder.clone());
        }
        folders
    }
}

/// From a line of mountinfo: which part of the hierarchy is mounted, and where.
fn cgroup_mount<'a>(line: &'a str, controller: Option<&str>) -> Option<(&'a str, &'a str)> {
    let (left, right) = line.split_once(" - ")?;
    let mut right = right.split(' ');
    let (kind, options) = (right.next()?, right.nth(1).unwrap_or(""));
    let matches = match controller {
        None => kind == "cgroup2",
        Some(name) => kind == "cgroup" && options.split(',').any(|one| one == name),
    };
    let mut left = left.split(' ').skip(3);
    matches.then_some((left.next()?, left.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_asks_has_a_processor() {
        let before = processor_use(std::process::id() as i32).unwrap();
        let began = crate::sys::clock::now_ns();
        while processor_use(std::process::id() as i32).unwrap().used_ns == before.used_ns {
            assert!(crate::sys::clock::now_ns() - began < 60_000_000_000, "it uses nothing");
        }
        assert!(processor_use(i32::MAX).is_none());
    }

    #[test]
    fn a_process_whose_page_is_on_its_way_could_use_a_processor() {
        let use_of = |text: &str| use_in(text.as_bytes(), 100).map(|it| (it.is_runnable, it.used_ns));
        let text = |state: char| format!("7 (a) S) {state} 1 2 3 4 5 6 7 8 9 10 30 12 13 14");
        assert_eq!(use_of(&text('D')), Some((true, 420_000_000)));
        assert_eq!(use_of(&text('R')), Some((true, 420_000_000)));
        assert_eq!(use_of(&text('S')), Some((false, 420_000_000)), "it waits for somebody");
        assert_eq!(use_of(&text('T')), Some((false, 420_000_000)), "somebody has stopped it");
        assert_eq!(use_of("7 (a) R 1"), None);
    }

    /// A folder with files in it, gone when dropped.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str, files: &[(&str, &str)]) -> Tree {
            let root = std::env::temp_dir().join(format!("tine-limits-{name}-{}", std::process::id()));
            for (path, content) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, content).unwrap();
            }
            Tree(root)
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn version_2_takes_the_tightest_of_all_levels() {
        let tree = Tree::new(
            "v2",
            &[
                ("proc/self/cgroup", "0::/a/b\n"),
                ("proc/self/mountinfo", "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
                ("sys/fs/cgroup/a/cpu.max", "150000 100000\n"),
                ("sys/fs/cgroup/a/b/cpu.max", "max 100000\n"),
                ("sys/fs/cgroup/a/memory.max", "max\n"),
                ("sys/fs/cgroup/a/b/memory.max", "1000000\n"),
                ("sys/fs/cgroup/a/b/memory.current", "900000\n"),
                ("sys/fs/cgroup/a/b/memory.stat", "anon 1\ninactive_file 100000\n"),
            ],
        );
        assert_eq!(cpu_quota(&tree.0), Some(2));
        assert_eq!(memory_left(&tree.0, u64::MAX).unwrap(), 200_000);
        assert_eq!(memory_left(&tree.0, 150_000).unwrap(), 150_000);
        assert_eq!(memory_left(&tree.0, 50_000).unwrap(), 50_000);
        // Where /proc does not say what is mounted where, or which cgroup this is, the usual place is looked at.
        fs::remove_file(tree.0.join("proc/self/mountinfo")).unwrap();
        assert_eq!(memory_left(&tree.0, u64::MAX).unwrap(), 200_000);
        fs::remove_file(tree.0.join("proc/self/cgroup")).unwrap();
        fs::write(tree.0.join("sys/fs/cgroup/memory.max"), "1000\n").unwrap();
        fs::write(tree.0.join("sys/fs/cgroup/memory.current"), "10\n").unwrap();
        assert_eq!(memory_left(&tree.0, u64::MAX).unwrap(), 990);
    }

    #[test]
    fn version_1_inside_a_container() {
        let tree = Tree::new(
            "v1",
            &[
                ("proc/self/cgroup", "4:memory:/docker/x\n3:cpu,cpuacct:/docker/x\n"),
                (
                    "proc/self/mountinfo",
                    "31 20 0:27 /docker/x /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n",
                ),
                ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n"),
                ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            ],
        );
        assert_eq!(cpu_quota(&tree.0), Some(1));
        assert_eq!(memory_left(&tree.0, 7).unwrap(), 7);
    }

    #[test]
    fn version_1_without_a_limit_and_with_one() {
        let tree = Tree::new(
            "v1-memory",
            &[
                ("proc/self/cgroup", "4:memory:/x\n"),
                ("proc/self/mountinfo", "31 20 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
                ("sys/fs/cgroup/memory/memory.usage_in_bytes", "9223372036854771712\n"),
                ("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "5000\n"),
                ("sys/fs/cgroup/memory/x/memory.usage_in_bytes", "4000\n"),
                ("sys/fs/cgroup/memory/x/memory.stat", "inactive_file 7\ntotal_inactive_file 500\n"),
            ],
        );
        assert_eq!(memory_left(&tree.0, u64::MAX).unwrap(), 1500);
    }

    #[test]
    fn no_cgroups_no_limits() {
        let tree = Tree::new("none", &[("proc/self/cgroup", "")]);
        assert_eq!(cpu_quota(&tree.0), None);
        assert!(available_cpus() >= 1);
        assert!(available_memory().unwrap() > 0);
    }
}
