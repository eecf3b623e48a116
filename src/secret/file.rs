//! A file that somebody else replaces now and then: tokens, certificates and keys that rotate.

use crate::redact;
use std::{
    fmt, fs,
    io::Read,
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

/// A file and what it looked like when it was last read.
#[derive(Clone, Debug)]
pub(crate) struct WatchedFile {
    path: PathBuf,
    largest: u64,
    every: Duration,
    looked: Option<Instant>,
    seen: Option<Stamp>,
}

/// What tells one content from another without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
}

impl WatchedFile {
    /// A file of at most so many bytes, looked at every 10 seconds at most.
    pub(crate) fn new(path: PathBuf, largest: u64) -> WatchedFile {
        WatchedFile {
            path,
            largest,
            every: LOOK_EVERY,
            looked: None,
            seen: None,
        }
    }

    /// Whether it looks different from when it was read, or has never been; not so soon after the last look.
    pub(crate) fn changed(&mut self) -> Result<bool, String> {
        let now = Instant::now();
        if self.looked.is_some_and(|looked| now - looked < self.every) {
            return Ok(false);
        }
        self.looked = Some(now);
        Ok(self.seen.as_ref() != Some(&self.stamp()?))
    }

    /// What it holds.
    pub(crate) fn read(&mut self) -> Result<Vec<u8>, String> {
        self.looked = Some(Instant::now());
        self.seen = None;
        // Taken before the content: what is written in between is seen as a change.
        let stamp = self.stamp()?;
        let mut bytes = Vec::new();
        fs::File::open(&self.path)
            .and_then(|file| file.take(self.largest + 1).read_to_end(&mut bytes))
            .map_err(|error| self.unreadable(&error))?;
        if bytes.len() as u64 > self.largest {
            return Err(format!("{self} is longer than {} bytes: check the path", self.largest));
        }
        self.seen = Some(stamp);
        Ok(bytes)
    }

    /// What was read is no good: at the next look it counts as changed.
    #[cfg(any(feature = "tls", test))]
    pub(crate) fn forget(&mut self) {
        self.seen = None;
    }

    /// Looks so often instead.
    #[cfg(test)]
    pub(crate) fn every(mut self, every: Duration) -> WatchedFile {
        self.every = every;
        self
    }

    fn stamp(&self) -> Result<Stamp, String> {
        let metadata = fs::metadata(&self.path).map_err(|error| self.unreadable(&error))?;
        Ok(Stamp {
            modified: metadata.modified().ok(),
            length: metadata.len(),
        })
    }

    fn unreadable(&self, error: &std::io::Error) -> String {
        format!("{self} cannot be read: {error}: check that it is there and that this process may read it")
    }
}

impl fmt::Display for WatchedFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = redact::line(&self.path.to_string_lossy(), 200);
        write!(formatter, "the file `{path}`")
    }
}

/// Often enough for what rotates, and next to nothing beside a request.
const LOOK_EVERY: Duration = Duration::from_secs(10);

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::path::Path;

    /// A folder that goes when the test ends.
    pub(crate) struct Folder(PathBuf);

    impl Folder {
        pub(crate) fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("tidegauge-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Folder(path)
        }

        pub(crate) fn path(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }

        pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
            let path = self.path(name);
            fs::write(&path, content).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn dated(path: &Path, seconds: u64) {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        fs::File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_modified(time)
            .unwrap();
    }

    #[test]
    fn time_or_length_tell_a_change() {
        let folder = Folder::new("watched");
        let path = folder.write("file", "one");
        dated(&path, 1_000);
        let mut file = WatchedFile::new(path.clone(), 10).every(Duration::ZERO);
        assert_eq!(file.changed(), Ok(true));
        assert_eq!(file.read(), Ok(b"one".to_vec()));
        assert_eq!(file.changed(), Ok(false));

        folder.write("file", "two");
        dated(&path, 1_001);
        assert_eq!(file.changed(), Ok(true));
        assert_eq!(file.read(), Ok(b"two".to_vec()));
        assert_eq!(file.changed(), Ok(false));

        folder.write("file", "three");
        dated(&path, 1_001);
        assert_eq!(file.changed(), Ok(true));
        file.read().unwrap();
        file.forget();
        assert_eq!(file.changed(), Ok(true));
    }

    #[test]
    fn it_is_not_looked_at_all_the_time() {
        let folder = Folder::new("watched-seldom");
        let path = folder.write("file", "one");
        let mut file = WatchedFile::new(path, 10).every(Duration::MAX);
        assert_eq!(file.changed(), Ok(true));
        file.read().unwrap();
        folder.write("file", "longer");
        assert_eq!(file.changed(), Ok(false));
        assert_eq!(file.read(), Ok(b"longer".to_vec()));
    }
}
