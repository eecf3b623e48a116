//! What the system tells a process: that it forks, that it exits, that it is to end. The third and last of the crate's files
//! with unsafe code.
//!
//! # Forks
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
//! # Exits
//!
//! One handler (<https://pubs.opengroup.org/onlinepubs/9799919799/functions/atexit.html>) runs in the thread that exits, when
//! `main` has returned or somebody has called `exit`; see [`ending`](crate::ending).
//!
//! # Signals
//!
//! While somebody wants it, SIGTERM and SIGINT have a handler of ours, in front of what they had before
//! (<https://pubs.opengroup.org/onlinepubs/9799919799/functions/sigaction.html>). It does nothing that is not safe in a signal handler: it
//! notes the signal, writes a byte to the pipe of the thread that does the rest (`job/signals.rs`), and
//!
//! - if the signal had its default action, gives that back to both signals, so that the next one ends the process at once: the thread
//!   raises the signal again when it is done, which ends the process by it;
//! - if the application had a handler, calls that, at once and as the system would have: the process's life is in its hands. So it is if
//!   the application has put a handler in front of ours which calls ours, as those of tokio and `signal-hook` do.
//!
//! The first process of a container does not die of a signal that it does not handle: the system drops it
//! (<https://man7.org/linux/man-pages/man7/pid_namespaces.7.html>). So it keeps the handler, which ends it when the next one comes, and it is
//! ended by `_exit` instead of the signal that is raised again, with the status by which shells tell of a signal.
//!
//! A signal that was ignored stays so. A child of a fork has the handler, but not the thread: there it does what would
//! have happened without it. A handler that is installed later takes the place of ours, unless it calls what was before it.
//!
//! This is not `signal-hook`'s, because that neither looks whether a signal is ignored nor gives back what it has found, which is most
//! of what there is to do here.
//!
//! # Connections
//!
//! One call says whether a connection is made by now (<https://pubs.opengroup.org/onlinepubs/9799919799/functions/poll.html>): the standard
//! library waits for that without a break.
//!
//! Elsewhere nothing happens here.

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

/// Sees to it that [`ending::at_exit`](crate::ending::at_exit) runs when the process exits. To be called not behind the gate, as
/// [`watch_forks`].
#[cfg(unix)]
pub(crate) fn watch_exit() {
    use crate::sync::AtomicBool;

    static WATCHING: AtomicBool = AtomicBool::new(false);

    extern "C" fn exiting() {
        crate::ending::at_exit();
    }

    if WATCHING.load(Ordering::Acquire) {
        return;
    }
    // SAFETY: the handler is a function of the right type that lives as long as the program (a library that is unloaded has its
    // handlers run first), and does not unwind: what it calls catches panics.
    let status = unsafe { libc::atexit(exiting) };
    // Stored afterwards, for the same reasons as above; when it runs for the second time there is nothing left to do.
    WATCHING.store(status == 0, Ordering::Release);
    if status != 0 {
        log::error!("the system does not tell about exits; drop each exporter before the process exits");
    }
}

#[cfg(not(unix))]
pub(crate) fn watch_exit() {}

/// Waits until it is known what comes of a socket that connects, for `patience`, rounded up to a millisecond; says whether it is. A signal may
/// end the wait before.
#[cfg(all(unix, any(feature = "otlp", feature = "pushgateway", feature = "statsd")))]
pub(crate) fn is_connected_within(socket: std::os::fd::BorrowedFd<'_>, patience: Duration) -> std::io::Result<bool> {
    use std::os::fd::AsRawFd;

    let mut waited_for = libc::pollfd {
        fd: socket.as_raw_fd(),
        events: libc::POLLOUT,
        revents: 0,
    };
    let milliseconds = libc::c_int::try_from(patience.as_nanos().div_ceil(1_000_000)).unwrap_or(libc::c_int::MAX);
    // SAFETY: it is told of one entry, which outlives the call; the socket is open for as long as it is borrowed.
    match unsafe { libc::poll(&raw mut waited_for, 1, milliseconds) } {
        0 => Ok(false),
        1.. => Ok(true),
        _ => match std::io::Error::last_os_error() {
            error if error.kind() == std::io::ErrorKind::Interrupted => Ok(false),
            error => Err(error),
        },
    }
}

