//! What every way out reads: all values at one moment, as plain columns.
//!
//! A [`Snapshot`] has a [`FamilySnapshot`] for each family: a shared reference to its description and label values, and one flat
//! column of numbers. It holds no handle and no lock, so it can wait in a queue, go to another thread, and be encoded by
//! anything. Taking one allocates for families, not for series.
//!
//! A counter never reads lower than in an earlier snapshot of the same registry, as long as its series lives, and the
//! buckets of a histogram add up to its count. Its sum may lag behind by what is
//! observed while it is read. Series are in the order of their first use; one that is removed may leave its place to a new one.

use crate::{
    descriptor::{Descriptor, Kind, OVERFLOW_LABEL, OVERFLOW_VALUE},
    family::table::{Reading, Row},
};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

/// The values of all families of a registry at one moment.
///
/// ```
/// # fn main() -> Result<(), tidegauge::RegisterError> {
/// use tidegauge::Value;
///
/// let registry = tidegauge::Registry::new();
/// registry.counter("jobs_total", "Jobs run to their end.").register()?.add(3);
///
/// let snapshot = registry.snapshot();
/// let jobs = snapshot.family("jobs_total").expect("it was registered");
/// let series = jobs.series().next().expect("a family without labels has one series");
/// assert_eq!(series.value(), Value::Counter(3));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub(crate) families: Vec<FamilySnapshot>,
    /// Since the Unix epoch.
    pub(crate) taken: Duration,
}

/// One family in a [`Snapshot`].
#[derive(Clone)]
pub struct FamilySnapshot {
    pub(crate) descriptor: Arc<Descriptor>,
    pub(crate) rows: Rows,
    pub(crate) values: Values,
}

/// The label values of a family's series, by place. A place may be empty.
#[derive(Clone)]
pub(crate) enum Rows {
    /// Those of a registered family, shared with it.
    Live(Reading),
    /// Those that a closure gave at collection: as many words for each series as the ends say.
    Given { words: Arc<[u64]>, ends: Arc<[u32]> },
}

/// The numbers of a family's series, by place.
#[derive(Clone, Debug)]
pub(crate) enum Values {
    Counts(Vec<u64>),
    Integers(Vec<i64>),
    Floats(Vec<f64>),
    /// Counts of each bucket, +Inf last, not cumulative: as many a series as there are bounds, and one.
    Histograms {
        counts: Vec<u64>,
        sums: Vec<f64>,
    },
}

/// One series in a [`Snapshot`].
#[derive(Clone, Copy)]
pub struct SeriesSnapshot<'a> {
    family: &'a FamilySnapshot,
    row: Row<'a>,
    place: usize,
}

/// The value of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value<'a> {
    /// Of a [`Kind::Counter`].
    Counter(u64),
    /// Of a [`Kind::FloatCounter`].
    FloatCounter(f64),
    /// Of a [`Kind::Gauge`].
    Gauge(f64),
    /// Of a [`Kind::IntGauge`] or a [`Kind::UpDownCounter`].
    IntGauge(i64),
    /// Of a [`Kind::Histogram`].
    Histogram(HistogramValue<'a>),
}

/// What a histogram has counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HistogramValue<'a> {
    pub(crate) bounds: &'a [f64],
    pub(crate) counts: &'a [u64],
    pub(crate) sum: f64,
}

impl Snapshot {
    /// When it was taken, by the registry's clock.
    pub fn taken(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.taken
    }

    /// The families, in the order of their Prometheus names.
    pub fn families(&self) -> impl Iterator<Item = &FamilySnapshot> {
        self.families.iter()
    }

    /// The family of a name, spelled as it was registered or as Prometheus sees it.
    pub fn family(&self, name: &str) -> Option<&FamilySnapshot> {
        self.families()
            .find(|family| [family.name(), family.given_name(), family.family_name()].contains(&name))
    }
}

impl FamilySnapshot {
    /// The name as Prometheus sees it: a counter's ends in `_total`, and all end in their unit, if they have one.
    pub fn name(&self) -> &str {
        self.descriptor.name.sample()
    }

    /// The name without a counter's `_total`, as OpenMetrics calls the family.
    pub fn family_name(&self) -> &str {
        self.descriptor.name.family()
    }

    /// The name as it was registered, behind the registry's prefix.
    pub fn given_name(&self) -> &str {
        self.descriptor.name.given()
    }

    /// The help text.
    pub fn help(&self) -> &str {
        &self.descriptor.help
    }

    /// The unit's code, such as `s` or `By`, given or taken from the name (<https://ucum.org/ucum>).
    pub fn unit(&self) -> Option<&str> {
        self.descriptor.name.unit().map(|unit| unit.given())
    }

    /// What it counts or measures.
    pub fn kind(&self) -> Kind {
        self.descriptor.kind
    }

