//! The spool in real processes: many at once on one directory, killed at any point, with a far end that misbehaves. What needs a real
//! server is among the live tests.

#![cfg(unix)]

#[allow(dead_code, reason = "the tests of push need all of it")]
#[path = "../push/behaviour.rs"]
mod behaviour;
#[allow(dead_code, reason = "the tests of push need all of it")]
#[path = "../push/http.rs"]
mod http;
#[path = "../push/json.rs"]
mod json;
#[allow(dead_code, reason = "the tests of push need all of it")]
#[path = "../push/points.rs"]
mod points;
#[allow(dead_code, reason = "the tests of push need all of it")]
#[path = "../push/receiver.rs"]
mod receiver;
#[allow(dead_code, reason = "the tests of push need all of it")]
#[path = "../push/requests.rs"]
mod requests;
mod runs;

use behaviour::Behaviour;
use receiver::{Outcome, Receiver, Request};
use runs::{Phases, Random, Reach, compare, run_clean, run_to_end, run_until_killed, seed};
use std::{
    borrow::Borrow,
    env, fs,
    path::PathBuf,
    process,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};
use tidegauge::{Exporter, Filter, Otlp, Registry, Spool, TemporalityPreference};
#[cfg(target_os = "linux")]
use {
    socket2::{Domain, Socket, Type},
    std::net::{SocketAddr, TcpStream},
};

/// A thousand are killed by the live test of the same.
const KILLS: usize = 100;

#[test]
fn runs_that_are_killed_anywhere_lose_nothing_that_had_reached_their_end() {
    let directory = Folder::new();
    let far_end = Receiver::start();
    let phases = Phases::new();
    let misbehave = |random: &mut Random| {
        let (behaviour, reach) = match random.below(8) {
            0 => (Behaviour::answer(503), Reach::Out),
            1 => (Behaviour::reset_unread(), Reach::Out),
            // It has it, and does not say so.
            2 => (Behaviour::accept().reset_after(0), Reach::Out),
            3 => (Behaviour::answer(503).slow(Duration::from_secs(60)), Reach::Out),
            4 => (
                Behaviour::accept().slow(Duration::from_millis(random.below(100))),
                Reach::Near,
            ),
            _ => (Behaviour::accept(), Reach::Near),
        };
        far_end.always(behaviour);
        reach
    };
    let disturb = |random: &mut Random| phases.turn(random, misbehave);
    let mut runs = run_until_killed(KILLS, &far_end.url(), &directory.0, seed(), disturb);
    far_end.always(Behaviour::answer(503));
    run_to_end(&mut runs, &far_end.url(), &directory.0);
    far_end.always(Behaviour::accept());
    let clean = run_clean(&far_end.url(), &directory.0);
    let (stored, untold) = far_end.read(|state| {
        let is_untold = |request: &&Request| request.stored > 0 && request.outcome != Outcome::Answered(200);
        (
            state.series.values().flatten().cloned().collect::<Vec<_>>(),
            state.requests.iter().filter(is_untold).count() as u64,
        )
    });
    compare(&runs, &clean, stored, &directory.0, Some(untold));
}

#[test]
fn a_far_end_that_does_not_answer_leaves_time_for_the_spool() {
    let far_end = Receiver::start();
    far_end.always(Behaviour::answer(503).held());
    let url = far_end.url();
    let is_sending = || far_end.read(|state| state.held == 1);
    end_in_the_middle_of_a_send(&url, is_sending, || {
        far_end.always(Behaviour::accept());
        far_end.release();
        &far_end
    });
}

/// On Linux a listener that has as many connections as it holds drops those that would be more, as a firewall does, or a network
/// that is gone.
#[cfg(target_os = "linux")]
#[test]
fn a_connection_that_is_not_made_leaves_time_for_the_spool() {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut accepted = Vec::new();
    while let Ok(connection) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
        accepted.push(connection);
    }
    let connects = || {
        // <https://www.kernel.org/doc/html/latest/networking/proc_net_tcp.html>; 02 is TCP_SYN_SENT.
        let wanted = format!("0100007F:{:04X} 02", address.port());
        fs::read_to_string("/proc/net/tcp").unwrap().contains(&wanted)
    };
    end_in_the_middle_of_a_send(&format!("http://{address}/v1/metrics"), connects, || {
        drop((listener, accepted));
        Receiver::bind(address)
    });
}

/// Ends an exporter while it sends to a URL that lets it hang, then has that answer, and the next exporter deliver what the spool has.
fn end_in_the_middle_of_a_send<Answering: Borrow<Receiver>>(
    url: &str,
    is_sending: impl Fn() -> bool,
    answer: impl FnOnce() -> Answering,
) {
    let directory = Folder::new();
    let exporter = |registry: &Registry| {
        let otlp = Otlp::builder()
            .metrics_url(url)
            .no_proxy()
            .temporality(TemporalityPreference::Delta)
            .build()
            .unwrap();
        Exporter::new(otlp)
            .interval(Duration::from_secs(3600))
            // Far longer than the exporter has at its end.
            .send_timeout(Duration::from_secs(3600))
            .filter(Filter::new().families(|family| family.name() == "jobs_total"))
            .spool(Spool::new(&directory.0))
            .start(registry)
            .unwrap()
    };
    let registry = Registry::new();
    let jobs = registry.counter("jobs_total", "Jobs.").register().unwrap();
    jobs.add(3);
    let first = exporter(&registry);
    drop(first.flush_async(Duration::from_secs(3600)));
    let deadline = Instant::now() + receiver::PATIENCE;
    while !is_sending() {
        assert!(Instant::now() < deadline, "it does not begin to send");
        thread::yield_now();
    }
    jobs.add(4);
    let error = first.shutdown(Duration::from_secs(4)).unwrap_err();
    assert!(error.is_spooled(), "{error}");

    let far_end = answer();
    let registry = Registry::new();
    let second = exporter(&registry);
    second.flush(receiver::PATIENCE).unwrap();
    assert_eq!(second.stats().delivered_spooled_points, 2);
    let counts = far_end.borrow().read(|state| {
        let points = state.series.values().flatten();
        points.map(|point| format!("{:?}", point.value)).collect::<Vec<_>>()
    });
    assert!(
        counts.len() == 2 && counts[0].contains("Integer(3)") && counts[1].contains("Integer(4)"),
        "{counts:?}"
    );
}

/// A directory for a spool, which goes when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("tidegauge-runs-{}-{count}", process::id()));
        let _ = fs::remove_dir_all(&path);
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
