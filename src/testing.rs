//! For the tests of applications and libraries that record metrics: values read by name, a registry that stands in for the
//! global one, and a clock that tests move. And for those who plan for what they push to: when a process would push.
//!
//! ```
//! use tidegauge::{LazyCounter, testing};
//!
//! static ORDERS: LazyCounter = LazyCounter::new("orders_total", "Orders taken.");
//!
//! fn order(books: u64) {
//!     if books > 0 {
//!         ORDERS.inc();
//!     }
//! }
//!
//! testing::with_global(|registry| {
//!     order(2);
//!     testing::assert_value(registry, "orders_total", [], 1.0);
//!     testing::assert_change(registry, "orders_total", [], 0.0, || order(0));
//! });
//! ```

use crate::{
    clock::Clock,
    exporter::{random::Random, schedule::Schedule},
    registry::{Registry, global::stand_in},
    snapshot::{SeriesSnapshot, Snapshot, Value},
    sync::{LongMutex, Mutex},
};
use std::{
    iter,
    sync::{Arc, PoisonError},
    task::Waker,
    time::Duration,
};

/// The value of a series: what a counter or a gauge stands at, or how many observations a histogram has counted. `None` if
/// there is no such series.
///
/// The name is the registered one or Prometheus'. The labels are those that matter: others, such as the registry's own, may be
/// there, but only one series may fit.
///
/// # Panics
///
/// If several series fit.
pub fn value<const N: usize>(registry: &Registry, name: &str, labels: [(&str, &str); N]) -> Option<f64> {
    let snapshot = registry.snapshot();
    find(&snapshot, name, &labels).map(|series| match series.value() {
        Value::Counter(count) => count as f64,
        Value::FloatCounter(sum) => sum,
        Value::Gauge(value) => value,
        Value::IntGauge(value) => value as f64,
        Value::Histogram(histogram) => histogram.count() as f64,
        Value::Samples(samples) => samples.len() as f64,
    })
}

/// Asserts the value of a series; see [`value`].
///
/// # Panics
///
/// If the series has another value or is not there; the message shows what is.
#[track_caller]
pub fn assert_value<const N: usize>(registry: &Registry, name: &str, labels: [(&str, &str); N], expected: f64) {
    let found = value(registry, name, labels);
    assert!(
        found == Some(expected),
        "{name}{labels:?} is {}, not {expected}; there are {:#?}",
        found.map_or("not there".to_owned(), |found| found.to_string()),
        registry.snapshot().family(name),
    );
}

/// Runs `block` and asserts by how much it changes the value of a series, one that is not there counting as 0; see [`value`].
///
/// # Panics
///
/// If the value changes by something else.
#[track_caller]
pub fn assert_change<R, const N: usize>(
    registry: &Registry,
    name: &str,
    labels: [(&str, &str); N],
    expected: f64,
    block: impl FnOnce() -> R,
) -> R {
    let before = value(registry, name, labels).unwrap_or(0.0);
    let result = block();
    let after = value(registry, name, labels).unwrap_or(0.0);
    assert!(
        after - before == expected,
        "{name}{labels:?} went from {before} to {after}, a change of {}, not {expected}",
        after - before,
    );
    result
}

fn find<'a>(snapshot: &'a Snapshot, name: &str, labels: &[(&str, &str)]) -> Option<SeriesSnapshot<'a>> {
    let fits = |series: &SeriesSnapshot<'_>| labels.iter().all(|(label, value)| series.label(label) == Some(value));
    let mut fitting = snapshot.family(name)?.series().filter(fits);
    let first = fitting.next();
    assert!(
        fitting.next().is_none(),
        "{name}{labels:?} fits several series; name more of their labels"
    );
    first
}

/// Runs `test` with a new registry in the place of the global one, which statics register in and count in meanwhile, on all
/// threads. Such tests wait for each other, so one within another waits for ever; the global registry does not see what they
/// record.
///
/// A thread that `test` does not wait for may see either registry.
pub fn with_global<R>(test: impl FnOnce(&Registry) -> R) -> R {
    static ONE_AT_A_TIME: LongMutex<()> = LongMutex::new(());
    /// Gives the global registry its place back, should the test panic too.
    struct Reign;
    impl Drop for Reign {
        fn drop(&mut self) {
            stand_in(None);
        }
    }

    // The lock guards nothing that a test that panics could leave half done.
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let registry = Registry::new();
    stand_in(Some(registry.clone()));
    let _reign = Reign;
    test(&registry)
}

/// A clock that moves when it is told to. Its clones are one clock.
///
/// ```
/// use std::time::Duration;
/// use tidegauge::{Registry, testing::ManualClock};
///
/// let clock = ManualClock::new();
/// let registry = Registry::builder().clock(clock.clone()).build().unwrap();
/// let duration = registry.histogram("job_duration_seconds", "Time a job takes.").register().unwrap();
/// duration.time(|| clock.advance(Duration::from_secs(3)));
/// assert_eq!(duration.get().sum(), 3.0);
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock {
    times: Arc<Mutex<Times>>,
}

