//! OTLP over HTTP: the requests that `encode/otlp.rs` writes, posted to a collector or to whatever else takes them, and
//! what its answers mean (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>).
//!
//! It repeats nothing and keeps nothing of what it sent; that is the exporter's.

mod answers;
mod builder;
mod environment;
mod protobuf;
mod resource;
#[cfg(test)]
mod tests;

pub use crate::encode::otlp::Protocol;
pub use builder::OtlpBuilder;

use super::{
    Activity, Answer, Destination, Payload, Preferences, Temporality,
    compression::{Compression, gzip},
    http::failed,
};
use crate::{
    clock::{Clock, SystemClock},
    descriptor::Kind,
    encode::otlp::{Encoder, Origin},
    exporter::points::Points,
    snapshot::FamilySnapshot,
    transport::http::{HttpClient, HttpUrl, Method, Request, SettingsError, retry_after},
};
use answers::Reply;
use resource::Resource;
use std::{fmt, time::Duration};

/// Sends to an OpenTelemetry Collector, or anything else that receives OTLP over HTTP
/// (<https://opentelemetry.io/docs/specs/otlp/>), as Prometheus 3 does.
///
/// | | |
/// |---|---|
/// | what is sent | counters and up-down counters as sums, gauges, histograms with their explicit buckets |
/// | names | as they were registered, with the unit beside them; Prometheus makes of them the names that it scrapes |
/// | who sends | `service.name`, a `service.instance.id` that is random in each process, forked ones too, and what is added |
/// | how often | the [`Exporter`](crate::Exporter) says; what is not acknowledged it sends again |
///
/// A counter past 2⁶³ - 1 is sent as a double, as OTLP has no larger integer. A histogram's sum is left out where its
/// lowest bound or the sum itself is negative, as OTLP wants it.
///
/// Anything that is not an answer of the protocol, such as a proxy's login page with status 200, leaves it open whether
/// the points arrived: they are sent again, and counted as possible duplicates.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tidegauge::{Compression, Destination, Otlp};
///
/// let simple = Otlp::new("http://localhost:4318")?;
/// assert_eq!(simple.address(), "http://localhost:4318/v1/metrics");
///
/// let with_settings = Otlp::builder()
///     .endpoint("http://collector:4318")
///     .bearer_token("from-a-vault")
///     .compression(Compression::Gzip)
///     .service_name("shop")
///     .resource_attribute("deployment.environment.name", "production")
///     .build()?;
/// assert!(!format!("{with_settings:?}").contains("vault"));
/// # Ok(())
/// # }
/// ```
pub struct Otlp {
    url: HttpUrl,
    client: HttpClient,
    protocol: Protocol,
    compression: Compression,
    temporality: TemporalityPreference,
    preferences: Preferences,
    resource: Resource,
    scope: (String, String),
    encoder: Encoder,
    /// A request before it is compressed.
    plain: Vec<u8>,
}

/// Which values are sent as they stand, and which as what was added since the last delivery
/// (<https://opentelemetry.io/docs/specs/otel/metrics/sdk_exporters/otlp/#additional-environment-variable-configuration>).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TemporalityPreference {
    /// All as they stand. The default, and what Prometheus wants. A request that is lost or comes twice does no harm.
    #[default]
    Cumulative,
    /// Counters and histograms as increments; up-down counters and gauges as they stand.
    Delta,
    /// As [`Delta`](TemporalityPreference::Delta), but counters that closures give as they stand: so nothing has to be
    /// remembered that the registry does not keep anyway.
    LowMemory,
}

/// Why a destination cannot be made: the message names the setting, the rule and the fix, and nothing that is secret.
///
/// ```
/// let error = tidegauge::Otlp::new("collector:4318").unwrap_err();
/// assert!(error.to_string().contains("http://"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpError {
    message: Box<str>,
}

impl OtlpError {
    #[cold]
    fn new(message: impl Into<Box<str>>) -> Self {
        OtlpError {
            message: message.into(),
        }
    }
}

impl fmt::Display for OtlpError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for OtlpError {}

impl From<SettingsError> for OtlpError {
    fn from(error: SettingsError) -> Self {
        OtlpError::new(error.to_string())
    }
}

impl Otlp {
    /// Sends to a receiver's base URL, below which its path `v1/metrics` is, with every setting at its default. The
    /// environment is not asked.
    ///
    /// # Errors
    ///
    /// If that is not a URL of `http` or `https`, or if it needs TLS and the feature `tls` is off.
    pub fn new(endpoint: impl Into<String>) -> Result<Self, OtlpError> {
        Otlp::builder().endpoint(endpoint).build()
    }

