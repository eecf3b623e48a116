//! Collections that wait to be sent: a bounded queue, without threads and without a clock.
//!
//! What is dropped from it is no loss of counts, because increments are computed when they are sent: a later collection has all
//! that an earlier one had. What is lost is resolution in time, and the values that gauges had in between; it is counted.

use super::work::Batch;
use std::collections::VecDeque;

/// Which collection goes when the queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropPolicy {
    /// The one that has waited longest.
    #[default]
    Oldest,
    /// The one that has just been made; but where a flush waits for it, the one before it.
    Newest,
}

/// Why a collection was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum DropReason {
    /// There were as many as may wait.
    Count,
    /// They took as much memory as they may.
    Bytes,
}

/// What was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dropped {
    pub(crate) reason: DropReason,
    pub(crate) points: u64,
    pub(crate) sequence: u64,
}

/// The queue.
pub(crate) struct Queue {
    batches: VecDeque<Batch>,
    bytes: usize,
    most: usize,
    most_bytes: usize,
    policy: DropPolicy,
}

impl Queue {
    /// Room for `most` collections, one at least, of `most_bytes` together.
    pub(crate) fn new(most: usize, most_bytes: usize, policy: DropPolicy) -> Self {
        Queue {
            batches: VecDeque::new(),
            bytes: 0,
            most: most.max(1),
            most_bytes,
            policy,
        }
    }

    /// Puts a collection at the end, and drops what there is no room for. The only one is kept, however large; and one that a
    /// flush waits for, which has what those before it have not.
    pub(crate) fn push(&mut self, batch: Batch, awaited: bool, dropped: &mut Vec<Dropped>) {
        self.bytes += batch.bytes;
        self.batches.push_back(batch);
        while self.batches.len() > 1 {
            let reason = if self.batches.len() > self.most {
                DropReason::Count
            } else if self.bytes > self.most_bytes {
                DropReason::Bytes
            } else {
                break;
            };
            let batch = match self.policy {
                DropPolicy::Oldest => self.batches.pop_front(),
                DropPolicy::Newest if awaited => self.batches.remove(self.batches.len() - 2),
                DropPolicy::Newest => self.batches.pop_back(),
            };
            let batch = batch.expect("there is more than one");
            self.bytes -= batch.bytes;
            dropped.push(Dropped {
                reason,
                points: batch.points,
                sequence: batch.sequence,
            });
        }
    }

    /// The collection that has waited longest.
    pub(crate) fn pop(&mut self) -> Option<Batch> {
        let batch = self.batches.pop_front()?;
        self.bytes -= batch.bytes;
        Some(batch)
    }

    pub(crate) fn len(&self) -> usize {
        self.batches.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The one that was collected first.
    pub(crate) fn oldest(&self) -> Option<&Batch> {
        self.batches.front()
    }

    /// The one that was collected last.
    pub(crate) fn newest(&self) -> Option<&Batch> {
        self.batches.back()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Snapshot;
    use proptest::prelude::*;
    use std::time::Duration;

    fn batch(sequence: u64, bytes: usize) -> Batch {
        Batch {
            snapshot: Snapshot {
                families: Vec::new(),
                taken: Duration::ZERO,
            },
            time: Duration::ZERO,
            collected: Duration::ZERO,
            sequence,
            removals: 0,
            bytes,
            points: sequence,
            hidden: Vec::new(),
        }
    }

    fn sequences(queue: &mut Queue) -> Vec<u64> {
        std::iter::from_fn(|| queue.pop()).map(|batch| batch.sequence).collect()
    }

    #[test]
    fn the_oldest_goes_first_or_the_newest() {
        for (policy, left, gone) in [(DropPolicy::Oldest, [2, 3], 1), (DropPolicy::Newest, [1, 2], 3)] {
            let mut queue = Queue::new(2, 1000, policy);
            let mut dropped = Vec::new();
            (1..=3).for_each(|sequence| queue.push(batch(sequence, 1), false, &mut dropped));
            let expected = Dropped {
                reason: DropReason::Count,
                points: gone,
                sequence: gone,
            };
            assert_eq!(dropped, [expected]);
            assert_eq!(sequences(&mut queue), left);
            assert_eq!(queue.bytes(), 0);
        }
    }

    #[test]
    fn one_that_is_awaited_stays_and_the_one_before_it_goes() {
        let mut queue = Queue::new(2, 1000, DropPolicy::Newest);
        let mut dropped = Vec::new();
        (1..=2).for_each(|sequence| queue.push(batch(sequence, 1), false, &mut dropped));
        queue.push(batch(3, 1), true, &mut dropped);
        assert_eq!(dropped.iter().map(|each| each.sequence).collect::<Vec<_>>(), [2]);
        queue.push(batch(4, 999), true, &mut dropped);
        assert_eq!(sequences(&mut queue), [1, 4]);
    }

    #[test]
    fn the_only_one_is_kept_however_large() {
        let mut queue = Queue::new(0, 10, DropPolicy::Oldest);
        let mut dropped = Vec::new();
        queue.push(batch(1, 100), false, &mut dropped);
        assert_eq!((queue.len(), dropped.len()), (1, 0));
        queue.push(batch(2, 100), false, &mut dropped);
        assert_eq!(sequences(&mut queue), [2]);
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out_or_is_dropped(
            sizes in prop::collection::vec(0_usize..50, 1..60),
            most in 0_usize..6,
            most_bytes in 0_usize..120,
            newest: bool,
        ) {
            let policy = if newest { DropPolicy::Newest } else { DropPolicy::Oldest };
            let mut queue = Queue::new(most, most_bytes, policy);
            let mut dropped = Vec::new();
            for (at, size) in sizes.iter().enumerate() {
                queue.push(batch(at as u64, *size), false, &mut dropped);
                prop_assert!(queue.len() == 1 || queue.len() <= most && queue.bytes() <= most_bytes);
            }
            let mut all = sequences(&mut queue);
            prop_assert!(all.is_sorted());
            all.extend(dropped.iter().map(|each| each.sequence));
            all.sort_unstable();
            prop_assert_eq!(all, (0..sizes.len() as u64).collect::<Vec<_>>());
        }
    }
}
