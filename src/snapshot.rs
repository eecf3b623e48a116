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
    /// When the process was forked, since the Unix epoch: no series in it began before. Zero if it was not.
    pub(crate) forked: Duration,
    pub(crate) rows: Rows,
    pub(crate) values: Values,
    /// By place, the life of the series there; 0 where there is none. No other series of the process ever has it if it has cells,
    /// else no other one of the family. Only in a snapshot for an exporter, of a registered family; else empty.
    pub(crate) lives: Vec<u64>,
}

/// The label values of a family's series, by place. A place may be empty.
#[derive(Clone)]
pub(crate) enum Rows {
    /// Those of a registered family, shared with it.
    Live(Reading),
    /// Those that a closure gave at collection: as many words for each series as the ends say.
    Given { words: Arc<[u64]>, ends: Arc<[u32]> },
    /// Those of one series that was removed from a registered family.
    Departed {
        words: Arc<[u64]>,
        /// Milliseconds from the family's registration to the first use of the series.
        birth: u64,
        overflow: bool,
    },
}

/// What the start times of a family's series are reckoned from.
#[derive(Clone, Copy)]
pub(crate) struct Start {
    registered: Duration,
    forked: Duration,
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
    /// Samples, and where those of each series end; only of what is given to a destination that wants them.
    Samples {
        samples: Vec<f64>,
        ends: Vec<usize>,
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
    /// Samples of a [`Distribution`](crate::Distribution), for a [destination that wants
    /// them](crate::Preferences::samples); never in a [`Snapshot`].
    Samples(&'a [f64]),
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

    /// Whether a closure gave it when the snapshot was taken: an observable instrument's, or a collector's.
    pub fn is_observed(&self) -> bool {
        matches!(self.rows, Rows::Given { .. })
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

    /// How many counts each of its series has in the column of values.
    pub(crate) fn counts_width(&self) -> usize {
        match &self.values {
            Values::Counts(_) => 1,
            Values::Integers(_) | Values::Floats(_) | Values::Samples { .. } => 0,
            Values::Histograms { .. } => self.descriptor.bounds.len() + 1,
        }
    }

    /// When a series was first used, since the Unix epoch.
    pub(crate) fn created(&self, row: Row<'_>) -> Duration {
        self.start().of(row)
    }

    /// The life of the overflow series, if there is one.
    pub(crate) fn overflow_life(&self) -> Option<u64> {
        let last = self.lives.len().checked_sub(1)?;
        self.rows.row(last, self)?.overflow.then(|| self.lives[last])
    }

    /// How much memory its values take.
    pub(crate) fn bytes(&self) -> usize {
        let values = match &self.values {
            Values::Counts(values) => values.len(),
            Values::Integers(values) => values.len(),
            Values::Floats(values) => values.len(),
            Values::Histograms { counts, sums } => counts.len() + sums.len(),
            Values::Samples { samples, ends } => samples.len() + ends.len(),
        };
        let words = match &self.rows {
            Rows::Given { words, .. } => words.len(),
            _ => 0,
        };
        8 * (values + words + self.lives.len()) + size_of::<FamilySnapshot>()
    }

    pub(crate) fn start(&self) -> Start {
        Start {
            registered: self.descriptor.registered,
            forked: self.forked,
        }
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
            Values::Samples { samples, ends } => {
                let start = if place == 0 { 0 } else { ends[place - 1] };
                Value::Samples(&samples[start..ends[place]])
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

impl Start {
    /// Since when a series counts, since the Unix epoch.
    #[inline(always)]
    pub(crate) fn of(self, row: Row<'_>) -> Duration {
        (self.registered + Duration::from_millis(row.birth())).max(self.forked)
    }
}

impl Rows {
    /// How many places there are.
    pub(crate) fn places(&self) -> usize {
        match self {
            Rows::Live(reading) => reading.places(),
            Rows::Given { ends, .. } => ends.len(),
            Rows::Departed { .. } => 1,
        }
    }

    /// The label values that a closure gave for a place, as words.
    pub(crate) fn given_words(&self, place: usize) -> Option<&[u64]> {
        match self {
            Rows::Given { words, ends } => {
                let start = if place == 0 { 0 } else { ends[place - 1] as usize };
                Some(&words[start..*ends.get(place)? as usize])
            }
            _ => None,
        }
    }

    /// The label values in a place, if it has a series.
    #[inline(always)]
    pub(crate) fn row<'a>(&'a self, place: usize, family: &'a FamilySnapshot) -> Option<Row<'a>> {
        let labels = family.descriptor.labels.len();
        match self {
            Rows::Live(reading) => reading.row(place),
            Rows::Given { words, ends } => {
                let start = if place == 0 { 0 } else { ends[place - 1] as usize };
                Some(Row::of_words(&words[start..ends[place] as usize], labels, 0))
            }
            Rows::Departed { words, birth, overflow } => {
                let labels = if *overflow { 0 } else { labels };
                let mut row = Row::of_words(words, labels, *birth);
                row.overflow = *overflow;
                Some(row)
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

    /// Its attributes, as OTLP has them (<https://opentelemetry.io/docs/specs/otel/common/#attribute>): the registry's own labels
    /// first, then the family's, their names as they were registered.
    ///
    /// The overflow series, which stands for all label sets past the family's limit, has none here: whoever writes it says by
    /// [`is_overflow`](Self::is_overflow) what it is.
    ///
    /// ```
    /// # fn main() -> Result<(), tidegauge::RegisterError> {
    /// let registry = tidegauge::Registry::builder().label("cloud.region", "eu").build()?;
    /// let requests = registry.counter("requests_total", "Requests served.").labels(["http.route"]).register()?;
    /// requests.with(["/users"]).inc();
    ///
    /// let snapshot = registry.snapshot();
    /// let series = snapshot.family("requests_total").unwrap().series().next().unwrap();
    /// assert!(series.attributes().eq([("cloud.region", "eu"), ("http.route", "/users")]));
    /// assert!(series.labels().eq([("cloud_region", "eu"), ("http_route", "/users")]));
    /// # Ok(())
    /// # }
    /// ```
    pub fn attributes(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let descriptor = &self.family.descriptor;
        let constant = descriptor.constant.iter().map(|(name, value)| (name.given(), &**value));
        let names = descriptor.labels.iter().map(|label| label.given());
        let overflow = self.row.overflow;
        constant.filter(move |_| !overflow).chain(names.zip(self.row.values()))
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

    /// When it was first used, by the registry's clock, or when the process was forked, if that came later: what it has counted
    /// was counted since then.
    pub fn created(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.family.start().of(self.row)
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{Buckets, Registry};

    /// The lives of a family's series, with the values of their first labels, by place.
    fn lives<'a>(snapshot: &'a Snapshot, name: &str) -> Vec<(&'a str, u64)> {
        let family = snapshot.family(name).expect("it is registered");
        let life = |series: SeriesSnapshot<'a>| {
            let value = series.labels().next().map_or("", |(_, value)| value);
            (value, family.lives[series.place()])
        };
        family.series().map(life).collect()
    }

    #[test]
    fn a_series_is_known_again_by_its_life_and_one_with_its_labels_is_another() {
        let registry = Registry::new();
        let jobs = registry.counter("jobs", "Jobs.").labels(["kind"]).register().unwrap();
        for kind in ["a", "b", "c"] {
            jobs.with([kind]).inc();
        }
        let first = registry.snapshot_for_export();
        let before = lives(&first, "jobs");
        assert!(before.iter().all(|(_, life)| *life != 0));
        assert!(before[0].1 != before[1].1 && before[1].1 != before[2].1);

        jobs.remove(["b"]);
        let second = registry.snapshot_for_export();
        assert_eq!(lives(&second, "jobs"), [before[0], before[2]]);
        assert_eq!(second.family("jobs").unwrap().lives, [before[0].1, 0, before[2].1]);

        jobs.with(["b"]).inc();
        let third = registry.snapshot_for_export();
        let after = lives(&third, "jobs");
        assert_eq!((after[0], after[2]), (before[0], before[2]));
        assert_eq!(after[1].0, "b");
        assert!(!before.contains(&after[1]) && after[1].1 != 0);
    }

    #[test]
    fn all_kinds_with_cells_have_lives_the_overflow_series_too() {
        let registry = Registry::new();
        registry.float_counter("seconds", "Float.").register().unwrap();
        registry.up_down_counter("open", "Up and down.").register().unwrap();
        let buckets = Buckets::explicit([1.0, 2.0]).unwrap();
        registry
            .histogram("size", "Histogram.")
            .buckets(buckets)
            .register()
            .unwrap();
        let limited = registry.counter("limited", "Counter.").labels(["kind"]).limit(1);
        let limited = limited.register().unwrap();
        for kind in ["a", "b"] {
            limited.with([kind]).inc();
        }

        let snapshot = registry.snapshot_for_export();
        let all = ["seconds_total", "open", "size", "limited_total"].map(|name| lives(&snapshot, name));
        let mut all: Vec<u64> = all.concat().into_iter().map(|(_, life)| life).collect();
        all.sort();
        all.dedup();
        assert!(all.len() == 5 && all[0] != 0, "{all:?}");
        let limited = snapshot.family("limited_total").unwrap();
        assert!(limited.series().last().unwrap().is_overflow());
    }

    #[test]
    fn lives_are_in_snapshots_for_exporters_alone_and_never_of_what_closures_give() {
        let registry = Registry::new();
        registry.counter("jobs", "Jobs.").register().unwrap();
        registry.gauge("depth", "Gauge.").register().unwrap();
        registry.int_gauge("entries", "Gauge.").register().unwrap();
        registry.observable_gauge("load", "Observed.").register(|| 0.5).unwrap();
        registry.collector(|families| {
            families.counter("waits", "Given.").value(7_u64);
        });
        assert!(registry.snapshot().families().all(|family| family.lives.is_empty()));
        let snapshot = registry.snapshot_for_export();
        let with_lives: Vec<_> = snapshot
            .families()
            .filter(|family| !family.lives.is_empty())
            .map(FamilySnapshot::name)
            .collect();
        assert_eq!(with_lives, ["depth", "entries", "jobs_total"]);
        let observed: Vec<_> = snapshot
            .families()
            .filter(|family| family.is_observed())
            .map(FamilySnapshot::name)
            .collect();
        assert_eq!(observed, ["load", "waits_total"]);
    }

    #[test]
    fn an_overflow_series_has_no_attributes() {
        let registry = Registry::builder().label("region", "eu").build().unwrap();
        let jobs = registry.counter("jobs", "Jobs.").labels(["job.kind"]).limit(1);
        let jobs = jobs.register().unwrap();
        for kind in ["a", "b"] {
            jobs.with([kind]).inc();
        }
        let snapshot = registry.snapshot();
        let series: Vec<_> = snapshot.family("jobs").unwrap().series().collect();
        assert!(series[0].attributes().eq([("region", "eu"), ("job.kind", "a")]));
        assert!(series[1].is_overflow() && series[1].attributes().next().is_none());
    }
}
