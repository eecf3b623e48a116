//! TCP connections, made for as long as there is patience.

use super::patience::Patience;
use socket2::{Domain, Protocol, Socket, Type};
use std::{io, net::SocketAddr};

/// Connects to the first of some addresses that answers, the one at `first` before all others, and says at which; or what the last
/// one that was tried had against it. The addresses that are left share the time: one that never answers must not hide the next.
pub(crate) fn connect(addresses: &[SocketAddr], first: usize, patience: &Patience) -> (usize, io::Result<Socket>) {
    let mut last = (first, Err(io::ErrorKind::AddrNotAvailable.into()));
    for tried in 0..addresses.len() {
        let at = (first + tried) % addresses.len();
        let connected = connect_to(addresses[at], &patience.part(addresses.len() - tried));
        let is_over = connected.is_ok() || patience.slice().is_err();
        last = (at, connected);
        if is_over {
            break;
        }
    }
    last
}

fn connect_to(address: SocketAddr, patience: &Patience) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // What is written is whole: nothing is worth waiting for.
    let _ = socket.set_tcp_nodelay(true);
    establish(&socket, address, patience)?;
    Ok(socket)
}

#[cfg(unix)]
fn establish(socket: &Socket, address: SocketAddr, patience: &Patience) -> io::Result<()> {
    use crate::platform;
    use std::os::fd::AsFd;

    socket.set_nonblocking(true)?;
    match socket.connect(&address.into()) {
        // Interrupted, it goes on all the same.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR)) => {
            while !platform::is_connected_within(socket.as_fd(), patience.slice()?)? {}
            if let Some(error) = socket.take_error()? {
                return Err(error);
            }
        }
        done => done?,
    }
    socket.set_nonblocking(false)
}

/// Elsewhere nothing but its timeout ends it.
#[cfg(not(unix))]
fn establish(socket: &Socket, address: SocketAddr, patience: &Patience) -> io::Result<()> {
    patience.slice()?;
    socket.connect_timeout(&address.into(), patience.left())
}

/// A port at which nobody listens, and what keeps others from being given it.
#[cfg(test)]
pub(crate) fn closed_port() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

/// A listener that drops whoever comes, and what keeps it full.
#[cfg(all(test, target_os = "linux"))]
pub(crate) fn full_listener() -> ((Socket, Vec<std::net::TcpStream>), SocketAddr) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut accepted = Vec::new();
    // On the loopback interface a connection is made at once or not at all.
    while let Ok(connection) = std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_millis(100)) {
        accepted.push(connection);
    }
    ((listener, accepted), address)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::{destination::Overdue, transport::patience::TimeOver};
    use std::{net::TcpListener, time::Duration};

    fn over(error: &io::Error) -> Option<&TimeOver> {
        error.get_ref()?.downcast_ref()
    }

    #[test]
    fn the_first_that_answers_is_connected_to() {
        let (_full, silent) = full_listener();
        let (_held, closed) = closed_port();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let open = listener.local_addr().unwrap();
        let patience = Duration::from_millis(400).into();
        for (addresses, first, at) in [
            (vec![open], 0, 0),
            (vec![closed, open], 0, 1),
            (vec![open, closed], 1, 0),
            (vec![open, closed], 0, 0),
        ] {
            let (found, socket) = connect(&addresses, first, &patience);
            assert_eq!(
                (found, socket.unwrap().peer_addr().unwrap().as_socket()),
                (at, Some(open))
            );
        }
        let long = Duration::from_secs(60).into();
        let (_, refused) = connect(&[closed, closed], 0, &long);
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        // It gets a part of the time, and no more.
        let (found, socket) = connect(&[silent, open], 0, &Duration::from_secs(1).into());
        assert_eq!((found, socket.is_ok()), (1, true));
        let (_, unmade) = connect(&[silent], 0, &Duration::from_millis(20).into());
        assert_eq!(over(&unmade.unwrap_err()), Some(&TimeOver::Timeout));
    }

    #[test]
    fn an_exporter_that_ends_tries_no_other() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (_full, silent) = full_listener();
        let ends = Overdue::new(|| Some(Duration::ZERO));
        let patience = Patience::new(Duration::from_secs(3600), Some(&ends));
        let (found, unmade) = connect(&[silent, listener.local_addr().unwrap()], 0, &patience);
        assert_eq!((found, over(&unmade.unwrap_err())), (0, Some(&TimeOver::ExporterEnds)));
    }

    #[test]
    fn a_connection_blocks_and_does_not_delay() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (_, socket) = connect(&[listener.local_addr().unwrap()], 0, &Duration::from_secs(60).into());
        let socket = socket.unwrap();
        assert!(!socket.nonblocking().unwrap() && socket.tcp_nodelay().unwrap());
    }
}
