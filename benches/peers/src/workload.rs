//! The workloads, one file a kind.

pub mod crowd;
pub mod export;
pub mod insert;
pub mod memory;
pub mod outage;
pub mod record;
pub mod scrape;
pub mod slowdown;
pub mod statsd;

use crate::data::{BOUNDS, Data, Labels, Lane, Population};
use crate::exposition::{COUNTER, HISTOGRAM, samples, sum};
use crate::library::{Buffer, Fill, MakeRegistry, Registry};

/// Families with series in them: what scrapes read.
pub struct Filled {
    /// The registry with the series.
    pub registry: Box<dyn Registry>,
    contents: Contents,
}

impl Filled {
    /// Fills a registry with ten counters to each histogram, all of them with three labels.
    pub fn new(make: MakeRegistry, series: usize) -> Self {
        let registry = make(Contents::split(series).0);
        let contents = Contents::fill(&*registry, series);
        Self { registry, contents }
    }

    /// The label values of every counter, in the order of their births.
    pub fn counter_labels(&self) -> impl Iterator<Item = Labels> + '_ {
        self.contents.counters.iter()
    }

    /// Records once into every series from the calling thread.
    pub fn touch(&self) {
        self.contents.touch(&*self.registry);
    }

    /// Takes note that so many threads have touched every series.
    pub fn touched(&mut self, threads: usize) {
        let each = self.contents.of_a_touch();
        let held = &mut self.contents.held;
        held.counted += threads as f64 * each.counted;
        held.observations += threads as f64 * each.observations;
        held.observed += threads as f64 * each.observed;
    }

    /// Ends the process unless a scrape shows every series, and in them all that was recorded.
    pub fn verify(&self, library: &str, buffer: &mut Buffer) {
        // Each bucket, the one without bound, the sum and the count.
        const LINES: usize = BOUNDS.len() + 3;
        self.registry.scrape(buffer);
        let text = buffer.written();
        let held = self.contents.held;
        let lines = held.counters + held.histograms * LINES;
        assert_eq!(samples(text), lines, "{library}: number of samples");
        assert_eq!(sum(text, COUNTER), held.counted, "{library}: counters");
        let counts = sum(text, &format!("{HISTOGRAM}_count"));
        assert_eq!(counts, held.observations, "{library}: histograms");
    }
}

/// Which series there are in a registry, and what was recorded into them.
pub struct Contents {
    counters: Population,
    histograms: Population,
    /// What the registry holds.
    pub held: Held,
}

/// What all series hold together. The sums are exact in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Held {
    /// Counters.
    pub counters: usize,
    /// Histograms.
    pub histograms: usize,
    /// Sum of the counters.
    pub counted: f64,
    /// Number of values in the histograms.
    pub observations: f64,
    /// Sum of these values.
    pub observed: f64,
}

impl Contents {
    /// How many counters and histograms make up so many series.
    pub fn split(series: usize) -> (usize, usize) {
        (series / 11 * 10, series / 11)
    }

    /// Records into ten counters to each histogram, all of them with three labels.
    pub fn fill(registry: &dyn Fill, series: usize) -> Self {
        let (counters, histograms) = Self::split(series);
        let mut contents = Self {
            counters: Population::new(counters),
            histograms: Population::new(histograms),
            held: Held {
                counters,
                histograms,
                ..Held::default()
            },
        };
        for (index, labels) in contents.counters.iter().enumerate() {
            // Up to six digits, as counters that have run for a while.
            let amount = 1 + index as u64 * 7_919 % 250_000;
            registry.count(labels, amount);
            contents.held.counted += amount as f64;
        }
        for (index, labels) in contents.histograms.iter().enumerate() {
            const EACH: u64 = 8;
            let lane = Lane {
                operations: EACH,
                thread: index,
            };
            lane.observations(|value| registry.observe(labels, value));
            contents.held.observations += EACH as f64;
            contents.held.observed += lane.sum_of_observations();
        }
        contents
    }

    /// Records once into every series from the calling thread; [`Contents::held`] takes no note of it.
    pub fn touch(&self, registry: &dyn Fill) {
        for labels in self.counters.iter() {
            registry.count(labels, 1);
        }
        for labels in self.histograms.iter() {
            registry.observe(labels, TOUCH);
        }
    }

    /// What [`Contents::touch`] adds.
    pub fn of_a_touch(&self) -> Held {
        let Held {
            counters, histograms, ..
        } = self.held;
        Held {
            counters,
            histograms,
            counted: counters as f64,
            observations: histograms as f64,
            observed: histograms as f64 * TOUCH,
        }
    }
}

/// The value that a touch observes.
const TOUCH: f64 = 0.5;

/// Makes the shared data before anything is measured.
pub fn prepare() {
    let _ = Data::shared();
    let _ = Population::new(25);
}
