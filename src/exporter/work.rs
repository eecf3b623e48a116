//! What is to be sent of one collection: its families, and the last values of series that were removed before it.

use super::{marks::can_be_increments, points::Position, sampling::Sampling};
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
    /// Families with samples that the exporter's filter hides.
    pub(crate) hidden: Vec<Arc<Descriptor>>,
}

/// A batch that is being sent.
pub(crate) struct Work {
    batch: Batch,
    departures: Vec<Arc<Departure>>,
    /// Up to when the values of each departure count.
    ends: Vec<Duration>,
    /// Families of which each place has samples.
    samples: Vec<FamilySnapshot>,
    items: Vec<Planned>,
    /// How many places there are in the items before each, and in all.
    places: Vec<usize>,
}

struct Planned {
    source: Source,
    temporality: Temporality,
}

#[derive(Clone, Copy)]
enum Source {
    Departure(usize),
    Family(usize),
    Samples(usize),
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

/// A part of one series' increment that is in a payload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Part {
    pub(crate) item: usize,
    pub(crate) place: usize,
    /// Of a histogram.
    pub(crate) bucket: usize,
    pub(crate) count: u64,
    pub(crate) sum: f64,
}

impl Part {
    /// The series that it is of.
    pub(crate) fn claim(&self) -> Claim {
        Claim {
            item: self.item,
            first: self.place,
            end: self.place + 1,
        }
    }
}

impl Work {
    /// What of a batch goes to a destination, behind the series that were removed and are not delivered yet: the removed ones of
    /// each family before the family, so that a label set that was removed and came back is sent in that order. What was sent
    /// before it counts up to `after`. Families of which there are `samples`, even if there are none just now, go as these alone.
    pub(crate) fn new(
        mut batch: Batch,
        departures: Vec<Arc<Departure>>,
        samples: Option<Vec<FamilySnapshot>>,
        after: Duration,
        destination: &dyn Destination,
    ) -> Self {
        let counted = |family: &FamilySnapshot| samples.is_none() || !Sampling::takes(family);
        let ends = ends(&departures, after, &mut batch.time);
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
            if !counted(&departure.family) {
                continue;
            }
            let of_family = departed.entry(address(&departure.family)).or_default();
            of_family.push(plan(Source::Departure(index), &departure.family));
        }
        let mut items = Vec::with_capacity(departures.len() + batch.snapshot.families.len());
        for (index, family) in batch.snapshot.families.iter().enumerate() {
            if !counted(family) {
                continue;
            }
            items.extend(departed.remove(&address(family)).unwrap_or_default());
            items.push(plan(Source::Family(index), family));
        }
        // Of families that are gone as a whole.
        items.extend(departed.into_values().flatten());
        let samples = samples.unwrap_or_default();
        items.extend((0..samples.len()).map(|index| Planned {
            source: Source::Samples(index),
            temporality: Temporality::Cumulative,
        }));
        let mut work = Work {
            batch,
            departures,
            ends,
            samples,
            items,
            places: vec![0],
        };
        let mut places = 0;
        for index in 0..work.items() {
            places += work.item(index).family().rows.places();
            work.places.push(places);
        }
        work
    }

    /// How much of it is before a position, from 0 to 1.
    pub(crate) fn done(&self, position: Position) -> f64 {
        let all = self.places[self.items()].max(1);
        (self.places[position.item.min(self.items())] + position.place).min(all) as f64 / all as f64
    }

    /// How many of the claimed points are values as they stand, of kinds that have no increments.
    pub(crate) fn standing(&self, claims: &[Claim]) -> usize {
        let stands = |claim: &&Claim| !can_be_increments(self.item(claim.item).family().kind());
        claims.iter().filter(stands).map(|claim| claim.end - claim.first).sum()
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.batch.sequence
    }

    pub(crate) fn items(&self) -> usize {
        self.items.len()
    }

    /// How many items come before those of samples, which are the last.
    pub(crate) fn items_without_samples(&self) -> usize {
        self.items.len() - self.samples.len()
    }

    pub(crate) fn item(&self, index: usize) -> Item<'_> {
        match self.items[index].source {
            Source::Departure(index) => Item::Departed(&self.departures[index]),
            Source::Family(index) => Item::Family(&self.batch.snapshot.families[index]),
            Source::Samples(index) => Item::Family(&self.samples[index]),
        }
    }

    pub(crate) fn is_delta(&self, index: usize) -> bool {
        self.items[index].temporality == Temporality::Delta
    }

    pub(crate) fn temporality(&self, index: usize) -> Temporality {
        self.items[index].temporality
    }

    /// Up to when an item's values count: see [`ends`].
    #[inline]
    pub(crate) fn time(&self, index: usize) -> Duration {
        match self.items[index].source {
            Source::Family(_) | Source::Samples(_) => self.batch.time,
            Source::Departure(index) => self.ends[index],
        }
    }

    /// Up to when the newest of its values count.
    pub(crate) fn newest(&self) -> Duration {
        self.batch.time
    }

    pub(crate) fn families(&self) -> impl Iterator<Item = &FamilySnapshot> {
        self.batch.snapshot.families.iter()
    }

    pub(crate) fn departures(&self) -> impl Iterator<Item = &Arc<Departure>> {
        self.departures.iter()
    }
}