    /// Does what the `OTEL_*` variables of the process say, and without any sends to
    /// `http://localhost:4318/v1/metrics`.
    ///
    /// The grammar is the specification's
    /// (<https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>,
    /// <https://opentelemetry.io/docs/specs/otel/protocol/exporter/>): an empty variable is none; a boolean is true if
    /// it is `true`, and words may be in any case; times are in milliseconds, and a timeout of 0 is none. What cannot
    /// be read is ignored, with one warning in the log. M says that there is also a variable with `OTLP_METRICS_` for
    /// `OTLP_`, which wins.
    ///
    /// | variable | default | |
    /// |---|---|---|
    /// | `OTEL_EXPORTER_OTLP_ENDPOINT` | `http://localhost:4318` | base URL, to which `v1/metrics` is added |
    /// | `OTEL_EXPORTER_OTLP_METRICS_ENDPOINT` | | URL that is used as it is, and wins |
    /// | `OTEL_EXPORTER_OTLP_HEADERS` M | | `name=value,name2=value2`, values percent-encoded |
    /// | `OTEL_EXPORTER_OTLP_TIMEOUT` M | 10000 | how long one send may take |
    /// | `OTEL_EXPORTER_OTLP_COMPRESSION` M | `none` | `gzip` or `none` |
    /// | `OTEL_EXPORTER_OTLP_PROTOCOL` M | `http/protobuf` | or `http/json`; for `grpc`, `http/protobuf` is used, with a warning |
    /// | `OTEL_EXPORTER_OTLP_CERTIFICATE` M | | file with the authorities to trust instead of the system's |
    /// | `OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE`, `…_CLIENT_KEY` M | | files with the client's certificate and key |
    /// | `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE` | `cumulative` | or `delta`, `lowmemory` |
    /// | `OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION` | `explicit_bucket_histogram` | of anything else, a warning |
    /// | `OTEL_METRIC_EXPORT_INTERVAL` | 60000 | from one collection to the next |
    /// | `OTEL_METRIC_EXPORT_TIMEOUT` | 30000 | how long one request is tried |
    /// | `OTEL_METRICS_EXPORTER` | `otlp` | `none` exports nothing; of anything else, a warning |
    /// | `OTEL_METRICS_EXEMPLAR_FILTER` | `trace_based` | no exemplars are sent: of `always_on`, a warning |
    /// | `OTEL_SERVICE_NAME` | | the resource's `service.name` |
    /// | `OTEL_RESOURCE_ATTRIBUTES` | | `key=value,key2=value2`, percent-encoded; one mistake, and all of it is ignored |
    /// | `OTEL_SDK_DISABLED` | `false` | `true` exports nothing |
    /// | `OTEL_CONFIG_FILE` | | not read: a warning |
    ///
    /// `OTEL_EXPORTER_OTLP_INSECURE` means something to gRPC alone. To set something besides, see
    /// [`OtlpBuilder::environment`].
    ///
    /// # Errors
    ///
    /// If a certificate's file cannot be read or used, or a proxy's variable is no URL.
    pub fn from_env() -> Result<Self, OtlpError> {
        Otlp::builder().environment().build()
    }

    /// Every setting at its default, to be changed.
    pub fn builder() -> OtlpBuilder {
        OtlpBuilder::new()
    }

    fn origin<'a>(resource: &'a Resource, scope: &'a (String, String)) -> Origin<'a> {
        Origin {
            resource: resource.attributes(),
            scope_name: &scope.0,
            scope_version: &scope.1,
        }
    }
}

impl Destination for Otlp {
    fn name(&self) -> &str {
        "otlp"
    }

    fn address(&self) -> String {
        self.url.to_string()
    }

    fn payload_format(&self) -> String {
        format!("{} {}", self.protocol.content_type(), self.compression.name())
    }

    fn preferences(&self) -> Preferences {
        self.preferences.clone()
    }

    fn temporality(&self, family: &FamilySnapshot) -> Temporality {
        let cumulative = match self.temporality {
            TemporalityPreference::Cumulative => true,
            TemporalityPreference::Delta => false,
            TemporalityPreference::LowMemory => family.is_observed(),
        };
        match family.kind() {
            Kind::Counter | Kind::FloatCounter | Kind::Histogram if !cumulative => Temporality::Delta,
            _ => Temporality::Cumulative,
        }
    }

    fn encode(&mut self, points: &mut Points<'_>, payload: &mut Vec<u8>) {
        if self.resource.renew() {
            self.encoder.describe(&Otlp::origin(&self.resource, &self.scope));
            self.client.reconnect();
        }
        match self.compression {
            Compression::None => self.encoder.encode(points, payload),
            Compression::Gzip => {
                self.plain.clear();
                self.encoder.encode(points, &mut self.plain);
                if !self.plain.is_empty() {
                    gzip(&self.plain, payload);
                }
            }
        }
    }

    fn send(&mut self, payload: &Payload, timeout: Duration) -> Answer {
        let headers = [
            ("Content-Type", self.protocol.content_type()),
            ("Content-Encoding", "gzip"),
        ];
        let sent = match self.compression {
            Compression::None => 1,
            Compression::Gzip => 2,
        };
        let response = self.client.request(Request {
            method: Method::Post,
            url: &self.url,
            headers: &headers[..sent],
            body: payload.bytes(),
            timeout,
            overdue: payload.overdue(),
        });
        self.client.tell_problems();
        let response = match response {
            Ok(response) => response,
            Err(failure) => return failed(failure),
        };
        let wait = response.retry_after.as_deref();
        let reply = Reply {
            status: response.status,
            retry_after: wait.and_then(|wait| retry_after(wait, SystemClock.unix())),
            content_type: response.content_type.as_deref(),
            location: response.location.as_deref(),
            body: &response.body,
            is_cut: !response.complete,
        };
        answers::classify(self.protocol, payload.points() as u64, reply)
    }

    fn reload_credentials(&mut self) -> bool {
        self.client.reload()
    }

    fn reconnect(&mut self) {
        self.client.reconnect();
    }

    fn activity(&self) -> Activity {
        Activity {
            connections: self.client.connections(),
            credential_reloads: self.client.reloads(),
            ..Activity::default()
        }
    }
}

impl fmt::Debug for Otlp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Otlp")
            .field("url", &self.url)
            .field("protocol", &self.protocol)
            .field("compression", &self.compression)
            .field("temporality", &self.temporality)
            .field("preferences", &self.preferences)
            .field("resource", &self.resource.attributes())
            .field("scope", &self.scope)
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

/// What is appended to a base URL, <https://opentelemetry.io/docs/specs/otlp/#otlphttp-request>.
const METRICS_PATH: &str = "v1/metrics";
