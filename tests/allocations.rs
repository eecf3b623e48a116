//! What allocates and what does not, and that memory follows what lives.

#![allow(unsafe_code)] // an allocator cannot be written without

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    hint::black_box,
    sync::{
        Barrier, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicIsize, Ordering},
    },
    thread,
    time::Duration,
};
use tidegauge::{Buckets, Counter, Family, Registry, testing::ManualClock};

/// Counts allocations of each thread, and bytes of all.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

static LIVE: AtomicIsize = AtomicIsize::new(0);

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    LIVE.fetch_add(bytes, Ordering::Relaxed);
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
}

// SAFETY: all is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// How often `work` allocates on this thread.
fn allocations<R>(work: impl FnOnce() -> R) -> u64 {
    let before = ALLOCATIONS.get();
    black_box(work());
    ALLOCATIONS.get() - before
}

/// How many bytes more live after `work` than before.
fn growth(work: impl FnOnce()) -> isize {
    let before = LIVE.load(Ordering::Relaxed);
    work();
    LIVE.load(Ordering::Relaxed) - before
}

/// Tests in this file run one at a time, because all see the same bytes.
fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

const KILOBYTE: isize = 1 << 10;
const MEGABYTE: isize = 1 << 20;

fn jobs(registry: &Registry, limit: usize) -> Family<Counter, 1> {
    registry
        .counter("jobs_total", "Jobs.")
        .labels(["queue"])
        .limit(limit)
        .register()
        .unwrap()
}

#[test]
fn recording_allocates_nothing_once_a_thread_has_touched_the_cells() {
    let _alone = alone();
    let registry = Registry::new();
    let counter = registry.counter("a", "A.").register().unwrap();
    let float = registry.float_counter("b", "B.").register().unwrap();
    let gauge = registry.gauge("c", "C.").register().unwrap();
    let integer = registry.int_gauge("d", "D.").register().unwrap();
    let balance = registry.up_down_counter("e", "E.").register().unwrap();
    let buckets = Buckets::linear(-5.0, 1.0, 50).unwrap();
    let histogram = registry.histogram("f", "F.").buckets(buckets).register().unwrap();
    let distribution = registry.distribution("g", "G.").register().unwrap();
    let record = || {
        counter.inc();
        counter.add(7);
        counter.add(1 << 50);
        float.add(1.5);
        float.add(f64::NAN);
        gauge.set(2.0);
        gauge.add(1.0);
        gauge.set_to_current_time();
        integer.set(5);
        integer.dec();
        balance.inc();
        balance.sub(3);
        drop((gauge.track(), integer.track(), balance.track()));
        histogram.observe(3.0);
        histogram.observe(f64::NAN);
        histogram.observe_many(-3.0, 7);
        histogram.observe_duration(Duration::from_secs(1));
        histogram.time(|| ());
        histogram.start_timer().discard();
        drop(histogram.start_timer());
        distribution.observe(3.0);
        distribution.observe(f64::INFINITY);
        distribution.observe_duration(Duration::from_secs(1));
        distribution.time(|| ());
        drop(distribution.start_timer());
        drop((counter.clone(), gauge.clone()));
    };
    record();
    assert_eq!(allocations(|| (0..1000).for_each(|_| record())), 0);
}

#[test]
fn reading_a_handle_of_a_counter_or_gauge_allocates_nothing() {
    let _alone = alone();
    let registry = Registry::new();
    let counter = registry.counter("a", "A.").register().unwrap();
    let gauge = registry.gauge("b", "B.").register().unwrap();
    let balance = registry.up_down_counter("c", "C.").register().unwrap();
    assert_eq!(allocations(|| (counter.get(), gauge.get(), balance.get())), 0);
}

