//! So many datagrams that a receive buffer overflows if they come at once, and nobody says so: here none may be lost.

use super::exporter::StatsdExporter;
use super::reading::{Reading, Server, metric};
use super::sockets::{dropped, receive_buffer_errors};
use super::workload::ENVIRONMENT;
use super::{statsd, wait_until};
use crate::program::PATIENCE;
use std::net::{SocketAddr, UdpSocket};
use std::time::Instant;
use tidegauge::{Exporter, Registry};

/// Each has a line that has a datagram of its own.
const SERIES: u32 = 20_000;

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn twenty_thousand_datagrams_of_one_collection_all_arrive() {
    let mut server = StatsdExporter::start(&[]);
    let registry = Registry::new();
    let jobs = registry
        .counter("jobs_of_many_datagrams", "Jobs run.")
        .labels(["number"])
        .limit(SERIES as usize)
        .register()
        .unwrap();
    let mut expected = Reading::default();
    for number in 0..SERIES {
        jobs.with((number,)).add(u64::from(number) + 1);
        let tags = [ENVIRONMENT, ("number", &number.to_string())];
        expected
            .counters
            .insert(metric("jobs_of_many_datagrams", tags), f64::from(number) + 1.0);
    }
    let before = receive_buffer_errors();
    // No two lines have room in one.
    let destination = statsd(&format!("dogstatsd+udp://{}", server.udp))
        .protocol(0)
        .packet_size(64);
    // As it comes out of the box: every ten seconds, spread over five of them.
    let exporter = Exporter::new(destination.build().unwrap())
        .phase(false)
        .jitter(0.0)
        .start(&registry)
        .unwrap();
    wait_until("the collection begins", || exporter.stats().delivered_points > 0);
    let began = Instant::now();
    wait_until("the collection is sent", || {
        exporter.stats().delivered_points >= u64::from(SERIES)
    });
    let took = began.elapsed();
    let packets = exporter.stats().delivered_payloads;
    println!(
        "{SERIES} series in {packets} datagrams over {took:?}: {} of them dropped at the server's socket, RcvbufErrors {before} before and {} after",
        dropped(server.udp),
        receive_buffer_errors()
    );
    assert!(
        packets >= u64::from(SERIES),
        "{packets} datagrams had more than one line each"
    );
    // The part of this socket in `RcvbufErrors`, which is the whole machine's: other programs' losses are not this test's.
    assert_eq!(dropped(server.udp), 0);
    server.expect("twenty thousand datagrams", &expected);
    // What the crate tells of itself has lines that are longer than a packet here.
    let _ = exporter.shutdown(PATIENCE);

    // What that would be without a pace.
    at_once(server.udp);
    let running = dropped(server.udp);
    println!("The same at once: {running} dropped at the server's socket");
    // The proof that this is a measure: a server that gets no time to read loses some, whatever the machine.
    server.pause();
    at_once(server.udp);
    assert!(
        dropped(server.udp) > running,
        "a server that does not read loses nothing"
    );
}

/// Sends lines like those in a datagram each, as fast as the system takes them.
fn at_once(server: SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for number in 0..SERIES {
        let line = format!("jobs_of_many_datagrams:{}|c|#env:test,number:{number}", number + 1);
        socket.send_to(line.as_bytes(), server).unwrap();
    }
}
