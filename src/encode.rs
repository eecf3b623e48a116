//! From a snapshot to what a server scrapes: Prometheus' text format 0.0.4 and OpenMetrics 1.0.
//!
//! An encoder walks a [`Snapshot`] and overwrites a buffer that its caller keeps. It knows the snapshot alone, takes no lock,
//! fails never, and allocates for families, not for series. The scrape and the exporter's pushes share it.
//!
//! What both formats share stands once, in `encode/samples.rs`; [`text`] and [`openmetrics`] add what is their own:
//!
//! - Families come in the order of their names, series in the order of their first use; neither changes between scrapes.
//! - Labels come in the order in which they were declared, behind those of the registry; `le` is last. A label without text
//!   is written nevertheless (`code=""`), though it means the same as none: so all lines of a family look alike.
//! - A family in which no series is to be shown is left out with its metadata, as Prometheus' own libraries do. A family
//!   without labels always has its one series.
//! - Counts are written as integers, floats as Go writes them in the format, and `le` alike in both formats: as
//!   Prometheus 3 spells it on ingestion (`1.0`), so that a server keeps its series when it is upgraded, and whichever
//!   format it asks for.

mod buffer;
#[cfg(feature = "emf")]
pub(crate) mod emf;
mod number;
mod openmetrics;
#[cfg(feature = "otlp")]
pub(crate) mod otlp;
#[cfg(any(feature = "emf", feature = "statsd"))]
mod placement;
#[cfg(feature = "pushgateway")]
pub(crate) mod protobuf;
pub(crate) mod samples;
#[cfg(feature = "statsd")]
pub(crate) mod statsd;
mod template;
pub(crate) mod text;
#[cfg(any(feature = "otlp", feature = "pushgateway"))]
mod wire;

use crate::snapshot::{FamilySnapshot, SeriesSnapshot, Snapshot};

/// A format that a snapshot can be encoded in.
///
/// ```
/// # fn main() -> Result<(), tidegauge::RegisterError> {
/// use tidegauge::Format;
///
/// let registry = tidegauge::Registry::new();
/// registry.gauge("room_temperature", "How warm it is.").unit("Cel").register()?.set(21.0);
///
/// let mut buffer = Vec::new();
/// registry.snapshot().encode(Format::Text, &mut buffer);
/// let lines: Vec<_> = std::str::from_utf8(&buffer).unwrap().lines().collect();
/// assert_eq!(lines, [
///     "# HELP room_temperature_celsius How warm it is.",
///     "# TYPE room_temperature_celsius gauge",
///     "room_temperature_celsius 21",
/// ]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Prometheus' text format 0.0.4, which everything that scrapes can read:
    /// <https://prometheus.io/docs/instrumenting/exposition_formats/>.
    Text,
    /// OpenMetrics text 1.0.0: <https://prometheus.io/docs/specs/om/open_metrics_spec/>.
    ///
    /// A histogram with a negative bound, or with a negative sum, is written without `_sum` and `_count`, because the
    /// format demands it.
    OpenMetrics,
}

impl Format {
    /// The value of the `Content-Type` header that belongs to it.
    ///
    /// ```
    /// assert_eq!(tidegauge::Format::Text.content_type(), "text/plain; version=0.0.4; charset=utf-8");
    /// ```
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What an encoder writes beyond the necessary.
///
/// ```
/// use tidegauge::EncodeOptions;
///
/// let options = EncodeOptions::new().created(true);
/// assert_ne!(options, EncodeOptions::default());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncodeOptions {
    created: bool,
}

impl EncodeOptions {
    /// Nothing beyond the necessary.
    pub fn new() -> Self {
        EncodeOptions::default()
    }

    /// Whether OpenMetrics says of each counter and histogram since when it counts, in a `_created` line. Off by
    /// default.
    ///
    /// Prometheus takes these lines for start times only if it is told so, by its feature flag
    /// `created-timestamp-zero-ingestion`; otherwise each becomes a series that nobody asked for. Text 0.0.4 has
    /// no such lines.
    pub fn created(mut self, created: bool) -> Self {
        self.created = created;
        self
    }
}

