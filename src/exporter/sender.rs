//! Sends what waits, from the head of the queue; it never collects.
//!
//! One payload at a time is encoded, sent, and decided upon by its answer. A payload that is given up is forgotten, and what
//! it held is in a later one, because the marks have not moved; but a payload of which nobody knows whether it arrived is parked as
//! it is, and its series are left out of others until it has had an answer: whatever else would be sent of them could count twice.

mod answers;
mod provisional;
pub(crate) mod spooling;

use super::{
    dead_letter::DeadLetters,
    flight::{Flight, Provisional},
    journal::Journal,
    marks::Marks,
    pace::Pace,
    points::{Pass, Points, Position, Refused, Taken},
    removals::Removals,
    retry::Retry,
    sampling::{Drained, Sampling},
    state::Shared,
    work::{Batch, Work},
};
use crate::{
    departure::Departure,
    destination::{Activity, Answer, BatchId, Destination, Overdue, Payload},
    samples::SampleReader,
    scrape::Filter,
    snapshot::FamilySnapshot,
    spool::Store,
};
use spooling::Spooling;
use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

/// The sending side of an exporter.
pub(crate) struct Sender {
    shared: Arc<Shared>,
    destination: Box<dyn Destination>,
    marks: Marks,
    filter: Option<Filter>,
    dead_letters: Option<DeadLetters>,
    retry: Retry,
    journal: Journal,
    send_timeout: Duration,
    backlog_pause: Duration,
    pace: Pace,
    removals: Removals,
    sampling: Option<Sampling>,
    spooling: Option<Spooling>,
    /// Each payload takes the place of the one before; see [`Preferences::replaces`](crate::Preferences::replaces).
    replaces: bool,
    work: Option<Progressing>,
    /// Up to when what was begun to be sent counts, since the Unix epoch.
    newest: Duration,
    flight: Option<Flight>,
    /// The payload before, if the system may still say that it has not arrived.
    provisional: Option<Provisional>,
    parked: VecDeque<Flight>,
    /// Payloads of this work that are tried again when all others have been, because somebody waits for a flush.
    deferred: VecDeque<Flight>,
    /// Points that a payload may have.
    limit: usize,
    /// Names the payloads.
    id: u64,
    payloads: u64,
    /// Of the last payload, to be used again.
    spare: Vec<u8>,
    reported: Activity,
    /// Asked by a send that takes long.
    overdue: Overdue,
    /// How far the wall clock was ahead of the monotonic one; it jumps when the process stood still.
    offset: Option<Duration>,
}

/// A work and how far it is encoded.
struct Progressing {
    work: Arc<Work>,
    next: Position,
    /// As far as it has ever been encoded: what was refused before is counted, though a smaller payload begins there again.
    furthest: Position,
    pass: Pass,
    /// A payload was answered for whose series had been passed by then: there is more to say of them.
    has_rest: bool,
}

impl Progressing {
    /// From its beginning, for another pass.
    fn repeated(work: Arc<Work>, pass: Pass) -> Self {
        Progressing {
            next: Position::default(),
            furthest: Position {
                item: work.items(),
                ..Position::default()
            },
            pass,
            has_rest: false,
            work,
        }
    }
}

/// What a sender is told when it is made.
pub(crate) struct SenderSettings {
    pub(crate) filter: Option<Filter>,
    pub(crate) dead_letters: Option<DeadLetters>,
    /// For a destination that sends samples.
    pub(crate) samples: Option<SampleReader>,
    /// What cannot be delivered is kept there.
    pub(crate) spool: Option<Store>,
    /// See [`Preferences::replaces`](crate::Preferences::replaces).
    pub(crate) replaces: bool,
    /// See [`Preferences::merges`](crate::Preferences::merges).
    pub(crate) merges: bool,
    pub(crate) retry: Retry,
    pub(crate) send_timeout: Duration,
    /// Between two collections of a backlog.
    pub(crate) backlog_pause: Duration,
    /// What the payloads of one collection are spread over.
    pub(crate) spread: Option<Duration>,
    /// Names the payloads.
    pub(crate) id: u64,
}

