//! The law of conservation, checked from outside: what was recorded is counted by the workload itself, what was
//! refused for good comes from the dead-letter callback, and what arrived is read from the requests that the far end
//! stored. Of these three, series by series, nothing may be left over.
//!
//! For increments: recorded - rejected = stored, where bytes that were stored again count once; what was stored again
//! is at most what the exporter calls possible duplicates. For values as they stand: the newest is what was recorded.

use crate::points::{Attributes, Number, Point, Temporality, Value, texts};
use crate::receiver::{Outcome, PATIENCE, Receiver, Request};
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tidegauge::{
    Buckets, Compression, Counter, DeadLetter, Exporter, ExporterHandle, ExporterStatistics, Family, Filter,
    FloatCounter, Gauge, Histogram, Otlp, OtlpBuilder, Protocol, Registry, RetryPolicy, TemporalityPreference,
    UpDownCounter,
};

/// From one collection to the next in these tests.
pub const INTERVAL: Duration = Duration::from_millis(20);

/// How an exporter speaks to the far end.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    pub temporality: Temporality,
    pub protocol: Protocol,
    pub compression: Compression,
}

pub const DELTA: Way = Way {
    temporality: Temporality::Delta,
    protocol: Protocol::Protobuf,
    compression: Compression::None,
};

pub const CUMULATIVE: Way = Way {
    temporality: Temporality::Cumulative,
    ..DELTA
};

pub const DELTA_JSON: Way = Way {
    protocol: Protocol::Json,
    ..DELTA
};

pub const DELTA_GZIP: Way = Way {
    compression: Compression::Gzip,
    ..DELTA
};

pub const CUMULATIVE_JSON_GZIP: Way = Way {
    protocol: Protocol::Json,
    compression: Compression::Gzip,
    ..CUMULATIVE
};

/// An exporter that pushes a workload to a receiver, until the end of the scenario.
pub struct Run {
    pub receiver: Receiver,
    pub workload: Workload,
    pub exporter: ExporterHandle,
    pub letters: Letters,
    way: Way,
}

impl Run {
    /// Two threads record from now on; the metrics of the crate itself are not pushed.
    pub fn start(way: Way) -> Run {
        Run::with(way, |otlp| otlp, |exporter| exporter)
    }

    /// As [`start`](Run::start), with other settings.
    pub fn with(
        way: Way,
        otlp: impl FnOnce(OtlpBuilder) -> OtlpBuilder,
        exporter: impl FnOnce(Exporter) -> Exporter,
    ) -> Run {
        Run::to(Receiver::start(), way, otlp, exporter)
    }

    /// As [`with`](Run::with), to a receiver that was told already how to behave.
    pub fn to(
        receiver: Receiver,
        way: Way,
        otlp: impl FnOnce(OtlpBuilder) -> OtlpBuilder,
        exporter: impl FnOnce(Exporter) -> Exporter,
    ) -> Run {
        let mut run = Run::quiet(receiver, way, otlp, exporter);
        run.workload.spawn(2);
        run
    }

    /// Without threads that record: the test does it.
    pub fn quiet(
        receiver: Receiver,
        way: Way,
        otlp: impl FnOnce(OtlpBuilder) -> OtlpBuilder,
        exporter: impl FnOnce(Exporter) -> Exporter,
    ) -> Run {
        let workload = Workload::new(&Registry::new());
        let letters = Letters::default();
        let exporter = exporter(letters.attach(pushing(&receiver, way, otlp)));
        Run {
            exporter: exporter.start(&workload.registry).expect("the settings are good"),
            receiver,
            workload,
            letters,
            way,
        }
    }

    /// Waits until so many more payloads were delivered.
    pub fn delivers(&self, payloads: u64) {
        delivers(&self.exporter, payloads);
    }

    /// Waits until so many more collections were made.
    pub fn collects(&self, collections: u64) {
        let before = self.exporter.stats().collections;
        wait_until("collections", || {
            self.exporter.stats().collections >= before + collections
        });
    }

