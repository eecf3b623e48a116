//! The destination as a whole, before sockets of the tests' own.

use super::{Dialect, Event, ServiceCheck, ServiceStatus, StatsD, StatsDBuilder, builder::Surroundings};
use crate::{
    Answer, BatchId, Destination, Exporter, ExporterHandle, Filter, Payload, Registry, destination::Preferences,
    testing,
};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs, iter,
    net::UdpSocket,
    path::{Path, PathBuf},
    time::Duration,
};

const DEADLINE: Duration = Duration::from_secs(60);
/// For flushes that cannot be done.
const MOMENT: Duration = Duration::from_millis(100);

/// A far end that takes what it is sent.
struct Server {
    socket: UdpSocket,
}

impl Server {
    fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Server { socket }
    }

    fn builder(&self, dialect: Dialect) -> StatsDBuilder {
        let url = format!("udp://{}", self.socket.local_addr().unwrap());
        let builder = StatsD::builder(url).dialect(dialect);
        builder.environment(false).origin_detection(false)
    }

    fn packet(&self) -> Vec<u8> {
        let mut packet = [0; 65_536];
        let length = self.socket.recv(&mut packet).unwrap();
        packet[..length].to_vec()
    }

    /// Packets up to one with a line that begins so: all lines in them.
    fn lines_until(&self, start: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let packet = String::from_utf8(self.packet()).unwrap();
            lines.extend(packet.lines().map(str::to_owned));
            if packet.lines().any(|line| line.starts_with(start)) {
                return lines;
            }
        }
    }
}

/// A registry without metrics of the exporter's in what is sent, and an exporter that sends when it is told.
fn start(statsd: StatsD) -> (Registry, ExporterHandle) {
    let registry = Registry::new();
    let handle = Exporter::new(statsd)
        .filter(Filter::new().families(|family| !family.name().starts_with("tidegauge_")))
        .interval(Duration::from_secs(100_000))
        .start(&registry)
        .unwrap();
    (registry, handle)
}

/// What is set, in a file system without anything.
fn built(builder: StatsDBuilder, variables: &[(&str, &str)]) -> Result<StatsD, super::StatsDError> {
    built_below(builder, variables, Path::new("/nonexistent"))
}

fn built_below(builder: StatsDBuilder, variables: &[(&str, &str)], root: &Path) -> Result<StatsD, super::StatsDError> {
    builder.build_in(&Surroundings {
        variables: &|wanted| {
            let mut found = variables.iter().filter(|(name, _)| *name == wanted);
            found.next().map(|(_, value)| OsString::from(value))
        },
        root,
    })
}

#[test]
fn increments_arrive_once_and_gauges_as_they_stand() {
    let server = Server::start();
    let statsd = server.builder(Dialect::DogStatsD).prefix("app.").tag("env", "prod");
    let (registry, exporter) = start(statsd.build().unwrap());
    let jobs = registry.counter("jobs", "Jobs.").labels(["queue"]).register().unwrap();
    let depth = registry.int_gauge("depth", "Depth.").register().unwrap();

    jobs.with(["mail"]).add(3);
    depth.set(-7);
    exporter.flush(DEADLINE).unwrap();
    jobs.with(["mail"]).add(4);
    exporter.flush(DEADLINE).unwrap();
    let last = registry.counter("last", "Last.").register().unwrap();
    last.inc();
    exporter.flush(DEADLINE).unwrap();

    let lines = server.lines_until("app.last:");
    let of = |name: &str| -> Vec<&str> {
        let lines = lines.iter().filter(|line| line.starts_with(name));
        lines.map(|line| line.split("|#").next().unwrap()).collect()
    };
    assert_eq!(of("app.jobs:"), ["app.jobs:3|c", "app.jobs:4|c"], "{lines:#?}");
    assert_eq!(of("app.depth:"), ["app.depth:-7|g"; 3], "{lines:#?}");
    let jobs = lines.iter().find(|line| line.starts_with("app.jobs:")).unwrap();
    assert!(jobs.contains("env:prod") && jobs.contains("queue:mail"), "{jobs}");
}

