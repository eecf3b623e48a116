//! `opentelemetry_sdk`: instruments without attributes to record, instruments with three attributes
//! to look up, `opentelemetry-prometheus` with `prometheus::TextEncoder` into a reused buffer to
//! scrape. Cumulative; the cardinality limit is raised by a view; scope and target are left out of
//! the text, as nobody else writes them. To push, what `opentelemetry-otlp` does. Attribute values
//! are owned; those that live as long as the process may be borrowed, which has a row of its own.
//! Bound instruments are still experimental.

mod export;

use crate::data::{BOUNDS, LOOKUP_SERIES, Labels};
use crate::exposition::{COUNTER, HISTOGRAM, sum};
use crate::library::{Buffer, Fill, Library, Record, Registry, Total, Writer, recording};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter, MeterProvider};
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{Instrument, SdkMeterProvider, Stream};
use prometheus::{Encoder, TextEncoder};
use std::hint::black_box;

/// What the library can do.
pub const LIBRARY: Library = Library {
    counter_inc: Some(counter_inc),
    float_counter_add: Some(float_counter_add),
    gauge_set: Some(gauge_set),
    histogram_observe: Some(histogram_observe),
    lookup_inc: Some(lookup_inc),
    registry: Some(|series| Box::new(Families::new(series))),
    export: Some(export::cumulative),
    export_delta: Some(export::delta),
    ..Library::named("opentelemetry_sdk")
};

/// The same with attribute values that live as long as the process.
pub const STATIC: Library = Library {
    lookup_inc: Some(lookup_inc_static),
    ..Library::named("opentelemetry_sdk-static")
};

fn counter_inc() -> Box<dyn Record> {
    let provider = Provider::new(1);
    recording(
        (provider.meter().u64_counter("jobs").build(), provider),
        |(counter, _), lane| lane.repeat(|| black_box(counter).add(1, &[])),
        |(_, provider)| Total::count(provider.sum("jobs_total") as u64),
    )
}

fn float_counter_add() -> Box<dyn Record> {
    let provider = Provider::new(1);
    recording(
        (provider.meter().f64_counter("energy").build(), provider),
        |(counter, _), lane| lane.amounts(|amount| black_box(counter).add(amount, &[])),
        |(_, provider)| Total::sum(provider.sum("energy_total")),
    )
}

fn gauge_set() -> Box<dyn Record> {
    let provider = Provider::new(1);
    recording(
        (provider.meter().f64_gauge("temperature").build(), provider),
        |(gauge, _), lane| lane.amounts(|amount| black_box(gauge).record(amount, &[])),
        |(_, provider)| Total::sum(provider.sum("temperature")),
    )
}

fn histogram_observe() -> Box<dyn Record> {
    let provider = Provider::new(1);
    let histogram = provider
        .meter()
        .f64_histogram("latency")
        .with_boundaries(BOUNDS.to_vec())
        .build();
    recording(
        (histogram, provider),
        |(histogram, _), lane| {
            lane.observations(|value| black_box(histogram).record(value, &[]));
        },
        |(_, provider)| Total::both(provider.sum("latency_count") as u64, provider.sum("latency_sum")),
    )
}

fn lookup_inc() -> Box<dyn Record> {
    recording(
        Families::new(LOOKUP_SERIES),
        |families, lane| {
            lane.lookups(|labels| families.instruments.counters.add(1, &owned(black_box(labels))));
        },
        |families| Total::count(families.provider.sum(COUNTER) as u64),
    )
}

fn lookup_inc_static() -> Box<dyn Record> {
    recording(
        Families::new(LOOKUP_SERIES),
        |families, lane| {
            lane.lookups(|labels| {
                let [method, route, status] = black_box(labels);
                let attributes = [
                    KeyValue::new("method", method),
                    KeyValue::new("route", route),
                    KeyValue::new("status", status),
                ];
                families.instruments.counters.add(1, &attributes);
            });
        },
        |families| Total::count(families.provider.sum(COUNTER) as u64),
    )
}

#[inline(always)]
fn owned([method, route, status]: Labels) -> [KeyValue; 3] {
    [
        KeyValue::new("method", method.to_owned()),
        KeyValue::new("route", route.to_owned()),
        KeyValue::new("status", status.to_owned()),
    ]
}

/// The library makes room for the whole limit at once, so it is no larger than needed.
fn provider(reader: impl MetricReader, series: usize) -> SdkMeterProvider {
    SdkMeterProvider::builder()
        .with_reader(reader)
        .with_view(move |_: &Instrument| {
            let stream = Stream::builder().with_cardinality_limit(series);
            Some(stream.build().expect("the limit is valid"))
        })
        .build()
}

struct Provider {
    provider: SdkMeterProvider,
    registry: prometheus::Registry,
}

impl Provider {
    fn new(series: usize) -> Self {
        let registry = prometheus::Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .without_target_info()
            .scope_info_enabled(false)
            .build()
            .expect("the registry is empty");
        Self {
            provider: provider(exporter, series),
            registry,
        }
    }

    fn meter(&self) -> Meter {
        self.provider.meter("peers")
    }

    fn scrape(&self, buffer: &mut Buffer) {
        buffer.bytes.clear();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut buffer.bytes)
            .expect("memory takes every write");
    }

    fn sum(&self, name: &str) -> f64 {
        let mut buffer = Buffer::default();
        self.scrape(&mut buffer);
        sum(buffer.written(), name)
    }
}

struct Instruments {
    counters: Counter<u64>,
    histograms: Histogram<f64>,
}

impl Instruments {
    fn new(meter: &Meter) -> Self {
        Self {
            // `opentelemetry-prometheus` adds `_total`.
            counters: meter
                .u64_counter("http_requests")
                .with_description("Requests served.")
                .build(),
            histograms: meter
                .f64_histogram(HISTOGRAM)
                .with_description("Time to serve.")
                .with_boundaries(BOUNDS.to_vec())
                .build(),
        }
    }
}

impl Fill for Instruments {
    fn count(&self, labels: Labels, amount: u64) {
        self.counters.add(amount, &owned(labels));
    }

    fn observe(&self, labels: Labels, value: f64) {
        self.histograms.record(value, &owned(labels));
    }
}

struct Families {
    instruments: Instruments,
    provider: Provider,
}

impl Families {
    fn new(series: usize) -> Self {
        let provider = Provider::new(series);
        Self {
            instruments: Instruments::new(&provider.meter()),
            provider,
        }
    }
}

impl Fill for Families {
    fn count(&self, labels: Labels, amount: u64) {
        self.instruments.count(labels, amount);
    }

    fn observe(&self, labels: Labels, value: f64) {
        self.instruments.observe(labels, value);
    }
}

impl Registry for Families {
    /// There is no handle to a series: the attributes are made once, and looked up each time.
    fn hammer(&self, labels: &[Labels], writer: &Writer) {
        let attributes: Vec<[KeyValue; 3]> = labels.iter().map(|labels| owned(*labels)).collect();
        writer.hammer(&attributes, |attributes| {
            self.instruments.counters.add(1, attributes);
        });
    }

    fn scrape(&self, buffer: &mut Buffer) {
        self.provider.scrape(buffer);
    }
}
