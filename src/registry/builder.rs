//! From a declaration to an instrument or a family of them.

use super::{Declaration, Registry};
use crate::{
    error::RegisterError,
    family::{
        Family,
        core::{FamilyCore, Shared},
    },
    instrument::{Instrument, Kept, buckets::Buckets, distribution::Distribution, histogram::Histogram},
    name::{LabelName, MetricName},
    samples,
};
use std::{marker::PhantomData, sync::Arc, time::Duration};

/// How many series a family may have unless it is told otherwise: what the OpenTelemetry specification has
/// (<https://opentelemetry.io/docs/specs/otel/metrics/sdk/#cardinality-limits>).
pub const DEFAULT_SERIES_LIMIT: usize = 2000;

/// Says that an instrument has no labels.
#[derive(Debug)]
pub struct Unlabelled;

/// Says that an instrument has `N` labels.
#[derive(Debug)]
pub struct Labelled<const N: usize>;

/// Declares an instrument, and registers it; made by [`Registry::counter`] and its like.
#[must_use = "nothing is registered before `register`"]
#[derive(Debug)]
pub struct InstrumentBuilder<'a, I, L = Unlabelled> {
    registry: &'a Registry,
    name: &'a str,
    help: &'a str,
    unit: Option<&'a str>,
    labels: Vec<String>,
    buckets: Option<Buckets>,
    samples: usize,
    limit: usize,
    expire_after: Option<Duration>,
    own: bool,
    kind: PhantomData<(fn() -> I, L)>,
}

impl<'a, I: Instrument> InstrumentBuilder<'a, I> {
    pub(crate) fn new(registry: &'a Registry, name: &'a str, help: &'a str) -> Self {
        InstrumentBuilder {
            registry,
            name,
            help,
            unit: None,
            labels: Vec::new(),
            buckets: None,
            samples: samples::DEFAULT_CAPACITY,
            limit: DEFAULT_SERIES_LIMIT,
            expire_after: None,
            own: false,
            kind: PhantomData,
        }
    }

    /// The labels that its series differ in.
    pub fn labels<S: AsRef<str>, const N: usize>(self, labels: [S; N]) -> InstrumentBuilder<'a, I, Labelled<N>> {
        InstrumentBuilder {
            registry: self.registry,
            name: self.name,
            help: self.help,
            unit: self.unit,
            labels: labels.iter().map(|label| label.as_ref().to_owned()).collect(),
            buckets: self.buckets,
            samples: self.samples,
            limit: self.limit,
            expire_after: self.expire_after,
            own: self.own,
            kind: PhantomData,
        }
    }

    /// Leaves the registry's prefix away: what the crate says of itself has the same name everywhere.
    pub(crate) fn own(mut self) -> Self {
        self.own = true;
        self
    }

    /// The instrument.
    ///
    /// # Errors
    ///
    /// If the name, the unit or the help is not what every format can express, or if the name would be confused with
    /// another metric's.
    pub fn register(self) -> Result<I, RegisterError> {
        let family = self.register_family()?;
        let only = family.only();
        Ok(I::keep(Kept::pinned(family, only)))
    }
}

impl<I: Instrument, L> InstrumentBuilder<'_, I, L> {
    fn register_family(self) -> Result<Arc<FamilyCore>, RegisterError> {
        let labels = self
            .labels
            .iter()
            .map(|label| LabelName::parse(label))
            .collect::<Result<_, _>>()?;
        let declaration = Declaration {
            kind: I::KIND,
            name: self.name,
            help: self.help,
            unit: self.unit,
            labels,
            bounds: self.buckets.as_ref().map(Buckets::shared),
            samples: I::KEEPS_SAMPLES.then_some(self.samples),
            own: self.own,
        };
        let make = |descriptor, shared: Arc<Shared>, now| {
            FamilyCore::new(descriptor, shared, self.limit, self.expire_after, now)
        };
        self.registry.family(declaration, make)
    }
}

impl<'a, I, L> InstrumentBuilder<'a, I, L> {
    /// The unit, as a UCUM code (<https://ucum.org/ucum>): `s`, `By`, `1`, `{request}`. Prometheus sees it as a word at the
    /// end of the name. By default it is the word that the name ends in, if that is a unit.
    pub fn unit(mut self, unit: &'a str) -> Self {
        self.unit = Some(unit);
        self
    }
}

impl<L> InstrumentBuilder<'_, Histogram, L> {
    /// The boundaries of the buckets; by default ones that fit the unit, see [`Buckets`].
    pub fn buckets(mut self, buckets: Buckets) -> Self {
        self.buckets = Some(buckets);
        self
    }
}

impl<L> InstrumentBuilder<'_, Distribution, L> {
    /// The boundaries of the buckets; by default ones that fit the unit, see [`Buckets`].
    pub fn buckets(mut self, buckets: Buckets) -> Self {
        self.buckets = Some(buckets);
        self
    }

    /// How many samples of the family, all its series together, wait for each exporter that sends raw samples until that collects;
    /// by default 4,096, and at most 1,048,576. When so many wait, further ones are dropped and counted. Each takes 16 bytes
    /// (the number is rounded up to a power of two for that), from the moment in which such an exporter is attached.
    pub fn samples(mut self, capacity: usize) -> Self {
        self.samples = capacity;
        self
    }
}

impl<I: Instrument, const N: usize> InstrumentBuilder<'_, I, Labelled<N>> {
    /// How many series there may be, beside the overflow series; by default [`DEFAULT_SERIES_LIMIT`].
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Ends a series that nothing was recorded in for this long, unless a handle to it is kept; by default none is ended.
    ///
    /// Time passes at collections: a series is ended at the second one that finds it idle for so long. Should its labels be
    /// used again, it begins anew.
    pub fn expire_after(mut self, idle: Duration) -> Self {
        self.expire_after = Some(idle);
        self
    }

    /// The family.
    ///
    /// # Errors
    ///
    /// If the name, a label, the unit or the help is not what every format can express, or if the name would be confused with
    /// another metric's.
    pub fn register(self) -> Result<Family<I, N>, RegisterError> {
        Ok(Family::new(self.register_family()?))
    }
}

pub(super) fn default_buckets(name: &MetricName) -> Buckets {
    let unit = name.unit();
    Buckets::default_for(unit.map(|unit| unit.given()), unit.and_then(|unit| unit.per_second()))
}
