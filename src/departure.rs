//! What is left of series that were removed, until every exporter has it.
//!
//! A pull sees a removed series no more; an exporter still owes its far end what the series counted since the last delivery.
//! So the end of a series is a [`Departure`], with the final values, and every attached exporter has an [`Inbox`] in which
//! departures wait for it. The registry knows inboxes weakly: an exporter that goes takes its inbox along. Where there is none,
//! nothing is made.
//!
//! # Once, and not twice
//!
//! An exporter asks for three things, in this order:
//!
//! ```text
//! let cut = inbox.arrived();
//! let snapshot = registry.snapshot_for_export();
//! let departed = inbox.take(cut);
//! ```
//!
//! A life is never both in `snapshot` and in `departed`: a departure arrives after its series is out of the table, so what
//! arrived before the cut was out of the table before the snapshot looked. And none is lost between the two: a life that was
//! in some snapshot of this exporter and is in a later one no more was removed in between, while the inbox was attached, so its
//! departure has arrived or is about to; if not in this cut, then in a later one. Nothing departs twice, because a table
//! removes a life for one caller only. And the final values are no less than any snapshot's, because they are read when the
//! life is over for all snapshots that could still begin, in the same order as theirs are.
//!
//! A series that comes and goes between two snapshots is in none of them; its departure is all that an exporter sees of it.
//!
//! What a full inbox drops is the one exception, and counted. And a registry that is dropped whole says nothing: whoever wants the
//! last values of its series keeps it until they are delivered.

use crate::{
    clock::SharedClock,
    platform,
    snapshot::FamilySnapshot,
    sync::{AtomicBool, Mutex, Ordering},
};
use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
    time::Duration,
};

/// A series that is over, with its final values.
#[derive(Debug)]
pub(crate) struct Departure {
    /// Its family, with this series alone, in place 0.
    pub(crate) family: FamilySnapshot,
    /// As in [`FamilySnapshot::lives`]: 0 for a gauge, whose value is in no cell.
    pub(crate) life: u64,
    /// When it ended, since the Unix epoch, by the registry's clock.
    pub(crate) ended: Duration,
}

/// What one exporter has not yet taken of departures.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// The last ones of all that have arrived, in their order.
    departures: VecDeque<Arc<Departure>>,
    arrived: u64,
    dropped: u64,
}

impl Inbox {
    /// The most departures that wait in one inbox. When it is full the oldest goes and is counted.
    pub(crate) const CAPACITY: usize = 16_384;

    /// How many have arrived in all; to be asked before the snapshot that they are to be taken with.
    pub(crate) fn arrived(&self) -> u64 {
        self.waiting.lock().arrived
    }

    /// Takes those among the first `until` arrivals that still wait.
    pub(crate) fn take(&self, until: u64) -> Vec<Arc<Departure>> {
        let mut waiting = self.waiting.lock();
        let gone = waiting.arrived - waiting.departures.len() as u64;
        let wanted = until.saturating_sub(gone) as usize;
        let wanted = wanted.min(waiting.departures.len());
        waiting.departures.drain(..wanted).collect()
    }

    /// How many had to go because the inbox was full.
    pub(crate) fn dropped(&self) -> u64 {
        self.waiting.lock().dropped
    }

    /// How many wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.lock().departures.len()
    }

    fn put(&self, departure: Arc<Departure>) {
        let mut waiting = self.waiting.lock();
        waiting.arrived += 1;
        if waiting.departures.len() == Self::CAPACITY {
            waiting.departures.pop_front();
            waiting.dropped += 1;
        }
        waiting.departures.push_back(departure);
    }
}

/// The inboxes of a registry's exporters.
#[derive(Debug, Default)]
pub(crate) struct Departures {
    /// Whether there is an inbox, or was one when something last departed; written under the lock.
    ///
    /// Relaxed reads are enough: whoever looks has removed a series, and if an exporter has a snapshot with that series, then the
    /// table's lock was taken for the snapshot after the inbox was attached, and for the removal after that.
    awaited: AtomicBool,
    inboxes: Mutex<Inboxes>,
}

#[derive(Debug, Default)]
struct Inboxes {
    /// With the generation of the process that attached each: an exporter does not go on in a fork.
    all: Vec<(u64, Weak<Inbox>)>,
    /// When the newest was attached, since the Unix epoch.
    attached: Duration,
}

