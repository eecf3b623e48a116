//! Series that come and go: removal, idle expiry, limits, and what is still written to them afterwards.

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};
use tidegauge::{
    Buckets, Counter, Family, FloatCounter, Gauge, Histogram, IntGauge, Losses, Registry, Snapshot, UpDownCounter,
    Value,
    testing::{self, ManualClock},
};

const SECOND: Duration = Duration::from_secs(1);

fn with_clock() -> (Registry, ManualClock) {
    let clock = ManualClock::new();
    let registry = Registry::builder().clock(clock.clone()).build().unwrap();
    (registry, clock)
}

fn jobs(registry: &Registry) -> Family<Counter, 1> {
    registry
        .counter("jobs_total", "Jobs.")
        .labels(["queue"])
        .limit(100_000)
        .register()
        .unwrap()
}

fn losses(change: impl FnOnce(&mut Losses)) -> Losses {
    let mut losses = Losses::default();
    change(&mut losses);
    losses
}

fn late(writes: u64) -> Losses {
    losses(|losses| losses.late_writes = writes)
}

fn past_limit(look_ups: u64) -> Losses {
    losses(|losses| losses.past_limit = look_ups)
}

/// A series' value, histograms' as their count; `None` if there is no such series.
fn value(registry: &Registry, name: &str, label: &str) -> Option<f64> {
    let snapshot = registry.snapshot();
    snapshot
        .family(name)?
        .series()
        .find(|series| !series.is_overflow() && series.labels().any(|(_, value)| value == label))
        .map(|series| number(series.value()))
}

fn overflow(registry: &Registry, name: &str) -> Option<f64> {
    let snapshot = registry.snapshot();
    let mut overflowing = snapshot.family(name)?.series().filter(|series| series.is_overflow());
    overflowing.next().map(|series| number(series.value()))
}

fn number(value: Value<'_>) -> f64 {
    match value {
        Value::Counter(count) => count as f64,
        Value::FloatCounter(value) | Value::Gauge(value) => value,
        Value::IntGauge(value) => value as f64,
        Value::Histogram(histogram) => histogram.count() as f64,
        other => panic!("{other:?}"),
    }
}

/// A thread that does what it is told, one thing after the other, and lives until it is dropped.
struct Worker {
    work: Option<Sender<Box<dyn FnOnce() + Send>>>,
    done: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    fn new() -> Self {
        let (work, works) = channel::<Box<dyn FnOnce() + Send>>();
        let (finished, done) = channel();
        let thread = thread::spawn(move || {
            for work in works {
                work();
                finished.send(()).unwrap();
            }
        });
        Worker {
            work: Some(work),
            done,
            thread: Some(thread),
        }
    }

    fn does(&self, work: impl FnOnce() + Send + 'static) {
        self.work.as_ref().unwrap().send(Box::new(work)).unwrap();
        self.done.recv().expect("the work does not panic");
    }

    fn ends(mut self) {
        self.work = None;
        self.thread.take().unwrap().join().unwrap();
    }
}

mod removal {
    use super::*;

    #[test]
    fn a_removed_series_is_gone_and_others_stay() {
        let registry = Registry::new();
        let jobs = jobs(&registry);
        jobs.with(["a"]).add(1);
        jobs.with(["b"]).add(2);
        assert!(jobs.remove(["a"]));
        assert!(!jobs.remove(["a"]));
        assert!(!jobs.remove(["never"]));
        assert_eq!(
            (value(&registry, "jobs", "a"), value(&registry, "jobs", "b")),
            (None, Some(2.0))
        );
        assert_eq!(jobs.len(), 1);
    }

    #[test]
    fn looking_for_a_series_to_remove_makes_none() {
        let registry = Registry::new();
        let jobs = jobs(&registry);
        jobs.remove(["a"]);
        assert!(jobs.is_empty() && registry.snapshot().family("jobs").unwrap().series().next().is_none());
    }

    #[test]
    fn a_series_made_anew_starts_at_zero_and_with_a_new_start_time() {
        let (registry, clock) = with_clock();
        let jobs = jobs(&registry);
        let created = |label: &str| {
            let snapshot = registry.snapshot();
            let family = snapshot.family("jobs").unwrap();
            let created = family
                .series()
                .find(|series| series.label("queue") == Some(label))
                .unwrap()
                .created();
            created.duration_since(SystemTime::UNIX_EPOCH).unwrap() - Duration::from_secs(1_700_000_000)
        };
        clock.advance(SECOND);
        jobs.with(["a"]).add(5);
        clock.advance(SECOND);
        jobs.with(["b"]).add(5);
        assert_eq!((created("a"), created("b")), (SECOND, 2 * SECOND));

        jobs.remove(["a"]);
        clock.advance(SECOND);
        jobs.with(["a"]).inc();
        assert_eq!((created("a"), created("b")), (3 * SECOND, 2 * SECOND));
        assert_eq!(jobs.with(["a"]).get(), 1);
    }

    #[test]
    fn series_of_every_kind_start_anew_at_zero() {
        let registry = Registry::new();
        let floats = registry.float_counter("a", "A.").labels(["l"]).register().unwrap();
        let gauges = registry.gauge("b", "B.").labels(["l"]).register().unwrap();
        let integers = registry.int_gauge("c", "C.").labels(["l"]).register().unwrap();
        let balances = registry.up_down_counter("d", "D.").labels(["l"]).register().unwrap();
        let histograms = registry.histogram("e", "E.").labels(["l"]).register().unwrap();
        floats.with(["x"]).add(1.5);
        gauges.with(["x"]).set(1.5);
        integers.with(["x"]).set(-3);
        balances.with(["x"]).dec();
        histograms.with(["x"]).observe_many(1.5, 1 << 60);
        floats.remove(["x"]);
        gauges.remove(["x"]);
        integers.remove(["x"]);
        balances.remove(["x"]);
        histograms.remove(["x"]);
        assert_eq!(floats.with(["x"]).get(), 0.0);
        assert_eq!(gauges.with(["x"]).get(), 0.0);
        assert_eq!(integers.with(["x"]).get(), 0);
        assert_eq!(balances.with(["x"]).get(), 0);
        assert_eq!(
            (histograms.with(["x"]).get().count(), histograms.with(["x"]).get().sum()),
            (0, 0.0)
        );
        assert_eq!(registry.losses(), Losses::default());
    }

    #[test]
    fn clear_removes_all_but_the_overflow_series() {
        let registry = Registry::new();
        let jobs = registry
            .counter("jobs_total", "Jobs.")
            .labels(["queue"])
            .limit(2)
            .register()
            .unwrap();
        for queue in ["a", "b", "c", "d"] {
            jobs.with([queue]).inc();
        }
        jobs.clear();
        assert!(jobs.is_empty());
        assert_eq!(overflow(&registry, "jobs"), Some(2.0));
        jobs.with(["c"]).inc();
        assert_eq!(value(&registry, "jobs", "c"), Some(1.0));
    }

