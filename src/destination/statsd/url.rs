//! Where packets go and how they are written, as a URL says it.

use super::{StatsDError, dialect::Dialect};
use crate::{
    redact,
    transport::packets::{Endpoint, EndpointError},
};

/// A URL of a StatsD server, parsed and checked once.
#[derive(Debug)]
pub(super) struct StatsDUrl {
    pub(super) endpoint: Endpoint,
    /// What was wanted, or else what `?dialect=` says, or else the scheme.
    pub(super) dialect: Dialect,
}

impl StatsDUrl {
    /// Parses it: `statsd+` (Etsy) or `dogstatsd+` or neither (DogStatsD, as `DD_DOGSTATSD_URL` has it), then an endpoint, then
    /// perhaps a dialect. A dialect that is `wanted` wins.
    ///
    /// # Errors
    ///
    /// The message names the URL without what may be secret, the rule and the fix.
    pub(super) fn parse(text: &str, wanted: Option<Dialect>) -> Result<StatsDUrl, StatsDError> {
        let refused = |rule: &str| StatsDError::new(format!("the URL `{}` {rule}", redact::url(text)));
        let (dialect, rest) = match text.split_once('+') {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("statsd") => (Dialect::Etsy, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("dogstatsd") => (Dialect::DogStatsD, rest),
            _ => (Dialect::DogStatsD, text),
        };
        let (mut endpoint, query) = Endpoint::parse(rest)?;
        let mut asked = None;
        for (key, value) in query {
            if key != "dialect" {
                return Err(refused(
                    "has something other than `dialect` behind `?`: set it with the builder instead",
                ));
            }
            asked = Some(Dialect::named(&value).ok_or_else(|| {
                let names: Vec<String> = Dialect::ALL.iter().map(Dialect::to_string).collect();
                refused(&format!(
                    "asks for a dialect that is none of {}: take one of them",
                    names.join(", ")
                ))
            })?);
        }
        let dialect = wanted.or(asked).unwrap_or(dialect);
        if dialect != Dialect::DogStatsD {
            // Only the Agent has streams there, and only they are framed.
            endpoint = match endpoint {
                Endpoint::Unix(path) => Endpoint::UnixDatagram(path),
                Endpoint::UnixStream(_) => {
                    return Err(refused(
                        "asks for a Unix stream, which only servers of DogStatsD have: use unixgram or tcp",
                    ));
                }
                endpoint => endpoint,
            };
        }
        Ok(StatsDUrl { endpoint, dialect })
    }
}

impl From<EndpointError> for StatsDError {
    fn from(error: EndpointError) -> Self {
        StatsDError::new(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn parsed(text: &str) -> (String, Dialect) {
        let url = StatsDUrl::parse(text, None).unwrap();
        (url.endpoint.to_string(), url.dialect)
    }

    #[test]
    fn schemes_say_dialect_and_transport() {
        for (text, endpoint, dialect) in [
            ("statsd+udp://127.0.0.1:8125", "udp://127.0.0.1:8125", Dialect::Etsy),
            ("dogstatsd+udp://agent", "udp://agent:8125", Dialect::DogStatsD),
            ("DogStatsD+UDP://agent", "udp://agent:8125", Dialect::DogStatsD),
            ("udp://agent:9125/", "udp://agent:9125", Dialect::DogStatsD),
            ("statsd+tcp://[::1]:9125", "tcp://[::1]:9125", Dialect::Etsy),
            ("statsd+udp://h?dialect=telegraf", "udp://h:8125", Dialect::Telegraf),
            ("udp://h:1?dialect=signalfx", "udp://h:1", Dialect::SignalFx),
            ("statsd+tcp://h:1/?dialect=DogStatsD", "tcp://h:1", Dialect::DogStatsD),
        ] {
            assert_eq!(parsed(text), (endpoint.to_owned(), dialect), "{text}");
        }
        let wanted = StatsDUrl::parse("udp://h?dialect=librato", Some(Dialect::Graphite)).unwrap();
        assert_eq!(wanted.dialect, Dialect::Graphite);
    }

    #[cfg(unix)]
    #[test]
    fn only_dogstatsd_has_streams_of_frames() {
        let endpoint = |text| StatsDUrl::parse(text, None).unwrap().endpoint;
        assert_eq!(endpoint("unix:///a"), Endpoint::Unix("/a".into()));
        assert_eq!(endpoint("dogstatsd+unixstream:///a"), Endpoint::UnixStream("/a".into()));
        assert_eq!(endpoint("statsd+unix:///a"), Endpoint::UnixDatagram("/a".into()));
        assert_eq!(
            endpoint("statsd+unix:///a?dialect=dogstatsd"),
            Endpoint::Unix("/a".into())
        );
        for (text, wanted) in [
            ("statsd+unixstream:///a", None),
            ("unixstream:///a?dialect=telegraf", None),
            ("unixstream:///a", Some(Dialect::Librato)),
        ] {
            let message = StatsDUrl::parse(text, wanted).unwrap_err().to_string();
            assert!(message.contains("only servers of DogStatsD"), "{message}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_no_secret_is() {
        for (text, rule) in [
            ("", "no scheme"),
            ("host:8125", "no scheme"),
            ("statsd://host", "unknown scheme"),
            ("graphite+udp://host", "unknown scheme"),
            ("statsd+http://user:hush@host", "unknown scheme"),
            ("dogstatsd+udp://user:hush@host", "user information"),
            ("udp://host?token=hush", "other than `dialect`"),
            ("udp://host?dialect=hush", "etsy, dogstatsd, telegraf"),
        ] {
            let message = StatsDUrl::parse(text, None).unwrap_err().to_string();
            assert!(message.contains(rule), "{text}: {message}");
            assert!(!message.contains("hush"), "{message}");
        }
    }
}
