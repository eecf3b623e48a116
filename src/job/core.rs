//! What runs as long as a job does, whoever ends it: its guard, a signal, or the end of the process. Only one of them does.

use super::{
    metrics::Metrics,
    report::{JobOutcome, JobReport},
};
use crate::{
    clock::SharedClock,
    ending::left_behind,
    exporter::{
        handle::ExporterHandle,
        report::{FlushError, FlushReport},
        shutdown::{Pending, ShuttingDown},
    },
    platform,
    sync::{LongMutex, Mutex},
};
use std::{
    sync::{Arc, PoisonError},
    task::{Poll, Waker},
    time::Duration,
};

/// A run of a job.
pub(crate) struct Core {
    name: String,
    metrics: Metrics,
    /// Held while the metrics are told how it stands: of a signal and a word at once, the word is to come last.
    telling: LongMutex<()>,
    clock: SharedClock,
    /// By the monotonic clock.
    began: Duration,
    exporters: Vec<ExporterHandle>,
    /// Of the deliveries at its end.
    deadline: Duration,
    ends_on_signals: bool,
    /// Of the process that started it; see `platform`.
    generation: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    phase: Phase,
    /// So many signals were passed on to the application that are not held against the run: those before it, and before the word that it
    /// failed. It is the number itself that is asked for, and not a thread that learns of it: the application may be quicker.
    other_signals: usize,
    /// Who waits for its end.
    waiting: Vec<Waker>,
}

#[derive(Default)]
enum Phase {
    #[default]
    Running,
    /// Its exporters deliver, until then by the monotonic clock.
    Ending(Duration),
    Ended(JobReport),
}

impl Core {
    /// A run that begins now.
    pub(crate) fn begin(
        name: String,
        metrics: Metrics,
        clock: SharedClock,
        exporters: Vec<ExporterHandle>,
        deadline: Duration,
        ends_on_signals: bool,
    ) -> Arc<Self> {
        metrics.started(clock.unix());
        Arc::new(Core {
            name,
            metrics,
            telling: LongMutex::default(),
            began: clock.monotonic(),
            clock,
            exporters,
            deadline,
            ends_on_signals,
            generation: platform::generation(),
            state: Mutex::new(State {
                other_signals: platform::passed_on(),
                ..State::default()
            }),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn exporters(&self) -> &[ExporterHandle] {
        &self.exporters
    }

    pub(crate) fn is_of_this_process(&self) -> bool {
        self.generation == platform::generation()
    }

    /// What came of it, if it has ended.
    pub(crate) fn report(&self) -> Option<JobReport> {
        match &self.state.lock().phase {
            Phase::Ended(report) => Some(report.clone()),
            _ => None,
        }
    }

    /// Ends the run with an outcome, which its metrics say from now on. None if somebody else ends it, or has, or if it is of another
    /// process, whose locks may be held here for ever.
    pub(crate) fn conclude(self: &Arc<Self>, outcome: JobOutcome) -> Option<Conclusion> {
        if !self.is_of_this_process() {
            return None;
        }
        let _telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, at) = (self.clock.monotonic(), self.clock.unix());
        let exporters = self.exporters.iter().filter_map(ExporterHandle::shared);
        let time = exporters.map(|exporter| ShuttingDown::time(exporter, self.deadline));
        let until = now.saturating_add(time.max().unwrap_or(self.deadline));
        let outcome = {
            let mut state = self.state.lock();
            if !matches!(state.phase, Phase::Running) {
                return None;
            }
            state.phase = Phase::Ending(until);
            match outcome {
                // Nobody has said a word of it, because the application winds down.
                JobOutcome::Failure | JobOutcome::Exit if self.was_signalled(&state) => JobOutcome::Signal,
                outcome => outcome,
            }
        };
        let duration = now.saturating_sub(self.began);
        self.metrics.ended(outcome, at, duration);
        Some(Conclusion {
            core: self.clone(),
            until,
            outcome,
            duration,
        })
    }

    /// Whoever has said that it failed means that, whatever signal came before.
    pub(crate) fn forget_signal(&self) {
        self.state.lock().other_signals = platform::passed_on();
    }

    fn was_signalled(&self, state: &State) -> bool {
        self.ends_on_signals && platform::passed_on() != state.other_signals
    }

    /// Whether somebody else has ended it, or the time for that is over.
    pub(crate) fn poll_ended(&self, waker: &Waker) -> Poll<()> {
        self.clock.wake_on_change(waker);
        let is_over = self.remaining().is_zero();
        let mut state = self.state.lock();
        if is_over || matches!(state.phase, Phase::Ended(_)) {
            return Poll::Ready(());
        }
        if !state.waiting.iter().any(|waiting| waiting.will_wake(waker)) {
            state.waiting.push(waker.clone());
        }
        Poll::Pending
    }

    /// How long its end may still take, if that has begun.
    pub(crate) fn remaining(&self) -> Duration {
        let now = self.clock.monotonic();
        match self.state.lock().phase {
            Phase::Ending(until) => until.saturating_sub(now),
            _ => Duration::ZERO,
        }
    }
}

/// For the end of the process, and for signals.
#[cfg(unix)]
impl Core {
    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }

    pub(crate) fn ends_on_signals(&self) -> bool {
        self.ends_on_signals
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state.lock().phase, Phase::Ended(_))
    }