    #[test]
    fn retain_keeps_what_it_is_told_to_and_sees_values_and_labels() {
        let registry = Registry::builder().label("region", "eu").build().unwrap();
        let jobs = jobs(&registry);
        for number in 0..1000_u64 {
            jobs.with((number,)).add(number);
        }
        let mut seen = 0;
        jobs.retain(|series| {
            seen += 1;
            let number: u64 = series.label("queue").unwrap().parse().unwrap();
            assert_eq!(
                (series.value(), series.label("region")),
                (Value::Counter(number), Some("eu"))
            );
            number.is_multiple_of(3)
        });
        assert_eq!((seen, jobs.len()), (1000, 334));
        assert!((0..1000).step_by(3).all(|number| jobs.with((number,)).get() == number));
    }

    #[test]
    fn the_closure_of_retain_may_use_the_family() {
        let registry = Registry::new();
        let jobs = jobs(&registry);
        for queue in ["a", "b", "c"] {
            jobs.with([queue]).inc();
        }
        jobs.retain(|series| {
            jobs.with(["new"]).inc();
            jobs.with([series.label("queue").unwrap()]).inc();
            jobs.remove(["b"]);
            jobs.retain(|inner| inner.label("queue") != Some("c"));
            registry.snapshot();
            series.label("queue") != Some("a")
        });
        assert_eq!(value(&registry, "jobs", "new"), Some(3.0));
        assert_eq!(value(&registry, "jobs", "a"), None);
    }

    #[test]
    fn what_retain_removes_is_the_life_that_it_was_asked_about() {
        let registry = Registry::new();
        let jobs = jobs(&registry);
        jobs.with(["a"]).inc();
        jobs.retain(|_| {
            jobs.remove(["a"]);
            jobs.with(["a"]).add(7);
            false
        });
        assert_eq!(
            value(&registry, "jobs", "a"),
            Some(7.0),
            "the new life was not the one that was refused"
        );
    }

    #[test]
    fn retain_sees_no_overflow_series() {
        let registry = Registry::new();
        let jobs = registry
            .counter("jobs_total", "Jobs.")
            .labels(["queue"])
            .limit(0)
            .register()
            .unwrap();
        jobs.with(["a"]).inc();
        jobs.retain(|series| panic!("{:?}", series.labels().collect::<Vec<_>>()));
        assert_eq!(overflow(&registry, "jobs"), Some(1.0));
    }

    #[test]
    fn the_only_series_of_a_family_without_labels_is_not_cleared() {
        let registry = Registry::new();
        let family = registry
            .counter("jobs_total", "Jobs.")
            .labels([""; 0])
            .register()
            .unwrap();
        family.with([""; 0]).add(5);
        family.clear();
        family.with([""; 0]).inc();
        assert_eq!(family.with([""; 0]).get(), 6);
        assert_eq!(registry.snapshot().family("jobs").unwrap().series().count(), 1);
    }

    #[test]
    fn a_large_family_that_was_cleared_has_room_at_once() {
        let registry = Registry::new();
        let jobs = jobs(&registry);
        for round in 0..3 {
            for number in 0..40_000 {
                jobs.with((number,)).inc();
            }
            assert_eq!(
                (jobs.len(), registry.losses()),
                (40_000, Losses::default()),
                "round {round}"
            );
            jobs.clear();
        }
    }

    #[test]
    fn label_sets_that_come_and_go_one_at_a_time_never_meet_a_limit() {
        let registry = Registry::new();
        let gauges = registry
            .gauge("level", "Level.")
            .labels(["session"])
            .limit(1)
            .register()
            .unwrap();
        for session in 0..40_000 {
            gauges.with((session,)).inc();
            assert_eq!(gauges.with((session,)).get(), 1.0);
            assert!(gauges.remove((session,)));
        }
        assert_eq!(registry.losses(), Losses::default());
    }
}

mod stale_handles {
    use super::*;