    /// Waits until all that [`Receiver::next`] was given has been met, and answered.
    pub fn meets_the_script(&self) {
        self.receiver.wait_for(|state| {
            state.scripted() == 0 && state.requests.iter().all(|request| request.outcome != Outcome::Pending)
        });
    }

    /// Ends the recording, delivers the rest to a far end that is well by now, and checks the law and that all that
    /// the exporter says of itself agrees.
    pub fn finish(self) -> End {
        let Run {
            receiver,
            workload,
            exporter,
            letters,
            way,
        } = self;
        let registry = workload.registry.clone();
        let tally = workload.stop();
        flushed(&exporter);
        exporter
            .shutdown(PATIENCE)
            .expect("what is well takes the last payload too");
        let stats = exporter.stats();
        wait_until("the last replies", || {
            // One may have begun to wait after the test has let all go on.
            receiver.release();
            let is_pending = |request: &Request| request.outcome == Outcome::Pending;
            receiver.read(|state| !state.requests.iter().any(is_pending))
        });
        let requests = receiver.read(|state| state.requests.clone());
        let stored = Stored::of(&requests);
        let rejected = letters.taken();
        match way.temporality {
            Temporality::Delta => {
                stored.assert_increments(&tally, &rejected.amounts);
                assert!(
                    stats.possible_duplicate_points >= stored.again,
                    "{} points were stored again, and only {} are said to be possible duplicates",
                    stored.again,
                    stats.possible_duplicate_points
                );
            }
            Temporality::Cumulative => {
                stored.assert_values(&tally, stats.rejected_points > 0);
                assert_eq!(stats.possible_duplicate_points, 0);
            }
        }
        assert_eq!(stats.rejected_points, rejected.points);
        assert_eq!(stats.dead_letters, rejected.messages.len() as u64);
        assert_eq!(stats.dropped_removed_series_points, 0);
        assert_eq!((stats.queued_collections, stats.queued_bytes), (0, 0));
        let scraped = Scraped::of(&registry, exporter.name());
        scraped.assert_agrees(&stats);
        End {
            stats,
            requests,
            scraped,
            messages: rejected.messages,
        }
    }
}

/// The settings of every scenario, before its own.
pub fn pushing(receiver: &Receiver, way: Way, otlp: impl FnOnce(OtlpBuilder) -> OtlpBuilder) -> Exporter {
    pushing_to(&receiver.url(), way, otlp)
}

/// As [`pushing`], to a URL.
pub fn pushing_to(url: &str, way: Way, otlp: impl FnOnce(OtlpBuilder) -> OtlpBuilder) -> Exporter {
    let preference = match way.temporality {
        Temporality::Delta => TemporalityPreference::Delta,
        Temporality::Cumulative => TemporalityPreference::Cumulative,
    };
    let builder = Otlp::builder()
        .metrics_url(url)
        .no_proxy()
        .protocol(way.protocol)
        .compression(way.compression)
        .temporality(preference);
    let destination = otlp(builder).build().expect("the settings are good");
    Exporter::new(destination)
        .interval(INTERVAL)
        // What a scenario does not mean to be late must not be, on a machine with other work to do.
        .send_timeout(PATIENCE)
        .filter(Filter::new().families(|family| family.name().starts_with("law_")))
        .retry(impatient())
}

/// Waits of milliseconds.
pub fn impatient() -> RetryPolicy {
    RetryPolicy::new()
        .initial(Duration::from_millis(2))
        .most(Duration::from_millis(20))
        .retry_for(Duration::from_millis(100))
}

/// Waits until so many more payloads were delivered.
pub fn delivers(exporter: &ExporterHandle, payloads: u64) {
    let before = exporter.stats().delivered_payloads;
    wait_until("deliveries", || {
        exporter.stats().delivered_payloads >= before + payloads
    });
}

/// Flushes until there is nothing left.
pub fn flushed(exporter: &ExporterHandle) {
    let mut last = None;
    wait_until("a complete flush", || match exporter.flush(PATIENCE) {
        Ok(_) => true,
        Err(error) => {
            let error = error.to_string();
            if last.as_ref() != Some(&error) {
                eprintln!("{error}");
            }
            last = Some(error);
            false
        }
    });
}

