//! `prometheus-client`: held handles to record, `Family::get_or_create` with a label struct to look
//! up, `encoding::text::encode` (OpenMetrics) into a reused `String` to scrape.
//!
//! The struct owns its label values; with values known when the program is written it may borrow
//! them instead, which has a row of its own.

use crate::data::{BOUNDS, Labels};
use crate::exposition::{COUNTER, HISTOGRAM, sum};
use crate::library::{Buffer, Fill, Library, Record, Registry, Total, Writer, recording};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, NativeHistogramConfig};
use std::hash::Hash;
use std::hint::black_box;
use std::sync::atomic::AtomicU64;

/// What the library can do.
pub const LIBRARY: Library = Library {
    counter_inc: Some(counter_inc),
    float_counter_add: Some(float_counter_add),
    gauge_set: Some(gauge_set),
    histogram_observe: Some(histogram_observe),
    exponential_observe: Some(exponential_observe),
    lookup_inc: Some(lookup_inc::<Owned>),
    registry: Some(|_| Box::new(Families::<Owned>::new())),
    ..Library::named("prometheus-client")
};

/// The same with label values that live as long as the process.
pub const STATIC: Library = Library {
    lookup_inc: Some(lookup_inc::<Borrowed>),
    ..Library::named("prometheus-client-static")
};

fn counter_inc() -> Box<dyn Record> {
    recording(
        <Counter>::default(),
        |counter, lane| {
            lane.repeat(|| {
                black_box(counter).inc();
            });
        },
        |counter| Total::count(counter.get()),
    )
}

fn float_counter_add() -> Box<dyn Record> {
    recording(
        Counter::<f64, AtomicU64>::default(),
        |counter, lane| {
            lane.amounts(|amount| {
                black_box(counter).inc_by(amount);
            });
        },
        |counter| Total::sum(counter.get()),
    )
}

fn gauge_set() -> Box<dyn Record> {
    recording(
        Gauge::<f64, AtomicU64>::default(),
        |gauge, lane| {
            lane.amounts(|amount| {
                black_box(gauge).set(amount);
            });
        },
        |gauge| Total::sum(gauge.get()),
    )
}

fn histogram_observe() -> Box<dyn Record> {
    recording(
        Histogram::new(BOUNDS),
        |histogram, lane| lane.observations(|value| black_box(histogram).observe(value)),
        |histogram| Total::both(histogram.count(), histogram.sum()),
    )
}

/// A native histogram with eight buckets to a power of two.
fn exponential_observe() -> Box<dyn Record> {
    recording(
        Histogram::new_native(NativeHistogramConfig::with_schema(3)),
        |histogram, lane| lane.observations(|value| black_box(histogram).observe(value)),
        |histogram| Total::both(histogram.count(), histogram.sum()),
    )
}

fn lookup_inc<L: Key>() -> Box<dyn Record> {
    recording(
        Families::<L>::new(),
        |families, lane| {
            lane.lookups(|labels| {
                let labels = L::from_labels(black_box(labels));
                families.counters.get_or_create(&labels).inc();
            });
        },
        |families| {
            let mut buffer = Buffer::default();
            families.scrape(&mut buffer);
            Total::count(sum(buffer.written(), COUNTER) as u64)
        },
    )
}

trait Key: Clone + Eq + Hash + std::fmt::Debug + EncodeLabelSet + Send + Sync + 'static {
    fn from_labels(labels: Labels) -> Self;
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Owned {
    method: String,
    route: String,
    status: String,
}

impl Key for Owned {
    #[inline(always)]
    fn from_labels([method, route, status]: Labels) -> Self {
        Self {
            method: method.to_owned(),
            route: route.to_owned(),
            status: status.to_owned(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Borrowed {
    method: &'static str,
    route: &'static str,
    status: &'static str,
}

impl Key for Borrowed {
    #[inline(always)]
    fn from_labels([method, route, status]: Labels) -> Self {
        Self { method, route, status }
    }
}

struct Families<L> {
    registry: prometheus_client::registry::Registry,
    counters: Family<L, Counter>,
    histograms: Family<L, Histogram>,
}

impl<L: Key> Families<L> {
    fn new() -> Self {
        let counters = Family::<L, Counter>::default();
        let histograms = Family::<L, Histogram>::new_with_constructor(|| Histogram::new(BOUNDS));
        let mut registry = prometheus_client::registry::Registry::default();
        // The encoder adds `_total`.
        registry.register("http_requests", "Requests served", counters.clone());
        registry.register(HISTOGRAM, "Time to serve", histograms.clone());
        Self {
            registry,
            counters,
            histograms,
        }
    }
}

impl<L: Key> Fill for Families<L> {
    fn count(&self, labels: Labels, amount: u64) {
        self.counters.get_or_create(&L::from_labels(labels)).inc_by(amount);
    }

    fn observe(&self, labels: Labels, value: f64) {
        self.histograms.get_or_create(&L::from_labels(labels)).observe(value);
    }
}

impl<L: Key> Registry for Families<L> {
    fn hammer(&self, labels: &[Labels], writer: &Writer) {
        let handles: Vec<Counter> = labels
            .iter()
            .map(|labels| self.counters.get_or_create_owned(&L::from_labels(*labels)))
            .collect();
        writer.hammer(&handles, |counter| {
            counter.inc();
        });
    }

    fn scrape(&self, buffer: &mut Buffer) {
        buffer.text.clear();
        text::encode(&mut buffer.text, &self.registry).expect("memory takes every write");
    }
}
