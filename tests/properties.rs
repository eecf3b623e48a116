//! Random sequences of operations against a model of plain maps.

use proptest::{collection::vec, prelude::*};
use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};
use tidegauge::{
    Buckets, Counter, Family, FloatCounter, Histogram, IntGauge, Losses, Registry, Snapshot, UpDownCounter, Value,
    testing::ManualClock,
};

type Labels = [String; 2];

/// Label values of all lengths and scripts, of which operations pick by number.
fn pool() -> impl Strategy<Value = Vec<Labels>> {
    let character = prop_oneof![any::<char>(), Just('a'), Just('\0'), Just('"'), Just('\\'), Just('\n')];
    let value = prop_oneof![
        4 => vec(character, 0..12).prop_map(|characters| characters.into_iter().collect()),
        1 => (0..300_usize).prop_map(|len| "v".repeat(len)),
    ];
    vec([value.clone(), value], 1..12)
}

#[derive(Clone, Debug)]
enum Operation {
    /// Records through a look-up.
    Record(usize, u64),
    Keep(usize),
    /// Records through a kept handle.
    RecordKept(usize, u64),
    Release(usize),
    Remove(usize),
    /// Keeps series whose number has this remainder by three.
    Retain(usize),
    Clear,
    /// Takes a snapshot and keeps it.
    Hold,
    Advance(u64),
    /// Another thread does the next recording.
    OnAnotherThread,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    use Operation::*;
    let amount = prop_oneof![20 => 0..1000_u64, 1 => Just(1 << 47), 1 => Just((1 << 47) - 1)];
    let operation = prop_oneof![
        20 => (any::<usize>(), amount.clone()).prop_map(|(at, amount)| Record(at, amount)),
        6 => any::<usize>().prop_map(Keep),
        12 => (any::<usize>(), amount).prop_map(|(at, amount)| RecordKept(at, amount)),
        3 => any::<usize>().prop_map(Release),
        6 => any::<usize>().prop_map(Remove),
        1 => (0..3_usize).prop_map(Retain),
        1 => Just(Clear),
        2 => Just(Hold),
        3 => (1..5_u64).prop_map(Advance),
        6 => Just(OnAnotherThread),
    ];
    vec(operation, 1..120)
}

/// An instrument as the model needs it: amounts add up.
trait Adds: Clone + Send + Sync + Sized + 'static {
    fn family(registry: &Registry, limit: usize) -> Family<Self, 2>
    where
        Self: tidegauge::Instrument;
    fn add(&self, amount: u64);
    fn add_to(family: &Family<Self, 2>, labels: &Labels, amount: u64)
    where
        Self: tidegauge::Instrument;
    fn total(value: Value<'_>) -> u64;
    /// How many writes it takes the losses to be when `amount` was late.
    fn late(amount: u64) -> u64;
}

macro_rules! adds {
    ($($instrument:ident $make:ident |$it:ident, $amount:ident| $add:expr, $value:pat => $total:expr, $late:expr;)*) => { $(
        impl Adds for $instrument {
            fn family(registry: &Registry, limit: usize) -> Family<Self, 2> {
                registry.$make("it", "It.").labels(["a", "b"]).limit(limit).register().unwrap()
            }

            fn add(&self, $amount: u64) {
                let $it = self;
                $add;
            }

            fn add_to(family: &Family<Self, 2>, labels: &Labels, $amount: u64) {
                let $it = family.with(labels);
                $add;
            }

            fn total(value: Value<'_>) -> u64 {
                match value {
                    $value => $total,
                    other => panic!("{other:?}"),
                }
            }

            fn late($amount: u64) -> u64 {
                $late
            }
        }
    )* };
}
adds! {
    Counter counter |it, amount| it.add(amount), Value::Counter(count) => count, amount;
    FloatCounter float_counter |it, amount| it.add(amount as f64), Value::FloatCounter(sum) => sum as u64, { let _ = amount; 1 };
    IntGauge int_gauge |it, amount| it.add(amount as i64), Value::IntGauge(value) => value as u64, { let _ = amount; 1 };
    UpDownCounter up_down_counter |it, amount| it.sub(amount as i64), Value::IntGauge(value) => value.unsigned_abs(), amount;
    Histogram histogram |it, amount| it.observe_many((amount % 3) as f64, amount), Value::Histogram(value) => value.count(), amount;
}

