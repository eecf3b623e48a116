//! Whether a request goes through a proxy, and through which.

use super::{SettingsError, headers::basic};
use crate::redact;
use std::{fmt, net::IpAddr};
use ureq::{
    Proxy, ProxyProtocol,
    http::{Uri, uri::Scheme},
};

/// Which proxy a client uses.
#[derive(Clone, Default)]
pub(crate) enum ProxySettings {
    /// As the environment says, in the manner of curl: `https_proxy` or `HTTPS_PROXY` for `https`, `http_proxy` or
    /// `HTTP_PROXY` for `http`, otherwise `all_proxy` or `ALL_PROXY`, except for hosts in `no_proxy` or `NO_PROXY`.
    #[default]
    Environment,
    /// None.
    Direct,
    /// This one for every request: `http://`, `https://`, `socks4://`, `socks4a://`, `socks5://` or `socks5h://`, with
    /// `user:password@` if it wants them.
    Url(String),
}

impl fmt::Debug for ProxySettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProxySettings::Environment => formatter.write_str("Environment"),
            ProxySettings::Direct => formatter.write_str("Direct"),
            ProxySettings::Url(url) => write!(formatter, "Url({})", redact::url(url)),
        }
    }
}

/// The proxies of a client, parsed.
pub(super) struct Proxies {
    plain: Option<Gate>,
    secure: Option<Gate>,
    exceptions: Exceptions,
}

impl Proxies {
    pub(super) fn new(
        settings: &ProxySettings,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Proxies, SettingsError> {
        match settings {
            ProxySettings::Direct => Ok(Proxies::every(None)),
            ProxySettings::Url(url) => Ok(Proxies::every(Some(Gate::parse(url, "the proxy")?))),
            ProxySettings::Environment => {
                let variable = |names: &[&'static str]| {
                    let given = |name: &&'static str| {
                        let value = environment(name)?.trim().to_owned();
                        (!value.is_empty()).then_some((*name, value))
                    };
                    names.iter().find_map(given)
                };
                let gate = |names: &[&'static str]| match variable(names) {
                    Some((name, url)) => Gate::parse(&url, &format!("the proxy in {name}")).map(Some),
                    None => Ok(None),
                };
                // In a CGI program a client sets HTTP_PROXY, by the header `Proxy` of its request.
                let plain = match environment("REQUEST_METHOD") {
                    Some(_) => gate(&["http_proxy", "all_proxy", "ALL_PROXY"])?,
                    None => gate(&["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])?,
                };
                Ok(Proxies {
                    plain,
                    secure: gate(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])?,
                    exceptions: Exceptions::parse(&variable(&["no_proxy", "NO_PROXY"]).unwrap_or_default().1),
                })
            }
        }
    }

    /// The proxy for a host, written as in a URL.
    pub(super) fn gate(&self, secure: bool, host: &str, port: u16) -> Option<&Gate> {
        let gate = if secure { &self.secure } else { &self.plain };
        gate.as_ref().filter(|_| !self.exceptions.covers(host, port))
    }

    fn every(gate: Option<Gate>) -> Proxies {
        Proxies {
            plain: gate.clone(),
            secure: gate,
            exceptions: Exceptions::default(),
        }
    }
}

/// One proxy.
#[derive(Clone, PartialEq)]
pub(super) struct Gate {
    /// For ureq, which makes tunnels through it.
    pub(super) tunnel: Proxy,
    /// For requests that it forwards without a tunnel, as a proxy of HTTP does for `http`; many refuse tunnels to other ports than
    /// that of `https`.
    pub(super) forward: Option<Forward>,
}

#[derive(Clone, PartialEq)]
pub(super) struct Forward {
    /// Scheme and authority alone.
    pub(super) origin: Uri,
    /// The value of `Proxy-Authorization`.
    pub(super) authorization: Option<String>,
}

impl Gate {
    /// Whether the way to the proxy is encrypted.
    pub(super) fn needs_tls(&self) -> bool {
        self.tunnel.protocol() == ProxyProtocol::Https
    }

