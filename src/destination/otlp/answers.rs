//! What an answer means: pure decisions from what came back, as the protocol has them
//! (<https://opentelemetry.io/docs/specs/otlp/#otlphttp-response>).
//!
//! | answer | verdict |
//! |---|---|
//! | 2xx, nothing rejected | delivered; a message is a warning |
//! | 2xx, so many points rejected | delivered but for these |
//! | 2xx with a body that is not the protocol's, or that breaks off | unclear |
//! | 429, 502, 503, 504 | retry, after the time that is asked for |
//! | 400 | rejected |
//! | 401, 403 | unauthorized |
//! | 413 | too large |
//! | all others, redirects among them | carry over |
//! | none: not sent | retry |
//! | none: no agreement on TLS | carry over |
//! | none, though it may have been taken, or one that is not HTTP | unclear |
//!
//! A 2xx is the server's word that it took the request: so Prometheus says it without body or content type. A body that
//! is not the answer of the protocol is not that word. It may be a proxy's login page, and nothing was taken, or a
//! receiver's own idea of an answer, and all was. As nobody can know, the points are sent again and counted as possible
//! duplicates: that is the one verdict under which nothing is lost unseen, and nothing counted twice unseen.

use super::{
    Protocol,
    protobuf::{Fields, Malformed, Value},
};
use crate::destination::{
    Answer,
    http::{redirected, words},
};
use std::time::Duration;

/// What came back.
#[derive(Clone, Copy, Default)]
pub(super) struct Reply<'a> {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    pub(super) content_type: Option<&'a str>,
    pub(super) location: Option<&'a str>,
    pub(super) body: &'a [u8],
    /// Whether the body ended before its end.
    pub(super) is_cut: bool,
}

/// What the far end says by an answer to a request in `protocol`, which had so many points.
pub(super) fn classify(protocol: Protocol, points: u64, reply: Reply<'_>) -> Answer {
    let status = reply.status;
    match status {
        200..300 if reply.is_cut => Answer::unclear(format!(
            "it answered {status} and broke off: whether it rejected points is not known"
        )),
        200..300 => match success(protocol, reply) {
            Some(Success { rejected, message }) if rejected > 0 || !message.is_empty() => {
                Answer::partly_rejected(rejected.min(points), message)
            }
            Some(_) => Answer::delivered(),
            None => Answer::unclear(format!(
                "it answered {status} with {}, which is no answer of OTLP (is it a proxy, or another server?): {}",
                described(reply.content_type),
                cleaned(reply.body)
            )),
        },
        300..400 => redirected(status, reply.location, ": set the endpoint to where it should go"),
        400 => Answer::rejected(said(reply)),
        401 | 403 => Answer::unauthorized(said(reply)),
        413 => Answer::too_large(said(reply)),
        429 | 502 | 503 | 504 => Answer::retry(said(reply)).after(reply.retry_after),
        _ => Answer::carry_over(said(reply)),
    }
}

/// An `ExportMetricsServiceResponse`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Success {
    rejected: u64,
    message: String,
}

/// What a body is written in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Protobuf,
    Json,
    Other,
}

impl Encoding {
    /// By what the server says, or else, as the protocol demands, as the request was.
    fn of(content_type: Option<&str>, request: Protocol) -> Self {
        let Some(content_type) = content_type else {
            return match request {
                Protocol::Protobuf => Encoding::Protobuf,
                Protocol::Json => Encoding::Json,
            };
        };
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let is = |wanted: &str| essence.eq_ignore_ascii_case(wanted);
        if is("application/x-protobuf") || is("application/protobuf") {
            Encoding::Protobuf
        } else if is("application/json") {
            Encoding::Json
        } else {
            Encoding::Other
        }
    }
}

fn success(protocol: Protocol, reply: Reply<'_>) -> Option<Success> {
    if reply.body.is_empty() {
        return Some(Success::default());
    }
    match Encoding::of(reply.content_type, protocol) {
        Encoding::Protobuf => protobuf_success(reply.body).ok(),
        Encoding::Json => json_success(reply.body),
        Encoding::Other => None,
    }
}

