//! A far end that takes small packets, says nothing, and is heard of late: what a datagram's destination asks of the exporter.

use super::{INTERVAL, Rig, SECOND};
use crate::{Answer, Destination, FamilySnapshot, Filter, Payload, Points, Preferences, Temporality, Value};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fate {
    Arrives,
    /// It is taken, and nobody hears more of it.
    Taken,
    /// It is taken, but does not arrive; the next send is told so.
    Vanishes,
    /// The system does not take it.
    Refused,
    /// The same, for a reason that lies not in the packet.
    CarriedOver,
    Unanswered,
    TooLarge,
}

#[derive(Default)]
pub(super) struct Network {
    pub(super) script: VecDeque<Fate>,
    totals: BTreeMap<String, f64>,
    /// A packet that is on its way, and whether it vanishes.
    on_its_way: Option<(Vec<u8>, bool)>,
    pub(super) packets: usize,
    bytes: usize,
    pub(super) messages: usize,
}

impl Network {
    fn arrive(&mut self, packet: &[u8]) {
        for line in std::str::from_utf8(packet).unwrap().lines() {
            let (series, value) = line.split_once(' ').unwrap();
            *self.totals.entry(series.to_owned()).or_default() += value.parse::<f64>().unwrap();
        }
    }

    /// Whether the packet before vanished; if it did not, it has arrived by now.
    fn hear_late(&mut self) -> bool {
        match self.on_its_way.take() {
            Some((_, true)) => true,
            Some((packet, false)) => {
                self.arrive(&packet);
                false
            }
            None => false,
        }
    }
}

#[derive(Clone)]
pub(super) struct PacketEnd {
    network: Arc<Mutex<Network>>,
    /// Lines in a packet.
    lines: usize,
    whole: bool,
    pub(super) spread: Option<Duration>,
}

impl PacketEnd {
    pub(super) fn new(lines: usize) -> Self {
        PacketEnd {
            network: Arc::default(),
            lines,
            whole: false,
            spread: None,
        }
    }

    pub(super) fn with<R>(&self, change: impl FnOnce(&mut Network) -> R) -> R {
        change(&mut self.network.lock().unwrap())
    }

    pub(super) fn total(&self, series: &str) -> f64 {
        self.with(|network| network.totals.get(series).copied().unwrap_or_default())
    }
}

impl Destination for PacketEnd {
    fn name(&self) -> &str {
        "packets"
    }

    fn preferences(&self) -> Preferences {
        Preferences {
            interval: Some(INTERVAL),
            retry_for: Some(Duration::ZERO),
            spread: self.spread,
            samples: true,
            ..Preferences::default()
        }
    }

    fn temporality(&self, _: &FamilySnapshot) -> Temporality {
        Temporality::Delta
    }

    /// A line a bucket and digit, so that a histogram hardly ever fits into a packet.
    fn encode(&mut self, points: &mut Points<'_>, packet: &mut Vec<u8>) {
        let mut left = self.lines;
        let mut put = |series: &str, value: f64| packet.extend(format!("{series} {value}\n").bytes());
        let messages = self.with(|network| {
            let messages = network.messages.min(left);
            network.messages -= messages;
            messages
        });
        for _ in 0..messages {
            put("message", 1.0);
        }
        points.add_messages(messages);
        left -= messages;
        while let Some(family) = points.next_family() {
            while let Some(point) = points.peek() {
                if left == 0 {
                    return;
                }
                let labels: Vec<&str> = point.labels().map(|(_, value)| value).collect();
                let series = format!("{}{{{}}}", family.name(), labels.join(","));
                match point.value() {
                    Value::Histogram(histogram) => {
                        let found = histogram.counts().iter().position(|count| *count > 0);
                        let Some(bucket) = found else {
                            points.take();
                            continue;
                        };
                        // The highest decimal digit.
                        let count = histogram.counts()[bucket];
                        let part = 10_u64.pow(count.ilog10());
                        put(&format!("{series}{bucket}"), part as f64);
                        points.take_observations(bucket, part, part as f64);
                    }
                    Value::FloatCounter(sum) if self.whole => match sum.floor() {
                        0.0 => {
                            points.leave();
                            continue;
                        }
                        whole => {
                            put(&series, whole);
                            points.take_sum(whole);
                        }
                    },
                    Value::Counter(0) => {
                        points.take();
                        continue;
                    }
                    Value::Counter(count) => {
                        put(&series, count as f64);
                        points.take();
                    }
                    Value::FloatCounter(value) | Value::Gauge(value) => {
                        put(&series, value);
                        points.take();
                    }
                    Value::IntGauge(value) => {
                        put(&series, value as f64);
                        points.take();
                    }
                    Value::Samples(samples) => {
                        let some = samples.len().min(2);
                        put(&format!("{series}samples"), samples[..some].iter().sum());
                        points.take_samples(some);
                    }
                }
                left -= 1;
            }
        }
    }

