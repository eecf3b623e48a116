//! From points to a request of OTLP, version 1: an `ExportMetricsServiceRequest`
//! (<https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/metrics/v1/metrics.proto>), in
//! binary protobuf or in JSON.
//!
//! The walk stands here, once: which points go into a request, and when it is full. How they are written, the two
//! [`Form`]s say. What both write:
//!
//! - The resource and the scope once, then each family with its name as registered, description and unit. A request
//!   with no point is not written at all.
//! - Counters as monotonic sums, up-down counters as sums that are not monotonic and always cumulative, gauges as
//!   gauges. Integers stay integers; a count past the 63 bits that OTLP has for one is written as a double.
//! - Histograms with all their buckets. The sum is left out where the lowest bound is negative, or the sum itself is:
//!   OTLP has sums only of observations that are not negative.
//! - The time since which a value counts, but not for gauges, which OTLP says to ignore it for.
//! - The series for what was past a limit with the one attribute `otel.metric.overflow`, the boolean `true`
//!   (<https://opentelemetry.io/docs/specs/otel/metrics/sdk/#overflow-attribute>).
//!
//! What a series is called does not change, so its attributes are written once and kept; see [`templates`]. Once that
//! is done, nothing is allocated for series.

mod json;
mod protobuf;
mod templates;
#[cfg(test)]
mod tests;

use crate::{
    descriptor::Kind,
    destination::Temporality,
    exporter::points::{Point, Points},
    snapshot::{FamilySnapshot, HistogramValue},
};
use json::Json;
use protobuf::Protobuf;
use std::time::Duration;
use templates::Templates;

/// How a request is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// Binary protobuf over HTTP, `http/protobuf`: the smallest, the fastest, and what every receiver takes. The
    /// default.
    #[default]
    Protobuf,
    /// JSON over HTTP, `http/json`, for receivers that take nothing else, and for reading along. Three to four times as
    /// large.
    Json,
}

impl Protocol {
    /// The value of the `Content-Type` header, of requests and of their answers.
    pub fn content_type(self) -> &'static str {
        match self {
            Protocol::Protobuf => "application/x-protobuf",
            Protocol::Json => "application/json",
        }
    }
}

/// What is said of all points of a request.
pub(crate) struct Origin<'a> {
    /// Keys and values of the resource.
    pub(crate) resource: &'a [(String, String)],
    pub(crate) scope_name: &'a str,
    pub(crate) scope_version: &'a str,
}

/// How much goes into one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) points: usize,
    pub(crate) bytes: usize,
}

/// Writes requests, one after the other.
pub(crate) struct Encoder {
    protocol: Protocol,
    limits: Limits,
    /// The resource and the scope, written already.
    preamble: Preamble,
    templates: Templates,
}

/// What stands before all families.
#[derive(Default)]
struct Preamble {
    resource: Vec<u8>,
    scope: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new(protocol: Protocol, limits: Limits, origin: &Origin<'_>) -> Self {
        let mut encoder = Encoder {
            protocol,
            limits,
            preamble: Preamble::default(),
            templates: Templates::default(),
        };
        encoder.describe(origin);
        encoder
    }

    /// Says anew where all that follows comes from.
    pub(crate) fn describe(&mut self, origin: &Origin<'_>) {
        self.preamble = match self.protocol {
            Protocol::Protobuf => Protobuf::preamble(origin),
            Protocol::Json => Json::preamble(origin),
        };
    }

    /// How many bytes a request has before its first point, about.
    pub(crate) fn overhead(&self) -> usize {
        self.preamble.resource.len() + self.preamble.scope.len() + Protobuf::CLOSING.max(Json::CLOSING)
    }

    /// Writes a request into `out`, which is empty, of as many points as go into it.
    pub(crate) fn encode(&mut self, points: &mut Points<'_>, out: &mut Vec<u8>) {
        match self.protocol {
            Protocol::Protobuf => self.encode_as::<Protobuf>(points, out),
            Protocol::Json => self.encode_as::<Json>(points, out),
        }
    }

    fn encode_as<F: Form>(&mut self, points: &mut Points<'_>, out: &mut Vec<u8>) {
        let most_bytes = self.limits.bytes.saturating_sub(F::CLOSING);
        let mut room = self.limits.points;
        let mut form = F::open(&self.preamble, out);
        let empty = out.len();
        while room > 0
            && let Some(family) = points.next_family()
        {
            let before = out.len();
            form.open_family(family, points.temporality(), out);
            let opened = out.len();
            if let Some(first) = points.peek() {
                self.templates.see(first.time());
            }
            let known = self.templates.of_family(family);
            let mut full = false;
            while room > 0
                && let Some(point) = points.peek()
            {
                let mark = out.len();
                form.put(&point, known.of(&point, F::template), out);
                if out.len() <= most_bytes {
                    points.take();
                    room -= 1;
                    continue;
                }
                out.truncate(mark);
                if room < self.limits.points {
                    full = true;
                    break;
                }
                points.refuse(TOO_LARGE);
            }
            if out.len() == opened {
                out.truncate(before);
            } else {
                form.close_family(out);
            }
            if full {
                break;
            }
        }
        if out.len() == empty {
            out.clear();
        } else {
            form.close(out);
        }
    }
}

/// A way to write requests. It always appends; what it appended last may be cut off again.
trait Form: Sized {
    /// The most bytes by which closing a request and its last family can add to it.
    const CLOSING: usize;

    fn preamble(origin: &Origin<'_>) -> Preamble;

    /// Begins a request.
    fn open(preamble: &Preamble, out: &mut Vec<u8>) -> Self;

    fn open_family(&mut self, family: &FamilySnapshot, temporality: Temporality, out: &mut Vec<u8>);

    /// Writes a point of the family that was opened last, of whose series there is a template.
    fn put(&mut self, point: &Point<'_>, template: &[u8], out: &mut Vec<u8>);

    fn close_family(&mut self, out: &mut Vec<u8>);

    fn close(self, out: &mut Vec<u8>);

    /// Writes what is always the same of a series' points. It depends on the attributes and the family's kind alone.
    fn template(point: &Point<'_>, kind: Kind, into: &mut Vec<u8>);
}

/// What a family is in OTLP.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Data {
    Gauge,
    Sum { monotonic: bool, temporality: Temporality },
    Histogram { temporality: Temporality },
}

impl Data {
    fn of(kind: Kind, temporality: Temporality) -> Self {
        match kind {
            Kind::Counter | Kind::FloatCounter => Data::Sum {
                monotonic: true,
                temporality,
            },
            Kind::UpDownCounter => Data::Sum {
                monotonic: false,
                temporality: Temporality::Cumulative,
            },
            Kind::Gauge | Kind::IntGauge => Data::Gauge,
            Kind::Histogram => Data::Histogram { temporality },
        }
    }
}

impl Temporality {
    /// Its number in OTLP.
    fn otlp(self) -> u8 {
        match self {
            Temporality::Delta => 1,
            Temporality::Cumulative => 2,
        }
    }
}

/// The sum of a histogram, where OTLP has one.
fn otlp_sum(histogram: HistogramValue<'_>) -> Option<f64> {
    let bound = histogram.bounds().first();
    (bound.is_none_or(|bound| *bound >= 0.0) && histogram.sum() >= 0.0).then(|| histogram.sum())
}

/// Nanoseconds, which last until the year 2554.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The attribute of the series for what was past a limit.
const OVERFLOW: &str = "otel.metric.overflow";

/// Why a point is refused.
const TOO_LARGE: &str = "alone it is larger than the most bytes of a request";
