//! Advice on names, units, labels, help and buckets that are legal but will be regretted.
//!
//! Says all that `promtool check metrics` would say of the exposition of a family
//! (<https://github.com/prometheus/client_golang/tree/main/prometheus/testutil/promlint>, v1.24), and what the guides to
//! naming (<https://prometheus.io/docs/practices/naming/>) and to exporters
//! (<https://prometheus.io/docs/instrumenting/writing_exporters/>) say beyond it. Pure: it looks at a description of one family,
//! never at its values. What no format can express was refused by `name.rs` before.

use std::fmt;

use crate::name::{Kind, LabelName, MetricName};

/// One piece of advice on a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lint {
    metric: Box<str>,
    rule: Box<str>,
    fix: Box<str>,
}

impl Lint {
    /// The metric, by the name that Prometheus sees.
    pub fn metric(&self) -> &str {
        &self.metric
    }

    /// What is unwise about it.
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// What to do instead.
    pub fn fix(&self) -> &str {
        &self.fix
    }
}

impl fmt::Display for Lint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}; {}", self.metric, self.rule, self.fix)
    }
}

/// A family as far as the rules look at it.
pub(crate) struct LintInput<'a> {
    /// The name, which knows its kind and unit.
    pub(crate) name: &'a MetricName,
    /// The help text.
    pub(crate) help: &'a str,
    /// Every label of its series, the registry's constant ones included.
    pub(crate) labels: &'a [&'a LabelName],
    /// The finite bounds of a histogram.
    pub(crate) bounds: Option<&'a [f64]>,
}

/// All advice on one family, in the order of its declaration: name, unit, help, labels, buckets.
pub(crate) fn lint(input: &LintInput<'_>) -> Vec<Lint> {
    let mut advice = Advice {
        metric: input.name.sample(),
        lints: Vec::new(),
    };
    suffixes(input, &mut advice);
    words_of_the_name(input, &mut advice);
    letters(input, &mut advice);
    units(input, &mut advice);
    missing_unit(input, &mut advice);
    help(input, &mut advice);
    labels(input, &mut advice);
    buckets(input, &mut advice);
    advice.lints
}

struct Advice<'a> {
    metric: &'a str,
    lints: Vec<Lint>,
}

impl Advice<'_> {
    fn give(&mut self, rule: impl Into<String>, fix: impl Into<String>) {
        let lint = Lint {
            metric: self.metric.into(),
            rule: rule.into().into(),
            fix: fix.into().into(),
        };
        // Two words of a name may break one rule.
        if !self.lints.contains(&lint) {
            self.lints.push(lint);
        }
    }
}

/// Ends of names that readers take for another kind of metric.
fn suffixes(input: &LintInput<'_>, advice: &mut Advice<'_>) {
    let kind = input.name.kind();
    let sample = input.name.sample();
    if kind != Kind::Counter && sample.ends_with("_total") {
        advice.give(
            "ends in \"_total\", which says counter",
            "drop the ending, or make it a counter",
        );
    }
    if kind != Kind::Histogram {
        for suffix in ["_bucket", "_count", "_sum"] {
            if sample.ends_with(suffix) {
                advice.give(
                    format!("ends in {suffix:?}, which says part of a histogram"),
                    "rename it, for example to what it counts, in the plural",
                );
            }
        }
    }
    let family = input.name.family();
    if family.ends_with("_created") {
        advice.give(
            "ends in \"_created\", which OpenMetrics keeps for the time at which a series began",
            "rename it, for example to \"…_creations\" or \"…_creation_time\"",
        );
    }
    if matches!(kind, Kind::Counter | Kind::Histogram) && family.ends_with("_info") {
        advice.give(
            "ends in \"_info\", which says a gauge that is always 1 and carries labels",
            "drop the ending, or make it a gauge",
        );
    }
    if sample.starts_with("scrape_") {
        advice.give(
            "starts with \"scrape_\", under which Prometheus writes metrics of its own",
            "put the name of the application before it",
        );
    }
}

