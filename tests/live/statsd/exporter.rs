//! statsd_exporter, with what it exposes to Prometheus.

use super::reading::{Bounds, Reading, Server, Timer, metric};
use super::sockets::{Kind, listens};
use crate::program::{Folder, PATIENCE, Program, installed};
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

pub struct StatsdExporter {
    // Dropped in this order: first the server ends, then its folder goes.
    program: Program,
    pub udp: SocketAddr,
    pub tcp: SocketAddr,
    web: SocketAddr,
    _folder: Folder,
}

impl StatsdExporter {
    /// Starts it on ports that the system picks, with those bounds for the metrics of those names.
    pub fn start(bounds: Bounds<'_>) -> StatsdExporter {
        StatsdExporter::listening(bounds, None)
    }

    /// Starts it with a datagram socket at that path besides, which must not be there.
    pub fn start_at(path: PathBuf, bounds: Bounds<'_>) -> StatsdExporter {
        StatsdExporter::listening(bounds, Some(path))
    }

    fn listening(bounds: Bounds<'_>, path: Option<PathBuf>) -> StatsdExporter {
        let folder = Folder::create("statsd-exporter");
        let mapping = folder.path().join("mapping.yml");
        let mut mappings = "mappings:\n".to_string();
        for (name, bounds) in bounds {
            mappings.push_str(&format!(
                "- {{match: {name}, name: {name}, observer_type: histogram, histogram_options: {{buckets: {bounds:?}}}}}\n"
            ));
        }
        fs::write(&mapping, mappings).expect("the folder can be written");
        let mut command = Command::new(installed("statsd-exporter-0.31.0/statsd_exporter"));
        command
            .arg("--web.listen-address=127.0.0.1:0")
            .arg("--statsd.listen-udp=127.0.0.1:0")
            .arg("--statsd.listen-tcp=127.0.0.2:0")
            .arg(format!("--statsd.mapping-config={}", mapping.display()))
            .arg("--statsd.event-flush-interval=20ms");
        if let Some(path) = &path {
            command.arg(format!("--statsd.listen-unixgram={}", path.display()));
        }
        let mut program = Program::start(&mut command);
        let udp = listens(&mut program, Kind::Udp, [127, 0, 0, 1]);
        let tcp = listens(&mut program, Kind::Tcp, [127, 0, 0, 2]);
        // It opens this one last, after the one at the path.
        let web = listens(&mut program, Kind::Tcp, [127, 0, 0, 1]);
        StatsdExporter {
            program,
            udp,
            tcp,
            web,
            _folder: folder,
        }
    }

    /// How long its threads have waited for a processor until now, all together.
    pub fn waited(&self) -> Duration {
        let threads = fs::read_dir(format!("/proc/{}/task", self.program.id())).expect("Linux lists its threads");
        // Running, waiting, and how often; of a thread that has just ended there is nothing.
        let waited = threads.flatten().filter_map(|thread| {
            let statistics = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            statistics.split_whitespace().nth(1)?.parse::<u64>().ok()
        });
        Duration::from_nanos(waited.sum())
    }

    /// Lets it do nothing from now on.
    pub fn pause(&self) {
        self.program.signal("STOP");
    }

    /// What it tells of itself: samples that it did not understand are counted here, by reason.
    pub fn own(&self) -> Reading {
        read(&self.exposition(), |name| name.starts_with("statsd_exporter_"))
    }

    /// How many samples it did not understand.
    pub fn errors(&self) -> f64 {
        let counters = self.own().counters;
        let errors = counters.iter().filter(|((name, _), _)| {
            [
                "statsd_exporter_sample_errors_total",
                "statsd_exporter_tag_errors_total",
            ]
            .contains(&name.as_str())
        });
        errors.map(|(_, count)| count).sum()
    }

    fn exposition(&self) -> String {
        let url = format!("http://{}/metrics", self.web);
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .build()
            .new_agent();
        let reply = agent
            .get(url)
            .call()
            .and_then(|mut reply| reply.body_mut().read_to_vec());
        let body = reply.unwrap_or_else(|error| panic!("statsd_exporter is not to be read: {error}"));
        String::from_utf8(body).expect("an exposition is text")
    }
}

impl Server for StatsdExporter {
    fn read(&mut self) -> Reading {
        read(&self.exposition(), |name| !of_itself(name))
    }

    fn report(&mut self) -> String {
        let own = self.own();
        self.program.report(&format!("says of itself {own:?}"))
    }
}

fn of_itself(name: &str) -> bool {
    let prefixes = [
        "statsd_exporter_",
        "statsd_metric_mapper_",
        "go_",
        "process_",
        "promhttp_",
    ];
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// Reads the classic text, as far as this server writes it and no tag has a quote, a brace or a comma.
fn read(exposition: &str, wanted: impl Fn(&str) -> bool) -> Reading {
    let mut reading = Reading::default();
    let mut cumulative: BTreeMap<_, Vec<u64>> = BTreeMap::new();
    let (mut family, mut kind) = ("", "");
    for line in exposition.lines() {
        if let Some(described) = line.strip_prefix("# TYPE ") {
            (family, kind) = described.split_once(' ').expect("a type has a name");
            continue;
        }
        if line.starts_with('#') || !wanted(family) {
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
        let value: f64 = value.parse().expect("a value is a number");
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.strip_suffix('}').unwrap_or("");
        let mut tags: BTreeMap<&str, &str> = labels
            .split_terminator(',')
            .map(|label| label.split_once('=').expect("a label has a value"))
            .map(|(name, value)| (name, value.trim_matches('"')))
            .collect();
        let bound = tags.remove("le");
        let metric = metric(family, tags);
        match kind {
            "counter" => {
                reading.counters.insert(metric, value);
            }
            "gauge" => {
                reading.gauges.insert(metric, value);
            }
            "histogram" if bound.is_some() => cumulative.entry(metric).or_default().push(value as u64),
            "histogram" | "summary" if name.ends_with("_count") => {
                reading.timers.insert(metric, Timer::count(value as u64));
            }
            "histogram" | "summary" => {}
            _ => panic!("{line} is of the kind {kind}"),
        }
    }
    for (metric, counts) in cumulative {
        let below = [0].into_iter().chain(counts.iter().copied());
        let buckets = counts.iter().zip(below).map(|(count, below)| count - below).collect();
        reading
            .timers
            .get_mut(&metric)
            .expect("a histogram has a count")
            .buckets = buckets;
    }
    reading
}
