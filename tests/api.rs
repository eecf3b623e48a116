//! Instruments, labels, closures and registration, as an application uses them.

use std::{
    borrow::Cow,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind, panic_any},
    pin::{Pin, pin},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime},
};
use tidegauge::{
    Buckets, Counter, Family, FloatCounter, Gauge, Histogram, IntGauge, Kind, LabelText, LabelValue, Registry,
    Snapshot, UpDownCounter, Value,
    testing::{self, ManualClock},
};

const CELL: u64 = 1 << 47;

fn with_clock() -> (Registry, ManualClock) {
    let clock = ManualClock::new();
    let registry = Registry::builder().clock(clock.clone()).build().unwrap();
    (registry, clock)
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// Runs what is expected to panic.
fn panics(work: impl FnOnce()) {
    catch_unwind(AssertUnwindSafe(work)).expect_err("it was to panic");
}

/// Names of a snapshot's families, in its order.
fn names(snapshot: &Snapshot) -> Vec<String> {
    snapshot.families().map(|family| family.name().to_owned()).collect()
}

mod counters {
    use super::*;

    fn counter() -> Counter {
        Registry::new().counter("jobs_total", "Jobs.").register().unwrap()
    }

    #[test]
    fn a_counter_starts_at_zero_and_adds_up() {
        let jobs = counter();
        assert_eq!(jobs.get(), 0);
        jobs.inc();
        jobs.add(0);
        jobs.add(41);
        assert_eq!(jobs.get(), 42);
    }

    #[test]
    fn amounts_around_the_width_of_a_cell_are_all_there() {
        let jobs = counter();
        let amounts = [CELL - 1, 1, 1, CELL, CELL - 1, 2, CELL + 1, 1 << 48, 1 << 52, 3];
        let mut expected = 0_u64;
        for amount in amounts {
            jobs.add(amount);
            expected += amount;
            assert_eq!(jobs.get(), expected, "after {amount}");
        }
    }

    #[test]
    fn many_additions_that_fill_a_cell_again_and_again_are_all_there() {
        let jobs = counter();
        for _ in 0..1000 {
            jobs.add(CELL / 3);
        }
        assert_eq!(jobs.get(), CELL / 3 * 1000);
    }

    #[test]
    fn past_the_last_number_a_counter_starts_again_at_zero() {
        let jobs = counter();
        jobs.add(u64::MAX);
        assert_eq!(jobs.get(), u64::MAX);
        jobs.inc();
        assert_eq!(jobs.get(), 0);
        jobs.add(1 << 63);
        jobs.add((1 << 63) + 7);
        assert_eq!(jobs.get(), 7);
    }

    #[test]
    fn large_amounts_in_one_counter_leave_its_neighbours_alone() {
        let registry = Registry::new();
        let jobs = registry
            .counter("jobs_total", "Jobs.")
            .labels(["queue"])
            .register()
            .unwrap();
        let queues: Vec<Counter> = (0..600).map(|queue| jobs.handle((queue,))).collect();
        queues.iter().for_each(Counter::inc);
        queues[300].add(u64::MAX);
        queues[300].add(CELL - 1);
        for (queue, counter) in queues.iter().enumerate() {
            let expected = if queue == 300 { CELL - 1 } else { 1 };
            assert_eq!(counter.get(), expected, "queue {queue}");
        }
    }

    #[test]
    fn a_float_counter_adds_fractions() {
        let registry = Registry::new();
        let energy = registry.float_counter("energy_joules", "Energy.").register().unwrap();
        energy.add(0.25);
        energy.add(0.0);
        energy.inc();
        assert_eq!(energy.get(), 1.25);
        assert_eq!(registry.losses().invalid_values, 0);
    }

    #[test]
    fn what_a_float_counter_does_not_take_is_counted_and_changes_nothing() {
        let registry = Registry::new();
        let energy = registry.float_counter("energy_joules", "Energy.").register().unwrap();
        energy.add(1.5);
        for refused in [-1.0, -f64::MIN_POSITIVE, f64::NAN, -f64::NAN, f64::NEG_INFINITY] {
            energy.add(refused);
        }
        assert_eq!(energy.get(), 1.5);
        assert_eq!(registry.losses().invalid_values, 5);
    }

    #[test]
    fn a_float_counter_that_had_infinity_stays_there() {
        let registry = Registry::new();
        let energy = registry.float_counter("energy_joules", "Energy.").register().unwrap();
        for amount in [1.0, f64::INFINITY, 1.0, f64::MAX] {
            energy.add(amount);
        }
        assert_eq!(energy.get(), f64::INFINITY);
    }

    #[test]
    fn clones_of_a_handle_count_together() {
        let jobs = counter();
        let clone = jobs.clone();
        clone.inc();
        drop(jobs);
        clone.inc();
        assert_eq!(clone.clone().get(), 2);
    }
}

mod gauges {
    use super::*;

    #[test]
    fn a_gauge_is_set_and_moves_both_ways() {
        let gauge: Gauge = Registry::new().gauge("level", "Level.").register().unwrap();
        assert_eq!(gauge.get(), 0.0);
        gauge.set(-1.5);
        gauge.inc();
        gauge.dec();
        gauge.dec();
        gauge.add(0.25);
        gauge.sub(10.0);
        gauge.add(-1.0);
        gauge.sub(-1.0);
        assert_eq!(gauge.get(), -12.25);
    }

    #[test]
    fn a_gauge_can_be_set_to_every_float() {
        let gauge = Registry::new().gauge("level", "Level.").register().unwrap();
        for value in [
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MAX,
            f64::MIN_POSITIVE / 2.0,
            -0.0,
        ] {
            gauge.set(value);
            assert_eq!(gauge.get().to_bits(), value.to_bits());
        }
        gauge.set(f64::NAN);
        assert!(gauge.get().is_nan());
    }

    #[test]
    fn adding_nan_to_a_gauge_is_counted_and_changes_nothing() {
        let registry = Registry::new();
        let gauge = registry.gauge("level", "Level.").register().unwrap();
        gauge.set(2.0);
        gauge.add(f64::NAN);
        gauge.sub(f64::NAN);
        assert_eq!(gauge.get(), 2.0);
        assert_eq!(registry.losses().invalid_values, 2);
    }

    #[test]
    fn an_int_gauge_is_exact_and_wraps() {
        let gauge: IntGauge = Registry::new().int_gauge("depth", "Depth.").register().unwrap();
        gauge.set(1 << 53);
        gauge.inc();
        assert_eq!(gauge.get(), (1 << 53) + 1);
        gauge.dec();
        gauge.sub(3);
        gauge.add(-1);
        assert_eq!(gauge.get(), (1 << 53) - 4);
        gauge.set(i64::MAX);
        gauge.inc();
        assert_eq!(gauge.get(), i64::MIN);
        gauge.dec();
        assert_eq!(gauge.get(), i64::MAX);
        gauge.set(-1);
        gauge.sub(i64::MIN);
        assert_eq!(gauge.get(), i64::MAX);
    }

    #[test]
    fn gauges_are_set_to_the_time_of_the_registrys_clock() {
        let (registry, clock) = with_clock();
        let float = registry
            .gauge("last_run_timestamp_seconds", "Last run.")
            .register()
            .unwrap();
        let whole = registry
            .int_gauge("last_end_timestamp_seconds", "Last end.")
            .register()
            .unwrap();
        clock.set_unix(seconds(1_234.5));
        float.set_to_current_time();
        whole.set_to_current_time();
        assert_eq!((float.get(), whole.get()), (1_234.5, 1_234));
    }

    #[test]
    fn an_up_down_counter_moves_both_ways() {
        let counter: UpDownCounter = Registry::new()
            .up_down_counter("in_flight", "In flight.")
            .register()
            .unwrap();
        counter.inc();
        counter.dec();
        counter.dec();
        assert_eq!(counter.get(), -1);
        counter.add(-4);
        counter.sub(-15);
        counter.add(3);
        counter.sub(5);
        counter.add(0);
        assert_eq!(counter.get(), 8);
    }

    #[test]
    fn an_up_down_counter_takes_every_amount() {
        let counter = Registry::new()
            .up_down_counter("in_flight", "In flight.")
            .register()
            .unwrap();
        let mut expected = 0_i64;
        for amount in [
            CELL as i64 - 1,
            1,
            -(CELL as i64),
            i64::MAX,
            i64::MIN,
            i64::MIN,
            i64::MIN,
            -1,
            7,
        ] {
            counter.add(amount);
            expected = expected.wrapping_add(amount);
            assert_eq!(counter.get(), expected, "after adding {amount}");
            counter.sub(amount);
            counter.sub(amount);
            expected = expected.wrapping_sub(amount).wrapping_sub(amount);
            assert_eq!(counter.get(), expected, "after subtracting {amount}");
        }
    }

    #[test]
    fn what_is_in_flight_is_counted_until_the_guard_goes_however_it_goes() {
        let registry = Registry::new();
        let float = registry.gauge("a", "A.").register().unwrap();
        let whole = registry.int_gauge("b", "B.").register().unwrap();
        let apart = registry.up_down_counter("c", "C.").register().unwrap();
        let read = || (float.get(), whole.get(), apart.get());

        let guards = (float.track(), whole.track(), (apart.track(), apart.track()));
        assert_eq!(read(), (1.0, 1, 2));
        drop(guards);
        assert_eq!(read(), (0.0, 0, 0));

        panics(|| {
            let _guards = (float.track(), whole.track(), apart.track());
            assert_eq!(read(), (1.0, 1, 1));
            panic!("with guards alive");
        });
        assert_eq!(read(), (0.0, 0, 0));
    }

    #[test]
    fn a_guard_of_a_labelled_gauge_leaves_on_another_thread() {
        let registry = Registry::new();
        let counts = registry
            .up_down_counter("in_flight", "In flight.")
            .labels(["route"])
            .register()
            .unwrap();
        let depths = registry
            .int_gauge("depth", "Depth.")
            .labels(["queue"])
            .register()
            .unwrap();
        let guards = (counts.handle(["/"]).track(), depths.handle(["q"]).track());
        assert_eq!((counts.with(["/"]).get(), depths.with(["q"]).get()), (1, 1));
        std::thread::spawn(move || drop(guards)).join().unwrap();
        assert_eq!((counts.with(["/"]).get(), depths.with(["q"]).get()), (0, 0));
    }

    #[test]
    fn a_guard_can_be_made_of_a_borrowed_series() {
        let registry = Registry::new();
        let counts = registry
            .up_down_counter("in_flight", "In flight.")
            .labels(["route"])
            .register()
            .unwrap();
        let depths = registry.gauge("depth", "Depth.").labels(["queue"]).register().unwrap();
        {
            let _guards = (counts.with(["/"]).track(), depths.with(["q"]).track());
            assert_eq!((counts.with(["/"]).get(), depths.with(["q"]).get()), (1, 1.0));
        }
        assert_eq!((counts.with(["/"]).get(), depths.with(["q"]).get()), (0, 0.0));
    }
}

mod histograms {
    use super::*;

    fn sizes(registry: &Registry, bounds: &[f64]) -> Histogram {
        let buckets = Buckets::explicit(bounds.iter().copied()).unwrap();
        registry.histogram("size", "Size.").buckets(buckets).register().unwrap()
    }

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let sizes = sizes(&Registry::new(), &[0.0, 1.0, 2.5]);
        for value in [0.0, -0.0, 0.5, 1.0, 1.0_f64.next_up(), 2.5, 2.5_f64.next_up(), f64::MAX] {
            sizes.observe(value);
        }
        assert_eq!(sizes.get().counts(), [2, 2, 2, 2]);
        assert_eq!(sizes.get().count(), 8);
    }

    #[test]
    fn what_is_not_finite_is_counted_in_its_bucket_and_never_in_the_sum() {
        let registry = Registry::new();
        let sizes = sizes(&registry, &[1.0, 2.0]);
        sizes.observe(1.5);
        sizes.observe(f64::NAN);
        sizes.observe(-f64::NAN);
        sizes.observe(f64::INFINITY);
        sizes.observe(f64::NEG_INFINITY);
        assert_eq!(sizes.get().counts(), [1, 1, 3]);
        assert_eq!(sizes.get().sum(), 1.5);
        assert_eq!(registry.losses().invalid_values, 4);
    }

    #[test]
    fn negative_values_are_observed_and_lower_the_sum() {
        let registry = Registry::new();
        let sizes = sizes(&registry, &[-1.0, 0.0, 1.0]);
        for value in [-5.0, -1.0, -0.5, 0.0, 0.25, 4.0] {
            sizes.observe(value);
        }
        assert_eq!(sizes.get().counts(), [2, 2, 1, 1]);
        assert_eq!(sizes.get().sum(), -2.25);
        assert_eq!(registry.losses().invalid_values, 0);
    }

    #[test]
    fn every_number_of_bounds_searches_alike() {
        for len in (1..40).chain([100, Buckets::MOST]) {
            let bounds: Vec<f64> = (1..=len).map(|bound| bound as f64).collect();
            let sizes = sizes(&Registry::new(), &bounds);
            for value in 0..=len {
                sizes.observe(value as f64 + 0.5);
            }
            assert_eq!(sizes.get().counts(), vec![1; len + 1], "{len} bounds");
        }
    }

    #[test]
    fn more_bounds_than_there_are_places_for_are_refused() {
        let bounds = |len: usize| (0..len).map(|bound| bound as f64);
        assert!(Buckets::explicit(bounds(Buckets::MOST)).is_ok());
        let error = Buckets::explicit(bounds(Buckets::MOST + 1)).unwrap_err().to_string();
        assert!(error.contains(&Buckets::MOST.to_string()), "{error}");
    }

    #[test]
    fn observe_many_counts_as_often_as_it_says() {
        let sizes = sizes(&Registry::new(), &[1.0, 2.0]);
        sizes.observe_many(1.5, 0);
        assert_eq!((sizes.get().count(), sizes.get().sum()), (0, 0.0));
        sizes.observe_many(1.5, 1000);
        assert_eq!((sizes.get().count(), sizes.get().sum()), (1000, 1500.0));
    }

    #[test]
    fn observe_many_takes_every_count() {
        let sizes = sizes(&Registry::new(), &[1.0, 2.0]);
        let mut expected = 0_u64;
        for count in [CELL - 1, 1, 1, CELL, CELL + 1, 1 << 48, 1 << 62, 5] {
            sizes.observe_many(1.5, count);
            sizes.observe(0.5);
            expected += count;
            assert_eq!(sizes.get().counts()[1], expected, "after {count}");
        }
        assert_eq!(sizes.get().counts()[0], 8);
        let sum = sizes.get().sum();
        assert!((sum / (1.5 * expected as f64) - 1.0).abs() < 1e-9, "{sum}");
    }

    #[test]
    fn a_count_of_all_buckets_past_the_last_number_wraps_and_does_not_panic() {
        let registry = Registry::new();
        let sizes = sizes(&registry, &[1.0]);
        sizes.observe_many(0.5, 1 << 63);
        sizes.observe_many(1.5, 1 << 63);
        sizes.observe_many(1.5, 2);
        assert_eq!(sizes.get().counts(), [1 << 63, (1 << 63) + 2]);
        assert_eq!(sizes.get().count(), 2);
        let snapshot = registry.snapshot();
        let Value::Histogram(histogram) = snapshot.family("size").unwrap().series().next().unwrap().value() else {
            panic!("it is a histogram");
        };
        assert_eq!(histogram.count(), 2);
        assert_eq!(
            histogram.cumulative().collect::<Vec<_>>(),
            [(1.0, 1 << 63), (f64::INFINITY, 2)]
        );
        assert!(!registry.scrape(None, None).body().is_empty());
    }

    #[test]
    fn durations_are_observed_in_the_histograms_unit() {
        let registry = Registry::new();
        let observed = |name: &str, unit: &str| {
            let histogram = registry.histogram(name, "How long.").unit(unit).register().unwrap();
            histogram.observe_duration(Duration::from_millis(1_500));
            histogram.get().sum()
        };
        assert_eq!(observed("a", "s"), 1.5);
        assert_eq!(observed("b_seconds", ""), 1.5);
        assert_eq!(observed("c", "ms"), 1_500.0);
        assert_eq!(observed("d_milliseconds", ""), 1_500.0);
        assert_eq!(observed("e", "us"), 1_500_000.0);
        assert_eq!(observed("f", "ns"), 1.5e9);
        assert_eq!(observed("g", "min"), 0.025);
        assert_eq!(observed("h", "By"), 1.5);
        assert_eq!(observed("i", ""), 1.5);
    }

    #[test]
    fn buckets_that_are_not_given_fit_the_unit() {
        let registry = Registry::new();
        let first = |name: &str| {
            registry.histogram(name, "Something.").register().unwrap();
            let snapshot = registry.snapshot();
            let Value::Histogram(value) = snapshot.family(name).unwrap().series().next().unwrap().value() else {
                panic!("it is a histogram");
            };
            (value.bounds()[0], *value.bounds().last().unwrap())
        };
        assert_eq!(first("wait_seconds"), (0.005, 10.0));
        assert_eq!(first("wait_milliseconds"), (5.0, 10_000.0));
        assert_eq!(first("size_bytes"), (256.0, 1_073_741_824.0));
        assert_eq!(first("items"), (1.0, 10_000.0));
    }
}

