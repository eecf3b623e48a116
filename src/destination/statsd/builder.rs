//! The settings of a StatsD destination: where each comes from, in which order, and what is wrong with them.

use super::{
    StatsD, StatsDError,
    client::ClientTelemetry,
    dialect::{Cardinality, Dialect, HistogramLines},
    environment::{self, Environment},
    messages::Outbox,
    origin::Container,
    url::StatsDUrl,
};
use crate::{
    clock::{SharedClock, SystemClock},
    destination::Preferences,
    encode::statsd::{Encoder, Origin, Settings},
    redact,
    transport::packets::{Endpoint, Packets},
};
use std::{env, ffi::OsString, fmt, path::Path, sync::Arc, time::Duration};

/// Settings of a [`StatsD`] destination, made by [`StatsD::builder`].
///
/// | setting | default |
/// |---|---|
/// | [`dialect`](StatsDBuilder::dialect) | what the URL says |
/// | [`prefix`](StatsDBuilder::prefix), [`tag`](StatsDBuilder::tag) | none |
/// | [`histograms`](StatsDBuilder::histograms) | what the dialect's servers read best |
/// | [`packet_size`](StatsDBuilder::packet_size) | 1,432 bytes over UDP, 4,096 over TCP, 8,192 otherwise |
/// | [`resolve_every`](StatsDBuilder::resolve_every) | 60 s |
/// | [`message_queue`](StatsDBuilder::message_queue) | 1,024 messages |
///
/// Of DogStatsD alone:
///
/// | setting | default |
/// |---|---|
/// | [`protocol`](StatsDBuilder::protocol) | 1.6 |
/// | [`environment`](StatsDBuilder::environment) | heard |
/// | [`origin_detection`](StatsDBuilder::origin_detection) | on, unless `DD_ORIGIN_DETECTION_ENABLED` says otherwise |
/// | [`container_id`](StatsDBuilder::container_id) | looked for |
/// | [`external_data`](StatsDBuilder::external_data) | `DD_EXTERNAL_ENV` |
/// | [`cardinality`](StatsDBuilder::cardinality) | `DD_CARDINALITY`, or else the Agent's |
/// | [`timestamps`](StatsDBuilder::timestamps) | off |
/// | [`client_telemetry`](StatsDBuilder::client_telemetry) | on |
#[must_use = "there is no destination before `build`"]
pub struct StatsDBuilder {
    /// None for the environment's.
    url: Option<String>,
    dialect: Option<Dialect>,
    prefix: String,
    tags: Vec<(String, String)>,
    histograms: Option<HistogramLines>,
    packet_size: Option<usize>,
    resolve_every: Duration,
    message_queue: usize,
    protocol: u8,
    environment: bool,
    origin_detection: Option<bool>,
    container_id: Option<String>,
    external_data: Option<String>,
    cardinality: Option<Cardinality>,
    timestamps: bool,
    client_telemetry: bool,
}

impl StatsDBuilder {
    pub(super) fn new(url: Option<String>) -> Self {
        StatsDBuilder {
            url,
            dialect: None,
            prefix: String::new(),
            tags: Vec::new(),
            histograms: None,
            packet_size: None,
            resolve_every: DEFAULT_RESOLVE_EVERY,
            message_queue: DEFAULT_MESSAGES,
            protocol: NEWEST_PROTOCOL,
            environment: true,
            origin_detection: None,
            container_id: None,
            external_data: None,
            cardinality: None,
            timestamps: false,
            client_telemetry: true,
        }
    }

