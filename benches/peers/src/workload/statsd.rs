//! StatsD: what an event costs the thread that records it, and what a flush of many counters costs in the background. All
//! counters have moved since the last flush.

use crate::allocator;
use crate::clock::time_on_core_of;
use crate::data::Population;
use crate::library::{Fill, Library};
use crate::measure::{Contender, Expected, Plan, round_robin};
use crate::report::Report;
use crate::server::{Server, counted};
use std::time::{Duration, Instant};

/// From one push of the exporters here to the next.
pub const INTERVAL: Duration = Duration::from_millis(500);

/// Counters that are flushed.
pub const SERIES: usize = 10_000;

/// An event, on one thread: some of those that take part have a thread of their own beside it.
pub fn count(libraries: &[Library], plan: Plan, report: &mut Report) {
    const WORKLOAD: &str = "statsd_counter_inc";
    let mut contenders: Vec<Contender> = libraries
        .iter()
        .filter_map(|library| Some(Contender::new(library.name, (library.statsd_counter_inc?)())))
        .collect();
    // Whoever sends for each event would have its queue filled with millions of them in more time.
    let batch = plan.batch.min(Duration::from_millis(50));
    round_robin(WORKLOAD, &mut contenders, 1, plan.rounds, batch, Expected::Count);
    for contender in &contenders {
        let (best, undisturbed) = contender.best();
        if undisturbed {
            report.row(WORKLOAD, 1, contender.library, best);
        } else {
            println!(
                "# of the next row: a thread of its own, or other work, often kept the one that records from running"
            );
            report.note(WORKLOAD, 1, contender.library, best);
        }
    }
}

/// A collection as packets, to a far end that takes everything at once. Only ours can be told to do that; the other is seen
/// in [`push`].
pub fn encode(libraries: &[Library], plan: Plan, report: &mut Report) {
    for library in libraries {
        let Some(make) = library.statsd_encode else {
            continue;
        };
        let mut export = make(SERIES);
        let population = Population::new(SERIES);
        touch(&*export, &population);
        let packets = export.requests();
        assert_eq!(counted(&packets), SERIES as u64, "{}: first flush", library.name);
        let mut best = f64::INFINITY;
        for _ in 0..plan.rounds {
            touch(&*export, &population);
            let start = Instant::now();
            export.export();
            best = best.min(start.elapsed().as_nanos() as f64);
        }
        touch(&*export, &population);
        allocator::start();
        export.export();
        let calls = allocator::now().calls;
        allocator::stop();
        report.note(&format!("statsd_encode_{SERIES}"), 1, library.name, best);
        report.note(
            &format!("allocations_statsd_encode_{SERIES}"),
            1,
            library.name,
            calls as f64,
        );
        report.note(&format!("statsd_bytes_{SERIES}"), 1, library.name, packets.len() as f64);
    }
}

/// A flush as it comes, by the time that the threads of the exporter are on a core for it: collecting, encoding, sending over UDP,
/// and waking up for packets that are spread over the interval.
pub fn push(libraries: &[Library], plan: Plan, report: &mut Report) {
    let pushes = plan.rounds as u32;
    for library in libraries {
        let Some(make) = library.statsd_push else {
            continue;
        };
        let server = Server::start();
        let registry = make(SERIES, server.address());
        let population = Population::new(SERIES);
        let mut touched = 0;
        let mut busy = |pushes| {
            let start = Instant::now();
            while start.elapsed() < INTERVAL * pushes {
                touch(&*registry, &population);
                touched += SERIES as u64;
                // Often enough that every push finds all of them moved.
                std::thread::sleep(INTERVAL / 4);
            }
        };
        // What is kept from one flush to the next is there.
        busy(2);
        let (before, packets) = (time_on_core_of(registry.threads()), server.packets());
        busy(pushes);
        let on_core = time_on_core_of(registry.threads()) - before;
        let packets = server.packets() - packets;
        assert_eq!(
            await_silence(&server),
            touched,
            "{}: what the server has heard",
            library.name
        );
        let each = |total: f64| total / f64::from(pushes);
        let workload = format!("statsd_push_on_core_{SERIES}");
        report.row(&workload, 1, library.name, each(on_core.as_nanos() as f64));
        report.note(
            &format!("statsd_packets_{SERIES}"),
            1,
            library.name,
            each(packets as f64),
        );
    }
}

/// What a server has heard when it has heard nothing new for some pushes.
pub fn await_silence(server: &Server) -> u64 {
    let mut heard = server.counted();
    loop {
        std::thread::sleep(INTERVAL * 3);
        let now = server.counted();
        if now == heard {
            return now;
        }
        heard = now;
    }
}

fn touch<F: Fill + ?Sized>(registry: &F, population: &Population) {
    for labels in population.iter() {
        registry.count(labels, 1);
    }
}