#[test]
fn messages_go_beside_points() {
    let server = Server::start();
    let statsd = server
        .builder(Dialect::DogStatsD)
        .tag("env", "prod")
        .container_id("abc")
        .build();
    let statsd = statsd.unwrap();
    let messages = statsd.messages();
    let (_registry, exporter) = start(statsd);

    assert!(messages.event(Event::new("Deployed", "a\nb").tag("x", "y")));
    assert!(messages.service_check(ServiceCheck::new("db", ServiceStatus::Critical).message("gone")));
    for _ in 0..3 {
        assert!(messages.clone().set("users", "u-1|x", &[("country", "de")]));
    }
    assert!(messages.set("users", "u-2", &[("country", "de")]));
    exporter.flush(DEADLINE).unwrap();
    // In another collection it is new again.
    assert!(messages.set("users", "u-2", &[("country", "de")]));
    assert!(messages.event(Event::new("End", "")));
    exporter.flush(DEADLINE).unwrap();

    let lines = server.lines_until("_e{3,0}:End|");
    let own: Vec<&str> = lines
        .iter()
        .map(String::as_str)
        .filter(|line| line.starts_with("_") || line.starts_with("users"))
        .collect();
    assert_eq!(
        own,
        [
            "_e{8,4}:Deployed|a\\nb|#env:prod,x:y|c:abc",
            "_sc|db|2|#env:prod|m:gone|c:abc",
            "users:u-1_x|s|#env:prod,country:de|c:abc",
            "users:u-2|s|#env:prod,country:de|c:abc",
            "users:u-2|s|#env:prod,country:de|c:abc",
            "_e{3,0}:End||#env:prod|c:abc",
        ]
    );
    assert_eq!(messages.dropped(), 0);
}

#[test]
fn what_there_is_no_room_for_is_dropped_and_counted() {
    let server = Server::start();
    let builder = server.builder(Dialect::DogStatsD).message_queue(2).packet_size(180);
    let statsd = builder.build().unwrap();
    let messages = statsd.messages();
    let (registry, exporter) = start(statsd);

    assert!(messages.set("s", "1", &[]));
    assert!(messages.set("s", "2", &[]));
    assert!(!messages.set("s", "3", &[]), "the queue is full");
    assert!(!messages.set("s", "3", &[]), "and what was dropped was not seen");
    assert!(messages.set("s", "2", &[]), "what is queued is queued");
    assert_eq!(messages.dropped(), 2);
    exporter.flush(DEADLINE).unwrap();
    assert!(messages.event(Event::new("longer than a packet", "x".repeat(200))));
    assert!(messages.set("s", "3", &[]));
    exporter.flush(DEADLINE).unwrap();
    assert_eq!(messages.dropped(), 3);
    assert!(messages.set("s", "4", &[]));
    exporter.flush(DEADLINE).unwrap();
    let name = "tidegauge_exporter_dropped_points_total";
    testing::assert_value(&registry, name, [("reason", "message_queue")], 3.0);

    let name = "datadog.dogstatsd.client.metric_dropped_on_receive:";
    let lines = server.lines_until(&format!("{name}1|"));
    let starting = |start: &str| -> Vec<&str> {
        let starting = lines.iter().filter(|line| line.starts_with(start));
        starting.map(|line| line.split('|').next().unwrap()).collect()
    };
    assert_eq!(starting("s:"), ["s:1", "s:2", "s:3", "s:4"]);
    assert_eq!(starting(name), [format!("{name}2"), format!("{name}1")]);
}

