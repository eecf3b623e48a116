//! An exporter with its threads, as a user runs it, and destinations that behave and misbehave.

use std::{
    collections::HashSet,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};
use tidegauge::{
    Activity, Answer, Destination, Exporter, ExporterHandle, FamilySnapshot, Filter, FlushError, FlushReport, Payload,
    Points, Preferences, Registry, RetryPolicy, Temporality, Value,
    testing::{self, ManualClock},
};

/// Long enough for anything that is going to happen.
const LONG: Duration = Duration::from_secs(60);

/// Adds up what it is sent of the counter `jobs_total`, and obeys.
struct Memory {
    /// The increments of each payload.
    sent: Sender<u64>,
    /// What comes of each send; without an order it is delivered.
    orders: Receiver<Order>,
    preferences: Preferences,
}

enum Order {
    Answer(Answer),
    /// It hangs until somebody sends something, or goes.
    Hang(Receiver<()>),
}

/// The test's end of a memory.
struct Ends {
    sent: Receiver<u64>,
    orders: Sender<Order>,
}

fn memory() -> (Memory, Ends) {
    let (sent, receive_sent) = channel();
    let (orders, receive_orders) = channel();
    let ends = Ends {
        sent: receive_sent,
        orders,
    };
    let memory = Memory {
        sent,
        orders: receive_orders,
        preferences: Preferences::default(),
    };
    (memory, ends)
}

impl Destination for Memory {
    fn name(&self) -> &str {
        "memory"
    }

    fn preferences(&self) -> Preferences {
        self.preferences.clone()
    }

    fn temporality(&self, _: &FamilySnapshot) -> Temporality {
        Temporality::Delta
    }

    fn encode(&mut self, points: &mut Points<'_>, payload: &mut Vec<u8>) {
        let mut jobs = 0;
        while let Some(family) = points.next_family() {
            while let Some(point) = points.peek() {
                if let Value::Counter(count) = point.value()
                    && family.name() == "jobs_total"
                {
                    jobs += count;
                }
                points.take();
            }
        }
        payload.extend(jobs.to_le_bytes());
    }

    fn send(&mut self, payload: &Payload, _: Duration) -> Answer {
        let jobs = u64::from_le_bytes(payload.bytes().try_into().expect("it was encoded so"));
        let answer = match self.orders.try_recv() {
            Ok(Order::Answer(answer)) => answer,
            Ok(Order::Hang(until)) => {
                let _ = self.sent.send(jobs);
                let _ = until.recv();
                return Answer::delivered();
            }
            Err(_) => Answer::delivered(),
        };
        let _ = self.sent.send(jobs);
        answer
    }
}

/// An exporter whose first collection of its own comes when every test is over.
fn on_demand(destination: impl Destination) -> Exporter {
    Exporter::new(destination).interval(60 * LONG).phase(false)
}

fn jobs_only() -> Filter {
    Filter::new().families(|family| family.name() == "jobs_total")
}

/// A registry with one counter, and an exporter of it that collects when it is told to: with a random phase, a collection of its own
/// might come in between and deliver what a test counts.
fn start(registry: &Registry, set_up: impl FnOnce(Exporter) -> Exporter) -> (ExporterHandle, Ends) {
    let (memory, ends) = memory();
    let exporter = set_up(on_demand(memory).filter(jobs_only()));
    (exporter.start(registry).expect("nothing is wrong with it"), ends)
}

fn within(receiver: &Receiver<u64>) -> u64 {
    receiver.recv_timeout(LONG).expect("it was going to be sent")
}

fn jobs(registry: &Registry) -> tidegauge::Counter {
    registry
        .counter("jobs_total", "Jobs run.")
        .register()
        .expect("it is valid")
}

