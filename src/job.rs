//! A run of a batch job: what is said of it in metrics, and that they are delivered at its end, however it ends.
//!
//! It decides when to deliver, and for how long; how is its exporters' business.

pub(crate) mod core;
mod metrics;
pub(crate) mod report;
#[cfg(unix)]
mod signals;
#[cfg(test)]
mod tests;

use crate::{
    ending,
    error::RegisterError,
    exporter::{
        Exporter, StartError,
        handle::ExporterHandle,
        shutdown::{self, Pending},
    },
    instrument::counter::Counter,
    registry::Registry,
};
use core::Core;
use metrics::Metrics;
use report::{JobOutcome, JobReport};
use std::{
    error::Error,
    fmt, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Poll, Waker},
    thread,
    time::Duration,
};

/// A batch job, such as one of cron, that is about to run.
///
/// [Started](Job::start), it is a guard around the run, which records how that went, and at its end delivers this with
/// everything else in the registry: when the run succeeds, when it returns an error, when it panics, when somebody calls
/// [`std::process::exit`], and, if [asked to](Job::end_on_signals), when the process is told to end by SIGTERM or ctrl-c.
///
/// ```
/// # #[cfg(feature = "emf")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tidegauge::{Emf, Exporter, Job, JobOutcome, Registry, testing::assert_value};
///
/// # let path = std::env::temp_dir().join(format!("tidegauge-job-{}.json", std::process::id()));
/// let registry = Registry::new();
/// let job = Job::new("nightly-backup")
///     .push_to(Exporter::new(Emf::file("Backups", &path)?))
///     .start(&registry)?;
///
/// // An error that leaves by `?` here drops the guard: the run has failed.
/// let rows = job.records("rows");
/// for _ in 0..3 {
///     rows.inc();
/// }
///
/// let report = job.succeed();
/// assert_eq!(report.outcome(), JobOutcome::Success);
/// assert!(report.is_delivered());
/// assert_value(&registry, "batch_job_records_total", [("kind", "rows")], 3.0);
/// assert_value(&registry, "batch_job_outcome", [("outcome", "success")], 1.0);
/// # std::fs::remove_file(&path)?;
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "emf"))]
/// # fn main() {}
/// ```
///
/// Around a closure it takes its result for the outcome:
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tidegauge::{Job, Registry, testing::assert_value};
///
/// let registry = Registry::new();
/// let count = Job::new("count-words").start(&registry)?.run(|job| {
///     let words = job.records("words");
///     "one two three".split(' ').for_each(|_| words.inc());
///     Ok::<_, std::io::Error>(words.get())
/// })?;
/// assert_eq!(count, 3);
/// assert_value(&registry, "batch_job_outcome", [("batch_job", "count-words"), ("outcome", "success")], 1.0);
/// # Ok(())
/// # }
/// ```
///
/// # Metrics
///
/// As Prometheus' guides to [batch jobs](https://prometheus.io/docs/practices/instrumentation/#batch-jobs) and to
/// [names](https://prometheus.io/docs/practices/naming/) have it. Each has the job's name in the label `batch_job`.
///
/// | metric | kind | |
/// |---|---|---|
/// | `batch_job_last_start_timestamp_seconds` | gauge | when the last run began, since the Unix epoch |
/// | `batch_job_last_success_timestamp_seconds` | gauge | when the last run that succeeded ended; there is none before |
/// | `batch_job_duration_seconds` | gauge | how long the last run took, without the delivery at its end |
/// | `batch_job_outcome` | gauge | for each `outcome`, `success`, `failure`, `panic`, `signal` and `exit`, whether it is that of the last run: 1 or 0 |
/// | `batch_job_records_total` | counter | [records processed](JobRun::records), by `kind` |
///
/// Runs of one name at once, in one process, have these in common: they say what the last one to end said, and all that was processed.
///
/// Start is set at the start; duration, outcome and success are at the end, so that until then what they say is of the run before, if
/// anything. Alert on `time() - batch_job_last_success_timestamp_seconds`, which also sees a job that is not started any more.
///
/// # With a Pushgateway
///
/// By default an exporter replaces its whole group at a gateway (`PUT`), and when a run fails the last success goes with it. Build
/// the destination with [`replace(false)`](crate::PushgatewayBuilder::replace): it replaces the metrics of the same names only
/// (`POST`), and as a failed run pushes no last success, the gateway keeps the one that it has.
///
/// # The end
///
/// All exporters deliver at once, within the one [deadline](Job::deadline); a far end that does not answer costs the others
/// nothing. Neither that nor anything else that goes wrong in it changes the exit status, or panics. What was left behind is in the
/// [report](JobReport), and is said in the log as an error; on stderr, where there is no logger that takes errors, which cron
/// sends by mail. What an exporter has put into its [spool](crate::Exporter::spool) is not lost, and said as a warning of the log only.
///
/// The thread that ends the run waits for that, in async code too: there it needs no runtime and does not panic, but tasks that want the
/// same thread wait along, for the deadline at most.
///
/// Ends that nobody is told of are not covered: `abort`, `_exit`, a panic that aborts (`panic = "abort"`), SIGKILL, and signals
/// other than those of [`end_on_signals`](Job::end_on_signals). On systems that are no Unix neither are `std::process::exit`, and
/// `main` that returns while the guard is in a static or in another thread.
///
/// The child of a fork has no part in its parent's job: whatever it does with the guard, and however it ends, it delivers
/// nothing.
#[derive(Debug)]
#[must_use = "nothing is recorded before `start`"]
pub struct Job {
    name: String,
    exporters: Vec<Given>,
    deadline: Duration,
    ends_on_signals: bool,
}

