//! Headers that go with every request of a client, values that rotate among them.

use super::SettingsError;
use crate::secret::{Secret, SecretError};
use base64::{Engine, prelude::BASE64_STANDARD};
use std::fmt;

/// Header names and where their values come from, in the order given.
#[derive(Clone, Default)]
pub(crate) struct Headers {
    headers: Vec<Header>,
}

#[derive(Clone)]
struct Header {
    name: String,
    form: Form,
    secret: Secret,
}

/// What is made of a secret.
#[derive(Clone)]
enum Form {
    Plain,
    Bearer,
    Basic { user: String },
}

impl Headers {
    /// Adds a header; one of the same name gives way.
    ///
    /// # Errors
    ///
    /// If the name is not a token of RFC 9110, or a header that the client itself writes.
    pub(crate) fn insert(&mut self, name: &str, value: Secret) -> Result<(), SettingsError> {
        self.add(name, Form::Plain, value)
    }

    /// Adds `Authorization: Bearer …`.
    pub(crate) fn insert_bearer(&mut self, token: Secret) -> Result<(), SettingsError> {
        self.add(AUTHORIZATION, Form::Bearer, token)
    }

    /// Adds `Authorization: Basic …`.
    ///
    /// # Errors
    ///
    /// If the user name has a colon, which would end it, or control characters.
    pub(crate) fn insert_basic(&mut self, user: &str, password: Secret) -> Result<(), SettingsError> {
        if user.chars().any(|character| character == ':' || character.is_control()) {
            return Err(SettingsError::new(
                "a user name for basic authentication must not have a colon or control characters: use another"
                    .to_owned(),
            ));
        }
        let user = user.to_owned();
        self.add(AUTHORIZATION, Form::Basic { user }, password)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|header| header.name.eq_ignore_ascii_case(name))
    }

    /// The lines of the headers for which `wanted` says yes, values asked for now.
    pub(super) fn lines(&mut self, wanted: impl Fn(&str) -> bool) -> Result<Vec<u8>, SettingsError> {
        let mut lines = Vec::new();
        for header in self.headers.iter_mut().filter(|header| wanted(&header.name)) {
            let value = header.secret.value().map_err(|error| named(&header.name, &error))?;
            let value = match &header.form {
                Form::Plain => value.to_owned(),
                Form::Bearer => format!("Bearer {value}"),
                Form::Basic { user } => basic(user, value),
            };
            write_line(&mut lines, &header.name, &value);
        }
        Ok(lines)
    }

    /// The values that were sent last, and what they were made of: nothing of these is to be shown.
    pub(super) fn credentials(&self) -> impl Iterator<Item = String> {
        self.headers.iter().flat_map(|header| {
            let value = header.secret.last().unwrap_or_default();
            let sent = match &header.form {
                Form::Plain | Form::Bearer => None,
                Form::Basic { user } => Some(basic(user, value)),
            };
            let made = sent.into_iter().flat_map(|sent| credentials(&sent));
            made.chain([value.to_owned()])
        })
    }

    /// Reads all values again; says whether one has changed.
    pub(super) fn reload(&mut self) -> bool {
        let mut changed = false;
        for header in &mut self.headers {
            // What failed is kept as the secret's problem.
            changed |= header.secret.reload().unwrap_or(false);
        }
        changed
    }

    /// What is wrong with values just now, one message a header.
    pub(super) fn problems(&self) -> impl Iterator<Item = String> {
        let problem = |header: &Header| Some(named(&header.name, header.secret.problem()?).to_string());
        self.headers.iter().filter_map(problem)
    }

    fn add(&mut self, name: &str, form: Form, secret: Secret) -> Result<(), SettingsError> {
        check_name(name)?;
        self.headers.retain(|header| !header.name.eq_ignore_ascii_case(name));
        let name = name.to_owned();
        self.headers.push(Header { name, form, secret });
        Ok(())
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.headers.iter().map(|header| (&header.name, &header.secret));
        formatter.debug_map().entries(entries).finish()
    }
}

