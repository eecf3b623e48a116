//! The only place that names atomics and locks: the standard library's and `parking_lot`'s, or loom's when models run.
//!
//! Everything lock-free in the crate imports from here, so that the models beside the code check the very code that ships.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence};

#[cfg(not(loom))]
pub(crate) use parking_lot::Mutex;

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence};

/// loom's mutex behind the interface of `parking_lot`'s: no poisoning, because a model that panics has failed anyway.
#[cfg(loom)]
#[derive(Debug)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

#[cfg(loom)]
impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
        self.0
            .lock()
            .expect("a model that panicked while locking has failed already")
    }
}

/// What models are made with.
#[cfg(all(test, loom))]
pub(crate) mod model {
    use super::{AtomicU64, Ordering};
    pub(crate) use loom::thread;

    loom::lazy_static! {
        static ref MEETING: AtomicU64 = AtomicU64::new(0);
    }

    /// Runs `model` in the interleavings of its threads that preempt them at most so many times, and with every value that
    /// relaxed loads may give.
    pub(crate) fn explore(preemptions: u8, model: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(preemptions.into());
        builder.check(move || {
            // Made here, so that it orders nothing later.
            meet();
            model();
        });
    }

    /// A point where threads are interleaved: called before whatever may go before or after what another thread does.
    ///
    /// loom turns an access round with the last one that it conflicts with, and forgets the others: after one thread
    /// loads, another that loads and then stores is never run first. Stores alone it always turns round; and, read by nobody,
    /// this one orders nothing.
    pub(crate) fn meet() {
        MEETING.store(0, Ordering::Relaxed);
    }
}
