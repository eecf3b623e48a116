//! How long a send waits: until its timeout is over, or until an exporter that ends has no time for it any more.
//!
//! Nothing can be woken from all the waits there are, for addresses, connections, room and answers. So whoever waits does it in
//! slices, and asks between them.

use crate::destination::Overdue;
use std::{
    fmt, io,
    time::{Duration, Instant},
};

/// The patience of one send.
#[derive(Clone, Debug)]
pub(crate) struct Patience {
    end: Instant,
    overdue: Option<Overdue>,
}

/// Why it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeOver {
    Timeout,
    ExporterEnds,
}

impl Patience {
    /// From now on; a day at most.
    pub(crate) fn new(timeout: Duration, overdue: Option<&Overdue>) -> Patience {
        Patience {
            end: Instant::now() + timeout.min(LONGEST),
            overdue: overdue.cloned(),
        }
    }

    /// An equal part of what is left, for one of so many attempts.
    pub(crate) fn part(&self, attempts: usize) -> Patience {
        let attempts = u32::try_from(attempts.max(1)).unwrap_or(u32::MAX);
        Patience {
            end: Instant::now() + self.left() / attempts,
            overdue: self.overdue.clone(),
        }
    }

    /// The same, but for no longer than this.
    #[cfg(feature = "statsd")]
    pub(crate) fn at_most(mut self, timeout: Duration) -> Patience {
        self.end = self.end.min(Instant::now() + timeout);
        self
    }

    /// How long to wait before asking again: never zero.
    pub(crate) fn slice(&self) -> Result<Duration, TimeOver> {
        let left = self.left();
        if left.is_zero() {
            return Err(TimeOver::Timeout);
        }
        let Some(overdue) = &self.overdue else {
            return Ok(left);
        };
        match overdue.left() {
            Some(Duration::ZERO) => Err(TimeOver::ExporterEnds),
            of_exporter => Ok(left.min(of_exporter.unwrap_or(SLICE)).min(SLICE)),
        }
    }

    /// The time that is left of the timeout.
    pub(crate) fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }
}

impl From<Duration> for Patience {
    fn from(timeout: Duration) -> Patience {
        Patience::new(timeout, None)
    }
}

impl fmt::Display for TimeOver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            TimeOver::Timeout => "the time for it is over",
            TimeOver::ExporterEnds => "the exporter ends, and does not wait any longer",
        })
    }
}

impl std::error::Error for TimeOver {}

impl From<TimeOver> for io::Error {
    fn from(over: TimeOver) -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, over)
    }
}

/// Short enough for what an exporter's end leaves a send of even a tenth of a second, and few enough to cost nothing.
const SLICE: Duration = Duration::from_millis(50);

/// Instants far in the future can't be told.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn without_an_exporter_it_is_one_wait() {
        let patience = Patience::from(HOUR);
        assert!(patience.slice().unwrap() > HOUR / 2);
        assert!(patience.part(4).slice().unwrap() <= HOUR / 4);
        assert!(Patience::from(Duration::MAX).slice().unwrap() <= LONGEST);
        assert_eq!(Patience::from(Duration::ZERO).slice(), Err(TimeOver::Timeout));
    }

    #[test]
    fn an_exporter_is_asked_and_ends_it() {
        for (left, slice) in [
            (None, Ok(SLICE)),
            (Some(HOUR), Ok(SLICE)),
            (Some(SLICE / 2), Ok(SLICE / 2)),
            (Some(Duration::ZERO), Err(TimeOver::ExporterEnds)),
        ] {
            let overdue = Overdue::new(move || left);
            let patience = Patience::new(HOUR, Some(&overdue));
            assert_eq!(patience.slice(), slice, "{left:?}");
            assert_eq!(patience.part(2).slice(), slice, "{left:?}");
        }
    }
}