#[test]
fn other_dialects_have_sets_and_no_events() {
    for dialect in [Dialect::Etsy, Dialect::Telegraf, Dialect::Graphite] {
        let server = Server::start();
        let statsd = server.builder(dialect).build().unwrap();
        let messages = statsd.messages();
        let (_registry, exporter) = start(statsd);
        assert!(!messages.event(Event::new("a", "b")), "{dialect}");
        assert!(
            !messages.service_check(ServiceCheck::new("a", ServiceStatus::Ok)),
            "{dialect}"
        );
        assert!(messages.set("users", "u1", &[]), "{dialect}");
        assert_eq!(messages.dropped(), 2);
        exporter.flush(DEADLINE).unwrap();
        let lines = server.lines_until("users:u1|s");
        let of_client = lines.iter().find(|line| line.starts_with("datadog."));
        assert_eq!(of_client, None, "{dialect}");
    }
    for dialect in [Dialect::Librato, Dialect::SignalFx] {
        let statsd = built(StatsD::builder("udp://agent").dialect(dialect), &[]).unwrap();
        assert!(!statsd.messages().set("users", "u1", &[]), "{dialect}");
        assert_eq!(statsd.messages().dropped(), 1);
    }
}

#[test]
fn packets_are_whole_and_within_their_limit() {
    for (size, dialect) in [
        (64, Dialect::DogStatsD),
        (300, Dialect::DogStatsD),
        (200, Dialect::Telegraf),
    ] {
        let server = Server::start();
        let statsd = server
            .builder(dialect)
            .packet_size(size)
            .client_telemetry(false)
            .build()
            .unwrap();
        let messages = statsd.messages();
        let (registry, exporter) = start(statsd);
        let counters = registry.counter("c", "Many.").labels(["number"]).register().unwrap();
        for number in 0..50 {
            counters.with([number.to_string().as_str()]).add(number + 1);
            assert!(messages.set("members", &number.to_string(), &[]));
        }
        exporter.flush(DEADLINE).unwrap();
        assert!(messages.set("end", "1", &[]));
        exporter.flush(DEADLINE).unwrap();
        let (mut sum, mut members) = (0, 0);
        loop {
            let packet = server.packet();
            assert!(packet.len() <= size, "{}", packet.len());
            let text = String::from_utf8(packet).unwrap();
            for line in text.lines() {
                if line.starts_with("c:") || line.starts_with("c,") {
                    let value = line
                        .split(':')
                        .find_map(|part| part.split("|c").next()?.parse::<u64>().ok());
                    sum += value.unwrap_or_else(|| panic!("{line}"));
                }
                members += u64::from(line.starts_with("members:"));
            }
            if text.lines().any(|line| line.starts_with("end:")) {
                break;
            }
        }
        assert_eq!((sum, members), (50 * 51 / 2, 50), "{size}, {dialect}");
    }
}

#[test]
fn the_client_says_what_it_sent() {
    let server = Server::start();
    let statsd = server.builder(Dialect::DogStatsD).packet_size(8_192).build().unwrap();
    let messages = statsd.messages();
    let (_registry, exporter) = start(statsd);
    messages.event(Event::new("a", "b"));
    exporter.flush(DEADLINE).unwrap();
    let first = server.packet();
    exporter.flush(DEADLINE).unwrap();
    messages.event(Event::new("end", ""));
    exporter.flush(DEADLINE).unwrap();
    let lines = server.lines_until("_e{3,0}:end|");
    let said: BTreeMap<&str, u64> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("datadog.dogstatsd.client.")?.split_once(':'))
        .filter(|(_, rest)| !rest.contains("metrics_type"))
        .map(|(name, rest)| (name, rest.split('|').next().unwrap().parse().unwrap()))
        .fold(BTreeMap::new(), |mut said, (name, count)| {
            // The first of each: of the first collection.
            said.entry(name).or_insert(count);
            said
        });
    assert_eq!(said["events"], 1);
    assert_eq!(said["packets_sent"], 1);
    assert_eq!(said["bytes_sent"], first.len() as u64);
    let line = lines.iter().find(|line| line.contains("client.events:")).unwrap();
    let tags = format!(
        "|c|#client:tidegauge,client_version:{},client_transport:udp",
        env!("CARGO_PKG_VERSION")
    );
    assert!(line.ends_with(&tags), "{line}");
}

