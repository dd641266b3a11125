//! The modules that are loaded into this process: the program and its shared libraries.

use std::ffi::{CStr, OsStr, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// What a module is, whatever address it is loaded at: its build-id, or its file where the linker gave it none.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
#[repr(C)]
pub struct ModuleId {
    kind: u64,
    bytes: [u8; 32],
}

impl ModuleId {
    const BUILD_ID: u64 = 1;
    const FILE: u64 = 2;

    /// As bytes, to send to another process.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        [&self.kind.to_ne_bytes()[..], &self.bytes].concat()
    }

    /// From what [`ModuleId::to_bytes`] made.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<ModuleId> {
        let (kind, rest) = bytes.split_first_chunk::<8>()?;
        Some(ModuleId { kind: u64::from_ne_bytes(*kind), bytes: rest.try_into().ok()? })
    }

    fn from_build_id(id: &[u8]) -> ModuleId {
        let mut bytes = [0; 32];
        let length = id.len().min(31);
        bytes[..length].copy_from_slice(&id[..length]);
        bytes[31] = id.len() as u8;
        ModuleId { kind: ModuleId::BUILD_ID, bytes }
    }

    fn from_file(path: &OsStr) -> ModuleId {
        let mut bytes = [0; 32];
        if let Ok(file) = std::fs::metadata(path) {
            let modified = file.mtime() as u64 ^ ((file.mtime_nsec() as u64) << 33);
            for (at, word) in [file.dev(), file.ino(), file.size(), modified].into_iter().enumerate() {
                bytes[at * 8..at * 8 + 8].copy_from_slice(&word.to_ne_bytes());
            }
        }
        ModuleId { kind: ModuleId::FILE, bytes }
    }
}

/// A loaded module.
#[derive(Clone, Debug)]
pub struct Module {
    /// Its identity.
    pub id: ModuleId,
    /// The file that it came from, for messages.
    pub path: String,
    /// What the addresses in the file are relative to.
    pub base: usize,
    /// Where its code lies: address ranges, ends excluded.
    pub code: Vec<(usize, usize)>,
}

impl Module {
    /// Whether the address is in the module's code.
    pub fn has_code_at(&self, address: usize) -> bool {
        self.code.iter().any(|&(start, end)| (start..end).contains(&address))
    }
}

/// All modules, the program first.
pub fn loaded_modules() -> Vec<Module> {
    let mut modules = Vec::new();
    // SAFETY: the callback gets back the pointer to `modules`, which outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(collect), (&raw mut modules).cast()) };
    modules
}

/// A number that changes whenever a module is loaded or unloaded.
pub fn load_generation() -> u64 {
    extern "C" fn first(info: *mut libc::dl_phdr_info, _: usize, out: *mut c_void) -> c_int {
        // SAFETY: the loader's info, and the place that `load_generation` passes.
        unsafe { *out.cast::<u64>() = (*info).dlpi_adds.wrapping_add((*info).dlpi_subs << 32) };
        1
    }
    let mut generation = 0u64;
    // SAFETY: the callback writes to `generation`, which outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(first), (&raw mut generation).cast()) };
    generation
}

unsafe extern "C" fn collect(info: *mut libc::dl_phdr_info, _: usize, out: *mut c_void) -> c_int {
    // SAFETY: the loader's info is valid during the call, and `out` is the vector of `loaded_modules`.
    let (info, modules) = unsafe { (&*info, &mut *out.cast::<Vec<Module>>()) };
    // SAFETY: the loader's table of program headers, with its length.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    let base = info.dlpi_addr as usize;
    // SAFETY: the loader's string.
    let name = OsStr::from_bytes(unsafe { CStr::from_ptr(info.dlpi_name) }.to_bytes());
    // glibc has no name for the program, musl has this one where it is linked statically.
    let (path, shown) = if modules.is_empty() && (name.is_empty() || name == "/proc/self/exe") {
        let shown = std::fs::read_link("/proc/self/exe").unwrap_or_else(|_| "the program".into());
        (OsStr::new("/proc/self/exe"), shown.to_string_lossy().into_owned())
    } else {
        (name, name.to_string_lossy().into_owned())
    };
    let mut code = Vec::new();
    let mut build_id = None;
    for header in headers {
        let start = base + header.p_vaddr as usize;
        let length = header.p_memsz as usize;
        if header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0 {
            code.push((start, start + length));
        } else if header.p_type == libc::PT_NOTE && build_id.is_none() {
            // SAFETY: a loaded module's notes are part of a loaded segment.
            build_id = find_build_id(unsafe { std::slice::from_raw_parts(start as *const u8, length) });
        }
    }
    let id = build_id.unwrap_or_else(|| ModuleId::from_file(path));
    modules.push(Module { id, path: shown, base, code });
    0
}

