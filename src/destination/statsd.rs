//! StatsD and its dialects: packets that `encode/statsd.rs` fills with lines, handed to `transport/packets.rs`, and what it means
//! that the system has taken them or has not.
//!
//! Beside points go messages of the application's and, in DogStatsD, counts of the client's own. Nothing is repeated here and nothing
//! of what was sent is kept; that is the exporter's.

mod builder;
mod client;
pub(crate) mod dialect;
mod environment;
mod event;
mod messages;
mod origin;
mod seen;
#[cfg(test)]
mod tests;
mod url;

pub use builder::StatsDBuilder;
pub use dialect::{Cardinality, Dialect, HistogramLines};
pub use event::{AlertType, Event, EventPriority, ServiceCheck, ServiceStatus};
pub use messages::Messages;

use super::{Activity, Answer, Destination, Payload, Preferences, Temporality};
use crate::{
    descriptor::Kind,
    encode::statsd::{Encoder, message::Put},
    exporter::points::Points,
    snapshot::FamilySnapshot,
    transport::{
        packets::{Packets, Sent},
        patience::Patience,
    },
};
use client::ClientTelemetry;
use messages::{Message, Outbox};
use std::{fmt, mem, str::FromStr, sync::Arc, time::Duration};

/// Sends to StatsD, the Datadog Agent, Telegraf, statsd_exporter, collectd, or an OpenTelemetry Collector with its StatsD
/// receiver.
///
/// The application pays for an increment in its registry. Once an interval, by default 10 s, the increments of all counters and
/// histograms, and what gauges stand at, are packed into packets and spread over half of the interval.
///
/// | URL | goes to | dialect |
/// |---|---|---|
/// | `statsd+udp://host:8125`, `statsd+tcp://host:8125` | a port, 8125 if none is named | [`Etsy`](Dialect::Etsy) |
/// | `dogstatsd+udp://host:8125`, `dogstatsd+tcp://…` | the same | [`DogStatsD`](Dialect::DogStatsD) |
/// | `dogstatsd+unixgram:///var/run/datadog/dsd.socket` | a Unix socket for datagrams | DogStatsD |
/// | `dogstatsd+unixstream:///…` | a Unix socket for a stream of framed packets | DogStatsD |
/// | `dogstatsd+unix:///…` | either, whichever the socket is | DogStatsD |
/// | `udp://…`, `unix:///…` and so on | the same, as `DD_DOGSTATSD_URL` has it | DogStatsD |
/// | `…?dialect=telegraf` | the same | [`Telegraf`](Dialect::Telegraf), or another |
///
/// See [`Dialect`] for what each writes of tags, histograms and gauges.
///
/// # What delivered means
///
/// StatsD has no answers. A packet counts as delivered when this system has taken it; it may still be lost on its way, or by a server
/// whose buffer is full, and nobody says so. Over UDP the system may learn that nobody listens on the port, with the packet after:
/// then both are taken for lost.
///
/// What the system does not take (there is no socket, its buffer is full, nobody listens) is tried again while somebody waits for a
/// flush, and else treated by what it held:
///
/// | | |
/// |---|---|
/// | increments of counters and histograms | carried over: they join the next packet that is taken |
/// | gauges | superseded by what they stand at then |
/// | samples of a [`Distribution`](crate::Distribution), events, service checks, members of sets | dropped, and counted by the exporter |
///
/// A packet of which a stream took a part before it broke is repeated, and counted as a possible duplicate.
///
/// # Histograms
///
/// Where a server weighs samples by their rate, a bucket's increment is sent as samples within the bucket: its counts are exact, its
/// quantiles lie within the bounds of the bucket that they fall into, and so are off by at most that bucket's width. Elsewhere,
/// buckets, count and sum are sent as counters; see [`HistogramLines`].
///
/// # What DogStatsD has besides
///
/// Where lines come from, so that the Agent can add a container's tags ([origin
/// detection](StatsDBuilder::origin_detection)); [messages](StatsD::messages); and the client's own counts, as official clients send
/// them ([`client_telemetry`](StatsDBuilder::client_telemetry)), with the tags `client`, `client_version` and `client_transport`. Of
/// what is after `datadog.dogstatsd.client.`:
///
/// | name | counts |
/// |---|---|
/// | `metrics`, `metrics_by_type` | values in packets that the system took: after aggregation, because what the registry counted before costs nothing to send |
/// | `events`, `service_checks` | those in packets that the system took |
/// | `metric_dropped_on_receive` | messages that there was no room for |
/// | `packets_sent`, `bytes_sent` | what the system took |
/// | `packets_dropped`, `packets_dropped_writer`, and the same of `bytes` | sends that it did not take, also where what they held was carried over or tried again |
///
/// There is no queue of packets, so `packets_dropped_queue` and `bytes_dropped_queue` are not sent, nor are counts of contexts: all is
/// aggregated. Counts that are 0 are not sent. They are carried over until they are taken. The exporter's own
/// `tidegauge_exporter_*` metrics say more.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{net::UdpSocket, time::Duration};
/// use tidegauge::{Exporter, Registry, StatsD};
///
/// let server = UdpSocket::bind("127.0.0.1:0")?;
/// # server.set_read_timeout(Some(Duration::from_secs(60)))?;
/// let statsd = StatsD::builder(format!("dogstatsd+udp://{}", server.local_addr()?))
///     .tag("env", "prod")
///     .environment(false)
///     .origin_detection(false)
///     .build()?;
///
/// let registry = Registry::new();
/// let jobs = registry.counter("jobs", "Jobs run to their end.").labels(["queue"]).register()?;
/// let exporter = Exporter::new(statsd).start(&registry)?;
/// jobs.with(["mail"]).add(3);
/// exporter.flush(Duration::from_secs(5))?;
///
/// let mut seen = String::new();
/// while !seen.contains("jobs:3|c|#") {
///     let mut packet = [0; 1432];
///     let length = server.recv(&mut packet)?;
///     seen += std::str::from_utf8(&packet[..length])?;
///     seen += "\n";
/// }
/// let line = seen.lines().find(|line| line.starts_with("jobs:")).expect("it was seen");
/// assert!(line.contains("queue:mail") && line.contains("env:prod"), "{line}");
/// # Ok(())
/// # }
/// ```
pub struct StatsD {
    dialect: Dialect,
    address: String,
    /// What the system takes it may take back later.
    is_provisional: bool,
    packets: Packets,
    encoder: Encoder,
    outbox: Arc<Outbox>,
    client: Option<ClientTelemetry>,
    /// The collection that is being encoded.
    collection: u64,
    /// Messages in the queue that are for this collection.
    messages_left: usize,
    /// A message that the last packet had no room for.
    held: Option<Message>,
    /// Messages whose loss the client's counts have.
    messages_counted: u64,
    /// Why messages were dropped, as far as the log has it.
    told: Vec<&'static str>,
    preferences: Preferences,
}

