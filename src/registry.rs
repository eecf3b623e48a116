//! Names to families: registering, refusing what would be confused, and collecting.

pub(crate) mod builder;
pub(crate) mod global;
pub(crate) mod lint;

use crate::{
    clock::{Clock, SharedClock, SystemClock},
    departure::Inbox,
    descriptor::{Descriptor, Kind},
    error::RegisterError,
    family::core::{FamilyCore, Shared},
    instrument::{
        counter::{Counter, FloatCounter},
        distribution::Distribution,
        gauge::{Gauge, IntGauge},
        histogram::Histogram,
        up_down_counter::UpDownCounter,
    },
    ledger::Losses,
    name::{self, LabelName, MetricName, NameError},
    observable::{Collector, Families, Observable, ObservableBuilder},
    own_metrics::OwnMetrics,
    platform,
    samples::{SampleLog, SampleReader},
    snapshot::{FamilySnapshot, Snapshot},
    sync::Mutex,
};
use builder::InstrumentBuilder;
use lint::{Lint, LintInput};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

/// A set of metrics that are read together.
///
/// Cloning is cheap and gives the same registry. There may be any number of them; [`global`](crate::global) is one that is
/// always there.
///
/// A metric's identity is the name that Prometheus will see. Registering it again, with the same kind, labels and buckets, gives
/// the same metric, however it is spelled: `jobs`, `jobs_total`; `wait` in unit `s`, `wait_seconds`. The first registration's help,
/// limit and expiry stand.
///
/// ```
/// # fn main() -> Result<(), tidegauge::RegisterError> {
/// use tidegauge::Registry;
///
/// let registry = Registry::new();
/// let jobs = registry.counter("jobs", "Jobs run to their end.").register()?;
/// let same = registry.counter("jobs_total", "Jobs run to their end.").register()?;
/// jobs.inc();
/// assert_eq!(same.get(), 1);
/// # Ok(())
/// # }
/// ```
///
/// # Forks
///
/// A process may fork at any moment, in any thread, whatever its other threads are doing. The parent goes on as if nothing had
/// happened. In the child all handles, families and registries can be used at once, in the thread that forked and in new ones:
///
/// - What is counted starts again at zero: counters, histograms, up-down counters, and [losses](Registry::losses). The parent
///   reports what was counted before, and nothing is reported twice. No series of the child says that it began before the
///   fork: see [`SeriesSnapshot::created`](crate::SeriesSnapshot::created).
/// - Gauges keep their values: what was set before the fork is configuration or state, and as true in the child, which nobody
///   would otherwise tell. What is counted up and down belongs in an up-down counter.
/// - Closures are called as before, and give what they give.
/// - A server that the parent started has no threads in the child, and is inert there; the child can start its own.
///
/// A series that a thread of the parent kept, by a handle of its own, does not expire in the child. What `vfork` and
/// `posix_spawn` make has to `exec`, as always.
///
/// Handlers of the application (`pthread_atfork`) may record. They have to be registered after the first registry is made: what
/// an earlier one records in the child is not kept, and one that takes a lock under which other threads record would wait for
/// them, and they for the fork, for ever. While a thread that `std::thread` made starts or ends, the standard library holds locks
/// of its own, and a child that is forked in that very moment may not be able to start threads; so fork when that does not
/// happen, or before there are threads.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    prefix: Option<Box<str>>,
    constant: Arc<[(LabelName, Box<str>)]>,
    shared: Arc<Shared>,
    sources: Mutex<Sources>,
    own: OnceLock<Arc<OwnMetrics>>,
    /// When the registry was made: monotonic, and since the Unix epoch.
    made: (Duration, Duration),
}

#[derive(Default)]
struct Sources {
    /// By identity.
    families: BTreeMap<String, Source>,
    /// Every name that some encoder may write, and the identity of the family that it is written for.
    claims: HashMap<String, String>,
    collectors: Vec<Arc<Collector>>,
}

