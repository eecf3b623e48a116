//! Protobuf as it is on the wire, <https://protobuf.dev/programming-guides/encoding/>: what all formats in protobuf are put
//! together from.
//!
//! The length of a message stands before it, and of those that hold all points nobody knows it before they are written.
//! So three bytes are left free for it, which is what large ones need; where a length needs more or fewer, what follows
//! is moved, and it is either short or rare.

/// Begins a message whose length is not known yet. Where its length is to stand.
pub(super) fn open(tag: u8, out: &mut Vec<u8>) -> usize {
    out.push(tag);
    open_delimited(out)
}

/// The same for a message that is no field of another.
pub(super) fn open_delimited(out: &mut Vec<u8>) -> usize {
    out.extend([0; RESERVED]);
    out.len() - RESERVED
}

/// Ends a message.
pub(super) fn close(at: usize, out: &mut Vec<u8>) {
    let start = at + RESERVED;
    let end = out.len();
    let (varint, used) = varint((end - start) as u64);
    if used > RESERVED {
        out.resize(end + used - RESERVED, 0);
    }
    if used != RESERVED {
        out.copy_within(start..end, at + used);
        out.truncate(end - start + at + used);
    }
    out[at..at + used].copy_from_slice(&varint[..used]);
}

/// Bytes that are left free for a length.
const RESERVED: usize = 3;

pub(super) fn put_text(tag: u8, text: &str, into: &mut Vec<u8>) {
    into.push(tag);
    put_length(text.len(), into);
    into.extend_from_slice(text.as_bytes());
}

pub(super) fn put_length(length: usize, into: &mut Vec<u8>) {
    put_varint(length as u64, into);
}

pub(super) fn put_varint(number: u64, into: &mut Vec<u8>) {
    let (bytes, used) = varint(number);
    into.extend_from_slice(&bytes[..used]);
}

/// A number in as few bytes as it needs, and how many these are.
#[inline(always)]
pub(super) fn varint(number: u64) -> ([u8; LONGEST_VARINT], usize) {
    let mut bytes = [0; LONGEST_VARINT];
    let mut rest = number;
    let mut used = 0;
    loop {
        bytes[used] = rest as u8 | 0x80;
        rest >>= 7;
        used += 1;
        if rest == 0 {
            break;
        }
    }
    bytes[used - 1] &= 0x7F;
    (bytes, used)
}

pub(super) const LONGEST_VARINT: usize = 10;

/// The first byte of a field with a number below 16.
pub(super) const fn tag(number: u8, wire_type: u8) -> u8 {
    assert!(number < 16, "larger numbers need two bytes");
    number << 3 | wire_type
}

pub(super) const VARINT: u8 = 0;
pub(super) const FIXED64: u8 = 1;
pub(super) const BYTES: u8 = 2;

/// Bytes of a field with a number of eight.
pub(super) const FIXED: usize = 9;

/// A field with a number of eight bytes.
#[inline(always)]
pub(super) fn fixed(tag: u8, number: [u8; 8]) -> [u8; FIXED] {
    let mut field = [tag; FIXED];
    field[1..].copy_from_slice(&number);
    field
}