/// Why a destination cannot be made: the message names the setting, the rule and the fix, and nothing that is secret.
///
/// ```
/// let error = tidegauge::StatsD::new("127.0.0.1:8125").unwrap_err();
/// assert!(error.to_string().contains("udp://"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatsDError {
    message: Box<str>,
}

impl StatsDError {
    #[cold]
    fn new(message: impl Into<Box<str>>) -> Self {
        StatsDError {
            message: message.into(),
        }
    }
}

impl fmt::Display for StatsDError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for StatsDError {}

impl StatsD {
    /// Sends to a URL, with every setting at its default. In DogStatsD the `DD_*` variables that say who sends are heard, as its
    /// official clients do; see [`from_environment`](StatsD::from_environment).
    ///
    /// # Errors
    ///
    /// If that is not a URL of a StatsD server. Nothing is connected yet.
    pub fn new(url: impl Into<String>) -> Result<Self, StatsDError> {
        StatsD::builder(url).build()
    }

    /// Every setting at its default, to be changed, for a URL.
    pub fn builder(url: impl Into<String>) -> StatsDBuilder {
        StatsDBuilder::new(Some(url.into()))
    }

    /// Does what the `DD_*` variables of the process say, as the official clients of DogStatsD do
    /// (<https://docs.datadoghq.com/extend/dogstatsd/>), and without any sends to `udp://127.0.0.1:8125`.
    ///
    /// An empty variable is none. Those marked E are heard by every destination in DogStatsD, whatever its URL, unless
    /// [`environment`](StatsDBuilder::environment) is off; what cannot be read there is ignored, with a warning in the log.
    ///
    /// | variable | default | |
    /// |---|---|---|
    /// | `DD_DOGSTATSD_URL` | | URL, with the schemes of [`StatsD`]; it wins over the next two |
    /// | `DD_AGENT_HOST` | `127.0.0.1` | host over UDP, perhaps with a port that wins over the next, or a URL |
    /// | `DD_DOGSTATSD_PORT` | 8125 | port over UDP |
    /// | `DD_DOGSTATSD_DISABLE` E | `false` | `true` exports nothing |
    /// | `DD_ENV`, `DD_SERVICE`, `DD_VERSION` E | | tags `env`, `service`, `version` |
    /// | `DD_TAGS`, or else `DATADOG_TAGS` E | | tags, `key:value,key2:value2`, or with blanks between |
    /// | `DD_ENTITY_ID` E | | tag `dd.internal.entity_id` |
    /// | `DD_ORIGIN_DETECTION_ENABLED` E | `true` | `false` sends neither the container's id nor external data |
    /// | `DD_EXTERNAL_ENV` E | | external data, from the Agent's admission controller |
    /// | `DD_CARDINALITY`, or else `DATADOG_CARDINALITY` E | the Agent's | `none`, `low`, `orchestrator` or `high` |
    ///
    /// # Errors
    ///
    /// If a variable cannot be read; the error names it.
    pub fn from_environment() -> Result<Self, StatsDError> {
        StatsD::environment_builder().build()
    }

