//! What the `OTEL_*` variables ask for, in the grammar of the OpenTelemetry specification:
//! <https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/> and
//! <https://opentelemetry.io/docs/specs/otel/protocol/exporter/>.
//!
//! What cannot be read, or is not supported, is left out and gives one warning that says what is used instead. No warning has
//! the value of a header in it, nor a URL's credentials.

use super::{Compression, METRICS_PATH, Protocol, TemporalityPreference, builder};
use crate::{
    destination::variables::{Variables, shown},
    percent,
    secret::Secret,
    transport::http::{Headers, HttpUrl},
};
use std::{ffi::OsString, path::PathBuf, time::Duration};

/// What the environment asks for.
#[derive(Debug, Default)]
pub(super) struct Environment {
    /// Complete, with the path.
    pub(super) endpoint: Option<HttpUrl>,
    /// Names that can be sent, and values that are never shown.
    pub(super) headers: Vec<(String, Secret)>,
    pub(super) timeout: Option<Duration>,
    pub(super) compression: Option<Compression>,
    pub(super) protocol: Option<Protocol>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) client_certificate: Option<PathBuf>,
    pub(super) client_key: Option<PathBuf>,
    pub(super) temporality: Option<TemporalityPreference>,
    pub(super) interval: Option<Duration>,
    pub(super) retry_for: Option<Duration>,
    pub(super) disabled: bool,
    pub(super) service_name: Option<String>,
    pub(super) resource: Vec<(String, String)>,
    /// In the order of the variables above, each a sentence.
    pub(super) warnings: Vec<String>,
}

/// What a variable's value is, or why it is none.
type Reading<T> = Result<T, String>;

impl Environment {
    /// Reads all variables that concern metrics.
    pub(super) fn read(look_up: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let mut variables = Variables::new(look_up);
        if variables.text("OTEL_CONFIG_FILE").is_some() {
            variables.tell(
                "OTEL_CONFIG_FILE",
                "is not supported",
                "the other OTEL_* variables are used",
            );
        }
        let disabled = variables.boolean("OTEL_SDK_DISABLED") | variables.no_exporter();
        let protocol = variables.of_signal("PROTOCOL", "it is ignored", Variables::protocol);
        let endpoint = variables.endpoint();
        let headers = variables.headers();
        let timeout = variables.of_signal("TIMEOUT", "it is ignored", |_, _, value| milliseconds(value));
        let compression = variables.of_signal("COMPRESSION", "it is ignored", |_, _, value| {
            choice(value, &[("gzip", Compression::Gzip), ("none", Compression::None)])
        });
        let path = |_: &mut Variables<'_>, _: &str, value: &str| Ok(PathBuf::from(value));
        let certificate = variables.of_signal("CERTIFICATE", "", path);
        let client_key = variables.of_signal("CLIENT_KEY", "", path);
        let client_certificate = variables.of_signal("CLIENT_CERTIFICATE", "", path);
        let temporality = variables.one(
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
            "it is ignored",
            |value| {
                choice(
                    value,
                    &[
                        ("cumulative", TemporalityPreference::Cumulative),
                        ("delta", TemporalityPreference::Delta),
                        ("lowmemory", TemporalityPreference::LowMemory),
                    ],
                )
            },
        );
        variables.unsupported(
            "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
            &["explicit_bucket_histogram"],
            &["base2_exponential_bucket_histogram"],
            "histograms are sent with the explicit buckets that they were registered with",
        );
        variables.unsupported(
            "OTEL_METRICS_EXEMPLAR_FILTER",
            &["always_off", "trace_based"],
            &["always_on"],
            "no exemplars are sent",
        );
        let interval = variables.one(
            "OTEL_METRIC_EXPORT_INTERVAL",
            "it is ignored",
            |value| match milliseconds(value)? {
                NO_LIMIT => Err("must be at least 1 millisecond".to_owned()),
                interval => Ok(interval),
            },
        );
        let retry_for = variables.one("OTEL_METRIC_EXPORT_TIMEOUT", "it is ignored", milliseconds);
        let resource = variables.one("OTEL_RESOURCE_ATTRIBUTES", "all of it is ignored", attributes);
        Environment {
            endpoint,
            headers,
            timeout,
            compression,
            protocol,
            certificate,
            client_certificate,
            client_key,
            temporality,
            interval,
            retry_for,
            disabled,
            service_name: variables.text("OTEL_SERVICE_NAME"),
            resource: resource.unwrap_or_default(),
            warnings: variables.into_problems(),
        }
    }
}

