//! Live bytes: of a series of counters with three labels, and of each further thread that has
//! incremented every one of them.

use crate::allocator;
use crate::data::Population;
use crate::exposition::{COUNTER, samples, sum};
use crate::library::{Buffer, Library, MakeRegistry, Registry};
use crate::report::Report;
use std::sync::Barrier;

const SERIES: usize = 110_000;

/// Further threads; what they cost is divided by their number.
const FURTHER: usize = 4;

/// Live bytes a series where each series has a route of its own: a library that stores each label
/// value once, however many series have it, gains nothing here.
pub fn unique(libraries: &[Library], report: &mut Report) {
    let population = Population::of_unique_routes(SERIES);
    for library in libraries {
        let Some(make) = library.registry else {
            continue;
        };
        let (_registry, live) = filled(make, &population);
        let bytes = live as f64 / SERIES as f64;
        report.row("bytes_per_series_unique", 1, library.name, bytes);
    }
}

/// A registry with a counter for each label set, and its live bytes.
fn filled(make: MakeRegistry, population: &Population) -> (Box<dyn Registry>, i64) {
    allocator::start();
    let registry = make(population.len());
    for labels in population.iter() {
        registry.count(labels, 1);
    }
    let live = allocator::now().live;
    allocator::stop();
    (registry, live)
}

/// Live bytes a series, and for each further thread, where 25 series share a route.
pub fn run(libraries: &[Library], report: &mut Report) {
    let population = Population::new(SERIES);
    for library in libraries {
        let Some(make) = library.registry else {
            continue;
        };
        let (registry, alone) = filled(make, &population);

        let (there, go, touched, leave) = (
            Barrier::new(FURTHER + 1),
            Barrier::new(FURTHER + 1),
            Barrier::new(FURTHER + 1),
            Barrier::new(FURTHER + 1),
        );
        let mut further = 0;
        std::thread::scope(|scope| {
            for _ in 0..FURTHER {
                scope.spawn(|| {
                    there.wait();
                    go.wait();
                    for labels in population.iter() {
                        registry.count(labels, 1);
                    }
                    touched.wait();
                    leave.wait();
                });
            }
            there.wait();
            allocator::start();
            go.wait();
            touched.wait();
            further = allocator::now().live;
            allocator::stop();
            leave.wait();
        });

        let mut buffer = Buffer::default();
        registry.scrape(&mut buffer);
        let text = buffer.written();
        assert_eq!(samples(text), SERIES, "{}: series", library.name);
        let events = (SERIES * (FURTHER + 1)) as f64;
        assert_eq!(sum(text, COUNTER), events, "{}: events", library.name);

        let series = SERIES as f64;
        report.row("bytes_per_series", 1, library.name, alone as f64 / series);
        report.row(
            "bytes_per_series_per_thread",
            FURTHER,
            library.name,
            further as f64 / series / FURTHER as f64,
        );
    }
}
