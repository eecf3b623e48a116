//! Which of CloudWatch's units a unit of the registry is,
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDatum.html>.

use crate::descriptor::Kind;

/// CloudWatch's word for a UCUM code; none for what it has no word for. Values are sent as they are, so a unit that is another one's
/// multiple, such as `min`, has none.
pub(super) fn of(kind: Kind, code: Option<&str>) -> Option<&'static str> {
    let counts = matches!(kind, Kind::Counter | Kind::UpDownCounter);
    let Some(code) = code else {
        return counts.then_some("Count");
    };
    let (main, per) = match code.split_once('/') {
        Some((main, per)) => (main, Some(per)),
        None => (code, None),
    };
    let is_annotated = main.contains('{');
    // `By{of}` are bytes.
    let main = main.split('{').next().unwrap_or_default();
    match per {
        None => match main {
            "" => is_annotated.then_some("Count"),
            "1" => (counts || is_annotated).then_some("Count"),
            "Hz" => Some("Count/Second"),
            main => look_up(&UNITS, main),
        },
        Some("s") => match main {
            "" | "1" => Some("Count/Second"),
            main => look_up(&RATES, main),
        },
        Some(_) => None,
    }
}

fn look_up(table: &[(&str, &'static str)], code: &str) -> Option<&'static str> {
    table.iter().find(|(known, _)| *known == code).map(|(_, word)| *word)
}

/// `KBy` is how Prometheus spells UCUM's `kBy`.
const UNITS: [(&str, &str); 15] = [
    ("s", "Seconds"),
    ("ms", "Milliseconds"),
    ("us", "Microseconds"),
    ("By", "Bytes"),
    ("kBy", "Kilobytes"),
    ("KBy", "Kilobytes"),
    ("MBy", "Megabytes"),
    ("GBy", "Gigabytes"),
    ("TBy", "Terabytes"),
    ("bit", "Bits"),
    ("kbit", "Kilobits"),
    ("Mbit", "Megabits"),
    ("Gbit", "Gigabits"),
    ("Tbit", "Terabits"),
    ("%", "Percent"),
];

const RATES: [(&str, &str); 11] = [
    ("By", "Bytes/Second"),
    ("kBy", "Kilobytes/Second"),
    ("KBy", "Kilobytes/Second"),
    ("MBy", "Megabytes/Second"),
    ("GBy", "Gigabytes/Second"),
    ("TBy", "Terabytes/Second"),
    ("bit", "Bits/Second"),
    ("kbit", "Kilobits/Second"),
    ("Mbit", "Megabits/Second"),
    ("Gbit", "Gigabits/Second"),
    ("Tbit", "Terabits/Second"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_words_where_values_stay_as_they_are() {
        for (code, word) in [
            (Some("s"), Some("Seconds")),
            (Some("us"), Some("Microseconds")),
            (Some("By"), Some("Bytes")),
            (Some("By{sent}"), Some("Bytes")),
            (Some("%"), Some("Percent")),
            (Some("Mbit/s"), Some("Megabits/Second")),
            (Some("{request}"), Some("Count")),
            (Some("{request}/s"), Some("Count/Second")),
            (Some("1/s"), Some("Count/Second")),
            (Some("1/min"), None),
            (Some("min"), None),
            (Some("ns"), None),
            (Some("KiBy"), None),
            (Some("Cel"), None),
        ] {
            for kind in [Kind::Counter, Kind::Gauge, Kind::Histogram] {
                assert_eq!(of(kind, code), word, "{code:?}");
            }
        }
    }

    #[test]
    fn what_counts_is_a_count() {
        assert_eq!(of(Kind::Counter, None), Some("Count"));
        assert_eq!(of(Kind::UpDownCounter, Some("1")), Some("Count"));
        assert_eq!(of(Kind::Gauge, None), None);
        assert_eq!(of(Kind::Gauge, Some("1")), None, "it is a ratio");
        assert_eq!(of(Kind::FloatCounter, None), None);
    }
}
