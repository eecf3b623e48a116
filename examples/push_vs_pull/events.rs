//! What is recorded, alike on all three ways: orders of a shop, half of them counted and half of them timed.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Something that happened in a region.
pub struct Event {
    pub region: &'static str,
    pub what: What,
}

pub enum What {
    /// An order was taken.
    Order,
    /// One was worked off, in so many seconds.
    Done(f64),
}

/// How many events there are, and in which time.
#[derive(Clone, Copy)]
pub struct Load {
    pub events: u32,
    pub over: Duration,
    /// From one push to the next, and from one scrape to the next.
    pub interval: Duration,
}

/// How the events come: so many times some at once.
pub const BURSTS: u32 = 100;

const REGIONS: [&str; 4] = ["africa", "asia", "europe", "oceania"];

impl Load {
    /// Records all events, and gives how long the recording thread was at it; the time between the bursts is not in it.
    pub fn record(&self, mut record: impl FnMut(Event)) -> Duration {
        let start = Instant::now();
        let mut busy = Duration::ZERO;
        for burst in 0..BURSTS {
            let due = self.over * burst / BURSTS;
            thread::sleep(due.saturating_sub(start.elapsed()));
            let began = Instant::now();
            for number in self.until(burst)..self.until(burst + 1) {
                record(event(number));
            }
            busy += began.elapsed();
        }
        busy
    }

    /// How many events there are before a burst.
    fn until(&self, burst: u32) -> u32 {
        (u64::from(self.events) * u64::from(burst) / u64::from(BURSTS)) as u32
    }
}

/// The event of a number. Durations are from 0 to 1.6 s, all alike in number.
fn event(number: u32) -> Event {
    let what = match number % 2 {
        0 => What::Order,
        _ => What::Done(f64::from(number.wrapping_mul(0x9E37_79B1) >> 16) / 40_960.0),
    };
    Event {
        region: REGIONS[number as usize / 2 % REGIONS.len()],
        what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_comes_once_and_half_of_them_are_counted() {
        for events in [0, 1, 99, 12_345] {
            let load = Load {
                events,
                over: Duration::ZERO,
                interval: Duration::ZERO,
            };
            let (mut orders, mut done) = (0, 0);
            load.record(|event| match event.what {
                What::Order => orders += 1,
                What::Done(seconds) => {
                    assert!((0.0..1.6).contains(&seconds), "{seconds}");
                    done += 1;
                }
            });
            assert_eq!((orders, done), (events.div_ceil(2), events / 2));
        }
    }
}
