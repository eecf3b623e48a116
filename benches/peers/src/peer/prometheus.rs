//! `prometheus`: held handles to record, `with_label_values` to look up, `TextEncoder` into a
//! reused buffer to scrape. Label values are borrowed, so there is one row for all kinds of them.

use crate::data::{BOUNDS, Labels};
use crate::exposition::{COUNTER, HISTOGRAM, sum};
use crate::library::{Buffer, Fill, Library, Record, Registry, Total, Writer, recording};
use prometheus::{
    Counter, Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, TextEncoder,
};
use std::hint::black_box;

/// What the library can do.
pub const LIBRARY: Library = Library {
    counter_inc: Some(counter_inc),
    float_counter_add: Some(float_counter_add),
    gauge_set: Some(gauge_set),
    histogram_observe: Some(histogram_observe),
    lookup_inc: Some(lookup_inc),
    registry: Some(|_| Box::new(Families::new())),
    ..Library::named("prometheus")
};

fn counter_inc() -> Box<dyn Record> {
    recording(
        IntCounter::new("jobs_total", "Jobs run.").expect("the name is valid"),
        |counter, lane| lane.repeat(|| black_box(counter).inc()),
        |counter| Total::count(counter.get()),
    )
}

fn float_counter_add() -> Box<dyn Record> {
    recording(
        Counter::new("energy_joules_total", "Energy used.").expect("the name is valid"),
        |counter, lane| lane.amounts(|amount| black_box(counter).inc_by(amount)),
        |counter| Total::sum(counter.get()),
    )
}

fn gauge_set() -> Box<dyn Record> {
    recording(
        Gauge::new("temperature_celsius", "Temperature.").expect("the name is valid"),
        |gauge, lane| lane.amounts(|amount| black_box(gauge).set(amount)),
        |gauge| Total::sum(gauge.get()),
    )
}

fn histogram_observe() -> Box<dyn Record> {
    let options = HistogramOpts::new("latency_seconds", "Latency.").buckets(BOUNDS.to_vec());
    recording(
        Histogram::with_opts(options).expect("name and bounds are valid"),
        |histogram, lane| lane.observations(|value| black_box(histogram).observe(value)),
        |histogram| Total::both(histogram.get_sample_count(), histogram.get_sample_sum()),
    )
}

fn lookup_inc() -> Box<dyn Record> {
    recording(
        Families::new(),
        |families, lane| {
            lane.lookups(|labels| {
                families.counters.with_label_values(black_box(&labels)).inc();
            });
        },
        |families| {
            let mut buffer = Buffer::default();
            families.scrape(&mut buffer);
            Total::count(sum(buffer.written(), COUNTER) as u64)
        },
    )
}

struct Families {
    registry: prometheus::Registry,
    counters: IntCounterVec,
    histograms: HistogramVec,
}

impl Families {
    fn new() -> Self {
        const LABELS: [&str; 3] = ["method", "route", "status"];
        let counters = IntCounterVec::new(Opts::new(COUNTER, "Requests served."), &LABELS).expect("names are valid");
        let options = HistogramOpts::new(HISTOGRAM, "Time to serve.").buckets(BOUNDS.to_vec());
        let histograms = HistogramVec::new(options, &LABELS).expect("names and bounds are valid");
        let registry = prometheus::Registry::new();
        registry.register(Box::new(counters.clone())).expect("the name is free");
        registry
            .register(Box::new(histograms.clone()))
            .expect("the name is free");
        Self {
            registry,
            counters,
            histograms,
        }
    }
}

impl Fill for Families {
    fn count(&self, labels: Labels, amount: u64) {
        self.counters.with_label_values(&labels).inc_by(amount);
    }

    fn observe(&self, labels: Labels, value: f64) {
        self.histograms.with_label_values(&labels).observe(value);
    }
}

impl Registry for Families {
    fn hammer(&self, labels: &[Labels], writer: &Writer) {
        let handles: Vec<IntCounter> = labels
            .iter()
            .map(|labels| self.counters.with_label_values(labels))
            .collect();
        writer.hammer(&handles, |counter| counter.inc());
    }

    fn scrape(&self, buffer: &mut Buffer) {
        buffer.bytes.clear();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut buffer.bytes)
            .expect("memory takes every write");
    }
}
