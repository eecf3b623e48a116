//! A guard that counts what goes on while it lives.

use crate::platform;

/// What can count arrivals and departures.
pub trait Counts {
    #[doc(hidden)]
    fn arrived(&self);
    /// `here` says whether the arrival was counted in this process, and not before it was forked.
    #[doc(hidden)]
    fn departed(&self, here: bool);
}

/// Counts one more from its making to its drop, however the scope is left; made by `track` of a gauge or an up-down counter.
///
/// In the child of a fork, what an up-down counter tracked before the fork is no longer counted, and its end is not either.
#[must_use = "it counts for as long as it is kept"]
#[derive(Debug)]
pub struct InFlight<I: Counts> {
    instrument: I,
    /// The generation of the process it was made in.
    process: u64,
}

impl<I: Counts> InFlight<I> {
    pub(crate) fn new(instrument: I) -> Self {
        instrument.arrived();
        InFlight {
            instrument,
            process: platform::generation(),
        }
    }
}

impl<I: Counts> Drop for InFlight<I> {
    fn drop(&mut self) {
        self.instrument.departed(self.process == platform::generation());
    }
}
