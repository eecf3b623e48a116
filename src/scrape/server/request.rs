//! Bytes to a request, or to the reason why there will be none. Whatever two readers could understand differently (two
//! lengths, a length beside chunks, folded lines, bare line feeds) is refused, and the connection ends with that refusal.
//!
//! Rules: <https://www.rfc-editor.org/rfc/rfc9112> sections 2, 3, 5, 6 and 9.

use super::limits::Limits;
use super::response::Response;

/// What an endpoint needs to know of a request.
///
/// Has no `Debug` on purpose: it carries the client's authorization.
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// What follows the question mark, raw.
    pub(crate) query: Option<String>,
    /// All lines of one header joined by commas, as several lines mean.
    pub(crate) accept: Option<String>,
    pub(crate) accept_encoding: Option<String>,
    pub(crate) authorization: Option<Vec<u8>>,
    pub(crate) persistence: Persistence,
    pub(crate) body: Body,
    /// The client holds its body back until it is asked for it.
    pub(crate) body_withheld: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Head,
    Other,
}

/// What the client wants to become of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Persistence {
    Close,
    KeepAlive,
    /// Asked for by HTTP/1.0, and to be confirmed in the reply.
    KeepAliveAsked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    None,
    Length(u64),
    Chunked,
}

/// What the bytes so far amount to.
pub(crate) enum Parsed {
    Partial,
    /// A request, and how many bytes its head took.
    Complete(Box<Request>, usize),
    Refused(Refusal),
}

/// Why there is no request to answer; the connection is closed after saying so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Malformed(&'static str),
    RequestLineTooLong,
    HeadTooLarge,
    BodyTooLarge,
    UnknownVersion,
    UnknownExpectation,
    TooSlow,
}

/// Reads the request at the start of `input`. Empty lines before a request are the caller's to skip, see
/// [`leading_empty_lines`].
pub(crate) fn parse(input: &[u8], limits: &Limits) -> Parsed {
    match read(input, limits) {
        Ok(Some((request, length))) => Parsed::Complete(Box::new(request), length),
        Ok(None) => Parsed::Partial,
        Err(refusal) => Parsed::Refused(refusal),
    }
}

/// The bytes of empty lines at the start: some old clients end a body with one too many.
pub(crate) fn leading_empty_lines(input: &[u8]) -> usize {
    let lines = input.chunks_exact(2).take_while(|pair| *pair == b"\r\n");
    lines.count() * 2
}

impl Refusal {
    pub(crate) fn response(self) -> Response {
        match self {
            Refusal::Malformed(rule) => Response::text(400, rule),
            Refusal::RequestLineTooLong => Response::text(414, "the request line is too long"),
            Refusal::HeadTooLarge => Response::text(431, "the request's headers are too large or too many"),
            Refusal::BodyTooLarge => Response::text(413, "this endpoint has no use for a request body"),
            Refusal::UnknownVersion => Response::text(505, "this endpoint speaks HTTP/1.0 and HTTP/1.1"),
            Refusal::UnknownExpectation => Response::text(417, "the only expectation known is 100-continue"),
            Refusal::TooSlow => Response::text(408, "the request took too long to arrive"),
        }
    }
}

fn read(input: &[u8], limits: &Limits) -> Result<Option<(Request, usize)>, Refusal> {
    let line_limit = limits.request_line_bytes.min(limits.head_bytes);
    let line_length = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    if line_length > line_limit {
        return Err(Refusal::RequestLineTooLong);
    }

    let mut slots = [httparse::EMPTY_HEADER; Limits::HEADERS];
    let mut parsed = httparse::Request::new(&mut slots);
    let length = match parsed.parse(input) {
        Ok(httparse::Status::Complete(length)) if length <= limits.head_bytes => length,
        Ok(httparse::Status::Partial) if input.len() < limits.head_bytes => return Ok(None),
        Ok(_) => return Err(Refusal::HeadTooLarge),
        Err(error) => return Err(explain(error, &input[..line_length])),
    };
    // The parser takes a bare line feed for a line's end; a proxy in front may not.
    let lines_end_in_full = input[..length]
        .split(|byte| *byte == b'\n')
        .rev()
        .skip(1)
        .all(|line| line.ends_with(b"\r"));
    if !lines_end_in_full {
        return Err(Refusal::Malformed("lines end in carriage return and line feed"));
    }
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Refusal::Malformed("the request line is incomplete"));
    };
    let headers = Headers(parsed.headers);
    let request = assemble(method, target, minor, &headers)?;
    Ok(Some((request, length)))
}

