//! Unix sockets, of datagrams or of a stream.
//!
//! A server that restarts leaves the old socket dead and puts a new one at the same path, so whatever error there is but a full
//! receiver, the path is connected to once more within the same send. That costs microseconds and no network, so unlike TCP it
//! is tried with each send.
//!
//! On a stream each packet is a frame: its length in four bytes, little-endian, and the packet. DogStatsD's documentation
//! (<https://docs.datadoghq.com/extend/dogstatsd/unix_socket/>) is silent on it; its official client is not
//! (<https://github.com/DataDog/datadog-go/blob/master/statsd/uds.go>). A frame that is not whole when the connection ends is
//! nothing to the server.
//!
//! A server that dies takes with it what it has not read yet, and no error says so.

use super::{
    Sent,
    stream::{Halt, Stream},
    system::{advice, is_full, is_too_large, is_wrong_type, send_now, send_within},
};
use crate::{destination::BatchId, transport::patience::Patience};
use socket2::{Domain, SockAddr, Socket, Type};
use std::{io, path::PathBuf, time::Duration};

pub(super) struct Unix {
    path: PathBuf,
    datagrams: bool,
    stream: bool,
    link: Option<Link>,
    /// Whether a full receiver is waited for: not again after it was once, in vain, until it has taken something.
    patient: bool,
    frame: Vec<u8>,
    connections: u64,
}

enum Link {
    /// Does not block.
    Datagrams(Socket),
    Stream(Stream),
}

impl Unix {
    pub(super) fn datagrams(path: PathBuf) -> Unix {
        Unix::new(path, true, false)
    }

    pub(super) fn stream(path: PathBuf) -> Unix {
        Unix::new(path, false, true)
    }

    /// Datagrams, or a stream if the socket there is one.
    pub(super) fn either(path: PathBuf) -> Unix {
        Unix::new(path, true, true)
    }

    fn new(path: PathBuf, datagrams: bool, stream: bool) -> Unix {
        Unix {
            path,
            datagrams,
            stream,
            link: None,
            patient: true,
            frame: Vec::new(),
            connections: 0,
        }
    }

    pub(super) fn send(&mut self, packet: &[u8], id: BatchId, patience: &Patience) -> Sent {
        self.link
            .take_if(|link| matches!(link, Link::Stream(stream) if !stream.is_free_for(id)));
        let mut may_connect_again = self.link.is_some();
        loop {
            if self.link.is_none() {
                match self.connect() {
                    Ok(link) => self.link = Some(link),
                    Err(message) => return Sent::refused(message),
                }
            }
            let lost = match self.send_once(packet, id, patience) {
                Ok(sent) => return sent,
                Err(lost) => lost,
            };
            self.link = None;
            if !may_connect_again {
                return Sent::refused(advice(&lost));
            }
            may_connect_again = false;
        }
    }

    pub(super) fn reconnect(&mut self) {
        self.link = None;
    }

    pub(super) fn connections(&self) -> u64 {
        self.connections
    }

    #[cfg(test)]
    pub(super) fn is_patient(&self) -> bool {
        self.patient
    }

    /// Sends over the socket there is, or says why that is no good any more.
    fn send_once(&mut self, packet: &[u8], id: BatchId, patience: &Patience) -> io::Result<Sent> {
        match &mut self.link {
            None => Err(io::ErrorKind::NotConnected.into()),
            Some(Link::Datagrams(socket)) => {
                let mut sent = send_now(socket, packet);
                if sent.as_ref().is_err_and(is_full)
                    && self.patient
                    && let Ok(slice) = patience.slice()
                {
                    sent = send_within(socket, packet, slice.min(LONGEST_PATIENCE));
                }
                match sent {
                    Ok(_) => {
                        self.patient = true;
                        Ok(Sent::Taken)
                    }
                    Err(error) if is_full(&error) => {
                        self.patient = false;
                        Ok(Sent::refused(format!("{FULL} ({error})")))
                    }
                    Err(error) if is_too_large(&error) => Ok(Sent::TooLarge(format!(
                        "a packet of {} bytes is more than a datagram takes, make packets smaller ({error})",
                        packet.len(),
                    ))),
                    Err(error) => Err(error),
                }
            }
            Some(Link::Stream(stream)) => {
                let Ok(length) = u32::try_from(packet.len()) else {
                    return Ok(Sent::TooLarge(format!(
                        "a packet of {} bytes is more than a frame takes, make packets smaller",
                        packet.len(),
                    )));
                };
                self.frame.clear();
                self.frame.extend_from_slice(&length.to_le_bytes());
                self.frame.extend_from_slice(packet);
                match stream.write(&self.frame, id, patience) {
                    Ok(()) => Ok(Sent::Taken),
                    Err(Halt::TimeOver { .. }) => Ok(Sent::refused(FULL)),
                    Err(Halt::Lost { error, .. }) => Err(error),
                }
            }
        }
    }

    fn connect(&mut self) -> Result<Link, String> {
        let wrong_type = |error: &io::Error| self.stream && is_wrong_type(error);
        let connected = match self.datagrams.then(|| self.connect_datagrams()) {
            None => self.connect_stream(),
            Some(Err(error)) if wrong_type(&error) => self.connect_stream(),
            Some(connected) => connected,
        };
        let link = connected.map_err(|error| match is_wrong_type(&error) {
            true if self.stream => format!("the socket takes datagrams, write unixgram:// ({error})"),
            true => format!("the socket is a stream, write unixstream:// ({error})"),
            false => advice(&error),
        })?;
        self.connections += 1;
        // A new receiver has kept nobody waiting.
        self.patient = true;
        Ok(link)
    }

    fn connect_datagrams(&self) -> io::Result<Link> {
        let socket = self.connect_as(Type::DGRAM)?;
        // As much as the system grants: what the receiver has not read yet is charged to the sender here.
        let _ = socket.set_send_buffer_size(SEND_BUFFER);
        Ok(Link::Datagrams(socket))
    }

    fn connect_stream(&self) -> io::Result<Link> {
        Ok(Link::Stream(Stream::new(self.connect_as(Type::STREAM)?)?))
    }

    /// Connects without waiting: only a server that accepts nobody would have to be waited for.
    fn connect_as(&self, kind: Type) -> io::Result<Socket> {
        let socket = Socket::new(Domain::UNIX, kind, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(&self.path)?)?;
        Ok(socket)
    }
}

/// How long one send waits for a full receiver.
const LONGEST_PATIENCE: Duration = Duration::from_millis(100);

const SEND_BUFFER: usize = 1 << 20;

const FULL: &str = "the server does not read fast enough, see that it runs or send less often";
