//! Reading everything out: text, and for the library itself its other ways, by size, with one and
//! with 64 threads that have touched every series and live on.

use super::Filled;
use crate::allocator;
use crate::library::{Buffer, Library, Reading};
use crate::measure::{Plan, STACK};
use crate::report::{OURS, Report};
use std::sync::Barrier;
use std::time::Instant;

/// Series in all: ten counters to each histogram.
pub const SIZES: [usize; 2] = [11_000, 110_000];

/// Threads that have touched every series before the second measurement.
const CROWD: usize = 64;

struct Contender {
    library: &'static str,
    filled: Filled,
    buffer: Buffer,
    best: f64,
}

impl Contender {
    /// Nanoseconds a reading, the mean of as many as the plan has time for.
    fn read(&mut self, plan: Plan, reading: Option<Reading>) -> Option<f64> {
        let start = Instant::now();
        let mut readings = 0;
        while readings == 0 || start.elapsed() < plan.scraping {
            match reading {
                None => self.filled.registry.scrape(&mut self.buffer),
                Some(reading) => {
                    if !self.filled.registry.read(reading, &mut self.buffer) {
                        return None;
                    }
                }
            }
            readings += 1;
        }
        Some(start.elapsed().as_nanos() as f64 / f64::from(readings))
    }

    fn round(&mut self, plan: Plan) {
        if let Some(nanoseconds) = self.read(plan, None) {
            self.best = self.best.min(nanoseconds);
        }
    }
}

/// Scrapes, allocations of a scrape and the library's other readings at one size.
pub fn run(series: usize, libraries: &[Library], plan: Plan, report: &mut Report) {
    let mut contenders: Vec<Contender> = libraries
        .iter()
        .filter_map(|library| {
            let mut contender = Contender {
                library: library.name,
                filled: Filled::new(library.registry?, series),
                buffer: Buffer::default(),
                best: f64::INFINITY,
            };
            // The buffer has its size now, and raw values are drained.
            contender.filled.verify(library.name, &mut contender.buffer);
            Some(contender)
        })
        .collect();

    for _ in 0..plan.rounds {
        for contender in &mut contenders {
            contender.round(plan);
        }
    }
    for contender in &contenders {
        let workload = format!("scrape_text_{series}");
        report.row(&workload, 1, contender.library, contender.best);
    }

    for contender in &mut contenders {
        allocator::start();
        contender.filled.registry.scrape(&mut contender.buffer);
        let calls = allocator::now().calls;
        allocator::stop();
        let workload = format!("allocations_scrape_{series}");
        report.row(&workload, 1, contender.library, calls as f64);
    }

    for (reading, name) in [
        (Reading::Snapshot, "snapshot"),
        (Reading::OpenMetrics, "encode_openmetrics"),
        (Reading::Reply, "scrape_reply"),
    ] {
        for contender in &mut contenders {
            let best = (0..plan.rounds)
                .filter_map(|_| contender.read(plan, Some(reading)))
                .reduce(f64::min);
            if let Some(best) = best {
                report.row(&format!("{name}_{series}"), 1, contender.library, best);
            }
        }
    }

    with_a_crowd(series, contenders, plan, report);
}

/// The same scrapes while 64 threads live that have touched every series; only for the library
/// itself and the peers that were the fastest without.
fn with_a_crowd(series: usize, mut contenders: Vec<Contender>, plan: Plan, report: &mut Report) {
    let peers = if plan.everybody { 3 } else { 1 };
    contenders.sort_by(|left, right| left.best.total_cmp(&right.best));
    let ours = contenders
        .iter()
        .position(|contender| contender.library == OURS)
        .map(|index| contenders.remove(index));
    contenders.truncate(peers);
    contenders.extend(ours);

    for contender in &mut contenders {
        let (touched, leave) = (Barrier::new(CROWD + 1), Barrier::new(CROWD + 1));
        contender.best = f64::INFINITY;
        std::thread::scope(|scope| {
            let filled = &contender.filled;
            for _ in 0..CROWD {
                let work = || {
                    filled.touch();
                    touched.wait();
                    leave.wait();
                };
                std::thread::Builder::new()
                    .stack_size(STACK)
                    .spawn_scoped(scope, work)
                    .expect("the system has room for the threads of a benchmark");
            }
            touched.wait();
            let mut best = f64::INFINITY;
            for round in 0..=plan.rounds {
                let start = Instant::now();
                filled.registry.scrape(&mut contender.buffer);
                // The first one finds the caches full of the threads' work.
                if round > 0 {
                    best = best.min(start.elapsed().as_nanos() as f64);
                }
            }
            contender.best = best;
            leave.wait();
        });
        contender.filled.touched(CROWD);
        contender.filled.verify(contender.library, &mut contender.buffer);
        let workload = format!("scrape_text_{series}");
        report.row(&workload, CROWD, contender.library, contender.best);
    }
}
