//! A reader of protobuf messages, as far as answers need one: <https://protobuf.dev/programming-guides/encoding/>.
//!
//! It borrows, allocates nothing and does not recurse, so whatever a server sends costs no more than its length.

/// The fields of a message, in order; ends with an error where the bytes are no message.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

/// What a field holds. Values of fixed size are passed over: no answer has any.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Fixed,
}

/// The bytes are no message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Self {
        Fields { rest: message }
    }

    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => self.bytes(8).map(|_| Value::Fixed)?,
            2 => {
                let len = self.varint()?;
                Value::Bytes(self.bytes(len.try_into().ok()?)?)
            }
            5 => self.bytes(4).map(|_| Value::Fixed)?,
            // Groups, which proto3 does not have, and types that there are not.
            _ => return None,
        };
        // Field numbers begin at 1 and have 29 bits.
        (1..1 << 29).contains(&(tag >> 3)).then_some((tag >> 3, value))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            let bits = u64::from(byte & 0x7F);
            // Only one bit is left for the tenth byte.
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(bytes)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field().ok_or(Malformed);
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields(message: &[u8]) -> Result<Vec<(u64, Value<'_>)>, Malformed> {
        Fields::of(message).collect()
    }

    #[test]
    fn fields_of_all_types_are_read() {
        let mut message = vec![0x08, 0x96, 0x01, 0x12, 3];
        message.extend(b"abc");
        message.extend([0x19, 1, 2, 3, 4, 5, 6, 7, 8, 0x25, 1, 2, 3, 4, 0x28]);
        message.extend([0xFF; 9]);
        message.push(1);
        let expected = [
            (1, Value::Varint(150)),
            (2, Value::Bytes(b"abc")),
            (3, Value::Fixed),
            (4, Value::Fixed),
            (5, Value::Varint(u64::MAX)),
        ];
        assert_eq!(fields(&message).unwrap(), expected);
        assert_eq!(fields(&[]).unwrap(), []);
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        for broken in [
            &b"<html>"[..],
            b"{}",
            b"OK",
            &[0x08],
            &[0x12, 5, 1],
            &[0x12, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1],
            &[0x00, 0x00],
            &[0x08, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2],
            &[0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0],
            &[0x0D, 1, 2, 3],
            &[0x0B],
        ] {
            assert_eq!(fields(broken), Err(Malformed), "{broken:?}");
        }
    }

    proptest! {
        #[test]
        fn anything_may_come(message in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut read = Fields::of(&message);
            let count = read.by_ref().count();
            prop_assert!(count <= message.len());
            prop_assert!(read.next().is_none());
        }
    }
}