/// What yields a family.
#[derive(Clone)]
enum Source {
    Family(Arc<FamilyCore>),
    Observable(Arc<Observable>),
}

impl Source {
    fn descriptor(&self) -> &Descriptor {
        match self {
            Source::Family(family) => family.descriptor(),
            Source::Observable(observable) => observable.descriptor(),
        }
    }
}

/// A family that is about to be registered.
pub(crate) struct Declaration<'a> {
    pub(crate) kind: Kind,
    pub(crate) name: &'a str,
    pub(crate) help: &'a str,
    pub(crate) unit: Option<&'a str>,
    pub(crate) labels: Vec<LabelName>,
    /// As given, if they were.
    pub(crate) bounds: Option<Arc<[f64]>>,
    /// How many samples it keeps for each reader, if it is a distribution.
    pub(crate) samples: Option<usize>,
    /// The crate's own: its name has no prefix.
    pub(crate) own: bool,
}

impl Registry {
    /// A registry with no metrics, no prefix and no labels of its own, on the system's clocks.
    pub fn new() -> Self {
        Self::with(None, Arc::new([]), usize::MAX, SharedClock::new(SystemClock))
    }

    /// A registry to be set up.
    ///
    /// ```
    /// # fn main() -> Result<(), tidegauge::RegisterError> {
    /// let registry = tidegauge::Registry::builder().prefix("app").label("region", "eu").build()?;
    /// registry.counter("jobs_total", "Jobs run to their end.").register()?.inc();
    /// let body = registry.scrape(None, None).into_body();
    /// assert!(String::from_utf8(body).unwrap().contains("app_jobs_total{region=\"eu\"} 1\n"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder() -> RegistryBuilder {
        RegistryBuilder {
            prefix: None,
            labels: Vec::new(),
            series_limit: usize::MAX,
            clock: SharedClock::new(SystemClock),
        }
    }

    fn with(
        prefix: Option<Box<str>>,
        constant: Arc<[(LabelName, Box<str>)]>,
        series_limit: usize,
        clock: SharedClock,
    ) -> Self {
        platform::watch_forks();
        let made = (clock.monotonic(), clock.unix());
        Registry {
            inner: Arc::new(Inner {
                prefix,
                constant,
                shared: Arc::new(Shared::new(clock, series_limit)),
                sources: Mutex::default(),
                own: OnceLock::new(),
                made,
            }),
        }
    }

    /// A count that only grows.
    pub fn counter<'a>(&'a self, name: &'a str, help: &'a str) -> InstrumentBuilder<'a, Counter> {
        InstrumentBuilder::new(self, name, help)
    }

    /// A sum of floats that only grows.
    pub fn float_counter<'a>(&'a self, name: &'a str, help: &'a str) -> InstrumentBuilder<'a, FloatCounter> {
        InstrumentBuilder::new(self, name, help)
    }

    /// A float that is set, or moves both ways.
    pub fn gauge<'a>(&'a self, name: &'a str, help: &'a str) -> InstrumentBuilder<'a, Gauge> {
        InstrumentBuilder::new(self, name, help)
    }

    /// An integer that is set, or moves both ways.
    pub fn int_gauge<'a>(&'a self, name: &'a str, help: &'a str) -> InstrumentBuilder<'a, IntGauge> {
        InstrumentBuilder::new(self, name, help)
    }

    /// An integer that many threads move both ways and none sets.
    pub fn up_down_counter<'a>(&'a self, name: &'a str, help: &'a str) -> InstrumentBuilder<'a, UpDownCounter> {
        InstrumentBuilder::new(self, name, help)
    }

    /// The distribution of observed values.
    pub fn histogram<'a>(&'a self, name: &'a str, help: &'a str) -> InstrumentBuilder<'a, Histogram> {
        InstrumentBuilder::new(self, name, help)
    }

    /// The distribution of observed values, and each value by itself for exporters that send raw samples.
    pub fn distribution<'a>(&'a self, name: &'a str, help: &'a str) -> InstrumentBuilder<'a, Distribution> {
        InstrumentBuilder::new(self, name, help)
    }

    /// A count that a closure reads at each collection, `u64` or `f64`. It must never go down.
    pub fn observable_counter<'a>(&'a self, name: &'a str, help: &'a str) -> ObservableBuilder<'a> {
        ObservableBuilder::new(self, Kind::Counter, name, help)
    }

    /// A value that a closure reads at each collection, `f64` or `i64`.
    pub fn observable_gauge<'a>(&'a self, name: &'a str, help: &'a str) -> ObservableBuilder<'a> {
        ObservableBuilder::new(self, Kind::Gauge, name, help)
    }

    /// A closure that yields several families at once, from one expensive reading at each collection.
    ///
    /// It may record, register and take snapshots; in a snapshot that it takes itself, observable instruments and collectors
    /// are left out. If it panics, all it would have yielded is missing from that snapshot, and that is counted in
    /// [`Losses::panics`]. A family with a name that is not valid, or that clashes with another's, is left out, reported once
    /// through the `log` crate, and counted in [`Losses::refused_families`].
    ///
    /// ```
    /// let registry = tidegauge::Registry::new();
    /// registry.collector(|families| {
    ///     let (idle, used) = (3.0, 5.0);
    ///     families.gauge("pool_connections", "Connections of the pool, by state.")
    ///         .labels(["state"])
    ///         .sample(["idle"], idle)
    ///         .sample(["used"], used);
    ///     families.counter("pool_waits_total", "Times that the pool was empty.").value(7_u64);
    /// });
    /// assert_eq!(registry.snapshot().families().count(), 2);
    /// ```
    pub fn collector(&self, collect: impl Fn(&mut Families) + Send + Sync + 'static) {
        let registered = self.inner.shared.clock.unix();
        self.inner
            .sources
            .lock()
            .collectors
            .push(Arc::new(Collector::new(collect, registered)));
    }

    /// Removes a metric, found by any spelling of its name. Handles to it can still be used; what is written to them is counted
    /// in [`Losses::late_writes`]. False if there is none of this name.
    pub fn unregister(&self, name: &str) -> bool {
        let mut sources = self.inner.sources.lock();
        // With the registry's prefix or without it, as it was registered.
        let prefix = self
            .inner
            .prefix
            .as_deref()
            .unwrap_or_default()
            .trim_end_matches(['_', '.']);
        let spellings = [name.to_owned(), format!("{prefix}_{name}"), format!("{prefix}.{name}")];
        let matches = |source: &Source| {
            let each = &source.descriptor().name;
            let known = [each.sample(), each.family(), each.given()];
            spellings.iter().any(|spelling| known.contains(&spelling.as_str()))
        };
        let Some(identity) = sources
            .families
            .iter()
            .find(|(_, source)| matches(source))
            .map(|(key, _)| key.clone())
        else {
            return false;
        };
        let source = sources.families.remove(&identity);
        sources.claims.retain(|_, claimed| *claimed != identity);
        drop(sources);
        if let Some(Source::Family(family)) = source {
            family.unregister();
        }
        true
    }

    /// The values of all metrics at this moment.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot_with(false)
    }

    /// The values of all metrics at this moment, with the lives of registered series: by them an exporter knows a series again, and
    /// tells it from a later one with the same labels.
    pub(crate) fn snapshot_for_export(&self) -> Snapshot {
        self.snapshot_with(true)
    }

    /// An inbox for an exporter, which gets the series that are removed from now on, for as long as it is kept; see
    /// [`departure`](crate::departure) for how it goes with snapshots.
    pub(crate) fn attach(&self) -> Arc<Inbox> {
        let shared = &self.inner.shared;
        shared.departures.attach(shared.clock.unix())
    }

    /// A reader for an exporter, of the samples that distributions are given from now on; none if there are as many as a registry
    /// can have. See [`samples`](crate::samples) for how it goes with snapshots.
    pub(crate) fn attach_samples(&self) -> Option<SampleReader> {
        SampleReader::attach(&self.inner.shared.samples)
    }

    fn snapshot_with(&self, lives: bool) -> Snapshot {
        let (sources, collectors) = {
            let sources = self.inner.sources.lock();
            (
                sources.families.values().cloned().collect::<Vec<_>>(),
                sources.collectors.clone(),
            )
        };
        // No lock is held from here on: closures may do with the registry what they like.
        let family = |source: &Source| match source {
            Source::Family(family) => Some(family.collect(lives)),
            Source::Observable(observable) => observable.collect(&self.inner.shared),
        };
        let mut families: Vec<FamilySnapshot> = sources.iter().filter_map(family).collect();
        let mut claims = HashSet::new();
        for collector in collectors {
            families.extend(collector.collect(self, &mut claims));
        }
        // By a stable sort, so that of one name those of collectors come last.
        families.sort_by(|one, other| one.name().cmp(other.name()));
        families.dedup_by(|later, earlier| {
            // One that was registered when the collection began, and whose name was free when a collector was asked.
            let is_second = later.name() == earlier.name();
            if is_second {
                self.inner.shared.ledger.refused_family();
            }
            is_second
        });
        Snapshot {
            families,
            taken: self.inner.shared.clock.unix(),
        }
    }

    /// What `promtool check metrics` would say about the metrics, and what the naming guide
    /// (<https://prometheus.io/docs/practices/naming/>) says beyond that. Looks at names, units, help, labels and buckets, never
    /// at values; the families of collectors are not known before they are collected, and left out.
    ///
    /// ```
    /// let registry = tidegauge::Registry::new();
    /// registry.gauge("waitMillis", "Time a job waits.").unit("ms").register().unwrap();
    /// assert!(registry.lint().iter().any(|lint| lint.fix().contains("seconds")));
    /// ```
    pub fn lint(&self) -> Vec<Lint> {
        let sources: Vec<Source> = self.inner.sources.lock().families.values().cloned().collect();
        let advice = |source: &Source| {
            let descriptor = source.descriptor();
            let constant = descriptor.constant.iter().map(|(name, _)| name);
            let labels: Vec<&LabelName> = constant.chain(descriptor.labels.iter()).collect();
            let bounds = (descriptor.kind == Kind::Histogram).then_some(&*descriptor.bounds);
            lint::lint(&LintInput {
                name: &descriptor.name,
                help: &descriptor.help,
                labels: &labels,
                bounds,
            })
        };
        sources.iter().flat_map(advice).collect()
    }

    /// What this registry could not keep since it was made, or since the process was forked, by reason.
    pub fn losses(&self) -> Losses {
        self.inner.shared.ledger.read()
    }

    /// Registers a family, or finds the same one.
    pub(crate) fn family(
        &self,
        declaration: Declaration<'_>,
        make: impl FnOnce(Descriptor, Arc<Shared>, Duration) -> Arc<FamilyCore>,
    ) -> Result<Arc<FamilyCore>, RegisterError> {
        let descriptor = self.describe(&declaration)?;
        // The clock may be the application's: it is asked before the lock is taken.
        let now = self.inner.shared.clock.monotonic();
        let mut sources = self.inner.sources.lock();
        match sources.admit(&descriptor, declaration.bounds.is_some())? {
            Some(Source::Family(family)) => Ok(family),
            Some(Source::Observable(_)) => Err(RegisterError::conflict(format!(
                "metric {:?}: is registered as an observable already, which has no handle; choose another name",
                declaration.name
            ))),
            None => {
                let family = make(descriptor, self.inner.shared.clone(), now);
                sources.insert(Source::Family(family.clone()));
                Ok(family)
            }
        }
    }

    /// Registers a closure; it cannot be told from another, so one name takes one.
    pub(crate) fn observable(
        &self,
        declaration: Declaration<'_>,
        make: impl FnOnce(Descriptor) -> Observable,
    ) -> Result<(), RegisterError> {
        let descriptor = self.describe(&declaration)?;
        let mut sources = self.inner.sources.lock();
        if sources.admit(&descriptor, false)?.is_some() {
            return Err(RegisterError::conflict(format!(
                "metric {:?}: is registered already, and one name takes one closure; unregister it first",
                declaration.name
            )));
        }
        sources.insert(Source::Observable(Arc::new(make(descriptor))));
        Ok(())
    }

    /// Whether a family that a collector has just yielded would be confused with a registered one.
    pub(crate) fn is_claimed(&self, name: &MetricName) -> bool {
        let sources = self.inner.sources.lock();
        name.claims().any(|claim| sources.claims.contains_key(&claim))
    }

    pub(crate) fn describe(&self, declaration: &Declaration<'_>) -> Result<Descriptor, RegisterError> {
        let Declaration {
            kind, name, help, unit, ..
        } = *declaration;
        let prefix = self.inner.prefix.as_deref().filter(|_| !declaration.own);
        let name = MetricName::parse(kind.naming(), name, unit, prefix)?;
        name::check_help(help)?;
        let constant = self.inner.constant.iter().map(|(name, _)| name);
        name::check_labels(&constant.chain(&declaration.labels).cloned().collect::<Vec<_>>())?;
        let bounds = match (&declaration.bounds, kind) {
            (Some(bounds), _) => bounds.clone(),
            (None, Kind::Histogram) => builder::default_buckets(&name).shared(),
            (None, _) => Arc::new([]),
        };
        Ok(Descriptor {
            name,
            help: help.into(),
            kind,
            labels: declaration.labels.clone().into(),
            constant: self.inner.constant.clone(),
            bounds,
            samples: declaration
                .samples
                .map(|capacity| Arc::new(SampleLog::new(capacity, &self.inner.shared.samples))),
            registered: self.inner.shared.clock.unix(),
            own: declaration.own,
        })
    }

    /// What the registry says of itself; `show` is run once, when that is first wanted.
    pub(crate) fn own_metrics_or(&self, show: impl FnOnce(&Arc<OwnMetrics>)) -> Arc<OwnMetrics> {
        let mut made = None;
        let own = self.inner.own.get_or_init(|| {
            let own = Arc::new(OwnMetrics::new(self.inner.shared.clone(), self.inner.made));
            made = Some(own.clone());
            own
        });
        if let Some(own) = made {
            show(&own);
        }
        own.clone()
    }

    pub(crate) fn clock(&self) -> &SharedClock {
        &self.inner.shared.clock
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.inner.shared
    }
}

