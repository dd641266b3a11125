//! For `TINE_CHECK`: who has left what in the heap, when everything else is over.

use super::ledger::{Output, Settled, State as TaskState};
use super::state::State;
use crate::check;
use std::collections::HashSet;

impl State {
    #[cold]
    pub(super) fn list_leaks(&self, host: i32) {
        let (mut known, mut kept) = (HashSet::new(), 0);
        for entry in self.ledger.in_use() {
            if let Some(Settled { output: Output::Heap(address), output_length: 1.., .. }) = entry.outcome {
                known.insert(address);
                kept += usize::from(entry.state == TaskState::Taken);
            }
        }
        if kept > 0 {
            check::say(&format!(
                "results that were taken and not released when the pool is destroyed: {kept}"
            ));
        }
        let of_host = self.heap.blocks_of(crate::heap::HOST);
        for (pid, _) in self.heap.dead() {
            let blocks: Vec<_> =
                self.heap.left_by(pid).into_iter().filter(|(address, _)| known.insert(*address)).collect();
            check::list_leaks("worker", pid, &blocks);
        }
        let of_host: Vec<_> = of_host.into_iter().filter(|(address, _)| !known.contains(address)).collect();
        check::list_leaks("the host", host, &of_host);
    }
}
