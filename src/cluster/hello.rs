//! What two ranks have to agree on before one runs what the other one says: the build of tine, and that of the program.

use super::FrameKind;
use super::peer::Frame;
use crate::error::{Code, Error, Result};
use crate::sys::elf::{self, ModuleId};
use crate::sys::{host, limits};
use crate::task::wire::Reader;

/// Grows with every change of what frames hold.
const PROTOCOL: u64 = 4;

/// Who a process is.
#[derive(Clone, Debug)]
pub(crate) struct Hello {
    protocol: u64,
    version: String,
    program: (ModuleId, String),
    /// Where it runs, for people.
    pub(crate) host: String,
    /// How many workers it has where nothing is said.
    pub(crate) processors: usize,
}

impl Hello {
    pub(crate) fn own() -> Result<Hello> {
        let program = elf::loaded_modules().into_iter().next();
        let program = program.ok_or_else(|| Error::errno(libc::ENOEXEC, "the loader knows no program"))?;
        Ok(Hello {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            program: (program.id, program.path),
            host: host::name(),
            processors: limits::available_cpus(),
        })
    }

    pub(crate) fn frame(&self) -> Vec<u8> {
        let mut frame = Frame::new(FrameKind::Hello, 0);
        let body = frame.body();
        body.number(self.protocol);
        body.bytes(self.version.as_bytes());
        body.bytes(&self.program.0.to_bytes());
        body.bytes(self.program.1.as_bytes());
        body.bytes(self.host.as_bytes());
        body.number(self.processors as u64);
        frame.finish()
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Hello> {
        let (protocol, version) = (reader.number()?, reader.text()?);
        let id = ModuleId::from_bytes(reader.bytes()?);
        let id = id.ok_or_else(|| Error::errno(libc::EPROTO, "a program's identity is cut off"))?;
        let (path, host) = (reader.text()?, reader.text()?);
        let processors = usize::try_from(reader.number()?).unwrap_or(1).clamp(1, 4096);
        Ok(Hello { protocol, version, program: (id, path), host, processors })
    }

    /// Why this one cannot work with that one, if it cannot.
    pub(crate) fn refuses(&self, rank: super::Rank, other: &Hello) -> Option<Error> {
        let text = if (self.protocol, &self.version) != (other.protocol, &other.version) {
            format!("has tine {}, rank 0 has {}", other.version, self.version)
        } else if self.program.0 != other.program.0 {
            format!("runs another build of {}: {}", self.program.1, other.program.1)
        } else {
            return None;
        };
        Some(Error::new(Code::VERSION, format!("rank {rank} on {} {text}", other.host)))
    }
}
