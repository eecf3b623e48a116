//! One exporter's sight of a spool: what it puts there, what it finds there to deliver, and what was lost there.

mod cleaning;
mod current;

use super::{
    Spool, SpoolError,
    directory::{self, Directory, GREATEST_ORDER, Listed, SPOOLED, State, TEMPORARY},
    lock::Lock,
    record::{self, Header, Note, Record, Unread},
};
use crate::{clock::SharedClock, destination::BatchId};
use cleaning::{evicted, victims};
use current::{Current, room_for_marks};
use std::{
    collections::{HashMap, VecDeque},
    fmt, io,
    time::Duration,
};

/// The files of one key in a spool.
///
/// It touches the disk when it is told to, and never waits but where it is told for how long. It is of one thread; many of one
/// key, in one process or in several, see to it by locks that one delivers at a time.
pub(crate) struct Store {
    directory: Directory,
    max_bytes: u64,
    max_age: Duration,
    most_files: usize,
    key: String,
    hash: u32,
    replaces: bool,
    clock: SharedClock,
    /// The lock of who delivers what has this key.
    delivery: Option<Lock>,
    /// Names of the files that were there when the lease was taken.
    leased: Option<Vec<String>>,
    /// Names of files that may be delivered, in this order, as of the last listing.
    waiting: VecDeque<String>,
    current: Option<Current>,
    /// How many marks files should have of which the disk did not take all, by name.
    unwritten: HashMap<String, usize>,
    losses: Losses,
    size: Size,
}

/// A payload that is to be delivered.
pub(crate) struct Entry {
    pub(crate) bytes: Vec<u8>,
    pub(crate) id: BatchId,
    pub(crate) points: u64,
    pub(crate) increments: u64,
    /// Whether it may have arrived already.
    pub(crate) unclear: bool,
    name: String,
    position: usize,
}

/// What was lost. All but the last is to be counted by whoever is told, and is told once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Losses {
    /// Points that went because there was no room.
    pub(crate) evicted_points: u64,
    /// Points that became too old.
    pub(crate) expired_points: u64,
    /// Files that were set aside, torn or damaged, or that went for room and that this version could not read.
    pub(crate) unread_files: u64,
    /// Points that this store's puts have evicted or found expired: **not** to be counted by this process, as they are noted in what it has
    /// put, and whoever delivers that is told. For what this process says of its end.
    pub(crate) noted_points: u64,
}

/// What is in the directory, of all keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

impl Store {
    /// A store that has not looked yet. The key says what may be sent where: it is to name the protocol, the far end without its
    /// credentials, and the payloads' format. With `replaces`, only what was put last is ever delivered.
    pub(crate) fn new(spool: Spool, key: &str, replaces: bool, clock: SharedClock) -> Store {
        Store {
            directory: Directory::new(spool.directory),
            max_bytes: spool.max_bytes,
            max_age: spool.max_age,
            most_files: MOST_FILES,
            key: key.to_owned(),
            // Specified, so the same in every version and on every platform.
            hash: crc32fast::hash(key.as_bytes()),
            replaces,
            clock,
            delivery: None,
            leased: None,
            waiting: VecDeque::new(),
            current: None,
            unwritten: HashMap::new(),
            losses: Losses::default(),
            size: Size::default(),
        }
    }

