//! Samples as a set, so that what was recorded can be compared with what somebody else read.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Name and labels. `le` is spelled the same whatever the format's spelling; a label with an empty value is
/// left out, because every reader takes it for an absent one.
type Series = (String, BTreeMap<String, String>);

/// Samples by series. No series can be there twice.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    values: BTreeMap<Series, f64>,
}

impl Samples {
    pub fn new() -> Samples {
        Samples::default()
    }

    /// Adds one sample. What the crate tells about itself is left out: it is not what the test recorded.
    pub fn insert<N, V>(&mut self, name: &str, labels: impl IntoIterator<Item = (N, V)>, value: f64)
    where
        N: AsRef<str>,
        V: AsRef<str>,
    {
        if name.starts_with("tidegauge_") {
            return;
        }
        let labels = labels
            .into_iter()
            .map(|(name, value)| (name.as_ref().to_string(), spelled(name.as_ref(), value.as_ref())))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        let series = (name.to_string(), labels);
        let twice = self.values.insert(series.clone(), value);
        assert!(twice.is_none(), "{series:?} is there twice");
    }

    /// Replaces the value of a series that is there.
    pub fn update<'a>(&mut self, name: &str, labels: impl IntoIterator<Item = (&'a str, &'a str)>, value: f64) {
        let labels = labels
            .into_iter()
            .map(|(name, value)| (name.to_string(), spelled(name, value)))
            .collect();
        let known = self.values.get_mut(&(name.to_string(), labels));
        *known.unwrap_or_else(|| panic!("no series {name} with those labels was recorded")) = value;
    }

    /// The same, but with each zero without a sign: as those readers have it who take `-0` for an integer, or print it as `0`.
    pub fn without_signs_of_zero(mut self) -> Samples {
        self.values.values_mut().for_each(|value| *value += 0.0);
        self
    }

    /// Fails with a list of every difference. Values are compared to the last bit, so that -0 is not 0;
    /// NaN equals NaN.
    pub fn assert_eq(&self, expected: &Samples) {
        let mut differences = String::new();
        for (series, value) in &expected.values {
            match self.values.get(series) {
                None => writeln!(differences, "missing: {series:?} = {value:?}"),
                Some(read) if same(*read, *value) => Ok(()),
                Some(read) => {
                    writeln!(differences, "{series:?} = {read:?}, recorded was {value:?}")
                }
            }
            .expect("a string can be written to");
        }
        for (series, value) in &self.values {
            if !expected.values.contains_key(series) {
                writeln!(differences, "never recorded: {series:?} = {value:?}").expect("a string can be written to");
            }
        }
        assert!(
            differences.is_empty(),
            "what was read is not what was recorded:\n{differences}"
        );
    }
}

/// The same bits, or no number on both sides.
fn same(left: f64, right: f64) -> bool {
    left.to_bits() == right.to_bits() || (left.is_nan() && right.is_nan())
}

/// The value of a label; of `le` in one spelling, because a Prometheus that scrapes writes `1.0` where one that is pushed
/// to keeps `1`.
pub fn spelled(name: &str, value: &str) -> String {
    match value.parse::<f64>() {
        Ok(bound) if name == "le" => format!("{bound:?}"),
        _ => value.to_string(),
    }
}
