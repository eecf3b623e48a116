//! What exporters say about themselves: ordinary metrics of the registry that they export.
//!
//! What an exporter decides and reports by is counted beside them ([`Tally`]): its series may be the overflow series of a
//! registry that is full, or those of an exporter of the same name that was before it.

use crate::{
    error::RegisterError,
    instrument::{Instrument, counter::Counter, gauge::Gauge, histogram::Histogram},
    registry::Registry,
    sync::{AtomicU64, Ordering},
};

/// One exporter's series.
pub(crate) struct Telemetry {
    pub(crate) points: Outcomes,
    pub(crate) payloads: Outcomes,
    pub(crate) dropped_points: Drops,
    pub(crate) dropped_collections: Drops,
    pub(crate) spooled_points: Spooled,
    pub(crate) spool_set_aside: Tally,
    pub(crate) spool_errors: Tally,
    pub(crate) spool_files: Gauge,
    pub(crate) spool_bytes: Gauge,
    pub(crate) dead_letters: Tally,
    pub(crate) connections: Tally,
    pub(crate) credential_reloads: Tally,
    pub(crate) last_success: Gauge,
    pub(crate) send_duration: Histogram,
    pub(crate) collection_duration: Histogram,
}

/// A count of one exporter since its start, which a series shows.
pub(crate) struct Tally {
    counted: AtomicU64,
    shown: Counter,
}

impl Tally {
    fn new(shown: Counter) -> Self {
        Tally {
            counted: AtomicU64::new(0),
            shown,
        }
    }

    pub(crate) fn add(&self, count: u64) {
        self.counted.fetch_add(count, Ordering::Relaxed);
        self.shown.add(count);
    }

    pub(crate) fn inc(&self) {
        self.add(1);
    }

    pub(crate) fn get(&self) -> u64 {
        self.counted.load(Ordering::Relaxed)
    }
}

/// Counts by what became of something.
pub(crate) struct Outcomes {
    pub(crate) delivered: Tally,
    pub(crate) retried: Tally,
    pub(crate) rejected: Tally,
    pub(crate) carried_over: Tally,
    pub(crate) possible_duplicate: Tally,
}

/// Counts of what went through the spool.
pub(crate) struct Spooled {
    pub(crate) stored: Tally,
    pub(crate) delivered: Tally,
}

/// Counts by why something was dropped.
pub(crate) struct Drops {
    pub(crate) queue_full: Tally,
    pub(crate) queue_bytes: Tally,
    pub(crate) removed_series: Tally,
    pub(crate) superseded: Tally,
    pub(crate) samples: Tally,
    pub(crate) message_queue: Tally,
    pub(crate) spool_full: Tally,
    pub(crate) spool_age: Tally,
}

impl Telemetry {
    pub(crate) fn register(registry: &Registry, exporter: &str) -> Result<Self, RegisterError> {
        let outcomes = |name, help| -> Result<Outcomes, RegisterError> {
            let family = registry
                .counter(name, help)
                .own()
                .labels(["exporter", "outcome"])
                .register()?;
            let of = |outcome| Tally::new(family.handle([exporter, outcome]));
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
            let of = |reason| Tally::new(family.handle([exporter, reason]));
            Ok(Drops {
                queue_full: of("queue_full"),
                queue_bytes: of("queue_bytes"),
                removed_series: of("removed_series"),
                superseded: of("superseded"),
                samples: of("samples"),
                message_queue: of("message_queue"),
                spool_full: of("spool_full"),
                spool_age: of("spool_age"),
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
                "Points that were dropped before they were delivered, by reason; counts of dropped collections join later ones.",
            )?,
            dropped_collections: drops(
                "tidegauge_exporter_dropped_collections_total",
                "Collections that were dropped before they were sent, by reason; their counts join later ones.",
            )?,
            spooled_points: {
                let family = registry
                    .counter(
                        "tidegauge_exporter_spooled_points_total",
                        "Points that were put into the spool, and points from it that were delivered.",
                    )
                    .own()
                    .labels(["exporter", "outcome"])
                    .register()?;
                Spooled {
                    stored: Tally::new(family.handle([exporter, "stored"])),
                    delivered: Tally::new(family.handle([exporter, "delivered"])),
                }
            },
            spool_set_aside: Tally::new(one(
                registry.counter(
                    "tidegauge_exporter_spool_set_aside_files_total",
                    "Files of the spool that were torn or corrupt, and set aside.",
                ),
                exporter,
            )?),
            spool_errors: Tally::new(one(
                registry.counter(
                    "tidegauge_exporter_spool_errors_total",
                    "Times that the spool could not be read or written.",
                ),
                exporter,
            )?),
            spool_files: one(
                registry.gauge(
                    "tidegauge_exporter_spool_files",
                    "Files in the spool's directory, as last seen.",
                ),
                exporter,
            )?,
            spool_bytes: one(
                registry.gauge(
                    "tidegauge_exporter_spool_bytes",
                    "Bytes in the spool's directory, as last seen.",
                ),
                exporter,
            )?,
            dead_letters: Tally::new(one(
                registry.counter(
                    "tidegauge_exporter_dead_letters_total",
                    "Rejected payloads that were given to the dead-letter callback.",
                ),
                exporter,
            )?),
            connections: Tally::new(one(
                registry.counter("tidegauge_exporter_connections_total", "Connections that were opened."),
                exporter,
            )?),
            credential_reloads: Tally::new(one(
                registry.counter(
                    "tidegauge_exporter_credential_reloads_total",
                    "Times that credentials were read again and had changed.",
                ),
                exporter,
            )?),
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
