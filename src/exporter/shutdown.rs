//! The end of an exporter, for whoever waits for it: one, or several at once.

use super::{
    report::{FlushError, FlushFailure, FlushReport},
    state::{Flushing, Shared},
};
use crate::sync::Bell;
use std::{
    sync::Arc,
    task::{Poll, Waker},
    time::Duration,
};

/// Something that takes its time, but not for ever.
pub(crate) trait Pending {
    /// Whether it is done; if not, `waker` is called when it may be. It is done when no time remains, or soon after.
    fn poll(&mut self, waker: &Waker) -> Poll<()>;

    /// How long it may still take.
    fn remaining(&self) -> Duration;
}

/// Waits until all are done, on this thread. It does not ask anything of the thread itself, which may have begun to end.
pub(crate) fn wait_for_all(pending: &mut [impl Pending]) {
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(bell.clone());
    let mut pending: Vec<_> = pending.iter_mut().collect();
    loop {
        pending.retain_mut(|each| each.poll(&waker).is_pending());
        let Some(remaining) = pending.iter().map(|each| each.remaining()).min() else {
            return;
        };
        bell.wait(remaining.max(LEAST_WAIT));
    }
}

/// How much of the time of a shutdown is left for the spool, at most.
const MOST_TO_SPOOL: Duration = Duration::from_secs(1);

/// How long a shutdown may take at least, if there is a spool: a deadline is for the far end, and a disk needs its time too.
const LEAST_WITH_SPOOL: Duration = Duration::from_millis(250);

/// A clock that says that no time remains is asked again after so much, should what it says not count.
const LEAST_WAIT: Duration = Duration::from_millis(1);

/// An exporter that is being shut down.
pub(crate) struct ShuttingDown {
    shared: Arc<Shared>,
    until: Duration,
    flush: u64,
    result: Option<Result<FlushReport, FlushError>>,
}

impl ShuttingDown {
    /// Has an exporter deliver what there is, and end. Of two at once, one does it.
    ///
    /// Nothing can be done on one of its own threads, nor while that, of the exporter `own`, exits.
    pub(crate) fn begin(shared: &Arc<Shared>, deadline: Duration, own: Option<usize>) -> Result<Self, FlushError> {
        if !shared.is_of_this_process() {
            return Err(shared.failure(FlushFailure::Forked));
        }
        if own == Some(Arc::as_ptr(shared) as usize) {
            return Err(shared.failure(FlushFailure::OwnThread));
        }
        let now = shared.clock.monotonic();
        let sending = match shared.has_spool {
            true => deadline - (deadline / 4).min(MOST_TO_SPOOL),
            false => deadline,
        };
        let until = now.saturating_add(Self::time(shared, deadline));
        let is_first = shared.with(|state| {
            let is_first = state.stopping.is_none();
            if is_first {
                state.stopping = Some(until);
                state.sending_until = Some(now.saturating_add(sending));
            }
            is_first
        });
        if !is_first {
            return Err(shared.failure(FlushFailure::Stopped));
        }
        let flush = shared.request_flush(sending);
        if shared.has_spool {
            shared.collect_at_the_end(flush);
        }
        Ok(ShuttingDown {
            until,
            flush,
            shared: shared.clone(),
            result: None,
        })
    }

    /// How long it may take.
    pub(crate) fn time(shared: &Shared, deadline: Duration) -> Duration {
        match shared.has_spool {
            true => deadline.max(LEAST_WITH_SPOOL),
            false => deadline,
        }
    }

    /// What it delivered, once its threads have ended too, or time is over.
    pub(crate) fn poll_result(&mut self, waker: &Waker) -> Poll<Result<FlushReport, FlushError>> {
        self.shared.clock.wake_on_change(waker);
        if self.result.is_none() {
            let Flushing::Done(result) = self.shared.poll_flush(self.flush, waker) else {
                return Poll::Pending;
            };
            self.shared.forget_flush(self.flush);
            self.result = Some(result);
            self.shared.stop();
        }
        match self.shared.poll_ended(waker) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                let result = self.result.clone().expect("it is there by now");
                let spooled = self.shared.with(|state| state.spooled);
                Poll::Ready(match (result, spooled) {
                    (Err(error), Some(points)) => error.spooled(points),
                    (result, _) => result,
                })
            }
        }
    }

    pub(crate) fn remaining(&self) -> Duration {
        self.until.saturating_sub(self.shared.clock.monotonic())
    }
}

impl Shared {
    /// Whether the threads of an exporter that is being shut down have ended, or its time is over: what still runs hangs in a
    /// closure, or in a send, and ends by itself when that does.
    pub(crate) fn poll_ended(&self, waker: &Waker) -> Poll<()> {
        let is_over = self.remaining().is_zero();
        let has_ended = self.with(|state| {
            let has_ended = state.stop && state.running == 0;
            if !has_ended && !state.ended.iter().any(|waiting| waiting.will_wake(waker)) {
                state.ended.push(waker.clone());
            }
            has_ended
        });
        match has_ended || is_over {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// How long it may still take to end, if it is being shut down.
    pub(crate) fn remaining(&self) -> Duration {
        let now = self.clock.monotonic();
        let until = self.with(|state| state.stopping).unwrap_or_default();
        until.saturating_sub(now)
    }

    /// Nothing was tried.
    pub(crate) fn failure(&self, failure: FlushFailure) -> FlushError {
        FlushError::new(&self.name, &self.address, failure, FlushReport::default())
    }
}
