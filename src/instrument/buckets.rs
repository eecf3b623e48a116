//! The boundaries of a histogram's buckets: given, or made; validated; and the search for the bucket of a value.

use super::space::Shape;
use std::{fmt, sync::Arc};

/// Upper bounds of a histogram's buckets, each inclusive; one more bucket takes what is above them all.
///
/// A histogram that is given none has bounds that fit its unit: from 5 ms to 10 s for a unit of time, in that unit; from 256 bytes
/// to 1 GiB for bytes; from 0.05 to 1 for a ratio; and from 1 to 10,000 for anything else.
///
/// ```
/// # fn main() -> Result<(), tidegauge::BucketsError> {
/// use tidegauge::Buckets;
///
/// assert_eq!(Buckets::linear(0.0, 5.0, 4)?.bounds(), [0.0, 5.0, 10.0, 15.0]);
/// assert_eq!(Buckets::geometric(0.25, 2.0, 3)?.bounds(), [0.25, 0.5, 1.0]);
/// let error = Buckets::explicit([1.0, 0.5]).unwrap_err();
/// assert!(error.to_string().contains("strictly increasing"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Buckets {
    bounds: Arc<[f64]>,
}

/// Boundaries that are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketsError {
    message: String,
}

impl Buckets {
    /// The most bounds that a histogram can have.
    pub const MOST: usize = Shape::MOST_COUNTS - 1;

    /// The given bounds. An infinite last one is allowed and left out, because it is always there.
    ///
    /// # Errors
    ///
    /// If there are none or more than [`MOST`](Buckets::MOST), if one is not finite, or if they are not strictly increasing.
    pub fn explicit(bounds: impl IntoIterator<Item = f64>) -> Result<Self, BucketsError> {
        let mut bounds: Vec<f64> = bounds.into_iter().collect();
        if bounds.last() == Some(&f64::INFINITY) {
            bounds.pop();
        }
        if bounds.is_empty() {
            return Err(BucketsError::new(
                "bucket boundaries: there must be at least one that is finite, and there is none; name one".to_owned(),
            ));
        }
        if bounds.len() > Self::MOST {
            return Err(BucketsError::new(format!(
                "bucket boundaries: there must be at most {}, and there are {}; leave some out",
                Self::MOST,
                bounds.len()
            )));
        }
        if let Some(bound) = bounds.iter().find(|bound| !bound.is_finite()) {
            return Err(BucketsError::new(format!(
                "bucket boundary {bound}: must be finite; leave it out, the bucket up to +Inf is always there"
            )));
        }
        if let Some(pair) = bounds.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(BucketsError::new(format!(
                "bucket boundaries {} and {}: must be strictly increasing; sort them and leave out repeated ones",
                pair[0], pair[1]
            )));
        }
        // A negative zero would be written as `-0.0` and compares equal to zero: it is the same bound.
        bounds
            .iter_mut()
            .filter(|bound| **bound == 0.0)
            .for_each(|bound| *bound = 0.0);
        Ok(Buckets { bounds: bounds.into() })
    }

    /// `count` bounds, `width` apart, the first of them `start`.
    ///
    /// # Errors
    ///
    /// As [`explicit`](Buckets::explicit), of what comes out.
    pub fn linear(start: f64, width: f64, count: usize) -> Result<Self, BucketsError> {
        Self::explicit((0..count.min(Self::MOST + 1)).map(|at| start + width * at as f64))
    }

    /// `count` bounds, each `factor` times the one before, the first of them `start`.
    ///
    /// # Errors
    ///
    /// As [`explicit`](Buckets::explicit), of what comes out; so for a `start` that is not positive or a `factor` not above 1.
    pub fn geometric(start: f64, factor: f64, count: usize) -> Result<Self, BucketsError> {
        let bounds = std::iter::successors(Some(start), |bound| Some(bound * factor));
        Self::explicit(bounds.take(count.min(Self::MOST + 1)))
    }

    /// The bounds, without the infinite one.
    pub fn bounds(&self) -> &[f64] {
        &self.bounds
    }

    pub(crate) fn shared(&self) -> Arc<[f64]> {
        self.bounds.clone()
    }

    /// What a histogram of this unit has by default; `per_second` where the unit is one of time.
    pub(crate) fn default_for(unit: Option<&str>, per_second: Option<f64>) -> Self {
        const SECONDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
        const BYTES: [f64; 12] = [
            256.0,
            1024.0,
            4096.0,
            16384.0,
            65536.0,
            262144.0,
            1048576.0,
            4194304.0,
            16777216.0,
            67108864.0,
            268435456.0,
            1073741824.0,
        ];
        const RATIO: [f64; 11] = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];
        const ANYTHING: [f64; 13] = [
            1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0,
        ];
        let bounds: Vec<f64> = match (per_second, unit) {
            // Divided where that is exact: 0.005 s are 5 ms, not 5.000000000000001.
            (Some(per_second), _) => SECONDS
                .map(|bound| (bound * per_second * 1000.0).round() / 1000.0)
                .to_vec(),
            (None, Some("By")) => BYTES.to_vec(),
            (None, Some("1")) => RATIO.to_vec(),
            (None, _) => ANYTHING.to_vec(),
        };
        // A unit longer than a second can round bounds into each other.
        Self::explicit(bounds).unwrap_or_else(|_| Buckets {
            bounds: SECONDS.map(|bound| bound * per_second.unwrap_or(1.0)).into(),
        })
    }
}

