//! The peers, one file each; what is said in a file holds for the way the library is driven.

use crate::library::Library;

mod cadence;
mod dogstatsd;
mod fastmetrics;
mod measured;
mod metrics;
mod metriken;
mod opentelemetry;
mod prometheus;
mod prometheus_client;

/// Every peer, and every way to use one that is worth a row of its own.
pub const ALL: [Library; 17] = [
    prometheus::LIBRARY,
    prometheus_client::LIBRARY,
    prometheus_client::STATIC,
    fastmetrics::LIBRARY,
    fastmetrics::STATIC,
    measured::LIBRARY,
    measured::FIXED,
    metrics::LIBRARY,
    metrics::STATIC,
    metriken::LIBRARY,
    metriken::SHARDED,
    opentelemetry::LIBRARY,
    opentelemetry::STATIC,
    cadence::UNBUFFERED,
    cadence::BUFFERED,
    cadence::QUEUED,
    dogstatsd::LIBRARY,
];