mod timing {
    use super::*;

    fn durations() -> (Histogram, ManualClock) {
        let (registry, clock) = with_clock();
        let histogram = registry.histogram("duration_seconds", "How long.").register().unwrap();
        (histogram, clock)
    }

    fn observed(histogram: &Histogram) -> (u64, f64) {
        (histogram.get().count(), histogram.get().sum())
    }

    #[test]
    fn time_counts_what_a_closure_takes_and_hands_its_result_on() {
        let (durations, clock) = durations();
        let result = durations.time(|| {
            clock.advance(seconds(2.5));
            "done"
        });
        assert_eq!((result, observed(&durations)), ("done", (1, 2.5)));
    }

    #[test]
    fn a_closure_that_panics_is_not_counted() {
        let (durations, _) = durations();
        panics(|| durations.time(|| panic!("at work")));
        assert_eq!(observed(&durations), (0, 0.0));
    }

    #[test]
    fn a_timer_counts_when_it_is_dropped() {
        let (durations, clock) = durations();
        {
            let timer = durations.start_timer();
            clock.advance(seconds(3.0));
            assert_eq!(timer.elapsed(), seconds(3.0));
            clock.advance(seconds(1.0));
        }
        assert_eq!(observed(&durations), (1, 4.0));
    }

    #[test]
    fn a_timer_counts_once_when_it_is_stopped() {
        let (durations, clock) = durations();
        let timer = durations.start_timer();
        clock.advance(seconds(3.0));
        assert_eq!(timer.stop(), seconds(3.0));
        assert_eq!(observed(&durations), (1, 3.0));
    }

