//! Observations of which each one is kept for whoever wants it, besides being counted in buckets.

use super::{
    Borrowed, Hold, Instrument, Kept, debug,
    histogram::{Histogram, Observations, Timer},
    sealed,
};
use crate::{
    descriptor::Kind,
    family::{core::FamilyCore, table::Found},
};
use std::{fmt, time::Duration};

/// The distribution of observed values, for servers that compute quantiles from the values themselves, across hosts.
///
/// It is a [`Histogram`], and goes out as one, but to an exporter that sends raw samples, as DogStatsD's `d` has them
/// (<https://docs.datadoghq.com/metrics/distributions/>). While one is attached, each observation is put into a queue for it too,
/// of which each family of distributions has one for each such exporter: room for 4,096 samples between two collections,
/// unless the builder's [`samples`](crate::InstrumentBuilder::samples) says otherwise. The memory, 16 bytes a sample, is taken when the
/// exporter is attached, and kept for the next one if it ends. What finds the queue full is in the buckets as ever, but
/// missing among the samples, and counted.
///
/// Recording waits for nobody, and costs what it costs a histogram while no such exporter is attached. With one, threads that
/// observe in the same family at once meet at its queue, until that is full. At most four such exporters of a
/// registry are served.
///
/// A value that is not finite is counted as [`Histogram`] says, and is no sample.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tidegauge::{Buckets, Registry};
///
/// let registry = Registry::new();
/// let sizes = registry
///     .distribution("upload_size_bytes", "Size of uploads.")
///     .buckets(Buckets::explicit([1024.0, 65536.0])?)
///     .samples(16_384)
///     .labels(["kind"])
///     .register()?;
/// sizes.with(["image"]).observe(100.0);
/// sizes.with(["image"]).observe(2000.0);
/// assert_eq!(sizes.with(["image"]).get().counts(), [1, 1, 0]);
///
/// let body = registry.scrape(None, None).into_body();
/// let line = "upload_size_bytes_count{kind=\"image\"} 2\n";
/// assert!(String::from_utf8(body)?.contains(line));
/// # Ok(())
/// # }
/// ```
///
/// In the child of a fork nothing is kept for exporters of the parent.
#[derive(Clone)]
pub struct Distribution<H = Kept> {
    histogram: Histogram<H>,
}

impl<H: Hold> Distribution<H> {
    /// Counts `value`, and keeps it for exporters that send raw samples.
    #[inline(always)]
    pub fn observe(&self, value: f64) {
        self.histogram.observe_and_keep(value);
    }

    /// Observes a duration, in the distribution's unit if that is one of time, else in seconds.
    #[inline]
    pub fn observe_duration(&self, duration: Duration) {
        self.observe(self.histogram.in_unit(duration));
    }

    /// Runs `work` and observes how long it took. If it panics, nothing is observed.
    ///
    /// ```
    /// # fn main() -> Result<(), tidegauge::RegisterError> {
    /// # let registry = tidegauge::Registry::new();
    /// let duration = registry.distribution("job_duration_seconds", "Time a job takes.").register()?;
    /// let result = duration.time(|| 6 * 7);
    /// assert_eq!((result, duration.get().count()), (42, 1));
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn time<R>(&self, work: impl FnOnce() -> R) -> R {
        self.histogram.time(work)
    }

    /// What it has counted so far, over all threads; nothing once the series is removed. Takes a lock: for tests and
    /// decisions, not for the hot path.
    pub fn get(&self) -> Observations {
        self.histogram.get()
    }
}

impl<H: Hold + Clone> Distribution<H> {
    /// Starts a timer that observes its own life when it is dropped or stopped, but not if it is discarded.
    pub fn start_timer(&self) -> Timer<H> {
        self.histogram.start_timer()
    }

    /// Observes how long a future takes from its first poll to its end, in any runtime. One that is dropped before its end is
    /// not observed.
    pub async fn time_future<F: Future>(&self, future: F) -> F::Output {
        self.histogram.time_future(future).await
    }
}

impl<H: Hold> fmt::Debug for Distribution<H> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug(formatter, "Distribution", &self.histogram.hold, &self.get())
    }
}

impl Instrument for Distribution {
    type Borrowed<'f> = Distribution<Borrowed<'f>>;
}

impl sealed::Instrument for Distribution {
    const KIND: Kind = Kind::Histogram;
    const KEEPS_SAMPLES: bool = true;
    const PINS: bool = false;

    fn keep(hold: Kept) -> Self {
        Distribution {
            histogram: Histogram { hold },
        }
    }

    #[inline(always)]
    fn borrow(family: &FamilyCore, series: Found) -> Distribution<Borrowed<'_>> {
        Distribution {
            histogram: Histogram::borrow(family, series),
        }
    }
}
