//! The spool, as an exporter uses it: what others have left there is delivered before its own, and what is not delivered when it
//! ends is put there.

use super::{IN_A_ROW, Next, Progressing, Sender, Work};
use crate::{
    destination::{Answer, BatchId, Payload, Verdict},
    exporter::{flight::Flight, journal::Journal, points::Pass, retry::Decision},
    spool::{Entry, Record, SpoolError, Store},
};
use std::{sync::Arc, time::Duration};

/// An exporter's spool, and how far the exporter is with it.
pub(crate) struct Spooling {
    store: Store,
    /// Nothing newer may be sent before what it has; see [`Preferences::merges`](crate::Preferences::merges).
    goes_first: bool,
    /// The payload that is being delivered.
    current: Option<Spooled>,
    /// It has been looked through since this collection was made, or before there was any.
    looked: Option<u64>,
    /// Something of it failed, and what is new has not had its turn since.
    yields: bool,
    /// Of the last collection that is through, if some of it was carried over: nothing later has that when the exporter ends.
    unfinished: Option<Arc<Work>>,
    /// What there was to keep has been kept.
    is_done: bool,
}

/// A payload of the spool on its way.
struct Spooled {
    entry: Entry,
    payload: Payload,
    first: Option<Duration>,
    /// An attempt before may have arrived, perhaps of another process.
    unclear: bool,
    reloaded: bool,
}

/// A payload that is put into the spool.
struct Kept {
    bytes: Vec<u8>,
    id: BatchId,
    points: u64,
    increments: u64,
    unclear: bool,
}

impl Spooling {
    pub(crate) fn new(store: Store, goes_first: bool) -> Self {
        Spooling {
            store,
            goes_first,
            current: None,
            looked: None,
            yields: false,
            unfinished: None,
            is_done: false,
        }
    }
}

impl Sender {
    /// Sends one payload of the spool; none if there is nothing in it to be sent now.
    pub(super) fn send_spooled(&mut self, now: Duration) -> Option<Next> {
        let mut spooled = self.next_spooled()?;
        let points = spooled.payload.points() as u64;
        let answer = self.answer_to_spooled(&mut spooled, now);
        let now = self.shared.clock.monotonic();
        match answer.blames_previous {
            true => self.take_back_provisional(),
            false => self.confirm(),
        }
        let message = Journal::words(&answer.message);
        match answer.verdict {
            Verdict::Delivered { rejected } => {
                self.succeed();
                let rejected = rejected.min(points);
                if rejected > 0 {
                    self.reject_spooled(rejected, &message);
                }
                self.shared.telemetry.spooled_points.delivered.add(points - rejected);
                self.note_success();
                self.acknowledge_spooled(spooled);
            }
            // It cannot be encoded anew.
            Verdict::Rejected | Verdict::TooLarge => {
                self.succeed();
                self.reject_spooled(points, &message);
                self.acknowledge_spooled(spooled);
            }
            Verdict::Retry { after } => {
                self.take_back_attempt(&spooled);
                self.fail_spooled(spooled, now, after, &message);
            }
            Verdict::Unclear => {
                spooled.unclear = true;
                self.fail_spooled(spooled, now, None, &message);
            }
            Verdict::CarryOver { unauthorized } => {
                self.take_back_attempt(&spooled);
                if unauthorized
                    && !spooled.reloaded
                    && self.call("reload_credentials", |destination| destination.reload_credentials()) == Some(true)
                {
                    spooled.reloaded = true;
                    self.resume_spooled(spooled);
                } else {
                    self.note_error(&message);
                    self.retry.refused(now);
                    self.journal.failed(now, self.retry.is_open(), &message);
                    self.yield_spool();
                }
            }
        }
        self.count_activity();
        if let Some(until) = self.pace.sent_alone(now, self.shared.is_flushing()) {
            self.retry.pause(until);
        }
        Some(Next::Again)
    }