    #[test]
    fn a_timer_that_is_discarded_counts_nothing() {
        let (durations, clock) = durations();
        let timer = durations.start_timer();
        clock.advance(seconds(3.0));
        timer.discard();
        assert_eq!(observed(&durations), (0, 0.0));
    }

    #[test]
    fn a_timer_that_a_panic_drops_counts() {
        let (durations, clock) = durations();
        panics(|| {
            let _timer = durations.start_timer();
            clock.advance(seconds(3.0));
            panic!("at work");
        });
        assert_eq!(observed(&durations), (1, 3.0));
    }

    #[test]
    fn a_timer_is_not_misled_when_the_systems_time_is_set() {
        let (durations, clock) = durations();
        let timer = durations.start_timer();
        clock.set_unix(Duration::ZERO);
        clock.advance(seconds(1.0));
        assert_eq!(timer.stop(), seconds(1.0));
    }

    #[test]
    fn a_timer_of_a_borrowed_series_outlives_the_expression() {
        let (registry, clock) = with_clock();
        let family = registry
            .histogram("duration_seconds", "How long.")
            .labels(["route"])
            .register()
            .unwrap();
        let timer = family.with(["/"]).start_timer();
        clock.advance(seconds(1.0));
        drop(timer);
        family.with(["/"]).time(|| clock.advance(seconds(2.0)));
        assert_eq!(family.with(["/"]).get().sum(), 3.0);
    }

    /// Is ready when it was polled so many times, and takes a second of the clock each time.
    struct Polls {
        left: u32,
        clock: ManualClock,
    }

    impl Future for Polls {
        type Output = &'static str;

        fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
            self.clock.advance(seconds(1.0));
            self.left -= 1;
            if self.left == 0 {
                Poll::Ready("done")
            } else {
                Poll::Pending
            }
        }
    }

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_future_is_timed_from_its_first_poll_to_its_end() {
        let (durations, clock) = durations();
        let mut future = pin!(durations.time_future(Polls {
            left: 3,
            clock: clock.clone()
        }));
        clock.advance(seconds(100.0));
        assert_eq!(poll(future.as_mut()), Poll::Pending);
        clock.advance(seconds(10.0));
        assert_eq!(poll(future.as_mut()), Poll::Pending);
        assert_eq!(observed(&durations), (0, 0.0));
        assert_eq!(poll(future.as_mut()), Poll::Ready("done"));
        assert_eq!(observed(&durations), (1, 13.0));
    }

    #[test]
    fn a_future_that_is_dropped_before_its_end_is_not_counted() {
        let (durations, clock) = durations();
        {
            let mut future = pin!(durations.time_future(Polls {
                left: 2,
                clock: clock.clone()
            }));
            assert!(poll(future.as_mut()).is_pending());
            drop(durations.time_future(Polls { left: 1, clock }));
        }
        assert_eq!(observed(&durations), (0, 0.0));
    }

    #[test]
    fn a_future_that_panics_is_not_counted() {
        let (durations, _) = durations();
        panics(|| {
            let mut future = pin!(durations.time_future(async { panic!("at work") }));
            let _ = poll(future.as_mut()).is_ready();
        });
        assert_eq!(observed(&durations), (0, 0.0));
    }

    #[test]
    fn a_timed_future_can_be_sent_to_another_thread() {
        fn sendable<T: Send>(value: T) -> T {
            value
        }
        let (durations, clock) = durations();
        let kept = durations.clone();
        let future = sendable(async move { kept.time_future(Polls { left: 1, clock }).await });
        let done = std::thread::spawn(move || poll(pin!(future).as_mut()).is_ready())
            .join()
            .unwrap();
        assert!(done);
        assert_eq!(observed(&durations), (1, 1.0));
    }
}

mod labels {
    use super::*;

    fn family<const N: usize>(labels: [&str; N]) -> (Registry, Family<Counter, N>) {
        let registry = Registry::new();
        let family = registry
            .counter("jobs_total", "Jobs.")
            .labels(labels)
            .limit(100_000)
            .register()
            .unwrap();
        (registry, family)
    }

    /// Label values and counts of all series.
    fn series(registry: &Registry) -> Vec<(Vec<String>, u64)> {
        let snapshot = registry.snapshot();
        let count = |value| match value {
            Value::Counter(count) => count,
            other => panic!("{other:?}"),
        };
        let family = snapshot.family("jobs_total").unwrap();
        family
            .series()
            .map(|series| {
                (
                    series.labels().map(|(_, value)| value.to_owned()).collect(),
                    count(series.value()),
                )
            })
            .collect()
    }

    #[derive(Clone, Copy)]
    enum Outcome {
        Done,
        Failed(u16),
    }