impl Departures {
    /// An inbox for an exporter: it gets what departs from now on, for as long as it is kept.
    pub(crate) fn attach(&self, now: Duration) -> Arc<Inbox> {
        let inbox = Arc::default();
        let mut inboxes = self.inboxes.lock();
        inboxes.all.push((platform::generation(), Arc::downgrade(&inbox)));
        inboxes.attached = now;
        self.awaited.store(true, Ordering::Relaxed);
        inbox
    }

    /// The time, if it will be needed to say when something departed. The clock may be the application's, so this is asked
    /// before any lock is taken.
    pub(crate) fn time(&self, clock: &SharedClock) -> Option<Duration> {
        self.awaited.load(Ordering::Relaxed).then(|| clock.unix())
    }

    /// Puts a departure into every inbox; false, with nothing made, if there is none. `now` is what [`time`](Self::time) said before.
    pub(crate) fn deliver(&self, now: Option<Duration>, depart: impl FnOnce(Duration) -> Departure) -> bool {
        if !self.awaited.load(Ordering::Relaxed) {
            return false;
        }
        let mut inboxes = self.inboxes.lock();
        let process = platform::generation();
        let is_used = |(made, inbox): &(u64, Weak<Inbox>)| *made == process && inbox.strong_count() > 0;
        inboxes.all.retain(is_used);
        if inboxes.all.is_empty() {
            self.awaited.store(false, Ordering::Relaxed);
            return false;
        }
        // Without a time, an inbox was attached since it was asked for: that moment is as good as any in between.
        let departure = Arc::new(depart(now.unwrap_or(inboxes.attached)));
        for inbox in inboxes.all.iter().filter_map(|(_, inbox)| inbox.upgrade()) {
            inbox.put(departure.clone());
        }
        true
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{
        Buckets, Clock, Counter, Family, Format, Histogram, Instrument, Registry, SeriesSnapshot, UpDownCounter, Value,
        testing::ManualClock,
    };
    use std::{
        collections::{HashMap, HashSet},
        sync::mpsc,
        thread,
        time::SystemTime,
    };

    /// All that waits.
    fn take(inbox: &Inbox) -> Vec<Arc<Departure>> {
        inbox.take(inbox.arrived())
    }

    fn series(departure: &Departure) -> SeriesSnapshot<'_> {
        let mut all = departure.family.series();
        let series = all.next().expect("a departure has one series");
        assert!(all.next().is_none() && series.place() == 0);
        series
    }

    /// The first label's value and the final values of each.
    fn finals(departures: &[Arc<Departure>]) -> Vec<(&str, Value<'_>)> {
        let shown = |departure| {
            let series = series(departure);
            (series.labels().next().map_or("", |(_, value)| value), series.value())
        };
        departures.iter().map(|departure| shown(departure)).collect()
    }

    #[test]
    fn a_series_departs_with_its_labels_its_values_and_its_times() {
        let clock = ManualClock::new();
        let registry = Registry::builder()
            .clock(clock.clone())
            .label("region", "eu")
            .build()
            .unwrap();
        let inbox = registry.attach();
        let waits = registry
            .histogram("wait", "Time a job waits.")
            .unit("s")
            .labels(["job.kind", "of"]);
        let buckets = Buckets::explicit([1.0, 2.0]).unwrap();
        let waits = waits.buckets(buckets).register().unwrap();
        clock.advance(Duration::from_millis(1500));
        for wait in [0.5, 1.5, 7.0, 9.0] {
            waits
                .with(["a \"quoted\" one", "a long value of more than eight bytes"])
                .observe(wait);
        }
        waits.with(["other", ""]).observe(1.0);
        let snapshot = registry.snapshot_for_export();
        let family = snapshot.family("wait").unwrap();
        let before = family.series().next().unwrap();

        clock.advance(Duration::from_secs(60));
        assert!(waits.remove(["a \"quoted\" one", "a long value of more than eight bytes"]));
        let departed = take(&inbox);
        let after = series(&departed[0]);
        assert_eq!((departed.len(), departed[0].life), (1, family.lives[0]));
        assert_eq!(departed[0].ended, clock.unix());
        assert!(after.labels().eq(before.labels()) && after.attributes().eq(before.attributes()));
        assert_eq!((after.value(), after.created()), (before.value(), before.created()));
        assert_eq!(
            after.created(),
            SystemTime::UNIX_EPOCH + clock.unix() - Duration::from_secs(60)
        );
        assert!(!after.is_overflow() && !departed[0].family.is_observed());
        let Value::Histogram(value) = after.value() else {
            panic!("it is a histogram")
        };
        assert_eq!((value.counts(), value.sum()), (&[1, 1, 2][..], 18.0));
        assert_eq!((inbox.waiting(), inbox.arrived(), inbox.dropped()), (0, 1, 0));
    }

