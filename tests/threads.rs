//! Threads that are born and die while series are added, used and removed by others: nothing is lost, no total falls.

use std::{
    collections::HashMap,
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::channel,
    },
    thread,
};
use tidegauge::{Buckets, Counter, Family, Losses, Registry, Snapshot, Value};

/// More threads end one after the other than there are banks that wait for a new thread.
const GENERATIONS: usize = 40;

/// A sequence of numbers that looks random, the same each time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % below
    }
}

/// All counters' values added up, in all their series.
fn total(snapshot: &Snapshot) -> u64 {
    let count = |value| match value {
        Value::Counter(count) => count,
        Value::Histogram(histogram) => histogram.count(),
        other => panic!("{other:?}"),
    };
    snapshot
        .families()
        .flat_map(|family| family.series())
        .map(|series| count(series.value()))
        .sum()
}

/// The values of all series, by family and labels.
fn values(snapshot: &Snapshot) -> HashMap<String, f64> {
    let number = |value| match value {
        Value::Counter(count) => count as f64,
        Value::FloatCounter(sum) => sum,
        Value::Histogram(histogram) => histogram.count() as f64,
        other => panic!("{other:?}"),
    };
    let mut values = HashMap::new();
    for family in snapshot.families() {
        for series in family.series() {
            let labels: Vec<_> = series.labels().collect();
            let before = values.insert(format!("{} {labels:?}", family.name()), number(series.value()));
            assert_eq!(before, None, "a label set is there once: {labels:?}");
        }
    }
    values
}

#[test]
fn counts_of_threads_that_ended_stay() {
    let registry = Registry::new();
    let jobs = registry
        .counter("jobs_total", "Jobs.")
        .labels(["queue"])
        .register()
        .unwrap();
    let energy = registry.float_counter("energy_joules", "Energy.").register().unwrap();
    let balance = registry.up_down_counter("in_flight", "In flight.").register().unwrap();
    let sizes = registry.histogram("size", "Size.").register().unwrap();
    for generation in 1..=GENERATIONS {
        thread::scope(|scope| {
            for thread in 0..3 {
                let (jobs, energy, balance, sizes) = (&jobs, &energy, &balance, &sizes);
                scope.spawn(move || {
                    jobs.with((thread,)).add(2);
                    energy.add(0.5);
                    balance.add(if thread == 0 { -5 } else { 3 });
                    sizes.observe_many(4.0, 2);
                });
            }
        });
        assert_eq!(
            (0..3).map(|thread| jobs.with((thread,)).get()).collect::<Vec<_>>(),
            [generation as u64 * 2; 3]
        );
        assert_eq!(energy.get(), generation as f64 * 1.5);
        assert_eq!(balance.get(), generation as i64);
        assert_eq!(
            (sizes.get().count(), sizes.get().sum()),
            (generation as u64 * 6, generation as f64 * 24.0)
        );
    }
    assert_eq!(registry.losses(), Losses::default());
}

#[test]
fn five_hundred_and_twelve_threads_count_at_once() {
    const THREADS: usize = 512;
    let registry = Registry::new();
    let jobs = registry.counter("jobs_total", "Jobs.").register().unwrap();
    let by_thread = registry
        .counter("by_thread_total", "Jobs.")
        .labels(["thread"])
        .register()
        .unwrap();
    let sizes = registry.histogram("size", "Size.").register().unwrap();
    let (alive, seen) = (Barrier::new(THREADS + 1), Barrier::new(THREADS + 1));
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (jobs, by_thread, sizes, alive, seen) = (&jobs, &by_thread, &sizes, &alive, &seen);
            let work = move || {
                jobs.add(3);
                by_thread.with((thread,)).inc();
                sizes.observe(thread as f64);
                alive.wait();
                seen.wait();
                jobs.inc();
            };
            thread::Builder::new()
                .stack_size(128 << 10)
                .spawn_scoped(scope, work)
                .unwrap();
        }
        alive.wait();
        assert_eq!((jobs.get(), sizes.get().count()), (3 * THREADS as u64, THREADS as u64));
        assert_eq!(sizes.get().sum(), (0..THREADS).sum::<usize>() as f64);
        assert_eq!(by_thread.len(), THREADS);
        seen.wait();
    });
    assert_eq!(jobs.get(), 4 * THREADS as u64);
    assert!((0..THREADS).all(|thread| by_thread.with((thread,)).get() == 1));
    assert_eq!(registry.losses(), Losses::default());
}

