//! OTLP requests made by hand, from which the far ends of the tests are proved before the crate pushes to them.

use flate2::{Compression, write::GzEncoder};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, Sum, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use std::io::Write;

/// The two bodies of OTLP/HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Protobuf,
    Json,
}

impl Encoding {
    pub fn content_type(self) -> &'static str {
        match self {
            Encoding::Protobuf => "application/x-protobuf",
            Encoding::Json => "application/json",
        }
    }

    pub fn body(self, request: &ExportMetricsServiceRequest) -> Vec<u8> {
        match self {
            Encoding::Protobuf => request.encode_to_vec(),
            Encoding::Json => serde_json::to_vec(request).expect("a message can be written as JSON"),
        }
    }
}

pub fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).expect("a vector takes everything");
    encoder.finish().expect("a vector takes everything")
}

/// A request of one resource and one scope.
pub fn request<'a>(
    resource: impl IntoIterator<Item = (&'a str, &'a str)>,
    metrics: impl Into<Vec<Metric>>,
) -> ExportMetricsServiceRequest {
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource {
                attributes: attributes(resource),
                ..Resource::default()
            }),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(InstrumentationScope {
                    name: "by hand".to_string(),
                    version: "1".to_string(),
                    ..InstrumentationScope::default()
                }),
                metrics: metrics.into(),
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    }
}

/// A monotonic sum in bytes.
pub fn sum(name: &str, temporality: AggregationTemporality, points: impl Into<Vec<NumberDataPoint>>) -> Metric {
    metric(
        name,
        metric::Data::Sum(Sum {
            data_points: points.into(),
            aggregation_temporality: temporality.into(),
            is_monotonic: true,
        }),
    )
}

/// A gauge in bytes.
pub fn gauge(name: &str, points: impl Into<Vec<NumberDataPoint>>) -> Metric {
    let data_points = points.into();
    metric(name, metric::Data::Gauge(Gauge { data_points }))
}

/// A histogram in bytes.
pub fn histogram(
    name: &str,
    temporality: AggregationTemporality,
    points: impl Into<Vec<HistogramDataPoint>>,
) -> Metric {
    metric(
        name,
        metric::Data::Histogram(Histogram {
            data_points: points.into(),
            aggregation_temporality: temporality.into(),
        }),
    )
}

/// A point from `start` to `time`, in nanoseconds since 1970.
pub fn integer(value: i64, (start, time): (u64, u64), label: (&str, &str)) -> NumberDataPoint {
    number(number_data_point::Value::AsInt(value), (start, time), label)
}

/// A point from `start` to `time`, in nanoseconds since 1970.
pub fn double(value: f64, (start, time): (u64, u64), label: (&str, &str)) -> NumberDataPoint {
    number(number_data_point::Value::AsDouble(value), (start, time), label)
}

/// Observations between 0.5 and 10 in buckets bounded by 1 and 2, from `start` to `time`, in nanoseconds since 1970.
pub fn observations(buckets: [u64; 3], sum: f64, (start, time): (u64, u64), label: (&str, &str)) -> HistogramDataPoint {
    HistogramDataPoint {
        attributes: attributes([label]),
        start_time_unix_nano: start,
        time_unix_nano: time,
        count: buckets.iter().sum(),
        sum: Some(sum),
        bucket_counts: buckets.to_vec(),
        explicit_bounds: vec![1.0, 2.0],
        min: Some(0.5),
        max: Some(10.0),
        ..HistogramDataPoint::default()
    }
}

pub fn attributes<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<KeyValue> {
    let attribute = |(key, value): (&str, &str)| KeyValue {
        key: key.to_string(),
        value: Some(AnyValue {
            value: Some(any_value::Value::StringValue(value.to_string())),
        }),
        ..KeyValue::default()
    };
    pairs.into_iter().map(attribute).collect()
}

fn metric(name: &str, data: metric::Data) -> Metric {
    Metric {
        name: name.to_string(),
        description: format!("{name} by hand"),
        unit: "By".to_string(),
        data: Some(data),
        ..Metric::default()
    }
}

fn number(value: number_data_point::Value, (start, time): (u64, u64), label: (&str, &str)) -> NumberDataPoint {
    NumberDataPoint {
        attributes: attributes([label]),
        start_time_unix_nano: start,
        time_unix_nano: time,
        value: Some(value),
        ..NumberDataPoint::default()
    }
}
