//! Where in their buckets the observations of a histogram are said to lie, for formats that have values and no buckets.
//!
//! Nobody knows where in its bucket an observation lay, but all of them come to the histogram's sum. So the values lie at one
//! and the same fraction of each bucket's width, the one with which they come to that sum; what is above all
//! bounds makes up for the rest. A server's quantile is then in the bucket in which the histogram's is.

use crate::snapshot::HistogramValue;

/// One value for the observations of each bucket.
#[derive(Default)]
pub(super) struct Values {
    /// In the unit of what is sent, as the server reads them. Of a bucket without observations it is of no meaning.
    values: Vec<f64>,
    scale: f64,
}

impl Values {
    /// Finds the values for a histogram that is sent in a unit of which `scale` make one of its own. None if no float can hold one.
    pub(super) fn find(&mut self, histogram: HistogramValue<'_>, scale: f64) -> Option<()> {
        self.scale = scale;
        self.place(histogram);
        let HistogramValue { bounds, counts, .. } = histogram;
        for (bucket, value) in self.values.iter_mut().enumerate() {
            if counts[bucket] != 0 {
                *value = Bucket::of(bounds, bucket).printable(*value, scale);
                if !value.is_finite() {
                    return None;
                }
            }
        }
        Some(())
    }

    /// What a server reads, in the unit of what is sent.
    pub(super) fn sent(&self, bucket: usize) -> f64 {
        self.values[bucket]
    }

    /// The same in the histogram's own unit.
    #[cfg_attr(not(feature = "statsd"), allow(dead_code))] // no other format has units of its own
    pub(super) fn own(&self, bucket: usize) -> f64 {
        self.values[bucket] / self.scale
    }

    /// Places a value in each bucket, in the histogram's own unit.
    fn place(&mut self, histogram: HistogramValue<'_>) {
        let HistogramValue { bounds, counts, sum } = histogram;
        let finite = || (0..bounds.len()).filter(|bucket| counts[*bucket] != 0);
        let (mut base, mut widths) = (0.0, 0.0);
        for bucket in finite() {
            let (low, high) = Bucket::of(bounds, bucket).extent();
            base += counts[bucket] as f64 * low;
            widths += counts[bucket] as f64 * (high - low);
        }
        // The middles, unless the sum says otherwise: then what is above all bounds moves first, as it can go anywhere.
        let mut fraction = 0.5;
        let mut rest = sum - base;
        let mut top = 0.0;
        let above = counts[bounds.len()] as f64;
        if above > 0.0 {
            let (least, usual) = Bucket::of(bounds, bounds.len()).extent();
            let wanted = (rest - widths * fraction) / above;
            if sum.is_finite() && wanted > least {
                top = wanted;
            } else {
                top = if sum.is_finite() { least } else { usual };
            }
            rest -= above * top;
        }
        if widths > 0.0 && rest.is_finite() && widths.is_finite() {
            fraction = (rest / widths).clamp(EDGE, 1.0);
        }
        self.values.clear();
        for bucket in 0..bounds.len() {
            let (low, high) = Bucket::of(bounds, bucket).extent();
            self.values.push(low + (high - low) * fraction);
        }
        self.values.push(top);
        // What is below all bounds can go anywhere, too, if it is not that of values that are never negative.
        let missing = rest - widths * fraction;
        if fraction == EDGE && counts[0] != 0 && bounds.first().is_some_and(|bound| *bound <= 0.0) {
            self.values[0] += missing / counts[0] as f64;
        }
    }
}

/// Where the observations of a bucket are: above the lower bound, up to the upper one.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    lower: f64,
    upper: f64,
    /// How wide it is; of one that has no end, how wide the one beside it is.
    width: f64,
}

impl Bucket {
    fn of(bounds: &[f64], bucket: usize) -> Bucket {
        let first_lower = |bound: f64| if bound > 0.0 { 0.0 } else { f64::NEG_INFINITY };
        let lower = match bucket.checked_sub(1) {
            Some(before) => bounds[before],
            None => bounds.first().map_or(f64::NEG_INFINITY, |bound| first_lower(*bound)),
        };
        let upper = bounds.get(bucket).copied().unwrap_or(f64::INFINITY);
        let beside = |bound: f64, other: Option<&f64>| match other {
            Some(other) => (bound - other).abs(),
            None if bound == 0.0 => 1.0,
            None => bound.abs(),
        };
        let width = match (lower.is_finite(), upper.is_finite()) {
            (true, true) => upper - lower,
            (true, false) => beside(lower, bucket.checked_sub(2).and_then(|at| bounds.get(at))),
            (false, true) => beside(upper, bounds.get(1)),
            (false, false) => 1.0,
        };
        Bucket { lower, upper, width }
    }

