//! How a function gets from one process to another.
//!
//! An address means nothing in another process, but (module, offset in it) does, and a name does. The supervisor tells
//! the host which modules and names it has, so the host finds out at submit what a worker could not call. A task then
//! carries the place in the supervisor's table, and each worker knows where its own copy of that module lies.

use super::wire::{Reader, Writer};
use crate::error::{Code, Error, Result};
use crate::sys::elf::{self, ModuleId};
use crate::sys::prim::{AtomicBool, Ordering};
use std::ffi::{CStr, c_int, c_void};
use std::sync::{Mutex, PoisonError};

/// Which function is to be called, as its caller names it.
#[derive(Clone, Copy, Debug)]
pub enum Function<'a> {
    /// By its address in this process; [`Function::pointer`] makes it.
    Pointer(Address),
    /// By the name under which it was registered in the workers.
    Name(&'a str),
}

/// An address of which its caller has promised that it is a function of the right type.
#[derive(Clone, Copy, Debug)]
pub struct Address(*const c_void);

impl Address {
    pub(crate) fn get(self) -> usize {
        self.0.expose_provenance()
    }
}

impl Function<'_> {
    /// A function by its address.
    ///
    /// ```compile_fail,E0133
    /// let anything = tine::task::function::Function::pointer(std::process::abort as *const _);
    /// ```
    ///
    /// # Safety
    /// The address is that of a function of the type that is called with it: a `tine_fn` for a task, a stream, a process and an
    /// initializer; what a map calls, its own text says. The function may be called in another process, with any input that the
    /// caller gives. (An address that is in no module's code is refused when it is used.)
    pub unsafe fn pointer(address: *const c_void) -> Function<'static> {
        Function::Pointer(Address(address))
    }

    /// What people know it by.
    pub(crate) fn describe(&self) -> String {
        match self {
            Function::Pointer(address) => crate::check::name_of(address.get()),
            Function::Name(name) => (*name).to_owned(),
        }
    }
}

/// A function as a task carries it: the place in the supervisor's table of modules and the offset there, or the place
/// in its table of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Callee {
    pub(crate) module: u32,
    pub(crate) offset: u64,
}

/// The `module` of a function that goes by its name; its offset is the place in the table of names.
pub(crate) const BY_NAME: u32 = u32::MAX;

/// A name that has been registered in this process, as long as that lives, and the function's address.
pub(super) type Registered = (&'static CStr, usize);

pub(super) static NAMES: Mutex<Vec<Registered>> = Mutex::new(Vec::new());

pub(super) fn is_called(known: &CStr, name: &str) -> bool {
    known.to_bytes() == name.as_bytes()
}

/// The longest name of a function, in bytes.
pub const LONGEST_NAME: usize = 255;

/// Set when no more names may be registered: at the end of `tine_init`, or, in a process of a pool, when the libraries to
/// preload have been loaded, whose constructors may have names too. Release and Acquire: what was
/// registered before is there for who sees it set.
static NAMES_FIXED: AtomicBool = AtomicBool::new(false);

/// Registers a function under a name; only before the names are fixed, so that every process of a family knows the same ones.
///
/// # Safety
/// `address` is null, which is refused, or that of a `tine_fn`, which may be called with any input.
pub unsafe fn register(name: &CStr, address: *const c_void) -> Result<()> {
    if NAMES_FIXED.load(Ordering::Acquire) {
        let text = format!("\"{}\" is registered after tine_init", name.to_string_lossy());
        return Err(Error::new(Code::LATE, text));
    }
    let bytes = name;
    let name = name.to_str().map_err(|_| Error::invalid("name is not UTF-8"))?;
    if name.is_empty() || name.len() > LONGEST_NAME {
        let text = format!("the function's name has {} bytes; 1 to {LONGEST_NAME} are allowed", name.len());
        return Err(Error::invalid(text));
    }
    if address.is_null() {
        return Err(Error::invalid(format!("the function {name} is NULL")));
    }
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if names.iter().any(|(known, _)| *known == bytes) {
        return Err(Error::errno(libc::EEXIST, format!("a function {name} is registered already")));
    }
    names.push((Box::leak(bytes.to_owned().into_boxed_c_str()), address as usize));
    Ok(())
}

/// From now on the names are what they are.
pub(crate) fn fix_names() {
    NAMES_FIXED.store(true, Ordering::Release);
}

/// What a process can call: sent from the supervisor to the host and to spawned workers.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(super) modules: Vec<(ModuleId, String)>,
    pub(super) names: Vec<String>,
}

impl Tables {
    /// This process's own.
    pub(crate) fn own() -> Tables {
        let modules = elf::loaded_modules().into_iter().map(|module| (module.id, module.path)).collect();
        let names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        Tables { modules, names: names.iter().map(|(name, _)| name.to_string_lossy().into_owned()).collect() }
    }

    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.number(self.modules.len() as u64);
        for (id, path) in &self.modules {
            writer.bytes(&id.to_bytes());
            writer.bytes(path.as_bytes());
        }
        writer.number(self.names.len() as u64);
        self.names.iter().for_each(|name| writer.bytes(name.as_bytes()));
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Tables> {
        let mut tables = Tables::default();
        for _ in 0..reader.number()? {
            let id = ModuleId::from_bytes(reader.bytes()?);
            let id = id.ok_or_else(|| Error::errno(libc::EPROTO, "a module's identity is cut off"))?;
            tables.modules.push((id, reader.text()?));
        }
        for _ in 0..reader.number()? {
            tables.names.push(reader.text()?);
        }
        Ok(tables)
    }

    /// The files of the modules, in the order of their places.
    pub(crate) fn modules(&self) -> impl Iterator<Item = &str> {
        self.modules.iter().map(|(_, path)| path.as_str())
    }