    impl LabelValue for Outcome {
        fn label(&self) -> LabelText<'_> {
            match self {
                Outcome::Done => "done".into(),
                Outcome::Failed(code) => (*code).into(),
            }
        }
    }

    #[test]
    #[expect(clippy::needless_borrows_for_generic_args, reason = "references are what is tested")]
    fn arrays_and_tuples_of_any_types_name_the_same_series() {
        let (registry, jobs) = family(["a", "b"]);
        jobs.with(["x", "7"]).inc();
        jobs.with([String::from("x"), String::from("7")]).inc();
        jobs.with([Cow::from("x"), Cow::from("7")]).inc();
        jobs.with(&["x", "7"]).inc();
        jobs.with(("x", "7")).inc();
        jobs.with(("x", 7)).inc();
        jobs.with(('x', 7_i128)).inc();
        jobs.with((String::from("x"), 7_u8)).inc();
        jobs.with((&String::from("x"), &&7_usize)).inc();
        jobs.with((Cow::from("x"), Arc::<str>::from("7"))).inc();
        jobs.with((Rc::<str>::from("x"), Box::<str>::from("7"))).inc();
        jobs.with(&("x", Outcome::Failed(7))).inc();
        assert_eq!(series(&registry), [(vec!["x".to_owned(), "7".to_owned()], 12)]);
    }

    #[test]
    fn every_type_of_label_value_is_spelled_as_one_would_expect() {
        let (registry, jobs) = family(["value"]);
        jobs.with((i128::MIN,)).inc();
        jobs.with((u128::MAX,)).inc();
        jobs.with((i64::MIN,)).inc();
        jobs.with((-1_i8,)).inc();
        jobs.with((0_u16,)).inc();
        jobs.with((true,)).inc();
        jobs.with((false,)).inc();
        jobs.with(('🦀',)).inc();
        jobs.with((Outcome::Done,)).inc();
        let values: Vec<String> = series(&registry)
            .into_iter()
            .map(|(labels, _)| labels.concat())
            .collect();
        let expected = [
            "-170141183460469231731687303715884105728",
            "340282366920938463463374607431768211455",
            "-9223372036854775808",
            "-1",
            "0",
            "true",
            "false",
            "🦀",
            "done",
        ];
        assert_eq!(values, expected);
    }

    #[test]
    fn where_one_value_ends_and_the_next_begins_matters() {
        let (registry, jobs) = family(["a", "b"]);
        let sets = [
            ["ab", "c"],
            ["a", "bc"],
            ["abc", ""],
            ["", "abc"],
            ["", ""],
            ["abcdefgh", ""],
            ["", "abcdefgh"],
            ["a", "a\0"],
            ["a\0", "a"],
            ["a", "a"],
            ["a\0", "a\0"],
        ];
        for (times, set) in (1..).zip(sets) {
            jobs.with(set).add(times);
        }
        let found: Vec<u64> = sets.iter().map(|set| jobs.with(set).get()).collect();
        assert_eq!(found, (1..=sets.len() as u64).collect::<Vec<_>>());
        assert_eq!(series(&registry).len(), sets.len());
    }

    #[test]
    fn label_sets_that_differ_in_their_lengths_alone_stay_apart_whatever_their_hashes() {
        // Of so many pairs, each family with a seed of its own, some are alike in every bit of the hash that picks a place.
        let registry = Registry::new();
        for number in 0..400 {
            let name = format!("family_{number}");
            let family = registry.counter(&name, "A.").labels(["a"]).register().unwrap();
            for pair in 0..100 {
                family.with([format!("{pair}")]).inc();
                family.with([format!("{pair}\0")]).add(2);
            }
            let apart = |pair: u32| (family.with((pair,)).get(), family.with([format!("{pair}\0")]).get()) == (1, 2);
            assert!((0..100).all(apart) && family.len() == 200);
        }
    }

    #[test]
    fn values_of_every_length_up_to_the_longest_are_kept_whole() {
        let (registry, jobs) = family(["a", "b"]);
        let lengths = (0..140).chain([
            255, 256, 257, 2039, 2040, 4071, 4072, 4080, 4088, 4096, 4097, 8192, 65_528, 65_534, 65_535,
        ]);
        let mut expected = Vec::new();
        for len in lengths {
            // Values that differ in their last byte alone.
            for last in ["x", "y"] {
                let value = "v".repeat(len) + last;
                let value = &value[value.len() - len..];
                if len > 0 || last == "x" {
                    jobs.with([value, "other"]).add(len as u64 + 1);
                    expected.push((vec![value.to_owned(), "other".to_owned()], len as u64 + 1));
                }
            }
        }
        assert_eq!(series(&registry), expected);
        for (labels, count) in expected {
            assert_eq!(
                jobs.with([&labels[0], &labels[1]]).get(),
                count,
                "{} bytes",
                labels[0].len()
            );
        }
    }

    #[test]
    fn a_value_that_is_too_long_counts_in_the_overflow_series() {
        let (registry, jobs) = family(["a", "b"]);
        jobs.with(["x".repeat(65_536).as_str(), ""]).inc();
        jobs.with(["", "x".repeat(100_000).as_str()]).inc();
        assert!(!jobs.remove(["x".repeat(65_536).as_str(), ""]));
        assert_eq!((jobs.len(), registry.losses().past_limit), (0, 2));
        let snapshot = registry.snapshot();
        let overflow = snapshot.family("jobs").unwrap().series().next().unwrap();
        assert!(overflow.is_overflow());
        assert_eq!(overflow.value(), Value::Counter(2));
    }

    #[test]
    fn unicode_and_control_characters_are_kept_as_they_are() {
        let (registry, jobs) = family(["value"]);
        let values = [
            "ünï",
            "日本語の長いラベル値",
            "\u{10FFFF}",
            "\0",
            "\n\r\t\"\\",
            "e\u{301}",
            "é",
            "🦀🦀🦀🦀🦀🦀",
        ];
        values.iter().for_each(|value| jobs.with([value]).inc());
        let expected: Vec<_> = values.iter().map(|value| (vec![value.to_string()], 1)).collect();
        assert_eq!(series(&registry), expected);
    }

    #[test]
    fn tuples_go_up_to_eight_labels() {
        let (registry, jobs) = family(["a", "b", "c", "d", "e"]);
        jobs.with(("1", 2, '3', "4".to_owned(), 5_u64)).inc();
        jobs.with(["1", "2", "3", "4", "5"]).inc();
        assert_eq!(series(&registry)[0].1, 2);

        let (registry, jobs) = family(["a", "b", "c", "d", "e", "f", "g", "h"]);
        jobs.with((1, 2, 3, 4, 5, 6, 7, 8)).inc();
        jobs.with(["1", "2", "3", "4", "5", "6", "7", "8"]).inc();
        assert_eq!(series(&registry).len(), 1);
    }

    fn by_number_of_labels<const N: usize>() {
        let labels: [String; N] = std::array::from_fn(|at| format!("label_{at}"));
        let (registry, jobs) = family(labels.each_ref().map(String::as_str));
        let short: [String; N] = std::array::from_fn(|at| at.to_string());
        let long: [String; N] = std::array::from_fn(|at| format!("a value that is not short, number {at}"));
        let empty: [String; N] = std::array::from_fn(|_| String::new());
        for set in [&short, &long, &empty] {
            jobs.with(set).inc();
            jobs.with(set).inc();
        }
        let mut expected = vec![(short.to_vec(), 2), (long.to_vec(), 2), (empty.to_vec(), 2)];
        for at in 0..N {
            let mut set = short.clone();
            set[at].push('!');
            jobs.with(&set).inc();
            expected.push((set.to_vec(), 1));
        }
        assert_eq!(series(&registry), expected, "{N} labels");
    }

    #[test]
    fn a_family_has_as_many_labels_as_it_likes() {
        by_number_of_labels::<1>();
        by_number_of_labels::<4>();
        by_number_of_labels::<5>();
        by_number_of_labels::<8>();
        by_number_of_labels::<9>();
        by_number_of_labels::<16>();
        by_number_of_labels::<17>();
        by_number_of_labels::<64>();
    }

    #[test]
    fn a_family_with_very_many_labels_takes_empty_values() {
        by_number_of_labels::<65>();
        by_number_of_labels::<100>();
    }

    #[test]
    fn a_family_without_labels_has_one_series_and_is_the_plain_instrument() {
        let registry = Registry::new();
        let family = registry
            .counter("jobs_total", "Jobs.")
            .labels([""; 0])
            .register()
            .unwrap();
        let plain = registry.counter("jobs_total", "Jobs.").register().unwrap();
        family.with([""; 0]).inc();
        family.handle([""; 0]).inc();
        plain.inc();
        assert_eq!((family.with([""; 0]).get(), plain.get(), family.len()), (3, 3, 1));
        assert_eq!(series(&registry), [(vec![], 3)]);
        assert_eq!(registry.losses(), Default::default());
    }

    #[test]
    fn two_look_ups_in_one_expression_and_with_handles_held_do_not_deadlock() {
        let (_, jobs) = family(["a"]);
        let gauges = Registry::new()
            .gauge("level", "Level.")
            .labels(["a"])
            .register()
            .unwrap();
        jobs.with(["x"]).add(3);
        jobs.with(["y"]).add(jobs.with(["x"]).get() + jobs.with(["new"]).get());
        gauges.with(["x"]).set(2.0);
        gauges
            .with(["y"])
            .set(gauges.with(["x"]).get() + gauges.with(["x"]).get());
        let (kept, borrowed) = (jobs.handle(["x"]), jobs.with(["y"]));
        let (level, other) = (gauges.with(["y"]), gauges.with(["y"]));
        jobs.with(["x"]).inc();
        jobs.with(["z"]).inc();
        gauges.with(["y"]).inc();
        assert_eq!((kept.get(), borrowed.get(), level.get(), other.get()), (4, 3, 5.0, 5.0));
    }

    #[test]
    fn every_instrument_can_be_labelled() {
        let registry = Registry::new();
        let counters = registry.counter("a_total", "A.").labels(["l"]).register().unwrap();
        let floats = registry
            .float_counter("b_total", "B.")
            .labels(["l"])
            .register()
            .unwrap();
        let gauges = registry.gauge("c", "C.").labels(["l"]).register().unwrap();
        let integers = registry.int_gauge("d", "D.").labels(["l"]).register().unwrap();
        let balances = registry.up_down_counter("e", "E.").labels(["l"]).register().unwrap();
        let buckets = Buckets::explicit([1.0]).unwrap();
        let histograms = registry
            .histogram("f", "F.")
            .labels(["l"])
            .buckets(buckets)
            .register()
            .unwrap();
        for (value, amount) in [("x", 1), ("y", 2)] {
            counters.with([value]).add(amount);
            floats.with([value]).add(amount as f64);
            gauges.with([value]).set(amount as f64);
            integers.with([value]).add(amount as i64);
            balances.with([value]).sub(amount as i64);
            histograms.with([value]).observe_many(0.5, amount);
        }
        for (value, amount) in [("x", 1.0), ("y", 2.0)] {
            for (name, sign) in [("a", 1.0), ("b", 1.0), ("c", 1.0), ("d", 1.0), ("e", -1.0), ("f", 1.0)] {
                testing::assert_value(&registry, name, [("l", value)], sign * amount);
            }
        }
    }

    #[test]
    fn a_thousand_families_of_one_registry_count_apart() {
        let registry = Registry::new();
        let families: Vec<_> = (0..1000)
            .map(|number| {
                let name = format!("family_{number}_total");
                registry
                    .counter(&name, "One of many.")
                    .labels(["l"])
                    .register()
                    .unwrap()
            })
            .collect();
        for (number, family) in families.iter().enumerate() {
            family.with(["x"]).add(number as u64);
        }
        assert!(
            families
                .iter()
                .enumerate()
                .all(|(number, family)| family.with(["x"]).get() == number as u64)
        );
    }
}

mod closures {
    use super::*;

    fn value(registry: &Registry, name: &str) -> Option<f64> {
        testing::value(registry, name, [])
    }

    fn kind(registry: &Registry, name: &str) -> Kind {
        registry.snapshot().family(name).unwrap().kind()
    }

    #[test]
    fn an_observable_is_read_at_each_collection() {
        let registry = Registry::new();
        let reads = Arc::new(AtomicU64::new(0));
        let inside = reads.clone();
        registry
            .observable_counter("reads_total", "Reads.")
            .register(move || inside.fetch_add(1, Ordering::Relaxed) + 1)
            .unwrap();
        assert_eq!(reads.load(Ordering::Relaxed), 0);
        assert_eq!(
            (value(&registry, "reads_total"), value(&registry, "reads_total")),
            (Some(1.0), Some(2.0))
        );
    }

