//! A label set as it is looked up: its values as words, and their hash.
//!
//! A series keeps its values as 64-bit words so that they can be compared, and rewritten for another series, as atomics:
//! first the lengths, four to a word, then each value's bytes in memory order, padded with zeros to whole words. A
//! [`Query`] has the values that the caller brings in the same form, laid out on the stack. Two label sets are the same
//! exactly when their words are: the lengths make ("ab", "c") differ from ("a", "bc").

/// Words of the label sets that are laid out without ado. Values of at most [`short`] bytes each fit.
const SHORT: usize = 16;

/// Words of the label sets that are laid out on the stack too, more of which has to be cleared for them.
const MIDDLING: usize = 64;

/// Words of the label sets that are laid out on the stack nevertheless. Longer ones, of four kilobytes, take an allocation.
const LONG: usize = 512;

/// A length that values of `labels` labels may have for all of them to fit into [`SHORT`] words; a power of two less one,
/// so that the lengths can be compared all at once.
const fn short(labels: usize) -> usize {
    let words = match SHORT.saturating_sub(length_words(labels)).checked_div(labels) {
        Some(words) => words,
        None => 0,
    };
    (words * 8 + 1).next_power_of_two() / 2 - (words > 0) as usize
}

/// Bits of one length, and so the longest value: 65,535 bytes.
const LENGTH_BITS: usize = 16;

/// Lengths in a word.
const LENGTHS: usize = 64 / LENGTH_BITS;

/// What hashes depend on, drawn at random for each table: label values come from outside, and whoever chooses them must
/// not be able to choose their hashes.
#[derive(Clone, Copy)]
pub(crate) struct Seed([u64; 3]);

impl Seed {
    #[cfg(loom)]
    pub(crate) fn random() -> Self {
        // A model must go the same way each time.
        Seed([0x1234_5678_9ABC_DEF1, 0x0FED_CBA9_8765_4321, 0x1111_2222_3333_4445])
    }

    #[cfg(not(loom))]
    pub(crate) fn random() -> Self {
        use std::hash::BuildHasher;
        let random = std::hash::RandomState::new();
        // Odd, so that no multiplication by one of them loses bits.
        Seed([0, 1, 2].map(|part: u64| random.hash_one(part) | 1))
    }

    /// For whoever wants the words and not the hash.
    pub(crate) const fn unseeded() -> Self {
        Seed([1; 3])
    }
}

/// The label values of one look-up as words, and their hash.
#[derive(Clone, Copy)]
pub(crate) struct Query<'a> {
    pub(crate) words: &'a [u64],
    pub(crate) hash: u64,
}