    /// The registered names, in the order of their places.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The file of a module, for messages about a crash.
    pub(crate) fn path_of(&self, module: u64) -> Option<&str> {
        Some(self.modules.get(usize::try_from(module).ok()?)?.1.as_str())
    }
}

/// A function as settings carry it, before the supervisor's tables are known.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Pointer { id: ModuleId, path: String, offset: u64 },
    Name(String),
}

impl Target {
    /// Of a function in this process.
    pub(crate) fn of(function: Function<'_>) -> Result<Target> {
        match function {
            Function::Name(name) => Ok(Target::Name(name.to_owned())),
            Function::Pointer(pointer) => {
                let address = pointer.get();
                let modules = elf::loaded_modules();
                let module = modules.iter().find(|module| module.has_code_at(address)).ok_or_else(|| {
                    let text = format!("{address:#x} is not a function of any loaded module");
                    Error::new(Code::FUNCTION, text)
                })?;
                let offset = (address - module.base) as u64;
                Ok(Target::Pointer { id: module.id, path: module.path.clone(), offset })
            }
        }
    }

    /// The name by which it is called, where it is called by one that is registered in this process.
    pub(crate) fn name(&self) -> Option<&'static CStr> {
        let Target::Name(name) = self else { return None };
        let names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        names.iter().find(|(known, _)| is_called(known, name)).map(|(name, _)| *name)
    }

    /// Its address in this process.
    pub(crate) fn address(&self) -> Result<usize> {
        match self {
            Target::Name(name) => NAMES
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .iter()
                .find(|(known, _)| is_called(known, name))
                .map(|(_, address)| *address)
                .ok_or_else(|| Error::new(Code::NAME, format!("no function \"{name}\" is registered"))),
            Target::Pointer { id, path, offset } => elf::loaded_modules()
                .iter()
                .find(|module| module.id == *id)
                .map(|module| module.base + *offset as usize)
                .ok_or_else(|| Error::new(Code::MODULE, format!("the workers have not loaded {path}"))),
        }
    }

    pub(crate) fn encode(&self, writer: &mut Writer) {
        match self {
            Target::Pointer { id, path, offset } => {
                writer.number(0);
                writer.bytes(&id.to_bytes());
                writer.bytes(path.as_bytes());
                writer.number(*offset);
            }
            Target::Name(name) => {
                writer.number(1);
                writer.bytes(name.as_bytes());
            }
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Target> {
        if reader.number()? == 1 {
            return Ok(Target::Name(reader.text()?));
        }
        let id = ModuleId::from_bytes(reader.bytes()?);
        let id = id.ok_or_else(|| Error::errno(libc::EPROTO, "a module's identity is cut off"))?;
        Ok(Target::Pointer { id, path: reader.text()?, offset: reader.number()? })
    }
}

/// The status of a function that a worker does not have although the supervisor does.
pub(crate) const NOT_HERE: c_int = Code::FUNCTION.0;

#[cfg(test)]
mod tests {
    use super::super::callees::Callees;
    use super::super::resolver::Resolver;
    use super::*;

    extern "C" fn some_function() {}

    fn address_of_function() -> usize {
        some_function as extern "C" fn() as usize
    }

    fn pointer(address: usize) -> Function<'static> {
        // SAFETY: these tests look the function up, and nothing calls it.
        unsafe { Function::pointer(address as *const c_void) }
    }

    fn tables() -> Tables {
        let mut writer = Writer::default();
        Tables::own().encode(&mut writer);
        Tables::decode(&mut Reader(&writer.written)).unwrap()
    }

    #[test]
    fn an_address_survives_the_way_through_the_tables() {
        let tables = tables();
        let resolver = Resolver::new(&tables);
        let address = address_of_function();
        let mut callees = Callees::new(tables);
        let callee = callees.resolve(pointer(address)).unwrap();
        let callee = callees.current(callee).unwrap();
        assert_eq!(resolver.address(callee), Some(address));
        assert_eq!(resolver.locate(address), Some((u64::from(callee.module), callee.offset)));
        assert_eq!(resolver.address(Callee { module: 9999, offset: 0 }), None);
        assert_eq!(resolver.address(Callee { module: callee.module, offset: u64::MAX }), None);
        assert_eq!(resolver.address(Callee { module: BY_NAME, offset: 77 }), None);
    }

    #[test]
    fn another_supervisor_may_have_its_modules_in_another_order() {
        let address = address_of_function();
        let mut callees = Callees::new(tables());
        let callee = callees.resolve(pointer(address)).unwrap();
        let mut turned = tables();
        turned.modules.reverse();
        let resolver = Resolver::new(&turned);
        callees.set_tables(turned);
        assert_eq!(resolver.address(callees.current(callee).unwrap()), Some(address));
        callees.set_tables(Tables::default());
        assert_eq!(callees.current(callee), None);
        let missing = callees.resolve(pointer(address)).unwrap_err();
        assert_eq!(missing.code(), Code::MODULE);
        callees.set_tables(tables());
        assert_eq!(callees.resolve(pointer(address)).unwrap(), callee);
        assert_eq!(callees.current(callee), Some(callee));
    }

    #[test]
    fn what_is_no_function_of_the_workers_is_refused() {
        let mut callees = Callees::new(tables());
        let data = 5u8;
        let code = |result: Result<Callee>| result.unwrap_err().code();
        assert_eq!(code(callees.resolve(pointer((&raw const data).addr()))), Code::FUNCTION);
        assert_eq!(code(callees.resolve(Function::Name("nobody"))), Code::NAME);
        let mut empty = Callees::new(Tables::default());
        assert_eq!(code(empty.resolve(pointer(address_of_function()))), Code::MODULE);
    }
}
