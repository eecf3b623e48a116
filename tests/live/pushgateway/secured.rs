//! A gateway behind TLS, as its own web configuration has it
//! (<https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md>): it knows users and their passwords, or
//! clients by their certificates, but no tokens.

use super::{counting, server::Gateway};
use crate::certificates::make_certificates;
use crate::program::Folder;
use crate::prometheus::{Prometheus, Release, Settings};
use crate::recorded::record;
use tidegauge::{PushFormat, Pushgateway, PushgatewayBuilder};

/// One that has a certificate for its address, with these further lines of its configuration.
fn start(configuration: &str) -> Gateway {
    let folder = Folder::create("pushgateway");
    make_certificates(folder.path());
    let configuration = format!("tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n{configuration}");
    Gateway::start_in(folder, &["--web.config.file=web.yml"], &configuration)
}

fn group(gateway: &Gateway, authority: &str) -> PushgatewayBuilder {
    Pushgateway::builder(format!("https://{}", gateway.address), "batch")
        .no_proxy()
        .ca_file(gateway.folder().join(authority))
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn a_push_with_a_password_over_tls_is_what_prometheus_reads() {
    let gateway = start("");
    let recorded = record();
    let push = |builder: PushgatewayBuilder, password: &str| {
        builder
            .basic_auth("me", password)
            .build()
            .unwrap()
            .push(&recorded.registry)
    };
    for (authority, password, status, words) in [
        ("ca.pem", "open sesam", Some(401), "it answered 401: Unauthorized"),
        ("ca.pem", "", Some(401), "it answered 401: Unauthorized"),
        ("stranger.pem", "open sesame", None, "UnknownIssuer"),
    ] {
        let error = push(group(&gateway, authority), password).unwrap_err();
        assert_eq!(error.status(), status, "{error}");
        let message = error.to_string();
        assert!(message.contains(words) && !message.contains("sesam"), "{message}");
        assert!(
            message.starts_with(&format!("https://{}/metrics/job/batch: ", gateway.address)),
            "{message}"
        );
    }
    // Without TLS it says what is missing.
    let plain = Pushgateway::builder(gateway.url(), "batch").no_proxy();
    let error = push(plain, "open sesame").unwrap_err();
    assert!(error.to_string().contains("HTTP request to an HTTPS server"), "{error}");

    push(group(&gateway, "ca.pem").format(PushFormat::Protobuf), "open sesame").unwrap();
    let settings = Settings {
        scrape: &[
            "honor_labels: true",
            "scrape_interval: 200ms",
            "scrape_timeout: 200ms",
            "scheme: https",
            "tls_config: {insecure_skip_verify: true}",
            "basic_auth: {username: me, password: open sesame}",
        ],
        ..Settings::of(Release::V3_15)
    };
    let mut prometheus = Prometheus::start(settings, gateway.address);
    prometheus
        .while_up(|prometheus| prometheus.pushed("batch"))
        .assert_eq(&recorded.samples.without_signs_of_zero());
    // Nothing came through from those that were turned away.
    let untroubled = r#"push_failure_time_seconds{job="batch"} == 0"#;
    assert!(prometheus.while_up(|prometheus| prometheus.has(untroubled)));
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn a_gateway_and_a_job_know_each_other_by_their_certificates() {
    let gateway = start("  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n");
    let push = |client: Option<&str>| {
        let mut builder = group(&gateway, "ca.pem").basic_auth("me", "open sesame");
        if let Some(client) = client {
            let file = |ending: &str| gateway.folder().join(format!("{client}.{ending}"));
            builder = builder.client_certificate(file("pem"), file("key"));
        }
        builder.build().unwrap().push(&counting("a", 1))
    };
    for (client, words) in [(None, "CertificateRequired"), (Some("impostor"), "UnknownCA")] {
        let error = push(client).unwrap_err();
        assert_eq!(error.status(), None, "{error}");
        assert!(error.to_string().contains(words), "{client:?}: {error}");
    }
    push(Some("client")).unwrap();
}
