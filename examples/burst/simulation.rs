//! Producers that are only computed: the exporter's own schedule says when each would push, and no time passes.

use crate::{arguments::Arguments, bins::Bins};
use tidegauge::testing;

/// When all of them would push, one packet each time. They start together, as after a deployment; of the first interval
/// nothing is looked at, as without a phase nobody pushes in it.
pub fn run(arguments: &Arguments, phase: bool, jitter: f64) -> Bins {
    let until = arguments.interval * (arguments.intervals + 1);
    let mut bins = Bins::new(arguments.interval, until);
    for producer in 0..arguments.simulated {
        let times = testing::collection_times(arguments.interval, phase, jitter, producer);
        times.take_while(|time| *time < until).for_each(|time| bins.add(time));
    }
    bins
}