impl Sources {
    /// The family that is registered under this identity already, if it is the same; an error if there is one that this
    /// would be confused with.
    fn admit(&self, new: &Descriptor, bounds_given: bool) -> Result<Option<Source>, RegisterError> {
        let identity = new.name.identity();
        if let Some(source) = self.families.get(&identity) {
            let old = source.descriptor();
            let labels = |descriptor: &Descriptor| -> Vec<String> {
                descriptor
                    .labels
                    .iter()
                    .map(|label| label.prometheus().to_owned())
                    .collect()
            };
            let instrument = |descriptor: &Descriptor| match descriptor.samples {
                Some(_) => "Distribution".to_owned(),
                None => format!("{:?}", descriptor.kind),
            };
            let difference = if old.name.sample() != new.name.sample() {
                Some((
                    "spelling",
                    format!("{:?}", old.name.sample()),
                    format!("{:?}", new.name.sample()),
                ))
            } else if instrument(old) != instrument(new) {
                Some(("kind", instrument(old), instrument(new)))
            } else if !old.name.same_unit(&new.name) {
                let unit = |name: &MetricName| format!("{:?}", name.unit().map_or("none", |unit| unit.given()));
                Some(("unit", unit(&old.name), unit(&new.name)))
            } else if labels(old) != labels(new) {
                Some(("labels", format!("{:?}", labels(old)), format!("{:?}", labels(new))))
            } else if bounds_given && old.bounds != new.bounds {
                Some((
                    "bucket boundaries",
                    format!("{:?}", old.bounds),
                    format!("{:?}", new.bounds),
                ))
            } else {
                None
            };
            return match difference {
                None => Ok(Some(source.clone())),
                Some((what, old_side, new_side)) => Err(RegisterError::conflict(format!(
                    "metric {:?}: is registered as {:?} with {what} {old_side}, and now with {new_side}; \
                     make them the same, or choose another name",
                    new.name.given(),
                    old.name.given(),
                ))),
            };
        }
        if let Some((claim, owner)) = new
            .name
            .claims()
            .find_map(|claim| Some((self.claims.get(&claim)?.clone(), claim)))
        {
            let old = self.families[&claim].descriptor();
            return Err(RegisterError::conflict(format!(
                "metric {:?}: would be written as {owner:?}, which belongs to the {} {:?}; choose another name",
                new.name.given(),
                old.kind.prometheus(),
                old.name.given(),
            )));
        }
        Ok(None)
    }

