//! The format of a spool's file: written by one function, and read by one that believes nothing before a checksum says so.
//!
//! All numbers are little-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `tdgspool` |
//! | 4 | the version of what follows the next two numbers: 1 |
//! | 4 | how many bytes the header has |
//! | 4 | CRC-32 of the 16 bytes above, which are the same in every version |
//! | 8 | when it was made: nanoseconds since the Unix epoch |
//! | 8, 8, 8 | points evicted, points expired, and files given up unread, which who acknowledges the first record is to count |
//! | 8 | up to which order files were evicted for this one |
//! | 4, n | the key: its length, and as much UTF-8 |
//! | 4, 45 each | the records: their number, and of each its length, its id (two numbers of 8 bytes), its points, its increments, its flags (1: it may have arrived already) and the CRC-32 of its bytes |
//! | 4 | CRC-32 of the header, from the time to the last record's line; here the header ends |
//! | n | the records' bytes, one after the other |
//! | 1 each | for each record, from the first, one byte when it is about to be sent and one when it is acknowledged: any bytes |

use crate::destination::BatchId;
use std::{
    fmt,
    io::{self, Read, Seek, SeekFrom},
};

/// What is to be kept of one payload.
pub(crate) struct Record<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) id: BatchId,
    pub(crate) points: u64,
    pub(crate) increments: u64,
    /// Whether it may have arrived already.
    pub(crate) unclear: bool,
}

impl fmt::Debug for Record<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Record")
            .field("bytes", &self.bytes.len())
            .field("id", &self.id)
            .field("points", &self.points)
            .field("increments", &self.increments)
            .field("unclear", &self.unclear)
            .finish()
    }
}

/// Losses that nobody has counted yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) evicted_points: u64,
    pub(super) expired_points: u64,
    /// Torn or damaged, or evicted and of a version that this one cannot read.
    pub(super) unread_files: u64,
}

impl Note {
    pub(super) fn add(&mut self, other: Note) {
        // They come from files.
        self.evicted_points = self.evicted_points.saturating_add(other.evicted_points);
        self.expired_points = self.expired_points.saturating_add(other.expired_points);
        self.unread_files = self.unread_files.saturating_add(other.unread_files);
    }
}

/// What a file says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    /// Nanoseconds since the Unix epoch.
    pub(super) created: u64,
    pub(super) key: String,
    pub(super) note: Note,
    pub(super) evicted_through: u64,
    pub(super) records: Vec<Line>,
    /// How many records are acknowledged; not in the header, but by how much the file is longer.
    pub(super) acknowledged: usize,
    /// The first record that is not acknowledged was about to be sent, and may have arrived.
    pub(super) is_begun: bool,
}

/// What the header says of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Where its bytes begin.
    pub(super) start: u64,
    pub(super) length: u64,
    pub(super) id: BatchId,
    pub(super) points: u64,
    pub(super) increments: u64,
    pub(super) unclear: bool,
    checksum: u32,
}

impl Header {
    /// The points of the records that are not acknowledged.
    pub(super) fn points_left(&self) -> u64 {
        let points = self.records[self.acknowledged..].iter().map(|record| record.points);
        points.fold(0, u64::saturating_add)
    }

    /// The note, if nobody has counted it.
    pub(super) fn note_left(&self) -> Note {
        match self.acknowledged {
            0 => self.note,
            _ => Note::default(),
        }
    }
}

/// Why a file is not read.
#[derive(Debug)]
pub(super) enum Unread {
    /// The system does not let us, this time.
    Failed(io::Error),
    /// It is torn or damaged: this is how one can tell.
    Flawed(&'static str),
    /// A later version of this crate has written it.
    Newer,
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Unread::Flawed("it is cut short"),
            _ => Unread::Failed(error),
        }
    }
}

