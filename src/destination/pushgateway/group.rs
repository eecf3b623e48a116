//! The group that a push is for: the labels that name it, its path in a URL, and which families cannot go into it
//! (<https://github.com/prometheus/pushgateway#url>).

use super::PushgatewayError;
use crate::{percent, snapshot::FamilySnapshot};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

/// The labels of a group, `job` first. They are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    labels: Vec<(String, String)>,
}

/// Why a family cannot go into a group: the gateway would take it, and put something else in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clash<'a> {
    /// The gateway has a metric of this name in each group.
    Name,
    /// The group has this label.
    Label(&'a str),
}

impl Group {
    /// # Errors
    ///
    /// If there is no job, or a label cannot be one of a group.
    pub(super) fn new(job: String, labels: Vec<(String, String)>) -> Result<Group, PushgatewayError> {
        if job.is_empty() {
            return Err(PushgatewayError::new(
                "job: must not be empty; give the job's name, such as \"nightly-backup\"",
            ));
        }
        let mut all = vec![(JOB.to_owned(), job)];
        for (name, value) in labels {
            check_name(&name)?;
            if all.iter().any(|(known, _)| *known == name) {
                let fix = match name == JOB {
                    true => "it is given apart: leave it out of the grouping labels",
                    false => "is given twice: leave one out",
                };
                return Err(PushgatewayError::new(format!("grouping label {name:?}: {fix}")));
            }
            all.push((name, value));
        }
        Ok(Group { labels: all })
    }

    /// Reads a URL's path, `…/metrics/job/NAME{/LABEL/VALUE}`. What stands before `/metrics`, and the group; or what is wrong.
    pub(super) fn parse(path: &str) -> Result<(String, Group), String> {
        let segments: Vec<&str> = path.split('/').collect();
        let is_job = |segment: &str| matches!(segment, "job" | "job@base64" | "job%40base64");
        let metrics = segments
            .windows(2)
            .position(|pair| pair[0] == METRICS && is_job(pair[1]))
            .ok_or("names no group: write one like `http://host:9091/metrics/job/nightly-backup/label/value`")?;
        let mut of_group = &segments[metrics + 1..];
        if let [before @ .., ""] = of_group
            && before.len() % 2 == 0
        {
            of_group = before;
        }
        let (pairs, rest) = of_group.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(
                "has a label without a value: behind `/metrics` there must be pairs, `job/NAME/LABEL/VALUE`".into(),
            );
        }
        let mut labels = Vec::with_capacity(pairs.len());
        for pair in pairs {
            labels.push(label(*pair)?);
        }
        let (_, job) = labels.remove(0);
        let group = Group::new(job, labels).map_err(|error| format!("names a group that cannot be: {error}"))?;
        Ok((segments[..metrics].join("/"), group))
    }

    /// What is joined to the gateway's URL: plain where a value is of letters, digits and `-_.~`, else in base64.
    ///
    /// A value with a slash or without anything has to be in base64, because the gateway decodes `%2F` before it takes a path apart,
    /// and answers `//` with a redirect (<https://github.com/prometheus/pushgateway#url>). Proxies have their own ways with dots, `+`, `%`
    /// and what is not ASCII; in base64 nobody changes these either.
    pub(super) fn path(&self) -> String {
        let mut path = METRICS.to_owned();
        for (name, value) in &self.labels {
            path.push('/');
            path.push_str(name);
            if is_plain(value) {
                path.push('/');
                path.push_str(value);
            } else {
                path.push_str(BASE64_SUFFIX);
                path.push('/');
                path.push_str(&match value.as_str() {
                    // A segment has to have something in it.
                    "" => "=".to_owned(),
                    value => BASE64_URL_SAFE_NO_PAD.encode(value),
                });
            }
        }
        path
    }

    /// Whether the gateway would put something else in the place of a part of the family, without a word.
    pub(super) fn clash<'a>(&'a self, family: &FamilySnapshot) -> Option<Clash<'a>> {
        if WRITTEN_BY_THE_GATEWAY.contains(&family.name()) {
            return Some(Clash::Name);
        }
        let descriptor = &family.descriptor;
        let clashes = |(name, value): &&(String, String)| {
            let constant = descriptor.constant.iter();
            descriptor.labels.iter().any(|label| label.prometheus() == name)
                || constant
                    .into_iter()
                    .any(|(label, given)| label.prometheus() == name && **given != **value)
        };
        let (name, _) = self.labels.iter().find(clashes)?;
        Some(Clash::Label(name))
    }
}

impl Clash<'_> {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Clash::Name => "the gateway has a metric of this name in every group: rename it",
            Clash::Label(_) => "the group has a label of this name, and the gateway overwrites the metric's: rename it",
        }
    }
}