    /// What the tests below do to any instrument.
    trait Writes: Clone + Send + 'static {
        type In: Clone + Send + 'static;
        fn family(registry: &Registry) -> Self::In;
        fn handle(family: &Self::In, label: &str) -> Self;
        fn write_borrowed(family: &Self::In, label: &str);
        fn remove(family: &Self::In, label: &str);
        fn write(&self);
        /// What one write adds to the losses.
        const WEIGHT: u64;
        fn read(&self) -> f64;
    }

    macro_rules! writes {
        ($($instrument:ident $make:ident $weight:literal |$handle:ident| $write:expr, $read:expr;)*) => { $(
            impl Writes for $instrument {
                type In = Family<$instrument, 1>;
                const WEIGHT: u64 = $weight;

                fn family(registry: &Registry) -> Self::In {
                    registry.$make("it", "It.").labels(["label"]).register().unwrap()
                }

                fn handle(family: &Self::In, label: &str) -> Self {
                    family.handle([label])
                }

                fn write_borrowed(family: &Self::In, label: &str) {
                    let $handle = family.with([label]);
                    $write;
                }

                fn remove(family: &Self::In, label: &str) {
                    assert!(family.remove([label]));
                }

                fn write(&self) {
                    let $handle = self;
                    $write;
                }

                fn read(&self) -> f64 {
                    let $handle = self;
                    $read
                }
            }
        )* };
    }
    writes! {
        Counter counter 3 |handle| handle.add(3), handle.get() as f64;
        FloatCounter float_counter 1 |handle| handle.add(2.5), handle.get();
        Gauge gauge 1 |handle| handle.set(7.0), handle.get();
        IntGauge int_gauge 1 |handle| handle.add(7), handle.get() as f64;
        UpDownCounter up_down_counter 1 |handle| handle.dec(), handle.get() as f64;
        Histogram histogram 1 |handle| handle.observe(1.5), handle.get().count() as f64;
    }

    /// Series that take the place of a removed one, each in turn.
    fn successors<I: Writes>(family: &I::In) -> Vec<I> {
        ["next", "other", "third"].map(|label| I::handle(family, label)).into()
    }

    fn check_untouched<I: Writes>(successors: &[I]) {
        let read: Vec<f64> = successors.iter().map(I::read).collect();
        assert_eq!(
            read,
            vec![0.0; successors.len()],
            "what is late went to another label set"
        );
    }

    fn on_the_same_thread<I: Writes>() {
        let registry = Registry::new();
        let family = I::family(&registry);
        let stale = I::handle(&family, "a");
        stale.write();
        I::remove(&family, "a");
        stale.write();
        assert_eq!(registry.losses(), late(I::WEIGHT), "before the place is used again");
        let next = successors::<I>(&family);
        stale.write();
        stale.clone().write();
        assert_eq!(registry.losses(), late(3 * I::WEIGHT), "after that");
        check_untouched(&next);
        assert_eq!(stale.read(), 0.0);

        let again = I::handle(&family, "a");
        stale.write();
        assert_eq!(again.read(), 0.0, "the same labels are another life");
        assert_eq!(registry.losses(), late(4 * I::WEIGHT));
        again.write();
        assert_ne!(again.read(), 0.0);
        assert_eq!(registry.losses(), late(4 * I::WEIGHT));
    }

    fn on_other_threads<I: Writes>() {
        let registry = Registry::new();
        let family = I::family(&registry);
        let stale = I::handle(&family, "a");
        let (wrote, never_wrote) = (Worker::new(), Worker::new());
        let write = |worker: &Worker| {
            let stale = stale.clone();
            worker.does(move || stale.write());
        };
        write(&wrote);
        I::remove(&family, "a");
        write(&wrote);
        write(&never_wrote);
        assert_eq!(registry.losses(), late(2 * I::WEIGHT), "before the place is used again");
        let next = successors::<I>(&family);
        write(&wrote);
        write(&never_wrote);
        assert_eq!(registry.losses(), late(4 * I::WEIGHT), "after that");
        check_untouched(&next);
        wrote.ends();
        never_wrote.ends();
        check_untouched(&next);
        assert_eq!(registry.losses(), late(4 * I::WEIGHT));
    }

    fn on_a_thread_that_wrote_and_then_sees_only_the_next_life<I: Writes>() {
        let registry = Registry::new();
        let family = I::family(&registry);
        let (stale, worker) = (I::handle(&family, "a"), Worker::new());
        let write = |handle: &I| {
            let handle = handle.clone();
            worker.does(move || handle.write());
        };
        for _ in 0..3 {
            write(&stale);
        }
        I::remove(&family, "a");
        let next = successors::<I>(&family);
        next.iter().for_each(write);
        let read: Vec<f64> = next.iter().map(I::read).collect();
        assert!(read.iter().all(|value| *value == read[0] && *value != 0.0), "{read:?}");
        assert_eq!(registry.losses(), late(0), "nothing was late");
        write(&stale);
        assert_eq!(registry.losses(), late(I::WEIGHT));
        assert_eq!(next.iter().map(I::read).collect::<Vec<_>>(), read);
    }

    fn by_a_thread_that_ended<I: Writes>() {
        let registry = Registry::new();
        let family = I::family(&registry);
        let (stale, worker) = (I::handle(&family, "a"), Worker::new());
        let writing = stale.clone();
        worker.does(move || writing.write());
        worker.ends();
        I::remove(&family, "a");
        let next = successors::<I>(&family);
        stale.write();
        check_untouched(&next);
        assert_eq!(registry.losses(), late(I::WEIGHT));
        // A thread that goes on with the cells of the one that ended.
        let worker = Worker::new();
        let (writing, newest) = (stale.clone(), next[0].clone());
        worker.does(move || {
            writing.write();
            newest.write();
        });
        assert_eq!(registry.losses(), late(2 * I::WEIGHT));
        check_untouched(&next[1..]);
        assert_ne!(next[0].read(), 0.0);
    }

    fn after_unregistering<I: Writes>() {
        let registry = Registry::new();
        let family = I::family(&registry);
        let stale = I::handle(&family, "a");
        stale.write();
        assert!(registry.unregister("it"));
        let family_anew = I::family(&registry);
        let next = I::handle(&family_anew, "a");
        stale.write();
        let worker = Worker::new();
        let writing = stale.clone();
        worker.does(move || writing.write());
        assert_eq!((registry.losses().late_writes, next.read()), (2 * I::WEIGHT, 0.0));
        I::write_borrowed(&family, "a");
        I::write_borrowed(&family, "new");
        I::handle(&family, "b").write();
        assert_eq!((registry.losses().late_writes, next.read()), (5 * I::WEIGHT, 0.0));
        assert_eq!(registry.losses().past_limit, 0, "there is no limit that they were past");
    }

    fn through_many_lives<I: Writes>() {
        let registry = Registry::new();
        let family = I::family(&registry);
        let worker = Worker::new();
        let mut stale: Vec<I> = Vec::new();
        let mut expected = 0;
        for life in 0..50 {
            let handle = I::handle(&family, "a");
            let writing = handle.clone();
            if life % 2 == 0 {
                handle.write();
            }
            if life % 3 == 0 {
                worker.does(move || writing.write());
            }
            let writing = stale.clone();
            worker.does(move || writing.iter().for_each(I::write));
            stale.iter().for_each(I::write);
            expected += 2 * stale.len() as u64 * I::WEIGHT;
            I::remove(&family, "a");
            stale.push(handle);
        }
        assert_eq!(registry.losses(), late(expected));
    }

    macro_rules! for_every_instrument {
        ($($scenario:ident)*) => { $(
            mod $scenario {
                use super::*;

                #[test]
                fn counter() {
                    super::$scenario::<Counter>();
                }

                #[test]
                fn float_counter() {
                    super::$scenario::<FloatCounter>();
                }

                #[test]
                fn gauge() {
                    super::$scenario::<Gauge>();
                }

                #[test]
                fn int_gauge() {
                    super::$scenario::<IntGauge>();
                }

                #[test]
                fn up_down_counter() {
                    super::$scenario::<UpDownCounter>();
                }

                #[test]
                fn histogram() {
                    super::$scenario::<Histogram>();
                }
            }
        )* };
    }
    for_every_instrument! {
        on_the_same_thread
        on_other_threads
        on_a_thread_that_wrote_and_then_sees_only_the_next_life
        by_a_thread_that_ended
        after_unregistering
        through_many_lives
    }

    #[test]
    fn late_increments_are_counted_by_their_amount_however_large() {
        let registry = Registry::new();
        let jobs = jobs(&registry);
        let stale = jobs.handle(["a"]);
        jobs.remove(["a"]);
        jobs.with(["b"]).inc();
        stale.add(0);
        stale.add((1 << 47) - 1);
        stale.add(1 << 50);
        assert_eq!(registry.losses(), late((1 << 50) + (1 << 47) - 1));
        assert_eq!(jobs.with(["b"]).get(), 1);
    }

    #[test]
    fn late_observations_are_counted_one_by_one() {
        let registry = Registry::new();
        let sizes = registry.histogram("size", "Size.").labels(["l"]).register().unwrap();
        let stale = sizes.handle(["a"]);
        sizes.remove(["a"]);
        stale.observe_many(1.0, 5);
        stale.observe(2.0);
        assert_eq!(registry.losses(), late(6));
    }

    #[test]
    fn a_large_count_does_not_outlive_its_series() {
        let registry = Registry::new();
        let jobs = jobs(&registry);
        jobs.with(["a"]).add(u64::MAX - 5);
        jobs.remove(["a"]);
        jobs.with(["b"]).inc();
        assert_eq!((jobs.with(["b"]).get(), registry.losses()), (1, Losses::default()));
    }

    #[test]
    fn a_borrow_that_is_older_than_the_removal_writes_into_no_other_label_set() {
        let registry = Registry::new();
        let jobs = jobs(&registry);
        let gauges = registry.gauge("level", "Level.").labels(["l"]).register().unwrap();
        let (stale, level) = (jobs.with(["a"]), gauges.with(["a"]));
        stale.inc();
        level.set(5.0);
        jobs.remove(["a"]);
        gauges.remove(["a"]);
        for label in ["b", "c", "d", "e", "f"] {
            jobs.with([label]).inc();
            gauges.with([label]).set(1.0);
        }
        stale.add(10);
        level.set(9.0);
        level.inc();
        assert_eq!((stale.get(), level.get()), (0, 0.0));
        let expected = |label: &str| (jobs.with([label]).get(), gauges.with([label]).get()) == (1, 1.0);
        assert!(["b", "c", "d", "e", "f"].into_iter().all(expected));
        assert_eq!(registry.losses(), late(12));
    }

    #[test]
    fn a_timer_and_a_guard_that_outlive_their_series_are_late() {
        let (registry, clock) = with_clock();
        let durations = registry
            .histogram("duration_seconds", "How long.")
            .labels(["l"])
            .register()
            .unwrap();
        let in_flight = registry
            .up_down_counter("in_flight", "In flight.")
            .labels(["l"])
            .register()
            .unwrap();
        let levels = registry.int_gauge("level", "Level.").labels(["l"]).register().unwrap();
        let timer = durations.handle(["a"]).start_timer();
        let guards = (in_flight.with(["a"]).track(), levels.with(["a"]).track());
        durations.clear();
        in_flight.clear();
        levels.clear();
        let balances = (in_flight.handle(["b"]), levels.handle(["b"]));
        clock.advance(SECOND);
        drop((timer, guards));
        assert_eq!(registry.losses(), late(3));
        assert_eq!(
            (balances.0.get(), balances.1.get(), durations.with(["b"]).get().count()),
            (0, 0, 0)
        );
    }

    #[test]
    fn handles_to_very_many_removed_series_keep_their_places_from_being_used_again() {
        let registry = Registry::new();
        let gauges = registry.gauge("level", "Level.").labels(["l"]).register().unwrap();
        let stale: Vec<Gauge> = (0..1000)
            .map(|number| {
                let handle = gauges.handle((number,));
                gauges.remove((number,));
                handle
            })
            .collect();
        for number in 0..1000 {
            gauges.with((number,)).set(-1.0);
        }
        stale.iter().for_each(|handle| handle.set(5.0));
        assert!((0..1000).all(|number| gauges.with((number,)).get() == -1.0));
        assert_eq!(registry.losses(), late(1000));
        drop(stale);
        assert!((0..1000).all(|number| gauges.with((number,)).get() == -1.0));
        assert_eq!(gauges.len(), 1000);
    }

    #[test]
    fn a_place_is_used_again_more_often_than_a_generation_has_numbers() {
        let registry = Registry::new();
        let jobs = jobs(&registry);
        let mut oldest = Vec::new();
        for life in 0..140_000_u64 {
            if life % 10_000 < 2 {
                oldest.push(jobs.handle(["a"]));
            }
            jobs.with(["a"]).inc();
            assert_eq!(jobs.with(["a"]).get(), 1, "life {life}");
            jobs.remove(["a"]);
        }
        jobs.with(["a"]).inc();
        oldest.iter().for_each(Counter::inc);
        assert_eq!(
            (jobs.with(["a"]).get(), registry.losses()),
            (1, late(oldest.len() as u64))
        );
    }
}