#[test]
fn threads_see_series_that_others_made_after_they_started() {
    let registry = Registry::new();
    let jobs = registry
        .counter("jobs_total", "Jobs.")
        .labels(["queue"])
        .limit(100_000)
        .register()
        .unwrap();
    let (handles, received) = channel::<Counter>();
    let counting = thread::spawn(move || received.into_iter().map(|handle| handle.inc()).count());
    // Cells of the later ones lie beyond all that the thread knew of when it started.
    for number in 0..20_000 {
        handles.send(jobs.handle((number,))).unwrap();
    }
    drop(handles);
    assert_eq!(counting.join().unwrap(), 20_000);
    assert!((0..20_000).all(|number| jobs.with((number,)).get() == 1));
}

#[test]
fn no_value_falls_while_threads_record_are_born_and_die() {
    let registry = Registry::new();
    let jobs = registry
        .counter("jobs_total", "Jobs.")
        .labels(["queue"])
        .register()
        .unwrap();
    let energy = registry
        .float_counter("energy_joules", "Energy.")
        .labels(["source"])
        .register()
        .unwrap();
    let sizes = registry.histogram("size", "Size.").register().unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = || {
            let mut last = HashMap::new();
            let mut rounds = 0;
            while !done.load(Ordering::Acquire) || rounds < 10 {
                let now = values(&registry.snapshot());
                for (series, before) in &last {
                    assert!(
                        now[series] >= *before,
                        "{series} fell from {before:?} to {:?}",
                        now[series]
                    );
                }
                last = now;
                rounds += 1;
            }
        };
        let watcher = scope.spawn(watch);
        for line in 0..3 {
            let (jobs, energy, sizes, done) = (&jobs, &energy, &sizes, &done);
            scope.spawn(move || {
                let mut numbers = Numbers(line);
                for _ in 0..4 * GENERATIONS {
                    let mut seed = Numbers(numbers.next(1 << 30));
                    let thread = move || {
                        for _ in 0..40 {
                            jobs.with((seed.next(20),)).inc();
                            // Amounts that do not add up alike in another order.
                            let amount = 0.1 + seed.next(1000) as f64 * 1e-7 + seed.next(3) as f64 * 1e10;
                            energy.with((seed.next(5),)).add(amount);
                            sizes.observe(seed.next(100) as f64);
                        }
                    };
                    thread::scope(|scope| drop(scope.spawn(thread)));
                }
                if line == 0 {
                    done.store(true, Ordering::Release);
                }
            });
        }
        watcher.join().unwrap();
    });
}

#[test]
fn float_totals_do_not_fall_when_threads_that_were_alive_together_end() {
    // More of them than wait for new threads: what the others hold is moved, in another order than it was added up.
    const THREADS: usize = 24;
    let registry = Registry::new();
    let energy = registry
        .float_counter("energy_joules", "Energy.")
        .labels(["source"])
        .register()
        .unwrap();
    for round in 0..20 {
        let mut last: Vec<f64> = (0..10).map(|source| energy.with((source,)).get()).collect();
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let energy = energy.clone();
                let (end, ends) = channel::<()>();
                let (record, recorded) = channel();
                let thread = thread::spawn(move || {
                    let mut numbers = Numbers((round * THREADS + thread) as u64);
                    for source in 0..10 {
                        let scale = [1e-9, 0.1, 1e7, 1e15][numbers.next(4) as usize];
                        energy
                            .with((source,))
                            .add(scale * (1.0 + numbers.next(1 << 30) as f64 * 1e-9));
                    }
                    record.send(()).unwrap();
                    ends.recv().expect_err("nothing is sent");
                });
                recorded.recv().unwrap();
                (thread, end)
            })
            .collect();
        // The first ones live longest: those that end stand behind them in the order of adding up.
        for (thread, end) in threads.into_iter().rev() {
            let before: Vec<f64> = (0..10).map(|source| energy.with((source,)).get()).collect();
            drop(end);
            thread.join().unwrap();
            let after: Vec<f64> = (0..10).map(|source| energy.with((source,)).get()).collect();
            for source in 0..10 {
                assert!(
                    before[source] >= last[source] && after[source] >= before[source],
                    "round {round}"
                );
                let raised = (after[source] - before[source]) / before[source];
                assert!(raised < 1e-13, "a thread's end adds nothing to speak of: {raised}");
            }
            last = after;
        }
    }
}

