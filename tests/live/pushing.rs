//! The crate pushes to real servers, with the exporter and the destination that a user has, and what the servers say they
//! got is what was recorded.

mod everything;
mod faults;
mod frozen;
mod secured;
mod to_collector;
mod to_prometheus;

use crate::points::{Number, Point, Series, Temporality, Value, texts};
use crate::program::PATIENCE;
use std::collections::HashMap;
use std::time::{Duration, SystemTime};
use tidegauge::{
    Buckets, Compression, Exporter, ExporterHandle, Histogram, Otlp, OtlpBuilder, Protocol, Registry, RetryPolicy,
    TemporalityPreference,
};

/// What the tests push as, where one service is enough.
const SERVICE: &str = "shop";

const FORMS: [(Protocol, Compression); 4] = [
    (Protocol::Protobuf, Compression::None),
    (Protocol::Protobuf, Compression::Gzip),
    (Protocol::Json, Compression::None),
    (Protocol::Json, Compression::Gzip),
];

/// A destination that the environment of the tests has no say in.
fn otlp(url: &str) -> OtlpBuilder {
    Otlp::builder().metrics_url(url).service_name(SERVICE).no_proxy()
}

/// An exporter that collects when it is told to, and hardly ever else.
fn on_demand(destination: OtlpBuilder, registry: &Registry) -> ExporterHandle {
    rarely(destination).start(registry).unwrap()
}

/// The same, and it does not wait for long after a failure.
fn on_demand_eagerly(destination: OtlpBuilder, registry: &Registry) -> ExporterHandle {
    rarely(destination).retry(eager()).start(registry).unwrap()
}

fn rarely(destination: OtlpBuilder) -> Exporter {
    patient(destination).interval(Duration::from_secs(3600)).phase(false)
}

/// What a test does not mean to be late must not be, on a machine with other work to do: an answer that is too late is unclear.
fn patient(destination: OtlpBuilder) -> Exporter {
    Exporter::new(destination.build().unwrap()).send_timeout(PATIENCE)
}

/// An exporter that collects often, and does not wait for long after a failure.
fn often(destination: OtlpBuilder, registry: &Registry) -> ExporterHandle {
    patient(destination)
        .interval(OFTEN)
        .retry(eager())
        .start(registry)
        .unwrap()
}

const OFTEN: Duration = Duration::from_millis(100);

fn eager() -> RetryPolicy {
    RetryPolicy::new()
        .initial(Duration::from_millis(10))
        .most(Duration::from_millis(200))
}

/// Collects once and fails unless all of it was delivered.
fn deliver(exporter: &ExporterHandle) {
    if let Err(error) = exporter.flush(PATIENCE) {
        panic!("{error}");
    }
}

/// What has come of what the test recorded: not what the crate says of itself.
fn recorded(points: Vec<Point>) -> Vec<Point> {
    let of_test = |point: &Point| !point.series.name.starts_with("tidegauge_");
    points.into_iter().filter(of_test).collect()
}

/// Fails with some of the differences, of which there may be a hundred thousand.
fn assert_totals(found: &HashMap<Series, Value>, expected: &HashMap<Series, Value>, what: &str) {
    let wrong = expected.iter().filter_map(|(series, value)| match found.get(series) {
        Some(found) if found == value => None,
        found => Some(format!("{series:?}: {found:?} instead of {value:?}")),
    });
    let unknown = found
        .iter()
        .filter(|(series, _)| !expected.contains_key(series))
        .map(|(series, value)| format!("{series:?}: {value:?} was never recorded"));
    let differences: Vec<String> = wrong.chain(unknown).collect();
    let some = &differences[..differences.len().min(20)];
    assert!(
        differences.is_empty(),
        "{what}: {} differences, such as\n{}",
        differences.len(),
        some.join("\n")
    );
}

/// Nanoseconds since 1970.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(now.expect("it is after 1970").as_nanos()).expect("it is before 2554")
}

/// How many series [`many`] has: four fifths are counters, and a tenth each gauges and histograms.
const MANY: u32 = 100_000;

/// A registry with many series. Each has a value of its own.
fn many() -> (Registry, Vec<(u32, Kept)>) {
    let registry = Registry::new();
    let counters = registry
        .counter("events_total", "Events.")
        .labels(["number"])
        .limit(MANY as usize)
        .register()
        .unwrap();
    let gauges = registry
        .gauge("level", "Level.")
        .labels(["number"])
        .limit(MANY as usize)
        .register()
        .unwrap();
    let sizes = registry
        .histogram("sizes", "Sizes.")
        .buckets(Buckets::explicit([1.0, 2.0]).unwrap())
        .labels(["number"])
        .limit(MANY as usize)
        .register()
        .unwrap();
    let mut kept = Vec::new();
    for number in 0..MANY {
        kept.push((
            number,
            match number % 10 {
                0 => {
                    gauges.with((number,)).set(f64::from(number) / 2.0);
                    Kept::Gauge(f64::from(number) / 2.0)
                }
                1 => {
                    let histogram: Histogram = sizes.handle((number,));
                    histogram.observe(1.5);
                    histogram.observe_many(3.0, number.into());
                    Kept::Histogram([0, 1, number.into()])
                }
                _ => {
                    counters.with((number,)).add(number.into());
                    Kept::Counter(number.into())
                }
            },
        ));
    }
    (registry, kept)
}

/// What one of many series has.
enum Kept {
    Counter(u64),
    Gauge(f64),
    /// How many are below 1, below 2 and above.
    Histogram([u64; 3]),
}

impl Kept {
    fn sum(buckets: [u64; 3]) -> f64 {
        buckets[1] as f64 * 1.5 + buckets[2] as f64 * 3.0
    }

    /// As it is in OTLP.
    fn point(&self, number: u32, temporality: Temporality) -> (Series, Value) {
        let text = number.to_string();
        let series = |name: &str, temporality| Series {
            name: name.to_string(),
            attributes: texts([("number", text.as_str())]),
            temporality,
        };
        match *self {
            Kept::Counter(count) => (
                series("events_total", Some(temporality)),
                Value::Sum {
                    value: Number::Integer(count.try_into().expect("it is small")),
                    monotonic: true,
                },
            ),
            Kept::Gauge(value) => (series("level", None), Value::Gauge(Number::Double(value))),
            Kept::Histogram(buckets) => (
                series("sizes", Some(temporality)),
                Value::Histogram(crate::points::Histogram {
                    count: buckets.iter().sum(),
                    sum: Some(Kept::sum(buckets)),
                    min: None,
                    max: None,
                    bounds: vec![1.0, 2.0],
                    buckets: buckets.to_vec(),
                }),
            ),
        }
    }
}

/// The temporality of what a preference lets be increments.
fn temporality(preference: TemporalityPreference) -> Temporality {
    match preference {
        TemporalityPreference::Cumulative => Temporality::Cumulative,
        _ => Temporality::Delta,
    }
}
