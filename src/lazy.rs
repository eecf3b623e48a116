//! Instruments declared once, as statics, and registered at their first use.

use crate::{
    error::RegisterError,
    family::Family,
    instrument::{
        Instrument,
        buckets::Buckets,
        counter::{Counter, FloatCounter},
        distribution::Distribution,
        gauge::{Gauge, IntGauge},
        histogram::Histogram,
        up_down_counter::UpDownCounter,
    },
    registry::{
        Registry,
        builder::{InstrumentBuilder, Labelled},
        global::{global, reign},
    },
    sync::OnceLock,
};
use std::{fmt, ops::Deref};

/// An instrument or a family that is declared as a static and registers in the [`global`] registry at its first use.
///
/// It is used as what it stands for, and costs what that costs, a load and a comparison aside.
///
/// ```
/// use tidegauge::{LazyCounter, LazyCounterFamily, LazyHistogram};
///
/// static JOBS: LazyCounter = LazyCounter::new("jobs_total", "Jobs run to their end.");
/// static JOB_DURATION: LazyHistogram = LazyHistogram::new("job_duration_seconds", "Time a job takes.")
///     .buckets(&[0.1, 1.0, 10.0]);
/// static ERRORS: LazyCounterFamily<2> =
///     LazyCounterFamily::new("job_errors_total", "Errors by kind and step.", &["kind", "step"]);
///
/// JOBS.inc();
/// JOB_DURATION.observe(0.5);
/// ERRORS.with(["timeout", "fetch"]).inc();
/// assert_eq!(ERRORS.with(["timeout", "fetch"]).get(), 1);
/// ```
///
/// A declaration that cannot be registered is reported once, through the `log` crate and on standard error, and
/// what is recorded through it goes into a registry that nobody reads: recording never panics.
/// [`register`](Lazy::register) returns the error instead, and shows the metric before its first use.
pub struct Lazy<T> {
    declaration: Declared,
    first: OnceLock<Node<T>>,
}

/// What a static was declared as.
struct Declared {
    name: &'static str,
    help: &'static str,
    unit: Option<&'static str>,
    labels: &'static [&'static str],
    buckets: Option<&'static [f64]>,
    samples: Option<usize>,
}

/// What a static stands for, under one reign of the global registry. In tests there are several.
struct Node<T> {
    reign: u64,
    instrument: T,
    next: OnceLock<Box<Node<T>>>,
}

impl<T: Declare> Lazy<T> {
    /// Registers now rather than at the first use, so that the metric is there from the start.
    ///
    /// # Errors
    ///
    /// As the registration of any metric. What was recorded before an error went into a registry that nobody reads.
    pub fn register(&self) -> Result<(), RegisterError> {
        // A second registration of the same declaration finds the same metric, or fails again.
        self.resolve();
        T::register(&self.declaration, &global()).map(drop)
    }

    /// The instrument under the present reign.
    #[cold]
    #[inline(never)]
    fn resolve(&self) -> &T {
        let reign = reign();
        let mut at = self.first.get();
        while let Some(node) = at {
            if node.reign == reign {
                return &node.instrument;
            }
            at = node.next.get().map(|next| &**next);
        }
        // Not while the static is being written: the clock may be the application's and run for long. Several threads may come
        // here at once; all get the same metric, and one writes.
        let mut clash = None;
        let instrument = T::register(&self.declaration, &global()).unwrap_or_else(|error| {
            clash = Some(error);
            T::nowhere()
        });
        let mut made = Some(Node {
            reign,
            instrument,
            next: OnceLock::new(),
        });
        let mut node = || made.take().expect("written once: behind it, the reign is found");
        let mut at = self.first.get_or_init(&mut node);
        while at.reign != reign {
            at = at.next.get_or_init(|| Box::new(node()));
        }
        // Nor here: the application's logger may record through this very static.
        if made.is_none()
            && let Some(error) = clash
        {
            log::error!("{error}; nothing recorded through this static will be seen");
            eprintln!("tidegauge: {error}; nothing recorded through this static will be seen");
        }
        &at.instrument
    }
}

impl<T: Declare> Deref for Lazy<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        match self.first.get() {
            Some(node) if node.reign == reign() => &node.instrument,
            _ => self.resolve(),
        }
    }
}

impl<T> fmt::Debug for Lazy<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Lazy")
            .field("name", &self.declaration.name)
            .finish_non_exhaustive()
    }
}

impl<T> Lazy<T> {
    const fn declared(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Lazy {
            declaration: Declared {
                name,
                help,
                unit: None,
                labels,
                buckets: None,
                samples: None,
            },
            first: OnceLock::new(),
        }
    }

    /// The unit, as a UCUM code (<https://ucum.org/ucum>); by default the word that the name ends in, if that is a unit.
    pub const fn unit(mut self, unit: &'static str) -> Self {
        self.declaration.unit = Some(unit);
        self
    }
}

impl<I: Instrument, const N: usize> Lazy<Family<I, N>> {
    /// Declares a family with these labels.
    pub const fn new(name: &'static str, help: &'static str, labels: &'static [&'static str; N]) -> Self {
        Self::declared(name, help, labels)
    }
}

macro_rules! with_buckets {
    ($($instrument:ident)*) => { $(
        impl Lazy<$instrument> {
            /// The upper bounds of the buckets; by default ones that fit the unit, see [`Buckets`].
            pub const fn buckets(mut self, bounds: &'static [f64]) -> Self {
                self.declaration.buckets = Some(bounds);
                self
            }
        }

        impl<const N: usize> Lazy<Family<$instrument, N>> {
            /// The upper bounds of the buckets; by default ones that fit the unit, see [`Buckets`].
            pub const fn buckets(mut self, bounds: &'static [f64]) -> Self {
                self.declaration.buckets = Some(bounds);
                self
            }
        }
    )* };
}
with_buckets! { Histogram Distribution }