    fn parse(url: &str, origin: &str) -> Result<Gate, SettingsError> {
        let refused = |reason: &str| SettingsError::new(format!("{origin}, `{}`, {reason}", redact::url(url)));
        let tunnel = Proxy::new(url).map_err(|_| {
            refused("is not valid: give one like `http://host:3128`, or with `https`, `socks4`, `socks4a`, `socks5` or `socks5h`")
        })?;
        let secure = tunnel.protocol() == ProxyProtocol::Https;
        if secure && !cfg!(feature = "tls") {
            return Err(refused(
                "needs TLS: build tidegauge with its feature `tls`, or use `http://`",
            ));
        }
        if tunnel.host().is_empty() {
            return Err(refused("has no host: name one"));
        }
        // ureq has decoded them; what it accepts may still break a line.
        let parts = [tunnel.username(), tunnel.password()];
        if parts
            .into_iter()
            .flatten()
            .any(|part| part.chars().any(char::is_control))
        {
            return Err(refused("has control characters in its user information: remove them"));
        }
        let forward = match tunnel.protocol() {
            ProxyProtocol::Http | ProxyProtocol::Https => {
                let scheme = if secure { Scheme::HTTPS } else { Scheme::HTTP };
                let origin = Uri::builder()
                    .scheme(scheme)
                    .authority(format!("{}:{}", tunnel.host(), tunnel.port()))
                    .path_and_query("/")
                    .build()
                    .map_err(|_| refused("has a host that is not valid: correct it"))?;
                let password = tunnel.password().unwrap_or_default();
                let authorization = tunnel.username().map(|user| basic(user, password));
                Some(Forward { origin, authorization })
            }
            _ => None,
        };
        Ok(Gate { tunnel, forward })
    }
}

/// Hosts that are reached directly, of `NO_PROXY`: `*` for all; `host`, which is its subdomains too; `.host` and `*.host`, which are
/// its subdomains alone; addresses and networks (`10.0.0.0/8`); each but a network with `:port` if that port alone is meant.
#[derive(Clone, Debug, Default)]
struct Exceptions {
    entries: Vec<(Exception, Option<u16>)>,
}

#[derive(Clone, Debug)]
enum Exception {
    All,
    Host(String),
    Subdomains(String),
    Network(IpAddr, u8),
}

impl Exceptions {
    fn parse(text: &str) -> Exceptions {
        let separated = text.split(|character: char| character == ',' || character.is_whitespace());
        let entries = separated.filter(|entry| !entry.is_empty()).map(|entry| {
            let entry = entry.to_ascii_lowercase();
            let network = entry.split_once('/').and_then(|(address, bits)| {
                let address: IpAddr = address.parse().ok()?;
                let bits: u8 = bits.parse().ok()?;
                (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, bits))
            });
            if let Some((address, bits)) = network {
                return (Exception::Network(address, bits), None);
            }
            // More than one colon without brackets is an address of IPv6, and no port.
            let (host, port) = match entry.rsplit_once(':') {
                Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
                    Ok(port) => (host, Some(port)),
                    Err(_) => (entry.as_str(), None),
                },
                _ => (entry.as_str(), None),
            };
            let host = without_brackets(host);
            let exception = match (host, host.parse::<IpAddr>(), host.strip_prefix('*').unwrap_or(host)) {
                ("*", ..) => Exception::All,
                (_, Ok(address), _) => Exception::Network(address, if address.is_ipv4() { 32 } else { 128 }),
                (_, _, suffix) if suffix.starts_with('.') => Exception::Subdomains(suffix.to_owned()),
                _ => Exception::Host(host.to_owned()),
            };
            (exception, port)
        });
        Exceptions {
            entries: entries.collect(),
        }
    }

    fn covers(&self, host: &str, port: u16) -> bool {
        let host = without_brackets(host).to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        let address = host.parse::<IpAddr>().ok();
        let covers = |exception: &Exception| match exception {
            Exception::All => true,
            Exception::Host(name) => host
                .strip_suffix(name.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
            Exception::Subdomains(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
            Exception::Network(network, bits) => address.is_some_and(|address| within(address, *network, *bits)),
        };
        let mut entries = self.entries.iter();
        entries.any(|(exception, only)| only.is_none_or(|only| only == port) && covers(exception))
    }
}

fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

fn within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    // A shift by the whole width, for a network of no bits, is no shift.
    match (address.to_canonical(), network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            (address.to_bits() ^ network.to_bits())
                .checked_shr(32 - u32::from(bits))
                .unwrap_or(0)
                == 0
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            (address.to_bits() ^ network.to_bits())
                .checked_shr(128 - u32::from(bits))
                .unwrap_or(0)
                == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::http::url::percent_decoded;

    fn proxies(variables: &[(&str, &str)]) -> Result<Proxies, SettingsError> {
        Proxies::new(&ProxySettings::Environment, |name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn host(gate: Option<&Gate>) -> Option<&str> {
        gate.map(|gate| gate.tunnel.host())
    }

    #[test]
    fn the_environment_decides_by_scheme() {
        let all = [
            ("HTTP_PROXY", "http://plain:3128"),
            ("https_proxy", "http://secure:3128"),
            ("HTTPS_PROXY", "http://not-this:3128"),
            ("ALL_PROXY", "socks5h://all"),
        ];
        let found = proxies(&all).unwrap();
        assert_eq!(host(found.gate(false, "h", 80)), Some("plain"));
        assert_eq!(host(found.gate(true, "h", 443)), Some("secure"));
        let found = proxies(&all[3..]).unwrap();
        assert_eq!(host(found.gate(false, "h", 80)), Some("all"));
        assert_eq!(host(found.gate(true, "h", 443)), Some("all"));
        assert_eq!(host(proxies(&all[..1]).unwrap().gate(true, "h", 443)), None);
        let in_cgi = proxies(&[all[0], ("REQUEST_METHOD", "GET")]).unwrap();
        assert_eq!(host(in_cgi.gate(false, "h", 80)), None);
        assert_eq!(
            host(proxies(&[("HTTP_PROXY", " ")]).unwrap().gate(false, "h", 80)),
            None
        );
    }

    #[test]
    fn exceptions_are_reached_directly() {
        let exceptions = Exceptions::parse(
            "local, .sub.test,*.star.test whole.test:4318,10.0.0.0/8,192.168.1.1,[fd00::1]:80,fe80::/10,0/33,/,:",
        );
        for (host, port, covered) in [
            ("local", 1, true),
            ("LOCAL.", 1, true),
            ("a.local", 1, true),
            ("notlocal", 1, false),
            ("sub.test", 1, false),
            ("a.sub.test", 1, true),
            ("star.test", 1, false),
            ("a.b.star.test", 1, true),
            ("whole.test", 4318, true),
            ("whole.test", 80, false),
            ("10.1.2.3", 1, true),
            ("11.1.2.3", 1, false),
            ("192.168.1.1", 1, true),
            ("192.168.1.2", 1, false),
            ("[fd00::1]", 80, true),
            ("[fd00::1]", 81, false),
            ("[fe80::7]", 1, true),
            ("[::ffff:10.0.0.1]", 1, true),
            ("other", 1, false),
        ] {
            assert_eq!(exceptions.covers(host, port), covered, "{host}:{port}");
        }
        assert!(Exceptions::parse("0.0.0.0/0").covers("1.2.3.4", 1));
        assert!(Exceptions::parse("*").covers("other", 1));
        assert!(!Exceptions::parse("").covers("", 1));
        let found = proxies(&[("ALL_PROXY", "http://p"), ("NO_PROXY", "near")]).unwrap();
        assert!(found.gate(false, "near", 80).is_none() && found.gate(false, "far", 80).is_some());
    }

    #[test]
    fn what_is_wrong_is_named_and_no_secret_is() {
        for url in [
            "ftp://u:hush@h",
            "http://u:hush@",
            "http://u:hush@h h",
            "http://u:%ffhush@h",
            "http://u:%0ahush@h",
            "::",
        ] {
            let message = proxies(&[("HTTP_PROXY", url)]).err().expect(url).to_string();
            assert!(message.contains("HTTP_PROXY") && !message.contains("hush"), "{message}");
        }
        let settings = ProxySettings::Url("http://u:hush@h:1".to_owned());
        assert_eq!(format!("{settings:?}"), "Url(http://h:1)");
        let found = Proxies::new(&settings, |_| None).unwrap();
        let forward = found.gate(false, "h", 80).unwrap().forward.clone().unwrap();
        assert_eq!(forward.origin.to_string(), "http://h:1/");
        assert_eq!(forward.authorization.as_deref(), Some("Basic dTpodXNo"));
        assert!(percent_decoded("%0").is_none());
    }
}
