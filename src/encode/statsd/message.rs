//! What is no metric of the registry: events and service checks of DogStatsD, members of sets, and counts of the client's own.
//!
//! <https://docs.datadoghq.com/developers/dogstatsd/datagram_shell/?tab=events>; fields stand in the order of the official Go client,
//! <https://github.com/DataDog/datadog-go/blob/master/statsd/format.go>.

use super::{
    Encoder, TOO_LARGE,
    clean::{FIELD, Rule, SET_VALUE},
    number::push_unsigned,
    packet::Packet,
    series::Names,
};
use crate::destination::statsd::Dialect;

/// One message.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Message<'a> {
    Event(EventFields<'a>),
    ServiceCheck(CheckFields<'a>),
    Set(SetFields<'a>),
    Count(CountFields<'a>),
}

/// Something that happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct EventFields<'a> {
    pub(crate) title: &'a str,
    pub(crate) text: &'a str,
    /// Seconds since the Unix epoch.
    pub(crate) timestamp: Option<u64>,
    pub(crate) hostname: Option<&'a str>,
    pub(crate) aggregation_key: Option<&'a str>,
    /// `normal` or `low`.
    pub(crate) priority: Option<&'static str>,
    pub(crate) source: Option<&'a str>,
    /// `error`, `warning`, `info` or `success`.
    pub(crate) alert: Option<&'static str>,
    pub(crate) tags: &'a [(String, String)],
}

/// How a service is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CheckFields<'a> {
    pub(crate) name: &'a str,
    /// 0 to 3: well, in danger, failed, unknown.
    pub(crate) status: u8,
    /// Seconds since the Unix epoch.
    pub(crate) timestamp: Option<u64>,
    pub(crate) hostname: Option<&'a str>,
    pub(crate) tags: &'a [(String, String)],
    pub(crate) message: Option<&'a str>,
}

/// One of things of which the server counts how many different ones there are.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SetFields<'a> {
    pub(crate) name: &'a str,
    pub(crate) member: &'a str,
    pub(crate) tags: &'a [(String, String)],
}

/// A count of something that the registry does not count.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CountFields<'a> {
    pub(crate) name: &'a str,
    pub(crate) count: u64,
    pub(crate) tags: &'a [(String, String)],
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    /// It is in the packet.
    Written,
    /// It does not fit any more.
    Full,
    /// It cannot be expressed, for this reason.
    Refused(&'static str),
}

impl Encoder {
    /// Appends a message to a packet, which may have other messages already.
    pub(crate) fn put_message(&mut self, message: &Message<'_>, packet: &mut Vec<u8>) -> Put {
        if let Some(reason) = self.objection(message) {
            return Put::Refused(reason);
        }
        let mut packet = Packet::new(packet, self.settings.limit, self.settings.ends_lines);
        let mark = packet.mark();
        match message {
            Message::Event(event) => {
                let names = self.series.show_message("", event.tags);
                packet.line(|out| event.push(names, out));
            }
            Message::ServiceCheck(check) => {
                let names = self.series.show_message("", check.tags);
                packet.line(|out| check.push(names, out));
            }
            Message::Set(set) => {
                let names = self.series.show_message(set.name, set.tags);
                packet.line(|out| set.push(names, out));
            }
            Message::Count(count) => {
                let names = self.series.show_message(count.name, count.tags);
                packet.line(|out| count.push(names, out));
            }
        }
        match packet.keep_if_it_fits(mark) {
            true => Put::Written,
            false if mark == 0 => Put::Refused(TOO_LARGE),
            false => Put::Full,
        }
    }