    /// Appends payloads as one file, durably and in order: all of them, or none and an error. It waits for so long for other writers;
    /// how long the disk takes is up to the disk.
    ///
    /// Where there is no room the oldest files go. With `replaces` the older files of the key go, and are no losses.
    pub(crate) fn put(&mut self, records: &[Record<'_>], wait: Duration) -> Result<(), SpoolError> {
        if records.is_empty() {
            return Ok(());
        }
        // Its marks want room, too.
        let marks = room_for_marks(records);
        let length = record::file_length(&self.key, records).and_then(|length| length.checked_add(marks));
        let Some(length) = length.filter(|length| *length <= self.max_bytes && self.most_files > 0) else {
            let what = format!(
                "{} payloads of {} bytes in all are more than its {} bytes hold",
                records.len(),
                records.iter().map(|record| record.bytes.len()).sum::<usize>(),
                self.max_bytes,
            );
            return Err(self.error(&what, "let it have more `max_bytes`"));
        };
        self.directory
            .create()
            .map_err(|error| self.failed("make it", &error))?;
        let taken = Lock::take_within(|| self.directory.open_lock(WRITE_LOCK), wait);
        let Some(_alone) = taken.map_err(|error| self.failed("lock its `write.lock`", &error))? else {
            let what = format!("another process has had its `{WRITE_LOCK}` for {wait:?}");
            return Err(self.error(
                &what,
                "see whether that process is stopped; when it ends, the lock is free",
            ));
        };
        let mut removed = Note::default();
        let put = self.put_alone(records, length, &mut removed);
        match put {
            Ok(()) => self.losses.noted_points += removed.evicted_points.saturating_add(removed.expired_points),
            Err(_) => self.losses.count(removed),
        }
        put
    }

    /// The oldest payload of the key that is not acknowledged; the same one until it is. None if there is none, or if another
    /// process, or another store, delivers those of this key at the moment.
    ///
    /// From the first one on no other store gets any, until there are no more or [`release`](Store::release) is called.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, SpoolError> {
        self.leave_to_parent();
        let mut has_looked = false;
        let mut failure = None;
        loop {
            match self.entry() {
                Ok(Some(entry)) => return Ok(Some(entry)),
                Ok(None) => {}
                Err(error) => failure = Some(error),
            }
            if let Some(name) = self.waiting.pop_front() {
                // One that cannot be opened keeps none of those behind it waiting.
                if let Err(error) = self.begin(name) {
                    failure = Some(error);
                }
            } else if has_looked || !self.look()? {
                if self.leased.is_none() {
                    self.release();
                }
                return failure.map_or(Ok(None), Err);
            } else {
                has_looked = true;
            }
        }
    }

    /// The payload that [`next`](Store::next) gave last is about to be sent: should this process end before there is an answer, whoever
    /// sends it next knows that it may have arrived.
    pub(crate) fn note_attempt(&mut self, entry: &Entry) -> Result<(), SpoolError> {
        let begun = self.current_of(entry)?.begin();
        begun.map_err(|error| self.failed("note that something of it is being sent", &error))
    }

    /// The far end says clearly that it has not taken it, and no attempt before may have arrived.
    pub(crate) fn take_back_attempt(&mut self, entry: &Entry) -> Result<(), SpoolError> {
        let taken_back = self.current_of(entry)?.take_back();
        taken_back.map_err(|error| self.failed("note that nothing of it has arrived", &error))
    }