mod expiry {
    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    /// A counter family whose series expire.
    fn expiring() -> (Registry, ManualClock, Family<Counter, 1>) {
        let (registry, clock) = with_clock();
        let family = registry
            .counter("jobs_total", "Jobs.")
            .labels(["queue"])
            .expire_after(IDLE)
            .register()
            .unwrap();
        (registry, clock, family)
    }

    /// Collects, and lists what the snapshot has.
    fn collect(registry: &Registry) -> Vec<String> {
        let snapshot = registry.snapshot();
        let family = snapshot.families().next().unwrap();
        let all = family
            .series()
            .map(|series| series.labels().map(|(_, value)| value).collect());
        all.collect()
    }

    #[test]
    fn without_being_asked_to_nothing_expires() {
        let (registry, clock) = with_clock();
        let jobs = jobs(&registry);
        jobs.with(["a"]).inc();
        for _ in 0..5 {
            assert_eq!(collect(&registry), ["a"]);
            clock.advance(1000 * IDLE);
        }
    }

    #[test]
    fn a_series_ends_at_the_second_collection_that_finds_it_idle() {
        let (registry, clock, jobs) = expiring();
        jobs.with(["a"]).inc();
        assert_eq!(collect(&registry), ["a"]);
        clock.advance(IDLE - Duration::from_millis(1));
        assert_eq!(collect(&registry), ["a"]);
        assert_eq!(collect(&registry), ["a"], "it is not idle for long enough");
        clock.advance(Duration::from_millis(1));
        assert_eq!(collect(&registry), ["a"], "the first that finds it idle");
        assert_eq!(collect(&registry), ["a"], "the second, which shows its last value");
        assert_eq!(collect(&registry), [""; 0]);
        assert!(jobs.is_empty());
        assert_eq!(registry.losses(), Losses::default());
    }

    #[test]
    fn time_passes_at_collections_alone() {
        let (registry, clock, jobs) = expiring();
        jobs.with(["a"]).inc();
        clock.advance(10 * IDLE);
        assert_eq!(collect(&registry), ["a"], "the first collection sees it move");
        clock.advance(IDLE / 2);
        jobs.with(["a"]).inc();
        clock.advance(10 * IDLE);
        assert_eq!(collect(&registry), ["a"]);
        assert_eq!(collect(&registry), ["a"]);
        assert_eq!(collect(&registry), ["a"]);
        assert_eq!(jobs.len(), 1, "it moved between the collections");
    }

    #[test]
    fn a_series_that_moves_stays_and_an_idle_one_beside_it_goes() {
        let (registry, clock, jobs) = expiring();
        jobs.with(["idle"]).inc();
        for _ in 0..10 {
            jobs.with(["busy"]).inc();
            collect(&registry);
            clock.advance(IDLE / 2);
        }
        assert_eq!(collect(&registry), ["busy"]);
        assert_eq!(jobs.with(["busy"]).get(), 10);
    }

