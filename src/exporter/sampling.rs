//! Samples of distributions for an exporter that sends every one of them: from the logs of families to items of a work.
//!
//! Samples are drained when the newest collection is begun to be sent, so what waits is bounded by the logs' own queues alone. A
//! sample knows its series by its life. The labels are in the collection, or among the removed series; a series that is younger
//! than both is in the next collection, for which its samples are held.

use super::work::Batch;
use crate::{
    departure::Departure,
    family::query,
    samples::{Sample, SampleReader},
    snapshot::{FamilySnapshot, Rows, Values},
};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

/// What an exporter knows of samples.
pub(crate) struct Sampling {
    reader: SampleReader,
    /// Samples of series that were not known yet, by the name of their family.
    held: HashMap<Box<str>, Vec<Sample>>,
    /// How many the logs had no room for, as far as that is told.
    told: u64,
}

/// What was drained for a collection.
#[derive(Default)]
pub(crate) struct Drained {
    /// Families of which each place has samples.
    pub(crate) families: Vec<FamilySnapshot>,
    /// How many samples were lost since the last time.
    pub(crate) lost: u64,
}

impl Sampling {
    pub(crate) fn new(reader: SampleReader) -> Self {
        Sampling {
            reader,
            held: HashMap::new(),
            told: 0,
        }
    }

    /// Whether a family is sent as samples.
    pub(crate) fn takes(family: &FamilySnapshot) -> bool {
        family.descriptor.samples.is_some()
    }

    /// Takes what was observed until now in the families of a collection, by series that are in it or were removed.
    pub(crate) fn drain(&mut self, batch: &Batch, departures: &[Arc<Departure>]) -> Drained {
        let mut drained = Drained::default();
        let mut held = std::mem::take(&mut self.held);
        let mut fresh = Vec::new();
        for family in families(batch, departures) {
            self.reader.drain(&family.descriptor, &mut fresh);
            let late = held.remove(family.name()).unwrap_or_default();
            if fresh.is_empty() && late.is_empty() {
                continue;
            }
            let lives = fresh.iter().chain(&late).map(|sample| sample.life).collect();
            let known = known(family, departures, &lives);
            let mut values: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
            for Sample { life, value } in late {
                match known.contains_key(&life) {
                    true => values.entry(life).or_default().push(value),
                    // It was removed in the moment in which this was observed.
                    false => drained.lost += 1,
                }
            }
            for sample in fresh.drain(..) {
                match known.contains_key(&sample.life) {
                    true => values.entry(sample.life).or_default().push(sample.value),
                    false => self.held.entry(family.name().into()).or_default().push(sample),
                }
            }
            drained.families.extend(given(family, &known, values));
        }
        for hidden in &batch.hidden {
            // Nobody wants them, and nobody is to be told that they found no room.
            self.reader.drain(hidden, &mut fresh);
            fresh.clear();
        }
        // Of families that are no more.
        drained.lost += held.values().map(Vec::len).sum::<usize>() as u64;
        let lost = self.reader.dropped();
        drained.lost += lost.saturating_sub(self.told);
        self.told = self.told.max(lost);
        drained
    }
}

/// The families with samples in a collection, and those that only what was removed is left of.
fn families<'a>(batch: &'a Batch, departures: &'a [Arc<Departure>]) -> Vec<&'a FamilySnapshot> {
    let mut families: Vec<&FamilySnapshot> = Vec::new();
    let departed = departures.iter().map(|departure| &departure.family);
    for family in batch.snapshot.families().chain(departed) {
        let is_same = |other: &&FamilySnapshot| Arc::ptr_eq(&other.descriptor, &family.descriptor);
        if Sampling::takes(family) && !families.iter().any(is_same) {
            families.push(family);
        }
    }
    families
}

/// The series of a family with these lives: their label values as words, or none for that of all that is past the limit.
fn known(
    family: &FamilySnapshot,
    departures: &[Arc<Departure>],
    lives: &HashSet<u64>,
) -> HashMap<u64, Option<Vec<u64>>> {
    let of_family = |departure: &&Arc<Departure>| Arc::ptr_eq(&departure.family.descriptor, &family.descriptor);
    let live = (0..family.rows.places()).map(|place| (family, place, family.lives.get(place).copied()));
    let departed = departures.iter().filter(of_family);
    let departed = departed.map(|departure| (&departure.family, 0, Some(departure.life)));
    let series = live.chain(departed).filter_map(|(family, place, life)| {
        let life = life.filter(|life| lives.contains(life))?;
        let row = family.rows.row(place, family)?;
        let values: Vec<&str> = row.values().collect();
        let words = match row.overflow {
            true => None,
            false => Some(query::words(&values)?),
        };
        Some((life, words))
    });
    series.collect()
}

/// The samples of a family's series as families of their own: one for the series with labels, and one for that of all that is past
/// the limit.
fn given(
    family: &FamilySnapshot,
    known: &HashMap<u64, Option<Vec<u64>>>,
    values: BTreeMap<u64, Vec<f64>>,
) -> Vec<FamilySnapshot> {
    let of = |rows, samples, ends| FamilySnapshot {
        descriptor: family.descriptor.clone(),
        forked: family.forked,
        rows,
        values: Values::Samples { samples, ends },
        lives: Vec::new(),
    };
    let (mut words, mut word_ends) = (Vec::new(), Vec::new());
    let (mut samples, mut ends) = (Vec::new(), Vec::new());
    let mut families = Vec::new();
    for (life, values) in values {
        match known.get(&life).and_then(Option::as_ref) {
            Some(series) => {
                words.extend(series);
                word_ends.push(words.len() as u32);
                samples.extend(values);
                ends.push(samples.len());
            }
            None => {
                let rows = Rows::Departed {
                    words: Arc::new([]),
                    birth: 0,
                    overflow: true,
                };
                let end = values.len();
                families.push(of(rows, values, vec![end]));
            }
        }
    }
    if !ends.is_empty() {
        let rows = Rows::Given {
            words: words.into(),
            ends: word_ends.into(),
        };
        families.push(of(rows, samples, ends));
    }
    families
}