/// What the sender wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// To go on at once.
    Again,
    /// To wait until then, or until it is woken.
    Wait(Option<Duration>),
    /// To end.
    Stop,
}

/// How many payloads may be parked. Each keeps its collection in memory.
const MOST_PARKED: usize = 16;

/// How often a payload is tried before it is the others' turn, while somebody waits for a flush.
const IN_A_ROW: u32 = 4;

/// A jump of the wall clock against the monotonic one that means that the process stood still.
const FREEZE: Duration = Duration::from_secs(10);

impl Sender {
    pub(crate) fn new(shared: Arc<Shared>, destination: Box<dyn Destination>, settings: SenderSettings) -> Self {
        let stopping = shared.clone();
        Sender {
            overdue: Overdue::new(move || stopping.left_to_send()),
            journal: Journal::new(&shared.name, &shared.address),
            shared,
            destination,
            marks: Marks::default(),
            filter: settings.filter,
            dead_letters: settings.dead_letters,
            retry: settings.retry,
            send_timeout: settings.send_timeout,
            backlog_pause: settings.backlog_pause,
            pace: Pace::new(settings.spread),
            removals: Removals::default(),
            sampling: settings.samples.map(Sampling::new),
            spooling: settings.spool.map(|store| Spooling::new(store, settings.merges)),
            replaces: settings.replaces,
            work: None,
            newest: Duration::ZERO,
            flight: None,
            provisional: None,
            parked: VecDeque::new(),
            deferred: VecDeque::new(),
            limit: usize::MAX,
            id: settings.id,
            payloads: 0,
            spare: Vec::new(),
            reported: Activity::default(),
            offset: None,
        }
    }

    #[cfg(test)]
    pub(crate) fn families_with_marks(&self) -> usize {
        self.marks.families()
    }

    /// Sends one payload at most, or says how long there is nothing to do.
    pub(crate) fn step(&mut self) -> Next {
        if self.shared.with(|state| state.stop) {
            return self.end();
        }
        let now = self.shared.clock.monotonic();
        if self.shared.take_hurry() {
            self.retry.hurry(now);
        }
        let asked = self.retry.asked(now);
        self.shared.with(|state| state.progress.asked_until = asked);
        self.shared.settle_flushes(now);
        if let Some(until) = self.retry.waits(now) {
            return self.wait(Some(until));
        }
        if self.replaces {
            self.supersede();
        }
        if self.flight.is_none() {
            if let Some(next) = self.send_spooled(now) {
                return next;
            }
            self.flight = self.next_flight(now);
        }
        let Some(flight) = self.flight.take() else {
            self.shared.settle_flushes(now);
            return match self.retry.waits(now) {
                None if self.shared.with(|state| state.queue.len() > 0) => Next::Again,
                until => self.wait(until),
            };
        };
        self.send(flight);
        self.keep_pace();
        Next::Again
    }

    /// Waits before the next payload of the same collection, if it is to be spread.
    fn keep_pace(&mut self) {
        let (Some(Progressing { work, next, .. }), None) = (&self.work, &self.flight) else {
            return;
        };
        let now = self.shared.clock.monotonic();
        let done = work.done(*next);
        if let Some(until) = self.pace.sent(now, done, self.shared.next_flush_deadline()) {
            self.retry.pause(until);
        }
    }

    /// Waits, but for no longer than a flush does, whose end is not to depend on the ticker alone: that may be held up by a closure.
    fn wait(&self, until: Option<Duration>) -> Next {
        let ends = [until, self.shared.next_flush_deadline()];
        Next::Wait(ends.into_iter().flatten().min())
    }

