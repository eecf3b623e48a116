//! Requests in JSON, as OTLP has it: <https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>. Names in camel
//! case, enums as numbers, integers of 64 bits as strings.

use super::{Data, Form, OVERFLOW, Origin, Preamble, nanoseconds, otlp_sum};
use crate::{
    descriptor::Kind,
    destination::Temporality,
    exporter::points::Point,
    snapshot::{FamilySnapshot, HistogramValue, Value},
};

/// A request that is being written.
pub(super) struct Json {
    /// Of the family that is open.
    kind: Data,
    /// The bounds of its histograms as a member.
    bounds: Vec<u8>,
}

impl Form for Json {
    const CLOSING: usize = br#"],"aggregationTemporality":2,"isMonotonic":true}}"#.len() + CLOSE.len();

    fn preamble(origin: &Origin<'_>) -> Preamble {
        let mut resource = br#"{"attributes":["#.to_vec();
        for (key, value) in origin.resource {
            put_attribute(key, value, &mut resource);
        }
        resource.extend(b"]}");
        let mut scope = br#"{"name":"#.to_vec();
        put_text(origin.scope_name, &mut scope);
        scope.extend(br#","version":"#);
        put_text(origin.scope_version, &mut scope);
        scope.push(b'}');
        Preamble { resource, scope }
    }

    fn open(preamble: &Preamble, out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(br#"{"resourceMetrics":[{"resource":"#);
        out.extend_from_slice(&preamble.resource);
        out.extend_from_slice(br#","scopeMetrics":[{"scope":"#);
        out.extend_from_slice(&preamble.scope);
        out.extend_from_slice(br#","metrics":["#);
        Json {
            kind: Data::Gauge,
            bounds: Vec::new(),
        }
    }

    fn open_family(&mut self, family: &FamilySnapshot, temporality: Temporality, out: &mut Vec<u8>) {
        let descriptor = &family.descriptor;
        put_comma(out);
        out.extend_from_slice(br#"{"name":"#);
        put_text(descriptor.name.otlp(), out);
        out.extend_from_slice(br#","description":"#);
        put_text(&descriptor.help, out);
        if let Some(unit) = family.unit() {
            out.extend_from_slice(br#","unit":"#);
            put_text(unit, out);
        }
        self.kind = Data::of(descriptor.kind, temporality);
        out.extend_from_slice(match self.kind {
            Data::Gauge => br#","gauge":"#,
            Data::Sum { .. } => br#","sum":"#,
            Data::Histogram { .. } => br#","histogram":"#,
        });
        out.extend_from_slice(br#"{"dataPoints":["#);
        self.bounds.clear();
        if !descriptor.bounds.is_empty() {
            self.bounds.extend_from_slice(br#","explicitBounds":["#);
            for bound in &*descriptor.bounds {
                put_comma(&mut self.bounds);
                put_float(*bound, &mut self.bounds);
            }
            self.bounds.push(b']');
        }
    }

    fn put(&mut self, point: &Point<'_>, template: &[u8], out: &mut Vec<u8>) {
        put_comma(out);
        out.extend_from_slice(template);
        if self.kind != Data::Gauge {
            out.extend_from_slice(br#","startTimeUnixNano":"#);
            put_quoted(nanoseconds(point.start()), out);
        }
        out.extend_from_slice(br#","timeUnixNano":"#);
        put_quoted(nanoseconds(point.time()), out);
        match point.value() {
            Value::Counter(count) => match i64::try_from(count) {
                Ok(count) => put_integer(count, out),
                Err(_) => put_double(count as f64, out),
            },
            Value::IntGauge(integer) => put_integer(integer, out),
            Value::FloatCounter(float) | Value::Gauge(float) => put_double(float, out),
            Value::Histogram(histogram) => self.put_histogram(histogram, out),
            // Only a destination that asks for samples is given any.
            Value::Samples(_) => {}
        }
        out.push(b'}');
    }

    fn close_family(&mut self, out: &mut Vec<u8>) {
        out.push(b']');
        let (temporality, monotonic) = match self.kind {
            Data::Gauge => (None, false),
            Data::Sum { monotonic, temporality } => (Some(temporality), monotonic),
            Data::Histogram { temporality } => (Some(temporality), false),
        };
        if let Some(temporality) = temporality {
            out.extend_from_slice(br#","aggregationTemporality":"#);
            out.push(b'0' + temporality.otlp());
        }
        if monotonic {
            out.extend_from_slice(br#","isMonotonic":true"#);
        }
        out.extend_from_slice(b"}}");
    }

    fn close(self, out: &mut Vec<u8>) {
        out.extend_from_slice(CLOSE);
    }

    /// The attributes, which stand first.
    fn template(point: &Point<'_>, _: Kind, into: &mut Vec<u8>) {
        into.extend_from_slice(br#"{"attributes":["#);
        if point.is_overflow() {
            into.extend_from_slice(br#"{"key":"#);
            put_text(OVERFLOW, into);
            into.extend_from_slice(br#","value":{"boolValue":true}}"#);
        } else {
            for (key, value) in point.attributes() {
                put_attribute(key, value, into);
            }
        }
        into.push(b']');
    }
}

impl Json {
    fn put_histogram(&self, histogram: HistogramValue<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(br#","count":"#);
        put_quoted(histogram.count(), out);
        if let Some(sum) = otlp_sum(histogram) {
            out.extend_from_slice(br#","sum":"#);
            put_float(sum, out);
        }
        out.extend_from_slice(br#","bucketCounts":["#);
        for count in histogram.counts() {
            put_comma(out);
            put_quoted(*count, out);
        }
        out.push(b']');
        out.extend_from_slice(&self.bounds);
    }
}

/// What ends a request.
const CLOSE: &[u8] = b"]}]}]}";

/// Separates what comes from what is before it in its array.
fn put_comma(out: &mut Vec<u8>) {
    if out.last() != Some(&b'[') {
        out.push(b',');
    }
}

fn put_attribute(key: &str, value: &str, into: &mut Vec<u8>) {
    put_comma(into);
    into.extend_from_slice(br#"{"key":"#);
    put_text(key, into);
    into.extend_from_slice(br#","value":{"stringValue":"#);
    put_text(value, into);
    into.extend_from_slice(b"}}");
}

fn put_text(text: &str, into: &mut Vec<u8>) {
    serde_json::to_writer(into, text).expect("a text can be written, and a vector takes it");
}

fn put_integer(integer: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(br#","asInt":"#);
    put_quoted(integer, out);
}

fn put_double(float: f64, out: &mut Vec<u8>) {
    out.extend_from_slice(br#","asDouble":"#);
    put_float(float, out);
}

/// An integer of 64 bits, which many readers of JSON would round.
fn put_quoted(integer: impl itoa::Integer, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(itoa::Buffer::new().format(integer).as_bytes());
    out.push(b'"');
}

/// What JSON has no number for has a word, <https://protobuf.dev/programming-guides/json/>.
fn put_float(float: f64, out: &mut Vec<u8>) {
    let mut buffer = zmij::Buffer::new();
    out.extend_from_slice(if float.is_finite() {
        buffer.format_finite(float).as_bytes()
    } else if float.is_nan() {
        br#""NaN""#
    } else if float > 0.0 {
        br#""Infinity""#
    } else {
        br#""-Infinity""#
    });
}