    #[test]
    fn a_kept_handle_pins_its_series_and_the_last_clone_frees_it() {
        let (registry, clock, jobs) = expiring();
        let kept = jobs.handle(["a"]);
        let clone = kept.clone();
        kept.add(7);
        drop(kept);
        for _ in 0..5 {
            assert_eq!(collect(&registry), ["a"]);
            clock.advance(2 * IDLE);
        }
        clone.inc();
        assert_eq!(jobs.with(["a"]).get(), 8);
        drop(clone);
        for _ in 0..4 {
            collect(&registry);
            clock.advance(2 * IDLE);
        }
        assert!(jobs.is_empty());
        assert_eq!(registry.losses(), Losses::default());
    }

    #[test]
    fn a_timer_and_a_guard_pin_as_handles_do() {
        let (registry, clock) = with_clock();
        let durations = registry
            .histogram("a", "A.")
            .labels(["l"])
            .expire_after(IDLE)
            .register()
            .unwrap();
        let levels = registry
            .gauge("b", "B.")
            .labels(["l"])
            .expire_after(IDLE)
            .register()
            .unwrap();
        let guards = (durations.handle(["x"]).start_timer(), levels.with(["x"]).track());
        for _ in 0..5 {
            registry.snapshot();
            clock.advance(2 * IDLE);
        }
        drop(guards);
        assert_eq!(
            (durations.with(["x"]).get().count(), levels.with(["x"]).get()),
            (1, 0.0)
        );
        assert_eq!(registry.losses(), Losses::default());
    }

    #[test]
    fn more_clones_than_a_count_of_pins_has_room_for_can_go_again() {
        let (registry, clock, jobs) = expiring();
        let kept = jobs.handle(["a"]);
        let clones: Vec<Counter> = (0..40_000).map(|_| kept.clone()).collect();
        kept.inc();
        drop(clones);
        for _ in 0..4 {
            assert_eq!(collect(&registry), ["a"], "one is kept still");
            clock.advance(2 * IDLE);
        }
        drop(kept);
        for _ in 0..4 {
            collect(&registry);
            clock.advance(2 * IDLE);
        }
        assert!(jobs.is_empty());
    }

    /// Whether a series lives on if this is done to it between collections.
    fn stays<F>(family: impl FnOnce(&Registry) -> F, activity: impl Fn(&F)) -> bool {
        let (registry, clock) = with_clock();
        let family = family(&registry);
        for _ in 0..5 {
            activity(&family);
            // Looking the series up brings it back: what counts is that these find it active.
            for _ in 0..3 {
                collect(&registry);
            }
            clock.advance(2 * IDLE);
        }
        activity(&family);
        !(0..3).any(|_| collect(&registry).is_empty()) && registry.losses() == Losses::default()
    }

    /// Whether a series lives on that had this done to it once.
    fn stays_idle<F>(family: impl FnOnce(&Registry) -> F, activity: impl Fn(&F)) -> bool {
        let (registry, clock) = with_clock();
        let family = family(&registry);
        activity(&family);
        for _ in 0..4 {
            collect(&registry);
            clock.advance(2 * IDLE);
        }
        !collect(&registry).is_empty()
    }

    #[test]
    fn a_gauge_set_to_the_value_that_it_has_is_active() {
        let gauge = |registry: &Registry| {
            registry
                .gauge("level", "Level.")
                .labels(["l"])
                .expire_after(IDLE)
                .register()
                .unwrap()
        };
        let integer = |registry: &Registry| {
            registry
                .int_gauge("level", "Level.")
                .labels(["l"])
                .expire_after(IDLE)
                .register()
                .unwrap()
        };
        assert!(stays(gauge, |gauge| gauge.with(["x"]).set(5.0)));
        assert!(stays(gauge, |gauge| gauge.with(["x"]).set(0.0)));
        assert!(stays(gauge, |gauge| gauge.with(["x"]).add(0.0)));
        assert!(stays(gauge, |gauge| gauge.with(["x"]).set(f64::NAN)));
        assert!(stays(gauge, |gauge| drop(gauge.with(["x"]).track())));
        assert!(stays(integer, |gauge| gauge.with(["x"]).set(5)));
        assert!(stays(integer, |gauge| drop(gauge.with(["x"]).track())));
        assert!(!stays_idle(gauge, |gauge| gauge.with(["x"]).set(5.0)));
        assert!(!stays_idle(integer, |gauge| gauge.with(["x"]).set(5)));
    }

    #[test]
    fn an_up_down_counter_that_ends_where_it_was_is_active() {
        let balance = |registry: &Registry| {
            registry
                .up_down_counter("in_flight", "In flight.")
                .labels(["l"])
                .expire_after(IDLE)
                .register()
                .unwrap()
        };
        assert!(stays(balance, |balance| drop(balance.with(["x"]).track())));
        assert!(!stays_idle(balance, |balance| drop(balance.with(["x"]).track())));
    }

    #[test]
    fn a_zero_observed_or_added_is_active() {
        let floats = |registry: &Registry| {
            registry
                .float_counter("energy", "Energy.")
                .labels(["l"])
                .expire_after(IDLE)
                .register()
                .unwrap()
        };
        let sizes = |registry: &Registry| {
            registry
                .histogram("size", "Size.")
                .labels(["l"])
                .expire_after(IDLE)
                .register()
                .unwrap()
        };
        assert!(stays(floats, |floats| floats.with(["x"]).add(0.0)));
        assert!(stays(sizes, |sizes| sizes.with(["x"]).observe(0.0)));
        assert!(!stays_idle(floats, |floats| floats.with(["x"]).add(1.0)));
        assert!(!stays_idle(sizes, |sizes| sizes.with(["x"]).observe(1.0)));
    }

    /// Collects until the series is found idle for the first time.
    fn until_idle(registry: &Registry, clock: &ManualClock) {
        collect(registry);
        clock.advance(IDLE);
        collect(registry);
    }

    #[test]
    fn a_look_up_between_the_two_collections_brings_a_series_back_with_its_value() {
        let (registry, clock, jobs) = expiring();
        jobs.with(["a"]).add(5);
        until_idle(&registry, &clock);
        jobs.with(["a"]).inc();
        for _ in 0..3 {
            assert_eq!(collect(&registry), ["a"]);
        }
        assert_eq!(jobs.with(["a"]).get(), 6);
        clock.advance(IDLE);
        collect(&registry);
        assert_eq!(jobs.handle(["a"]).get(), 6);
        clock.advance(IDLE);
        assert_eq!(registry.losses(), Losses::default());
    }

    #[test]
    fn a_gauge_looked_up_between_the_two_collections_keeps_its_value() {
        let (registry, clock) = with_clock();
        let levels = registry
            .gauge("level", "Level.")
            .labels(["l"])
            .expire_after(IDLE)
            .register()
            .unwrap();
        levels.with(["x"]).set(5.0);
        until_idle(&registry, &clock);
        assert_eq!(levels.with(["x"]).get(), 5.0);
        levels.with(["x"]).inc();
        for _ in 0..3 {
            assert_eq!(collect(&registry), ["x"]);
        }
        assert_eq!(value(&registry, "level", "x"), Some(6.0));
        assert_eq!(registry.losses(), Losses::default());
    }

