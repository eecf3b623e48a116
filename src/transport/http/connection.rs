//! How connections are made, bounded and counted, and how a request's first bytes leave: the part that stands on ureq's
//! `unversioned` module.
//!
//! ureq is told scheme and host alone. Its log shows, at the level `trace`, every byte of a request's head that it writes, so
//! path, query and credentials are added here, below it.

use super::{
    names::Names,
    proxy::Forward,
    tcp::Reach,
    tls::{self, Session},
};
use crate::{
    sync::{AtomicU64, Mutex, Ordering},
    transport::patience::Patience,
};
use std::{
    fmt, io,
    sync::Arc,
    time::{Duration, Instant},
};
use ureq::{
    Error, Timeout,
    unversioned::transport::{
        Buffers, ConnectProxyConnector, ConnectionDetails, Connector, NextTimeout, SocksConnector, Transport, time,
    },
};

/// What the client and its connections tell each other. The client has one request at a time, so its connections share one
/// deadline and one head.
#[derive(Debug)]
pub(super) struct Shared {
    opened: AtomicU64,
    exchange: Mutex<Exchange>,
}

struct Exchange {
    patience: Patience,
    /// What is still to be added to the request; taken when its first byte leaves.
    head: Option<Head>,
}

/// What of a request's head ureq is not told.
#[derive(Clone)]
pub(super) struct Head {
    /// What is asked for.
    pub(super) target: String,
    /// Header lines, each with its end.
    pub(super) lines: Vec<u8>,
}

impl Shared {
    pub(super) fn new() -> Shared {
        Shared {
            opened: AtomicU64::new(0),
            exchange: Mutex::new(Exchange {
                patience: Duration::ZERO.into(),
                head: None,
            }),
        }
    }

    pub(super) fn begin(&self, patience: Patience, head: Head) {
        *self.exchange.lock() = Exchange {
            patience,
            head: Some(head),
        };
    }

    /// Whether a byte of the request may have left. Ends the request.
    pub(super) fn end(&self) -> bool {
        self.exchange.lock().head.take().is_none()
    }

    /// Connections opened so far.
    pub(super) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// The patience of the request.
    pub(super) fn patience(&self) -> Patience {
        self.exchange.lock().patience.clone()
    }

    /// The time left, for what does not ask again.
    fn timeout(&self) -> Result<NextTimeout, Error> {
        let patience = self.patience();
        patience.slice()?;
        Ok(NextTimeout {
            after: time::Duration::Exact(patience.left()),
            reason: Timeout::Global,
            ..NextTimeout::default()
        })
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its head has credentials.
        formatter.write_str("Exchange")
    }
}

/// Makes connections: to the host, or through a proxy.
pub(super) struct Dial {
    pub(super) shared: Arc<Shared>,
    pub(super) names: Arc<Names>,
    pub(super) session: Session,
    /// A proxy that is sent the request itself instead of being asked for a tunnel.
    pub(super) forward: Option<Forward>,
    /// How long a connection is used.
    pub(super) longest_use: Duration,
}

impl Connector<()> for Dial {
    type Out = Connection;

    fn connect(&self, details: &ConnectionDetails<'_>, _: Option<()>) -> Result<Option<Connection>, Error> {
        let reached = self.forward.as_ref().map_or(details.uri, |forward| &forward.origin);
        // The proxies for which it matters are asked for a name, and resolve it themselves.
        let addrs = if details.config.proxy().is_none_or(|proxy| proxy.resolve_target()) {
            self.names.addresses(reached)?
        } else {
            details.addrs.clone()
        };
        // A tunnel begins with a connection to the proxy.
        let (shared, names, session) = (Arc::clone(&self.shared), Arc::clone(&self.names), self.session.clone());
        let run_connector = Arc::new(move |details: &ConnectionDetails<'_>| {
            let details = again(details, details.addrs.clone(), &names, &shared)?;
            let transport = Reach(Arc::clone(&shared)).connect(&details, None::<()>)?;
            let transport = Box::new(transport.ok_or(Error::ConnectionFailed)?);
            with_tls(transport, &details, details.uri, &session)
        });
        let mut details = again(details, addrs, &self.names, &self.shared)?;
        details.run_connector = run_connector;
        let chain =
            ().chain(SocksConnector::default())
                .chain(ConnectProxyConnector::default())
                .chain(Reach(Arc::clone(&self.shared)));
        let transport = chain.connect(&details, None)?.ok_or(Error::ConnectionFailed)?;
        details.timeout = self.shared.timeout()?;
        let transport = with_tls(Box::new(transport), &details, reached, &self.session)?;
        self.shared.opened.fetch_add(1, Ordering::Relaxed);
        let connection = Connection::new(transport, Arc::clone(&self.shared), self.longest_use);
        Ok(Some(connection))
    }
}

impl fmt::Debug for Dial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Dial")
    }
}

