//! The family itself, whatever its instrument: finding, making and removing series, limits, expiry, and collection.

use super::{
    query::{Query, length_words, query},
    table::{Entry, Found, Table},
};
use crate::{
    clock::{Clock, SharedClock, SystemClock},
    departure::{Departure, Departures},
    descriptor::{Descriptor, Kind},
    instrument::{
        bank::CellId,
        buckets::Search,
        counter::{Counter, FloatCounter},
        histogram::Histogram,
        space::{SPACE, Shape},
        up_down_counter::{UpDownCounter, balance},
    },
    ledger::Ledger,
    platform,
    samples::{SampleLog, SampleReaders},
    snapshot::{FamilySnapshot, Rows, SeriesSnapshot, Values},
    sync::{AtomicBool, AtomicUsize, Mutex, OnceLock, Ordering},
};
use std::{collections::HashMap, sync::Arc, time::Duration};

/// What all families of a registry share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) clock: SharedClock,
    pub(crate) ledger: Ledger,
    /// How many series all labelled families have, and may have.
    pub(crate) series: AtomicUsize,
    pub(crate) series_limit: usize,
    pub(crate) departures: Departures,
    pub(crate) samples: Arc<SampleReaders>,
    /// When each process was forked in which this was asked, the latest alone; with its generation.
    forked: Mutex<(u64, Duration)>,
}

impl Shared {
    pub(crate) fn new(clock: SharedClock, series_limit: usize) -> Self {
        Shared {
            clock,
            ledger: Ledger::new(),
            series: AtomicUsize::new(0),
            series_limit,
            departures: Departures::default(),
            samples: Arc::new(SampleReaders::new()),
            forked: Mutex::default(),
        }
    }

    /// When this process was forked, by the registry's clock: no series here began before. Zero if it was not.
    pub(crate) fn forked(&self) -> Duration {
        let process = platform::generation();
        if process == 0 {
            return Duration::ZERO;
        }
        let (known, forked) = *self.forked.lock();
        if known == process {
            return forked;
        }
        // The registry's clock may be any. It is the application's, too: it is asked while no lock is held.
        let ago = SystemClock.unix().saturating_sub(platform::forked_at());
        let forked = self.clock.unix().saturating_sub(ago);
        let mut known = self.forked.lock();
        if known.0 != process {
            // Asked once, so that it is the same for ever.
            *known = (process, forked);
        }
        known.1
    }
}

/// A family; see [`Family`](super::Family).
pub struct FamilyCore {
    table: Arc<Table>,
    search: Search,
    per_second: f64,
    /// As in the description: an observation has it at hand here.
    samples: Option<Arc<SampleLog>>,
    descriptor: Arc<Descriptor>,
    /// What a series has cells for; `None` where the value is in the entry.
    shape: Option<Shape>,
    shared: Arc<Shared>,
    limit: usize,
    expire_after: Option<Duration>,
    registered: Duration,
    /// Whether a look-up that misses has nothing to get from the lock: the family is full.
    closed: AtomicBool,
    /// Whether the family is unregistered, for good; written under the lock.
    unregistered: AtomicBool,
    /// The series that is in no index: the only one of a family without labels, else the overflow series.
    unindexed: OnceLock<Found>,
    members: Mutex<Members>,
}

/// What is changed under the family's lock, whose holder alone makes and removes series.
#[derive(Default)]
struct Members {
    /// When each series was last seen to have moved, if series expire.
    activity: HashMap<Entry, Activity>,
    /// How many collections have begun, if series expire.
    turn: u64,
}

/// What a series had done when it was last seen to have done anything, and when that was.
struct Activity {
    life: u64,
    writes: u64,
    since: Duration,
    /// Hidden, when so many collections had begun; removed at a later one if nothing has come in through a look-up made before.
    hidden: Option<u64>,
}