/// Looks for the note of type NT_GNU_BUILD_ID.
fn find_build_id(notes: &[u8]) -> Option<ModuleId> {
    const NT_GNU_BUILD_ID: u32 = 3;
    let mut rest = notes;
    while rest.len() >= 12 {
        let word = |at: usize| u32::from_ne_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]);
        let (name_length, length, kind) = (word(0) as usize, word(4) as usize, word(8));
        let name_end = 12 + name_length;
        let start = 12 + name_length.next_multiple_of(4);
        let content = rest.get(start..start.checked_add(length)?)?;
        if kind == NT_GNU_BUILD_ID && rest.get(12..name_end) == Some(b"GNU\0") && !content.is_empty() {
            return Some(ModuleId::from_build_id(content));
        }
        rest = rest.get(start + length.next_multiple_of(4)..)?;
    }
    None
}

/// Loads a shared library by its path, for good.
pub(crate) fn load(path: &CStr) -> Result<(), String> {
    // SAFETY: a C string; what the library's constructors do is its user's wish.
    unsafe {
        if !libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL).is_null() {
            return Ok(());
        }
        let why = libc::dlerror();
        let path = path.to_string_lossy();
        let why = match why.is_null() {
            true => "cannot be loaded".into(),
            false => CStr::from_ptr(why).to_string_lossy(),
        };
        // Not every loader says which one it was.
        Err(if why.contains(&*path) { why.into_owned() } else { format!("{path}: {why}") })
    }
}

/// The module that an address lies in, and the function or variable there, as far as the loader knows names.
pub(crate) fn place_of(address: usize) -> Option<(String, Option<String>)> {
    // SAFETY: all zero is a valid Dl_info, which dladdr fills; its strings live as long as the module.
    unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        let found = libc::dladdr(std::ptr::without_provenance(address), &mut info) != 0;
        let text = |name: *const libc::c_char| CStr::from_ptr(name).to_string_lossy().into_owned();
        let module = (found && !info.dli_fname.is_null()).then(|| text(info.dli_fname))?;
        Some((module, (!info.dli_sname.is_null()).then(|| text(info.dli_sname))))
    }
}

/// The file that this code was loaded from: the shared library's, or the program's that has it inside.
pub(crate) fn own_file() -> Option<PathBuf> {
    let here = own_file as fn() -> Option<PathBuf> as usize;
    // What the loader has for the program's name is its first argument, which may be anything.
    if loaded_modules().first().is_some_and(|program| program.has_code_at(here)) {
        return Some(PathBuf::from("/proc/self/exe"));
    }
    place_of(here).map(|(module, _)| PathBuf::from(module))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_function_is_in_the_first_module() {
        let modules = loaded_modules();
        let here = this_function_is_in_the_first_module as fn() as usize;
        assert!(modules[0].has_code_at(here));
        assert!(modules.len() > 1);
        assert!(modules[1..].iter().all(|module| !module.has_code_at(here)));
        let data = &raw const here as usize;
        assert!(modules.iter().all(|module| !module.has_code_at(data)));
    }

    #[test]
    fn build_ids_are_found_behind_other_notes() {
        let mut notes = Vec::new();
        for (name, kind, content) in [(&b"GNU\0"[..], 1u32, &[9u8; 16][..]), (b"GNU\0", 3, &[7; 20])] {
            notes.extend((name.len() as u32).to_ne_bytes());
            notes.extend((content.len() as u32).to_ne_bytes());
            notes.extend(kind.to_ne_bytes());
            notes.extend(name);
            notes.extend(content);
        }
        assert_eq!(find_build_id(&notes), Some(ModuleId::from_build_id(&[7; 20])));
        assert_eq!(find_build_id(&notes[..40]), None);
        assert_eq!(find_build_id(&[255; 40]), None);
    }
}
