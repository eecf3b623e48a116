//! The data every library is fed: label values, orders and amounts, made once from a fixed seed.

use std::sync::OnceLock;

/// Values of the three labels `method`, `route` and `status`, in this order.
pub type Labels = [&'static str; 3];

/// The upper bounds of every histogram; one more bucket takes what is above them.
pub const BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Series that the lookups go to: 4 methods, 64 routes, 4 statuses.
pub const LOOKUP_SERIES: usize = 1_024;

/// Length of the precomputed sequences: too long for a branch predictor to learn by heart.
const SEQUENCE: usize = 16_384;

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "DELETE", "PATCH"];
const STATUSES: [&str; 5] = ["200", "201", "304", "404", "500"];
const LOOKUP_ROUTES: usize = 64;
const LOOKUP_CHOICES: usize = 4;

/// Sequences that recording walks through, over and over.
pub struct Data {
    observations: Box<[f64; SEQUENCE]>,
    amounts: Box<[f64; SEQUENCE]>,
    lookups: Box<[LookupIndex; SEQUENCE]>,
    routes: [&'static str; LOOKUP_ROUTES],
}

/// Which of the label values a lookup uses; small, so that the tables stay in the first cache.
#[derive(Clone, Copy)]
struct LookupIndex {
    method: u8,
    route: u8,
    status: u8,
}

impl Data {
    /// The one set of data of this process.
    pub fn shared() -> &'static Self {
        static DATA: OnceLock<Data> = OnceLock::new();
        DATA.get_or_init(Self::new)
    }

    fn new() -> Self {
        let mut random = Random::new();
        let observations = Box::new(std::array::from_fn(|_| observation(&mut random)));
        // Quarters: their sums are exact in any order, so a total can be compared for equality.
        let amounts = Box::new(std::array::from_fn(|_| 0.25 * (1 + random.below(8)) as f64));
        let lookups = Box::new(std::array::from_fn(|_| LookupIndex {
            method: random.below(LOOKUP_CHOICES) as u8,
            route: random.below(LOOKUP_ROUTES) as u8,
            status: random.below(LOOKUP_CHOICES) as u8,
        }));
        let names = routes(LOOKUP_ROUTES);
        Self {
            observations,
            amounts,
            lookups,
            routes: std::array::from_fn(|index| names[index]),
        }
    }

    /// Every value a `method` label takes.
    pub fn methods() -> &'static [&'static str] {
        &METHODS
    }

    /// Every value a `status` label takes.
    pub fn statuses() -> &'static [&'static str] {
        &STATUSES
    }

    /// The label values of every lookup series.
    pub fn lookup_labels(&self) -> Vec<Labels> {
        let mut labels = Vec::with_capacity(LOOKUP_SERIES);
        for method in &METHODS[..LOOKUP_CHOICES] {
            for route in &self.routes {
                for status in &STATUSES[..LOOKUP_CHOICES] {
                    labels.push([*method, *route, *status]);
                }
            }
        }
        labels
    }
}

/// A value for a histogram: every bucket is as likely, in no order, on a grid whose sums are exact.
fn observation(random: &mut Random) -> f64 {
    const GRID: f64 = 16_384.0;
    let bucket = random.below(BOUNDS.len() + 1);
    let lower = if bucket == 0 { 0.0 } else { BOUNDS[bucket - 1] };
    let upper = BOUNDS.get(bucket).copied().unwrap_or(20.0);
    let within = lower + (upper - lower) * random.fraction();
    let first_above = (lower * GRID).floor() + 1.0;
    ((within * GRID).floor().max(first_above)) / GRID
}

/// What one thread does in one go: so many operations, from its own place in the sequences.
#[derive(Clone, Copy)]
pub struct Lane {
    /// How often to record.
    pub operations: u64,
    /// The thread's number, from 0.
    pub thread: usize,
}

impl Lane {
    fn offset(self) -> usize {
        self.thread * 4_099
    }

    /// Calls `record` once an operation.
    #[inline(always)]
    pub fn repeat(self, mut record: impl FnMut()) {
        for _ in 0..self.operations {
            record();
        }
    }

    /// Calls `record` with the next value for a histogram.
    #[inline(always)]
    pub fn observations(self, mut record: impl FnMut(f64)) {
        let values = &Data::shared().observations;
        for index in self.offset()..self.offset() + self.operations as usize {
            record(values[index % SEQUENCE]);
        }
    }

    /// Calls `record` with the next amount; every thread has the same, and ends with the same.
    #[inline(always)]
    pub fn amounts(self, mut record: impl FnMut(f64)) {
        let amounts = &Data::shared().amounts;
        for index in 0..self.operations as usize {
            record(amounts[index % SEQUENCE]);
        }
    }

    /// Calls `record` with the label values of the next series.
    #[inline(always)]
    pub fn lookups(self, mut record: impl FnMut(Labels)) {
        let data = Data::shared();
        for index in self.offset()..self.offset() + self.operations as usize {
            let chosen = data.lookups[index % SEQUENCE];
            record([
                METHODS[usize::from(chosen.method) % LOOKUP_CHOICES],
                data.routes[usize::from(chosen.route) % LOOKUP_ROUTES],
                STATUSES[usize::from(chosen.status) % LOOKUP_CHOICES],
            ]);
        }
    }

