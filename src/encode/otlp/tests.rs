//! Requests against the oracle: what `opentelemetry-proto` reads in them is, field by field, what the registry has.

use super::{Encoder, Limits, Origin, Protocol, templates};
use crate::{
    Answer, Buckets, Counter, Destination, Exporter, ExporterHandle, Family, FamilySnapshot, Filter, FloatCounter,
    Gauge, Histogram, IntGauge, Kind, Payload, Points, Registry, Snapshot, Temporality, UpDownCounter, Value,
    testing::ManualClock,
};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    metrics::v1::{self as otlp, metric::Data, number_data_point},
    resource::v1::Resource,
};
use proptest::prelude::*;
use prost::Message;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

const DEADLINE: Duration = Duration::from_secs(60);

const PLENTY: Limits = Limits {
    points: usize::MAX,
    bytes: 64 << 20,
};

/// A destination that keeps what it is to send.
struct Kept {
    encoder: Arc<Mutex<Encoder>>,
    temporality: Temporality,
    requests: Requests,
}

/// Bytes and points of each request.
type Requests = Arc<Mutex<Vec<(Vec<u8>, usize)>>>;

impl Destination for Kept {
    fn name(&self) -> &str {
        "kept"
    }

    fn temporality(&self, _: &FamilySnapshot) -> Temporality {
        self.temporality
    }

    fn encode(&mut self, points: &mut Points<'_>, payload: &mut Vec<u8>) {
        self.encoder.lock().unwrap().encode(points, payload);
    }

    fn send(&mut self, payload: &Payload, _: Duration) -> Answer {
        let request = (payload.bytes().to_owned(), payload.points());
        self.requests.lock().unwrap().push(request);
        Answer::delivered()
    }
}

/// A registry whose clock stands still, an exporter of it, and what that has sent.
struct Bench {
    registry: Registry,
    clock: ManualClock,
    exporter: ExporterHandle,
    encoder: Arc<Mutex<Encoder>>,
    requests: Requests,
    protocol: Protocol,
    temporality: Temporality,
    limits: Limits,
    /// What was delivered last, by family and labels, and when.
    delivered: HashMap<(String, String), (Number, Duration)>,
}

/// A value that can wait.
#[derive(Clone, Debug, PartialEq)]
enum Number {
    Count(u64),
    Float(f64),
    Integer(i64),
    Histogram(Vec<u64>, f64),
}

fn is_of_the_test(family: &FamilySnapshot) -> bool {
    !family.name().starts_with("tidegauge_")
}

fn resource() -> Vec<(String, String)> {
    vec![
        ("service.name".to_owned(), "tést \"x\"\n".to_owned()),
        ("empty".to_owned(), String::new()),
    ]
}

impl Bench {
    fn new(protocol: Protocol, temporality: Temporality, limits: Limits) -> Self {
        let clock = ManualClock::new();
        let builder = Registry::builder().clock(clock.clone()).label("cloud.region", "eu");
        let registry = builder.build().unwrap();
        let origin = Origin {
            resource: &resource(),
            scope_name: "scope",
            scope_version: "1.2.3",
        };
        let requests = Requests::default();
        let encoder = Arc::new(Mutex::new(Encoder::new(protocol, limits, &origin)));
        let destination = Kept {
            encoder: encoder.clone(),
            temporality,
            requests: requests.clone(),
        };
        // It collects when it is asked to, and at no other time.
        let exporter = Exporter::new(destination).interval(10 * DEADLINE).phase(false);
        let exporter = exporter.filter(Filter::new().families(is_of_the_test));
        Bench {
            exporter: exporter.start(&registry).unwrap(),
            registry,
            clock,
            encoder,
            requests,
            protocol,
            temporality,
            limits,
            delivered: HashMap::new(),
        }
    }

