//! Which format and which compression answer a scrape: pure decisions from two request headers.
//!
//! `Accept` is read by the whole grammar of RFC 9110 section 12.5.1, <https://www.rfc-editor.org/rfc/rfc9110#section-12.5.1>,
//! and a scrape is never refused: where nothing that is asked for can be given, the answer is text 0.0.4, which
//! everything that scrapes can read. Nonsense in a header costs the entry it stands in, never the scrape.
//!
//! Where this goes beyond the RFC, it is for what clients of metrics mean by their headers:
//! - `*/*` stands for text. Who can read OpenMetrics says so by name; curl and browsers say `*/*` (so does Go's
//!   client library).
//! - Of a media type's parameters only `version` decides. `escaping` and `charset` cannot change what is sent, as every
//!   name here is legal in the oldest of formats and every byte is UTF-8.
//! - OpenMetrics without a version is 1.0.0, the oldest one standardised. Version 0.0.1, a draft, and 2.0.0 are not
//!   given.
//! - Text 1.0.0 is text 0.0.4 with quoted names. No name here needs quotes, so the one is the other, but the answer
//!   calls itself 0.0.4, which old and new servers read alike.

/// A format that a scrape can be answered in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exposition {
    /// Prometheus' text format 0.0.4.
    Text,
    /// OpenMetrics text 1.0.0.
    OpenMetrics,
}

impl Exposition {
    /// The value of the answer's `Content-Type`.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Exposition::Text => "text/plain; version=0.0.4; charset=utf-8",
            Exposition::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A compression that an answer can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// None.
    Identity,
    /// gzip.
    Gzip,
}

/// Chooses the format by the request's `Accept`; several such headers are joined by commas.
///
/// Each format takes the weight of the most specific entry that it matches. The heavier one wins; of equal ones the
/// more specific, then the one named first.
pub(crate) fn exposition(accept: Option<&str>) -> Exposition {
    let mut text = Match::NONE;
    let mut open_metrics = Match::NONE;
    for (position, entry) in split(accept.unwrap_or_default(), b',').enumerate() {
        let Some(range) = MediaRange::parse(entry) else {
            continue;
        };
        if let Some(specificity) = range.covers("text", "plain", &TEXT_VERSIONS) {
            text.offer(specificity, range.weight, position);
        }
        if let Some(specificity) = range.covers("application", "openmetrics-text", &OPEN_METRICS_VERSIONS) {
            open_metrics.offer(specificity, range.weight, position);
        }
    }
    let by_name_or_only = open_metrics.specificity > Specificity::Anything || text.weight == 0.0;
    if open_metrics.weight > 0.0 && by_name_or_only && open_metrics.beats(&text) {
        Exposition::OpenMetrics
    } else {
        Exposition::Text
    }
}

/// Chooses the compression by the request's `Accept-Encoding`; several such headers are joined by commas.
///
/// gzip, if it is accepted and nothing says that plain bytes are liked better. A client that excludes both gets plain
/// bytes, as a scrape is never refused.
pub(crate) fn encoding(accept_encoding: Option<&str>) -> Encoding {
    let (mut gzip, mut identity, mut rest) = (None, None, None);
    for entry in split(accept_encoding.unwrap_or_default(), b',') {
        let mut parts = split(entry, b';');
        let coding = parts.next().unwrap_or_default();
        let Some(weight) = weight_of(parts) else {
            continue;
        };
        let known = if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") {
            &mut gzip
        } else if coding.eq_ignore_ascii_case("identity") {
            &mut identity
        } else if coding == "*" {
            &mut rest
        } else {
            continue;
        };
        *known = Some(weight.max(known.unwrap_or(0.0)));
    }
    let gzip = gzip.or(rest).unwrap_or(0.0);
    // Plain bytes are always acceptable unless excluded, but liked least unless named.
    let identity = identity.or(rest).unwrap_or(0.0);
    if gzip > 0.0 && gzip >= identity {
        Encoding::Gzip
    } else {
        Encoding::Identity
    }
}

/// How exactly an entry names a format; later ones overrule earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Specificity {
    Nothing,
    Anything,
    Type,
    Subtype,
    Version,
}

/// The entry that speaks for one format.
struct Match {
    specificity: Specificity,
    weight: f64,
    position: usize,
}

impl Match {
    const NONE: Match = Match {
        specificity: Specificity::Nothing,
        weight: 0.0,
        position: usize::MAX,
    };