fn explain(error: httparse::Error, line: &[u8]) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::HeadTooLarge,
        httparse::Error::Version if names_a_version(line) => Refusal::UnknownVersion,
        httparse::Error::HeaderName => Refusal::Malformed("a header name is malformed, or a header line is folded"),
        httparse::Error::HeaderValue => Refusal::Malformed("a header value is malformed"),
        _ => Refusal::Malformed("this is not an HTTP request"),
    }
}

/// Whether the line is a request line but for its version, `HTTP/` and digits that mean nothing here.
fn names_a_version(line: &[u8]) -> bool {
    let mut words = line.trim_ascii_end().split(|byte| *byte == b' ');
    let (Some(_method), Some(_target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return false;
    };
    match version.strip_prefix(b"HTTP/") {
        Some([major]) => major.is_ascii_digit(),
        Some([major, b'.', minor]) => major.is_ascii_digit() && minor.is_ascii_digit(),
        _ => false,
    }
}

fn assemble(method: &str, target: &str, minor: u8, headers: &Headers<'_>) -> Result<Request, Refusal> {
    let (path, query) = split_target(method, target)?;
    check_host(headers, minor)?;
    let body = read_framing(headers, minor)?;
    let expects = match headers.only("expect", "there is more than one Expect")? {
        // HTTP/1.0 has no expectations.
        _ if minor == 0 => false,
        None => false,
        Some(value) if value.eq_ignore_ascii_case(b"100-continue") => true,
        Some(_) => return Err(Refusal::UnknownExpectation),
    };
    let authorization = headers.only("authorization", "there is more than one Authorization")?;
    Ok(Request {
        method: match method {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            _ => Method::Other,
        },
        path: path.to_owned(),
        query: query.map(str::to_owned),
        accept: headers.joined("accept"),
        accept_encoding: headers.joined("accept-encoding"),
        authorization: authorization.map(<[u8]>::to_vec),
        persistence: read_persistence(headers, minor),
        body,
        body_withheld: expects && body != Body::None,
    })
}

/// Path and query of `/path?query`, of `http://host/path?query`, and of the star that OPTIONS may ask about.
fn split_target<'target>(method: &str, target: &'target str) -> Result<(&'target str, Option<&'target str>), Refusal> {
    let local = if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
        target
    } else {
        let after_scheme = ["http://", "https://"]
            .iter()
            .find(|scheme| {
                target
                    .get(..scheme.len())
                    .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
            })
            .and_then(|scheme| target.get(scheme.len()..))
            .filter(|rest| !rest.is_empty() && !rest.starts_with(['/', '?']))
            .ok_or(Refusal::Malformed("the request target is malformed"))?;
        let host_ends = after_scheme.find(['/', '?']).unwrap_or(after_scheme.len());
        &after_scheme[host_ends..]
    };
    let (path, query) = match local.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (local, None),
    };
    // `http://host` and `http://host?query` mean the root.
    Ok((if path.is_empty() { "/" } else { path }, query))
}

fn check_host(headers: &Headers<'_>, minor: u8) -> Result<(), Refusal> {
    let host = headers.only("host", "there is more than one Host")?;
    match host {
        None if minor == 0 => Ok(()),
        None => Err(Refusal::Malformed("a Host header is required in HTTP/1.1")),
        Some(host) => {
            let plausible = |byte: &u8| byte.is_ascii_graphic() && !b"/\\?#@,\"<>".contains(byte);
            if host.iter().all(plausible) {
                Ok(())
            } else {
                Err(Refusal::Malformed("the Host header is malformed"))
            }
        }
    }
}

fn read_framing(headers: &Headers<'_>, minor: u8) -> Result<Body, Refusal> {
    let length = headers.only("content-length", "there is more than one Content-Length")?;
    let coding = headers.only("transfer-encoding", "there is more than one Transfer-Encoding")?;
    match (length, coding) {
        (None, None) => Ok(Body::None),
        (Some(_), Some(_)) => Err(Refusal::Malformed(
            "Content-Length beside Transfer-Encoding is ambiguous",
        )),
        (None, Some(_)) if minor == 0 => Err(Refusal::Malformed("HTTP/1.0 has no Transfer-Encoding")),
        (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Body::Chunked),
        (None, Some(_)) => Err(Refusal::Malformed("the only Transfer-Encoding known is chunked")),
        (Some(digits), None) => {
            let all_digits = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
            let length = std::str::from_utf8(digits).ok().filter(|_| all_digits);
            match length.and_then(|digits| digits.parse().ok()) {
                Some(0) => Ok(Body::None),
                Some(length) => Ok(Body::Length(length)),
                None => Err(Refusal::Malformed("Content-Length is not a number")),
            }
        }
    }
}

