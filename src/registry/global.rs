//! The one registry that is always there, and what stands in for it.

use super::Registry;
use crate::sync::{AtomicU64, Mutex, OnceLock, Ordering};
use std::{fmt, mem};

static GLOBAL: OnceLock<Registry> = OnceLock::new();

/// The registry that stands in for the global one while a test runs, and the number of its reign.
static STAND_IN: Mutex<Option<Registry>> = Mutex::new(None);

/// Which registry is the global one: 0 is the real one, every stand-in has a number of its own.
static REIGN: AtomicU64 = AtomicU64::new(0);

/// The registry that statics such as [`LazyCounter`](crate::LazyCounter) register in.
///
/// It is made at the first use, unless [`set_global`] put one in place before.
///
/// ```
/// let jobs = tidegauge::global().counter("jobs_total", "Jobs run to their end.").register().unwrap();
/// jobs.inc();
/// ```
pub fn global() -> Registry {
    if REIGN.load(Ordering::Acquire) != 0
        && let Some(stand_in) = &*STAND_IN.lock()
    {
        return stand_in.clone();
    }
    if let Some(registry) = GLOBAL.get() {
        return registry.clone();
    }
    let made = Registry::new();
    GLOBAL.get_or_init(|| made).clone()
}

/// Makes `registry` the global one, so that statics, those of libraries among them, register in it. It has to come before
/// the first use of any of them: best first thing in `main`.
///
/// # Errors
///
/// If the global registry is in use already.
pub fn set_global(registry: &Registry) -> Result<(), SetGlobalError> {
    GLOBAL.set(registry.clone()).map_err(|_| SetGlobalError(()))
}

/// The global registry was in use before it was to be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetGlobalError(());

impl fmt::Display for SetGlobalError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(
            "the global registry: can be set once, before its first use, and it is in use; call `set_global` first thing in `main`",
        )
    }
}

impl std::error::Error for SetGlobalError {}

/// Which registry is the global one now. A static that registered under another number registers again.
#[inline(always)]
pub(crate) fn reign() -> u64 {
    // Relaxed: a test that puts a stand-in in place starts the threads that shall see it afterwards.
    REIGN.load(Ordering::Relaxed)
}

/// Puts a stand-in in place, or takes it away.
pub(crate) fn stand_in(registry: Option<Registry>) {
    static REIGNS: AtomicU64 = AtomicU64::new(0);
    let reign = if registry.is_some() {
        REIGNS.fetch_add(1, Ordering::Relaxed) + 1
    } else {
        0
    };
    // The one before may go with its closures, which are the application's: not under the lock.
    let before = mem::replace(&mut *STAND_IN.lock(), registry);
    drop(before);
    REIGN.store(reign, Ordering::Release);
}
