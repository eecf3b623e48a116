//! What the lines of a series have in common: its name, its tags, and the fields that say where a line comes from.
//!
//! A line is a head (`name:`), values with their type and rate, and a tail (`|#tags|c:…`). Which of head and tail the
//! tags are in, the dialect says. What a family's series share is written when the family changes, the rest once a series.

use super::{
    Settings,
    clean::{FIELD, Rules},
    number::push_unsigned,
};
use crate::{
    descriptor::{Descriptor, OVERFLOW_LABEL, OVERFLOW_VALUE},
    destination::statsd::Dialect,
    exporter::points::Point,
    snapshot::FamilySnapshot,
};
use std::{ops::Range, sync::Arc};

/// The texts of one series at a time.
pub(super) struct Series {
    names: Names,
    /// Whether gauges and counters say of what time they are.
    has_time: bool,
    head: Vec<u8>,
    tail: Vec<u8>,
    timed_tail: Vec<u8>,
}

/// A name and its tags, and what they are made of.
pub(super) struct Names {
    dialect: Dialect,
    rules: Rules,
    tag: TagForm,
    prefix: Vec<u8>,
    /// The tags that everything has: their keys, and each as it is written.
    constant: Vec<(Vec<u8>, Vec<u8>)>,
    origin: OriginFields,
    /// The family that the next four are of.
    family: Option<Arc<Descriptor>>,
    name: Vec<u8>,
    /// The tags that are the same for all series of the family.
    shared: Vec<u8>,
    /// The keys of the others as they are written, all but the values.
    keys: Vec<u8>,
    key_ranges: Vec<Range<usize>>,
    /// The tags of the series, each behind its separator.
    tags: Vec<u8>,
}

/// How a tag is written, and what stands around all of them.
#[derive(Clone, Copy)]
struct TagForm {
    /// In front of all but the first.
    separator: u8,
    /// Between key and value.
    equals: u8,
    /// In place of it in front of the first.
    opening: &'static [u8],
    closing: &'static [u8],
}

/// DogStatsD's fields behind the tags, in the order of the official Go client: the time stands between the two.
/// <https://github.com/DataDog/datadog-go/blob/master/statsd/format.go>
struct OriginFields {
    before_time: Vec<u8>,
    after_time: Vec<u8>,
}

impl Series {
    pub(super) fn new(settings: &Settings) -> Series {
        let can_have_time = settings.dialect == Dialect::DogStatsD && settings.protocol >= FIRST_WITH_TIME;
        Series {
            names: Names::new(settings),
            has_time: settings.timestamps && can_have_time,
            head: Vec::new(),
            tail: Vec::new(),
            timed_tail: Vec::new(),
        }
    }

    /// Goes to a family.
    pub(super) fn enter(&mut self, family: &FamilySnapshot) {
        self.names.enter(family);
    }

    /// Goes to a series of the family, of which this is a point.
    pub(super) fn show(&mut self, point: &Point<'_>) {
        self.names.show(point);
        self.head.clear();
        self.names.push_head(b"", None, &mut self.head);
        self.tail.clear();
        self.names.push_tail(None, &mut self.tail);
        if self.has_time {
            self.timed_tail.clear();
            self.names.push_timed_tail(point.time().as_secs(), &mut self.timed_tail);
        }
    }

    /// What stands before the values, the colon included.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// What stands behind type and rate.
    pub(super) fn tail(&self) -> &[u8] {
        &self.tail
    }

    /// The same of a gauge or a counter, which alone may say of what time they are.
    pub(super) fn timed_tail(&self) -> &[u8] {
        match self.has_time {
            true => &self.timed_tail,
            false => &self.tail,
        }
    }

    /// What the series is called.
    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    /// Goes to what is of no family, and has these tags besides those of everything.
    pub(super) fn show_message(&mut self, name: &str, tags: &[(String, String)]) -> &Names {
        self.names.show_message(name, tags);
        &self.names
    }
}

impl Names {
    fn new(settings: &Settings) -> Names {
        let dialect = settings.dialect;
        let mut names = Names {
            dialect,
            rules: Rules::of(dialect),
            tag: TagForm::of(dialect),
            prefix: Vec::new(),
            constant: Vec::new(),
            origin: OriginFields::new(settings),
            family: None,
            name: Vec::new(),
            shared: Vec::new(),
            keys: Vec::new(),
            key_ranges: Vec::new(),
            tags: Vec::new(),
        };
        names.rules.name.push(&settings.prefix, &mut names.prefix);
        names.constant = names.written(&settings.tags);
        names
    }

