//! Histograms in lines: as samples that weigh more than one observation, or as counters; and in parts, where they do not fit.

use super::{
    NEGATIVE_TIMER, NOT_FINITE, Settings, Step,
    number::{push_float, push_unsigned},
    packet::Packet,
    rates::{RATES, digits},
    series::Series,
};
use crate::{
    destination::statsd::{Dialect, HistogramLines},
    encode::placement::Values,
    exporter::points::Points,
    snapshot::{FamilySnapshot, HistogramValue},
};

/// A histogram's increment, of which a part is written.
#[derive(Default)]
pub(super) struct Parts {
    values: Values,
    /// What there is: the observations of each bucket, and their sum.
    counts: Vec<u64>,
    sum: f64,
    /// What of that is in the packet: of each bucket so many observations, which are said to come to so much.
    written: Vec<(u64, f64)>,
    /// What stands behind a value.
    behind: Vec<u8>,
}

/// How much of what there is was written.
pub(super) enum Written {
    All,
    Part,
}

impl Parts {
    /// Goes to a histogram, of which nothing is written yet.
    pub(super) fn begin(
        &mut self,
        histogram: HistogramValue<'_>,
        family: &FamilySnapshot,
        settings: &Settings,
    ) -> Step {
        let HistogramValue { counts, sum, .. } = histogram;
        if counts.iter().all(|count| *count == 0) {
            return Step::Take;
        }
        self.counts.clear();
        self.counts.extend_from_slice(counts);
        self.sum = sum;
        self.written.clear();
        self.written.resize(counts.len(), (0, 0.0));
        let as_samples = settings.histograms == HistogramLines::Samples;
        let scale = match as_samples {
            true => SampleKind::of(family, settings.dialect).scale,
            false => 1.0,
        };
        if self.values.find(histogram, scale).is_none() {
            return Step::Refuse(NOT_FINITE);
        }
        let mut observed = self.observed();
        if as_samples && settings.dialect.has_only_timers() && observed.any(|bucket| self.values.sent(bucket) < 0.0) {
            return Step::Refuse(NEGATIVE_TIMER);
        }
        Step::Divide
    }

    /// Writes as much as fits.
    pub(super) fn put(
        &mut self,
        family: &FamilySnapshot,
        series: &Series,
        settings: &Settings,
        packet: &mut Packet<'_>,
    ) -> Written {
        match settings.histograms {
            HistogramLines::Samples => self.put_samples(family, series, settings, packet),
            HistogramLines::Counters => self.put_counters(family, series, settings, packet),
        }
    }

    /// Takes what was written. Whether that was anything.
    pub(super) fn take(&mut self, points: &mut Points<'_>) -> bool {
        let mut is_any = false;
        for (bucket, (count, sum)) in self.written.iter().enumerate().filter(|(_, part)| part.0 != 0) {
            points.take_observations(bucket, *count, *sum);
            is_any = true;
        }
        is_any
    }

    /// The buckets that have observations.
    fn observed(&self) -> impl Iterator<Item = usize> {
        (0..self.counts.len()).filter(|bucket| self.counts[*bucket] != 0)
    }

    /// Writes samples, the weightiest first.
    fn put_samples(
        &mut self,
        family: &FamilySnapshot,
        series: &Series,
        settings: &Settings,
        packet: &mut Packet<'_>,
    ) -> Written {
        let kind = SampleKind::of(family, settings.dialect);
        for (at, (rate, weight)) in RATES.iter().enumerate().rev() {
            self.behind.clear();
            self.behind.extend_from_slice(kind.suffix);
            if *weight > 1 {
                self.behind.extend_from_slice(b"|@");
                self.behind.extend_from_slice(rate.as_bytes());
            }
            let all = match settings.packs_values() {
                true => self.put_packed(at, *weight, series, packet),
                false => self.put_lines(at, *weight, series, packet),
            };
            if !all {
                return Written::Part;
            }
        }
        Written::All
    }

    /// Writes the samples at one rate in one line. Whether all fit.
    fn put_packed(&mut self, at: usize, weight: u64, series: &Series, packet: &mut Packet<'_>) -> bool {
        let Parts {
            values,
            counts,
            written,
            behind,
            ..
        } = self;
        let wanted = || {
            counts
                .iter()
                .map(|count| digits(*count)[at])
                .enumerate()
                .filter(|each| each.1 != 0)
        };
        if wanted().next().is_none() {
            return true;
        }
        let mut all = true;
        packet.values(series.head(), [behind, series.tail()], |line| {
            for (bucket, samples) in wanted() {
                let fitting = line.push(values.sent(bucket), samples);
                add(&mut written[bucket], fitting * weight, values.own(bucket));
                all = fitting == samples;
                if !all {
                    break;
                }
            }
        });
        all
    }

