//! tidegauge
#![cfg_attr(loom, allow(dead_code, unused_imports))]

mod sync;

mod family;
mod instrument;

#[cfg(not(loom))]
mod clock;
#[cfg(not(loom))]
mod descriptor;
#[cfg(not(loom))]
mod encode;
#[cfg(not(loom))]
mod error;
#[cfg(not(loom))]
mod label;
#[cfg(not(loom))]
mod lazy;
#[cfg(not(loom))]
mod ledger;
#[cfg(not(loom))]
mod name;
#[cfg(not(loom))]
mod observable;
#[cfg(not(loom))]
mod registry;
#[cfg(not(loom))]
mod scrape;
#[cfg(not(loom))]
mod snapshot;
#[cfg(not(loom))]
pub mod testing;

#[cfg(not(loom))]
mod exports {
    pub use crate::clock::{Clock, SystemClock};
    pub use crate::descriptor::Kind;
    pub use crate::encode::{EncodeOptions, Format};
    pub use crate::error::RegisterError;
    pub use crate::family::Family;
    pub use crate::instrument::{
        Borrowed, Hold, Instrument, Kept, Pinned,
        buckets::{Buckets, BucketsError},
        counter::{Counter, FloatCounter},
        gauge::{Gauge, IntGauge},
        histogram::{Distribution, Histogram, Timer},
        in_flight::InFlight,
        up_down_counter::UpDownCounter,
    };
    pub use crate::label::{LabelText, LabelValue, LabelValues};
    pub use crate::lazy::*;
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
    pub use crate::scrape::server::*;
    pub use crate::scrape::{Filter, Reply, ScrapeRequest};
    pub use crate::snapshot::{FamilySnapshot, HistogramValue, SeriesSnapshot, Snapshot, Value};
}
#[cfg(not(loom))]
pub use exports::*;
