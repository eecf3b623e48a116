//! The proof that the servers which are pushed to say what they got, with requests made by hand: when the crate pushes
//! to them, a difference is its own.

use crate::collector::{self, Collector};
use crate::points::{Number, Point, Series, Temporality, Value, points, totals};
use crate::program::PATIENCE;
use crate::prometheus::{self, Prometheus};
use crate::requests::{Encoding, double, gauge, gzip, histogram, integer, observations, request, sum};
use crate::sample::Samples;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::AggregationTemporality::{self, Cumulative, Delta};
use std::time::SystemTime;

const LABEL: (&str, &str) = ("route", "/");
const FORMS: [(Encoding, bool); 4] = [
    (Encoding::Protobuf, false),
    (Encoding::Protobuf, true),
    (Encoding::Json, false),
    (Encoding::Json, true),
];

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn a_collector_says_what_it_got() {
    let mut collector = Collector::start(collector::Settings::default());
    assert_eq!(collector.points(), []);
    let (began, mut expected) = (began(), Vec::<Point>::new());
    for (number, (encoding, compress)) in (1..).zip(FORMS) {
        let sent = everything(began, number, [Cumulative, Delta]);
        expected.extend(points(&sent).unwrap());
        assert_eq!(post(&collector.url(), encoding, compress, &sent).0, 200);
        assert_eq!(collector.points(), expected);
    }
    collector.stop();
    assert_eq!(collector.points(), expected);
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn what_a_collector_acknowledged_survives_its_being_killed() {
    let mut collector = Collector::start(collector::Settings::default());
    let url = collector.url();
    let (began, mut expected) = (began(), Vec::<Point>::new());
    for number in 1..=4 {
        let sent = everything(began, number, [Cumulative, Delta]);
        expected.extend(points(&sent).unwrap());
        assert_eq!(post(&url, Encoding::Protobuf, true, &sent).0, 200);
        collector.kill();
        assert!(client().get(&url).call().is_err(), "a killed Collector answers");
        collector.start_again();
        assert_eq!(collector.url(), url);
        assert_eq!(collector.points(), expected);
    }
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn a_collector_adds_increments_up() {
    let mut collector = Collector::start(collector::Settings {
        processors: &["delta_to_cumulative: {}", "batch: {timeout: 50ms}"],
        ..collector::Settings::default()
    });
    let began = began();
    for number in 1..=3 {
        let sent = everything(began, number, [Delta, Delta]);
        assert_eq!(post(&collector.url(), Encoding::Protobuf, false, &sent).0, 200);
    }
    collector.stop();
    let totals = totals(&collector.points());
    let expected = Value::Sum {
        value: Number::Integer(6),
        monotonic: true,
    };
    assert_eq!(
        totals[&Series::new("grows", [LABEL], Some(Temporality::Cumulative))],
        expected
    );
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn a_collector_turns_away_who_has_no_credentials() {
    let collector = Collector::start(collector::Settings {
        http: &["auth: {authenticator: bearertokenauth}"],
        extensions: &["bearertokenauth: {token: open-sesame}"],
        ..collector::Settings::default()
    });
    let sent = Encoding::Protobuf.body(&everything(began(), 1, [Cumulative, Delta]));
    let mut statuses = Vec::new();
    for token in ["Bearer abracadabra", "Bearer open-sesame"] {
        let reply = client()
            .post(collector.url())
            .header("Content-Type", Encoding::Protobuf.content_type())
            .header("Authorization", token)
            .send(&sent);
        statuses.push(reply.unwrap().status().as_u16());
    }
    assert_eq!(statuses, [401, 200]);
    assert_eq!(collector.points().len(), 5);
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn prometheus_says_what_was_pushed() {
    let mut prometheus = Prometheus::receive(prometheus::Settings::receiving_otlp());
    let (url, began) = (prometheus.otlp_url(), began());
    for (number, (encoding, compress)) in (1..).zip(FORMS) {
        let sent = everything(began, number, [Cumulative, Cumulative]);
        let reply = post(&url, encoding, compress, &sent);
        assert_eq!(reply, (200, String::new()), "{encoding:?}, compressed: {compress}");
        prometheus
            .pushed("shop")
            .assert_eq(&pushed(number.into(), number.into()));
    }
    // The default is to refuse increments, and then nothing of the request is stored.
    let (status, reply) = post(
        &url,
        Encoding::Protobuf,
        false,
        &everything(began, 9, [Cumulative, Delta]),
    );
    assert_eq!(status, 500, "{reply}");
    assert!(reply.contains("temporality") && reply.contains("adds"), "{reply}");
    // And so it is to refuse what is older than the newest.
    let (status, reply) = post(
        &url,
        Encoding::Protobuf,
        false,
        &everything(began, 2, [Cumulative, Cumulative]),
    );
    assert_eq!(status, 400, "{reply}");
    prometheus.pushed("shop").assert_eq(&pushed(4.0, 4.0));
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn prometheus_adds_increments_up_if_it_may() {
    let mut prometheus = Prometheus::receive(prometheus::Settings::receiving_otlp_deltas());
    let (url, began) = (prometheus.otlp_url(), began());
    let mut total = 0.0;
    for (number, (encoding, compress)) in (1..).zip(FORMS) {
        let sent = everything(began, number, [Cumulative, Delta]);
        let reply = post(&url, encoding, compress, &sent);
        assert_eq!(reply, (200, String::new()), "{encoding:?}, compressed: {compress}");
        total += f64::from(number);
        prometheus.pushed("shop").assert_eq(&pushed(number.into(), total));
    }
    // What is older goes to its place and changes no last value.
    let older = request(
        [("service.name", "shop")],
        [gauge("late", [double(1.0, (0, began), LABEL)])],
    );
    let newer = request(
        [("service.name", "shop")],
        [gauge("late", [double(2.0, (0, began + SECOND), LABEL)])],
    );
    for sent in [&newer, &older] {
        let reply = post(&url, Encoding::Protobuf, false, sent);
        assert_eq!(reply, (200, String::new()));
    }
    let mut expected = pushed(4.0, total);
    expected.insert("late_bytes", [LABEL], 2.0);
    prometheus.pushed("shop").assert_eq(&expected);
}

/// Requests that follow each other: the first has the number 1. What grows is that number by then; what adds grew by
/// that number since the one before.
fn everything(began: u64, number: u32, [grows, adds]: [AggregationTemporality; 2]) -> ExportMetricsServiceRequest {
    let time = began + u64::from(number) * SECOND;
    let since = |temporality| if temporality == Delta { time - SECOND } else { began };
    let value = f64::from(number);
    let buckets = [u64::from(number), 0, u64::from(number)];
    request(
        [("service.name", "shop"), ("service.instance.id", "till 1")],
        [
            sum("grows", grows, [integer(number.into(), (since(grows), time), LABEL)]),
            sum("adds", adds, [double(value, (since(adds), time), LABEL)]),
            gauge("level", [double(-value, (began, time), LABEL)]),
            histogram(
                "sizes",
                grows,
                [observations(buckets, value, (since(grows), time), LABEL)],
            ),
            histogram("size", adds, [observations(buckets, value, (since(adds), time), LABEL)]),
        ],
    )
}

const SECOND: u64 = 1_000_000_000;

/// When everything began, in nanoseconds since 1970: recently enough for Prometheus to show it. That is a matter of minutes, so
/// each test has a beginning of its own.
fn began() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    (now.expect("it is after 1970").as_secs() - 60) * SECOND
}

/// What Prometheus makes of it, when what grows is `number` and what adds came to `total`.
fn pushed(number: f64, total: f64) -> Samples {
    let mut samples = Samples::new();
    samples.insert("grows_bytes_total", [LABEL], number);
    samples.insert("adds_bytes_total", [LABEL], total);
    samples.insert("level_bytes", [LABEL], -number);
    for (name, total) in [("sizes", number), ("size", total)] {
        for (bound, count) in [("1", total), ("2", total), ("+Inf", 2.0 * total)] {
            samples.insert(&format!("{name}_bytes_bucket"), [LABEL, ("le", bound)], count);
        }
        samples.insert(&format!("{name}_bytes_sum"), [LABEL], total);
        samples.insert(&format!("{name}_bytes_count"), [LABEL], 2.0 * total);
    }
    samples
}

fn client() -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .http_status_as_error(false)
        .build()
        .new_agent()
}

fn post(url: &str, encoding: Encoding, compress: bool, sent: &ExportMetricsServiceRequest) -> (u16, String) {
    let mut request = client().post(url).header("Content-Type", encoding.content_type());
    let mut body = encoding.body(sent);
    if compress {
        request = request.header("Content-Encoding", "gzip");
        body = gzip(&body);
    }
    let mut reply = request.send(&body).unwrap();
    // A success in protobuf is no text.
    let text = reply.body_mut().read_to_vec().unwrap();
    (reply.status().as_u16(), String::from_utf8_lossy(&text).into_owned())
}
