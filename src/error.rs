//! Why something could not be registered.

use crate::{instrument::buckets::BucketsError, name::NameError};
use std::fmt;

/// A metric that could not be registered. The message names the metric, the rule and the fix.
///
/// ```
/// let registry = tidegauge::Registry::new();
/// let error = registry.counter("9lives", "Lives left.").register().unwrap_err();
/// assert!(error.is_invalid());
/// registry.counter("lives", "Lives left.").register().unwrap();
/// let error = registry.gauge("lives_total", "Lives left.").register().unwrap_err();
/// assert!(error.is_conflict());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterError {
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Name(NameError),
    Buckets(BucketsError),
    Conflict(String),
}

impl RegisterError {
    /// Whether a name, a label, a unit, a help text or a bucket boundary is not what every format can express.
    pub fn is_invalid(&self) -> bool {
        !self.is_conflict()
    }

    /// Whether another metric is registered that this one would be confused with.
    pub fn is_conflict(&self) -> bool {
        matches!(self.kind, Kind::Conflict(_))
    }

    #[cold]
    pub(crate) fn conflict(message: String) -> Self {
        RegisterError {
            kind: Kind::Conflict(message),
        }
    }
}

impl fmt::Display for RegisterError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Name(error) => error.fmt(formatter),
            Kind::Buckets(error) => error.fmt(formatter),
            Kind::Conflict(message) => formatter.write_str(message),
        }
    }
}

impl std::error::Error for RegisterError {}

impl From<NameError> for RegisterError {
    fn from(error: NameError) -> Self {
        RegisterError {
            kind: Kind::Name(error),
        }
    }
}

impl From<BucketsError> for RegisterError {
    fn from(error: BucketsError) -> Self {
        RegisterError {
            kind: Kind::Buckets(error),
        }
    }
}
