//! What an exporter logs: changes of its state, and what servers refuse, each rarely.

use crate::redact;
use std::{collections::HashMap, time::Duration};

/// Writes an exporter's log, through the `log` crate.
pub(crate) struct Journal {
    exporter: String,
    address: String,
    /// What the last message of the log said of the far end.
    state: FarEnd,
    /// When a message of a kind was last written, and how many have been left out since.
    written: HashMap<&'static str, (Option<Duration>, u64)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FarEnd {
    Takes,
    Fails,
    /// Nothing is sent, but for probes.
    Left,
}

/// A kind of message is written this often at most.
const RARELY: Duration = Duration::from_secs(60);

/// So much of what a server says is kept.
const MOST_WORDS: usize = 500;

impl Journal {
    pub(crate) fn new(exporter: &str, address: &str) -> Self {
        let address = match address {
            "" => String::new(),
            address => format!(" to {address}"),
        };
        Journal {
            exporter: exporter.to_owned(),
            address,
            state: FarEnd::Takes,
            written: HashMap::new(),
        }
    }

    /// What somebody else said, fit for a log: no control characters, and not too much of it.
    pub(crate) fn words(said: &str) -> String {
        redact::line(said, MOST_WORDS)
    }

    /// A send has failed; `open` says that only probes are sent from now on.
    pub(crate) fn failed(&mut self, now: Duration, open: bool, message: &str) {
        let (kind, next, what) = match (self.state, open) {
            (FarEnd::Takes, _) => ("fails", FarEnd::Fails, "cannot deliver, and tries again"),
            (FarEnd::Fails, true) => (
                "left",
                FarEnd::Left,
                "still cannot deliver, and only probes from now on",
            ),
            _ => return,
        };
        self.state = next;
        if let Some(omitted) = self.is_rare(kind, now) {
            log::warn!(
                "exporter {:?}{}: {what}: {message}{omitted}",
                self.exporter,
                self.address
            );
        }
    }

    /// The far end has taken something.
    pub(crate) fn succeeded(&mut self) {
        if self.state == FarEnd::Left {
            self.state = FarEnd::Fails;
        }
    }

    /// Nothing waits any more.
    pub(crate) fn all_delivered(&mut self, now: Duration) {
        if self.state == FarEnd::Takes {
            return;
        }
        self.state = FarEnd::Takes;
        if let Some(omitted) = self.is_rare("takes", now) {
            log::info!(
                "exporter {:?}{}: delivers again, and nothing is behind{omitted}",
                self.exporter,
                self.address
            );
        }
    }

    pub(crate) fn rejected(&mut self, now: Duration, points: u64, message: &str) {
        if let Some(omitted) = self.is_rare("rejected", now) {
            log::error!(
                "exporter {:?}{}: {points} points are refused for good: {message}{omitted}",
                self.exporter,
                self.address
            );
        }
    }

    pub(crate) fn warned(&mut self, now: Duration, message: &str) {
        if let Some(omitted) = self.is_rare("warned", now) {
            log::warn!(
                "exporter {:?}{}: the far end warns: {message}{omitted}",
                self.exporter,
                self.address
            );
        }
    }

    pub(crate) fn spool_failed(&mut self, now: Duration, message: &str) {
        if let Some(omitted) = self.is_rare("spool", now) {
            log::error!("exporter {:?}{}: {message}{omitted}", self.exporter, self.address);
        }
    }

    /// Nobody says it again, so what was said before takes nothing from it.
    pub(crate) fn evicted(&mut self, now: Duration, points: u64) {
        if let Some(omitted) = self.is_rare("evicted", now) {
            log::error!(
                "exporter {:?}{}: {points} older points went from the spool, too old or for want of room: let it have more `max_bytes`{omitted}",
                self.exporter,
                self.address
            );
        }
    }

    pub(crate) fn halved(&mut self, now: Duration, points: usize, message: &str) {
        if let Some(omitted) = self.is_rare("halved", now) {
            log::warn!(
                "exporter {:?}{}: sends {points} points at a time, because more are too much: {message}{omitted}",
                self.exporter,
                self.address
            );
        }
    }

    pub(crate) fn panicked(&mut self, now: Duration, what: &'static str) {
        if let Some(omitted) = self.is_rare(what, now) {
            log::error!("exporter {:?}{}: {what} panicked{omitted}", self.exporter, self.address);
        }
    }

    /// Whether a message may be written now, with what is to be said of those that were left out.
    fn is_rare(&mut self, kind: &'static str, now: Duration) -> Option<String> {
        let (last, omitted) = self.written.entry(kind).or_default();
        if last.is_some_and(|last| now.saturating_sub(last) < RARELY) {
            *omitted += 1;
            return None;
        }
        let said = match *omitted {
            0 => String::new(),
            omitted => format!(" ({omitted} more like this since the last)"),
        };
        *last = Some(now);
        *omitted = 0;
        Some(said)
    }
}
