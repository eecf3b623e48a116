//! What is recorded while a far end fails, and the workload's own tally of it, series by series.

use crate::points::{Attribute, Attributes, Number, Value, texts};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tidegauge::{Buckets, Counter, Family, FloatCounter, Gauge, Histogram, Registry, UpDownCounter};

/// The name of a series.
pub type Key = (String, Attributes);

/// What a series has counted: each kind uses some of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Amount {
    pub whole: i64,
    /// Sums of multiples of 1/1024, and so exact.
    pub sum: f64,
    pub buckets: Vec<i64>,
}

impl Amount {
    pub fn whole(whole: i64) -> Amount {
        Amount {
            whole,
            ..Amount::default()
        }
    }

    pub fn sum(sum: f64) -> Amount {
        Amount {
            sum,
            ..Amount::default()
        }
    }

    /// One observation.
    pub fn observation(value: f64) -> Amount {
        let bucket = BOUNDS.iter().position(|bound| value <= *bound).unwrap_or(BOUNDS.len());
        let mut buckets = vec![0; BOUNDS.len() + 1];
        buckets[bucket] = 1;
        Amount {
            whole: 1,
            sum: value,
            buckets,
        }
    }

    pub fn add(&mut self, other: &Amount, sign: i64) {
        self.whole += sign * other.whole;
        self.sum += sign as f64 * other.sum;
        self.buckets.resize(self.buckets.len().max(other.buckets.len()), 0);
        for (bucket, other) in self.buckets.iter_mut().zip(&other.buckets) {
            *bucket += sign * other;
        }
    }

    /// What a point says; none of what goes up and down.
    pub fn of(value: &Value) -> Option<Amount> {
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

    pub fn of_ours(value: tidegauge::Value<'_>) -> Option<Amount> {
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
    pub amounts: BTreeMap<Key, Amount>,
    /// Of gauges and up-down counters.
    pub levels: BTreeMap<Key, f64>,
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
            let text = |attribute: &Attribute| match attribute {
                Attribute::Text(text) => text.clone(),
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

/// Whether it is one of those that are removed now and then.
pub fn comes_and_goes((_, labels): &Key) -> bool {
    labels.contains_key("session")
}
