//! The settings of an OTLP destination: where each comes from, in which order, and what is wrong with them.

use super::{
    METRICS_PATH, Otlp, OtlpError, Protocol, TemporalityPreference,
    environment::Environment,
    resource::{Resource, SERVICE_NAME},
};
use crate::{
    destination::{Preferences, compression::Compression},
    encode::otlp::{Encoder, Limits},
    secret::Secret,
    transport::http::{Headers, HttpClient, HttpSettings, HttpUrl, ProxySettings, TlsFiles},
};
use std::{env, ffi::OsString, path::PathBuf, time::Duration};

/// Settings of an [`Otlp`] destination, made by [`Otlp::builder`].
///
/// | setting | default |
/// |---|---|
/// | [`endpoint`](OtlpBuilder::endpoint) | `http://localhost:4318`, and `/v1/metrics` below it |
/// | [`protocol`](OtlpBuilder::protocol) | binary protobuf |
/// | [`compression`](OtlpBuilder::compression) | none |
/// | [`temporality`](OtlpBuilder::temporality) | cumulative |
/// | [`timeout`](OtlpBuilder::timeout) | 10 s |
/// | [`service_name`](OtlpBuilder::service_name) | `unknown_service:` and the executable's name |
/// | [`max_points`](OtlpBuilder::max_points), [`max_bytes`](OtlpBuilder::max_bytes) | 10,000; 4 MiB |
/// | [`proxy`](OtlpBuilder::proxy) | what `HTTP_PROXY` and its like say |
#[must_use = "there is no destination before `build`"]
#[derive(Debug)]
pub struct OtlpBuilder {
    environment: Environment,
    target: Option<Target>,
    headers: Vec<Header>,
    compression: Option<Compression>,
    protocol: Option<Protocol>,
    temporality: Option<TemporalityPreference>,
    timeout: Option<Duration>,
    resource: Vec<(String, String)>,
    scope: (String, String),
    max_points: usize,
    max_bytes: usize,
    tls: TlsFiles,
    proxy: ProxySettings,
    product: Option<String>,
}

/// A URL as it was given. It is shown only once it is parsed.
enum Target {
    Below(String),
    Exactly(String),
}

#[derive(Debug)]
enum Header {
    Named(String, Secret),
    Bearer(Secret),
    Basic(String, Secret),
}

/// Where a collector on the same machine listens, <https://opentelemetry.io/docs/specs/otlp/#otlphttp-default-port>.
const DEFAULT_ENDPOINT: &str = "http://localhost:4318";

/// As the specification has it, <https://opentelemetry.io/docs/specs/otel/protocol/exporter/#configuration-options>.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

const DEFAULT_MAX_POINTS: usize = 10_000;
const DEFAULT_MAX_BYTES: usize = 4 << 20;

/// What the protocol recommends to stay below, <https://opentelemetry.io/docs/specs/otlp/#otlphttp-request>.
const MOST_BYTES: usize = 64 << 20;

impl OtlpBuilder {
    pub(super) fn new() -> Self {
        OtlpBuilder {
            environment: Environment::default(),
            target: None,
            headers: Vec::new(),
            compression: None,
            protocol: None,
            temporality: None,
            timeout: None,
            resource: Vec::new(),
            scope: (env!("CARGO_PKG_NAME").to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            max_points: DEFAULT_MAX_POINTS,
            max_bytes: DEFAULT_MAX_BYTES,
            tls: TlsFiles::default(),
            proxy: ProxySettings::default(),
            product: None,
        }
    }

    /// Lets the `OTEL_*` variables decide what is not set here; see [`Otlp::from_env`] for them. They are read now;
    /// what is wrong with them is logged by [`build`](OtlpBuilder::build).
    ///
    /// Headers and resource attributes of other names and keys than those set here stay.
    pub fn environment(self) -> Self {
        self.environment_from(&|name| env::var_os(name))
    }

    pub(super) fn environment_from(mut self, look_up: &dyn Fn(&str) -> Option<OsString>) -> Self {
        self.environment = Environment::read(look_up);
        self
    }

    /// The base URL of the receiver, by default `http://localhost:4318`: requests go to `v1/metrics` below it. User and
    /// password in it become basic authentication.
    pub fn endpoint(mut self, base: impl Into<String>) -> Self {
        self.target = Some(Target::Below(base.into()));
        self
    }

    /// The URL that requests go to, exactly, such as `http://localhost:9090/api/v1/otlp/v1/metrics`; instead of an
    /// [`endpoint`](OtlpBuilder::endpoint).
    pub fn metrics_url(mut self, url: impl Into<String>) -> Self {
        self.target = Some(Target::Exactly(url.into()));
        self
    }

    /// A header of every request, instead of one of the same name. A [`Secret`] can come from a file or a closure, and
    /// is asked for before each request.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Secret>) -> Self {
        self.headers.push(Header::Named(name.into(), value.into()));
        self
    }

