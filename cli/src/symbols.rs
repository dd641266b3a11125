//! Names of functions: from the symbols of the module that a worker has loaded.

use object::{Object, ObjectSymbol, SymbolKind};
use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use tine::inspect::pool::Function;
use tine::inspect::process::printable;

/// A longer file is not read for a name.
const MOST_BYTES: u64 = 256 << 20;

/// O_NONBLOCK: what stands at the path may be a pipe.
const O_NONBLOCK: i32 = 0o4000;

/// The functions of the modules that have been asked for: where each begins, how long it is, and its name.
#[derive(Default)]
pub struct Symbols(HashMap<String, Vec<(u64, u64, String)>>);

impl Symbols {
    /// What people know a function by; `pid` is a process that has its module loaded.
    pub fn name(&mut self, function: &Function, pid: u32) -> String {
        match function {
            Function::Named(name) => name.clone(),
            Function::At(path, offset) => {
                let file = path.rsplit('/').next().unwrap_or(path);
                self.symbol(path, *offset, pid).unwrap_or_else(|| format!("{file}+{offset:#x}"))
            }
            Function::Unknown(u32::MAX, place) => format!("name {place}"),
            Function::Unknown(module, offset) => format!("module {module}+{offset:#x}"),
        }
    }

    fn symbol(&mut self, path: &str, offset: u64, pid: u32) -> Option<String> {
        let symbols = self.0.entry(path.to_owned()).or_insert_with(|| read(path, pid).unwrap_or_default());
        let after = symbols.partition_point(|(begin, ..)| *begin <= offset);
        let (begin, length, name) = symbols.get(after.checked_sub(1)?)?;
        (offset == *begin || offset - begin < *length).then(|| name.clone())
    }
}

fn read(path: &str, pid: u32) -> Option<Vec<(u64, u64, String)>> {
    // As the worker sees it, which may have another root.
    let path = format!("/proc/{pid}/root{path}");
    let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path).ok()?;
    let about = file.metadata().ok().filter(|about| about.is_file() && about.len() <= MOST_BYTES)?;
    let mut bytes = Vec::with_capacity(about.len() as usize);
    file.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
    let object = object::File::parse(&*bytes).ok()?;
    let symbols = object.symbols().chain(object.dynamic_symbols());
    let mut all: Vec<(u64, u64, String)> = symbols
        .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.is_definition())
        .filter_map(|symbol| Some((symbol.address(), symbol.size(), printable(symbol.name().ok()?))))
        .collect();
    all.sort();
    Some(all)
}
