//! Reads lines as CloudWatch does, and checks each by the rules and the JSON schema that its specification publishes:
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>.
//! Where copies of the schema differ, the smaller number holds.

use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// A line, read.
#[derive(Debug)]
pub(in crate::encode::emf) struct Event {
    pub(in crate::encode::emf) time: u64,
    pub(in crate::encode::emf) namespace: String,
    pub(in crate::encode::emf) dimensions: Vec<Vec<String>>,
    pub(in crate::encode::emf) metrics: Vec<Measured>,
    /// All members that are texts.
    pub(in crate::encode::emf) texts: BTreeMap<String, String>,
}

/// One metric of a line.
#[derive(Debug)]
pub(in crate::encode::emf) struct Measured {
    pub(in crate::encode::emf) name: String,
    pub(in crate::encode::emf) unit: Option<String>,
    pub(in crate::encode::emf) value: Measure,
}

#[derive(Clone, Debug, PartialEq)]
pub(in crate::encode::emf) enum Measure {
    /// As it is spelled, so that no digit is lost.
    Number(serde_json::Number),
    Distribution {
        observed: Vec<(f64, u64)>,
        sum: f64,
    },
}

impl Event {
    /// The one metric of a name.
    pub(in crate::encode::emf) fn metric(&self, name: &str) -> &Measured {
        let mut named = self.metrics.iter().filter(|metric| metric.name == name);
        let metric = named.next().unwrap_or_else(|| panic!("no {name} in {self:?}"));
        assert!(named.next().is_none(), "{name} is there twice");
        metric
    }
}

/// Reads a payload: whole lines, each of at most so many bytes.
pub(in crate::encode::emf) fn read(payload: &[u8], most: usize) -> Vec<Event> {
    let text = std::str::from_utf8(payload).expect("EMF is UTF-8");
    assert!(text.is_empty() || text.ends_with('\n'), "a line has no end: {text}");
    text.split_terminator('\n')
        .map(|line| {
            // The line feed is not the event's, but counts here: whoever carries it may count it.
            assert!(line.len() < most, "{} bytes: {line}", line.len());
            read_line(line).unwrap_or_else(|rule| panic!("{rule}: {line}"))
        })
        .collect()
}

fn read_line(line: &str) -> Result<Event, String> {
    if !line.starts_with('{') || !line.ends_with('}') {
        return Err("there is more than an object".to_owned());
    }
    let root: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let root = object(&root, "the root")?;
    let keys = top_level_keys(line);
    let distinct: BTreeSet<&str> = keys.iter().map(String::as_str).collect();
    if distinct.len() != keys.len() || keys.len() != root.len() {
        return Err(format!("a member is there twice among {keys:?}"));
    }
    let metadata = object(member(root, "_aws")?, "_aws")?;
    only(metadata, &["Timestamp", "CloudWatchMetrics"])?;
    let time = member(metadata, "Timestamp")?.as_u64().ok_or("Timestamp: no integer")?;
    let [directive] = &array(member(metadata, "CloudWatchMetrics")?, "CloudWatchMetrics")?[..] else {
        return Err("not one directive, as this crate writes".to_owned());
    };
    let directive = object(directive, "MetricDirective")?;
    only(directive, &["Namespace", "Dimensions", "Metrics"])?;
    let namespace = text(member(directive, "Namespace")?, "Namespace", 1..=255)?;

    let mut dimensions: Vec<Vec<String>> = Vec::new();
    let sets = array(member(directive, "Dimensions")?, "Dimensions")?;
    if sets.is_empty() {
        return Err("Dimensions: no set".to_owned());
    }
    let mut values = BTreeSet::new();
    for set in sets {
        let set = array(set, "DimensionSet")?;
        if set.len() > 30 {
            return Err(format!("DimensionSet: {} dimensions", set.len()));
        }
        let mut names = Vec::new();
        for name in set {
            let name = text(name, "DimensionReference", 1..=250)?;
            let value = text(member(root, &name)?, &name, 1..=1024)?;
            let is_visible = value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
            if !is_visible || value.trim().is_empty() || name.starts_with(':') || names.contains(&name) {
                return Err(format!("{name}: is no dimension with the value {value:?}"));
            }
            values.insert(name.clone());
            names.push(name);
        }
        let is_same = |known: &Vec<String>| known.len() == names.len() && known.iter().all(|name| names.contains(name));
        if dimensions.iter().any(is_same) {
            return Err(format!("Dimensions: {names:?} is there twice"));
        }
        dimensions.push(names);
    }

    let mut metrics: Vec<Measured> = Vec::new();
    let definitions = array(member(directive, "Metrics")?, "Metrics")?;
    if definitions.is_empty() || definitions.len() > 100 {
        return Err(format!("Metrics: {} of them", definitions.len()));
    }
    for definition in definitions {
        let definition = object(definition, "MetricDefinition")?;
        only(definition, &["Name", "Unit"])?;
        let name = text(member(definition, "Name")?, "Name", 1..=255)?;
        let unit = definition.get("Unit").map(|unit| text(unit, "Unit", 1..=255));
        let unit = unit.transpose()?;
        if unit.as_deref().is_some_and(|unit| !UNITS.contains(&unit)) {
            return Err(format!("Unit: {unit:?}"));
        }
        if values.contains(&name) || metrics.iter().any(|metric| metric.name == name) {
            return Err(format!("{name}: is there twice"));
        }
        let value = measure(member(root, &name)?)?;
        metrics.push(Measured { name, unit, value });
    }
    let texts = root
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
    Ok(Event {
        time,
        namespace,
        dimensions,
        metrics,
        texts: texts.collect(),
    })
}

