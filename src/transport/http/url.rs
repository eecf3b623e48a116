//! Where a request goes: a URL parsed and checked once, whose credentials leave it right there.

use super::{SettingsError, headers::basic};
use crate::{percent, redact};
use std::fmt;
use ureq::http::Uri;

/// A URL of `http` or `https`. What it shows has neither user information nor query.
#[derive(Clone)]
pub(crate) struct HttpUrl {
    /// Scheme and authority alone: path and query are added where the bytes leave, and so never are in a log of ureq's.
    pub(super) origin: Uri,
    pub(super) secure: bool,
    path: String,
    /// What was joined to the path: made by the crate, and shown as it is.
    below: String,
    query: Option<String>,
    /// The value of `Authorization` that the user information stands for.
    pub(super) authorization: Option<String>,
}

impl HttpUrl {
    /// Parses it. User information becomes basic authentication, percent-decoded; a fragment is dropped.
    ///
    /// # Errors
    ///
    /// The message names the URL without what may be secret, the rule and the fix.
    pub(crate) fn parse(text: &str) -> Result<HttpUrl, SettingsError> {
        let refused = |reason: &str| SettingsError::new(format!("the URL `{}` {reason}", redact::url(text)));
        let uri: Uri = text.parse().map_err(|_| {
            refused(
                "is not valid: give one like `http://host:4318/path`, other characters percent-encoded or in punycode",
            )
        })?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(refused("does not begin with `http://` or `https://`: add one of them")),
        };
        if secure && !cfg!(feature = "tls") {
            return Err(refused(
                "needs TLS: build tidegauge with its feature `tls`, or use `http://`",
            ));
        }
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let (user_information, host) = match authority.rsplit_once('@') {
            Some((user_information, host)) => (Some(user_information), host),
            None => (None, authority),
        };
        if uri.host().is_none_or(str::is_empty) {
            return Err(refused("has no host: name one after `//`"));
        }
        // The parser takes any number, and an empty one.
        let port = host
            .rsplit_once(':')
            .map(|(_, port)| port)
            .filter(|port| !port.ends_with(']'));
        if port.is_some_and(|port| !port.parse::<u16>().is_ok_and(|port| port > 0)) {
            return Err(refused("has a port that is not between 1 and 65535: correct it"));
        }
        let authorization = match user_information.filter(|given| !given.is_empty()) {
            None => None,
            Some(given) => {
                let (user, password) = given.split_once(':').unwrap_or((given, ""));
                let decoded = percent_decoded(user).zip(percent_decoded(password));
                let (user, password) = decoded.ok_or_else(|| {
                    refused(
                        "has user information that is not percent-encoded UTF-8 without control characters: encode it",
                    )
                })?;
                if user.contains(':') {
                    return Err(refused(
                        "has a user name with a colon, which basic authentication can't express: use another",
                    ));
                }
                Some(basic(&user, &password))
            }
        };
        let origin = format!("{}://{host}/", if secure { "https" } else { "http" });
        Ok(HttpUrl {
            origin: origin
                .parse()
                .map_err(|_| refused("has a host that is not valid: correct it"))?,
            secure,
            path: uri.path().to_owned(),
            below: String::new(),
            query: uri.query().map(str::to_owned),
            authorization,
        })
    }

    /// This URL with `path`, which has no slash in front, after its own path; a slash goes between them if none is there.
    pub(crate) fn join(&self, path: &str) -> HttpUrl {
        let before = if self.below.is_empty() { &self.path } else { &self.below };
        let slash = if before.ends_with('/') { "" } else { "/" };
        HttpUrl {
            below: format!("{}{slash}{path}", self.below),
            ..self.clone()
        }
    }

    /// The path as it was given, still encoded.
    #[cfg(feature = "pushgateway")]
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// This URL with another path.
    #[cfg(feature = "pushgateway")]
    pub(crate) fn at(&self, path: &str) -> HttpUrl {
        HttpUrl {
            path: path.to_owned(),
            below: String::new(),
            ..self.clone()
        }
    }

    /// What follows the path, which may be secret.
    pub(super) fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// What the request line asks for.
    pub(super) fn target(&self) -> String {
        let HttpUrl { path, below, .. } = self;
        match &self.query {
            Some(query) => format!("{path}{below}?{query}"),
            None => format!("{path}{below}"),
        }
    }

    /// Scheme and authority without a slash at the end.
    pub(super) fn origin_text(&self) -> String {
        let origin = self.origin.to_string();
        origin.strip_suffix('/').unwrap_or(&origin).to_owned()
    }

    pub(super) fn host(&self) -> &str {
        self.origin.host().unwrap_or_default()
    }

    pub(super) fn port(&self) -> u16 {
        self.origin.port_u16().unwrap_or(if self.secure { 443 } else { 80 })
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&redact::url(&format!("{}{}", self.origin_text(), self.path)))?;
        formatter.write_str(&redact::line(&self.below, SHOWN_CHARACTERS))
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "HttpUrl({self})")
    }
}

/// Of what was joined.
const SHOWN_CHARACTERS: usize = 200;

/// `None` if an escape is broken, or the outcome is not UTF-8 or has control characters.
pub(super) fn percent_decoded(text: &str) -> Option<String> {
    percent::decode(text).filter(|decoded| !decoded.chars().any(char::is_control))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_go_their_ways() {
        let url = HttpUrl::parse("http://us%20er:p%40ss@host:4318/base?token=x#y").unwrap();
        assert_eq!(url.origin.to_string(), "http://host:4318/");
        assert_eq!(url.target(), "/base?token=x");
        assert_eq!(url.authorization.as_deref(), Some("Basic dXMgZXI6cEBzcw=="));
        assert_eq!(url.to_string(), "http://host:4318/base");
        assert_eq!(format!("{url:?}"), "HttpUrl(http://host:4318/base)");
        assert_eq!(url.join("v1/metrics").target(), "/base/v1/metrics?token=x");

        let url = HttpUrl::parse("HTTP://[::1]").unwrap();
        assert_eq!((url.target().as_str(), url.host()), ("/", "[::1]"));
        assert_eq!(url.join("v1/metrics").to_string(), "http://[::1]/v1/metrics");
        assert_eq!(HttpUrl::parse("http://h/?q").unwrap().target(), "/?q");
    }

    #[test]
    fn what_is_wrong_is_named_and_no_secret_is() {
        for (text, rule) in [
            ("", "is not valid"),
            ("host:4318", "does not begin with"),
            ("/path", "does not begin with"),
            ("ftp://user:hush@host/", "does not begin with"),
            ("grpc://host", "does not begin with"),
            ("http://user:hush@host with space/", "is not valid"),
            ("http://host:0/", "port"),
            ("http://host:70000/", "not"),
            ("http://host:x/", "not"),
            ("http://user:hush%zz@host/", "user information"),
            ("http://user:hush%0a@host/", "user information"),
            ("http://us%3aer:hush@host/", "colon"),
            ("http://hush@/", "not valid"),
            ("http:///path?hush", "not valid"),
            ("http://höst/", "punycode"),
        ] {
            let message = HttpUrl::parse(text).unwrap_err().to_string();
            assert!(message.contains(rule), "{text}: {message}");
            assert!(!message.contains("hush"), "{message}");
        }
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn https_needs_its_feature() {
        let message = HttpUrl::parse("https://host/").unwrap_err().to_string();
        assert!(message.contains("feature `tls`"), "{message}");
    }
}
