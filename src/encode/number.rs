//! Numbers as Go writes them, which is how Prometheus' own libraries do: `strconv`'s form `'g'` with the fewest digits that
//! read back as the same number, <https://pkg.go.dev/strconv#FormatFloat>.
//!
//! With `X` the decimal exponent, that is `1e+06` where `X < -4` or `X >= 6`, and `100000` or `0.0001` between. OpenMetrics
//! adds `.0` to what looks like an integer. Only zero differs from Go's clients: a negative one keeps its sign, so that
//! every number reads back bit by bit.

use super::buffer::Line;

/// How a float looks that has no fraction and no exponent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whole {
    /// `1`, as in text 0.0.4.
    Bare,
    /// `1.0`, as in OpenMetrics and, in either format, in `le`.
    Pointed,
}

/// The text of a float.
#[derive(Clone, Copy)]
pub(super) struct FloatText {
    bytes: [u8; 32],
    len: usize,
}

impl FloatText {
    pub(super) fn new(value: f64, whole: Whole) -> Self {
        let mut text = FloatText { bytes: [0; 32], len: 0 };
        if !value.is_finite() {
            text.push(if value.is_nan() {
                b"NaN"
            } else if value > 0.0 {
                b"+Inf"
            } else {
                b"-Inf"
            });
            return text;
        }
        if value.is_sign_negative() {
            text.push(b"-");
        }
        let magnitude = value.abs();
        let integer = magnitude as u32;
        if integer < 1_000_000 && f64::from(integer) == magnitude {
            let (digits, len) = up_to_eight_digits(integer);
            text.push(&digits[..len]);
            text.push(if whole == Whole::Pointed { b".0" } else { b"" });
            return text;
        }
        let mut buffer = zmij::Buffer::new();
        let shortest = buffer.format_finite(magnitude).as_bytes();
        if (1e-4..1e6).contains(&magnitude) {
            // Not an integer, as those were written above, and with the point where Go has it.
            text.push(shortest);
        } else {
            text.push_scientific(shortest);
        }
        text
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    #[inline(always)]
    pub(super) fn put(&self, line: &mut Line<'_>) {
        line.put(&self.bytes, self.len);
    }

    /// Lays out anew, with an exponent, the digits of `12345678.5`, `0.0000125` or `1.25e-7`.
    fn push_scientific(&mut self, shortest: &[u8]) {
        let position = |wanted: u8| shortest.iter().position(|byte| *byte == wanted);
        if let Some(at) = position(b'e') {
            self.push(&shortest[..at]);
            let (sign, digits): (&[u8], _) = match &shortest[at + 1..] {
                [b'-', digits @ ..] => (b"e-", digits),
                [b'+', digits @ ..] | digits => (b"e+", digits),
            };
            self.push(sign);
            self.push(if digits.len() < 2 { b"0" } else { b"" });
            self.push(digits);
            return;
        }
        let point = position(b'.').unwrap_or(shortest.len());
        let (before, after) = (&shortest[..point], shortest.get(point + 1..).unwrap_or_default());
        let (sign, exponent, first, second): (&[u8], _, _, &[u8]) = if before == b"0" {
            let zeros = after.iter().take_while(|digit| **digit == b'0').count();
            (b"e-", zeros + 1, &after[zeros..], b"")
        } else {
            (b"e+", point - 1, before, after)
        };
        let mantissa = self.len + 1;
        self.push(&first[..1]);
        self.push(b".");
        self.push(&first[1..]);
        self.push(second);
        while self.len > mantissa && matches!(self.bytes[self.len - 1], b'0' | b'.') {
            self.len -= 1;
        }
        self.push(sign);
        self.push(&[b'0' + (exponent / 10) as u8, b'0' + (exponent % 10) as u8]);
    }

    fn push(&mut self, text: &[u8]) {
        self.bytes[self.len..][..text.len()].copy_from_slice(text);
        self.len += text.len();
    }
}

/// Puts a count.
#[inline(always)]
pub(super) fn put_unsigned(line: &mut Line<'_>, value: u64) {
    if value < EIGHT_DIGITS {
        let (digits, len) = up_to_eight_digits(value as u32);
        line.put(&digits, len);
    } else {
        put_long(line, value);
    }
}

/// Puts an integer.
#[inline(always)]
pub(super) fn put_signed(line: &mut Line<'_>, value: i64) {
    line.put(b"-", usize::from(value < 0));
    put_unsigned(line, value.unsigned_abs());
}

#[cold]
fn put_long(line: &mut Line<'_>, value: u64) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(value).as_bytes();
    let mut padded = [0; 32];
    padded[..digits.len()].copy_from_slice(digits);
    line.put(&padded, digits.len());
}

/// Numbers below have at most eight digits.
const EIGHT_DIGITS: u64 = 100_000_000;

/// The digits of a number below [`EIGHT_DIGITS`], and how many there are; all at once, in the lanes of one word.
#[inline(always)]
fn up_to_eight_digits(number: u32) -> ([u8; 8], usize) {
    debug_assert!(u64::from(number) < EIGHT_DIGITS);
    // Each lane is divided by multiplying with a reciprocal, of which the shift takes the fraction away. What is left over
    // goes into the lane above: `(lanes - divisor * quotients) << bits | quotients`, put together in fewer steps.
    let number = u64::from(number);
    let quotient = (number * 109_951_163) >> 40;
    let halves = (number << 32).wrapping_sub(quotient * ((10_000 << 32) - 1));
    let quotients = ((halves * 10_486) >> 20) & 0x0000_007F_0000_007F;
    let pairs = (halves << 16).wrapping_sub(quotients * ((100 << 16) - 1));
    let quotients = ((pairs * 103) >> 10) & 0x000F_000F_000F_000F;
    let digits = (pairs << 8).wrapping_sub(quotients * ((10 << 8) - 1));
    // The first digit is in the lowest byte. Zeros in front go, but for a last one.
    let leading = (digits | 1 << 56).trailing_zeros() & !7;
    let text = (digits | 0x3030_3030_3030_3030) >> leading;
    (text.to_le_bytes(), 8 - leading as usize / 8)
}

#[cfg(test)]
mod tests {
    use super::{super::buffer::Room, *};
    use proptest::prelude::*;

