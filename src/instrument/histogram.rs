//! Observations, counted in buckets.

use super::{
    Borrowed, Hold, Instrument, Kept, bank, cells, debug, sealed,
    space::{SPACE, Shape},
};
use crate::{
    clock::SharedClock,
    descriptor::Kind,
    family::{core::FamilyCore, table::Found},
    samples::Sample,
};
use std::{fmt, time::Duration};

/// The distribution of observed values: how many fell into each bucket, and their sum.
///
/// Each thread counts in cells of its own, so an observation costs the same however many threads there are. The count is the
/// sum of the buckets at any time; the sum of the values may lag by what is observed while it is read.
///
/// A value that is not finite is counted in the bucket it belongs in, NaN in the last one, and never added to the sum, which
/// it would spoil for ever; it is counted in [`Losses::invalid_values`](crate::Losses::invalid_values) too.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tidegauge::{Buckets, Registry};
///
/// let registry = Registry::new();
/// let sizes = registry
///     .histogram("upload_size_bytes", "Size of uploads.")
///     .buckets(Buckets::explicit([1024.0, 65536.0])?)
///     .register()?;
/// sizes.observe(100.0);
/// sizes.observe_many(2000.0, 3);
/// assert_eq!(sizes.get().counts(), [1, 3, 0]);
/// assert_eq!(sizes.get().sum(), 6100.0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Histogram<H = Kept> {
    pub(super) hold: H,
}

/// What a histogram or a distribution has counted at one moment; see [`Histogram::get`].
#[derive(Clone, Debug, PartialEq)]
pub struct Observations {
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    pub(crate) fn shape(bounds: usize) -> Shape {
        Shape {
            counts: bounds + 1,
            sum: true,
        }
    }
}

impl<H: Hold> Histogram<H> {
    /// Counts `value`.
    #[inline(always)]
    pub fn observe(&self, value: f64) {
        self.observe_many(value, 1);
    }

    /// Counts `value` as often as `count` says.
    #[inline(always)]
    pub fn observe_many(&self, value: f64, count: u64) {
        self.count(value, count);
    }

    /// As [`observe`](Histogram::observe), and keeps the value as a sample if the family keeps any and somebody reads them.
    #[inline(always)]
    pub(super) fn observe_and_keep(&self, value: f64) {
        if self.count(value, 1)
            && let Some(samples) = self.hold.family().samples()
            && samples.is_read()
        {
            let life = self.hold.series().life;
            samples.keep(Sample { life, value });
        }
    }

    /// False if the series is over, and the observation was counted as late.
    #[inline(always)]
    fn count(&self, value: f64, count: u64) -> bool {
        let family = self.hold.family();
        let (bucket, addend) = match family.search().quick(value) {
            Some(bucket) => (bucket, value),
            None => search_further(family, value),
        };
        let counted = bank::observe(cells(&self.hold), bucket, addend, count).is_ok();
        if !counted {
            family.late(count);
        }
        counted
    }

    /// Counts a duration, in the histogram's unit if that is one of time, else in seconds.
    #[inline]
    pub fn observe_duration(&self, duration: Duration) {
        self.observe(self.in_unit(duration));
    }

    #[inline]
    pub(super) fn in_unit(&self, duration: Duration) -> f64 {
        duration.as_secs_f64() * self.hold.family().per_second()
    }

    /// Runs `work` and counts how long it took. If it panics, nothing is counted.
    ///
    /// ```
    /// # fn main() -> Result<(), tidegauge::RegisterError> {
    /// # let registry = tidegauge::Registry::new();
    /// let duration = registry.histogram("job_duration_seconds", "Time a job takes.").register()?;
    /// let result = duration.time(|| 6 * 7);
    /// assert_eq!((result, duration.get().count()), (42, 1));
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn time<R>(&self, work: impl FnOnce() -> R) -> R {
        let start = self.hold.family().clock().monotonic();
        let result = work();
        self.observe_since(start);
        result
    }

    /// A distribution's timings come here too, and are kept.
    fn observe_since(&self, start: Duration) {
        let elapsed = self.hold.family().clock().monotonic().saturating_sub(start);
        self.observe_and_keep(self.in_unit(elapsed));
    }

