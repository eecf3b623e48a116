//! Etsy's daemon, with a backend that prints each flush: the interface that it has for everybody who wants its data.

use super::reading::{Metric, Reading, Server};
use super::sockets::{Kind, listens};
use crate::program::{Folder, PATIENCE, Program, installed};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::process::Command;

pub struct Etsy {
    // Dropped in this order: first the server ends, then its folder goes.
    program: Program,
    pub udp: SocketAddr,
    pub tcp: SocketAddr,
    /// What all flushes so far come to.
    reading: Reading,
    sets: BTreeMap<Metric, BTreeSet<String>>,
    bad_lines: f64,
    _folder: Folder,
}

impl Etsy {
    pub fn start() -> Etsy {
        let folder = Folder::create("etsy");
        let backend = folder.path().join("print.js");
        fs::write(&backend, BACKEND).expect("the folder can be written");
        let configuration = folder.path().join("config.js");
        // A port that is the text 0 is not taken for one that is missing.
        let settings = format!(
            "{{
  servers: [{{server: './servers/udp', address: '127.0.0.1', port: '0'}}, {{server: './servers/tcp', address: '127.0.0.2', port: '0'}}],
  mgmt_address: '127.0.0.3', mgmt_port: '0',
  flushInterval: 100, backends: ['{}'], automaticConfigReload: false
}}",
            backend.display()
        );
        fs::write(&configuration, settings).expect("the folder can be written");
        let mut program = Program::start(
            Command::new("node")
                .arg(installed("statsd-0.9.0/node_modules/statsd/stats.js"))
                .arg(configuration),
        );
        let udp = listens(&mut program, Kind::Udp, [127, 0, 0, 1]);
        let tcp = listens(&mut program, Kind::Tcp, [127, 0, 0, 2]);
        Etsy {
            program,
            udp,
            tcp,
            reading: Reading::default(),
            sets: BTreeMap::new(),
            bad_lines: 0.0,
            _folder: folder,
        }
    }

    /// Lines that it did not understand.
    pub fn bad_lines(&self) -> f64 {
        self.bad_lines
    }
}

impl Server for Etsy {
    /// Waits for its next flush.
    fn read(&mut self) -> Reading {
        let flush = self.program.wait_for_line(PATIENCE, |line| {
            let flush = line.strip_prefix("FLUSH ")?;
            Some(serde_json::from_str::<Value>(flush).expect("the backend prints JSON"))
        });
        let flush = flush.unwrap_or_else(|error| panic!("{error}"));
        // What was counted once is there with 0 from then on.
        for (name, value) in object(&flush, "counters") {
            match name.as_str() {
                "statsd.bad_lines_seen" => self.bad_lines += number(value),
                name if name.starts_with("statsd.") => {}
                name => *self.reading.counters.entry(metric(name)).or_default() += number(value),
            }
        }
        for (name, value) in object(&flush, "gauges") {
            if !name.starts_with("statsd.") {
                self.reading.gauges.insert(metric(name), number(value));
            }
        }
        for (name, value) in object(&flush, "timer_counters") {
            let timer = self.reading.timers.entry(metric(name)).or_default();
            timer.count += number(value) as u64;
        }
        for (name, values) in object(&flush, "sets") {
            let set = self.sets.entry(metric(name)).or_default();
            let values = values.as_array().expect("a set is a list");
            set.extend(values.iter().map(|value| value.as_str().expect("of texts").to_string()));
            self.reading.sets.insert(metric(name), set.len() as u64);
        }
        self.reading.clone()
    }

    fn report(&mut self) -> String {
        self.program.report("receives")
    }
}

/// It calls a metric with tags `name;tag=value`.
fn metric(name: &str) -> Metric {
    let mut parts = name.split(';');
    let name = parts.next().unwrap_or_default();
    super::reading::metric(name, parts.map(|tag| tag.split_once('=').unwrap_or((tag, ""))))
}

fn object<'a>(value: &'a Value, name: &str) -> &'a Map<String, Value> {
    value[name].as_object().unwrap_or_else(|| panic!("{name} is an object"))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is a number"))
}

const BACKEND: &str = "
exports.init = (startup, config, events) => {
  events.on('flush', (time, {counters, gauges, timer_counters, sets}) => {
    const values = Object.fromEntries(Object.entries(sets).map(([name, set]) => [name, set.values()]));
    console.log('FLUSH ' + JSON.stringify({counters, gauges, timer_counters, sets: values}));
  });
  return true;
};
";