    /// Every setting at its default, to be changed, for the URL that the variables of
    /// [`from_environment`](StatsD::from_environment) give.
    pub fn environment_builder() -> StatsDBuilder {
        StatsDBuilder::new(None)
    }

    /// A handle to send events, service checks and members of sets by: take it before the exporter has the destination.
    pub fn messages(&self) -> Messages {
        Messages::new(self.outbox.clone())
    }

    /// A collection begins, with what there is to say besides its points.
    fn begin(&mut self, collection: u64) {
        self.collection = collection;
        self.messages_left = self.outbox.begin();
        let dropped = self.outbox.dropped();
        if let Some(client) = &mut self.client {
            client.messages_dropped(dropped - mem::replace(&mut self.messages_counted, dropped));
            client.begin();
        }
        let reasons: Vec<&'static str> = self.outbox.reasons().collect();
        for reason in reasons {
            self.tell(reason);
        }
    }

    /// Logs why messages are dropped, each reason once.
    fn tell(&mut self, reason: &'static str) {
        if !self.told.contains(&reason) {
            self.told.push(reason);
            log::warn!("messages to {} are dropped, and counted: {reason}", self.address);
        }
    }

    /// Appends messages as far as there is room. How many.
    fn put_messages(&mut self, packet: &mut Vec<u8>) -> usize {
        let mut count = 0;
        loop {
            let message = match self.held.take() {
                Some(message) => message,
                None if self.messages_left == 0 => return count,
                None => {
                    self.messages_left -= 1;
                    match self.outbox.pop() {
                        Some(message) => message,
                        None => continue,
                    }
                }
            };
            match self.encoder.put_message(&message.fields(), packet) {
                Put::Written => count += 1,
                Put::Full => {
                    self.held = Some(message);
                    return count;
                }
                Put::Refused(reason) => {
                    self.outbox.refuse();
                    self.tell(reason);
                }
            }
        }
    }
}

impl FromStr for StatsD {
    type Err = StatsDError;

    /// As [`StatsD::new`].
    fn from_str(url: &str) -> Result<Self, StatsDError> {
        StatsD::new(url)
    }
}

impl Destination for StatsD {
    fn name(&self) -> &str {
        "statsd"
    }

    fn address(&self) -> String {
        self.address.clone()
    }

    fn preferences(&self) -> Preferences {
        self.preferences.clone()
    }

    fn temporality(&self, family: &FamilySnapshot) -> Temporality {
        match family.kind() {
            Kind::Counter | Kind::FloatCounter | Kind::Histogram => Temporality::Delta,
            _ => Temporality::Cumulative,
        }
    }

    fn encode(&mut self, points: &mut Points<'_>, packet: &mut Vec<u8>) {
        if points.collection() != self.collection {
            self.begin(points.collection());
        }
        self.encoder.encode(points, packet);
        let counts = self.client.as_mut().map_or(0, |client| client.put(packet));
        let messages = self.put_messages(packet);
        points.add_messages(counts + messages);
    }

    fn send(&mut self, payload: &Payload, timeout: Duration) -> Answer {
        let packet = payload.bytes();
        let patience = Patience::new(timeout, payload.overdue());
        let sent = self.packets.send(packet, payload.id(), patience);
        if let Some(client) = &mut self.client {
            match &sent {
                Sent::Taken => client.taken(packet),
                Sent::Refused { previous_too, .. } => client.refused(packet, *previous_too),
                Sent::TooLarge(_) => client.refused(packet, false),
                // It is sent again.
                Sent::Unclear(_) => {}
            }
        }
        match sent {
            Sent::Taken if self.is_provisional => Answer::delivered().provisional(),
            Sent::Taken => Answer::delivered(),
            // It is tried again while somebody waits for a flush, else carried over at once: see `preferences`.
            Sent::Refused { message, previous_too } => match previous_too {
                true => Answer::retry(message).blaming_previous(),
                false => Answer::retry(message),
            },
            Sent::Unclear(message) => Answer::unclear(message),
            Sent::TooLarge(message) => Answer::too_large(message),
        }
    }

    fn late_refusal(&mut self) -> Option<Answer> {
        let message = self.packets.late_refusal()?;
        if let Some(client) = &mut self.client {
            client.previous_refused();
        }
        Some(Answer::retry(message))
    }

    fn reconnect(&mut self) {
        self.packets.reconnect();
    }

    fn activity(&self) -> Activity {
        Activity {
            connections: self.packets.connections(),
            credential_reloads: 0,
            dropped_messages: self.outbox.dropped(),
        }
    }
}

impl fmt::Debug for StatsD {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("StatsD")
            .field("dialect", &self.dialect)
            .field("packets", &self.packets)
            .field("preferences", &self.preferences)
            .finish_non_exhaustive()
    }
}

/// Where an Agent on the same machine listens.
const DEFAULT_URL: &str = "udp://127.0.0.1:8125";

const DEFAULT_HOST: &str = "127.0.0.1";
