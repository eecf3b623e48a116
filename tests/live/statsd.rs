//! Servers that speak StatsD, as each of them has its own way with it: what they say they have is what was recorded.

mod burst;
mod collectd;
mod collector;
mod etsy;
mod exporter;
mod golden;
mod pushing;
mod reading;
mod servers;
mod sockets;
mod telegraf;
mod vanishing;
mod workload;

use crate::program::PATIENCE;
use std::thread;
use std::time::{Duration, Instant};
use tidegauge::{Exporter, ExporterHandle, Registry, StatsD, StatsDBuilder};
use workload::ENVIRONMENT;

/// A destination that the environment of the tests has no say in, and that says nothing of itself.
fn statsd(url: &str) -> StatsDBuilder {
    StatsD::builder(url)
        .environment(false)
        .origin_detection(false)
        .client_telemetry(false)
        .tag(ENVIRONMENT.0, ENVIRONMENT.1)
}

/// An exporter that collects when it is told to, and hardly ever else.
fn on_demand(destination: StatsD, registry: &Registry) -> ExporterHandle {
    Exporter::new(destination)
        .interval(Duration::from_secs(3600))
        .phase(false)
        .start(registry)
        .unwrap()
}

/// Collects once and fails unless all of it was delivered.
#[track_caller]
fn deliver(exporter: &ExporterHandle) {
    if let Err(error) = exporter.flush(PATIENCE) {
        panic!("{error}");
    }
}

#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::yield_now();
    }
}
