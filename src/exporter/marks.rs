//! Up to where each series has been delivered, for one exporter.
//!
//! Increments are computed against these marks when they are sent, not when they are collected. So nothing is lost with a
//! collection that is dropped, or a payload that failed: the mark has not moved, and the next payload starts there.
//!
//! Marks are kept for families that are sent as increments, and only for those. A registered series is known by its life, which no
//! other ever has; what closures give is known by its labels.

use super::work::{Claim, Item, Part, Work};
use crate::{
    departure::Departure,
    descriptor::{Descriptor, Kind},
    snapshot::{FamilySnapshot, HistogramValue, Rows, Value},
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

/// The marks of all families.
#[derive(Default)]
pub(crate) struct Marks {
    families: HashMap<FamilyKey, FamilyMarks>,
}

/// What tells families apart, also one from another that was registered under its name later.
#[derive(Clone, PartialEq, Eq, Hash)]
enum FamilyKey {
    /// A registered one: the address of its description, which its marks keep alive.
    Live(usize),
    /// One that closures give: its name.
    Observed(Box<str>),
}

impl FamilyKey {
    fn of(family: &FamilySnapshot) -> Self {
        match family.rows {
            Rows::Given { .. } => FamilyKey::Observed(family.name().into()),
            _ => FamilyKey::Live(Arc::as_ptr(&family.descriptor) as usize),
        }
    }
}

/// The marks of one family.
pub(crate) enum FamilyMarks {
    Live(LiveMarks),
    Observed(HashMap<Box<[u64]>, OwnMark>),
}

/// Marks in columns, in the places that the series have in snapshots.
pub(crate) struct LiveMarks {
    descriptor: Arc<Descriptor>,
    /// Counts of each series.
    width: usize,
    /// Whose mark it is; 0 for nobody's.
    lives: Vec<u64>,
    /// Up to when, in nanoseconds since the Unix epoch; with a bit for those that are held.
    ends: Vec<u64>,
    counts: Vec<u64>,
    sums: Vec<f64>,
    /// By life: the overflow series, whose place moves, and removed series that are not delivered yet.
    strays: HashMap<u64, OwnMark>,
}

/// A mark by itself.
#[derive(Clone, Default)]
pub(crate) struct OwnMark {
    end: u64,
    counts: Box<[u64]>,
    sum: f64,
}

/// What has been delivered of a series.
#[derive(Clone, Copy)]
pub(crate) struct Mark<'a> {
    end: u64,
    counts: &'a [u64],
    sum: f64,
}

/// Set in an end while what follows the mark is in a payload of which nobody knows whether it arrived.
const HELD: u64 = 1 << 63;

impl Mark<'_> {
    /// Up to when it is delivered; zero if nothing is.
    pub(crate) fn end(self) -> Duration {
        Duration::from_nanos(self.end & !HELD)
    }

    pub(crate) fn is_held(self) -> bool {
        self.end & HELD != 0
    }
}

impl OwnMark {
    fn mark(&self) -> Mark<'_> {
        Mark {
            end: self.end,
            counts: &self.counts,
            sum: self.sum,
        }
    }
}

/// What a series has counted beyond its mark.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Increment {
    Count(u64),
    Sum(f64),
    /// The counts are in the scratch.
    Histogram {
        sum: f64,
    },
}

/// What `value` has beyond `mark`, if anything. A series without a mark is new, and always has. `observed` values may start again at
/// 0, because the closure's own source did.
pub(crate) fn increment(
    value: Value<'_>,
    mark: Option<Mark<'_>>,
    observed: bool,
    scratch: &mut Vec<u64>,
) -> Option<Increment> {
    let new = mark.is_none();
    match value {
        Value::Counter(count) => {
            let before = mark.map_or(0, |mark| mark.counts[0]);
            let more = match observed && count < before {
                true => count,
                false => count.wrapping_sub(before),
            };
            (new || more != 0).then_some(Increment::Count(more))
        }
        Value::FloatCounter(sum) => {
            let more = sum - mark.map_or(0.0, |mark| mark.sum);
            let more = if observed && more < 0.0 { sum } else { more };
            (new || more > 0.0).then_some(Increment::Sum(more))
        }
        Value::Histogram(HistogramValue { counts, sum, .. }) => {
            scratch.clear();
            match mark {
                None => scratch.extend(counts),
                Some(mark) => {
                    let pairs = counts.iter().zip(mark.counts);
                    scratch.extend(pairs.map(|(count, before)| count.wrapping_sub(*before)));
                }
            }
            // A sum that lags is not sent without the observations it belongs to: it comes with the next ones.
            let moved = new || scratch.iter().any(|count| *count != 0);
            let sum = sum - mark.map_or(0.0, |mark| mark.sum);
            moved.then_some(Increment::Histogram { sum })
        }
        // These are never sent as increments.
        Value::Gauge(_) | Value::IntGauge(_) | Value::Samples(_) => None,
    }
}

