//! A real Pushgateway on a loopback port, with what its own interfaces say it has.

use crate::program::{Folder, PATIENCE, Program, installed, word_after};
use crate::receiver::own_address;
use crate::sample::Samples;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;

/// The labels of a group.
pub type Labels = BTreeMap<String, String>;

/// What the gateway knows of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Whether its last push was taken.
    pub is_good: bool,
    /// Without the gateway's own: by the names of samples, the type of each metric, and its values with the labels that are not the
    /// group's.
    pub metrics: BTreeMap<String, (String, Vec<(Labels, String)>)>,
}

impl Group {
    /// Its values, to be compared with what others have.
    pub fn samples(&self) -> Samples {
        let mut samples = Samples::new();
        for (name, (_, series)) in &self.metrics {
            for (labels, value) in series {
                samples.insert(name, labels, value.parse().expect("the API spells numbers"));
            }
        }
        samples
    }
}

pub struct Gateway {
    // Dropped in this order: first the server ends, then its folder goes.
    program: Option<Program>,
    pub address: SocketAddr,
    flags: &'static [&'static str],
    folder: Folder,
}

impl Gateway {
    /// Starts it on a port that the system picks.
    pub fn start() -> Gateway {
        Gateway::start_with(&[])
    }

    /// Starts it with further flags. What it is configured with, users among it, is the file `web.yml` in its folder.
    ///
    /// It has an address of its own: nobody else gets its port while it does not run.
    pub fn start_with(flags: &'static [&'static str]) -> Gateway {
        Gateway::start_at(own_address(), Folder::create("pushgateway"), flags, "")
    }

    /// The same, with more in its folder and in that file. Certificates are for the usual address.
    #[cfg(feature = "tls")]
    pub fn start_in(folder: Folder, flags: &'static [&'static str], configuration: &str) -> Gateway {
        Gateway::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), folder, flags, configuration)
    }

    fn start_at(address: SocketAddr, folder: Folder, flags: &'static [&'static str], configuration: &str) -> Gateway {
        let configuration = format!("{configuration}{USERS}");
        fs::write(folder.path().join("web.yml"), configuration).expect("the folder can be written");
        let mut gateway = Gateway {
            program: None,
            address,
            flags,
            folder,
        };
        gateway.start_again();
        gateway
    }

    /// Starts it on the port that it had, after it was killed. It has forgotten everything.
    pub fn start_again(&mut self) {
        assert!(self.program.is_none(), "the gateway runs");
        let mut program = Program::start(
            Command::new(installed("pushgateway-1.11.3/pushgateway"))
                .arg(format!("--web.listen-address={}", self.address))
                .args(self.flags)
                .current_dir(self.folder.path()),
        );
        // Its own log says where it listens, so nobody else on that port can be taken for it.
        let address = program.wait_for_line(PATIENCE, |line| match line.contains("Listening on") {
            true => word_after(line, "address=")?.parse().ok(),
            false => None,
        });
        self.address = address.unwrap_or_else(|error| panic!("{error}"));
        self.program = Some(program);
    }

    /// The folder that it runs in.
    #[cfg(feature = "tls")]
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        drop(self.program.take().expect("the gateway runs"));
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its groups by their labels.
    pub fn groups(&mut self) -> BTreeMap<Labels, Group> {
        let answer = self.get("/api/v1/metrics");
        let answer: Value = serde_json::from_str(&answer).expect("the API speaks JSON");
        let groups = answer["data"]
            .as_array()
            .unwrap_or_else(|| panic!("no groups: {answer}"));
        groups
            .iter()
            .map(|group| (labels(&group["labels"]), read(group)))
            .collect()
    }

    /// The one group that has these labels, `job` among them.
    pub fn group<const N: usize>(&mut self, labels: [(&str, &str); N]) -> Option<Group> {
        let labels = labels.map(|(name, value)| (name.to_string(), value.to_string()));
        self.groups().remove(&Labels::from(labels))
    }

    /// What it answers to a scrape.
    pub fn exposition(&mut self) -> String {
        self.get("/metrics")
    }

    fn get(&mut self, path: &str) -> String {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .proxy(None)
            .build()
            .new_agent();
        let answer = agent
            .get(format!("http://{}{path}", self.address))
            .call()
            .and_then(|mut reply| reply.body_mut().read_to_string());
        answer.unwrap_or_else(|error| {
            let program = self.program.as_mut().expect("the gateway runs");
            panic!("{}", program.report(&format!("answers {path}: {error}")))
        })
    }
}

/// Whether a line of its exposition is about itself, or about a group as such.
pub fn is_own(line: &str) -> bool {
    let name = line.trim_start_matches("# HELP ").trim_start_matches("# TYPE ");
    ["go_", "process_", "promhttp_", "pushgateway_", "push_"]
        .iter()
        .any(|own| name.starts_with(own))
}

fn labels(object: &Value) -> Labels {
    let labels = object.as_object().expect("labels are an object").iter();
    labels.map(|(name, value)| (name.clone(), text(value))).collect()
}

fn text(value: &Value) -> String {
    value.as_str().expect("labels, types and numbers are texts").to_owned()
}

fn read(group: &Value) -> Group {
    let of_group = labels(&group["labels"]);
    let mut metrics = BTreeMap::new();
    for (name, family) in group.as_object().expect("a group is an object") {
        let Some(values) = family["metrics"].as_array() else {
            continue;
        };
        if name.starts_with("push_") {
            continue;
        }
        let kind = text(&family["type"]);
        for series in values {
            let mut own = labels(&series["labels"]);
            // Of a group that has none, it is added, and empty.
            own.retain(|name, value| !of_group.contains_key(name) && (name != "instance" || !value.is_empty()));
            let mut add = |name: String, labels: Labels, value: &Value| {
                let (_, found) = metrics.entry(name).or_insert_with(|| (kind.clone(), Vec::new()));
                found.push((labels, text(value)));
            };
            let Some(buckets) = series["buckets"].as_object() else {
                add(name.clone(), own, &series["value"]);
                continue;
            };
            for (bound, count) in buckets {
                let mut labels = own.clone();
                labels.insert("le".to_owned(), bound.clone());
                add(format!("{name}_bucket"), labels, count);
            }
            add(format!("{name}_count"), own.clone(), &series["count"]);
            add(format!("{name}_sum"), own, &series["sum"]);
        }
    }
    Group {
        is_good: group["last_push_successful"] == true,
        metrics,
    }
}

/// The user `me`, whose password is in the tests.
const USERS: &str = "basic_auth_users:\n  me: $2a$04$Wkxoc6RiTu3XMSsr4XFlRuK2FXETPtsiMwBYEQBfOatPaVzJeLlJC\n";