    /// Where its values are placed: between these, above the first. Of the bucket above all bounds, the least value and a usual one.
    fn extent(self) -> (f64, f64) {
        match (self.lower.is_finite(), self.upper.is_finite()) {
            (true, true) => (self.lower, self.upper),
            (true, false) => (self.lower + self.width * EDGE, self.lower + self.width),
            (false, true) => (self.upper - self.width, self.upper),
            // The sum alone says where what has no bounds is.
            (false, false) => (f64::MIN, 0.0),
        }
    }

    /// Whether what a server reads is in the bucket, and still is when the server divides it by the scale.
    fn has(self, sent: f64, scale: f64) -> bool {
        let own = sent / scale;
        sent.is_finite()
            && sent > self.lower * scale
            && sent <= self.upper * scale
            && own > self.lower
            && own <= self.upper
    }

    /// What is sent for a value: with few digits if it is in the bucket then, else as near as it can be.
    fn printable(self, value: f64, scale: f64) -> f64 {
        let exact = value * scale;
        let width = match (self.lower.is_finite(), self.upper.is_finite()) {
            (true, true) => self.width,
            (true, false) => value - self.lower,
            (false, true) => self.upper - value,
            (false, false) => value.abs(),
        };
        let near = [rounded(exact, width * scale), exact, self.middle() * scale];
        if let Some(sent) = near.into_iter().find(|sent| self.has(*sent, scale)) {
            return sent;
        }
        // There is next to nothing between the bounds, or they are multiplied to where their product is rounded up.
        let (bound, step): (f64, fn(f64) -> f64) = match self.upper.is_finite() {
            true => (self.upper * scale, f64::next_down),
            false => (self.lower * scale, f64::next_up),
        };
        let beside = std::iter::successors(Some(bound), |sent| Some(step(*sent))).take(NEIGHBOURS);
        let mut inside = [rounded(bound, width * scale)].into_iter().chain(beside);
        inside.find(|sent| self.has(*sent, scale)).unwrap_or(bound)
    }

    fn middle(self) -> f64 {
        self.lower + (self.upper - self.lower) / 2.0
    }
}

/// A number near `value`, of so few digits that it is off by no more than [`DIGITS`] digits of the width.
fn rounded(value: f64, width: f64) -> f64 {
    let last = width.log10().floor() - DIGITS;
    // Powers of ten beyond are no floats.
    if !(-22.0..=22.0).contains(&last) {
        return value;
    }
    // Dividing by a power of ten gives the float that is written so; multiplying by its inverse would not.
    let power = 10.0_f64.powi(last.abs() as i32);
    match last < 0.0 {
        true => (value * power).round() / power,
        false => (value / power).round() * power,
    }
}

/// No sample lies at a bucket's lower bound, which belongs to the bucket below. This is how near it gets, as a part of the width.
const EDGE: f64 = 1e-5;

/// A product and a quotient are rounded by less than so many neighbouring floats.
const NEIGHBOURS: usize = 8;