/// One label of a path.
fn label([name, value]: [&str; 2]) -> Result<(String, String), String> {
    let not_encoded = || "is not UTF-8 in percent-encoding: correct it".to_owned();
    let name = percent::decode(name).ok_or_else(not_encoded)?;
    if let Some(name) = name.strip_suffix(BASE64_SUFFIX) {
        let bytes =
            BASE64_URL_SAFE_NO_PAD.decode(percent::decode(value).ok_or_else(not_encoded)?.trim_end_matches('='));
        let value = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let value = value.ok_or_else(|| {
            format!(
                "has a value of {name:?} that is not UTF-8 in the URL-safe base64 of RFC 4648, section 5: correct it"
            )
        })?;
        return Ok((name.to_owned(), value));
    }
    if value.is_empty() {
        return Err(format!(
            "has an empty value of {name:?}: write `{name}@base64/=` for it"
        ));
    }
    Ok((name, percent::decode(value).ok_or_else(not_encoded)?))
}

/// <https://prometheus.io/docs/concepts/data_model/#metric-names-and-labels>
fn check_name(name: &str) -> Result<(), PushgatewayError> {
    let refused = |rule: &str| Err(PushgatewayError::new(format!("grouping label {name:?}: {rule}")));
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    if !name.bytes().next().is_some_and(is_letter) || !name.bytes().all(|byte| is_letter(byte) || byte.is_ascii_digit())
    {
        return refused("must be of letters, digits and underscores, no digit first; rename it");
    }
    if name.starts_with("__") {
        return refused("must not begin with two underscores, which is Prometheus' own; rename it");
    }
    // Such a group is taken, and then no scrape of the gateway can be read, because the label is there twice.
    if ["le", "quantile"].contains(&name) {
        return refused("is written by histograms and summaries themselves; rename it");
    }
    Ok(())
}

/// Of unreserved characters alone (<https://www.rfc-editor.org/rfc/rfc3986#section-2.3>), and no step in a path.
fn is_plain(value: &str) -> bool {
    let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    !matches!(value, "" | "." | "..") && value.bytes().all(is_unreserved)
}

const JOB: &str = "job";

const METRICS: &str = "metrics";

const BASE64_SUFFIX: &str = "@base64";

