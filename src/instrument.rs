//! What every handle promises, whatever it counts.
//!
//! A handle is kept ([`Kept`]) or borrowed for a moment ([`Borrowed`]). Recording through either takes no lock, allocates
//! nothing once the series exists and the thread has touched its cells, cannot fail and does not panic. What cannot be recorded
//! is counted in the registry's [`Losses`](crate::Losses).
//!
//! Not for signal handlers and not for a global allocator: a thread's first write to a chunk of cells allocates, and an
//! increment is a load and a store, between which a signal handler's own would be lost.

pub(crate) mod buckets;
pub(crate) mod counter;
pub(crate) mod distribution;
pub(crate) mod gauge;
pub(crate) mod histogram;
pub(crate) mod in_flight;
pub(crate) mod up_down_counter;

#[allow(unsafe_code)] // one of the crate's unsafe files; the argument is written there
pub(crate) mod bank;
pub(crate) mod space;

use crate::{descriptor::Kind, family::core::FamilyCore, family::table::Found};
use bank::CellId;
use std::{fmt, sync::Arc};

/// How a handle holds its series.
pub trait Hold: sealed::Hold {}
impl<H: sealed::Hold> Hold for H {}

/// A kind of instrument, as a [`Family`](crate::Family) has it.
pub trait Instrument: sealed::Instrument {
    /// What [`Family::with`](crate::Family::with) gives: the same instrument, borrowed from the family.
    type Borrowed<'f>;
}

pub(crate) mod sealed {
    use super::{Found, Kept, Kind};
    use crate::family::core::FamilyCore;

    pub trait Hold {
        #[doc(hidden)]
        fn family(&self) -> &FamilyCore;
        #[doc(hidden)]
        fn series(&self) -> Found;
    }

    pub trait Instrument: Sized {
        #[doc(hidden)]
        const KIND: Kind;
        /// Whether its families keep samples.
        #[doc(hidden)]
        const KEEPS_SAMPLES: bool = false;
        /// Whether a series' value is in its entry, which must be pinned then while it is used.
        #[doc(hidden)]
        const PINS: bool;
        #[doc(hidden)]
        fn keep(series: Kept) -> Self;
        /// Borrows a series, which is pinned if it has to be.
        #[doc(hidden)]
        fn borrow(family: &FamilyCore, series: Found) -> <Self as super::Instrument>::Borrowed<'_>
        where
            Self: super::Instrument;
    }
}

/// Keeps its series: for as long as it or a clone of it exists, the series does not expire. The series can still be
/// removed; what is written afterwards is counted as lost.
pub struct Kept {
    family: Arc<FamilyCore>,
    series: Found,
}

impl Kept {
    /// Keeps a series that the caller has pinned.
    pub(crate) fn pinned(family: Arc<FamilyCore>, series: Found) -> Self {
        Kept { family, series }
    }
}

impl sealed::Hold for Kept {
    #[inline(always)]
    fn family(&self) -> &FamilyCore {
        &self.family
    }

    #[inline(always)]
    fn series(&self) -> Found {
        self.series
    }
}

impl Clone for Kept {
    fn clone(&self) -> Self {
        self.family.table().pin_again(self.series.entry);
        Kept {
            family: self.family.clone(),
            series: self.series,
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.family.table().unpin(self.series.entry);
    }
}

/// Borrows its series from the family for a moment, and counts no reference. Should the series be removed in that moment, what
/// is written through this is counted as lost.
#[derive(Clone, Copy)]
pub struct Borrowed<'f> {
    family: &'f FamilyCore,
    series: Found,
}

impl<'f> Borrowed<'f> {
    #[inline(always)]
    pub(crate) fn new(family: &'f FamilyCore, series: Found) -> Self {
        Borrowed { family, series }
    }
}

impl sealed::Hold for Borrowed<'_> {
    #[inline(always)]
    fn family(&self) -> &FamilyCore {
        self.family
    }

    #[inline(always)]
    fn series(&self) -> Found {
        self.series
    }
}

/// Borrows a gauge's series from the family for a moment.
///
/// All threads share the value of a gauge, which must not become another gauge's between a look-up and a `set`: so a gauge
/// is pinned while it is borrowed, by one atomic read-modify-write on its own entry, and another at the end.
pub struct Pinned<'f>(Borrowed<'f>);

impl<'f> Pinned<'f> {
    /// Borrows a series that the caller has pinned.
    pub(crate) fn new(family: &'f FamilyCore, series: Found) -> Self {
        Pinned(Borrowed { family, series })
    }
}

impl sealed::Hold for Pinned<'_> {
    #[inline(always)]
    fn family(&self) -> &FamilyCore {
        self.0.family
    }

    #[inline(always)]
    fn series(&self) -> Found {
        self.0.series
    }
}

impl Clone for Pinned<'_> {
    fn clone(&self) -> Self {
        self.0.family.table().pin_again(self.0.series.entry);
        Pinned(self.0)
    }
}

impl Drop for Pinned<'_> {
    fn drop(&mut self) {
        self.0.family.table().unpin(self.0.series.entry);
    }
}

/// The cells of the held series.
#[inline(always)]
pub(crate) fn cells(hold: &impl Hold) -> CellId {
    CellId::from_bits(hold.series().life)
}

/// Shows a handle with its metric's name.
pub(crate) fn debug(
    formatter: &mut fmt::Formatter<'_>,
    instrument: &str,
    hold: &impl Hold,
    value: &dyn fmt::Debug,
) -> fmt::Result {
    let name = hold.family().descriptor().name.given();
    formatter
        .debug_struct(instrument)
        .field("name", &name)
        .field("value", value)
        .finish()
}