    fn send(&mut self, payload: &Payload, _: Duration) -> Answer {
        assert!(!payload.bytes().is_empty(), "an empty packet");
        assert!(payload.bytes().iter().filter(|byte| **byte == b'\n').count() <= self.lines);
        self.with(|network| {
            network.packets += 1;
            network.bytes += payload.bytes().len();
            let vanished = network.hear_late();
            let bytes = payload.bytes();
            match network.script.pop_front().unwrap_or(Fate::Taken) {
                // What the system says of the packet before, it says instead of taking this one.
                _ if vanished => Answer::retry("nobody listens").blaming_previous(),
                Fate::Arrives => {
                    network.arrive(bytes);
                    Answer::delivered()
                }
                fate @ (Fate::Taken | Fate::Vanishes) => {
                    network.on_its_way = Some((bytes.to_owned(), fate == Fate::Vanishes));
                    Answer::delivered().provisional()
                }
                Fate::Refused => Answer::retry("no buffer"),
                Fate::CarriedOver => Answer::carry_over("no such file"),
                Fate::Unanswered => Answer::unclear("reset"),
                Fate::TooLarge => Answer::too_large("message too long"),
            }
        })
    }

    fn late_refusal(&mut self) -> Option<Answer> {
        self.with(|network| network.hear_late().then(|| Answer::retry("nobody listened")))
    }
}

fn rig(far_end: PacketEnd) -> Rig<PacketEnd> {
    let hidden = ["tidegauge_", "hidden"];
    let is_shown = move |family: &FamilySnapshot| !hidden.iter().any(|head| family.name().starts_with(head));
    Rig::filtered(far_end, Filter::new().families(is_shown), |exporter| exporter)
}

#[test]
fn a_histogram_goes_out_in_parts_and_none_comes_twice() {
    let mut rig = rig(PacketEnd::new(2));
    let waits = rig.registry.histogram("wait", "Waits.").register().unwrap();
    waits.observe_many(0.001, 1234);
    waits.observe_many(1e9, 21);
    assert!(rig.flush(SECOND).is_ok());
    let last = waits.get().counts().len() - 1;
    assert_eq!(
        (
            rig.far_end.total("wait{}0"),
            rig.far_end.total(&format!("wait{{}}{last}"))
        ),
        (1234.0, 21.0)
    );
    assert_eq!(rig.far_end.with(|network| network.packets), 7);
    assert!(rig.flush(SECOND).is_ok());
    assert_eq!(rig.far_end.with(|network| network.packets), 7, "nothing has moved");
    waits.observe_many(0.001, 1);
    rig.far_end.with(|network| network.script = [Fate::Refused].into());
    rig.interval();
    rig.interval();
    assert!(rig.flush(SECOND).is_ok());
    assert_eq!(rig.far_end.total("wait{}0"), 1235.0);
}

#[test]
fn the_rest_of_a_point_waits_when_a_part_of_it_is_refused() {
    let mut rig = rig(PacketEnd::new(1));
    let waits = rig.registry.histogram("wait", "Waits.").register().unwrap();
    waits.observe_many(0.001, 111);
    rig.far_end
        .with(|network| network.script = [Fate::Arrives, Fate::CarriedOver].into());
    rig.interval();
    assert_eq!(rig.far_end.total("wait{}0"), 100.0);
    assert_eq!(rig.stats().carried_over_points, 1);
    rig.interval();
    assert!(rig.flush(SECOND).is_ok());
    assert_eq!(rig.far_end.total("wait{}0"), 111.0);
}

#[test]
fn what_vanished_is_taken_back_with_the_next_send_and_with_a_flush() {
    let mut rig = rig(PacketEnd::new(1));
    let jobs = rig.registry.counter("jobs_total", "Jobs.").register().unwrap();
    jobs.add(5);
    rig.far_end.with(|network| network.script = [Fate::Vanishes].into());
    rig.interval();
    assert_eq!(rig.stats().delivered_points, 0, "not confirmed yet");
    jobs.add(2);
    // The second is refused for the first; then both go out at once.
    rig.interval();
    rig.interval();
    assert_eq!(rig.flush(SECOND).map(|report| report.kept), Ok(0));
    assert_eq!(rig.far_end.total("jobs_total{}"), 7.0);
    assert_eq!(rig.stats().carried_over_points, 2);

    jobs.add(1);
    rig.far_end.with(|network| network.script = [Fate::Vanishes].into());
    let error = rig.flush(SECOND).unwrap_err();
    assert_eq!(error.report().kept, 1);
    assert!(error.to_string().contains("nobody listened"), "{error}");
    assert!(rig.flush(SECOND).is_ok());
    assert_eq!(rig.far_end.total("jobs_total{}"), 8.0);
}

