//! What is always the same of a series, written once and kept from one request to the next.
//!
//! It is kept by the family and the series' [key](crate::SeriesKey), so a series that took another's place never has
//! its attributes. What was not asked for in [`KEPT`] exports is forgotten, families and series alike: so as much is
//! kept as lives, and for a while what has gone.

use crate::{descriptor::Descriptor, descriptor::Kind, exporter::points::Point, snapshot::FamilySnapshot};
use std::{collections::HashMap, sync::Arc, time::Duration};

/// All that is kept.
#[derive(Default)]
pub(super) struct Attributes {
    /// By the address of their descriptors, which are kept so that no other family can have it.
    families: HashMap<usize, FamilyAttributes>,
    /// Counts the exports, by the time of their points.
    export: u32,
    time: Duration,
    swept: u32,
}

/// What is kept of one family.
pub(super) struct FamilyAttributes {
    descriptor: Arc<Descriptor>,
    /// By the slots of the series.
    slots: Vec<Slot>,
    /// For a point whose series is not known again.
    scratch: Vec<u8>,
    export: u32,
}

#[derive(Clone, Default)]
struct Slot {
    /// Whose they are; 0 for nobody's.
    life: u64,
    /// When they were asked for last.
    export: u32,
    bytes: Box<[u8]>,
}

/// So many exports what is not asked for is kept.
pub(super) const KEPT: u32 = 64;

impl Attributes {
    /// Notes the time of a point: a later one than the last is another export's.
    pub(super) fn see(&mut self, time: Duration) {
        if time > self.time {
            self.export = self.export.wrapping_add(1);
        }
        // A clock that was set back does not stop the count.
        self.time = time;
        if self.export.wrapping_sub(self.swept) >= KEPT {
            self.sweep();
        }
    }

    /// What is kept of a family.
    pub(super) fn of_family(&mut self, family: &FamilySnapshot) -> &mut FamilyAttributes {
        let descriptor = &family.descriptor;
        let known = self.families.entry(Arc::as_ptr(descriptor) as usize);
        let known = known.or_insert_with(|| FamilyAttributes {
            descriptor: descriptor.clone(),
            slots: Vec::new(),
            scratch: Vec::new(),
            export: 0,
        });
        known.export = self.export;
        known
    }

    /// How many families there are, and how many series in them, to a test.
    #[cfg(test)]
    pub(super) fn kept(&self) -> (usize, usize) {
        let series = |family: &FamilyAttributes| family.slots.iter().filter(|slot| slot.life != 0).count();
        (self.families.len(), self.families.values().map(series).sum())
    }

    #[cold]
    fn sweep(&mut self) {
        let now = self.export;
        let is_recent = |export: u32| now.wrapping_sub(export) < KEPT;
        self.families.retain(|_, family| is_recent(family.export));
        for family in self.families.values_mut() {
            let slots = &mut family.slots;
            for slot in slots.iter_mut().filter(|slot| !is_recent(slot.export)) {
                *slot = Slot::default();
            }
            let end = slots.iter().rposition(|slot| slot.life != 0);
            slots.truncate(end.map_or(0, |last| last + 1));
            // A family that has shrunk gives its memory back; one that breathes keeps it.
            if slots.capacity() > 4 * slots.len() {
                slots.shrink_to_fit();
            }
        }
        self.swept = now;
    }
}

impl FamilyAttributes {
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
            self.scratch.clear();
            write(point, self.descriptor.kind, &mut self.scratch);
            if key.slot >= self.slots.len() {
                self.slots.resize(key.slot + 1, Slot::default());
            }
            self.slots[key.slot].life = key.life;
            self.slots[key.slot].bytes = self.scratch.as_slice().into();
        }
        let slot = &mut self.slots[key.slot];
        slot.export = self.export;
        &slot.bytes
    }
}
