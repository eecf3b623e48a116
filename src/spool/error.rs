//! Why a spool could not do what it was asked: the directory, what failed, and what to do about it.

use crate::redact;
use std::{fmt, io, path::Path};

/// What a spool could not do. The message names the directory, what failed and the fix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SpoolError {
    message: Box<str>,
}

impl SpoolError {
    /// `what` failed, and this is what to do.
    #[cold]
    pub(super) fn new(directory: &Path, what: &str, fix: &str) -> Self {
        let path = redact::line(&directory.to_string_lossy(), PATH_CHARACTERS);
        SpoolError {
            message: format!("the spool `{path}`: {what}: {fix}").into(),
        }
    }

    /// The system did not do `what`.
    #[cold]
    pub(super) fn of_system(directory: &Path, what: &str, error: &io::Error) -> Self {
        let name = redact::line(what, PATH_CHARACTERS);
        Self::new(directory, &format!("cannot {name}: {error}"), fix(error.kind()))
    }
}

impl fmt::Display for SpoolError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for SpoolError {}

fn fix(kind: io::ErrorKind) -> &'static str {
    use io::ErrorKind::{
        AlreadyExists, FileTooLarge, NotADirectory, NotFound, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem,
        StorageFull, Unsupported,
    };
    match kind {
        StorageFull | QuotaExceeded | FileTooLarge => {
            "free space there, raise the limit of this process, or let the spool have fewer `max_bytes`"
        }
        PermissionDenied => "let this process' user read and write there, or choose another directory",
        ReadOnlyFilesystem => "choose a directory on a file system that can be written",
        NotADirectory | AlreadyExists => "choose a path that is a directory, below directories",
        NotFound => "see that nobody deletes the directory meanwhile",
        Unsupported => "choose a directory on a local file system, with locks of files",
        _ => "see that the file system there is in order, or choose another directory",
    }
}

const PATH_CHARACTERS: usize = 200;