#[derive(Debug)]
enum Given {
    New(Box<Exporter>),
    Running(ExporterHandle),
}

const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);

impl Job {
    /// A job of this name, which tells it from others in its metrics' label `batch_job`.
    pub fn new(name: impl Into<String>) -> Self {
        Job {
            name: name.into(),
            exporters: Vec::new(),
            deadline: DEFAULT_DEADLINE,
            ends_on_signals: false,
        }
    }

    /// An exporter that runs for as long as the job does; there may be any number. At its [interval](Exporter::interval) it delivers
    /// during the run too.
    pub fn push_to(mut self, exporter: Exporter) -> Self {
        self.exporters.push(Given::New(Box::new(exporter)));
        self
    }

    /// An exporter that runs already, and is shut down at the job's end, as if it had been started with it. It should export the
    /// registry that the job is started with: one of another registry does not have the job's metrics.
    pub fn exporter(mut self, exporter: ExporterHandle) -> Self {
        self.exporters.push(Given::Running(exporter));
        self
    }

    /// How long the delivery at the end may take, of all exporters together, by default 10 s. With zero nothing is delivered at the end: what
    /// an exporter has a [spool](crate::Exporter::spool) for is put there, which may [take a moment](ExporterHandle::shutdown).
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Has the job end when SIGTERM comes, or SIGINT, which is ctrl-c. By default it does not, and a process that has no handler
    /// for them dies at once, with what it has counted.
    ///
    /// - *By default a signal ends the process.* Then all jobs of the process end with the outcome `signal`, also those that have not
    ///   asked for it, and they and all other exporters deliver, each within its deadline, on a thread of its own; meanwhile the run
    ///   goes on. Then the signal is raised again, so that the process dies by it, and its parent sees that. If the guard is
    ///   dropped meanwhile, it waits for that. The next signal of either kind ends the process at once. The first process of a container
    ///   cannot die of a signal: it exits instead, with the status by which shells tell of one, 143 for SIGTERM and 130 for SIGINT.
    /// - *Where the application has a handler*, or another library, that is called at once, once for each signal, and does not wait for
    ///   anything. Beside it the jobs that have asked for it deliver what there is so far, with the outcome `signal`, and go on: the
    ///   application may wind down, or not. What the guard is told afterwards counts, and is delivered with all that came later; dropped
    ///   without a word, or by an exit, the outcome remains `signal`.
    /// - *A signal that is ignored*, as `nohup` does it, is still ignored.
    ///
    /// Install handlers before the job is started: one that comes later takes the signal from the job, unless it calls what was
    /// there before, as those of tokio and of `signal-hook` do, which is as if it had been there. Threads that wait for signals which all threads block (`sigwait`) get them as ever, and the job does not.
    ///
    /// When the last such job has ended, the signals have what they had before. The thread that waits for them sleeps on until the
    /// process ends.
    #[cfg(unix)]
    #[cfg_attr(docsrs, doc(cfg(unix)))]
    pub fn end_on_signals(mut self) -> Self {
        self.ends_on_signals = true;
        self
    }

