//! How many events are due: by the clock since the start, so that what was late is caught up and nothing drifts.

use crate::arguments::Arguments;
use std::time::Duration;

/// The pace of one thread. All events are numbered, and the threads have them by turns.
pub struct Pace {
    thread: u64,
    threads: u64,
    rate: Option<f64>,
    seconds: f64,
    done: u64,
}

#[derive(Debug, PartialEq)]
pub enum Next {
    Record(u64),
    Wait(Duration),
}

/// What is recorded in one go, before anybody looks at the clock.
const BATCH: u64 = 256;

/// How long a thread that is behind may go on after the end, so that the number of events is what it should be.
const GRACE: f64 = 1.0;

/// Shorter waits are not kept anyway.
const SHORTEST_WAIT: f64 = 0.001;

impl Pace {
    pub fn new(thread: u32, arguments: &Arguments) -> Self {
        Pace {
            thread: thread.into(),
            threads: arguments.threads.into(),
            rate: arguments.rate,
            seconds: arguments.seconds,
            done: 0,
        }
    }

    /// What is next, so many seconds after the start; nothing at the end.
    pub fn next(&mut self, elapsed: f64) -> Option<Next> {
        let Some(rate) = self.rate else {
            return (elapsed < self.seconds).then_some(Next::Record(BATCH));
        };
        let due = self.own((elapsed.min(self.seconds) * rate) as u64) - self.done;
        if due > 0 && elapsed < self.seconds + GRACE {
            let events = due.min(BATCH);
            self.done += events;
            return Some(Next::Record(events));
        }
        if elapsed >= self.seconds {
            return None;
        }
        let next = (self.done * self.threads + self.thread + 1) as f64 / rate;
        let wait = next.min(self.seconds) - elapsed;
        Some(Next::Wait(Duration::from_secs_f64(wait.max(SHORTEST_WAIT))))
    }

    /// How many of the first so many events are this thread's.
    fn own(&self, events: u64) -> u64 {
        (events + self.threads - 1 - self.thread) / self.threads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(thread: u32, line: &str) -> Pace {
        let arguments = Arguments::parse(line.split(' ').map(str::to_owned));
        Pace::new(
            thread,
            &arguments.expect("they are right").expect("no help is asked for"),
        )
    }

    /// How many events there are if waits take as long as they say, and each look at the clock `late` seconds longer.
    fn run(mut pace: Pace, late: f64) -> u64 {
        let mut now = 0.0;
        let mut events = 0;
        while let Some(next) = pace.next(now) {
            now += late;
            match next {
                Next::Record(due) => events += due,
                Next::Wait(time) => now += time.as_secs_f64(),
            }
        }
        events
    }

    #[test]
    fn all_threads_together_have_as_many_events_as_asked_for_however_late_they_are() {
        for late in [0.0, 0.0001, 0.003, 0.7] {
            let own = |thread| run(pace(thread, "--threads 3 --seconds 2 --rate 500"), late);
            assert_eq!((0..3).map(own).sum::<u64>(), 1000, "{late}");
        }
    }

    #[test]
    fn a_pace_that_cannot_be_kept_ends_all_the_same() {
        let events = run(pace(0, "--threads 1 --seconds 2 --rate 1000000"), 0.001);
        assert!(events < 1_000_000, "{events}");
    }

    #[test]
    fn slow_paces_wait_for_their_time() {
        let mut slow = pace(1, "--threads 2 --seconds 60 --rate 0.1");
        assert_eq!(slow.next(0.0), Some(Next::Wait(Duration::from_secs(20))));
        assert_eq!(slow.next(20.0), Some(Next::Record(1)));
        assert_eq!(slow.next(20.0), Some(Next::Wait(Duration::from_secs(20))));
    }

    #[test]
    fn without_a_rate_there_is_always_more_until_the_end() {
        let mut pace = pace(0, "--seconds 1");
        assert_eq!(pace.next(0.5), Some(Next::Record(BATCH)));
        assert_eq!(pace.next(1.0), None);
    }
}
