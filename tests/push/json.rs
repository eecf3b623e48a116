//! OTLP/JSON by the letter of <https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>, into the messages of
//! `opentelemetry-proto`.
//!
//! That crate's own reading is not enough: it knows no `"NaN"` and no `"Infinity"`. As the value of a point they are
//! dropped, and nothing says so.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric,
    number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use serde_json::Value;

/// Reads one request. Fields that it does not know are ignored, as the specification demands.
///
/// # Errors
///
/// If it is not JSON or a field is not spelled as it must be; also if it holds what no test needs yet, which would be
/// lost otherwise.
pub fn request(text: &[u8]) -> Result<ExportMetricsServiceRequest, String> {
    let request: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if !request.is_object() {
        return Err("a request is an object".into());
    }
    Ok(ExportMetricsServiceRequest {
        resource_metrics: array(&request, "resourceMetrics", resource_metrics)?,
    })
}

fn resource_metrics(object: &Value) -> Result<ResourceMetrics, String> {
    Ok(ResourceMetrics {
        resource: message(object, "resource", |resource| {
            Ok(Resource {
                attributes: array(resource, "attributes", key_value)?,
                ..Resource::default()
            })
        })?,
        scope_metrics: array(object, "scopeMetrics", scope_metrics)?,
        schema_url: text(object, "schemaUrl")?,
    })
}

fn scope_metrics(object: &Value) -> Result<ScopeMetrics, String> {
    Ok(ScopeMetrics {
        scope: message(object, "scope", |scope| {
            Ok(InstrumentationScope {
                name: text(scope, "name")?,
                version: text(scope, "version")?,
                attributes: array(scope, "attributes", key_value)?,
                ..InstrumentationScope::default()
            })
        })?,
        metrics: array(object, "metrics", metric)?,
        schema_url: text(object, "schemaUrl")?,
    })
}

fn metric(object: &Value) -> Result<Metric, String> {
    for kind in ["exponentialHistogram", "summary"] {
        refuse(object, kind)?;
    }
    let gauge = message(object, "gauge", |gauge| {
        Ok(metric::Data::Gauge(Gauge {
            data_points: array(gauge, "dataPoints", number_data_point)?,
        }))
    })?;
    let sum = message(object, "sum", |sum| {
        Ok(metric::Data::Sum(Sum {
            data_points: array(sum, "dataPoints", number_data_point)?,
            aggregation_temporality: enumeration(sum, "aggregationTemporality")?,
            is_monotonic: boolean(sum, "isMonotonic")?,
        }))
    })?;
    let histogram = message(object, "histogram", |histogram| {
        Ok(metric::Data::Histogram(Histogram {
            data_points: array(histogram, "dataPoints", histogram_data_point)?,
            aggregation_temporality: enumeration(histogram, "aggregationTemporality")?,
        }))
    })?;
    Ok(Metric {
        name: text(object, "name")?,
        description: text(object, "description")?,
        unit: text(object, "unit")?,
        data: only_one("data", [gauge, sum, histogram])?,
        ..Metric::default()
    })
}

fn number_data_point(object: &Value) -> Result<NumberDataPoint, String> {
    refuse(object, "exemplars")?;
    let double = optional_double(object, "asDouble")?.map(number_data_point::Value::AsDouble);
    let integer = message(object, "asInt", signed)?.map(number_data_point::Value::AsInt);
    Ok(NumberDataPoint {
        attributes: array(object, "attributes", key_value)?,
        start_time_unix_nano: unsigned_field(object, "startTimeUnixNano")?,
        time_unix_nano: unsigned_field(object, "timeUnixNano")?,
        exemplars: Vec::new(),
        flags: flags(object)?,
        value: only_one("value", [double, integer])?,
    })
}

fn histogram_data_point(object: &Value) -> Result<HistogramDataPoint, String> {
    refuse(object, "exemplars")?;
    Ok(HistogramDataPoint {
        attributes: array(object, "attributes", key_value)?,
        start_time_unix_nano: unsigned_field(object, "startTimeUnixNano")?,
        time_unix_nano: unsigned_field(object, "timeUnixNano")?,
        count: unsigned_field(object, "count")?,
        sum: optional_double(object, "sum")?,
        bucket_counts: array(object, "bucketCounts", unsigned)?,
        explicit_bounds: array(object, "explicitBounds", double)?,
        exemplars: Vec::new(),
        flags: flags(object)?,
        min: optional_double(object, "min")?,
        max: optional_double(object, "max")?,
    })
}