impl Lazy<Distribution> {
    /// How many samples wait for each exporter that sends raw samples; see [`InstrumentBuilder::samples`].
    pub const fn samples(mut self, capacity: usize) -> Self {
        self.declaration.samples = Some(capacity);
        self
    }
}

impl<const N: usize> Lazy<Family<Distribution, N>> {
    /// How many samples wait for each exporter that sends raw samples; see [`InstrumentBuilder::samples`].
    pub const fn samples(mut self, capacity: usize) -> Self {
        self.declaration.samples = Some(capacity);
        self
    }
}

/// What a static can stand for.
#[doc(hidden)]
#[expect(private_interfaces, reason = "sealed: only this file implements it and calls it")]
pub trait Declare: Sized {
    fn register(declared: &Declared, registry: &Registry) -> Result<Self, RegisterError>;

    /// One that nobody reads.
    fn nowhere() -> Self;
}

/// What differs between kinds when a declaration is registered: histograms and distributions have buckets, distributions samples.
trait Build: Instrument {
    fn builder<'a>(
        declared: &Declared,
        builder: InstrumentBuilder<'a, Self>,
    ) -> Result<InstrumentBuilder<'a, Self>, RegisterError>
    where
        Self: Sized,
    {
        let _ = declared;
        Ok(builder)
    }
}

impl Build for Histogram {
    fn builder<'a>(
        declared: &Declared,
        builder: InstrumentBuilder<'a, Self>,
    ) -> Result<InstrumentBuilder<'a, Self>, RegisterError> {
        match declared.buckets {
            Some(bounds) => Ok(builder.buckets(Buckets::explicit(bounds.iter().copied())?)),
            None => Ok(builder),
        }
    }
}

impl Build for Distribution {
    fn builder<'a>(
        declared: &Declared,
        mut builder: InstrumentBuilder<'a, Self>,
    ) -> Result<InstrumentBuilder<'a, Self>, RegisterError> {
        if let Some(bounds) = declared.buckets {
            builder = builder.buckets(Buckets::explicit(bounds.iter().copied())?);
        }
        if let Some(capacity) = declared.samples {
            builder = builder.samples(capacity);
        }
        Ok(builder)
    }
}

fn build<'a, I: Build>(declared: &Declared, registry: &'a Registry) -> Result<InstrumentBuilder<'a, I>, RegisterError> {
    let builder = InstrumentBuilder::new(registry, declared.name, declared.help);
    I::builder(
        declared,
        if let Some(unit) = declared.unit {
            builder.unit(unit)
        } else {
            builder
        },
    )
}

#[expect(private_interfaces, reason = "sealed: only this file implements it and calls it")]
impl<I: Build, const N: usize> Declare for Family<I, N> {
    fn register(declared: &Declared, registry: &Registry) -> Result<Self, RegisterError> {
        let mut labels = [""; N];
        labels.copy_from_slice(declared.labels);
        let builder: InstrumentBuilder<'_, I, Labelled<N>> = build::<I>(declared, registry)?.labels(labels);
        builder.register()
    }

    fn nowhere() -> Self {
        let labels: [String; N] = std::array::from_fn(|at| format!("label_{at}"));
        let registry = Registry::new();
        let builder = InstrumentBuilder::<I>::new(&registry, "nowhere", "Seen by nobody.").labels(labels);
        builder.register().expect("valid, and alone in its registry")
    }
}

macro_rules! lazies {
    ($($instrument:ident $lazy:ident $family:ident $article:literal;)*) => { $(
        #[doc = concat!("A static that stands for ", $article, " [`", stringify!($instrument), "`]; see [`Lazy`].")]
        pub type $lazy = Lazy<$instrument>;

        #[doc = concat!("A static that stands for a [`Family`] of [`", stringify!($instrument), "`]s; see [`Lazy`].")]
        pub type $family<const N: usize> = Lazy<Family<$instrument, N>>;

        impl Lazy<$instrument> {
            #[doc = concat!("Declares ", $article, " [`", stringify!($instrument), "`].")]
            pub const fn new(name: &'static str, help: &'static str) -> Self {
                Self::declared(name, help, &[])
            }
        }

        #[expect(private_interfaces, reason = "sealed: only this file implements it and calls it")]
        impl Declare for $instrument {
            fn register(declared: &Declared, registry: &Registry) -> Result<Self, RegisterError> {
                build::<$instrument>(declared, registry)?.register()
            }

            fn nowhere() -> Self {
                let registry = Registry::new();
                let builder = InstrumentBuilder::new(&registry, "nowhere", "Seen by nobody.");
                builder.register().expect("valid, and alone in its registry")
            }
        }
    )* };
}
lazies! {
    Counter LazyCounter LazyCounterFamily "a";
    FloatCounter LazyFloatCounter LazyFloatCounterFamily "a";
    Gauge LazyGauge LazyGaugeFamily "a";
    IntGauge LazyIntGauge LazyIntGaugeFamily "an";
    UpDownCounter LazyUpDownCounter LazyUpDownCounterFamily "an";
    Histogram LazyHistogram LazyHistogramFamily "a";
    Distribution LazyDistribution LazyDistributionFamily "a";
}

impl Build for Counter {}
impl Build for FloatCounter {}
impl Build for Gauge {}
impl Build for IntGauge {}
impl Build for UpDownCounter {}
