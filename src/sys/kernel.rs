//! Which kernel this is, and whether it has what tine cannot do without.

use crate::error::{Code, Error, Result};
use crate::sys::fd;
use std::os::fd::AsRawFd;

/// The oldest that has all of it: `waitid` takes pidfds since then. What came later has a substitute wherever tine uses it.
pub(crate) const OLDEST: (u32, u32) = (5, 4);

/// Its two first numbers; both 0 where it does not tell. May be asked in a signal handler.
pub(crate) fn version() -> (u32, u32) {
    with_release(numbers)
}

/// What the kernel calls itself, `5.4.0-26-generic` say; nothing where it does not tell.
fn with_release<T>(read: impl FnOnce(&[u8]) -> T) -> T {
    // SAFETY: all zero is a valid utsname, and a place for the answer.
    let release = unsafe {
        let mut name = std::mem::zeroed::<libc::utsname>();
        libc::uname(&mut name);
        name.release.map(|byte| byte as u8)
    };
    read(release.split(|byte| *byte == 0).next().unwrap_or_default())
}

fn numbers(release: &[u8]) -> (u32, u32) {
    let number = |digits: &[u8]| {
        digits
            .iter()
            .fold(0u32, |number, digit| number.saturating_mul(10).saturating_add(u32::from(digit - b'0')))
    };
    let mut words = release.split(|byte| !byte.is_ascii_digit()).map(number);
    (words.next().unwrap_or(0), words.next().unwrap_or(0))
}

/// Whether this kernel is too old, by what it can do and by what it calls itself: an error that names what is missing.
///
/// One that is new enough by its number and refuses a call all the same is an emulator's or a sandbox's. There much works without
/// that call, and what does not says so itself.
pub(crate) fn suffices() -> Result<()> {
    let Some(missing) = missing() else { return Ok(()) };
    if version() >= OLDEST {
        return Ok(());
    }
    let (major, minor) = OLDEST;
    let release = with_release(|release| String::from_utf8_lossy(release).into_owned());
    let text =
        format!("tine needs Linux {major}.{minor} or newer; this is Linux {release}, which has no {missing}");
    Err(Error::errno(libc::ENOSYS, text))
}

/// The call that this kernel does not know, of the newest ones that tine cannot do without. A refusal for any other reason, a lack
/// of descriptors say, is none of the kernel's age.
fn missing() -> Option<&'static str> {
    // SAFETY: no pointers.
    let opened = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) };
    let own = match fd::owned(opened, "pidfd_open") {
        Ok(own) => own,
        Err(error) => return (error.code() == Code::errno(libc::ENOSYS)).then_some("pidfd_open"),
    };
    // This process is no child of itself: a kernel that knows what is asked says that.
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: all zero is a valid siginfo, and a place for the answer.
    let rc = unsafe {
        let mut info = std::mem::zeroed::<libc::siginfo_t>();
        libc::waitid(libc::P_PIDFD, own.as_raw_fd() as libc::id_t, &mut info, options)
    };
    (rc != 0 && super::errno() == libc::EINVAL).then_some("waitid with P_PIDFD")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_read_as_far_as_its_numbers_go() {
        let cases = [
            ("5.4.0-26-generic", (5, 4)),
            ("6.18.44-fc-v669", (6, 18)),
            ("2.6.78", (2, 6)),
            ("6.2-rc1", (6, 2)),
            ("7", (7, 0)),
            ("", (0, 0)),
            ("none", (0, 0)),
            ("99999999999.1", (u32::MAX, 1)),
        ];
        for (release, version) in cases {
            assert_eq!(numbers(release.as_bytes()), version, "{release}");
        }
    }

    #[test]
    fn this_kernel_has_all_of_it() {
        assert_eq!(missing(), None);
        assert!(suffices().is_ok());
    }
}
