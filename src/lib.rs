// Its examples serve and push.
#![cfg_attr(
    all(feature = "serve", feature = "otlp", feature = "statsd"),
    doc = include_str!("../README.md")
)]
#![cfg_attr(
    not(all(feature = "serve", feature = "otlp", feature = "statsd")),
    doc = "Metrics that go out both ways."
)]
//!
//! # The map
//!
//! Where a number goes, in the order in which the files read best. Data flows down this list; a stage imports only what
//! feeds it.
//!
//! | file | what it is |
//! |---|---|
//! | `instrument.rs` and its folder | the handles: counters, gauges, histograms, distributions; what they promise |
//! | `instrument/bank.rs` | **unsafe.** Cells that one thread writes and any reads; the hot path |
//! | `instrument/space.rs` | who has which cells; sums; threads that end, series that go |
//! | `label.rs` | label values as the caller has them |
//! | `family.rs`, `family/core.rs` | one instrument, many label sets: look-up, limits, removal, expiry, collection |
//! | `family/query.rs`, `segment.rs` | a label set as words and their hash; a piece of the index |
//! | `family/table.rs` | **unsafe.** From label values to a series, without a lock |
//! | `registry.rs` and its folder | names to families; builders; the global registry; lint |
//! | `lazy.rs`, `observable.rs` | instruments as statics; values that closures give at collection |
//! | `name.rs`, `descriptor.rs` | names in every spelling; what a family is |
//! | `snapshot.rs` | the values of one moment, as plain columns |
//! | `departure.rs` | what is left of removed series, until every exporter has it |
//! | `samples.rs`, `samples/ring.rs` | what distributions were given, each value by itself, until exporters take it |
//! | `encode.rs` and its folder | from a snapshot to bytes, one file a format |
//! | `scrape.rs` and its folder | negotiation, filters, replies; the endpoint of its own |
//! | `exporter.rs` and its folder | collections in a bounded queue, marks of what has arrived, waits and repetitions |
//! | `destination.rs` | what a protocol says for itself; the trait for those of users' own |
//! | `destination/otlp.rs` and its folder | settings, environment and answers of OTLP; its bytes are in `encode/otlp.rs` |
//! | `destination/pushgateway.rs` and its folder | settings and answers of a Pushgateway, the paths of its groups, and pushes without an exporter |
//! | `destination/statsd.rs` and its folder | settings, environment, origin and messages of StatsD, and counts of its client; its lines are in `encode/statsd.rs` |
//! | `destination/emf.rs` and its folder | settings and environment of CloudWatch's embedded metric format; its lines are in `encode/emf.rs` |
//! | `job.rs` and its folder | a run of a batch job: its metrics, and who ends it, a word, a signal or an exit |
//! | `ending.rs` | what delivers when the process ends and nobody has dropped it |
//! | `lambda.rs` | when a function that is frozen between its invocations delivers |
//! | `spool.rs` and its folder | a directory that keeps what could not be delivered, for many processes at once |
//! | `transport.rs` and its folder | bytes out before a deadline |
//! | `secret.rs`, `redact.rs`, `percent.rs` | credentials that rotate; text that may be shown; escapes of URLs and variables |
//! | `own_metrics.rs` | what the crate says of itself, as metrics of the registry |
//! | `platform.rs` | **unsafe.** The process forks, exits, gets signals |
//! | `sync.rs`, `sync/gate.rs` | atomics and locks; why no fork finds one of these held |
//! | `ledger.rs`, `error.rs`, `clock.rs`, `testing.rs` | what was lost, what was refused, time, and users' tests |
//!
//! What does not happen: instruments know nothing of encoders; a snapshot holds no handle and no lock; encoders touch no
//! socket; a destination never waits or repeats, and only the exporter's two threads do; no closure of the application runs while
//! a lock of the crate is held; nothing but the three files named unsafe
//! has unsafe code, and nothing but `sync.rs` names atomics.
#![cfg_attr(loom, allow(dead_code, unused_imports))]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(loom))]
#[allow(unsafe_code)] // the third of the unsafe files; the argument is written there
mod platform;
mod sync;

#[cfg(not(loom))]
mod family;
#[cfg(not(loom))]
mod instrument;

// Under loom, only what has models is compiled: its atomics and locks cannot be made in a constant.
#[cfg(loom)]
mod instrument {
    #[allow(unsafe_code)]
    pub(crate) mod bank;
    pub(crate) mod space;
}
#[cfg(loom)]
mod platform {
    /// Models do not fork.
    pub(crate) fn generation() -> u64 {
        0
    }
}
#[cfg(loom)]
mod family {
    pub(crate) mod query;
    pub(crate) mod segment;
    #[allow(unsafe_code)]
    pub(crate) mod table;
}
#[cfg(loom)]
mod samples {
    pub(crate) mod ring;
}