/// <https://github.com/prometheus/pushgateway#exposed-metrics>
const WRITTEN_BY_THE_GATEWAY: [&str; 2] = ["push_time_seconds", "push_failure_time_seconds"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Registry;
    use proptest::prelude::*;

    fn group(job: &str, labels: &[(&str, &str)]) -> Result<Group, PushgatewayError> {
        let owned = labels.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        Group::new(job.to_owned(), owned.collect())
    }

    #[test]
    fn paths_are_plain_where_they_can_be_and_in_base64_else() {
        for (job, labels, path) in [
            ("backup", &[][..], "metrics/job/backup"),
            ("a-b_c.d~9", &[("dc", "eu-1")][..], "metrics/job/a-b_c.d~9/dc/eu-1"),
            ("dir/tmp", &[], "metrics/job@base64/ZGlyL3RtcA"),
            // Of the documentation.
            (
                "directory_cleaner",
                &[("path", "/var/tmp")],
                "metrics/job/directory_cleaner/path@base64/L3Zhci90bXA",
            ),
            (
                "example",
                &[("first_label", ""), ("second_label", "foobar")],
                "metrics/job/example/first_label@base64/=/second_label/foobar",
            ),
            (
                "titan",
                &[("name", "Προμηθεύς")],
                "metrics/job/titan/name@base64/zqDPgc6_zrzOt864zrXPjc-C",
            ),
            (
                "x",
                &[("a", "."), ("b", "..")],
                "metrics/job/x/a@base64/Lg/b@base64/Li4",
            ),
            ("Prometheus 🙂", &[], "metrics/job@base64/UHJvbWV0aGV1cyDwn5mC"),
            (
                "a+b",
                &[("instance", "50%?#")],
                "metrics/job@base64/YSti/instance@base64/NTAlPyM",
            ),
            (
                "???",
                &[("l", "\u{fffd}>>")],
                "metrics/job@base64/Pz8_/l@base64/77-9Pj4",
            ),
        ] {
            assert_eq!(group(job, labels).unwrap().path(), path);
        }
    }

    #[test]
    fn names_of_labels_are_checked() {
        for (labels, words) in [
            (&[("", "x")][..], "letters, digits and underscores"),
            (&[("1a", "x")], "no digit first"),
            (&[("a-b", "x")], "letters, digits and underscores"),
            (&[("a@base64", "x")], "letters, digits and underscores"),
            (&[("ä", "x")], "letters, digits and underscores"),
            (&[("__name__", "x")], "two underscores"),
            (&[("le", "x")], "histograms"),
            (&[("quantile", "x")], "summaries"),
            (&[("job", "x")], "given apart"),
            (&[("a", "x"), ("a", "x")], "given twice"),
        ] {
            let message = group("x", labels).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
        assert!(group("", &[]).unwrap_err().to_string().contains("job"));
        group("x", &[("instance", "i"), ("_a", ""), ("A9", "x")]).unwrap();
    }

    #[test]
    fn paths_are_read_as_the_gateway_reads_them() {
        for (path, base, expected) in [
            ("/metrics/job/x", "", group("x", &[])),
            ("/metrics/job/x/", "", group("x", &[])),
            ("/gate/way/metrics/job/x/a/b", "/gate/way", group("x", &[("a", "b")])),
            ("//metrics/job/x", "/", group("x", &[])),
            (
                "/metrics/job/metrics/metrics/job",
                "",
                group("metrics", &[("metrics", "job")]),
            ),
            ("/metrics/job/a%20b+c", "", group("a b+c", &[])),
            ("/metrics/job/x/a/b%2Fc%0a", "", group("x", &[("a", "b/c\n")])),
            (
                "/metrics/job@base64/ZGlyL3RtcA==/a@base64/=",
                "",
                group("dir/tmp", &[("a", "")]),
            ),
            (
                "/metrics/job%40base64/ZGlyL3RtcA%3D/a/b",
                "",
                group("dir/tmp", &[("a", "b")]),
            ),
        ] {
            assert_eq!(Group::parse(path), Ok((base.to_owned(), expected.unwrap())), "{path}");
        }
        for (path, words) in [
            ("", "names no group"),
            ("/metrics", "names no group"),
            ("/metrics/jobs/x", "names no group"),
            ("/metrics/job", "without a value"),
            ("/metrics/job/", "empty value"),
            ("/metrics/job/x/a", "without a value"),
            ("/metrics/job/x/a/", "empty value"),
            ("/metrics/job/x/a//b/c", "empty value"),
            ("/metrics/job@base64/=", "job: must not be empty"),
            ("/metrics/job@base64/YSti+", "base64"),
            ("/metrics/job@base64/_w", "base64"),
            ("/metrics/job/%zz", "percent-encoding"),
            ("/metrics/job/%ff", "percent-encoding"),
            ("/metrics/job/x/__a/b", "two underscores"),
            ("/metrics/job/x/job/y", "given apart"),
        ] {
            let message = Group::parse(path).unwrap_err();
            assert!(message.contains(words), "{path}: {message}");
        }
    }

    proptest! {
        #[test]
        fn a_path_is_one_that_every_client_leaves_as_it_is_and_says_what_it_was_made_of(
            job in "(?s).{1,20}",
            values in prop::collection::vec("(?s).{0,20}|\\.{0,3}|[/=+ %]{0,4}", 0..4),
        ) {
            let labels: Vec<(String, String)> = (0..).map(|number| format!("l{number}")).zip(values).collect();
            let group = Group::new(job, labels).unwrap();
            let path = group.path();
            prop_assert!(path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~=@/".contains(&byte)), "{}", path);
            prop_assert!(path.split('/').all(|segment| !["", ".", ".."].contains(&segment)), "{}", path);
            prop_assert_eq!(Group::parse(&format!("/{path}")), Ok((String::new(), group)));
        }
    }

    #[test]
    fn families_that_the_gateway_would_change_are_known() {
        let registry = Registry::builder().label("env", "prod").build().unwrap();
        registry.gauge("load", "Load.").register().unwrap();
        registry.counter("runs", "Runs.").labels(["job"]).register().unwrap();
        registry
            .counter("hops", "Hops.")
            .labels(["net.host"])
            .register()
            .unwrap();
        registry.gauge("push_time_seconds", "Time.").register().unwrap();
        let clashes = |labels: &[(&str, &str)]| {
            let group = group("x", labels).unwrap();
            let snapshot = registry.snapshot();
            let found = |name| {
                group
                    .clash(snapshot.family(name).unwrap())
                    .map(|clash| format!("{clash:?}"))
            };
            ["load", "runs_total", "hops_total", "push_time_seconds"].map(found)
        };
        let (label, name) = (|name| Some(format!("Label({name:?})")), Some("Name".to_owned()));
        assert_eq!(clashes(&[]), [None, label("job"), None, name.clone()]);
        assert_eq!(clashes(&[("env", "prod")]), [None, label("job"), None, name.clone()]);
        assert_eq!(
            clashes(&[("env", "test")]),
            [label("env"), label("job"), label("env"), name.clone()]
        );
        assert_eq!(
            clashes(&[("net_host", "a")]),
            [None, label("job"), label("net_host"), name]
        );
    }
}
