//! Where lines go, as a URL says it.

use super::EmfError;
use crate::{percent, redact, transport::lines::LineTarget};

/// A URL of EMF, parsed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EmfUrl {
    pub(super) target: LineTarget,
    pub(super) namespace: Option<String>,
}

impl EmfUrl {
    /// Parses `emf+stdout:` or `emf+file:///path`, and perhaps `?namespace=`.
    ///
    /// # Errors
    ///
    /// The message names the URL, the rule and the fix.
    pub(super) fn parse(text: &str) -> Result<EmfUrl, EmfError> {
        let refused = |rule: &str| EmfError::new(format!("the URL `{}` {rule}", redact::url(text)));
        let (place, query) = match text.split_once('?') {
            Some((place, query)) => (place, Some(query)),
            None => (text, None),
        };
        let (scheme, rest) = place.split_once(':').unwrap_or((place, ""));
        let target = match scheme.to_ascii_lowercase().as_str() {
            "emf+stdout" if matches!(rest, "" | "//") => LineTarget::Stdout,
            "emf+stdout" => return Err(refused("has something behind `emf+stdout:`: leave it out")),
            "emf+file" => {
                let path = rest
                    .strip_prefix("//")
                    .filter(|path| path.starts_with('/') && path.len() > 1);
                let path = path.ok_or_else(|| refused("has no absolute path: write `emf+file:///path`"))?;
                let path = percent::decode(path).filter(|path| !path.contains('\0'));
                let path = path.ok_or_else(|| {
                    refused("has a percent sign that escapes no text: write it as `%25`, or use `Emf::file`")
                })?;
                LineTarget::File(path.into())
            }
            _ => {
                return Err(refused(
                    "has an unknown scheme: use `emf+stdout:` or `emf+file:///path`",
                ));
            }
        };
        let mut namespace = None;
        for pair in query
            .into_iter()
            .flat_map(|query| query.split('&'))
            .filter(|pair| !pair.is_empty())
        {
            let value = pair.strip_prefix("namespace=").ok_or_else(|| {
                refused("has something other than `namespace` behind `?`: set it with the builder instead")
            })?;
            let value = percent::decode(value)
                .ok_or_else(|| refused("has a percent sign that escapes no text: write it as `%25`"))?;
            namespace = Some(value);
        }
        Ok(EmfUrl { target, namespace })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_say_where_lines_go() {
        let file = |path: &str| LineTarget::File(path.into());
        for (text, target, namespace) in [
            ("emf+stdout:", LineTarget::Stdout, None),
            ("EMF+stdout://", LineTarget::Stdout, None),
            ("emf+stdout:?namespace=Shop", LineTarget::Stdout, Some("Shop")),
            ("emf+file:///var/log/m.json", file("/var/log/m.json"), None),
            (
                "emf+file:///a%20b%3f?namespace=My%20Shop",
                file("/a b?"),
                Some("My Shop"),
            ),
        ] {
            let url = EmfUrl::parse(text).unwrap();
            assert_eq!(url.target, target, "{text}");
            assert_eq!(url.namespace.as_deref(), namespace, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, rule) in [
            ("", "unknown scheme"),
            ("emf:", "unknown scheme"),
            ("emf+http://host", "unknown scheme"),
            ("emf+stdout:/x", "behind `emf+stdout:`"),
            ("emf+file:", "no absolute path"),
            ("emf+file:x.json", "no absolute path"),
            ("emf+file://host/x.json", "no absolute path"),
            ("emf+file:///", "no absolute path"),
            ("emf+file:///a%", "%25"),
            ("emf+file:///a%00b", "%25"),
            ("emf+stdout:?name=x", "other than `namespace`"),
        ] {
            let message = EmfUrl::parse(text).unwrap_err().to_string();
            assert!(message.contains(rule), "{text}: {message}");
        }
    }
}