    #[test]
    fn a_departure_is_encoded_as_its_series_was() {
        let registry = Registry::builder().label("region", "eu").build().unwrap();
        let inbox = registry.attach();
        let sizes = registry
            .float_counter("size_bytes", "Sizes.")
            .labels(["kind"])
            .register()
            .unwrap();
        sizes.with(["a \"quoted\" one"]).add(1.5);
        for format in [Format::Text, Format::OpenMetrics] {
            let shown = |families| {
                let mut bytes = Vec::new();
                let taken = Duration::from_secs(1_700_000_000);
                crate::Snapshot { families, taken }.encode(format, &mut bytes);
                String::from_utf8(bytes).unwrap()
            };
            let before = shown(registry.snapshot().families);
            sizes.remove(["a \"quoted\" one"]);
            assert_eq!(shown(vec![take(&inbox)[0].family.clone()]), before);
            sizes.with(["a \"quoted\" one"]).add(1.5);
        }
    }

    #[test]
    fn every_way_to_remove_a_series_of_any_kind_makes_it_depart() {
        let registry = Registry::new();
        let inbox = registry.attach();
        let counts = registry
            .counter("counts", "Counter.")
            .labels(["kind"])
            .limit(4)
            .register()
            .unwrap();
        for (kind, count) in [
            ("removed", 1),
            ("retained", 2),
            ("not", 3),
            ("cleared", 4),
            ("too many", 5),
        ] {
            counts.with([kind]).add(count);
        }
        counts.remove(["removed"]);
        counts.retain(|series| series.label("kind") != Some("not"));
        counts.clear();
        let expected = [("removed", 1), ("not", 3), ("retained", 2), ("cleared", 4)];
        assert_eq!(
            finals(&take(&inbox)),
            expected.map(|(kind, count)| (kind, Value::Counter(count)))
        );
        registry.unregister("counts");
        let departed = take(&inbox);
        assert_eq!(finals(&departed), [("true", Value::Counter(5))]);
        assert!(series(&departed[0]).is_overflow());

        registry
            .float_counter("seconds", "Float counter.")
            .register()
            .unwrap()
            .add(0.5);
        registry.gauge("depth", "Gauge.").register().unwrap().set(-1.5);
        registry.int_gauge("entries", "Gauge.").register().unwrap().set(-3);
        let open = registry.up_down_counter("open", "Up-down counter.").register().unwrap();
        open.add(5);
        open.sub(7);
        let expected = [
            ("seconds", Value::FloatCounter(0.5)),
            ("depth", Value::Gauge(-1.5)),
            ("entries", Value::IntGauge(-3)),
            ("open", Value::IntGauge(-2)),
        ];
        for (name, value) in expected {
            assert!(registry.unregister(name));
            let departed = take(&inbox);
            assert_eq!(finals(&departed), [("", value)]);
            let is_gauge = ["depth", "entries"].contains(&name);
            assert_eq!(departed[0].life == 0, is_gauge);
        }
        // This family has no series, not even one for what is past its limit.
        registry
            .counter("unused", "Counter.")
            .labels(["kind"])
            .register()
            .unwrap();
        registry.unregister("unused");
        assert_eq!(inbox.arrived(), 9);
    }

    #[test]
    fn each_inbox_has_each_departure_and_one_that_is_gone_has_none() {
        let registry = Registry::new();
        let jobs = registry.counter("jobs", "Jobs.").labels(["kind"]).register().unwrap();
        let depart = || {
            jobs.with(["a"]).inc();
            assert!(jobs.remove(["a"]));
        };
        depart();
        let [one, other] = [(); 2].map(|()| registry.attach());
        depart();
        let (at_one, at_other) = (take(&one), take(&other));
        assert!(at_one.len() == 1 && at_other.len() == 1 && Arc::ptr_eq(&at_one[0], &at_other[0]));
        drop(one);
        depart();
        assert_eq!((other.arrived(), other.waiting()), (2, 1));
        drop(other);
        depart();
        let last = registry.attach();
        depart();
        assert_eq!(last.arrived(), 1);
    }

