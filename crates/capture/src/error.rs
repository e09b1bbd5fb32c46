//! One error for the whole crate: which call failed, and with which errno.

use nix::errno::Errno;

/// A system call that failed, named as a reader would look it up, for example `unshare(CLONE_NEWNET)`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[error("{call}: {}", Errno::from_raw(*.errno))]
pub struct Error {
    /// The call with the arguments that matter.
    pub call: String,
    /// The errno as the kernel gave it.
    pub errno: i32,
}

impl Error {
    /// The failure of `call` with `errno`.
    pub fn new(call: impl Into<String>, errno: i32) -> Error {
        Error { call: call.into(), errno }
    }

    /// Whether the kernel says that it lacks the feature (a missing module, IPv6 switched off).
    pub fn is_unsupported(&self) -> bool {
        let absent = [Errno::EOPNOTSUPP, Errno::EAFNOSUPPORT, Errno::EPROTONOSUPPORT, Errno::ENOENT];
        absent.contains(&Errno::from_raw(self.errno))
    }
}

/// Names the call whose result this is.
pub trait During<T> {
    /// Turns a bare errno into an [`Error`] that says what was tried.
    fn during(self, call: impl Into<String>) -> Result<T, Error>;
}

impl<T> During<T> for Result<T, Errno> {
    fn during(self, call: impl Into<String>) -> Result<T, Error> {
        self.map_err(|errno| Error::new(call, errno as i32))
    }
}

impl<T> During<T> for rustix::io::Result<T> {
    fn during(self, call: impl Into<String>) -> Result<T, Error> {
        self.map_err(|errno| Error::new(call, errno.raw_os_error()))
    }
}

impl<T> During<T> for std::io::Result<T> {
    fn during(self, call: impl Into<String>) -> Result<T, Error> {
        self.map_err(|error| Error::new(call, error.raw_os_error().unwrap_or(Errno::EIO as i32)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_its_call_and_errno() {
        let error = Err::<(), _>(Errno::EPERM).during("unshare(CLONE_NEWNET)").unwrap_err();
        assert_eq!(error.to_string(), "unshare(CLONE_NEWNET): EPERM: Operation not permitted");
    }
}
