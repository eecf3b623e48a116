//! What a job came to.

use crate::exporter::report::{FlushError, FlushReport};
use std::{fmt, time::Duration};

/// How a job ended: a value of the label `outcome` of `batch_job_outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JobOutcome {
    /// Its guard was told so, or its closure returned `Ok`.
    Success,
    /// Its guard was told so, or dropped without a word, or its closure returned an error.
    Failure,
    /// Its guard was dropped by a panic.
    Panic,
    /// SIGTERM or SIGINT came, and the job [ends on signals](crate::Job::end_on_signals).
    Signal,
    /// The process exited while it ran.
    Exit,
}

impl JobOutcome {
    pub(crate) const ALL: [JobOutcome; 5] = [
        JobOutcome::Success,
        JobOutcome::Failure,
        JobOutcome::Panic,
        JobOutcome::Signal,
        JobOutcome::Exit,
    ];

    /// As in the label: `success`, `failure`, `panic`, `signal` or `exit`.
    pub fn as_str(self) -> &'static str {
        match self {
            JobOutcome::Success => "success",
            JobOutcome::Failure => "failure",
            JobOutcome::Panic => "panic",
            JobOutcome::Signal => "signal",
            JobOutcome::Exit => "exit",
        }
    }
}

impl fmt::Display for JobOutcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What a job came to, and what its exporters delivered of it.
#[derive(Clone, Debug)]
pub struct JobReport {
    pub(crate) outcome: JobOutcome,
    pub(crate) duration: Duration,
    pub(crate) deliveries: Vec<(String, Result<FlushReport, FlushError>)>,
}

impl JobReport {
    /// How it ended.
    pub fn outcome(&self) -> JobOutcome {
        self.outcome
    }

    /// How long it ran, without the deliveries at its end.
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// The names of its exporters, and what each came to, in the order in which they were given. One whose destination is disabled has an
    /// empty name.
    pub fn deliveries(&self) -> impl Iterator<Item = (&str, Result<&FlushReport, &FlushError>)> {
        self.deliveries
            .iter()
            .map(|(exporter, result)| (exporter.as_str(), result.as_ref()))
    }

    /// Whether every exporter delivered everything, so that nothing is in a [spool](crate::Exporter::spool) either.
    pub fn is_delivered(&self) -> bool {
        let is_delivered = |report: &FlushReport| report.spooled == 0;
        let mut results = self.deliveries.iter().map(|(_, result)| result);
        results.all(|result| result.as_ref().is_ok_and(is_delivered))
    }
}