/// Looks again and again whether this is so; for what an exporter says of itself, which wakes nobody.
///
/// # Panics
///
/// If it takes longer than [`PATIENCE`].
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for {what}");
        // The processor is for those who are waited for.
        thread::park_timeout(Duration::from_millis(1));
    }
}

/// What there is to see when a scenario is over.
pub struct End {
    pub stats: ExporterStatistics,
    pub requests: Vec<Request>,
    pub scraped: Scraped,
    /// What the far end said of what it refused for good.
    pub messages: Vec<String>,
}

impl End {
    /// How many points the requests have that are like this.
    pub fn points(&self, like: impl Fn(&Request) -> bool) -> u64 {
        let requests = self.requests.iter().filter(|request| like(request));
        requests.map(|request| request.points as u64).sum()
    }

    /// The points of requests that came again with the same bytes, each time after the first: all of them, and those
    /// that are increments.
    pub fn repeated(&self) -> (u64, u64) {
        let mut seen = HashSet::new();
        let (mut all, mut increments) = (0, 0);
        for request in &self.requests {
            if !seen.insert(&request.message.body) {
                all += request.points as u64;
                let points = request.decoded();
                increments += points.iter().filter(|point| is_increment(point)).count() as u64;
            }
        }
        (all, increments)
    }

    /// The requests that were answered so.
    pub fn answered(&self, status: u16) -> impl Iterator<Item = &Request> {
        let answered = Outcome::Answered(status);
        self.requests.iter().filter(move |request| request.outcome == answered)
    }

    /// Nothing came twice, and nothing is said to.
    pub fn assert_never_unclear(&self) {
        assert_eq!(self.stats.possible_duplicate_points, 0);
        let mut stored = HashSet::new();
        for request in self.requests.iter().filter(|request| request.stored > 0) {
            assert!(stored.insert(&request.message.body), "stored twice: {request:?}");
        }
    }

    /// Every point that is said to be delivered, and no other, is stored and was confirmed.
    pub fn assert_delivered_is_what_was_confirmed(&self) {
        let confirmed = self.answered(200).map(|request| request.stored as u64).sum::<u64>();
        assert_eq!(self.stats.delivered_points, confirmed);
        let payloads = self.answered(200).count() as u64;
        assert_eq!(self.stats.delivered_payloads, payloads);
    }
}

fn is_increment(point: &Point) -> bool {
    point.series.temporality == Some(Temporality::Delta)
}

/// The name of a series.
pub type Key = (String, Attributes);

/// What a series has counted: each kind uses some of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Amount {
    whole: i64,
    /// Sums of multiples of 1/1024, and so exact.
    sum: f64,
    buckets: Vec<i64>,
}

impl Amount {
    fn whole(whole: i64) -> Amount {
        Amount {
            whole,
            ..Amount::default()
        }
    }

    fn sum(sum: f64) -> Amount {
        Amount {
            sum,
            ..Amount::default()
        }
    }

    /// One observation.
    fn observation(value: f64) -> Amount {
        let bucket = BOUNDS.iter().position(|bound| value <= *bound).unwrap_or(BOUNDS.len());
        let mut buckets = vec![0; BOUNDS.len() + 1];
        buckets[bucket] = 1;
        Amount {
            whole: 1,
            sum: value,
            buckets,
        }
    }

    fn add(&mut self, other: &Amount, sign: i64) {
        self.whole += sign * other.whole;
        self.sum += sign as f64 * other.sum;
        self.buckets.resize(self.buckets.len().max(other.buckets.len()), 0);
        for (bucket, other) in self.buckets.iter_mut().zip(&other.buckets) {
            *bucket += sign * other;
        }
    }