#[cfg(not(loom))]
mod clock;
#[cfg(not(loom))]
mod departure;
#[cfg(not(loom))]
mod descriptor;
#[cfg(not(loom))]
mod destination;
#[cfg(not(loom))]
mod encode;
#[cfg(not(loom))]
mod ending;
#[cfg(not(loom))]
mod error;
#[cfg(not(loom))]
mod exporter;
#[cfg(not(loom))]
mod job;
#[cfg(not(loom))]
mod label;
#[cfg(not(loom))]
mod lambda;
#[cfg(not(loom))]
mod lazy;
#[cfg(not(loom))]
mod ledger;
#[cfg(not(loom))]
mod name;
#[cfg(not(loom))]
mod observable;
#[cfg(not(loom))]
mod own_metrics;
#[cfg(not(loom))]
#[cfg_attr(
    not(any(feature = "emf", feature = "otlp", feature = "pushgateway", feature = "statsd")),
    allow(dead_code) // URLs are there with a transport
)]
mod redact;
#[cfg(not(loom))]
mod registry;
#[cfg(not(loom))]
mod samples;
#[cfg(not(loom))]
mod scrape;
#[cfg(all(not(loom), any(feature = "otlp", feature = "pushgateway")))]
mod secret;
#[cfg(not(loom))]
mod snapshot;
#[cfg(not(loom))]
mod spool;
#[cfg(not(loom))]
pub mod testing;

#[cfg(all(
    not(loom),
    any(feature = "emf", feature = "otlp", feature = "pushgateway", feature = "statsd")
))]
mod percent;
#[cfg(all(
    not(loom),
    any(feature = "emf", feature = "otlp", feature = "pushgateway", feature = "statsd")
))]
mod transport;

#[cfg(not(loom))]
mod exports {
    pub use crate::clock::{Clock, SystemClock};
    pub use crate::descriptor::Kind;
    #[cfg(any(feature = "otlp", feature = "pushgateway"))]
    pub use crate::destination::compression::Compression;
    #[cfg(feature = "emf")]
    pub use crate::destination::emf::{Emf, EmfBuilder, EmfError};
    #[cfg(feature = "otlp")]
    pub use crate::destination::otlp::{Otlp, OtlpBuilder, OtlpError, Protocol, TemporalityPreference};
    #[cfg(feature = "pushgateway")]
    pub use crate::destination::pushgateway::{PushFormat, Pushgateway, PushgatewayBuilder, PushgatewayError};
    #[cfg(feature = "statsd")]
    pub use crate::destination::statsd::{
        AlertType, Cardinality, Dialect, Event, EventPriority, HistogramLines, Messages, ServiceCheck, ServiceStatus,
        StatsD, StatsDBuilder, StatsDError,
    };
    pub use crate::destination::{Activity, Answer, BatchId, Destination, Payload, Preferences, Temporality};
    pub use crate::encode::{EncodeOptions, Format};
    pub use crate::error::RegisterError;
    pub use crate::exporter::{
        Exporter, StartError,
        dead_letter::DeadLetter,
        handle::{ExporterHandle, Flush},
        points::{Point, Points, SeriesKey},
        queue::DropPolicy,
        report::{ExporterStatistics, FlushError, FlushReport},
        retry::RetryPolicy,
    };
    pub use crate::family::Family;
    pub use crate::instrument::{
        Borrowed, Hold, Instrument, Kept, Pinned,
        buckets::{Buckets, BucketsError},
        counter::{Counter, FloatCounter},
        distribution::Distribution,
        gauge::{Gauge, IntGauge},
        histogram::{Histogram, Observations, Timer},
        in_flight::InFlight,
        up_down_counter::UpDownCounter,
    };
    pub use crate::job::{
        Job, JobError, JobRun,
        report::{JobOutcome, JobReport},
    };
    pub use crate::label::{LabelText, LabelValue, LabelValues};
    pub use crate::lambda::{InvocationEnd, Lambda, LambdaFlush};
    pub use crate::lazy::{
        Lazy, LazyCounter, LazyCounterFamily, LazyDistribution, LazyDistributionFamily, LazyFloatCounter,
        LazyFloatCounterFamily, LazyGauge, LazyGaugeFamily, LazyHistogram, LazyHistogramFamily, LazyIntGauge,
        LazyIntGaugeFamily, LazyUpDownCounter, LazyUpDownCounterFamily,
    };
    pub use crate::ledger::Losses;
    pub use crate::name::NameError;
    pub use crate::observable::{Families, GivenFamily, Number, ObservableBuilder};
    pub use crate::registry::{
        Registry, RegistryBuilder,
        builder::{DEFAULT_SERIES_LIMIT, InstrumentBuilder, Labelled, Unlabelled},
        global::{SetGlobalError, global, set_global},
        lint::Lint,
    };
    #[cfg(feature = "serve")]
    pub use crate::scrape::server::{ServeError, Server, ServerBuilder, ServerStatistics, Stopped, serve};
    pub use crate::scrape::{Filter, Reply, ScrapeRequest};
    #[cfg(any(feature = "otlp", feature = "pushgateway"))]
    pub use crate::secret::{Secret, SecretError};
    pub use crate::snapshot::{FamilySnapshot, HistogramValue, SeriesSnapshot, Snapshot, Value};
    pub use crate::spool::Spool;
}
#[cfg(not(loom))]
pub use exports::*;
