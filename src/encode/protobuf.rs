//! Prometheus' protobuf format: `MetricFamily` messages, each behind its length
//! (<https://github.com/prometheus/client_model/blob/master/io/prometheus/client/metrics.proto>).
//!
//! Families, series and labels come as in text, and mean the same. What this format has beyond it is the unit, and counts of
//! buckets past 2⁵³ as they are. Histograms are classic ones; nothing has a timestamp, a start or an exemplar.

use super::{
    samples::Shows,
    wire::{BYTES, FIXED64, VARINT, close, fixed, open, open_delimited, put_text, put_varint, tag},
};
use crate::{
    descriptor::Kind,
    snapshot::{FamilySnapshot, HistogramValue, SeriesSnapshot, Value},
};

/// The value of the `Content-Type` header that belongs to it.
pub(crate) const CONTENT_TYPE: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// Writes families as they come, into a buffer whose content is overwritten. Each name may come once: a reader may take a
/// second family of it for another version of the first.
pub(crate) struct Protobuf<'a>(&'a mut Vec<u8>);

impl<'a> Protobuf<'a> {
    pub(crate) fn new(bytes: &'a mut Vec<u8>) -> Self {
        bytes.clear();
        Protobuf(bytes)
    }

    /// Writes a family and those of its series that are to be shown. Nothing if there are none.
    pub(crate) fn write(&mut self, family: &FamilySnapshot, shows: Option<Shows<'_>>) {
        let out = &mut *self.0;
        let start = open_delimited(out);
        put_text(tag(1, BYTES), family.name(), out);
        put_text(tag(2, BYTES), family.help(), out);
        out.extend([tag(3, VARINT), metric_type(family.kind())]);
        let described = out.len();
        for series in family.series() {
            if shows.is_none_or(|shows| shows(series)) {
                put_metric(series, family.kind(), out);
            }
        }
        if out.len() == described {
            return out.truncate(start);
        }
        if let Some(unit) = family.descriptor.name.unit_line() {
            put_text(tag(5, BYTES), unit, out);
        }
        close(start, out);
    }
}

/// The number of a `MetricType`.
fn metric_type(kind: Kind) -> u8 {
    match kind {
        Kind::Counter | Kind::FloatCounter => 0,
        Kind::Gauge | Kind::IntGauge | Kind::UpDownCounter => 1,
        Kind::Histogram => 4,
    }
}

/// Writes a `Metric`.
fn put_metric(series: SeriesSnapshot<'_>, kind: Kind, out: &mut Vec<u8>) {
    let metric = open(tag(4, BYTES), out);
    for (name, value) in series.labels() {
        let pair = open(tag(1, BYTES), out);
        put_text(tag(1, BYTES), name, out);
        put_text(tag(2, BYTES), value, out);
        close(pair, out);
    }
    match series.value() {
        Value::Counter(count) => put_number(kind, count as f64, out),
        Value::IntGauge(integer) => put_number(kind, integer as f64, out),
        Value::FloatCounter(float) | Value::Gauge(float) => put_number(kind, float, out),
        Value::Histogram(histogram) => put_histogram(histogram, out),
        // Samples are given to destinations, in no snapshot.
        Value::Samples(_) => {}
    }
    close(metric, out);
}

/// Writes a `Counter` or a `Gauge`, which are alike.
fn put_number(kind: Kind, number: f64, out: &mut Vec<u8>) {
    let field = match metric_type(kind) {
        0 => tag(3, BYTES),
        _ => tag(2, BYTES),
    };
    let value = fixed(tag(1, FIXED64), canonical(number));
    out.extend([field, value.len() as u8]);
    out.extend(value);
}

fn put_histogram(histogram: HistogramValue<'_>, out: &mut Vec<u8>) {
    let start = open(tag(7, BYTES), out);
    out.push(tag(1, VARINT));
    put_varint(histogram.count(), out);
    out.extend(fixed(tag(2, FIXED64), canonical(histogram.sum())));
    for (bound, count) in histogram.cumulative() {
        let bucket = open(tag(3, BYTES), out);
        out.push(tag(1, VARINT));
        put_varint(count, out);
        out.extend(fixed(tag(2, FIXED64), bound.to_le_bytes()));
        close(bucket, out);
    }
    close(start, out);
}