    /// Writes the samples at one rate, each in a line. Whether all fit.
    fn put_lines(&mut self, at: usize, weight: u64, series: &Series, packet: &mut Packet<'_>) -> bool {
        for bucket in 0..self.counts.len() {
            let samples = digits(self.counts[bucket])[at];
            if samples == 0 {
                continue;
            }
            let mark = packet.mark();
            packet.line(|out| {
                out.extend_from_slice(series.head());
                push_float(self.values.sent(bucket), out);
                out.extend_from_slice(&self.behind);
                out.extend_from_slice(series.tail());
            });
            if !packet.keep_if_it_fits(mark) {
                return false;
            }
            let fitting = 1 + packet.repeat(mark, samples - 1);
            add(&mut self.written[bucket], fitting * weight, self.values.own(bucket));
            if fitting < samples {
                return false;
            }
        }
        true
    }

    /// Writes counters of as many buckets as fit, with their count and their sum.
    fn put_counters(
        &mut self,
        family: &FamilySnapshot,
        series: &Series,
        settings: &Settings,
        packet: &mut Packet<'_>,
    ) -> Written {
        let all = self.observed().count();
        let mark = packet.mark();
        // Nearly always all fit. Where they do not, the most that do are searched for.
        let (mut fitting, mut over, mut tried) = (0, all + 1, all);
        while over > 1 {
            self.append_counters(tried, tried == all, family, series, settings.dialect, packet);
            if !packet.keep_if_it_fits(mark) {
                over = tried;
            } else if tried + 1 == over {
                break;
            } else {
                packet.rewind(mark);
                fitting = tried;
            }
            tried = fitting + (over - fitting) / 2;
        }
        if over == 1 {
            self.written.fill((0, 0.0));
        }
        match over > all {
            true => Written::All,
            false => Written::Part,
        }
    }

    /// Appends the counters of the first `buckets` buckets that have observations, however long the packet becomes.
    fn append_counters(
        &mut self,
        buckets: usize,
        is_rest: bool,
        family: &FamilySnapshot,
        series: &Series,
        dialect: Dialect,
        packet: &mut Packet<'_>,
    ) {
        self.written.fill((0, 0.0));
        let bounds = &family.descriptor.bounds;
        let (mut count, mut sum) = (0_u64, 0.0);
        let (mut first, mut taken) = (None, 0);
        for bucket in 0..self.counts.len() {
            let observations = self.counts[bucket];
            if observations == 0 || taken == buckets {
                continue;
            }
            taken += 1;
            first = first.or(Some(bucket));
            self.written[bucket].0 = observations;
            count = count.wrapping_add(observations);
            sum += observations as f64 * self.values.own(bucket);
            self.behind.clear();
            match bounds.get(bucket) {
                Some(bound) => push_float(*bound, &mut self.behind),
                None => self.behind.extend_from_slice(b"inf"),
            }
            append_counter(b".bucket", Some(&self.behind), series, packet, |out| {
                push_unsigned(observations, out)
            });
        }
        append_counter(b".count", None, series, packet, |out| push_unsigned(count, out));
        // The last part brings the sum of all parts to what it is.
        let sum = countable(if is_rest { self.sum } else { sum }, dialect);
        if sum != 0.0 {
            append_counter(b".sum", None, series, packet, |out| push_float(sum, out));
        }
        if let Some(first) = first {
            self.written[first].1 = sum;
        }
    }
}

/// Notes that more of a bucket is in the packet.
fn add((count, sum): &mut (u64, f64), observations: u64, each: f64) {
    *count += observations;
    *sum += observations as f64 * each;
}

/// Appends a counter of a part. It has no time: two parts at the same time would be one to the Agent, which then adds nothing up.
fn append_counter(
    suffix: &[u8],
    bound: Option<&[u8]>,
    series: &Series,
    packet: &mut Packet<'_>,
    value: impl FnOnce(&mut Vec<u8>),
) {
    packet.line(|out| {
        series.names().push_head(suffix, bound, out);
        value(out);
        out.extend_from_slice(b"|c");
        series.names().push_tail(bound, out);
    });
}

/// What of a sum a server's counter takes. The rest waits until it makes a whole with what comes later.
fn countable(sum: f64, dialect: Dialect) -> f64 {
    if !sum.is_finite() || sum < 0.0 && !dialect.counts_down() {
        return 0.0;
    }
    match dialect.counts_integers() {
        true => sum.trunc(),
        false => sum,
    }
}

/// Of which type a histogram's samples are, and by what its values are multiplied.
#[derive(Clone, Copy)]
struct SampleKind {
    suffix: &'static [u8],
    scale: f64,
}

impl SampleKind {
    fn of(family: &FamilySnapshot, dialect: Dialect) -> SampleKind {
        let per_second = family.descriptor.name.unit().and_then(|unit| unit.per_second());
        let (suffix, scale): (&[u8], _) = match per_second {
            Some(per_second) => (b"|ms", MILLISECONDS / per_second),
            None if dialect.has_only_timers() => (b"|ms", 1.0),
            None => (b"|h", 1.0),
        };
        SampleKind { suffix, scale }
    }
}

/// What timers are in: so many make a second.
const MILLISECONDS: f64 = 1_000.0;