/// The details of a connection with addresses, a resolver and the time that is left now.
fn again<'a>(
    details: &ConnectionDetails<'a>,
    addrs: ureq::unversioned::resolver::ResolvedSocketAddrs,
    names: &'a Names,
    shared: &Shared,
) -> Result<ConnectionDetails<'a>, Error> {
    Ok(ConnectionDetails {
        uri: details.uri,
        addrs,
        config: details.config,
        request_level: details.request_level,
        resolver: names,
        now: (details.current_time)(),
        timeout: shared.timeout()?,
        current_time: Arc::clone(&details.current_time),
        run_connector: Arc::clone(&details.run_connector),
        register_shutdown: Arc::clone(&details.register_shutdown),
    })
}

fn with_tls(
    transport: Box<dyn Transport>,
    details: &ConnectionDetails<'_>,
    reached: &ureq::http::Uri,
    session: &Session,
) -> Result<Box<dyn Transport>, Error> {
    if reached.scheme_str() != Some("https") || transport.is_tls() {
        return Ok(transport);
    }
    tls::wrap(transport, details, reached, session)
}

/// A connection that ends its work at the deadline, knows what has left, and is not used for ever.
pub(super) struct Connection {
    inner: Box<dyn Transport>,
    shared: Arc<Shared>,
    opened: Instant,
    longest_use: Duration,
    /// Why nothing can be sent any more.
    unsent: Option<io::Error>,
}

impl Connection {
    fn new(inner: Box<dyn Transport>, shared: Arc<Shared>, longest_use: Duration) -> Connection {
        Connection {
            inner,
            shared,
            opened: Instant::now(),
            longest_use,
            unsent: None,
        }
    }

    /// Sends the first bytes of a request, with what ureq was not told put in.
    fn transmit_head(&mut self, amount: usize, head: &Head) -> Result<(), Error> {
        let told = self.inner.buffers().output()[..amount].to_vec();
        let whole = head.put_into(&told).ok_or_else(|| {
            Error::Io(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the request line is too long",
            ))
        })?;
        let mut rest = whole.as_slice();
        while !rest.is_empty() {
            let output = self.inner.buffers().output();
            let piece = rest.len().min(output.len());
            output[..piece].copy_from_slice(&rest[..piece]);
            rest = &rest[piece..];
            self.inner.transmit_output(piece, self.shared.timeout()?)?;
        }
        Ok(())
    }
}

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), Error> {
        if self.unsent.is_some() {
            return Ok(());
        }
        let timeout = self.shared.timeout()?;
        let head = self.shared.exchange.lock().head.take();
        let sent = match head {
            Some(head) => self.transmit_head(amount, &head),
            None => self.inner.transmit_output(amount, timeout),
        };
        match sent {
            // A server that refuses a request early answers and closes while the body is still on its way. Its answer is in
            // the socket: the rest of the body goes nowhere, and reading tells what there is.
            Err(Error::Io(error)) => {
                self.unsent = Some(error);
                Ok(())
            }
            sent => sent,
        }
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, Error> {
        let input = self.inner.await_input(self.shared.timeout()?);
        match &self.unsent {
            None => input,
            Some(unsent) => match input {
                Ok(true) => Ok(true),
                // A certificate that the server refuses is told when it is read, whatever sending met.
                Err(error) if tls::refusal(&error).is_some() => Err(error),
                Ok(false) | Err(_) => Err(Error::Io(io::Error::new(unsent.kind(), unsent.to_string()))),
            },
        }
    }

    fn is_open(&mut self) -> bool {
        self.unsent.is_none() && self.opened.elapsed() < self.longest_use && self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Connection({:?})", self.inner)
    }
}

impl Head {
    /// The head that ureq wrote, with this target instead of its own, and these lines before its own.
    fn put_into(&self, told: &[u8]) -> Option<Vec<u8>> {
        let line = told.windows(2).position(|pair| pair == b"\r\n")?;
        let before = told[..line].iter().position(|byte| *byte == b' ')? + 1;
        let after = told[..line].iter().rposition(|byte| *byte == b' ')?;
        let (method, version, rest) = (&told[..before], told.get(after..line + 2)?, &told[line + 2..]);
        Some([method, self.target.as_bytes(), version, &self.lines, rest].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_completed() {
        let head = Head {
            target: "/v1/metrics?token=x".to_owned(),
            lines: b"A: b\r\n".to_vec(),
        };
        let told = b"POST / HTTP/1.1\r\nhost: h\r\n\r\nbody\r\n";
        let whole = head.put_into(told).unwrap();
        assert_eq!(
            whole,
            b"POST /v1/metrics?token=x HTTP/1.1\r\nA: b\r\nhost: h\r\n\r\nbody\r\n"
        );
        assert_eq!(head.put_into(b"POST / HTTP/1.1"), None);
        assert_eq!(head.put_into(b"POST\r\n"), None);
    }
}