    #[test]
    fn only_what_came_before_the_cut_is_taken() {
        let registry = Registry::new();
        let inbox = registry.attach();
        let jobs = registry.counter("jobs", "Jobs.").labels(["kind"]).register().unwrap();
        let depart = |kind| {
            jobs.with([kind]).inc();
            jobs.remove([kind]);
        };
        let is = |departed: Vec<Arc<Departure>>, expected: &[&str]| {
            assert!(
                finals(&departed)
                    .iter()
                    .map(|(kind, _)| *kind)
                    .eq(expected.iter().copied())
            );
        };
        depart("a");
        depart("b");
        let cut = inbox.arrived();
        depart("c");
        is(inbox.take(1), &["a"]);
        is(inbox.take(cut), &["b"]);
        is(inbox.take(cut), &[]);
        is(inbox.take(u64::MAX), &["c"]);
        assert_eq!((inbox.arrived(), inbox.waiting()), (3, 0));
    }

    #[test]
    fn a_full_inbox_loses_the_oldest_and_counts_it() {
        let registry = Registry::new();
        let inbox = registry.attach();
        let jobs = registry.counter("jobs", "Jobs.").labels(["number"]).register().unwrap();
        for number in 0..Inbox::CAPACITY + 3 {
            jobs.with((number,)).inc();
            jobs.remove((number,));
        }
        assert_eq!((inbox.waiting(), inbox.dropped()), (Inbox::CAPACITY, 3));
        assert_eq!(inbox.take(3).len(), 0);
        assert_eq!(finals(&inbox.take(4)), [("3", Value::Counter(1))]);
        assert_eq!(take(&inbox).len(), Inbox::CAPACITY - 1);
        assert_eq!(inbox.arrived(), Inbox::CAPACITY as u64 + 3);
    }

    type Deed = Box<dyn FnOnce() + Send>;

    /// A clock that is the application's, and does something whenever it is asked.
    #[derive(Clone)]
    struct Doing {
        time: ManualClock,
        when_asked: Arc<Mutex<Option<Deed>>>,
    }

    impl Doing {
        fn new() -> Self {
            Doing {
                time: ManualClock::new(),
                when_asked: Arc::default(),
            }
        }

        fn next(&self, deed: impl FnOnce() + Send + 'static) {
            *self.when_asked.lock() = Some(Box::new(deed));
        }

        fn asked(&self) {
            let deed = self.when_asked.lock().take();
            if let Some(deed) = deed {
                deed();
            }
        }
    }

    impl Clock for Doing {
        fn monotonic(&self) -> Duration {
            self.asked();
            self.time.monotonic()
        }

        fn unix(&self) -> Duration {
            self.asked();
            self.time.unix()
        }
    }

    /// What an idle series is written while the collection that ends it goes on.
    fn expire(attached: bool) -> (Registry, Option<Arc<Inbox>>) {
        let clock = Doing::new();
        let registry = Registry::builder().clock(clock.clone()).build().unwrap();
        let inbox = attached.then(|| registry.attach());
        let jobs = registry
            .counter("jobs", "Jobs.")
            .labels(["kind"])
            .expire_after(Duration::from_secs(60));
        // For ever, so that the clock can have what is borrowed from it.
        let jobs = Box::leak(Box::new(jobs.register().unwrap()));
        let job = jobs.with(["a"]);
        job.add(2);
        registry.snapshot();
        clock.time.advance(Duration::from_secs(60));
        // Hides it.
        registry.snapshot();
        clock.next(move || job.add(3));
        let last = registry.snapshot();
        assert_eq!(
            last.family("jobs").unwrap().series().next().unwrap().value(),
            Value::Counter(2)
        );
        assert!(jobs.is_empty());
        (registry, inbox)
    }

