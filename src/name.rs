//! Names of metrics and labels, parsed once: what a user registers, and how Prometheus spells it.
//!
//! A name has to be expressible in every format, so a name is one that OpenTelemetry allows
//! (<https://opentelemetry.io/docs/specs/otel/metrics/api/#instrument-name-syntax>), and its Prometheus spelling is
//! the one that Prometheus 3 itself gives to an OTLP push of it at its default strategy,
//! `UnderscoreEscapingWithSuffixes` (<https://github.com/prometheus/otlptranslator>, v1.0.0): a scraped metric and a
//! pushed one are the same series. The registry calls this at registration; nothing downstream checks or escapes a
//! name again. What is legal but unwise is left to `registry/lint.rs`.

mod unit;

use std::fmt;

pub(crate) use unit::Unit;

/// A name, label, unit or help text that not every format can express.
///
/// The message names the thing, the rule and the fix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameError {
    message: Box<str>,
}

impl NameError {
    #[cold]
    fn new(thing: &str, given: &str, rule: impl fmt::Display, fix: impl fmt::Display) -> NameError {
        // A name that is far too long would drown its own error.
        let shown = match given.char_indices().nth(LONGEST_SHOWN) {
            Some((end, _)) => format!("{:?}…", &given[..end]),
            None => format!("{given:?}"),
        };
        NameError {
            message: format!("{thing} {shown}: {rule}; {fix}").into(),
        }
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for NameError {}

/// What the spelling of a name depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Only goes up; Prometheus writes `_total` behind it.
    Counter,
    /// Any value; without dimension (unit `1`) Prometheus writes `_ratio` behind it.
    Gauge,
    /// A sum that also goes down: a gauge to Prometheus, but a sum in OTLP and therefore never given `_ratio`.
    UpDownCounter,
    /// Observations in buckets.
    Histogram,
}

/// The name of a metric in every spelling that a format may need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MetricName {
    kind: Kind,
    given: Box<str>,
    /// Set where `given` would make Prometheus repeat a unit.
    otlp: Option<Box<str>>,
    family: Box<str>,
    sample: Box<str>,
    unit: Option<Unit>,
}

