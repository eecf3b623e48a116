//! What an OTLP request says, as points that can be compared: each with its series, its times and all that surrounds
//! it. A request that the data model forbids is an error that names the metric, so that no far end of a test takes what
//! a stricter one would refuse.
//!
//! The live tests read what a real Collector wrote with the same words.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, HistogramDataPoint, Metric, NumberDataPoint, metric, number_data_point,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// One data point.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    pub series: Series,
    pub unit: String,
    pub description: String,
    pub resource: Arc<Attributes>,
    pub scope: Arc<Scope>,
    /// Nanoseconds since 1970; 0 where there is none.
    pub start: u64,
    /// Nanoseconds since 1970.
    pub time: u64,
    pub value: Value,
}

/// What points have in common that belong together, whichever resource sent them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Series {
    pub name: String,
    pub attributes: Attributes,
    /// A gauge has none.
    pub temporality: Option<Temporality>,
}

impl Series {
    /// The series of that name whose attributes are all text.
    pub fn new<'a>(
        name: &str,
        attributes: impl IntoIterator<Item = (&'a str, &'a str)>,
        temporality: Option<Temporality>,
    ) -> Series {
        Series {
            name: name.to_string(),
            attributes: texts(attributes),
            temporality,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Temporality {
    Delta,
    Cumulative,
}

/// By key. No key is there twice.
pub type Attributes = BTreeMap<String, Attribute>;

/// The kinds that have an order and that anybody uses on metrics.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Attribute {
    Text(String),
    Integer(i64),
    Boolean(bool),
}

/// Attributes that are all text.
pub fn texts<'a>(attributes: impl IntoIterator<Item = (&'a str, &'a str)>) -> Attributes {
    attributes
        .into_iter()
        .map(|(key, value)| (key.to_string(), Attribute::Text(value.to_string())))
        .collect()
}

/// The instrumentation scope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    pub name: String,
    pub version: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Sum { value: Number, monotonic: bool },
    Gauge(Number),
    Histogram(Histogram),
}

/// Integers and floats are not the same, even where they are equal: the far end stores them apart.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    Integer(i64),
    Double(f64),
}

impl PartialEq for Number {
    /// NaN equals NaN, so that it can be compared with what was recorded.
    fn eq(&self, other: &Number) -> bool {
        match (*self, *other) {
            (Number::Integer(left), Number::Integer(right)) => left == right,
            (Number::Double(left), Number::Double(right)) => left == right || (left.is_nan() && right.is_nan()),
            _ => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    pub count: u64,
    /// Absent where observations may be negative.
    pub sum: Option<f64>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub bounds: Vec<f64>,
    /// One more than there are bounds, not cumulative.
    pub buckets: Vec<u64>,
}

/// Every point of a request, in its order.
///
/// # Errors
///
/// If the data model forbids it, or if it holds what no test needs yet: exponential histograms, summaries, exemplars
/// and flags would otherwise be lost unseen.
pub fn points(request: &ExportMetricsServiceRequest) -> Result<Vec<Point>, String> {
    let mut points = Vec::new();
    for of_resource in &request.resource_metrics {
        let resource = of_resource.resource.as_ref();
        let resource = Arc::new(attributes(resource.map_or(&[], |resource| &resource.attributes))?);
        for of_scope in &of_resource.scope_metrics {
            let scope = of_scope.scope.as_ref().map(|scope| Scope {
                name: scope.name.clone(),
                version: scope.version.clone(),
            });
            let scope = Arc::new(scope.unwrap_or_default());
            for metric in &of_scope.metrics {
                let surroundings = Surroundings {
                    metric,
                    resource: &resource,
                    scope: &scope,
                };
                surroundings
                    .points(&mut points)
                    .map_err(|error| format!("metric {:?}: {error}", metric.name))?;
            }
        }
    }
    Ok(points)
}

/// What all that these points say comes to: increments of delta series added up, of the others the newest point.
///
/// # Panics
///
/// If points of one series do not go together.
pub fn totals<'a>(points: impl IntoIterator<Item = &'a Point>) -> HashMap<Series, Value> {
    let mut totals: HashMap<Series, (u64, Value)> = HashMap::new();
    for point in points {
        let Some((time, total)) = totals.get_mut(&point.series) else {
            totals.insert(point.series.clone(), (point.time, point.value.clone()));
            continue;
        };
        if point.series.temporality == Some(Temporality::Delta) {
            add(total, &point.value)
                .unwrap_or_else(|| panic!("{:?} cannot follow {total:?} in {:?}", point.value, point.series));
        } else if point.time >= *time {
            *total = point.value.clone();
        }
        *time = point.time.max(*time);
    }
    totals.into_iter().map(|(series, (_, value))| (series, value)).collect()
}

/// A metric on its way to points.
struct Surroundings<'a> {
    metric: &'a Metric,
    resource: &'a Arc<Attributes>,
    scope: &'a Arc<Scope>,
}

