//! A packet that is being filled with whole lines.

use super::number::push_float;

/// Bytes of at most a limit, in which lines stand one behind the other.
pub(super) struct Packet<'a> {
    bytes: &'a mut Vec<u8>,
    limit: usize,
    /// Whether the last line ends, too.
    ends_lines: bool,
}

impl<'a> Packet<'a> {
    /// Goes on behind the lines that a packet has already.
    pub(super) fn new(bytes: &'a mut Vec<u8>, limit: usize, ends_lines: bool) -> Self {
        Packet {
            bytes,
            limit,
            ends_lines,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Where the packet ends now.
    pub(super) fn mark(&self) -> usize {
        self.bytes.len()
    }

    /// Appends a line, however long the packet becomes.
    #[inline]
    pub(super) fn line(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.bytes.last().is_some_and(|last| *last != b'\n') {
            self.bytes.push(b'\n');
        }
        write(self.bytes);
        if self.ends_lines {
            self.bytes.push(b'\n');
        }
    }

    /// Takes back what was appended since the mark if that was too much. Whether it fits, and is left.
    #[inline]
    pub(super) fn keep_if_it_fits(&mut self, mark: usize) -> bool {
        let fits = self.bytes.len() <= self.limit;
        if !fits {
            self.bytes.truncate(mark);
        }
        fits
    }

    /// Takes back what was appended since the mark.
    pub(super) fn rewind(&mut self, mark: usize) {
        self.bytes.truncate(mark);
    }

    /// Repeats the line that was appended last, behind the mark, as often as there is room, and at most `most` times. How often
    /// that was.
    pub(super) fn repeat(&mut self, mark: usize, most: u64) -> u64 {
        // Between lines there is one byte, and it stands before or behind each of them.
        let start = match self.ends_lines || mark == 0 {
            true => mark,
            false => mark + 1,
        };
        let end = self.bytes.len();
        let each = end - start + usize::from(!self.ends_lines);
        let times = (self.limit.saturating_sub(end) / each).min(usize::try_from(most).unwrap_or(usize::MAX));
        for _ in 0..times {
            if !self.ends_lines {
                self.bytes.push(b'\n');
            }
            self.bytes.extend_from_within(start..end);
        }
        times as u64
    }

    /// Appends a line with as many of the values that `write` gives it as fit; none if none does. Whether it was appended.
    pub(super) fn values(&mut self, head: &[u8], tail: [&[u8]; 2], write: impl FnOnce(&mut PackedValues<'_>)) -> bool {
        let mark = self.mark();
        let behind = tail[0].len() + tail[1].len() + usize::from(self.ends_lines);
        let limit = self.limit.saturating_sub(behind);
        let mut is_any = false;
        self.line(|out| {
            // A colon comes with each value.
            out.extend_from_slice(head.strip_suffix(b":").unwrap_or(head));
            let mut values = PackedValues { out, limit, is_any };
            write(&mut values);
            is_any = values.is_any;
            out.extend_from_slice(tail[0]);
            out.extend_from_slice(tail[1]);
        });
        if !is_any {
            self.rewind(mark);
        }
        is_any
    }
}

/// The values of a line.
pub(super) struct PackedValues<'a> {
    out: &'a mut Vec<u8>,
    /// Where they must end.
    limit: usize,
    is_any: bool,
}

impl PackedValues<'_> {
    /// Appends a value so many times, or as often as there is room for it. How often that was.
    pub(super) fn push(&mut self, value: f64, times: u64) -> u64 {
        let start = self.out.len();
        self.out.push(b':');
        push_float(value, self.out);
        let end = self.out.len();
        let most = self.limit.saturating_sub(start) / (end - start);
        let written = times.min(most as u64);
        if written == 0 {
            self.out.truncate(start);
        }
        for _ in 1..written {
            self.out.extend_from_within(start..end);
        }
        self.is_any |= written > 0;
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_and_within_the_limit() {
        for (ends_lines, limit, expected) in [
            (false, 5, "a\nbcd"),
            (false, 4, "a"),
            (true, 6, "a\nbcd\n"),
            (true, 5, "a\n"),
        ] {
            let mut bytes = Vec::new();
            let mut packet = Packet::new(&mut bytes, limit, ends_lines);
            packet.line(|out| out.push(b'a'));
            let mark = packet.mark();
            packet.line(|out| out.extend(b"bcd"));
            assert_eq!(packet.keep_if_it_fits(mark), expected.contains("bcd"));
            assert_eq!(bytes, expected.as_bytes());
        }
    }

    #[test]
    fn a_line_is_repeated_as_often_as_it_fits() {
        for ends_lines in [false, true] {
            for before in ["", "xyz"] {
                for limit in 4..40 {
                    let mut bytes = Vec::new();
                    let mut packet = Packet::new(&mut bytes, limit, ends_lines);
                    if !before.is_empty() {
                        packet.line(|out| out.extend(before.bytes()));
                    }
                    let mark = packet.mark();
                    packet.line(|out| out.extend(b"ab"));
                    if !packet.keep_if_it_fits(mark) {
                        continue;
                    }
                    let times = packet.repeat(mark, 4);
                    let text = String::from_utf8(bytes.clone()).unwrap();
                    assert_eq!(text.ends_with('\n'), ends_lines);
                    let lines: Vec<_> = text.lines().collect();
                    assert_eq!(lines.iter().filter(|line| **line == "ab").count() as u64, times + 1);
                    assert_eq!(lines.len() as u64, times + 1 + u64::from(!before.is_empty()));
                    assert!(bytes.len() <= limit && (times == 4 || bytes.len() + 3 > limit));
                }
            }
        }
    }
}