    /// The oldest payload of the spool, unless it has been looked through since the newest collection.
    fn next_spooled(&mut self) -> Option<Spooled> {
        let newest = self.newest_sequence();
        let waits = self.work.is_some() || self.shared.with(|state| state.queue.len() > 0);
        let replaces = self.replaces;
        let spooling = self.spooling.as_mut()?;
        if replaces && newest > 0 && !spooling.goes_first {
            // What is newer takes its place; should there be nothing to push in it, others may go on with this.
            if spooling.current.take().is_some() {
                spooling.store.release();
            }
            return None;
        }
        if let Some(spooled) = spooling.current.take() {
            return Some(spooled);
        }
        if spooling.looked.is_some_and(|looked| looked >= newest) || (spooling.yields && waits) {
            return None;
        }
        let found = spooling.store.next();
        self.count_spool();
        match found {
            Ok(Some(mut entry)) => Some(Spooled {
                payload: Payload::new(std::mem::take(&mut entry.bytes), entry.id, entry.points as usize)
                    .ends_with(self.overdue.clone()),
                unclear: entry.unclear,
                entry,
                first: None,
                reloaded: false,
            }),
            Ok(None) => {
                self.leave_spool();
                None
            }
            Err(error) => {
                self.spool_failed(&error);
                self.leave_spool();
                None
            }
        }
    }

    /// The answer to a payload of the spool.
    fn answer_to_spooled(&mut self, spooled: &mut Spooled, now: Duration) -> Answer {
        let telemetry = &self.shared.telemetry;
        if spooled.unclear {
            telemetry.points.possible_duplicate.add(spooled.entry.increments);
            telemetry.payloads.possible_duplicate.inc();
        }
        let noted = self
            .spooling
            .as_mut()
            .map(|spooling| spooling.store.note_attempt(&spooled.entry));
        if let Some(Err(error)) = noted {
            self.spool_failed(&error);
        }
        spooled.payload.begin_attempt();
        spooled.first.get_or_insert(now);
        let answer = self.try_send(&spooled.payload, now);
        if !answer.is_provisional {
            return answer;
        }
        // Its place in the spool is given up now or never.
        let refusal = self.call("late_refusal", |destination| destination.late_refusal());
        refusal.flatten().unwrap_or(answer)
    }

    /// It has not arrived, unless it did by an attempt before.
    fn take_back_attempt(&mut self, spooled: &Spooled) {
        if spooled.unclear {
            return;
        }
        let taken_back = self
            .spooling
            .as_mut()
            .map(|spooling| spooling.store.take_back_attempt(&spooled.entry));
        if let Some(Err(error)) = taken_back {
            self.spool_failed(&error);
        }
    }

    fn fail_spooled(&mut self, spooled: Spooled, now: Duration, asked: Option<Duration>, message: &str) {
        self.note_error(message);
        let attempt = spooled.payload.attempt();
        let goes_first = self.spooling.as_ref().is_some_and(|spooling| spooling.goes_first);
        let decision = match self.shared.is_flushing() {
            true if !goes_first && attempt.is_multiple_of(IN_A_ROW) => {
                self.retry.failed_in_flush(now, attempt, asked);
                Decision::GiveUp
            }
            true => self.retry.failed_in_flush(now, attempt, asked),
            false => self.retry.failed(now, spooled.first.unwrap_or(now), asked),
        };
        self.journal.failed(now, self.retry.is_open(), message);
        let asked_until = self.retry.asked(now);
        self.shared.with(|state| state.progress.asked_until = asked_until);
        match decision {
            Decision::Again => self.resume_spooled(spooled),
            Decision::GiveUp => self.yield_spool(),
        }
    }

    fn resume_spooled(&mut self, spooled: Spooled) {
        if let Some(spooling) = &mut self.spooling {
            spooling.current = Some(spooled);
        }
    }

    /// Looks into the spool again with the next collection.
    fn leave_spool(&mut self) {
        let newest = self.newest_sequence();
        if let Some(spooling) = &mut self.spooling {
            spooling.looked = Some(newest);
            spooling.store.release();
        }
    }

