//! What a host writes is what others read.

use super::page::{About, Page, Shown, state};
use super::pool::{Found, Pool, pools_of};
use crate::heap::tests::Own;
use crate::heap::{Heap, Whose};
use crate::sys::prim::Ordering;
use crate::task::function::Tables;

/// Of the pools that this process has while the tests run, the one with this window.
fn pool_with_window(tasks: u64) -> Option<Pool> {
    let found = pools_of(std::process::id()).unwrap();
    let pools = found.into_iter().filter_map(|found| match found {
        Found::Pool(pool) => Some(*pool),
        Found::Other(_) => None,
    });
    pools.into_iter().find(|pool| pool.figures.window_most_tasks == tasks)
}

#[test]
fn a_page_is_read_as_it_was_written() {
    const WINDOW: usize = 918_273;
    let heap = Heap::create(1 << 24).unwrap();
    let about = About { places: 3, start: 1, window_tasks: WINDOW, window_bytes: 77 };
    let page = Page::create(&heap, &about).unwrap();
    let pool = pool_with_window(WINDOW as u64).unwrap();
    assert_eq!((pool.start, pool.places.len(), pool.places[0].state), ("spawn", 3, "vacant"));

    let block = heap.allocate(1 << 20).unwrap();
    page.counters().submitted.store(5, Ordering::Relaxed);
    page.show_deaths(1, 2, 3);
    page.show_tables(&Tables::own());
    let shown = |state, generation| Shown { state, pid: 0, generation };
    page.show_places([shown(state::STARTING, 4), shown(state::PARKED, 1), shown(9, 1)].into_iter());
    let pool = pool_with_window(WINDOW as u64).unwrap();
    let figures = pool.figures;
    assert_eq!((figures.submitted, figures.window_most_bytes), (5, 77));
    assert_eq!((figures.worker_deaths, figures.workers_recycled, figures.supervisor_deaths), (1, 2, 3));
    let states: Vec<_> = pool.places.iter().map(|place| (place.state, place.generation)).collect();
    assert_eq!(states, [("starting", 4), ("parked", 1), ("?", 1)]);
    let heaps = pool.heap.unwrap();
    assert!(heaps.usage[&Whose::Host].bytes >= 1 << 20 && heaps.reserved_bytes >= 1 << 20);
    assert!(!pool.notes.iter().any(|note| note.contains("wrote its page")), "{:?}", pool.notes);
    heap.give_back(block).unwrap();
}

#[test]
fn a_host_that_is_killed_while_it_writes_leaves_a_page_that_is_read_all_the_same() {
    const WINDOW: usize = 192_837;
    let heap = Heap::create(1 << 24).unwrap();
    let about = About { places: 1, start: 0, window_tasks: WINDOW, window_bytes: 1 };
    let page = Page::create(&heap, &about).unwrap();
    page.die_while_writing();
    let pool = pool_with_window(WINDOW as u64).unwrap();
    assert!(pool.notes.iter().any(|note| note.contains("wrote its page")), "{:?}", pool.notes);
    // It has not been killed after all.
    page.show_tables(&Tables::own());
    let pool = pool_with_window(WINDOW as u64).unwrap();
    assert!(!pool.notes.iter().any(|note| note.contains("wrote its page")), "{:?}", pool.notes);
}