    /// What it has counted so far, over all threads; nothing once the series is removed. Takes a lock: for tests and
    /// decisions, not for the hot path.
    pub fn get(&self) -> Observations {
        let bounds = self.hold.family().descriptor().bounds.len();
        let (mut counts, mut sum) = (vec![0; bounds + 1], [0.0]);
        SPACE.sum(Histogram::shape(bounds), &[cells(&self.hold)], &mut counts, &mut sum);
        if !self.hold.family().table().is_current(self.hold.series()) {
            return Observations {
                counts: vec![0; bounds + 1],
                sum: 0.0,
            };
        }
        Observations { counts, sum: sum[0] }
    }
}

/// The bucket of a value that is not a common one, and what of it is added to the sum.
#[inline(never)]
fn search_further(family: &FamilyCore, value: f64) -> (usize, f64) {
    if !value.is_finite() {
        family.invalid();
    }
    (
        family.search().bucket(value).min(family.descriptor().bounds.len()),
        if value.is_finite() { value } else { 0.0 },
    )
}

impl<H: Hold + Clone> Histogram<H> {
    /// Starts a timer that counts its own life when it is dropped or stopped, but not if it is discarded.
    pub fn start_timer(&self) -> Timer<H> {
        let start = self.hold.family().clock().monotonic();
        Timer {
            histogram: Some(self.clone()),
            start,
        }
    }

    /// Counts how long a future takes from its first poll to its end, in any runtime. One that is dropped before its end is
    /// not counted.
    pub async fn time_future<F: Future>(&self, future: F) -> F::Output {
        let histogram = self.clone();
        let start = histogram.hold.family().clock().monotonic();
        let output = future.await;
        histogram.observe_since(start);
        output
    }
}

impl Observations {
    /// The count of each bucket alone; the last one is of observations above every bound.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// How many observations there were: the sum of the counts. Past 2⁶⁴ it starts again at 0.
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |total, count| total.wrapping_add(*count))
    }

    /// What they add up to; those that are not finite are left out.
    pub fn sum(&self) -> f64 {
        self.sum
    }
}

/// Counts its own life in a histogram or a distribution when it is dropped; see [`Histogram::start_timer`].
///
/// ```
/// # fn main() -> Result<(), tidegauge::RegisterError> {
/// # let registry = tidegauge::Registry::new();
/// let duration = registry.histogram("job_duration_seconds", "Time a job takes.").register()?;
/// let timer = duration.start_timer();
/// timer.discard();
/// let timer = duration.start_timer();
/// drop(timer);
/// assert_eq!(duration.get().count(), 1);
/// # Ok(())
/// # }
/// ```
#[must_use = "it counts the time until it is dropped"]
pub struct Timer<H: Hold = Kept> {
    /// Taken when there is nothing more to count.
    histogram: Option<Histogram<H>>,
    start: Duration,
}

impl<H: Hold> Timer<H> {
    /// How long it has run.
    pub fn elapsed(&self) -> Duration {
        let now = |histogram: &Histogram<H>| clock(histogram).monotonic();
        self.histogram
            .as_ref()
            .map_or(Duration::ZERO, now)
            .saturating_sub(self.start)
    }

    /// Counts now, and returns what was counted.
    pub fn stop(mut self) -> Duration {
        let elapsed = self.elapsed();
        if let Some(histogram) = self.histogram.take() {
            histogram.observe_and_keep(histogram.in_unit(elapsed));
        }
        elapsed
    }

    /// Counts nothing.
    pub fn discard(mut self) {
        self.histogram = None;
    }
}

fn clock<H: Hold>(histogram: &Histogram<H>) -> &SharedClock {
    histogram.hold.family().clock()
}

impl<H: Hold> Drop for Timer<H> {
    fn drop(&mut self) {
        if let Some(histogram) = self.histogram.take() {
            histogram.observe_since(self.start);
        }
    }
}

impl<H: Hold> fmt::Debug for Timer<H> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Timer")
            .field("elapsed", &self.elapsed())
            .finish()
    }
}

impl<H: Hold> fmt::Debug for Histogram<H> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug(formatter, "Histogram", &self.hold, &self.get())
    }
}

impl Instrument for Histogram {
    type Borrowed<'f> = Histogram<Borrowed<'f>>;
}

impl sealed::Instrument for Histogram {
    const KIND: Kind = Kind::Histogram;
    const PINS: bool = false;

    fn keep(hold: Kept) -> Self {
        Histogram { hold }
    }

    #[inline(always)]
    fn borrow(family: &FamilyCore, series: Found) -> Histogram<Borrowed<'_>> {
        Histogram {
            hold: Borrowed::new(family, series),
        }
    }
}
