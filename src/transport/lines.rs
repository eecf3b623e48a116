//! Whole lines to standard output or to a file: one write call a line where the system takes it at once, and never half a line
//! with another one behind it.
//!
//! Where a write ends within a line, the half is cut off again if the file can be shortened; else a line feed ends it
//! before the next line, so that readers drop the half and nothing else. What was cut or ended so counts as not written.

#[cfg(test)]
mod tests;

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LineTarget {
    Stdout,
    /// A file that lines are appended to; made if it is not there, and again if it is moved away.
    File(PathBuf),
}

/// Writes lines to a target.
pub(crate) struct Lines {
    target: LineTarget,
    open: Option<Open>,
    opened: u64,
}

/// An error, and how many bytes of whole lines were written before it.
#[derive(Debug)]
pub(crate) struct Halt {
    pub(crate) written: usize,
    pub(crate) message: String,
}

struct Open {
    medium: Box<dyn Medium>,
    /// What was written last is half a line, which is there for good.
    is_torn: bool,
}

impl Lines {
    pub(crate) fn new(target: LineTarget) -> Lines {
        Lines {
            target,
            open: None,
            opened: 0,
        }
    }

    /// Writes to what a test has made, as if it were standard output.
    #[cfg(test)]
    pub(crate) fn to(medium: impl Medium) -> Lines {
        Lines {
            target: LineTarget::Stdout,
            open: Some(Open {
                medium: Box::new(medium),
                is_torn: false,
            }),
            opened: 1,
        }
    }

    /// How often the target was opened.
    pub(crate) fn opened(&self) -> u64 {
        self.opened
    }

    /// Opens the target again before the next line.
    pub(crate) fn reopen(&mut self) {
        // Only the open file knows that its last line is torn; another one of the same path is looked at.
        if self.target != LineTarget::Stdout {
            self.open = None;
        }
    }

    /// Writes lines, each of which ends in a line feed, one by one. A system that takes nothing just now is asked until the deadline; one
    /// that blocks is not interrupted.
    pub(crate) fn write(&mut self, lines: &[u8], deadline: Instant) -> Result<(), Halt> {
        let Lines { target, open, opened } = self;
        // Others of this process print whole lines while they have the lock; longer ones than a pipe takes at once would be
        // mixed up otherwise. What they have printed of a line without its end stays in the buffer behind the lock. A fork may
        // find it held, as with every thread that prints: none can wait for a pipe that is full.
        let _alone = (*target == LineTarget::Stdout).then(|| io::stdout().lock());
        if let LineTarget::File(path) = target
            && open.as_ref().is_some_and(|open| !open.medium.is_at(path))
        {
            *open = None;
        }
        let open = match open {
            Some(open) => open,
            None => {
                let now_open = open_target(target).map_err(|error| Halt {
                    written: 0,
                    message: format!("cannot open it: {error}"),
                })?;
                *opened += 1;
                open.insert(now_open)
            }
        };
        let mut written = 0;
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            write_line(&mut *open.medium, &mut open.is_torn, line, deadline).map_err(|error| Halt {
                written,
                message: format!("cannot write to it: {error}"),
            })?;
            written += line.len();
        }
        Ok(())
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Lines")
            .field("target", &self.target)
            .field("opened", &self.opened)
            .finish_non_exhaustive()
    }
}

/// What lines are written to.
pub(crate) trait Medium: Write + Send + 'static {
    /// Takes back the last bytes that were written; whether it could.
    fn take_back(&mut self, bytes: u64) -> bool;

    /// Whether a path still leads to it.
    fn is_at(&self, path: &Path) -> bool;
}

impl Medium for File {
    fn take_back(&mut self, bytes: u64) -> bool {
        let is_file = |metadata: &fs::Metadata| metadata.is_file();
        let (Some(metadata), Ok(end)) = (self.metadata().ok().filter(is_file), self.stream_position()) else {
            return false;
        };
        // In front of what somebody else has written since, it stays.
        if end != metadata.len() || end < bytes {
            return false;
        }
        let start = end - bytes;
        self.set_len(start).is_ok() && self.seek(SeekFrom::Start(start)).is_ok()
    }

    fn is_at(&self, path: &Path) -> bool {
        match (self.metadata(), fs::metadata(path)) {
            (Ok(open), Ok(there)) => is_same(&open, &there),
            _ => false,
        }
    }
}

/// Writes one line, or takes it that nothing of it was.
fn write_line(medium: &mut dyn Medium, is_torn: &mut bool, line: &[u8], deadline: Instant) -> io::Result<()> {
    if *is_torn {
        write_before(medium, b"\n", deadline).map_err(|(error, _)| error)?;
        *is_torn = false;
    }
    let Err((error, written)) = write_before(medium, line, deadline) else {
        return Ok(());
    };
    if written == 0 || medium.take_back(written as u64) {
        return Err(error);
    }
    *is_torn = true;
    // Without its line feed it is whole all the same, and would count twice if it came again.
    match written == line.len() - 1 {
        true => Ok(()),
        false => Err(error),
    }
}

/// Writes all, or says how much was.
fn write_before(medium: &mut dyn Medium, bytes: &[u8], deadline: Instant) -> Result<(), (io::Error, usize)> {
    let mut written = 0;
    while written < bytes.len() {
        match medium.write(&bytes[written..]) {
            Ok(0) => return Err((io::ErrorKind::WriteZero.into(), written)),
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Somebody has made the pipe one that does not block; there is no waiting for it without more than the standard library.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                thread::sleep(PATIENCE);
            }
            Err(error) => return Err((error, written)),
        }
    }
    Ok(())
}

fn open_target(target: &LineTarget) -> io::Result<Open> {
    let path = match target {
        LineTarget::Stdout => {
            return Ok(Open {
                medium: Box::new(stdout()?),
                is_torn: false,
            });
        }
        LineTarget::File(path) => path,
    };
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    // Read to see how it ends, if that is allowed and there is an end.
    let is_device = fs::metadata(path).is_ok_and(|metadata| !metadata.is_file());
    let readable = match is_device {
        true => None,
        false => options.clone().read(true).open(path).ok(),
    };
    let (file, is_torn) = match readable {
        Some(mut file) => {
            let is_torn = ends_within_a_line(&mut file)?;
            (file, is_torn)
        }
        None => (options.open(path)?, false),
    };
    Ok(Open {
        medium: Box::new(file),
        is_torn,
    })
}

/// Standard output without the standard library's buffer, in which a line that failed would stay.
#[cfg(unix)]
fn stdout() -> io::Result<File> {
    use std::os::fd::AsFd;
    Ok(io::stdout().as_fd().try_clone_to_owned()?.into())
}

#[cfg(windows)]
fn stdout() -> io::Result<File> {
    use std::os::windows::io::AsHandle;
    Ok(io::stdout().as_handle().try_clone_to_owned()?.into())
}

#[cfg(not(any(unix, windows)))]
fn stdout() -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Whether somebody, perhaps this process before it was killed, has left half a line at the end.
fn ends_within_a_line(file: &mut File) -> io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != [b'\n'])
}

#[cfg(unix)]
fn is_same(open: &fs::Metadata, there: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (open.dev(), open.ino()) == (there.dev(), there.ino())
}

/// Elsewhere a file that is open is not moved away.
#[cfg(not(unix))]
fn is_same(_: &fs::Metadata, _: &fs::Metadata) -> bool {
    true
}

/// Between two tries.
const PATIENCE: Duration = Duration::from_millis(1);
