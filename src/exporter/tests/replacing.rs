//! A far end where each payload takes the place of the one before, as in a Pushgateway's group: only the newest collection is
//! worth sending, and nothing may come after it.

use super::*;

fn replacing() -> FarEnd {
    let far_end = FarEnd::new(Temporality::Cumulative);
    far_end.with(|inner| inner.replaces = true);
    far_end
}

/// What each send had of a series, in the order of sending.
fn sends(far_end: &FarEnd, series: &str) -> Vec<Option<f64>> {
    far_end.with(|inner| {
        let value = |bytes: &[u8]| {
            let mut lines = read(bytes).into_iter();
            lines.find(|(name, ..)| name == series).map(|(_, value, ..)| value)
        };
        inner.sent.iter().map(|(_, bytes)| value(bytes)).collect()
    })
}

#[test]
fn what_failed_gives_way_to_what_is_newer_and_never_follows_it() {
    let far_end = replacing();
    far_end.with(|inner| inner.always = Fate::Busy);
    let mut rig = Rig::new(far_end, |exporter| {
        exporter
            .queue(64, 1 << 20)
            .drop_policy(crate::DropPolicy::Newest)
            .retry(
                RetryPolicy::new()
                    .initial(SECOND)
                    .retry_for(SECOND * 1000)
                    .open_after(1000),
            )
    });
    let jobs = rig.registry.counter("jobs_total", "Jobs.").register().unwrap();
    for _ in 0..10 {
        jobs.inc();
        rig.interval();
        assert!(rig.stats().queued_collections <= 1);
    }
    rig.far_end.with(|inner| inner.always = Fate::Taken);
    jobs.inc();
    for _ in 0..5 {
        rig.interval();
    }
    let sends = sends(&rig.far_end, "jobs_total{}");
    assert!(sends.len() > 10 && sends.is_sorted(), "{sends:?}");
    assert_eq!(rig.far_end.total("jobs_total{}"), 11.0);
    let delivered = rig.far_end.with(|inner| inner.stored.len() as u64);
    let stats = rig.stats();
    // Each collection was delivered, given up when a newer one waited, or dropped while it waited itself.
    let given_up = stats.carried_over_points;
    assert_eq!(
        delivered + given_up + stats.dropped_queue_full_points,
        stats.collections,
        "{stats:?}"
    );
    assert!(given_up > 0 && stats.possible_duplicate_points == 0, "{stats:?}");
}

#[test]
fn an_unclear_payload_gives_way_too() {
    let mut rig = Rig::new(replacing(), |exporter| {
        exporter.retry(RetryPolicy::new().initial(INTERVAL * 2).retry_for(INTERVAL * 100))
    });
    let jobs = rig.registry.counter("jobs_total", "Jobs.").register().unwrap();
    rig.far_end.with(|inner| inner.script.extend([Fate::Lost; 3]));
    for _ in 0..12 {
        jobs.inc();
        rig.interval();
    }
    let sends = sends(&rig.far_end, "jobs_total{}");
    assert!(sends.is_sorted(), "{sends:?}");
    assert_eq!(rig.far_end.total("jobs_total{}"), 12.0);
    let stats = rig.stats();
    assert!(
        stats.carried_over_points > 0 && stats.possible_duplicate_points == 0,
        "{stats:?}"
    );
}

#[test]
fn a_flush_is_done_by_a_newer_collection_that_takes_its_place() {
    let far_end = replacing();
    far_end.with(|inner| inner.always = Fate::Busy);
    let mut rig = Rig::new(far_end, |exporter| exporter.retry(RetryPolicy::new().initial(SECOND)));
    let jobs = rig.registry.counter("jobs_total", "Jobs.").register().unwrap();
    jobs.inc();
    let id = rig.parts.shared.request_flush(INTERVAL * 10);
    rig.interval();
    jobs.inc();
    rig.interval();
    let pending = rig.parts.shared.poll_flush(id, Waker::noop());
    assert!(
        matches!(pending, Flushing::Pending),
        "it is not over when its own collection is given up"
    );
    rig.far_end.with(|inner| inner.always = Fate::Taken);
    rig.interval();
    match rig.parts.shared.poll_flush(id, Waker::noop()) {
        Flushing::Done(Ok(report)) => assert!(report.delivered > 0, "{report:?}"),
        Flushing::Done(Err(error)) => panic!("{error}"),
        Flushing::Pending => panic!("it waits for what is delivered"),
    }
    assert_eq!(rig.far_end.total("jobs_total{}"), 2.0);
}

#[test]
fn removed_series_are_left_out() {
    let mut rig = Rig::new(replacing(), |exporter| exporter);
    let jobs = rig.registry.counter("jobs_total", "Jobs.").labels(["queue"]);
    let jobs = jobs.register().unwrap();
    jobs.with(["a"]).inc();
    jobs.with(["b"]).inc();
    rig.interval();
    assert!(jobs.remove(["a"]));
    rig.interval();
    assert_eq!(sends(&rig.far_end, "jobs_total{a}"), [Some(1.0), None]);
    assert_eq!(sends(&rig.far_end, "jobs_total{b}"), [Some(1.0), Some(1.0)]);
    assert_eq!(rig.stats().dropped_removed_series_points, 0);
}

#[test]
fn what_is_too_large_is_not_cut_in_two() {
    let mut rig = Rig::new(replacing(), |exporter| exporter);
    let jobs = rig.registry.counter("jobs_total", "Jobs.").labels(["queue"]);
    let jobs = jobs.register().unwrap();
    jobs.with(["a"]).inc();
    jobs.with(["b"]).inc();
    rig.far_end.with(|inner| inner.script.push_back(Fate::TooLarge));
    let error = rig.flush(SECOND).unwrap_err();
    assert_eq!(error.report().rejected, 2, "{error}");
    rig.flush(SECOND).unwrap();
    assert_eq!(sends(&rig.far_end, "jobs_total{b}"), [Some(1.0), Some(1.0)]);
}

proptest! {
    #[test]
    fn the_newest_arrives_and_nothing_follows_what_is_newer(
        fates in prop::collection::vec((fate(), 0_u8..3, any::<bool>()), 1..12),
    ) {
        let far_end = replacing();
        far_end.with(|inner| inner.script.extend(fates.iter().map(|(fate, ..)| *fate)));
        let mut rig = Rig::new(far_end, |exporter| exporter);
        let jobs = rig.registry.counter("jobs_total", "Jobs.").register().unwrap();
        for (_, intervals, flushes) in fates {
            jobs.inc();
            (0..intervals).for_each(|_| rig.interval());
            if flushes && rig.flush(SECOND * 3).is_ok() {
                prop_assert_eq!(rig.far_end.total("jobs_total{}"), jobs.get() as f64);
            }
        }
        rig.far_end.with(|inner| inner.script.clear());
        jobs.inc();
        // An open circuit waits for half a minute at most, and a far end for as long as it has asked.
        (0..10).for_each(|_| rig.interval());
        let sends = sends(&rig.far_end, "jobs_total{}");
        prop_assert!(sends.is_sorted(), "{:?}", sends);
        prop_assert_eq!(rig.far_end.total("jobs_total{}"), jobs.get() as f64);
        prop_assert!(rig.stats().queued_collections <= 1);
    }
}