    /// The sum of what [`Lane::observations`] gives.
    pub fn sum_of_observations(self) -> f64 {
        sum(&Data::shared().observations[..], self.offset(), self.operations)
    }

    /// The sum of what [`Lane::amounts`] gives.
    pub fn sum_of_amounts(self) -> f64 {
        sum(&Data::shared().amounts[..], 0, self.operations)
    }

    /// The last of what [`Lane::amounts`] gives.
    pub fn last_amount(self) -> f64 {
        let amounts = &Data::shared().amounts;
        amounts[(self.operations as usize).saturating_sub(1) % SEQUENCE]
    }
}

fn sum(sequence: &[f64], offset: usize, operations: u64) -> f64 {
    let rounds = operations as usize / sequence.len();
    let rest = operations as usize % sequence.len();
    let whole: f64 = sequence.iter().sum();
    let part: f64 = (offset..offset + rest)
        .map(|index| sequence[index % sequence.len()])
        .sum();
    rounds as f64 * whole + part
}

/// So many label sets, in the order in which a process happens to meet them.
pub struct Population {
    routes: Vec<&'static str>,
    series_per_route: usize,
    order: Vec<u32>,
}

impl Population {
    /// A population of `series` label sets, a multiple of 25: each route is met with each of five
    /// methods and five statuses.
    pub fn new(series: usize) -> Self {
        Self::with_series_per_route(series, METHODS.len() * STATUSES.len())
    }

    /// A population in which no two series have their route in common.
    pub fn of_unique_routes(series: usize) -> Self {
        Self::with_series_per_route(series, 1)
    }

    fn with_series_per_route(series: usize, series_per_route: usize) -> Self {
        assert_eq!(series % series_per_route, 0, "routes must come out even");
        let mut order: Vec<u32> = (0..series as u32).collect();
        let mut random = Random::new();
        for index in (1..order.len()).rev() {
            order.swap(index, random.below(index + 1));
        }
        Self {
            routes: routes(series / series_per_route),
            series_per_route,
            order,
        }
    }

    /// How many label sets there are.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// The label values in the order of their first use.
    pub fn iter(&self) -> impl Iterator<Item = Labels> + '_ {
        self.order.iter().map(|&index| {
            let index = index as usize;
            let route = index / self.series_per_route;
            [
                METHODS[index % METHODS.len()],
                self.routes[route],
                STATUSES[index / METHODS.len() % STATUSES.len()],
            ]
        })
    }
}

/// The first `count` routes. They live as long as the process: a few libraries only take such.
fn routes(count: usize) -> Vec<&'static str> {
    static ROUTES: OnceLock<Vec<&'static str>> = OnceLock::new();
    const MOST: usize = 110_000;
    let all = ROUTES.get_or_init(|| {
        let text: &'static str = (0..MOST)
            .map(|number| format!("/api/v1/resources/{number:06}"))
            .collect::<String>()
            .leak();
        let width = text.len() / MOST;
        (0..MOST)
            .map(|number| &text[number * width..(number + 1) * width])
            .collect()
    });
    all[..count].to_vec()
}

/// A small generator with a fixed seed (xorshift*), so that every run and library sees the same.
struct Random(u64);

impl Random {
    fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_population_holds_each_label_set_once() {
        for population in [Population::new(2_500), Population::of_unique_routes(2_500)] {
            let distinct: HashSet<Labels> = population.iter().collect();
            assert_eq!(distinct.len(), population.len());
        }
    }

    #[test]
    fn observations_fall_into_every_bucket() {
        let mut buckets = [0; BOUNDS.len() + 1];
        let lane = Lane {
            operations: SEQUENCE as u64,
            thread: 1,
        };
        lane.observations(|value| buckets[BOUNDS.partition_point(|bound| value > *bound)] += 1);
        assert!(buckets.iter().all(|count| *count > SEQUENCE / 24));
    }

    #[test]
    fn sums_are_those_of_the_sequences() {
        let lane = Lane {
            operations: SEQUENCE as u64 + 77,
            thread: 3,
        };
        let mut observed = 0.0;
        lane.observations(|value| observed += value);
        assert_eq!(observed, lane.sum_of_observations());
        let mut added = 0.0;
        let mut last = 0.0;
        lane.amounts(|amount| {
            added += amount;
            last = amount;
        });
        assert_eq!(added, lane.sum_of_amounts());
        assert_eq!(last, lane.last_amount());
    }

    #[test]
    fn lookups_use_only_the_lookup_series() {
        let known: HashSet<Labels> = Data::shared().lookup_labels().into_iter().collect();
        assert_eq!(known.len(), LOOKUP_SERIES);
        let lane = Lane {
            operations: SEQUENCE as u64,
            thread: 0,
        };
        let mut used = HashSet::new();
        lane.lookups(|labels| {
            used.insert(labels);
        });
        assert_eq!(used, known);
    }
}
