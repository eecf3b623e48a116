//! From a URL to an exporter, and what is said of it at the end.

use std::{error::Error, time::Duration};
use tidegauge::{Emf, Exporter, ExporterHandle, Otlp, Pushgateway, StatsD, TemporalityPreference};

/// The exporter of a URL: what is before the first `+` or `:` names the protocol. A further destination needs a line here, and one
/// in the usage.
pub fn exporter(url: &str, delta: bool) -> Result<Exporter, Box<dyn Error>> {
    let (scheme, _) = url.split_once(':').unwrap_or_default();
    let (_, rest) = url.split_once("://").unwrap_or_default();
    match scheme {
        "otlp+http" => otlp(&format!("http://{rest}"), delta),
        "otlp+https" => otlp(&format!("https://{rest}"), delta),
        "pushgateway+http" | "pushgateway+https" => Ok(Exporter::new(Pushgateway::from_url(url)?)),
        "emf+stdout" | "emf+file" => emf(url),
        _ if scheme.starts_with("statsd+") || scheme.starts_with("dogstatsd+") => statsd(url),
        _ => Err(format!(
            "{}: a URL begins with what is spoken there, which is otlp+http://, otlp+https://, pushgateway+http://, \
             pushgateway+https://, emf+stdout:, emf+file://, statsd+ or dogstatsd+ and a transport; write one like \
             otlp+http://127.0.0.1:4318 or statsd+udp://127.0.0.1:8125",
            without_secrets(url)
        )
        .into()),
    }
}

fn otlp(url: &str, delta: bool) -> Result<Exporter, Box<dyn Error>> {
    let builder = match url.ends_with("/v1/metrics") {
        true => Otlp::builder().metrics_url(url),
        false => Otlp::builder().endpoint(url),
    };
    let temporality = match delta {
        true => TemporalityPreference::Delta,
        false => TemporalityPreference::Cumulative,
    };
    let destination = builder.service_name("load").temporality(temporality).build()?;
    Ok(Exporter::new(destination))
}

/// Increments, whatever `--delta` says: there is nothing else in this protocol.
fn statsd(url: &str) -> Result<Exporter, Box<dyn Error>> {
    // What is said of this machine elsewhere is no part of a workload.
    let destination = StatsD::builder(url).environment(false).build()?;
    Ok(Exporter::new(destination))
}

/// Increments here too, of all that grows.
fn emf(url: &str) -> Result<Exporter, Box<dyn Error>> {
    let destination = Emf::builder(url).environment(false).build()?;
    Ok(Exporter::new(destination))
}

/// Whether standard output is the URL's, so that nothing else may be printed there.
pub fn takes_stdout(url: &str) -> bool {
    url.split_once(':').is_some_and(|(scheme, _)| scheme == "emf+stdout")
}

/// Delivers what is left, and says what became of everything.
pub fn push_last(exporter: &ExporterHandle, deadline: Duration) -> String {
    let result = exporter.shutdown(deadline);
    let report = result.as_ref().unwrap_or_else(|error| error.report());
    let done = exporter.stats();
    let mut line = format!("exporter={}", exporter.name());
    for (what, points) in [
        ("delivered", done.delivered_points),
        ("kept", report.kept),
        ("spooled", done.spooled_points),
        ("delivered_spooled", done.delivered_spooled_points),
        ("unclear", report.unclear),
        ("rejected", done.rejected_points),
        ("dropped_queue_full", done.dropped_queue_full_points),
        ("dropped_queue_bytes", done.dropped_queue_bytes_points),
        ("dropped_removed_series", done.dropped_removed_series_points),
        ("dropped_superseded", done.dropped_superseded_points),
        ("dropped_spool_full", done.dropped_spool_full_points),
        ("dropped_spool_age", done.dropped_spool_age_points),
        ("carried_over", done.carried_over_points),
        ("possible_duplicates", done.possible_duplicate_points),
    ] {
        line += &format!(" {what}={points}");
    }
    if let Err(error) = result {
        line += &format!(" error={:?}", error.to_string());
    }
    line
}

