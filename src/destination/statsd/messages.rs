//! What an application has to say besides its metrics: events, service checks and members of sets, queued by its threads and
//! put into packets by the exporter's.

use super::{
    dialect::Dialect,
    event::{Event, ServiceCheck},
    seen::{Seen, Sight},
};
use crate::{
    encode::statsd::message::{self, SetFields},
    platform,
    sync::{AtomicU64, Ordering},
};
use crossbeam_queue::ArrayQueue;
use std::{fmt, sync::Arc};

/// Queues events, service checks and members of sets for a [`StatsD`](crate::StatsD) destination; made by
/// [`StatsD::messages`](crate::StatsD::messages). Clones share one queue.
///
/// The exporter puts what is queued into the packets of its next collection, behind the points. A message never waits: where there is
/// no room for it, it is dropped at once and counted ([`dropped`](Messages::dropped), and by the exporter as
/// `tidegauge_exporter_dropped_points_total{reason="message_queue"}`). A packet that is not delivered takes its messages with it;
/// that is counted by the exporter, too. Messages are not repeated.
///
/// In the child of a fork every message is dropped: make a destination there.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{net::UdpSocket, time::Duration};
/// use tidegauge::{Event, Exporter, Registry, StatsD};
///
/// let server = UdpSocket::bind("127.0.0.1:0")?;
/// # server.set_read_timeout(Some(Duration::from_secs(60)))?;
/// let statsd = StatsD::builder(format!("dogstatsd+udp://{}", server.local_addr()?))
///     .environment(false)
///     .origin_detection(false)
///     .build()?;
/// let messages = statsd.messages();
/// let exporter = Exporter::new(statsd).start(&Registry::new())?;
///
/// assert!(messages.event(Event::new("Deployed", "Version 1.2")));
/// assert!(messages.set("users", "u-123", &[("country", "de")]));
/// exporter.flush(Duration::from_secs(5))?;
///
/// let mut seen = String::new();
/// while !seen.contains("users:u-123|s|#country:de") {
///     let mut packet = [0; 1432];
///     let length = server.recv(&mut packet)?;
///     seen += std::str::from_utf8(&packet[..length])?;
///     seen += "\n";
/// }
/// assert!(seen.contains("_e{8,11}:Deployed|Version 1.2"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Messages {
    outbox: Arc<Outbox>,
}

/// What the handles and the destination share.
pub(super) struct Outbox {
    queue: ArrayQueue<Message>,
    seen: Seen,
    dialect: Dialect,
    /// Of the process that made it: in a child, a queue that was being written to would never be free again.
    generation: u64,
    dropped: [AtomicU64; DROPS.len()],
    /// Messages that could not be written.
    refused: AtomicU64,
}

/// What waits in the queue; boxed, so that an empty queue is small.
pub(super) enum Message {
    Event(Box<Event>),
    ServiceCheck(Box<ServiceCheck>),
    Set(Box<Member>),
}

/// A member of a set.
pub(super) struct Member {
    name: String,
    value: String,
    tags: Vec<(String, String)>,
}

/// Why a message was not queued.
#[derive(Clone, Copy)]
enum Drop {
    Full,
    Unsupported,
    Forked,
}

/// What the log says of each.
const DROPS: [&str; 3] = [
    "there is no room for them in the queue: give it more with `message_queue`, or export more often",
    "the dialect has none: choose DogStatsD, or send none",
    "they are sent in the child of a fork: make a destination there",
];

impl Messages {
    pub(super) fn new(outbox: Arc<Outbox>) -> Self {
        Messages { outbox }
    }

    /// Queues an event. Whether it is queued: not if the queue is full, or if the dialect is another than DogStatsD, which has no
    /// events. One without a title, or longer than a packet, is dropped and counted later.
    pub fn event(&self, event: Event) -> bool {
        self.outbox.push(Message::Event(Box::new(event)))
    }

    /// Queues a service check. Whether it is queued: not if the queue is full, or if the dialect is another than DogStatsD, which has
    /// no service checks. One without a name, or longer than a packet, is dropped and counted later.
    pub fn service_check(&self, check: ServiceCheck) -> bool {
        self.outbox.push(Message::ServiceCheck(Box::new(check)))
    }

