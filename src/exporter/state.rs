//! What an exporter's threads and its handle have in common.
//!
//! The lock is held for moments only: never while something is collected, encoded or sent, and never while a waker or a thread
//! of somebody else is called.

use super::{
    queue::{DropReason, Dropped, Queue},
    report::{FlushError, FlushFailure, FlushReport},
    telemetry::Telemetry,
    work::Batch,
};
use crate::{clock::SharedClock, departure::Inbox, registry::Registry, sync::Mutex};
use std::{sync::Arc, task::Waker, thread::Thread, time::Duration};

/// Shared by the ticker, the sender, the handle and futures.
pub(crate) struct Shared {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) registry: Registry,
    pub(crate) clock: SharedClock,
    pub(crate) telemetry: Telemetry,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) queue_limits: (usize, usize),
    pub(crate) has_spool: bool,
    /// Of the process that started it; see `platform`.
    pub(crate) generation: u64,
    state: Mutex<State>,
}

/// What changes.
pub(crate) struct State {
    pub(crate) queue: Queue,
    pub(crate) progress: Progress,
    flushes: Vec<FlushRequest>,
    next_flush: u64,
    /// When the exporter is to have ended.
    pub(crate) stopping: Option<Duration>,
    /// When it stops to send, which is earlier if what is left is put into a spool.
    pub(crate) sending_until: Option<Duration>,
    /// The flush that a shutdown asked for, until there is a collection that has all of it: what is put into a spool is to have that.
    pub(crate) uncollected: Option<u64>,
    /// Threads leave at their next step.
    pub(crate) stop: bool,
    pub(crate) ticker: Worker,
    pub(crate) sender: Worker,
    /// Threads that have not ended.
    pub(crate) running: usize,
    /// Who waits for `running` to come to nothing.
    pub(crate) ended: Vec<Waker>,
    /// So many points were put into the spool at the end, and nothing else is left; none if something may be.
    pub(crate) spooled: Option<u64>,
    /// The process stood still: connections are not to be trusted.
    pub(crate) thawed: bool,
}

/// A thread that waits.
#[derive(Default)]
pub(crate) struct Worker {
    pub(crate) thread: Option<Thread>,
    /// It is to look at the state again before it waits. That it is unparked does not say so for sure: while it runs what the
    /// application has given it, a collector or a send, that may wait for things of its own and be what is unparked.
    pub(crate) woken: bool,
}

/// How far the sender is.
#[derive(Default)]
pub(crate) struct Progress {
    /// All collections up to this one are through, whatever became of them.
    pub(crate) finished: u64,
    /// The collection that is being sent, or was last.
    pub(crate) working: u64,
    /// Points of the collection that is being sent which have had no answer.
    pub(crate) left: u64,
    /// Points that were carried over, of the last collection that is through.
    pub(crate) carried: u64,
    /// The same of the one that is being sent.
    pub(crate) carrying: u64,
    /// Points in payloads of which nobody knows whether they arrived.
    pub(crate) parked: u64,
    /// Points in the payload that is being sent at this moment, or that waits for its next try after an unclear answer.
    pub(crate) in_flight: u64,
    /// Until when the far end has asked to be left alone.
    pub(crate) asked_until: Option<Duration>,
    pub(crate) last_error: Option<Arc<str>>,
    /// Collections made.
    pub(crate) collections: u64,
    /// When the far end last took something, since the Unix epoch.
    pub(crate) last_success: Option<Duration>,
    /// When the oldest point that has not been delivered was collected, by the monotonic clock.
    pub(crate) undelivered_since: Option<Duration>,
}

/// Counts at one moment, to tell what a flush came to.
#[derive(Clone, Copy, Default)]
struct Totals {
    delivered: u64,
    rejected: u64,
    dropped: u64,
}

/// Somebody who waits until what there was is delivered.
struct FlushRequest {
    id: u64,
    began: Duration,
    deadline: Duration,
    before: Totals,
    /// The collection that has all there was; none before it is made.
    sequence: Option<u64>,
    /// Whether the sender has been told not to wait for its own sake.
    hurried: bool,
    waker: Option<Waker>,
    forgotten: bool,
    outcome: Option<Result<(), FlushFailure>>,
}

