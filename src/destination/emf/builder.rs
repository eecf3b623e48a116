//! The settings of an EMF destination: where each comes from, in which order, and what is wrong with them.

use super::{Emf, EmfError, environment::Environment, url::EmfUrl};
use crate::{
    encode::emf::{Encoder, MOST_DIMENSIONS, MOST_NAME, Settings},
    redact,
    transport::lines::{LineTarget, Lines},
};
use std::{collections::VecDeque, env, ffi::OsString, fmt, path};

/// Settings of an [`Emf`] destination, made by [`Emf::builder`].
///
/// | setting | default |
/// |---|---|
/// | [`namespace`](EmfBuilder::namespace) | what the URL says, or else `AWS_EMF_NAMESPACE`, or else `tidegauge` |
/// | [`dimensions`](EmfBuilder::dimensions) | all labels, in one set |
/// | [`property`](EmfBuilder::property) | in Lambda, what the function is; else none |
/// | [`environment`](EmfBuilder::environment) | heard |
/// | [`event_size`](EmfBuilder::event_size) | 262,118 bytes |
#[must_use = "there is no destination before `build`"]
pub struct EmfBuilder {
    target: Target,
    namespace: Option<String>,
    dimensions: Option<Vec<Vec<String>>>,
    properties: Vec<(String, String)>,
    environment: bool,
    event_size: usize,
}

enum Target {
    Url(String),
    Known(LineTarget),
}

impl EmfBuilder {
    pub(super) fn new(url: String) -> Self {
        EmfBuilder::with(Target::Url(url))
    }

    pub(super) fn to(target: LineTarget) -> Self {
        EmfBuilder::with(Target::Known(target))
    }

    fn with(target: Target) -> Self {
        EmfBuilder {
            target,
            namespace: None,
            dimensions: None,
            properties: Vec::new(),
            environment: true,
            event_size: DEFAULT_EVENT,
        }
    }

    /// The namespace of the metrics: up to 255 letters, digits, blanks and `.-_/#:`, and none of AWS' own, which begin with `AWS/`
    /// (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_concepts.html#Namespace>).
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Which labels are dimensions, in one or more sets of at most 30, by default all labels of a series in one set.
    ///
    /// Each set is a metric of its own. A label that a series does not have, or has without text, is left out of its sets, and a set that
    /// is then the same as another one counts once; an empty set is one metric for all. Labels in no set are members of the lines all
    /// the same, where CloudWatch Logs Insights finds them.
    ///
    /// ```
    /// let emf = tidegauge::Emf::builder("emf+stdout:?namespace=Shop")
    ///     .dimensions([&["service", "route"][..], &["service"], &[]])
    ///     .build()?;
    /// # Ok::<(), tidegauge::EmfError>(())
    /// ```
    pub fn dimensions<S, N>(mut self, sets: impl IntoIterator<Item = S>) -> Self
    where
        S: IntoIterator<Item = N>,
        N: AsRef<str>,
    {
        let set = |set: S| set.into_iter().map(|name| name.as_ref().to_owned()).collect();
        self.dimensions = Some(sets.into_iter().map(set).collect());
        self
    }

