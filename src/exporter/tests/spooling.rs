//! Runs of a program one after another, which have a spool in common: what one of them could not deliver, a later one does.

use super::*;
use crate::{Spool, exporter::shutdown::ShuttingDown};
use std::{
    path::{Path, PathBuf},
    sync::atomic::AtomicUsize,
};

/// A directory of the test's own, which goes with it.
pub(super) struct Directory(pub(super) PathBuf);

impl Directory {
    pub(super) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tidegauge-spooling-{}-{count}", std::process::id());
        Directory(std::env::temp_dir().join(name))
    }

    pub(super) fn files(&self) -> usize {
        let files = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        files
            .filter(|file| file.file_name().to_string_lossy().ends_with(".spool"))
            .count()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A run of the program, whose payloads have names of their own.
fn run(far_end: &FarEnd, directory: &Path) -> Rig {
    static SEED: AtomicU64 = AtomicU64::new(100);
    Rig::new(far_end.clone(), |exporter| {
        exporter
            .seed(SEED.fetch_add(1, Ordering::Relaxed))
            .spool(Spool::new(directory))
            .retry(RetryPolicy::new().open_after(1000))
    })
}

impl<F: Destination + Clone> Rig<F> {
    /// As a shutdown does it: a flush, and then the threads leave.
    pub(super) fn end(&mut self, deadline: Duration) -> Result<FlushReport, FlushError> {
        let result = self.flush(deadline);
        self.parts.shared.stop();
        assert_eq!(self.parts.sender.step(), Next::Stop);
        match (result, self.parts.shared.with(|state| state.spooled)) {
            (Err(error), Some(points)) => error.spooled(points),
            (result, _) => result,
        }
    }

    fn count(&self, series: &str, amount: u64) {
        let jobs = self.registry.counter("jobs_total", "Jobs.").labels(["queue"]);
        jobs.register().unwrap().with([series]).add(amount);
    }
}

fn fate_is(far_end: &FarEnd, fate: Fate) {
    far_end.with(|inner| inner.always = fate);
}

#[test]
fn what_one_run_cannot_deliver_the_next_one_does_first() {
    let (directory, far_end) = (Directory::new(), delta());
    fate_is(&far_end, Fate::Busy);
    let mut first = run(&far_end, &directory.0);
    first.count("a", 3);
    let error = first.end(SECOND).unwrap_err();
    assert_eq!((error.report().kept, error.report().spooled), (0, 1), "{error}");
    assert!(error.to_string().contains("1 put into the spool"), "{error}");
    assert_eq!((first.stats().spooled_points, directory.files()), (1, 1));
    drop(first);

    fate_is(&far_end, Fate::Taken);
    let mut second = run(&far_end, &directory.0);
    second.count("b", 4);
    second.settle();
    // Without a collection of its own.
    assert_eq!(
        (far_end.total("jobs_total{a}"), far_end.total("jobs_total{b}")),
        (3.0, 0.0)
    );
    assert_eq!((second.stats().delivered_spooled_points, directory.files()), (1, 0));
    let report = second.end(SECOND).unwrap();
    assert_eq!((report.delivered, report.spooled), (1, 0));
    assert_eq!(far_end.total("jobs_total{b}"), 4.0);
    assert_eq!(second.stats().spooled_points, 0);
}

#[test]
fn a_run_that_delivers_everything_leaves_nothing() {
    let (directory, far_end) = (Directory::new(), delta());
    let mut rig = run(&far_end, &directory.0);
    rig.count("a", 1);
    assert!(rig.end(SECOND).is_ok());
    assert_eq!((directory.files(), rig.stats().spooled_points), (0, 0));
}

#[test]
fn runs_are_delivered_in_their_order_and_again_with_each_collection() {
    let (directory, far_end) = (Directory::new(), delta());
    fate_is(&far_end, Fate::Busy);
    for amount in 1..4 {
        let mut rig = run(&far_end, &directory.0);
        rig.count("a", amount);
        rig.end(SECOND).unwrap_err();
        rig.clock.advance(SECOND);
    }
    let mut rig = run(&far_end, &directory.0);
    rig.settle();
    rig.count("b", 1);
    // The spool is in nobody's way: what is new is tried as well.
    for _ in 0..8 {
        rig.interval();
    }
    far_end.with(|inner| {
        let tried = inner
            .sent
            .iter()
            .any(|(_, bytes)| String::from_utf8_lossy(bytes).contains("{b}"));
        assert!(tried, "what is new waits for what is old");
        inner.sent.clear();
        inner.always = Fate::Taken;
    });
    for _ in 0..8 {
        rig.interval();
    }
    let sent: Vec<f64> = far_end.with(|inner| {
        let lines = inner.sent.iter().flat_map(|(_, bytes)| read(bytes));
        lines
            .filter(|(series, ..)| series.ends_with("{a}"))
            .map(|line| line.1)
            .collect()
    });
    assert_eq!((sent, directory.files()), (vec![1.0, 2.0, 3.0], 0));
    assert_eq!(rig.stats().possible_duplicate_points, 0);
}

#[test]
fn what_may_have_arrived_is_kept_as_it_is_and_what_came_after_it_beside_it() {
    let (directory, far_end) = (Directory::new(), delta());
    let (mut rig, jobs) =
        rig_with_an_unclear_payload_and(&far_end, |exporter| exporter.spool(Spool::new(&directory.0)));
    let before = far_end.with(|inner| inner.sent.clone());
    jobs.with(["a"]).add(7);
    fate_is(&far_end, Fate::Lost);
    let recorded = 1.0 + 7.0;
    rig.end(SECOND).unwrap_err();

    fate_is(&far_end, Fate::Taken);
    far_end.with(|inner| inner.sent.clear());
    let mut next = run(&far_end, &directory.0);
    next.settle();
    let sent = far_end.with(|inner| inner.sent.clone());
    assert_eq!(sent[0], before[0], "the bytes or the name have changed");
    let doubled = far_end.with(|inner| inner.duplicates.get("jobs_total{a}").copied().unwrap_or_default());
    assert_eq!(far_end.total("jobs_total{a}") - doubled, recorded);
    assert!(next.stats().possible_duplicate_points > 0);
}

#[test]
fn of_a_collection_only_what_failed_is_kept() {
    let (directory, far_end) = (Directory::new(), delta());
    far_end.with(|inner| {
        inner.most = 1;
        inner.cursed = Some(("{b}".to_owned(), Fate::NotFound));
    });
    let mut rig = run(&far_end, &directory.0);
    ["a", "b", "c"].iter().for_each(|series| rig.count(series, 5));
    let error = rig.end(SECOND).unwrap_err();
    assert_eq!((error.report().delivered, error.report().spooled), (2, 1), "{error}");
    far_end.with(|inner| inner.cursed = None);
    run(&far_end, &directory.0).settle();
    for series in ["a", "b", "c"] {
        assert_eq!(far_end.total(&format!("jobs_total{{{series}}}")), 5.0);
    }
}

#[test]
fn what_is_refused_for_good_is_counted_and_gone() {
    for fate in [Fate::Rejected, Fate::TooLarge] {
        let (directory, far_end) = (Directory::new(), delta());
        fate_is(&far_end, Fate::Busy);
        let mut rig = run(&far_end, &directory.0);
        rig.count("a", 3);
        rig.count("b", 3);
        rig.end(SECOND).unwrap_err();
        fate_is(&far_end, fate);
        let mut next = run(&far_end, &directory.0);
        next.settle();
        assert_eq!((next.stats().rejected_points, directory.files()), (2, 0));
    }
}

#[test]
fn credentials_are_read_again_for_the_spool_too() {
    let (directory, far_end) = (Directory::new(), delta());
    fate_is(&far_end, Fate::Busy);
    let mut rig = run(&far_end, &directory.0);
    rig.count("a", 3);
    rig.end(SECOND).unwrap_err();
    far_end.with(|inner| {
        inner.always = Fate::Taken;
        inner.script.push_back(Fate::Unauthorized);
        inner.fresh_credentials = true;
    });
    let mut next = run(&far_end, &directory.0);
    next.settle();
    assert_eq!((far_end.total("jobs_total{a}"), directory.files()), (3.0, 0));
    assert_eq!(far_end.with(|inner| inner.reloads), 1);
}

#[test]
fn a_destination_that_panics_ends_all_the_same() {
    let (directory, far_end) = (Directory::new(), delta());
    fate_is(&far_end, Fate::Panics);
    let mut rig = run(&far_end, &directory.0);
    rig.count("a", 3);
    rig.end(SECOND).unwrap_err();
    fate_is(&far_end, Fate::Taken);
    run(&far_end, &directory.0).settle();
    assert_eq!(far_end.total("jobs_total{a}"), 3.0);
}

#[test]
fn a_spool_that_cannot_be_used_costs_nothing_but_itself() {
    let far_end = delta();
    // No directory can be made below a file.
    let file = std::env::current_exe().unwrap();
    let mut rig = run(&far_end, &file.join("spool"));
    rig.count("a", 1);
    rig.interval();
    assert_eq!(far_end.total("jobs_total{a}"), 1.0);
    fate_is(&far_end, Fate::Busy);
    rig.count("a", 1);
    let error = rig.end(SECOND).unwrap_err();
    assert_eq!((error.report().kept, error.report().spooled), (1, 0), "{error}");
    assert!(rig.stats().spool_errors > 0);
}

#[test]
fn the_last_collection_is_kept_though_the_deadline_was_over_before_it_and_waited_for_in_vain_not_for_long() {
    for collects in [true, false] {
        let (directory, far_end) = (Directory::new(), delta());
        let mut rig = run(&far_end, &directory.0);
        rig.count("a", 3);
        let shared = rig.parts.shared.clone();
        let mut shutdown = ShuttingDown::begin(&shared, Duration::ZERO, None).unwrap();
        assert!(shutdown.poll_result(Waker::noop()).is_ready(), "it has no threads");
        let Next::Wait(Some(until)) = rig.parts.sender.step() else {
            panic!("there is something to wait for");
        };
        match collects {
            true => assert_eq!(rig.parts.ticker.step(), None),
            false => rig.clock.advance(until - crate::Clock::monotonic(&rig.clock)),
        }
        assert_eq!(rig.parts.sender.step(), Next::Stop);
        let kept = (shared.with(|state| state.spooled), directory.files());
        assert_eq!(kept, if collects { (Some(1), 1) } else { (None, 0) });

        assert_eq!(far_end.with(|inner| inner.sent.len()), 0);
    }
}

#[test]
fn the_last_collection_has_a_place_in_a_full_queue() {
    let (directory, far_end) = (Directory::new(), delta());
    let mut rig = Rig::new(far_end.clone(), |exporter| {
        let exporter = exporter.queue(1, usize::MAX).drop_policy(crate::DropPolicy::Newest);
        exporter.spool(Spool::new(&directory.0))
    });
    fate_is(&far_end, Fate::Busy);
    rig.count("a", 1);
    rig.settle();
    // Of two more one is kept.
    for _ in 0..2 {
        rig.clock.advance(INTERVAL);
        rig.parts.ticker.step();
    }
    rig.count("a", 2);
    let mut shutdown = ShuttingDown::begin(&rig.parts.shared, Duration::ZERO, None).unwrap();
    assert!(shutdown.poll_result(Waker::noop()).is_ready());
    assert_eq!(rig.parts.ticker.step(), None);
    assert_eq!(rig.parts.sender.step(), Next::Stop);
    fate_is(&far_end, Fate::Taken);
    run(&far_end, &directory.0).settle();
    assert_eq!(far_end.total("jobs_total{a}"), 3.0);
}

#[test]
fn a_spool_without_a_path_is_refused() {
    let exporter = Exporter::new(delta()).spool(Spool::new(""));
    let error = exporter.start(&Registry::new()).map(drop).unwrap_err().to_string();
    assert!(error.contains("spool") && error.contains("empty"), "{error}");
}

#[test]
fn samples_that_were_delivered_are_not_kept() {
    let (directory, far_end) = (Directory::new(), delta());
    far_end.with(|inner| {
        inner.wants_samples = true;
        inner.most = 1;
        inner.cursed = Some(("jobs_total".to_owned(), Fate::NotFound));
    });
    let mut rig = run(&far_end, &directory.0);
    rig.count("a", 3);
    let waits = rig.registry.distribution("wait_seconds", "Waits.").register().unwrap();
    waits.observe(0.5);
    rig.end(SECOND).unwrap_err();
    assert_eq!(rig.stats().spooled_points, 1);
    far_end.with(|inner| inner.cursed = None);
    run(&far_end, &directory.0).settle();
    assert_eq!(far_end.total("jobs_total{a}"), 3.0);
    assert_eq!(far_end.total("wait_seconds{} samples"), 1.0);
}

fn replacing() -> FarEnd {
    let far_end = FarEnd::new(Temporality::Cumulative);
    far_end.with(|inner| inner.replaces = true);
    far_end
}

#[test]
fn where_each_payload_takes_the_place_of_the_one_before_only_the_newest_is_kept() {
    let (directory, far_end) = (Directory::new(), replacing());
    fate_is(&far_end, Fate::Busy);
    for amount in 1..4 {
        let mut rig = run(&far_end, &directory.0);
        rig.count("a", amount);
        rig.interval();
        let error = rig.end(SECOND).unwrap_err();
        assert_eq!((error.report().spooled, directory.files()), (1, 1), "{error}");
    }
    fate_is(&far_end, Fate::Taken);
    let mut rig = run(&far_end, &directory.0);
    rig.settle();
    assert_eq!((far_end.total("jobs_total{a}"), directory.files()), (3.0, 0));
}

#[test]
fn who_has_nothing_to_push_keeps_nobody_else_from_it() {
    let (directory, far_end) = (Directory::new(), replacing());
    fate_is(&far_end, Fate::Busy);
    let mut rig = run(&far_end, &directory.0);
    rig.count("a", 1);
    rig.end(SECOND).unwrap_err();
    // Tries what is there, and then collects, but has nothing of its own.
    let mut empty = run(&far_end, &directory.0);
    empty.settle();
    (0..6).for_each(|_| empty.interval());
    fate_is(&far_end, Fate::Taken);
    let mut other = run(&far_end, &directory.0);
    other.count("a", 2);
    other.end(SECOND).unwrap();
    assert_eq!((far_end.total("jobs_total{a}"), directory.files()), (2.0, 0));
}

#[test]
fn what_was_kept_never_follows_what_is_newer() {
    let (directory, far_end) = (Directory::new(), replacing());
    fate_is(&far_end, Fate::Busy);
    let mut rig = run(&far_end, &directory.0);
    rig.count("a", 1);
    rig.end(SECOND).unwrap_err();
    // The gateway comes back when the next run already has something newer.
    let mut next = run(&far_end, &directory.0);
    next.settle();
    next.count("a", 2);
    next.interval();
    fate_is(&far_end, Fate::Taken);
    // However long it waits after a failure.
    for _ in 0..8 {
        next.interval();
    }
    assert_eq!((far_end.total("jobs_total{a}"), directory.files()), (2.0, 0));
    let stored = far_end.with(|inner| inner.stored.len());
    for _ in 0..5 {
        next.interval();
    }
    assert_eq!(far_end.total("jobs_total{a}"), 2.0);
    assert!(far_end.with(|inner| inner.stored.len()) > stored);
    assert!(next.stats().dropped_superseded_points > 0);
}

#[test]
fn where_older_payloads_are_merged_all_runs_are_delivered_before_anything_newer() {
    let (directory, far_end) = (Directory::new(), replacing());
    far_end.with(|inner| inner.merges = true);
    fate_is(&far_end, Fate::Busy);
    for series in ["a", "b"] {
        let mut rig = run(&far_end, &directory.0);
        rig.count(series, 1);
        rig.end(SECOND).unwrap_err();
        rig.clock.advance(SECOND);
    }
    assert_eq!(directory.files(), 2);
    for fate in [Fate::Busy, Fate::NotFound, Fate::Lost] {
        fate_is(&far_end, fate);
        let mut rig = run(&far_end, &directory.0);
        rig.settle();
        rig.count("c", 1);
        for _ in 0..8 {
            rig.interval();
        }
        far_end.with(|inner| {
            let newer = |(_, bytes): &(String, Vec<u8>)| String::from_utf8_lossy(bytes).contains("{c}");
            assert!(
                !inner.sent.iter().any(newer),
                "{fate:?}: something newer was sent first"
            );
        });
    }
    far_end.with(|inner| {
        inner.sent.clear();
        inner.always = Fate::Taken;
        inner.script = [Fate::Busy, Fate::Busy, Fate::Busy, Fate::Busy, Fate::Busy, Fate::Busy].into();
    });
    let mut rig = run(&far_end, &directory.0);
    rig.count("c", 2);
    assert!(
        rig.end(60 * SECOND).is_ok(),
        "a flush does not last until what is older is through"
    );
    let sent: Vec<String> = far_end.with(|inner| {
        let lines = inner.sent.iter().flat_map(|(_, bytes)| read(bytes));
        lines.map(|(series, ..)| series).collect()
    });
    let mut order = sent.clone();
    order.dedup();
    assert_eq!(order, ["jobs_total{a}", "jobs_total{b}", "jobs_total{c}"], "{sent:?}");
    for (series, count) in [("a", 1.0), ("b", 1.0), ("c", 2.0)] {
        assert_eq!(far_end.total(&format!("jobs_total{{{series}}}")), count);
    }
    assert_eq!(directory.files(), 0);
}

fn clear_fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => Just(Fate::Taken),
        2 => Just(Fate::Busy),
        1 => Just(Fate::BusyFor(7 * SECOND)),
        1 => Just(Fate::Lost),
        1 => Just(Fate::Unanswered),
        1 => Just(Fate::NotFound),
        1 => Just(Fate::Unauthorized),
        1 => Just(Fate::Panics),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// The law of conservation over many runs of a program: whatever their far end answered, after one that delivers everything it
    /// has what all of them recorded, and what it has twice was counted as possible duplicates.
    #[test]
    fn many_runs_lose_nothing_together(
        runs in prop::collection::vec(
            (prop::collection::vec(act(), 0..12), prop::collection::vec(clear_fate(), 0..12), clear_fate(), 1..4_u8),
            1..6,
        ),
        most in 1_usize..4,
        queue in 1_usize..3,
    ) {
        let directory = Directory::new();
        let far_end = delta();
        far_end.with(|inner| inner.most = most);
        let mut recorded = Recorded::new();
        let mut possible_duplicates = 0;
        for (number, (acts, script, always, deadline)) in runs.into_iter().enumerate() {
            far_end.with(|inner| (inner.script, inner.always) = (script.into(), always));
            let mut rig = Rig::new(far_end.clone(), |exporter| {
                exporter.queue(queue, usize::MAX).spool(Spool::new(&directory.0)).seed(number as u64)
            });
            rig.settle();
            rig.act(acts, &mut recorded);
            let _ = rig.end(SECOND * u32::from(deadline));
            possible_duplicates += rig.stats().possible_duplicate_points;
        }
        far_end.with(|inner| {
            inner.script.clear();
            inner.always = Fate::Taken;
        });
        let mut last = run(&far_end, &directory.0);
        last.settle();
        prop_assert!(last.end(60 * SECOND).is_ok());
        prop_assert_eq!(directory.files(), 0);
        possible_duplicates += last.stats().possible_duplicate_points;
        let duplicates = far_end.with(|inner| inner.duplicates.clone());
        for (series, recorded) in &recorded {
            let doubled = duplicates.get(series).copied().unwrap_or_default();
            let arrived = far_end.total(series);
            prop_assert_eq!(arrived - doubled, *recorded, "{}: {} arrived, {} of it twice", series, arrived, doubled);
        }
        let duplicate_points = far_end.with(|inner| inner.duplicate_points);
        prop_assert!(possible_duplicates >= duplicate_points, "{} {}", possible_duplicates, duplicate_points);
    }
}
