//! A registry with some of everything that can be pushed, recorded in turns, and beside it a tally of what every far end
//! must come to. All numbers add up exactly in any order.

use crate::points::{Attribute, Attributes, Histogram, Number, Series, Temporality, Value, texts};
use crate::recorded::{HOSTILE_HELP, HOSTILE_VALUES};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tidegauge::{
    Buckets, Counter, Family, FloatCounter, Gauge, IntGauge, Registry, TemporalityPreference, UpDownCounter,
};

/// The registry's own label, on every series.
const REGION: (&str, &str) = ("region", "eu \"west\"\\\n");

/// Of the family whose series is removed and comes again in each turn.
pub const RESTARTS: &str = "visits_total";

/// Name, unit, description, and whether a closure gives the values.
const FAMILIES: [(&str, &str, &str, bool); 18] = [
    ("jobs_total", "", "Jobs run.", false),
    ("errors", "", "Errors seen.", false),
    ("http.server.requests", "{request}", "Requests served.", false),
    (RESTARTS, "", "Visits.", false),
    ("energy", "J", "Energy used.", false),
    ("temperature", "Cel", "Temperature of the water.", false),
    ("edge", "", "Values at the edge.", false),
    ("queue_depth", "", "Depth of the queue.", false),
    ("in_flight", "{request}", "Requests in flight.", false),
    ("latency", "s", "Time to serve.", false),
    ("body_size", "By", "Size of bodies.", false),
    ("offset", "", "Off the mark.", false),
    ("hostile_total", "", HOSTILE_HELP, false),
    ("limited_total", "", "Only two series.", false),
    ("free", "By", "Read when asked.", true),
    ("pages", "", "Read when asked.", true),
    ("busy", "s", "Read when asked.", true),
    ("disk.reads", "{operation}", "Read when asked.", true),
];

pub struct Everything {
    pub registry: Registry,
    tally: Tally,
    /// How often it was recorded.
    turn: u32,
    observed: Arc<AtomicU64>,
    jobs: Counter,
    requests: Family<Counter, 2>,
    visits: Family<Counter, 1>,
    energy: FloatCounter,
    temperature: Gauge,
    edges: Family<Gauge, 1>,
    depth: IntGauge,
    in_flight: UpDownCounter,
    latency: tidegauge::Histogram,
    sizes: Family<tidegauge::Histogram, 1>,
    offset: tidegauge::Histogram,
    hostile: Family<Counter, 1>,
    limited: Family<Counter, 1>,
}

const LATENCY: [f64; 3] = [0.25, 1.0, 2.5];
const SIZES: [f64; 2] = [100.0, 1e6];
const OFFSETS: [f64; 3] = [-1.0, 0.0, 1.0];

impl Everything {
    /// Registers all and records nothing.
    pub fn new() -> Everything {
        let registry = Registry::builder().label(REGION.0, REGION.1).build().unwrap();
        let help = |name| metadata(name).1;
        let unit = |name| metadata(name).0;
        let buckets = |bounds: &[f64]| Buckets::explicit(bounds.iter().copied()).unwrap();
        let counter = |name| registry.counter(name, help(name)).unit(unit(name));
        let histogram = |name, bounds: &[f64]| {
            registry
                .histogram(name, help(name))
                .unit(unit(name))
                .buckets(buckets(bounds))
        };
        let observed = Arc::new(AtomicU64::new(0));
        let read = || {
            let observed = Arc::clone(&observed);
            move || observed.load(Relaxed)
        };
        let (free, pages, busy, reads) = (read(), read(), read(), read());
        registry
            .observable_gauge("free", help("free"))
            .unit("By")
            .register(move || free() as f64 / 2.0)
            .unwrap();
        registry
            .observable_counter("pages", help("pages"))
            .register(pages)
            .unwrap();
        registry
            .observable_counter("busy", help("busy"))
            .unit("s")
            .register(move || busy() as f64 / 4.0)
            .unwrap();
        registry.collector(move |families| {
            families
                .counter("disk.reads", help("disk.reads"))
                .unit(unit("disk.reads"))
                .labels(["disk"])
                .sample(["first"], reads())
                .sample(["second"], 2 * reads());
        });
        counter("errors").register().unwrap();
        let mut everything = Everything {
            turn: 0,
            jobs: counter("jobs_total").register().unwrap(),
            requests: counter("http.server.requests")
                .labels(["http.route", "status"])
                .register()
                .unwrap(),
            visits: counter(RESTARTS).labels(["user"]).register().unwrap(),
            energy: registry
                .float_counter("energy", help("energy"))
                .unit("J")
                .register()
                .unwrap(),
            temperature: registry
                .gauge("temperature", help("temperature"))
                .unit("Cel")
                .register()
                .unwrap(),
            edges: registry
                .gauge("edge", help("edge"))
                .labels(["case"])
                .register()
                .unwrap(),
            depth: registry
                .int_gauge("queue_depth", help("queue_depth"))
                .register()
                .unwrap(),
            in_flight: registry
                .up_down_counter("in_flight", help("in_flight"))
                .unit(unit("in_flight"))
                .register()
                .unwrap(),
            latency: histogram("latency", &LATENCY).register().unwrap(),
            sizes: histogram("body_size", &SIZES).labels(["kind"]).register().unwrap(),
            offset: histogram("offset", &OFFSETS).register().unwrap(),
            hostile: counter("hostile_total").labels(["value"]).register().unwrap(),
            limited: counter("limited_total").labels(["user"]).limit(2).register().unwrap(),
            observed,
            tally: Tally::default(),
            registry,
        };
        everything.tally.count("errors", [], 0);
        everything
    }

