//! CloudWatch's embedded metric format: lines that `encode/emf.rs` writes, handed to `transport/lines.rs`, for whoever carries the
//! process' output to CloudWatch Logs.
//!
//! Nothing is kept here but how far a payload was written that an error interrupted: its first lines are not written again.

mod builder;
mod environment;
#[cfg(test)]
mod tests;
mod url;

pub use builder::EmfBuilder;

use super::{Activity, Answer, BatchId, Destination, Payload, Preferences, Temporality};
use crate::{
    descriptor::Kind,
    encode::emf::Encoder,
    exporter::points::Points,
    snapshot::FamilySnapshot,
    transport::lines::{Halt, LineTarget, Lines},
};
use std::{
    collections::VecDeque,
    fmt,
    path::PathBuf,
    str::FromStr,
    time::{Duration, Instant},
};

/// Writes metrics as log lines from which CloudWatch makes metrics again, in its [embedded metric
/// format](https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html).
///
/// In a Lambda function a line on standard output is all it takes; elsewhere the CloudWatch agent, or Fluent Bit, carries lines to
/// CloudWatch Logs. There is no connection to wait for, and none to lose.
///
/// | URL | goes to |
/// |---|---|
/// | `emf+stdout:` | standard output |
/// | `emf+file:///var/log/app/metrics.json` | a file that is appended to, and made again when it is moved away |
/// | `…?namespace=Shop` | the same, in the namespace `Shop` |
///
/// # What is written
///
/// Each line is one JSON object with the metrics of one label set at one time. What counters and histograms have counted since it was
/// last written is written; what has not moved is not. Gauges are written as they stand, each time.
///
/// | in the registry | in CloudWatch |
/// |---|---|
/// | a name, as it was registered | the metric's name |
/// | labels | dimensions, all in one set; see [`dimensions`](EmfBuilder::dimensions) |
/// | a histogram's buckets | values and counts, one value a bucket; the values come to the sum |
/// | the unit `s`, `By`, `{request}/s` | `Seconds`, `Bytes`, `Count/Second`; none for what CloudWatch has no word for |
///
/// The specification knows numbers, and arrays of them that say each value as often as it was observed. The object that stands
/// for a histogram here, with `Values`, `Counts`, `Max`, `Min`, `Sum` and `Count`, is what [the exporter of
/// AWS](https://github.com/open-telemetry/opentelemetry-collector-contrib/tree/main/exporter/awsemfexporter) writes, and CloudWatch
/// takes. Its values are the crate's estimates of where in its bucket each observation lay; its counts and its sum are exact.
///
/// A label without text is no dimension, and of a dimension's text what is not visible ASCII is spelled as JSON escapes it, `\u00fc`:
/// CloudWatch takes no other. Every set of dimension values is a custom metric, and each of these is paid for, the
/// `tidegauge_*` metrics that the exporter keeps of itself included: a [filter](crate::Exporter::filter) leaves out what nobody looks
/// at, and labels with many values are better no dimensions.
///
/// # What is refused
///
/// CloudWatch drops what is beyond its limits and does not tell the process. So what has to be is split: into lines of at most 100
/// metrics, of at most 256 KB though CloudWatch takes 1 MB by now ([`event_size`](EmfBuilder::event_size)), and of arrays of at most
/// 100 numbers. What cannot be is refused with its reason, and counted as rejected: numbers that are not finite or beyond 2^360, more than 30 dimensions, names of
/// dimensions of more than 250 characters and values of more than 1,024, a metric that is called as one of its labels, and what is larger
/// than a line. Of a histogram that was given such a number, the sum is that of its values instead.
///
/// # When writing fails
///
/// A line is handed to the system in one piece. On a full disk the half that was written is cut off again, or if it cannot be,
/// ended before the next line; what was not written is written later, as with every destination. Lines before it are not repeated.
/// Only if the process ends then, and has put the rest into a [spool](crate::Exporter::spool), does the next one write the payload from
/// its beginning, and counts it as a possible duplicate. CloudWatch itself delivers at least once, so it may count a line twice now and
/// then.
///
/// While lines are written, the lock of [`std::io::stdout`] is held, so that no line of this process comes between: a flush that is waited
/// for by a thread that holds the lock does not come to its end before the deadline. A pipe that nobody reads stops the exporter's thread, and
/// nothing else; flushes give up at their deadlines.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{fs, time::Duration};
/// use tidegauge::{Emf, Exporter, Filter, Registry};
///
/// # let path = std::env::temp_dir().join(format!("tidegauge-emf-{}.json", std::process::id()));
/// # let _ = fs::remove_file(&path);
/// let registry = Registry::new();
/// let orders = registry.counter("orders", "Orders taken.").labels(["shop"]).register()?;
/// let exporter = Exporter::new(Emf::file("Books", &path)?)
///     .filter(Filter::new().families(|family| !family.name().starts_with("tidegauge_")))
///     .start(&registry)?;
/// orders.with(["Lübeck"]).add(3);
/// exporter.flush(Duration::from_secs(5))?;
///
/// let lines = fs::read_to_string(&path)?;
/// assert!(lines.starts_with(r#"{"_aws":{"Timestamp":"#), "{lines}");
/// assert!(lines.contains(r#"[{"Namespace":"Books","Dimensions":[["shop"]],"Metrics":[{"Name":"orders","Unit":"Count"}]}]"#));
/// assert!(lines.ends_with("\"shop\":\"L\\\\u00fcbeck\",\"orders\":3}\n"), "{lines}");
/// # fs::remove_file(&path)?;
/// # Ok(())
/// # }
/// ```
pub struct Emf {
    lines: Lines,
    encoder: Encoder,
    address: String,
    /// Payloads that were written in part, and how many bytes of each.
    begun: VecDeque<(BatchId, usize)>,
}

