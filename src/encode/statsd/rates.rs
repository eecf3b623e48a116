//! How many samples at which rates stand for the observations of a bucket.
//!
//! A server that weighs a sample by its rate counts `1 / rate` observations for it. So a count is written in decimal digits: as
//! many samples at rate 1 as its last digit says, at rate 0.1 as its last but one, and so on. What the server counts is exact.

/// The rates of samples, and what one sample at each of them counts for. Servers read them as decimals, and each is the inverse of
/// its weight in floats, too.
pub(super) const RATES: [(&str, u64); 5] = [
    ("1", 1),
    ("0.1", 10),
    ("0.01", 100),
    ("0.001", 1_000),
    ("0.0001", 10_000),
];

/// How many samples at each rate stand for so many observations. Those at the last rate are as many as it takes.
pub(super) fn digits(count: u64) -> [u64; RATES.len()] {
    let digit = |weight: u64| count / weight % 10;
    [digit(1), digit(10), digit(100), digit(1_000), count / 10_000]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn weights_add_up_to_the_count(count in 0..10_000_000_u64, any: u64) {
            for count in [count, any] {
                let samples = digits(count);
                let total: u64 = samples.iter().zip(RATES).map(|(samples, (_, weight))| samples * weight).sum();
                prop_assert_eq!(total, count);
                prop_assert!(samples[..4].iter().all(|samples| *samples < 10));
            }
            for (rate, weight) in RATES {
                // As servers do it, in floats, and with what is behind the point cut off.
                prop_assert_eq!((1.0 / rate.parse::<f64>().unwrap()) as u64, weight);
            }
        }
    }
}
