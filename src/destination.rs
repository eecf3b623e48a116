//! Where an exporter sends: what a protocol has to say for itself, and nothing about threads, time or repetition.
//!
//! A [`Destination`] turns what is new into payloads, sends one of them, and says what the answer means. Everything else
//! is the exporter's: it collects, queues, waits, repeats and counts.

#[cfg(any(feature = "otlp", feature = "pushgateway"))]
pub(crate) mod compression;
#[cfg(feature = "emf")]
pub(crate) mod emf;
#[cfg(any(feature = "otlp", feature = "pushgateway"))]
mod http;
#[cfg(feature = "otlp")]
pub(crate) mod otlp;
#[cfg(feature = "pushgateway")]
pub(crate) mod pushgateway;
#[cfg(feature = "statsd")]
pub(crate) mod statsd;
#[cfg(any(feature = "otlp", feature = "statsd", feature = "emf"))]
mod variables;

use crate::snapshot::FamilySnapshot;
use std::{fmt, sync::Arc, time::Duration};

use crate::exporter::points::Points;

/// A protocol and the far end that speaks it.
///
/// The exporter calls it from one thread, its sender, and in this order: [`encode`](Destination::encode) until nothing is new,
/// and [`send`](Destination::send) for each payload, as often as the answers ask for. It keeps the marks up to which each series
/// was delivered; a destination needs no memory of what it sent.
///
/// A destination never sleeps, spawns or repeats: it tries once and says what came of it. The example `webhook` is one that posts
/// JSON.
///
/// ```
/// use std::time::Duration;
/// use tidegauge::{Answer, Destination, Exporter, Payload, Points, Registry};
///
/// /// Prints a line for each series that has moved.
/// struct Print;
///
/// impl Destination for Print {
///     fn name(&self) -> &str {
///         "print"
///     }
///
///     fn encode(&mut self, points: &mut Points<'_>, payload: &mut Vec<u8>) {
///         while let Some(family) = points.next_family() {
///             while let Some(point) = points.peek() {
///                 payload.extend(format!("{} {:?}\n", family.name(), point.value()).bytes());
///                 points.take();
///             }
///         }
///     }
///
///     fn send(&mut self, payload: &Payload, _timeout: Duration) -> Answer {
///         print!("{}", String::from_utf8_lossy(payload.bytes()));
///         Answer::delivered()
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let registry = Registry::new();
/// registry.counter("jobs_total", "Jobs run to their end.").register()?.inc();
/// let exporter = Exporter::new(Print).start(&registry)?;
/// let report = exporter.flush(Duration::from_secs(5))?;
/// assert!(report.delivered > 0);
/// # Ok(())
/// # }
/// ```
pub trait Destination: Send + 'static {
    /// A short name of the protocol, such as `otlp`. It names the exporter, unless that is given a name: in the labels of
    /// the `tidegauge_*` metrics, in logs, and in the names of threads.
    fn name(&self) -> &str;

    /// Where it sends to, for logs and errors, without credentials; by default nothing.
    fn address(&self) -> String {
        String::new()
    }

    /// What tells its payloads from those of another destination of this name at this address: the format, the compression; by
    /// default nothing. A payload that waits in a [spool](crate::Spool) is sent only by a destination of the same name,
    /// address and format.
    fn payload_format(&self) -> String {
        String::new()
    }

    /// What its configuration asks of the exporter; by default nothing. What the exporter is told itself wins.
    fn preferences(&self) -> Preferences {
        Preferences::default()
    }

    /// Whether it wants what a family has counted since it was last delivered, or since each series began; by default the
    /// latter. It is asked for counters and histograms, and should always say the same of one family. Gauges and up-down counters
    /// are always sent as they stand.
    fn temporality(&self, family: &FamilySnapshot) -> Temporality {
        let _ = family;
        Temporality::Cumulative
    }

    /// Puts what is new into one payload, which is empty at first. What it has put in, it [takes](Points::take); what cannot be
    /// expressed, it [refuses](Points::refuse). It may stop when the payload is full, and is called again for the rest.
    ///
    /// It must take, refuse or [leave](Points::leave) at least one point where there is one; if it does not, the exporter refuses the
    /// first one in its place. It is also called when no point is new, for [messages](Points::add_messages) of its own. If it writes
    /// nothing, nothing is sent, and what it took counts as said.
    fn encode(&mut self, points: &mut Points<'_>, payload: &mut Vec<u8>);

    /// Sends one payload, and returns before `timeout` is over; an exporter that is being shut down does not wait for longer, and says
    /// so by [`Payload::is_overdue`]. With a [spool](crate::Exporter::spool) it may be a payload that an exporter before it has encoded.
    fn send(&mut self, payload: &Payload, timeout: Duration) -> Answer;

    /// Reads credentials again, because the far end has refused them; whether they have changed. By default there are none.
    fn reload_credentials(&mut self) -> bool {
        false
    }

    /// Whether the payload that it answered for last as [provisional](Answer::provisional) is known by now not to have arrived. It is
    /// asked when somebody waits for a flush and nothing is left to be sent.
    fn late_refusal(&mut self) -> Option<Answer> {
        None
    }

    /// Drops connections that are open: they are not to be trusted any more, as after a freeze of the process.
    fn reconnect(&mut self) {}

    /// What it has done so far, for the metrics of the exporter; by default nothing.
    fn activity(&self) -> Activity {
        Activity::default()
    }
}