    /// Starts the run: registers the job's metrics, starts its exporters, and notes the time.
    ///
    /// # Errors
    ///
    /// If the name is empty, if a metric of the application has one of the names of the job's, if an exporter cannot be started,
    /// or if signals cannot be watched. Then nothing runs, and nothing was delivered; an exporter that [ran already](Job::exporter) is shut
    /// down, as if its handle were dropped.
    pub fn start(self, registry: &Registry) -> Result<JobRun, JobError> {
        if self.name.is_empty() {
            return Err(JobError::new(
                "",
                Cause::Name("must not be empty, because it is a label's value; give it one"),
            ));
        }
        let error = |cause| JobError::new(&self.name, cause);
        let metrics = Metrics::register(registry, &self.name).map_err(|cause| error(Cause::Metrics(cause)))?;
        let mut starting = Starting::default();
        for exporter in self.exporters {
            match exporter {
                Given::Running(handle) => starting.exporters.push(handle),
                Given::New(exporter) => {
                    let handle = exporter.start(registry);
                    starting.started.push(starting.exporters.len());
                    starting
                        .exporters
                        .push(handle.map_err(|cause| error(Cause::Exporter(cause)))?);
                }
            }
        }
        #[cfg(unix)]
        let hold = match self.ends_on_signals {
            true => Some(signals::Hold::take().map_err(|cause| error(Cause::Signals(cause)))?),
            false => None,
        };
        let core = Core::begin(
            self.name,
            metrics,
            registry.clock().clone(),
            starting.finish(),
            self.deadline,
            self.ends_on_signals,
        );
        ending::list_job(&core);
        // From here on they end with the job.
        for exporter in core.exporters().iter().filter_map(ExporterHandle::shared) {
            ending::unlist_exporter(exporter);
        }
        Ok(JobRun {
            core,
            ended: false,
            was_panicking: thread::panicking(),
            #[cfg(unix)]
            _hold: hold,
        })
    }
}

/// Exporters of a job that may not begin after all: then those that were started for it deliver nothing, because nothing has run
/// that could be told of.
#[derive(Default)]
struct Starting {
    exporters: Vec<ExporterHandle>,
    /// Those that were started for it, by their places.
    started: Vec<usize>,
}

impl Starting {
    fn finish(mut self) -> Vec<ExporterHandle> {
        mem::take(&mut self.exporters)
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        let started = self.started.iter().filter_map(|place| self.exporters.get(*place));
        started.for_each(ExporterHandle::abandon);
    }
}

/// A job that runs: the guard that [`Job::start`] gives. Dropped without a word the run has failed, or panicked if a panic drops it.
#[must_use = "dropped, the run has failed"]
pub struct JobRun {
    core: Arc<Core>,
    ended: bool,
    /// The run was started by a destructor, in a panic that is not its own.
    was_panicking: bool,
    /// Dropped after the end.
    #[cfg(unix)]
    _hold: Option<signals::Hold>,
}

impl JobRun {
    /// The job's name.
    pub fn name(&self) -> &str {
        self.core.name()
    }

    /// The count of records of a kind that the run processes, such as rows: a handle, to be kept for as long as there are any.
    ///
    /// A kind is a value of a label: a few, and fixed ones.
    pub fn records(&self, kind: &str) -> Counter {
        self.core.metrics().records(kind)
    }

    /// The job's exporters, in the order in which they were given.
    pub fn exporters(&self) -> impl Iterator<Item = &ExporterHandle> {
        self.core.exporters().iter()
    }

