//! What is new, point by point, as a destination sees it.

use super::{
    marks::{FamilyMarks, Increment, Marks, increment},
    work::{Claim, Item, Part, Work},
};
use crate::{
    destination::Temporality,
    scrape::Filter,
    snapshot::{FamilySnapshot, HistogramValue, SeriesSnapshot, Value},
};
use std::{fmt, sync::Arc, time::Duration};

/// What is new since it was last delivered: families, and in each the points of its series.
///
/// A destination looks at the next point, puts it into its payload and takes it; see
/// [`Destination::encode`](crate::Destination::encode). A series that is sent as increments has no point if it has not moved.
/// The points of a series that was removed come before those of one that has its labels now.
pub struct Points<'a> {
    work: &'a Work,
    marks: &'a Marks,
    filter: Option<&'a Filter>,
    at: Position,
    /// Of the current item.
    family_marks: Option<&'a FamilyMarks>,
    /// The item that `family_marks` belongs to.
    marked: Option<usize>,
    peeked: Option<Peeked>,
    /// The item that `next_family` gave last.
    shown: Option<usize>,
    /// Increments of a histogram's buckets.
    scratch: Vec<u64>,
    limit: usize,
    /// So many items are shown.
    items: usize,
    /// Nothing else is shown.
    only_increments: bool,
    /// For the points of one claim alone: where it ends. They are shown whether held or not.
    until: Option<usize>,
    taken: usize,
    increments: usize,
    /// Samples and messages, which are here and nowhere else.
    passing: usize,
    /// How many of these are messages.
    messages: usize,
    /// Points that were left for another collection.
    left: usize,
    claims: Vec<Claim>,
    parts: Vec<Part>,
    /// The point that was peeked is in this payload already, in part.
    is_begun: bool,
    refused: Vec<Refused>,
}

/// What cannot be expressed.
pub(crate) struct Refused {
    pub(crate) claim: Claim,
    pub(crate) points: u64,
    pub(crate) reason: &'static str,
}

/// Which time a work is gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    First,
    /// For what the first one had to leave behind payloads whose answer was not there yet: increments, as the marks have them by then.
    Rest,
    /// For what was given up, where there will be no later work: everything that the marks do not know to be delivered, but for samples,
    /// which are never sent again.
    Again,
}

/// A place in a work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) item: usize,
    pub(crate) place: usize,
    /// So many of the samples in that place are behind it.
    pub(crate) samples: usize,
}

#[derive(Clone, Copy)]
struct Peeked {
    place: usize,
    /// None for a value as it stands.
    increment: Option<Increment>,
    start: Duration,
}

/// What a payload, or the lack of one, was made of.
pub(crate) struct Taken {
    pub(crate) claims: Vec<Claim>,
    pub(crate) parts: Vec<Part>,
    pub(crate) points: usize,
    /// How many of the points are increments.
    pub(crate) increments: usize,
    /// How many are samples and messages: what is in no later payload.
    pub(crate) passing: usize,
    /// How many of these are messages.
    pub(crate) messages: usize,
    /// How many were left for another collection.
    pub(crate) left: usize,
    pub(crate) refused: Vec<Refused>,
    pub(crate) end: Position,
    /// The point at the end is in this payload in part.
    pub(crate) is_cut: bool,
}

/// One point.
#[derive(Clone, Copy)]
pub struct Point<'a> {
    series: SeriesSnapshot<'a>,
    value: Value<'a>,
    start: Duration,
    time: Duration,
    key: Option<SeriesKey>,
}

/// Tells the series of one family apart, for what is remembered about them from one payload to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct SeriesKey {
    /// A small number that no other series has at the same time.
    pub slot: usize,
    /// A number that no other series with the same slot has ever.
    pub life: u64,
}

impl<'a> Points<'a> {
    pub(crate) fn new(
        work: &'a Work,
        marks: &'a Marks,
        filter: Option<&'a Filter>,
        from: Position,
        limit: usize,
    ) -> Self {
        Points {
            work,
            marks,
            filter,
            at: from,
            family_marks: None,
            marked: None,
            peeked: None,
            shown: None,
            scratch: Vec::new(),
            limit,
            items: work.items(),
            only_increments: false,
            until: None,
            taken: 0,
            increments: 0,
            passing: 0,
            messages: 0,
            left: 0,
            claims: Vec::new(),
            parts: Vec::new(),
            is_begun: false,
            refused: Vec::new(),
        }
    }

    /// The points that were claimed, as they were before the claim is acknowledged.
    pub(crate) fn of_claim(work: &'a Work, marks: &'a Marks, claim: Claim) -> Self {
        let from = Position {
            item: claim.item,
            place: claim.first,
            samples: 0,
        };
        Points {
            until: Some(claim.end),
            ..Points::new(work, marks, None, from, usize::MAX)
        }
    }

