//! The law of conservation, checked from outside: what was recorded is counted by the workload itself, what was
//! refused for good comes from the dead-letter callback, and what arrived is read from the requests that the far end
//! stored. Of these three, series by series, nothing may be left over.
//!
//! For increments: recorded - rejected = stored, where bytes that were stored again count once; what was stored again
//! is at most what the exporter calls possible duplicates. For values as they stand: the newest is what was recorded.

use crate::points::{Number, Point, Temporality, Value, texts};
use crate::receiver::{Outcome, PATIENCE, Receiver, Request, State};
use crate::workload::{Amount, Key, Tally, Workload, comes_and_goes};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use tidegauge::{
    Compression, DeadLetter, Exporter, ExporterHandle, ExporterStatistics, Filter, Otlp, OtlpBuilder, Protocol,
    Registry, RetryPolicy, TemporalityPreference,
};

/// From one collection to the next in these tests.
pub const INTERVAL: Duration = Duration::from_millis(20);

/// How an exporter speaks to the far end.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    pub temporality: Temporality,
    pub protocol: Protocol,
    pub compression: Compression,
}

pub const DELTA: Way = Way {
    temporality: Temporality::Delta,
    protocol: Protocol::Protobuf,
    compression: Compression::None,
};

pub const CUMULATIVE: Way = Way {
    temporality: Temporality::Cumulative,
    ..DELTA
};

pub const DELTA_JSON: Way = Way {
    protocol: Protocol::Json,
    ..DELTA
};

pub const DELTA_GZIP: Way = Way {
    compression: Compression::Gzip,
    ..DELTA
};

pub const CUMULATIVE_JSON_GZIP: Way = Way {
    protocol: Protocol::Json,
    compression: Compression::Gzip,
    ..CUMULATIVE
};

/// An exporter that pushes a workload to a receiver, until the end of the scenario.
pub struct Run {
    pub receiver: Receiver,
    pub workload: Workload,
    pub exporter: ExporterHandle,
    pub letters: Letters,
    way: Way,
}

impl Run {
    /// Two threads record from now on; the metrics of the crate itself are not pushed.
    pub fn start(way: Way) -> Run {
        Run::with(way, |otlp| otlp, |exporter| exporter)
    }

    /// As [`start`](Run::start), with other settings.
    pub fn with(
        way: Way,
        otlp: impl FnOnce(OtlpBuilder) -> OtlpBuilder,
        exporter: impl FnOnce(Exporter) -> Exporter,
    ) -> Run {
        Run::to(Receiver::start(), way, otlp, exporter)
    }

    /// As [`with`](Run::with), to a receiver that was told already how to behave.
    pub fn to(
        receiver: Receiver,
        way: Way,
        otlp: impl FnOnce(OtlpBuilder) -> OtlpBuilder,
        exporter: impl FnOnce(Exporter) -> Exporter,
    ) -> Run {
        let mut run = Run::quiet(receiver, way, otlp, exporter);
        run.workload.spawn(2);
        run
    }

    /// Without threads that record: the test does it.
    pub fn quiet(
        receiver: Receiver,
        way: Way,
        otlp: impl FnOnce(OtlpBuilder) -> OtlpBuilder,
        exporter: impl FnOnce(Exporter) -> Exporter,
    ) -> Run {
        let workload = Workload::new(&Registry::new());
        let letters = Letters::default();
        let exporter = exporter(letters.attach(pushing(&receiver, way, otlp)));
        Run {
            exporter: exporter.start(&workload.registry).expect("the settings are good"),
            receiver,
            workload,
            letters,
            way,
        }
    }

    /// Waits until so many more payloads were delivered.
    pub fn delivers(&self, payloads: u64) {
        delivers(&self.exporter, payloads);
    }

    /// Waits until so many more collections were made.
    pub fn collects(&self, collections: u64) {
        let before = self.exporter.stats().collections;
        wait_until("collections", || {
            self.exporter.stats().collections >= before + collections
        });
    }

    /// Waits until all that [`Receiver::next`] was given has been met, and answered.
    pub fn meets_the_script(&self) {
        self.receiver.wait_for(State::is_through);
    }

