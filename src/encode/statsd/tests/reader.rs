//! Strict readers of each dialect, written from the public documentation alone; and a server that adds up what they read.
//!
//! - <https://github.com/statsd/statsd/blob/master/docs/metric_types.md>
//! - <https://docs.datadoghq.com/developers/dogstatsd/datagram_shell/>
//! - <https://github.com/influxdata/telegraf/tree/master/plugins/inputs/statsd>
//! - <https://github.com/prometheus/statsd_exporter#tagging-extensions>
//! - <https://graphite.readthedocs.io/en/latest/tags.html>

use crate::Dialect;
use std::collections::BTreeMap;

/// A line, taken apart.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) tags: Vec<(String, String)>,
    pub(super) values: Vec<String>,
    pub(super) kind: String,
    /// What each value counts for.
    pub(super) weight: u64,
    /// DogStatsD's further fields.
    pub(super) fields: Vec<(String, String)>,
}

/// What a packet must be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) dialect: Dialect,
    pub(super) protocol: u8,
    pub(super) limit: usize,
    pub(super) ends_lines: bool,
}

/// All that a server has received.
#[derive(Debug, Default)]
pub(super) struct Server {
    pub(super) counters: BTreeMap<Key, f64>,
    pub(super) gauges: BTreeMap<Key, f64>,
    /// Values and what each counts for.
    pub(super) samples: BTreeMap<Key, Vec<(f64, u64)>>,
}

/// A name and its tags.
pub(super) type Key = (String, Vec<(String, String)>);

/// Reads the lines of a packet.
pub(super) fn read(packet: &str, rules: Rules) -> Result<Vec<Line>, String> {
    if packet.is_empty() || packet.len() > rules.limit {
        return Err(format!("a packet of {} bytes", packet.len()));
    }
    let lines = match rules.ends_lines {
        true => packet.strip_suffix('\n').ok_or("the last line does not end")?,
        false => packet,
    };
    let read = |line| line_of(line, rules).map_err(|error| format!("{line:?}: {error}"));
    lines.split('\n').map(read).collect()
}

fn line_of(line: &str, rules: Rules) -> Result<Line, String> {
    if line.chars().any(char::is_control) {
        return Err("a control character".into());
    }
    let line = match rules.dialect {
        Dialect::DogStatsD => dog_line(line, rules.protocol)?,
        dialect => plain_line(line, dialect)?,
    };
    if line.weight != 1 && !matches!(&*line.kind, "ms" | "h" | "d") {
        return Err("a rate of what has none".into());
    }
    if line.kind != "s" && line.values.iter().any(|value| number(value).is_none()) {
        return Err("a value that is no plain number".into());
    }
    let is_name = |byte: u8| {
        byte.is_ascii_alphanumeric() || b"_.".contains(&byte) || byte == b'-' && rules.dialect != Dialect::DogStatsD
    };
    match line.name.is_empty() || !line.name.bytes().all(is_name) {
        true => Err("a bad name".into()),
        false => Ok(line),
    }
}

/// `name:value|type[|@rate]`, with the tags in the name.
fn plain_line(line: &str, dialect: Dialect) -> Result<Line, String> {
    let (head, rest) = line.split_once(':').ok_or("no colon")?;
    let fields: Vec<&str> = rest.split('|').collect();
    let (value, kind, rate) = match fields[..] {
        [value, kind] => (value, kind, None),
        [value, kind, rate] => (value, kind, Some(rate.strip_prefix('@').ok_or("no rate")?)),
        _ => return Err("too many fields".into()),
    };
    if value.contains(':') {
        return Err("packed values".into());
    }
    let kinds: &[&str] = match dialect {
        Dialect::Etsy | Dialect::Graphite => &["c", "g", "ms", "s"],
        Dialect::Telegraf => &["c", "g", "ms", "s", "h", "d"],
        _ => &["c", "g", "ms", "h", "d"],
    };
    if !kinds.contains(&kind) {
        return Err("a type that the server does not know".into());
    }
    let (name, tags) = name_of(head, dialect)?;
    Ok(Line {
        name,
        tags,
        values: vec![value.to_owned()],
        kind: kind.to_owned(),
        weight: weight_of(rate)?,
        fields: Vec::new(),
    })
}