/// Whether families of this kind can be sent as increments.
pub(crate) fn can_be_increments(kind: Kind) -> bool {
    matches!(kind, Kind::Counter | Kind::FloatCounter | Kind::Histogram)
}

impl Marks {
    /// The marks of a family, if it has any yet.
    pub(crate) fn of(&self, family: &FamilySnapshot) -> Option<&FamilyMarks> {
        self.families.get(&FamilyKey::of(family))
    }

    #[cfg(test)]
    pub(crate) fn families(&self) -> usize {
        self.families.len()
    }

    /// Makes ready for `work`: marks of what is gone are dropped, and those of removed series that are still to be delivered
    /// are put where they are found.
    pub(crate) fn begin(&mut self, work: &Work) {
        let present: HashSet<FamilyKey> = work.families().map(FamilyKey::of).collect();
        let mut departed: HashMap<FamilyKey, HashSet<u64>> = HashMap::new();
        for departure in work.departures() {
            let lives = departed.entry(FamilyKey::of(&departure.family)).or_default();
            lives.insert(departure.life);
        }
        self.families.retain(|key, marks| match (key, marks) {
            // A closure's family may be missing for once; what it had counted by then must not be counted again.
            (FamilyKey::Observed(_), _) => true,
            // One that is registered still may be missing too: a filter may hide it for a while.
            (_, marks) => {
                present.contains(key) || departed.contains_key(key) || marks.has_held() || marks.is_registered()
            }
        });
        let overflows: HashSet<u64> = work.families().filter_map(FamilySnapshot::overflow_life).collect();
        let none = HashSet::new();
        for (key, marks) in &mut self.families {
            if let FamilyMarks::Live(marks) = marks {
                marks.stray(departed.get(key).unwrap_or(&none), &overflows);
            }
        }
        for family in work.families().filter(|family| family.is_observed()) {
            if let Some(FamilyMarks::Observed(marks)) = self.families.get_mut(&FamilyKey::of(family)) {
                // Label values of closures may come and never return.
                let most = 2 * family.rows.places() + MOST_ABSENT;
                if marks.len() > most {
                    let given: HashSet<&[u64]> = (0..family.rows.places())
                        .filter_map(|place| family.rows.given_words(place))
                        .collect();
                    marks.retain(|words, mark| given.contains(&**words) || mark.end & HELD != 0);
                }
            }
        }
    }

    /// Moves the marks of what was claimed to where `work` has it: it is delivered, or will never be. The mark of a removed series
    /// stays until the next work begins, because a work under way may have it too.
    pub(crate) fn acknowledge(&mut self, work: &Work, claims: &[Claim]) {
        self.each(work, claims, &mut |mark, value, time, observed| {
            mark.advance(value, time, observed);
        });
    }

    /// As [`acknowledge`](Marks::acknowledge), for parts of points.
    pub(crate) fn acknowledge_parts(&mut self, work: &Work, parts: &[Part]) {
        for part in parts {
            self.each(work, &[part.claim()], &mut |mark, _, time, _| {
                if let Some(count) = mark.counts.get_mut(part.bucket) {
                    *count = count.wrapping_add(part.count);
                }
                *mark.sum += part.sum;
                *mark.end = nanoseconds(time);
            });
        }
    }

    /// Where the marks of some series are, so that they can be put [back](Marks::restore) there.
    pub(crate) fn remember(&self, work: &Work, claims: impl Iterator<Item = Claim>) -> Vec<Remembered> {
        let mut remembered = Vec::new();
        for claim in claims.filter(|claim| work.is_delta(claim.item)) {
            let item = work.item(claim.item);
            let family = item.family();
            let key = FamilyKey::of(family);
            for place in claim.first..claim.end {
                let life = family.lives.get(place).copied().unwrap_or_default();
                let series = match (item, family.rows.given_words(place)) {
                    (Item::Departed(departure), _) => SeriesMark::Life(None, departure.life),
                    (_, Some(words)) => SeriesMark::Words(words.into()),
                    _ if life != 0 => SeriesMark::Life(Some(place), life),
                    _ => continue,
                };
                let mark = self.families.get(&key).and_then(|marks| series.find(marks));
                remembered.push(Remembered {
                    family: key.clone(),
                    mark: mark.map(|mark| OwnMark {
                        // Nothing holds it any more: it is in this payload.
                        end: mark.end & !HELD,
                        counts: mark.counts.into(),
                        sum: mark.sum,
                    }),
                    series,
                });
            }
        }
        remembered
    }