/// Words that say in a name what Prometheus knows, or drops.
fn words_of_the_name(input: &LintInput<'_>, advice: &mut Advice<'_>) {
    for word in later_words(input.name.sample()) {
        if TYPES.contains(&word.to_ascii_lowercase().as_str()) {
            advice.give(
                format!("has its type in its name, {word:?}"),
                "drop the word: Prometheus is told the type",
            );
        }
    }
    if input.name.kind() == Kind::Counter {
        let given: Vec<&str> = input
            .name
            .given()
            .split(['_', '.', '-', '/'])
            .filter(|word| !word.is_empty())
            .collect();
        let before_last = &given[..given.len().saturating_sub(1)];
        if before_last.contains(&"total") {
            advice.give(
                "has \"total\" within its name, from where Prometheus moves it to the end",
                "write it at the end or not at all",
            );
        }
    }
    let family = format!("_{}_", input.name.family());
    for label in input.labels {
        let label = label.prometheus();
        for joint in ["by", "per"] {
            if family.contains(&format!("_{joint}_{label}_")) {
                advice.give(
                    format!("has its label {label:?} in its name, which will be wrong of any sum over that label"),
                    format!("drop \"{joint}_{label}\""),
                );
            }
        }
        if label == input.name.family() || label == input.name.sample() {
            advice.give(
                format!("has a label of its own name, {label:?}"),
                "name the label for what its values are",
            );
        }
    }
}

fn letters(input: &LintInput<'_>, advice: &mut Advice<'_>) {
    if is_camel_case(input.name.sample()) {
        advice.give("is written in camelCase", "write it in snake_case");
    } else if input.name.given().bytes().any(|byte| byte.is_ascii_uppercase()) {
        advice.give(
            "has capital letters, which Prometheus tells from small ones and OpenTelemetry does not",
            "write it in small letters",
        );
    }
    for label in input.labels {
        if is_camel_case(label.prometheus()) {
            advice.give(
                format!("has a label in camelCase, {:?}", label.prometheus()),
                "write labels in snake_case",
            );
        }
    }
}

/// Units that are not base units, are abbreviated, contradict the name, or are none that Prometheus has a word for.
fn units(input: &LintInput<'_>, advice: &mut Advice<'_>) {
    let sample = input.name.sample();
    for word in sample.split('_') {
        if let Some(base) = base_of(word) {
            if base != word {
                advice.give(
                    format!("is in {word}, which is no base unit"),
                    format!("record {base}; what draws it can scale it"),
                );
            }
        } else if word == "percent" {
            advice.give("is in percent", "record a ratio from 0 to 1, with the unit \"1\"");
        } else if word == "watts" {
            advice.give(
                "is in watts",
                "count joules: their rate is in watts, and nothing between two scrapes is lost",
            );
        }
    }
    if later_words(sample).any(|word| ABBREVIATIONS.contains(&word.to_ascii_lowercase().as_str())) {
        advice.give(
            "has an abbreviated unit in its name",
            "register it without, and give the unit as such",
        );
    }

    let Some(unit) = input.name.unit() else {
        return;
    };
    if unit.word().contains("per_") {
        advice.give(
            "is a rate",
            "count what it is a rate of, and let the query divide: that works over any time",
        );
    }
    if !unit.is_known() && base_of(unit.word()).is_none() {
        advice.give(
            format!("is in {:?}, a unit that Prometheus has no word for", unit.given()),
            "give a base unit by its UCUM code: s, By, m, g, J, V, A, Cel, or 1 for a ratio",
        );
    }
    let last = input
        .name
        .family()
        .strip_suffix(unit.word())
        .and_then(|stem| stem.trim_end_matches('_').rsplit('_').next());
    if let Some(last) = last
        && !unit.word().is_empty()
        && base_of(last).is_some()
    {
        advice.give(
            format!("has two units, {last} and {}", unit.word()),
            "take one out of the name, or give the other as the unit",
        );
    }
}

