//! What the official clients of DogStatsD write for the same input, byte for byte, but for what they are documented to do otherwise.

use super::deliver;
use super::on_demand;
use crate::program::{PATIENCE, Program, installed, project};
use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::process::Command;
use std::time::{Duration, SystemTime};
use tidegauge::{
    AlertType, Buckets, Cardinality, Clock, Event, EventPriority, Messages, Registry, ServiceCheck, ServiceStatus,
    StatsD, StatsDBuilder, SystemClock,
};

const CONTAINER: &str = "ci-abc123";
const EXTERNAL: &str = "it-false,cn-web,pu-1f";
/// Of all points that have a time: 2022, as in the reference.
const TIME: Duration = Duration::from_secs(1_656_581_400);

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn the_official_go_client_writes_the_same_bytes() {
    let go = lines_of(Command::new(installed("datadog/golden")), |port| {
        format!("127.0.0.1:{port}")
    });
    let go = go.into_iter().map(|line| {
        // It writes timings with six decimals.
        let line = line.replace(":320.000000|ms", ":320|ms");
        // It leaves external data out where it packs values, though it writes it everywhere else.
        match line.split_once("|c:") {
            Some((head, _)) if line.starts_with("app.size.packed:") => format!("{head}{}", origin()),
            _ => line,
        }
    });
    assert_eq!(go.collect::<BTreeSet<_>>(), ours());
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn the_official_python_client_writes_the_same_fields() {
    let mut python = Command::new(installed("datadog/python/bin/python"));
    python.arg(project().join(".ci/servers/datadog/golden.py"));
    let python: BTreeSet<_> = lines_of(python, |port| port.to_string())
        .iter()
        .map(|line| fields(line))
        .collect();
    let ours = ours().into_iter().filter(|line| {
        // It writes numbers with exponents, and packs values only when it aggregates.
        ["app.level.large:", "app.level.small:", "app.size.packed:"]
            .iter()
            .all(|name| !line.starts_with(name))
    });
    let ours = ours.map(|line| {
        // It writes external data of metrics alone.
        let has_no_external = line.starts_with("_e") || line.starts_with("_sc");
        fields(&if has_no_external {
            line.replace(&format!("|e:{EXTERNAL}"), "")
        } else {
            line
        })
    });
    assert_eq!(python, ours.collect::<BTreeSet<_>>());
}

/// Every ten seconds it tells all that it counts; the crate tells, with each collection, what is not zero, and has no queue of packets
/// and no contexts to tell of.
#[test]
#[ignore = "needs the servers of .ci/servers"]
fn the_official_go_client_tells_the_same_of_itself() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut go = Program::start(
        Command::new(installed("datadog/golden"))
            .arg(socket.local_addr().unwrap().to_string())
            .args([CONTAINER, "telemetry"])
            .env("DD_EXTERNAL_ENV", EXTERNAL)
            .env("DD_CARDINALITY", "high"),
    );
    let mut told = BTreeSet::new();
    let is_last = |line: &String| line.starts_with("datadog.dogstatsd.client.aggregated_context_by_type:");
    while !told.iter().any(is_last) {
        let mut packet = [0; 65_536];
        let length = socket
            .recv(&mut packet)
            .unwrap_or_else(|error| panic!("{error}\n{}", go.report("did not tell of itself")));
        let line = std::str::from_utf8(&packet[..length]).expect("lines are text");
        told.insert(line.trim_end_matches('\n').to_string());
    }
    drop(go);
    let told: BTreeSet<_> = told.iter().filter_map(|line| telemetry(line)).collect();

    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let registry = Registry::new();
    let jobs = registry.counter("jobs", "Jobs run.").register().unwrap();
    let statsd = golden(&socket).build().unwrap();
    let messages = statsd.messages();
    let exporter = on_demand(statsd, &registry);
    for _ in 0..2 {
        jobs.inc();
        assert!(messages.set("users", "u-123", &[]));
        assert!(messages.event(Event::new("t", "x")));
        assert!(messages.service_check(ServiceCheck::new("db.up", ServiceStatus::Ok)));
        deliver(&exporter);
    }
    exporter.shutdown(PATIENCE).unwrap();
    let ours: BTreeSet<_> = lines_in(&socket).iter().filter_map(|line| telemetry(line)).collect();
    assert!(
        ours.is_subset(&told),
        "{:#?} are not among {told:#?}",
        ours.difference(&told)
    );
    let counts: BTreeSet<&str> = ours.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "bytes_sent",
        "events",
        "metrics",
        "metrics_by_type",
        "packets_sent",
        "service_checks",
    ];
    assert_eq!(counts, BTreeSet::from(expected));
}