/// How many digits of a bucket's width a value has, about: enough for sums, and short.
const DIGITS: f64 = 6.0;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values(bounds: &[f64], counts: &[u64], sum: f64, scale: f64) -> Values {
        let mut values = Values::default();
        values.find(HistogramValue { bounds, counts, sum }, scale).unwrap();
        values
    }

    fn sum_of(values: &Values, counts: &[u64]) -> f64 {
        let each = counts.iter().enumerate().filter(|(_, count)| **count != 0);
        each.map(|(bucket, count)| *count as f64 * values.own(bucket)).sum()
    }

    #[test]
    fn values_come_to_the_sum() {
        let bounds = [1.0, 2.0, 5.0];
        for (counts, sum, expected) in [
            // The middle of each, and the rest above.
            ([2, 2, 2, 1], 21.0, [0.5, 1.5, 3.5, 10.0]),
            // All at their upper bounds.
            ([1, 1, 1, 0], 8.0, [1.0, 2.0, 5.0, 0.0]),
            ([1, 1, 1, 0], 5.5, [0.5, 1.5, 3.5, 0.0]),
            // More than there can be.
            ([1, 1, 1, 0], 9.0, [1.0, 2.0, 5.0, 0.0]),
            ([0, 0, 0, 4], 100.0, [0.0, 0.0, 0.0, 25.0]),
            ([0, 4, 0, 0], 5.0, [0.0, 1.25, 0.0, 0.0]),
        ] {
            let values = values(&bounds, &counts, sum, 1.0);
            for (bucket, expected) in expected.iter().enumerate().filter(|(bucket, _)| counts[*bucket] != 0) {
                assert_eq!(values.sent(bucket), *expected, "{counts:?} {sum}");
            }
        }
    }

    #[test]
    fn what_is_above_is_above_even_if_the_sum_says_otherwise() {
        let values = values(&[1.0, 2.0], &[0, 0, 3], 1.0, 1.0);
        assert!(values.sent(2) > 2.0 && values.sent(2) < 2.001);
    }

    #[test]
    fn what_is_below_all_bounds_makes_up_for_the_rest_where_values_can_be_negative() {
        let counts = [2, 1, 0];
        let values = values(&[-1.0, 1.0], &counts, -21.0, 1.0);
        assert!(
            (sum_of(&values, &counts) + 21.0).abs() < 1e-4,
            "{}",
            sum_of(&values, &counts)
        );
        assert!(values.sent(0) < -9.0 && values.sent(1) > -1.0);
    }

    #[test]
    fn times_are_sent_in_milliseconds_with_few_digits() {
        let counts = [1, 3, 0];
        let values = values(&[0.035, 0.07], &counts, 0.2, 1000.0);
        let text = values.sent(1).to_string();
        assert!(text.len() <= 9, "{text}");
        assert!((sum_of(&values, &counts) - 0.2).abs() < 1e-7);
    }

    #[test]
    fn a_sum_that_says_nothing_leaves_the_middles() {
        for sum in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let values = values(&[1.0, 2.0], &[1, 1, 1], sum, 1.0);
            assert_eq!([values.sent(0), values.sent(1), values.sent(2)], [0.5, 1.5, 3.0]);
        }
    }

    #[test]
    fn what_no_float_holds_has_no_values() {
        let histogram = HistogramValue {
            bounds: &[1e307],
            counts: &[0, 1],
            sum: 1e308,
        };
        assert!(Values::default().find(histogram, 1000.0).is_none());
    }

    fn bounds() -> impl Strategy<Value = Vec<f64>> {
        let magnitude = (1..100_000_i64, -12..12_i32, any::<bool>());
        let bound = magnitude.prop_map(|(digits, power, negative)| {
            let bound: f64 = format!("{digits}e{power}").parse().unwrap();
            if negative { -bound } else { bound }
        });
        let usual = prop::sample::select(vec![
            vec![0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0],
            vec![0.0, 1.0],
            vec![1.0],
            vec![-1.0, 0.0],
            vec![1.0, 1.0_f64.next_up(), 1.0_f64.next_up().next_up()],
            vec![0.035, 0.035_f64.next_up()],
        ]);
        prop_oneof![
            usual,
            prop::collection::vec(bound, 1..12).prop_map(|mut bounds: Vec<f64>| {
                bounds.sort_by(f64::total_cmp);
                bounds.dedup();
                bounds
            }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn values_are_in_their_buckets_and_near_the_sum(
            bounds in bounds(),
            counts in prop::collection::vec(prop_oneof![2 => 0..5_u64, 1 => 0..10_000_000_u64], 13),
            places in prop::collection::vec(0.001..1.0_f64, 13),
            scale in prop::sample::select(vec![1.0, 1000.0, 1e-6, 60_000.0]),
        ) {
            let counts = &counts[..bounds.len() + 1];
            prop_assume!(counts.iter().any(|count| *count != 0));
            let observed = |bucket: usize| {
                let (low, high) = Bucket::of(&bounds, bucket).extent();
                low + (high - low) * places[bucket]
            };
            let sum: f64 = counts.iter().enumerate().map(|(bucket, count)| *count as f64 * observed(bucket)).sum();
            let values = values(&bounds, counts, sum, scale);
            let (mut slack, mut size) = (0.0, 0.0);
            for (bucket, count) in counts.iter().enumerate().filter(|(_, count)| **count != 0) {
                let within = Bucket::of(&bounds, bucket);
                let own = values.own(bucket);
                prop_assert!(own > within.lower && own <= within.upper, "{} of {:?}", own, within);
                let wide = within.width.max((own - within.lower).abs().min((own - within.upper).abs()));
                slack += *count as f64 * wide * 2e-5;
                size += *count as f64 * own.abs();
            }
            let off = (sum_of(&values, counts) - sum).abs();
            prop_assert!(off <= slack + size * 1e-12, "{} off of {}, {} allowed", off, sum, slack);
        }
    }
}
