//! From names to addresses, anew for each connection, and never past the deadline.
//!
//! The system's resolver can't be interrupted, so it runs on a thread of its own, which a request waits for. A look-up that
//! outlives its request is waited for again by the next request for the same name: there is at most one such thread a name.

use super::connection::Shared;
use crate::sync::Mutex;
use std::{
    fmt, io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel},
    },
    thread,
};
use ureq::{
    Error, Timeout,
    config::Config,
    http::Uri,
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::NextTimeout,
    },
};

/// What looks a `host:port` up.
pub(super) type LookUp = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

pub(super) fn system(name: &str) -> io::Result<Vec<SocketAddr>> {
    Ok(name.to_socket_addrs()?.collect())
}

type Pending = Receiver<io::Result<Vec<SocketAddr>>>;

/// The resolver of connections.
pub(super) struct Names {
    look_up: Arc<LookUp>,
    shared: Arc<Shared>,
    /// Look-ups that nobody waited for to the end, by name.
    left: Mutex<Vec<(String, Pending)>>,
}

impl Names {
    pub(super) fn new(look_up: Arc<LookUp>, shared: Arc<Shared>) -> Names {
        Names {
            look_up,
            shared,
            left: Mutex::new(Vec::new()),
        }
    }

    /// The addresses of a URL's host.
    pub(super) fn addresses(&self, uri: &Uri) -> Result<ResolvedSocketAddrs, Error> {
        let (scheme, authority) = uri.scheme().zip(uri.authority()).ok_or(Error::HostNotFound)?;
        let name = DefaultResolver::host_and_port(scheme, authority).ok_or(Error::HostNotFound)?;
        let found = match literal(&name) {
            Some(address) => vec![address],
            None => self.wait_for(name)?,
        };
        let mut addresses = self.empty();
        for address in found.into_iter().take(MOST_ADDRESSES) {
            addresses.push(address);
        }
        if addresses.is_empty() {
            return Err(Error::HostNotFound);
        }
        Ok(addresses)
    }

    fn wait_for(&self, name: String) -> Result<Vec<SocketAddr>, Error> {
        let earlier = {
            let mut left = self.left.lock();
            let at = left.iter().position(|(running, _)| *running == name);
            at.map(|at| left.swap_remove(at).1)
        };
        // One that ended after its request is out of date.
        let pending = earlier.and_then(|receiver| match receiver.try_recv() {
            Err(TryRecvError::Empty) => Some(receiver),
            Ok(_) | Err(TryRecvError::Disconnected) => None,
        });
        let receiver = match pending {
            Some(receiver) => receiver,
            None => self.start(&name)?,
        };
        match receiver.recv_timeout(self.shared.remaining()?) {
            Ok(found) => Ok(found?),
            Err(RecvTimeoutError::Timeout) => {
                self.left.lock().push((name, receiver));
                Err(Error::Timeout(Timeout::Resolve))
            }
            Err(RecvTimeoutError::Disconnected) => Err(Error::HostNotFound),
        }
    }

    fn start(&self, name: &str) -> io::Result<Pending> {
        let (sender, receiver) = sync_channel(1);
        let look_up = Arc::clone(&self.look_up);
        let name = name.to_owned();
        thread::Builder::new()
            .name("tidegauge-names".to_owned())
            .spawn(move || {
                // Nobody listens any more where the client is gone.
                let _ = sender.send(look_up(&name));
            })?;
        Ok(receiver)
    }
}

impl Resolver for Names {
    fn resolve(&self, uri: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        self.addresses(uri)
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Names")
    }
}

/// Finds an address without looking. ureq asks its resolver before it looks for an open connection; the addresses that count are
/// found when one is made.
#[derive(Debug)]
pub(super) struct Later;

impl Resolver for Later {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let mut addresses = self.empty();
        addresses.push(SocketAddr::from(([0, 0, 0, 0], 0)));
        Ok(addresses)
    }
}

/// As many as ureq has room for.
const MOST_ADDRESSES: usize = 16;

/// An address that is written out needs no look-up.
fn literal(name: &str) -> Option<SocketAddr> {
    let (host, port) = name.rsplit_once(':')?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    Some(SocketAddr::new(host.parse::<IpAddr>().ok()?, port.parse().ok()?))
}