/// What a count of a client's own is called, and what it says besides its value and who the client is.
fn telemetry(line: &str) -> Option<(String, BTreeSet<String>)> {
    let (head, mut fields) = fields(line.strip_prefix("datadog.dogstatsd.client.")?);
    let (name, value) = head.split_once(':').expect("a line has a value");
    let (_, kind) = value.split_once('|').expect("a line has a type");
    assert_eq!(kind, "c", "{line}");
    let own = |field: &String| field.starts_with("#client:") || field.starts_with("#client_version:");
    assert_eq!(fields.iter().filter(|field| own(field)).count(), 2, "{line}");
    // The Go client leaves external data out of these, too.
    fields.retain(|field| !own(field) && *field != format!("e:{EXTERNAL}"));
    Some((name.to_string(), fields))
}

/// What stands before the tags as it is, and the fields behind it in an order of their own: the Python client writes the tags of
/// a client last and the time behind the cardinality, and the reference has no order.
fn fields(line: &str) -> (String, BTreeSet<String>) {
    let (head, rest) = line.split_once("|#").expect("every line has tags");
    let mut fields = rest.split('|');
    let tags = fields
        .next()
        .unwrap_or_default()
        .split(',')
        .map(|tag| format!("#{tag}"));
    (head.to_string(), tags.chain(fields.map(str::to_string)).collect())
}

/// The lines that a program sends to a port of the test's until it says `end`, each in a packet of its own.
fn lines_of(mut command: Command, address: impl Fn(u16) -> String) -> BTreeSet<String> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    command
        .arg(address(socket.local_addr().unwrap().port()))
        .arg(CONTAINER)
        .env("DD_EXTERNAL_ENV", EXTERNAL)
        .env("DD_CARDINALITY", "high");
    let mut program = Program::start(&mut command);
    let mut lines = BTreeSet::new();
    loop {
        let mut packet = [0; 65_536];
        let length = socket
            .recv(&mut packet)
            .unwrap_or_else(|error| panic!("{error}\n{}", program.report("sent too little")));
        let line = std::str::from_utf8(&packet[..length])
            .expect("lines are text")
            .trim_end_matches('\n');
        if line.starts_with("app.end:") {
            break;
        }
        lines.insert(line.to_string());
    }
    assert!(program.wait_for_end().unwrap().success());
    lines
}

/// The lines that the crate sends for the input of those programs.
fn ours() -> BTreeSet<String> {
    let mut lines = without_times();
    lines.extend(with_times());
    lines
}

fn without_times() -> BTreeSet<String> {
    let registry = Registry::new();
    sent(&registry, false, |messages| {
        let counter = |name| registry.counter(name, "A golden count.");
        counter("jobs").labels(LABELS).register().unwrap().with(VALUES).add(3);
        counter("untagged").register().unwrap().inc();
        let levels = [
            ("level", 1.5),
            ("level.negative", -5.0),
            ("level.large", 1e21),
            ("level.small", 1e-7),
        ];
        for (name, value) in levels {
            let gauge = registry
                .gauge(name, "A golden gauge.")
                .labels(LABELS)
                .register()
                .unwrap();
            gauge.with(VALUES).set(value);
        }
        // One observation is sent as it was, because the histogram knows its sum.
        let bounds = |bound| Buckets::explicit([bound]).unwrap();
        let histogram = |name, bound| registry.histogram(name, "A golden histogram.").buckets(bounds(bound));
        let bytes = histogram("bytes", 1024.0).labels(LABELS).register().unwrap();
        bytes.with(VALUES).observe(512.0);
        let took = histogram("took", 0.64).unit("s").labels(LABELS).register().unwrap();
        took.with(VALUES).observe(0.32);
        let distribution = |name| registry.distribution(name, "A golden distribution.");
        distribution("size")
            .labels(LABELS)
            .register()
            .unwrap()
            .with(VALUES)
            .observe(0.1);
        let packed = distribution("size.packed").labels(["zone"]).register().unwrap();
        for value in [1.0, 2.5, 3.0, 0.1] {
            packed.with(["eu"]).observe(value);
        }
        say(messages);
    })
}

