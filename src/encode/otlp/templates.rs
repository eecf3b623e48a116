//! What is always the same of a series' points, written once and kept from one request to the next.
//!
//! It is kept by the family and the series' [key](crate::SeriesKey), so a series that took another's place never has
//! its template. What was not asked for in [`ERA`] exports or some more is forgotten, families and series alike: so as
//! much is kept as lives, and for a while what has gone.

use crate::{
    descriptor::{Descriptor, Kind},
    exporter::points::{Point, SeriesKey},
    snapshot::FamilySnapshot,
};
use std::{collections::HashMap, sync::Arc, time::Duration};

/// All that is kept.
#[derive(Default)]
pub(super) struct Templates {
    /// By the address of their descriptors, which are kept so that no other family can have it.
    families: HashMap<usize, FamilyTemplates>,
    /// The time of the last export's points, and how many exports the era has had.
    time: Duration,
    exports: u32,
    era: u32,
}

/// What is kept of one family.
pub(super) struct FamilyTemplates {
    descriptor: Arc<Descriptor>,
    /// By the slots of the series.
    slots: Vec<Slot>,
    /// What is kept of all series, mostly in the order in which they are asked for: memory that is read in order is
    /// near when it is needed.
    bytes: Vec<u8>,
    /// How many of the bytes are nobody's any more.
    dead: usize,
    /// For a point whose series is not known again.
    scratch: Vec<u8>,
    /// In which it was asked for last.
    era: u32,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    /// Whose it is; 0 for nobody's.
    life: u64,
    /// Where its bytes are, and how many.
    start: usize,
    len: u32,
    /// In which it was asked for last.
    era: u32,
}

/// How many exports an era has. What was not asked for in a whole one is forgotten at its end.
pub(super) const ERA: u32 = 64;

impl Templates {
    /// Notes the time of a point: a later one than the last is another export's.
    pub(super) fn see(&mut self, time: Duration) {
        self.exports += u32::from(time > self.time);
        // A clock that was set back does not stop the count.
        self.time = time;
        if self.exports > ERA {
            self.forget();
            self.exports = 1;
        }
    }

    /// What is kept of a family.
    pub(super) fn of_family(&mut self, family: &FamilySnapshot) -> &mut FamilyTemplates {
        let descriptor = &family.descriptor;
        let known = self.families.entry(Arc::as_ptr(descriptor) as usize);
        let known = known.or_insert_with(|| FamilyTemplates {
            descriptor: descriptor.clone(),
            slots: Vec::new(),
            bytes: Vec::new(),
            dead: 0,
            scratch: Vec::new(),
            era: 0,
        });
        known.era = self.era;
        known
    }

    /// How many families there are, and how many series in them, to a test.
    #[cfg(test)]
    pub(super) fn kept(&self) -> (usize, usize) {
        let series = |family: &FamilyTemplates| family.slots.iter().filter(|slot| slot.life != 0).count();
        (self.families.len(), self.families.values().map(series).sum())
    }

    /// Ends the era.
    #[cold]
    fn forget(&mut self) {
        let over = self.era;
        self.families.retain(|_, family| family.era == over);
        for family in self.families.values_mut() {
            for slot in family.slots.iter_mut().filter(|slot| slot.era != over) {
                family.dead += slot.len as usize;
                *slot = Slot::default();
            }
            family.compact();
        }
        self.era = over.wrapping_add(1);
    }
}

impl FamilyTemplates {
    /// What `write` writes for a point, now or earlier.
    #[inline]
    pub(super) fn of(&mut self, point: &Point<'_>, write: fn(&Point<'_>, Kind, &mut Vec<u8>)) -> &[u8] {
        // A life of 0 is no name: several series may have it.
        let Some(key) = point.key().filter(|key| key.life != 0) else {
            self.scratch.clear();
            write(point, self.descriptor.kind, &mut self.scratch);
            return &self.scratch;
        };
        if self.slots.get(key.slot).is_none_or(|slot| slot.life != key.life) {
            self.keep(key, point, write);
        }
        let slot = &mut self.slots[key.slot];
        // Not written in each export: memory that is only read is faster.
        if slot.era != self.era {
            slot.era = self.era;
        }
        &self.bytes[slot.start..][..slot.len as usize]
    }

    #[cold]
    fn keep(&mut self, key: SeriesKey, point: &Point<'_>, write: fn(&Point<'_>, Kind, &mut Vec<u8>)) {
        if key.slot >= self.slots.len() {
            self.slots.resize(key.slot + 1, Slot::default());
        }
        self.dead += self.slots[key.slot].len as usize;
        // Half of the memory at most is for what is gone.
        if self.dead > self.bytes.len() / 2 {
            self.slots[key.slot] = Slot::default();
            self.compact();
            self.slots.resize(self.slots.len().max(key.slot + 1), Slot::default());
        }
        let start = self.bytes.len();
        write(point, self.descriptor.kind, &mut self.bytes);
        self.slots[key.slot] = Slot {
            life: key.life,
            start,
            len: u32::try_from(self.bytes.len() - start).expect("label values are shorter than 64 KiB, and few"),
            era: self.era,
        };
    }

    /// Gives back the memory of what is gone.
    fn compact(&mut self) {
        let end = self.slots.iter().rposition(|slot| slot.life != 0);
        self.slots.truncate(end.map_or(0, |last| last + 1));
        if self.dead > 0 {
            let mut bytes = Vec::with_capacity(self.bytes.len() - self.dead);
            for slot in self.slots.iter_mut().filter(|slot| slot.life != 0) {
                let start = bytes.len();
                bytes.extend_from_slice(&self.bytes[slot.start..][..slot.len as usize]);
                slot.start = start;
            }
            self.bytes = bytes;
            self.dead = 0;
        }
        // A family that has shrunk gives the rest back too; one that breathes keeps it.
        if self.slots.capacity() > 4 * self.slots.len() {
            self.slots.shrink_to_fit();
        }
    }
}