    fn offer(&mut self, specificity: Specificity, weight: f64, position: usize) {
        let heavier = specificity == self.specificity && weight > self.weight;
        if specificity > self.specificity || heavier {
            *self = Match {
                specificity,
                weight,
                position,
            };
        }
    }

    fn beats(&self, other: &Match) -> bool {
        // A version more or less is no sign of liking one format better than the other.
        let named = |each: &Match| each.specificity.min(Specificity::Subtype);
        if self.weight != other.weight {
            self.weight > other.weight
        } else if named(self) != named(other) {
            named(self) > named(other)
        } else {
            self.position < other.position
        }
    }
}

/// One entry of `Accept`.
struct MediaRange<'a> {
    kind: &'a str,
    subtype: &'a str,
    version: Option<String>,
    weight: f64,
}

impl<'a> MediaRange<'a> {
    fn parse(entry: &'a str) -> Option<MediaRange<'a>> {
        let mut parts = split(entry, b';');
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let version = parts.clone().find_map(|part| parameter(part, "version"));
        Some(MediaRange {
            kind: kind.trim_end(),
            subtype: subtype.trim_start(),
            version,
            weight: weight_of(parts)?,
        })
    }

    fn covers(&self, kind: &str, subtype: &str, versions: &[&str]) -> Option<Specificity> {
        if self.kind == "*" && self.subtype == "*" {
            return Some(Specificity::Anything);
        }
        if !self.kind.eq_ignore_ascii_case(kind) {
            return None;
        }
        if self.subtype == "*" {
            return Some(Specificity::Type);
        }
        if !self.subtype.eq_ignore_ascii_case(subtype) {
            return None;
        }
        match &self.version {
            None => Some(Specificity::Subtype),
            Some(version) => versions.contains(&version.as_str()).then_some(Specificity::Version),
        }
    }
}

/// The weight among an entry's parameters: 1 without one, 1 for more than 1 (Prometheus 2.49.0 asks for `*/*;q=2`), and
/// none for what is no number, which takes the entry out.
fn weight_of<'a>(mut parameters: impl Iterator<Item = &'a str>) -> Option<f64> {
    let Some(weight) = parameters.find_map(|part| parameter(part, "q")) else {
        return Some(1.0);
    };
    // Only digits and a point: a float may be spelled in more ways than a weight.
    if !weight.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    weight.parse::<f64>().ok().map(|weight| weight.min(1.0))
}

/// The value of a `name=value` or `name="value"` of that name.
fn parameter(part: &str, name: &str) -> Option<String> {
    let (key, value) = part.split_once('=')?;
    if !key.trim_end().eq_ignore_ascii_case(name) {
        return None;
    }
    let value = value.trim_start();
    let Some(quoted) = value.strip_prefix('"') else {
        return Some(value.to_owned());
    };
    let mut unquoted = String::new();
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => break,
            '\\' => unquoted.extend(characters.next()),
            other => unquoted.push(other),
        }
    }
    Some(unquoted)
}

/// Splits at a separator that stands outside quotes, and takes the blanks off each part.
fn split(list: &str, separator: u8) -> impl Iterator<Item = &str> + Clone {
    let mut quoted = false;
    let mut escaped = false;
    list.split(move |character: char| {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            other => return !quoted && other == char::from(separator),
        }
        false
    })
    .map(|part| part.trim_matches([' ', '\t']))
}

const TEXT_VERSIONS: [&str; 2] = ["0.0.4", "1.0.0"];
const OPEN_METRICS_VERSIONS: [&str; 1] = ["1.0.0"];

#[cfg(test)]
mod tests {
    use super::*;

    const PROTOBUF: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