#[derive(Debug)]
struct Times {
    monotonic: Duration,
    unix: Duration,
    /// Who waits for it to move; those that are gone are woken in vain, and forgotten.
    wakers: Vec<Waker>,
}

impl ManualClock {
    /// A clock that stands at 0, and at 1,700,000,000 seconds since the Unix epoch.
    pub fn new() -> Self {
        let times = Times {
            monotonic: Duration::ZERO,
            unix: Duration::from_secs(1_700_000_000),
            wakers: Vec::new(),
        };
        ManualClock {
            times: Arc::new(Mutex::new(times)),
        }
    }

    /// Moves on.
    pub fn advance(&self, by: Duration) {
        let wakers = {
            let mut times = self.times.lock();
            times.monotonic += by;
            times.unix += by;
            times.wakers.clone()
        };
        wakers.iter().for_each(Waker::wake_by_ref);
    }

    /// Sets the time since the Unix epoch, as an administrator might; the monotonic time stays.
    pub fn set_unix(&self, unix: Duration) {
        self.times.lock().unix = unix;
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        ManualClock::new()
    }
}

impl Clock for ManualClock {
    fn monotonic(&self) -> Duration {
        self.times.lock().monotonic
    }

    fn unix(&self) -> Duration {
        self.times.lock().unix
    }

    fn wake_on_change(&self, waker: &Waker) {
        let mut times = self.times.lock();
        if !times.wakers.iter().any(|known| known.will_wake(waker)) {
            times.wakers.push(waker.clone());
        }
    }
}

/// When one process would collect: the times of an [`Exporter`](crate::Exporter) with these settings since it was started, without end,
/// by the code that it waits by itself. Another `seed` is another process.
///
/// It is for capacity planning: the times of as many processes as there are to be, binned, are what a server has to bear. It
/// takes a collection as done at once; what is sent begins then, and may be spread over the interval.
///
/// ```
/// use std::time::Duration;
/// use tidegauge::testing;
///
/// let interval = Duration::from_secs(10);
/// let mut pushes_of_each_second = [0; 20];
/// for process in 0..1400 {
///     let times = testing::collection_times(interval, true, 0.1, process);
///     for time in times.take_while(|time| *time < 2 * interval) {
///         pushes_of_each_second[time.as_secs() as usize] += 1;
///     }
/// }
/// // Instead of 1,400 in one of ten.
/// assert!(pushes_of_each_second.iter().skip(2).all(|pushes| *pushes < 200));
/// ```
///
/// # Panics
///
/// If the interval is zero, or `jitter` is not a part of the interval, from 0 to 1.
pub fn collection_times(interval: Duration, phase: bool, jitter: f64, seed: u64) -> impl Iterator<Item = Duration> {
    assert!(
        !interval.is_zero(),
        "interval: must not be zero; a second is short already"
    );
    assert!(
        (0.0..=1.0).contains(&jitter),
        "jitter: {jitter} is not a part of the interval; take 0 to 1"
    );
    let mut schedule = Schedule::new(interval, phase, jitter, Duration::ZERO, Random::new(seed));
    iter::repeat_with(move || {
        let time = schedule.next();
        schedule.advance(time);
        time
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    #[test]
    fn without_phase_and_jitter_all_processes_collect_at_once() {
        for process in 0..100 {
            let times: Vec<_> = collection_times(INTERVAL, false, 0.0, process).take(3).collect();
            assert_eq!(times, [INTERVAL, 2 * INTERVAL, 3 * INTERVAL]);
        }
    }

    #[test]
    fn with_phase_and_jitter_each_collects_once_an_interval_and_all_together_evenly() {
        let mut tenths = [0; 10];
        for process in 0..10_000 {
            let times: Vec<_> = collection_times(INTERVAL, true, 0.1, process).take(11).collect();
            for pair in times.windows(2) {
                let between = pair[1] - pair[0];
                assert!(
                    (INTERVAL * 9 / 10..INTERVAL * 11 / 10).contains(&between),
                    "{process}: {between:?}"
                );
            }
            tenths[(times[10].as_millis() % 10_000 / 1000) as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (850..1150).contains(count)), "{tenths:?}");
    }

    #[test]
    fn a_process_can_be_repeated() {
        let times = |seed| collection_times(INTERVAL, true, 0.5, seed).take(20).collect::<Vec<_>>();
        assert_eq!(times(7), times(7));
        assert_ne!(times(7), times(8));
    }

    #[test]
    #[should_panic(expected = "jitter: 1.5 is not a part of the interval")]
    fn a_jitter_that_no_exporter_takes_is_named() {
        let _ = collection_times(INTERVAL, true, 1.5, 0);
    }
}
