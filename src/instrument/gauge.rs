//! Values that are set: one atomic for all threads, in the series' own entry.

use super::{
    Hold, Instrument, Kept, Pinned, debug,
    in_flight::{Counts, InFlight},
    sealed,
};
use crate::{
    descriptor::Kind,
    family::{core::FamilyCore, table::Found},
    sync::{AtomicU64, Ordering},
};
use std::fmt;

// Relaxed everywhere here: a gauge is a value by itself and orders nothing. That its entry is not another series' by the time
// it is written is the pins' business.

/// A value that moves both ways and can be set: a temperature, a queue's depth, a time.
///
/// All threads share it, so adding costs an atomic read-modify-write; what many threads count up and down belongs in an
/// [`UpDownCounter`](crate::UpDownCounter). It takes every float, NaN too, to `set`; adding NaN is left out and counted in
/// [`Losses::invalid_values`](crate::Losses::invalid_values), because nothing could be added ever after.
///
/// ```
/// # fn main() -> Result<(), tidegauge::RegisterError> {
/// let registry = tidegauge::Registry::new();
/// let temperature = registry.gauge("room_temperature", "Temperature of the room.").unit("Cel").register()?;
/// temperature.set(21.0);
/// temperature.sub(0.5);
/// assert_eq!(temperature.get(), 20.5);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Gauge<H = Kept> {
    hold: H,
}

impl<H: Hold> Gauge<H> {
    /// Sets the value.
    #[inline]
    pub fn set(&self, value: f64) {
        if let Some(cell) = value_to_write(&self.hold) {
            cell.store(value.to_bits(), Ordering::Relaxed);
        }
    }

    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        self.add(1.0);
    }

    /// Subtracts one.
    #[inline]
    pub fn dec(&self) {
        self.add(-1.0);
    }

    /// Adds `amount`, unless it is NaN.
    #[inline]
    pub fn add(&self, amount: f64) {
        if amount.is_nan() {
            self.hold.family().invalid();
        } else if let Some(cell) = value_to_write(&self.hold) {
            let sum = |bits| Some((f64::from_bits(bits) + amount).to_bits());
            let _ = cell.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum);
        }
    }

    /// Subtracts `amount`, unless it is NaN.
    #[inline]
    pub fn sub(&self, amount: f64) {
        self.add(-amount);
    }

    /// Sets the value to the seconds since the Unix epoch, by the registry's clock.
    pub fn set_to_current_time(&self) {
        self.set(self.hold.family().clock().unix().as_secs_f64());
    }

    /// The value; 0 once the series is removed.
    pub fn get(&self) -> f64 {
        f64::from_bits(value_to_read(&self.hold))
    }
}

impl<H: Hold + Clone> Gauge<H> {
    /// Adds one, and subtracts it again when the result is dropped.
    pub fn track(&self) -> InFlight<Self> {
        InFlight::new(self.clone())
    }
}

impl<H: Hold> Counts for Gauge<H> {
    fn arrived(&self) {
        self.inc();
    }

    // A child's gauge goes on with the arrivals of before the fork.
    fn departed(&self, _here: bool) {
        self.dec();
    }
}

impl<H: Hold> fmt::Debug for Gauge<H> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug(formatter, "Gauge", &self.hold, &self.get())
    }
}

impl Instrument for Gauge {
    type Borrowed<'f> = Gauge<Pinned<'f>>;
}

impl sealed::Instrument for Gauge {
    const KIND: Kind = Kind::Gauge;
    const PINS: bool = true;

    fn keep(hold: Kept) -> Self {
        Gauge { hold }
    }

    #[inline(always)]
    fn borrow(family: &FamilyCore, series: Found) -> Gauge<Pinned<'_>> {
        Gauge {
            hold: Pinned::new(family, series),
        }
    }
}

/// An integer that moves both ways and can be set. Like [`Gauge`], and exact up to 2⁶³; past that it wraps.
///
/// ```
/// # fn main() -> Result<(), tidegauge::RegisterError> {
/// let registry = tidegauge::Registry::new();
/// let depth = registry.int_gauge("queue_depth", "Jobs that wait.").register()?;
/// depth.set(40);
/// depth.add(2);
/// assert_eq!(depth.get(), 42);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct IntGauge<H = Kept> {
    hold: H,
}

impl<H: Hold> IntGauge<H> {
    /// Sets the value.
    #[inline]
    pub fn set(&self, value: i64) {
        if let Some(cell) = value_to_write(&self.hold) {
            cell.store(value as u64, Ordering::Relaxed);
        }
    }

    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Subtracts one.
    #[inline]
    pub fn dec(&self) {
        self.sub(1);
    }

    /// Adds `amount`.
    #[inline]
    pub fn add(&self, amount: i64) {
        if let Some(cell) = value_to_write(&self.hold) {
            cell.fetch_add(amount as u64, Ordering::Relaxed);
        }
    }

    /// Subtracts `amount`.
    #[inline]
    pub fn sub(&self, amount: i64) {
        self.add(amount.wrapping_neg());
    }

    /// Sets the value to the whole seconds since the Unix epoch, by the registry's clock.
    pub fn set_to_current_time(&self) {
        self.set(self.hold.family().clock().unix().as_secs() as i64);
    }

    /// The value; 0 once the series is removed.
    pub fn get(&self) -> i64 {
        value_to_read(&self.hold) as i64
    }
}

impl<H: Hold + Clone> IntGauge<H> {
    /// Adds one, and subtracts it again when the result is dropped.
    pub fn track(&self) -> InFlight<Self> {
        InFlight::new(self.clone())
    }
}

impl<H: Hold> Counts for IntGauge<H> {
    fn arrived(&self) {
        self.inc();
    }

    // A child's gauge goes on with the arrivals of before the fork.
    fn departed(&self, _here: bool) {
        self.dec();
    }
}

impl<H: Hold> fmt::Debug for IntGauge<H> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug(formatter, "IntGauge", &self.hold, &self.get())
    }
}

impl Instrument for IntGauge {
    type Borrowed<'f> = IntGauge<Pinned<'f>>;
}

impl sealed::Instrument for IntGauge {
    const KIND: Kind = Kind::IntGauge;
    const PINS: bool = true;

    fn keep(hold: Kept) -> Self {
        IntGauge { hold }
    }

    #[inline(always)]
    fn borrow(family: &FamilyCore, series: Found) -> IntGauge<Pinned<'_>> {
        IntGauge {
            hold: Pinned::new(family, series),
        }
    }
}

/// The cell of the value, or a count of a late write.
#[inline(always)]
fn value_to_write(hold: &impl Hold) -> Option<&AtomicU64> {
    let (table, series) = (hold.family().table(), hold.series());
    if !table.lives(series) {
        hold.family().late(1);
        return None;
    }
    table.mark_active(series.entry);
    Some(table.value(series.entry))
}

fn value_to_read(hold: &impl Hold) -> u64 {
    let (table, series) = (hold.family().table(), hold.series());
    if table.is_current(series) {
        table.value(series.entry).load(Ordering::Relaxed)
    } else {
        0
    }
}
