//! Packets as a registry gives them, byte by byte; and read by strict readers of each dialect.

use super::{
    Encoder, Origin, Settings,
    message::{CheckFields, EventFields, Message, Put, SetFields},
};
use crate::{
    Answer, Buckets, Cardinality, Destination, Dialect, Exporter, ExporterHandle, FamilySnapshot, Filter,
    HistogramLines, Payload, Points, Registry, Temporality, testing::ManualClock,
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

const DEADLINE: Duration = Duration::from_secs(60);

/// A destination that keeps its packets.
struct Kept {
    encoder: Encoder,
    packets: Arc<Mutex<Vec<String>>>,
}

impl Destination for Kept {
    fn name(&self) -> &str {
        "kept"
    }

    fn temporality(&self, _: &FamilySnapshot) -> Temporality {
        Temporality::Delta
    }

    fn encode(&mut self, points: &mut Points<'_>, payload: &mut Vec<u8>) {
        self.encoder.encode(points, payload);
    }

    fn send(&mut self, payload: &Payload, _: Duration) -> Answer {
        let packet = String::from_utf8(payload.bytes().to_owned()).expect("packets are UTF-8");
        self.packets.lock().unwrap().push(packet);
        Answer::delivered()
    }
}

/// A registry whose clock stands still, an exporter of it, and what that has sent.
struct Bench {
    registry: Registry,
    exporter: ExporterHandle,
    packets: Arc<Mutex<Vec<String>>>,
}

impl Bench {
    fn new(settings: Settings) -> Bench {
        let clock = ManualClock::new();
        clock.set_unix(Duration::from_secs(1_656_581_400));
        Bench::of(Registry::builder().clock(clock).build().unwrap(), settings)
    }

    fn of(registry: Registry, settings: Settings) -> Bench {
        let packets = Arc::default();
        let destination = Kept {
            encoder: Encoder::new(settings),
            packets: Arc::clone(&packets),
        };
        // It collects when it is asked to, and at no other time.
        let exporter = Exporter::new(destination).interval(10 * DEADLINE).phase(false);
        let is_of_the_test = |family: &FamilySnapshot| !family.name().starts_with("tidegauge_");
        let exporter = exporter.filter(Filter::new().families(is_of_the_test));
        Bench {
            exporter: exporter.start(&registry).unwrap(),
            registry,
            packets,
        }
    }

    /// What there is to be sent, packet by packet.
    fn packets(&self) -> Vec<String> {
        self.exporter.flush(DEADLINE).unwrap();
        std::mem::take(&mut *self.packets.lock().unwrap())
    }

    /// The lines of all packets.
    fn lines(&self) -> Vec<String> {
        let packets = self.packets();
        packets
            .iter()
            .flat_map(|packet| packet.lines())
            .map(str::to_owned)
            .collect()
    }
}

fn settings(dialect: Dialect) -> Settings {
    Settings {
        dialect,
        protocol: 6,
        limit: 1432,
        ends_lines: false,
        prefix: String::new(),
        tags: Vec::new(),
        origin: Origin::default(),
        timestamps: false,
        histograms: dialect.histogram_lines(),
    }
}

#[test]
fn each_dialect_writes_tags_in_its_place() {
    for (dialect, expected) in [
        (Dialect::Etsy, ["jobs.env.prod.kind.a_b:2|c", "jobs.env.prod:1|c"]),
        (
            Dialect::DogStatsD,
            ["jobs:2|c|#env:prod,kind:a.b", "jobs:1|c|#env:prod"],
        ),
        (Dialect::Telegraf, ["jobs,env=prod,kind=a.b:2|c", "jobs,env=prod:1|c"]),
        (Dialect::Librato, ["jobs#env=prod,kind=a.b:2|c", "jobs#env=prod:1|c"]),
        (Dialect::SignalFx, ["jobs[env=prod,kind=a.b]:2|c", "jobs[env=prod]:1|c"]),
        (Dialect::Graphite, ["jobs;env=prod;kind=a.b:2|c", "jobs;env=prod:1|c"]),
    ] {
        let tags = vec![
            ("env".to_owned(), "prod".to_owned()),
            ("kind".to_owned(), "not this".to_owned()),
        ];
        let bench = Bench::new(Settings {
            tags,
            ..settings(dialect)
        });
        let jobs = bench
            .registry
            .counter("jobs", "Jobs.")
            .labels(["kind"])
            .register()
            .unwrap();
        jobs.with(["a.b"]).add(2);
        jobs.with([""]).inc();
        assert_eq!(bench.lines(), expected);
        // What has not moved is not sent.
        jobs.with([""]).add(3);
        assert_eq!(bench.lines(), [expected[1].replace(":1|", ":3|")]);
    }
}

#[test]
fn histograms_are_samples_that_add_up() {
    let bench = Bench::new(settings(Dialect::DogStatsD));
    let latency = bench.registry.histogram("latency_seconds", "Latency.");
    let latency = latency
        .buckets(Buckets::explicit([0.1, 0.5]).unwrap())
        .register()
        .unwrap();
    for _ in 0..23 {
        latency.observe(0.3);
    }
    latency.observe(2.0);
    assert_eq!(
        bench.lines(),
        ["latency_seconds:300:300|ms|@0.1", "latency_seconds:300:300:300:2000|ms"]
    );
}

#[test]
fn histograms_are_counters_that_add_up() {
    let bench = Bench::new(settings(Dialect::Etsy));
    let latency = bench.registry.histogram("latency_seconds", "Latency.");
    let latency = latency
        .buckets(Buckets::explicit([0.005, 0.5]).unwrap())
        .register()
        .unwrap();
    for value in [0.001, 0.002, 3.0] {
        latency.observe(value);
    }
    let expected = [
        "latency_seconds.bucket.0_005:2|c",
        "latency_seconds.bucket.inf:1|c",
        "latency_seconds.count:3|c",
        "latency_seconds.sum:3.003|c",
    ];
    assert_eq!(bench.lines(), expected);
}
