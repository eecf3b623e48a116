//! What could not be delivered, kept in a directory for the next process: files that are whole or are not there, in the order in
//! which they were put, for many processes and many exporters at once.
//!
//! [`Spool`] is what an application says of it, and [`Store`] is one exporter's sight of it. A store knows bytes and counts, and
//! nothing of destinations: whatever secret a destination has never comes here. It is called by the exporter's sender.
//!
//! # The directory
//!
//! | name | what it is |
//! |---|---|
//! | `ORDER-HASH.spool` | the payloads of one [`put`](Store::put), in the format of `spool/record.rs` |
//! | `ORDER-HASH.tmp` | one that is being written, or whose writer was killed |
//! | `….corrupt` | one that is torn or damaged, set aside: never read again, and the first to go for room |
//! | `write.lock` | held while files are put, evicted or set aside; for a moment |
//! | `deliver-HASH.lock` | held by who delivers what has this key |
//!
//! `ORDER` are 20 digits: the time of the system's clock in nanoseconds, or one more than the greatest there, so files are delivered as
//! they were put, whatever the clock does. `HASH` is of the key, which says what may be sent where: only files whose
//! whole key is the store's are delivered. Locks are the system's, on open files: a process that is killed has none any more. Their
//! files are never deleted, because who waits for one would not see the lock on the next. Everything else in the directory is nobody's
//! business here: it is neither read nor counted nor deleted.
//!
//! # What is lost, what comes twice
//!
//! - *Killed within a put*: the file is there afterwards, or a temporary one. Who next has `write.lock` makes a file of a temporary one
//!   that is whole, and sets aside one that is torn.
//! - *Killed while delivering*: each record gets one byte at the end of the file when it is about to be sent, which is taken back when
//!   the far end says clearly that it has not taken it, and another when the far end has it. One record at most, which had arrived and was not
//!   acknowledged yet, comes twice; by its first byte it is counted as a possible duplicate. These bytes are not forced to the disk: after
//!   a failure of the power, as much comes twice as the system had not written yet, uncounted. Where a full disk has no room for them, the
//!   process knows them for as long as it lives, and what comes after it does not.
//! - *No room*: a put evicts the oldest. It notes in its own file what it evicted, because its
//!   process is likely at its end; who delivers the first record of that file counts the note, and the same byte that acknowledges
//!   the record says that the note is counted. A process that is killed takes along what it had counted and not reported, as with
//!   all of its counts. A file that somebody delivers in the moment in which it is evicted may be counted and arrive.
//!
//! A process that is forked while it holds a lock shares the lock with its child: if it is then killed, the lock is there until the child
//! ends, or begins another program.

mod directory;
mod error;
mod lock;
mod record;
mod store;
#[cfg(test)]
mod tests;

pub(crate) use error::SpoolError;
pub(crate) use record::Record;
pub(crate) use store::{Entry, Store};

use std::{
    path::{self, PathBuf},
    time::Duration,
};

/// A directory that keeps what could not be delivered before a process ended, and from which the next process delivers it.
///
/// One directory serves any number of processes and jobs at once; what was put for one destination is delivered by whoever is
/// pointed at the same directory and the same destination. A file in it is whole or is not there: it is written under another name,
/// forced to the disk, and then renamed. It has a checksum, and what is damaged is set aside and counted, and stops nothing behind it.
///
/// Whatever is sent to one address is taken for one destination, whoever it is for: where a header, a query or a token tells tenants apart,
/// give each tenant a directory of its own.
///
/// Delivery keeps the order, and is at least once: of a process that is killed while it delivers, one payload at most arrives
/// a second time from the next, which counts it as a possible duplicate.
///
/// It is made for its user alone, directory and files, on Unix with the modes 0700 and 0600; those of a directory that
/// is already there are left as they are. What root puts into the directory of another user is made that user's, who could not go on with it
/// otherwise. No credentials are kept in it, but metrics are: who may write there may have anything
/// delivered in the application's name. It has to be on a file system with locks of files and renames, as local ones are.
///
/// ```
/// use std::time::Duration;
/// use tidegauge::Spool;
///
/// let spool = Spool::new("/var/spool/nightly-backup").max_bytes(16 * 1024 * 1024).max_age(Duration::from_secs(2 * 86_400));
/// assert!(format!("{spool:?}").contains("/var/spool/nightly-backup"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spool {
    directory: PathBuf,
    max_bytes: u64,
    max_age: Duration,
}

impl Spool {
    /// A spool in that directory, which is made, with those above it, when something is first put there. A relative path is one from where the
    /// process is now, wherever it goes later.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        Spool {
            // An empty one cannot be; the exporter says so.
            directory: path::absolute(&directory).unwrap_or(directory),
            max_bytes: DEFAULT_MAX_BYTES,
            max_age: DEFAULT_MAX_AGE,
        }
    }

    /// Whether it has no path at all, as of a variable that nobody has set.
    pub(crate) fn is_nowhere(&self) -> bool {
        self.directory.as_os_str().is_empty()
    }

    /// How many bytes all of its files come to at most, of all jobs together, and also of those that were set aside; by default
    /// 64 MiB.
    ///
    /// When there is no room, the oldest files go, those that were set aside before the others, and their points are counted as lost. What is
    /// larger than this by itself is not kept at all. Nor are more than 16,384 files, whatever their size. A new file is whole before the
    /// oldest go, so the disk wants room for that one besides.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How old a file becomes before it is deleted and its points are counted as lost; by default 7 days. One from
    /// the future, as it seems after a clock was set back, is not too old.
    ///
    /// Processes with different ages or sizes for one directory are each right when they look: the least counts.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }
}

const DEFAULT_MAX_BYTES: u64 = 64 * 1024 * 1024;

const DEFAULT_MAX_AGE: Duration = Duration::from_secs(7 * 86_400);
