//! Why a server could not start.

use std::fmt;
use std::io;

/// The endpoint could not be started. Names the address, the rule that was broken and what to do.
///
/// Converts to [`io::Error`], so `?` works in functions that return [`io::Result`].
#[derive(Debug)]
pub struct ServeError {
    address: String,
    problem: Problem,
}

#[derive(Debug)]
enum Problem {
    Setting(String),
    Address(String),
    System { attempt: &'static str, source: io::Error },
}

impl ServeError {
    /// Whether a setting of the builder was refused.
    #[must_use]
    pub fn is_setting(&self) -> bool {
        matches!(self.problem, Problem::Setting(_))
    }

    /// Whether the address cannot be understood.
    #[must_use]
    pub fn is_address(&self) -> bool {
        matches!(self.problem, Problem::Address(_))
    }

    /// Whether somebody else serves on this address already.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        matches!(&self.problem, Problem::System { source, .. } if source.kind() == io::ErrorKind::AddrInUse)
    }

    #[cold]
    pub(crate) fn setting(address: &str, rule: impl Into<String>) -> ServeError {
        ServeError::new(address, Problem::Setting(rule.into()))
    }

    #[cold]
    pub(crate) fn address(address: &str, rule: impl Into<String>) -> ServeError {
        ServeError::new(address, Problem::Address(rule.into()))
    }

    /// `attempt` continues "could not".
    #[cold]
    pub(crate) fn system(address: &str, attempt: &'static str, source: io::Error) -> ServeError {
        ServeError::new(address, Problem::System { attempt, source })
    }

    fn new(address: &str, problem: Problem) -> ServeError {
        ServeError {
            address: address.to_owned(),
            problem,
        }
    }

    fn kind(&self) -> io::ErrorKind {
        match &self.problem {
            Problem::Setting(_) | Problem::Address(_) => io::ErrorKind::InvalidInput,
            Problem::System { source, .. } => source.kind(),
        }
    }
}

impl fmt::Display for ServeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "cannot serve metrics on {}: ", self.address)?;
        match &self.problem {
            Problem::Setting(rule) | Problem::Address(rule) => formatter.write_str(rule),
            Problem::System { attempt, source } => {
                write!(formatter, "could not {attempt}")?;
                match source.kind() {
                    io::ErrorKind::AddrInUse => formatter.write_str(
                        ", somebody serves there already; stop them, or choose another address \
                         (port 0 takes any free port)",
                    ),
                    io::ErrorKind::PermissionDenied => formatter.write_str(
                        ", the system does not permit it; ports below 1024 and foreign directories need rights",
                    ),
                    _ => write!(formatter, ": {source}"),
                }
            }
        }
    }
}

impl std::error::Error for ServeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            Problem::Setting(_) | Problem::Address(_) => None,
            Problem::System { source, .. } => Some(source),
        }
    }
}

impl From<ServeError> for io::Error {
    fn from(error: ServeError) -> io::Error {
        io::Error::new(error.kind(), error)
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    #[test]
    fn the_message_names_the_address_and_the_source_is_kept() {
        let error = ServeError::system("[::1]:80", "bind", io::ErrorKind::AddrInUse.into());
        assert!(error.is_in_use());
        assert!(
            error
                .to_string()
                .starts_with("cannot serve metrics on [::1]:80: could not bind")
        );
        assert!(error.source().is_some());
        let error = io::Error::from(error);
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains("[::1]:80"));
    }
}