#[test]
fn a_flush_delivers_and_says_so() {
    let registry = Registry::new();
    let (exporter, ends) = start(&registry, |exporter| exporter);
    assert_eq!(exporter.name(), "memory");
    jobs(&registry).add(3);
    let report = exporter.flush(LONG).unwrap();
    assert_eq!((report.delivered, report.kept, report.last_error), (1, 0, None));
    assert_eq!(within(&ends.sent), 3);
    // Nothing has moved.
    assert_eq!(exporter.flush(LONG).unwrap().delivered, 0);
    let stats = exporter.stats();
    assert_eq!((stats.delivered_points, stats.delivered_payloads), (1, 1));
    assert!(stats.last_success.is_some() && stats.oldest_undelivered.is_none());
}

#[test]
fn a_shutdown_delivers_and_ends_everything() {
    let registry = Registry::new();
    let (exporter, ends) = start(&registry, |exporter| exporter);
    jobs(&registry).inc();
    assert_eq!(exporter.shutdown(LONG).unwrap().delivered, 1);
    assert_eq!(within(&ends.sent), 1);
    // Its threads have gone, and the destination with them.
    assert!(ends.sent.recv().is_err());
    let error = exporter.flush(LONG).unwrap_err();
    assert!(
        error.is_stopped() && error.to_string().contains("is shut down; start another one"),
        "{error}"
    );
    assert!(exporter.shutdown(LONG).is_err_and(|error| error.is_stopped()));
}

#[test]
fn a_drop_delivers_also_while_a_panic_unwinds() {
    let registry = Registry::new();
    let (exporter, ends) = start(&registry, |exporter| exporter.drop_deadline(LONG));
    let count = jobs(&registry);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _exporter = exporter;
        count.add(7);
        panic!("as it happens");
    }));
    assert!(panicked.is_err());
    assert_eq!(within(&ends.sent), 7);
    assert!(ends.sent.recv().is_err());
}

#[test]
fn a_send_that_hangs_holds_nobody_up() {
    let clock = ManualClock::new();
    let registry = Registry::builder().clock(clock.clone()).build().unwrap();
    let interval = Duration::from_secs(10);
    let set_up = |exporter: Exporter| exporter.interval(interval).jitter(0.0);
    let (hanging, hung) = start(&registry, set_up);
    let (other, others) = start(&registry, set_up);
    let count = jobs(&registry);
    let (release, until) = channel();
    hung.orders.send(Order::Hang(until)).unwrap();
    count.inc();
    clock.advance(interval);
    assert_eq!((within(&hung.sent), within(&others.sent)), (1, 1));
    // The first exporter hangs from here on. The other one, recording and pulling go on, and the first one collects.
    for turn in 2..=5_u32 {
        count.inc();
        clock.advance(interval);
        assert_eq!(within(&others.sent), 1);
        testing::assert_value(&registry, "jobs_total", [], f64::from(turn));
        while hanging.stats().collections < u64::from(turn) {
            thread::yield_now();
        }
    }
    let error = hanging.flush(Duration::ZERO).unwrap_err();
    assert!(error.is_timeout() && error.report().unclear == 1, "{error}");
    // The shutdown does not wait for longer than it may: no time passes here but the test's.
    let shutdown = thread::scope(|scope| {
        let shutdown = scope.spawn(|| hanging.shutdown(interval));
        while !shutdown.is_finished() {
            clock.advance(Duration::from_secs(1));
            thread::yield_now();
        }
        shutdown.join().unwrap()
    });
    let error = shutdown.unwrap_err();
    assert!(error.is_timeout() && error.report().unclear == 1, "{error}");
    drop(release);
    assert_eq!(other.shutdown(LONG).unwrap().kept, 0);
    // What hung has ended by itself: it was detached.
    assert!(hung.sent.recv().is_err());
}

/// Lets a future go on, on this thread alone.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker: Waker = Arc::new(Unpark(thread::current())).into();
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => return result,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn a_flush_can_be_awaited() {
    let registry = Registry::new();
    let (exporter, ends) = start(&registry, |exporter| exporter);
    jobs(&registry).add(4);
    let report: Result<FlushReport, FlushError> = block_on(exporter.flush_async(LONG));
    assert_eq!(report.unwrap().delivered, 1);
    assert_eq!(within(&ends.sent), 4);
    // One that nobody waits for is done all the same.
    jobs(&registry).add(5);
    drop(exporter.flush_async(LONG));
    assert_eq!(within(&ends.sent), 5);
}

