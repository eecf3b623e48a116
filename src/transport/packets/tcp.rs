//! TCP. There are no frames and no answers: a part of a packet that has left may be lines that count.

use super::{
    Sent,
    addresses::Addresses,
    stream::{Halt, Stream},
    system::advice,
};
use crate::{
    clock::SharedClock,
    destination::BatchId,
    transport::{connect::connect, patience::Patience},
};
use socket2::Socket;
use std::{io, time::Duration};

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

    pub(super) fn send(&mut self, packet: &[u8], id: BatchId, patience: &Patience) -> Sent {
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
                None => match self.connect(patience) {
                    Ok(stream) => self.stream.insert(stream),
                    Err(message) => return Sent::refused(message),
                },
            };
            match stream.write(packet, id, patience) {
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
    fn connect(&mut self, patience: &Patience) -> Result<Stream, String> {
        if let Some(problem) = self.backoff.holds() {
            return Err(format!("{problem}; it is tried again within a second"));
        }
        let known = self.addresses.current(patience)?.to_vec();
        let (at, connected) = connect(&known, self.next % known.len(), patience);
        match connected.and_then(watched) {
            Ok(stream) => {
                self.next = at;
                self.backoff.end();
                self.connections += 1;
                Ok(stream)
            }
            Err(error) => {
                let problem = self.addresses.shown(known[at], &advice(&error));
                self.addresses.doubt();
                self.backoff.begin(&problem);
                Err(problem)
            }
        }
    }
}

fn watched(socket: Socket) -> io::Result<Stream> {
    // Otherwise a far end that has lost its power is written to for a quarter of an hour.
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(LONGEST_SILENCE));
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
