//! Raw samples of distributions, on their way from the threads that observe to the exporters that send every one of them.
//!
//! Each family of distributions has a [`SampleLog`], and the registry has a few slots for [readers](SampleReader). A log has a
//! [queue](ring::Ring) of its own for each slot that was ever read, so that one exporter takes nothing from another, and none fills the
//! queue of another. What finds its queue full is dropped, and counted.
//!
//! # Nothing is made while samples are recorded
//!
//! A thread that observes looks at one word of its family's log, which says what slots are read. It pushes into their queues, which
//! are there: whoever sets a slot's bit has made the log's queue for the slot before. There are two who do. A reader that is being
//! attached goes through all logs; what is registered from then on is given its queues by who registers it. Both orders come out
//! right, because the list of logs and the slots that are taken are behind one lock: a log is in the list that a new
//! reader is given, or finds the reader's slot taken.
//!
//! A queue stays where it is when its reader goes, for the next reader of the slot, and goes with its family: whoever observes may be
//! in the middle of a push. A sample that is pushed in this way after its reader went is thrown away when the slot is taken again; one
//! that is later still comes to the new reader, as if it had been recorded a little later.
//!
//! # Lives
//!
//! A sample has the life of its series, as the column [`lives`](crate::snapshot::FamilySnapshot::lives) of a snapshot has it, and a
//! [`Departure`](crate::departure::Departure). A reader drains *after* it has taken the snapshot and the
//! departures: then nothing is left in the queue of the series that departed, whose lives it sees this once. It finds the lives of
//! all samples there, but of series that began or ended since the snapshot was taken; those are in the next snapshot, or among
//! the next departures. What is in neither was observed in the very moment in which its series was removed, and is as late as
//! any write to a removed series.
//!
//! # Forks
//!
//! A reader does not go on in the child of a fork, and threads of the parent may have been in the middle of a push, where they
//! stay for ever. So the word of a log has the [generation](crate::platform::generation) of the process in it: in a child no queue of the
//! parent's is filled, all slots are free, and a queue is cleared before it is used again.

pub(crate) mod ring;

use crate::{
    descriptor::Descriptor,
    instrument::{
        bank::{self, CellId},
        space::{SPACE, Shape},
    },
    platform,
    sync::{AtomicU64, Mutex, OnceLock, Ordering},
};
use ring::Ring;
use std::{
    fmt,
    sync::{Arc, Weak},
};

/// How many readers a registry can have at once.
pub(crate) const SLOTS: usize = 4;

/// How many samples of a family wait for each reader unless it is told otherwise: four hundred a second, at an interval of ten
/// seconds.
pub(crate) const DEFAULT_CAPACITY: usize = 4096;

/// The most that may wait: 16 MiB for each reader.
pub(crate) const MOST_CAPACITY: usize = 1 << 20;

/// One observation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample {
    /// Of its series.
    pub(crate) life: u64,
    /// Finite.
    pub(crate) value: f64,
}

/// The samples of one family that wait for readers.
pub(crate) struct SampleLog {
    /// The slots that are read, a bit each, below the generation of the process in which they are.
    read: AtomicU64,
    slots: [Slot; SLOTS],
    capacity: usize,
    /// Where samples are counted that found no room; see [`SampleReaders`].
    dropped: CellId,
}

struct Slot {
    ring: OnceLock<Ring>,
    /// The generation of the process that has used it last.
    process: AtomicU64,
}

/// The bits of a log's word that say which slots are read.
const READ: u64 = (1 << SLOTS) - 1;

impl SampleLog {
    /// A log that nobody reads until it is [enrolled](SampleReaders::enroll).
    pub(crate) fn new(capacity: usize, readers: &SampleReaders) -> Self {
        let slot = || Slot {
            ring: OnceLock::new(),
            process: AtomicU64::new(0),
        };
        SampleLog {
            read: AtomicU64::new(0),
            slots: std::array::from_fn(|_| slot()),
            capacity: capacity.min(MOST_CAPACITY),
            dropped: readers.dropped,
        }
    }

    /// Whether anybody wants samples; all that an observation pays for when nobody does. Relaxed: it decides nothing but whether
    /// [`keep`](SampleLog::keep) looks again.
    #[inline(always)]
    pub(crate) fn is_read(&self) -> bool {
        self.read.load(Ordering::Relaxed) & READ != 0
    }

