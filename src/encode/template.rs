//! The fast way to write series: what all lines of a family have in common is laid out once, for copying in wide moves,
//! and the label values, which a [`Row`] keeps padded, go in between.
//!
//! It is for families with labels, for label values that need no escaping, and for lines of no more than some kilobytes;
//! whatever else there is, it refuses, and `samples.rs` writes it the plain way.

use super::{
    buffer::{Buffer, Front, Line, Piece, Room, ShortPiece, Unwritten},
    number::{FloatText, Whole, put_unsigned},
    push_label,
    samples::{Dialect, put_created},
};
use crate::{
    descriptor::Kind,
    family::table::{Reading, Row},
    snapshot::{FamilySnapshot, HistogramValue, Start},
};
use std::ops::Range;

/// What the lines of a family have in common.
pub(super) struct Template {
    dialect: Dialect,
    start: Start,
    /// Up to the value of the first label.
    opening: Piece,
    /// What stands behind the value of each label.
    joins: Box<[Piece]>,
    /// The same again if all of it is short and there are few labels, as nearly always; else empty.
    short_joins: Box<[ShortPiece]>,
    /// Where the labels start in a line, and how much stands behind them before its value.
    labels_at: usize,
    behind_labels: usize,
    /// Behind `le="`, one for each bucket of a histogram.
    bounds: Box<[ShortPiece]>,
    /// What other lines begin with, up to the labels.
    sum: Piece,
    count: Piece,
    created: Piece,
}

impl Template {
    /// For a family that has labels.
    pub(super) fn new(family: &FamilySnapshot, dialect: Dialect, scratch: &mut Vec<u8>) -> Self {
        let descriptor = &family.descriptor;
        let histogram = descriptor.kind == Kind::Histogram;
        let mut piece = |parts: [&str; 3]| {
            scratch.clear();
            parts.iter().for_each(|part| scratch.extend(part.as_bytes()));
            Piece::new(scratch)
        };
        let sum = piece([family.name(), "_sum{", ""]);
        let count = piece([family.name(), "_count{", ""]);
        let created = piece([family.family_name(), "_created{", ""]);
        let end = if histogram { LE } else { END };
        let joins = (1..=descriptor.labels.len()).map(|label| match descriptor.labels.get(label) {
            Some(label) => piece(["\",", label.prometheus(), "=\""]),
            None => piece([end, "", ""]),
        });
        let joins: Box<[Piece]> = joins.collect();
        let bounds = descriptor.bounds.iter().copied().chain([f64::INFINITY]).map(|bound| {
            scratch.clear();
            scratch.extend(FloatText::new(bound, Whole::Pointed).as_bytes());
            scratch.extend(END.as_bytes());
            ShortPiece::new(scratch).expect("a float has 24 characters at most")
        });
        let bounds = if histogram { bounds.collect() } else { Box::default() };

        scratch.clear();
        scratch.extend(family.name().as_bytes());
        scratch.extend(if histogram { "_bucket{" } else { "{" }.as_bytes());
        let labels_at = scratch.len();
        for (label, value) in &*descriptor.constant {
            push_label(label.prometheus(), value, scratch);
        }
        if let Some(first) = descriptor.labels.first() {
            push_label(first.prometheus(), "", scratch);
            // The value comes between the quotes.
            scratch.pop();
        }
        let opening = Piece::new(scratch);
        let mut short_joins = Box::default();
        if opening.len() <= SHORT_OPENING && joins.len() <= FEW_LABELS {
            short_joins = joins
                .iter()
                .map(Piece::to_short)
                .collect::<Option<_>>()
                .unwrap_or_default();
        }
        Template {
            dialect,
            start: family.start(),
            opening,
            joins,
            short_joins,
            labels_at,
            behind_labels: end.len(),
            bounds,
            sum,
            count,
            created,
        }
    }

