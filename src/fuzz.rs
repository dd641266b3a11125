//! Runs the entries that take any bytes: the `fuzz.rs` beside what they test. Each always replays its corpus, the files of
//! `tests/corpus/NAME`; with `TINE_FUZZ=SECONDS` it goes on for so long with inputs that are made from these at random. An entry
//! fails by a panic or by a fault, and the input at which it did is in `target/fuzz/NAME`, to go into the corpus.

use crate::sys::memory::{Mapping, page_size};
use arbitrary::Unstructured;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// The longest input that is made.
const LONGEST: usize = 4096;

/// What breaks arithmetic and bounds.
const NASTY: [u32; 12] = [0, 1, 2, 7, 8, 63, 64, 255, 1 << 16, i32::MAX as u32, 1 << 31, u32::MAX];

/// Runs an entry on its corpus, and on what is made from that.
pub(crate) fn run(name: &str, entry: impl Fn(&[u8])) {
    let mut paths: Vec<_> = fs::read_dir(Path::new("tests/corpus").join(name))
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "tests/corpus/{name} is empty");
    let corpus: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    for (path, input) in paths.iter().zip(&corpus) {
        eprintln!("{}", path.display());
        entry(input);
    }
    let Ok(seconds) = std::env::var("TINE_FUZZ") else { return };
    let time = Duration::from_secs(seconds.parse().expect("TINE_FUZZ is a number of seconds"));
    fs::create_dir_all("target/fuzz").unwrap();
    let last = Path::new("target/fuzz").join(name);
    let mut random = fastrand::Rng::new();
    let (began, mut runs) = (Instant::now(), 0u64);
    while began.elapsed() < time {
        let input = mutated(&corpus, &mut random);
        // Before it runs: a fault leaves no time for it.
        fs::write(&last, &input).unwrap();
        entry(&input);
        runs += 1;
    }
    fs::remove_file(&last).unwrap();
    println!("{name}: {runs} inputs in {} s", time.as_secs());
}

fn mutated(corpus: &[Vec<u8>], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut input = corpus[random.usize(..corpus.len())].clone();
    for _ in 0..=random.usize(..8) {
        let at = random.usize(..=input.len());
        match random.u8(..6) {
            0 if at < input.len() => input[at] ^= 1 << random.u8(..8),
            1 if at < input.len() => input[at] = random.u8(..),
            2 => {
                let value = NASTY[random.usize(..NASTY.len())].to_ne_bytes();
                input.iter_mut().skip(at).zip(value).for_each(|(place, byte)| *place = byte);
            }
            3 => drop(input.splice(at..at, std::iter::repeat_with(|| random.u8(..)).take(16))),
            4 => input.truncate(at),
            _ => {
                let other = &corpus[random.usize(..corpus.len())];
                input.truncate(at);
                input.extend(&other[random.usize(..=other.len())..]);
            }
        }
    }
    input.truncate(LONGEST);
    input
}

/// Writes words into memory as an input says: where, and what. `spared` are bytes that it leaves alone.
///
/// # Safety
/// So many bytes can be written there, and any content is valid for who reads them.
pub(crate) unsafe fn scribble(
    input: &mut Unstructured<'_>,
    memory: *mut u8,
    length: usize,
    spared: impl Fn(usize) -> bool,
) -> arbitrary::Result<()> {
    for _ in 0..input.int_in_range(1..=8u8)? {
        let at = 4 * input.int_in_range(0..=length / 4 - 1)?;
        let value = if input.arbitrary()? { *input.choose(&NASTY)? } else { input.arbitrary()? };
        if !spared(at) {
            // SAFETY: within the memory, which the caller has promised can be written.
            unsafe { memory.add(at).cast::<u32>().write_volatile(value) };
        }
    }
    Ok(())
}

/// Memory behind which nothing can be touched.
pub(crate) struct Fenced {
    mapping: Mapping,
    fence: usize,
}

impl Fenced {
    pub(crate) fn new(most: usize) -> Fenced {
        let inner = most.next_multiple_of(page_size());
        // In front there is such a page already.
        let mapping = Mapping::stack(inner + 2 * page_size()).unwrap();
        let fence = page_size() + inner;
        // SAFETY: the mapping's last page, which nobody uses.
        let done =
            unsafe { libc::mprotect(mapping.pointer().add(fence).cast(), page_size(), libc::PROT_NONE) };
        assert_eq!(done, 0);
        Fenced { mapping, fence }
    }

    /// The last so many bytes before the fence.
    pub(crate) fn last(&self, length: usize) -> *mut u8 {
        assert!(length <= self.fence - page_size());
        // SAFETY: within the mapping.
        unsafe { self.mapping.pointer().add(self.fence - length) }
    }
}