    /// Queues a member of a set, of which servers count how many different ones they have received. Whether it is queued: not if
    /// the queue is full, or if the dialect is Librato or SignalFX, whose servers have no sets. One that is longer than a packet is
    /// dropped and counted later.
    ///
    /// A member that was queued since the last collection began is not queued again. statsd_exporter and the OpenTelemetry Collector
    /// take no sets in any dialect.
    pub fn set(&self, name: &str, value: &str, tags: &[(&str, &str)]) -> bool {
        match self.outbox.seen.note(&(name, value, tags)) {
            Sight::Again => true,
            Sight::First(noted) => {
                let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
                let is_queued = self.outbox.push(Message::Set(Box::new(Member {
                    name: name.to_owned(),
                    value: value.to_owned(),
                    tags: tags.collect(),
                })));
                if let Some(noted) = noted.filter(|_| !is_queued) {
                    noted.forget();
                }
                is_queued
            }
        }
    }

    /// How many messages were dropped because there was no room for them, or because they cannot be sent at all.
    pub fn dropped(&self) -> u64 {
        self.outbox.dropped()
    }
}

impl fmt::Debug for Messages {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Messages")
            .field("queued", &self.outbox.queue.len())
            .field("room", &self.outbox.queue.capacity())
            .field("dropped", &self.dropped())
            .finish()
    }
}

impl Outbox {
    /// With room for so many messages, which is not 0.
    pub(super) fn new(room: usize, dialect: Dialect) -> Self {
        Outbox {
            queue: ArrayQueue::new(room),
            seen: Seen::new(room),
            dialect,
            generation: platform::generation(),
            dropped: Default::default(),
            refused: AtomicU64::new(0),
        }
    }

    pub(super) fn dropped(&self) -> u64 {
        // Relaxed, here and below: counts that lead to nothing else.
        let counts = self.dropped.iter().map(|count| count.load(Ordering::Relaxed));
        counts.fold(self.refused.load(Ordering::Relaxed), u64::saturating_add)
    }

    /// A collection begins. How many messages are for it: what is queued while it is sent is for the next.
    pub(super) fn begin(&self) -> usize {
        // Before the queue is looked at: what is forgotten and queued already goes out now, and what is queued later was not seen.
        self.seen.clear();
        self.queue.len()
    }

    pub(super) fn pop(&self) -> Option<Message> {
        self.queue.pop()
    }

    /// A message cannot be written.
    pub(super) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Why messages were not queued so far.
    pub(super) fn reasons(&self) -> impl Iterator<Item = &'static str> {
        let counts = self.dropped.iter().map(|count| count.load(Ordering::Relaxed));
        DROPS
            .into_iter()
            .zip(counts)
            .filter(|(_, count)| *count > 0)
            .map(|(reason, _)| reason)
    }

    fn push(&self, message: Message) -> bool {
        let drop = if self.generation != platform::generation() {
            Drop::Forked
        } else if !message.is_of(self.dialect) {
            Drop::Unsupported
        } else if self.queue.push(message).is_err() {
            Drop::Full
        } else {
            return true;
        };
        self.dropped[drop as usize].fetch_add(1, Ordering::Relaxed);
        false
    }
}

impl Message {
    fn is_of(&self, dialect: Dialect) -> bool {
        match self {
            Message::Event(_) | Message::ServiceCheck(_) => dialect == Dialect::DogStatsD,
            Message::Set(_) => !matches!(dialect, Dialect::Librato | Dialect::SignalFx),
        }
    }

    pub(super) fn fields(&self) -> message::Message<'_> {
        match self {
            Message::Event(event) => message::Message::Event(event.fields()),
            Message::ServiceCheck(check) => message::Message::ServiceCheck(check.fields()),
            Message::Set(member) => message::Message::Set(SetFields {
                name: &member.name,
                member: &member.value,
                tags: &member.tags,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_queues_nothing() {
        let mut outbox = Outbox::new(8, Dialect::DogStatsD);
        outbox.generation += 1;
        let messages = Messages::new(Arc::new(outbox));
        assert!(!messages.event(Event::new("a", "b")));
        assert!(!messages.set("a", "b", &[]));
        assert_eq!((messages.dropped(), messages.outbox.queue.len()), (2, 0));
        let reasons: Vec<&str> = messages.outbox.reasons().collect();
        assert!(reasons.len() == 1 && reasons[0].contains("fork"), "{reasons:?}");
    }
}
