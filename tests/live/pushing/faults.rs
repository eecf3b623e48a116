//! Real servers that go, refuse and hang, and a process that is stopped: what was recorded is what has come at the end,
//! series by series, and what came twice was counted.

use super::everything::Everything;
use super::{OFTEN, assert_totals, deliver, often, on_demand_eagerly, otlp, recorded, temporality};
use crate::behaviour::Behaviour;
use crate::collector::{Collector, Settings};
use crate::points::{Number, Point, Series, Temporality, Value, texts, totals};
use crate::program::{PATIENCE, Program};
use crate::receiver::Receiver;
use std::collections::HashMap;
use std::env;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};
use tidegauge::{Counter, ExporterHandle, Family, Registry, TemporalityPreference};

const PREFERENCES: [TemporalityPreference; 2] = [TemporalityPreference::Cumulative, TemporalityPreference::Delta];

/// So many that a request takes a while.
const SERIES: usize = 2_000;

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn a_collector_that_is_killed_under_load_has_everything_in_the_end() {
    for preference in PREFERENCES {
        let mut collector = Collector::start(Settings::default());
        let registry = Registry::new();
        let jobs = jobs(&registry);
        // Each collection takes several requests, so that some are answered and some are not.
        let destination = otlp(&collector.url()).temporality(preference).max_points(300);
        let exporter = often(destination, &registry);
        let stop = AtomicBool::new(false);
        let counts = thread::scope(|scope| {
            let recorders: Vec<_> = (0..2).map(|_| scope.spawn(|| load(&jobs, &stop))).collect();
            for _ in 0..3 {
                // In the middle of one collection or another.
                wait_for(&exporter, 3_000);
                collector.kill();
                // So long that retries end and points are carried over.
                let failed = exporter.stats().carried_over_points;
                wait_until("points are carried over", || {
                    exporter.stats().carried_over_points > failed
                });
                collector.start_again();
            }
            wait_for(&exporter, 3_000);
            stop.store(true, Relaxed);
            recorders
                .into_iter()
                .map(|recorder| recorder.join().unwrap())
                .collect::<Vec<_>>()
        });
        deliver_in_the_end(&exporter);
        let statistics = exporter.stats();
        let expected: HashMap<Series, Value> = (0..SERIES)
            .map(|number| {
                let count: u64 = counts.iter().map(|counts: &Vec<u64>| counts[number]).sum();
                point(number, count, temporality(preference))
            })
            .collect();
        let points = of_jobs(recorded(collector.points()));
        let (once, twice) = without_duplicates(points);
        println!(
            "{preference:?}, killed three times: {} points delivered, {} retried, {} carried over, {} possible duplicates counted, {twice} points came twice",
            statistics.delivered_points,
            statistics.retried_points,
            statistics.carried_over_points,
            statistics.possible_duplicate_points
        );
        assert_totals(&totals(&once), &expected, &format!("{preference:?}, each point once"));
        assert_eq!(statistics.rejected_points, 0);
        match temporality(preference) {
            // That they come twice does no harm.
            Temporality::Cumulative => assert_eq!(statistics.possible_duplicate_points, 0),
            Temporality::Delta => assert!(
                twice <= statistics.possible_duplicate_points,
                "{twice} points came twice, and {} were counted",
                statistics.possible_duplicate_points
            ),
        }
    }
}