    /// What a point says; none of what goes up and down.
    fn of(value: &Value) -> Option<Amount> {
        match value {
            Value::Sum {
                value: Number::Integer(value),
                monotonic: true,
            } => Some(Amount::whole(*value)),
            Value::Sum {
                value: Number::Double(value),
                monotonic: true,
            } => Some(Amount::sum(*value)),
            Value::Histogram(histogram) => Some(Amount {
                whole: histogram.count as i64,
                sum: histogram.sum.expect("no observation is negative"),
                buckets: histogram.buckets.iter().map(|count| *count as i64).collect(),
            }),
            Value::Sum { .. } | Value::Gauge(_) => None,
        }
    }

    fn of_ours(value: tidegauge::Value<'_>) -> Option<Amount> {
        match value {
            tidegauge::Value::Counter(count) => Some(Amount::whole(count as i64)),
            tidegauge::Value::FloatCounter(sum) => Some(Amount::sum(sum)),
            tidegauge::Value::Histogram(histogram) => Some(Amount {
                whole: histogram.counts().iter().sum::<u64>() as i64,
                sum: histogram.sum(),
                buckets: histogram.counts().iter().map(|count| *count as i64).collect(),
            }),
            _ => None,
        }
    }
}

/// What was recorded, by series, counted outside the crate.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    amounts: BTreeMap<Key, Amount>,
    /// Of gauges and up-down counters.
    levels: BTreeMap<Key, f64>,
}

impl Tally {
    fn record(&mut self, name: &str, labels: &[(&str, &str)], amount: &Amount) {
        let series = (name.to_owned(), texts(labels.iter().copied()));
        self.amounts.entry(series).or_default().add(amount, 1);
    }

    fn merge(&mut self, other: Tally) {
        for (series, amount) in other.amounts {
            self.amounts.entry(series).or_default().add(&amount, 1);
        }
        for (series, level) in other.levels {
            *self.levels.entry(series).or_default() += level;
        }
    }

    /// What was recorded into one family.
    pub fn only(mut self, family: &str) -> Tally {
        self.amounts.retain(|(name, _), _| name == family);
        self.levels.retain(|(name, _), _| name == family);
        self
    }

    /// For another process.
    pub fn to_json(&self) -> String {
        let labels = |labels: &Attributes| {
            let text = |attribute: &crate::points::Attribute| match attribute {
                crate::points::Attribute::Text(text) => text.clone(),
                other => panic!("the workload has only texts, not {other:?}"),
            };
            Json::Array(labels.iter().map(|(name, value)| json!([name, text(value)])).collect())
        };
        let amounts = self.amounts.iter().map(|((name, found), amount)| {
            let Amount { whole, sum, buckets } = amount;
            json!([name, labels(found), whole, sum, buckets])
        });
        let levels = self.levels.iter();
        let levels = levels.map(|((name, found), level)| json!([name, labels(found), level]));
        json!([amounts.collect::<Vec<_>>(), levels.collect::<Vec<_>>()]).to_string()
    }

    /// What [`to_json`](Tally::to_json) wrote.
    pub fn from_json(text: &str) -> Tally {
        let json: Json = serde_json::from_str(text).expect("a tally is JSON");
        let list = |json: &Json| json.as_array().expect("a list").clone();
        let key = |entry: &Json| {
            let text = |json: &Json| json.as_str().expect("a text").to_owned();
            let labels = list(&entry[1]);
            let labels: Vec<_> = labels.iter().map(|pair| (text(&pair[0]), text(&pair[1]))).collect();
            let labels = texts(labels.iter().map(|(name, value)| (&**name, &**value)));
            (text(&entry[0]), labels)
        };
        let amount = |entry: &Json| Amount {
            whole: entry[2].as_i64().expect("a whole number"),
            sum: entry[3].as_f64().expect("a number"),
            buckets: list(&entry[4]).iter().map(|count| count.as_i64().unwrap()).collect(),
        };
        Tally {
            amounts: list(&json[0]).iter().map(|entry| (key(entry), amount(entry))).collect(),
            levels: list(&json[1])
                .iter()
                .map(|entry| (key(entry), entry[2].as_f64().expect("a number")))
                .collect(),
        }
    }
}

const BOUNDS: [f64; 3] = [0.25, 1.0, 4.0];

