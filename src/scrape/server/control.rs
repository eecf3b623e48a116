//! How the handle reaches its threads: when to stop, a waker to say so at once, and a sign that all have ended.

use std::convert::Infallible;
use std::io;
use std::sync::PoisonError;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use mio::{Registry, Token, Waker};

use crate::sync::{LongMutex, Mutex};

/// Shared by the handle and all threads.
pub(crate) struct Control {
    waker: Waker,
    /// When replies in flight are given up; set when stopping begins.
    stop_by: Mutex<Option<Instant>>,
}

impl Control {
    pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Control> {
        Ok(Control {
            waker: Waker::new(registry, token)?,
            stop_by: Mutex::new(None),
        })
    }

    /// Ends the event loop's wait.
    pub(crate) fn wake(&self) {
        // Fails only when the poll it belongs to is broken, and then the loop is not waiting.
        let _ = self.waker.wake();
    }

    /// Begins to stop; a later call can only shorten the time.
    pub(crate) fn stop(&self, by: Instant) {
        let mut stop_by = self.stop_by.lock();
        *stop_by = Some(stop_by.map_or(by, |earlier| earlier.min(by)));
        drop(stop_by);
        self.wake();
    }

    pub(crate) fn stop_by(&self) -> Option<Instant> {
        *self.stop_by.lock()
    }
}

/// Held by each thread until it ends, however it ends.
#[derive(Clone)]
pub(crate) struct Running {
    _until_dropped: Sender<Infallible>,
}

/// Tells when every [`Running`] is gone.
pub(crate) struct Ended {
    /// Held while it is waited for; nobody else wants it, and in the child of a fork nobody does.
    all_dropped: LongMutex<Receiver<Infallible>>,
}

pub(crate) fn running() -> (Running, Ended) {
    let (sender, receiver) = channel();
    let running = Running { _until_dropped: sender };
    let ended = Ended {
        all_dropped: LongMutex::new(receiver),
    };
    (running, ended)
}

impl Ended {
    /// Whether all threads ended within `patience`.
    pub(crate) fn wait(&self, patience: Duration) -> bool {
        let receiver = self.all_dropped.lock().unwrap_or_else(PoisonError::into_inner);
        match receiver.recv_timeout(patience) {
            Err(RecvTimeoutError::Disconnected) => true,
            Err(RecvTimeoutError::Timeout) => false,
            Ok(never) => match never {},
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_seen_when_the_last_one_is_gone() {
        let (running, ended) = running();
        let second = running.clone();
        drop(running);
        assert!(!ended.wait(Duration::ZERO));
        drop(second);
        assert!(ended.wait(Duration::from_secs(60)));
    }

    #[test]
    fn stopping_can_only_be_hastened() {
        let poll = mio::Poll::new().unwrap();
        let control = Control::new(poll.registry(), Token(0)).unwrap();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(control.stop_by(), None);
        control.stop(at(5));
        control.stop(at(9));
        assert_eq!(control.stop_by(), Some(at(5)));
        control.stop(at(1));
        assert_eq!(control.stop_by(), Some(at(1)));
    }
}
