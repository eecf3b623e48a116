//! Two threads that record without pause: what an increment costs them alone, beside a thread that
//! scrapes without pause, and beside one that is as busy but leaves the registry alone.

use super::Filled;
use crate::data::Labels;
use crate::library::{Buffer, Library, Registry, Writer};
use crate::measure::Plan;
use crate::report::{OURS, Report};
use std::hint::black_box;
use std::time::{Duration, Instant};

const SERIES: usize = 110_000;
const WRITERS: usize = 2;

/// Counters that the writers increment in turn: the first born, which are anywhere in the families.
const HOT: usize = 1_024;

/// Measures every library that has families; without much time, only us and those that scrape fast.
pub fn run(libraries: &[Library], plan: Plan, report: &mut Report) {
    const QUICK: [&str; 3] = [OURS, "measured", "fastmetrics"];
    for library in libraries {
        let Some(make) = library.registry else {
            continue;
        };
        if !plan.everybody && !QUICK.contains(&library.name) {
            continue;
        }
        let filled = Filled::new(make, SERIES);
        let labels: Vec<Labels> = filled.counter_labels().take(HOT).collect();
        let writers: [Writer; WRITERS] = Default::default();
        let found = std::thread::scope(|scope| {
            for writer in &writers {
                let (filled, labels) = (&filled, &labels);
                scope.spawn(move || filled.registry.hammer(labels, writer));
            }
            let found = watch(&*filled.registry, &writers, plan);
            writers.iter().for_each(Writer::stop);
            found
        });
        for (workload, value) in [
            ("writer_alone", found.alone),
            ("writer_beside_control", found.beside_control),
            ("writer_beside_scrapes", found.beside_scrapes),
            ("writer_slowdown_percent", found.slowdown),
            ("writer_slowdown_on_core_percent", found.slowdown_on_core),
        ] {
            report.note(workload, WRITERS, library.name, value);
        }
    }
}

/// What was seen of the writers, each value the median of its windows.
struct Found {
    alone: f64,
    beside_control: f64,
    beside_scrapes: f64,
    slowdown: f64,
    slowdown_on_core: f64,
}

/// Watches the writers in turns, so that drift meets every circumstance alike.
///
/// With fewer cores than busy threads the system shares the cores out, and not evenly within one
/// window; the slowdown on a core is free of that, but does not see a writer that sleeps on a lock.
fn watch(registry: &dyn Registry, writers: &[Writer], plan: Plan) -> Found {
    let mut buffer = Buffer::default();
    // The writers get going, and the scrape's time and size are known.
    registry.scrape(&mut buffer);
    let mut control = Control::new(buffer.written().len());
    let start = Instant::now();
    registry.scrape(&mut buffer);
    let mut scrape = start.elapsed();

    let (mut alone, mut controlled, mut scraped) = (vec![], vec![], vec![]);
    for _ in 0..plan.windows {
        alone.push(during(plan.window, writers, || {
            std::thread::sleep(plan.window);
        }));
        controlled.push(during(plan.window, writers, || control.run(scrape)));
        let mut scrapes = 0;
        let start = Instant::now();
        scraped.push(during(plan.window, writers, || {
            registry.scrape(&mut buffer);
            scrapes += 1;
        }));
        scrape = start.elapsed() / scrapes;
    }
    let slowdown = |cost: fn(&Cost) -> f64| {
        let pairs = controlled.iter().zip(&scraped);
        median(pairs.map(|(control, scrape)| (cost(scrape) / cost(control) - 1.0) * 100.0))
    };
    Found {
        alone: median(alone.iter().map(|cost| cost.elapsed)),
        beside_control: median(controlled.iter().map(|cost| cost.elapsed)),
        beside_scrapes: median(scraped.iter().map(|cost| cost.elapsed)),
        slowdown: slowdown(|cost| cost.elapsed),
        slowdown_on_core: slowdown(|cost| cost.on_core),
    }
}

/// Nanoseconds an increment takes a writer.
struct Cost {
    elapsed: f64,
    on_core: f64,
}

/// The cost of an increment while `work` is repeated for the time of a window.
fn during(window: Duration, writers: &[Writer], mut work: impl FnMut()) -> Cost {
    let before = done(writers);
    let start = Instant::now();
    while start.elapsed() < window {
        work();
    }
    let elapsed = start.elapsed().as_nanos() as f64;
    let after = done(writers);
    let operations = (after.0 - before.0).max(1) as f64;
    Cost {
        elapsed: elapsed * writers.len() as f64 / operations,
        on_core: (after.1 - before.1) as f64 / operations,
    }
}

fn done(writers: &[Writer]) -> (u64, u64) {
    writers.iter().fold((0, 0), |(operations, on_core), writer| {
        let done = writer.done();
        (operations + done.0, on_core + done.1)
    })
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// As busy as a scrape, in memory of its own: in the same time it reads a cell for each series of
/// each writer and as much text as the scrape writes, and writes as much text.
struct Control {
    cells: Vec<u64>,
    source: Vec<u8>,
    target: Vec<u8>,
}

impl Control {
    fn new(text: usize) -> Self {
        Self {
            cells: vec![1; SERIES * WRITERS],
            source: vec![b'x'; text],
            target: vec![0; text],
        }
    }

    fn run(&mut self, scrape: Duration) {
        const CHUNK: usize = 4_096;
        let start = Instant::now();
        black_box(self.cells.iter().sum::<u64>());
        let chunks = self.source.len() / CHUNK + 1;
        for (index, (from, to)) in self.source.chunks(CHUNK).zip(self.target.chunks_mut(CHUNK)).enumerate() {
            to.copy_from_slice(black_box(from));
            // The copying is spread over the time that the scrape takes for its text.
            let due = scrape.mul_f64(index as f64 / chunks as f64);
            while start.elapsed() < due {
                black_box(index);
            }
        }
        black_box(&mut self.target);
    }
}