impl FamilyCore {
    pub(crate) fn new(
        descriptor: Descriptor,
        shared: Arc<Shared>,
        limit: usize,
        expire_after: Option<Duration>,
        now: Duration,
    ) -> Arc<Self> {
        let shape = match descriptor.kind {
            Kind::Counter => Some(Counter::SHAPE),
            Kind::FloatCounter => Some(FloatCounter::SHAPE),
            Kind::UpDownCounter => Some(UpDownCounter::SHAPE),
            Kind::Histogram => Some(Histogram::shape(descriptor.bounds.len())),
            Kind::Gauge | Kind::IntGauge => None,
        };
        if let Some(log) = &descriptor.samples {
            shared.samples.enroll(log);
        }
        let core = Arc::new(FamilyCore {
            table: Arc::new(Table::new(descriptor.labels.len(), shape.is_none())),
            search: Search::new(&descriptor.bounds),
            per_second: descriptor.name.unit().and_then(|unit| unit.per_second()).unwrap_or(1.0),
            samples: descriptor.samples.clone(),
            shape,
            registered: now,
            shared,
            limit,
            expire_after,
            closed: AtomicBool::new(false),
            unregistered: AtomicBool::new(false),
            unindexed: OnceLock::new(),
            members: Mutex::default(),
            descriptor: Arc::new(descriptor),
        });
        if core.descriptor.labels.is_empty() {
            // A family without labels has its one series from the start.
            core.make_unindexed(0);
        }
        core
    }

    #[inline(always)]
    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    #[inline(always)]
    pub(crate) fn search(&self) -> &Search {
        &self.search
    }

    /// How many of its unit a second is, if that is a unit of time; else 1.
    pub(crate) fn per_second(&self) -> f64 {
        self.per_second
    }

    /// Where samples are kept, if this is a family of distributions.
    #[inline(always)]
    pub(crate) fn samples(&self) -> Option<&SampleLog> {
        self.samples.as_deref()
    }

    pub(crate) fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    pub(crate) fn clock(&self) -> &SharedClock {
        &self.shared.clock
    }

    /// Counts writes to a removed series.
    #[cold]
    pub(crate) fn late(&self, writes: u64) {
        self.shared.ledger.late_writes().fetch_add(writes, Ordering::Relaxed);
    }

    /// Counts a value that the instrument does not take.
    #[cold]
    pub(crate) fn invalid(&self) {
        self.shared.ledger.invalid_value();
    }

    /// The series of these label values, made if need be; the overflow series where that cannot be.
    #[inline(always)]
    pub(crate) fn find<const N: usize>(&self, values: [&str; N]) -> Found {
        let found = query(values, self.table.seed(), |query| match self.table.find(query) {
            Some(found) => found,
            None => self.find_or_make(query),
        });
        match found {
            Some(found) => found,
            None => self.past_limit(),
        }
    }

    /// As [`find`](FamilyCore::find), and pinned.
    pub(crate) fn find_and_pin<const N: usize>(&self, values: [&str; N]) -> Found {
        loop {
            let found = self.find(values);
            if self.table.pin(found) {
                return found;
            }
            // It was removed a moment ago, and the next look-up makes it anew. Only in a family that is unregistered it stays
            // so, and is pinned all the same, for the sake of the unpinning to come.
            if self.unregistered.load(Ordering::Acquire) {
                self.table.pin_again(found.entry);
                return found;
            }
        }
    }

    /// The one series of a family without labels, pinned.
    pub(crate) fn only(&self) -> Found {
        self.find_and_pin([])
    }

