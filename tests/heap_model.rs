//! A model of the heap's clean-up: the very code of `src/heap/runs.rs` on loom's atomics. A process clears up after a dead
//! one while living ones free, take, split and join the runs beside it; every interleaving within a bound of preemptions. In other
//! scenes the cleaner, or an owner, or both die before any one of their stores, and the next cleaner goes on.

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
    use super::death::step;
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
            step();
            // An exchange: loom lets a blind store lose against an exchange that has seen an older value.
            self.0[extent as usize].swap(entry.word(), Ordering::Release);
        }

        pub(crate) fn exchange(&self, extent: u32, from: Entry, to: Entry) -> bool {
            step();
            let word = &self.0[extent as usize];
            word.compare_exchange(from.word(), to.word(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
        }
    }
}

#[path = "model/death.rs"]
mod death;

mod scene {
    use super::death;
    use super::directory::Directory;
    use super::entry::{Entry, EntryKind, Owner};
    use super::runs;
    use loom::sync::Arc;
    use loom::thread;
    use std::cell::Cell;
    use std::rc::Rc;

    const DEAD: Owner = 7;

    /// What `Heap::clear_up` does with claims.
    fn clear_up(directory: &Directory, dead: Owner) {
        let known = directory.known_extents();
        let mut extent = 0;
        while extent < known {
            let entry = directory.get(extent);
            extent += match entry.kind {
                EntryKind::Claimed if entry.owner == dead => runs::give_up(directory, extent, entry),
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
            if entry.kind == EntryKind::Free && runs::take(directory, me, extent, entry, count).is_some() {
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
        assert!(entry.kind == EntryKind::Large && entry.owner == me, "a living owner's block is {entry:?}");
        assert!(
            directory.exchange(extent, entry, Entry::claimed(me, entry.aux)),
            "a living owner's block is gone"
        );
        runs::give(directory, me, extent, entry.aux, false);
    }

    /// The runs cover all of the heap once, nothing of the dead ones is left to clear up, and owners have what they took; how much
    /// that is.
    fn examine(directory: &Directory) -> u32 {
        let known = directory.known_extents();
        let (mut extent, mut found) = (0, 0);
        while extent < known {
            let entry = directory.get(extent);
            let length = entry.exact_length(extent, known).expect("a run that fits");
            match entry.kind {
                EntryKind::Large => found += length,
                EntryKind::Free => (),
                _ => panic!("extent {extent} is {entry:?}"),
            }
            for tail in extent + 1..extent + length {
                assert_eq!(directory.get(tail).kind, EntryKind::Tail, "extent {tail}");
            }
            extent += length;
        }
        found
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
            clear_up(&directory, DEAD);
            let taken = living.into_iter().map(|thread| thread.join().unwrap()).sum();
            clear_up(&directory, DEAD);
            assert_eq!(examine(&directory), taken, "extents that living owners have");
        });
    }

    /// The cleaner dies, and an owner beside it.
    #[derive(Clone, Copy)]
    struct Scene {
        entries: fn() -> Vec<Entry>,
        /// What owner 1 does, and how many extents it has in the end.
        mortal: fn(&Directory) -> u32,
        /// What it may have where it dies.
        may_have: [u32; 2],
        /// The same of the living one, beside the next cleaner.
        living: fn(&Directory) -> u32,
    }

    /// The cleaner dies before its store number `dies.0`, the owner before its store number `dies.1`: which of the two did. The next
    /// cleaner goes on, one after the other, but nothing keeps owners from going on beside it.
    fn two_deaths(scene: Scene, dies: (u32, u32)) -> (bool, bool) {
        death::begin();
        let directory = Arc::new(Directory::new(&(scene.entries)()));
        let (first, second) = (Arc::clone(&directory), Arc::clone(&directory));
        let cleaner = death::spawn(dies.0, first, |directory| clear_up(directory, DEAD));
        let owner = death::spawn(dies.1, second, move |directory| (scene.mortal)(directory));
        let cleaned = cleaner.join().unwrap();
        clear_up(&directory, DEAD);
        let taken = (scene.living)(&directory);
        let has = owner.join().unwrap();
        clear_up(&directory, 1);
        let found = examine(&directory);
        let may_have = has.map_or(scene.may_have, |has| [has; 2]);
        assert!(
            may_have.contains(&(found - taken)),
            "{found} extents, of which the living one has {taken} and the other may have {may_have:?}"
        );
        (cleaned.is_none(), has.is_none())
    }

    /// All pairs of places to die at, or each `stride`-th; how many there were.
    fn check_two(scene: Scene, stride: usize, preemptions: usize) -> u32 {
        let mut pairs = 0;
        let explore = |dies| {
            let died = Rc::new(Cell::new((false, false)));
            let seen = Rc::clone(&died);
            let mut model = loom::model::Builder::new();
            model.preemption_bound = Some(preemptions);
            let each = move || {
                let (cleaner, owner) = two_deaths(scene, dies);
                seen.set((seen.get().0 || cleaner, seen.get().1 || owner));
            };
            model.check(Alone(each).run());
            died.get()
        };
        for owner in (1..).step_by(stride) {
            let mut any = false;
            for cleaner in (1..).step_by(stride) {
                let (cleaner_died, owner_died) = explore((cleaner, owner));
                any |= owner_died;
                pairs += u32::from(cleaner_died && owner_died);
                if !cleaner_died {
                    break;
                }
            }
            if !any {
                return pairs;
            }
        }
        unreachable!()
    }

    /// loom asks for what may be sent to other threads, and runs it on this one.
    struct Alone<F>(F);

    // SAFETY: used by the thread that made it alone.
    unsafe impl<F> Send for Alone<F> {}
    // SAFETY: as above.
    unsafe impl<F> Sync for Alone<F> {}

    impl<F: Fn() + 'static> Alone<F> {
        fn run(self) -> impl Fn() + Send + Sync + 'static {
            move || {
                let all = &self;
                (all.0)();
            }
        }
    }

    fn check_two_deaths(name: &str, scene: Scene) {
        let long = std::env::var_os("TINE_STORM").is_some();
        let pairs = if long { check_two(scene, 1, 2) } else { check_two(scene, 2, 1) };
        println!("{name}: {pairs} pairs of places to die at");
        assert!(pairs > 3, "{name}: {pairs} pairs only");
    }

    #[test]
    fn the_cleaner_dies_and_an_owner_that_frees() {
        let scene = Scene {
            entries: torn,
            mortal: |directory| {
                free(directory, 1, 0);
                0
            },
            may_have: [2, 0],
            living: |directory| come_and_go(directory, 2, 1, true),
        };
        check_two_deaths("an owner frees", scene);
    }

    #[test]
    fn the_cleaner_dies_and_an_owner_that_takes() {
        let scene = Scene {
            entries: torn,
            mortal: |directory| 2 + come_and_go(directory, 1, 1, true),
            may_have: [2, 3],
            living: |directory| come_and_go(directory, 2, 1, false),
        };
        check_two_deaths("an owner takes", scene);
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

    /// Whichever of two neighbours is freed first, and whatever their lengths, both are one run then.
    #[test]
    fn neighbours_that_are_free_are_one_run() {
        loom::model(|| {
            for (first, second) in [(0, 1), (1, 0)] {
                for lengths in [[1u32, 1], [1, 3], [3, 1], [2, 4]] {
                    let mut entries = Vec::new();
                    for length in lengths {
                        entries.push(Entry::large(1, length));
                        entries.extend((1..length).map(|_| Entry::tail(0)));
                    }
                    entries.push(Entry::large(2, 1));
                    let directory = Directory::new(&entries);
                    let places = [0, lengths[0]];
                    free(&directory, 1, places[first]);
                    free(&directory, 1, places[second]);
                    let both = Entry::free(lengths[0] + lengths[1], false);
                    assert_eq!(directory.get(0), both, "{lengths:?}, {first} first");
                    assert_eq!(examine(&directory), 1);
                }
            }
        });
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
