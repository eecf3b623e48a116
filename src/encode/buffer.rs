//! Bytes on their way out: a caller's `Vec`, overwritten from its start, and room in front of each line.
//!
//! What a `Vec` already holds counts as room that need not be zeroed again, so a buffer that is used for scrape after
//! scrape is written once each time. A [`Line`] is a window of fixed size into that room. It takes fixed-size
//! pieces, of which only the first bytes may count; what lies behind them is overwritten by the next piece. Sizes
//! that are known when compiling become plain moves, and a window that wraps around needs no checks.

use std::ops::Range;

/// How long a line may become in a [`Line`]. A power of two, so that positions wrap around at no cost.
pub(super) const LINE: usize = 4096;

/// The largest piece, and the room behind the longest line.
const PIECE: usize = 64;

/// What is in a [`Piece`] itself.
const SHORT: usize = 32;

/// The bytes of a [`Line`].
pub(super) type Room = [u8; LINE + PIECE];

/// How much of a buffer is zeroed at once: little enough to be in the cache still when it is written.
const STEP: usize = 1 << 16;

/// A `Vec` that is being overwritten.
pub(super) struct Buffer<'a> {
    bytes: &'a mut Vec<u8>,
    len: usize,
}

/// A text that is put again and again, laid out for it.
pub(super) struct Piece {
    /// All of most texts, so that no loop is needed.
    first: [u8; SHORT],
    rest: Box<[[u8; SHORT]]>,
    len: usize,
}

/// A [`Piece`] known to be short.
#[derive(Clone, Copy)]
pub(super) struct ShortPiece {
    bytes: [u8; SHORT],
    /// Small enough for the compiler to see that few pieces do not make a line too long.
    len: u8,
}

/// Room in front of what a [`Buffer`] holds, for lines one behind the other.
pub(super) struct Front<'a> {
    rest: &'a mut [u8],
}

/// Why something was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unwritten {
    /// So much room is needed.
    Room(usize),
    /// It does not fit into a line, or cannot be put together in one.
    Line,
}

/// A line being written in front of what a [`Buffer`] holds, or anywhere else.
pub(super) struct Line<'a> {
    room: &'a mut Room,
    len: usize,
}

impl<'a> Buffer<'a> {
    pub(super) fn new(bytes: &'a mut Vec<u8>) -> Self {
        Buffer { bytes, len: 0 }
    }

    /// How many bytes were written.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Takes back what was written behind the first `len` bytes.
    pub(super) fn rewind(&mut self, len: usize) {
        debug_assert!(len <= self.len, "only what was written can be taken back");
        self.len = len;
    }

    /// Appends any number of bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.bytes[self.len..][..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Appends what `write` puts into a line.
    pub(super) fn line(&mut self, write: impl FnOnce(&mut Line<'_>)) {
        self.reserve(size_of::<Room>());
        let mut front = self.front();
        let written = front.line(|line| {
            write(line);
            line.fits()
        });
        debug_assert_eq!(written, Ok(()), "the writer sees to the length");
        let rest = front.rest();
        self.leave(rest);
    }

    /// The room that there is. What is written there counts when [`leave`](Buffer::leave) is told.
    pub(super) fn front(&mut self) -> Front<'_> {
        Front {
            rest: &mut self.bytes[self.len..],
        }
    }

    /// Takes all but so many bytes of the room for written.
    pub(super) fn leave(&mut self, rest: usize) {
        self.len = self.bytes.len() - rest;
    }

    /// Sees to it that there is so much room.
    pub(super) fn reserve(&mut self, room: usize) {
        let needed = self.len + room;
        if self.bytes.len() < needed {
            self.bytes.resize(needed.max(self.len + STEP), 0);
        }
    }

    /// Leaves the `Vec` with what was written, and nothing else.
    pub(super) fn finish(self) {
        self.bytes.truncate(self.len);
    }
}

impl Front<'_> {
    /// How much room is left.
    #[inline(always)]
    pub(super) fn rest(&self) -> usize {
        self.rest.len()
    }

    /// Sees to it that there is so much room before anything is written.
    #[inline(always)]
    pub(super) fn require(&self, room: usize) -> Result<(), Unwritten> {
        if self.rest.len() < room {
            Err(Unwritten::Room(room))
        } else {
            Ok(())
        }
    }

    /// Takes what `write` puts into a line, if it says that this went well.
    #[inline(always)]
    pub(super) fn line(&mut self, write: impl FnOnce(&mut Line<'_>) -> bool) -> Result<(), Unwritten> {
        let Some(room) = self.rest.first_chunk_mut() else {
            return Err(Unwritten::Room(size_of::<Room>()));
        };
        let mut line = Line::new(room);
        if !write(&mut line) {
            return Err(Unwritten::Line);
        }
        let len = line.len;
        self.rest = &mut std::mem::take(&mut self.rest)[len..];
        Ok(())
    }
}

impl<'a> Line<'a> {
    pub(super) fn new(room: &'a mut Room) -> Self {
        Line { room, len: 0 }
    }

    /// How long the line is.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Cuts the line, which is at least that long.
    #[inline(always)]
    pub(super) fn shorten(&mut self, len: u8) {
        self.len = len.into();
    }

    /// Whether all that was put is there: a line that became too long has overwritten its own start.
    #[inline(always)]
    pub(super) fn fits(&self) -> bool {
        self.len <= LINE
    }

    /// Whether there is still as much room as every number and every bound need.
    #[inline(always)]
    pub(super) fn fits_with_value(&self) -> bool {
        self.len <= LINE - 4 * PIECE
    }

