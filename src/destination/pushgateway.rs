//! A Prometheus Pushgateway: groups of metrics that it keeps until they are replaced or deleted, for Prometheus to scrape
//! (<https://github.com/prometheus/pushgateway>). As a destination of exporters, and for single pushes without one.
//!
//! It repeats nothing by itself; that is the exporter's, or the caller's.

mod answers;
mod builder;
mod format;
mod group;
#[cfg(test)]
mod tests;

pub use builder::PushgatewayBuilder;
pub use format::PushFormat;

use super::{
    Activity, Answer, Destination, Overdue, Payload, Preferences, Verdict,
    compression::{Compression, gzip},
    http::failed,
};
use crate::{
    exporter::points::Points,
    platform,
    registry::Registry,
    scrape::Filter,
    snapshot::FamilySnapshot,
    transport::http::{HttpClient, HttpUrl, Method, Request, SettingsError},
};
use group::{Clash, Group};
use std::{fmt, mem, time::Duration};

/// Pushes to one group of a Prometheus Pushgateway (<https://github.com/prometheus/pushgateway>).
///
/// It is for **the outcome of batch jobs that belong to a service rather than to a machine** and end before anybody could scrape
/// them, and for little else (<https://prometheus.io/docs/practices/pushing/>): whether the nightly deletion of users
/// succeeded, and when. Many jobs then depend on the one gateway, nobody sees that a job's host is down, and what was
/// pushed once is scraped for ever. A job that belongs to a machine is better served by the textfile collector of
/// the node exporter, and what lives long by an endpoint of its own.
///
/// | | |
/// |---|---|
/// | what is sent | everything in the registry but the crate's own `tidegauge_*` |
/// | how | in text 0.0.4, or in [protobuf](PushgatewayBuilder::format); never with timestamps, which the gateway refuses |
/// | where to | the group that the labels name, `job` among them; each series gets them all, in the place of its own |
/// | [`push`](Pushgateway::push) | replaces the whole group (`PUT`) |
/// | [`add`](Pushgateway::add) | replaces the metrics of the same names, and leaves the others (`POST`) |
/// | [`delete`](Pushgateway::delete) | deletes the group |
///
/// These three try once, on the calling thread, and say what came of it.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tidegauge::{Pushgateway, Registry};
///
/// let registry = Registry::new();
/// let deleted = registry.counter("users_deleted_total", "Users deleted.").register()?;
/// let success = registry.gauge("last_success_timestamp_seconds", "When it last succeeded.").register()?;
///
/// deleted.add(3);
/// success.set_to_current_time();
/// Pushgateway::new("http://localhost:9091", "delete-users")?.push(&registry)?;
/// # Ok(())
/// # }
/// ```
///
/// # In async code
///
/// A push needs no runtime, and within one it neither panics nor waits for it. The task that calls it keeps its thread for as
/// long as the push takes, [10 s](PushgatewayBuilder::timeout) at most; where other tasks wait for that thread, let it block
/// another one:
///
/// ```no_run
/// # async fn run(mut gateway: tidegauge::Pushgateway, registry: tidegauge::Registry) -> Result<(), Box<dyn std::error::Error>> {
/// tokio::task::spawn_blocking(move || gateway.push(&registry)).await??;
/// # Ok(())
/// # }
/// ```
///
/// # In an exporter
///
/// For jobs that take long, an [`Exporter`](crate::Exporter) pushes at intervals, and once more when it is flushed or dropped. A
/// gateway keeps the last push, whichever that is. So only the newest collection is sent, and what failed is never sent again once
/// there is a newer one. A collection without any series is not sent.
///
/// A push whose answer never came may still be on its way, in a proxy say, and arrive after the next one; the one after that puts it
/// right. Two processes that push to one group replace each other's metrics: tell them apart by a grouping label.
///
/// A family that the gateway would change without a word is refused, and counted as rejected: one that has a label of the group,
/// and `push_time_seconds` and `push_failure_time_seconds`, which are the gateway's own.
///
/// # What there is to know about gateways
///
/// - A push is taken as a whole or not at all. It is refused if a metric has another type in any group, of whomever, or
///   is one of the gateway's own with another type, such as `process_start_time_seconds`. The error has the gateway's own words.
/// - Prometheus must scrape it with `honor_labels: true`; else the labels `job` and `instance` become those of the gateway.
/// - Leave `instance` out of the group: the outcome of a service's job has none. The gateway makes it an empty one.
/// - Groups stay until they are [deleted](Pushgateway::delete), also when the job is no more; where an exporter has the destination, a
///   second one of the same builder, which can be cloned, does that. Look at `push_time_seconds` for those that are
///   stale, and at `push_failure_time_seconds` for pushes that were refused; the gateway keeps both for each group.
/// - A gateway that was told `--push.disable-consistency-check` takes everything, and may not be scraped any more then.
pub struct Pushgateway {
    /// Of the group.
    url: HttpUrl,
    group: Group,
    client: HttpClient,
    /// How an exporter pushes.
    method: Method,
    format: PushFormat,
    compression: Compression,
    timeout: Duration,
    /// Of single pushes; an exporter has one of its own.
    filter: Option<Filter>,
    own_metrics: bool,
    /// A push before it is compressed.
    plain: Vec<u8>,
    /// Of the process whose connections these are; see `platform`.
    generation: u64,
}

