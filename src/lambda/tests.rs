//! Invocations by a clock that is moved, to a far end that may take its time of it.

use super::*;
use crate::{
    Answer, Counter, Destination, FamilySnapshot, Filter, Gauge, Payload, Points, Temporality, Value,
    testing::ManualClock,
};
use std::{
    sync::{Arc, Mutex},
    task::{Wake, Waker},
    thread::{self, Thread},
};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// What the far end has, and how it behaves.
#[derive(Default)]
struct FarEnd {
    orders: u64,
    points: usize,
    payloads: usize,
    reconnects: usize,
    is_away: bool,
    /// How long it takes to answer the next time.
    takes: Duration,
}

struct Way {
    far_end: Arc<Mutex<FarEnd>>,
    clock: ManualClock,
}

impl Destination for Way {
    fn name(&self) -> &str {
        "far-end"
    }

    fn temporality(&self, _: &FamilySnapshot) -> Temporality {
        Temporality::Delta
    }

    fn encode(&mut self, points: &mut Points<'_>, payload: &mut Vec<u8>) {
        while points.next_family().is_some() {
            while let Some(point) = points.peek() {
                let count = match point.value() {
                    Value::Counter(count) => count,
                    _ => 0,
                };
                payload.extend(count.to_le_bytes());
                points.take();
            }
        }
    }

    fn send(&mut self, payload: &Payload, _: Duration) -> Answer {
        let mut far_end = self.far_end.lock().unwrap();
        self.clock.advance(std::mem::take(&mut far_end.takes));
        if far_end.is_away {
            return Answer::retry("nobody is there");
        }
        far_end.payloads += 1;
        for count in payload.bytes().chunks_exact(8) {
            far_end.points += 1;
            far_end.orders += u64::from_le_bytes(count.try_into().unwrap());
        }
        Answer::delivered()
    }

    fn reconnect(&mut self) {
        self.far_end.lock().unwrap().reconnects += 1;
    }
}

struct Function {
    lambda: Lambda,
    clock: ManualClock,
    far_end: Arc<Mutex<FarEnd>>,
    orders: Counter,
    load: Gauge,
}

impl Function {
    fn new(flush: LambdaFlush) -> Function {
        let clock = ManualClock::new();
        let far_end = Arc::default();
        let registry = Registry::builder().clock(clock.clone()).build().unwrap();
        let way = Way {
            far_end: Arc::clone(&far_end),
            clock: clock.clone(),
        };
        let is_own = |family: &FamilySnapshot| family.name().starts_with("tidegauge_");
        let exporter = Exporter::new(way)
            .filter(Filter::new().families(move |family| !is_own(family)))
            // The clock stands still while it is dropped.
            .drop_deadline(Duration::ZERO);
        Function {
            // An interval that would be over between any two invocations.
            lambda: Lambda::start(exporter.interval(MS), &registry).unwrap().flush(flush),
            orders: registry.counter("orders", "Orders.").register().unwrap(),
            load: registry.gauge("load", "Load.").register().unwrap(),
            clock,
            far_end,
        }
    }

    /// The end of an invocation that has so much time left.
    fn end(&self, remaining: Duration) -> Result<Option<FlushReport>, FlushError> {
        self.lambda.end_invocation(self.deadline(remaining))
    }

    fn deadline(&self, remaining: Duration) -> SystemTime {
        UNIX_EPOCH + crate::Clock::unix(&self.clock) + remaining
    }

    /// Whether an invocation flushes.
    #[track_caller]
    fn flushes(&self) -> bool {
        self.end(3 * SECOND).unwrap().is_some()
    }

    fn far_end<R>(&self, change: impl FnOnce(&mut FarEnd) -> R) -> R {
        change(&mut self.far_end.lock().unwrap())
    }
}

#[test]
fn what_has_moved_is_delivered_with_every_invocation_and_once() {
    let function = Function::new(LambdaFlush::EveryInvocation);
    for invocation in 1..=20 {
        function.orders.inc();
        assert!(function.flushes());
        assert_eq!(function.far_end(|far_end| far_end.orders), invocation);
        function.clock.advance(SECOND);
    }
    // Each has its counter and its gauge.
    assert_eq!(function.far_end(|far_end| (far_end.payloads, far_end.points)), (20, 40));
    for _ in 0..20 {
        assert!(function.flushes());
    }
    assert_eq!(
        function.far_end(|far_end| (far_end.payloads, far_end.points)),
        (40, 60),
        "gauges alone"
    );
    assert_eq!(function.lambda.exporter().stats().collections, 40);
}

#[test]
fn flushing_by_age_bounds_what_is_sent_and_loses_nothing() {
    let function = Function::new(LambdaFlush::AtMostEvery(10 * SECOND));
    let mut flushes = Vec::new();
    for invocation in 0..100 {
        function.orders.inc();
        function.load.set(f64::from(invocation));
        if function.flushes() {
            flushes.push(invocation);
        }
        function.clock.advance(300 * MS);
    }
    assert_eq!(flushes, [0, 34, 68]);
    assert_eq!(function.far_end(|far_end| far_end.points), 6);
    assert_eq!(function.far_end(|far_end| far_end.orders), 69);
    function.lambda.shutdown(function.deadline(500 * MS)).unwrap();
    assert_eq!(function.far_end(|far_end| far_end.orders), 100);
}

