//! The other way out: collections that are pushed, in the background, again and again until they have arrived.
//!
//! ```text
//!  ticker ── snapshot ──▶ queue ──▶ sender ── points ──▶ destination ──▶ far end
//!  waits for the time      bounded   waits for answers   encodes, sends once
//! ```
//!
//! Two threads: one collects and never sends, one sends and never collects. Nothing that a far end does can delay a
//! collection, another exporter, or a thread that records.
//!
//! What is queued are snapshots, and increments are computed against what was acknowledged ([`marks`]) when they are
//! sent. So a snapshot that is dropped, or a payload that failed, takes nothing with it: the next one has all of it.

pub(crate) mod dead_letter;
mod flight;
pub(crate) mod handle;
mod journal;
mod marks;
mod pace;
pub(crate) mod points;
pub(crate) mod queue;
pub(crate) mod random;
mod removals;
pub(crate) mod report;
pub(crate) mod retry;
mod sampling;
pub(crate) mod schedule;
pub(crate) mod sender;
pub(crate) mod shutdown;
pub(crate) mod state;
mod telemetry;
#[cfg(test)]
mod tests;
mod ticker;
mod work;

use crate::{
    departure::Inbox,
    destination::{Destination, Preferences},
    ending,
    error::RegisterError,
    registry::Registry,
    scrape::Filter,
    spool::{Spool, Store},
};
use dead_letter::{DeadLetter, DeadLetters};
use handle::ExporterHandle;
use queue::{DropPolicy, Queue};
use random::Random;
use retry::{Retry, RetryPolicy};
use schedule::Schedule;
use sender::{Sender, SenderSettings};
use state::Shared;
use std::{error::Error, fmt, io, sync::Arc, time::Duration};
use telemetry::Telemetry;
use ticker::Ticker;

/// Pushes a registry's metrics to a destination, once it is started.
///
/// | setting | default |
/// |---|---|
/// | [`interval`](Exporter::interval) | what the destination's configuration asks for, else 60 s |
/// | [`send_timeout`](Exporter::send_timeout) | what the destination's configuration asks for, else 10 s |
/// | [`spread`](Exporter::spread) | what the destination's configuration asks for, else none |
/// | [`jitter`](Exporter::jitter), [`phase`](Exporter::phase) | a tenth of the interval; a random one |
/// | [`queue`](Exporter::queue), [`drop_policy`](Exporter::drop_policy) | 64 collections, 16 MiB; the oldest goes |
/// | [`retry`](Exporter::retry) | see [`RetryPolicy`] |
/// | [`drop_deadline`](Exporter::drop_deadline) | 2 s |
/// | [`flush_at_exit`](Exporter::flush_at_exit) | what is not dropped delivers when the process exits |
///
/// ```
/// # #[cfg(feature = "otlp")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use tidegauge::{Exporter, Otlp, Registry};
///
/// let registry = Registry::new();
/// let exporter = Exporter::new(Otlp::new("http://127.0.0.1:4318")?)
///     .interval(Duration::from_secs(10))
///     .start(&registry)?;
/// assert_eq!(exporter.name(), "otlp");
/// # drop(exporter.shutdown(Duration::ZERO));
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "otlp"))]
/// # fn main() {}
/// ```
#[must_use = "nothing is exported before `start`"]
pub struct Exporter {
    destination: Box<dyn Destination>,
    name: Option<String>,
    interval: Option<Duration>,
    send_timeout: Option<Duration>,
    spread: Option<Duration>,
    jitter: f64,
    phase: bool,
    queue: usize,
    queue_bytes: usize,
    drop_policy: DropPolicy,
    retry: RetryPolicy,
    filter: Option<Filter>,
    dead_letters: Option<DeadLetters>,
    drop_deadline: Duration,
    spool: Option<Spool>,
    flush_at_exit: bool,
    seed: Option<u64>,
}

const DEFAULT_INTERVAL: Duration = Duration::from_secs(60);
const DEFAULT_SEND_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_RETRY_FOR: Duration = Duration::from_secs(30);
const DEFAULT_QUEUE: usize = 64;
const DEFAULT_QUEUE_BYTES: usize = 16 << 20;
const DEFAULT_DROP_DEADLINE: Duration = Duration::from_secs(2);
const DEFAULT_JITTER: f64 = 0.1;
/// How many collections of a backlog are sent in the time in which one is made.
const PACE: u32 = 4;

