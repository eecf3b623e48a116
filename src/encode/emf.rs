//! From points to lines of CloudWatch's embedded metric format, EMF: one JSON object a line, and nothing else.
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>
//!
//! The walk stands here: what becomes of each point. [`document`] puts together what has the same labels and is of the same
//! time, and begins a new line where a limit is reached; [`series`] says what labels are in a line, [`mod@unit`] what units are.
//!
//! - A metric and its dimensions are members of one object, so a line is of one label set: what of all families has it goes into
//!   one line, up to 100 metrics.
//! - Counters and histograms are sent as increments, because CloudWatch adds up what comes.
//! - A histogram is an object of values and counts, one value for each bucket that has observations, with the sum of all. The
//!   specification knows arrays of numbers alone there, but an array says each value as often as it was observed. CloudWatch takes the
//!   object; it is what AWS' own exporter writes, <https://github.com/open-telemetry/opentelemetry-collector-contrib/pull/22626>.
//! - What CloudWatch would drop without a word is refused, with the reason.

mod document;
mod series;
#[cfg(test)]
mod tests;
mod unit;

use super::placement::Values;
use crate::{
    exporter::points::{Point, Points},
    snapshot::{FamilySnapshot, HistogramValue, Value},
};
use document::{Documents, Frame, Metric};
use series::Series;
pub(crate) use series::{MOST_DIMENSIONS, MOST_NAME};

/// How lines are written.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) namespace: String,
    /// The sets of labels that are dimensions; none for one set of all labels.
    pub(crate) dimensions: Option<Vec<Vec<String>>>,
    /// Members of each line that are no dimensions.
    pub(crate) properties: Vec<(String, String)>,
    /// The most bytes of a line.
    pub(crate) event_size: usize,
}

/// Writes lines.
pub(crate) struct Encoder {
    dimensions: Option<Vec<Vec<String>>>,
    frame: Frame,
    values: Values,
}

impl Encoder {
    pub(crate) fn new(settings: Settings) -> Encoder {
        Encoder {
            frame: Frame::new(&settings.namespace, &settings.properties, settings.event_size),
            dimensions: settings.dimensions,
            values: Values::default(),
        }
    }

    /// How many bytes of a line are the same in all, at most.
    pub(crate) fn overhead(&self) -> usize {
        self.frame.overhead()
    }

    /// Fills a payload with whole lines.
    pub(crate) fn encode(&mut self, points: &mut Points<'_>, payload: &mut Vec<u8>) {
        let mut documents = Documents::default();
        'families: while let Some(family) = points.next_family() {
            let unit = unit::of(family.kind(), family.unit());
            while let Some(point) = points.peek() {
                match self.put(family, unit, &point, &mut documents, payload) {
                    Ok(()) => points.take(),
                    Err(reason) => points.refuse(reason),
                }
                if documents.bytes() + payload.len() >= MOST_PAYLOAD {
                    break 'families;
                }
            }
        }
        documents.finish(&self.frame, payload);
    }

    /// Puts all of a point into lines, or nothing of it.
    fn put(
        &mut self,
        family: &FamilySnapshot,
        unit: Option<&'static str>,
        point: &Point<'_>,
        documents: &mut Documents,
        payload: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        let name = family.given_name();
        let series = Series::of(point, self.dimensions.as_deref())?;
        if series.has_label(name) {
            return Err(NAME_OF_A_LABEL);
        }
        let mut parts = Vec::new();
        match point.value() {
            Value::Counter(count) => parts.push(integer(count)),
            Value::IntGauge(integral) => parts.push(integer(integral)),
            Value::FloatCounter(float) | Value::Gauge(float) => parts.push(number(float)?),
            Value::Histogram(histogram) => self.put_histogram(histogram, &mut parts)?,
            // Only a destination that asks for samples is given any.
            Value::Samples(_) => {}
        }
        let metric = Metric::new(name, unit);
        if parts.iter().any(|part| !self.frame.has_room(&series, &metric, part)) {
            return Err(TOO_LARGE);
        }
        let time = u64::try_from(point.time().as_millis()).unwrap_or(u64::MAX);
        for part in &parts {
            documents.put(time, &series, &metric, part, &self.frame, payload);
        }
        Ok(())
    }

    /// Writes a histogram as one object, or as several if it has more observed buckets than an array may have members.
    fn put_histogram(&mut self, histogram: HistogramValue<'_>, parts: &mut Vec<Vec<u8>>) -> Result<(), &'static str> {
        let HistogramValue { counts, sum, .. } = histogram;
        self.values.find(histogram, 1.0).ok_or(OUT_OF_RANGE)?;
        let observed: Vec<(f64, u64)> = counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count != 0)
            .map(|(bucket, count)| (self.values.sent(bucket), *count))
            .collect();
        // An infinite or a missing number is among the observations: the counts hold all the same.
        let mut rest = sum.is_finite().then_some(sum);
        let chunks = observed.chunks(MOST_VALUES);
        let last = chunks.len().saturating_sub(1);
        for (at, chunk) in chunks.enumerate() {
            let placed: f64 = chunk.iter().map(|(value, count)| value * *count as f64).sum();
            let sum = match rest {
                Some(rest) if at == last => rest,
                _ => placed,
            };
            rest = rest.map(|rest| rest - sum);
            parts.push(distribution(chunk, sum)?);
        }
        Ok(())
    }
}

/// Values and how often each was observed, in ascending order.
fn distribution(observed: &[(f64, u64)], sum: f64) -> Result<Vec<u8>, &'static str> {
    let mut object = br#"{"Values":["#.to_vec();
    let mut counts = Vec::new();
    let mut total = 0;
    for (value, count) in observed {
        object.extend(number(*value)?);
        object.push(b',');
        counts.extend(integer(*count));
        counts.push(b',');
        total += count;
    }
    object.pop();
    counts.pop();
    object.extend(br#"],"Counts":["#);
    object.extend(counts);
    let (least, most) = (observed[0].0, observed[observed.len() - 1].0);
    for (member, text) in [
        (&br#"],"Max":"#[..], number(most)?),
        (br#","Min":"#, number(least)?),
        (br#","Sum":"#, number(sum)?),
        (br#","Count":"#, integer(total)),
    ] {
        object.extend(member);
        object.extend(text);
    }
    object.push(b'}');
    Ok(object)
}

fn integer(integer: impl itoa::Integer) -> Vec<u8> {
    itoa::Buffer::new().format(integer).as_bytes().to_vec()
}

fn number(float: f64) -> Result<Vec<u8>, &'static str> {
    if !float.is_finite() {
        return Err(NOT_FINITE);
    }
    if float.abs() > MOST_NUMBER {
        return Err(OUT_OF_RANGE);
    }
    Ok(zmij::Buffer::new().format_finite(float).as_bytes().to_vec())
}

/// Appends a text as JSON has it.
fn put_text(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a text can be written, and a vector takes it");
}

/// Members of an array of numbers.
const MOST_VALUES: usize = 100;

/// 2^360: <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDatum.html>.
const MOST_NUMBER: f64 = f64::from_bits((1023 + 360) << 52);

/// About how many bytes are written at once. What is beyond goes into another payload, and cannot share its lines.
const MOST_PAYLOAD: usize = 4 << 20;

const NOT_FINITE: &str = "CloudWatch takes no number that is not finite";
const OUT_OF_RANGE: &str = "CloudWatch takes no number beyond 2^360";
const NAME_OF_A_LABEL: &str = "a metric cannot have the name of one of its labels in EMF; rename one";
const TOO_LARGE: &str = "it is larger than an event of CloudWatch may be; shorten its labels";