/// What a flush request is at.
pub(crate) enum Flushing {
    Pending,
    Done(Result<FlushReport, FlushError>),
}

impl Shared {
    #[allow(clippy::too_many_arguments)] // made in one place
    pub(crate) fn new(
        name: String,
        address: String,
        registry: Registry,
        clock: SharedClock,
        telemetry: Telemetry,
        inbox: Arc<Inbox>,
        queue: Queue,
        queue_limits: (usize, usize),
        has_spool: bool,
        generation: u64,
    ) -> Self {
        Shared {
            name,
            address,
            registry,
            clock,
            telemetry,
            inbox,
            queue_limits,
            has_spool,
            generation,
            state: Mutex::new(State {
                queue,
                progress: Progress::default(),
                flushes: Vec::new(),
                next_flush: 0,
                stopping: None,
                sending_until: None,
                uncollected: None,
                spooled: None,
                stop: false,
                ticker: Worker::default(),
                sender: Worker::default(),
                running: 0,
                ended: Vec::new(),
                thawed: false,
            }),
        }
    }

    /// How long there is still something to be sent, if it is being shut down.
    pub(crate) fn left_to_send(&self) -> Option<Duration> {
        let until = self.with(|state| state.sending_until)?;
        Some(until.saturating_sub(self.clock.monotonic()))
    }

    /// Has the exporter collect for this flush though it may be over before that.
    pub(crate) fn collect_at_the_end(&self, flush: u64) {
        self.with(|state| {
            let request = state.flushes.iter().find(|request| request.id == flush);
            let is_collected = request.is_some_and(|request| request.sequence.is_some());
            state.uncollected = (!is_collected).then_some(flush);
        });
    }

    /// Until when the last collection is waited for, if it is not made yet. Half of the time that is left for the spool is the disk's.
    pub(crate) fn last_collection_until(&self) -> Option<Duration> {
        self.with(|state| {
            state.uncollected?;
            let (sending, stopping) = (state.sending_until?, state.stopping?);
            Some(sending + stopping.saturating_sub(sending) / 2)
        })
    }

    /// Whether its threads are threads of this process, which may be a fork.
    pub(crate) fn is_of_this_process(&self) -> bool {
        self.generation == crate::platform::generation()
    }

    /// Looks at the state, or changes it.
    pub(crate) fn with<R>(&self, look: impl FnOnce(&mut State) -> R) -> R {
        look(&mut self.state.lock())
    }

    pub(crate) fn wake_ticker(&self) {
        self.wake(|state| &mut state.ticker);
    }

    pub(crate) fn wake_sender(&self) {
        self.wake(|state| &mut state.sender);
    }

    fn wake(&self, worker: impl FnOnce(&mut State) -> &mut Worker) {
        let thread = self.with(|state| {
            let worker = worker(state);
            worker.woken = true;
            worker.thread.clone()
        });
        if let Some(thread) = thread {
            thread.unpark();
        }
    }

    /// Whether a thread was woken since it last asked.
    pub(crate) fn take_woken(&self, worker: impl FnOnce(&mut State) -> &mut Worker) -> bool {
        self.with(|state| std::mem::take(&mut worker(state).woken))
    }

