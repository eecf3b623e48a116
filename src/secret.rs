//! Credentials: where the value of a header comes from, and how it stays current while passwords and tokens rotate.
//!
//! A value never appears in a message, a log or a `Debug`; an error says where it should have come from, not what came.

mod file;

pub(crate) use file::WatchedFile;
#[cfg(test)]
pub(crate) use file::tests::Folder;

use crate::redact;
use std::{
    error::Error,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::Arc,
};

/// A value that must not be shown, such as a token: fixed, or read from a file or a closure and so replaced without a restart.
///
/// Whoever sends it asks for its [`value`](Secret::value) before each request. Where that can't be had any more, because a
/// file is gone or a closure fails, the last good value stays in use and [`problem`](Secret::problem) says why.
///
/// The memory of a value is not overwritten when it is dropped.
///
/// ```
/// use tidegauge::Secret;
///
/// let mut token = Secret::text("s3cr3t");
/// assert_eq!(token.value().unwrap(), "s3cr3t");
/// assert_eq!(format!("{token:?}"), "Secret(text)");
///
/// let path = std::env::temp_dir().join(format!("token-{}", std::process::id()));
/// std::fs::write(&path, "first\n").unwrap();
/// let mut token = Secret::file(&path);
/// assert_eq!(token.value().unwrap(), "first");
/// std::fs::write(&path, "second\n").unwrap();
/// assert!(token.reload().unwrap());
/// assert_eq!(token.value().unwrap(), "second");
/// # std::fs::remove_file(&path).unwrap();
/// ```
#[derive(Clone)]
pub struct Secret {
    source: Source,
    /// The last good value.
    value: Option<String>,
    problem: Option<SecretError>,
}

impl Secret {
    /// A value that stays.
    pub fn text(value: impl Into<String>) -> Secret {
        Secret::new(Source::Text(value.into()))
    }

    /// What a file holds, without the line breaks at its end, at most 64 KiB. It is read when it is first needed, and again when
    /// its modification time or length has changed; that is looked at every 10 seconds at most, and at each
    /// [`reload`](Secret::reload).
    pub fn file(path: impl Into<PathBuf>) -> Secret {
        Secret::new(Source::File(WatchedFile::new(path.into(), LARGEST_FILE)))
    }

    /// What a closure returns. It is called before each request, on the thread that sends, so it should keep what is
    /// expensive to make. An error, a panic and an empty text leave the last good value in use.
    pub fn from_fn(value: impl Fn() -> Result<String, Box<dyn Error + Send + Sync>> + Send + Sync + 'static) -> Secret {
        Secret::new(Source::Closure(Arc::new(value)))
    }

    /// The value to send now.
    ///
    /// # Errors
    ///
    /// If there has never been a good one: the file can't be read, is too large, empty or not UTF-8, the closure fails, or the
    /// value has control characters.
    pub fn value(&mut self) -> Result<&str, SecretError> {
        self.refresh(false);
        match (&self.value, &self.problem) {
            (Some(value), _) => Ok(value),
            (None, Some(problem)) => Err(problem.clone()),
            (None, None) => unreachable!("a look either finds a value or says why not"),
        }
    }

    /// The value that was given last, if one ever was.
    pub(crate) fn last(&self) -> Option<&str> {
        self.value.as_deref()
    }

    /// Reads the file or calls the closure at once, as is right after a server has refused the value. Returns whether the value
    /// has changed.
    ///
    /// # Errors
    ///
    /// If no new value can be had; see [`value`](Secret::value). The last good one stays in use.
    pub fn reload(&mut self) -> Result<bool, SecretError> {
        let changed = self.refresh(true);
        match &self.problem {
            Some(problem) => Err(problem.clone()),
            None => Ok(changed),
        }
    }

    /// Why the last look for a new value failed, if it did.
    pub fn problem(&self) -> Option<&SecretError> {
        self.problem.as_ref()
    }

    fn new(source: Source) -> Secret {
        Secret {
            source,
            value: None,
            problem: None,
        }
    }

    /// Takes a new value if there is one; says whether it differs from the last.
    fn refresh(&mut self, at_once: bool) -> bool {
        let Some(found) = self.source.look(at_once, self.value.is_none()) else {
            return false;
        };
        match found.and_then(|value| self.source.check(value)) {
            Ok(value) => {
                self.problem = None;
                let changed = self.value.as_ref() != Some(&value);
                self.value = Some(value);
                changed
            }
            Err(problem) => {
                self.problem = Some(problem);
                false
            }
        }
    }
}

impl From<&str> for Secret {
    fn from(value: &str) -> Secret {
        Secret::text(value)
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Secret {
        Secret::text(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.source {
            Source::Text(_) => "text",
            Source::File(_) => "file",
            Source::Closure(_) => "closure",
        };
        write!(formatter, "Secret({kind})")
    }
}

/// A secret that could not be had. The message names where it should have come from, the rule and the fix, never the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretError {
    message: String,
}

impl SecretError {
    fn new(message: String) -> SecretError {
        SecretError { message }
    }
}

impl fmt::Display for SecretError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl Error for SecretError {}

#[derive(Clone)]
enum Source {
    Text(String),
    File(WatchedFile),
    Closure(Arc<Closure>),
}

type Closure = dyn Fn() -> Result<String, Box<dyn Error + Send + Sync>> + Send + Sync;

impl Source {
    /// What is there now; `None` if it is what was found last time.
    fn look(&mut self, at_once: bool, first: bool) -> Option<Result<String, SecretError>> {
        match self {
            Source::Text(text) => first.then(|| Ok(text.clone())),
            Source::File(file) => match if at_once { Ok(true) } else { file.changed() } {
                Ok(true) => Some(file.read().and_then(in_utf8).map_err(SecretError::new)),
                Ok(false) => None,
                Err(message) => Some(Err(SecretError::new(message))),
            },
            Source::Closure(closure) => Some(match catch_unwind(AssertUnwindSafe(|| closure())) {
                Ok(Ok(value)) => Ok(value),
                Ok(Err(error)) => {
                    let reason = redact::line(&error.to_string(), REASON_CHARACTERS);
                    Err(SecretError::new(format!(
                        "the closure that gives a secret failed: {reason}"
                    )))
                }
                Err(_) => Err(SecretError::new(
                    "the closure that gives a secret panicked: return an error instead".to_owned(),
                )),
            }),
        }
    }