    /// Puts `bytes`, of which the first `len` count.
    #[inline(always)]
    pub(super) fn put<const N: usize>(&mut self, bytes: &[u8; N], len: usize) {
        const { assert!(N <= PIECE, "a piece fits behind the longest line") };
        debug_assert!(len <= N, "no more counts than there is");
        let at = self.len % LINE;
        self.room[at..at + N].copy_from_slice(bytes);
        self.len += len;
    }

    /// Puts blocks of bytes, of which the first `len` count.
    #[inline(always)]
    pub(super) fn put_blocks<const N: usize>(&mut self, blocks: &[[u8; N]], len: usize) {
        let end = self.len + len;
        for block in blocks {
            self.put(block, N);
        }
        self.len = end;
    }

    /// Puts words, of which the first `len` bytes count.
    #[inline(always)]
    pub(super) fn put_words(&mut self, words: &[[u8; 8]], len: usize) {
        let at = self.len % LINE;
        let (to, _) = self.room[at..at + PIECE].as_chunks_mut::<8>();
        // Few words are many a label's value, and no loop is as fast as none.
        if !words.is_empty() {
            to[0] = words[0];
            if words.len() > 1 {
                to[1] = words[1];
                if words.len() > 2 {
                    to[2] = words[2];
                    if words.len() > 3 {
                        self.put_blocks(words, len);
                        return;
                    }
                }
            }
        }
        self.len += len;
    }

    /// Puts a part of another room.
    #[inline(always)]
    pub(super) fn put_from(&mut self, room: &Room, part: Range<usize>) {
        let at = self.len % LINE;
        self.len += part.len();
        // Long enough for the processor's widest moves, which only a call can have.
        let len = part.len().min(LINE + PIECE - at);
        self.room[at..at + len].copy_from_slice(&room[part.start..part.start + len]);
    }
}

impl Piece {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn to_short(&self) -> Option<ShortPiece> {
        (self.len <= SHORT).then_some(ShortPiece {
            bytes: self.first,
            len: self.len as u8,
        })
    }

    pub(super) fn new(text: &[u8]) -> Self {
        let mut blocks = text.chunks(SHORT).map(|chunk| {
            let mut block = [0; SHORT];
            block[..chunk.len()].copy_from_slice(chunk);
            block
        });
        Piece {
            first: blocks.next().unwrap_or_default(),
            rest: blocks.collect(),
            len: text.len(),
        }
    }

    #[inline(always)]
    pub(super) fn put(&self, line: &mut Line<'_>) {
        let end = line.len + self.len;
        line.put(&self.first, SHORT);
        for block in &self.rest {
            line.put(block, SHORT);
        }
        line.len = end;
    }
}

impl ShortPiece {
    /// `None` if it is not that short.
    pub(super) fn new(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; SHORT];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        Some(ShortPiece {
            bytes,
            len: text.len() as u8,
        })
    }

    #[inline(always)]
    pub(super) fn put(&self, line: &mut Line<'_>) {
        line.put(&self.bytes, self.len.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_overwritten_and_keeps_its_room() {
        let mut bytes = b"what was there before".repeat(10_000);
        let capacity = bytes.capacity();
        let mut buffer = Buffer::new(&mut bytes);
        buffer.push(b"one ");
        buffer.line(|line| {
            line.put(b"two and more", 4);
            line.put(b"three...", 5);
        });
        let mark = buffer.len();
        buffer.push(b" four");
        buffer.rewind(mark);
        let mut front = buffer.front();
        let unwritten = front.line(|line| {
            line.put(b"five", 4);
            false
        });
        assert_eq!(unwritten, Err(Unwritten::Line));
        let rest = front.rest();
        buffer.leave(rest);
        buffer.finish();
        assert_eq!(bytes, b"one two three");
        assert_eq!(bytes.capacity(), capacity);
    }

    #[test]
    fn a_buffer_grows_from_nothing() {
        let mut bytes = Vec::new();
        let mut buffer = Buffer::new(&mut bytes);
        let mut expected = Vec::new();
        for round in 0..20_000_usize {
            let piece = [b'a' + (round % 26) as u8; 16];
            buffer.line(|line| line.put(&piece, round % 17));
            buffer.push(&piece[..round % 3]);
            expected.extend(&piece[..round % 17]);
            expected.extend(&piece[..round % 3]);
        }
        let long = b"long".repeat(STEP);
        buffer.push(&long);
        buffer.finish();
        expected.extend(long);
        assert!(bytes == expected);
    }

    #[test]
    fn a_line_that_is_too_long_says_so_and_harms_nothing() {
        let mut room = [0; LINE + PIECE];
        let mut line = Line::new(&mut room);
        line.put_blocks(&[[b'x'; 8]; LINE / 8], LINE);
        assert!(line.fits() && !line.fits_with_value());
        line.put_blocks(&[[b'x'; 32]; LINE], LINE * 32 - 1);
        assert_eq!(line.len(), LINE * 33 - 1);
        assert!(!line.fits());
    }

    #[test]
    fn a_line_takes_part_of_another_room() {
        let mut source = [b'.'; LINE + PIECE];
        source[5..105].copy_from_slice(&[b'y'; 100]);
        let mut room = [0; LINE + PIECE];
        let mut line = Line::new(&mut room);
        line.put(b"<<", 1);
        line.put_from(&source, 5..105);
        line.put(b">", 1);
        assert_eq!(line.len(), 102);
        assert_eq!(room[..102], *format!("<{}>", "y".repeat(100)).as_bytes());
    }
}
