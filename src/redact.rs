//! Text that comes from elsewhere, made fit for a message: bounded, in one line, and URLs without what may be secret.

/// As much of a text as a message shows, in one line: control characters become spaces.
pub(crate) fn line(text: &str, most: usize) -> String {
    let fit = |character| if is_unfit(character) { ' ' } else { character };
    // One more than is kept tells whether something is cut.
    let mut shown: String = text.trim_start().chars().map(fit).take(most + 1).collect();
    shown.truncate(shown.trim_end().len());
    if let Some((cut, _)) = shown.char_indices().nth(most) {
        shown.truncate(cut);
        shown.push('…');
    }
    shown
}

/// A URL, or what somebody took for one, without user information, query and fragment.
pub(crate) fn url(text: &str) -> String {
    let end = text.find(['?', '#']).unwrap_or(text.len());
    let kept = &text[..end];
    let authority = kept.find("://").map_or(0, |at| at + 3);
    // User information ends at the last `@` before the path. A password that is not escaped may hold slashes itself, so
    // where an `@` comes later, all before it goes too: rather too little than a piece of a password.
    let host = kept[authority..].rfind('@').map_or(authority, |at| authority + at + 1);
    // A `?` or `#` that is not escaped may be in a password as well.
    if host == authority && text[end..].contains('@') {
        return line(&format!("{}…", &kept[..authority]), URL_CHARACTERS);
    }
    line(&format!("{}{}", &kept[..authority], &kept[host..]), URL_CHARACTERS)
}

const URL_CHARACTERS: usize = 200;

/// Control characters, and those that turn or hide what follows in a terminal.
fn is_unfit(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_and_bounded() {
        assert_eq!(line(" a\r\nb\u{1b}[31m\u{202e} ", 100), "a  b [31m");
        assert_eq!(line("äöüß", 4), "äöüß");
        assert_eq!(line("äöüß", 3), "äöü…");
        assert_eq!(line("", 3), "");
    }

    #[test]
    fn urls_lose_what_may_be_secret() {
        for (given, shown) in [
            ("http://host:4318/v1/metrics", "http://host:4318/v1/metrics"),
            ("https://user:pass@host/path?token=x#y", "https://host/path"),
            ("http://user:p@ss@host/", "http://host/"),
            ("http://user:p/a@host/", "http://host/"),
            ("http://user:p?a@host/", "http://…"),
            ("http://user:p#a@host/", "http://…"),
            ("user:pass@host", "host"),
            ("/login?next=secret", "/login"),
            ("http://[::1]:80/", "http://[::1]:80/"),
        ] {
            assert_eq!(url(given), shown, "{given}");
            assert!(!url(given).contains("pass"), "{given}");
        }
        assert!(url(&format!("http://host/{}", "x".repeat(10_000))).chars().count() <= URL_CHARACTERS + 1);
    }
}
