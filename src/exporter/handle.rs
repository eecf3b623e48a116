//! What the application holds of a running exporter, and the shells of its threads.

use super::{
    Parts,
    report::{ExporterStatistics, FlushError, FlushFailure, FlushReport},
    sender::{Next, Sender},
    shutdown::{Pending, ShuttingDown, wait_for_all},
    state::{Flushing, Shared},
    ticker::Ticker,
};
use crate::registry::Registry;
use std::{
    cell::Cell,
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

/// A running exporter, made by [`Exporter::start`](crate::Exporter::start). Dropping it delivers what there is, within its
/// [drop deadline](crate::Exporter::drop_deadline), and ends its threads. If it is never dropped, it delivers
/// [when the process exits](crate::Exporter::flush_at_exit).
#[must_use = "dropped, it is shut down"]
pub struct ExporterHandle {
    /// None if its destination is disabled.
    shared: Option<Arc<Shared>>,
    drop_deadline: Duration,
    registry: Registry,
}

impl ExporterHandle {
    pub(crate) fn disabled(registry: &Registry) -> Self {
        ExporterHandle {
            shared: None,
            drop_deadline: Duration::ZERO,
            registry: registry.clone(),
        }
    }

    pub(crate) fn start(parts: Parts, drop_deadline: Duration) -> io::Result<Self> {
        let Parts { ticker, sender, shared } = parts;
        // No thread can have such a name.
        let name = shared.name.replace('\0', "");
        let running = Running::begin(&shared);
        let sending = thread::Builder::new().name(format!("{name}-send"));
        let sending = sending.spawn(move || send(running, sender));
        let sending = sending.inspect_err(|_| shared.stop())?;
        shared.with(|state| state.sender.thread = Some(sending.thread().clone()));
        let running = Running::begin(&shared);
        let ticking = thread::Builder::new().name(format!("{name}-tick"));
        let ticking = ticking.spawn(move || tick(running, ticker));
        let ticking = ticking.inspect_err(|_| shared.stop())?;
        shared.with(|state| state.ticker.thread = Some(ticking.thread().clone()));
        // What was woken before the threads were known is looked at now.
        shared.wake_sender();
        shared.wake_ticker();
        Ok(ExporterHandle {
            registry: shared.registry.clone(),
            shared: Some(shared),
            drop_deadline,
        })
    }

    /// The exporter's name, as in the label `exporter` of its metrics; empty if its destination is disabled.
    pub fn name(&self) -> &str {
        self.shared.as_ref().map_or("", |shared| &shared.name)
    }

    /// Collects and delivers everything that was recorded before the call, and waits for it, up to `deadline`.
    ///
    /// Waits of the exporter's own, such as for the next try, are cut short; that of a far end that has asked for time is not: if it
    /// lasts longer than the deadline, the flush returns at once.
    ///
    /// # Errors
    ///
    /// If not everything was delivered. The error says what was, what is kept and will be tried again, and what is lost.
    pub fn flush(&self, deadline: Duration) -> Result<FlushReport, FlushError> {
        let Some(shared) = self.usable()? else {
            return Ok(FlushReport::default());
        };
        wait_for_flush(shared, deadline)
    }

    /// As [`flush`](ExporterHandle::flush), for async code: a future for any runtime. It is asked for at once, not when the
    /// future is first polled, and the future owns nothing of the handle.
    pub fn flush_async(&self, deadline: Duration) -> Flush {
        match self.usable() {
            Err(error) => Flush(FlushState::Ready(Some(Err(error)))),
            Ok(None) => Flush(FlushState::Ready(Some(Ok(FlushReport::default())))),
            Ok(Some(shared)) => Flush(FlushState::Asked {
                id: shared.request_flush(deadline),
                shared: shared.clone(),
            }),
        }
    }

    /// Delivers what there is and ends the exporter's threads, within `deadline`. A send that hangs is left to itself, and its points are
    /// reported as unclear.
    ///
    /// With a [spool](crate::Exporter::spool), the last quarter of the time, 1 s at most, is left for what has to be put there. The deadline is
    /// the far end's: where it is shorter than 250 ms, the disk may take until then. One of zero delivers nothing, and keeps everything
    /// that was recorded; without a spool all of that is lost.
    ///
    /// # Errors
    ///
    /// If not everything was delivered. What was put into the spool is [delivered later](FlushReport::spooled); what else is still here is
    /// lost with the exporter. A further call, or one after a fork, only says so.
    pub fn shutdown(&self, deadline: Duration) -> Result<FlushReport, FlushError> {
        let Some(shared) = self.usable()? else {
            return Ok(FlushReport::default());
        };
        let mut ending = Waiting {
            shutdown: ShuttingDown::begin(shared, deadline, None)?,
            result: None,
        };
        wait_for_all(std::slice::from_mut(&mut ending));
        ending.result.expect("it was waited for")
    }

    /// What the exporter has done so far.
    pub fn stats(&self) -> ExporterStatistics {
        self.shared
            .as_ref()
            .map(|shared| statistics(shared))
            .unwrap_or_default()
    }

    /// The registry that is exported.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// What it shares with its threads; none if its destination is disabled.
    pub(crate) fn shared(&self) -> Option<&Arc<Shared>> {
        self.shared.as_ref()
    }

    /// Ends it without delivering anything: it was started for something that does not happen.
    pub(crate) fn abandon(&self) {
        if let Ok(Some(shared)) = self.usable() {
            shared.with(|state| state.stopping = Some(Duration::ZERO));
            shared.stop();
        }
    }

    /// The process may have stood still: what is sent next goes over a new connection.
    pub(crate) fn distrust_connections(&self) {
        if let Some(shared) = self.shared.as_ref().filter(|shared| shared.is_of_this_process()) {
            shared.with(|state| state.thawed = true);
        }
    }

    /// What can be asked anything: not after a fork, when the threads and perhaps their locks belong to another process.
    fn usable(&self) -> Result<Option<&Arc<Shared>>, FlushError> {
        let Some(shared) = &self.shared else {
            return Ok(None);
        };
        if !shared.is_of_this_process() {
            return Err(shared.failure(FlushFailure::Forked));
        }
        if shared.with(|state| state.stopping.is_some()) {
            return Err(shared.failure(FlushFailure::Stopped));
        }
        Ok(Some(shared))
    }
}

impl Drop for ExporterHandle {
    fn drop(&mut self) {
        if let Ok(Some(_)) = self.usable()
            && let Err(error) = self.shutdown(self.drop_deadline)
        {
            log::warn!("{error}");
        }
    }
}

impl fmt::Debug for ExporterHandle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ExporterHandle")
            .field("name", &self.name())
            .field("statistics", &self.stats())
            .finish()
    }
}

