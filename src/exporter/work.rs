//! What is to be sent of one collection: its families, and the last values of series that were removed before it.

use super::marks::can_be_increments;
use crate::{
    departure::Departure,
    descriptor::Descriptor,
    destination::{Destination, Temporality},
    snapshot::{FamilySnapshot, Snapshot},
};
use std::{collections::HashMap, sync::Arc, time::Duration};

/// One collection, as it waits in the queue.
pub(crate) struct Batch {
    pub(crate) snapshot: Snapshot,
    /// When it was taken, since the Unix epoch; later than any before it.
    pub(crate) time: Duration,
    /// The same by the monotonic clock.
    pub(crate) collected: Duration,
    /// Counts the collections of an exporter, from 1.
    pub(crate) sequence: u64,
    /// So many removals came before it.
    pub(crate) removals: u64,
    /// How much memory its values take.
    pub(crate) bytes: usize,
    /// How many series it has.
    pub(crate) points: u64,
}

/// A batch that is being sent.
pub(crate) struct Work {
    batch: Batch,
    departures: Vec<Arc<Departure>>,
    items: Vec<Planned>,
}

struct Planned {
    source: Source,
    temporality: Temporality,
}

#[derive(Clone, Copy)]
enum Source {
    Departure(usize),
    Family(usize),
}

/// A family of the batch, or one removed series.
#[derive(Clone, Copy)]
pub(crate) enum Item<'a> {
    Family(&'a FamilySnapshot),
    Departed(&'a Arc<Departure>),
}

impl<'a> Item<'a> {
    pub(crate) fn family(self) -> &'a FamilySnapshot {
        match self {
            Item::Family(family) => family,
            Item::Departed(departure) => &departure.family,
        }
    }

    /// The life of a removed series.
    pub(crate) fn departed(self) -> Option<u64> {
        match self {
            Item::Family(_) => None,
            Item::Departed(departure) => Some(departure.life),
        }
    }
}

/// Series of one item, in consecutive places, that are in a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) item: usize,
    pub(crate) first: usize,
    pub(crate) end: usize,
}

impl Work {
    /// What of a batch goes to a destination, behind the series that were removed and are not delivered yet: the removed ones of
    /// each family before the family, so that a label set that was removed and came back is sent in that order.
    pub(crate) fn new(batch: Batch, departures: Vec<Arc<Departure>>, destination: &dyn Destination) -> Self {
        let plan = |source, family: &FamilySnapshot| Planned {
            source,
            temporality: match can_be_increments(family.kind()) {
                true => destination.temporality(family),
                false => Temporality::Cumulative,
            },
        };
        let address = |family: &FamilySnapshot| Arc::as_ptr(&family.descriptor);
        let mut departed: HashMap<*const Descriptor, Vec<Planned>> = HashMap::new();
        for (index, departure) in departures.iter().enumerate() {
            let of_family = departed.entry(address(&departure.family)).or_default();
            of_family.push(plan(Source::Departure(index), &departure.family));
        }
        let mut items = Vec::with_capacity(departures.len() + batch.snapshot.families.len());
        for (index, family) in batch.snapshot.families.iter().enumerate() {
            items.extend(departed.remove(&address(family)).unwrap_or_default());
            items.push(plan(Source::Family(index), family));
        }
        // Of families that are gone as a whole.
        items.extend(departed.into_values().flatten());
        Work {
            batch,
            departures,
            items,
        }
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.batch.sequence
    }

    pub(crate) fn items(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn item(&self, index: usize) -> Item<'_> {
        match self.items[index].source {
            Source::Departure(index) => Item::Departed(&self.departures[index]),
            Source::Family(index) => Item::Family(&self.batch.snapshot.families[index]),
        }
    }

    pub(crate) fn is_delta(&self, index: usize) -> bool {
        self.items[index].temporality == Temporality::Delta
    }

    pub(crate) fn temporality(&self, index: usize) -> Temporality {
        self.items[index].temporality
    }

    /// Up to when an item's values count. A removed series' end before those of the batch, so that its successor's can follow
    /// at a server that tells times apart by the millisecond.
    #[inline]
    pub(crate) fn time(&self, index: usize) -> Duration {
        match self.item(index) {
            Item::Family(_) => self.batch.time,
            Item::Departed(departure) => {
                let latest = self.batch.time.saturating_sub(Duration::from_millis(1));
                departure.ended.min(latest)
            }
        }
    }

    pub(crate) fn families(&self) -> impl Iterator<Item = &FamilySnapshot> {
        self.batch.snapshot.families.iter()
    }

    pub(crate) fn departures(&self) -> impl Iterator<Item = &Arc<Departure>> {
        self.departures.iter()
    }
}