    #[cold]
    #[inline(never)]
    fn find_or_make(&self, query: Query<'_>) -> Found {
        if self.descriptor.labels.is_empty() {
            return self.unindexed();
        }
        // Under a flood of new label sets every look-up comes here: it must not have to wait for the lock.
        let full =
            self.closed.load(Ordering::Acquire) || self.shared.series.load(Ordering::Relaxed) >= self.series_limit();
        if full && !self.unregistered.load(Ordering::Acquire) && self.table.surely_absent(query) {
            return self.past_limit();
        }
        // The clock may be the application's, which may record: it is asked before the lock is taken.
        let now = self.shared.clock.monotonic();
        let mut members = self.members.lock();
        if let Some(found) = self.table.find_listed(query) {
            if let Some(activity) = members
                .activity
                .get_mut(&found.entry)
                .filter(|activity| activity.hidden.is_some())
            {
                activity.hidden = None;
                activity.since = now;
                self.table.show(found);
            }
            return found;
        }
        if self.unregistered.load(Ordering::Relaxed) {
            // Its writes are late, each of them; no limit is in the way.
            drop(members);
            return self.unindexed();
        }
        if self.table.len() >= self.limit {
            self.closed.store(true, Ordering::Release);
        } else if let Some(found) = self.make(query, self.age(now)) {
            return found;
        }
        drop(members);
        self.past_limit()
    }

    fn series_limit(&self) -> usize {
        match self.descriptor.own {
            true => usize::MAX,
            false => self.shared.series_limit,
        }
    }

    /// Makes a series under the family's lock, if there is room for it.
    fn make(&self, query: Query<'_>, age: u64) -> Option<Found> {
        let more = |series| (series < self.series_limit()).then_some(series + 1);
        self.shared
            .series
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        let made = match self.shape {
            None => self.table.insert(query, true, 0, age).ok(),
            Some(shape) => SPACE.allocate(shape).and_then(|id| {
                let made = self.table.insert(query, true, id.bits(), age);
                if made.is_err() {
                    SPACE.give_back(id);
                }
                made.ok()
            }),
        };
        if made.is_none() {
            self.shared.series.fetch_sub(1, Ordering::Relaxed);
        }
        made
    }

    /// The overflow series, for a look-up that is counted as past a limit.
    fn past_limit(&self) -> Found {
        self.shared.ledger.past_limit();
        self.unindexed()
    }

    fn unindexed(&self) -> Found {
        if let Some(found) = self.unindexed.get() {
            return *found;
        }
        self.make_unindexed(self.age(self.shared.clock.monotonic()))
    }

    fn make_unindexed(&self, age: u64) -> Found {
        *self.unindexed.get_or_init(|| {
            let words = vec![0; length_words(self.descriptor.labels.len())];
            // Without a cell left in the process, what is written is at least counted as lost.
            let life = self
                .shape
                .map_or(0, |shape| SPACE.allocate(shape).unwrap_or(CellId::UNSET).bits());
            let made = self.table.insert(Query { words: &words, hash: 0 }, false, life, age);
            made.expect("only indexed series are refused")
        })
    }

    /// Milliseconds from the family's registration to `now`.
    fn age(&self, now: Duration) -> u64 {
        now.saturating_sub(self.registered).as_millis() as u64
    }

    /// Removes the series of these label values.
    pub(crate) fn remove<const N: usize>(&self, values: [&str; N]) -> bool {
        let now = self.time_of_departure();
        let removed = query(values, self.table.seed(), |query| {
            let mut members = self.members.lock();
            self.table
                .find_listed(query)
                .is_some_and(|found| self.end(&mut members, found, now).is_some())
        });
        removed == Some(true)
    }

