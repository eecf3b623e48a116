//! A real Prometheus on a loopback port of its own choice, with storage that goes when it does. It scrapes a target,
//! or is pushed to.

use crate::program::{Folder, PATIENCE, Program, installed, word_after};
use crate::sample::{Samples, spelled};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// The servers that `.ci/servers` installs: the newest, and the oldest still in use.
#[derive(Clone, Copy, Debug)]
pub enum Release {
    V3_15,
    V2_42,
}

impl Release {
    fn program(self) -> PathBuf {
        installed(match self {
            Release::V3_15 => "prometheus-3.15.0/prometheus",
            Release::V2_42 => "prometheus-2.42/prometheus",
        })
    }
}

/// What a server is told beyond the address of its target.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub release: Release,
    /// Further command line flags.
    pub flags: &'static [&'static str],
    /// Further lines of the scrape configuration.
    pub scrape: &'static [&'static str],
    /// Further lines of the configuration.
    pub configuration: &'static [&'static str],
}

impl Settings {
    /// A server of that release with nothing but its defaults.
    pub fn of(release: Release) -> Settings {
        Settings {
            release,
            flags: &[],
            scrape: &[],
            configuration: &[],
        }
    }

    /// The newest server, receiving OTLP at its defaults: it refuses increments, and points that are older than the
    /// newest of their series.
    pub fn receiving_otlp() -> Settings {
        Settings {
            flags: &["--web.enable-otlp-receiver"],
            ..Settings::of(Release::V3_15)
        }
    }

    /// The newest server, receiving OTLP, that adds increments up and takes points in any order.
    pub fn receiving_otlp_deltas() -> Settings {
        Settings {
            flags: &["--web.enable-otlp-receiver", "--enable-feature=otlp-deltatocumulative"],
            configuration: &["storage: {tsdb: {out_of_order_time_window: 1h}}"],
            ..Settings::of(Release::V3_15)
        }
    }
}

pub struct Prometheus {
    // Dropped in this order: first the server ends, then its folder goes.
    program: Program,
    address: SocketAddr,
    _folder: Folder,
}

