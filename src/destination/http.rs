//! What destinations over HTTP make of what came back, and of nothing, alike.

use super::Answer;
use crate::{
    redact,
    transport::http::{Failure, FailureKind},
};

/// What the lack of an answer means.
pub(super) fn failed(failure: Failure) -> Answer {
    match failure.kind {
        FailureKind::NotSent => Answer::retry(failure.message),
        FailureKind::Unclear | FailureKind::Unreadable => Answer::unclear(failure.message),
        FailureKind::Tls => Answer::carry_over(failure.message),
    }
}

/// What a redirect means; `advice` goes on behind "redirects are not followed".
pub(super) fn redirected(status: u16, location: Option<&str>, advice: &str) -> Answer {
    let target = match location {
        Some(location) => format!("to {}", redact::url(location)),
        None => "to nowhere".to_owned(),
    };
    Answer::carry_over(format!(
        "it answered {status} and redirects {target}; redirects are not followed{advice}"
    ))
}

/// How a text from a server begins, in one line of so many characters at most.
pub(super) fn words(text: &[u8], most: usize) -> String {
    let line = redact::line(&String::from_utf8_lossy(&text[..text.len().min(MOST_READ)]), most);
    line.trim().to_owned()
}

/// Bytes of a server's text that are looked at.
const MOST_READ: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_answer_says_whether_the_request_may_have_arrived() {
        for (kind, expected) in [
            (FailureKind::NotSent, Answer::retry("why")),
            (FailureKind::Unclear, Answer::unclear("why")),
            (FailureKind::Unreadable, Answer::unclear("why")),
            (FailureKind::Tls, Answer::carry_over("why")),
        ] {
            let message = "why".to_owned();
            assert_eq!(failed(Failure { kind, message }), expected);
        }
    }
}
