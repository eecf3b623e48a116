//! TCP. There are no frames and no answers: a part of a packet that has left may be lines that count.

use super::{
    Sent,
    addresses::Addresses,
    stream::{Halt, Stream},
    system::advice,
};
use crate::{clock::SharedClock, destination::BatchId};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

pub(super) struct Tcp {
    addresses: Addresses,
    stream: Option<Stream>,
    /// Which of the addresses is next.
    next: usize,
    backoff: Backoff,
    connections: u64,
}

impl Tcp {
    pub(super) fn new(addresses: Addresses, clock: SharedClock) -> Tcp {
        Tcp {
            addresses,
            stream: None,
            next: 0,
            backoff: Backoff::new(clock),
            connections: 0,
        }
    }

    pub(super) fn send(&mut self, packet: &[u8], id: BatchId, deadline: Instant) -> Sent {
        self.stream.take_if(|stream| !stream.is_free_for(id));
        // Writing to a connection that the far end has closed succeeds once, and the packet is lost: it has to be asked.
        if let Some(stream) = &mut self.stream
            && let Some(error) = stream.end()
        {
            let written = stream.part_written();
            self.lose();
            if written > 0 {
                return unclear(written, packet, &advice(&error));
            }
        }
        // What becomes known of a connection only when it is written to is no reason to refuse the packet. A new one has no past.
        let mut may_connect_again = self.stream.is_some();
        loop {
            let stream = match &mut self.stream {
                Some(stream) => stream,
                None => match self.connect(deadline) {
                    Ok(stream) => self.stream.insert(stream),
                    Err(message) => return Sent::refused(message),
                },
            };
            match stream.write(packet, id, deadline) {
                Ok(()) => return Sent::Taken,
                Err(Halt::TimeOver { written: 0 }) => return Sent::refused(TIME_OVER),
                Err(Halt::TimeOver { written }) => return unclear(written, packet, TIME_OVER),
                Err(Halt::Lost { written, error }) => {
                    self.lose();
                    if written > 0 {
                        return unclear(written, packet, &advice(&error));
                    }
                    if !may_connect_again {
                        return Sent::refused(advice(&error));
                    }
                    may_connect_again = false;
                }
            }
        }
    }

    pub(super) fn reconnect(&mut self) {
        self.stream = None;
        self.addresses.forget();
        self.backoff.end();
    }

    pub(super) fn connections(&self) -> u64 {
        self.connections
    }

    #[cfg(test)]
    pub(super) fn stream(&self) -> Option<&Stream> {
        self.stream.as_ref()
    }

    fn lose(&mut self) {
        self.stream = None;
        self.addresses.doubt();
    }

    /// Connects to the first address that answers, or says why none does.
    fn connect(&mut self, deadline: Instant) -> Result<Stream, String> {
        if let Some(problem) = self.backoff.holds() {
            return Err(format!("{problem}; it is tried again within a second"));
        }
        let known = self.addresses.current(deadline)?.to_vec();
        let mut problem = String::new();
        for tried in 0..known.len() {
            let at = (self.next + tried) % known.len();
            // The addresses that are left share the time: one that never answers must not hide the next.
            let left = deadline.saturating_duration_since(Instant::now()) / (known.len() - tried) as u32;
            match connect(known[at], left) {
                Ok(stream) => {
                    self.next = at;
                    self.backoff.end();
                    self.connections += 1;
                    return Ok(stream);
                }
                Err(error) => problem = self.addresses.shown(known[at], &advice(&error)),
            }
        }
        self.addresses.doubt();
        self.backoff.begin(&problem);
        Err(problem)
    }
}

fn connect(address: SocketAddr, timeout: Duration) -> io::Result<Stream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A packet is whole when it is written: nothing is worth waiting for.
    let _ = socket.set_tcp_nodelay(true);
    // Otherwise a far end that has lost its power is written to for a quarter of an hour.
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(LONGEST_SILENCE));
    socket.connect_timeout(&address.into(), timeout)?;
    Stream::new(socket)
}

fn unclear(written: usize, packet: &[u8], message: &str) -> Sent {
    Sent::Unclear(format!(
        "after {written} of {} bytes of a packet: {message}",
        packet.len()
    ))
}

/// How long what was written may stay without the far end's confirmation. A server that hangs for longer, and goes on, loses what
/// this system holds for it; one that is gone would lose what it is given for so long.
#[cfg(target_os = "linux")]
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

const TIME_OVER: &str = "the server does not read fast enough, see that it runs or send less often";

/// Waits between attempts to connect: without them each of thousands of packets would make one, at a far end that may be
/// just about to recover, and wait for what comes of it.
struct Backoff {
    clock: SharedClock,
    wait: Duration,
    until: Option<Duration>,
    problem: String,
}

impl Backoff {
    fn new(clock: SharedClock) -> Backoff {
        Backoff {
            clock,
            wait: FIRST_WAIT,
            until: None,
            problem: String::new(),
        }
    }

    /// Why nothing is to be tried just now.
    fn holds(&self) -> Option<&str> {
        let until = self.until?;
        (self.clock.monotonic() < until).then_some(self.problem.as_str())
    }

    /// After a failure.
    fn begin(&mut self, problem: &str) {
        self.until = Some(self.clock.monotonic() + self.wait);
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        problem.clone_into(&mut self.problem);
    }

    /// After a success, or when what failed has nothing to say any more.
    fn end(&mut self) {
        self.until = None;
        self.wait = FIRST_WAIT;
    }
}

const FIRST_WAIT: Duration = Duration::from_millis(100);

const LONGEST_WAIT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::ManualClock;

    #[test]
    fn waits_double_to_a_second_and_begin_again_after_a_success() {
        let clock = ManualClock::new();
        let mut backoff = Backoff::new(SharedClock::new(clock.clone()));
        for _ in 0..2 {
            assert_eq!(backoff.holds(), None);
            for wait in [100, 200, 400, 800, 1000, 1000] {
                backoff.begin("down");
                clock.advance(Duration::from_millis(wait) - Duration::from_nanos(1));
                assert_eq!(backoff.holds(), Some("down"), "{wait}");
                clock.advance(Duration::from_nanos(1));
                assert_eq!(backoff.holds(), None, "{wait}");
            }
            backoff.begin("down");
            backoff.end();
        }
    }
}
