//! A fixed piece of a hash table: groups of seven places, each group one cache line.
//!
//! A group starts with a word of control bytes, one a place: empty, left behind by a removal, or seven bits of the hash.
//! All seven are compared at once within that word, so that a look-up reads one line here and then the one entry that
//! it is most likely after. Entries are bare addresses in this file: only the table follows them.
//!
//! One writer at a time, under the table's lock; any number of readers. A writer stores an address before the control
//! byte that announces it, and the reader's acquiring load of the control word is the partner of that release. A reader that
//! holds on to an old control word may still come to a new address, which is why a miss proves nothing by itself.

use crate::sync::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

const GROUPS: usize = if cfg!(loom) { 2 } else { 32 };

/// Places in a group: what a cache line holds beside the control word.
const PLACES: usize = if cfg!(loom) { 2 } else { 7 };

/// Beyond so many used places a segment is split: a group seldom overflows into the next below that.
pub(crate) const CROWDED: usize = GROUPS * PLACES * 9 / 10;

const EMPTY: u8 = 0;
const REMOVED: u8 = 1;
/// Marks a byte that holds bits of a hash.
const TAKEN: u8 = 0x80;

const EVERY_BYTE: u64 = 0x0101_0101_0101_0101;

/// Empty places; the eighth byte has no place and never matches.
const FRESH: u64 = (EVERY_BYTE * REMOVED as u64) << (8 * PLACES);

/// The high bits of the bytes that have places.
const PLACE_BITS: u64 = (EVERY_BYTE * TAKEN as u64) >> (8 * (8 - PLACES));

/// Words of an entry as the segment knows it: an address.
pub(crate) type Address = *mut AtomicU64;

#[repr(align(64))]
struct Group {
    control: AtomicU64,
    addresses: [AtomicPtr<AtomicU64>; PLACES],
}

pub(crate) struct Segment {
    groups: [Group; GROUPS],
    /// How many leading bits of the hash all entries here share; the writer's.
    depth: AtomicUsize,
    /// Places that are taken or were; the writer's.
    used: AtomicUsize,
}

impl Segment {
    pub(crate) fn new(depth: usize) -> Self {
        let group = |_| Group {
            control: AtomicU64::new(FRESH),
            addresses: std::array::from_fn(|_| AtomicPtr::new(std::ptr::null_mut())),
        };
        Segment {
            groups: std::array::from_fn(group),
            depth: AtomicUsize::new(depth),
            used: AtomicUsize::new(0),
        }
    }

    /// The first address, of those that bits of the hash make likely, for which `is_it` says so.
    #[inline(always)]
    pub(crate) fn find<T>(&self, hash: u64, mut is_it: impl FnMut(Address) -> Option<T>) -> Option<T> {
        let mut at = home(hash);
        for _ in 0..GROUPS {
            let group = &self.groups[at];
            let control = group.control.load(Ordering::Acquire);
            let mut likely = zero_bytes(control ^ (EVERY_BYTE * mark(hash) as u64)) & PLACE_BITS;
            while likely != 0 {
                let place = (likely.trailing_zeros() / 8) as usize;
                let found = is_it(group.addresses[place].load(Ordering::Relaxed));
                if found.is_some() {
                    return found;
                }
                likely &= likely - 1;
            }
            if zero_bytes(control) != 0 {
                return None;
            }
            at = (at + 1) % GROUPS;
        }
        None
    }

    pub(crate) fn depth(&self) -> usize {
        self.depth.load(Ordering::Relaxed)
    }

    pub(crate) fn set_depth(&self, depth: usize) {
        self.depth.store(depth, Ordering::Relaxed);
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Puts an address in; false when every place is taken.
    pub(crate) fn insert(&self, hash: u64, address: Address) -> bool {
        for step in 0..GROUPS {
            let group = &self.groups[(home(hash) + step) % GROUPS];
            let control = group.control.load(Ordering::Relaxed).to_le_bytes();
            let Some(place) = control[..PLACES].iter().position(|byte| byte & TAKEN == 0) else {
                continue;
            };
            if control[place] == EMPTY {
                self.used.store(self.used() + 1, Ordering::Relaxed);
            }
            group.addresses[place].store(address, Ordering::Relaxed);
            group.set(place, mark(hash));
            return true;
        }
        false
    }

    /// Takes an address out; false when it is not here.
    pub(crate) fn remove(&self, hash: u64, address: Address) -> bool {
        for step in 0..GROUPS {
            let group = &self.groups[(home(hash) + step) % GROUPS];
            let control = group.control.load(Ordering::Relaxed).to_le_bytes();
            let taken = |place: &usize| {
                control[*place] & TAKEN != 0 && group.addresses[*place].load(Ordering::Relaxed) == address
            };
            if let Some(place) = (0..PLACES).find(taken) {
                // A search goes on past a group without empty places, and must go on past this one if it did before.
                if control[..PLACES].contains(&EMPTY) {
                    group.set(place, EMPTY);
                    self.used.store(self.used() - 1, Ordering::Relaxed);
                } else {
                    group.set(place, REMOVED);
                }
                return true;
            }
            if control[..PLACES].contains(&EMPTY) {
                return false;
            }
        }
        false
    }

    /// Every address.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        let of_group = |group: &Group| -> Vec<Address> {
            let control = group.control.load(Ordering::Relaxed).to_le_bytes();
            let taken = (0..PLACES).filter(|place| control[*place] & TAKEN != 0);
            taken
                .map(|place| group.addresses[place].load(Ordering::Relaxed))
                .collect()
        };
        self.groups.iter().flat_map(of_group).collect()
    }

    /// Empties every place.
    pub(crate) fn clear(&self) {
        for group in &self.groups {
            // Relaxed: it announces nothing, and whether entries move is told by the table's epoch.
            group.control.store(FRESH, Ordering::Relaxed);
        }
        self.used.store(0, Ordering::Relaxed);
    }
}

impl Group {
    fn set(&self, place: usize, byte: u8) {
        let mut control = self.control.load(Ordering::Relaxed).to_le_bytes();
        control[place] = byte;
        self.control.store(u64::from_le_bytes(control), Ordering::Release);
    }
}

#[inline(always)]
fn home(hash: u64) -> usize {
    hash as usize % GROUPS
}

/// The bits of the hash that stand in the control byte: neither those that pick the group nor, in a table of any likely
/// size, those that pick the segment.
#[inline(always)]
fn mark(hash: u64) -> u8 {
    (hash >> 5) as u8 | TAKEN
}

/// The high bit of each byte that is zero, and perhaps of bytes above the first such.
#[inline(always)]
fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(EVERY_BYTE) & !word & (EVERY_BYTE * 0x80)
}
