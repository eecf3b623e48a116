//! The proof that the far end of these tests does what it is told and sees what comes, with ordinary clients: what the
//! crate is blamed for later must not be the receiver's fault.

use crate::behaviour::{Behaviour, RpcStatus};
use crate::json;
use crate::points::{Attribute, Histogram, Number, Point, Scope, Series, Temporality, Value, points, texts};
use crate::receiver::{Outcome, PATIENCE, Receiver};
use crate::requests::{Encoding, double, gauge, gzip, histogram, integer, observations, request, sum};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::metrics::v1::AggregationTemporality::{Cumulative, Delta, Unspecified};
use opentelemetry_proto::tonic::metrics::v1::metric;
use prost::Message;
use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const LABEL: (&str, &str) = ("route", "/");

/// Far longer than any test runs: what waits so long must be told to go on.
const FOREVER: Duration = Duration::from_secs(3600);

// What comes

#[test]
fn every_encoding_is_read_and_kept() {
    let receiver = Receiver::start();
    let sent = everything();
    for (encoding, compress) in [
        (Encoding::Protobuf, false),
        (Encoding::Protobuf, true),
        (Encoding::Json, false),
        (Encoding::Json, true),
    ] {
        let (status, reply) = post(&receiver, encoding, compress, &sent);
        assert_eq!(status, 200);
        match encoding {
            Encoding::Protobuf => assert_eq!(reply, [0x0a, 0]),
            Encoding::Json => assert_eq!(reply, br#"{"partialSuccess":{}}"#),
        }
    }
    receiver.read(|state| {
        assert_eq!(state.requests.len(), 4);
        for request in &state.requests {
            assert_eq!((request.points, request.stored, &request.error), (5, 5, &None));
            assert_eq!(request.message.path, "/v1/metrics");
        }
        assert_eq!(state.requests[0].message.body, sent.encode_to_vec());
        assert_eq!(state.requests[1].message.header("content-encoding"), Some("gzip"));
        assert_eq!(state.series.len(), 5);
        for points in state.series.values() {
            assert_eq!(points.len(), 4);
            assert!(points.iter().all(|point| *point == points[0]), "{points:?}");
        }
    });
}

#[test]
fn a_point_carries_all_that_surrounds_it() {
    let sent = request(
        [("service.name", "shop")],
        [histogram(
            "size",
            Delta,
            [observations([1, 2, 3], 20.5, (10, 20), LABEL)],
        )],
    );
    let expected = Point {
        series: Series::new("size", [LABEL], Some(Temporality::Delta)),
        unit: "By".to_string(),
        description: "size by hand".to_string(),
        resource: texts([("service.name", "shop")]).into(),
        scope: Scope {
            name: "by hand".to_string(),
            version: "1".to_string(),
        }
        .into(),
        start: 10,
        time: 20,
        value: Value::Histogram(Histogram {
            count: 6,
            sum: Some(20.5),
            min: Some(0.5),
            max: Some(10.0),
            bounds: vec![1.0, 2.0],
            buckets: vec![1, 2, 3],
        }),
    };
    assert_eq!(points(&sent), Ok(vec![expected]));
}

#[test]
fn totals_add_what_is_delta_and_take_the_newest_of_the_rest() {
    let receiver = Receiver::start();
    for (number, time) in [(1_i64, 20), (2, 40), (3, 30)] {
        let times = (10, time);
        let buckets = [u64::try_from(number).unwrap(), 0, 1];
        let metrics = [
            sum("adds", Delta, [integer(number, times, LABEL)]),
            sum("grows", Cumulative, [integer(number, times, LABEL)]),
            gauge("level", [double(0.5, times, LABEL)]),
            histogram("size", Delta, [observations(buckets, 3.5, times, LABEL)]),
            histogram("sizes", Cumulative, [observations(buckets, 3.5, times, LABEL)]),
        ];
        assert_eq!(post(&receiver, Encoding::Protobuf, false, &request([], metrics)).0, 200);
    }
    let totals = receiver.totals();
    let total = |name, temporality| &totals[&Series::new(name, [LABEL], temporality)];
    let whole = |value| Value::Sum {
        value: Number::Integer(value),
        monotonic: true,
    };
    let observed = |buckets: [u64; 3], sum| {
        Value::Histogram(Histogram {
            count: buckets.iter().sum(),
            sum: Some(sum),
            min: Some(0.5),
            max: Some(10.0),
            bounds: vec![1.0, 2.0],
            buckets: buckets.to_vec(),
        })
    };
    assert_eq!(totals.len(), 5);
    assert_eq!(*total("adds", Some(Temporality::Delta)), whole(6));
    // The one that came last is older.
    assert_eq!(*total("grows", Some(Temporality::Cumulative)), whole(2));
    assert_eq!(*total("level", None), Value::Gauge(Number::Double(0.5)));
    assert_eq!(*total("size", Some(Temporality::Delta)), observed([6, 0, 3], 10.5));
    assert_eq!(*total("sizes", Some(Temporality::Cumulative)), observed([2, 0, 1], 3.5));
}

#[test]
#[should_panic(expected = "cannot follow")]
fn points_that_do_not_go_together_have_no_total() {
    let receiver = Receiver::start();
    for value in [integer(1, (10, 20), LABEL), double(1.0, (10, 20), LABEL)] {
        let mixed = request([], [sum("adds", Delta, [value])]);
        post(&receiver, Encoding::Protobuf, false, &mixed);
    }
    receiver.totals();
}

#[test]
fn what_no_collector_should_take_is_refused() {
    let receiver = Receiver::start();
    let url = receiver.url();
    let good = everything().encode_to_vec();
    let protobuf = Encoding::Protobuf.content_type();
    let refused = |content_type: &str, content_encoding: &str, body: &[u8]| {
        let headers = [("Content-Type", content_type), ("Content-Encoding", content_encoding)];
        send(&url, headers, body).0
    };
    assert_eq!(refused(protobuf, "", b"no protobuf"), 400);
    assert_eq!(refused(protobuf, "gzip", &good), 400);
    assert_eq!(refused(protobuf, "zstd", &good), 400);
    assert_eq!(refused("application/json", "", b"{"), 400);
    assert_eq!(refused("text/plain", "", &good), 415);
    assert_eq!(client().get(&url).call().unwrap().status(), 405);

    let temporality_unset = request([], [sum("adds", Unspecified, [integer(1, (10, 20), LABEL)])]);
    let (status, reply) = post(&receiver, Encoding::Json, false, &temporality_unset);
    let reply = String::from_utf8(reply).unwrap();
    assert_eq!(status, 400);
    assert!(
        reply.contains("adds") && reply.contains("aggregation temporality 0"),
        "{reply}"
    );

    receiver.read(|state| {
        assert_eq!(state.requests.len(), 7);
        assert!(
            state.requests.iter().all(|request| request.error.is_some()),
            "{}",
            state.summary()
        );
        assert!(state.series.is_empty());
    });
}

#[test]
fn what_is_no_request_is_told_apart() {
    let receiver = Receiver::start();
    for broken in [
        "GET\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n12",
        "POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
        "POST / HTTP/1.1\r\nno header\r\n\r\n",
    ] {
        let mut client = connect(&receiver);
        client.write_all(broken.as_bytes()).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        receiver.wait_for(|state| !state.broken.is_empty());
    }
    receiver.wait_for(|state| state.broken.len() == 4);
    assert!(receiver.read(|state| state.requests.is_empty()));
}

#[test]
fn a_body_may_come_in_chunks() {
    let receiver = Receiver::start();
    let body = everything().encode_to_vec();
    let (first, second) = body.split_at(7);
    let mut client = connect(&receiver);
    client.write_all(CHUNKED).unwrap();
    for chunk in [first, second, &[]] {
        write!(client, "{:x}\r\n", chunk.len()).unwrap();
        client.write_all(chunk).unwrap();
        client.write_all(b"\r\n").unwrap();
    }
    let mut reply = String::new();
    client.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    receiver.read(|state| {
        assert_eq!(state.requests[0].message.body, body);
        assert_eq!(state.requests[0].stored, 5);
    });
}

// What it answers

#[test]
fn the_script_comes_first_and_then_what_always_holds() {
    let receiver = Receiver::start();
    receiver.next([Behaviour::answer(503), Behaviour::accept(), Behaviour::answer(429)]);
    receiver.always(Behaviour::answer(401));
    let statuses: Vec<u16> = (0..5).map(|_| push(&receiver).0).collect();
    assert_eq!(statuses, [503, 200, 429, 401, 401]);
    receiver.read(|state| {
        let stored: Vec<usize> = state.requests.iter().map(|request| request.stored).collect();
        assert_eq!(stored, [0, 5, 0, 0, 0]);
    });
    receiver.wait_for(|state| state.requests[4].outcome == Outcome::Answered(401));
}

#[test]
fn a_reply_has_the_headers_and_the_body_it_is_given() {
    let receiver = Receiver::start();
    for wait in ["120", "Fri, 31 Dec 1999 23:59:59 GMT", "soon"] {
        receiver.next([Behaviour::answer(503).header("Retry-After", wait)]);
        let mut headers = Vec::new();
        let reply = client_post(&client(), &receiver).unwrap();
        headers.extend(
            reply
                .headers()
                .get("Retry-After")
                .map(|value| value.as_bytes().to_vec()),
        );
        assert_eq!(
            (reply.status().as_u16(), headers),
            (503, vec![wait.as_bytes().to_vec()])
        );
    }
    // As if a proxy had lost the answer of a server that stored it.
    let html = Behaviour::answer(502).body("text/html", "<h1>Bad Gateway</h1>");
    receiver.next([html.clone(), html.storing()]);
    for stored in [0, 5] {
        assert_eq!(push(&receiver), (502, b"<h1>Bad Gateway</h1>".to_vec()));
        assert_eq!(receiver.read(|state| state.requests.last().unwrap().stored), stored);
    }

    receiver.next([Behaviour::answer(307).header("Location", "http://127.0.0.1:1/elsewhere")]);
    let reply = client_post(&client(), &receiver).unwrap();
    assert_eq!(reply.status(), 307);
    assert_eq!(reply.headers()["Location"], "http://127.0.0.1:1/elsewhere");
}

#[test]
fn a_status_body_is_in_the_encoding_of_the_request() {
    let receiver = Receiver::start();
    receiver.always(Behaviour::answer(400).status_body(3, "no such tenant"));
    let (status, reply) = post(&receiver, Encoding::Protobuf, false, &everything());
    let decoded = RpcStatus::decode(reply.as_slice()).unwrap();
    assert_eq!(
        (status, decoded.code, decoded.message.as_str()),
        (400, 3, "no such tenant")
    );
    let (_, reply) = post(&receiver, Encoding::Json, false, &everything());
    assert_eq!(reply, br#"{"code":3,"message":"no such tenant"}"#);
}

#[test]
fn rejected_points_are_the_first_ones_and_are_not_stored() {
    let receiver = Receiver::start();
    receiver.next([
        Behaviour::reject(2, "too old"),
        Behaviour::reject(99, "all"),
        Behaviour::reject(0, "please update"),
    ]);
    let sent = everything();
    let all = points(&sent).unwrap();
    let (status, reply) = post(&receiver, Encoding::Protobuf, false, &sent);
    let partial = ExportMetricsServiceResponse::decode(reply.as_slice())
        .unwrap()
        .partial_success
        .unwrap();
    assert_eq!(
        (status, partial.rejected_data_points, partial.error_message.as_str()),
        (200, 2, "too old")
    );
    receiver.read(|state| {
        let stored: BTreeSet<&Series> = state.series.keys().collect();
        assert_eq!(stored, all[2..].iter().map(|point| &point.series).collect());
    });
    let (_, reply) = post(&receiver, Encoding::Json, false, &sent);
    assert_eq!(
        reply,
        br#"{"partialSuccess":{"errorMessage":"all","rejectedDataPoints":"5"}}"#
    );
    let (_, reply) = post(&receiver, Encoding::Json, false, &sent);
    assert_eq!(
        reply,
        br#"{"partialSuccess":{"errorMessage":"please update","rejectedDataPoints":"0"}}"#
    );
    receiver.read(|state| {
        let stored: Vec<usize> = state.requests.iter().map(|request| request.stored).collect();
        assert_eq!(stored, [3, 0, 5]);
    });
}

#[test]
fn the_script_can_look_at_the_request() {
    let receiver = Receiver::start();
    receiver.always_ask(|request| {
        if request.message.body.len() > 200 {
            Behaviour::answer(413)
        } else {
            Behaviour::accept()
        }
    });
    let small = request([], [gauge("level", [double(1.0, (10, 20), LABEL)])]);
    assert_eq!(push(&receiver).0, 413);
    assert_eq!(post(&receiver, Encoding::Protobuf, false, &small).0, 200);
    assert_eq!(receiver.read(|state| state.series.len()), 1);
}

#[test]
fn requests_are_seen_on_the_connection_they_came_on_and_byte_by_byte() {
    let receiver = Receiver::start();
    let (first, second) = (client(), client());
    for client in [&first, &first, &second] {
        client_post(client, &receiver)
            .unwrap()
            .body_mut()
            .read_to_vec()
            .unwrap();
    }
    receiver.next([Behaviour::accept().closing()]);
    for _ in 0..2 {
        client_post(&first, &receiver)
            .unwrap()
            .body_mut()
            .read_to_vec()
            .unwrap();
    }
    receiver.read(|state| {
        let connections: Vec<usize> = state.requests.iter().map(|request| request.connection).collect();
        assert_eq!(connections, [0, 0, 1, 0, 2]);
        assert_eq!(state.connections, 3);
        assert_eq!(state.requests[0].message.body, state.requests[1].message.body);
    });
}

// What it does not answer

#[test]
fn a_request_can_be_reset_before_it_is_read() {
    let receiver = Receiver::start();
    receiver.next([Behaviour::reset_unread()]);
    let mut client = connect(&receiver);
    client.write_all(b"P").unwrap();
    assert_eq!(rest(&mut client), (Vec::new(), Some(ErrorKind::ConnectionReset)));
    receiver.read(|state| assert_eq!((state.unread, state.requests.len()), (1, 0)));
    assert_eq!(push(&receiver).0, 200);
}

#[test]
fn a_request_can_be_stored_and_the_reply_reset() {
    let receiver = Receiver::start();
    for sent in [0, 1, 20] {
        receiver.next([Behaviour::accept().reset_after(sent)]);
        let mut client = connect(&receiver);
        write_request(&mut client);
        let (reply, error) = rest(&mut client);
        assert_eq!((reply.len(), error), (sent, Some(ErrorKind::ConnectionReset)));
        assert!(b"HTTP/1.1 200 ".starts_with(&reply[..sent.min(13)]));
        receiver.read(|state| {
            let last = state.requests.last().unwrap();
            assert_eq!((last.stored, &last.outcome), (5, &Outcome::Reset { after: sent }));
        });
    }
    receiver.next([Behaviour::answer(200).reset_after(0)]);
    assert!(client_post(&client(), &receiver).is_err());
    assert_eq!(
        receiver.read(|state| state.requests[3].stored),
        0,
        "it need not be stored"
    );
}

#[test]
fn a_request_can_be_held_until_the_test_says_so() {
    let receiver = Receiver::start();
    for behaviour in [Behaviour::accept().held(), Behaviour::accept().slow(FOREVER)] {
        receiver.next([behaviour]);
        let mut client = connect(&receiver);
        write_request(&mut client);
        receiver.wait_for(|state| state.held == 1);
        receiver.read(|state| {
            let last = state.requests.last().unwrap();
            assert_eq!((last.stored, &last.outcome), (5, &Outcome::Pending));
        });
        assert_nothing_comes(&mut client);
        receiver.release();
        let (reply, error) = rest(&mut client);
        assert!(reply.starts_with(b"HTTP/1.1 200 "));
        assert_eq!(error, None);
    }
    receiver.next([Behaviour::accept().slow(Duration::from_millis(1))]);
    assert_eq!(push(&receiver).0, 200, "without being told");
}

#[test]
fn a_reply_can_come_byte_by_byte() {
    let receiver = Receiver::start();
    receiver.next([Behaviour::accept().dribbled(FOREVER)]);
    let mut client = connect(&receiver);
    write_request(&mut client);
    let mut first = [0];
    client.read_exact(&mut first).unwrap();
    receiver.wait_for(|state| state.held == 1);
    assert_nothing_comes(&mut client);
    receiver.release();
    let (reply, error) = rest(&mut client);
    assert!(reply.starts_with(b"TTP/1.1 200 "));
    assert_eq!((first, error), (*b"H", None));

    receiver.next([Behaviour::accept().dribbled(Duration::from_micros(1))]);
    assert_eq!(push(&receiver), (200, vec![0x0a, 0]));
}

#[test]
fn a_reply_can_have_no_end() {
    let receiver = Receiver::start();
    receiver.next([Behaviour::endless(100_000)]);
    let mut client = connect(&receiver);
    write_request(&mut client);
    let mut reply = Vec::new();
    while !reply.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        reply.extend(byte);
    }
    assert!(String::from_utf8(reply).unwrap().contains("Content-Length: 100001\r\n"));
    client.read_exact(&mut vec![0; 100_000]).unwrap();
    receiver.wait_for(|state| state.held == 1);
    assert_nothing_comes(&mut client);
    receiver.release();
    assert_eq!(rest(&mut client), (Vec::new(), Some(ErrorKind::ConnectionReset)));
}

#[test]
fn a_reply_can_be_no_http() {
    let receiver = Receiver::start();
    receiver.next([Behaviour::babble("SSH-2.0-OpenSSH_9.2\r\n")]);
    assert!(client_post(&client(), &receiver).is_err());
    receiver.wait_for(|state| state.requests[0].outcome == Outcome::Babbled);
    assert_eq!(receiver.read(|state| state.requests[0].stored), 0);
}

#[test]
fn a_closed_port_refuses_and_opens_again() {
    let receiver = Receiver::start();
    let address = receiver.address();
    let pooled = client();
    client_post(&pooled, &receiver)
        .unwrap()
        .body_mut()
        .read_to_vec()
        .unwrap();
    // Told to go on, it would be reset.
    receiver.next([Behaviour::accept().held().reset_after(0)]);
    let mut held = connect(&receiver);
    write_request(&mut held);
    receiver.wait_for(|state| state.held == 1);

    for _ in 0..3 {
        receiver.refuse();
        let refused = TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        assert!(client_post(&pooled, &receiver).is_err());
        receiver.listen();
        assert_eq!(client_post(&pooled, &receiver).unwrap().status(), 200);
    }
    assert!(rest(&mut held).0.is_empty(), "the one that was held got no reply");
    receiver.read(|state| {
        assert_eq!((state.held, &state.requests[1].outcome), (0, &Outcome::Abandoned));
    });
}

#[test]
fn connections_can_be_closed_behind_the_back_of_a_client() {
    let receiver = Receiver::start();
    let mut idle = connect(&receiver);
    receiver.wait_for(|state| state.connections == 1);
    receiver.disconnect();
    assert!(rest(&mut idle).0.is_empty());
    assert_eq!(push(&receiver).0, 200);
}

#[test]
fn an_endless_reply_that_nobody_reads_does_not_keep_the_receiver() {
    let receiver = Receiver::start();
    // More than the buffers of both sockets hold.
    receiver.next([Behaviour::endless(64 << 20)]);
    let mut client = connect(&receiver);
    write_request(&mut client);
    receiver.wait_for(|state| state.requests.len() == 1);
    receiver.refuse();
    receiver.read(|state| assert_eq!(state.requests[0].outcome, Outcome::Abandoned));
}

#[test]
#[should_panic(expected = "in vain; 1 connections")]
fn what_does_not_come_fails_the_test_that_waits() {
    let receiver = Receiver::start();
    push(&receiver);
    receiver.wait_at_most(Duration::ZERO, |state| state.requests.len() == 2);
}

// The reader of JSON

#[test]
fn json_is_read_as_the_specification_spells_it() {
    let text = br#"{"resourceMetrics": [{
        "resource": {"attributes": [
            {"key": "service.name", "value": {"stringValue": "shop"}},
            {"key": "process.pid", "value": {"intValue": "42"}},
            {"key": "debug", "value": {"boolValue": true}}
        ]},
        "unknown": {"fields": "are ignored"},
        "scopeMetrics": [{"metrics": [
            {"name": "adds", "sum": {"aggregationTemporality": 1, "isMonotonic": true, "dataPoints": [
                {"startTimeUnixNano": "1700000000000000001", "timeUnixNano": 1700000000000000002,
                 "asInt": "9007199254740993"}
            ]}},
            {"name": "level", "gauge": {"dataPoints": [
                {"timeUnixNano": "1", "asDouble": "NaN"},
                {"timeUnixNano": "2", "asDouble": "-Infinity"},
                {"timeUnixNano": "3", "asDouble": 0.1},
                {"timeUnixNano": "4", "asInt": -5}
            ]}},
            {"name": "size", "histogram": {"aggregationTemporality": 2, "dataPoints": [
                {"timeUnixNano": "1", "count": "3", "sum": 4, "bucketCounts": ["1", 2], "explicitBounds": [1.5]}
            ]}}
        ]}]
    }]}"#;
    let read = points(&json::request(text).unwrap()).unwrap();
    let values: Vec<&Value> = read.iter().map(|point| &point.value).collect();
    let sum = Value::Sum {
        value: Number::Integer(9_007_199_254_740_993),
        monotonic: true,
    };
    let histogram = Value::Histogram(Histogram {
        count: 3,
        sum: Some(4.0),
        min: None,
        max: None,
        bounds: vec![1.5],
        buckets: vec![1, 2],
    });
    let levels = [
        Number::Double(f64::NAN),
        Number::Double(f64::NEG_INFINITY),
        Number::Double(0.1),
        Number::Integer(-5),
    ]
    .map(Value::Gauge);
    let expected: Vec<&Value> = [&sum].into_iter().chain(&levels).chain([&histogram]).collect();
    assert_eq!(values, expected);
    assert_eq!(
        (read[0].start, read[0].time),
        (1_700_000_000_000_000_001, 1_700_000_000_000_000_002)
    );
    assert_eq!(read[0].series.temporality, Some(Temporality::Delta));
    assert_eq!(read[0].resource["process.pid"], Attribute::Integer(42));
    assert_eq!(read[0].resource["debug"], Attribute::Boolean(true));
    assert_eq!(read[5].series.temporality, Some(Temporality::Cumulative));
}