/// A URL for a message: without user, password, query and fragment, any of which may be a secret.
fn without_secrets(url: &str) -> String {
    let shown = url.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = match shown.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), shown),
    };
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    format!("{scheme}{host}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegauge::Registry;

    #[test]
    fn the_last_line_has_every_way_to_lose_a_point() {
        let exporter = exporter("statsd+udp://127.0.0.1:9", false).expect("it is a URL");
        let exporter = exporter.start(&Registry::new()).expect("nothing is in its way");
        let line = push_last(&exporter, Duration::ZERO);
        let statistics = format!("{:?}", exporter.stats());
        let names = statistics.split(' ').filter_map(|word| word.strip_suffix("_points:"));
        let missing = names.filter(|name| name.starts_with("dropped_") && !line.contains(&format!(" {name}=")));
        assert_eq!(missing.collect::<Vec<_>>(), [""; 0], "{statistics}");
    }

    #[test]
    fn a_url_that_cannot_be_read_is_named_without_its_secrets() {
        for (url, shown) in [
            ("gopher://me:secret@host/path?token=secret", "gopher://host/path:"),
            ("http://host:4318", "http://host:4318:"),
            ("me:secret@host:4318", "host:4318:"),
            ("", ":"),
        ] {
            let error = exporter(url, false).expect_err("nothing speaks it").to_string();
            assert!(error.starts_with(shown) && !error.contains("secret"), "{error}");
        }
        for url in ["otlp+http://me:secret@:1", "statsd+udp://me:secret@:1?secret"] {
            let error = exporter(url, false).expect_err("it has no host").to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_path_is_a_base_unless_it_is_whole() {
        for url in ["otlp+http://host:1", "otlp+http://host:1/v1/metrics"] {
            let exporter = format!("{:?}", exporter(url, true).expect("it is a URL"));
            assert!(exporter.contains("\"http://host:1/v1/metrics\""), "{exporter}");
        }
    }

    #[test]
    fn a_group_of_a_gateway_is_the_path_of_its_url() {
        let exporter = exporter("pushgateway+http://host:9091/metrics/job/load/dc/eu", true).expect("it is a URL");
        let exporter = format!("{exporter:?}");
        assert!(
            exporter.contains("\"http://host:9091/metrics/job/load/dc/eu\""),
            "{exporter}"
        );
        for url in [
            "pushgateway+http://me:secret@host:9091",
            "pushgateway+http://me:secret@host/metrics/job/x/y",
        ] {
            let error = self::exporter(url, false).expect_err("it names no group").to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn emf_goes_to_standard_output_or_to_a_file() {
        for (url, address, is_stdout) in [
            ("emf+stdout:", "stdout", true),
            ("emf+stdout:?namespace=Load", "stdout", true),
            (
                "emf+file:///var/log/load.json?namespace=Load",
                "/var/log/load.json",
                false,
            ),
        ] {
            let exporter = format!("{:?}", exporter(url, false).expect("it is a URL"));
            assert!(exporter.contains(&format!("{address:?}")), "{url}: {exporter}");
            assert_eq!(takes_stdout(url), is_stdout, "{url}");
        }
        for url in [
            "emf+file:load.json",
            "emf+stdout:/x",
            "emf+stdout:?namespace=AWS/x",
            "emf:",
        ] {
            exporter(url, false).expect_err("nothing is written there");
        }
    }

    #[test]
    fn every_transport_of_statsd_is_a_scheme_and_the_dialect_may_be_another() {
        for (url, address) in [
            ("statsd+udp://127.0.0.1:8125", "udp://127.0.0.1:8125"),
            ("statsd+tcp://[::1]:8125?dialect=graphite", "tcp://[::1]:8125"),
            ("statsd+udp://host:8125?dialect=telegraf", "udp://host:8125"),
            ("dogstatsd+udp://host:8125", "udp://host:8125"),
            ("dogstatsd+unixgram:///run/datadog.sock", "unixgram:///run/datadog.sock"),
            (
                "dogstatsd+unixstream:///run/datadog.sock",
                "unixstream:///run/datadog.sock",
            ),
        ] {
            let exporter = format!("{:?}", exporter(url, false).expect("it is a URL"));
            assert!(exporter.contains(&format!("{address:?}")), "{url}: {exporter}");
        }
        for url in ["statsd+http://host:8125", "statsd+udp://host:8125?dialect=morse"] {
            exporter(url, false).expect_err("nothing speaks it");
        }
    }
}
