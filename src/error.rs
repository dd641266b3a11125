//! The one error space.
//!
//! Every fallible call of the library answers with an [`Error`]: a code and, where there is something to say beyond
//! the code, a text that names the thing and its value. Codes from -1 to -4095 are negated errno values; tine's own
//! lie below that, and a number that has been released never changes its meaning.

use std::borrow::Cow;
use std::ffi::{CStr, CString, c_char, c_int};
use std::fmt;
use std::sync::atomic::{AtomicPtr, Ordering};

/// What went wrong: a code, and a text that names the thing and its value.
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    code: Code,
    text: Cow<'static, str>,
}

/// The result of every fallible call in the crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A code of the error space: a negated errno value, or one of the constants of this type.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(pub c_int);

/// One line for each of tine's own codes: the constant, its number, and the sentence that `tine_strerror` returns.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $c_name:literal, $text:literal;)*) => {
        impl Code {
            $($(#[$doc])* pub const $name: Code = Code($value);)*
        }
        const OWN: &[(c_int, &CStr, &CStr)] = &[$(($value, $c_name, $text)),*];
    };
}

codes! {
    /// `tine_init` has not run in this process.
    NO_INIT = -5001, c"TINE_ENOINIT", c"tine_init has not run in this process";
    /// The workers or their supervisor could not be started, or die as soon as they are.
    WORKER_START = -5002, c"TINE_EWORKERSTART", c"the worker processes could not be started";
    /// The process that ran the task died.
    DIED = -5003, c"TINE_EDIED", c"the process that ran the task died";
    /// The function returned a number below -4095, which is not the caller's to use.
    BAD_CODE = -5004, c"TINE_EBADCODE", c"the task's function returned a number below -4095";
    /// Items of a map failed; their own states say why.
    ITEMS = -5005, c"TINE_EITEMS", c"one or more items of the map failed";
    /// The function pointer is not the address of code in a loaded module.
    FUNCTION = -5006, c"TINE_EFUNCTION", c"the function pointer is not code of a loaded module";
    /// The function's module is not loaded in the workers, or is another build there.
    MODULE = -5007, c"TINE_EMODULE", c"the function's module is not loaded in the workers";
    /// The workers know no registered function of this name.
    NAME = -5008, c"TINE_ENAME", c"the workers know no registered function of this name";
    /// The id was never given, or its result has been released.
    ID = -5009, c"TINE_EID", c"the id was never given, or its result has been released";
    /// The pool has been shut down.
    SHUTDOWN = -5010, c"TINE_ESHUTDOWN", c"the pool has been shut down";
    /// The object belongs to the process that this one was forked from.
    FORKED = -5011, c"TINE_EFORKED", c"the object belongs to the process that this one was forked from";
    /// The call is the host's and was made in a worker.
    WORKER = -5012, c"TINE_EWORKER", c"the call is the host's and was made in a worker";
    /// Nothing is outstanding, so there is nothing to wait for.
    EMPTY = -5013, c"TINE_EEMPTY", c"nothing is outstanding, so there is nothing to wait for";
    /// The other process runs another build of tine.
    VERSION = -5014, c"TINE_EVERSION", c"the other process runs another build of tine";
    /// The barrier is broken.
    BROKEN = -5015, c"TINE_EBROKEN", c"the barrier is broken";
    /// The task used more memory than its worker may.
    MEMORY = -5016, c"TINE_EMEMORY", c"the task used more memory than its worker may";
    /// A panic inside the library was caught at its boundary.
    PANIC = -5017, c"TINE_EPANIC", c"an error inside tine; the object should not be used further";
    /// Too late: `tine_init` has already run.
    LATE = -5018, c"TINE_ELATE", c"too late: tine_init has already run";
}

/// Every errno name of Linux, for `tine_errname`.
macro_rules! errno_names {
    ($($name:ident)*) => {
        const ERRNO: &[(c_int, &str)] = &[$((libc::$name, concat!(stringify!($name), "\0"))),*];
    };
}

errno_names! {
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY EEXIST
    EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE
    EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP ENOMSG EIDRM ENODATA ETIME EPROTO EBADMSG EOVERFLOW EILSEQ
    EUSERS ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT EOPNOTSUPP EAFNOSUPPORT EADDRINUSE
    EADDRNOTAVAIL ENETDOWN ENETUNREACH ENETRESET ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN ETIMEDOUT
    ECONNREFUSED EHOSTDOWN EHOSTUNREACH EALREADY EINPROGRESS ESTALE EDQUOT EREMOTEIO ECANCELED EOWNERDEAD ENOTRECOVERABLE
}

impl Code {
    /// The code for an errno value, which is positive.
    pub const fn errno(errno: c_int) -> Code {
        Code(-errno)
    }

