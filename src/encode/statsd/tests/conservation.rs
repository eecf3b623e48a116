//! What was recorded is what a server has read, whatever names and label values are, wherever packets end.

use super::{
    super::{
        Encoder,
        message::{CheckFields, EventFields, Message, Put, SetFields},
    },
    Bench, Settings, origin, pair,
    reader::{self, Key, Rules, Server},
    settings,
};
use crate::{
    Buckets, Counter, Dialect, Distribution, Family, FloatCounter, Gauge, Histogram, HistogramLines, Registry,
    UpDownCounter, testing::ManualClock,
};
use proptest::prelude::*;
use std::collections::HashMap;

const TIMES: [f64; 5] = [0.005, 0.035, 0.1, 1.0, 2.5];
const SHIFTS: [f64; 4] = [-10.0, 0.0, 0.5, 1e6];

/// What a series is called to the test: its family, its number, and what stands behind the name.
type Series = (&'static str, usize, String);

/// What the test does to a series.
#[derive(Clone, Debug)]
struct Deed {
    family: usize,
    series: usize,
    /// From 0 to 1.
    place: f64,
    times: u64,
}

/// The families of a registry, with a hostile label.
struct Families {
    labels: Vec<String>,
    jobs: Family<Counter, 2>,
    energy: Family<FloatCounter, 2>,
    load: Family<Gauge, 2>,
    open: Family<UpDownCounter, 2>,
    latency: Family<Histogram, 2>,
    shift: Family<Histogram, 2>,
    waits: Family<Distribution, 2>,
}

/// What was recorded.
#[derive(Default)]
struct Recorded {
    counts: HashMap<Series, u64>,
    sums: HashMap<Series, f64>,
    gauges: HashMap<Series, f64>,
    /// Counts of buckets, the sum, and by how much the latter may be off.
    histograms: HashMap<Series, (Vec<u64>, f64, f64)>,
    samples: HashMap<Series, Vec<(f64, u64)>>,
}

/// The names as they are registered.
const NAMES: [&str; 7] = [
    "jobs.done",
    "energy/used",
    "load-1",
    "open",
    "latency_seconds",
    "shift",
    "waits",
];

impl Families {
    fn register(registry: &Registry, labels: &[String]) -> Families {
        let names = ["id", "what/is.it"];
        let times = Buckets::explicit(TIMES).unwrap();
        let shifts = Buckets::explicit(SHIFTS).unwrap();
        Families {
            labels: labels.to_owned(),
            jobs: registry.counter(NAMES[0], "Jobs.").labels(names).register().unwrap(),
            energy: registry
                .float_counter(NAMES[1], "Energy.")
                .labels(names)
                .register()
                .unwrap(),
            load: registry.gauge(NAMES[2], "Load.").labels(names).register().unwrap(),
            open: registry
                .up_down_counter(NAMES[3], "Open.")
                .labels(names)
                .register()
                .unwrap(),
            latency: registry
                .histogram(NAMES[4], "Latency.")
                .buckets(times)
                .labels(names)
                .register()
                .unwrap(),
            shift: registry
                .histogram(NAMES[5], "Shift.")
                .buckets(shifts)
                .labels(names)
                .register()
                .unwrap(),
            waits: registry
                .distribution(NAMES[6], "Waits.")
                .labels(names)
                .register()
                .unwrap(),
        }
    }

    fn do_it(&self, deed: &Deed, recorded: &mut Recorded) {
        let Deed {
            family,
            series,
            place,
            times,
        } = *deed;
        let id = format!("s{series}");
        let labels = [&*id, &*self.labels[series]];
        let key: Series = (NAMES[family], series, String::new());
        match family {
            0 => {
                self.jobs.with(labels).add(times);
                *recorded.counts.entry(key).or_default() += times;
            }
            1 => {
                self.energy.with(labels).add(place * 10.0);
                *recorded.sums.entry(key).or_default() += place * 10.0;
            }
            2 => {
                let value = (place - 0.5) * 1e9;
                self.load.with(labels).set(value);
                recorded.gauges.insert(key, value);
            }
            3 => {
                let change = ((place - 0.5) * 100.0) as i64;
                self.open.with(labels).add(change);
                *recorded.gauges.entry(key).or_default() += change as f64;
            }
            6 => {
                let value = (place - 0.5) * 1e-3;
                let times = times % 10;
                let waits = self.waits.with(labels);
                (0..times).for_each(|_| waits.observe(value));
                let samples = recorded.samples.entry(key).or_default();
                samples.extend((0..times).map(|_| (value, 1)));
            }
            _ => {
                let (histogram, bounds) = match family {
                    4 => (&self.latency, &TIMES[..]),
                    _ => (&self.shift, &SHIFTS[..]),
                };
                let bucket = (place * 1e6) as usize % (bounds.len() + 1);
                let lower = if bucket > 0 {
                    bounds[bucket - 1]
                } else {
                    bounds[0].min(0.0) * 2.0
                };
                let upper = bounds.get(bucket).copied().unwrap_or(lower * 3.0);
                let value = upper - place * (upper - lower) * 0.999;
                let observer = histogram.with(labels);
                (0..times).for_each(|_| observer.observe(value));
                let (counts, sum, slack) = recorded.histograms.entry(key).or_default();
                counts.resize(bounds.len() + 1, 0);
                counts[bucket] += times;
                *sum += value * times as f64;
                *slack += times as f64 * (upper - lower) * 1e-4;
            }
        }
    }
}

/// Finds out of which series a server's name and tags are, and refuses all that the test has not made.
struct Finder<'a> {
    dialect: Dialect,
    prefix: String,
    labels: &'a [String],
    constant: &'a str,
}

