//! Lines against the rules of CloudWatch, each limit by itself; that nothing is lost is in `tests/conservation.rs`.

mod conservation;
pub(in crate::encode::emf) mod validator;

use super::{Encoder, Settings};
use crate::{
    Answer, Buckets, Destination, Exporter, ExporterHandle, FamilySnapshot, Filter, FlushError, Kind, Payload, Points,
    Registry, Temporality, testing::ManualClock,
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use validator::{Event, Measure, read};

const DEADLINE: Duration = Duration::from_secs(60);

/// Keeps what is written.
struct Kept {
    encoder: Encoder,
    payloads: Arc<Mutex<Vec<u8>>>,
}

impl Destination for Kept {
    fn name(&self) -> &str {
        "kept"
    }

    fn temporality(&self, family: &FamilySnapshot) -> Temporality {
        match family.kind() {
            Kind::Counter | Kind::FloatCounter | Kind::Histogram => Temporality::Delta,
            _ => Temporality::Cumulative,
        }
    }

    fn encode(&mut self, points: &mut Points<'_>, payload: &mut Vec<u8>) {
        self.encoder.encode(points, payload);
    }

    fn send(&mut self, payload: &Payload, _: Duration) -> Answer {
        self.payloads.lock().unwrap().extend_from_slice(payload.bytes());
        Answer::delivered()
    }
}

/// A registry and its exporter to memory.
struct Bench {
    registry: Registry,
    exporter: ExporterHandle,
    payloads: Arc<Mutex<Vec<u8>>>,
    /// Why points were refused.
    reasons: Arc<Mutex<Vec<String>>>,
    event_size: usize,
}

impl Bench {
    fn new(settings: Settings) -> Bench {
        let clock = ManualClock::new();
        Bench::of(Registry::builder().clock(clock).build().unwrap(), settings)
    }

    fn of(registry: Registry, settings: Settings) -> Bench {
        let payloads = Arc::default();
        let event_size = settings.event_size;
        let destination = Kept {
            encoder: Encoder::new(settings),
            payloads: Arc::clone(&payloads),
        };
        let is_of_the_test = |family: &FamilySnapshot| !family.name().starts_with("tidegauge_");
        // It collects when it is asked to, and at no other time.
        let exporter = Exporter::new(destination).interval(10 * DEADLINE).phase(false);
        let exporter = exporter.filter(Filter::new().families(is_of_the_test));
        let reasons: Arc<Mutex<Vec<String>>> = Arc::default();
        let refused = Arc::clone(&reasons);
        let exporter = exporter.dead_letters(move |letter| refused.lock().unwrap().push(letter.message().to_owned()));
        Bench {
            reasons,
            exporter: exporter.start(&registry).unwrap(),
            registry,
            payloads,
            event_size,
        }
    }

    fn flush(&self) -> Result<(), FlushError> {
        self.exporter.flush(DEADLINE).map(drop)
    }

    fn payload(&self) -> Vec<u8> {
        std::mem::take(&mut *self.payloads.lock().unwrap())
    }

    /// What a flush writes, of which nothing is refused.
    #[track_caller]
    fn events(&self) -> Vec<Event> {
        self.flush().unwrap();
        read(&self.payload(), self.event_size)
    }

    /// Why the one point of a flush that is refused is.
    #[track_caller]
    fn refusal(&self) -> String {
        let error = self.flush().unwrap_err();
        assert_eq!(error.report().rejected, 1, "{error}");
        let reasons = std::mem::take(&mut *self.reasons.lock().unwrap());
        assert_eq!(reasons.len(), 1, "{reasons:?}");
        reasons.concat()
    }
}

fn settings() -> Settings {
    Settings {
        namespace: "Shop".to_owned(),
        dimensions: None,
        properties: Vec::new(),
        event_size: 250_000,
    }
}

fn number(event: &Event, name: &str) -> f64 {
    match &event.metric(name).value {
        Measure::Number(number) => number.as_f64().unwrap(),
        other => panic!("{name} is {other:?}"),
    }
}

#[test]
fn what_has_the_same_labels_is_one_line_to_the_byte() {
    let properties = vec![("functionName".to_owned(), "orders".to_owned())];
    let bench = Bench::new(Settings {
        properties,
        ..settings()
    });
    let registry = &bench.registry;
    let orders = registry
        .counter("orders", "Orders.")
        .labels(["shop"])
        .register()
        .unwrap();
    let size = registry.gauge("queue.size", "Size.").unit("By").labels(["shop"]);
    let size = size.register().unwrap();
    let latency = registry.histogram("latency", "Latency.").unit("s").labels(["shop"]);
    let latency = latency
        .buckets(Buckets::explicit([0.1, 1.0]).unwrap())
        .register()
        .unwrap();
    orders.with(["Lübeck"]).add(3);
    size.with(["Lübeck"]).set(1.5);
    latency.with(["Lübeck"]).observe(0.05);
    latency.with(["Lübeck"]).observe(2.0);
    bench.flush().unwrap();
    let expected = [
        r#"{"_aws":{"Timestamp":1700000000000,"CloudWatchMetrics":[{"Namespace":"Shop","Dimensions":[["shop"]],"Metrics":["#,
        r#"{"Name":"latency","Unit":"Seconds"},{"Name":"orders","Unit":"Count"},{"Name":"queue.size","Unit":"Bytes"}]}]},"#,
        r#""shop":"L\\u00fcbeck","functionName":"orders","#,
        r#""latency":{"Values":[0.05,2.0],"Counts":[1,1],"Max":2.0,"Min":0.05,"Sum":2.05,"Count":2},"#,
        r#""orders":3,"queue.size":1.5}"#,
        "\n",
    ];
    assert_eq!(String::from_utf8(bench.payload()).unwrap(), expected.concat());
    // What has not moved is not written again; what stands as it stands is.
    let events = bench.events();
    let names: Vec<&str> = events[0].metrics.iter().map(|metric| metric.name.as_str()).collect();
    assert_eq!((events.len(), names), (1, vec!["queue.size"]));
}

#[test]
fn labels_in_another_order_share_a_line() {
    let bench = Bench::new(settings());
    let one = bench
        .registry
        .counter("one", "One.")
        .labels(["a", "b"])
        .register()
        .unwrap();
    let two = bench
        .registry
        .counter("two", "Two.")
        .labels(["b", "a"])
        .register()
        .unwrap();
    one.with(["1", "2"]).inc();
    two.with(["2", "1"]).inc();
    two.with(["1", "2"]).inc();
    let events = bench.events();
    let metrics: Vec<usize> = events.iter().map(|event| event.metrics.len()).collect();
    assert_eq!(metrics, [2, 1]);
}

#[test]
fn a_line_has_at_most_100_metrics() {
    let bench = Bench::new(settings());
    for at in 0..250 {
        let name = format!("metric_{at:03}_count");
        bench.registry.counter(&name, "Counts.").register().unwrap().add(at + 1);
    }
    let events = bench.events();
    let metrics: Vec<usize> = events.iter().map(|event| event.metrics.len()).collect();
    assert_eq!(metrics, [100, 100, 50]);
    let sum: f64 = events
        .iter()
        .flat_map(|event| &event.metrics)
        .map(|metric| match &metric.value {
            Measure::Number(number) => number.as_f64().unwrap(),
            other => panic!("{other:?}"),
        })
        .sum();
    assert_eq!(sum, f64::from((1..=250).sum::<u32>()));
    assert_eq!(events[0].dimensions, [Vec::<String>::new()]);
}

#[test]
fn a_line_is_no_longer_than_it_may_be() {
    let bench = Bench::new(Settings {
        event_size: 4096,
        properties: vec![("p".to_owned(), "x".repeat(1000))],
        ..settings()
    });
    let family = bench
        .registry
        .counter("count", "Counts.")
        .labels(["a"])
        .register()
        .unwrap();
    family.with(["x".repeat(1000)]).inc();
    for at in 0..100 {
        let name = format!("metric_{at:03}_{}", "x".repeat(100));
        let family = bench
            .registry
            .counter(&name, "Counts.")
            .labels(["a"])
            .register()
            .unwrap();
        family.with(["x".repeat(1000)]).inc();
    }
    let events = bench.events();
    assert!(events.len() > 10, "{}", events.len());
    assert_eq!(events.iter().map(|event| event.metrics.len()).sum::<usize>(), 101);
}

#[test]
fn what_is_too_much_for_one_payload_goes_into_several() {
    let bench = Bench::new(settings());
    let family = bench
        .registry
        .counter("count", "Counts.")
        .labels(["a", "b"])
        .limit(5000);
    let family = family.register().unwrap();
    for at in 0..4000 {
        family.with([at.to_string(), "x".repeat(1000)]).add(at);
    }
    let gauge = bench.registry.gauge("gauge", "Behind.").register().unwrap();
    gauge.set(4.0);
    let events = bench.events();
    let counted = events.iter().filter(|event| event.texts.contains_key("a"));
    assert_eq!(
        counted.map(|event| number(event, "count")).sum::<f64>(),
        f64::from((0..4000).sum::<i32>())
    );
    assert_eq!(number(&events[events.len() - 1], "gauge"), 4.0);
    assert!(bench.exporter.stats().delivered_payloads > 1);
}

#[test]
fn an_array_has_at_most_100_numbers() {
    let bench = Bench::new(settings());
    let bounds = Buckets::linear(1.0, 1.0, 150).unwrap();
    let sizes = bench
        .registry
        .histogram("sizes", "Sizes.")
        .buckets(bounds)
        .register()
        .unwrap();
    for at in 0..=150 {
        sizes.observe(f64::from(at) + 0.5);
        sizes.observe(f64::from(at) + 0.75);
    }
    let events = bench.events();
    let mut all = Vec::new();
    let mut sums = 0.0;
    for event in &events {
        let Measure::Distribution { observed, sum } = &event.metric("sizes").value else {
            panic!("{event:?}");
        };
        all.extend(
            observed
                .iter()
                .map(|(value, count)| (value.floor().min(150.0) as u64, *count)),
        );
        sums += sum;
    }
    assert_eq!(events.len(), 2);
    assert_eq!(all, (0..=150).map(|at| (at, 2)).collect::<Vec<_>>());
    assert_eq!(sums, sizes.get().sum());
}

#[test]
fn dimensions_are_the_sets_that_are_asked_for() {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let bench = Bench::new(Settings {
        dimensions: Some(vec![
            set(&["service", "route"]),
            set(&["service", "absent"]),
            set(&["route", "service"]),
            set(&["service"]),
            set(&[]),
        ]),
        ..settings()
    });
    let family = bench
        .registry
        .counter("requests", "Requests.")
        .labels(["route", "service", "user"]);
    let family = family.register().unwrap();
    family.with(["/", "web", &"ü".repeat(2000)]).inc();
    let events = bench.events();
    let [event] = &events[..] else { panic!("{events:?}") };
    assert_eq!(
        event.dimensions,
        [set(&["service", "route"]), set(&["service"]), set(&[])]
    );
    assert_eq!(
        event.texts["user"],
        "ü".repeat(2000),
        "it is no dimension, but can be found"
    );
}

#[test]
fn labels_without_text_are_no_dimensions() {
    let bench = Bench::new(settings());
    let family = bench
        .registry
        .counter("requests", "Requests.")
        .labels(["route", "code"]);
    let family = family.register().unwrap();
    family.with(["", "200"]).inc();
    family.with([" ", ""]).inc();
    let events = bench.events();
    assert_eq!(events[0].dimensions, [["code"]]);
    assert_eq!(events[1].dimensions, [[""; 0]]);
}

#[test]
fn the_overflow_series_is_told_from_others() {
    let bench = Bench::new(settings());
    let family = bench
        .registry
        .counter("requests", "Requests.")
        .labels(["user"])
        .limit(1);
    let family = family.register().unwrap();
    family.with(["a"]).inc();
    family.with(["b"]).inc();
    let events = bench.events();
    assert_eq!((events[0].time, events[1].time), (1_700_000_000_000, 1_700_000_000_000));
    assert_eq!(events[1].texts["otel_metric_overflow"], "true");
    assert_eq!(events[1].dimensions, [["otel_metric_overflow"]]);
}

#[test]
fn labels_and_metrics_go_before_properties() {
    let property = |name: &str| (name.to_owned(), "property".to_owned());
    let bench = Bench::new(Settings {
        properties: vec![property("region"), property("orders"), property("stage")],
        ..settings()
    });
    let family = bench
        .registry
        .counter("orders", "Orders.")
        .labels(["region"])
        .register()
        .unwrap();
    family.with(["north"]).inc();
    let events = bench.events();
    assert_eq!(events[0].texts["region"], "north");
    assert_eq!(events[0].texts["stage"], "property");
    assert_eq!(number(&events[0], "orders"), 1.0);
}

#[test]
fn numbers_that_cloudwatch_does_not_take_are_refused_and_counted() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e109, -1e300] {
        let bench = Bench::new(settings());
        let gauge = bench.registry.gauge("load", "Load.").register().unwrap();
        bench.registry.counter("jobs", "Jobs.").register().unwrap().inc();
        gauge.set(value);
        let reason = bench.refusal();
        assert!(reason.contains("CloudWatch takes no number"), "{reason}");
        let events = read(&bench.payload(), bench.event_size);
        assert_eq!(number(&events[0], "jobs"), 1.0, "what is fine goes out");
    }
}

