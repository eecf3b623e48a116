//! Packets as a registry gives them, byte by byte; and read by strict readers of each dialect.

mod conservation;
mod reader;

use super::{
    Encoder, Origin, Settings,
    message::{CheckFields, EventFields, Message, Put, SetFields},
};
use crate::{
    Answer, Buckets, Cardinality, Destination, Dialect, Exporter, ExporterHandle, FamilySnapshot, Filter,
    HistogramLines, Payload, Points, Preferences, Registry, Temporality, testing::ManualClock,
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

    fn preferences(&self) -> Preferences {
        Preferences {
            samples: true,
            ..Preferences::default()
        }
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

    /// What there is to be sent, packet by packet. What is refused makes a flush fail.
    fn packets(&self) -> Vec<String> {
        let before = self.exporter.stats().rejected_points;
        let flush = self.exporter.flush(DEADLINE);
        let refused = self.exporter.stats().rejected_points - before;
        assert_eq!(flush.is_err(), refused > 0, "{flush:?}");
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

fn pair(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

fn origin() -> Origin {
    Origin {
        container: Some("abc123".to_owned()),
        external: Some("it-false,cn-web".to_owned()),
        cardinality: Some(Cardinality::High),
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

#[test]
fn gauges_below_zero_are_set_and_not_changed() {
    // DogStatsD's servers but the Agent are written protocol 1.0.
    let cases = Dialect::ALL.map(|dialect| (dialect, settings(dialect).protocol));
    for (dialect, protocol) in cases.into_iter().chain([(Dialect::DogStatsD, 0)]) {
        let bench = Bench::new(Settings {
            protocol,
            ..settings(dialect)
        });
        bench.registry.gauge("a", "A.").register().unwrap().set(-2.5);
        bench.registry.int_gauge("b", "B.").register().unwrap().set(-3);
        bench.registry.up_down_counter("c", "C.").register().unwrap().add(4);
        bench.registry.gauge("d", "D.").register().unwrap().set(-0.0);
        let expected = match (dialect, protocol) {
            (Dialect::DogStatsD, 1..) => vec!["a:-2.5|g", "b:-3|g", "c:4|g", "d:0|g"],
            _ => vec!["a:0|g", "a:-2.5|g", "b:0|g", "b:-3|g", "c:4|g", "d:0|g"],
        };
        assert_eq!(bench.lines(), expected);
    }
    // Never in two packets: one line and a half would fit.
    let bench = Bench::new(Settings {
        limit: 20,
        ..settings(Dialect::Etsy)
    });
    bench.registry.int_gauge("a", "A.").register().unwrap().set(-11);
    bench.registry.int_gauge("b", "B.").register().unwrap().set(-22);
    assert_eq!(bench.packets(), ["a:0|g\na:-11|g", "b:0|g\nb:-22|g"]);
}

#[test]
fn what_is_not_finite_or_does_not_fit_is_refused_and_counted() {
    let bench = Bench::new(Settings {
        limit: 40,
        ..settings(Dialect::Telegraf)
    });
    let load = bench
        .registry
        .gauge("load", "Load.")
        .labels(["kind"])
        .register()
        .unwrap();
    load.with(["nan"]).set(f64::NAN);
    load.with(["inf"]).set(f64::INFINITY);
    load.with(["x".repeat(40)]).set(1.0);
    load.with(["good"]).set(2.0);
    assert_eq!(bench.packets(), ["load,kind=good:2|g"]);
    assert_eq!(bench.exporter.stats().rejected_points, 3);
}

#[test]
fn a_line_may_be_as_long_as_a_packet_and_no_longer() {
    for (ends_lines, limit, sent) in [(false, 5, 1), (false, 4, 0), (true, 6, 1), (true, 5, 0)] {
        let bench = Bench::new(Settings {
            limit,
            ends_lines,
            ..settings(Dialect::Etsy)
        });
        bench.registry.counter("a", "A.").register().unwrap().add(5);
        bench.registry.counter("b", "B.").register().unwrap().add(6);
        let expected: &[&str] = match (sent, ends_lines) {
            (0, _) => &[],
            (_, false) => &["a:5|c", "b:6|c"],
            (_, true) => &["a:5|c\n", "b:6|c\n"],
        };
        assert_eq!(bench.packets(), expected);
        assert_eq!(bench.exporter.stats().rejected_points, 2 - 2 * sent);
    }
}

#[test]
fn lines_are_packed_and_new_series_at_zero_are_not_sent() {
    let bench = Bench::new(settings(Dialect::Etsy));
    let jobs = bench
        .registry
        .counter("jobs", "Jobs.")
        .labels(["kind"])
        .register()
        .unwrap();
    let energy = bench.registry.float_counter("energy", "Energy.").register().unwrap();
    jobs.with(["a"]).add(0);
    jobs.with(["b"]).inc();
    assert_eq!(bench.packets(), ["jobs.kind.b:1|c"]);
    assert_eq!(bench.packets(), [""; 0]);
    energy.add(1.5);
    jobs.with(["a"]).add(u64::MAX);
    assert_eq!(bench.packets(), ["energy:1.5|c\njobs.kind.a:18446744073709551615|c"]);
}

#[test]
fn telegraf_gets_whole_counts_and_the_fraction_waits() {
    let bench = Bench::new(settings(Dialect::Telegraf));
    let energy = bench.registry.float_counter("energy", "Energy.").register().unwrap();
    for (more, expected) in [
        (0.75, None),
        (1.5, Some(2)),
        (0.5, None),
        (0.25, Some(1)),
        (3.0, Some(3)),
    ] {
        energy.add(more);
        let expected: Vec<String> = expected.iter().map(|whole| format!("energy:{whole}|c")).collect();
        assert_eq!(bench.lines(), expected, "{more}");
    }
    assert_eq!(bench.exporter.stats().rejected_points, 0);
}

#[test]
fn the_overflow_series_has_one_label() {
    let registry = Registry::builder().label("region", "eu").build().unwrap();
    let tags = vec![pair("env", "prod"), pair("bare", "")];
    let bench = Bench::of(
        registry,
        Settings {
            tags,
            ..settings(Dialect::DogStatsD)
        },
    );
    let jobs = bench.registry.counter("jobs", "Jobs.").labels(["kind"]).limit(1);
    let jobs = jobs.register().unwrap();
    for kind in ["a", "b", "c"] {
        jobs.with([kind]).inc();
    }
    let expected = [
        "jobs:1|c|#env:prod,bare,region:eu,kind:a",
        "jobs:2|c|#env:prod,bare,otel_metric_overflow:true",
    ];
    assert_eq!(bench.lines(), expected);
}

#[test]
fn fields_are_those_of_the_protocols_version_in_the_official_clients_order() {
    for (protocol, counter, histogram) in [
        (1, "a:1|c|#l:2", "h:1:1|h|#l:2"),
        (2, "a:1|c|#l:2|c:abc123", "h:1:1|h|#l:2|c:abc123"),
        (3, "a:1|c|#l:2|c:abc123|T1656581400", "h:1:1|h|#l:2|c:abc123"),
        (
            5,
            "a:1|c|#l:2|c:abc123|e:it-false,cn-web|T1656581400",
            "h:1:1|h|#l:2|c:abc123|e:it-false,cn-web",
        ),
        (
            6,
            "a:1|c|#l:2|c:abc123|e:it-false,cn-web|T1656581400|card:high",
            "h:1:1|h|#l:2|c:abc123|e:it-false,cn-web|card:high",
        ),
    ] {
        let bench = Bench::new(Settings {
            protocol,
            timestamps: true,
            origin: origin(),
            tags: vec![pair("l", "2")],
            ..settings(Dialect::DogStatsD)
        });
        bench.registry.counter("a", "A.").register().unwrap().inc();
        let buckets = Buckets::explicit([1.0]).unwrap();
        let sizes = bench.registry.histogram("h", "H.").buckets(buckets).register().unwrap();
        (0..2).for_each(|_| sizes.observe(1.0));
        assert_eq!(bench.lines(), [counter, histogram]);
    }
    // Other dialects' servers misread them.
    for dialect in Dialect::ALL
        .into_iter()
        .filter(|dialect| *dialect != Dialect::DogStatsD)
    {
        let bench = Bench::new(Settings {
            timestamps: true,
            origin: origin(),
            ..settings(dialect)
        });
        bench.registry.counter("a", "A.").register().unwrap().inc();
        assert_eq!(bench.lines(), ["a:1|c"]);
    }
}

#[test]
fn before_values_were_packed_each_sample_has_a_line() {
    let bench = Bench::new(Settings {
        protocol: 0,
        ..settings(Dialect::DogStatsD)
    });
    let sizes = bench
        .registry
        .histogram("size", "Size.")
        .buckets(Buckets::explicit([1.0]).unwrap());
    let sizes = sizes.register().unwrap();
    (0..21).for_each(|_| sizes.observe(0.5));
    assert_eq!(bench.lines(), ["size:0.5|h|@0.1", "size:0.5|h|@0.1", "size:0.5|h"]);
}

#[test]
fn etsys_server_knows_timers_alone_and_none_below_zero() {
    let bench = Bench::new(Settings {
        histograms: HistogramLines::Samples,
        ..settings(Dialect::Graphite)
    });
    let shift = bench.registry.histogram("shift", "Shift.").labels(["kind"]);
    let shift = shift
        .buckets(Buckets::explicit([-1.0, 1.0]).unwrap())
        .register()
        .unwrap();
    shift.with(["up"]).observe(1.0);
    shift.with(["down"]).observe(-2.0);
    assert_eq!(bench.lines(), ["shift;kind=up:1|ms"]);
    assert_eq!(bench.exporter.stats().rejected_points, 1);
}

#[test]
fn buckets_are_tags_where_there_are_tags() {
    for (dialect, expected) in [
        (
            Dialect::Graphite,
            [
                "size.bucket;kind=a;le=0.5:1|c",
                "size.count;kind=a:1|c",
                "size.sum;kind=a:0.25|c",
            ],
        ),
        (
            Dialect::SignalFx,
            [
                "size.bucket[kind=a,le=0.5]:1|c",
                "size.count[kind=a]:1|c",
                "size.sum[kind=a]:0.25|c",
            ],
        ),
        (
            Dialect::DogStatsD,
            [
                "size.bucket:1|c|#kind:a,le:0.5",
                "size.count:1|c|#kind:a",
                "size.sum:0.25|c|#kind:a",
            ],
        ),
        (
            Dialect::Etsy,
            [
                "size.kind.a.bucket.0_5:1|c",
                "size.kind.a.count:1|c",
                "size.kind.a.sum:0.25|c",
            ],
        ),
    ] {
        let bench = Bench::new(Settings {
            histograms: HistogramLines::Counters,
            ..settings(dialect)
        });
        let sizes = bench.registry.histogram("size", "Size.").labels(["kind"]);
        let sizes = sizes.buckets(Buckets::explicit([0.5]).unwrap()).register().unwrap();
        sizes.with(["a"]).observe(0.25);
        assert_eq!(bench.lines(), expected);
    }
}

#[test]
fn a_part_of_a_histogram_is_one_by_itself() {
    let bench = Bench::new(Settings {
        limit: 60,
        ..settings(Dialect::Etsy)
    });
    let sizes = bench
        .registry
        .histogram("s", "Size.")
        .buckets(Buckets::explicit([1.0, 2.0, 3.0]).unwrap());
    let sizes = sizes.register().unwrap();
    for value in [0.5, 1.5, 2.5, 3.5] {
        sizes.observe(value);
    }
    let expected = [
        "s.bucket.1:1|c\ns.bucket.2:1|c\ns.count:2|c\ns.sum:2|c",
        "s.bucket.3:1|c\ns.bucket.inf:1|c\ns.count:2|c\ns.sum:6|c",
    ];
    assert_eq!(bench.packets(), expected);
}

#[test]
fn samples_are_sent_as_they_were_recorded() {
    for (protocol, limit, expected) in [
        (6, 1432, vec!["wait:1:-2.5:3:4|d|#a:b"]),
        (6, 20, vec!["wait:1:-2.5:3|d|#a:b", "wait:4|d|#a:b"]),
        (
            0,
            30,
            vec!["wait:1|d|#a:b\nwait:-2.5|d|#a:b", "wait:3|d|#a:b\nwait:4|d|#a:b"],
        ),
    ] {
        let bench = Bench::new(Settings {
            protocol,
            limit,
            tags: vec![pair("a", "b")],
            ..settings(Dialect::DogStatsD)
        });
        let waits = bench.registry.distribution("wait", "Waits.").register().unwrap();
        for value in [1.0, -2.5, 3.0, 4.0] {
            waits.observe(value);
        }
        let packets = bench.packets();
        assert_eq!(packets, expected);
        assert!(packets.iter().all(|packet| packet.len() <= limit));
    }
}

#[test]
fn messages_are_those_of_the_official_client() {
    let mut encoder = Encoder::new(Settings {
        protocol: 1,
        prefix: "app.".to_owned(),
        ..settings(Dialect::DogStatsD)
    });
    let tags = [pair("a", "b")];
    let mut put = |message: Message<'_>| {
        let mut packet = Vec::new();
        assert_eq!(encoder.put_message(&message, &mut packet), Put::Written);
        String::from_utf8(packet).unwrap()
    };
    let event = EventFields {
        title: "t",
        text: "a\nb",
        tags: &tags,
        ..EventFields::default()
    };
    assert_eq!(put(Message::Event(event)), "_e{1,4}:t|a\\nb|#a:b");
    let full = EventFields {
        title: "é\r\n|",
        text: "|#x",
        timestamp: Some(5),
        hostname: Some("h|x\n"),
        aggregation_key: Some("k"),
        priority: Some("low"),
        source: Some("s"),
        alert: Some("error"),
        tags: &[],
    };
    let expected = "_e{5,3}:é\\n|||#x|d:5|h:h_x_|k:k|p:low|s:s|t:error";
    assert_eq!(put(Message::Event(full)), expected);
    let check = CheckFields {
        name: "sc",
        status: 1,
        message: Some("m:m\nn|x"),
        tags: &tags,
        ..CheckFields::default()
    };
    assert_eq!(put(Message::ServiceCheck(check)), "_sc|sc|1|#a:b|m:m\\:m\\nn_x");
    let set = SetFields {
        name: "users",
        member: "u|1\n:x#y",
        tags: &tags,
    };
    assert_eq!(put(Message::Set(set)), "app.users:u_1__x#y|s|#a:b");
}

#[test]
fn messages_that_a_server_does_not_know_are_refused() {
    let set = Message::Set(SetFields {
        name: "users",
        member: "u",
        tags: &[],
    });
    let event = Message::Event(EventFields {
        title: "t",
        ..EventFields::default()
    });
    for (dialect, of_sets, of_events) in [
        (Dialect::Etsy, true, false),
        (Dialect::DogStatsD, true, true),
        (Dialect::Telegraf, true, false),
        (Dialect::Librato, false, false),
        (Dialect::SignalFx, false, false),
        (Dialect::Graphite, true, false),
    ] {
        let mut encoder = Encoder::new(settings(dialect));
        for (message, is_known) in [(set, of_sets), (event, of_events)] {
            let mut packet = Vec::new();
            let put = encoder.put_message(&message, &mut packet);
            assert_eq!(put == Put::Written, is_known);
            assert_eq!(packet.is_empty(), !is_known);
        }
    }
}

#[test]
fn messages_share_packets_up_to_the_limit() {
    let mut encoder = Encoder::new(Settings {
        limit: 15,
        ends_lines: true,
        origin: origin(),
        protocol: 1,
        ..settings(Dialect::DogStatsD)
    });
    let set = |member| {
        Message::Set(SetFields {
            name: "u",
            member,
            tags: &[],
        })
    };
    let mut packet = Vec::new();
    assert_eq!(encoder.put_message(&set("1"), &mut packet), Put::Written);
    assert_eq!(encoder.put_message(&set("2"), &mut packet), Put::Written);
    assert_eq!(encoder.put_message(&set("3"), &mut packet), Put::Full);
    assert_eq!(packet, b"u:1|s\nu:2|s\n");
    let long = encoder.put_message(&set("a member too long"), &mut Vec::new());
    assert!(matches!(long, Put::Refused(_)));
}
