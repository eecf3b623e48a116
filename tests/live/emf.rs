//! Lines of CloudWatch's embedded metric format, in the eyes of somebody else's validator of JSON schemas and by the schema that
//! AWS publishes; and what CloudWatch would make of them is what was recorded.

use crate::program::{Folder, PATIENCE, example, installed, project};
use crate::recorded::HOSTILE_VALUES;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use tidegauge::{Buckets, Emf, EmfBuilder, Exporter, FamilySnapshot, Filter, Registry};

/// Name and dimensions.
type Key = (String, BTreeMap<String, String>);

/// What CloudWatch has of one metric with one set of dimensions.
#[derive(Debug)]
struct Metric {
    unit: Option<String>,
    times: Vec<u64>,
    /// Values, each with how often it came at once, in the order of their coming.
    observed: Vec<(f64, u64)>,
    samples: u64,
    sum: Value,
    sum_of_values: f64,
    last: Value,
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn whatever_is_recorded_is_by_the_schema_and_comes_to_the_same() {
    let folder = Folder::create("emf");
    let path = folder.path().join("metrics.json");
    // As many labels as there may be dimensions, with what else can be in a line. It is small, so that most limits are met.
    let constant: Vec<(String, String)> = (0..29)
        .map(|at| (format!("label.{at:02}"), format!("{at:>8}")))
        .collect();
    let builder = constant.iter().fold(Registry::builder(), |builder, (name, value)| {
        builder.label(name.as_str(), value.as_str())
    });
    let registry = builder.build().unwrap();
    let emf = url(&path, "Hostile")
        .property("note", HOSTILE_VALUES.concat())
        .event_size(20_000);
    let exporter = Exporter::new(emf.build().unwrap())
        .filter(of_the_test())
        .start(&registry)
        .unwrap();

    let counters: Vec<_> = (0..250_u64)
        .map(|at| {
            registry
                .counter(&format!("many.{at:03}"), "One of many.")
                .register()
                .unwrap()
        })
        .collect();
    let hostile = registry
        .counter("hostile", "Hostile.")
        .unit("By")
        .labels(["value"])
        .register()
        .unwrap();
    let load = registry
        .gauge("load", "Load.")
        .unit("%")
        .labels(["value"])
        .register()
        .unwrap();
    let busy = registry.float_counter("busy", "Busy.").unit("s").register().unwrap();
    let open = registry.up_down_counter("open", "Open.").register().unwrap();
    let huge = registry
        .counter("huge", "Beyond what a float holds.")
        .register()
        .unwrap();
    let wide = Buckets::linear(0.5, 0.5, 150).unwrap();
    let wide = registry
        .histogram("wide", "Many buckets.")
        .unit("ms")
        .buckets(wide)
        .register()
        .unwrap();
    let offset = Buckets::explicit([-1.0, 0.0, 1.0]).unwrap();
    let offset = registry
        .histogram("offset", "Off the mark.")
        .buckets(offset)
        .labels(["value"]);
    let offset = offset.register().unwrap();

    let mut expected: BTreeMap<Key, (u64, f64)> = BTreeMap::new();
    let mut stands: BTreeMap<Key, f64> = BTreeMap::new();
    const TURNS: u64 = 3;
    for turn in 1..=TURNS {
        let mut add = |name: &str, value: Option<&str>, samples: u64, sum: f64| {
            let entry = expected.entry(key(name, &constant, value)).or_default();
            *entry = (entry.0 + samples, entry.1 + sum);
        };
        for (at, counter) in (0..).zip(&counters) {
            counter.add(at + turn);
            add(&format!("many.{at:03}"), None, 1, (at + turn) as f64);
        }
        for (at, value) in (0_u32..).zip(HOSTILE_VALUES) {
            hostile.with([value]).add(turn);
            add("hostile", Some(value), 1, turn as f64);
            let level = f64::from(at) - 2.5 * turn as f64;
            load.with([value]).set(level);
            stands.insert(key("load", &constant, Some(value)), level);
            for observation in [-7.5, -0.5, 0.25, 8.0] {
                offset.with([value]).observe(observation);
            }
            add("offset", Some(value), 4, 0.25);
        }
        busy.add(0.375);
        add("busy", None, 1, 0.375);
        open.sub(4);
        stands.insert(key("open", &constant, None), -4.0 * turn as f64);
        huge.add(1 << 62);
        for at in 0..200_u32 {
            wide.observe_many(f64::from(at) / 2.0 + 0.25, turn);
        }
        add(
            "wide",
            None,
            200 * turn,
            turn as f64 * (0..200).map(|at| f64::from(at) / 2.0 + 0.25).sum::<f64>(),
        );
        let report = exporter.flush(PATIENCE).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(report.rejected, 0);
    }
    exporter.shutdown(PATIENCE).unwrap();

    let text = fs::read(&path).unwrap();
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    assert!(lines.clone().all(|line| line.len() <= 20_000));
    println!("{} lines, {} bytes", lines.count(), text.len());
    let found = read(&text).unwrap_or_else(|error| panic!("{error}"));
    for (key, (samples, sum)) in &expected {
        let metric = &found[key];
        assert_eq!(
            (metric.samples, metric.sum.as_f64()),
            (*samples, Some(*sum)),
            "{key:?}: {metric:?}"
        );
        // The values are estimates, and come to the sum all the same.
        assert!(
            (metric.sum_of_values - sum).abs() <= sum.abs().max(1.0) * 1e-3,
            "{key:?}: {metric:?}"
        );
    }
    for (key, stands) in &stands {
        assert_eq!(found[key].last.as_f64(), Some(*stands), "{key:?}: {:?}", found[key]);
    }
    let of_huge = &found[&key("huge", &constant, None)];
    assert_eq!(of_huge.sum.to_string(), (TURNS as u128 * (1 << 62)).to_string());
    assert_eq!(
        found.len(),
        expected.len() + stands.len() + 1,
        "nothing else was recorded"
    );
    // Each is in the bucket that it was recorded in.
    let mut of_buckets = [0; 200];
    for (value, count) in &found[&key("wide", &constant, None)].observed {
        of_buckets[((value * 2.0).ceil() as usize - 1).min(150)] += count;
    }
    assert!(of_buckets[..150].iter().all(|count| *count == 6), "{of_buckets:?}");
    assert_eq!(of_buckets[150], 50 * 6);
    for (name, unit) in [
        ("hostile", "Bytes"),
        ("load", "Percent"),
        ("busy", "Seconds"),
        ("wide", "Milliseconds"),
    ] {
        let of_name = found.iter().filter(|((found, _), _)| found == name);
        assert!(
            of_name.clone().all(|(_, metric)| metric.unit.as_deref() == Some(unit)),
            "{name}"
        );
        assert!(of_name.clone().all(|(_, metric)| metric.times.is_sorted()), "{name}");
    }
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn what_cloudwatch_would_drop_is_not_written() {
    let folder = Folder::create("emf");
    let path = folder.path().join("metrics.json");
    let registry = Registry::new();
    let edges = registry
        .gauge("edge", "Values at the edge.")
        .labels(["case"])
        .register()
        .unwrap();
    let text = registry
        .counter("long", "Long texts.")
        .labels(["text"])
        .register()
        .unwrap();
    let same = registry
        .counter("same", "Called as its label.")
        .labels(["same"])
        .register()
        .unwrap();
    let most = 2.0_f64.powi(360);
    for (case, value) in [
        ("taken most", most),
        ("taken least", -most),
        ("taken small", 5e-324),
        ("taken minus zero", -0.0),
        ("refused beyond", most.next_up()),
        ("refused below", -most.next_up()),
        ("refused largest", f64::MAX),
        ("refused infinite", f64::INFINITY),
        ("refused minus infinite", f64::NEG_INFINITY),
        ("refused not a number", f64::NAN),
    ] {
        edges.with([case]).set(value);
    }
    for length in [1023, 1024, 1025] {
        text.with(["x".repeat(length)]).inc();
    }
    same.with(["x"]).inc();
    let exporter = Exporter::new(url(&path, "Edges").build().unwrap())
        .filter(of_the_test())
        .start(&registry)
        .unwrap();
    let error = exporter.flush(PATIENCE).unwrap_err();
    assert_eq!((error.report().delivered, error.report().rejected), (6, 8), "{error}");
    let found = read(&fs::read(&path).unwrap()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(found.len(), 6);
    let dimensions = found
        .keys()
        .filter(|(name, _)| name == "edge")
        .map(|(_, dimensions)| &dimensions["case"]);
    assert!(dimensions.clone().all(|case| case.starts_with("taken")), "{found:?}");
    assert_eq!(dimensions.count(), 4);
}

/// To standard output, where there are lines of EMF alone then, and to a file.
#[test]
#[ignore = "needs the servers of .ci/servers"]
fn what_the_example_load_writes_is_by_the_schema_and_comes_to_its_tally() {
    let run = |url: &str| {
        let mut load = example("load");
        load.args([
            "--seconds",
            "1",
            "--series",
            "700",
            "--rate",
            "50000",
            "--interval-ms",
            "100",
        ]);
        let output = load.arg(url).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{told}");
        (output.stdout, told)
    };
    let (lines, tally) = run("emf+stdout:?namespace=Load");
    assert_tally(&lines, &tally);

    let folder = Folder::create("emf");
    let path = folder.path().join("load.json");
    let (tally, told) = run(&format!("emf+file://{}?namespace=Load", path.display()));
    assert!(!told.contains("# EOF"), "{told}");
    assert_tally(&fs::read(path).unwrap(), &String::from_utf8(tally).unwrap());
}

/// Fails unless the lines come to what the example says that it recorded.
#[track_caller]
fn assert_tally(lines: &[u8], tally: &str) {
    let mut found = read(lines).unwrap_or_else(|error| panic!("{error}"));
    found.retain(|(name, _), _| !name.starts_with("tidegauge_"));
    let mut compared = 0;
    for line in tally.lines().filter(|line| line.starts_with("load_")) {
        let (sample, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap();
        let (name, dimensions) = parse(sample);
        let found_of = |name: &str| found.get(&(name.to_owned(), dimensions.clone()));
        let sum = |metric: Option<&Metric>| metric.map_or(0.0, |metric| metric.sum.as_f64().unwrap());
        if let Some(name) = name.strip_suffix("_bucket") {
            let bound: f64 = dimensions["le"].parse().unwrap();
            let mut dimensions = dimensions.clone();
            dimensions.remove("le");
            let observed = found
                .get(&(name.to_owned(), dimensions))
                .map_or(&[][..], |metric| &metric.observed);
            let below = observed
                .iter()
                .filter(|(value, _)| *value <= bound)
                .map(|(_, count)| count);
            assert_eq!(below.sum::<u64>() as f64, value, "{line}");
        } else if let Some(name) = name.strip_suffix("_count") {
            assert_eq!(
                found_of(name).map_or(0, |metric| metric.samples) as f64,
                value,
                "{line}"
            );
        } else if let Some(name) = name.strip_suffix("_sum").or(name.strip_suffix("_total")) {
            assert_eq!(sum(found_of(name)), value, "{line}");
        } else {
            assert_eq!(found_of(&name).unwrap().last.as_f64(), Some(value), "{line}");
        }
        compared += 1;
    }
    println!("{} metrics, {compared} samples of the tally", found.len());
    assert!(compared > 700, "{compared}");
}

/// The proof that the tests above can fail.
#[test]
#[ignore = "needs the servers of .ci/servers"]
fn the_validator_refuses_what_is_wrong() {
    let line = |directive: &str, members: &str| {
        format!(r#"{{"_aws":{{"Timestamp":1,"CloudWatchMetrics":[{{"Namespace":"N",{directive}}}]}}{members}}}"#) + "\n"
    };
    let one = r#""Dimensions":[["d"]],"Metrics":[{"Name":"m"}]"#;
    let names = |count: usize| (0..count).map(|at| format!("\"d{at}\"")).collect::<Vec<_>>().join(",");
    let texts = |count: usize| (0..count).map(|at| format!(",\"d{at}\":\"v\"")).collect::<String>();
    let dimensions = |count| {
        let directive = format!(r#""Dimensions":[[{}]],"Metrics":[{{"Name":"m"}}]"#, names(count));
        line(&directive, &format!("{},\"m\":1", texts(count)))
    };
    let values = |count: usize| line(one, &format!(r#","d":"v","m":[{}]"#, vec!["1"; count].join(",")));
    for right in [line(one, r#","d":"v","m":1"#), dimensions(30), values(100)] {
        read(right.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    }
    for (wrong, words) in [
        (dimensions(31), "is too long"),
        (values(101), "101 values"),
        (
            line(r#""Dimensions":[],"Metrics":[{"Name":"m"}]"#, ",\"m\":1"),
            "should be non-empty",
        ),
        (
            line(
                r#""Dimensions":[[]],"Metrics":[{"Name":"m","Unit":"Hours"}]"#,
                ",\"m\":1",
            ),
            "is not one of",
        ),
        (
            line(r#""Dimensions":[[]],"Metrics":[{"Unit":"Count"}]"#, ",\"m\":1"),
            "'Name' is a required property",
        ),
        (
            line(one, r#","d":"v","m":1"#).replace(":1,\"Cloud", ":1.5,\"Cloud"),
            "is not of type 'integer'",
        ),
        (line(one, r#","d":"v","m":"1""#), "is no number"),
        (line(one, r#","d":"v","m":NaN"#), "is no JSON"),
        (line(one, r#","d":"v","m":1e200"#), "out of range"),
        (line(one, r#","d":" ","m":1"#), "no dimension"),
        (line(one, r#","d":"v","m":1,"m":1"#), "twice"),
        (line(one, r#","d":"v""#), "is not there"),
        ("printed by somebody\n".to_owned(), "more than an object"),
        ("{}\n".to_owned(), "'_aws' is a required property"),
        (line(one, r#","d":"v","m":1"#).trim_end().to_owned(), "no end"),
    ] {
        let error = read(wrong.as_bytes()).expect_err(&wrong);
        assert!(error.contains(words), "{error}");
    }
}

fn url(path: &std::path::Path, namespace: &str) -> EmfBuilder {
    Emf::builder(format!("emf+file://{}", path.display()))
        .namespace(namespace)
        .environment(false)
}

/// Without what the exporter says of itself, which has two labels more than there is place for.
fn of_the_test() -> Filter {
    Filter::new().families(|family: &FamilySnapshot| !family.name().starts_with("tidegauge_"))
}

/// As CloudWatch has it: dimensions are of visible ASCII, and without text there is none.
fn key(name: &str, constant: &[(String, String)], value: Option<&str>) -> Key {
    let mut dimensions: BTreeMap<String, String> = constant.iter().cloned().collect();
    if let Some(value) = value.filter(|value| !value.trim().is_empty()) {
        let mut spelled = String::new();
        for unit in value.encode_utf16() {
            match u8::try_from(unit) {
                Ok(byte @ b' '..=b'~') => spelled.push(byte.into()),
                _ => spelled += &format!("\\u{unit:04x}"),
            }
        }
        dimensions.insert("value".to_owned(), spelled);
    }
    (name.to_owned(), dimensions)
}

/// Name and labels of a sample of OpenMetrics, in whose labels nothing is escaped.
fn parse(sample: &str) -> Key {
    let (name, labels) = sample.trim_end_matches('}').split_once('{').unwrap_or((sample, ""));
    let labels = labels.split(',').filter_map(|label| label.split_once('='));
    let labels = labels.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned()));
    (name.to_owned(), labels.collect())
}

/// Has the validator read lines. An error with its words if one of them is wrong.
fn read(lines: &[u8]) -> Result<BTreeMap<Key, Metric>, String> {
    let mut child = Command::new(installed("jsonschema/bin/python"))
        .arg(project().join(".ci/emf/read.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("the validator does not start: {error}"));
    // It reads all before it prints, so this cannot block for good.
    let mut input = child.stdin.take().expect("stdin is piped");
    input
        .write_all(lines)
        .unwrap_or_else(|error| panic!("the validator does not read: {error}"));
    drop(input);
    let output = child.wait_with_output().expect("a child can be waited for");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    let metrics = text.lines().map(|line| {
        let object: Value = serde_json::from_str(line).expect("every line is one JSON object");
        let (key, metric) = metric(object).expect("the reader prints all members");
        (key, metric)
    });
    Ok(metrics.collect())
}

fn metric(mut object: Value) -> Result<(Key, Metric), serde_json::Error> {
    let mut take = |member: &str| object[member].take();
    let key = (
        serde_json::from_value(take("name"))?,
        serde_json::from_value(take("dimensions"))?,
    );
    let metric = Metric {
        unit: serde_json::from_value(take("unit"))?,
        times: serde_json::from_value(take("times"))?,
        observed: serde_json::from_value(take("observed"))?,
        samples: serde_json::from_value(take("samples"))?,
        sum: take("sum"),
        sum_of_values: serde_json::from_value(take("sum_of_values"))?,
        last: take("last"),
    };
    Ok((key, metric))
}