#[test]
fn looking_a_series_up_allocates_nothing_once_it_is_there() {
    let _alone = alone();
    let registry = Registry::new();
    let requests = registry
        .counter("a", "A.")
        .labels(["method", "status", "cached"])
        .register()
        .unwrap();
    let levels = registry.gauge("b", "B.").labels(["zone"]).register().unwrap();
    let sizes = registry.histogram("c", "C.").labels(["zone"]).register().unwrap();
    let waits = registry.distribution("e", "E.").labels(["zone"]).register().unwrap();
    let many = registry
        .counter("d", "D.")
        .labels(["1", "2", "3", "4", "5", "6", "7", "8", "9"].map(|n| format!("l{n}")));
    let many = many.register().unwrap();
    let owned = [String::from("GET"), String::from("200"), String::from("true")];
    let look_up = || {
        requests.with(["GET", "200", "true"]).inc();
        requests.with(("GET", 200, true)).inc();
        requests.with(("GET", -1_i128, 'c')).inc();
        requests.with(&owned).inc();
        requests.handle(["GET", "200", "true"]).inc();
        levels.with(["zürich"]).set(1.0);
        levels.with(["zürich"]).inc();
        sizes.with([""]).observe(1.0);
        waits.with([""]).observe(1.0);
        many.with([
            "1",
            "2",
            "3",
            "4",
            "5",
            "6",
            "7",
            "8",
            "a ninth that is longer than the others",
        ])
        .inc();
    };
    look_up();
    assert_eq!(allocations(|| (0..1000).for_each(|_| look_up())), 0);
}

#[test]
fn label_sets_of_up_to_four_kilobytes_are_looked_up_without_allocating() {
    let _alone = alone();
    let registry = Registry::new();
    let wide = registry.counter("a", "A.").labels(["a", "b", "c"]).register().unwrap();
    for total in [10, 100, 500, 1000, 2000, 4000] {
        let (first, second, third) = ("x".repeat(total / 2), "y".repeat(total / 4), "z".repeat(total / 4));
        let look_up = || wide.with([&first, &second, &third]).inc();
        look_up();
        assert_eq!(allocations(look_up), 0, "{total} bytes");
    }
}

#[test]
fn another_thread_allocates_for_its_cells_at_its_first_touch_alone() {
    let _alone = alone();
    let registry = Registry::new();
    let jobs = jobs(&registry, 10_000);
    let handles: Vec<Counter> = (0..5_000).map(|queue| jobs.handle((queue,))).collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            handles.iter().for_each(Counter::inc);
            assert_eq!(allocations(|| handles.iter().for_each(Counter::inc)), 0);
        });
    });
}

#[test]
fn a_flood_past_the_limit_allocates_nothing() {
    let _alone = alone();
    let registry = Registry::new();
    let jobs = jobs(&registry, 10);
    (0..20).for_each(|queue| jobs.with((queue,)).inc());
    assert_eq!(
        allocations(|| (0..10_000).for_each(|queue| jobs.with((queue,)).inc())),
        0
    );
}

#[test]
fn late_writes_allocate_nothing() {
    let _alone = alone();
    let registry = Registry::new();
    let jobs = jobs(&registry, 10);
    let stale = jobs.handle(["a"]);
    stale.inc();
    jobs.remove(["a"]);
    assert_eq!(allocations(|| (0..1000).for_each(|_| stale.inc())), 0);
    assert_eq!(registry.losses().late_writes, 1000);
}

/// A registry with so many series of every kind.
fn of_size(series: u64) -> Registry {
    let registry = Registry::new();
    let limit = series as usize;
    let counters = registry
        .counter("a", "A.")
        .labels(["l"])
        .limit(limit)
        .register()
        .unwrap();
    let floats = registry
        .float_counter("b", "B.")
        .labels(["l"])
        .limit(limit)
        .register()
        .unwrap();
    let gauges = registry.gauge("c", "C.").labels(["l"]).limit(limit).register().unwrap();
    let balances = registry
        .up_down_counter("d", "D.")
        .labels(["l"])
        .limit(limit)
        .register()
        .unwrap();
    let buckets = Buckets::linear(1.0, 1.0, 5).unwrap();
    let histograms = registry
        .histogram("e", "E.")
        .labels(["l"])
        .limit(limit)
        .buckets(buckets)
        .register()
        .unwrap();
    for number in 0..series {
        let label = (format!("a value, number {number}"),);
        counters.with(&label).add(number);
        floats.with(&label).add(number as f64 * 0.1);
        gauges.with(&label).set(number as f64 * -0.1);
        balances.with(&label).add(number as i64);
        histograms.with(&label).observe(number as f64);
    }
    registry
}

