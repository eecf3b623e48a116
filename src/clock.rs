//! Time as one injected thing, so that tests move it and never wait for it.

use crate::sync::OnceLock;
use std::{
    fmt,
    sync::Arc,
    task::Waker,
    time::{Duration, Instant, SystemTime},
};

/// Where a registry has its time from: the system's clocks, or a test's.
///
/// ```
/// use std::time::Duration;
/// use tidegauge::{Registry, testing::ManualClock};
///
/// let clock = ManualClock::new();
/// let registry = Registry::builder().clock(clock.clone()).build().expect("nothing else is set");
/// clock.advance(Duration::from_secs(60));
/// ```
pub trait Clock: Send + Sync + 'static {
    /// Time since some fixed moment; it never goes back.
    fn monotonic(&self) -> Duration;

    /// Time since the Unix epoch; it may go back when the system's clock is set.
    fn unix(&self) -> Duration;

    /// Calls `waker` whenever the clock is moved, if it is one that is moved: threads that wait for a moment look at it again then. By
    /// default nothing, because most clocks run by themselves.
    fn wake_on_change(&self, waker: &Waker) {
        let _ = waker;
    }
}

/// The system's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }

    fn unix(&self) -> Duration {
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
    }
}

/// A clock as the crate passes it around.
#[derive(Clone)]
pub(crate) struct SharedClock(Arc<dyn Clock>);

impl SharedClock {
    pub(crate) fn new(clock: impl Clock) -> Self {
        SharedClock(Arc::new(clock))
    }

    pub(crate) fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }

    pub(crate) fn unix(&self) -> Duration {
        self.0.unix()
    }

    pub(crate) fn wake_on_change(&self, waker: &Waker) {
        self.0.wake_on_change(waker);
    }
}

impl fmt::Debug for SharedClock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Clock")
    }
}