impl Finder<'_> {
    fn find(&self, (name, tags): &Key) -> Result<Series, String> {
        let rest = name.strip_prefix(&*self.prefix).ok_or("the prefix is missing")?;
        let cleaned = |name: &str| match self.dialect {
            Dialect::DogStatsD => name.replace(['/', '-'], "_"),
            Dialect::Etsy | Dialect::Graphite => name.replace('/', "-"),
            _ => name.replace('/', "_"),
        };
        let found = NAMES
            .into_iter()
            .find_map(|name| Some((name, rest.strip_prefix(&*cleaned(name))?)));
        let (family, suffix) = found.ok_or_else(|| format!("nobody is called {name:?}"))?;
        let mut suffix = suffix.to_owned();
        let mut tags = tags.clone();
        let what = match self.dialect {
            Dialect::Etsy => "what-is_it",
            Dialect::DogStatsD => "what/is.it",
            Dialect::Graphite => "what-is.it",
            _ => "what_is.it",
        };
        if self.dialect == Dialect::Etsy {
            let mut parts: Vec<&str> = suffix.split('.').skip(1).collect();
            while parts.len() >= 2 && ["env", "id", what].contains(&parts[0]) {
                tags.push(pair(parts[0], parts[1]));
                parts.drain(..2);
            }
            suffix = parts.iter().map(|part| format!(".{part}")).collect();
        }
        let mut tags: HashMap<String, String> = tags.into_iter().collect();
        let id = tags.remove("id").ok_or("no id")?;
        let id = id
            .strip_prefix('s')
            .and_then(|id| id.parse::<usize>().ok())
            .filter(|id| *id < self.labels.len());
        let id = id.ok_or("nobody has that id")?;
        if tags.remove(what).is_none() != self.labels[id].is_empty() {
            return Err("the label is missing, or too much".into());
        }
        let has_env = !self.constant.is_empty() || self.dialect == Dialect::DogStatsD;
        if tags.remove("env").is_none() == has_env {
            return Err("the constant tag is missing, or too much".into());
        }
        if let Some(bound) = tags.remove("le") {
            suffix = format!("{suffix}.{}", bound.replace('.', "_"));
        }
        match tags.is_empty() {
            true => Ok((family, id, suffix)),
            false => Err(format!("tags of nobody: {tags:?}")),
        }
    }

    /// Values by series; each series is there once.
    fn find_all<V: Clone>(&self, of: impl IntoIterator<Item = (Key, V)>) -> Result<HashMap<Series, V>, String> {
        let mut found = HashMap::new();
        for (key, value) in of {
            if found.insert(self.find(&key)?, value).is_some() {
                return Err(format!("{key:?} is there twice"));
            }
        }
        Ok(found)
    }
}

fn bound_text(bounds: &[f64], bucket: usize) -> String {
    let bound = bounds.get(bucket).map_or("inf".to_owned(), |bound| bound.to_string());
    bound.replace('.', "_")
}

fn bounds_of(family: &str) -> (&'static [f64], f64) {
    match family {
        "latency_seconds" => (&TIMES, 1000.0),
        _ => (&SHIFTS, 1.0),
    }
}

