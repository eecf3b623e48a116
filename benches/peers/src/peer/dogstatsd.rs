//! `metrics` with `metrics-exporter-dogstatsd`: handles kept from the macros, which a thread of the exporter's own flushes and
//! sends. That thread cannot be told to flush, nor be ended; so its flushes are measured as they come, by the time it is on a
//! core, sends included, and it goes on beside what is measured next.

use crate::data::Labels;
use crate::exposition::COUNTER;
use crate::library::{Fill, Library, Push, Record, Total, recording};
use crate::server::Server;
use crate::workload::statsd::{INTERVAL, await_silence};
use metrics::{counter, with_local_recorder};
use metrics_exporter_dogstatsd::{DogStatsDBuilder, DogStatsDRecorder};
use std::hint::black_box;
use std::net::SocketAddr;

/// What the library can do.
pub const LIBRARY: Library = Library {
    statsd_counter_inc: Some(counter_inc),
    statsd_push: Some(|_, server| Box::new(Pushed(recorder(server)))),
    ..Library::named("metrics-exporter-dogstatsd")
};

fn counter_inc() -> Box<dyn Record> {
    let server = Server::start();
    let recorder = recorder(server.address());
    let counter = with_local_recorder(&recorder, || counter!("jobs_total"));
    recording(
        (counter, server, recorder),
        |(counter, ..), lane| lane.repeat(|| black_box(counter).increment(1)),
        |(_, server, _)| Total::count(await_silence(server)),
    )
}

fn recorder(server: SocketAddr) -> DogStatsDRecorder {
    DogStatsDBuilder::default()
        .with_remote_address(server.to_string())
        .expect("the address is one")
        .with_flush_interval(INTERVAL)
        .with_telemetry(false)
        .build()
        .expect("the settings are valid")
}

struct Pushed(DogStatsDRecorder);

impl Fill for Pushed {
    fn count(&self, [method, route, status]: Labels, amount: u64) {
        with_local_recorder(&self.0, || {
            counter!(COUNTER, "method" => method, "route" => route, "status" => status).increment(amount);
        });
    }

    fn observe(&self, _labels: Labels, _value: f64) {
        unreachable!("only counters are pushed here")
    }
}

impl Push for Pushed {
    fn threads(&self) -> &'static str {
        "metrics-exporte"
    }
}
