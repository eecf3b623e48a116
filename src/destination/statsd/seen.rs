//! Which values of sets have been queued since the last collection, so that each is sent once however often it is given.
//!
//! A table of fingerprints that threads of the application write without a lock. It forgets rather than grows: where it is full, a value
//! is taken for new and sent again, which a set does not mind.

use crate::sync::{AtomicU64, Ordering};
use std::hash::{BuildHasher, RandomState};

/// Fingerprints of what has been seen.
#[derive(Debug)]
pub(super) struct Seen {
    /// 0 is none.
    slots: Box<[AtomicU64]>,
    hasher: RandomState,
}

/// Where one was written.
pub(super) struct Noted<'a> {
    slot: &'a AtomicU64,
    fingerprint: u64,
}

/// What is known of a value.
pub(super) enum Sight<'a> {
    /// Seen before.
    Again,
    /// Not seen, as far as the table remembers.
    First(Option<Noted<'a>>),
}

impl Seen {
    /// Room for about so many values.
    pub(super) fn new(values: usize) -> Self {
        let slots = values.saturating_mul(4).next_power_of_two().max(PROBES);
        Seen {
            slots: (0..slots).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Whether this was seen before; if not, it is from now on.
    ///
    /// Two values with one fingerprint would be taken for one: of a million in one interval, two have the same with a chance of one
    /// in 30 million, and the seed is random.
    pub(super) fn note(&self, value: &impl std::hash::Hash) -> Sight<'_> {
        let fingerprint = self.hasher.hash_one(value).max(1);
        let mask = self.slots.len() - 1;
        let start = fingerprint as usize;
        for probe in 0..PROBES {
            let slot = &self.slots[start.wrapping_add(probe) & mask];
            // Relaxed: a fingerprint stands for itself and leads to nothing else. Read first, because most have been seen.
            let there = match slot.load(Ordering::Relaxed) {
                0 => match slot.compare_exchange(0, fingerprint, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => return Sight::First(Some(Noted { slot, fingerprint })),
                    Err(other) => other,
                },
                there => there,
            };
            if there == fingerprint {
                return Sight::Again;
            }
        }
        Sight::First(None)
    }

    /// Forgets all. A value that is noted meanwhile may be forgotten, too, and is sent twice.
    pub(super) fn clear(&self) {
        for slot in &self.slots {
            slot.store(0, Ordering::Relaxed);
        }
    }
}

impl Noted<'_> {
    /// Forgets the value: it could not be queued, and the next time it may be.
    pub(super) fn forget(self) {
        let _ = self
            .slot
            .compare_exchange(self.fingerprint, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// In how many places a fingerprint may be: where a quarter of the table is taken, as many in a row never are.
const PROBES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn is_new(seen: &Seen, value: &str) -> bool {
        matches!(seen.note(&value), Sight::First(_))
    }

    #[test]
    fn a_value_is_new_once() {
        let seen = Seen::new(1_000);
        for value in 0..1_000 {
            assert!(is_new(&seen, &value.to_string()), "{value}");
        }
        for value in 0..1_000 {
            assert!(!is_new(&seen, &value.to_string()), "{value}");
        }
        seen.clear();
        assert!(is_new(&seen, "1"));
    }

    #[test]
    fn what_is_forgotten_is_new_again() {
        let seen = Seen::new(1);
        let Sight::First(Some(noted)) = seen.note(&"a") else {
            panic!("an empty table has room");
        };
        noted.forget();
        assert!(is_new(&seen, "a"));
        assert!(!is_new(&seen, "a"));
    }

    #[test]
    fn a_full_table_takes_values_for_new() {
        let seen = Seen::new(1);
        for value in 0..PROBES {
            assert!(is_new(&seen, &value.to_string()));
        }
        assert!(is_new(&seen, "one more"));
        assert!(is_new(&seen, "one more"), "there is no room to note it");
        assert!(!is_new(&seen, "0"));
    }
}