/// What records, and what it records in.
pub struct Workload {
    pub registry: Registry,
    families: Families,
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Tally>>,
    /// What the test has recorded itself.
    own: Tally,
}

#[derive(Clone)]
struct Families {
    events: Family<Counter, 1>,
    seconds: FloatCounter,
    sizes: Family<Histogram, 2>,
    /// Series that come and go, of one thread each.
    sessions: Family<Counter, 2>,
    spans: Family<Histogram, 2>,
    depth: UpDownCounter,
    level: Family<Gauge, 1>,
}

/// How many series [`Workload::step`] records in.
pub const STEP_SERIES: u64 = KINDS.len() as u64;

const KINDS: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
const BETWEEN_LIVES: Duration = Duration::from_millis(2);
const SESSIONS: [&str; 3] = ["first", "second", "third"];
const THREADS: [&str; 2] = ["one", "two"];

impl Workload {
    pub fn new(registry: &Registry) -> Workload {
        let buckets = || Buckets::explicit(BOUNDS).expect("they rise");
        let families = Families {
            events: registry
                .counter("law_events_total", "Events, by both threads.")
                .labels(["kind"])
                .register()
                .expect("the name is free"),
            seconds: registry
                .float_counter("law_seconds_total", "Time, in 1/1024.")
                .register()
                .expect("the name is free"),
            sizes: registry
                .histogram("law_sizes", "Sizes, in 1/1024.")
                .labels(["kind", "thread"])
                .buckets(buckets())
                .register()
                .expect("the name is free"),
            sessions: registry
                .counter("law_sessions_total", "They come and go.")
                .labels(["thread", "session"])
                .register()
                .expect("the name is free"),
            spans: registry
                .histogram("law_spans", "They come and go.")
                .labels(["thread", "session"])
                .buckets(buckets())
                .register()
                .expect("the name is free"),
            depth: registry
                .up_down_counter("law_depth", "Up and down.")
                .register()
                .expect("the name is free"),
            level: registry
                .gauge("law_level", "Up and down, as each thread sets it.")
                .labels(["thread"])
                .register()
                .expect("the name is free"),
        };
        Workload {
            registry: registry.clone(),
            families,
            stop: Arc::default(),
            rounds: Arc::default(),
            threads: Vec::new(),
            own: Tally::default(),
        }
    }

    /// Lets so many threads record, two at most, until it is stopped.
    pub fn spawn(&mut self, threads: usize) {
        for (number, name) in THREADS.into_iter().enumerate().take(threads) {
            let mut recorder = Recorder {
                families: self.families.clone(),
                thread: name,
                random: 0x9e37_79b9 + number as u64,
                removed: [None; SESSIONS.len()],
                tally: Tally::default(),
            };
            let (stop, rounds) = (Arc::clone(&self.stop), Arc::clone(&self.rounds));
            self.threads.push(thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    recorder.round();
                    rounds.fetch_add(1, Ordering::Relaxed);
                    // Others need the processor too.
                    thread::park_timeout(Duration::from_micros(500));
                }
                recorder.tally
            }));
        }
    }

    /// How often a thread has recorded into everything.
    pub fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }

    /// Records in every series of one family, from the test's own thread.
    pub fn step(&mut self) {
        for (amount, kind) in (1..).zip(KINDS) {
            self.families.events.with([kind]).add(amount);
            let amount = Amount::whole(amount as i64);
            self.own.record("law_events_total", &[("kind", kind)], &amount);
        }
    }

    /// Ends the threads; what all have recorded.
    pub fn stop(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut tally = self.own;
        for thread in self.threads {
            tally.merge(thread.join().expect("recording does not panic"));
        }
        tally
    }
}

struct Recorder {
    families: Families,
    thread: &'static str,
    random: u64,
    /// When a series of each session was last removed.
    removed: [Option<Instant>; SESSIONS.len()],
    tally: Tally,
}

