//! What exporters say about themselves: ordinary metrics of the registry that they export.

use crate::{
    error::RegisterError,
    instrument::{Instrument, counter::Counter, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// One exporter's series.
pub(crate) struct Telemetry {
    pub(crate) points: Outcomes,
    pub(crate) payloads: Outcomes,
    pub(crate) dropped_points: Drops,
    pub(crate) dropped_collections: Drops,
    pub(crate) dead_letters: Counter,
    pub(crate) connections: Counter,
    pub(crate) credential_reloads: Counter,
    pub(crate) last_success: Gauge,
    pub(crate) send_duration: Histogram,
    pub(crate) collection_duration: Histogram,
}

/// Counts by what became of something.
pub(crate) struct Outcomes {
    pub(crate) delivered: Counter,
    pub(crate) retried: Counter,
    pub(crate) rejected: Counter,
    pub(crate) carried_over: Counter,
    pub(crate) possible_duplicate: Counter,
}

/// Counts by why something was dropped.
pub(crate) struct Drops {
    pub(crate) queue_full: Counter,
    pub(crate) queue_bytes: Counter,
    pub(crate) removed_series: Counter,
}

impl Telemetry {
    pub(crate) fn register(registry: &Registry, exporter: &str) -> Result<Self, RegisterError> {
        let outcomes = |name, help| -> Result<Outcomes, RegisterError> {
            let family = registry
                .counter(name, help)
                .own()
                .labels(["exporter", "outcome"])
                .register()?;
            let of = |outcome| family.handle([exporter, outcome]);
            Ok(Outcomes {
                delivered: of("delivered"),
                retried: of("retried"),
                rejected: of("rejected"),
                carried_over: of("carried_over"),
                possible_duplicate: of("possible_duplicate"),
            })
        };
        let drops = |name, help| -> Result<Drops, RegisterError> {
            let family = registry
                .counter(name, help)
                .own()
                .labels(["exporter", "reason"])
                .register()?;
            let of = |reason| family.handle([exporter, reason]);
            Ok(Drops {
                queue_full: of("queue_full"),
                queue_bytes: of("queue_bytes"),
                removed_series: of("removed_series"),
            })
        };
        fn one<I: Instrument>(
            builder: crate::registry::builder::InstrumentBuilder<'_, I>,
            exporter: &str,
        ) -> Result<I, RegisterError> {
            Ok(builder.own().labels(["exporter"]).register()?.handle([exporter]))
        }
        Ok(Telemetry {
            points: outcomes(
                "tidegauge_exporter_points_total",
                "Points that were sent, by what became of them; one may be retried often.",
            )?,
            payloads: outcomes(
                "tidegauge_exporter_payloads_total",
                "Payloads that were sent, by what became of them; one may be retried often.",
            )?,
            dropped_points: drops(
                "tidegauge_exporter_dropped_points_total",
                "Points that were dropped before they were sent, by reason; counts of dropped collections join later ones.",
            )?,
            dropped_collections: drops(
                "tidegauge_exporter_dropped_collections_total",
                "Collections that were dropped before they were sent, by reason; their counts join later ones.",
            )?,
            dead_letters: one(
                registry.counter(
                    "tidegauge_exporter_dead_letters_total",
                    "Rejected payloads that were given to the dead-letter callback.",
                ),
                exporter,
            )?,
            connections: one(
                registry.counter("tidegauge_exporter_connections_total", "Connections that were opened."),
                exporter,
            )?,
            credential_reloads: one(
                registry.counter(
                    "tidegauge_exporter_credential_reloads_total",
                    "Times that credentials were read again and had changed.",
                ),
                exporter,
            )?,
            last_success: one(
                registry.gauge(
                    "tidegauge_exporter_last_success_timestamp_seconds",
                    "When the far end last took something; 0 if it never did.",
                ),
                exporter,
            )?,
            send_duration: one(
                registry.histogram("tidegauge_exporter_send_duration_seconds", "Time that one send took."),
                exporter,
            )?,
            collection_duration: one(
                registry.histogram(
                    "tidegauge_exporter_collection_duration_seconds",
                    "Time that one collection for the exporter took.",
                ),
                exporter,
            )?,
        })
    }
}