#[test]
fn an_awaited_flush_ends_at_its_deadline() {
    let clock = ManualClock::new();
    let registry = Registry::builder().clock(clock.clone()).build().unwrap();
    let (exporter, ends) = start(&registry, |exporter| exporter);
    let (release, until) = channel();
    ends.orders.send(Order::Hang(until)).unwrap();
    jobs(&registry).inc();
    let flush = exporter.flush_async(Duration::from_secs(5));
    assert_eq!(within(&ends.sent), 1);
    let waiting = thread::spawn(move || block_on(flush));
    while !waiting.is_finished() {
        clock.advance(Duration::from_secs(1));
        thread::yield_now();
    }
    assert!(waiting.join().unwrap().unwrap_err().is_timeout());
    drop(release);
    assert_eq!(exporter.flush(LONG).unwrap().kept, 0);
}

#[test]
fn it_collects_when_the_clock_says_so() {
    let clock = ManualClock::new();
    let registry = Registry::builder().clock(clock.clone()).build().unwrap();
    let count = jobs(&registry);
    let (_exporter, ends) = start(&registry, |exporter| {
        exporter.interval(Duration::from_secs(30)).phase(true)
    });
    for turn in 1..=5 {
        count.add(turn);
        // The phase and the jitter are random, but the sum of both is less than two intervals.
        clock.advance(Duration::from_secs(60));
        assert_eq!(within(&ends.sent), turn);
    }
}

#[test]
fn a_shutdown_ends_every_wait_at_once() {
    let clock = ManualClock::new();
    let registry = Registry::builder().clock(clock.clone()).build().unwrap();
    let long_waits = RetryPolicy::new().initial(LONG).most(LONG);
    let (exporter, ends) = start(&registry, |exporter| exporter.retry(long_waits));
    ends.orders.send(Order::Answer(Answer::retry("no"))).unwrap();
    jobs(&registry).inc();
    // It waits for its next try now, and the clock stands still.
    let flush = exporter.flush_async(LONG);
    assert_eq!(within(&ends.sent), 1);
    let report = exporter.shutdown(LONG);
    assert_eq!(within(&ends.sent), 1);
    drop(flush);
    assert_eq!(report.unwrap().delivered, 1);
}

#[test]
fn a_flush_is_not_forgotten_while_a_collector_waits() {
    let registry = Registry::builder().clock(ManualClock::new()).build().unwrap();
    let (begun, begins) = channel();
    let (go, gone) = channel();
    let gone = Mutex::new(gone);
    // To wait for a channel takes what the thread was unparked by.
    registry.collector(move |_| {
        let _ = begun.send(());
        let _ = gone.lock().unwrap().recv();
    });
    let (exporter, _ends) = start(&registry, |exporter| exporter.drop_deadline(Duration::ZERO));
    let first = exporter.flush_async(LONG);
    begins.recv_timeout(LONG).unwrap();
    let second = exporter.flush_async(LONG);
    // Time for it to wait again; without, it could not fail, but would not either.
    (0..10_000).for_each(|_| thread::yield_now());
    go.send(()).unwrap();
    begins.recv_timeout(LONG).expect("it collects for the second flush");
    go.send(()).unwrap();
    assert!(block_on(first).is_ok() && block_on(second).is_ok());
    drop(go);
}

#[test]
fn a_name_is_free_again_after_a_shutdown_and_counts_begin_anew() {
    let registry = Registry::new();
    jobs(&registry).inc();
    let (first, _ends) = start(&registry, |exporter| exporter.name("eu"));
    assert_eq!(first.shutdown(LONG).unwrap().delivered, 1);
    let (second, _ends) = start(&registry, |exporter| exporter.name("eu"));
    assert_eq!((second.name(), second.stats().delivered_points), ("eu", 0));
    testing::assert_value(
        &registry,
        "tidegauge_exporter_points_total",
        [("exporter", "eu"), ("outcome", "delivered")],
        1.0,
    );
}