#[test]
fn json_that_the_specification_forbids_is_an_error() {
    for (wrong, error) in [
        (
            r#"{"sum": {"aggregationTemporality": "AGGREGATION_TEMPORALITY_DELTA"}}"#,
            "aggregationTemporality",
        ),
        (
            r#"{"sum": {"dataPoints": [{"timeUnixNano": "1.5"}]}}"#,
            "no unsigned integer",
        ),
        (
            r#"{"gauge": {"dataPoints": [{"asInt": 1.5}]}}"#,
            "asInt: no integer: 1.5",
        ),
        (r#"{"gauge": {"dataPoints": [{"asDouble": "nan"}]}}"#, "no double"),
        (
            r#"{"gauge": {"dataPoints": [{"asDouble": 1, "asInt": "1"}]}}"#,
            "more than one value",
        ),
        (r#"{"gauge": {}, "sum": {}}"#, "more than one data"),
        (r#"{"name": 1}"#, "name: is no string"),
        (r#"{"exponentialHistogram": {}}"#, "exponentialHistogram is not read"),
        (
            r#"{"gauge": {"dataPoints": [{"exemplars": [{}]}]}}"#,
            "exemplars is not read",
        ),
    ] {
        let text = format!(r#"{{"resourceMetrics": [{{"scopeMetrics": [{{"metrics": [{wrong}]}}]}}]}}"#);
        let found = json::request(text.as_bytes()).unwrap_err();
        assert!(found.contains(error), "{wrong}: {found}");
    }
    // Names in the style of protobuf are unknown fields, so the points are missing rather than taken.
    let snake = br#"{"resource_metrics": [{"scope_metrics": []}]}"#;
    assert_eq!(json::request(snake), Ok(ExportMetricsServiceRequest::default()));
}

#[test]
fn both_readers_of_json_agree_where_the_other_one_is_right() {
    let sent = everything();
    let text = Encoding::Json.body(&sent);
    assert_eq!(json::request(&text).as_ref(), Ok(&sent));
    assert_eq!(
        serde_json::from_slice::<ExportMetricsServiceRequest>(&text).unwrap(),
        sent
    );
}

/// Why there is a reader of our own. When this fails, it may go.
#[test]
fn the_reader_of_opentelemetry_proto_loses_what_is_no_number() {
    let text = r#"{"resourceMetrics": [{"scopeMetrics": [{"metrics": [
        {"name": "level", "gauge": {"dataPoints": [{"timeUnixNano": "1", "asDouble": "NaN"}]}}
    ]}]}]}"#;
    let lost = serde_json::from_str(text).unwrap();
    assert!(points(&lost).unwrap_err().contains("without a value"));
    let read = points(&json::request(text.as_bytes()).unwrap()).unwrap();
    assert_eq!(read[0].value, Value::Gauge(Number::Double(f64::NAN)));
}