impl MetricName {
    /// Checks a name, joins it to the registry's prefix and works out its spellings.
    ///
    /// A counter with or without `_total`, and any kind with or without the word of its unit at its end, is one
    /// name. Where no unit is given, a known word at the end of the name is the unit.
    pub(crate) fn parse(
        kind: Kind,
        given: &str,
        unit: Option<&str>,
        prefix: Option<&str>,
    ) -> Result<MetricName, NameError> {
        check_characters(METRIC_NAME, given)?;
        let full = match prefix {
            Some(prefix) if !prefix.is_empty() => {
                check_prefix(prefix)?;
                join(prefix, given)
            }
            _ => given.to_owned(),
        };
        if full.len() > LONGEST {
            return Err(NameError::new(
                METRIC_NAME,
                &full,
                format_args!(
                    "must be at most {LONGEST} characters with its prefix, and has {}",
                    full.len()
                ),
                "shorten it, or carry part of it as a label",
            ));
        }

        let unit = match unit.map(Unit::parse).transpose()?.flatten() {
            Some(unit) if kind == Kind::Gauge && (unit.is_dimensionless() || unit.given() == unit::RATIO) => {
                Some(Unit::ratio())
            }
            Some(unit) => Some(unit),
            None => inferred_unit(kind, &full),
        };
        let otlp = unit.as_ref().and_then(|unit| without_repeated_rate(kind, &full, unit));
        let words = translate(kind, otlp.unwrap_or(&full), unit.as_ref());
        let family = words.join("_");
        check_family(given, &family)?;
        let sample = match kind {
            Kind::Counter => format!("{family}_{TOTAL}"),
            Kind::Gauge | Kind::UpDownCounter | Kind::Histogram => family.clone(),
        };
        check_not_the_servers(given, &sample)?;

        Ok(MetricName {
            kind,
            otlp: otlp.map(Box::from),
            given: full.into(),
            family: family.into(),
            sample: sample.into(),
            unit,
        })
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The name as it was registered, behind the registry's prefix.
    pub(crate) fn given(&self) -> &str {
        &self.given
    }

    /// The name that OTLP sends: the one that was registered.
    ///
    /// One exception: to a name that spells out a rate Prometheus adds the rate once more
    /// (`load_per_second_per_second` of `load_per_second` in `By/s`), so OTLP sends it without.
    pub(crate) fn otlp(&self) -> &str {
        self.otlp.as_deref().unwrap_or(&self.given)
    }

    /// The Prometheus name without `_total`, its unit included: what the metadata lines of OpenMetrics name.
    pub(crate) fn family(&self) -> &str {
        &self.family
    }

    /// The name that Prometheus sees: a counter's with `_total`, otherwise the family's. A histogram writes its
    /// samples under this name and a suffix.
    pub(crate) fn sample(&self) -> &str {
        &self.sample
    }

    /// The unit, given or found at the end of the name.
    pub(crate) fn unit(&self) -> Option<&Unit> {
        self.unit.as_ref()
    }

    /// The word for the `# UNIT` line of OpenMetrics, which is valid only if the family's name ends with it
    /// (`bytes_read` in `By` has its word in front and gets no such line).
    pub(crate) fn unit_line(&self) -> Option<&str> {
        let word = self.unit.as_ref()?.word();
        let stem = self.family.strip_suffix(word)?;
        (!word.is_empty() && stem.len() > 1 && stem.ends_with('_')).then_some(word)
    }

    /// The key under which the registry keeps the family. OpenTelemetry's names know no case, so two names that
    /// differ in case alone have one key.
    pub(crate) fn identity(&self) -> String {
        self.sample.to_ascii_lowercase()
    }

    /// Whether a second registration of the same identity means the same unit. One that leaves the unit out means
    /// the first one's where the unit is part of the name anyway.
    pub(crate) fn same_unit(&self, other: &MetricName) -> bool {
        match (&self.unit, &other.unit) {
            (None, None) => true,
            (Some(one), Some(another)) => one == another,
            (Some(unit), None) | (None, Some(unit)) => !unit.word().is_empty(),
        }
    }

    /// Every name that an encoder may write for this family, in lower case, each once: no other family may claim
    /// any of them.
    ///
    /// OpenMetrics forbids two families that could produce one sample name
    /// (<https://prometheus.io/docs/specs/om/open_metrics_spec/#suffixes>), whether they do or not. The name without
    /// any suffix is claimed too: OTLP, and formats that add no unit, tell `memory` in `By` from `memory` in `%` by
    /// nothing.
    pub(crate) fn claims(&self) -> impl Iterator<Item = String> {
        let family = self.family.to_ascii_lowercase();
        let suffixes: &[&str] = match self.kind {
            Kind::Counter => &["_total", "_created"],
            Kind::Gauge | Kind::UpDownCounter => &[],
            Kind::Histogram => &["_bucket", "_count", "_sum", "_created"],
        };
        let mut claims: Vec<String> = suffixes.iter().map(|suffix| format!("{family}{suffix}")).collect();
        let bare = words(self.otlp()).collect::<Vec<_>>().join("_").to_ascii_lowercase();
        claims.push(family);
        if !claims.contains(&bare) {
            claims.push(bare);
        }
        claims.into_iter()
    }
}

/// The name of a label, as it was given and as Prometheus spells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LabelName {
    given: Box<str>,
    prometheus: Box<str>,
}

impl LabelName {
    /// Checks a label's name. Labels that a format or a server writes itself are refused.
    pub(crate) fn parse(given: &str) -> Result<LabelName, NameError> {
        if given.starts_with('_') {
            return Err(NameError::new(
                LABEL_NAME,
                given,
                "must not start with an underscore: \"__\" is Prometheus' own, and \"_\" is renamed when pushed",
                renaming(given, "kind"),
            ));
        }
        check_characters(LABEL_NAME, given)?;
        // Unlike in metric names, Prometheus leaves runs of underscores in labels.
        let prometheus: String = given
            .chars()
            .map(|each| if each.is_ascii_alphanumeric() { each } else { '_' })
            .collect();
        for (reserved, owner, instead) in RESERVED_LABELS {
            if prometheus == reserved {
                return Err(NameError::new(
                    LABEL_NAME,
                    given,
                    format_args!("is reserved for {owner}"),
                    format_args!("rename it, for example to {instead:?}"),
                ));
            }
        }
        Ok(LabelName {
            given: given.into(),
            prometheus: prometheus.into(),
        })
    }