/// What the crate should do, in plain maps.
#[derive(Default)]
struct Model {
    limit: usize,
    /// The life and the total of each series.
    series: BTreeMap<Labels, (u64, u64)>,
    lives: u64,
    overflow: Option<u64>,
    /// What a kept handle leads to: a life of a label set, or the overflow series.
    kept: Vec<Option<(Labels, u64)>>,
    losses: Losses,
    now: u64,
    born: BTreeMap<Labels, u64>,
}

impl Model {
    /// The life that a look-up leads to.
    fn look_up(&mut self, labels: &Labels) -> Option<(Labels, u64)> {
        if let Some((life, _)) = self.series.get(labels) {
            return Some((labels.clone(), *life));
        }
        if self.series.len() == self.limit {
            self.losses.past_limit += 1;
            self.overflow.get_or_insert(0);
            return None;
        }
        self.lives += 1;
        self.series.insert(labels.clone(), (self.lives, 0));
        self.born.insert(labels.clone(), self.now);
        Some((labels.clone(), self.lives))
    }

    fn add(&mut self, to: &Option<(Labels, u64)>, amount: u64, late: u64) {
        match to {
            None => *self.overflow.as_mut().expect("a look-up led here") += amount,
            Some((labels, life)) => match self.series.get_mut(labels) {
                Some((own, total)) if own == life => *total += amount,
                _ => self.losses.late_writes += late,
            },
        }
    }
}

/// All series of the one family: totals and births by labels, and the overflow series' total.
type Shown = (BTreeMap<Labels, (u64, u64)>, Option<u64>);

fn shown<I: Adds>(snapshot: &Snapshot) -> Shown {
    let mut shown = (BTreeMap::new(), None);
    for series in snapshot.family("it").unwrap().series() {
        let total = I::total(series.value());
        if series.is_overflow() {
            assert_eq!(shown.1.replace(total), None, "there is one overflow series");
            continue;
        }
        let born = series
            .created()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs()
            - 1_700_000_000;
        let labels = [
            series.label("a").unwrap().to_owned(),
            series.label("b").unwrap().to_owned(),
        ];
        assert!(
            shown.0.insert(labels, (total, born)).is_none(),
            "a label set is there once"
        );
    }
    shown
}