    #[test]
    fn what_a_borrow_from_before_writes_between_the_two_collections_is_not_lost() {
        let (registry, clock, jobs) = expiring();
        let borrowed = jobs.with(["a"]);
        borrowed.add(5);
        until_idle(&registry, &clock);
        borrowed.inc();
        assert_eq!(collect(&registry), ["a"]);
        assert_eq!(collect(&registry), ["a"]);
        assert_eq!(
            (value(&registry, "jobs", "a"), registry.losses()),
            (Some(6.0), Losses::default())
        );
    }

    #[test]
    fn a_borrow_reads_its_series_until_it_is_removed() {
        let (registry, clock) = with_clock();
        let counters = registry
            .counter("a", "A.")
            .labels(["l"])
            .expire_after(IDLE)
            .register()
            .unwrap();
        let floats = registry
            .float_counter("b", "B.")
            .labels(["l"])
            .expire_after(IDLE)
            .register()
            .unwrap();
        let balances = registry
            .up_down_counter("c", "C.")
            .labels(["l"])
            .expire_after(IDLE)
            .register()
            .unwrap();
        let sizes = registry
            .histogram("d", "D.")
            .labels(["l"])
            .expire_after(IDLE)
            .register()
            .unwrap();
        let (counter, float) = (counters.with(["x"]), floats.with(["x"]));
        let (balance, size) = (balances.with(["x"]), sizes.with(["x"]));
        let read = || (counter.get(), float.get(), balance.get(), size.get().count());
        counter.inc();
        float.inc();
        balance.inc();
        size.observe(1.0);
        until_idle(&registry, &clock);
        assert_eq!(read(), (1, 1.0, 1, 1), "it is idle, and may live on");
        registry.snapshot();
        assert_eq!(read(), (0, 0.0, 0, 0), "it is removed");
    }

    #[test]
    fn an_expired_series_begins_anew() {
        let (registry, clock, jobs) = expiring();
        jobs.with(["a"]).add(5);
        until_idle(&registry, &clock);
        collect(&registry);
        assert!(jobs.is_empty());
        clock.advance(SECOND);
        jobs.with(["a"]).inc();
        let snapshot = registry.snapshot();
        let series = snapshot.family("jobs").unwrap().series().next().unwrap();
        let age = snapshot.taken().duration_since(series.created()).unwrap();
        assert_eq!((series.value(), age), (Value::Counter(1), Duration::ZERO));
    }

    #[test]
    fn a_series_of_a_full_family_is_brought_back_by_a_look_up_too() {
        let (registry, clock) = with_clock();
        let builder = registry.counter("jobs_total", "Jobs.").labels(["queue"]);
        let jobs = builder.limit(1).expire_after(IDLE).register().unwrap();
        jobs.with(["a"]).add(5);
        jobs.with(["refused"]).inc();
        until_idle(&registry, &clock);
        jobs.with(["a"]).inc();
        assert_eq!(
            overflow(&registry, "jobs"),
            Some(1.0),
            "the series is there, and within the limit"
        );
        assert_eq!(value(&registry, "jobs", "a"), Some(6.0));
        assert_eq!(registry.losses(), past_limit(1));
    }

    #[test]
    fn a_series_of_a_full_registry_is_brought_back_by_a_look_up_too() {
        let clock = ManualClock::new();
        let registry = Registry::builder()
            .clock(clock.clone())
            .series_limit(1)
            .build()
            .unwrap();
        let jobs = registry
            .counter("jobs_total", "Jobs.")
            .labels(["queue"])
            .expire_after(IDLE)
            .register()
            .unwrap();
        jobs.with(["a"]).add(5);
        until_idle(&registry, &clock);
        jobs.with(["a"]).inc();
        assert_eq!(
            (value(&registry, "jobs", "a"), registry.losses()),
            (Some(6.0), Losses::default())
        );
    }

    #[test]
    fn an_expired_series_makes_room() {
        let (registry, clock) = with_clock();
        let builder = registry.counter("jobs_total", "Jobs.").labels(["queue"]);
        let jobs = builder.limit(1).expire_after(IDLE).register().unwrap();
        jobs.with(["a"]).inc();
        jobs.with(["b"]).inc();
        until_idle(&registry, &clock);
        collect(&registry);
        jobs.with(["b"]).inc();
        assert_eq!(value(&registry, "jobs", "b"), Some(1.0));
    }

    #[test]
    fn the_overflow_series_does_not_expire() {
        let (registry, clock) = with_clock();
        let builder = registry.counter("jobs_total", "Jobs.").labels(["queue"]);
        let jobs = builder.limit(0).expire_after(IDLE).register().unwrap();
        jobs.with(["a"]).inc();
        for _ in 0..5 {
            collect(&registry);
            clock.advance(2 * IDLE);
        }
        jobs.with(["a"]).inc();
        assert_eq!(overflow(&registry, "jobs"), Some(2.0));
    }

    #[test]
    fn retain_does_not_hide_a_gauges_activity_from_expiry() {
        let (registry, clock) = with_clock();
        let levels = registry
            .gauge("level", "Level.")
            .labels(["l"])
            .expire_after(IDLE)
            .register()
            .unwrap();
        for _ in 0..5 {
            levels.with(["x"]).set(1.0);
            levels.retain(|_| true);
            for _ in 0..4 {
                collect(&registry);
                clock.advance(IDLE / 4);
            }
        }
        levels.with(["x"]).set(2.0);
        levels.retain(|_| true);
        for _ in 0..3 {
            collect(&registry);
        }
        assert_eq!(levels.len(), 1, "it has just been set");
    }

    #[test]
    fn a_gauge_ends_at_the_second_collection_that_finds_it_idle() {
        let (registry, clock) = with_clock();
        let levels = registry
            .gauge("level", "Level.")
            .labels(["l"])
            .expire_after(IDLE)
            .register()
            .unwrap();
        levels.with(["x"]).set(1.0);
        collect(&registry);
        clock.advance(IDLE);
        assert_eq!(collect(&registry), ["x"], "the first that finds it idle");
        assert_eq!(collect(&registry), ["x"], "the second, which shows its last value");
        assert_eq!(collect(&registry), [""; 0]);
    }

    #[test]
    fn a_family_without_labels_does_not_expire_for_good() {
        let (registry, clock) = with_clock();
        let family = registry
            .counter("jobs_total", "Jobs.")
            .labels([""; 0])
            .expire_after(IDLE)
            .register()
            .unwrap();
        family.with([""; 0]).add(5);
        for _ in 0..5 {
            registry.snapshot();
            clock.advance(2 * IDLE);
        }
        family.with([""; 0]).inc();
        assert_eq!(registry.snapshot().family("jobs").unwrap().series().count(), 1);
        assert_eq!(registry.losses(), Losses::default());
    }

