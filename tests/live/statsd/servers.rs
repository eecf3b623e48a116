//! The proof that the servers say what they got, with lines made by hand: when the crate pushes to them, a difference is
//! its own.

use super::collectd::Collectd;
use super::collector::StatsdCollector;
use super::etsy::Etsy;
use super::exporter::StatsdExporter;
use super::reading::{Metric, Reading, Server, Timer, metric};
use super::telegraf::Telegraf;
use std::io::Write;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn etsy_says_what_it_got() {
    let mut server = Etsy::start();
    over_udp(
        server.udp,
        &[
            "jobs:3|c|#zone:eu",
            "jobs:0.5|c|@0.1|#zone:eu",
            "level:4|g",
            "level:0|g\nlevel:-3|g",
        ],
    );
    over_udp(
        server.udp,
        &["took:320|ms|@0.1", "users:ada|s", "users:bob|s", "users:ada|s", "bad"],
    );
    over_udp(server.udp, &["last:1|c"]);
    let mut expected = Reading::default();
    expected.counters.insert(metric("jobs", [("zone", "eu")]), 8.0);
    expected.counters.insert(last(), 1.0);
    expected.gauges.insert(metric("level", []), -3.0);
    expected.timers.insert(metric("took", []), Timer::count(10));
    expected.sets.insert(metric("users", []), 2);
    server.expect("over UDP", &expected);
    assert_eq!(server.bad_lines(), 1.0);
    over_tcp(server.tcp, "jobs:1|c|#zone:eu\nlast:1|c\n");
    expected.counters.insert(metric("jobs", [("zone", "eu")]), 9.0);
    expected.counters.insert(last(), 2.0);
    server.expect("over TCP", &expected);
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn statsd_exporter_says_what_it_got() {
    let folder = crate::program::Folder::create("sockets");
    let path = folder.path().join("statsd.sock");
    let mut server = StatsdExporter::start_at(path.clone(), &[("took_seconds", &[0.1, 1.0]), ("sizes", &[1.0, 2.0])]);
    // A tag in each of its styles.
    over_udp(
        server.udp,
        &[
            "jobs:3|c|#zone:eu",
            "jobs,zone=eu:1|c",
            "jobs#zone=eu:1|c",
            "jobs[zone=eu]:1|c",
        ],
    );
    over_udp(
        server.udp,
        &[
            "level:4|g",
            "level:0|g\nlevel:-3|g",
            "took_seconds:320|ms|@0.1",
            "sizes:1:2.5:3|h|@0.01",
        ],
    );
    over_udp(server.udp, &["refused:-1|c", "last:1|c"]);
    let mut expected = Reading::default();
    expected.counters.insert(metric("jobs", [("zone", "eu")]), 6.0);
    expected.counters.insert(last(), 1.0);
    expected.gauges.insert(metric("level", []), -3.0);
    let timer = |buckets: &[u64]| Timer {
        count: buckets.iter().sum(),
        buckets: buckets.to_vec(),
    };
    expected.timers.insert(metric("took_seconds", []), timer(&[0, 10, 0]));
    expected.timers.insert(metric("sizes", []), timer(&[100, 0, 200]));
    server.expect("over UDP", &expected);
    over_tcp(server.tcp, "last:1|c\n");
    expected.counters.insert(last(), 2.0);
    server.expect("over TCP", &expected);
    UnixDatagram::unbound().unwrap().send_to(b"last:1|c", path).unwrap();
    expected.counters.insert(last(), 3.0);
    server.expect("over a datagram socket", &expected);
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn telegraf_says_what_it_got() {
    let mut server = Telegraf::start("udp", &[]);
    over_udp(
        server.address,
        &[
            "jobs,zone=eu:3|c",
            "jobs,zone=eu:1|c|@0.1",
            "level:4|g",
            "level:0|g\nlevel:-3|g",
        ],
    );
    over_udp(
        server.address,
        &[
            "took:320|ms|@0.1",
            "sizes:7|h",
            "users:ada|s",
            "users:bob|s",
            "last:1|c",
        ],
    );
    let mut expected = Reading::default();
    expected.counters.insert(metric("jobs", [("zone", "eu")]), 13.0);
    expected.counters.insert(last(), 1.0);
    expected.gauges.insert(metric("level", []), -3.0);
    expected.timers.insert(metric("took", []), Timer::count(10));
    expected.timers.insert(metric("sizes", []), Timer::count(1));
    expected.sets.insert(metric("users", []), 2);
    server.expect("over UDP", &expected);

    let mut server = Telegraf::start("tcp", &[]);
    over_tcp(server.address, "jobs,zone=eu:3|c\nlast:1|c\n");
    let mut expected = Reading::default();
    expected.counters.insert(metric("jobs", [("zone", "eu")]), 3.0);
    expected.counters.insert(last(), 1.0);
    server.expect("over TCP", &expected);
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn collectd_says_what_it_got() {
    let mut server = Collectd::start();
    over_udp(
        server.address,
        &[
            "jobs:3|c",
            "jobs:1.25|c",
            "jobs:1.5|c",
            "level:4|g",
            "level:0|g\nlevel:-3|g",
            "last:1|c",
        ],
    );
    let mut expected = Reading::default();
    // Of 5.75 it shows the nearest integer.
    expected.counters.insert(metric("jobs", []), 6.0);
    expected.counters.insert(last(), 1.0);
    expected.gauges.insert(metric("level", []), -3.0);
    server.expect("over UDP", &expected);
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn a_collector_says_what_it_got_as_statsd() {
    let mut expected = Reading::default();
    expected.counters.insert(metric("jobs", [("zone", "eu")]), 13.5);
    expected.counters.insert(last(), 1.0);
    expected.gauges.insert(metric("level", []), -3.0);
    let timer = |buckets: &[u64]| Timer {
        count: buckets.iter().sum(),
        buckets: buckets.to_vec(),
    };
    expected.timers.insert(metric("took", []), timer(&[0, 10, 0]));
    expected.timers.insert(metric("sizes", []), timer(&[0, 0, 100]));
    expected.timers.insert(metric("weight", []), timer(&[1, 0]));
    let lines = [
        "jobs:3.5|c|#zone:eu",
        "jobs:1|c|@0.1|#zone:eu",
        "level:4|g",
        "level:0|g\nlevel:-3|g",
        "took:320|ms|@0.1",
        "sizes:7|h|@0.01",
        "weight:1|d",
        "last:1|c",
    ];
    let mut server = StatsdCollector::over_udp(&BOUNDS);
    over_udp(server.address(), &lines);
    server.expect("over UDP", &expected);

    let mut server = StatsdCollector::over_unixgram(&BOUNDS);
    let socket = UnixDatagram::unbound().unwrap();
    for line in lines {
        socket.send_to(line.as_bytes(), server.path()).unwrap();
    }
    server.expect("over a datagram socket", &expected);
}

/// Sends each as a datagram of its own.
fn over_udp(server: SocketAddr, packets: &[&str]) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for packet in packets {
        socket.send_to(packet.as_bytes(), server).unwrap();
    }
}

fn over_tcp(server: SocketAddr, stream: &str) {
    TcpStream::connect(server)
        .unwrap()
        .write_all(stream.as_bytes())
        .unwrap();
}

const BOUNDS: [(&str, &[f64]); 3] = [("took", &[100.0, 1000.0]), ("sizes", &[1.0, 2.0]), ("weight", &[1.0])];

/// What is sent last: once the server has it, it has all that came before.
fn last() -> Metric {
    metric("last", [])
}
