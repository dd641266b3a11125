//! A worker's side of functions: the address of what a task carries.

use super::function::{BY_NAME, Callee, NAMES, Registered, Tables, is_called};
use crate::sys::elf::{self, Module};
use std::ffi::CStr;
use std::sync::PoisonError;

/// A worker's side: turns what a task carries into an address.
#[derive(Debug, Default)]
pub(crate) struct Resolver {
    /// For each module of the supervisor's table this process's own, if it has it.
    modules: Vec<Option<Module>>,
    names: Vec<Option<Registered>>,
}

impl Resolver {
    /// For the supervisor's tables, in this process.
    pub(crate) fn new(tables: &Tables) -> Resolver {
        let here = elf::loaded_modules();
        let names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        Resolver {
            modules: tables
                .modules
                .iter()
                .map(|(id, _)| here.iter().find(|module| module.id == *id).cloned())
                .collect(),
            names: tables
                .names
                .iter()
                .map(|name| names.iter().find(|(known, _)| is_called(known, name)).copied())
                .collect(),
        }
    }

    /// The address of a function.
    pub(crate) fn address(&self, callee: Callee) -> Option<usize> {
        if callee.module == BY_NAME {
            return self.registered(callee).map(|(_, address)| address);
        }
        let module = self.modules.get(callee.module as usize)?.as_ref()?;
        let address = module.base.checked_add(usize::try_from(callee.offset).ok()?)?;
        module.has_code_at(address).then_some(address)
    }

    /// The name by which a function is called, where it is called by one.
    pub(crate) fn name(&self, callee: Callee) -> Option<&'static CStr> {
        if callee.module == BY_NAME { self.registered(callee).map(|(name, _)| name) } else { None }
    }

    fn registered(&self, callee: Callee) -> Option<Registered> {
        *self.names.get(usize::try_from(callee.offset).ok()?)?
    }

    /// The module that an address lies in and the offset there, for a backtrace. Async-signal-safe.
    pub(crate) fn locate(&self, address: usize) -> Option<(u64, u64)> {
        self.modules.iter().enumerate().find_map(|(place, module)| {
            let module = module.as_ref().filter(|module| module.has_code_at(address))?;
            Some((place as u64, (address - module.base) as u64))
        })
    }
}