    /// Exports what there is, a while later, and compares all of it.
    fn export(&mut self) {
        self.clock.advance(Duration::from_millis(1234));
        let snapshot = self.registry.snapshot();
        self.exporter.flush(DEADLINE).unwrap();
        let expected = self.expected(&snapshot);
        let requests = std::mem::take(&mut *self.requests.lock().unwrap());
        let found = self.read(&requests);
        assert_eq!(
            found.len(),
            expected.len(),
            "{:#?}",
            found.iter().map(|metric| &metric.name).collect::<Vec<_>>()
        );
        for (found, expected) in found.iter().zip(&expected) {
            // Compared as bytes, in which NaN is equal to itself.
            let same = found.encode_to_vec() == expected.encode_to_vec();
            assert!(same, "found {found:?}\nnot   {expected:?}");
        }
    }

    /// The metrics of all requests, those that were split put together.
    fn read(&self, requests: &[(Vec<u8>, usize)]) -> Vec<otlp::Metric> {
        let mut metrics: Vec<otlp::Metric> = Vec::new();
        for (bytes, points) in requests {
            assert!(bytes.len() <= self.limits.bytes && *points <= self.limits.points);
            let request: ExportMetricsServiceRequest = match self.protocol {
                Protocol::Protobuf => {
                    let request = ExportMetricsServiceRequest::decode(&**bytes).unwrap();
                    assert!(
                        request.encode_to_vec() == *bytes,
                        "fields are in order, lengths as short as they can be"
                    );
                    request
                }
                Protocol::Json => serde_json::from_slice(bytes).unwrap(),
            };
            let [of_resource] = &request.resource_metrics[..] else {
                panic!("a request has one resource");
            };
            let attributes = resource().iter().map(|(key, value)| attribute(key, value)).collect();
            let expected = Resource {
                attributes,
                ..Resource::default()
            };
            assert_eq!(of_resource.resource, Some(expected));
            let [of_scope] = &of_resource.scope_metrics[..] else {
                panic!("a request has one scope");
            };
            let expected = InstrumentationScope {
                name: "scope".to_owned(),
                version: "1.2.3".to_owned(),
                ..InstrumentationScope::default()
            };
            assert_eq!(of_scope.scope, Some(expected));
            let mut found = 0;
            for metric in &of_scope.metrics {
                let count = points_of(metric);
                assert!(count > 0, "no metric is without points: {metric:?}");
                found += count;
                match metrics.last_mut() {
                    Some(last) if last.name == metric.name => append(last, metric),
                    _ => metrics.push(metric.clone()),
                }
            }
            assert_eq!(found, *points);
            assert!(found > 0, "no request is without points");
        }
        metrics
    }

