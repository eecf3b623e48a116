//! When to send again: pure decisions from an answer and a time to a wait, or to giving up.
//!
//! A payload that failed is repeated after an exponential backoff with full jitter, as long as its time and the retry budget
//! last. When several sends in a row have failed, the circuit opens: nothing is sent at all for a while, then one payload as a
//! probe. Both waits are random, so that a fleet that lost its collector does not come back together.

use super::random::Random;
use std::time::Duration;

/// How an exporter repeats what failed; see [`Exporter::retry`](crate::Exporter::retry).
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct RetryPolicy {
    pub(crate) initial: Duration,
    pub(crate) most: Duration,
    pub(crate) retry_for: Option<Duration>,
    pub(crate) open_after: u32,
    pub(crate) most_asked: Duration,
}

impl RetryPolicy {
    /// Every setting at its default.
    pub fn new() -> Self {
        RetryPolicy {
            initial: Duration::from_secs(1),
            most: Duration::from_secs(30),
            retry_for: None,
            open_after: 5,
            most_asked: Duration::from_secs(3600),
        }
    }

    /// The longest wait before the first repetition, by default 1 s; it doubles with each further one. The waits themselves are
    /// random between nothing and that ("full jitter").
    pub fn initial(mut self, wait: Duration) -> Self {
        self.initial = wait;
        self
    }

    /// What the longest wait never exceeds, by default 30 s; it is also the longest that an open circuit waits for its next probe.
    pub fn most(mut self, wait: Duration) -> Self {
        self.most = wait;
        self
    }

    /// How long one payload is tried, from its first send to the beginning of its last, by default what the destination's configuration asks
    /// for, or 30 s. Then its points are carried over to the next payload.
    pub fn retry_for(mut self, time: Duration) -> Self {
        self.retry_for = Some(time);
        self
    }

    /// After how many failures in a row the circuit opens, by default 5.
    pub fn open_after(mut self, failures: u32) -> Self {
        self.open_after = failures.max(1);
        self
    }

    /// The longest that the far end can ask to wait by `Retry-After`, by default an hour.
    pub fn most_asked(mut self, wait: Duration) -> Self {
        self.most_asked = wait;
        self
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy::new()
    }
}

/// What becomes of a payload that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It is sent again when the wait is over.
    Again,
    /// It is given up.
    GiveUp,
}

/// The state of one exporter's waits.
#[derive(Debug)]
pub(crate) struct Retry {
    policy: RetryPolicy,
    retry_for: Duration,
    random: Random,
    failures: u32,
    /// Nothing is sent before.
    until: Duration,
    /// The far end has asked for the wait.
    asked: bool,
    /// See [`BUDGET`].
    budget: u32,
}

/// What a retry costs; a payload that is delivered earns one. So in the long run there is one retry for five payloads.
const RETRY: u32 = 5;
/// The most that can be saved, and what there is at first.
const BUDGET: u32 = 10 * RETRY;

impl Retry {
    pub(crate) fn new(policy: RetryPolicy, retry_for: Duration, random: Random) -> Self {
        Retry {
            policy,
            retry_for,
            random,
            failures: 0,
            until: Duration::ZERO,
            asked: false,
            budget: BUDGET,
        }
    }

    /// Until when nothing is to be sent, if that is later than now.
    pub(crate) fn waits(&self, now: Duration) -> Option<Duration> {
        (self.until > now).then_some(self.until)
    }

    /// As [`waits`](Retry::waits), if the far end has asked for it.
    pub(crate) fn asked(&self, now: Duration) -> Option<Duration> {
        self.waits(now).filter(|_| self.asked)
    }

    /// Whether the circuit is open, or half-open.
    pub(crate) fn is_open(&self) -> bool {
        self.failures >= self.policy.open_after
    }

    /// Ends a wait that the far end has not asked for.
    pub(crate) fn hurry(&mut self, now: Duration) {
        if self.asked(now).is_none() {
            self.until = now;
        }
    }