    /// A member of every line that is no dimension; none by default but those of Lambda. A line in which a label or a metric has its name goes
    /// without it.
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let name = name.into();
        self.properties.retain(|(known, _)| *known != name);
        self.properties.push((name, value.into()));
        self
    }

    /// Whether the process' variables are heard, by default they are:
    ///
    /// | variable | what it says |
    /// |---|---|
    /// | `AWS_EMF_NAMESPACE` | the namespace, if nobody else says one |
    /// | `AWS_LAMBDA_FUNCTION_NAME` | the property `functionName` |
    /// | `AWS_LAMBDA_FUNCTION_VERSION` | in Lambda, `functionVersion` |
    /// | `AWS_EXECUTION_ENV` | in Lambda, `executionEnvironment` |
    /// | `AWS_LAMBDA_FUNCTION_MEMORY_SIZE` | in Lambda, `memorySize`, a text |
    /// | `AWS_REGION` | in Lambda, `region` |
    /// | `AWS_LAMBDA_LOG_STREAM_NAME` | in Lambda, `logStreamId` |
    ///
    /// A [property](EmfBuilder::property) of the same name wins. The last one tells the instances of a function apart, which are
    /// no dimension: each lives for hours, and CloudWatch adds up what they write.
    pub fn environment(mut self, heard: bool) -> Self {
        self.environment = heard;
        self
    }

    /// The most bytes of a line, from 4,096 to 1,000,000, by default 262,118: an event of CloudWatch Logs had 256 KB at most until 2025,
    /// of which 26 bytes were not the line's, and not everything that carries lines there takes the 1 MB of today.
    pub fn event_size(mut self, bytes: usize) -> Self {
        self.event_size = bytes;
        self
    }

    /// The destination. Nothing is opened yet.
    ///
    /// # Errors
    ///
    /// If a setting cannot be.
    pub fn build(self) -> Result<Emf, EmfError> {
        self.build_in(&|variable| env::var_os(variable))
    }

    /// As [`build`](EmfBuilder::build), with variables of the caller's.
    pub(super) fn build_in(self, look_up: &dyn Fn(&str) -> Option<OsString>) -> Result<Emf, EmfError> {
        let url = match self.target {
            Target::Url(url) => EmfUrl::parse(&url)?,
            Target::Known(target) => EmfUrl {
                target,
                namespace: None,
            },
        };
        let target = match url.target {
            LineTarget::File(path) => LineTarget::File(path::absolute(path).map_err(|error| {
                EmfError::new(format!(
                    "file: its path cannot be: {error}; name a file, for example /var/log/app/metrics.json"
                ))
            })?),
            LineTarget::Stdout => LineTarget::Stdout,
        };
        let Environment {
            namespace: of_environment,
            properties: of_lambda,
            problems,
        } = match self.environment {
            true => Environment::read(look_up),
            false => Environment::default(),
        };
        for problem in &problems {
            log::warn!("{problem}; until then it is ignored");
        }
        let namespace = self.namespace.or(url.namespace).or(of_environment);
        let namespace = namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
        check_namespace(&namespace)?;
        if let Some(sets) = &self.dimensions {
            check_dimensions(sets)?;
        }
        let mut properties = self.properties;
        for (name, value) in of_lambda {
            if !properties.iter().any(|(known, _)| *known == name) {
                properties.push((name, value));
            }
        }
        check_properties(&properties)?;
        if !(LEAST_EVENT..=MOST_EVENT).contains(&self.event_size) {
            return Err(EmfError::new(format!(
                "event size: must be from {LEAST_EVENT} to {MOST_EVENT} bytes, not {}; take {DEFAULT_EVENT}",
                self.event_size
            )));
        }
        let encoder = Encoder::new(Settings {
            namespace,
            dimensions: self.dimensions,
            properties,
            event_size: self.event_size,
        });
        if encoder.overhead() > self.event_size / 2 {
            return Err(EmfError::new(format!(
                "properties: take {} bytes of every line, which must be no more than half of its {}; shorten them, or leave some out",
                encoder.overhead(),
                self.event_size
            )));
        }
        Ok(Emf {
            address: match &target {
                LineTarget::Stdout => "stdout".to_owned(),
                LineTarget::File(path) => path.display().to_string(),
            },
            lines: Lines::new(target),
            encoder,
            begun: VecDeque::new(),
        })
    }
}

impl fmt::Debug for EmfBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("EmfBuilder")
            .field("namespace", &self.namespace)
            .field("dimensions", &self.dimensions)
            .field("environment", &self.environment)
            .field("event_size", &self.event_size)
            .finish_non_exhaustive()
    }
}

fn check_namespace(namespace: &str) -> Result<(), EmfError> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_/#: ".contains(&byte);
    let rule = match () {
        () if namespace.trim().is_empty() => "must not be empty; name the application, for example \"Shop\"",
        () if namespace.len() > MOST_NAMESPACE => "must be at most 255 characters; shorten it",
        () if !namespace.bytes().all(is_allowed) => {
            "must consist of ASCII letters, digits, blanks and .-_/#:; leave out what else there is"
        }
        () if namespace.starts_with(':') => "must not begin with a colon; begin with a letter",
        () if namespace.starts_with("AWS/") => "must not begin with AWS/, which AWS keeps for its services; rename it",
        () => return Ok(()),
    };
    Err(EmfError::new(format!("namespace {}: {rule}", shown(namespace))))
}

fn check_dimensions(sets: &[Vec<String>]) -> Result<(), EmfError> {
    if sets.is_empty() {
        return Err(EmfError::new(
            "dimensions: there must be at least one set; give an empty one for no dimensions",
        ));
    }
    for set in sets {
        if set.len() > MOST_DIMENSIONS {
            return Err(EmfError::new(format!(
                "dimensions: a set has at most {MOST_DIMENSIONS} labels, not {}; leave some out",
                set.len()
            )));
        }
        for (at, name) in set.iter().enumerate() {
            let rule = match () {
                () if name.trim().is_empty() => "must not be empty; name a label",
                () if name.len() > MOST_NAME => "must be at most 250 characters; shorten the label's name",
                () if set[..at].contains(name) => "is there twice in one set; leave it out once",
                () => continue,
            };
            return Err(EmfError::new(format!("dimension {}: {rule}", shown(name))));
        }
    }
    Ok(())
}

fn check_properties(properties: &[(String, String)]) -> Result<(), EmfError> {
    for (name, _) in properties {
        let rule = match name.as_str() {
            "" => "must have a name; give it one",
            "_aws" => "is the format's own; rename it",
            _ => continue,
        };
        return Err(EmfError::new(format!("property {}: {rule}", shown(name))));
    }
    Ok(())
}

fn shown(text: &str) -> String {
    format!("{:?}", redact::line(text, LONGEST_SHOWN))
}

const DEFAULT_NAMESPACE: &str = "tidegauge";

const MOST_NAMESPACE: usize = 255;

/// What counts as an event's besides its message:
/// <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html>.
const EVENT_OVERHEAD: usize = 26;
const DEFAULT_EVENT: usize = (256 << 10) - EVENT_OVERHEAD;
const LEAST_EVENT: usize = 4 << 10;
const MOST_EVENT: usize = 1_000_000;

const LONGEST_SHOWN: usize = 60;