#[test]
fn the_last_value_of_a_removed_series_is_taken_back_too() {
    let mut rig = rig(PacketEnd::new(1));
    let jobs = rig
        .registry
        .counter("jobs_total", "Jobs.")
        .labels(["queue"])
        .register()
        .unwrap();
    jobs.with(["a"]).add(5);
    rig.interval();
    jobs.with(["a"]).add(2);
    assert!(jobs.remove(["a"]));
    rig.far_end.with(|network| network.script = [Fate::Vanishes].into());
    rig.interval();
    jobs.with(["b"]).add(1);
    for _ in 0..3 {
        rig.interval();
    }
    assert!(rig.flush(SECOND).is_ok());
    assert_eq!(
        (rig.far_end.total("jobs_total{a}"), rig.far_end.total("jobs_total{b}")),
        (7.0, 1.0)
    );
}

#[test]
fn a_far_end_that_takes_integers_gets_the_rest_later() {
    let mut rig = rig(PacketEnd {
        whole: true,
        ..PacketEnd::new(10)
    });
    let costs = rig.registry.float_counter("cost", "Cost.").register().unwrap();
    for _ in 0..7 {
        costs.add(0.75);
        assert!(rig.flush(SECOND).is_ok());
    }
    assert_eq!(rig.far_end.total("cost_total{}"), 5.0);
    costs.add(0.75);
    assert!(rig.flush(SECOND).is_ok());
    assert_eq!(rig.far_end.total("cost_total{}"), 6.0);
}

#[test]
fn messages_are_sent_without_points_and_dropped_with_their_packet() {
    let mut rig = rig(PacketEnd::new(3));
    rig.far_end.with(|network| network.messages = 2);
    assert_eq!(rig.flush(SECOND).map(|report| report.delivered), Ok(2));
    assert_eq!(rig.far_end.total("message"), 2.0);

    let load = rig.registry.gauge("load", "Load.").register().unwrap();
    let jobs = rig.registry.counter("jobs_total", "Jobs.").register().unwrap();
    load.set(1.5);
    jobs.add(4);
    rig.far_end
        .with(|network| (network.messages, network.script) = (1, [Fate::CarriedOver].into()));
    rig.interval();
    let stats = rig.stats();
    assert_eq!((stats.carried_over_points, stats.dropped_superseded_points), (1, 2));
    assert!(rig.flush(SECOND).is_ok());
    assert_eq!(
        (rig.far_end.total("jobs_total{}"), rig.far_end.total("message")),
        (4.0, 2.0)
    );
}

#[test]
fn samples_arrive_with_their_labels_and_what_is_lost_is_counted() {
    let mut rig = rig(PacketEnd::new(3));
    let sizes = rig
        .registry
        .distribution("size", "Sizes.")
        .labels(["user"])
        .samples(8)
        .limit(2);
    let sizes = sizes.register().unwrap();
    for value in 1..=5 {
        sizes.with(["a"]).observe(f64::from(value));
    }
    sizes.with(["b"]).observe(100.0);
    assert!(sizes.remove(["b"]));
    assert!(rig.flush(SECOND).is_ok());
    assert_eq!(rig.far_end.total("size{a}samples"), 15.0);
    assert_eq!(rig.far_end.total("size{b}samples"), 100.0, "of a series that is gone");
    assert_eq!(
        rig.far_end.total("size{a}0"),
        0.0,
        "nothing comes twice, as a histogram"
    );

    for _ in 0..10 {
        sizes.with(["a"]).observe(1.0);
    }
    sizes.with(["c"]).observe(7.0);
    assert!(rig.flush(SECOND).is_ok());
    assert_eq!(rig.far_end.total("size{a}samples"), 23.0, "there is room for eight");
    assert_eq!(rig.stats().dropped_samples, 3);

    sizes.with(["c"]).observe(7.0);
    sizes.with(["d"]).observe(9.0);
    assert!(rig.flush(SECOND).is_ok());
    assert_eq!(rig.far_end.total("size{c}samples"), 7.0);
    assert_eq!(rig.far_end.total("size{true}samples"), 9.0, "past the limit");

    sizes.with(["a"]).observe(3.0);
    rig.far_end.with(|network| network.script = [Fate::CarriedOver].into());
    assert!(rig.flush(SECOND).is_err());
    assert!(rig.flush(SECOND).is_ok());
    assert_eq!(rig.far_end.total("size{a}samples"), 23.0);
    assert_eq!(rig.stats().dropped_superseded_points, 1);
}

