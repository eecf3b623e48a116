//! The destination as a whole, against a server that says what a script has.

use super::{Compression, Otlp, OtlpBuilder, Protocol, TemporalityPreference};
use crate::{
    Answer, BatchId, Destination, Exporter, Payload, Registry, RetryPolicy, Secret, Temporality,
    destination::Preferences, testing::ManualClock,
};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest, common::v1::any_value, metrics::v1::ResourceMetrics,
};
use prost::Message;
use std::{
    ffi::OsString,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

const DEADLINE: Duration = Duration::from_secs(60);

/// A server that answers one request after the other, each on a connection of its own.
struct Server {
    url: String,
    received: JoinHandle<Vec<Received>>,
}

#[derive(Debug)]
struct Received {
    /// The request line and the headers, in lower case.
    head: Vec<String>,
    body: Vec<u8>,
}

impl Server {
    /// `answers` are heads without their last line, and bodies; an empty head is no answer at all.
    fn start(answers: Vec<(&'static str, &'static [u8])>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let received = thread::spawn(move || {
            let answer = |(head, body): (&str, &[u8])| {
                let (mut stream, _) = listener.accept().unwrap();
                let received = Received::read(&stream);
                if !head.is_empty() {
                    stream
                        .write_all(format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n").as_bytes())
                        .unwrap();
                    stream.write_all(body).unwrap();
                }
                received
            };
            answers.into_iter().map(answer).collect()
        });
        Server { url, received }
    }

    fn otlp(&self) -> OtlpBuilder {
        Otlp::builder().endpoint(&self.url).no_proxy()
    }

    fn received(self) -> Vec<Received> {
        self.received.join().unwrap()
    }
}

impl Received {
    fn read(stream: &TcpStream) -> Self {
        let mut reader = BufReader::new(stream);
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            match line.trim_end() {
                "" => break,
                line => head.push(line.to_lowercase()),
            }
        }
        let mut received = Received { head, body: Vec::new() };
        let len = received.header("content-length").unwrap().parse().unwrap();
        received.body = vec![0; len];
        reader.read_exact(&mut received.body).unwrap();
        received
    }

    /// What a counter without labels has in it.
    #[cfg(target_os = "linux")]
    fn count(&self, name: &str) -> i64 {
        use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point::Value};
        let request = self.request();
        let metrics = request.scope_metrics.iter().flat_map(|scope| &scope.metrics);
        let points = metrics
            .filter(|metric| metric.name == name)
            .flat_map(|metric| match &metric.data {
                Some(Data::Sum(sum)) => &sum.data_points,
                other => panic!("a counter is a sum, not {other:?}"),
            });
        let value = |point: &opentelemetry_proto::tonic::metrics::v1::NumberDataPoint| match point.value {
            Some(Value::AsInt(count)) => count,
            other => panic!("a counter counts whole, not {other:?}"),
        };
        points.map(value).sum()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.iter().filter_map(|line| line.split_once(": "));
        lines.find_map(|(each, value)| (each == name).then_some(value))
    }

    fn request(&self) -> ResourceMetrics {
        let mut body = Vec::new();
        match self.header("content-encoding") {
            Some("gzip") => flate2::read::GzDecoder::new(&*self.body)
                .read_to_end(&mut body)
                .unwrap(),
            other => {
                assert_eq!(other, None);
                body.write(&self.body).unwrap()
            }
        };
        let request: ExportMetricsServiceRequest = match self.header("content-type") {
            Some("application/x-protobuf") => ExportMetricsServiceRequest::decode(&*body).unwrap(),
            Some("application/json") => serde_json::from_slice(&body).unwrap(),
            other => panic!("{other:?} is no content type of OTLP"),
        };
        request.resource_metrics.into_iter().next().unwrap()
    }
}

fn payload(points: usize) -> Payload {
    let id = BatchId {
        exporter: 1,
        sequence: 1,
    };
    Payload::new(b"some bytes".to_vec(), id, points)
}

fn attribute(request: &ResourceMetrics, key: &str) -> Option<String> {
    let attributes = &request.resource.as_ref().unwrap().attributes;
    let attribute = attributes.iter().find(|attribute| attribute.key == key)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        any_value::Value::StringValue(value) => Some(value.clone()),
        other => panic!("{other:?} is no text"),
    }
}

