//! The exporter without threads: its ticker and its sender, step by step, with a clock that is moved and a far end that obeys a
//! script.

mod packets;
mod replacing;
mod spooled_packets;
mod spooling;

use super::{Exporter, Parts, sender::Next, state::Flushing};
use crate::{
    Answer, Destination, ExporterStatistics, FamilySnapshot, Filter, FlushError, FlushReport, Kind, Payload, Points,
    Preferences, Registry, RetryPolicy, Temporality, Value, testing::ManualClock,
};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Waker,
    time::Duration,
};

const SECOND: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_secs(10);

/// A far end, and the destination that leads to it.
#[derive(Clone)]
struct FarEnd(Arc<Mutex<Inner>>);

struct Inner {
    temporality: Temporality,
    /// Each payload takes the place of the one before.
    replaces: bool,
    merges: bool,
    wants_samples: bool,
    /// Points in a payload.
    most: usize,
    /// What happens to the next sends; when it is empty, `always`.
    script: VecDeque<Fate>,
    always: Fate,
    /// What happens to payloads with a series of which the text is a part.
    cursed: Option<(String, Fate)>,
    totals: BTreeMap<String, f64>,
    /// Increments that came in more than once.
    duplicates: BTreeMap<String, f64>,
    /// Increments that were stored without an answer, and whose payload was refused when it came again.
    disowned: BTreeMap<String, f64>,
    duplicate_points: u64,
    /// Of every payload that was sent: its name, its bytes and its time.
    sent: Vec<(String, Vec<u8>)>,
    stored: std::collections::HashSet<String>,
    windows: BTreeMap<String, Vec<(Duration, Duration)>>,
    reconnects: usize,
    reloads: usize,
    fresh_credentials: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Taken,
    Rejected,
    TooLarge,
    Busy,
    BusyFor(Duration),
    /// It is not stored, and no answer comes.
    Lost,
    /// It is stored, but no answer comes.
    Unanswered,
    NotFound,
    Unauthorized,
    Panics,
}

impl FarEnd {
    fn new(temporality: Temporality) -> Self {
        FarEnd(Arc::new(Mutex::new(Inner {
            temporality,
            replaces: false,
            merges: false,
            wants_samples: false,
            most: usize::MAX,
            script: VecDeque::new(),
            always: Fate::Taken,
            cursed: None,
            totals: BTreeMap::new(),
            duplicates: BTreeMap::new(),
            disowned: BTreeMap::new(),
            duplicate_points: 0,
            sent: Vec::new(),
            stored: Default::default(),
            windows: BTreeMap::new(),
            reconnects: 0,
            reloads: 0,
            fresh_credentials: false,
        })))
    }

