//! The `name[]` filter of a scrape's query string: which families the client wants to see.
//!
//! A parameter may be spelled as the client knows the metric, so it selects a family by any of
//! - the family's name, `http_requests`, as OpenMetrics and `# TYPE` lines there write it,
//! - the name of one of its samples, `http_requests_total`, or `latency_seconds_bucket` of a histogram,
//! - the name as it was registered, `http.requests`.
//!
//! It always selects the whole family: a histogram without its count would be no valid exposition. Names are told apart by
//! case. A parameter that fits nothing selects nothing, and without any such parameter everything is selected.

use crate::name::{Kind, MetricName};

/// The families that a query string asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NameFilter {
    /// Sorted, each once: a hostile query may hold a thousand of them, to be looked up for every family.
    names: Vec<String>,
}

impl NameFilter {
    /// Reads a query string as it stands in the request's target, with or without its `?`. None if it has no `name[]`.
    ///
    /// Broken escapes stand for themselves, and bytes that are no UTF-8 for U+FFFD, which is part of no name.
    pub(crate) fn from_query(query: &str) -> Option<NameFilter> {
        let query = query.strip_prefix('?').unwrap_or(query);
        let mut names: Vec<String> = query
            .split('&')
            .filter_map(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                (decode(key) == PARAMETER).then(|| decode(value))
            })
            .collect();
        if names.is_empty() {
            return None;
        }
        names.sort_unstable();
        names.dedup();
        Some(NameFilter { names })
    }

    /// Whether a family of this name is selected.
    pub(crate) fn selects(&self, name: &MetricName) -> bool {
        let suffixes: &[&str] = match name.kind() {
            Kind::Counter => &["", "_total", "_created"],
            Kind::Gauge | Kind::UpDownCounter => &[""],
            Kind::Histogram => &["", "_bucket", "_count", "_sum", "_created"],
        };
        let family = name.family();
        let first = self.names.partition_point(|each| each.as_str() < family);
        let by_sample = self.names[first..]
            .iter()
            .map_while(|each| each.strip_prefix(family))
            .any(|suffix| suffixes.contains(&suffix));
        by_sample
            || self
                .names
                .binary_search_by(|each| each.as_str().cmp(name.given()))
                .is_ok()
    }
}

/// Undoes the encoding of a form: `+` is a blank and `%41` a byte.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while let Some(&byte) = bytes.get(index) {
        let escaped = match byte {
            b'%' => bytes.get(index + 1..index + 3).and_then(byte_of),
            b'+' => Some(b' '),
            _ => None,
        };
        index += if byte == b'%' && escaped.is_some() { 3 } else { 1 };
        decoded.push(escaped.unwrap_or(byte));
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn byte_of(digits: &[u8]) -> Option<u8> {
    let mut value = 0;
    for &digit in digits {
        value = value * 16 + char::from(digit).to_digit(16)?;
    }
    u8::try_from(value).ok()
}

const PARAMETER: &str = "name[]";

#[cfg(test)]
mod tests {
    use super::*;

    fn names(query: &str) -> Vec<String> {
        NameFilter::from_query(query)
            .map(|filter| filter.names)
            .unwrap_or_default()
    }

    fn selects(query: &str, kind: Kind, given: &str, unit: &str) -> bool {
        let name = MetricName::parse(kind, given, Some(unit), None).unwrap();
        NameFilter::from_query(query).unwrap().selects(&name)
    }

    #[test]
    fn names_are_read_in_every_encoding() {
        for (query, expected) in [
            ("name[]=a", vec!["a"]),
            ("?name[]=a", vec!["a"]),
            ("name%5B%5D=a&name%5b%5d=b", vec!["a", "b"]),
            ("x=1&name[]=b&name[]=a&name[]=b&y", vec!["a", "b"]),
            ("%6Eame[]=http%2Eroute", vec!["http.route"]),
            ("name[]=a+b%20c", vec!["a b c"]),
            ("name[]=a=b", vec!["a=b"]),
            ("name[]=%zz%4", vec!["%zz%4"]),
            ("name[]=%", vec!["%"]),
            ("name[]=%+1", vec!["% 1"]),
            ("name[]=%ff", vec!["\u{fffd}"]),
            ("name[]=%E8%8A%B1", vec!["花"]),
            ("name[]=", vec![""]),
            ("name[]", vec![""]),
            ("name=a", vec![]),
            ("NAME[]=a", vec![]),
            ("", vec![]),
            ("?", vec![]),
            ("&&=&", vec![]),
        ] {
            assert_eq!(names(query), expected, "{query}");
        }
        assert_eq!(NameFilter::from_query("a=b"), None);
    }

    #[test]
    fn a_family_is_selected_by_any_of_its_names() {
        for (query, kind, given, unit, expected) in [
            ("name[]=jobs", Kind::Counter, "jobs", "", true),
            ("name[]=jobs_total", Kind::Counter, "jobs", "", true),
            ("name[]=jobs_created", Kind::Counter, "jobs", "", true),
            ("name[]=jobs_bucket", Kind::Counter, "jobs", "", false),
            ("name[]=Jobs", Kind::Counter, "jobs", "", false),
            ("name[]=job", Kind::Counter, "jobs", "", false),
            ("name[]=", Kind::Counter, "jobs", "", false),
            ("name[]=http.jobs", Kind::Counter, "http.jobs", "", true),
            ("name[]=http_jobs", Kind::Counter, "http.jobs", "", true),
            ("name[]=size", Kind::Histogram, "size", "By", true),
            ("name[]=size_bytes", Kind::Histogram, "size", "By", true),
            ("name[]=size_bytes_sum", Kind::Histogram, "size", "By", true),
            ("name[]=size_bytes_total", Kind::Histogram, "size", "By", false),
            (
                "name[]=size_bytes_a&name[]=size_bytes_bucket&name[]=size_bytes_c",
                Kind::Histogram,
                "size",
                "By",
                true,
            ),
            ("name[]=depth_count", Kind::Gauge, "depth", "", false),
            ("name[]=depth_count", Kind::Gauge, "depth_count", "", true),
            ("name[]=other&name[]=depth", Kind::UpDownCounter, "depth", "", true),
        ] {
            assert_eq!(selects(query, kind, given, unit), expected, "{query} {given}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_query_panics(query in "(name|\\[\\]|%5B|%5D|[%=&+?a-f0-9]|.){0,20}") {
            let name = MetricName::parse(Kind::Histogram, "jobs", None, None).unwrap();
            if let Some(filter) = NameFilter::from_query(&query) {
                filter.selects(&name);
            }
        }
    }
}
