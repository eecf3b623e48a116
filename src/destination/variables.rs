//! Environment variables, as every protocol hears them: one that is empty is as good as not set, and so is one that cannot be read, of
//! which a sentence is kept that names the variable, the rule, and what to do or what is done instead.
//!
//! Reading is a pure function over a look-up, and never fails. Whether a sentence is an error or a warning is the builders' to decide.

use std::{ffi::OsString, fmt};

/// The variables, and what is to be said about them.
pub(super) struct Variables<'a> {
    look_up: &'a dyn Fn(&str) -> Option<OsString>,
    problems: Vec<String>,
}

impl<'a> Variables<'a> {
    pub(super) fn new(look_up: &'a dyn Fn(&str) -> Option<OsString>) -> Self {
        Variables {
            look_up,
            problems: Vec::new(),
        }
    }

    /// A variable that is set, without blanks around it; an empty one is not.
    pub(super) fn text(&mut self, variable: &str) -> Option<String> {
        match (self.look_up)(variable)?.into_string() {
            Ok(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
            Err(_) => {
                self.tell(
                    variable,
                    "is not UTF-8, and so as good as not set",
                    "set it again, or not at all",
                );
                None
            }
        }
    }

    /// What a variable says, unless `read` says why it says nothing; then, what to do about it.
    #[cfg(any(feature = "otlp", feature = "statsd"))]
    pub(super) fn one<T>(
        &mut self,
        variable: &str,
        then: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match read(&self.text(variable)?) {
            Ok(value) => Some(value),
            Err(rule) => {
                self.tell(variable, rule, then);
                None
            }
        }
    }

    /// Keeps a sentence about a variable.
    pub(super) fn tell(&mut self, variable: &str, rule: impl fmt::Display, then: &str) {
        self.problems.push(format!("{variable} {rule}; {then}"));
    }

    /// All sentences, in the order in which they came up.
    pub(super) fn into_problems(self) -> Vec<String> {
        self.problems
    }
}

/// A value in a sentence, which is not secret, but may be long.
#[cfg(any(feature = "otlp", feature = "statsd"))]
pub(super) fn shown(text: &str) -> String {
    format!("{:?}", crate::redact::line(text, LONGEST_SHOWN))
}

#[cfg(any(feature = "otlp", feature = "statsd"))]
const LONGEST_SHOWN: usize = 60;

/// An environment for tests, in which these variables are set.
#[cfg(test)]
pub(super) fn environment(set: &[(&str, &str)]) -> impl Fn(&str) -> Option<OsString> {
    |wanted| {
        let mut found = set.iter().filter(|(name, _)| *name == wanted);
        found.next().map(|(_, value)| OsString::from(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_are_no_part_of_a_value_and_alone_they_are_none() {
        let look_up = environment(&[("A", " a b\t"), ("B", ""), ("C", " \n")]);
        let mut variables = Variables::new(&look_up);
        assert_eq!(variables.text("A").as_deref(), Some("a b"));
        assert_eq!(
            ["B", "C", "D"].map(|variable| variables.text(variable)),
            [None, None, None]
        );
        assert_eq!(variables.into_problems(), [""; 0]);
    }

    #[cfg(unix)]
    #[test]
    fn what_is_not_utf8_is_as_good_as_not_set() {
        use std::os::unix::ffi::OsStringExt;
        let look_up = |name: &str| (name == "A").then(|| OsString::from_vec(vec![b'a', 0xff]));
        let mut variables = Variables::new(&look_up);
        assert_eq!(variables.text("A"), None);
        let expected = "A is not UTF-8, and so as good as not set; set it again, or not at all";
        assert_eq!(variables.into_problems(), [expected]);
    }

    #[cfg(any(feature = "otlp", feature = "statsd"))]
    #[test]
    fn what_cannot_be_read_is_named_with_its_rule_and_a_way_out() {
        let long = "x".repeat(100);
        let set = [("A", &*long), ("B", "b")];
        let look_up = environment(&set);
        let mut variables = Variables::new(&look_up);
        let is_b = |text: &str| match text {
            "b" => Ok(()),
            _ => Err(format!("must be b, not {}", shown(text))),
        };
        let read = ["A", "B", "C"].map(|variable| variables.one(variable, "correct it", is_b));
        assert_eq!(read, [None, Some(()), None]);
        let expected = format!("A must be b, not \"{}…\"; correct it", "x".repeat(60));
        assert_eq!(variables.into_problems(), [expected]);
    }
}