    /// How lines are written, whatever the URL says of it.
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = Some(dialect);
        self
    }

    /// What all names of metrics and sets begin with, such as `shop.`; by default nothing.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// A tag of everything that is sent, besides those of series; by default none. In DogStatsD, one with an empty value is sent as its
    /// key alone.
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.push((key.into(), value.into()));
        self
    }

    /// How histograms are written, by default as the dialect's servers read them best; see [`Dialect`].
    pub fn histograms(mut self, lines: HistogramLines) -> Self {
        self.histograms = Some(lines);
        self
    }

    /// How many bytes a packet may have, from 64 to 65,467 over UDP and 65,536 otherwise; by default 1,432 over UDP, which one frame
    /// of Ethernet carries, 4,096 over TCP, where statsd_exporter reads no longer line, and 8,192 otherwise, which the Datadog
    /// Agent's buffers take. A line that alone is longer is left out, and counted as rejected.
    pub fn packet_size(mut self, bytes: usize) -> Self {
        self.packet_size = Some(bytes);
        self
    }

    /// How often the host's name is looked up again, besides after failures; by default every 60 s.
    pub fn resolve_every(mut self, interval: Duration) -> Self {
        self.resolve_every = interval;
        self
    }

    /// How many [messages](StatsD::messages) may wait for the next collection, by default 1,024, at most 1,048,576. Where there is no
    /// room, the new one is dropped and counted.
    pub fn message_queue(mut self, messages: usize) -> Self {
        self.message_queue = messages;
        self
    }

    /// The newest version of DogStatsD's protocol that the server reads: 4 for 1.4; by default 6. Older ones are without packed
    /// values (before 1), container ids (before 2), timestamps (before 3), control groups' numbers (before 4), external data
    /// (before 5), and cardinality (before 6). <https://docs.datadoghq.com/developers/dogstatsd/datagram_shell/>
    ///
    /// Other servers that take DogStatsD's tags, such as statsd_exporter and the OpenTelemetry Collector, are best written 0. They
    /// take a gauge with a sign for a change, so with 0 one below zero is sent as a zero and a change, which is the same to the Agent.
    pub fn protocol(mut self, minor: u8) -> Self {
        self.protocol = minor;
        self
    }

    /// Whether the `DD_*` variables are heard where the dialect is DogStatsD, as its official clients do; by default they are. What
    /// is set here wins; see [`StatsD::from_environment`] for them.
    pub fn environment(mut self, is_heard: bool) -> Self {
        self.environment = is_heard;
        self
    }

    /// Whether the container's id and external data are sent, so that the Agent adds the container's tags; by default they
    /// are, in DogStatsD, unless `DD_ORIGIN_DETECTION_ENABLED` says otherwise.
    ///
    /// The container is looked for when the destination is built, in `/proc/self/cgroup`, `/proc/self/mountinfo`, and as the number of
    /// the control group's folder.
    pub fn origin_detection(mut self, is_on: bool) -> Self {
        self.origin_detection = Some(is_on);
        self
    }

    /// The id of the container to be sent, instead of one that is found; whether or not origin detection is on.
    pub fn container_id(mut self, id: impl Into<String>) -> Self {
        self.container_id = Some(id.into());
        self
    }

    /// What the Agent's admission controller knows the container by, instead of `DD_EXTERNAL_ENV`.
    pub fn external_data(mut self, data: impl Into<String>) -> Self {
        self.external_data = Some(data.into());
        self
    }

    /// Which tags the Agent adds, instead of `DD_CARDINALITY`; by default as the Agent is configured.
    pub fn cardinality(mut self, cardinality: Cardinality) -> Self {
        self.cardinality = Some(cardinality);
        self
    }

    /// Whether counters and gauges are sent with the time of their collection, which the Agent then neither aggregates nor changes; by
    /// default not. Needs protocol 1.3.
    pub fn timestamps(mut self, is_on: bool) -> Self {
        self.timestamps = is_on;
        self
    }

    /// Whether the metrics `datadog.dogstatsd.client.*` are sent, once a collection; by default they are, in DogStatsD. See
    /// [`StatsD`] for which.
    pub fn client_telemetry(mut self, is_on: bool) -> Self {
        self.client_telemetry = is_on;
        self
    }

    /// The destination. Nothing is connected yet. What the environment asks for and cannot be is logged here, as warnings, unless
    /// the URL is the environment's, too.
    ///
    /// # Errors
    ///
    /// If a setting cannot be: a URL that is none, a limit out of its range, a tag without a key; or a variable, if the URL is the
    /// environment's.
    pub fn build(self) -> Result<StatsD, StatsDError> {
        self.build_in(&Surroundings {
            variables: &|name| env::var_os(name),
            root: Path::new("/"),
        })
    }

    pub(super) fn build_in(self, surroundings: &Surroundings<'_>) -> Result<StatsD, StatsDError> {
        let mut environment = match self.environment || self.url.is_none() {
            true => Environment::read(surroundings.variables),
            false => Environment::default(),
        };
        let url = match &self.url {
            Some(url) => StatsDUrl::parse(url, self.dialect)?,
            None => {
                if let Some(problem) = environment.problems.first() {
                    return Err(StatsDError::new(problem.as_str()));
                }
                match &environment.url {
                    Some(url) => StatsDUrl::parse(url, self.dialect)
                        .map_err(|error| StatsDError::new(format!("{}: {error}", environment.url_variable)))?,
                    None => StatsDUrl::parse(super::DEFAULT_URL, self.dialect)?,
                }
            }
        };
        let dialect = url.dialect;
        let is_dog = dialect == Dialect::DogStatsD;
        if !is_dog && self.url.is_some() {
            // They are Datadog's.
            environment = Environment::default();
        }
        for problem in &environment.problems {
            log::warn!("{problem}; until then it is ignored");
        }
        self.check()?;
        let limit = self.limit(&url.endpoint)?;
        let origin = match is_dog {
            true => self.origin(&environment, surroundings.root)?,
            false => Origin::default(),
        };
        let is_stream_of_lines = matches!(url.endpoint, Endpoint::Tcp { .. });
        let mut tags = self.tags;
        if is_dog {
            // Those that were set here win.
            let from_environment = environment.tags.into_iter();
            let new: Vec<_> = from_environment
                .filter(|(key, _)| tags.iter().all(|(known, _)| known != key))
                .collect();
            tags.extend(new);
        }
        let settings = Settings {
            dialect,
            protocol: self.protocol,
            limit,
            ends_lines: is_stream_of_lines,
            prefix: self.prefix,
            tags,
            origin,
            timestamps: self.timestamps,
            histograms: self.histograms.unwrap_or(dialect.histogram_lines()),
        };
        let client = (is_dog && self.client_telemetry).then(|| ClientTelemetry::new(&settings, &url.endpoint));
        Ok(StatsD {
            dialect,
            address: url.endpoint.to_string(),
            is_provisional: matches!(url.endpoint, Endpoint::Udp { .. }),
            packets: Packets::new(url.endpoint, self.resolve_every, SharedClock::new(SystemClock)),
            encoder: Encoder::new(settings),
            outbox: Arc::new(Outbox::new(self.message_queue, dialect)),
            client,
            collection: 0,
            messages_left: 0,
            held: None,
            messages_counted: 0,
            told: Vec::new(),
            preferences: Preferences {
                interval: Some(INTERVAL),
                send_timeout: Some(SEND_TIMEOUT),
                // What is refused joins the next packet; the same bytes again would be older than that.
                retry_for: Some(Duration::ZERO),
                spread: Some(SPREAD),
                // Others have no type for them, and count them in buckets.
                samples: is_dog,
                disabled: environment.disabled,
                ..Preferences::default()
            },
        })
    }

    fn check(&self) -> Result<(), StatsDError> {
        if !(1..=MOST_MESSAGES).contains(&self.message_queue) {
            return Err(StatsDError::new(format!(
                "message queue: must have room for 1 to {MOST_MESSAGES} messages, not {}; a thousand is usual",
                self.message_queue
            )));
        }
        if self.protocol > NEWEST_PROTOCOL {
            return Err(StatsDError::new(format!(
                "protocol: 1.{} is not known; the newest is 1.{NEWEST_PROTOCOL}",
                self.protocol
            )));
        }
        if self.tags.iter().any(|(key, _)| key.trim().is_empty()) {
            return Err(StatsDError::new(
                "tag: its key must not be empty; give one such as \"env\"",
            ));
        }
        if self.timestamps && self.protocol < TIMESTAMPS_PROTOCOL {
            return Err(StatsDError::new(format!(
                "timestamps: protocol 1.{} has none; take 1.{TIMESTAMPS_PROTOCOL}, or leave them off",
                self.protocol
            )));
        }
        Ok(())
    }

    fn limit(&self, endpoint: &Endpoint) -> Result<usize, StatsDError> {
        let (default, most) = (endpoint.default_packet_size(), endpoint.most_packet_size());
        let limit = self.packet_size.unwrap_or(default);
        if !(LEAST_PACKET..=most).contains(&limit) {
            return Err(StatsDError::new(format!(
                "packet size: must be from {LEAST_PACKET} to {most} bytes there, not {limit}; {default} is usual"
            )));
        }
        Ok(limit)
    }

    /// What lines say of where they come from, as far as the protocol has it.
    fn origin(&self, environment: &Environment, root: &Path) -> Result<Origin, StatsDError> {
        let mut origin = Origin::default();
        let is_detected = self.origin_detection.or(environment.origin_detection).unwrap_or(true);
        if self.protocol >= CONTAINER_PROTOCOL {
            origin.container = match &self.container_id {
                Some(id) if id.is_empty() || id.chars().any(|character| character == '|' || character.is_control()) => {
                    return Err(StatsDError::new(
                        "container id: must not be empty, and have neither `|` nor control characters; give the runtime's id, or leave it out",
                    ));
                }
                Some(id) => Some(id.clone()),
                None if is_detected => match Container::find(root) {
                    Some(Container::Id(id)) => Some(id),
                    Some(Container::ControlGroup(number)) if self.protocol >= CONTROL_GROUP_PROTOCOL => {
                        Some(format!("in-{number}"))
                    }
                    _ => None,
                },
                None => None,
            };
        }
        if self.protocol >= EXTERNAL_PROTOCOL {
            let given = self.external_data.as_deref().map(environment::printable);
            let injected = environment.external_data.clone().filter(|_| is_detected);
            origin.external = given.filter(|data| !data.is_empty()).or(injected);
        }
        if self.protocol >= CARDINALITY_PROTOCOL {
            origin.cardinality = self.cardinality.or(environment.cardinality);
        }
        Ok(origin)
    }
}

