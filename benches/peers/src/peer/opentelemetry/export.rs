//! Pushing: what `opentelemetry-otlp` does before it sends, step by step. A reader collects into data that are used again;
//! `opentelemetry-proto` makes a request of them, and `prost` encodes that, here into a buffer that is used again too.
//!
//! All points are in one request, as the library does not split. Its histograms also say their minimum and maximum.

use super::{Instruments, provider};
use crate::data::Labels;
use crate::library::{Export, Fill};
use opentelemetry::metrics::MeterProvider;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{InstrumentKind, ManualReader, Pipeline, SdkMeterProvider, Temporality};
use prost::Message;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Everything as it stands.
pub fn cumulative(series: usize) -> Box<dyn Export> {
    Box::new(Exported::new(series, Temporality::Cumulative))
}

/// What was counted since the last time. The library forgets every series then and looks it up anew when it moves again,
/// so that much of the price is paid by those who record.
pub fn delta(series: usize) -> Box<dyn Export> {
    Box::new(Exported::new(series, Temporality::Delta))
}

struct Exported {
    instruments: Instruments,
    reader: Reader,
    collected: ResourceMetrics,
    encoded: Vec<u8>,
    /// It ends what it has made when it is dropped.
    _provider: SdkMeterProvider,
}

impl Exported {
    fn new(series: usize, temporality: Temporality) -> Self {
        let reader = ManualReader::builder().with_temporality(temporality).build();
        let reader = Reader(Arc::new(reader));
        let provider = provider(reader.clone(), series);
        Self {
            instruments: Instruments::new(&provider.meter("peers")),
            reader,
            collected: ResourceMetrics::default(),
            encoded: Vec::new(),
            _provider: provider,
        }
    }
}

impl Fill for Exported {
    fn count(&self, labels: Labels, amount: u64) {
        self.instruments.count(labels, amount);
    }

    fn observe(&self, labels: Labels, value: f64) {
        self.instruments.observe(labels, value);
    }
}

impl Export for Exported {
    fn export(&mut self) {
        self.reader.collect(&mut self.collected).expect("the provider lives");
        let request = ExportMetricsServiceRequest::from(&self.collected);
        self.encoded.clear();
        request.encode(&mut self.encoded).expect("a vector takes every write");
    }

    fn requests(&mut self) -> Vec<u8> {
        self.export();
        self.encoded.clone()
    }
}

/// A reader that the provider owns, and we too.
#[derive(Clone, Debug)]
struct Reader(Arc<ManualReader>);

impl MetricReader for Reader {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, collected: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(collected)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}