impl Exporter {
    /// An exporter to a destination, with every setting at its default.
    pub fn new(destination: impl Destination) -> Self {
        Exporter {
            destination: Box::new(destination),
            name: None,
            interval: None,
            send_timeout: None,
            spread: None,
            jitter: DEFAULT_JITTER,
            phase: true,
            queue: DEFAULT_QUEUE,
            queue_bytes: DEFAULT_QUEUE_BYTES,
            drop_policy: DropPolicy::default(),
            retry: RetryPolicy::new(),
            filter: None,
            dead_letters: None,
            drop_deadline: DEFAULT_DROP_DEADLINE,
            spool: None,
            flush_at_exit: true,
            seed: None,
        }
    }

    /// What the exporter is called in metrics and logs; by default as its destination, with a number behind it if another
    /// exporter of the registry is called so.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// From one collection to the next, by default what the destination's configuration asks for, or 60 s.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = Some(interval);
        self
    }

    /// How long one send may take, by default what the destination's configuration asks for, or 10 s.
    pub fn send_timeout(mut self, timeout: Duration) -> Self {
        self.send_timeout = Some(timeout);
        self
    }

    /// What the payloads of one collection are spread over, by default what the destination's configuration asks for, or nothing:
    /// they follow each other at once; half of the interval at most. A few payloads are at most 10 ms apart, and while somebody waits for
    /// a flush all are closer.
    pub fn spread(mut self, time: Duration) -> Self {
        self.spread = Some(time);
        self
    }

    /// How far a collection may be behind its place, as a part of the interval from 0 to 1, anew each time; by default 0.1.
    ///
    /// With 0, processes whose phases happen to be near each other meet at the far end every time.
    pub fn jitter(mut self, part: f64) -> Self {
        self.jitter = part;
        self
    }

    /// Whether the first collection comes at a random moment of the first interval, which then is the exporter's place in every
    /// interval; by default it does.
    ///
    /// Without, it comes at the end of the first interval: processes that are started together push together, every time,
    /// and the far end gets in a moment what it could have had spread over the interval.
    pub fn phase(mut self, random: bool) -> Self {
        self.phase = random;
        self
    }

    /// How many collections may wait to be sent, and how many bytes of memory their values may take together; by default 64 and
    /// 16 MiB. The newest is kept however large it is.
    ///
    /// A destination each of whose payloads [takes the place of the one before](Preferences::replaces) has one waiting at most.
    ///
    /// What does not fit is dropped and counted. No count is lost with it: later collections have it, so that only what lies between
    /// them in time, and the values of gauges there, cannot be told any more.
    pub fn queue(mut self, collections: usize, bytes: usize) -> Self {
        (self.queue, self.queue_bytes) = (collections, bytes);
        self
    }

    /// Which collection goes when the queue is full, by default the oldest.
    pub fn drop_policy(mut self, policy: DropPolicy) -> Self {
        self.drop_policy = policy;
        self
    }

    /// How what failed is repeated.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Which families and series are exported, by default all.
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Calls `keep` with what the far end refuses for good, on the sending thread; by default it is counted and logged only. If
    /// the callback panics, that is logged.
    pub fn dead_letters(mut self, keep: impl Fn(&DeadLetter<'_>) + Send + Sync + 'static) -> Self {
        self.dead_letters = Some(Arc::new(keep));
        self
    }

    /// How long dropping the handle may take to deliver what there is, by default 2 s: the deadline of a
    /// [shutdown](ExporterHandle::shutdown), which says what it is with a spool.
    pub fn drop_deadline(mut self, deadline: Duration) -> Self {
        self.drop_deadline = deadline;
        self
    }

    /// Keeps what cannot be delivered by the end in a directory, and delivers what is there before anything else; by default nothing
    /// is kept.
    ///
    /// When the exporter is [shut down](ExporterHandle::shutdown) or dropped, what is not delivered shortly before the deadline is put
    /// there: payloads of which nobody knows whether they arrived as they are, the rest as it would be sent next. Any exporter
    /// that has the directory, of this program or another, and a destination of the same name, address and
    /// [format](Destination::payload_format), delivers it: at its start, and before each collection. See [`Spool`] for what
    /// the directory keeps, and how often something may arrive twice.
    ///
    /// A send that hangs at the end, whatever it waits for, is given up in time for that: those of this crate see to it, a destination of
    /// your own has to [look](crate::Payload::is_overdue). What no look ends is a pipe that nobody reads (EMF), how a SOCKS proxy
    /// answers, and, on other systems than Unix, how a connection is made: there keep the [send timeout](Exporter::send_timeout) below three
    /// quarters of the deadline, else what could not be put there in time is lost.
    ///
    /// What the far end refuses of a spool is counted as rejected, without a call of [`dead_letters`](Exporter::dead_letters).
    ///
    /// A spool that cannot be used costs nothing but itself: that is logged, and counted in `tidegauge_exporter_spool_errors_total`.
    pub fn spool(mut self, spool: Spool) -> Self {
        self.spool = Some(spool);
        self
    }

    /// Whether the exporter delivers what there is when the process exits and the handle was not dropped, by default it does, on Unix.
    ///
    /// That is so when `main` returns while the handle is in a static, or in a thread that goes on, and when somebody calls
    /// [`std::process::exit`], which drops nothing. It takes the [drop deadline](Exporter::drop_deadline) at most, and what could
    /// not be delivered is said in the log as an error, or on stderr where there is no logger. The exit status stays as it was.
    ///
    /// Not covered are the ends of a process that tell nobody: `abort`, `_exit`, a panic that aborts, SIGKILL, every other signal that
    /// ends the process (a [`Job`](crate::Job) can [end on signals](crate::Job::end_on_signals)), and any exit on other systems. The child
    /// of a fork delivers nothing of its parent's when it exits. An exporter one of whose own threads calls `exit`, in a closure
    /// that it collects from or in a destination, cannot deliver any more, and says so.
    pub fn flush_at_exit(mut self, flush: bool) -> Self {
        self.flush_at_exit = flush;
        self
    }

    /// What chance is made of, so that a test can repeat it.
    #[cfg(test)]
    pub(crate) fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Starts to export a registry, on two threads of its own, until the handle is shut down or dropped.
    ///
    /// # Errors
    ///
    /// If a setting cannot be, if a running exporter of the registry has the name, if a metric of the application has one of
    /// the exporter's own names, if the destination [wants samples](Preferences::samples) and four exporters of the registry have them
    /// already, or if the system gives no threads.
    pub fn start(self, registry: &Registry) -> Result<ExporterHandle, StartError> {
        let (drop_deadline, flush_at_exit) = (self.drop_deadline, self.flush_at_exit);
        let Some(parts) = self.assemble(registry)? else {
            return Ok(ExporterHandle::disabled(registry));
        };
        let handle = ExporterHandle::start(parts, drop_deadline).map_err(StartError::threads)?;
        if let Some(shared) = handle.shared().filter(|_| flush_at_exit) {
            ending::list_exporter(shared, drop_deadline);
        }
        Ok(handle)
    }

    /// The parts, without threads; none if the destination is disabled.
    fn assemble(self, registry: &Registry) -> Result<Option<Parts>, StartError> {
        let Preferences {
            interval,
            send_timeout,
            retry_for,
            spread,
            samples,
            replaces,
            merges,
            without_own_metrics,
            disabled,
        } = self.destination.preferences();
        let interval = self.interval.or(interval).unwrap_or(DEFAULT_INTERVAL);
        if interval.is_zero() {
            return Err(StartError::setting(
                "interval: must not be zero; a second is short already",
            ));
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(StartError::setting(format!(
                "jitter: {} is not a part of the interval; take 0 to 1",
                self.jitter
            )));
        }
        if self.spool.as_ref().is_some_and(Spool::is_nowhere) {
            return Err(StartError::setting(
                "spool: its path must not be empty; name a directory",
            ));
        }
        if disabled {
            return Ok(None);
        }
        let address = self.destination.address();
        let store = self.spool.as_ref().map(|spool| {
            let format = self.destination.payload_format();
            let key = format!("{}\n{address}\n{format}", self.destination.name());
            Store::new(spool.clone(), &key, replaces && !merges, registry.clock().clone())
        });
        let own = registry.own_metrics();
        let wanted = self.name.as_deref().unwrap_or_else(|| self.destination.name());
        let Some(name) = own.claim_name(wanted, self.name.is_some()) else {
            return Err(StartError::setting(format!(
                "name: another exporter of the registry is called {wanted:?}; choose another"
            )));
        };
        let telemetry = Telemetry::register(registry, &name).map_err(|error| {
            own.give_up(&name);
            StartError::metrics(error)
        })?;
        let samples = match samples {
            false => None,
            true => {
                let reader = registry.attach_samples();
                if reader.is_none() {
                    own.give_up(&name);
                    return Err(StartError::setting(
                        "destination: wants samples, and as many exporters of the registry as can have them do; end one of these",
                    ));
                }
                reader
            }
        };
        let mut random = self.seed.map_or_else(Random::from_process, Random::new);
        let retry_for = self.retry.retry_for.or(retry_for).unwrap_or(DEFAULT_RETRY_FOR);
        let retry = Retry::new(self.retry, retry_for, Random::new(random.next()));
        let clock = registry.clock().clone();
        let inbox: Arc<Inbox> = registry.attach();
        // What waits is of no use once there is something newer.
        let (queue, drop_policy) = match replaces {
            true => (1, DropPolicy::Oldest),
            false => (self.queue, self.drop_policy),
        };
        let shared = Arc::new(Shared::new(
            name,
            address,
            registry.clone(),
            clock.clone(),
            telemetry,
            inbox,
            Queue::new(queue, self.queue_bytes, drop_policy),
            (queue.max(1), self.queue_bytes),
            self.spool.is_some(),
            crate::platform::generation(),
        ));
        own.add(&shared);
        let id = random.next();
        let schedule = Schedule::new(interval, self.phase, self.jitter, clock.monotonic(), random);
        Ok(Some(Parts {
            ticker: Ticker::new(shared.clone(), schedule, self.filter.clone(), without_own_metrics),
            sender: Sender::new(
                shared.clone(),
                self.destination,
                SenderSettings {
                    filter: self.filter,
                    dead_letters: self.dead_letters,
                    samples,
                    spool: store,
                    replaces,
                    merges,
                    retry,
                    send_timeout: self.send_timeout.or(send_timeout).unwrap_or(DEFAULT_SEND_TIMEOUT),
                    backlog_pause: interval / PACE,
                    // So that one collection is sent before the next.
                    spread: self.spread.or(spread).map(|spread| spread.min(interval / 2)),
                    id,
                },
            ),
            shared,
        }))
    }
}