    /// `Authorization: Bearer` with this token in every request.
    pub fn bearer_token(mut self, token: impl Into<Secret>) -> Self {
        self.headers.push(Header::Bearer(token.into()));
        self
    }

    /// `Authorization: Basic` with this user and password in every request.
    pub fn basic_auth(mut self, user: impl Into<String>, password: impl Into<Secret>) -> Self {
        self.headers.push(Header::Basic(user.into(), password.into()));
        self
    }

    /// Whether requests are compressed, by default not.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    /// How requests are written, by default in binary protobuf.
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = Some(protocol);
        self
    }

    /// Whether counters and histograms are sent as they stand or as increments, by default as they stand.
    pub fn temporality(mut self, preference: TemporalityPreference) -> Self {
        self.temporality = Some(preference);
        self
    }

    /// How long one send may take, by default 10 s. The exporter's own setting wins.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The name of the service, the resource's `service.name`; by default `unknown_service:` and the executable's name.
    /// Prometheus makes the label `job` of it.
    pub fn service_name(self, name: impl Into<String>) -> Self {
        self.resource_attribute(SERVICE_NAME, name)
    }

    /// An attribute of the resource (<https://opentelemetry.io/docs/specs/semconv/resource/>), instead of one of the
    /// same key.
    ///
    /// `service.instance.id` is best left alone: it has to differ from process to process, and by default is a random
    /// UUID, a new one in a process that was forked.
    pub fn resource_attribute(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.resource.push((key.into(), value.into()));
        self
    }

    /// The instrumentation scope of all metrics, by default this crate's name and version.
    pub fn scope(mut self, name: impl Into<String>, version: impl Into<String>) -> Self {
        self.scope = (name.into(), version.into());
        self
    }

    /// How many points one request may have, by default 10,000.
    pub fn max_points(mut self, points: usize) -> Self {
        self.max_points = points;
        self
    }

    /// How many bytes one request may have before it is compressed, by default 4 MiB, at most 64 MiB. A point that
    /// alone is larger is left out, and counted as rejected.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// A file in PEM with the authorities to trust instead of the system's; needs the feature `tls`. It is read again
    /// when it changes.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.tls.authorities = Some(path.into());
        self
    }

    /// Files in PEM with the client's certificate, followed by those between it and the authority, and its private key;
    /// needs the feature `tls`. They are read again when they change.
    pub fn client_certificate(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.tls.certificate = Some(certificate.into());
        self.tls.key = Some(key.into());
        self
    }

    /// A proxy for all requests, `http://`, `https://`, `socks4://`, `socks4a://`, `socks5://` or `socks5h://`, with
    /// `user:password@` if it wants them. By default `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` are heard,
    /// in the manner of curl.
    pub fn proxy(mut self, url: impl Into<String>) -> Self {
        self.proxy = ProxySettings::Url(url.into());
        self
    }

    /// No proxy, whatever the environment says.
    pub fn no_proxy(mut self) -> Self {
        self.proxy = ProxySettings::Direct;
        self
    }

    /// The product that stands first in `User-Agent`, such as `shop/1.2`; by default this crate. The exporter's own
    /// token follows, <https://opentelemetry.io/docs/specs/otel/protocol/exporter/#user-agent>.
    pub fn user_agent(mut self, product: impl Into<String>) -> Self {
        self.product = Some(product.into());
        self
    }

    /// The destination. Nothing is connected yet. What the environment asks for and cannot be is logged here, as
    /// warnings.
    ///
    /// # Errors
    ///
    /// If a setting cannot be: a URL that is none or needs the feature `tls`, a header that cannot be sent, a file that
    /// cannot be read, a limit out of its range.
    pub fn build(self) -> Result<Otlp, OtlpError> {
        let environment = self.environment;
        for warning in &environment.warnings {
            log::warn!("{warning}");
        }
        let url = match (&self.target, environment.endpoint) {
            (Some(Target::Exactly(url)), _) => HttpUrl::parse(url)?,
            (Some(Target::Below(base)), _) => HttpUrl::parse(base)?.join(METRICS_PATH),
            (None, Some(url)) => url,
            (None, None) => HttpUrl::parse(DEFAULT_ENDPOINT)?.join(METRICS_PATH),
        };
        let mut headers = Headers::default();
        for (name, value) in environment.headers {
            put_header(&name, value, &mut headers)?;
        }
        for header in self.headers {
            match header {
                Header::Named(name, value) => put_header(&name, value, &mut headers)?,
                Header::Bearer(token) => headers.insert_bearer(token)?,
                Header::Basic(user, password) => headers.insert_basic(&user, password)?,
            }
        }
        let timeout = self.timeout.or(environment.timeout).unwrap_or(DEFAULT_TIMEOUT);
        if timeout.is_zero() {
            return Err(OtlpError::new("timeout: must not be zero; take some seconds"));
        }
        let tls = TlsFiles {
            authorities: self.tls.authorities.or(environment.certificate),
            certificate: self.tls.certificate.or(environment.client_certificate),
            key: self.tls.key.or(environment.client_key),
        };
        let client = HttpClient::new(HttpSettings {
            user_agent: user_agent(self.product.as_deref())?,
            headers,
            proxy: self.proxy,
            tls,
        })?;

        let name = environment.service_name.map(|name| (SERVICE_NAME.to_owned(), name));
        if let Some((key, _)) = self
            .resource
            .iter()
            .find(|(key, value)| key.is_empty() || (key == SERVICE_NAME && value.is_empty()))
        {
            let message = match key.is_empty() {
                true => "resource attribute: its key must not be empty; give one such as \"service.version\"",
                false => "service name: must not be empty; give one, or leave it out",
            };
            return Err(OtlpError::new(message));
        }
        let resource = Resource::new(environment.resource.into_iter().chain(name).chain(self.resource));
        let protocol = self.protocol.or(environment.protocol).unwrap_or_default();
        let limits = limits(self.max_points, self.max_bytes)?;
        let encoder = Encoder::new(protocol, limits, &Otlp::origin(&resource, &self.scope));
        if encoder.overhead() > limits.bytes / 2 {
            return Err(OtlpError::new(format!(
                "max bytes: resource and scope alone take {} of the {} bytes that a request may have; allow twice as many, or name less",
                encoder.overhead(),
                limits.bytes
            )));
        }
        Ok(Otlp {
            url,
            client,
            protocol,
            compression: self.compression.or(environment.compression).unwrap_or_default(),
            temporality: self.temporality.or(environment.temporality).unwrap_or_default(),
            preferences: Preferences {
                interval: environment.interval,
                send_timeout: Some(timeout),
                retry_for: environment.retry_for,
                disabled: environment.disabled,
                ..Preferences::default()
            },
            resource,
            scope: self.scope,
            encoder,
            plain: Vec::new(),
        })
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Target::Below(_) => "Below(…)",
            Target::Exactly(_) => "Exactly(…)",
        })
    }
}