/// Measurements without a unit. Counts need none, so this goes by kind and by telling words.
fn missing_unit(input: &LintInput<'_>, advice: &mut Advice<'_>) {
    let family = input.name.family();
    if input.name.unit().is_some() || family.split('_').any(|word| base_of(word).is_some()) {
        return;
    }
    let last = family.rsplit('_').next().unwrap_or(family);
    if let Some((_, code)) = MEASURED.iter().find(|(word, _)| *word == last) {
        advice.give("has no unit", format!("give it one, probably {code:?}"));
    } else if input.name.kind() == Kind::Histogram {
        advice.give(
            "has no unit",
            "give it one, such as \"s\" or \"By\"; where it counts things, say what they are, as in \"{request}\"",
        );
    }
}

/// A help text that does not help.
fn help(input: &LintInput<'_>, advice: &mut Advice<'_>) {
    let help = input.help.trim();
    let names = [input.name.given(), input.name.sample(), input.name.family()];
    let said: Vec<String> = help
        .split(|each: char| !each.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    let repeats = names.iter().any(|name| {
        let words = name
            .split(|each: char| !each.is_alphanumeric())
            .filter(|word| !word.is_empty());
        words.map(str::to_lowercase).eq(said.iter().cloned())
    });
    let starts = names.iter().any(|name| {
        let more = help.strip_prefix(name).filter(|_| name.contains(['_', '.']));
        more.is_some_and(|more| !more.starts_with(|each: char| each.is_alphanumeric() || each == '_'))
    });
    if repeats {
        advice.give(
            "has a help text that says no more than its name",
            "say in a sentence what is measured, and when",
        );
    } else if starts {
        advice.give(
            "has a help text that starts with its name",
            "leave the name out: it is always shown beside it",
        );
    }
}

/// Labels that the server renames, or that grow without end.
fn labels(input: &LintInput<'_>, advice: &mut Advice<'_>) {
    for label in input.labels {
        let label = label.prometheus();
        if matches!(label, "job" | "instance") {
            advice.give(
                format!("has the label {label:?}, which the server sets for every target; it renames yours to \"exported_{label}\""),
                "rename the label",
            );
        }
        if label.starts_with("otel_scope_") {
            advice.give(
                format!("has the label {label:?}, which receivers of OTLP write about the library that measures"),
                "rename the label",
            );
        }
        if ENDLESS.contains(&label.to_ascii_lowercase().as_str()) {
            advice.give(
                format!("has the label {label:?}, whose values have no end: every one costs a series"),
                "leave it to logs and traces",
            );
        }
    }
}

/// Bounds that betray another unit, or cost more than they tell.
fn buckets(input: &LintInput<'_>, advice: &mut Advice<'_>) {
    let Some(bounds @ [first, .., last] | bounds @ [first @ last]) = input.bounds else {
        return;
    };
    match input.name.unit().map(|unit| unit.given()) {
        Some("s") if *first > LONG_SECONDS => advice.give(
            format!("is in seconds, but all its buckets lie above {LONG_SECONDS}"),
            "give the bounds in seconds, not in milliseconds",
        ),
        Some("By") if *last < FEW_BYTES => advice.give(
            format!("is in bytes, but all its buckets lie below {FEW_BYTES}"),
            "give the bounds in bytes: these look like seconds or mebibytes",
        ),
        _ => {}
    }
    if bounds.len() > MANY_BUCKETS {
        advice.give(
            format!("has {} buckets, each a series for every label set", bounds.len() + 1),
            "keep the bounds that a query or an alert asks for, or use fewer and wider ones",
        );
    }
}

/// The base unit of a word, or of its unit if it has a prefix; the word itself if it is one.
fn base_of(word: &str) -> Option<&'static str> {
    let plain = |word: &str| UNITS.iter().find(|(unit, _)| *unit == word).map(|(_, base)| *base);
    plain(word).or_else(|| {
        let prefix = PREFIXES.iter().filter_map(|prefix| word.strip_prefix(prefix));
        prefix.filter_map(plain).next()
    })
}

/// The words but the first, which names the application and may be anything.
fn later_words(name: &str) -> impl Iterator<Item = &str> {
    name.split('_').skip(1)
}

fn is_camel_case(name: &str) -> bool {
    name.as_bytes()
        .windows(2)
        .any(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase())
}

const TYPES: [&str; 4] = ["counter", "gauge", "histogram", "summary"];

