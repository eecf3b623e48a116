//! Series that go and come again, at the edges: families that are full, hidden series, odd clocks.

use std::{
    cell::Cell,
    sync::{OnceLock, mpsc},
    thread,
    time::Duration,
};
use tidegauge::{Clock, Counter, Family, Registry, SeriesSnapshot, Value, testing::ManualClock};

const IDLE: Duration = Duration::from_secs(60);

/// Fails, and does not hang, when `work` never ends.
fn ends(work: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    thread::spawn(move || {
        work();
        let _ = done.send(());
    });
    ended
        .recv_timeout(Duration::from_secs(20))
        .expect("it ends, and does not panic");
}

fn with_clock() -> (Registry, ManualClock) {
    let clock = ManualClock::new();
    let registry = Registry::builder().clock(clock.clone()).build().expect("valid");
    (registry, clock)
}

#[test]
fn a_family_with_no_labels_keeps_its_one_series() {
    ends(|| {
        let (registry, clock) = with_clock();
        let declare = || registry.counter("jobs_total", "Jobs.");
        let family = declare().labels([""; 0]).expire_after(IDLE).register().expect("valid");
        family.handle([""; 0]).add(2);
        for _ in 0..4 {
            registry.snapshot();
            clock.advance(IDLE);
        }
        family.clear();
        assert!(!family.remove([""; 0]));
        assert_eq!(declare().register().expect("the same").get(), 2);
        assert_eq!(family.with([""; 0]).get(), 2);
    });
}

#[test]
fn a_hidden_series_of_a_full_family_is_found_again() {
    let (registry, clock) = with_clock();
    let family = registry.counter("jobs_total", "Jobs.").labels(["queue"]);
    let family = family.limit(1).expire_after(IDLE).register().expect("valid");
    family.with(["mail"]).inc();
    // Past the limit, so that the family knows that it is full.
    family.with(["other"]).inc();
    registry.snapshot();
    clock.advance(IDLE);
    registry.snapshot();
    family.with(["mail"]).inc();
    assert_eq!(family.with(["mail"]).get(), 2);
    assert_eq!(registry.losses().past_limit, 1);
}

#[test]
fn none_of_many_series_expires_that_has_just_been_used() {
    let (registry, clock) = with_clock();
    let family: Family<Counter, 1> = registry
        .counter("jobs_total", "Jobs.")
        .labels(["queue"])
        .expire_after(IDLE)
        .register()
        .expect("valid");
    let inc_all = || (0..600).for_each(|queue| family.with((queue,)).inc());
    inc_all();
    registry.snapshot();
    clock.advance(IDLE);
    inc_all();
    registry.snapshot();
    registry.snapshot();
    assert!((0..600).all(|queue| family.with((queue,)).get() == 2));
}

#[test]
fn a_series_that_is_removed_while_it_is_collected_is_not_in_the_snapshot() {
    ends(|| {
        let registry = Registry::new();
        let family = registry.counter("jobs_total", "Jobs.").labels(["queue"]);
        let family = family.expire_after(IDLE).register().expect("valid");
        // Each is 1 for as long as it is there.
        (0..1_500).for_each(|queue| family.with((queue,)).inc());
        let collector = thread::spawn({
            let registry = registry.clone();
            move || {
                let mut left = usize::MAX;
                while left > 0 {
                    let snapshot = registry.snapshot();
                    let series = snapshot.family("jobs_total").expect("it is registered").series();
                    left = series
                        .map(|series| assert_eq!(series.value(), Value::Counter(1)))
                        .count();
                }
            }
        });
        (0..1_500).for_each(|queue| assert!(family.remove((queue,))));
        collector.join().expect("it meets no series that is gone");
    });
}

#[test]
fn retaining_a_gauge_does_not_make_it_idle() {
    let (registry, clock) = with_clock();
    let family = registry
        .gauge("depth", "Depth.")
        .labels(["queue"])
        .expire_after(IDLE)
        .register()
        .expect("valid");
    family.with(["mail"]).set(1.0);
    registry.snapshot();
    registry.snapshot();
    clock.advance(IDLE);
    family.with(["mail"]).set(2.0);
    family.retain(|_| true);
    registry.snapshot();
    registry.snapshot();
    assert_eq!(family.with(["mail"]).get(), 2.0);
}

#[test]
fn a_clock_may_record() {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    static FAMILY: OnceLock<Family<Counter, 1>> = OnceLock::new();
    thread_local!(static ASKED: Cell<bool> = const { Cell::new(false) });

    struct Counting;
    impl Clock for Counting {
        fn monotonic(&self) -> Duration {
            if !ASKED.replace(true) {
                if let Some(registry) = REGISTRY.get() {
                    registry.snapshot();
                }
                if let Some(family) = FAMILY.get() {
                    family.with(["clock"]).inc();
                    family.with([thread::current().name().unwrap_or("none")]).inc();
                }
                ASKED.set(false);
            }
            Duration::ZERO
        }

        fn unix(&self) -> Duration {
            Duration::ZERO
        }
    }

    ends(|| {
        let registry = Registry::builder().clock(Counting).build().expect("valid");
        assert!(REGISTRY.set(registry.clone()).is_ok());
        let family = registry
            .counter("jobs_total", "Jobs.")
            .labels(["queue"])
            .limit(3)
            .register()
            .expect("valid");
        let family = FAMILY.get_or_init(|| family);
        (0..5).for_each(|queue| family.with((queue,)).inc());
        assert!(family.with(["clock"]).get() > 0);
    });
}

#[test]
fn entries_of_ever_new_lengths_do_not_use_up_memory() {
    let registry = Registry::new();
    let family = registry
        .counter("jobs_total", "Jobs.")
        .labels(["queue"])
        .register()
        .expect("valid");
    let text = "x".repeat(60_000);
    // Each length once, and never two at a time: all the lengths of some eighths of a power of two share an entry. The
    // process has a hundred megabytes more if they do not.
    for len in (30_000..60_000).step_by(8) {
        family.with([&text[..len]]).inc();
        assert!(family.remove([&text[..len]]));
    }
    let resident = std::fs::read_to_string("/proc/self/statm").ok();
    if let Some(pages) = resident.and_then(|statm| statm.split(' ').nth(1)?.parse::<usize>().ok()) {
        assert!(pages < 25_000, "{pages} pages");
    }
}

#[test]
fn what_a_snapshot_shows_can_be_sent() {
    fn sent<T: Send + Sync>() {}
    sent::<SeriesSnapshot<'_>>();
}