/// The bytes of a number. All that is none becomes the same, as it does in text: among the others there is one by which Prometheus
/// says that a series has ended.
fn canonical(number: f64) -> [u8; 8] {
    let number = if number.is_nan() { f64::NAN } else { number };
    number.to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Buckets, Filter, Registry, Snapshot};
    use prost::Message;

    /// What this file writes, as its definition has it, for somebody else's reader.
    #[derive(Clone, PartialEq, Message)]
    struct MetricFamily {
        #[prost(string, optional, tag = "1")]
        name: Option<String>,
        #[prost(string, optional, tag = "2")]
        help: Option<String>,
        #[prost(int32, optional, tag = "3")]
        kind: Option<i32>,
        #[prost(message, repeated, tag = "4")]
        metric: Vec<Metric>,
        #[prost(string, optional, tag = "5")]
        unit: Option<String>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Metric {
        #[prost(message, repeated, tag = "1")]
        label: Vec<LabelPair>,
        #[prost(message, optional, tag = "2")]
        gauge: Option<Number>,
        #[prost(message, optional, tag = "3")]
        counter: Option<Number>,
        #[prost(message, optional, tag = "7")]
        histogram: Option<Histogram>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct LabelPair {
        #[prost(string, optional, tag = "1")]
        name: Option<String>,
        #[prost(string, optional, tag = "2")]
        value: Option<String>,
    }

    #[derive(Clone, Copy, PartialEq, Message)]
    struct Number {
        #[prost(double, optional, tag = "1")]
        value: Option<f64>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Histogram {
        #[prost(uint64, optional, tag = "1")]
        sample_count: Option<u64>,
        #[prost(double, optional, tag = "2")]
        sample_sum: Option<f64>,
        #[prost(message, repeated, tag = "3")]
        bucket: Vec<Bucket>,
    }

    #[derive(Clone, Copy, PartialEq, Message)]
    struct Bucket {
        #[prost(uint64, optional, tag = "1")]
        cumulative_count: Option<u64>,
        #[prost(double, optional, tag = "2")]
        upper_bound: Option<f64>,
    }

    fn labels(labels: &[(&str, &str)]) -> Vec<LabelPair> {
        let pair = |(name, value): &(&str, &str)| LabelPair {
            name: Some(name.to_string()),
            value: Some(value.to_string()),
        };
        labels.iter().map(pair).collect()
    }

    fn family(name: &str, kind: i32, metric: Vec<Metric>) -> MetricFamily {
        MetricFamily {
            name: Some(name.to_owned()),
            help: Some("Help.".to_owned()),
            kind: Some(kind),
            metric,
            unit: None,
        }
    }

    fn counter(of: &[(&str, &str)], value: f64) -> Metric {
        Metric {
            label: labels(of),
            counter: Some(Number { value: Some(value) }),
            ..Metric::default()
        }
    }

    fn gauge(of: &[(&str, &str)], value: f64) -> Metric {
        Metric {
            label: labels(of),
            gauge: Some(Number { value: Some(value) }),
            ..Metric::default()
        }
    }

    fn encoded(snapshot: &Snapshot, shows: Option<Shows<'_>>) -> Vec<u8> {
        let mut bytes = b"left over".to_vec();
        let mut protobuf = Protobuf::new(&mut bytes);
        for family in snapshot.families() {
            protobuf.write(family, shows);
        }
        bytes
    }

    /// What somebody else reads, having read all of it.
    fn decoded(mut bytes: &[u8]) -> Vec<MetricFamily> {
        let mut families = Vec::new();
        while !bytes.is_empty() {
            families.push(MetricFamily::decode_length_delimited(&mut bytes).expect("it is a family behind its length"));
        }
        families
    }

    #[test]
    fn somebody_else_writes_the_same_bytes_of_every_kind() {
        let registry = Registry::builder().label("region", "eu \"1\"\n").build().unwrap();
        let jobs = registry.counter("jobs", "Help.").labels(["queue", "code"]).limit(2);
        let jobs = jobs.register().unwrap();
        jobs.with(["", "a\\b"]).add(3);
        jobs.with(["日本語", "0"]).add(u64::MAX);
        jobs.with(["more", "1"]).inc();
        registry
            .float_counter("energy", "Help.")
            .unit("J")
            .register()
            .unwrap()
            .add(0.25);
        registry
            .up_down_counter("in_flight", "Help.")
            .register()
            .unwrap()
            .sub(9);
        registry.int_gauge("depth", "Help.").register().unwrap().set(i64::MIN);
        let edges = registry.gauge("edge", "Help.").labels(["of"]).register().unwrap();
        let numbers = [0.0, -0.0, 0.1, f64::INFINITY, f64::NEG_INFINITY, 5e-324, f64::MAX];
        for (place, number) in numbers.iter().enumerate() {
            edges.with((place,)).set(*number);
        }
        registry.gauge("unused", "Help.").labels(["of"]).register().unwrap();
        registry.observable_gauge("free", "Help.").register(|| 4_096.5).unwrap();
        let buckets = Buckets::explicit([-1.0, 0.25]).unwrap();
        let sizes = registry.histogram("sizes", "Help.").buckets(buckets).labels(["kind"]);
        let sizes = sizes.register().unwrap();
        sizes.with(["none"]);
        sizes.with(["many"]).observe_many(0.125, 1 << 60);
        sizes.with(["many"]).observe(7.0);

        let eu = ("region", "eu \"1\"\n");
        let histogram = |kind: &str, sum: f64, counts: [u64; 3]| Metric {
            label: labels(&[eu, ("kind", kind)]),
            histogram: Some(Histogram {
                sample_count: Some(counts[2]),
                sample_sum: Some(sum),
                bucket: [-1.0, 0.25, f64::INFINITY]
                    .into_iter()
                    .zip(counts)
                    .map(|(bound, count)| Bucket {
                        cumulative_count: Some(count),
                        upper_bound: Some(bound),
                    })
                    .collect(),
            }),
            ..Metric::default()
        };
        let of_edge = |(place, number): (usize, &f64)| gauge(&[eu, ("of", &place.to_string())], *number);
        let many = (1_u64 << 60) as f64 * 0.125 + 7.0;
        let expected = [
            family("depth", 1, vec![gauge(&[eu], i64::MIN as f64)]),
            family("edge", 1, numbers.iter().enumerate().map(of_edge).collect()),
            MetricFamily {
                unit: Some("joules".to_owned()),
                ..family("energy_joules_total", 0, vec![counter(&[eu], 0.25)])
            },
            family("free", 1, vec![gauge(&[eu], 4_096.5)]),
            family("in_flight", 1, vec![gauge(&[eu], -9.0)]),
            family(
                "jobs_total",
                0,
                vec![
                    counter(&[eu, ("queue", ""), ("code", "a\\b")], 3.0),
                    counter(&[eu, ("queue", "日本語"), ("code", "0")], u64::MAX as f64),
                    counter(&[("otel_metric_overflow", "true")], 1.0),
                ],
            ),
            family(
                "sizes",
                4,
                vec![
                    histogram("none", 0.0, [0, 0, 0]),
                    histogram("many", many, [0, 1 << 60, (1 << 60) + 1]),
                ],
            ),
        ];
        let bytes = encoded(&registry.snapshot(), None);
        let theirs: Vec<u8> = expected
            .iter()
            .flat_map(|family| family.encode_length_delimited_to_vec())
            .collect();
        assert_eq!(decoded(&bytes), expected);
        // Equality of numbers does not see the sign of a zero.
        assert!(bytes == theirs);
    }

    #[test]
    fn no_number_is_the_mark_of_a_series_that_has_ended() {
        let registry = Registry::new();
        let stale = f64::from_bits(0x7ff0_0000_0000_0002);
        registry.gauge("level", "Help.").register().unwrap().set(stale);
        let read = decoded(&encoded(&registry.snapshot(), None));
        let number = read[0].metric[0].gauge.unwrap().value.unwrap();
        assert_eq!(number.to_bits(), f64::NAN.to_bits());
    }

    #[test]
    fn series_that_are_not_shown_are_left_out_and_families_without_any_are_too() {
        let registry = Registry::new();
        for name in ["first", "second"] {
            let family = registry.gauge(name, "Help.").labels(["of"]).register().unwrap();
            family.with([name]).set(1.0);
            family.with(["both"]).set(2.0);
        }
        registry
            .gauge("third", "Help.")
            .labels(["of"])
            .register()
            .unwrap()
            .with(["x"])
            .set(3.0);
        let filter = Filter::new().series(|series| ["first", "both"].contains(&series.label("of").unwrap()));
        let bytes = encoded(&registry.snapshot(), filter.of_series());
        assert_eq!(
            decoded(&bytes),
            [
                family(
                    "first",
                    1,
                    vec![gauge(&[("of", "first")], 1.0), gauge(&[("of", "both")], 2.0)]
                ),
                family("second", 1, vec![gauge(&[("of", "both")], 2.0)]),
            ]
        );
        let none = Filter::new().series(|_| false);
        assert_eq!(encoded(&registry.snapshot(), none.of_series()), b"");
    }

    #[test]
    fn lengths_of_every_size_are_read() {
        let registry = Registry::new();
        let long = "x".repeat(300);
        let family = registry
            .gauge("level", "Help.")
            .labels(["text", "number"])
            .limit(20_000)
            .register()
            .unwrap();
        for number in 0..10_000 {
            family.with((long.as_str(), number)).set(number.into());
        }
        let bytes = encoded(&registry.snapshot(), None);
        assert!(
            bytes.len() > 1 << 21,
            "the length of the family has four bytes: {}",
            bytes.len()
        );
        let read = decoded(&bytes);
        let numbers = read[0].metric.iter().map(|metric| metric.gauge.unwrap().value.unwrap());
        assert!(numbers.eq((0..10_000).map(f64::from)));
        assert!(
            read[0]
                .metric
                .iter()
                .all(|metric| metric.label[0].value.as_ref() == Some(&long))
        );
    }
}
