//! Requests in binary protobuf: fields in the order of their numbers, lengths in as few bytes as they need.

use super::{Data, Form, OVERFLOW, Origin, Preamble, nanoseconds, otlp_sum};
use crate::{
    descriptor::Kind,
    destination::Temporality,
    encode::wire::{
        BYTES, FIXED, FIXED64, LONGEST_VARINT, VARINT, close, fixed, open, put_length, put_text, tag, varint,
    },
    exporter::points::Point,
    snapshot::{FamilySnapshot, HistogramValue, Value},
};

/// A request that is being written: where its open messages begin.
pub(super) struct Protobuf {
    resource_metrics: usize,
    scope_metrics: usize,
    metric: usize,
    data: usize,
    /// Of the family that is open.
    kind: Data,
    /// The bounds of its histograms as a field.
    bounds: Vec<u8>,
}

impl Form for Protobuf {
    // One byte more for the length of each of four messages, which is below 2²⁸; and temporality and monotonicity.
    const CLOSING: usize = 4 + 4;

    fn preamble(origin: &Origin<'_>) -> Preamble {
        let mut resource = Vec::new();
        for (key, value) in origin.resource {
            put_attribute(tag(1, BYTES), key, value, &mut resource);
        }
        let mut scope = Vec::new();
        put_text(tag(1, BYTES), origin.scope_name, &mut scope);
        put_text(tag(2, BYTES), origin.scope_version, &mut scope);
        Preamble {
            resource: field(tag(1, BYTES), &resource),
            scope: field(tag(1, BYTES), &scope),
        }
    }

    fn open(preamble: &Preamble, out: &mut Vec<u8>) -> Self {
        let resource_metrics = open(tag(1, BYTES), out);
        out.extend_from_slice(&preamble.resource);
        let scope_metrics = open(tag(2, BYTES), out);
        out.extend_from_slice(&preamble.scope);
        Protobuf {
            resource_metrics,
            scope_metrics,
            metric: 0,
            data: 0,
            kind: Data::Gauge,
            bounds: Vec::new(),
        }
    }

    fn open_family(&mut self, family: &FamilySnapshot, temporality: Temporality, out: &mut Vec<u8>) {
        let descriptor = &family.descriptor;
        self.metric = open(tag(2, BYTES), out);
        put_text(tag(1, BYTES), descriptor.name.otlp(), out);
        put_text(tag(2, BYTES), &descriptor.help, out);
        if let Some(unit) = family.unit() {
            put_text(tag(3, BYTES), unit, out);
        }
        self.kind = Data::of(descriptor.kind, temporality);
        self.data = match self.kind {
            Data::Gauge => open(tag(5, BYTES), out),
            Data::Sum { .. } => open(tag(7, BYTES), out),
            Data::Histogram { .. } => open(tag(9, BYTES), out),
        };
        self.bounds.clear();
        if !descriptor.bounds.is_empty() {
            self.bounds.push(tag(7, BYTES));
            put_length(8 * descriptor.bounds.len(), &mut self.bounds);
            let bounds = descriptor.bounds.iter().flat_map(|bound| bound.to_le_bytes());
            self.bounds.extend(bounds);
        }
    }

    #[inline]
    fn put(&mut self, point: &Point<'_>, template: &[u8], out: &mut Vec<u8>) {
        let value = match point.value() {
            Value::Counter(count) => match i64::try_from(count) {
                Ok(count) => (AS_INT, count.to_le_bytes()),
                Err(_) => (AS_DOUBLE, (count as f64).to_le_bytes()),
            },
            Value::IntGauge(integer) => (AS_INT, integer.to_le_bytes()),
            Value::FloatCounter(float) | Value::Gauge(float) => (AS_DOUBLE, float.to_le_bytes()),
            Value::Histogram(histogram) => return self.put_histogram(point, histogram, template, out),
            // Only a destination that asks for samples is given any.
            Value::Samples(_) => return,
        };
        let start = out.len();
        out.extend_from_slice(template);
        // A length, of one byte or two, is all that stands between the tag and the numbers.
        let length = 1 + template[1..].iter().take_while(|byte| **byte >= 0x80).count();
        let (numbers, _) = out[start + 1 + length..].as_chunks_mut();
        let time = fixed(tag(3, FIXED64), nanoseconds(point.time()).to_le_bytes());
        let value = fixed(value.0, value.1);
        match numbers {
            [at_time, at_value, ..] if self.kind == Data::Gauge => (*at_time, *at_value) = (time, value),
            [at_start, at_time, at_value, ..] => {
                *at_start = fixed(tag(2, FIXED64), nanoseconds(point.start()).to_le_bytes());
                (*at_time, *at_value) = (time, value);
            }
            _ => unreachable!("a template has room for all numbers of its kind"),
        }
    }

    fn close_family(&mut self, out: &mut Vec<u8>) {
        match self.kind {
            Data::Gauge => {}
            Data::Sum { monotonic, temporality } => {
                out.extend([tag(2, VARINT), temporality.otlp()]);
                if monotonic {
                    out.extend([tag(3, VARINT), 1]);
                }
            }
            Data::Histogram { temporality } => out.extend([tag(2, VARINT), temporality.otlp()]),
        }
        close(self.data, out);
        close(self.metric, out);
    }

    fn close(self, out: &mut Vec<u8>) {
        close(self.scope_metrics, out);
        close(self.resource_metrics, out);
    }

