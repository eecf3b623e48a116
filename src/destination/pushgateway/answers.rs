//! What an answer of a Pushgateway means: pure decisions from what came back
//! (<https://github.com/prometheus/pushgateway#api>).
//!
//! | answer | verdict |
//! |---|---|
//! | 2xx | delivered: 200 if what was pushed agrees with all other groups, 202 where the gateway was told not to look |
//! | 2xx with a page in HTML | unclear: no gateway says that, but a proxy's login page does |
//! | 400 | rejected: the gateway says what disagrees with what |
//! | 413 | rejected: a group cannot be cut in two |
//! | 401, 403 | unauthorized |
//! | 408, 429, 5xx | retry, after the time that is asked for |
//! | all others, redirects among them | carry over |
//! | none: not sent | retry |
//! | none: no agreement on TLS | carry over |
//! | none, though it may have been taken, or one that is not HTTP | unclear |
//!
//! A push says how a group is to be, whatever it was before: after an unclear answer the same one can be sent again, and nothing
//! counts twice.

use crate::{
    clock::{Clock, SystemClock},
    destination::{
        Answer,
        http::{redirected, words},
    },
    transport::http::{Response, retry_after},
};

/// What the gateway says by an answer.
pub(super) fn classify(response: &Response) -> Answer {
    let status = response.status;
    let said = || said(response);
    match status {
        200..300 if is_page(response) => Answer::unclear(format!(
            "{}; that is a page, which no gateway answers: is it a proxy that wants a login?",
            said()
        )),
        200..300 => Answer::delivered(),
        300..400 => redirected(status, response.location.as_deref(), NOT_FOLLOWED),
        400 => Answer::rejected(said()),
        401 | 403 => Answer::unauthorized(said()),
        413 => Answer::rejected(format!(
            "{}; a push is one request: push fewer families or series, or let what is in front of the gateway take more",
            said()
        )),
        408 | 429 | 500..600 => {
            let wait = response.retry_after.as_deref();
            Answer::retry(said()).after(wait.and_then(|wait| retry_after(wait, SystemClock.unix())))
        }
        _ => Answer::carry_over(said()),
    }
}

/// The status, and how what the gateway says about it begins.
fn said(response: &Response) -> String {
    let hint = match response.status {
        404 | 405 => {
            "; a Pushgateway takes pushes at /metrics/job/NAME below its URL, and below its `--web.route-prefix` if it has one"
        }
        _ => "",
    };
    let text = words(&response.body, MOST_SHOWN);
    let colon = if text.is_empty() { "" } else { ": " };
    format!("it answered {}{hint}{colon}{text}", response.status)
}

fn is_page(response: &Response) -> bool {
    let content_type = response.content_type.as_deref().unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("text/html")
}

/// Characters of the gateway's text that are passed on: what disagrees is named with all its labels, some of it twice.
const MOST_SHOWN: usize = 1000;

/// Why redirects are not, and what to do.
const NOT_FOLLOWED: &str = ", because after most of them a push would arrive as a request for a page: set the URL to where the \
                            gateway itself is, with its `--web.route-prefix` if it has one";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::Verdict;
    use std::time::Duration;

    fn response(status: u16, body: &[u8]) -> Response {
        Response {
            status,
            retry_after: None,
            content_type: None,
            location: None,
            body: body.to_vec(),
            complete: true,
        }
    }

    #[test]
    fn every_status_has_its_verdict() {
        let retry = Verdict::Retry { after: None };
        let unauthorized = Verdict::CarryOver { unauthorized: true };
        let carry_over = Verdict::CarryOver { unauthorized: false };
        for (status, verdict) in [
            (200, Verdict::Delivered { rejected: 0 }),
            (202, Verdict::Delivered { rejected: 0 }),
            (204, Verdict::Delivered { rejected: 0 }),
            (301, carry_over.clone()),
            (307, carry_over.clone()),
            (400, Verdict::Rejected),
            (401, unauthorized.clone()),
            (403, unauthorized),
            (404, carry_over.clone()),
            (405, carry_over.clone()),
            (408, retry.clone()),
            (413, Verdict::Rejected),
            (415, carry_over.clone()),
            (429, retry.clone()),
            (500, retry.clone()),
            (503, retry.clone()),
            (599, retry),
            (999, carry_over),
        ] {
            let answer = classify(&response(status, b"because"));
            assert_eq!(answer.verdict, verdict, "{status}");
            if status >= 300 {
                assert!(answer.message.contains(&status.to_string()), "{}", answer.message);
            }
        }
    }

    #[test]
    fn the_gateways_words_are_one_bounded_line() {
        let answer = classify(&response(
            400,
            b"pushed metrics are invalid: 2 error(s) occurred:\n* one\r\n* two\x1b[31m\n",
        ));
        assert_eq!(
            answer.message,
            "it answered 400: pushed metrics are invalid: 2 error(s) occurred: * one  * two [31m"
        );
        let answer = classify(&response(400, "ä\u{202e}\n".repeat(10_000).as_bytes()));
        assert!(answer.message.chars().count() < MOST_SHOWN + 50, "{}", answer.message);
        assert!(!answer.message.contains(['\n', '\u{202e}']));
        assert_eq!(classify(&response(418, b"")).message, "it answered 418");
    }

    #[test]
    fn redirects_are_explained_without_what_may_be_secret() {
        let redirect = Response {
            location: Some("https://user:hush@elsewhere/metrics/job/x?token=hush".to_owned()),
            ..response(301, b"<a href=...>")
        };
        let message = classify(&redirect).message;
        assert!(message.contains("https://elsewhere/metrics/job/x;"), "{message}");
        assert!(
            message.contains("not followed") && !message.contains("hush"),
            "{message}"
        );
    }

    #[test]
    fn a_login_page_is_no_gateway() {
        let page = Response {
            content_type: Some("Text/HTML; charset=utf-8".to_owned()),
            ..response(200, b"<h1>Who are you?</h1>")
        };
        let answer = classify(&page);
        assert_eq!(answer.verdict, Verdict::Unclear);
        assert!(answer.message.contains("Who are you?"), "{}", answer.message);
    }

    #[test]
    fn the_time_that_is_asked_for_is_heard() {
        let busy = Response {
            retry_after: Some("7".to_owned()),
            ..response(503, b"")
        };
        let after = Some(Duration::from_secs(7));
        assert_eq!(classify(&busy).verdict, Verdict::Retry { after });
    }
}
