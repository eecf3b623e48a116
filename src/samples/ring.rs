//! A bounded queue of samples, which any thread fills and one reader empties: nobody ever waits in it, and nothing in it allocates.
//!
//! A place is claimed by moving the tail, and then written; the reader takes what is written, in order, and stops at the first place
//! that is claimed but not written yet. So a thread that is suspended between the two holds up no other thread, neither one that
//! records nor the one that reads: its sample, and what is behind it, is taken the next time. Queues that give each place a
//! stamp of its lap, as Vyukov's and those made after it, have a thread that comes round to such a place wait until it is
//! written. Here it is told that the queue is full, which it is.
//!
//! # What must hold
//!
//! - *A place is claimed when it is empty*: who claims it has seen a head that is at most a lap behind, and the reader moves the
//!   head past a place after it has emptied it: a release there, an acquire by whoever claims.
//! - *A sample is taken whole*: its life is written last, and read first: a release and an acquire. A life is never 0, which is what
//!   an empty place has.
//! - *There is one reader at a time*; one that comes while another is at it takes nothing.

use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// See the module.
pub(crate) struct Ring {
    /// As many as the capacity, rounded up to a power of two.
    places: Box<[Place]>,
    capacity: u64,
    /// How many samples were claimed so far; those from `head` on are in the places that their numbers have, lap after lap.
    tail: AtomicU64,
    /// How many were taken.
    head: AtomicU64,
    /// Whether a reader is at it.
    reading: AtomicBool,
}

struct Place {
    /// 0 while it is empty.
    life: AtomicU64,
    value: AtomicU64,
}

impl Ring {
    pub(crate) fn new(capacity: usize) -> Self {
        let place = |_| Place {
            life: AtomicU64::new(0),
            value: AtomicU64::new(0),
        };
        Ring {
            places: (0..capacity.next_power_of_two()).map(place).collect(),
            capacity: capacity as u64,
            tail: AtomicU64::new(0),
            head: AtomicU64::new(0),
            reading: AtomicBool::new(false),
        }
    }

    /// Puts the bits of a value in with a life, which is not 0; false if the queue is full.
    #[inline]
    pub(crate) fn push(&self, life: u64, value: u64) -> bool {
        let mut tail = self.tail.load(Ordering::Relaxed);
        loop {
            // Acquire, the partner of the release in `drain`: the place is empty before it is written here.
            let head = self.head.load(Ordering::Acquire);
            // A head that is past the tail shows that the tail is an old one; moving it fails then.
            if tail.wrapping_sub(head) as i64 >= self.capacity as i64 {
                return false;
            }
            let claimed =
                self.tail
                    .compare_exchange_weak(tail, tail.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed);
            match claimed {
                Ok(_) => break,
                Err(now) => tail = now,
            }
        }
        let place = self.place(tail);
        place.value.store(value, Ordering::Relaxed);
        // Release, the partner of the acquire in `drain`: whoever sees the life sees the value.
        place.life.store(life, Ordering::Release);
        true
    }

