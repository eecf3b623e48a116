//! When to collect: once an interval, at a phase of the process's own, and never twice to catch up.

use super::random::Random;
use std::time::Duration;

/// The times of an exporter's collections, by a monotonic clock.
#[derive(Debug)]
pub(crate) struct Schedule {
    interval: Duration,
    /// How far a collection may be from its place, as a part of the interval.
    jitter: f64,
    /// The place of the next collection, without its jitter.
    place: Duration,
    next: Duration,
    random: Random,
}

/// As good as never; longer ones would not fit into the times that are computed with.
const MOST_INTERVAL: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

impl Schedule {
    /// Begins now. With `phase`, the first collection is at a random place within the first interval; else at its end.
    pub(crate) fn new(interval: Duration, phase: bool, jitter: f64, now: Duration, mut random: Random) -> Self {
        let interval = interval.min(MOST_INTERVAL);
        let first = match phase {
            true => interval.mul_f64(random.fraction()),
            false => interval,
        };
        let mut schedule = Schedule {
            interval,
            jitter,
            place: now + first,
            next: now,
            random,
        };
        schedule.next = schedule.place + schedule.shift();
        schedule
    }

    /// When the next collection is due.
    pub(crate) fn next(&self) -> Duration {
        self.next
    }

    /// Goes on to the first place after `now`, and says whether places were missed: then the process stood still.
    pub(crate) fn advance(&mut self, now: Duration) -> bool {
        let late = now.saturating_sub(self.place);
        // A wait that ends a little late is still in its own interval.
        let missed = late >= self.interval + self.most_jitter();
        let into = late.as_nanos() % self.interval.as_nanos().max(1);
        // Less than an interval, which is less than what 64 bits hold of nanoseconds.
        self.place += late - Duration::from_nanos(into as u64) + self.interval;
        self.next = self.place + self.shift();
        missed
    }

    fn most_jitter(&self) -> Duration {
        self.interval.mul_f64(self.jitter)
    }

    /// After the place, never before it, so that places stay at least one interval less the jitter apart.
    fn shift(&mut self) -> Duration {
        self.interval.mul_f64(self.jitter * self.random.fraction())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn collections_keep_their_places_however_late_each_is() {
        let mut schedule = Schedule::new(10 * SECOND, true, 0.1, SECOND, Random::new(1));
        let first = schedule.place;
        assert!((SECOND..11 * SECOND).contains(&first));
        for turn in 0..1000 {
            assert_eq!(schedule.place, first + 10 * SECOND * turn);
            assert!((schedule.place..=schedule.place + SECOND).contains(&schedule.next()));
            let now = schedule.next() + SECOND / 10;
            assert!(!schedule.advance(now), "turn {turn}");
        }
    }

    #[test]
    fn a_process_that_stood_still_collects_once() {
        let mut schedule = Schedule::new(10 * SECOND, false, 0.0, Duration::ZERO, Random::new(1));
        assert_eq!(schedule.next(), 10 * SECOND);
        assert!(schedule.advance(3615 * SECOND));
        assert_eq!(schedule.next(), 3620 * SECOND);
        assert!(!schedule.advance(3620 * SECOND));
    }

    #[test]
    fn what_is_very_short_does_not_catch_up_and_what_is_endless_never_comes() {
        let interval = Duration::from_nanos(3);
        let mut schedule = Schedule::new(interval, false, 0.0, Duration::ZERO, Random::new(1));
        let now = 5000 * SECOND;
        assert!(schedule.advance(now));
        assert!(schedule.next() > now && schedule.next() <= now + interval);
        for jitter in [0.0, 1.0] {
            let mut schedule = Schedule::new(Duration::MAX, false, jitter, SECOND, Random::new(1));
            assert!(schedule.next() > MOST_INTERVAL);
            schedule.advance(schedule.next());
        }
    }

    #[test]
    fn processes_that_start_together_spread_evenly() {
        let mut tenths = [0; 10];
        for process in 0..10_000 {
            let mut seeds = Random::new(process);
            let schedule = Schedule::new(10 * SECOND, true, 0.1, Duration::ZERO, Random::new(seeds.next()));
            tenths[(schedule.place.as_secs_f64()) as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (850..1150).contains(count)), "{tenths:?}");
    }

    #[test]
    fn without_phase_and_jitter_it_is_a_metronome() {
        let mut schedule = Schedule::new(10 * SECOND, false, 0.0, Duration::ZERO, Random::new(7));
        for turn in 1..100 {
            assert_eq!(schedule.next(), 10 * SECOND * turn);
            schedule.advance(schedule.next());
        }
    }
}