    /// The far end has the payload that [`next`](Store::next) gave last, or will never take it: this store does not give it again, not even
    /// if this fails.
    pub(crate) fn acknowledge(&mut self, entry: &Entry) -> Result<(), SpoolError> {
        self.leave_to_parent();
        let Some(current) = self.current.as_mut().filter(|current| current.is_at(entry)) else {
            return Err(self.unknown(entry));
        };
        // Who evicted it has noted what it notes.
        if current.is_at_its_beginning() && self.directory.has_open(&current.name, &current.file) {
            self.losses.count(current.header.note);
        }
        current.advance();
        let is_last = current.is_at_its_end();
        let removed = match is_last {
            true => self.directory.remove(&current.name),
            false => Ok(true),
        };
        if is_last && removed.is_ok() {
            self.current = None;
            self.size.files = self.size.files.saturating_sub(1);
            return Ok(());
        }
        let marked = current.write_marks();
        match removed.and(marked) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.failed("acknowledge what was delivered from it", &error)),
        }
    }

    /// Lets others deliver. What was given and not acknowledged is given again.
    pub(crate) fn release(&mut self) {
        self.put_down();
        self.waiting.clear();
        self.leased = None;
        self.delivery = None;
    }

    /// Sees to it that nobody else delivers what has this key, until [`release`](Store::release); false if somebody does. For
    /// `replaces`: around each push of one's own.
    pub(crate) fn lease(&mut self) -> Result<bool, SpoolError> {
        self.leave_to_parent();
        self.directory
            .create()
            .map_err(|error| self.failed("make it", &error))?;
        if !self.take_delivery()? {
            return Ok(false);
        }
        let own = self.list()?.into_iter().filter(|file| file.hash == self.hash);
        self.leased = Some(own.map(|file| file.name).collect());
        Ok(true)
    }

    /// Something newer than all that was there when the [`lease`](Store::lease) was taken has been delivered: the key's files of then
    /// are deleted. Returns how many points they had, which are no losses; none without a lease.
    pub(crate) fn supersede(&mut self) -> Result<u64, SpoolError> {
        self.leave_to_parent();
        let Some(leased) = &mut self.leased else {
            return Ok(0);
        };
        // What has the same name later is another file.
        let leased = std::mem::take(leased);
        self.current = None;
        self.waiting.clear();
        let mut points: u64 = 0;
        // The newest one's note has what those before it noted.
        let mut note = None;
        let files = self.list()?;
        for (file, header) in self.own_files(&files).into_iter().rev() {
            if !leased.contains(&file.name) {
                continue;
            }
            let removed = self.directory.remove(&file.name);
            if removed.map_err(|error| self.failed(&format!("delete `{}` of it", file.name), &error))? {
                points = points.saturating_add(header.points_left());
                note.get_or_insert(header.note_left());
            }
        }
        self.losses.count(note.unwrap_or_default());
        Ok(points)
    }

    /// What was lost since this was last asked.
    pub(crate) fn take_losses(&mut self) -> Losses {
        std::mem::take(&mut self.losses)
    }

    /// What was in the directory when it was last looked at.
    pub(crate) fn size(&self) -> Size {
        self.size
    }

    /// What [`put`](Store::put) does with the lock. What it has removed by the time it returns is in `removed`.
    fn put_alone(&mut self, records: &[Record<'_>], length: u64, removed: &mut Note) -> Result<(), SpoolError> {
        let files = self.clean(removed)?;
        let superseded = match self.replaces {
            true => self.own_files(&files),
            false => Vec::new(),
        };
        let goes_anyway = |file: &Listed| superseded.iter().any(|(old, _)| old.name == file.name);
        let stay = files.iter().filter(|file| !goes_anyway(file));
        let victims = victims(stay.clone(), self.max_bytes - length, self.most_files - 1);

        let now = self.now();
        let order = files.iter().map(|file| file.order + 1).fold(now, u64::max);
        if order > GREATEST_ORDER {
            let what = format!("its files are named for times up to the year 2262, and {order} is later");
            return Err(self.error(&what, "set the clock, and delete the file with the greatest number"));
        }
        let mut note = *removed;
        let losses: Vec<Note> = victims.iter().map(|victim| self.loss_of(victim, evicted)).collect();
        losses.iter().for_each(|loss| note.add(*loss));
        // The newest one's note has what those before it noted.
        note.add(
            superseded
                .last()
                .map_or(Note::default(), |(_, header)| header.note_left()),
        );
        let spooled = victims.iter().filter(|victim| victim.state == State::Spooled);
        let header = Header {
            created: now,
            key: self.key.clone(),
            note,
            evicted_through: spooled.map(|victim| victim.order).max().unwrap_or(0),
            ..Header::default()
        };

        let stem = directory::stem(order, self.hash);
        let (temporary, name) = (format!("{stem}{TEMPORARY}"), format!("{stem}{SPOOLED}"));
        let head = record::head(&header, records);
        let pieces = [&*head].into_iter().chain(records.iter().map(|record| record.bytes));
        let written = self.directory.write(&temporary, pieces);
        written.map_err(|error| self.failed("write a file in it", &error))?;
        // From here on, whoever finds the temporary file goes on with this.
        let finished = self.finish(&temporary, &name, &victims, |at| removed.add(losses[at]));
        if let Err(error) = finished {
            let _ = self.directory.remove(&temporary);
            let _ = self.directory.remove(&name);
            return Err(self.failed("put a file in its place there", &error));
        }
        for (file, _) in &superseded {
            // What stays is older than the new one, so nobody delivers it.
            let _ = self.directory.remove(&file.name);
        }
        let gone = victims.iter().chain(superseded.iter().map(|(file, _)| file));
        let (files_gone, bytes_gone) = gone.fold((0, 0), |(files, bytes), file| (files + 1, bytes + file.length));
        self.size.files = (self.size.files + 1).saturating_sub(files_gone);
        self.size.bytes = (self.size.bytes + length).saturating_sub(bytes_gone);
        Ok(())
    }

    fn finish(
        &self,
        temporary: &str,
        name: &str,
        victims: &[Listed],
        mut removed: impl FnMut(usize),
    ) -> io::Result<()> {
        for (at, victim) in victims.iter().enumerate() {
            if self.directory.remove(&victim.name)? {
                removed(at);
            }
        }
        self.directory.rename(temporary, name)?;
        self.directory.sync()
    }

    /// The file that a payload is of, if it is the one that is being delivered.
    fn current_of(&mut self, entry: &Entry) -> Result<&mut Current, SpoolError> {
        self.leave_to_parent();
        if !self.current.as_ref().is_some_and(|current| current.is_at(entry)) {
            return Err(self.unknown(entry));
        }
        Ok(self.current.as_mut().expect("it was looked at just now"))
    }

    /// The record of the current file that is to be delivered, if there is one.
    fn entry(&mut self) -> Result<Option<Entry>, SpoolError> {
        let Some(current) = &mut self.current else {
            return Ok(None);
        };
        if current.is_at_its_end() {
            // It could not be removed.
            self.put_down();
            return Ok(None);
        }
        if !self.directory.has_open(&current.name, &current.file) {
            // Somebody has evicted it.
            self.current = None;
            return Ok(None);
        }
        match current.entry() {
            Ok(entry) => Ok(entry),
            Err(unread) => {
                let name = self.current.take().map(|current| current.name).unwrap_or_default();
                self.deal_with(&name, unread)?;
                Ok(None)
            }
        }
    }

    /// Looks what there is to deliver; false if there is nothing for this store.
    fn look(&mut self) -> Result<bool, SpoolError> {
        let files = self.list()?;
        if files.is_empty() {
            return Ok(false);
        }
        // Who writes just now has cleaned before.
        let files = match self.alone() {
            Some(_alone) => {
                let mut removed = Note::default();
                let cleaned = self.clean(&mut removed);
                self.losses.count(removed);
                cleaned?
            }
            None => files,
        };
        let own = files
            .into_iter()
            .filter(|file| file.hash == self.hash && file.state == State::Spooled);
        self.waiting = own.map(|file| file.name).collect();
        let waiting = &self.waiting;
        self.unwritten.retain(|name, _| waiting.contains(name));
        if self.replaces {
            self.waiting.make_contiguous().reverse();
        }
        Ok(!self.waiting.is_empty() && self.take_delivery()?)
    }

    /// Makes a file the current one, if it is of this key, and whole, and in time.
    fn begin(&mut self, name: String) -> Result<(), SpoolError> {
        let (mut file, length) = match self.directory.open(&name) {
            Ok(opened) => opened,
            // Evicted since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(self.failed(&format!("open `{name}` of it"), &error)),
        };
        // Of a process whose spool may have more; so much memory is not for this one to take.
        if length > self.max_bytes {
            return Ok(());
        }
        let header = match record::read_whole(&mut file, length) {
            Ok(header) => header,
            Err(unread) => return self.deal_with(&name, unread),
        };
        if header.key != self.key {
            return Ok(());
        }
        // Put when the clock had been set back, it is older than its name says.
        if self.is_too_old(header.created) {
            let removed = self.directory.remove(&name);
            if removed.map_err(|error| self.failed(&format!("delete `{name}` of it"), &error))? {
                let mut loss = cleaning::expired(header.points_left());
                loss.add(header.note_left());
                self.losses.count(loss);
            }
            return Ok(());
        }
        let unwritten = self.unwritten.get(&name).copied();
        let current = Current::new(name, file, header, unwritten);
        if current.is_at_its_end() {
            let removed = self.directory.remove(&current.name);
            return removed
                .map(drop)
                .map_err(|error| self.failed(&format!("delete `{}` of it", current.name), &error));
        }
        self.current = Some(current);
        if self.replaces {
            // The others are older.
            for name in std::mem::take(&mut self.waiting) {
                if self.header_of(&name).is_ok_and(|header| header.key == self.key) {
                    let _ = self.directory.remove(&name);
                }
            }
        }
        Ok(())
    }

    /// Delivers nothing of the current file any more, and remembers what the disk did not take.
    fn put_down(&mut self) {
        if let Some(current) = self.current.take()
            && let Some(marks) = current.unwritten()
        {
            self.unwritten.insert(current.name, marks);
        }
    }

    /// A file that is not to be delivered.
    fn deal_with(&mut self, name: &str, unread: Unread) -> Result<(), SpoolError> {
        match unread {
            Unread::Failed(error) => Err(self.failed(&format!("read `{name}` of it"), &error)),
            Unread::Newer => Ok(()),
            Unread::Flawed(why) => {
                // While somebody writes, it is passed over; the next time it is met again.
                if let Some(_alone) = self.alone()
                    && self.set_aside(name, why)
                {
                    self.losses.unread_files += 1;
                }
                Ok(())
            }
        }
    }

    /// Those of the files that have this key, as far as their headers can be read, from the oldest on.
    fn own_files(&self, files: &[Listed]) -> Vec<(Listed, Header)> {
        let own = files
            .iter()
            .filter(|file| file.hash == self.hash && file.state == State::Spooled);
        let with_headers = own.filter_map(|file| Some((file.clone(), self.header_of(&file.name).ok()?)));
        with_headers.filter(|(_, header)| header.key == self.key).collect()
    }

    fn header_of(&self, name: &str) -> Result<Header, Unread> {
        let (mut file, length) = self.directory.open_to_read(name).map_err(Unread::Failed)?;
        record::read_header(&mut file, length)
    }

    fn list(&mut self) -> Result<Vec<Listed>, SpoolError> {
        let files = self
            .directory
            .list()
            .map_err(|error| self.failed("list its files", &error))?;
        self.size = size_of(&files);
        Ok(files)
    }

    /// The lock of who writes, if it is to be had at once.
    fn alone(&self) -> Option<Lock> {
        Lock::try_take(|| self.directory.open_lock(WRITE_LOCK)).ok().flatten()
    }

    /// Takes the lock of who delivers, unless this store has it; false if somebody else has.
    fn take_delivery(&mut self) -> Result<bool, SpoolError> {
        if self.delivery.is_none() {
            let name = format!("deliver-{:08x}.lock", self.hash);
            let taken = Lock::try_take(|| self.directory.open_lock(&name));
            self.delivery = taken.map_err(|error| self.failed(&format!("lock its `{name}`"), &error))?;
        }
        Ok(self.delivery.is_some())
    }

    /// In a process that was forked, what the parent delivers is the parent's.
    fn leave_to_parent(&mut self) {
        if self.delivery.as_ref().is_some_and(|lock| !lock.is_of_this_process()) {
            self.release();
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.clock.unix().as_nanos()).unwrap_or(u64::MAX)
    }

    fn is_too_old(&self, created: u64) -> bool {
        // One from the future has no age.
        let age = self.now().saturating_sub(created);
        u128::from(age) > self.max_age.as_nanos()
    }

    #[cold]
    fn unknown(&self, entry: &Entry) -> SpoolError {
        let what = format!("payload {} is not the one that is being delivered", entry.id);
        self.error(
            &what,
            "acknowledge it before the spool is released; it will be delivered again",
        )
    }

    #[cold]
    fn failed(&self, what: &str, error: &io::Error) -> SpoolError {
        SpoolError::of_system(self.directory.path(), what, error)
    }

    #[cold]
    fn error(&self, what: &str, fix: &str) -> SpoolError {
        SpoolError::new(self.directory.path(), what, fix)
    }
}

