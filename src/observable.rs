//! Values that closures give at each collection.
//!
//! A closure runs without any lock of the crate held, so it may record, register and take snapshots. One that panics loses
//! its own families for that collection, is counted, and harms nothing else.

use crate::{
    descriptor::{Descriptor, Kind},
    error::RegisterError,
    family::{core::Shared, query},
    ledger::Ledger,
    name::LabelName,
    registry::{Declaration, Registry},
    snapshot::{FamilySnapshot, Rows, Values},
    sync::{AtomicBool, Mutex, Ordering},
};
use std::{
    cell::Cell,
    collections::HashSet,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

/// A number that a closure gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number(Given);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Given {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
}

macro_rules! numbers {
    ($($number:ty => $given:ident),*) => { $(
        impl From<$number> for Number {
            fn from(number: $number) -> Self {
                Number(Given::$given(number.into()))
            }
        }
    )* };
}
numbers!(u8 => Unsigned, u16 => Unsigned, u32 => Unsigned, u64 => Unsigned, i8 => Signed, i16 => Signed, i32 => Signed, i64 => Signed, f32 => Float, f64 => Float);

impl From<usize> for Number {
    fn from(number: usize) -> Self {
        Number(Given::Unsigned(number as u64))
    }
}

impl Number {
    /// The kind of a family, of the given nature, that holds this number.
    fn kind(self, nature: Kind) -> Kind {
        match (nature, self.0) {
            (Kind::Counter, Given::Float(_)) => Kind::FloatCounter,
            (Kind::Counter, _) => Kind::Counter,
            (_, Given::Float(_) | Given::Unsigned(_)) => Kind::Gauge,
            (_, Given::Signed(_)) => Kind::IntGauge,
        }
    }

    fn as_float(self) -> f64 {
        match self.0 {
            Given::Unsigned(number) => number as f64,
            Given::Signed(number) => number as f64,
            Given::Float(number) => number,
        }
    }

    /// Whether a counter can have it.
    fn counts(self) -> bool {
        match self.0 {
            Given::Unsigned(_) => true,
            Given::Signed(number) => number >= 0,
            Given::Float(number) => number >= 0.0,
        }
    }
}

/// All of one kind if they can be: integers as such, else floats.
fn column(kind: Kind, numbers: &[Number]) -> (Kind, Values) {
    let unsigned = |number: &Number| match number.0 {
        Given::Unsigned(number) => Some(number),
        Given::Signed(number) => u64::try_from(number).ok(),
        Given::Float(_) => None,
    };
    let signed = |number: &Number| match number.0 {
        Given::Unsigned(number) => i64::try_from(number).ok(),
        Given::Signed(number) => Some(number),
        Given::Float(_) => None,
    };
    let floats = || Values::Floats(numbers.iter().map(|number| number.as_float()).collect());
    if kind == Kind::Counter {
        match numbers.iter().map(unsigned).collect() {
            Some(counts) => (Kind::Counter, Values::Counts(counts)),
            None => (Kind::FloatCounter, floats()),
        }
    } else {
        match numbers.iter().map(signed).collect() {
            Some(integers) => (Kind::IntGauge, Values::Integers(integers)),
            None => (Kind::Gauge, floats()),
        }
    }
}

thread_local! {
    /// Whether this thread is running a closure for a collection; one within it does not run closures again, for ever.
    static COLLECTING: Cell<bool> = const { Cell::new(false) };
}

/// Runs a closure for a collection: `None` if it panicked, which is counted, and reported when it is news, or if this is a
/// collection within a closure.
fn run<R>(ledger: &Ledger, panicking: &AtomicBool, what: &str, closure: impl FnOnce() -> R) -> Option<R> {
    if COLLECTING.replace(true) {
        return None;
    }
    // What a closure that panicked leaves behind is its own; nothing of the crate's is in its hands.
    let result = catch_unwind(AssertUnwindSafe(closure));
    COLLECTING.set(false);
    if result.is_err() {
        ledger.panic();
    }
    if panicking.swap(result.is_err(), Ordering::Relaxed) != result.is_err() {
        match &result {
            Ok(_) => log::info!("the closure of {what} no longer panics"),
            Err(_) => log::error!("the closure of {what} panicked, and its values are missing from the collection"),
        }
    }
    match result {
        Ok(result) => Some(result),
        Err(carried) => {
            // What a panic carries may panic in turn when it is dropped; what that carries is not given another chance.
            if let Err(carried) = catch_unwind(AssertUnwindSafe(|| drop(carried))) {
                std::mem::forget(carried);
            }
            None
        }
    }
}

/// Declares an observable instrument; made by [`Registry::observable_counter`] and [`Registry::observable_gauge`].
#[must_use = "nothing is registered before `register`"]
#[derive(Debug)]
pub struct ObservableBuilder<'a> {
    registry: &'a Registry,
    kind: Kind,
    name: &'a str,
    help: &'a str,
    unit: Option<&'a str>,
}