    /// Puts marks back to where they were: what moved them was not delivered after all. How many could not be, because their series are
    /// gone for good.
    pub(crate) fn restore(&mut self, remembered: &[Remembered]) -> u64 {
        let mut gone = 0;
        // The same series may be in it more than once; the first knows where its mark was.
        for Remembered { family, series, mark } in remembered.iter().rev() {
            match self.families.get_mut(family).and_then(|marks| series.find_mut(marks)) {
                Some(place) => {
                    match mark {
                        Some(mark) => place.counts.copy_from_slice(&mark.counts),
                        None => place.counts.fill(0),
                    }
                    *place.end = mark.as_ref().map_or(0, |mark| mark.end);
                    *place.sum = mark.as_ref().map_or(0.0, |mark| mark.sum);
                }
                None => gone += 1,
            }
        }
        gone
    }

    /// Of what was claimed, what has a point: a series that has not moved is claimed with its neighbours, but not sent.
    pub(crate) fn with_points(&self, work: &Work, claims: &[Claim]) -> Vec<Claim> {
        let mut scratch = Vec::new();
        let mut exact: Vec<Claim> = Vec::new();
        for claim in claims {
            if !work.is_delta(claim.item) {
                exact.push(*claim);
                continue;
            }
            let item = work.item(claim.item);
            let family = item.family();
            let marks = self.of(family);
            for place in claim.first..claim.end {
                let mark = marks.and_then(|marks| marks.mark(family, place, item.departed()));
                let mark = mark.filter(|mark| !mark.end().is_zero());
                if family.rows.row(place, family).is_none()
                    || increment(family.value(place), mark, family.is_observed(), &mut scratch).is_none()
                {
                    continue;
                }
                match exact.last_mut() {
                    Some(last) if last.item == claim.item && last.end == place => last.end += 1,
                    _ => exact.push(Claim {
                        item: claim.item,
                        first: place,
                        end: place + 1,
                    }),
                }
            }
        }
        exact
    }

    /// Keeps what was claimed from being sent in other payloads, until it is acknowledged.
    pub(crate) fn hold(&mut self, work: &Work, claims: &[Claim]) {
        self.each(work, claims, &mut |mark, _, _, _| *mark.end |= HELD);
    }

    /// Lets go of what was held, where it is.
    pub(crate) fn release(&mut self, work: &Work, claims: &[Claim]) {
        self.each(work, claims, &mut |mark, _, _, _| *mark.end &= !HELD);
    }

    /// Gives everything that was claimed and is sent as increments to `change`, with its marks.
    fn each(&mut self, work: &Work, claims: &[Claim], change: &mut dyn FnMut(MarkMut<'_>, Value<'_>, Duration, bool)) {
        for claim in claims.iter().filter(|claim| work.is_delta(claim.item)) {
            let item = work.item(claim.item);
            let family = item.family();
            let time = work.time(claim.item);
            let marks = self
                .families
                .entry(FamilyKey::of(family))
                .or_insert_with(|| FamilyMarks::new(family));
            for place in claim.first..claim.end {
                let Some(row) = family.rows.row(place, family) else {
                    continue;
                };
                let value = family.value(place);
                match (&mut *marks, item) {
                    (FamilyMarks::Live(marks), Item::Departed(departure)) => {
                        change(marks.stray_mut(departure.life), value, time, false);
                    }
                    (FamilyMarks::Live(marks), Item::Family(_)) => {
                        let life = family.lives.get(place).copied().unwrap_or_default();
                        if row.overflow {
                            change(marks.stray_mut(life), value, time, false);
                        } else if life != 0 {
                            change(marks.place_mut(place, life), value, time, false);
                        }
                    }
                    (FamilyMarks::Observed(marks), _) => {
                        let Some(words) = family.rows.given_words(place) else {
                            continue;
                        };
                        if !marks.contains_key(words) {
                            // A closure's counter may turn from integers to floats and back, so its marks have both.
                            marks.insert(words.into(), OwnMark::new(1));
                        }
                        let mark = marks.get_mut(words).expect("it was put there");
                        change(mark.as_mut(), value, time, true);
                    }
                }
            }
        }
    }
}

