//! `metrics` with `metrics-exporter-prometheus`: handles kept from the macros to record, the macros
//! themselves to look up, `render_to_write` into a reused buffer to scrape.
//!
//! Histograms keep raw values until they are drained (`run_upkeep`); that is done outside the
//! measured time, which flatters `histogram_observe`. Label values are owned; the macros may borrow
//! those that live as long as the process, which has a row of its own. Counters are whole numbers.

use crate::data::{BOUNDS, Labels, Lane};
use crate::exposition::{COUNTER, sum};
use crate::library::{Buffer, Fill, Library, Record, Registry, Total, Writer, recording};
use metrics::{Counter, counter, gauge, histogram, with_local_recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use std::hint::black_box;

/// What the library can do.
pub const LIBRARY: Library = Library {
    counter_inc: Some(counter_inc),
    gauge_set: Some(gauge_set),
    histogram_observe: Some(histogram_observe),
    lookup_inc: Some(lookup_inc),
    registry: Some(|_| Box::new(Recorder::new())),
    ..Library::named("metrics")
};

/// The same with label values that live as long as the process.
pub const STATIC: Library = Library {
    lookup_inc: Some(lookup_inc_static),
    ..Library::named("metrics-static")
};

fn counter_inc() -> Box<dyn Record> {
    let recorder = Recorder::new();
    let counter = with_local_recorder(&recorder.recorder, || counter!("jobs_total"));
    recording(
        (counter, recorder),
        |(counter, _), lane| lane.repeat(|| black_box(counter).increment(1)),
        |(_, recorder)| Total::count(recorder.sum("jobs_total") as u64),
    )
}

fn gauge_set() -> Box<dyn Record> {
    let recorder = Recorder::new();
    let gauge = with_local_recorder(&recorder.recorder, || gauge!("temperature_celsius"));
    recording(
        (gauge, recorder),
        |(gauge, _), lane| lane.amounts(|amount| black_box(gauge).set(amount)),
        |(_, recorder)| Total::sum(recorder.sum("temperature_celsius")),
    )
}

fn histogram_observe() -> Box<dyn Record> {
    let recorder = Recorder::new();
    let histogram = with_local_recorder(&recorder.recorder, || histogram!("latency_seconds"));
    Box::new(Drained { recorder, histogram })
}

struct Drained {
    recorder: Recorder,
    histogram: metrics::Histogram,
}

impl Record for Drained {
    fn run(&self, lane: Lane) {
        lane.observations(|value| black_box(&self.histogram).record(value));
    }

    fn settle(&self) {
        self.recorder.handle.run_upkeep();
    }

    fn total(&self) -> Total {
        Total::both(
            self.recorder.sum("latency_seconds_count") as u64,
            self.recorder.sum("latency_seconds_sum"),
        )
    }
}

fn lookup_inc() -> Box<dyn Record> {
    recording(
        Recorder::new(),
        |recorder, lane| {
            with_local_recorder(&recorder.recorder, || {
                lane.lookups(|labels| owned(black_box(labels)).increment(1));
            });
        },
        |recorder| Total::count(recorder.sum(COUNTER) as u64),
    )
}

fn lookup_inc_static() -> Box<dyn Record> {
    recording(
        Recorder::new(),
        |recorder, lane| {
            with_local_recorder(&recorder.recorder, || {
                lane.lookups(|labels| {
                    let [method, route, status] = black_box(labels);
                    counter!("http_requests_total",
                        "method" => method, "route" => route, "status" => status)
                    .increment(1);
                });
            });
        },
        |recorder| Total::count(recorder.sum(COUNTER) as u64),
    )
}

#[inline(always)]
fn owned([method, route, status]: Labels) -> Counter {
    counter!("http_requests_total", "method" => method.to_owned(),
        "route" => route.to_owned(), "status" => status.to_owned())
}

struct Recorder {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl Recorder {
    fn new() -> Self {
        let recorder = PrometheusBuilder::new()
            .set_buckets(&BOUNDS)
            .expect("there are bounds")
            .build_recorder();
        let handle = recorder.handle();
        Self { recorder, handle }
    }

    fn sum(&self, name: &str) -> f64 {
        sum(&self.handle.render(), name)
    }
}

impl Fill for Recorder {
    fn count(&self, labels: Labels, amount: u64) {
        with_local_recorder(&self.recorder, || owned(labels).increment(amount));
    }

    fn observe(&self, [method, route, status]: Labels, value: f64) {
        with_local_recorder(&self.recorder, || {
            histogram!("http_request_duration_seconds", "method" => method.to_owned(),
                "route" => route.to_owned(), "status" => status.to_owned())
            .record(value);
        });
    }
}

impl Registry for Recorder {
    fn hammer(&self, labels: &[Labels], writer: &Writer) {
        let handles: Vec<Counter> =
            with_local_recorder(&self.recorder, || labels.iter().map(|labels| owned(*labels)).collect());
        writer.hammer(&handles, |counter| counter.increment(1));
    }

    fn scrape(&self, buffer: &mut Buffer) {
        buffer.bytes.clear();
        self.handle
            .render_to_write(&mut buffer.bytes)
            .expect("memory takes every write");
    }
}