    /// The name as it was given, which is what OTLP sends: `http.route`.
    pub(crate) fn given(&self) -> &str {
        &self.given
    }

    /// The name as Prometheus spells it: `http_route`.
    pub(crate) fn prometheus(&self) -> &str {
        &self.prometheus
    }
}

/// Checks that the labels of one family, the registry's constant ones included, stay apart in every format.
pub(crate) fn check_labels(labels: &[LabelName]) -> Result<(), NameError> {
    for (index, label) in labels.iter().enumerate() {
        let Some(earlier) = labels[..index]
            .iter()
            .find(|earlier| earlier.prometheus == label.prometheus)
        else {
            continue;
        };
        let rule = if earlier.given == label.given {
            "is there twice".to_owned()
        } else {
            format!(
                "and label {:?} are both {:?} in Prometheus",
                earlier.given, label.prometheus
            )
        };
        return Err(NameError::new(
            LABEL_NAME,
            &label.given,
            rule,
            "remove or rename one of the two",
        ));
    }
    Ok(())
}

/// Checks a help text. Any text goes, as every format can escape it, but there has to be one.
pub(crate) fn check_help(help: &str) -> Result<(), NameError> {
    if help.trim().is_empty() {
        return Err(NameError::new(
            "help text",
            help,
            "must not be empty",
            "say in a sentence what is measured, for example \"Requests served.\"",
        ));
    }
    Ok(())
}

/// Checks a registry's prefix. It may end in its own separator, `app.`; otherwise one is put behind it.
pub(crate) fn check_prefix(prefix: &str) -> Result<(), NameError> {
    check_characters("prefix", prefix)
}

/// Puts a prefix before a name, with a dot where the name has dots and else with an underscore, which Prometheus
/// spells alike.
fn join(prefix: &str, name: &str) -> String {
    let separator = match (prefix.ends_with(SEPARATORS), name.contains('.')) {
        (true, _) => "",
        (false, true) => ".",
        (false, false) => "_",
    };
    format!("{prefix}{separator}{name}")
}

/// The rule of OpenTelemetry's instrument names. It also makes what Prometheus spells start with a letter and need
/// no quoting, and it keeps every label within what StatsD and Influx tags can carry.
fn check_characters(thing: &str, given: &str) -> Result<(), NameError> {
    let Some(first) = given.chars().next() else {
        return Err(NameError::new(
            thing,
            given,
            "must not be empty",
            "give a name such as \"requests\"",
        ));
    };
    if !first.is_ascii_alphabetic() {
        return Err(NameError::new(
            thing,
            given,
            "must start with an ASCII letter",
            renaming(given, "requests"),
        ));
    }
    match given
        .chars()
        .find(|each| !each.is_ascii_alphanumeric() && !SEPARATORS.contains(each))
    {
        None => Ok(()),
        Some(':') => Err(NameError::new(
            thing,
            given,
            "must not contain ':', which Prometheus keeps for recording rules",
            renaming(given, "requests"),
        )),
        Some(stranger) => Err(NameError::new(
            thing,
            given,
            format_args!("must consist of ASCII letters, digits, '_', '.', '-' and '/', not {stranger:?}"),
            renaming(given, "requests"),
        )),
    }
}

/// What is left of a name may not be one: `total` alone, or digits behind a `total` that counters drop.
fn check_family(given: &str, family: &str) -> Result<(), NameError> {
    if family.is_empty() {
        return Err(NameError::new(
            METRIC_NAME,
            given,
            "must say what is counted besides \"total\"",
            "rename it, for example to \"requests_total\"",
        ));
    }
    if !family.starts_with(|first: char| first.is_ascii_alphabetic()) || family.contains(':') {
        return Err(NameError::new(
            METRIC_NAME,
            given,
            format_args!("would be {family:?} in Prometheus, which must start with a letter and have no ':'"),
            "rename it, or give another unit",
        ));
    }
    Ok(())
}

