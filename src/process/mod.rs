//! Processes: how the family of a pool is born, watched and ended.
//!
//! The host starts a supervisor that is nobody's child (`sys::spawn`); the supervisor makes the workers, reaps them and
//! reports; host and supervisor talk over one socket in messages of `wire`. What each does when another one dies is
//! in `docs/architecture.md`.

pub(crate) mod crash;
pub mod function;
pub mod init;
pub(crate) mod job;
pub(crate) mod options;
pub(crate) mod output;
pub(crate) mod setup;
pub mod single;
pub(crate) mod supervisor;
pub(crate) mod surroundings;
pub(crate) mod wire;

/// How a pool's processes are born.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartMethod {
    /// A fresh copy of the program becomes the supervisor; workers are forked from it, warm and without threads.
    #[default]
    Forkserver,
    /// Each worker is a fresh copy of the program.
    Spawn,
    /// The supervisor is forked from the host, so workers share the host's memory of that moment copy-on-write.
    Fork,
}

impl StartMethod {
    fn number(self) -> u64 {
        match self {
            StartMethod::Forkserver => 0,
            StartMethod::Spawn => 1,
            StartMethod::Fork => 2,
        }
    }

    fn from_number(number: u64) -> Option<StartMethod> {
        [StartMethod::Forkserver, StartMethod::Spawn, StartMethod::Fork]
            .into_iter()
            .find(|method| method.number() == number)
    }
}
