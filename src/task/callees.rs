//! The host's side of functions: what a task carries for one.

use super::function::{BY_NAME, Callee, Function, Tables, Target};
use crate::error::{Code, Error, Result};
use crate::sys::elf::{self, Module, ModuleId};
use std::collections::HashMap;

/// The host's side: turns functions into what a task carries.
///
/// A supervisor that takes another's place may have its modules in another order, or others altogether. So tasks in the
/// books carry places in this register, which only grows, and get the current supervisor's when they are handed out.
#[derive(Debug)]
pub(crate) struct Callees {
    tables: Tables,
    modules: Vec<(ModuleId, Option<u32>)>,
    names: Vec<(String, Option<u64>)>,
    /// This process's modules when `generation` was current, the program first.
    here: Vec<Module>,
    generation: u64,
    known: HashMap<usize, Callee>,
    /// Where the program is in this register, which is the first of `here`, if the supervisor has it.
    program: Option<u32>,
    /// The last function that was the program's, by its address: forgotten where either of those two changes.
    last: Option<(usize, Callee)>,
}

impl Callees {
    pub(crate) fn new(tables: Tables) -> Callees {
        let mut callees = Callees {
            tables: Tables::default(),
            modules: Vec::new(),
            names: Vec::new(),
            here: Vec::new(),
            generation: u64::MAX,
            known: HashMap::new(),
            program: None,
            last: None,
        };
        callees.set_tables(tables);
        callees
    }

    /// What the supervisor that has come up can call.
    pub(crate) fn set_tables(&mut self, tables: Tables) {
        self.modules.iter_mut().for_each(|(_, place)| *place = None);
        self.names.iter_mut().for_each(|(_, place)| *place = None);
        for (place, (id, _)) in tables.modules.iter().enumerate() {
            match self.modules.iter_mut().find(|(known, _)| known == id) {
                Some(known) => known.1 = Some(place as u32),
                None => self.modules.push((*id, Some(place as u32))),
            }
        }
        for (place, name) in tables.names.iter().enumerate() {
            match self.names.iter_mut().find(|(known, _)| known == name) {
                Some(known) => known.1 = Some(place as u64),
                None => self.names.push((name.clone(), Some(place as u64))),
            }
        }
        self.tables = tables;
        self.known.clear();
        self.find_program();
    }

    /// Libraries come and go, the program stays for as long as its process: of its functions nothing has to be asked of the loader.
    fn find_program(&mut self) {
        self.last = None;
        self.program = self.here.first().and_then(|program| self.register_of(program.id));
    }

    pub(crate) fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The name of what lies at a place of the supervisor's table of modules, where this process has the same module and
    /// the loader knows a name.
    pub(crate) fn symbol(&self, module: u64, offset: u64) -> Option<String> {
        let (id, _) = self.tables.modules.get(usize::try_from(module).ok()?)?;
        let here = self.here.iter().find(|module| module.id == *id)?;
        elf::place_of(here.base.checked_add(usize::try_from(offset).ok()?)?)?.1
    }

    /// What people know a function by.
    pub(crate) fn describe(&self, callee: Callee) -> String {
        let named = |(name, _): &(String, Option<u64>)| name.clone();
        if callee.module == BY_NAME {
            return self.names.get(callee.offset as usize).map(named).unwrap_or_default();
        }
        let Some(current) = self.current(callee) else { return String::new() };
        let (module, offset) = (u64::from(current.module), current.offset);
        let path = || self.tables.path_of(module).map(|path| format!("{path}+{offset:#x}"));
        self.symbol(module, offset).or_else(path).unwrap_or_default()
    }

    /// The same function as the current supervisor's workers know it, if they do.
    pub(crate) fn current(&self, callee: Callee) -> Option<Callee> {
        if callee.module == BY_NAME {
            let place = self.names.get(usize::try_from(callee.offset).ok()?)?.1?;
            return Some(Callee { module: BY_NAME, offset: place });
        }
        let place = self.modules.get(callee.module as usize)?.1?;
        Some(Callee { module: place, offset: callee.offset })
    }

