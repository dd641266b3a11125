//! A descriptor with any header in it, given as a segment.

use super::segment::{HEADER_BYTES, Segment, SegmentOptions};
use crate::fuzz;
use crate::sys::memory::{self, Mapping};
use arbitrary::Unstructured;
use std::os::fd::AsRawFd;

fn entry(header: &[u8; HEADER_BYTES], input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let pages: usize = input.int_in_range(1..=4)?;
    let length = pages * memory::page_size();
    let fd = memory::memfd(c"fuzz").unwrap();
    memory::reserve(fd.as_raw_fd(), 0, length).unwrap();
    let mapping = Mapping::shared(fd.as_raw_fd(), length).unwrap();
    // SAFETY: the mapping is new and at least a page long, as the header is; its first 48 bytes are what is scribbled over.
    unsafe {
        mapping.pointer().copy_from_nonoverlapping(header.as_ptr(), HEADER_BYTES);
        if !input.is_empty() {
            fuzz::scribble(input, mapping.pointer(), 48, |_| false)?;
        }
    }
    drop(mapping);
    let is_sealed = !input.ratio(1u8, 8u8)?;
    if is_sealed {
        memory::fix(fd.as_raw_fd(), input.arbitrary()?).unwrap();
    }
    let options = SegmentOptions { any_address: input.arbitrary()?, ..SegmentOptions::default() };
    let Ok(segment) = Segment::attach(fd.as_raw_fd(), &options) else { return Ok(()) };
    let (start, mapped) = segment.mapped();
    assert!(is_sealed && segment.size() > 0 && HEADER_BYTES + segment.size() <= mapped.min(length));
    assert!(segment.address() == start + HEADER_BYTES && start.is_multiple_of(memory::page_size()));
    // SAFETY: the last of the bytes that are said to be there.
    let last = unsafe { *std::ptr::with_exposed_provenance::<u8>(segment.address() + segment.size() - 1) };
    std::hint::black_box(last);
    Ok(())
}

#[test]
fn fuzz_segment_headers() {
    let segment =
        Segment::create(8192, &SegmentOptions { any_address: true, ..SegmentOptions::default() }).unwrap();
    let mut header = [0; HEADER_BYTES];
    assert!(memory::read_first(segment.descriptor().unwrap(), &mut header).unwrap());
    fuzz::run("segment", |input| {
        // An input that is too short has run as far as it goes.
        let _ = entry(&header, &mut Unstructured::new(input));
    });
}