#[test]
fn the_environment_says_where_and_who() {
    let variables = [
        ("DD_AGENT_HOST", "agent"),
        ("DD_DOGSTATSD_PORT", "9125"),
        ("DD_ENV", "prod"),
        ("DD_SERVICE", "shop"),
    ];
    let from = |variables: &[(&str, &str)]| built(StatsD::environment_builder(), variables);
    let statsd = from(&variables).unwrap();
    assert_eq!(statsd.address(), "udp://agent:9125");
    assert_eq!(from(&[]).unwrap().address(), "udp://127.0.0.1:8125");
    assert!(!statsd.preferences().disabled);
    assert!(
        from(&[("DD_DOGSTATSD_DISABLE", "true")])
            .unwrap()
            .preferences()
            .disabled
    );

    for (variable, value) in [
        ("DD_DOGSTATSD_URL", "agent:8125"),
        ("DD_DOGSTATSD_URL", "http://agent"),
        ("DD_AGENT_HOST", "a b"),
        ("DD_DOGSTATSD_PORT", "99999"),
        ("DD_CARDINALITY", "most"),
        ("DD_ORIGIN_DETECTION_ENABLED", "perhaps"),
        ("DD_DOGSTATSD_DISABLE", "perhaps"),
        ("DD_TAGS", ":"),
    ] {
        let error = from(&[(variable, value)]).unwrap_err().to_string();
        assert!(error.starts_with(variable), "{error}");
        // With a URL of the application's, the environment's mistakes do not stop it.
        built(StatsD::builder("udp://agent"), &[(variable, value)]).unwrap();
    }
}

/// Tags and origin as they are in the lines of an event.
fn tail(builder: StatsDBuilder, variables: &[(&str, &str)], root: &Path) -> String {
    let mut statsd = built_below(builder, variables, root).unwrap();
    assert!(statsd.messages().event(Event::new("a", "b")));
    statsd.messages_left = statsd.outbox.begin();
    let mut packet = Vec::new();
    assert_eq!(statsd.put_messages(&mut packet), 1);
    let line = String::from_utf8(packet).unwrap();
    line.strip_prefix("_e{1,1}:a|b").unwrap().to_owned()
}

#[test]
fn origin_is_said_as_far_as_the_protocol_has_it() {
    let id = "8c046cb0b72cd4c99f51b5591cd5b095967f58ee003710a45280c28ee1a9c7fa";
    let root = std::env::temp_dir().join(format!("tidegauge-statsd-{}", std::process::id()));
    fs::create_dir_all(root.join("proc/self")).unwrap();
    fs::write(root.join("proc/self/cgroup"), format!("0::/docker/{id}\n")).unwrap();
    let variables = [
        ("DD_EXTERNAL_ENV", "it-false,cn-web"),
        ("DD_CARDINALITY", "low"),
        ("DD_ENV", "prod"),
        ("DD_VERSION", "1"),
    ];
    let url = "udp://agent";
    let said = |builder: StatsDBuilder| tail(builder, &variables, &root);
    let tags = "|#env:prod,version:1";
    for (protocol, origin) in [
        (0, String::new()),
        (1, String::new()),
        (2, format!("|c:{id}")),
        (4, format!("|c:{id}")),
        (5, format!("|c:{id}|e:it-false,cn-web")),
        (6, format!("|c:{id}|e:it-false,cn-web|card:low")),
    ] {
        assert_eq!(
            said(StatsD::builder(url).protocol(protocol)),
            format!("{tags}{origin}"),
            "{protocol}"
        );
    }
    assert_eq!(
        said(StatsD::builder(url).origin_detection(false)),
        format!("{tags}|card:low")
    );
    let set = StatsD::builder(url)
        .tag("env", "mine")
        .container_id("abc")
        .external_data("x|y")
        .cardinality(super::Cardinality::High);
    assert_eq!(said(set), "|#env:mine,version:1|c:abc|e:xy|card:high");
    assert_eq!(said(StatsD::builder(url).environment(false)), format!("|c:{id}"));
    let off = [("DD_ORIGIN_DETECTION_ENABLED", "false"), ("DD_EXTERNAL_ENV", "x")];
    assert_eq!(tail(StatsD::builder(url), &off, &root), "");

    #[cfg(unix)]
    {
        fs::write(root.join("proc/self/cgroup"), "0::/\n").unwrap();
        fs::create_dir_all(root.join("sys/fs/cgroup")).unwrap();
        let number = std::os::unix::fs::MetadataExt::ino(&fs::metadata(root.join("sys/fs/cgroup")).unwrap());
        let builder = || StatsD::builder(url).environment(false);
        assert_eq!(tail(builder(), &[], &root), format!("|c:in-{number}"));
        assert_eq!(tail(builder().protocol(3), &[], &root), "");
    }
    fs::remove_dir_all(&root).unwrap();
}