    /// For another pass over the work.
    pub(crate) fn of_pass(self, pass: Pass) -> Self {
        let items = match pass {
            Pass::First => self.work.items(),
            Pass::Rest | Pass::Again => self.work.items_without_samples(),
        };
        Points {
            items,
            only_increments: pass == Pass::Rest,
            ..self
        }
    }

    /// Goes to the next family that has a new point. None where there is none, or no room for one in this payload.
    ///
    /// A point that was shown but neither taken nor refused, and what is left of its family, is passed over: it comes with the next
    /// collection.
    pub fn next_family(&mut self) -> Option<&'a FamilySnapshot> {
        if self.peeked.is_some() && self.shown == Some(self.at.item) && !self.is_full() {
            self.pass_family();
        }
        let family = self.seek_family();
        self.shown = family.map(|_| self.at.item);
        family
    }

    fn pass_family(&mut self) {
        self.peeked = None;
        self.is_begun = false;
        while self.at.item + 1 < self.items && self.is_same_family(self.at.item + 1) {
            self.at.item += 1;
        }
        self.at.place = self.work.item(self.at.item).family().rows.places();
    }

    fn seek_family(&mut self) -> Option<&'a FamilySnapshot> {
        while self.at.item < self.items {
            if self.seek().is_some() {
                return Some(self.work.item(self.at.item).family());
            }
            if self.is_full() || self.until.is_some() {
                return None;
            }
            self.at = Position {
                item: self.at.item + 1,
                place: 0,
                samples: 0,
            };
        }
        None
    }

    /// Counts the collection that these points are of, from 1: a destination that has something to say of its own once a
    /// collection knows by it when one begins.
    pub fn collection(&self) -> u64 {
        self.work.sequence()
    }

    /// What the exporter was told to show, for a destination that writes a family at once.
    #[cfg(feature = "pushgateway")]
    pub(crate) fn filter(&self) -> Option<&'a Filter> {
        self.filter
    }

    /// Whether the values of the current family's points are increments.
    pub fn temporality(&self) -> Temporality {
        match self.at.item < self.items {
            true => self.work.temporality(self.at.item),
            false => Temporality::Cumulative,
        }
    }

    /// The next point of the current family. None at the family's end, or when the exporter wants no more in this payload.
    // Inlined into its few callers: a point that goes through memory costs more than writing it does.
    #[inline(always)]
    pub fn peek(&mut self) -> Option<Point<'_>> {
        let Peeked {
            place,
            increment,
            start,
        } = self.seek()?;
        let item = self.work.item(self.at.item);
        let family = item.family();
        let row = family.rows.row(place, family)?;
        let value = match increment {
            None => match family.value(place) {
                Value::Samples(_) => Value::Samples(self.samples_of(place)),
                value => value,
            },
            Some(Increment::Count(count)) => Value::Counter(count),
            Some(Increment::Sum(sum)) => Value::FloatCounter(sum),
            Some(Increment::Histogram { sum }) => Value::Histogram(HistogramValue {
                bounds: &family.descriptor.bounds,
                counts: &self.scratch,
                sum,
            }),
        };
        let key = match item {
            Item::Family(_) if !row.overflow => {
                let life = family.lives.get(place).copied().filter(|life| *life != 0);
                life.map(|life| SeriesKey { slot: place, life })
            }
            _ => None,
        };
        Some(Point {
            series: SeriesSnapshot::new(family, row, place),
            value,
            start,
            time: self.work.time(self.at.item),
            key,
        })
    }

    /// Takes the point that [`peek`](Points::peek) showed last: it is in the payload, or what was left of it is.
    #[inline]
    pub fn take(&mut self) {
        if let Some(Peeked { place, increment, .. }) = self.peeked.take() {
            let samples = self.samples_of(place).len();
            match samples {
                0 => {
                    self.begin_point(increment.is_some());
                    self.claim(place);
                }
                samples => self.pass_samples(samples),
            }
            self.pass_point();
        }
    }

    /// Takes a part of the histogram that [`peek`](Points::peek) showed last, and that is sent as increments: `count` observations of
    /// the bucket `bucket`, which are said to come to `sum`. The next `peek` shows the rest, in this payload or the next; when no
    /// observation is left the point is done, and what of its sum has not been said yet is in that of a later one.
    ///
    /// A payload that has a part of a point counts as having the point. Without effect on other points.
    ///
    /// # Panics
    ///
    /// If the histogram has no such bucket.
    pub fn take_observations(&mut self, bucket: usize, count: u64, sum: f64) {
        let Some(mut peeked) = self.peeked else { return };
        let Some(Increment::Histogram { sum: rest }) = &mut peeked.increment else {
            return;
        };
        let count = count.min(self.scratch[bucket]);
        self.scratch[bucket] -= count;
        *rest -= sum;
        self.parts.push(Part {
            item: self.at.item,
            place: peeked.place,
            bucket,
            count,
            sum,
        });
        self.begin_point(true);
        self.peeked = Some(peeked);
        if self.scratch.iter().all(|count| *count == 0) {
            self.peeked = None;
            self.claim(peeked.place);
            self.pass_point();
        }
    }

    /// Takes a part of the float counter that [`peek`](Points::peek) showed last, and that is sent as an increment: `sum` of it is in the
    /// payload, and the rest is in the next collection's. Without effect on other points.
    pub fn take_sum(&mut self, sum: f64) {
        if let Some(Peeked {
            place,
            increment: Some(Increment::Sum(_)),
            ..
        }) = self.peeked
        {
            self.parts.push(Part {
                item: self.at.item,
                place,
                bucket: 0,
                count: 0,
                sum,
            });
            self.begin_point(true);
            self.peeked = None;
            if self.work.item(self.at.item).departed().is_some() {
                // There is no later collection of it.
                self.claim(place);
            }
            self.pass_point();
        }
    }

    /// Takes the first `count` of the samples that [`peek`](Points::peek) showed last. The next `peek` shows the rest, in this
    /// payload or the next. Without effect on other points.
    pub fn take_samples(&mut self, count: usize) {
        let Some(Peeked { place, .. }) = self.peeked else {
            return;
        };
        let there = self.samples_of(place).len();
        if there == 0 {
            return;
        }
        self.pass_samples(count.min(there));
        if count >= there {
            self.peeked = None;
            self.pass_point();
        }
    }

    /// Leaves the point that [`peek`](Points::peek) showed last, or what is left of it, to the next collection. Increments are not
    /// lost by it, and a value as it stands is superseded; samples cannot be left, and are [refused](Points::refuse).
    pub fn leave(&mut self) {
        let Some(Peeked { place, .. }) = self.peeked else {
            return;
        };
        if !self.samples_of(place).is_empty() {
            return self.refuse("samples cannot be left to another collection");
        }
        if self.work.item(self.at.item).departed().is_some() {
            return self.refuse("the series is gone, and has no other collection");
        }
        self.peeked = None;
        self.left += 1;
        self.pass_point();
    }

    /// Counts messages of the destination's own that are in the payload besides points. They count as points; should the
    /// payload be given up, they are counted as dropped.
    pub fn add_messages(&mut self, count: usize) {
        self.taken += count;
        self.passing += count;
        self.messages += count;
    }

    /// The samples in a place that are not behind the position; empty for everything that has none.
    fn samples_of(&self, place: usize) -> &'a [f64] {
        match self.work.item(self.at.item).family().value(place) {
            Value::Samples(samples) => &samples[self.at.samples.min(samples.len())..],
            _ => &[],
        }
    }

    fn pass_samples(&mut self, count: usize) {
        self.at.samples += count;
        self.taken += count;
        self.passing += count;
    }

    /// Counts the point that was peeked as one of this payload, once.
    fn begin_point(&mut self, is_increment: bool) {
        if !self.is_begun {
            self.is_begun = true;
            self.taken += 1;
            self.increments += is_increment as usize;
        }
    }

    /// Goes on behind the point that was peeked.
    #[inline]
    fn pass_point(&mut self) {
        self.is_begun = false;
        self.at.place += 1;
        self.at.samples = 0;
    }

    /// Leaves out the point that [`peek`](Points::peek) showed last, for good, because it cannot be expressed. It is counted as
    /// rejected, for this reason.
    pub fn refuse(&mut self, reason: &'static str) {
        if let Some(Peeked { place, .. }) = self.peeked.take() {
            let claim = Claim {
                item: self.at.item,
                first: place,
                end: place + 1,
            };
            let points = self.samples_of(place).len().max(1) as u64;
            self.refused.push(Refused { claim, points, reason });
            self.pass_point();
        }
    }

    /// Whether another point would be one too many.
    fn is_full(&self) -> bool {
        self.taken >= self.limit
    }

    /// Goes on to the next point of the current family, which may be one of several items. None at its end.
    #[inline(always)]
    fn seek(&mut self) -> Option<Peeked> {
        if self.peeked.is_some() {
            return self.peeked;
        }
        loop {
            if self.is_full() || self.at.item >= self.items {
                return None;
            }
            if self.marked != Some(self.at.item) {
                self.family_marks = match self.work.is_delta(self.at.item) {
                    true => self.marks.of(self.work.item(self.at.item).family()),
                    false => None,
                };
                self.marked = Some(self.at.item);
            }
            let found = self.find();
            if found.is_some() {
                return found;
            }
            let next = self.at.item + 1;
            if self.until.is_some() || next >= self.items || !self.is_same_family(next) {
                return None;
            }
            self.at = Position {
                item: next,
                place: 0,
                samples: 0,
            };
        }
    }

    fn is_same_family(&self, next: usize) -> bool {
        let descriptor = |index: usize| &self.work.item(index).family().descriptor;
        Arc::ptr_eq(descriptor(self.at.item), descriptor(next))
    }

    /// Finds the next point of the current item.
    #[inline(always)]
    fn find(&mut self) -> Option<Peeked> {
        let item = self.work.item(self.at.item);
        let family = item.family();
        let is_delta = self.work.is_delta(self.at.item);
        if self.only_increments && !is_delta {
            self.at.place = family.rows.places();
            return None;
        }
        let time = self.work.time(self.at.item);
        let end = self.until.unwrap_or_else(|| family.rows.places());
        for place in self.at.place..end {
            let Some(row) = family.rows.row(place, family) else {
                continue;
            };
            // Removed series that are not wanted are not in the work.
            if let Some(filter) = self.filter.filter(|_| item.departed().is_none())
                && !filter.shows(SeriesSnapshot::new(family, row, place))
            {
                continue;
            }
            let created = || family.created(row).min(time);
            let (increment, start) = if is_delta {
                let mark = self
                    .family_marks
                    .and_then(|marks| marks.mark(family, place, item.departed()));
                if self.until.is_none() && mark.is_some_and(|mark| mark.is_held()) {
                    continue;
                }
                // One that was made to be held, and let go of, says nothing.
                let mark = mark.filter(|mark| !mark.end().is_zero());
                let value = family.value(place);
                let Some(increment) = increment(value, mark, family.is_observed(), &mut self.scratch) else {
                    self.claim(place);
                    continue;
                };
                let start = mark.map_or_else(created, |mark| mark.end().min(time));
                (Some(increment), start)
            } else {
                (None, created())
            };
            let found = Peeked {
                place,
                increment,
                start,
            };
            self.peeked = Some(found);
            self.at.place = place;
            return Some(found);
        }
        self.at.place = end;
        None
    }

    #[inline]
    fn claim(&mut self, place: usize) {
        match self.claims.last_mut() {
            Some(claim) if claim.item == self.at.item && claim.end == place => claim.end += 1,
            _ => self.claims.push(Claim {
                item: self.at.item,
                first: place,
                end: place + 1,
            }),
        }
    }

    /// Refuses the next point, of whichever family: a destination that neither takes nor refuses would never end.
    pub(crate) fn refuse_next(&mut self, reason: &'static str) {
        if self.next_family().is_some() {
            self.refuse(reason);
        }
    }

    /// Whether nothing has been done with any point.
    pub(crate) fn is_untouched(&self) -> bool {
        self.taken == 0 && self.left == 0 && self.refused.is_empty()
    }

    pub(crate) fn finish(self) -> Taken {
        Taken {
            claims: self.claims,
            parts: self.parts,
            points: self.taken,
            increments: self.increments,
            passing: self.passing,
            messages: self.messages,
            left: self.left,
            refused: self.refused,
            end: self.at,
            is_cut: self.is_begun,
        }
    }
}

