//! A real Collector gets all that was recorded, in every form, and says so point by point.

use super::everything::{Everything, RESTARTS, metadata};
use super::{FORMS, Kept, MANY, assert_totals, deliver, many, now, on_demand, otlp, recorded, temporality};
use crate::collector::{Collector, Settings};
use crate::points::{Attribute, Attributes, Point, Series, Temporality, Value, totals};
use crate::program::PATIENCE;
use std::collections::{BTreeSet, HashMap};
use std::time::Instant;
use tidegauge::{Compression, TemporalityPreference};

const TURNS: usize = 4;

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn a_collector_gets_every_point_in_every_form() {
    let collector = Collector::start(Settings::default());
    let mut cases = Vec::new();
    for preference in PREFERENCES {
        for (protocol, compression) in FORMS {
            let name = format!("{preference:?} {protocol:?} {compression:?}");
            let began = now();
            let mut everything = Everything::new();
            let destination = otlp(&collector.url())
                .service_name(&name)
                .temporality(preference)
                .protocol(protocol)
                .compression(compression);
            let exporter = on_demand(destination, &everything.registry);
            // The first time, there is nothing but what closures give and what has no labels.
            for _ in 0..TURNS {
                everything.record();
                deliver(&exporter);
            }
            exporter.shutdown(PATIENCE).unwrap();
            cases.push((name, preference, everything, began..=now()));
        }
    }
    let mut of_case: HashMap<Attribute, Vec<Point>> = HashMap::new();
    for point in recorded(collector.points()) {
        of_case
            .entry(point.resource["service.name"].clone())
            .or_default()
            .push(point);
    }
    let mut instances = BTreeSet::new();
    for (name, preference, everything, while_running) in cases {
        let points = of_case.remove(&Attribute::Text(name.clone())).unwrap_or_default();
        assert_totals(&totals(&points), &everything.totals(preference), &name);
        for point in &points {
            assert_surroundings(point, &name);
        }
        instances.extend(points.iter().map(|point| point.resource["service.instance.id"].clone()));
        let mut series: HashMap<&Series, Vec<&Point>> = HashMap::new();
        for point in &points {
            assert!(while_running.contains(&point.time), "{name}: {point:?}");
            series.entry(&point.series).or_default().push(point);
        }
        for (series, points) in series {
            assert_times(series, &points, *while_running.start(), &name);
        }
    }
    assert_eq!(of_case.len(), 0, "nobody else pushed");
    assert_eq!(
        instances.len(),
        PREFERENCES.len() * FORMS.len(),
        "each exporter is an instance"
    );
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn a_collector_gets_a_hundred_thousand_series() {
    for preference in [TemporalityPreference::Cumulative, TemporalityPreference::Delta] {
        let collector = Collector::start(Settings::default());
        let (registry, kept) = many();
        let destination = otlp(&collector.url())
            .temporality(preference)
            .compression(Compression::Gzip);
        let exporter = on_demand(destination, &registry);
        let began = Instant::now();
        deliver(&exporter);
        println!("{MANY} series to the Collector, {preference:?}: {:?}", began.elapsed());
        // Whoever has counted something, and gauges in any case, come again: here nobody has.
        deliver(&exporter);

        let expected: HashMap<Series, Value> = kept
            .iter()
            .map(|(number, kept)| kept.point(*number, temporality(preference)))
            .collect();
        assert_eq!(expected.len(), MANY as usize);
        let points = recorded(collector.points());
        assert_totals(&totals(&points), &expected, &format!("{preference:?}"));
        let gauges = kept.iter().filter(|(_, kept)| matches!(kept, Kept::Gauge(_))).count();
        let again = match temporality(preference) {
            Temporality::Cumulative => MANY as usize,
            Temporality::Delta => gauges,
        };
        assert_eq!(points.len(), MANY as usize + again);
        println!(
            "{MANY} series to the Collector and read back, {preference:?}: {:?}",
            began.elapsed()
        );
    }
}

/// Its processor takes no increment that is not later than the one before, and none that starts before the first, and
/// says nothing.
#[test]
#[ignore = "needs the servers of .ci/servers"]
fn a_collector_adds_up_what_is_pushed_also_of_series_that_are_removed() {
    let mut collector = Collector::start(Settings {
        processors: &["delta_to_cumulative: {}"],
        ..Settings::default()
    });
    let mut everything = Everything::new();
    let destination = otlp(&collector.url()).temporality(TemporalityPreference::Delta);
    let exporter = on_demand(destination, &everything.registry);
    for _ in 0..TURNS {
        everything.record();
        deliver(&exporter);
        let points = recorded(collector.points());
        assert_totals(&totals(&points), &everything.sums(), "added up");
    }
    collector.stop();
}

const PREFERENCES: [TemporalityPreference; 3] = [
    TemporalityPreference::Cumulative,
    TemporalityPreference::Delta,
    TemporalityPreference::LowMemory,
];

/// All that a point says apart from its series, its times and its value.
fn assert_surroundings(point: &Point, service: &str) {
    let (unit, description) = metadata(&point.series.name);
    assert_eq!((&*point.unit, &*point.description), (unit, description), "{point:?}");
    assert_eq!(point.scope.name, "tidegauge");
    assert_eq!(point.scope.version, env!("CARGO_PKG_VERSION"));
    let mut resource: Attributes = (*point.resource).clone();
    let Some(Attribute::Text(instance)) = resource.remove("service.instance.id") else {
        panic!("no instance in {resource:?}");
    };
    assert_eq!(instance.len(), 36, "{instance}");
    let expected = [
        ("service.name", service),
        ("telemetry.sdk.language", "rust"),
        ("telemetry.sdk.name", "tidegauge"),
        ("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
    ];
    assert_eq!(resource, crate::points::texts(expected));
}

/// That the times of one series' points are those of one writer, as the data model has it:
/// <https://opentelemetry.io/docs/specs/otel/metrics/data-model/#temporality>.
fn assert_times(series: &Series, points: &[&Point], began: u64, case: &str) {
    let fail = |rule: &str| -> ! {
        let times: Vec<(u64, u64)> = points
            .iter()
            .map(|point| (point.start.saturating_sub(began), point.time - began))
            .collect();
        panic!("{case}: {rule} in {series:?}: {times:?} nanoseconds after the test began");
    };
    let restarts = series.name == RESTARTS;
    for point in points {
        match series.temporality {
            None if point.start != 0 => fail("a gauge has a start"),
            Some(_) if point.start < began => fail("a start lies before the test"),
            _ => {}
        }
    }
    for pair in points.windows(2) {
        let (before, after) = (pair[0], pair[1]);
        if after.time <= before.time {
            fail("time does not go on");
        }
        match series.temporality {
            None => {}
            // The start of a life is known to the millisecond, so it may seem to lie before the end of the one before.
            Some(_) if restarts && after.start < before.start => fail("a life starts before the one before"),
            Some(_) if restarts => {}
            Some(Temporality::Delta) if after.start != before.time => fail("there is a gap or an overlap"),
            Some(Temporality::Cumulative) if after.start != before.start => fail("the start moves"),
            Some(_) => {}
        }
    }
}