impl<'a> ObservableBuilder<'a> {
    pub(crate) fn new(registry: &'a Registry, kind: Kind, name: &'a str, help: &'a str) -> Self {
        ObservableBuilder {
            registry,
            kind,
            name,
            help,
            unit: None,
        }
    }

    /// The unit, as a UCUM code (<https://ucum.org/ucum>); by default the word that the name ends in, if that is a unit.
    pub fn unit(mut self, unit: &'a str) -> Self {
        self.unit = Some(unit);
        self
    }

    /// Registers the closure, which is run at each collection, on the collecting thread, and by several at once if there are
    /// several. It should be quick: a scrape waits for it.
    ///
    /// A counter's value that is negative or NaN is left out of that collection and counted in
    /// [`Losses::invalid_values`](crate::Losses::invalid_values).
    ///
    /// ```
    /// # fn main() -> Result<(), tidegauge::RegisterError> {
    /// let registry = tidegauge::Registry::new();
    /// registry.observable_gauge("load_average", "Load of the last minute.").register(|| 0.5)?;
    /// registry.observable_counter("page_faults_total", "Page faults of the process.").register(|| 7_u64)?;
    /// assert_eq!(registry.snapshot().families().count(), 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the name, the unit or the help is not what every format can express, or if the name is taken.
    pub fn register<V: Into<Number>>(self, read: impl Fn() -> V + Send + Sync + 'static) -> Result<(), RegisterError> {
        let declaration = Declaration {
            kind: self.kind,
            name: self.name,
            help: self.help,
            unit: self.unit,
            labels: Vec::new(),
            bounds: None,
            samples: None,
            own: false,
        };
        let read = Box::new(move || read().into());
        self.registry.observable(declaration, |descriptor| Observable {
            descriptor,
            read,
            panicking: AtomicBool::new(false),
        })
    }
}

/// A family of one series whose value a closure gives.
pub(crate) struct Observable {
    /// Of the nature that was declared: a counter or a gauge.
    descriptor: Descriptor,
    read: Box<dyn Fn() -> Number + Send + Sync>,
    panicking: AtomicBool,
}

impl Observable {
    pub(crate) fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    pub(crate) fn collect(&self, shared: &Shared) -> Option<FamilySnapshot> {
        let ledger = &shared.ledger;
        let number = run(ledger, &self.panicking, self.descriptor.name.given(), &self.read)?;
        if self.descriptor.kind == Kind::Counter && !number.counts() {
            ledger.invalid_value();
            return None;
        }
        let (_, values) = column(self.descriptor.kind, &[number]);
        let mut descriptor = self.descriptor.clone();
        descriptor.kind = number.kind(self.descriptor.kind);
        let values = match (descriptor.kind, values) {
            // Every reading of one closure is of one type, so the family keeps its kind however the number falls out.
            (Kind::Gauge, _) => Values::Floats(vec![number.as_float()]),
            (_, values) => values,
        };
        Some(FamilySnapshot {
            descriptor: Arc::new(descriptor),
            forked: shared.forked(),
            rows: no_labels(),
            values,
            lives: Vec::new(),
        })
    }
}

fn no_labels() -> Rows {
    Rows::Given {
        words: Arc::new([]),
        ends: Arc::new([0]),
    }
}

/// A closure that yields families.
pub(crate) struct Collector {
    collect: Box<dyn Fn(&mut Families) + Send + Sync>,
    /// Since the Unix epoch: its counters count since then.
    registered: Duration,
    /// Names of families that were refused, each reported once.
    reported: Mutex<HashSet<String>>,
    panicking: AtomicBool,
}

impl Collector {
    pub(crate) fn new(collect: impl Fn(&mut Families) + Send + Sync + 'static, registered: Duration) -> Self {
        Collector {
            collect: Box::new(collect),
            registered,
            reported: Mutex::default(),
            panicking: AtomicBool::new(false),
        }
    }

    /// The families it yields, of which none may claim a name in `claims`.
    pub(crate) fn collect(&self, registry: &Registry, claims: &mut HashSet<String>) -> Vec<FamilySnapshot> {
        let mut families = Families { families: Vec::new() };
        if run(&registry.shared().ledger, &self.panicking, "a collector", || {
            (self.collect)(&mut families)
        })
        .is_none()
        {
            return Vec::new();
        }
        let mut given = Vec::new();
        for family in families.families {
            match family.finish(registry, self.registered, claims) {
                Ok(family) => given.push(family),
                Err(reason) => self.refuse(registry, reason),
            }
        }
        given
    }

    fn refuse(&self, registry: &Registry, reason: String) {
        registry.shared().ledger.refused_family();
        let is_new = {
            let mut reported = self.reported.lock();
            // Reasons hold label values, of which there may be any number.
            reported.len() < 100 && reported.insert(reason.clone())
        };
        // Not under the lock: the application's logger may collect.
        if is_new {
            log::warn!("a family of a collector is left out: {reason}");
        }
    }
}

/// What a collector puts its families into; see [`Registry::collector`].
#[derive(Debug)]
pub struct Families {
    families: Vec<GivenFamily>,
}