/// Units and their base units, <https://prometheus.io/docs/practices/naming/#base-units>.
const UNITS: [(&str, &str); 24] = [
    ("seconds", "seconds"),
    ("bytes", "bytes"),
    ("celsius", "celsius"),
    ("meters", "meters"),
    ("metres", "metres"),
    ("grams", "grams"),
    ("joules", "joules"),
    ("volts", "volts"),
    ("amperes", "amperes"),
    ("kelvin", "kelvin"),
    ("minutes", "seconds"),
    ("hours", "seconds"),
    ("days", "seconds"),
    ("weeks", "seconds"),
    ("bits", "bytes"),
    ("kelvins", "kelvin"),
    ("fahrenheit", "celsius"),
    ("rankine", "celsius"),
    ("inches", "meters"),
    ("yards", "meters"),
    ("miles", "meters"),
    ("calories", "joules"),
    ("pounds", "grams"),
    ("ounces", "grams"),
];

/// `mibi` and `tibi` are no prefixes, but the one is in promtool's list and the other in Prometheus' names.
const PREFIXES: [&str; 20] = [
    "pico", "nano", "micro", "milli", "centi", "deci", "deca", "hecto", "kilo", "kibi", "mega", "mebi", "mibi", "giga",
    "gibi", "tera", "tebi", "tibi", "peta", "pebi",
];

const ABBREVIATIONS: [&str; 14] = [
    "s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d",
];

/// Last words of names that measure something, and the unit it is probably in.
const MEASURED: [(&str, &str); 13] = [
    ("duration", "s"),
    ("latency", "s"),
    ("elapsed", "s"),
    ("time", "s"),
    ("uptime", "s"),
    ("age", "s"),
    ("delay", "s"),
    ("timestamp", "s"),
    ("memory", "By"),
    ("temperature", "Cel"),
    ("energy", "J"),
    ("voltage", "V"),
    ("distance", "m"),
];

/// Labels that name one request, person or moment, <https://prometheus.io/docs/practices/naming/#labels>.
const ENDLESS: [&str; 12] = [
    "user_id",
    "userid",
    "email",
    "session_id",
    "request_id",
    "trace_id",
    "span_id",
    "correlation_id",
    "uuid",
    "guid",
    "timestamp",
    "url",
];

