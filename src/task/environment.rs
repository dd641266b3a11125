//! What a worker finds around it: environment, directory, limits, processors.
//!
//! Environment and directory are the supervisor's too, so that they are there before the libraries that it loads; the
//! rest is each worker's own, and set before its initializer runs.

use super::wire::{Reader, Writer};
use crate::error::{Error, Result};
use crate::sys::{environment, limits, reserve, signal};
use std::ffi::CString;

/// What all workers of a pool are put into. Empty and zero leaves it as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    /// "NAME=value", or "NAME" for a variable that is not to be there.
    pub(crate) variables: Vec<CString>,
    pub(crate) directory: Option<CString>,
    /// Added to the niceness of the host.
    pub(crate) nice: i32,
    pub(crate) oom_score_adj: i32,
    /// Processors, one for each worker in turn.
    pub(crate) processors: Vec<u32>,
    pub(crate) limits: Vec<Limit>,
    /// Where their standard output and error go.
    pub(crate) output: OutputTarget,
}

/// Where what workers write is to go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum OutputTarget {
    /// Where the host's goes.
    #[default]
    Inherit,
    /// Its end into the report of the worker's death.
    Capture,
    /// Nowhere.
    Null,
    /// To the end of a file.
    File(CString),
}

impl OutputTarget {
    pub(crate) fn encode(&self, writer: &mut Writer) {
        let (number, path) = match self {
            OutputTarget::Inherit => (0, &[][..]),
            OutputTarget::Capture => (1, &[][..]),
            OutputTarget::Null => (2, &[][..]),
            OutputTarget::File(path) => (3, path.as_bytes()),
        };
        writer.number(number);
        writer.bytes(path);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<OutputTarget> {
        let (number, path) = (reader.number()?, reader.bytes()?);
        match number {
            0 => Ok(OutputTarget::Inherit),
            1 => Ok(OutputTarget::Capture),
            2 => Ok(OutputTarget::Null),
            3 => Ok(OutputTarget::File(CString::new(path).unwrap_or_default())),
            _ => Err(Error::errno(libc::EPROTO, "an unknown place for output")),
        }
    }
}

/// A resource limit, as setrlimit takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// RLIMIT_NOFILE and the like.
    pub resource: i32,
    /// The limit that counts.
    pub soft: u64,
    /// How far the worker itself may raise it.
    pub hard: u64,
}

/// The variables by which numerical libraries are told how many threads they may start.
const THREAD_VARIABLES: [&str; 9] = [
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "GOMAXPROCS",
];

impl Environment {
    /// Gives libraries so many threads each.
    pub(crate) fn set_library_threads(&mut self, threads: u32) -> Result<()> {
        if threads == 0 {
            return Ok(());
        }
        reserve::grow(&mut self.variables, THREAD_VARIABLES.len())?;
        let line = |name: &&str| CString::new(format!("{name}={threads}")).ok();
        // In front: what the caller says about a single variable counts.
        let given = self.variables.len();
        self.variables.extend(THREAD_VARIABLES.iter().filter_map(line));
        self.variables.rotate_left(given);
        Ok(())
    }

    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.number(self.variables.len() as u64);
        self.variables.iter().for_each(|line| writer.bytes(line.as_bytes()));
        writer.bytes(self.directory.as_deref().unwrap_or_default().to_bytes());
        writer.number(self.nice as u64);
        writer.number(self.oom_score_adj as u64);
        writer.number(self.processors.len() as u64);
        self.processors.iter().for_each(|number| writer.number(u64::from(*number)));
        writer.number(self.limits.len() as u64);
        for limit in &self.limits {
            writer.number(limit.resource as u64);
            writer.number(limit.soft);
            writer.number(limit.hard);
        }
        self.output.encode(writer);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Environment> {
        let string = |bytes: &[u8]| CString::new(bytes).unwrap_or_default();
        let count = reader.number()?;
        let variables = (0..count).map(|_| reader.bytes().map(string)).collect::<Result<_>>()?;
        let directory = Some(string(reader.bytes()?)).filter(|path| !path.is_empty());
        let (nice, oom_score_adj) = (reader.number()? as i32, reader.number()? as i32);
        let count = reader.number()?;
        let processors =
            (0..count).map(|_| reader.number().map(|number| number as u32)).collect::<Result<_>>()?;
        let count = reader.number()?;
        let limits = (0..count)
            .map(|_| {
                let resource = reader.number()? as i32;
                Ok(Limit { resource, soft: reader.number()?, hard: reader.number()? })
            })
            .collect::<Result<_>>()?;
        let output = OutputTarget::decode(reader)?;
        Ok(Environment { variables, directory, nice, oom_score_adj, processors, limits, output })
    }