    /// Waits, for another reason than a failure.
    pub(crate) fn pause(&mut self, until: Duration) {
        if until > self.until {
            self.until = until;
            self.asked = false;
        }
    }

    /// The far end is there, whatever it says of the data.
    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
        self.asked = false;
        self.budget = (self.budget + 1).min(BUDGET);
    }

    /// The far end does not take anything, and a repetition at once would not help: counts towards the circuit.
    pub(crate) fn refused(&mut self, now: Duration) {
        self.failures = self.failures.saturating_add(1);
        if self.is_open() {
            self.until = now.saturating_add(self.backoff());
            self.asked = false;
        }
    }

    /// A send failed of a payload whose first send began at `first`; the far end may have asked to wait.
    pub(crate) fn failed(&mut self, now: Duration, first: Duration, asked: Option<Duration>) -> Decision {
        self.failures = self.failures.saturating_add(1);
        let wait = self.backoff();
        self.wait(now, wait, asked);
        if self.is_open() || self.budget < RETRY || self.until.saturating_sub(first) > self.retry_for {
            return Decision::GiveUp;
        }
        self.budget -= RETRY;
        Decision::Again
    }

    /// As [`failed`](Retry::failed), for the time of `attempt`, while somebody waits for a flush: it is tried for as long as that has
    /// time, whatever it costs and however long the far end has been away.
    pub(crate) fn failed_in_flush(&mut self, now: Duration, attempt: u32, asked: Option<Duration>) -> Decision {
        self.failures = self.failures.saturating_add(1);
        let wait = self.most_after(attempt).mul_f64(self.random.fraction());
        self.wait(now, wait, asked);
        Decision::Again
    }

    fn wait(&mut self, now: Duration, mut wait: Duration, asked: Option<Duration>) {
        if let Some(asked) = asked {
            // On top of what was asked for, so that clients do not come back together.
            wait = wait.saturating_add(asked.min(self.policy.most_asked));
        }
        self.until = now.saturating_add(wait);
        self.asked = asked.is_some();
    }

    /// A random wait of `wait` on average.
    pub(crate) fn spread(&mut self, wait: Duration) -> Duration {
        wait.mul_f64(0.5 + self.random.fraction())
    }

    fn most_after(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        self.policy.initial.saturating_mul(1 << doublings).min(self.policy.most)
    }

    /// A random wait, longer on average with every failure.
    fn backoff(&mut self) -> Duration {
        let most = self.most_after(self.failures);
        let mut fraction = self.random.fraction();
        if self.is_open() {
            // Not at once: there was time enough for that before.
            fraction = 0.5 + fraction / 2.0;
        }
        most.mul_f64(fraction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn retry(policy: RetryPolicy) -> Retry {
        Retry::new(policy, 30 * SECOND, Random::new(3))
    }

    #[test]
    fn waits_double_up_to_the_most_and_are_random() {
        let mut longest = [Duration::ZERO; 8];
        let mut sums = [Duration::ZERO; 8];
        for seed in 0..500 {
            let mut retry = Retry::new(RetryPolicy::new().open_after(100), 30 * SECOND, Random::new(seed));
            for (failures, (longest, sum)) in longest.iter_mut().zip(&mut sums).enumerate() {
                let now = SECOND * 100 * failures as u32;
                retry.failed(now, now, None);
                let wait = retry.waits(now).unwrap_or(now) - now;
                *longest = (*longest).max(wait);
                *sum += wait;
            }
        }
        for (failures, (longest, sum)) in longest.into_iter().zip(sums).enumerate() {
            let most = (SECOND * 2_u32.pow(failures as u32)).min(30 * SECOND);
            assert!(
                longest <= most && longest > most.mul_f64(0.95),
                "{failures}: {longest:?}"
            );
            let mean = sum / 500;
            assert!(
                mean > most.mul_f64(0.4) && mean < most.mul_f64(0.6),
                "{failures}: {mean:?}"
            );
        }
    }

    #[test]
    fn a_wait_that_was_asked_for_is_kept_and_capped() {
        let mut retry = retry(RetryPolicy::new().most_asked(60 * SECOND));
        assert_eq!(retry.failed(SECOND, SECOND, Some(5 * SECOND)), Decision::Again);
        assert!(
            retry
                .asked(5 * SECOND)
                .is_some_and(|until| until >= 6 * SECOND && until <= 7 * SECOND)
        );
        retry.hurry(2 * SECOND);
        assert!(retry.waits(5 * SECOND).is_some(), "the far end's wish stands");
        assert_eq!(
            retry.failed(7 * SECOND, 7 * SECOND, Some(Duration::MAX)),
            Decision::GiveUp
        );
        assert!(retry.asked(8 * SECOND).is_some_and(|until| until <= 70 * SECOND));
    }

    #[test]
    fn the_circuit_opens_probes_and_closes() {
        let mut retry = retry(RetryPolicy::new());
        let mut now = Duration::ZERO;
        for failure in 1..=5 {
            let decision = retry.failed(now, now, None);
            assert_eq!(decision, if failure < 5 { Decision::Again } else { Decision::GiveUp });
            now = retry.waits(now).unwrap_or(now);
        }
        assert!(retry.is_open());
        // Half-open: one probe, and again a wait of half the most at least.
        for _ in 0..20 {
            assert_eq!(retry.waits(now), None);
            assert_eq!(retry.failed(now, now, None), Decision::GiveUp);
            let until = retry.waits(now).expect("an open circuit waits");
            assert!(until - now >= 8 * SECOND && until - now <= 30 * SECOND);
            now = until;
        }
        retry.succeeded();
        assert!(!retry.is_open());
        assert_eq!(retry.waits(now), None);
    }

    #[test]
    fn a_wait_after_a_refusal_is_not_asked_for() {
        let mut retry = retry(RetryPolicy::new().open_after(1));
        retry.failed(SECOND, SECOND, Some(SECOND));
        let now = 60 * SECOND;
        retry.refused(now);
        assert_eq!((retry.waits(now).is_some(), retry.asked(now)), (true, None));
        retry.hurry(now);
        assert_eq!(retry.waits(now), None);
    }

    #[test]
    fn waits_may_be_longer_than_time() {
        let ever = Duration::MAX;
        let mut retry = retry(RetryPolicy::new().initial(ever).most(ever).most_asked(ever));
        retry.failed(SECOND, SECOND, Some(ever));
        assert_eq!(retry.waits(SECOND), Some(ever));
    }

    #[test]
    fn a_payload_is_not_tried_for_longer_than_its_time() {
        let mut retry = retry(RetryPolicy::new());
        assert_eq!(retry.failed(30 * SECOND, Duration::ZERO, None), Decision::GiveUp);
    }

    #[test]
    fn retries_are_paid_for_by_what_is_delivered() {
        let mut retry = retry(RetryPolicy::new().open_after(u32::MAX));
        let again = |retry: &mut Retry| retry.failed(Duration::ZERO, Duration::ZERO, None) == Decision::Again;
        retry.policy.initial = Duration::ZERO;
        assert_eq!((0..100).filter(|_| again(&mut retry)).count(), 10);
        (0..10).for_each(|_| retry.succeeded());
        assert_eq!((0..100).filter(|_| again(&mut retry)).count(), 2);
    }

    #[test]
    fn a_flush_ends_a_wait_that_nobody_asked_for() {
        let mut retry = retry(RetryPolicy::new());
        retry.pause(9 * SECOND);
        assert_eq!(retry.waits(SECOND), Some(9 * SECOND));
        retry.hurry(SECOND);
        assert_eq!(retry.waits(SECOND), None);
    }
}