const OK: (&str, &[u8]) = ("200 OK\r\nContent-Length: 0", b"");

#[test]
fn a_request_has_what_was_asked_for() {
    for (protocol, compression) in [
        (Protocol::Protobuf, Compression::None),
        (Protocol::Protobuf, Compression::Gzip),
        (Protocol::Json, Compression::Gzip),
    ] {
        let server = Server::start(vec![OK]);
        let otlp = server
            .otlp()
            .protocol(protocol)
            .compression(compression)
            .header("X-Scope", "a b")
            .bearer_token("t0ken")
            .service_name("shop")
            .resource_attribute("region", "eu")
            .scope("my.scope", "7")
            .user_agent("shop/1.2")
            .build()
            .unwrap();
        let registry = Registry::new();
        registry.counter("jobs_total", "Jobs.").register().unwrap().add(3);
        let exporter = Exporter::new(otlp).phase(false).start(&registry).unwrap();
        assert!(exporter.flush(DEADLINE).unwrap().delivered > 0);
        // The server is about to go, so there is nothing more to deliver to.
        let _ = exporter.shutdown(Duration::ZERO);
        let received = &server.received()[0];
        assert_eq!(received.head[0], "post /v1/metrics http/1.1");
        assert_eq!(received.header("x-scope"), Some("a b"));
        assert_eq!(received.header("authorization"), Some("bearer t0ken"));
        let agent = concat!("shop/1.2 otel-otlp-exporter-rust/", env!("CARGO_PKG_VERSION"));
        assert_eq!(received.header("user-agent"), Some(agent));
        let request = received.request();
        assert_eq!(attribute(&request, "service.name").as_deref(), Some("shop"));
        assert_eq!(attribute(&request, "region").as_deref(), Some("eu"));
        assert_eq!(attribute(&request, "service.instance.id").unwrap().len(), 36);
        let scope = request.scope_metrics[0].scope.as_ref().unwrap();
        assert_eq!((&*scope.name, &*scope.version), ("my.scope", "7"));
        assert!(
            request.scope_metrics[0]
                .metrics
                .iter()
                .any(|metric| metric.name == "jobs_total")
        );
    }
}

#[test]
fn answers_are_heard() {
    let answers: Vec<(&str, &[u8])> = vec![
        ("503 Busy\r\nRetry-After: 7\r\nContent-Length: 4", b"busy"),
        (
            "307 Elsewhere\r\nLocation: http://u:p@other/x?k=v\r\nContent-Length: 0",
            b"",
        ),
        (
            "200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 7",
            b"\x0a\x05\x08\x63\x12\x01x",
        ),
        ("200 OK\r\nContent-Type: text/html\r\nContent-Length: 6", b"<html>"),
        (
            "200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 70",
            b"\x0a",
        ),
        ("400 Bad\r\nContent-Length: 30", b"cut"),
        ("", b""),
    ];
    let expected = [
        Answer::retry("it answered 503: busy").after(Duration::from_secs(7)),
        Answer::carry_over(
            "it answered 307 and redirects to http://other/x; redirects are not followed: set the endpoint to where it should go",
        ),
        // Not more than there were.
        Answer::partly_rejected(5, "x"),
        Answer::unclear(
            "it answered 200 with a body of type text/html, which is no answer of OTLP (is it a proxy, or another server?): <html>",
        ),
        Answer::unclear("it answered 200 and broke off: whether it rejected points is not known"),
        Answer::rejected("it answered 400: cut"),
    ];
    let count = answers.len();
    let server = Server::start(answers);
    let mut otlp = server.otlp().build().unwrap();
    for expected in expected {
        assert_eq!(otlp.send(&payload(5), DEADLINE), expected);
    }
    assert_eq!(otlp.send(&payload(5), DEADLINE).verdict, Answer::unclear("").verdict);
    assert_eq!(otlp.activity().connections, count as u64);
    server.received();
    // Nobody listens there any more.
    assert_eq!(otlp.send(&payload(5), DEADLINE).verdict, Answer::retry("").verdict);
}

