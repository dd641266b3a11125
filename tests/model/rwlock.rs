//! What the threads of the reader-writer lock's models do.

use crate::kernel::{quiesce, spawn};
use crate::scenes::{Data, FOREVER, some};
use crate::sync::{Acquired, PREFER_READERS, RwLock};
use crate::sys::clock::Timeout;
use std::cell::Cell;
use std::rc::Rc;

fn new_lock(flags: u32) -> RwLock {
    // SAFETY: a scene takes a lock only once it is in an `Rc`, which lives as long as the threads that use the lock.
    some(unsafe { RwLock::new(flags) })
}

struct Table {
    lock: RwLock,
    data: Data,
}

impl Table {
    fn new() -> Rc<Table> {
        let table = Rc::new(Table { lock: new_lock(0), data: Data::default() });
        table.write();
        table
    }

    fn write(&self) {
        let acquired = some(self.lock.write_lock(FOREVER));
        self.data.change(acquired);
        if acquired == Acquired::OwnerDied {
            some(self.lock.repair());
        }
        some(self.lock.unlock());
    }

    fn read(&self) {
        self.data.look(some(self.lock.read_lock(FOREVER)));
        some(self.lock.unlock());
    }

    fn run(dies: Option<u32>, victim: fn(&Table), other: fn(&Table), first: fn(&Table)) {
        let table = Table::new();
        for (dies, body) in [(dies, victim), (None, other)] {
            let table = table.clone();
            spawn(dies, move || body(&table));
        }
        first(&table);
        assert_eq!(quiesce(), 0, "one sleeps on the lock for good");
        table.write();
        table.read();
    }
}

pub(crate) fn rwlock_reader(dies: Option<u32>) {
    Table::run(dies, Table::read, Table::write, Table::read);
}

pub(crate) fn rwlock_writer(dies: Option<u32>) {
    Table::run(dies, Table::write, Table::read, Table::write);
}

/// The victim waits for a reader to go, and dies of it: nobody hears of that, because it was never inside.
pub(crate) fn rwlock_waiting_writer(dies: Option<u32>) {
    let lock = Rc::new((new_lock(0), Cell::new(false)));
    some(lock.0.write_lock(FOREVER));
    some(lock.0.unlock());
    some(lock.0.read_lock(FOREVER));
    let writer = lock.clone();
    spawn(dies, move || {
        some(writer.0.write_lock(FOREVER));
        writer.1.set(true);
        some(writer.0.unlock());
    });
    let died = quiesce() == 0;
    assert!(!lock.1.get(), "a writer is inside with a reader");
    some(lock.0.unlock());
    if died {
        assert_eq!(some(lock.0.write_lock(FOREVER)), Acquired::Clean, "a waiter's death is reported");
        some(lock.0.unlock());
    }
    quiesce();
    some(lock.0.read_lock(FOREVER));
    some(lock.0.unlock());
}

/// A reader that has waited for a writer comes in, and another one tries meanwhile: nobody writes, so it must not be refused.
pub(crate) fn rwlock_reader_tries(dies: Option<u32>) {
    let table = Table::new();
    let acquired = some(table.lock.write_lock(FOREVER));
    table.data.change(acquired);
    let victim = table.clone();
    spawn(dies, move || victim.read());
    quiesce();
    some(table.lock.unlock());
    let other = table.clone();
    spawn(None, move || {
        other.data.look(some(other.lock.read_lock(Timeout::Try)));
        some(other.lock.unlock());
    });
    assert_eq!(quiesce(), 0, "one sleeps on the lock for good");
    table.write();
}

/// A reader is inside while two write, one of whom is the victim. Another reader comes in to meet it.
pub(crate) fn rwlock_readers_preferred(dies: Option<u32>) {
    let lock = Rc::new((new_lock(PREFER_READERS), Cell::new(false)));
    for dies in [dies, None] {
        let writer = lock.clone();
        spawn(dies, move || {
            if some(writer.0.write_lock(FOREVER)) == Acquired::OwnerDied {
                some(writer.0.repair());
            }
            some(writer.0.unlock());
        });
    }
    some(lock.0.read_lock(FOREVER));
    let reader = lock.clone();
    spawn(None, move || {
        some(reader.0.read_lock(FOREVER));
        reader.1.set(true);
        some(reader.0.unlock());
    });
    quiesce();
    assert!(lock.1.get(), "a reader waits for a writer that only waits");
    some(lock.0.unlock());
    assert_eq!(quiesce(), 0, "one sleeps on the lock for good");
}
