//! The render threads: the only place where a scrape runs the application's own closures, encoders and compression. Fed
//! through a bounded queue and answering through the event loop's waker, so that a slow scrape delays other scrapes at
//! most.

use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, PoisonError, Weak};
use std::thread::{self, JoinHandle};

use mio::Token;

use super::control::{Control, Running};
use super::response::Response;
use super::routes;
use crate::scrape::{Reply, ScrapeRequest};
use crate::sync::LongMutex;

/// Turns a scrape request into its reply. Runs on render threads only.
pub(crate) type Render = Arc<dyn Fn(&ScrapeRequest<'_>) -> Reply + Send + Sync>;

/// The connection's side of a scrape: as long as it is held, somebody waits for the reply.
pub(crate) type Interest = Arc<()>;

/// What a scrape needs of its request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scrape {
    pub(crate) accept: Option<String>,
    pub(crate) accept_encoding: Option<String>,
    pub(crate) query: Option<String>,
}

/// A scrape on its way to a render thread.
pub(crate) struct Job {
    pub(crate) token: Token,
    pub(crate) interest: Weak<()>,
    pub(crate) scrape: Scrape,
}

/// A scrape on its way back.
pub(crate) struct Finished {
    pub(crate) token: Token,
    pub(crate) interest: Weak<()>,
    /// `None` when rendering panicked.
    pub(crate) response: Option<Response>,
}

/// The event loop's end of the queue. The threads end when it is dropped and the queue is empty.
pub(crate) struct RenderQueue {
    jobs: SyncSender<Job>,
}

/// Two, so that one scrape that hangs does not stop all others.
const THREADS: usize = 2;

impl RenderQueue {
    /// Starts the threads. When one cannot be started, those that were end by themselves.
    pub(crate) fn start(
        capacity: usize,
        render: &Render,
        finished: &Sender<Finished>,
        control: &Arc<Control>,
        running: &Running,
    ) -> io::Result<(RenderQueue, Vec<JoinHandle<()>>)> {
        let (jobs, queue) = sync_channel(capacity);
        let queue = Arc::new(LongMutex::new(queue));
        let mut threads = Vec::with_capacity(THREADS);
        for number in 0..THREADS {
            let worker = Worker {
                queue: Arc::clone(&queue),
                render: Arc::clone(render),
                finished: finished.clone(),
                control: Arc::clone(control),
            };
            let running = running.clone();
            let thread = thread::Builder::new()
                .name(format!("tidegauge-render-{number}"))
                .spawn(move || {
                    worker.run();
                    drop(running);
                })?;
            threads.push(thread);
        }
        Ok((RenderQueue { jobs }, threads))
    }

    /// Gives the job back when the queue is full, or when no render thread is left.
    pub(crate) fn push(&self, job: Job) -> Result<(), Job> {
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(job) | TrySendError::Disconnected(job) => job,
        })
    }
}

struct Worker {
    queue: Arc<LongMutex<Receiver<Job>>>,
    render: Render,
    finished: Sender<Finished>,
    control: Arc<Control>,
}

impl Worker {
    fn run(&self) {
        while let Some(job) = self.next() {
            // Whoever asked may have gone or been closed while the job waited.
            if job.interest.strong_count() == 0 {
                continue;
            }
            let finished = Finished {
                token: job.token,
                response: self.render(&job.scrape),
                interest: job.interest,
            };
            if self.finished.send(finished).is_err() {
                return;
            }
            self.control.wake();
        }
    }

    fn next(&self) -> Option<Job> {
        // The lock is held while waiting: the other threads then wait for the lock instead of for the queue. No user code
        // runs under it, and a receiver has no state that a panic could leave half-changed.
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.recv().ok()
    }

    fn render(&self, scrape: &Scrape) -> Option<Response> {
        // Unwind safety: nothing of this crate is half-changed by a panic in a reader of its own snapshot, and what the
        // application's closures leave behind is theirs to judge.
        let rendered = catch_unwind(AssertUnwindSafe(|| {
            let request = ScrapeRequest::new()
                .accept(scrape.accept.as_deref())
                .accept_encoding(scrape.accept_encoding.as_deref())
                .query(scrape.query.as_deref());
            Response::from((self.render)(&request))
        }));
        rendered.map_err(drop_payload).ok()
    }
}

/// A panic's payload is the application's too, and its destructor may panic again.
fn drop_payload(payload: Box<dyn std::any::Any + Send>) {
    if let Err(worse) = catch_unwind(AssertUnwindSafe(move || drop(payload))) {
        mem::forget(worse);
    }
}

impl Finished {
    /// The reply to give, and whether rendering panicked.
    pub(crate) fn into_response(self) -> (Response, bool) {
        match self.response {
            Some(response) => (response, false),
            None => (routes::panicked(), true),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc::channel};
    use std::time::Duration;

    use super::super::control;
    use super::*;
    use crate::Registry;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            if !thread::panicking() {
                panic!("dropped");
            }
        }
    }

    fn job(interest: &Interest) -> Job {
        Job {
            token: Token(7),
            interest: Arc::downgrade(interest),
            scrape: Scrape::default(),
        }
    }

    #[test]
    fn jobs_are_rendered_panics_survived_and_the_abandoned_skipped() {
        let poll = mio::Poll::new().unwrap();
        let control = Arc::new(Control::new(poll.registry(), Token(0)).unwrap());
        let (running, ended) = control::running();
        let (finished, results) = channel();
        let calls = Mutex::new(0);
        let render: Render = Arc::new(move |request| {
            assert!(thread::current().name().unwrap().starts_with("tidegauge-render-"));
            let call = {
                let mut calls = calls.lock().unwrap();
                *calls += 1;
                *calls
            };
            if call <= 3 {
                std::panic::panic_any(Bomb);
            }
            Registry::new().scrape_with(request)
        });
        let (queue, threads) = RenderQueue::start(8, &render, &finished, &control, &running).unwrap();
        drop((running, finished));

        let interest = Interest::default();
        let gone = Interest::default();
        let abandoned = job(&gone);
        drop(gone);
        assert!(queue.push(abandoned).is_ok());
        for _ in 0..4 {
            assert!(queue.push(job(&interest)).is_ok());
        }
        drop(queue);
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(ended.wait(Duration::from_secs(60)));
        let results = results.iter().map(|result| {
            assert!(std::ptr::eq(result.interest.as_ptr(), Arc::as_ptr(&interest)));
            result.into_response().0.status
        });
        let mut statuses: Vec<u16> = results.collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 500, 500, 500]);
    }
}
