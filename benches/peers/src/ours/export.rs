//! Pushing, as a user can have it: an `Exporter` whose destination encodes what `Otlp` encodes, and has no network.
//!
//! There is no function that only encodes. What is measured is `ExporterHandle::flush`: a collection by one thread, its
//! way to another, requests of 10,000 points at most (the default), the acknowledgement of each, and the way back to the
//! thread that waits. Requests are not compressed, and the exporter's own metrics are left out.

use super::Families;
use crate::data::Labels;
use crate::library::{Export, Fill, Outage, Record, Total, recording};
use crate::workload::outage::INTERVAL;
use std::hint::black_box;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidegauge::{
    Answer, Destination, Exporter, ExporterHandle, FamilySnapshot, Filter, Otlp, Payload, Points, Preferences,
    Temporality, TemporalityPreference,
};

/// Everything as it stands.
pub fn cumulative(series: usize) -> Box<dyn Export> {
    Box::new(Exported::new(series, TemporalityPreference::Cumulative))
}

/// What was counted since the last time.
pub fn delta(series: usize) -> Box<dyn Export> {
    Box::new(Exported::new(series, TemporalityPreference::Delta))
}

/// Everything as it stands, to a far end that takes none of it.
pub fn outage(series: usize) -> Box<dyn Outage> {
    Box::new(Stranded {
        families: Families::new(series),
        exporter: None,
    })
}

/// A counter, while the first send of it does not come back.
pub fn counter_inc_beside_hang() -> Box<dyn Record> {
    let registry = tidegauge::Registry::new();
    let counter = registry
        .counter("jobs_total", "Jobs run.")
        .register()
        .expect("the name is valid and free");
    let (hanging, hangs) = channel();
    let (release, released) = channel();
    let exporter = Exporter::new(Far {
        otlp: otlp(TemporalityPreference::Cumulative),
        end: Hangs { hanging, released },
    })
    .interval(INTERVAL)
    .start(&registry)
    .expect("the settings are valid");
    hangs.recv().expect("the first collection is sent");
    recording(
        // The far end answers when its channel goes; so that goes before the exporter, which waits for it.
        (counter, Mutex::new(release), exporter),
        |(counter, ..), lane| lane.repeat(|| black_box(counter).inc()),
        |(counter, _, exporter)| {
            let done = exporter.stats();
            assert_eq!(done.delivered_points, 0, "the send has come back");
            assert!(done.collections > 1, "nothing was collected beside the send");
            Total::count(counter.get())
        },
    )
}

/// A registry that is collected and encoded when it is told to, by an exporter whose destination keeps what it is asked for.
pub(super) struct Exported {
    pub(super) families: Families,
    pub(super) exporter: ExporterHandle,
    pub(super) kept: Arc<Mutex<Option<Vec<u8>>>>,
}

impl Exported {
    fn new(series: usize, temporality: TemporalityPreference) -> Self {
        // Longer than the benchmark runs: it collects when it is told to.
        const NEVER: Duration = Duration::from_secs(86_400);
        let families = Families::new(series);
        let kept = Arc::default();
        let exporter = Exporter::new(Far {
            otlp: otlp(temporality),
            end: Takes(Arc::clone(&kept)),
        })
        .interval(NEVER)
        .phase(false)
        .filter(own_metrics_left_out())
        .start(&families.registry)
        .expect("the settings are valid");
        Self {
            families,
            exporter,
            kept,
        }
    }
}

impl Fill for Exported {
    fn count(&self, labels: Labels, amount: u64) {
        self.families.count(labels, amount);
    }

    fn observe(&self, labels: Labels, value: f64) {
        self.families.observe(labels, value);
    }
}

impl Export for Exported {
    fn export(&mut self) {
        const LONG_ENOUGH: Duration = Duration::from_secs(60);
        self.exporter
            .flush(LONG_ENOUGH)
            .expect("the far end takes everything at once");
    }

    fn requests(&mut self) -> Vec<u8> {
        let kept = Arc::clone(&self.kept);
        let lock = || kept.lock().expect("nobody panics while holding it");
        *lock() = Some(Vec::new());
        self.export();
        lock().take().expect("it was put there")
    }
}

struct Stranded {
    families: Families,
    exporter: Option<ExporterHandle>,
}

impl Fill for Stranded {
    fn count(&self, labels: Labels, amount: u64) {
        self.families.count(labels, amount);
    }

    fn observe(&self, labels: Labels, value: f64) {
        self.families.observe(labels, value);
    }
}

impl Outage for Stranded {
    /// The bounds of the queue are the defaults, and so are the waits: they last longer than many collections, so that
    /// the queue fills up. One that gave up as fast as it collects would keep it empty.
    fn begin(&mut self) {
        let exporter = Exporter::new(Far {
            otlp: otlp(TemporalityPreference::Cumulative),
            end: Down,
        })
        .interval(INTERVAL)
        .drop_deadline(Duration::ZERO)
        .start(&self.families.registry)
        .expect("the settings are valid");
        self.exporter = Some(exporter);
    }

    fn collections(&self) -> u64 {
        self.exporter
            .as_ref()
            .map_or(0, |exporter| exporter.stats().collections)
    }
}

/// What answers in place of a collector.
trait End: Send + 'static {
    fn answer(&mut self, payload: &Payload) -> Answer;
}

/// Takes everything, and keeps it if there is something to keep it in.
struct Takes(Arc<Mutex<Option<Vec<u8>>>>);

impl End for Takes {
    fn answer(&mut self, payload: &Payload) -> Answer {
        if let Some(kept) = &mut *self.0.lock().expect("nobody panics while holding it") {
            kept.extend_from_slice(payload.bytes());
        }
        Answer::delivered()
    }
}

/// Takes nothing.
struct Down;

impl End for Down {
    fn answer(&mut self, _payload: &Payload) -> Answer {
        Answer::retry("it is down")
    }
}

/// Says that it has begun, and does not answer until it is released.
struct Hangs {
    hanging: Sender<()>,
    released: Receiver<()>,
}

impl End for Hangs {
    fn answer(&mut self, _payload: &Payload) -> Answer {
        // Nobody listens any more after the first time, and nobody is told anything but by the end of the other side.
        let _ = self.hanging.send(());
        let _ = self.released.recv();
        Answer::delivered()
    }
}

/// Does as `Otlp` does, up to the network.
struct Far<E> {
    otlp: Otlp,
    end: E,
}

impl<E: End> Destination for Far<E> {
    fn name(&self) -> &str {
        self.otlp.name()
    }

    fn preferences(&self) -> Preferences {
        self.otlp.preferences()
    }

    fn temporality(&self, family: &FamilySnapshot) -> Temporality {
        self.otlp.temporality(family)
    }

    fn encode(&mut self, points: &mut Points<'_>, payload: &mut Vec<u8>) {
        self.otlp.encode(points, payload);
    }

    fn send(&mut self, payload: &Payload, _timeout: Duration) -> Answer {
        self.end.answer(payload)
    }
}

fn otlp(temporality: TemporalityPreference) -> Otlp {
    Otlp::builder()
        .temporality(temporality)
        .build()
        .expect("the settings are valid")
}

fn own_metrics_left_out() -> Filter {
    Filter::new().families(|family| !family.name().starts_with("tidegauge_"))
}
