//! A UDP socket that is read by a thread that counts: what a server on this machine would have had, and what the system has thrown away
//! because its receive buffer was full. The buffer is as large as the system makes it.

use crate::picture::thousands;
use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

pub struct Sink<T> {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    reader: JoinHandle<io::Result<Received<T>>>,
}

/// What came.
pub struct Received<T> {
    /// What was made of it.
    pub state: T,
    pub packets: u64,
    pub bytes: u64,
    /// Packets that this socket's buffer had no room for; none where the system does not say.
    pub dropped: Option<u64>,
    /// By how much `RcvbufErrors` grew meanwhile, which counts those of all UDP sockets here; none where the system does not say.
    pub rcvbuf_errors: Option<u64>,
}

impl<T> Received<T> {
    /// What was thrown away, in words.
    pub fn losses(&self) -> String {
        let count = |count: Option<u64>| count.map_or_else(|| "an unknown number".to_owned(), thousands);
        format!(
            "packets that the receive buffer had no room for: {} (RcvbufErrors grew by {})",
            count(self.dropped),
            count(self.rcvbuf_errors)
        )
    }
}

/// How long nothing must have come before nothing more is expected.
const SILENCE: Duration = Duration::from_millis(200);

impl<T: Send + 'static> Sink<T> {
    /// Calls `take` with each packet, on a thread of its own.
    pub fn start(state: T, take: impl Fn(&mut T, &[u8]) + Send + 'static) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(SILENCE))?;
        let address = socket.local_addr()?;
        let stopping = Arc::new(AtomicBool::new(false));
        let before = rcvbuf_errors();
        let reader = {
            let stopping = stopping.clone();
            let mut received = Received {
                state,
                packets: 0,
                bytes: 0,
                dropped: None,
                rcvbuf_errors: None,
            };
            thread::spawn(move || {
                let mut packet = vec![0; 1 << 16];
                loop {
                    match socket.recv(&mut packet) {
                        Ok(length) => {
                            received.packets += 1;
                            received.bytes += length as u64;
                            take(&mut received.state, &packet[..length]);
                        }
                        Err(error) if is_silence(&error) && stopping.load(Ordering::Acquire) => break,
                        Err(error) if is_silence(&error) => {}
                        Err(error) => return Err(error),
                    }
                }
                // While the socket is there, it has its line.
                received.dropped = drops(address.port());
                received.rcvbuf_errors = before.and_then(|before| Some(rcvbuf_errors()?.saturating_sub(before)));
                Ok(received)
            })
        };
        Ok(Sink {
            address,
            stopping,
            reader,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Reads what is there, and ends. By then nobody may send any more.
    pub fn finish(self) -> io::Result<Received<T>> {
        self.stopping.store(true, Ordering::Release);
        self.reader.join().expect("the reader does not panic")
    }
}

fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// The last column of a socket's line in `/proc/net/udp`.
fn drops(port: u16) -> Option<u64> {
    let sockets = fs::read_to_string("/proc/net/udp").ok()?;
    let own = format!(":{port:04X}");
    let line = sockets.lines().find(|line| {
        let local = line.split_whitespace().nth(1);
        local.is_some_and(|local| local.ends_with(&own))
    })?;
    line.split_whitespace().last()?.parse().ok()
}

/// `RcvbufErrors` of the section `Udp` in `/proc/net/snmp`: a line of names, then one of values.
fn rcvbuf_errors() -> Option<u64> {
    let counts = fs::read_to_string("/proc/net/snmp").ok()?;
    let mut lines = counts.lines().filter_map(|line| line.strip_prefix("Udp:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    pairs.find(|(name, _)| *name == "RcvbufErrors")?.1.parse().ok()
}
