//! Lines that are being filled: one for each label set at one time, until it is full.

use super::{
    put_text,
    series::{Series, put_member},
};
use std::collections::HashMap;

/// What all lines have.
pub(super) struct Frame {
    /// As JSON.
    namespace: Vec<u8>,
    /// Each with its name, and as a member.
    properties: Vec<(String, Vec<u8>)>,
    /// The most bytes of a line.
    limit: usize,
    overhead: usize,
}

/// What is said of a metric beside its value.
pub(super) struct Metric<'a> {
    name: &'a str,
    definition: Vec<u8>,
    /// In front of its value.
    key: Vec<u8>,
}

/// Lines that are not full.
#[derive(Default)]
pub(super) struct Documents {
    /// By time and labels.
    places: HashMap<(u64, Vec<u8>), usize>,
    documents: Vec<Document>,
    bytes: usize,
}

struct Document {
    time: u64,
    dimensions: Vec<u8>,
    labels: Vec<u8>,
    /// Names of properties that labels have too.
    hidden: Vec<String>,
    metrics: Vec<String>,
    definitions: Vec<u8>,
    values: Vec<u8>,
}

impl Frame {
    pub(super) fn new(namespace: &str, properties: &[(String, String)], limit: usize) -> Frame {
        let as_member = |(name, value): &(String, String)| {
            let mut member = Vec::new();
            put_member(name, value, &mut member);
            (name.clone(), member)
        };
        let mut quoted = Vec::new();
        put_text(namespace, &mut quoted);
        let properties: Vec<(String, Vec<u8>)> = properties.iter().map(as_member).collect();
        let of_properties: usize = properties.iter().map(|(_, member)| member.len() + 1).sum();
        Frame {
            overhead: FIXED + quoted.len() + of_properties,
            namespace: quoted,
            properties,
            limit,
        }
    }

    pub(super) fn overhead(&self) -> usize {
        self.overhead
    }

    /// Whether a line that has nothing else has room for a value.
    pub(super) fn has_room(&self, series: &Series<'_>, metric: &Metric<'_>, value: &[u8]) -> bool {
        let labels = series.dimensions.len() + series.members.len();
        self.overhead + labels + metric.bytes(value) <= self.limit
    }
}

impl<'a> Metric<'a> {
    pub(super) fn new(name: &'a str, unit: Option<&str>) -> Self {
        let mut definition = br#"{"Name":"#.to_vec();
        put_text(name, &mut definition);
        if let Some(unit) = unit {
            definition.extend_from_slice(br#","Unit":"#);
            put_text(unit, &mut definition);
        }
        definition.push(b'}');
        let mut key = Vec::new();
        put_text(name, &mut key);
        key.push(b':');
        Metric { name, definition, key }
    }

    /// What it adds to a line, with the commas.
    fn bytes(&self, value: &[u8]) -> usize {
        self.definition.len() + self.key.len() + value.len() + 2
    }
}

impl Documents {
    /// How many bytes there are, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Puts a value into the line of its series. A line that has no room for it, or has the metric already, is written first.
    pub(super) fn put(
        &mut self,
        time: u64,
        series: &Series<'_>,
        metric: &Metric<'_>,
        value: &[u8],
        frame: &Frame,
        payload: &mut Vec<u8>,
    ) {
        let Documents {
            places,
            documents,
            bytes,
        } = self;
        let place = *places.entry((time, series.members.clone())).or_insert_with(|| {
            *bytes += frame.overhead + series.dimensions.len() + series.members.len();
            documents.push(Document::new(time, series, frame));
            documents.len() - 1
        });
        let document = &mut documents[place];
        let has_it = || document.metrics.iter().any(|name| name == metric.name);
        let added = metric.bytes(value);
        if document.metrics.len() == MOST_METRICS || document.bytes(frame) + added > frame.limit || has_it() {
            *bytes -= document.definitions.len() + document.values.len();
            document.write(frame, payload);
        }
        *bytes += added;
        document.put(metric, value);
    }

    /// Writes all that is left.
    pub(super) fn finish(mut self, frame: &Frame, payload: &mut Vec<u8>) {
        for document in &mut self.documents {
            document.write(frame, payload);
        }
    }
}

impl Document {
    fn new(time: u64, series: &Series<'_>, frame: &Frame) -> Document {
        let names = frame.properties.iter().map(|(name, _)| name);
        Document {
            time,
            dimensions: series.dimensions.clone(),
            labels: series.members.clone(),
            hidden: names.filter(|name| series.has_label(name)).cloned().collect(),
            metrics: Vec::new(),
            definitions: Vec::new(),
            values: Vec::new(),
        }
    }

    /// How long its line is at most.
    fn bytes(&self, frame: &Frame) -> usize {
        frame.overhead + self.dimensions.len() + self.labels.len() + self.definitions.len() + self.values.len()
    }

    fn put(&mut self, metric: &Metric<'_>, value: &[u8]) {
        if !self.metrics.is_empty() {
            self.definitions.push(b',');
        }
        self.metrics.push(metric.name.to_owned());
        self.definitions.extend_from_slice(&metric.definition);
        self.values.push(b',');
        self.values.extend_from_slice(&metric.key);
        self.values.extend_from_slice(value);
    }

    /// Writes its line, if it has metrics, and forgets them.
    fn write(&mut self, frame: &Frame, payload: &mut Vec<u8>) {
        if self.metrics.is_empty() {
            return;
        }
        payload.extend_from_slice(br#"{"_aws":{"Timestamp":"#);
        payload.extend_from_slice(itoa::Buffer::new().format(self.time).as_bytes());
        payload.extend_from_slice(br#","CloudWatchMetrics":[{"Namespace":"#);
        payload.extend_from_slice(&frame.namespace);
        payload.extend_from_slice(br#","Dimensions":"#);
        payload.extend_from_slice(&self.dimensions);
        payload.extend_from_slice(br#","Metrics":["#);
        payload.extend_from_slice(&self.definitions);
        payload.extend_from_slice(b"]}]}");
        if !self.labels.is_empty() {
            payload.push(b',');
            payload.extend_from_slice(&self.labels);
        }
        for (name, member) in &frame.properties {
            // What is measured, and of what, goes before what is said besides.
            if !self.hidden.contains(name) && !self.metrics.contains(name) {
                payload.push(b',');
                payload.extend_from_slice(member);
            }
        }
        payload.extend_from_slice(&self.values);
        payload.extend_from_slice(b"}\n");
        self.metrics.clear();
        self.definitions.clear();
        self.values.clear();
    }
}

/// Metrics in one directive.
const MOST_METRICS: usize = 100;

/// What a line has besides what is counted: the members that the format prescribes, and a time of up to 20 digits.
const FIXED: usize =
    br#"{"_aws":{"Timestamp":,"CloudWatchMetrics":[{"Namespace":,"Dimensions":,"Metrics":[]}]},}"#.len() + 20 + 1;