/// Since when a value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Temporality {
    /// Since its series began.
    Cumulative,
    /// Since the series was last delivered.
    Delta,
}

/// What a destination's configuration asks of its exporter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Preferences {
    /// From one collection to the next.
    pub interval: Option<Duration>,
    /// How long one send may take.
    pub send_timeout: Option<Duration>,
    /// How long one payload is tried before what it holds joins the next.
    pub retry_for: Option<Duration>,
    /// What the payloads of one collection are spread over; by default they are sent at once. For far ends that lose what
    /// they have no room for, without a word.
    pub spread: Option<Duration>,
    /// Whether it wants the samples of each [`Distribution`](crate::Distribution) one by one, as
    /// [`Value::Samples`](crate::Value::Samples), rather than counted in buckets; by default it does not.
    pub samples: bool,
    /// Whether each payload takes the place of the one before, as in a group of a Pushgateway; by default it does not. Then only the
    /// newest collection is worth sending: one waits at most, whatever [`Exporter::queue`](crate::Exporter::queue) says; a payload
    /// that failed is not sent again once a newer collection waits; and what is too large is rejected rather than cut in two.
    /// Series that were removed are left out, as they are from a scrape.
    ///
    /// For a destination that puts a collection into one payload, with all values [cumulative](Temporality::Cumulative).
    pub replaces: bool,
    /// With [`replaces`](Preferences::replaces): whether something of an older payload that a newer one does not have stays at the far
    /// end, as by a `POST` to a group of a Pushgateway; by default it does not. Then a [spool](crate::Spool) keeps the payloads of
    /// several runs, rather than the newest only, and nothing newer is sent before they are delivered.
    pub merges: bool,
    /// Whether the crate's own metrics, `tidegauge_*`, are left out; by default they are not.
    pub without_own_metrics: bool,
    /// Whether nothing is to be exported at all.
    pub disabled: bool,
}

/// What a destination has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Activity {
    /// Connections opened.
    pub connections: u64,
    /// Times that credentials were read again and had changed.
    pub credential_reloads: u64,
    /// Messages of its own that there was no room for.
    pub dropped_messages: u64,
}

/// What is sent at once.
pub struct Payload {
    bytes: Vec<u8>,
    id: BatchId,
    points: usize,
    attempt: u32,
    overdue: Option<Overdue>,
}

/// When a send has no time any more, although its timeout is not over: tells how much it has, once that is known.
#[derive(Clone)]
pub(crate) struct Overdue(Arc<dyn Fn() -> Option<Duration> + Send + Sync>);

impl Overdue {
    pub(crate) fn new(left: impl Fn() -> Option<Duration> + Send + Sync + 'static) -> Self {
        Overdue(Arc::new(left))
    }

    /// What is left, while the exporter ends.
    pub(crate) fn left(&self) -> Option<Duration> {
        self.0()
    }

    pub(crate) fn is_so(&self) -> bool {
        self.left().is_some_and(|left| left.is_zero())
    }
}

impl fmt::Debug for Overdue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Overdue({:?})", self.left())
    }
}

impl Payload {
    pub(crate) fn new(bytes: Vec<u8>, id: BatchId, points: usize) -> Self {
        Payload {
            bytes,
            id,
            points,
            attempt: 0,
            overdue: None,
        }
    }

    pub(crate) fn ends_with(mut self, overdue: Overdue) -> Self {
        self.overdue = Some(overdue);
        self
    }

    #[cfg(any(feature = "otlp", feature = "pushgateway", feature = "statsd"))]
    pub(crate) fn overdue(&self) -> Option<&Overdue> {
        self.overdue.as_ref()
    }

