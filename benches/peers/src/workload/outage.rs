//! Exporting to a far end that does not do its part: what it costs those who record, and how much memory it takes.

use super::Contents;
use crate::allocator;
use crate::library::Library;
use crate::measure::{Contender, Expected, Plan, round_robin};
use crate::report::Report;
use std::time::Duration;

/// From one collection of the exporters here to the next: often, so that what a collection costs shows.
pub const INTERVAL: Duration = Duration::from_millis(10);

/// Series that are collected in vain.
const SERIES: usize = 11_000;

/// After how many collections memory is looked at.
const COLLECTIONS: [u64; 2] = [100, 300];

/// An increment alone, and while an exporter of the same registry collects and its far end hangs; and by how many percent
/// the second is dearer. Rounds go from one to the other.
pub fn time(libraries: &[Library], plan: Plan, report: &mut Report) {
    // Each batch meets several collections.
    let batch = plan.batch.max(10 * INTERVAL);
    for library in libraries {
        let (Some(alone), Some(beside)) = (library.counter_inc, library.counter_inc_beside_hang) else {
            continue;
        };
        let mut contenders = [alone, beside].map(|make| Contender::new(library.name, make()));
        let workload = "counter_inc_beside_hanging_exporter";
        round_robin(workload, &mut contenders, 1, plan.rounds, batch, Expected::Count);
        let [(alone, alone_trusted), (beside, beside_trusted)] = contenders.each_ref().map(Contender::best);
        if !(alone_trusted && beside_trusted) {
            println!("# the next rows are of no use: other work kept their threads from running");
        }
        report.note("counter_inc_without_exporter", 1, library.name, alone);
        report.note(workload, 1, library.name, beside);
        let percent = (beside / alone - 1.0) * 100.0;
        report.note("counter_inc_beside_hanging_exporter_percent", 1, library.name, percent);
    }
}

/// Live bytes of an exporter whose far end asks each time to be tried again, its registry's own not among them.
pub fn memory(libraries: &[Library], report: &mut Report) {
    for library in libraries {
        let Some(make) = library.outage else {
            continue;
        };
        let mut outage = make(Contents::split(SERIES).0);
        Contents::fill(&*outage, SERIES);
        allocator::start();
        outage.begin();
        for collections in COLLECTIONS {
            while outage.collections() < collections {
                std::thread::sleep(INTERVAL / 10);
            }
            let workload = format!("export_memory_bytes_while_down_{collections}");
            report.note(&workload, 1, library.name, allocator::now().live as f64);
        }
        allocator::stop();
    }
}
