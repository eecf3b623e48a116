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
    env, fs,
    path::PathBuf,
    process,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use tidegauge::{Exporter, Filter, Otlp, Registry, Spool, TemporalityPreference};

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
fn a_send_that_hangs_when_its_exporter_ends_leaves_time_for_the_spool() {
    let directory = Folder::new();
    let far_end = Receiver::start();
    far_end.always(Behaviour::answer(503).held());
    let exporter = |registry: &Registry| {
        let otlp = Otlp::builder()
            .metrics_url(far_end.url())
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
    far_end.wait_for(|state| state.held == 1);
    jobs.add(4);
    let error = first.shutdown(Duration::from_secs(2)).unwrap_err();
    assert!(error.is_spooled(), "{error}");

    far_end.always(Behaviour::accept());
    far_end.release();
    let registry = Registry::new();
    let second = exporter(&registry);
    second.flush(receiver::PATIENCE).unwrap();
    assert_eq!(second.stats().delivered_spooled_points, 2);
    let counts = far_end.read(|state| {
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
