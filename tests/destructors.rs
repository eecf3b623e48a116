//! What other thread-local values record while their thread ends is counted too.

use std::{cell::RefCell, thread};
use tidegauge::{
    Counter, Family, FloatCounter, Gauge, Histogram, InFlight, Losses, Registry, Timer, UpDownCounter,
    testing::ManualClock,
};

type Work = Box<dyn FnOnce()>;

/// Does what it was given when it is dropped.
#[derive(Default)]
struct AtEnd(RefCell<Vec<Work>>);

impl Drop for AtEnd {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(|work| work());
    }
}

thread_local! {
    static FIRST: AtEnd = AtEnd::default();
    static SECOND: AtEnd = AtEnd::default();
    static TIMER: RefCell<Option<Timer>> = const { RefCell::new(None) };
    static GUARD: RefCell<Option<InFlight<UpDownCounter>>> = const { RefCell::new(None) };
}

fn at_end(value: &'static thread::LocalKey<AtEnd>, work: impl FnOnce() + 'static) {
    value.with(|at_end| at_end.0.borrow_mut().push(Box::new(work)));
}

fn on_a_thread(work: impl FnOnce() + Send + 'static) {
    thread::spawn(work).join().unwrap();
}

struct Instruments {
    registry: Registry,
    jobs: Counter,
    by_queue: Family<Counter, 1>,
    energy: FloatCounter,
    level: Gauge,
    in_flight: UpDownCounter,
    sizes: Histogram,
}

impl Instruments {
    fn new() -> Self {
        let registry = Registry::new();
        Instruments {
            jobs: registry.counter("jobs_total", "Jobs.").register().unwrap(),
            by_queue: registry
                .counter("by_queue_total", "Jobs.")
                .labels(["queue"])
                .register()
                .unwrap(),
            energy: registry.float_counter("energy_joules", "Energy.").register().unwrap(),
            level: registry.gauge("level", "Level.").register().unwrap(),
            in_flight: registry.up_down_counter("in_flight", "In flight.").register().unwrap(),
            sizes: registry.histogram("size", "Size.").register().unwrap(),
            registry,
        }
    }

    /// Records once with everything.
    fn recording(&self) -> impl Fn() + Clone + Send + 'static {
        let (jobs, by_queue, energy) = (self.jobs.clone(), self.by_queue.clone(), self.energy.clone());
        let (level, in_flight, sizes) = (self.level.clone(), self.in_flight.clone(), self.sizes.clone());
        move || {
            jobs.inc();
            by_queue.with(["q"]).add(2);
            energy.add(0.5);
            level.add(1.0);
            in_flight.add(-3);
            sizes.observe_many(2.0, 4);
        }
    }

    fn expect(&self, times: u64) {
        assert_eq!(self.jobs.get(), times);
        assert_eq!(self.by_queue.with(["q"]).get(), 2 * times);
        assert_eq!(self.energy.get(), times as f64 * 0.5);
        assert_eq!(self.level.get(), times as f64);
        assert_eq!(self.in_flight.get(), times as i64 * -3);
        assert_eq!(
            (self.sizes.get().count(), self.sizes.get().sum()),
            (4 * times, 8.0 * times as f64)
        );
        assert_eq!(self.registry.losses(), Losses::default());
    }
}

#[test]
fn what_a_value_that_was_there_before_the_first_recording_records_at_the_end() {
    let instruments = Instruments::new();
    let record = instruments.recording();
    on_a_thread(move || {
        at_end(&FIRST, record.clone());
        record();
    });
    instruments.expect(2);
}

#[test]
fn what_a_value_that_came_after_the_first_recording_records_at_the_end() {
    let instruments = Instruments::new();
    let record = instruments.recording();
    on_a_thread(move || {
        record();
        at_end(&FIRST, record);
    });
    instruments.expect(2);
}

#[test]
fn what_values_on_both_sides_of_the_first_recording_record_at_the_end() {
    let instruments = Instruments::new();
    for thread in 1..=20 {
        let record = instruments.recording();
        on_a_thread(move || {
            at_end(&FIRST, record.clone());
            record();
            at_end(&SECOND, record.clone());
            record();
        });
        instruments.expect(4 * thread);
    }
}

#[test]
fn a_thread_that_records_only_at_its_end() {
    let instruments = Instruments::new();
    let record = instruments.recording();
    on_a_thread(move || at_end(&FIRST, record));
    instruments.expect(1);
}