    /// In the supervisor, and in a worker that was executed, before anything is loaded. Who was executed has the environment already.
    pub(crate) fn enter(&self, forked: bool) -> Result<()> {
        if forked {
            self.variables.iter().for_each(|line| environment::put(line));
        }
        match &self.directory {
            Some(path) => environment::change_directory(path),
            None => Ok(()),
        }
    }

    /// In the worker in this place, before its initializer. A single process has no place, and all the processors.
    pub(crate) fn apply(&self, slot: Option<u32>) -> Result<()> {
        for Limit { resource, soft, hard } in self.limits.iter().copied() {
            limits::set(resource, soft, hard)?;
        }
        if self.oom_score_adj != 0 {
            limits::set_oom_score_adj(self.oom_score_adj)?;
        }
        match (&self.processors[..], slot) {
            ([], _) => (),
            (all, None) => limits::run_on(all)?,
            (all, Some(slot)) => limits::run_on(&[all[slot as usize % all.len()]])?,
        }
        if self.output == OutputTarget::Capture {
            // What a crash finds in the C library's buffer is lost.
            environment::buffer_output_by_line();
        }
        // Last: it makes all else slower.
        if self.nice != 0 { signal::be_nicer(self.nice) } else { Ok(()) }
    }
}

/// Checks one line of the environment.
pub(crate) fn check_variable(line: &CString) -> Result<()> {
    let name = line.as_bytes().split(|byte| *byte == b'=').next().unwrap_or_default();
    if name.is_empty() {
        // The beginning says which it is, and a line may be longer than there is memory for a text.
        let beginning = String::from_utf8_lossy(&line.as_bytes()[..line.as_bytes().len().min(200)]);
        return Err(Error::invalid(format!("environment has \"{beginning}\", without a name")));
    }
    Ok(())
}

/// An order of the processors that this process may use in which neighbours in the order are far apart.
pub(crate) fn spread(processors: &[u32]) -> Result<Vec<u32>> {
    let half = processors.len().div_ceil(2);
    let (low, high) = processors.split_at(half);
    let pairs = low.iter().enumerate().flat_map(|(at, first)| [Some(*first), high.get(at).copied()]);
    let mut all = Vec::new();
    reserve::grow(&mut all, processors.len())?;
    all.extend(pairs.flatten());
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_arrives() {
        let mut sent = Environment {
            variables: vec![c"A=1".to_owned(), c"B".to_owned()],
            directory: Some(c"/tmp".to_owned()),
            nice: -3,
            oom_score_adj: 500,
            processors: vec![7, 1],
            limits: vec![Limit { resource: 7, soft: 5, hard: u64::MAX }],
            output: OutputTarget::File(c"/tmp/x".to_owned()),
        };
        sent.set_library_threads(2).unwrap();
        let mut writer = Writer::default();
        sent.encode(&mut writer);
        let got = Environment::decode(&mut Reader(&writer.written)).unwrap();
        assert_eq!(format!("{sent:?}"), format!("{got:?}"));
        assert_eq!(got.variables.last().unwrap().as_c_str(), c"B");
    }

    #[test]
    fn spreading_keeps_every_processor() {
        assert_eq!(spread(&[0, 1, 2, 3, 4]).unwrap(), [0, 3, 1, 4, 2]);
        assert_eq!(spread(&[3]).unwrap(), [3]);
        assert!(check_variable(&c"=x".to_owned()).is_err() && check_variable(&c"x".to_owned()).is_ok());
    }
}