#[cfg(unix)]
pub(crate) use signals::{
    Caught, catch_signals, die_of, forget_signals, is_dying, passed_on, release_signals, take_caught,
};

/// Signals that the application was left to deal with.
#[cfg(not(unix))]
pub(crate) fn passed_on() -> usize {
    0
}

#[cfg(unix)]
mod signals {
    use crate::sync::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
    use libc::{c_int, c_void, siginfo_t};
    use std::{
        mem::{self, MaybeUninit},
        os::fd::{AsRawFd, BorrowedFd},
        ptr,
    };

    /// A signal, and what is known of it.
    pub(crate) struct Signal {
        number: c_int,
        name: &'static str,
        /// What it had before our handler, if that was ever installed: never freed, because a handler may be about to read it.
        former: AtomicPtr<libc::sigaction>,
        /// Our handler was installed, and not taken away by us.
        installed: AtomicBool,
        /// What the handler has noted: nothing, or one of the two below.
        noted: AtomicUsize,
    }

    const NOTHING: usize = 0;
    const FATAL: usize = 1;
    const PASSED_ON: usize = 2;

    static SIGNALS: [Signal; 2] = [
        Signal::new(libc::SIGTERM, "SIGTERM"),
        Signal::new(libc::SIGINT, "SIGINT"),
    ];

    /// The process whose thread is told of signals; 0 while nobody wants to know. A process and not a generation: in
    /// a child of whatever kind it is right from the first moment.
    static TOLD: AtomicUsize = AtomicUsize::new(0);

    /// The pipe to that thread, which stays open for as long as the process lives.
    static PIPE: AtomicUsize = AtomicUsize::new(0);

    /// How many signals were passed on to handlers of the application while somebody wanted to know.
    static PASSES: AtomicUsize = AtomicUsize::new(0);

    /// The process that is about to die of a signal.
    static DYING: AtomicUsize = AtomicUsize::new(0);

    /// A signal that has come.
    #[derive(Clone, Copy)]
    pub(crate) struct Caught {
        signal: &'static Signal,
        /// It ends the process, when it is [raised again](die_of). Else the application's handler has had it.
        pub(crate) is_fatal: bool,
    }