    #[test]
    fn an_observable_gives_any_type_of_number() {
        let registry = Registry::new();
        let gauge = |name: &'static str| registry.observable_gauge(name, "A gauge.");
        gauge("a").register(|| -1.5).unwrap();
        gauge("b").register(|| -3_i64).unwrap();
        gauge("c").register(|| 4_u64).unwrap();
        gauge("d").register(|| 0.5_f32).unwrap();
        gauge("e").register(|| 6_usize).unwrap();
        gauge("f").register(|| f64::NEG_INFINITY).unwrap();
        let counter = |name: &'static str| registry.observable_counter(name, "A counter.");
        counter("g").register(|| 7_u64).unwrap();
        counter("h").register(|| 8.5).unwrap();
        counter("i").register(|| 9_i32).unwrap();
        let values: Vec<f64> = ["a", "b", "c", "d", "e", "f", "g", "h", "i"]
            .map(|name| value(&registry, name).unwrap())
            .into();
        assert_eq!(values, [-1.5, -3.0, 4.0, 0.5, 6.0, f64::NEG_INFINITY, 7.0, 8.5, 9.0]);
        assert_eq!(kind(&registry, "b"), Kind::IntGauge);
        assert_eq!(kind(&registry, "g"), Kind::Counter);
        assert_eq!(kind(&registry, "h"), Kind::FloatCounter);
    }

    #[test]
    fn an_observable_counter_that_is_negative_or_nan_is_left_out_and_counted() {
        let registry = Registry::new();
        registry.observable_counter("a", "A.").register(|| -1_i64).unwrap();
        registry.observable_counter("b", "B.").register(|| f64::NAN).unwrap();
        registry.observable_counter("c", "C.").register(|| -0.5).unwrap();
        registry.observable_counter("d", "D.").register(|| 1_u64).unwrap();
        assert_eq!(names(&registry.snapshot()), ["d_total"]);
        assert_eq!(registry.losses().invalid_values, 3);
    }

    #[test]
    fn a_closure_that_panics_is_counted_and_harms_nothing_else() {
        let registry = Registry::new();
        let calls = Arc::new(AtomicU64::new(0));
        let inside = calls.clone();
        registry.observable_gauge("a", "A.").register(|| 1.0).unwrap();
        registry
            .observable_gauge("bad", "Bad at first.")
            .register(move || match inside.fetch_add(1, Ordering::Relaxed) {
                0 => panic!("at the first reading"),
                calls => calls as f64,
            })
            .unwrap();
        registry.collector(|families| {
            families.gauge("half", "Half done.").value(1.0);
            panic!("half way");
        });
        registry.collector(|families| {
            families.gauge("whole", "Done.").value(1.0);
        });
        registry.counter("z_total", "Z.").register().unwrap().inc();

        assert_eq!(names(&registry.snapshot()), ["a", "whole", "z_total"]);
        assert_eq!(registry.losses().panics, 2);
        assert_eq!(names(&registry.snapshot()), ["a", "bad", "whole", "z_total"]);
        assert_eq!(registry.losses().panics, 3);
    }

    #[test]
    fn a_closure_whose_panic_panics_when_it_is_dropped_harms_nothing_else() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("in the drop of a panic");
            }
        }
        let registry = Registry::new();
        registry
            .observable_gauge("bad", "Bad.")
            .register(|| -> f64 { panic_any(Bomb) })
            .unwrap();
        registry.observable_gauge("good", "Good.").register(|| 1.0).unwrap();
        assert_eq!(names(&registry.snapshot()), ["good"]);
        assert_eq!(registry.losses().panics, 1);
    }

    #[test]
    fn a_name_that_changes_hands_during_a_collection_is_in_it_once() {
        let registry = Registry::new();
        registry.gauge("level", "Of the one.").register().unwrap().set(1.0);
        let inside = registry.clone();
        registry.collector(move |families| {
            inside.unregister("level");
            families.gauge("level", "Of the other.").value(2.0);
        });
        assert_eq!(names(&registry.snapshot()), ["level"]);
        assert_eq!(registry.losses().refused_families, 1);
        assert_eq!(names(&registry.snapshot()), ["level"]);
        assert_eq!(registry.losses().refused_families, 1);
    }

    #[test]
    fn a_closure_may_record_look_up_register_unregister_snapshot_and_scrape() {
        let registry = Registry::new();
        let family = registry
            .counter("work_total", "Work.")
            .labels(["step"])
            .register()
            .unwrap();
        let runs = registry.counter("runs_total", "Runs.").register().unwrap();
        registry.counter("old_total", "Old.").register().unwrap();
        let (all, work) = (registry.clone(), family.clone());
        let everything = move || {
            runs.inc();
            work.with(["a"]).add(work.with(["b"]).get() + 1);
            work.retain(|series| work.with(["kept"]).get() == 0 || series.label("step") == Some("kept"));
            all.counter("new_total", "New.").register().unwrap().inc();
            all.observable_gauge("observed_later", "Later.").register(|| 1.0).ok();
            all.unregister("old_total");
            let nested = names(&all.snapshot());
            assert!(!nested.contains(&"self".to_owned()), "observables are left out of it");
            assert!(nested.contains(&"runs_total".to_owned()));
            let _ = (all.scrape(None, None), all.lint(), all.losses(), format!("{all:?}"));
            1.0
        };
        registry
            .observable_gauge("self", "Itself.")
            .register(everything.clone())
            .unwrap();
        registry.collector(move |families| {
            families.gauge("collected", "Collected.").value(everything());
        });

        let snapshot = registry.snapshot();
        assert_eq!(registry.losses().panics, 0);
        assert!(snapshot.family("self").is_some() && snapshot.family("collected").is_some());
        testing::assert_value(&registry, "work_total", [("step", "a")], 3.0);
        assert!(registry.snapshot().family("old_total").is_none());
        assert!(registry.snapshot().family("observed_later").is_some());
    }

    #[test]
    fn a_closure_may_unregister_itself() {
        let registry = Registry::new();
        let all = registry.clone();
        registry
            .observable_gauge("once", "Once.")
            .register(move || all.unregister("once") as u8)
            .unwrap();
        assert_eq!(names(&registry.snapshot()), ["once"]);
        assert_eq!(names(&registry.snapshot()), [""; 0]);
    }

    #[test]
    fn a_closure_of_one_registry_may_collect_another() {
        let (outer, inner) = (Registry::new(), Registry::new());
        let jobs = inner.counter("jobs_total", "Jobs.").register().unwrap();
        jobs.add(5);
        outer
            .observable_gauge("inner_families", "Families of the other.")
            .register(move || inner.snapshot().families().count())
            .unwrap();
        testing::assert_value(&outer, "inner_families", [], 1.0);
    }

    #[test]
    fn a_collector_yields_several_families_from_one_reading() {
        let registry = Registry::builder().prefix("app").label("region", "eu").build().unwrap();
        registry.collector(|families| {
            families
                .gauge("pool.connections", "Connections.")
                .labels(["state"])
                .sample(["idle"], 3)
                .sample([""], -1.5);
            families.counter("waited", "Waited.").unit("s").value(2.5);
        });
        let snapshot = registry.snapshot();
        assert_eq!(names(&snapshot), ["app_pool_connections", "app_waited_seconds_total"]);
        let labels = |name: &str| -> Vec<Vec<(String, String)>> {
            let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
            let family = snapshot.family(name).unwrap();
            family
                .series()
                .map(|series| series.labels().map(owned).collect())
                .collect()
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            labels("app_pool_connections"),
            [
                [pair("region", "eu"), pair("state", "idle")],
                [pair("region", "eu"), pair("state", "")]
            ]
        );
        assert_eq!(labels("app_waited_seconds_total"), [[pair("region", "eu")]]);
        testing::assert_value(&registry, "app_pool_connections", [("state", "")], -1.5);
    }

    /// Families that a collector's must not be confused with are there beforehand.
    fn refused(yielding: impl Fn(&mut tidegauge::Families) + Send + Sync + 'static) -> u64 {
        let registry = Registry::builder().label("region", "eu").build().unwrap();
        registry.counter("taken_total", "Taken.").register().unwrap();
        registry.histogram("wait_seconds", "Wait.").register().unwrap();
        registry.collector(yielding);
        let snapshot = registry.snapshot();
        assert_eq!(
            snapshot.families().count() as u64,
            3 - registry.losses().refused_families
        );
        assert_eq!(registry.losses().panics, 0);
        registry.losses().refused_families
    }

    #[test]
    fn a_collectors_family_that_cannot_be_is_left_out_and_counted() {
        assert_eq!(
            refused(|families| {
                families.gauge("fine", "Fine.").value(1.0);
            }),
            0
        );
        assert_eq!(
            refused(|families| {
                families.counter("taken", "Taken.").value(1_u64);
            }),
            1
        );
        assert_eq!(
            refused(|families| {
                families.gauge("taken_created", "Taken.").value(1.0);
            }),
            1
        );
        assert_eq!(
            refused(|families| {
                families.gauge("wait_seconds_bucket", "Taken.").value(1.0);
            }),
            1
        );
        assert_eq!(
            refused(|families| {
                families.gauge("9", "No name.").value(1.0);
            }),
            1
        );
        assert_eq!(
            refused(|families| {
                families.gauge("a", "").value(1.0);
            }),
            1
        );
        assert_eq!(
            refused(|families| {
                families.gauge("a", "A.").labels(["le"]).sample(["1"], 1.0);
            }),
            1
        );
        assert_eq!(
            refused(|families| {
                families.gauge("a", "A.").labels(["region"]).sample(["1"], 1.0);
            }),
            1
        );
        assert_eq!(
            refused(|families| {
                families.gauge("a", "A.").labels(["l"]).value(1.0);
            }),
            1
        );
        assert_eq!(
            refused(|families| {
                families.gauge("a", "A.").sample(["x"], 1.0);
            }),
            1
        );
        assert_eq!(
            refused(|families| {
                families.gauge("a", "A.").value(1.0).value(1.0);
            }),
            1
        );
        let twice = |families: &mut tidegauge::Families| {
            families
                .gauge("a", "A.")
                .labels(["l"])
                .sample(["x"], 1.0)
                .sample(["x"], 2.0);
        };
        assert_eq!(refused(twice), 1);
        let too_long = |families: &mut tidegauge::Families| {
            families
                .gauge("a", "A.")
                .labels(["l"])
                .sample(["x".repeat(65_536)], 1.0);
        };
        assert_eq!(refused(too_long), 1);
        assert_eq!(
            refused(|families| {
                families.counter("a", "A.").value(-1.0);
            }),
            1
        );
        assert_eq!(
            refused(|families| {
                families.counter("a", "A.").value(f64::NAN);
            }),
            1
        );
    }

    #[test]
    fn of_two_families_of_one_name_only_the_first_is_shown() {
        let registry = Registry::new();
        registry.collector(|families| {
            families.gauge("load", "Load.").value(1.0);
            families.gauge("load", "Load.").value(2.0);
        });
        assert_eq!(names(&registry.snapshot()), ["load"]);
        testing::assert_value(&registry, "load", [], 1.0);
    }

    #[test]
    fn two_collectors_cannot_yield_one_family_twice() {
        let registry = Registry::new();
        registry.collector(|families| {
            families.gauge("load", "Load.").value(1.0);
        });
        registry.collector(|families| {
            families.gauge("load", "Load.").value(2.0);
        });
        assert_eq!(names(&registry.snapshot()), ["load"]);
        assert_eq!(registry.losses().refused_families, 1);
    }

    #[test]
    fn two_collectors_cannot_yield_families_that_an_encoder_would_merge() {
        let registry = Registry::new();
        registry.collector(|families| {
            families.counter("load", "Load.").value(1.0);
        });
        registry.collector(|families| {
            families.gauge("load_created", "Load.").value(2.0);
        });
        assert_eq!(registry.snapshot().families().count(), 1);
    }

    #[test]
    fn a_collectors_counter_counts_since_the_collector_was_there() {
        let (registry, clock) = with_clock();
        let made = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        registry.collector(|families| {
            families.counter("faults_total", "Faults.").value(7_u64);
        });
        let created = || {
            registry
                .snapshot()
                .family("faults_total")
                .unwrap()
                .series()
                .next()
                .unwrap()
                .created()
        };
        assert_eq!(created(), made);
        clock.advance(seconds(60.0));
        assert_eq!(created(), made, "it would look like a restart at each scrape");
    }
}

