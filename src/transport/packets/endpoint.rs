//! Where packets go, parsed from a URL and checked once.

use crate::{percent, redact};
use std::{fmt, net::Ipv6Addr, path::PathBuf};

/// A socket of somebody else's. Displayed as a URL, which parses to the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// A host is a name or an address, an IPv6 address without brackets.
    Udp {
        host: String,
        port: u16,
    },
    Tcp {
        host: String,
        port: u16,
    },
    UnixDatagram(PathBuf),
    UnixStream(PathBuf),
    /// Datagrams, or a stream if the socket there is one.
    Unix(PathBuf),
}

/// A URL that names no endpoint. The message names the URL without what may be secret, the rule and the fix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EndpointError {
    message: String,
}

impl Endpoint {
    /// The endpoint of a URL, and the pairs of its query, percent-decoded, in their order. A pair without `=` has an empty
    /// value.
    ///
    /// | URL | default |
    /// |---|---|
    /// | `udp://host:port`, `tcp://host:port` | port 8125 |
    /// | `unixgram:///path` | |
    /// | `unixstream:///path` | |
    /// | `unix:///path` | datagrams, or a stream if the socket there is one |
    ///
    /// # Errors
    ///
    /// If it is none of these, or has user information or a fragment.
    pub(crate) fn parse(text: &str) -> Result<(Endpoint, Vec<(String, String)>), EndpointError> {
        let refused = |reason: &str| EndpointError {
            message: format!("the URL `{}` {reason}", redact::url(text)),
        };
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(refused(&format!("has no scheme: begin it with one of {SCHEMES}")));
        };
        if rest.contains('#') {
            return Err(refused("has a fragment, `#`: remove it, or write `%23` in a path"));
        }
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query)),
            None => (rest, None),
        };
        let endpoint = match scheme.to_ascii_lowercase().as_str() {
            "udp" => host_and_port(rest).map(|(host, port)| Endpoint::Udp { host, port }),
            "tcp" => host_and_port(rest).map(|(host, port)| Endpoint::Tcp { host, port }),
            "unix" => path(rest).map(Endpoint::Unix),
            "unixgram" => path(rest).map(Endpoint::UnixDatagram),
            "unixstream" => path(rest).map(Endpoint::UnixStream),
            _ => {
                return Err(refused(&format!(
                    "has an unknown scheme: begin it with one of {SCHEMES}"
                )));
            }
        };
        let endpoint = endpoint.map_err(refused)?;
        let pairs = query.map_or(Some(Vec::new()), pairs);
        let pairs = pairs.ok_or_else(|| refused("has a query that is not percent-encoded UTF-8: encode it"))?;
        Ok((endpoint, pairs))
    }

    /// How large packets should be: what fits one frame of Ethernet over UDP, and what a server's buffer takes elsewhere, by
    /// default (<https://docs.datadoghq.com/developers/dogstatsd/high_throughput/>). Over TCP a packet may be one long line:
    /// statsd_exporter reads none of more than 4,096 bytes, its end included, and closes the connection at one
    /// (<https://github.com/prometheus/statsd_exporter/blob/master/pkg/listener/listener.go>).
    pub(crate) fn default_packet_size(&self) -> usize {
        match self {
            Endpoint::Udp { .. } => 1432,
            Endpoint::Tcp { .. } => 4096,
            Endpoint::UnixDatagram(_) | Endpoint::UnixStream(_) | Endpoint::Unix(_) => 8192,
        }
    }

    /// How large packets may be. Over UDP it is what is left of the largest datagram under the longest headers
    /// (<https://pkg.go.dev/github.com/DataDog/datadog-go/v5/statsd#pkg-constants>, `MaxUDPPayloadSize`); elsewhere no system has
    /// such a limit, but servers have buffers of this size at most, and a stream loses this much with a connection.
    pub(crate) fn most_packet_size(&self) -> usize {
        match self {
            Endpoint::Udp { .. } => 65_467,
            Endpoint::Tcp { .. } | Endpoint::UnixDatagram(_) | Endpoint::UnixStream(_) | Endpoint::Unix(_) => 65_536,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Udp { host, port } => write!(formatter, "udp://{}", authority(host, *port)),
            Endpoint::Tcp { host, port } => write!(formatter, "tcp://{}", authority(host, *port)),
            Endpoint::UnixDatagram(path) => write!(formatter, "unixgram://{}", encoded(path)),
            Endpoint::UnixStream(path) => write!(formatter, "unixstream://{}", encoded(path)),
            Endpoint::Unix(path) => write!(formatter, "unix://{}", encoded(path)),
        }
    }
}

