//! Pushing everything over OTLP in binary protobuf: collection and encoding, without sending, in a process that has run
//! for a while (all series exist, and what is kept from one export to the next is there).
//!
//! Each library does all that it does before a request goes out. We also hand the collection from thread to thread and
//! have each request acknowledged, as there is no other way to have it encoded, and split at 10,000 points.

use super::{Contents, Held};
use crate::allocator;
use crate::data::BOUNDS;
use crate::library::{Export, Library, MakeExport};
use crate::measure::Plan;
use crate::report::Report;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, metric::Data, number_data_point::Value};
use prost::Message;
use std::time::{Duration, Instant};

/// Series with which increments are exported.
pub const DELTA: usize = 110_000;

struct Contender {
    library: &'static str,
    export: Box<dyn Export>,
    contents: Contents,
    bytes: usize,
    best: f64,
}

impl Contender {
    /// Fills a registry and exports it once, which fills what is kept, and shows that everything is there.
    fn new(library: &'static str, make: MakeExport, series: usize, temporality: AggregationTemporality) -> Self {
        let mut export = make(Contents::split(series).0);
        let contents = Contents::fill(&*export, series);
        let requests = export.requests();
        assert_eq!(held(&requests, temporality), contents.held, "{library}: first export");
        Self {
            library,
            export,
            contents,
            bytes: requests.len(),
            best: f64::INFINITY,
        }
    }

    /// Nanoseconds an export, the mean of as many as the plan has time for; `before` comes before each and is not in it.
    fn round(&mut self, plan: Plan, before: impl Fn(&Contents, &dyn Export)) {
        let (mut taken, mut exports) = (Duration::ZERO, 0);
        while exports == 0 || taken < plan.scraping {
            before(&self.contents, &*self.export);
            let start = Instant::now();
            self.export.export();
            taken += start.elapsed();
            exports += 1;
        }
        self.best = self.best.min(taken.as_nanos() as f64 / f64::from(exports));
    }

    fn allocations(&mut self) -> u64 {
        allocator::start();
        self.export.export();
        let calls = allocator::now().calls;
        allocator::stop();
        calls
    }
}

/// Everything as it stands: time, allocations and size of an export.
pub fn run(series: usize, libraries: &[Library], plan: Plan, report: &mut Report) {
    let mut contenders: Vec<Contender> = libraries
        .iter()
        .filter_map(|library| {
            let temporality = AggregationTemporality::Cumulative;
            Some(Contender::new(library.name, library.export?, series, temporality))
        })
        .collect();
    for _ in 0..plan.rounds {
        for contender in &mut contenders {
            contender.round(plan, |_, _| {});
        }
    }
    for contender in &contenders {
        report.row(&format!("otlp_encode_{series}"), 1, contender.library, contender.best);
    }
    for contender in &mut contenders {
        let workload = format!("allocations_otlp_encode_{series}");
        report.row(&workload, 1, contender.library, contender.allocations() as f64);
    }
    for contender in &contenders {
        let workload = format!("otlp_bytes_{series}");
        report.note(&workload, 1, contender.library, contender.bytes as f64);
    }
}

/// What was counted since the last time, after every series has moved. Without ratios: a library that forgets its series at
/// each export lets those pay for it who record.
pub fn delta(libraries: &[Library], plan: Plan, report: &mut Report) {
    let temporality = AggregationTemporality::Delta;
    for library in libraries {
        let Some(make) = library.export_delta else {
            continue;
        };
        let mut contender = Contender::new(library.name, make, DELTA, temporality);
        contender.contents.touch(&*contender.export);
        let moved = held(&contender.export.requests(), temporality);
        assert_eq!(moved, contender.contents.of_a_touch(), "{}: increments", library.name);
        for _ in 0..plan.rounds {
            contender.round(plan, |contents, registry| contents.touch(registry));
        }
        let workload = format!("otlp_encode_delta_{DELTA}");
        report.note(&workload, 1, library.name, contender.best);
    }
}

/// What requests hold, read by the messages that the protocol's own project makes. Ends the process if a point is not
/// what it is to be.
fn held(requests: &[u8], temporality: AggregationTemporality) -> Held {
    let request = ExportMetricsServiceRequest::decode(requests).expect("the requests can be read");
    let scopes = request
        .resource_metrics
        .iter()
        .flat_map(|resource| &resource.scope_metrics);
    let mut held = Held::default();
    for metric in scopes.flat_map(|scope| &scope.metrics) {
        match metric.data.as_ref().expect("a metric has data") {
            Data::Sum(sum) => {
                assert!(sum.is_monotonic && sum.aggregation_temporality == temporality as i32);
                for point in &sum.data_points {
                    assert_eq!(point.attributes.len(), 3);
                    let Some(Value::AsInt(value)) = point.value else {
                        panic!("{:?} is not a whole number", point.value)
                    };
                    held.counters += 1;
                    held.counted += value as f64;
                }
            }
            Data::Histogram(histogram) => {
                assert_eq!(histogram.aggregation_temporality, temporality as i32);
                for point in &histogram.data_points {
                    assert_eq!(point.attributes.len(), 3);
                    assert_eq!(point.explicit_bounds, BOUNDS);
                    assert_eq!(point.bucket_counts.len(), BOUNDS.len() + 1);
                    assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count);
                    held.histograms += 1;
                    held.observations += point.count as f64;
                    held.observed += point.sum.expect("no value is negative");
                }
            }
            other => panic!("nobody has recorded {other:?}"),
        }
    }
    held
}
