//! Collects when it is time, and when a flush asks for it; it never sends.

use super::{
    sampling::Sampling,
    schedule::Schedule,
    state::Shared,
    work::{Batch, TICK},
};
use crate::{
    scrape::Filter,
    snapshot::{FamilySnapshot, Snapshot},
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

/// The collecting side of an exporter.
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    schedule: Schedule,
    filter: Option<Filter>,
    without_own_metrics: bool,
    collections: u64,
    /// The time that the last collection was given.
    last: Duration,
}

impl Ticker {
    pub(crate) fn new(
        shared: Arc<Shared>,
        schedule: Schedule,
        filter: Option<Filter>,
        without_own_metrics: bool,
    ) -> Self {
        Ticker {
            shared,
            schedule,
            filter,
            without_own_metrics,
            collections: 0,
            last: Duration::ZERO,
        }
    }

    /// Collects if it is time; until when there is nothing to do, or `None` when it is to end.
    pub(crate) fn step(&mut self) -> Option<Duration> {
        let (stop, stopping) = self.shared.with(|state| (state.stop, state.stopping.is_some()));
        if stop {
            if self.shared.last_collection_until().is_some() {
                self.collect();
            }
            return None;
        }
        let now = self.shared.clock.monotonic();
        self.shared.settle_flushes(now);
        if !stopping && now >= self.schedule.next() {
            if self.schedule.advance(now) {
                self.shared.with(|state| state.thawed = true);
            }
            self.collect();
        } else if self.shared.wants_collection() {
            self.collect();
        }
        let next = match stopping {
            true => Duration::MAX,
            false => self.schedule.next(),
        };
        Some(
            self.shared
                .next_flush_deadline()
                .map_or(next, |deadline| deadline.min(next)),
        )
    }

    fn collect(&mut self) {
        let asked_before = self.shared.last_flush();
        let began = self.shared.clock.monotonic();
        // In this order: a series that was removed before the cut is not in the snapshot, and one that is removed later is among the
        // removals of the next.
        let removals = self.shared.inbox.arrived();
        let mut snapshot = self.shared.registry.snapshot_for_export();
        // Here, because what is never sent is neither kept nor lost.
        if self.without_own_metrics {
            snapshot.families.retain(|family| !family.descriptor.own);
        }
        let mut hidden = Vec::new();
        if let Some(filter) = &self.filter {
            // A family whose filter panics is left out, as it may be meant to be.
            let shows = |family: &FamilySnapshot| catch_unwind(AssertUnwindSafe(|| filter.shows_family(family)));
            snapshot.families.retain(|family| {
                let is_shown = shows(family).unwrap_or(false);
                if !is_shown && Sampling::takes(family) {
                    hidden.push(family.descriptor.clone());
                }
                is_shown
            });
        }
        self.collections += 1;
        // A wall clock that was set back does not turn the order of collections: until it has caught up, they are so far apart
        // that servers can tell them from each other, and from the end of a series in between.
        self.last = snapshot.taken.max(self.last + 2 * TICK);
        let batch = Batch {
            time: self.last,
            collected: began,
            sequence: self.collections,
            removals,
            bytes: bytes(&snapshot),
            points: points(&snapshot),
            hidden,
            snapshot,
        };
        let ended = self.shared.clock.monotonic();
        self.shared
            .telemetry
            .collection_duration
            .observe(ended.saturating_sub(began).as_secs_f64());
        self.shared.push(batch, asked_before);
    }
}

fn points(snapshot: &Snapshot) -> u64 {
    snapshot.families.iter().map(|family| family.rows.places() as u64).sum()
}

fn bytes(snapshot: &Snapshot) -> usize {
    snapshot.families.iter().map(FamilySnapshot::bytes).sum()
}
