//! The end of the process: what is delivered then although nobody drops it.
//!
//! [`std::process::exit`] runs no destructors, and what is in a static is never dropped, not even when `main` returns. So
//! whatever is alive is listed here: exporters, and jobs with exporters of their own. At the exit, or when the process is about to die of a
//! signal, jobs are concluded first, so that every exporter has their outcomes; then all exporters are shut down at once, each
//! within its own deadline.
//!
//! The thread that exits only waits: it may have lost its thread-local values, which a logger may want, and whoever holds a lock of
//! a logger may have called `exit`. It waits for the longest deadline and a little more, whatever happens.

use crate::{
    exporter::{
        report::FlushError,
        shutdown::{self, Pending, ShuttingDown},
        state::Shared,
    },
    job::{
        core::{Core, Ending},
        report::JobOutcome,
    },
    platform,
    sync::Mutex,
};
use std::{
    io::{self, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak},
    task::{Poll, Waker},
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

/// What is alive in this process at this moment.
#[cfg(unix)]
pub(crate) struct Live {
    exporters: Vec<(Arc<Shared>, Duration)>,
    jobs: Vec<Arc<Core>>,
}

#[cfg(unix)]
impl Live {
    pub(crate) fn now() -> Self {
        let live = LIVE.lock();
        let exporters = live.exporters.iter();
        let exporters = exporters.filter_map(|(exporter, deadline)| Some((exporter.upgrade()?, *deadline)));
        let all = Live {
            exporters: exporters.collect(),
            jobs: live.jobs.iter().filter_map(Weak::upgrade).collect(),
        };
        // What it was the last to hold goes when the lock is given back: it may be the application's.
        drop(live);
        let Live {
            mut exporters,
            mut jobs,
        } = all;
        exporters.retain(|(exporter, _)| exporter.is_of_this_process() && !exporter.has_ended());
        jobs.retain(|job| job.is_of_this_process() && !job.has_ended());
        Live { exporters, jobs }
    }

    fn is_empty(&self) -> bool {
        self.exporters.is_empty() && self.jobs.is_empty()
    }

    /// The jobs that want to know of signals.
    pub(crate) fn jobs_for_signals(self) -> Vec<Arc<Core>> {
        let wanting = self.jobs.into_iter().filter(|job| job.ends_on_signals());
        wanting.collect()
    }

    /// After so long all has ended, or never will.
    fn patience(&self) -> Duration {
        let exporters = self.exporters.iter().map(|(_, deadline)| *deadline);
        let deadlines = exporters.chain(self.jobs.iter().map(|job| job.deadline()));
        deadlines.max().unwrap_or_default().saturating_add(GRACE)
    }

    /// Ends everything, and says what was left behind. Of the exporter whose thread it is that exits nothing is expected.
    pub(crate) fn end(self, outcome: JobOutcome, own: Option<usize>) {
        let mut waits = Vec::new();
        let mut concluded = Vec::new();
        for job in self.jobs {
            match job.conclude(outcome) {
                Some(conclusion) => concluded.push(conclusion),
                None => waits.push(Wait::JobElsewhere(job)),
            }
        }
        waits.extend(
            concluded
                .into_iter()
                .map(|conclusion| Wait::Job(conclusion.shut_down(own))),
        );
        for (exporter, deadline) in self.exporters {
            match ShuttingDown::begin(&exporter, deadline, own) {
                Ok(ending) => waits.push(Wait::Exporter(ending)),
                Err(error) if error.is_stopped() => waits.push(Wait::ExporterElsewhere(exporter)),
                Err(error) => left_behind(&error),
            }
        }
        shutdown::wait_for_all(&mut waits);
    }
}

/// Something that ends.
#[cfg(unix)]
enum Wait {
    Exporter(ShuttingDown),
    Job(Ending),
    // Somebody else ends these, and says what came of it.
    ExporterElsewhere(Arc<Shared>),
    JobElsewhere(Arc<Core>),
}

#[cfg(unix)]
impl Pending for Wait {
    fn poll(&mut self, waker: &Waker) -> Poll<()> {
        match self {
            Wait::Exporter(exporter) => exporter.poll_result(waker).map(|result| {
                if let Err(error) = result {
                    left_behind(&error);
                }
            }),
            Wait::Job(job) => job.poll(waker),
            Wait::ExporterElsewhere(exporter) => exporter.poll_ended(waker),
            Wait::JobElsewhere(job) => job.poll_ended(waker),
        }
    }

    fn remaining(&self) -> Duration {
        match self {
            Wait::Exporter(exporter) => exporter.remaining(),
            Wait::Job(job) => job.remaining(),
            Wait::ExporterElsewhere(exporter) => exporter.remaining(),
            Wait::JobElsewhere(job) => job.remaining(),
        }
    }
}

/// What is not bounded by a deadline, such as a logger, gets so much time.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// The process exits; called once, by the thread that exits. It does not panic.
#[cfg(unix)]
pub(crate) fn at_exit() {
    use crate::{exporter::handle, sync::Bell};
    use std::thread;

    let ended = catch_unwind(|| {
        let live = Live::now();
        if live.is_empty() {
            return;
        }
        let (patience, own) = (live.patience(), handle::exporter_of_this_thread());
        let bell = Arc::new(Bell::default());
        let ringing = bell.clone();
        // The standard library's threads have thread-local values, whatever has become of this one's.
        let thread = thread::Builder::new().name("tidegauge-exit".to_owned());
        let live = Arc::new(Mutex::new(Some(live)));
        let taken = live.clone();
        let thread = thread.spawn(move || {
            let live = taken.lock().take();
            let ended = catch_unwind(AssertUnwindSafe(|| live.map(|live| live.end(JobOutcome::Exit, own))));
            ringing.ring();
            drop(ended);
        });
        match thread {
            Ok(thread) => {
                if bell.wait(patience) {
                    // At its end: what holds its code may be unloaded next.
                    drop(thread.join());
                }
            }
            // Then here, as well as it goes.
            Err(_) => {
                let live = live.lock().take();
                live.into_iter().for_each(|live| live.end(JobOutcome::Exit, own));
            }
        }
        if platform::is_dying() {
            // It is to be seen by the status that it died of the signal, which is the next thing to happen.
            Bell::default().wait(patience);
        }
    });
    drop(ended);
}

/// Says of an exporter that nobody has seen to what was left behind, and of what.
#[cfg(unix)]
fn left_behind(error: &FlushError) {
    alarm(&format!(
        "at the end of the process not everything was delivered, and nobody will try again: {error}"
    ));
}

/// Says something that somebody has to see: as an error of the log, or, where nobody takes that, on stderr, which for a job of cron ends up
/// in a mail. It does not panic.
pub(crate) fn alarm(text: &str) {
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