    /// Keeps a sample for every reader. Waits for nobody and allocates nothing, but for the thread's own cells when it is the
    /// first time that it counts a sample as dropped. A value that is not finite is left out.
    #[inline(never)]
    pub(crate) fn keep(&self, sample: Sample) {
        self.keep_in(platform::generation(), sample);
    }

    fn keep_in(&self, process: u64, Sample { life, value }: Sample) {
        if !value.is_finite() {
            return;
        }
        // Acquire, the partner of the release in `start`: the queues are there, and empty of what a parent has left.
        let read = self.read.load(Ordering::Acquire);
        if read >> SLOTS != process {
            // The parent's readers: the next observation need not look so closely.
            let _ = self
                .read
                .compare_exchange(read, 0, Ordering::Relaxed, Ordering::Relaxed);
            return;
        }
        for (slot, Slot { ring, .. }) in self.slots.iter().enumerate() {
            if read & 1 << slot != 0
                && let Some(ring) = ring.get()
                && !ring.push(life, value.to_bits())
            {
                self.drop_samples(slot, 1);
            }
        }
    }

    #[cold]
    fn drop_samples(&self, slot: usize, count: u64) {
        // Only a process with no cell left has no count of this.
        let _ = bank::add(self.dropped, slot, count, Ordering::Relaxed);
    }

    /// Keeps samples for a slot from now on. Only who has the slot calls this.
    fn start(&self, slot: usize, process: u64) {
        let Slot { ring, process: used } = &self.slots[slot];
        let ring = ring.get_or_init(|| Ring::new(self.capacity));
        match used.swap(process, Ordering::Relaxed) == process {
            true => ring.drain(|_, _| ()),
            false => ring.clear(),
        }
        let bit = 1 << slot;
        let more = |read| match read >> SLOTS == process {
            true => Some(read | bit),
            false => Some(process << SLOTS | bit),
        };
        let _ = self.read.fetch_update(Ordering::Release, Ordering::Relaxed, more);
    }

    /// Keeps no more samples for a slot.
    fn stop(&self, slot: usize) {
        self.read.fetch_and(!(1 << slot), Ordering::Relaxed);
    }
}

impl Drop for SampleLog {
    fn drop(&mut self) {
        let read = self.read.load(Ordering::Relaxed);
        if read >> SLOTS != platform::generation() {
            return;
        }
        // Nobody can take them any more.
        for (slot, Slot { ring, .. }) in self.slots.iter().enumerate() {
            let left = ring.get().map_or(0, Ring::len);
            if read & 1 << slot != 0 && left != 0 {
                self.drop_samples(slot, left as u64);
            }
        }
    }
}

impl fmt::Debug for SampleLog {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SampleLog")
            .field("capacity", &self.capacity)
            .field("is_read", &self.is_read())
            .finish_non_exhaustive()
    }
}

/// Who reads the samples of a registry, and what there is to read.
#[derive(Debug)]
pub(crate) struct SampleReaders {
    members: Mutex<Members>,
    /// A count for each slot, of the samples that found no room. In the threads' own cells: where more is observed than a reader
    /// takes, that is what most observations come to.
    dropped: CellId,
}

#[derive(Debug, Default)]
struct Members {
    /// The generation of the process that has taken the slots.
    process: u64,
    /// A bit for each slot that is taken.
    taken: u64,
    logs: Vec<Weak<SampleLog>>,
}

impl SampleReaders {
    pub(crate) fn new() -> Self {
        SampleReaders {
            members: Mutex::default(),
            dropped: SPACE.allocate(DROPPED).unwrap_or(CellId::UNSET),
        }
    }

    /// Makes a log known to the readers there are, and to those that come.
    pub(crate) fn enroll(&self, log: &Arc<SampleLog>) {
        let mut members = self.members.lock();
        members.logs.retain(|log| log.strong_count() > 0);
        members.logs.push(Arc::downgrade(log));
        let process = platform::generation();
        if members.process == process {
            for slot in (0..SLOTS).filter(|slot| members.taken & 1 << slot != 0) {
                log.start(slot, process);
            }
        }
    }

