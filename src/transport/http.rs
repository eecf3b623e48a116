//! HTTP/1.1 requests, each before its deadline, over connections that are kept: blocking, on the thread that asks.
//!
//! What a caller has to know of a request that brought no answer is whether its bytes may have arrived; [`FailureKind`] says
//! that. Nothing is sent twice and no redirect is followed here. Built on ureq, whose log never sees a path, a query or a
//! credential (see `connection.rs`).
//!
//! After a fork the child calls [`HttpClient::reconnect`] before its first request, or drops the client: either closes its copies
//! of the sockets and sends nothing, so that the parent's connections, TLS included, go on.

mod connection;
mod headers;
mod names;
mod proxy;
mod retry_after;
mod tcp;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "http/no_tls.rs"]
mod tls;
mod url;

#[cfg(test)]
pub(crate) mod tests;
#[cfg(all(test, feature = "tls"))]
mod tls_tests;

pub(crate) use headers::Headers;
pub(crate) use proxy::ProxySettings;
pub(crate) use retry_after::retry_after;
pub(crate) use url::HttpUrl;

use crate::{
    destination::Overdue,
    redact,
    transport::{
        names::{LookUp, system},
        patience::Patience,
    },
};
use connection::{Dial, Head, Shared};
use names::{Later, Names};
use proxy::{Gate, Proxies};
use std::{fmt, io::Read, mem, path::PathBuf, sync::Arc, time::Duration};
use tls::Tls;
use ureq::{
    Agent, Body, Error,
    http::{self, HeaderMap},
};
use url::percent_decoded;

/// A client and its connections. It is used by one thread at a time.
pub(crate) struct HttpClient {
    user_agent: String,
    headers: Headers,
    proxies: Proxies,
    tls: Tls,
    /// One agent, with connections of its own, for each route.
    agents: Vec<(Route, Agent)>,
    shared: Arc<Shared>,
    look_up: Arc<LookUp>,
    longest_use: Duration,
    /// What was wrong with credentials and certificates when that was last told.
    told: Vec<String>,
    /// Credentials or certificates have changed since a refusal, and nobody was told.
    has_changed: bool,
    reloads: u64,
}

/// What a client is made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct HttpSettings {
    /// The header `User-Agent`, unless `headers` has one. Empty for none.
    pub(crate) user_agent: String,
    /// Sent with every request that has no header of the same name itself.
    pub(crate) headers: Headers,
    pub(crate) proxy: ProxySettings,
    pub(crate) tls: TlsFiles,
}

/// Files in PEM. They are read again when they change.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsFiles {
    /// The authorities to trust, instead of the system's.
    pub(crate) authorities: Option<PathBuf>,
    /// The client's certificate, with the certificates between it and the authority.
    pub(crate) certificate: Option<PathBuf>,
    /// Its private key.
    pub(crate) key: Option<PathBuf>,
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) url: &'a HttpUrl,
    /// Headers of this request, no credentials among them: these ureq may log. Ask for compressed answers with `Accept-Encoding: gzip`, the only coding that is undone.
    pub(crate) headers: &'a [(&'a str, &'a str)],
    /// Not sent with [`Method::Get`] and [`Method::Delete`].
    pub(crate) body: &'a [u8],
    /// From now to the last byte of the answer; a day at most.
    pub(crate) timeout: Duration,
    /// Asked while something is waited for: whether there is no time for that any more.
    pub(crate) overdue: Option<&'a Overdue>,
}

/// What is done to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(test), allow(dead_code))] // nothing is asked for yet, and without gateways all is posted
pub(crate) enum Method {
    Get,
    Post,
    Put,
    Delete,
}

/// An answer. Interim ones (1xx but 101) are waited past; a redirect is an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// As it came; see [`retry_after()`].
    pub(crate) retry_after: Option<String>,
    pub(crate) content_type: Option<String>,
    /// Without what may be secret: to be shown, not to be asked.
    pub(crate) location: Option<String>,
    /// At most 4 MiB, decompressed, with asterisks over what it has of the request's credentials and query.
    pub(crate) body: Vec<u8>,
    /// Whether `body` is all of it: otherwise the connection broke, the time was over or the compression was bad in the middle of
    /// it, and the status is the answer.
    pub(crate) complete: bool,
}

/// A request without an answer. The message is one bounded line that names the URL without credentials and query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) message: String,
}

/// What a failure says of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// No byte of the request left: the name was not found, the connection was refused, reset or not made in time, a proxy
    /// refused, or a credential could not be had.
    NotSent,
    /// The server, or what was in its place, and this client could not agree on TLS: not its certificate or name, or not the
    /// client's certificate. The request was not looked at.
    Tls,
    /// A byte may have left, and no whole head of an answer came back in time.
    Unclear,
    /// What came back is not HTTP, or more of it than is read: a head of 64 KiB or a body of 4 MiB.
    Unreadable,
}