impl BucketsError {
    #[cold]
    fn new(message: String) -> Self {
        BucketsError { message }
    }
}

impl fmt::Display for BucketsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for BucketsError {}

/// How many cells the table of a quick search has: as many as a byte can name, so that nothing need be checked.
const CELLS: usize = 256;

/// Bounds laid out for the search, as integers in the same order.
#[derive(Debug)]
pub(crate) struct Search {
    bounds: Box<[i64]>,
    /// For nearly all histograms there is a quick way.
    quick: Option<Box<Quick>>,
}

/// The quick search: the leading bits of a float, its exponent and some bits more, name a cell; no cell has more than one
/// bound in it, so one comparison decides. No loop, and no branch to mispredict.
#[derive(Debug)]
struct Quick {
    /// How far the bits are shifted for the number of their cell.
    shift: u32,
    /// The number of the first cell, which takes all below it as well.
    first: u64,
    /// The number of the last, which takes all above it as well, counted from the first.
    last: u64,
    /// How many bounds all values of a cell are beyond.
    beyond: [u8; CELLS],
    /// The bounds, and behind them the largest integer, which no value is beyond.
    bounds: [i64; CELLS],
}

impl Search {
    pub(crate) fn new(bounds: &[f64]) -> Self {
        let bounds: Box<[i64]> = bounds.iter().map(|bound| ordered(*bound)).collect();
        let shifts = (MANTISSA_BITS - 7..=MANTISSA_BITS).rev();
        let quick = shifts
            .filter(|_| bounds.first() >= Some(&0))
            .find_map(|shift| Quick::new(&bounds, shift));
        Search {
            quick: quick.map(Box::new),
            bounds,
        }
    }

    /// The number of the bucket that `value` belongs in, which is how many bounds it is beyond, if there is a quick way and
    /// the value is finite and not negative.
    #[inline(always)]
    pub(crate) fn quick(&self, value: f64) -> Option<usize> {
        let bits = value.to_bits();
        match &self.quick {
            Some(quick) if bits < f64::INFINITY.to_bits() => Some(quick.bucket(bits)),
            _ => None,
        }
    }

    /// As [`quick`](Search::quick), whatever value and bounds are. NaN is beyond all bounds.
    pub(crate) fn bucket(&self, value: f64) -> usize {
        let value = ordered(value);
        self.bounds.partition_point(|bound| value > *bound)
    }
}

impl Quick {
    /// `None` when cells of this size are too many, or too large.
    fn new(bounds: &[i64], shift: u32) -> Option<Self> {
        // The cell below the smallest positive bound may have a bound of zero in it.
        let positive = *bounds.iter().find(|bound| **bound > 0)?;
        let first = (positive as u64 >> shift).checked_sub(1)?;
        let last = (*bounds.last()? as u64 >> shift) + 1 - first;
        if last >= CELLS as u64 || bounds.len() >= CELLS {
            return None;
        }
        let mut quick = Quick {
            shift,
            first,
            last,
            beyond: [0; CELLS],
            bounds: [i64::MAX; CELLS],
        };
        quick.bounds[..bounds.len()].copy_from_slice(bounds);
        let cells: Vec<u8> = bounds.iter().map(|bound| quick.cell(*bound as u64)).collect();
        for (at, cell) in cells.iter().enumerate() {
            // All values of further cells are beyond this bound.
            quick.beyond[*cell as usize + 1..].fill(at as u8 + 1);
        }
        cells.is_sorted_by(|cell, next| cell < next).then_some(quick)
    }

    #[inline(always)]
    fn cell(&self, bits: u64) -> u8 {
        (bits >> self.shift).saturating_sub(self.first).min(self.last) as u8
    }