    /// Tags as they are written, each with its key alone. One without a key is none, and one without a value is one in DogStatsD alone.
    fn written(&self, tags: &[(String, String)]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let has_bare_keys = self.dialect == Dialect::DogStatsD;
        let are_tags = tags
            .iter()
            .filter(|(key, value)| !key.is_empty() && (!value.is_empty() || has_bare_keys));
        let written = are_tags.map(|(key, value)| {
            let cleaned = self.cleaned_key(key);
            let mut text = Vec::new();
            self.tag.push_key(&cleaned, &mut text);
            self.rules.value.push(value, &mut text);
            if value.is_empty() {
                text.pop();
            }
            (cleaned, text)
        });
        written.collect()
    }

    fn cleaned_key(&self, key: &str) -> Vec<u8> {
        let mut cleaned = Vec::new();
        self.rules.key.push(key, &mut cleaned);
        cleaned
    }

    fn enter(&mut self, family: &FamilySnapshot) {
        let descriptor = &family.descriptor;
        if self.family.as_ref().is_some_and(|known| Arc::ptr_eq(known, descriptor)) {
            return;
        }
        self.name.clone_from(&self.prefix);
        self.rules.name.push(family.given_name(), &mut self.name);
        let mut own_keys = Vec::new();
        let mut registered = Vec::new();
        for (label, value) in descriptor.constant.iter() {
            let key = self.cleaned_key(label.given());
            if !value.is_empty() {
                self.tag.push_key(&key, &mut registered);
                self.rules.value.push(value, &mut registered);
            }
            own_keys.push(key);
        }
        self.keys.clear();
        self.key_ranges.clear();
        for label in &descriptor.labels {
            let start = self.keys.len();
            let key = self.cleaned_key(label.given());
            self.tag.push_key(&key, &mut self.keys);
            self.key_ranges.push(start..self.keys.len());
            own_keys.push(key);
        }
        self.shared.clear();
        push_but(&self.constant, &own_keys, &mut self.shared);
        self.shared.append(&mut registered);
        self.family = Some(descriptor.clone());
    }

    fn show(&mut self, point: &Point<'_>) {
        self.tags.clear();
        if point.is_overflow() {
            push_but(&self.constant, &[], &mut self.tags);
            self.tag.push_key(OVERFLOW_LABEL.as_bytes(), &mut self.tags);
            self.tags.extend_from_slice(OVERFLOW_VALUE.as_bytes());
            return;
        }
        self.tags.extend_from_slice(&self.shared);
        let constants = self.family.as_ref().map_or(0, |family| family.constant.len());
        let values = point.attributes().skip(constants).map(|(_, value)| value);
        for (value, key) in values.zip(&self.key_ranges) {
            // A label without text means the same as none.
            if !value.is_empty() {
                self.tags.extend_from_slice(&self.keys[key.clone()]);
                self.rules.value.push(value, &mut self.tags);
            }
        }
    }

    fn show_message(&mut self, name: &str, tags: &[(String, String)]) {
        self.family = None;
        self.name.clone_from(&self.prefix);
        self.rules.name.push(name, &mut self.name);
        let own = self.written(tags);
        let own_keys: Vec<Vec<u8>> = own.iter().map(|(key, _)| key.clone()).collect();
        self.tags.clear();
        push_but(&self.constant, &own_keys, &mut self.tags);
        push_but(&own, &[], &mut self.tags);
    }