/// Prometheus writes some series about every scrape, with the labels of the target: a metric of that name would
/// replace them or be lost, <https://prometheus.io/docs/concepts/jobs_instances/>.
fn check_not_the_servers(given: &str, sample: &str) -> Result<(), NameError> {
    if WRITTEN_BY_THE_SERVER.contains(&sample) {
        return Err(NameError::new(
            METRIC_NAME,
            given,
            format_args!("is reserved: Prometheus itself writes {sample:?} for every target it scrapes"),
            format_args!("rename it, for example to \"app_{sample}\""),
        ));
    }
    Ok(())
}

/// The family's name in words: those of the name, then the unit, without a counter's `total`.
fn translate<'a>(kind: Kind, name: &'a str, unit: Option<&Unit>) -> Vec<std::borrow::Cow<'a, str>> {
    let mut spelled: Vec<std::borrow::Cow<'a, str>> = words(name).map(std::borrow::Cow::Borrowed).collect();
    if let Some(unit) = unit {
        // A word counts as there wherever it stands, not only at the end: Prometheus reads `bytes_read` in `By`
        // so. A rate is never found, having an underscore in it.
        let (mut main, per) = Unit::suffixes(unit.given());
        if spelled.iter().any(|word| *word == main) {
            main.clear();
        }
        if !per.is_empty() {
            main.truncate(main.trim_end_matches('_').len());
        }
        spelled.extend(
            [main, per]
                .into_iter()
                .filter(|suffix| !suffix.is_empty())
                .map(Into::into),
        );
        if kind == Kind::Gauge && unit.is_dimensionless() {
            spelled.retain(|word| word != unit::RATIO);
            spelled.push(unit::RATIO.into());
        }
    }
    if kind == Kind::Counter {
        // Wherever it stands, and however often: the one behind the unit is written by `sample`.
        spelled.retain(|word| word != TOTAL);
    }
    spelled
}

/// The unit whose word ends the name, before a counter's `total`. It never changes what the name is in Prometheus.
fn inferred_unit(kind: Kind, name: &str) -> Option<Unit> {
    let last = words(name).rfind(|word| kind != Kind::Counter || *word != TOTAL)?;
    let unit = if kind == Kind::Gauge && last == unit::RATIO {
        Unit::ratio()
    } else {
        Unit::named(last)?
    };
    (translate(kind, name, Some(&unit)) == translate(kind, name, None)).then_some(unit)
}

/// The name without the rate that it ends in, where that is the unit's rate (`load_per_second` in `By/s`).
fn without_repeated_rate<'a>(kind: Kind, name: &'a str, unit: &Unit) -> Option<&'a str> {
    let (_, per) = Unit::suffixes(unit.given());
    if per.is_empty() {
        return None;
    }
    let mut rest = name.trim_end_matches(SEPARATORS);
    if kind == Kind::Counter {
        while let Some(stem) = rest.strip_suffix(TOTAL).and_then(|stem| stem.strip_suffix(SEPARATORS)) {
            rest = stem.trim_end_matches(SEPARATORS);
        }
    }
    for word in per.rsplit('_') {
        rest = rest
            .strip_suffix(word)?
            .strip_suffix(SEPARATORS)?
            .trim_end_matches(SEPARATORS);
    }
    Some(rest)
}