    /// How many samples each slot's readers have lost to full queues.
    fn dropped(&self) -> [u64; SLOTS] {
        let mut dropped = [0; SLOTS];
        SPACE.sum(DROPPED, &[self.dropped], &mut dropped, &mut []);
        dropped
    }
}

impl Drop for SampleReaders {
    fn drop(&mut self) {
        SPACE.release(self.dropped, &Arc::default(), &mut [0; SLOTS]);
    }
}

const DROPPED: Shape = Shape {
    counts: SLOTS,
    sum: false,
};

/// Takes the samples of all families of a registry, for one exporter, until it is dropped.
pub(crate) struct SampleReader {
    readers: Arc<SampleReaders>,
    slot: usize,
    /// The generation of the process that it reads in; in any other it takes nothing.
    process: u64,
    /// How many samples the slot's readers before this one have lost.
    dropped_before: u64,
}

impl SampleReader {
    /// A reader of what is observed from now on; none if all slots are taken.
    pub(crate) fn attach(readers: &Arc<SampleReaders>) -> Option<Self> {
        Self::attach_in(platform::generation(), readers)
    }

    fn attach_in(process: u64, readers: &Arc<SampleReaders>) -> Option<Self> {
        let (slot, logs) = {
            let mut members = readers.members.lock();
            if members.process != process {
                members.process = process;
                members.taken = 0;
            }
            let slot = (0..SLOTS).find(|slot| members.taken & 1 << slot == 0)?;
            members.taken |= 1 << slot;
            (slot, members.logs.clone())
        };
        let reader = SampleReader {
            readers: readers.clone(),
            slot,
            process,
            dropped_before: readers.dropped()[slot],
        };
        // Not under the lock: that takes long where there are many families.
        for log in logs.iter().filter_map(Weak::upgrade) {
            log.start(slot, process);
        }
        Some(reader)
    }

    /// Moves the samples of a family that were in its queue when this began to the end of `into`, in the order in which they were
    /// recorded; does nothing with a family that keeps none. Those of a thread that is in the middle of recording stay for the next
    /// time, with what came after.
    pub(crate) fn drain(&self, family: &Descriptor, into: &mut Vec<Sample>) {
        self.drain_in(platform::generation(), family, into);
    }

    fn drain_in(&self, process: u64, family: &Descriptor, into: &mut Vec<Sample>) {
        if self.process != process {
            return;
        }
        if let Some(log) = &family.samples
            && let Some(ring) = log.slots[self.slot].ring.get()
        {
            into.reserve(ring.len());
            ring.drain(|life, value| {
                let value = f64::from_bits(value);
                into.push(Sample { life, value });
            });
        }
    }

    /// How many samples, over all families, found their queue full since this reader was attached, or were in it when their family
    /// was dropped. Takes a lock.
    pub(crate) fn dropped(&self) -> u64 {
        // In a child of the process that attached it this may be less than before; it is nothing there.
        self.readers.dropped()[self.slot].saturating_sub(self.dropped_before)
    }
}

impl Drop for SampleReader {
    fn drop(&mut self) {
        let mut members = self.readers.members.lock();
        // In a child of the process that attached it, the slot may be another reader's.
        if members.process == self.process && self.process == platform::generation() {
            // Under the lock, so that no log is enrolled for the slot meanwhile.
            for log in members.logs.iter().filter_map(Weak::upgrade) {
                log.stop(self.slot);
            }
            members.taken &= !(1 << self.slot);
        }
    }
}