mod registration {
    use super::*;
    use tidegauge::RegisterError;

    fn message<T>(result: Result<T, RegisterError>) -> String {
        match result {
            Ok(_) => panic!("it was registered"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_counter_is_the_same_with_and_without_total_and_unit_in_any_spelling() {
        let registry = Registry::new();
        let first = registry.counter("wait", "Wait.").unit("s").register().unwrap();
        let spellings = [
            ("wait", Some("s")),
            ("wait", Some("seconds")),
            ("wait_total", Some("s")),
            ("wait_seconds", Some("s")),
            ("wait_seconds", None),
            ("wait_seconds_total", Some("s")),
            ("wait_seconds_total", None),
            ("wait.seconds.total", None),
            ("wait.seconds", Some("s")),
            ("wait-seconds", None),
        ];
        for (name, unit) in spellings {
            let builder = registry.counter(name, "Something else.");
            let same = match unit {
                Some(unit) => builder.unit(unit).register(),
                None => builder.register(),
            };
            same.unwrap_or_else(|error| panic!("{name} in {unit:?}: {error}")).inc();
        }
        assert_eq!(first.get(), spellings.len() as u64);
        let snapshot = registry.snapshot();
        assert_eq!(names(&snapshot), ["wait_seconds_total"]);
        assert_eq!(snapshot.families().next().unwrap().help(), "Wait.");
        assert_eq!(snapshot.families().next().unwrap().unit(), Some("s"));
    }

    #[test]
    fn every_kind_can_be_registered_again() {
        let registry = Registry::new();
        for _ in 0..2 {
            registry.counter("a", "A.").register().unwrap().inc();
            registry.float_counter("b", "B.").register().unwrap().inc();
            registry.gauge("c", "C.").register().unwrap().inc();
            registry.int_gauge("d", "D.").register().unwrap().inc();
            registry.up_down_counter("e", "E.").register().unwrap().inc();
            registry.histogram("f", "F.").register().unwrap().observe(1.0);
            registry.distribution("h", "H.").register().unwrap().observe(1.0);
            registry
                .counter("g", "G.")
                .labels(["x", "y"])
                .register()
                .unwrap()
                .with(["1", "2"])
                .inc();
        }
        for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
            testing::assert_value(&registry, name, [], 2.0);
        }
    }

    #[test]
    fn the_first_registrations_help_limit_expiry_and_buckets_stand() {
        let (registry, clock) = with_clock();
        let declare = |help: &'static str, limit: usize, idle: f64| {
            let builder = registry.counter("jobs_total", help).labels(["queue"]);
            builder.limit(limit).expire_after(seconds(idle)).register().unwrap()
        };
        declare("First.", 1, 1.0);
        let jobs = declare("Second.", 100, 1e6);
        jobs.with(["a"]).inc();
        jobs.with(["b"]).inc();
        assert_eq!((jobs.len(), registry.losses().past_limit), (1, 1));
        for _ in 0..3 {
            assert_eq!(registry.snapshot().family("jobs").unwrap().help(), "First.");
            clock.advance(seconds(10.0));
        }
        assert_eq!(jobs.len(), 0);

        let bounds = |registry: &Registry| {
            registry.histogram("sizes", "Sizes.").register().unwrap();
            let snapshot = registry.snapshot();
            match snapshot.family("sizes").unwrap().series().next().unwrap().value() {
                Value::Histogram(value) => value.bounds().to_vec(),
                other => panic!("{other:?}"),
            }
        };
        let buckets = Buckets::explicit([1.0, 2.0]).unwrap();
        registry
            .histogram("sizes", "Sizes.")
            .buckets(buckets)
            .register()
            .unwrap();
        assert_eq!(bounds(&registry), [1.0, 2.0]);
    }

    /// The second registration must be refused, by a message that has all of these in it.
    fn conflict<T, U>(
        first: impl Fn(&Registry) -> Result<T, RegisterError>,
        second: impl Fn(&Registry) -> Result<U, RegisterError>,
        mentions: &[&str],
    ) {
        let registry = Registry::new();
        first(&registry).map(drop).expect("nothing else is there");
        let before = names(&registry.snapshot());
        let error = second(&registry).map(drop).expect_err("it is a conflict");
        assert!(error.is_conflict() && !error.is_invalid());
        let error = error.to_string();
        for mention in mentions {
            assert!(error.contains(mention), "{error:?} says nothing of {mention:?}");
        }
        assert_eq!(
            names(&registry.snapshot()),
            before,
            "nothing of the refused one is left behind"
        );
    }

    #[test]
    fn a_conflict_names_both_sides() {
        conflict(
            |registry| registry.counter("jobs_total", "Jobs.").register(),
            |registry| registry.float_counter("jobs", "Jobs.").register(),
            &["\"jobs\"", "\"jobs_total\"", "kind", "Counter", "FloatCounter"],
        );
        conflict(
            |registry| registry.histogram("wait", "Waits.").register(),
            |registry| registry.distribution("wait", "Waits.").register(),
            &["\"wait\"", "with kind Histogram, and now with Distribution"],
        );
        conflict(
            |registry| registry.distribution("wait", "Waits.").labels(["queue"]).register(),
            |registry| registry.histogram("wait", "Waits.").labels(["queue"]).register(),
            &["\"wait\"", "with kind Distribution, and now with Histogram"],
        );
        conflict(
            |registry| registry.distribution("wait", "Waits.").register(),
            |registry| registry.gauge("wait", "Waits.").register(),
            &["with kind Distribution, and now with Gauge"],
        );
        conflict(
            |registry| {
                registry
                    .counter("jobs_total", "Jobs.")
                    .labels(["queue", "step"])
                    .register()
            },
            |registry| {
                registry
                    .counter("jobs_total", "Jobs.")
                    .labels(["step", "queue"])
                    .register()
            },
            &["labels", "[\"queue\", \"step\"]", "[\"step\", \"queue\"]"],
        );
        conflict(
            |registry| registry.counter("jobs_total", "Jobs.").labels(["queue"]).register(),
            |registry| registry.counter("jobs_total", "Jobs.").register(),
            &["labels", "[\"queue\"]", "[]"],
        );
        conflict(
            |registry| registry.gauge("jobs", "Jobs.").register(),
            |registry| registry.gauge("jobs", "Jobs.").unit("{job}").register(),
            &["unit", "{job}", "none"],
        );
        conflict(
            |registry| {
                registry
                    .histogram("size", "Size.")
                    .buckets(Buckets::explicit([1.0]).unwrap())
                    .register()
            },
            |registry| {
                registry
                    .histogram("size", "Size.")
                    .buckets(Buckets::explicit([2.0]).unwrap())
                    .register()
            },
            &["bucket boundaries", "[1.0]", "[2.0]"],
        );
        conflict(
            |registry| registry.gauge("jobs", "Jobs.").register(),
            |registry| registry.gauge("Jobs", "Jobs.").register(),
            &["\"jobs\"", "\"Jobs\""],
        );
        conflict(
            |registry| registry.gauge("jobs.waiting", "Jobs.").register(),
            |registry| registry.int_gauge("jobs_waiting", "Jobs.").register(),
            &["\"jobs.waiting\"", "\"jobs_waiting\"", "IntGauge"],
        );
    }

    #[test]
    fn names_that_an_encoder_would_merge_are_a_conflict() {
        for suffix in ["_bucket", "_count", "_sum", "_created"] {
            conflict(
                |registry| registry.histogram("wait", "Wait.").register(),
                |registry| registry.gauge(&format!("wait{suffix}"), "Wait.").register(),
                &["\"wait\"", "histogram", suffix],
            );
            conflict(
                |registry| registry.gauge(&format!("wait{suffix}"), "Wait.").register(),
                |registry| registry.histogram("wait", "Wait.").register(),
                &["\"wait\"", "gauge", suffix],
            );
        }
        conflict(
            |registry| registry.counter("jobs_total", "Jobs.").register(),
            |registry| registry.gauge("jobs", "Jobs.").register(),
            &["\"jobs_total\"", "\"jobs\"", "counter"],
        );
        conflict(
            |registry| registry.counter("jobs_total", "Jobs.").register(),
            |registry| registry.gauge("jobs_created", "Jobs.").register(),
            &["\"jobs_created\"", "\"jobs_total\""],
        );
        conflict(
            |registry| registry.counter("jobs_total", "Jobs.").register(),
            |registry| registry.gauge("jobs_total", "Jobs.").register(),
            &["\"jobs_total\""],
        );
        conflict(
            |registry| registry.histogram("jobs", "Jobs.").register(),
            |registry| registry.counter("jobs", "Jobs.").register(),
            &["\"jobs\"", "histogram"],
        );
        conflict(
            |registry| registry.gauge("memory", "Memory.").unit("By").register(),
            |registry| registry.gauge("memory", "Memory.").unit("%").register(),
            &["\"memory\""],
        );
    }

    #[test]
    fn an_observable_conflicts_with_everything_of_its_name() {
        let observable = |registry: &Registry| registry.observable_counter("jobs_total", "Jobs.").register(|| 1_u64);
        conflict(observable, observable, &["\"jobs_total\"", "unregister"]);
        conflict(
            observable,
            |registry| registry.counter("jobs", "Jobs.").register(),
            &["\"jobs\"", "observable"],
        );
        conflict(
            |registry| registry.counter("jobs", "Jobs.").register(),
            observable,
            &["\"jobs_total\""],
        );
        conflict(
            observable,
            |registry| registry.gauge("jobs", "Jobs.").register(),
            &["\"jobs\""],
        );
        conflict(
            |registry| registry.observable_gauge("wait_count", "Waits.").register(|| 1.0),
            |registry| registry.histogram("wait", "Wait.").register(),
            &["\"wait\"", "\"wait_count\""],
        );
    }

    #[test]
    fn reserved_labels_are_refused_wherever_they_are_given() {
        for label in [
            "le",
            "quantile",
            "__name__",
            "__x",
            "_x",
            "otel_metric_overflow",
            "",
            "9",
            "a b",
            "é",
            "a:b",
        ] {
            let registry = Registry::new();
            let error = registry
                .counter("jobs_total", "Jobs.")
                .labels([label])
                .register()
                .unwrap_err();
            assert!(
                error.is_invalid() && error.to_string().contains(label),
                "{label:?}: {error}"
            );
            let error = Registry::builder().label(label, "x").build().unwrap_err();
            assert!(error.is_invalid(), "{label:?}: {error}");
            assert_eq!(names(&registry.snapshot()), [""; 0]);
        }
    }

    #[test]
    fn two_labels_of_one_name_are_refused() {
        let registry = Registry::builder().label("region", "eu").build().unwrap();
        let twice = |labels: [&str; 2]| message(registry.counter("jobs_total", "Jobs.").labels(labels).register());
        assert!(twice(["a", "a"]).contains("\"a\""));
        assert!(twice(["a.b", "a_b"]).contains("\"a_b\""));
        assert!(twice(["a", "region"]).contains("\"region\""));
        assert!(Registry::builder().label("a", "1").label("a", "2").build().is_err());
    }

    #[test]
    fn names_units_and_help_are_validated() {
        let registry = Registry::new();
        let names = [
            "",
            "9lives",
            "a b",
            "a:b",
            "é",
            "_a",
            "total",
            "up",
            "a\n",
            "a{b}",
            "scrape_duration_seconds",
            &"a".repeat(256),
        ];
        for name in names {
            let error = registry.counter(name, "Help.").register().err();
            // A counter of a reserved name is written with `_total`.
            let refused = error.is_some() || ["up", "scrape_duration_seconds"].contains(&name);
            assert!(refused, "{name:?}");
            assert!(
                registry.gauge(name, "Help.").register().is_err() || name == "total",
                "{name:?}"
            );
        }
        for help in ["", " ", "\n"] {
            assert!(message(registry.gauge("a", help).register()).contains("help"));
        }
        for unit in ["a b", "{", "}{", "ü", &"x".repeat(64)] {
            assert!(
                message(registry.gauge("a", "A.").unit(unit).register()).contains("unit"),
                "{unit:?}"
            );
        }
        for prefix in ["9", "a b", "ü", "_a"] {
            assert!(
                message(Registry::builder().prefix(prefix).build()).contains("prefix"),
                "{prefix:?}"
            );
        }
    }

    #[test]
    fn a_prefix_and_constant_labels_are_on_everything() {
        let registry = Registry::builder()
            .prefix("app")
            .label("region", "eu")
            .label("zone", "")
            .build()
            .unwrap();
        registry
            .counter("jobs_total", "Jobs.")
            .labels(["queue"])
            .register()
            .unwrap()
            .with(["q"])
            .inc();
        registry.gauge("http.load", "Load.").register().unwrap().set(1.0);
        registry
            .observable_gauge("observed", "Observed.")
            .register(|| 1.0)
            .unwrap();
        let snapshot = registry.snapshot();
        assert_eq!(names(&snapshot), ["app_http_load", "app_jobs_total", "app_observed"]);
        assert_eq!(snapshot.family("app_http_load").unwrap().given_name(), "app.http.load");
        for family in snapshot.families() {
            let series = family.series().next().unwrap();
            let labels: Vec<_> = series.labels().take(2).collect();
            assert_eq!(labels, [("region", "eu"), ("zone", "")], "{}", family.name());
        }
    }

    #[test]
    fn an_unregistered_metric_is_gone_and_its_name_is_free() {
        let registry = Registry::new();
        let old = registry.counter("jobs_total", "Jobs.").register().unwrap();
        old.add(5);
        assert!(registry.unregister("jobs"));
        assert!(!registry.unregister("jobs"));
        assert_eq!(names(&registry.snapshot()), [""; 0]);
        old.add(2);
        assert_eq!((old.get(), registry.losses().late_writes), (0, 2));

        let new = registry.gauge("jobs", "Jobs that wait.").register().unwrap();
        new.set(3.0);
        old.inc();
        assert_eq!((new.get(), registry.losses().late_writes), (3.0, 3));
        registry.unregister("jobs");
        let newest = registry.histogram("jobs", "Jobs.").register().unwrap();
        newest.observe(1.0);
        new.set(4.0);
        assert_eq!(newest.get().count(), 1);
        assert_eq!(registry.losses().late_writes, 4);
    }

    #[test]
    fn any_spelling_unregisters() {
        for spelling in ["http.requests", "http_requests", "http_requests_total"] {
            let registry = Registry::new();
            registry.counter("http.requests", "Requests.").register().unwrap();
            assert!(registry.unregister(spelling), "{spelling}");
        }
        let registry = Registry::new();
        registry.observable_gauge("load", "Load.").register(|| 1.0).unwrap();
        assert!(!registry.unregister("loa") && !registry.unregister("") && registry.unregister("load"));
        registry.observable_gauge("load", "Load.").register(|| 2.0).unwrap();
        testing::assert_value(&registry, "load", [], 2.0);
    }

    #[test]
    fn a_metric_is_unregistered_by_the_name_that_it_was_registered_by() {
        let registry = Registry::builder().prefix("app").build().unwrap();
        registry.counter("jobs_total", "Jobs.").register().unwrap();
        assert!(registry.unregister("jobs_total"), "what registers it unregisters it");
        registry.counter("jobs_total", "Jobs.").register().unwrap();
        assert!(registry.unregister("app_jobs_total"));
    }

    #[test]
    fn clones_are_one_registry_and_others_are_apart() {
        let registry = Registry::new();
        let (clone, other) = (registry.clone(), Registry::new());
        clone.counter("jobs_total", "Jobs.").register().unwrap().inc();
        registry.counter("jobs_total", "Jobs.").register().unwrap().inc();
        other.counter("jobs_total", "Jobs.").register().unwrap().inc();
        testing::assert_value(&registry, "jobs_total", [], 2.0);
        testing::assert_value(&other, "jobs_total", [], 1.0);
    }

    #[test]
    fn threads_that_register_one_metric_at_once_get_one() {
        let registry = Registry::new();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for number in 0..50 {
                        let name = format!("family_{number}");
                        registry
                            .counter(&name, "One.")
                            .labels(["l"])
                            .register()
                            .unwrap()
                            .with(["x"])
                            .inc();
                    }
                });
            }
        });
        let snapshot = registry.snapshot();
        assert_eq!(snapshot.families().count(), 50);
        let all_eight =
            |family: &tidegauge::FamilySnapshot| family.series().all(|one| one.value() == Value::Counter(8));
        assert!(snapshot.families().all(all_eight));
    }
}

