//! A connection that bytes go through in one direction, and how far the packet under way has come.
//!
//! A packet that is written in part leaves the stream in the middle of a line or a frame: nothing but its rest may follow. The
//! far end could not find the next beginning.

use super::system::{send_now, send_within};
use crate::{destination::BatchId, transport::patience::Patience};
use socket2::Socket;
use std::{
    io::{self, Read},
    time::Duration,
};

pub(super) struct Stream {
    /// Does not block.
    socket: Socket,
    /// The packet that is written in part, and how much of it is.
    under_way: Option<(BatchId, usize)>,
}

/// Why a packet was not written to its end.
pub(super) enum Halt {
    /// The time was over. The connection stands, and goes on with this packet's rest if some of it, as told, is written.
    TimeOver { written: usize },
    /// The connection is lost, after so much of the packet.
    Lost { written: usize, error: io::Error },
}

impl Stream {
    /// Of a socket that is connected.
    pub(super) fn new(socket: Socket) -> io::Result<Stream> {
        socket.set_nonblocking(true)?;
        Ok(Stream {
            socket,
            under_way: None,
        })
    }

    #[cfg(test)]
    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Whether this packet may be written to it: not if another one is written in part.
    pub(super) fn is_free_for(&self, id: BatchId) -> bool {
        self.under_way.is_none_or(|(under_way, _)| under_way == id)
    }

    /// How much of a packet is written, and the rest of it is not.
    pub(super) fn part_written(&self) -> usize {
        self.under_way.map_or(0, |(_, written)| written)
    }

    /// Writes what is not written yet of a packet; the bytes are the same each time.
    pub(super) fn write(&mut self, bytes: &[u8], id: BatchId, patience: &Patience) -> Result<(), Halt> {
        let mut written = self.part_written();
        while written < bytes.len() {
            match send_before(&self.socket, &bytes[written..], patience) {
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.under_way = (written > 0).then_some((id, written));
                    return Err(Halt::TimeOver { written });
                }
                Err(error) => return Err(Halt::Lost { written, error }),
            }
        }
        self.under_way = None;
        Ok(())
    }

    /// Why the far end is known to have gone, if it is. What it says is thrown away: nothing was asked.
    pub(super) fn end(&mut self) -> Option<io::Error> {
        let mut bytes = [0; 1024];
        // A far end that talks without end is believed to be there.
        for _ in 0..MOST_READS {
            match self.socket.read(&mut bytes) {
                Ok(0) => return Some(io::ErrorKind::ConnectionAborted.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) => return Some(error),
            }
        }
        None
    }
}

/// Sends a piece, and waits for room with patience if there is none.
fn send_before(socket: &Socket, bytes: &[u8], patience: &Patience) -> io::Result<usize> {
    let mut sent = send_now(socket, bytes);
    while let Err(error) = &sent
        && error.kind() == io::ErrorKind::WouldBlock
    {
        let Ok(slice) = patience.slice() else { break };
        if slice < SHORTEST_WAIT {
            break;
        }
        // The system may wait anew for each piece that it makes of what it is given.
        sent = send_within(socket, &bytes[..bytes.len().min(PIECE)], slice);
    }
    sent
}

const MOST_READS: usize = 16;

/// Smaller than any piece that a system makes.
const PIECE: usize = 16 << 10;

/// The shortest wait that every system knows.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::{io::Write, os::unix::net::UnixStream};

    #[test]
    fn what_the_far_end_says_does_not_hide_that_it_has_gone() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut stream = Stream::new(near.into()).unwrap();
        assert!(stream.end().is_none());
        far.write_all(b"welcome").unwrap();
        assert!(stream.end().is_none());
        far.write_all(b"goodbye").unwrap();
        drop(far);
        assert_eq!(stream.end().unwrap().kind(), io::ErrorKind::ConnectionAborted);
    }

    #[test]
    fn a_far_end_that_talks_without_end_is_believed() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut stream = Stream::new(near.into()).unwrap();
        far.write_all(&[b'x'; 64 << 10]).unwrap();
        drop(far);
        assert!(stream.end().is_none());
    }
}
