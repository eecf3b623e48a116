//! UDP, over a connected socket: only such a one is told that nobody listens.
//!
//! That message comes after the fact. For a datagram on the loopback interface it comes, as a rule, before `send` returns, so
//! looking at the socket's error right afterwards tells of this very datagram; from further away it comes later, and whoever
//! sees it knows no more than that the datagrams up to now are lost
//! (<https://man7.org/linux/man-pages/man7/udp.7.html>, <https://man7.org/linux/man-pages/man7/ip.7.html>).

use super::{
    Sent,
    addresses::Addresses,
    system::{advice, is_full, is_refusal, is_too_large, send_now},
};
use crate::transport::patience::Patience;
use socket2::{Domain, Protocol, Socket, Type};
use std::{io, net::SocketAddr};

pub(super) struct Udp {
    addresses: Addresses,
    connected: Option<Connected>,
    /// Which of the addresses is next.
    next: usize,
    connections: u64,
}

struct Connected {
    socket: Socket,
    peer: SocketAddr,
    /// Whether the last datagram was taken, and nothing is known against it.
    last_stands: bool,
}

impl Udp {
    pub(super) fn new(addresses: Addresses) -> Udp {
        Udp {
            addresses,
            connected: None,
            next: 0,
            connections: 0,
        }
    }

    pub(super) fn send(&mut self, packet: &[u8], patience: &Patience) -> Sent {
        let addresses = match self.addresses.current(patience) {
            Ok(known) => known.len(),
            Err(problem) => return Sent::refused(problem),
        };
        if let Some(connected) = &self.connected
            && !self.addresses.known().contains(&connected.peer)
        {
            self.connected = None;
            self.next = 0;
        }
        let mut problem = String::new();
        // Each address once: what is refused at one of them is not lost, but goes to the next.
        for _ in 0..addresses {
            let connected = match self.connected() {
                Ok(connected) => connected,
                Err(error) => {
                    problem = self.refused(&error);
                    continue;
                }
            };
            let (error, was_sent) = match send_now(&connected.socket, packet) {
                Ok(_) => match take_error(&connected.socket) {
                    None => {
                        connected.last_stands = true;
                        return Sent::Taken;
                    }
                    Some(error) => (error, true),
                },
                Err(error) if is_full(&error) => {
                    return Sent::refused(format!(
                        "the system's send buffer is full, spread the packets or make them fewer ({error})"
                    ));
                }
                Err(error) if is_too_large(&error) => {
                    return Sent::TooLarge(format!(
                        "a packet of {} bytes is more than a datagram takes, make packets smaller ({error})",
                        packet.len(),
                    ));
                }
                Err(error) => (error, false),
            };
            // Before the datagram left, a refusal can only be of the one before. After it left, it may be of either.
            let blames_previous = if was_sent {
                !connected.peer.ip().is_loopback()
            } else {
                is_refusal(&error)
            };
            let previous_too = blames_previous && connected.last_stands;
            connected.last_stands = false;
            problem = self.refused(&error);
            // A datagram that may have arrived is not sent again right away, and what is known of the one before is told first.
            if previous_too || was_sent && blames_previous {
                return Sent::Refused {
                    message: problem,
                    previous_too,
                };
            }
        }
        Sent::refused(problem)
    }

    pub(super) fn late_refusal(&mut self) -> Option<String> {
        let connected = self.connected.as_mut()?;
        let error = take_error(&connected.socket)?;
        if !std::mem::take(&mut connected.last_stands) {
            return None;
        }
        Some(self.refused(&error))
    }

    pub(super) fn reconnect(&mut self) {
        self.connected = None;
        self.addresses.forget();
    }

    pub(super) fn connections(&self) -> u64 {
        self.connections
    }

    #[cfg(test)]
    pub(super) fn socket(&self) -> Option<&Socket> {
        Some(&self.connected.as_ref()?.socket)
    }

    #[cfg(test)]
    pub(super) fn known(&self) -> &[SocketAddr] {
        self.addresses.known()
    }

    /// The socket. Connecting one puts nothing on the wire, so it may be done for each packet.
    fn connected(&mut self) -> io::Result<&mut Connected> {
        let connected = match self.connected.take() {
            Some(connected) => connected,
            None => {
                let known = self.addresses.known();
                let connected = Connected::new(known[self.next % known.len()])?;
                self.connections += 1;
                connected
            }
        };
        Ok(self.connected.insert(connected))
    }

    /// Takes a refusal down: the next send asks for the name again, and goes to another of its addresses if there are several.
    fn refused(&mut self, error: &io::Error) -> String {
        self.addresses.doubt();
        let known = self.addresses.known();
        let peer = match &self.connected {
            Some(connected) => connected.peer,
            None => known[self.next % known.len()],
        };
        if known.len() > 1 {
            self.next = known.iter().position(|address| *address == peer).map_or(0, |at| at + 1);
            self.connected = None;
        }
        self.addresses.shown(peer, &advice(error))
    }
}

impl Connected {
    fn new(peer: SocketAddr) -> io::Result<Connected> {
        let socket = Socket::new(Domain::for_address(peer), Type::DGRAM, Some(Protocol::UDP))?;
        // As much as the system grants: a burst waits here rather than being refused.
        let _ = socket.set_send_buffer_size(SEND_BUFFER);
        socket.set_nonblocking(true)?;
        socket.connect(&peer.into())?;
        Ok(Connected {
            socket,
            peer,
            last_stands: false,
        })
    }
}

/// What the system has learned since it was asked last. That a socket can't be asked is said by the next send.
fn take_error(socket: &Socket) -> Option<io::Error> {
    socket.take_error().ok().flatten()
}

const SEND_BUFFER: usize = 1 << 20;
