//! The settings of a Pushgateway: where each comes from, and what is wrong with them.

use super::{Group, PushFormat, Pushgateway, PushgatewayError};
use crate::{
    destination::compression::Compression,
    platform, redact,
    scrape::Filter,
    secret::Secret,
    transport::http::{Headers, HttpClient, HttpSettings, HttpUrl, Method, ProxySettings, TlsFiles},
};
use std::{fmt, path::PathBuf, time::Duration};

/// Settings of a [`Pushgateway`], made by [`Pushgateway::builder`].
///
/// | setting | default |
/// |---|---|
/// | [`label`](PushgatewayBuilder::label) | none but `job` |
/// | [`timeout`](PushgatewayBuilder::timeout) | 10 s |
/// | [`format`](PushgatewayBuilder::format) | text |
/// | [`compression`](PushgatewayBuilder::compression) | none |
/// | [`replace`](PushgatewayBuilder::replace) | an exporter replaces the whole group |
/// | [`filter`](PushgatewayBuilder::filter) | single pushes have everything |
/// | [`own_metrics`](PushgatewayBuilder::own_metrics) | left out |
/// | [`proxy`](PushgatewayBuilder::proxy) | what `HTTP_PROXY` and its like say |
///
/// ```
/// # fn main() -> Result<(), tidegauge::PushgatewayError> {
/// use tidegauge::{Compression, Destination, Pushgateway, Secret};
///
/// let gateway = Pushgateway::builder("http://localhost:9091", "backup")
///     .label("path", "/var/tmp")
///     .bearer_token(Secret::text("from-a-vault"))
///     .compression(Compression::Gzip)
///     .build()?;
/// assert_eq!(gateway.address(), "http://localhost:9091/metrics/job/backup/path@base64/L3Zhci90bXA");
/// assert!(!format!("{gateway:?}").contains("vault"));
/// # Ok(())
/// # }
/// ```
#[must_use = "there is no destination before `build`"]
#[derive(Clone)]
pub struct PushgatewayBuilder {
    url: String,
    job: String,
    labels: Vec<(String, String)>,
    headers: Vec<Header>,
    timeout: Duration,
    format: PushFormat,
    compression: Compression,
    replace: bool,
    filter: Option<Filter>,
    own_metrics: bool,
    tls: TlsFiles,
    proxy: ProxySettings,
    user_agent: String,
}

#[derive(Clone)]
enum Header {
    Named(String, Secret),
    Bearer(Secret),
    Basic(String, Secret),
}

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

