//! How far apart payloads are sent, where the far end does not say when it has had enough.
//!
//! A datagram that a receive buffer has no room for is lost, and nobody says so. So the payloads of one collection are spread over
//! a part of the interval: as evenly as the time allows, but never so far apart that a few of them take long. While somebody waits
//! for a flush they follow each other faster, though not at once.

use std::time::Duration;

/// The gaps between an exporter's payloads: pure decisions from times to waits.
#[derive(Debug)]
pub(crate) struct Pace {
    /// What the payloads of one collection are spread over; none where they are sent at once.
    spread: Option<Duration>,
    /// When the collection was begun.
    began: Duration,
    sent: u32,
    /// Where the next payload has its place.
    due: Duration,
}

/// Few payloads are not spread further apart than this.
const LONGEST_GAP: Duration = Duration::from_millis(10);
/// While somebody waits: two thousand payloads a second. A daemon that parses 25 lines in each has some microseconds for a line.
const FLUSH_GAP: Duration = Duration::from_micros(500);
/// What is late is sent this many times as fast as what is in time, at most.
const MOST_HURRY: u32 = 2;
/// A shorter wait costs more than it spreads: the payloads before it are sent at once.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

impl Pace {
    pub(crate) fn new(spread: Option<Duration>) -> Self {
        Pace {
            spread: spread.filter(|spread| !spread.is_zero()),
            began: Duration::ZERO,
            sent: 0,
            due: Duration::ZERO,
        }
    }

    /// A collection is begun.
    pub(crate) fn begin(&mut self, now: Duration) {
        (self.began, self.sent) = (now, 0);
    }

    /// A payload was sent, and with it `done` of the collection, from 0 to 1. Until when the next one is to wait, if at all;
    /// `flush` is the moment at which somebody stops waiting.
    pub(crate) fn sent(&mut self, now: Duration, done: f64, flush: Option<Duration>) -> Option<Duration> {
        let spread = self.spread?;
        self.sent = self.sent.saturating_add(1);
        // As many as it was for what is done, in proportion.
        let all = f64::from(self.sent) / done.max(1e-9);
        let evenly = |time: Duration, payloads: f64| time.div_f64(payloads.clamp(1.0, 1e9));
        let left = all * (1.0 - done);
        let gap = match flush {
            // Half of what is left, each time anew: so the last payload is sent before nothing is.
            Some(deadline) => evenly(deadline.saturating_sub(now) / 2, left).min(FLUSH_GAP),
            // Who has had no time to send is late: that is made up for, but not by a burst.
            None => evenly((self.began + spread).saturating_sub(now), left)
                .max(evenly(spread, all) / MOST_HURRY)
                .min(LONGEST_GAP),
        };
        self.due = self.due.max(now) + gap;
        (done < 1.0 && self.due >= now + SHORTEST_WAIT).then_some(self.due)
    }

    /// A payload was sent that is of no collection, one of perhaps many. Until when the next one is to wait, if at all.
    pub(crate) fn sent_alone(&mut self, now: Duration, is_flushing: bool) -> Option<Duration> {
        self.spread?;
        let gap = if is_flushing { FLUSH_GAP } else { LONGEST_GAP };
        self.due = self.due.max(now) + gap;
        (self.due >= now + SHORTEST_WAIT).then_some(self.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Sends so many payloads, and returns when each was sent.
    fn run(pace: &mut Pace, payloads: u32, flush: Option<Duration>) -> Vec<Duration> {
        let mut now = Duration::from_secs(100);
        pace.begin(now);
        let mut times = Vec::new();
        for sent in 1..=payloads {
            times.push(now);
            let done = f64::from(sent) / f64::from(payloads);
            now = pace.sent(now, done, flush).unwrap_or(now);
        }
        times
    }

    fn took(times: &[Duration]) -> Duration {
        times[times.len() - 1] - times[0]
    }

    #[test]
    fn many_payloads_are_spread_evenly_over_all_of_the_time() {
        let spread = 5000 * MS;
        let times = run(&mut Pace::new(Some(spread)), 20_000, None);
        assert!(
            took(&times) <= spread && took(&times) > spread.mul_f64(0.95),
            "{:?}",
            took(&times)
        );
        for window in times.chunks(2000) {
            let took = took(window);
            assert!((450 * MS..550 * MS).contains(&took), "a tenth took {took:?}");
        }
        let most = times.chunk_by(|a, b| a == b).map(<[_]>::len).max();
        assert!(most <= Some(6), "{most:?} at once");
    }

    #[test]
    fn few_payloads_follow_each_other_closely() {
        let times = run(&mut Pace::new(Some(5000 * MS)), 4, None);
        assert_eq!(took(&times), 3 * LONGEST_GAP);
    }

    #[test]
    fn a_flush_is_faster_and_ends_before_its_deadline() {
        let now = Duration::from_secs(100);
        let mut pace = Pace::new(Some(5000 * MS));
        let leisurely = took(&run(&mut pace, 1000, Some(now + 60_000 * MS)));
        assert!((450 * MS..=500 * MS).contains(&leisurely), "{leisurely:?}");
        let mut pace = Pace::new(Some(5000 * MS));
        let pressed = took(&run(&mut pace, 1000, Some(now + 100 * MS)));
        assert!(pressed < 98 * MS, "{pressed:?}");
        let over = took(&run(&mut Pace::new(Some(5000 * MS)), 1000, Some(now)));
        assert_eq!(over, Duration::ZERO);
    }

    #[test]
    fn without_a_spread_nothing_waits() {
        assert_eq!(took(&run(&mut Pace::new(None), 1000, None)), Duration::ZERO);
        assert_eq!(
            took(&run(&mut Pace::new(Some(Duration::ZERO)), 1000, None)),
            Duration::ZERO
        );
    }

    #[test]
    fn what_is_late_is_not_made_up_for_by_a_burst() {
        let mut pace = Pace::new(Some(1000 * MS));
        let start = Duration::from_secs(100);
        pace.begin(start);
        // The first half took nearly all of the time.
        for sent in 1..=50 {
            pace.sent(start + 900 * MS, f64::from(sent) / 100.0, None);
        }
        let mut now = start + 900 * MS;
        for sent in 51..100 {
            now = pace.sent(now, f64::from(sent) / 100.0, None).unwrap_or(now);
        }
        assert!(now > start + 980 * MS, "{:?}", now - start);
    }

    /// On a machine with other work to do, the sender may get no time to send.
    #[test]
    fn nor_is_what_is_so_late_that_no_time_is_left() {
        const PAYLOADS: u32 = 20_000;
        let mut pace = Pace::new(Some(5000 * MS));
        let start = Duration::from_secs(100);
        pace.begin(start);
        let mut now = start + 6000 * MS;
        let mut times = vec![now];
        for sent in 1..PAYLOADS {
            let done = f64::from(sent) / f64::from(PAYLOADS);
            now = pace.sent(now, done, None).unwrap_or(now);
            times.push(now);
        }
        // Twice as fast as if it had been in time.
        let took = took(&times);
        assert!((2400 * MS..=2500 * MS).contains(&took), "{took:?}");
        let most = times.chunk_by(|a, b| a == b).map(<[_]>::len).max();
        assert!(most <= Some(10), "{most:?} at once");
    }
}
