//! What a flush came to, and what an exporter has done so far.

use std::{error::Error, fmt, time::Duration};

/// What became of the points while a flush or a shutdown waited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FlushReport {
    /// Points that the far end has taken.
    pub delivered: u64,
    /// Points that are still here: queued, or carried over to the next payload. A series is one point, however often it
    /// was collected. Where time ran out these are at most so many: series that have not moved are among those that are queued.
    pub kept: u64,
    /// Points that the far end refused for good.
    pub rejected: u64,
    /// Points of collections that there was no room for in the queue. Of what they had counted nothing is lost: later collections
    /// have it.
    pub dropped: u64,
    /// Points that were sent, and of which nobody knows whether they have arrived.
    pub unclear: u64,
    /// Points that were put into the [spool](crate::Exporter::spool) when the exporter was shut down, and that the next one delivers; they
    /// are neither kept nor unclear any more.
    pub spooled: u64,
    /// What the last failure said, if there was one.
    pub last_error: Option<String>,
}

impl FlushReport {
    /// Whether everything that was to be delivered is.
    pub(crate) fn is_complete(&self) -> bool {
        self.kept == 0 && self.rejected == 0 && self.unclear == 0 && self.spooled == 0
    }
}

/// Why a flush or a shutdown could not deliver everything, with what it could.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlushError(Box<Failed>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Failed {
    exporter: String,
    address: String,
    reason: FlushFailure,
    report: FlushReport,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FlushFailure {
    /// All was tried, and not all was taken.
    Undelivered,
    /// Time ran out.
    Deadline(Duration),
    /// The far end has asked to be left alone until after the deadline.
    Asked(Duration),
    /// It was shut down before.
    Stopped,
    /// The process is a fork of the one that started it.
    Forked,
    /// One of its own threads exits the process, and can do nothing else.
    OwnThread,
}

impl FlushError {
    pub(crate) fn new(exporter: &str, address: &str, reason: FlushFailure, report: FlushReport) -> Self {
        FlushError(Box::new(Failed {
            exporter: exporter.to_owned(),
            address: address.to_owned(),
            reason,
            report,
        }))
    }

    /// All that was left when the exporter ended was put into its spool.
    pub(crate) fn spooled(mut self, points: u64) -> Result<FlushReport, Self> {
        let report = &mut self.0.report;
        (report.kept, report.unclear, report.spooled) = (0, 0, points);
        match report.is_complete() {
            true => Ok(self.0.report),
            false => Err(self),
        }
    }

    /// What became of the points.
    pub fn report(&self) -> &FlushReport {
        &self.0.report
    }

    /// Whether nothing is lost by it: all that was not delivered was put into the [spool](crate::Exporter::spool).
    pub fn is_spooled(&self) -> bool {
        let FlushReport {
            kept,
            rejected,
            unclear,
            spooled,
            ..
        } = self.0.report;
        spooled > 0 && (kept, rejected, unclear) == (0, 0, 0)
    }

    /// Whether the deadline was over before everything had been tried.
    pub fn is_timeout(&self) -> bool {
        matches!(self.0.reason, FlushFailure::Deadline(_))
    }

    /// Whether the exporter had been shut down before.
    pub fn is_stopped(&self) -> bool {
        self.0.reason == FlushFailure::Stopped
    }
}

impl fmt::Display for FlushError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failed {
            exporter,
            address,
            report,
            ..
        } = &*self.0;
        write!(formatter, "exporter {exporter:?}")?;
        if !address.is_empty() {
            write!(formatter, " to {address}")?;
        }
        formatter.write_str(": ")?;
        match self.0.reason {
            FlushFailure::Stopped => return formatter.write_str("is shut down; start another one"),
            FlushFailure::Forked => {
                return formatter.write_str("was started before this process was forked; start another one here");
            }
            FlushFailure::OwnThread => {
                return formatter.write_str(
                    "cannot deliver, because one of its own threads exits the process; do not exit in a closure that it calls",
                );
            }
            FlushFailure::Undelivered => formatter.write_str("could not deliver everything")?,
            FlushFailure::Deadline(after) => write!(formatter, "was not done within {after:?}")?,
            FlushFailure::Asked(wait) => write!(formatter, "has to wait for {wait:?}, as the far end asks")?,
        }
        write!(formatter, "; {} points delivered", report.delivered)?;
        for (points, what) in [
            (report.kept, "kept"),
            (report.rejected, "rejected"),
            (report.unclear, "unclear"),
            (report.spooled, "put into the spool"),
        ] {
            if points > 0 {
                write!(formatter, ", {points} {what}")?;
            }
        }
        if let Some(error) = &report.last_error {
            write!(formatter, "; the last error: {error}")?;
        }
        Ok(())
    }
}

impl Error for FlushError {}

/// What an exporter has done since it was started; the metrics `tidegauge_exporter_*` say the same.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ExporterStatistics {
    /// Collections made.
    pub collections: u64,
    /// Points that the far end has taken. Over UDP those of the last payload are not among them before the next one is sent, or a
    /// flush has asked.
    pub delivered_points: u64,
    /// Payloads that the far end has taken, at least in part.
    pub delivered_payloads: u64,
    /// Points that were sent again, each time.
    pub retried_points: u64,
    /// Points that the far end refused for good, or that could not be expressed.
    pub rejected_points: u64,
    /// Points whose payload was given up; what they had counted joined a later one.
    pub carried_over_points: u64,
    /// Points that were sent again after nobody knew whether they had arrived.
    pub possible_duplicate_points: u64,
    /// Points of collections that were dropped because as many as may wait already did.
    pub dropped_queue_full_points: u64,
    /// Points of collections that were dropped because those that waited took as much memory as they may.
    pub dropped_queue_bytes_points: u64,
    /// Last values of removed series that were dropped because as many as may wait already did. What such a series had counted since
    /// it was last delivered is lost.
    pub dropped_removed_series_points: u64,
    /// Values as they stood, samples and messages that were dropped because their payload was given up. The next collection has newer
    /// values.
    pub dropped_superseded_points: u64,
    /// Samples that were dropped because as many as may wait already did, or because their series was gone.
    pub dropped_samples: u64,
    /// Messages that were dropped because as many as may wait already did.
    pub dropped_messages: u64,
    /// Points of the spool that were dropped because its directory had no room for newer ones, by this exporter or one before it.
    pub dropped_spool_full_points: u64,
    /// Points of the spool that were dropped because they were too old.
    pub dropped_spool_age_points: u64,
    /// Points that were put into the spool.
    pub spooled_points: u64,
    /// Points from the spool that were delivered; they are not among [`delivered_points`](ExporterStatistics::delivered_points).
    pub delivered_spooled_points: u64,
    /// Files of the spool that were torn or corrupt.
    pub spool_files_set_aside: u64,
    /// Times that the spool could not be read or written.
    pub spool_errors: u64,
    /// Rejections that were given to the dead-letter callback.
    pub dead_letters: u64,
    /// Connections opened.
    pub connections: u64,
    /// Times that credentials were read again and had changed.
    pub credential_reloads: u64,
    /// Collections that wait to be sent.
    pub queued_collections: u64,
    /// How much memory they take.
    pub queued_bytes: u64,
    /// How long the oldest point that could not be delivered has waited.
    pub oldest_undelivered: Option<Duration>,
    /// When the far end last took something, since the Unix epoch.
    pub last_success: Option<Duration>,
}