/// Why a push did not succeed, or a destination cannot be made: the message names what and where, the rule and the fix, and nothing that is
/// secret. Where a gateway has refused something it has the gateway's own words.
///
/// ```
/// let error = tidegauge::Pushgateway::new("localhost:9091", "backup").unwrap_err();
/// assert!(error.to_string().contains("http://"));
/// assert_eq!(error.status(), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushgatewayError {
    message: Box<str>,
    status: Option<u16>,
}

impl PushgatewayError {
    #[cold]
    fn new(message: impl Into<Box<str>>) -> Self {
        PushgatewayError {
            message: message.into(),
            status: None,
        }
    }

    /// The status of the gateway's answer, such as 400 where what was pushed does not agree with what it has; none if there was no
    /// answer, or nothing was sent.
    pub fn status(&self) -> Option<u16> {
        self.status
    }
}

impl fmt::Display for PushgatewayError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for PushgatewayError {}

impl From<SettingsError> for PushgatewayError {
    fn from(error: SettingsError) -> Self {
        PushgatewayError::new(error.to_string())
    }
}

impl Pushgateway {
    /// Pushes to the group of a job, at a gateway's base URL, with every setting at its default.
    ///
    /// # Errors
    ///
    /// If that is not a URL of `http` or `https`, if it needs TLS and the feature `tls` is off, or if the job has no name.
    pub fn new(url: impl Into<String>, job: impl Into<String>) -> Result<Self, PushgatewayError> {
        Pushgateway::builder(url, job).build()
    }

    /// The same, with settings to be changed. User and password in the URL become basic authentication; a path is what the
    /// gateway has as its `--web.route-prefix`.
    pub fn builder(url: impl Into<String>, job: impl Into<String>) -> PushgatewayBuilder {
        PushgatewayBuilder::new(url.into(), job.into())
    }

    /// Pushes to a group that is named by its whole URL, `http://HOST:9091/metrics/job/NAME{/LABEL/VALUE}`, as the
    /// gateway's documentation has it (<https://github.com/prometheus/pushgateway#url>), or with `pushgateway+` in front.
    ///
    /// ```
    /// # fn main() -> Result<(), tidegauge::PushgatewayError> {
    /// use tidegauge::{Destination, Pushgateway};
    ///
    /// let gateway = Pushgateway::from_url("pushgateway+http://localhost:9091/metrics/job/backup/dir@base64/L3Zhcg")?;
    /// assert_eq!(gateway.address(), "http://localhost:9091/metrics/job/backup/dir@base64/L3Zhcg");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As of [`new`](Pushgateway::new), and if the path does not name a group.
    pub fn from_url(url: &str) -> Result<Self, PushgatewayError> {
        builder::from_url(url)
    }

    /// Replaces the whole group by what is in the registry now: what it had before is gone. An empty registry leaves an empty
    /// group, which still says when it was pushed.
    ///
    /// It tries once. After an error without a [status](PushgatewayError::status) the push may have been taken; another one does no
    /// harm.
    ///
    /// # Errors
    ///
    /// If the gateway does not take it, or cannot be asked within the timeout. If a metric has a label of the group, or
    /// a name of the gateway's own: it would be changed without a word, so nothing is sent.
    pub fn push(&mut self, registry: &Registry) -> Result<(), PushgatewayError> {
        self.push_with(Method::Put, registry)
    }

    /// Replaces the metrics of the group that have the names of metrics in the registry, and leaves the others as they are: for
    /// jobs of several steps, each with a process and metrics of its own. Otherwise as [`push`](Pushgateway::push).
    ///
    /// # Errors
    ///
    /// As [`push`](Pushgateway::push).
    pub fn add(&mut self, registry: &Registry) -> Result<(), PushgatewayError> {
        self.push_with(Method::Post, registry)
    }

    /// Deletes the group, with all that any push has put there; that there is none is fine. Groups that have further labels stay.
    ///
    /// The gateway does it after it has answered, in order with pushes.
    ///
    /// # Errors
    ///
    /// If the gateway cannot be asked within the timeout, or refuses.
    pub fn delete(&mut self) -> Result<(), PushgatewayError> {
        let (status, answer) = self.exchange(Method::Delete, &[], self.timeout, None);
        self.outcome(status, answer)
    }