    /// What should have been sent, from the snapshot; remembers it as delivered.
    fn expected(&mut self, snapshot: &Snapshot) -> Vec<otlp::Metric> {
        let mut metrics = Vec::new();
        for family in snapshot.families().filter(|family| is_of_the_test(family)) {
            let counted = matches!(family.kind(), Kind::Counter | Kind::FloatCounter | Kind::Histogram);
            let delta = counted && self.temporality == Temporality::Delta;
            let (mut numbers, mut histograms) = (Vec::new(), Vec::new());
            for series in family.series() {
                let time = since_epoch(snapshot.taken());
                let mut start = since_epoch(series.created()).min(time);
                let mut number = Number::of(series.value());
                let name = (
                    family.name().to_owned(),
                    format!("{:?}", series.labels().collect::<Vec<_>>()),
                );
                if delta {
                    let mut delivered = number.clone();
                    if let Some((before, end)) = self.delivered.get(&name) {
                        // A series that has not moved is not sent, and its next point starts where the last one ended.
                        let Some(more) = number.since(before) else {
                            continue;
                        };
                        delivered = before.and(&more);
                        (number, start) = (more, *end);
                    }
                    self.delivered.insert(name, (delivered, time));
                }
                let attributes = match series.is_overflow() {
                    false => series.attributes().map(|(key, value)| attribute(key, value)).collect(),
                    true => vec![KeyValue {
                        key: "otel.metric.overflow".to_owned(),
                        value: Some(AnyValue {
                            value: Some(any_value::Value::BoolValue(true)),
                        }),
                        ..KeyValue::default()
                    }],
                };
                let bounds = match series.value() {
                    Value::Histogram(histogram) => histogram.bounds().to_vec(),
                    _ => Vec::new(),
                };
                match number {
                    Number::Histogram(bucket_counts, sum) => histograms.push(otlp::HistogramDataPoint {
                        attributes,
                        start_time_unix_nano: start.as_nanos() as u64,
                        time_unix_nano: time.as_nanos() as u64,
                        count: bucket_counts.iter().sum(),
                        sum: (bounds.first().is_none_or(|bound| *bound >= 0.0) && sum >= 0.0).then_some(sum),
                        bucket_counts,
                        explicit_bounds: bounds,
                        ..otlp::HistogramDataPoint::default()
                    }),
                    number => numbers.push(otlp::NumberDataPoint {
                        attributes,
                        start_time_unix_nano: match family.kind() {
                            Kind::Gauge | Kind::IntGauge => 0,
                            _ => start.as_nanos() as u64,
                        },
                        time_unix_nano: time.as_nanos() as u64,
                        value: Some(match number {
                            Number::Count(count) if count > i64::MAX as u64 => {
                                number_data_point::Value::AsDouble(count as f64)
                            }
                            Number::Count(count) => number_data_point::Value::AsInt(count as i64),
                            Number::Integer(integer) => number_data_point::Value::AsInt(integer),
                            Number::Float(float) => number_data_point::Value::AsDouble(float),
                            Number::Histogram(..) => unreachable!("it was matched above"),
                        }),
                        ..otlp::NumberDataPoint::default()
                    }),
                }
            }
            if numbers.is_empty() && histograms.is_empty() {
                continue;
            }
            let aggregation_temporality = if delta { 1 } else { 2 };
            let data = match family.kind() {
                Kind::Histogram => Data::Histogram(otlp::Histogram {
                    data_points: histograms,
                    aggregation_temporality,
                }),
                Kind::Gauge | Kind::IntGauge => Data::Gauge(otlp::Gauge { data_points: numbers }),
                kind => Data::Sum(otlp::Sum {
                    data_points: numbers,
                    aggregation_temporality,
                    is_monotonic: kind != Kind::UpDownCounter,
                }),
            };
            metrics.push(otlp::Metric {
                name: family.given_name().to_owned(),
                description: family.help().to_owned(),
                unit: family.unit().unwrap_or_default().to_owned(),
                data: Some(data),
                ..otlp::Metric::default()
            });
        }
        metrics
    }
}

impl Number {
    fn of(value: Value<'_>) -> Self {
        match value {
            Value::Counter(count) => Number::Count(count),
            Value::FloatCounter(float) | Value::Gauge(float) => Number::Float(float),
            Value::IntGauge(integer) => Number::Integer(integer),
            Value::Histogram(histogram) => Number::Histogram(histogram.counts().to_vec(), histogram.sum()),
            Value::Samples(_) => unreachable!("OTLP asks for none"),
        }
    }

    /// What was added since `before`, if anything.
    fn since(&self, before: &Number) -> Option<Number> {
        match (self, before) {
            (Number::Count(now), Number::Count(before)) => {
                (now != before).then(|| Number::Count(now.wrapping_sub(*before)))
            }
            (Number::Float(now), Number::Float(before)) => (now > before).then(|| Number::Float(now - before)),
            (Number::Histogram(now, sum), Number::Histogram(before, sum_before)) => {
                let counts = now.iter().zip(before).map(|(now, before)| now - before);
                (now != before).then(|| Number::Histogram(counts.collect(), sum - sum_before))
            }
            _ => panic!("{self:?} and {before:?} are not counts of one kind"),
        }
    }

