//! The crate against programs that others wrote: two releases of Prometheus, their linters, the parsers
//! of Prometheus and of the official Python client, a Collector of OpenTelemetry, servers that speak StatsD, the official
//! clients of DogStatsD, and a validator of JSON schemas.
//!
//! These tests are ignored by default, because they need the programs that the scripts in `.ci/servers` install.
//! `.ci/run` installs them and runs the tests; after that, so does `cargo test --test live -- --ignored`. A program
//! that is missing fails them.

#![cfg(all(
    unix,
    feature = "serve",
    feature = "emf",
    feature = "otlp",
    feature = "pushgateway",
    feature = "statsd"
))]

mod alerts;
#[cfg(feature = "tls")]
mod certificates;
mod collector;
mod emf;
mod parsers;
mod program;
mod prometheus;
mod pushed;
mod pushgateway;
mod pushing;
mod recorded;
mod sample;
mod spooling;
mod statsd;
mod tap;

// What is pushed is read with the same words as in the tests of push, and the far end of a Collector is that of those
// tests.
#[allow(dead_code, reason = "the tests of push need all of it")]
#[path = "../push/behaviour.rs"]
mod behaviour;
#[allow(dead_code, reason = "the tests of push need all of it")]
#[path = "../push/http.rs"]
mod http;
#[path = "../push/json.rs"]
mod json;
#[path = "../push/points.rs"]
mod points;
#[allow(dead_code, reason = "the tests of push need all of it")]
#[path = "../push/receiver.rs"]
mod receiver;
#[path = "../push/requests.rs"]
mod requests;
// Processes that are killed are those of the tests of the spool.
#[path = "../spool/runs.rs"]
mod runs;

use parsers::{Parser, parse};
use program::{PATIENCE, Program, example, installed};
use prometheus::{Prometheus, Release, Settings};
use recorded::record;
use sample::Samples;
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use tap::Tap;
use tidegauge::{Buckets, Registry, Stopped};

const TEXT: &str = "text/plain;version=0.0.4";
const OPEN_METRICS: &str = "application/openmetrics-text;version=1.0.0";

