//! `fastmetrics`: held handles to record, `Family::with_or_new` with a label struct to look up,
//! `format::text::encode` (0.0.4) into a reused `String` to scrape.
//!
//! The struct owns its label values; with values known when the program is written it may borrow
//! them instead, which has a row of its own.

use crate::data::{BOUNDS, Labels};
use crate::exposition::{COUNTER, HISTOGRAM, sum};
use crate::library::{Buffer, Fill, Library, Record, Registry, Total, Writer, recording};
use fastmetrics::derive::{EncodeLabelSet, LabelSetSchema};
use fastmetrics::encoder::EncodeLabelSet;
use fastmetrics::format::text::{self, TextProfile};
use fastmetrics::metrics::counter::Counter;
use fastmetrics::metrics::family::Family;
use fastmetrics::metrics::gauge::Gauge;
use fastmetrics::metrics::histogram::Histogram;
use fastmetrics::raw::LabelSetSchema;
use std::hash::Hash;
use std::hint::black_box;

/// What the library can do.
pub const LIBRARY: Library = Library {
    counter_inc: Some(counter_inc),
    float_counter_add: Some(float_counter_add),
    gauge_set: Some(gauge_set),
    histogram_observe: Some(histogram_observe),
    lookup_inc: Some(lookup_inc::<Owned>),
    registry: Some(|_| Box::new(Families::<Owned>::new())),
    ..Library::named("fastmetrics")
};

/// The same with label values that live as long as the process.
pub const STATIC: Library = Library {
    lookup_inc: Some(lookup_inc::<Borrowed>),
    ..Library::named("fastmetrics-static")
};

fn counter_inc() -> Box<dyn Record> {
    recording(
        <Counter>::default(),
        |counter, lane| lane.repeat(|| black_box(counter).inc()),
        |counter| Total::count(counter.total()),
    )
}

fn float_counter_add() -> Box<dyn Record> {
    recording(
        Counter::<f64>::default(),
        |counter, lane| lane.amounts(|amount| black_box(counter).inc_by(amount)),
        |counter| Total::sum(counter.total()),
    )
}

fn gauge_set() -> Box<dyn Record> {
    recording(
        Gauge::<f64>::default(),
        |gauge, lane| lane.amounts(|amount| black_box(gauge).set(amount)),
        |gauge| Total::sum(gauge.get()),
    )
}

fn histogram_observe() -> Box<dyn Record> {
    recording(
        Histogram::new(BOUNDS),
        |histogram, lane| lane.observations(|value| black_box(histogram).observe(value)),
        |histogram| histogram.with_snapshot(|held| Total::both(held.count(), held.sum())),
    )
}

fn lookup_inc<L: Key>() -> Box<dyn Record> {
    recording(
        Families::<L>::new(),
        |families, lane| {
            lane.lookups(|labels| {
                let labels = L::from_labels(black_box(labels));
                families.counters.with_or_new(&labels, Counter::inc);
            });
        },
        |families| {
            let mut buffer = Buffer::default();
            families.scrape(&mut buffer);
            Total::count(sum(buffer.written(), COUNTER) as u64)
        },
    )
}

trait Key: Clone + Eq + Hash + EncodeLabelSet + LabelSetSchema + Send + Sync + 'static {
    fn from_labels(labels: Labels) -> Self;
}

#[derive(Clone, PartialEq, Eq, Hash, EncodeLabelSet, LabelSetSchema)]
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

#[derive(Clone, PartialEq, Eq, Hash, EncodeLabelSet, LabelSetSchema)]
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
    registry: fastmetrics::registry::Registry,
    counters: Family<L, Counter>,
    histograms: Family<L, Histogram>,
}

impl<L: Key> Families<L> {
    fn new() -> Self {
        let counters = Family::<L, Counter>::default();
        let histograms = Family::<L, Histogram>::new(|| Histogram::new(BOUNDS));
        let mut registry = fastmetrics::registry::Registry::default();
        // This text format takes names as they are.
        registry
            .register(COUNTER, "Requests served", counters.clone())
            .expect("the name is free");
        registry
            .register(HISTOGRAM, "Time to serve", histograms.clone())
            .expect("the name is free");
        Self {
            registry,
            counters,
            histograms,
        }
    }
}

impl<L: Key> Fill for Families<L> {
    fn count(&self, labels: Labels, amount: u64) {
        self.counters
            .with_or_new(&L::from_labels(labels), |counter| counter.inc_by(amount));
    }

    fn observe(&self, labels: Labels, value: f64) {
        self.histograms.with_or_new(&L::from_labels(labels), |histogram| {
            histogram.observe(value);
        });
    }
}

impl<L: Key> Registry for Families<L> {
    fn hammer(&self, labels: &[Labels], writer: &Writer) {
        let handles: Vec<Counter> = labels
            .iter()
            .map(|labels| self.counters.with_or_new(&L::from_labels(*labels), Counter::clone))
            .collect();
        writer.hammer(&handles, Counter::inc);
    }

    fn scrape(&self, buffer: &mut Buffer) {
        buffer.text.clear();
        text::encode(&mut buffer.text, &self.registry, TextProfile::PrometheusV0_0_4)
            .expect("memory takes every write");
    }
}