    #[inline(always)]
    fn bucket(&self, bits: u64) -> usize {
        let beyond = self.beyond[self.cell(bits) as usize];
        beyond as usize + (bits as i64 > self.bounds[beyond as usize]) as usize
    }
}

/// Bits of a float that say where it is between two powers of two.
const MANTISSA_BITS: u32 = f64::MANTISSA_DIGITS - 1;

/// An integer that is to other such integers as the float is to other floats: equal zeros, and every NaN above infinity.
fn ordered(value: f64) -> i64 {
    if value.is_nan() {
        return i64::MAX;
    }
    // Adding zero leaves no negative zero. A negative float's other bits count downwards.
    let bits = (value + 0.0).to_bits() as i64;
    bits ^ (bits >> 63) & i64::MAX
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_value_belongs_in_the_first_bucket_whose_bound_it_is_within() {
        for (len, shift) in (1..40)
            .chain([Buckets::MOST])
            .flat_map(|len| [(len, 0.0), (len, 0.5), (len, 3.0)])
        {
            let bounds: Vec<f64> = (0..len).map(|at| at as f64 - shift).collect();
            let search = Search::new(&bounds);
            let special = [
                f64::NAN,
                f64::INFINITY,
                f64::NEG_INFINITY,
                -0.0,
                0.0,
                f64::MAX,
                f64::MIN_POSITIVE,
            ];
            let near = bounds
                .iter()
                .flat_map(|bound| [*bound, bound.next_up(), bound.next_down()]);
            for value in near.chain(special) {
                let expected = bounds.iter().position(|bound| value <= *bound).unwrap_or(len);
                assert_eq!(search.bucket(value), expected, "{value} among {len} bounds");
                assert!(
                    search.quick(value).is_none_or(|quick| quick == expected),
                    "{value} among {len} bounds"
                );
            }
        }
    }

    #[test]
    fn usual_bounds_have_a_quick_search() {
        let usual = [
            Buckets::default_for(Some("s"), Some(1.0)),
            Buckets::default_for(Some("ms"), Some(1000.0)),
            Buckets::default_for(Some("By"), None),
            Buckets::default_for(None, None),
            Buckets::linear(0.0, 5.0, 20).unwrap(),
            Buckets::geometric(1.0, 2.0, 30).unwrap(),
            Buckets::geometric(0.001, 1.5, 60).unwrap(),
        ];
        for buckets in usual {
            let search = Search::new(buckets.bounds());
            let near = buckets
                .bounds()
                .iter()
                .flat_map(|bound| [*bound, bound.next_up(), bound.next_down().abs()]);
            for value in near.chain([0.0, f64::MIN_POSITIVE, f64::MAX]) {
                assert_eq!(
                    search.quick(value),
                    Some(search.bucket(value)),
                    "{value} in {buckets:?}"
                );
            }
        }
        assert!(Search::new(&[-1.0, 1.0]).quick.is_none());
        assert!(Search::new(&[0.0]).quick.is_none());
    }

    #[test]
    fn boundaries_are_finite_and_strictly_increasing() {
        let message = |bounds: &[f64]| Buckets::explicit(bounds.to_vec()).unwrap_err().to_string();
        assert!(message(&[]).contains("at least one"));
        assert!(message(&[f64::INFINITY]).contains("at least one"));
        assert!(message(&[1.0, 1.0]).contains("1 and 1: must be strictly increasing"));
        assert!(message(&[f64::NAN]).contains("NaN: must be finite"));
        assert!(message(&[f64::NEG_INFINITY, 1.0]).contains("must be finite"));
        assert!(message(&vec![0.5; 1000]).contains("there are 1000"));
        assert!(Buckets::linear(0.0, 0.0, 2).is_err());
        assert!(Buckets::linear(0.0, 1.0, usize::MAX).is_err());
        assert!(Buckets::geometric(-1.0, 2.0, 3).is_err());
        assert!(Buckets::geometric(1.0, 1.0, 3).is_err());
        assert_eq!(Buckets::explicit([1.0, f64::INFINITY]).unwrap().bounds(), [1.0]);
    }

    #[test]
    fn default_bounds_fit_the_unit() {
        assert_eq!(Buckets::default_for(Some("s"), Some(1.0)).bounds()[0], 0.005);
        assert_eq!(Buckets::default_for(Some("ms"), Some(1000.0)).bounds()[0], 5.0);
        assert_eq!(Buckets::default_for(Some("h"), Some(1.0 / 3600.0)).bounds().len(), 11);
        assert_eq!(Buckets::default_for(Some("By"), None).bounds()[0], 256.0);
        assert_eq!(Buckets::default_for(None, None).bounds()[0], 1.0);
    }
}
