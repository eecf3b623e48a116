//! A payload on its way, and what is remembered of one whose answer may still be taken back.

use super::{
    marks::Remembered,
    points::Position,
    work::{Claim, Part, Work},
};
use crate::{departure::Departure, destination::Payload};
use std::{sync::Arc, time::Duration};

/// A payload on its way.
pub(crate) struct Flight {
    pub(crate) payload: Payload,
    pub(crate) work: Arc<Work>,
    pub(crate) claims: Vec<Claim>,
    /// Series that are in it in part.
    pub(crate) parts: Vec<Part>,
    pub(crate) increments: usize,
    /// Points that are in no later payload: samples and messages.
    pub(crate) passing: usize,
    /// Of these, messages: they are not even in a payload that is encoded anew from the same points.
    pub(crate) messages: usize,
    /// Where in its work it begins.
    pub(crate) from: Position,
    /// Where it ends, if the rest of the point there is still to be sent.
    pub(crate) cut: Option<Position>,
    /// When it was first sent, since it was last taken up.
    pub(crate) first: Option<Duration>,
    /// Nobody knows whether one of its sends arrived.
    pub(crate) unclear: bool,
    /// New credentials have been tried.
    pub(crate) reloaded: bool,
    /// What follows it in its series has been left to a later work, or to the end of one that has passed them.
    pub(crate) is_passed: bool,
    /// It is not tried again in the works up to this one.
    pub(crate) tried: u64,
}

impl Flight {
    /// Whether some of it may have arrived, and would count twice if it came in another payload.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.unclear && self.increments > 0
    }

    /// The series that are in it, wholly or in part.
    pub(crate) fn series(&self) -> impl Iterator<Item = Claim> {
        self.claims.iter().copied().chain(self.parts.iter().map(Part::claim))
    }

    pub(crate) fn tally(&self) -> FlightTally {
        FlightTally {
            points: self.payload.points() as u64,
            lost: (self.work.standing(&self.claims) + self.passing) as u64,
            messages: self.messages as u64,
        }
    }
}

/// What giving a payload up comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlightTally {
    pub(crate) points: u64,
    /// Of these, values as they stood, samples and messages: nothing later has just these.
    pub(crate) lost: u64,
    /// Of these, messages.
    pub(crate) messages: u64,
}

/// A payload that the system has taken, but may still give back: see [`Answer::provisional`](crate::Answer::provisional).
///
/// Its series go on from where it left them, as if it had been delivered, so that the next payload need not wait.
pub(crate) struct Provisional {
    /// The sequence of its work, and where in that it begins.
    pub(crate) work: u64,
    pub(crate) from: Position,
    pub(crate) tally: FlightTally,
    /// Where the marks of its series were before it.
    pub(crate) marks: Vec<Remembered>,
    /// Removed series of which it has the last values.
    pub(crate) departed: Vec<Arc<Departure>>,
}