/// Lays `values` out and hands them to `look_up`; `None` when a value is longer than a series can keep.
#[inline(always)]
pub(crate) fn query<const N: usize, R>(
    values: [&str; N],
    seed: &Seed,
    look_up: impl FnOnce(Query<'_>) -> R,
) -> Option<R> {
    let lengths = values.iter().fold(0, |lengths, value| lengths | value.len());
    if lengths > const { short(N) } || const { N > SHORT / 2 } {
        return query_long(&values, seed, look_up);
    }
    let mut words = [0; SHORT];
    let (len, hash) = lay_out(&values, &mut words, seed);
    Some(look_up(Query {
        words: &words[..len],
        hash,
    }))
}

/// The words of `values`, however many there are; `None` when one is longer than a series can keep.
pub(crate) fn words(values: &[&str]) -> Option<Vec<u64>> {
    query_long(values, &Seed::unseeded(), |query| query.words.to_vec())
}

#[cold]
#[inline(never)]
fn query_long<R>(values: &[&str], seed: &Seed, look_up: impl FnOnce(Query<'_>) -> R) -> Option<R> {
    if values.iter().any(|value| value.len() >> LENGTH_BITS != 0) {
        return None;
    }
    let len = values.iter().fold(length_words(values.len()), |words, value| {
        words + value.len().div_ceil(8)
    });
    let (mut few, mut some, mut many);
    let words = if len <= MIDDLING {
        few = [0; MIDDLING];
        &mut few[..]
    } else if len <= LONG {
        some = [0; LONG];
        &mut some[..]
    } else {
        many = vec![0; len.next_power_of_two()];
        &mut many[..]
    };
    let (len, hash) = lay_out(values, words, seed);
    Some(look_up(Query {
        words: &words[..len],
        hash,
    }))
}

/// Writes the words of `values` into `words`, of which there are enough and a power of two. How many, and their hash.
#[inline(always)]
fn lay_out(values: &[&str], words: &mut [u64], seed: &Seed) -> (usize, u64) {
    let mut at = 0;
    // Places wrap, so that the compiler need not check them.
    let mask = words.len() - 1;
    for values in values.chunks(LENGTHS) {
        words[at & mask] = values
            .iter()
            .rev()
            .fold(0, |word, value| word << LENGTH_BITS | value.len() as u64);
        at += 1;
    }
    let mut hash = Hash::new(seed);
    for value in values {
        let value = value.as_bytes();
        hash.begin(value.len());
        let (whole, rest) = value.as_chunks::<8>();
        let word = match value.last_chunk::<8>() {
            Some(last) => {
                for bytes in whole {
                    let word = u64::from_ne_bytes(*bytes);
                    words[at & mask] = word;
                    hash.add(word);
                    at += 1;
                }
                if rest.is_empty() {
                    continue;
                }
                (u64::from_le_bytes(*last) >> (64 - rest.len() * 8)).to_le()
            }
            None if rest.is_empty() => continue,
            None => padded(value),
        };
        words[at & mask] = word;
        hash.add(word);
        at += 1;
    }
    (at, hash.finish())
}

/// How many words the lengths of `labels` values take.
pub(crate) const fn length_words(labels: usize) -> usize {
    labels.div_ceil(LENGTHS)
}

/// The length of value number `at`, out of the words that hold the lengths.
#[inline(always)]
pub(crate) fn length(lengths: &[u64], at: usize) -> usize {
    (lengths[at / LENGTHS] >> (at % LENGTHS * LENGTH_BITS)) as usize & ((1 << LENGTH_BITS) - 1)
}

/// How many words the text of the values takes whose lengths a word holds.
#[inline(always)]
pub(crate) fn text_words(lengths: u64) -> usize {
    // All at once: eights of each length, and one more where some bytes are left.
    const ONES: u64 = u64::MAX / ((1 << LENGTH_BITS) - 1);
    let eights = (lengths >> 3) & (ONES * 0x1FFF);
    let left = (((lengths & (ONES * 7)) + ONES * 7) >> 3) & ONES;
    ((eights + left).wrapping_mul(ONES) >> (64 - LENGTH_BITS)) as usize
}

/// Whether eight bytes of text have one that text formats escape: a quote, a backslash, a newline.
pub(crate) fn has_escaped(word: u64) -> bool {
    word.to_ne_bytes()
        .iter()
        .any(|byte| matches!(byte, b'"' | b'\\' | b'\n'))
}

/// The hash of a label set of which only the words are at hand.
pub(crate) fn hash_words(words: &[u64], labels: usize, seed: &Seed) -> u64 {
    let (lengths, mut text) = words.split_at(length_words(labels));
    let mut hash = Hash::new(seed);
    for label in 0..labels {
        let len = length(lengths, label);
        let (value, rest) = text.split_at(len.div_ceil(8));
        hash.begin(len);
        value.iter().for_each(|word| hash.add(*word));
        text = rest;
    }
    hash.finish()
}

/// Fewer than eight bytes as a word that has them in memory order, zeros behind them. Few wide loads, not many narrow ones.
#[inline(always)]
fn padded(bytes: &[u8]) -> u64 {
    let shift = |less: usize| (bytes.len() - less) * 8;
    let word = if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        u32::from_le_bytes(*first) as u64 | (u32::from_le_bytes(*last) as u64) << shift(4)
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<2>(), bytes.last_chunk::<2>()) {
        u16::from_le_bytes(*first) as u64 | (u16::from_le_bytes(*last) as u64) << shift(2)
    } else {
        bytes.first().copied().unwrap_or(0).into()
    };
    word.to_le()
}

/// Word by word, multiplied to 128 bits with secrets mixed in and folded. Values have secrets of their own and are added
/// up, so that a processor works on several at once.
struct Hash {
    secret: u64,
    factor: u64,
    last: u64,
    value: u64,
    sum: u64,
}

impl Hash {
    #[inline(always)]
    fn new(seed: &Seed) -> Self {
        let [secret, factor, last] = seed.0;
        Hash {
            secret,
            factor,
            last,
            value: 0,
            sum: 0,
        }
    }

    #[inline(always)]
    fn begin(&mut self, len: usize) {
        self.sum = self.sum.wrapping_add(self.value);
        self.value = self.secret ^ len as u64;
        self.secret = self.secret.wrapping_add(0x9E37_79B9_7F4A_7C15);
    }

    #[inline(always)]
    fn add(&mut self, word: u64) {
        self.value = folded(self.value ^ word, self.factor);
    }

    #[inline(always)]
    fn finish(self) -> u64 {
        folded(self.sum.wrapping_add(self.value) ^ self.secret, self.last)
    }
}

#[inline(always)]
fn folded(left: u64, right: u64) -> u64 {
    let product = left as u128 * right as u128;
    product as u64 ^ (product >> 64) as u64
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn seed() -> Seed {
        Seed([0x1234_5678_9ABC_DEF1, 0x0FED_CBA9_8765_4321, 0x1111_2222_3333_4445])
    }

    fn laid_out<const N: usize>(values: [&str; N]) -> Option<(Vec<u64>, u64)> {
        query(values, &seed(), |query| (query.words.to_vec(), query.hash))
    }

    #[test]
    fn words_hold_lengths_and_text_and_hash_as_the_values_do() {
        for value in [
            "",
            "a",
            "ab",
            "abc",
            "abcd",
            "abcdefg",
            "abcdefgh",
            "abcdefghi",
            "ünï",
            &"x".repeat(2000),
        ] {
            for other in ["", "1", "22", "4444", "88888888"] {
                let values = [value, other, value];
                let (words, hash) = laid_out(values).unwrap();
                assert_eq!(hash, hash_words(&words, 3, &seed()), "{values:?}");
                assert_eq!(
                    (0..3).map(|at| length(&words, at)).collect::<Vec<_>>(),
                    values.map(str::len)
                );
                let text: Vec<u8> = words[1..].iter().flat_map(|word| word.to_ne_bytes()).collect();
                let mut text = &text[..];
                for value in values {
                    let (bytes, rest) = text.split_at(value.len().next_multiple_of(8));
                    assert_eq!(&bytes[..value.len()], value.as_bytes());
                    assert!(bytes[value.len()..].iter().all(|byte| *byte == 0));
                    text = rest;
                }
                assert!(text.is_empty());
            }
        }
    }

    #[test]
    fn words_of_text_are_counted_at_once() {
        for lengths in [
            [0, 0, 0, 0],
            [1, 7, 8, 9],
            [65_535, 65_528, 65_529, 65_535],
            [3, 18, 3, 0],
            [16, 15, 17, 1],
        ] {
            let word = lengths
                .iter()
                .rev()
                .fold(0, |word, length: &usize| word << LENGTH_BITS | *length as u64);
            assert_eq!(
                text_words(word),
                lengths.iter().map(|length| length.div_ceil(8)).sum::<usize>(),
                "{lengths:?}"
            );
        }
    }

    #[test]
    fn short_values_fit_into_few_words() {
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 8, 15, 16].map(short),
            [0, 63, 31, 31, 15, 15, 7, 0, 0]
        );
    }

    #[test]
    fn where_one_value_ends_matters() {
        let (first, second) = (laid_out(["ab", "c"]).unwrap(), laid_out(["a", "bc"]).unwrap());
        assert_ne!(first.0, second.0);
        assert_ne!(first.1, second.1);
    }

    #[test]
    fn a_value_too_long_to_keep_is_no_query() {
        assert!(laid_out(["x".repeat(65_535).as_str()]).is_some());
        assert!(laid_out(["x".repeat(65_536).as_str()]).is_none());
    }

    #[test]
    fn many_labels_take_several_words_of_lengths() {
        let values = [
            "a",
            "bb",
            "ccc",
            "dddd",
            "eeeee",
            "ffffff",
            "ggggggg",
            "hhhhhhhh",
            "iiiiiiiii",
        ];
        let (words, hash) = laid_out(values).unwrap();
        assert_eq!(
            (0..9).map(|at| length(&words, at)).collect::<Vec<_>>(),
            values.map(str::len)
        );
        assert_eq!(hash, hash_words(&words, 9, &seed()));
    }

    #[test]
    fn hashes_of_small_changes_spread_over_all_bits() {
        let mut ones = [0u32; 64];
        for number in 0..4096 {
            let (_, hash) = laid_out(["GET", number.to_string().as_str(), "200"]).unwrap();
            for (bit, ones) in ones.iter_mut().enumerate() {
                *ones += (hash >> bit & 1) as u32;
            }
        }
        assert!(ones.iter().all(|ones| (1848..2248).contains(ones)), "{ones:?}");
    }
}