fn key_value(object: &Value) -> Result<KeyValue, String> {
    let value = message(object, "value", |value| {
        for kind in ["arrayValue", "kvlistValue", "bytesValue"] {
            refuse(value, kind)?;
        }
        let string = message(value, "stringValue", |string| {
            let string = string.as_str().ok_or_else(|| format!("stringValue is {string}"))?;
            Ok(any_value::Value::StringValue(string.to_string()))
        })?;
        let boolean = message(value, "boolValue", |boolean| {
            let boolean = boolean.as_bool().ok_or_else(|| format!("boolValue is {boolean}"))?;
            Ok(any_value::Value::BoolValue(boolean))
        })?;
        let integer = message(value, "intValue", signed)?.map(any_value::Value::IntValue);
        let double = optional_double(value, "doubleValue")?.map(any_value::Value::DoubleValue);
        Ok(AnyValue {
            value: only_one("value of an attribute", [string, boolean, integer, double])?,
        })
    })?;
    Ok(KeyValue {
        key: text(object, "key")?,
        value,
        ..KeyValue::default()
    })
}

// Fields. Each may be absent, and `null` is the same as absent.

fn field<'a>(object: &'a Value, key: &str) -> Option<&'a Value> {
    object.get(key).filter(|value| !value.is_null())
}

fn message<T>(object: &Value, key: &str, read: impl FnOnce(&Value) -> Result<T, String>) -> Result<Option<T>, String> {
    field(object, key)
        .map(|value| read(value).map_err(|error| format!("{key}: {error}")))
        .transpose()
}

fn array<T>(object: &Value, key: &str, read: impl Fn(&Value) -> Result<T, String>) -> Result<Vec<T>, String> {
    let elements = message(object, key, |value| {
        let elements = value.as_array().ok_or_else(|| format!("is no array: {value}"))?;
        elements.iter().map(&read).collect()
    });
    Ok(elements?.unwrap_or_default())
}

fn text(object: &Value, key: &str) -> Result<String, String> {
    let text = message(object, key, |value| {
        let text = value.as_str().ok_or_else(|| format!("is no string: {value}"))?;
        Ok(text.to_string())
    });
    Ok(text?.unwrap_or_default())
}

fn boolean(object: &Value, key: &str) -> Result<bool, String> {
    let boolean = message(object, key, |value| {
        value
            .as_bool()
            .ok_or_else(|| format!("is neither true nor false: {value}"))
    });
    Ok(boolean?.unwrap_or_default())
}

/// Only by its number: names are not valid in OTLP/JSON.
fn enumeration(object: &Value, key: &str) -> Result<i32, String> {
    let number = message(object, key, |value| {
        let number = value.as_i64().and_then(|number| i32::try_from(number).ok());
        number.ok_or_else(|| format!("is no number of an enum: {value}"))
    });
    Ok(number?.unwrap_or_default())
}

fn flags(object: &Value) -> Result<u32, String> {
    let flags = unsigned_field(object, "flags")?;
    u32::try_from(flags).map_err(|_| format!("flags: {flags} has more than 32 bits"))
}

fn unsigned_field(object: &Value, key: &str) -> Result<u64, String> {
    Ok(message(object, key, unsigned)?.unwrap_or_default())
}

fn optional_double(object: &Value, key: &str) -> Result<Option<f64>, String> {
    message(object, key, double)
}

fn refuse(object: &Value, key: &str) -> Result<(), String> {
    match field(object, key) {
        Some(Value::Array(elements)) if elements.is_empty() => Ok(()),
        Some(_) => Err(format!("{key} is not read here")),
        None => Ok(()),
    }
}

fn only_one<T, const N: usize>(what: &str, alternatives: [Option<T>; N]) -> Result<Option<T>, String> {
    let mut found = alternatives.into_iter().flatten();
    match (found.next(), found.next()) {
        (_, Some(_)) => Err(format!("more than one {what}")),
        (only, None) => Ok(only),
    }
}

// Values. Writers spell 64-bit integers as decimal strings, readers take numbers as well.

fn unsigned(value: &Value) -> Result<u64, String> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    number.ok_or_else(|| format!("no unsigned integer: {value}"))
}

fn signed(value: &Value) -> Result<i64, String> {
    let number = value.as_i64().or_else(|| value.as_str()?.parse().ok());
    number.ok_or_else(|| format!("no integer: {value}"))
}

fn double(value: &Value) -> Result<f64, String> {
    match value.as_str() {
        Some("NaN") => Ok(f64::NAN),
        Some("Infinity") => Ok(f64::INFINITY),
        Some("-Infinity") => Ok(f64::NEG_INFINITY),
        _ => value.as_f64().ok_or_else(|| format!("no double: {value}")),
    }
}