impl Recorder {
    /// One of so many.
    fn below(&mut self, most: u64) -> u64 {
        // xorshift64*
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % most
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    fn fraction(&mut self) -> f64 {
        self.below(8 * 1024) as f64 / 1024.0
    }

    fn round(&mut self) {
        let Families {
            events,
            seconds,
            sizes,
            depth,
            level,
            ..
        } = self.families.clone();
        let thread = self.thread;
        let (kind, amount) = (self.of(&KINDS[..4]), self.below(100));
        events.with([kind]).add(amount);
        let amount = Amount::whole(amount as i64);
        self.tally.record("law_events_total", &[("kind", kind)], &amount);

        let amount = self.fraction();
        seconds.add(amount);
        self.tally.record("law_seconds_total", &[], &Amount::sum(amount));

        let (kind, size) = (self.of(&KINDS[..2]), self.fraction());
        sizes.with([kind, thread]).observe(size);
        let labels = [("kind", kind), ("thread", thread)];
        self.tally.record("law_sizes", &labels, &Amount::observation(size));

        let number = self.below(SESSIONS.len() as u64) as usize;
        // Values as they stand are told apart by the millisecond in which their series began.
        if self.removed[number].is_none_or(|removed| removed.elapsed() > BETWEEN_LIVES) {
            self.session(number);
        }

        let by = self.below(7) as i64 - 3;
        depth.add(by);
        let key = ("law_depth".to_owned(), Attributes::new());
        *self.tally.levels.entry(key).or_default() += by as f64;
        let to = self.fraction();
        level.with([thread]).set(to);
        let key = ("law_level".to_owned(), texts([("thread", thread)]));
        self.tally.levels.insert(key, to);
    }

    /// In series that come and go.
    fn session(&mut self, number: usize) {
        let (thread, session) = (self.thread, SESSIONS[number]);
        let (amount, span) = (self.below(10), self.fraction());
        let Families { sessions, spans, .. } = &self.families;
        let labels = [("thread", thread), ("session", session)];
        sessions.with([thread, session]).add(amount);
        let amount = Amount::whole(amount as i64);
        self.tally.record("law_sessions_total", &labels, &amount);
        spans.with([thread, session]).observe(span);
        self.tally.record("law_spans", &labels, &Amount::observation(span));
        // At times a series is gone before anybody has seen it, and at times it is back within one interval.
        let chance = self.below(20);
        let Families { sessions, spans, .. } = &self.families;
        if chance < 2 {
            sessions.remove([thread, session]);
        }
        if chance == 0 {
            spans.remove([thread, session]);
        }
        if chance < 2 {
            self.removed[number] = Some(Instant::now());
        }
    }
}

/// What the far end stored.
pub struct Stored {
    /// Each request once, whether it was stored again or not.
    once: HashMap<Key, Vec<Point>>,
    /// Increments that were stored again, each time.
    again: u64,
}

impl Stored {
    pub fn of(requests: &[Request]) -> Stored {
        let mut seen = HashSet::new();
        let mut stored = Stored {
            once: HashMap::new(),
            again: 0,
        };
        for request in requests.iter().filter(|request| request.stored > 0) {
            // What is refused of a request is its beginning.
            let points = request.decoded().into_iter().skip(request.points - request.stored);
            if !seen.insert(&request.message.body) {
                stored.again += points.filter(is_increment).count() as u64;
                continue;
            }
            for point in points {
                let series = (point.series.name.clone(), point.series.attributes.clone());
                stored.once.entry(series).or_default().push(point);
            }
        }
        stored
    }

    /// Recorded - rejected = stored, and no time is counted twice.
    pub fn assert_increments(&self, tally: &Tally, rejected: &BTreeMap<Key, Amount>) {
        for (series, recorded) in &tally.amounts {
            let mut expected = recorded.clone();
            if let Some(rejected) = rejected.get(series) {
                expected.add(rejected, -1);
            }
            let points = self.of_series(series);
            let mut sum = Amount::default();
            sum.buckets.resize(expected.buckets.len(), 0);
            for point in points {
                assert_eq!(point.series.temporality, Some(Temporality::Delta), "{series:?}");
                sum.add(&Amount::of(&point.value).expect("it is an increment"), 1);
            }
            assert_eq!(sum, expected, "increments of {series:?}, of {recorded:?} in all");
            if !comes_and_goes(series) {
                self.assert_times_follow(series);
            }
        }
        self.assert_levels(tally);
        self.assert_nothing_else(tally);
    }