    /// A whole point with room for its numbers; of a histogram, which has more that changes, the attributes alone.
    fn template(point: &Point<'_>, kind: Kind, into: &mut Vec<u8>) {
        let (tag, numbers) = match kind {
            Kind::Histogram => (tag(9, BYTES), None),
            Kind::Gauge | Kind::IntGauge => (tag(7, BYTES), Some(2)),
            _ => (tag(7, BYTES), Some(3)),
        };
        if let Some(numbers) = numbers {
            let attributes = match point.is_overflow() {
                true => key_value_len(OVERFLOW, OVERFLOW_VALUE.len()),
                false => point
                    .attributes()
                    .map(|(key, value)| key_value_len(key, text_len(value)))
                    .sum(),
            };
            into.push(self::tag(1, BYTES));
            put_length(numbers * FIXED + attributes, into);
            into.resize(into.len() + numbers * FIXED, 0);
        }
        if point.is_overflow() {
            put_key(tag, OVERFLOW, OVERFLOW_VALUE.len(), into);
            return into.extend(OVERFLOW_VALUE);
        }
        for (key, value) in point.attributes() {
            put_attribute(tag, key, value, into);
        }
    }
}

impl Protobuf {
    fn put_histogram(&self, point: &Point<'_>, histogram: HistogramValue<'_>, attributes: &[u8], out: &mut Vec<u8>) {
        let sum = otlp_sum(histogram);
        let counts = histogram.counts();
        let mut piece = Piece::new();
        let packed = 8 * counts.len();
        let count = histogram.count();
        let fixed = (2 + usize::from(count != 0) + usize::from(sum.is_some())) * FIXED;
        piece.open(fixed + 1 + length_of_length(packed) + packed + self.bounds.len() + attributes.len());
        piece.put(tag(2, FIXED64), nanoseconds(point.start()).to_le_bytes());
        piece.put(tag(3, FIXED64), nanoseconds(point.time()).to_le_bytes());
        if count != 0 {
            piece.put(tag(4, FIXED64), count.to_le_bytes());
        }
        if let Some(sum) = sum {
            piece.put(tag(5, FIXED64), sum.to_le_bytes());
        }
        out.extend_from_slice(piece.as_bytes());
        out.push(tag(6, BYTES));
        put_length(packed, out);
        let start = out.len();
        out.resize(start + packed, 0);
        let (places, _) = out[start..].as_chunks_mut();
        for (place, count) in places.iter_mut().zip(counts) {
            *place = count.to_le_bytes();
        }
        out.extend_from_slice(&self.bounds);
        out.extend_from_slice(attributes);
    }
}

/// The fixed part of a point, put together before it is appended.
struct Piece {
    bytes: [u8; Piece::LONGEST],
    len: usize,
}

impl Piece {
    /// Tag, a length, and four numbers.
    const LONGEST: usize = 1 + LONGEST_VARINT + 4 * FIXED;

    #[inline(always)]
    fn new() -> Self {
        Piece {
            bytes: [0; Piece::LONGEST],
            len: 0,
        }
    }

    /// Puts the head of a data point: in all three messages they are field 1.
    #[inline(always)]
    fn open(&mut self, len: usize) {
        self.bytes[0] = tag(1, BYTES);
        let (varint, used) = varint(len as u64);
        self.bytes[1..=LONGEST_VARINT].copy_from_slice(&varint);
        self.len = 1 + used;
    }

    #[inline(always)]
    fn put(&mut self, tag: u8, number: [u8; 8]) {
        self.bytes[self.len] = tag;
        self.bytes[self.len + 1..][..8].copy_from_slice(&number);
        self.len += FIXED;
    }

    #[inline(always)]
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Appends an attribute whose value is a text.
fn put_attribute(tag: u8, key: &str, value: &str, into: &mut Vec<u8>) {
    put_key(tag, key, text_len(value), into);
    put_text(self::tag(1, BYTES), value, into);
}

/// Appends a `KeyValue` up to its value, an `AnyValue` of so many bytes.
fn put_key(tag: u8, key: &str, value: usize, into: &mut Vec<u8>) {
    into.push(tag);
    put_length(text_len(key) + 1 + length_of_length(value) + value, into);
    put_text(self::tag(1, BYTES), key, into);
    into.push(self::tag(2, BYTES));
    put_length(value, into);
}

/// How long a `KeyValue` is as a field, with a value of so many bytes.
fn key_value_len(key: &str, value: usize) -> usize {
    let len = text_len(key) + 1 + length_of_length(value) + value;
    1 + length_of_length(len) + len
}

/// How long a text is as a field.
fn text_len(text: &str) -> usize {
    1 + length_of_length(text.len()) + text.len()
}

/// How many bytes a length takes.
fn length_of_length(length: usize) -> usize {
    varint(length as u64).1
}

fn field(tag: u8, message: &[u8]) -> Vec<u8> {
    let mut field = vec![tag];
    put_length(message.len(), &mut field);
    field.extend(message);
    field
}

/// The value of an attribute that is `true`.
const OVERFLOW_VALUE: [u8; 2] = [tag(2, VARINT), 1];

/// The two kinds of value of a `NumberDataPoint`.
const AS_DOUBLE: u8 = tag(4, FIXED64);
const AS_INT: u8 = tag(6, FIXED64);