#[test]
fn a_histogram_in_a_snapshot_adds_up_while_it_is_observed() {
    const WRITERS: u64 = 2;
    const EACH: u64 = 300_000;
    let registry = Registry::new();
    let buckets = Buckets::linear(0.0, 1.0, 10).unwrap();
    let sizes = registry.histogram("size", "Size.").buckets(buckets).register().unwrap();
    let running = AtomicU64::new(WRITERS);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (sizes, running) = (&sizes, &running);
            scope.spawn(move || {
                (0..EACH).for_each(|number| sizes.observe(((number + writer) % 12) as f64));
                running.fetch_sub(1, Ordering::Release);
            });
        }
        let mut last = 0;
        while running.load(Ordering::Acquire) > 0 {
            let snapshot = registry.snapshot();
            let Value::Histogram(value) = snapshot.family("size").unwrap().series().next().unwrap().value() else {
                panic!("it is a histogram");
            };
            let (bound, count) = value.cumulative().last().unwrap();
            assert_eq!((bound, count), (f64::INFINITY, value.counts().iter().sum()));
            assert_eq!(count, value.count());
            assert!(count >= last);
            last = count;
        }
    });
    let expected: u64 = (0..WRITERS)
        .flat_map(|writer| (0..EACH).map(move |number| (number + writer) % 12))
        .sum();
    assert_eq!(
        (sizes.get().count(), sizes.get().sum()),
        (WRITERS * EACH, expected as f64)
    );
}

#[test]
fn a_sum_is_never_ahead_of_its_count() {
    const EACH: u64 = 400_000;
    let registry = Registry::new();
    let buckets = Buckets::linear(0.0, 1.0, 10).unwrap();
    let sizes = registry.histogram("size", "Size.").buckets(buckets).register().unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            (0..EACH).for_each(|_| sizes.observe(1.0));
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            let read = sizes.get();
            assert!(read.sum() <= read.count() as f64, "{read:?}");
        }
    });
    assert_eq!((sizes.get().count(), sizes.get().sum()), (EACH, EACH as f64));
}

#[test]
fn an_up_down_counter_never_reads_below_what_it_was() {
    let registry = Registry::new();
    let in_flight = registry.up_down_counter("in_flight", "In flight.").register().unwrap();
    let running = AtomicU64::new(2);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..100_000 {
                    // Arrives here and leaves there, by way of another thread's guard too.
                    drop((in_flight.track(), in_flight.track()));
                }
                running.fetch_sub(1, Ordering::Release);
            });
        }
        while running.load(Ordering::Acquire) > 0 {
            assert!(in_flight.get() >= 0);
        }
    });
    assert_eq!(in_flight.get(), 0);
}

#[test]
fn what_arrives_on_one_thread_and_leaves_on_another_never_reads_below_zero() {
    let registry = Registry::new();
    let in_flight = registry.up_down_counter("in_flight", "In flight.").register().unwrap();
    let (arrived, leaving) = channel();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| (0..50_000).for_each(|_| arrived.send(in_flight.clone().track()).unwrap()));
        let done = &done;
        scope.spawn(move || {
            leaving.iter().take(50_000).for_each(drop);
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            assert!(in_flight.get() >= 0);
        }
    });
    assert_eq!(in_flight.get(), 0);
}

#[test]
fn gauges_of_many_threads_lose_no_addition() {
    let registry = Registry::new();
    let level = registry.gauge("level", "Level.").labels(["l"]).register().unwrap();
    let depth = registry.int_gauge("depth", "Depth.").labels(["l"]).register().unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let kept = depth.handle(["x"]);
                for _ in 0..10_000 {
                    level.with(["x"]).add(2.0);
                    level.with(["x"]).dec();
                    kept.add(3);
                    depth.with(["x"]).sub(2);
                }
            });
        }
    });
    assert_eq!((level.with(["x"]).get(), depth.with(["x"]).get()), (40_000.0, 40_000));
}

