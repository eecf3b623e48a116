//! What a StatsD server says it has, in words that are the same for each of them.

use crate::program::PATIENCE;
use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::thread;
use std::time::Instant;

/// A server that can be asked.
pub trait Server {
    /// What it has by now.
    fn read(&mut self) -> Reading;

    /// What it printed, for the message of a failure.
    fn report(&mut self) -> String;

    /// Waits until it has all of that, and nothing else but what the crate tells of itself. What grows shows by the next turn if
    /// it grew too much.
    ///
    /// # Panics
    ///
    /// If it has not within [`PATIENCE`], with every difference.
    #[track_caller]
    fn expect(&mut self, what: &str, expected: &Reading) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let reading = self.read().of_test();
            if reading == *expected {
                return;
            }
            if Instant::now() >= deadline {
                let differences = reading.differences(expected);
                panic!(
                    "{what}: what the server has is not what was recorded:\n{differences}{}",
                    self.report()
                );
            }
            thread::yield_now();
        }
    }
}

/// The upper bounds that a server is told of the metrics of some names.
pub type Bounds<'a> = &'a [(&'a str, &'a [f64])];

/// Name and tags.
pub type Metric = (String, BTreeMap<String, String>);

/// A metric of that name with those tags.
pub fn metric<'a>(name: &str, tags: impl IntoIterator<Item = (&'a str, &'a str)>) -> Metric {
    let tags = tags
        .into_iter()
        .map(|(name, value)| (name.to_string(), value.to_string()));
    (name.to_string(), tags.collect())
}

/// Totals since the server's start, the latest value of each gauge.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    pub counters: BTreeMap<Metric, f64>,
    pub gauges: BTreeMap<Metric, f64>,
    pub timers: BTreeMap<Metric, Timer>,
    /// How many different values each set has got.
    pub sets: BTreeMap<Metric, u64>,
}

/// What the server made of samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timer {
    pub count: u64,
    /// In its own buckets, of which the last has no upper bound; not cumulative. Empty if it has no buckets.
    pub buckets: Vec<u64>,
}

impl Timer {
    /// A timer of a server that only counts.
    pub fn count(count: u64) -> Timer {
        Timer {
            count,
            buckets: Vec::new(),
        }
    }
}

impl Reading {
    /// Without what the crate tells about itself: it is not what the test recorded.
    pub fn of_test(mut self) -> Reading {
        let of_test = |metric: &Metric| !metric.0.starts_with("tidegauge") && !metric.0.starts_with("datadog.");
        self.counters.retain(|metric, _| of_test(metric));
        self.gauges.retain(|metric, _| of_test(metric));
        self.timers.retain(|metric, _| of_test(metric));
        self.sets.retain(|metric, _| of_test(metric));
        self
    }

    /// Every difference, one a line.
    pub fn differences(&self, expected: &Reading) -> String {
        let mut differences = String::new();
        compare(&mut differences, "counter", &self.counters, &expected.counters);
        compare(&mut differences, "gauge", &self.gauges, &expected.gauges);
        compare(&mut differences, "timer", &self.timers, &expected.timers);
        compare(&mut differences, "set", &self.sets, &expected.sets);
        differences
    }
}

fn compare<T: Debug + PartialEq>(
    differences: &mut String,
    kind: &str,
    found: &BTreeMap<Metric, T>,
    expected: &BTreeMap<Metric, T>,
) {
    for (metric, value) in expected {
        match found.get(metric) {
            Some(found) if found == value => Ok(()),
            found => writeln!(differences, "{kind} {metric:?}: {found:?}, recorded was {value:?}"),
        }
        .expect("a string can be written to");
    }
    for (metric, value) in found.iter().filter(|(metric, _)| !expected.contains_key(metric)) {
        writeln!(differences, "{kind} {metric:?}: {value:?} was never recorded").expect("a string can be written to");
    }
}