impl fmt::Display for EndpointError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for EndpointError {}

/// A host and a port as URLs and resolvers take them.
pub(super) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

fn host_and_port(rest: &str) -> Result<(String, u16), &'static str> {
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    // Looked for in all of it: a password that is not escaped may hold a slash.
    if rest.contains('@') {
        return Err("has user information, which there is nobody to check: remove what stands before `@`, and `@`");
    }
    if !matches!(path, "" | "/") {
        return Err("has a path, which a port does not: remove it");
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => {
            let (host, port) = bracketed
                .split_once(']')
                .ok_or("has a bracket that is not closed: write an IPv6 address like `[::1]`")?;
            let address: Ipv6Addr = host
                .parse()
                .map_err(|_| "has no IPv6 address in its brackets: write one like `[::1]`")?;
            let port = match port.strip_prefix(':') {
                Some(port) => Some(port),
                None if port.is_empty() => None,
                None => return Err("has something other than a port behind its brackets: write it like `[::1]:8125`"),
            };
            (address.to_string(), port)
        }
        None => match authority.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err("has more than one colon: put an IPv6 address in brackets, like `[::1]:8125`");
            }
            Some((host, port)) => (host.to_owned(), Some(port)),
            None => (authority.to_owned(), None),
        },
    };
    if host.is_empty() {
        return Err("has no host: name one after `//`");
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    if !host.bytes().all(fits) || host.len() > MOST_HOST_BYTES {
        return Err("has a host that can't be one: correct it, in punycode if it is not in ASCII");
    }
    let port = match port {
        None => DEFAULT_PORT,
        // A number may have a sign where it is read.
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => port.parse().unwrap_or(0),
        Some(_) => 0,
    };
    if port == 0 {
        return Err("has a port that is not between 1 and 65535: correct it");
    }
    Ok((host, port))
}

fn path(rest: &str) -> Result<PathBuf, &'static str> {
    if !cfg!(unix) {
        return Err("is of a Unix socket, and there are none on this system: use `udp://` or `tcp://`");
    }
    if rest.is_empty() {
        return Err("has no path: write one, like `unix:///run/statsd.sock`");
    }
    if !rest.starts_with('/') {
        return Err("has a host or a path that is not absolute: write three slashes, like `unix:///run/statsd.sock`");
    }
    if rest.ends_with('/') {
        return Err("has the path of a directory: write that of a socket, without a slash at the end");
    }
    let path = percent::decode(rest)
        .filter(|path| !path.contains('\0'))
        .ok_or("has a path that is not percent-encoded UTF-8: write `%25` for `%`, and leave out `%00`")?;
    let path = PathBuf::from(path);
    if socket2::SockAddr::unix(&path).is_err() {
        return Err("has a path that is longer than the system allows for a socket, about 100 bytes: shorten it");
    }
    Ok(path)
}

fn pairs(query: &str) -> Option<Vec<(String, String)>> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((percent::decode(name)?, percent::decode(value)?))
        })
        .collect()
}

