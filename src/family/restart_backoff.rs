//! How long to wait after a start that failed, and when to give up.

/// A pool that has never had a worker is not tried longer than that: its program is probably not one of tine's.
pub(super) const HOPELESS: u32 = 5;

/// Stops a pool whose workers do not get as far as taking tasks.
///
/// Each failure that is the program's own (it exits, crashes, or its initializer fails, before it has done a task)
/// counts: the first ends a pool that has never had a worker, three in a row any other that has no worker left. A
/// SIGKILL may come from any process and only makes the next start wait longer; but when nothing has started for as long as
/// one start may take, that ends the pool too.
#[derive(Debug, Default)]
pub(super) struct RestartBackoff {
    pub(super) own_failures: u32,
    pub(super) killed: u32,
    pub(super) since_ns: Option<u64>,
    pub(super) ever_ready: bool,
}

impl RestartBackoff {
    /// How long the next start waits: not at all after one failure, up to 16 ms after many. That is long enough not to
    /// burn a processor, and short enough not to be noticed when workers are killed at random. A place whose workers fail
    /// by themselves, while others work, is tried once a second.
    pub(super) fn pause_ns(&self) -> u64 {
        if self.own_failures >= 3 {
            return 1_000_000_000;
        }
        match self.own_failures + self.killed {
            0 | 1 => 0,
            many => 1_000_000u64 << many.min(4),
        }
    }
}