fn read_persistence(headers: &Headers<'_>, minor: u8) -> Persistence {
    let says = |wanted: &str| {
        headers
            .values("connection")
            .flat_map(|value| value.split(|byte| *byte == b','))
            .any(|option| option.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes()))
    };
    if says("close") {
        Persistence::Close
    } else if minor >= 1 {
        Persistence::KeepAlive
    } else if says("keep-alive") {
        Persistence::KeepAliveAsked
    } else {
        Persistence::Close
    }
}

/// Header lines as they came.
struct Headers<'parsed>(&'parsed [httparse::Header<'parsed>]);

impl<'parsed> Headers<'parsed> {
    fn values(&self, name: &str) -> impl Iterator<Item = &'parsed [u8]> {
        self.0
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value.trim_ascii())
    }

    /// The value of a header that must not be repeated.
    fn only(&self, name: &str, when_repeated: &'static str) -> Result<Option<&'parsed [u8]>, Refusal> {
        let mut values = self.values(name);
        let first = values.next();
        match values.next() {
            Some(_) => Err(Refusal::Malformed(when_repeated)),
            None => Ok(first),
        }
    }

    fn joined(&self, name: &str) -> Option<String> {
        let mut values = self.values(name).map(String::from_utf8_lossy);
        let first = values.next()?.into_owned();
        Some(values.fold(first, |joined, value| joined + "," + &value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(text: &str) -> Request {
        match parse(text.as_bytes(), &Limits::default()) {
            Parsed::Complete(request, length) => {
                assert_eq!(length, text.find("\r\n\r\n").unwrap() + 4);
                *request
            }
            Parsed::Partial => panic!("partial: {text:?}"),
            Parsed::Refused(refusal) => panic!("{refusal:?}: {text:?}"),
        }
    }

    fn refused(text: &str) -> u16 {
        match parse(text.as_bytes(), &Limits::default()) {
            Parsed::Refused(refusal) => refusal.response().status,
            Parsed::Partial => panic!("partial: {text:?}"),
            Parsed::Complete(..) => panic!("accepted: {text:?}"),
        }
    }

    fn with_headers(headers: &str) -> String {
        format!("GET /metrics HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n")
    }

    #[test]
    fn a_scrape_of_prometheus_is_read() {
        let request = complete(
            "GET /metrics?name[]=up&x HTTP/1.1\r\nHost: localhost:9464\r\nAccept: text/plain;q=0.5\r\n\
             accept: */*;q=0.1\r\nACCEPT-ENCODING: gzip\r\nAuthorization: Bearer a\r\n\r\n",
        );
        assert_eq!(request.method, Method::Get);
        assert_eq!(request.path, "/metrics");
        assert_eq!(request.query.as_deref(), Some("name[]=up&x"));
        assert_eq!(request.accept.as_deref(), Some("text/plain;q=0.5,*/*;q=0.1"));
        assert_eq!(request.accept_encoding.as_deref(), Some("gzip"));
        assert_eq!(request.authorization.as_deref(), Some(&b"Bearer a"[..]));
        assert_eq!(request.persistence, Persistence::KeepAlive);
        assert_eq!(request.body, Body::None);
    }

    #[test]
    fn every_prefix_of_a_request_is_partial() {
        let text = with_headers("Accept: a\r\nContent-Length: 12");
        for end in 0..text.len() {
            let parsed = parse(&text.as_bytes()[..end], &Limits::default());
            assert!(matches!(parsed, Parsed::Partial), "{end}");
        }
    }

    #[test]
    fn targets_in_both_forms() {
        for (target, path, query) in [
            ("/", "/", None),
            ("/a?", "/a", Some("")),
            ("/a?b?c", "/a", Some("b?c")),
            ("http://host:1/metrics?x=/y", "/metrics", Some("x=/y")),
            ("HTTPS://host/metrics", "/metrics", None),
            ("http://host", "/", None),
            ("http://host?x", "/", Some("x")),
            ("//metrics", "//metrics", None),
        ] {
            let request = complete(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert_eq!(
                (request.path.as_str(), request.query.as_deref()),
                (path, query),
                "{target}"
            );
        }
        for target in [
            "metrics",
            "*",
            "http://",
            "http:///a",
            "ftp://host/",
            "host:80",
            "htt\u{fc}",
        ] {
            assert_eq!(
                refused(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")),
                400,
                "{target}"
            );
        }
    }

    #[test]
    fn persistence_by_version_and_connection_header() {
        for (version, header, expected) in [
            ("1.1", "X: y", Persistence::KeepAlive),
            ("1.1", "Connection: Close", Persistence::Close),
            (
                "1.1",
                "Connection: x\r\nConnection: upgrade , close",
                Persistence::Close,
            ),
            ("1.0", "X: y", Persistence::Close),
            ("1.0", "Connection: Keep-Alive", Persistence::KeepAliveAsked),
            ("1.0", "Connection: keep-alive, close", Persistence::Close),
        ] {
            let request = complete(&format!("GET / HTTP/{version}\r\nHost: a\r\n{header}\r\n\r\n"));
            assert_eq!(request.persistence, expected, "{version} {header}");
        }
    }

    #[test]
    fn bodies_are_measured() {
        assert_eq!(complete(&with_headers("Content-Length: 0")).body, Body::None);
        assert_eq!(complete(&with_headers("Content-Length: 12")).body, Body::Length(12));
        assert_eq!(
            complete(&with_headers("Transfer-Encoding: Chunked")).body,
            Body::Chunked
        );
        let request = complete(&with_headers("Expect: 100-Continue\r\nContent-Length: 12"));
        assert!(request.body_withheld);
        assert!(!complete(&with_headers("Expect: 100-continue")).body_withheld);
    }

    #[test]
    fn whatever_is_ambiguous_or_malformed_is_refused() {
        for headers in [
            "Content-Length: 5\r\nContent-Length: 5",
            "Content-Length: 5\r\nContent-Length: 6",
            "Content-Length: 5, 5",
            "Content-Length: +5",
            "Content-Length: -1",
            "Content-Length:",
            "Content-Length: 0x5",
            "Content-Length: 99999999999999999999999",
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: identity",
            "Transfer-Encoding : chunked",
            "Content-Length : 5",
            "X: a\r\n folded",
            "X: a\r\n\tfolded",
            " X: a",
            "X: a\0b",
            "X: a\rb",
            ": a",
            "no colon",
            "b\u{e4}d: a",
            "Host: b",
            "Authorization: a\r\nAuthorization: b",
            "X: a\nY: b",
        ] {
            assert_eq!(refused(&with_headers(headers)), 400, "{headers:?}");
        }
        for text in [
            "GET /metrics HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
            "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.0\n\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /\r\n\r\n",
            "GET / HTTP/1.10\r\n\r\n",
            "GET / http/1.1\r\n\r\n",
            "G\u{7f}T / HTTP/1.1\r\n\r\n",
            "\u{16}\u{3}\u{1}\u{2}\u{0}",
        ] {
            assert_eq!(refused(text), 400, "{text:?}");
        }
    }

    #[test]
    fn other_versions_and_expectations_are_named() {
        assert_eq!(refused("GET / HTTP/1.2\r\n\r\n"), 505);
        assert_eq!(refused("GET / HTTP/0.9\r\n\r\n"), 505);
        assert_eq!(refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505);
        assert_eq!(refused("GET / HTTP/3\r\nHost: a\r\n\r\n"), 505);
        assert_eq!(refused(&with_headers("Expect: gold")), 417);
    }

    #[test]
    fn sizes_are_bounded() {
        let limits = Limits::default();
        let long = "a".repeat(limits.request_line_bytes);
        assert_eq!(refused(&format!("GET /{long}")), 414);
        assert_eq!(refused(&format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n")), 414);
        assert_eq!(
            refused(&with_headers(&format!("X: {}", "a".repeat(limits.head_bytes)))),
            431
        );
        let unfinished = with_headers(&format!("X: {}", "a".repeat(limits.head_bytes)));
        assert_eq!(refused(&unfinished[..limits.head_bytes]), 431);
        assert_eq!(refused(&with_headers(&"X: y\r\n".repeat(Limits::HEADERS))), 431);
        complete(&format!(
            "GET /{} HTTP/1.1\r\nHost: a\r\n\r\n",
            "a".repeat(limits.request_line_bytes - 20)
        ));
    }

    #[test]
    fn empty_lines_before_a_request_are_counted() {
        assert_eq!(leading_empty_lines(b""), 0);
        assert_eq!(leading_empty_lines(b"\r"), 0);
        assert_eq!(leading_empty_lines(b"\r\n\r\nGET"), 4);
        assert_eq!(leading_empty_lines(b"GE\r\n"), 0);
    }
}