/// The value of `Authorization` of RFC 7617.
pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

/// What is secret in a value of [`basic`]: how it was sent, and the password.
pub(super) fn credentials(basic: &str) -> Vec<String> {
    let encoded = basic.strip_prefix("Basic ").unwrap_or(basic);
    let decoded = BASE64_STANDARD.decode(encoded).unwrap_or_default();
    let decoded = String::from_utf8_lossy(&decoded);
    let password = decoded.split_once(':').map_or("", |(_, password)| password);
    vec![encoded.to_owned(), password.to_owned()]
}

pub(super) fn write_line(lines: &mut Vec<u8>, name: &str, value: &str) {
    for part in [name, ": ", value, "\r\n"] {
        lines.extend_from_slice(part.as_bytes());
    }
}

pub(super) const AUTHORIZATION: &str = "Authorization";

fn named(name: &str, error: &SecretError) -> SettingsError {
    SettingsError::new(format!("the header `{name}` has no current value: {error}"))
}

/// Tokens of RFC 9110, section 5.6.2, but none of the headers that say where a message begins and ends.
fn check_name(name: &str) -> Result<(), SettingsError> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(is_token) {
        // Not shown: where a list of headers was split in the wrong place, a value may stand here.
        return Err(SettingsError::new(format!(
            "the name of a header must be 1 to {LONGEST_NAME} letters, digits or one of !#$%&'*+-.^_`|~: correct it"
        )));
    }
    if RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(name)) {
        return Err(SettingsError::new(format!(
            "the header `{name}` is written by the client itself: leave it out"
        )));
    }
    Ok(())
}

const LONGEST_NAME: usize = 128;

const RESERVED: [&str; 12] = [
    "Accept-Encoding",
    "Connection",
    "Content-Length",
    "Expect",
    "Host",
    "Keep-Alive",
    "Proxy-Authorization",
    "Proxy-Connection",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn text(headers: &mut Headers) -> String {
        String::from_utf8(headers.lines(|_| true).unwrap()).unwrap()
    }

    #[test]
    fn each_form_has_its_line() {
        let mut headers = Headers::default();
        headers.insert("X-Scope", "tenant".into()).unwrap();
        headers.insert_bearer("token".into()).unwrap();
        assert_eq!(text(&mut headers), "X-Scope: tenant\r\nAuthorization: Bearer token\r\n");
        headers.insert_basic("user", "pass".into()).unwrap();
        headers.insert("x-scope", "other".into()).unwrap();
        assert_eq!(
            text(&mut headers),
            "Authorization: Basic dXNlcjpwYXNz\r\nx-scope: other\r\n"
        );
        assert!(headers.has("AUTHORIZATION") && !headers.has("x"));
        let without = headers.lines(|name| name != "x-scope").unwrap();
        assert_eq!(without, b"Authorization: Basic dXNlcjpwYXNz\r\n");
    }

    #[test]
    fn names_are_checked_and_values_never_shown() {
        let mut headers = Headers::default();
        for name in ["", "a b", "a:b", "a\r\nb", "ä", &"x".repeat(200)] {
            assert!(headers.insert(name, "hush".into()).is_err(), "{name:?}");
        }
        for name in RESERVED {
            let message = headers
                .insert(&name.to_lowercase(), "hush".into())
                .unwrap_err()
                .to_string();
            assert!(message.contains("client itself"), "{message}");
        }
        assert!(headers.insert_basic("a:b", "hush".into()).is_err());
        headers.insert("x", "hush\n".into()).unwrap();
        let error = headers.lines(|_| true).unwrap_err().to_string();
        assert!(error.contains("`x`") && error.contains("control characters"), "{error}");
        assert_eq!(headers.problems().collect::<Vec<_>>(), [error]);
        assert_eq!(format!("{headers:?}"), r#"{"x": Secret(text)}"#);
    }
}