fn check<I: Adds + tidegauge::Instrument>(limit: usize, pool: &[Labels], operations: &[Operation]) {
    let clock = ManualClock::new();
    let registry = Registry::builder().clock(clock.clone()).build().unwrap();
    let family = I::family(&registry, limit);
    let mut kept: Vec<I> = Vec::new();
    let mut held: Vec<(Shown, Snapshot)> = Vec::new();
    let mut elsewhere = false;
    let mut model = Model {
        limit,
        ..Model::default()
    };
    let run = |elsewhere: &mut bool, work: &(dyn Fn() + Sync)| {
        if std::mem::take(elsewhere) {
            std::thread::scope(|scope| scope.spawn(work).join().unwrap());
        } else {
            work();
        }
    };
    for operation in operations {
        match operation {
            Operation::Record(at, amount) => {
                let labels = &pool[at % pool.len()];
                run(&mut elsewhere, &|| I::add_to(&family, labels, *amount));
                let to = model.look_up(labels);
                model.add(&to, *amount, I::late(*amount));
            }
            Operation::Keep(at) => {
                let labels = &pool[at % pool.len()];
                kept.push(family.handle(labels));
                let to = model.look_up(labels);
                model.kept.push(to);
            }
            Operation::RecordKept(at, amount) if !kept.is_empty() => {
                let at = at % kept.len();
                let handle = &kept[at];
                run(&mut elsewhere, &|| handle.add(*amount));
                let to = model.kept[at].clone();
                model.add(&to, *amount, I::late(*amount));
            }
            Operation::Release(at) if !kept.is_empty() => {
                let at = at % kept.len();
                drop(kept.swap_remove(at));
                model.kept.swap_remove(at);
            }
            Operation::RecordKept(..) | Operation::Release(_) => {}
            Operation::Remove(at) => {
                let labels = &pool[at % pool.len()];
                assert_eq!(family.remove(labels), model.series.remove(labels).is_some());
            }
            Operation::Retain(remainder) => {
                family.retain(|series| I::total(series.value()) as usize % 3 == *remainder);
                model.series.retain(|_, (_, total)| *total as usize % 3 == *remainder);
            }
            Operation::Clear => {
                family.clear();
                model.series.clear();
            }
            Operation::Hold => {
                let snapshot = registry.snapshot();
                held.push((shown::<I>(&snapshot), snapshot));
            }
            Operation::Advance(seconds) => {
                clock.advance(Duration::from_secs(*seconds));
                model.now += seconds;
            }
            Operation::OnAnotherThread => elsewhere = true,
        }
        let expected = model
            .series
            .iter()
            .map(|(labels, (_, total))| (labels.clone(), (*total, model.born[labels])));
        assert_eq!(
            shown::<I>(&registry.snapshot()),
            (expected.collect(), model.overflow),
            "after {operation:?}"
        );
        assert_eq!(registry.losses(), model.losses, "after {operation:?}");
        assert_eq!(family.len(), model.series.len());
    }
    for (before, snapshot) in &held {
        assert_eq!(&shown::<I>(snapshot), before, "a snapshot stays as it was");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn counters_are_as_the_model(limit in 0..12_usize, pool in pool(), operations in operations()) {
        check::<Counter>(limit, &pool, &operations);
    }

    #[test]
    fn float_counters_are_as_the_model(limit in 0..12_usize, pool in pool(), operations in operations()) {
        check::<FloatCounter>(limit, &pool, &operations);
    }

    #[test]
    fn gauges_are_as_the_model(limit in 0..12_usize, pool in pool(), operations in operations()) {
        check::<IntGauge>(limit, &pool, &operations);
    }

    #[test]
    fn up_down_counters_are_as_the_model(limit in 0..12_usize, pool in pool(), operations in operations()) {
        check::<UpDownCounter>(limit, &pool, &operations);
    }

    #[test]
    fn histograms_are_as_the_model(limit in 0..12_usize, pool in pool(), operations in operations()) {
        check::<Histogram>(limit, &pool, &operations);
    }

    #[test]
    fn every_value_is_in_the_first_bucket_whose_bound_it_does_not_exceed(
        bounds in vec(-1e3..1e3_f64, 1..40),
        values in vec(prop_oneof![any::<f64>(), -1e3..1e3_f64], 0..40),
    ) {
        let mut bounds = bounds;
        bounds.sort_by(f64::total_cmp);
        bounds.dedup();
        let registry = Registry::new();
        let buckets = Buckets::explicit(bounds.clone()).unwrap();
        let sizes = registry.histogram("size", "Size.").buckets(buckets).register().unwrap();
        let mut expected = vec![0; bounds.len() + 1];
        // On the bounds themselves too.
        for value in values.iter().chain(&bounds).copied() {
            sizes.observe(value);
            expected[bounds.iter().position(|bound| value <= *bound).unwrap_or(bounds.len())] += 1;
        }
        prop_assert_eq!(sizes.get().counts().to_vec(), expected);
        let finite = values.iter().chain(&bounds).filter(|value| value.is_finite());
        let (mut sum, mut size) = (0.0, 0.0);
        for value in finite {
            sum += value;
            size += value.abs();
        }
        let close = (sizes.get().sum() - sum).abs() <= size * 1e-12;
        prop_assert!(close || !f64::is_finite(size), "{} is not {sum}", sizes.get().sum());
    }

    #[test]
    fn counters_of_threads_and_amounts_add_up(amounts in vec(vec(any::<u64>(), 0..20), 1..6)) {
        let registry = Registry::new();
        let jobs = registry.counter("jobs_total", "Jobs.").register().unwrap();
        let balance = registry.up_down_counter("balance", "Balance.").register().unwrap();
        std::thread::scope(|scope| {
            for amounts in &amounts {
                let (jobs, balance) = (&jobs, &balance);
                scope.spawn(move || for amount in amounts {
                    jobs.add(*amount);
                    balance.add(*amount as i64);
                });
            }
        });
        let total = amounts.iter().flatten().fold(0_u64, |total, amount| total.wrapping_add(*amount));
        prop_assert_eq!((jobs.get(), balance.get()), (total, total as i64));
    }
}
