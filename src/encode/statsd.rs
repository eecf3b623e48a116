//! From points to packets of StatsD: whole lines, one behind the other, never more than a packet takes.
//!
//! The walk stands here: which points go into a packet, and what of each is taken. [`histogram`] divides histograms among packets,
//! [`rates`] and `encode/placement.rs` say which samples stand for them, [`series`] what the lines of a series share, [`clean`] what becomes of
//! hostile text; [`message`] writes what is no metric.
//!
//! - Counters and histograms are sent as increments; what has not moved is not sent, and a new series that is at zero is not either.
//! - A gauge below zero is two lines where servers take a sign for a change: a zero and the change, never in two packets.
//! - A histogram that does not fit is sent in parts, each of which is consistent by itself: its sum is that of its observations.
//!   What servers have been told of the sum and what is true is made up for in the next part.
//! - What a server would misread is not sent: numbers that are not finite, exponents, fractions where counters are integers,
//!   fields that it does not know.
//!
//! <https://github.com/statsd/statsd/blob/master/docs/metric_types.md>,
//! <https://docs.datadoghq.com/developers/dogstatsd/datagram_shell/>

mod clean;
mod histogram;
pub(crate) mod message;
mod number;
mod packet;
mod rates;
mod series;
#[cfg(test)]
mod tests;

use crate::{
    destination::statsd::{Cardinality, Dialect, HistogramLines},
    exporter::points::Points,
    snapshot::Value,
};
use histogram::{Parts, Written};
use number::{push_float, push_signed, push_unsigned};
use packet::Packet;
use series::Series;

/// How lines are written.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) dialect: Dialect,
    /// Of DogStatsD's protocol, the minor version: 1.N.
    pub(crate) protocol: u8,
    /// The most bytes of a packet.
    pub(crate) limit: usize,
    /// Whether the last line of a packet ends, too: on streams, where the next packet's first would continue it.
    pub(crate) ends_lines: bool,
    /// In front of every name, as it is.
    pub(crate) prefix: String,
    /// Tags of everything.
    pub(crate) tags: Vec<(String, String)>,
    pub(crate) origin: Origin,
    /// Whether gauges and counters say of what time they are, where the dialect can.
    pub(crate) timestamps: bool,
    pub(crate) histograms: HistogramLines,
}

/// Where lines come from, for the Datadog Agent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    /// The container's id, with its own prefix if it has one.
    pub(crate) container: Option<String>,
    pub(crate) external: Option<String>,
    pub(crate) cardinality: Option<Cardinality>,
}

/// Writes packets, one after the other.
pub(crate) struct Encoder {
    settings: Settings,
    series: Series,
    parts: Parts,
}

/// What becomes of a point.
enum Step {
    Take,
    TakeSum(f64),
    TakeSamples(usize),
    /// It is taken in parts.
    Divide,
    Leave,
    Refuse(&'static str),
    /// The packet has no room for it any more.
    Full,
}

impl Encoder {
    pub(crate) fn new(settings: Settings) -> Encoder {
        Encoder {
            series: Series::new(&settings),
            settings,
            parts: Parts::default(),
        }
    }

    /// Fills a packet, which may have messages already, with as many points as go into it. It may stay empty although points were
    /// taken: there was nothing to say of them.
    pub(crate) fn encode(&mut self, points: &mut Points<'_>, packet: &mut Vec<u8>) {
        let mut packet = Packet::new(packet, self.settings.limit, self.settings.ends_lines);
        while let Some(family) = points.next_family() {
            self.series.enter(family);
            while let Some(point) = points.peek() {
                self.series.show(&point);
                let step = match point.value() {
                    Value::Counter(count) => self.put_count(count, &mut packet),
                    Value::FloatCounter(sum) => self.put_sum(sum, &mut packet),
                    Value::Gauge(value) => self.put_gauge(value, &mut packet),
                    Value::IntGauge(value) => self.put_int_gauge(value, &mut packet),
                    Value::Histogram(histogram) => self.parts.begin(histogram, family, &self.settings),
                    Value::Samples(samples) => self.put_samples(samples, &mut packet),
                };
                match step {
                    Step::Take => points.take(),
                    Step::TakeSum(part) => points.take_sum(part),
                    Step::TakeSamples(count) => points.take_samples(count),
                    Step::Leave => points.leave(),
                    Step::Refuse(reason) => points.refuse(reason),
                    Step::Full => return,
                    Step::Divide => {
                        let was_empty = packet.is_empty();
                        let written = self.parts.put(family, &self.series, &self.settings, &mut packet);
                        let is_any = self.parts.take(points);
                        match written {
                            Written::All => {}
                            Written::Part if was_empty && !is_any => points.refuse(TOO_LARGE),
                            Written::Part => return,
                        }
                    }
                }
            }
        }
    }

