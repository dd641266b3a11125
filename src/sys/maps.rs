//! What lies where in this process: /proc/self/maps.

use crate::error::{Error, Result};

/// A piece of the address space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// Whether it is private to this process (and copied by fork), and can be read at all.
    pub(crate) private: bool,
    pub(crate) readable: bool,
    offset: u64,
    device: (u32, u32),
    inode: u64,
    /// "[heap]", "[stack]", a file's path; empty for memory without a name.
    pub(crate) name: String,
}

/// All regions, by address; none where /proc cannot be read.
pub(crate) fn regions() -> Vec<Region> {
    read().unwrap_or_default()
}

fn read() -> Result<Vec<Region>> {
    let text = std::fs::read("/proc/self/maps").map_err(|error| Error::from_io("/proc/self/maps", &error))?;
    Ok(String::from_utf8_lossy(&text).lines().filter_map(parse).collect())
}

fn parse(line: &str) -> Option<Region> {
    let mut words = line.splitn(6, ' ');
    let (start, end) = words.next()?.split_once('-')?;
    let rights = words.next()?.as_bytes();
    let offset = words.next()?;
    let (major, minor) = words.next()?.split_once(':')?;
    let inode = words.next()?.parse().ok()?;
    Some(Region {
        start: usize::from_str_radix(start, 16).ok()?,
        end: usize::from_str_radix(end, 16).ok()?,
        private: rights.get(3) == Some(&b'p'),
        readable: rights.first() == Some(&b'r'),
        offset: u64::from_str_radix(offset, 16).ok()?,
        device: (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?),
        inode,
        name: words.next().unwrap_or("").trim_start().to_owned(),
    })
}

/// Whether this file, known by its device's numbers and its inode, is mapped there from its first byte on. The error says that nobody can
/// tell.
pub(crate) fn has_mapped((device, inode): ((u32, u32), u64), address: usize, length: usize) -> Result<bool> {
    Ok(read()?.iter().any(|region| {
        let same = region.device == device && region.inode == inode && region.offset == 0;
        same && region.start == address && region.end - region.start >= length
    }))
}

/// What is in the way of a mapping: the first thing that lies in a range.
pub(crate) fn whatever_is_in(address: usize, length: usize) -> String {
    let end = address.saturating_add(length);
    match regions().into_iter().find(|region| region.start < end && region.end > address) {
        Some(region) if !region.name.is_empty() => region.name,
        Some(_) => "memory without a name".to_owned(),
        None => "nothing any more".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart() {
        let region =
            parse("7f00-7f0000 rw-s 00001000 00:01 2049                       /memfd:tine heap (deleted)")
                .unwrap();
        assert_eq!((region.start, region.end, region.offset), (0x7f00, 0x7f_0000, 0x1000));
        assert_eq!((region.device, region.inode, region.private), ((0, 1), 2049, false));
        assert_eq!(region.name, "/memfd:tine heap (deleted)");
        assert_eq!(parse("10-20 ---p 00000000 00:00 0").unwrap().name, "");
        assert!(parse("garbage").is_none());
    }

    #[test]
    fn this_process_has_a_stack_and_a_heap() {
        let local = 0u8;
        let at = &raw const local as usize;
        assert!(regions().iter().any(|region| region.start <= at && at < region.end && region.private));
        assert_eq!(whatever_is_in(at, 1), whatever_is_in(at + 1, 1));
    }
}