    /// The newest value is what was recorded; of a series that came and went, the newest of each of its lives. If
    /// `rejections` happened, the last word of a series that went may be among them.
    pub fn assert_values(&self, tally: &Tally, rejections: bool) {
        for (series, recorded) in &tally.amounts {
            let mut lives: BTreeMap<u64, &Point> = BTreeMap::new();
            let mut points: Vec<&Point> = self.of_series(series).iter().collect();
            points.sort_by_key(|point| point.time);
            for point in points {
                assert_eq!(point.series.temporality, Some(Temporality::Cumulative), "{series:?}");
                if let Some(before) = lives.insert(point.start, point) {
                    let (before, now) = (Amount::of(&before.value), Amount::of(&point.value));
                    let (before, now) = (before.unwrap_or_default(), now.unwrap_or_default());
                    assert!(now.whole >= before.whole && now.sum >= before.sum, "{series:?} fell");
                }
            }
            let mut sum = Amount::default();
            sum.buckets.resize(recorded.buckets.len(), 0);
            for point in lives.values() {
                sum.add(&Amount::of(&point.value).expect("it only grows"), 1);
            }
            if rejections && comes_and_goes(series) {
                assert!(sum.whole <= recorded.whole && sum.sum <= recorded.sum, "{series:?}");
            } else {
                assert_eq!(sum, *recorded, "values of {series:?}, in {} lives", lives.len());
            }
        }
        self.assert_levels(tally);
        self.assert_nothing_else(tally);
    }

    /// Each increment begins where one before it ended, or later.
    fn assert_times_follow(&self, series: &Key) {
        let points = self.of_series(series).iter();
        let mut windows: Vec<_> = points.map(|point| (point.start, point.time)).collect();
        windows.sort_unstable();
        for pair in windows.windows(2) {
            assert!(pair[1].0 >= pair[0].1, "times of {series:?} overlap: {pair:?}");
        }
    }

    fn assert_levels(&self, tally: &Tally) {
        for (series, expected) in &tally.levels {
            let newest = self.of_series(series).iter().max_by_key(|point| point.time);
            let newest = newest.unwrap_or_else(|| panic!("nothing of {series:?} arrived"));
            let level = match newest.value {
                Value::Gauge(Number::Double(level)) => level,
                Value::Gauge(Number::Integer(level))
                | Value::Sum {
                    value: Number::Integer(level),
                    monotonic: false,
                } => level as f64,
                ref other => panic!("{series:?} arrived as {other:?}"),
            };
            assert_eq!(level, *expected, "{series:?}");
        }
    }

    fn assert_nothing_else(&self, tally: &Tally) {
        let known = |series: &Key| tally.amounts.contains_key(series) || tally.levels.contains_key(series);
        for series in self.once.keys().filter(|(name, _)| name.starts_with("law_")) {
            // The up-down counter is there before anything is recorded.
            let is_new = self
                .of_series(series)
                .iter()
                .all(|point| Amount::of(&point.value).is_none_or(|amount| amount.whole == 0 && amount.sum == 0.0));
            assert!(known(series) || is_new, "nobody recorded {series:?}");
        }
    }

    fn of_series(&self, series: &Key) -> &[Point] {
        self.once.get(series).map_or(&[], Vec::as_slice)
    }
}

fn comes_and_goes((_, labels): &Key) -> bool {
    labels.contains_key("session")
}

/// What the dead-letter callback is given.
#[derive(Clone, Default)]
pub struct Letters(Arc<Mutex<Rejected>>);

/// What the far end refused for good.
#[derive(Clone, Default)]
pub struct Rejected {
    /// Of increments.
    pub amounts: BTreeMap<Key, Amount>,
    pub points: u64,
    /// One a letter.
    pub messages: Vec<String>,
}

impl Letters {
    pub fn attach(&self, exporter: Exporter) -> Exporter {
        let letters = self.clone();
        exporter.dead_letters(move |letter| letters.take(letter))
    }

