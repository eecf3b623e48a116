//! Units of measurement: a UCUM code for OTLP, and the words that Prometheus puts into the name.
//!
//! The tables and the splitting at `/` are those of Prometheus' own translation of an OTLP push,
//! <https://github.com/prometheus/otlptranslator> (v1.0.0, in Prometheus 3), so that a scraped name and a
//! pushed one are the same series. Only `name.rs` calls this; nothing here looks at a metric's name.

use super::NameError;

/// A unit as it was given, and the words that stand for it at the end of a Prometheus name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    given: Box<str>,
    word: Box<str>,
}

impl Unit {
    /// Checks a unit as a user writes it.
    ///
    /// The English word is taken for its code (`seconds` for `s`): it is what users of other libraries type, it
    /// means the same name in Prometheus, and OTLP receivers want the code. An empty unit is no unit.
    pub(super) fn parse(given: &str) -> Result<Option<Unit>, NameError> {
        let given = given.trim();
        if given.is_empty() {
            return Ok(None);
        }
        if given.len() > LONGEST {
            return Err(NameError::new(
                "unit",
                given,
                "must be at most 63 characters",
                "give a UCUM code, for example \"s\" or \"By\"",
            ));
        }
        if !given.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(NameError::new(
                "unit",
                given,
                "must be printable ASCII without blanks",
                "give a UCUM code, for example \"s\", \"By\" or \"{request}\"",
            ));
        }
        if !braces_pair(given) {
            return Err(NameError::new(
                "unit",
                given,
                "braces must pair and not nest",
                "write an annotation as \"{request}\"",
            ));
        }
        Ok(Some(Unit::of(code_of(given).unwrap_or(given))))
    }

    /// The unit that a name's last word stands for, if it is one of the known words.
    pub(super) fn named(word: &str) -> Option<Unit> {
        code_of(word).map(Unit::of)
    }

    /// The unit of a gauge without dimension: Prometheus names such gauges, and only them, `_ratio`.
    pub(super) fn ratio() -> Unit {
        Unit {
            given: DIMENSIONLESS.into(),
            word: RATIO.into(),
        }
    }

    fn of(code: &str) -> Unit {
        let (main, per) = Unit::suffixes(code);
        let word = match (main.is_empty(), per.is_empty()) {
            (false, false) => format!("{}_{per}", main.trim_end_matches('_')),
            (false, true) => main,
            (true, _) => per,
        };
        Unit {
            given: code.into(),
            word: word.into(),
        }
    }

    /// The UCUM code, as OTLP sends it: `s`, `By/s`, `{request}`.
    pub(crate) fn given(&self) -> &str {
        &self.given
    }

    /// The words that Prometheus puts at the end of the name, `seconds` or `bytes_per_second`; empty for `1`
    /// (except on a gauge, where it is `ratio`) and for annotations such as `{request}`.
    pub(crate) fn word(&self) -> &str {
        &self.word
    }

    /// How many of this unit make one second, for units of time.
    pub(crate) fn per_second(&self) -> Option<f64> {
        Some(match self.given() {
            "ns" => 1e9,
            "us" => 1e6,
            "ms" => 1e3,
            "s" => 1.0,
            "min" => 1.0 / 60.0,
            "h" => 1.0 / 3_600.0,
            "d" => 1.0 / 86_400.0,
            _ => return None,
        })
    }

    /// Whether Prometheus has a word of its own for what stands before the `/`, or needs none.
    pub(crate) fn is_known(&self) -> bool {
        let main = self.given().split('/').next().unwrap_or_default();
        matches!(main, "" | DIMENSIONLESS) || main.contains(['{', '}']) || look_up(&WORDS, main).is_some()
    }

    /// Whether the unit says that the value has no dimension.
    pub(super) fn is_dimensionless(&self) -> bool {
        self.given() == DIMENSIONLESS
    }

    /// The two suffixes that Prometheus makes of a code: what stands before the first `/`, and `per_` what
    /// stands after it. A part with a brace in it gives none.
    pub(super) fn suffixes(code: &str) -> (String, String) {
        let (main, per) = match code.split_once('/') {
            Some((main, per)) => (main, per),
            None => (code, ""),
        };
        let main = match main.trim() {
            annotated if annotated.contains(['{', '}']) => "",
            DIMENSIONLESS => "",
            code => look_up(&WORDS, code).unwrap_or(code),
        };
        let per = match per.trim() {
            annotated if annotated.contains(['{', '}']) => "",
            code => look_up(&WORDS_AFTER_PER, code).unwrap_or(code),
        };
        let per = match per {
            "" => String::new(),
            // What is left of a unit such as "/*" is no word at all.
            per => match clean(&format!("per_{per}")).as_str() {
                "per_" => String::new(),
                per => per.strip_suffix('_').unwrap_or(per).to_owned(),
            },
        };
        (clean(main), per)
    }
}

