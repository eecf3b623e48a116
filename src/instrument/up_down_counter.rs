//! A count that moves both ways, apart in each thread.

use super::{
    Borrowed, Hold, Instrument, Kept, bank, cells, debug,
    in_flight::{Counts, InFlight},
    sealed,
    space::{SPACE, Shape},
};
use crate::{
    descriptor::Kind,
    family::{core::FamilyCore, table::Found},
    sync::Ordering,
};
use std::fmt;

/// Which cell counts what.
const ARRIVALS: usize = 0;
const DEPARTURES: usize = 1;

/// A count that moves both ways and is never set: requests in flight, entries of a queue.
///
/// Like a [`Counter`](crate::Counter) it costs the same however many threads there are, because arrivals and departures are
/// counted in the thread's own cells. While threads add and subtract, a read may be briefly off: it sees every
/// arrival that happened before a departure it sees, so it is never below what the count has been, but it may be above.
/// When nobody writes it is exact.
///
/// ```
/// # fn main() -> Result<(), tidegauge::RegisterError> {
/// let registry = tidegauge::Registry::new();
/// let requests = registry.up_down_counter("requests_in_flight", "Requests being served.").register()?;
/// {
///     let _serving = requests.track();
///     assert_eq!(requests.get(), 1);
/// }
/// assert_eq!(requests.get(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct UpDownCounter<H = Kept> {
    hold: H,
}

impl UpDownCounter {
    pub(crate) const SHAPE: Shape = Shape { counts: 2, sum: false };
}

impl<H: Hold> UpDownCounter<H> {
    /// Adds one.
    #[inline(always)]
    pub fn inc(&self) {
        self.arrive(1);
    }

    /// Subtracts one.
    #[inline(always)]
    pub fn dec(&self) {
        self.depart(1);
    }

    /// Adds `amount`, which may be negative.
    #[inline]
    pub fn add(&self, amount: i64) {
        if amount < 0 {
            self.depart(amount.unsigned_abs())
        } else {
            self.arrive(amount.unsigned_abs())
        }
    }

    /// Subtracts `amount`, which may be negative.
    #[inline]
    pub fn sub(&self, amount: i64) {
        if amount < 0 {
            self.arrive(amount.unsigned_abs())
        } else {
            self.depart(amount.unsigned_abs())
        }
    }

    #[inline(always)]
    fn arrive(&self, amount: u64) {
        if bank::add(cells(&self.hold), ARRIVALS, amount, Ordering::Relaxed).is_err() {
            self.hold.family().late(amount);
        }
    }

    #[inline(always)]
    fn depart(&self, amount: u64) {
        // Release: whoever counts this departure also counts every arrival before it.
        if bank::add(cells(&self.hold), DEPARTURES, amount, Ordering::Release).is_err() {
            self.hold.family().late(amount);
        }
    }

    /// The count now; 0 once the series is removed. Takes a lock: for tests and decisions, not for the hot path.
    pub fn get(&self) -> i64 {
        let mut counts = [0; 2];
        SPACE.sum(UpDownCounter::SHAPE, &[cells(&self.hold)], &mut counts, &mut []);
        if self.hold.family().table().is_current(self.hold.series()) {
            balance(&counts)
        } else {
            0
        }
    }
}

impl<H: Hold + Clone> UpDownCounter<H> {
    /// Adds one, and subtracts it again when the result is dropped.
    pub fn track(&self) -> InFlight<Self> {
        InFlight::new(self.clone())
    }
}

/// What the cells of a series come to.
pub(crate) fn balance(counts: &[u64]) -> i64 {
    counts[ARRIVALS].wrapping_sub(counts[DEPARTURES]) as i64
}

impl<H: Hold> Counts for UpDownCounter<H> {
    fn arrived(&self) {
        self.inc();
    }

    fn departed(&self, here: bool) {
        if here {
            self.dec();
        }
    }
}

impl<H: Hold> fmt::Debug for UpDownCounter<H> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug(formatter, "UpDownCounter", &self.hold, &self.get())
    }
}

impl Instrument for UpDownCounter {
    type Borrowed<'f> = UpDownCounter<Borrowed<'f>>;
}

impl sealed::Instrument for UpDownCounter {
    const KIND: Kind = Kind::UpDownCounter;
    const PINS: bool = false;

    fn keep(hold: Kept) -> Self {
        UpDownCounter { hold }
    }

    #[inline(always)]
    fn borrow(family: &FamilyCore, series: Found) -> UpDownCounter<Borrowed<'_>> {
        UpDownCounter {
            hold: Borrowed::new(family, series),
        }
    }
}
