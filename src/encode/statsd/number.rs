//! Numbers in plain decimals. Servers read an exponent in as many ways as there are servers, Etsy's as the end of the number.

use std::io::Write;

/// Appends a count.
#[inline]
pub(super) fn push_unsigned(value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends an integer.
pub(super) fn push_signed(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a finite number, with the fewest digits that read back as the same one, and zero without a sign.
pub(super) fn push_float(value: f64, out: &mut Vec<u8>) {
    debug_assert!(value.is_finite(), "no server has a number that is not finite");
    if value.abs() < EXACT && value.trunc() == value {
        out.extend_from_slice(itoa::Buffer::new().format(value as i64).as_bytes());
        return;
    }
    let mut buffer = zmij::Buffer::new();
    let shortest = buffer.format_finite(value);
    if shortest.contains('e') {
        write!(out, "{value}").expect("a vector takes all that is written");
    } else {
        out.extend_from_slice(shortest.strip_suffix(".0").unwrap_or(shortest).as_bytes());
    }
}

/// Below, each integer is a float.
const EXACT: f64 = 9_007_199_254_740_992.0;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn float(value: f64) -> String {
        let mut out = Vec::new();
        push_float(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn floats_are_plain_and_short() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (-5.0, "-5"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e-7, "0.0000001"),
            (-2.5e-9, "-0.0000000025"),
            (1e16, "10000000000000000"),
            (1e21, "1000000000000000000000"),
            (12_345_678.5, "12345678.5"),
        ] {
            assert_eq!(float(value), text);
        }
        assert_eq!(float(f64::MAX).len(), 309);
    }

    proptest! {
        #[test]
        fn floats_read_back_and_never_have_an_exponent(bits: u64, digits in 1..10_000_000_u64, power in -30..30) {
            for value in [f64::from_bits(bits), format!("{digits}e{power}").parse().unwrap()] {
                if value.is_finite() {
                    let text = float(value);
                    prop_assert_eq!(text.parse::<f64>().unwrap(), value);
                    prop_assert!(text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-')), "{}", text);
                }
            }
        }
    }
}