    #[test]
    fn what_is_written_while_a_series_expires_goes_to_exporters_and_is_lost_without() {
        let (registry, inbox) = expire(true);
        let departed = take(&inbox.unwrap());
        assert_eq!(finals(&departed), [("a", Value::Counter(5))]);
        assert_eq!(registry.losses().late_writes, 0);
        let (registry, _) = expire(false);
        assert_eq!(registry.losses().late_writes, 3);
    }

    #[test]
    fn the_clock_is_asked_under_no_lock_and_not_without_need() {
        let clock = Doing::new();
        let registry = Registry::builder().clock(clock.clone()).build().unwrap();
        let jobs = registry.counter("jobs", "Jobs.").labels(["kind"]).register().unwrap();
        jobs.with(["a"]).inc();
        clock.next(|| panic!("nobody wants to know when"));
        jobs.remove(["a"]);
        *clock.when_asked.lock() = None;

        let inbox = registry.attach();
        type Removal = fn(&Registry, &Family<Counter, 1>);
        let removals: [Removal; 3] = [
            |_, jobs| assert!(jobs.remove(["a"])),
            |_, jobs| jobs.clear(),
            |registry, _| assert!(registry.unregister("jobs")),
        ];
        for (arrived, removal) in removals.into_iter().enumerate() {
            jobs.with(["a"]).inc();
            clock.next({
                let (registry, jobs, inbox) = (registry.clone(), jobs.clone(), inbox.clone());
                move || {
                    jobs.with(["made by the clock"]).inc();
                    jobs.remove(["made by the clock"]);
                    registry.snapshot();
                    assert_eq!(inbox.arrived(), 2 * arrived as u64 + 1);
                }
            });
            let (done, is_done) = mpsc::channel();
            let (registry, jobs) = (registry.clone(), jobs.clone());
            thread::spawn(move || {
                removal(&registry, &jobs);
                done.send(()).expect("the test waits");
            });
            let waited = is_done.recv_timeout(Duration::from_secs(20));
            waited.expect("a removal whose clock records comes to its end");
        }
    }

    #[test]
    fn a_removal_that_an_exporter_overtakes_ends_when_that_was_attached() {
        let clock = ManualClock::new();
        let departures = Departures::default();
        let shared = SharedClock::new(clock.clone());
        let asked = departures.time(&shared);
        clock.advance(Duration::from_secs(1));
        let inbox = departures.attach(clock.unix());
        let attached = clock.unix();
        clock.advance(Duration::from_secs(1));
        let family = Registry::new();
        family.counter("jobs", "Jobs.").register().unwrap();
        let family = family.snapshot().families.remove(0);
        assert!(departures.deliver(asked, |ended| Departure { family, life: 7, ended }));
        assert_eq!((asked, take(&inbox)[0].ended), (None, attached));
    }

    /// A family, made or made again, and one write of weight one to it.
    struct Stressed<I> {
        register: fn(&Registry) -> Family<I, 1>,
        record: fn(&Family<I, 1>, &str),
    }

