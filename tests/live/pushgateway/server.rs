//! A real Pushgateway on a loopback port, with what its own interfaces say it has.

use crate::program::{Folder, PATIENCE, Program, installed, word_after};
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
    /// Without the gateway's own: the type of each metric, and its values with the labels that are not the group's.
    pub metrics: BTreeMap<String, (String, Vec<(Labels, String)>)>,
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
    pub fn start_with(flags: &'static [&'static str]) -> Gateway {
        Gateway::start_in(Folder::create("pushgateway"), flags, "")
    }

    /// The same, with more in its folder and in that file.
    pub fn start_in(folder: Folder, flags: &'static [&'static str], configuration: &str) -> Gateway {
        let configuration = format!("{configuration}{USERS}");
        fs::write(folder.path().join("web.yml"), configuration).expect("the folder can be written");
        let mut gateway = Gateway {
            program: None,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
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
    labels
        .map(|(name, value)| {
            (
                name.clone(),
                value.as_str().expect("a label's value is a text").to_string(),
            )
        })
        .collect()
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
        let series = values.iter().map(|series| {
            let mut own = labels(&series["labels"]);
            // Of a group that has none, it is added, and empty.
            own.retain(|name, value| !of_group.contains_key(name) && (name != "instance" || !value.is_empty()));
            // Of a histogram, all that there is.
            let value = series["value"].as_str().map(str::to_owned);
            let value = value.unwrap_or_else(|| format!("{} {} {}", series["count"], series["sum"], series["buckets"]));
            (own, value)
        });
        let kind = family["type"].as_str().expect("a family has a type").to_string();
        metrics.insert(name.clone(), (kind, series.collect()));
    }
    Group {
        is_good: group["last_push_successful"] == true,
        metrics,
    }
}

/// The user `me`, whose password is in the tests.
const USERS: &str = "basic_auth_users:\n  me: $2a$04$Wkxoc6RiTu3XMSsr4XFlRuK2FXETPtsiMwBYEQBfOatPaVzJeLlJC\n";