impl Families {
    /// A count that only grows.
    pub fn counter(&mut self, name: &str, help: &str) -> &mut GivenFamily {
        self.family(Kind::Counter, name, help)
    }

    /// A value that moves both ways.
    pub fn gauge(&mut self, name: &str, help: &str) -> &mut GivenFamily {
        self.family(Kind::Gauge, name, help)
    }

    /// A count of the crate's own, without the registry's prefix.
    pub(crate) fn own_counter(&mut self, name: &str, help: &str) -> &mut GivenFamily {
        let family = self.family(Kind::Counter, name, help);
        family.own = true;
        family
    }

    /// A value of the crate's own, without the registry's prefix.
    pub(crate) fn own_gauge(&mut self, name: &str, help: &str) -> &mut GivenFamily {
        let family = self.family(Kind::Gauge, name, help);
        family.own = true;
        family
    }

    fn family(&mut self, kind: Kind, name: &str, help: &str) -> &mut GivenFamily {
        self.families.push(GivenFamily {
            kind,
            name: name.to_owned(),
            help: help.to_owned(),
            unit: None,
            labels: Vec::new(),
            samples: Vec::new(),
            own: false,
        });
        self.families.last_mut().expect("just pushed")
    }
}

/// One family of a collector, with the values of its series.
#[derive(Debug)]
pub struct GivenFamily {
    kind: Kind,
    name: String,
    help: String,
    unit: Option<String>,
    labels: Vec<String>,
    samples: Vec<(Vec<String>, Number)>,
    own: bool,
}

impl GivenFamily {
    /// The unit, as a UCUM code; by default the word that the name ends in, if that is a unit.
    pub fn unit(&mut self, unit: &str) -> &mut Self {
        self.unit = Some(unit.to_owned());
        self
    }

    /// The labels that its series differ in.
    pub fn labels<S: AsRef<str>>(&mut self, labels: impl IntoIterator<Item = S>) -> &mut Self {
        self.labels = labels.into_iter().map(|label| label.as_ref().to_owned()).collect();
        self
    }

    /// The value of the series of these label values, one for each label.
    pub fn sample<S: AsRef<str>>(
        &mut self,
        labels: impl IntoIterator<Item = S>,
        value: impl Into<Number>,
    ) -> &mut Self {
        self.samples.push((
            labels.into_iter().map(|label| label.as_ref().to_owned()).collect(),
            value.into(),
        ));
        self
    }

    /// The value of a family without labels.
    pub fn value(&mut self, value: impl Into<Number>) -> &mut Self {
        self.samples.push((Vec::new(), value.into()));
        self
    }

    /// The family as a snapshot has it, or why it cannot be.
    fn finish(
        self,
        registry: &Registry,
        registered: Duration,
        claims: &mut HashSet<String>,
    ) -> Result<FamilySnapshot, String> {
        let labels = self
            .labels
            .iter()
            .map(|label| LabelName::parse(label))
            .collect::<Result<Vec<_>, _>>();
        let declaration = Declaration {
            kind: self.kind,
            name: &self.name,
            help: &self.help,
            unit: self.unit.as_deref(),
            labels: labels.map_err(|error| error.to_string())?,
            bounds: None,
            samples: None,
            own: self.own,
        };
        let mut descriptor = registry.describe(&declaration).map_err(|error| error.to_string())?;
        let refuse = |rule: &str| Err(format!("metric {:?}: {rule}", self.name));
        if registry.is_claimed(&descriptor.name) || descriptor.name.claims().any(|claim| claims.contains(&claim)) {
            return refuse("has a name that belongs to another metric; choose another");
        }
        let mut label_sets = HashSet::new();
        if self.samples.iter().any(|(values, _)| values.len() != self.labels.len()) {
            return refuse("has a sample with more or fewer label values than labels; give one for each");
        }
        if !self.samples.iter().all(|(values, _)| label_sets.insert(values)) {
            return refuse("has two samples with the same label values; add them up, or tell them apart by a label");
        }
        if self.kind == Kind::Counter && self.samples.iter().any(|(_, number)| !number.counts()) {
            return refuse("is a counter with a value that is negative or not a number; make it a gauge");
        }
        let (mut words, mut ends) = (Vec::new(), Vec::new());
        for (values, _) in &self.samples {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            let Some(of_sample) = query::words(&values) else {
                return refuse("has a label value of more than 65,535 bytes; shorten it");
            };
            words.extend(of_sample);
            ends.push(words.len() as u32);
        }
        claims.extend(descriptor.name.claims());
        let numbers: Vec<Number> = self.samples.iter().map(|(_, number)| *number).collect();
        let (kind, values) = column(self.kind, &numbers);
        descriptor.kind = kind;
        descriptor.registered = registered;
        Ok(FamilySnapshot {
            descriptor: Arc::new(descriptor),
            forked: registry.shared().forked(),
            rows: Rows::Given {
                words: words.into(),
                ends: ends.into(),
            },
            values,
            lives: Vec::new(),
        })
    }
}

impl fmt::Debug for Observable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Observable")
            .field("name", &self.descriptor.name.given())
            .finish_non_exhaustive()
    }
}