    fn put_count(&self, count: u64, packet: &mut Packet<'_>) -> Step {
        match count {
            0 => Step::Take,
            count => self.put_line(packet, |out| push_unsigned(count, out), b"|c"),
        }
    }

    fn put_sum(&self, sum: f64, packet: &mut Packet<'_>) -> Step {
        if !sum.is_finite() || sum < 0.0 {
            return Step::Refuse(NOT_A_COUNT);
        }
        let part = match self.settings.dialect.counts_integers() {
            true => sum.trunc(),
            false => sum,
        };
        if part == 0.0 {
            return if sum == 0.0 { Step::Take } else { Step::Leave };
        }
        match self.put_line(packet, |out| push_float(part, out), b"|c") {
            Step::Take if part != sum => Step::TakeSum(part),
            step => step,
        }
    }

    fn put_gauge(&self, value: f64, packet: &mut Packet<'_>) -> Step {
        if !value.is_finite() {
            return Step::Refuse(NOT_FINITE);
        }
        self.put_gauge_text(value < 0.0, |out| push_float(value, out), packet)
    }

    fn put_int_gauge(&self, value: i64, packet: &mut Packet<'_>) -> Step {
        self.put_gauge_text(value < 0, |out| push_signed(value, out), packet)
    }

    fn put_gauge_text(&self, is_negative: bool, value: impl Fn(&mut Vec<u8>), packet: &mut Packet<'_>) -> Step {
        let mark = packet.mark();
        if is_negative && self.settings.has_relative_gauges() {
            // What has a sign is a change there, so it is one from zero. In a packet of its own, one of the two could be lost.
            self.append(packet, |out| out.push(b'0'), b"|g");
        }
        self.append(packet, value, b"|g");
        kept(packet, mark)
    }

    #[inline]
    fn put_line(&self, packet: &mut Packet<'_>, value: impl FnOnce(&mut Vec<u8>), kind: &[u8]) -> Step {
        let mark = packet.mark();
        self.append(packet, value, kind);
        kept(packet, mark)
    }

    #[inline]
    fn append(&self, packet: &mut Packet<'_>, value: impl FnOnce(&mut Vec<u8>), kind: &[u8]) {
        packet.line(|out| {
            out.extend_from_slice(self.series.head());
            value(out);
            out.extend_from_slice(kind);
            out.extend_from_slice(self.series.timed_tail());
        });
    }

    /// Writes samples as they were recorded: in one line as many as fit, or each in its own.
    fn put_samples(&self, samples: &[f64], packet: &mut Packet<'_>) -> Step {
        if samples.iter().any(|sample| !sample.is_finite()) {
            return Step::Refuse(NOT_FINITE);
        }
        let was_empty = packet.is_empty();
        let kind: &[u8] = match self.settings.dialect.has_only_timers() {
            true => b"|ms",
            false => b"|d",
        };
        let in_a_line = match self.settings.packs_values() {
            true => samples.len().max(1),
            false => 1,
        };
        let mut written = 0;
        for line in samples.chunks(in_a_line) {
            let fits = packet.values(self.series.head(), [kind, self.series.tail()], |values| {
                let fitting = line.iter().take_while(|sample| values.push(**sample, 1) != 0);
                written += fitting.count();
            });
            if !fits {
                break;
            }
        }
        match written {
            0 if samples.is_empty() => Step::Take,
            0 if was_empty => Step::Refuse(TOO_LARGE),
            0 => Step::Full,
            written => Step::TakeSamples(written),
        }
    }
}

impl Settings {
    /// Whether servers take a gauge with a sign for a change. The Agent does not; the others that read its lines, and no newer protocol
    /// than 1.0 of them, do.
    fn has_relative_gauges(&self) -> bool {
        self.dialect != Dialect::DogStatsD || self.protocol < FIRST_WITH_PACKING
    }

    /// Whether a line may have several values.
    fn packs_values(&self) -> bool {
        self.dialect == Dialect::DogStatsD && self.protocol >= FIRST_WITH_PACKING
    }
}

/// What becomes of the point whose lines were appended since the mark.
#[inline]
fn kept(packet: &mut Packet<'_>, mark: usize) -> Step {
    match packet.keep_if_it_fits(mark) {
        true => Step::Take,
        false if mark == 0 => Step::Refuse(TOO_LARGE),
        false => Step::Full,
    }
}

/// The minor version of DogStatsD's protocol, 1.N, from which on a line may have several values.
const FIRST_WITH_PACKING: u8 = 1;

/// Why a point is refused.
const TOO_LARGE: &str = "a line of it is larger than a packet";
const NOT_FINITE: &str = "StatsD has no number that is not finite";
const NOT_A_COUNT: &str = "a counter's increment is below zero or not finite";
const NEGATIVE_TIMER: &str = "the server takes no timer below zero; send histograms as counters";
