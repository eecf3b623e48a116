//! The labels of a series in a line: members of its object, and which of them are dimensions.

use super::put_text;
use crate::{
    descriptor::{OVERFLOW_LABEL, OVERFLOW_VALUE},
    exporter::points::Point,
};
use std::{borrow::Cow, fmt::Write};

/// What lines have of one series.
pub(super) struct Series<'a> {
    /// By name, so that two families that declare their labels in another order share lines.
    labels: Vec<(&'a str, &'a str)>,
    /// The value of `Dimensions`.
    pub(super) dimensions: Vec<u8>,
    /// The labels as members, with commas between them.
    pub(super) members: Vec<u8>,
}

impl<'a> Series<'a> {
    /// The labels of a point's series. With `sets`, only labels in these are dimensions, each set without those that the series does not
    /// have; else all are, in one set.
    ///
    /// # Errors
    ///
    /// If CloudWatch takes no such dimensions.
    pub(super) fn of(point: &Point<'a>, sets: Option<&[Vec<String>]>) -> Result<Self, &'static str> {
        let mut labels: Vec<(&str, &str)> = match point.is_overflow() {
            true => vec![(OVERFLOW_LABEL, OVERFLOW_VALUE)],
            false => point.attributes().collect(),
        };
        labels.sort_unstable();
        let is_set = |name: &str| {
            let label = labels.binary_search_by_key(&name, |(name, _)| name);
            label.is_ok_and(|at| !is_blank(labels[at].1))
        };
        let mut dimensions = Vec::new();
        let mut members = Vec::new();
        match sets {
            None => {
                let all = labels.iter().map(|(name, _)| *name).filter(|name| is_set(name));
                put_sets(&[all.collect()], &mut dimensions)?;
            }
            Some(sets) => {
                let mut of_series: Vec<Vec<&str>> = Vec::new();
                for set in sets {
                    let set: Vec<&str> = set.iter().map(String::as_str).filter(|name| is_set(name)).collect();
                    // Two of the same, in whatever order, would be one metric counted twice.
                    let is_same =
                        |known: &Vec<&str>| known.len() == set.len() && known.iter().all(|name| set.contains(name));
                    if !of_series.iter().any(is_same) {
                        of_series.push(set);
                    }
                }
                put_sets(&of_series, &mut dimensions)?;
            }
        }
        for (name, value) in &labels {
            let is_dimension = match sets {
                None => !is_blank(value),
                Some(sets) => !is_blank(value) && sets.iter().flatten().any(|wanted| wanted == name),
            };
            let value = match is_dimension {
                true => dimension(name, value)?,
                false => Cow::Borrowed(*value),
            };
            put_member(name, &value, &mut members);
        }
        Ok(Series {
            labels,
            dimensions,
            members,
        })
    }

    /// Whether one of its labels has the name, set or not.
    pub(super) fn has_label(&self, name: &str) -> bool {
        self.labels.iter().any(|(label, _)| *label == name)
    }
}

/// Writes `"name":"value"`, behind a comma if it is not the first.
pub(super) fn put_member(name: &str, value: &str, members: &mut Vec<u8>) {
    if !members.is_empty() {
        members.push(b',');
    }
    put_text(name, members);
    members.push(b':');
    put_text(value, members);
}

fn put_sets(sets: &[Vec<&str>], out: &mut Vec<u8>) -> Result<(), &'static str> {
    out.push(b'[');
    for (at, set) in sets.iter().enumerate() {
        if set.len() > MOST_DIMENSIONS {
            return Err(TOO_MANY);
        }
        out.extend_from_slice(if at == 0 { b"[" } else { b",[" });
        for (at, name) in set.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            put_text(name, out);
        }
        out.push(b']');
    }
    out.push(b']');
    Ok(())
}

/// What CloudWatch takes for the value of a dimension: visible ASCII. Everything else is spelled as JSON would escape it.
fn dimension<'a>(name: &str, value: &'a str) -> Result<Cow<'a, str>, &'static str> {
    if name.len() > MOST_NAME {
        return Err(LONG_NAME);
    }
    let is_plain = |byte: u8| (b' '..=b'~').contains(&byte);
    let value = if value.bytes().all(is_plain) {
        Cow::Borrowed(value)
    } else {
        let mut spelled = String::new();
        for character in value.chars() {
            if u8::try_from(character).is_ok_and(is_plain) {
                spelled.push(character);
                continue;
            }
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(spelled, "\\u{unit:04x}").expect("a string takes all that is written");
            }
        }
        Cow::Owned(spelled)
    };
    match value.len() {
        0..=MOST_VALUE => Ok(value),
        _ => Err(LONG_VALUE),
    }
}

/// Whether CloudWatch has no dimension of it: a label without text means the same as none.
fn is_blank(value: &str) -> bool {
    value.trim().is_empty()
}

/// Dimensions in one set.
pub(crate) const MOST_DIMENSIONS: usize = 30;
/// Characters of a dimension's name. Copies of the schema differ; this is the least of them.
pub(crate) const MOST_NAME: usize = 250;
/// Characters of a dimension's value: <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_Dimension.html>.
const MOST_VALUE: usize = 1024;

const TOO_MANY: &str = "CloudWatch takes at most 30 dimensions; name those that matter with `dimensions`";
const LONG_NAME: &str = "CloudWatch takes at most 250 characters of a dimension's name; shorten the label's name";
const LONG_VALUE: &str =
    "CloudWatch takes at most 1,024 characters of a dimension's value; shorten it, or name other `dimensions`";
