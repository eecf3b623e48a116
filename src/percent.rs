//! Percent-encoding, <https://www.rfc-editor.org/rfc/rfc3986#section-2.1>, as the `OTEL_*` variables and URLs have it.

/// The text that is meant; `None` if a percent sign has no two hexadecimal digits behind it or the text is not UTF-8.
pub(crate) fn decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        rest = behind;
        if *first != b'%' {
            decoded.push(*first);
            continue;
        }
        let [high, low, behind @ ..] = rest else {
            return None;
        };
        let digit = |byte: u8| char::from(byte).to_digit(16);
        decoded.push((digit(*high)? * 16 + digit(*low)?) as u8);
        rest = behind;
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_decoded_or_refused() {
        assert_eq!(decode("a+b%20c%2C%3d%C3%A9é").as_deref(), Some("a+b c,=éé"));
        assert_eq!(decode("").as_deref(), Some(""));
        for broken in ["%", "%2", "a%2x", "%+1", "%ff"] {
            assert_eq!(decode(broken), None, "{broken}");
        }
    }
}
