//! Who may read the metrics: bearer tokens and basic credentials, compared in a time that does not depend on them.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use subtle::{Choice, ConstantTimeEq};

/// All credentials of one server; none means that everybody may read.
#[derive(Clone, Default)]
pub(crate) struct Credentials {
    secrets: Vec<Secret>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Bearer,
    Basic,
}

/// A secret padded to a fixed size, so that comparing takes equally long whatever its length.
///
/// Has no `Debug` on purpose.
#[derive(Clone)]
struct Secret {
    scheme: Scheme,
    padded: [u8; SECRET_BYTES],
    length: u64,
}

/// The longest secret, `user:password` taken together.
const SECRET_BYTES: usize = 1024;

/// Some clients leave out the padding; it carries nothing.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl Credentials {
    /// Admits who sends this token. The error is the rule that it breaks.
    pub(crate) fn add_bearer(&mut self, token: &str) -> Result<(), &'static str> {
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("a bearer token is one or more visible ASCII characters without spaces");
        }
        self.add(Scheme::Bearer, token.as_bytes())
    }

    /// Admits who sends this pair. The error is the rule that it breaks.
    pub(crate) fn add_basic(&mut self, user: &str, password: &str) -> Result<(), &'static str> {
        if user.contains(':') {
            return Err("a user name must not contain a colon, which ends it in basic auth");
        }
        if user.chars().chain(password.chars()).any(char::is_control) {
            return Err("a user name or password must not contain control characters");
        }
        if password.is_empty() {
            return Err("a password must not be empty");
        }
        self.add(Scheme::Basic, format!("{user}:{password}").as_bytes())
    }

    fn add(&mut self, scheme: Scheme, secret: &[u8]) -> Result<(), &'static str> {
        let (padded, length) =
            pad(secret).ok_or("a token, or user name and password together, must fit in 1,024 bytes")?;
        self.secrets.push(Secret { scheme, padded, length });
        Ok(())
    }

    /// Whether a request with this `Authorization` may read the metrics.
    pub(crate) fn admit(&self, authorization: Option<&[u8]>) -> bool {
        if self.secrets.is_empty() {
            return true;
        }
        let Some((scheme, presented)) = authorization.and_then(read_authorization) else {
            return false;
        };
        let Some((padded, length)) = pad(&presented) else {
            return false;
        };
        // Every secret is compared to the end, so that the time tells neither which one matched nor where one differs.
        let mut admitted = Choice::from(0);
        for secret in &self.secrets {
            let same_scheme = Choice::from(u8::from(secret.scheme == scheme));
            let same_length = secret.length.ct_eq(&length);
            admitted |= same_scheme & same_length & secret.padded.ct_eq(&padded);
        }
        admitted.into()
    }

    /// Values for `WWW-Authenticate`, one a scheme that would be accepted.
    pub(crate) fn challenges(&self) -> impl Iterator<Item = &'static str> {
        let offers = |scheme| self.secrets.iter().any(|secret| secret.scheme == scheme);
        let bearer = offers(Scheme::Bearer).then_some("Bearer realm=\"metrics\"");
        let basic = offers(Scheme::Basic).then_some("Basic realm=\"metrics\", charset=\"UTF-8\"");
        bearer.into_iter().chain(basic)
    }
}

/// Splits `Bearer TOKEN` or `Basic BASE64` into scheme and secret.
fn read_authorization(value: &[u8]) -> Option<(Scheme, Vec<u8>)> {
    let space = value.iter().position(|byte| *byte == b' ')?;
    let (scheme, rest) = value.split_at(space);
    let rest = rest.trim_ascii();
    if scheme.eq_ignore_ascii_case(b"bearer") {
        Some((Scheme::Bearer, rest.to_vec()))
    } else if scheme.eq_ignore_ascii_case(b"basic") {
        Some((Scheme::Basic, BASE64.decode(rest).ok()?))
    } else {
        None
    }
}

fn pad(secret: &[u8]) -> Option<([u8; SECRET_BYTES], u64)> {
    let mut padded = [0; SECRET_BYTES];
    padded.get_mut(..secret.len())?.copy_from_slice(secret);
    Some((padded, u64::try_from(secret.len()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(pair: &str) -> Vec<u8> {
        format!("Basic {}", BASE64.encode(pair)).into_bytes()
    }

    #[test]
    fn without_credentials_everybody_is_admitted() {
        let open = Credentials::default();
        assert!(open.admit(None));
        assert!(open.admit(Some(b"Bearer whatever")));
        assert_eq!(open.challenges().count(), 0);
    }

    #[test]
    fn each_of_several_secrets_is_accepted_and_nothing_else() {
        let mut credentials = Credentials::default();
        credentials.add_bearer("s3cret").unwrap();
        credentials.add_bearer("next-one").unwrap();
        credentials.add_basic("prom", "pass:with:colons").unwrap();
        assert!(credentials.admit(Some(b"Bearer s3cret")));
        assert!(credentials.admit(Some(b"bEARER   next-one ")));
        assert!(credentials.admit(Some(&basic("prom:pass:with:colons"))));
        let unpadded = basic("prom:pass:with:colons");
        let unpadded = unpadded.strip_suffix(b"=").unwrap_or(&unpadded);
        assert!(credentials.admit(Some(unpadded)));

        let too_long = format!("Bearer {}", "a".repeat(SECRET_BYTES + 1));
        let refused: [&[u8]; 10] = [
            b"",
            b"Bearer",
            b"Bearer ",
            b"Bearer s3cre",
            b"Bearer s3cret\0",
            b"Bearer S3CRET",
            b"Basic s3cret",
            b"Basic !!!!",
            b"Digest s3cret",
            too_long.as_bytes(),
        ];
        for header in refused {
            assert!(!credentials.admit(Some(header)), "{header:?}");
        }
        assert!(!credentials.admit(None));
        assert!(!credentials.admit(Some(&basic("prom:"))));
        assert!(!credentials.admit(Some(&basic("s3cret"))));
        assert_eq!(credentials.challenges().count(), 2);
    }

    #[test]
    fn unusable_secrets_are_refused_with_the_rule() {
        let mut credentials = Credentials::default();
        assert!(credentials.add_bearer("").is_err());
        assert!(credentials.add_bearer("two words").is_err());
        assert!(credentials.add_bearer(&"a".repeat(SECRET_BYTES + 1)).is_err());
        assert!(credentials.add_bearer(&"a".repeat(SECRET_BYTES)).is_ok());
        assert!(credentials.add_basic("a:b", "c").is_err());
        assert!(credentials.add_basic("a", "c\r\nd").is_err());
        assert!(credentials.add_basic("a", "").is_err());
    }
}
