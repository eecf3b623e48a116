//! Recording on one thread and on two that share the series.

use crate::library::{Library, MakeRecord};
use crate::measure::{Contender, Expected, Plan, round_robin};
use crate::report::Report;

/// A recording workload: its name, who takes part, what comes out.
struct Recording {
    workload: &'static str,
    make: fn(&Library) -> Option<MakeRecord>,
    expected: Expected,
}

const RECORDINGS: [Recording; 7] = [
    Recording {
        workload: "counter_inc",
        make: |library| library.counter_inc,
        expected: Expected::Count,
    },
    Recording {
        workload: "float_counter_add",
        make: |library| library.float_counter_add,
        expected: Expected::Sum,
    },
    Recording {
        workload: "gauge_set",
        make: |library| library.gauge_set,
        expected: Expected::Last,
    },
    Recording {
        workload: "histogram_observe",
        make: |library| library.histogram_observe,
        expected: Expected::Distribution,
    },
    Recording {
        workload: "exponential_observe",
        make: |library| library.exponential_observe,
        expected: Expected::Distribution,
    },
    Recording {
        workload: "distribution_observe",
        make: |library| library.distribution_observe,
        expected: Expected::Distribution,
    },
    Recording {
        workload: "lookup_inc",
        make: |library| library.lookup_inc,
        expected: Expected::Count,
    },
];

/// Names of these workloads.
pub fn names() -> impl Iterator<Item = &'static str> {
    RECORDINGS.iter().map(|recording| recording.workload)
}

/// Measures the recording workload of this name.
pub fn run(workload: &str, libraries: &[Library], plan: Plan, report: &mut Report) {
    let Some(recording) = RECORDINGS.iter().find(|known| known.workload == workload) else {
        return;
    };
    for threads in [1, 2] {
        let mut contenders: Vec<Contender> = libraries
            .iter()
            .filter_map(|library| {
                let make = (recording.make)(library)?;
                Some(Contender::new(library.name, make()))
            })
            .collect();
        round_robin(
            workload,
            &mut contenders,
            threads,
            plan.rounds,
            plan.batch,
            recording.expected,
        );
        for contender in &contenders {
            report.contender(workload, threads, contender);
        }
    }
}
