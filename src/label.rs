//! Label values as the caller has them: strings, or a tuple of strings, numbers and enums, none of which is allocated.

use std::{borrow::Cow, fmt, rc::Rc, sync::Arc};

/// The longest text of a number: an `i128`'s.
const LONGEST_NUMBER: usize = 40;

/// The text of one label value: borrowed, or written into itself.
///
/// ```
/// use tidegauge::LabelText;
///
/// assert_eq!(LabelText::from("GET").as_str(), "GET");
/// assert_eq!(LabelText::from(-404_i16).as_str(), "-404");
/// assert_eq!(LabelText::from(true).as_str(), "true");
/// ```
#[derive(Clone)]
pub struct LabelText<'a>(Text<'a>);

#[derive(Clone)]
enum Text<'a> {
    Borrowed(&'a str),
    Written([u8; LONGEST_NUMBER], u8),
}

impl LabelText<'_> {
    /// The text.
    #[inline]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Text::Borrowed(text) => text,
            Text::Written(bytes, len) => {
                std::str::from_utf8(&bytes[..*len as usize]).expect("only whole strings are written here")
            }
        }
    }

    fn written(text: &str) -> Self {
        let mut bytes = [0; LONGEST_NUMBER];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        LabelText(Text::Written(bytes, text.len() as u8))
    }
}

impl fmt::Debug for LabelText<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(formatter)
    }
}

impl<'a> From<&'a str> for LabelText<'a> {
    #[inline]
    fn from(text: &'a str) -> Self {
        LabelText(Text::Borrowed(text))
    }
}

impl From<bool> for LabelText<'_> {
    #[inline]
    fn from(value: bool) -> Self {
        LabelText(Text::Borrowed(if value { "true" } else { "false" }))
    }
}

impl From<char> for LabelText<'_> {
    #[inline]
    fn from(value: char) -> Self {
        LabelText::written(value.encode_utf8(&mut [0; 4]))
    }
}

/// A type whose values can be label values, in a tuple given to [`Family::with`](crate::Family::with).
///
/// Strings, integers, `bool` and `char` are; an enum of the application becomes one in three lines:
///
/// ```
/// use tidegauge::{LabelText, LabelValue, Registry};
///
/// enum Outcome { Done, Failed }
///
/// impl LabelValue for Outcome {
///     fn label(&self) -> LabelText<'_> {
///         match self { Outcome::Done => "done", Outcome::Failed => "failed" }.into()
///     }
/// }
///
/// # fn main() -> Result<(), tidegauge::RegisterError> {
/// let jobs = Registry::new().counter("jobs_total", "Jobs by queue and outcome.").labels(["queue", "outcome"]).register()?;
/// jobs.with((7, Outcome::Done)).inc();
/// jobs.with((7, Outcome::Failed)).inc();
/// assert_eq!(jobs.with(["7", "done"]).get(), 1);
/// # Ok(())
/// # }
/// ```
pub trait LabelValue {
    /// The text of this value. It must not allocate, lest recording does.
    fn label(&self) -> LabelText<'_>;
}

macro_rules! strings {
    ($($string:ty),*) => { $(
        impl LabelValue for $string {
            #[inline]
            fn label(&self) -> LabelText<'_> {
                LabelText::from(&**self)
            }
        }
    )* };
}
strings!(String, Cow<'_, str>, Box<str>, Rc<str>, Arc<str>);

impl LabelValue for str {
    #[inline]
    fn label(&self) -> LabelText<'_> {
        LabelText::from(self)
    }
}

impl<T: LabelValue + ?Sized> LabelValue for &T {
    #[inline]
    fn label(&self) -> LabelText<'_> {
        (**self).label()
    }
}

macro_rules! integers {
    ($($integer:ty),*) => { $(
        impl From<$integer> for LabelText<'_> {
            #[inline]
            fn from(value: $integer) -> Self {
                LabelText::written(itoa::Buffer::new().format(value))
            }
        }

        impl LabelValue for $integer {
            #[inline]
            fn label(&self) -> LabelText<'_> {
                LabelText::from(*self)
            }
        }
    )* };
}
integers!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize);

macro_rules! others {
    ($($other:ty),*) => { $(
        impl LabelValue for $other {
            #[inline]
            fn label(&self) -> LabelText<'_> {
                LabelText::from(*self)
            }
        }
    )* };
}
others!(bool, char);

/// All label values of a series, in the order in which the family was given its labels: an array of strings, a tuple of
/// [`LabelValue`]s, or for a single label just a string.
///
/// How many there must be is part of the type, so one too few does not compile:
///
/// ```compile_fail
/// # let registry = tidegauge::Registry::new();
/// let requests = registry.counter("requests_total", "Requests.").labels(["method", "status"]).register().unwrap();
/// requests.with(["GET"]).inc();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the values of {N} labels",
    label = "one value for each of the {N} labels is wanted",
    note = "an array of strings, `[\"GET\", \"200\"]`, or a tuple that mixes strings, integers and enums, `(\"GET\", 200)`"
)]
pub trait LabelValues<const N: usize> {
    /// Calls `use_texts` with the texts of the values.
    fn with_texts<R>(&self, use_texts: impl FnOnce([&str; N]) -> R) -> R;
}

impl<S: AsRef<str>, const N: usize> LabelValues<N> for [S; N] {
    #[inline(always)]
    fn with_texts<R>(&self, use_texts: impl FnOnce([&str; N]) -> R) -> R {
        use_texts(self.each_ref().map(|value| value.as_ref()))
    }
}

impl LabelValues<1> for str {
    #[inline(always)]
    fn with_texts<R>(&self, use_texts: impl FnOnce([&str; 1]) -> R) -> R {
        use_texts([self])
    }
}

impl LabelValues<1> for String {
    #[inline(always)]
    fn with_texts<R>(&self, use_texts: impl FnOnce([&str; 1]) -> R) -> R {
        use_texts([self])
    }
}

impl<T: LabelValues<N> + ?Sized, const N: usize> LabelValues<N> for &T {
    #[inline(always)]
    fn with_texts<R>(&self, use_texts: impl FnOnce([&str; N]) -> R) -> R {
        (**self).with_texts(use_texts)
    }
}

macro_rules! tuples {
    ($($len:literal: $($name:ident $at:tt)*;)*) => { $(
        impl<$($name: LabelValue),*> LabelValues<$len> for ($($name,)*) {
            #[inline(always)]
            fn with_texts<R>(&self, use_texts: impl FnOnce([&str; $len]) -> R) -> R {
                use_texts([$(self.$at.label().as_str()),*])
            }
        }
    )* };
}
tuples! {
    1: A 0;
    2: A 0 B 1;
    3: A 0 B 1 C 2;
    4: A 0 B 1 C 2 D 3;
    5: A 0 B 1 C 2 D 3 E 4;
    6: A 0 B 1 C 2 D 3 E 4 F 5;
    7: A 0 B 1 C 2 D 3 E 4 F 5 G 6;
    8: A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7;
}
