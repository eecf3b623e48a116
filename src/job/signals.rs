//! What is done when a signal comes, on a thread, because next to nothing may be done in its handler.
//!
//! The thread sleeps until then, and lives as long as the process: what it reads from must never be closed while a handler
//! may be about to write to it.

use crate::{
    ending::{self, Live},
    exporter::{
        handle::Flush,
        shutdown::{self, Pending},
    },
    job::{core::Core, report::JobOutcome},
    platform::{self, Caught},
    sync::{Bell, Mutex},
};
use std::{
    io::{self, ErrorKind, PipeReader, PipeWriter, Read},
    os::fd::AsFd,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

/// Somebody who wants signals to be caught, for as long as it is kept. After the last one they have what they had before.
pub(crate) struct Hold {
    /// Of the process that took it; see `platform`.
    generation: u64,
}

struct Holds {
    count: usize,
    /// Of which process the rest is.
    generation: u64,
    /// To the thread. It is never freed, but for one that a fork has copied.
    pipe: Option<&'static PipeWriter>,
}

static HOLDS: Mutex<Holds> = Mutex::new(Holds {
    count: 0,
    generation: 0,
    pipe: None,
});

impl Hold {
    /// # Errors
    ///
    /// If the system gives no pipe or no thread.
    pub(crate) fn take() -> io::Result<Self> {
        let generation = platform::generation();
        let made = {
            let mut holds = HOLDS.lock();
            if holds.generation != generation {
                *holds = Holds {
                    count: 0,
                    generation,
                    pipe: None,
                };
                platform::forget_signals();
            }
            holds.pipe
        };
        // Not under the lock: threads are made with locks of the C library, of which a fork may hold some.
        let pipe = match made {
            Some(pipe) => pipe,
            None => start_thread()?,
        };
        let mut holds = HOLDS.lock();
        // Of two that were made at once, one is never written to.
        let pipe = *holds.pipe.get_or_insert(pipe);
        holds.count += 1;
        if holds.count == 1 {
            platform::catch_signals(pipe.as_fd());
        }
        Ok(Hold { generation })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut holds = HOLDS.lock();
        // In the child of a fork it counts for nothing.
        if self.generation == platform::generation() && self.generation == holds.generation {
            holds.count -= 1;
            if holds.count == 0 {
                platform::release_signals();
            }
        }
    }
}

fn start_thread() -> io::Result<&'static PipeWriter> {
    let (reader, writer) = io::pipe()?;
    let thread = thread::Builder::new().name("tidegauge-signal".to_owned());
    thread.spawn(move || listen(reader))?;
    Ok(Box::leak(Box::new(writer)))
}

fn listen(mut pipe: PipeReader) {
    loop {
        match pipe.read(&mut [0]) {
            Ok(1..) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => return,
        }
        for caught in platform::take_caught() {
            // What panics is the application's clock, or its logger; that must not keep the process from ending.
            let pushed = catch_unwind(AssertUnwindSafe(|| answer(caught)));
            if caught.is_fatal {
                platform::die_of(caught);
            }
            drop(pushed);
        }
    }
}

fn answer(caught: Caught) {
    let name = caught.name();
    if caught.is_fatal {
        let live = Live::now();
        // A logger may hang, on a pipe that nobody reads: nothing waits for it but for a moment, and the process dies all the same.
        let said = Arc::new(Bell::default());
        let saying = said.clone();
        let say = move || {
            drop(catch_unwind(|| {
                log::warn!(
                    "{name}: jobs are ended and deliver, then the process ends; the next signal ends it at once"
                );
            }));
            saying.ring();
        };
        let word = thread::Builder::new().name("tidegauge-word".to_owned()).spawn(say);
        ending::end_on_a_thread(live, JobOutcome::Signal);
        if word.is_ok() {
            said.wait(ending::GRACE);
        }
        return;
    }
    let jobs = Live::now().jobs_for_signals();
    jobs.iter().for_each(|job| job.signalled());
    let flush = |job: &Arc<Core>| {
        let deadline = job.deadline();
        let flushes = job.exporters().iter().map(|exporter| exporter.flush_async(deadline));
        flushes.map(|flush| Flushing { flush, deadline }).collect::<Vec<_>>()
    };
    let mut flushes: Vec<Flushing> = jobs.iter().flat_map(flush).collect();
    // They have begun, whatever becomes of a logger.
    log::info!("{name}: jobs deliver what they have; what becomes of them is the application's to say");
    shutdown::wait_for_all(&mut flushes);
}

/// A delivery of what there is when the signal came. What it leaves behind is for the end of its job to say.
struct Flushing {
    flush: Flush,
    deadline: Duration,
}

impl Pending for Flushing {
    fn poll(&mut self, waker: &Waker) -> Poll<()> {
        Pin::new(&mut self.flush)
            .poll(&mut Context::from_waker(waker))
            .map(drop)
    }

    fn remaining(&self) -> Duration {
        // Woken in time by the exporter, whose own clock it goes by.
        self.deadline
    }
}
