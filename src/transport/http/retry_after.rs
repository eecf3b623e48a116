//! When a server wants to be asked again: the header `Retry-After` of RFC 9110, section 10.2.3.

use std::time::{Duration, SystemTime};

/// How long the header says to wait, at `now_unix` since the Unix epoch: seconds, or a date in any of the three forms of
/// section 5.6.7, where one in the past is zero. `None` if it is neither. Seconds past what 64 bits hold are as many as they do.
pub(crate) fn retry_after(text: &str, now_unix: Duration) -> Option<Duration> {
    let text = text.trim_matches([' ', '\t']);
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // Digits alone fail to parse only where they are too many.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let date = date.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(date.saturating_sub(now_unix))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT

    #[test]
    fn seconds() {
        let seconds = |text| retry_after(text, NOW).map(|wait| wait.as_secs());
        assert_eq!(seconds("0"), Some(0));
        assert_eq!(seconds(" 120\t"), Some(120));
        assert_eq!(seconds("18446744073709551615"), Some(u64::MAX));
        assert_eq!(seconds(&"9".repeat(1_000)), Some(u64::MAX));
    }

    #[test]
    fn dates_in_all_three_forms() {
        let earlier = NOW - Duration::from_secs(30);
        for date in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(retry_after(date, earlier), Some(Duration::from_secs(30)), "{date}");
            assert_eq!(retry_after(date, NOW), Some(Duration::ZERO), "{date}");
            assert_eq!(retry_after(date, NOW * 2), Some(Duration::ZERO), "{date}");
        }
        let last = retry_after("Fri, 31 Dec 9999 23:59:59 GMT", NOW).unwrap();
        assert!(last > Duration::from_secs(200_000_000_000));
    }

    #[test]
    fn garbage() {
        for text in [
            "",
            " ",
            "-1",
            "+1",
            "1.5",
            "1e3",
            "12 s",
            "soon",
            "٣",
            "0x10",
            "1,2",
            "Sun, 06 Nov 1994",
            "é",
            "Sun, 32 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sunday, 06-Nov-94",
            "\u{0}",
        ] {
            assert_eq!(retry_after(text, NOW), None, "{text:?}");
        }
        assert_eq!(retry_after(&"x".repeat(100_000), NOW), None);
    }
}