#[test]
fn a_snapshot_allocates_for_families_and_not_for_series() {
    let _alone = alone();
    let [few, many] = [1_000, 10_000].map(of_size).map(|registry| {
        drop(registry.snapshot());
        allocations(|| registry.snapshot())
    });
    assert!(
        many <= few,
        "{few} allocations for 1,000 series a family, {many} for 10,000"
    );
}

#[test]
fn a_scrape_allocates_for_families_and_not_for_series() {
    let _alone = alone();
    for accept in [None, Some("application/openmetrics-text")] {
        let [few, many] = [1_000, 10_000].map(of_size).map(|registry| {
            // The first one finds out how large a body becomes.
            drop(registry.scrape(accept, None));
            allocations(|| registry.scrape(accept, None))
        });
        assert!(
            many <= few,
            "{few} allocations for 1,000 series a family, {many} for 10,000"
        );
    }
}

#[test]
fn removed_series_leave_their_memory_to_new_ones() {
    const CYCLES: u64 = 100_000;
    let _alone = alone();
    let registry = Registry::new();
    let jobs = jobs(&registry, 1_000);
    let levels = registry.gauge("level", "Level.").labels(["l"]).register().unwrap();
    let sizes = registry.histogram("size", "Size.").labels(["l"]).register().unwrap();
    let cycle = |number: u64| {
        let label = (number % 1_000_000 + 1_000_000,);
        jobs.with(label).inc();
        jobs.remove(label);
        levels.with(label).set(1.0);
        levels.remove(label);
        if number.is_multiple_of(10) {
            sizes.with(label).observe(1.0);
            sizes.remove(label);
        }
    };
    (0..1_000).for_each(cycle);
    let grown = growth(|| (1_000..CYCLES).for_each(cycle));
    // A block of cells is given up when its generations are used up, once in 65,534 lives.
    assert!(grown < 16 * KILOBYTE, "{grown} bytes more");
    assert_eq!(registry.losses(), Default::default());
}

#[test]
fn label_values_of_every_length_leave_their_memory_to_new_ones() {
    let _alone = alone();
    let registry = Registry::new();
    let jobs = jobs(&registry, 1_000);
    let cycle = |number: usize| {
        let label = ["x".repeat(number % 300)];
        jobs.with(&label).inc();
        jobs.remove(&label);
    };
    (0..1_000).for_each(cycle);
    let grown = growth(|| (0..50_000).for_each(cycle));
    assert!(grown < 16 * KILOBYTE, "{grown} bytes more");
}

#[test]
fn while_a_snapshot_is_held_removed_series_take_a_bounded_amount_of_memory() {
    let _alone = alone();
    let registry = Registry::new();
    let jobs = jobs(&registry, 1_000);
    (0..100).for_each(|queue| jobs.with((queue,)).inc());
    let cycle = |number: u64| {
        let label = (number + 1_000_000,);
        jobs.with(label).inc();
        jobs.remove(label);
    };
    (0..1_000).for_each(cycle);
    let held = registry.snapshot();
    let grown = growth(|| (0..100_000).for_each(cycle));
    assert!(grown < 4 * MEGABYTE, "{grown} bytes more");
    let further = growth(|| (0..100_000).for_each(cycle));
    assert!(further < 64 * KILOBYTE, "{further} bytes more still");
    drop(held);
    (0..50_000).for_each(cycle);
    let before = registry.losses();
    (0..50_000).for_each(cycle);
    assert_eq!(registry.losses(), before, "when it is gone there is room again");
}

#[test]
fn expired_series_leave_their_memory_to_new_ones() {
    let _alone = alone();
    let clock = ManualClock::new();
    let registry = Registry::builder().clock(clock.clone()).build().unwrap();
    let builder = registry.counter("jobs_total", "Jobs.").labels(["session"]);
    let jobs = builder.expire_after(Duration::from_secs(1)).register().unwrap();
    let mut next = 0;
    let mut round = || {
        for _ in 0..100 {
            next += 1;
            jobs.with((1_000_000 + next,)).inc();
        }
        clock.advance(Duration::from_secs(1));
        drop(registry.snapshot());
    };
    (0..20).for_each(|_| round());
    let grown = growth(|| (0..500).for_each(|_| round()));
    assert!(grown < 16 * KILOBYTE, "{grown} bytes more");
    assert_eq!(registry.losses(), Default::default());
}

