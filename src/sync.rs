//! The only place that names atomics and locks: the standard library's, or loom's when models run.
//!
//! Everything lock-free in the crate imports from here, so that the models beside the code check the very code that ships.
//!
//! # Locks and forks
//!
//! The child of a fork has the forking thread alone: a lock that another one held stays locked in it for ever. So a [`Mutex`] is
//! taken, and a [`OnceLock`] made, behind a [`gate`] that is shut, with nobody behind it, while the process forks.
//!
//! The lock itself is the standard library's, because all of its state is in itself. One that queues its waiters in a table of
//! the process, as `parking_lot`'s does, shares that table with locks of the application, of which nobody can know who waits: in
//! a child the table leads to the memory of threads that are gone.

pub(crate) mod gate;

#[cfg(not(loom))]
pub(crate) use std::{
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence},
    thread::yield_now,
};

#[cfg(loom)]
pub(crate) use loom::{
    sync::MutexGuard,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence},
    thread::yield_now,
};

/// For a lock that is held while code of the application runs: no fork can wait for that, and a child may find it locked.
#[cfg(not(loom))]
pub(crate) use std::sync::Mutex as LongMutex;

#[cfg(not(loom))]
pub(crate) use bell::Bell;

#[cfg(not(loom))]
pub(crate) use guarded::{Mutex, MutexGuard, OnceLock};

#[cfg(not(loom))]
mod bell {
    use std::{
        sync::{Arc, Condvar, Mutex, PoisonError},
        task::Wake,
        time::Duration,
    };

    /// What a thread waits for that has nobody to poll for it. It needs nothing of the thread itself: when the process exits, the
    /// standard library may not know its thread any more.
    ///
    /// It belongs to those who wait for one thing, so no fork needs to care for its lock.
    #[derive(Debug, Default)]
    pub(crate) struct Bell {
        rung: Mutex<bool>,
        ringing: Condvar,
    }

    impl Bell {
        pub(crate) fn ring(&self) {
            *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
            self.ringing.notify_all();
        }

        /// Waits until it has been rung since it was last waited for, for so long at most; whether it has been.
        pub(crate) fn wait(&self, patience: Duration) -> bool {
            let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = self.ringing.wait_timeout_while(rung, patience, |rung| !*rung);
            let (mut rung, _) = waited.unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *rung)
        }
    }

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.ring();
        }
    }
}

#[cfg(not(loom))]
mod guarded {
    use super::gate::Pass;
    use std::{
        ops::{Deref, DerefMut},
        sync,
    };

    /// A lock that no fork finds held, for cold paths: microseconds at a time, and never while code of the application runs.
    ///
    /// There is no poisoning: what the crate does under its locks panics nowhere but where it is wrong anyway.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) const fn new(value: T) -> Self {
            Mutex(sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            let pass = Pass::take();
            MutexGuard {
                guard: self.0.lock().unwrap_or_else(sync::PoisonError::into_inner),
                _pass: pass,
            }
        }
    }

    /// Fields are dropped in order: first the lock is given back, then the pass.
    pub(crate) struct MutexGuard<'a, T> {
        guard: sync::MutexGuard<'a, T>,
        _pass: Pass,
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.guard
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.guard
        }
    }

    /// A cell that is written once, and that no fork finds half made. What makes the value is the crate's own code: the
    /// application's may not run behind the gate.
    #[derive(Debug)]
    pub(crate) struct OnceLock<T>(sync::OnceLock<T>);

    impl<T> OnceLock<T> {
        pub(crate) const fn new() -> Self {
            OnceLock(sync::OnceLock::new())
        }

        #[inline(always)]
        pub(crate) fn get(&self) -> Option<&T> {
            self.0.get()
        }

        pub(crate) fn set(&self, value: T) -> Result<(), T> {
            let _pass = Pass::take();
            self.0.set(value)
        }

        pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
            if let Some(value) = self.0.get() {
                return value;
            }
            let _pass = Pass::take();
            self.0.get_or_init(make)
        }
    }
}

/// loom's mutex behind the interface of ours: no poisoning, because a model that panics has failed anyway. Models do not fork,
/// but for those of the gate.
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