#[test]
fn samples_of_what_is_hidden_are_no_loss_and_those_of_a_family_that_goes_arrive() {
    let mut rig = rig(PacketEnd::new(3));
    let hidden = rig
        .registry
        .distribution("hidden", "Hidden.")
        .samples(4)
        .register()
        .unwrap();
    let sizes = rig.registry.distribution("size", "Sizes.").register().unwrap();
    for _ in 0..3 {
        for _ in 0..4 {
            hidden.observe(1.0);
        }
        assert!(rig.flush(SECOND).is_ok());
    }
    assert_eq!(rig.stats().dropped_samples, 0);
    assert_eq!(rig.far_end.with(|network| network.packets), 0);

    sizes.observe(5.0);
    assert!(rig.registry.unregister("size"));
    assert!(rig.flush(SECOND).is_ok());
    drop(sizes);
    assert!(rig.flush(SECOND).is_ok());
    let arrived = rig.far_end.total("size{}samples");
    assert_eq!((arrived, rig.stats().dropped_samples), (5.0, 0));
}

#[test]
fn messages_of_a_packet_that_is_too_large_are_counted_and_samples_are_sent_again() {
    let mut rig = rig(PacketEnd::new(6));
    let sizes = rig.registry.distribution("size", "Sizes.").register().unwrap();
    for _ in 0..4 {
        sizes.observe(1.0);
    }
    rig.far_end
        .with(|network| (network.messages, network.script) = (3, [Fate::TooLarge].into()));
    assert!(rig.flush(SECOND).is_ok());
    let (messages, samples) = (rig.far_end.total("message"), rig.far_end.total("size{}samples"));
    assert_eq!(
        (messages, samples, rig.stats().dropped_superseded_points),
        (0.0, 4.0, 3)
    );
}

#[test]
fn packets_are_spread_over_the_interval_and_hurried_by_a_flush() {
    let spread = Some(5 * SECOND);
    let mut rig = rig(PacketEnd {
        spread,
        ..PacketEnd::new(1)
    });
    let jobs = rig
        .registry
        .counter("jobs_total", "Jobs.")
        .labels(["job"])
        .register()
        .unwrap();
    let count = |rig: &mut Rig<PacketEnd>| {
        for job in 0..100 {
            jobs.with((job,)).inc();
        }
        rig.clock.advance(INTERVAL);
        let mut steps = 0;
        let before = rig.far_end.with(|network| network.packets);
        rig.settle();
        while rig.far_end.with(|network| network.packets) < before + 100 {
            rig.clock.advance(SECOND / 1000);
            rig.settle();
            steps += 1;
        }
        steps
    };
    let steps = count(&mut rig);
    assert!((900..=1000).contains(&steps), "10 ms apart at most: {steps} ms");

    for job in 0..100 {
        jobs.with((job,)).inc();
    }
    rig.clock.advance(INTERVAL);
    rig.settle();
    let began = crate::Clock::monotonic(&rig.clock);
    assert!(rig.flush_step_by_step(10 * SECOND, SECOND / 1000).is_ok());
    let took = crate::Clock::monotonic(&rig.clock) - began;
    assert!(took < SECOND / 8, "{took:?}");
}

#[test]
fn a_flush_is_not_done_before_the_rest_of_a_point_whose_part_was_unclear() {
    let far_end = PacketEnd::new(2);
    let mut rig = rig(far_end.clone());
    let waits = rig.registry.histogram("wait", "Waits.").register().unwrap();
    waits.observe_many(0.001, 4);
    use Fate::{Arrives, CarriedOver, Refused, Unanswered};
    far_end.with(|network| network.script = [Unanswered, Refused, CarriedOver, Refused, Arrives].into());
    rig.flush(60 * SECOND).unwrap_err();
    // Two parts are parked; in this flush they arrive when their series has been passed.
    assert_eq!(rig.flush(60 * SECOND).map(|report| report.kept), Ok(0));
    assert!(far_end.with(|network| network.script.is_empty()));
    assert_eq!(far_end.total("wait{}0"), 4.0);
}

pub(super) fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        3 => Just(Fate::Arrives),
        4 => Just(Fate::Taken),
        2 => Just(Fate::Vanishes),
        2 => Just(Fate::Refused),
        1 => Just(Fate::CarriedOver),
        1 => Just(Fate::Unanswered),
        1 => Just(Fate::TooLarge),
    ]
}

