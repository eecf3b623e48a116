//! Packets over UDP, TCP and Unix sockets, to far ends that answer nothing.
//!
//! What there is to know of a packet is whether this system has taken it; [`Sent`] says that. What it has taken may still be
//! lost: in the network, in a receive buffer that is full, or with a server that dies before it reads. Where the system learns of
//! that later ([`Packets::late_refusal`]), the packet before is blamed too.
//!
//! Blocking, on the thread that asks, and never past the time that a send is given. Nothing is sent twice: where a socket
//! turns out to be dead before any of a packet counts, the packet goes once more, over a new one. After a fork the child calls
//! [`Packets::reconnect`] before its first send, or drops it: either closes its copy of the socket and sends nothing.

mod addresses;
mod endpoint;
mod stream;
mod system;
mod tcp;
mod udp;
#[cfg(unix)]
mod unix;
#[cfg(not(unix))]
#[path = "packets/without_unix.rs"]
mod unix;

#[cfg(all(test, unix))]
mod tests;
#[cfg(all(test, unix))]
mod unix_tests;

pub(crate) use endpoint::Endpoint;
pub(crate) use endpoint::EndpointError;

use crate::{
    clock::SharedClock,
    destination::BatchId,
    redact,
    transport::{names, patience::Patience},
};
use addresses::Addresses;
use std::{fmt, sync::Arc, time::Duration};
use tcp::Tcp;
use udp::Udp;
use unix::Unix;

/// A socket to an endpoint, made at the first send and again when it is needed. It is used by one thread at a time.
pub(crate) struct Packets {
    endpoint: Endpoint,
    medium: Medium,
}

enum Medium {
    Udp(Udp),
    Tcp(Tcp),
    Unix(Unix),
}

/// What became of a packet. Messages are one bounded line that names the endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The system has taken all of it.
    Taken,
    /// Nothing of it counts: it may be sent again, or its contents in another packet.
    Refused {
        message: String,
        /// Whether the packet that was taken before it is known to be lost, too.
        previous_too: bool,
    },
    /// A part of it may count. If it is sent again, what was under way goes on where it stopped, if the connection still
    /// stands; if it does not, the far end may see lines twice.
    Unclear(String),
    /// It is more than this kind of socket takes at once, and nothing of it was sent.
    TooLarge(String),
}

impl Packets {
    /// For an endpoint. Its name is resolved at the first send, after failures, and, over UDP, whenever `resolve_every` is over.
    pub(crate) fn new(endpoint: Endpoint, resolve_every: Duration, clock: SharedClock) -> Packets {
        Packets::resolving_with(Arc::new(names::system), endpoint, resolve_every, clock)
    }

    fn resolving_with(
        look_up: Arc<names::LookUp>,
        endpoint: Endpoint,
        resolve_every: Duration,
        clock: SharedClock,
    ) -> Packets {
        let addresses =
            |host: &str, port| Addresses::new(look_up, &endpoint::authority(host, port), resolve_every, clock.clone());
        let medium = match &endpoint {
            Endpoint::Udp { host, port } => Medium::Udp(Udp::new(addresses(host, *port))),
            Endpoint::Tcp { host, port } => Medium::Tcp(Tcp::new(addresses(host, *port), clock.clone())),
            Endpoint::UnixDatagram(path) => Medium::Unix(Unix::datagrams(path.clone())),
            Endpoint::UnixStream(path) => Medium::Unix(Unix::stream(path.clone())),
            Endpoint::Unix(path) => Medium::Unix(Unix::either(path.clone())),
        };
        Packets { endpoint, medium }
    }

    /// Sends a packet, for as long as there is patience. A packet that is sent again has the same `id` and
    /// the same bytes: where a stream has taken a part of it, the rest follows.
    pub(crate) fn send(&mut self, packet: &[u8], id: BatchId, patience: impl Into<Patience>) -> Sent {
        let patience = &patience.into();
        let sent = match &mut self.medium {
            Medium::Udp(udp) => udp.send(packet, patience),
            Medium::Tcp(tcp) => tcp.send(packet, id, patience),
            Medium::Unix(unix) => unix.send(packet, id, patience),
        };
        let shown = |message: String| self.shown(&message);
        match sent {
            Sent::Taken => Sent::Taken,
            Sent::Refused { message, previous_too } => Sent::Refused {
                message: shown(message),
                previous_too,
            },
            Sent::Unclear(message) => Sent::Unclear(shown(message)),
            Sent::TooLarge(message) => Sent::TooLarge(shown(message)),
        }
    }

    /// What the system says by now against the packet that was taken last, and has not said yet. Only UDP has something to say,
    /// and only for as long as nothing else is sent.
    pub(crate) fn late_refusal(&mut self) -> Option<String> {
        let message = match &mut self.medium {
            Medium::Udp(udp) => udp.late_refusal(),
            Medium::Tcp(_) | Medium::Unix(_) => None,
        };
        message.map(|message| self.shown(&message))
    }

    /// Drops the socket without a word to the far end, and looks its name up again: after a freeze, and in the child after a fork.
    pub(crate) fn reconnect(&mut self) {
        match &mut self.medium {
            Medium::Udp(udp) => udp.reconnect(),
            Medium::Tcp(tcp) => tcp.reconnect(),
            Medium::Unix(unix) => unix.reconnect(),
        }
    }

    /// Sockets connected so far.
    pub(crate) fn connections(&self) -> u64 {
        match &self.medium {
            Medium::Udp(udp) => udp.connections(),
            Medium::Tcp(tcp) => tcp.connections(),
            Medium::Unix(unix) => unix.connections(),
        }
    }

    fn shown(&self, message: &str) -> String {
        redact::line(&format!("{}: {message}", self.endpoint), MESSAGE_CHARACTERS)
    }
}

impl fmt::Debug for Packets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Packets");
        shown
            .field("endpoint", &self.endpoint)
            .field("connections", &self.connections());
        shown.finish_non_exhaustive()
    }
}

impl Sent {
    fn refused(message: impl Into<String>) -> Sent {
        Sent::Refused {
            message: message.into(),
            previous_too: false,
        }
    }
}

const MESSAGE_CHARACTERS: usize = 400;