    /// The run has succeeded: sets the metrics, and delivers them with everything else in the registry, within the job's
    /// [deadline](Job::deadline).
    ///
    /// The report says what came of the deliveries; what was left behind is warned of anyway, so it may be ignored. If a signal or an exit has
    /// ended the run before, the outcome is theirs.
    pub fn succeed(mut self) -> JobReport {
        self.end(JobOutcome::Success)
    }

    /// The run has failed: as [`succeed`](JobRun::succeed), with the outcome `failure`. The log has the reason as an error.
    pub fn fail(mut self, why: impl fmt::Display) -> JobReport {
        log::error!("job {:?} has failed: {why}", self.name());
        self.core.forget_signal();
        self.end(JobOutcome::Failure)
    }

    /// Runs a closure as the job: `Ok` is its success, an error its failure, and a panic is one, which goes on when what there is
    /// was delivered. What the closure returns is returned.
    ///
    /// # Errors
    ///
    /// That of the closure, and no other.
    pub fn run<T, E>(self, work: impl FnOnce(&JobRun) -> Result<T, E>) -> Result<T, E> {
        let result = work(&self);
        if result.is_ok() {
            self.succeed();
        }
        // An error drops the guard, as a panic does.
        result
    }

    fn end(&mut self, outcome: JobOutcome) -> JobReport {
        self.ended = true;
        match self.core.conclude(outcome) {
            Some(conclusion) => shutdown::wait_for_all(&mut [conclusion.shut_down(None)]),
            None => shutdown::wait_for_all(&mut [Elsewhere(&self.core)]),
        }
        self.core.report().unwrap_or_else(|| JobReport {
            outcome,
            duration: Duration::ZERO,
            // They say why not: whose process it is, or that somebody else shuts them down.
            deliveries: self
                .exporters()
                .map(|exporter| (exporter.name().to_owned(), exporter.flush(Duration::ZERO)))
                .collect(),
        })
    }
}

impl Drop for JobRun {
    fn drop(&mut self) {
        if self.ended || !self.core.is_of_this_process() {
            return;
        }
        let outcome = match thread::panicking() && !self.was_panicking {
            true => JobOutcome::Panic,
            false => JobOutcome::Failure,
        };
        // What could panic is the application's clock; a second panic would end the process by an abort.
        drop(catch_unwind(AssertUnwindSafe(|| self.end(outcome))));
    }
}

impl fmt::Debug for JobRun {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("JobRun")
            .field("name", &self.name())
            .field("exporters", &self.core.exporters())
            .finish()
    }
}

/// A job that a signal or an exit ends.
struct Elsewhere<'a>(&'a Core);

impl Pending for Elsewhere<'_> {
    fn poll(&mut self, waker: &Waker) -> Poll<()> {
        self.0.poll_ended(waker)
    }

    fn remaining(&self) -> Duration {
        self.0.remaining()
    }
}

/// Why a job could not be started.
#[derive(Debug)]
pub struct JobError {
    job: String,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    Name(&'static str),
    Metrics(RegisterError),
    Exporter(StartError),
    #[cfg(unix)]
    Signals(std::io::Error),
}

impl JobError {
    fn new(job: &str, cause: Cause) -> Self {
        JobError {
            job: job.to_owned(),
            cause,
        }
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "job {:?}: ", self.job)?;
        match &self.cause {
            Cause::Name(rule) => write!(formatter, "its name {rule}"),
            Cause::Metrics(_) => formatter.write_str("its metrics cannot be registered; free their names"),
            Cause::Exporter(_) => formatter.write_str("an exporter cannot be started"),
            #[cfg(unix)]
            Cause::Signals(_) => formatter.write_str("the system gives no pipe or no thread to watch signals"),
        }
    }
}

impl Error for JobError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.cause {
            Cause::Name(_) => None,
            Cause::Metrics(error) => Some(error),
            Cause::Exporter(error) => Some(error),
            #[cfg(unix)]
            Cause::Signals(error) => Some(error),
        }
    }
}