const LONG_SECONDS: f64 = 100.0;
const FEW_BYTES: f64 = 16.0;
const MANY_BUCKETS: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;

    fn advice(kind: Kind, given: &str, unit: &str, labels: &[&str], bounds: Option<&[f64]>) -> Vec<String> {
        lint_of(kind, given, unit, "What it is.", labels, bounds)
    }

    fn lint_of(
        kind: Kind,
        given: &str,
        unit: &str,
        help: &str,
        labels: &[&str],
        bounds: Option<&[f64]>,
    ) -> Vec<String> {
        let name = MetricName::parse(kind, given, Some(unit), None).unwrap();
        let labels: Vec<LabelName> = labels.iter().map(|label| LabelName::parse(label).unwrap()).collect();
        let labels: Vec<&LabelName> = labels.iter().collect();
        let lints = lint(&LintInput {
            name: &name,
            help,
            labels: &labels,
            bounds,
        });
        lints.iter().map(|lint| lint.rule().to_owned()).collect()
    }

    #[test]
    fn good_metrics_pass() {
        let bounds = [0.005, 0.05, 0.5, 5.0];
        for (kind, given, unit, labels) in [
            (Kind::Counter, "http_requests_total", "", &["method", "status"][..]),
            (Kind::Counter, "http.server.requests", "{request}", &["http.route"]),
            (Kind::Counter, "jobs", "1", &[]),
            (Kind::Counter, "sent_bytes_total", "", &[]),
            (Kind::Counter, "process_cpu_seconds_total", "", &[]),
            (Kind::Gauge, "queue_depth", "", &["queue"]),
            (Kind::Gauge, "cpu_use", "1", &[]),
            (Kind::Gauge, "room_temperature", "Cel", &[]),
            (Kind::Gauge, "lamp_color", "kelvin", &[]),
            (Kind::Gauge, "start_time_seconds", "", &[]),
            (Kind::Gauge, "app_build_info", "", &["version"]),
            (Kind::UpDownCounter, "requests_in_flight", "{request}", &[]),
            (Kind::Histogram, "http.server.request.duration", "s", &["http.route"]),
            (Kind::Histogram, "http_request_size_bytes", "", &[]),
            (Kind::Histogram, "batch_size", "{row}", &[]),
        ] {
            let bounds = (kind == Kind::Histogram && unit == "s").then_some(&bounds[..]);
            assert_eq!(advice(kind, given, unit, labels, bounds), [""; 0], "{given}");
        }
    }

    /// What promlint of client_golang v1.24.1 says of these, in our words.
    #[test]
    fn all_that_promtool_says_is_said() {
        for (kind, given, unit, labels, expected) in [
            (
                Kind::Gauge,
                "wait_milliseconds",
                "",
                &[][..],
                "is in milliseconds, which is no base unit",
            ),
            (Kind::Gauge, "wait", "min", &[], "is in minutes, which is no base unit"),
            (
                Kind::Counter,
                "app_kibibytes_read",
                "",
                &[],
                "is in kibibytes, which is no base unit",
            ),
            (
                Kind::Gauge,
                "jobs_total",
                "",
                &[],
                "ends in \"_total\", which says counter",
            ),
            (
                Kind::Histogram,
                "jobs_total",
                "",
                &[],
                "ends in \"_total\", which says counter",
            ),
            (
                Kind::Gauge,
                "jobs_bucket",
                "",
                &[],
                "ends in \"_bucket\", which says part of a histogram",
            ),
            (
                Kind::UpDownCounter,
                "jobs_count",
                "",
                &[],
                "ends in \"_count\", which says part of a histogram",
            ),
            (
                Kind::Gauge,
                "jobs.sum",
                "",
                &[],
                "ends in \"_sum\", which says part of a histogram",
            ),
            (
                Kind::Gauge,
                "jobs_gauge",
                "",
                &[],
                "has its type in its name, \"gauge\"",
            ),
            (
                Kind::Counter,
                "jobs_Counter_x",
                "",
                &[],
                "has its type in its name, \"Counter\"",
            ),
            (Kind::Gauge, "jobsRun", "", &[], "is written in camelCase"),
            (
                Kind::Gauge,
                "jobs",
                "",
                &["jobName"],
                "has a label in camelCase, \"jobName\"",
            ),
            (Kind::Gauge, "wait_ms", "", &[], "has an abbreviated unit in its name"),
            (
                Kind::Counter,
                "sent_kb_x",
                "",
                &[],
                "has an abbreviated unit in its name",
            ),
        ] {
            let said = advice(kind, given, unit, labels, None);
            assert!(said.iter().any(|rule| rule == expected), "{given}: {said:?}");
        }
    }

    #[test]
    fn what_the_guides_say_beyond_promtool_is_said() {
        for (kind, given, unit, labels, expected) in [
            (
                Kind::Gauge,
                "jobs_created",
                "",
                &[][..],
                "ends in \"_created\", which OpenMetrics keeps for the time at which a series began",
            ),
            (
                Kind::Counter,
                "app_info",
                "",
                &[],
                "ends in \"_info\", which says a gauge that is always 1 and carries labels",
            ),
            (
                Kind::Gauge,
                "scrape_errors",
                "",
                &[],
                "starts with \"scrape_\", under which Prometheus writes metrics of its own",
            ),
            (
                Kind::Counter,
                "app_total_jobs",
                "",
                &[],
                "has \"total\" within its name, from where Prometheus moves it to the end",
            ),
            (
                Kind::Counter,
                "jobs_by_kind",
                "",
                &["kind"],
                "has its label \"kind\" in its name, which will be wrong of any sum over that label",
            ),
            (
                Kind::Gauge,
                "colour",
                "",
                &["colour"],
                "has a label of its own name, \"colour\"",
            ),
            (
                Kind::Gauge,
                "Jobs",
                "",
                &[],
                "has capital letters, which Prometheus tells from small ones and OpenTelemetry does not",
            ),
            (Kind::Gauge, "cpu_use", "%", &[], "is in percent"),
            (Kind::Gauge, "draw", "W", &[], "is in watts"),
            (
                Kind::Gauge,
                "disk",
                "TiBy",
                &[],
                "is in tibibytes, which is no base unit",
            ),
            (Kind::Gauge, "load", "By/s", &[], "is a rate"),
            (
                Kind::Gauge,
                "way",
                "km",
                &[],
                "is in \"km\", a unit that Prometheus has no word for",
            ),
            (
                Kind::Gauge,
                "disk",
                "knots",
                &[],
                "is in \"knots\", a unit that Prometheus has no word for",
            ),
            (
                Kind::Gauge,
                "wait_seconds",
                "By",
                &[],
                "has two units, seconds and bytes",
            ),
            (Kind::Histogram, "request_size", "", &[], "has no unit"),
            (Kind::Gauge, "request_duration", "", &[], "has no unit"),
            (Kind::Counter, "cpu_time", "", &[], "has no unit"),
            (
                Kind::Counter,
                "jobs",
                "",
                &["job"],
                "has the label \"job\", which the server sets for every target; it renames yours to \"exported_job\"",
            ),
            (
                Kind::Counter,
                "jobs",
                "",
                &["otel.scope.name"],
                "has the label \"otel_scope_name\", which receivers of OTLP write about the library that measures",
            ),
            (
                Kind::Counter,
                "jobs",
                "",
                &["user.id"],
                "has the label \"user_id\", whose values have no end: every one costs a series",
            ),
        ] {
            assert_eq!(advice(kind, given, unit, labels, None), [expected], "{given}");
        }
    }

    #[test]
    fn help_must_add_something() {
        for (help, expected) in [
            (
                "HTTP requests.",
                Some("has a help text that says no more than its name"),
            ),
            (
                "http_requests_total",
                Some("has a help text that says no more than its name"),
            ),
            (
                "http_requests_total counts requests.",
                Some("has a help text that starts with its name"),
            ),
            (
                "http.requests: requests served",
                Some("has a help text that starts with its name"),
            ),
            ("http_requests_totally", None),
            ("Requests served, by method.", None),
            ("花", None),
        ] {
            let said = lint_of(Kind::Counter, "http.requests", "", help, &[], None);
            assert_eq!(said.first().map(String::as_str), expected, "{help}");
        }
        assert_eq!(
            lint_of(Kind::Counter, "jobs", "", "jobs done by workers", &[], None),
            [""; 0]
        );
    }

    #[test]
    fn buckets_must_fit_the_unit() {
        let many: Vec<f64> = (1..=51).map(f64::from).collect();
        for (unit, bounds, expected) in [
            (
                "s",
                &[250.0, 500.0, 1000.0][..],
                Some("is in seconds, but all its buckets lie above 100"),
            ),
            ("s", &[250.0], Some("is in seconds, but all its buckets lie above 100")),
            ("s", &[0.1, 1000.0], None),
            ("s", &[], None),
            (
                "By",
                &[0.1, 1.0, 10.0],
                Some("is in bytes, but all its buckets lie below 16"),
            ),
            ("By", &[1.0, 1024.0], None),
            (
                "{row}",
                &many,
                Some("has 52 buckets, each a series for every label set"),
            ),
            ("{row}", &many[1..], None),
        ] {
            let said = advice(Kind::Histogram, "app_things", unit, &[], Some(bounds));
            assert_eq!(said.first().map(String::as_str), expected, "{unit} {bounds:?}");
            assert!(said.len() < 2, "{said:?}");
        }
    }

    #[test]
    fn advice_says_metric_rule_and_fix_once() {
        let name = MetricName::parse(Kind::Counter, "sent_ms_kb", None, None).unwrap();
        let lints = lint(&LintInput {
            name: &name,
            help: "Sent.",
            labels: &[],
            bounds: None,
        });
        assert_eq!(lints.len(), 1);
        assert_eq!(
            lints[0].to_string(),
            "sent_ms_kb_total: has an abbreviated unit in its name; register it without, and give the unit as such"
        );
        assert_eq!(
            (lints[0].metric(), lints[0].fix().len() > 10),
            ("sent_ms_kb_total", true)
        );
    }
}
