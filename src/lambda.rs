//! When a function that is frozen between its invocations delivers what it has recorded: AWS Lambda, and whatever is like it.
//!
//! This decides whether to flush and for how long; everything else is the exporter's, which collects when it is asked to
//! and at no other time.

#[cfg(test)]
mod tests;

use crate::{
    clock::SharedClock,
    exporter::{
        Exporter, StartError,
        handle::{ExporterHandle, Flush},
        report::{FlushError, FlushReport},
    },
    registry::Registry,
    sync::Mutex,
};
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// An exporter in a function that is frozen between its invocations, such as one of [AWS
/// Lambda](https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html).
///
/// Such a process stands still from its answer to the next invocation, for milliseconds or for hours, and may be ended without a
/// further word. An interval means nothing there: so nothing is collected in the background, and a process that thaws has nothing to
/// catch up with. At the end of each invocation, before it answers, the function says
/// [`end_invocation`](Lambda::end_invocation), and what was recorded is delivered then, if it is [time to](LambdaFlush).
///
/// | setting | default |
/// |---|---|
/// | [`flush`](Lambda::flush) | at the end of every invocation |
/// | [`margin`](Lambda::margin) | 100 ms of the invocation's time are left for its answer |
/// | [`patience`](Lambda::patience) | a flush takes 2 s at most |
///
/// A flush that is not done in its time costs the invocation that time and nothing else: what could not be delivered is kept, and
/// delivered with what the next one has recorded. Connections that were open before the process stood still for more than 10 s
/// are not used again.
///
/// Of counters and histograms that are sent as increments, as [`Emf`](crate::Emf) does it and OTLP with
/// [`TemporalityPreference::Delta`](crate::TemporalityPreference::Delta), each flush has what is new, so that as many
/// flushes as there may be come to the same numbers. Many instances of a function run at once, and only increments add up among
/// them.
///
/// ```
/// # #[cfg(feature = "emf")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::{Duration, SystemTime};
/// use tidegauge::{Emf, Exporter, Lambda, LambdaFlush, Registry};
///
/// # let path = std::env::temp_dir().join(format!("tidegauge-lambda-{}.json", std::process::id()));
/// # let _ = std::fs::remove_file(&path);
/// let registry = Registry::new();
/// let orders = registry.counter("orders", "Orders taken.").register()?;
/// // In Lambda it is `Emf::stdout`.
/// let lambda = Lambda::start(Exporter::new(Emf::file("Shop", &path)?), &registry)?
///     .flush(LambdaFlush::AtMostEvery(Duration::from_secs(10)));
///
/// // The runtime says until when an invocation has to be answered: `Lambda-Runtime-Deadline-Ms`.
/// let deadline = SystemTime::now() + Duration::from_secs(3);
/// orders.inc();
/// assert!(lambda.end_invocation(deadline)?.is_some());
/// // The next one comes at once: what it records waits.
/// orders.inc();
/// assert!(lambda.end_invocation(deadline)?.is_none());
/// // The process is told to end.
/// let report = lambda.shutdown(SystemTime::now() + Duration::from_millis(500))?;
/// assert!(report.delivered > 0);
/// # std::fs::remove_file(&path)?;
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "emf"))]
/// # fn main() {}
/// ```
#[derive(Debug)]
#[must_use = "dropped, its exporter is shut down"]
pub struct Lambda {
    exporter: ExporterHandle,
    clock: SharedClock,
    flush: LambdaFlush,
    margin: Duration,
    patience: Duration,
    times: Mutex<Times>,
}

/// At the end of which invocations a [`Lambda`] delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LambdaFlush {
    /// Of every one: what was recorded is delivered before the answer, and nothing is lost with a process that is ended while it is
    /// frozen. Gauges, and all that is sent as it stands, are sent each time.
    EveryInvocation,
    /// Of the first, and of those that end this much time after the flush before, tried or done: how many points are sent is
    /// bounded, however many invocations there are. What the last ones record waits for another one, or for the end; it is lost if the process ends
    /// without a word.
    AtMostEvery(Duration),
    /// Of none: all is delivered by [`shutdown`](Lambda::shutdown). Lambda tells a process of its end only if an
    /// [extension](https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html) is registered, one within the process too,
    /// and gives it 500 ms then; a process that crashes, or takes too long, is not told.
    OnShutdown,
}

/// When what was.
#[derive(Debug)]
struct Times {
    /// The last sign of life: no freeze is between two that are near each other.
    seen: Moment,
    flushed: Option<Moment>,
}

/// A moment by both clocks. Depending on how a process is frozen, the monotonic one may stand still with it; the other one may
/// be set.
#[derive(Clone, Copy, Debug)]
struct Moment {
    monotonic: Duration,
    unix: Duration,
}

impl Moment {
    fn now(clock: &SharedClock) -> Moment {
        Moment {
            monotonic: clock.monotonic(),
            unix: clock.unix(),
        }
    }

    /// How long ago it was, by the clock that says more.
    fn until(self, now: Moment) -> Duration {
        let monotonic = now.monotonic.saturating_sub(self.monotonic);
        monotonic.max(now.unix.saturating_sub(self.unix))
    }
}