impl PushgatewayBuilder {
    pub(super) fn new(url: String, job: String) -> Self {
        PushgatewayBuilder {
            url,
            job,
            labels: Vec::new(),
            headers: Vec::new(),
            timeout: DEFAULT_TIMEOUT,
            format: PushFormat::default(),
            compression: Compression::None,
            replace: true,
            filter: None,
            own_metrics: false,
            tls: TlsFiles::default(),
            proxy: ProxySettings::default(),
            user_agent: concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }

    /// A further label that names the group, behind those before it. Every series gets it, in the place of its own label of that
    /// name. The value may be any text, also an empty one.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((name.into(), value.into()));
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

    /// `Authorization: Basic` with this user and password in every request, instead of those in the URL.
    pub fn basic_auth(mut self, user: impl Into<String>, password: impl Into<Secret>) -> Self {
        self.headers.push(Header::Basic(user.into(), password.into()));
        self
    }

    /// How long one request may take, from the look-up of the name to the last byte of the answer, by default 10 s. For exporters,
    /// their own setting wins.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How pushes are written, by default in text.
    pub fn format(mut self, format: PushFormat) -> Self {
        self.format = format;
        self
    }

    /// Whether requests are compressed, by default not. Gateways before 1.5.0 cannot read compressed ones.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Whether an exporter replaces the whole group, as [`Pushgateway::push`] does, or only the metrics of the same names, as
    /// [`Pushgateway::add`] does. By default the whole group.
    ///
    /// What a run has no value of, such as the last success of one that failed, goes with the whole group, and stays otherwise.
    pub fn replace(mut self, whole_group: bool) -> Self {
        self.replace = whole_group;
        self
    }

    /// Which families and series a [`push`](Pushgateway::push) or an [`add`](Pushgateway::add) has, by default all. An exporter is told
    /// by [`Exporter::filter`](crate::Exporter::filter).
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Whether the crate's own metrics, `tidegauge_*`, are pushed too; by default they are not: they are about the process, which
    /// ends, and the gateway keeps them for ever.
    pub fn own_metrics(mut self, pushed: bool) -> Self {
        self.own_metrics = pushed;
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

    /// The header `User-Agent`, by default this crate and its version.
    pub fn user_agent(mut self, product: impl Into<String>) -> Self {
        self.user_agent = product.into();
        self
    }

    /// The gateway's group, to be pushed to. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// If a setting cannot be: a URL that is none or needs the feature `tls`, a job without a name, a label that no group can have, a header
    /// that cannot be sent, a file that cannot be read.
    pub fn build(self) -> Result<Pushgateway, PushgatewayError> {
        let url = HttpUrl::parse(&self.url)?;
        if url.path().split('/').any(|segment| segment == "metrics") {
            return Err(PushgatewayError::new(format!(
                "the URL `{url}` is not the gateway's but of a path below it: leave out `/metrics` and what follows, or use `Pushgateway::from_url`"
            )));
        }
        let group = Group::new(self.job.clone(), self.labels.clone())?;
        self.at(url, group)
    }

    /// With a gateway's URL and a group that stand already.
    fn at(self, url: HttpUrl, group: Group) -> Result<Pushgateway, PushgatewayError> {
        if self.timeout.is_zero() {
            return Err(PushgatewayError::new("timeout: must not be zero; take some seconds"));
        }
        let mut headers = Headers::default();
        for header in self.headers {
            match header {
                Header::Named(name, _) if is_own(&name) => {
                    return Err(PushgatewayError::new(format!(
                        "header {name}: is written by the destination itself; leave it out, or choose a format or compression instead"
                    )));
                }
                Header::Named(name, value) => headers.insert(&name, value)?,
                Header::Bearer(token) => headers.insert_bearer(token)?,
                Header::Basic(user, password) => headers.insert_basic(&user, password)?,
            }
        }
        // A connection must not be used on both sides of a fork.
        platform::watch_forks();
        let client = HttpClient::new(HttpSettings {
            user_agent: self.user_agent,
            headers,
            proxy: self.proxy,
            tls: self.tls,
        })?;
        Ok(Pushgateway {
            url: url.join(&group.path()),
            group,
            client,
            method: if self.replace { Method::Put } else { Method::Post },
            format: self.format,
            compression: self.compression,
            timeout: self.timeout,
            filter: self.filter,
            own_metrics: self.own_metrics,
            plain: Vec::new(),
            generation: platform::generation(),
        })
    }
}

/// See [`Pushgateway::from_url`].
pub(super) fn from_url(text: &str) -> Result<Pushgateway, PushgatewayError> {
    let (scheme, _) = text.split_once("://").unwrap_or_default();
    let rest = match scheme.split_once('+') {
        Some((prefix, _)) if prefix.eq_ignore_ascii_case("pushgateway") => &text[prefix.len() + 1..],
        _ => text,
    };
    let url = HttpUrl::parse(rest)?;
    let (base, group) = Group::parse(url.path())
        .map_err(|reason| PushgatewayError::new(format!("the URL `{}` {reason}", redact::url(rest))))?;
    PushgatewayBuilder::new(String::new(), String::new()).at(url.at(&base), group)
}

/// Whether requests have a header of this name anyway.
fn is_own(name: &str) -> bool {
    ["Content-Type", "Content-Encoding"]
        .iter()
        .any(|own| name.eq_ignore_ascii_case(own))
}

/// Without URL and headers, which may be secret.
impl fmt::Debug for PushgatewayBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PushgatewayBuilder")
            .field("job", &self.job)
            .field("labels", &self.labels)
            .field("timeout", &self.timeout)
            .field("format", &self.format)
            .field("compression", &self.compression)
            .finish_non_exhaustive()
    }
}