/// The process that [`a_process_that_is_stopped_and_goes_on_loses_nothing`] stops. Without the parent it does nothing.
#[test]
#[ignore = "is run by the test below"]
fn the_process_that_is_stopped() {
    let Ok(parent) = env::var(CHILD) else {
        return;
    };
    let (url, preference) = parent.split_once(' ').expect("the parent says both");
    let preference = match preference {
        "Delta" => TemporalityPreference::Delta,
        _ => TemporalityPreference::Cumulative,
    };
    let registry = Registry::new();
    let jobs = jobs(&registry);
    let exporter = often(otlp(url).temporality(preference).max_points(300), &registry);
    let stop = AtomicBool::new(false);
    let counts = thread::scope(|scope| {
        let recorder = scope.spawn(|| load(&jobs, &stop));
        for collections in [5, 25] {
            wait_until("it has collected", || exporter.stats().collections >= collections);
            println!("{COLLECTED}{collections}");
        }
        stop.store(true, Relaxed);
        recorder.join().unwrap()
    });
    deliver_in_the_end(&exporter);
    println!("{DUPLICATES}{}", exporter.stats().possible_duplicate_points);
    let counts: Vec<String> = counts.iter().map(u64::to_string).collect();
    println!("{RECORDED}{}", counts.join(","));
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn a_process_that_is_stopped_and_goes_on_loses_nothing() {
    for preference in PREFERENCES {
        let collector = Collector::start(Settings::default());
        let mut child = Program::start(
            Command::new(env::current_exe().unwrap())
                .args([
                    "--exact",
                    "pushing::faults::the_process_that_is_stopped",
                    "--ignored",
                    "--nocapture",
                ])
                .env(CHILD, format!("{} {preference:?}", collector.url())),
        );
        let mut said = |key: &str| {
            let found = child.wait_for_line(PATIENCE, |line| Some(line.split_once(key)?.1.to_string()));
            found.unwrap_or_else(|error| panic!("{error}"))
        };
        assert_eq!(said(COLLECTED), "5");
        child.signal("STOP");
        // An exporter like the child's tells how time goes by.
        let witness = Registry::new();
        let clock = often(otlp(&collector.url()).service_name("witness"), &witness);
        wait_until("time goes by", || clock.stats().collections >= 20);
        clock.shutdown(PATIENCE).unwrap();
        child.signal("CONT");
        let mut said = |key: &str| {
            let found = child.wait_for_line(PATIENCE, |line| Some(line.split_once(key)?.1.to_string()));
            found.unwrap_or_else(|error| panic!("{error}"))
        };
        assert_eq!(said(COLLECTED), "25");
        let duplicates: u64 = said(DUPLICATES).parse().unwrap();
        let expected: HashMap<Series, Value> = said(RECORDED)
            .split(',')
            .enumerate()
            .map(|(number, count)| point(number, count.parse().unwrap(), temporality(preference)))
            .collect();
        assert!(child.wait_for_end().unwrap().success());
        let points = of_jobs(recorded(collector.points()));
        assert_eq!(expected.len(), SERIES);
        // The Collector answered each request, so nothing was left open.
        assert_eq!(duplicates, 0);
        assert_totals(&totals(&points), &expected, &format!("{preference:?}"));
        // It did not catch up on what it missed: its collections are as far apart as ever.
        let of_one = points.iter().filter(|point| point.series == points[0].series);
        let times: Vec<u64> = of_one.map(|point| point.time).collect();
        let hurried = times
            .windows(2)
            .filter(|pair| u128::from(pair[1] - pair[0]) < OFTEN.as_nanos() / 4);
        let hurried = hurried.count();
        assert!(
            hurried < times.len() / 3,
            "{hurried} of {} collections were hurried",
            times.len()
        );
    }
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn what_a_collector_has_no_memory_for_comes_later() {
    let mut collector = Collector::start(Settings {
        processors: &["memory_limiter: {check_interval: 100ms, limit_mib: 2, spike_limit_mib: 1}"],
        ..Settings::default()
    });
    let mut everything = Everything::new();
    let destination = otlp(&collector.url()).temporality(TemporalityPreference::Delta);
    let exporter = on_demand_eagerly(destination, &everything.registry);
    // It looks how much it has only now and then, the first time a moment after its start.
    wait_until("the Collector refuses", || {
        everything.record();
        let flushed = exporter.flush(Duration::from_secs(2));
        flushed.is_err_and(|error| error.to_string().contains("503"))
    });
    let before = recorded(collector.points());
    everything.record();
    let error = exporter.flush(Duration::from_secs(2)).unwrap_err();
    let report = error.report();
    // What is under way at the deadline has no answer yet.
    assert!(
        report.kept + report.unclear > 0 && report.delivered + report.rejected == 0,
        "{error}"
    );
    assert!(error.to_string().contains("503"), "{error}");
    assert_eq!(recorded(collector.points()), before);
    // It answered each request so far. One that is under way when it ends may have no answer.
    assert_eq!(exporter.stats().possible_duplicate_points, 0);
    collector.stop();
    collector.start_again_with(Settings::default());
    everything.record();
    deliver_in_the_end(&exporter);
    let points = recorded(collector.points());
    assert_totals(
        &totals(&points),
        &everything.totals(TemporalityPreference::Delta),
        "in the end",
    );
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn what_a_collector_has_no_place_for_in_its_queue_comes_later() {
    let behind = Receiver::start();
    behind.always(Behaviour::accept().held());
    let mut collector = Collector::start(Settings {
        far_end: Some(behind.address()),
        ..Settings::default()
    });
    let mut everything = Everything::new();
    let destination = otlp(&collector.url()).temporality(TemporalityPreference::Delta);
    let exporter = on_demand_eagerly(destination, &everything.registry);
    everything.record();
    deliver(&exporter);
    behind.wait_for(|state| state.held == 1);
    everything.record();
    // It tries for as long as it has time; the Collector's own patience with the far end behind it is longer.
    let error = exporter.flush(Duration::from_secs(2)).unwrap_err().to_string();
    assert!(
        error.contains("503") && error.contains("sending queue is full"),
        "{error}"
    );
    behind.always(Behaviour::accept());
    behind.release();
    deliver_in_the_end(&exporter);
    collector.stop();
    let arrived: Vec<Point> = behind.read(|state| recorded(state.series.values().flatten().cloned().collect()));
    assert_totals(
        &totals(&arrived),
        &everything.totals(TemporalityPreference::Delta),
        "in the end",
    );
}

const CHILD: &str = "TIDEGAUGE_TEST_PUSHES_TO";
const COLLECTED: &str = "collected=";
const DUPLICATES: &str = "duplicates=";
const RECORDED: &str = "recorded=";

fn jobs(registry: &Registry) -> Family<Counter, 1> {
    let family = registry
        .counter("jobs_total", "Jobs run.")
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

fn point(number: usize, count: u64, temporality: Temporality) -> (Series, Value) {
    let series = Series {
        name: "jobs_total".to_string(),
        attributes: texts([("number", number.to_string().as_str())]),
        temporality: Some(temporality),
    };
    let value = Value::Sum {
        value: Number::Integer(count.try_into().expect("it is small")),
        monotonic: true,
    };
    (series, value)
}

fn of_jobs(points: Vec<Point>) -> Vec<Point> {
    points
        .into_iter()
        .filter(|point| point.series.name == "jobs_total")
        .collect()
}

/// Each point once, and how many there were besides. Only the very same point is another's duplicate.
pub(super) fn without_duplicates(points: Vec<Point>) -> (Vec<Point>, u64) {
    let mut seen: HashMap<(Series, u64, u64), Value> = HashMap::new();
    let mut duplicates = 0;
    let once = points
        .into_iter()
        .filter(|point| {
            let key = (point.series.clone(), point.start, point.time);
            match seen.insert(key, point.value.clone()) {
                None => true,
                Some(before) => {
                    assert_eq!(before, point.value, "two values of {:?} at one time", point.series);
                    duplicates += 1;
                    false
                }
            }
        })
        .collect();
    (once, duplicates)
}

/// Waits until so many more points are delivered.
fn wait_for(exporter: &ExporterHandle, points: u64) {
    let before = exporter.stats().delivered_points;
    wait_until("points are delivered", || {
        exporter.stats().delivered_points >= before + points
    });
}

/// Flushes until nothing is left: the first flush may meet a circuit that is open.
fn deliver_in_the_end(exporter: &ExporterHandle) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = exporter.flush(PATIENCE) {
        assert!(Instant::now() < deadline, "{error}");
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::yield_now();
    }
}
