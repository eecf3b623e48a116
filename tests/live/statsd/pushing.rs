//! The crate pushes to each server, in each dialect that it reads, over each transport that it has.

use super::collectd::Collectd;
use super::collector::StatsdCollector;
use super::etsy::Etsy;
use super::exporter::StatsdExporter;
use super::reading::{Metric, Reading, Server, metric};
use super::telegraf::Telegraf;
use super::workload::{
    ABOVE_ZERO, BELOW_ZERO, ENERGY, ENVIRONMENT, Levels, Part, SIZES, SIZES_BYTES, TOOK, TOOK_MILLISECONDS,
    TOOK_SECONDS, WEIGHT, WEIGHTS, Workload, ZONE, everywhere,
};
use super::{deliver, on_demand, statsd};
use crate::program::{Folder, PATIENCE};
use std::collections::BTreeMap;
use tidegauge::{Dialect, Messages, Registry, StatsDBuilder};

/// statsd_exporter knows all of these at once, and in each a sign is a change.
const EXPORTER_DIALECTS: [Dialect; 3] = [Dialect::Telegraf, Dialect::Librato, Dialect::SignalFx];

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn statsd_exporter_has_what_was_recorded_in_every_dialect() {
    for dialect in EXPORTER_DIALECTS {
        for transport in ["udp", "tcp", "unixgram"] {
            let (mut server, folder) = exporter();
            let url = url("statsd", transport, &server, &folder);
            let what = format!("{dialect} over {transport}");
            let destination = statsd(&url).dialect(dialect);
            push(&what, &mut server, destination, BELOW_ZERO, |workload| match dialect {
                // Telegraf's counters are integers.
                Dialect::Telegraf => whole(workload.expected()),
                _ => workload.expected(),
            });
            assert_eq!(server.errors(), 0.0, "{what}: {:?}", server.own());
        }
    }
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn statsd_exporter_has_what_was_recorded_in_dogstatsd() {
    // Packed values are what it has of the newer protocols; but in those a sign of a gauge is no change, as it is to this server.
    for (protocol, levels) in [(0, BELOW_ZERO), (1, ABOVE_ZERO)] {
        for transport in ["udp", "tcp", "unixgram"] {
            let (mut server, folder) = exporter();
            let url = url("dogstatsd", transport, &server, &folder);
            let what = format!("DogStatsD 1.{protocol} over {transport}");
            let destination = statsd(&url).protocol(protocol);
            push(&what, &mut server, destination, levels, Workload::expected);
            assert_eq!(server.errors(), 0.0, "{what}: {:?}", server.own());
        }
    }
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn a_collector_has_what_was_recorded() {
    let mut server = StatsdCollector::over_udp(&COLLECTOR_BOUNDS);
    let url = format!("dogstatsd+udp://{}", server.address());
    push(
        "over UDP",
        &mut server,
        statsd(&url).protocol(0),
        BELOW_ZERO,
        Workload::expected,
    );

    let mut server = StatsdCollector::over_unixgram(&COLLECTOR_BOUNDS);
    let url = format!("dogstatsd+unixgram://{}", server.path().display());
    push(
        "over a datagram socket",
        &mut server,
        statsd(&url).protocol(0),
        BELOW_ZERO,
        Workload::expected,
    );
}

/// Its windows are a minute long by default, and within one a sign is a change from what came before.
#[test]
#[ignore = "needs the servers of .ci/servers"]
fn a_collector_has_gauges_below_zero_of_several_collections_in_one_window() {
    let mut server = StatsdCollector::over_udp_in_windows("2s", &[]);
    let registry = Registry::new();
    let level = registry.gauge("level", "Level of water.").register().unwrap();
    let statsd = statsd(&format!("dogstatsd+udp://{}", server.address())).protocol(0);
    let exporter = on_demand(statsd.build().unwrap(), &registry);
    for value in [-5.0, -3.0, -3.0] {
        level.set(value);
        deliver(&exporter);
    }
    let mut expected = Reading::default();
    expected.gauges.insert(metric("level", [ENVIRONMENT]), -3.0);
    server.expect("three collections", &expected);
    exporter.shutdown(PATIENCE).unwrap();
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn telegraf_has_what_was_recorded() {
    for transport in ["udp", "tcp"] {
        let mut server = Telegraf::start(transport, &[]);
        let url = format!("statsd+{transport}://{}?dialect=telegraf", server.address);
        push_with_sets(transport, &mut server, statsd(&url), Dialect::Telegraf, |workload| {
            whole(without_buckets(workload.expected()))
        });
    }
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn telegraf_has_what_was_recorded_in_dogstatsd() {
    let mut server = Telegraf::start("udp", &["datadog_extensions = true", "datadog_distributions = true"]);
    let url = format!("dogstatsd+udp://{}", server.address);
    push(
        "DogStatsD",
        &mut server,
        statsd(&url).protocol(0),
        BELOW_ZERO,
        |workload| {
            let mut expected = without_buckets(workload.expected());
            // Its counters are integers, and of each line it takes what stands before the point: there is a dialect for it.
            let energy = expected.counters.get_mut(&everywhere("energy", [])).unwrap();
            *energy = *energy / ENERGY * ENERGY.trunc();
            expected
        },
    );
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn etsy_has_what_was_recorded() {
    for transport in ["udp", "tcp"] {
        let mut server = Etsy::start();
        let address = if transport == "udp" { server.udp } else { server.tcp };
        let url = format!("statsd+{transport}://{address}");
        let what = format!("Etsy over {transport}");
        push_with_sets(&what, &mut server, statsd(&url), Dialect::Etsy, |workload| {
            in_names(workload.counted(part))
        });
        assert_eq!(server.bad_lines(), 0.0, "{what}");

        let mut server = Etsy::start();
        let address = if transport == "udp" { server.udp } else { server.tcp };
        let url = format!("statsd+{transport}://{address}?dialect=graphite");
        let what = format!("Graphite over {transport}");
        push_with_sets(&what, &mut server, statsd(&url), Dialect::Graphite, |workload| {
            workload.counted(part)
        });
        assert_eq!(server.bad_lines(), 0.0, "{what}");
    }
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn collectd_has_what_was_recorded() {
    let mut server = Collectd::start();
    let url = format!("statsd+udp://{}", server.address);
    push("over UDP", &mut server, statsd(&url), BELOW_ZERO, |workload| {
        let mut expected = in_names(workload.counted(part));
        // It keeps fractions and shows integers.
        expected.counters.values_mut().for_each(|total| *total = total.round());
        expected
    });
}

/// Records and pushes in turns. After each, the server must have all of it.
fn push(
    what: &str,
    server: &mut impl Server,
    destination: StatsDBuilder,
    levels: Levels,
    expected: impl Fn(&Workload) -> Reading,
) {
    push_both(what, server, destination, levels, expected, |_, _, _| {});
}

/// The same with members of a set besides.
fn push_with_sets(
    what: &str,
    server: &mut impl Server,
    destination: StatsDBuilder,
    dialect: Dialect,
    expected: impl Fn(&Workload) -> Reading,
) {
    push_both(
        what,
        server,
        destination,
        BELOW_ZERO,
        expected,
        |messages, turn, expected| {
            for user in [format!("user-{}", turn % 3), "user-0".to_string()] {
                assert!(messages.set("users", &user, &[("queue", "mail")]));
            }
            let mut sets = Reading::default();
            // Of users 1, 2, 0 and 1, with 0 in each turn.
            sets.sets.insert(metric_of_set(), [2, 3, 3, 3][turn - 1]);
            let sets = if dialect == Dialect::Etsy { in_names(sets) } else { sets };
            expected.sets = sets.sets;
        },
    );
}

fn push_both(
    what: &str,
    server: &mut impl Server,
    destination: StatsDBuilder,
    levels: Levels,
    expected: impl Fn(&Workload) -> Reading,
    also: impl Fn(&Messages, usize, &mut Reading),
) {
    let mut workload = Workload::new(levels);
    let destination = destination.build().unwrap();
    let messages = destination.messages();
    let exporter = on_demand(destination, &workload.registry);
    for turn in 1..=Workload::TURNS {
        workload.record();
        let mut has = expected(&workload);
        also(&messages, turn, &mut has);
        deliver(&exporter);
        server.expect(&format!("{what}, turn {turn}"), &has);
    }
    // Nothing was recorded since, so nothing may grow, and what came too often shows by now.
    deliver(&exporter);
    let mut has = expected(&workload);
    has.sets = server.read().of_test().sets;
    server.expect(&format!("{what}, in the end"), &has);
    exporter.shutdown(PATIENCE).unwrap();
    server.expect(&format!("{what}, after the end"), &has);
}

fn exporter() -> (StatsdExporter, Folder) {
    let folder = Folder::create("sockets");
    let bounds: [(&str, &[f64]); 3] = [(TOOK, &TOOK_SECONDS), (SIZES, &SIZES_BYTES), (WEIGHT, &WEIGHTS)];
    (StatsdExporter::start_at(folder.path().join(SOCKET), &bounds), folder)
}

fn url(scheme: &str, transport: &str, server: &StatsdExporter, folder: &Folder) -> String {
    match transport {
        "udp" => format!("{scheme}+udp://{}", server.udp),
        "tcp" => format!("{scheme}+tcp://{}", server.tcp),
        _ => format!("{scheme}+unixgram://{}", folder.path().join(SOCKET).display()),
    }
}

/// A Collector's timers are in milliseconds.
const COLLECTOR_BOUNDS: [(&str, &[f64]); 3] = [(TOOK, &TOOK_MILLISECONDS), (SIZES, &SIZES_BYTES), (WEIGHT, &WEIGHTS)];

const SOCKET: &str = "statsd.sock";

fn metric_of_set() -> Metric {
    // The registry's labels are not a message's.
    metric("users", [("queue", "mail"), ENVIRONMENT])
}

/// As a server has it that knows no buckets.
fn without_buckets(mut reading: Reading) -> Reading {
    reading.timers.values_mut().for_each(|timer| timer.buckets.clear());
    reading
}

/// As a server has it that is sent whole numbers alone: what is left of them comes with the next whole one.
fn whole(mut reading: Reading) -> Reading {
    reading.counters.values_mut().for_each(|total| *total = total.floor());
    reading
}

/// How Graphite calls what a histogram is taken apart into.
fn part((name, tags): &Metric, part: Part) -> Metric {
    let mut tags = tags.clone();
    let suffix = match part {
        Part::Bucket(bound) => {
            tags.insert("le".to_string(), bound.to_string());
            "bucket"
        }
        Part::Count => "count",
        Part::Sum => "sum",
    };
    (format!("{name}.{suffix}"), tags)
}

/// As a server has it that knows no tags: they are parts of names, the destination's first, then the registry's, then a series' own.
fn in_names(reading: Reading) -> Reading {
    fn rename<T>(values: BTreeMap<Metric, T>) -> BTreeMap<Metric, T> {
        values
            .into_iter()
            .map(|(metric, value)| (in_name(metric), value))
            .collect()
    }
    Reading {
        counters: rename(reading.counters),
        gauges: rename(reading.gauges),
        timers: rename(reading.timers),
        sets: rename(reading.sets),
    }
}

fn in_name((name, mut tags): Metric) -> Metric {
    // What a histogram is taken apart into stands behind the tags.
    let (mut name, suffix) = match name.split_once('.') {
        Some((name, suffix)) => (name.to_string(), format!(".{suffix}")),
        None => (name, String::new()),
    };
    let bound = tags.remove("le").map(|bound| format!(".{}", bound.replace('.', "_")));
    for key in [ENVIRONMENT.0, ZONE.0] {
        if let Some(value) = tags.remove(key) {
            name.push_str(&format!(".{key}.{value}"));
        }
    }
    for (key, value) in tags {
        name.push_str(&format!(".{key}.{value}"));
    }
    metric(&(name + &suffix + &bound.unwrap_or_default()), [])
}