/// Which families and series are shown: all, unless asked otherwise.
#[derive(Clone, Copy, Default)]
pub(crate) struct Selection<'a> {
    pub(crate) families: Option<&'a dyn Fn(&FamilySnapshot) -> bool>,
    pub(crate) series: Option<&'a dyn Fn(SeriesSnapshot<'_>) -> bool>,
}

impl<'a> Selection<'a> {
    fn families(self, snapshot: &'a Snapshot) -> impl Iterator<Item = &'a FamilySnapshot> {
        snapshot
            .families()
            .filter(move |family| self.families.is_none_or(|shows| shows(family)))
    }
}

impl Snapshot {
    /// Encodes all families into `buffer`, whose content is overwritten.
    ///
    /// A buffer that is used again and again is not allocated again; what it holds between is room for the next time.
    ///
    /// ```
    /// # fn main() -> Result<(), tidegauge::RegisterError> {
    /// use tidegauge::Format;
    ///
    /// let registry = tidegauge::Registry::new();
    /// let jobs = registry.counter("jobs", "Jobs run.").labels(["queue"]).register()?;
    /// jobs.with(["mail"]).add(3);
    ///
    /// let mut buffer = Vec::new();
    /// registry.snapshot().encode(Format::OpenMetrics, &mut buffer);
    /// let lines: Vec<_> = std::str::from_utf8(&buffer).unwrap().lines().collect();
    /// assert_eq!(lines, [
    ///     "# TYPE jobs counter",
    ///     "# HELP jobs Jobs run.",
    ///     "jobs_total{queue=\"mail\"} 3",
    ///     "# EOF",
    /// ]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn encode(&self, format: Format, buffer: &mut Vec<u8>) {
        self.encode_with(format, EncodeOptions::new(), buffer);
    }

    /// Encodes all families into `buffer`, whose content is overwritten, and as the options say.
    pub fn encode_with(&self, format: Format, options: EncodeOptions, buffer: &mut Vec<u8>) {
        self.encode_selected(format, options, Selection::default(), buffer);
    }

    /// Encodes some families, or some of their series.
    pub(crate) fn encode_selected(
        &self,
        format: Format,
        options: EncodeOptions,
        selection: Selection<'_>,
        buffer: &mut Vec<u8>,
    ) {
        match format {
            Format::Text => text::encode(self, selection, buffer),
            Format::OpenMetrics => openmetrics::encode(self, options, selection, buffer),
        }
    }
}

/// Appends a text with a backslash before backslashes and, where the format has it so, before quotes; `\n` for a newline.
fn escape(text: &str, quotes: bool, into: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'\\' => into.extend(br"\\"),
            b'\n' => into.extend(br"\n"),
            b'"' if quotes => into.extend(br#"\""#),
            _ => into.push(byte),
        }
    }
}

