//! What was recorded is what CloudWatch has read, whatever labels are, wherever lines end, and whenever series go.

use super::{
    Bench, Settings, settings,
    validator::{Measure, read},
};
use crate::{Buckets, Counter, Family, FloatCounter, Gauge, Histogram, UpDownCounter};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};

const BOUNDS: [f64; 6] = [-10.0, 0.0, 0.5, 2.0, 1e3, 1e6];
const MANY: usize = 130;

/// A metric and its labels, as CloudWatch has them.
type Key = (&'static str, BTreeMap<String, String>);

/// What the test does to a series.
#[derive(Clone, Debug)]
enum Deed {
    Count { series: usize, times: u64 },
    Sum { series: usize, amount: f64 },
    Set { series: usize, value: f64 },
    Move { series: usize, by: i64 },
    Observe { series: usize, value: f64 },
    Remove { series: usize },
    Flush,
}

#[derive(Default)]
struct Totals {
    counts: HashMap<Key, u64>,
    sums: HashMap<Key, f64>,
    gauges: HashMap<Key, f64>,
    /// Counts by bucket, and the sum.
    histograms: HashMap<Key, (Vec<u64>, f64)>,
}

struct Families {
    jobs: Family<Counter, 2>,
    energy: Family<FloatCounter, 2>,
    load: Family<Gauge, 2>,
    open: Family<UpDownCounter, 2>,
    shift: Family<Histogram, 2>,
    fine: Family<Histogram, 2>,
}

fn fine_bounds() -> Vec<f64> {
    (0..MANY).map(|at| at as f64 / 10.0).collect()
}

/// A label as CloudWatch has it, told in other words than the encoder's.
fn spelled(value: &str) -> String {
    let is_blank = value.chars().all(char::is_whitespace);
    let mut spelled = String::new();
    for unit in value.encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte) if byte.is_ascii_graphic() || byte == b' ' => spelled.push(char::from(byte)),
            _ => spelled += &format!("\\u{unit:04x}"),
        }
    }
    if is_blank { value.to_owned() } else { spelled }
}

fn bucket_of(bounds: &[f64], value: f64) -> usize {
    bounds.iter().position(|bound| value <= *bound).unwrap_or(bounds.len())
}

fn run(labels: &[(String, String)], deeds: &[Deed], event_size: usize) -> Result<(), TestCaseError> {
    let bench = Bench::new(Settings {
        event_size,
        properties: vec![("stage".to_owned(), "test \"1\"\n".to_owned())],
        ..settings()
    });
    let registry = &bench.registry;
    let names = ["id", "what/is.it"];
    let fine = fine_bounds();
    let families = Families {
        jobs: registry.counter("jobs", "Jobs.").labels(names).register().unwrap(),
        energy: registry
            .float_counter("energy", "Energy.")
            .labels(names)
            .register()
            .unwrap(),
        load: registry.gauge("load", "Load.").labels(names).register().unwrap(),
        open: registry
            .up_down_counter("open", "Open.")
            .labels(names)
            .register()
            .unwrap(),
        shift: registry
            .histogram("shift", "Shift.")
            .buckets(Buckets::explicit(BOUNDS).unwrap())
            .labels(names)
            .register()
            .unwrap(),
        fine: registry
            .histogram("fine", "Fine.")
            .buckets(Buckets::explicit(fine.iter().copied()).unwrap())
            .labels(names)
            .register()
            .unwrap(),
    };
    let mut recorded = Totals::default();
    let mut there = Totals::default();
    for deed in deeds.iter().chain([&Deed::Flush]) {
        let of = |series: usize| {
            let (id, what) = &labels[series % labels.len()];
            [id.as_str(), what.as_str()]
        };
        let key = |name, series| -> Key {
            let texts = names.into_iter().zip(of(series));
            (
                name,
                texts.map(|(name, text)| (name.to_owned(), spelled(text))).collect(),
            )
        };
        match *deed {
            Deed::Count { series, times } => {
                families.jobs.with(of(series)).add(times);
                *recorded.counts.entry(key("jobs", series)).or_default() += times;
            }
            Deed::Sum { series, amount } => {
                families.energy.with(of(series)).add(amount);
                *recorded.sums.entry(key("energy", series)).or_default() += amount;
            }
            Deed::Set { series, value } => {
                families.load.with(of(series)).set(value);
                recorded.gauges.insert(key("load", series), value);
            }
            Deed::Move { series, by } => {
                families.open.with(of(series)).add(by);
                *recorded.gauges.entry(key("open", series)).or_default() += by as f64;
            }
            Deed::Observe { series, value } => {
                for (name, family, bounds) in [("shift", &families.shift, &BOUNDS[..]), ("fine", &families.fine, &fine)]
                {
                    family.with(of(series)).observe(value);
                    let (counts, sum) = recorded.histograms.entry(key(name, series)).or_default();
                    counts.resize(bounds.len() + 1, 0);
                    counts[bucket_of(bounds, value)] += 1;
                    *sum += value;
                }
            }
            Deed::Remove { series } => {
                // What stands as it stands is gone with its series; what was counted is not.
                families.jobs.remove(of(series));
                families.energy.remove(of(series));
                families.shift.remove(of(series));
            }
            Deed::Flush => {
                bench.flush().map_err(|error| TestCaseError::fail(error.to_string()))?;
                there.read(&bench.payload(), event_size, &fine);
            }
        }
    }
    prop_assert_eq!(&there.counts, &recorded.counts);
    prop_assert_eq!(&there.gauges, &recorded.gauges);
    prop_assert_eq!(there.sums.len(), recorded.sums.len());
    for (key, sum) in &recorded.sums {
        prop_assert!(near(there.sums[key], *sum), "{:?}: {} of {}", key, there.sums[key], sum);
    }
    prop_assert_eq!(there.histograms.len(), recorded.histograms.len());
    for (key, (counts, sum)) in &recorded.histograms {
        let (read, read_sum) = &there.histograms[key];
        prop_assert_eq!(read, counts);
        prop_assert!(near(*read_sum, *sum), "{:?}: {} of {}", key, read_sum, sum);
    }
    Ok(())
}