    fn push_with(&mut self, method: Method, registry: &Registry) -> Result<(), PushgatewayError> {
        let snapshot = registry.snapshot();
        let filter = self.filter.as_ref();
        let mut body = Vec::new();
        let mut writer = self.format.writer(&mut body);
        for family in snapshot.families() {
            if family.descriptor.own && !self.own_metrics || filter.is_some_and(|filter| !filter.shows_family(family)) {
                continue;
            }
            if let Some(clash) = self.group.clash(family) {
                return Err(self.clashes(clash, family));
            }
            writer.write(family, filter.and_then(Filter::of_series));
        }
        writer.finish();
        if self.compression == Compression::Gzip {
            let plain = mem::take(&mut body);
            gzip(&plain, &mut body);
        }
        let (status, answer) = self.exchange(method, &body, self.timeout, None);
        self.outcome(status, answer)
    }

    #[cold]
    fn clashes(&self, clash: Clash<'_>, family: &FamilySnapshot) -> PushgatewayError {
        let name = family.name();
        let what = match clash {
            Clash::Name => format!("metric `{name}`"),
            Clash::Label(label) => format!("metric `{name}`, label `{label}`"),
        };
        let fix = "or leave it out with a filter; nothing was pushed";
        PushgatewayError::new(format!("{}: {what}: {}, {fix}", self.url, clash.reason()))
    }

    /// Sends one request. The status of the answer, if there was one, and what it means.
    fn exchange(
        &mut self,
        method: Method,
        body: &[u8],
        timeout: Duration,
        overdue: Option<&Overdue>,
    ) -> (Option<u16>, Answer) {
        let generation = platform::generation();
        if self.generation != generation {
            // These are the parent's.
            self.client.reconnect();
            self.generation = generation;
        }
        let headers = [
            ("Content-Type", self.format.content_type()),
            ("Content-Encoding", "gzip"),
        ];
        let sent = match (method, self.compression) {
            (Method::Delete, _) => 0,
            (_, Compression::None) => 1,
            (_, Compression::Gzip) => 2,
        };
        let response = self.client.request(Request {
            method,
            url: &self.url,
            headers: &headers[..sent],
            body,
            timeout,
            overdue,
        });
        self.client.tell_problems();
        match response {
            Ok(response) => (Some(response.status), answers::classify(&response)),
            Err(failure) => (None, failed(failure)),
        }
    }

    /// What a single push or deletion came to.
    fn outcome(&self, status: Option<u16>, answer: Answer) -> Result<(), PushgatewayError> {
        let Answer { verdict, message, .. } = answer;
        if let Verdict::Delivered { .. } = verdict {
            return Ok(());
        }
        let message = match (status, verdict) {
            (Some(_), _) => format!("{}: {message}", self.url),
            // What failed names the URL itself.
            (None, Verdict::Unclear) => format!(
                "{message}; whether the gateway has done it is not known, and to ask for it once more does no harm"
            ),
            (None, _) => message,
        };
        Err(PushgatewayError {
            message: message.into(),
            status,
        })
    }

    fn write(&self, points: &mut Points<'_>, into: &mut Vec<u8>) {
        let filter = points.filter();
        let mut writer = self.format.writer(into);
        while let Some(family) = points.next_family() {
            if let Some(clash) = self.group.clash(family) {
                while points.peek().is_some() {
                    points.refuse(clash.reason());
                }
            } else {
                writer.write(family, filter.and_then(Filter::of_series));
                while points.peek().is_some() {
                    points.take();
                }
            }
        }
        writer.finish();
    }
}

impl Destination for Pushgateway {
    fn name(&self) -> &str {
        "pushgateway"
    }

    fn address(&self) -> String {
        self.url.to_string()
    }

    fn payload_format(&self) -> String {
        // What was to be added to a group would delete the rest of it if it were put.
        let method = match self.method {
            Method::Put => "PUT",
            _ => "POST",
        };
        format!("{method} {} {}", self.format.content_type(), self.compression.name())
    }

    fn preferences(&self) -> Preferences {
        Preferences {
            send_timeout: Some(self.timeout),
            replaces: true,
            // A run that failed has no last success, and that of the run before stays.
            merges: self.method == Method::Post,
            without_own_metrics: !self.own_metrics,
            ..Preferences::default()
        }
    }

    fn encode(&mut self, points: &mut Points<'_>, payload: &mut Vec<u8>) {
        match self.compression {
            Compression::None => self.write(points, payload),
            Compression::Gzip => {
                let mut plain = mem::take(&mut self.plain);
                self.write(points, &mut plain);
                if !plain.is_empty() {
                    gzip(&plain, payload);
                }
                self.plain = plain;
            }
        }
    }

    fn send(&mut self, payload: &Payload, timeout: Duration) -> Answer {
        self.exchange(self.method, payload.bytes(), timeout, payload.overdue())
            .1
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

impl fmt::Debug for Pushgateway {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Pushgateway")
            .field("url", &self.url)
            .field("format", &self.format)
            .field("compression", &self.compression)
            .field("timeout", &self.timeout)
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}
