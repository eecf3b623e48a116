//! What the `DD_*` variables ask for, as the official clients of DogStatsD hear them
//! (<https://docs.datadoghq.com/extend/dogstatsd/>, <https://docs.datadoghq.com/getting_started/tagging/unified_service_tagging/>).
//!
//! What cannot be read is left out and gives a sentence that names the variable, the rule and the fix.

use super::dialect::Cardinality;
use crate::destination::variables::{Variables, shown};
use std::{ffi::OsString, fmt::Write};

/// What the environment asks for.
#[derive(Debug, Default)]
pub(super) struct Environment {
    /// Where to send to.
    pub(super) url: Option<String>,
    /// The variable that `url` is from.
    pub(super) url_variable: &'static str,
    pub(super) disabled: bool,
    /// Whether the container is looked for; said by nobody, it is.
    pub(super) origin_detection: Option<bool>,
    pub(super) external_data: Option<String>,
    pub(super) cardinality: Option<Cardinality>,
    /// A tag without a value has an empty one.
    pub(super) tags: Vec<(String, String)>,
    /// In the order of the variables above, each a sentence.
    pub(super) problems: Vec<String>,
}

impl Environment {
    /// Reads all variables that clients of DogStatsD hear.
    pub(super) fn read(look_up: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let mut variables = Variables::new(look_up);
        let (url, url_variable) = match variables.text(URL) {
            Some(url) => (Some(url), URL),
            None => (variables.agent(), HOST),
        };
        let disabled = variables.one("DD_DOGSTATSD_DISABLE", FIX, boolean).unwrap_or(false);
        let origin_detection = variables.one("DD_ORIGIN_DETECTION_ENABLED", FIX, boolean);
        let external_data = variables.text("DD_EXTERNAL_ENV");
        let cardinality = ["DD_CARDINALITY", "DATADOG_CARDINALITY"]
            .iter()
            .find_map(|variable| variables.one(variable, FIX, cardinality));
        let mut tags = Vec::new();
        for variable in ["DD_TAGS", "DATADOG_TAGS"] {
            if let Some(given) = variables.one(variable, "give it a key, or leave it out", tags_of) {
                tags = given;
                break;
            }
        }
        for (variable, tag) in TAGS {
            if let Some(value) = variables.text(variable) {
                tags.push((tag.to_owned(), value));
            }
        }
        Environment {
            url,
            url_variable,
            disabled,
            origin_detection,
            external_data: external_data.as_deref().map(printable).filter(|data| !data.is_empty()),
            cardinality,
            tags,
            problems: variables.into_problems(),
        }
    }
}

impl Variables<'_> {
    /// The Agent by its host and port, or a host alone that is a URL, as the official clients take one.
    fn agent(&mut self) -> Option<String> {
        let host = self.text(HOST);
        let port = self.one("DD_DOGSTATSD_PORT", FIX, |port| match port.parse::<u16>() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(format!("must be a port between 1 and 65535, not {}", shown(port))),
        });
        if let Some(url) = host.as_deref().filter(|host| host.contains("://")) {
            return Some(url.to_owned());
        }
        if host.is_none() && port.is_none() {
            return None;
        }
        let host = host.unwrap_or_else(|| super::DEFAULT_HOST.to_owned());
        let is_bare_ipv6 = host.parse::<std::net::Ipv6Addr>().is_ok();
        // Behind the brackets of an IPv6 address, if it has them.
        let has_port = host.rsplit(']').next().is_some_and(|end| end.contains(':'));
        let mut url = match is_bare_ipv6 {
            true => format!("udp://[{host}]"),
            false => format!("udp://{host}"),
        };
        if let Some(port) = port.filter(|_| is_bare_ipv6 || !has_port) {
            let _ = write!(url, ":{port}");
        }
        Some(url)
    }
}

/// Words that one official client or another takes.
fn boolean(text: &str) -> Result<bool, String> {
    let is = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    match () {
        () if is(&["true", "t", "yes", "y", "on", "1"]) => Ok(true),
        () if is(&["false", "f", "no", "n", "off", "0"]) => Ok(false),
        () => Err(format!("must be true or false, not {}", shown(text))),
    }
}

fn cardinality(text: &str) -> Result<Cardinality, String> {
    Cardinality::named(text)
        .ok_or_else(|| format!("must be one of none, low, orchestrator and high, not {}", shown(text)))
}

/// `key:value` with commas between, or with blanks if there is no comma.
fn tags_of(text: &str) -> Result<Vec<(String, String)>, String> {
    let entries: Vec<&str> = match text.contains(',') {
        true => text.split(',').map(str::trim).collect(),
        false => text.split_ascii_whitespace().collect(),
    };
    let entries = entries.into_iter().filter(|entry| !entry.is_empty());
    entries
        .map(|entry| {
            let (key, value) = entry.split_once(':').unwrap_or((entry, ""));
            match key.trim() {
                "" => Err(format!(
                    "must be key:value pairs with commas between them, and has {}",
                    shown(entry)
                )),
                key => Ok((key.to_owned(), value.trim().to_owned())),
            }
        })
        .collect()
}

/// What the Agent injects into a container to know it by, without what would end the field.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .filter(|character| !character.is_control() && *character != '|')
        .collect()
}

const URL: &str = "DD_DOGSTATSD_URL";
const HOST: &str = "DD_AGENT_HOST";

/// Variables that are tags, and which; in the order in which the official clients add them.
const TAGS: [(&str, &str); 4] = [
    ("DD_ENTITY_ID", "dd.internal.entity_id"),
    ("DD_ENV", "env"),
    ("DD_SERVICE", "service"),
    ("DD_VERSION", "version"),
];