impl Prometheus {
    /// Starts a server that scrapes `target`, on a port that the system picks.
    pub fn start(settings: Settings, target: SocketAddr) -> Prometheus {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        Prometheus::listen(settings, Some(target), any_port).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts a server that scrapes nothing, on a port that the system picks.
    pub fn receive(settings: Settings) -> Prometheus {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        Prometheus::listen(settings, None, any_port).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts a server on `listen`. Its own log says where it listens and when it is ready, so neither an
    /// orphan of an earlier run nor anyone else on that port can be taken for it.
    pub fn listen(settings: Settings, target: Option<SocketAddr>, listen: SocketAddr) -> Result<Prometheus, String> {
        let folder = Folder::create("prometheus");
        let configuration = folder.path().join("prometheus.yml");
        fs::write(&configuration, configure(settings, target)).expect("the folder can be written");
        let mut program = Program::start(
            Command::new(settings.release.program())
                .arg(format!("--config.file={}", configuration.display()))
                .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
                .arg(format!("--web.listen-address={listen}"))
                // Hidden, and without it the first scrape comes after five seconds.
                .arg("--scrape.discovery-reload-interval=100ms")
                .args(settings.flags),
        );
        // The two lines come in either order.
        let (mut address, mut ready) = (None::<SocketAddr>, false);
        let address = program.wait_for_line(PATIENCE, |line| {
            if line.contains("Listening on") {
                address = word_after(line, "address=").and_then(|word| word.parse().ok());
            }
            ready |= line.contains("Server is ready");
            address.filter(|_| ready)
        })?;
        Ok(Prometheus {
            program,
            address,
            _folder: folder,
        })
    }

    /// Every series of the target with its last value, without the labels and series that the server itself adds.
    pub fn scraped(&mut self) -> Samples {
        let mut samples = Samples::new();
        for (name, labels, value) in self.while_up(|prometheus| prometheus.query(r#"{job="tidegauge"}"#)) {
            if name != "up" && !name.starts_with("scrape_") {
                samples.insert(&name, labels, value);
            }
        }
        samples
    }

    /// Every series that was pushed, with its last value, without the labels `job` and `instance`, which come from the
    /// resource. They are selected by the `job`: the resource's `service.name`.
    pub fn pushed(&mut self, job: &str) -> Samples {
        let mut samples = Samples::new();
        for (name, labels, value) in self.query(&format!("{{job={job:?}}}")) {
            // The resource's other attributes, and a gateway's own.
            if !["target_info", "push_time_seconds", "push_failure_time_seconds"].contains(&name.as_str()) {
                samples.insert(&name, labels, value);
            }
        }
        samples
    }

    /// Every series of that `job`, without the labels `job` and `instance`, and with `le` in one spelling. Those that the crate adds are among them.
    pub fn series(&mut self, job: &str) -> BTreeSet<(String, BTreeMap<String, String>)> {
        let series = self.query(&format!("{{job={job:?}}}"));
        let spelled = |(name, value): (String, String)| {
            let value = spelled(&name, &value);
            (name, value)
        };
        series
            .into_iter()
            .map(|(name, labels, _)| (name, labels.into_iter().map(spelled).collect()))
            .collect()
    }

    /// Whether the expression has a value.
    pub fn has(&mut self, expression: &str) -> bool {
        !self.query(expression).is_empty()
    }

    /// Where to post metrics over OTLP.
    pub fn otlp_url(&self) -> String {
        format!("http://{}/api/v1/otlp/v1/metrics", self.address)
    }

    /// Fails unless scrapes succeed, with what the server says about it.
    pub fn assert_up(&mut self) {
        self.while_up(|_| ());
    }

    /// What `read` finds while the last scrape is one that succeeded.
    ///
    /// On a machine with other work to do a scrape may take longer than it may, and then all series of the target are gone until
    /// the next one: that is waited for. Whatever else a scrape fails of fails the test.
    pub fn while_up<T>(&mut self, mut read: impl FnMut(&mut Prometheus) -> T) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.is_up() {
                let found = read(self);
                if self.is_up() {
                    return found;
                }
            }
            assert!(
                Instant::now() < deadline,
                "{}",
                self.program
                    .report(&format!("has not scraped in time for {PATIENCE:?}"))
            );
            thread::yield_now();
        }
    }

    /// Whether the last scrape succeeded; false if it was late, or if there was none.
    fn is_up(&mut self) -> bool {
        // There is none at first.
        let target = self.get("targets", &[])["activeTargets"]
            .get(0)
            .cloned()
            .unwrap_or_default();
        let up: Vec<f64> = self
            .query(r#"up{job="tidegauge"}"#)
            .into_iter()
            .map(|(_, _, value)| value)
            .collect();
        let error = target["lastError"].as_str().unwrap_or_default();
        if !error.is_empty() && !error.contains("context deadline exceeded") {
            panic!("{}", self.program.report(&format!("says up = {up:?} and {target}")));
        }
        target["health"] == "up" && error.is_empty() && up == [1.0]
    }

    /// Type, help and unit of a family, under the name it has on its metadata lines.
    pub fn metadata(&mut self, family: &str) -> (String, String, String) {
        let all = self.while_up(|prometheus| {
            prometheus.get(
                "targets/metadata",
                &[("match_target", r#"{job="tidegauge"}"#), ("metric", family)],
            )
        });
        let found = &all[0];
        let field = |name: &str| found[name].as_str().unwrap_or("missing").to_string();
        (field("type"), field("help"), field("unit"))
    }

    fn query(&mut self, expression: &str) -> Vec<(String, BTreeMap<String, String>, f64)> {
        // The lives of one series are pushed a millisecond apart, and so some of them a moment before their time.
        let soon = SystemTime::now() + Duration::from_secs(1);
        let soon = soon.duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970");
        let time = soon.as_secs_f64().to_string();
        let data = self.get("query", &[("query", expression), ("time", &time)]);
        let series = data["result"].as_array().unwrap_or_else(|| panic!("no vector: {data}"));
        series.iter().map(one_series).collect()
    }

    /// The `data` of an answer of the HTTP API.
    fn get(&mut self, endpoint: &str, parameters: &[(&str, &str)]) -> Value {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .build()
            .new_agent();
        let answer = agent
            .get(format!("http://{}/api/v1/{endpoint}", self.address))
            .query_pairs(parameters.iter().copied())
            .call()
            .and_then(|mut reply| reply.body_mut().read_to_string());
        match answer {
            Ok(body) => serde_json::from_str::<Value>(&body).expect("the API speaks JSON")["data"].take(),
            Err(error) => panic!("{}", self.program.report(&format!("answers /{endpoint}: {error}"))),
        }
    }
}

fn configure(settings: Settings, target: Option<SocketAddr>) -> String {
    let mut lines = vec!["global: {scrape_interval: 2s, scrape_timeout: 2s}".to_string()];
    lines.extend(settings.configuration.iter().map(|line| line.to_string()));
    if let Some(target) = target {
        lines.extend([
            "scrape_configs:".to_string(),
            "- job_name: tidegauge".to_string(),
            format!("  static_configs: [{{targets: ['{target}']}}]"),
        ]);
        lines.extend(settings.scrape.iter().map(|line| format!("  {line}")));
    }
    lines.join("\n") + "\n"
}

/// One element of an instant vector, without the labels that say which target it came from.
fn one_series(series: &Value) -> (String, BTreeMap<String, String>, f64) {
    let labels = series["metric"].as_object().expect("a series has labels");
    let mut labels: BTreeMap<String, String> = labels
        .iter()
        .map(|(name, value)| {
            (
                name.clone(),
                value.as_str().expect("a label value is a string").to_string(),
            )
        })
        .collect();
    let name = labels.remove("__name__").unwrap_or_default();
    labels.remove("job");
    labels.remove("instance");
    let value = series["value"][1].as_str().expect("a value is a string");
    (
        name,
        labels,
        value.parse().unwrap_or_else(|error| panic!("{value}: {error}")),
    )
}