/// Why a destination cannot be made: the message names the setting, the rule and the fix.
///
/// ```
/// let error = tidegauge::Emf::stdout("").unwrap_err();
/// assert!(error.to_string().contains("namespace"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmfError {
    message: Box<str>,
}

impl EmfError {
    #[cold]
    fn new(message: impl Into<Box<str>>) -> Self {
        EmfError {
            message: message.into(),
        }
    }
}

impl fmt::Display for EmfError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for EmfError {}

impl Emf {
    /// Writes to a URL, with every setting at its default.
    ///
    /// # Errors
    ///
    /// If that is not one of the URLs above. Nothing is opened yet.
    pub fn new(url: impl Into<String>) -> Result<Self, EmfError> {
        Emf::builder(url).build()
    }

    /// Writes to standard output, with every other setting at its default.
    ///
    /// # Errors
    ///
    /// If it is no [namespace](EmfBuilder::namespace) of CloudWatch.
    pub fn stdout(namespace: impl Into<String>) -> Result<Self, EmfError> {
        EmfBuilder::to(LineTarget::Stdout).namespace(namespace).build()
    }

    /// Appends to a file, with every other setting at its default. A relative path is one from where the process is now, wherever it goes
    /// later.
    ///
    /// # Errors
    ///
    /// If it is no [namespace](EmfBuilder::namespace) of CloudWatch, or the path is empty. Nothing is opened yet.
    pub fn file(namespace: impl Into<String>, path: impl Into<PathBuf>) -> Result<Self, EmfError> {
        EmfBuilder::to(LineTarget::File(path.into()))
            .namespace(namespace)
            .build()
    }

    /// Every setting at its default, to be changed, for a URL.
    pub fn builder(url: impl Into<String>) -> EmfBuilder {
        EmfBuilder::new(url.into())
    }

    fn written_of(&self, id: BatchId) -> usize {
        let begun = self.begun.iter().find(|(begun, _)| *begun == id);
        begun.map_or(0, |(_, written)| *written)
    }

    /// What an answer has to say of a payload of which so much is written.
    fn halted(&mut self, id: BatchId, written: usize, message: String) -> Answer {
        self.begun.retain(|(begun, _)| *begun != id);
        if written == 0 {
            return Answer::retry(message);
        }
        self.begun.push_back((id, written));
        if self.begun.len() > MOST_BEGUN {
            self.begun.pop_front();
        }
        // The exporter keeps the payload as it is, and its series out of others, until it comes again.
        Answer::unclear(message)
    }
}

impl FromStr for Emf {
    type Err = EmfError;

    /// As [`Emf::new`].
    fn from_str(url: &str) -> Result<Self, EmfError> {
        Emf::new(url)
    }
}

impl Destination for Emf {
    fn name(&self) -> &str {
        "emf"
    }

    fn address(&self) -> String {
        self.address.clone()
    }

    fn preferences(&self) -> Preferences {
        Preferences::default()
    }

    fn temporality(&self, family: &FamilySnapshot) -> Temporality {
        match family.kind() {
            Kind::Counter | Kind::FloatCounter | Kind::Histogram => Temporality::Delta,
            _ => Temporality::Cumulative,
        }
    }

    fn encode(&mut self, points: &mut Points<'_>, payload: &mut Vec<u8>) {
        self.encoder.encode(points, payload);
    }

    fn send(&mut self, payload: &Payload, timeout: Duration) -> Answer {
        let id = payload.id();
        let before = self.written_of(id);
        let deadline = Instant::now() + timeout.min(LONGEST);
        match self.lines.write(&payload.bytes()[before..], deadline) {
            Ok(()) => {
                self.begun.retain(|(begun, _)| *begun != id);
                Answer::delivered()
            }
            Err(Halt { written, message }) => self.halted(id, before + written, message),
        }
    }

    fn reconnect(&mut self) {
        self.lines.reopen();
    }

    fn activity(&self) -> Activity {
        Activity {
            connections: self.lines.opened(),
            ..Activity::default()
        }
    }
}

impl fmt::Debug for Emf {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Emf")
            .field("lines", &self.lines)
            .finish_non_exhaustive()
    }
}

/// How many payloads may be written in part. An exporter keeps fewer; what it has given up does not come again.
const MOST_BEGUN: usize = 32;

/// What can be added to every moment.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
