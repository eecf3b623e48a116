//! One instrument, many label sets: what users hold to get at the series of a family.

pub(crate) mod core;
pub(crate) mod query;
pub(crate) mod segment;
#[allow(unsafe_code)] // one of the crate's unsafe files; the argument is written there
pub(crate) mod table;

use crate::{
    instrument::{Instrument, Kept},
    label::LabelValues,
    snapshot::SeriesSnapshot,
};
use core::FamilyCore;
use std::{fmt, marker::PhantomData, sync::Arc};

/// All series of one instrument, told apart by the values of `N` labels.
///
/// A look-up of a series that exists takes no lock, touches no reference count and allocates nothing (but for label values of
/// more than 4,000 bytes in all); any number of them can be made in one expression, or while handles are
/// held. A series comes into being at its first look-up. Past the family's limit, or its registry's, a look-up of a new label
/// set gives one common series, whose only label is `otel_metric_overflow="true"`, and is counted in
/// [`Losses::past_limit`](crate::Losses::past_limit); so is a label value of more than 65,535 bytes.
///
/// ```
/// # fn main() -> Result<(), tidegauge::RegisterError> {
/// let registry = tidegauge::Registry::new();
/// let requests = registry
///     .counter("http_requests_total", "Requests served, by method and status.")
///     .labels(["method", "status"])
///     .register()?;
/// requests.with(["GET", "200"]).inc();
/// requests.with(("GET", 200)).inc();
///
/// let kept = requests.handle(["GET", "200"]);
/// kept.inc();
/// assert_eq!(requests.with(["GET", "200"]).get(), 3);
/// # Ok(())
/// # }
/// ```
pub struct Family<I, const N: usize> {
    core: Arc<FamilyCore>,
    instrument: PhantomData<fn() -> I>,
}

impl<I: Instrument, const N: usize> Family<I, N> {
    pub(crate) fn new(core: Arc<FamilyCore>) -> Self {
        Family {
            core,
            instrument: PhantomData,
        }
    }

    /// The series of these label values, `["GET", "200"]` or `("GET", 200)`, borrowed for a moment; it is made if it is not
    /// there.
    #[inline(always)]
    pub fn with(&self, values: impl LabelValues<N>) -> I::Borrowed<'_> {
        let series = values.with_texts(|texts| match I::PINS {
            true => self.core.find_and_pin(texts),
            false => self.core.find(texts),
        });
        I::borrow(&self.core, series)
    }

    /// The series of these label values to keep, clone and send; it is made if it is not there. While it is kept, the series
    /// does not expire.
    pub fn handle(&self, values: impl LabelValues<N>) -> I {
        let series = values.with_texts(|texts| self.core.find_and_pin(texts));
        I::keep(Kept::pinned(self.core.clone(), series))
    }

    /// Removes the series of these label values; false if there is none. What handles write afterwards is counted in
    /// [`Losses::late_writes`](crate::Losses::late_writes). Should the label set be used again, its series begins anew: at 0, and
    /// with a new start time.
    pub fn remove(&self, values: impl LabelValues<N>) -> bool {
        values.with_texts(|texts| self.core.remove(texts))
    }

    /// Removes every series for which `keep` says false. The overflow series stays.
    pub fn retain(&self, mut keep: impl FnMut(SeriesSnapshot<'_>) -> bool) {
        self.core.retain(&mut keep);
    }

    /// Removes every series but the overflow series, and but the only series of a family without labels.
    pub fn clear(&self) {
        self.retain(|_| false);
    }

    /// How many series there are, without the overflow series.
    pub fn len(&self) -> usize {
        self.core.table().len()
    }

    /// Whether there are no series.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<I, const N: usize> Clone for Family<I, N> {
    fn clone(&self) -> Self {
        Family {
            core: self.core.clone(),
            instrument: PhantomData,
        }
    }
}

impl<I, const N: usize> fmt::Debug for Family<I, N> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let descriptor = self.core.descriptor();
        let labels: Vec<&str> = descriptor.labels.iter().map(|label| label.given()).collect();
        formatter
            .debug_struct("Family")
            .field("name", &descriptor.name.given())
            .field("kind", &descriptor.kind)
            .field("labels", &labels)
            .field("series", &self.core.table().len())
            .finish()
    }
}