/// A path with whatever is not plain in a URL percent-encoded, <https://www.rfc-editor.org/rfc/rfc3986#section-3.3>.
fn encoded(path: &std::path::Path) -> String {
    let mut encoded = String::new();
    for byte in path.to_string_lossy().bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

const SCHEMES: &str = "`udp://`, `tcp://`, `unix://`, `unixgram://` or `unixstream://`";

/// <https://github.com/statsd/statsd/blob/v0.9.0/exampleConfig.js>, and of DogStatsD.
const DEFAULT_PORT: u16 = 8125;

/// <https://www.rfc-editor.org/rfc/rfc1035#section-2.3.4>
const MOST_HOST_BYTES: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> Endpoint {
        Endpoint::parse(text).unwrap().0
    }

    #[test]
    fn hosts_and_ports_are_read() {
        for (text, host, port, shown) in [
            ("udp://127.0.0.1:9125", "127.0.0.1", 9125, "udp://127.0.0.1:9125"),
            ("UDP://agent", "agent", 8125, "udp://agent:8125"),
            (
                "udp://my_agent.example:1/",
                "my_agent.example",
                1,
                "udp://my_agent.example:1",
            ),
            ("udp://[::1]:8126", "::1", 8126, "udp://[::1]:8126"),
            ("udp://[::0:1]", "::1", 8125, "udp://[::1]:8125"),
        ] {
            let endpoint = parsed(text);
            let expected = Endpoint::Udp {
                host: host.to_owned(),
                port,
            };
            assert_eq!(endpoint, expected, "{text}");
            assert_eq!(endpoint.to_string(), shown);
            assert_eq!(parsed(shown), endpoint);
            assert_eq!(
                parsed(&text.to_ascii_lowercase().replace("udp", "tcp")).to_string(),
                shown.replace("udp", "tcp")
            );
        }
    }

    #[cfg(unix)]
    #[test]
    fn paths_are_read() {
        let path = PathBuf::from("/run/a b%/ä#?.sock");
        let text = "/run/a%20b%25/ä%23%3F.sock";
        let shown = "/run/a%20b%25/%C3%A4%23%3F.sock";
        for (scheme, endpoint) in [
            ("unix", Endpoint::Unix(path.clone())),
            ("unixgram", Endpoint::UnixDatagram(path.clone())),
            ("unixstream", Endpoint::UnixStream(path.clone())),
        ] {
            assert_eq!(parsed(&format!("{scheme}://{text}")), endpoint);
            assert_eq!(endpoint.to_string(), format!("{scheme}://{shown}"));
            assert_eq!(endpoint.default_packet_size(), 8192);
        }
    }

    #[test]
    fn queries_come_in_pairs() {
        let (endpoint, pairs) = Endpoint::parse("udp://host?dialect=telegraf&a%3Db=c%20d+e&&flag").unwrap();
        assert_eq!(endpoint.to_string(), "udp://host:8125");
        assert_eq!(
            (endpoint.default_packet_size(), endpoint.most_packet_size()),
            (1432, 65_467)
        );
        let expected = [("dialect", "telegraf"), ("a=b", "c d+e"), ("flag", "")];
        assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn what_is_wrong_is_named_and_no_secret_is() {
        for (text, rule) in [
            ("", "no scheme"),
            ("host:8125", "no scheme"),
            ("http://host:8125", "unknown scheme"),
            ("udp://", "no host"),
            ("udp://:8125", "no host"),
            ("udp://user:hush@host:8125", "user information"),
            ("udp://user:hu/sh@host:8125", "user information"),
            ("udp://host:8125/hu", "path"),
            ("udp://host#hush", "fragment"),
            ("udp://host:", "port"),
            ("udp://host:0", "port"),
            ("udp://host:+8", "port"),
            ("udp://host:65536", "port"),
            ("udp://::1:8125", "brackets"),
            ("udp://[::1", "bracket"),
            ("udp://[::1]8125", "brackets"),
            ("udp://[host]:8125", "IPv6"),
            ("udp://hö:8125", "punycode"),
            ("udp://a b:8125", "host"),
            ("udp://host?hush=%zz", "query"),
        ] {
            let message = Endpoint::parse(text).unwrap_err().to_string();
            assert!(message.contains(rule), "{text}: {message}");
            assert!(message.contains(": "), "{message}");
            assert!(!message.contains("hush"), "{message}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_is_wrong_with_a_path_is_named() {
        let long = format!("unix:///{}", "x".repeat(200));
        for (text, rule) in [
            ("unix://", "no path"),
            ("unix://run/statsd.sock", "three slashes"),
            ("unixgram://./statsd.sock", "three slashes"),
            ("unixstream:///run/", "directory"),
            ("unix:///", "directory"),
            ("unix:///%zz", "percent-encoded"),
            ("unix:///a%00b", "%00"),
            ("unix:///a#b", "%23"),
            (&long, "shorten it"),
        ] {
            let message = Endpoint::parse(text).unwrap_err().to_string();
            assert!(message.contains(rule), "{text}: {message}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "(udp|tcp|unix|unixgram)://[\\[\\]:/@%#?&=a0.é]{0,20}") {
            if let Ok((endpoint, _)) = Endpoint::parse(&text) {
                prop_assert_eq!(parsed(&endpoint.to_string()), endpoint);
            }
        }
    }
}
