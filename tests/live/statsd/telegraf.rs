//! Telegraf with its StatsD input, writing what it gathers into a file.

use super::reading::{Reading, Server, Timer, metric};
use crate::program::{Folder, PATIENCE, Program, installed};
use serde_json::Value;
use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::process::Command;

pub struct Telegraf {
    // Dropped in this order: first the server ends, then its folder goes.
    program: Program,
    pub address: SocketAddr,
    folder: Folder,
}

impl Telegraf {
    /// Starts it on a port that the system picks. `protocol` is `udp` or `tcp`; `settings` are further lines of its input.
    pub fn start(protocol: &str, settings: &[&str]) -> Telegraf {
        let folder = Folder::create("telegraf");
        let configuration = folder.path().join("telegraf.conf");
        let text = format!(
            "[agent]
  interval = '100ms'
  flush_interval = '100ms'
  round_interval = false
  omit_hostname = true
[[inputs.statsd]]
  protocol = '{protocol}'
  service_address = '127.0.0.1:0'
  max_tcp_connections = 10
  # What it has is what came since its start.
  delete_gauges = false
  delete_counters = false
  delete_sets = false
  delete_timings = false
  # In the order of their coming.
  number_workers_threads = 1
  {}
[[outputs.file]]
  files = ['{}']
  data_format = 'json'
",
            settings.join("\n  "),
            folder.path().join(FILE).display()
        );
        fs::write(&configuration, text).expect("the folder can be written");
        let mut program = Program::start(
            Command::new(installed("telegraf-1.39.0/telegraf"))
                .arg("--non-strict-env-handling")
                .arg("--config")
                .arg(configuration),
        );
        let address = program.wait_for_line(PATIENCE, |line| {
            let (_, address) = line.split_once(" listening on ")?;
            address.trim_matches('"').parse().ok()
        });
        let address = address.unwrap_or_else(|error| panic!("{error}"));
        Telegraf {
            program,
            address,
            folder,
        }
    }
}

impl Server for Telegraf {
    /// The latest line of each metric.
    fn read(&mut self) -> Reading {
        let text = match fs::read_to_string(self.folder.path().join(FILE)) {
            Ok(text) => text,
            // Written with the first metric.
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => panic!("Telegraf's file: {error}"),
        };
        let mut reading = Reading::default();
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        for line in whole.lines() {
            let found: Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("Telegraf wrote {line}: {error}"));
            let tags = found["tags"].as_object().expect("a metric has tags");
            let tags = tags
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str().expect("a tag is text")));
            let (kind, tags): (Vec<_>, Vec<_>) = tags.partition(|(name, _)| *name == "metric_type");
            let metric = metric(found["name"].as_str().expect("a metric has a name"), tags);
            let field = |name: &str| {
                found["fields"][name]
                    .as_f64()
                    .unwrap_or_else(|| panic!("{line} has no {name}"))
            };
            match kind.first().map(|(_, kind)| *kind) {
                Some("counter") => {
                    reading.counters.insert(metric, field("value"));
                }
                Some("gauge") => {
                    reading.gauges.insert(metric, field("value"));
                }
                Some("set") => {
                    reading.sets.insert(metric, field("value") as u64);
                }
                Some("timing" | "histogram") => {
                    reading.timers.insert(metric, Timer::count(field("count") as u64));
                }
                // One line each.
                Some("distribution") => reading.timers.entry(metric).or_default().count += 1,
                kind => panic!("{line} is of the kind {kind:?}"),
            }
        }
        reading
    }

    fn report(&mut self) -> String {
        self.program.report("receives")
    }
}

const FILE: &str = "metrics.json";
