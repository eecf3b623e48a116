//! A small receiver of OTLP, for an example that finds no collector. Not to be copied: it believes whatever comes.

use crate::http;
use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    metrics::v1::{AggregationTemporality, Metric, metric::Data, number_data_point::Value},
};
use prost::Message;
use std::{
    io::{self, Read},
    net::{TcpListener, TcpStream},
    thread,
};

/// What came in one request.
pub struct Push(ExportMetricsServiceRequest);

impl Push {
    /// How many points.
    pub fn points(&self) -> usize {
        let points = self.metrics().map(|metric| match &metric.data {
            Some(Data::Sum(sum)) => sum.data_points.len(),
            Some(Data::Gauge(gauge)) => gauge.data_points.len(),
            Some(Data::Histogram(histogram)) => histogram.data_points.len(),
            _ => 0,
        });
        points.sum()
    }

    /// What a counter has come to, all of its series together, that was at `before`: increments are added, totals stand for themselves.
    pub fn total(&self, name: &str, before: i64) -> i64 {
        let mut metrics = self.metrics().filter(|metric| metric.name == name);
        let Some(Data::Sum(sum)) = metrics.find_map(|metric| metric.data.as_ref()) else {
            return before;
        };
        let counts = sum.data_points.iter().map(|point| match point.value {
            Some(Value::AsInt(count)) => count,
            _ => 0,
        });
        match sum.aggregation_temporality() {
            AggregationTemporality::Delta => before + counts.sum::<i64>(),
            _ => counts.sum(),
        }
    }

    fn metrics(&self) -> impl Iterator<Item = &Metric> {
        let scopes = self.0.resource_metrics.iter().flat_map(|from| &from.scope_metrics);
        scopes.flat_map(|scope| &scope.metrics)
    }
}

/// Starts it, on a thread that ends with the process. `answer` looks at each push and gives the status to answer.
///
/// The URL to push to.
pub fn start(mut answer: impl FnMut(&Push) -> u16 + Send + 'static) -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    thread::spawn(move || {
        for stream in listener.incoming() {
            if let Err(error) = stream.and_then(|stream| take(&stream, &mut answer)) {
                eprintln!("the receiver has not answered a push: {error}");
            }
        }
    });
    Ok(url)
}

fn take(stream: &TcpStream, answer: &mut dyn FnMut(&Push) -> u16) -> io::Result<()> {
    let request = http::Request::read(stream)?;
    let status = match request.path.as_str() {
        "/v1/metrics" => decode(request).map_or(400, |push| answer(&push)),
        _ => 404,
    };
    http::answer(stream, status, "")
}

/// By its headers: in protobuf or JSON, compressed or not.
fn decode(request: http::Request) -> io::Result<Push> {
    let is_json = request.header("content-type") == "application/json";
    let plain = match request.header("content-encoding") {
        "gzip" => {
            let mut plain = Vec::new();
            GzDecoder::new(request.body.as_slice()).read_to_end(&mut plain)?;
            plain
        }
        _ => request.body,
    };
    let push = match is_json {
        true => serde_json::from_slice(&plain)?,
        false => ExportMetricsServiceRequest::decode(plain.as_slice())?,
    };
    Ok(Push(push))
}