    /// Removes the labelled series for which `keep` says false. `keep` may do with the family what it likes.
    pub(crate) fn retain(&self, keep: &mut dyn FnMut(SeriesSnapshot<'_>) -> bool) {
        let Read { snapshot, places, .. } = self.read(true, false, false);
        let labelled = snapshot.series().filter(|series| !series.is_overflow());
        let unwanted: Vec<usize> = labelled
            .filter(|series| !keep(*series))
            .map(SeriesSnapshot::place)
            .collect();
        // What it was read with goes first: it holds on to what is now freed.
        drop(snapshot);
        let now = self.time_of_departure();
        for found in unwanted.into_iter().filter_map(|place| places[place]) {
            self.end(&mut self.members.lock(), found, now);
        }
    }

    /// Ends a life under the family's lock; `now` is from [`time_of_departure`](Self::time_of_departure), asked before it was
    /// taken. Says how it ended, to the one caller that did it.
    fn end(&self, members: &mut Members, found: Found, now: Option<Duration>) -> Option<Ended> {
        // Look-ups rely on the series that is in no index, and do not make it twice.
        if self.unindexed.get() == Some(&found) && !self.unregistered.load(Ordering::Relaxed) {
            return None;
        }
        // Pinned, so that the entry serves nobody else before a departure has its labels and its value.
        self.table.pin_again(found.entry);
        let ended = self.table.remove(found).then(|| self.depart(found, now));
        self.table.unpin(found.entry);
        let ended = ended?;
        members.activity.remove(&found.entry);
        if self.unindexed.get() != Some(&found) {
            self.shared.series.fetch_sub(1, Ordering::Relaxed);
            self.closed.store(false, Ordering::Release);
        }
        Some(ended)
    }

    /// The time, if a series that ends now departs to an exporter; not to be asked under a lock.
    fn time_of_departure(&self) -> Option<Duration> {
        let now = self.shared.departures.time(&self.shared.clock);
        if now.is_some() {
            // Known from now on, without a further question.
            self.shared.forked();
        }
        now
    }

    /// Takes the final values of a series that is out of the table and pinned, and gives them to exporters, if there are any.
    fn depart(&self, found: Found, now: Option<Duration>) -> Ended {
        let (counts, sum) = match self.shape {
            None => (vec![self.entry_value(Some(found))], 0.0),
            Some(shape) => {
                let mut counts = vec![0; shape.counts];
                let late = self.shared.ledger.late_writes();
                let sum = SPACE.release(CellId::from_bits(found.life), late, &mut counts);
                (counts, sum)
            }
        };
        let writes = total(&counts);
        let life = self.shape.map_or(0, |_| life_of(found));
        let overflow = self.unindexed.get() == Some(&found) && !self.descriptor.labels.is_empty();
        // Without cells nothing was ever counted.
        let counted = self.shape.is_none() || life != 0;
        let departure = |ended| {
            let (words, birth) = self.table.words_and_birth(found.entry);
            let sums = vec![sum];
            let ids = Vec::new();
            let family = FamilySnapshot {
                descriptor: self.descriptor.clone(),
                forked: self.shared.forked(),
                rows: Rows::Departed {
                    words: words.into(),
                    birth,
                    overflow,
                },
                values: Columns { counts, sums, ids }.values(self.descriptor.kind),
                lives: Vec::new(),
            };
            Departure { family, life, ended }
        };
        Ended {
            writes,
            departed: counted && self.shared.departures.deliver(now, departure),
        }
    }

    /// Ends all series, for good: what is written from now on is counted as late.
    pub(crate) fn unregister(&self) {
        let now = self.time_of_departure();
        let mut members = self.members.lock();
        self.unregistered.store(true, Ordering::Release);
        // Look-ups to come are given a series that is over, this one or the one that was there.
        let unindexed = *self.unindexed.get_or_init(|| self.table.over());
        let series: Vec<Found> = Table::read(&self.table).series().flatten().collect();
        for found in series.into_iter().chain([unindexed]) {
            self.end(&mut members, found, now);
        }
    }

    /// The family's values at this moment, with the lives of its series if `lives` says so; ends series that have been idle
    /// for long enough.
    pub(crate) fn collect(&self, lives: bool) -> FamilySnapshot {
        let Some(idle) = self.expire_after else {
            return self.read(false, false, lives).snapshot;
        };
        let turn = {
            let mut members = self.members.lock();
            members.turn += 1;
            members.turn
        };
        let read = self.read(true, true, lives);
        self.expire(idle, turn, &read);
        read.snapshot
    }

    /// Reads all series. Where each is, is kept if `keep` says so; how much each has been written to, if `watch` does: for
    /// [`expire`](Self::expire) alone, because asking takes the marks of entries. The snapshot has its series' lives if `lives`
    /// says so.
    ///
    /// It goes by batches, so that what is read of an entry is read while it is near: of very many series, only the first look
    /// at each has to wait for memory.
    fn read(&self, keep: bool, watch: bool, lives: bool) -> Read {
        let mut reading = Table::read(&self.table);
        let len = reading.places();
        let mut columns = Columns::new(self.shape, len);
        let (mut places, mut writes, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        let mut lives = lives.then(|| Vec::with_capacity(len));
        let mut batch = Vec::with_capacity(BATCH.min(len));
        let mut series = reading.series();
        for start in (0..len).step_by(BATCH) {
            batch.clear();
            batch.extend(series.by_ref().take(BATCH));
            match self.shape {
                None => columns
                    .counts
                    .extend(batch.iter().map(|found| self.entry_value(*found))),
                Some(shape) => columns.sum(shape, start, &batch),
            }
            if watch {
                let active =
                    |found: &Option<Found>| found.is_some_and(|found| self.table.take_active(found.entry)) as u64;
                match self.shape {
                    None => writes.extend(batch.iter().map(active)),
                    Some(shape) => writes.extend(
                        columns.counts[start * shape.counts..][..batch.len() * shape.counts]
                            .chunks(shape.counts)
                            .map(total),
                    ),
                }
            }
            if keep {
                places.extend_from_slice(&batch);
            }
            if let Some(lives) = &mut lives {
                lives.extend(batch.iter().map(|found| found.map_or(0, life_of)));
            }
            // A series that was removed meanwhile may have been added up in part, or not at all. Its entry says so: it was marked
            // before its cells were touched.
            let ended = batch.iter().enumerate().filter(|(at, found)| match found {
                Some(found) => !self.table.is_current(*found),
                None => reading.is_taken(start + at),
            });
            gone.extend(ended.map(|(at, _)| start + at));
        }
        drop(series);
        let mut lives = lives.unwrap_or_default();
        for place in gone {
            reading.forget(place);
            if let Some(life) = lives.get_mut(place) {
                *life = 0;
            }
        }
        let values = columns.values(self.descriptor.kind);
        let snapshot = FamilySnapshot {
            descriptor: self.descriptor.clone(),
            forked: self.shared.forked(),
            rows: Rows::Live(reading),
            values,
            lives,
        };
        Read {
            snapshot,
            places,
            writes,
        }
    }

    fn entry_value(&self, found: Option<Found>) -> u64 {
        found.map_or(0, |found| self.table.value(found.entry).load(Ordering::Relaxed))
    }

    /// Ends the series that nobody keeps and that have not moved for `idle`. A series is hidden at one collection and
    /// ended at one that began afterwards, if it has not moved in between either: whoever looked it up before it was hidden and
    /// wrote afterwards has by then been seen. What is written even after that is counted as late.
    fn expire(&self, idle: Duration, turn: u64, read: &Read) {
        let now = self.shared.clock.monotonic();
        let departure = self.time_of_departure();
        let mut members = self.members.lock();
        let begun = members.turn;
        for series in read.snapshot.series().filter(|series| !series.is_overflow()) {
            let place = series.place();
            let found = read.places[place].expect("a snapshot's series has a place");
            // A gauge has no count of its writes, only a mark that there were some since the last collection.
            let marked = self.shape.is_none() && read.writes[place] != 0;
            let fresh = Activity {
                life: found.life,
                // A gauge's mark is no count, to be compared with the one before.
                writes: if self.shape.is_some() { read.writes[place] } else { 0 },
                since: now,
                hidden: None,
            };
            match members.activity.get_mut(&found.entry) {
                Some(activity) if !marked && activity.life == fresh.life && activity.writes == fresh.writes => {
                    if let Some(hidden) = activity.hidden {
                        if turn > hidden
                            && let Some(ended) = self.end(&mut members, found, departure)
                            && self.shape.is_some()
                            && !ended.departed
                        {
                            // No reader gets it any more. Exporters, if there are any, got it with the departure.
                            self.late(ended.writes.wrapping_sub(read.writes[place]));
                        }
                    } else if now.saturating_sub(activity.since) >= idle && self.unindexed.get() != Some(&found) {
                        activity.hidden = self.table.hide(found).then_some(begun);
                    }
                }
                before => {
                    if before.is_some_and(|activity| activity.life == fresh.life && activity.hidden.is_some()) {
                        self.table.show(found);
                    }
                    members.activity.insert(found.entry, fresh);
                }
            }
        }
    }
}

impl Drop for FamilyCore {
    fn drop(&mut self) {
        // Nobody can write any more; the cells go to other families.
        if let Some(shape) = self.shape {
            let mut counts = vec![0; shape.counts];
            for found in Table::read(&self.table).series().flatten() {
                SPACE.release(
                    CellId::from_bits(found.life),
                    self.shared.ledger.late_writes(),
                    &mut counts,
                );
            }
        }
    }
}

/// How a series ended.
struct Ended {
    /// What its counting cells came to, all together.
    writes: u64,
    /// Whether exporters have its final values.
    departed: bool,
}

/// How many series are read at a time.
const BATCH: usize = 256;

/// The life of a series, which no other one of the family ever has; and none of the process, if it has cells. 0 for one that came
/// when no cell was left, and counts nothing.
fn life_of(found: Found) -> u64 {
    if found.life == CellId::UNSET.bits() {
        0
    } else {
        found.life
    }
}

fn total(counts: &[u64]) -> u64 {
    counts.iter().fold(0, |total, count| total.wrapping_add(*count))
}

/// The numbers of a family's series while they are read.
struct Columns {
    /// Counts, as many a series as its shape has; or the bits of the values in entries.
    counts: Vec<u64>,
    sums: Vec<f64>,
    ids: Vec<CellId>,
}

impl Columns {
    fn new(shape: Option<Shape>, len: usize) -> Self {
        let (counts, sums) = match shape {
            None => (Vec::with_capacity(len), Vec::new()),
            Some(shape) => (vec![0; len * shape.counts], vec![0.0; if shape.sum { len } else { 0 }]),
        };
        Columns {
            counts,
            sums,
            ids: Vec::with_capacity(BATCH.min(len)),
        }
    }

    fn sum(&mut self, shape: Shape, start: usize, batch: &[Option<Found>]) {
        self.ids.clear();
        let id = |found: &Option<Found>| found.map_or(CellId::UNSET, |found| CellId::from_bits(found.life));
        self.ids.extend(batch.iter().map(id));
        let counts = &mut self.counts[start * shape.counts..][..batch.len() * shape.counts];
        let sums = if shape.sum {
            &mut self.sums[start..][..batch.len()]
        } else {
            &mut []
        };
        SPACE.sum(shape, &self.ids, counts, sums);
    }

    fn values(self, kind: Kind) -> Values {
        match kind {
            Kind::Counter => Values::Counts(self.counts),
            Kind::FloatCounter => Values::Floats(self.sums),
            Kind::Gauge => Values::Floats(self.counts.into_iter().map(f64::from_bits).collect()),
            Kind::IntGauge => Values::Integers(self.counts.into_iter().map(|bits| bits as i64).collect()),
            Kind::UpDownCounter => {
                let cells = UpDownCounter::SHAPE.counts;
                Values::Integers(self.counts.chunks(cells).map(balance).collect())
            }
            Kind::Histogram => Values::Histograms {
                counts: self.counts,
                sums: self.sums,
            },
        }
    }
}

/// What a collection reads.
struct Read {
    snapshot: FamilySnapshot,
    /// The series in each of the snapshot's places, if they were to be kept.
    places: Vec<Option<Found>>,
    /// How much each has been written to, or for an entry's value whether it has, since this was last asked.
    writes: Vec<u64>,
}