/// A number, or the object of arrays that CloudWatch takes besides.
fn measure(value: &Value) -> Result<Measure, String> {
    if let Value::Number(number) = value {
        in_range(number.as_f64())?;
        return Ok(Measure::Number(number.clone()));
    }
    let parts = object(value, "a metric's value")?;
    only(parts, &["Values", "Counts", "Max", "Min", "Sum", "Count"])?;
    let values = array(member(parts, "Values")?, "Values")?;
    let counts = array(member(parts, "Counts")?, "Counts")?;
    if values.is_empty() || values.len() > 100 || values.len() != counts.len() {
        return Err(format!("{} values and {} counts", values.len(), counts.len()));
    }
    let mut observed = Vec::new();
    for (value, count) in values.iter().zip(counts) {
        let count = count.as_u64().filter(|count| *count > 0).ok_or("Counts: no count")?;
        observed.push((in_range(value.as_f64())?, count));
    }
    let number = |name| in_range(member(parts, name)?.as_f64());
    let least = observed
        .iter()
        .fold(f64::INFINITY, |least, (value, _)| least.min(*value));
    let most = observed
        .iter()
        .fold(f64::NEG_INFINITY, |most, (value, _)| most.max(*value));
    let total: u64 = observed.iter().map(|(_, count)| count).sum();
    if number("Min")? != least || number("Max")? != most || member(parts, "Count")?.as_u64() != Some(total) {
        return Err("statistics that are not those of the values".to_owned());
    }
    Ok(Measure::Distribution {
        observed,
        sum: number("Sum")?,
    })
}

fn in_range(number: Option<f64>) -> Result<f64, String> {
    let number = number.ok_or("no number")?;
    match number.abs() <= 2.0_f64.powi(360) {
        true => Ok(number),
        false => Err(format!("{number} is out of range")),
    }
}

fn member<'a>(object: &'a Map<String, Value>, name: &str) -> Result<&'a Value, String> {
    object.get(name).ok_or_else(|| format!("{name} is missing"))
}

fn object<'a>(value: &'a Value, name: &str) -> Result<&'a Map<String, Value>, String> {
    value.as_object().ok_or_else(|| format!("{name} is no object"))
}

fn array<'a>(value: &'a Value, name: &str) -> Result<&'a Vec<Value>, String> {
    value.as_array().ok_or_else(|| format!("{name} is no array"))
}

fn text(value: &Value, name: &str, length: std::ops::RangeInclusive<usize>) -> Result<String, String> {
    let text = value.as_str().ok_or_else(|| format!("{name} is no text"))?;
    match length.contains(&text.chars().count()) && !text.contains('\n') {
        true => Ok(text.to_owned()),
        false => Err(format!("{name}: {text:?} is too short or too long")),
    }
}

fn only(object: &Map<String, Value>, names: &[&str]) -> Result<(), String> {
    match object.keys().find(|key| !names.contains(&key.as_str())) {
        None => Ok(()),
        Some(stranger) => Err(format!("{stranger} is no member of that")),
    }
}