const FIX: &str = "correct it, or leave it out";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::variables::environment;

    fn read(variables: &[(&str, &str)]) -> Environment {
        Environment::read(&environment(variables))
    }

    /// Reads variables of which nothing is to be said.
    #[track_caller]
    fn quietly(variables: &[(&str, &str)]) -> Environment {
        let environment = read(variables);
        assert!(environment.problems.is_empty(), "{:?}", environment.problems);
        environment
    }

    #[test]
    fn nothing_set_asks_for_nothing() {
        let environment = quietly(&[("DD_ENV", ""), ("DD_AGENT_HOST", "  ")]);
        assert_eq!(environment.url, None);
        assert!(!environment.disabled);
        assert_eq!(environment.origin_detection, None);
        assert_eq!(environment.tags, []);
    }

    #[test]
    fn a_url_beats_a_host_and_a_host_has_a_port() {
        let url = |variables: &[(&str, &str)]| quietly(variables).url;
        let all = [
            ("DD_DOGSTATSD_URL", "unix:///var/run/datadog/dsd.socket"),
            ("DD_AGENT_HOST", "agent"),
            ("DD_DOGSTATSD_PORT", "9125"),
        ];
        assert_eq!(url(&all).as_deref(), Some("unix:///var/run/datadog/dsd.socket"));
        assert_eq!(url(&all[1..]).as_deref(), Some("udp://agent:9125"));
        assert_eq!(url(&all[1..2]).as_deref(), Some("udp://agent"));
        assert_eq!(url(&all[2..]).as_deref(), Some("udp://127.0.0.1:9125"));
        for (host, expected) in [
            ("::1", "udp://[::1]:9125"),
            ("[::1]", "udp://[::1]:9125"),
            ("[::1]:1", "udp://[::1]:1"),
            ("agent:1", "udp://agent:1"),
        ] {
            assert_eq!(url(&[("DD_AGENT_HOST", host), all[2]]).as_deref(), Some(expected));
        }
        assert_eq!(url(&[("DD_AGENT_HOST", "::1")]).as_deref(), Some("udp://[::1]"));
        let socket = [("DD_AGENT_HOST", "unix:///dsd.socket"), ("DD_DOGSTATSD_PORT", "1")];
        assert_eq!(url(&socket).as_deref(), Some("unix:///dsd.socket"));
    }

    #[test]
    fn tags_come_from_lists_and_from_variables_of_their_own() {
        let environment = quietly(&[
            ("DD_TAGS", "team:shore, zone:a:b,flag,"),
            ("DATADOG_TAGS", "not:heard"),
            ("DD_ENTITY_ID", "pod-uid"),
            ("DD_VERSION", "1.2"),
            ("DD_ENV", "prod"),
            ("DD_SERVICE", "shop"),
        ]);
        let tags: Vec<(&str, &str)> = environment
            .tags
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            tags,
            [
                ("team", "shore"),
                ("zone", "a:b"),
                ("flag", ""),
                ("dd.internal.entity_id", "pod-uid"),
                ("env", "prod"),
                ("service", "shop"),
                ("version", "1.2"),
            ]
        );
        let spaced = quietly(&[("DATADOG_TAGS", "a:1 b:2")]).tags;
        assert_eq!(
            spaced,
            [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]
        );
    }

    #[test]
    fn origin_is_as_it_is_injected() {
        let environment = quietly(&[
            ("DD_ORIGIN_DETECTION_ENABLED", "False"),
            ("DD_EXTERNAL_ENV", "it-false,cn-we|b\n,pu-1"),
            ("DD_CARDINALITY", "Orchestrator"),
            ("DATADOG_CARDINALITY", "high"),
            ("DD_DOGSTATSD_DISABLE", "1"),
        ]);
        assert_eq!(environment.origin_detection, Some(false));
        assert_eq!(environment.external_data.as_deref(), Some("it-false,cn-web,pu-1"));
        assert_eq!(environment.cardinality, Some(Cardinality::Orchestrator));
        assert!(environment.disabled);
        let second = quietly(&[("DATADOG_CARDINALITY", "high")]);
        assert_eq!(second.cardinality, Some(Cardinality::High));
        assert_eq!(quietly(&[("DD_EXTERNAL_ENV", "|")]).external_data, None);
    }

    #[test]
    fn what_cannot_be_read_is_named_and_left_out() {
        for (variable, value, rule) in [
            ("DD_DOGSTATSD_PORT", "0", "between 1 and 65535"),
            ("DD_DOGSTATSD_PORT", "http", "between 1 and 65535"),
            ("DD_DOGSTATSD_DISABLE", "maybe", "true or false"),
            ("DD_ORIGIN_DETECTION_ENABLED", "2", "true or false"),
            ("DD_CARDINALITY", "highest", "orchestrator"),
            ("DATADOG_CARDINALITY", "x", "orchestrator"),
            ("DD_TAGS", ":value,a:b", "key:value"),
            ("DATADOG_TAGS", "a:b :c", "key:value"),
        ] {
            let environment = read(&[(variable, value)]);
            let [problem] = &environment.problems[..] else {
                panic!("{variable}={value}: {:?}", environment.problems);
            };
            assert!(problem.starts_with(variable) && problem.contains(rule), "{problem}");
            assert_eq!(environment.tags, [], "{variable}");
        }
        let second = read(&[("DD_CARDINALITY", "highest"), ("DATADOG_CARDINALITY", "low")]);
        assert_eq!((second.cardinality, second.problems.len()), (Some(Cardinality::Low), 1));
    }
}
