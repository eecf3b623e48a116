//! Which sockets a child listens on, as Linux lists them: none of these servers says which port the system picked for it.
//! It is the child's own list, so neither an orphan of an earlier run nor anybody else on that port can be taken for it.

use crate::program::{PATIENCE, Program};
use std::collections::HashSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Instant;

/// The kinds of sockets, named as in `/proc/net`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Udp,
    Tcp,
}

/// Where `program` listens with a socket of that kind on `address`. Waits until it does. A server with several of a kind is
/// given a loopback address for each, which tells them apart.
///
/// # Panics
///
/// If it does not within [`PATIENCE`], with what it printed.
pub fn listens(program: &mut Program, kind: Kind, address: [u8; 4]) -> SocketAddr {
    let address = Ipv4Addr::from(address);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = listening(program.id(), kind)
            .into_iter()
            .find(|found| found.ip() == address);
        if let Some(found) = found {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "{}",
            program.report(&format!(
                "does not listen on {address} with {kind:?} within {PATIENCE:?}"
            ))
        );
        thread::yield_now();
    }
}

fn listening(process: u32, kind: Kind) -> Vec<SocketAddr> {
    let table = match kind {
        Kind::Udp => "/proc/net/udp",
        Kind::Tcp => "/proc/net/tcp",
    };
    let own = inodes(process);
    let table = fs::read_to_string(table).expect("Linux lists its sockets");
    let rows = table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| kind == Kind::Udp || row[3] == LISTENING)
        .filter(|row| own.contains(row[9]))
        .map(|row| socket(row[1]).unwrap_or_else(|| panic!("{} is no address", row[1])))
        .collect()
}

/// The inodes of a process' open sockets; none if it has ended.
fn inodes(process: u32) -> HashSet<String> {
    let Ok(files) = fs::read_dir(format!("/proc/{process}/fd")) else {
        return HashSet::new();
    };
    // A file may be closed while they are listed.
    let targets = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
    targets
        .filter_map(|target| {
            let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            Some(inode.to_string())
        })
        .collect()
}

/// Reads `0100007F:1F90`: the address as the machine's own number, the port as a number.
fn socket(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let address = u32::from_str_radix(address, 16).ok()?;
    let port = u16::from_str_radix(port, 16).ok()?;
    Some(SocketAddr::from((Ipv4Addr::from(address.to_ne_bytes()), port)))
}

/// The state of a TCP socket that accepts connections.
const LISTENING: &str = "0A";

/// How many datagrams the system threw away because this socket's buffer was full.
pub fn dropped(address: SocketAddr) -> u64 {
    let table = fs::read_to_string("/proc/net/udp").expect("Linux lists its sockets");
    let rows = table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut found = rows.filter(|row| socket(row[1]) == Some(address));
    let row = found.next().unwrap_or_else(|| panic!("nobody listens on {address}"));
    row.last()
        .and_then(|drops| drops.parse().ok())
        .expect("the last column is a number")
}

/// The same of all sockets since the system's start: `RcvbufErrors` of its statistics of UDP.
pub fn receive_buffer_errors() -> u64 {
    let statistics = fs::read_to_string("/proc/net/snmp").expect("Linux tells its statistics");
    let rows: Vec<Vec<&str>> = statistics
        .lines()
        .filter_map(|line| Some(line.strip_prefix("Udp: ")?.split_whitespace().collect()))
        .collect();
    let [names, values] = rows.as_slice() else {
        panic!("UDP has a row of names and a row of values: {rows:?}");
    };
    let column = names
        .iter()
        .position(|name| *name == "RcvbufErrors")
        .expect("it is among the names");
    values[column].parse().expect("a statistic is a number")
}