impl fmt::Debug for SampleReader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SampleReader")
            .field("slot", &self.slot)
            .field("dropped", &self.dropped())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{Buckets, Distribution, Family, Registry, Snapshot, snapshot::FamilySnapshot, testing::ManualClock};
    use std::{collections::HashMap, thread, time::Duration};

    fn family<'a>(snapshot: &'a Snapshot, name: &str) -> &'a FamilySnapshot {
        snapshot.family(name).expect("it is registered")
    }

    /// What a reader finds of a family, without lives.
    fn values(reader: &SampleReader, registry: &Registry, name: &str) -> Vec<f64> {
        let mut samples = Vec::new();
        reader.drain(&family(&registry.snapshot(), name).descriptor, &mut samples);
        samples.into_iter().map(|sample| sample.value).collect()
    }

    fn sizes(registry: &Registry, capacity: usize) -> Distribution {
        let buckets = Buckets::explicit([1.0, 10.0]).unwrap();
        let sizes = registry.distribution("size", "Sizes.").buckets(buckets);
        sizes.samples(capacity).register().unwrap()
    }

    fn labelled(registry: &Registry, name: &str, limit: usize) -> Family<Distribution, 1> {
        let family = registry.distribution(name, "Labelled.").labels(["kind"]);
        family.limit(limit).register().unwrap()
    }

    #[test]
    fn every_sample_is_found_by_its_life_in_a_snapshot_or_a_departure() {
        let registry = Registry::new();
        let inbox = registry.attach();
        let reader = registry.attach_samples().unwrap();
        let waits = labelled(&registry, "wait", 2);
        for (kind, value) in [("a", 1.0), ("b", 2.0), ("past", 3.0), ("the limit", 4.0), ("a", 5.0)] {
            waits.with([kind]).observe(value);
        }
        let kept = waits.handle(["b"]);
        kept.observe(6.0);
        waits.remove(["b"]);
        kept.observe(7.0);
        assert_eq!(registry.losses().late_writes, 1, "and what is late is no sample");
        // It begins anew, with another life.
        waits.with(["b"]).observe(8.0);

        let cut = inbox.arrived();
        let snapshot = registry.snapshot_for_export();
        let departed = inbox.take(cut);
        let waits = family(&snapshot, "wait");
        let mut samples = Vec::new();
        reader.drain(&waits.descriptor, &mut samples);

        let present = waits.series().map(|series| {
            let label = series.labels().map(|(_, value)| value).collect::<String>();
            (waits.lives[series.place()], label)
        });
        let gone = departed.iter().map(|departure| {
            let series = departure.family.series().next().unwrap();
            (departure.life, format!("{} before", series.label("kind").unwrap()))
        });
        let labels: HashMap<u64, String> = present.chain(gone).collect();
        let found: Vec<(&str, f64)> = samples
            .iter()
            .map(|sample| (&*labels[&sample.life], sample.value))
            .collect();
        let expected = [
            ("a", 1.0),
            ("b before", 2.0),
            ("true", 3.0),
            ("true", 4.0),
            ("a", 5.0),
            ("b before", 6.0),
            ("b", 8.0),
        ];
        assert_eq!(found, expected);
        assert_eq!(waits.overflow_life(), Some(samples[2].life));
    }

    #[test]
    fn an_overflow_series_departs_with_the_life_of_its_samples() {
        let registry = Registry::new();
        let inbox = registry.attach();
        let reader = registry.attach_samples().unwrap();
        let waits = labelled(&registry, "wait", 1);
        waits.with(["a"]).observe(1.0);
        waits.with(["b"]).observe(2.0);
        registry.unregister("wait");
        let departed = inbox.take(inbox.arrived());
        let mut samples = Vec::new();
        reader.drain(&departed[0].family.descriptor, &mut samples);
        let found = samples.iter().map(|sample| {
            let departure = departed.iter().find(|departure| departure.life == sample.life);
            let series = departure.expect("it departed").family.series().next().unwrap();
            (series.is_overflow(), sample.value)
        });
        assert_eq!(found.collect::<Vec<_>>(), [(false, 1.0), (true, 2.0)]);
    }

    #[test]
    fn what_finds_no_room_is_counted_by_each_reader_and_is_in_the_buckets_all_the_same() {
        let registry = Registry::new();
        let sizes = sizes(&registry, 3);
        sizes.observe(0.5);
        let [one, other] = [(); 2].map(|()| registry.attach_samples().unwrap());
        for value in 1..=5 {
            sizes.observe(value.into());
        }
        assert_eq!((one.dropped(), other.dropped()), (2, 2));
        assert_eq!(values(&one, &registry, "size"), [1.0, 2.0, 3.0]);
        sizes.observe(6.0);
        assert_eq!((one.dropped(), other.dropped()), (2, 3));
        assert_eq!(values(&one, &registry, "size"), [6.0]);
        assert_eq!(values(&other, &registry, "size"), [1.0, 2.0, 3.0]);
        assert_eq!(sizes.get().counts(), [2, 5, 0]);

        // The next reader of the slot begins with no drops of its own.
        drop(other);
        let next = registry.attach_samples().unwrap();
        assert_eq!((next.slot, next.dropped()), (1, 0));
    }

    #[test]
    fn no_room_at_all_drops_everything() {
        let registry = Registry::new();
        let sizes = sizes(&registry, 0);
        let reader = registry.attach_samples().unwrap();
        sizes.observe(1.0);
        assert!(values(&reader, &registry, "size").is_empty());
        assert_eq!(reader.dropped(), 1);
    }

    #[test]
    fn a_family_is_read_whether_it_or_the_reader_was_there_first() {
        let registry = Registry::new();
        let first = registry.distribution("first", "First.").register().unwrap();
        let reader = registry.attach_samples().unwrap();
        let second = registry.distribution("second", "Second.").register().unwrap();
        // The same again, not another.
        let again = registry
            .distribution("second", "Second.")
            .samples(1)
            .register()
            .unwrap();
        first.observe(1.0);
        second.observe(2.0);
        again.observe(3.0);
        assert_eq!(values(&reader, &registry, "first"), [1.0]);
        assert_eq!(values(&reader, &registry, "second"), [2.0, 3.0]);
        // What keeps no samples has none.
        registry.histogram("third", "Third.").register().unwrap().observe(4.0);
        assert!(values(&reader, &registry, "third").is_empty());
    }

    #[test]
    fn a_slot_is_free_again_and_empty_when_its_reader_goes() {
        let registry = Registry::new();
        let sizes = sizes(&registry, 10);
        let mut readers: Vec<_> = (0..SLOTS).map(|_| registry.attach_samples().unwrap()).collect();
        assert!(registry.attach_samples().is_none());
        sizes.observe(1.0);
        let gone = readers.remove(2).slot;
        let after = registry
            .distribution("after", "Registered while the slot is free.")
            .register()
            .unwrap();
        sizes.observe(2.0);
        after.observe(2.0);
        readers.push(registry.attach_samples().unwrap());
        assert!(readers[3].slot == gone && registry.attach_samples().is_none());
        sizes.observe(3.0);
        after.observe(3.0);
        for (reader, expected) in readers
            .iter()
            .zip([&[1.0, 2.0, 3.0][..]; 3].into_iter().chain([&[3.0][..]]))
        {
            assert_eq!(values(reader, &registry, "size"), expected);
            assert_eq!(
                values(reader, &registry, "after"),
                expected[expected.len().saturating_sub(2)..]
            );
            assert_eq!(reader.dropped(), 0);
        }
        readers.clear();
        sizes.observe(4.0);
        let log = family(&registry.snapshot(), "size").descriptor.samples.clone().unwrap();
        assert!(!log.is_read() && log.slots.iter().all(|slot| slot.ring.get().unwrap().len() == 0));
    }

    #[test]
    fn a_value_that_is_not_finite_is_no_sample() {
        let registry = Registry::new();
        let sizes = sizes(&registry, 10);
        let reader = registry.attach_samples().unwrap();
        for value in [f64::NAN, 1.0, f64::INFINITY, f64::NEG_INFINITY, -0.0, f64::MAX] {
            sizes.observe(value);
        }
        let values = values(&reader, &registry, "size");
        assert_eq!(values, [1.0, -0.0, f64::MAX]);
        assert!(values[1].is_sign_negative());
        assert_eq!(sizes.get().counts(), [3, 0, 3]);
        assert_eq!((registry.losses().invalid_values, reader.dropped()), (3, 0));
    }

    #[test]
    fn whatever_is_timed_is_kept_in_the_unit() {
        let clock = ManualClock::new();
        let registry = Registry::builder().clock(clock.clone()).build().unwrap();
        let reader = registry.attach_samples().unwrap();
        let waits = registry.distribution("wait", "Waits.").unit("ms").register().unwrap();
        waits.observe_duration(Duration::from_millis(1));
        waits.time(|| clock.advance(Duration::from_millis(2)));
        let timers = [(); 3].map(|()| waits.start_timer());
        clock.advance(Duration::from_millis(3));
        let [stopped, discarded, dropped] = timers;
        stopped.stop();
        discarded.discard();
        clock.advance(Duration::from_millis(1));
        drop(dropped);
        let slept = waits.time_future(async { clock.advance(Duration::from_millis(5)) });
        let mut slept = std::pin::pin!(slept);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(slept.as_mut().poll(&mut context).is_ready());
        assert_eq!(values(&reader, &registry, "wait"), [1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(waits.get().count(), 5);
    }

    #[test]
    fn what_is_left_of_a_family_that_is_gone_is_counted() {
        let registry = Registry::new();
        let reader = registry.attach_samples().unwrap();
        let kept = sizes(&registry, 10);
        kept.observe(1.0);
        kept.observe(2.0);
        registry.unregister("size");
        kept.observe(3.0);
        assert_eq!((registry.losses().late_writes, reader.dropped()), (1, 0));
        drop(kept);
        assert_eq!(reader.dropped(), 2);
        // Of its name there may be another.
        sizes(&registry, 10).observe(4.0);
        assert_eq!(values(&reader, &registry, "size"), [4.0]);
    }

    #[test]
    fn samples_taken_dropped_and_left_are_all_that_were_recorded() {
        const THREADS: usize = 3;
        const EACH: usize = 30_000;
        let registry = Registry::new();
        let waits = registry.distribution("wait", "Waits.").samples(100).labels(["thread"]);
        let waits = waits.register().unwrap();
        let [busy, idle] = [(); 2].map(|()| registry.attach_samples().unwrap());
        let descriptor = family(&registry.snapshot(), "wait").descriptor.clone();
        let mut samples = Vec::new();
        thread::scope(|scope| {
            let record = |thread: usize| {
                let waits = &waits;
                move || (0..EACH).for_each(|value| waits.with((thread,)).observe(value as f64))
            };
            let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(record(thread))).collect();
            while !threads.iter().all(thread::ScopedJoinHandle::is_finished) {
                busy.drain(&descriptor, &mut samples);
                // Readers come and go beside it.
                drop(registry.attach_samples());
            }
        });
        let taken = samples.len();
        let mut left = Vec::new();
        busy.drain(&descriptor, &mut left);
        assert!(left.len() <= 100);
        assert_eq!(taken + left.len() + busy.dropped() as usize, THREADS * EACH);
        assert_eq!(idle.dropped() as usize, THREADS * EACH - 100);

        samples.extend(left);
        let snapshot = registry.snapshot_for_export();
        for life in &family(&snapshot, "wait").lives {
            let of_one = samples.iter().filter(|sample| sample.life == *life);
            let values: Vec<f64> = of_one.map(|sample| sample.value).collect();
            assert!(
                values.is_sorted_by(|one, next| one < next),
                "each once, as its thread recorded it"
            );
        }
    }

    #[test]
    fn a_forked_process_fills_no_queue_of_its_parents_and_has_readers_of_its_own() {
        let (parent, child) = (platform::generation(), platform::generation() + 1);
        let readers = Arc::new(SampleReaders::new());
        let log = Arc::new(SampleLog::new(4, &readers));
        readers.enroll(&log);
        let descriptor = Descriptor {
            samples: Some(log.clone()),
            ..(*family(&with_size().snapshot(), "size").descriptor).clone()
        };
        let drain = |reader: &SampleReader, process| {
            let mut samples = Vec::new();
            reader.drain_in(process, &descriptor, &mut samples);
            samples
        };
        let of_parent: Vec<_> = (0..SLOTS)
            .map(|_| SampleReader::attach_in(parent, &readers).unwrap())
            .collect();
        let sample = |value| Sample { life: 7, value };
        log.keep_in(parent, sample(1.0));
        log.slots[0].ring.get().unwrap().claim();

        // The child's memory is the parent's from here on.
        log.keep_in(child, sample(2.0));
        assert!(!log.is_read());
        assert_eq!(drain(&of_parent[0], child), []);
        let of_child = SampleReader::attach_in(child, &readers).expect("all slots are free");
        assert_eq!(of_child.slot, 0);
        log.keep_in(child, sample(3.0));
        assert_eq!(drain(&of_child, child), [sample(3.0)]);
        // One of the parent's that is dropped in the child leaves the child's alone.
        drop(of_parent);
        log.keep_in(child, sample(4.0));
        assert_eq!(drain(&of_child, child), [sample(4.0)]);
    }

    fn with_size() -> Registry {
        let registry = Registry::new();
        sizes(&registry, 1);
        registry
    }
}