    #[test]
    fn very_many_series_that_expire_at_once_leave_room_at_once() {
        let (registry, clock) = with_clock();
        let builder = registry.counter("jobs_total", "Jobs.").labels(["queue"]);
        let jobs = builder.limit(100_000).expire_after(IDLE).register().unwrap();
        for number in 0..40_000 {
            jobs.with((number,)).inc();
        }
        until_idle(&registry, &clock);
        collect(&registry);
        assert!(jobs.is_empty());
        for number in 0..40_000 {
            jobs.with((number,)).inc();
        }
        assert_eq!((jobs.len(), registry.losses()), (40_000, Losses::default()));
    }

    #[test]
    fn all_that_was_counted_is_in_some_snapshot() {
        let (registry, clock, jobs) = expiring();
        let mut seen = 0;
        let mut last = 0;
        let mut recorded = 0;
        for step in 0..200_u32 {
            // Now busy, now idle for longer than it takes to expire.
            if step / 10 % 2 == 0 {
                jobs.with(["a"]).add(step.into());
                recorded += u64::from(step);
            }
            let snapshot = registry.snapshot();
            let series = snapshot.family("jobs").unwrap().series().next();
            let now = series.map_or(0, |series| number(series.value()) as u64);
            seen += if now < last { now } else { now - last };
            last = now;
            clock.advance(IDLE / 4);
        }
        assert_eq!((seen, registry.losses()), (recorded, Losses::default()));
    }
}

mod limits {
    use super::*;

    fn limited(limit: usize) -> (Registry, Family<Counter, 1>) {
        let registry = Registry::builder().label("region", "eu").build().unwrap();
        let family = registry
            .counter("jobs_total", "Jobs.")
            .labels(["queue"])
            .limit(limit)
            .register()
            .unwrap();
        (registry, family)
    }

    #[test]
    fn as_many_series_fit_as_the_limit_says() {
        for limit in [0, 1, 2, 7, 300] {
            let (registry, jobs) = limited(limit);
            for number in 0..limit + 3 {
                jobs.with((number,)).inc();
            }
            for number in 0..limit + 3 {
                jobs.with((number,)).inc();
            }
            assert_eq!(jobs.len(), limit);
            assert!((0..limit).all(|number| value(&registry, "jobs", &number.to_string()) == Some(2.0)));
            assert_eq!(
                (overflow(&registry, "jobs"), registry.losses()),
                (Some(6.0), past_limit(6))
            );
        }
    }

    #[test]
    fn by_default_two_thousand_series_fit() {
        let registry = Registry::new();
        let jobs = registry
            .counter("jobs_total", "Jobs.")
            .labels(["queue"])
            .register()
            .unwrap();
        assert_eq!(tidegauge::DEFAULT_SERIES_LIMIT, 2000);
        for number in 0..2001 {
            jobs.with((number,)).inc();
        }
        assert_eq!((jobs.len(), registry.losses()), (2000, past_limit(1)));
    }

    #[test]
    fn the_overflow_series_has_one_label_and_comes_when_it_is_needed() {
        let (registry, jobs) = limited(1);
        jobs.with(["a"]).inc();
        assert_eq!(overflow(&registry, "jobs"), None);
        jobs.with(["b"]).add(2);
        jobs.with(["c"]).add(3);
        let snapshot = registry.snapshot();
        let series: Vec<_> = snapshot.family("jobs").unwrap().series().collect();
        let labels: Vec<_> = series[1].labels().collect();
        assert_eq!((series.len(), series[1].is_overflow()), (2, true));
        assert_eq!(labels, [("otel_metric_overflow", "true")]);
        assert_eq!(series[1].value(), Value::Counter(5));
    }

    #[test]
    fn every_instrument_overflows_into_one_series() {
        let registry = Registry::builder().series_limit(0).build().unwrap();
        let floats = registry.float_counter("a", "A.").labels(["l"]).register().unwrap();
        let gauges = registry.gauge("b", "B.").labels(["l"]).register().unwrap();
        let integers = registry.int_gauge("c", "C.").labels(["l"]).register().unwrap();
        let balances = registry.up_down_counter("d", "D.").labels(["l"]).register().unwrap();
        let buckets = Buckets::explicit([1.0]).unwrap();
        let sizes = registry
            .histogram("e", "E.")
            .labels(["l"])
            .buckets(buckets)
            .register()
            .unwrap();
        for (label, amount) in [("x", 1), ("y", 2)] {
            floats.with([label]).add(amount.into());
            gauges.with([label]).add(amount.into());
            integers.handle([label]).add(amount.into());
            balances.with([label]).sub(amount.into());
            sizes.handle([label]).observe(amount.into());
        }
        let overflows: Vec<_> = ["a", "b", "c", "d", "e"]
            .map(|name| overflow(&registry, name).unwrap())
            .into();
        assert_eq!(
            (overflows, registry.losses()),
            (vec![3.0, 3.0, 3.0, -3.0, 2.0], past_limit(10))
        );
    }

    #[test]
    fn a_label_set_of_empty_values_is_not_the_overflow_series() {
        let (registry, jobs) = limited(1);
        jobs.with([""]).inc();
        jobs.with(["a"]).add(5);
        assert!(jobs.remove([""]));
        assert_eq!(overflow(&registry, "jobs"), Some(5.0));
        jobs.with([""]).inc();
        assert_eq!((jobs.with([""]).get(), overflow(&registry, "jobs")), (1, Some(5.0)));
    }

    #[test]
    fn a_handle_to_the_overflow_series_stays_there() {
        let (registry, jobs) = limited(1);
        jobs.with(["a"]).inc();
        let overflowing = jobs.handle(["b"]);
        jobs.remove(["a"]);
        overflowing.inc();
        jobs.with(["b"]).inc();
        assert_eq!(
            (overflow(&registry, "jobs"), value(&registry, "jobs", "b")),
            (Some(1.0), Some(1.0))
        );
        assert_eq!(registry.losses(), past_limit(1));
    }

    #[test]
    fn after_a_removal_there_is_room_again() {
        let (registry, jobs) = limited(2);
        for queue in ["a", "b", "c"] {
            jobs.with([queue]).inc();
        }
        jobs.remove(["a"]);
        jobs.with(["c"]).inc();
        jobs.with(["d"]).inc();
        assert_eq!((jobs.len(), overflow(&registry, "jobs")), (2, Some(2.0)));
        assert_eq!(value(&registry, "jobs", "c"), Some(1.0));
        jobs.clear();
        jobs.with(["d"]).inc();
        jobs.with(["e"]).inc();
        assert_eq!((jobs.len(), registry.losses()), (2, past_limit(2)));
    }