fn words(name: &str) -> impl DoubleEndedIterator<Item = &str> {
    name.split(|character: char| !character.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
}

/// The fix for a name with a wrong beginning or wrong characters: the nearest name that is right.
fn renaming(given: &str, otherwise: &str) -> String {
    let mut better = String::new();
    for character in given.chars() {
        match character {
            letter if letter.is_ascii_alphabetic() => better.push(letter),
            digit if digit.is_ascii_digit() && better.is_empty() => {
                let value = usize::from(digit as u8 - b'0');
                better.push_str(DIGITS[value]);
                better.push('_');
            }
            digit if digit.is_ascii_digit() => better.push(digit),
            '.' if !better.is_empty() && !better.ends_with(['_', '.']) => better.push('.'),
            _ if !better.is_empty() && !better.ends_with(['_', '.']) => better.push('_'),
            _ => {}
        }
    }
    match better.trim_end_matches(['_', '.']) {
        "" => format!("name it in ASCII letters, for example {otherwise:?}"),
        better if better.len() > LONGEST_SHOWN => "rename it".to_owned(),
        better => format!("rename it, for example to {better:?}"),
    }
}

const METRIC_NAME: &str = "metric name";
const LABEL_NAME: &str = "label name";

/// The longest name of an instrument,
/// <https://opentelemetry.io/docs/specs/otel/metrics/api/#instrument-name-syntax>.
const LONGEST: usize = 255;

/// How many characters of a wrong name an error repeats.
const LONGEST_SHOWN: usize = 80;

const SEPARATORS: [char; 4] = ['_', '.', '-', '/'];
const TOTAL: &str = "total";

const DIGITS: [&str; 10] = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
];

/// Label, whose it is, and what to call it instead; in Prometheus' spelling, so that `l.e` style detours end too.
const RESERVED_LABELS: [(&str, &str, &str); 3] = [
    ("le", "the bucket bounds of histograms", "limit"),
    ("quantile", "the quantiles of summaries", "rank"),
    (
        "otel_metric_overflow",
        "the series that takes what is past a family's limit",
        "overflow",
    ),
];

