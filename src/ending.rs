//! The end of the process: what is delivered then although nobody drops it.
//!
//! [`std::process::exit`] runs no destructors, and what is in a static is never dropped, not even when `main` returns. So
//! whatever is alive is listed here: exporters, and jobs with exporters of their own. At the exit, or when the process is about to die of a
//! signal, jobs are concluded first, so that every exporter has their outcomes; then all exporters are shut down at once, each
//! within its own deadline.
//!
//! What was left behind is said so that somebody sees it.
//!
//! The thread that exits only waits: it may have lost its thread-local values, which a logger may want, and whoever holds a lock of
//! a logger may have called `exit`. It waits for the longest deadline and a little more, whatever happens.

#[cfg(unix)]
mod live;

#[cfg(unix)]
pub(crate) use live::{GRACE, Live, at_exit, end_on_a_thread};

use crate::{
    exporter::{report::FlushError, state::Shared},
    job::core::Core,
    platform,
    sync::Mutex,
};
use std::{
    io::{self, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak},
    time::Duration,
};

/// Whatever is alive, of this process or from before a fork.
static LIVE: Mutex<Listed> = Mutex::new(Listed {
    exporters: Vec::new(),
    jobs: Vec::new(),
});

struct Listed {
    /// With their drop deadlines.
    exporters: Vec<(Weak<Shared>, Duration)>,
    jobs: Vec<Weak<Core>>,
}

/// An exporter is to be shut down at the end of the process, if it is alive then.
pub(crate) fn list_exporter(exporter: &Arc<Shared>, deadline: Duration) {
    platform::watch_exit();
    let mut live = LIVE.lock();
    live.exporters.retain(|(exporter, _)| exporter.strong_count() > 0);
    live.exporters.push((Arc::downgrade(exporter), deadline));
}

/// Somebody else sees to an exporter.
pub(crate) fn unlist_exporter(exporter: &Arc<Shared>) {
    let exporter = Arc::as_ptr(exporter);
    LIVE.lock().exporters.retain(|(listed, _)| listed.as_ptr() != exporter);
}

/// A job is to be ended at the end of the process, if it still runs then.
pub(crate) fn list_job(job: &Arc<Core>) {
    platform::watch_exit();
    let mut live = LIVE.lock();
    live.jobs.retain(|job| job.strong_count() > 0);
    live.jobs.push(Arc::downgrade(job));
}

/// Says of an exporter of whomever that it has ended and not everything was delivered. What is in its spool is not lost.
pub(crate) fn left_behind(whose: &str, error: &FlushError) {
    match error.is_spooled() {
        true => drop(catch_unwind(AssertUnwindSafe(|| {
            log::warn!("{whose}: the next exporter with its spool delivers the rest: {error}")
        }))),
        false => alarm(&format!(
            "{whose}: not everything was delivered, and nobody will try again: {error}"
        )),
    }
}

/// Says something that somebody has to see: as an error of the log, or, where nobody takes that, on stderr, which for a job of cron ends up
/// in a mail. It does not panic.
fn alarm(text: &str) {
    let log = || {
        let is_taken = log::log_enabled!(log::Level::Error);
        if is_taken {
            log::error!("{text}");
        }
        is_taken
    };
    // The logger is the application's.
    if !catch_unwind(AssertUnwindSafe(log)).unwrap_or(false) {
        let line = format!("{}: {text}\n", env!("CARGO_PKG_NAME"));
        // There is nobody left who could be told that this fails.
        let _ = io::stderr().write_all(line.as_bytes());
    }
}