#[test]
fn threads_that_make_the_same_series_at_once_make_it_once() {
    let registry = Registry::new();
    let jobs = registry
        .counter("jobs_total", "Jobs.")
        .labels(["a", "b"])
        .limit(100_000)
        .register()
        .unwrap();
    let start = Barrier::new(4);
    thread::scope(|scope| {
        for thread in 0..4 {
            let (jobs, start) = (&jobs, &start);
            scope.spawn(move || {
                start.wait();
                for number in 0..5_000 {
                    jobs.with((number, "common")).inc();
                    jobs.with((number, thread)).inc();
                }
            });
        }
    });
    assert_eq!(jobs.len(), 25_000);
    let values = values(&registry.snapshot());
    assert_eq!(values.values().filter(|count| **count == 4.0).count(), 5_000);
    assert_eq!(values.values().filter(|count| **count == 1.0).count(), 20_000);
}

/// Counts in series that come and go, through look-ups and kept handles. How much it recorded.
fn churn(family: &Family<Counter, 1>, seed: u64) -> u64 {
    let mut numbers = Numbers(seed);
    let mut kept: Vec<Counter> = Vec::new();
    let mut recorded = 0;
    for _ in 0..400 {
        let label = numbers.next(60);
        match numbers.next(10) {
            0 => kept.push(family.handle((label,))),
            1 if kept.len() > 5 => drop(kept.swap_remove(0)),
            2 => _ = family.remove((label,)),
            3 | 4 => {
                kept.iter().for_each(|handle| handle.add(2));
                recorded += 2 * kept.len() as u64;
            }
            _ => {
                family.with((label,)).inc();
                recorded += 1;
            }
        }
    }
    recorded
}

#[test]
fn no_series_ever_counts_what_was_recorded_for_another() {
    // Series of each thread's own labels are removed by others all the time. Whatever a series counts is a multiple of what is
    // recorded for its label alone.
    let registry = Registry::new();
    let jobs = registry
        .counter("jobs_total", "Jobs.")
        .labels(["weight"])
        .limit(100_000)
        .register()
        .unwrap();
    let energy = registry
        .float_counter("energy", "Energy.")
        .labels(["weight"])
        .register()
        .unwrap();
    let levels = registry
        .int_gauge("level", "Level.")
        .labels(["weight"])
        .register()
        .unwrap();
    let weights: [u64; 6] = [1_000_003, 1_000_033, 1_000_037, 1_000_039, 1_000_081, 1_000_099];
    let done = AtomicU64::new(0);
    thread::scope(|scope| {
        for (thread, weight) in weights.into_iter().enumerate() {
            let (jobs, energy, levels, done) = (&jobs, &energy, &levels, &done);
            scope.spawn(move || {
                let mut kept = (
                    jobs.handle((weight,)),
                    energy.handle((weight,)),
                    levels.handle((weight,)),
                );
                let mut numbers = Numbers(thread as u64);
                for _ in 0..4_000 {
                    let borrowed = jobs.with((weight,));
                    let other = weights[numbers.next(6) as usize];
                    match numbers.next(8) {
                        0 => _ = jobs.remove((other,)),
                        1 => _ = energy.remove((other,)),
                        2 => _ = levels.remove((other,)),
                        3 => {
                            kept = (
                                jobs.handle((weight,)),
                                energy.handle((weight,)),
                                levels.handle((weight,)),
                            )
                        }
                        _ => {
                            borrowed.add(weight);
                            energy.with((weight,)).add(weight as f64);
                            levels.with((weight,)).add(weight as i64);
                            kept.0.add(weight);
                            kept.1.add(weight as f64);
                            kept.2.add(weight as i64);
                        }
                    }
                }
                done.fetch_add(1, Ordering::Release);
            });
        }
        let check = || {
            let snapshot = registry.snapshot();
            for series in snapshot.families().flat_map(|family| family.series()) {
                let weight: u64 = series.label("weight").unwrap().parse().unwrap();
                let value = match series.value() {
                    Value::Counter(count) => count,
                    Value::FloatCounter(sum) => sum as u64,
                    Value::IntGauge(value) => value as u64,
                    other => panic!("{other:?}"),
                };
                assert_eq!(value % weight, 0, "{value} is no multiple of {weight}");
            }
        };
        while done.load(Ordering::Acquire) < weights.len() as u64 {
            check();
        }
        check();
    });
}