/// An exporter that is ready to run.
pub(crate) struct Parts {
    pub(crate) ticker: Ticker,
    pub(crate) sender: Sender,
    pub(crate) shared: Arc<Shared>,
}

impl fmt::Debug for Exporter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Exporter")
            .field("name", &self.name.as_deref().unwrap_or_else(|| self.destination.name()))
            .field("address", &self.destination.address())
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

/// Why an exporter could not be started.
#[derive(Debug)]
pub struct StartError(Cause);

#[derive(Debug)]
enum Cause {
    Setting(String),
    Metrics(RegisterError),
    Threads(io::Error),
}

impl StartError {
    fn setting(text: impl Into<String>) -> Self {
        StartError(Cause::Setting(text.into()))
    }

    fn metrics(error: RegisterError) -> Self {
        StartError(Cause::Metrics(error))
    }

    fn threads(error: io::Error) -> Self {
        StartError(Cause::Threads(error))
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Cause::Setting(text) => write!(formatter, "exporter's {text}"),
            Cause::Metrics(_) => {
                formatter.write_str("an exporter's own metrics cannot be registered; free their names")
            }
            Cause::Threads(_) => formatter.write_str("the system gives no thread to an exporter"),
        }
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0 {
            Cause::Setting(_) => None,
            Cause::Metrics(error) => Some(error),
            Cause::Threads(error) => Some(error),
        }
    }
}
