//! Names for ureq: anew for each connection, and never past the request's deadline.
//!
//! A look-up that outlives its request is waited for again by the next request for the same name.

use super::connection::Shared;
use crate::{
    sync::Mutex,
    transport::{
        names::{Asked, LookUp, literal},
        patience::TimeOver,
    },
};
use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};
use ureq::{
    Error, Timeout,
    config::Config,
    http::Uri,
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::NextTimeout,
    },
};

/// The resolver of connections.
pub(super) struct Names {
    look_up: Arc<LookUp>,
    shared: Arc<Shared>,
    /// Look-ups that nobody waited for to the end, by name.
    left: Mutex<Vec<(String, Asked)>>,
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
        let under_way = earlier.filter(|asked| asked.answer(Duration::ZERO).is_none());
        let asked = match under_way {
            Some(asked) => asked,
            None => Asked::begin(&self.look_up, &name)?,
        };
        match asked.wait(&self.shared.patience()) {
            Ok(found) => Ok(found?),
            Err(over) => {
                self.left.lock().push((name, asked));
                Err(match over {
                    TimeOver::Timeout => Error::Timeout(Timeout::Resolve),
                    TimeOver::ExporterEnds => over.into(),
                })
            }
        }
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
