//! Payloads that the system has taken, but may still give back: a datagram to nobody is refused when the next one is sent.

use super::Sender;
use crate::{
    destination::Answer,
    exporter::{
        flight::{Flight, Provisional},
        journal::Journal,
        removals::Removals,
        retry::Decision,
    },
};
use std::{sync::Arc, time::Duration};

impl Sender {
    /// Goes on as if a payload were delivered, but remembers how to [take that back](Sender::restore).
    pub(super) fn believe(&mut self, flight: &Flight) {
        let provisional = Provisional {
            work: flight.work.sequence(),
            from: flight.from,
            tally: flight.tally(),
            marks: self.marks.remember(&flight.work, flight.series()),
            // One that is there in part has more to say.
            departed: Removals::of(&flight.work, flight.claims.iter().copied()),
        };
        self.note_success();
        self.advance(&flight.work, &flight.claims, &flight.parts);
        self.provisional = Some(provisional);
    }

    /// The payload before has arrived, as far as anybody can know.
    pub(super) fn confirm(&mut self) {
        if let Some(Provisional { tally, departed, .. }) = self.provisional.take() {
            self.count_delivered(tally.points);
            self.removals.forget(&departed);
        }
    }

    /// Forgets that a payload seemed to be delivered.
    pub(super) fn restore(&mut self, provisional: &Provisional) {
        let gone = self.marks.restore(&provisional.marks);
        self.shared.telemetry.dropped_points.removed_series.add(gone);
    }

    /// Asks once more about the payload before, if somebody waits for it; else the next send tells.
    pub(super) fn settle_provisional(&mut self) {
        if self.shared.is_flushing() {
            self.ask_about_provisional();
        }
    }

    pub(super) fn ask_about_provisional(&mut self) {
        if self.provisional.is_none() {
            return;
        }
        let refusal = self.call("late_refusal", |destination| destination.late_refusal());
        let Some(Answer { message, .. }) = refusal.flatten() else {
            return self.confirm();
        };
        let now = self.shared.clock.monotonic();
        let message = Journal::words(&message);
        self.note_error(&message);
        self.retry.refused(now);
        self.journal.failed(now, self.retry.is_open(), &message);
        self.take_back_provisional();
    }

    /// The payload before has not arrived, and what it held joins the next collection.
    pub(super) fn take_back_provisional(&mut self) {
        if let Some(previous) = self.provisional.take() {
            self.restore(&previous);
            self.carry_over(previous.tally);
        }
    }

    /// A payload was not taken, nor was the one before it, which seemed to be. It goes on from where that one left series that are
    /// in both, so it cannot be sent again as it is: both are encoded anew, or join the next collection.
    pub(super) fn fail_with_previous(
        &mut self,
        flight: Flight,
        previous: Provisional,
        first: Duration,
        now: Duration,
        message: &str,
    ) {
        self.note_error(message);
        let decision = match self.shared.is_flushing() {
            true => self.retry.failed_in_flush(now, flight.payload.attempt(), None),
            false => self.retry.failed(now, first, None),
        };
        self.journal.failed(now, self.retry.is_open(), message);
        // What is deferred would be encoded again with them.
        let again = decision == Decision::Again && self.deferred.is_empty() && !flight.is_doubtful();
        match &mut self.work {
            Some(progressing) if again && Arc::ptr_eq(&progressing.work, &flight.work) => {
                progressing.next = progressing.next.min(flight.from);
                let telemetry = &self.shared.telemetry;
                telemetry.points.retried.add(flight.payload.points() as u64);
                telemetry.payloads.retried.inc();
                // They are in no other payload; samples are, as all that is encoded from here on.
                telemetry.dropped_points.superseded.add(flight.messages as u64);
                if previous.work == flight.work.sequence() {
                    progressing.next = progressing.next.min(previous.from);
                    telemetry.points.retried.add(previous.tally.points);
                    telemetry.payloads.retried.inc();
                    telemetry.dropped_points.superseded.add(previous.tally.messages);
                    self.shared.with(|state| state.progress.left += previous.tally.points);
                } else {
                    self.carry_over(previous.tally);
                }
                self.restore(&previous);
                self.spare = flight.payload.into_bytes();
            }
            _ => {
                self.restore(&previous);
                self.carry_over(previous.tally);
                self.give_up(flight);
            }
        }
    }
}
