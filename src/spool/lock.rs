//! Locks that processes have of each other: the system's, on open files, which it gives back when a process ends, however it does.

use crate::platform;
use std::{
    fs::{File, TryLockError},
    io, thread,
    time::{Duration, Instant},
};

/// A lock that is held until this is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    /// The generation of the process that took it: a forked child shares the open file, and with it the lock.
    process: u64,
}

impl Lock {
    /// Takes the lock of a file that `open` opens, or none if somebody else has it.
    pub(super) fn try_take(open: impl FnOnce() -> io::Result<File>) -> io::Result<Option<Lock>> {
        let file = open()?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock {
                file,
                process: platform::generation(),
            })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Tries for so long: the system's own waiting has no deadline, and who has the lock may be stopped.
    pub(super) fn take_within(open: impl Fn() -> io::Result<File>, wait: Duration) -> io::Result<Option<Lock>> {
        let began = Instant::now();
        let mut pause = SHORTEST_PAUSE;
        loop {
            if let Some(lock) = Self::try_take(&open)? {
                return Ok(Some(lock));
            }
            let left = wait.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            thread::sleep(pause.min(left));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Whether it is not the lock of a process that was forked since.
    pub(super) fn is_of_this_process(&self) -> bool {
        self.process == platform::generation()
    }
}

#[cfg(test)]
impl Lock {
    /// As it is in a child that was forked since.
    pub(super) fn into_parents(mut self) -> Lock {
        self.process = self.process.wrapping_sub(1);
        self
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file would do, but not while a forked child has it open as well. The child itself must not give back
        // what is its parent's.
        if self.is_of_this_process() {
            // A lock that cannot be given back is, when the file is closed.
            let _ = self.file.unlock();
        }
    }
}

const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);
