//! A registry with some of everything, recorded in turns, and beside it what a server must have after each.

use super::reading::{Metric, Reading, Timer, metric};
use std::collections::BTreeMap;
use tidegauge::{Buckets, Counter, Distribution, Family, FloatCounter, Gauge, Histogram, Registry, UpDownCounter};

/// The registry's own label, and a tag of the destination: both are on everything.
pub const ZONE: (&str, &str) = ("zone", "eu-west");
pub const ENVIRONMENT: (&str, &str) = ("env", "test");

pub const TOOK: &str = "took";
pub const SIZES: &str = "sizes";
pub const WEIGHT: &str = "weight";

/// Bounds of the histogram in seconds, which goes out in milliseconds.
pub const TOOK_SECONDS: [f64; 3] = [0.1, 1.0, 10.0];
pub const TOOK_MILLISECONDS: [f64; 3] = [100.0, 1_000.0, 10_000.0];
/// Bounds of the histogram in bytes.
pub const SIZES_BYTES: [f64; 2] = [100.0, 1_000.0];
/// Bounds of the distribution, whose values go out each by itself where the dialect has them.
pub const WEIGHTS: [f64; 3] = [0.5, 100.0, 1_000.0];

/// How much the float counter grows in each turn.
pub const ENERGY: f64 = 1.8125;

/// What a gauge gets in one turn after the other.
pub type Levels = [f64; 4];

/// Twice below zero, so that who takes a sign for a change is found out.
pub const BELOW_ZERO: Levels = [-5.0, -3.0, 4.0, -0.25];
/// For servers that take it for a change in a dialect that says otherwise.
pub const ABOVE_ZERO: Levels = [5.0, 3.0, 0.0, 0.25];

pub struct Workload {
    pub registry: Registry,
    jobs: Family<Counter, 1>,
    ticks: Counter,
    energy: FloatCounter,
    level: Family<Gauge, 1>,
    in_flight: UpDownCounter,
    took: Family<Histogram, 1>,
    sizes: Histogram,
    weight: Family<Distribution, 1>,
    levels: Levels,
    turn: usize,
    counters: BTreeMap<Metric, f64>,
    gauges: BTreeMap<Metric, f64>,
    histograms: BTreeMap<Metric, Observed>,
}

/// What was observed: in each bucket, not cumulative, and their sum.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub bounds: Vec<f64>,
    pub buckets: Vec<u64>,
    pub sum: f64,
}

impl Workload {
    /// Registers all and records nothing.
    pub fn new(levels: Levels) -> Workload {
        let registry = Registry::builder().label(ZONE.0, ZONE.1).build().unwrap();
        let buckets = |bounds: &[f64]| Buckets::explicit(bounds.iter().copied()).unwrap();
        Workload {
            jobs: registry
                .counter("jobs", "Jobs run.")
                .labels(["queue"])
                .register()
                .unwrap(),
            ticks: registry.counter("ticks", "Ticks.").register().unwrap(),
            energy: registry.float_counter("energy", "Energy used.").register().unwrap(),
            level: registry
                .gauge("level", "Level of water.")
                .labels(["basin"])
                .register()
                .unwrap(),
            in_flight: registry.up_down_counter("in_flight", "In flight.").register().unwrap(),
            took: registry
                .histogram(TOOK, "Time it took.")
                .unit("s")
                .buckets(buckets(&TOOK_SECONDS))
                .labels(["route"])
                .register()
                .unwrap(),
            sizes: registry
                .histogram(SIZES, "Size of bodies.")
                .unit("By")
                .buckets(buckets(&SIZES_BYTES))
                .register()
                .unwrap(),
            weight: registry
                .distribution(WEIGHT, "Weight of parcels.")
                .buckets(buckets(&WEIGHTS))
                .labels(["kind"])
                .register()
                .unwrap(),
            registry,
            levels,
            turn: 0,
            counters: BTreeMap::new(),
            gauges: BTreeMap::new(),
            histograms: BTreeMap::new(),
        }
    }

    /// How many turns there are.
    pub const TURNS: usize = 4;

