//! `measured`: its own metric types to record and look up, `TextEncoder` into a reused buffer to
//! scrape. Label values become integers through sets: methods and statuses are declared at start-up
//! (`RodeoReader`), routes are interned as they come (`ParaCord`), both as in its own benchmarks.
//!
//! With every value declared at start-up the 1,024 series lie in one dense array; that has a row of
//! its own. There is no counter of floating-point amounts.

use crate::data::{BOUNDS, Data, Labels};
use crate::exposition::{COUNTER, sum};
use crate::library::{Buffer, Fill, Library, Record, Registry, Total, Writer, recording};
use measured::lasso::{Rodeo, RodeoReader, Spur};
use measured::metric::histogram::Thresholds;
use measured::text::TextEncoder;
use measured::{Counter, CounterVec, FloatGauge, Histogram, HistogramVec, LabelGroup, MetricGroup};
use paracord::ParaCord;
use std::hint::black_box;
use std::sync::atomic::Ordering;

/// What the library can do.
pub const LIBRARY: Library = Library {
    counter_inc: Some(counter_inc),
    gauge_set: Some(gauge_set),
    histogram_observe: Some(histogram_observe),
    lookup_inc: Some(lookup_inc),
    registry: Some(|_| Box::new(Families::new())),
    ..Library::named("measured")
};

/// The same with every label value declared at start-up.
pub const FIXED: Library = Library {
    lookup_inc: Some(lookup_inc_fixed),
    ..Library::named("measured-fixed")
};

fn counter_inc() -> Box<dyn Record> {
    recording(
        Counter::new(),
        |counter, lane| lane.repeat(|| black_box(counter).inc()),
        |counter| Total::count(counter.get_metric().count.load(Ordering::Relaxed)),
    )
}

fn gauge_set() -> Box<dyn Record> {
    recording(
        FloatGauge::new(),
        |gauge, lane| lane.amounts(|amount| black_box(gauge).set(amount)),
        |gauge| Total::sum(gauge.get_metric().count.get()),
    )
}

fn histogram_observe() -> Box<dyn Record> {
    recording(
        Histogram::with_metadata(Thresholds::with_buckets(BOUNDS)),
        |histogram, lane| lane.observations(|value| black_box(histogram).observe(value)),
        |histogram| {
            let metric = histogram.get_metric();
            let held = metric.inner.read();
            let in_buckets: u64 = held
                .buckets
                .iter()
                .chain([&held.inf])
                .map(|bucket| bucket.load(Ordering::Relaxed))
                .sum();
            Total::both(in_buckets, held.sum.get())
        },
    )
}

fn lookup_inc() -> Box<dyn Record> {
    recording(
        Families::new(),
        |families, lane| {
            lane.lookups(|labels| families.http_requests_total.inc(open(black_box(labels))));
        },
        |families| Total::count(sum(&text_of(families), COUNTER) as u64),
    )
}

fn lookup_inc_fixed() -> Box<dyn Record> {
    recording(
        FixedFamily::new(),
        |family, lane| {
            lane.lookups(|labels| {
                let [method, route, status] = black_box(labels);
                family.http_requests_total.inc(FixedLabels { method, route, status });
            });
        },
        |family| Total::count(sum(&text_of(family), COUNTER) as u64),
    )
}

type Declared = RodeoReader<Spur, ahash::RandomState>;

fn declared(values: &[&'static str]) -> Declared {
    let mut interner = Rodeo::with_hasher(ahash::RandomState::new());
    for value in values {
        interner.get_or_intern_static(value);
    }
    interner.into_reader()
}

#[derive(Clone, Copy, LabelGroup)]
#[label(set = OpenLabelSet)]
struct OpenLabels<'a> {
    #[label(fixed_with = RodeoReader<Spur, ahash::RandomState>)]
    method: &'a str,
    #[label(dynamic_with = ParaCord)]
    route: &'a str,
    #[label(fixed_with = RodeoReader<Spur, ahash::RandomState>)]
    status: &'a str,
}

#[inline(always)]
fn open([method, route, status]: Labels) -> OpenLabels<'static> {
    OpenLabels { method, route, status }
}

fn open_set() -> OpenLabelSet {
    OpenLabelSet {
        method: declared(Data::methods()),
        route: ParaCord::default(),
        status: declared(Data::statuses()),
    }
}

#[derive(Clone, Copy, LabelGroup)]
#[label(set = FixedLabelSet)]
struct FixedLabels<'a> {
    #[label(fixed_with = RodeoReader<Spur, ahash::RandomState>)]
    method: &'a str,
    #[label(fixed_with = RodeoReader<Spur, ahash::RandomState>)]
    route: &'a str,
    #[label(fixed_with = RodeoReader<Spur, ahash::RandomState>)]
    status: &'a str,
}

#[derive(MetricGroup)]
struct FixedFamily {
    /// Requests served.
    http_requests_total: CounterVec<FixedLabelSet>,
}

impl FixedFamily {
    fn new() -> Self {
        let labels = Data::shared().lookup_labels();
        let distinct = |position: usize| -> Vec<&'static str> {
            let mut values: Vec<_> = labels.iter().map(|labels| labels[position]).collect();
            values.sort_unstable();
            values.dedup();
            values
        };
        Self {
            http_requests_total: CounterVec::dense_with_label_set(FixedLabelSet {
                method: declared(&distinct(0)),
                route: declared(&distinct(1)),
                status: declared(&distinct(2)),
            }),
        }
    }
}

#[derive(MetricGroup)]
struct Families {
    /// Requests served.
    http_requests_total: CounterVec<OpenLabelSet>,
    /// Time to serve.
    http_request_duration_seconds: HistogramVec<OpenLabelSet, { BOUNDS.len() }>,
}

impl Families {
    fn new() -> Self {
        Self {
            http_requests_total: CounterVec::with_label_set(open_set()),
            http_request_duration_seconds: HistogramVec::with_label_set_and_metadata(
                open_set(),
                Thresholds::with_buckets(BOUNDS),
            ),
        }
    }
}

fn text_of<G: for<'a> MetricGroup<TextEncoder<&'a mut Vec<u8>>>>(group: &G) -> String {
    let mut buffer = Buffer::default();
    write(group, &mut buffer);
    buffer.written().to_owned()
}

fn write<G: for<'a> MetricGroup<TextEncoder<&'a mut Vec<u8>>>>(group: &G, buffer: &mut Buffer) {
    buffer.bytes.clear();
    group
        .collect_group_into(&mut TextEncoder::new(&mut buffer.bytes))
        .expect("memory takes every write");
}

impl Fill for Families {
    fn count(&self, labels: Labels, amount: u64) {
        self.http_requests_total.inc_by(open(labels), amount);
    }

    fn observe(&self, labels: Labels, value: f64) {
        self.http_request_duration_seconds.observe(open(labels), value);
    }
}

impl Registry for Families {
    fn hammer(&self, labels: &[Labels], writer: &Writer) {
        let family = &self.http_requests_total;
        let identifiers: Vec<_> = labels.iter().map(|labels| family.with_labels(open(*labels))).collect();
        writer.hammer(&identifiers, |identifier| {
            family.get_metric(*identifier).inc();
        });
    }

    fn scrape(&self, buffer: &mut Buffer) {
        write(self, buffer);
    }
}