    #[test]
    fn every_prometheus_gets_the_best_that_it_can_read() {
        use Exposition::{OpenMetrics, Text};
        for (server, accept, expected) in [
            (
                "2.31",
                "application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Text,
            ),
            (
                "2.37 to 2.48",
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                 text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                OpenMetrics,
            ),
            (
                "2.42 to 2.48 with native histograms",
                &format!(
                    "{PROTOBUF},application/openmetrics-text;version=1.0.0;q=0.8,\
                     application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
                ),
                OpenMetrics,
            ),
            (
                "2.49.0, its last weight out of range",
                "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                 text/plain;version=0.0.4;q=0.3,*/*;q=2",
                OpenMetrics,
            ),
            (
                "2.49.1 to 2.55",
                "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                 text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                OpenMetrics,
            ),
            (
                "2.49.1 to 2.55, protobuf first",
                &format!(
                    "{PROTOBUF};q=0.5,application/openmetrics-text;version=1.0.0;q=0.4,\
                     application/openmetrics-text;version=0.0.1;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
                ),
                OpenMetrics,
            ),
            (
                "2.55 with UTF-8 names",
                "application/openmetrics-text;version=1.0.0;q=0.5;escaping=allow-utf-8,\
                 application/openmetrics-text;version=0.0.1;q=0.4;escaping=allow-utf-8,\
                 text/plain;version=0.0.4;q=0.3;escaping=allow-utf-8,*/*;q=0.2;escaping=allow-utf-8",
                OpenMetrics,
            ),
            (
                "3.0 to 3.2, which repeat themselves",
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                 application/openmetrics-text;version=0.0.1;escaping=allow-utf-8;q=0.5,\
                 text/plain;version=1.0.0;escaping=allow-utf-8;escaping=allow-utf-8;q=0.4,\
                 text/plain;version=0.0.4;escaping=allow-utf-8;q=0.3,*/*;q=0.2",
                OpenMetrics,
            ),
            (
                "3.4 to 3.14",
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                 application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
                 text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                OpenMetrics,
            ),
            (
                "3.4 to 3.14, protobuf first",
                &format!(
                    "{PROTOBUF};q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                     application/openmetrics-text;version=0.0.1;q=0.4,\
                     text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
                ),
                OpenMetrics,
            ),
            (
                "3.15",
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.7,\
                 application/openmetrics-text;version=0.0.1;q=0.6,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                 text/plain;version=0.0.4;q=0.4,*/*;q=0.3",
                OpenMetrics,
            ),
            (
                "3.15, protobuf first",
                &format!(
                    "{PROTOBUF};q=0.7,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                     application/openmetrics-text;version=0.0.1;q=0.5,\
                     text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
                ),
                OpenMetrics,
            ),
            (
                "3.15 with escaped names",
                "application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.7,\
                 application/openmetrics-text;version=0.0.1;q=0.6,text/plain;version=1.0.0;escaping=underscores;q=0.5,\
                 text/plain;version=0.0.4;q=0.4,*/*;q=0.3",
                OpenMetrics,
            ),
            ("3.15, protobuf only", &format!("{PROTOBUF};q=0.7,*/*;q=0.6"), Text),
            (
                "3.15 with OpenMetrics 2",
                "application/openmetrics-text;version=2.0.0;q=0.7,\
                 application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,*/*;q=0.5",
                OpenMetrics,
            ),
            ("3.15, text only", "text/plain;version=0.0.4;q=0.7,*/*;q=0.6", Text),
        ] {
            assert_eq!(exposition(Some(accept)), expected, "{server}");
        }
    }