    /// The next payload: a parked one that has not been tried since the last collection, else what is new.
    fn next_flight(&mut self, now: Duration) -> Option<Flight> {
        loop {
            let sequence = self.work.as_ref().map_or(0, |progressing| progressing.work.sequence());
            if sequence > 0
                && let Some(at) = self.parked.iter().position(|flight| flight.tried < sequence)
            {
                let mut flight = self.parked.remove(at)?;
                flight.tried = sequence;
                flight.first = None;
                flight.reloaded = false;
                return Some(flight);
            }
            if self.work.is_none() {
                if !self.begin_work() {
                    return None;
                }
                // Parked ones come first, because what follows them in the same series is left out until they have had an
                // answer: a flush would be done without it.
                continue;
            }
            if let Some(flight) = self.encode() {
                return Some(flight);
            }
            if let Some(flight) = self.deferred.pop_front() {
                return Some(flight);
            }
            if self.begin_rest() {
                continue;
            }
            if self.parked.iter().all(|flight| self.was_tried(flight)) {
                self.settle_provisional();
                self.finish_work(now);
                if self.retry.waits(now).is_some() {
                    return None;
                }
            }
        }
    }

    /// Goes through the work once more, if there is more to say of series whose payload was not answered for the first time.
    fn begin_rest(&mut self) -> bool {
        match &mut self.work {
            Some(progressing) if progressing.has_rest => {
                *progressing = Progressing::repeated(progressing.work.clone(), Pass::Rest);
                true
            }
            _ => false,
        }
    }

    fn was_tried(&self, flight: &Flight) -> bool {
        self.work
            .as_ref()
            .is_none_or(|progressing| flight.tried >= progressing.work.sequence())
    }

    /// Forgets a payload that failed if a newer collection waits, whose place it would take when it came after it. The collection that
    /// it is of is not through by that: who waits for it waits for the newer one, which has all of it.
    fn supersede(&mut self) {
        if self.shared.with(|state| state.queue.len() == 0) {
            return;
        }
        let failed: Vec<Flight> = self.flight.take().into_iter().chain(self.deferred.drain(..)).collect();
        if failed.is_empty() {
            return;
        }
        for flight in failed {
            self.count_carried_over(flight.tally());
            self.spare = flight.payload.into_bytes();
        }
        self.work = None;
        self.shared.with(|state| {
            state.progress.left = 0;
            state.progress.carrying = 0;
            state.progress.in_flight = 0;
        });
    }

    /// Takes the oldest collection from the queue; false if there is none.
    fn begin_work(&mut self) -> bool {
        let Some(batch) = self.shared.with(|state| state.queue.pop()) else {
            return false;
        };
        let lost = self
            .removals
            .take(&self.shared.inbox, batch.removals, self.filter.as_ref());
        let mut departures = self.removals.pending().to_vec();
        if self.replaces {
            // What takes the place of everything before it takes that of their last values too.
            self.removals.forget(&departures);
            departures.clear();
        } else {
            self.shared.telemetry.dropped_points.removed_series.add(lost);
        }
        let samples = self.drain_samples(&batch, &departures);
        let points = batch.points + departures.len() as u64;
        let (sequence, newest) = (batch.sequence, self.newest);
        let Some(work) = self.call("temporality", |destination| {
            Work::new(batch, departures, samples, newest, destination)
        }) else {
            // As with one whose encoding panics: what it had is in the next one.
            self.shared.telemetry.points.carried_over.add(points);
            self.shared.with(|state| {
                state.progress.finished = sequence;
                state.progress.carried = points;
            });
            return true;
        };
        self.newest = work.newest();
        self.marks.begin(&work);
        self.pace.begin(self.shared.clock.monotonic());
        self.shared.with(|state| {
            state.progress.working = work.sequence();
            state.progress.left = points;
        });
        self.work = Some(Progressing {
            work: Arc::new(work),
            next: Position::default(),
            furthest: Position::default(),
            pass: Pass::First,
            has_rest: false,
        });
        true
    }

    /// Takes the samples for a collection, if the exporter sends any; those of an older one are left for the newest.
    fn drain_samples(&mut self, batch: &Batch, departures: &[Arc<Departure>]) -> Option<Vec<FamilySnapshot>> {
        let sampling = self.sampling.as_mut()?;
        if self.shared.with(|state| state.queue.len() > 0) {
            return Some(Vec::new());
        }
        let Drained { families, lost } = sampling.drain(batch, departures);
        self.shared.telemetry.dropped_points.samples.add(lost);
        // Their samples were all that is sent of them.
        let gone = departures.iter().filter(|departure| Sampling::takes(&departure.family));
        self.removals.forget(&gone.cloned().collect::<Vec<_>>());
        Some(families)
    }