/// Compares a histogram with the samples that a server has.
fn check_samples(
    family: &str,
    (counts, sum, slack): &(Vec<u64>, f64, f64),
    samples: &[(f64, u64)],
) -> Result<(), TestCaseError> {
    let (bounds, scale) = bounds_of(family);
    let mut read = vec![0; counts.len()];
    let mut total = 0.0;
    for (value, weight) in samples {
        let own = value / scale;
        read[bounds.partition_point(|bound| *bound < own)] += weight;
        total += own * *weight as f64;
    }
    prop_assert_eq!(&read, counts, "{}", family);
    prop_assert!(
        (total - sum).abs() <= slack + sum.abs() * 1e-9,
        "{} {} of {}",
        family,
        total,
        sum
    );
    Ok(())
}

/// Compares a histogram with the counters that a server has.
fn check_counters(
    (family, id): (&'static str, usize),
    (counts, sum, _): &(Vec<u64>, f64, f64),
    counters: &HashMap<Series, f64>,
    dialect: Dialect,
) -> Result<(), TestCaseError> {
    let (bounds, _) = bounds_of(family);
    let counter = |suffix: String| counters.get(&(family, id, suffix)).copied().unwrap_or(0.0);
    for (bucket, count) in counts.iter().enumerate() {
        let read = counter(format!(".bucket.{}", bound_text(bounds, bucket)));
        prop_assert_eq!(read, *count as f64, "{} {}", family, bucket);
    }
    prop_assert_eq!(counter(".count".to_owned()), counts.iter().sum::<u64>() as f64);
    let off = sum - counter(".sum".to_owned());
    if dialect.counts_integers() && bounds[0] > 0.0 {
        prop_assert!((-1e-6..1.0 + 1e-6).contains(&off), "{} {}", off, sum);
    } else if dialect.counts_down() || bounds[0] > 0.0 {
        prop_assert!(off.abs() <= sum.abs() * 1e-6 + 1e-6, "{} of {}", off, sum);
    }
    Ok(())
}

fn hostile() -> impl Strategy<Value = String> {
    let alphabet = "a9 ._-/|:,#@;=[]~^!\n\r\t\0é日\\\"'{}+*%\u{85}\u{2028}"
        .chars()
        .collect::<Vec<_>>();
    prop_oneof![
        prop::collection::vec(prop::sample::select(alphabet), 0..12).prop_map(String::from_iter),
        prop::sample::select(vec![
            "",
            "a|c\nevil:1|c",
            ",evil=1",
            ";evil=1",
            "]:1|c|#evil:1",
            "~",
            ":2:3|h|@0.1",
            "x.count",
            "_",
        ])
        .prop_map(str::to_owned),
    ]
}

fn deed() -> impl Strategy<Value = Deed> {
    let times = prop_oneof![4 => 1..30_u64, 1 => 1..30_000_u64];
    (0..NAMES.len(), 0..3_usize, 0.0..1.0_f64, times).prop_map(|(family, series, place, times)| Deed {
        family,
        series,
        place,
        times,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    #[test]
    fn what_was_recorded_is_what_is_read(
        dialect in prop::sample::select(Dialect::ALL.to_vec()),
        protocol in 0..=6_u8,
        limit in 700..1500_usize,
        ends_lines: bool,
        timestamps: bool,
        as_samples: bool,
        prefix in prop::sample::select(vec!["", "app.", "a b|c:d\n"]),
        constant in hostile(),
        labels in prop::collection::vec(hostile(), 3),
        rounds in prop::collection::vec(prop::collection::vec(deed(), 1..8), 1..5),
    ) {
        let is_etsys = matches!(dialect, Dialect::Etsy | Dialect::Graphite);
        let histograms = match as_samples && !is_etsys {
            true => HistogramLines::Samples,
            false => HistogramLines::Counters,
        };
        let clock = ManualClock::new();
        let registry = Registry::builder().clock(clock).build().unwrap();
        let families = Families::register(&registry, &labels);
        let bench = Bench::of(registry, Settings {
            protocol,
            limit,
            ends_lines,
            timestamps,
            histograms,
            prefix: prefix.to_owned(),
            tags: vec![pair("env", &constant)],
            origin: origin(),
            ..settings(dialect)
        });
        let rules = Rules { dialect, protocol, limit, ends_lines };
        let finder = Finder {
            dialect,
            prefix: prefix.replace(['|', ':', '\n', ' '], "_"),
            labels: &labels,
            constant: &constant,
        };
        let mut server = Server::default();
        let mut recorded = Recorded::default();
        for deeds in &rounds {
            for deed in deeds {
                families.do_it(deed, &mut recorded);
            }
            for packet in bench.packets() {
                if let Err(error) = server.receive(&packet, rules) {
                    return Err(TestCaseError::fail(error));
                }
                // What has come is consistent at any moment.
                let counters = finder.find_all(server.counters.clone()).map_err(TestCaseError::fail)?;
                for ((family, id, _), count) in counters.iter().filter(|((_, _, suffix), _)| suffix == ".count") {
                    let is_bucket = |series: &Series| {
                        series.0 == *family && series.1 == *id && series.2.starts_with(".bucket")
                    };
                    let buckets: f64 = counters.iter().filter(|(series, _)| is_bucket(series)).map(|each| each.1).sum();
                    prop_assert_eq!(buckets, *count);
                }
            }
        }
        prop_assert_eq!(bench.exporter.stats().rejected_points, 0);
        let counters = finder.find_all(server.counters).map_err(TestCaseError::fail)?;
        let gauges = finder.find_all(server.gauges).map_err(TestCaseError::fail)?;
        let samples = finder.find_all(server.samples).map_err(TestCaseError::fail)?;
        for (series, count) in &recorded.counts {
            prop_assert_eq!(counters[series], *count as f64);
        }
        for (series, sum) in &recorded.sums {
            let off = sum - counters.get(series).copied().unwrap_or(0.0);
            let most = if dialect.counts_integers() { 1.0 } else { 1e-9 };
            prop_assert!((-1e-9..=most).contains(&off), "{}", off);
        }
        prop_assert_eq!(gauges, recorded.gauges);
        for (series, recorded) in recorded.samples.iter().filter(|(_, recorded)| !recorded.is_empty()) {
            prop_assert_eq!(&samples[series], recorded);
        }
        for ((family, id, _), histogram) in recorded.histograms {
            match histograms {
                HistogramLines::Samples => {
                    check_samples(family, &histogram, &samples[&(family, id, String::new())])?;
                }
                HistogramLines::Counters => check_counters((family, id), &histogram, &counters, dialect)?,
            }
        }
    }

    #[test]
    fn messages_are_one_line_each_whatever_is_in_them(
        texts in prop::collection::vec(hostile(), 8),
        status in 0..=3_u8,
        protocol in 0..=6_u8,
        timestamp in prop::option::of(any::<u64>()),
    ) {
        let mut encoder = Encoder::new(Settings { protocol, origin: origin(), ..settings(Dialect::DogStatsD) });
        let tags = [pair("a", &texts[0]), pair(&texts[1], "b"), pair("c", &texts[2])];
        let event = Message::Event(EventFields {
            title: &texts[3],
            text: &texts[4],
            timestamp,
            hostname: Some(&texts[5]),
            aggregation_key: Some(&texts[6]),
            source: Some(&texts[7]),
            tags: &tags,
            ..EventFields::default()
        });
        let check = Message::ServiceCheck(CheckFields {
            name: &texts[3],
            status,
            timestamp,
            hostname: Some(&texts[5]),
            message: Some(&texts[4]),
            tags: &tags,
        });
        let set = Message::Set(SetFields { name: &texts[3], member: &texts[4], tags: &tags });
        for (message, is_set) in [(event, false), (check, false), (set, true)] {
            let mut packet = Vec::new();
            let put = encoder.put_message(&message, &mut packet);
            let is_empty = texts[3].is_empty() || is_set && texts[4].is_empty();
            prop_assert_eq!(put == Put::Written, !is_empty);
            let packet = String::from_utf8(packet).unwrap();
            let (written, key) = if put != Put::Written {
                prop_assert!(packet.is_empty());
                continue;
            } else if is_set {
                let rules = Rules { dialect: Dialect::DogStatsD, protocol, limit: 1432, ends_lines: false };
                let lines = reader::read(&packet, rules).map_err(TestCaseError::fail)?;
                prop_assert!(lines.len() == 1 && lines[0].values.len() == 1, "{}", packet);
                (lines[0].tags.len(), "set")
            } else {
                let fields = reader::read_message(&packet).map_err(|error| TestCaseError::fail(format!("{packet}: {error}")))?;
                let tags = fields.iter().find(|(key, _)| key == "#").map_or(0, |(_, tags)| tags.split(',').count());
                (tags, "message")
            };
            prop_assert_eq!(written, if texts[1].is_empty() { 2 } else { 3 }, "{}: {}", key, packet);
        }
    }
}