#[test]
fn only_dogstatsd_hears_of_datadog() {
    let server = Server::start();
    let url = format!("statsd+udp://{}?dialect=telegraf", server.socket.local_addr().unwrap());
    let variables = [
        ("DD_ENV", "prod"),
        ("DD_DOGSTATSD_DISABLE", "1"),
        ("DD_EXTERNAL_ENV", "x"),
    ];
    let statsd = built(StatsD::builder(url).container_id("abc"), &variables).unwrap();
    assert!(!statsd.preferences().disabled);
    let messages = statsd.messages();
    let (_registry, exporter) = start(statsd);
    messages.set("users", "u1", &[]);
    exporter.flush(DEADLINE).unwrap();
    let lines = server.lines_until("users:");
    assert!(lines.contains(&"users:u1|s".to_owned()), "{lines:#?}");
}

#[test]
fn settings_that_cannot_be_are_named() {
    let url = "dogstatsd+udp://agent";
    for (builder, setting) in [
        (StatsD::builder(url).packet_size(63), "packet size"),
        (StatsD::builder(url).packet_size(65_468), "packet size"),
        (StatsD::builder(url).message_queue(0), "message queue"),
        (StatsD::builder(url).message_queue(usize::MAX), "message queue"),
        (StatsD::builder(url).protocol(7), "protocol"),
        (StatsD::builder(url).protocol(2).timestamps(true), "timestamps"),
        (StatsD::builder(url).tag(" ", "x"), "tag"),
        (StatsD::builder(url).container_id("a|b"), "container id"),
        (StatsD::builder(url).container_id(""), "container id"),
        (StatsD::builder("agent:8125"), "the URL `agent:8125`"),
        (
            StatsD::builder("unixstream:///a").dialect(Dialect::Etsy),
            "the URL `unixstream:///a`",
        ),
    ] {
        let error = built(builder, &[]).unwrap_err().to_string();
        assert!(error.starts_with(setting), "{error}");
    }
}

#[test]
fn preferences_are_those_of_the_servers_windows() {
    let statsd = built(StatsD::builder("udp://agent"), &[]).unwrap();
    let Preferences {
        interval,
        send_timeout,
        spread,
        disabled,
        ..
    } = statsd.preferences();
    assert_eq!(interval, Some(Duration::from_secs(10)));
    assert_eq!(send_timeout, Some(Duration::from_secs(1)));
    assert_eq!(spread, Some(Duration::from_secs(5)));
    assert!(!disabled);
}

#[test]
fn nothing_secret_is_shown() {
    let url = "udp://user:hush@agent?token=hush";
    assert!(!format!("{:?}", StatsD::builder(url)).contains("hush"));
    assert!(!StatsD::new(url).unwrap_err().to_string().contains("hush"));
    let shown = format!("{:?}", built(StatsD::builder("udp://agent"), &[]).unwrap());
    assert!(shown.contains("agent"), "{shown}");
}