fn protobuf_success(body: &[u8]) -> Result<Success, Malformed> {
    let mut success = Success::default();
    for field in Fields::of(body) {
        let (1, Value::Bytes(partial)) = field? else {
            continue;
        };
        for field in Fields::of(partial) {
            match field? {
                // An int64. A negative count is nonsense, and what is written is accepted.
                (1, Value::Varint(rejected)) => success.rejected = rejected.cast_signed().max(0).unsigned_abs(),
                (2, Value::Bytes(message)) => success.message = cleaned(message),
                _ => {}
            }
        }
    }
    Ok(success)
}

fn json_success(body: &[u8]) -> Option<Success> {
    use serde_json::Value;
    let body: Value = serde_json::from_slice(body).ok()?;
    let partial = match body.as_object()?.get("partialSuccess") {
        None | Some(Value::Null) => return Some(Success::default()),
        Some(partial) => partial.as_object()?,
    };
    let rejected: i64 = match partial.get("rejectedDataPoints") {
        None | Some(Value::Null) => 0,
        Some(Value::String(digits)) => digits.parse().ok()?,
        Some(number) => number.as_i64()?,
    };
    let message = match partial.get("errorMessage") {
        None | Some(Value::Null) => "",
        Some(message) => message.as_str()?,
    };
    Some(Success {
        rejected: rejected.max(0).unsigned_abs(),
        message: cleaned(message.as_bytes()),
    })
}

/// The status and what the server says about it: the message of a `google.rpc.Status`, or how the body begins.
fn said(reply: Reply<'_>) -> String {
    let hint = match reply.status {
        404 => "; OTLP's path is /v1/metrics, unless the server has it elsewhere",
        415 => "; it does not take this protocol or content type",
        _ => "",
    };
    let message = match Encoding::of(reply.content_type, Protocol::Protobuf) {
        // Without a content type the body is as likely text.
        Encoding::Protobuf if reply.content_type.is_some() => protobuf_message(reply.body),
        Encoding::Json => json_message(reply.body),
        _ => None,
    };
    // A text may be a message of unknown fields by chance.
    let message = message
        .filter(|message| !message.is_empty())
        .unwrap_or_else(|| cleaned(reply.body));
    let colon = if message.is_empty() { "" } else { ": " };
    format!("it answered {}{hint}{colon}{message}", reply.status)
}

fn protobuf_message(body: &[u8]) -> Option<String> {
    let mut found = String::new();
    for field in Fields::of(body) {
        if let (2, Value::Bytes(message)) = field.ok()? {
            found = cleaned(message);
        }
    }
    Some(found)
}

fn json_message(body: &[u8]) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    Some(cleaned(body.get("message")?.as_str()?.as_bytes()))
}

fn described(content_type: Option<&str>) -> String {
    match content_type {
        Some(content_type) => format!("a body of type {}", cleaned(content_type.as_bytes())),
        None => "a body without a type".to_owned(),
    }
}

/// How a text from a server begins, in one line.
fn cleaned(text: &[u8]) -> String {
    words(text, MOST_SHOWN)
}