#[test]
fn points_that_the_data_model_forbids_are_an_error() {
    let wrong = |metric, error: &str| {
        let found = points(&request([], [metric])).unwrap_err();
        assert!(found.contains(error) && found.contains("\"m\""), "{found}");
    };
    let mut no_buckets = observations([1, 2, 3], 1.0, (10, 20), LABEL);
    no_buckets.bucket_counts.pop();
    wrong(histogram("m", Delta, [no_buckets]), "2 buckets for 2 bounds");
    let mut miscounted = observations([1, 2, 3], 1.0, (10, 20), LABEL);
    miscounted.count = 7;
    wrong(histogram("m", Delta, [miscounted]), "counts 7");
    let mut falling = observations([1, 2, 3], 1.0, (10, 20), LABEL);
    falling.explicit_bounds = vec![2.0, 2.0];
    wrong(histogram("m", Delta, [falling]), "do not rise");
    wrong(gauge("m", [integer(1, (0, 0), LABEL)]), "without a time");
    wrong(gauge("m", [integer(1, (30, 20), LABEL)]), "starts at 30");
    let mut nothing = integer(1, (10, 20), LABEL);
    nothing.value = None;
    wrong(gauge("m", [nothing]), "without a value");
    let mut twice = integer(1, (10, 20), LABEL);
    twice.attributes.push(twice.attributes[0].clone());
    wrong(gauge("m", [twice]), "twice");
    let mut no_data = gauge("m", []);
    no_data.data = None;
    wrong(no_data, "no data");
    let mut summary = gauge("m", []);
    summary.data = Some(metric::Data::Summary(Default::default()));
    wrong(summary, "not read here");
}