#[test]
fn nothing_is_sent_before_the_end_if_that_is_asked_for() {
    let function = Function::new(LambdaFlush::OnShutdown);
    for _ in 0..10 {
        function.orders.inc();
        assert!(!function.flushes());
        function.clock.advance(3600 * SECOND);
    }
    assert_eq!(
        function.lambda.exporter().stats().collections,
        0,
        "nor in the background"
    );
    let report = function.lambda.shutdown(function.deadline(500 * MS)).unwrap();
    assert_eq!((report.delivered, function.far_end(|far_end| far_end.orders)), (2, 10));
    assert!(function.end(SECOND).unwrap().is_none());
}

#[test]
fn a_flush_ends_in_time_for_the_answer() {
    for (remaining, expected) in [(800 * MS, "700ms"), (60 * SECOND, "2s"), (101 * MS, "1ms")] {
        let function = Function::new(LambdaFlush::EveryInvocation);
        function.far_end(|far_end| (far_end.is_away, far_end.takes) = (true, 5 * SECOND));
        function.orders.add(7);
        let error = function.end(remaining).unwrap_err();
        assert!(error.is_timeout() && error.to_string().contains(expected), "{error}");
        // It is back with the next invocation, which delivers both.
        function.far_end(|far_end| far_end.is_away = false);
        function.orders.add(3);
        assert!(function.flushes());
        assert_eq!(function.far_end(|far_end| far_end.orders), 10);
    }
}

#[test]
fn margin_and_patience_are_as_they_are_set() {
    let mut function = Function::new(LambdaFlush::EveryInvocation);
    function.lambda = function.lambda.margin(250 * MS).patience(10 * SECOND);
    function.far_end(|far_end| (far_end.is_away, far_end.takes) = (true, 60 * SECOND));
    let error = function.end(SECOND).unwrap_err();
    assert!(error.to_string().contains("750ms"), "{error}");
    function.far_end(|far_end| far_end.takes = 60 * SECOND);
    let error = function.end(60 * SECOND).unwrap_err();
    assert!(error.to_string().contains("10s"), "{error}");
}

#[test]
fn an_invocation_without_time_says_so_and_is_made_up_for() {
    let function = Function::new(LambdaFlush::AtMostEvery(10 * SECOND));
    function.orders.inc();
    for remaining in [Duration::ZERO, 100 * MS] {
        let error = function.end(remaining).unwrap_err();
        assert!(error.is_timeout(), "{error}");
    }
    assert!(function.lambda.end_invocation(UNIX_EPOCH - SECOND).is_err());
    assert!(function.flushes(), "it was not tried");
    assert_eq!(function.far_end(|far_end| far_end.orders), 1);
}

#[test]
fn a_far_end_that_is_away_is_asked_no_more_often_than_others() {
    let function = Function::new(LambdaFlush::AtMostEvery(10 * SECOND));
    function.far_end(|far_end| (far_end.is_away, far_end.takes) = (true, 5 * SECOND));
    function.orders.inc();
    assert!(function.end(3 * SECOND).is_err());
    assert!(!function.flushes());
}

#[test]
fn a_process_that_thaws_neither_catches_up_nor_trusts_its_connections() {
    let function = Function::new(LambdaFlush::EveryInvocation);
    for _ in 0..3 {
        function.orders.inc();
        assert!(function.flushes());
        function.clock.advance(SECOND);
    }
    assert_eq!(function.far_end(|far_end| far_end.reconnects), 0);
    function.clock.advance(7 * 3600 * SECOND);
    function.orders.inc();
    assert!(function.flushes());
    assert_eq!(function.far_end(|far_end| (far_end.reconnects, far_end.orders)), (1, 4));
    assert!(function.flushes());
    assert_eq!(function.far_end(|far_end| far_end.reconnects), 1);
    assert_eq!(function.lambda.exporter().stats().collections, 5);
}

#[test]
fn a_freeze_that_stops_the_monotonic_clock_counts_too() {
    let function = Function::new(LambdaFlush::AtMostEvery(3600 * SECOND));
    assert!(function.flushes());
    assert!(!function.flushes());
    let unix = crate::Clock::unix(&function.clock);
    function.clock.set_unix(unix + 3600 * SECOND);
    assert!(function.flushes());
    assert_eq!(function.far_end(|far_end| far_end.reconnects), 1);
    // An administrator sets it back: the other clock says when.
    function.clock.set_unix(unix);
    assert!(!function.flushes());
    function.clock.advance(3600 * SECOND);
    assert!(function.flushes());
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[test]
fn async_code_waits_for_the_same() {
    let function = Function::new(LambdaFlush::AtMostEvery(10 * SECOND));
    let waker: Waker = Arc::new(Unpark(thread::current())).into();
    let mut context = Context::from_waker(&waker);
    let mut wait = |mut end: InvocationEnd| {
        loop {
            match Pin::new(&mut end).poll(&mut context) {
                Poll::Ready(result) => return result,
                Poll::Pending => thread::park(),
            }
        }
    };
    function.orders.add(5);
    let deadline = function.deadline(3 * SECOND);
    assert!(wait(function.lambda.end_invocation_async(deadline)).unwrap().is_some());
    assert_eq!(function.far_end(|far_end| far_end.orders), 5);
    assert!(wait(function.lambda.end_invocation_async(deadline)).unwrap().is_none());
}
