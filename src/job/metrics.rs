//! What is said of a job: ordinary metrics of its registry.
//!
//! Their names are as <https://prometheus.io/docs/practices/instrumentation/#batch-jobs> and
//! <https://prometheus.io/docs/practices/naming/> ask. The label is not called `job`, which is Prometheus' own.

use super::report::JobOutcome;
use crate::{
    error::RegisterError,
    family::Family,
    instrument::{
        counter::Counter,
        gauge::{Gauge, IntGauge},
    },
    registry::Registry,
};
use std::time::Duration;

/// The metrics of one job.
pub(crate) struct Metrics {
    job: String,
    last_start: Family<Gauge, 1>,
    last_success: Family<Gauge, 1>,
    duration: Family<Gauge, 1>,
    outcome: Family<IntGauge, 2>,
    records: Family<Counter, 2>,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry, job: &str) -> Result<Self, RegisterError> {
        Ok(Metrics {
            job: job.to_owned(),
            last_start: registry
                .gauge(
                    "batch_job_last_start_timestamp_seconds",
                    "When the job last began, since the Unix epoch.",
                )
                .labels([JOB])
                .register()?,
            last_success: registry
                .gauge(
                    "batch_job_last_success_timestamp_seconds",
                    "When the job last succeeded, since the Unix epoch.",
                )
                .labels([JOB])
                .register()?,
            duration: registry
                .gauge("batch_job_duration_seconds", "How long the job's last run took.")
                .labels([JOB])
                .register()?,
            outcome: registry
                .int_gauge(
                    "batch_job_outcome",
                    "How the job's last run ended: 1 for its outcome, 0 for the others.",
                )
                .labels([JOB, "outcome"])
                .register()?,
            records: registry
                .counter(
                    "batch_job_records_total",
                    "Records that the job has processed, by kind.",
                )
                .labels([JOB, "kind"])
                .register()?,
        })
    }

    pub(crate) fn started(&self, at: Duration) {
        self.last_start.with([&*self.job]).set(at.as_secs_f64());
    }

    /// Of a run that did not succeed the last success is not touched: where it was not known, it still is not, and a gateway that
    /// replaces metrics by their names keeps the one that it has.
    pub(crate) fn ended(&self, outcome: JobOutcome, at: Duration, duration: Duration) {
        self.duration.with([&*self.job]).set(duration.as_secs_f64());
        for each in JobOutcome::ALL {
            let state = self.outcome.with([&*self.job, each.as_str()]);
            state.set(i64::from(each == outcome));
        }
        if outcome == JobOutcome::Success {
            self.last_success.with([&*self.job]).set(at.as_secs_f64());
        }
    }

    pub(crate) fn records(&self, kind: &str) -> Counter {
        self.records.handle([&*self.job, kind])
    }
}

const JOB: &str = "batch_job";