    /// Whether it was shut down and its threads have ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.with(|state| state.stop && state.running == 0)
    }

    /// Asks for everything there is to be delivered; the request is to be [polled](Shared::poll_flush) and
    /// [forgotten](Shared::forget_flush).
    pub(crate) fn request_flush(&self, deadline: Duration) -> u64 {
        let before = self.totals();
        let now = self.clock.monotonic();
        let id = self.with(|state| {
            state.next_flush += 1;
            state.flushes.push(FlushRequest {
                id: state.next_flush,
                began: now,
                deadline: now.saturating_add(deadline),
                before,
                sequence: None,
                hurried: false,
                waker: None,
                forgotten: false,
                outcome: None,
            });
            state.next_flush
        });
        self.wake_ticker();
        id
    }

    /// Whether a flush is done; if not, `waker` is called when it is. It is done at its deadline at the latest.
    pub(crate) fn poll_flush(&self, id: u64, waker: &Waker) -> Flushing {
        let now = self.clock.monotonic();
        let totals = self.totals();
        let done = self.with(|state| {
            let stopped = state.stop;
            let Some(request) = state.flushes.iter_mut().find(|request| request.id == id) else {
                return Some((FlushReport::default(), Err(FlushFailure::Stopped)));
            };
            if request.outcome.is_none() && now >= request.deadline {
                request.outcome = Some(Err(FlushFailure::Deadline(request.deadline - request.began)));
            }
            if request.outcome.is_none() && stopped {
                request.outcome = Some(Err(FlushFailure::Stopped));
            }
            let Some(outcome) = request.outcome.clone() else {
                request.waker = Some(waker.clone());
                return None;
            };
            let (before, sequence) = (request.before, request.sequence);
            let waits = outcome.is_err().then_some(sequence.unwrap_or(u64::MAX));
            Some((state.report(before, totals, waits), outcome))
        });
        let Some((report, outcome)) = done else {
            return Flushing::Pending;
        };
        let failure = match outcome {
            Ok(()) if report.is_complete() => return Flushing::Done(Ok(report)),
            Ok(()) => FlushFailure::Undelivered,
            Err(failure) => failure,
        };
        Flushing::Done(Err(FlushError::new(&self.name, &self.address, failure, report)))
    }

    /// Nobody asks for a flush any more; it goes on all the same if it is not done.
    pub(crate) fn forget_flush(&self, id: u64) {
        self.with(|state| {
            for request in state.flushes.iter_mut().filter(|request| request.id == id) {
                request.forgotten = true;
                request.waker = None;
            }
            state.drop_forgotten();
        });
    }

    /// The moment at which the first pending flush gives up.
    pub(crate) fn next_flush_deadline(&self) -> Option<Duration> {
        self.with(|state| {
            let pending = state.flushes.iter().filter(|request| request.outcome.is_none());
            pending.map(|request| request.deadline).min()
        })
    }

    /// Ends flushes whose time is over, those whose collections are through, and those that the far end's wish outlasts.
    pub(crate) fn settle_flushes(&self, now: Duration) {
        let woken = self.with(|state| {
            let Progress {
                finished, asked_until, ..
            } = state.progress;
            let mut woken = Vec::new();
            for request in state.flushes.iter_mut().filter(|request| request.outcome.is_none()) {
                let asked = asked_until.filter(|until| *until > request.deadline && *until > now);
                let outcome = if request.sequence.is_some_and(|sequence| sequence <= finished) {
                    Ok(())
                } else if let Some(until) = asked.filter(|_| request.sequence.is_some()) {
                    Err(FlushFailure::Asked(until - now))
                } else if now >= request.deadline {
                    Err(FlushFailure::Deadline(request.deadline - request.began))
                } else {
                    continue;
                };
                request.outcome = Some(outcome);
                woken.extend(request.waker.take());
            }
            state.drop_forgotten();
            woken
        });
        woken.into_iter().for_each(Waker::wake);
    }

    /// Wakes everybody who waits for anything: the exporter stops.
    pub(crate) fn stop(&self) {
        let woken: Vec<Waker> = self.with(|state| {
            state.stop = true;
            state
                .flushes
                .iter_mut()
                .filter_map(|request| request.waker.take())
                .collect()
        });
        woken.into_iter().for_each(Waker::wake);
        self.wake_ticker();
        self.wake_sender();
    }

    /// Puts a collection into the queue. Flushes that were asked for before it was begun wait for it.
    pub(crate) fn push(&self, batch: Batch, asked_before: u64) {
        let mut dropped = Vec::new();
        let now = self.clock.monotonic();
        self.with(|state| {
            let mut unassigned = state.flushes.iter().filter(|request| request.sequence.is_none());
            let is_last = state.uncollected.is_some_and(|flush| flush <= asked_before);
            let awaited = is_last || unassigned.any(|request| request.id <= asked_before);
            state.queue.push(batch, awaited, &mut dropped);
            if is_last {
                state.uncollected = None;
            }
            let newest = state.queue.newest().map_or(0, |batch| batch.sequence);
            let waiting = state.flushes.iter_mut().filter(|request| request.id <= asked_before);
            for request in waiting.filter(|request| request.sequence.is_none()) {
                request.sequence = Some(newest);
            }
            state.progress.undelivered_since.get_or_insert(now);
            state.progress.collections += 1;
        });
        for Dropped { reason, points, .. } in dropped {
            let (of_points, of_collections) = (&self.telemetry.dropped_points, &self.telemetry.dropped_collections);
            let (in_points, in_collections) = match reason {
                DropReason::Count => (&of_points.queue_full, &of_collections.queue_full),
                DropReason::Bytes => (&of_points.queue_bytes, &of_collections.queue_bytes),
            };
            in_points.add(points);
            in_collections.inc();
        }
        self.wake_sender();
    }

    /// The last flush that was asked for so far.
    pub(crate) fn last_flush(&self) -> u64 {
        self.with(|state| state.next_flush)
    }

    /// Whether a flush waits for a collection that is not made yet.
    pub(crate) fn wants_collection(&self) -> bool {
        self.with(|state| {
            state
                .flushes
                .iter()
                .any(|request| request.sequence.is_none() && request.outcome.is_none())
        })
    }

    /// Whether a flush wants the sender not to wait for its own sake; each says so once.
    pub(crate) fn take_hurry(&self) -> bool {
        self.with(|state| {
            let mut hurry = false;
            for request in state.flushes.iter_mut().filter(|request| request.outcome.is_none()) {
                if request.sequence.is_some() && !request.hurried {
                    request.hurried = true;
                    hurry = true;
                }
            }
            hurry
        })
    }

    /// Whether somebody waits for a flush, so that a backlog is not paced.
    pub(crate) fn is_flushing(&self) -> bool {
        self.with(|state| state.flushes.iter().any(|request| request.outcome.is_none()))
    }

    fn totals(&self) -> Totals {
        let Telemetry {
            points, dropped_points, ..
        } = &self.telemetry;
        Totals {
            delivered: points.delivered.get(),
            rejected: points.rejected.get(),
            dropped: dropped_points.queue_full.get() + dropped_points.queue_bytes.get(),
        }
    }
}