impl Variables<'_> {
    /// What the variable for metrics says, or else the one for all signals.
    fn of_signal<T>(
        &mut self,
        suffix: &str,
        instead: &str,
        read: impl Fn(&mut Self, &str, &str) -> Reading<T>,
    ) -> Option<T> {
        for prefix in PREFIXES {
            let variable = format!("{prefix}{suffix}");
            let Some(text) = self.text(&variable) else {
                continue;
            };
            match read(self, &variable, &text) {
                Ok(value) => return Some(value),
                Err(rule) => self.tell(&variable, rule, instead),
            }
        }
        None
    }

    fn boolean(&mut self, variable: &str) -> bool {
        let Some(text) = self.text(variable) else {
            return false;
        };
        let is_true = text.eq_ignore_ascii_case("true");
        if !is_true && !text.eq_ignore_ascii_case("false") {
            self.tell(
                variable,
                format_args!("must be true or false, not {}", shown(&text)),
                "false is used",
            );
        }
        is_true
    }

    /// Whether there is to be no exporter at all. Others than OTLP are not ours to start.
    fn no_exporter(&mut self) -> bool {
        const VARIABLE: &str = "OTEL_METRICS_EXPORTER";
        let Some(text) = self.text(VARIABLE) else {
            return false;
        };
        let names: Vec<&str> = text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        let is = |name: &str, wanted: &str| name.eq_ignore_ascii_case(wanted);
        let others: Vec<&str> = names
            .iter()
            .copied()
            .filter(|name| !is(name, "otlp") && !is(name, "none"))
            .collect();
        if !others.is_empty() {
            let others = shown(&others.join(","));
            self.tell(
                VARIABLE,
                format_args!("names {others}, which is not supported"),
                "OTLP is used",
            );
        }
        others.is_empty() && !names.is_empty() && names.iter().all(|name| is(name, "none"))
    }

    fn protocol(&mut self, variable: &str, text: &str) -> Reading<Protocol> {
        let known = [
            ("http/protobuf", Some(Protocol::Protobuf)),
            ("http/json", Some(Protocol::Json)),
            ("grpc", None),
        ];
        Ok(choice(text, &known)?.unwrap_or_else(|| {
            let instead = "http/protobuf is used, which collectors take on port 4318";
            self.tell(variable, "asks for grpc, which is not supported", instead);
            Protocol::Protobuf
        }))
    }

    fn endpoint(&mut self) -> Option<HttpUrl> {
        const INSTEAD: &str = "it is ignored";
        let parse = |url: &str| HttpUrl::parse(url).map_err(|error| format!("cannot be used: {error}"));
        self.one("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", INSTEAD, parse)
            .or_else(|| {
                Some(
                    self.one("OTEL_EXPORTER_OTLP_ENDPOINT", INSTEAD, parse)?
                        .join(METRICS_PATH),
                )
            })
    }

    /// The headers of one of the two variables. An entry that is none is left out, the others are not.
    fn headers(&mut self) -> Vec<(String, Secret)> {
        let mut headers = Vec::new();
        for prefix in PREFIXES {
            let variable = format!("{prefix}HEADERS");
            let Some(text) = self.text(&variable) else {
                continue;
            };
            for (number, entry) in (1..).zip(text.split(',')).filter(|(_, entry)| !entry.trim().is_empty()) {
                match header(entry) {
                    Ok(header) => headers.push(header),
                    Err(rule) => {
                        self.tell(
                            &variable,
                            format_args!("has an entry, number {number}, {rule}"),
                            "it is left out",
                        );
                    }
                }
            }
            break;
        }
        headers
    }

    /// A variable with a value that is known and not supported.
    fn unsupported(&mut self, variable: &str, supported: &[&str], unsupported: &[&str], instead: &str) {
        let known = supported.iter().map(|name| (*name, true));
        let known: Vec<_> = known.chain(unsupported.iter().map(|name| (*name, false))).collect();
        if let Some((text, false)) = self.one(variable, "it is ignored", |text| {
            Ok((text.to_owned(), choice(text, &known)?))
        }) {
            self.tell(
                variable,
                format_args!("asks for {}, which is not supported", shown(&text)),
                instead,
            );
        }
    }
}

