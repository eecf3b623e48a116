//! Packets by when they were sent: how many in each tenth of a second, and what that says of the worst of them.

use std::{fmt, time::Duration};

pub const WIDTH: Duration = Duration::from_millis(100);

/// Counts of a time that begins at `from`; what is outside is left out.
pub struct Bins {
    from: Duration,
    counts: Vec<u64>,
}

/// What there is in a bin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    pub peak: u64,
    pub mean: f64,
    /// So many, or fewer, in 99 of 100 bins.
    pub p99: u64,
}

impl Bins {
    pub fn new(from: Duration, until: Duration) -> Self {
        let bins = until.saturating_sub(from).as_nanos().div_ceil(WIDTH.as_nanos());
        Bins {
            from,
            counts: vec![0; bins as usize],
        }
    }

    pub fn add(&mut self, at: Duration) {
        let Some(since) = at.checked_sub(self.from) else {
            return;
        };
        let bin = since.as_nanos() / WIDTH.as_nanos();
        if let Some(count) = self.counts.get_mut(bin as usize) {
            *count += 1;
        }
    }

    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    pub fn summary(&self) -> Summary {
        let mut sorted = self.counts.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * 99).div_ceil(100);
        Summary {
            peak: sorted.last().copied().unwrap_or(0),
            mean: sorted.iter().sum::<u64>() as f64 / sorted.len().max(1) as f64,
            p99: rank.checked_sub(1).map_or(0, |at| sorted[at]),
        }
    }
}

impl Summary {
    /// How many times as much as on average the worst bin has.
    pub fn ratio(&self) -> f64 {
        self.peak as f64 / self.mean
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ratio = self.ratio();
        let Summary { peak, mean, p99 } = self;
        write!(
            formatter,
            "peak {peak}, mean {mean:.1}, p99 {p99}, peak/mean {ratio:.1}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_packet_is_in_the_bin_of_its_time_and_strays_are_in_none() {
        let mut bins = Bins::new(Duration::from_millis(1000), Duration::from_millis(1250));
        for at in [999, 1000, 1099, 1100, 1250, 1299, 1300, 9999] {
            bins.add(Duration::from_millis(at));
        }
        assert_eq!(bins.counts(), [2, 1, 2]);
    }

    #[test]
    fn the_summary_is_of_all_bins_the_empty_ones_too() {
        let mut bins = Bins::new(Duration::ZERO, WIDTH * 200);
        for bin in 0..3 {
            for _ in 0..10 * (bin + 1) {
                bins.add(WIDTH * bin);
            }
        }
        let summary = bins.summary();
        assert_eq!((summary.peak, summary.mean, summary.p99), (30, 0.3, 10));
        assert_eq!(summary.to_string(), "peak 30, mean 0.3, p99 10, peak/mean 100.0");
    }
}