/// How long a file with these records is before any is acknowledged; none if that is more than a file can have.
pub(super) fn file_length(key: &str, records: &[Record<'_>]) -> Option<u64> {
    let header = header_length(key, records.len())?;
    let start = (PREAMBLE as u64).checked_add(header.into())?;
    let mut lengths = records.iter().map(|record| record.bytes.len() as u64);
    lengths.try_fold(start, u64::checked_add)
}

/// All of a file before the records' bytes. To be asked for only what has a [`file_length`].
pub(super) fn head(header: &Header, records: &[Record<'_>]) -> Vec<u8> {
    let length = header_length(&header.key, records.len()).unwrap_or(u32::MAX);
    let mut head = Vec::with_capacity(PREAMBLE + length as usize);
    head.extend(MAGIC);
    head.extend(VERSION.to_le_bytes());
    head.extend(length.to_le_bytes());
    head.extend(crc32fast::hash(&head).to_le_bytes());
    for number in [
        header.created,
        header.note.evicted_points,
        header.note.expired_points,
        header.note.unread_files,
        header.evicted_through,
    ] {
        head.extend(number.to_le_bytes());
    }
    head.extend((header.key.len() as u32).to_le_bytes());
    head.extend(header.key.as_bytes());
    head.extend((records.len() as u32).to_le_bytes());
    for record in records {
        let numbers = [
            record.bytes.len() as u64,
            record.id.exporter,
            record.id.sequence,
            record.points,
            record.increments,
        ];
        head.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        head.push(u8::from(record.unclear) * UNCLEAR);
        head.extend(crc32fast::hash(record.bytes).to_le_bytes());
    }
    head.extend(crc32fast::hash(&head[PREAMBLE..]).to_le_bytes());
    head
}

/// Reads what a file of that length says of itself. Of its records nothing is known yet but that they may be there.
pub(super) fn read_header(file: &mut impl Read, length: u64) -> Result<Header, Unread> {
    let mut preamble = [0; PREAMBLE];
    file.read_exact(&mut preamble)?;
    let mut fields = Fields(&preamble);
    if fields.bytes(MAGIC.len()) != Some(&MAGIC) {
        return Err(Unread::Flawed("it does not begin as one"));
    }
    let (version, header_length, checksum) = (fields.small(), fields.small(), fields.small());
    if checksum != Some(crc32fast::hash(&preamble[..PREAMBLE - 4])) {
        return Err(Unread::Flawed("its first bytes are damaged"));
    }
    if version > Some(VERSION) {
        return Err(Unread::Newer);
    }
    let header_length = header_length.map_or(0, u64::from);
    let start = PREAMBLE as u64 + header_length;
    if version != Some(VERSION) || header_length > MOST_HEADER || start > length {
        return Err(Unread::Flawed("its header is not there"));
    }
    // No more than the file has.
    let mut bytes = Vec::new();
    file.take(header_length).read_to_end(&mut bytes)?;
    let checked = bytes.split_last_chunk().filter(|_| bytes.len() as u64 == header_length);
    let Some((bytes, checksum)) = checked else {
        return Err(Unread::Flawed("its header is cut short"));
    };
    if u32::from_le_bytes(*checksum) != crc32fast::hash(bytes) {
        return Err(Unread::Flawed("its header is damaged"));
    }
    let header = Fields(bytes)
        .header(start)
        .ok_or(Unread::Flawed("its header makes no sense"))?;
    let end = header.records.last().map_or(start, |last| last.start + last.length);
    let marks = length
        .checked_sub(end)
        .ok_or(Unread::Flawed("its records are cut short"))?;
    match usize::try_from(marks) {
        Ok(marks) if marks <= header.records.len() * MARKS => Ok(Header {
            acknowledged: marks / MARKS,
            is_begun: marks % MARKS > 0,
            ..header
        }),
        _ => Err(Unread::Flawed("it is longer than with all of its marks")),
    }
}

/// Reads a whole file, to see whether each of its records is as it was written.
pub(super) fn read_whole(file: &mut (impl Read + Seek), length: u64) -> Result<Header, Unread> {
    let header = read_header(file, length)?;
    for record in &header.records {
        file.seek(SeekFrom::Start(record.start))?;
        let mut rest = file.take(record.length);
        let mut hasher = crc32fast::Hasher::new();
        let mut piece = [0; PIECE];
        loop {
            match rest.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => hasher.update(&piece[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        if rest.limit() > 0 || hasher.finalize() != record.checksum {
            return Err(Unread::Flawed("a record is damaged"));
        }
    }
    Ok(header)
}

/// Reads the bytes of one record.
pub(super) fn read_record(file: &mut (impl Read + Seek), record: &Line) -> Result<Vec<u8>, Unread> {
    file.seek(SeekFrom::Start(record.start))?;
    let mut bytes = Vec::new();
    file.take(record.length).read_to_end(&mut bytes)?;
    match bytes.len() as u64 == record.length && crc32fast::hash(&bytes) == record.checksum {
        true => Ok(bytes),
        false => Err(Unread::Flawed("a record is damaged")),
    }
}

/// What is still to be read of a header.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    fn small(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*bytes))
    }

    fn number(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*bytes))
    }

    /// The whole of it, of a file in which the first record begins at `start`; none if there is more or less, no record, or
    /// more bytes than a number counts.
    fn header(mut self, mut start: u64) -> Option<Header> {
        let created = self.number()?;
        let note = Note {
            evicted_points: self.number()?,
            expired_points: self.number()?,
            unread_files: self.number()?,
        };
        let evicted_through = self.number()?;
        let key_length = self.small()?;
        let key = self.bytes(key_length as usize)?;
        let key = str::from_utf8(key).ok()?.to_owned();
        let count = self.small()? as usize;
        if count == 0 || count.checked_mul(LINE)? != self.0.len() {
            return None;
        }
        let mut records = Vec::with_capacity(count);
        for _ in 0..count {
            let length = self.number()?;
            let id = BatchId {
                exporter: self.number()?,
                sequence: self.number()?,
            };
            let (points, increments) = (self.number()?, self.number()?);
            let flags = self.bytes(1)?[0];
            if flags & !UNCLEAR != 0 {
                return None;
            }
            let checksum = self.small()?;
            records.push(Line {
                start,
                length,
                id,
                points,
                increments,
                unclear: flags & UNCLEAR != 0,
                checksum,
            });
            start = start.checked_add(length)?;
        }
        Some(Header {
            created,
            key,
            note,
            evicted_through,
            records,
            acknowledged: 0,
            is_begun: false,
        })
    }
}

fn header_length(key: &str, records: usize) -> Option<u32> {
    let length = records.checked_mul(LINE)?.checked_add(key.len())?.checked_add(FIXED)?;
    let length = u32::try_from(length).ok()?;
    (u64::from(length) <= MOST_HEADER).then_some(length)
}

const MAGIC: [u8; 8] = *b"tdgspool";
const VERSION: u32 = 1;
/// Up to the first checksum, that included.
const PREAMBLE: usize = MAGIC.len() + 3 * 4;
/// What a header has besides its key and its records: five numbers, two lengths and a checksum.
const FIXED: usize = 5 * 8 + 3 * 4;
/// What a header has of one record.
const LINE: usize = 5 * 8 + 1 + 4;
/// Room for more than 300,000 records, and for no more memory than that.
const MOST_HEADER: u64 = 16 * 1024 * 1024;
const UNCLEAR: u8 = 1;
/// Bytes that each record has at the end of the file when it is acknowledged.
pub(super) const MARKS: usize = 2;
/// As much of a record as is looked at at once.
const PIECE: usize = 16 * 1024;