    /// Records one turn.
    pub fn record(&mut self) {
        let level = self.levels[self.turn];
        self.turn += 1;
        let turn = self.turn as u64;
        for (queue, count) in [("mail", 3 * turn), ("print", u64::from(turn == 2))] {
            if count > 0 {
                self.jobs.with([queue]).add(count);
                *self.counters.entry(everywhere("jobs", [("queue", queue)])).or_default() += count as f64;
            }
        }
        // More than a 32-bit number holds, at last.
        self.ticks.add(1 << 31);
        *self.counters.entry(everywhere("ticks", [])).or_default() += (1_u64 << 31) as f64;
        self.energy.add(ENERGY);
        *self.counters.entry(everywhere("energy", [])).or_default() += ENERGY;

        self.level.with(["north"]).set(level);
        self.gauges.insert(everywhere("level", [("basin", "north")]), level);
        self.level.with(["south"]).set(2.5);
        self.gauges.insert(everywhere("level", [("basin", "south")]), 2.5);
        self.in_flight.add(2);
        self.gauges.insert(everywhere("in_flight", []), 2.0 * turn as f64);

        // Each digit of a count is a rate of its own; a count of 0 in a bucket between others; one above all bounds.
        let took = [
            (0.0625, 5 + turn),
            (0.5, 12_345 * turn),
            (5.0, u64::from(turn != 3)),
            (40.0, 1),
        ];
        for (value, count) in took {
            let histogram: Histogram = self.took.handle(["index"]);
            histogram.observe_many(value, count);
            self.observed(everywhere(TOOK, [("route", "index")]), &TOOK_SECONDS, value, count);
        }
        for (value, count) in [(64.0, 1), (512.0, 1_000), (4096.0, 17)] {
            self.sizes.observe_many(value, count);
            self.observed(everywhere(SIZES, []), &SIZES_BYTES, value, count);
        }
        // More than one packet takes.
        for (value, count) in [(0.25, 1), (12.625, 300 * turn), (512.0, 3), (1e6, u64::from(turn == 1))] {
            (0..count).for_each(|_| self.weight.with(["parcel"]).observe(value));
            self.observed(everywhere(WEIGHT, [("kind", "parcel")]), &WEIGHTS, value, count);
        }
    }

    /// What a server has that keeps tags, counts floats and weighs samples into the same buckets.
    pub fn expected(&self) -> Reading {
        let timers = self.histograms.iter().map(|(metric, observed)| {
            let timer = Timer {
                count: observed.buckets.iter().sum(),
                buckets: observed.buckets.clone(),
            };
            (metric.clone(), timer)
        });
        Reading {
            counters: self.counters.clone(),
            gauges: self.gauges.clone(),
            timers: timers.collect(),
            ..Reading::default()
        }
    }

    /// What a server has that does not weigh samples: counters alone. `spelled` names those of a histogram's buckets, count and sum.
    pub fn counted(&self, spelled: impl Fn(&Metric, Part) -> Metric) -> Reading {
        let mut expected = self.expected();
        expected.timers.clear();
        for (metric, observed) in &self.histograms {
            let bounds = observed.bounds.iter().copied().chain([f64::INFINITY]);
            for (bound, count) in bounds.zip(&observed.buckets).filter(|(_, count)| **count > 0) {
                expected
                    .counters
                    .insert(spelled(metric, Part::Bucket(bound)), *count as f64);
            }
            let count: u64 = observed.buckets.iter().sum();
            expected.counters.insert(spelled(metric, Part::Count), count as f64);
            expected.counters.insert(spelled(metric, Part::Sum), observed.sum);
        }
        expected
    }

    fn observed(&mut self, metric: Metric, bounds: &[f64], value: f64, count: u64) {
        let observed = self.histograms.entry(metric).or_insert_with(|| Observed {
            bounds: bounds.to_vec(),
            buckets: vec![0; bounds.len() + 1],
            sum: 0.0,
        });
        observed.buckets[bounds.partition_point(|bound| *bound < value)] += count;
        observed.sum += value * count as f64;
    }
}

/// What a histogram is taken apart into.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Part {
    /// The one with that upper bound.
    Bucket(f64),
    Count,
    Sum,
}

/// A metric with the tags that everything has besides.
pub fn everywhere<'a>(name: &str, tags: impl IntoIterator<Item = (&'a str, &'a str)>) -> Metric {
    metric(name, tags.into_iter().chain([ZONE, ENVIRONMENT]))
}