    /// A signal came, and the application has a handler for it, so the run goes on for as long as it will. Should that be all that is
    /// ever heard of it, its metrics say so.
    pub(crate) fn signalled(&self) {
        let _telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        let is_running = matches!(self.state.lock().phase, Phase::Running);
        if is_running {
            let duration = self.clock.monotonic().saturating_sub(self.began);
            self.metrics.ended(JobOutcome::Signal, self.clock.unix(), duration);
        }
    }
}

/// A run that has ended, and whose exporters are to deliver that.
#[must_use]
pub(crate) struct Conclusion {
    core: Arc<Core>,
    until: Duration,
    outcome: JobOutcome,
    duration: Duration,
}

impl Conclusion {
    /// Shuts all its exporters down, at once. Of the one whose thread it is that exits, `own`, nothing is expected.
    pub(crate) fn shut_down(self, own: Option<usize>) -> Ending {
        let begin = |exporter: &ExporterHandle| {
            let delivery = match exporter.shared() {
                None => Delivery::Done(Ok(FlushReport::default())),
                Some(shared) => match ShuttingDown::begin(shared, self.core.deadline, own) {
                    Ok(shutdown) => Delivery::Pending(shutdown),
                    Err(error) => Delivery::Done(Err(error)),
                },
            };
            (exporter.name().to_owned(), delivery)
        };
        Ending {
            deliveries: self.core.exporters.iter().map(begin).collect(),
            conclusion: self,
        }
    }
}

/// A run whose exporters deliver.
pub(crate) struct Ending {
    conclusion: Conclusion,
    deliveries: Vec<(String, Delivery)>,
}

enum Delivery {
    Pending(ShuttingDown),
    Done(Result<FlushReport, FlushError>),
}

impl Pending for Ending {
    fn poll(&mut self, waker: &Waker) -> Poll<()> {
        for (_, delivery) in &mut self.deliveries {
            if let Delivery::Pending(shutdown) = delivery
                && let Poll::Ready(result) = shutdown.poll_result(waker)
            {
                *delivery = Delivery::Done(result);
            }
        }
        let is_done = |(_, delivery): &(String, Delivery)| matches!(delivery, Delivery::Done(_));
        match self.deliveries.iter().all(is_done) {
            false => Poll::Pending,
            true => {
                self.finish();
                Poll::Ready(())
            }
        }
    }

    fn remaining(&self) -> Duration {
        let Conclusion { core, until, .. } = &self.conclusion;
        until.saturating_sub(core.clock.monotonic())
    }
}

impl Ending {
    fn finish(&mut self) {
        let Conclusion {
            core,
            outcome,
            duration,
            ..
        } = &self.conclusion;
        let results = self.deliveries.drain(..).filter_map(|(name, delivery)| match delivery {
            Delivery::Done(result) => Some((name, result)),
            Delivery::Pending(_) => None,
        });
        let report = JobReport {
            outcome: *outcome,
            duration: *duration,
            deliveries: results.collect(),
        };
        for (_, result) in &report.deliveries {
            if let Err(error) = result {
                left_behind(&format!("job {:?}, which ended with {outcome}", core.name), error);
            }
        }
        let waiting = {
            let mut state = core.state.lock();
            state.phase = Phase::Ended(report);
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }
}