impl Lambda {
    /// Starts an exporter that collects only when it is asked to, whatever its interval is.
    ///
    /// # Errors
    ///
    /// As [`Exporter::start`].
    pub fn start(exporter: Exporter, registry: &Registry) -> Result<Lambda, StartError> {
        let clock = registry.clock().clone();
        Ok(Lambda {
            exporter: exporter.interval(NEVER).phase(false).start(registry)?,
            times: Mutex::new(Times {
                seen: Moment::now(&clock),
                flushed: None,
            }),
            clock,
            flush: LambdaFlush::EveryInvocation,
            margin: DEFAULT_MARGIN,
            patience: DEFAULT_PATIENCE,
        })
    }

    /// At the end of which invocations to deliver, by default of every one.
    pub fn flush(mut self, when: LambdaFlush) -> Self {
        self.flush = when;
        self
    }

    /// How much of an invocation's time is left for its answer, by default 100 ms.
    pub fn margin(mut self, margin: Duration) -> Self {
        self.margin = margin;
        self
    }

    /// How long the end of an invocation waits at most, however much time that has, by default 2 s: a far end that does not answer
    /// costs every invocation that flushes this much.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The work of an invocation is done, which has to be answered by `deadline`: delivers what was recorded so far, if it is time to.
    /// None if it is not.
    ///
    /// # Errors
    ///
    /// If not everything could be delivered in the time there was; what is kept is delivered later. The answer of the
    /// function should not depend on it.
    pub fn end_invocation(&self, deadline: SystemTime) -> Result<Option<FlushReport>, FlushError> {
        match self.time_to_flush(deadline) {
            None => Ok(None),
            Some(time) => self.exporter.flush(time).map(Some),
        }
    }

    /// As [`end_invocation`](Lambda::end_invocation), for async code: a future for any runtime. The flush is asked for at once,
    /// not when the future is first polled.
    pub fn end_invocation_async(&self, deadline: SystemTime) -> InvocationEnd {
        let time = self.time_to_flush(deadline);
        InvocationEnd(time.map(|time| self.exporter.flush_async(time)))
    }

    /// The process ends at `deadline`: delivers what is left, whatever [`flush`](Lambda::flush) says, and ends the exporter's
    /// threads. The [margin](Lambda::margin) is kept, [patience](Lambda::patience) has no end.
    ///
    /// # Errors
    ///
    /// If not everything could be delivered; the rest is lost with the process, unless the exporter has a
    /// [spool](Exporter::spool) in a place that outlives it.
    pub fn shutdown(&self, deadline: SystemTime) -> Result<FlushReport, FlushError> {
        self.notice(Moment::now(&self.clock));
        self.exporter.shutdown(self.remaining(deadline))
    }

    /// The exporter.
    pub fn exporter(&self) -> &ExporterHandle {
        &self.exporter
    }

    /// How long the end of an invocation may flush; none if it is not time to.
    fn time_to_flush(&self, deadline: SystemTime) -> Option<Duration> {
        let now = Moment::now(&self.clock);
        self.notice(now);
        let time = self.remaining(deadline).min(self.patience);
        let mut times = self.times.lock();
        let is_due = match self.flush {
            LambdaFlush::EveryInvocation => true,
            LambdaFlush::AtMostEvery(age) => times.flushed.is_none_or(|flushed| flushed.until(now) >= age),
            LambdaFlush::OnShutdown => false,
        };
        // Without time nothing is tried, and the next invocation may have some.
        if is_due && !time.is_zero() {
            times.flushed = Some(now);
        }
        is_due.then_some(time)
    }

    /// Notices that the process may have stood still since it was last heard of.
    fn notice(&self, now: Moment) {
        let mut times = self.times.lock();
        let seen = std::mem::replace(&mut times.seen, now);
        drop(times);
        if seen.until(now) >= FREEZE {
            self.exporter.distrust_connections();
        }
    }

    fn remaining(&self, deadline: SystemTime) -> Duration {
        let deadline = deadline.duration_since(UNIX_EPOCH).unwrap_or_default();
        deadline.saturating_sub(self.clock.unix()).saturating_sub(self.margin)
    }
}

/// The end of an invocation that is being waited for; see [`Lambda::end_invocation_async`].
#[derive(Debug)]
#[must_use = "the flush goes on, but nobody learns what came of it"]
pub struct InvocationEnd(Option<Flush>);

impl Future for InvocationEnd {
    type Output = Result<Option<FlushReport>, FlushError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            None => Poll::Ready(Ok(None)),
            Some(flush) => Pin::new(flush).poll(context).map(|result| result.map(Some)),
        }
    }
}

/// An interval that no process sees the end of.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

const DEFAULT_MARGIN: Duration = Duration::from_millis(100);
const DEFAULT_PATIENCE: Duration = Duration::from_secs(2);

/// How long a connection is trusted that nobody has used. Far ends and what is between keep them open for longer.
const FREEZE: Duration = Duration::from_secs(10);
