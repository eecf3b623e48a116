//! A destination that somebody watches. It shows that what the crate brings can be wrapped by a destination of one's own.

use std::time::Duration;
use tidegauge::{Activity, Answer, Destination, FamilySnapshot, Payload, Points, Preferences, Temporality};

/// Does as another destination does. But first `look` sees each payload that is to be sent; and if it answers, it is the far end.
pub struct Watched<D, F> {
    destination: D,
    look: F,
}

impl<D, F> Watched<D, F>
where
    D: Destination,
    F: FnMut(&Payload) -> Option<Answer> + Send + 'static,
{
    pub fn new(destination: D, look: F) -> Self {
        Watched { destination, look }
    }
}

impl<D, F> Destination for Watched<D, F>
where
    D: Destination,
    F: FnMut(&Payload) -> Option<Answer> + Send + 'static,
{
    fn name(&self) -> &str {
        self.destination.name()
    }

    fn address(&self) -> String {
        self.destination.address()
    }

    fn preferences(&self) -> Preferences {
        self.destination.preferences()
    }

    fn temporality(&self, family: &FamilySnapshot) -> Temporality {
        self.destination.temporality(family)
    }

    fn encode(&mut self, points: &mut Points<'_>, payload: &mut Vec<u8>) {
        self.destination.encode(points, payload);
    }

    fn send(&mut self, payload: &Payload, timeout: Duration) -> Answer {
        match (self.look)(payload) {
            Some(answer) => answer,
            None => self.destination.send(payload, timeout),
        }
    }

    fn reload_credentials(&mut self) -> bool {
        self.destination.reload_credentials()
    }

    fn late_refusal(&mut self) -> Option<Answer> {
        self.destination.late_refusal()
    }

    fn reconnect(&mut self) {
        self.destination.reconnect();
    }

    fn activity(&self) -> Activity {
        self.destination.activity()
    }
}