    /// The same function as another machine's processes know it.
    pub(crate) fn target(&self, callee: Callee) -> Target {
        if callee.module == BY_NAME {
            let name = self.names.get(callee.offset as usize).map(|(name, _)| name.clone());
            return Target::Name(name.unwrap_or_default());
        }
        let id = self.modules.get(callee.module as usize).map(|(id, _)| *id).unwrap_or_default();
        let known = self.tables.modules.iter().find(|(known, _)| *known == id);
        let path = known.map_or_else(String::new, |(_, path)| path.clone());
        Target::Pointer { id, path, offset: callee.offset }
    }

    /// What a task carries that is to call this function, which another machine has named.
    pub(crate) fn of_target(&self, target: &Target) -> Result<Callee> {
        match target {
            Target::Name(name) => self.find_name(name),
            Target::Pointer { id, path, offset } => {
                let place = self.register_of(*id).ok_or_else(|| {
                    let same_path = self.tables.modules.iter().any(|(_, known)| known == path);
                    let why = if same_path { "have another build of" } else { "have not loaded" };
                    Error::new(Code::MODULE, format!("the workers {why} {path}"))
                })?;
                Ok(Callee { module: place, offset: *offset })
            }
        }
    }

    /// What a task that is to call this function carries.
    #[inline(always)]
    pub(crate) fn resolve(&mut self, function: Function<'_>) -> Result<Callee> {
        match function {
            Function::Name(name) => self.find_name(name),
            Function::Pointer(pointer) => match self.last {
                Some((known, callee)) if known == pointer.get() => Ok(callee),
                _ => self.resolve_pointer(pointer.get()),
            },
        }
    }

    fn find_name(&self, name: &str) -> Result<Callee> {
        let known = |(known, place): &(String, Option<u64>)| known == name && place.is_some();
        let place = self.names.iter().position(known).ok_or_else(|| {
            Error::new(Code::NAME, format!("the workers know no registered function \"{name}\""))
        })?;
        Ok(Callee { module: BY_NAME, offset: place as u64 })
    }

    fn resolve_pointer(&mut self, address: usize) -> Result<Callee> {
        if let (Some(module), Some(program)) = (self.program, self.here.first())
            && program.has_code_at(address)
        {
            let callee = Callee { module, offset: (address - program.base) as u64 };
            self.last = Some((address, callee));
            return Ok(callee);
        }
        self.resolve_in_library(address)
    }

    fn resolve_in_library(&mut self, address: usize) -> Result<Callee> {
        // Where libraries have come or gone, an address may mean another function than it did.
        let generation = elf::load_generation();
        if generation != self.generation {
            self.here = elf::loaded_modules();
            self.generation = generation;
            self.known.clear();
            self.find_program();
        }
        if let Some(callee) = self.known.get(&address) {
            return Ok(*callee);
        }
        let callee = self.find(address)?;
        self.known.insert(address, callee);
        Ok(callee)
    }

    fn find(&self, address: usize) -> Result<Callee> {
        let module = self.here.iter().find(|module| module.has_code_at(address)).ok_or_else(|| {
            Error::new(Code::FUNCTION, format!("{address:#x} is not a function of any loaded module"))
        })?;
        let place = self.register_of(module.id).ok_or_else(|| {
            let same_path = self.tables.modules.iter().any(|(_, path)| *path == module.path);
            let why = if same_path { "have another build of" } else { "have not loaded" };
            Error::new(Code::MODULE, format!("the workers {why} {}", module.path))
        })?;
        Ok(Callee { module: place, offset: (address - module.base) as u64 })
    }

    /// The place in this register of a module that the current supervisor has.
    fn register_of(&self, id: ModuleId) -> Option<u32> {
        let is_known = |(known, place): &(ModuleId, Option<u32>)| *known == id && place.is_some();
        self.modules.iter().position(is_known).map(|place| place as u32)
    }
}