    /// And not before what is new has been tried: the wait after a failure may be longer than the interval.
    fn yield_spool(&mut self) {
        self.leave_spool();
        if let Some(spooling) = &mut self.spooling {
            spooling.yields = true;
        }
    }

    fn reject_spooled(&mut self, points: u64, message: &str) {
        self.note_error(message);
        self.shared.telemetry.points.rejected.add(points);
        self.journal.rejected(self.shared.clock.monotonic(), points, message);
    }

    fn acknowledge_spooled(&mut self, spooled: Spooled) {
        self.spare = spooled.payload.into_bytes();
        let acknowledged = self
            .spooling
            .as_mut()
            .map(|spooling| spooling.store.acknowledge(&spooled.entry));
        if let Some(Err(error)) = acknowledged {
            self.spool_failed(&error);
        }
        self.count_spool();
    }

    /// What is new has its turn.
    pub(super) fn end_yield(&mut self) {
        if let Some(spooling) = &mut self.spooling {
            spooling.yields = false;
        }
    }

    /// Whether this process may push now, where each payload takes the place of the one before: no other is delivering an older one, nor
    /// is one left that has to go first.
    pub(super) fn may_replace(&mut self) -> bool {
        let Some(spooling) = self.spooling.as_mut().filter(|_| self.replaces) else {
            return true;
        };
        let is_free = spooling.store.lease().and_then(|leased| {
            let is_first = leased && (!spooling.goes_first || spooling.store.next()?.is_none());
            Ok(is_first)
        });
        match is_free {
            Ok(is_free) => is_free,
            Err(error) => {
                self.spool_failed(&error);
                true
            }
        }
    }

    /// Something was delivered in whose place nothing older may come.
    pub(super) fn supersede_spooled(&mut self) {
        let spooling = self.spooling.as_mut().filter(|_| self.replaces);
        let Some(spooling) = spooling.filter(|spooling| !spooling.goes_first) else {
            return;
        };
        let superseded = spooling.store.supersede();
        match superseded {
            Ok(points) => self.shared.telemetry.dropped_points.superseded.add(points),
            Err(error) => self.spool_failed(&error),
        }
        self.count_spool();
    }

    /// A push is through, and others may go on with what the spool has for the same place.
    pub(super) fn release_place(&mut self) {
        if let Some(spooling) = self.spooling.as_mut().filter(|_| self.replaces) {
            spooling.store.release();
        }
    }

    /// A collection is through, of which not everything is known to be delivered for good.
    pub(super) fn note_unfinished(&mut self, work: Option<Arc<Work>>) {
        if let Some(spooling) = &mut self.spooling {
            spooling.unfinished = work;
        }
    }

    /// The exporter ends: as soon as the last collection is there, or the time for that is over, keeps what is not delivered.
    pub(super) fn end(&mut self) -> Next {
        let awaited = self.shared.last_collection_until();
        if let Some(until) = awaited.filter(|until| self.shared.clock.monotonic() < *until) {
            return Next::Wait(Some(until));
        }
        self.keep_rest();
        Next::Stop
    }

    /// Puts everything into the spool that is not delivered, once.
    fn keep_rest(&mut self) {
        let Some(spooling) = self.spooling.as_mut().filter(|spooling| !spooling.is_done) else {
            return;
        };
        spooling.is_done = true;
        spooling.current = None;
        let unfinished = spooling.unfinished.take();
        self.ask_about_provisional();
        let kept = self.collect_rest(unfinished);
        let points: u64 = kept.iter().map(|kept| kept.points).sum();
        let records: Vec<Record<'_>> = kept.iter().map(Kept::record).collect();
        let left = self.shared.with(|state| state.stopping);
        let left = left.map_or(MOST_WAIT, |until| until.saturating_sub(self.shared.clock.monotonic()));
        let Some(spooling) = &mut self.spooling else { return };
        let put = match records.is_empty() {
            true => Ok(()),
            false => spooling.store.put(&records, left.min(MOST_WAIT)),
        };
        match put {
            Ok(()) => {
                self.shared.telemetry.spooled_points.stored.add(points);
                // What was never collected is not in it.
                self.shared
                    .with(|state| state.spooled = state.uncollected.is_none().then_some(points));
            }
            Err(error) => {
                self.note_error(&error.to_string());
                self.spool_failed(&error);
            }
        }
        self.count_spool();
    }