// What they share

/// One series of each kind.
fn everything() -> ExportMetricsServiceRequest {
    let times = (1_700_000_000_000_000_001, 1_700_000_000_000_000_003);
    request(
        [("service.name", "shop")],
        [
            sum("grows", Cumulative, [integer(7, times, LABEL)]),
            sum("adds", Delta, [double(0.1, times, LABEL)]),
            gauge("level", [double(-2.5, times, LABEL)]),
            histogram("sizes", Cumulative, [observations([1, 2, 3], 20.5, times, LABEL)]),
            histogram("size", Delta, [observations([0, 0, 1], 9.25, times, LABEL)]),
        ],
    )
}

fn client() -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .build()
        .new_agent()
}

fn client_post(client: &ureq::Agent, receiver: &Receiver) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
    client
        .post(receiver.url())
        .header("Content-Type", Encoding::Protobuf.content_type())
        .send(everything().encode_to_vec())
}

fn push(receiver: &Receiver) -> (u16, Vec<u8>) {
    post(receiver, Encoding::Protobuf, false, &everything())
}

fn post(
    receiver: &Receiver,
    encoding: Encoding,
    compress: bool,
    request: &ExportMetricsServiceRequest,
) -> (u16, Vec<u8>) {
    let body = encoding.body(request);
    let url = receiver.url();
    if compress {
        let headers = [("Content-Type", encoding.content_type()), ("Content-Encoding", "gzip")];
        send(&url, headers, &gzip(&body))
    } else {
        send(&url, [("Content-Type", encoding.content_type()), ("", "")], &body)
    }
}