    impl<I: Instrument + 'static> Stressed<I> {
        /// Records on two threads while a third removes series in all ways and the family too, and looks at every life as an
        /// exporter does.
        fn run(self) {
            let registry = Registry::new();
            let inbox = registry.attach();
            let family = Arc::new(Mutex::new((self.register)(&registry)));
            let done = Arc::new(AtomicBool::new(false));
            let writers = [1, 2].map(|mut number| {
                let (family, done) = (family.clone(), done.clone());
                // Not scoped: what a thread does when it ends is to be over when it is joined.
                thread::spawn(move || {
                    let mut recorded = 0;
                    while !done.load(Ordering::Acquire) {
                        let family = family.lock().clone();
                        for _ in 0..20 {
                            (self.record)(&family, KEYS[next(&mut number) % KEYS.len()]);
                            recorded += 1;
                        }
                    }
                    recorded
                })
            });
            let remover = thread::spawn({
                let (registry, done) = (registry.clone(), done.clone());
                move || {
                    let mut number = 3;
                    for removal in 0..REMOVALS {
                        let now = family.lock().clone();
                        match removal % 100 {
                            50 => now.clear(),
                            75 => now.retain(|series| series.label("key") != Some("a")),
                            99 => {
                                assert!(registry.unregister("things"));
                                *family.lock() = (self.register)(&registry);
                            }
                            // The writers make one before long.
                            _ => {
                                while !now.remove([KEYS[next(&mut number) % KEYS.len()]]) {
                                    thread::yield_now();
                                }
                            }
                        }
                    }
                    done.store(true, Ordering::Release);
                }
            });
            let mut seen = Seen::default();
            while !remover.is_finished() {
                seen.look(&registry, &inbox);
            }
            remover.join().unwrap();
            let recorded: u64 = writers.map(|writer| writer.join().unwrap()).iter().sum();
            // The last cut is after all departures: whatever lived is in the snapshot now or has departed.
            let living = seen.look(&registry, &inbox);
            assert_eq!(seen.last.keys().copied().collect::<HashSet<_>>(), living);
            let late = registry.losses().late_writes;
            let accounted = seen.last.values().sum::<u64>() + seen.finals + late;
            assert_eq!(accounted, recorded, "{late} of them late");
            assert!(seen.departed.len() > REMOVALS / 2, "{}", seen.departed.len());
            assert_eq!((inbox.waiting(), inbox.dropped()), (0, 0));
        }
    }

    const REMOVALS: usize = 300;
    const KEYS: [&str; 4] = ["a", "b", "c", "past the limit"];

    /// A number that is as good as any (<https://en.wikipedia.org/wiki/Xorshift>).
    fn next(state: &mut u64) -> usize {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state as usize
    }

    fn weight(series: SeriesSnapshot<'_>) -> u64 {
        match series.value() {
            Value::Counter(count) => count,
            Value::IntGauge(balance) => balance.try_into().expect("it only grew"),
            Value::Histogram(histogram) => {
                assert!(histogram.sum() <= histogram.count() as f64);
                histogram.count()
            }
            other => panic!("{other:?} has no weight"),
        }
    }

    /// What an exporter knows.
    #[derive(Default)]
    struct Seen {
        /// By life, what each had in the last snapshot with it, if it has not departed.
        last: HashMap<u64, u64>,
        departed: HashSet<u64>,
        /// What those that departed came to.
        finals: u64,
    }

    impl Seen {
        /// Goes through a snapshot and the departures up to its cut. The lives in the snapshot.
        fn look(&mut self, registry: &Registry, inbox: &Inbox) -> HashSet<u64> {
            let cut = inbox.arrived();
            let snapshot = registry.snapshot_for_export();
            let departed = inbox.take(cut);
            let mut living = HashSet::new();
            for family in snapshot.families() {
                for series in family.series() {
                    let life = family.lives[series.place()];
                    assert!(life != 0 && living.insert(life));
                    assert!(!self.departed.contains(&life), "it is in a snapshot and had departed");
                    let before = self.last.insert(life, weight(series));
                    assert!(before.is_none_or(|before| before <= weight(series)));
                }
            }
            for departure in departed {
                let (life, value) = (departure.life, weight(series(&departure)));
                assert!(!living.contains(&life), "it is in the snapshot and in its cut");
                assert!(self.departed.insert(life), "it departs twice");
                let before = self.last.remove(&life);
                assert!(
                    before.is_none_or(|before| before <= value),
                    "{before:?}, in the end {value}"
                );
                self.finals += value;
            }
            living
        }
    }

    #[test]
    fn the_final_value_of_every_counter_is_seen_once() {
        Stressed::<Counter> {
            register: |registry| {
                let things = registry.counter("things", "Counter.").labels(["key"]);
                // Never so idle; but each collection looks whether it is.
                things
                    .limit(3)
                    .expire_after(Duration::from_secs(3600))
                    .register()
                    .unwrap()
            },
            record: |things, key| things.with([key]).inc(),
        }
        .run();
    }

    #[test]
    fn the_final_value_of_every_up_down_counter_is_seen_once() {
        Stressed::<UpDownCounter> {
            register: |registry| {
                let things = registry.up_down_counter("things", "Up-down counter.").labels(["key"]);
                things.limit(3).register().unwrap()
            },
            record: |things, key| things.with([key]).inc(),
        }
        .run();
    }

    #[test]
    fn the_final_value_of_every_histogram_is_seen_once() {
        Stressed::<Histogram> {
            register: |registry| {
                let things = registry.histogram("things", "Histogram.").labels(["key"]);
                things.limit(3).register().unwrap()
            },
            record: |things, key| things.with([key]).observe(1.0),
        }
        .run();
    }
}
