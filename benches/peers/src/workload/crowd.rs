//! A counter that 512 live threads share: what an increment costs, and what a thread costs.

use crate::allocator;
use crate::data::Lane;
use crate::library::{Library, Record};
use crate::measure::{Contender, Expected, Plan, STACK, round_robin};
use crate::report::Report;
use std::sync::Barrier;
use std::time::Duration;

const THREADS: usize = 512;

/// Time in all for a round: enough for each thread to do its part without a pause.
const CORE_TIME: Duration = Duration::from_millis(150);

/// Nanoseconds of a core for an increment, with every thread alive.
pub fn time(libraries: &[Library], plan: Plan, report: &mut Report) {
    let mut contenders: Vec<Contender> = libraries
        .iter()
        .filter_map(|library| Some(Contender::new(library.name, library.counter_inc?())))
        .collect();
    round_robin(
        "counter_inc",
        &mut contenders,
        THREADS,
        plan.long_rounds,
        CORE_TIME,
        Expected::Count,
    );
    for contender in &contenders {
        report.contender("counter_inc", THREADS, contender);
    }
}

/// Live bytes for each thread that has incremented the one counter.
pub fn memory(libraries: &[Library], report: &mut Report) {
    for library in libraries {
        if let Some(make) = library.counter_inc {
            let bytes = bytes_per_thread(&*make());
            report.row("counter_inc_bytes_per_thread", THREADS, library.name, bytes);
        }
    }
}

fn bytes_per_thread(record: &dyn Record) -> f64 {
    // Everybody is there; everybody has recorded; everybody may go.
    let (there, go, recorded, leave) = (
        Barrier::new(THREADS + 1),
        Barrier::new(THREADS + 1),
        Barrier::new(THREADS + 1),
        Barrier::new(THREADS + 1),
    );
    let mut bytes = 0;
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let steps = [&there, &go, &recorded, &leave];
            let work = move || {
                let [there, go, recorded, leave] = steps;
                there.wait();
                go.wait();
                let operations = 1;
                record.run(Lane { operations, thread });
                recorded.wait();
                leave.wait();
            };
            std::thread::Builder::new()
                .stack_size(STACK)
                .spawn_scoped(scope, work)
                .expect("the system has room for the threads of a benchmark");
        }
        there.wait();
        allocator::start();
        go.wait();
        recorded.wait();
        bytes = allocator::now().live;
        allocator::stop();
        leave.wait();
    });
    bytes as f64 / THREADS as f64
}