    pub fn taken(&self) -> Rejected {
        self.0.lock().expect("no letter panics").clone()
    }

    fn take(&self, letter: &DeadLetter<'_>) {
        let mut rejected = self.0.lock().expect("no letter panics");
        rejected.points += letter.rejected();
        rejected.messages.push(letter.message().to_owned());
        // A server that refuses some does not say which; this one refuses the first.
        let mut left = letter.rejected();
        letter.each(|family, point| {
            if left == 0 {
                return;
            }
            left -= 1;
            if let Some(amount) = Amount::of_ours(point.value()) {
                let series = (family.given_name().to_owned(), texts(point.attributes()));
                rejected.amounts.entry(series).or_default().add(&amount, 1);
            }
        });
        assert_eq!(left, 0, "a letter has all the points it speaks of");
    }
}

/// The metrics of an exporter, as they are scraped.
pub struct Scraped {
    text: String,
    exporter: String,
}

impl Scraped {
    pub fn of(registry: &Registry, exporter: &str) -> Scraped {
        let body = registry.scrape(None, None).into_body();
        Scraped {
            text: String::from_utf8(body).expect("a scrape is text"),
            exporter: exporter.to_owned(),
        }
    }

    /// A value, by the name of its family without `tidegauge_exporter_`, and its label besides the exporter.
    pub fn value(&self, name: &str, label: Option<(&str, &str)>) -> f64 {
        let label = label.map_or(String::new(), |(name, value)| format!(",{name}=\"{value}\""));
        let series = format!("tidegauge_exporter_{name}{{exporter=\"{}\"{label}}} ", self.exporter);
        let line = self.text.lines().find_map(|line| line.strip_prefix(&series));
        let line = line.unwrap_or_else(|| panic!("no {series:?} in\n{}", self.text));
        line.parse().expect("a sample is a number")
    }

    /// The scrape and the statistics say the same.
    pub fn assert_agrees(&self, stats: &ExporterStatistics) {
        let of = |outcome| self.value("points_total", Some(("outcome", outcome))) as u64;
        let dropped = |reason| self.value("dropped_points_total", Some(("reason", reason))) as u64;
        let only = |name| self.value(name, None) as u64;
        for (what, scraped, said) in [
            ("delivered", of("delivered"), stats.delivered_points),
            ("retried", of("retried"), stats.retried_points),
            ("rejected", of("rejected"), stats.rejected_points),
            ("carried over", of("carried_over"), stats.carried_over_points),
            (
                "possible duplicates",
                of("possible_duplicate"),
                stats.possible_duplicate_points,
            ),
            ("queue full", dropped("queue_full"), stats.dropped_queue_full_points),
            ("queue bytes", dropped("queue_bytes"), stats.dropped_queue_bytes_points),
            (
                "removed series",
                dropped("removed_series"),
                stats.dropped_removed_series_points,
            ),
            ("dead letters", only("dead_letters_total"), stats.dead_letters),
            ("connections", only("connections_total"), stats.connections),
            (
                "credential reloads",
                only("credential_reloads_total"),
                stats.credential_reloads,
            ),
            ("queue", only("queue_collections"), stats.queued_collections),
            ("bytes", only("queue_bytes"), stats.queued_bytes),
            (
                "collections",
                only("collection_duration_seconds_count"),
                stats.collections,
            ),
        ] {
            assert_eq!(scraped, said, "{what}");
        }
    }
}

/// Runs a scenario in each way, one after the other.
pub fn in_each(ways: &[Way], mut scenario: impl FnMut(Way)) {
    for way in ways {
        eprintln!("{way:?}");
        scenario(*way);
    }
}

/// Says which of a scenario's variants is being run, for the output of a failure.
pub fn trying(variant: impl Debug) {
    eprintln!("trying {variant:?}");
}