/// <https://prometheus.io/docs/concepts/jobs_instances/#automatically-generated-labels-and-time-series>
const WRITTEN_BY_THE_SERVER: [&str; 8] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
    "scrape_timeout_seconds",
    "scrape_sample_limit",
    "scrape_body_size_bytes",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn name(kind: Kind, given: &str, unit: &str) -> MetricName {
        MetricName::parse(kind, given, Some(unit), None).unwrap()
    }

    fn refusal(kind: Kind, given: &str, unit: &str) -> String {
        MetricName::parse(kind, given, Some(unit), None)
            .unwrap_err()
            .to_string()
    }

    /// The last column is what otlptranslator v1.0.0 answers for the other three.
    #[test]
    fn a_scraped_name_is_the_name_of_an_otlp_push() {
        use Kind::{Counter, Gauge, Histogram, UpDownCounter};
        for (kind, given, unit, expected) in [
            (Counter, "requests", "", "requests_total"),
            (Counter, "requests_total", "", "requests_total"),
            (Counter, "requests.total", "{request}", "requests_total"),
            (Counter, "total_requests", "", "requests_total"),
            (Counter, "items", "1", "items_total"),
            (Counter, "my.req.count", "By", "my_req_count_bytes_total"),
            (Counter, "sent_bytes_total", "By", "sent_bytes_total"),
            (Counter, "sent_total", "By", "sent_bytes_total"),
            (Counter, "bytes_read", "By", "bytes_read_total"),
            (Counter, "requests", "1/s", "requests_per_second_total"),
            (Counter, "temp", "[degF]", "temp_degF__total"),
            (Gauge, "cpu.use", "1", "cpu_use_ratio"),
            (Gauge, "cpu_ratio", "1", "cpu_ratio"),
            (Gauge, "ratio_cpu", "1", "cpu_ratio"),
            (UpDownCounter, "cpu.use", "1", "cpu_use"),
            (Histogram, "cpu.use", "1", "cpu_use"),
            (Gauge, "a__b--c//d..e", "", "a_b_c_d_e"),
            (Gauge, "trailing_", "", "trailing"),
            (Gauge, "load", "By/s", "load_bytes_per_second"),
            (Gauge, "load_bytes", "By/s", "load_bytes_per_second"),
            (Gauge, "speed", "m/s", "speed_meters_per_second"),
            (Gauge, "speed", "km/h", "speed_km_per_hour"),
            (Gauge, "cost", "By/{request}", "cost_bytes"),
            (Gauge, "cost", "{packet}/s", "cost_per_second"),
            (Gauge, "cost", "By/", "cost_bytes"),
            (Gauge, "cost", "/*", "cost"),
            (Gauge, "temp", "K", "temp_K"),
            (Gauge, "temp", "[degF]", "temp_degF_"),
            (Gauge, "temp", "[degF]/s", "temp_degF_per_second"),
            (Gauge, "disk", "TiBy", "disk_tibibytes"),
            (Gauge, "disk", "kBy", "disk_kBy"),
            (Gauge, "use", "%", "use_percent"),
            (Gauge, "area", "m*m", "area_m_m"),
            (
                Histogram,
                "http.server.request.duration",
                "s",
                "http_server_request_duration_seconds",
            ),
            (Histogram, "latency_seconds", "ms", "latency_seconds_milliseconds"),
            (Gauge, "CamelCase", "", "CamelCase"),
        ] {
            assert_eq!(name(kind, given, unit).sample(), expected, "{kind:?} {given} {unit}");
        }
    }

    #[test]
    fn every_spelling_of_a_name_is_one_identity() {
        for spellings in [
            [
                ("sent", "By"),
                ("sent_bytes", "By"),
                ("sent_bytes_total", ""),
                ("sent.bytes", "bytes"),
            ],
            [
                ("sent_total", "By"),
                ("sent_bytes_total", "By"),
                ("Sent.total", "bytes"),
                ("sent_bytes", ""),
            ],
        ] {
            let names = spellings.map(|(given, unit)| name(Kind::Counter, given, unit));
            for other in &names {
                assert_eq!(other.identity(), "sent_bytes_total");
                assert_eq!(other.unit().unwrap().given(), "By");
                assert!(names[0].same_unit(other));
            }
        }
        let spelled = name(Kind::Gauge, "cpu_ratio", "");
        assert_eq!(spelled.identity(), name(Kind::Gauge, "cpu", "1").identity());
        assert!(spelled.same_unit(&name(Kind::Gauge, "cpu", "1")));
        let spelled = name(Kind::Gauge, "load_bytes_per_second", "");
        assert_eq!(spelled.identity(), name(Kind::Gauge, "load", "By/s").identity());
        assert!(spelled.same_unit(&name(Kind::Gauge, "load", "By/s")));
        assert!(!name(Kind::Counter, "jobs", "").same_unit(&name(Kind::Counter, "jobs", "{job}")));
        assert!(!name(Kind::Counter, "jobs", "1").same_unit(&name(Kind::Counter, "jobs", "{job}")));
    }

    #[test]
    fn a_unit_is_found_at_the_end_of_a_name_only() {
        for (kind, given, expected) in [
            (Kind::Histogram, "latency_seconds", Some("s")),
            (Kind::Histogram, "latency.milliseconds", Some("ms")),
            (Kind::Counter, "cpu_seconds_total", Some("s")),
            (Kind::Gauge, "cpu_seconds_total", None),
            (Kind::Gauge, "seconds_left", None),
            (Kind::Gauge, "cpu_ratio", Some("1")),
            (Kind::Histogram, "cpu_ratio", None),
            (Kind::Gauge, "ratio_of_ratio", None),
            (Kind::Gauge, "temp_K", None),
            (Kind::Gauge, "nanoseconds", Some("ns")),
        ] {
            let found = MetricName::parse(kind, given, None, None).unwrap();
            assert_eq!(found.unit().map(Unit::given), expected, "{given}");
        }
    }

    #[test]
    fn open_metrics_is_told_a_unit_only_where_the_name_ends_in_it() {
        for (kind, given, unit, expected) in [
            (Kind::Counter, "sent", "By", Some("bytes")),
            (Kind::Gauge, "load", "By/s", Some("bytes_per_second")),
            (Kind::Gauge, "cpu", "1", Some("ratio")),
            (Kind::Counter, "jobs", "1", None),
            (Kind::Counter, "jobs", "{job}", None),
            (Kind::Counter, "bytes_read", "By", None),
            (Kind::Gauge, "seconds", "s", None),
            (Kind::Gauge, "milliseconds", "ms", None),
        ] {
            assert_eq!(name(kind, given, unit).unit_line(), expected, "{given} {unit}");
        }
    }

    #[test]
    fn a_rate_that_the_name_spells_is_not_repeated() {
        for (given, otlp, family) in [
            ("load_bytes_per_second", "load_bytes", "load_bytes_per_second"),
            ("load.per.second", "load", "load_bytes_per_second"),
            ("load", "load", "load_bytes_per_second"),
        ] {
            let name = name(Kind::Gauge, given, "By/s");
            assert_eq!((name.given(), name.otlp(), name.family()), (given, otlp, family));
        }
        let counter = name(Kind::Counter, "jobs_per_second_total", "1/s");
        assert_eq!((counter.otlp(), counter.sample()), ("jobs", "jobs_per_second_total"));
    }

    #[test]
    fn a_prefix_joins_in_the_style_of_the_name() {
        for (prefix, given, expected) in [
            ("app", "jobs_total", "app_jobs_total"),
            ("app", "http.jobs", "app.http.jobs"),
            ("app_", "http.jobs", "app_http.jobs"),
            ("app.", "jobs", "app.jobs"),
            ("app", "up", "app_up"),
            ("", "jobs", "jobs"),
        ] {
            let name = MetricName::parse(Kind::Counter, given, None, Some(prefix)).unwrap();
            assert_eq!(name.given(), expected);
        }
        let error = MetricName::parse(Kind::Counter, "jobs", None, Some("_app")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "prefix \"_app\": must start with an ASCII letter; rename it, for example to \"app\""
        );
    }

    #[test]
    fn wrong_names_are_refused_with_rule_and_fix() {
        for (given, expected) in [
            (
                "",
                "metric name \"\": must not be empty; give a name such as \"requests\"",
            ),
            (
                "9lives",
                "metric name \"9lives\": must start with an ASCII letter; rename it, for example to \"nine_lives\"",
            ),
            (
                "_x",
                "metric name \"_x\": must start with an ASCII letter; rename it, for example to \"x\"",
            ),
            (
                "花",
                "metric name \"花\": must start with an ASCII letter; name it in ASCII letters, for example \"requests\"",
            ),
            (
                "job:rate",
                "metric name \"job:rate\": must not contain ':', which Prometheus keeps for recording rules; \
                 rename it, for example to \"job_rate\"",
            ),
            (
                "a b\n",
                "metric name \"a b\\n\": must consist of ASCII letters, digits, '_', '.', '-' and '/', not ' '; \
                 rename it, for example to \"a_b\"",
            ),
            (
                "up",
                "metric name \"up\": is reserved: Prometheus itself writes \"up\" for every target it scrapes; \
                 rename it, for example to \"app_up\"",
            ),
        ] {
            assert_eq!(refusal(Kind::Gauge, given, ""), expected);
        }
        assert!(refusal(Kind::Counter, "total", "").contains("besides \"total\""));
        assert!(refusal(Kind::Counter, "total.9", "").contains("start with a letter"));
        assert!(refusal(Kind::Gauge, "scrape.duration", "s").contains("Prometheus itself"));
        assert!(MetricName::parse(Kind::Gauge, "scrape_errors", None, None).is_ok());
        assert!(MetricName::parse(Kind::Counter, "up", None, None).is_ok());
    }

    #[test]
    fn the_length_counts_the_prefix() {
        let longest = "n".repeat(251);
        assert!(MetricName::parse(Kind::Gauge, &longest, None, Some("app")).is_ok());
        let error = MetricName::parse(Kind::Gauge, &longest, None, Some("long"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("at most 255 characters with its prefix, and has 256"),
            "{error}"
        );
        assert!(error.len() < 250, "{error}");
    }

    #[test]
    fn wrong_units_are_refused() {
        for unit in [
            "two words",
            "°C",
            "{request",
            "request}",
            "{{x}}",
            "s\n\ts",
            &"s".repeat(64),
        ] {
            assert!(MetricName::parse(Kind::Gauge, "x", Some(unit), None).is_err(), "{unit}");
        }
        assert!(MetricName::parse(Kind::Gauge, "x", Some("a:b"), None).is_err());
        assert!(MetricName::parse(Kind::Counter, "total", Some("10*3"), None).is_err());
        assert_eq!(name(Kind::Gauge, "x", "  ").unit(), None);
    }

    #[test]
    fn claims_hold_every_name_that_an_encoder_may_write() {
        for (kind, given, unit, mut expected) in [
            (
                Kind::Counter,
                "Jobs_total",
                "",
                vec!["jobs", "jobs_total", "jobs_created"],
            ),
            (Kind::Gauge, "memory", "By", vec!["memory_bytes", "memory"]),
            (Kind::UpDownCounter, "in.flight", "", vec!["in_flight"]),
            (
                Kind::Histogram,
                "latency",
                "s",
                vec![
                    "latency_seconds",
                    "latency_seconds_bucket",
                    "latency_seconds_count",
                    "latency_seconds_sum",
                    "latency_seconds_created",
                    "latency",
                ],
            ),
        ] {
            let mut claims: Vec<String> = name(kind, given, unit).claims().collect();
            claims.sort();
            expected.sort();
            assert_eq!(claims, expected);
        }
    }

    #[test]
    fn labels_keep_both_spellings() {
        for (given, expected) in [
            ("method", "method"),
            ("http.route", "http_route"),
            ("a..b", "a__b"),
            ("a-b/c", "a_b_c"),
            ("x9_", "x9_"),
        ] {
            let label = LabelName::parse(given).unwrap();
            assert_eq!((label.given(), label.prometheus()), (given, expected));
        }
    }

    #[test]
    fn wrong_labels_are_refused() {
        for given in [
            "",
            "le",
            "quantile",
            "__name__",
            "_x",
            "9x",
            "a:b",
            "a b",
            "é",
            "otel_metric_overflow",
            "otel.metric.overflow",
        ] {
            assert!(LabelName::parse(given).is_err(), "{given}");
        }
        assert_eq!(
            LabelName::parse("le").unwrap_err().to_string(),
            "label name \"le\": is reserved for the bucket bounds of histograms; rename it, for example to \"limit\""
        );
    }

    #[test]
    fn labels_of_one_spelling_are_refused() {
        let parse = |names: &[&str]| {
            names
                .iter()
                .map(|name| LabelName::parse(name).unwrap())
                .collect::<Vec<_>>()
        };
        assert!(check_labels(&parse(&[])).is_ok());
        assert!(check_labels(&parse(&["method", "Method", "status"])).is_ok());
        assert_eq!(
            check_labels(&parse(&["http.route", "status", "http_route"]))
                .unwrap_err()
                .to_string(),
            "label name \"http_route\": and label \"http.route\" are both \"http_route\" in Prometheus; \
             remove or rename one of the two"
        );
        assert_eq!(
            check_labels(&parse(&["a", "a"])).unwrap_err().to_string(),
            "label name \"a\": is there twice; remove or rename one of the two"
        );
    }

    #[test]
    fn help_is_any_text_but_none() {
        assert!(check_help("Jobs run: \"all\" of them,\n\\ included. 花").is_ok());
        assert!(check_help("").is_err());
        assert!(check_help(" \n\t").is_err());
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics_and_what_passes_is_legal(
            given in "[a-zA-Z_.:/ 0-9-]{0,20}|.{0,8}|(total|per|second|bytes|ratio|[._])*",
            unit in "[a-zA-Z0-9{}/%*:\\[\\]]{0,8}|.{0,4}|(By|s|1)/(s|m|h)",
            kind in proptest::sample::select(vec![
                Kind::Counter, Kind::Gauge, Kind::UpDownCounter, Kind::Histogram,
            ]),
        ) {
            let _ = LabelName::parse(&given);
            if let Ok(name) = MetricName::parse(kind, &given, Some(&unit), None) {
                proptest::prop_assert!(name.family().starts_with(|first: char| first.is_ascii_alphabetic()));
                proptest::prop_assert!(
                    name.sample().chars().all(|each| each.is_ascii_alphanumeric() || each == '_')
                );
                // What OTLP sends is itself a spelling of this name.
                let unit = name.unit().map_or("", Unit::given);
                let again = MetricName::parse(kind, name.otlp(), Some(unit), None).unwrap();
                proptest::prop_assert_eq!(again.sample(), name.sample());
            }
        }
    }
}
