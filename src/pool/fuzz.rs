//! The host's account of a ring into which the worker writes any words.

use super::ledger::{Ledger, OutputPlace};
use super::ring_account::RingAccount;
use crate::fuzz;
use crate::heap::Heap;
use crate::sys::clock::Moment;
use crate::sys::prim::Ordering;
use crate::task::function::Callee;
use crate::task::ring::{INLINE_OUTPUT, MESSAGE, SLOTS, Segment, state};
use arbitrary::Unstructured;

fn entry(heap: &Heap, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let (segment, _fd) = Segment::create().unwrap();
    let (mut ring, mut ledger) = (RingAccount::new(), Ledger::default());
    let (mut now_ns, mut given, mut settled) = (1, 0, 0);
    let (memory, length) = segment.memory();
    while !input.is_empty() {
        now_ns += 1000;
        match input.int_in_range(0..=7u8)? {
            // SAFETY: the segment is mapped and this test's alone; every content is valid for its words.
            0 | 1 => unsafe { fuzz::scribble(input, memory, length, |_| false) }?,
            2 => {
                if ring.in_ring() < SLOTS as usize - 1 {
                    let index = ledger.open().unwrap();
                    let callee = Callee { module: 0, offset: 0 };
                    ring.push(&segment, &ledger, index, callee, 0, &Moment::at(now_ns));
                    ring.publish(&segment, input.arbitrary()?);
                    given += 1;
                }
            }
            // What a worker does that keeps to the protocol, but for how far it says to be.
            3 => {
                let position = input.int_in_range(0..=given + 1)?;
                segment.slot(position).claim(state::STARTED);
                segment.slot(position).output_length.store(input.arbitrary()?, Ordering::Relaxed);
                segment.slot(position).message_length.store(input.arbitrary()?, Ordering::Relaxed);
                segment.commit(position.wrapping_add(1));
            }
            4 | 5 => {
                for (index, outcome) in ring.take_all(&segment, &mut ledger, heap, now_ns) {
                    match outcome.output {
                        OutputPlace::Heap(address) => assert!(heap.contains(address, outcome.output_length)),
                        _ => assert!(outcome.output_length <= INLINE_OUTPUT),
                    }
                    assert!(outcome.message.as_ref().is_none_or(|text| text.as_bytes().len() <= MESSAGE));
                    ledger.close(index);
                    settled += 1;
                }
            }
            6 => {
                let _ = (ring.contradicts_itself(&segment), ring.has_results(&segment));
                if let Some(index) = ring.recall_youngest(&segment, &mut ledger) {
                    ledger.close(index);
                    settled += 1;
                }
            }
            _ => {
                let (recalled, _) = ring.give_up(&segment, &mut ledger, input.arbitrary()?, u64::MAX);
                settled += recalled.len() as u32;
                recalled.into_iter().for_each(|index| ledger.close(index));
            }
        }
    }
    settled += ring.clear(&segment, &mut ledger).len() as u32;
    assert_eq!(settled, given, "each task settles exactly once");
    Ok(())
}

#[test]
fn fuzz_ring_words() {
    let heap = Heap::create(1 << 26).unwrap();
    fuzz::run("ring", |input| {
        // An input that is too short has run as far as it goes.
        let _ = entry(&heap, &mut Unstructured::new(input));
    });
}
