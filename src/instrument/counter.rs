//! Counts and sums that only grow.

use super::{
    Borrowed, Hold, Instrument, Kept, bank, cells, debug, sealed,
    space::{SPACE, Shape},
};
use crate::{
    descriptor::Kind,
    family::{core::FamilyCore, table::Found},
    sync::Ordering,
};
use std::fmt;

/// A count that only grows, of things that happen.
///
/// Each thread adds in a cell of its own, so an increment costs the same however many threads there are. Past 2⁶⁴ the count
/// starts again at 0.
///
/// ```
/// # fn main() -> Result<(), tidegauge::RegisterError> {
/// let registry = tidegauge::Registry::new();
/// let jobs = registry.counter("jobs_total", "Jobs run to their end.").register()?;
/// jobs.inc();
/// jobs.add(2);
/// assert_eq!(jobs.get(), 3);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Counter<H = Kept> {
    hold: H,
}

impl Counter {
    pub(crate) const SHAPE: Shape = Shape { counts: 1, sum: false };
}

impl<H: Hold> Counter<H> {
    /// Adds one.
    #[inline(always)]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `amount`.
    #[inline(always)]
    pub fn add(&self, amount: u64) {
        if bank::add(cells(&self.hold), 0, amount, Ordering::Relaxed).is_err() {
            self.hold.family().late(amount);
        }
    }

    /// The count so far, over all threads; 0 once the series is removed. Takes a lock: for tests and decisions, not for the
    /// hot path.
    pub fn get(&self) -> u64 {
        let mut count = [0];
        SPACE.sum(Counter::SHAPE, &[cells(&self.hold)], &mut count, &mut []);
        if self.hold.family().table().is_current(self.hold.series()) {
            count[0]
        } else {
            0
        }
    }
}

impl<H: Hold> fmt::Debug for Counter<H> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug(formatter, "Counter", &self.hold, &self.get())
    }
}

impl Instrument for Counter {
    type Borrowed<'f> = Counter<Borrowed<'f>>;
}

impl sealed::Instrument for Counter {
    const KIND: Kind = Kind::Counter;
    const PINS: bool = false;

    fn keep(hold: Kept) -> Self {
        Counter { hold }
    }

    #[inline(always)]
    fn borrow(family: &FamilyCore, series: Found) -> Counter<Borrowed<'_>> {
        Counter {
            hold: Borrowed::new(family, series),
        }
    }
}

/// A sum of floats that only grows, such as seconds of work or joules.
///
/// An increment that is negative or NaN is not added; it is counted in
/// [`Losses::invalid_values`](crate::Losses::invalid_values).
///
/// ```
/// # fn main() -> Result<(), tidegauge::RegisterError> {
/// let registry = tidegauge::Registry::new();
/// let energy = registry.float_counter("energy", "Energy drawn.").unit("J").register()?;
/// energy.add(1.5);
/// energy.add(-1.0);
/// assert_eq!(energy.get(), 1.5);
/// assert_eq!(registry.losses().invalid_values, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct FloatCounter<H = Kept> {
    hold: H,
}

impl FloatCounter {
    /// The count is of the additions: it carries the tag that guards the sum.
    pub(crate) const SHAPE: Shape = Shape { counts: 1, sum: true };
}

impl<H: Hold> FloatCounter<H> {
    /// Adds one.
    #[inline(always)]
    pub fn inc(&self) {
        self.add(1.0);
    }

    /// Adds `amount`, unless it is negative or NaN.
    #[inline(always)]
    pub fn add(&self, amount: f64) {
        if amount >= 0.0 {
            if bank::observe(cells(&self.hold), 0, amount, 1).is_err() {
                self.hold.family().late(1);
            }
        } else {
            self.hold.family().invalid();
        }
    }

    /// The sum so far, over all threads; 0 once the series is removed. Takes a lock: for tests and decisions, not for the
    /// hot path.
    pub fn get(&self) -> f64 {
        let mut sum = [0.0];
        SPACE.sum(FloatCounter::SHAPE, &[cells(&self.hold)], &mut [0], &mut sum);
        if self.hold.family().table().is_current(self.hold.series()) {
            sum[0]
        } else {
            0.0
        }
    }
}

impl<H: Hold> fmt::Debug for FloatCounter<H> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug(formatter, "FloatCounter", &self.hold, &self.get())
    }
}

impl Instrument for FloatCounter {
    type Borrowed<'f> = FloatCounter<Borrowed<'f>>;
}

impl sealed::Instrument for FloatCounter {
    const KIND: Kind = Kind::FloatCounter;
    const PINS: bool = false;

    fn keep(hold: Kept) -> Self {
        FloatCounter { hold }
    }

    #[inline(always)]
    fn borrow(family: &FamilyCore, series: Found) -> FloatCounter<Borrowed<'_>> {
        FloatCounter {
            hold: Borrowed::new(family, series),
        }
    }
}
