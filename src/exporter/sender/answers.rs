//! What the answer to a payload comes to: its marks move, it is sent again, or what it held joins a later one.

use super::{IN_A_ROW, MOST_PARKED, Sender};
use crate::{
    destination::{Answer, Verdict},
    exporter::{
        dead_letter::DeadLetter,
        flight::{Flight, FlightTally},
        journal::Journal,
        points::Position,
        removals::Removals,
        retry::Decision,
        work::{Claim, Part, Work},
    },
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

impl Sender {
    /// Does what the answer to a payload asks for; see [`Answer`].
    pub(super) fn decide(&mut self, mut flight: Flight, answer: Answer, first: Duration, now: Duration) {
        let Answer {
            verdict,
            message,
            is_provisional,
            blames_previous,
        } = answer;
        let message = Journal::words(&message);
        let previous = match blames_previous {
            true => self.provisional.take(),
            false => {
                self.confirm();
                None
            }
        };
        if let Some(previous) = previous {
            return self.fail_with_previous(flight, previous, first, now, &message);
        }
        if matches!(
            verdict,
            Verdict::Delivered { .. } | Verdict::Rejected | Verdict::TooLarge
        ) {
            self.note_rest(&flight);
        }
        match verdict {
            Verdict::Delivered { rejected: 0 } if is_provisional => {
                self.succeed();
                self.believe(&flight);
                self.spare = flight.payload.into_bytes();
                self.raise_limit();
            }
            Verdict::Delivered { rejected } => {
                self.succeed();
                let points = flight.payload.points() as u64;
                let rejected = rejected.min(points);
                if rejected > 0 {
                    self.note_error(&message);
                    let series: Vec<Claim> = flight.series().collect();
                    self.report_rejection(&flight.work, &series, rejected, points, &message);
                } else if !message.is_empty() {
                    self.journal.warned(now, &message);
                }
                self.count_delivered(points - rejected);
                self.note_success();
                self.supersede_spooled();
                self.acknowledge(&flight.work, &flight.claims, &flight.parts);
                self.spare = flight.payload.into_bytes();
                self.raise_limit();
            }
            Verdict::Rejected => {
                self.succeed();
                self.reject_flight(flight, &message);
            }
            Verdict::TooLarge if flight.payload.points() > 1 && !self.replaces => {
                self.succeed();
                self.limit = flight.payload.points() / 2;
                self.journal.halved(now, self.limit, &message);
                if flight.unclear {
                    // In other bytes the far end cannot know them again.
                    let increments = flight.increments as u64;
                    self.shared.telemetry.points.possible_duplicate.add(increments);
                    self.release(&flight);
                }
                let lost = match &mut self.work {
                    Some(progressing) if Arc::ptr_eq(&progressing.work, &flight.work) => {
                        progressing.next = flight.from;
                        flight.messages
                    }
                    // It was parked since an earlier collection; a later one has its points.
                    _ => flight.passing,
                };
                self.shared.telemetry.dropped_points.superseded.add(lost as u64);
                self.spare = flight.payload.into_bytes();
            }
            Verdict::TooLarge => {
                self.succeed();
                self.reject_flight(flight, &message);
            }
            Verdict::Retry { after } => self.fail(flight, first, now, after, &message),
            Verdict::Unclear => {
                flight.unclear = true;
                self.fail(flight, first, now, None, &message);
            }
            Verdict::CarryOver { unauthorized } => {
                if unauthorized
                    && !flight.reloaded
                    && self.call("reload_credentials", |destination| destination.reload_credentials()) == Some(true)
                {
                    flight.reloaded = true;
                    self.flight = Some(flight);
                    return;
                }
                self.note_error(&message);
                self.retry.refused(now);
                self.journal.failed(now, self.retry.is_open(), &message);
                self.give_up(flight);
            }
        }
    }

    pub(super) fn count_delivered(&self, points: u64) {
        let telemetry = &self.shared.telemetry;
        telemetry.points.delivered.add(points);
        telemetry.payloads.delivered.inc();
    }

    pub(super) fn note_success(&self) {
        let success = self.shared.clock.unix();
        self.shared.telemetry.last_success.set(success.as_secs_f64());
        self.shared.with(|state| state.progress.last_success = Some(success));
    }

    /// The points of a payload that is no more join the next collection.
    pub(super) fn carry_over(&self, tally: FlightTally) {
        self.count_carried_over(tally);
        self.shared.with(|state| state.progress.carrying += tally.points);
    }

    pub(super) fn succeed(&mut self) {
        self.retry.succeeded();
        self.journal.succeeded();
    }

    fn fail(&mut self, mut flight: Flight, first: Duration, now: Duration, asked: Option<Duration>, message: &str) {
        self.note_error(message);
        let flushing = self.shared.is_flushing();
        let attempt = flight.payload.attempt();
        let decision = match flushing {
            true => self.retry.failed_in_flush(now, attempt, asked),
            false => self.retry.failed(now, first, asked),
        };
        self.journal.failed(now, self.retry.is_open(), message);
        let asked_until = self.retry.asked(now);
        self.shared.with(|state| state.progress.asked_until = asked_until);
        match decision {
            Decision::Again if flushing && attempt.is_multiple_of(IN_A_ROW) => {
                self.pass_cut(&mut flight);
                self.deferred.push_back(flight);
            }
            Decision::Again => self.flight = Some(flight),
            Decision::GiveUp => self.give_up(flight),
        }
    }

    pub(super) fn note_error(&self, message: &str) {
        self.shared
            .with(|state| state.progress.last_error = Some(message.into()));
    }

    /// Forgets a payload, whose points come again; or parks it, if they may have arrived.
    pub(super) fn give_up(&mut self, mut flight: Flight) {
        self.pass_cut(&mut flight);
        let tally = flight.tally();
        if flight.is_doubtful() {
            // What is not in it need not wait for its answer.
            flight.claims = self.marks.with_points(&flight.work, &flight.claims);
            flight.is_passed = true;
            let series: Vec<Claim> = flight.series().collect();
            self.marks.hold(&flight.work, &series);
            self.parked.push_back(flight);
            self.shared
                .with(|state| state.progress.left = state.progress.left.saturating_sub(tally.points));
            self.bound_parked();
            return;
        }
        self.carry_over(tally);
        self.shared
            .with(|state| state.progress.left = state.progress.left.saturating_sub(tally.points));
        self.spare = flight.payload.into_bytes();
    }

    /// A payload is given up, and what has increments in it joins a later one.
    pub(super) fn count_carried_over(&self, FlightTally { points, lost, .. }: FlightTally) {
        let telemetry = &self.shared.telemetry;
        telemetry.points.carried_over.add(points.saturating_sub(lost));
        telemetry.dropped_points.superseded.add(lost);
        telemetry.payloads.carried_over.inc();
    }

    /// Leaves the rest of a point, of which a payload without an answer has a part, to the next collection: computed now, it would have
    /// that part too.
    fn pass_cut(&mut self, flight: &mut Flight) {
        if let (Some(cut), Some(progressing)) = (flight.cut, &mut self.work)
            && progressing.next == cut
            && Arc::ptr_eq(&progressing.work, &flight.work)
        {
            progressing.next.place += 1;
            progressing.furthest = progressing.furthest.max(progressing.next);
            flight.is_passed = true;
        }
    }

    /// A payload has had an answer that lasts. What follows it in its series is not to wait for the next collection, because somebody may
    /// wait for this one.
    fn note_rest(&mut self, flight: &Flight) {
        if let Some(progressing) = self.work.as_mut().filter(|_| flight.is_passed) {
            progressing.has_rest |= progressing.next != Position::default();
        }
    }

    fn release(&mut self, flight: &Flight) {
        let series: Vec<Claim> = flight.series().collect();
        self.marks.release(&flight.work, &series);
    }

    /// The payload that is parked longest goes when there are too many: what is in it joins the next collection, and may count
    /// twice.
    fn bound_parked(&mut self) {
        if self.parked.len() <= MOST_PARKED {
            return;
        }
        let Some(flight) = self.parked.pop_front() else {
            return;
        };
        self.release(&flight);
        let tally = flight.tally();
        self.shared
            .telemetry
            .points
            .possible_duplicate
            .add(flight.increments as u64);
        self.carry_over(tally);
    }

    fn reject_flight(&mut self, flight: Flight, message: &str) {
        let points = flight.payload.points() as u64;
        self.note_error(message);
        let series: Vec<Claim> = flight.series().collect();
        self.report_rejection(&flight.work, &series, points, points, message);
        self.acknowledge(&flight.work, &flight.claims, &flight.parts);
        self.shared.telemetry.payloads.rejected.inc();
        self.spare = flight.payload.into_bytes();
    }

    /// Moves on past what was refused for good.
    pub(super) fn reject(&mut self, work: &Arc<Work>, claims: &[Claim], rejected: u64, points: u64, message: &str) {
        self.report_rejection(work, claims, rejected, points, message);
        self.acknowledge(work, claims, &[]);
    }

    fn report_rejection(&mut self, work: &Arc<Work>, claims: &[Claim], rejected: u64, points: u64, message: &str) {
        self.shared.telemetry.points.rejected.add(rejected);
        let now = self.shared.clock.monotonic();
        self.journal.rejected(now, rejected, message);
        if let Some(callback) = &self.dead_letters {
            let letter = DeadLetter {
                work,
                marks: &self.marks,
                claims,
                rejected,
                points,
                message,
            };
            if catch_unwind(AssertUnwindSafe(|| callback(&letter))).is_err() {
                self.journal.panicked(now, "the dead-letter callback");
            }
            self.shared.telemetry.dead_letters.inc();
        }
    }

    pub(super) fn acknowledge(&mut self, work: &Arc<Work>, claims: &[Claim], parts: &[Part]) {
        self.advance(work, claims, parts);
        let mut departed = Removals::of(work, claims.iter().copied());
        if let Some(provisional) = &self.provisional {
            // They seem to have nothing new; but that may be taken back.
            departed.retain(|departure| !provisional.marks.iter().any(|mark| mark.is_of(departure)));
        }
        self.removals.forget(&departed);
    }

    pub(super) fn advance(&mut self, work: &Arc<Work>, claims: &[Claim], parts: &[Part]) {
        self.marks.acknowledge_parts(work, parts);
        self.marks.acknowledge(work, claims);
        let points: u64 = claims.iter().map(|claim| (claim.end - claim.first) as u64).sum();
        self.shared
            .with(|state| state.progress.left = state.progress.left.saturating_sub(points));
    }

    /// What was halved because it was too large grows again, slowly.
    fn raise_limit(&mut self) {
        self.limit = self.limit.saturating_add(self.limit / 16 + 1);
    }
}