    /// Ends the recording, delivers the rest to a far end that is well by now, and checks the law and that all that
    /// the exporter says of itself agrees.
    pub fn finish(self) -> End {
        let Run {
            receiver,
            workload,
            exporter,
            letters,
            way,
        } = self;
        let registry = workload.registry.clone();
        let tally = workload.stop();
        flushed(&exporter);
        exporter
            .shutdown(PATIENCE)
            .expect("what is well takes the last payload too");
        let stats = exporter.stats();
        wait_until("the last replies", || {
            // One may have begun to wait after the test has let all go on.
            receiver.release();
            receiver.read(State::is_through)
        });
        let requests = receiver.read(|state| state.requests.clone());
        let stored = Stored::of(&requests);
        let rejected = letters.taken();
        match way.temporality {
            Temporality::Delta => {
                stored.assert_increments(&tally, &rejected.amounts);
                assert!(
                    stats.possible_duplicate_points >= stored.again,
                    "{} points were stored again, and only {} are said to be possible duplicates",
                    stored.again,
                    stats.possible_duplicate_points
                );
            }
            Temporality::Cumulative => {
                stored.assert_values(&tally, stats.rejected_points > 0);
                assert_eq!(stats.possible_duplicate_points, 0);
            }
        }
        assert_eq!(stats.rejected_points, rejected.points);
        assert_eq!(stats.dead_letters, rejected.messages.len() as u64);
        assert_eq!(stats.dropped_removed_series_points, 0);
        assert_eq!((stats.queued_collections, stats.queued_bytes), (0, 0));
        let scraped = Scraped::of(&registry, exporter.name());
        scraped.assert_agrees(&stats);
        End {
            stats,
            requests,
            scraped,
            messages: rejected.messages,
        }
    }
}

/// The settings of every scenario, before its own.
pub fn pushing(receiver: &Receiver, way: Way, otlp: impl FnOnce(OtlpBuilder) -> OtlpBuilder) -> Exporter {
    pushing_to(&receiver.url(), way, otlp)
}

/// As [`pushing`], to a URL.
pub fn pushing_to(url: &str, way: Way, otlp: impl FnOnce(OtlpBuilder) -> OtlpBuilder) -> Exporter {
    let preference = match way.temporality {
        Temporality::Delta => TemporalityPreference::Delta,
        Temporality::Cumulative => TemporalityPreference::Cumulative,
    };
    let builder = Otlp::builder()
        .metrics_url(url)
        .no_proxy()
        .protocol(way.protocol)
        .compression(way.compression)
        .temporality(preference);
    let destination = otlp(builder).build().expect("the settings are good");
    Exporter::new(destination)
        .interval(INTERVAL)
        // What a scenario does not mean to be late must not be, on a machine with other work to do.
        .send_timeout(PATIENCE)
        .filter(Filter::new().families(|family| family.name().starts_with("law_")))
        .retry(impatient())
}

/// Waits of milliseconds. What fails is given up for the number of its failures, and not for its time, which a send may take on a
/// machine with other work to do; but waits that a far end asks for are longer.
pub fn impatient() -> RetryPolicy {
    RetryPolicy::new()
        .initial(Duration::from_millis(2))
        .most(Duration::from_millis(20))
        .retry_for(Duration::from_secs(1))
}

/// Waits until so many more payloads were delivered.
pub fn delivers(exporter: &ExporterHandle, payloads: u64) {
    let before = exporter.stats().delivered_payloads;
    wait_until("deliveries", || {
        exporter.stats().delivered_payloads >= before + payloads
    });
}

/// Flushes until there is nothing left.
pub fn flushed(exporter: &ExporterHandle) {
    let mut last = None;
    wait_until("a complete flush", || match exporter.flush(PATIENCE) {
        Ok(_) => true,
        Err(error) => {
            let error = error.to_string();
            if last.as_ref() != Some(&error) {
                eprintln!("{error}");
            }
            last = Some(error);
            false
        }
    });
}

/// Looks again and again whether this is so; for what an exporter says of itself, which wakes nobody.
///
/// # Panics
///
/// If it takes longer than [`PATIENCE`].
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for {what}");
        // The processor is for those who are waited for.
        thread::park_timeout(Duration::from_millis(1));
    }
}