#[test]
fn a_destructor_that_makes_a_value_whose_destructor_records() {
    let instruments = Instruments::new();
    let record = instruments.recording();
    on_a_thread(move || {
        at_end(&FIRST, move || {
            record();
            at_end(&SECOND, record);
        });
    });
    instruments.expect(2);
}

#[test]
fn a_destructor_that_registers_looks_up_reads_and_collects() {
    let instruments = Instruments::new();
    let (jobs, by_queue) = (instruments.jobs.clone(), instruments.by_queue.clone());
    let registry = instruments.registry.clone();
    on_a_thread(move || {
        at_end(&FIRST, move || {
            by_queue.with(["new"]).add(7);
            registry.counter("new_total", "New.").register().unwrap().inc();
            let families = registry.snapshot().families().count() as u64;
            jobs.add(families * 100 + by_queue.with(["new"]).get());
        });
        FIRST.with(|_| ());
    });
    assert_eq!(
        (instruments.jobs.get(), instruments.by_queue.with(["new"]).get()),
        (707, 7)
    );
}

#[test]
fn amounts_too_large_for_a_cell_at_the_end() {
    let instruments = Instruments::new();
    let (jobs, sizes) = (instruments.jobs.clone(), instruments.sizes.clone());
    on_a_thread(move || {
        at_end(&FIRST, {
            let (jobs, sizes) = (jobs.clone(), sizes.clone());
            move || {
                jobs.add(1 << 62);
                jobs.add((1 << 47) - 1);
                sizes.observe_many(1.0, 1 << 50);
            }
        });
        jobs.inc();
        sizes.observe(1.0);
    });
    assert_eq!(instruments.jobs.get(), (1 << 62) + (1 << 47));
    let expected = (1 << 50) + 1;
    assert_eq!(
        (instruments.sizes.get().count(), instruments.sizes.get().sum()),
        (expected, expected as f64)
    );
}

#[test]
fn a_guard_and_a_timer_that_the_thread_keeps_end_with_it() {
    let clock = ManualClock::new();
    let registry = Registry::builder().clock(clock.clone()).build().unwrap();
    let in_flight = registry.up_down_counter("threads_alive", "Alive.").register().unwrap();
    let lives = registry
        .histogram("life_seconds", "How long threads live.")
        .register()
        .unwrap();
    let (alive, life) = (in_flight.clone(), lives.clone());
    on_a_thread(move || {
        GUARD.set(Some(alive.track()));
        TIMER.set(Some(life.start_timer()));
        assert_eq!(alive.get(), 1);
        clock.advance(std::time::Duration::from_secs(2));
    });
    assert_eq!((in_flight.get(), lives.get().count(), lives.get().sum()), (0, 1, 2.0));
}

#[test]
fn what_is_late_at_the_end_is_counted_as_such_and_goes_nowhere_else() {
    let instruments = Instruments::new();
    let stale = instruments.by_queue.handle(["q"]);
    let (family, writing) = (instruments.by_queue.clone(), stale.clone());
    on_a_thread(move || {
        at_end(&FIRST, {
            let writing = writing.clone();
            move || writing.add(5)
        });
        writing.inc();
        family.remove(["q"]);
        for queue in ["r", "s", "t"] {
            family.with([queue]).inc();
        }
        at_end(&SECOND, move || writing.add(7));
    });
    let counts = ["r", "s", "t"].map(|queue| instruments.by_queue.with([queue]).get());
    assert_eq!(counts, [1, 1, 1]);
    assert_eq!(instruments.registry.losses().late_writes, 12);
}

#[test]
fn what_was_recorded_at_the_end_does_not_outlive_its_series() {
    let instruments = Instruments::new();
    for _ in 0..3 {
        let family = instruments.by_queue.clone();
        on_a_thread(move || {
            at_end(&FIRST, {
                let family = family.clone();
                move || family.with(["q"]).add(5)
            });
            family.with(["q"]).inc();
        });
        assert_eq!(instruments.by_queue.with(["q"]).get(), 6);
        instruments.by_queue.remove(["q"]);
    }
    assert_eq!(instruments.by_queue.with(["q"]).get(), 0);
    assert_eq!(instruments.registry.losses(), Losses::default());
}

#[test]
fn threads_that_end_at_once_lose_nothing() {
    const THREADS: u64 = 40;
    let instruments = Instruments::new();
    for round in 1..=5 {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let record = instruments.recording();
                thread::spawn(move || {
                    at_end(&FIRST, record.clone());
                    record();
                    at_end(&SECOND, record);
                })
            })
            .collect();
        // Joining waits for destructors too, which the end of a scope does not.
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        instruments.expect(round * THREADS * 3);
    }
}
