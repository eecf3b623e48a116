//! Push to StatsD. Only what the lines need is here so far.

mod dialect;

pub use dialect::{Cardinality, Dialect, HistogramLines};