/// What there is to see when a scenario is over.
pub struct End {
    pub stats: ExporterStatistics,
    pub requests: Vec<Request>,
    pub scraped: Scraped,
    /// What the far end said of what it refused for good.
    pub messages: Vec<String>,
}

impl End {
    /// How many points the requests have that are like this.
    pub fn points(&self, like: impl Fn(&Request) -> bool) -> u64 {
        let requests = self.requests.iter().filter(|request| like(request));
        requests.map(|request| request.points as u64).sum()
    }

    /// The points of requests that came again with the same bytes, each time after the first: all of them, and those
    /// that are increments.
    pub fn repeated(&self) -> (u64, u64) {
        let mut seen = HashSet::new();
        let (mut all, mut increments) = (0, 0);
        for request in &self.requests {
            if !seen.insert(&request.message.body) {
                all += request.points as u64;
                let points = request.decoded();
                increments += points.iter().filter(|point| is_increment(point)).count() as u64;
            }
        }
        (all, increments)
    }

    /// So many points are said to have been sent again, and so many came again. These are the same where every send has arrived; but one
    /// whose time was over before all of it had left, on a machine with other work to do, was nothing to the far end.
    pub fn assert_said_is_what_came(&self, said: u64, came: u64) {
        let sends = self.scraped.value("send_duration_seconds_count", None) as usize;
        match sends == self.requests.len() {
            true => assert_eq!(said, came),
            false => assert!(
                said >= came && sends > self.requests.len(),
                "{came} points came again, {said} are said to have been sent again; {sends} sends, {} requests",
                self.requests.len()
            ),
        }
    }

    /// The requests that were answered so.
    pub fn answered(&self, status: u16) -> impl Iterator<Item = &Request> {
        let answered = Outcome::Answered(status);
        self.requests.iter().filter(move |request| request.outcome == answered)
    }

    /// Points whose payload was given up: increments join a later one, and values as they stood are superseded.
    pub fn given_up(&self) -> u64 {
        self.stats.carried_over_points + self.stats.dropped_superseded_points
    }

    /// Nothing came twice, and nothing is said to.
    pub fn assert_never_unclear(&self) {
        assert_eq!(self.stats.possible_duplicate_points, 0);
        let mut stored = HashSet::new();
        for request in self.requests.iter().filter(|request| request.stored > 0) {
            assert!(stored.insert(&request.message.body), "stored twice: {request:?}");
        }
    }

    /// Every point that is said to be delivered, and no other, is stored and was confirmed.
    pub fn assert_delivered_is_what_was_confirmed(&self) {
        let confirmed = self.answered(200).map(|request| request.stored as u64).sum::<u64>();
        assert_eq!(self.stats.delivered_points, confirmed);
        let payloads = self.answered(200).count() as u64;
        assert_eq!(self.stats.delivered_payloads, payloads);
    }
}

fn is_increment(point: &Point) -> bool {
    point.series.temporality == Some(Temporality::Delta)
}

/// What the far end stored.
pub struct Stored {
    /// Each request once, whether it was stored again or not.
    once: HashMap<Key, Vec<Point>>,
    /// Increments that were stored again, each time.
    again: u64,
}

impl Stored {
    pub fn of(requests: &[Request]) -> Stored {
        let mut seen = HashSet::new();
        let mut stored = Stored {
            once: HashMap::new(),
            again: 0,
        };
        for request in requests.iter().filter(|request| request.stored > 0) {
            // What is refused of a request is its beginning.
            let points = request.decoded().into_iter().skip(request.points - request.stored);
            if !seen.insert(&request.message.body) {
                stored.again += points.filter(is_increment).count() as u64;
                continue;
            }
            for point in points {
                let series = (point.series.name.clone(), point.series.attributes.clone());
                stored.once.entry(series).or_default().push(point);
            }
        }
        stored
    }

