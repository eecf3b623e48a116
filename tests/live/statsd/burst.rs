//! So many datagrams that a receive buffer overflows if they come at once, and nobody says so: here none may be lost.

use super::exporter::StatsdExporter;
use super::reading::{Reading, Server, metric};
use super::sockets::{dropped, receive_buffer_errors};
use super::workload::ENVIRONMENT;
use super::{statsd, wait_until};
use crate::program::PATIENCE;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};
use tidegauge::{Exporter, Registry};

/// Each has a line that has a datagram of its own.
const SERIES: u32 = 20_000;

/// What they are spread over: half of the interval.
const SPREAD: Duration = Duration::from_secs(5);

/// What comes in so much time has room in a socket's buffer, though it be late and come twice as fast.
const BUFFERED: Duration = Duration::from_millis(25);

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn twenty_thousand_datagrams_of_one_collection_all_arrive() {
    let mut server = StatsdExporter::start(&[]);
    // What a server loses that gets no time to read, on a machine with other work to do, is its own doing, and says nothing.
    for _ in 0..3 {
        if all_arrive(&mut server) {
            break;
        }
        server = StatsdExporter::start(&[]);
    }

    // What that would be without a pace.
    let before = dropped(server.udp);
    at_once(server.udp);
    let running = dropped(server.udp);
    println!("The same at once: {} dropped at the server's socket", running - before);
    // The proof that this is a measure: a server that gets no time to read loses some, whatever the machine.
    server.pause();
    at_once(server.udp);
    assert!(
        dropped(server.udp) > running,
        "a server that does not read loses nothing"
    );
}

/// Sends one collection; whether the server has all of it. If not, it had no time to read.
fn all_arrive(server: &mut StatsdExporter) -> bool {
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
    // Each with the moments before and after it was looked at.
    let mut seen = Vec::new();
    let (mut waited, mut looked) = (vec![server.waited()], began);
    wait_until("the collection is sent", || {
        let before = Instant::now();
        let points = exporter.stats().delivered_points;
        seen.push((before, points, Instant::now()));
        if before.duration_since(looked) >= BUFFERED / 2 {
            waited.push(server.waited());
            looked = before;
        }
        points >= u64::from(SERIES)
    });
    waited.push(server.waited());
    let took = began.elapsed();
    let packets = exporter.stats().delivered_payloads;
    // The part of this socket in `RcvbufErrors`, which is the whole machine's: other programs' losses are not this test's.
    let lost = dropped(server.udp);
    // In two spans, because it may have waited in the midst of both.
    let waits = waited.windows(3).map(|spans| spans[2].saturating_sub(spans[0]));
    let longest = waits.max().unwrap_or_default();
    println!(
        "{SERIES} series in {packets} datagrams over {took:?}: {lost} of them dropped at the server's socket; the server waited at most {longest:?} at a time for a processor; RcvbufErrors {before} before and {} after",
        receive_buffer_errors()
    );
    assert!(
        packets >= u64::from(SERIES),
        "{packets} datagrams had more than one line each"
    );
    assert_pace(&seen);
    assert!(
        lost == 0 || longest > BUFFERED,
        "{lost} datagrams were lost, and the server has waited for {longest:?} at a time at most"
    );
    if lost == 0 {
        server.expect("twenty thousand datagrams", &expected);
    }
    // What the crate tells of itself has lines that are longer than a packet here.
    let _ = exporter.shutdown(PATIENCE);
    lost == 0
}

/// That in no span of time more was sent than there is room for, however late it was: at most twice as fast as evenly, and a little at
/// once.
fn assert_pace(seen: &[(Instant, u64, Instant)]) {
    const AT_ONCE: f64 = 100.0;
    let most = 2.0 * f64::from(SERIES) / SPREAD.as_secs_f64();
    let mut from = 0;
    for (_, points, after) in seen {
        while seen[from].0 + BUFFERED < *after {
            from += 1;
        }
        let (before, points_before, _) = seen[from.saturating_sub(1)];
        let (span, sent) = (after.duration_since(before), points - points_before);
        assert!(
            sent as f64 <= most * span.as_secs_f64() + AT_ONCE,
            "{sent} points in {span:?}"
        );
    }
}

/// Sends lines like those in a datagram each, as fast as the system takes them.
fn at_once(server: SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for number in 0..SERIES {
        let line = format!("jobs_of_many_datagrams:{}|c|#env:test,number:{number}", number + 1);
        socket.send_to(line.as_bytes(), server).unwrap();
    }
}