/// How many label sets of closures are remembered beyond twice those that were given last.
const MOST_ABSENT: usize = 1024;

/// Where the mark of a series was.
pub(crate) struct Remembered {
    family: FamilyKey,
    series: SeriesMark,
    /// None if it had none.
    mark: Option<OwnMark>,
}

impl Remembered {
    /// Whether it is the mark of this series, which was removed since, or before.
    pub(crate) fn is_of(&self, departure: &Departure) -> bool {
        let life = match self.series {
            SeriesMark::Life(_, life) => Some(life),
            SeriesMark::Words(_) => None,
        };
        life == Some(departure.life) && self.family == FamilyKey::of(&departure.family)
    }
}

/// Which of its family's marks is a series'.
enum SeriesMark {
    /// By its place, while it is there, and its life.
    Life(Option<usize>, u64),
    /// By its labels.
    Words(Box<[u64]>),
}

impl SeriesMark {
    fn find<'a>(&self, marks: &'a FamilyMarks) -> Option<Mark<'a>> {
        match (self, marks) {
            (SeriesMark::Life(place, life), FamilyMarks::Live(marks)) => place
                .and_then(|place| marks.in_place(place, *life))
                .or_else(|| marks.strays.get(life).map(OwnMark::mark)),
            (SeriesMark::Words(words), FamilyMarks::Observed(marks)) => marks.get(&**words).map(OwnMark::mark),
            _ => None,
        }
    }

    fn find_mut<'a>(&self, marks: &'a mut FamilyMarks) -> Option<MarkMut<'a>> {
        match (self, marks) {
            (SeriesMark::Life(place, life), FamilyMarks::Live(marks)) => match place {
                Some(place) if marks.lives.get(*place) == Some(life) => Some(marks.place_mut(*place, *life)),
                _ => marks.strays.get_mut(life).map(OwnMark::as_mut),
            },
            (SeriesMark::Words(words), FamilyMarks::Observed(marks)) => marks.get_mut(&**words).map(OwnMark::as_mut),
            _ => None,
        }
    }
}

/// A mark that is to be changed.
struct MarkMut<'a> {
    end: &'a mut u64,
    counts: &'a mut [u64],
    sum: &'a mut f64,
}

impl MarkMut<'_> {
    fn advance(self, value: Value<'_>, time: Duration, observed: bool) {
        // What has not moved was claimed, but not sent: its next point starts where the last one ended.
        let settled = *self.end & HELD == 0 && *self.end != 0;
        match value {
            Value::Counter(count) if settled && self.counts[0] == count => return,
            Value::Counter(count) => {
                self.counts[0] = count;
                *self.sum = count as f64;
            }
            // By what was sent, not to what was recorded: the far end adds up increments that were rounded, and what was
            // lost in rounding is in the next one.
            Value::FloatCounter(sum) if settled && sum == *self.sum => return,
            Value::FloatCounter(sum) if observed && sum < *self.sum => *self.sum = sum,
            Value::FloatCounter(sum) => *self.sum += sum - *self.sum,
            Value::Histogram(histogram) => {
                if settled && self.counts == histogram.counts {
                    return;
                }
                self.counts.copy_from_slice(histogram.counts);
                *self.sum += histogram.sum - *self.sum;
            }
            Value::Gauge(_) | Value::IntGauge(_) | Value::Samples(_) => return,
        }
        if observed && let (Value::FloatCounter(sum), [count]) = (value, self.counts) {
            // Rounded up: rather a part of one less than one twice.
            *count = sum.ceil() as u64;
        }
        *self.end = nanoseconds(time);
    }
}

fn nanoseconds(time: Duration) -> u64 {
    // In the year 2262 this saturates.
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX) & !HELD
}

impl OwnMark {
    fn new(width: usize) -> Self {
        OwnMark {
            end: 0,
            counts: vec![0; width].into(),
            sum: 0.0,
        }
    }

    fn as_mut(&mut self) -> MarkMut<'_> {
        MarkMut {
            end: &mut self.end,
            counts: &mut self.counts,
            sum: &mut self.sum,
        }
    }
}