    /// What a far end has that adds up increments.
    fn and(&self, more: &Number) -> Number {
        match (self, more) {
            (Number::Count(before), Number::Count(more)) => Number::Count(before.wrapping_add(*more)),
            (Number::Float(before), Number::Float(more)) => Number::Float(before + more),
            (Number::Histogram(before, sum), Number::Histogram(more, sum_more)) => {
                let counts = before.iter().zip(more).map(|(before, more)| before + more).collect();
                Number::Histogram(counts, sum + sum_more)
            }
            _ => panic!("{self:?} and {more:?} are not counts of one kind"),
        }
    }
}

fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap()
}

fn attribute(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(any_value::Value::StringValue(value.to_owned())),
        }),
        ..KeyValue::default()
    }
}

fn points_of(metric: &otlp::Metric) -> usize {
    match metric.data.as_ref().unwrap() {
        Data::Gauge(gauge) => gauge.data_points.len(),
        Data::Sum(sum) => sum.data_points.len(),
        Data::Histogram(histogram) => histogram.data_points.len(),
        other => panic!("{other:?} is never sent"),
    }
}

/// Appends the points of what must be the next piece of the same metric.
fn append(to: &mut otlp::Metric, piece: &otlp::Metric) {
    let head = |metric: &otlp::Metric| {
        let mut metric = metric.clone();
        match metric.data.as_mut().unwrap() {
            Data::Gauge(gauge) => gauge.data_points.clear(),
            Data::Sum(sum) => sum.data_points.clear(),
            Data::Histogram(histogram) => histogram.data_points.clear(),
            other => panic!("{other:?} is never sent"),
        }
        metric
    };
    assert_eq!(head(to), head(piece));
    match (to.data.as_mut().unwrap(), piece.data.clone().unwrap()) {
        (Data::Gauge(to), Data::Gauge(piece)) => to.data_points.extend(piece.data_points),
        (Data::Sum(to), Data::Sum(piece)) => to.data_points.extend(piece.data_points),
        (Data::Histogram(to), Data::Histogram(piece)) => to.data_points.extend(piece.data_points),
        _ => unreachable!("their heads are equal"),
    }
}

/// A family of some kind with two labels.
enum Instruments {
    Counters(Family<Counter, 2>),
    FloatCounters(Family<FloatCounter, 2>),
    Gauges(Family<Gauge, 2>),
    IntGauges(Family<IntGauge, 2>),
    UpDownCounters(Family<UpDownCounter, 2>),
    Histograms(Family<Histogram, 2>),
    /// Without labels.
    Counter(Counter),
}

impl Instruments {
    fn register(registry: &Registry, sketch: &Sketch, number: usize) -> Self {
        let name = format!("family.{number}_of/x");
        let (name, help, unit) = (&*name, &*sketch.help, sketch.unit);
        let labels = ["http.route", "kind"];
        // Some families overflow.
        let limit = 6;
        match sketch.kind {
            0 => {
                let family = registry.counter(name, help).unit(unit).labels(labels).limit(limit);
                Instruments::Counters(family.register().unwrap())
            }
            1 => {
                let family = registry
                    .float_counter(name, help)
                    .unit(unit)
                    .labels(labels)
                    .limit(limit);
                Instruments::FloatCounters(family.register().unwrap())
            }
            2 => {
                let family = registry.gauge(name, help).unit(unit).labels(labels).limit(limit);
                Instruments::Gauges(family.register().unwrap())
            }
            3 => {
                let family = registry.int_gauge(name, help).unit(unit).labels(labels).limit(limit);
                Instruments::IntGauges(family.register().unwrap())
            }
            4 => {
                let family = registry
                    .up_down_counter(name, help)
                    .unit(unit)
                    .labels(labels)
                    .limit(limit);
                Instruments::UpDownCounters(family.register().unwrap())
            }
            5 => {
                let buckets = Buckets::explicit(sketch.bounds.iter().copied()).unwrap();
                let family = registry
                    .histogram(name, help)
                    .unit(unit)
                    .buckets(buckets)
                    .labels(labels)
                    .limit(limit);
                Instruments::Histograms(family.register().unwrap())
            }
            _ => Instruments::Counter(registry.counter(name, help).unit(unit).register().unwrap()),
        }
    }