/// Spells what no name can hold as `_`, runs of it as one, and none in front.
fn clean(word: &str) -> String {
    let mut cleaned = String::with_capacity(word.len());
    for character in word.chars() {
        if character.is_ascii_alphanumeric() || character == ':' {
            cleaned.push(character);
        } else if !cleaned.is_empty() && !cleaned.ends_with('_') {
            cleaned.push('_');
        }
    }
    cleaned
}

fn braces_pair(unit: &str) -> bool {
    let mut open = false;
    for byte in unit.bytes() {
        match (byte, open) {
            (b'{', true) | (b'}', false) => return false,
            (b'{', false) => open = true,
            (b'}', true) => open = false,
            _ => {}
        }
    }
    !open
}

fn look_up(table: &[(&str, &'static str)], code: &str) -> Option<&'static str> {
    table.iter().find(|(known, _)| *known == code).map(|(_, word)| *word)
}

fn code_of(word: &str) -> Option<&'static str> {
    WORDS.iter().find(|(_, known)| *known == word).map(|(code, _)| *code)
}

/// The longest unit of an instrument,
/// <https://opentelemetry.io/docs/specs/otel/metrics/api/#instrument-unit>.
const LONGEST: usize = 63;

const DIMENSIONLESS: &str = "1";
pub(super) const RATIO: &str = "ratio";

/// Codes and their words before the `/`. `TiBy` and `KBy` are spelled as Prometheus spells them, not as UCUM or
/// IEC do: the names must be the same.
const WORDS: [(&str, &str); 25] = [
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("%", "percent"),
];

/// Codes and their words after the `/`, in the singular.
const WORDS_AFTER_PER: [(&str, &str); 7] = [
    ("s", "second"),
    ("m", "minute"),
    ("h", "hour"),
    ("d", "day"),
    ("w", "week"),
    ("mo", "month"),
    ("y", "year"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(given: &str) -> Unit {
        Unit::parse(given).unwrap().unwrap()
    }

    #[test]
    fn a_code_keeps_its_spelling_and_has_a_word() {
        for (given, code, word) in [
            ("s", "s", "seconds"),
            (" s ", "s", "seconds"),
            ("seconds", "s", "seconds"),
            ("By/s", "By/s", "bytes_per_second"),
            ("1", "1", ""),
            ("1/s", "1/s", "per_second"),
            ("{request}", "{request}", ""),
            ("{request}/s", "{request}/s", "per_second"),
            ("By{of}", "By{of}", ""),
            ("[degF]", "[degF]", "degF_"),
            ("[degF]/min", "[degF]/min", "degF_per_min"),
            ("*", "*", ""),
        ] {
            assert_eq!((unit(given).given(), unit(given).word()), (code, word), "{given}");
        }
        assert_eq!(Unit::parse("").unwrap(), None);
    }

    #[test]
    fn units_of_time_know_their_length() {
        assert_eq!(unit("s").per_second(), Some(1.0));
        assert_eq!(unit("milliseconds").per_second(), Some(1e3));
        assert_eq!(unit("By").per_second(), None);
        assert_eq!(unit("By/s").per_second(), None);
    }

    #[test]
    fn errors_say_the_rule_and_the_fix() {
        assert_eq!(
            Unit::parse("two words").unwrap_err().to_string(),
            "unit \"two words\": must be printable ASCII without blanks; \
             give a UCUM code, for example \"s\", \"By\" or \"{request}\""
        );
    }
}
