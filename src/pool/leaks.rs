//! For `TINE_CHECK`: who has left what in the heap, when everything else is over.

use super::ledger::{OutputPlace, Settled, TaskState};
use super::state::PoolState;
use crate::check;
use crate::error::{Code, Error, Result};
use std::collections::HashSet;

impl PoolState {
    #[cold]
    pub(super) fn list_leaks(&self, host: i32) {
        if let Err(error) = self.try_to_list_leaks(host) {
            check::say(&format!("what is left in the heap cannot be listed: {}", error.text()));
        }
    }

    fn try_to_list_leaks(&self, host: i32) -> Result<()> {
        let (mut known, mut kept) = (HashSet::new(), 0);
        for entry in self.ledger.in_use() {
            let output = entry.outcome.as_ref().and_then(Settled::output);
            if let Some(OutputPlace::Heap(address)) = output {
                note(&mut known, address)?;
                kept += usize::from(entry.state == TaskState::Taken);
            }
        }
        if kept > 0 {
            check::say(&format!(
                "results that were taken and not released when the pool is destroyed: {kept}"
            ));
        }
        let mut of_host = self.heap.blocks_of(crate::heap::HOST)?;
        for (pid, _) in self.heap.usage()?.ended() {
            let mut blocks = self.heap.left_by(pid)?;
            blocks.retain(|(address, _)| !known.contains(address));
            for (address, _) in &blocks {
                note(&mut known, *address)?;
            }
            check::list_leaks("worker", pid, &blocks);
        }
        of_host.retain(|(address, _)| !known.contains(address));
        check::list_leaks("the host", host, &of_host);
        Ok(())
    }
}

fn note(known: &mut HashSet<usize>, address: usize) -> Result<()> {
    known.try_reserve(1).map_err(|_| Error::from(Code::errno(libc::ENOMEM)))?;
    known.insert(address);
    Ok(())
}