    fn float(value: f64, whole: Whole) -> String {
        String::from_utf8(FloatText::new(value, whole).as_bytes().to_vec()).unwrap()
    }

    fn put(write: impl FnOnce(&mut Line<'_>)) -> String {
        let mut room: Room = [b'?'; size_of::<Room>()];
        let mut line = Line::new(&mut room);
        write(&mut line);
        let len = line.len();
        String::from_utf8(room[..len].to_vec()).unwrap()
    }

    #[test]
    fn floats_look_as_go_writes_them() {
        for (value, bare, pointed) in [
            (0.0, "0", "0.0"),
            (-0.0, "-0", "-0.0"),
            (1.0, "1", "1.0"),
            (-1.0, "-1", "-1.0"),
            (0.5, "0.5", "0.5"),
            (0.005, "0.005", "0.005"),
            (0.1 + 0.2, "0.30000000000000004", "0.30000000000000004"),
            (12.5, "12.5", "12.5"),
            (100_000.0, "100000", "100000.0"),
            (100_000.5, "100000.5", "100000.5"),
            (999_999.0, "999999", "999999.0"),
            (999_999.9, "999999.9", "999999.9"),
            (1e6, "1e+06", "1e+06"),
            (1_000_000.5, "1.0000005e+06", "1.0000005e+06"),
            (1_234_567.0, "1.234567e+06", "1.234567e+06"),
            (17_560_473.0, "1.7560473e+07", "1.7560473e+07"),
            (-17_560_473.25, "-1.756047325e+07", "-1.756047325e+07"),
            (4_294_967_296.0, "4.294967296e+09", "4.294967296e+09"),
            (1e15, "1e+15", "1e+15"),
            (1.5e15, "1.5e+15", "1.5e+15"),
            (1e16, "1e+16", "1e+16"),
            (1.2345e20, "1.2345e+20", "1.2345e+20"),
            (1e21, "1e+21", "1e+21"),
            (1e100, "1e+100", "1e+100"),
            (0.001, "0.001", "0.001"),
            (0.0001, "0.0001", "0.0001"),
            (0.000_123, "0.000123", "0.000123"),
            (0.000_099_9, "9.99e-05", "9.99e-05"),
            (1e-5, "1e-05", "1e-05"),
            (1.23e-5, "1.23e-05", "1.23e-05"),
            (1e-6, "1e-06", "1e-06"),
            (1.5e-7, "1.5e-07", "1.5e-07"),
            (1e-10, "1e-10", "1e-10"),
            (2.5e-100, "2.5e-100", "2.5e-100"),
            (f64::MAX, "1.7976931348623157e+308", "1.7976931348623157e+308"),
            (-f64::MAX, "-1.7976931348623157e+308", "-1.7976931348623157e+308"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308", "2.2250738585072014e-308"),
            (5e-324, "5e-324", "5e-324"),
            (f64::INFINITY, "+Inf", "+Inf"),
            (f64::NEG_INFINITY, "-Inf", "-Inf"),
            (f64::NAN, "NaN", "NaN"),
        ] {
            assert_eq!(float(value, Whole::Bare), bare);
            assert_eq!(float(value, Whole::Pointed), pointed);
        }
    }

    #[test]
    fn integers_are_written_in_full() {
        let mut edges = vec![0, 1, u64::MAX, i64::MAX as u64, i64::MIN.unsigned_abs()];
        for power in 0..20 {
            let power = 10_u64.pow(power);
            edges.extend([power - 1, power, power + 1, power.wrapping_mul(9)]);
        }
        for value in edges.into_iter().chain((0..100_000_000).step_by(9_973)) {
            assert_eq!(put(|line| put_unsigned(line, value)), value.to_string());
            assert_eq!(put(|line| put_signed(line, value as i64)), (value as i64).to_string());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn floats_read_back_bit_by_bit_in_the_right_form(bits: u64, digits in 1..10_000_000_u64, power in -12..12) {
            for value in [f64::from_bits(bits), format!("{digits}e{power}").parse().unwrap()] {
                if !value.is_finite() {
                    continue;
                }
                for whole in [Whole::Bare, Whole::Pointed] {
                    let text = float(value, whole);
                    prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), value.to_bits(), "{}", text);
                    // Rust's own exponent form has the fewest digits, too.
                    let scientific = format!("{value:e}");
                    let (mantissa, exponent) = scientific.split_once('e').unwrap();
                    let exponent: i32 = exponent.parse().unwrap();
                    let has_exponent = !(-4..6).contains(&exponent);
                    let expected = if has_exponent {
                        let sign = if exponent < 0 { '-' } else { '+' };
                        format!("{mantissa}e{sign}{:02}", exponent.abs())
                    } else if whole == Whole::Pointed && value.fract() == 0.0 {
                        format!("{value}.0")
                    } else {
                        format!("{value}")
                    };
                    // Where two numbers are as near, the last digit may differ.
                    let form = |text: &str| text.replace(|digit: char| digit.is_ascii_digit(), "0");
                    prop_assert_eq!(form(&text), form(&expected));
                    prop_assert_eq!(text.split_once('e').map(|it| it.1), expected.split_once('e').map(|it| it.1));
                }
            }
        }

        #[test]
        fn integers_read_back(value: u64, shift in 0..64) {
            let value = value >> shift;
            prop_assert_eq!(put(|line| put_unsigned(line, value)), value.to_string());
            prop_assert_eq!(put(|line| put_signed(line, value as i64)), (value as i64).to_string());
        }
    }
}