#[test]
fn with_threads_born_and_dying_and_series_coming_and_going_totals_are_exact() {
    const EACH: u64 = 300;
    let registry = Registry::new();
    let stays = registry
        .counter("stays_total", "Never removed.")
        .labels(["l"])
        .limit(100_000)
        .register()
        .unwrap();
    let comes = registry
        .counter("comes_total", "Removed now and then.")
        .labels(["l"])
        .limit(50)
        .register()
        .unwrap();
    let sizes = registry.histogram("size", "Never removed.").register().unwrap();
    let (churned, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let of = |name: &str| -> u64 {
        let snapshot = registry.snapshot();
        let count = |value| match value {
            Value::Counter(count) => count,
            Value::Histogram(histogram) => histogram.count(),
            other => panic!("{other:?}"),
        };
        snapshot
            .family(name)
            .unwrap()
            .series()
            .map(|series| count(series.value()))
            .sum()
    };
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut last = 0;
            while !stop.load(Ordering::Acquire) {
                let now = of("stays");
                assert!(now >= last);
                last = now;
            }
        });
        let line = |line: u64| {
            let (stays, comes, sizes, churned) = (&stays, &comes, &sizes, &churned);
            move || {
                for generation in 0..GENERATIONS as u64 {
                    let short_lived = || {
                        let mut numbers = Numbers(line << 32 | generation);
                        for _ in 0..EACH {
                            stays.with((numbers.next(2_000),)).inc();
                            sizes.observe(numbers.next(10) as f64);
                        }
                        churned.fetch_add(churn(comes, line << 40 | generation), Ordering::Relaxed);
                    };
                    thread::scope(|scope| drop(scope.spawn(short_lived)));
                }
            }
        };
        let lines: Vec<_> = (0..3).map(|number| scope.spawn(line(number))).collect();
        lines.into_iter().for_each(|line| line.join().unwrap());
        stop.store(true, Ordering::Release);
        watcher.join().unwrap();
    });
    let expected = 3 * GENERATIONS as u64 * EACH;
    assert_eq!((of("stays"), of("size")), (expected, expected));
    let late = registry.losses().late_writes;
    assert!(late > 0, "series were removed under their writers");
    assert!(of("comes") + late <= churned.into_inner(), "nothing is counted twice");
}

#[test]
fn recorded_is_what_series_have_and_what_was_late() {
    // Series are removed at moments when nobody writes, and read before: then nothing is unaccounted for.
    let registry = Registry::new();
    let jobs = registry
        .counter("jobs_total", "Jobs.")
        .labels(["queue"])
        .limit(30)
        .register()
        .unwrap();
    let mut recorded = 0_u64;
    let mut delivered = 0_u64;
    let mut kept: Vec<Counter> = Vec::new();
    for round in 0..GENERATIONS as u64 {
        let counts: Vec<u64> = thread::scope(|scope| {
            let threads: Vec<_> = (0..3_u64)
                .map(|thread| {
                    let (jobs, kept) = (&jobs, &kept);
                    scope.spawn(move || {
                        let mut numbers = Numbers(round << 8 | thread);
                        let mut count = 0;
                        for _ in 0..200 {
                            let amount = numbers.next(5);
                            match kept.get(numbers.next(40) as usize) {
                                Some(handle) => handle.add(amount),
                                None => jobs.with((numbers.next(50),)).add(amount),
                            }
                            count += amount;
                        }
                        count
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        recorded += counts.iter().sum::<u64>();
        let mut numbers = Numbers(round);
        kept.push(jobs.handle((numbers.next(50),)));
        if kept.len() > 20 {
            kept.swap_remove(numbers.next(20) as usize);
        }
        jobs.retain(|series| {
            let Value::Counter(count) = series.value() else {
                panic!("it is a counter")
            };
            let keep = numbers.next(3) > 0;
            if !keep {
                delivered += count;
            }
            keep
        });
        let late = registry.losses().late_writes;
        assert_eq!(
            total(&registry.snapshot()) + delivered + late,
            recorded,
            "round {round}"
        );
    }
    assert!(registry.losses().late_writes > 0 && registry.losses().past_limit > 0);
}

#[test]
fn snapshots_of_several_threads_at_once_agree() {
    let registry = Registry::new();
    let jobs = registry
        .counter("jobs_total", "Jobs.")
        .labels(["queue"])
        .register()
        .unwrap();
    (0..1000_u64).for_each(|number| jobs.with((number,)).add(number));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(total(&registry.snapshot()), 499_500);
                    assert!(!registry.scrape(None, None).body().is_empty());
                }
            });
        }
    });
}