/// Settings that can't be used. The message names the thing, the rule and the fix, and no credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SettingsError {
    message: String,
}

impl HttpClient {
    /// A client without connections.
    ///
    /// # Errors
    ///
    /// If a proxy can't be used, a certificate file can't be read or used, or one is given without the feature `tls`. A
    /// credential that can't be had yet is no error: requests fail until it can.
    pub(crate) fn new(settings: HttpSettings) -> Result<HttpClient, SettingsError> {
        HttpClient::with_environment(settings, |name| std::env::var(name).ok())
    }

    fn with_environment(
        settings: HttpSettings,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<HttpClient, SettingsError> {
        if settings
            .user_agent
            .chars()
            .any(|character| !matches!(character, ' '..='~'))
        {
            return Err(SettingsError::new(
                "the user agent must be printable ASCII: remove other characters".to_owned(),
            ));
        }
        Ok(HttpClient {
            user_agent: settings.user_agent,
            proxies: Proxies::new(&settings.proxy, environment)?,
            tls: Tls::new(&settings.tls)?,
            headers: settings.headers,
            agents: Vec::new(),
            shared: Arc::new(Shared::new()),
            look_up: Arc::new(system),
            longest_use: LONGEST_USE,
            told: Vec::new(),
            has_changed: false,
            reloads: 0,
        })
    }

    /// Asks somebody else for the addresses of names.
    #[cfg(test)]
    pub(crate) fn look_up_with(
        &mut self,
        look_up: impl Fn(&str) -> std::io::Result<Vec<std::net::SocketAddr>> + Send + Sync + 'static,
    ) {
        self.look_up = Arc::new(look_up);
    }

    /// Sends a request and waits for the answer.
    pub(crate) fn request(&mut self, request: Request<'_>) -> Result<Response, Failure> {
        let patience = Patience::new(request.timeout, request.overdue);
        if self.tls.refresh(false) {
            self.reconnect();
        }
        let answered = self.answer(&request, patience);
        match answered {
            Ok(response) => {
                if let 401 | 403 = response.status {
                    self.has_changed |= self.read_again();
                }
                Ok(response)
            }
            Err(mut failure) => {
                if failure.kind == FailureKind::Tls && self.tls.refresh(true) {
                    self.reconnect();
                }
                failure.message = redact::line(&format!("{}: {}", request.url, failure.message), MESSAGE_CHARACTERS);
                Err(failure)
            }
        }
    }

    /// Reads credentials and certificates again at once; says whether one has changed, now or at a refusal (401, 403) that
    /// nobody has asked about yet.
    pub(crate) fn reload(&mut self) -> bool {
        let changed = mem::take(&mut self.has_changed) | self.read_again();
        self.reloads += u64::from(changed);
        changed
    }

    /// How often [`reload`](HttpClient::reload) has said that something has changed.
    pub(crate) fn reloads(&self) -> u64 {
        self.reloads
    }

    /// After a change of certificates, connections are made anew.
    fn read_again(&mut self) -> bool {
        let of_headers = self.headers.reload();
        let of_tls = self.tls.refresh(true);
        if of_tls {
            self.reconnect();
        }
        of_headers | of_tls
    }

    /// Drops all connections, without a word to the far end: after a freeze, and in the child after a fork.
    pub(crate) fn reconnect(&mut self) {
        self.agents.clear();
    }

    /// Connections opened so far.
    pub(crate) fn connections(&self) -> u64 {
        self.shared.opened()
    }

    /// What is wrong just now with files and closures that give credentials and certificates, while the last good ones are in
    /// use.
    pub(crate) fn problems(&self) -> Vec<String> {
        let certificates = self.tls.problem().map(str::to_owned);
        self.headers.problems().chain(certificates).collect()
    }

    /// Logs these problems, when they are news.
    pub(crate) fn tell_problems(&mut self) {
        let problems = self.problems();
        for problem in problems.iter().filter(|problem| !self.told.contains(problem)) {
            log::warn!("what was read before stays in use: {problem}");
        }
        self.told = problems;
    }

    fn answer(&mut self, request: &Request<'_>, patience: Patience) -> Result<Response, Failure> {
        let url = request.url;
        let gate = self.proxies.gate(url.secure, url.host(), url.port()).cloned();
        let forward = gate
            .as_ref()
            .and_then(|gate| gate.forward.as_ref())
            .filter(|_| !url.secure);
        let to_proxy = forward.and_then(|forward| forward.authorization.as_deref());
        let lines = self.lines(request, to_proxy);
        // Now, because after a refusal there may be others.
        let secrets = self.secrets(url, to_proxy);
        let target = match forward {
            Some(_) => format!("{}{}", url.origin_text(), url.target()),
            None => url.target(),
        };
        let lines = lines.map_err(|error| Failure::new(FailureKind::NotSent, error.to_string()))?;
        let agent = self
            .agent(gate, url.secure)
            .map_err(|message| Failure::new(FailureKind::Tls, message))?;
        self.shared.begin(patience, Head { target, lines });
        let answer = send(&agent, request);
        let may_have_left = self.shared.end();
        let (head, mut body) = answer
            .map_err(|error| judge(error, may_have_left, request.timeout))?
            .into_parts();
        let status = head.status.as_u16();
        let (mut body, complete) = read(&mut body).ok_or_else(|| {
            let message = format!("the answer {status} has a body of more than 4 MiB, which is not read");
            Failure::new(FailureKind::Unreadable, message)
        })?;
        cover(&mut body, &secrets);
        let text = |name| text(&head.headers, name, &secrets);
        Ok(Response {
            status,
            retry_after: text(http::header::RETRY_AFTER),
            content_type: text(http::header::CONTENT_TYPE),
            location: text(http::header::LOCATION).map(|location| redact::url(&location)),
            body,
            complete,
        })
    }

    /// What this request sends that nobody is to be shown, the longest first: one may be a part of another. Few characters are no
    /// secret, and would be found everywhere.
    fn secrets(&self, url: &HttpUrl, to_proxy: Option<&str>) -> Vec<String> {
        let authorizations = url.authorization.as_deref().into_iter().chain(to_proxy);
        let query = url.query().unwrap_or_default().split('&');
        let mut secrets: Vec<String> = authorizations.flat_map(headers::credentials).collect();
        secrets.extend(
            query
                .flat_map(|pair| [Some(pair.to_owned()), percent_decoded(pair)])
                .flatten(),
        );
        secrets.extend(self.headers.credentials());
        secrets.retain(|secret| secret.len() >= SHORTEST_SECRET);
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets
    }

    /// The header lines that ureq is not told.
    fn lines(&mut self, request: &Request<'_>, to_proxy: Option<&str>) -> Result<Vec<u8>, SettingsError> {
        let own = |name: &str| {
            request
                .headers
                .iter()
                .any(|(given, _)| given.eq_ignore_ascii_case(name))
        };
        let mut lines = self.headers.lines(|name| !own(name))?;
        let authorized = self.headers.has(headers::AUTHORIZATION) || own(headers::AUTHORIZATION);
        if let Some(value) = request.url.authorization.as_deref().filter(|_| !authorized) {
            headers::write_line(&mut lines, headers::AUTHORIZATION, value);
        }
        if let Some(value) = to_proxy {
            headers::write_line(&mut lines, "Proxy-Authorization", value);
        }
        Ok(lines)
    }

    /// The agent that goes through a proxy or through none, for one of the two schemes.
    fn agent(&mut self, gate: Option<Gate>, secure: bool) -> Result<Agent, String> {
        let route = Route { gate, secure };
        if let Some((_, agent)) = self.agents.iter().find(|(made_for, _)| *made_for == route) {
            return Ok(agent.clone());
        }
        let needs_tls = secure || route.gate.as_ref().is_some_and(Gate::needs_tls);
        let session = self.tls.session(needs_tls)?;
        let (tunnel, forward) = match &route.gate {
            Some(Gate {
                forward: Some(forward), ..
            }) if !secure => (None, Some(forward.clone())),
            Some(gate) => (Some(gate.tunnel.clone()), None),
            None => (None, None),
        };
        let user_agent = if self.headers.has("User-Agent") {
            ""
        } else {
            &self.user_agent
        };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(tunnel)
            .user_agent(user_agent)
            .accept("")
            .accept_encoding("")
            .max_response_header_size(LARGEST_HEAD)
            .output_buffer_size(OUTPUT_BUFFER)
            // Their age is checked where they are used; see `Connection`.
            .max_idle_age(Duration::MAX)
            .build();
        let dial = Dial {
            names: Arc::new(Names::new(Arc::clone(&self.look_up), Arc::clone(&self.shared))),
            shared: Arc::clone(&self.shared),
            session,
            forward,
            longest_use: self.longest_use,
        };
        let agent = Agent::with_parts(config, dial, Later);
        self.agents.push((route, agent.clone()));
        Ok(agent)
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("HttpClient");
        shown
            .field("headers", &self.headers)
            .field("connections", &self.connections());
        shown.finish_non_exhaustive()
    }
}

impl Failure {
    fn new(kind: FailureKind, message: String) -> Failure {
        Failure { kind, message }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl SettingsError {
    fn new(message: String) -> SettingsError {
        SettingsError { message }
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for SettingsError {}

/// A way to reach a host.
#[derive(PartialEq)]
struct Route {
    gate: Option<Gate>,
    secure: bool,
}

fn send(agent: &Agent, request: &Request<'_>) -> Result<http::Response<Body>, Error> {
    let method = match request.method {
        Method::Get => http::Method::GET,
        Method::Post => http::Method::POST,
        Method::Put => http::Method::PUT,
        Method::Delete => http::Method::DELETE,
    };
    let mut builder = http::Request::builder().method(method).uri(&request.url.origin);
    for (name, value) in request.headers {
        builder = builder.header(*name, *value);
    }
    match request.method {
        Method::Get | Method::Delete => agent.run(builder.body(())?),
        Method::Post | Method::Put => agent.run(builder.body(request.body)?),
    }
}

/// The body as far as it can be read, and whether that is all of it; `None` if it is too long.
fn read(body: &mut Body) -> Option<(Vec<u8>, bool)> {
    let mut bytes = Vec::new();
    // The limit is on what is left after decompression.
    let whole = body.as_reader().take(LARGEST_BODY + 1).read_to_end(&mut bytes).is_ok();
    (bytes.len() as u64 <= LARGEST_BODY).then_some((bytes, whole))
}

fn text(headers: &HeaderMap, name: http::HeaderName, secrets: &[String]) -> Option<String> {
    let mut value = headers.get(name)?.to_str().ok()?.as_bytes().to_vec();
    cover(&mut value, secrets);
    Some(redact::line(&String::from_utf8_lossy(&value), HEADER_CHARACTERS))
}

/// Writes asterisks over secrets, which some servers send back with what they do not understand. No length changes, so a message
/// in protobuf can still be read.
fn cover(bytes: &mut [u8], secrets: &[String]) {
    for secret in secrets {
        let mut rest = &mut *bytes;
        while let Some(at) = rest
            .windows(secret.len())
            .position(|window| window == secret.as_bytes())
        {
            rest = &mut rest[at..];
            rest[..secret.len()].fill(b'*');
            rest = &mut rest[secret.len()..];
        }
    }
}

/// What an error means for the request.
fn judge(error: Error, may_have_left: bool, timeout: Duration) -> Failure {
    let failure = Failure::new;
    if let Some(reason) = tls::refusal(&error) {
        return failure(FailureKind::Tls, reason);
    }
    if !may_have_left {
        return match tls::failure(&error) {
            Some(reason) => failure(FailureKind::Tls, format!("no agreement on TLS: {reason}")),
            None => failure(
                FailureKind::NotSent,
                format!("not sent: {}", reason(error, "connection", timeout)),
            ),
        };
    }
    let kind = match error {
        Error::Protocol(_) | Error::LargeResponseHeader(..) => FailureKind::Unreadable,
        _ => FailureKind::Unclear,
    };
    failure(kind, reason(error, "answer", timeout))
}

fn reason(error: Error, missing: &str, timeout: Duration) -> String {
    match error {
        Error::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            format!("the connection was closed: no {missing}")
        }
        Error::Io(error) => format!("no {missing}: {error}"),
        Error::Timeout(ureq::Timeout::Resolve) => format!("the host's name was not found within {timeout:?}"),
        Error::Timeout(_) => format!("no {missing} within {timeout:?}"),
        Error::HostNotFound => "the host's name has no address".to_owned(),
        Error::ConnectProxyFailed(reason) => format!("the proxy refuses: {reason}"),
        Error::Protocol(error) => format!("the answer is not HTTP/1.1: {error}"),
        Error::LargeResponseHeader(..) => "the head of the answer is longer than 64 KiB".to_owned(),
        Error::Http(_) => "a header of the request is not valid: correct it".to_owned(),
        error => format!("no {missing}: {error}"),
    }
}

/// So that a change of addresses is seen.
const LONGEST_USE: Duration = Duration::from_secs(60);

/// What OTLP recommends; see <https://opentelemetry.io/docs/specs/otlp/#otlphttp-response>.
const LARGEST_BODY: u64 = 4 * 1024 * 1024;

const LARGEST_HEAD: usize = 64 * 1024;

/// A deadline is looked at before each piece, and a piece fits in a socket's buffer once some of it is free.
const OUTPUT_BUFFER: usize = 16 * 1024;

const HEADER_CHARACTERS: usize = 500;

const SHORTEST_SECRET: usize = 6;

const MESSAGE_CHARACTERS: usize = 400;
