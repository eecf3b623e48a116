//! The workloads, one file a kind.

pub mod crowd;
pub mod insert;
pub mod memory;
pub mod record;
pub mod scrape;
pub mod slowdown;

use crate::data::{BOUNDS, Data, Labels, Lane, Population};
use crate::exposition::{COUNTER, HISTOGRAM, samples, sum};
use crate::library::{Buffer, MakeRegistry, Registry};

/// Families with series in them: what scrapes read.
pub struct Filled {
    /// The registry with the series.
    pub registry: Box<dyn Registry>,
    counters: Population,
    histograms: Population,
    counted: f64,
    observed: f64,
}

impl Filled {
    /// How many counters and histograms make up so many series.
    pub fn split(series: usize) -> (usize, usize) {
        (series / 11 * 10, series / 11)
    }

    /// Fills a registry with ten counters to each histogram, all of them with three labels.
    pub fn new(make: MakeRegistry, series: usize) -> Self {
        let (counters, histograms) = Self::split(series);
        let mut filled = Self {
            registry: make(counters),
            counters: Population::new(counters),
            histograms: Population::new(histograms),
            counted: 0.0,
            observed: 0.0,
        };
        for (index, labels) in filled.counters.iter().enumerate() {
            // Up to six digits, as counters that have run for a while.
            let amount = 1 + index as u64 * 7_919 % 250_000;
            filled.registry.count(labels, amount);
            filled.counted += amount as f64;
        }
        for (index, labels) in filled.histograms.iter().enumerate() {
            const EACH: u64 = 8;
            let lane = Lane {
                operations: EACH,
                thread: index,
            };
            lane.observations(|value| filled.registry.observe(labels, value));
            filled.observed += EACH as f64;
        }
        filled
    }

    /// The label values of every counter, in the order of their births.
    pub fn counter_labels(&self) -> impl Iterator<Item = Labels> + '_ {
        self.counters.iter()
    }

    /// Records once into every series from the calling thread.
    pub fn touch(&self) {
        for labels in self.counters.iter() {
            self.registry.count(labels, 1);
        }
        for labels in self.histograms.iter() {
            self.registry.observe(labels, 0.5);
        }
    }

    /// Takes note that so many threads have touched every series.
    pub fn touched(&mut self, threads: usize) {
        self.counted += (threads * self.counters.len()) as f64;
        self.observed += (threads * self.histograms.len()) as f64;
    }

    /// Ends the process unless a scrape shows every series, and in them all that was recorded.
    pub fn verify(&self, library: &str, buffer: &mut Buffer) {
        // Each bucket, the one without bound, the sum and the count.
        const LINES: usize = BOUNDS.len() + 3;
        self.registry.scrape(buffer);
        let text = buffer.written();
        let lines = self.counters.len() + self.histograms.len() * LINES;
        assert_eq!(samples(text), lines, "{library}: number of samples");
        assert_eq!(sum(text, COUNTER), self.counted, "{library}: counters");
        let counts = sum(text, &format!("{HISTOGRAM}_count"));
        assert_eq!(counts, self.observed, "{library}: histograms");
    }
}

/// Makes the shared data before anything is measured.
pub fn prepare() {
    let _ = Data::shared();
    let _ = Population::new(25);
}
