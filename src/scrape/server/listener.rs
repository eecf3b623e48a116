//! Where connections come from: TCP, or a Unix socket where the system has them. One trait for listening and one for a
//! connection, so that nothing behind this file knows the difference.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use mio::event::Source;
use mio::net::{TcpListener, TcpStream};
use socket2::SockRef;

use super::error::ServeError;

#[cfg_attr(not(unix), path = "listener/without_unix.rs")]
mod unix;

/// Yields connections without ever waiting for one.
pub(crate) trait Listener: Send {
    /// The next connection, or [`io::ErrorKind::WouldBlock`].
    fn accept(&mut self) -> io::Result<Box<dyn Stream>>;
    fn source(&mut self) -> &mut dyn Source;
}

/// One connection; reads and writes never wait.
pub(crate) trait Stream: Read + Write + Send {
    /// Tells the client that nothing more will be written.
    fn finish_writing(&mut self) -> io::Result<()>;
    fn source(&mut self) -> &mut dyn Source;
}

/// The address in use once listening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    Network(SocketAddr),
    #[cfg_attr(not(unix), expect(dead_code, reason = "there are none to listen on"))]
    Unix(PathBuf),
}

/// Connections that the system completes ahead of being accepted; it may have a lower bound of its own. A client that finds
/// no place there tries again after a second, which is too late for a scrape; the usual 128 are filled by a burst of
/// clients within a few milliseconds.
const BACKLOG: i32 = 4096;

/// Listens on `host:port` or `unix:/path`.
pub(crate) fn listen(address: &str) -> Result<(Box<dyn Listener>, Bound), ServeError> {
    match address.strip_prefix("unix:") {
        Some(path) => unix::listen(address, path),
        None => listen_on_network(address),
    }
}

fn listen_on_network(address: &str) -> Result<(Box<dyn Listener>, Bound), ServeError> {
    let candidates = address.to_socket_addrs().map_err(|error| {
        if error.kind() == io::ErrorKind::InvalidInput {
            ServeError::address(
                address,
                "an address is host:port, as in 127.0.0.1:9464 or [::1]:0, or unix:/path/to.sock",
            )
        } else {
            ServeError::system(address, "look up the host", error)
        }
    })?;
    // A name may stand for several addresses; as everywhere else, the first that can be had is taken.
    let mut refusal = io::ErrorKind::AddrNotAvailable.into();
    for candidate in candidates {
        match TcpListener::bind(candidate).and_then(|listener| {
            let bound = listener.local_addr()?;
            // Asked for a second time because the first, within `bind`, is too modest. Where the system does not take it the
            // server works all the same.
            let _ = SockRef::from(&listener).listen(BACKLOG);
            Ok((listener, bound))
        }) {
            Ok((listener, bound)) => return Ok((Box::new(listener), Bound::Network(bound))),
            Err(error) => refusal = error,
        }
    }
    Err(ServeError::system(address, "listen", refusal))
}

impl Listener for TcpListener {
    fn accept(&mut self) -> io::Result<Box<dyn Stream>> {
        let (stream, _) = TcpListener::accept(self)?;
        // A reply leaves in one or two writes; waiting to fill a packet only delays it. Not worth losing a client over.
        let _ = stream.set_nodelay(true);
        Ok(Box::new(stream))
    }

    fn source(&mut self) -> &mut dyn Source {
        self
    }
}

impl Stream for TcpStream {
    fn finish_writing(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn source(&mut self) -> &mut dyn Source {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(address: &str) -> ServeError {
        match listen(address) {
            Ok((_, bound)) => panic!("{address} was bound as {bound:?}"),
            Err(error) => error,
        }
    }

    #[test]
    fn port_zero_is_replaced_by_the_one_given() {
        for address in ["127.0.0.1:0", "localhost:0"] {
            let (_listener, bound) = listen(address).unwrap();
            assert!(matches!(bound, Bound::Network(bound) if bound.port() != 0), "{bound:?}");
        }
    }

    #[test]
    fn errors_name_the_address_and_its_form() {
        for address in ["", "127.0.0.1", "localhost:http", "127.0.0.1:70000"] {
            let error = refusal(address);
            assert!(error.is_address(), "{error}");
            assert!(error.to_string().contains(&format!("on {address}: ")), "{error}");
            assert!(error.to_string().contains("127.0.0.1:9464"), "{error}");
        }
    }

    #[test]
    fn an_address_in_use_is_said_to_be() {
        let (_listener, bound) = listen("127.0.0.1:0").unwrap();
        let Bound::Network(bound) = bound else {
            panic!("{bound:?}")
        };
        assert!(refusal(&bound.to_string()).is_in_use());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_burst_of_clients_is_kept_for_accepting() {
        use std::net::TcpStream;
        use std::time::Duration;

        let bound_of_system = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        let burst = bound_of_system.trim().parse().unwrap_or(128).min(300);
        let (_listener, bound) = listen("127.0.0.1:0").unwrap();
        let Bound::Network(bound) = bound else {
            panic!("{bound:?}")
        };
        // Nobody accepts; without a place each further client would try again and again until its time is up.
        let clients: Vec<_> = (0..burst)
            .map(|_| TcpStream::connect_timeout(&bound, Duration::from_secs(60)).unwrap())
            .collect();
        assert_eq!(clients.len(), burst);
    }
}