/// Characters of a server's text that are passed on.
const MOST_SHOWN: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::metrics::v1::{
        ExportMetricsPartialSuccess, ExportMetricsServiceResponse,
    };
    use proptest::prelude::*;
    use prost::Message;

    const PROTOBUF: Option<&str> = Some("application/x-protobuf");
    const JSON: Option<&str> = Some("application/json");
    const HTML: Option<&str> = Some("text/html; charset=utf-8");

    fn answer(status: u16, content_type: Option<&str>, body: &[u8]) -> Answer {
        let reply = Reply {
            status,
            content_type,
            body,
            ..Reply::default()
        };
        classify(Protocol::Protobuf, 10, reply)
    }

    fn response(rejected_data_points: i64, error_message: &str) -> ExportMetricsServiceResponse {
        ExportMetricsServiceResponse {
            partial_success: Some(ExportMetricsPartialSuccess {
                rejected_data_points,
                error_message: error_message.to_owned(),
            }),
        }
    }

    /// A `google.rpc.Status` of code 3.
    fn status(message: &str) -> Vec<u8> {
        let mut status = vec![8, 3, 0x12, message.len() as u8];
        status.extend(message.as_bytes());
        status
    }

    #[test]
    fn every_status_has_its_verdict() {
        let refused = "it answered 400: no";
        for (code, expected) in [
            (200, Answer::delivered()),
            (202, Answer::delivered()),
            (204, Answer::delivered()),
            (400, Answer::rejected(refused)),
            (401, Answer::unauthorized(refused)),
            (403, Answer::unauthorized(refused)),
            (413, Answer::too_large(refused)),
            (429, Answer::retry(refused)),
            (502, Answer::retry(refused)),
            (503, Answer::retry(refused)),
            (504, Answer::retry(refused)),
            (402, Answer::carry_over(refused)),
            (405, Answer::carry_over(refused)),
            (408, Answer::carry_over(refused)),
            (422, Answer::carry_over(refused)),
            (500, Answer::carry_over(refused)),
            (501, Answer::carry_over(refused)),
            (505, Answer::carry_over(refused)),
            (599, Answer::carry_over(refused)),
            (999, Answer::carry_over(refused)),
        ] {
            let body: &[u8] = if code < 300 { b"" } else { b"no" };
            let found = answer(code, None, body);
            assert_eq!(found.verdict, expected.verdict, "{code}");
            assert_eq!(found.message, expected.message.replace("400", &code.to_string()));
        }
        assert!(answer(404, None, b"").message.contains("/v1/metrics"));
        assert!(answer(415, None, b"").message.contains("content type"));
    }

    #[test]
    fn a_wait_that_is_asked_for_is_passed_on_where_it_is_to_be_retried() {
        for code in [429, 502, 503, 504, 400, 500] {
            let reply = Reply {
                status: code,
                retry_after: Some(Duration::from_secs(7)),
                ..Reply::default()
            };
            let waits =
                classify(Protocol::Protobuf, 1, reply) == Answer::retry(said(reply)).after(Duration::from_secs(7));
            assert_eq!(waits, !matches!(code, 400 | 500), "{code}");
        }
    }

    #[test]
    fn a_redirect_is_not_followed_and_names_its_target_without_credentials() {
        let reply = Reply {
            status: 307,
            location: Some("https://me:secret@elsewhere/v1/metrics?key=secret"),
            ..Reply::default()
        };
        let Answer { message, verdict, .. } = classify(Protocol::Protobuf, 1, reply);
        assert_eq!(verdict, Answer::carry_over("").verdict);
        assert!(
            message.contains("to https://elsewhere/v1/metrics;") && !message.contains("secret"),
            "{message}"
        );
        assert!(answer(301, None, b"").message.contains("nowhere"));
    }

    #[test]
    fn a_success_that_breaks_off_is_unclear_and_an_error_that_does_is_an_error() {
        for (code, expected) in [
            (200, Answer::unclear("")),
            (204, Answer::unclear("")),
            (400, Answer::rejected("")),
        ] {
            let reply = Reply {
                status: code,
                is_cut: true,
                ..Reply::default()
            };
            assert_eq!(
                classify(Protocol::Protobuf, 1, reply).verdict,
                expected.verdict,
                "{code}"
            );
        }
    }

    #[test]
    fn partial_success_is_read_in_both_encodings() {
        for (partial, expected) in [
            (ExportMetricsServiceResponse::default(), Answer::delivered()),
            (response(0, ""), Answer::delivered()),
            (response(3, "too old"), Answer::partly_rejected(3, "too old")),
            (response(0, "slow down"), Answer::partly_rejected(0, "slow down")),
            (response(2, ""), Answer::partly_rejected(2, "")),
            // More than there were, and fewer than none.
            (response(i64::MAX, "x"), Answer::partly_rejected(10, "x")),
            (response(-1, "x"), Answer::partly_rejected(0, "x")),
        ] {
            assert_eq!(answer(200, PROTOBUF, &partial.encode_to_vec()), expected);
            assert_eq!(answer(200, None, &partial.encode_to_vec()), expected);
            assert_eq!(answer(200, JSON, &serde_json::to_vec(&partial).unwrap()), expected);
        }
        for (json, expected) in [
            (r#"{"partialSuccess":{}}"#, Answer::delivered()),
            (r#"{"partialSuccess":null,"new":[1]}"#, Answer::delivered()),
            (
                r#"{"partialSuccess":{"rejectedDataPoints":"3"}}"#,
                Answer::partly_rejected(3, ""),
            ),
            // Names in snake case are not OTLP's.
            (r#"{"partial_success":{"rejected_data_points":3}}"#, Answer::delivered()),
        ] {
            assert_eq!(
                answer(200, Some("application/json; charset=utf-8"), json.as_bytes()),
                expected,
                "{json}"
            );
        }
        // What real servers say: Prometheus nothing at all, the Collector an empty partial success.
        assert_eq!(answer(200, None, b""), Answer::delivered());
        assert_eq!(answer(200, PROTOBUF, b"\x0a\x00"), Answer::delivered());
    }

    #[test]
    fn a_success_that_is_not_what_it_says_is_unclear() {
        for (content_type, body) in [
            (HTML, "<html><title>Log in"),
            (Some("text/plain"), "OK"),
            (PROTOBUF, "<html>"),
            (PROTOBUF, "{}"),
            (JSON, "<html>"),
            (JSON, "[]"),
            (JSON, r#"{"partialSuccess":3}"#),
            (JSON, r#"{"partialSuccess":{"rejectedDataPoints":"many"}}"#),
            (None, "<html>"),
        ] {
            let found = answer(200, content_type, body.as_bytes());
            assert_eq!(found.verdict, Answer::unclear("").verdict, "{content_type:?} {body}");
            assert!(found.message.contains("no answer of OTLP"), "{}", found.message);
        }
        assert!(answer(200, HTML, b"<html><title>Log in").message.contains("Log in"));
    }

    #[test]
    fn an_error_s_message_is_read_in_both_encodings_or_shown_as_it_begins() {
        for (content_type, body, shown) in [
            (PROTOBUF, &status("bad point")[..], "it answered 400: bad point"),
            (
                JSON,
                br#"{"code":3,"message":"bad point"}"#,
                "it answered 400: bad point",
            ),
            (JSON, br#"{"error":"bad"}"#, r#"it answered 400: {"error":"bad"}"#),
            (JSON, b"not json", "it answered 400: not json"),
            (PROTOBUF, b"plain words", "it answered 400: plain words"),
            (PROTOBUF, b"", "it answered 400"),
            (PROTOBUF, b"\x08\x03", "it answered 400"),
            (HTML, b"<b>\r\n no </b>\x1b[2J", "it answered 400: <b>   no </b> [2J"),
            (None, b"\xff\xfe", "it answered 400: \u{FFFD}\u{FFFD}"),
            (None, "a\u{202E}turned".as_bytes(), "it answered 400: a turned"),
        ] {
            assert_eq!(answer(400, content_type, body).message, shown);
        }
        let long = answer(400, None, "é ".repeat(1 << 20).as_bytes()).message;
        assert!(long.ends_with('…') && long.chars().count() <= MOST_SHOWN + 20, "{long}");
    }

    proptest! {
        #[test]
        fn any_answer_has_a_verdict_and_a_short_clean_message(
            code: u16,
            kind in 0..4_usize,
            body in prop::collection::vec(any::<u8>(), 0..600),
            json: bool,
        ) {
            let reply = Reply {
                status: code,
                content_type: [None, PROTOBUF, JSON, HTML][kind],
                location: Some("\r\nx"),
                body: &body,
                ..Reply::default()
            };
            let protocol = if json { Protocol::Json } else { Protocol::Protobuf };
            let Answer { message, verdict, .. } = classify(protocol, 5, reply);
            prop_assert!(message.chars().count() < 1200 && !message.chars().any(char::is_control));
            if let crate::destination::Verdict::Delivered { rejected } = verdict {
                prop_assert!(rejected <= 5 && (200..300).contains(&code));
            }
        }

        #[test]
        fn what_the_oracle_writes_is_read(rejected in 0..=10_i64, message in "[a-z]{0,30}") {
            let expected = match (rejected, &*message) {
                (0, "") => Answer::delivered(),
                _ => Answer::partly_rejected(rejected as u64, &*message),
            };
            let partial = response(rejected, &message);
            prop_assert_eq!(answer(200, PROTOBUF, &partial.encode_to_vec()), expected.clone());
            prop_assert_eq!(answer(200, JSON, &serde_json::to_vec(&partial).unwrap()), expected);
        }
    }
}