    pub(crate) fn begin_attempt(&mut self) {
        self.attempt = self.attempt.saturating_add(1);
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// What [`Destination::encode`] has written. A payload that is repeated has the same bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Names the payload: no other has its name, and a repetition has the same. A far end that knows it can leave out what it
    /// has already taken.
    pub fn id(&self) -> BatchId {
        self.id
    }

    /// How many points are in it.
    pub fn points(&self) -> usize {
        self.points
    }

    /// Whether the exporter is being shut down meanwhile and has no time for this send any more. A destination that waits for long looks at
    /// it now and then, and gives up as if its timeout were over: else what is left when the exporter ends cannot be put into its
    /// [spool](crate::Exporter::spool).
    pub fn is_overdue(&self) -> bool {
        self.overdue.as_ref().is_some_and(Overdue::is_so)
    }

    /// How often it is being sent, this time included.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Payload")
            .field("id", &self.id)
            .field("bytes", &self.bytes.len())
            .field("points", &self.points)
            .field("attempt", &self.attempt)
            .finish()
    }
}

/// The name of a payload: random in each exporter, then counted on. Displayed as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BatchId {
    pub(crate) exporter: u64,
    pub(crate) sequence: u64,
}

impl fmt::Display for BatchId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}{:016x}", self.exporter, self.sequence)
    }
}

impl fmt::Debug for BatchId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

/// What became of a payload, as far as one can know.
///
/// | answer | what the exporter does |
/// |---|---|
/// | [`delivered`](Answer::delivered) | goes on to what is new after it |
/// | [`partly_rejected`](Answer::partly_rejected) | the same; so many points are counted as rejected |
/// | [`rejected`](Answer::rejected) | the same; all points are counted as rejected |
/// | [`too_large`](Answer::too_large) | encodes half as many points at a time; a single one is rejected |
/// | [`retry`](Answer::retry) | sends the same bytes again, later |
/// | [`unclear`](Answer::unclear) | the same, and counts them as possible duplicates |
/// | [`carry_over`](Answer::carry_over) | drops the bytes; what they held joins the next payload |
/// | [`unauthorized`](Answer::unauthorized) | the same; but where new credentials are found, it tries again with them, once |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub(crate) verdict: Verdict,
    pub(crate) message: String,
    /// It holds only until the system says otherwise.
    pub(crate) is_provisional: bool,
    /// The provisional answer before it does not hold.
    pub(crate) blames_previous: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Delivered { rejected: u64 },
    Rejected,
    TooLarge,
    Retry { after: Option<Duration> },
    Unclear,
    CarryOver { unauthorized: bool },
}

impl Answer {
    fn new(verdict: Verdict, message: impl Into<String>) -> Self {
        Answer {
            verdict,
            message: message.into(),
            is_provisional: false,
            blames_previous: false,
        }
    }

    /// The far end has taken all of it.
    pub fn delivered() -> Self {
        Self::new(Verdict::Delivered { rejected: 0 }, "")
    }

    /// The far end has taken it, but for so many points, for good; with none, this is a warning. `message` is what it says.
    pub fn partly_rejected(points: u64, message: impl Into<String>) -> Self {
        Self::new(Verdict::Delivered { rejected: points }, message)
    }

    /// The far end will never take it: it blames the data.
    pub fn rejected(message: impl Into<String>) -> Self {
        Self::new(Verdict::Rejected, message)
    }

    /// It is more than the far end takes at once, and nothing of it was taken.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(Verdict::TooLarge, message)
    }

    /// Nothing of it was taken, and the same bytes may be taken later.
    pub fn retry(message: impl Into<String>) -> Self {
        Self::new(Verdict::Retry { after: None }, message)
    }

    /// With the time that the far end has asked to wait, before anything is sent again; without effect on answers other than
    /// [`retry`](Answer::retry).
    pub fn after(mut self, wait: impl Into<Option<Duration>>) -> Self {
        if let Verdict::Retry { after } = &mut self.verdict {
            *after = wait.into();
        }
        self
    }

    /// It holds until the next payload is answered for: a system that takes a datagram learns only later that nobody listens. Meant
    /// for [`delivered`](Answer::delivered).
    pub fn provisional(mut self) -> Self {
        self.is_provisional = true;
        self
    }

    /// The payload before, whose answer was [provisional](Answer::provisional), has not arrived either: what both held is encoded
    /// anew, or joins the next collection. Meant for [`retry`](Answer::retry).
    pub fn blaming_previous(mut self) -> Self {
        self.blames_previous = true;
        self
    }

    /// Nobody knows whether it was taken: the connection ended before an answer came.
    pub fn unclear(message: impl Into<String>) -> Self {
        Self::new(Verdict::Unclear, message)
    }

    /// Nothing of it was taken, and the same bytes would not be either, for a reason that lies not in the data.
    pub fn carry_over(message: impl Into<String>) -> Self {
        Self::new(Verdict::CarryOver { unauthorized: false }, message)
    }

    /// Nothing of it was taken: the credentials are refused.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(Verdict::CarryOver { unauthorized: true }, message)
    }
}