/// A socket's path, and the file removed with it.
#[cfg(unix)]
struct SocketFile(PathBuf);

#[cfg(unix)]
impl SocketFile {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tidegauge-{name}-{}.socket", std::process::id()));
        let _ = fs::remove_file(&path);
        SocketFile(path)
    }
}

#[cfg(unix)]
impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(unix)]
#[test]
fn what_the_system_refuses_is_carried_over_or_counted() {
    use std::os::unix::net::UnixDatagram;

    let file = SocketFile::new("refused");
    let url = format!("dogstatsd+unixgram://{}", file.0.display());
    let statsd = StatsD::builder(url)
        .environment(false)
        .origin_detection(false)
        .build()
        .unwrap();
    let messages = statsd.messages();
    let (registry, exporter) = start(statsd);
    let jobs = registry.counter("jobs", "Jobs.").register().unwrap();

    jobs.add(3);
    messages.event(Event::new("first", ""));
    let error = exporter.flush(MOMENT).unwrap_err().to_string();
    assert!(error.contains(&file.0.display().to_string()), "{error}");

    let server = UnixDatagram::bind(&file.0).unwrap();
    server.set_read_timeout(Some(DEADLINE)).unwrap();
    jobs.add(4);
    messages.event(Event::new("end", ""));
    exporter.flush(DEADLINE).unwrap();
    let mut lines = Vec::new();
    while !lines.iter().any(|line: &String| line.starts_with("_e{3,0}:end|")) {
        let mut packet = [0; 8_192];
        let length = server.recv(&mut packet).unwrap();
        lines.extend(
            std::str::from_utf8(&packet[..length])
                .unwrap()
                .lines()
                .map(str::to_owned),
        );
    }
    assert_eq!(sum(&lines, "jobs:"), 7, "{lines:#?}");
    // The packet that it was in was sent again, or given up when the flush was over.
    let arrived = lines.iter().filter(|line| line.contains("first")).count();
    let name = "tidegauge_exporter_dropped_points_total";
    let lost = testing::value(&registry, name, [("reason", "superseded")]);
    assert_eq!(arrived as f64 + lost.unwrap(), 1.0, "{lines:#?}");
}

/// What the lines that begin so count together.
fn sum(lines: &[String], head: &str) -> u64 {
    let counts = lines
        .iter()
        .filter_map(|line| line.strip_prefix(head)?.split('|').next());
    counts.map(|count| count.parse::<u64>().unwrap()).sum()
}

#[test]
fn a_port_without_a_listener_is_found_out() {
    // Held by somebody who does not listen to it, so that nobody else gets it meanwhile.
    let server = Server::start();
    let closed = Server::start();
    let port = closed.socket.local_addr().unwrap();
    let statsd = StatsD::builder(format!("udp://{port}"))
        .environment(false)
        .origin_detection(false)
        .build()
        .unwrap();
    let messages = statsd.messages();
    // Connected elsewhere, the kernel refuses what comes from others.
    closed.socket.connect(server.socket.local_addr().unwrap()).unwrap();
    let (registry, exporter) = start(statsd);
    let jobs = registry.counter("jobs", "Jobs.").register().unwrap();
    jobs.add(3);
    // One that has no time to send anything does not say why.
    let error = iter::repeat_with(|| exporter.flush(MOMENT).unwrap_err().to_string())
        .take(600)
        .find(|error| error.contains("nobody listens"))
        .expect("it says why in the end");
    assert!(error.contains(&port.to_string()), "{error}");

    drop(closed);
    let opened = Server {
        socket: UdpSocket::bind(port).unwrap(),
    };
    opened.socket.set_read_timeout(Some(DEADLINE)).unwrap();
    jobs.add(4);
    messages.event(Event::new("end", ""));
    exporter.flush(DEADLINE).unwrap();
    let lines = opened.lines_until("_e{3,0}:end|");
    assert_eq!(sum(&lines, "jobs:"), 7, "{lines:#?}");
    // The packets that were lost were counted by the client, as sent and as dropped.
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("datadog.dogstatsd.client.packets_dropped:")),
        "{lines:#?}"
    );
}

