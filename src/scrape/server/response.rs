//! A reply before and after it is spelled as bytes. Knows nothing of connections but the header that names their end.

use std::fmt::Write;

use crate::scrape::Reply;

/// Status, headers and body. Length, connection and sniffing headers are added when it is spelled.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

/// What the request asks of the spelling of its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manner {
    /// HEAD: all headers, no body.
    pub(crate) without_body: bool,
    pub(crate) afterwards: Afterwards,
}

/// What becomes of the connection after the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Afterwards {
    /// HTTP/1.1 stays open without a word.
    KeepAlive,
    /// HTTP/1.0 asked to stay open and must be told that it does.
    KeepAliveSaid,
    Close,
}

/// A spelled reply on its way out.
#[derive(Debug)]
pub(crate) struct Output {
    head: Vec<u8>,
    body: Vec<u8>,
    written: usize,
}

/// Bodies up to this size travel in one piece with the head.
const JOINED_BODY_BYTES: usize = 8 * 1024;

impl Response {
    pub(crate) fn new(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Response {
        Response {
            status,
            headers: vec![("Content-Type", content_type.to_owned())],
            body: body.into(),
        }
    }

    /// One line of plain text, as all errors are.
    pub(crate) fn text(status: u16, line: &str) -> Response {
        Response::new(status, "text/plain; charset=utf-8", format!("{line}\n"))
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Response {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn spell(self, manner: Manner) -> Output {
        let mut head = String::with_capacity(256);
        let reason = reason(self.status);
        // Writing to a string cannot fail.
        let _ = write!(head, "HTTP/1.1 {} {reason}\r\n", self.status);
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let _ = write!(head, "Content-Length: {}\r\n", self.body.len());
        head.push_str("X-Content-Type-Options: nosniff\r\n");
        head.push_str(match manner.afterwards {
            Afterwards::KeepAlive => "\r\n",
            Afterwards::KeepAliveSaid => "Connection: keep-alive\r\n\r\n",
            Afterwards::Close => "Connection: close\r\n\r\n",
        });
        let mut head = head.into_bytes();
        let mut body = if manner.without_body { Vec::new() } else { self.body };
        if body.len() <= JOINED_BODY_BYTES {
            head.append(&mut body);
            body = Vec::new();
        }
        Output { head, body, written: 0 }
    }
}

impl From<Reply> for Response {
    fn from(reply: Reply) -> Response {
        let headers = reply
            .headers()
            .filter(|(name, _)| !is_added_when_spelled(name))
            .map(|(name, value)| (name, value.to_owned()))
            .collect();
        Response {
            status: reply.status(),
            headers,
            body: reply.into_body(),
        }
    }
}

impl Output {
    /// The next bytes to write; empty when all have left.
    pub(crate) fn rest(&self) -> &[u8] {
        match self.written.checked_sub(self.head.len()) {
            None => &self.head[self.written..],
            Some(of_body) => &self.body[of_body..],
        }
    }

    pub(crate) fn advance(&mut self, bytes: usize) {
        self.written += bytes;
    }

    /// Memory held until the client has taken it all.
    pub(crate) fn held_bytes(&self) -> usize {
        self.head.capacity() + self.body.capacity()
    }
}

fn is_added_when_spelled(name: &str) -> bool {
    ["content-length", "connection", "x-content-type-options"]
        .iter()
        .any(|added| name.eq_ignore_ascii_case(added))
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        // The phrase may be empty, the space before it may not.
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Registry;
    use crate::scrape::ScrapeRequest;

    fn drain(mut output: Output, step: usize) -> String {
        let mut bytes = Vec::new();
        while !output.rest().is_empty() {
            let taken = output.rest().len().min(step);
            bytes.extend_from_slice(&output.rest()[..taken]);
            output.advance(taken);
        }
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_reply_is_spelled_whole_however_it_is_cut() {
        let close = Manner {
            without_body: false,
            afterwards: Afterwards::Close,
        };
        let expected = "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 8\r\n\
                        X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\nnothing\n";
        for step in [1, 7, 10_000] {
            let output = Response::text(404, "nothing").spell(close);
            assert_eq!(drain(output, step), expected);
        }
        let large = "x".repeat(3 * JOINED_BODY_BYTES);
        let text = drain(Response::new(200, "text/plain", large.as_str()).spell(close), 1000);
        assert!(text.ends_with(&large));
        assert_eq!(text.len() - large.len(), text.find("\r\n\r\n").unwrap() + 4);
    }

    #[test]
    fn head_has_the_length_and_no_body() {
        let manner = Manner {
            without_body: true,
            afterwards: Afterwards::KeepAlive,
        };
        let text = drain(Response::new(200, "text/plain", vec![b'x'; 100_000]).spell(manner), 64);
        assert!(text.contains("Content-Length: 100000\r\n"));
        assert!(text.ends_with("nosniff\r\n\r\n"));
    }

    #[test]
    fn headers_of_a_scrape_reply_are_kept() {
        let reply = Registry::new().scrape_with(&ScrapeRequest::new());
        let status = reply.status();
        let response = Response::from(reply);
        assert_eq!(response.status, status);
        let has = |wanted| {
            response
                .headers
                .iter()
                .any(|(name, _)| name.eq_ignore_ascii_case(wanted))
        };
        assert!(has("content-type"));
        assert!(!has("content-length"));
    }
}