    #[test]
    fn a_registrys_limit_is_shared_by_its_families() {
        let registry = Registry::builder().series_limit(3).build().unwrap();
        let jobs = jobs(&registry);
        let levels = registry.gauge("level", "Level.").labels(["l"]).register().unwrap();
        // Neither those without labels nor the overflow series count.
        registry.counter("plain_total", "Plain.").register().unwrap().inc();
        registry
            .counter("flat_total", "Flat.")
            .labels([""; 0])
            .register()
            .unwrap()
            .with([""; 0])
            .inc();
        jobs.with(["a"]).inc();
        levels.with(["a"]).set(1.0);
        jobs.with(["b"]).inc();
        jobs.with(["c"]).inc();
        levels.with(["b"]).set(2.0);
        assert_eq!((jobs.len(), levels.len(), registry.losses()), (2, 1, past_limit(2)));
        assert_eq!(
            (overflow(&registry, "jobs"), overflow(&registry, "level")),
            (Some(1.0), Some(2.0))
        );

        levels.remove(["a"]);
        jobs.with(["c"]).inc();
        levels.with(["c"]).inc();
        assert_eq!((jobs.len(), levels.len(), registry.losses()), (3, 0, past_limit(3)));

        registry.unregister("jobs_total");
        for label in ["x", "y", "z"] {
            levels.with([label]).set(1.0);
        }
        assert_eq!(
            (levels.len(), registry.losses()),
            (3, past_limit(3)),
            "an unregistered family's are free"
        );
    }

    #[test]
    fn registries_have_limits_of_their_own() {
        let registries = [1, 2].map(|limit| Registry::builder().series_limit(limit).build().unwrap());
        for registry in &registries {
            let jobs = jobs(registry);
            (0..5).for_each(|number| jobs.with((number,)).inc());
        }
        assert_eq!(
            registries.map(|registry| registry.losses()),
            [past_limit(4), past_limit(3)]
        );
    }

    #[test]
    fn a_flood_from_four_threads_past_the_limit_loses_nothing() {
        const EACH: u64 = 20_000;
        let registry = Registry::new();
        let jobs = registry
            .counter("jobs_total", "Jobs.")
            .labels(["queue"])
            .limit(100)
            .register()
            .unwrap();
        thread::scope(|scope| {
            for thread in 0..4 {
                let jobs = &jobs;
                scope.spawn(move || {
                    for number in 0..EACH {
                        // Some label sets are every thread's, most are nobody else's.
                        match number % 4 {
                            0 => jobs.with((number % 50,)).inc(),
                            _ => jobs.with((1000 + thread * EACH + number,)).inc(),
                        }
                    }
                });
            }
        });
        let snapshot = registry.snapshot();
        let family = snapshot.family("jobs").unwrap();
        let kept: f64 = family
            .series()
            .filter(|series| !series.is_overflow())
            .map(|series| number(series.value()))
            .sum();
        let overflowed = overflow(&registry, "jobs").unwrap();
        assert_eq!(jobs.len(), 100);
        assert_eq!(kept + overflowed, (4 * EACH) as f64);
        assert_eq!(
            registry.losses(),
            past_limit(overflowed as u64),
            "each look-up past the limit was one increment"
        );
    }

    #[test]
    fn at_a_registrys_limit_threads_fill_it_exactly() {
        let registry = Registry::builder().series_limit(1000).build().unwrap();
        let families: Vec<Family<Counter, 1>> = (0..4)
            .map(|number| {
                registry
                    .counter(&format!("f{number}"), "F.")
                    .labels(["l"])
                    .register()
                    .unwrap()
            })
            .collect();
        thread::scope(|scope| {
            for family in &families {
                scope.spawn(move || (0..500).for_each(|number| family.with((number,)).inc()));
            }
        });
        assert_eq!(families.iter().map(Family::len).sum::<usize>(), 1000);
        assert_eq!(registry.losses(), past_limit(1000));
    }
}

mod snapshots_and_removal {
    use super::*;

    /// Labels and counts of the first family, as text.
    fn shown(snapshot: &Snapshot) -> Vec<String> {
        let family = snapshot.families().next().unwrap();
        family
            .series()
            .map(|series| {
                let labels: Vec<&str> = series.labels().map(|(_, value)| value).collect();
                format!("{} {} {:?}", labels.join(","), number(series.value()), series.created())
            })
            .collect()
    }

    #[test]
    fn an_older_snapshot_stays_readable_while_its_series_are_removed_and_their_places_used_again() {
        let (registry, clock) = with_clock();
        let jobs = jobs(&registry);
        let mut snapshots = Vec::new();
        for round in 0..30_u64 {
            for number in 0..100_u64 {
                jobs.with((format!("round {round} number {number}"),)).add(number);
            }
            let snapshot = registry.snapshot();
            snapshots.push((shown(&snapshot), snapshot));
            jobs.retain(|series| number(series.value()) as u64 % 10 == round % 10);
            clock.advance(SECOND);
        }
        jobs.clear();
        (0..1000).for_each(|number| jobs.with((number,)).inc());
        registry.unregister("jobs");
        drop((registry, jobs));
        for (expected, snapshot) in &snapshots {
            assert_eq!(&shown(snapshot), expected);
            assert_eq!(&shown(&snapshot.clone()), expected);
        }
    }

    #[test]
    fn a_place_takes_a_new_series_and_the_order_of_the_others_stays() {
        let registry = Registry::new();
        let jobs = jobs(&registry);
        let queues = || -> Vec<String> {
            let snapshot = registry.snapshot();
            let family = snapshot.family("jobs").unwrap();
            family
                .series()
                .map(|series| series.label("queue").unwrap().to_owned())
                .collect()
        };
        ["a", "b", "c", "d"].iter().for_each(|queue| jobs.with([queue]).inc());
        jobs.remove(["b"]);
        assert_eq!(queues(), ["a", "c", "d"]);
        jobs.with(["e"]).inc();
        jobs.with(["f"]).inc();
        let mut after = queues();
        after.retain(|queue| ["a", "c", "d"].contains(&queue.as_str()));
        assert_eq!((after, jobs.len()), (["a", "c", "d"].map(str::to_owned).to_vec(), 5));
    }

    #[test]
    fn while_a_snapshot_is_held_label_sets_can_come_and_go_and_nothing_is_lost() {
        let registry = Registry::new();
        let jobs = jobs(&registry);
        jobs.with(["held"]).inc();
        let snapshot = registry.snapshot();
        for number in 0..60_000 {
            jobs.with((number,)).inc();
            jobs.remove((number,));
        }
        let overflowed = overflow(&registry, "jobs").unwrap_or(0.0);
        assert_eq!(
            registry.losses(),
            past_limit(overflowed as u64),
            "what had no place is counted"
        );
        drop(snapshot);
        // Once it is gone, there is room for all.
        let before = registry.losses();
        for number in 0..60_000 {
            jobs.with((number,)).inc();
        }
        assert_eq!((jobs.len(), registry.losses()), (60_001, before));
        testing::assert_value(&registry, "jobs", [("queue", "held")], 1.0);
    }
}