impl State {
    fn drop_forgotten(&mut self) {
        self.flushes
            .retain(|request| !(request.forgotten && request.outcome.is_some()));
    }

    /// What a flush has come to since `before`, if it does not wait for a collection any more.
    fn report(&self, before: Totals, totals: Totals, waits_for: Option<u64>) -> FlushReport {
        let Progress {
            carried,
            carrying,
            parked,
            left,
            in_flight,
            last_error,
            working,
            ..
        } = &self.progress;
        let unclear = parked + if waits_for.is_some() { *in_flight } else { 0 };
        let left = carrying + left.saturating_sub(*in_flight);
        let kept = match waits_for {
            None => *carried,
            Some(sequence) if sequence <= *working => left,
            // What waits has everything that is being sent; a series is one point.
            Some(_) => {
                let queued = self.queue.newest().map(|batch| batch.points);
                queued.map_or(left, |queued| queued.saturating_sub(unclear))
            }
        };
        FlushReport {
            delivered: totals.delivered.saturating_sub(before.delivered),
            kept,
            rejected: totals.rejected.saturating_sub(before.rejected),
            dropped: totals.dropped.saturating_sub(before.dropped),
            unclear,
            spooled: 0,
            last_error: (kept > 0 || unclear > 0 || totals.rejected > before.rejected)
                .then(|| last_error.as_deref().map(str::to_owned))
                .flatten(),
        }
    }
}