    /// Recorded - rejected = stored, and no time is counted twice.
    pub fn assert_increments(&self, tally: &Tally, rejected: &BTreeMap<Key, Amount>) {
        for (series, recorded) in &tally.amounts {
            let mut expected = recorded.clone();
            if let Some(rejected) = rejected.get(series) {
                expected.add(rejected, -1);
            }
            let points = self.of_series(series);
            let mut sum = Amount::default();
            sum.buckets.resize(expected.buckets.len(), 0);
            for point in points {
                assert_eq!(point.series.temporality, Some(Temporality::Delta), "{series:?}");
                sum.add(&Amount::of(&point.value).expect("it is an increment"), 1);
            }
            assert_eq!(sum, expected, "increments of {series:?}, of {recorded:?} in all");
            if !comes_and_goes(series) {
                self.assert_times_follow(series);
            }
        }
        self.assert_levels(tally);
        self.assert_nothing_else(tally);
    }

    /// The newest value is what was recorded; of a series that came and went, the newest of each of its lives. If
    /// `rejections` happened, the last word of a series that went may be among them.
    pub fn assert_values(&self, tally: &Tally, rejections: bool) {
        for (series, recorded) in &tally.amounts {
            let mut lives: BTreeMap<u64, &Point> = BTreeMap::new();
            let mut points: Vec<&Point> = self.of_series(series).iter().collect();
            points.sort_by_key(|point| point.time);
            for point in points {
                assert_eq!(point.series.temporality, Some(Temporality::Cumulative), "{series:?}");
                if let Some(before) = lives.insert(point.start, point) {
                    let (before, now) = (Amount::of(&before.value), Amount::of(&point.value));
                    let (before, now) = (before.unwrap_or_default(), now.unwrap_or_default());
                    assert!(now.whole >= before.whole && now.sum >= before.sum, "{series:?} fell");
                }
            }
            let mut sum = Amount::default();
            sum.buckets.resize(recorded.buckets.len(), 0);
            for point in lives.values() {
                sum.add(&Amount::of(&point.value).expect("it only grows"), 1);
            }
            if rejections && comes_and_goes(series) {
                assert!(sum.whole <= recorded.whole && sum.sum <= recorded.sum, "{series:?}");
            } else {
                assert_eq!(sum, *recorded, "values of {series:?}, in {} lives", lives.len());
            }
        }
        self.assert_levels(tally);
        self.assert_nothing_else(tally);
    }

    /// Each increment begins where one before it ended, or later.
    fn assert_times_follow(&self, series: &Key) {
        let points = self.of_series(series).iter();
        let mut windows: Vec<_> = points.map(|point| (point.start, point.time)).collect();
        windows.sort_unstable();
        for pair in windows.windows(2) {
            assert!(pair[1].0 >= pair[0].1, "times of {series:?} overlap: {pair:?}");
        }
    }

    fn assert_levels(&self, tally: &Tally) {
        for (series, expected) in &tally.levels {
            let newest = self.of_series(series).iter().max_by_key(|point| point.time);
            let newest = newest.unwrap_or_else(|| panic!("nothing of {series:?} arrived"));
            let level = match newest.value {
                Value::Gauge(Number::Double(level)) => level,
                Value::Gauge(Number::Integer(level))
                | Value::Sum {
                    value: Number::Integer(level),
                    monotonic: false,
                } => level as f64,
                ref other => panic!("{series:?} arrived as {other:?}"),
            };
            assert_eq!(level, *expected, "{series:?}");
        }
    }

    fn assert_nothing_else(&self, tally: &Tally) {
        let known = |series: &Key| tally.amounts.contains_key(series) || tally.levels.contains_key(series);
        for series in self.once.keys().filter(|(name, _)| name.starts_with("law_")) {
            // The up-down counter is there before anything is recorded.
            let is_new = self
                .of_series(series)
                .iter()
                .all(|point| Amount::of(&point.value).is_none_or(|amount| amount.whole == 0 && amount.sum == 0.0));
            assert!(known(series) || is_new, "nobody recorded {series:?}");
        }
    }

    fn of_series(&self, series: &Key) -> &[Point] {
        self.once.get(series).map_or(&[], Vec::as_slice)
    }
}

/// What the dead-letter callback is given.
#[derive(Clone, Default)]
pub struct Letters(Arc<Mutex<Rejected>>);