/// The names of the root's members as often as they are there, which a parser would not say.
fn top_level_keys(line: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let (mut depth, mut start, mut escaped) = (0, None, false);
    for (at, byte) in line.bytes().enumerate() {
        match (start, byte) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), b'\\') => escaped = true,
            (Some(from), b'"') => {
                start = None;
                if depth == 1 && line[at + 1..].starts_with(':') {
                    keys.push(serde_json::from_str(&line[from..=at]).unwrap());
                }
            }
            (Some(_), _) => {}
            (None, b'"') => start = Some(at),
            (None, b'{' | b'[') => depth += 1,
            (None, b'}' | b']') => depth -= 1,
            (None, _) => {}
        }
    }
    keys
}

const UNITS: [&str; 27] = [
    "Seconds",
    "Microseconds",
    "Milliseconds",
    "Bytes",
    "Kilobytes",
    "Megabytes",
    "Gigabytes",
    "Terabytes",
    "Bits",
    "Kilobits",
    "Megabits",
    "Gigabits",
    "Terabits",
    "Percent",
    "Count",
    "Bytes/Second",
    "Kilobytes/Second",
    "Megabytes/Second",
    "Gigabytes/Second",
    "Terabytes/Second",
    "Bits/Second",
    "Kilobits/Second",
    "Megabits/Second",
    "Gigabits/Second",
    "Terabits/Second",
    "Count/Second",
    "None",
];

/// The validator can fail.
#[test]
fn what_breaks_a_rule_is_found() {
    let line = |directive: &str, members: &str| {
        format!(r#"{{"_aws":{{"Timestamp":1,"CloudWatchMetrics":[{{"Namespace":"N",{directive}}}]}}{members}}}"#)
    };
    let one = r#""Dimensions":[["d"]],"Metrics":[{"Name":"m"}]"#;
    assert!(read_line(&line(one, r#","d":"v","m":1"#)).is_ok());
    let many = |count: usize| {
        (0..count)
            .map(|at| format!("{{\"Name\":\"m{at}\"}}"))
            .collect::<Vec<_>>()
            .join(",")
    };
    let values = |count: usize| (0..count).map(|at| format!(",\"m{at}\":1")).collect::<String>();
    let metrics = |count: usize| {
        line(
            &format!(r#""Dimensions":[[]],"Metrics":[{}]"#, many(count)),
            &values(count),
        )
    };
    assert!(read_line(&metrics(100)).is_ok());
    let ones = |count: usize| vec!["1"; count].join(",");
    let distribution = |count: usize, total: usize| {
        let arrays = format!(r#""Values":[{0}],"Counts":[{0}]"#, ones(count));
        line(
            one,
            &format!(r#","d":"v","m":{{{arrays},"Max":1,"Min":1,"Sum":{total},"Count":{total}}}"#),
        )
    };
    assert!(read_line(&distribution(100, 100)).is_ok());
    for (line, rule) in [
        (metrics(101), "Metrics: 101"),
        (distribution(101, 101), "101 values"),
        (distribution(3, 4), "statistics"),
        (line(one, r#","d":"v""#), "m is missing"),
        (line(one, r#","m":1"#), "d is missing"),
        (line(one, r#","d":"","m":1"#), "too short"),
        (line(one, r#","d":"ü","m":1"#), "no dimension"),
        (line(one, r#","d":"v","m":1,"m":1"#), "twice"),
        (line(one, r#","d":"v","m":1e200"#), "out of range"),
        (line(one, r#","d":"v","m":"1""#), "no object"),
        (
            line(r#""Dimensions":[],"Metrics":[{"Name":"m"}]"#, r#","m":1"#),
            "no set",
        ),
        (
            line(
                r#""Dimensions":[[]],"Metrics":[{"Name":"m","Unit":"Hours"}]"#,
                r#","m":1"#,
            ),
            "Unit",
        ),
        (format!("{} ", metrics(1)), "more than an object"),
        (metrics(1).replace("1,\"Cloud", "1.5,\"Cloud"), "no integer"),
    ] {
        let found = read_line(&line).expect_err(&line);
        assert!(found.contains(rule), "{found} for {line}");
    }
}