/// As near as sums of floats in another order are.
fn near(one: f64, other: f64) -> bool {
    (one - other).abs() <= 1e-3
}

impl Totals {
    fn read(&mut self, payload: &[u8], event_size: usize, fine: &[f64]) {
        for event in read(payload, event_size) {
            assert_eq!(event.namespace, "Shop");
            assert_eq!(event.texts["stage"], "test \"1\"\n");
            let mut labels = event.texts.clone();
            labels.remove("stage");
            let dimensions: Vec<&String> = labels
                .iter()
                .filter(|(_, value)| !value.trim().is_empty())
                .map(|(name, _)| name)
                .collect();
            assert_eq!(event.dimensions, [dimensions.into_iter().cloned().collect::<Vec<_>>()]);
            for metric in event.metrics {
                let key = |name| (name, labels.clone());
                match (metric.name.as_str(), metric.value) {
                    ("jobs", Measure::Number(count)) => {
                        assert_eq!(metric.unit.as_deref(), Some("Count"));
                        *self.counts.entry(key("jobs")).or_default() += count.as_u64().unwrap();
                    }
                    ("energy", Measure::Number(sum)) => {
                        *self.sums.entry(key("energy")).or_default() += sum.as_f64().unwrap();
                    }
                    ("load", Measure::Number(value)) => {
                        self.gauges.insert(key("load"), value.as_f64().unwrap());
                    }
                    ("open", Measure::Number(value)) => {
                        self.gauges.insert(key("open"), value.as_i64().unwrap() as f64);
                    }
                    ("shift", Measure::Distribution { observed, sum }) => {
                        self.observe(key("shift"), &BOUNDS, &observed, sum)
                    }
                    ("fine", Measure::Distribution { observed, sum }) => {
                        self.observe(key("fine"), fine, &observed, sum)
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    fn observe(&mut self, key: Key, bounds: &[f64], observed: &[(f64, u64)], sum: f64) {
        let (counts, total) = self.histograms.entry(key).or_default();
        counts.resize(bounds.len() + 1, 0);
        for (value, count) in observed {
            counts[bucket_of(bounds, *value)] += count;
        }
        *total += sum;
    }
}

fn deed() -> impl Strategy<Value = Deed> {
    let series = || 0..4_usize;
    prop_oneof![
        2 => (series(), 1..1_000_000_u64).prop_map(|(series, times)| Deed::Count { series, times }),
        2 => (series(), 1e-3..1e6_f64).prop_map(|(series, amount)| Deed::Sum { series, amount }),
        2 => (series(), -1e9..1e9_f64).prop_map(|(series, value)| Deed::Set { series, value }),
        2 => (series(), 1..1000_i64).prop_map(|(series, by)| Deed::Move { series, by }),
        6 => (series(), -20.0..20.0_f64).prop_map(|(series, value)| Deed::Observe { series, value }),
        1 => series().prop_map(|series| Deed::Remove { series }),
        1 => Just(Deed::Flush),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn what_was_recorded_is_what_is_read(
        labels in prop::collection::vec((".{0,12}", prop_oneof![Just(String::new()), ".{0,40}", "[ -~]{0,200}"]), 1..4),
        deeds in prop::collection::vec(deed(), 1..60),
        event_size in prop::sample::select(vec![8_192, 20_000, 262_118]),
    ) {
        run(&labels, &deeds, event_size)?;
    }

    #[test]
    fn large_counts_are_exact(counts in prop::collection::vec(1..u64::MAX / 8, 1..4)) {
        let deeds: Vec<Deed> = counts.iter().flat_map(|times| [Deed::Count { series: 0, times: *times }, Deed::Flush]).collect();
        run(&[("a".to_owned(), "b".to_owned())], &deeds, 8_192)?;
    }
}
