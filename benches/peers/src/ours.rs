//! `tidegauge`: held handles to record, `Family::with` to look up, `Registry::encode` into a reused
//! buffer to scrape, an [`Exporter`](tidegauge::Exporter) to push. Label values are borrowed, so there is one row for all
//! kinds of them.

mod export;
mod statsd;

use crate::data::{BOUNDS, LOOKUP_SERIES, Labels};
use crate::exposition::{COUNTER, HISTOGRAM, sum};
use crate::library::{Buffer, Fill, Library, Reading, Record, Registry, Total, Writer, recording};
use crate::report::OURS;
use std::hint::black_box;
use tidegauge::{Buckets, Counter, Family, Format, Histogram};

/// What the library can do.
pub const LIBRARY: Library = Library {
    counter_inc: Some(counter_inc),
    float_counter_add: Some(float_counter_add),
    gauge_set: Some(gauge_set),
    histogram_observe: Some(histogram_observe),
    distribution_observe: Some(distribution_observe),
    lookup_inc: Some(lookup_inc),
    registry: Some(|series| Box::new(Families::new(series))),
    export: Some(export::cumulative),
    export_delta: Some(export::delta),
    outage: Some(export::outage),
    counter_inc_beside_hang: Some(export::counter_inc_beside_hang),
    statsd_counter_inc: Some(statsd::counter_inc),
    statsd_encode: Some(statsd::encode),
    statsd_push: Some(statsd::push),
    ..Library::named(OURS)
};

fn counter_inc() -> Box<dyn Record> {
    let registry = tidegauge::Registry::new();
    let counter = registry
        .counter("jobs_total", "Jobs run.")
        .register()
        .expect("the name is valid and free");
    recording(
        (counter, registry),
        |(counter, _), lane| lane.repeat(|| black_box(counter).inc()),
        |(counter, _)| Total::count(counter.get()),
    )
}

fn float_counter_add() -> Box<dyn Record> {
    let registry = tidegauge::Registry::new();
    let counter = registry
        .float_counter("energy", "Energy used.")
        .unit("J")
        .register()
        .expect("the name is valid and free");
    recording(
        (counter, registry),
        |(counter, _), lane| lane.amounts(|amount| black_box(counter).add(amount)),
        |(counter, _)| Total::sum(counter.get()),
    )
}

fn gauge_set() -> Box<dyn Record> {
    let registry = tidegauge::Registry::new();
    let gauge = registry
        .gauge("temperature", "Temperature.")
        .unit("Cel")
        .register()
        .expect("the name is valid and free");
    recording(
        (gauge, registry),
        |(gauge, _), lane| lane.amounts(|amount| black_box(gauge).set(amount)),
        |(gauge, _)| Total::sum(gauge.get()),
    )
}

fn histogram_observe() -> Box<dyn Record> {
    let registry = tidegauge::Registry::new();
    let histogram = registry
        .histogram("latency", "Latency.")
        .unit("s")
        .buckets(bounds())
        .register()
        .expect("the name is valid and free");
    recording(
        (histogram, registry),
        |(histogram, _), lane| lane.observations(|value| black_box(histogram).observe(value)),
        // Out of the text, like anybody who does not hold the handle.
        |(_, registry)| {
            let text = text_of(registry);
            Total::both(
                sum(&text, "latency_seconds_count") as u64,
                sum(&text, "latency_seconds_sum"),
            )
        },
    )
}

fn distribution_observe() -> Box<dyn Record> {
    let registry = tidegauge::Registry::new();
    let distribution = registry
        .distribution("latency", "Latency.")
        .unit("s")
        .buckets(bounds())
        .register()
        .expect("the name is valid and free");
    recording(
        (distribution, registry),
        |(distribution, _), lane| lane.observations(|value| black_box(distribution).observe(value)),
        |(distribution, _)| {
            let observed = distribution.get();
            Total::both(observed.count(), observed.sum())
        },
    )
}

fn lookup_inc() -> Box<dyn Record> {
    recording(
        Families::new(LOOKUP_SERIES),
        |families, lane| {
            lane.lookups(|labels| families.counters.with(black_box(labels)).inc());
        },
        |families| Total::count(sum(&text_of(&families.registry), COUNTER) as u64),
    )
}

fn bounds() -> Buckets {
    Buckets::explicit(BOUNDS).expect("the bounds ascend")
}

fn text_of(registry: &tidegauge::Registry) -> String {
    let mut buffer = Buffer::default();
    registry.snapshot().encode(Format::Text, &mut buffer.bytes);
    buffer.written().to_owned()
}

struct Families {
    registry: tidegauge::Registry,
    counters: Family<Counter, 3>,
    histograms: Family<Histogram, 3>,
}

impl Families {
    fn new(series: usize) -> Self {
        const LABELS: [&str; 3] = ["method", "route", "status"];
        let registry = tidegauge::Registry::new();
        let counters = registry
            .counter(COUNTER, "Requests served.")
            .labels(LABELS)
            .limit(series)
            .register()
            .expect("names are valid and free");
        let histograms = registry
            .histogram(HISTOGRAM, "Time to serve.")
            .unit("s")
            .buckets(bounds())
            .labels(LABELS)
            .limit(series)
            .register()
            .expect("names are valid and free");
        Self {
            registry,
            counters,
            histograms,
        }
    }
}

impl Fill for Families {
    fn count(&self, labels: Labels, amount: u64) {
        self.counters.with(labels).add(amount);
    }

    fn observe(&self, labels: Labels, value: f64) {
        self.histograms.with(labels).observe(value);
    }
}

impl Registry for Families {
    fn hammer(&self, labels: &[Labels], writer: &Writer) {
        let handles: Vec<Counter> = labels.iter().map(|labels| self.counters.handle(*labels)).collect();
        writer.hammer(&handles, Counter::inc);
    }

    fn scrape(&self, buffer: &mut Buffer) {
        self.registry.snapshot().encode(Format::Text, &mut buffer.bytes);
    }

    fn read(&self, reading: Reading, buffer: &mut Buffer) -> bool {
        match reading {
            Reading::Snapshot => {
                black_box(self.registry.snapshot());
            }
            Reading::OpenMetrics => self.registry.snapshot().encode(Format::OpenMetrics, &mut buffer.bytes),
            Reading::Reply => {
                black_box(self.registry.scrape(None, None));
            }
        }
        true
    }
}