    impl Caught {
        pub(crate) fn name(&self) -> &'static str {
            self.signal.name
        }
    }

    // The order of the atomics: `catch_signals` stores the pipe, then the process (Release), and who reads the process
    // (Acquire) sees the pipe. A signal's former action is stored (Release) before the handler is installed, and read (Acquire) by it.
    // Notes are exchanged by read-modify-writes of one atomic, and the pipe orders the rest.

    /// Has both signals caught, unless they are ignored, and a byte written to `pipe` for each; that is to stay open for as long as the
    /// process lives. To be called by one thread at a time.
    pub(crate) fn catch_signals(pipe: BorrowedFd<'static>) {
        PIPE.store(pipe.as_raw_fd() as usize, Ordering::Relaxed);
        TOLD.store(this_process(), Ordering::Release);
        SIGNALS.iter().for_each(Signal::catch);
    }

    /// Gives the signals back what they had. To be called by one thread at a time.
    pub(crate) fn release_signals() {
        TOLD.store(0, Ordering::Release);
        SIGNALS.iter().for_each(Signal::release);
    }

    /// In the child of a fork: what has come was for its parent.
    pub(crate) fn forget_signals() {
        for signal in &SIGNALS {
            signal.noted.store(NOTHING, Ordering::Relaxed);
        }
    }

    /// What has come since it was last asked.
    pub(crate) fn take_caught() -> Vec<Caught> {
        let taken = |signal: &'static Signal| match signal.noted.swap(NOTHING, Ordering::Relaxed) {
            NOTHING => None,
            noted => Some(Caught {
                signal,
                is_fatal: noted == FATAL,
            }),
        };
        SIGNALS.iter().filter_map(taken).collect()
    }

    /// How many signals the application was left to deal with, up to the last one whose handler has begun: whoever acts upon that signal
    /// finds that it has come.
    pub(crate) fn passed_on() -> usize {
        PASSES.load(Ordering::Acquire)
    }

    /// Whether the process will die of a signal as soon as what is being pushed is through.
    pub(crate) fn is_dying() -> bool {
        DYING.load(Ordering::Relaxed) == this_process()
    }

    /// Ends the process by the signal, with the status that its parent expects; unless somebody has come to handle it since.
    pub(crate) fn die_of(caught: Caught) {
        let signal = caught.signal;
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: the set is initialized by the first call and used after it, and outlives all three; a null pointer says that the
        // mask from before is not wanted. The calls touch this thread's mask and pending signals alone.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigaddset(set.as_mut_ptr(), signal.number);
            // This thread has the mask of the one that started it, and that may block the signal.
            libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut());
            libc::raise(signal.number);
        }
        let is_default = |current: libc::sigaction| current.sa_sigaction == libc::SIG_DFL;
        if is_first_process() && signal.current().is_some_and(is_default) {
            exit_by(signal.number);
        }
    }

    impl Signal {
        const fn new(number: c_int, name: &'static str) -> Self {
            Signal {
                number,
                name,
                former: AtomicPtr::new(ptr::null_mut()),
                installed: AtomicBool::new(false),
                noted: AtomicUsize::new(NOTHING),
            }
        }

        fn catch(&self) {
            let Some(current) = self.current() else { return };
            match current.sa_sigaction {
                libc::SIG_IGN => return,
                libc::SIG_DFL => {}
                // Ours, from before a fork; or one that was put in front of ours and calls it: in front of that, ours would call it and
                // be called by it for ever.
                _ if self.installed.load(Ordering::Relaxed) => return,
                _ => {}
            }
            self.remember(current);
            let mut action = current;
            action.sa_sigaction = handle as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO
                | match current.sa_sigaction {
                    // Nobody has reckoned with interrupted calls.
                    libc::SIG_DFL => libc::SA_RESTART | libc::SA_ONSTACK,
                    // As the one that it calls was to be called.
                    _ => {
                        current.sa_flags & (libc::SA_RESTART | libc::SA_ONSTACK | libc::SA_NODEFER | libc::SA_RESETHAND)
                    }
                };
            self.installed.store(self.act(&action), Ordering::Relaxed);
        }

        fn release(&self) {
            let is_ours = |current: &libc::sigaction| current.sa_sigaction == handle as *const () as usize;
            // If another is in front of ours, ours stays, and does what would have been done without it.
            if self.installed.load(Ordering::Relaxed) && self.current().as_ref().is_some_and(is_ours) {
                let given_back = self.former().is_none_or(|former| self.act(former));
                self.installed.store(!given_back, Ordering::Relaxed);
            }
        }

        /// Remembers what the signal has. Most of the time that is what it had the last time.
        fn remember(&self, current: libc::sigaction) {
            let is_same = |former: &libc::sigaction| {
                former.sa_sigaction == current.sa_sigaction && former.sa_flags == current.sa_flags
            };
            // A mask that is another one than before, with all else the same, is the only thing that is not noticed.
            if !self.former().is_some_and(is_same) {
                self.former.store(Box::into_raw(Box::new(current)), Ordering::Release);
            }
        }

        fn former(&self) -> Option<&'static libc::sigaction> {
            // SAFETY: null, or from `Box::into_raw` in `remember`, initialized before it was stored (Release, Acquire), and neither
            // changed nor freed afterwards.
            unsafe { self.former.load(Ordering::Acquire).as_ref() }
        }

        fn current(&self) -> Option<libc::sigaction> {
            let mut current = MaybeUninit::uninit();
            // SAFETY: a null pointer asks for the action without changing it; the place to write it to outlives the call.
            let status = unsafe { libc::sigaction(self.number, ptr::null(), current.as_mut_ptr()) };
            // SAFETY: the call has succeeded, so it has written the action.
            (status == 0).then(|| unsafe { current.assume_init() })
        }

        /// Whether the system calls another handler than ours, which has called ours if that runs.
        fn has_one_in_front(&self) -> bool {
            let others = [libc::SIG_DFL, libc::SIG_IGN, handle as *const () as usize];
            self.current()
                .is_some_and(|current| !others.contains(&current.sa_sigaction))
        }

        fn act(&self, action: &libc::sigaction) -> bool {
            // SAFETY: the action outlives the call; a null pointer says that the one from before is not wanted. Its handler is ours,
            // which does only what is safe in one, or one that the signal had before.
            unsafe { libc::sigaction(self.number, action, ptr::null_mut()) == 0 }
        }

        /// Gives the signal its default action, wherever that is what it had before our handler.
        fn reset(&self) {
            if self.former().is_some_and(|former| former.sa_sigaction == libc::SIG_DFL) {
                // SAFETY: all zero is a value of this type: no flags, an empty mask, and the default action.
                let mut action: libc::sigaction = unsafe { mem::zeroed() };
                action.sa_sigaction = libc::SIG_DFL;
                self.act(&action);
            }
        }
    }

    /// The handler. It calls `getpid`, `sigaction`, `write`, `raise` and `_exit`, which are safe in one
    /// (<https://pubs.opengroup.org/onlinepubs/9799919799/functions/V2_chap02.html>, 2.4.3), loads and stores atomics, and neither allocates
    /// nor panics. None of its calls fails, so the interrupted code's `errno` stays as it was.
    extern "C" fn handle(number: c_int, info: *mut siginfo_t, context: *mut c_void) {
        let Some(signal) = SIGNALS.iter().find(|signal| signal.number == number) else {
            return;
        };
        let Some(former) = signal.former() else { return };
        let is_told = TOLD.load(Ordering::Acquire) == this_process();
        match former.sa_sigaction {
            libc::SIG_IGN => {}
            // Whoever is in front of ours handles it, and would have had nobody to call.
            libc::SIG_DFL if signal.has_one_in_front() => {
                if is_told {
                    pass_on(signal);
                }
            }
            libc::SIG_DFL if is_told && is_dying() && is_first_process() => exit_by(number),
            libc::SIG_DFL => {
                // From now on each of them ends the process: the first one in here, and every other without us.
                if !(is_told && is_first_process()) {
                    SIGNALS.iter().for_each(Signal::reset);
                }
                if is_told {
                    DYING.store(this_process(), Ordering::Relaxed);
                    tell(signal, FATAL);
                } else {
                    // SAFETY: touches nothing of ours. The signal is blocked in here: it comes when this returns.
                    unsafe { libc::raise(number) };
                }
            }
            action => {
                if is_told {
                    pass_on(signal);
                }
                call(action, former.sa_flags & libc::SA_SIGINFO != 0, number, info, context);
            }
        }
    }

    /// The application has it.
    fn pass_on(signal: &Signal) {
        // Release, for whoever is told by the application's handler.
        PASSES.fetch_add(1, Ordering::Release);
        tell(signal, PASSED_ON);
    }

    fn tell(signal: &Signal, noted: usize) {
        // One byte for each that the thread has not looked at, so that the pipe is never full. Fatal ones are few.
        if signal.noted.swap(noted, Ordering::Relaxed) == NOTHING {
            let pipe = PIPE.load(Ordering::Relaxed) as c_int;
            // SAFETY: one byte is read from a constant; the descriptor is a pipe of this process that stays open.
            unsafe { libc::write(pipe, b"!".as_ptr().cast(), 1) };
        }
    }

    /// Calls a handler as the system would.
    fn call(action: libc::sighandler_t, is_told_more: bool, number: c_int, info: *mut siginfo_t, context: *mut c_void) {
        if is_told_more {
            // SAFETY: neither the default nor ignoring, so it is a handler, and by its flag one of three arguments; they are those
            // that the system gave us.
            let action = unsafe {
                mem::transmute::<libc::sighandler_t, extern "C" fn(c_int, *mut siginfo_t, *mut c_void)>(action)
            };
            action(number, info, context);
        } else {
            // SAFETY: as above, of one argument.
            let action = unsafe { mem::transmute::<libc::sighandler_t, extern "C" fn(c_int)>(action) };
            action(number);
        }
    }

    /// Whether signals that have their default action do nothing to this process.
    fn is_first_process() -> bool {
        this_process() == 1
    }

    /// Ends the process with the status by which shells say that a signal did. As with a signal, nothing else is done.
    fn exit_by(number: c_int) -> ! {
        // SAFETY: has no preconditions, and does not return.
        unsafe { libc::_exit(128 + number) }
    }

    fn this_process() -> usize {
        // SAFETY: has no preconditions and cannot fail.
        unsafe { libc::getpid() as usize }
    }
}