    fn record(&self, event: &Event, protocol: Protocol) {
        let labels = [&*event.labels.0, &*event.labels.1];
        let bits = event.bits >> event.shift;
        // The oracle cannot read the words that JSON has for the others; a test of its own shows them.
        let is_readable = |float: &f64| float.is_finite() || protocol == Protocol::Protobuf;
        let float = Some(f64::from_bits(event.bits)).filter(is_readable).unwrap_or(0.5);
        match self {
            Instruments::Counters(family) => family.with(labels).add(bits),
            // A sum that is as large as a float can be stays what it is, whatever is added.
            Instruments::FloatCounters(family) => family.with(labels).add((bits >> 16) as f64 / 8.0),
            Instruments::Gauges(family) => family.with(labels).set(float),
            Instruments::IntGauges(family) => family.with(labels).set(event.bits.cast_signed()),
            Instruments::UpDownCounters(family) => family.with(labels).add(bits.cast_signed() >> 1),
            Instruments::Histograms(family) => family
                .with(labels)
                .observe((bits >> 40) as f64 / 8.0 + event.shift as f64 - 20.0),
            Instruments::Counter(counter) => counter.add(bits),
        }
    }
}

#[derive(Clone, Debug)]
struct Sketch {
    kind: usize,
    help: String,
    unit: &'static str,
    bounds: Vec<f64>,
    /// What is recorded before each of the exports.
    rounds: Vec<Vec<Event>>,
}

#[derive(Clone, Debug)]
struct Event {
    labels: (String, String),
    bits: u64,
    shift: u32,
}

fn event() -> impl Strategy<Value = Event> {
    let label =
        || prop_oneof![4 => "[ab]", 1 => Just(String::new()), 1 => any::<String>(), 1 => Just("long ".repeat(60))];
    ((label(), label()), any::<u64>(), 0..64_u32).prop_map(|(labels, bits, shift)| Event { labels, bits, shift })
}

fn sketch() -> impl Strategy<Value = Sketch> {
    let bounds = prop::sample::select(vec![vec![0.0, 1.0, 1e9], vec![-5.5, 0.25], vec![7.0]]);
    let rounds = prop::collection::vec(prop::collection::vec(event(), 0..8), 3);
    let unit = prop::sample::select(vec!["", "s", "By", "{request}"]);
    (0..7_usize, "[ -~é\n]{0,40}x", unit, bounds, rounds).prop_map(|(kind, help, unit, bounds, rounds)| Sketch {
        kind,
        help,
        unit,
        bounds,
        rounds,
    })
}

