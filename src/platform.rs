//! What happens when the process forks; and the third and last of the crate's files with unsafe code.
//!
//! On Unix, three handlers run in the thread that forks
//! (<https://pubs.opengroup.org/onlinepubs/9799919799/functions/pthread_atfork.html>). Before: the [gate](crate::sync::gate)
//! before the crate's locks is shut. After, in the parent: it is opened. After, in the child: the [`generation`] moves on, the
//! time is noted, the thread's own cells are put out of reach, and the gate is opened. That is all, because many a child does
//! nothing but `exec`. Whoever then comes to state that a child must not go on with finds that the generation has moved,
//! and starts it again first: counts ([`Space`](crate::instrument::space::Space)), losses ([`Ledger`](crate::ledger::Ledger)),
//! and who reads label values ([`Table`](crate::family::table::Table)). What belongs to threads that are gone is never touched
//! again: neither their thread-local memory, which the C library gives to new threads, nor what they had borrowed.
//!
//! # What the handlers rely on
//!
//! They are registered when the first registry is made. Before that there is nothing that a fork could break. Handlers that
//! run before the fork run in the reverse order of registration, so those of the application which are registered later, and
//! whose locks its threads hold while they record, come before ours. One that is registered before the first registry and
//! takes such a lock would wait for a thread that waits at the gate: make a registry first. The allocator's come last, and
//! nobody behind the gate has to wait for anything else. Handlers that run in the child run in the order of registration: what
//! an earlier one of the application records there comes before the generation moves, and goes with the parent's counts.
//!
//! `vfork`, `posix_spawn` and `_Fork` run no handlers; their children must `exec`.
//!
//! Elsewhere there is no fork, and nothing happens here.

use crate::sync::{AtomicU64, Ordering};
use std::time::Duration;

/// How many forks lie between this process and the one that first made a registry.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// When this process was forked: nanoseconds since the Unix epoch, enough for five centuries; 0 if it was not.
static FORKED_AT: AtomicU64 = AtomicU64::new(0);

// Relaxed below: what the child's only thread writes before all else comes before whatever its threads do.

/// How many forks lie between this process and the one that first made a registry: 0 there, and one more in each child.
///
/// What belongs to one process alone remembers the generation it was made in, and starts again in another.
#[inline(always)]
pub(crate) fn generation() -> u64 {
    GENERATION.load(Ordering::Relaxed)
}

/// When this process was forked, by the system's clock, since the Unix epoch; zero if it was not.
pub(crate) fn forked_at() -> Duration {
    Duration::from_nanos(FORKED_AT.load(Ordering::Relaxed))
}

/// Sees to it that forks are noticed from now on. To be called before there is anything that a fork could break, and not behind
/// the gate: the C library may have a lock of its own, which a fork holds while it waits at the gate.
#[cfg(unix)]
pub(crate) fn watch_forks() {
    use crate::{
        clock::{Clock, SystemClock},
        instrument::bank,
        sync::{AtomicBool, gate},
    };

    static WATCHING: AtomicBool = AtomicBool::new(false);

    extern "C" fn before() {
        gate::shut();
    }

    extern "C" fn parent() {
        gate::open(false);
    }

    // Calls nothing but `clock_gettime`, which is safe where only what is safe in a signal handler is.
    extern "C" fn child() {
        // Not when it runs for the second time: it may be registered twice.
        if gate::forking() {
            let now = u64::try_from(SystemClock.unix().as_nanos()).unwrap_or(0);
            FORKED_AT.store(now, Ordering::Relaxed);
            GENERATION.fetch_add(1, Ordering::Relaxed);
            bank::forked();
            gate::open(true);
        }
    }

    if WATCHING.load(Ordering::Acquire) {
        return;
    }
    // SAFETY: the handlers are functions of the right type that live as long as the program (a library that is unloaded takes
    // its handlers with it), and do not unwind: nothing in them panics, and a panic would end the process at their border.
    let status = unsafe { libc::pthread_atfork(Some(before), Some(parent), Some(child)) };
    // Stored afterwards: threads that come here at once may register twice, which the handlers do not mind, and a child that
    // is forked in between is left with neither a wrong word here nor a `Once` that nobody ends. Without memory for them (the
    // only error there is) the next registry tries again. Release, the partner of the load above.
    WATCHING.store(status == 0, Ordering::Release);
    if status != 0 {
        log::error!("the system does not tell about forks (error {status}); do not record in a forked process");
    }
}

#[cfg(not(unix))]
pub(crate) fn watch_forks() {}