#[derive(Clone, Debug)]
pub(super) enum Act {
    Add(u8, u8),
    Observe(u8, u16),
    Cost(u8),
    Sample(u8),
    Message,
    Remove(u8),
    Interval,
    Seconds(u8),
    Flush,
}

pub(super) fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..4_u8, 1..9_u8).prop_map(|(series, amount)| Act::Add(series, amount)),
        4 => (0..4_u8, 1..500_u16).prop_map(|(series, count)| Act::Observe(series, count)),
        2 => (1..9_u8).prop_map(Act::Cost),
        2 => (0..9_u8).prop_map(Act::Sample),
        1 => Just(Act::Message),
        1 => (0..4_u8).prop_map(Act::Remove),
        3 => Just(Act::Interval),
        2 => (0..15_u8).prop_map(Act::Seconds),
        1 => Just(Act::Flush),
    ]
}

/// What a script has recorded, through the instruments of one registry.
#[derive(Default)]
pub(super) struct Recorded {
    pub(super) counts: BTreeMap<String, f64>,
    /// Samples and messages, which are in one packet at most.
    pub(super) passing: u64,
}

impl Recorded {
    /// Does all that a script says.
    pub(super) fn act(&mut self, rig: &mut Rig<PacketEnd>, acts: Vec<Act>) {
        let jobs = rig
            .registry
            .counter("jobs_total", "Jobs.")
            .labels(["queue"])
            .register()
            .unwrap();
        let waits = rig
            .registry
            .histogram("wait", "Waits.")
            .labels(["queue"])
            .register()
            .unwrap();
        let costs = rig.registry.float_counter("cost_total", "Cost.").register().unwrap();
        let sizes = rig.registry.distribution("size", "Sizes.").register().unwrap();
        let mut count = |series: String, amount: f64| *self.counts.entry(series).or_default() += amount;
        for act in acts {
            match act {
                Act::Add(series, amount) => {
                    jobs.with((series,)).add(amount.into());
                    count(format!("jobs_total{{{series}}}"), amount.into());
                }
                Act::Observe(series, observations) => {
                    waits.with((series,)).observe_many(0.001, observations.into());
                    count(format!("wait{{{series}}}0"), observations.into());
                }
                Act::Cost(quarters) => {
                    costs.add(f64::from(quarters) / 4.0);
                    count("cost_total{}".to_owned(), f64::from(quarters) / 4.0);
                }
                Act::Sample(samples) => {
                    (0..samples).for_each(|_| sizes.observe(1.0));
                    self.passing += u64::from(samples);
                }
                Act::Message => {
                    rig.far_end.with(|network| network.messages += 1);
                    self.passing += 1;
                }
                Act::Remove(series) => {
                    jobs.remove((series,));
                    waits.remove((series,));
                }
                Act::Interval => rig.interval(),
                Act::Seconds(seconds) => {
                    rig.clock.advance(SECOND * seconds.into());
                    rig.settle();
                }
                Act::Flush => drop(rig.flush(SECOND)),
            }
        }
    }
}

proptest! {
    /// Every count that was recorded arrives once, whatever happens to packets that were not rejected.
    #[test]
    fn no_part_is_lost_or_comes_twice(
        acts in prop::collection::vec(act(), 1..50),
        script in prop::collection::vec(fate(), 0..80),
        lines in 2_usize..6,
        whole: bool,
    ) {
        // A point alone that is too large is rejected, which is counted elsewhere.
        let script: VecDeque<Fate> = script.into_iter().filter(|fate| *fate != Fate::TooLarge).collect();
        let mut rig = rig(PacketEnd { whole, ..PacketEnd::new(lines) });
        rig.far_end.with(|network| network.script = script);
        let mut recorded = Recorded::default();
        recorded.act(&mut rig, acts);
        for _ in 0..30 {
            rig.interval();
        }
        rig.far_end.with(|network| network.script.clear());
        for _ in 0..5 {
            rig.interval();
        }
        // What vanished last is heard of now.
        drop(rig.flush(600 * SECOND));
        prop_assert_eq!(rig.flush(600 * SECOND).map(|report| report.kept), Ok(0));
        for (series, recorded) in &recorded.counts {
            let expected = if whole { recorded.floor() } else { *recorded };
            prop_assert_eq!(rig.far_end.total(series), expected, "{}", series);
        }
        // What is in no later packet has arrived, or is counted as dropped.
        let arrived = rig.far_end.total("message") + rig.far_end.total("size{}samples");
        let dropped = rig.stats().dropped_superseded_points;
        prop_assert_eq!(arrived as u64 + dropped, recorded.passing);
    }
}