    /// The head of what belongs to the series and has more behind its name; of the counter of a bucket with the bucket's bound.
    pub(super) fn push_head(&self, suffix: &[u8], bound: Option<&[u8]>, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.name);
        match self.dialect {
            Dialect::Etsy => {
                out.extend_from_slice(&self.tags);
                out.extend_from_slice(suffix);
                if let Some(bound) = bound {
                    out.push(b'.');
                    out.extend(bound.iter().map(|byte| if *byte == b'.' { b'_' } else { *byte }));
                }
            }
            Dialect::DogStatsD => out.extend_from_slice(suffix),
            _ => {
                out.extend_from_slice(suffix);
                self.push_tags(bound, out);
            }
        }
        out.push(b':');
    }

    /// The tail that belongs to such a head.
    pub(super) fn push_tail(&self, bound: Option<&[u8]>, out: &mut Vec<u8>) {
        if self.dialect == Dialect::DogStatsD {
            self.push_tags(bound, out);
            self.push_origin(out);
        }
    }

    fn push_timed_tail(&self, seconds: u64, out: &mut Vec<u8>) {
        self.push_tags(None, out);
        out.extend_from_slice(&self.origin.before_time);
        // Zero is no time to the Agent.
        if seconds > 0 {
            out.extend_from_slice(b"|T");
            push_unsigned(seconds, out);
        }
        out.extend_from_slice(&self.origin.after_time);
    }

    /// The tags, with all that stands around them; of the counter of a bucket with the bucket's bound among them.
    pub(super) fn push_tags(&self, bound: Option<&[u8]>, out: &mut Vec<u8>) {
        let opening = self.tag.opening;
        let start = out.len();
        // The tags bring a separator along, in place of which the opening's last byte stands.
        out.extend_from_slice(&opening[..opening.len() - 1]);
        let first = out.len();
        out.extend_from_slice(&self.tags);
        if let Some(bound) = bound {
            self.tag.push_key(b"le", out);
            out.extend_from_slice(bound);
        }
        match out.get_mut(first) {
            Some(separator) => {
                *separator = opening[opening.len() - 1];
                out.extend_from_slice(self.tag.closing);
            }
            None => out.truncate(start),
        }
    }

    /// The fields that say where a line comes from, without a time.
    pub(super) fn push_origin(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.origin.before_time);
        out.extend_from_slice(&self.origin.after_time);
    }
}

/// Appends tags but those of these keys: what a series says of itself wins, as servers take the first tag of a key, the last,
/// or both.
fn push_but(tags: &[(Vec<u8>, Vec<u8>)], keys: &[Vec<u8>], out: &mut Vec<u8>) {
    for (_, text) in tags.iter().filter(|(key, _)| !keys.contains(key)) {
        out.extend_from_slice(text);
    }
}

impl TagForm {
    fn of(dialect: Dialect) -> TagForm {
        let (separator, equals, opening, closing): (u8, u8, &[u8], &[u8]) = match dialect {
            Dialect::Etsy => (b'.', b'.', b".", b""),
            Dialect::DogStatsD => (b',', b':', b"|#", b""),
            Dialect::Telegraf => (b',', b'=', b",", b""),
            Dialect::Librato => (b',', b'=', b"#", b""),
            Dialect::SignalFx => (b',', b'=', b"[", b"]"),
            Dialect::Graphite => (b';', b'=', b";", b""),
        };
        TagForm {
            separator,
            equals,
            opening,
            closing,
        }
    }

    /// All of a tag but its value.
    fn push_key(self, key: &[u8], out: &mut Vec<u8>) {
        out.push(self.separator);
        out.extend_from_slice(key);
        out.push(self.equals);
    }
}

impl OriginFields {
    fn new(settings: &Settings) -> OriginFields {
        let mut fields = OriginFields {
            before_time: Vec::new(),
            after_time: Vec::new(),
        };
        if settings.dialect != Dialect::DogStatsD {
            return fields;
        }
        let field = |out: &mut Vec<u8>, first: u8, key: &str, value: Option<&str>| {
            if let Some(value) = value.filter(|value| !value.is_empty() && settings.protocol >= first) {
                out.extend_from_slice(key.as_bytes());
                FIELD.push(value, out);
            }
        };
        let origin = &settings.origin;
        let before = &mut fields.before_time;
        field(before, FIRST_WITH_CONTAINER, "|c:", origin.container.as_deref());
        field(before, FIRST_WITH_EXTERNAL, "|e:", origin.external.as_deref());
        let cardinality = origin.cardinality.map(|cardinality| cardinality.name());
        field(&mut fields.after_time, FIRST_WITH_CARDINALITY, "|card:", cardinality);
        fields
    }
}

/// The minor versions of the protocol, 1.N, from which on it has each field.
/// <https://docs.datadoghq.com/developers/dogstatsd/datagram_shell/#dogstatsd-protocol-v11>
const FIRST_WITH_CONTAINER: u8 = 2;
const FIRST_WITH_TIME: u8 = 3;
const FIRST_WITH_EXTERNAL: u8 = 5;
const FIRST_WITH_CARDINALITY: u8 = 6;
