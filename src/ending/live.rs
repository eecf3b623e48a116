//! Everything that is alive, and the end of it.
//!
//! Jobs are concluded first, so that every exporter has their outcomes; then all exporters are shut down at once.

use super::{LIVE, left_behind};
use crate::{
    exporter::{
        handle,
        shutdown::{self, Pending, ShuttingDown},
        state::Shared,
    },
    job::{
        core::{Core, Ending},
        report::JobOutcome,
    },
    platform,
    sync::{Bell, Mutex},
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak},
    task::{Poll, Waker},
    thread,
    time::Duration,
};

/// What is alive in this process at this moment.
pub(crate) struct Live {
    exporters: Vec<(Arc<Shared>, Duration)>,
    jobs: Vec<Arc<Core>>,
}

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
    fn end(self, outcome: JobOutcome, own: Option<usize>) {
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
                Err(error) => left_behind(PROCESS, &error),
            }
        }
        shutdown::wait_for_all(&mut waits);
    }
}

/// Something that ends.
enum Wait {
    Exporter(ShuttingDown),
    Job(Ending),
    // Somebody else ends these, and says what came of it.
    ExporterElsewhere(Arc<Shared>),
    JobElsewhere(Arc<Core>),
}

impl Pending for Wait {
    fn poll(&mut self, waker: &Waker) -> Poll<()> {
        match self {
            Wait::Exporter(exporter) => exporter.poll_result(waker).map(|result| {
                if let Err(error) = result {
                    left_behind(PROCESS, &error);
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

/// The process exits; called by the thread that exits, which waits. It does not panic.
pub(crate) fn at_exit() {
    // What panics is the application's: its clock, or what it has the allocator do.
    let ended = catch_unwind(|| {
        let live = Live::now();
        let patience = live.patience();
        if !live.is_empty() {
            end_on_a_thread(live, JobOutcome::Exit);
        }
        if platform::is_dying() {
            // Its parent is to see that it died of the signal, which is the next thing to happen.
            Bell::default().wait(patience);
        }
    });
    drop(ended);
}

/// Ends everything on a thread of the standard library's, whatever has become of the thread-local values of this one, and waits for that for
/// as long as it may take.
pub(crate) fn end_on_a_thread(live: Live, outcome: JobOutcome) {
    let patience = live.patience();
    let own = handle::exporter_of_this_thread();
    let bell = Arc::new(Bell::default());
    // So that it is still here if there is no thread.
    let live = Arc::new(Mutex::new(Some(live)));
    let end = {
        let (bell, live) = (bell.clone(), live.clone());
        move || {
            let live = live.lock().take();
            let ended = catch_unwind(AssertUnwindSafe(|| live.map(|live| live.end(outcome, own))));
            bell.ring();
            drop(ended);
        }
    };
    match thread::Builder::new().name("tidegauge-end".to_owned()).spawn(end) {
        Ok(thread) => {
            if bell.wait(patience) {
                // At its end: what holds its code may be unloaded next.
                drop(thread.join());
            }
        }
        Err(_) => {
            let live = live.lock().take();
            live.into_iter().for_each(|live| live.end(outcome, own));
        }
    }
}

/// What is not bounded by a deadline, such as a logger, gets so much time.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// Who ends an exporter that is nobody's.
const PROCESS: &str = "end of the process";
