//! A model of the heap's clean-up: the very code of `src/heap/runs.rs` on loom's atomics. A process clears up after a dead
//! one while living ones free, take, split and join the runs beside it; every interleaving within a bound of preemptions.

#![allow(dead_code)] // The code under test is compiled whole, and used in part.

const EXTENT_BYTES: usize = 64 * 1024;

#[path = "../src/heap/class.rs"]
mod class;
#[path = "../src/heap/entry.rs"]
mod entry;
#[path = "../src/heap/runs.rs"]
mod runs;

/// The directory's words, as `src/heap/directory.rs` has them in shared memory.
mod directory {
    use super::entry::Entry;
    use loom::sync::atomic::{AtomicU64, Ordering};

    pub struct Directory(Vec<AtomicU64>);

    impl Directory {
        pub(crate) fn new(entries: &[Entry]) -> Directory {
            Directory(entries.iter().map(|entry| AtomicU64::new(entry.word())).collect())
        }

        pub(crate) fn known_extents(&self) -> u32 {
            self.0.len() as u32
        }

        pub(crate) fn get(&self, extent: u32) -> Entry {
            Entry::from_word(self.0[extent as usize].load(Ordering::Acquire))
        }

        pub(crate) fn set(&self, extent: u32, entry: Entry) {
            // An exchange: loom lets a blind store lose against an exchange that has seen an older value.
            self.0[extent as usize].swap(entry.word(), Ordering::Release);
        }

        pub(crate) fn exchange(&self, extent: u32, from: Entry, to: Entry) -> bool {
            let word = &self.0[extent as usize];
            word.compare_exchange(from.word(), to.word(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
        }
    }
}

mod scene {
    use super::directory::Directory;
    use super::entry::{Entry, Kind, Owner};
    use super::runs;
    use loom::sync::Arc;
    use loom::thread;

    const DEAD: Owner = 7;

    /// What `Heap::clear_up` does with claims.
    fn clear_up(directory: &Directory) {
        let known = directory.known_extents();
        let mut extent = 0;
        while extent < known {
            let entry = directory.get(extent);
            extent += match entry.kind {
                Kind::Claimed if entry.owner == DEAD => runs::give_up(directory, extent, entry),
                _ => entry.length_at(extent, known),
            };
        }
    }

    /// Takes `count` extents of whatever is free, makes a block of them, and frees it again if it is told to.
    fn come_and_go(directory: &Directory, me: Owner, count: u32, stays: bool) -> u32 {
        let known = directory.known_extents();
        let mut extent = 0;
        while extent < known {
            let entry = directory.get(extent);
            let length = entry.length_at(extent, known);
            if entry.kind == Kind::Free && runs::take(directory, me, extent, entry, count).is_some() {
                directory.set(extent, Entry::large(me, count));
                if !stays {
                    free(directory, me, extent);
                }
                return u32::from(stays) * count;
            }
            extent += length;
        }
        0
    }

    fn free(directory: &Directory, me: Owner, extent: u32) {
        let entry = directory.get(extent);
        assert!(entry.kind == Kind::Large && entry.owner == me, "a living owner's block is {entry:?}");
        assert!(
            directory.exchange(extent, entry, Entry::claimed(me, entry.aux)),
            "a living owner's block is gone"
        );
        runs::give(directory, me, extent, entry.aux, false);
    }

    /// The runs cover all of the heap once, nothing of the dead one is left, and the living have what they took.
    fn examine(directory: &Directory, taken: u32) {
        let known = directory.known_extents();
        let (mut extent, mut found) = (0, 0);
        while extent < known {
            let entry = directory.get(extent);
            let length = entry.exact_length(extent, known).expect("a run that fits");
            match entry.kind {
                Kind::Large => found += length,
                Kind::Free => (),
                _ => panic!("extent {extent} is {entry:?}"),
            }
            for tail in extent + 1..extent + length {
                assert_eq!(directory.get(tail).kind, Kind::Tail, "extent {tail}");
            }
            extent += length;
        }
        assert_eq!(found, taken, "extents that living owners have");
    }

    fn model(entries: &[Entry], others: &'static [fn(&Directory) -> u32]) {
        let entries = entries.to_vec();
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(std::env::var_os("TINE_STORM").map_or(2, |_| 3));
        model.check(move || {
            let directory = Arc::new(Directory::new(&entries));
            let living: Vec<_> = others
                .iter()
                .map(|other| {
                    let directory = Arc::clone(&directory);
                    thread::spawn(move || other(&directory))
                })
                .collect();
            clear_up(&directory);
            let taken = living.into_iter().map(|thread| thread.join().unwrap()).sum();
            clear_up(&directory);
            examine(&directory, taken);
        });
    }

    /// Killed while it joined two runs, between a living one's block and a free run.
    fn torn() -> Vec<Entry> {
        vec![
            Entry::large(1, 2),
            Entry::tail(1),
            Entry::claimed(DEAD, 2),
            Entry::claimed(DEAD, 1),
            Entry::free(2, false),
            Entry::tail(1),
        ]
    }

    #[test]
    fn one_living_owner_frees_and_takes_beside_the_cleaner() {
        model(
            &torn(),
            &[|directory| {
                free(directory, 1, 0);
                come_and_go(directory, 1, 2, true)
            }],
        );
    }

    #[test]
    fn two_living_owners_beside_the_cleaner() {
        model(
            &torn(),
            &[
                |directory| {
                    free(directory, 1, 0);
                    0
                },
                |directory| come_and_go(directory, 2, 1, true),
            ],
        );
    }

    #[test]
    fn neighbours_are_joined_while_the_cleaner_walks() {
        let entries =
            [Entry::claimed(DEAD, 1), Entry::free(1, true), Entry::claimed(DEAD, 1), Entry::free(1, true)];
        model(
            &entries,
            &[
                |directory| come_and_go(directory, 2, 1, false),
                |directory| come_and_go(directory, 3, 1, true),
            ],
        );
    }
}