    fn check(&self, value: String) -> Result<String, SecretError> {
        let (value, origin) = match self {
            Source::Text(_) => (value, "the text of a secret".to_owned()),
            Source::File(file) => {
                let kept = value.trim_end_matches(['\r', '\n']).len();
                (value[..kept].to_owned(), file.to_string())
            }
            Source::Closure(_) => (value, "what a closure gave as a secret".to_owned()),
        };
        // An empty header may be meant; a file that is being written, or a variable that is not set, is not.
        if value.is_empty() && !matches!(self, Source::Text(_)) {
            return Err(SecretError::new(format!("{origin} is empty: write the value there")));
        }
        if value.chars().any(char::is_control) {
            return Err(SecretError::new(format!(
                "{origin} has control characters, such as a line break or a tab, which no header may have: remove them"
            )));
        }
        Ok(value)
    }
}

fn in_utf8(bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|_| "the file of a secret is not UTF-8: write it as plain text".to_owned())
}

/// More than any token has, so that a wrong path can't fill the memory.
const LARGEST_FILE: u64 = 64 * 1024;

const REASON_CHARACTERS: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Mutex;

    #[test]
    fn a_text_stays() {
        let mut secret = Secret::from("token");
        assert_eq!(secret.value(), Ok("token"));
        assert_eq!(secret.reload(), Ok(false));
        assert_eq!(Secret::text("").value(), Ok(""));
    }

    #[test]
    fn a_file_is_read_again_and_outlives_its_loss() {
        let folder = Folder::new("secret-file");
        let path = folder.write("token", "first\r\n");
        let mut secret = Secret::file(&path);
        assert_eq!(secret.value(), Ok("first"));
        assert_eq!(secret.reload(), Ok(false));

        folder.write("token", "second");
        assert_eq!(secret.reload(), Ok(true));
        assert_eq!(secret.value(), Ok("second"));

        for bad in ["", "\n", "two\nlines", "tab\ttab"] {
            folder.write("token", bad);
            let message = secret.reload().unwrap_err().to_string();
            assert!(!message.contains("two") && !message.contains("tab\t"), "{message}");
            assert_eq!(secret.value(), Ok("second"), "{bad:?}");
            assert_eq!(secret.problem().unwrap().to_string(), message);
        }
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(secret.reload().unwrap_err().to_string().contains("UTF-8"));
        std::fs::write(&path, vec![b'x'; LARGEST_FILE as usize + 1]).unwrap();
        assert!(secret.reload().unwrap_err().to_string().contains("longer than"));

        std::fs::remove_file(&path).unwrap();
        assert!(secret.reload().unwrap_err().to_string().contains("cannot be read"));
        assert_eq!(secret.value(), Ok("second"));

        folder.write("token", "third");
        assert_eq!(secret.reload(), Ok(true));
        assert_eq!(secret.problem(), None);
        assert_eq!(secret.value(), Ok("third"));
    }

    #[test]
    fn a_file_that_was_never_there_has_no_value_until_it_is() {
        let folder = Folder::new("secret-late");
        let mut secret = Secret::file(folder.path("late"));
        let message = secret.value().unwrap_err().to_string();
        assert!(
            message.contains("late") && message.contains("cannot be read"),
            "{message}"
        );
        folder.write("late", "there");
        // Not looked at again so soon, but by force.
        assert_eq!(secret.value().unwrap_err().to_string(), message);
        assert_eq!(secret.reload(), Ok(true));
        assert_eq!(secret.value(), Ok("there"));
    }

    #[test]
    fn a_closure_is_asked_each_time_and_outlives_its_failures() {
        let answers = Mutex::new(vec![None, Some(Err("vault sealed\n")), Some(Ok("b")), Some(Ok("a"))]);
        let mut secret = Secret::from_fn(move || match answers.lock().pop().unwrap() {
            Some(Ok(value)) => Ok(value.to_owned()),
            Some(Err(reason)) => Err(reason.into()),
            None => panic!("on purpose"),
        });
        assert_eq!(secret.value(), Ok("a"));
        assert_eq!(secret.value(), Ok("b"));
        assert_eq!(secret.value(), Ok("b"));
        assert!(secret.problem().unwrap().to_string().ends_with("vault sealed"));
        assert!(secret.reload().unwrap_err().to_string().contains("panicked"));
    }

    #[test]
    fn nothing_shows_a_value() {
        let folder = Folder::new("secret-shown");
        let path = folder.write("token", "hush\u{7}");
        let secrets = [
            Secret::text("hush\n"),
            Secret::file(&path),
            Secret::from_fn(|| Ok("hush\u{1b}".to_owned())),
        ];
        for (mut secret, kind) in secrets.into_iter().zip(["text", "file", "closure"]) {
            let error = secret.value().unwrap_err();
            assert!(error.to_string().contains("control characters"), "{error}");
            assert_eq!(format!("{secret:?}"), format!("Secret({kind})"));
            assert!(!format!("{error} {error:?}").contains("hush"));
        }
    }
}
