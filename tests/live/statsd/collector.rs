//! A Collector of OpenTelemetry with its StatsD receiver, writing what comes of each of its windows into a file.

use super::reading::{Bounds, Metric, Reading, Server, Timer};
use super::sockets::{Kind, listens};
use crate::json;
use crate::points::{Attribute, Number, Point, Value, points, totals};
use crate::program::{Folder, PATIENCE, Program, installed};
use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

pub struct StatsdCollector {
    // Dropped in this order: first the server ends, then its folder goes.
    program: Program,
    address: Option<SocketAddr>,
    folder: Folder,
}

impl StatsdCollector {
    /// Starts it over UDP on a port that the system picks, with those bounds for the metrics of those names.
    pub fn over_udp(bounds: Bounds<'_>) -> StatsdCollector {
        StatsdCollector::over_udp_in_windows("100ms", bounds)
    }

    /// The same, with windows of another length than is usual here.
    pub fn over_udp_in_windows(length: &str, bounds: Bounds<'_>) -> StatsdCollector {
        let folder = Folder::create("statsd-collector");
        let mut collector = StatsdCollector::start(folder, ["udp", "127.0.0.1:0", length], bounds);
        collector.address = Some(listens(&mut collector.program, Kind::Udp, [127, 0, 0, 1]));
        collector
    }

    /// The same with a datagram socket of the file system.
    pub fn over_unixgram(bounds: Bounds<'_>) -> StatsdCollector {
        let folder = Folder::create("statsd-collector");
        let endpoint = folder.path().join(SOCKET).display().to_string();
        StatsdCollector::start(folder, ["unixgram", &endpoint, "100ms"], bounds)
    }

    fn start(folder: Folder, [transport, endpoint, window]: [&str; 3], bounds: Bounds<'_>) -> StatsdCollector {
        let configuration = folder.path().join("collector.yml");
        let of_name = |(name, bounds): &(&str, &[f64])| format!("{{matcher_pattern: '^{name}$', buckets: {bounds:?}}}");
        let mut buckets: Vec<String> = bounds.iter().map(of_name).collect();
        // What nothing else matches would have buckets that grow by themselves.
        buckets.push("{matcher_pattern: '.*', buckets: [1]}".to_string());
        let histogram = format!("{{explicit_buckets: [{}]}}", buckets.join(", "));
        // Distributions are histograms to it.
        let mappings = ["timing", "histogram"]
            .map(|kind| format!("{{statsd_type: {kind}, observer_type: histogram, histogram: {histogram}}}"));
        let text = format!(
            "receivers:
  statsd:
    endpoint: {endpoint}
    transport: {transport}
    aggregation_interval: {window}
    counter_type: float
    enable_simple_tags: true
    is_monotonic_counter: true
    timer_histogram_mapping: [{}]
exporters:
  file:
    path: '{}'
    # With rotation, even if it never comes to it, nothing is buffered.
    rotation: {{max_megabytes: 1000000}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    metrics: {{receivers: [statsd], exporters: [file]}}
",
            mappings.join(", "),
            folder.path().join(FILE).display()
        );
        fs::write(&configuration, text).expect("the folder can be written");
        let mut program = Program::start(
            Command::new(installed("collector-0.162.0/otelcol"))
                .arg("--config")
                .arg(configuration),
        );
        let ready = program.wait_for_line(PATIENCE, |line| line.contains("Everything is ready").then_some(()));
        ready.unwrap_or_else(|error| panic!("{error}"));
        StatsdCollector {
            program,
            address: None,
            folder,
        }
    }

    /// Where it listens over UDP.
    pub fn address(&self) -> SocketAddr {
        self.address.expect("it listens over UDP")
    }

    /// Where it listens in the file system.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join(SOCKET)
    }

    fn points(&self) -> Vec<Point> {
        let text = match fs::read_to_string(self.folder.path().join(FILE)) {
            Ok(text) => text,
            // Written with the first window.
            Err(error) if error.kind() == ErrorKind::NotFound => return Vec::new(),
            Err(error) => panic!("the Collector's file: {error}"),
        };
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        let of_line = |line: &str| {
            let read = json::request(line.as_bytes()).and_then(|request| points(&request));
            read.unwrap_or_else(|error| panic!("the Collector wrote {line}: {error}"))
        };
        whole.lines().flat_map(of_line).collect()
    }
}

impl Server for StatsdCollector {
    /// What all its windows come to.
    fn read(&mut self) -> Reading {
        let mut reading = Reading::default();
        for (series, value) in totals(&self.points()) {
            let tags = series.attributes.into_iter().map(|(name, value)| match value {
                Attribute::Text(text) => (name, text),
                other => panic!("the tag {name} is {other:?}"),
            });
            let metric: Metric = (series.name, tags.collect());
            match value {
                Value::Sum { value, .. } => {
                    reading.counters.insert(metric, number(value));
                }
                Value::Gauge(value) => {
                    reading.gauges.insert(metric, number(value));
                }
                Value::Histogram(histogram) => {
                    let timer = Timer {
                        count: histogram.count,
                        buckets: histogram.buckets,
                    };
                    reading.timers.insert(metric, timer);
                }
            }
        }
        reading
    }

    fn report(&mut self) -> String {
        self.program.report("receives")
    }
}

fn number(number: Number) -> f64 {
    match number {
        Number::Integer(value) => value as f64,
        Number::Double(value) => value,
    }
}

const FILE: &str = "points.json";
const SOCKET: &str = "statsd.sock";
