//! Servers that vanish and come back in the place of a socket file, again and again, while threads count: what all their lives have
//! got comes to what was counted.

use super::exporter::StatsdExporter;
use super::reading::{Reading, Server, metric};
use super::workload::ENVIRONMENT;
use super::{deliver, on_demand, statsd, wait_until};
use crate::program::{Folder, PATIENCE};
use std::collections::BTreeMap;
use std::fs;
use std::net::Shutdown;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;
use tidegauge::{Counter, Exporter, Family, Registry, RetryPolicy, StatsDBuilder};

const SERIES: usize = 500;
const NAME: &str = "jobs";

/// What a killed server has got is lost with it, so it is read before, at a moment at which nothing is sent: the test says when
/// to flush. The threads count all the time.
#[test]
#[ignore = "needs the servers of .ci/servers"]
fn a_server_that_is_killed_three_times_has_got_everything_in_all_its_lives() {
    let folder = Folder::create("vanishing");
    let path = folder.path().join("statsd.sock");
    let registry = Registry::new();
    let jobs = jobs(&registry);
    let exporter = on_demand(destination(&path).build().unwrap(), &registry);
    let stop = AtomicBool::new(false);
    let mut lives: Vec<Reading> = Vec::new();
    let counts = thread::scope(|scope| {
        let recorders: Vec<_> = (0..2).map(|_| scope.spawn(|| load(&jobs, &stop))).collect();
        for life in 1..=3 {
            // Its socket takes the place of the last one's, which nobody listens on any more.
            let _ = fs::remove_file(&path);
            let mut server = StatsdExporter::start_at(path.clone(), &[]);
            for _ in 0..3 {
                deliver(&exporter);
            }
            lives.push(read_all(&mut server, &path));
            // Killed: the file stays.
            drop(server);
            assert!(path.exists());
            for _ in 0..2 {
                let error = exporter.flush(Duration::from_secs(1)).unwrap_err();
                let report = error.report();
                // One that is being sent at the deadline is unclear.
                assert!(
                    report.kept + report.unclear > 0 && report.delivered == 0 && report.rejected == 0,
                    "after life {life}: {error}"
                );
            }
        }
        stop.store(true, Relaxed);
        recorders
            .into_iter()
            .map(|recorder| recorder.join().unwrap())
            .collect::<Vec<_>>()
    });
    let _ = fs::remove_file(&path);
    let mut server = StatsdExporter::start_at(path.clone(), &[]);
    deliver(&exporter);
    lives.push(read_all(&mut server, &path));
    exporter.shutdown(PATIENCE).unwrap();
    for (life, reading) in (1..).zip(&lives) {
        println!("life {life}: {} jobs", reading.counters.values().sum::<f64>());
    }
    let mut totals = Reading::default();
    for (metric, count) in lives.into_iter().flat_map(|life| life.of_test().counters) {
        *totals.counters.entry(metric).or_default() += count;
    }
    totals.counters.remove(&metric(LAST, []));
    assert_eq!(totals.differences(&expected(&counts)), "");
}

