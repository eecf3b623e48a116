//! The way to a million series: the longest and nearly the longest that one insert took.

use crate::data::{Labels, Population};
use crate::library::Library;
use crate::measure::Plan;
use crate::report::{OURS, Report};
use std::hint::black_box;
use std::time::Instant;

const SERIES: usize = 1_000_000;

/// What inserts took, in nanoseconds.
#[derive(Clone, Copy)]
struct Times {
    worst: f64,
    nearly_worst: f64,
    mean: f64,
}

impl Times {
    const NONE: Self = Self {
        worst: f64::INFINITY,
        nearly_worst: f64::INFINITY,
        mean: f64::INFINITY,
    };

    fn best(self, other: Self) -> Self {
        Self {
            worst: self.worst.min(other.worst),
            nearly_worst: self.nearly_worst.min(other.nearly_worst),
            mean: self.mean.min(other.mean),
        }
    }
}

/// Inserts into every library that has families, and into none, as a control: what the system
/// takes away from a thread shows there too. The best of the rounds counts, as a table grows at
/// the same inserts in every round but the system interferes at others.
///
/// Without much time, only those take part that do not hold all series in one table and double it.
pub fn run(libraries: &[Library], plan: Plan, report: &mut Report) {
    const QUICK: [&str; 4] = [OURS, "measured", "metrics", "opentelemetry_sdk"];
    let population = Population::new(SERIES);
    let mut times = Vec::with_capacity(SERIES);

    let mut control = Times::NONE;
    for _ in 0..plan.long_rounds {
        control = control.best(insert(&population, &mut times, |labels| {
            black_box(labels);
        }));
    }
    report.note("worst_insert_1m", 1, "control", control.worst);
    report.note("worst_insert_1m_p9999", 1, "control", control.nearly_worst);

    let mut contenders: Vec<(&Library, Times)> = libraries
        .iter()
        .filter(|library| library.registry.is_some())
        .filter(|library| plan.everybody || QUICK.contains(&library.name))
        .map(|library| (library, Times::NONE))
        .collect();
    for _ in 0..plan.long_rounds {
        for (library, best) in &mut contenders {
            let Some(make) = library.registry else {
                continue;
            };
            let registry = make(SERIES);
            *best = best.best(insert(&population, &mut times, |labels| {
                registry.count(labels, 1);
            }));
        }
    }
    for (library, best) in contenders {
        report.row("worst_insert_1m", 1, library.name, best.worst);
        report.row("worst_insert_1m_p9999", 1, library.name, best.nearly_worst);
        report.row("mean_insert_1m", 1, library.name, best.mean);
    }
}

fn insert(population: &Population, times: &mut Vec<u32>, mut count: impl FnMut(Labels)) -> Times {
    times.clear();
    for labels in population.iter() {
        let start = Instant::now();
        count(labels);
        times.push(u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX));
    }
    let total: u64 = times.iter().map(|time| u64::from(*time)).sum();
    times.sort_unstable();
    Times {
        worst: f64::from(times[times.len() - 1]),
        nearly_worst: f64::from(times[times.len() - 1 - times.len() / 10_000]),
        mean: total as f64 / times.len() as f64,
    }
}