mod snapshots {
    use super::*;

    fn shareable<T: Send + Sync + 'static>() {}

    #[test]
    fn everything_can_be_sent_and_shared() {
        shareable::<Registry>();
        shareable::<Snapshot>();
        shareable::<Family<Counter, 2>>();
        shareable::<Counter>();
        shareable::<FloatCounter>();
        shareable::<Gauge>();
        shareable::<IntGauge>();
        shareable::<UpDownCounter>();
        shareable::<Histogram>();
        shareable::<tidegauge::Timer>();
        shareable::<tidegauge::InFlight<UpDownCounter>>();
        shareable::<tidegauge::Reply>();
        shareable::<tidegauge::Filter>();
    }

    #[test]
    fn a_snapshot_stays_as_it_is_and_outlives_its_registry() {
        let (registry, clock) = with_clock();
        let jobs = registry
            .counter("jobs_total", "Jobs.")
            .labels(["queue"])
            .register()
            .unwrap();
        let waits = registry.histogram("wait_seconds", "Wait.").register().unwrap();
        jobs.with(["mail"]).add(3);
        waits.observe(0.01);
        clock.advance(seconds(1.5));
        let snapshot = registry.snapshot();
        jobs.with(["mail"]).add(100);
        jobs.with(["new"]).inc();
        waits.observe(0.01);
        jobs.remove(["mail"]);
        registry.unregister("wait_seconds");
        drop((registry, jobs, waits));

        let read = move || {
            assert_eq!(snapshot.taken(), SystemTime::UNIX_EPOCH + seconds(1_700_000_001.5));
            let jobs = snapshot.family("jobs").unwrap();
            let series: Vec<_> = jobs
                .series()
                .map(|series| (series.label("queue"), series.value()))
                .collect();
            assert_eq!(series, [(Some("mail"), Value::Counter(3))]);
            let waits = snapshot.family("wait_seconds").unwrap().series().next().unwrap();
            let Value::Histogram(waits) = waits.value() else {
                panic!("it is a histogram")
            };
            assert_eq!(
                (waits.count(), waits.sum(), waits.counts().len()),
                (1, 0.01, waits.bounds().len() + 1)
            );
        };
        std::thread::spawn(read).join().unwrap();
    }