#[test]
fn an_infinite_observation_is_counted_without_its_sum() {
    let bench = Bench::new(settings());
    let latency = bench.registry.histogram("latency", "Latency.").register().unwrap();
    latency.observe(0.2);
    latency.observe(f64::INFINITY);
    let events = bench.events();
    let Measure::Distribution { observed, sum } = &events[0].metric("latency").value else {
        panic!("{events:?}")
    };
    assert_eq!(observed.iter().map(|(_, count)| count).sum::<u64>(), 2);
    assert!(sum.is_finite());
}

#[test]
fn what_dimensions_cannot_hold_is_refused_and_counted() {
    let bench = Bench::new(settings());
    let family = bench
        .registry
        .counter("requests", "Requests.")
        .labels(["user"])
        .register()
        .unwrap();
    family.with(["x".repeat(1024)]).inc();
    assert_eq!(bench.events().len(), 1);
    family.with(["x".repeat(1025)]).inc();
    assert!(bench.refusal().contains("1,024 characters"));

    let bench = Bench::new(settings());
    let name = "n".repeat(251);
    bench
        .registry
        .counter("one", "One.")
        .labels([name.as_str()])
        .register()
        .unwrap()
        .with(["x"])
        .inc();
    assert!(bench.refusal().contains("250 characters"));

    let bench = Bench::new(settings());
    bench
        .registry
        .counter("user", "Users.")
        .labels(["user"])
        .register()
        .unwrap()
        .with(["x"])
        .inc();
    assert!(bench.refusal().contains("name of one of its labels"));

    let bench = Bench::new(Settings {
        dimensions: Some(vec![vec![]]),
        event_size: 4096,
        ..settings()
    });
    let family = bench
        .registry
        .counter("requests", "Requests.")
        .labels(["text"])
        .register()
        .unwrap();
    family.with(["x".repeat(4000)]).inc();
    assert!(bench.refusal().contains("larger than an event"));
}

#[test]
fn thirty_dimensions_are_the_most() {
    let names: Vec<String> = (0..31).map(|at| format!("label_{at:02}")).collect();
    let constant = |count: usize| {
        let mut builder = Registry::builder();
        for name in &names[..count] {
            builder = builder.label(name.as_str(), "x");
        }
        builder.build().unwrap()
    };
    let bench = Bench::of(constant(30), settings());
    bench.registry.counter("jobs", "Jobs.").register().unwrap().inc();
    assert_eq!(bench.events()[0].dimensions[0].len(), 30);
    let bench = Bench::of(constant(31), settings());
    bench.registry.counter("jobs", "Jobs.").register().unwrap().inc();
    assert!(bench.refusal().contains("at most 30 dimensions"));
}