    fn with<R>(&self, change: impl FnOnce(&mut Inner) -> R) -> R {
        change(&mut self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    fn total(&self, series: &str) -> f64 {
        self.with(|inner| inner.totals.get(series).copied().unwrap_or_default())
    }
}

/// One line a number: series, value, start, end.
fn line(payload: &mut Vec<u8>, series: &str, value: f64, start: Duration, end: Duration) {
    payload.extend(format!("{series}\t{value}\t{}\t{}\n", start.as_nanos(), end.as_nanos()).bytes());
}

fn read(bytes: &[u8]) -> Vec<(String, f64, Duration, Duration)> {
    let text = std::str::from_utf8(bytes).unwrap();
    let nanos = |text: &str| Duration::from_nanos(text.parse().unwrap());
    text.lines()
        .map(|line| {
            let parts: Vec<&str> = line.split('\t').collect();
            (
                parts[0].to_owned(),
                parts[1].parse().unwrap(),
                nanos(parts[2]),
                nanos(parts[3]),
            )
        })
        .collect()
}

impl Destination for FarEnd {
    fn name(&self) -> &str {
        "far"
    }

    fn address(&self) -> String {
        "far://end".to_owned()
    }

    fn preferences(&self) -> Preferences {
        Preferences {
            interval: Some(INTERVAL),
            replaces: self.with(|inner| inner.replaces),
            merges: self.with(|inner| inner.merges),
            samples: self.with(|inner| inner.wants_samples),
            ..Preferences::default()
        }
    }

    fn temporality(&self, _: &FamilySnapshot) -> Temporality {
        self.with(|inner| inner.temporality)
    }

    fn encode(&mut self, points: &mut Points<'_>, payload: &mut Vec<u8>) {
        let most = self.with(|inner| inner.most);
        let mut taken = 0;
        while let Some(family) = points.next_family() {
            while let Some(point) = points.peek() {
                if taken == most {
                    return;
                }
                taken += 1;
                let labels: Vec<&str> = point.labels().map(|(_, value)| value).collect();
                let series = format!("{}{{{}}}", family.name(), labels.join(","));
                let (start, end) = (point.start(), point.time());
                match point.value() {
                    Value::Counter(count) => line(payload, &series, count as f64, start, end),
                    Value::FloatCounter(float) | Value::Gauge(float) => line(payload, &series, float, start, end),
                    Value::IntGauge(integer) => line(payload, &series, integer as f64, start, end),
                    Value::Histogram(histogram) => {
                        for (at, count) in histogram.counts().iter().enumerate() {
                            line(payload, &format!("{series} {at}"), *count as f64, start, end);
                        }
                        line(payload, &format!("{series} sum"), histogram.sum(), start, end);
                    }
                    Value::Samples(samples) => {
                        line(payload, &format!("{series} samples"), samples.len() as f64, start, end);
                    }
                }
                points.take();
            }
        }
    }

    fn send(&mut self, payload: &Payload, _: Duration) -> Answer {
        self.with(|inner| {
            let id = payload.id().to_string();
            if let Some((_, before)) = inner.sent.iter().find(|(known, _)| *known == id) {
                assert_eq!(before, payload.bytes(), "a repetition has the same bytes");
            }
            inner.sent.push((id.clone(), payload.bytes().to_owned()));
            let mut fate = inner.script.pop_front().unwrap_or(inner.always);
            if let Some((curse, cursed)) = &inner.cursed
                && String::from_utf8_lossy(payload.bytes()).contains(curse.as_str())
            {
                fate = *cursed;
            }
            if matches!(fate, Fate::Taken | Fate::Unanswered) {
                inner.store(&id, payload.bytes());
            }
            if matches!(fate, Fate::Rejected | Fate::TooLarge) && inner.stored.contains(&id) {
                for (series, value, ..) in read(payload.bytes()) {
                    *inner.disowned.entry(series).or_default() += value;
                }
            }
            match fate {
                Fate::Taken => Answer::delivered(),
                Fate::Rejected => Answer::rejected("this is bad\nto the bone"),
                Fate::TooLarge => Answer::too_large("413"),
                Fate::Busy => Answer::retry("503"),
                Fate::BusyFor(wait) => Answer::retry("429").after(wait),
                Fate::Lost | Fate::Unanswered => Answer::unclear("reset"),
                Fate::NotFound => Answer::carry_over("404"),
                Fate::Unauthorized => Answer::unauthorized("401"),
                Fate::Panics => panic!("as the script says"),
            }
        })
    }

    fn reload_credentials(&mut self) -> bool {
        self.with(|inner| {
            inner.reloads += 1;
            std::mem::take(&mut inner.fresh_credentials)
        })
    }

    fn reconnect(&mut self) {
        self.with(|inner| inner.reconnects += 1);
    }
}

impl Inner {
    fn store(&mut self, id: &str, bytes: &[u8]) {
        let again = !self.stored.insert(id.to_owned());
        for (series, value, start, end) in read(bytes) {
            assert!(start <= end, "{series}: {start:?} {end:?}");
            match self.temporality {
                Temporality::Cumulative => *self.totals.entry(series).or_default() = value,
                Temporality::Delta => {
                    *self.totals.entry(series.clone()).or_default() += value;
                    if again {
                        // A histogram has many lines.
                        self.duplicate_points += u64::from(series.ends_with('}') || series.ends_with("sum"));
                        *self.duplicates.entry(series.clone()).or_default() += value;
                    } else {
                        self.windows.entry(series).or_default().push((start, end));
                    }
                }
            }
        }
    }
}

/// An exporter that moves when it is told to.
struct Rig<F = FarEnd> {
    registry: Registry,
    clock: ManualClock,
    far_end: F,
    parts: Parts,
}

impl Rig {
    fn new(far_end: FarEnd, set_up: impl FnOnce(Exporter) -> Exporter) -> Self {
        let filter = Filter::new().families(|family| !family.name().starts_with("tidegauge_"));
        Rig::filtered(far_end, filter, set_up)
    }
}

impl<F: Destination + Clone> Rig<F> {
    fn filtered(far_end: F, filter: Filter, set_up: impl FnOnce(Exporter) -> Exporter) -> Self {
        let clock = ManualClock::new();
        let registry = Registry::builder().clock(clock.clone()).build().unwrap();
        let exporter = Exporter::new(far_end.clone()).phase(false).jitter(0.0).seed(5);
        let parts = set_up(exporter.filter(filter)).assemble(&registry).unwrap().unwrap();
        Rig {
            registry,
            clock,
            far_end,
            parts,
        }
    }

    /// Lets both sides do what they have to at this moment.
    fn settle(&mut self) {
        self.parts.ticker.step();
        while self.parts.sender.step() == Next::Again {}
        self.parts.ticker.step();
    }

    /// Moves on to the end of an interval, second by second.
    fn interval(&mut self) {
        for _ in 0..INTERVAL.as_secs() {
            self.clock.advance(SECOND);
            self.settle();
        }
    }

    fn flush(&mut self, deadline: Duration) -> Result<FlushReport, FlushError> {
        self.flush_step_by_step(deadline, SECOND / 10)
    }

    fn flush_step_by_step(&mut self, deadline: Duration, step: Duration) -> Result<FlushReport, FlushError> {
        let id = self.parts.shared.request_flush(deadline);
        let end = crate::Clock::monotonic(&self.clock) + deadline;
        loop {
            self.settle();
            if let Flushing::Done(result) = self.parts.shared.poll_flush(id, Waker::noop()) {
                self.parts.shared.forget_flush(id);
                return result;
            }
            assert!(
                crate::Clock::monotonic(&self.clock) <= end,
                "a flush outlasts its deadline"
            );
            self.clock.advance(step);
        }
    }

    fn stats(&self) -> ExporterStatistics {
        super::handle::statistics(&self.parts.shared)
    }
}

fn delta() -> FarEnd {
    FarEnd::new(Temporality::Delta)
}

#[test]
fn increments_arrive_once_and_windows_meet() {
    let mut rig = Rig::new(delta(), |exporter| exporter);
    let jobs = rig
        .registry
        .counter("jobs_total", "Jobs.")
        .labels(["queue"])
        .register()
        .unwrap();
    let wait = rig.registry.histogram("wait_seconds", "Waits.").register().unwrap();
    for turn in 1..=5_u64 {
        jobs.with(["mail"]).add(turn);
        wait.observe(0.25);
        rig.interval();
    }
    assert_eq!(rig.far_end.total("jobs_total{mail}"), 15.0);
    assert_eq!(rig.far_end.total("wait_seconds{} sum"), 1.25);
    let windows = rig.far_end.with(|inner| inner.windows["jobs_total{mail}"].clone());
    assert_eq!(windows.len(), 5);
    assert!(windows.windows(2).all(|pair| pair[0].1 == pair[1].0), "{windows:?}");
    let stats = rig.stats();
    assert_eq!((stats.delivered_points, stats.collections), (10, 5));
    // What does not move is not sent.
    let sent = rig.far_end.with(|inner| inner.sent.len());
    rig.interval();
    assert_eq!(rig.far_end.with(|inner| inner.sent.len()), sent);
}

#[test]
fn a_dropped_collection_joins_the_next() {
    let mut rig = Rig::new(delta(), |exporter| exporter.queue(2, usize::MAX));
    let jobs = rig.registry.counter("jobs_total", "Jobs.").register().unwrap();
    rig.far_end.with(|inner| inner.always = Fate::Busy);
    for _ in 0..20 {
        jobs.inc();
        rig.interval();
    }
    let stats = rig.stats();
    assert!(stats.dropped_queue_full_points > 0);
    assert_eq!(stats.queued_collections, 2);
    assert!(stats.oldest_undelivered.is_some());
    rig.far_end.with(|inner| inner.always = Fate::Taken);
    rig.flush(60 * SECOND).unwrap();
    assert_eq!(rig.far_end.total("jobs_total{}"), 20.0);
    assert_eq!(rig.stats().oldest_undelivered, None);
    assert_eq!(rig.stats().possible_duplicate_points, 0);
}

#[test]
fn the_second_of_three_requests_fails_for_ten_intervals() {
    for fate in [Fate::Busy, Fate::NotFound, Fate::Lost, Fate::Unanswered] {
        let mut rig = Rig::new(delta(), |exporter| exporter);
        rig.far_end.with(|inner| {
            inner.most = 1;
            inner.cursed = Some(("{b}".to_owned(), fate));
        });
        let jobs = rig
            .registry
            .counter("jobs_total", "Jobs.")
            .labels(["queue"])
            .register()
            .unwrap();
        for _ in 0..10 {
            ["a", "b", "c"].iter().for_each(|queue| jobs.with([*queue]).inc());
            rig.interval();
        }
        let before = if fate == Fate::Unanswered { 1.0 } else { 0.0 };
        assert!(rig.far_end.total("jobs_total{b}") >= before, "{fate:?}");
        // The others are not held up.
        for _ in 0..3 {
            rig.interval();
        }
        assert_eq!(rig.far_end.total("jobs_total{a}"), 10.0, "{fate:?}");
        assert_eq!(rig.far_end.total("jobs_total{c}"), 10.0, "{fate:?}");
        rig.far_end.with(|inner| inner.cursed = None);
        for _ in 0..3 {
            rig.interval();
        }
        rig.flush(60 * SECOND).unwrap();
        let duplicates = rig.far_end.with(|inner| inner.duplicates.values().sum::<f64>());
        assert_eq!(rig.far_end.total("jobs_total{b}") - duplicates, 10.0, "{fate:?}");
        let stats = rig.stats();
        match fate {
            Fate::Lost | Fate::Unanswered => assert!(stats.possible_duplicate_points as f64 >= duplicates),
            _ => assert_eq!((stats.possible_duplicate_points, duplicates), (0, 0.0)),
        }
    }
}

#[test]
fn what_blames_the_data_is_counted_and_kept_by_the_callback() {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let letters = kept.clone();
    let mut rig = Rig::new(delta(), |exporter| {
        exporter.dead_letters(move |letter| {
            assert_eq!(letter.message(), "this is bad to the bone");
            letter.each(|family, point| {
                letters
                    .lock()
                    .unwrap()
                    .push((family.name().to_owned(), format!("{:?}", point.value())));
            });
        })
    });
    let jobs = rig.registry.counter("jobs_total", "Jobs.").register().unwrap();
    jobs.add(7);
    rig.far_end.with(|inner| inner.script = [Fate::Rejected].into());
    let error = rig.flush(SECOND).unwrap_err();
    assert_eq!(error.report().rejected, 1);
    assert!(
        error
            .to_string()
            .contains("1 rejected; the last error: this is bad to the bone"),
        "{error}"
    );
    assert_eq!(
        *kept.lock().unwrap(),
        [("jobs_total".to_owned(), "Counter(7)".to_owned())]
    );
    jobs.add(2);
    rig.flush(SECOND).unwrap();
    assert_eq!(rig.far_end.total("jobs_total{}"), 2.0);
    let stats = rig.stats();
    assert_eq!((stats.rejected_points, stats.dead_letters), (1, 1));
}

#[test]
fn what_is_too_large_is_halved_until_it_fits() {
    let mut rig = Rig::new(delta(), |exporter| exporter);
    let jobs = rig
        .registry
        .counter("jobs_total", "Jobs.")
        .labels(["queue"])
        .register()
        .unwrap();
    (0..8).for_each(|queue| jobs.with((queue,)).inc());
    rig.far_end
        .with(|inner| inner.script = [Fate::TooLarge, Fate::TooLarge, Fate::Taken, Fate::TooLarge].into());
    rig.flush(SECOND).unwrap();
    let sizes: Vec<usize> = rig
        .far_end
        .with(|inner| inner.sent.iter().map(|(_, bytes)| read(bytes).len()).collect());
    assert_eq!(sizes[..5], [8, 4, 2, 3, 1]);
    assert_eq!(
        (0..8)
            .map(|queue| rig.far_end.total(&format!("jobs_total{{{queue}}}")))
            .sum::<f64>(),
        8.0
    );
    assert_eq!(rig.stats().rejected_points, 0);
    rig.far_end.with(|inner| inner.always = Fate::TooLarge);
    jobs.with((0,)).inc();
    assert_eq!(rig.flush(SECOND).unwrap_err().report().rejected, 1);
}

#[test]
fn what_is_refused_is_counted_once_however_often_a_payload_is_halved() {
    struct Counts(FarEnd);
    impl Destination for Counts {
        fn name(&self) -> &str {
            "counts"
        }
        fn encode(&mut self, points: &mut Points<'_>, payload: &mut Vec<u8>) {
            while points.next_family().is_some() {
                while let Some(point) = points.peek() {
                    match point.value() {
                        Value::Counter(count) => {
                            line(payload, "all", count as f64, point.start(), point.time());
                            points.take();
                        }
                        _ => points.refuse("not a counter"),
                    }
                }
            }
        }
        fn send(&mut self, payload: &Payload, timeout: Duration) -> Answer {
            self.0.send(payload, timeout)
        }
    }
    let clock = ManualClock::new();
    let registry = Registry::builder().clock(clock.clone()).build().unwrap();
    let jobs = registry
        .counter("jobs_total", "Jobs.")
        .labels(["queue"])
        .register()
        .unwrap();
    (0..8).for_each(|queue| jobs.with((queue,)).inc());
    registry.gauge("a_level", "Level.").register().unwrap().set(1.0);
    let far_end = delta();
    far_end.with(|inner| inner.script = [Fate::TooLarge, Fate::TooLarge].into());
    let filter = Filter::new().families(|family| !family.name().starts_with("tidegauge_"));
    let exporter = Exporter::new(Counts(far_end.clone())).filter(filter);
    let parts = exporter.assemble(&registry).unwrap().unwrap();
    let mut rig = Rig {
        registry,
        clock,
        far_end,
        parts,
    };
    let error = rig.flush(SECOND).unwrap_err();
    assert_eq!((error.report().delivered, error.report().rejected), (8, 1));
}

#[test]
fn a_flush_that_the_far_end_puts_off_returns_at_once() {
    let mut rig = Rig::new(delta(), |exporter| exporter);
    rig.registry.counter("jobs_total", "Jobs.").register().unwrap().inc();
    rig.far_end
        .with(|inner| inner.script = [Fate::BusyFor(60 * SECOND)].into());
    let before = crate::Clock::monotonic(&rig.clock);
    let error = rig.flush(5 * SECOND).unwrap_err();
    assert_eq!(crate::Clock::monotonic(&rig.clock), before);
    assert!(error.to_string().contains("as the far end asks"), "{error}");
    assert_eq!(error.report().kept, 1);
    let report = rig.flush(70 * SECOND).unwrap();
    assert_eq!((report.delivered, report.kept), (1, 0));
}

#[test]
fn a_flush_reports_a_deadline_that_is_over() {
    let mut rig = Rig::new(delta(), |exporter| exporter);
    rig.registry.counter("jobs_total", "Jobs.").register().unwrap().inc();
    rig.far_end.with(|inner| inner.always = Fate::Busy);
    let error = rig.flush(2 * SECOND).unwrap_err();
    assert!(error.report().kept == 1 && error.report().delivered == 0, "{error}");
    assert_eq!(error.report().last_error.as_deref(), Some("503"));
}

#[test]
fn a_flush_tries_as_long_as_it_has_time_and_everything_it_has() {
    let mut rig = Rig::new(delta(), |exporter| exporter);
    let jobs = rig
        .registry
        .counter("jobs_total", "Jobs.")
        .labels(["queue"])
        .register()
        .unwrap();
    rig.far_end.with(|inner| {
        inner.most = 1;
        inner.cursed = Some(("{b}".to_owned(), Fate::Busy));
    });
    ["a", "b", "c"].iter().for_each(|queue| jobs.with([*queue]).inc());
    let report = rig.flush(60 * SECOND).unwrap_err().report().clone();
    assert_eq!((report.delivered, report.kept), (2, 1));
    assert_eq!(rig.far_end.total("jobs_total{c}"), 1.0);
    // Longer than the circuit and the budget would have it.
    rig.far_end.with(|inner| {
        inner.cursed = None;
        inner.script = [Fate::Busy; 12].into();
    });
    assert_eq!(rig.flush(600 * SECOND).unwrap().kept, 0);
    assert_eq!(rig.far_end.total("jobs_total{b}"), 1.0);
}

#[test]
fn refused_credentials_are_read_again_once() {
    let mut rig = Rig::new(delta(), |exporter| exporter);
    let jobs = rig.registry.counter("jobs_total", "Jobs.").register().unwrap();
    jobs.inc();
    rig.far_end.with(|inner| {
        inner.fresh_credentials = true;
        inner.script = [Fate::Unauthorized].into();
    });
    rig.flush(SECOND).unwrap();
    assert_eq!(rig.far_end.total("jobs_total{}"), 1.0);
    // For an hour nothing helps; nothing is lost by it.
    rig.far_end.with(|inner| inner.always = Fate::Unauthorized);
    for _ in 0..360 {
        jobs.inc();
        rig.interval();
    }
    let sends = rig.far_end.with(|inner| inner.sent.len());
    assert!((100..600).contains(&sends), "probes, not a flood: {sends}");
    rig.far_end.with(|inner| inner.always = Fate::Taken);
    rig.flush(60 * SECOND).unwrap();
    assert_eq!(rig.far_end.total("jobs_total{}"), 361.0);
}

#[test]
fn after_a_freeze_it_collects_once_on_fresh_connections() {
    let mut rig = Rig::new(delta(), |exporter| exporter);
    let jobs = rig.registry.counter("jobs_total", "Jobs.").register().unwrap();
    jobs.inc();
    rig.interval();
    let sent = rig.far_end.with(|inner| inner.sent.len());
    jobs.inc();
    rig.clock.advance(3600 * SECOND);
    rig.settle();
    assert_eq!(
        rig.far_end.with(|inner| (inner.sent.len() - sent, inner.reconnects)),
        (1, 1)
    );
    assert_eq!(rig.stats().collections, 2);
    // A suspended machine, whose monotonic clock stood still.
    jobs.inc();
    let unix = crate::Clock::unix(&rig.clock);
    rig.clock.set_unix(unix + 3600 * SECOND);
    rig.interval();
    assert_eq!(rig.far_end.with(|inner| inner.reconnects), 2);
}

#[test]
fn a_wall_clock_that_is_set_back_breaks_nothing() {
    let mut rig = Rig::new(delta(), |exporter| exporter);
    let jobs = rig.registry.counter("jobs_total", "Jobs.").register().unwrap();
    for _ in 0..5 {
        jobs.inc();
        rig.interval();
        let unix = crate::Clock::unix(&rig.clock);
        rig.clock.set_unix(unix - 3600 * SECOND);
    }
    assert_eq!(rig.far_end.total("jobs_total{}"), 5.0);
    let windows = rig.far_end.with(|inner| inner.windows["jobs_total{}"].clone());
    assert!(
        windows
            .windows(2)
            .all(|pair| pair[0].1 == pair[1].0 && pair[1].0 < pair[1].1),
        "{windows:?}"
    );
}

#[test]
fn last_values_of_removed_series_arrive() {
    for temporality in [Temporality::Delta, Temporality::Cumulative] {
        let mut rig = Rig::new(FarEnd::new(temporality), |exporter| exporter);
        let jobs = rig
            .registry
            .counter("jobs_total", "Jobs.")
            .labels(["queue"])
            .register()
            .unwrap();
        rig.far_end.with(|inner| inner.always = Fate::Busy);
        jobs.with(["mail"]).add(3);
        rig.interval();
        jobs.with(["mail"]).add(4);
        jobs.remove(["mail"]);
        rig.interval();
        rig.far_end.with(|inner| inner.always = Fate::Taken);
        rig.flush(60 * SECOND).unwrap();
        assert_eq!(rig.far_end.total("jobs_total{mail}"), 7.0, "{temporality:?}");
        // Another life of the same labels, and the whole family.
        jobs.with(["mail"]).add(5);
        rig.interval();
        jobs.with(["mail"]).add(6);
        rig.registry.unregister("jobs_total");
        rig.interval();
        let expected = if temporality == Temporality::Delta { 18.0 } else { 11.0 };
        assert_eq!(rig.far_end.total("jobs_total{mail}"), expected, "{temporality:?}");
    }
}

#[test]
fn a_series_that_goes_while_others_are_collected_ends_after_what_was_sent_of_it() {
    for temporality in [Temporality::Delta, Temporality::Cumulative] {
        let mut rig = Rig::new(FarEnd::new(temporality), |exporter| exporter);
        let jobs = rig.registry.counter("jobs_total", "Jobs.").labels(["queue"]);
        let jobs = jobs.register().unwrap();
        jobs.with(["mail"]).add(3);
        let (clock, removed) = (rig.clock.clone(), Arc::new(Mutex::new(false)));
        // It is collected after the jobs, and before the collection is over.
        let slow = rig.registry.observable_gauge("slow", "Takes its time.");
        slow.register(move || {
            clock.advance(SECOND);
            if !std::mem::replace(&mut *removed.lock().unwrap(), true) {
                jobs.with(["mail"]).add(4);
                jobs.remove(["mail"]);
            }
            clock.advance(SECOND);
            1
        })
        .unwrap();
        rig.interval();
        rig.interval();
        rig.interval();
        let points = rig.far_end.with(|inner| {
            let payloads = inner.sent.iter().flat_map(|(_, bytes)| read(bytes));
            let jobs = payloads.filter(|(series, ..)| series == "jobs_total{mail}");
            jobs.map(|(_, value, _, end)| (value, end)).collect::<Vec<_>>()
        });
        let second = if temporality == Temporality::Delta { 4.0 } else { 7.0 };
        assert_eq!((points[0].0, points[1].0, points.len()), (3.0, second, 2));
        assert!(points[1].1 > points[0].1, "{points:?}");
    }
}

#[test]
fn exporters_do_not_share_marks_or_filters() {
    let mut rig = Rig::new(delta(), |exporter| exporter);
    let other = FarEnd::new(Temporality::Cumulative);
    let filter = Filter::new()
        .families(|family| family.kind() == Kind::Counter && !family.name().starts_with("tidegauge"))
        .series(|series| series.label("queue") != Some("mail"));
    let exporter = Exporter::new(other.clone()).phase(false).jitter(0.0).filter(filter);
    let second = exporter.assemble(&rig.registry).unwrap().unwrap();
    assert_eq!(second.shared.name, "far-2");
    let mut second = Rig {
        registry: rig.registry.clone(),
        clock: rig.clock.clone(),
        far_end: other,
        parts: second,
    };
    let jobs = rig
        .registry
        .counter("jobs_total", "Jobs.")
        .labels(["queue"])
        .register()
        .unwrap();
    for _ in 0..3 {
        jobs.with(["mail"]).inc();
        jobs.with(["print"]).inc();
        rig.interval();
        second.settle();
    }
    assert_eq!(rig.far_end.total("jobs_total{mail}"), 3.0);
    assert_eq!(second.far_end.total("jobs_total{print}"), 3.0);
    assert_eq!(second.far_end.total("jobs_total{mail}"), 0.0);
    // Nor the last values of series whose family is not wanted.
    let waits = rig.registry.histogram("waits", "Waits.").labels(["queue"]);
    let waits = waits.register().unwrap();
    waits.with(["print"]).observe(1.0);
    for _ in 0..2 {
        rig.interval();
        second.settle();
        waits.remove(["print"]);
        jobs.remove(["print"]);
    }
    second.far_end.with(|inner| {
        let series: Vec<&str> = inner.totals.keys().map(String::as_str).collect();
        assert_eq!(series, ["jobs_total{print}"]);
    });
    let named = Exporter::new(delta()).name("far-2").assemble(&rig.registry);
    assert!(named.err().unwrap().to_string().contains("is called \"far-2\""));
}

#[test]
fn a_destination_that_panics_loses_nothing() {
    let mut rig = Rig::new(delta(), |exporter| exporter);
    rig.registry.counter("jobs_total", "Jobs.").register().unwrap().inc();
    rig.far_end.with(|inner| inner.script = [Fate::Panics].into());
    rig.flush(30 * SECOND).unwrap();
    assert_eq!(rig.far_end.total("jobs_total{}"), 1.0);
    assert_eq!(rig.stats().possible_duplicate_points, 1);
}

#[test]
fn a_fleet_that_finds_its_collector_again_comes_spread() {
    let mut firsts = Vec::new();
    for process in 0..40 {
        let mut rig = Rig::new(delta(), |exporter| exporter.seed(process).phase(true).jitter(0.1));
        let jobs = rig.registry.counter("jobs_total", "Jobs.").register().unwrap();
        rig.far_end.with(|inner| inner.always = Fate::Busy);
        for _ in 0..30 {
            jobs.inc();
            rig.interval();
        }
        let began = crate::Clock::monotonic(&rig.clock);
        rig.far_end.with(|inner| {
            inner.always = Fate::Taken;
            inner.sent.clear();
        });
        while rig.far_end.with(|inner| inner.sent.is_empty()) {
            rig.clock.advance(SECOND / 10);
            rig.settle();
        }
        firsts.push((crate::Clock::monotonic(&rig.clock) - began).as_secs());
        // The backlog is paced: not all of it comes in the next second.
        let sent = |rig: &Rig| rig.far_end.with(|inner| inner.sent.len());
        let first = sent(&rig);
        rig.clock.advance(SECOND);
        rig.settle();
        assert!(sent(&rig) <= first + 1);
    }
    let busiest = (0..30)
        .map(|second| firsts.iter().filter(|each| **each == second).count())
        .max();
    assert!(busiest < Some(8), "{firsts:?}");
}

#[test]
fn ten_thousand_intervals_without_a_far_end_take_no_more_memory() {
    let mut rig = Rig::new(delta(), |exporter| exporter);
    let jobs = rig
        .registry
        .counter("jobs_total", "Jobs.")
        .labels(["queue"])
        .register()
        .unwrap();
    rig.far_end.with(|inner| inner.always = Fate::Busy);
    let mut bytes = Vec::new();
    for turn in 0..10_000_u64 {
        (0..20).for_each(|queue| jobs.with((queue,)).inc());
        if turn % 100 == 0 {
            rig.far_end.with(|inner| inner.sent.clear());
        }
        rig.clock.advance(INTERVAL);
        rig.settle();
        bytes.push(rig.stats().queued_bytes);
    }
    assert_eq!(bytes[100], bytes[9999]);
    assert_eq!(rig.stats().queued_collections, 64);
    rig.far_end.with(|inner| inner.always = Fate::Taken);
    rig.flush(60 * SECOND).unwrap();
    assert_eq!(rig.far_end.total("jobs_total{7}"), 10_000.0);
}

#[test]
fn an_exporter_knows_its_own_counts_in_a_registry_that_is_full() {
    let clock = ManualClock::new();
    let registry = Registry::builder()
        .clock(clock.clone())
        .series_limit(1)
        .build()
        .unwrap();
    let jobs = registry
        .counter("jobs_total", "Jobs.")
        .labels(["queue"])
        .register()
        .unwrap();
    jobs.with(["mail"]).inc();
    let far_end = delta();
    let parts = Exporter::new(far_end.clone()).filter(Filter::new().families(|family| family.name() == "jobs_total"));
    let parts = parts.assemble(&registry).unwrap().unwrap();
    let mut rig = Rig {
        registry,
        clock,
        far_end,
        parts,
    };
    let report = rig.flush(SECOND).unwrap();
    assert_eq!((report.delivered, report.rejected), (1, 0));
    let stats = rig.stats();
    assert_eq!(
        (stats.delivered_points, stats.rejected_points, stats.collections),
        (1, 0, 1)
    );
}

#[test]
fn a_closures_counter_may_turn_from_integers_to_floats_and_back() {
    for floats_first in [false, true] {
        let mut rig = Rig::new(delta(), |exporter| exporter);
        let turn = Arc::new(AtomicU64::new(0));
        let read = turn.clone();
        rig.registry.collector(move |families| {
            let turn = read.load(Ordering::Relaxed);
            let things = families.counter("things_total", "Things.").labels(["kind"]);
            things.sample(["a"], 10 * (turn + 1));
            if (turn % 2 == 1) != floats_first {
                things.sample(["b"], 0.5);
            }
        });
        for expected in [10.0, 20.0, 30.0] {
            rig.interval();
            rig.interval();
            assert_eq!(rig.far_end.total("things_total{a}"), expected, "{floats_first}");
            turn.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn a_family_that_the_filter_hides_for_a_while_is_not_counted_again() {
    let hidden = Arc::new(AtomicBool::new(false));
    let hides = hidden.clone();
    let filter = Filter::new().families(move |family| family.name() == "jobs_total" && !hides.load(Ordering::Relaxed));
    let mut rig = Rig::filtered(delta(), filter, |exporter| exporter);
    let jobs = rig.registry.counter("jobs_total", "Jobs.").register().unwrap();
    for hide in [false, true, false] {
        hidden.store(hide, Ordering::Relaxed);
        jobs.add(5);
        rig.interval();
    }
    assert_eq!(rig.far_end.total("jobs_total{}"), 15.0);
    rig.registry.unregister("jobs_total");
    drop(jobs);
    rig.interval();
    rig.interval();
    assert_eq!(rig.parts.sender.families_with_marks(), 0);
}

#[test]
fn what_a_filter_hides_is_not_shown_when_it_is_removed() {
    let filter = Filter::new()
        .families(|family| family.name() == "jobs_total")
        .series(|series| series.label("queue") != Some("secret"));
    let letters = Arc::new(Mutex::new(Vec::new()));
    let seen = letters.clone();
    let mut rig = Rig::filtered(delta(), filter, |exporter| {
        exporter.dead_letters(move |letter| {
            letter.each(|family, point| {
                let labels = point.labels().map(|(_, value)| value).collect::<String>();
                seen.lock().unwrap().push(format!("{} {labels}", family.name()));
            });
        })
    });
    for (family, queue) in [
        ("jobs_total", "secret"),
        ("others_total", "mail"),
        ("jobs_total", "mail"),
    ] {
        let family = rig
            .registry
            .counter(family, "Counter.")
            .labels(["queue"])
            .register()
            .unwrap();
        family.with([queue]).inc();
        family.remove([queue]);
    }
    rig.far_end.with(|inner| inner.script = [Fate::Rejected].into());
    rig.flush(SECOND).unwrap_err();
    assert_eq!(*letters.lock().unwrap(), ["jobs_total mail"]);
}

#[test]
fn a_flush_is_not_done_by_a_collection_that_was_made_before_it() {
    let newest = crate::DropPolicy::Newest;
    let mut rig = Rig::new(delta(), |exporter| exporter.queue(1, usize::MAX).drop_policy(newest));
    let jobs = rig.registry.counter("jobs_total", "Jobs.").register().unwrap();
    rig.far_end
        .with(|inner| inner.script = [Fate::BusyFor(25 * SECOND)].into());
    for _ in 0..2 {
        jobs.inc();
        rig.interval();
    }
    jobs.inc();
    let report = rig.flush(60 * SECOND).unwrap();
    assert_eq!((rig.far_end.total("jobs_total{}"), report.dropped > 0), (3.0, true));
}

/// An exporter that tries each payload once, and a far end that leaves the first without an answer.
fn rig_with_an_unclear_payload() -> (Rig, crate::Family<crate::Counter, 1>) {
    rig_with_an_unclear_payload_and(&delta(), |exporter| exporter)
}

fn rig_with_an_unclear_payload_and(
    far_end: &FarEnd,
    set_up: impl FnOnce(Exporter) -> Exporter,
) -> (Rig, crate::Family<crate::Counter, 1>) {
    let mut rig = Rig::new(far_end.clone(), |exporter| {
        set_up(exporter.retry(RetryPolicy::new().retry_for(Duration::ZERO)))
    });
    let jobs = rig.registry.counter("jobs_total", "Jobs.").labels(["queue"]);
    let jobs = jobs.register().unwrap();
    ["a", "b"].iter().for_each(|queue| jobs.with([*queue]).inc());
    rig.far_end.with(|inner| inner.script = [Fate::Lost].into());
    rig.clock.advance(INTERVAL);
    rig.settle();
    assert_eq!(rig.parts.shared.with(|state| state.progress.parked), 2);
    (rig, jobs)
}

#[test]
fn series_that_are_not_in_an_unclear_payload_go_on() {
    let mut rig = Rig::new(delta(), |exporter| {
        exporter.retry(RetryPolicy::new().retry_for(Duration::ZERO))
    });
    let jobs = rig.registry.counter("jobs_total", "Jobs.").labels(["queue"]);
    let jobs = jobs.register().unwrap();
    let each = ["a", "b", "c"];
    each.iter().for_each(|queue| jobs.with([*queue]).inc());
    rig.flush(SECOND).unwrap();
    // The one between them has not moved.
    ["a", "c"].iter().for_each(|queue| jobs.with([*queue]).inc());
    let lost = Some(("{a}".to_owned(), Fate::Lost));
    rig.far_end.with(|inner| inner.cursed = lost);
    rig.flush(SECOND).unwrap_err();
    jobs.with(["b"]).inc();
    (0..5).for_each(|_| rig.interval());
    assert_eq!(
        each.map(|queue| rig.far_end.total(&format!("jobs_total{{{queue}}}"))),
        [1.0, 2.0, 1.0]
    );
    // Its place has another series when the answer comes.
    jobs.remove(["b"]);
    jobs.with(["d"]).add(7);
    (0..2).for_each(|_| rig.interval());
    rig.far_end.with(|inner| inner.cursed = None);
    (0..3).for_each(|_| rig.interval());
    rig.flush(60 * SECOND).unwrap();
    let each = ["a", "b", "c", "d"];
    assert_eq!(
        each.map(|queue| rig.far_end.total(&format!("jobs_total{{{queue}}}"))),
        [2.0, 2.0, 2.0, 7.0]
    );
}

#[test]
fn points_that_may_have_arrived_are_unclear_and_nothing_else() {
    // It waits for its next try, or has been given up.
    for (initial, queued) in [(10, 0), (60, 0), (10, 1), (60, 1)] {
        let wait = initial * SECOND;
        let retry = RetryPolicy::new().initial(wait).most(wait).retry_for(30 * SECOND);
        let mut rig = Rig::new(delta(), |exporter| exporter.retry(retry));
        rig.registry.counter("jobs_total", "Jobs.").register().unwrap().inc();
        rig.far_end.with(|inner| inner.always = Fate::Unanswered);
        for _ in 0..queued {
            rig.interval();
        }
        let error = rig.flush(SECOND / 2).unwrap_err();
        assert_eq!(
            (error.report().kept, error.report().unclear),
            (0, 1),
            "{initial}: {error}"
        );
    }
}

#[test]
fn a_flush_delivers_what_follows_an_unclear_payload_too() {
    let (mut rig, jobs) = rig_with_an_unclear_payload();
    jobs.with(["a"]).add(10);
    rig.flush(60 * SECOND).unwrap();
    assert_eq!(rig.far_end.total("jobs_total{a}"), 11.0);
}

#[test]
fn a_flush_delivers_an_unclear_payload_that_turns_out_too_large() {
    let (mut rig, _) = rig_with_an_unclear_payload();
    rig.far_end.with(|inner| inner.script = [Fate::TooLarge].into());
    rig.flush(60 * SECOND).unwrap();
    assert_eq!(rig.far_end.total("jobs_total{a}"), 1.0);
}

#[test]
fn many_unclear_payloads_do_not_starve_the_others() {
    let mut rig = Rig::new(delta(), |exporter| exporter);
    rig.far_end.with(|inner| {
        inner.most = 1;
        inner.cursed = Some(("{bad".to_owned(), Fate::Lost));
    });
    let jobs = rig.registry.counter("jobs_total", "Jobs.").labels(["queue"]);
    let jobs = jobs.register().unwrap();
    for queue in 0..20 {
        jobs.with([format!("bad{queue}").as_str()]).inc();
    }
    jobs.with(["good"]).inc();
    for _ in 0..300 {
        rig.interval();
    }
    assert_eq!(rig.far_end.total("jobs_total{good}"), 1.0);
    // What was let go of is counted, and comes all the same.
    rig.far_end.with(|inner| inner.cursed = None);
    rig.flush(3600 * SECOND).unwrap();
    assert_eq!(rig.far_end.total("jobs_total{bad19}"), 1.0);
    assert!(rig.stats().possible_duplicate_points > 0);
}

/// Looks at families, and takes of none.
struct Picky;

impl Destination for Picky {
    fn name(&self) -> &str {
        "picky"
    }

    fn encode(&mut self, points: &mut Points<'_>, payload: &mut Vec<u8>) {
        while let Some(family) = points.next_family() {
            if family.name() == "jobs_total" && points.peek().is_some() {
                payload.push(b'j');
                points.take();
            }
        }
    }

    fn send(&mut self, _: &Payload, _: Duration) -> Answer {
        Answer::delivered()
    }
}

#[test]
fn a_destination_may_pass_over_families_and_what_is_left_of_one() {
    let mut rig = Rig::new(delta(), |exporter| exporter);
    rig.parts = Exporter::new(Picky)
        .phase(false)
        .assemble(&rig.registry)
        .unwrap()
        .unwrap();
    rig.registry.gauge("level", "Level.").register().unwrap();
    let jobs = rig.registry.counter("jobs_total", "Jobs.").labels(["queue"]);
    let jobs = jobs.register().unwrap();
    ["a", "b", "c"].iter().for_each(|queue| jobs.with([*queue]).inc());
    rig.flush(SECOND).unwrap();
    assert_eq!(rig.stats().rejected_points, 0);
    assert!((1..=3).contains(&rig.stats().delivered_points));
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => Just(Fate::Taken),
        2 => Just(Fate::Busy),
        1 => Just(Fate::BusyFor(7 * SECOND)),
        1 => Just(Fate::Rejected),
        1 => Just(Fate::TooLarge),
        1 => Just(Fate::Lost),
        1 => Just(Fate::Unanswered),
        1 => Just(Fate::NotFound),
        1 => Just(Fate::Unauthorized),
    ]
}

#[derive(Clone, Debug)]
enum Act {
    Add(u8, u8),
    Observe(u8, u8),
    Remove(u8),
    Interval,
    Seconds(u8),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..6_u8, 1..9_u8).prop_map(|(series, amount)| Act::Add(series, amount)),
        2 => (0..6_u8, 0..9_u8).prop_map(|(series, value)| Act::Observe(series, value)),
        1 => (0..6_u8).prop_map(Act::Remove),
        2 => Just(Act::Interval),
        2 => (0..15_u8).prop_map(Act::Seconds),
    ]
}

/// What a script has recorded, series by series.
type Recorded = BTreeMap<String, f64>;

impl Rig {
    /// Does all that a script says.
    fn act(&mut self, acts: Vec<Act>, recorded: &mut Recorded) {
        let jobs = self
            .registry
            .counter("jobs_total", "Jobs.")
            .labels(["queue"])
            .register()
            .unwrap();
        let waits = self
            .registry
            .histogram("wait_seconds", "Waits.")
            .labels(["queue"])
            .register()
            .unwrap();
        for act in acts {
            match act {
                Act::Add(series, amount) => {
                    jobs.with((series,)).add(amount.into());
                    *recorded.entry(format!("jobs_total{{{series}}}")).or_default() += f64::from(amount);
                }
                Act::Observe(series, value) => {
                    waits.with((series,)).observe(f64::from(value) / 1024.0);
                    *recorded.entry(format!("wait_seconds{{{series}}} sum")).or_default() += f64::from(value) / 1024.0;
                }
                Act::Remove(series) => {
                    jobs.remove((series,));
                    waits.remove((series,));
                }
                Act::Interval => self.interval(),
                Act::Seconds(seconds) => {
                    self.clock.advance(SECOND * seconds.into());
                    self.settle();
                }
            }
        }
    }
}

proptest! {
    /// The law of conservation, series by series: recorded - rejected <= far end <= recorded - rejected + duplicates, and the
    /// duplicates are no more than were counted.
    #[test]
    fn nothing_is_lost_whatever_happens(
        acts in prop::collection::vec(act(), 1..60),
        script in prop::collection::vec(fate(), 0..60),
        most in 1_usize..5,
        queue in 1_usize..4,
        newest: bool,
    ) {
        let rejected: Arc<Mutex<BTreeMap<String, f64>>> = Arc::default();
        let letters = rejected.clone();
        let policy = if newest { crate::DropPolicy::Newest } else { crate::DropPolicy::Oldest };
        let mut rig = Rig::new(delta(), |exporter| {
            exporter
                .queue(queue, usize::MAX)
                .drop_policy(policy)
                .retry(RetryPolicy::new().open_after(3))
                .dead_letters(move |letter| letter.each(|family, point| {
                    let labels: Vec<&str> = point.labels().map(|(_, value)| value).collect();
                    let series = format!("{}{{{}}}", family.name(), labels.join(","));
                    let mut rejected = letters.lock().unwrap();
                    match point.value() {
                        Value::Counter(count) => *rejected.entry(series).or_default() += count as f64,
                        Value::Histogram(histogram) => {
                            *rejected.entry(format!("{series} sum")).or_default() += histogram.sum();
                        }
                        _ => unreachable!("there is nothing else"),
                    }
                }))
        });
        rig.far_end.with(|inner| {
            inner.most = most;
            inner.script = script.into();
        });
        let mut recorded = Recorded::new();
        rig.act(acts, &mut recorded);
        // Whatever is left of the script is used up.
        for _ in 0..20 {
            rig.interval();
        }
        rig.far_end.with(|inner| inner.script.clear());
        for _ in 0..5 {
            rig.interval();
        }
        prop_assert_eq!(rig.flush(600 * SECOND).map(|report| report.kept), Ok(0));
        let rejected = rejected.lock().unwrap();
        let (duplicates, disowned) = rig.far_end.with(|inner| (inner.duplicates.clone(), inner.disowned.clone()));
        let of = |amounts: &BTreeMap<String, f64>, series: &str| amounts.get(series).copied().unwrap_or_default();
        for (series, recorded) in &recorded {
            let owed = recorded - of(&rejected, series);
            let doubled = of(&duplicates, series) + of(&disowned, series);
            let far_end = rig.far_end.total(series);
            prop_assert_eq!(far_end - doubled, owed, "{}: {} arrived, {} of it twice", series, far_end, doubled);
            prop_assert!(doubled == 0.0 || rig.stats().possible_duplicate_points > 0);
        }
        let duplicate_points = rig.far_end.with(|inner| inner.duplicate_points);
        prop_assert!(rig.stats().possible_duplicate_points >= duplicate_points);
    }
}
