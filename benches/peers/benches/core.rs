//! Parts of the core by themselves, in one thread that nobody disturbs: what a call costs before anybody waits. Where the crates of others
//! have the like for the threads of one process, that stands beside. `make bench-core`.

use criterion::{Criterion, criterion_group, criterion_main};
use std::alloc::Layout;
use std::hint::black_box;
use std::ptr::NonNull;
use tine::heap::Heap;
use tine::queue::{Queue, QueueOptions};
use tine::sync::{Event, Mutex, RwLock, Semaphore};
use tine::sys::clock::Timeout;

/// As C programs have it: on a line of its own.
#[repr(align(64))]
struct Aligned<T>(T);

fn locks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lock and unlock");
    // SAFETY: the mutex stays where it is while it is held.
    let mutex = Aligned(unsafe { Mutex::new(0) }.expect("no flags"));
    group.bench_function("tine's mutex", |bencher| {
        bencher.iter(|| {
            mutex.0.lock(Timeout::Forever).expect("it is free");
            mutex.0.unlock().expect("it is held");
        })
    });
    let other = std::sync::Mutex::new(());
    group.bench_function("std's mutex", |bencher| bencher.iter(|| drop(black_box(other.lock().expect("not poisoned")))));
    let other = parking_lot::Mutex::new(());
    group.bench_function("parking_lot's mutex", |bencher| bencher.iter(|| drop(black_box(other.lock()))));
    // SAFETY: the lock stays where it is while it is held.
    let rwlock = Aligned(unsafe { RwLock::new(0) }.expect("no flags"));
    group.bench_function("tine's rwlock, to read", |bencher| {
        bencher.iter(|| {
            rwlock.0.read_lock(Timeout::Forever).expect("it is free");
            rwlock.0.unlock().expect("it is held");
        })
    });
    let other = parking_lot::RwLock::new(());
    group.bench_function("parking_lot's rwlock, to read", |bencher| bencher.iter(|| drop(black_box(other.read()))));
    group.finish();

    let semaphore = Aligned(Semaphore::new(1, 1, 0).expect("within limits"));
    criterion.bench_function("semaphore: acquire and release", |bencher| {
        bencher.iter(|| {
            semaphore.0.acquire(Timeout::Forever).expect("it is free");
            semaphore.0.release(1).expect("it was taken");
        })
    });
    let event = Aligned(Event::new(0).expect("no flags"));
    criterion.bench_function("event: set and clear", |bencher| {
        bencher.iter(|| {
            event.0.set();
            event.0.clear();
        })
    });
}

fn heap(criterion: &mut Criterion) {
    let heap = Heap::create(1 << 30).expect("there is memory");
    for size in [16, 64, 1024, 65536] {
        let mut group = criterion.benchmark_group(format!("allocate and free {size} B"));
        group.bench_function("tine's heap", |bencher| {
            // SAFETY: nobody else has been told of the block.
            let free = |block| unsafe { heap.free(block) };
            bencher.iter(|| free(heap.allocate(black_box(size)).expect("there is room")).expect("it was allocated"))
        });
        let layout = Layout::from_size_align(size, 16).expect("a small size");
        group.bench_function("malloc", |bencher| {
            bencher.iter(|| {
                // SAFETY: the size is not 0, and the block is given back with the layout that it was asked for with.
                unsafe { std::alloc::dealloc(black_box(std::alloc::alloc(layout)), layout) }
            })
        });
        group.finish();
    }
}

fn queue(criterion: &mut Criterion) {
    let options = QueueOptions { messages: 64, bytes: 1 << 20, flags: 0 };
    let memory = Layout::from_size_align(options.size().expect("within limits"), 64).expect("a small alignment");
    // SAFETY: the size is not 0. The memory is never given back.
    let start = NonNull::new(unsafe { std::alloc::alloc_zeroed(memory) }).expect("there is memory");
    // SAFETY: the memory is aligned, has as many bytes as the options ask for, and nobody else uses it.
    let queue = unsafe { Queue::create(start, &options) }.expect("within limits");
    for length in [64, 4096] {
        let (message, mut room) = (vec![1u8; length], vec![0u8; length]);
        let mut group = criterion.benchmark_group(format!("put and get {length} B"));
        group.bench_function("tine's queue", |bencher| {
            bencher.iter(|| {
                queue.put(&message, Timeout::Try).expect("it is empty");
                queue.get(room.as_mut_slice().into(), Timeout::Try).expect("it has one")
            })
        });
        let (put, get) = crossbeam_channel::bounded::<Vec<u8>>(64);
        group.bench_function("crossbeam's channel, of a Vec", |bencher| {
            bencher.iter(|| {
                put.try_send(message.clone()).expect("it is empty");
                room.copy_from_slice(&get.try_recv().expect("it has one"));
            })
        });
        group.finish();
    }
}

criterion_group!(core, locks, heap, queue);
criterion_main!(core);