    /// Gives what is in it at this moment to `take`, in order, up to the first place that is claimed but not written. Gives nothing if
    /// another reader is at it.
    pub(crate) fn drain(&self, mut take: impl FnMut(u64, u64)) {
        // Acquire, the partner of the release at the end: this reader sees the places and the head as the last one left them.
        let alone = self
            .reading
            .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed);
        if alone.is_err() {
            return;
        }
        let tail = self.tail.load(Ordering::Relaxed);
        let mut at = self.head.load(Ordering::Relaxed);
        while at != tail {
            let place = self.place(at);
            let life = place.life.load(Ordering::Acquire);
            if life == 0 {
                break;
            }
            let value = place.value.load(Ordering::Relaxed);
            place.life.store(0, Ordering::Relaxed);
            take(life, value);
            at = at.wrapping_add(1);
        }
        self.head.store(at, Ordering::Release);
        self.reading.store(false, Ordering::Release);
    }

    /// How many samples are in it.
    pub(crate) fn len(&self) -> usize {
        let head = self.head.load(Ordering::Relaxed);
        self.tail.load(Ordering::Relaxed).saturating_sub(head) as usize
    }

    /// Empties it whatever state it is in: in the child of a fork, where those who filled and read it may be gone in the middle of
    /// that. Nobody else may be at it.
    pub(crate) fn clear(&self) {
        for place in &self.places {
            place.life.store(0, Ordering::Relaxed);
        }
        self.tail.store(0, Ordering::Relaxed);
        self.head.store(0, Ordering::Relaxed);
        self.reading.store(false, Ordering::Relaxed);
    }

    /// Claims a place and does not write it, as a thread does that is suspended, or lost in a fork; its number.
    #[cfg(test)]
    pub(crate) fn claim(&self) -> u64 {
        self.tail.fetch_add(1, Ordering::Relaxed)
    }

    #[inline]
    fn place(&self, number: u64) -> &Place {
        &self.places[number as usize & (self.places.len() - 1)]
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::thread;

    fn taken(ring: &Ring) -> Vec<(u64, u64)> {
        let mut taken = Vec::new();
        ring.drain(|life, value| taken.push((life, value)));
        taken
    }

    #[test]
    fn what_is_put_in_comes_out_in_order_lap_after_lap() {
        for capacity in [1, 2, 3, 5, 8] {
            let ring = Ring::new(capacity);
            for lap in 0..10 {
                let samples: Vec<_> = (1..=capacity as u64).map(|life| (life, lap * life)).collect();
                assert!(samples.iter().all(|(life, value)| ring.push(*life, *value)));
                assert!(!ring.push(99, 99) && ring.len() == capacity, "{capacity}");
                assert_eq!(taken(&ring), samples);
                assert!(ring.len() == 0 && taken(&ring).is_empty());
            }
        }
        assert!(!Ring::new(0).push(1, 1));
    }

    #[test]
    fn a_thread_that_has_claimed_a_place_and_not_written_it_holds_nobody_up() {
        let ring = Ring::new(2);
        assert!(ring.push(1, 10));
        let claimed = ring.claim();
        assert!(!ring.push(3, 30), "the queue is full");
        assert_eq!(taken(&ring), [(1, 10)]);
        assert!(ring.push(3, 30) && taken(&ring).is_empty());
        assert!(!ring.push(4, 40), "what is behind it waits, and nobody else");
        ring.place(claimed).value.store(20, Ordering::Relaxed);
        ring.place(claimed).life.store(2, Ordering::Release);
        assert_eq!(taken(&ring), [(2, 20), (3, 30)]);
    }

    #[test]
    fn a_second_reader_takes_nothing_and_clearing_mends_everything() {
        let ring = Ring::new(2);
        assert!(ring.push(1, 10));
        let mut second = None;
        ring.drain(|_, _| second = Some(taken(&ring)));
        assert_eq!(second, Some(Vec::new()));

        assert!(ring.push(1, 10));
        ring.claim();
        ring.reading.store(true, Ordering::Relaxed);
        ring.clear();
        assert!(ring.push(3, 30) && ring.push(4, 40));
        assert_eq!(taken(&ring), [(3, 30), (4, 40)]);
    }

    #[test]
    fn many_threads_fill_it_while_one_empties_it() {
        const THREADS: u64 = 4;
        const EACH: u64 = 20_000;
        let ring = Ring::new(64);
        let mut all = Vec::new();
        let refused: u64 = thread::scope(|scope| {
            let fill = |life: u64| {
                let ring = &ring;
                move || (0..EACH).filter(|value| !ring.push(life, *value)).count() as u64
            };
            let fillers: Vec<_> = (1..=THREADS).map(|life| scope.spawn(fill(life))).collect();
            while !fillers.iter().all(thread::ScopedJoinHandle::is_finished) {
                ring.drain(|life, value| all.push((life, value)));
            }
            fillers.into_iter().map(|filler| filler.join().unwrap()).sum()
        });
        ring.drain(|life, value| all.push((life, value)));
        assert_eq!(all.len() as u64 + refused, THREADS * EACH);
        for life in 1..=THREADS {
            let values: Vec<u64> = all
                .iter()
                .filter(|sample| sample.0 == life)
                .map(|sample| sample.1)
                .collect();
            assert!(
                values.is_sorted_by(|one, next| one < next),
                "each once, in its thread's order"
            );
        }
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::sync::model::{explore, meet, thread};
    use std::sync::Arc;

    /// A value that shows whose it is.
    fn of(life: u64) -> u64 {
        10 * life
    }

    #[test]
    fn samples_are_taken_whole_and_once_while_places_are_used_again() {
        explore(3, || {
            let ring = Arc::new(Ring::new(1));
            let fill = |lives: [u64; 2]| {
                let ring = ring.clone();
                thread::spawn(move || {
                    lives.map(|life| {
                        meet();
                        (life, ring.push(life, of(life)))
                    })
                })
            };
            let filler = fill([1, 2]);
            let mut taken = Vec::new();
            let mut take = |life, value| {
                assert_eq!(value, of(life));
                taken.push(life);
            };
            meet();
            ring.drain(&mut take);
            let mine = ring.push(3, of(3));
            meet();
            ring.drain(&mut take);
            let mut put: Vec<u64> = filler
                .join()
                .unwrap()
                .iter()
                .filter(|put| put.1)
                .map(|put| put.0)
                .collect();
            put.extend(mine.then_some(3));
            ring.drain(&mut take);
            assert_eq!(ring.len(), 0);
            taken.sort();
            put.sort();
            assert_eq!(taken, put);
        });
    }

    #[test]
    fn two_threads_that_fill_never_have_one_place() {
        explore(3, || {
            let ring = Arc::new(Ring::new(2));
            let fillers = [1, 2].map(|life| {
                let ring = ring.clone();
                thread::spawn(move || {
                    meet();
                    ring.push(life, of(life))
                })
            });
            let mut taken = Vec::new();
            meet();
            ring.drain(|life, value| taken.push((life, value)));
            assert!(fillers.map(|filler| filler.join().unwrap()).iter().all(|put| *put));
            ring.drain(|life, value| taken.push((life, value)));
            taken.sort();
            assert_eq!(taken, [(1, of(1)), (2, of(2))]);
        });
    }

    #[test]
    fn of_two_readers_each_sample_has_one() {
        explore(3, || {
            let ring = Arc::new(Ring::new(2));
            assert!(ring.push(1, of(1)) && ring.push(2, of(2)));
            let drain = |ring: &Ring| {
                let mut taken = Vec::new();
                meet();
                ring.drain(|life, value| taken.push((life, value)));
                taken
            };
            let other = {
                let ring = ring.clone();
                thread::spawn(move || drain(&ring))
            };
            let mut taken = drain(&ring);
            let put = ring.push(3, of(3));
            taken.extend(other.join().unwrap());
            ring.drain(|life, value| taken.push((life, value)));
            let expected = [(1, of(1)), (2, of(2)), (3, of(3))];
            assert_eq!(taken, expected[..if put { 3 } else { 2 }]);
        });
    }
}
