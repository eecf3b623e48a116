//! What stands at the other end of StatsD: sockets on this machine.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A socket that nobody reads. Its buffer is soon full, and the system throws away what comes then, as a network card
/// would take it away: the sender pays for sending, and not for waking a reader up.
pub fn deaf() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("the loopback device has ports")
}

/// A socket that a thread reads, which adds up the values of counters. The thread runs as long as the process.
pub struct Server {
    address: SocketAddr,
    heard: Arc<Heard>,
}

/// What has come.
#[derive(Default)]
struct Heard {
    counted: AtomicU64,
    packets: AtomicU64,
}

impl Server {
    /// Starts to read.
    pub fn start() -> Self {
        let socket = deaf();
        let address = socket.local_addr().expect("it is bound");
        let heard = Arc::new(Heard::default());
        let reading = Arc::clone(&heard);
        std::thread::spawn(move || read(&socket, &reading));
        Self { address, heard }
    }

    /// Where to send to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What all counters come to.
    pub fn counted(&self) -> u64 {
        self.heard.counted.load(Ordering::Acquire)
    }

    /// How many packets have come.
    pub fn packets(&self) -> u64 {
        self.heard.packets.load(Ordering::Acquire)
    }
}

fn read(socket: &UdpSocket, heard: &Heard) -> io::Result<()> {
    let mut packet = [0; 1 << 16];
    loop {
        let length = socket.recv(&mut packet)?;
        heard.packets.fetch_add(1, Ordering::Release);
        heard.counted.fetch_add(counted(&packet[..length]), Ordering::Release);
    }
}

/// The values of all counters in a packet, or in several with line ends between them.
pub fn counted(packet: &[u8]) -> u64 {
    let lines = packet.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let line = std::str::from_utf8(line).expect("lines are UTF-8");
            let (_, rest) = line.split_once(':').expect("a line has a value");
            let (value, rest) = rest.split_once('|').expect("a line has a type");
            assert!(rest == "c" || rest.starts_with("c|"), "{line:?} is no counter");
            value.parse::<u64>().expect("a counter is a whole number")
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_of_all_lines_are_added_up() {
        assert_eq!(counted(b"a:1|c\nb:20|c|#x:y\n\nc:300|c|@1"), 321);
    }
}