    /// Why a message cannot be expressed.
    fn objection(&self, message: &Message<'_>) -> Option<&'static str> {
        let dialect = self.settings.dialect;
        match message {
            Message::Event(_) | Message::ServiceCheck(_) if dialect != Dialect::DogStatsD => Some(NOT_DOGSTATSD),
            Message::Set(_) if matches!(dialect, Dialect::Librato | Dialect::SignalFx) => Some(NO_SETS),
            Message::Event(event) if event.title.is_empty() => Some(NO_TITLE),
            Message::ServiceCheck(check) if check.name.is_empty() => Some(NO_NAME),
            Message::ServiceCheck(check) if check.status > MOST_STATUS => Some(NO_STATUS),
            Message::Set(set) if set.name.is_empty() => Some(NO_NAME),
            Message::Set(set) if set.member.is_empty() => Some(NO_MEMBER),
            _ => None,
        }
    }
}

impl EventFields<'_> {
    fn push(&self, names: &Names, out: &mut Vec<u8>) {
        // Their lengths come first, in bytes as they are sent.
        let (mut title, mut text) = (Vec::new(), Vec::new());
        push_escaped(self.title, &mut title);
        push_escaped(self.text, &mut text);
        out.extend_from_slice(b"_e{");
        push_unsigned(title.len() as u64, out);
        out.push(b',');
        push_unsigned(text.len() as u64, out);
        out.extend_from_slice(b"}:");
        out.append(&mut title);
        out.push(b'|');
        out.append(&mut text);
        push_number("|d:", self.timestamp, out);
        push_field("|h:", self.hostname, out);
        push_field("|k:", self.aggregation_key, out);
        push_field("|p:", self.priority, out);
        push_field("|s:", self.source, out);
        push_field("|t:", self.alert, out);
        names.push_tags(None, out);
        names.push_origin(out);
    }
}

impl CheckFields<'_> {
    fn push(&self, names: &Names, out: &mut Vec<u8>) {
        push_field("_sc|", Some(self.name), out);
        push_number("|", Some(self.status.into()), out);
        push_number("|d:", self.timestamp, out);
        push_field("|h:", self.hostname, out);
        names.push_tags(None, out);
        if let Some(message) = self.message.filter(|message| !message.is_empty()) {
            out.extend_from_slice(b"|m:");
            let mut escaped = Vec::new();
            // The last field of all has no length. Its own mark is escaped, and what would end it is replaced.
            push_lines(message, &FIELD, &mut escaped);
            for (at, byte) in escaped.iter().enumerate() {
                if *byte == b':' && at > 0 && escaped[at - 1] == b'm' {
                    out.push(b'\\');
                }
                out.push(*byte);
            }
        }
        names.push_origin(out);
    }
}

impl SetFields<'_> {
    fn push(&self, names: &Names, out: &mut Vec<u8>) {
        names.push_head(b"", None, out);
        SET_VALUE.push(self.member, out);
        out.extend_from_slice(b"|s");
        names.push_tail(None, out);
    }
}

impl CountFields<'_> {
    fn push(&self, names: &Names, out: &mut Vec<u8>) {
        names.push_head(b"", None, out);
        push_unsigned(self.count, out);
        out.extend_from_slice(b"|c");
        names.push_tail(None, out);
    }
}

/// Appends a text whose length is told, with its line breaks as two characters each.
fn push_escaped(text: &str, out: &mut Vec<u8>) {
    push_lines(text, &TEXT, out);
}

/// Appends lines as one, each cleaned.
fn push_lines(text: &str, rule: &Rule, out: &mut Vec<u8>) {
    let mut lines = text.split('\n');
    if let Some(first) = lines.next() {
        rule.push(first.strip_suffix('\r').unwrap_or(first), out);
    }
    for line in lines {
        out.extend_from_slice(b"\\n");
        rule.push(line.strip_suffix('\r').unwrap_or(line), out);
    }
}

fn push_field(key: &str, value: Option<&str>, out: &mut Vec<u8>) {
    if let Some(value) = value.filter(|value| !value.is_empty()) {
        out.extend_from_slice(key.as_bytes());
        FIELD.push(value, out);
    }
}

fn push_number(key: &str, value: Option<u64>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        out.extend_from_slice(key.as_bytes());
        push_unsigned(value, out);
    }
}

/// All that can be seen: no reader looks for anything in a text of which it knows the length.
const TEXT: Rule = Rule::all_but(b"");

/// The greatest status of a service: unknown.
const MOST_STATUS: u8 = 3;

/// Why a message is refused.
const NOT_DOGSTATSD: &str = "events and service checks are DogStatsD's alone";
const NO_SETS: &str = "the dialect's servers have no sets";
const NO_TITLE: &str = "an event must have a title";
const NO_NAME: &str = "it must have a name";
const NO_STATUS: &str = "a service check's status must be 0, 1, 2 or 3";
const NO_MEMBER: &str = "a set has no member without text";