    /// Its series, in a stable order.
    pub fn series(&self) -> impl Iterator<Item = SeriesSnapshot<'_>> {
        (0..self.rows.places()).filter_map(|place| {
            Some(SeriesSnapshot {
                family: self,
                row: self.rows.row(place, self)?,
                place,
            })
        })
    }

    /// The value in a place that has a series.
    pub(crate) fn value(&self, place: usize) -> Value<'_> {
        match &self.values {
            Values::Counts(counts) => Value::Counter(counts[place]),
            Values::Integers(integers) => Value::IntGauge(integers[place]),
            Values::Floats(floats) if self.descriptor.kind == Kind::FloatCounter => Value::FloatCounter(floats[place]),
            Values::Floats(floats) => Value::Gauge(floats[place]),
            Values::Histograms { counts, sums } => {
                let bounds = &self.descriptor.bounds;
                let width = bounds.len() + 1;
                Value::Histogram(HistogramValue {
                    bounds,
                    counts: &counts[place * width..][..width],
                    sum: sums[place],
                })
            }
        }
    }
}

impl std::fmt::Debug for FamilySnapshot {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let series = self
            .series()
            .map(|series| (series.labels().collect::<Vec<_>>(), series.value()));
        formatter
            .debug_struct("FamilySnapshot")
            .field("name", &self.name())
            .field("kind", &self.kind())
            .field("series", &series.collect::<Vec<_>>())
            .finish()
    }
}

impl Rows {
    /// How many places there are.
    pub(crate) fn places(&self) -> usize {
        match self {
            Rows::Live(reading) => reading.places(),
            Rows::Given { ends, .. } => ends.len(),
        }
    }

    /// The label values in a place, if it has a series.
    #[inline]
    pub(crate) fn row<'a>(&'a self, place: usize, family: &'a FamilySnapshot) -> Option<Row<'a>> {
        match self {
            Rows::Live(reading) => reading.row(place),
            Rows::Given { words, ends } => {
                let start = if place == 0 { 0 } else { ends[place - 1] as usize };
                Some(Row::of_words(
                    &words[start..ends[place] as usize],
                    family.descriptor.labels.len(),
                ))
            }
        }
    }
}

impl<'a> SeriesSnapshot<'a> {
    /// The series in a place of a family, of which `row` has the label values.
    pub(crate) fn new(family: &'a FamilySnapshot, row: Row<'a>, place: usize) -> Self {
        SeriesSnapshot { family, row, place }
    }

    /// Its labels, the registry's own among them, as Prometheus spells their names.
    pub fn labels(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let descriptor = &self.family.descriptor;
        let constant = descriptor
            .constant
            .iter()
            .map(|(name, value)| (name.prometheus(), &**value));
        let names = descriptor.labels.iter().map(|label| label.prometheus());
        let overflow = self.row.overflow.then_some((OVERFLOW_LABEL, OVERFLOW_VALUE));
        constant
            .filter(move |_| overflow.is_none())
            .chain(names.zip(self.row.values()))
            .chain(overflow)
    }

    /// The value of the label of this name.
    pub fn label(self, name: &str) -> Option<&'a str> {
        self.labels().find_map(|(each, value)| (each == name).then_some(value))
    }

    /// The value.
    pub fn value(self) -> Value<'a> {
        self.family.value(self.place)
    }

    /// Whether this is the series for all that was past the family's limit; its only label says so.
    pub fn is_overflow(self) -> bool {
        self.row.overflow
    }

    pub(crate) fn place(self) -> usize {
        self.place
    }

    /// When it was first used, by the registry's clock: what it has counted was counted since then.
    pub fn created(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.family.descriptor.registered + Duration::from_millis(self.row.birth())
    }
}

impl<'a> HistogramValue<'a> {
    /// The buckets: each upper bound, inclusive and the last of them infinite, with the count of the observations up to it.
    pub fn cumulative(self) -> impl Iterator<Item = (f64, u64)> + 'a {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(self.counts.iter().scan(0, |total: &mut u64, count| {
            *total = total.wrapping_add(*count);
            Some(*total)
        }))
    }

    /// The upper bounds of the buckets, inclusive, without the infinite one.
    pub fn bounds(self) -> &'a [f64] {
        self.bounds
    }

    /// The count of each bucket alone; the last one is of observations above every bound.
    pub fn counts(self) -> &'a [u64] {
        self.counts
    }

    /// How many observations there were; past 2⁶⁴ it starts again at 0.
    pub fn count(self) -> u64 {
        self.counts.iter().fold(0, |total, count| total.wrapping_add(*count))
    }

    /// What they add up to; those that are not finite are left out.
    pub fn sum(self) -> f64 {
        self.sum
    }
}
