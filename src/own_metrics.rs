//! What the crate says of itself: ordinary metrics of the registry that it is about, so that every way out shows them.
//!
//! What is counted as it happens belongs to the exporters (`exporter/telemetry.rs`). Here is what is read when somebody
//! collects: it is right even while an exporter hangs.

use crate::{
    clock::SharedClock, exporter::state::Shared as Exporting, family::core::Shared, observable::Families,
    registry::Registry, sync::Mutex,
};
use std::{
    sync::{Arc, Weak},
    time::Duration,
};

/// The exporters of a registry, and when it was made.
pub(crate) struct OwnMetrics {
    shared: Arc<Shared>,
    /// By name; none for one that is being started.
    exporters: Mutex<Vec<(String, Option<Weak<Exporting>>)>>,
    /// Monotonic, and since the Unix epoch.
    made: (Duration, Duration),
}

impl OwnMetrics {
    pub(crate) fn new(shared: Arc<Shared>, made: (Duration, Duration)) -> Self {
        OwnMetrics {
            shared,
            exporters: Mutex::default(),
            made,
        }
    }

    /// Keeps a name for an exporter that no running one has, until it is [added](Self::add) or [given up](Self::give_up); none
    /// if it is to have this very name, and cannot.
    pub(crate) fn claim_name(&self, name: &str, exactly: bool) -> Option<String> {
        let mut exporters = self.exporters.lock();
        exporters.retain(|(_, exporter)| match exporter {
            Some(exporter) => exporter
                .upgrade()
                .is_some_and(|exporter| exporter.is_of_this_process() && !exporter.has_ended()),
            None => true,
        });
        let is_free = |name: &str| !exporters.iter().any(|(taken, _)| taken == name);
        let name = match is_free(name) {
            true => name.to_owned(),
            false if exactly => return None,
            false => {
                let mut numbered = (2..).map(|number| format!("{name}-{number}"));
                numbered.find(|name| is_free(name)).expect("numbers do not end")
            }
        };
        exporters.push((name.clone(), None));
        Some(name)
    }

    pub(crate) fn add(&self, exporter: &Arc<Exporting>) {
        let mut exporters = self.exporters.lock();
        exporters.retain(|(name, _)| *name != exporter.name);
        exporters.push((exporter.name.clone(), Some(Arc::downgrade(exporter))));
    }

    pub(crate) fn give_up(&self, name: &str) {
        self.exporters.lock().retain(|(known, _)| known != name);
    }

    fn collect(&self, families: &mut Families) {
        let clock: &SharedClock = &self.shared.clock;
        let now = clock.monotonic();
        let forked = self.shared.forked();
        let up = match forked {
            Duration::ZERO => now.saturating_sub(self.made.0),
            forked => clock.unix().saturating_sub(forked),
        };
        families
            .own_gauge(
                "tidegauge_uptime_seconds",
                "Time since the registry was made; it stands still when its process does.",
            )
            .value(up.as_secs_f64());
        families
            .own_gauge(
                "tidegauge_start_time_seconds",
                "When the registry was made, or the process forked since.",
            )
            .value(self.made.1.max(forked).as_secs_f64());
        let losses = self.shared.ledger.read();
        let lost = families
            .own_counter(
                "tidegauge_losses_total",
                "What the registry could not keep, or not where it belongs, by reason.",
            )
            .labels(["reason"]);
        for (reason, count) in [
            ("late_write", losses.late_writes),
            ("invalid_value", losses.invalid_values),
            ("past_limit", losses.past_limit),
            ("panic", losses.panics),
            ("refused_family", losses.refused_families),
        ] {
            lost.sample([reason], count);
        }
        let known: Vec<Arc<Exporting>> = {
            let exporters = self.exporters.lock();
            exporters
                .iter()
                .filter_map(|(_, exporter)| exporter.as_ref()?.upgrade())
                .filter(|exporter| exporter.is_of_this_process())
                .collect()
        };
        let exporters: Vec<_> = known.into_iter().filter(|exporter| !exporter.has_ended()).collect();
        if exporters.is_empty() {
            return;
        }
        for (name, help, read) in STANDINGS {
            let family = families.own_gauge(name, help).labels(["exporter"]);
            for exporter in &exporters {
                family.sample([exporter.name.as_str()], read(&Standing::of(exporter, now)));
            }
        }
    }
}

/// How an exporter stands at one moment.
struct Standing {
    collections: usize,
    bytes: usize,
    most_collections: usize,
    most_bytes: usize,
    waited: Duration,
}

impl Standing {
    fn of(exporter: &Exporting, now: Duration) -> Self {
        let (most_collections, most_bytes) = exporter.queue_limits;
        exporter.with(|state| Standing {
            collections: state.queue.len(),
            bytes: state.queue.bytes(),
            most_collections,
            most_bytes,
            waited: state
                .progress
                .undelivered_since
                .map_or(Duration::ZERO, |since| now.saturating_sub(since)),
        })
    }
}

/// A metric's name and help, and its value.
type StandingMetric = (&'static str, &'static str, fn(&Standing) -> f64);

const STANDINGS: [StandingMetric; 5] = [
    (
        "tidegauge_exporter_queue_collections",
        "Collections that wait to be sent.",
        |standing| standing.collections as f64,
    ),
    (
        "tidegauge_exporter_queue_capacity_collections",
        "Collections that may wait.",
        |standing| standing.most_collections as f64,
    ),
    (
        "tidegauge_exporter_queue_bytes",
        "Memory that collections take which wait to be sent.",
        |standing| standing.bytes as f64,
    ),
    (
        "tidegauge_exporter_queue_capacity_bytes",
        "Memory that collections may take which wait to be sent.",
        |standing| standing.most_bytes as f64,
    ),
    (
        "tidegauge_exporter_oldest_undelivered_age_seconds",
        "How long the oldest point has waited that is not delivered; 0 if all are.",
        |standing| standing.waited.as_secs_f64(),
    ),
];

impl Registry {
    /// Shows what the crate says of itself among this registry's metrics: `tidegauge_losses_total` (see
    /// [`losses`](Registry::losses)), `tidegauge_uptime_seconds` and `tidegauge_start_time_seconds`, and for each exporter its queue and its
    /// delay. Starting an exporter does it too; doing it again changes nothing. None of these names gets the registry's prefix.
    ///
    /// ```
    /// let registry = tidegauge::Registry::new();
    /// registry.register_own_metrics();
    /// tidegauge::testing::assert_value(&registry, "tidegauge_losses_total", [("reason", "panic")], 0.0);
    /// ```
    pub fn register_own_metrics(&self) {
        self.own_metrics();
    }

    pub(crate) fn own_metrics(&self) -> Arc<OwnMetrics> {
        self.own_metrics_or(|own| {
            let own = own.clone();
            self.collector(move |families| own.collect(families));
        })
    }
}
