//! The destination as a whole, against a server that plays a script.

mod order;

use super::{PushFormat, Pushgateway, PushgatewayBuilder};
use crate::{
    Compression, Destination, Exporter, ExporterHandle, Filter, Registry, RetryPolicy, Secret,
    sync::LongMutex,
    transport::{
        connect::closed_port,
        http::tests::{PATIENCE, Script, Server, header, read_request},
    },
};
use std::{
    collections::HashSet,
    io::{Read, Write},
    net::TcpListener,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// A server that gives these answers, each on a connection of its own, and hands on what it was asked.
struct Gateway {
    server: Server,
    requests: Receiver<(String, Vec<u8>)>,
}

impl Gateway {
    fn start(answers: impl IntoIterator<Item = String>) -> Self {
        let (sender, requests) = channel();
        let server = Server::start(
            answers
                .into_iter()
                .map(|answer| script(answer, sender.clone()))
                .collect(),
        );
        Gateway { server, requests }
    }

    fn answering(answer: &str) -> Self {
        Gateway::start([answer.to_owned()])
    }

    fn url(&self) -> String {
        format!("http://{}", self.server.address)
    }

    fn builder(&self) -> PushgatewayBuilder {
        Pushgateway::builder(self.url(), "backup").no_proxy()
    }

    fn request(&self) -> (String, Vec<u8>) {
        self.requests.recv_timeout(PATIENCE).expect("a request comes")
    }

    /// Nothing else was asked.
    fn end(self) {
        self.server.end();
        assert!(self.requests.try_recv().is_err(), "there were more requests");
    }
}

fn script(answer: String, sender: Sender<(String, Vec<u8>)>) -> Script {
    Box::new(move |mut stream| {
        sender.send(read_request(&mut stream)).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
    })
}

fn refusal(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

fn registry() -> Registry {
    let registry = Registry::new();
    registry.register_own_metrics();
    let deleted = registry.counter("users_deleted", "Users deleted.").labels(["country"]);
    let deleted = deleted.register().unwrap();
    deleted.with(["de"]).add(3);
    deleted.with(["fr"]).add(1);
    registry.gauge("load", "Load.").register().unwrap().set(0.5);
    registry
}

const TEXT: &str = "\
# HELP load Load.
# TYPE load gauge
load 0.5
# HELP users_deleted_total Users deleted.
# TYPE users_deleted_total counter
users_deleted_total{country=\"de\"} 3
users_deleted_total{country=\"fr\"} 1
";

fn text(body: &[u8]) -> &str {
    std::str::from_utf8(body).unwrap()
}

fn unzipped(body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(body).read_to_end(&mut plain).unwrap();
    plain
}

/// An exporter that collects when it is told to, and hardly ever else.
fn on_demand(destination: Pushgateway, registry: &Registry) -> ExporterHandle {
    Exporter::new(destination)
        .interval(Duration::from_secs(3600))
        .phase(false)
        .retry(RetryPolicy::new().initial(Duration::from_millis(1)))
        .start(registry)
        .unwrap()
}

#[test]
fn a_push_puts_an_addition_posts_and_a_deletion_deletes() {
    let gateway = Gateway::start([OK.to_owned(), OK.to_owned(), refusal("202 Accepted", "")]);
    let builder = gateway.builder().label("path", "/var").label("dc", "eu");
    let mut group = builder.build().unwrap();
    let registry = registry();
    group.push(&registry).unwrap();
    group.add(&registry).unwrap();
    group.delete().unwrap();
    for method in ["PUT", "POST", "DELETE"] {
        let (head, body) = gateway.request();
        let line = format!("{method} /metrics/job/backup/path@base64/L3Zhcg/dc/eu HTTP/1.1\r\n");
        assert!(head.starts_with(&line), "{head}");
        let (content_type, expected) = match method {
            "DELETE" => (None, ""),
            _ => (Some("text/plain; version=0.0.4; charset=utf-8"), TEXT),
        };
        assert_eq!(header(&head, "content-type"), content_type);
        assert_eq!(header(&head, "content-encoding"), None);
        assert!(header(&head, "user-agent").unwrap().starts_with("tidegauge/"));
        // The crate's own metrics are not among them, and nothing has a timestamp.
        assert_eq!(text(&body), expected);
    }
    gateway.end();
}

#[test]
fn a_request_has_what_was_asked_for() {
    let gateway = Gateway::start([OK.to_owned(), OK.to_owned()]);
    let builder = gateway.builder().compression(Compression::Gzip).user_agent("backup/1");
    let registry = registry();
    let filter = Filter::new()
        .families(|family| family.name() != "load")
        .series(|series| series.label("country") != Some("fr"));
    let named = builder.clone().basic_auth("user", "pass").header("X-Scope", "tenant");
    named.filter(filter).build().unwrap().push(&registry).unwrap();
    let (head, body) = gateway.request();
    assert_eq!(header(&head, "content-encoding"), Some("gzip"));
    assert_eq!(header(&head, "user-agent"), Some("backup/1"));
    assert_eq!(header(&head, "authorization"), Some("Basic dXNlcjpwYXNz"));
    assert_eq!(header(&head, "x-scope"), Some("tenant"));
    assert!(text(&unzipped(&body)).ends_with("counter\nusers_deleted_total{country=\"de\"} 3\n"));

    let mut all = builder.bearer_token("token").own_metrics(true).build().unwrap();
    all.push(&registry).unwrap();
    let (head, body) = gateway.request();
    assert_eq!(header(&head, "authorization"), Some("Bearer token"));
    assert!(text(&unzipped(&body)).contains("\ntidegauge_uptime_seconds "));
    gateway.end();
}

#[test]
fn pushes_and_exporters_write_protobuf_where_they_are_told() {
    let gateway = Gateway::start([OK.to_owned(), OK.to_owned()]);
    let builder = gateway.builder().format(PushFormat::Protobuf);
    let registry = registry();
    builder.clone().build().unwrap().push(&registry).unwrap();
    let gzipped = builder.compression(Compression::Gzip).build().unwrap();
    let exporter = on_demand(gzipped, &registry);
    assert_eq!(exporter.flush(PATIENCE).unwrap().delivered, 3);
    let bodies = [(); 2].map(|()| {
        let (head, body) = gateway.request();
        assert_eq!(
            header(&head, "content-type"),
            Some("application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited")
        );
        match header(&head, "content-encoding") {
            Some("gzip") => unzipped(&body),
            _ => body,
        }
    });
    assert_eq!(bodies[0], bodies[1]);
    // The first family: its length, its name, its help, its type, and one series with one number.
    let load = b"\x1c\x0a\x04load\x12\x05Load.\x18\x01\x22\x0b\x12\x09\x09\0\0\0\0\0\0\xe0\x3f";
    assert!(bodies[0].starts_with(load), "{:?}", bodies[0]);
    gateway.server.end();
    drop(exporter.shutdown(Duration::ZERO));
}

#[test]
fn a_payload_that_waits_is_sent_in_the_way_that_it_was_meant_for() {
    let builder = Pushgateway::builder("http://localhost:9091", "backup");
    let formats = [
        builder.clone(),
        builder.clone().replace(false),
        builder.clone().format(PushFormat::Protobuf),
        builder.compression(Compression::Gzip),
    ]
    .map(|builder| builder.build().unwrap().payload_format());
    let different: HashSet<&String> = formats.iter().collect();
    assert_eq!(different.len(), formats.len(), "{formats:?}");
}

#[test]
fn a_url_names_a_group_and_a_user() {
    let gateway = Gateway::answering(OK);
    let url = gateway.url().replace("http://", "pushgateway+http://user:p%40ss@");
    let mut group = Pushgateway::from_url(&format!("{url}/gate/metrics/job/a%20b/x/y?tenant=hush")).unwrap();
    assert_eq!(
        group.address(),
        format!("{}/gate/metrics/job@base64/YSBi/x/y", gateway.url())
    );
    let shown = format!("{group:?}");
    assert!(
        !shown.contains("hush") && !shown.contains("p@ss") && !shown.contains("p%40ss"),
        "{shown}"
    );
    group.push(&registry()).unwrap();
    let (head, _) = gateway.request();
    assert!(
        head.starts_with("PUT /gate/metrics/job@base64/YSBi/x/y?tenant=hush HTTP/1.1\r\n"),
        "{head}"
    );
    assert_eq!(header(&head, "authorization"), Some("Basic dXNlcjpwQHNz"));
    gateway.end();
}

#[test]
fn what_is_wrong_with_settings_is_named_and_no_secret_is() {
    let error = |builder: PushgatewayBuilder| builder.build().unwrap_err().to_string();
    let url = "http://user:hush@host:9091";
    for (message, words) in [
        (error(Pushgateway::builder("host:9091", "x")), "http://"),
        (error(Pushgateway::builder(url, "")), "job: must not be empty"),
        (
            error(Pushgateway::builder(url, "x").label("a-b", "c")),
            "letters, digits",
        ),
        (error(Pushgateway::builder(format!("{url}/metrics"), "x")), "from_url"),
        (
            error(Pushgateway::builder(format!("{url}/a/metrics/job/x/"), "x")),
            "from_url",
        ),
        (error(Pushgateway::builder(url, "x").timeout(Duration::ZERO)), "timeout"),
        (
            error(Pushgateway::builder(url, "x").header("content-type", "hush")),
            "compression",
        ),
        (
            error(Pushgateway::builder(url, "x").header("a b", "hush")),
            "name of a header",
        ),
        (error(Pushgateway::builder(url, "x").basic_auth("a:b", "hush")), "colon"),
        (
            error(Pushgateway::builder(url, "x").proxy("ftp://me:hush@proxy")),
            "proxy",
        ),
        (error(Pushgateway::builder(url, "x").user_agent("a\nb")), "user agent"),
    ] {
        assert!(message.contains(words) && !message.contains("hush"), "{message}");
    }
    for (url, words) in [
        ("pushgateway+http://user:hush@host:9091", "names no group"),
        ("pushgateway+ftp://user:hush@host/metrics/job/x", "http://"),
        ("pushgateway://user:hush@host/metrics/job/x", "http://"),
        ("http://user:hush@host/metrics/job/x/y?hush", "without a value"),
    ] {
        let message = Pushgateway::from_url(url).unwrap_err().to_string();
        assert!(message.contains(words) && !message.contains("hush"), "{message}");
    }
    let builder = Pushgateway::builder(url, "x").bearer_token("hush");
    assert!(!format!("{builder:?}").contains("hush"), "{builder:?}");
}

#[test]
fn what_the_gateway_says_is_in_the_error() {
    let words = "pushed metrics are invalid or inconsistent with existing metrics: collected metric \"load\" is not a COUNTER\n";
    let page = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\nConnection: close\r\n\r\nLogin";
    let moved = "HTTP/1.1 301 Moved\r\nLocation: /metrics/job/x?hush\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let answers = [
        refusal("400 Bad Request", words),
        refusal("401 Unauthorized", "Unauthorized\n"),
        refusal("404 Not Found", "404 page not found\n"),
        refusal("413 Content Too Large", ""),
        refusal("503 Service Unavailable", "later"),
        moved.to_owned(),
        page.to_owned(),
    ];
    let statuses = [400, 401, 404, 413, 503, 301, 200];
    let expected = [
        "\"load\" is not a COUNTER",
        "it answered 401: Unauthorized",
        "--web.route-prefix",
        "fewer families",
        "it answered 503: later",
        "redirects to /metrics/job/x;",
        "login",
    ];
    let gateway = Gateway::start(answers);
    let mut group = gateway.builder().bearer_token("hush").build().unwrap();
    for (status, words) in statuses.into_iter().zip(expected) {
        let error = group.push(&registry()).unwrap_err();
        assert_eq!(error.status(), Some(status));
        let message = error.to_string();
        assert!(message.contains(words) && !message.contains("hush"), "{message}");
        assert!(
            message.starts_with(&format!("{}/metrics/job/backup: it answered", gateway.url())),
            "{message}"
        );
        assert!(!message.contains('\n'), "{message}");
    }
    statuses.iter().for_each(|_| drop(gateway.request()));
    gateway.end();
}

#[test]
fn what_a_server_sends_back_of_credentials_is_not_shown() {
    let echo = "no: Bearer from-a-vault, Basic bWU6b3BlbiBzZXNhbWU=, me:open sesame, tenant-7, again from-a-vault";
    let gateway = Gateway::start([(); 3].map(|()| refusal("400 Bad Request", echo)));
    let builder = gateway.builder().header("X-Scope", "tenant-7");
    let of_url = gateway.url().replace("//", "//me:open%20sesame@") + "/metrics/job/x";
    for (mut group, hidden) in [
        (
            builder.clone().bearer_token("from-a-vault").build().unwrap(),
            &["vault", "tenant-7"][..],
        ),
        (
            builder.basic_auth("me", "open sesame").build().unwrap(),
            &["sesame", "bWU6", "tenant-7"],
        ),
        (Pushgateway::from_url(&of_url).unwrap(), &["sesame", "bWU6"]),
    ] {
        let message = group.push(&registry()).unwrap_err().to_string();
        assert!(message.contains("it answered 400: no: Bearer "), "{message}");
        assert!(!hidden.iter().any(|secret| message.contains(secret)), "{message}");
        gateway.request();
    }
    gateway.end();
}

#[test]
fn no_answer_is_an_error_that_says_so() {
    let (_held, closed) = closed_port();
    let builder = Pushgateway::builder(format!("http://{closed}"), "backup").no_proxy();
    let error = builder.build().unwrap().push(&registry()).unwrap_err();
    assert!(
        error.to_string().contains("not sent") && error.status().is_none(),
        "{error}"
    );
    assert!(!error.to_string().contains("not known"), "{error}");

    // It takes the request, and never says what became of it.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let builder = Pushgateway::builder(format!("http://{}", silent.local_addr().unwrap()), "backup").no_proxy();
    let mut group = builder.timeout(Duration::from_millis(100)).build().unwrap();
    let error = group.push(&registry()).unwrap_err();
    assert!(
        error.to_string().contains("is not known") && error.status().is_none(),
        "{error}"
    );
}

#[test]
fn what_the_gateway_would_overwrite_is_not_pushed() {
    let gateway = Gateway::answering(OK);
    let registry = registry();
    for (label, words) in [("country", "metric `users_deleted_total`, label `country`"), ("a", "")] {
        let mut group = gateway.builder().label(label, "x").build().unwrap();
        match group.push(&registry) {
            Ok(()) => assert_eq!(words, ""),
            Err(error) => assert!(!words.is_empty() && error.to_string().contains(words), "{error}"),
        }
    }
    gateway.request();
    gateway.end();
}

/// One of each kind that tokio has.
fn runtimes() -> [tokio::runtime::Runtime; 2] {
    [
        tokio::runtime::Builder::new_current_thread().build().unwrap(),
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .build()
            .unwrap(),
    ]
}

#[test]
fn a_push_within_a_runtime_is_a_push() {
    for runtime in runtimes() {
        let gateway = Gateway::start([(); 4].map(|()| OK.to_owned()));
        let mut group = gateway.builder().build().unwrap();
        let registry = registry();
        runtime.block_on(async {
            group.push(&registry).unwrap();
            group.add(&registry).unwrap();
            let elsewhere = registry.clone();
            let task = tokio::spawn(async move { group.push(&elsewhere).map(|()| group) });
            let mut group = task.await.unwrap().unwrap();
            let task = tokio::task::spawn_blocking(move || group.push(&registry));
            // This thread waits, and the push does not need it.
            assert_eq!(gateway.request().0.split(' ').next(), Some("PUT"));
            assert_eq!(gateway.request().0.split(' ').next(), Some("POST"));
            for _ in 0..2 {
                assert_eq!(text(&gateway.request().1), TEXT);
            }
            task.await.unwrap().unwrap();
        });
        gateway.end();
    }
}

#[test]
fn a_push_within_a_runtime_ends_when_its_time_is_over() {
    // The one takes connections, as the system does that for it, and never answers; the other's name is never found.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    let (found, never) = channel::<()>();
    let never = Arc::new(LongMutex::new(never));
    for runtime in runtimes() {
        for (url, words) in [
            (silent.as_str(), "is not known"),
            ("http://gateway.example", "not sent"),
        ] {
            let builder = Pushgateway::builder(url, "backup").no_proxy();
            let mut group = builder.timeout(Duration::from_millis(100)).build().unwrap();
            let never = Arc::clone(&never);
            group.client.look_up_with(move |_| {
                let _ = never.lock().unwrap().recv();
                Ok(Vec::new())
            });
            let pushed = runtime.block_on(async {
                let task = tokio::spawn(async move { group.push(&registry()) });
                task.await.unwrap()
            });
            let error = pushed.unwrap_err();
            assert!(error.to_string().contains(words) && error.status().is_none(), "{error}");
        }
    }
    drop(found);
}

#[test]
fn an_exporter_puts_everything_again_each_time() {
    let gateway = Gateway::start([OK.to_owned(), OK.to_owned()]);
    let registry = registry();
    let exporter = on_demand(gateway.builder().build().unwrap(), &registry);
    for _ in 0..2 {
        let report = exporter.flush(PATIENCE).unwrap();
        assert_eq!(report.delivered, 3);
        let (head, body) = gateway.request();
        assert!(head.starts_with("PUT /metrics/job/backup HTTP/1.1\r\n"), "{head}");
        assert_eq!(text(&body), TEXT);
    }
    let stats = exporter.stats();
    assert_eq!(
        (stats.delivered_points, stats.rejected_points, stats.carried_over_points),
        (6, 0, 0)
    );
    gateway.server.end();
    drop(exporter.shutdown(Duration::ZERO));
}

#[test]
fn an_exporter_may_post_compressed_and_filtered() {
    let gateway = Gateway::answering(OK);
    let registry = registry();
    let builder = gateway.builder().replace(false).compression(Compression::Gzip);
    let exporter = Exporter::new(builder.build().unwrap())
        .filter(Filter::new().series(|series| series.label("country") != Some("de")))
        .interval(Duration::from_secs(3600))
        .phase(false)
        .start(&registry)
        .unwrap();
    assert_eq!(exporter.flush(PATIENCE).unwrap().delivered, 2);
    let (head, body) = gateway.request();
    assert!(head.starts_with("POST "), "{head}");
    let expected = TEXT.replace("users_deleted_total{country=\"de\"} 3\n", "");
    assert_eq!(text(&unzipped(&body)), expected);
    gateway.server.end();
    drop(exporter.shutdown(Duration::ZERO));
}

#[test]
fn an_exporter_refuses_what_the_gateway_would_overwrite_and_pushes_the_rest() {
    let gateway = Gateway::answering(OK);
    let registry = registry();
    let exporter = on_demand(gateway.builder().label("country", "all").build().unwrap(), &registry);
    let error = exporter.flush(PATIENCE).unwrap_err();
    assert_eq!((error.report().delivered, error.report().rejected), (1, 2), "{error}");
    assert_eq!(
        text(&gateway.request().1),
        "# HELP load Load.\n# TYPE load gauge\nload 0.5\n"
    );
    gateway.server.end();
    drop(exporter.shutdown(Duration::ZERO));
}

#[test]
fn an_exporter_repeats_what_failed_as_it_is() {
    let busy = refusal("503 Service Unavailable", "");
    // The third connection ends without an answer.
    let gateway = Gateway::start([busy.clone(), busy, String::new(), OK.to_owned()]);
    let registry = registry();
    let exporter = on_demand(gateway.builder().build().unwrap(), &registry);
    exporter.flush(PATIENCE).unwrap();
    for _ in 0..4 {
        assert_eq!(text(&gateway.request().1), TEXT);
    }
    let stats = exporter.stats();
    assert_eq!(
        (stats.delivered_points, stats.possible_duplicate_points),
        (3, 0),
        "{stats:?}"
    );
    gateway.server.end();
    drop(exporter.shutdown(Duration::ZERO));
}

#[test]
fn what_is_not_pushed_is_neither_kept_nor_lost() {
    let (_held, closed) = closed_port();
    let registry = registry();
    for (own_metrics, is_exact) in [(false, true), (true, false)] {
        let gateway = Pushgateway::builder(format!("http://{closed}"), "backup").no_proxy();
        let exporter = on_demand(gateway.own_metrics(own_metrics).build().unwrap(), &registry);
        // A busy machine may not come to collect within the first ones.
        let flushes = (1..600).map(|tenths| exporter.flush(Duration::from_millis(100) * tenths));
        let mut kept = flushes.map(|flushed| flushed.unwrap_err().report().kept);
        let kept = kept.find(|kept| *kept > 0);
        assert_eq!(kept == Some(3), is_exact, "{kept:?}");
        drop(exporter.shutdown(Duration::ZERO));
    }
}

#[test]
fn an_exporter_tells_what_the_gateway_refuses() {
    let gateway = Gateway::start([
        refusal("400 Bad Request", "load is not a COUNTER"),
        refusal("413 No", ""),
    ]);
    let registry = registry();
    let exporter = on_demand(gateway.builder().build().unwrap(), &registry);
    for words in ["load is not a COUNTER", "fewer families"] {
        let error = exporter.flush(PATIENCE).unwrap_err();
        assert_eq!(error.report().rejected, 3);
        assert!(error.to_string().contains(words), "{error}");
        gateway.request();
    }
    gateway.server.end();
    drop(exporter.shutdown(Duration::ZERO));
}

#[test]
fn an_exporter_reads_a_refused_token_again() {
    let folder = crate::secret::Folder::new("pushgateway");
    let path = folder.write("token", "first");
    let gateway = Gateway::start([OK.to_owned(), refusal("401 Unauthorized", ""), OK.to_owned()]);
    let registry = registry();
    let exporter = on_demand(
        gateway.builder().bearer_token(Secret::file(&path)).build().unwrap(),
        &registry,
    );
    exporter.flush(PATIENCE).unwrap();
    folder.write("token", "second");
    exporter.flush(PATIENCE).unwrap();
    let tokens = [(); 3].map(|()| header(&gateway.request().0, "authorization").unwrap().to_owned());
    assert_eq!(tokens, ["Bearer first", "Bearer first", "Bearer second"]);
    assert_eq!(exporter.stats().credential_reloads, 1);
    gateway.server.end();
    drop(exporter.shutdown(Duration::ZERO));
}

#[test]
fn nothing_to_push_is_nothing_sent_by_an_exporter_and_an_empty_group_by_a_push() {
    let gateway = Gateway::answering(OK);
    let registry = Registry::new();
    let exporter = on_demand(gateway.builder().build().unwrap(), &registry);
    assert_eq!(exporter.flush(PATIENCE).unwrap().delivered, 0);
    gateway.builder().build().unwrap().push(&registry).unwrap();
    assert_eq!(gateway.request().1, b"");
    gateway.end();
    drop(exporter.shutdown(Duration::ZERO));
}