/// A receiver of the test's own closes its socket to senders and reads what it has before it goes, so that it loses nothing even in
/// the midst of a collection: the exporter goes by its own clock here, and many times as often.
#[test]
fn a_receiver_that_vanishes_in_the_midst_of_collections_has_got_everything() {
    const LIVES: u64 = 20;
    let folder = Folder::create("vanishing");
    let path = folder.path().join("statsd.sock");
    let registry = Registry::new();
    let jobs = jobs(&registry);
    // A collection takes several packets.
    let destination = destination(&path).packet_size(512).build().unwrap();
    let exporter = Exporter::new(destination)
        .interval(Duration::from_millis(20))
        .spread(Duration::from_millis(10))
        // It does not wait for long after a failure.
        .retry(
            RetryPolicy::new()
                .initial(Duration::from_millis(10))
                .most(Duration::from_millis(50)),
        )
        .start(&registry)
        .unwrap();
    let stop = AtomicBool::new(false);
    let mut got: BTreeMap<String, u64> = BTreeMap::new();
    let mut packets = 0;
    let counts = thread::scope(|scope| {
        let recorders: Vec<_> = (0..2).map(|_| scope.spawn(|| load(&jobs, &stop))).collect();
        for life in 1..=LIVES {
            let socket = UnixDatagram::bind(&path).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            // Somewhere in a collection, elsewhere each time.
            for _ in 0..40 + 7 * life {
                packets += add(&socket, &mut got);
            }
            socket.shutdown(Shutdown::Read).unwrap();
            socket.set_nonblocking(true).unwrap();
            while let 1.. = add(&socket, &mut got) {
                packets += 1;
            }
            drop(socket);
            fs::remove_file(&path).unwrap();
            let carried = exporter.stats().carried_over_points;
            wait_until("points are carried over", || {
                exporter.stats().carried_over_points > carried
            });
        }
        stop.store(true, Relaxed);
        recorders
            .into_iter()
            .map(|recorder| recorder.join().unwrap())
            .collect::<Vec<_>>()
    });
    let socket = UnixDatagram::bind(&path).unwrap();
    // It is read from while the last flush writes: its buffer has room for few.
    let reader = thread::spawn(move || {
        let mut last = BTreeMap::new();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        while !last.contains_key(LAST) {
            add(&socket, &mut last);
        }
        last
    });
    // Its socket has room for few packets: what it does not take at once comes with the next flush.
    wait_until("all is delivered", || exporter.flush(PATIENCE).is_ok());
    exporter.shutdown(PATIENCE).unwrap();
    say_last(&path);
    for (line, count) in reader.join().unwrap() {
        *got.entry(line).or_default() += count;
    }
    got.remove(LAST);
    let statistics = exporter.stats();
    println!(
        "{LIVES} lives, {packets} packets and more: {} points delivered, {} carried over, {} possible duplicates",
        statistics.delivered_points, statistics.carried_over_points, statistics.possible_duplicate_points
    );
    let mut totals = Reading::default();
    for (series, count) in got {
        let number = series.rsplit_once("number=").expect("a series has its number").1;
        totals
            .counters
            .insert(metric(NAME, [ENVIRONMENT, ("number", number)]), count as f64);
    }
    assert_eq!(totals.differences(&expected(&counts)), "");
    // Collections may have been dropped from a full queue meanwhile: what they had counted came with later ones.
    assert_eq!(statistics.rejected_points, 0);
}

fn destination(path: &Path) -> StatsDBuilder {
    statsd(&format!("statsd+unixgram://{}?dialect=telegraf", path.display()))
}

fn jobs(registry: &Registry) -> Family<Counter, 1> {
    let family = registry
        .counter(NAME, "Jobs run.")
        .labels(["number"])
        .limit(SERIES)
        .register();
    family.unwrap()
}

/// Counts in all series until it is told to stop; says how often in each.
fn load(jobs: &Family<Counter, 1>, stop: &AtomicBool) -> Vec<u64> {
    let handles: Vec<Counter> = (0..SERIES).map(|number| jobs.handle((number,))).collect();
    let mut counts = vec![0; SERIES];
    for turn in 1.. {
        if stop.load(Relaxed) {
            break;
        }
        for (number, (handle, count)) in handles.iter().zip(&mut counts).enumerate() {
            let more = (number as u64 + turn) % 7;
            handle.add(more);
            *count += more;
        }
        thread::yield_now();
    }
    counts
}

fn expected(counts: &[Vec<u64>]) -> Reading {
    let mut expected = Reading::default();
    for number in 0..SERIES {
        let count: u64 = counts.iter().map(|counts| counts[number]).sum();
        let tags = [ENVIRONMENT, ("number", &number.to_string())];
        expected.counters.insert(metric(NAME, tags), count as f64);
    }
    expected
}

/// What the server has once it has all that was sent until now: datagrams come in their order, whoever sent them.
fn read_all(server: &mut StatsdExporter, path: &Path) -> Reading {
    say_last(path);
    let mut reading = Reading::default();
    wait_until("the server has read its socket empty", || {
        reading = server.read();
        reading.counters.contains_key(&metric(LAST, []))
    });
    reading
}

fn say_last(path: &Path) {
    let line = format!("{LAST}:1|c");
    UnixDatagram::unbound().unwrap().send_to(line.as_bytes(), path).unwrap();
}

/// Not a metric of the crate's.
const LAST: &str = "last";

/// Reads one packet and adds its lines up. How many it was: none if the socket has none.
fn add(socket: &UnixDatagram, totals: &mut BTreeMap<String, u64>) -> u64 {
    let mut packet = [0; 65_536];
    let length = match socket.recv(&mut packet) {
        Ok(0) => return 0,
        Ok(length) => length,
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return 0,
        Err(error) => panic!("the receiver's socket: {error}"),
    };
    let lines = std::str::from_utf8(&packet[..length]).expect("lines are text");
    for line in lines.lines() {
        let (series, value) = line.split_once(':').expect("a line has a value");
        let Some(value) = value.strip_suffix("|c").filter(|_| !series.starts_with("tidegauge")) else {
            continue;
        };
        *totals.entry(series.to_string()).or_default() += value.parse::<u64>().expect("jobs are whole");
    }
    1
}
