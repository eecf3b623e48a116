//! What a library must be able to do to take part: the two faces it shows to the workloads.

use crate::clock::time_on_core;
use crate::data::{Labels, Lane};
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// One instrument or one family that several threads record into.
///
/// The loop is the library's own code, so that nothing stands between it and the instrument.
pub trait Record: Send + Sync {
    /// Records as often as the lane says.
    fn run(&self, lane: Lane);

    /// Does what the library wants done now and then, outside the measured time.
    fn settle(&self) {}

    /// What the library says it holds.
    fn total(&self) -> Total;
}

/// What an instrument holds, or should; a histogram knows both.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Total {
    /// Number of events.
    pub count: Option<u64>,
    /// Sum of the amounts or values; the last value of a gauge.
    pub sum: Option<f64>,
}

impl Total {
    /// So many events.
    pub fn count(count: u64) -> Self {
        Self {
            count: Some(count),
            sum: None,
        }
    }

    /// This sum, or this last value.
    pub fn sum(sum: f64) -> Self {
        Self {
            count: None,
            sum: Some(sum),
        }
    }

    /// So many events with this sum.
    pub fn both(count: u64, sum: f64) -> Self {
        Self {
            count: Some(count),
            sum: Some(sum),
        }
    }
}

struct Recording<S, R, T> {
    state: S,
    run: R,
    total: T,
}

impl<S, R, T> Record for Recording<S, R, T>
where
    S: Send + Sync,
    R: Fn(&S, Lane) + Send + Sync,
    T: Fn(&S) -> Total + Send + Sync,
{
    fn run(&self, lane: Lane) {
        (self.run)(&self.state, lane);
    }

    fn total(&self) -> Total {
        (self.total)(&self.state)
    }
}

/// A [`Record`] out of its state, its loop and the way to read it.
pub fn recording<S: Send + Sync + 'static>(
    state: S,
    run: impl Fn(&S, Lane) + Send + Sync + 'static,
    total: impl Fn(&S) -> Total + Send + Sync + 'static,
) -> Box<dyn Record> {
    Box::new(Recording { state, run, total })
}

/// One family of counters and one of histograms, three labels each, empty at first.
///
/// The label values count as made at run time: a library that wants to own them gets its own copy.
pub trait Fill: Send + Sync {
    /// Adds to the counter with these label values, looked up by value.
    fn count(&self, labels: Labels, amount: u64);

    /// Observes a value in the histogram with these label values, looked up by value.
    fn observe(&self, labels: Labels, value: f64);
}

/// A registry with these families, as those see it that record and those that scrape.
pub trait Registry: Fill {
    /// Increments the counters with these label values in turn, through held handles where the
    /// library has such, until told to stop; see [`Writer::hammer`].
    fn hammer(&self, labels: &[Labels], writer: &Writer);

    /// Writes everything as text, in place of what the buffer held.
    fn scrape(&self, buffer: &mut Buffer);

    /// Reads everything another way; `false` if the library has no such way.
    fn read(&self, _reading: Reading, _buffer: &mut Buffer) -> bool {
        false
    }
}

/// A thread that records without pause, as seen by the one that watches it.
///
/// On cache lines of its own, so that two of them do not meet here.
#[derive(Default)]
#[repr(align(128))]
pub struct Writer {
    operations: AtomicU64,
    nanoseconds_on_core: AtomicU64,
    stop: AtomicBool,
}

impl Writer {
    /// Increments through held handles, or whatever stands for them, in turn until told to stop.
    #[inline(always)]
    pub fn hammer<H>(&self, handles: &[H], inc: impl Fn(&H)) {
        // A look at the clock costs as much as hundreds of increments.
        const TURNS: usize = 16;
        while !self.stop.load(Ordering::Relaxed) {
            for _ in 0..TURNS {
                for handle in handles {
                    inc(black_box(handle));
                }
            }
            let done = (TURNS * handles.len()) as u64;
            self.operations.fetch_add(done, Ordering::Relaxed);
            let on_core = time_on_core().as_nanos() as u64;
            self.nanoseconds_on_core.store(on_core, Ordering::Relaxed);
        }
    }

    /// Tells the thread to stop.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Increments so far, and the nanoseconds the thread has been on a core.
    pub fn done(&self) -> (u64, u64) {
        (
            self.operations.load(Ordering::Relaxed),
            self.nanoseconds_on_core.load(Ordering::Relaxed),
        )
    }
}

/// A registry with the same families whose metrics are pushed over OTLP, to a far end that takes everything at once.
pub trait Export: Fill {
    /// Collects every series and encodes it as requests; nothing is sent.
    fn export(&mut self);