/// One of some words, in whichever case.
fn choice<T: Clone>(text: &str, known: &[(&str, T)]) -> Reading<T> {
    let found = known.iter().find(|(name, _)| text.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.clone()).ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        format!("must be one of {}, not {}", names.join(", "), shown(text))
    })
}

/// A time in milliseconds. 0 means that there is no limit.
fn milliseconds(text: &str) -> Reading<Duration> {
    match text.parse::<u64>() {
        Ok(0) => Ok(NO_LIMIT),
        Ok(milliseconds) if milliseconds <= MOST_MILLISECONDS => Ok(Duration::from_millis(milliseconds)),
        _ => Err(format!(
            "must be a number of milliseconds, at most {MOST_MILLISECONDS} and without a unit, not {}",
            shown(text)
        )),
    }
}

/// A header as W3C baggage writes a member (<https://www.w3.org/TR/baggage/#header-content>), without properties: so a
/// semicolon is part of the value. What is said of a broken one has nothing of the value, nor of what may be one.
fn header(entry: &str) -> Result<(String, Secret), String> {
    let (name, value) = entry.split_once('=').ok_or("without '='")?;
    let (name, value) = (name.trim(), percent::decode(value.trim()));
    let value = value.filter(|value| !value.chars().any(char::is_control));
    let value = value.ok_or("whose value is not percent-encoded UTF-8 without control characters")?;
    let mut headers = Headers::default();
    let put = builder::put_header(name, Secret::text(""), &mut headers);
    put.map_err(|error| format!("that cannot be sent: {error}"))?;
    Ok((name.to_owned(), Secret::text(value)))
}

/// `key=value,key2=value2`, with percent-encoded commas and equals signs,
/// <https://opentelemetry.io/docs/specs/otel/resource/sdk/#specifying-resource-information-via-an-environment-variable>.
fn attributes(text: &str) -> Reading<Vec<(String, String)>> {
    let entries = text.split(',').filter(|entry| !entry.trim().is_empty());
    entries
        .map(|entry| {
            let decoded = entry.split_once('=').and_then(|(key, value)| {
                let key = percent::decode(key.trim())?;
                let value = percent::decode(value.trim())?;
                (!key.is_empty()).then_some((key, value))
            });
            decoded.ok_or_else(|| {
                let shown = shown(entry.trim());
                format!("must be key=value pairs with commas between them, in percent-encoded UTF-8, and has {shown}")
            })
        })
        .collect()
}

/// What variables for metrics, and those for all signals, begin with; in the order in which they are heard.
const PREFIXES: [&str; 2] = ["OTEL_EXPORTER_OTLP_METRICS_", "OTEL_EXPORTER_OTLP_"];

/// What stands for no limit: longer than anything is waited for, and short enough to be added to any time.
const NO_LIMIT: Duration = Duration::from_secs(86_400);