#[test]
fn unregistered_metrics_leave_their_memory() {
    let _alone = alone();
    let registry = Registry::new();
    let cycle = |number: u64| {
        let jobs = jobs(&registry, 1_000);
        let sizes = registry.histogram("size", "Size.").labels(["l"]).register().unwrap();
        for queue in 0..20 {
            jobs.with((number + queue,)).inc();
            sizes.with((number + queue,)).observe(1.0);
        }
        assert!(registry.unregister("jobs") && registry.unregister("size"));
    };
    (0..20).for_each(cycle);
    let grown = growth(|| (0..500).for_each(cycle));
    assert!(grown < 16 * KILOBYTE, "{grown} bytes more");
}

#[test]
fn registries_that_are_dropped_leave_their_memory() {
    let _alone = alone();
    let cycle = |_| {
        let registry = Registry::new();
        let jobs = jobs(&registry, 1_000);
        let sizes = registry.histogram("size", "Size.").labels(["l"]).register().unwrap();
        for label in 0..20 {
            jobs.with((label,)).inc();
            sizes.with((label,)).observe(1.0);
        }
        registry.counter("plain_total", "Plain.").register().unwrap().inc();
    };
    (0..20).for_each(cycle);
    let grown = growth(|| (0..500).for_each(cycle));
    assert!(grown < 16 * KILOBYTE, "{grown} bytes more");
}

#[test]
fn a_family_outlives_its_registry_while_handles_are_kept_and_leaves_its_memory_then() {
    let _alone = alone();
    let cycle = |_| {
        let kept = jobs(&Registry::new(), 100).handle(["a"]);
        kept.add(5);
        assert_eq!(kept.clone().get(), 5);
    };
    (0..20).for_each(cycle);
    let grown = growth(|| (0..2_000).for_each(cycle));
    assert!(grown < 16 * KILOBYTE, "{grown} bytes more");
}

/// Threads that are alive at once and each count in every series.
fn crowd(threads: usize, handles: &[Counter]) {
    let alive = Barrier::new(threads);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|_| {
                let alive = &alive;
                let work = move || {
                    handles.iter().for_each(Counter::inc);
                    alive.wait();
                };
                thread::Builder::new()
                    .stack_size(64 << 10)
                    .spawn_scoped(scope, work)
                    .unwrap()
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn memory_of_a_thousand_threads_goes_with_them() {
    let _alone = alone();
    let registry = Registry::new();
    let jobs = jobs(&registry, 5_000);
    let handles: Vec<Counter> = (0..2_048).map(|queue| jobs.handle((queue,))).collect();
    // As many cells as may wait for new threads, and more.
    crowd(20, &handles);
    // Together they have more than three megabytes of cells. What stays is the lock's own note of who waited.
    let grown = growth(|| crowd(200, &handles));
    assert!(grown < 512 * KILOBYTE, "{grown} bytes more");
    let further = growth(|| {
        crowd(200, &handles);
        (0..600).for_each(|_| crowd(1, &handles));
    });
    assert!(further < 16 * KILOBYTE, "{further} bytes more still");
    assert!(handles.iter().all(|handle| handle.get() == 1_020));
}

#[test]
fn a_thread_pays_for_the_cells_that_it_touches() {
    const SERIES: usize = 20_480;
    let _alone = alone();
    let registry = Registry::new();
    let jobs = jobs(&registry, SERIES);
    let handles: Vec<Counter> = (0..SERIES).map(|queue| jobs.handle((queue,))).collect();
    handles.iter().for_each(Counter::inc);
    let (touched, seen) = (Barrier::new(2), Barrier::new(2));
    let during = |handles: &[Counter]| {
        thread::scope(|scope| {
            let mut grown = 0;
            grown += growth(|| {
                scope.spawn(|| {
                    handles.iter().for_each(Counter::inc);
                    touched.wait();
                    seen.wait();
                });
                touched.wait();
            });
            seen.wait();
            grown
        })
    };
    let few = during(&handles[..10]);
    // At worst each in a chunk of its own, and the directory of all chunks that the tests before have left.
    assert!(few < 64 * KILOBYTE, "{few} bytes for ten series");
    let all = during(&handles);
    assert!(
        all < 10 * SERIES as isize + 64 * KILOBYTE,
        "{all} bytes for {SERIES} series"
    );
}