    /// Asks something of the destination, which is the application's; none if that panics.
    fn call<R>(&mut self, what: &'static str, ask: impl FnOnce(&mut dyn Destination) -> R) -> Option<R> {
        let destination = &mut *self.destination;
        let answer = catch_unwind(AssertUnwindSafe(|| ask(destination))).ok();
        if answer.is_none() {
            self.journal.panicked(self.shared.clock.monotonic(), what);
        }
        answer
    }

    fn finish_work(&mut self, now: Duration) {
        let Some(Progressing { work, .. }) = self.work.take() else {
            return;
        };
        let parked: usize = self.parked.iter().map(|flight| flight.payload.points()).sum();
        let (backlog, undelivered) = self.shared.with(|state| {
            let progress = &mut state.progress;
            progress.finished = work.sequence();
            let carried = std::mem::take(&mut progress.carrying);
            progress.carried = carried;
            progress.parked = parked as u64;
            progress.left = 0;
            if carried == 0 && parked == 0 {
                progress.undelivered_since = state.queue.oldest().map(|batch| batch.collected);
            }
            (state.queue.len(), carried > 0 || parked > 0)
        });
        if !undelivered {
            self.journal.all_delivered(now);
        }
        let is_unfinished = undelivered || self.provisional.is_some();
        self.note_unfinished(is_unfinished.then_some(work));
        self.shared.settle_flushes(now);
        // One may have been collected just now.
        if backlog > 1 && !self.shared.is_flushing() {
            let pause = self.retry.spread(self.backlog_pause);
            self.retry.pause(now + pause);
        }
    }

    /// Encodes the next payload of the work; none at its end.
    fn encode(&mut self) -> Option<Flight> {
        loop {
            let progressing = self.work.as_ref()?;
            let (work, from, furthest) = (progressing.work.clone(), progressing.next, progressing.furthest);
            let points = Points::new(&work, &self.marks, self.filter.as_ref(), from, self.limit);
            let mut points = points.of_pass(progressing.pass);
            let mut bytes = std::mem::take(&mut self.spare);
            bytes.clear();
            let destination = &mut self.destination;
            let encoded = catch_unwind(AssertUnwindSafe(|| {
                destination.encode(&mut points, &mut bytes);
                if points.is_untouched() {
                    points.refuse_next("the destination neither took nor refused it");
                }
            }));
            if encoded.is_err() {
                self.journal
                    .panicked(self.shared.clock.monotonic(), "encode, or a filter");
                self.spare = Vec::new();
                self.give_up_work();
                return None;
            }
            let Taken {
                claims,
                parts,
                points,
                increments,
                passing,
                messages,
                left,
                refused,
                end,
                is_cut,
            } = points.finish();
            let is_untouched = points == 0 && left == 0 && refused.is_empty();
            for Refused { claim, points, reason } in refused {
                if (claim.item, claim.first) >= (furthest.item, furthest.place) {
                    self.reject(&work, &[claim], points, points, reason);
                }
            }
            if let Some(progressing) = &mut self.work {
                progressing.next = end;
                progressing.furthest = furthest.max(end);
            }
            if points == 0 || bytes.is_empty() {
                self.spare = bytes;
                // Claimed, but not sent: nothing has moved there, or nobody wants it.
                self.acknowledge(&work, &claims, &parts);
                if is_untouched {
                    return None;
                }
                continue;
            }
            self.payloads += 1;
            let id = BatchId {
                exporter: self.id,
                sequence: self.payloads,
            };
            return Some(Flight {
                payload: Payload::new(bytes, id, points).ends_with(self.overdue.clone()),
                tried: work.sequence(),
                work,
                claims,
                parts,
                increments,
                passing,
                messages,
                from,
                cut: is_cut.then_some(end),
                first: None,
                unclear: false,
                reloaded: false,
                is_passed: false,
            });
        }
    }

