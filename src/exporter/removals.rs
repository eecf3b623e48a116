//! Removed series whose last values one exporter has not delivered.

use super::work::{Claim, Item, Work};
use crate::{
    departure::{Departure, Inbox},
    scrape::Filter,
};
use std::{
    collections::HashSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// The departures that are still to be delivered, the oldest first.
#[derive(Default)]
pub(crate) struct Removals {
    pending: Vec<Arc<Departure>>,
    /// How many the inbox had dropped when it was last asked.
    dropped: u64,
}

impl Removals {
    /// Takes what has come until a collection, if the filter shows it. How many were lost, because there was no room for them
    /// here or in the inbox: the oldest go.
    pub(crate) fn take(&mut self, inbox: &Inbox, until: u64, filter: Option<&Filter>) -> u64 {
        let departed = inbox.take(until).into_iter();
        self.pending
            .extend(departed.filter(|departure| shows(filter, departure)));
        let surplus = self.pending.len().saturating_sub(Inbox::CAPACITY);
        self.pending.drain(..surplus);
        let dropped = inbox.dropped();
        let missed = dropped - self.dropped;
        self.dropped = dropped;
        missed + surplus as u64
    }

    pub(crate) fn pending(&self) -> &[Arc<Departure>] {
        &self.pending
    }

    /// Of what was claimed, what is a removed series.
    pub(crate) fn of(work: &Work, claims: impl Iterator<Item = Claim>) -> Vec<Arc<Departure>> {
        claims
            .filter_map(|claim| match work.item(claim.item) {
                Item::Departed(departure) => Some(departure.clone()),
                Item::Family(_) => None,
            })
            .collect()
    }

    /// Forgets those that are delivered, or will never be.
    pub(crate) fn forget(&mut self, departed: &[Arc<Departure>]) {
        if !departed.is_empty() {
            let departed: HashSet<*const Departure> = departed.iter().map(Arc::as_ptr).collect();
            self.pending
                .retain(|departure| !departed.contains(&Arc::as_ptr(departure)));
        }
    }
}

/// Whether a filter shows a removed series. Where it panics, the series is not lost for that.
fn shows(filter: Option<&Filter>, departure: &Departure) -> bool {
    let family = &departure.family;
    let shows = |filter: &Filter| filter.shows_family(family) && family.series().all(|series| filter.shows(series));
    catch_unwind(AssertUnwindSafe(|| filter.is_none_or(shows))).unwrap_or(true)
}