fn name_of(head: &str, dialect: Dialect) -> Result<(String, Vec<(String, String)>), String> {
    let (opening, separator) = match dialect {
        Dialect::Etsy => return Ok((head.to_owned(), Vec::new())),
        Dialect::Graphite => (';', ';'),
        Dialect::SignalFx => ('[', ','),
        Dialect::Librato => ('#', ','),
        _ => (',', ','),
    };
    let Some((name, mut tags)) = head.split_once(opening) else {
        return Ok((head.to_owned(), Vec::new()));
    };
    if dialect == Dialect::SignalFx {
        tags = tags.strip_suffix(']').ok_or("no end of tags")?;
    }
    let mut read = Vec::new();
    for tag in tags.split(separator) {
        let (key, value) = tag.split_once('=').ok_or("a tag without a value")?;
        if key.is_empty() || value.is_empty() || [key, value].iter().any(|text| text.contains(AMBIGUOUS)) {
            return Err("a bad tag".into());
        }
        if dialect == Dialect::Graphite && (value.starts_with('~') || key.contains([';', '!', '^'])) {
            return Err("a tag that Graphite refuses".into());
        }
        read.push((key.to_owned(), value.to_owned()));
    }
    Ok((name.to_owned(), read))
}

/// What has a meaning to some server that knows tags in names.
const AMBIGUOUS: [char; 7] = [',', '=', '[', ']', '#', '|', ':'];

/// `name:value[:value]|type[|@rate][|#tags][|c:…][|e:…][|T…][|card:…]`
fn dog_line(line: &str, protocol: u8) -> Result<Line, String> {
    let mut parts = line.split('|');
    let head = parts.next().ok_or("nothing")?;
    let kind = parts.next().ok_or("no type")?;
    let (name, values) = head.split_once(':').ok_or("no value")?;
    if !["c", "g", "ms", "h", "s", "d"].contains(&kind) {
        return Err("an unknown type".into());
    }
    let values: Vec<String> = values.split(':').map(str::to_owned).collect();
    if values.len() > 1 && (protocol < 1 || kind == "s") {
        return Err("packed values".into());
    }
    let mut line = Line {
        name: name.to_owned(),
        tags: Vec::new(),
        values,
        kind: kind.to_owned(),
        weight: 1,
        fields: Vec::new(),
    };
    let mut last = 0;
    for field in parts {
        // By their places in a line, and the version since which they are.
        let known = [
            ("@", 1, 0),
            ("#", 2, 0),
            ("c:", 3, 2),
            ("e:", 4, 5),
            ("T", 5, 3),
            ("card:", 6, 6),
        ];
        let mut known = known.into_iter();
        let found = known.find_map(|(key, place, since)| Some((key, place, since, field.strip_prefix(key)?)));
        let (key, place, since, value) = found.ok_or_else(|| format!("an unknown field {field:?}"))?;
        if place <= last || since > protocol || value.is_empty() {
            return Err(format!("the field {field:?} does not belong there"));
        }
        last = place;
        match key {
            "@" => line.weight = weight_of(Some(value))?,
            "#" => {
                for tag in value.split(',') {
                    let (key, value) = tag.split_once(':').unwrap_or((tag, ""));
                    if key.is_empty() {
                        return Err("a bad tag".into());
                    }
                    line.tags.push((key.to_owned(), value.to_owned()));
                }
            }
            "T" if !["c", "g"].contains(&kind) || !value.bytes().all(|byte| byte.is_ascii_digit()) => {
                return Err("a time".into());
            }
            key => line.fields.push((key.to_owned(), value.to_owned())),
        }
    }
    Ok(line)
}

/// Reads a packet that is one event or one service check, and gives its fields and texts back; the title, the text and the message as
/// they are sent.
pub(super) fn read_message(packet: &str) -> Result<Vec<(String, String)>, String> {
    if packet.chars().any(char::is_control) {
        return Err("a control character, or a line break".into());
    }
    let mut read: Vec<(String, String)> = Vec::new();
    let mut note = |key: &str, value: &str| read.push((key.to_owned(), value.to_owned()));
    let (rest, known): (&str, &[&str]) = if let Some(event) = packet.strip_prefix("_e{") {
        let (lengths, rest) = event.split_once("}:").ok_or("no lengths")?;
        let (title, text) = lengths.split_once(',').ok_or("one length")?;
        let length = |text: &str| text.parse::<usize>().map_err(|error| error.to_string());
        let title = rest.get(..length(title)?).ok_or("a title of another length")?;
        let rest = rest[title.len()..]
            .strip_prefix('|')
            .ok_or("a title of another length")?;
        let text = rest.get(..length(text)?).ok_or("a text of another length")?;
        note("title", title);
        note("text", text);
        (
            &rest[text.len()..],
            &["d:", "h:", "k:", "p:", "s:", "t:", "#", "c:", "e:", "card:"],
        )
    } else {
        let check = packet.strip_prefix("_sc|").ok_or("neither of both")?;
        let (name, rest) = check.split_once('|').ok_or("no status")?;
        let (status, after) = rest.split_at_checked(1).ok_or("no status")?;
        note("name", name);
        note("status", status);
        (after, &["d:", "h:", "#", "m:", "c:", "e:", "card:"])
    };
    let mut next = known.iter();
    for field in rest.split('|').skip(1) {
        let known = next.by_ref().find(|known| field.starts_with(**known));
        let known = known.ok_or_else(|| format!("the field {field:?} does not belong there"))?;
        note(known, &field[known.len()..]);
    }
    match rest.is_empty() || rest.starts_with('|') {
        true => Ok(read),
        false => Err("something behind the text".into()),
    }
}