    /// Records a turn: something else in each.
    pub fn record(&mut self) {
        self.turn += 1;
        let (turn, tally) = (u64::from(self.turn), &mut self.tally);
        let real = f64::from(self.turn);

        self.jobs.add(turn);
        tally.count("jobs_total", [], turn);
        // One series moves in every second turn only, and each turn has a new one.
        let newcomer = format!("/{turn}");
        for (route, status, more) in [
            ("/", "200", 1),
            ("/\"\\\n花", "500", turn % 2),
            (&newcomer, "200", turn),
        ] {
            self.requests.with([route, status]).add(more);
            tally.count(
                "http.server.requests",
                [("http.route", route), ("status", status)],
                more,
            );
        }
        self.energy.add(real / 1024.0);
        tally.float("energy", [], real / 1024.0);
        self.in_flight.add(3);
        self.in_flight.sub(5);
        tally.up_down("in_flight", [], -2);

        self.temperature.set(-0.1 * real);
        tally.gauge("temperature", [], Number::Double(-0.1 * real));
        self.depth.set(-(1 << 60) - i64::from(self.turn));
        tally.gauge("queue_depth", [], Number::Integer(-(1 << 60) - i64::from(self.turn)));
        for (case, value) in [
            ("NaN", f64::NAN),
            ("infinite", f64::INFINITY),
            ("minus infinite", f64::NEG_INFINITY),
            ("smallest", 5e-324),
            ("largest", f64::MAX),
            ("sum of tenths", 0.1 + 0.2),
        ] {
            self.edges.with([case]).set(value);
            tally.gauge("edge", [("case", case)], Number::Double(value));
        }

        for (value, times) in [(0.25, 1), (2.0, turn), (1e6, 2)] {
            self.latency.observe_many(value, times);
            tally.observe(("latency", &LATENCY), [], value, times);
        }
        for (kind, value) in [("first", 64.0), ("second", 100_000.5)] {
            self.sizes.with([kind]).observe(value);
            tally.observe(("body_size", &SIZES), [("kind", kind)], value, 1);
        }
        for value in [-0.5, 0.5, 7.0] {
            self.offset.observe(value);
            tally.observe(("offset", &OFFSETS), [], value, 1);
        }

        for (number, value) in (1_u64..).zip(HOSTILE_VALUES) {
            self.hostile.with([value]).add(number);
            tally.count("hostile_total", [("value", value)], number);
        }
        for user in ["first", "second", "third", "fourth"] {
            self.limited.with([user]).add(turn);
        }
        tally.count("limited_total", [("user", "first")], turn);
        tally.count("limited_total", [("user", "second")], turn);
        tally.overflow("limited_total", 2 * turn);

        // A series of the turn before goes, having counted some more, and comes again. Another one goes for good.
        self.visits.with(["regular"]).add(turn);
        tally.count(RESTARTS, [("user", "regular")], turn);
        assert!(self.visits.remove(["regular"]), "the series was there");
        tally.restart(RESTARTS, [("user", "regular")]);
        self.visits.with(["regular"]).add(10);
        tally.count(RESTARTS, [("user", "regular")], 10);
        let passer_by = format!("passer-by {turn}");
        self.visits.with([&*passer_by]).add(turn);
        tally.count(RESTARTS, [("user", &passer_by)], turn);
        assert!(self.visits.remove([&*passer_by]), "the series was there");

        let before = self.observed.fetch_add(turn, Relaxed);
        let after = before + turn;
        tally.gauge("free", [], Number::Double(after as f64 / 2.0));
        tally.count("pages", [], turn);
        tally.float("busy", [], real / 4.0);
        tally.count("disk.reads", [("disk", "first")], turn);
        tally.count("disk.reads", [("disk", "second")], 2 * turn);
    }

    /// What all that was pushed comes to, if every point of it arrived once.
    pub fn totals(&self, preference: TemporalityPreference) -> HashMap<Series, Value> {
        let entries = self.tally.entries.iter();
        entries
            .map(|((name, attributes), entry)| {
                let temporality = temporality(name, &entry.total, preference);
                let value = match temporality {
                    Some(Temporality::Delta) => &entry.total,
                    _ => &entry.newest,
                };
                let series = Series {
                    name: name.clone(),
                    attributes: attributes.clone(),
                    temporality,
                };
                (series, value.clone())
            })
            .collect()
    }

    /// What adding all increments up comes to.
    pub fn sums(&self) -> HashMap<Series, Value> {
        let totals = self.totals(TemporalityPreference::Delta).into_iter();
        totals
            .map(|(mut series, value)| {
                series.temporality = series.temporality.map(|_| Temporality::Cumulative);
                (series, value)
            })
            .collect()
    }
}

