//! From a name to its addresses, never past a deadline.
//!
//! The system's resolver can't be interrupted, so it runs on a thread of its own, which whoever asks waits for as long as it
//! can. A look-up that outlives its question is kept by who asked, and waited for again instead of a second one: there is at
//! most one such thread for each name of each client.

use super::patience::{Patience, TimeOver};
use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
    thread,
    time::Duration,
};

/// What looks a `host:port` up.
pub(crate) type LookUp = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// The system's resolver.
pub(crate) fn system(name: &str) -> io::Result<Vec<SocketAddr>> {
    Ok(name.to_socket_addrs()?.collect())
}

/// An address that is written out, as `host:port` with an IPv6 address in brackets: it needs no look-up.
pub(crate) fn literal(name: &str) -> Option<SocketAddr> {
    let (host, port) = name.rsplit_once(':')?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    Some(SocketAddr::new(host.parse::<IpAddr>().ok()?, port.parse().ok()?))
}

/// A look-up that has begun.
pub(crate) struct Asked {
    answer: Receiver<io::Result<Vec<SocketAddr>>>,
}

impl Asked {
    /// Begins a look-up.
    ///
    /// # Errors
    ///
    /// If there can be no thread for it.
    pub(crate) fn begin(look_up: &Arc<LookUp>, name: &str) -> io::Result<Asked> {
        let (sender, answer) = sync_channel(1);
        let look_up = Arc::clone(look_up);
        let name = name.to_owned();
        thread::Builder::new()
            .name("tidegauge-names".to_owned())
            .spawn(move || {
                // Nobody listens any more where the client is gone.
                let _ = sender.send(look_up(&name));
            })?;
        Ok(Asked { answer })
    }

    /// What was found, which is told once, as soon as it is known.
    pub(crate) fn wait(&self, patience: &Patience) -> Result<io::Result<Vec<SocketAddr>>, TimeOver> {
        loop {
            if let Some(answer) = self.answer(patience.slice()?) {
                return Ok(answer);
            }
        }
    }

    /// What was found, which is told once; `None` if nothing is known within `patience`.
    pub(crate) fn answer(&self, patience: Duration) -> Option<io::Result<Vec<SocketAddr>>> {
        match self.answer.recv_timeout(patience) {
            Ok(answer) => Some(answer),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Err(io::Error::other("the look-up ended without an answer"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::LongMutex;
    use std::sync::mpsc;

    #[test]
    fn written_out_addresses_are_read() {
        assert_eq!(literal("127.0.0.1:80"), Some(SocketAddr::from(([127, 0, 0, 1], 80))));
        assert_eq!(literal("[::1]:80"), Some("[::1]:80".parse().unwrap()));
        for name in ["localhost:80", "127.0.0.1", "127.0.0.1:x", "[::1]"] {
            assert_eq!(literal(name), None, "{name}");
        }
    }

    #[test]
    fn an_answer_is_waited_for_again() {
        let (go, gate) = mpsc::channel::<()>();
        let gate = LongMutex::new(gate);
        let address = SocketAddr::from(([192, 0, 2, 1], 80));
        let look_up: Arc<LookUp> = Arc::new(move |_| {
            let _ = gate.lock().unwrap().recv();
            Ok(vec![address])
        });
        let asked = Asked::begin(&look_up, "host:80").unwrap();
        assert!(asked.answer(Duration::ZERO).is_none());
        go.send(()).unwrap();
        let found = asked.answer(Duration::from_secs(60)).unwrap().unwrap();
        assert_eq!(found, [address]);
    }

    #[test]
    fn a_look_up_that_panics_has_failed() {
        let look_up: Arc<LookUp> = Arc::new(|_| std::panic::resume_unwind(Box::new(())));
        let asked = Asked::begin(&look_up, "host:80").unwrap();
        assert!(asked.answer(Duration::from_secs(60)).unwrap().is_err());
    }
}
