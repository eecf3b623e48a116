//! `metriken`: its metric types, held, to record; the sharded kinds, which give each thread cache
//! lines of its own, have a row of their own.
//!
//! Gauges and histograms take whole numbers; the histograms are log-linear, so they compare with
//! exponential ones. It neither looks series up by value nor writes text.

use crate::library::{Library, Record, Total, recording};
use metriken::{AtomicCounterHistogram, Counter, Gauge, ShardedCounterGroup, ShardedCounterHistogram};
use std::hint::black_box;

/// What the library can do.
pub const LIBRARY: Library = Library {
    counter_inc: Some(counter_inc),
    gauge_set: Some(gauge_set),
    exponential_observe: Some(exponential_observe),
    ..Library::named("metriken")
};

/// The same, sharded by thread.
pub const SHARDED: Library = Library {
    counter_inc: Some(counter_inc_sharded),
    exponential_observe: Some(exponential_observe_sharded),
    ..Library::named("metriken-sharded")
};

/// Eight buckets to a power of two.
const GROUPING_POWER: u8 = 3;
const MAX_VALUE_POWER: u8 = 64;

fn counter_inc() -> Box<dyn Record> {
    recording(
        Counter::new(),
        |counter, lane| {
            lane.repeat(|| {
                black_box(counter).increment();
            });
        },
        |counter| Total::count(counter.value()),
    )
}

fn counter_inc_sharded() -> Box<dyn Record> {
    recording(
        ShardedCounterGroup::new(1),
        |counters, lane| {
            lane.repeat(|| {
                black_box(counters).increment(0);
            });
        },
        |counters| Total::count(counters.value(0).unwrap_or(0)),
    )
}

fn gauge_set() -> Box<dyn Record> {
    recording(
        Gauge::new(),
        |gauge, lane| {
            lane.amounts(|amount| {
                black_box(gauge).set(quarters(amount));
            });
        },
        |gauge| Total::sum(gauge.value() as f64 / 4.0),
    )
}

/// Amounts come in quarters.
#[inline(always)]
fn quarters(amount: f64) -> i64 {
    (amount * 4.0) as i64
}

fn exponential_observe() -> Box<dyn Record> {
    recording(
        AtomicCounterHistogram::new(GROUPING_POWER, MAX_VALUE_POWER),
        |histogram, lane| {
            lane.observations(|value| {
                black_box(histogram)
                    .increment(microseconds(value))
                    .expect("every value is in range");
            });
        },
        |histogram| Total::count(histogram.load().map_or(0, |held| held.as_slice().iter().sum())),
    )
}

fn exponential_observe_sharded() -> Box<dyn Record> {
    recording(
        ShardedCounterHistogram::new(GROUPING_POWER, MAX_VALUE_POWER),
        |histogram, lane| {
            lane.observations(|value| {
                black_box(histogram)
                    .increment(microseconds(value))
                    .expect("every value is in range");
            });
        },
        |histogram| Total::count(histogram.load().map_or(0, |held| held.as_slice().iter().sum())),
    )
}

/// Values come in seconds.
#[inline(always)]
fn microseconds(value: f64) -> u64 {
    (value * 1e6) as u64
}
