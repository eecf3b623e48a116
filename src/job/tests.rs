//! Outcomes by a clock that stands still, and what a run says to whom.

use super::*;
use crate::{
    Answer, Destination, Payload, Points,
    testing::{ManualClock, assert_value, value},
};
use std::{
    panic,
    sync::mpsc::{Receiver, Sender, channel},
};

const START: f64 = 1_700_000_000.0;

fn with_clock() -> (Registry, ManualClock) {
    let clock = ManualClock::new();
    let registry = Registry::builder().clock(clock.clone()).build().unwrap();
    (registry, clock)
}

/// What is said of the job `j`: its outcome, its duration, when it began, and when it succeeded.
fn said(registry: &Registry) -> (Option<&'static str>, Option<f64>, Option<f64>, Option<f64>) {
    let states = JobOutcome::ALL.map(|outcome| {
        let outcome = outcome.as_str();
        (
            outcome,
            value(
                registry,
                "batch_job_outcome",
                [("batch_job", "j"), ("outcome", outcome)],
            ),
        )
    });
    let outcome = match states.iter().any(|(_, state)| state.is_some()) {
        false => None,
        true => {
            assert!(
                states
                    .iter()
                    .all(|(_, state)| *state == Some(0.0) || *state == Some(1.0))
            );
            let mut set = states.iter().filter(|(_, state)| *state == Some(1.0));
            let (outcome, _) = set.next().expect("one is 1");
            assert!(set.next().is_none(), "one is 1");
            Some(*outcome)
        }
    };
    let [duration, start, success] = [
        "batch_job_duration_seconds",
        "batch_job_last_start_timestamp_seconds",
        "batch_job_last_success_timestamp_seconds",
    ]
    .map(|name| value(registry, name, [("batch_job", "j")]));
    (outcome, duration, start, success)
}

/// Says what it is given, to whom it may concern, and answers as it is told.
struct Told(Sender<String>, fn() -> Answer);

impl Destination for Told {
    fn name(&self) -> &str {
        "told"
    }

    fn encode(&mut self, points: &mut Points<'_>, payload: &mut Vec<u8>) {
        while let Some(family) = points.next_family() {
            while let Some(point) = points.peek() {
                payload.extend(format!("{} {:?}\n", family.name(), point.value()).bytes());
                points.take();
            }
        }
    }

    fn send(&mut self, payload: &Payload, _timeout: Duration) -> Answer {
        let _ = self.0.send(String::from_utf8_lossy(payload.bytes()).into_owned());
        (self.1)()
    }
}

fn told() -> (Exporter, Receiver<String>) {
    let (told, tells) = channel();
    let exporter = Exporter::new(Told(told, Answer::delivered)).phase(false);
    (exporter, tells)
}

#[test]
fn a_run_is_told_of_while_it_runs_and_when_it_has_succeeded() {
    let (registry, clock) = with_clock();
    let job = Job::new("j").start(&registry).unwrap();
    assert_eq!(said(&registry), (None, None, Some(START), None));
    clock.advance(Duration::from_millis(2500));
    job.records("rows").add(3);
    job.records("files").inc();
    let report = job.succeed();
    assert_eq!(
        said(&registry),
        (Some("success"), Some(2.5), Some(START), Some(START + 2.5))
    );
    assert_value(&registry, "batch_job_records_total", [("kind", "rows")], 3.0);
    assert_value(&registry, "batch_job_records_total", [("kind", "files")], 1.0);
    assert_eq!(
        (report.outcome(), report.duration()),
        (JobOutcome::Success, Duration::from_millis(2500))
    );
    assert!(report.is_delivered() && report.deliveries().next().is_none());
}