/// Unit and description.
pub fn metadata(name: &str) -> (&'static str, &'static str) {
    let family = FAMILIES.iter().find(|family| family.0 == name);
    let (_, unit, description, _) = family.unwrap_or_else(|| panic!("nothing is called {name}"));
    (unit, description)
}

/// What <https://opentelemetry.io/docs/specs/otel/metrics/sdk_exporters/otlp/#additional-environment-variable-configuration>
/// has for each kind.
fn temporality(name: &str, value: &Value, preference: TemporalityPreference) -> Option<Temporality> {
    let observed = FAMILIES.iter().any(|family| family.0 == name && family.3);
    let increments = match preference {
        TemporalityPreference::Delta => true,
        TemporalityPreference::LowMemory => !observed,
        _ => false,
    };
    match value {
        Value::Gauge(_) => None,
        Value::Sum { monotonic: false, .. } => Some(Temporality::Cumulative),
        _ if increments => Some(Temporality::Delta),
        _ => Some(Temporality::Cumulative),
    }
}

#[derive(Default)]
struct Tally {
    entries: HashMap<(String, Attributes), Entry>,
}

/// A series in all its lives, and in its newest.
struct Entry {
    total: Value,
    newest: Value,
}

/// The labels of one recording.
type Labels<'a, const N: usize> = [(&'a str, &'a str); N];

impl Tally {
    fn count<const N: usize>(&mut self, name: &str, labels: Labels<'_, N>, more: u64) {
        let more = i64::try_from(more).expect("it is small");
        self.sum(name, attributes(labels), Number::Integer(more), true);
    }

    fn float<const N: usize>(&mut self, name: &str, labels: Labels<'_, N>, more: f64) {
        self.sum(name, attributes(labels), Number::Double(more), true);
    }

    fn up_down<const N: usize>(&mut self, name: &str, labels: Labels<'_, N>, more: i64) {
        self.sum(name, attributes(labels), Number::Integer(more), false);
    }

    fn overflow(&mut self, name: &str, more: u64) {
        let attributes = Attributes::from([("otel.metric.overflow".to_string(), Attribute::Boolean(true))]);
        let more = i64::try_from(more).expect("it is small");
        self.sum(name, attributes, Number::Integer(more), true);
    }

    fn gauge<const N: usize>(&mut self, name: &str, labels: Labels<'_, N>, value: Number) {
        let entry = self.entry(name, attributes(labels), Value::Gauge(value));
        entry.total = Value::Gauge(value);
        entry.newest = Value::Gauge(value);
    }

    fn observe<const N: usize>(&mut self, of: (&str, &[f64]), labels: Labels<'_, N>, value: f64, times: u64) {
        let (name, bounds) = of;
        let nothing = Histogram {
            count: 0,
            // There is none where an observation can be negative.
            sum: (bounds[0] >= 0.0).then_some(0.0),
            min: None,
            max: None,
            bounds: bounds.to_vec(),
            buckets: vec![0; bounds.len() + 1],
        };
        let entry = self.entry(name, attributes(labels), Value::Histogram(nothing));
        for histogram in [&mut entry.total, &mut entry.newest] {
            let Value::Histogram(histogram) = histogram else {
                panic!("{name} is no histogram");
            };
            histogram.count += times;
            histogram.sum = histogram.sum.map(|sum| sum + value * times as f64);
            // A value on a bound is below it.
            histogram.buckets[bounds.partition_point(|bound| *bound < value)] += times;
        }
    }

    /// A new life begins.
    fn restart<const N: usize>(&mut self, name: &str, labels: Labels<'_, N>) {
        let entry = self.entries.get_mut(&(name.to_string(), attributes(labels)));
        let entry = entry.expect("it has a life");
        entry.newest = Value::Sum {
            value: Number::Integer(0),
            monotonic: true,
        };
    }

    fn sum(&mut self, name: &str, attributes: Attributes, more: Number, monotonic: bool) {
        let value = match more {
            Number::Integer(_) => Number::Integer(0),
            Number::Double(_) => Number::Double(0.0),
        };
        let entry = self.entry(name, attributes, Value::Sum { value, monotonic });
        for sum in [&mut entry.total, &mut entry.newest] {
            match (sum, more) {
                (
                    Value::Sum {
                        value: Number::Integer(sum),
                        ..
                    },
                    Number::Integer(more),
                ) => *sum += more,
                (
                    Value::Sum {
                        value: Number::Double(sum),
                        ..
                    },
                    Number::Double(more),
                ) => *sum += more,
                (sum, _) => panic!("{name} is {sum:?}"),
            }
        }
    }

    fn entry(&mut self, name: &str, attributes: Attributes, nothing: Value) -> &mut Entry {
        let key = (name.to_string(), attributes);
        self.entries.entry(key).or_insert_with(|| Entry {
            total: nothing.clone(),
            newest: nothing,
        })
    }
}

fn attributes<const N: usize>(labels: Labels<'_, N>) -> Attributes {
    texts([REGION].into_iter().chain(labels))
}