#[test]
fn exporters_that_are_started_at_once_have_names_of_their_own() {
    for _ in 0..50 {
        let registry = Registry::new();
        let started = thread::scope(|scope| {
            let starting = [(); 4].map(|()| scope.spawn(|| start(&registry, |exporter| exporter).0));
            starting.map(|starting| starting.join().unwrap())
        });
        let names: HashSet<&str> = started.iter().map(ExporterHandle::name).collect();
        assert_eq!(names.len(), 4);
    }
}

#[test]
fn the_destination_has_gone_when_a_shutdown_returns() {
    struct Slow(Arc<AtomicBool>);
    impl Destination for Slow {
        fn name(&self) -> &str {
            "slow"
        }
        fn encode(&mut self, _: &mut Points<'_>, _: &mut Vec<u8>) {}
        fn send(&mut self, _: &Payload, _: Duration) -> Answer {
            Answer::delivered()
        }
    }
    impl Drop for Slow {
        fn drop(&mut self) {
            (0..1000).for_each(|_| thread::yield_now());
            self.0.store(true, Ordering::Release);
        }
    }
    for _ in 0..20 {
        let gone = Arc::new(AtomicBool::new(false));
        let exporter = Exporter::new(Slow(gone.clone()))
            .name("a\0b")
            .start(&Registry::new())
            .unwrap();
        let _ = exporter.shutdown(LONG);
        assert!(gone.load(Ordering::Acquire));
    }
}

#[test]
fn what_the_application_gives_an_exporter_may_panic_anywhere() {
    struct Panics(&'static str, AtomicBool);
    impl Panics {
        fn once(&self, here: &str) {
            assert!(self.0 != here || self.1.swap(true, Ordering::Relaxed), "as told");
        }
    }
    impl Destination for Panics {
        fn name(&self) -> &str {
            "panics"
        }
        fn temporality(&self, _: &FamilySnapshot) -> Temporality {
            self.once("temporality");
            Temporality::Delta
        }
        fn encode(&mut self, points: &mut Points<'_>, payload: &mut Vec<u8>) {
            self.once("encode");
            while points.next_family().is_some() {
                while points.peek().is_some() {
                    payload.push(b'.');
                    points.take();
                }
            }
        }
        fn send(&mut self, _: &Payload, _: Duration) -> Answer {
            Answer::delivered()
        }
        fn activity(&self) -> Activity {
            self.once("activity");
            Activity::default()
        }
    }
    for place in ["temporality", "encode", "activity", "filter"] {
        let registry = Registry::new();
        // Removed, so that it is not in the collection's own count of points.
        jobs(&registry).inc();
        let filter = Panics(place, AtomicBool::new(false));
        let filter = Filter::new().families(move |family| {
            filter.once("filter");
            family.name() == "jobs_total"
        });
        let exporter = on_demand(Panics(place, AtomicBool::new(false))).filter(filter);
        let exporter = exporter.start(&registry).unwrap();
        registry.unregister("jobs_total");
        let first = exporter.flush(LONG);
        assert_eq!(
            first.is_ok(),
            ["activity", "filter"].contains(&place),
            "{place}: {first:?}"
        );
        assert!(exporter.flush(LONG).is_ok(), "{place}");
        assert_eq!(exporter.stats().delivered_points, 1, "{place}");
    }
}

#[test]
fn a_clock_that_panics_ends_the_exporter_and_nobody_waits_for_it() {
    struct Stops(AtomicBool);
    impl tidegauge::Clock for Stops {
        fn monotonic(&self) -> Duration {
            let ticks = thread::current().name().is_some_and(|name| name.ends_with("-tick"));
            assert!(!ticks || self.0.swap(false, Ordering::Relaxed), "as told");
            Duration::ZERO
        }
        fn unix(&self) -> Duration {
            Duration::from_secs(1_700_000_000)
        }
    }
    let registry = Registry::builder().clock(Stops(AtomicBool::new(true))).build().unwrap();
    let (exporter, ends) = start(&registry, |exporter| exporter);
    assert!(exporter.flush(LONG).is_err_and(|error| error.is_stopped()));
    assert!(ends.sent.recv().is_err(), "both threads end");
}

#[test]
fn everybody_can_see_that_the_push_is_broken() {
    let registry = Registry::builder().prefix("shop").build().unwrap();
    let (exporter, ends) = start(&registry, |exporter| exporter.name("eu"));
    jobs(&registry).inc();
    ends.orders.send(Order::Answer(Answer::rejected("no"))).unwrap();
    assert_eq!(
        exporter.flush(LONG).map(|report| report.delivered).ok(),
        Some(0),
        "the name has a prefix, and is not selected"
    );
    let text = String::from_utf8(registry.scrape(None, None).into_body()).unwrap();
    for line in [
        "tidegauge_exporter_points_total{exporter=\"eu\",outcome=\"delivered\"} 0",
        "tidegauge_exporter_payloads_total{exporter=\"eu\",outcome=\"rejected\"} 0",
        "tidegauge_exporter_dropped_points_total{exporter=\"eu\",reason=\"queue_full\"} 0",
        "tidegauge_exporter_queue_collections{exporter=\"eu\"} 0.0",
        "tidegauge_exporter_queue_capacity_collections{exporter=\"eu\"} 64.0",
        "tidegauge_exporter_oldest_undelivered_age_seconds{exporter=\"eu\"} 0.0",
        "tidegauge_exporter_collection_duration_seconds_count{exporter=\"eu\"} 1",
        "tidegauge_losses_total{reason=\"past_limit\"} 0",
        "shop_jobs_total 1",
    ] {
        let is_there = text
            .lines()
            .any(|each| each == line || each == line.trim_end_matches(".0"));
        assert!(is_there, "{line} is not in\n{text}");
    }
    assert!(text.contains("\ntidegauge_uptime_seconds "));
}

#[test]
fn a_full_registry_has_room_for_what_an_exporter_says_of_itself() {
    let registry = Registry::builder().series_limit(1).build().unwrap();
    let by_queue = registry
        .counter("queues_total", "By queue.")
        .labels(["queue"])
        .register()
        .unwrap();
    by_queue.with(["mail"]).inc();
    let (exporter, _ends) = start(&registry, |exporter| exporter);
    jobs(&registry).inc();
    assert_eq!(exporter.flush(LONG).unwrap().delivered, 1);
    let labels = [("exporter", "memory"), ("outcome", "delivered")];
    testing::assert_value(&registry, "tidegauge_exporter_points_total", labels, 1.0);
    assert_eq!(registry.losses().past_limit, 0);
    by_queue.with(["print"]).inc();
    assert_eq!(registry.losses().past_limit, 1);
}

#[test]
fn what_cannot_be_started_says_why() {
    let registry = Registry::new();
    let start = |exporter: Exporter| exporter.start(&registry).unwrap_err().to_string();
    let exporter = || Exporter::new(memory().0);
    assert_eq!(
        start(exporter().interval(Duration::ZERO)),
        "exporter's interval: must not be zero; a second is short already"
    );
    assert!(start(exporter().jitter(1.5)).contains("jitter: 1.5 is not a part of the interval"));
    registry
        .gauge("tidegauge_exporter_points", "Somebody else's.")
        .register()
        .unwrap();
    let error = exporter().start(&registry).unwrap_err();
    assert!(std::error::Error::source(&error).is_some(), "{error}");
}

#[test]
fn a_destination_that_is_disabled_costs_nothing() {
    let registry = Registry::new();
    let (mut memory, ends) = memory();
    memory.preferences.disabled = true;
    let exporter = Exporter::new(memory).start(&registry).unwrap();
    jobs(&registry).inc();
    assert_eq!(exporter.flush(LONG), Ok(FlushReport::default()));
    assert_eq!(exporter.shutdown(LONG), Ok(FlushReport::default()));
    assert!(ends.sent.recv().is_err());
}

#[test]
fn debug_tells_no_more_than_is_good() {
    let registry = Registry::new();
    let (exporter, _ends) = start(&registry, |exporter| exporter);
    let text = format!("{exporter:?} {:?}", Exporter::new(memory().0));
    assert!(text.contains("\"memory\""), "{text}");
}
