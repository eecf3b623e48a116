//! A real Collector that wants to know who pushes: tokens that rotate, and certificates on both sides.

use super::everything::Everything;
use super::{assert_totals, deliver, on_demand, otlp, recorded};
use crate::collector::{Collector, Settings};
use crate::points::totals;
use crate::program::{Folder, PATIENCE};
use std::fs;
use std::thread;
use std::time::Instant;
use tidegauge::{Secret, TemporalityPreference};

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn a_token_that_rotates_is_read_again_when_the_collector_turns_the_old_one_away() {
    let folder = Folder::create("collector");
    let (theirs, ours) = (folder.path().join("token"), folder.path().join("token-of-the-client"));
    for file in [&theirs, &ours] {
        fs::write(file, "first-token").unwrap();
    }
    let collector = Collector::start_in(
        folder,
        Settings {
            http: &["auth: {authenticator: bearertokenauth}"],
            extensions: &["bearertokenauth: {filename: token}"],
            ..Settings::default()
        },
    );
    let mut everything = Everything::new();
    let destination = otlp(&collector.url())
        .bearer_token(Secret::file(&ours))
        .temporality(TemporalityPreference::Delta);
    let exporter = on_demand(destination, &everything.registry);
    everything.record();
    deliver(&exporter);
    assert_eq!(exporter.stats().credential_reloads, 0);

    // The server has the new one, and nobody has told the client.
    fs::write(&theirs, "second-token").unwrap();
    wait_until_answered(&collector.url(), "first-token", 401);
    // In between it may have seen a file without any.
    wait_until_answered(&collector.url(), "second-token", 200);
    everything.record();
    let error = exporter.flush(PATIENCE).unwrap_err();
    assert!(error.to_string().contains("401"), "{error}");
    assert!(!error.to_string().contains("-token"), "{error}");
    assert!(error.report().kept > 0 && error.report().rejected == 0, "{error}");

    // Now it has it too; but that is looked for no sooner than the server asks for it.
    fs::write(&ours, "second-token\n").unwrap();
    everything.record();
    deliver(&exporter);
    let statistics = exporter.stats();
    assert_eq!(statistics.credential_reloads, 1);
    assert_eq!(
        (statistics.rejected_points, statistics.possible_duplicate_points),
        (0, 0)
    );
    let points = recorded(collector.points());
    assert_totals(
        &totals(&points),
        &everything.totals(TemporalityPreference::Delta),
        "in the end",
    );
}

/// A file is watched by the server, which tells nobody when it has seen a change.
fn wait_until_answered(url: &str, token: &str, status: u16) {
    let client = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .http_status_as_error(false)
        .build()
        .new_agent();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let reply = client
            .post(url)
            .header("Content-Type", "application/x-protobuf")
            .header("Authorization", format!("Bearer {token}"))
            .send_empty()
            .unwrap();
        if reply.status() == status {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "the Collector answers {} to {token}, and not {status}",
            reply.status()
        );
        thread::yield_now();
    }
}

#[cfg(feature = "tls")]
mod tls {
    use super::*;
    use crate::certificates::make_certificates;
    use std::path::Path;

    #[test]
    #[ignore = "needs the servers of .ci/servers"]
    fn a_collector_and_its_client_know_each_other_by_their_certificates() {
        let folder = Folder::create("collector");
        make_certificates(folder.path());
        let collector = Collector::start_in(
            folder,
            Settings {
                http: &["tls: {cert_file: server.pem, key_file: server.key, client_ca_file: ca.pem}"],
                ..Settings::default()
            },
        );
        let url = format!("https://{}/v1/metrics", collector.address());
        let push = |authority: &Path, client: Option<&str>| {
            let mut destination = otlp(&url).ca_file(authority).temporality(TemporalityPreference::Delta);
            if let Some(client) = client {
                let file = |ending: &str| collector.folder().join(format!("{client}.{ending}"));
                destination = destination.client_certificate(file("pem"), file("key"));
            }
            let mut everything = Everything::new();
            let exporter = on_demand(destination, &everything.registry);
            everything.record();
            exporter
                .flush(PATIENCE)
                .map(|_| everything)
                .map_err(|error| error.to_string())
        };
        let (known, unknown) = (
            collector.folder().join("ca.pem"),
            collector.folder().join("stranger.pem"),
        );
        for (authority, client, why) in [
            (&unknown, Some("client"), "UnknownIssuer"),
            (&known, None, "CertificateRequired"),
            (&known, Some("impostor"), "UnknownCA"),
        ] {
            let Err(error) = push(authority, client) else {
                panic!("{client:?} was let in");
            };
            assert!(error.contains("; 0 points delivered") && error.contains(why), "{error}");
        }
        assert_eq!(collector.points(), []);
        let everything = push(&known, Some("client")).unwrap();
        let points = recorded(collector.points());
        assert_totals(
            &totals(&points),
            &everything.totals(TemporalityPreference::Delta),
            "with certificates",
        );
    }
}
