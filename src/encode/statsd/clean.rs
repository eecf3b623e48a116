//! Text that comes from outside, made harmless: no name, tag, tag's value or member of a set becomes a line, a tag, a field or a
//! sample of its own.
//!
//! What a place cannot hold becomes `_`, character by character, so no text becomes empty. Two texts may become one;
//! servers would not have told them apart either, or would have read something else.

use crate::destination::statsd::Dialect;

/// What the characters of a text become in one place.
pub(super) struct Rule {
    ascii: [u8; 128],
    /// Whether letters beyond ASCII stay.
    unicode: bool,
}

/// The rules of a dialect, by place.
pub(super) struct Rules {
    pub(super) name: &'static Rule,
    pub(super) key: &'static Rule,
    pub(super) value: &'static Rule,
}

impl Rules {
    pub(super) const fn of(dialect: Dialect) -> Rules {
        let (name, key, value) = match dialect {
            Dialect::Etsy => (&GRAPHITE, &PATH_PART, &PATH_PART),
            Dialect::Graphite => (&GRAPHITE, &GRAPHITE, &GRAPHITE),
            Dialect::DogStatsD => (&DOG_NAME, &DOG_KEY, &DOG_VALUE),
            Dialect::Telegraf | Dialect::Librato | Dialect::SignalFx => (&PLAIN_NAME, &PLAIN_NAME, &TAG_VALUE),
        };
        Rules { name, key, value }
    }
}

impl Rule {
    /// Appends a text as it may stand.
    #[inline]
    pub(super) fn push(&self, text: &str, out: &mut Vec<u8>) {
        if text.is_ascii() {
            out.extend(text.bytes().map(|byte| self.ascii[usize::from(byte & 0x7f)]));
        } else {
            self.push_unicode(text, out);
        }
    }

    fn push_unicode(&self, text: &str, out: &mut Vec<u8>) {
        for character in text.chars() {
            match u8::try_from(character) {
                Ok(byte) if byte.is_ascii() => out.push(self.ascii[usize::from(byte)]),
                _ if self.unicode && !character.is_control() && !is_line_break(character) => {
                    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                }
                _ => out.push(b'_'),
            }
        }
    }

    /// Keeps letters, digits and so many more; a slash becomes what it becomes in Graphite's file names, unless it is kept.
    const fn only(kept: &[u8], slash: u8) -> Rule {
        let mut ascii = [b'_'; 128];
        let mut byte = 0;
        while byte < 128 {
            if (byte as u8).is_ascii_alphanumeric() || contains(kept, byte as u8) {
                ascii[byte] = byte as u8;
            }
            byte += 1;
        }
        ascii[b'/' as usize] = slash;
        Rule { ascii, unicode: false }
    }

    /// Keeps all that can be seen, blanks too, but for so many. A tab is a blank.
    pub(super) const fn all_but(replaced: &[u8]) -> Rule {
        let mut ascii = [b'_'; 128];
        let mut byte = b' ';
        while byte < 127 {
            if !contains(replaced, byte) {
                ascii[byte as usize] = byte;
            }
            byte += 1;
        }
        ascii[b'\t' as usize] = ascii[b' ' as usize];
        Rule { ascii, unicode: true }
    }
}

const fn contains(bytes: &[u8], wanted: u8) -> bool {
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == wanted {
            return true;
        }
        at += 1;
    }
    false
}

/// Unicode's own, at which some readers split lines.
fn is_line_break(character: char) -> bool {
    matches!(character, '\u{2028}' | '\u{2029}')
}

/// What Etsy's server leaves of a name, which it would otherwise delete from: two names would become one more often. Its `;` and
/// `=` are those of tags. <https://github.com/statsd/statsd/blob/master/stats.js>, `sanitizeKeyName`.
///
/// A value of a tag of Graphite must not begin with `~`, which is not among these.
const GRAPHITE: Rule = Rule::only(b"_.-", b'-');
/// The same without the point that ends a part.
const PATH_PART: Rule = Rule::only(b"_-", b'-');
/// <https://docs.datadoghq.com/developers/dogstatsd/datagram_shell/>: ASCII letters and digits, underscores, points.
const DOG_NAME: Rule = Rule::only(b"_.", b'_');
/// A colon ends the key, a comma the tag, a bar the tags.
const DOG_KEY: Rule = Rule::all_but(b"|,:#@ ");
const DOG_VALUE: Rule = Rule::all_but(b"|,");
const PLAIN_NAME: Rule = Rule::only(b"_.-", b'_');
/// Servers that know several of these dialects look for the tags of each, so what has a meaning in any is replaced in all.
const TAG_VALUE: Rule = Rule::all_but(b"|:,#=[]");
/// A member of a set. DogStatsD's reference gives no way to write a bar or a colon there, and official clients write them.
pub(super) const SET_VALUE: Rule = Rule::all_but(b"|:");
/// A field of DogStatsD that holds one text.
pub(super) const FIELD: Rule = Rule::all_but(b"|");

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(rule: &Rule, text: &str) -> String {
        let mut out = Vec::new();
        rule.push(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_place_keeps_what_its_server_reads() {
        let hostile = "a/b.c-d e:f|g,h#i@j;k=l[m]n~o\n\r\0pé\u{85}\u{2028}日";
        for (dialect, name, key, value) in [
            (
                Dialect::Etsy,
                "a-b.c-d_e_f_g_h_i_j_k_l_m_n_o___p____",
                "a-b_c-d_e_f_g_h_i_j_k_l_m_n_o___p____",
                "a-b_c-d_e_f_g_h_i_j_k_l_m_n_o___p____",
            ),
            (
                Dialect::Graphite,
                "a-b.c-d_e_f_g_h_i_j_k_l_m_n_o___p____",
                "a-b.c-d_e_f_g_h_i_j_k_l_m_n_o___p____",
                "a-b.c-d_e_f_g_h_i_j_k_l_m_n_o___p____",
            ),
            (
                Dialect::DogStatsD,
                "a_b.c_d_e_f_g_h_i_j_k_l_m_n_o___p____",
                "a/b.c-d_e_f_g_h_i_j;k=l[m]n~o___pé__日",
                "a/b.c-d e:f_g_h#i@j;k=l[m]n~o___pé__日",
            ),
            (
                Dialect::Telegraf,
                "a_b.c-d_e_f_g_h_i_j_k_l_m_n_o___p____",
                "a_b.c-d_e_f_g_h_i_j_k_l_m_n_o___p____",
                "a/b.c-d e_f_g_h_i@j;k_l_m_n~o___pé__日",
            ),
        ] {
            let rules = Rules::of(dialect);
            assert_eq!(clean(rules.name, hostile), name, "{dialect}");
            assert_eq!(clean(rules.key, hostile), key, "{dialect}");
            assert_eq!(clean(rules.value, hostile), value, "{dialect}");
        }
        assert_eq!(clean(&SET_VALUE, "a:1|c\nb#@"), "a_1_c_b#@");
        assert_eq!(clean(Rules::of(Dialect::Graphite).value, "~a"), "_a");
    }
}