    /// Writes series of one line each, from the first of a range of places to one that it refuses, and tells which.
    pub(super) fn write_singles(
        &self,
        reading: &Reading,
        places: Range<usize>,
        out: &mut Buffer<'_>,
        put_value: impl Fn(&mut Line<'_>, usize),
    ) -> usize {
        // Loops that know the number of labels have none within.
        match self.short_joins.len() {
            1 => self.write_singles_of::<1>(reading, places, out, put_value),
            2 => self.write_singles_of::<2>(reading, places, out, put_value),
            3 => self.write_singles_of::<3>(reading, places, out, put_value),
            4 => self.write_singles_of::<4>(reading, places, out, put_value),
            _ => self.write_singles_of::<0>(reading, places, out, put_value),
        }
    }

    fn write_singles_of<const N: usize>(
        &self,
        reading: &Reading,
        places: Range<usize>,
        out: &mut Buffer<'_>,
        put_value: impl Fn(&mut Line<'_>, usize),
    ) -> usize {
        let end = places.end;
        let refused = fill(reading, places, out, |place, row, front| {
            front.line(|line| {
                let fine = if N > 0 {
                    self.put_few::<N>(row, line)
                } else {
                    self.put_many(row, line)
                };
                if fine {
                    put_value(line, place);
                    line.put(b"\n", 1);
                }
                fine
            })
        });
        if N == 0 || refused == end {
            return refused;
        }
        // It may have a long value.
        self.write_singles_of::<0>(reading, refused..refused + 1, out, put_value)
    }

    /// As [`write_singles`](Template::write_singles), with a `_created` line for each series.
    pub(super) fn write_singles_created(
        &self,
        reading: &Reading,
        places: Range<usize>,
        out: &mut Buffer<'_>,
        head: &mut Room,
        put_value: impl Fn(&mut Line<'_>, usize),
    ) -> usize {
        fill(reading, places, out, |place, row, front| {
            let head = self.head(row, head)?;
            front.require(2 * size_of::<Room>())?;
            front.line(|line| {
                line.put_from(head.room, 0..head.len);
                put_value(line, place);
                line.put(b"\n", 1);
                true
            })?;
            self.write_other(&self.created, &head, front, |line| put_created(line, self.start, row))
        })
    }

    /// Writes histograms, from the first of a range of places to one that it refuses, and tells which.
    pub(super) fn write_histograms<'v>(
        &self,
        reading: &Reading,
        places: Range<usize>,
        out: &mut Buffer<'_>,
        head: &mut Room,
        value: impl Fn(usize) -> HistogramValue<'v>,
    ) -> usize {
        fill(reading, places, out, |place, row, front| {
            let histogram = value(place);
            let head = self.head(row, head)?;
            // All or nothing, so that none has to be taken back in its middle.
            front.require(histogram.counts.len() * (head.len + BOUND_AND_COUNT) + 4 * size_of::<Room>())?;
            let mut total: u64 = 0;
            for (bound, count) in self.bounds.iter().zip(histogram.counts) {
                total = total.wrapping_add(*count);
                front.line(|line| {
                    line.put_from(head.room, 0..head.len);
                    bound.put(line);
                    put_unsigned(line, total);
                    line.put(b"\n", 1);
                    true
                })?;
            }
            if self.dialect.has_sum(histogram) {
                let sum = FloatText::new(histogram.sum, self.dialect.whole);
                self.write_other(&self.sum, &head, front, |line| sum.put(line))?;
                self.write_other(&self.count, &head, front, |line| put_unsigned(line, total))?;
            }
            if self.dialect.created {
                self.write_other(&self.created, &head, front, |line| put_created(line, self.start, row))?;
            }
            Ok(())
        })
    }

    /// What all but the value of a line is, to be copied for several lines.
    #[inline(always)]
    fn head<'h>(&self, row: Row<'_>, head: &'h mut Room) -> Result<Head<'h>, Unwritten> {
        let mut line = Line::new(head);
        let fine = match self.short_joins.len() {
            2 => self.put_few::<2>(row, &mut line),
            3 => self.put_few::<3>(row, &mut line),
            _ => false,
        };
        if !fine {
            line = Line::new(head);
            if !self.put_many(row, &mut line) {
                return Err(Unwritten::Line);
            }
        }
        let len = line.len();
        Ok(Head { room: head, len })
    }

    /// Writes a line with the labels of one that begins with `head`.
    #[inline(always)]
    fn write_other(
        &self,
        opening: &Piece,
        head: &Head<'_>,
        front: &mut Front<'_>,
        put_value: impl FnOnce(&mut Line<'_>),
    ) -> Result<(), Unwritten> {
        front.line(|line| {
            opening.put(line);
            line.put_from(head.room, self.labels_at..head.len - self.behind_labels);
            line.put(b"\"} ", 3);
            put_value(line);
            line.put(b"\n", 1);
            true
        })
    }

    /// Puts all of a line but its value. False if the line is good for nothing: it is too long, or has to be escaped.
    #[inline(always)]
    fn put_many(&self, row: Row<'_>, line: &mut Line<'_>) -> bool {
        if row.is_escaped() {
            return false;
        }
        self.opening.put(line);
        for ((words, len), join) in row.padded().zip(&self.joins) {
            line.put_words(words, len);
            join.put(line);
        }
        line.fits_with_value()
    }

    /// As [`put_many`](Template::put_many), of few labels and nothing long. The compiler sees that the line fits.
    #[inline(always)]
    fn put_few<const N: usize>(&self, row: Row<'_>, line: &mut Line<'_>) -> bool {
        const {
            assert!(
                SHORT_OPENING < 256 && N <= FEW_LABELS,
                "the compiler sees it by the types' sizes"
            )
        };
        if row.is_escaped() {
            return false;
        }
        let (Some(values), Some(joins)) = (row.padded_short::<N>(), self.short_joins.first_chunk::<N>()) else {
            return false;
        };
        self.opening.put(line);
        line.shorten(self.opening.len() as u8);
        for ((words, len), join) in values.zip(joins) {
            line.put_words(words, len);
            join.put(line);
        }
        line.fits_with_value()
    }
}

/// What several lines of a series begin with.
struct Head<'a> {
    room: &'a Room,
    len: usize,
}

/// Calls `write` with the series in a range of places until it refuses one, and tells which.
#[inline(always)]
fn fill<'r>(
    reading: &'r Reading,
    places: Range<usize>,
    out: &mut Buffer<'_>,
    mut write: impl FnMut(usize, Row<'r>, &mut Front<'_>) -> Result<(), Unwritten>,
) -> usize {
    let Range { mut start, end } = places;
    loop {
        let mut reason = Unwritten::Line;
        let mut front = out.front();
        let stopped = reading.walk(start..end, |place, row| match write(place, row, &mut front) {
            Ok(()) => true,
            Err(unwritten) => {
                reason = unwritten;
                false
            }
        });
        let rest = front.rest();
        out.leave(rest);
        match (stopped, reason) {
            (None, _) => return end,
            (Some(place), Unwritten::Line) => return place,
            (Some(place), Unwritten::Room(room)) => {
                out.reserve(room);
                start = place;
            }
        }
    }
}

/// What stands between the labels of a line and its value.
const END: &str = "\"} ";

/// What stands between the labels of a bucket's line and its bound.
const LE: &str = "\",le=\"";

/// More than a bucket's line has behind `le="`: bound, count, and a newline.
const BOUND_AND_COUNT: usize = 64;

/// Up to how many labels, and with which opening, lines are put together without loops.
const FEW_LABELS: usize = 4;
const SHORT_OPENING: usize = 255;
