//! The parsers of Prometheus itself and of the official Python client, as programs.

use crate::program::{installed, project};
use crate::sample::Samples;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

#[derive(Clone, Copy, Debug)]
pub enum Parser {
    /// `model/textparse` of Prometheus 3.15: what a server would store.
    Go,
    /// `prometheus_client`: lax about the classic text format, the strictest there is about OpenMetrics.
    Python,
}

/// What a parser made of an exposition.
#[derive(Debug)]
pub struct Parsed {
    pub samples: Samples,
    /// Type, help and unit by family name, for families that have samples.
    pub families: BTreeMap<String, (String, String, String)>,
}

/// Has `parser` read an exposition of that content type. A syntax error is an error with the parser's words.
pub fn parse(parser: Parser, content_type: &str, exposition: &[u8]) -> Result<Parsed, String> {
    let mut command = match parser {
        Parser::Go => Command::new(installed("textparse")),
        Parser::Python => {
            let mut python = Command::new(installed("python/bin/python"));
            python.arg(project().join(".ci/parser/parse.py"));
            python
        }
    };
    let mut child = command
        .arg(content_type)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("the {parser:?} parser does not start: {error}"));
    // Both programs read all of their input before they print, so this cannot block for good.
    let mut input = child.stdin.take().expect("stdin is piped");
    input
        .write_all(exposition)
        .unwrap_or_else(|error| panic!("the {parser:?} parser does not read: {error}"));
    drop(input);
    let output = child.wait_with_output().expect("a child can be waited for");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    Ok(collect(text.lines().map(|line| {
        serde_json::from_str(line).expect("every line is one JSON object")
    })))
}

impl Parsed {
    /// Type, help and unit of a family. The classic text format writes a counter's metadata under its sample's
    /// name, OpenMetrics under the name without `_total`: either is found.
    pub fn family(&self, name: &str) -> &(String, String, String) {
        let total = format!("{name}_total");
        let found = self.families.get(name).or_else(|| self.families.get(&total));
        found.unwrap_or_else(|| panic!("no family {name} was read, only {:?}", self.families.keys()))
    }
}

fn collect(objects: impl Iterator<Item = Value>) -> Parsed {
    let mut parsed = Parsed {
        samples: Samples::new(),
        families: BTreeMap::new(),
    };
    for object in objects {
        let text = |field: &str| object[field].as_str().expect("this field is a string").to_string();
        let labels = object["labels"].as_object().expect("labels are an object");
        let labels = labels
            .iter()
            .map(|(name, value)| (name, value.as_str().expect("a label value is a string")));
        let value: f64 = text("value").parse().expect("values are spelled as numbers");
        assert!(
            object["timestamp"].is_null(),
            "a sample has a timestamp, which no client should send: {object}"
        );
        parsed.samples.insert(&text("name"), labels, value);
        parsed
            .families
            .insert(text("family"), (text("type"), text("help"), text("unit")));
    }
    parsed
}