/// Adds a header, unless requests have it anyway.
pub(super) fn put_header(name: &str, value: Secret, headers: &mut Headers) -> Result<(), OtlpError> {
    if ["Content-Type", "Content-Encoding"]
        .iter()
        .any(|own| name.eq_ignore_ascii_case(own))
    {
        return Err(OtlpError::new(format!(
            "header {name}: is written by the destination itself; choose protocol and compression instead"
        )));
    }
    Ok(headers.insert(name, value)?)
}

fn limits(points: usize, bytes: usize) -> Result<Limits, OtlpError> {
    if points == 0 {
        return Err(OtlpError::new("max points: must be at least 1; thousands are usual"));
    }
    if bytes > MOST_BYTES {
        return Err(OtlpError::new(format!(
            "max bytes: {bytes} is more than the 64 MiB that receivers take at most; allow fewer"
        )));
    }
    Ok(Limits { points, bytes })
}

/// A product, and behind it what the specification has for exporters.
fn user_agent(product: Option<&str>) -> Result<String, OtlpError> {
    const OWN: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));
    const EXPORTER: &str = concat!("OTel-OTLP-Exporter-Rust/", env!("CARGO_PKG_VERSION"));
    let product = product.unwrap_or(OWN).trim();
    if product.is_empty() {
        return Err(OtlpError::new(
            "user agent: must not be empty; give a product such as \"shop/1.2\"",
        ));
    }
    Ok(format!("{product} {EXPORTER}"))
}