    #[test]
    fn a_family_tells_its_name_in_every_spelling() {
        let registry = Registry::new();
        registry
            .counter("http.server.time", "Time.")
            .unit("s")
            .register()
            .unwrap();
        let snapshot = registry.snapshot();
        for spelling in [
            "http.server.time",
            "http_server_time_seconds",
            "http_server_time_seconds_total",
        ] {
            let family = snapshot.family(spelling).unwrap_or_else(|| panic!("{spelling}"));
            assert_eq!(family.name(), "http_server_time_seconds_total");
            assert_eq!(family.family_name(), "http_server_time_seconds");
            assert_eq!(family.given_name(), "http.server.time");
            assert_eq!(
                (family.unit(), family.kind(), family.help()),
                (Some("s"), Kind::Counter, "Time.")
            );
        }
        assert!(snapshot.family("http_server_time").is_none());
    }

    #[test]
    fn families_are_in_the_order_of_their_names_with_and_without_collectors() {
        let registry = Registry::new();
        for name in ["b_lower", "a_lower", "Z_upper", "A_upper"] {
            registry.gauge(name, "A gauge.").register().unwrap();
        }
        let before = names(&registry.snapshot());
        let mut sorted = before.clone();
        sorted.sort();
        assert_eq!(before, sorted);
        registry.collector(|families| {
            families.gauge("c_collected", "Collected.").value(1.0);
        });
        let mut after = names(&registry.snapshot());
        after.retain(|name| name != "c_collected");
        assert_eq!(after, before, "a collector does not reorder others");
    }

    #[test]
    fn series_are_in_the_order_of_their_first_use() {
        let registry = Registry::new();
        let jobs = registry
            .counter("jobs_total", "Jobs.")
            .labels(["queue"])
            .limit(10_000)
            .register()
            .unwrap();
        let expected: Vec<String> = (0..3000).map(|queue| format!("{}", queue * 7919 % 3001)).collect();
        expected.iter().for_each(|queue| jobs.with([queue]).inc());
        for _ in 0..2 {
            let snapshot = registry.snapshot();
            let family = snapshot.family("jobs").unwrap();
            let queues: Vec<&str> = family.series().map(|series| series.label("queue").unwrap()).collect();
            assert_eq!(queues, expected);
        }
    }

    #[test]
    fn a_cumulative_histogram_ends_in_its_count() {
        let registry = Registry::new();
        let buckets = Buckets::linear(1.0, 1.0, 3).unwrap();
        let sizes = registry.histogram("size", "Size.").buckets(buckets).register().unwrap();
        for value in [0.5, 1.5, 1.7, 9.0, f64::NAN] {
            sizes.observe(value);
        }
        let snapshot = registry.snapshot();
        let Value::Histogram(value) = snapshot.family("size").unwrap().series().next().unwrap().value() else {
            panic!("it is a histogram");
        };
        let cumulative: Vec<(f64, u64)> = value.cumulative().collect();
        assert_eq!(cumulative, [(1.0, 1), (2.0, 3), (3.0, 3), (f64::INFINITY, 5)]);
        assert_eq!((value.count(), value.counts()), (5, &[1, 2, 0, 2][..]));
    }

    #[test]
    fn debug_output_names_the_metric_and_its_value() {
        let registry = Registry::new();
        let jobs = registry
            .counter("jobs_total", "Jobs.")
            .labels(["queue"])
            .register()
            .unwrap();
        jobs.with(["mail"]).add(42);
        assert!(format!("{jobs:?}").contains("jobs_total"));
        let shown = format!("{:?}", jobs.handle(["mail"]));
        assert!(shown.contains("jobs_total") && shown.contains("42"), "{shown}");
        let shown = format!("{:?}", registry.snapshot());
        assert!(shown.contains("mail") && shown.contains("42"), "{shown}");
        assert!(format!("{registry:?}").contains("jobs_total"));
    }
}

mod for_users_tests {
    use super::*;

    #[test]
    fn values_are_found_by_the_labels_that_matter() {
        let registry = Registry::builder().label("region", "eu").build().unwrap();
        let jobs = registry
            .counter("jobs_total", "Jobs.")
            .labels(["queue", "step"])
            .register()
            .unwrap();
        jobs.with(["a", "1"]).add(1);
        jobs.with(["b", "1"]).add(2);
        assert_eq!(testing::value(&registry, "jobs_total", [("queue", "a")]), Some(1.0));
        assert_eq!(
            testing::value(&registry, "jobs", [("queue", "b"), ("region", "eu")]),
            Some(2.0)
        );
        assert_eq!(testing::value(&registry, "jobs_total", [("queue", "c")]), None);
        assert_eq!(testing::value(&registry, "nothing", []), None);
        panics(|| assert_eq!(testing::value(&registry, "jobs_total", [("step", "1")]), None));
        assert_eq!(jobs.len(), 2, "reading makes no series");
    }

    #[test]
    fn assertions_hold_and_fail() {
        let registry = Registry::new();
        let jobs = registry
            .counter("jobs_total", "Jobs.")
            .labels(["queue"])
            .register()
            .unwrap();
        let result = testing::assert_change(&registry, "jobs_total", [("queue", "a")], 2.0, || {
            jobs.with(["a"]).add(2);
            "result"
        });
        assert_eq!(result, "result");
        testing::assert_value(&registry, "jobs_total", [("queue", "a")], 2.0);
        panics(|| testing::assert_value(&registry, "jobs_total", [("queue", "a")], 3.0));
        panics(|| testing::assert_value(&registry, "jobs_total", [("queue", "b")], 0.0));
        panics(|| testing::assert_change(&registry, "jobs_total", [("queue", "a")], 1.0, || ()));
    }

    #[test]
    fn lint_says_metric_rule_and_fix() {
        let registry = Registry::new();
        registry
            .gauge("waitMillis", "Time a job waits.")
            .unit("ms")
            .register()
            .unwrap();
        registry
            .counter("jobs_total", "Jobs run to their end.")
            .register()
            .unwrap();
        let lints = registry.lint();
        assert!(!lints.is_empty());
        assert!(
            lints.iter().all(|lint| lint.metric().contains("waitMillis")),
            "{lints:?}"
        );
        assert!(
            lints
                .iter()
                .all(|lint| !lint.rule().is_empty() && !lint.fix().is_empty())
        );
    }
}