#[cfg(test)]
impl Store {
    /// With room for fewer files.
    pub(super) fn with_most_files(self, most_files: usize) -> Self {
        Store { most_files, ..self }
    }

    /// Gives it another file in the place of the one that it delivers, which is returned.
    pub(super) fn exchange_current(&mut self, file: std::fs::File) -> std::fs::File {
        let current = self.current.as_mut().expect("it delivers");
        std::mem::replace(&mut current.file, file)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Store")
            .field("directory", &self.directory.path())
            .field("delivers", &self.delivery.is_some())
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Entry")
            .field("bytes", &self.bytes.len())
            .field("id", &self.id)
            .field("points", &self.points)
            .field("increments", &self.increments)
            .field("unclear", &self.unclear)
            .finish_non_exhaustive()
    }
}

impl Losses {
    fn count(&mut self, note: Note) {
        self.evicted_points = self.evicted_points.saturating_add(note.evicted_points);
        self.expired_points = self.expired_points.saturating_add(note.expired_points);
        self.unread_files = self.unread_files.saturating_add(note.unread_files);
    }
}

fn size_of(files: &[Listed]) -> Size {
    Size {
        files: files.len() as u64,
        bytes: files.iter().fold(0, |bytes, file| bytes.saturating_add(file.length)),
    }
}

const WRITE_LOCK: &str = "write.lock";

/// So many files are listed in some hundredths of a second.
const MOST_FILES: usize = 16_384;