#[test]
fn a_run_that_fails_leaves_the_last_success_as_it_was() {
    let (registry, clock) = with_clock();
    let fail: [fn(JobRun); 3] = [
        |job| drop(job),
        |job| assert_eq!(job.fail("no rows").outcome(), JobOutcome::Failure),
        |job| assert_eq!(job.run(|_| Err::<(), _>(7)), Err(7)),
    ];
    for fail in fail {
        fail(Job::new("j").start(&registry).unwrap());
        assert_eq!(said(&registry), (Some("failure"), Some(0.0), Some(START), None));
    }
    Job::new("j").start(&registry).unwrap().succeed();
    clock.advance(Duration::from_secs(10));
    drop(Job::new("j").start(&registry).unwrap());
    assert_eq!(
        said(&registry),
        (Some("failure"), Some(0.0), Some(START + 10.0), Some(START))
    );
}

#[test]
fn a_closure_is_a_run() {
    let (registry, _) = with_clock();
    let run = Job::new("j").start(&registry).unwrap();
    assert_eq!(run.run(|job| Ok::<_, ()>(job.name().len())), Ok(1));
    assert_eq!(said(&registry).0, Some("success"));
    let run = Job::new("j").start(&registry).unwrap();
    let panicked = panic::catch_unwind(AssertUnwindSafe(|| {
        run.run(|_| -> Result<(), ()> { panic!("no rows") })
    }));
    assert_eq!(*panicked.unwrap_err().downcast::<&str>().unwrap(), "no rows");
    assert_eq!(said(&registry).0, Some("panic"));
}

#[test]
fn a_guard_that_was_started_beside_a_panic_is_not_dropped_by_it() {
    struct AtEnd(Registry);
    impl Drop for AtEnd {
        fn drop(&mut self) {
            drop(Job::new("j").start(&self.0).unwrap());
        }
    }
    let (registry, _) = with_clock();
    let end = AtEnd(registry.clone());
    let panicked = panic::catch_unwind(AssertUnwindSafe(move || {
        let _end = end;
        panic!("elsewhere");
    }));
    assert!(panicked.is_err());
    assert_eq!(said(&registry).0, Some("failure"));
}

#[test]
fn jobs_of_one_registry_are_told_apart() {
    let (registry, _) = with_clock();
    let other = Job::new("other").start(&registry).unwrap();
    Job::new("j").start(&registry).unwrap().succeed();
    other.fail("no rows");
    assert_eq!(said(&registry).0, Some("success"));
    let of_other = [("batch_job", "other"), ("outcome", "failure")];
    assert_value(&registry, "batch_job_outcome", of_other, 1.0);
}

#[test]
fn every_exporter_has_the_outcome_and_its_own_result() {
    let (registry, _) = with_clock();
    let (refused, refuses) = channel();
    let ((one, of_one), (other, of_other)) = (told(), told());
    let job = Job::new("j")
        .push_to(one.name("one"))
        .exporter(other.name("other").start(&registry).unwrap())
        .push_to(Exporter::new(Told(refused, || Answer::rejected("we are closed"))).phase(false))
        .start(&registry)
        .unwrap();
    let names: Vec<&str> = job.exporters().map(ExporterHandle::name).collect();
    assert_eq!(names, ["one", "other", "told"]);
    let report = job.succeed();
    for pushes in [of_one, of_other, refuses] {
        // Their threads have ended, and there are no more.
        let pushed: String = pushes.iter().collect();
        assert!(pushed.contains("batch_job_outcome IntGauge(1)"), "{pushed}");
        assert!(
            pushed.contains("batch_job_last_success_timestamp_seconds Gauge(1700000000.0)"),
            "{pushed}"
        );
    }
    let deliveries: Vec<_> = report.deliveries().collect();
    assert_eq!(
        deliveries
            .iter()
            .map(|(name, result)| (*name, result.is_ok()))
            .collect::<Vec<_>>(),
        [("one", true), ("other", true), ("told", false)]
    );
    assert!(!report.is_delivered());
    let error = deliveries[2].1.unwrap_err();
    assert!(
        error.report().rejected > 0 && error.to_string().contains("we are closed"),
        "{error}"
    );
}