impl<'a> Point<'a> {
    /// Its labels, the registry's own among them, as Prometheus spells their names.
    pub fn labels(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.series.labels()
    }

    /// Its labels, the registry's own among them, with their names as they were registered. The series for all that was past the
    /// family's limit has none: see [`is_overflow`](Point::is_overflow).
    pub fn attributes(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.series.attributes()
    }

    /// Whether this is the series for all that was past the family's limit.
    pub fn is_overflow(&self) -> bool {
        self.series.is_overflow()
    }

    /// The value; where the temporality is [`Delta`](Temporality::Delta), what the series has counted since it was last
    /// delivered.
    pub fn value(&self) -> Value<'a> {
        self.value
    }

    /// Since when the value counts, since the Unix epoch; not later than [`time`](Point::time).
    pub fn start(&self) -> Duration {
        self.start
    }

    /// When the value was read, since the Unix epoch.
    pub fn time(&self) -> Duration {
        self.time
    }

    /// Names the series within its family; none for series that will not come again, and those that closures give.
    pub fn key(&self) -> Option<SeriesKey> {
        self.key
    }
}

impl fmt::Debug for Point<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Point")
            .field("labels", &self.labels().collect::<Vec<_>>())
            .field("value", &self.value)
            .field("start", &self.start)
            .field("time", &self.time)
            .finish()
    }
}

impl fmt::Debug for Points<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Points")
            .field("taken", &self.taken)
            .field("refused", &self.refused.len())
            .finish_non_exhaustive()
    }
}