/// Appends a label to those before it, or to an opening brace, or to nothing.
fn push_label(label: &str, value: &str, into: &mut Vec<u8>) {
    if into.last().is_some_and(|last| *last != b'{') {
        into.push(b',');
    }
    into.extend(label.as_bytes());
    into.extend(b"=\"");
    escape(value, true, into);
    into.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        descriptor::{Descriptor, Kind},
        family::{
            query::{self, Query, length_words},
            table::Table,
        },
        name::{LabelName, MetricName},
        snapshot::{Rows, Values},
    };
    use proptest::prelude::*;
    use std::{collections::HashSet, sync::Arc, time::Duration};

    /// A family before it is laid out.
    #[derive(Clone, Debug)]
    struct Sketch {
        kind: Kind,
        name: &'static str,
        help: String,
        constant: Vec<(&'static str, &'static str)>,
        labels: Vec<&'static str>,
        bounds: Vec<f64>,
        series: Vec<Vec<String>>,
        overflow: bool,
        values: Values,
    }

    impl Sketch {
        fn new(kind: Kind, name: &'static str, labels: &[&'static str], series: &[&[&str]], values: Values) -> Self {
            Sketch {
                kind,
                name,
                help: format!("Help of {name}."),
                constant: Vec::new(),
                labels: labels.to_vec(),
                bounds: Vec::new(),
                series: series
                    .iter()
                    .map(|values| values.iter().map(|value| value.to_string()).collect())
                    .collect(),
                overflow: false,
                values,
            }
        }

        fn histograms(
            name: &'static str,
            bounds: &[f64],
            labels: &[&'static str],
            series: &[&[&str]],
            values: Values,
        ) -> Self {
            Sketch {
                bounds: bounds.to_vec(),
                ..Sketch::new(Kind::Histogram, name, labels, series, values)
            }
        }

        fn words(&self) -> impl Iterator<Item = Vec<u64>> {
            self.series.iter().map(|values| {
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                query::words(&values).unwrap()
            })
        }

        fn family(&self, rows: Rows) -> FamilySnapshot {
            let label = |name: &&str| LabelName::parse(name).unwrap();
            FamilySnapshot {
                descriptor: Arc::new(Descriptor {
                    name: MetricName::parse(self.kind.naming(), self.name, None, None).unwrap(),
                    help: self.help.as_str().into(),
                    kind: self.kind,
                    labels: self.labels.iter().map(label).collect(),
                    constant: self
                        .constant
                        .iter()
                        .map(|(name, value)| (label(name), (*value).into()))
                        .collect(),
                    bounds: self.bounds.as_slice().into(),
                    samples: None,
                    registered: Duration::from_millis(1_700_000_000_500),
                    own: false,
                }),
                forked: Duration::ZERO,
                rows,
                values: self.values.clone(),
                lives: Vec::new(),
            }
        }

        /// As a registered family is, whose series are written the fast way where that is possible.
        fn live(&self) -> FamilySnapshot {
            let table = Arc::new(Table::new(self.labels.len(), false));
            for (number, words) in self.words().enumerate() {
                let hash = query::hash_words(&words, self.labels.len(), table.seed());
                let query = Query { words: &words, hash };
                table
                    .insert(query, !self.labels.is_empty(), 0, number as u64 * 1001)
                    .unwrap();
            }
            if self.overflow {
                let words = vec![0; length_words(self.labels.len())];
                table.insert(Query { words: &words, hash: 0 }, false, 0, 0).unwrap();
            }
            self.family(Rows::Live(table.read()))
        }

        /// As a closure gives it, whose series are written the plain way.
        fn given(&self) -> FamilySnapshot {
            let (mut words, mut ends) = (Vec::new(), Vec::new());
            for each in self.words() {
                words.extend(each);
                ends.push(words.len() as u32);
            }
            self.family(Rows::Given {
                words: words.into(),
                ends: ends.into(),
            })
        }
    }

    fn snapshot(families: impl IntoIterator<Item = FamilySnapshot>) -> Snapshot {
        Snapshot {
            families: families.into_iter().collect(),
            taken: Duration::ZERO,
        }
    }

    fn encoded(snapshot: &Snapshot, format: Format, options: EncodeOptions) -> String {
        let mut buffer = b"left over".to_vec();
        snapshot.encode_with(format, options, &mut buffer);
        String::from_utf8(buffer).unwrap()
    }

    fn text(family: &Sketch) -> String {
        encoded(&snapshot([family.live()]), Format::Text, EncodeOptions::new())
    }

    fn open_metrics(family: &Sketch) -> String {
        encoded(&snapshot([family.live()]), Format::OpenMetrics, EncodeOptions::new())
    }

    /// One family of each kind.
    fn kinds() -> Vec<Sketch> {
        let mut requests = Sketch::new(
            Kind::Counter,
            "http.requests",
            &["method", "http.route"],
            &[&["GET", "/"], &["POST", "/a\\b\"c\nd"], &["", "日本語"]],
            Values::Counts(vec![1, 123_456_789_012, 0, 7]),
        );
        requests.help = "Requests \"served\",\nby C:\\route.".to_owned();
        requests.constant = vec![("region", "eu")];
        requests.overflow = true;
        let histogram = Values::Histograms {
            counts: vec![1, 0, 2, 0, 1_000_000, 1],
            sums: vec![4.0, 1e6],
        };
        vec![
            requests,
            Sketch::new(
                Kind::FloatCounter,
                "energy_joules",
                &[],
                &[&[]],
                Values::Floats(vec![3.0]),
            ),
            Sketch::new(
                Kind::Gauge,
                "load",
                &["cpu"],
                &[&["0"], &["1"]],
                Values::Floats(vec![1.0, f64::NAN]),
            ),
            Sketch::new(
                Kind::UpDownCounter,
                "in_flight",
                &[],
                &[&[]],
                Values::Integers(vec![-3]),
            ),
            Sketch::histograms(
                "latency_seconds",
                &[0.005, 1.0],
                &["path"],
                &[&["/"], &["/x"]],
                histogram,
            ),
            Sketch::new(Kind::IntGauge, "unused", &["a"], &[], Values::Integers(Vec::new())),
        ]
    }

    #[test]
    fn text_is_as_its_specification_says() {
        let kinds = kinds();
        let snapshot = snapshot(kinds.iter().map(Sketch::live));
        assert_eq!(
            encoded(&snapshot, Format::Text, EncodeOptions::new().created(true)),
            r#"# HELP http_requests_total Requests "served",\nby C:\\route.
# TYPE http_requests_total counter
http_requests_total{region="eu",method="GET",http_route="/"} 1
http_requests_total{region="eu",method="POST",http_route="/a\\b\"c\nd"} 123456789012
http_requests_total{region="eu",method="",http_route="日本語"} 0
http_requests_total{otel_metric_overflow="true"} 7
# HELP energy_joules_total Help of energy_joules.
# TYPE energy_joules_total counter
energy_joules_total 3
# HELP load Help of load.
# TYPE load gauge
load{cpu="0"} 1
load{cpu="1"} NaN
# HELP in_flight Help of in_flight.
# TYPE in_flight gauge
in_flight -3
# HELP latency_seconds Help of latency_seconds.
# TYPE latency_seconds histogram
latency_seconds_bucket{path="/",le="0.005"} 1
latency_seconds_bucket{path="/",le="1.0"} 1
latency_seconds_bucket{path="/",le="+Inf"} 3
latency_seconds_sum{path="/"} 4
latency_seconds_count{path="/"} 3
latency_seconds_bucket{path="/x",le="0.005"} 0
latency_seconds_bucket{path="/x",le="1.0"} 1000000
latency_seconds_bucket{path="/x",le="+Inf"} 1000001
latency_seconds_sum{path="/x"} 1e+06
latency_seconds_count{path="/x"} 1000001
"#
        );
    }

    #[test]
    fn open_metrics_is_as_its_specification_says() {
        let kinds = kinds();
        let snapshot = snapshot(kinds.iter().map(Sketch::live));
        assert_eq!(
            encoded(&snapshot, Format::OpenMetrics, EncodeOptions::new().created(true)),
            r#"# TYPE http_requests counter
# HELP http_requests Requests \"served\",\nby C:\\route.
http_requests_total{region="eu",method="GET",http_route="/"} 1
http_requests_created{region="eu",method="GET",http_route="/"} 1700000000.500
http_requests_total{region="eu",method="POST",http_route="/a\\b\"c\nd"} 123456789012
http_requests_created{region="eu",method="POST",http_route="/a\\b\"c\nd"} 1700000001.501
http_requests_total{region="eu",method="",http_route="日本語"} 0
http_requests_created{region="eu",method="",http_route="日本語"} 1700000002.502
http_requests_total{otel_metric_overflow="true"} 7
http_requests_created{otel_metric_overflow="true"} 1700000000.500
# TYPE energy_joules counter
# UNIT energy_joules joules
# HELP energy_joules Help of energy_joules.
energy_joules_total 3.0
energy_joules_created 1700000000.500
# TYPE load gauge
# HELP load Help of load.
load{cpu="0"} 1.0
load{cpu="1"} NaN
# TYPE in_flight gauge
# HELP in_flight Help of in_flight.
in_flight -3
# TYPE latency_seconds histogram
# UNIT latency_seconds seconds
# HELP latency_seconds Help of latency_seconds.
latency_seconds_bucket{path="/",le="0.005"} 1
latency_seconds_bucket{path="/",le="1.0"} 1
latency_seconds_bucket{path="/",le="+Inf"} 3
latency_seconds_sum{path="/"} 4.0
latency_seconds_count{path="/"} 3
latency_seconds_created{path="/"} 1700000000.500
latency_seconds_bucket{path="/x",le="0.005"} 0
latency_seconds_bucket{path="/x",le="1.0"} 1000000
latency_seconds_bucket{path="/x",le="+Inf"} 1000001
latency_seconds_sum{path="/x"} 1e+06
latency_seconds_count{path="/x"} 1000001
latency_seconds_created{path="/x"} 1700000001.501
# EOF
"#
        );
        let without = encoded(&snapshot, Format::OpenMetrics, EncodeOptions::new());
        assert!(!without.contains("_created"));
    }

    #[test]
    fn nothing_is_an_exposition_too() {
        assert_eq!(encoded(&snapshot([]), Format::Text, EncodeOptions::new()), "");
        assert_eq!(
            encoded(&snapshot([]), Format::OpenMetrics, EncodeOptions::new()),
            "# EOF\n"
        );
    }

    #[test]
    fn open_metrics_has_no_sum_that_could_fall() {
        for (bound, sum, has_sum) in [
            (-1.0, 4.0, false),
            (1.0, -4.0, false),
            (0.0, 0.0, true),
            (1.0, f64::NAN, false),
        ] {
            let values = Values::Histograms {
                counts: vec![1, 2],
                sums: vec![sum],
            };
            for (labels, series) in [(&["a"][..], &[&["x"][..]]), (&[][..], &[&[][..]])] {
                let family = Sketch::histograms("moved", &[bound], labels, series, values.clone());
                assert_eq!(open_metrics(&family).contains("moved_sum"), has_sum);
                assert_eq!(open_metrics(&family).contains("moved_count"), has_sum);
                assert!(text(&family).contains("moved_sum") && text(&family).contains("moved_count"));
            }
        }
    }

    #[test]
    fn only_what_is_selected_is_written() {
        let snapshot = snapshot(kinds().iter().map(Sketch::live));
        let write = |selection| {
            let mut buffer = Vec::new();
            snapshot.encode_selected(Format::OpenMetrics, EncodeOptions::new(), selection, &mut buffer);
            String::from_utf8(buffer).unwrap()
        };
        let families = |family: &FamilySnapshot| family.name() == "in_flight";
        let only = write(Selection {
            families: Some(&families),
            series: None,
        });
        assert_eq!(
            only,
            "# TYPE in_flight gauge\n# HELP in_flight Help of in_flight.\nin_flight -3\n# EOF\n"
        );
        let series = |series: SeriesSnapshot<'_>| {
            series.label("cpu") == Some("1") || series.label("method") == Some("POST") || series.is_overflow()
        };
        let only = write(Selection {
            families: None,
            series: Some(&series),
        });
        assert_eq!(
            only,
            r#"# TYPE http_requests counter
# HELP http_requests Requests \"served\",\nby C:\\route.
http_requests_total{region="eu",method="POST",http_route="/a\\b\"c\nd"} 123456789012
http_requests_total{otel_metric_overflow="true"} 7
# TYPE load gauge
# HELP load Help of load.
load{cpu="1"} NaN
# EOF
"#
        );
    }

    #[test]
    fn removed_series_leave_nothing_behind() {
        let sketch = Sketch::new(
            Kind::Counter,
            "jobs",
            &["queue"],
            &[&["mail"], &["print"], &["scan"]],
            Values::Counts(vec![1, 2, 3]),
        );
        let mut family = sketch.live();
        let Rows::Live(reading) = &mut family.rows else {
            unreachable!()
        };
        reading.forget(1);
        let shown = encoded(&snapshot([family.clone()]), Format::Text, EncodeOptions::new());
        assert!(
            shown.ends_with("counter\njobs_total{queue=\"mail\"} 1\njobs_total{queue=\"scan\"} 3\n"),
            "{shown}"
        );
        let Rows::Live(reading) = &mut family.rows else {
            unreachable!()
        };
        reading.forget(0);
        reading.forget(2);
        assert_eq!(encoded(&snapshot([family]), Format::Text, EncodeOptions::new()), "");
    }

    #[test]
    fn many_series_over_many_pages_and_a_buffer_that_grows() {
        let values: Vec<String> = (0..5000).map(|number| format!("/resource/{number}")).collect();
        let series: Vec<[&str; 2]> = values.iter().map(|value| [value.as_str(), "x"]).collect();
        let series: Vec<&[&str]> = series.iter().map(|values| &values[..]).collect();
        let counters = Sketch::new(
            Kind::Counter,
            "a",
            &["route", "b"],
            &series,
            Values::Counts((0..5000).map(|n| n * n * n).collect()),
        );
        let counts = (0..15_000).map(|number| number % 7).collect();
        let sums = (0..5000).map(|number| f64::from(number) / 8.0).collect();
        let histograms = Sketch::histograms(
            "b",
            &[1.0, 2.0],
            &["route", "b"],
            &series,
            Values::Histograms { counts, sums },
        );
        let live = snapshot([counters.live(), histograms.live()]);
        let given = snapshot([counters.given(), histograms.given()]);
        for format in [Format::Text, Format::OpenMetrics] {
            let written = encoded(&live, format, EncodeOptions::new());
            assert!(written == encoded(&given, format, EncodeOptions::new()));
            let mut again = Vec::new();
            live.encode(format, &mut again);
            live.encode(format, &mut again);
            assert!(written.as_bytes() == again);
        }
    }

    /// The label sets of an exposition's lines, without `le`, in order; none for lines of metadata.
    fn label_sets(exposition: &str) -> Vec<(String, String)> {
        let mut sets = Vec::new();
        for line in exposition.lines().filter(|line| !line.starts_with("# ")) {
            let (name, rest) = line.split_once('{').expect("all have labels here");
            let labels = rest.rsplit_once("} ").unwrap().0;
            let labels = labels
                .split_once("le=\"")
                .map_or(labels, |(labels, _)| labels.trim_end_matches(','));
            let suffixes = ["_bucket", "_sum", "_count", "_created", "_total"];
            let family = suffixes
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .unwrap_or(name);
            sets.push((family.to_owned(), labels.to_owned()));
        }
        sets
    }

    /// What a reader makes of an escaped text.
    fn unescaped(text: &str) -> String {
        let mut characters = text.chars();
        let mut read = String::new();
        while let Some(character) = characters.next() {
            read.push(match character {
                '\\' => match characters.next() {
                    Some('n') => '\n',
                    Some(character @ ('\\' | '"')) => character,
                    other => panic!("{other:?} is no escape"),
                },
                character => character,
            });
        }
        read
    }

    fn label_text() -> impl Strategy<Value = String> {
        let alphabet = prop::sample::select(vec![
            'a', 'B', '/', '_', '*', ' ', '\\', '"', '\n', '\0', '\r', 'é', '日', '🦀',
        ]);
        prop_oneof![
            4 => "[a-z/]{0,30}",
            2 => prop::collection::vec(alphabet, 0..20).prop_map(String::from_iter),
            1 => any::<String>(),
            1 => (50..70_usize).prop_map(|len| "l".repeat(len)),
            1 => (4000..5000_usize).prop_map(|len| "long ".repeat(len / 5)),
        ]
    }

    fn sketch() -> impl Strategy<Value = Sketch> {
        const LABELS: [&str; 7] = [
            "a",
            "method",
            "a_label_of_a_length_that_nobody_expects",
            "b",
            "route",
            "status",
            "z.z",
        ];
        let kinds = prop::sample::select(vec![
            Kind::Counter,
            Kind::FloatCounter,
            Kind::Gauge,
            Kind::IntGauge,
            Kind::Histogram,
        ]);
        let shape = (kinds, 0..=7_usize, 0..12_usize, any::<bool>(), 0..4_usize);
        shape.prop_flat_map(|(kind, labels, series, constant, bounds)| {
            let series = if labels == 0 { 1 } else { series };
            let label_values = prop::collection::vec(prop::collection::vec(label_text(), labels), series);
            let numbers = prop::collection::vec((any::<u64>(), 0..64_u32), series * (bounds + 1));
            (label_values, numbers, any::<String>()).prop_map(move |(mut series, numbers, help)| {
                let mut seen = HashSet::new();
                series.retain(|values| seen.insert(values.clone()));
                let count = series.len();
                let numbers = numbers.into_iter().map(|(number, shift)| number >> shift);
                let floats = numbers
                    .clone()
                    .map(|bits| f64::from_bits(bits).abs())
                    .take(count)
                    .collect();
                let values = match kind {
                    Kind::Counter => Values::Counts(numbers.take(count).collect()),
                    Kind::IntGauge => Values::Integers(numbers.map(|number| number as i64).take(count).collect()),
                    Kind::Histogram => Values::Histograms {
                        counts: numbers.map(|number| number >> 8).take(count * (bounds + 1)).collect(),
                        sums: floats,
                    },
                    _ => Values::Floats(floats),
                };
                Sketch {
                    kind,
                    name: "some.name",
                    help,
                    constant: if constant { vec![("region", "e\"u")] } else { Vec::new() },
                    labels: LABELS[..labels].to_vec(),
                    bounds: (0..bounds).map(|bound| 10_f64.powi(3 * bound as i32 - 1)).collect(),
                    series,
                    overflow: false,
                    values,
                }
            })
        })
    }

    proptest! {
        #[test]
        fn the_fast_way_and_the_plain_way_write_the_same(sketches in prop::collection::vec(sketch(), 0..4)) {
            let live = snapshot(sketches.iter().map(Sketch::live));
            let given = snapshot(sketches.iter().map(Sketch::given));
            for format in [Format::Text, Format::OpenMetrics] {
                let written = encoded(&live, format, EncodeOptions::new());
                prop_assert_eq!(&written, &encoded(&given, format, EncodeOptions::new()));
                prop_assert!(written.is_empty() || written.ends_with('\n'));
                prop_assert_eq!(written.matches("# EOF").count() >= 1, written.ends_with("# EOF\n"));
            }
        }

        #[test]
        fn every_label_value_and_help_reads_back(value in any::<String>(), help in any::<String>(), other in label_text()) {
            let mut family = Sketch::new(
                Kind::Counter, "jobs", &["a", "b"], &[&[&value, &other]], Values::Counts(vec![3]),
            );
            family.help.clone_from(&help);
            for (exposition, head) in [(text(&family), "# HELP jobs_total "), (open_metrics(&family), "# HELP jobs ")] {
                let lines: Vec<&str> = exposition.split('\n').collect();
                let read = lines.iter().find_map(|line| line.strip_prefix(head)).unwrap();
                prop_assert_eq!(unescaped(read), help.clone());
                let sample = lines.iter().find_map(|line| line.strip_prefix("jobs_total{a=\"")).unwrap();
                let (read, rest) = sample.split_once("\",b=\"").filter(|_| !value.contains(",b=")).unwrap_or(("", ""));
                prop_assert_eq!(unescaped(read), value.clone());
                prop_assert_eq!(unescaped(rest.strip_suffix("\"} 3").unwrap()), other.clone());
                prop_assert_eq!(lines.len(), if head.contains("_total") { 4 } else { 5 });
            }
        }

        #[test]
        fn all_samples_of_a_label_set_stand_together(sketch in sketch(), created: bool) {
            let family = Sketch {
                labels: vec!["a", "b"],
                constant: Vec::new(),
                series: (0..sketch.series.len()).map(|number| vec![number.to_string(), "x".to_owned()]).collect(),
                ..sketch
            };
            for format in [Format::Text, Format::OpenMetrics] {
                let options = EncodeOptions::new().created(created);
                let written = encoded(&snapshot([family.live()]), format, options);
                let mut runs = label_sets(&written);
                runs.dedup();
                let sets: HashSet<_> = runs.iter().collect();
                prop_assert_eq!(sets.len(), runs.len());
                prop_assert_eq!(sets.len(), family.series.len());
            }
        }
    }
}