/// A flush that is being waited for; see [`ExporterHandle::flush_async`].
#[must_use = "the flush goes on, but nobody learns what came of it"]
pub struct Flush(FlushState);

enum FlushState {
    Asked { id: u64, shared: Arc<Shared> },
    Ready(Option<Result<FlushReport, FlushError>>),
}

impl Future for Flush {
    type Output = Result<FlushReport, FlushError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            FlushState::Ready(result) => Poll::Ready(result.take().expect("a future is not polled after its end")),
            FlushState::Asked { id, shared } => match shared.poll_flush(*id, context.waker()) {
                Flushing::Pending => Poll::Pending,
                Flushing::Done(result) => {
                    shared.forget_flush(*id);
                    self.0 = FlushState::Ready(None);
                    Poll::Ready(result)
                }
            },
        }
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        if let FlushState::Asked { id, shared } = &self.0
            && shared.is_of_this_process()
        {
            shared.forget_flush(*id);
        }
    }
}

impl fmt::Debug for Flush {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Flush")
    }
}

/// Wakes a thread that waits for anything.
struct ThreadWaker(Thread);

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn this_thread() -> Waker {
    Arc::new(ThreadWaker(thread::current())).into()
}

/// Waits until it is woken or the clock says so much; earlier now and then.
fn park(shared: &Shared, until: Duration) {
    let now = shared.clock.monotonic();
    if until > now {
        thread::park_timeout(until - now);
    }
}