    /// The bytes of everything that is not delivered, in the order in which it is to be: payloads that wait for another try as they
    /// are, the rest as it would be sent next.
    fn collect_rest(&mut self, unfinished: Option<Arc<Work>>) -> Vec<Kept> {
        if self.replaces {
            self.supersede();
        }
        let parked = self.parked.drain(..).chain(self.flight.take());
        let flights: Vec<Flight> = parked.chain(self.deferred.drain(..)).collect();
        let is_left = flights.iter().any(|flight| flight.is_passed);
        let mut kept: Vec<Kept> = Vec::new();
        for flight in flights {
            // What follows in the same series goes on from there.
            self.acknowledge(&flight.work, &flight.claims, &flight.parts);
            kept.push(Kept::of(flight));
        }
        let is_behind = self.shared.with(|state| {
            let progress = &state.progress;
            state.queue.len() == 0 && (is_left || progress.carried > 0 || progress.carrying > 0)
        });
        if self.work.is_none() && is_behind {
            self.work = unfinished.map(|work| Progressing::repeated(work, Pass::Again));
        }
        loop {
            if self.work.is_none() && !self.begin_work() {
                return kept;
            }
            while let Some(flight) = self.encode() {
                self.acknowledge(&flight.work, &flight.claims, &flight.parts);
                kept.push(Kept::of(flight));
            }
            let Some(progressing) = self.work.take() else { continue };
            let (is_last, carried) = self
                .shared
                .with(|state| (state.queue.len() == 0, std::mem::take(&mut state.progress.carrying) > 0));
            // A later collection has it all.
            if is_last && (carried || is_left) && progressing.pass != Pass::Again {
                self.work = Some(Progressing::repeated(progressing.work, Pass::Again));
            }
        }
    }

    fn spool_failed(&mut self, error: &SpoolError) {
        self.shared.telemetry.spool_errors.inc();
        self.journal
            .spool_failed(self.shared.clock.monotonic(), &error.to_string());
    }

    /// Counts what the spool has and what it has lost.
    fn count_spool(&mut self) {
        let Some(spooling) = &mut self.spooling else { return };
        let (losses, size) = (spooling.store.take_losses(), spooling.store.size());
        let telemetry = &self.shared.telemetry;
        telemetry.dropped_points.spool_full.add(losses.evicted_points);
        telemetry.dropped_points.spool_age.add(losses.expired_points);
        telemetry.spool_set_aside.add(losses.unread_files);
        if losses.noted_points > 0 {
            // Counted by whoever delivers what was put in their place; this exporter's own counts are not seen any more.
            self.journal.evicted(self.shared.clock.monotonic(), losses.noted_points);
        }
        telemetry.spool_files.set(size.files as f64);
        telemetry.spool_bytes.set(size.bytes as f64);
    }
}

impl Kept {
    fn of(flight: Flight) -> Self {
        Kept {
            id: flight.payload.id(),
            points: flight.payload.points() as u64,
            increments: flight.increments as u64,
            unclear: flight.unclear,
            bytes: flight.payload.into_bytes(),
        }
    }

    fn record(&self) -> Record<'_> {
        Record {
            bytes: &self.bytes,
            id: self.id,
            points: self.points,
            increments: self.increments,
            unclear: self.unclear,
        }
    }
}

/// How long another process that writes is waited for.
const MOST_WAIT: Duration = Duration::from_secs(5);
