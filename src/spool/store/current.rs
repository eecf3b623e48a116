//! The file that is being delivered, and what is noted in it: two marks a record, one when it is about to be sent and one when the far
//! end has it.
//!
//! The disk may refuse a mark, or to take one back. What this process knows then is more than what the file says, and the next mark
//! makes up for it.

use super::{
    Entry,
    record::{self, Header, MARKS, Record, Unread},
};
use std::{
    fs::File,
    io::{self, Write},
};

/// A file, and how far it is delivered.
pub(super) struct Current {
    pub(super) name: String,
    pub(super) file: File,
    /// As the file says it.
    pub(super) header: Header,
    /// The record that is to be delivered.
    position: usize,
    /// It was about to be sent, and may have arrived.
    is_begun: bool,
}

impl Current {
    /// Goes on where its marks end, or those that the disk did not take.
    pub(super) fn new(name: String, file: File, header: Header, unwritten: Option<usize>) -> Current {
        let marks = unwritten.unwrap_or(0).max(marks_of(&header));
        Current {
            name,
            file,
            header,
            position: marks / MARKS,
            is_begun: !marks.is_multiple_of(MARKS),
        }
    }

    /// The payload that is to be delivered; none if all were.
    pub(super) fn entry(&mut self) -> Result<Option<Entry>, Unread> {
        let Some(line) = self.header.records.get(self.position) else {
            return Ok(None);
        };
        Ok(Some(Entry {
            bytes: record::read_record(&mut self.file, line)?,
            id: line.id,
            points: line.points,
            increments: line.increments,
            unclear: line.unclear || self.is_begun,
            name: self.name.clone(),
            position: self.position,
        }))
    }

    /// Whether a payload is the one that is to be delivered.
    pub(super) fn is_at(&self, entry: &Entry) -> bool {
        (&self.name, self.position) == (&entry.name, entry.position)
    }

    /// Whether nothing of it has been delivered.
    pub(super) fn is_at_its_beginning(&self) -> bool {
        self.position == 0
    }

    /// Whether all of it has been delivered.
    pub(super) fn is_at_its_end(&self) -> bool {
        self.position >= self.header.records.len()
    }

    /// Its payload is about to be sent.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        self.is_begun = true;
        self.write_marks()
    }

    /// Its payload has not arrived.
    pub(super) fn take_back(&mut self) -> io::Result<()> {
        self.is_begun = false;
        if marks_of(&self.header) <= self.marks() {
            return Ok(());
        }
        let length = self.file.metadata()?.len();
        self.file.set_len(length.saturating_sub(1))?;
        // Not before it is so: another mark behind this one would say that the payload has arrived.
        self.header.is_begun = false;
        Ok(())
    }

    /// Its payload has arrived, or never will: the next one is to be delivered. That is to be [written](Current::write_marks).
    pub(super) fn advance(&mut self) {
        self.position += 1;
        self.is_begun = false;
    }

    /// Appends the marks that are missing, also those that there was no room for before.
    pub(super) fn write_marks(&mut self) -> io::Result<()> {
        while marks_of(&self.header) < self.marks() {
            self.file.write_all(&[MARK])?;
            self.header.acknowledged += usize::from(self.header.is_begun);
            self.header.is_begun = !self.header.is_begun;
        }
        Ok(())
    }

    /// How many marks it should have, if the disk did not take all of them.
    pub(super) fn unwritten(&self) -> Option<usize> {
        Some(self.marks()).filter(|marks| *marks > marks_of(&self.header))
    }

    fn marks(&self) -> usize {
        self.position * MARKS + usize::from(self.is_begun)
    }
}

/// How many bytes the marks of some records come to.
pub(super) fn room_for_marks(records: &[Record<'_>]) -> u64 {
    (records.len() * MARKS) as u64
}

fn marks_of(header: &Header) -> usize {
    header.acknowledged * MARKS + usize::from(header.is_begun)
}

const MARK: u8 = b'\n';