#[test]
fn refused_credentials_are_read_again_and_used() {
    const REFUSED: (&str, &[u8]) = ("401 Unauthorized\r\nContent-Length: 0", b"");
    let path = std::env::temp_dir().join(format!("tidegauge-otlp-token-{}", std::process::id()));
    std::fs::write(&path, "first").unwrap();
    let server = Server::start(vec![REFUSED, REFUSED, OK]);
    let mut otlp = server.otlp().bearer_token(Secret::file(&path)).build().unwrap();

    assert_eq!(
        otlp.send(&payload(1), DEADLINE),
        Answer::unauthorized("it answered 401")
    );
    assert!(!otlp.reload_credentials());
    std::fs::write(&path, "second").unwrap();
    assert_eq!(
        otlp.send(&payload(1), DEADLINE).verdict,
        Answer::unauthorized("").verdict
    );
    assert!(otlp.reload_credentials() && !otlp.reload_credentials());
    assert_eq!(otlp.send(&payload(1), DEADLINE), Answer::delivered());
    assert_eq!(otlp.activity().credential_reloads, 1);
    std::fs::remove_file(&path).unwrap();
    let received = server.received();
    let tokens: Vec<_> = received
        .iter()
        .map(|each| each.header("authorization").unwrap())
        .collect();
    assert_eq!(tokens.last(), Some(&"bearer second"));
}

/// All of 127.0.0.0/8 is this machine. At its old address nobody else is given its port.
#[test]
#[cfg(target_os = "linux")]
fn a_far_end_that_moves_gets_the_rest_at_its_new_address() {
    let first = TcpListener::bind("127.0.0.3:0").unwrap();
    let port = first.local_addr().unwrap().port();
    let second = TcpListener::bind(("127.0.0.2", port)).unwrap();
    let address = Arc::new(Mutex::new(first.local_addr().unwrap()));
    let moved = second.local_addr().unwrap();
    let (looking, at) = (Arc::new(Mutex::new(Vec::new())), address.clone());
    let lookers = looking.clone();
    let mut otlp = Otlp::builder()
        .endpoint(format!("http://collector.test:{port}"))
        .no_proxy()
        .temporality(TemporalityPreference::Delta)
        .build()
        .unwrap();
    otlp.client.look_up_with(move |name| {
        assert_eq!(name, format!("collector.test:{port}"));
        lookers.lock().unwrap().push(thread::current().id());
        Ok(vec![*at.lock().unwrap()])
    });
    let registry = Registry::new();
    let jobs = registry.counter("jobs_total", "Jobs.").register().unwrap();
    let wait = Duration::from_millis(2);
    let exporter = Exporter::new(otlp)
        .interval(Duration::from_millis(5))
        .retry(RetryPolicy::new().initial(wait).most(wait))
        .start(&registry)
        .unwrap();

    // It moves after three requests; those that find it at its old address are refused.
    let first = serve(first, |served| served == 3);
    let deadline = Instant::now() + DEADLINE;
    let mut recorded = 0;
    let mut record_until = |is_so: &dyn Fn() -> bool| {
        while !is_so() {
            assert!(Instant::now() < deadline);
            jobs.inc();
            recorded += 1;
            thread::yield_now();
        }
    };
    record_until(&|| first.is_finished());
    let before = exporter.stats();
    record_until(&|| exporter.stats().retried_points > before.retried_points);
    *address.lock().unwrap() = moved;
    let over = Arc::new(Mutex::new(false));
    let second = serve(second, {
        let over = over.clone();
        move |_| *over.lock().unwrap()
    });
    record_until(&|| exporter.stats().delivered_payloads > before.delivered_payloads + 3);
    while let Err(error) = exporter.flush(DEADLINE) {
        assert!(Instant::now() < deadline, "{error}");
    }
    exporter.shutdown(DEADLINE).unwrap();
    *over.lock().unwrap() = true;
    TcpStream::connect(moved).unwrap();

    let received = [first.join().unwrap(), second.join().unwrap()];
    let arrived = |received: &[Received]| -> i64 { received.iter().map(|received| received.count("jobs_total")).sum() };
    assert!(received.iter().all(|received| arrived(received) > 0));
    assert_eq!(received.iter().map(|received| arrived(received)).sum::<i64>(), recorded);
    let looking = looking.lock().unwrap();
    assert!(looking.len() >= 2 && !looking.contains(&thread::current().id()));
}

