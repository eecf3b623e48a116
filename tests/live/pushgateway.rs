//! A real Pushgateway: what is pushed is what it has, and what a Prometheus that scrapes it reads.

mod examples;
#[cfg(feature = "tls")]
mod secured;
mod server;

use crate::program::PATIENCE;
use crate::prometheus::{Prometheus, Release, Settings};
use crate::recorded::{HOSTILE_VALUES, record};
use server::{Gateway, Group, Labels};
use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};
use tidegauge::{
    Compression, Exporter, ExporterHandle, Job, PushFormat, Pushgateway, PushgatewayBuilder, Registry, RetryPolicy,
};

/// Further lines of the configuration of a scrape, as a gateway wants it.
const SCRAPE_OFTEN: [&str; 3] = ["honor_labels: true", "scrape_interval: 200ms", "scrape_timeout: 200ms"];

/// A group that the environment of the tests has no say in.
fn group(gateway: &Gateway, job: &str) -> PushgatewayBuilder {
    Pushgateway::builder(gateway.url(), job).no_proxy()
}

/// A registry with one counter.
fn counting(name: &str, count: u64) -> Registry {
    let registry = Registry::new();
    registry.counter(name, "Counted.").register().unwrap().add(count);
    registry
}

fn values(group: &Group) -> Vec<(&str, &str)> {
    let metrics = group.metrics.iter();
    metrics
        .flat_map(|(name, (_, series))| series.iter().map(|(_, value)| (name.as_str(), value.as_str())))
        .collect()
}

#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::yield_now();
    }
}

