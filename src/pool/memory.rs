//! The memory that a pool's processes share: its heap, who has what of it, and segments that every worker maps.

use super::Pool;
use super::state::PoolState;
use super::wait::{Want, refusal, wait};
use crate::error::{Error, Result};
use crate::family::sharing::SharingEnd;
use crate::heap::own::Process;
use crate::heap::segment::Segment;
use crate::sys::clock::{Deadline, Timeout};
use crate::sys::reserve;
use crate::task::share::Share;
use crate::worker::start;

impl Pool {
    /// What each process has allocated: the host, the workers, and those that have died and left blocks.
    pub fn heap_usage(&self) -> Result<Vec<Process>> {
        let inner = self.inner()?;
        let mut state = inner.lock();
        state.pump(true);
        state.leave();
        let usages = inner.heap.usage()?;
        let mut all = Vec::new();
        reserve::grow(&mut all, 1 + state.family.members.len() + usages.ended().count())?;
        all.push(Process { pid: inner.pid, alive: true, usage: usages.of(crate::heap::HOST) });
        for (slot, member) in state.family.members.iter().enumerate().filter(|(_, member)| member.pid != 0) {
            let usage = usages.of(start::owner_of(slot as u32));
            all.push(Process { pid: member.pid, alive: true, usage });
        }
        all.extend(usages.ended().map(|(pid, usage)| Process { pid, alive: false, usage }));
        Ok(all)
    }

    /// Has a segment mapped in every worker, at the address that it has here, and in those to come.
    ///
    /// Workers that are busy do it before their next task. Where one cannot, nothing is shared: that worker ends, and
    /// its place is filled anew. Where not all have answered in time nothing is shared either, and the same call may go on from there:
    /// see docs/design/sharing.md.
    pub fn share(&self, segment: &Segment, timeout: Timeout) -> Result<()> {
        let inner = self.inner()?;
        inner.refuse_on_nodes("a segment")?;
        let deadline = timeout.deadline();
        let _turn = inner.sharing.take(timeout, deadline, inner.interruptible)?;
        let share = Share::new(segment)?;
        let mut state = inner.lock();
        if let Some(error) = refusal(&state) {
            return Err(error);
        }
        state.family.refuse_share(&share)?;
        let (address, length) = (segment.address(), segment.size());
        if inner.heap.overlaps(address, length) {
            return Err(Error::errno(
                libc::EEXIST,
                format!("the segment at {address:#x} lies in the heap's range"),
            ));
        }
        state.family.share(share)?;
        // Whoever leads may have lain down for as long as nothing is under way.
        if state.waiters.desk.is_led() {
            state.pump(false);
        }
        let (mut state, shared) =
            wait(inner, state, Want::Shared, timeout.what_is_left(deadline), PoolState::sharing_answer);
        state.family.end_sharing(SharingEnd::of(&shared));
        if shared.is_err() {
            // Somebody is to know when the segment is to be taken back, and a pool that has run no task may have nobody yet.
            state.look_soon();
            state.pump(false);
            let is_due = state.family.messages_due() != Deadline::NEVER;
            drop(state);
            if is_due {
                // The call returns why the segment is not shared. Without a thread, the next call that moves the pool on takes it back.
                let _ = self.guard(false);
            }
        }
        shared
    }

    /// Whether every worker can use these bytes: memory of the heap, or of a segment that is shared.
    pub fn is_shared(&self, address: usize, length: usize) -> Result<bool> {
        let inner = self.inner()?;
        Ok(inner.heap.contains(address, length) || inner.lock().family.is_shared(address, length))
    }

    /// Frees the blocks that a process had when it died; how many there were.
    ///
    /// # Safety
    /// Nobody uses these blocks any more, in any process.
    pub unsafe fn release_process(&self, pid: i32) -> Result<usize> {
        let inner = self.inner()?;
        let mut state = inner.lock();
        state.pump(true);
        state.leave();
        if pid == inner.pid || state.family.members.iter().any(|member| member.pid == pid && pid != 0) {
            return Err(Error::errno(libc::EBUSY, format!("process {pid} is not known to have ended")));
        }
        // SAFETY: nobody uses the blocks any more, by the contract above.
        unsafe { inner.heap.release_process(pid) }
    }
}

impl PoolState {
    /// What there is to say of the segment that is being shared. A pool that is shut down meanwhile takes none any more, like one that
    /// has broken down.
    fn sharing_answer(&mut self) -> Option<crate::Result<()>> {
        let is_over = self.has_sharing_answer();
        match refusal(self) {
            Some(error) => Some(Err(error)),
            None => is_over.then(|| self.family.shared()),
        }
    }

    /// Whether the call that shares has come to its end. The family is asked whatever else there is: the asking takes in how many
    /// workers have mapped the segment, and what has not been taken in keeps everybody awake.
    pub(super) fn has_sharing_answer(&mut self) -> bool {
        let rings = &self.rings;
        // What has been taken back from a stopped worker's ring keeps nobody busy.
        let has_shared = self.family.has_shared(|slot| rings[slot].front().is_some());
        has_shared || refusal(self).is_some()
    }
}
