//! What becomes of files that nobody delivers: those of writers that were killed, those that are torn, those that are too old, and
//! those for which there is no room. All of this is done with the lock of who writes.

use super::{Store, size_of};
use crate::spool::{
    SpoolError,
    directory::{self, Listed, SET_ASIDE, SPOOLED, State},
    record::{self, Note, Unread},
};
use std::io;

impl Store {
    /// Lists the files, after temporary ones have found their end, as nobody writes them, and those that are too old have gone. To be called
    /// with the lock of who writes. What cannot be cleaned stays, and is listed.
    pub(super) fn clean(&mut self, removed: &mut Note) -> Result<Vec<Listed>, SpoolError> {
        let mut files = self.list()?;
        let temporary: Vec<Listed> = files
            .iter()
            .filter(|file| file.state == State::Temporary)
            .cloned()
            .collect();
        if !temporary.is_empty() {
            for file in &temporary {
                if self.end_temporary(file, &files) {
                    removed.unread_files += 1;
                }
            }
            // What was renamed or removed is seen as it is now.
            files = self.list()?;
        }

        files.retain(|file| {
            // By its name, which is not earlier than it was made: thousands of files are not opened for this.
            if !self.is_too_old(file.order) {
                return true;
            }
            let loss = self.loss_of(file, expired);
            let is_gone = self.directory.remove(&file.name);
            if let Ok(true) = is_gone {
                removed.add(loss);
            }
            is_gone.is_err()
        });
        self.size = size_of(&files);
        Ok(files)
    }

    /// Ends what a writer began that was killed: a whole file comes to its place, and one that is not is set aside, which is returned.
    fn end_temporary(&self, file: &Listed, files: &[Listed]) -> bool {
        let read = self
            .directory
            .open(&file.name)
            .map_err(Unread::from)
            .and_then(|(mut opened, length)| {
                let header = record::read_whole(&mut opened, length)?;
                // The writer may have been killed just before it did this.
                opened.sync_all()?;
                Ok(header)
            });
        let header = match read {
            Ok(header) if header.acknowledged == 0 && !header.is_begun => header,
            Ok(_) => return self.set_aside(&file.name, "it is longer than it was written"),
            Err(Unread::Flawed(why)) => return self.set_aside(&file.name, why),
            Err(Unread::Failed(_) | Unread::Newer) => return false,
        };
        // Its note has these already.
        let evicted = |other: &&Listed| other.state == State::Spooled && other.order <= header.evicted_through;
        for other in files.iter().filter(evicted) {
            let _ = self.directory.remove(&other.name);
        }
        let name = format!("{}{SPOOLED}", directory::stem(file.order, file.hash));
        let _ = self.directory.rename(&file.name, &name);
        let _ = self.directory.sync();
        false
    }

    /// Renames a file so that nobody reads it again, if that is possible. To be called with the lock of who writes.
    pub(super) fn set_aside(&self, name: &str, why: &str) -> bool {
        let names = (1..100).map(|number| match number {
            1 => format!("{name}{SET_ASIDE}"),
            _ => format!("{name}.{number}{SET_ASIDE}"),
        });
        let free = names.into_iter().find(|free| !self.directory.has(free));
        let is_aside = free.is_some_and(|free| self.directory.rename(name, &free).is_ok());
        if is_aside {
            let what = format!("`{name}` is set aside: {why}");
            log::warn!("{}", self.error(&what, "look at it, or delete it"));
        }
        is_aside
    }

    /// What goes with a file, `counted` as points of one sort or the other.
    pub(super) fn loss_of(&self, file: &Listed, counted: fn(u64) -> Note) -> Note {
        // Was counted when it was set aside.
        if file.state == State::SetAside {
            return Note::default();
        }
        match self.header_of(&file.name) {
            Ok(header) => {
                let mut loss = counted(header.points_left());
                loss.add(header.note_left());
                loss
            }
            // Somebody has just delivered it.
            Err(Unread::Failed(error)) if error.kind() == io::ErrorKind::NotFound => Note::default(),
            Err(_) => Note {
                unread_files: 1,
                ..Note::default()
            },
        }
    }
}

/// Which files go so that the rest has so many bytes, and is so many, at most: first what was set aside, and then from the oldest on.
pub(super) fn victims<'a>(
    files: impl Iterator<Item = &'a Listed> + Clone,
    max_bytes: u64,
    most_files: usize,
) -> Vec<Listed> {
    let mut bytes = files
        .clone()
        .fold(0, |bytes: u64, file| bytes.saturating_add(file.length));
    let mut count = files.clone().count();
    let is_aside = |file: &&Listed| file.state == State::SetAside;
    let in_turn = files
        .clone()
        .filter(is_aside)
        .chain(files.filter(|file| !is_aside(file)));
    let go = in_turn.take_while(|file| {
        let goes = bytes > max_bytes || count > most_files;
        bytes = bytes.saturating_sub(file.length);
        count -= 1;
        goes
    });
    go.cloned().collect()
}

/// So many points had no room.
pub(super) fn evicted(points: u64) -> Note {
    Note {
        evicted_points: points,
        ..Note::default()
    }
}

/// So many points were too old.
pub(super) fn expired(points: u64) -> Note {
    Note {
        expired_points: points,
        ..Note::default()
    }
}