/// An exporter that does not wait for long after a failure.
fn exporter(destination: PushgatewayBuilder, interval: Duration, registry: &Registry) -> ExporterHandle {
    let eager = RetryPolicy::new()
        .initial(Duration::from_millis(10))
        .most(Duration::from_millis(200));
    Exporter::new(destination.build().unwrap())
        .interval(interval)
        .phase(false)
        .retry(eager)
        .start(registry)
        .unwrap()
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn prometheus_reads_from_the_gateway_what_was_pushed() {
    const SCRAPE: &[&str] = &SCRAPE_OFTEN;
    const SCRAPE_PROTOBUF: &[&str] = &[
        SCRAPE_OFTEN[0],
        SCRAPE_OFTEN[1],
        SCRAPE_OFTEN[2],
        "scrape_protocols: [PrometheusProto]",
    ];
    for (release, scrape, format, compression) in [
        (Release::V3_15, SCRAPE, PushFormat::Text, Compression::None),
        (Release::V2_42, SCRAPE, PushFormat::Text, Compression::Gzip),
        (Release::V3_15, SCRAPE_PROTOBUF, PushFormat::Protobuf, Compression::None),
        (Release::V2_42, SCRAPE, PushFormat::Protobuf, Compression::Gzip),
    ] {
        let gateway = Gateway::start();
        let recorded = record();
        let batch = group(&gateway, "batch").format(format).compression(compression);
        batch.build().unwrap().push(&recorded.registry).unwrap();
        let settings = Settings {
            scrape,
            ..Settings::of(release)
        };
        let mut prometheus = Prometheus::start(settings, gateway.address);
        // In text the gateway shows `-0` as `0`.
        let samples = match scrape {
            SCRAPE_PROTOBUF => recorded.samples,
            _ => recorded.samples.without_signs_of_zero(),
        };
        prometheus
            .while_up(|prometheus| prometheus.pushed("batch"))
            .assert_eq(&samples);
        // They are no instance's, not even the gateway's.
        assert!(!prometheus.while_up(|prometheus| prometheus.has(r#"{job="batch",instance!=""}"#)));
        let untroubled = r#"push_failure_time_seconds{job="batch"} == 0"#;
        assert!(prometheus.while_up(|prometheus| prometheus.has(untroubled)));
    }
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn what_the_readme_s_alerts_for_jobs_ask_for_is_there() {
    let gateway = Gateway::start();
    let nightly = || {
        let registry = Registry::new();
        let destination = group(&gateway, "batch").replace(false).build().unwrap();
        let job = Job::new("nightly").push_to(Exporter::new(destination));
        (job.start(&registry).unwrap(), registry)
    };
    let settings = Settings {
        scrape: &SCRAPE_OFTEN,
        ..Settings::of(Release::V3_15)
    };
    let mut prometheus = Prometheus::start(settings, gateway.address);
    let success = r#"batch_job_last_success_timestamp_seconds{batch_job="nightly"}"#;
    let outcome = r#"batch_job_outcome{batch_job="nightly",outcome="success"}"#;

    let (run, _registry) = nightly();
    assert!(run.fail("on purpose").is_delivered());
    wait_until("a failure is scraped", || prometheus.has(&format!("{outcome} == 0")));
    let unsuccessful = format!("{outcome} unless ignoring (outcome) {success}");
    assert!(prometheus.while_up(|prometheus| prometheus.has(&unsuccessful)));
    let (run, _registry) = nightly();
    assert!(run.succeed().is_delivered());
    wait_until("a success is scraped", || prometheus.has(&format!("{outcome} == 1")));
    let recent = format!("time() - {success} < 3600");
    assert!(prometheus.while_up(|prometheus| prometheus.has(&recent)));
    // The next failure leaves the success where it is.
    let (run, _registry) = nightly();
    assert!(run.fail("on purpose").is_delivered());
    wait_until("another failure is scraped", || {
        prometheus.has(&format!("{outcome} == 0"))
    });
    assert!(prometheus.while_up(|prometheus| prometheus.has(success)));

    let refused = "push_failure_time_seconds > push_time_seconds";
    assert!(!prometheus.while_up(|prometheus| prometheus.has(refused)));
    group(&gateway, "other")
        .build()
        .unwrap()
        .push(&counting("a", 1))
        .unwrap();
    let clashing = Registry::new();
    clashing.gauge("a_total", "Measured.").register().unwrap();
    group(&gateway, "batch").build().unwrap().push(&clashing).unwrap_err();
    wait_until("a refusal is scraped", || prometheus.has(refused));
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn a_push_in_protobuf_is_the_same_as_one_in_text() {
    let mut gateway = Gateway::start();
    let recorded = record();
    let seen = [PushFormat::Text, PushFormat::Protobuf].map(|format| {
        let mut batch = group(&gateway, "batch").format(format).build().unwrap();
        batch.push(&recorded.registry).unwrap();
        let shown = gateway.exposition();
        let lines = shown.lines().filter(|line| !server::is_own(line)).map(str::to_owned);
        let lines: BTreeSet<String> = lines.collect();
        (gateway.group([("job", "batch")]).expect("the group is there"), lines)
    });
    let [(text, text_lines), (protobuf, protobuf_lines)] = &seen;
    assert_eq!(protobuf, text);
    assert_eq!(protobuf_lines, text_lines);
    // Its interface tells the two zeros apart, and what it shows to a scrape does not.
    let (_, edges) = &text.metrics["edge"];
    for (case, number) in [("minus zero", "-0"), ("not a number", "NaN"), ("infinite", "+Inf")] {
        let labels = Labels::from([("case".to_owned(), case.to_owned())]);
        assert!(edges.contains(&(labels, number.to_owned())), "{case}: {edges:?}");
    }
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn an_exporter_pushes_the_same() {
    let gateway = Gateway::start();
    let recorded = record();
    let exporter = exporter(group(&gateway, "batch"), Duration::from_secs(3600), &recorded.registry);
    exporter.flush(PATIENCE).unwrap();
    let settings = Settings {
        scrape: &SCRAPE_OFTEN,
        ..Settings::of(Release::V3_15)
    };
    let mut prometheus = Prometheus::start(settings, gateway.address);
    prometheus
        .while_up(|prometheus| prometheus.pushed("batch"))
        .assert_eq(&recorded.samples.without_signs_of_zero());
    assert!(!prometheus.while_up(|prometheus| prometheus.has(r#"{__name__=~"tidegauge_.*"}"#)));
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn a_push_replaces_an_addition_adds_and_a_deletion_deletes() {
    let mut gateway = Gateway::start();
    let mut batch = group(&gateway, "batch").label("step", "load").build().unwrap();
    let mut other = group(&gateway, "batch").build().unwrap();
    let labels = [("job", "batch"), ("step", "load")];
    let has = |gateway: &mut Gateway, expected: &[(&str, &str)]| {
        let group = gateway.group(labels).expect("the group is there");
        assert_eq!(values(&group), expected);
        assert!(group.is_good);
    };
    batch.push(&counting("a", 1)).unwrap();
    has(&mut gateway, &[("a_total", "1")]);
    batch.add(&counting("b", 2)).unwrap();
    has(&mut gateway, &[("a_total", "1"), ("b_total", "2")]);
    batch.add(&counting("a", 3)).unwrap();
    has(&mut gateway, &[("a_total", "3"), ("b_total", "2")]);
    batch.push(&counting("b", 4)).unwrap();
    has(&mut gateway, &[("b_total", "4")]);
    batch.push(&Registry::new()).unwrap();
    has(&mut gateway, &[]);

    // It has the labels of the other, and one more.
    other.push(&counting("a", 5)).unwrap();
    batch.delete().unwrap();
    wait_until("the group goes", || gateway.group(labels).is_none());
    assert_eq!(values(&gateway.group([("job", "batch")]).unwrap()), [("a_total", "5")]);
    batch.delete().unwrap();
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn every_value_of_a_grouping_label_arrives_as_it_is() {
    let mut gateway = Gateway::start();
    let further = [
        "/", "//", "/var/tmp", "a/b", ".", "..", "../..", "%2F", "%", "+", "a b", "a+b", "?", "#", "=", "@base64",
        "a@base64", "~-_.", "é", "😀",
    ];
    let all: Vec<&str> = HOSTILE_VALUES.into_iter().chain(further).collect();
    for value in &all {
        let job = if value.is_empty() { "job" } else { value };
        let mut batch = group(&gateway, job)
            .label("first", *value)
            .label("last", "x")
            .build()
            .unwrap();
        batch
            .push(&counting("a", 7))
            .unwrap_or_else(|error| panic!("{value:?}: {error}"));
        let labels = [("job", job), ("first", value), ("last", "x")];
        let found = gateway.group(labels).unwrap_or_else(|| panic!("{value:?} is no group"));
        assert_eq!(values(&found), [("a_total", "7")], "{value:?}");
    }
    assert_eq!(gateway.groups().len(), all.len());
    for value in &all {
        let job = if value.is_empty() { "job" } else { value };
        let mut batch = group(&gateway, job)
            .label("first", *value)
            .label("last", "x")
            .build()
            .unwrap();
        batch.delete().unwrap_or_else(|error| panic!("{value:?}: {error}"));
    }
    wait_until("all groups go", || gateway.groups().is_empty());
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn what_the_gateway_refuses_is_told_in_its_words() {
    let mut gateway = Gateway::start();
    group(&gateway, "one").build().unwrap().push(&counting("a", 1)).unwrap();
    let clashing = Registry::new();
    clashing.gauge("a_total", "Measured.").register().unwrap();
    let mut two = group(&gateway, "two").build().unwrap();
    let error = two.push(&clashing).unwrap_err();
    assert_eq!(error.status(), Some(400));
    let words = "pushed metrics are invalid or inconsistent with existing metrics: collected metric \"a_total\"";
    assert!(error.to_string().contains(words), "{error}");
    // All or nothing, and the group says that it was tried.
    let refused = gateway.group([("job", "two")]).unwrap();
    assert!(!refused.is_good && refused.metrics.is_empty(), "{refused:?}");

    // A name of the gateway's own, which is taken if the type is the gateway's too.
    for (name, words) in [
        ("go_goroutines", None),
        (
            "go_memstats_alloc_bytes_total",
            Some("has type GAUGE but should have COUNTER"),
        ),
    ] {
        let own = Registry::new();
        own.gauge(name, "Measured.").register().unwrap();
        match (two.push(&own), words) {
            (Ok(()), None) => {}
            (Err(error), Some(words)) => assert!(error.to_string().contains(words), "{error}"),
            (result, _) => panic!("{name}: {result:?}"),
        }
    }

    // Through an exporter it is counted, and the next collection is pushed.
    let registry = counting("b", 1);
    let gauge = registry.gauge("a_total", "Measured.").labels(["x"]).register().unwrap();
    gauge.with(["y"]).set(1.0);
    let exporter = exporter(group(&gateway, "three"), Duration::from_secs(3600), &registry);
    let error = exporter.flush(PATIENCE).unwrap_err();
    assert_eq!(error.report().rejected, 2, "{error}");
    assert!(error.to_string().contains("a_total"), "{error}");
    assert!(gauge.remove(["y"]));
    exporter.flush(PATIENCE).unwrap();
    assert_eq!(values(&gateway.group([("job", "three")]).unwrap()), [("b_total", "1")]);
    assert!(
        gateway
            .exposition()
            .contains("\nb_total{instance=\"\",job=\"three\"} 1\n")
    );
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn a_gateway_that_does_not_look_takes_everything() {
    let mut gateway = Gateway::start_with(&["--push.disable-consistency-check"]);
    group(&gateway, "one").build().unwrap().push(&counting("a", 1)).unwrap();
    let clashing = Registry::new();
    clashing.gauge("a_total", "Measured.").register().unwrap();
    group(&gateway, "two").build().unwrap().push(&clashing).unwrap();
    // It says that it has not looked.
    let agent = ureq::Agent::config_builder().proxy(None).build().new_agent();
    let url = format!("{}/metrics/job/two", gateway.url());
    assert_eq!(agent.put(url).send("a_total 1\n").unwrap().status(), 202);
    wait_until("both are there", || gateway.groups().len() == 2);
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn a_password_and_a_prefix_are_needed_where_the_gateway_has_them() {
    let gateway = Gateway::start_with(&["--web.config.file=web.yml", "--web.route-prefix=/gate/way"]);
    let below = |password: &str, path: &str| {
        let url = format!(
            "pushgateway+http://me:{password}@{}{path}/metrics/job/batch",
            gateway.address
        );
        Pushgateway::from_url(&url).unwrap().push(&counting("a", 1))
    };
    below("open%20sesame", "/gate/way").unwrap();
    for (password, path, status, words) in [
        ("open%20sesam", "/gate/way", 401, "Unauthorized"),
        ("open%20sesame", "", 404, "--web.route-prefix"),
        ("open%20sesame", "//gate/way", 307, "redirects are not followed"),
    ] {
        let error = below(password, path).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(error.status(), Some(status), "{error}");
        assert!(!error.to_string().contains("sesam"), "{error}");
    }
    let other = Pushgateway::builder(format!("{}/gate/way/", gateway.url()), "batch").no_proxy();
    let mut batch = other.basic_auth("me", "open sesame").build().unwrap();
    batch.push(&counting("b", 1)).unwrap();
    batch.delete().unwrap();
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn an_exporter_that_puts_outlives_the_gateway_and_what_it_has_never_goes_back() {
    outlive_the_gateway(true);
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn an_exporter_that_posts_outlives_the_gateway_and_what_it_has_never_goes_back() {
    outlive_the_gateway(false);
}

fn outlive_the_gateway(puts: bool) {
    let mut gateway = Gateway::start();
    let registry = Registry::new();
    let counter = registry.counter("a", "Counted.").register().unwrap();
    let exporter = exporter(
        group(&gateway, "batch").replace(puts),
        Duration::from_millis(10),
        &registry,
    );
    let mut newest = 0;
    for _ in 0..5 {
        let before = newest;
        wait_until("something newer arrives", || {
            counter.inc();
            let found = gateway.group([("job", "batch")]);
            let found = found.and_then(|group| values(&group).first().map(|(_, value)| value.parse::<u64>().unwrap()));
            let found = found.unwrap_or(newest);
            assert!(found >= newest, "{found} after {newest}");
            newest = found;
            newest > before
        });
        gateway.kill();
        let failures = exporter.stats().carried_over_points;
        wait_until("pushes fail", || exporter.stats().carried_over_points > failures);
        gateway.start_again();
    }
    counter.inc();
    exporter.flush(PATIENCE).unwrap();
    let last = counter.get().to_string();
    assert_eq!(
        values(&gateway.group([("job", "batch")]).unwrap()),
        [("a_total", last.as_str())]
    );
    let stats = exporter.stats();
    assert_eq!(
        (stats.rejected_points, stats.possible_duplicate_points),
        (0, 0),
        "{stats:?}"
    );
}