/// Of the rates that are read alike everywhere.
fn weight_of(rate: Option<&str>) -> Result<u64, String> {
    match rate {
        None => Ok(1),
        Some("0.1") => Ok(10),
        Some("0.01") => Ok(100),
        Some("0.001") => Ok(1_000),
        Some("0.0001") => Ok(10_000),
        Some(rate) => Err(format!("a rate of {rate:?}")),
    }
}

/// A number in plain decimals, without a leading plus.
fn number(text: &str) -> Option<f64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !are_digits(whole) || !are_digits(fraction) {
        return None;
    }
    text.parse().ok()
}

impl Server {
    /// Takes a packet in.
    pub(super) fn receive(&mut self, packet: &str, rules: Rules) -> Result<(), String> {
        for line in read(packet, rules)? {
            let Line {
                name,
                mut tags,
                values,
                kind,
                weight,
                ..
            } = line;
            tags.sort();
            if tags.windows(2).any(|pair| pair[0].0 == pair[1].0) {
                return Err(format!("a tag twice in {tags:?}"));
            }
            let key = (name, tags);
            for text in &values {
                let value = number(text).ok_or("no number")?;
                match &*kind {
                    "c" => {
                        let is_cut = rules.dialect == Dialect::Telegraf && value.fract() != 0.0;
                        if value == 0.0 || is_cut || value < 0.0 && !rules.dialect.counts_down() {
                            return Err(format!("an increment of {text}"));
                        }
                        *self.counters.entry(key.clone()).or_default() += value;
                    }
                    "g" => {
                        let is_change = text.starts_with('-') && rules.dialect != Dialect::DogStatsD;
                        let before = self.gauges.get(&key).copied().filter(|_| is_change);
                        self.gauges.insert(key.clone(), before.unwrap_or(0.0) + value);
                    }
                    _ => self.samples.entry(key.clone()).or_default().push((value, weight)),
                }
            }
        }
        Ok(())
    }
}

#[test]
fn readers_are_strict() {
    let rules = |dialect, protocol| Rules {
        dialect,
        protocol,
        limit: 100,
        ends_lines: false,
    };
    for (dialect, protocol, line, is_good) in [
        (Dialect::Etsy, 0, "a.b:1|c", true),
        (Dialect::Etsy, 0, "a.b:1|h", false),
        (Dialect::Etsy, 0, "a:1e5|c", false),
        (Dialect::Etsy, 0, "a:+1|g", false),
        (Dialect::Etsy, 0, "a:NaN|g", false),
        (Dialect::Etsy, 0, "a:1|ms|@1e-1", false),
        (Dialect::Etsy, 0, "a:1:2|ms", false),
        (Dialect::Etsy, 0, "a:1|c\n", false),
        (Dialect::Graphite, 0, "a;b=c:1|c", true),
        (Dialect::Graphite, 0, "a;b=~c:1|c", false),
        (Dialect::Graphite, 0, "a;b=:1|c", false),
        (Dialect::Telegraf, 0, "a,b=c,d=e:1|h|@0.1", true),
        (Dialect::Telegraf, 0, "a,b=c=d:1|c", false),
        (Dialect::Librato, 0, "a#b=c:1|s", false),
        (Dialect::SignalFx, 0, "a[b=c]:1|c", true),
        (Dialect::SignalFx, 0, "a[b=c:1|c", false),
        (Dialect::DogStatsD, 1, "a:1:2|d|#b:c:d,e", true),
        (Dialect::DogStatsD, 0, "a:1:2|d", false),
        (Dialect::DogStatsD, 6, "a:1|c|#b:c|c:id|e:x|T5|card:low", true),
        (Dialect::DogStatsD, 5, "a:1|c|card:low", false),
        (Dialect::DogStatsD, 6, "a:1|c|c:id|#b:c", false),
        (Dialect::DogStatsD, 6, "a:1|h|T5", false),
        (Dialect::DogStatsD, 6, "a:1|c|#b:c,,d:e", false),
    ] {
        let read = read(line, rules(dialect, protocol));
        assert_eq!(read.is_ok(), is_good, "{dialect} {line}: {read:?}");
    }
}