fn say(messages: &Messages) {
    assert!(messages.set("users", "u-123", &[("path", "/a"), ("zone", "eu")]));
    let time = SystemTime::UNIX_EPOCH + TIME;
    let event = Event::new("deploy é", "line 1\nline 2|x")
        .time(time)
        .host("host-1")
        .aggregation_key("key")
        .priority(EventPriority::Low)
        .source("ci")
        .alert(AlertType::Warning)
        .tag("path", "/a")
        .tag("zone", "eu");
    assert!(messages.event(event));
    assert!(messages.event(Event::new("t", "x")));
    let check = ServiceCheck::new("db.up", ServiceStatus::Critical)
        .time(time)
        .host("host-1")
        .message("refused\nm: twice")
        .tag("path", "/a")
        .tag("zone", "eu");
    assert!(messages.service_check(check));
    assert!(messages.service_check(ServiceCheck::new("db.up", ServiceStatus::Ok)));
}

fn with_times() -> BTreeSet<String> {
    let registry = Registry::builder().clock(Standing).build().unwrap();
    sent(&registry, true, |_| {
        let jobs = registry
            .counter("jobs.timed", "A golden count.")
            .labels(LABELS)
            .register()
            .unwrap();
        jobs.with(VALUES).add(4);
        let level = registry
            .gauge("level.timed", "A golden gauge.")
            .labels(LABELS)
            .register()
            .unwrap();
        level.with(VALUES).set(2.25);
    })
}

const LABELS: [&str; 2] = ["path", "zone"];
const VALUES: [&str; 2] = ["/a", "eu"];

/// A clock whose date stands still at the time of the golden points.
struct Standing;

impl Clock for Standing {
    fn monotonic(&self) -> Duration {
        SystemClock.monotonic()
    }

    fn unix(&self) -> Duration {
        TIME
    }
}

/// What one collection sends of what is recorded, without what the crate tells of itself.
fn sent(registry: &Registry, timestamps: bool, record: impl Fn(&Messages)) -> BTreeSet<String> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let statsd = golden(&socket).client_telemetry(false).timestamps(timestamps);
    let statsd = statsd.build().unwrap();
    let messages = statsd.messages();
    let exporter = on_demand(statsd, registry);
    record(&messages);
    deliver(&exporter);
    exporter.shutdown(PATIENCE).unwrap();
    let mut lines = lines_in(&socket);
    lines.retain(|line| !line.contains("tidegauge"));
    lines
}

/// A destination that is told what those programs are.
fn golden(socket: &UdpSocket) -> StatsDBuilder {
    StatsD::builder(format!("dogstatsd+udp://{}", socket.local_addr().unwrap()))
        .environment(false)
        .prefix("app.")
        .tag("env", "test")
        .container_id(CONTAINER)
        .external_data(EXTERNAL)
        .cardinality(Cardinality::High)
}

/// The lines that have come by now: what was sent over loopback has.
fn lines_in(socket: &UdpSocket) -> BTreeSet<String> {
    socket.set_nonblocking(true).unwrap();
    let mut lines = BTreeSet::new();
    let mut packet = [0; 65_536];
    while let Ok(length) = socket.recv(&mut packet) {
        let packet = std::str::from_utf8(&packet[..length]).expect("lines are text");
        lines.extend(packet.lines().map(str::to_string));
    }
    lines
}

fn origin() -> String {
    format!("|c:{CONTAINER}|e:{EXTERNAL}|card:high")
}
