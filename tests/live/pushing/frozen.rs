//! Functions that are frozen between their invocations, and within them, with a real Collector that is another process when
//! they thaw: what was recorded has come at the end, and nothing more often than it was recorded.
//!
//! A function is a process of its own, which the test invokes by a line, stops and lets go on. Nothing waits for a freeze to be long:
//! the clock that the function has its time from is put forward when it thaws.

mod gate;

use super::faults::without_duplicates;
use super::{assert_totals, eager, otlp, patient, recorded};
use crate::collector::{Collector, Settings};
use crate::points::{self, Number, Point, Series, Temporality, Value, texts, totals};
use crate::program::{PATIENCE, Program};
use gate::{Fate, Gate, Stage};
use std::collections::{BTreeMap, HashMap};
use std::env;
use std::io::{self, BufRead, Write};
use std::process::{ChildStdin, Command};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::thread;
use std::time::{Duration, UNIX_EPOCH};
use tidegauge::{Buckets, Clock, Lambda, LambdaFlush, Registry, SystemClock, TemporalityPreference};

/// How long a freeze is by the function's clock, if it is a long one.
const HOUR: u64 = 3600;

// Frozen between invocations

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn a_function_that_is_frozen_between_invocations_delivers_each_once() {
    let function = frozen_between_invocations("every", |_, _| true);
    // One point for each invocation that had something for the series.
    assert_eq!(function.windows("orders", "even"), function.rounds_with_even);
    assert_eq!(function.windows("orders", "all"), function.rounds_with_any);
    assert_eq!(function.windows("sizes", "all"), function.rounds_with_any);
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn a_function_that_flushes_by_age_delivers_after_each_long_freeze() {
    let function = frozen_between_invocations("at-most-every-minute", |round, jumped| round == 0 || jumped);
    assert_eq!(function.windows("orders", "all"), function.flushes_with_any);
    assert!(function.flushes_with_any < function.rounds_with_any);
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn a_function_that_flushes_when_it_ends_delivers_all_at_once() {
    let function = frozen_between_invocations("on-shutdown", |_, _| false);
    assert_eq!(function.windows("orders", "even"), 1);
    assert_eq!(function.windows("sizes", "all"), 1);
}

const ROUNDS: u64 = 16;

/// What has come of a function, and what it was to come to.
struct Ended {
    points: Vec<Point>,
    rounds_with_any: usize,
    rounds_with_even: usize,
    /// Flushes, the last one included, since whose last something was recorded.
    flushes_with_any: usize,
}

impl Ended {
    /// How many points a series has.
    fn windows(&self, name: &str, kind: &str) -> usize {
        let wanted = texts([("kind", kind)]);
        let of_series = |point: &&Point| point.series.name == name && point.series.attributes == wanted;
        self.points.iter().filter(of_series).count()
    }
}

/// Invokes a function that flushes as `policy` says, freezes it after each invocation, and has another Collector there when it thaws,
/// at the place of the one before.
fn frozen_between_invocations(policy: &str, flushes: impl Fn(u64, bool) -> bool) -> Ended {
    let mut collector = Collector::start(Settings::default());
    let mut function = Function::start(&collector.url(), policy);
    let (mut rounds_with_any, mut rounds_with_even, mut flushes_with_any) = (0, 0, 0);
    let (mut jumped, mut is_new) = (false, false);
    for round in 0..ROUNDS {
        // In some there is nothing to record.
        let orders = round % 5;
        function.invoke(orders);
        let answer = function.answer();
        rounds_with_any += usize::from(orders > 0);
        rounds_with_even += usize::from(orders > 0 && orders.is_multiple_of(2));
        is_new |= orders > 0;
        let expected = match flushes(round, jumped) {
            true => "delivered",
            false => "nothing was due",
        };
        assert_eq!(answer, expected, "{policy}, invocation {round}");
        if expected == "delivered" {
            flushes_with_any += usize::from(std::mem::take(&mut is_new));
        }
        function.program.freeze();
        match round % 3 {
            0 => collector.stop(),
            1 => collector.kill(),
            _ => {}
        }
        if round % 3 != 2 {
            collector.start_again();
        }
        function.program.thaw();
        jumped = round % 4 == 1;
        if jumped {
            function.jump(HOUR);
        }
    }
    let duplicates = function.end();
    flushes_with_any += usize::from(is_new);
    let points = recorded(collector.points());
    let (once, twice) = without_duplicates(points.clone());
    assert_eq!(twice, 0, "{policy}");
    assert_windows(&once);
    assert_totals(&totals(&once), &function.expected(), policy);
    println!(
        "{policy}: {} points, {duplicates} possible duplicates counted",
        points.len()
    );
    Ended {
        points,
        rounds_with_any,
        rounds_with_even,
        flushes_with_any,
    }
}

// Frozen in mid-flush

/// The Collector never has the request of the first try, or the function hears of it when it thaws: in no case is anything there twice.
#[test]
#[ignore = "needs the servers of .ci/servers"]
fn a_function_that_is_frozen_while_it_flushes_delivers_once() {
    let fates = [
        (Stage::Request, Fate::CutOff),
        (Stage::Request, Fate::PassedOn),
        (Stage::Reply, Fate::PassedOn),
    ];
    let (twice, _) = frozen_in_mid_flush(&fates);
    assert_eq!(twice, 0);
}

/// Nobody can tell this from a request that has not arrived. It is the one case in which points come twice: they are the very same
/// ones, with the same times, and are counted as possible duplicates.
#[test]
#[ignore = "needs the servers of .ci/servers"]
fn what_an_answer_is_lost_of_comes_again_as_the_same_points() {
    let (twice, counted) = frozen_in_mid_flush(&[(Stage::Reply, Fate::CutOff)]);
    println!("{twice} points came twice, {counted} were counted as possible duplicates");
    assert!(
        twice > 0 && twice <= counted,
        "{twice} points came twice, and {counted} were counted"
    );
}

/// Freezes a function while a request of its or the answer is on its way, and has another Collector there when it thaws, for a short
/// and for a long freeze each. How many points came twice, and how many were counted that may have.
fn frozen_in_mid_flush(fates: &[(Stage, Fate)]) -> (u64, u64) {
    let mut collector = Collector::start(Settings::default());
    let gate = Gate::before(collector.url());
    let mut function = Function::start(&gate.url(), "every");
    let mut orders = 0;
    for (stage, fate) in fates {
        for freeze in [0, HOUR] {
            orders += 1;
            function.invoke(orders);
            assert_eq!(function.answer(), "delivered");
            orders += 1;
            gate.hold(*stage);
            function.invoke(orders);
            gate.wait_until_held();
            function.program.freeze();
            collector.stop();
            collector.start_again();
            gate.release(*fate);
            if freeze > 0 {
                function.jump(freeze);
            }
            function.program.thaw();
            // By its clock it may be too late.
            let answer = function.answer();
            println!("{stage:?}, {fate:?}, {freeze} s: {answer}");
            orders += 1;
            function.invoke(orders);
            assert_eq!(function.answer(), "delivered", "{stage:?}, {fate:?}");
        }
    }
    let counted = function.end();
    let (once, twice) = without_duplicates(recorded(collector.points()));
    assert_windows(&once);
    assert_totals(&totals(&once), &function.expected(), "each point once");
    (twice, counted)
}

/// That no two points of a series are of the same time.
fn assert_windows(points: &[Point]) {
    let mut of_series: BTreeMap<&Series, Vec<(u64, u64)>> = BTreeMap::new();
    for point in points.iter().filter(|point| point.series.temporality.is_some()) {
        let windows = of_series.entry(&point.series).or_default();
        windows.push((point.start, point.time));
    }
    for (series, windows) in of_series {
        for (start, end) in &windows {
            assert!(start < end, "{series:?}: {windows:?}");
        }
        for pair in windows.windows(2) {
            assert!(pair[1].0 >= pair[0].1, "two of {series:?} overlap: {windows:?}");
        }
    }
}

// The function, as the test has it

/// A function's process, and what was recorded there.
struct Function {
    program: Program,
    input: ChildStdin,
    orders: Vec<u64>,
}

impl Function {
    fn start(url: &str, policy: &str) -> Function {
        let (program, input) = Program::start_with_input(
            Command::new(env::current_exe().unwrap())
                .args(["--exact", "pushing::frozen::the_function", "--ignored", "--nocapture"])
                .env(FUNCTION, format!("{url} {policy}")),
        );
        Function {
            program,
            input,
            orders: Vec::new(),
        }
    }

    /// Begins an invocation in which so much is recorded.
    fn invoke(&mut self, orders: u64) {
        self.orders.push(orders);
        self.say(&format!("invoke {orders}"));
    }

    /// What came of its flush.
    fn answer(&mut self) -> String {
        self.hear(ANSWER)
    }

    /// Puts its clock forward.
    fn jump(&mut self, seconds: u64) {
        self.say(&format!("jump {seconds}"));
    }

    /// Ends it; how many points it has counted that may have come twice.
    fn end(&mut self) -> u64 {
        self.say("end");
        let duplicates = self.hear(DUPLICATES).parse().unwrap();
        assert!(self.program.wait_for_end().unwrap().success());
        duplicates
    }

    fn say(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap_or_else(|error| panic!("{}", self.program.report(&error.to_string())));
    }

    fn hear(&mut self, key: &str) -> String {
        let line = |line: &str| Some(line.split_once(key)?.1.to_owned());
        self.program
            .wait_for_line(PATIENCE, line)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// What the far end has to have.
    fn expected(&self) -> HashMap<Series, Value> {
        let mut expected = HashMap::new();
        let series = |name: &str, kind: &str, temporality| Series {
            name: name.to_owned(),
            attributes: texts([("kind", kind)]),
            temporality,
        };
        let delta = Some(Temporality::Delta);
        let any = || self.orders.iter().filter(|orders| **orders > 0);
        for (kind, count) in [
            ("all", any().sum::<u64>()),
            ("even", any().filter(|orders| orders.is_multiple_of(2)).sum()),
        ] {
            let value = Value::Sum {
                value: Number::Integer(count.try_into().unwrap()),
                monotonic: true,
            };
            expected.insert(series("orders", kind, delta), value);
        }
        let of_bucket = |low: u64, high: u64| any().filter(|orders| (low..high).contains(orders)).count() as u64;
        let sizes = points::Histogram {
            count: any().count() as u64,
            sum: Some(any().sum::<u64>() as f64),
            min: None,
            max: None,
            bounds: BOUNDS.to_vec(),
            buckets: vec![of_bucket(0, 3), of_bucket(3, 5), of_bucket(5, u64::MAX)],
        };
        expected.insert(series("sizes", "all", delta), Value::Histogram(sizes));
        let level = Value::Gauge(Number::Integer(*self.orders.last().unwrap() as i64));
        expected.insert(series("level", "last", None), level);
        expected
    }
}

const FUNCTION: &str = "TIDEGAUGE_TEST_FUNCTION";
const ANSWER: &str = "answer=";
const DUPLICATES: &str = "duplicates=";
const BOUNDS: [f64; 2] = [2.0, 4.0];

// The function itself

/// The process that the tests above invoke, freeze and thaw. Without them it does nothing.
#[test]
#[ignore = "is run by the tests above"]
fn the_function() {
    let Ok(told) = env::var(FUNCTION) else {
        return;
    };
    let (url, policy) = told.split_once(' ').expect("the test says both");
    let flush = match policy {
        "every" => LambdaFlush::EveryInvocation,
        "on-shutdown" => LambdaFlush::OnShutdown,
        _ => LambdaFlush::AtMostEvery(Duration::from_secs(60)),
    };
    let clock = Moved::default();
    let registry = Registry::builder().clock(clock.clone()).build().unwrap();
    let orders = registry
        .counter("orders", "Orders.")
        .labels(["kind"])
        .register()
        .unwrap();
    let sizes = registry.histogram("sizes", "Sizes.").labels(["kind"]);
    let sizes = sizes.buckets(Buckets::explicit(BOUNDS).unwrap()).register().unwrap();
    let level = registry
        .int_gauge("level", "Level.")
        .labels(["kind"])
        .register()
        .unwrap();
    // However long it is frozen in fact: an answer that has come by then is not too late.
    let exporter = patient(otlp(url).temporality(TemporalityPreference::Delta)).retry(eager());
    let lambda = Lambda::start(exporter, &registry).unwrap();
    let lambda = lambda.flush(flush).patience(PATIENCE);
    let deadline = || UNIX_EPOCH + clock.unix() + PATIENCE;

    // The clock is put forward in the middle of an invocation, too.
    let (invocations, lines) = std::sync::mpsc::channel();
    let of_lines = clock.clone();
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            match line.strip_prefix("jump ") {
                Some(seconds) => of_lines.jump(Duration::from_secs(seconds.parse().unwrap())),
                None => invocations.send(line).unwrap(),
            }
        }
    });
    for line in lines {
        let Some(count) = line.strip_prefix("invoke ") else {
            break;
        };
        let count: u64 = count.parse().unwrap();
        level.with(["last"]).set(count as i64);
        if count > 0 {
            orders.with(["all"]).add(count);
            sizes.with(["all"]).observe(count as f64);
            if count.is_multiple_of(2) {
                orders.with(["even"]).add(count);
            }
        }
        match lambda.end_invocation(deadline()) {
            Ok(Some(_)) => println!("{ANSWER}delivered"),
            Ok(None) => println!("{ANSWER}nothing was due"),
            Err(error) => println!("{ANSWER}{error}"),
        }
    }
    lambda.shutdown(deadline()).unwrap();
    println!("{DUPLICATES}{}", lambda.exporter().stats().possible_duplicate_points);
}

/// The system's clocks, which go on while a process is frozen, put forward by what the test says.
#[derive(Clone, Default)]
struct Moved(Arc<Mutex<(Duration, Vec<Waker>)>>);

impl Moved {
    fn jump(&self, by: Duration) {
        let mut moved = self.0.lock().unwrap();
        moved.0 += by;
        moved.1.iter().for_each(Waker::wake_by_ref);
    }
}

impl Clock for Moved {
    fn monotonic(&self) -> Duration {
        SystemClock.monotonic() + self.0.lock().unwrap().0
    }

    fn unix(&self) -> Duration {
        SystemClock.unix() + self.0.lock().unwrap().0
    }

    fn wake_on_change(&self, waker: &Waker) {
        self.0.lock().unwrap().1.push(waker.clone());
    }
}