    #[test]
    fn everybody_else_gets_text_unless_open_metrics_is_named() {
        use Exposition::{OpenMetrics, Text};
        assert_eq!(exposition(None), Text);
        for (accept, expected) in [
            ("", Text),
            ("*/*", Text),
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
                Text,
            ),
            ("application/json", Text),
            ("text/*", Text),
            ("text/plain", Text),
            ("text/plain;version=1.0.0", Text),
            ("text/plain;version=0.0.3", Text),
            ("text/plain;q=0", Text),
            ("text/plain;q=0.5, */*;q=0.8", Text),
            ("application/*", OpenMetrics),
            ("application/*, text/plain", Text),
            ("application/openmetrics-text", OpenMetrics),
            ("application/openmetrics-text;version=1.0.0", OpenMetrics),
            ("application/openmetrics-text;version=0.0.1", Text),
            ("application/openmetrics-text;version=2.0.0", Text),
            ("application/openmetrics-text;version=2.0.0, */*;q=0.1", Text),
            (
                "application/openmetrics-text;version=2.0.0, application/openmetrics-text;q=0.5",
                OpenMetrics,
            ),
            ("application/openmetrics-text, */*", OpenMetrics),
            ("application/openmetrics-text, text/plain", OpenMetrics),
            ("text/plain, application/openmetrics-text", Text),
            ("text/plain;version=0.0.4, application/openmetrics-text", Text),
            ("text/plain, application/openmetrics-text;version=1.0.0", Text),
            ("text/plain;q=0.5, application/openmetrics-text", OpenMetrics),
            ("application/openmetrics-text;q=0, */*", Text),
            ("application/openmetrics-text;version=1.0.0;q=0, application/*", Text),
            ("text/plain;q=0, */*", OpenMetrics),
            ("text/plain;q=0, application/openmetrics-text;q=0", Text),
            ("text/plain;q=0.001, application/openmetrics-text;q=0.002", OpenMetrics),
        ] {
            assert_eq!(exposition(Some(accept)), expected, "{accept}");
        }
    }

    #[test]
    fn the_grammar_is_read_in_all_its_spellings() {
        use Exposition::{OpenMetrics, Text};
        for (accept, expected) in [
            ("APPLICATION/OpenMetrics-Text;VERSION=1.0.0;Q=1", OpenMetrics),
            (
                "application/openmetrics-text ; version = \"1.0.0\" ; q = 0.5\t, text/plain ;q=0.4",
                OpenMetrics,
            ),
            ("application/openmetrics-text;version=\"1\\.0.0\"", OpenMetrics),
            ("application/openmetrics-text;version=\"1.0.0", OpenMetrics),
            (
                "application/openmetrics-text;note=\"a, b; \\\" q=0\";q=0.9, text/plain;q=0.8",
                OpenMetrics,
            ),
            ("application/openmetrics-text;charset=UTF-8", OpenMetrics),
            (
                "application/openmetrics-text;q=0.5;version=1.0.0, text/plain;q=0.4",
                OpenMetrics,
            ),
            (",, ,application/openmetrics-text,;", OpenMetrics),
            ("application/openmetrics-text;;;q=1;", OpenMetrics),
            ("application/openmetrics-text;q=.9, text/plain;q=0.8", OpenMetrics),
            ("application/openmetrics-text;q=7, text/plain;q=0.8", OpenMetrics),
            ("application/openmetrics-text;q=0.00001, text/plain;q=0", OpenMetrics),
            ("application/openmetrics-text;q=abc", Text),
            ("application/openmetrics-text;q=-1", Text),
            ("application/openmetrics-text;q=", Text),
            ("application/openmetrics-text;q=1e5", Text),
            ("application/openmetrics-text;q=NaN", Text),
            ("application/openmetrics-text;q=..", Text),
            ("*", Text),
            ("/", Text),
            ("*/openmetrics-text", Text),
            ("\"application/openmetrics-text\"", Text),
            ("text/plain\\, application/openmetrics-text;q=0.5", OpenMetrics),
            ("花/plain;q=🦀", Text),
        ] {
            assert_eq!(exposition(Some(accept)), expected, "{accept}");
        }
    }

    #[test]
    fn gzip_is_used_where_it_is_wanted() {
        use Encoding::{Gzip, Identity};
        assert_eq!(encoding(None), Identity);
        for (accept, expected) in [
            ("", Identity),
            ("gzip", Gzip),
            ("zstd,gzip", Gzip),
            ("identity", Identity),
            ("x-gzip", Gzip),
            ("GZip", Gzip),
            ("gzip, deflate, br, zstd", Gzip),
            ("deflate, gzip;q=1.0, *;q=0.5", Gzip),
            ("br", Identity),
            ("gzip;q=0", Identity),
            ("gzip;q=0.0, *", Identity),
            ("gzip;q=0.001", Gzip),
            ("gzip;Q=0.5 , identity;q=0.4", Gzip),
            ("gzip;q=0.5, identity;q=0.9", Identity),
            ("gzip, identity", Gzip),
            ("gzip;q=2", Gzip),
            ("gzip;q=abc", Identity),
            ("*", Gzip),
            ("*;q=0", Identity),
            ("identity;q=0", Identity),
            ("identity;q=0, *", Gzip),
            ("identity;q=0, gzip;q=0.1", Gzip),
            ("gzip;q=0, x-gzip", Gzip),
            ("gzipped", Identity),
            (";;,,=\"", Identity),
        ] {
            assert_eq!(encoding(Some(accept)), expected, "{accept}");
        }
    }

    #[test]
    fn answers_are_labelled_as_servers_expect() {
        assert_eq!(
            Exposition::Text.content_type(),
            "text/plain; version=0.0.4; charset=utf-8"
        );
        assert_eq!(
            Exposition::OpenMetrics.content_type(),
            "application/openmetrics-text; version=1.0.0; charset=utf-8"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_header_panics(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..64),
            near in "(application/openmetrics-text|text/plain|[*]/[*]|gzip|version=|q=|[0-9.]|[\\\\\"=;,/ ]){0,20}",
        ) {
            let bytes = String::from_utf8_lossy(&bytes);
            for header in [bytes.as_ref(), near.as_str()] {
                exposition(Some(header));
                encoding(Some(header));
            }
        }
    }
}