/// Posts with the headers that have a value.
fn send(url: &str, headers: [(&str, &str); 2], body: &[u8]) -> (u16, Vec<u8>) {
    let mut request = client().post(url);
    for (name, value) in headers {
        if !value.is_empty() {
            request = request.header(name, value);
        }
    }
    let mut reply = request.send(body).unwrap();
    (reply.status().as_u16(), reply.body_mut().read_to_vec().unwrap())
}

const CHUNKED: &[u8] = b"POST /v1/metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\
    Content-Type: application/x-protobuf\r\nTransfer-Encoding: chunked\r\n\r\n";

fn connect(receiver: &Receiver) -> TcpStream {
    let client = TcpStream::connect(receiver.address()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.set_write_timeout(Some(PATIENCE)).unwrap();
    client
}

/// The last request of its connection.
fn write_request(client: &mut TcpStream) {
    let body = everything().encode_to_vec();
    write!(
        client,
        "POST /v1/metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Type: application/x-protobuf\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    )
    .unwrap();
    client.write_all(&body).unwrap();
}

/// All that comes until the connection ends, and how it ends.
fn rest(client: &mut TcpStream) -> (Vec<u8>, Option<ErrorKind>) {
    let mut bytes = Vec::new();
    let error = client.read_to_end(&mut bytes).err().map(|error| error.kind());
    (bytes, error)
}

/// What was sent to this client it has read.
fn assert_nothing_comes(client: &mut TcpStream) {
    client.set_nonblocking(true).unwrap();
    let nothing = client.read(&mut [0]).unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    client.set_nonblocking(false).unwrap();
}