/// What a destination finds out by itself; a test's is made up.
pub(super) struct Surroundings<'a> {
    pub(super) variables: &'a dyn Fn(&str) -> Option<OsString>,
    /// Where the file system begins.
    pub(super) root: &'a Path,
}

impl fmt::Debug for StatsDBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("StatsDBuilder")
            .field("url", &self.url.as_deref().map(redact::url))
            .field("dialect", &self.dialect)
            .field("prefix", &self.prefix)
            .field("tags", &self.tags)
            .finish_non_exhaustive()
    }
}

/// The window in which the Datadog Agent and Etsy's server aggregate.
const INTERVAL: Duration = Duration::from_secs(10);

/// Nothing has to be answered: only a name that is looked up, or a stream that is connected, takes longer than a moment.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// Half of the interval: a receive buffer has room for few packets, and nobody says when it is full.
const SPREAD: Duration = Duration::from_secs(5);

const DEFAULT_RESOLVE_EVERY: Duration = Duration::from_secs(60);
const DEFAULT_MESSAGES: usize = 1_024;
const MOST_MESSAGES: usize = 1 << 20;

/// Less has no room for a name with a tag.
const LEAST_PACKET: usize = 64;

const NEWEST_PROTOCOL: u8 = 6;
const CONTAINER_PROTOCOL: u8 = 2;
const TIMESTAMPS_PROTOCOL: u8 = 3;
const CONTROL_GROUP_PROTOCOL: u8 = 4;
const EXTERNAL_PROTOCOL: u8 = 5;
const CARDINALITY_PROTOCOL: u8 = 6;