// A real server scrapes

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn prometheus_3_15_reads_back_what_was_recorded() {
    scrape_directly(Settings::of(Release::V3_15));
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn prometheus_2_42_reads_back_what_was_recorded() {
    scrape_directly(Settings::of(Release::V2_42));
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn prometheus_3_15_gets_openmetrics_by_default() {
    let accept = scrape_through_tap(
        Settings::of(Release::V3_15),
        None,
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
    );
    assert!(
        accept.starts_with("application/openmetrics-text;version=1.0.0"),
        "it asked for {accept}"
    );
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn prometheus_3_15_gets_the_classic_text_if_that_is_all_it_takes() {
    let accept = scrape_through_tap(
        Settings {
            scrape: &["scrape_protocols: [PrometheusText0.0.4]"],
            ..Settings::of(Release::V3_15)
        },
        None,
        "text/plain; version=0.0.4; charset=utf-8",
    );
    assert!(accept.starts_with("text/plain;version=0.0.4"), "it asked for {accept}");
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn prometheus_3_15_gets_openmetrics_if_it_would_rather_have_protobuf() {
    let accept = scrape_through_tap(
        Settings {
            scrape: &["scrape_native_histograms: true"],
            ..Settings::of(Release::V3_15)
        },
        None,
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
    );
    assert!(
        accept.starts_with("application/vnd.google.protobuf"),
        "it asked for {accept}"
    );
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn prometheus_3_15_can_do_without_compression() {
    scrape_through_tap(
        Settings {
            scrape: &["enable_compression: false"],
            ..Settings::of(Release::V3_15)
        },
        None,
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
    );
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn prometheus_2_42_reads_the_classic_text() {
    // This release cannot be told which format to ask for.
    scrape_through_tap(
        Settings::of(Release::V2_42),
        Some(TEXT),
        "text/plain; version=0.0.4; charset=utf-8",
    );
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn prometheus_2_42_gets_openmetrics_if_it_would_rather_have_protobuf() {
    let accept = scrape_through_tap(
        Settings {
            flags: &["--enable-feature=native-histograms"],
            ..Settings::of(Release::V2_42)
        },
        None,
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
    );
    assert!(
        accept.starts_with("application/vnd.google.protobuf"),
        "it asked for {accept}"
    );
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn prometheus_on_a_busy_port_does_not_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for release in [Release::V3_15, Release::V2_42] {
        let settings = Settings::of(release);
        let refused = Prometheus::listen(settings, Some(address), address).err();
        let error = refused.unwrap_or_else(|| panic!("{release:?} started on a port that was taken"));
        assert!(error.contains("address already in use"), "{error}");
    }
}

// Somebody else's parser reads

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn prometheus_own_parser_reads_the_classic_text() {
    parse_everything(Parser::Go, TEXT);
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn prometheus_own_parser_reads_openmetrics() {
    parse_everything(Parser::Go, OPEN_METRICS);
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn the_python_client_reads_the_classic_text() {
    parse_everything(Parser::Python, TEXT);
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn the_python_client_reads_openmetrics() {
    parse_everything(Parser::Python, OPEN_METRICS);
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn any_string_survives_as_label_value_and_help() {
    let registry = Registry::new();
    let mut expected = Samples::new();
    let family = registry
        .gauge("value", "Any string.")
        .labels(["of"])
        .register()
        .unwrap();
    let mut helps = Vec::new();
    for (number, string) in (0_u32..).zip(nasty_strings(500)) {
        family.with([string.as_str()]).set(number.into());
        expected.insert("value", [("of", string.as_str())], number.into());
        if number < 100 {
            // The Python parser for the classic text trims a help text.
            let help = format!("<{string}>");
            let name = format!("help_{number}");
            registry.gauge(&name, &help).register().unwrap().set(1.0);
            expected.insert(&name, [("", ""); 0], 1.0);
            helps.push((name, help));
        }
    }
    for format in [TEXT, OPEN_METRICS] {
        let reply = registry.scrape(format, None);
        for parser in [Parser::Go, Parser::Python] {
            let parsed = parse(parser, reply.content_type(), reply.body())
                .unwrap_or_else(|error| panic!("the {parser:?} parser refuses {format}: {error}"));
            parsed.samples.assert_eq(&expected);
            for (name, help) in &helps {
                assert_eq!(&parsed.family(name).1, help, "{name} read by {parser:?} from {format}");
            }
        }
    }
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn constant_labels_and_a_prefix_are_on_everything() {
    let region = "eu \"west\"\\\n";
    let registry = Registry::builder()
        .prefix("app")
        .label("region", region)
        .build()
        .unwrap();
    registry.counter("jobs_total", "Jobs run.").register().unwrap().inc();
    let family = registry
        .gauge("level", "Level of water.")
        .labels(["basin"])
        .register()
        .unwrap();
    family.with(["north"]).set(2.5);
    let mut expected = Samples::new();
    expected.insert("app_jobs_total", [("region", region)], 1.0);
    expected.insert("app_level", [("region", region), ("basin", "north")], 2.5);
    for format in [TEXT, OPEN_METRICS] {
        let reply = registry.scrape(format, None);
        for parser in [Parser::Go, Parser::Python] {
            parse(parser, reply.content_type(), reply.body())
                .unwrap()
                .samples
                .assert_eq(&expected);
        }
    }
}

/// OpenMetrics forbids the sum of a histogram that can observe negative values, and then the count as well: a
/// sum that can fall is no counter. The classic text has no such rule.
#[test]
#[ignore = "needs the servers of .ci/servers"]
fn a_histogram_with_negative_bounds_has_a_sum_in_the_classic_text_only() {
    let registry = Registry::new();
    let buckets = Buckets::explicit([-1.0, 0.0, 1.0]).unwrap();
    let offset = registry
        .histogram("offset", "Off the mark.")
        .buckets(buckets)
        .register()
        .unwrap();
    offset.observe(-0.5);
    offset.observe(0.5);
    let mut expected = Samples::new();
    for (bound, count) in [("-1", 0.0), ("0", 1.0), ("1", 2.0), ("+Inf", 2.0)] {
        expected.insert("offset_bucket", [("le", bound)], count);
    }
    let reply = registry.scrape(OPEN_METRICS, None);
    for parser in [Parser::Go, Parser::Python] {
        parse(parser, reply.content_type(), reply.body())
            .unwrap()
            .samples
            .assert_eq(&expected);
    }
    expected.insert("offset_sum", [("", ""); 0], 0.0);
    expected.insert("offset_count", [("", ""); 0], 2.0);
    let reply = registry.scrape(TEXT, None);
    for parser in [Parser::Go, Parser::Python] {
        parse(parser, reply.content_type(), reply.body())
            .unwrap()
            .samples
            .assert_eq(&expected);
    }
}

/// The proof that the tests above can fail.
#[test]
#[ignore = "needs the servers of .ci/servers"]
fn the_parsers_refuse_what_is_wrong() {
    for parser in [Parser::Go, Parser::Python] {
        let unfinished = parse(parser, OPEN_METRICS, b"# TYPE level gauge\nlevel 1.0\n");
        assert!(
            unfinished.is_err(),
            "{parser:?} took an exposition without its end: {unfinished:?}"
        );
        let worded = parse(parser, TEXT, b"# TYPE level gauge\nlevel one\n");
        assert!(worded.is_err(), "{parser:?} took a word for a value: {worded:?}");
    }
}

// The quickstart

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn quickstart_is_scraped_is_silent_under_promtool_and_stops_on_ctrl_c() {
    let mut quickstart = Program::start(&mut example("quickstart"));
    let url = quickstart
        .wait_for_line(PATIENCE, |line| {
            let address = line.strip_prefix("http://127.0.0.1:")?.strip_suffix("/metrics")?;
            address.parse::<u16>().ok()
        })
        .map(|port| format!("127.0.0.1:{port}"))
        .unwrap_or_else(|error| panic!("{error}"));

    // By now it has registered all it has, and what a scrape adds is there as well.
    for release in [Release::V3_15, Release::V2_42] {
        let tap = Tap::before(url.parse().unwrap(), None);
        let settings = Settings::of(release);
        let mut prometheus = Prometheus::start(settings, tap.address);
        for _ in 0..2 {
            tap.exchanges
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|_| panic!("{release:?} did not scrape"));
        }
        prometheus.assert_up();
    }

    let exposition = ureq::get(format!("http://{url}/metrics"))
        .header("Accept", TEXT)
        .call()
        .and_then(|mut reply| reply.body_mut().read_to_vec())
        .unwrap();
    for promtool in ["prometheus-3.15.0/promtool", "prometheus-2.42/promtool"] {
        assert_eq!(
            check_metrics(promtool, &exposition),
            (Some(0), String::new()),
            "{promtool}"
        );
    }

    quickstart.interrupt();
    let status = quickstart.wait_for_end().unwrap_or_else(|error| panic!("{error}"));
    assert!(
        status.success(),
        "{}",
        quickstart.report(&format!("ended with {status} after an interrupt"))
    );
}

/// The proof that silence means something.
#[test]
#[ignore = "needs the servers of .ci/servers"]
fn promtool_complains_about_a_metric_without_help() {
    for promtool in ["prometheus-3.15.0/promtool", "prometheus-2.42/promtool"] {
        let (status, words) = check_metrics(promtool, b"# TYPE level gauge\nlevel 1\n");
        assert!(
            status == Some(3) && words.contains("level"),
            "{promtool}: {status:?} {words}"
        );
    }
}

// What they share

/// Points a server straight at the endpoint, compares, records some more and compares again.
fn scrape_directly(settings: Settings) {
    let mut recorded = record();
    let (collected, collections) = channel();
    let collection = move || {
        // The test may have ended, and the server may still scrape.
        let _ = collected.send(());
        1.0
    };
    recorded
        .registry
        .observable_gauge("collected", "Tells the test of a scrape.")
        .register(collection)
        .unwrap();
    recorded.samples.insert("collected", [("", ""); 0], 1.0);

    let server = tidegauge::serve("127.0.0.1:0", &recorded.registry).unwrap();
    let mut prometheus = Prometheus::start(settings, server.local_addr().unwrap());
    // Of the next three collections the first may have begun before the latest recording; the second has not, and a
    // server begins the third only after it has stored the second.
    let wait_until_stored = || {
        while collections.try_recv().is_ok() {}
        for scrape in 1..=3 {
            collections
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|_| panic!("{settings:?}: scrape {scrape} did not come within {PATIENCE:?}"));
        }
    };
    wait_until_stored();
    prometheus.scraped().assert_eq(&recorded.samples);

    recorded.record_more();
    wait_until_stored();
    prometheus.scraped().assert_eq(&recorded.samples);

    let in_openmetrics = prometheus.metadata("energy_joules");
    assert_eq!(
        in_openmetrics,
        ("counter".into(), "Energy used.".into(), "joules".into())
    );
    assert_eq!(prometheus.metadata("hostile").1, recorded::HOSTILE_HELP);
    // The server still holds its connection open.
    assert_eq!(server.stop(), Stopped::Joined);
}

/// Points a server at a tap before the endpoint, compares, and hands back what the server asked for. With `accept`
/// the endpoint is asked for that instead.
fn scrape_through_tap(settings: Settings, accept: Option<&'static str>, content_type: &str) -> String {
    let recorded = record();
    let server = tidegauge::serve("127.0.0.1:0", &recorded.registry).unwrap();
    let tap = Tap::before(server.local_addr().unwrap(), accept);
    let mut prometheus = Prometheus::start(settings, tap.address);
    let mut asked = String::new();
    for scrape in 1..=2 {
        let exchange = tap
            .exchanges
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|_| panic!("{settings:?}: scrape {scrape} did not come within {PATIENCE:?}"));
        assert_eq!(exchange.content_type, content_type, "{exchange:?}");
        let compressed = cfg!(feature = "gzip") && !settings.scrape.contains(&"enable_compression: false");
        assert_eq!(
            exchange.content_encoding,
            if compressed { "gzip" } else { "" },
            "{exchange:?}"
        );
        asked = exchange.accept;
    }
    prometheus.scraped().assert_eq(&recorded.samples);
    asked
}

fn parse_everything(parser: Parser, format: &str) {
    let recorded = record();
    let reply = recorded.registry.scrape(format, None);
    assert_eq!(reply.status(), 200);
    let parsed = parse(parser, reply.content_type(), reply.body())
        .unwrap_or_else(|error| panic!("{error}\n{}", String::from_utf8_lossy(reply.body())));
    // The Python client reads `-0`, as the classic text has it, as an integer.
    let samples = match (parser, format) {
        (Parser::Python, TEXT) => recorded.samples.without_signs_of_zero(),
        _ => recorded.samples,
    };
    parsed.samples.assert_eq(&samples);
    for (name, kind, help, unit) in recorded.families {
        // The classic text has no place for a unit.
        let unit = if format == TEXT { "" } else { unit };
        assert_eq!(
            parsed.family(name),
            &(kind.into(), help.into(), unit.into()),
            "family {name}"
        );
    }
}

/// Exit status and words of a linter that reads `exposition`.
fn check_metrics(promtool: &str, exposition: &[u8]) -> (Option<i32>, String) {
    use std::io::Write;
    let mut child = Command::new(installed(promtool))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It reads all of its input before it speaks. Dropping the pipe ends the input.
    child.stdin.take().unwrap().write_all(exposition).unwrap();
    let output = child.wait_with_output().unwrap();
    let words = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&words).into_owned())
}

/// Different strings, the same in every run, of pieces that formats give a meaning.
fn nasty_strings(count: usize) -> BTreeSet<String> {
    const PIECES: [&str; 24] = [
        "\\", "\"", "\n", "\r", "\t", "\0", " ", "n", "a", "#", "{", "}", "=", ",", "# EOF", "\\n", "\\\"", "花", "🌊",
        "\u{301}", "\u{85}", "\u{2028}", "\u{feff}", "\u{7f}",
    ];
    // Marsaglia's xorshift: randomness enough, and no seed to report.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).expect("below a usize")
    };
    let mut strings = BTreeSet::new();
    while strings.len() < count {
        let length = 1 + random(10);
        strings.insert((0..length).map(|_| PIECES[random(PIECES.len())]).collect());
    }
    strings
}