    /// A destination that panics gets another chance with the next collection.
    fn give_up_work(&mut self) {
        if let Some(progressing) = &mut self.work {
            let left = self.shared.with(|state| {
                let left = std::mem::take(&mut state.progress.left);
                state.progress.carrying += left;
                left
            });
            progressing.next = Position {
                item: progressing.work.items(),
                ..Position::default()
            };
            self.shared.telemetry.points.carried_over.add(left);
        }
    }

    fn send(&mut self, mut flight: Flight) {
        let points = flight.payload.points() as u64;
        let telemetry = &self.shared.telemetry;
        if flight.payload.attempt() > 0 {
            telemetry.points.retried.add(points);
            telemetry.payloads.retried.inc();
            if flight.is_doubtful() {
                telemetry.points.possible_duplicate.add(flight.increments as u64);
                telemetry.payloads.possible_duplicate.inc();
            }
        }
        flight.payload.begin_attempt();
        let began = self.shared.clock.monotonic();
        let first = *flight.first.get_or_insert(began);
        self.shared.with(|state| state.progress.in_flight = points);
        self.end_yield();
        let answer = match self.may_replace() {
            true => self.try_send(&flight.payload, began),
            false => Answer::retry(
                "the spool has something older for this place, which goes first, or another process pushes there at the moment",
            ),
        };
        let now = self.shared.clock.monotonic();
        self.shared
            .telemetry
            .send_duration
            .observe(now.saturating_sub(began).as_secs_f64());
        self.decide(flight, answer, first, now);
        self.release_place();
        // Until there is an answer nobody knows about these, whether the payload waits for its next try or is parked.
        let waiting = self.flight.as_ref().filter(|flight| flight.is_doubtful());
        let in_flight = waiting.map_or(0, |flight| flight.payload.points() as u64);
        let parked: usize = self.parked.iter().map(|flight| flight.payload.points()).sum();
        self.shared.with(|state| {
            state.progress.in_flight = in_flight;
            state.progress.parked = parked as u64;
        });
        self.count_activity();
    }

    fn try_send(&mut self, payload: &Payload, now: Duration) -> Answer {
        self.reconnect_after_freeze();
        let timeout = match self.shared.with(|state| state.sending_until) {
            Some(deadline) => self.send_timeout.min(deadline.saturating_sub(now)),
            None => self.send_timeout,
        };
        let answer = self.call("send", |destination| destination.send(payload, timeout));
        answer.unwrap_or_else(|| Answer::unclear("the destination panicked"))
    }

    /// The newest collection that there has been.
    fn newest_sequence(&self) -> u64 {
        let work = self.work.as_ref().map_or(0, |progressing| progressing.work.sequence());
        self.shared.with(|state| {
            let queued = state.queue.newest().map_or(0, |batch| batch.sequence);
            queued.max(work).max(state.progress.finished)
        })
    }

    fn reconnect_after_freeze(&mut self) {
        let offset = self.shared.clock.unix().saturating_sub(self.shared.clock.monotonic());
        let jumped = self.offset.is_some_and(|before| offset.abs_diff(before) > FREEZE);
        self.offset = Some(offset);
        let thawed = self.shared.with(|state| std::mem::take(&mut state.thawed));
        if jumped || thawed {
            self.call("reconnect", |destination| destination.reconnect());
        }
    }

    fn count_activity(&mut self) {
        let Some(activity) = self.call("activity", |destination| destination.activity()) else {
            return;
        };
        let telemetry = &self.shared.telemetry;
        telemetry
            .connections
            .add(activity.connections.saturating_sub(self.reported.connections));
        let reloads = activity
            .credential_reloads
            .saturating_sub(self.reported.credential_reloads);
        telemetry.credential_reloads.add(reloads);
        let dropped = activity.dropped_messages.saturating_sub(self.reported.dropped_messages);
        telemetry.dropped_points.message_queue.add(dropped);
        self.reported = activity;
    }
}
