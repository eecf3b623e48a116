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
    wait_until_refused(&collector.url(), "first-token");
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
fn wait_until_refused(url: &str, token: &str) {
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
        if reply.status() == 401 {
            return;
        }
        assert!(Instant::now() < deadline, "the Collector still takes the old token");
        thread::yield_now();
    }
}

#[cfg(feature = "tls")]
mod tls {
    use super::*;
    use std::path::Path;
    use std::process::Command;

    /// An authority, a server and a client that it vouches for, and an authority that nobody knows with a client of its own.
    /// The keys are on elliptic curves, in the two forms that openssl writes.
    const SCRIPT: &str = r#"
        set -e
        authority() {
          openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"
          openssl req -x509 -new -key "$1.key" -days 2 -subj "/CN=$1" -out "$1.pem" \
            -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
        }
        leaf() {
          openssl req -new -key "$1.key" -subj "/CN=$1" -out "$1.csr"
          printf '%s\n' "basicConstraints=CA:FALSE" "$3" > "$1.ext"
          openssl x509 -req -in "$1.csr" -CA "$2.pem" -CAkey "$2.key" -CAcreateserial -days 2 -extfile "$1.ext" -out "$1.pem"
        }
        authority ca
        authority stranger
        openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out server.key
        leaf server ca "subjectAltName=IP:127.0.0.1"
        openssl ecparam -name prime256v1 -genkey -noout -out client.key
        leaf client ca "extendedKeyUsage=clientAuth"
        openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out impostor.key
        leaf impostor stranger "extendedKeyUsage=clientAuth"
    "#;

    #[test]
    #[ignore = "needs the servers of .ci/servers"]
    fn a_collector_and_its_client_know_each_other_by_their_certificates() {
        let folder = Folder::create("collector");
        let made = Command::new("sh")
            .args(["-c", SCRIPT])
            .current_dir(folder.path())
            .output();
        let made = made.expect("a shell starts");
        assert!(
            made.status.success(),
            "openssl: {}",
            String::from_utf8_lossy(&made.stderr)
        );
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