/// A family without series is nothing: where a gateway replaces metrics by their names, the success before stays.
#[test]
fn a_failed_run_delivers_no_success() {
    let (registry, _) = with_clock();
    let (exporter, pushes) = told();
    drop(Job::new("j").push_to(exporter).start(&registry).unwrap());
    let pushed: String = pushes.iter().collect();
    assert!(pushed.contains("batch_job_outcome IntGauge(1)"), "{pushed}");
    assert!(!pushed.contains("batch_job_last_success"), "{pushed}");
}

#[test]
fn a_job_that_cannot_start_delivers_nothing_and_says_why() {
    let (registry, _) = with_clock();
    registry.counter("jobs_total", "Jobs.").register().unwrap().inc();
    let (one, pushes) = told();
    let (other, _) = told();
    let job = Job::new("j").push_to(one.name("one")).push_to(other.name("one"));
    let error = job.start(&registry).unwrap_err();
    assert_eq!(error.to_string(), "job \"j\": an exporter cannot be started");
    assert!(error.source().unwrap().to_string().contains("\"one\""), "{error:?}");
    assert_eq!(pushes.iter().count(), 0);
    assert_eq!(said(&registry), (None, None, None, None));

    let error = Job::new("").start(&registry).unwrap_err();
    assert!(error.to_string().contains("must not be empty"), "{error}");

    let (registry, _) = with_clock();
    registry
        .counter("batch_job_duration_seconds", "Mine.")
        .register()
        .unwrap();
    let error = Job::new("j").start(&registry).unwrap_err();
    assert!(error.to_string().contains("free their names"), "{error}");
    assert!(
        error
            .source()
            .unwrap()
            .to_string()
            .contains("batch_job_duration_seconds")
    );
}

#[test]
fn a_far_end_that_does_not_answer_has_the_deadline_and_no_more() {
    let (registry, clock) = with_clock();
    let (sends, sending) = channel();
    // It hangs until the test is over.
    let (over, ends) = channel::<()>();
    struct Hangs(Sender<()>, Receiver<()>);
    impl Destination for Hangs {
        fn name(&self) -> &str {
            "hangs"
        }

        fn encode(&mut self, points: &mut Points<'_>, payload: &mut Vec<u8>) {
            while points.next_family().is_some() {
                while points.peek().is_some() {
                    payload.push(b'!');
                    points.take();
                }
            }
        }

        fn send(&mut self, _: &Payload, _: Duration) -> Answer {
            let _ = self.0.send(());
            let _ = self.1.recv();
            Answer::delivered()
        }
    }
    let (healthy, pushes) = told();
    let job = Job::new("j")
        .push_to(Exporter::new(Hangs(sends, ends)).phase(false))
        .push_to(healthy)
        .deadline(Duration::from_secs(10))
        .start(&registry)
        .unwrap();
    let report = thread::scope(|scope| {
        let job = scope.spawn(|| job.succeed());
        sending.recv().unwrap();
        // Nobody has waited for the other one: its threads have ended.
        let pushed: String = pushes.iter().collect();
        assert!(pushed.contains("batch_job_outcome IntGauge(1)"), "{pushed}");
        clock.advance(Duration::from_secs(10));
        job.join().unwrap()
    });
    let results: Vec<bool> = report.deliveries().map(|(_, result)| result.is_ok()).collect();
    assert_eq!(results, [false, true]);
    let (_, result) = report.deliveries().next().unwrap();
    assert!(result.unwrap_err().is_timeout());
    // How long the run took has nothing to do with that.
    assert_eq!((report.duration(), said(&registry).1), (Duration::ZERO, Some(0.0)));
    drop(over);
}

#[test]
fn names_are_as_the_guides_ask() {
    let registry = Registry::new();
    let job = Job::new("j").start(&registry).unwrap();
    job.records("rows").inc();
    job.succeed();
    let lints = registry.lint();
    assert!(lints.is_empty(), "{lints:?}");
}
