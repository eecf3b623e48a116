//! What a registry could not keep, counted by reason. No loss goes without a count here.

use crate::{
    instrument::{
        bank::{self, CellId},
        space::{SPACE, Shape},
    },
    platform,
    sync::{AtomicU64, Mutex, Ordering},
};
use std::sync::Arc;

const ONE_COUNT: Shape = Shape { counts: 1, sum: false };

/// What a registry refused or lost since it was made, or since the process was forked; see
/// [`Registry::losses`](crate::Registry::losses).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Losses {
    /// Writes through a handle whose series had been removed: increments of integer counters by their amount,
    /// observations of histograms one by one, and all other writes one by one too. They are in no series. A write that is late by a hair is counted when its thread writes again.
    pub late_writes: u64,
    /// Values that an instrument does not take: a negative or NaN increment of a float counter, a NaN for a gauge's `add`,
    /// a histogram's observation that is not finite, a negative or NaN reading of an observable counter. See the
    /// instruments for what happens instead.
    pub invalid_values: u64,
    /// Look-ups that found their family, or their registry, full, and were given the overflow series. What is recorded
    /// there is kept, without its labels.
    pub past_limit: u64,
    /// Collections of an observable instrument or a collector that panicked; its families are missing from that snapshot.
    pub panics: u64,
    /// Families that a collector yielded and that were left out, because their names clash or are not valid.
    pub refused_families: u64,
}

/// Where they are counted.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// The generation of the process that the counts belong to; moved on under the lock.
    process: AtomicU64,
    starting_again: Mutex<()>,
    late_writes: Arc<AtomicU64>,
    invalid_values: AtomicU64,
    /// Counted in the thread's own cells: under a flood of new label values this is a hot path.
    past_limit: CellId,
    panics: AtomicU64,
    refused_families: AtomicU64,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Ledger {
            process: AtomicU64::new(platform::generation()),
            starting_again: Mutex::default(),
            late_writes: Arc::default(),
            invalid_values: AtomicU64::new(0),
            past_limit: SPACE.allocate(ONE_COUNT).unwrap_or(CellId::UNSET),
            panics: AtomicU64::new(0),
            refused_families: AtomicU64::new(0),
        }
    }

    /// Where writes to removed series are counted.
    pub(crate) fn late_writes(&self) -> &Arc<AtomicU64> {
        &self.of_this_process().late_writes
    }

    pub(crate) fn invalid_value(&self) {
        self.of_this_process().invalid_values.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn past_limit(&self) {
        // Only a process with no cell left has no count of this.
        let _ = bank::add(self.past_limit, 0, 1, Ordering::Relaxed);
    }

    pub(crate) fn panic(&self) {
        self.of_this_process().panics.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refused_family(&self) {
        self.of_this_process().refused_families.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Losses {
        let mut past_limit = [0];
        SPACE.sum(ONE_COUNT, &[self.past_limit], &mut past_limit, &mut []);
        let own = self.of_this_process();
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Losses {
            late_writes: read(&own.late_writes),
            invalid_values: read(&own.invalid_values),
            past_limit: past_limit[0],
            panics: read(&own.panics),
            refused_families: read(&own.refused_families),
        }
    }

    /// The ledger without what the parent lost, if this process was forked.
    #[inline]
    fn of_this_process(&self) -> &Self {
        // Acquire, the partner of the release below: what is added to a count comes after it is zero.
        if self.process.load(Ordering::Acquire) != platform::generation() {
            self.start_again();
        }
        self
    }

    #[cold]
    fn start_again(&self) {
        let _alone = self.starting_again.lock();
        if self.process.load(Ordering::Relaxed) == platform::generation() {
            return;
        }
        for count in [
            &*self.late_writes,
            &self.invalid_values,
            &self.panics,
            &self.refused_families,
        ] {
            count.store(0, Ordering::Relaxed);
        }
        self.process.store(platform::generation(), Ordering::Release);
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        SPACE.release(self.past_limit, &self.late_writes, &mut [0]);
    }
}