impl FamilyMarks {
    fn new(family: &FamilySnapshot) -> Self {
        match FamilyKey::of(family) {
            FamilyKey::Observed(_) => FamilyMarks::Observed(HashMap::new()),
            FamilyKey::Live(_) => FamilyMarks::Live(LiveMarks {
                descriptor: family.descriptor.clone(),
                width: family.counts_width(),
                lives: Vec::new(),
                ends: Vec::new(),
                counts: Vec::new(),
                sums: Vec::new(),
                strays: HashMap::new(),
            }),
        }
    }

    /// The mark of a series of `family`, which these marks belong to; `departed` is the life of one that was removed.
    pub(crate) fn mark(&self, family: &FamilySnapshot, place: usize, departed: Option<u64>) -> Option<Mark<'_>> {
        match self {
            FamilyMarks::Live(marks) => match departed {
                Some(life) => marks.strays.get(&life).map(OwnMark::mark),
                None => {
                    let life = *family.lives.get(place)?;
                    marks
                        .in_place(place, life)
                        .or_else(|| marks.strays.get(&life).map(OwnMark::mark))
                }
            },
            FamilyMarks::Observed(marks) => marks.get(family.rows.given_words(place)?).map(OwnMark::mark),
        }
    }

    /// Whether anybody but these marks knows the family still.
    fn is_registered(&self) -> bool {
        matches!(self, FamilyMarks::Live(marks) if Arc::strong_count(&marks.descriptor) > 1)
    }

    fn has_held(&self) -> bool {
        match self {
            FamilyMarks::Live(marks) => {
                marks.ends.iter().any(|end| end & HELD != 0) || marks.strays.values().any(|mark| mark.end & HELD != 0)
            }
            FamilyMarks::Observed(marks) => marks.values().any(|mark| mark.end & HELD != 0),
        }
    }
}

impl LiveMarks {
    fn in_place(&self, place: usize, life: u64) -> Option<Mark<'_>> {
        if *self.lives.get(place)? != life || life == 0 {
            return None;
        }
        Some(Mark {
            end: self.ends[place],
            counts: &self.counts[place * self.width..][..self.width],
            sum: self.sums.get(place).copied().unwrap_or_default(),
        })
    }

    fn own(&self, place: usize) -> OwnMark {
        OwnMark {
            end: self.ends[place],
            counts: self.counts[place * self.width..][..self.width].into(),
            sum: self.sums[place],
        }
    }

    /// The mark of a series by its place; a new one if there is none.
    fn place_mut(&mut self, place: usize, life: u64) -> MarkMut<'_> {
        if self.lives.get(place) != Some(&life) {
            // What is no longer in its place.
            if self.strays.contains_key(&life) {
                return self.stray_mut(life);
            }
            if place >= self.lives.len() {
                self.lives.resize(place + 1, 0);
                self.ends.resize(place + 1, 0);
                self.counts.resize((place + 1) * self.width, 0);
                self.sums.resize(place + 1, 0.0);
            }
            if self.lives[place] != 0 {
                let before = self.own(place);
                self.strays.insert(self.lives[place], before);
            }
            self.lives[place] = life;
            self.ends[place] = 0;
            self.counts[place * self.width..][..self.width].fill(0);
            self.sums[place] = 0.0;
        }
        MarkMut {
            end: &mut self.ends[place],
            counts: &mut self.counts[place * self.width..][..self.width],
            sum: &mut self.sums[place],
        }
    }

    fn stray_mut(&mut self, life: u64) -> MarkMut<'_> {
        let width = self.width;
        self.strays.entry(life).or_insert_with(|| OwnMark::new(width)).as_mut()
    }

    /// Moves the marks of removed series from their places to the strays, where they are found by life; and drops those of
    /// whose removal nothing is to be delivered any more.
    fn stray(&mut self, departed: &HashSet<u64>, overflows: &HashSet<u64>) {
        debug_assert!(
            can_be_increments(self.descriptor.kind),
            "only what is sent as increments has marks"
        );
        // A removal is known before another series can have the place; so a mark that lost its place to one, while a payload was
        // acknowledged, belongs to a removal that is known by now.
        self.strays
            .retain(|life, mark| departed.contains(life) || overflows.contains(life) || mark.end & HELD != 0);
        if departed.is_empty() {
            return;
        }
        for place in 0..self.lives.len() {
            let life = self.lives[place];
            if life != 0 && departed.contains(&life) {
                let mark = self.own(place);
                self.strays.insert(life, mark);
                self.lives[place] = 0;
            }
        }
    }
}
