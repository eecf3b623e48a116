//! What the far end refuses for good, as the application gets to see it.

use super::{
    marks::Marks,
    points::{Point, Points},
    work::{Claim, Work},
};
use crate::snapshot::FamilySnapshot;
use std::{fmt, sync::Arc};

/// What is called with what the far end refuses for good.
pub(crate) type DeadLetters = Arc<dyn Fn(&DeadLetter<'_>) + Send + Sync>;

/// Points that the far end has refused for good; see [`Exporter::dead_letters`](crate::Exporter::dead_letters).
pub struct DeadLetter<'a> {
    pub(crate) work: &'a Work,
    pub(crate) marks: &'a Marks,
    pub(crate) claims: &'a [Claim],
    pub(crate) rejected: u64,
    pub(crate) points: u64,
    pub(crate) message: &'a str,
}

impl DeadLetter<'_> {
    /// What the far end said, cleaned and cut short.
    pub fn message(&self) -> &str {
        self.message
    }

    /// How many points it refused. Where that is fewer than [there are](DeadLetter::points), it has not said which.
    pub fn rejected(&self) -> u64 {
        self.rejected
    }

    /// How many points there are.
    pub fn points(&self) -> u64 {
        self.points
    }

    /// Gives every point to `see`, with its family. One of which only a part was in the payload, as of a histogram that did not fit, is
    /// given with all that was left of it. Samples and messages are counted among the [points](DeadLetter::points), but not given.
    pub fn each(&self, mut see: impl FnMut(&FamilySnapshot, Point<'_>)) {
        for claim in self.claims {
            let mut points = Points::of_claim(self.work, self.marks, *claim);
            while let Some(family) = points.next_family() {
                while let Some(point) = points.peek() {
                    see(family, point);
                    points.take();
                }
            }
        }
    }
}

impl fmt::Debug for DeadLetter<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("DeadLetter")
            .field("message", &self.message)
            .field("rejected", &self.rejected)
            .field("points", &self.points)
            .finish_non_exhaustive()
    }
}