/// Takes requests, each on a connection of its own, until it is enough, and then refuses connections.
#[cfg(target_os = "linux")]
fn serve(listener: TcpListener, is_enough: impl Fn(usize) -> bool + Send + 'static) -> JoinHandle<Vec<Received>> {
    thread::spawn(move || {
        let mut received = Vec::new();
        while !is_enough(received.len()) {
            let (mut stream, _) = listener.accept().unwrap();
            if is_enough(received.len()) {
                break;
            }
            received.push(Received::read(&stream));
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
                .unwrap();
        }
        received
    })
}

#[test]
fn code_wins_over_the_environment() {
    let server = Server::start(vec![OK]);
    let variables = [
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://nowhere.invalid"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-one=of%20env,x-two=of%20env"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1000"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "7000"),
        ("OTEL_METRIC_EXPORT_TIMEOUT", "8000"),
        ("OTEL_SERVICE_NAME", "of env"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=hidden,region=env,zone=env"),
    ];
    let look_up = |wanted: &str| {
        let found = variables.iter().find(|(name, _)| *name == wanted);
        found.map(|(_, value)| OsString::from(value))
    };

    let of_environment = Otlp::builder().environment_from(&look_up).build().unwrap();
    assert_eq!(of_environment.address(), "http://nowhere.invalid/");
    assert_eq!(of_environment.protocol, Protocol::Json);
    assert_eq!(of_environment.compression, Compression::Gzip);
    assert_eq!(of_environment.temporality, TemporalityPreference::Delta);
    let expected = Preferences {
        interval: Some(Duration::from_secs(7)),
        send_timeout: Some(Duration::from_secs(1)),
        retry_for: Some(Duration::from_secs(8)),
        ..Preferences::default()
    };
    assert_eq!(of_environment.preferences(), expected);

    let otlp = server
        .otlp()
        .environment_from(&look_up)
        .header("X-One", "of code")
        .timeout(Duration::from_secs(2))
        .compression(Compression::None)
        .protocol(Protocol::Protobuf)
        .temporality(TemporalityPreference::Cumulative)
        .resource_attribute("region", "code")
        .build()
        .unwrap();
    assert_eq!(otlp.preferences().send_timeout, Some(Duration::from_secs(2)));
    assert_eq!(otlp.temporality, TemporalityPreference::Cumulative);
    let exporter = Exporter::new(otlp).phase(false).start(&Registry::new()).unwrap();
    exporter.flush(DEADLINE).unwrap();
    let _ = exporter.shutdown(Duration::ZERO);
    let received = &server.received()[0];
    assert_eq!(received.header("x-one"), Some("of code"));
    assert_eq!(received.header("x-two"), Some("of env"));
    assert_eq!(received.header("content-encoding"), None);
    let request = received.request();
    for (key, value) in [("service.name", "of env"), ("region", "code"), ("zone", "env")] {
        assert_eq!(attribute(&request, key).as_deref(), Some(value), "{key}");
    }
    let named = server_name("of code", &look_up);
    assert_eq!(named, "of code");
}

/// The service name that comes of one set in code, beside an environment.
fn server_name(name: &str, look_up: &dyn Fn(&str) -> Option<OsString>) -> String {
    let otlp = Otlp::builder()
        .environment_from(look_up)
        .service_name(name)
        .build()
        .unwrap();
    let attributes = otlp.resource.attributes().iter();
    let mut names = attributes
        .filter(|(key, _)| key == "service.name")
        .map(|(_, value)| value.clone());
    names.next().unwrap()
}

#[test]
fn a_disabled_sdk_exports_nothing() {
    let look_up = |name: &str| (name == "OTEL_SDK_DISABLED").then(|| OsString::from("true"));
    let otlp = Otlp::builder().environment_from(&look_up).build().unwrap();
    assert!(otlp.preferences().disabled);
    let exporter = Exporter::new(otlp).phase(false).start(&Registry::new()).unwrap();
    assert_eq!(exporter.flush(DEADLINE).unwrap().delivered, 0);
}

#[test]
fn temporality_is_by_preference_and_kind() {
    let registry = Registry::builder().clock(ManualClock::new()).build().unwrap();
    registry.counter("a_total", "A.").register().unwrap();
    registry.float_counter("b_total", "B.").register().unwrap();
    registry.histogram("c", "C.").register().unwrap();
    registry.up_down_counter("d", "D.").register().unwrap();
    registry.gauge("e", "E.").register().unwrap();
    registry.observable_counter("f_total", "F.").register(|| 1_u64).unwrap();
    let snapshot = registry.snapshot();
    for (preference, delta) in [
        (TemporalityPreference::Cumulative, ""),
        (TemporalityPreference::Delta, "abcf"),
        (TemporalityPreference::LowMemory, "abc"),
    ] {
        let otlp = Otlp::builder().temporality(preference).build().unwrap();
        let families = snapshot
            .families()
            .filter(|family| otlp.temporality(family) == Temporality::Delta);
        let found: String = families.map(|family| &family.name()[..1]).collect();
        assert_eq!(found, delta, "{preference:?}");
    }
}

#[test]
fn a_forked_process_has_an_instance_id_of_its_own() {
    let server = Server::start(vec![OK, OK]);
    let mut otlp = server.otlp().build().unwrap();
    let parent = instance(&otlp);
    otlp.resource.forget_process();
    let exporter = Exporter::new(otlp).phase(false).start(&Registry::new()).unwrap();
    exporter.flush(DEADLINE).unwrap();
    exporter.flush(DEADLINE).unwrap();
    let _ = exporter.shutdown(Duration::ZERO);
    let ids: Vec<_> = server
        .received()
        .iter()
        .map(|each| attribute(&each.request(), "service.instance.id").unwrap())
        .collect();
    assert!(ids[0] == ids[1] && ids[0] != parent, "{ids:?} {parent}");
}

fn instance(otlp: &Otlp) -> String {
    let mut attributes = otlp.resource.attributes().iter();
    attributes
        .find(|(key, _)| key == "service.instance.id")
        .unwrap()
        .1
        .clone()
}

#[test]
fn settings_that_cannot_be_are_refused_with_the_fix() {
    for (builder, said) in [
        (Otlp::builder().endpoint("collector:4318"), "http://"),
        (Otlp::builder().metrics_url("http://c:99999"), "port"),
        (Otlp::builder().endpoint("http://c").header("a b", "secret"), "header"),
        (Otlp::builder().header("content-type", "secret"), "choose protocol"),
        (Otlp::builder().timeout(Duration::ZERO), "timeout"),
        (Otlp::builder().max_points(0), "max points"),
        (Otlp::builder().max_bytes(65 << 20), "64 MiB"),
        (Otlp::builder().max_bytes(100), "max bytes"),
        (Otlp::builder().service_name(""), "service name"),
        (Otlp::builder().resource_attribute("", "x"), "resource attribute"),
        (Otlp::builder().user_agent(" "), "user agent"),
        (Otlp::builder().user_agent("a\r\nb"), "user agent"),
        (Otlp::builder().proxy("gopher://c"), "proxy"),
        (
            Otlp::builder().ca_file("/nowhere/at.all"),
            if cfg!(feature = "tls") { "nowhere" } else { "`tls`" },
        ),
    ] {
        let Err(error) = builder.build() else {
            panic!("what should have been refused with {said:?} was not");
        };
        let error = error.to_string();
        assert!(error.contains(said) && !error.contains("secret"), "{said}: {error}");
    }
}

#[test]
fn nothing_that_is_shown_is_secret() {
    let look_up = |name: &str| (name == "OTEL_EXPORTER_OTLP_HEADERS").then(|| OsString::from("k=hush"));
    let builder = Otlp::builder()
        .environment_from(&look_up)
        .metrics_url("http://me:hush@c/in?key=hush")
        .header("api-key", "hush")
        .basic_auth("me", "hush")
        .proxy("http://me:hush@proxy:3128");
    assert!(!format!("{builder:?}").contains("hush"), "{builder:?}");
    let otlp = builder.build().unwrap();
    assert!(!format!("{otlp:?} {}", otlp.address()).contains("hush"), "{otlp:?}");
    let error = Otlp::new("htp://me:hush@c?hush").unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hush"), "{error}");
}