/// What an exporter has done so far.
pub(crate) fn statistics(shared: &Shared) -> ExporterStatistics {
    let now = shared.clock.monotonic();
    let telemetry = &shared.telemetry;
    let of_telemetry = ExporterStatistics {
        delivered_points: telemetry.points.delivered.get(),
        delivered_payloads: telemetry.payloads.delivered.get(),
        retried_points: telemetry.points.retried.get(),
        rejected_points: telemetry.points.rejected.get(),
        carried_over_points: telemetry.points.carried_over.get(),
        possible_duplicate_points: telemetry.points.possible_duplicate.get(),
        dropped_queue_full_points: telemetry.dropped_points.queue_full.get(),
        dropped_queue_bytes_points: telemetry.dropped_points.queue_bytes.get(),
        dropped_removed_series_points: telemetry.dropped_points.removed_series.get(),
        dropped_superseded_points: telemetry.dropped_points.superseded.get(),
        dropped_samples: telemetry.dropped_points.samples.get(),
        dropped_messages: telemetry.dropped_points.message_queue.get(),
        dropped_spool_full_points: telemetry.dropped_points.spool_full.get(),
        dropped_spool_age_points: telemetry.dropped_points.spool_age.get(),
        spooled_points: telemetry.spooled_points.stored.get(),
        delivered_spooled_points: telemetry.spooled_points.delivered.get(),
        spool_files_set_aside: telemetry.spool_set_aside.get(),
        spool_errors: telemetry.spool_errors.get(),
        dead_letters: telemetry.dead_letters.get(),
        connections: telemetry.connections.get(),
        credential_reloads: telemetry.credential_reloads.get(),
        ..ExporterStatistics::default()
    };
    shared.with(|state| ExporterStatistics {
        collections: state.progress.collections,
        queued_collections: state.queue.len() as u64,
        queued_bytes: state.queue.bytes() as u64,
        oldest_undelivered: state.progress.undelivered_since.map(|since| now.saturating_sub(since)),
        last_success: state.progress.last_success,
        ..of_telemetry
    })
}

fn wait_for_flush(shared: &Arc<Shared>, deadline: Duration) -> Result<FlushReport, FlushError> {
    let waker = this_thread();
    shared.clock.wake_on_change(&waker);
    let until = shared.clock.monotonic().saturating_add(deadline);
    let id = shared.request_flush(deadline);
    loop {
        if let Flushing::Done(result) = shared.poll_flush(id, &waker) {
            shared.forget_flush(id);
            return result;
        }
        park(shared, until);
    }
}

/// A shutdown, and what came of it.
struct Waiting {
    shutdown: ShuttingDown,
    result: Option<Result<FlushReport, FlushError>>,
}

impl Pending for Waiting {
    fn poll(&mut self, waker: &Waker) -> Poll<()> {
        self.shutdown
            .poll_result(waker)
            .map(|result| self.result = Some(result))
    }

    fn remaining(&self) -> Duration {
        self.shutdown.remaining()
    }
}

/// Says when a thread has ended, however it does.
struct Running(Arc<Shared>);

impl Running {
    fn begin(shared: &Arc<Shared>) -> Self {
        shared.with(|state| state.running += 1);
        Running(shared.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if thread::panicking() {
            // Everything of the application's that could is called where its panics are caught, but for its clock and its
            // wakers. One side without the other is of no use, and nobody is to wait for it.
            log::error!("exporter {:?}: panicked, and ends", self.0.name);
            self.0.stop();
        }
        let ended = self.0.with(|state| {
            state.running -= 1;
            state.ended.clone()
        });
        ended.into_iter().for_each(Waker::wake);
    }
}

// Const and without a destructor, so that it can be read while the thread ends.
thread_local! {
    /// The exporter that this thread belongs to, by its address; 0 if it does to none.
    static EXPORTER: Cell<usize> = const { Cell::new(0) };
}

/// Tells an exporter apart whose thread this is.
#[cfg(unix)]
pub(crate) fn exporter_of_this_thread() -> Option<usize> {
    Some(EXPORTER.get()).filter(|exporter| *exporter != 0)
}

// The last parameter is dropped first: who waits for an end waits for that of the destination too.

fn tick(running: Running, mut ticker: Ticker) {
    let shared = &running.0;
    EXPORTER.set(Arc::as_ptr(shared) as usize);
    shared.clock.wake_on_change(&this_thread());
    while let Some(until) = ticker.step() {
        if !shared.take_woken(|state| &mut state.ticker) {
            park(shared, until);
        }
    }
}

fn send(running: Running, mut sender: Sender) {
    let shared = &running.0;
    EXPORTER.set(Arc::as_ptr(shared) as usize);
    shared.clock.wake_on_change(&this_thread());
    loop {
        match sender.step() {
            Next::Again => {}
            Next::Wait(until) => {
                if !shared.take_woken(|state| &mut state.sender) {
                    park(shared, until.unwrap_or(Duration::MAX));
                }
            }
            Next::Stop => return,
        }
    }
}