#[test]
fn a_request_in_json() {
    let bench = Bench::new(Protocol::Json, Temporality::Delta, PLENTY);
    let registry = &bench.registry;
    let jobs = registry
        .counter("jobs_total", "Jobs \"run\"\n.")
        .labels(["e"])
        .register()
        .unwrap();
    jobs.with(["ü\u{1}"]).add(u64::MAX);
    let floats = registry
        .gauge("level", "Level.")
        .unit("Cel")
        .labels(["kind"])
        .register()
        .unwrap();
    for (kind, float) in [
        ("a", f64::NAN),
        ("b", f64::INFINITY),
        ("c", f64::NEG_INFINITY),
        ("d", 1.0),
        ("e", 5e-324),
    ] {
        floats.with([kind]).set(float);
    }
    let sizes = registry
        .histogram("size", "Size.")
        .buckets(Buckets::explicit([0.5, 1e21]).unwrap());
    sizes.register().unwrap().observe(0.25);
    bench.clock.advance(Duration::from_secs(1));
    bench.exporter.flush(DEADLINE).unwrap();
    let requests = bench.requests.lock().unwrap();
    let [(request, 7)] = &requests[..] else {
        panic!("{requests:?}");
    };
    let attributes =
        |more: &str| format!(r#"{{"attributes":[{{"key":"cloud.region","value":{{"stringValue":"eu"}}}}{more}]"#);
    let labelled =
        |key: &str, value: &str| attributes(&format!(r#",{{"key":"{key}","value":{{"stringValue":"{value}"}}}}"#));
    let times = r#""startTimeUnixNano":"1700000000000000000","timeUnixNano":"1700000001000000000""#;
    let level = |kind: &str, text: &str| {
        format!(
            r#"{},"timeUnixNano":"1700000001000000000","asDouble":{text}}}"#,
            labelled("kind", kind)
        )
    };
    let expected = [
        r#"{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"tést \"x\"\n"}},"#.to_owned(),
        r#"{"key":"empty","value":{"stringValue":""}}]},"scopeMetrics":[{"scope":{"name":"scope","version":"1.2.3"},"metrics":["#.to_owned(),
        r#"{"name":"jobs_total","description":"Jobs \"run\"\n.","sum":{"dataPoints":["#.to_owned(),
        format!(r#"{},{times},"asDouble":1.8446744073709552e+19}}"#, labelled("e", r"ü\u0001")),
        r#"],"aggregationTemporality":1,"isMonotonic":true}},"#.to_owned(),
        r#"{"name":"level","description":"Level.","unit":"Cel","gauge":{"dataPoints":["#.to_owned(),
        [
            level("a", r#""NaN""#),
            level("b", r#""Infinity""#),
            level("c", r#""-Infinity""#),
            level("d", "1.0"),
            level("e", "5e-324"),
        ]
        .join(","),
        r#"]}},{"name":"size","description":"Size.","histogram":{"dataPoints":["#.to_owned(),
        format!(r#"{},{times},"count":"1","sum":0.25,"#, attributes("")),
        r#""bucketCounts":["1","0","0"],"explicitBounds":[0.5,1e+21]}],"aggregationTemporality":1}}]}]}]}"#.to_owned(),
    ];
    assert_eq!(std::str::from_utf8(request).unwrap(), expected.concat());
}

#[test]
fn a_point_that_is_larger_than_a_request_may_be_is_refused_and_counted_and_the_others_go() {
    for protocol in [Protocol::Protobuf, Protocol::Json] {
        let bench = Bench::new(protocol, Temporality::Cumulative, Limits { bytes: 2000, ..PLENTY });
        let jobs = bench
            .registry
            .counter("jobs", "Jobs.")
            .labels(["kind"])
            .register()
            .unwrap();
        let long = "x".repeat(2000);
        for kind in ["a", &long, "b", "c"] {
            jobs.with([kind]).inc();
        }
        let report = bench.exporter.flush(DEADLINE).unwrap_err().report().clone();
        assert_eq!((report.delivered, report.rejected), (3, 1), "{report:?}");
        let metrics = bench.read(&bench.requests.lock().unwrap());
        assert_eq!(metrics.iter().map(points_of).sum::<usize>(), 3);
    }
}

#[test]
fn nothing_new_is_no_request() {
    let bench = Bench::new(Protocol::Protobuf, Temporality::Delta, PLENTY);
    bench.exporter.flush(DEADLINE).unwrap();
    assert!(bench.requests.lock().unwrap().is_empty());
    bench.registry.counter("jobs", "Jobs.").register().unwrap();
    for _ in 0..3 {
        bench.clock.advance(Duration::from_secs(1));
        bench.exporter.flush(DEADLINE).unwrap();
    }
    assert_eq!(bench.requests.lock().unwrap().len(), 1);
}

#[test]
fn a_series_in_the_place_of_another_has_its_own_attributes() {
    let mut bench = Bench::new(Protocol::Protobuf, Temporality::Cumulative, PLENTY);
    for round in 0..4 {
        let jobs = bench
            .registry
            .counter("jobs", "Jobs.")
            .labels(["kind"])
            .register()
            .unwrap();
        for kind in ["a", "b", "c"] {
            jobs.with([kind]).inc();
        }
        bench.export();
        jobs.remove(["b"]);
        if round == 2 {
            bench.registry.unregister("jobs");
        }
        // The last values of what is gone are delivered before its place is taken.
        bench.clock.advance(Duration::from_secs(1));
        bench.exporter.flush(DEADLINE).unwrap();
        bench.requests.lock().unwrap().clear();
        if round != 2 {
            jobs.with([format!("d{round}")]).inc();
        }
    }
}

#[test]
fn what_is_gone_is_forgotten_and_what_lives_is_kept() {
    let bench = Bench::new(Protocol::Protobuf, Temporality::Cumulative, PLENTY);
    let export = || {
        bench.clock.advance(Duration::from_secs(1));
        bench.exporter.flush(DEADLINE).unwrap();
        bench.encoder.lock().unwrap().templates.kept()
    };
    let jobs = bench
        .registry
        .counter("jobs", "Jobs.")
        .labels(["kind"])
        .register()
        .unwrap();
    let others = bench
        .registry
        .counter("others", "Others.")
        .labels(["kind"])
        .register()
        .unwrap();
    for kind in 0..100 {
        jobs.with((kind,)).inc();
        others.with((kind,)).inc();
    }
    assert_eq!(export(), (2, 200));
    jobs.retain(|series| series.label("kind").is_some_and(|kind| kind.ends_with('7')));
    bench.registry.unregister("others");
    assert_eq!(export(), (2, 200));
    for _ in 0..2 * templates::ERA {
        export();
    }
    assert_eq!(export(), (1, 10));
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop::sample::select(vec![Protocol::Protobuf, Protocol::Json])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_field_of_every_request_is_what_the_registry_has(
        sketches in prop::collection::vec(sketch(), 1..6),
        protocol in protocol(),
        delta: bool,
        points in prop::sample::select(vec![1, 2, 7, usize::MAX]),
    ) {
        let temporality = if delta { Temporality::Delta } else { Temporality::Cumulative };
        let mut bench = Bench::new(protocol, temporality, Limits { points, ..PLENTY });
        let families: Vec<_> = sketches
            .iter()
            .enumerate()
            .map(|(number, sketch)| Instruments::register(&bench.registry, sketch, number))
            .collect();
        bench.registry.observable_gauge("observed", "Given.").register(|| -0.0).unwrap();
        bench.registry.collector(|families| {
            let family = families.gauge("given.many", "Given by a collector.").labels(["a.b"]);
            family.sample(["x"], 1_i64).sample([""], i64::MIN);
        });
        for round in 0..3 {
            for (family, sketch) in families.iter().zip(&sketches) {
                sketch.rounds[round].iter().for_each(|event| family.record(event, protocol));
            }
            bench.export();
        }
    }

    #[test]
    fn a_request_is_never_larger_than_it_may_be_and_nothing_is_lost(
        sketches in prop::collection::vec(sketch(), 1..4),
        protocol in protocol(),
        bytes in 2500..6000_usize,
    ) {
        let mut bench = Bench::new(protocol, Temporality::Delta, Limits { bytes, ..PLENTY });
        for (number, sketch) in sketches.iter().enumerate() {
            let family = Instruments::register(&bench.registry, sketch, number);
            sketch.rounds.concat().iter().for_each(|event| family.record(event, protocol));
        }
        bench.export();
    }
}