/// As long as [`NO_LIMIT`].
const MOST_MILLISECONDS: u64 = 86_400_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::variables::environment;

    fn read(variables: &[(&str, &str)]) -> Environment {
        Environment::read(&environment(variables))
    }

    /// Reads variables of which nothing is to be said.
    #[track_caller]
    fn quietly(variables: &[(&str, &str)]) -> Environment {
        let environment = read(variables);
        assert!(environment.warnings.is_empty(), "{:?}", environment.warnings);
        environment
    }

    /// Reads variables of which one thing is to be said, in which `said` occur.
    #[track_caller]
    fn warned(variables: &[(&str, &str)], said: &[&str]) -> Environment {
        let environment = read(variables);
        assert_eq!(environment.warnings.len(), 1, "{:?}", environment.warnings);
        for each in said {
            assert!(
                environment.warnings[0].contains(each),
                "{each}: {:?}",
                environment.warnings
            );
        }
        environment
    }

    fn headers(headers: Vec<(String, Secret)>) -> String {
        let line = |(name, mut value): (String, Secret)| format!("{name}: {}\r\n", value.value().unwrap());
        headers.into_iter().map(line).collect()
    }

    #[test]
    fn nothing_set_and_empty_are_the_same() {
        let names = [
            "OTEL_CONFIG_FILE",
            "OTEL_SDK_DISABLED",
            "OTEL_METRICS_EXPORTER",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
            "OTEL_EXPORTER_OTLP_HEADERS",
            "OTEL_EXPORTER_OTLP_TIMEOUT",
            "OTEL_EXPORTER_OTLP_COMPRESSION",
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "OTEL_EXPORTER_OTLP_CERTIFICATE",
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
            "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
            "OTEL_METRICS_EXEMPLAR_FILTER",
            "OTEL_METRIC_EXPORT_INTERVAL",
            "OTEL_METRIC_EXPORT_TIMEOUT",
            "OTEL_SERVICE_NAME",
            "OTEL_RESOURCE_ATTRIBUTES",
        ];
        let empty: Vec<_> = names.iter().map(|name| (*name, " ")).collect();
        for environment in [quietly(&[]), quietly(&empty)] {
            assert!(environment.endpoint.is_none() && headers(environment.headers).is_empty());
            assert!(environment.timeout.is_none() && environment.interval.is_none() && environment.retry_for.is_none());
            assert!(environment.compression.is_none() && environment.protocol.is_none());
            assert!(environment.temporality.is_none() && !environment.disabled);
            assert!(environment.service_name.is_none() && environment.resource.is_empty());
            assert!(environment.certificate.is_none());
        }
    }

    #[test]
    fn a_variable_for_metrics_beats_the_one_for_all_signals() {
        let environment = quietly(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4318/base"),
            ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://metrics:4318"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=1"),
            ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "b=2"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1"),
            ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "2"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "none"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "HTTP/JSON"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/all.pem"),
            ("OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE", "/metrics.pem"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/key.pem"),
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/client.pem"),
        ]);
        assert_eq!(environment.endpoint.unwrap().to_string(), "http://metrics:4318/");
        assert_eq!(headers(environment.headers), "b: 2\r\n");
        assert_eq!(environment.timeout, Some(Duration::from_millis(2)));
        assert_eq!(environment.compression, Some(Compression::None));
        assert_eq!(environment.protocol, Some(Protocol::Json));
        assert_eq!(environment.certificate, Some("/metrics.pem".into()));
        assert_eq!(environment.client_key, Some("/key.pem".into()));
        assert_eq!(environment.client_certificate, Some("/client.pem".into()));

        // One that cannot be read is as good as none.
        let environment = warned(
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4318/base"),
                ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "metrics:4318"),
                ("OTEL_EXPORTER_OTLP_TIMEOUT", "1"),
            ],
            &["OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://", "ignored"],
        );
        assert_eq!(
            environment.endpoint.unwrap().to_string(),
            "http://all:4318/base/v1/metrics"
        );
        assert_eq!(environment.timeout, Some(Duration::from_millis(1)));
    }

    #[test]
    fn values_of_every_kind() {
        let environment = quietly(&[
            ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "LowMemory"),
            ("OTEL_METRIC_EXPORT_INTERVAL", " 5000 "),
            ("OTEL_METRIC_EXPORT_TIMEOUT", "0"),
            ("OTEL_SERVICE_NAME", "shop"),
            ("OTEL_SDK_DISABLED", "TRUE"),
            ("OTEL_METRICS_EXPORTER", "otlp"),
            (
                "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
                "explicit_bucket_histogram",
            ),
            ("OTEL_METRICS_EXEMPLAR_FILTER", "trace_based"),
        ]);
        assert_eq!(environment.temporality, Some(TemporalityPreference::LowMemory));
        assert_eq!(environment.interval, Some(Duration::from_secs(5)));
        assert_eq!(environment.retry_for, Some(NO_LIMIT));
        assert_eq!(environment.service_name.as_deref(), Some("shop"));
        assert!(environment.disabled);
    }

    #[test]
    fn what_cannot_be_read_is_ignored_with_one_warning() {
        for (name, value, said) in [
            ("OTEL_METRIC_EXPORT_INTERVAL", "5s", "\"5s\""),
            ("OTEL_METRIC_EXPORT_INTERVAL", "-1", "milliseconds"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "0", "at least"),
            ("OTEL_METRIC_EXPORT_TIMEOUT", "1.5", "milliseconds"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "99999999999999999999", "milliseconds"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd", "gzip, none"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http", "http/protobuf, http/json, grpc"),
            ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "both", "lowmemory"),
            ("OTEL_METRICS_EXEMPLAR_FILTER", "some", "always_on"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "c:4318", "http://"),
            ("OTEL_SDK_DISABLED", "1", "true or false"),
        ] {
            let environment = warned(&[(name, value)], &[name, said]);
            assert!(environment.interval.is_none() && environment.retry_for.is_none() && environment.timeout.is_none());
            assert!(environment.compression.is_none() && environment.protocol.is_none());
            assert!(environment.temporality.is_none() && environment.endpoint.is_none() && !environment.disabled);
        }
    }

    #[test]
    fn what_is_not_supported_gives_one_warning_that_says_what_is_used() {
        let both = [
            ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ];
        let environment = warned(&both, &["grpc", "http/protobuf is used"]);
        assert_eq!(environment.protocol, Some(Protocol::Protobuf));
        warned(
            &[("OTEL_CONFIG_FILE", "/etc/otel.yaml")],
            &["other OTEL_* variables are used"],
        );
        warned(
            &[(
                "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
                "base2_exponential_bucket_histogram",
            )],
            &["base2", "explicit buckets"],
        );
        warned(&[("OTEL_METRICS_EXEMPLAR_FILTER", "always_on")], &["no exemplars"]);
        for value in ["prometheus", "console, prometheus", "otlp,console", "none,prometheus"] {
            let environment = warned(&[("OTEL_METRICS_EXPORTER", value)], &["OTLP is used"]);
            assert!(!environment.disabled);
        }
        assert!(quietly(&[("OTEL_METRICS_EXPORTER", "None")]).disabled);
        assert!(!quietly(&[("OTEL_METRICS_EXPORTER", "none,otlp")]).disabled);
        assert!(!quietly(&[("OTEL_METRICS_EXPORTER", ",")]).disabled);
    }

    #[test]
    fn headers_are_decoded_and_never_shown() {
        let variable = "OTEL_EXPORTER_OTLP_HEADERS";
        let environment = quietly(&[(
            variable,
            " api-key = se%2Ccret%3D , Authorization=Basic%20YTpi=;x,,empty=",
        )]);
        let expected = "api-key: se,cret=\r\nAuthorization: Basic YTpi=;x\r\nempty: \r\n";
        assert_eq!(headers(environment.headers), expected);

        for (value, said) in [
            ("good=1,secret", "number 2, without '='"),
            ("good=1,bad name=secret", "name of a header"),
            ("good=1,=secret", "cannot be sent"),
            ("good=1,x=secret%2", "percent-encoded"),
            ("good=1,x=secret%0d%0aevil:1", "percent-encoded"),
            ("good=1,x=secret%ff", "percent-encoded"),
            ("good=1,content-type=secret", "content-type"),
        ] {
            let environment = warned(&[(variable, value)], &[variable, said, "left out"]);
            let warning = environment.warnings[0].clone();
            assert_eq!(headers(environment.headers), "good: 1\r\n");
            assert!(!warning.contains("secret"), "{warning}");
        }
    }

    #[test]
    fn a_url_s_credentials_are_never_shown() {
        let environment = warned(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://me:secret@c")], &["http://"]);
        assert!(!environment.warnings[0].contains("secret"));
    }

    #[test]
    fn resource_attributes_are_all_read_or_none() {
        let variable = "OTEL_RESOURCE_ATTRIBUTES";
        let environment = quietly(&[(
            variable,
            "service.name=a%2Cb, k%3D = v%20w ,empty=,twice=1,twice=2,u=é=,",
        )]);
        let expected = [
            ("service.name", "a,b"),
            ("k=", "v w"),
            ("empty", ""),
            ("twice", "1"),
            ("twice", "2"),
            ("u", "é="),
        ];
        assert!(
            environment
                .resource
                .iter()
                .map(|(key, value)| (&**key, &**value))
                .eq(expected)
        );
        for value in ["a=1,b", "a=1,=2", "a=1,b=%2", "a=1,b=%zz", "a=1,b=%ff"] {
            assert!(
                warned(&[(variable, value)], &[variable, "all of it"])
                    .resource
                    .is_empty()
            );
        }
    }
}
