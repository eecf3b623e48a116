//! The gate before the crate's locks, which is shut while the process forks, so that the child finds none of them held.
//!
//! Whoever takes a lock of the crate passes the gate first, which counts who is behind it; a thread that is behind it already,
//! with one lock in hand, may take another. A fork shuts the gate, waits until nobody is behind it, and opens it again on both
//! sides. Nobody waits for anything else behind the gate, least of all for code of the application, so that takes as
//! long as the crate's longest critical section.
//!
//! - *The forking thread* may itself lock while the gate is shut: handlers of the application for the same fork may record. It
//!   counts as behind the gate from its shutting on.
//! - *Two threads that fork at once* take turns.
//! - *A signal handler that forks* while it interrupts its own thread behind the gate would wait for itself. It is let
//!   through, and what other threads hold is its child's misfortune; POSIX allows no fork in such a handler to begin with
//!   (<https://pubs.opengroup.org/onlinepubs/9799919799/functions/fork.html>).

use super::{AtomicUsize, Ordering, yield_now};

/// The bit that says that the gate is shut; the others count who is behind it.
const SHUT: usize = 1 << (usize::BITS - 1);

/// See the module.
struct Gate {
    state: AtomicUsize,
}

impl Gate {
    #[cfg(not(loom))]
    const fn new() -> Self {
        Gate {
            state: AtomicUsize::new(0),
        }
    }

    #[cfg(loom)]
    fn new() -> Self {
        Gate {
            state: AtomicUsize::new(0),
        }
    }

    // Of each pair of read-modify-writes of one atomic, one comes first: who enters is either counted when the gate is shut, or
    // sees that it is. So the only order that anybody needs is that of `leave` and `shut`.

    fn enter(&self) {
        self.wait_until_open(|state| state + 1);
    }

    /// Release, the partner of the acquiring load in `shut`: what was done behind the gate comes before the fork.
    fn leave(&self) {
        self.state.fetch_sub(1, Ordering::Release);
    }

    /// Shuts the gate, and returns when nobody is behind it.
    #[cfg(any(unix, loom))]
    fn shut(&self) {
        // Who shut it before is forking.
        self.wait_until_open(|state| state | SHUT);
        while self.state.load(Ordering::Acquire) != SHUT {
            yield_now();
        }
    }

    /// Opens the gate, with so many behind it.
    #[cfg(any(unix, loom))]
    fn open(&self, behind: usize) {
        self.state.store(behind, Ordering::Relaxed);
    }

    fn wait_until_open(&self, then: impl Fn(usize) -> usize) {
        let pass = |state: usize| (state & SHUT == 0).then(|| then(state));
        while self
            .state
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, pass)
            .is_err()
        {
            yield_now();
        }
    }
}

#[cfg(not(loom))]
pub(crate) use thread::Pass;
#[cfg(all(unix, not(loom)))]
pub(crate) use thread::{forking, open, shut};

#[cfg(not(loom))]
mod thread {
    use super::Gate;
    use std::{cell::Cell, marker::PhantomData};

    static GATE: Gate = Gate::new();

    // Both const and without a destructor, so that they can be used while a thread ends, and by a fork handler.
    thread_local! {
        /// How many passes this thread has; its fork is one.
        static PASSES: Cell<usize> = const { Cell::new(0) };

        /// Whether this thread is forking.
        #[cfg(unix)]
        static FORKING: Cell<bool> = const { Cell::new(false) };
    }

    /// Whoever has one is behind the gate.
    #[must_use = "it is given back when it is dropped"]
    pub(crate) struct Pass {
        /// Belongs to its thread.
        _thread: PhantomData<*const ()>,
    }

    impl Pass {
        /// Passes the gate; waits while another thread forks, unless this thread has passed already.
        pub(crate) fn take() -> Self {
            // Counted first: a signal that arrives in between must not take this thread for one that is outside.
            if PASSES.replace(PASSES.get() + 1) == 0 {
                GATE.enter();
            }
            Pass { _thread: PhantomData }
        }
    }

    impl Drop for Pass {
        fn drop(&mut self) {
            let others = PASSES.get() - 1;
            if others == 0 {
                GATE.leave();
            }
            PASSES.set(others);
        }
    }

    /// Shuts the gate for a fork of this thread, and returns when nobody else is behind it.
    #[cfg(unix)]
    pub(crate) fn shut() {
        if FORKING.replace(true) {
            return;
        }
        if PASSES.replace(PASSES.get() + 1) == 0 {
            GATE.shut();
        }
    }

    /// Whether the gate is shut for a fork of this thread.
    #[cfg(unix)]
    pub(crate) fn forking() -> bool {
        FORKING.get()
    }

    /// Opens the gate after a fork, in the child or in the parent.
    #[cfg(unix)]
    pub(crate) fn open(child: bool) {
        if !FORKING.replace(false) {
            return;
        }
        let passes = PASSES.get() - 1;
        PASSES.set(passes);
        if passes == 0 {
            GATE.open(0);
        } else if child {
            // A signal handler's fork, which has not shut the gate. Whoever else was behind it is not in this process.
            GATE.open(1);
        }
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::sync::{
        AtomicU64,
        model::{explore, meet, thread},
    };
    use std::sync::Arc;

    /// What is behind the gate: as a fork finds it, nobody is in the middle of changing it.
    #[derive(Clone)]
    struct Place {
        gate: Arc<Gate>,
        halves: Arc<[AtomicU64; 2]>,
    }

    impl Place {
        fn new() -> Self {
            Place {
                gate: Arc::new(Gate::new()),
                halves: Arc::new([AtomicU64::new(0), AtomicU64::new(0)]),
            }
        }

        fn change(&self) {
            meet();
            self.gate.enter();
            for half in &*self.halves {
                half.fetch_add(1, Ordering::Relaxed);
            }
            self.gate.leave();
        }

        /// How many changes the child sees.
        fn fork(&self) -> u64 {
            meet();
            self.gate.shut();
            let halves = [1, 0].map(|half: usize| self.halves[half].load(Ordering::Relaxed));
            assert_eq!(halves[0], halves[1], "a fork sees all of a change or nothing");
            self.gate.open(0);
            halves[0]
        }
    }

    #[test]
    fn a_fork_finds_nobody_in_the_middle_of_a_change() {
        explore(3, || {
            let place = Place::new();
            let changer = {
                let place = place.clone();
                thread::spawn(move || {
                    place.change();
                    place.change();
                })
            };
            let (first, second) = (place.fork(), place.fork());
            assert!(first <= second);
            changer.join().unwrap();
            assert_eq!(place.fork(), 2);
        });
    }

    #[test]
    fn two_forks_take_turns() {
        explore(3, || {
            let place = Place::new();
            let forker = {
                let place = place.clone();
                thread::spawn(move || {
                    place.fork();
                    // Must not get in because its own fork is over.
                    place.change();
                })
            };
            place.fork();
            forker.join().unwrap();
            assert_eq!(place.fork(), 1);
        });
    }
}
