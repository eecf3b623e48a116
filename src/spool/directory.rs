//! The files of a spool's directory: their names, and how they are made, opened and removed so that nobody is led elsewhere by a link.
//!
//! On Unix a file that is opened is never a symbolic link's target, and never a pipe that one would wait at. Elsewhere the listing
//! leaves both out, and somebody who may write there could still exchange a file between the listing and the opening.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// A directory that may not be there yet.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    path: PathBuf,
}

/// One file of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) order: u64,
    /// Of its key.
    pub(super) hash: u32,
    pub(super) state: State,
    /// In bytes.
    pub(super) length: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Spooled,
    Temporary,
    SetAside,
}

impl Directory {
    pub(super) fn new(path: PathBuf) -> Self {
        Directory { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it, if it is not there.
    pub(super) fn create(&self) -> io::Result<()> {
        if fs::metadata(&self.path).is_ok_and(|metadata| metadata.is_dir()) {
            return Ok(());
        }
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.path)?;
        // Its own name has to be on the disk as well. Where that cannot be asked for, it comes to be there by and by.
        if let Some(parent) = self.path.parent() {
            let _ = sync(parent);
        }
        Ok(())
    }

    /// All files of a spool, from the first to be delivered to the last; none if there is no directory.
    pub(super) fn list(&self) -> io::Result<Vec<Listed>> {
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let Some((name, (order, hash, state))) = name.to_str().and_then(|name| Some((name, parse(name)?))) else {
                continue;
            };
            let length = match entry.metadata() {
                // Of the link, if it is one.
                Ok(metadata) if metadata.is_file() => metadata.len(),
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            files.push(Listed {
                name: name.to_owned(),
                order,
                hash,
                state,
                length,
            });
        }
        files.sort_unstable_by(|one, other| (one.order, &one.name).cmp(&(other.order, &other.name)));
        Ok(files)
    }

    /// Opens a file to read it and to append to it, and says how long it is.
    pub(super) fn open(&self, name: &str) -> io::Result<(File, u64)> {
        self.open_with(OpenOptions::new().read(true).append(true), name)
    }

    /// Opens a file to read it, and says how long it is.
    pub(super) fn open_to_read(&self, name: &str) -> io::Result<(File, u64)> {
        self.open_with(OpenOptions::new().read(true), name)
    }

    /// Opens the file of a lock, and makes it if it is not there.
    pub(super) fn open_lock(&self, name: &str) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).append(true);
        match self.open_with(options.clone().create_new(true), name) {
            Ok((file, _)) => {
                self.hand_over(&file);
                Ok(file)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(self.open_with(&mut options, name)?.0),
            Err(error) => Err(error),
        }
    }

    /// Makes a file of these pieces and forces it to the disk. A half of it is removed again.
    pub(super) fn write<'a>(&self, name: &str, pieces: impl Iterator<Item = &'a [u8]>) -> io::Result<()> {
        let (mut file, _) = self.open_with(OpenOptions::new().write(true).create_new(true), name)?;
        self.hand_over(&file);
        let write = || {
            for piece in pieces {
                file.write_all(piece)?;
            }
            file.sync_all()
        };
        let written = write();
        if written.is_err() && self.remove(name).is_err() {
            // What can't be removed should not be taken for whole.
            let _ = file.set_len(0);
        }
        written
    }

    /// Removes a file; whether it was this call that did.
    pub(super) fn remove(&self, name: &str) -> io::Result<bool> {
        match fs::remove_file(self.path.join(name)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    /// Whether anything has that name.
    pub(super) fn has(&self, name: &str) -> bool {
        fs::symlink_metadata(self.path.join(name)).is_ok()
    }

    /// Whether the file with that name is the one that is open.
    pub(super) fn has_open(&self, name: &str, file: &File) -> bool {
        match (file.metadata(), fs::symlink_metadata(self.path.join(name))) {
            (Ok(open), Ok(there)) => is_same(&open, &there),
            _ => false,
        }
    }

    /// Forces the names to the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        sync(&self.path)
    }

    /// Gives a file that was just made to whom the directory belongs, if root has made it: its user could neither deliver it nor have its
    /// lock, for good. Not one that was there, which may be a link to a file of somebody else's.
    #[cfg(unix)]
    fn hand_over(&self, file: &File) {
        use std::os::unix::fs::{MetadataExt, fchown};
        if let (Ok(made), Ok(directory)) = (file.metadata(), fs::metadata(&self.path))
            && made.uid() == 0
            && directory.uid() != 0
        {
            // What cannot be given away is root's, as everything else that root makes.
            let _ = fchown(file, Some(directory.uid()), Some(directory.gid()));
        }
    }

    /// Elsewhere who made a file is not who alone may read it.
    #[cfg(not(unix))]
    fn hand_over(&self, _: &File) {}

    fn open_with(&self, options: &mut OpenOptions, name: &str) -> io::Result<(File, u64)> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        }
        let file = options.open(self.path.join(name))?;
        let metadata = file.metadata()?;
        match metadata.is_file() {
            true => Ok((file, metadata.len())),
            false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file")),
        }
    }
}

/// A name without what tells the states apart.
pub(super) fn stem(order: u64, hash: u32) -> String {
    format!("{order:020}-{hash:08x}")
}

/// The greatest order there is: nanoseconds until the year 2262. A name with more is not of a spool.
pub(super) const GREATEST_ORDER: u64 = i64::MAX as u64;

pub(super) const SPOOLED: &str = ".spool";
pub(super) const TEMPORARY: &str = ".tmp";
pub(super) const SET_ASIDE: &str = ".corrupt";

/// What the name of a file of a spool says.
fn parse(name: &str) -> Option<(u64, u32, State)> {
    let (stem, end) = name.split_at_checked(STEM)?;
    let (order, hash) = stem.split_once('-')?;
    let are_digits = |text: &str, digits: &str| text.chars().all(|character| digits.contains(character));
    if order.len() != ORDER_DIGITS || !are_digits(order, "0123456789") || !are_digits(hash, "0123456789abcdef") {
        return None;
    }
    let order = order.parse().ok().filter(|order| *order <= GREATEST_ORDER)?;
    let hash = u32::from_str_radix(hash, 16).ok()?;
    let state = match end {
        SPOOLED => State::Spooled,
        TEMPORARY => State::Temporary,
        // With a number, if there was one of the name before.
        _ if end.ends_with(SET_ASIDE) => State::SetAside,
        _ => return None,
    };
    Some((order, hash, state))
}

const ORDER_DIGITS: usize = 20;
const STEM: usize = ORDER_DIGITS + 1 + 8;

#[cfg(unix)]
fn sync(directory: &Path) -> io::Result<()> {
    match File::open(directory)?.sync_all() {
        // Some file systems have nothing to do for a directory, and say so in this way.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        synced => synced,
    }
}

/// Elsewhere directories are not opened, and the system sees to it by itself.
#[cfg(not(unix))]
fn sync(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn is_same(open: &fs::Metadata, there: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (open.dev(), open.ino()) == (there.dev(), there.ino())
}

/// Elsewhere a file that is open is not exchanged.
#[cfg(not(unix))]
fn is_same(_: &fs::Metadata, there: &fs::Metadata) -> bool {
    there.is_file()
}