impl Surroundings<'_> {
    fn points(&self, points: &mut Vec<Point>) -> Result<(), String> {
        if self.metric.name.is_empty() {
            return Err("has no name".into());
        }
        match &self.metric.data {
            Some(metric::Data::Sum(sum)) => {
                let temporality = temporality(sum.aggregation_temporality)?;
                for point in &sum.data_points {
                    let value = Value::Sum {
                        value: number(point)?,
                        monotonic: sum.is_monotonic,
                    };
                    points.push(self.number(point, Some(temporality), value)?);
                }
            }
            Some(metric::Data::Gauge(gauge)) => {
                for point in &gauge.data_points {
                    points.push(self.number(point, None, Value::Gauge(number(point)?))?);
                }
            }
            Some(metric::Data::Histogram(histogram)) => {
                let temporality = temporality(histogram.aggregation_temporality)?;
                for point in &histogram.data_points {
                    points.push(self.histogram(point, temporality)?);
                }
            }
            Some(metric::Data::ExponentialHistogram(_) | metric::Data::Summary(_)) => {
                return Err("is of a kind that is not read here".into());
            }
            None => return Err("has no data".into()),
        }
        Ok(())
    }

    fn number(&self, point: &NumberDataPoint, temporality: Option<Temporality>, value: Value) -> Result<Point, String> {
        nothing_else(point.flags, point.exemplars.len())?;
        let times = (point.start_time_unix_nano, point.time_unix_nano);
        self.point(&point.attributes, temporality, times, value)
    }

    fn histogram(&self, point: &HistogramDataPoint, temporality: Temporality) -> Result<Point, String> {
        nothing_else(point.flags, point.exemplars.len())?;
        let (bounds, buckets) = (&point.explicit_bounds, &point.bucket_counts);
        if buckets.len() != bounds.len() + 1 {
            return Err(format!("has {} buckets for {} bounds", buckets.len(), bounds.len()));
        }
        if !bounds.is_sorted_by(|left, right| left < right) {
            return Err(format!("has bounds that do not rise: {bounds:?}"));
        }
        if buckets.iter().sum::<u64>() != point.count {
            return Err(format!("counts {} in buckets of {buckets:?}", point.count));
        }
        let value = Value::Histogram(Histogram {
            count: point.count,
            sum: point.sum,
            min: point.min,
            max: point.max,
            bounds: bounds.clone(),
            buckets: buckets.clone(),
        });
        let times = (point.start_time_unix_nano, point.time_unix_nano);
        self.point(&point.attributes, Some(temporality), times, value)
    }

    fn point(
        &self,
        found: &[KeyValue],
        temporality: Option<Temporality>,
        (start, time): (u64, u64),
        value: Value,
    ) -> Result<Point, String> {
        if time == 0 {
            return Err("has a point without a time".into());
        }
        if start > time {
            return Err(format!("has a point that starts at {start}, after its time {time}"));
        }
        Ok(Point {
            series: Series {
                name: self.metric.name.clone(),
                attributes: attributes(found)?,
                temporality,
            },
            unit: self.metric.unit.clone(),
            description: self.metric.description.clone(),
            resource: Arc::clone(self.resource),
            scope: Arc::clone(self.scope),
            start,
            time,
            value,
        })
    }
}

fn temporality(number: i32) -> Result<Temporality, String> {
    match AggregationTemporality::try_from(number) {
        Ok(AggregationTemporality::Delta) => Ok(Temporality::Delta),
        Ok(AggregationTemporality::Cumulative) => Ok(Temporality::Cumulative),
        _ => Err(format!("has the aggregation temporality {number}")),
    }
}

fn number(point: &NumberDataPoint) -> Result<Number, String> {
    match point.value {
        Some(number_data_point::Value::AsInt(value)) => Ok(Number::Integer(value)),
        Some(number_data_point::Value::AsDouble(value)) => Ok(Number::Double(value)),
        None => Err("has a point without a value".into()),
    }
}

fn nothing_else(flags: u32, exemplars: usize) -> Result<(), String> {
    if flags == 0 && exemplars == 0 {
        return Ok(());
    }
    Err("has flags or exemplars, which are not read here".into())
}

fn attributes(found: &[KeyValue]) -> Result<Attributes, String> {
    let mut attributes = Attributes::new();
    for KeyValue { key, value, .. } in found {
        let value = match value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(any_value::Value::StringValue(text)) => Attribute::Text(text.clone()),
            Some(any_value::Value::IntValue(integer)) => Attribute::Integer(*integer),
            Some(any_value::Value::BoolValue(boolean)) => Attribute::Boolean(*boolean),
            other => {
                return Err(format!(
                    "attribute {key:?} is of a kind that is not read here: {other:?}"
                ));
            }
        };
        if key.is_empty() || attributes.insert(key.clone(), value).is_some() {
            return Err(format!("attribute {key:?} is there twice or has no name"));
        }
    }
    Ok(attributes)
}

/// Adds an increment, unless they do not go together.
fn add(total: &mut Value, increment: &Value) -> Option<()> {
    match (total, increment) {
        (
            Value::Sum {
                value: total,
                monotonic,
            },
            Value::Sum {
                value: increment,
                monotonic: same,
            },
        ) if monotonic == same => {
            *total = match (*total, *increment) {
                (Number::Integer(total), Number::Integer(increment)) => Number::Integer(total.checked_add(increment)?),
                (Number::Double(total), Number::Double(increment)) => Number::Double(total + increment),
                _ => return None,
            };
        }
        (Value::Histogram(total), Value::Histogram(increment)) if total.bounds == increment.bounds => {
            total.count = total.count.checked_add(increment.count)?;
            total.sum = total.sum.zip(increment.sum).map(|(total, increment)| total + increment);
            total.min = total.min.zip(increment.min).map(|(left, right)| left.min(right));
            total.max = total.max.zip(increment.max).map(|(left, right)| left.max(right));
            for (total, increment) in total.buckets.iter_mut().zip(&increment.buckets) {
                *total = total.checked_add(*increment)?;
            }
        }
        _ => return None,
    }
    Some(())
}
