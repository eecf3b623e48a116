//! The lines of samples, which are nearly the same in both formats.
//!
//! There are two ways to write a series: by a [`Template`], for all series that it takes, and the plain way, piece by piece,
//! for the others, which are rare or have no family worth a template.

use super::{
    buffer::{Buffer, Line, Room},
    number::{FloatText, Whole, put_signed, put_unsigned},
    push_label,
    template::Template,
};
use crate::{
    descriptor::{Kind, OVERFLOW_LABEL, OVERFLOW_VALUE},
    family::table::{Reading, Row},
    snapshot::{FamilySnapshot, HistogramValue, Rows, SeriesSnapshot, Start, Value, Values},
};
use std::ops::Range;

/// Writes families, one behind the other.
pub(super) struct Samples<'a> {
    dialect: Dialect,
    out: Buffer<'a>,
    /// Reused for pieces that are put together: metadata, labels.
    scratch: Vec<u8>,
    /// What the bucket lines of a histogram begin with.
    head: Box<Room>,
}

/// What the formats do differently.
#[derive(Clone, Copy)]
pub(super) struct Dialect {
    pub(super) whole: Whole,
    /// Whether counters and histograms have a `_created` line.
    pub(super) created: bool,
    /// Whether a histogram has its sum and count even if some observations are negative. OpenMetrics forbids it, because
    /// its sums are counters.
    pub(super) any_sum: bool,
}

