//! Runs that have a spool in common, and a far end that says nothing and is heard of late.

use super::{
    INTERVAL, Rig, SECOND,
    packets::{Fate, PacketEnd, Recorded, act, fate},
    spooling::Directory,
};
use crate::{Filter, Spool};
use proptest::prelude::*;
use std::{collections::VecDeque, path::Path, time::Duration};

fn run(far_end: &PacketEnd, directory: &Path, seed: u64) -> Rig<PacketEnd> {
    let filter = Filter::new().families(|family| !family.name().starts_with("tidegauge_"));
    Rig::filtered(far_end.clone(), filter, |exporter| {
        exporter.spool(Spool::new(directory)).seed(seed)
    })
}

/// A run that counts in so many series and leaves each in a packet of its own.
fn leave(far_end: &PacketEnd, directory: &Path, series: u64) {
    let mut rig = run(far_end, directory, 1);
    let jobs = rig.registry.counter("jobs_total", "Jobs.").labels(["queue"]);
    let jobs = jobs.register().unwrap();
    (0..series).for_each(|series| jobs.with((series,)).inc());
    far_end.with(|network| network.script = vec![Fate::CarriedOver; 100].into());
    rig.end(SECOND).unwrap_err();
    far_end.with(|network| network.script.clear());
}

#[test]
fn what_vanished_before_a_payload_of_the_spool_is_taken_back() {
    let (directory, far_end) = (Directory::new(), PacketEnd::new(1));
    let mut rig = run(&far_end, &directory.0, 2);
    rig.settle();
    let own = rig.registry.counter("own_total", "Own.").register().unwrap();
    own.inc();
    far_end.with(|network| network.script = [Fate::Vanishes].into());
    rig.interval();
    // By a network of its own, which does not hear what this one has to say.
    leave(&PacketEnd::new(1), &directory.0, 1);
    for _ in 0..3 {
        rig.interval();
    }
    rig.end(SECOND).unwrap();
    assert_eq!(
        (far_end.total("jobs_total{0}"), far_end.total("own_total{}")),
        (1.0, 1.0)
    );
    assert_eq!(directory.files(), 0);
}

#[test]
fn a_payload_of_the_spool_that_vanishes_is_sent_again() {
    let (directory, far_end) = (Directory::new(), PacketEnd::new(1));
    leave(&far_end, &directory.0, 1);
    far_end.with(|network| network.script = [Fate::Vanishes].into());
    let mut rig = run(&far_end, &directory.0, 2);
    rig.settle();
    assert_eq!((far_end.total("jobs_total{0}"), directory.files()), (0.0, 1));
    rig.interval();
    rig.interval();
    assert_eq!((far_end.total("jobs_total{0}"), directory.files()), (1.0, 0));
    assert_eq!(rig.stats().possible_duplicate_points, 0);
}

#[test]
fn payloads_of_the_spool_are_spread_too() {
    let (directory, mut far_end) = (Directory::new(), PacketEnd::new(1));
    far_end.spread = Some(INTERVAL / 2);
    leave(&far_end, &directory.0, 50);
    let before = far_end.with(|network| network.packets);
    let mut rig = run(&far_end, &directory.0, 2);
    let packets = |rig: &mut Rig<PacketEnd>| {
        rig.settle();
        far_end.with(|network| network.packets) - before
    };
    assert_eq!(packets(&mut rig), 1);
    rig.clock.advance(Duration::from_millis(100));
    assert!(packets(&mut rig) < 15);
    for _ in 0..100 {
        rig.clock.advance(Duration::from_millis(10));
        rig.settle();
    }
    assert_eq!((packets(&mut rig), directory.files()), (50, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Every count that was recorded arrives once, over all runs; and what is in no later packet arrives, or is counted as dropped.
    #[test]
    fn many_runs_lose_no_part_together(
        runs in prop::collection::vec(
            (prop::collection::vec(act(), 0..12), prop::collection::vec(fate(), 0..30), 1..4_u32),
            1..6,
        ),
        lines in 2_usize..6,
    ) {
        let directory = Directory::new();
        let far_end = PacketEnd::new(lines);
        let (mut recorded, mut dropped) = (Recorded::default(), 0);
        for (number, (acts, script, deadline)) in runs.into_iter().enumerate() {
            // What is too large for the far end is rejected, which is counted elsewhere.
            let script: VecDeque<Fate> = script.into_iter().filter(|fate| *fate != Fate::TooLarge).collect();
            far_end.with(|network| network.script = script);
            let mut rig = run(&far_end, &directory.0, number as u64);
            rig.settle();
            recorded.act(&mut rig, acts);
            let _ = rig.end(SECOND * deadline);
            dropped += rig.stats().dropped_superseded_points;
        }
        far_end.with(|network| network.script.clear());
        let mut last = run(&far_end, &directory.0, 100);
        last.settle();
        for _ in 0..3 {
            last.interval();
        }
        prop_assert!(last.end(60 * SECOND).is_ok());
        prop_assert_eq!(directory.files(), 0);
        dropped += last.stats().dropped_superseded_points;
        for (series, recorded) in &recorded.counts {
            prop_assert_eq!(far_end.total(series), *recorded, "{}", series);
        }
        let arrived = far_end.total("message") + far_end.total("size{}samples");
        prop_assert_eq!(arrived as u64 + dropped, recorded.passing);
    }
}