    /// As [`Export::export`], and gives out the requests. They stand one behind the other, which in protobuf is a
    /// request with the contents of all.
    fn requests(&mut self) -> Vec<u8>;
}

/// A registry with the same families, and an exporter whose far end asks each time to be tried again.
pub trait Outage: Fill {
    /// Starts the exporter, which collects every few milliseconds.
    fn begin(&mut self);

    /// How often it has collected.
    fn collections(&self) -> u64;
}

/// A registry with the same families that is pushed to a StatsD server over UDP by threads of its own, once every
/// [`crate::workload::statsd::INTERVAL`].
pub trait Push: Fill {
    /// How the names of these threads begin.
    fn threads(&self) -> &'static str;
}

/// Ways to read a registry apart from [`Registry::scrape`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The columns of values alone.
    Snapshot,
    /// OpenMetrics text into a reused buffer.
    OpenMetrics,
    /// The reply to a scraper's request, with a body of its own.
    Reply,
}

/// A buffer that outlives a scrape: bytes or text, whichever the library writes into.
#[derive(Default)]
pub struct Buffer {
    /// For those that write bytes.
    pub bytes: Vec<u8>,
    /// For those that write text.
    pub text: String,
}

impl Buffer {
    /// What was written.
    pub fn written(&self) -> &str {
        if self.text.is_empty() {
            std::str::from_utf8(&self.bytes).expect("an exposition is UTF-8")
        } else {
            &self.text
        }
    }
}

/// Makes something to record into.
pub type MakeRecord = fn() -> Box<dyn Record>;

/// Makes an empty registry whose families may hold so many series each.
pub type MakeRegistry = fn(usize) -> Box<dyn Registry>;

/// Makes an empty registry, as [`MakeRegistry`] does, that exports.
pub type MakeExport = fn(usize) -> Box<dyn Export>;

/// Makes an empty registry, as [`MakeRegistry`] does, that cannot get rid of anything.
pub type MakeOutage = fn(usize) -> Box<dyn Outage>;

/// Makes an empty registry, as [`MakeRegistry`] does, that is pushed to a server.
pub type MakePush = fn(usize, SocketAddr) -> Box<dyn Push>;

/// A library, or one way to use it, and what it can be measured at.
pub struct Library {
    /// The crate's name, and the way after a dash where there are two.
    pub name: &'static str,
    /// A counter of whole numbers.
    pub counter_inc: Option<MakeRecord>,
    /// A counter of floating-point amounts.
    pub float_counter_add: Option<MakeRecord>,
    /// A gauge of floating-point values.
    pub gauge_set: Option<MakeRecord>,
    /// A histogram with [`crate::data::BOUNDS`].
    pub histogram_observe: Option<MakeRecord>,
    /// A histogram with exponential or logarithmic buckets of its own choice.
    pub exponential_observe: Option<MakeRecord>,
    /// A histogram with [`crate::data::BOUNDS`] that can keep each value for an exporter, none of which is attached.
    pub distribution_observe: Option<MakeRecord>,
    /// A counter looked up by the values of three labels.
    pub lookup_inc: Option<MakeRecord>,
    /// A registry with many series.
    pub registry: Option<MakeRegistry>,
    /// A registry that exports everything as it stands.
    pub export: Option<MakeExport>,
    /// A registry that exports what each series has counted since the last time.
    pub export_delta: Option<MakeExport>,
    /// A registry that exports to a far end that is down.
    pub outage: Option<MakeOutage>,
    /// A counter of whole numbers whose registry is exported every [`crate::workload::outage::INTERVAL`] to a far end
    /// that hangs in the midst of the first send.
    pub counter_inc_beside_hang: Option<MakeRecord>,
    /// A counter of whole numbers that a StatsD server hears of over UDP.
    pub statsd_counter_inc: Option<MakeRecord>,
    /// A registry that is encoded as packets of StatsD.
    pub statsd_encode: Option<MakeExport>,
    /// A registry that is pushed to a StatsD server.
    pub statsd_push: Option<MakePush>,
}

impl Library {
    /// A library that can do nothing yet.
    pub const fn named(name: &'static str) -> Self {
        Self {
            name,
            counter_inc: None,
            float_counter_add: None,
            gauge_set: None,
            histogram_observe: None,
            exponential_observe: None,
            distribution_observe: None,
            lookup_inc: None,
            registry: None,
            export: None,
            export_delta: None,
            outage: None,
            counter_inc_beside_hang: None,
            statsd_counter_inc: None,
            statsd_encode: None,
            statsd_push: None,
        }
    }
}