/// Whether a series is to be shown.
pub(crate) type Shows<'a> = &'a dyn Fn(SeriesSnapshot<'_>) -> bool;

impl<'a> Samples<'a> {
    pub(super) fn new(dialect: Dialect, bytes: &'a mut Vec<u8>) -> Self {
        let room = vec![0; size_of::<Room>()].into_boxed_slice();
        let head = room.try_into().expect("it has the size of a room");
        Samples {
            dialect,
            out: Buffer::new(bytes),
            scratch: Vec::new(),
            head,
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.out.push(bytes);
    }

    pub(super) fn finish(self) {
        self.out.finish();
    }

    /// Writes a family: its description, then those of its series that are to be shown. Nothing if there are none.
    pub(super) fn write(
        &mut self,
        family: &FamilySnapshot,
        describe: fn(&FamilySnapshot, &mut Vec<u8>),
        shows: Option<Shows<'_>>,
    ) {
        let start = self.out.len();
        self.scratch.clear();
        describe(family, &mut self.scratch);
        self.out.push(&self.scratch);
        let described = self.out.len();
        self.write_series(family, shows);
        if self.out.len() == described {
            self.out.rewind(start);
        }
    }

    fn write_series(&mut self, family: &FamilySnapshot, shows: Option<Shows<'_>>) {
        let places = family.rows.places();
        let template = match &family.rows {
            Rows::Live(reading) if !family.descriptor.labels.is_empty() => {
                Some((Template::new(family, self.dialect, &mut self.scratch), reading))
            }
            _ => None,
        };
        let mut place = 0;
        while place < places {
            let mut end = places;
            if let Some(shows) = shows {
                let row = family.rows.row(place, family);
                if row.is_none_or(|row| !shows(SeriesSnapshot::new(family, row, place))) {
                    place += 1;
                    continue;
                }
                end = place + 1;
            }
            if let Some((template, reading)) = &template {
                // The overflow series, in the last place of all, is not seen there and has labels of its own.
                let end = end.min(reading.listed_places());
                if place < end {
                    place = self.write_with(template, reading, family, place..end);
                }
            }
            if place < end {
                if let Some(row) = family.rows.row(place, family) {
                    self.write_plainly(family, place, row);
                }
                place += 1;
            }
        }
    }

    /// Writes series with the template as long as it takes them. Up to which place that was.
    fn write_with(
        &mut self,
        template: &Template,
        reading: &Reading,
        family: &FamilySnapshot,
        places: Range<usize>,
    ) -> usize {
        let whole = self.dialect.whole;
        match &family.values {
            Values::Counts(counts) => self.write_singles(template, reading, family, places, |line, place| {
                put_unsigned(line, counts[place]);
            }),
            Values::Integers(integers) => self.write_singles(template, reading, family, places, |line, place| {
                put_signed(line, integers[place]);
            }),
            Values::Floats(floats) => self.write_singles(template, reading, family, places, |line, place| {
                FloatText::new(floats[place], whole).put(line);
            }),
            Values::Histograms { counts, sums } => {
                let descriptor = &family.descriptor;
                let (bounds, width) = (&*descriptor.bounds, descriptor.bounds.len() + 1);
                let value = |place: usize| HistogramValue {
                    bounds,
                    counts: &counts[place * width..][..width],
                    sum: sums[place],
                };
                template.write_histograms(reading, places, &mut self.out, &mut self.head, value)
            }
            // Samples are given to destinations, in no snapshot.
            Values::Samples { .. } => 0,
        }
    }

    fn write_singles(
        &mut self,
        template: &Template,
        reading: &Reading,
        family: &FamilySnapshot,
        places: Range<usize>,
        put_value: impl Fn(&mut Line<'_>, usize),
    ) -> usize {
        let Samples { out, head, .. } = self;
        if self.dialect.created && family.kind().is_counted() {
            template.write_singles_created(reading, places, out, head, put_value)
        } else {
            template.write_singles(reading, places, out, put_value)
        }
    }

    /// Writes a series without a template.
    #[cold]
    #[inline(never)]
    fn write_plainly(&mut self, family: &FamilySnapshot, place: usize, row: Row<'_>) {
        let whole = self.dialect.whole;
        self.gather_labels(family, row);
        match family.value(place) {
            Value::Counter(count) => self.write_line(family.name(), "", None, |line| put_unsigned(line, count)),
            Value::IntGauge(integer) => self.write_line(family.name(), "", None, |line| put_signed(line, integer)),
            Value::FloatCounter(float) | Value::Gauge(float) => {
                self.write_line(family.name(), "", None, |line| FloatText::new(float, whole).put(line));
            }
            Value::Samples(_) => {}
            Value::Histogram(histogram) => {
                let name = family.name();
                for (bound, count) in histogram.cumulative() {
                    self.write_line(name, "_bucket", Some(bound), |line| put_unsigned(line, count));
                }
                if self.dialect.has_sum(histogram) {
                    let sum = FloatText::new(histogram.sum, whole);
                    self.write_line(name, "_sum", None, |line| sum.put(line));
                    self.write_line(name, "_count", None, |line| put_unsigned(line, histogram.count()));
                }
            }
        }
        if self.dialect.created && family.kind().is_counted() {
            let start = family.start();
            self.write_line(family.family_name(), "_created", None, |line| {
                put_created(line, start, row)
            });
        }
    }

    /// Writes one line with the labels that are gathered.
    fn write_line(&mut self, name: &str, suffix: &str, le: Option<f64>, put_value: impl FnOnce(&mut Line<'_>)) {
        let out = &mut self.out;
        out.push(name.as_bytes());
        out.push(suffix.as_bytes());
        let labelled = !self.scratch.is_empty();
        if labelled || le.is_some() {
            out.push(b"{");
            out.push(&self.scratch);
            if let Some(bound) = le {
                out.push(if labelled { b",le=\"" } else { b"le=\"" });
                out.push(FloatText::new(bound, Whole::Pointed).as_bytes());
                out.push(b"\"");
            }
            out.push(b"}");
        }
        out.line(|line| {
            line.put(b" ", 1);
            put_value(line);
            line.put(b"\n", 1);
        });
    }

    /// Puts a series' labels together in the scratch, without `le`.
    fn gather_labels(&mut self, family: &FamilySnapshot, row: Row<'_>) {
        self.scratch.clear();
        if row.overflow {
            return push_label(OVERFLOW_LABEL, OVERFLOW_VALUE, &mut self.scratch);
        }
        let descriptor = &family.descriptor;
        for (label, value) in &*descriptor.constant {
            push_label(label.prometheus(), value, &mut self.scratch);
        }
        for (label, value) in descriptor.labels.iter().zip(row.values()) {
            push_label(label.prometheus(), value, &mut self.scratch);
        }
    }
}

/// Puts since when a series counts, in seconds of the Unix epoch.
pub(super) fn put_created(line: &mut Line<'_>, start: Start, row: Row<'_>) {
    let created = start.of(row);
    put_unsigned(line, created.as_secs());
    let thousandths = created.subsec_millis();
    let digit = |unit: u32| b'0' + (thousandths / unit % 10) as u8;
    line.put(&[b'.', digit(100), digit(10), digit(1)], 4);
}

impl Dialect {
    /// Whether a histogram has its sum, and therefore its count.
    pub(super) fn has_sum(self, histogram: HistogramValue<'_>) -> bool {
        self.any_sum || (histogram.sum >= 0.0 && histogram.bounds.first().is_none_or(|bound| *bound >= 0.0))
    }
}

impl Kind {
    /// Whether it only grows, so that the moment at which it was zero matters.
    fn is_counted(self) -> bool {
        matches!(self, Kind::Counter | Kind::FloatCounter | Kind::Histogram)
    }
}