    /// The constant's name, as C spells it.
    pub fn name(self) -> &'static CStr {
        if self.0 >= 0 {
            return c"OK";
        }
        if let Some(own) = OWN.iter().find(|own| own.0 == self.0) {
            return own.1;
        }
        ERRNO
            .iter()
            .find(|known| known.0 == -self.0)
            .and_then(|known| CStr::from_bytes_with_nul(known.1.as_bytes()).ok())
            .unwrap_or(c"UNKNOWN")
    }

    /// One sentence for people.
    pub fn text(self) -> &'static CStr {
        if self.0 >= 0 {
            return c"success";
        }
        if let Some(own) = OWN.iter().find(|own| own.0 == self.0) {
            return own.2;
        }
        if self.0 < -4095 { c"unknown error" } else { errno_text(-self.0) }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}({})", self.name().to_string_lossy(), self.0)
    }
}

impl Error {
    /// An error with a text that names the thing and its value.
    pub fn new(code: Code, text: impl Into<Cow<'static, str>>) -> Error {
        Error { code, text: text.into() }
    }

    /// The same for an errno value.
    pub fn errno(errno: c_int, text: impl Into<Cow<'static, str>>) -> Error {
        Error::new(Code::errno(errno), text)
    }

    /// `EINVAL` with a text.
    pub fn invalid(text: impl Into<Cow<'static, str>>) -> Error {
        Error::errno(libc::EINVAL, text)
    }

    /// The error of the system call that has just failed in this thread; `what` says what was tried.
    pub fn last_os(what: &str) -> Error {
        Error::from_io(what, &std::io::Error::last_os_error())
    }

    /// An I/O error; `what` says what was tried.
    pub fn from_io(what: &str, error: &std::io::Error) -> Error {
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        Error::errno(errno, format!("{what}: {}", Code::errno(errno).text().to_string_lossy()))
    }

    /// The code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The text; that of the code where there is nothing more to say.
    pub fn text(&self) -> Cow<'_, str> {
        if self.text.is_empty() { self.code.text().to_string_lossy() } else { Cow::Borrowed(&self.text) }
    }
}

impl From<Code> for Error {
    fn from(code: Code) -> Error {
        Error { code, text: Cow::Borrowed("") }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}: {}", self.code, self.text())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text())
    }
}

impl std::error::Error for Error {}

/// What an errno value can be at most.
const LAST_ERRNO: usize = 4095;

/// The C library's sentence for an errno value, which stays. The C library's own may be gone with the thread's next call: so each
/// is copied when it is first asked for, and there are only so many of them.
fn errno_text(errno: c_int) -> &'static CStr {
    static TEXTS: [AtomicPtr<c_char>; LAST_ERRNO + 1] =
        [const { AtomicPtr::new(std::ptr::null_mut()) }; LAST_ERRNO + 1];
    let Some(place) = usize::try_from(errno).ok().and_then(|errno| TEXTS.get(errno)) else {
        return c"unknown error";
    };
    // Acquire and Release: who sees the pointer sees the text.
    let mut text = place.load(Ordering::Acquire);
    if text.is_null() {
        let mut buffer = [0; 256];
        // SAFETY: a place as long as is said; what is written there ends with a zero.
        let copy = unsafe {
            libc::strerror_r(errno, buffer.as_mut_ptr(), buffer.len() - 1);
            CStr::from_ptr(buffer.as_ptr()).to_owned()
        };
        // musl has one sentence for all that it does not know, which names no number.
        let nameless = cfg!(target_env = "musl") && copy.as_c_str() == c"No error information";
        let copy =
            if nameless { CString::new(format!("Unknown error {errno}")).unwrap_or(copy) } else { copy };
        let copy = copy.into_raw();
        match place.compare_exchange(text, copy, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => text = copy,
            Err(other) => {
                // SAFETY: from `into_raw`, and nobody else has it.
                drop(unsafe { CString::from_raw(copy) });
                text = other;
            }
        }
    }
    // SAFETY: a string that is never freed once it is in there.
    unsafe { CStr::from_ptr(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_own_code_is_below_errno_and_unique() {
        for (index, own) in OWN.iter().enumerate() {
            assert!(own.0 < -4095, "{:?}", own.1);
            assert!(OWN[..index].iter().all(|other| other.0 != own.0 && other.1 != own.1), "{:?}", own.1);
        }
    }

    #[test]
    fn names_and_texts() {
        assert_eq!(Code(0).name(), c"OK");
        assert_eq!(Code(7).text(), c"success");
        assert_eq!(Code(-libc::EINVAL).name(), c"EINVAL");
        assert_eq!(Code::DIED.name(), c"TINE_EDIED");
        assert_eq!(Code(-4999).name(), c"UNKNOWN");
        assert_eq!(Code(i32::MIN).text(), c"unknown error");
        // They stay as they are, whatever is asked for afterwards and wherever.
        let texts = std::thread::spawn(|| (2001..2100).map(|code| Code(-code).text()).collect::<Vec<_>>());
        for (code, text) in (2001..2100).zip(texts.join().unwrap()) {
            assert_eq!(text.to_string_lossy(), format!("Unknown error {code}"));
            assert_eq!(text.as_ptr(), Code(-code).text().as_ptr());
        }
        assert_eq!(Error::from(Code::DIED).text(), "the process that ran the task died");
    }
}