/// What servers take for one series: its family, and its labels.
type LabelSet<'a> = (*const Descriptor, Vec<(&'a str, &'a str)>);

/// Two times that every server tells apart.
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// Up to when the values of removed series count: about when they were removed, but of one label set in the order of its
/// lives, a tick apart, later than what was sent before and earlier than the batch.
///
/// Servers drop what is not later than the newest that they have of a label set, and many do not say so: Prometheus, and the
/// Collector where it adds increments up. Where the lives of a label set are more than fit, `time` is moved on.
fn ends(departures: &[Arc<Departure>], after: Duration, time: &mut Duration) -> Vec<Duration> {
    let mut lives: HashMap<LabelSet<'_>, Vec<usize>> = HashMap::new();
    for (index, departure) in departures.iter().enumerate() {
        let labels = departure
            .family
            .series()
            .flat_map(|series| series.attributes())
            .collect();
        let label_set = (Arc::as_ptr(&departure.family.descriptor), labels);
        lives.entry(label_set).or_default().push(index);
    }
    let most = lives.values().map(Vec::len).max().unwrap_or(0);
    *time = (*time).max(after + ticks(most + 1));
    let mut ends: Vec<Duration> = departures.iter().map(|departure| departure.ended).collect();
    for lives in lives.values() {
        let mut latest = *time;
        for life in lives.iter().rev() {
            latest = ends[*life].min(latest.saturating_sub(TICK));
            ends[*life] = latest;
        }
        for (place, life) in lives.iter().enumerate() {
            ends[*life] = ends[*life].max(after + ticks(place + 1));
        }
    }
    ends
}

fn ticks(count: usize) -> Duration {
    TICK * u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Registry, departure::Inbox, testing::ManualClock};

    fn ms(time: u64) -> Duration {
        Duration::from_millis(time)
    }

    /// What departs of a family when its labels come and go at these times.
    fn departures(lives: &[(&str, Duration)]) -> Vec<Arc<Departure>> {
        let clock = ManualClock::new();
        let registry = Registry::builder().clock(clock.clone()).build().unwrap();
        let visits = registry.counter("visits_total", "Visits.").labels(["user"]);
        let visits = visits.register().unwrap();
        let inbox: Arc<Inbox> = registry.attach();
        for (user, time) in lives {
            clock.set_unix(*time);
            visits.with([*user]).inc();
            assert!(visits.remove([*user]));
        }
        inbox.take(inbox.arrived())
    }

    #[test]
    fn removed_series_end_when_they_ended_if_that_can_be_told() {
        let departures = departures(&[("a", ms(120)), ("b", ms(120)), ("a", ms(130))]);
        let mut time = ms(200);
        assert_eq!(ends(&departures, ms(100), &mut time), [ms(120), ms(120), ms(130)]);
        assert_eq!(time, ms(200));
    }

    #[test]
    fn lives_of_one_label_set_end_a_tick_apart_between_what_was_sent_and_what_is() {
        let now = ms(200) - Duration::from_micros(100);
        let departures = departures(&[("a", now), ("b", now), ("a", now), ("a", ms(90))]);
        let mut time = ms(200);
        assert_eq!(
            ends(&departures, ms(100), &mut time),
            [ms(101), ms(199), ms(102), ms(103)]
        );
        // It was removed before what was sent last, which could not know of it, or could not be sent with it.
        let mut time = ms(200);
        assert_eq!(
            ends(&departures, ms(198), &mut time),
            [ms(199), now.max(ms(199)), ms(200), ms(201)]
        );
        assert_eq!(time, ms(202));
    }

    #[test]
    fn the_clock_may_be_at_its_beginning() {
        let departures = departures(&[("a", ms(0)), ("a", ms(0))]);
        let mut time = ms(0);
        assert_eq!(ends(&departures, ms(0), &mut time), [ms(1), ms(2)]);
        assert_eq!(time, ms(3));
    }
}