/// What the far end refused for good.
#[derive(Clone, Default)]
pub struct Rejected {
    /// Of increments.
    pub amounts: BTreeMap<Key, Amount>,
    pub points: u64,
    /// One a letter.
    pub messages: Vec<String>,
}

impl Letters {
    pub fn attach(&self, exporter: Exporter) -> Exporter {
        let letters = self.clone();
        exporter.dead_letters(move |letter| letters.take(letter))
    }

    pub fn taken(&self) -> Rejected {
        self.0.lock().expect("no letter panics").clone()
    }

    fn take(&self, letter: &DeadLetter<'_>) {
        let mut rejected = self.0.lock().expect("no letter panics");
        rejected.points += letter.rejected();
        rejected.messages.push(letter.message().to_owned());
        // A server that refuses some does not say which; this one refuses the first.
        let mut left = letter.rejected();
        letter.each(|family, point| {
            if left == 0 {
                return;
            }
            left -= 1;
            if let Some(amount) = Amount::of_ours(point.value()) {
                let series = (family.given_name().to_owned(), texts(point.attributes()));
                rejected.amounts.entry(series).or_default().add(&amount, 1);
            }
        });
        assert_eq!(left, 0, "a letter has all the points it speaks of");
    }
}

/// The metrics of an exporter, as they are scraped.
pub struct Scraped {
    text: String,
    exporter: String,
}

impl Scraped {
    pub fn of(registry: &Registry, exporter: &str) -> Scraped {
        let body = registry.scrape(None, None).into_body();
        Scraped {
            text: String::from_utf8(body).expect("a scrape is text"),
            exporter: exporter.to_owned(),
        }
    }

    /// A value, by the name of its family without `tidegauge_exporter_`, and its label besides the exporter.
    pub fn value(&self, name: &str, label: Option<(&str, &str)>) -> f64 {
        let label = label.map_or(String::new(), |(name, value)| format!(",{name}=\"{value}\""));
        let series = format!("tidegauge_exporter_{name}{{exporter=\"{}\"{label}}} ", self.exporter);
        let line = self.text.lines().find_map(|line| line.strip_prefix(&series));
        let line = line.unwrap_or_else(|| panic!("no {series:?} in\n{}", self.text));
        line.parse().expect("a sample is a number")
    }

    /// The scrape and the statistics say the same.
    pub fn assert_agrees(&self, stats: &ExporterStatistics) {
        let of = |outcome| self.value("points_total", Some(("outcome", outcome))) as u64;
        let dropped = |reason| self.value("dropped_points_total", Some(("reason", reason))) as u64;
        let only = |name| self.value(name, None) as u64;
        for (what, scraped, said) in [
            ("delivered", of("delivered"), stats.delivered_points),
            ("retried", of("retried"), stats.retried_points),
            ("rejected", of("rejected"), stats.rejected_points),
            ("carried over", of("carried_over"), stats.carried_over_points),
            (
                "possible duplicates",
                of("possible_duplicate"),
                stats.possible_duplicate_points,
            ),
            ("queue full", dropped("queue_full"), stats.dropped_queue_full_points),
            ("queue bytes", dropped("queue_bytes"), stats.dropped_queue_bytes_points),
            (
                "removed series",
                dropped("removed_series"),
                stats.dropped_removed_series_points,
            ),
            ("dead letters", only("dead_letters_total"), stats.dead_letters),
            ("connections", only("connections_total"), stats.connections),
            (
                "credential reloads",
                only("credential_reloads_total"),
                stats.credential_reloads,
            ),
            (
                "collections",
                only("collection_duration_seconds_count"),
                stats.collections,
            ),
        ] {
            assert_eq!(scraped, said, "{what}");
        }
    }
}

/// Runs a scenario in each way, one after the other.
pub fn in_each(ways: &[Way], mut scenario: impl FnMut(Way)) {
    for way in ways {
        eprintln!("{way:?}");
        scenario(*way);
    }
}

/// Says which of a scenario's variants is being run, for the output of a failure.
pub fn trying(variant: impl Debug) {
    eprintln!("trying {variant:?}");
}
