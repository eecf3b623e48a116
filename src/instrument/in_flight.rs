//! A guard that counts what goes on while it lives.

/// What can count arrivals and departures.
pub trait Counts {
    #[doc(hidden)]
    fn arrived(&self);
    #[doc(hidden)]
    fn departed(&self);
}

/// Counts one more from its making to its drop, however the scope is left; made by `track` of a gauge or an up-down counter.
#[must_use = "it counts for as long as it is kept"]
#[derive(Debug)]
pub struct InFlight<I: Counts> {
    instrument: I,
}

impl<I: Counts> InFlight<I> {
    pub(crate) fn new(instrument: I) -> Self {
        instrument.arrived();
        InFlight { instrument }
    }
}

impl<I: Counts> Drop for InFlight<I> {
    fn drop(&mut self) {
        self.instrument.departed();
    }
}
