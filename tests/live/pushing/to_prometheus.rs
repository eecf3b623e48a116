//! A real Prometheus gets all that was recorded by its OTLP receiver, under the names that it would have scraped.

use super::{FORMS, Kept, MANY, deliver, many, on_demand, otlp, temporality};
use crate::points::Temporality;
use crate::program::{PATIENCE, project};
use crate::prometheus::{Prometheus, Release, Settings};
use crate::recorded::record;
use crate::sample::Samples;
use crate::tap::Tap;
use std::collections::BTreeSet;
use std::fs;
use std::time::Instant;
use tidegauge::{Buckets, Compression, RegisterError, Registry, TemporalityPreference};

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn prometheus_reads_back_what_is_pushed_as_it_stands() {
    push_in_every_form(Settings::receiving_otlp(), TemporalityPreference::Cumulative);
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn prometheus_adds_up_what_is_pushed_as_increments() {
    push_in_every_form(Settings::receiving_otlp_deltas(), TemporalityPreference::Delta);
    push_in_every_form(Settings::receiving_otlp_deltas(), TemporalityPreference::LowMemory);
}

fn push_in_every_form(settings: Settings, preference: TemporalityPreference) {
    let mut prometheus = Prometheus::receive(settings);
    for (protocol, compression) in FORMS {
        let job = format!("{preference:?} {protocol:?} {compression:?}");
        let mut recorded = record();
        let destination = otlp(&prometheus.otlp_url())
            .service_name(&job)
            .temporality(preference)
            .protocol(protocol)
            .compression(compression);
        let exporter = on_demand(destination, &recorded.registry);
        deliver(&exporter);
        prometheus.pushed(&job).assert_eq(&recorded.samples);
        recorded.record_more();
        deliver(&exporter);
        prometheus.pushed(&job).assert_eq(&recorded.samples);
        // Nothing has moved.
        deliver(&exporter);
        prometheus.pushed(&job).assert_eq(&recorded.samples);
    }
}

/// It tells times apart by the millisecond, and takes no two values of one series at one time.
#[test]
#[ignore = "needs the servers of .ci/servers"]
fn prometheus_takes_series_that_come_and_go_faster_than_its_clock() {
    for (settings, preference) in [
        (Settings::receiving_otlp(), TemporalityPreference::Cumulative),
        (Settings::receiving_otlp_deltas(), TemporalityPreference::Delta),
    ] {
        let mut prometheus = Prometheus::receive(settings);
        let registry = Registry::new();
        let visits = registry
            .counter("visits_total", "Visits.")
            .labels(["user"])
            .register()
            .unwrap();
        let exporter = on_demand(otlp(&prometheus.otlp_url()).temporality(preference), &registry);
        let mut total = 0;
        for turn in 1..=3 {
            for life in 1..=20 {
                total += turn * life;
                visits.with(["guest"]).add(turn * life);
                assert!(visits.remove(["guest"]), "the series was there");
            }
            visits.with(["guest"]).add(turn);
            total += turn;
            deliver(&exporter);
            let expected = match temporality(preference) {
                Temporality::Delta => total,
                Temporality::Cumulative => turn,
            };
            let mut samples = Samples::new();
            samples.insert("visits_total", [("user", "guest")], expected as f64);
            prometheus.pushed(super::SERVICE).assert_eq(&samples);
        }
        assert_eq!(exporter.stats().rejected_points, 0);
    }
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn prometheus_gets_a_hundred_thousand_series() {
    for (settings, preference) in [
        (Settings::receiving_otlp(), TemporalityPreference::Cumulative),
        (Settings::receiving_otlp_deltas(), TemporalityPreference::Delta),
    ] {
        let mut prometheus = Prometheus::receive(settings);
        let (registry, kept) = many();
        let destination = otlp(&prometheus.otlp_url())
            .service_name("many")
            .temporality(preference)
            .compression(Compression::Gzip);
        let exporter = on_demand(destination, &registry);
        let began = Instant::now();
        deliver(&exporter);
        println!("{MANY} series to Prometheus, {preference:?}: {:?}", began.elapsed());
        if temporality(preference) == Temporality::Delta {
            deliver(&exporter);
        }

        let mut expected = Samples::new();
        for (number, kept) in &kept {
            let number = number.to_string();
            let label = [("number", number.as_str())];
            match *kept {
                Kept::Counter(count) => expected.insert("events_total", label, count as f64),
                Kept::Gauge(value) => expected.insert("level", label, value),
                Kept::Histogram(buckets) => {
                    let mut count = 0;
                    for (bound, more) in ["1", "2", "+Inf"].into_iter().zip(buckets) {
                        count += more;
                        expected.insert("sizes_bucket", [label[0], ("le", bound)], count as f64);
                    }
                    expected.insert("sizes_count", label, count as f64);
                    expected.insert("sizes_sum", label, Kept::sum(buckets));
                }
            }
        }
        prometheus.pushed("many").assert_eq(&expected);
        println!(
            "{MANY} series to Prometheus and read back, {preference:?}: {:?}",
            began.elapsed()
        );
    }
}

/// What is called what, in every kind, with every unit.
#[test]
#[ignore = "needs the servers of .ci/servers"]
fn what_is_scraped_and_what_is_pushed_are_the_same_series() {
    let registry = zoo();
    let server = tidegauge::serve("127.0.0.1:0", &registry).unwrap();
    let mut prometheus = Prometheus::receive(Settings::receiving_otlp());
    let exporter = on_demand(otlp(&prometheus.otlp_url()), &registry);
    // What the exporter says of itself is in it as well; once a scrape sees that, a push has it too.
    deliver(&exporter);
    deliver(&exporter);
    let tap = Tap::before(server.local_addr().unwrap(), None);
    let mut scraper = Prometheus::start(Settings::of(Release::V3_15), tap.address);
    // The server begins the second scrape after it has stored the first.
    for scrape in 1..=2 {
        let came = tap.exchanges.recv_timeout(PATIENCE);
        came.unwrap_or_else(|_| panic!("scrape {scrape} did not come within {PATIENCE:?}"));
    }
    let scraped = scraper.while_up(|scraper| scraper.series("tidegauge"));
    let of_target = |name: &str| name != "up" && !name.starts_with("scrape_");
    let scraped: BTreeSet<_> = scraped.into_iter().filter(|(name, _)| of_target(name)).collect();
    let pushed = prometheus.series(super::SERVICE);
    let pushed: BTreeSet<_> = pushed.into_iter().filter(|(name, _)| name != "target_info").collect();
    let only_scraped: Vec<_> = scraped.difference(&pushed).collect();
    let only_pushed: Vec<_> = pushed.difference(&scraped).collect();
    assert!(
        only_scraped.is_empty() && only_pushed.is_empty(),
        "only scraped: {only_scraped:#?}\nonly pushed: {only_pushed:#?}"
    );
    println!("{} series are called the same", pushed.len());
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn what_the_readme_s_alerts_ask_for_is_there_after_a_push() {
    let registry = Registry::new();
    let mut prometheus = Prometheus::receive(Settings::receiving_otlp());
    let exporter = on_demand(otlp(&prometheus.otlp_url()), &registry);
    deliver(&exporter);
    let selectors = selectors_of_readme();
    assert!(selectors.len() >= 5, "{selectors:?}");
    for selector in selectors {
        assert!(prometheus.has(&selector), "{selector} selects nothing");
    }
    assert!(!prometheus.has("tidegauge_of_nothing"));
}

/// What the expressions of the alerts select, without the ranges of time.
fn selectors_of_readme() -> BTreeSet<String> {
    let readme = fs::read_to_string(project().join("README.md")).expect("the README is there");
    let mut selectors = BTreeSet::new();
    for (at, _) in readme.match_indices("tidegauge_") {
        let (before, rest) = readme.split_at(at);
        let line = &before[before.rfind('\n').map_or(0, |end| end + 1)..];
        // In `expr: …` or on the lines of `expr: >`, where no sentence stands.
        if !(line.trim_start().starts_with("expr:")
            || line.trim_start().starts_with("increase(")
            || line.contains("or "))
        {
            continue;
        }
        let name = rest.find(|character: char| !(character.is_ascii_alphanumeric() || character == '_'));
        let (name, rest) = rest.split_at(name.unwrap_or(rest.len()));
        let matchers = match rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
            Some((matchers, _)) => format!("{{{matchers}}}"),
            None => String::new(),
        };
        selectors.insert(format!("{name}{matchers}"));
    }
    selectors
}

/// Names that each mean something to the translation of one side or the other.
const NAMES: [&str; 16] = [
    "requests",
    "requests_total",
    "http.server.requests",
    "http.server.requests.total",
    "total",
    "duration",
    "duration_seconds",
    "duration.milliseconds",
    "size_bytes",
    "rate_bytes_per_second",
    "use_ratio",
    "ratio.of.use",
    "Mixed.Case_and-dash",
    "double__underscore",
    "ends_with_",
    "bytes.read",
];

const UNITS: [&str; 24] = [
    "",
    "1",
    "s",
    "ms",
    "seconds",
    "By",
    "KiBy",
    "MBy",
    "By/s",
    "s/By",
    "%",
    "Cel",
    "J",
    "V",
    "Hz",
    "{request}",
    "{request}/s",
    "1/s",
    "/s",
    "By/{request}",
    "requests",
    "m/min",
    "{a}/{b}",
    "kg.m2",
];

/// Every name with every unit in every kind, and labels.
fn zoo() -> Registry {
    let registry = Registry::new();
    let mut number = 0;
    for name in NAMES {
        for unit in UNITS {
            for kind in 0..6 {
                number += 1;
                // A word in front, so that no two meet.
                let name = format!("n{number}.{name}");
                register(&registry, &name, unit, kind).unwrap();
            }
        }
    }
    for (number, label) in [
        "http.route",
        "a-b",
        "a/b",
        "Case",
        "double__underscore",
        "ends_",
        "le.x",
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("labelled_{number}_total");
        registry
            .counter(&name, "A label.")
            .labels([label])
            .register()
            .unwrap()
            .with(["value"])
            .inc();
    }
    registry
}

fn register(registry: &Registry, name: &str, unit: &str, kind: usize) -> Result<(), RegisterError> {
    match kind {
        0 => registry
            .counter(name, "Zoo.")
            .unit(unit)
            .register()
            .map(|counter| counter.inc()),
        1 => registry
            .float_counter(name, "Zoo.")
            .unit(unit)
            .register()
            .map(|counter| counter.add(0.5)),
        2 => registry
            .gauge(name, "Zoo.")
            .unit(unit)
            .register()
            .map(|gauge| gauge.set(1.5)),
        3 => registry
            .int_gauge(name, "Zoo.")
            .unit(unit)
            .register()
            .map(|gauge| gauge.set(2)),
        4 => registry
            .up_down_counter(name, "Zoo.")
            .unit(unit)
            .register()
            .map(|counter| counter.add(3)),
        _ => registry
            .histogram(name, "Zoo.")
            .unit(unit)
            .buckets(Buckets::explicit([0.5, 1.0]).unwrap())
            .register()
            .map(|histogram| histogram.observe(0.75)),
    }
}
