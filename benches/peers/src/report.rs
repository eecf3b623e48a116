//! Rows and ratios: what was measured, and how the library stands against its best peer.

use crate::measure::Contender;

/// Name of the library that the ratios are about.
pub const OURS: &str = "tidegauge";

/// One measured value.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was done; ends in the unit where the value is not nanoseconds an operation.
    pub workload: String,
    /// Threads that did it, or had touched the data.
    pub threads: usize,
    /// Who did it.
    pub library: &'static str,
    /// Nanoseconds an operation, or what the workload's name says.
    pub value: f64,
    /// Whether smaller is better and a ratio to peers means something.
    pub compared: bool,
}

/// All rows so far; each is printed as it comes.
#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Prints a row and keeps it for the ratios.
    pub fn row(&mut self, workload: &str, threads: usize, library: &'static str, value: f64) {
        self.push(workload, threads, library, value, true);
    }

    /// Prints a row that takes no part in ratios: a control, or a value that may be negative.
    pub fn note(&mut self, workload: &str, threads: usize, library: &'static str, value: f64) {
        self.push(workload, threads, library, value, false);
    }

    /// Prints what a contender reached; with a warning, and without a ratio, if others disturbed.
    pub fn contender(&mut self, workload: &str, threads: usize, contender: &Contender) {
        let (best, trusted) = contender.best();
        if trusted {
            self.row(workload, threads, contender.library, best);
        } else {
            println!("# the next row is of no use: other work kept its threads from running at once");
            self.note(workload, threads, contender.library, best);
        }
    }

    fn push(&mut self, workload: &str, threads: usize, library: &'static str, value: f64, compared: bool) {
        println!("{workload}\t{threads}\t{library}\t{}", number(value));
        self.rows.push(Row {
            workload: workload.to_owned(),
            threads,
            library,
            value,
            compared,
        });
    }

    /// Prints the ratios of our rows to the best peer's, then those of our two threads to our one.
    pub fn print_ratios(&self) {
        for (row, best) in self.against_best_peer() {
            println!(
                "ratio\t{}\t{}\t{:.3}\t{}",
                row.workload,
                row.threads,
                row.value / best.value,
                best.library
            );
        }
        for (two, one) in self.against_one_thread() {
            println!(
                "ratio\t{}_2_threads_to_1\t2\t{:.3}\t{OURS}",
                two.workload,
                two.value / one.value
            );
        }
    }

    fn against_best_peer(&self) -> Vec<(&Row, &Row)> {
        self.ours()
            .filter_map(|row| {
                let best = self
                    .rows
                    .iter()
                    .filter(|peer| {
                        peer.compared
                            && peer.library != OURS
                            && peer.workload == row.workload
                            && peer.threads == row.threads
                    })
                    .min_by(|left, right| left.value.total_cmp(&right.value))?;
                // A peer at zero (bytes a further thread costs it) leaves no ratio to speak of.
                (best.value > 0.0).then_some((row, best))
            })
            .collect()
    }

    fn against_one_thread(&self) -> Vec<(&Row, &Row)> {
        const RECORDING: [&str; 7] = [
            "counter_inc",
            "float_counter_add",
            "gauge_set",
            "histogram_observe",
            "exponential_observe",
            "distribution_observe",
            "lookup_inc",
        ];
        self.ours()
            .filter(|row| row.threads == 2 && RECORDING.contains(&row.workload.as_str()))
            .filter_map(|two| {
                let one = self
                    .ours()
                    .find(|row| row.threads == 1 && row.workload == two.workload)?;
                Some((two, one))
            })
            .collect()
    }

    fn ours(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.compared && row.library == OURS)
    }
}

/// Three digits after the point for small values, none for large ones.
fn number(value: f64) -> String {
    if value.abs() < 100.0 {
        format!("{value:.3}")
    } else {
        format!("{value:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::default();
        report.row("counter_inc", 1, OURS, 1.0);
        report.row("counter_inc", 1, "slow", 10.0);
        report.row("counter_inc", 1, "fast", 5.0);
        report.note("counter_inc", 1, "control", 0.1);
        report.row("counter_inc", 2, OURS, 1.1);
        report.row("counter_inc", 2, "slow", 30.0);
        report.row("bytes", 1, OURS, 8.0);
        report.row("bytes", 1, "fast", 0.0);
        report.row("snapshot", 1, OURS, 3.0);
        report
    }

    #[test]
    fn the_best_peer_of_the_same_row_is_the_measure() {
        let report = report();
        let ratios: Vec<_> = report
            .against_best_peer()
            .into_iter()
            .map(|(row, best)| (row.threads, best.library, row.value / best.value))
            .collect();
        assert_eq!(ratios, [(1, "fast", 0.2), (2, "slow", 1.1 / 30.0)]);
    }

    #[test]
    fn two_threads_are_held_against_one() {
        let report = report();
        let pairs = report.against_one_thread();
        assert_eq!(pairs.len(), 1);
        assert_eq!(pairs[0].0.value / pairs[0].1.value, 1.1);
    }
}