#[test]
fn over_a_stream_all_lines_end() {
    use std::{
        io::{BufRead, BufReader},
        net::TcpListener,
    };

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("statsd+tcp://{}", listener.local_addr().unwrap());
    let statsd = StatsD::builder(url).packet_size(64).build().unwrap();
    let messages = statsd.messages();
    let (registry, exporter) = start(statsd);
    let jobs = registry.counter("jobs", "Jobs.").labels(["queue"]).register().unwrap();
    let queues = ["mail", "print", "archive", "index", "bill", "ship"];
    for queue in queues {
        jobs.with([queue]).add(2);
    }
    messages.set("users", "u1", &[("country", "de")]);
    // The listener's backlog takes the connection before it is accepted.
    exporter.flush(DEADLINE).unwrap();
    drop(exporter);
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut lines: Vec<String> = BufReader::new(stream)
        .split(b'\n')
        .map(|line| String::from_utf8(line.unwrap()).unwrap())
        .collect();
    lines.sort();
    let mut expected: Vec<String> = queues.iter().map(|queue| format!("jobs.queue.{queue}:2|c")).collect();
    expected.push("users.country.de:u1|s".to_owned());
    expected.sort();
    assert_eq!(lines, expected);
}

#[cfg(unix)]
#[test]
fn frames_hold_whole_packets() {
    use std::{io::Read, os::unix::net::UnixListener};

    let file = SocketFile::new("frames");
    let listener = UnixListener::bind(&file.0).unwrap();
    for scheme in ["unixstream", "unix"] {
        let url = format!("{scheme}://{}", file.0.display());
        let builder = StatsD::builder(url)
            .environment(false)
            .origin_detection(false)
            .client_telemetry(false);
        let (registry, exporter) = start(builder.build().unwrap());
        let sizes = registry.distribution("sizes", "Sizes.").register().unwrap();
        sizes.observe(1.5);
        sizes.observe(2.0);
        exporter.flush(DEADLINE).unwrap();
        drop(exporter);
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let (length, packet) = bytes.split_first_chunk().unwrap();
        assert_eq!(u32::from_le_bytes(*length) as usize, packet.len(), "{scheme}");
        assert_eq!(
            std::str::from_utf8(packet).unwrap().trim_end(),
            "sizes:1.5:2|d",
            "{scheme}"
        );
    }
}

#[cfg(unix)]
#[test]
fn only_over_udp_may_the_system_take_it_back() {
    use std::{net::TcpListener, os::unix::net::UnixDatagram};

    let (server, tcp, file) = (
        Server::start(),
        TcpListener::bind("127.0.0.1:0").unwrap(),
        SocketFile::new("taken"),
    );
    let _datagrams = UnixDatagram::bind(&file.0).unwrap();
    let packet = || {
        Payload::new(
            b"a:1|c".to_vec(),
            BatchId {
                exporter: 1,
                sequence: 1,
            },
            1,
        )
    };
    for (url, answer) in [
        (
            format!("udp://{}", server.socket.local_addr().unwrap()),
            Answer::delivered().provisional(),
        ),
        (format!("tcp://{}", tcp.local_addr().unwrap()), Answer::delivered()),
        (format!("unixgram://{}", file.0.display()), Answer::delivered()),
    ] {
        let mut statsd = built(StatsD::builder(url), &[]).unwrap();
        assert_eq!(statsd.send(&packet(), DEADLINE), answer);
        assert_eq!(statsd.late_refusal(), None);
        assert_eq!(statsd.activity().connections, 1);
    }
}
