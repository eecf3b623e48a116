//! What a family is, fixed when it is registered: its name in every spelling, its help, its labels, its buckets.

use crate::{
    name::{self, LabelName, MetricName},
    samples::SampleLog,
};
use std::{sync::Arc, time::Duration};

/// What a family counts or measures, and in which numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A count that only grows.
    Counter,
    /// A sum of floats that only grows.
    FloatCounter,
    /// A float that moves both ways.
    Gauge,
    /// An integer that moves both ways.
    IntGauge,
    /// An integer that moves both ways, counted apart in each thread.
    UpDownCounter,
    /// Observations, counted in buckets.
    Histogram,
}

impl Kind {
    /// The word that Prometheus has for it in `# TYPE` lines.
    pub fn prometheus(self) -> &'static str {
        match self {
            Kind::Counter | Kind::FloatCounter => "counter",
            Kind::Gauge | Kind::IntGauge | Kind::UpDownCounter => "gauge",
            Kind::Histogram => "histogram",
        }
    }

    pub(crate) fn naming(self) -> name::Kind {
        match self {
            Kind::Counter | Kind::FloatCounter => name::Kind::Counter,
            Kind::Gauge | Kind::IntGauge => name::Kind::Gauge,
            Kind::UpDownCounter => name::Kind::UpDownCounter,
            Kind::Histogram => name::Kind::Histogram,
        }
    }
}

/// A family's description, shared by the family, its snapshots and their encoders.
#[derive(Clone, Debug)]
pub(crate) struct Descriptor {
    pub(crate) name: MetricName,
    pub(crate) help: Box<str>,
    pub(crate) kind: Kind,
    /// The labels that series differ in.
    pub(crate) labels: Box<[LabelName]>,
    /// The registry's labels, the same for every series.
    pub(crate) constant: Arc<[(LabelName, Box<str>)]>,
    /// Upper bounds of a histogram's buckets, without +Inf; else empty.
    pub(crate) bounds: Arc<[f64]>,
    /// Where a distribution's samples wait for readers; none of any other instrument.
    pub(crate) samples: Option<Arc<SampleLog>>,
    /// When it was registered, since the Unix epoch.
    pub(crate) registered: Duration,
    /// Whether it is one of the crate's own: it has room for its series in a registry that is full.
    pub(crate) own: bool,
}

/// The label of the series that takes what is past a limit, as Prometheus spells it.
pub(crate) const OVERFLOW_LABEL: &str = "otel_metric_overflow";
/// The value of that label.
pub(crate) const OVERFLOW_VALUE: &str = "true";