    fn insert(&mut self, source: Source) {
        let name = &source.descriptor().name;
        let identity = name.identity();
        for claim in name.claims() {
            self.claims.insert(claim, identity.clone());
        }
        self.families.insert(identity, source);
    }
}

impl Default for Registry {
    fn default() -> Self {
        Registry::new()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources = self.inner.sources.lock();
        let families: Vec<&str> = sources
            .families
            .values()
            .map(|source| source.descriptor().name.given())
            .collect();
        formatter
            .debug_struct("Registry")
            .field("prefix", &self.inner.prefix)
            .field("families", &families)
            .field("collectors", &sources.collectors.len())
            .finish()
    }
}

/// Sets a registry up; see [`Registry::builder`].
#[derive(Debug)]
#[must_use = "nothing is made before `build`"]
pub struct RegistryBuilder {
    prefix: Option<String>,
    labels: Vec<(String, String)>,
    series_limit: usize,
    clock: SharedClock,
}

impl RegistryBuilder {
    /// What every name starts with, followed by `_`, or by `.` where the name has dots; by default nothing.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// A label that every series has, but for overflow series; by default there is none. What tells processes apart (`instance`, `job`) belongs to the
    /// server that scrapes them.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((name.into(), value.into()));
        self
    }

    /// The most labelled series that all families may have together, besides one overflow series each; by default there is no
    /// such limit, only each family's own. What the crate says of itself (`tidegauge_*`) has room beyond it.
    pub fn series_limit(mut self, limit: usize) -> Self {
        self.series_limit = limit;
        self
    }

    /// Where time comes from; by default the system's clocks.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = SharedClock::new(clock);
        self
    }

    /// The registry.
    ///
    /// # Errors
    ///
    /// If the prefix or a label's name is not what every format can express, or two labels have one name.
    pub fn build(self) -> Result<Registry, RegisterError> {
        let prefix = self.prefix.filter(|prefix| !prefix.is_empty());
        if let Some(prefix) = &prefix {
            name::check_prefix(prefix)?;
        }
        let label = |(name, value): &(String, String)| Ok((LabelName::parse(name)?, value.as_str().into()));
        let constant: Vec<(LabelName, Box<str>)> = self.labels.iter().map(label).collect::<Result<_, NameError>>()?;
        name::check_labels(&constant.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>())?;
        Ok(Registry::with(
            prefix.map(Into::into),
            constant.into(),
            self.series_limit,
            self.clock,
        ))
    }
}
