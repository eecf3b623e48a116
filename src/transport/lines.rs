//! Whole lines to standard output or to a file: one write call a line where the system takes it at once, and never half a line
//! with another one behind it.
//!
//! Where a write ends within a line, the half is cut off again if the file can be shortened; else a line feed ends it
//! before the next line, so that readers drop the half and nothing else. What was cut or ended so counts as not written.

#[cfg(test)]
mod tests;

use std::{
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
#[derive(Debug)]
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

#[derive(Debug)]
struct Open {
    file: File,
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
        // mixed up otherwise. What they have printed of a line without its end stays in the buffer behind the lock.
        let _alone = (*target == LineTarget::Stdout).then(|| io::stdout().lock());
        if let LineTarget::File(path) = target
            && open.as_ref().is_some_and(|open| !is_at(&open.file, path))
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
            write_line(&mut open.file, &mut open.is_torn, line, deadline).map_err(|error| Halt {
                written,
                message: format!("cannot write to it: {error}"),
            })?;
            written += line.len();
        }
        Ok(())
    }
}

/// What lines are written to.
trait Medium: Write {
    /// Takes back the last bytes that were written; whether it could.
    fn take_back(&mut self, bytes: u64) -> bool;
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
}

/// Writes one line, or takes it that nothing of it was.
fn write_line(medium: &mut impl Medium, is_torn: &mut bool, line: &[u8], deadline: Instant) -> io::Result<()> {
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
fn write_before(medium: &mut impl Write, bytes: &[u8], deadline: Instant) -> Result<(), (io::Error, usize)> {
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
    match target {
        LineTarget::Stdout => Ok(Open {
            file: stdout()?,
            is_torn: false,
        }),
        LineTarget::File(path) => {
            let mut options = OpenOptions::new();
            options.append(true).create(true);
            // Read to see how it ends, if that is allowed.
            let is_device = fs::metadata(path).is_ok_and(|metadata| !metadata.is_file());
            let readable = match is_device {
                true => None,
                false => options.clone().read(true).open(path).ok(),
            };
            match readable {
                Some(mut file) => Ok(Open {
                    is_torn: ends_within_a_line(&mut file)?,
                    file,
                }),
                None => Ok(Open {
                    file: options.open(path)?,
                    is_torn: false,
                }),
            }
        }
    }
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

/// Whether a path still leads to an open file.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// Elsewhere a file that is open is not moved away.
#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

/// Between two tries.
const PATIENCE: Duration = Duration::from_millis(1);
